"""Brings cold units into memory: from the store, and from their snapshots while it does not answer (PROTOCOL §6).

Whoever is asked for also takes in what the log told of it before anybody looked (`core.deferred`).
Rule of this file: nothing here waits. The store is asked once a turn, and bounded; snapshots are read a step a turn.
What cannot be had says so, so that nobody waits for it behind others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.core import limits
from harness_stream.core.deferred import group_of, units_in
from harness_stream.core.partition import Signal
from harness_stream.errors import StateUnavailable
from harness_stream.runtime.history import STEP_MS_MAX
from harness_stream.runtime.mover import RETRY_MS
from harness_stream.runtime.taking import CannotLoadError, CannotReadError, take_in, take_in_oldest

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence

    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State
    from harness_stream.ports import Clock, Metrics, StoredHead
    from harness_stream.runtime.cold import Cold
    from harness_stream.runtime.loading import Loader

# What snapshots did not bring is not looked for again before all who asked for it have given up.
FAILED_MS: Final = limits.DEADLINE_MS_DEFAULT
# For units that somebody waits for, a step as when loading; for others so little that 64 partitions decide in between.
TAKE_IN_MS_MAX: Final = STEP_MS_MAX
CATCH_UP_MS_MAX: Final = 2
# Between two fetches that no intent waits for: each may take as long as a turn, and others' intents are to go first.
CATCH_UP_PACE_MS: Final = 20


class Fetching:
    """Brings one partition's cold units.

    Args:
        loader: asks the store.
        cold: reads snapshots.
        state: the partition's.
        windows: gives the confirmed bundle. What is stored is confirmed, and so is the bundle it is replayed by: a
            switch in flight may never land.
        clock: for how long.
        metrics: where failures count.
        fail: told when the store lost what memory does not hold.
        reached: does a store that stands there hold all that was left in it?
        took_in: told which units have taken in what had changed them.
    """

    def __init__(
        self,
        loader: Loader,
        cold: Cold,
        state: State,
        windows: Callable[[], Windows | None],
        clock: Clock,
        metrics: Metrics,
        fail: Callable[[Signal, str], None],
        reached: Callable[[StoredHead | None, int], bool],
        took_in: Callable[[frozenset[str]], None],
    ) -> None:
        self._loader, self._cold, self._state, self._windows = loader, cold, state, windows
        self._clock, self._metrics, self._fail, self._reached = clock, metrics, fail, reached
        self._took_in = took_in
        self._left_ms: int | None = None  # since when the store does not answer
        self._reading: Generator[None, None, frozenset[str]] | None = None
        self._wanted: Sequence[str] = ()
        self._began_ms = 0
        self._failed: dict[str, int] = {}
        self._again_ms = 0  # nobody waits for what `catch_up` asks
        self._progress = loader.progress("records taken in by their units", 0, state.deferred.records, "deciding")

    def all_there(self, units: Sequence[str]) -> bool:
        """Ask the store for what is missing of `units`; are all in memory now?"""
        answered = self._ask(self._elsewhere(units))
        self._take_in(units)
        return answered and all(self._state.has(unit) for unit in units)

    def bring(self, units: Sequence[str]) -> bool:
        """As `all_there`, and without the store begin to read their snapshots."""
        if not self._ask(self._elsewhere(units)):
            self._read(self._elsewhere(units))
        self._take_in(units)
        return all(self._state.has(unit) for unit in units)

    def may_come(self, units: Sequence[str]) -> bool:
        """Is it worth waiting for units that are not in memory?"""
        if self._left_ms is None or self._clock.elapsed_ms() - self._left_ms <= limits.STORE_PATIENCE_MS:
            return True
        return all(self._readable(unit) for unit in self._elsewhere(units))

    def catch_up(self) -> None:
        """Those that nobody asks for take in a little: the store goes on once all have.

        What is not in memory is asked for in the order of the log as well, so what waits for it is seldom held up.
        """
        self._take_in_oldest(self._clock.elapsed_ms() + CATCH_UP_MS_MAX)
        self._progress.left(self._state.deferred.records)
        if self._state.all_here or self._clock.elapsed_ms() < self._again_ms:
            return
        away = self._elsewhere(self._state.deferred.coming(limits.COLD_FETCH_UNITS_MAX))
        if away:
            pace_ms = CATCH_UP_PACE_MS if self._ask(away) else RETRY_MS
            self._again_ms = self._clock.elapsed_ms() + pace_ms

    def step(self) -> None:
        """One step of reading snapshots."""
        if self._reading is None:
            return
        now_ms = self._clock.elapsed_ms()
        try:
            next(self._reading)
        except StopIteration as end:
            self._reading = None
            self._failed.update(dict.fromkeys(end.value, now_ms))
            return
        except CannotReadError:  # what is stored of them cannot be read: only the store brings them
            self._reading = None
            self._failed.update(dict.fromkeys(self._wanted, now_ms))
            return
        if now_ms - self._began_ms > limits.STORE_PATIENCE_MS:
            missing = self._elsewhere(self._wanted)
            if len(missing) == len(self._wanted):  # else the next try goes on with what is left
                self._failed.update(dict.fromkeys(missing, now_ms))
            self.close()

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def _elsewhere(self, units: Iterable[str]) -> list[str]:
        """Those that are stored only, and with them whoever must be there before one of them takes something in."""
        if self._state.all_here:
            return []
        deferred = self._state.deferred
        named = (other for unit in units for other in (units_in(group_of(unit)) if unit in deferred else (unit,)))
        return [unit for unit in dict.fromkeys(named) if self._state.is_elsewhere(unit)]

    def _take_in(self, units: Iterable[str]) -> None:
        """Those that are in memory."""
        if not self._state.deferred:
            return
        end_ms = self._clock.elapsed_ms() + TAKE_IN_MS_MAX
        for group in [g for g in dict.fromkeys(map(group_of, units)) if g in self._state.deferred]:
            if not self._elsewhere([group]) and self._take_in_group(group, end_ms):
                return

    def _take_in_group(self, group: str, end_ms: int) -> bool:
        """Was that all there is time for?"""
        return self._folded(end_ms, lambda *how: take_in(self._state, group, *how))

    def _take_in_oldest(self, end_ms: int) -> None:
        self._folded(end_ms, lambda *how: take_in_oldest(self._state, *how))

    def _folded(self, end_ms: int, fold: Callable[[Windows, Callable[[], bool]], frozenset[str]]) -> bool:
        """Was that all there is time for?"""
        windows = self._windows()
        if windows is None:
            return True
        try:
            self._took_in(fold(windows, lambda: self._clock.elapsed_ms() >= end_ms))
        except CannotLoadError as error:
            self._fail(error.signal, error.why)
        return self._clock.elapsed_ms() >= end_ms

    def _ask(self, elsewhere: Sequence[str]) -> bool:
        """One bounded call; False if the store does not answer."""
        windows = self._windows()
        if not elsewhere or windows is None:
            return True
        try:
            self._loader.fetch(self._state, elsewhere, windows, self._judge)
        except StateUnavailable:
            self._metrics.count("harness_state_failures_total", call="load")
            self._left_ms = self._clock.elapsed_ms() if self._left_ms is None else self._left_ms
            return False
        except CannotLoadError as error:
            self._fail(error.signal, error.why)
            return False
        self._left_ms = None
        self._failed.clear()
        return True

    def _judge(self, at: StoredHead | None) -> None:
        if not self._reached(at, self._clock.elapsed_ms()):
            raise CannotLoadError(Signal.STATE_GONE, "the store is another one than what was left")

    def _read(self, units: Sequence[str]) -> None:
        wanted = [unit for unit in units if self._readable(unit)]
        if self._reading is None and wanted:
            self._wanted, self._began_ms = wanted[: limits.COLD_FETCH_UNITS_MAX], self._clock.elapsed_ms()
            self._reading = self._cold.fetch(self._wanted, self._state, self._windows)

    def _readable(self, unit: str) -> bool:
        failed_ms = self._failed.get(unit)
        rests = failed_ms is not None and self._clock.elapsed_ms() - failed_ms <= FAILED_MS
        return not rests and self._cold.holds(unit)
