"""A naive reference of the decision, written from DESIGN §5/§6 and PROTOCOL §4/§8 alone, before the engine was read.

Rule of this file: nothing is incremental. The whole history is a list; every question scans all of it again. What a
selection or condition means is a Python predicate, so that neither CEL nor the engine's windows have a part in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import permutations

NO_RESOURCE = ("", "", frozenset())

COMPARE = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


@dataclass(frozen=True)
class Predicate:
    """One event's action is among these (None: any), its resource's zone and label are those (None: any)."""

    actions: tuple[str, ...] | None = None
    zone: str | None = None
    label: str | None = None

    def holds(self, event: Event, resource: tuple[str, str, frozenset[str]]) -> bool:
        _, zone, labels = resource
        by_action = self.actions is None or event.action in self.actions
        return by_action and self.zone in (None, zone) and (self.label is None or self.label in labels)

    def cel(self, root: str) -> str:
        parts = ["true"]
        if self.actions is not None:
            parts.append(f"{root}.action in [{', '.join(map(repr, self.actions))}]".replace("'", '"'))
        if self.zone is not None:
            parts.append(f'{root}.resource.zone == "{self.zone}"')
        if self.label is not None:
            parts.append(f'"{self.label}" in {root}.resource.labels')
        return " && ".join(parts[1:] or parts)


@dataclass(frozen=True)
class Window:
    kind: str
    selections: tuple[str, ...]
    group_by: tuple[str, ...]
    timespan_ms: int
    attempts: bool = False
    op: str = "gt"
    threshold: int = 0


@dataclass(frozen=True)
class Rule:
    id: str
    effect: str
    when: Predicate
    mode: str = "enforce"
    window: Window | None = None
    reads: frozenset[str] = frozenset()
    """Tables it reads."""


@dataclass(frozen=True)
class Event:
    """One intent as history keeps it. `resources` are (uri, zone, labels)."""

    id: str
    t: int
    lane: str
    tenant: str
    agent_id: str
    chain_id: str
    action: str
    resources: tuple[tuple[str, str, frozenset[str]], ...]
    decision: str = "approve"
    hold_until: int | None = None

    def views(self) -> tuple[tuple[str, str, frozenset[str]], ...]:
        return self.resources or (NO_RESOURCE,)

    def group(self, paths: tuple[str, ...], resource: tuple[str, str, frozenset[str]]) -> tuple[str, ...]:
        uri, zone, _ = resource
        own = {"resource.uri": uri, "resource.zone": zone, "resource.system": uri.partition(":")[0]}
        values = tuple(own[p] if p in own else getattr(self, p) for p in paths)
        # Nothing leaves its lane, and a chain is one agent's.
        return (self.lane, *(("agent", self.agent_id) if "chain_id" in paths else ()), *values)


def counts(event: Event, t: int, *, attempts: bool) -> bool:
    """Approved and held events count; an expired hold reads as denied; a denial is an attempt."""
    expired = event.decision == "hold" and event.hold_until is not None and t > event.hold_until
    return attempts or (event.decision != "deny" and not expired)


@dataclass
class Oracle:
    """Selections, rules and the whole history of a partition, in log order."""

    selections: dict[str, Predicate]
    rules: tuple[Rule, ...]
    history: list[Event] = field(default_factory=list)

    def record(self, event: Event) -> None:
        """One intent has one event: what a person answered replaces the hold."""
        self.history = [e for e in self.history if e.id != event.id] + [event]

    def contributors(self, window: Window, group: tuple[str, ...], now: Event) -> list[tuple[Event, set[str]]]:
        """Events inside the window and group, the judged one last, each with the listed selections it matches there."""
        found = []
        for event in [*(e for e in self.history if e.id != now.id), now]:
            inside = now.t - window.timespan_ms <= event.t <= now.t
            if inside and (event is now or counts(event, now.t, attempts=window.attempts)):
                names = {
                    name
                    for name in window.selections
                    for resource in event.views()
                    if event.group(window.group_by, resource) == group and self.selections[name].holds(event, resource)
                }
                if names:
                    found.append((event, names))
        return found

    def condition(self, window: Window, group: tuple[str, ...], now: Event) -> bool:
        matched = self.contributors(window, group, now)
        if window.kind == "event_count":
            return COMPARE[window.op](len(matched), window.threshold)
        if window.kind == "absent":
            return not matched
        if window.kind == "temporal":
            return set(window.selections) == {name for _, names in matched for name in names}
        return any(
            all(name in names for name, (_, names) in zip(window.selections, chosen, strict=True))
            for chosen in _subsequences(matched, len(window.selections))
        )

    def fires(self, rule: Rule, now: Event) -> bool:
        held = [r for r in now.views() if rule.when.holds(now, r)]
        window = rule.window
        results = [window is None or self.condition(window, now.group(window.group_by, r), now) for r in held]
        if rule.effect == "approve":
            return len(held) == len(now.views()) and all(results)
        return any(results)

    def decide(
        self, now: Event, *, stale: frozenset[str] = frozenset(), satisfied: frozenset[str] = frozenset()
    ) -> tuple[str, frozenset[str]]:
        """The decision and the rules that made it; no rule means the default."""
        enforced = [r for r in self.rules if r.mode == "enforce"]
        failing = {r.id for r in enforced if r.reads & stale}
        firing = [r for r in enforced if r.id not in failing and self.fires(r, now)]
        by_effect = {
            "deny": failing | {r.id for r in firing if r.effect == "deny"},
            "hold": {r.id for r in firing if r.effect == "hold" and r.id not in satisfied},
            "approve": {r.id for r in firing if r.effect == "approve"},
        }
        decision = next((d for d in ("deny", "hold", "approve") if by_effect[d]), "deny")
        return decision, frozenset(by_effect[decision])

    def judged(self, now: Event, decision: str, hold_ms: int) -> Event:
        return replace(now, decision=decision, hold_until=now.t + hold_ms if decision == "hold" else None)


def _subsequences(matched: list[tuple[Event, set[str]]], length: int) -> list[tuple[tuple[Event, set[str]], ...]]:
    """Every choice of `length` different events in log order; `matched` is in log order."""
    picks = (p for p in permutations(range(len(matched)), length) if list(p) == sorted(p))
    return [tuple(matched[i] for i in pick) for pick in picks]
