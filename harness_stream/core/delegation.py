"""Delegation: who acts for whom, how far, and what a tree of delegations has read (DESIGN §5).

Rule of this file: a child never has more than its parent, neither rights nor a cleaner history. A tree is named by the
agent and chain of its topmost intent; its labels are one live set, kept in the lane's unit because they belong to
several agents. Every change reads nothing but the event and the unit it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.chain import Chain, Event, Lineage, chain_of, event_labels, remembered
from harness_stream.core.reasons import Deny
from harness_stream.core.state import agent_unit, lane_unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.core.model import Intent, Parent
    from harness_stream.core.state import State

Refusal = tuple[Deny, str]


class Delegation(NamedTuple):
    """In the parent agent's unit, under ("delegation", intent id): what came of one intent that delegates.

    Attributes:
        until: chain time up to which more may come; every child's intent moves it on.
        lineage: of the children.
        children: agents that acted for it.
    """

    until: int
    lineage: Lineage
    children: tuple[str, ...]


class Tree(NamedTuple):
    """In the lane's unit, under ("tree", root agent, root chain); as many as live chains that delegate.

    Attributes:
        labels: union of what its chains have read, sorted.
        ends_at: the last chain time at which it may act, None if the root's chain never ends.
    """

    labels: tuple[str, ...] = ()
    ends_at: int | None = None


# --- Reading ---


def delegation_of(state: State, parent: Parent, t: int) -> Delegation | None:
    """What the named parent intent may delegate, None if it is no effective approve that is remembered."""
    open_one: Delegation | None = state.get(agent_unit(parent.agent_id), ("delegation", parent.intent_id))
    if open_one is not None and open_one.until >= t:
        return open_one
    known = remembered(state, parent.agent_id, parent.intent_id, t)
    if known is None or known.decision != "approve" or known.chain_id is None:
        return None
    own = known.lineage or Lineage(parent.agent_id, known.chain_id, ())
    return Delegation(known.until, own._replace(above=(*own.above, parent.agent_id)), ())


def ancestors(state: State, intent: Intent, t: int) -> tuple[str, ...]:
    """Agents above an intent, the root's first; of an unknown parent just itself."""
    if intent.parent is None:
        return ()
    found = delegation_of(state, intent.parent, t)
    return (intent.parent.agent_id,) if found is None else found.lineage.above


def labels_of(state: State, event: Event) -> list[str]:
    """Labels an intent carries: those of its chain and of its tree, of which its own chain may be the root; sorted."""
    labels = _own_labels(state, event["lane"], event["agent_id"], event["chain_id"])
    if event["lineage"] is not None:
        tree: Tree = state.get(lane_unit(event["lane"]), ("tree", *event["lineage"]["root"])) or Tree()
        labels |= {*tree.labels, *event["lineage"]["joins"]}
    return sorted(labels)


def _own_labels(state: State, lane: str, agent_id: str, chain_id: str) -> set[str]:
    """What a chain has read, and what others have read for it."""
    chain = chain_of(state, agent_id, chain_id) or Chain()
    tree: Tree = state.get(lane_unit(lane), ("tree", agent_id, chain_id)) or Tree()
    return {*chain.labels, *tree.labels}


def barred(intent: Intent, t: int, inputs: Mapping[str, Any], lane: str, state: State) -> Refusal | None:
    """Why an intent may not act for its parent, None if it may or has none."""
    if intent.parent is None:
        needed = inputs["identity"]["delegated_only"]
        return (Deny.DELEGATION, "this agent may act only for a parent") if needed else None
    parent = inputs["above"][-1]
    if not parent["present"] or parent["status"] != "active" or not parent["delegates"]:
        return Deny.DELEGATION, f"{parent['agent_id']} does not delegate to this agent"
    if parent["lane"] != lane:
        return Deny.DELEGATION_LANE, parent["agent_id"]
    found = delegation_of(state, intent.parent, t)
    if found is None:
        return Deny.DELEGATION, "the parent intent is not an effective approve"
    return _too_far(intent, inputs["above"], found) or _ended(state, lane, intent.parent, found, t)


