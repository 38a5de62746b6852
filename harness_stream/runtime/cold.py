"""Cold units from their snapshots, for when the store does not answer (PROTOCOL §6).

Rule of this file: a unit is brought only as it is confirmed. A clean one stands so in its newest snapshot. One that
changed between the snapshots' cut and the store that was loaded, and was not in memory since, stands where that store
did: there the decision log takes it, from the place that seals the snapshots. Of any other unit nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness_stream.core import limits
from harness_stream.core.apply import change_of, units_of
from harness_stream.core.counting import WARMUPS_KEY
from harness_stream.core.fold import CHANGING, Place
from harness_stream.core.reigns import outlived
from harness_stream.core.state import PARTITION_UNIT
from harness_stream.core.units import Delta, as_of, decode_unit, is_of_another_version, replay_unit, stands_at
from harness_stream.runtime.history import Readback, Tail
from harness_stream.runtime.snapshots import PLACE_KEY, Key, key_of
from harness_stream.runtime.taking import UNREADABLE, CannotReadError
from harness_stream.wire.decisions import body_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from harness_stream.core.reigns import Reign
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State, Unit
    from harness_stream.runtime.history import History
    from harness_stream.runtime.reading import Reading
    from harness_stream.runtime.realm import Ports, Realm
    from harness_stream.runtime.snapshots import Snapshots

# Reading over so many records, at about 4 KiB each, costs no more than another positioned read.
GAP_RECORDS: Final = 64


class _Found(NamedTuple):
    """What of one unit was read: its newest snapshot (at `offset`), then the changes after it."""

    offset: int | None
    base: bytes | None
    deltas: list[bytes]

    @property
    def size(self) -> int:
        return len(self.base or b"") + sum(map(len, self.deltas))


class Cold:
    """Brings one partition's units from the chains topic.

    Args:
        partition: which.
        realm: this realm.
        ports: its ports.
        reading: the worker's reader.
        history: the partition's decision log.
        snapshots: knows where they are and which of them still hold.
        reigns: tells who owned the partition from which record on.
    """

    def __init__(
        self,
        partition: int,
        realm: Realm,
        ports: Ports,
        reading: Reading,
        history: History,
        snapshots: Snapshots,
        reigns: Callable[[], Sequence[Reign]],
    ) -> None:
        self._reigns = reigns
        self._partition, self._realm, self._ports, self._reading = partition, realm, ports, reading
        self._history, self._snapshots, self._tail = history, snapshots, Tail()
        self._chains = Readback(realm.topics.chains, partition, ports, reading, self._tail)

    # --- after a load from the store: what do snapshots hold? ---

    def scan(self, all_units: Callable[[], Iterable[str]]) -> Generator[None, None, None]:
        """Find every unit's newest snapshot, and which units changed between the cut and the store we started from."""
        if self._snapshots.unscanned is None:
            return
        first, last = self._snapshots.unscanned
        try:
            lost = yield from self._find_snapshots()
            units = yield from self._changed_between(first, last)
        except CannotReadError:  # what is old cannot be read: nobody who decides needs it
            units = None
        if units is None:
            self._snapshots.scanned(all_units(), None)
        else:
            self._snapshots.scanned((units | lost) & {*all_units()}, last)

    def _find_snapshots(self) -> Generator[None, None, set[str]]:
        """A key ends in its writer's epoch: of a unit's snapshots the latest owner's counts.

        Returns:
            Units whose newest one stands on records that were lost; it may have taken the place of a good one.
        """
        newest: dict[str, tuple[int, int]] = {}
        lost = set[str]()
        self._reading.watch(self._realm.topics.chains, self._partition, self._tail)
        try:
            bounds = yield from self._chains.bounds()
            for record in self._chains.records(bounds.low, bounds.end):
                if record is None:
                    yield
                    continue
                key, stands = key_of(record, self._realm.incarnation), as_of(record.value or b"")
                if is_of_another_version(record.value or b""):
                    continue
                if key is not None and stands is None:  # ended, or damaged: what came before it is too old
                    newest.pop(key.unit, None)
                    self._snapshots.dropped(key.unit)
                    continue
                if key is None or stands is None or (key.epoch, stands) < newest.get(key.unit, (0, stands)):
                    continue
                newest[key.unit] = key.epoch, stands
                self._found(key, stands, record.offset, lost)
        finally:
            self._reading.drop(self._realm.topics.chains, self._partition)
        return lost

    def _found(self, key: Key, stands: int, offset: int, lost: set[str]) -> None:
        if outlived(self._reigns(), key.epoch, stands):
            lost.add(key.unit)
            self._snapshots.dropped(key.unit)
        else:
            lost.discard(key.unit)
            self._snapshots.found(key, offset)

    def _changed_between(self, first: int, last: int) -> Generator[None, None, set[str] | None]:
        """Units that records from `first` to `last` may have changed (or not); None: any unit may have changed.

        Retention may have taken a part, or snapshots end before the cut. And around a warmed switch units change
        without a record (`takeover`).
        """
        sealed = yield from self._sealed()
        if (-1 if sealed is None else Place.from_json(sealed[PLACE_KEY]).offset) < first - 1:
            return None
        if sealed is not None and sealed.get(WARMUPS_KEY):
            return None
        units = set[str]()
        if first <= last and first < (yield from self._history.bounds()).low:
            return None
        for record in self._history.records(first, last + 1):
            if record is None:
                yield
                continue
            body = body_of(record.value or b"") if self._ports.verifier.decision_authentic(record) else {}
            if body.get("kind") == "switch" and body.get("warmed"):
                return None
            units.update(units_named(body))
        return units

    def _sealed(self) -> Generator[None, None, Unit | None]:
        """The partition's own snapshot: all others hold every change up to the place in it."""
        for step in self._read([PARTITION_UNIT]):
            if step is None:
                yield
                continue
            try:
                values = decode_unit(step[1].base or b"")[0]
            except ValueError:
                return None
            return values if PLACE_KEY in values else None
        return None

    # --- while the store is away ---

    def holds(self, unit: str) -> bool:
        """Can `fetch` bring a unit that is not in memory?"""
        if self._snapshots.is_clean(unit):
            return unit in self._snapshots.offsets
        if unit in self._snapshots.in_pieces:
            return False  # more than one positioned read; the store will have to answer
        return self._snapshots.unscanned is None and self._snapshots.stored is not None

    def fetch(
        self, units: Sequence[str], state: State, windows: Callable[[], Windows | None]
    ) -> Generator[None, None, frozenset[str]]:
        """Bring the first of `units`, and as many more as one call may.

        Args:
            units: which; none of them is in memory.
            state: the partition's.
            windows: gives the confirmed bundle.

        Returns:
            Those it cannot bring.
        """
        wanted = units[: limits.COLD_FETCH_UNITS_MAX]
        clean = {unit for unit in wanted if self._snapshots.is_clean(unit)}
        found = {unit: _Found(None, None, []) for unit in wanted if unit not in self._snapshots.offsets}
        failed = found.keys() & clean  # others without a snapshot began after the newest were sealed
        for step in self._read(wanted):
            if step is None:
                yield
                continue
            unit, found[unit] = step
            # A clean one is there at once: what was read is not lost if the rest takes too long.
            if unit in clean and self._snapshots.is_clean(unit) and not self._bring(state, *step, windows()):
                failed.add(unit)
            if sum(read.size for read in found.values()) >= limits.COLD_FETCH_BYTES_MAX:
                break
        else:
            failed |= {*wanted} - found.keys()
        behind = {unit: read for unit, read in found.items() if unit not in clean}
        followed = not behind or (yield from self._follow_up(behind))
        confirmed = windows()
        failed.update(u for u, read in behind.items() if not (followed and self._bring(state, u, read, confirmed)))
        return frozenset(failed)

    def _bring(self, state: State, unit: str, read: _Found, windows: Windows | None) -> bool:
        """False if what was read is no snapshot; what is not wanted any more is no failure."""
        # What came back with the store meanwhile, was changed and left again has a newer snapshot.
        same = state.is_elsewhere(unit) and self._snapshots.offsets.get(unit) == read.offset
        return windows is None or not same or _install(state, unit, read, windows)

    def _read(self, units: Iterable[str]) -> Generator[tuple[str, _Found] | None, None, None]:
        """Units and their newest snapshots, as far as compaction was not faster; None to give way.

        What one cycle wrote stands together, so that few positioned reads bring many.
        """
        places = {self._snapshots.offsets[unit]: unit for unit in units if unit in self._snapshots.offsets}
        for first, last in _runs(sorted(places)):
            for record in self._chains.records(first, last + 1):
                if record is None:
                    yield None
                    continue
                unit, key = places.get(record.offset), key_of(record, self._realm.incarnation)
                if unit is not None and key is not None and key.unit == unit and record.value is not None:
                    yield unit, _Found(record.offset, record.value, [])

    def _follow_up(self, behind: dict[str, _Found]) -> Generator[None, None, bool]:
        """Give units the changes between their snapshots and the store that was loaded; False if the log does not."""
        sealed = yield from self._sealed()
        place = Place.genesis(self._realm.incarnation, self._partition)
        place = place if sealed is None else Place.from_json(sealed[PLACE_KEY])
        stored = self._snapshots.stored
        if stored is None:
            return False
        for step in self._history.effective(place, stored + 1):
            if step is None:
                yield
                continue
            place = step.place
            if step.change is not None:
                delta = Delta(step.change, place.offset)
                for unit in behind.keys() & set(units_of(step.change)):
                    behind[unit].deltas.append(delta.encoded(unit))
                _bound(behind)
        return place.offset >= stored


def _runs(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of what stands close enough together to be read at once."""
    first = last = -1
    for offset in offsets:
        if first >= 0 and offset - last > GAP_RECORDS:
            yield first, last
            first = -1
        first, last = offset if first < 0 else first, offset
    if first >= 0:
        yield first, last


def _bound(found: dict[str, _Found]) -> None:
    """What is more than one call may bring is left to the next one, but for the first unit."""
    while len(found) > 1 and sum(read.size for read in found.values()) > limits.COLD_FETCH_BYTES_MAX:
        found.popitem()


def _install(state: State, unit: str, read: _Found, windows: Windows) -> bool:
    """False if what was read is no snapshot."""
    try:
        values = replay_unit(unit, read.base, read.deltas, state.confirmed(PARTITION_UNIT), windows)
        stands = stands_at(read.base, read.deltas)
    except ValueError:
        return False
    state.install(unit, values, read.size)
    if unit in state.deferred:
        state.deferred.ahead[unit] = stands
    return True


def units_named(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Units a record touches if it is effective; one that does not even name them is void."""
    try:
        change = change_of(body, "") if body.get("kind") in CHANGING else None
        return () if change is None else units_of(change)
    except UNREADABLE:
        return ()
