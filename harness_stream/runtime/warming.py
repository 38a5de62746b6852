"""Before a switch: the new bundle's windows are counted while the old one decides (DESIGN §5, `core.warming`).

Rule of this file: the count follows the very records that will stand before the switch: those in the log, round after
round until what was published meanwhile is little enough to be kept, then each micro-batch as it is published. A fault
ends it with everything else that is speculative, and it begins anew.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from harness_stream.core import limits
from harness_stream.core.apply import Change
from harness_stream.core.fold import DENIALS
from harness_stream.core.warming import Warmup

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from harness_stream.core.fold import Place
    from harness_stream.core.rules.windows import Windows
    from harness_stream.runtime.history import History

# A place to count from is a checkpoint, and a partition at rest writes one an hour (checkpoints.CHECKPOINT_IDLE_MS).
CHECKPOINT_GAP_MS: Final = 3_660_000
# What was published meanwhile, a step at a time: twice what a turn can publish, so that it comes to an end.
STEP_CHANGES: Final = limits.IN_FLIGHT_RECORDS_MAX
# Of what is published during a round so much is kept, a few megabytes; beyond, another round reads it from the log.
LATER_MAX: Final = 4_096


class Warming:
    """Prepares one switch.

    Args:
        history: this partition's decision log.
        windows: the new bundle, narrowed to its new windows; none: there is nothing to do.
        revision: of the new bundle.
        place: the confirmed place.
        published_now: the place that is confirmed, the decision-log offset up to which it is, and the changes of own
            records beyond, in order.
    """

    def __init__(
        self,
        history: History,
        windows: Windows,
        revision: int,
        place: Place,
        published_now: Callable[[], tuple[Place, int, Iterable[Change]]],
    ) -> None:
        self.revision = revision
        self.warmup: Warmup | None = None
        self._history, self._windows, self._published_now = history, windows, published_now
        self._place, self._began = place, False
        self._end, self._later = 0, deque[Change]()
        self._too_many = self._draining = False
        self._caught_up = not windows.specs
        self._longest_ms = max((spec.timespan_ms for spec in windows.specs), default=0)

    @property
    def ready(self) -> bool:
        """May the switch be written?"""
        return self._caught_up

    @property
    def progress(self) -> str:
        """How far it is, for people."""
        if self._caught_up:
            return "done"
        if not self._began:
            return "looking for where to begin"
        return f"{self._history.offset:,} of {self._end:,} records of the log"

    def run(self, now_ms: int) -> Generator[None, None, None]:
        """Count what is in the log, then what was published meanwhile."""
        if self._caught_up:
            return
        self._begin_round()
        since_ms = now_ms - self._longest_ms - CHECKPOINT_GAP_MS
        place = yield from self._history.place_before(since_ms, self._end)
        warmup = Warmup(self._windows, place or self._place)
        self._began = True
        counted = yield from self._history.count(warmup, self._end, self.revision, self._place.header.t)
        while self._too_many:
            self._begin_round()
            end_t = self._place.header.t
            counted = yield from self._history.count(warmup, self._end, self.revision, end_t, counted)
        self._draining = True  # from here on what comes is taken one by one, so none of it may be let go
        while self._later:
            for _ in range(min(len(self._later), STEP_CHANGES)):
                warmup.take(self._later.popleft())
            if self._later:  # not after the last one: more would have come by the next turn
                yield
        self.warmup, self._caught_up = warmup, True

    def _begin_round(self) -> None:
        self._place, self._end, in_flight = self._published_now()
        self._later, self._too_many = deque(in_flight), False

    def published(self, changes: Iterable[Change]) -> None:
        """What own records published from now on change, in order."""
        if self.warmup is None:
            self._later.extend(change for change in changes if change["kind"] != DENIALS)  # large, and counted nowhere
            if len(self._later) > LATER_MAX and not self._draining:
                self._later.clear()
                self._too_many = True
            return
        for change in changes:
            self.warmup.take(change)
