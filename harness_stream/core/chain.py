"""Chains: what an effective record does to agents, chains and windows (DESIGN §5).

Rule of this file: `apply` is the only code that changes chain state, for worker, reader and auditor alike, and it reads
nothing but the change, the state and the compiled rules. A change is what of a record matters for state, as plain data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits, window
from harness_stream.core.model import OWN_CHAIN_PREFIX
from harness_stream.core.state import PARTITION_UNIT, State, agent_unit, lane_unit
from harness_stream.core.views import views_of

if TYPE_CHECKING:
    from harness_stream.core.rules.windows import Windows

Change = Mapping[str, Any]
Event = Mapping[str, Any]
Group = tuple[Any, ...]


class Remembered(NamedTuple):
    """An intent id that was taken in: what a second record with it is compared with, and what an outcome refers to.

    Attributes:
        digest: of the intent's value as received.
        until: chain time up to which the id is remembered.
        decision: approve, deny or hold.
        verdict_digest: of the newest verdict's value.
        t: chain time of that verdict.
        hold_until: of a hold, else None.
        chain_id: where the event stands.
        outcome: reported status, None while there is none.
    """

    digest: str
    until: int
    decision: str
    verdict_digest: str
    t: int
    hold_until: int | None
    chain_id: str | None
    outcome: str | None = None


class Chain(NamedTuple):
    """One chain of an agent.

    Attributes:
        mandate: what opened it, plain data; None for the agent's own chain.
        closed_at: chain time of its close.
        events: effective events ever counted.
        labels: union of what its approved events touched, sorted.
        kept: newest compact events, for evidence and new rules.
        kept_bytes: their size, by `event_bytes`.
        dropped_at: chain time of the newest event no longer kept.
    """

    mandate: Mapping[str, Any] | None = None
    closed_at: int | None = None
    events: int = 0
    labels: tuple[str, ...] = ()
    kept: tuple[Event, ...] = ()
    kept_bytes: int = 0
    dropped_at: int | None = None


class Agent(NamedTuple):
    """What an agent's unit says of itself: its chains, and the switch its windows were last made for."""

    chains: tuple[str, ...] = ()
    windows_for: int | None = None
    """Revision of the rules in force then."""


AGENT_KEY = ("agent",)
"""A unit's `Agent`; a lane's unit has one too, without chains."""
SINCE_KEY = ("since",)
"""In the partition's unit: window id → [revision, chain time] of the switch by which it entered the bundle in force."""
LAST_SWITCH = ""
"""Stands there for the last switch itself."""
OVERFLOW_KEY = ("overflow",)
"""Chain time from which on a unit had no room for new groups: groups it does not know are unknown before."""


def change_of(body: Mapping[str, Any], digest: str) -> dict[str, Any] | None:
    """What an effective record changes, None if it touches no chain.

    Args:
        body: the record's parsed value.
        digest: SHA-256 of its value.
    """
    if body["kind"] == "verdict":
        keys = ("agent_id", "intent_id", "intent_digest", "decision", "t", "event", "remember_until")
        change = {"kind": "verdict", "digest": digest, **{key: body[key] for key in keys}}
        change["revision"] = body["rules"]["revision"]
        return {**change, "hold": _hold_of(body, digest)} if body["decision"] == "hold" else change
    if body["kind"] == "ack" and body.get("change") is not None:
        return {"kind": "ack", "agent_id": body["agent_id"], "t": body["t"], **body["change"]}
    return None


