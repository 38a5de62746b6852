"""One partition's logs through the auditor, up to the ends they had at the start (`harness log verify`).

Rule of this file: it reads and counts; what is wrong is `core.audit`'s to say. Partitions are audited one after the
other, so memory holds one partition's history, and of that what somebody may still ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness_stream.core.audit import Audit
from harness_stream.core.audit.findings import Finding, Kind
from harness_stream.core.audit.witnessed import Witnessed
from harness_stream.core.fold import NOTICE, STATEMENTS, Place
from harness_stream.errors import LogDamaged
from harness_stream.runtime.audit_read import input_of, record_of
from harness_stream.runtime.replay_feed import Feed
from harness_stream.runtime.to_end import ends_of, read_to_end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness_stream.core.audit import Input, Record
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.witness import Held
    from harness_stream.ports import Clock, Ends, LogReader, Verifier
    from harness_stream.wire.topics import Topics


@dataclass(frozen=True, slots=True)
class AuditPorts:
    """What an audit may ask of the outside.

    Attributes:
        reader: used for nothing else meanwhile.
        again: another one, for what a warmed switch has to read a second time.
        rules: the compiled bundle of a digest, None if the rules topic has none that loads.
    """

    reader: LogReader
    again: LogReader
    clock: Clock
    verifier: Verifier
    rules: Callable[[str], Windows | None]


@dataclass(frozen=True, slots=True)
class AuditedRealm:
    """Whose logs: the realm's name as inputs have it, its topics, and P."""

    name: str
    topics: Topics
    partitions: int


class AuditRun:
    """Audits one partition.

    Args:
        ports: see there.
        realm: whose.
        start: where the fold begins.
        ends: the decision log's bounds as of the start.
        held: places that checkpoints outside of the log name, read before `ends` were asked for.
        full: hold answers against inputs and history, too.
        witness: checkpoints of this partition that are held elsewhere, None if nobody asked for them; read before
            `ends` were asked for.

    Attributes:
        partition: which.
        share: how much of the logs was read, 0 to 1.
        damaged: why it ended early, None if it did not.
    """

    def __init__(
        self,
        ports: AuditPorts,
        realm: AuditedRealm,
        start: Place,
        ends: Ends,
        held: Iterable[Place],
        *,
        full: bool,
        witness: Iterable[Held] | None = None,
    ) -> None:
        self.partition = start.header.partition
        self.share = 0.0
        self.damaged: LogDamaged | None = None
        self._ports, self._realm, self._start, self._ends = ports, realm, start, ends
        self._inputs = ends_of(ports.reader, realm.topics.intents, self.partition, ports.clock)
        self._audit = Audit(start, realm.partitions, ports.rules, (p for p in held if p.offset >= start.offset))
        self._full = full
        self._read_to = 0  # of the decision log
        now_ms = ports.clock.now_ms()
        self._witnessed = None if witness is None else Witnessed(witness, start, ends.low, now_ms)

    @property
    def records(self) -> int:
        """Records of the decision log read so far."""
        return self._audit.log.records.total() + self._audit.log.void.total()

    def findings(self) -> Iterator[Finding | None]:
        """What is wrong, as it is found; None after each record, so that the caller can say how far it is.

        Raises:
            BrokerUnavailable: the broker does not answer any more.
            ProtocolError: retention has overtaken the audit.
        """
        try:
            yield from self._findings()
        except LogDamaged as damage:
            for topic in (self._realm.topics.verdicts, self._realm.topics.intents):
                self._ports.reader.unfollow(topic, self.partition)
            self.damaged = damage
            yield from self._audit.log.held_back()
            yield self._not_checked(damage)

    def _not_checked(self, damage: LogDamaged) -> Finding:
        """Told at the first record of the decision log that was not checked, whichever log is damaged."""
        at = max(self._first(), self._read_to)
        left = f"records {at} to {self._ends.end - 1} are not checked"
        return Finding(Kind.DAMAGED, self.partition, at, f"{damage.message}; {left}")

    def _findings(self) -> Iterator[Finding | None]:
        topics = self._realm.topics
        decisions, intents = (topics.verdicts, self.partition), (topics.intents, self.partition)
        ranges = {decisions: (self._first(), self._ends.end)}
        if self._full:
            first = max(self._inputs.low, self._start.header.next_input)
            ranges[intents] = (first, self._inputs.end)
        witnessed = self._witnessed or Witnessed((), self._start, self._ends.low, 0)
        yield from witnessed.recreated()
        yield from witnessed.cut()
        feed = Feed(self._ports.reader, self._ports.clock, ranges)
        if self._full:
            self._audit.with_inputs(lambda first: self._events(feed, first), self._inputs.low, self._again)
        while (record := feed.peek(*decisions)) is not None:
            feed.pop(*decisions)
            self._read_to = record.offset + 1
            taken = record_of(record, self._ports.verifier)
            yield from self._audit.take(taken)
            yield from witnessed.take(taken, self._audit.place)
            self.share = feed.share
            yield None
        yield from self._audit.end(self._ends.end, self._inputs.end)
        yield from witnessed.end(self._ends.end)
        for name in ranges:
            feed.drop(*name)

    def told(self) -> dict[str, Any]:
        """What was read and what was proven, for programs."""
        log, answers, header = self._audit.log, self._audit.answers, self._audit.place.header
        told = {
            "partition": self.partition,
            "from": "genesis" if self._start.offset < 0 else self._start.offset,
            "end": self._ends.end,
            "damaged": None if self.damaged is None else {"topic": self.damaged.topic, "offset": self.damaged.offset},
            "effective": {kind: n for kind, n in log.records.items() if kind not in STATEMENTS},
            "void": {str(why): n for why, n in log.void.items()},
            "void_at": {str(why): offsets for why, offsets in log.void_at.items()},
            "checkpoints": {"compared": log.records["checkpoint"] - log.unchecked, "too_old": log.unchecked},
            "resumed": [resume.to_json() for resume in log.resumed.all],
            "broken": [{"at": b.at, "unproven": None if b.passed is None else list(b.passed)} for b in log.breaks],
            "stuck": None if log.stuck is None else {"from": log.stuck[0], "checkpoint": log.stuck[1]},
            "astray": log.astray,
            "notices": log.records[NOTICE],
            "inputs": {"first": self._start.header.next_input, "next": header.next_input, "end": self._inputs.end},
            # Behind a break nobody can tell which ones are decided.
            "undecided": None if log.stuck else max(0, self._inputs.end - header.next_input),
        }
        if answers is not None:
            told["recomputed"], told["unproven"] = dict(answers.recomputed), dict(answers.unproven)
        if self._witnessed is not None:
            told["witness"] = self._witnessed.told()
        return told

    def _first(self) -> int:
        """What is held of records before the fold's start is compared with them, too."""
        start = self._start.offset
        first = None if self._witnessed is None else self._witnessed.first
        return max(self._ends.low, start if first is None else min(start, first))

    def _events(self, feed: Feed, first: int) -> Iterator[Input]:
        name = (self._realm.topics.intents, self.partition)
        feed.begin(*name, max(self._inputs.low, first))
        while (record := feed.peek(*name)) is not None:
            feed.pop(*name)
            yield input_of(record, self._realm.name, self._ports.verifier)

    def _again(self, first: int, end: int) -> Iterator[Record]:
        topic, reader = self._realm.topics.verdicts, self._ports.again
        for record in read_to_end(reader, topic, self.partition, self._ports.clock, first):
            if record.offset >= end:
                break
            yield record_of(record, self._ports.verifier)
        reader.unfollow(topic, self.partition)
