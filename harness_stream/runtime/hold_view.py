"""Where the values and labels of a held intent come from, as the workers' store has its chain now (DESIGN §5, §6).

Rule of this file: the words are those that the rules get, made by the code that makes them for the rules, on the state
that an answer would be decided on. It reads the store and never decides; what it says holds as of the store's head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness_stream.core.chain import chain_of, event_labels
from harness_stream.core.ids import lineage_of
from harness_stream.core.intake import inputs_of
from harness_stream.core.model import Intent
from harness_stream.core.names import agent_unit, lane_unit
from harness_stream.core.variables import variables_of
from harness_stream.errors import StateUnavailable
from harness_stream.runtime.chain_view import state_of, stored_units

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_stream.core.chain import Event
    from harness_stream.core.fold import Place
    from harness_stream.core.holds import Hold
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State
    from harness_stream.ports import StateStore


@dataclass(frozen=True, slots=True)
class HoldView:
    """What the store says of the chain behind a hold.

    Attributes:
        place: the fold it stands at.
        arguments: name → role, origin, links, exact, values, as rules see them.
        labels: what the chain and its tree carry → the first kept event that brought it; None if none that is kept did.
        mandate: what opened the chain; None for an agent's own chain.
        named: fingerprints of the intent's values that a mandate above names.
    """

    place: Place
    arguments: Mapping[str, Mapping[str, Any]]
    labels: Mapping[str, Event | None]
    mandate: Mapping[str, Any] | None
    named: tuple[str, ...]


def view_of(store: StateStore, partition: int, hold: Hold, windows_of: Callable[[str], Windows]) -> HoldView:
    """Read the chain of a hold, and those of the agents above it.

    Args:
        store: the state store.
        partition: the hold's.
        hold: which.
        windows_of: the compiled bundle of a digest.

    Raises:
        StateUnavailable: the store does not answer, is empty, has not come to the hold yet, or lost an agent.
    """
    event, intent = hold.event, Intent.model_validate(hold.body["intent"])
    place, loaded = stored_units(store, partition, _units(event))
    if place is None or place.header.rules is None or place.offset < hold.offset:
        behind = "holds nothing of this partition" if place is None else f"stands at {place.offset}, before the hold"
        raise StateUnavailable(f"Redis {behind}", hint="a running worker fills it from the log; try again in a moment")
    lane = lane_unit(event["lane"])
    if loaded[lane] is None and lane not in store.units(partition):  # nothing of it was worth keeping
        del loaded[lane]
    windows = windows_of(place.header.rules[0])
    state = state_of(loaded, windows)
    variables = variables_of(intent, inputs_of(hold.body), event, state, windows)
    chain = chain_of(state, hold.agent_id, event["chain_id"])
    return HoldView(
        place,
        variables["args"],
        {label: _brought(state, event, label) for label in variables["chain"]["labels"]},
        None if chain is None else chain.mandate,
        tuple(variables["mandate"]["named"]),
    )


def _units(event: Event) -> tuple[str, ...]:
    """Those of the agent and of all above it, and their lane's, where a tree's labels are."""
    lineage = lineage_of(event)
    agents = (event["agent_id"], *(() if lineage is None else lineage.above))
    return (*dict.fromkeys(map(agent_unit, agents)), lane_unit(event["lane"]))


def _brought(state: State, event: Event, label: str) -> Event | None:
    """The oldest kept event, of the chain or of one above, that carried this label."""
    lineage = lineage_of(event)
    chains = [(event["agent_id"], event["chain_id"])]
    chains += [] if lineage is None else list(zip(lineage.above, lineage.chains, strict=True))
    found = [chain for chain in (chain_of(state, *place) for place in chains) if chain is not None]
    kept = (e for chain in found for e in chain.kept if e["decision"] == "approve")
    return min((e for e in kept if label in event_labels(e)), key=lambda e: e["t"], default=None)
