"""DECIDING: the only phase that answers inputs (PROTOCOL §5). It lives from a claim read back to the next fault.

Rule of this file: nothing here waits. Micro-batches are decided on speculative state and published at once; what was
delivered at the next own offset is confirmed, since no one wrote between. Anything else is noted as a fault, and
whatever was not confirmed is forgotten with this object.
"""

from __future__ import annotations

import logging
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from harness_stream.alarms import Alarm, sound
from harness_stream.core import counting, limits
from harness_stream.core.backlog import Backlog
from harness_stream.core.fold import Place, fold_header
from harness_stream.core.intake import Intake, units_needed
from harness_stream.core.model import Intent
from harness_stream.core.partition import Signal
from harness_stream.core.rate import LaneRates
from harness_stream.core.state import PARTITION_UNIT
from harness_stream.errors import GarbageRecord
from harness_stream.runtime.admission import admit
from harness_stream.runtime.batch import Batch, Handling
from harness_stream.runtime.checkpoints import Checkpoints
from harness_stream.runtime.counted import count
from harness_stream.runtime.fetching import Fetching
from harness_stream.runtime.inbox import Inbox
from harness_stream.runtime.mover import Moved
from harness_stream.runtime.notices import Notices
from harness_stream.runtime.outbox import body_of
from harness_stream.runtime.takeover import Takeover
from harness_stream.runtime.warming import Warming
from harness_stream.wire.decisions import digest_of, encode_body

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from harness_stream.core.apply import Change
    from harness_stream.core.intake import Input
    from harness_stream.core.join import Tables
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State
    from harness_stream.core.warming import Warmup
    from harness_stream.ports import Delivery, Ends, LogRecord
    from harness_stream.runtime.batch import Taken
    from harness_stream.runtime.dead_letters import DeadLetters
    from harness_stream.runtime.facts import RulesView
    from harness_stream.runtime.folded import Folded
    from harness_stream.runtime.loading import Loader
    from harness_stream.runtime.mover import Mover
    from harness_stream.runtime.outbox import Outbox, Sent
    from harness_stream.runtime.realm import Ports, Realm
    from harness_stream.runtime.snapshots import Snapshots

log = logging.getLogger(__name__)

# Two of them fill IN_FLIGHT_RECORDS_MAX.
BATCH_RECORDS_MAX = limits.IN_FLIGHT_RECORDS_MAX // limits.IN_FLIGHT_BATCHES_MAX
# With 64 partitions a turn stays below FRESH_MS_MAX, so that slow rules do not make the tables look stale.
BATCH_MS_MAX = 10
# Looked at before a batch: so many times what the last one had time for, so that what is left over is seldom looked at
# twice, and a partition whose intents become cheap needs few turns to notice.
AHEAD_FACTOR = 2
# Looked at in one turn when memory is full by size; a busy unit moves to the end with each change.
EVICTIONS_PER_TURN = 64
_ENDED: Final = object()


