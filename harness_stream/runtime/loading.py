"""LOADING: from a checkpoint and stored state to the end of the decision log (PROTOCOL §5, §6).

Rule of this file: every source is only a place to start from; the log decides. State comes from the store if it stands
on this very log, else from snapshots, else from the log's first record; if none of them reaches, the partition halts.
Steps are generators that yield whenever they would have to wait, so that one partition's loading never holds up
another.
"""

from __future__ import annotations

import logging
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import orjson

from harness_stream.alarms import Alarm, sound
from harness_stream.core import counting, limits
from harness_stream.core.audit.void import strangers_text
from harness_stream.core.deferred import units_in
from harness_stream.core.fold import ANSWERS, Place
from harness_stream.core.groups import generation
from harness_stream.core.partition import Signal
from harness_stream.core.reigns import REIGNS_KEY, outlived
from harness_stream.core.state import PARTITION_UNIT, State, Unit
from harness_stream.core.units import decode_parts, replay_unit
from harness_stream.core.warming import Warmup
from harness_stream.errors import StateUnavailable
from harness_stream.runtime.cold import Cold
from harness_stream.runtime.folded import NO_BUNDLE, Body, Folded, windows_at
from harness_stream.runtime.history import STEP_MS_MAX, History, Tail, ahead_text, checkpoint_in, moved_text
from harness_stream.runtime.mover import is_filling
from harness_stream.runtime.progress import Progress
from harness_stream.runtime.snapshots import PLACE_KEY, Gathered, Snapshot
from harness_stream.runtime.taking import CannotLoadError, take_in_oldest
from harness_stream.wire.decisions import body_of, digest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from harness_stream.core.reigns import Reign
    from harness_stream.core.rules.windows import Windows
    from harness_stream.ports import Ends, LogRecord, StoredHead
    from harness_stream.runtime.facts import RulesView
    from harness_stream.runtime.reading import Reading
    from harness_stream.runtime.realm import Ports, Realm
    from harness_stream.runtime.snapshots import Snapshots

log = logging.getLogger(__name__)

# What units may wait for, in shares of what they themselves may have where they are stored: together 0.4 GiB a worker.
DEFERRED_SHARE: Final = 2

FOLLOWED_RECORDS: Final = 64  # between two looks at the clock: about a millisecond
# Most records by far, of which nothing is done before the checkpoint is reached but to note them.
TRUSTED: Final = ANSWERS

T = TypeVar("T")


def _state_of(partition: Unit, units: Mapping[str, Snapshot]) -> State:
    """What snapshots hold; who is one piece stays bytes until somebody looks into it."""
    state = State(decode=_unpacked)
    state.install(PARTITION_UNIT, partition)
    for name, (_, _, pieces) in units.items():
        if len(pieces) == 1:
            state.install_packed(name, *pieces)
        else:
            state.install(name, _unpacked(*pieces), sum(map(len, pieces)))
    return state


def _unpacked(*pieces: bytes) -> Unit:
    try:
        return decode_parts(pieces)
    except ValueError as error:
        raise CannotLoadError(Signal.UNEXTENDABLE, f"a snapshot cannot be read: {error}") from None


