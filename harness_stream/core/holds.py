"""Which holds wait for a person, which were answered, and how: a fold of the decision log for people (PROTOCOL §8).

Rule of this file: it is told effective records only, in order, and keeps what they say; whether an answer counts was
the worker's to decide. A hold that nobody answered ends by chain time, without a record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

Body = Mapping[str, Any]


class Hold(NamedTuple):
    """An intent that waits, or waited, for a person.

    Attributes:
        offset: of its record in the decision log.
        digest: of that record; an approval names it.
        append_ms: when it was written, broker's time.
        body: the whole record.
    """

    offset: int
    digest: str
    append_ms: int
    body: Body

    @property
    def agent_id(self) -> str:
        """Who wants to act."""
        return str(self.body["agent_id"])

    @property
    def intent_id(self) -> str:
        """What it wants, by id."""
        return str(self.body["intent_id"])

    @property
    def asked_at(self) -> int:
        """Chain time at which it was asked, epoch ms."""
        return int(self.body["t"])

    @property
    def until(self) -> int:
        """Last chain time at which an answer counts, epoch ms."""
        return int(self.body["hold_until"])

    @property
    def event(self) -> Body:
        """The compact event that history keeps of it: lane, chain, labels, resources."""
        return dict(self.body["event"])

    @property
    def asking(self) -> tuple[Body, ...]:
        """Reasons of the rules that ask a person."""
        return tuple(reason for reason in self.body["reasons"] if reason.get("effect") == "hold")

    @property
    def answered(self) -> tuple[str, ...]:
        """Hold rules that were answered on the way here; an approval satisfies them again, and those that ask."""
        before = self.body.get("approval") or {}
        return tuple(before.get("satisfied", ()))


class Settled(NamedTuple):
    """The verdict that took a hold's place: an answer, or the question of another rule.

    Attributes:
        hold: what it answers.
        offset: of the verdict's record.
        append_ms: when it was written.
        body: the whole verdict.
    """

    hold: Hold
    offset: int
    append_ms: int
    body: Body


class Refusal(NamedTuple):
    """An approval that changed nothing; which hold it named stands only in the input log.

    Attributes:
        offset: of the ack in the decision log.
        append_ms: when that was written.
        body: the whole ack.
    """

    offset: int
    append_ms: int
    body: Body

    @property
    def input_offset(self) -> int:
        """Where the approval stands in the input log."""
        return int(self.body["covers"][0])


class Holds:
    """The holds of one partition, as far as the records tell that it was given.

    Attributes:
        resumed_at: offset of the newest operator's `resume`, None if there is none; holds from before it may be
            forgotten, which the record does not say.
    """

    def __init__(self) -> None:
        self.resumed_at: int | None = None
        self._waiting: dict[tuple[object, object], Hold] = {}
        self._settled: dict[str, Settled] = {}
        self._refused: list[Refusal] = []

    def take(self, offset: int, digest: str, append_ms: int, body: Body) -> None:
        """The next effective record."""
        kind = body.get("kind")
        if kind == "verdict":
            self._verdict(offset, digest, append_ms, body)
        elif kind == "ack" and body.get("event_type") == "approval":
            self._refused.append(Refusal(offset, append_ms, body))
        elif kind == "resume":
            self.resumed_at = offset

    def _verdict(self, offset: int, digest: str, append_ms: int, body: Body) -> None:
        key = (body.get("agent_id"), body.get("intent_id"))
        before = self._waiting.pop(key, None)
        if before is not None:
            self._settled[before.digest] = Settled(before, offset, append_ms, body)
        if body.get("decision") == "hold":
            self._waiting[key] = Hold(offset, digest, append_ms, body)

    def open_at(self, t: int) -> list[Hold]:
        """Those that may still be answered at chain time t, the longest waiting first."""
        return sorted((h for h in self._waiting.values() if h.until >= t), key=lambda h: (h.asked_at, h.offset))

    def all(self) -> list[Hold]:
        """Every hold there was, answered and expired ones too, in the log's order."""
        return sorted([*self._waiting.values(), *(s.hold for s in self._settled.values())])

    def settled(self, hold: Hold) -> Settled | None:
        """What took its place; None if nobody answered."""
        return self._settled.get(hold.digest)

    def refused(self, hold: Hold) -> list[Refusal]:
        """Answers about this agent after it that changed nothing; some may have named another hold of it."""
        return [r for r in self._refused if r.offset > hold.offset and r.body.get("agent_id") == hold.agent_id]
