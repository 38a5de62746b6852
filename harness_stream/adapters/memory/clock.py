"""Virtual time. Rule: time passes only by `advance`, so a simulation is a function of its seed."""

from __future__ import annotations

# 2026-01-01T00:00:00Z: late enough for any UUIDv7, early enough that no certificate is expired by it.
EPOCH_MS_DEFAULT = 1_767_225_600_000


class ManualClock:
    """A clock that its owner moves (implements `ports.Clock`).

    Args:
        now_ms: wall time to start from, milliseconds since the epoch.
    """

    def __init__(self, now_ms: int = EPOCH_MS_DEFAULT) -> None:
        self._start_ms = now_ms
        self._elapsed_ms = 0

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch."""
        return self._start_ms + self._elapsed_ms

    def elapsed_ms(self) -> int:
        """Milliseconds advanced so far."""
        return self._elapsed_ms

    def advance(self, by_ms: int) -> None:
        """Let `by_ms` ≥ 0 milliseconds pass.

        Raises:
            ValueError: time would step back.
        """
        if by_ms < 0:
            raise ValueError("time does not step back")
        self._elapsed_ms += by_ms
