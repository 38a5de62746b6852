"""Which windows see an event, and where their states are kept (DESIGN §5).

Rule of this file: a window group's state is a value of the one unit its groups belong to, and changing it reads nothing
but the event, that unit and the partition's own; so a unit alone can be replayed. Windows are found by what they count
and by *generation*: one that enters a bundle anew starts anew.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from harness_stream.core import window
from harness_stream.core.chain import AGENT_KEY, Agent, Event, released
from harness_stream.core.groups import (
    SINCE_KEY,
    Entered,
    Group,
    entered,
    generation,
    generations,
    keep,
    living,
    put_window,
    state_of,
    window_key,
    window_of,
)
from harness_stream.core.names import agent_unit, is_shard, lane_of_unit, lane_shard, lane_unit
from harness_stream.core.scalars import micro_of
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.core.views import views_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.warming import Warmup


class Sighting:
    """A window group that an event belongs to.

    Attributes:
        spec: the window.
        home: the unit its state is in.
        group: which.
        match: how the event looks to it.
    """

    __slots__ = ("_after", "_before", "group", "home", "match", "spec")

    def __init__(self, spec: window.Spec, home: str, group: Group, match: window.Match) -> None:
        self.spec, self.home, self.group, self.match = spec, home, group, match
        self._before: window.WindowState | None = None
        self._after: window.WindowState | None = None

    def observed(self, before: window.WindowState, entry: window.Entry) -> window.WindowState:
        """The window after the event: what judging made of it is what counting keeps, since states never change."""
        after = self._after
        if after is None or self._before is not before:
            after = self._after = window.observe(self.spec, before, entry, self.match)
            self._before = before
        return after


LAST_SWITCH = ""
"""In `SINCE_KEY`'s value: the last switch itself."""
WARMUPS_KEY = ("warmups",)
"""In the partition's unit: revision → place, of switches whose warmed windows not every stored unit has taken over."""

MEASURES = "measures."
"""Prefix of paths that name a measure."""


# --- Events → windows ---


class Views:
    """How one event looks to conditions, and the groups it is in and their units: many windows group alike.

    Args:
        event: which.

    Attributes:
        all: one view a resource (`core.views`).
    """

    def __init__(self, event: Event) -> None:
        self.all = views_of(event)
        self._event = event
        self._places: list[dict[tuple[str, ...], tuple[Group, str]]] = [{} for _ in self.all]

    def place(self, spec: window.Spec, number: int) -> tuple[Group, str]:
        """What a window groups the view of that number by, and the unit where it does."""
        places, by = self._places[number], spec.group_by
        known = places.get(by)
        if known is None:
            group = group_of(spec, self.all[number])
            known = places[by] = group, home_of(spec, self._event, group)
        return known


def matches(event: Event, windows: Windows, views: Views | None = None) -> Sequence[Sighting]:
    """Every window group an event belongs to.

    An intent is one event whatever the number of its resources: a group sees it once, with all that matched in it.
    """
    if not windows.specs:
        return ()
    if windows.sighted is not None and windows.sighted[0] == event:
        return windows.sighted[1]
    found = list(_sightings(event, windows, Views(event) if views is None else views))
    windows.sighted = dict(event), found  # a copy: the event is still its maker's
    return found


def _sightings(event: Event, windows: Windows, views: Views) -> Iterator[Sighting]:
    masks, together = windows.select(views.all), 0
    for mask in masks:
        together |= mask
    for spec, concerned, match in windows.concerned(together):
        if len(masks) == 1:
            group, home = views.place(spec, 0)
            yield Sighting(spec, home, group, match or _match(spec, event, ((together, views.all[0]),)))
            continue
        places: dict[tuple[Group, str], list[tuple[int, Mapping[str, Any]]]] = {}
        for number, mask in enumerate(masks):
            if mask & concerned:
                places.setdefault(views.place(spec, number), []).append((mask, views.all[number]))
        for (group, home), seen in places.items():
            yield Sighting(spec, home, group, _match(spec, event, seen))


def _match(spec: window.Spec, event: Event, seen: Sequence[tuple[int, Mapping[str, Any]]]) -> window.Match:
    listed, mask, failed, values = spec.mask, 0, False, dict[str, None]()
    for bits, view in seen:
        mask |= bits & listed
        failed = failed or bool(bits >> window.FAILED_SHIFT & listed)
        if spec.kind == "value_count" and bits & listed:
            value = _path(view, spec.field or "")
            values.update({} if value is None else {window.value_of(value): None})
    amount = _measured(spec, event) if spec.kind == "value_sum" else 1
    return window.Match(mask, failed, tuple(values), amount)


def _measured(spec: window.Spec, event: Event) -> int | None:
    value = event["measures"].get((spec.field or "").removeprefix(MEASURES))
    return None if value is None else micro_of(value)


