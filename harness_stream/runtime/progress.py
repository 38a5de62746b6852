"""How far a partition's loading is, and what is made up for after it, for people who wait for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from harness_stream.ports import Clock

log = logging.getLogger(__name__)

# An ordinary takeover takes less; whoever waits longer wants to know that it goes on.
PROGRESS_MS: Final = 2_000


class Progress:
    """Logs every PROGRESS_MS where a reader stands.

    Args:
        partition: whose.
        what: is read, in plural.
        first: offset of the first one.
        end: offset after the last one.
        clock: for durations.
        phase: what the partition does meanwhile.
    """

    def __init__(
        self, partition: int, what: str, first: int, end: int, clock: Clock, phase: str = "loading"
    ) -> None:
        self._partition, self._what, self._first, self._end = partition, what, first, end
        self._phase = phase
        self._clock, self._began_ms = clock, clock.elapsed_ms()
        self._told_ms = self._began_ms

    def at(self, offset: int) -> None:
        """So far it is; `offset` is the next one to be read."""
        now_ms = self._clock.elapsed_ms()
        if now_ms - self._told_ms < PROGRESS_MS:
            return
        self._told_ms = now_ms
        done = offset - self._first
        rate = done * 1000 // (now_ms - self._began_ms)
        text = f"{done:,} of {self._end - self._first:,} {self._what}, {rate:,}/s"
        log.info("partition %d: %s, %s", self._partition, self._phase, text)

    def left(self, count: int) -> None:
        """So many are still to come."""
        self.at(self._end - count)