class Deciding:
    """Answers one partition's inputs under one claim, from `begin` on.

    Args:
        partition: which.
        realm: this realm.
        ports: its ports.
        tables: the four views.
        rules: the rules topic's view.
        loader: fetches cold units.
        folded: the confirmed fold; this object moves it on.
        mover: keeps the state store behind it.
        snapshots: writes it to the chains topic.
        outbox: sends records.
        dead_letters: keeps copies of garbage.
        end: the decision log's end as read with the claim: where the next own record must land.
    """

    def __init__(
        self,
        partition: int,
        realm: Realm,
        ports: Ports,
        tables: Tables,
        rules: RulesView,
        loader: Loader,
        folded: Folded,
        mover: Mover,
        snapshots: Snapshots,
        outbox: Outbox,
        dead_letters: DeadLetters,
        end: int,
    ) -> None:
        self.fault: tuple[Signal, str] | None = None
        self._partition, self._realm, self._ports = partition, realm, ports
        self._tables, self._rules, self._loader = tables, rules, loader
        self._folded, self._mover, self._snapshots, self._outbox = folded, mover, snapshots, outbox
        self._dead_letters = dead_letters
        self._next_offset = end
        self._header = folded.place.header
        self._inbox = Inbox(partition, ports.consumer)
        self._ahead = BATCH_RECORDS_MAX  # how many inputs the next batch looks at
        self._changes: list[Moved] = []
        self._released = False
        self._warming: Warming | None = None
        self._counting: Generator[None, None, None] | None = None
        cold, clock = loader.cold(snapshots), ports.clock
        self._fetching = Fetching(
            loader,
            cold,
            folded.state,
            self._windows_confirmed,
            clock,
            ports.metrics,
            self.fail,
            mover.reached,
            self._took_in,
        )
        self._background: deque[Generator[None, None, None]] = deque([cold.scan(folded.state.all_units)])
        self._rates, self._backlog = LaneRates(realm.lane_rate), Backlog()
        self._notices = Notices(tables["identity"], folded.state, ports.metrics)
        self._takeover = Takeover(self._state, mover, snapshots)
        mover.reign(self._header.epoch, self._header.writer)
        self._checkpoints = Checkpoints(partition, realm, clock, folded, snapshots, outbox)

    def begin(self) -> None:
        """Say that this claim decides, and read inputs.

        Raises:
            BufferError: the local queue is full.
        """
        self._checkpoints.write(self._next_rules())
        self._inbox.start(self._header.next_input)

    # --- what happens to us ---

    @property
    def ready(self) -> bool:
        """Could the next step answer inputs that are already here?"""
        return len(self._inbox) > 0 and not self._released and self._state.in_flight < limits.IN_FLIGHT_BATCHES_MAX

    @property
    def waiting(self) -> int:
        """Inputs that are here and not answered yet."""
        return len(self._inbox)

    @property
    def backlogged(self) -> bool:
        """Does a whole batch wait that the next step could begin?"""
        return len(self._inbox) >= BATCH_RECORDS_MAX and self.ready

    @property
    def at_rest(self) -> bool:
        """Is every input answered that has arrived, and nothing of our own under way?"""
        return not len(self._inbox) and not len(self._outbox)

    @property
    def finished(self) -> bool:
        """After `release`: the final checkpoint is in the log and among the heads, and the store holds everything."""
        behind = self._mover.behind and not self._state.deferred  # what waits, a successor reads from the log
        return self._checkpoints.final and not len(self._outbox) and self._checkpoints.copied and not behind

    @property
    def checkpoint_age_ms(self) -> int:
        """Time since the newest own checkpoint; grows while nothing changes."""
        return self._checkpoints.age_ms

    @property
    def confirmed_end(self) -> int:
        """Offset after the last own record that is known to be in the log."""
        return self._next_offset

    def close(self) -> None:
        """Stop reading, and let go of who refers back here: a partition's state goes at once, not when it is found."""
        self._fetching.close()
        for task in self._background:
            task.close()
        del self._fetching
        self._warming = None

    def offer(self, records: Iterable[LogRecord]) -> None:
        """The next input records."""
        if not self._released:
            self._inbox.offer(records)

    def input_lost(self, low: int) -> None:
        """The log, which begins at `low`, does not lead to the input position: retention overtook it, or a cut did."""
        self._inbox.lost(low, self._header.next_input, self._ports.clock.elapsed_ms())

    def input_bounds(self, ends: Ends) -> None:
        """The input log's bounds: one that was cut may be as long again before anybody could tell that it was short."""
        next_input = self._header.next_input
        if self._inbox.read_on(next_input, ends):
            self._sound_lost(f"the input log was cut; read on from {next_input}")

    def bounds(self, ends: Ends) -> None:
        """The decision log's bounds: an end beyond own records shows a foreign writer."""
        if ends.end > self._next_offset + len(self._outbox):
            self.fail(Signal.FAULT, "a foreign record is in the log")

    def delivered(self, sent: Sent, delivery: Delivery) -> None:
        """The fate of one own record."""
        if self.fault is not None:
            return
        if delivery.offset is None:
            self.fail(Signal.FAULT, f"delivery: {delivery.error}")
        elif delivery.offset != self._next_offset:
            self.fail(Signal.FAULT, f"gap: own record at {delivery.offset}, expected {self._next_offset}")
        else:
            self._next_offset += 1
            self._confirm(sent, delivery.offset)

    def release(self) -> None:
        """Decide nothing more; what is in flight is confirmed, then a final checkpoint is written."""
        self._released = True
        self._inbox.clear()

    def fail(self, signal: Signal, why: str) -> None:
        """Note the first fault; the owner acts on it."""
        self.fault = self.fault or (signal, why)

    def step(self, *, leisure: bool = True) -> None:
        """One turn; with `leisure` units may take in what nobody asks for.

        Nothing is done once a fault is known: what this fold holds may be of records that are lost.

        Raises:
            BufferError: the local queue is full; part of a micro-batch may be in it.
        """
        if self.fault is not None:
            return
        self._work()
        self._follow_up(leisure=leisure)
        self._fetching.step()
        self._run_background()
        self._inbox.refill()
        self._evict()

    def _work(self) -> None:
        self._checkpoints.copy_to_heads()
        if self._released:
            self._checkpoints.finish(self._next_rules)
            return
        self._switch_if_due()
        if self._header.rules is not None:
            self._pass_over_lost()
            self._decide()
        self._notices.step(self._header, self._outbox)
        self._checkpoints.write_if_due(self._next_rules)
        if not self._state.deferred:
            self._write_behind()

    def _write_behind(self) -> None:
        now_ms, confirmed = self._ports.clock.elapsed_ms(), self._windows_confirmed()
        self._snapshots.step(now_ms, self._folded.place, self._state, self._fetching.all_there)
        if confirmed is not None:
            self._takeover.step(confirmed, self._fetching.all_there)

    def _follow_up(self, *, leisure: bool) -> None:
        """The store, once every unit has taken in what the log told of it: its head speaks for all of them."""
        if self._state.deferred:
            if leisure:
                self._fetching.catch_up()
            return
        now_ms, hurry = self._ports.clock.elapsed_ms(), self._released
        if not self._mover.flush(self._folded.place, self._state, now_ms, hurry=hurry):
            self.fail(Signal.STATE_GONE, "the store lost state that is not in memory")

    def _took_in(self, units: frozenset[str]) -> None:
        self._mover.changed(units, ())
        self._snapshots.changed(units)

    def _run_background(self) -> None:
        if self._background and next(self._background[0], _ENDED) is _ENDED:
            self._background.popleft()

    # --- micro-batches ---

    @property
    def _state(self) -> State:
        return self._folded.state

    def _set_back(self, decided_at: int) -> bool:
        """Was the wall clock set back since this turn began? The next one says anew how fresh the tables are."""
        return any(table.fresh_as_of > decided_at for table in self._tables.values())

    def _decide(self) -> None:
        if not len(self._inbox):
            return
        room = limits.IN_FLIGHT_RECORDS_MAX - len(self._outbox)
        full = self._state.in_flight >= limits.IN_FLIGHT_BATCHES_MAX or self._outbox.size >= limits.IN_FLIGHT_BYTES_MAX
        if room <= 0 or full:
            return
        size_max = 1 if self._header.crash_claims else min(room, self._ahead, BATCH_RECORDS_MAX)
        candidates = self._inbox.first(size_max)
        self._admit(candidates)
        all_there = self._fetch_needed(candidates)
        if self.fault is not None:  # what a unit should have taken in cannot be read: nothing is judged without it
            return
        started_ms = self._ports.clock.elapsed_ms()
        batch = self._new_batch()
        if self._set_back(batch.decided_at):
            self._state.pop()
            return
        self._take_in_time(batch, candidates, started_ms, all_there=all_there)
        batch.finish()
        self._publish(batch)
        count(self._ports.metrics, batch.records, self._ports.clock.elapsed_ms() - started_ms)

    def _take_in_time(self, batch: Batch, candidates: Sequence[Taken], started_ms: int, *, all_there: bool) -> None:
        """Answer the first ones; how many there was time for says how many the next batch looks at."""
        for number, taken in enumerate(candidates):
            if self._ports.clock.elapsed_ms() - started_ms > BATCH_MS_MAX:
                self._ahead = AHEAD_FACTOR * max(1, number)
                return
            if not self._take(batch, taken, all_there=all_there):
                return
            self._inbox.answered()
        self._ahead = min(AHEAD_FACTOR * self._ahead, BATCH_RECORDS_MAX)

    def _pass_over_lost(self) -> None:
        low = self._inbox.kept_from
        if low <= self._header.next_input or self._state.in_flight >= limits.IN_FLIGHT_BATCHES_MAX:
            return
        self._sound_lost(f"input up to offset {low - 1} was lost to retention")
        batch = self._new_batch()
        batch.input_lost(low - 1)
        self._publish(batch)
        self._inbox.start(low)

    def _sound_lost(self, what: str) -> None:
        sound(log, Alarm.INPUT_LOST, f"partition {self._partition}: {what}")
        self._ports.metrics.count("harness_security_events_total", reason=Alarm.INPUT_LOST)

    def _admit(self, candidates: Sequence[Taken]) -> None:
        for taken in candidates:
            if taken.event is None and taken.garbage is None:
                try:
                    taken.event = admit(taken.record, self._realm.name, self._ports.verifier, self._tables)
                except GarbageRecord as garbage:
                    # Not the one that was raised: it refers to this very frame, and whoever sends garbage fills memory.
                    taken.garbage = GarbageRecord(garbage.reason, garbage.detail)
                    self._dead_letters.bury(taken.record, garbage)

    def _take(self, batch: Batch, taken: Taken, *, all_there: bool) -> bool:
        """Answer one input; False if it waits for cold state."""
        missing = [] if all_there and _needs_the_same(taken.event) else self._missing([taken])
        if missing and self._worth_waiting(taken, missing):
            return False
        handling = Handling.UNAVAILABLE if missing else Handling.EVALUATE
        if self._header.crash_claims >= limits.QUARANTINE_CLAIMS and not missing:
            handling = Handling.QUARANTINE
            what = f"partition {self._partition}: input {taken.record.offset} is set aside unevaluated"
            sound(log, Alarm.QUARANTINED, what)
        if taken.record.offset >= batch.next_input:
            batch.take(taken, handling)
        return True

    def _worth_waiting(self, taken: Taken, missing: Sequence[str]) -> bool:
        """Until its deadline; after a fault everything is decided anew."""
        event = taken.event
        deadline_ms = event.deadline_ms if isinstance(event, Intent) else None
        waited_ms = self._ports.clock.now_ms() - (taken.record.timestamp_ms or 0)
        late = deadline_ms is not None and waited_ms > deadline_ms
        return self.fault is not None or (not late and self._fetching.may_come(missing))

    def _missing(self, candidates: Iterable[Taken]) -> list[str]:
        if self._state.complete:
            return []
        needed = dict.fromkeys(unit for taken in candidates for unit in self._units_needed(taken))
        return [unit for unit in needed if not self._state.has(unit)]

    def _new_batch(self) -> Batch:
        rules, windows = self._header.rules, self._windows_in_force()
        if rules is None or windows is None:
            raise AssertionError("deciding without the bundle in force")
        self._state.push()
        place = self._partition, self._realm.partitions
        intake = Intake(*place, self._state, self._tables, windows, rules, rates=self._rates, backlog=self._backlog)
        return Batch(self._header, intake, self._ports.clock.now_ms())

    def _windows_in_force(self) -> Windows | None:
        return self._windows_of(self._header.rules)

    def _windows_confirmed(self) -> Windows | None:
        return self._windows_of(self._folded.place.header.rules)

    def _windows_of(self, rules: tuple[str, int] | None) -> Windows | None:
        return None if rules is None else self._rules.windows(rules[0])

    def _units_needed(self, taken: Taken) -> tuple[str, ...]:
        return () if taken.event is None else units_needed(taken.event, self._tables, self._state)

    def _fetch_needed(self, candidates: Sequence[Taken]) -> bool:
        """What is fetched may name more: an approval's held intent its parent, and that one its tree's root.

        Returns:
            Whether everything that they need now is in memory.
        """
        for _ in range(3):
            missing = self._missing(candidates)
            if not missing or not self._fetching.bring(missing):
                return not missing
        return False

    def _publish(self, batch: Batch) -> None:
        if not batch.records:
            self._state.pop()
            return
        self._header = batch.header
        self._outbox.send_batch(batch.records)
        if self._warming is not None:
            self._warming.published(linked.change for linked in batch.records if linked.change is not None)

    def _switch_if_due(self) -> None:
        active, rules = self._rules.active, self._header.rules
        if active is None or (rules is not None and active[1] <= rules[1]):
            return
        new = self._rules.windows(active[0])
        if new is None:
            return
        if self._warming is None or self._warming.revision != active[1]:
            self._warming = self._warm(new, active[1])
        # What units still have to take in was decided by the set in force.
        free = not self._state.deferred and self._state.in_flight < limits.IN_FLIGHT_BATCHES_MAX
        if self._warming.ready and free:
            self._switch(active, new, self._warming.warmup)
            self._warming = None

    def _warm(self, new: Windows, revision: int) -> Warming:
        """Begin to count the new windows; what was begun for another revision is given up."""
        old, cold = self._windows_in_force(), self._rules.now
        fresh = frozenset() if cold else counting.fresh_windows(self._state, old, new, warmed=True)
        history, place, narrowed = self._loader.history, self._folded.place, new.narrowed(fresh)
        warming = Warming(history, narrowed, revision, place, self._published_now)
        if self._counting is not None:
            self._counting.close()
        self._counting = warming.run(self._ports.clock.now_ms())
        self._background.append(self._counting)
        return warming

    def _published_now(self) -> tuple[Place, int, list[Change]]:
        return self._folded.place, self._next_offset, self._outbox.changes()

    def _switch(self, active: tuple[str, int], new: Windows, warmup: Warmup | None) -> None:
        next_input = self._header.next_input
        body = {
            **body_of("switch", self._folded.place.header),
            "prev": self._header.head,
            "covers": [next_input, next_input - 1],
            "rules": {"digest": active[0], "revision": active[1]},
            "warmed": None if warmup is None else warmup.place.to_json(),
        }
        header = fold_header(self._header, body, digest_of(encode_body(body)))
        if header is None:
            raise AssertionError("own switch would be void")
        self._state.push()
        counting.switched(self._state, self._windows_in_force(), new, self._header.t, active[1], warmup)
        self._header = header
        self._outbox.send(body, header, closes_layer=True)
        log.info("partition %d: rules %s, revision %d", self._partition, active[0][:12], active[1])

    # --- confirming ---

    def _confirm(self, sent: Sent, offset: int) -> None:
        if sent.body["kind"] == "checkpoint":
            self._checkpoints.confirmed(sent)
        if sent.change is not None:
            self._changes.append(Moved(sent.change, offset, sent.units))
        if sent.closes_layer and sent.header is not None:
            # Only whole micro-batches are confirmed: a rollback drops layers, so the place may never be inside of one.
            self._folded.place = Place(sent.header, offset, sent.digest)
            touched = self._state.confirm()
            self._mover.changed(touched, self._changes, whole=self._takeover.due(touched))
            self._snapshots.changed(touched)
            self._changes = []
            waited_ms = self._ports.clock.elapsed_ms() - sent.sent_ms
            self._ports.metrics.observe("harness_confirm_seconds", waited_ms / 1000)

    def _next_rules(self) -> dict[str, Any] | None:
        """What stands between a pushed bundle and this partition."""
        active, rules = self._rules.active, self._folded.place.header.rules
        if self._rules.problem:
            return {"revision": self._rules.wanted, "state": "unusable", "detail": self._rules.problem}
        if active is None or (rules is not None and active[1] <= rules[1]):
            return None
        progress = "" if self._warming is None else self._warming.progress
        return {"revision": active[1], "state": "warming", "detail": progress}

    # --- memory ---

    def _evict(self) -> None:
        """Let idle units leave memory, if store and snapshots hold them as they are."""
        surplus = len(self._state) - self._realm.hot_units_max
        if surplus <= 0 and self._state.hot_bytes <= self._realm.hot_bytes_max:
            return
        awaited = {unit for taken in self._inbox.first(1) for unit in self._units_needed(taken)}  # may come one by one
        for unit in list(islice(self._state.units(), max(surplus, EVICTIONS_PER_TURN))):
            if len(self._state) <= self._realm.hot_units_max and self._state.hot_bytes <= self._realm.hot_bytes_max:
                return
            if unit == PARTITION_UNIT or not (self._mover.is_clean(unit) and self._snapshots.is_clean(unit)):
                continue
            if unit not in awaited and self._state.has(unit) and not self._state.is_open(unit):
                self._state.evict(unit)


def _needs_the_same(event: Input | None) -> bool:
    """Whatever was decided since it was looked at? Others name what an earlier one of the batch may have changed."""
    return event is None or (isinstance(event, Intent) and event.parent is None)
