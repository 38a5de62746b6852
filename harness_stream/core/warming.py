"""Warming: a window that enters a bundle begins with the history it would have counted (DESIGN §5).

Rule of this file: what a switch warms is a function of the log alone. The switch record names the place the count began
at; whoever folds the switch counts the effective records from there to it, and finds the same windows. Units take over
theirs when they are next touched (`core.counting.warm`), so that a switch costs no pause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_stream.core.counting import count, homes_of, recount
from harness_stream.core.groups import Kept
from harness_stream.core.state import State
from harness_stream.core.window.spec import later

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.core.apply import Change
    from harness_stream.core.fold import Place
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import Key


class Warmup:
    """Counts for a bundle's new windows what the log says happened before it.

    Args:
        windows: the bundle, narrowed to its new windows.
        place: where the count begins: everything after it is taken in.

    Attributes:
        since: chain time up to which nothing was counted; None if the count began with the log.
    """

    def __init__(self, windows: Windows, place: Place) -> None:
        self.place = place
        self.since = None if place.offset < 0 else place.header.t
        self._windows = windows
        self._counted = State()
        self._begun: set[str] = set()

    def take(self, change: Change) -> None:
        """The next effective record's change."""
        event = change.get("event")
        if event is None:
            return
        if self.since is not None:
            self._begin(homes_of(event, self._windows))
        if change["kind"] == "verdict":
            count(self._counted, event, self._windows, change["revision"])
        else:
            told = {"outcome": change["status"], "measures": change["measures"]}
            recount(self._counted, event, {**event, **told}, self._windows, change["revision"], change["t"])

    def units(self, revision: int) -> dict[str, dict[Key, Any]]:
        """Unit → its new windows, under the keys they have from the switch of this revision on."""
        units = ((unit, self._counted.confirmed(unit)) for unit in self._counted.units())
        return {unit: _renamed(values, revision) for unit, values in units if any(map(_is_counted, values))}

    def forget_before(self, t: int) -> None:
        """Retention took a part of what was to be counted: up to chain time t nothing counts as seen."""
        self.since = t
        for unit in self._counted.units():
            for key, value in list(self._counted.confirmed(unit).items()):
                if isinstance(value, Kept):
                    state = value.state._replace(since=later(value.state.since, t))
                    self._counted.put(unit, key, Kept(value.until, state))

    def _begin(self, homes: Iterable[str]) -> None:
        """A group that something is counted in knows as little of what was before as one that nothing is counted in."""
        for home in homes:
            if home not in self._begun:
                self._begun.add(home)
                for spec in self._windows.specs:
                    self._counted.put(home, ("since", spec.id, 0), self.since)


def _is_counted(key: Key) -> bool:
    return not isinstance(key, tuple) or key[0] != "since"


def _renamed(values: Mapping[Key, Any], revision: int) -> dict[Key, Any]:
    renamed: dict[Key, Any] = {}
    for key, value in values.items():
        if not isinstance(key, tuple):
            renamed[key] = value
        else:
            name, window_id, _, *group = key
            renamed[name, window_id, revision, *group] = value
    return renamed
