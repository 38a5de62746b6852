"""Delegation: who acts for whom, how far, and what a tree of delegations has read (DESIGN §5).

Rule of this file: a child never has more than its parent, neither rights nor a cleaner history. A tree is named by the
agent and chain of its topmost intent; its labels are one live set, kept in the lane's unit because they belong to
several agents. Every change reads nothing but the event and the unit it changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.chain import Chain, Event, chain_of, event_labels
from harness_stream.core.ids import Lineage, lineage_of, remembered
from harness_stream.core.model import OWN_CHAIN_PREFIX
from harness_stream.core.names import agent_unit, lane_unit
from harness_stream.core.reasons import Deny

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

    def forgotten(self, t: int) -> bool:
        """Can nobody act in it, or ask for it, at or after chain time t?"""
        return self.ends_at is not None and self.ends_at < t - limits.DELEGATION_IDLE_MS


# --- Reading ---


def delegation_of(state: State, parent: Parent, t: int) -> Delegation | None:
    """What the named parent intent may delegate, None if it is no effective approve that is remembered."""
    open_one: Delegation | None = state.get(agent_unit(parent.agent_id), ("delegation", parent.intent_id))
    if open_one is not None and open_one.until >= t:
        return open_one
    known = remembered(state, parent.agent_id, parent.intent_id, t)
    if known is None or known.decision != "approve" or known.chain_id is None:
        return None
    own = known.lineage or Lineage(parent.agent_id, known.chain_id, (), ())
    below = own._replace(above=(*own.above, parent.agent_id), chains=(*own.chains, known.chain_id))
    return Delegation(known.until, below, ())


def ancestors(state: State, intent: Intent, t: int) -> tuple[str, ...]:
    """Agents above an intent, the root's first; of an unknown parent just itself."""
    if intent.parent is None:
        return ()
    found = delegation_of(state, intent.parent, t)
    return (intent.parent.agent_id,) if found is None else found.lineage.above


def labels_of(state: State, event: Event) -> list[str]:
    """Labels an intent carries: those of its chain and of its tree, of which its own chain may be the root; sorted."""
    labels = _own_labels(state, event["lane"], event["agent_id"], event["chain_id"], event["t"])
    return sorted(labels if event["lineage"] is None else labels | {*event["lineage"]["joins"]})


def _own_labels(state: State, lane: str, agent_id: str, chain_id: str, t: int) -> set[str]:
    """What a chain has read, and what others have read for it."""
    chain = chain_of(state, agent_id, chain_id) or Chain()
    tree = _tree(state, lane, (agent_id, chain_id), t) or Tree()
    return {*chain.labels, *tree.labels}


def _tree(state: State, lane: str, root: Iterable[str], t: int) -> Tree | None:
    """A tree that ended an hour ago is none any more, whether or not it was forgotten yet."""
    tree: Tree | None = state.get(lane_unit(lane), ("tree", *root))
    return None if tree is None or tree.forgotten(t) else tree


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
    return _too_far(intent, inputs["above"], found) or _ended(state, found.lineage, t)


def _too_far(intent: Intent, above: Iterable[Mapping[str, Any]], found: Delegation) -> Refusal | None:
    above = list(above)
    for index, row in enumerate(above):
        name, below = row["agent_id"], len(above) - index
        if not row["present"] or row["status"] != "active":
            return Deny.DELEGATION, f"{name}, for whom this is done, is not active"
        if not row["delegates"]:
            return Deny.DELEGATION, f"{name} does not delegate any more to who acts for it"
        if below > row["depth"]:
            return Deny.DELEGATION, f"{below} levels below {name}, which allows {row['depth']}"
        if row["exceeded"]:
            return Deny.DELEGATION, f"{name}, for whom this is done, may not `{intent.action}` itself"
    fan_out = above[-1]["fan_out"]
    if len({*found.children, intent.agent_id}) > fan_out:
        return Deny.DELEGATION, f"the parent intent has {fan_out} children, as many as it may"
    return None


