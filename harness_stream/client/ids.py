"""UUIDs of version 7 (RFC 9562 §5.7), which Python 3.11 cannot make.

Rule of this file: ids of one process rise strictly, within a millisecond too and when the wall clock steps back a bit.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from harness_stream.ports import Clock

# 74 bits: rand_a (12) and rand_b (62).
_RANDOM_BITS: Final = 74
_RAND_B_BITS: Final = 62
# The counter starts in the lower half, so that 2^73 ids fit into a millisecond.
_START_BITS: Final = _RANDOM_BITS - 1
# The next random part is this much higher at most: unguessable, and RFC 9562 §6.2 method 2 asks for a random step.
_STEP_BITS: Final = 32
# NTP slews below this; after a larger step back the old time would soon be more than ID_AGE_MS_MAX off.
STEP_BACK_MS_MAX: Final = 10_000


class Ids:
    """Makes UUIDv7s. Thread-safe.

    Args:
        clock: gives the wall time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_ms = -1
        self._random = 0

    def new(self) -> str:
        """The next id, in canonical lower-case text."""
        with self._lock:
            self._advance(self._clock.now_ms())
            return _text(self._last_ms, self._random)

    def _advance(self, now_ms: int) -> None:
        if now_ms > self._last_ms or now_ms < self._last_ms - STEP_BACK_MS_MAX:
            self._last_ms, self._random = now_ms, _random(_START_BITS)
            return
        self._random += 1 + _random(_STEP_BITS)
        if self._random >> _RANDOM_BITS:
            self._last_ms, self._random = self._last_ms + 1, _random(_START_BITS)


def _random(bits: int) -> int:
    return int.from_bytes(os.urandom((bits + 7) // 8)) >> (-bits % 8)


def _text(unix_ms: int, random: int) -> str:
    rand_a, rand_b = random >> _RAND_B_BITS, random & ((1 << _RAND_B_BITS) - 1)
    number = (unix_ms << 80) | (0x7 << 76) | (rand_a << 64) | (0b10 << 62) | rand_b
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
