"""Snapshots of changed units to the chains topic, off the path (PROTOCOL §6).

Rule of this file: a cycle first notes where the confirmed fold stands, then writes every unit changed since the last
cycle (each says as of which record), and when all are delivered the partition's own unit with that place. Only then the
cut moves: snapshots hold every change up to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness_stream.core.state import PARTITION_UNIT, State, Unit
from harness_stream.core.units import decode_unit, encode_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness_stream.core.fold import Place
    from harness_stream.ports import Delivery, LogRecord, LogWriter, Metrics

PLACE_KEY = ("place",)
"""In the partition's snapshot: the place of the fold at the cut."""

# What one turn of the loop may write: 16 units of at most ~150 KiB take about 3 ms to encode.
UNITS_PER_TURN = 16


class Snapshot(NamedTuple):
    """One record of the chains topic.

    Attributes:
        as_of: verdict offset up to which every change of the unit is in it.
        size: bytes.
    """

    unit: str
    values: Unit
    as_of: int
    size: int


def snapshot_in(record: LogRecord) -> Snapshot | None:
    """The snapshot that a record is; None if it is none of ours."""
    try:
        values, as_of = decode_unit(record.value or b"")
        unit = (record.key or b"").decode().rpartition("@")[0]
    except ValueError:
        return None
    return Snapshot(unit, values, as_of, len(record.value or b"")) if unit else None


class Snapshots:
    """Writes one partition's snapshots.

    Args:
        topic: the chains topic.
        partition: co-numbered with the decision log's.
        writer: the log.
        next_token: gives the tokens by which deliveries are told apart.
        interval_ms: time between cycles.
        metrics: where cycles count.
        cut: verdict offset the snapshots hold everything up to, −1 if there are none.

    Attributes:
        offsets: unit → offset of its newest snapshot in the chains topic, as far as known.
        unscanned: records (first, last) whose units may have changed since the cut, not yet looked at: then no cycle
            begins and nothing is clean.
        stored: verdict offset of the store that was loaded: units that were changed and not in memory since then stand
            there. None: no unit is known to.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        writer: LogWriter,
        next_token: Callable[[], int],
        interval_ms: int,
        metrics: Metrics,
        cut: int,
    ) -> None:
        self.cut = cut
        self._topic, self._partition, self._writer = topic, partition, writer
        self._next_token, self._interval_ms, self._metrics = next_token, interval_ms, metrics
        self.offsets: dict[str, int] = {}
        self.unscanned: tuple[int, int] | None = None
        self.stored: int | None = None
        self._changed: set[str] = set()
        self._cycle: list[str] | None = None  # not yet written
        self._due: set[str] = set()  # of the cycle, not yet delivered
        self._place: Place | None = None
        self._sealing = False
        self._open: dict[int, str] = {}
        self._started_ms: int | None = None
        self._epoch = 0

    def scan(self, first: int, last: int) -> None:
        """What the topic holds, and which units records `first` to `last` changed, is to be found out first."""
        self.unscanned = (first, last)

    def scanned(self, changed: Iterable[str], stored: int | None) -> None:
        """It was found out; `stored` as the attribute."""
        self._changed.update(changed)
        self.unscanned, self.stored = None, stored

    def changed(self, units: frozenset[str]) -> None:
        """Units that a confirmed micro-batch changed."""
        self._changed |= units

    def is_clean(self, unit: str) -> bool:
        """Does the newest snapshot hold the unit as it is confirmed, and is it in the log?"""
        return self.unscanned is None and unit not in self._changed and unit not in self._due

    def step(self, now_ms: int, place: Place, state: State, fetch: Callable[[list[str]], bool]) -> None:
        """Write a little; `fetch` brings cold units into memory and says whether all are there."""
        self._epoch = place.header.epoch
        if self._cycle is None:
            self._begin(now_ms, place)
        elif self._cycle:
            part, rest = self._cycle[:UNITS_PER_TURN], self._cycle[UNITS_PER_TURN:]
            if not fetch(part):
                return
            self._cycle = rest
            for unit in part:
                value = encode_unit(state.confirmed(unit), place.offset, place.header.t)
                state.weigh(unit, len(value))
                self._write(unit, value)
        elif not self._open:
            self._seal(state)

    def delivered(self, delivery: Delivery) -> None:
        """A unit was written, or not: then the cycle starts over with what it had and what came since."""
        unit = self._open.pop(delivery.token, None)
        if unit is None:
            return
        if delivery.offset is None:
            self.restart()
        else:
            self.offsets[unit] = delivery.offset
            self._due.discard(unit)

    def restart(self) -> None:
        """Begin the cycle anew with what is not known to have been written."""
        self._changed |= self._due
        self._due.clear()
        self._cycle, self._sealing = None, False
        self._open.clear()

    def _begin(self, now_ms: int, place: Place) -> None:
        started = self._started_ms if self._started_ms is not None else now_ms
        self._started_ms = started
        if now_ms - started < self._interval_ms or not self._changed or self.unscanned is not None:
            return
        self._started_ms, self._place = now_ms, place
        # The partition's own unit is due until it seals the cycle, so a cycle that fails is always begun anew.
        self._due, self._changed = self._changed | {PARTITION_UNIT}, set()
        self._cycle = sorted(self._due - {PARTITION_UNIT})

    def _seal(self, state: State) -> None:
        if self._place is None:
            return
        if self._sealing:
            self.cut = self._place.offset
            self._cycle, self._sealing = None, False
            self._metrics.count("harness_snapshots_total")
            return
        values = {**state.confirmed(PARTITION_UNIT), PLACE_KEY: self._place.to_json()}
        self._write(PARTITION_UNIT, encode_unit(values, self._place.offset, self._place.header.t))
        self._sealing = True

    def _write(self, unit: str, value: bytes) -> None:
        token = self._next_token()
        # A key per epoch: what a former owner still had under way can never replace a newer snapshot.
        key = f"{unit}@{self._epoch}".encode()
        self._writer.append(self._topic, self._partition, key, value, (), token=token)
        self._open[token] = unit