def _ended(state: State, lineage: Lineage, t: int) -> Refusal | None:
    for agent_id, chain_id in zip(lineage.above, lineage.chains, strict=True):
        chain = chain_of(state, agent_id, chain_id)
        if chain is None or chain.ended(t):
            return Deny.CHAIN_CLOSED, f"of {agent_id}, for whom this is done"
    return None


def ends_at(state: State, event: Event) -> int | None:
    """The last chain time of all mandates that an event stands under, its own and those above; None without any."""
    lineage = lineage_of(event)
    if lineage is None and event["chain_id"] == OWN_CHAIN_PREFIX + event["agent_id"]:
        return None  # most events
    above = () if lineage is None else zip(lineage.above, lineage.chains, strict=True)
    found = (chain_of(state, *pair) for pair in ((event["agent_id"], event["chain_id"]), *above))
    return min((chain.mandate["expires_at"] for chain in found if chain and chain.mandate is not None), default=None)


def lineage_in_event(state: State, intent: Intent, lane: str, t: int) -> dict[str, Any] | None:
    """What the event of a delegated intent says of its tree: its place, and the labels that both sides carry from now.

    A child that leaves its parent out the next time has still heard from it, so they become its chain's own as well.
    """
    found = None if intent.parent is None else delegation_of(state, intent.parent, t)
    if found is None or intent.parent is None:
        return None
    lineage = found.lineage
    root = chain_of(state, lineage.root_agent, lineage.root_chain) if len(lineage.above) == 1 else None
    tree = _tree(state, lane, lineage[:2], t) or Tree()
    own = _own_labels(state, lane, intent.agent_id, intent.chain, t)
    above = _own_labels(state, lane, intent.parent.agent_id, lineage.chains[-1], t)
    return {
        "root": list(lineage[:2]),
        "above": list(lineage.above),
        "chains": list(lineage.chains),
        "joins": sorted(own | above | {*tree.labels}),
        "ends_at": None if root is None or root.mandate is None else root.mandate["expires_at"],
    }


# --- Changing ---


def note_child(state: State, event: Event) -> None:
    """In the parent's unit: an approved intent acts for it, or a held one may yet.

    A hold takes no place among the children: whether there is room is asked again when it is answered.
    """
    lineage, parent = lineage_of(event), event["parent"]
    if lineage is None or event["decision"] == "deny":
        return
    unit, key = agent_unit(parent["agent_id"]), ("delegation", parent["intent_id"])
    before: Delegation | None = state.get(unit, key)
    children = () if before is None or before.until < event["t"] else before.children
    if event["decision"] == "approve" and event["agent_id"] not in children:
        children = (*children, event["agent_id"])
    until = max(event["t"] + limits.DELEGATION_IDLE_MS, event["hold_until"] or 0)
    state.put(unit, key, Delegation(until, lineage, children))


def note_labels(state: State, event: Event, declassified: Iterable[str]) -> None:
    """In the lane's unit: an approved event's labels join its trees'; an approver may take some away.

    Its trees are the one it acts in, and the one that its own chain is the root of, if others act for it.
    """
    if event["decision"] != "approve":
        return
    home, joining, t = lane_unit(event["lane"]), event["lineage"], event["t"]
    own_root = (event["agent_id"], event["chain_id"])
    more = {*event_labels(event), *(() if joining is None else joining["joins"])}
    own = _tree(state, event["lane"], own_root, t)
    if own is not None:
        state.put(home, ("tree", *own_root), _relabelled(own, more, declassified))
    if joining is not None:
        tree = _tree(state, event["lane"], joining["root"], t) or Tree(ends_at=joining["ends_at"])
        state.put(home, ("tree", *joining["root"]), _relabelled(tree, more, declassified))


def _relabelled(tree: Tree, more: Iterable[str], declassified: Iterable[str]) -> Tree:
    return tree._replace(labels=tuple(sorted({*tree.labels, *more} - set(declassified))))


def note_end(state: State, lane: str, agent_id: str, chain_id: str, t: int) -> None:
    """In the lane's unit: a root's chain was closed at chain time t, and so is its tree."""
    tree: Tree | None = state.get(lane_unit(lane), ("tree", agent_id, chain_id))
    if tree is not None:
        state.put(lane_unit(lane), ("tree", agent_id, chain_id), tree._replace(ends_at=t - 1))