class Loader:
    """Loads one partition.

    Args:
        partition: which.
        realm: this realm.
        ports: its ports.
        reading: the worker's reader.
        rules: the rules topic's view.
        tail: follows this partition's decision log.

    Attributes:
        history: the partition's decision log, read back.
    """

    def __init__(
        self, partition: int, realm: Realm, ports: Ports, reading: Reading, rules: RulesView, tail: Tail
    ) -> None:
        self._partition, self._realm, self._ports = partition, realm, ports
        self._reading, self._rules, self._tail = reading, rules, tail
        self._reigns: tuple[Reign, ...] = ()
        self._lost: set[tuple[int, int]] = set()  # (epoch, as of which record): snapshots that stand on none
        self._doubted = False  # the last load's hashes did not lead to the checkpoint
        self.history = History(partition, realm, ports, reading, tail)

    def load(self, *, trust_store: bool, patient: bool) -> Generator[None, None, Folded]:
        """The fold at the log's end.

        Args:
            trust_store: may it begin from the store?
            patient: may units take in later what changed them?

        Raises:
            CannotLoadError: UNEXTENDABLE if the log contradicts a checkpoint or history is gone; FAULT to try again.
        """
        verdicts = self._realm.topics.verdicts
        while not self._rules.complete:
            yield
        checkpoint = yield from self._newest_checkpoint()
        ends = yield from self._bounds(verdicts, self._tail)
        if checkpoint is not None and checkpoint["verdict_offset"] >= ends.end:
            why = f"the log ends at {ends.end}, before checkpoint {_name(checkpoint)}"
            raise CannotLoadError(Signal.UNEXTENDABLE, why)
        folded = yield from self._start(checkpoint, ends, trust_store=trust_store)
        folded.checkpoint = checkpoint
        folded.deferred_bytes_max = DEFERRED_SHARE * self._realm.hot_bytes_max if patient else 0
        yield from self._count_open_warmups(folded)
        try:
            yield from self._fold_chained(folded, ends.low, max(ends.end, folded.end), checkpoint)
            _require_own_kind(folded)
            self._require_standing(folded)
        finally:
            self._reading.stop(verdicts, self._partition)
            self._tail.drain()
        return folded

    def fold_from(self, folded: Folded, bounds: Ends) -> Generator[None, None, None]:
        """Fold what was appended up to the log's end, after a claim or a fault.

        Raises:
            CannotLoadError: STATE_GONE if the log does not go on from where this fold stands: it was cut, and whoever
                loads again finds out what of the state stands on what is left.
        """
        self._tail.drain()
        place = folded.place
        expected = {place.offset: {place.digest}} if place.offset >= bounds.low else {}
        start = max(bounds.low, place.offset if expected else place.offset + 1)
        self._reading.follow(self._realm.topics.verdicts, self._partition, start, self._tail)
        try:
            yield from self._drain_to(folded, bounds.end, expected)
        except CannotLoadError as error:
            signal = Signal.STATE_GONE if error.signal is Signal.UNEXTENDABLE else error.signal
            raise CannotLoadError(signal, error.why) from error
        finally:
            self._reading.stop(self._realm.topics.verdicts, self._partition)
            self._tail.drain()

    def progress(self, what: str, first: int, end: int, phase: str = "loading") -> Progress:
        """Says how far something is that takes long."""
        return Progress(self._partition, what, first, end, self._ports.clock, phase)

    def cold(self, snapshots: Snapshots) -> Cold:
        """What brings cold units from their snapshots."""
        place = self._partition, self._realm, self._ports, self._reading
        return Cold(*place, self.history, snapshots, lambda: self._reigns)

    def bounds(self) -> Generator[None, None, Ends]:
        """The decision log's bounds, asked for now."""
        return (yield from self.history.bounds())

    def fetch(
        self, state: State, units: Iterable[str], windows: Windows, judge: Callable[[StoredHead | None], None]
    ) -> None:
        """One bounded fetch: the first of `units` that are stored and not in memory, and as many more as a call brings.

        Args:
            state: takes them.
            units: which.
            windows: the confirmed bundle.
            judge: raises CannotLoadError if a store that stands there does not hold them as they are wanted. It is told
                where the store stood after they were read, so that another one that took its place is noticed.

        Raises:
            StateUnavailable: the store does not answer.
            CannotLoadError: STATE_GONE if the store lost one of them, or holds what is none; what `judge` raises.
        """
        missing = list(islice((u for u in dict.fromkeys(units) if state.is_elsewhere(u)), limits.COLD_FETCH_UNITS_MAX))
        partition = state.confirmed(PARTITION_UNIT)
        found = self._ports.store.load(self._partition, missing)
        judge(self._ports.store.head(self._partition))
        for name, unit in found.items():
            if unit is None or unit.base is None:  # deltas alone: the server evicted what they were appended to
                raise CannotLoadError(Signal.STATE_GONE, f"the store lost a unit: {name}")
            try:
                values = replay_unit(name, unit.base, unit.deltas, partition, windows)
            except ValueError as error:
                raise CannotLoadError(Signal.STATE_GONE, f"the store holds no unit: {name}, {error}") from None
            state.install(name, values, unit.size)

    def _fetch_all(
        self, state: State, units: Sequence[str], windows: Windows, stored: StoredHead | None, moved: Signal
    ) -> Generator[None, None, None]:
        """All of `units`, from a store that stands at `stored`: elsewhere they may be ahead of the fold, or behind."""

        def judge(at: StoredHead | None) -> None:
            if at is None or at != stored:
                raise CannotLoadError(moved, "another worker moved the store meanwhile")

        while any(state.is_elsewhere(unit) for unit in units):
            yield from self._answered(lambda: self.fetch(state, units, windows, judge))
            yield

    def _answered(self, question: Callable[[], T]) -> Generator[None, None, T]:
        """The store's answer: one that is late once is no reason to do without it.

        Raises:
            StateUnavailable: it did not answer for STORE_PATIENCE_MS.
        """
        clock = self._ports.clock
        began_ms = clock.elapsed_ms()
        while True:
            try:
                return question()
            except StateUnavailable:
                if clock.elapsed_ms() - began_ms >= limits.STORE_PATIENCE_MS:
                    raise
            yield

    # --- where to start ---

    def _newest_checkpoint(self) -> Generator[None, None, Body | None]:
        """The newest of this partition in the heads topic, which compaction keeps small; others are passed."""
        heads, tail = self._realm.topics.heads, Tail()
        self._reading.watch(heads, self._partition, tail)
        try:
            ends = yield from self._bounds(heads, tail)
            if ends.end == ends.low:
                return None
            self._reading.follow(heads, self._partition, ends.low, tail)
            found: Body | None = None
            while self._reading.position(heads, self._partition) < ends.end or tail.records:
                for record in tail.drain():
                    found = checkpoint_in(record, self._realm, self._partition, self._ports.verifier) or found
                yield
            return found
        finally:
            self._reading.drop(heads, self._partition)

    def _bounds(self, topic: str, tail: Tail) -> Generator[None, None, Ends]:
        """Bounds asked for after this call began."""
        tail.ends = None
        asked_ms = self._ports.clock.elapsed_ms()
        self._reading.ask(topic, self._partition, asked_ms)
        while tail.ends is None or tail.ends.asked_at_ms < asked_ms:
            yield
        return tail.ends

    def _start(self, checkpoint: Body | None, ends: Ends, *, trust_store: bool) -> Generator[None, None, Folded]:
        met = yield from self._store_head()
        folded = (yield from self._from_store(met, ends, checkpoint)) if trust_store and met is not None else None
        folded = folded or (yield from self._from_log(checkpoint, ends))
        folded.store_met = met
        return folded

    def _store_head(self) -> Generator[None, None, StoredHead | None]:
        try:
            return (yield from self._answered(lambda: self._ports.store.head(self._partition)))
        except StateUnavailable:
            return None

    def _from_log(self, checkpoint: Body | None, ends: Ends) -> Generator[None, None, Folded]:
        if checkpoint is not None and checkpoint["snapshot_cut"] >= 0:
            found = yield from self._from_snapshots(ends, checkpoint)
            if found is not None:
                return found
        if ends.low > 0:
            why = f"the log begins at {ends.low} and no snapshot that stands on it reaches it"
            raise CannotLoadError(Signal.UNEXTENDABLE, why)
        return Folded(Place.genesis(self._realm.incarnation, self._partition), State())

    def _reaches(self, place: Place, ends: Ends, checkpoint: Body | None) -> bool:
        """Can the log continue this place? What retention took must have been nothing but checkpoints.

        The newest checkpoint says so if it names this very record as the last effective one: in a partition at rest all
        later records are checkpoints too, and one is written every CHECKPOINT_IDLE_MS.
        """
        if place.offset >= ends.end:
            return ends.end == ends.low and self._at_rest(place, checkpoint)
        return place.offset >= ends.low - 1 or self._at_rest(place, checkpoint)

    def _at_rest(self, place: Place, checkpoint: Body | None) -> bool:
        return checkpoint is not None and checkpoint["record_digest"] == place.digest

    def _from_store(
        self, head: StoredHead, ends: Ends, checkpoint: Body | None
    ) -> Generator[None, None, Folded | None]:
        if is_filling(head):
            return None
        try:
            place = Place.from_json(orjson.loads(head.header))
            if place.header.incarnation != self._realm.incarnation:
                return None
            if not self._reaches(place, ends, checkpoint):
                yield from self._tell_if_lost(place)
                return None
            names = yield from self._names(head)
            windows = self._rules.windows(place.header.rules[0]) if place.header.rules else None
            # Before the first rules nothing is kept but who claimed.
            state = State(elsewhere=names if windows is not None else [n for n in names if n != PARTITION_UNIT])
            if windows is not None:
                yield from self._fetch_all(state, [PARTITION_UNIT], windows, head, Signal.FAULT)
        except CannotLoadError as error:
            if error.signal is Signal.FAULT:  # it moved meanwhile; it may still be where to start from
                raise
            return None
        except (StateUnavailable, ValueError, KeyError, TypeError):
            return None
        return Folded(place, state, stored=head, epoch_seen=place.header.epoch)

    def _names(self, head: StoredHead) -> Generator[None, None, frozenset[str]]:
        """Of all units: a store that moved, or lost some meanwhile, does not stand there any more.

        Raises:
            CannotLoadError: FAULT, it does not.
            StateUnavailable: it does not answer.
        """
        store = self._ports.store
        names = yield from self._answered(lambda: store.units(self._partition))
        if (yield from self._answered(lambda: store.head(self._partition))) != head:
            raise CannotLoadError(Signal.FAULT, "the store was moved, or lost names, while it was read")
        return names

    def _tell_if_lost(self, place: Place) -> Generator[None, None, None]:
        """The log does not reach what the store was moved by; a live owner may have gone on since it was asked."""
        end = (yield from self._bounds(self._realm.topics.verdicts, self._tail)).end
        if place.offset >= end:
            self._decisions_lost(ahead_text(place.offset, end))

    def _decisions_lost(self, what: str) -> None:
        """A store holds only what was acknowledged. It vouches for nothing, so it halts nobody, but is told."""
        sound(log, Alarm.DECISIONS_LOST, f"partition {self._partition}: {what}")
        self._ports.metrics.count("harness_security_events_total", reason=Alarm.DECISIONS_LOST)

    def _from_snapshots(self, ends: Ends, checkpoint: Body) -> Generator[None, None, Folded | None]:
        gathered = yield from self._snapshots()
        units = gathered.units
        # A live owner may have gone on since `ends`, but no snapshot may be ahead of the log.
        end = (yield from self._bounds(self._realm.topics.verdicts, self._tail)).end
        if (furthest := max((unit.as_of for unit in units.values()), default=-1)) >= end:
            why = f"the log ends at {end}, and a snapshot holds what the record at {furthest} changed"
            raise CannotLoadError(Signal.UNEXTENDABLE, why)
        seal = units.pop(PARTITION_UNIT, None)
        values = {} if seal is None else _unpacked(*seal.pieces)
        if seal is None or PLACE_KEY not in values:
            return None
        place = Place.from_json(values.pop(PLACE_KEY))
        if not self._reaches(place, ends, checkpoint):
            return None
        if self._stands_on_nothing(gathered, values):
            return None
        if gathered.broken:
            why = f"a snapshot cannot be read: {min(gathered.broken)}"
            raise CannotLoadError(Signal.UNEXTENDABLE, why)
        state, newer = _state_of(values, units), {n: unit for n, unit in units.items() if unit.as_of > seal.as_of}
        state.deferred.ahead = {name: unit.as_of for name, unit in newer.items()}
        stand_on = frozenset((unit.epoch, unit.as_of) for unit in newer.values())
        unmet = {as_of for _, as_of in stand_on}
        return Folded(place, state, epoch_seen=place.header.epoch, snapshots=stand_on, unmet=unmet, end=end)

    def _stands_on_nothing(self, gathered: Gathered, seal: Unit) -> bool:
        """Is there a unit whose newest snapshot is of lost records?

        Then none may be begun from: the good one of that unit may be gone, and the log is folded from the seal on only.
        """
        known = {(found.epoch, found.as_of) for found in gathered.units.values()}
        return bool(known & self._lost or gathered.lost((*(seal.get(REIGNS_KEY) or ()), *self._reigns)))

    def _require_standing(self, folded: Folded) -> None:
        """Snapshots may be newer than their seal, and than an owner's notice that its log was cut.

        Raises:
            CannotLoadError: FAULT, one stands on no record of this log; the next load does without any.
        """
        self._reigns = folded.reigns
        lost = {
            (epoch, as_of)
            for epoch, as_of in folded.snapshots
            if as_of in folded.unmet or outlived(self._reigns, epoch, as_of)
        }
        if lost:
            self._lost |= lost
            why = f"a snapshot stands on the record at {min(as_of for _, as_of in lost)}, which was lost"
            raise CannotLoadError(Signal.FAULT, why)

    def _snapshots(self) -> Generator[None, None, Gathered]:
        topic, tail, gathered = self._realm.topics.chains, Tail(), Gathered(self._realm.incarnation)
        self._reading.watch(topic, self._partition, tail)
        try:
            bounds = yield from self._bounds(topic, tail)
            self._reading.follow(topic, self._partition, bounds.low, tail)
            progress = self.progress("snapshots", bounds.low, bounds.end)
            while (position := self._reading.position(topic, self._partition)) < bounds.end or tail.records:
                for record in tail.drain():
                    gathered.take(record)
                progress.at(position)
                yield
        finally:
            self._reading.drop(topic, self._partition)
        return gathered

    # --- folding ---

    def _fold_chained(
        self, folded: Folded, low: int, end: int, checkpoint: Body | None
    ) -> Generator[None, None, None]:
        """Fold to `end`; what leads to the checkpoint by its hashes needs no signatures, unless it just did not.

        Raises:
            CannotLoadError: FAULT, what was believed so far came to no good end; else as folding.
        """
        if checkpoint is not None:
            folded.begin_chain(Place.from_json(checkpoint), trusting=not self._doubted)
        try:
            yield from self._fold_to(folded, low, end, checkpoint)
        except CannotLoadError as error:
            self._doubted = folded.trusting and error.signal is Signal.UNEXTENDABLE
            if not self._doubted:
                raise
            why = f"{error.why}; the next load looks at every signature"
            raise CannotLoadError(Signal.FAULT, why) from error
        self._doubted = False

    def _fold_to(self, folded: Folded, low: int, end: int, checkpoint: Body | None) -> Generator[None, None, None]:
        """Fold to `end`; what was started from and the checkpoint must stand in this very log."""
        expected: dict[int, set[str]] = {}  # both may name one offset: a resume's record stands where another one was
        if folded.place.offset >= 0:
            expected[folded.place.offset] = {folded.place.digest}
        if checkpoint is not None and checkpoint["verdict_offset"] >= 0:
            expected.setdefault(checkpoint["verdict_offset"], set()).add(checkpoint["record_digest"])
        # What retention took can no longer be compared.
        expected = {offset: digests for offset, digests in expected.items() if offset >= low}
        start = max(low, min([*expected, folded.place.offset + 1]))
        self._tail.drain()
        self._reading.follow(self._realm.topics.verdicts, self._partition, start, self._tail)
        yield from self._drain_to(folded, end, expected)

    def _drain_to(self, folded: Folded, end: int, expected: dict[int, set[str]]) -> Generator[None, None, None]:
        """Fold to `end`; `expected` says which records must be in the log, and is used up."""
        verdicts, done = self._realm.topics.verdicts, False
        progress = self.progress("records of the decision log", folded.place.offset + 1, end)
        while not done:
            done = self._reading.position(verdicts, self._partition) >= end
            drained = self._tail.drain()
            warmed_at = yield from self._fold_some(folded, drained, expected)
            if warmed_at is not None:  # the stretch it was counted from was read in between
                self._reading.follow(verdicts, self._partition, warmed_at + 1, self._tail)
                done = False
            progress.at(max(folded.read, folded.place.offset) + 1)
            if not done:
                yield
        self._compare(folded, end, "", expected)
        folded.chain_ends()

    def _fold_some(
        self, folded: Folded, drained: Sequence[LogRecord], expected: dict[int, set[str]]
    ) -> Generator[None, None, int | None]:
        """Fold these, or up to one whose switch was warmed: its offset."""
        end_ms, at = self._ports.clock.elapsed_ms() + STEP_MS_MAX, 0
        while at < len(drained):
            if self._is_past(end_ms):
                yield
                end_ms = self._ports.clock.elapsed_ms() + STEP_MS_MAX
            followed = self._follow(folded, drained[at : at + FOLLOWED_RECORDS], expected)
            if followed:
                at += followed
                continue
            record, at = drained[at], at + 1
            offset, digest = record.offset, digest_of(record.value or b"")
            if expected:
                self._compare(folded, offset, digest, expected)
            if folded.chained_to is not None and offset > folded.chained_to.offset:
                folded.chain_ends()
            body = body_of(record.value or b"")
            after = folded.place.after(offset, body, digest)
            trusted = folded.trusting and after is not None and body["kind"] in TRUSTED
            if not trusted and not self._is_next(folded, record):
                continue
            switches = body["kind"] == "switch" and after is not None
            if switches or folded.state.deferred.size > folded.deferred_bytes_max:
                yield from self._take_in_all(folded)
            if switches and body.get("warmed"):
                yield from self._count_warmup(folded, offset, body)
                folded.take(record, body, digest, after, self._rules)
                return offset
            folded.take(record, body, digest, after, self._rules)
        if folded.state.deferred.size > folded.deferred_bytes_max:
            yield from self._take_in_all(folded)
        return None

    def _follow(self, folded: Folded, records: Sequence[LogRecord], expected: Iterable[int]) -> int:
        """Of those before what must be in the log; how many were folded by their links alone."""
        if not folded.trusting or folded.chained_to is None:
            return 0
        first = min(expected, default=folded.chained_to.offset)
        if records[-1].offset >= first:
            records = [record for record in records if record.offset < first]
        return folded.follow(records, self._rules)

    def _is_next(self, folded: Folded, record: LogRecord) -> bool:
        """Is a record that no hashes vouch for authentic, and was it not folded before?"""
        authentic = self._ports.verifier.decision_authentic(record)
        folded.met(record, authentic=authentic)
        return authentic and record.offset > folded.place.offset

    def _take_in_all(self, folded: Folded) -> Generator[None, None, None]:
        """No unit waits any longer: their rules are about to change, or it was too much."""
        state, end_ms = folded.state, self._ports.clock.elapsed_ms() + STEP_MS_MAX
        progress = self.progress("records taken in by their units", 0, state.deferred.records)
        while state.deferred:
            windows = windows_at(self._rules, folded.place)
            coming = state.deferred.coming(limits.COLD_FETCH_UNITS_MAX)
            units = [unit for group in coming for unit in units_in(group) if state.is_elsewhere(unit)]
            yield from self._fetch_all(state, units, windows, folded.stored, folded.store_moved)
            folded.touched |= take_in_oldest(state, windows, partial(self._is_past, end_ms))
            if self._is_past(end_ms):
                progress.left(state.deferred.records)
                yield
                end_ms = self._ports.clock.elapsed_ms() + STEP_MS_MAX

    def _is_past(self, end_ms: int) -> bool:
        return self._ports.clock.elapsed_ms() >= end_ms

    def _count_open_warmups(self, folded: Folded) -> Generator[None, None, None]:
        """Units in the store may still have to take over what switches before it warmed."""
        partition = folded.state.confirmed(PARTITION_UNIT)
        for revision, place in (partition.get(counting.WARMUPS_KEY) or {}).items():
            windows = windows_at(self._rules, folded.place)
            fresh = [s.id for s in windows.specs if generation(folded.state, s.id) == int(revision)]
            warmup = Warmup(windows.narrowed(fresh), Place.from_json(place))
            began = warmup.since
            yield from self.history.count(warmup, folded.place.offset + 1, int(revision), folded.place.header.t)
            if warmup.since is not None and warmup.since != began:
                counting.unseen(folded.state, int(revision), warmup.since)
                folded.touched.add(PARTITION_UNIT)
            folded.state.warmed[int(revision)] = warmup.units(int(revision))

    def _count_warmup(self, folded: Folded, offset: int, body: Body) -> Generator[None, None, None]:
        """The next record is a switch that was warmed: count what it was warmed with."""
        rules = body["rules"]
        old, new = windows_at(self._rules, folded.place), self._rules.windows(rules["digest"])
        if new is None:
            raise CannotLoadError(Signal.FAULT, NO_BUNDLE)
        fresh = counting.fresh_windows(folded.state, old, new, warmed=True)
        warmup = Warmup(new.narrowed(fresh), Place.from_json(body["warmed"]))
        yield from self.history.count(warmup, offset, rules["revision"], folded.place.header.t)
        folded.warmups[rules["revision"]] = warmup

    def _compare(self, folded: Folded, offset: int, digest: str, expected: dict[int, set[str]]) -> None:
        """What must be in the log up to `offset` is, and `digest` is what stands there (nothing at the log's end)."""
        for at in [at for at in expected if at <= offset]:
            if expected.pop(at) != ({digest} if at == offset else None):
                self._contradicted(folded, at)

    def _contradicted(self, folded: Folded, offset: int) -> None:
        if folded.stored_at == offset:
            self._decisions_lost(moved_text(offset))
            raise CannotLoadError(Signal.STATE_GONE, f"the store does not stand on this log (offset {offset})")
        checkpoint = folded.checkpoint is not None and folded.checkpoint["verdict_offset"] == offset
        named = "the checkpoint names" if checkpoint else "the snapshots stand on"
        raise CannotLoadError(Signal.UNEXTENDABLE, f"the record at {offset} is not the one {named}")


def _require_own_kind(folded: Folded) -> None:
    """A log that others have begun, and of which nothing is believed, is not to be begun a second time (PROTOCOL §3).

    Raises:
        CannotLoadError: UNEXTENDABLE.
    """
    if folded.strangers and not folded.believed and folded.checkpoint is None:
        why = f"{strangers_text(folded.strangers)}; look at the worker's settings"
        raise CannotLoadError(Signal.UNEXTENDABLE, why)


def _name(checkpoint: Body) -> str:
    return f"{checkpoint['verdict_offset']} (epoch {checkpoint['epoch']})"
