"""One partition as this worker owns it (PROTOCOL §5): from assignment to release, phase by phase.

Rule of this file: `core.partition` says what may follow what; here stands how each phase but DECIDING is lived through.
Phases that wait are generators, each returning the signal that ends it, so that one partition never holds up another.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from harness_stream.alarms import Alarm, sound
from harness_stream.core import limits
from harness_stream.core.fold import Place
from harness_stream.core.partition import Phase, Signal, after
from harness_stream.core.state import State
from harness_stream.errors import LogDamaged, StateUnavailable
from harness_stream.runtime.deciding import Deciding
from harness_stream.runtime.folded import Folded
from harness_stream.runtime.history import Readback, Tail
from harness_stream.runtime.input_log import InputBounds, Shortage, too_short
from harness_stream.runtime.loading import Loader
from harness_stream.runtime.mover import Mover
from harness_stream.runtime.outbox import Outbox
from harness_stream.runtime.readiness import CERTIFY, RECREATED
from harness_stream.runtime.snapshots import Snapshots
from harness_stream.runtime.taking import CannotLoadError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from harness_stream.core.join import Tables
    from harness_stream.ports import Delivery, Ends, LogRecord
    from harness_stream.runtime.dead_letters import DeadLetters
    from harness_stream.runtime.facts import RulesView
    from harness_stream.runtime.reading import Reading
    from harness_stream.runtime.realm import Ports, Realm

    Task = Generator[None, None, Signal]

log = logging.getLogger(__name__)

# A report that is not in by then never comes (a dead connection object); the claim fences what may still land.
SETTLE_MS_MAX = 2 * limits.DELIVERY_TIMEOUT_MS
JUST_ASSIGNED = "just assigned"
QUEUE_FULL = "local queue full"
# After a failed load: what failed (another owner, a broker without a leader) needs a moment.
RELOAD_MS = 100
# Whether input is pending is looked up for at most so long; then it is said to be, which costs at most one denial.
PENDING_MS_MAX = 500
# A halted partition looks again whether an operator has resumed it.
HALT_RETRY_MS = 5_000
_ENDS: Final = (CannotLoadError, StateUnavailable, BufferError)
"""What ends a phase wherever it is raised; `_signal_of` says how."""
_ALARMS: Final = {Signal.UNEXTENDABLE: Alarm.HALTED, Signal.STATE_GONE: Alarm.STATE_GONE}


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
        dead_letters: the worker's copies of garbage.

    Attributes:
        phase: where ownership stands.
        why: why it stands there, for people.
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
        dead_letters: DeadLetters,
    ) -> None:
        self.partition, self.phase, self.why = partition, Phase.LOADING, JUST_ASSIGNED
        self.halted = False
        self._realm, self._ports, self._tables, self._rules = realm, ports, tables, rules
        self._next_token, self._dead_letters = next_token, dead_letters
        self._reading, self._tail = reading, Tail()
        self._loader = Loader(partition, realm, ports, reading, rules, self._tail)
        self._outbox = Outbox(partition, realm, ports, writer_id, next_token)
        self._folded = self._nothing()
        self._deciding: Deciding | None = None
        self._task: Task | None = self._loading()
        self._fault: tuple[Signal, str] | None = None
        self._released = False
        self._claim_again_ms = 0  # by the clock for durations
        self._after = "crash"  # what a claim says came before; genesis and a clean stop's last word change it
        self._trust_store = True
        self._patient = True  # a record that cannot be read is to be found while loading, once it halted us
        self._input_ends: Ends | None = None
        self._shortage, self._cut = Shortage(ports.clock), Shortage(ports.clock)
        self._input_damaged = False  # we halted for it
        self._known_end = 0  # of the decision log
        self._show_phase()
        reading.watch(realm.topics.verdicts, partition, self)
        reading.watch(realm.topics.intents, partition, InputBounds(self.input_bounds))

    # --- what the worker asks and tells ---

    @property
    def busy(self) -> bool:
        """Is there something to do without new input?"""
        return self._deciding is None or len(self._outbox) > 0 or bool(self.state.deferred)

    @property
    def ready_to_decide(self) -> bool:
        """Could the next step answer inputs that are already here?"""
        return self._deciding is not None and self._deciding.ready

    @property
    def waiting(self) -> int:
        """Inputs that are here and not answered yet."""
        return 0 if self._deciding is None else self._deciding.waiting

    @property
    def backlogged(self) -> bool:
        """Does a whole batch wait that the next step could begin?"""
        return self._deciding is not None and self._deciding.backlogged

    @property
    def in_flight(self) -> int:
        """Own records whose fate is open."""
        return len(self._outbox)

    @property
    def checkpoint_age_ms(self) -> int | None:
        """Time since the newest own checkpoint, None while not deciding."""
        return None if self._deciding is None else self._deciding.checkpoint_age_ms

    @property
    def place(self) -> Place:
        """The confirmed fold."""
        return self._folded.place

    @property
    def state(self) -> State:
        """Chains and windows, confirmed and speculative."""
        return self._folded.state

    def offer(self, records: Iterable[LogRecord]) -> None:
        """The next input records; outside of DECIDING they are dropped: a claim restarts the stream at next_input."""
        if self._deciding is not None:
            self._deciding.offer(records)

    def input_lost(self, low: int) -> None:
        """The input log, which begins at `low`, does not lead to our position."""
        if self._deciding is not None:
            self._deciding.input_lost(low)

    def input_damaged(self, offset: int) -> None:
        """The input log cannot be read on; halts once everything before `offset` is answered."""
        if self._deciding is not None and self._deciding.at_rest:
            self._input_damaged = True
            damage = LogDamaged(self._realm.topics.intents, self.partition, offset)
            self._deciding.fail(Signal.UNEXTENDABLE, damage.message)

    def take(self, record: LogRecord) -> None:
        """A decision-log record that was asked for."""
        self._tail.take(record)

    def bounds(self, ends: Ends, position: int | None) -> None:
        """The decision log's bounds; an end before what is known of it shows that the log was cut."""
        self._tail.bounds(ends, position)
        if self._deciding is not None:
            self._deciding.bounds(ends)
            self._known_end = max(self._known_end, self._deciding.confirmed_end)
        if self._cut.shown_by(ends, self._known_end):
            why = f"cut: the log ends at {ends.end}, and it had {self._known_end} records"
            self._known_end = ends.end
            self._fail(Signal.FAULT, why)
        self._known_end = max(self._known_end, ends.end)

    def input_bounds(self, ends: Ends) -> None:
        """The input log's bounds, for `pending` and the lag; an end before next_input halts."""
        self._input_ends = ends
        next_input = self.place.header.next_input
        self._ports.metrics.gauge("harness_lag", max(0, ends.end - next_input), partition=str(self.partition))
        if self._deciding is None:
            return
        if self._shortage.shown_by(ends, next_input):
            self._deciding.fail(Signal.UNEXTENDABLE, too_short(ends, next_input))
        self._deciding.input_bounds(ends)

    def _fail(self, signal: Signal, why: str) -> None:
        if self._deciding is not None:
            self._deciding.fail(signal, why)
        else:
            self._fault = self._fault or (signal, why)

    def delivered(self, delivery: Delivery) -> None:
        """The fate of one own decision-log record; they come in append order."""
        sent = self._outbox.take(delivery)
        if sent is None:
            return
        if self._deciding is not None:
            try:
                self._deciding.delivered(sent, delivery)
            except _ENDS as error:
                self._deciding.fail(*_signal_of(error))
        elif sent.body["kind"] == "claim" and delivery.offset is None:
            self._fault = (Signal.FAULT, f"the claim's fate is unknown: {delivery.error}")

    def snapshot_delivered(self, delivery: Delivery) -> None:
        """The fate of one snapshot record."""
        if self._deciding is not None:
            self._snapshots.delivered(delivery)  # after a fault the cycle begins anew anyway

    def release(self) -> None:
        """Stop deciding; what is in flight is confirmed, then a final checkpoint is written."""
        self._released = True
        if self._deciding is not None:
            self._deciding.release()

    @property
    def finished(self) -> bool:
        """After `release`: nothing is left to do."""
        return self._deciding is None or self._deciding.finished

    def close(self) -> None:
        """Forget the partition; a generator that is collected later would stop reading for a successor."""
        if self._task is not None:
            self._task.close()
        if self._deciding is not None:
            self._deciding.close()
        for topic in (self._realm.topics.verdicts, self._realm.topics.intents):
            self._reading.drop(topic, self.partition)
        self._ports.metrics.drop(partition=str(self.partition))

    def step(self, *, leisure: bool = True) -> None:
        """Do what the phase asks for, and with `leisure` what nobody waits for; never waits."""
        try:
            if self._deciding is not None:
                self._deciding.step(leisure=leisure)
            elif self._fault is None:
                self._go_on()
        except _ENDS as error:
            self._fail(*_signal_of(error))
        if self._deciding is not None:
            self._fault = self._deciding.fault
        if self._fault is not None:
            (signal, why), self._fault = self._fault, None
            self._enter(signal, why)

    def _go_on(self) -> None:
        if self._task is None:
            raise AssertionError(f"nothing to do in {self.phase}")
        try:
            next(self._task)
        except StopIteration as end:
            self._enter(end.value, self.why)

    # --- phases ---

    def _enter(self, signal: Signal, why: str) -> None:
        before, self.phase, self.why = self.phase, after(self.phase, signal), why
        self.halted = self.phase is Phase.HALTED or (self.halted and self.phase is Phase.LOADING)  # it only looks again
        self._tell(f"partition {self.partition}: {before} → {self.phase} ({why})", signal)
        self._show_phase()
        if signal in {Signal.STATE_GONE, Signal.RETRY}:
            self._trust_store = signal is Signal.RETRY
        self._patient = self._patient and signal is not Signal.UNEXTENDABLE
        if self._deciding is not None:
            self._stop_deciding(why)
        if self._task is not None:
            self._task.close()  # collected later, it would stop its successor's reading
        if self.phase is Phase.DECIDING:
            self._start_deciding()
        else:
            self._task = self._tasks[self.phase]()

    def _tell(self, what: str, signal: Signal) -> None:
        alarm = _ALARMS.get(signal)
        if alarm is None:
            log.info("%s", what)
        else:
            sound(log, alarm, what)

    @property
    def _tasks(self) -> Mapping[Phase, Callable[[], Task]]:
        return {
            Phase.LOADING: self._loading,
            Phase.CLAIMING: self._claiming,
            Phase.RESYNC: self._resyncing,
            Phase.LOST: self._waiting,
            Phase.HALTED: self._halted,
        }

    def _start_deciding(self) -> None:
        self._task = None
        self._deciding = Deciding(
            self.partition,
            self._realm,
            self._ports,
            self._tables,
            self._rules,
            self._loader,
            self._folded,
            self._mover,
            self._snapshots,
            self._outbox,
            self._dead_letters,
            self._end,
        )
        self._deciding.begin()
        if self._released:
            self._deciding.release()

    def _stop_deciding(self, why: str) -> None:
        if self._deciding is not None:
            self._deciding.close()
        self._deciding = None
        self._snapshots.restart()
        self.state.rollback()
        self._ports.consumer.pause(self.partition)
        self._ports.metrics.count("harness_resyncs_total", cause=why.split(":", maxsplit=1)[0])

    def _loading(self) -> Task:
        yield from self._settled()
        if self.phase is Phase.LOADING and self.why != JUST_ASSIGNED:
            yield from self._pause(RELOAD_MS)
        while any(table.fresh_as_of == 0 for table in self._tables.values()):
            self.why = "tables are not read yet"
            yield
        self._folded = self._nothing()
        self._folded = yield from self._loader.load(trust_store=self._trust_store, patient=self._patient)
        self._trust_store = True
        self._folded.foreign.clear()  # met by every load until the next checkpoint, as void ones are
        yield from self._input_reaches(self.place.header.next_input)
        if self._input_damaged:
            yield from self._input_readable(self.place.header.next_input)
        if self._after == "crash" and self._stopped_cleanly():
            self._after = "clean"
        while self.place.header.rules is None and self._rules.active is None:
            missing = "no active rule set; push one with `harness rules push`"
            self.why = "the rules are being compiled" if self._rules.compiling else missing
            yield
        self.why = "loaded"
        self._keep_behind()
        return Signal.LOADED

    def _input_reaches(self, next_input: int) -> Generator[None, None, None]:
        """Ask, now that next_input is known, whether the input log still holds what was answered."""
        self._input_ends = None
        asked_ms = self._ports.clock.elapsed_ms()
        self._reading.ask(self._realm.topics.intents, self.partition, asked_ms)
        while self._input_ends is None or self._input_ends.asked_at_ms < asked_ms:
            yield
        if self._input_ends.end < next_input:
            raise CannotLoadError(Signal.UNEXTENDABLE, too_short(self._input_ends, next_input))

    def _input_readable(self, next_input: int) -> Generator[None, None, None]:
        """Before a claim, of which each look of a halted partition would write another one."""
        if self._input_ends is not None and next_input < self._input_ends.end:
            yield from self._intents().any_between(next_input, self._input_ends.end)
        self._input_damaged = False

    def _intents(self) -> Readback:
        return Readback(self._realm.topics.intents, self.partition, self._ports, self._reading, Tail())

    def _same_incarnation(self) -> Generator[None, None, None]:
        """Ask whether the log topics are still those this process was started for.

        Before a claim, so that none is written into somebody else's log; and after it, since from then on a log that is
        recreated shows by the offsets of own records.
        """
        incarnations, asked_ms = self._ports.incarnations, self._ports.clock.elapsed_ms()
        incarnations.ask(asked_ms)
        while (known := incarnations.known()) is None or known.asked_at_ms < asked_ms:
            yield
        if known.incarnation != self._realm.incarnation:
            raise CannotLoadError(Signal.UNEXTENDABLE, RECREATED)

    def _keep_behind(self) -> None:
        """Set up what follows the confirmed fold: the store and the snapshots."""
        folded, metrics = self._folded, self._ports.metrics
        cut = -1 if folded.checkpoint is None else folded.checkpoint["snapshot_cut"]
        stands = folded.stored, folded.store_met
        self._mover = Mover(self._ports.store, self.partition, metrics, self._next_token, *stands)
        topic, interval_ms = self._realm.topics.chains, self._realm.snapshot_interval_ms
        self._snapshots = Snapshots(
            topic, self.partition, self._ports.writer, self._next_token, interval_ms, metrics, cut
        )
        if folded.stored is None:
            self._mover.refill(folded.state)
            self._snapshots.changed(frozenset(folded.state.units()))
        else:
            self._snapshots.scan(cut + 1, folded.stored.verdict_offset)
        folded.store_moved = Signal.OVERTAKEN
        self._hand_on()

    def _hand_on(self) -> None:
        """What folding changed is confirmed state too."""
        touched = frozenset(self._folded.touched)
        self._mover.changed(touched, ())
        self._snapshots.changed(touched)
        self._folded.touched.clear()

    def _stopped_cleanly(self) -> bool:
        """Genesis, or the last word of the log is a clean stop's checkpoint of this very head."""
        last, header = self._folded.last or {}, self.place.header
        final = last.get("kind") == "checkpoint" and last.get("final") is True
        return header.epoch == 0 or (final and last.get("head") == header.head)

    def _pending(self) -> Generator[None, None, bool]:
        """Is there input beyond next_input? Only a crash's claim needs it exactly: three in a row set a record aside.

        The end alone does not tell: a transaction's marker takes an offset and is no input.
        """
        next_input = self.place.header.next_input
        if self._input_ends is None or self._input_ends.end <= next_input or self._after != "crash":
            return self._input_ends is None or self._input_ends.end > next_input
        looking = self._intents().any_between(next_input, self._input_ends.end)
        start_ms = self._ports.clock.elapsed_ms()
        try:
            while self._ports.clock.elapsed_ms() - start_ms < PENDING_MS_MAX:
                next(looking)
                yield
        except StopIteration as found:
            return bool(found.value)
        finally:
            looking.close()
        return True

    def _claiming(self) -> Task:
        epoch = yield from self._claimed()
        while len(self._outbox):
            yield
        yield from self._fold_to_end()
        yield from self._same_incarnation()
        header = self.place.header
        own = header.epoch == epoch and header.writer == self._outbox.writer_id
        return Signal.CLAIM_READ_BACK if own else Signal.OVERTAKEN

    def _claimed(self) -> Generator[None, None, int]:
        """Send a claim, and say of which epoch; while the local queue is full, what it says is looked up anew."""
        while True:
            claim = yield from self._next_claim()
            try:
                self._outbox.send(claim)
            except BufferError:
                log.info("partition %d: the claim waits (%s)", self.partition, QUEUE_FULL)
                yield
            else:
                self._ports.metrics.count("harness_claims_total", after=self._after)
                self._after = "resync"  # whatever becomes of this claim, the next one is no crash's
                return int(claim["epoch"])

    def _next_claim(self) -> Generator[None, None, dict[str, Any]]:
        yield from self._same_incarnation()
        pending = yield from self._pending()
        yield from self._claims_apart()
        epoch = max(self._folded.epoch_seen, self.place.header.epoch) + 1
        if not self._ports.signer.may_sign(epoch):
            why = f"key not certified: nobody would believe epoch {epoch}; {CERTIFY}"
            raise CannotLoadError(Signal.UNEXTENDABLE, why)
        return {
            "kind": "claim",
            "incarnation": self._realm.incarnation,
            "epoch": epoch,
            "writer": self._outbox.writer_id,
            "after": self._after,
            "pending": pending,
        }

    def _claims_apart(self) -> Generator[None, None, None]:
        """A log that refuses claims, or what follows them, answers within a millisecond; it is not to be flooded."""
        while self._ports.clock.elapsed_ms() < self._claim_again_ms:
            yield
        self._claim_again_ms = self._ports.clock.elapsed_ms() + limits.RECLAIM_MS_MIN

    def _resyncing(self) -> Task:
        yield from self._settled()
        yield from self._fold_to_end()
        if self._end <= self.place.offset:
            return Signal.STATE_GONE
        header = self.place.header
        foreign = header.writer != self._outbox.writer_id and header.epoch > 0
        return Signal.OVERTAKEN if foreign else Signal.SETTLED

    def _fold_to_end(self) -> Generator[None, None, None]:
        """Fold what is in the log now, and remember where it ends."""
        bounds = yield from self._loader.bounds()
        self._end = bounds.end
        self._folded.stored = self._mover.stored
        void = self._folded.void
        yield from self._loader.fold_from(self._folded, bounds)
        # Not what loading folds: the same records are met by every load until the next checkpoint.
        self._ports.metrics.count("harness_void_total", self._folded.void - void)
        self._tell_of_foreign()
        self._hand_on()

    def _tell_of_foreign(self) -> None:
        """They change nothing, but somebody writes here who owns nothing."""
        foreign, at = self._folded.foreign, self._folded.foreign_at
        if not foreign:
            return
        told = ", ".join(f"{count} {why}" for why, count in foreign.items())
        what = f"partition {self.partition}: records that no owner wrote ({told}), last at {at}"
        sound(log, Alarm.FOREIGN_RECORD, what)
        self._ports.metrics.count("harness_security_events_total", foreign.total(), reason=Alarm.FOREIGN_RECORD)
        foreign.clear()

    def _settled(self) -> Generator[None, None, None]:
        """Wait for outstanding reports; never purge, that would fail other partitions' records."""
        start_ms = self._ports.clock.elapsed_ms()
        while len(self._outbox) and self._ports.clock.elapsed_ms() - start_ms < SETTLE_MS_MAX:
            yield
        self._outbox.give_up()

    def _waiting(self) -> Task:
        """LOST: the state is dropped; a random wait, so that two owners do not chase each other."""
        self._folded = self._nothing()
        spread_ms = limits.RECLAIM_MS_MAX - limits.RECLAIM_MS_MIN
        yield from self._pause(limits.RECLAIM_MS_MIN + int(self._ports.jitter() * spread_ms))
        return Signal.RETRY

    def _halted(self) -> Task:
        self._ports.metrics.count("harness_security_events_total", reason=Alarm.HALTED)
        yield from self._pause(HALT_RETRY_MS)
        return Signal.RETRY

    def _pause(self, wait_ms: int) -> Generator[None, None, None]:
        start_ms = self._ports.clock.elapsed_ms()
        while self._ports.clock.elapsed_ms() - start_ms < wait_ms:
            yield

    def _nothing(self) -> Folded:
        return Folded(Place.genesis(self._realm.incarnation, self.partition), State())

    def _show_phase(self) -> None:
        for phase in Phase:
            value = float(phase is self.phase)
            self._ports.metrics.gauge("harness_partition_state", value, partition=str(self.partition), state=str(phase))


def _signal_of(error: CannotLoadError | StateUnavailable | BufferError) -> tuple[Signal, str]:
    """Of records that belong together some may be queued before there is no room: only a new claim tells how it is."""
    if isinstance(error, CannotLoadError):
        return error.signal, error.why
    return (Signal.FAULT, QUEUE_FULL) if isinstance(error, BufferError) else (Signal.STATE_GONE, str(error))
