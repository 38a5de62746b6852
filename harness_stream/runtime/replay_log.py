"""A stretch of a real log decided anew by other rules (DESIGN §10, `harness replay --from-log`).

Rule of this file: only what rules can change is decided anew. What was before the stretch is history as it really was;
what the worker skipped, rejected, quarantined or did not admit stays so; chain time and decided_at are the real
ones; and facts are those the log recorded with each verdict, by value. Only fields that no rule in force read then come
from tables.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from harness_stream.core import delegation
from harness_stream.core.ids import memory_of
from harness_stream.core.intake import Answer, Input, Intake, inputs_of, not_admitted_by
from harness_stream.core.model import Approval, Intent, Outcome
from harness_stream.core.names import agent_unit
from harness_stream.core.reasons import Deny, Refuse
from harness_stream.core.records import RECORDS
from harness_stream.core.refusals import refusals
from harness_stream.core.state import State
from harness_stream.errors import ConfigError, GarbageRecord, ProtocolError
from harness_stream.runtime.batch import Handling, Taken
from harness_stream.runtime.replay import REVISION, World
from harness_stream.wire.codec import decode_input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.decide import Arrival, Decided
    from harness_stream.core.denials import Denied
    from harness_stream.core.fold import Body
    from harness_stream.core.join import Tables
    from harness_stream.core.rules.windows import Windows
    from harness_stream.ports import LogRecord

_FIELD_TABLES: Final = ("identity", "infrastructure", "risk")
_REJECT_FIELDS: Final = ("kind", "t", "agent_id", "id", "digest", "reason", "detail")
# Refusals for the lack of a role, which tables say and no rule.
_ROLE_REFUSALS: Final = frozenset(
    {Refuse.NOT_ORCHESTRATOR, Refuse.NOT_REPORTER, Refuse.NOT_ENFORCER, Refuse.NOT_APPROVER}
)


class Known(NamedTuple):
    """An effective record about inputs before the stretch.

    Attributes:
        at_ms: its append time.
        digest: of its value.
    """

    partition: int
    at_ms: int
    body: Body
    digest: str


class Answered(NamedTuple):
    """An input of the stretch, and the effective record that covers it."""

    record: LogRecord
    answer: Body

    @property
    def partition(self) -> int:
        """Of both logs."""
        return self.record.partition

    @property
    def at_ms(self) -> int:
        """The input's append time."""
        return self.record.timestamp_ms or 0


@dataclass(slots=True)
class Facts:
    """What the verdicts of a replay were decided on, counted.

    Attributes:
        recorded: verdicts on the facts that the log recorded.
        tables: verdicts on rows of the tables the replay was given.
        filled: `table.field` → verdicts on recorded facts without this field; it came from the tables.
        unknown: the same, but the tables have no such row any more: a rule that reads the field errs.
    """

    recorded: int = 0
    tables: int = 0
    filled: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


class LogReplay:
    """Decides the stretch, each partition in a world of its own.

    Args:
        windows: the compiled rules.
        tables: for what the log does not record; nobody changes them meanwhile.
        realm: its name; the worker that answered had the same.
        from_tables: take every fact and role from `tables`; revisions and freshness then mean nothing.

    Attributes:
        facts: what was used so far.
    """

    def __init__(self, windows: Windows, tables: Tables, realm: str, *, from_tables: bool = False) -> None:
        self.facts = Facts()
        self._realm = realm
        self._windows, self._tables, self._from_tables = windows, tables, from_tables
        self._worlds: dict[int, tuple[World, _Intake]] = {}

    def begin(self, partition: int, next_input: int, t: int) -> None:
        """A partition's stretch begins at this input offset and chain time (epoch ms)."""
        rules = (self._windows.digest, REVISION)
        intake_of = _Intake if self._from_tables else _RecordedIntake
        intake = intake_of(None, 1, State(), self._tables, self._windows, rules, used=self.facts)
        self._worlds[partition] = (World(intake, next_input, partition, t), intake)

    def know(self, known: Known) -> None:
        """History, as it really was."""
        require_schema(known.body, known.partition)
        self._worlds[known.partition][0].know(known.body, known.digest)

    def take(self, answered: Answered) -> dict[str, Any]:
        """The body these rules answer the input with, and where it stands: `partition`, `offset`, `at` (epoch ms).

        Raises:
            ConfigError: the log is another realm's.
            ProtocolError: the real answer counts, and yet is none.
        """
        record, answer = answered
        require_schema(answer, record.partition)
        world, intake = self._worlds[record.partition]
        intake.real = answer
        decided_at = answer["inputs"]["decided_at"] if answer["kind"] == "verdict" else answer["t"]
        for table in self._tables.values():
            table.fresh_as_of = decided_at
        body = world.answer(self._taken(answered, intake), decided_at, _handling(answer))
        return {**body, "partition": record.partition, "offset": record.offset, "at": answered.at_ms}

    def _taken(self, answered: Answered, intake: _Intake) -> Taken:
        record, answer = answered
        if answer["kind"] == "skip":
            return Taken(record, garbage=_garbage_of(answer, record.offset))
        try:
            event: Input = decode_input(record.value)
        except GarbageRecord as garbage:
            return Taken(record, garbage=garbage)
        if event.realm != self._realm:
            raise ConfigError(
                f"this log is realm `{event.realm}`'s, not `{self._realm}`'s", hint=f"give `--realm {event.realm}`"
            )
        return Taken(record, intake.meant(event))


