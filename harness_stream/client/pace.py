"""How long an enforcer that waits for answers pauses between two looks (`client.enforcer`).

Rule of this file: a look costs a core the same whether there is an answer or not, and on a busy machine it takes that
time from the worker that is to give it. So the pause is a share of what answers take here.
"""

from __future__ import annotations

from typing import Final

# While a fresh request waits at least so long: a quarter of a bare echo's 0.8 ms.
FRESH_PAUSE_S: Final = 0.000_25
# While something waits longer, or runs and may have to be stopped: a tenth of ANSWER_GRACE_MS.
WAITING_PAUSE_S: Final = 0.005
# While nothing waits the fold only has to keep up; a request wakes the thread at once.
IDLE_PAUSE_S: Final = 0.05
# Of what the latest answers took: at most so much is added to one, and half of it on average.
PAUSE_SHARE: Final = 8
# One answer moves what is expected by so much of the difference: a stall is forgotten after some twenty.
_SMOOTHING: Final = 8


class Pace:
    """What answers took lately."""

    def __init__(self) -> None:
        self._took_ms = 0.0

    def answered(self, took_ms: int) -> None:
        """One has come, so long after its intent was published."""
        self._took_ms += (took_ms - self._took_ms) / _SMOOTHING

    def pause_s(self) -> float:
        """While a fresh request waits."""
        return min(max(FRESH_PAUSE_S, self._took_ms / 1_000 / PAUSE_SHARE), WAITING_PAUSE_S)
