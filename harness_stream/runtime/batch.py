"""One micro-batch: from input records to linked decision-log records (PROTOCOL §3, §5). No I/O, no waiting.

Rule of this file: inputs are answered strictly in offset order, each exactly once; a record whose state is not in
memory ends the batch before it. Garbage next to garbage becomes one `skip`, and denials next to each other that need no
look become one record (`core.denials`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.apply import Change, apply, change_of
from harness_stream.core.decide import Arrival
from harness_stream.core.denials import Denied, denials, verdict
from harness_stream.core.fold import Header, after_own
from harness_stream.core.model import Intent
from harness_stream.core.reasons import Deny, Garbage, Skip
from harness_stream.errors import GarbageRecord
from harness_stream.ports import LogRecord
from harness_stream.wire.decisions import digest_of, encode_body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness_stream.core.intake import Answer, Input, Intake


@dataclass(slots=True)
class Taken:
    """One input record in a partition's inbox, decoded once.

    Attributes:
        event: the input event, None if it is garbage.
        garbage: why it is.
    """

    record: LogRecord
    event: Input | None = None
    garbage: GarbageRecord | None = None


class Handling(Enum):
    """How far an input may be looked at."""

    EVALUATE = "evaluate"
    UNAVAILABLE = "unavailable"
    """Its chain cannot be had."""
    QUARANTINE = "quarantine"
    """Workers crashed on it."""


class Linked(NamedTuple):
    """One decision-log record, ready to publish.

    Attributes:
        value: its bytes.
        digest: their SHA-256.
        header: the fold after it.
        change: what it does to chains, None if nothing.
        units: those it changed.
        source: the input record it answers (the last one of a skip).
    """

    body: Mapping[str, Any]
    value: bytes
    digest: str
    header: Header
    change: Change | None
    units: frozenset[str]
    source: LogRecord


@dataclass(slots=True)
class Run:
    """Denials next to each other that nobody looked into; what they change is not applied before they are linked."""

    _told: list[tuple[int, Denied]] = field(default_factory=list)
    _ids: set[tuple[str, str]] = field(default_factory=set)
    _bytes: int = 0
    _source: LogRecord | None = None

    @property
    def t(self) -> int:
        """Chain time after the last of them."""
        return self._told[-1][1].t

    @property
    def source(self) -> LogRecord:
        """The last input."""
        if self._source is None:
            raise AssertionError("an empty run")
        return self._source

    def add(self, record: LogRecord, told: Denied) -> None:
        """The next one."""
        self._source = record
        self._told.append((record.offset, told))
        self._ids.add((told.agent_id, told.intent_id))
        self._bytes += told.bytes_max

    def answer(self, decided_at: int, rules: Mapping[str, Any]) -> Answer:
        """Their one record; a lone denial is a verdict as any other."""
        if len(self._told) == 1:
            return verdict(self._told[0][1], decided_at, rules)
        return denials(self._told, decided_at, rules)

    def may_matter_to(self, event: Input) -> bool:
        """May the answer depend on what these change, or has their record no room? They change ids and nothing else."""
        lone = isinstance(event, Intent) and event.parent is None and (event.agent_id, event.intent_id) not in self._ids
        return not lone or self._bytes > limits.DENIALS_BYTES_MAX


@dataclass(slots=True)
class Batch:
    """Builds one micro-batch on top of `header`, writing effects into the newest layer of the intake's state."""

    header: Header
    intake: Intake
    decided_at: int
    records: list[Linked] = field(default_factory=list)
    _garbage: list[Taken] = field(default_factory=list)
    _denied: Run | None = None

    def __post_init__(self) -> None:
        if self.intake.rules != self.header.rules:
            raise AssertionError("own verdicts would be void: another bundle is in force")

    def take(self, taken: Taken, handling: Handling) -> None:
        """Answer one input."""
        event, record = taken.event, taken.record
        if handling is Handling.QUARANTINE and not isinstance(event, Intent):
            event, taken.garbage = None, GarbageRecord(Garbage.QUARANTINED)
        if self._denied is not None and (event is None or self._denied.may_matter_to(event)):
            self.finish()
        if event is None:
            self._garbage.append(taken)
            return
        if self._garbage:
            self.finish()
        arrival = Arrival(digest_of(record.value or b""), record.timestamp_ms or 0, self._chain_time(record))
        if handling is Handling.EVALUATE:
            answer = self.intake.look(event, arrival, self.decided_at)
        else:
            answer = self._unevaluated(event, arrival, handling)
        if isinstance(answer, Denied):
            self._denied = self._denied or Run()
            self._denied.add(record, answer)
            return
        if self._denied is not None:
            self.finish()
        body, value = self._encoded(answer, record)
        if len(value) > limits.VERDICT_BYTES_MAX and isinstance(event, Intent) and body["kind"] == "verdict":
            minimal = self.intake.minimal(event, arrival, Deny.TOO_LARGE, self.decided_at)
            body, value = self._encoded(minimal, record)
        self._append(body, value, record)

    def _unevaluated(self, event: Input, arrival: Arrival, handling: Handling) -> Answer:
        if handling is Handling.QUARANTINE and isinstance(event, Intent):
            return self.intake.quarantined(event, arrival, self.decided_at)
        return self.intake.unavailable(event, arrival)

    @property
    def next_input(self) -> int:
        """First input offset that was not taken yet."""
        if self._garbage:
            return self._garbage[-1].record.offset + 1
        return self.header.next_input if self._denied is None else self._denied.source.offset + 1

    def finish(self) -> None:
        """Close what run there is, of garbage or of denials, with its one record."""
        if self._garbage:
            garbage, self._garbage = self._garbage, []
            source = garbage[-1].record
            self._append(*self._encoded(_skip(garbage, self.header.t), source), source)
        if self._denied is not None:
            run, self._denied = self._denied, None
            answer = run.answer(self.decided_at, self.intake.rules_named)
            self._append(*self._encoded(answer, run.source), run.source)

    def input_lost(self, up_to: int) -> None:
        """Retention overtook us: nobody was approved there, so skipping is safe."""
        source = LogRecord("", self.header.partition, up_to, None, None, None)
        count = up_to + 1 - self.header.next_input
        empty = digest_of(b"")
        lost = {"kind": "skip", "t": self.header.t, "reason": str(Skip.INPUT_LOST), "count": count}
        self._append(*self._encoded({**lost, "digest": empty, "offsets": []}, source), source)

    def _chain_time(self, record: LogRecord) -> int:
        """Append time never steps back, and an append time from the future (`deny: clock`) does not advance it."""
        append_ms, t = record.timestamp_ms or 0, self.header.t if self._denied is None else self._denied.t
        return t if append_ms - self.decided_at > limits.CLOCK_SKEW_MS_MAX else max(t, append_ms)

    def _append(self, body: Answer, value: bytes, source: LogRecord) -> None:
        digest = digest_of(value)
        after = after_own(self.header, source.offset, body["t"], digest)
        if after is None:
            raise AssertionError(f"own record would be void: {body['kind']} covering {body['covers']}")
        change = change_of(body, digest)
        units = frozenset[str]()
        if change is not None:
            self.intake.state.touched()  # what deciding warmed is none of the change
            apply(self.intake.state, change, self.intake.windows)
            units = self.intake.state.touched()
        self.records.append(Linked(body, value, digest, after, change, units, source))
        self.header = after

    def _encoded(self, answer: Answer, source: LogRecord) -> tuple[Answer, bytes]:
        header = self.header
        body = {
            "kind": answer["kind"],
            "incarnation": header.incarnation,
            "epoch": header.epoch,
            "writer": header.writer,
            "prev": header.head,
            "covers": [header.next_input, source.offset],
            **answer,
        }
        return body, encode_body(body)


def _skip(run: Sequence[Taken], t: int) -> Answer:
    digests = hashlib.sha256(b"".join(hashlib.sha256(x.record.value or b"").digest() for x in run)).hexdigest()
    shown = [
        {"offset": x.record.offset, "reason": x.garbage.reason, "detail": x.garbage.detail or None}
        for x in run[: limits.SKIP_OFFSETS_MAX]
        if x.garbage is not None
    ]
    return {"kind": "skip", "t": t, "reason": str(Skip.GARBAGE), "count": len(run), "digest": digests, "offsets": shown}