@dataclass(slots=True)
class _Intake(Intake):
    """An intake that knows how the input was really answered, and leaves a rejection what it was."""

    used: Facts
    real: Body = field(default_factory=dict)

    def meant(self, event: Input) -> Input:
        """The event with the digests that the verdicts it names have in this world."""
        unit = agent_unit(event.agent_id)
        if isinstance(event, Intent):
            return event.model_copy(update={"min_revision": {}})
        if isinstance(event, Outcome) and self.real.get("reason") != Refuse.VERDICT_MISMATCH:
            known = memory_of(self.state, event.agent_id, event.intent_id)
            return event if known is None else event.model_copy(update={"verdict_digest": known.verdict_digest})
        if isinstance(event, Approval) and self.real["kind"] == "verdict":
            hold = self.state.get(unit, ("hold", self.real["intent_id"]))
            return event if hold is None else event.model_copy(update={"hold_digest": hold["verdict"]})
        return event

    def look(self, event: Input, arrival: Arrival, decided_at: int) -> Answer | Denied:
        """As its base; a real rejection stays."""
        if self.real["kind"] == "reject":
            return {name: self.real[name] for name in _REJECT_FIELDS}
        return Intake.look(self, event, arrival, decided_at)

    def not_admitted(self, intent: Intent, arrival: Arrival, decided_at: int) -> Decided | None:  # noqa: ARG002  the base's signature
        """As it really was."""
        return not_admitted_by(self.real)

    def facts(self, intent: Intent, t: int, decided_at: int) -> dict[str, Any]:
        """From the tables the replay was given."""
        self.used.tables += 1
        return Intake.facts(self, intent, t, decided_at)


@dataclass(slots=True)
class _RecordedIntake(_Intake):
    """Also takes facts and roles as the log recorded them."""

    def meant(self, event: Input) -> Input:
        """As its base, but what an intent demanded of revisions stands beside those recorded."""
        return event if isinstance(event, Intent) else _Intake.meant(self, event)

    def facts(self, intent: Intent, t: int, decided_at: int) -> dict[str, Any]:
        """The recorded `inputs`; fields that were not recorded come from the tables."""
        if self.real["kind"] != "verdict" or not self.real["inputs"]["tables"]:
            return _Intake.facts(self, intent, t, decided_at)  # it was not decided on facts then
        self.used.recorded += 1
        inputs = inputs_of(self.real)
        missing = {name: fields for name in _FIELD_TABLES if (fields := self._missing(name, inputs[name]))}
        above = delegation.ancestors(self.state, intent, t)
        other_above = [row["agent_id"] for row in inputs.get("above", ())] != list(above)
        if missing or other_above:
            now = Intake.facts(self, intent, t, decided_at)
            inputs |= {name: self._filled(name, inputs[name], now[name], fields) for name, fields in missing.items()}
            if other_above:  # its parent was decided differently, so it acts for others
                inputs["above"] = now["above"]
                self.used.filled["identity of those it acts for"] += 1
        return inputs

    def lane(self, agent_id: str) -> str:
        """As recorded, else from the tables."""
        change = self.real.get("change") or {}
        told = change.get("lane") or change.get("mandate", {}).get("lane")
        return str(told) if told else Intake.lane(self, agent_id)

    def roles_known(self, decided_at: int) -> bool:  # noqa: ARG002  the base's signature
        """As it really was."""
        return self.real.get("reason") != Refuse.STALE_FACTS

    def has_role(self, identity: str, role: str, same_lane_as: str | None) -> bool:
        """What the real answer tells of it, else what the tables say."""
        if self.real["kind"] == "verdict" or self.real.get("status") == "accepted":
            return True
        return self.real.get("reason") not in _ROLE_REFUSALS and Intake.has_role(self, identity, role, same_lane_as)

    def _missing(self, table: str, recorded: Mapping[str, Any]) -> list[str]:
        read = self.windows.program.fields_read.get(table, frozenset())
        return sorted(read - recorded.keys()) if recorded["present"] else []

    def _filled(
        self, table: str, recorded: Mapping[str, Any], now: Mapping[str, Any], fields: list[str]
    ) -> dict[str, Any]:
        found = {name: now[name] for name in fields if name in now}
        self.used.filled.update(f"{table}.{name}" for name in found)
        self.used.unknown.update(f"{table}.{name}" for name in fields if name not in now)
        return {**recorded, **found}


def require_schema(body: Body, partition: int) -> None:
    """A record may count and still not say what a record of its kind must.

    Args:
        body: of an effective record.
        partition: its.

    Raises:
        ProtocolError: it does not.
    """
    try:
        RECORDS[body["kind"]].model_validate(body)
    except ValidationError as error:
        raise ProtocolError(
            f"partition {partition}: the effective record that covers inputs {body.get('covers')} breaks its schema: "
            f"{refusals(error)[0]}",
            hint="only a worker may write there; which program did?",
        ) from None


def _handling(answer: Body) -> Handling:
    quarantined = answer["kind"] == "verdict" and answer["reasons"][0]["code"] == Deny.QUARANTINED
    return Handling.QUARANTINE if quarantined else Handling.EVALUATE


def _garbage_of(skip: Body, offset: int) -> GarbageRecord:
    """Why the worker skipped this one; of the first sixteen of a range the log says so, of others that they were."""
    for named in skip["offsets"]:
        if named["offset"] == offset:
            return GarbageRecord(named["reason"], named["detail"] or "")
    return GarbageRecord(str(skip["reason"]))