def group_of(spec: window.Spec, view: Mapping[str, Any]) -> Group:
    """The values a view is grouped by; lists and objects count by content, long texts by their digests."""
    values = [_path(view, path) for path in spec.group_by]
    return tuple([window.value_of(value) if isinstance(value, str) else value for value in values])


def _path(view: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401  a value of the event
    value: Any = view
    for part in _parts(path):
        value = value.get(part) if isinstance(value, dict) else None
    return repr(value) if isinstance(value, list | dict) else value


@lru_cache(maxsize=4_096)  # a rule set has at most 1,000 windows
def _parts(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def home_of(spec: window.Spec, event: Event, group: Group) -> str:
    """The unit a group's state lives in: the agent's if it is grouped by agent or chain, else the lane's or a shard."""
    if spec.is_agents:
        return agent_unit(event["agent_id"])
    return lane_shard(event["lane"], group) if spec.is_spread else lane_unit(event["lane"])


def _is_kept_in(spec: window.Spec, unit: str) -> bool:
    """Could `home_of` name this unit?"""
    if lane_of_unit(unit) is None:
        return spec.is_agents
    return not spec.is_agents and spec.is_spread == is_shard(unit)


def homes_of(event: Event, windows: Windows) -> frozenset[str]:
    """Every unit whose windows an event may be counted in or judged by."""
    views = views_of(event) if windows.spread else ()
    shards = (home_of(spec, event, group_of(spec, view)) for spec in windows.spread for view in views)
    return frozenset((agent_unit(event["agent_id"]), lane_unit(event["lane"]), *shards))


# --- Counting ---


def entry_of(event: Event) -> window.Entry:
    """An event as a window keeps it."""
    return window.Entry(event["t"], event["id"], event["hold_until"])


def count(state: State, event: Event, windows: Windows, revision: int) -> None:
    """Let every window that was there see the event; the hold it settles first leaves those it was pending in."""
    if event["settles"] is not None:
        _uncount(state, {**event, **event["settles"]}, windows, event["t"])
    denied, t, entry, generation_of = event["decision"] == "deny", event["t"], entry_of(event), generations(state)
    for sighting in matches(event, windows):
        spec, home = sighting.spec, sighting.home
        began = generation_of(spec.id)
        if (denied and not spec.attempts) or began > revision:
            continue
        key = window_key(spec, began, sighting.group)
        kept = living(state, home, key, t)
        before = state_of(state, spec, began, home, kept)
        keep(state, spec, home, key, kept, sighting.observed(before, entry), t, t)


def recount(state: State, old: Event, new: Event, windows: Windows, revision: int, t: int) -> None:
    """At t an approved event turns out otherwise (an outcome): windows see `new` in its place, or nothing if released.

    A window that sees it as before is not touched.
    """
    before = {(s.spec.id, s.home, s.group): s.match for s in matches(old, windows)}
    after = {} if released(new) else {(s.spec.id, s.home, s.group): s.match for s in matches(new, windows)}
    generation_of = generations(state)
    specs = {spec.id: spec for spec in windows.specs if generation_of(spec.id) <= revision}
    for key in dict.fromkeys((*before, *after)):
        was, now, spec = before.get(key), after.get(key), specs.get(key[0])
        if spec is not None and was != now:
            (_, home, group), began = key, generation_of(spec.id)
            seen = window_of(state, spec, began, home, group, t)
            seen = seen if was is None else window.release(spec, seen, entry_of(old), was)
            seen = seen if now is None else window.insert(spec, seen, entry_of(new), now)
            put_window(state, spec, began, home, group, seen, new["t"], t)


def _uncount(state: State, held: Event, windows: Windows, t: int) -> None:
    """A held event leaves its windows: those of the facts as they were, which may have changed since."""
    generation_of = generations(state)
    for sighting in matches(held, windows):
        spec, home, group = sighting.spec, sighting.home, sighting.group
        began = generation_of(spec.id)
        before = window_of(state, spec, began, home, group, t)
        after = window.forget(before, held["id"])
        if after != before:
            put_window(state, spec, began, home, group, after, held["t"], t)


# --- Switching bundles ---


def fresh_windows(state: State, old: Windows | None, new: Windows, *, warmed: bool) -> frozenset[str]:
    """Ids of the windows that a switch from `old` to `new` begins anew.

    A switch that warms also takes those that entered before without being warmed: they need not stay unknown.
    """
    if old is None:
        return frozenset()
    known = {spec.id for spec in old.specs if not (warmed and _is_cold(entered(state, spec.id)))}
    return frozenset(spec.id for spec in new.specs if spec.id not in known)


def _is_cold(how: Entered) -> bool:
    return how.revision > 0 and not how.warmed


def switched(
    state: State, old: Windows | None, new: Windows, t: int, revision: int, warmup: Warmup | None = None
) -> None:
    """A partition switches bundles at chain time t: windows it did not have begin a generation, the others go on.

    Args:
        state: the partition's.
        old: the bundle before, None for the first.
        new: the bundle from here on.
        t: chain time, epoch ms.
        revision: of the new bundle.
        warmup: what the new windows would have counted; without it they are unknown from here back.
    """
    if old is None:
        return
    since: Mapping[str, Sequence[Any]] = state.get(PARTITION_UNIT, SINCE_KEY) or {}
    how = Entered(revision, t, warmup is not None, None if warmup is None else warmup.since)
    fresh = {window_id: list(how) for window_id in fresh_windows(state, old, new, warmed=how.warmed)}
    kept = {spec.id: since[spec.id] for spec in new.specs if spec.id in since and spec.id not in fresh}
    state.put(PARTITION_UNIT, SINCE_KEY, {**kept, **fresh, LAST_SWITCH: list(Entered(revision, t))})
    if warmup is not None:
        open_ones = state.get(PARTITION_UNIT, WARMUPS_KEY) or {}
        state.put(PARTITION_UNIT, WARMUPS_KEY, {**open_ones, str(revision): warmup.place.to_json()})
        state.warmed[revision] = warmup.units(revision)


def unseen(state: State, revision: int, t: int) -> None:
    """Retention took what a warmed switch is counted from again: who takes over from now on knows nothing up to t."""
    since: Mapping[str, Sequence[Any]] = state.get(PARTITION_UNIT, SINCE_KEY) or {}
    hows = {window_id: Entered(*how) for window_id, how in since.items()}
    taken = {w: how._replace(since=window.later(how.since, t)) for w, how in hows.items() if how.revision == revision}
    state.put(PARTITION_UNIT, SINCE_KEY, {window_id: list(how) for window_id, how in {**hows, **taken}.items()})


def cold_homes(state: State, event: Event, windows: Windows) -> list[str]:
    """Units of an event that must be warmed for the bundle in force; once each has been, there are none."""
    switch = generation(state, LAST_SWITCH)
    return [home for home in homes_of(event, windows) if not _made_for(state, home, switch)]


def _made_for(state: State, unit: str, switch: int) -> bool:
    agent: Agent | None = state.get(unit, AGENT_KEY)
    return agent is not None and agent.windows_for is not None and agent.windows_for >= switch


def warm(state: State, unit: str, windows: Windows, revision: int | None = None) -> None:
    """Make a unit's windows for the bundle in force, once after each switch.

    A change from before a switch (it names its `revision`) may be replayed after it, and must find what it found then.

    They come from the log if the switch was warmed, else they are known from the switch on. So every reader gets the
    same windows whenever it looks.
    """
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    switch = generation(state, LAST_SWITCH) if revision is None else revision
    if agent.windows_for is not None and agent.windows_for >= switch:
        return
    _drop_dead_windows(state, unit, windows)
    # Nobody has acted in a new unit before; but a new shard's lane may have a past that was counted nowhere.
    new = 0 if is_shard(unit) else switch
    made_for = new if agent.windows_for is None else agent.windows_for
    generation_of = generations(state)
    fresh = [s for s in windows.specs if made_for < generation_of(s.id) <= switch and _is_kept_in(s, unit)]
    for spec in fresh:
        how = entered(state, spec.id)
        state.put(unit, ("since", spec.id, how.revision), how.since if how.warmed else how.t)
        if how.warmed:
            _take_over(state, unit, spec.id, how.revision)
    state.put(unit, AGENT_KEY, agent._replace(windows_for=switch))


def _take_over(state: State, unit: str, window_id: str, revision: int) -> None:
    for key, value in state.warmed.get(revision, {}).get(unit, {}).items():
        if isinstance(key, tuple) and key[1] == window_id:
            state.put(unit, key, value)


def _drop_dead_windows(state: State, unit: str, windows: Windows) -> None:
    """Windows that the bundle in force does not have are never read again: if they come back, it is as new ones."""
    live = live_windows(state, windows)
    for key in list(state.confirmed(unit)):
        if isinstance(key, tuple) and key[0] in _OF_A_WINDOW and (key[1], key[2]) not in live:
            state.put(unit, key, None)


_OF_A_WINDOW = frozenset({"window", "since", "groups", "overflow"})
"""First words of keys that go on with a window's id and generation."""


def live_windows(state: State, windows: Windows) -> frozenset[tuple[str, int]]:
    """(window id, generation) of every window that is read under the bundle in force."""
    generation_of = generations(state)
    return frozenset((spec.id, generation_of(spec.id)) for spec in windows.specs)
