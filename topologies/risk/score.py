"""How risky an agent is, from its effective denials: state, the fold of one record, the rows to write. Pure.

Rule of this file: a row depends on nothing but the folded log and the time it is asked for, so two processes, or one
before and after a restart, write the same. The score is 0 … 1: each denial adds 1 / `denials_full`, and it halves every
half-life. An agent is not blamed for what it cannot help (slow workers, stale facts), nor for being denied *because* it
is risky: else one that merely goes on working would never recover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from harness_stream.client.head import Head, place_of
from harness_stream.core import limits
from harness_stream.core.reasons import Deny
from harness_stream.core.scalars import Identifier
from harness_stream.core.tables import RiskRow
from harness_stream.errors import ProtocolError
from harness_stream.wire.decisions import answers_of_any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.fold import Place
    from harness_stream.ports import LogRecord, Verifier

# Rows show the score in these steps, rounded up: a rising agent costs ≤ 20 rows, a falling one as many.
STEPS: Final = 20
# Below half a step the agent is calm again and forgotten; this bounds the state by the agents denied lately.
FLOOR: Final = 0.5 / STEPS
# After ten half-lives a denial weighs 1/1024 of what it did, a fiftieth of a step: a rebuild looks no further back.
HALF_LIVES_KEPT: Final = 10
# An unchanged row is written again after this: one that somebody overwrote, or a slow former owner wrote late, heals.
REFRESH_MS: Final = 30_000
# The newest reasons help a person; the chain has them all.
REASONS_KEPT: Final = 3
# Float noise: 0.15 * 20 is 3.0000000000000004 on some paths and must stay three steps.
_NOISE: Final = 1e-9

# A name that no row could carry must not end the process: the log's contents are not ours.
_AGENT: Final = TypeAdapter[str](Identifier)

LEVELS: Final = ((0.8, "high"), (0.4, "medium"), (0.0, "low"))
"""From which score on, and its word."""

NOT_BLAMED: Final = frozenset(
    {
        Deny.UNKNOWN_AGENT,  # no identity row: nobody to watch, and anyone could fill the table with names
        Deny.LATE,  # the workers lag
        Deny.OVERLOAD,  # the workers are too few
        Deny.RATE,  # of a lane: it hits whoever asks, and mostly is somebody else's doing
        Deny.CLOCK,
        Deny.STALE_FACTS,
        Deny.FACTS_BEHIND,
        Deny.RULE_ERROR,  # the rule's author
        Deny.QUARANTINED,
        Deny.HOLD_EXPIRED,  # the approvers
    }
)
"""Denials by the engine that say nothing about the agent."""


@dataclass(frozen=True, slots=True)
class Decay:
    """How denials count.

    Attributes:
        half_life_ms: after this a denial counts half.
        denials_full: so many denials at once are score 1.
        ignored_rules: ids of the rules that deny by this very score.
    """

    half_life_ms: int
    denials_full: int
    ignored_rules: frozenset[str] = frozenset()

    @property
    def history_ms(self) -> int:
        """How far back a rebuild must look."""
        return HALF_LIVES_KEPT * self.half_life_ms


class Score(NamedTuple):
    """One agent's risk.

    Attributes:
        value: 0 … 1 at `t`.
        t: chain time of its newest denial, epoch ms.
        reasons: newest last.
    """

    value: float
    t: int
    reasons: tuple[str, ...] = ()

    def at(self, now_ms: int, decay: Decay) -> float:
        """The value at `now_ms`; time never steps back."""
        return self.value * math.exp2(-max(0, now_ms - self.t) / decay.half_life_ms)

    def denied(self, t: int, reasons: tuple[str, ...], decay: Decay) -> Score:
        """After one more denial at chain time `t`, which may not lie before the last one."""
        value = min(1.0, self.at(t, decay) + 1 / decay.denials_full)
        kept = (*(r for r in self.reasons if r not in reasons), *reasons)[-REASONS_KEPT:]
        return Score(value, max(t, self.t), kept)

    def calm_at(self, decay: Decay) -> int:
        """When it falls to the floor, epoch ms."""
        return self.t + math.ceil(decay.half_life_ms * math.log2(max(self.value, FLOOR) / FLOOR))


class Denial(NamedTuple):
    """A verdict that counts against its agent."""

    agent_id: str
    t: int
    reasons: tuple[str, ...]


def denial_of(body: Mapping[str, Any], decay: Decay) -> Denial | None:
    """The denial that an answer is; None if it is none, or one that the agent is not blamed for."""
    if body.get("kind") != "verdict" or body.get("decision") != "deny":
        return None
    agent_id, t, found = body.get("agent_id"), body.get("t"), body.get("reasons")
    if type(t) is not int or not isinstance(found, list) or not _is_agent(agent_id):
        return None
    blamed = tuple(text for reason in found if isinstance(reason, dict) and (text := _blame(reason, decay)))
    return Denial(str(agent_id), t, blamed[:REASONS_KEPT]) if blamed else None


def _blame(reason: Mapping[str, Any], decay: Decay) -> str:
    """What a person reads in the row; empty if the agent is not to blame."""
    if reason.get("code") == "rule":
        rule = str(reason.get("rule"))
        text = "" if rule in decay.ignored_rules else f"denied by rule {rule}"
    else:
        text = "" if reason.get("code") in NOT_BLAMED else f"denied: {reason.get('code')}"
    return "".join(char for char in text if char.isprintable())[: limits.REASON_CHARS_MAX]


def _is_agent(name: object) -> bool:
    try:
        _AGENT.validate_python(name)
    except ValidationError:
        return False
    return True


class Written(NamedTuple):
    """The row last written for an agent: its step, and when."""

    step: int
    at_ms: int


class PartitionRisk:
    """Scores of the agents of one partition.

    Args:
        place: where to start folding from.
        verifier: says which records are authentic.
        decay: how denials count.
    """

    def __init__(self, place: Place, verifier: Verifier, decay: Decay) -> None:
        self._head = Head(place, verifier)
        self._verifier, self._decay = verifier, decay
        self._scores: dict[str, Score] = {}
        self._written: dict[str, Written] = {}

    @property
    def next_offset(self) -> int:
        """The decision-log offset to read from; records before it are folded and would be void."""
        return self._head.place.offset + 1

    def take(self, record: LogRecord) -> None:
        """Fold one record of the decision log.

        Raises:
            ProtocolError: an authentic checkpoint knows effective records that this fold never saw (retention overtook
                it): start anew from a later place.
        """
        effective = self._head.take(record)
        if effective is None:
            self._compare(record)
            return
        for answer in answers_of_any(effective.body):
            denial = denial_of(answer, self._decay)
            if denial is not None:
                before = self._scores.get(denial.agent_id, Score(0.0, denial.t))
                self._scores[denial.agent_id] = before.denied(denial.t, denial.reasons, self._decay)

    def rows(self, now_ms: int) -> list[tuple[str, RiskRow | None]]:
        """Key and row for every agent whose row is due; None deletes it: the agent is calm again."""
        return [row for agent_id in list(self._scores) for row in self._due(agent_id, now_ms)]

    def _due(self, agent_id: str, now_ms: int) -> list[tuple[str, RiskRow | None]]:
        score, before = self._scores[agent_id], self._written.get(agent_id)
        value = score.at(now_ms, self._decay)
        if value <= FLOOR:
            del self._scores[agent_id]
            written = self._written.pop(agent_id, None)
            return [] if written is None else [(_subject(agent_id), None)]
        step = math.ceil(value * STEPS - _NOISE)
        if before is not None and before.step == step and now_ms - before.at_ms < REFRESH_MS:
            return []
        self._written[agent_id] = Written(step, now_ms)
        return [(_subject(agent_id), _row(agent_id, step / STEPS, score, self._decay))]

    def _compare(self, record: LogRecord) -> None:
        header = self._head.place.header
        stated = place_of(record, header.incarnation, header.partition, self._verifier)
        if stated is not None and stated.offset > self._head.place.offset:
            raise ProtocolError(
                f"partition {header.partition}: the checkpoint at {record.offset} stands at {stated.offset}, "
                f"this fold only at {self._head.place.offset}",
                hint="start the topology again: it begins at a later checkpoint",
            )


def _subject(agent_id: str) -> str:
    return f"agent:{agent_id}"


def _row(agent_id: str, shown: float, score: Score, decay: Decay) -> RiskRow:
    level = next(word for least, word in LEVELS if shown >= least)
    # Valid until it would be calm: should this process die, a risky agent stays risky that long and no longer.
    return RiskRow(
        subject=_subject(agent_id),
        score=shown,
        level=level,
        reasons=score.reasons,
        valid_until=score.calm_at(decay),
    )
