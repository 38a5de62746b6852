"""Versions of one partition's state: a confirmed base and, over it, one layer per micro-batch in flight (PROTOCOL §5).

Rule of this file: values are immutable, so a layer costs only what it changed, and rolling back is dropping layers.
Reading is what happens most, so the newest values of all layers stand in one place; whoever takes a layer away
(`confirm`, `pop`) merges what the others say of the same units. A *unit* (an agent, a lane, the partition) is what is
stored, fetched and evicted as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from copy import copy
from itertools import chain
from typing import Any, Final

from harness_stream.core.deferred import Deferred
from harness_stream.core.names import lane_shards

Key = Hashable
Unit = dict[Key, Any]


_ABSENT: Final = object()
_NOTHING: Final[Mapping[Key, Any]] = {}
_NO_UNITS: Final = frozenset[str]()
PARTITION_UNIT = "p"
"""Holds what belongs to the partition: since when each window is known, and the place of a snapshot."""


class State:
    """Units in memory. Reads see the newest layer that has the key; writes go to the newest layer.

    A unit that was brought as bytes stays bytes until somebody looks into it: of a million known agents a few act. And
    one that records changed since then (`deferred`) is not to be looked into before it has taken them in.

    Args:
        elsewhere: names of the units that are stored but not in memory; any other unit that is not here does not exist.
        decode: takes a unit's bytes apart; without it none may be brought as bytes.

    Attributes:
        deferred: records that units here or elsewhere have not taken in.
        warmed: revision of a switch → unit → windows it has from there on and takes over when it is next touched.
        hot_bytes: of the units in memory, as `weigh` was told.
    """

    def __init__(self, elsewhere: Iterable[str] = (), decode: Callable[[bytes], Unit] | None = None) -> None:
        self._base: dict[str, Unit] = {}
        self._packed: dict[str, bytes] = {}
        self._decode = decode
        self._layers: list[dict[str, Unit]] = []
        self._newest: dict[str, Unit] = {}  # all layers in one
        self._elsewhere = set(elsewhere)
        self._touched = set[str]()
        self.deferred = Deferred()
        self.warmed: dict[int, dict[str, Unit]] = {}
        self.hot_bytes = 0
        self._sizes: dict[str, int] = {}

    @property
    def all_here(self) -> bool:
        """Is every unit there is in memory, whether or not it has taken in what changed it?"""
        return not self._elsewhere

    @property
    def complete(self) -> bool:
        """Does memory hold every unit there is, as it is confirmed?"""
        return not self._elsewhere and not self.deferred

    def get(self, unit: str, key: Key, default: Any = None) -> Any:
        """The newest value of `key` in `unit`."""
        changed = self._newest.get(unit)
        if changed is not None:
            value = changed.get(key, _ABSENT)
            if value is not _ABSENT:
                return value
        values = self._base.get(unit)
        return (self._open(unit) if values is None else values).get(key, default)

    def put(self, unit: str, key: Key, value: Any) -> None:
        """Set `key` in the newest layer (in the base if nothing is in flight)."""
        if self._layers:
            self._layers[-1].setdefault(unit, {})[key] = value
            self._newest.setdefault(unit, {})[key] = value
        else:
            values = self._base.get(unit)
            if values is None:
                values = self._base[unit] = self._open(unit)
            values[key] = value
        self._touched.add(unit)

    def beneath(self) -> State:
        """What is confirmed, as the same objects, under whatever is in flight: what is put there is confirmed."""
        under = copy(self)
        under._layers, under._newest, under._touched = [], {}, set()  # noqa: SLF001  it is one of us
        return under

    def touched(self) -> frozenset[str]:
        """Units that `put` has changed since this was last asked."""
        if not self._touched:
            return _NO_UNITS
        touched, self._touched = frozenset(self._touched), set()
        return touched

    def has(self, unit: str) -> bool:
        """May the unit be looked into: is it in memory (or known not to exist anywhere else), and whole?"""
        return unit not in self._elsewhere and unit not in self.deferred

    def is_elsewhere(self, unit: str) -> bool:
        """Is the unit stored and not in memory?"""
        return unit in self._elsewhere

    def stored_shards(self, lane: str) -> list[str]:
        """A lane's shards that are stored and not in memory."""
        return [unit for unit in lane_shards(lane) if unit in self._elsewhere] if self._elsewhere else []

    def push(self) -> None:
        """Open a layer for the next micro-batch."""
        self._layers.append({})

    def confirm(self) -> frozenset[str]:
        """Make the oldest layer part of the base; the units it changed."""
        layer = self._layers.pop(0)
        for unit, changed in layer.items():
            values = self.confirmed(unit)
            self._base.pop(unit, None)
            values.update(changed)
            self._base[unit] = values
        self._merge(layer)
        return frozenset(layer)

    def pop(self) -> None:
        """Drop the newest layer: nothing came of its micro-batch."""
        self._merge(self._layers.pop())

    def rollback(self) -> None:
        """Drop everything that is not confirmed."""
        self._layers.clear()
        self._newest.clear()

    def _merge(self, units: Iterable[str]) -> None:
        """A layer that changed these units is not one any more."""
        for unit in units:
            merged: Unit = {}
            for layer in self._layers:
                merged.update(layer.get(unit, _NOTHING))
            if merged:
                self._newest[unit] = merged
            else:
                del self._newest[unit]

    @property
    def in_flight(self) -> int:
        """Open layers."""
        return len(self._layers)

    def install(self, unit: str, values: Mapping[Key, Any], size: int | None = None) -> None:
        """Bring a stored unit of `size` bytes into memory (None: as before)."""
        self._packed.pop(unit, None)
        self._base[unit] = dict(values)
        self._elsewhere.discard(unit)
        if size is not None:
            self.weigh(unit, size)

    def share(self, unit: str, values: Unit) -> None:
        """Bring a unit into memory as the very object that somebody else changes."""
        self._packed.pop(unit, None)
        self._base[unit] = values
        self._elsewhere.discard(unit)

    def install_packed(self, unit: str, data: bytes) -> None:
        """Bring a stored unit into memory as the bytes it is stored as."""
        self._base.pop(unit, None)
        self._packed[unit] = data
        self._elsewhere.discard(unit)
        self.weigh(unit, len(data))

    def packed(self, unit: str) -> bytes | None:
        """The bytes a unit was brought as, None if somebody has looked into it since."""
        return self._packed.get(unit)

    def weigh(self, unit: str, size: int, *, more: bool = False) -> None:
        """Note the bytes of a unit where it is stored, or so many `more`; one never written weighs nothing."""
        before = self._sizes.get(unit, 0)
        self._sizes[unit] = before + size if more else size
        self.hot_bytes += self._sizes[unit] - before

    def evict(self, unit: str) -> None:
        """Let a confirmed unit leave memory; it must be stored elsewhere, as it is."""
        values = self._base.pop(unit, None)
        if (self._packed.pop(unit, None) if values is None else values) is not None:
            self._elsewhere.add(unit)
            self.hot_bytes -= self._sizes.pop(unit, 0)

    def forget(self, unit: str, keys: Iterable[Key]) -> None:
        """Drop confirmed keys that no decision can see any more."""
        values = self.confirmed(unit)
        for key in keys:
            values.pop(key, None)

    def confirmed(self, unit: str) -> Unit:
        """The confirmed values of a unit (not to be changed)."""
        values = self._base.get(unit)
        return self._open(unit) if values is None else values

    def _open(self, unit: str) -> Unit:
        data = self._packed.get(unit)
        if data is None or self._decode is None:
            return {}
        values = self._base[unit] = self._decode(data)
        del self._packed[unit]
        return values

    def units(self) -> Iterator[str]:
        """Names of the confirmed units in memory, the longest unchanged first."""
        return chain(self._packed, self._base)

    def all_units(self) -> frozenset[str]:
        """Names of all units there are, in memory or stored elsewhere."""
        return frozenset(self.units()) | self._elsewhere

    def is_open(self, unit: str) -> bool:
        """Has a layer in flight changed it?"""
        return unit in self._newest

    def __len__(self) -> int:
        return len(self._packed) + len(self._base)
