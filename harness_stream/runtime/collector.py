"""Looks for garbage between the worker's turns, a little at a time.

Rule of this file: an object is looked at once, while it is young, and never again while there is work; with a backlog
not even once. Chains and windows live for hours, and a look at all of them stands still for a second per million. What
is garbage is freed by its count: no input and no fault leaves parts that refer to each other
(`tests/simulation/test_collector.py`).
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# So many young objects make one look: what 100 decisions leave, and a millisecond on a busy core.
YOUNG_MAX: Final = 2_000
# One turn that makes so many more has a backlog before it: looking would take the time of every twelfth decision, and
# two thirds of what it saw are records under way, which their count frees in a moment.
BACKLOG_MIN: Final = 3 * YOUNG_MAX
# For one long turn, which nothing interrupts: loading a partition takes two thirds of the time that it takes with
# Python's own thresholds (`benchmarks/takeover.py`), since whatever it makes stays.
THRESHOLDS: Final = (100_000, 20, 20)
# All are looked at once there are so many times as many as at the last such look, and nothing was to be done for so
# long: between two intents there is always a moment.
GROWTH: Final = 2
REST_S: Final = 2.0
# At 0.8 s a million this look stands still for half of what a liveness probe waits for (`cli.worker.ALIVE_MS_MAX`). A
# worker that holds more never looks again: a mistake of ours then costs memory, and the process's size shows it.
WHOLE_MAX: Final = 600_000


def tune_collector() -> None:
    """Look at everything once, and from then on seldom at the young and never at what there is now."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class Collector:
    """Takes the process's garbage collector over; `step` is to be called between turns.

    Args:
        at_rest: is there nothing to do?
    """

    def __init__(self, at_rest: Callable[[], bool]) -> None:
        self._at_rest, self._busy_at = at_rest, time.monotonic()
        self._aged = 0  # objects that were young, since they were last counted
        self._look_at_all()

    def step(self) -> None:
        """Look at the young ones if they are many, but not too many for a moment like this."""
        young = gc.get_count()[0]
        if young >= YOUNG_MAX:
            if young < BACKLOG_MIN:
                gc.collect(0)
            gc.freeze()
            self._aged, self._busy_at = self._aged + young, time.monotonic()
        elif self._aged >= self._all and self._rests():
            self._aged = 0
            if WHOLE_MAX >= gc.get_freeze_count() >= GROWTH * self._all:
                self._look_at_all()

    def _rests(self) -> bool:
        """Asked between all turns once there is a reason: has it been at rest at each of them for long?"""
        now = time.monotonic()
        if not self._at_rest():
            self._busy_at = now
        return now - self._busy_at >= REST_S

    def _look_at_all(self) -> None:
        tune_collector()
        self._all = gc.get_freeze_count()