def _too_far(intent: Intent, above: Iterable[Mapping[str, Any]], found: Delegation) -> Refusal | None:
    above = list(above)
    for index, row in enumerate(above):
        name, below = row["agent_id"], len(above) - index
        if not row["present"] or row["status"] != "active":
            return Deny.DELEGATION, f"{name}, for whom this is done, is not active"
        if below > row["depth"]:
            return Deny.DELEGATION, f"{below} levels below {name}, which allows {row['depth']}"
        if row["exceeded"]:
            return Deny.DELEGATION, f"{name}, for whom this is done, may not `{intent.action}` itself"
    fan_out = above[-1]["fan_out"]
    if len({*found.children, intent.agent_id}) > fan_out:
        return Deny.DELEGATION, f"the parent intent has {fan_out} children, as many as it may"
    return None


def _ended(state: State, lane: str, parent: Parent, found: Delegation, t: int) -> Refusal | None:
    lineage = found.lineage
    tree: Tree | None = state.get(lane_unit(lane), ("tree", *lineage[:2]))
    if tree is None:
        chain = chain_of(state, parent.agent_id, lineage.root_chain) if len(lineage.above) == 1 else None
        ended = chain is None or chain.ended(t)
    else:
        ended = tree.ends_at is not None and t > tree.ends_at
    return (Deny.CHAIN_CLOSED, f"of {lineage.root_agent}, for whom this is done") if ended else None


def lineage_in_event(state: State, intent: Intent, lane: str, t: int) -> dict[str, Any] | None:
    """What the event of a delegated intent says of its tree: its place, and what joining adds to the tree's labels."""
    found = None if intent.parent is None else delegation_of(state, intent.parent, t)
    if found is None or intent.parent is None:
        return None
    lineage = found.lineage
    root = chain_of(state, lineage.root_agent, lineage.root_chain) if len(lineage.above) == 1 else None
    own = _own_labels(state, lane, intent.agent_id, intent.chain)
    joins = sorted(own | {*(() if root is None else root.labels)})
    ends_at = None if root is None or root.mandate is None else root.mandate["expires_at"]
    return {"root": list(lineage[:2]), "above": list(lineage.above), "joins": joins, "ends_at": ends_at}


def lineage_of(event: Event) -> Lineage | None:
    """The lineage an event carries."""
    told = event["lineage"]
    return None if told is None else Lineage(told["root"][0], told["root"][1], tuple(told["above"]))


# --- Changing ---


def note_child(state: State, event: Event) -> None:
    """In the parent's unit: an approved intent acts for it."""
    lineage, parent = lineage_of(event), event["parent"]
    if lineage is None or event["decision"] != "approve":
        return
    unit, key = agent_unit(parent["agent_id"]), ("delegation", parent["intent_id"])
    before: Delegation | None = state.get(unit, key)
    children = () if before is None or before.until < event["t"] else before.children
    children = children if event["agent_id"] in children else (*children, event["agent_id"])
    state.put(unit, key, Delegation(event["t"] + limits.DELEGATION_IDLE_MS, lineage, children))


def note_labels(state: State, event: Event, declassified: Iterable[str]) -> None:
    """In the lane's unit: an approved event's labels join its trees'; an approver may take some away.

    Its trees are the one it acts in, and the one that its own chain is the root of, if others act for it.
    """
    if event["decision"] != "approve":
        return
    home, joining = lane_unit(event["lane"]), event["lineage"]
    own: Tree | None = state.get(home, ("tree", event["agent_id"], event["chain_id"]))
    if own is not None:
        key = ("tree", event["agent_id"], event["chain_id"])
        state.put(home, key, _relabelled(own, event_labels(event), declassified))
    if joining is not None:
        key = ("tree", *joining["root"])
        tree: Tree = state.get(home, key) or Tree(ends_at=joining["ends_at"])
        state.put(home, key, _relabelled(tree, (*joining["joins"], *event_labels(event)), declassified))


def _relabelled(tree: Tree, more: Iterable[str], declassified: Iterable[str]) -> Tree:
    return tree._replace(labels=tuple(sorted({*tree.labels, *more} - set(declassified))))


def note_end(state: State, lane: str, agent_id: str, chain_id: str, t: int) -> None:
    """In the lane's unit: a root's chain was closed at chain time t, and so is its tree."""
    tree: Tree | None = state.get(lane_unit(lane), ("tree", agent_id, chain_id))
    if tree is not None:
        state.put(lane_unit(lane), ("tree", agent_id, chain_id), tree._replace(ends_at=t - 1))
