"""The decision (DESIGN §5, §6): one pure function of an intent, its joined facts, its chain and the rules.

Rule of this file: everything fails closed. The engine's own checks come first, in a fixed order; then the rules, whose
order never matters; deny wins over hold, hold over approve, and without an approve the answer is deny.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import chain as chains
from harness_stream.core import counting, delegation, limits, window
from harness_stream.core.combine import combine, merge_obligations
from harness_stream.core.groups import Group, generations, window_of
from harness_stream.core.model import OWN_CHAIN_PREFIX, Intent, lane_of_fields, measure_of
from harness_stream.core.reasons import Deny
from harness_stream.core.rules.conditions import bits_of
from harness_stream.core.rules.language import COUNTING
from harness_stream.core.variables import variables_of

if TYPE_CHECKING:
    from harness_stream.core.rules.compile import Judged
    from harness_stream.core.rules.parse import Rule
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State

Reason = dict[str, Any]
Inputs = Mapping[str, Any]


class Arrival(NamedTuple):
    """How the log received an intent.

    Attributes:
        digest: SHA-256 of its value, hex.
        append_ms: the broker's append time.
        t: chain time after it.
    """

    digest: str
    append_ms: int
    t: int


class Decided(NamedTuple):
    """The answer, before it is linked into the log. `event` is None if the intent was not evaluated or counted."""

    decision: str
    reasons: tuple[Reason, ...]
    shadow: tuple[Reason, ...] = ()
    obligations: Mapping[str, Any] = {}
    hold_until: int | None = None
    event: dict[str, Any] | None = None


def engine_reason(code: str, detail: str | None = None) -> Reason:
    """A reason of the engine."""
    return {"code": str(code)} if detail is None else {"code": str(code), "detail": detail}


def refused(code: Deny, detail: str | None = None) -> Decided:
    """A denial that was neither evaluated nor counted."""
    return Decided("deny", (engine_reason(code, detail),))


def decide(
    intent: Intent,
    arrival: Arrival,
    inputs: Inputs,
    state: State,
    windows: Windows,
    *,
    satisfied: frozenset[str] = frozenset(),
    settles: Mapping[str, Any] | None = None,
) -> Decided:
    """Judge one intent that came in time.

    Args:
        intent: the validated intent.
        arrival: its digest and times.
        inputs: what `join` found.
        state: the partition's state; it is read.
        windows: the compiled rules with their windows.
        satisfied: hold rules that a person has answered.
        settles: the event of the hold that this re-runs.
    """
    unread = _unevaluated(intent, inputs)
    if unread is not None:
        return unread
    event = event_of(intent, arrival.t, inputs, settles=settles)
    cold = counting.cold_homes(state, event, windows)
    if not cold:
        return _evaluated(intent, arrival, inputs, event, state, windows, satisfied)
    state.push()  # what is warmed here is warmed again when the verdict is applied: deciding leaves no trace
    try:
        for home in cold:
            counting.warm(state, home, windows)
        return _evaluated(intent, arrival, inputs, event, state, windows, satisfied)
    finally:
        state.pop()


def _evaluated(
    intent: Intent,
    arrival: Arrival,
    inputs: Inputs,
    event: dict[str, Any],
    state: State,
    windows: Windows,
    satisfied: frozenset[str],
) -> Decided:
    barred = _barred(intent, arrival.t, inputs, event, state)
    if barred is not None:
        return Decided("deny", (barred,), event={**event, "decision": "deny"})
    event["lineage"] = delegation.lineage_in_event(state, intent, event["lane"], arrival.t)
    labels = delegation.labels_of(state, event)
    if len({*labels, *chains.event_labels(event)}) > limits.CHAIN_LABELS_MAX:
        full = engine_reason(Deny.TOO_LARGE, f"its chain would carry more than {limits.CHAIN_LABELS_MAX} labels")
        return Decided("deny", (full,), event={**event, "decision": "deny"})
    return _by_rules(_Judged(intent, inputs, event, state, windows, labels), event, state, satisfied)


def event_of(intent: Intent, t: int, inputs: Inputs, *, settles: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The compact chain event, as history will keep it if the intent is approved.

    `settles` of the event says how the held one, which it replaces, differed: facts may have changed in between.
    """
    identity, infrastructure = inputs["identity"], inputs["infrastructure"]
    event = {
        "id": intent.intent_id,
        "lane": lane_of_fields(identity, intent.agent_id),
        "agent_id": intent.agent_id,
        "owner": identity.get("owner", ""),
        "tenant": identity.get("tenant", ""),
        "roles": list(identity.get("roles", [])),  # the table's own is shared
        "chain_id": intent.chain,
        "parent": None if intent.parent is None else intent.parent.model_dump(mode="json"),
        "kind": "intent",
        "action": intent.action,
        "operation": inputs["operation"],
        "object_class": inputs["object_class"],
        "resources": inputs["resources"],
        "measures": {name: measure_of(micro) for name, micro in intent.measures_micro().items()},
        "labels": sorted({*intent.labels, *inputs["tool_labels"]}),
        "purpose": intent.purpose,
        "environment": infrastructure.get("environment", ""),
        "decision": "approve",
        "by": intent.by,
        "t": t,
        "hold_until": None,
        "settles": None,
        "lineage": None,
    }
    return event if settles is None else {**event, "settles": _differing(settles, event)}