def _hold_of(body: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """What a person's answer needs later: the intent, which rules asked, until when."""
    return {
        "verdict": digest,
        "intent": body["intent"],
        "intent_digest": body["intent_digest"],
        "rules": [r["rule"] for r in body["reasons"] if r.get("effect") == "hold"],
        "until": body["hold_until"],
        "event": body["event"],
    }


def units_of(change: Change) -> tuple[str, ...]:
    """Every unit a change may touch."""
    event = change.get("event")
    agent = agent_unit(change["agent_id"])
    return (agent,) if event is None else (agent, lane_unit(event["lane"]))


def apply(state: State, change: Change, windows: Windows) -> None:
    """Apply one change to the newest layer of `state`."""
    if change["kind"] == "verdict":
        _apply_verdict(state, change, windows)
    else:
        _APPLY_ACK[change["op"]](state, change)


def chain_of(state: State, agent_id: str, chain_id: str) -> Chain | None:
    """A chain; the agent's own always exists."""
    found: Chain | None = state.get(agent_unit(agent_id), ("chain", chain_id))
    if found is None and chain_id == OWN_CHAIN_PREFIX + agent_id:
        return Chain()
    return found


def remembered(state: State, agent_id: str, intent_id: str, t: int) -> Remembered | None:
    """The intent id's memory, if it still counts at chain time t."""
    found: Remembered | None = state.get(agent_unit(agent_id), ("id", intent_id))
    return found if found is not None and found.until >= t else None


def _apply_verdict(state: State, change: Change, windows: Windows) -> None:
    event, unit, intent_id = change["event"], agent_unit(change["agent_id"]), change["intent_id"]
    if event is not None:
        for home in (unit, lane_unit(event["lane"])):
            warm(state, home, windows, change["revision"])
        _count(state, event, windows, change["revision"])
        _keep(state, unit, event)
    _hold(state, unit, intent_id, change.get("hold"))
    memory = Remembered(
        digest=change["intent_digest"],
        until=change["remember_until"],
        decision=change["decision"],
        verdict_digest=change["digest"],
        t=change["t"],
        hold_until=None if event is None else event["hold_until"],
        chain_id=None if event is None else event["chain_id"],
    )
    state.put(unit, ("id", intent_id), memory)


def _hold(state: State, unit: str, intent_id: str, hold: Mapping[str, Any] | None) -> None:
    before = state.get(unit, ("hold", intent_id))
    if before is not None:
        state.put(unit, ("held", before["verdict"]), None)
    if before is not None or hold is not None:
        state.put(unit, ("hold", intent_id), hold)
    if hold is not None:
        state.put(unit, ("held", hold["verdict"]), intent_id)


def _keep(state: State, unit: str, event: Event) -> None:
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
    labels = {*chain.labels, *event_labels(event)} if event["decision"] == "approve" else chain.labels
    chain = chain._replace(
        events=chain.events + (not settles),
        labels=tuple(sorted(labels)),
        kept=(*kept[cut:], event),
        kept_bytes=size,
        dropped_at=kept[cut - 1]["t"] if cut else chain.dropped_at,
    )
    state.put(unit, ("chain", event["chain_id"]), chain)


def event_bytes(event: Event) -> int:
    """Size of a compact event, estimated the same way everywhere: its texts and a flat cost for the rest."""
    texts = len(event["action"]) + len(event["purpose"]) + len(event["chain_id"])
    return texts + _EVENT_BYTES_FLAT + sum(len(r["uri"]) + _RESOURCE_BYTES_FLAT for r in event["resources"])


# Ids, numbers and keys of a compact event and of one of its resources, measured on the JSON of typical ones.
_EVENT_BYTES_FLAT = 300
_RESOURCE_BYTES_FLAT = 80


def event_labels(event: Event) -> Iterator[str]:
    """Labels of everything an event touches."""
    yield from event["labels"]
    for resource in event["resources"]:
        yield from resource["labels"]


def _count(state: State, event: Event, windows: Windows, revision: int) -> None:
    """Let every window that was there see the event; the hold it settles first leaves those it was pending in."""
    if event["settles"] is not None:
        _uncount(state, {**event, **event["settles"]}, windows)
    denied = event["decision"] == "deny"
    for spec, home, group, mask in matches(event, windows):
        if (denied and not spec.attempts) or generation(state, spec.id) > revision:
            continue
        before = window_of(state, spec, home, group)
        entry = window.Entry(event["t"], event["id"], event["hold_until"])
        _put_window(state, windows, spec, home, group, window.observe(spec, before, entry, mask))


def _uncount(state: State, held: Event, windows: Windows) -> None:
    """A held event leaves its windows: those of the facts as they were, which may have changed since."""
    for spec, home, group, _ in matches(held, windows):
        before = window_of(state, spec, home, group)
        after = window.forget(before, held["id"])
        if after != before:
            _put_window(state, windows, spec, home, group, after)


def _put_window(
    state: State, windows: Windows, spec: window.Spec, home: str, group: Group, after: window.WindowState
) -> None:
    key = _window_key(state, spec, group)
    if state.get(home, key) is None:
        counts = {s.id: state.get(home, ("groups", s.id, generation(state, s.id))) or 0 for s in windows.specs}
        if sum(counts.values()) >= limits.GROUPS_PER_LANE_MAX:
            state.put(home, OVERFLOW_KEY, max(state.get(home, OVERFLOW_KEY) or 0, _newest(after)))
            return
        state.put(home, ("groups", spec.id, generation(state, spec.id)), counts[spec.id] + 1)
    state.put(home, key, after)


def _newest(after: window.WindowState) -> int:
    entries = after.entries if isinstance(after, window.Count) else tuple(e for old in after.entries for e in old)
    return max((e.t for e in entries), default=0)


def window_of(state: State, spec: window.Spec, home: str, group: Group) -> window.WindowState:
    """The state of one window group; a group without one is empty since the unit's windows are known."""
    found: window.WindowState | None = state.get(home, _window_key(state, spec, group))
    if found is not None:
        return found
    since: int | None = state.get(home, ("since", spec.id, generation(state, spec.id)))
    overflow: int | None = state.get(home, OVERFLOW_KEY)
    known = [t for t in (since, overflow) if t is not None]
    return window.empty(spec, max(known) if known else None)


def _window_key(state: State, spec: window.Spec, group: Group) -> tuple[Any, ...]:
    return ("window", spec.id, generation(state, spec.id), group)


def matches(
    event: Event, windows: Windows, views: Sequence[Mapping[str, Any]] | None = None
) -> Iterator[tuple[window.Spec, str, Group, int]]:
    """(window, its unit, group, mask of matching selections) for every window group an event belongs to.

    An intent is one event whatever the number of its resources: a group sees it once, with all that matched in it.
    """
    if not windows.specs:
        return
    views = views_of(event) if views is None else views
    masks = [windows.select(view) for view in views]
    for spec in windows.specs:
        groups: dict[Group, int] = {}
        for view, mask in zip(views, masks, strict=True):
            failed = window.FAILED if mask >> window.FAILED_SHIFT & spec.mask else 0
            if failed or mask & spec.mask:
                group = group_of(spec, view)
                groups[group] = groups.get(group, 0) | mask & spec.mask | failed
        for group, mask in groups.items():
            yield spec, home_of(spec, event), group, mask


def group_of(spec: window.Spec, view: Mapping[str, Any]) -> Group:
    """The values a view is grouped by; lists and objects count by content."""
    return tuple(_path(view, path) for path in spec.group_by)


def _path(view: Mapping[str, Any], path: str) -> Any:
    value: Any = view
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return repr(value) if isinstance(value, list | Mapping) else value


def home_of(spec: window.Spec, event: Event) -> str:
    """The unit a group's state lives in: the agent's if it is grouped by agent or chain, else the lane's."""
    if "agent_id" in spec.group_by or "chain_id" in spec.group_by:
        return agent_unit(event["agent_id"])
    return lane_unit(event["lane"])


def generation(state: State, window_id: str) -> int:
    """Revision by which a window (again) entered the bundle in force, 0 if it was there from the first."""
    return _switch_of(state, window_id)[0]


def _switch_of(state: State, window_id: str) -> Sequence[int]:
    since: Mapping[str, Sequence[int]] = state.get(PARTITION_UNIT, SINCE_KEY) or {}
    return since.get(window_id, (0, 0))


def switched(state: State, old: Windows | None, new: Windows, t: int, revision: int) -> None:
    """A partition switches bundles at chain time t: windows it did not have begin a generation, the others go on."""
    if old is None:
        return
    since: Mapping[str, Sequence[int]] = state.get(PARTITION_UNIT, SINCE_KEY) or {}
    known = {spec.id for spec in old.specs}
    fresh = {spec.id: [revision, t] for spec in new.specs if spec.id not in known} | {LAST_SWITCH: [revision, t]}
    kept = {spec.id: since[spec.id] for spec in new.specs if spec.id in since and spec.id in known}
    state.put(PARTITION_UNIT, SINCE_KEY, {**kept, **fresh})


def warm(state: State, unit: str, windows: Windows, revision: int | None = None) -> None:
    """Make a unit's windows for the bundle in force, once after each switch.

    A change from before a switch (it names its `revision`) may be replayed after it, and must find what it found then.

    An agent's come from its kept events, which do not change between the switch and this call, so every reader gets the
    same windows whenever it looks. A lane's are known from the switch on (until a bundle is warmed from the log).
    """
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    switch = generation(state, LAST_SWITCH) if revision is None else revision
    if agent.windows_for is not None and agent.windows_for >= switch:
        return
    _drop_dead_windows(state, unit, windows)
    made_for = switch if agent.windows_for is None else agent.windows_for
    fresh = [spec for spec in windows.specs if made_for < generation(state, spec.id) <= switch]
    if fresh:
        chains = [state.get(unit, ("chain", c)) or Chain() for c in agent.chains]
        dropped = max((c.dropped_at for c in chains if c.dropped_at is not None), default=None)
        for spec in fresh:
            key = ("since", spec.id, generation(state, spec.id))
            state.put(unit, key, dropped if chains else _switch_of(state, spec.id)[1])
            _rebuild(state, unit, spec, chains, windows)
    state.put(unit, AGENT_KEY, agent._replace(windows_for=switch))


def _drop_dead_windows(state: State, unit: str, windows: Windows) -> None:
    """Windows that the bundle in force does not have are never read again: if they come back, it is as new ones."""
    live = live_windows(state, windows)
    for key in list(state.confirmed(unit)):
        if isinstance(key, tuple) and key[0] in {"window", "since", "groups"} and (key[1], key[2]) not in live:
            state.put(unit, key, None)


def live_windows(state: State, windows: Windows) -> frozenset[tuple[str, int]]:
    """(window id, generation) of every window that is read under the bundle in force."""
    return frozenset((spec.id, generation(state, spec.id)) for spec in windows.specs)


def _rebuild(state: State, unit: str, spec: window.Spec, chains: Iterable[Chain], windows: Windows) -> None:
    for event in sorted((e for c in chains for e in c.kept), key=lambda e: e["t"]):
        if event["decision"] == "deny" and not spec.attempts:
            continue
        for found, home, group, mask in matches(event, windows):
            if found.id == spec.id and home == unit:
                entry = window.Entry(event["t"], event["id"], event["hold_until"])
                before = window_of(state, spec, home, group)
                _put_window(state, windows, spec, home, group, window.observe(spec, before, entry, mask))


def _open(state: State, change: Change) -> None:
    unit, chain_id = agent_unit(change["agent_id"]), change["chain_id"]
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    live = live_chains(state, change["agent_id"], change["t"])
    for gone in set(agent.chains) - set(live):
        state.put(unit, ("chain", gone), None)
    state.put(unit, AGENT_KEY, agent._replace(chains=(*live, chain_id)))
    state.put(unit, ("chain", chain_id), Chain(mandate=change["mandate"]))


def live_chains(state: State, agent_id: str, t: int) -> tuple[str, ...]:
    """Ids of an agent's chains that some window may still reach into at chain time t."""
    unit = agent_unit(agent_id)
    agent: Agent = state.get(unit, AGENT_KEY) or Agent()
    return tuple(c for c in agent.chains if not _forgotten(state.get(unit, ("chain", c)), t))


def _forgotten(chain: Chain | None, t: int) -> bool:
    """A mandate's chain is let go once the longest window can no longer reach into it."""
    if chain is None or chain.mandate is None:
        return chain is None
    expires_at: int = chain.mandate["expires_at"]
    ended = expires_at if chain.closed_at is None else min(chain.closed_at, expires_at)
    return bool(ended + limits.TIMESPAN_MS_MAX_DEFAULT < t)


def _close(state: State, change: Change) -> None:
    unit = agent_unit(change["agent_id"])
    chain: Chain = state.get(unit, ("chain", change["chain_id"]))
    state.put(unit, ("chain", change["chain_id"]), chain._replace(closed_at=change["t"]))


def _outcome(state: State, change: Change) -> None:
    unit, intent_id = agent_unit(change["agent_id"]), change["intent_id"]
    known: Remembered = state.get(unit, ("id", intent_id))
    state.put(unit, ("id", intent_id), known._replace(outcome=change["status"]))
    chain: Chain | None = state.get(unit, ("chain", known.chain_id))
    if chain is None:
        return
    done = {"outcome": change["status"], "measures": change["measures"]}
    kept = tuple({**e, **done} if e["id"] == intent_id else e for e in chain.kept)
    state.put(unit, ("chain", known.chain_id), chain._replace(kept=kept))


_APPLY_ACK = {"open": _open, "close": _close, "outcome": _outcome}
