"""How many intents of one lane are evaluated: a bound per lane, so that a runaway one costs nobody else (`deny: rate`).

Rule of this file: time is what the broker's append times go forward by, and what is beyond the bound is not evaluated,
not counted and never waits. It is the worker's own protection and no history: a successor begins with full buckets, and
the log says which intents it hit.

A token bucket in its form with one number per lane, the time at which the bucket would be full again (generic cell
rate algorithm, virtual scheduling, ITU-T I.371).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """What one lane may ask.

    Attributes:
        per_s: intents a second, lasting; ≥ 1.
        burst: intents at once, after a silence; ≥ 1.
    """

    per_s: int
    burst: int

    def __str__(self) -> str:
        """As in a reason's detail."""
        return f"{self.per_s:,} intents/s (at once {self.burst:,})"


class LaneRates:
    """The buckets of one partition's lanes.

    A lane whose bucket is full is forgotten, so at most those lanes are kept that asked within the last burst / rate
    seconds.
    """

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._full_at_us: OrderedDict[str, int] = OrderedDict()
        self._passed_ms = self._last_ms = 0

    def __len__(self) -> int:
        return len(self._full_at_us)

    def take(self, lane: str, append_ms: int) -> bool:
        """Take one token of the lane's at this append time (epoch ms); False if none is left."""
        now_us = self._passed(append_ms) * 1_000
        full_at_us = max(self._full_at_us.get(lane, 0), now_us) + _MICROS // self.rate.per_s
        if full_at_us - now_us > self.rate.burst * _MICROS // self.rate.per_s:
            return False
        self._full_at_us[lane] = full_at_us
        self._full_at_us.move_to_end(lane)
        self._forget(now_us)
        return True

    def _passed(self, append_ms: int) -> int:
        """Append time without its steps back: where those are made up for, chain time stands still."""
        self._passed_ms += max(0, append_ms - self._last_ms)
        self._last_ms = append_ms
        return self._passed_ms

    def _forget(self, now_us: int) -> None:
        """Two a turn: faster than lanes can come, and never a scan."""
        for _ in range(2):
            lane = next(iter(self._full_at_us))
            if self._full_at_us[lane] > now_us:
                return
            del self._full_at_us[lane]
