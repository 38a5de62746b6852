"""The machine's clocks behind the Clock port. Rule: nothing else in the package asks the machine for the time."""

from __future__ import annotations

import time

_NS_PER_MS = 1_000_000
# CLOCK_MONOTONIC stands still in suspend, so a deadline could outlive the laptop's lid; only Linux offers better.
_ELAPSED_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """Wall time and a clock for durations, both in milliseconds (implements `ports.Clock`)."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        return time.time_ns() // _NS_PER_MS

    def elapsed_ms(self) -> int:
        """Milliseconds on CLOCK_BOOTTIME, which runs in suspend; where there is none, the monotonic clock."""
        if _ELAPSED_CLOCK is None:
            return time.monotonic_ns() // _NS_PER_MS
        return time.clock_gettime_ns(_ELAPSED_CLOCK) // _NS_PER_MS
