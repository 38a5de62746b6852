"""Snapshots of changed units to the chains topic, off the path (PROTOCOL §6).

Rule of this file: a cycle first notes where the confirmed fold stands, then writes every unit changed since the last
cycle
(each says as of which record), and when all are delivered the partition's own unit with that place. Only then the cut
moves: snapshots hold every change up to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.core.units import encode_unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.core.fold import Place
    from harness_stream.ports import Delivery, LogWriter, Metrics

PLACE_KEY = ("place",)
"""In the partition's snapshot: the place of the fold at the cut."""

# What one turn of the loop may write: 16 units of at most ~150 KiB take about 3 ms to encode.
UNITS_PER_TURN = 16


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
        self._changed: set[str] = set()
        self._cycle: list[str] | None = None
        self._place: Place | None = None
        self._sealing = False
        self._open: set[int] = set()
        self._started_ms: int | None = None
        self._written: set[str] = set()
        self._epoch = 0
        self.unscanned: tuple[int, int] | None = None
        """Records (first, last) whose units may have changed since the cut, not yet looked at: then no cycle begins and
        nothing is clean."""

    def scan(self, first: int, last: int) -> None:
        """Which units records `first` to `last` changed is to be found out before the next cycle."""
        self.unscanned = (first, last) if first <= last else None

    def changed(self, units: frozenset[str]) -> None:
        """Units that a confirmed micro-batch changed."""
        self._changed |= units

    def is_clean(self, unit: str) -> bool:
        """Does the newest snapshot hold the unit as it is confirmed?"""
        return self.unscanned is None and unit not in self._changed and (self._cycle is None or unit not in self._cycle)

    def step(self, now_ms: int, place: Place, state: State, fetch: Callable[[list[str]], bool]) -> None:
        """Write a little; `fetch` brings cold units into memory and says whether it could."""
        self._epoch = place.header.epoch
        if self._cycle is None:
            self._begin(now_ms, place)
        elif self._cycle:
            part, rest = self._cycle[:UNITS_PER_TURN], self._cycle[UNITS_PER_TURN:]
            if not fetch(part):
                return
            self._cycle = rest
            for unit in part:
                self._write(unit, encode_unit(state.confirmed(unit), place.offset, place.header.t))
        elif not self._open:
            self._seal(state)

    def delivered(self, delivery: Delivery) -> None:
        """A unit was written, or not: then the cycle starts over with what it had and what came since."""
        if delivery.token not in self._open:
            return
        self._open.discard(delivery.token)
        if delivery.offset is None:
            self.restart()

    def restart(self) -> None:
        """Begin the cycle anew: what became of its writes is not known."""
        self._changed |= self._written
        self._cycle, self._sealing = None, False
        self._open.clear()

    def _begin(self, now_ms: int, place: Place) -> None:
        started = self._started_ms if self._started_ms is not None else now_ms
        self._started_ms = started
        if now_ms - started < self._interval_ms or not self._changed or self.unscanned is not None:
            return
        self._started_ms, self._place = now_ms, place
        self._written, self._changed = self._changed, set()
        self._cycle = sorted(self._written - {PARTITION_UNIT})

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
        self._open.add(token)
