"""What an effective record does to agents, chains and windows (DESIGN §5).

Rule of this file: `apply` is the only code that changes chain state, for worker, reader and auditor alike. A change is
what of a record matters for state, as plain data; each unit changes by the change, itself and the compiled rules alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness_stream.core import limits
from harness_stream.core.answered import KEY as ANSWERED
from harness_stream.core.answered import note_answer
from harness_stream.core.chain import (
    AGENT_KEY,
    CLOSED_KEY,
    HOLDS_KEY,
    Agent,
    Chain,
    Event,
    closed_chains,
    event_bytes,
    event_labels,
    live_chains,
    open_holds,
)
from harness_stream.core.counting import count, homes_of, recount, warm
from harness_stream.core.deferred import groups_of, units_in
from harness_stream.core.delegation import note_child, note_end, note_labels
from harness_stream.core.denials import change_of_denials
from harness_stream.core.fold import DENIALS
from harness_stream.core.ids import is_of_ids, remember, remember_denied
from harness_stream.core.names import agent_unit, lane_of_unit
from harness_stream.core.provenance import ValueMap

if TYPE_CHECKING:
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State

Change = Mapping[str, Any]


def change_of(body: Mapping[str, Any], digest: str) -> dict[str, Any] | None:
    """What an effective record changes, None if it touches no chain.

    Args:
        body: the record's parsed value.
        digest: SHA-256 of its value.
    """
    if body["kind"] == "verdict":
        change = {
            "kind": "verdict",
            "digest": digest,
            "agent_id": body["agent_id"],
            "intent_id": body["intent_id"],
            "intent_digest": body["intent_digest"],
            "decision": body["decision"],
            "t": body["t"],
            "event": body["event"],
            "remember_until": body["remember_until"],
            "revision": body["rules"]["revision"],
        }
        approval = body.get("approval")
        if approval is not None and approval["declassify"]:
            change["declassify"] = approval["declassify"]
        if approval is not None and approval.get("answers"):
            change["answers"] = approval["answers"]
        return {**change, "hold": _hold_of(body, digest)} if body["decision"] == "hold" else change
    if body["kind"] == DENIALS:
        return change_of_denials(body, digest)
    if body["kind"] == "ack" and body.get("change") is not None:
        return {"kind": "ack", "agent_id": body["agent_id"], "t": body["t"], **body["change"]}
    return None


def _hold_of(body: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """What a person's answer needs later: the intent, which rules asked, here or before, until when."""
    asking = {r["rule"] for r in body["reasons"] if r.get("effect") == "hold"}
    before = () if body["approval"] is None else body["approval"]["satisfied"]
    return {
        "verdict": digest,
        "intent": body["intent"],
        "intent_digest": body["intent_digest"],
        "rules": sorted(asking.union(before)),
        "until": body["hold_until"],
        "event": body["event"],
    }


def units_of(change: Change) -> tuple[str, ...]:
    """Every unit a change may touch."""
    return tuple(unit for group in groups_of(change) for unit in units_in(group))


def apply_within(state: State, change: Change, windows: Windows, group: str) -> None:
    """Apply what of a change concerns the units of one group (`core.deferred`); others may change or not.

    Args:
        state: units of the group, and the partition's own.
        change: what to apply.
        windows: the compiled rules.
        group: which.
    """
    if change["kind"] == DENIALS:
        remember_denied(state, change, group)
        return
    if is_of_ids(group):
        remember(state, change)
        return
    of_agents = lane_of_unit(group) is None
    kept = windows.kept_with(agents=of_agents)
    if change["kind"] != "verdict":
        apply(state, change, kept)
    elif change["event"] is not None:
        _count(state, change, kept)
        if of_agents:
            _in_agents(state, change)
        else:
            note_labels(state, change["event"], change.get("declassify", ()))


def apply(state: State, change: Change, windows: Windows) -> None:
    """Apply one change to the newest layer of `state`."""
    if change["kind"] == "verdict":
        _verdict(state, change, windows)
    elif change["kind"] == DENIALS:
        remember(state, change)
    elif change["op"] == "outcome":
        _outcome(state, change, windows)
    elif change["op"] == "open":
        _open(state, change)
    else:
        _close(state, change)


# --- Verdicts ---


def _verdict(state: State, change: Change, windows: Windows) -> None:
    remember(state, change)
    if change["event"] is not None:
        _count(state, change, windows)
        _in_agents(state, change)
        note_labels(state, change["event"], change.get("declassify", ()))


def _count(state: State, change: Change, windows: Windows) -> None:
    _warm(state, change["event"], windows, change["revision"])
    count(state, change["event"], windows, change["revision"])


def _warm(state: State, event: Event, windows: Windows, revision: int) -> None:
    homes = homes_of(event, windows)
    if event["settles"] is not None:
        homes |= homes_of({**event, **event["settles"]}, windows)
    for home in homes:
        warm(state, home, windows, revision)


