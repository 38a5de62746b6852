"""One partition as this worker owns it (PROTOCOL §5): its phase, its confirmed and speculative state, what is in flight.

Rule of this file: `core.partition` says what may follow what; here stands what is done in each phase. Only DECIDING answers
inputs, and nothing it does waits. Own records whose delivery offsets follow the own claim without a gap are effective, since
no one wrote between; anything else is a fault, and a fault means: drop what is not confirmed, claim again, read what landed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness_stream.core import chain as chains
from harness_stream.core import limits
from harness_stream.core.chain import Change
from harness_stream.core.fold import Header, Place, fold_header
from harness_stream.core.intake import Intake, units_needed
from harness_stream.core.join import Tables
from harness_stream.core.partition import Phase, Signal, after
from harness_stream.core.rules.windows import Windows
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.errors import GarbageRecord, StateUnavailable
from harness_stream.ports import Delivery, Ends, Headers, LogRecord
from harness_stream.runtime.admission import admit
from harness_stream.runtime.batch import Batch, Handling, Linked, Taken
from harness_stream.runtime.facts import RulesView
from harness_stream.runtime.loading import CannotLoadError, Folded, Loader, Tail
from harness_stream.runtime.mover import Mover
from harness_stream.runtime.reading import Reading
from harness_stream.runtime.realm import Ports, Realm
from harness_stream.runtime.snapshots import Snapshots
from harness_stream.wire.cloudevents import build_headers, read_headers, source_of
from harness_stream.wire.decisions import digest_of, encode_body

log = logging.getLogger(__name__)

Task = Generator[None, None, Signal]

# Two of them fill IN_FLIGHT_RECORDS_MAX.
BATCH_RECORDS_MAX = limits.IN_FLIGHT_RECORDS_MAX // limits.IN_FLIGHT_BATCHES_MAX
# Enough to fill both batches while the broker is asked for more; beyond, the partition is paused.
INBOX_RECORDS_MAX = 2 * limits.IN_FLIGHT_RECORDS_MAX
# A report that is not in by then never comes (a dead connection object); the claim fences what may still land.
SETTLE_MS_MAX = 2 * limits.DELIVERY_TIMEOUT_MS
# A halted partition looks again whether an operator has resumed it.
HALT_RETRY_MS = 5_000


class Sent(NamedTuple):
    """One own decision-log record whose fate is open.

    Attributes:
        header: the fold after it; None for a checkpoint.
        closes_layer: with it a micro-batch is confirmed.
    """

    token: int
    kind: str
    header: Header | None
    digest: str
    change: Change | None
    closes_layer: bool
    size: int
    sent_ms: int
    body: Mapping[str, Any]


class Owner:
    """Owns one partition from assignment to release.

    Args:
        partition: which.
        realm: this realm.
        ports: its ports.
        reading: the worker's reader.
        tables: the four views.
        rules: the rules topic's view.
        writer_id: 128 random bits of this process, hex.
        next_token: gives tokens for appends.
    """

    def __init__(
        self,
        partition: int,
        realm: Realm,
        ports: Ports,
        reading: Reading,
        tables: Tables,
        rules: RulesView,
        writer_id: str,
        next_token: Callable[[], int],
    ) -> None:
        self.partition = partition
        self.phase = Phase.LOADING
        self.why = "just assigned"
        self._realm, self._ports, self._tables, self._rules = realm, ports, tables, rules
        self._writer_id, self._next_token = writer_id, next_token
        self._reading, self._tail = reading, Tail()
        self._loader = Loader(partition, realm, ports, reading, rules, self._tail)
        self._inbox: deque[Taken] = deque()
        self._paused = False
        self._flight: deque[Sent] = deque()
        self._flight_bytes = 0
        self._fault: tuple[Signal, str] | None = None
        self._released = False
        self._final_token: int | None = None
        self._after_crash = "crash"
        self._trust_store = True
        self._input_ends: Ends | None = None
        self._folded = Folded(Place.genesis(realm.incarnation, partition), State())
        self._task: Task | None = self._loading()
        self._scanning: Iterator[None] = iter(())
        self._show_phase()
        reading.watch(realm.topics.verdicts, partition, self)
        reading.watch(realm.topics.intents, partition, InputBounds(self))

    # --- what the worker tells us ---

    @property
    def busy(self) -> bool:
        """Is there something to do without new input?"""
        return self.phase is not Phase.DECIDING or bool(self._inbox)

    @property
    def ready_to_decide(self) -> bool:
        """Could the next step answer inputs that are already here?"""
        deciding = self.phase is Phase.DECIDING and bool(self._inbox)
        return deciding and self.state.in_flight < limits.IN_FLIGHT_BATCHES_MAX

    @property
    def in_flight(self) -> int:
        """Own records whose fate is open."""
        return len(self._flight)

    @property
    def place(self) -> Place:
        """The confirmed fold."""
        return self._folded.place

    @property
    def state(self) -> State:
        """Chains and windows, confirmed and speculative."""
        return self._folded.state

    def offer(self, record: LogRecord) -> None:
        """The next input record."""
        if self.phase is not Phase.DECIDING:
            return  # a claim restarts the stream at next_input
        self._inbox.append(Taken(record))
        if len(self._inbox) >= INBOX_RECORDS_MAX and not self._paused:
            self._ports.consumer.pause(self.partition)
            self._paused = True

    def input_lost(self, low: int) -> None:
        """Retention overtook the input position; what is kept begins at `low`."""
        if self.phase is Phase.DECIDING and low > self._header.next_input:
            log.error("partition %d: input up to offset %d was lost to retention", self.partition, low - 1)
            self._ports.metrics.count("harness_security_events_total", reason="input_lost")
            batch = self._new_batch()
            batch.input_lost(low - 1)
            self._publish(batch)
            self._ports.consumer.start(self.partition, low)

    def take(self, record: LogRecord) -> None:
        """A decision-log record that was asked for."""
        self._tail.take(record)

    def bounds(self, ends: Ends, position: int | None) -> None:
        """The decision log's bounds: an end beyond own records shows a foreign writer."""
        self._tail.bounds(ends, position)
        if self.phase is Phase.DECIDING and ends.end > self._next_offset + len(self._flight):
            self._fail(Signal.FAULT, "a foreign record is in the log")

    def input_bounds(self, ends: Ends) -> None:
        """The input log's bounds, for `pending` and the lag."""
        self._input_ends = ends
        self._ports.metrics.gauge("harness_lag", max(0, ends.end - self.place.header.next_input), partition=self._label)

    def delivered(self, delivery: Delivery) -> None:
        """The fate of one own decision-log record; they come in append order."""
        if not self._flight or delivery.token < self._flight[0].token:
            return  # of before a settled resync, or of a former ownership of this partition
        sent = self._flight.popleft()
        self._flight_bytes -= sent.size
        if sent.token != delivery.token:
            raise AssertionError(f"deliveries out of order: {delivery.token}, expected {sent.token}")
        if self.phase is Phase.DECIDING and self._fault is None:
            self._confirm(sent, delivery)
        elif sent.kind == "claim" and delivery.offset is None:
            self._fail(Signal.FAULT, f"the claim's fate is unknown: {delivery.error}")

    def snapshot_delivered(self, delivery: Delivery) -> None:
        """The fate of one snapshot record."""
        if self.phase is Phase.DECIDING:
            self._snapshots.delivered(delivery)

    def release(self) -> None:
        """Stop deciding; what is in flight is confirmed, then a final checkpoint is written."""
        self._released = True
        self._inbox.clear()

    @property
    def finished(self) -> bool:
        """After `release`: nothing is left to do."""
        if self.phase is not Phase.DECIDING:
            return True
        return self._final_token is not None and not self._flight

    def close(self) -> None:
        """Forget the partition."""
        for topic in (self._realm.topics.verdicts, self._realm.topics.intents):
            self._reading.drop(topic, self.partition)

    def step(self) -> None:
        """Do what the phase asks for; never waits."""
        if self._fault is not None:
            self._enter(*self._take_fault())
        if self.phase is Phase.DECIDING:
            self._deciding()
            return
        try:
            next(self._task)  # type: ignore[arg-type]
        except StopIteration as end:
            self._enter(end.value, self.why)
        except CannotLoadError as error:
            self._trust_store = error.signal is not Signal.STATE_GONE
            self._enter(error.signal, error.why)
        except StateUnavailable as error:
            self._enter(Signal.STATE_GONE, str(error))

    # --- phases ---

    def _enter(self, signal: Signal, why: str) -> None:
        before, self.phase, self.why = self.phase, after(self.phase, signal), why
        level = logging.ERROR if self.phase is Phase.HALTED else logging.INFO
        log.log(level, "partition %d: %s → %s (%s)", self.partition, before, self.phase, why)
        self._show_phase()
        if before is Phase.DECIDING:
            self._leave_deciding(why)
        tasks: Mapping[Phase, Callable[[], Task]] = {
            Phase.LOADING: self._loading,
            Phase.CLAIMING: self._claiming,
            Phase.RESYNC: self._resyncing,
            Phase.LOST: self._waiting,
            Phase.HALTED: self._halted,
        }
        self._task = tasks[self.phase]() if self.phase in tasks else None
        if self.phase is Phase.DECIDING:
            self._begin_deciding()

    def _leave_deciding(self, why: str) -> None:
        self.state.rollback()
        self._inbox.clear()
        self._ports.consumer.pause(self.partition)
        self._after_crash = "resync"
        self._ports.metrics.count("harness_resyncs_total", cause=why.split(":")[0])

    def _loading(self) -> Task:
        yield from self._settled()
        while any(table.fresh_as_of == 0 for table in self._tables.values()):
            self.why = "tables are not read yet"
            yield
        self._folded = yield from self._loader.load(trust_store=self._trust_store)
        self._trust_store = True
        if self._after_crash != "resync" and self._stopped_cleanly():
            self._after_crash = "clean"
        while self._folded.place.header.rules is None and self._rules.active is None:
            self.why = "no active rule set; push one with `harness rules push`"
            yield
        self._made_for_claim(self._folded)
        return Signal.LOADED

    def _made_for_claim(self, folded: Folded) -> None:
        cut = -1 if folded.checkpoint is None else folded.checkpoint["snapshot_cut"]
        self._mover = Mover(self._ports.store, self.partition, self._ports.metrics, folded.stored)
        self._snapshots = Snapshots(
            self._realm.topics.chains,
            self.partition,
            self._ports.writer,
            self._next_token,
            self._realm.snapshot_interval_ms,
            self._ports.metrics,
            cut,
        )
        if folded.stored is None:
            self._mover.refill(folded.state)
            self._snapshots.changed(frozenset(folded.state.units()))
        else:
            self._snapshots.aware = folded.stored <= cut
        self._fold_touched()

    def _fold_touched(self) -> None:
        """What folding changed is confirmed state too."""
        touched = frozenset(self._folded.touched)
        self._mover.changed(touched, ())
        self._snapshots.changed(touched)
        self._folded.touched.clear()

    def _stopped_cleanly(self) -> bool:
        """Genesis, or the last word of the log is a clean stop's checkpoint of this very head."""
        last, header = self._folded.last, self.place.header
        if header.epoch == 0:
            return True
        return (
            last is not None
            and last.get("kind") == "checkpoint"
            and last.get("final") is True
            and last.get("head") == header.head
        )

    def _claiming(self) -> Task:
        if self._released:
            yield
            return Signal.FAULT
        body = {
            "kind": "claim",
            "incarnation": self._realm.incarnation,
            "epoch": max(self._folded.epoch_seen, self.place.header.epoch) + 1,
            "writer": self._writer_id,
            "after": self._after_crash,
            "pending": self._input_ends is None or self._input_ends.end > self.place.header.next_input,
        }
        self._send([(body, None, None, False)])
        self._ports.metrics.count("harness_claims_total", after=self._after_crash)
        while self._flight:
            yield
        bounds = yield from self._loader.bounds()
        yield from self._fold_to(bounds.end)
        self._next_offset = bounds.end
        header = self.place.header
        own = header.epoch == body["epoch"] and header.writer == self._writer_id
        return Signal.CLAIM_READ_BACK if own else Signal.OVERTAKEN

    def _fold_to(self, end: int) -> Generator[None, None, None]:
        yield from self._loader.fold_from(self._folded, end)
        self._fold_touched()

    def _resyncing(self) -> Task:
        yield from self._settled()
        bounds = yield from self._loader.bounds()
        if bounds.end <= self.place.offset:
            return Signal.STATE_GONE
        yield from self._fold_to(bounds.end)
        header = self.place.header
        foreign = header.writer != self._writer_id and header.epoch > 0
        return Signal.OVERTAKEN if foreign else Signal.SETTLED

    def _settled(self) -> Generator[None, None, None]:
        """Wait for outstanding reports; never purge, that would fail other partitions' records."""
        start_ms = self._ports.clock.elapsed_ms()
        while self._flight and self._ports.clock.elapsed_ms() - start_ms < SETTLE_MS_MAX:
            yield
        self._flight.clear()
        self._flight_bytes = 0

    def _waiting(self) -> Task:
        """LOST: the state is dropped; a random wait, so that two owners do not chase each other."""
        self._folded = Folded(Place.genesis(self._realm.incarnation, self.partition), State())
        spread_ms = limits.RECLAIM_MS_MAX - limits.RECLAIM_MS_MIN
        yield from self._pause(limits.RECLAIM_MS_MIN + int(self._ports.jitter() * spread_ms))
        return Signal.RETRY

    def _halted(self) -> Task:
        self._ports.metrics.count("harness_security_events_total", reason="halted")
        yield from self._pause(HALT_RETRY_MS)
        return Signal.RETRY

    def _pause(self, wait_ms: int) -> Generator[None, None, None]:
        start_ms = self._ports.clock.elapsed_ms()
        while self._ports.clock.elapsed_ms() - start_ms < wait_ms:
            yield

    # --- deciding ---

    def _begin_deciding(self) -> None:
        self._header = self.place.header
        self._changes: list[tuple[Change, int]] = []
        self._checkpointed = self.place.offset
        self._checkpoint_ms = self._ports.clock.elapsed_ms()
        self._after_crash = "resync"
        self._paused = False
        self._scanning = iter(()) if self._snapshots.aware else self._scan()
        self._checkpoint()
        self._ports.consumer.start(self.partition, self._header.next_input)

    def _deciding(self) -> None:
        if self._released:
            self._finish()
        else:
            self._switch_if_due()
            if self._header.rules is not None:
                self._decide()
            self._checkpoint_if_due()
        if not self._mover.flush(self.place, self.state):
            self._trust_store = False
            self._fail(Signal.STATE_GONE, "the store lost state that is not in memory")
        self._snapshots.step(self._ports.clock.elapsed_ms(), self.place, self.state, self._fetch)
        next(self._scanning, None)
        if self._paused and len(self._inbox) <= BATCH_RECORDS_MAX:
            self._ports.consumer.resume(self.partition)
            self._paused = False
        self._evict()

    def _decide(self) -> None:
        room = limits.IN_FLIGHT_RECORDS_MAX - len(self._flight)
        full = self.state.in_flight >= limits.IN_FLIGHT_BATCHES_MAX or self._flight_bytes >= limits.IN_FLIGHT_BYTES_MAX
        if not self._inbox or room <= 0 or full:
            return
        size_max = 1 if self._header.crash_claims else min(room, BATCH_RECORDS_MAX)
        candidates = [self._inbox[i] for i in range(min(size_max, len(self._inbox)))]
        self._admit(candidates)
        fetchable = self._fetch([u for t in candidates if t.event for u in units_needed(t.event, self._tables)])
        batch = self._new_batch()
        started_ms = self._ports.clock.elapsed_ms()
        for taken in candidates:
            if not self._take(batch, taken, fetchable=fetchable):
                break
            self._inbox.popleft()
        batch.finish()
        self._publish(batch)
        if batch.records:
            self._count(batch, self._ports.clock.elapsed_ms() - started_ms)

    def _take(self, batch: Batch, taken: Taken, *, fetchable: bool) -> bool:
        """Answer one input; False if it waits for cold state, one micro-batch at most."""
        missing = taken.event is not None and not self._in_memory(units_needed(taken.event, self._tables))
        if missing and fetchable and not taken.waited:
            taken.waited = True
            return False
        handling = Handling.UNAVAILABLE if missing else Handling.EVALUATE
        if self._header.crash_claims >= limits.QUARANTINE_CLAIMS and not missing:
            handling = Handling.QUARANTINE
        if taken.record.offset >= batch.header.next_input:
            batch.take(taken, handling)
        return True

    def _in_memory(self, units: Iterable[str]) -> bool:
        return all(self.state.has(u) for u in units)

    def _new_batch(self) -> Batch:
        rules, windows = self._header.rules, self._windows_in_force()
        if rules is None or windows is None:
            raise AssertionError("deciding without the bundle in force")
        self.state.push()
        intake = Intake(self.partition, self._realm.partitions, self.state, self._tables, windows, rules)
        return Batch(self._header, intake, self._ports.clock.now_ms())

    def _admit(self, candidates: list[Taken]) -> None:
        for taken in candidates:
            if taken.event is None and taken.garbage is None:
                try:
                    taken.event = admit(taken.record, self._realm.name, self._ports.verifier)
                except GarbageRecord as garbage:
                    taken.garbage = garbage

    def _fetch(self, units: Sequence[str]) -> bool:
        """One bounded fetch of cold units; False if the store does not answer."""
        missing = [u for u in dict.fromkeys(units) if not self.state.has(u)][: limits.COLD_FETCH_UNITS_MAX]
        windows = self._windows_in_force()
        if not missing or windows is None:
            return True
        try:
            self._loader.fetch(self.state, missing, windows)
        except StateUnavailable:
            self._ports.metrics.count("harness_state_failures_total", call="load")
            return False
        except CannotLoadError as error:
            self._trust_store = False
            self._fail(error.signal, error.why)
            return False
        return True

    def _windows_in_force(self) -> Windows | None:
        rules = self._header.rules
        return None if rules is None else self._rules.windows(rules[0])

    def _scan(self) -> Generator[None, None, None]:
        """Find out which units changed between the snapshots' cut and the store we started from."""
        first, last = self._snapshots.cut + 1, self._folded.stored or -1
        units = yield from self._loader.units_between(first, last)
        self._snapshots.changed(units)
        self._snapshots.aware = True

    def _switch_if_due(self) -> None:
        active, rules = self._rules.active, self._header.rules
        if active is None or (rules is not None and active[1] <= rules[1]):
            return
        if self.state.in_flight >= limits.IN_FLIGHT_BATCHES_MAX:
            return
        old = None if rules is None else self._rules.windows(rules[0])
        new = self._rules.windows(active[0])
        if new is None:
            return
        self.state.push()
        chains.switched(self.state, old, new, self._header.t)
        next_input = self._header.next_input
        body = {
            **self._signed_part("switch"),
            "prev": self._header.head,
            "covers": [next_input, next_input - 1],
            "rules": {"digest": active[0], "revision": active[1]},
        }
        digest = digest_of(encode_body(body))
        header = fold_header(self._header, body, digest)
        if header is None:
            raise AssertionError("own switch would be void")
        self._header = header
        self._send([(body, header, None, True)])
        log.info("partition %d: rules %s, revision %d", self.partition, active[0][:12], active[1])

    def _publish(self, batch: Batch) -> None:
        if not batch.records:
            self.state.pop()
            return
        self._header = batch.header
        last = len(batch.records) - 1
        self._send_linked([(linked, i == last) for i, linked in enumerate(batch.records)])

    # --- checkpoints and the end ---

    def _checkpoint_if_due(self) -> None:
        behind = self.place.offset - self._checkpointed
        elapsed_ms = self._ports.clock.elapsed_ms() - self._checkpoint_ms
        self._ports.metrics.gauge("harness_checkpoint_age_seconds", elapsed_ms / 1000, partition=self._label)
        due = elapsed_ms >= limits.CHECKPOINT_INTERVAL_MS or behind >= limits.CHECKPOINT_RECORDS
        if behind > 0 and due:
            self._checkpoint()

    def _checkpoint(self, *, final: bool = False) -> int:
        header, place = self.place.header, self.place
        body = {
            **self._signed_part("checkpoint"),
            "partition": self.partition,
            "verdict_offset": place.offset,
            "record_digest": place.digest,
            "head": header.head,
            "next_input": header.next_input,
            "rules": None if header.rules is None else {"digest": header.rules[0], "revision": header.rules[1]},
            "t": header.t,
            "crash_claims": header.crash_claims,
            "snapshot_cut": self._snapshots.cut,
            "dev": self._realm.dev,
            "final": final,
        }
        self._checkpointed, self._checkpoint_ms = place.offset, self._ports.clock.elapsed_ms()
        return self._send([(body, None, None, False)])

    def _finish(self) -> None:
        """After `release`: once everything is confirmed, one last checkpoint."""
        if not self._flight and self._final_token is None:
            self._final_token = self._checkpoint(final=True)

    def _evict(self) -> None:
        """Let idle units leave memory, if store and snapshots hold them as they are."""
        surplus = len(self.state) - self._realm.hot_units_max
        if surplus <= 0:
            return
        idle = (u for u in list(self.state.units())[:surplus] if u != PARTITION_UNIT)
        for unit in idle:
            if self._mover.is_clean(unit) and self._snapshots.is_clean(unit) and not self.state.is_open(unit):
                self.state.evict(unit)

    # --- sending and confirming ---

    def _signed_part(self, kind: str) -> dict[str, Any]:
        epoch, writer = self.place.header.epoch, self._writer_id
        return {"kind": kind, "incarnation": self._realm.incarnation, "epoch": epoch, "writer": writer}

    def _send(self, records: list[tuple[dict[str, Any], Header | None, Change | None, bool]]) -> int:
        token = 0
        for body, header, change, closes in records:
            value = encode_body(body)
            digest = digest_of(value)
            seal = self._ports.signer.seal_batch(self.partition, [digest])[0]
            token = self._append(body, value, digest, header, change, seal, None, closes=closes)
        return token

    def _send_linked(self, records: list[tuple[Linked, bool]]) -> None:
        seals = self._ports.signer.seal_batch(self.partition, [linked.digest for linked, _ in records])
        for (linked, closes), seal in zip(records, seals, strict=True):
            self._append(
                linked.body, linked.value, linked.digest, linked.header, linked.change, seal, linked.source, closes=closes
            )

    def _append(
        self,
        body: Mapping[str, Any],
        value: bytes,
        digest: str,
        header: Header | None,
        change: Change | None,
        seal: Headers,
        source: LogRecord | None,
        *,
        closes: bool,
    ) -> int:
        token, now_ms = self._next_token(), self._ports.clock.now_ms()
        headers = [*self._envelope(body["kind"], digest, now_ms, source), *seal]
        key = None if source is None else source.key
        try:
            self._ports.writer.append(self._realm.topics.verdicts, self.partition, key, value, headers, token=token)
        except BufferError:
            self._fail(Signal.FAULT, "local queue full")
            return token
        sent_ms = self._ports.clock.elapsed_ms()
        self._flight.append(Sent(token, body["kind"], header, digest, change, closes, len(value), sent_ms, body))
        self._flight_bytes += len(value)
        return token

    def _envelope(self, kind: str, digest: str, now_ms: int, source: LogRecord | None) -> Headers:
        trace = None if source is None else read_headers(source.headers).traceparent
        headers = build_headers(
            event_id=digest,
            source=source_of(self._realm.name, self._writer_id),
            event_type=kind,
            time_ms=now_ms,
            traceparent=trace,
        )
        return [h for h in headers if not h[0].startswith("hs-")]

    def _confirm(self, sent: Sent, delivery: Delivery) -> None:
        if delivery.offset is None:
            self._fail(Signal.FAULT, f"delivery: {delivery.error}")
            return
        if delivery.offset != self._next_offset:
            self._fail(Signal.FAULT, f"gap: own record at {delivery.offset}, expected {self._next_offset}")
            return
        self._next_offset += 1
        if sent.kind == "checkpoint":
            self._publish_head(sent)
        if sent.change is not None:
            self._changes.append((sent.change, delivery.offset))
        if sent.closes_layer and sent.header is not None:
            # Only whole micro-batches are confirmed: a rollback drops layers, so the place may never be inside of one.
            self._folded.place = Place(sent.header, delivery.offset, sent.digest)
            touched = self.state.confirm()
            self._mover.changed(touched, self._changes)
            self._snapshots.changed(touched)
            self._changes = []
            waited_ms = self._ports.clock.elapsed_ms() - sent.sent_ms
            self._ports.metrics.observe("harness_confirm_seconds", waited_ms / 1000)

    def _publish_head(self, sent: Sent) -> None:
        """A confirmed checkpoint is copied to where readers look for it."""
        value = encode_body(sent.body)
        seal = self._ports.signer.seal_batch(self.partition, [sent.digest])[0]
        headers = [*self._envelope("checkpoint", sent.digest, self._ports.clock.now_ms(), None), *seal]
        self._ports.writer.append(
            self._realm.topics.heads, self.partition, str(self.partition).encode(), value, headers
        )

    def _fail(self, signal: Signal, why: str) -> None:
        """Note a fault; the next step acts on it."""
        if self._fault is None:
            self._fault = (signal, why)

    def _take_fault(self) -> tuple[Signal, str]:
        fault, self._fault = self._fault, None
        return fault or (Signal.FAULT, "")

    # --- what people see ---

    @property
    def _label(self) -> str:
        return str(self.partition)

    def _show_phase(self) -> None:
        for phase in Phase:
            value = float(phase is self.phase)
            self._ports.metrics.gauge("harness_partition_state", value, partition=self._label, state=str(phase))

    def _count(self, batch: Batch, took_ms: int) -> None:
        metrics = self._ports.metrics
        metrics.observe("harness_batch_size", len(batch.records))
        metrics.observe("harness_decide_seconds", took_ms / 1000 / len(batch.records))
        for linked in batch.records:
            _count_record(metrics, linked.body)


def _count_record(metrics: Any, body: Mapping[str, Any]) -> None:
    kind = body["kind"]
    if kind == "verdict":
        metrics.count("harness_inputs_total", kind="intent")
        metrics.count("harness_verdicts_total", decision=body["decision"])
    elif kind == "reject":
        metrics.count("harness_rejects_total", reason=body["reason"])
    elif kind == "skip":
        metrics.count("harness_skips_total", reason=body["reason"])
    else:
        metrics.count("harness_inputs_total", kind=body["event_type"])


class InputBounds:
    """Watches the input log's bounds for its owner (a `Follower` without records)."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def take(self, record: LogRecord) -> None:
        """Input comes through the group, never through here."""

    def bounds(self, ends: Ends, position: int | None) -> None:  # noqa: ARG002  it reads nothing
        """Pass them on."""
        self._owner.input_bounds(ends)
