"""One agent's stored state, read for a person: where its partition stands, its chains, its windows (PROTOCOL §6).

Rule of this file: it reads the store and nothing else, and never decides. What it says holds as of the store's head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from harness_stream.core.chain import AGENT_KEY, Agent, Chain
from harness_stream.core.fold import Place
from harness_stream.core.groups import generation
from harness_stream.core.model import measure_of
from harness_stream.core.names import agent_unit
from harness_stream.core.rules.language import COUNTING
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.core.units import replay_unit
from harness_stream.errors import StateUnavailable
from harness_stream.runtime.mover import is_filling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness_stream.core import window
    from harness_stream.core.rules.windows import Windows
    from harness_stream.ports import StateStore, StoredUnit

# A busy partition moves a few hundred times a second, so its head rarely stands still over two round trips; what is
# shown is then as of some head between the two, which `as_of` says.
TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class WindowView:
    """One window group of an agent.

    Attributes:
        rules: ids of the rules that ask it.
        group: path → value.
        kind: its type.
        least: what it surely holds at the head's chain time: events, values, the sum, or how many selections matched.
        most: what it may hold; None is without bound.
    """

    rules: tuple[str, ...]
    kind: str
    group: Mapping[str, Any]
    timespan_ms: int
    least: int | str
    most: int | str | None
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """An agent that has done something.

    Attributes:
        chains: chain id → chain, the agent's own included.
    """

    chains: Mapping[str, Chain]
    windows: tuple[WindowView, ...]


@dataclass(frozen=True, slots=True)
class ChainView:
    """What the store says.

    Attributes:
        place: the fold it stands at; None if nothing is stored of the partition.
        seen: None if the agent never did anything.
    """

    place: Place | None
    seen: Seen | None = None


def stored_place(store: StateStore, partition: int) -> Place | None:
    """Where the store stands; None if it holds nothing of the partition.

    Raises:
        StateUnavailable: it does not answer, or is just being filled.
    """
    head = store.head(partition)
    if head is None:
        return None
    if is_filling(head):
        raise StateUnavailable(
            f"the state of partition {partition} is being filled anew",
            hint="try again in a moment; a worker does it, so one must run",
        )
    try:
        return Place.from_json(orjson.loads(head.header))
    except (ValueError, KeyError, TypeError) as error:
        raise StateUnavailable(
            f"what is stored of partition {partition} cannot be read: {error!r}",
            hint="a worker that starts replaces it from the log",
        ) from None


def view(store: StateStore, partition: int, agent_id: str, windows_of: Callable[[str], Windows]) -> ChainView:
    """Read one agent.

    Args:
        store: the state store.
        partition: the agent's lane's.
        agent_id: which.
        windows_of: the compiled bundle of a digest.

    Raises:
        StateUnavailable: the store does not answer, or lost this agent; a worker brings it back.
    """
    name = agent_unit(agent_id)
    place, loaded = stored_units(store, partition, (name,))
    never = loaded[name] is None and name not in store.units(partition)
    if place is None or place.header.rules is None or never:
        return ChainView(place)
    windows = windows_of(place.header.rules[0])
    state = state_of(loaded, windows)
    return ChainView(place, Seen(_chains(state, name), tuple(_windows(state, name, windows, place.header.t))))


def stored_units(
    store: StateStore, partition: int, names: Sequence[str]
) -> tuple[Place | None, dict[str, StoredUnit | None]]:
    """Units as stored, the partition's own with them, and the place as of which they are.

    Raises:
        StateUnavailable: the store does not answer, or is just being filled.
    """
    before = stored_place(store, partition)
    loaded: dict[str, StoredUnit | None] = {}
    for _ in range(TRIES):
        # One at a time: the first of a load comes, however large it is.
        for name in (PARTITION_UNIT, *names):
            loaded |= store.load(partition, [name])
        after = stored_place(store, partition)
        still, before = after == before, after
        if still:
            break
    return before, loaded


def state_of(loaded: Mapping[str, StoredUnit | None], windows: Windows) -> State:
    """A state of nothing but these units, the partition's own among them.

    Raises:
        StateUnavailable: the store lost one of the units.
    """
    state = State()
    for unit, stored in loaded.items():  # the partition's own comes first: replaying others asks it
        _install(state, unit, stored, windows)
    return state


def _install(state: State, name: str, stored: StoredUnit | None, windows: Windows) -> None:
    if stored is None and name == PARTITION_UNIT:
        return
    if stored is None or stored.base is None:
        raise StateUnavailable(f"the store lost `{name}`", hint="a worker brings it back from the log when it needs it")
    partition = state.confirmed(PARTITION_UNIT)
    state.install(name, replay_unit(name, stored.base, stored.deltas, partition, windows))


def _chains(state: State, unit: str) -> dict[str, Chain]:
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    return {chain_id: state.get(unit, ("chain", chain_id)) or Chain() for chain_id in agent.chains}


def _windows(state: State, unit: str, windows: Windows, t: int) -> Iterator[WindowView]:
    """The unit's window groups under the bundle in force that hold anything at t."""
    names = [rule.id for rule in windows.program.rules]
    for spec in windows.specs:
        asked_by = tuple(names[i] for i, asked in enumerate(windows.by_rule) if asked == spec)
        for key, kept in state.confirmed(unit).items():
            ours = isinstance(key, tuple) and key[:3] == ("window", spec.id, generation(state, spec.id))
            if not ours or kept is None or not isinstance(key, tuple) or kept.until < t:
                continue
            seen = kept.state.seen(spec, t)
            if seen.hi != 0 or seen.evidence:
                group = dict(zip(spec.group_by, key[3], strict=True))
                yield WindowView(asked_by, spec.kind, group, spec.timespan_ms, *_shown(spec, seen), seen.evidence)


def _shown(spec: window.Spec, seen: window.Seen) -> tuple[int | str, int | str | None]:
    """From … to: of a temporal window, how many of its selections matched; of a sum, in the measure's own unit."""
    if spec.kind not in COUNTING:
        return seen.counted, seen.counted
    if spec.kind != "value_sum":
        return seen.lo, seen.hi
    return measure_of(seen.lo), None if seen.hi is None else measure_of(seen.hi)
