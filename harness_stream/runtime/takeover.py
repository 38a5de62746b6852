"""After a warmed switch: every unit takes over its new windows, a few at a time (`core.warming`).

Rule of this file: taking over changes no decision, since a unit does it anyway when it is next touched. It is done so
that the store and the snapshots hold the windows, and nobody has to count them from the log again.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from harness_stream.core.chain import AGENT_KEY, Agent
from harness_stream.core.counting import WARMUPS_KEY, warm
from harness_stream.core.state import PARTITION_UNIT, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.core.rules.windows import Windows
    from harness_stream.runtime.mover import Mover
    from harness_stream.runtime.snapshots import Snapshots

# What one turn may take over: one bounded fetch of cold units, and one step of the store after it.
UNITS_PER_TURN: Final = 16
# What the store is behind by stays far below the 1,024 units it takes in one step (mover.MOVE_UNITS).
UNITS_WAITING_MAX: Final = 256


class Takeover:
    """Spreads one partition's warmed windows over its units.

    Args:
        state: the partition's; only what is confirmed is changed.
        mover: keeps the store behind.
        snapshots: the same for the chains topic.
    """

    def __init__(self, state: State, mover: Mover, snapshots: Snapshots) -> None:
        self._state, self._mover, self._snapshots = state, mover, snapshots
        self._forget_what_did_not_land()

    def due(self, units: frozenset[str]) -> frozenset[str]:
        """Those that may just have taken over: a change alone does not say what they hold now."""
        return frozenset(unit for warmed in self._state.warmed.values() for unit in units & warmed.keys())

    def step(self, windows: Windows, fetch: Callable[[list[str]], bool]) -> None:
        """A few more units; `windows` are those of the confirmed bundle."""
        if not self._state.warmed:
            return
        open_ones = self._state.confirmed(PARTITION_UNIT).get(WARMUPS_KEY) or {}
        revision = next((r for r in self._state.warmed if str(r) in open_ones), None)
        if revision is None or self._mover.waiting > UNITS_WAITING_MAX:
            return
        waiting = self._state.warmed[revision]
        units = list(islice((u for u in waiting if self._movable(u, revision)), UNITS_PER_TURN))
        fetch(units)  # those that it does not bring are asked for again
        for unit in units:
            self._take_over(unit, windows, revision)
        if not waiting and not self._state.is_open(PARTITION_UNIT):
            self._finish(revision)

    def _take_over(self, unit: str, windows: Windows, revision: int) -> None:
        if not self._state.has(unit):
            return
        values = self._state.confirmed(unit)
        if not self._done(unit, revision):
            alone = State()
            alone.install(PARTITION_UNIT, self._state.confirmed(PARTITION_UNIT))
            alone.install(unit, values)
            alone.warmed = self._state.warmed
            warm(alone, unit, windows, revision)
            self._state.install(unit, alone.confirmed(unit))
        self._written(unit)
        del self._state.warmed[revision][unit]

    def _movable(self, unit: str, revision: int) -> bool:
        """What is in flight may be an older version of it, unless it has taken over already."""
        return not self._state.is_open(unit) or self._done(unit, revision)

    def _done(self, unit: str, revision: int) -> bool:
        agent: Agent = self._state.confirmed(unit).get(AGENT_KEY) or Agent()
        return agent.windows_for is not None and agent.windows_for >= revision

    def _finish(self, revision: int) -> None:
        values = self._state.confirmed(PARTITION_UNIT)
        left = {r: place for r, place in values[WARMUPS_KEY].items() if r != str(revision)}
        self._state.install(PARTITION_UNIT, {**values, WARMUPS_KEY: left or None})
        del self._state.warmed[revision]
        self._written(PARTITION_UNIT)

    def _written(self, unit: str) -> None:
        self._mover.changed(frozenset({unit}), ())
        self._snapshots.changed(frozenset({unit}))

    def _forget_what_did_not_land(self) -> None:
        open_ones = self._state.confirmed(PARTITION_UNIT).get(WARMUPS_KEY) or {}
        for revision in [r for r in self._state.warmed if str(r) not in open_ones]:
            del self._state.warmed[revision]