def denied_later(held: Mapping[str, Any], t: int) -> dict[str, Any]:
    """The event of a hold that came to be denied at t without a look at its facts."""
    event = {**held, "t": t, "decision": "deny", "hold_until": None}
    return {**event, "settles": _differing(held, event)}


def _differing(held: Mapping[str, Any], event: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in held.items() if name != "settles" and value != event[name]}


def untimely(intent: Intent, arrival: Arrival, decided_at: int) -> Decided | None:
    """The denial of an intent whose time is over, or not yet there; it asks no table and no chain, so it is cheap."""
    waited_ms = decided_at - arrival.append_ms
    if -waited_ms > limits.CLOCK_SKEW_MS_MAX:
        return refused(Deny.CLOCK, f"append time {-waited_ms} ms ahead of the worker")
    if waited_ms > intent.deadline_ms:
        return refused(Deny.LATE, f"{waited_ms} ms after append, deadline {intent.deadline_ms} ms")
    return None


def _unevaluated(intent: Intent, inputs: Inputs) -> Decided | None:
    for table, demanded in intent.min_revision.items():
        if inputs["tables"][table][0] < demanded:
            return refused(Deny.FACTS_BEHIND, f"{table} is at {inputs['tables'][table][0]}, demanded {demanded}")
    broken = inputs.get("broken", ())
    if broken or inputs["tables"]["identity"][1] < _oldest(inputs):
        # What an unreadable row would have said, history could never tell afterwards.
        return refused(Deny.STALE_FACTS, f"unreadable rows in {', '.join(broken)}" if broken else "identity")
    if not inputs["identity"]["present"]:
        return refused(Deny.UNKNOWN_AGENT)
    return None if _may_speak(intent, inputs) else refused(Deny.NOT_SPEAKER, intent.by)


def _may_speak(intent: Intent, inputs: Inputs) -> bool:
    """An intent comes from the agent itself or from an active enforcer of its lane."""
    if intent.by == intent.agent_id:
        return True
    speaker = inputs["speaker"]
    if not speaker["present"] or speaker["status"] != "active" or "enforcer" not in speaker["roles"]:
        return False
    return lane_of_fields(speaker, intent.by) == lane_of_fields(inputs["identity"], intent.agent_id)


def stale_tables(inputs: Inputs) -> frozenset[str]:
    """Tables whose view was not known to be fresh at decided_at, or held an unreadable row (V8)."""
    oldest = _oldest(inputs)
    old = [name for name, (_, fresh_as_of) in inputs["tables"].items() if fresh_as_of < oldest]
    return frozenset((*old, *inputs.get("broken", ())))


def _oldest(inputs: Inputs) -> int:
    return int(inputs["decided_at"]) - limits.FRESH_MS_MAX


def _barred(intent: Intent, t: int, inputs: Inputs, event: dict[str, Any], state: State) -> Reason | None:
    """The engine's own checks on what counts as an attempt; one on an unknown chain stands in the own chain."""
    identity, chain = inputs["identity"], chains.chain_of(state, intent.agent_id, intent.chain)
    if chain is None:  # whatever else bars it: an attempt must not bring a chain into being
        event["chain_id"] = OWN_CHAIN_PREFIX + intent.agent_id
    if identity["status"] != "active":
        return engine_reason(Deny.AGENT_STATUS, identity["status"])
    if intent.workload_id not in identity["workloads"]:
        return engine_reason(Deny.WORKLOAD, intent.workload_id)
    if chain is None:
        return engine_reason(Deny.CHAIN_UNKNOWN, intent.chain)
    if chain.ended(t):
        return engine_reason(Deny.CHAIN_CLOSED, intent.chain)
    refusal = delegation.barred(intent, t, inputs, event["lane"], state)
    return None if refusal is None else engine_reason(*refusal)


def _by_rules(judged: _Judged, event: dict[str, Any], state: State, satisfied: frozenset[str]) -> Decided:
    found = judged.findings()
    shadow = [f for rule, f in found if rule.mode == "shadow"]
    decision, reasons = combine([f for rule, f in found if rule.mode == "enforce" and not _answered(f, satisfied)])
    if decision == "hold" and _holds_full(state, event):
        decision, reasons = "deny", (engine_reason(Deny.HOLDS_FULL), *reasons)
    approved = {f["rule"] for f in reasons} if decision == "approve" else frozenset()
    hold_until = event["t"] + limits.HOLD_MS_DEFAULT if decision == "hold" else None
    return Decided(
        decision,
        reasons or (engine_reason(Deny.DEFAULT),),
        tuple(sorted(shadow, key=lambda f: str(f["rule"]))),
        merge_obligations(rule.obligations for rule, _ in found if rule.id in approved),
        hold_until,
        {**event, "decision": decision, "hold_until": hold_until},
    )