def _in_agents(state: State, change: Change) -> None:
    """In the agent's unit, and its parent's."""
    event, agent_id = change["event"], change["agent_id"]
    _keep(state, agent_unit(agent_id), event, change.get("declassify", ()))
    note_child(state, event)
    _hold(state, change)
    if "answers" in change:
        answers = change["answers"]
        note_answer(state, agent_id, event["chain_id"], answers["class"], answers["values"])


def _hold(state: State, change: Change) -> None:
    unit, intent_id, hold = agent_unit(change["agent_id"]), change["intent_id"], change.get("hold")
    before = state.get(unit, ("hold", intent_id))
    if before is not None:
        state.put(unit, ("held", before["verdict"]), None)
    if before is not None or hold is not None:
        state.put(unit, ("hold", intent_id), hold)
        waiting = [h for h in open_holds(state, change["agent_id"], change["t"]) if h[0] != intent_id]
        state.put(unit, HOLDS_KEY, (*waiting, *([] if hold is None else [(intent_id, hold["until"])])))
    if hold is not None:
        state.put(unit, ("held", hold["verdict"]), (intent_id, hold["until"]))


def _keep(state: State, unit: str, event: Event, declassified: tuple[str, ...]) -> None:
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    if event["chain_id"] not in agent.chains:
        state.put(unit, AGENT_KEY, agent._replace(chains=(*agent.chains, event["chain_id"])))
    chain: Chain = state.get(unit, ("chain", event["chain_id"])) or Chain()
    settles = event["settles"] is not None
    kept = tuple(e for e in chain.kept if e["id"] != event["id"]) if settles else chain.kept
    size = chain.kept_bytes + event_bytes(event)
    size -= sum(event_bytes(e) for e in chain.kept if e["id"] == event["id"]) if settles else 0
    cut = 0
    while len(kept) + 1 - cut > limits.KEPT_EVENTS_MAX or (size > limits.KEPT_BYTES_MAX and cut < len(kept)):
        size -= event_bytes(kept[cut])
        cut += 1
    after = Chain(
        chain.mandate,
        chain.closed_at,
        chain.events + (not settles),
        _labels(chain, event, declassified),
        (*(kept[cut:] if cut else kept), event),
        size,
    )
    state.put(unit, ("chain", event["chain_id"]), after)


def _labels(chain: Chain, event: Event, declassified: tuple[str, ...]) -> tuple[str, ...]:
    if event["decision"] != "approve":
        return chain.labels
    joins = () if event["lineage"] is None else event["lineage"]["joins"]
    more = {*joins, *event_labels(event)}
    if not declassified and more.issubset(chain.labels):  # it has read such things before
        return chain.labels
    return tuple(sorted({*chain.labels, *more} - set(declassified)))


# --- Mandates and outcomes ---


def _open(state: State, change: Change) -> None:
    unit, chain_id = agent_unit(change["agent_id"]), change["chain_id"]
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    live = live_chains(state, change["agent_id"], change["t"])
    closed = closed_chains(state, change["agent_id"], change["t"])
    if closed or state.get(unit, CLOSED_KEY) is not None:
        state.put(unit, CLOSED_KEY, closed or None)
    for gone in set(agent.chains) - set(live):
        state.put(unit, ("chain", gone), None)
        state.put(unit, ("values", gone), None)
        state.put(unit, (ANSWERED, gone), None)
    state.put(unit, AGENT_KEY, agent._replace(chains=(*live, chain_id)))
    state.put(unit, ("chain", chain_id), Chain(mandate=change["mandate"]))


def _close(state: State, change: Change) -> None:
    unit = agent_unit(change["agent_id"])
    chain: Chain | None = state.get(unit, ("chain", change["chain_id"]))
    if chain is not None:
        state.put(unit, ("chain", change["chain_id"]), chain._replace(closed_at=change["t"]))
    note_end(state, change["lane"], change["agent_id"], change["chain_id"], change["t"])


def _outcome(state: State, change: Change, windows: Windows) -> None:
    """An outcome that changes what counts brings the event it is about; windows are told, the chain is."""
    unit, intent_id, old = agent_unit(change["agent_id"]), change["intent_id"], change.get("event")
    remember(state, change)
    done = {"outcome": change["status"], "measures": change["measures"]}
    if old is not None:
        for event in (old, {**old, **done}):
            _warm(state, event, windows, change["revision"])
        recount(state, old, {**old, **done}, windows, change["revision"], change["t"])
    if "values" in change:
        own = (change["agent_id"], change["chain_id"])
        for agent_id, chain_id in dict.fromkeys((own, tuple(change["root"] or own))):
            before: ValueMap = state.get(agent_unit(agent_id), ("values", chain_id)) or ValueMap()
            after = before.after(change["values"], overflow=change["overflow"])
            state.put(agent_unit(agent_id), ("values", chain_id), after)
    chain: Chain | None = state.get(unit, ("chain", change["chain_id"]))
    if chain is not None:
        kept = tuple({**e, **done} if e["id"] == intent_id else e for e in chain.kept)
        state.put(unit, ("chain", change["chain_id"]), chain._replace(kept=kept))
