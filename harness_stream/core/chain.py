"""Chains: what is kept of agents, their chains and their intents (DESIGN §5).

Rule of this file: values of state and how they are read. What changes them is `core.apply` alone; what windows count
over them is `core.counting`, which intents were answered `core.ids`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.model import OWN_CHAIN_PREFIX
from harness_stream.core.names import agent_unit

if TYPE_CHECKING:
    from harness_stream.core.state import State

Event = Mapping[str, Any]


class Chain(NamedTuple):
    """One chain of an agent.

    Attributes:
        mandate: what opened it, plain data; None for the agent's own chain.
        closed_at: chain time of its close.
        events: effective events ever counted.
        labels: union of what its approved events touched, sorted.
        kept: newest compact events: outcomes are about them.
        kept_bytes: their size, by `event_bytes`.
    """

    mandate: Mapping[str, Any] | None = None
    closed_at: int | None = None
    events: int = 0
    labels: tuple[str, ...] = ()
    kept: tuple[Event, ...] = ()
    kept_bytes: int = 0

    @property
    def declared(self) -> Mapping[str, Any]:
        """The mandate if an orchestrator signed it: what an agent says of itself names no values (DESIGN §3)."""
        return self.mandate if self.mandate is not None and self.mandate["declared_by"] != "agent" else {}

    def ended(self, t: int) -> bool:
        """Was it closed, or has its mandate expired, at chain time t?"""
        return self.closed_at is not None or (self.mandate is not None and t > self.mandate["expires_at"])


class Agent(NamedTuple):
    """What an agent's unit says of itself: its chains, and the switch its windows were last made for."""

    chains: tuple[str, ...] = ()
    windows_for: int | None = None
    """Revision of the rules in force then."""


AGENT_KEY = ("agent",)
"""A unit's `Agent`; a lane's unit has one too, without chains."""


OpenHold = tuple[str, int]
"""(intent id, chain time up to which it may be answered)."""
HOLDS_KEY = ("holds",)
"""In an agent's unit: its `OpenHold`s, and some that have ended."""


ClosedChain = tuple[str, int]
"""(chain id, chain time from which on its mandate opens nothing any more)."""
CLOSED_KEY = ("closed",)
"""In an agent's unit: its `ClosedChain`s, of which nothing else is kept."""


def chain_of(state: State, agent_id: str, chain_id: str) -> Chain | None:
    """A chain; the agent's own always exists."""
    found: Chain | None = state.get(agent_unit(agent_id), ("chain", chain_id))
    if found is None and chain_id == OWN_CHAIN_PREFIX + agent_id:
        return Chain()
    return found


def kept_event(state: State, agent_id: str, chain_id: str | None, intent_id: str) -> Event | None:
    """An intent's compact event, if its chain still keeps it."""
    chain: Chain | None = state.get(agent_unit(agent_id), ("chain", chain_id))
    kept = () if chain is None else chain.kept
    return next((e for e in reversed(kept) if e["id"] == intent_id), None)


def open_holds(state: State, agent_id: str, t: int) -> tuple[OpenHold, ...]:
    """An agent's intents that wait for an approver at chain time t, oldest first."""
    found: tuple[OpenHold, ...] = state.get(agent_unit(agent_id), HOLDS_KEY) or ()
    return tuple(hold for hold in found if hold[1] >= t)


def live_chains(state: State, agent_id: str, t: int) -> tuple[str, ...]:
    """Ids of an agent's chains that some window may still reach into at chain time t."""
    unit = agent_unit(agent_id)
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    return tuple(c for c in agent.chains if not _forgotten(state.get(unit, ("chain", c)), t))


def closed_chains(state: State, agent_id: str, t: int) -> tuple[ClosedChain, ...]:
    """Chains that were closed before their mandates ended, and that no window reaches any more at chain time t.

    Whoever has such a mandate would open its chain a second time, without a history.
    """
    unit = agent_unit(agent_id)
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    known: tuple[ClosedChain, ...] = state.get(unit, CLOSED_KEY) or ()
    ended = ((c, state.get(unit, ("chain", c))) for c in agent.chains)
    gone = ((c, chain.mandate["expires_at"]) for c, chain in ended if chain and chain.mandate and _forgotten(chain, t))
    return tuple(closed for closed in (*known, *gone) if closed[1] > t)


def _forgotten(chain: Chain | None, t: int) -> bool:
    """A mandate's chain is let go once the longest window can no longer reach into it."""
    if chain is None or chain.mandate is None:
        return chain is None
    expires_at: int = chain.mandate["expires_at"]
    ended = expires_at if chain.closed_at is None else min(chain.closed_at, expires_at)
    return bool(ended + limits.TIMESPAN_MS_MAX_DEFAULT < t)


def event_bytes(event: Event) -> int:
    """Size of a compact event, estimated the same way everywhere: its texts and a flat cost for the rest."""
    texts = len(event["action"]) + len(event["purpose"]) + len(event["chain_id"])
    words = [*event_labels(event), *event["roles"], *event["measures"]]
    words += [] if event["lineage"] is None else event["lineage"]["joins"]
    listed = sum(len(word) + _WORD_BYTES_FLAT for word in words)
    return texts + listed + _EVENT_BYTES_FLAT + sum(len(r["uri"]) + _RESOURCE_BYTES_FLAT for r in event["resources"])


# Ids, numbers and keys of a compact event and of one of its resources, measured on the JSON of typical ones.
_EVENT_BYTES_FLAT = 300
_RESOURCE_BYTES_FLAT = 80
_WORD_BYTES_FLAT = 12  # quotes, comma, and a measure's number


def event_labels(event: Event) -> Iterator[str]:
    """Labels of everything an event touches."""
    yield from event["labels"]
    for resource in event["resources"]:
        yield from resource["labels"]


def released(event: Event) -> bool:
    """Did it never start, so that it counts nowhere (PROTOCOL §8)?"""
    return event.get("outcome") == "abandoned"
