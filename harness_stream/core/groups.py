"""The window groups of one unit: where their states are kept, how many there is room for, when each has ended.

Rule of this file: time is cut into stretches of a window's timespan T, and a group lives to the end of the stretch
after the one that last touched it. Later nothing in it is within T, so having it and not having it read the same.
Whether a group lives is therefore a function of the log, whenever memory or a store really lets it go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from harness_stream.core import limits, window
from harness_stream.core.state import PARTITION_UNIT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness_stream.core.state import State

Group = tuple[Any, ...]

SINCE_KEY = ("since",)
"""In the partition's unit: window id → `Entered`, of the switch by which it entered the bundle in force."""


class Kept:
    """A group's state, under ("window", window id, generation, group).

    A unit may hold thousands of groups with hundreds of events each, of which one intent asks a few: what was read as
    text is taken apart when it is asked for, and what nobody changed is written as it was read.

    Args:
        until: the last chain time at which it can matter, epoch ms.
        state: of the window.
        text: the same as `text` gave it; one of the two is enough.
    """

    __slots__ = ("_state", "_text", "until")

    def __init__(self, until: int, state: window.WindowState | None = None, text: str = "") -> None:
        self.until, self._state, self._text = until, state, text

    @property
    def state(self) -> window.WindowState:
        """The window's state."""
        if self._state is None:
            self._state, self._text = window.from_json(orjson.loads(self._text)), ""
        return self._state

    @property
    def text(self) -> str:
        """The state as JSON, as units hold it."""
        return self._text or orjson.dumps(window.to_json(self.state), default=list).decode()

    def __repr__(self) -> str:
        return f"Kept({self.until}, {self.state})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kept) and (self.until, self.state) == (other.until, other.state)

    def __hash__(self) -> int:
        return hash((self.until, self.text))


class Room(NamedTuple):
    """How many groups of one window live, under ("groups", window id, generation).

    Attributes:
        until: when those touched last end, epoch ms.
        newest: how many those are.
        before: how many end one timespan earlier; nobody else lives.
    """

    until: int = -1
    newest: int = 0
    before: int = 0

    def at(self, timespan_ms: int, t: int) -> int:
        """How many live at chain time t, which no touch was after."""
        newest = self.newest if self.until >= t else 0
        return newest + (self.before if self.until - timespan_ms >= t else 0)

    def moved(self, timespan_ms: int, was: int | None, until: int) -> Room:
        """With a group that lives until `until` instead of `was` (None: it did not live)."""
        room = self
        if until > self.until:
            room = Room(until, 0, self.newest if until - timespan_ms == self.until else 0)
        newest = room.newest + (until == room.until) - (was == room.until)
        before = room.until - timespan_ms
        return Room(room.until, newest, room.before + (until == before) - (was == before))


def lives_until(timespan_ms: int, t: int) -> int:
    """The end of the stretch after the one t is in: an event of chain time t is within T at most so long."""
    return (t // timespan_ms + 2) * timespan_ms - 1


def window_of(state: State, spec: window.Spec, began: int, home: str, group: Group, t: int) -> window.WindowState:
    """One group's window at chain time t; one that does not live is empty since the unit's windows are known."""
    kept: Kept | None = state.get(home, window_key(spec, began, group))
    return kept.state if kept is not None and kept.until >= t else _untouched(state, spec, began, home)


def window_key(spec: window.Spec, began: int, group: Group) -> tuple[Any, ...]:
    """Where a unit has a group's window."""
    return "window", spec.id, began, group


def living(state: State, home: str, key: tuple[Any, ...], t: int) -> Kept | None:
    """What is kept under a `window_key`, if it lives at chain time t."""
    kept: Kept | None = state.get(home, key)
    return kept if kept is not None and kept.until >= t else None


def state_of(state: State, spec: window.Spec, began: int, home: str, kept: Kept | None) -> window.WindowState:
    """The window of a group that lives, or that does not."""
    return _untouched(state, spec, began, home) if kept is None else kept.state


def _untouched(state: State, spec: window.Spec, began: int, home: str) -> window.WindowState:
    since: int | None = state.get(home, ("since", spec.id, began))
    overflow: int | None = state.get(home, ("overflow", spec.id, began))
    known = [at for at in (since, overflow) if at is not None]
    return window.empty(spec, max(known) if known else None)


def put_window(
    state: State, spec: window.Spec, began: int, home: str, group: Group, after: window.WindowState, at: int, t: int
) -> None:
    """Keep what an event made of a group, whatever was there (`keep`)."""
    key = window_key(spec, began, group)
    keep(state, spec, home, key, living(state, home, key, t), after, at, t)


def keep(
    state: State,
    spec: window.Spec,
    home: str,
    key: tuple[Any, ...],
    kept: Kept | None,
    after: window.WindowState,
    at: int,
    t: int,
) -> None:
    """Keep what an event made of a group, if anybody can still reach into it and there is room.

    A window has room of its own: others come and go with bundles, and a unit is replayed by a later one. Where there is
    no room for a new group, ("overflow", window id, generation) says when: groups it does not know are unknown then.

    Args:
        state: the partition's.
        spec: the window.
        home: the unit.
        key: the group's `window_key`.
        kept: what lives there.
        after: its state.
        at: the event's own time, epoch ms.
        t: chain time now.
    """
    until, began = lives_until(spec.timespan_ms, at), key[2]
    if kept is not None:
        until = max(kept.until, until)
    elif until < t:
        return
    if kept is None or kept.until != until:
        room: Room = state.get(home, ("groups", spec.id, began)) or Room()
        if kept is None and room.at(spec.timespan_ms, t) >= limits.GROUPS_PER_UNIT_MAX:
            state.put(home, ("overflow", spec.id, began), t)
            return
        moved = room.moved(spec.timespan_ms, None if kept is None else kept.until, until)
        state.put(home, ("groups", spec.id, began), moved)
    state.put(home, key, Kept(until, after))


# --- Generations ---


class Entered(NamedTuple):
    """How a window entered the bundle in force.

    Attributes:
        revision: of the switch.
        t: its chain time.
        warmed: it begins with the log's history; else it is unknown before `t`.
        since: if warmed: chain time up to which the log told nothing, None if it told everything.
    """

    revision: int = 0
    t: int = 0
    warmed: bool = False
    since: int | None = None


def entered(state: State, window_id: str) -> Entered:
    """How a window (again) entered the bundle in force; all defaults if it was there from the first."""
    since: Mapping[str, Sequence[Any]] = state.get(PARTITION_UNIT, SINCE_KEY) or {}
    return Entered(*since.get(window_id, ()))


def generation(state: State, window_id: str) -> int:
    """Revision by which a window (again) entered the bundle in force, 0 if it was there from the first."""
    return generations(state)(window_id)


def generations(state: State) -> Callable[[str], int]:
    """The same for many windows: window id → generation."""
    since: Mapping[str, Sequence[Any]] = state.get(PARTITION_UNIT, SINCE_KEY) or {}
    if not since:
        return _first_generation
    return lambda window_id: int(since[window_id][0]) if window_id in since else 0


def _first_generation(window_id: str) -> int:  # noqa: ARG001  all of them
    return 0