def _answered(finding: Reason, satisfied: frozenset[str]) -> bool:
    return finding["rule"] in satisfied and finding["effect"] == "hold" and finding["code"] == "rule"


def _holds_full(state: State, event: Mapping[str, Any]) -> bool:
    """A hold that is asked again keeps its place."""
    waiting = {intent_id for intent_id, _ in chains.open_holds(state, event["agent_id"], event["t"])}
    return event["id"] not in waiting and len(waiting) >= limits.HOLDS_OPEN_MAX


class _Judged:
    """One intent's evaluation: conditions per resource view once, windows only where a condition held."""

    def __init__(
        self,
        intent: Intent,
        inputs: Inputs,
        event: dict[str, Any],
        state: State,
        windows: Windows,
        labels: Sequence[str],
    ) -> None:
        self._event, self._state, self._windows = event, state, windows
        self._views, self._generation_of = counting.Views(event), generations(state)
        self._entry, self._stale = window.Entry(event["t"], event["id"]), stale_tables(inputs)
        shared = variables_of(intent, inputs, event, state, windows, labels)
        self._results: list[Judged] = []
        for view in self._views.all:
            first = self._results[0] if self._results else None
            self._results.append(windows.program.judge({**shared, "event": view, "intent": view}, first))
        found = counting.matches(event, windows, self._views)
        self._sighted = {(sighting.spec.id, sighting.group): sighting for sighting in found}

    def findings(self) -> list[tuple[Rule, Reason]]:
        """Rules that fire or err, in their order; most say nothing and are not looked at."""
        program = self._windows.program
        speaking = program.reading(self._stale)
        for result in self._results:
            speaking |= result.speaking
        found = []
        for index in bits_of(speaking):
            reason = self.finding(index)
            if reason is not None:
                found.append((program.rules[index], reason))
        return found

    def finding(self, index: int) -> Reason | None:
        """The rule's reason if it fires or errs, else None."""
        unread = self._stale and self._stale & self._windows.program.tables_read[index]
        if unread:
            return self._reason(index, {"detail": ", ".join(sorted(unread))}, Deny.STALE_FACTS)
        held = []
        for number, result in enumerate(self._results):
            if index in result.errors:
                return self._reason(index, {"detail": result.errors[index]}, Deny.RULE_ERROR)
            if result.mask >> index & 1:
                held.append(number)
        if not held or (len(held) < len(self._results) and self._rule(index).effect == "approve"):
            return None
        spec = self._windows.by_rule[index]
        return self._reason(index) if spec is None else self._correlated(index, spec, held)

    def _rule(self, index: int) -> Rule:
        return self._windows.program.rules[index]

    def _reason(self, index: int, more: Mapping[str, Any] = MappingProxyType({}), code: str = "rule") -> Reason:
        rule = self._rule(index)
        because = {"because": rule.because} if rule.because else {}
        return {"code": str(code), "rule": rule.id, "effect": rule.effect, **because, **more}

    def _correlated(self, index: int, spec: window.Spec, held: list[int]) -> Reason | None:
        condition, t = self._windows.conditions[index], self._entry.t
        holds: dict[Group, bool | None] = {}
        fired: list[tuple[bool | None, window.WindowState]] = []
        for number in held:
            group, home = self._views.place(spec, number)
            if group not in holds:
                after = self._after(spec, group, home)
                said = holds[group] = condition(*after.interval(spec, t))
                if said is not False:
                    fired.append((said, after))
        if not fired:
            return None
        if self._rule(index).effect == "approve":
            return self._reason(index) if all(holds.values()) else None
        said, after = next((one for one in fired if one[0]), fired[0])
        unknown = {"unknown": True} if said is None else {}
        seen = after.seen(spec, t)
        evidence = [i for i in seen.evidence if i != self._event["id"]]
        shown = {"evidence": evidence, "evidence_count": seen.counted, **_interval(spec, seen)}
        return self._reason(index, {**unknown, **shown})

    def _after(self, spec: window.Spec, group: Group, home: str) -> window.WindowState:
        """The window with the intent; its sighting remembers what it made of it, for other rules and for counting."""
        after = window_of(self._state, spec, self._generation_of(spec.id), home, group, self._entry.t)
        if self._event["settles"] is not None:
            after = window.forget(after, self._entry.id)
        sighting = self._sighted.get((spec.id, group))
        return after if sighting is None else sighting.observed(after, self._entry)


def _interval(spec: window.Spec, seen: window.Seen) -> dict[str, Any]:
    """What a counting window held, as people read it."""
    if spec.kind not in COUNTING:
        return {}
    ends = (seen.lo, seen.hi)
    return {"counted": [measure_of(e) if spec.kind == "value_sum" and e is not None else e for e in ends]}
