"""The state store in memory, for simulation, the demo and tests.

Rule of this file: it answers exactly as the Redis adapter does (one contract suite), and every way a real store fails
is a switch that a scheduler turns. One object stands for one server: all workers of a simulation share it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness_stream.core import limits
from harness_stream.errors import InvalidInput, StateUnavailable
from harness_stream.ports import Move, StoredHead, StoredUnit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EMPTY_HEAD = StoredHead(verdict_offset=-1, epoch=0, header=b"")
"""What a refused move answers where nothing is stored."""


@dataclass(slots=True)
class _Partition:
    head: StoredHead | None = None
    # None: the name is known and the content is lost.
    units: dict[str, StoredUnit | None] = field(default_factory=dict)
    count: int | None = None  # of names that there were with this head; None: as many as there are

    @property
    def whole(self) -> StoredHead | None:
        """The head, if all names are there."""
        return self.head if self.count is None or self.count == len(self.units) else None

    def copy(self) -> _Partition:
        return _Partition(self.head, dict(self.units), self.count)


Dump = dict[int, _Partition]
"""A copy of everything a store held, as `snapshot` took it."""


def refused(stored: StoredHead | None, move: Move) -> StoredHead | None:
    """The head that forbids the step, or None if it may be taken (the rule that `move.lua` repeats on the server)."""
    at = stored or EMPTY_HEAD
    forward = move.head.verdict_offset > at.verdict_offset and move.head.epoch >= at.epoch
    return None if move.expect == stored and forward else at


class MemoryStateStore:
    """A `StateStore` in memory with fault switches.

    Attributes:
        down: every call raises `StateUnavailable`.
        lose_next_answer: the next move is applied, and its caller gets `StateUnavailable`; resets itself.
    """

    def __init__(self) -> None:
        self.down = False
        self.lose_next_answer = False
        self._partitions: Dump = {}

    def head(self, partition: int) -> StoredHead | None:
        """Where the stored state of the partition stands; None if there is none."""
        return self._at(partition).whole

    def units(self, partition: int) -> frozenset[str]:
        """Names of all stored units, those whose content was lost included."""
        return frozenset(self._at(partition).units)

    def load(self, partition: int, names: Sequence[str]) -> dict[str, StoredUnit | None]:
        """The named units; None for one that is unknown or lost; see the port.

        Raises:
            InvalidInput: more than 64 names.
        """
        stored = self._at(partition).units
        if len(names) > limits.COLD_FETCH_UNITS_MAX:
            raise InvalidInput(f"{len(names)} units in one load; at most {limits.COLD_FETCH_UNITS_MAX}")
        found: dict[str, StoredUnit | None] = {}
        size = 0
        for name in names:
            unit = stored.get(name)
            size += 0 if unit is None else unit.size
            if size > limits.COLD_FETCH_BYTES_MAX and found:
                break
            found[name] = unit
        return found

    def move(self, move: Move) -> StoredHead | None:
        """Apply `move` iff the store stands at `expect` and the step goes forward; see the port."""
        stored = self._at(move.partition)
        if (at := refused(stored.whole, move)) is not None:
            return at
        fresh = _Partition(move.head, {} if stored.whole is None else stored.units)
        for name, base in move.bases.items():
            fresh.units[name] = StoredUnit(bytes(base))
        for name, deltas in move.deltas.items():
            unit = fresh.units.get(name) or StoredUnit(None)
            fresh.units[name] = StoredUnit(unit.base, unit.deltas + tuple(deltas))
        fresh.count = len(fresh.units)
        self._partitions[move.partition] = fresh
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise StateUnavailable("the state store's answer was lost")
        return None

    def clear(self, partition: int, expect: StoredHead | None) -> bool:
        """Forget everything of the partition iff the store stands at `expect`; see the port."""
        if self._at(partition).whole != expect:
            return False
        del self._partitions[partition]
        return True

    def close(self) -> None:
        """Nothing to free: the server outlives its users."""

    def flush(self) -> None:
        """Fault: everything is gone."""
        self._partitions.clear()

    def snapshot(self) -> Dump:
        """A copy of everything, for a later `restore`."""
        return {partition: stored.copy() for partition, stored in self._partitions.items()}

    def restore(self, dump: Dump) -> None:
        """Fault: the server came back with an older dump."""
        self._partitions = {partition: stored.copy() for partition, stored in dump.items()}

    def drop_units(self, names: Iterable[str]) -> None:
        """Fault: the server evicted these units' content in every partition; their names are still listed."""
        for stored in self._partitions.values():
            stored.units.update((name, None) for name in names if name in stored.units)

    def drop_names(self, names: Iterable[str]) -> None:
        """Fault: the server evicted the list of names of every partition, and these were not written again since."""
        for stored in self._partitions.values():
            for name in names:
                stored.units.pop(name, None)

    def _at(self, partition: int) -> _Partition:
        if self.down:
            raise StateUnavailable("the state store is down")
        return self._partitions.setdefault(partition, _Partition())
