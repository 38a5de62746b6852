"""What oracle and scenarios speak of: events, predicates over them, windows, rules (DESIGN §3, §6).

Rule of this file: plain facts and what they mean by themselves; what follows from a history is in `oracle.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

COUNTING = ("event_count", "value_count", "value_sum")
MEASURE = "measures."


@dataclass(frozen=True)
class Resource:
    uri: str = ""
    zone: str = ""
    labels: frozenset[str] = frozenset()
    sensitivity: str = ""
    owner: str = ""


@dataclass(frozen=True)
class Event:
    """One intent as history keeps it, everything joined as of `t`; for the judged one `decision` reads approve."""

    id: str
    t: int
    agent_id: str
    lane: str
    chain_id: str
    action: str
    resources: tuple[Resource, ...] = ()
    parent: tuple[str, str] | None = None
    measures: Mapping[str, Decimal] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()
    tenant: str = ""
    owner: str = ""
    environment: str = ""
    purpose: str = ""
    by: str = ""
    decision: str = "approve"
    hold_until: int | None = None
    remembered_until: int = 0
    brought: frozenset[str] = frozenset()
    """Labels that a delegated intent carried into the tree it acts for."""
    brought_perhaps: frozenset[str] = frozenset()
    """The same, if approvals take labels from no tree."""
    allowed: frozenset[str] = frozenset()
    """The actions that its agent's row allowed."""
    declassified: frozenset[str] = frozenset()
    """Labels that the chain and its tree carry no longer once a person had approved this intent."""
    released: bool = False
    as_approved: Event | None = None
    """What it was before an outcome changed it."""
    _groups: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def key(self) -> tuple[str, str]:
        return self.agent_id, self.id

    def views(self) -> tuple[Resource, ...]:
        return self.resources or (Resource(),)

    def text(self, path: str, resource: Resource) -> str:
        """What it says at a path that a window may group or count by."""
        return TEXTS[path](self) if path in TEXTS else TEXTS_OF_RESOURCES[path](resource)

    def group(self, paths: tuple[str, ...], resource: Resource) -> tuple[str, ...]:
        """Nothing leaves its lane, and a chain is one agent's."""
        chain = (self.agent_id,) if "chain_id" in paths else ()
        return (self.lane, *chain, *(self.text(path, resource) for path in paths))

    def groups(self, paths: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
        """Of each view: every question scans the whole history, and an event stays what it is."""
        if paths not in self._groups:
            self._groups[paths] = tuple(self.group(paths, resource) for resource in self.views())
        return self._groups[paths]

    def touched(self) -> frozenset[str]:
        """Every label it adds to what it belongs to."""
        return self.labels.union(*(resource.labels for resource in self.resources))

    def open_at(self, t: int) -> bool:
        return self.decision == "hold" and self.hold_until is not None and t <= self.hold_until

    def counts(self, t: int, *, attempts: bool) -> bool:
        """Approved and open holds count; a denial and an expired hold are attempts; what was released never was."""
        return not self.released and (attempts or self.decision == "approve" or self.open_at(t))


TEXTS: Mapping[str, Callable[[Event], str]] = {
    **{name: attrgetter(name) for name in ("agent_id", "owner", "tenant", "chain_id", "action", "purpose", "by")},
    **{name: attrgetter(name) for name in ("environment", "decision")},
    "kind": lambda _: "intent",
    "parent": lambda event: event.parent[0] if event.parent else "",
    **dict.fromkeys(("operation", "object_class"), lambda _: ""),  # no scenario has a row for a tool
}
TEXTS_OF_RESOURCES: Mapping[str, Callable[[Resource], str]] = {
    **{f"resource.{name}": attrgetter(name) for name in ("uri", "zone", "sensitivity", "owner")},
    "resource.system": lambda resource: resource.uri.partition(":")[0],
}


@dataclass(frozen=True)
class Predicate:
    """Every part that is not None must hold of an event and one of its resources.

    Attributes:
        actions: the action is one of these.
        zone: of the resource.
        label: of the resource.
        tag: label of the event itself.
        decision: of the event.
        over: (measure, number) that it has and exceeds.
        chain_label: of the judged intent's chain; only in conditions on the intent.
        allowed: the action is one that the agent's row allows; likewise.
    """

    actions: tuple[str, ...] | None = None
    zone: str | None = None
    label: str | None = None
    tag: str | None = None
    decision: str | None = None
    over: tuple[str, int] | None = None
    chain_label: str | None = None
    allowed: bool = False

    def holds(self, event: Event, resource: Resource, chain_labels: frozenset[str] = frozenset()) -> bool:
        return (
            (self.actions is None or event.action in self.actions)
            and self.zone in (None, resource.zone)
            and (self.label is None or self.label in resource.labels)
            and (self.tag is None or self.tag in event.labels)
            and self.decision in (None, event.decision)
            and (self.over is None or event.measures.get(self.over[0], -1) > self.over[1])
            and (self.chain_label is None or self.chain_label in chain_labels)
            and (not self.allowed or event.action in event.allowed)
        )

    def cel(self, root: str) -> str:
        parts = []
        if self.actions is not None:
            parts.append(f"{root}.action in [" + ", ".join(f'"{action}"' for action in self.actions) + "]")
        if self.zone is not None:
            parts.append(f'{root}.resource.zone == "{self.zone}"')
        if self.label is not None:
            parts.append(f'"{self.label}" in {root}.resource.labels')
        if self.tag is not None:
            parts.append(f'"{self.tag}" in {root}.labels')
        if self.decision is not None:
            parts.append(f'{root}.decision == "{self.decision}"')
        if self.over is not None:
            name, least = self.over
            parts.append(f'"{name}" in {root}.measures && {root}.measures.{name} > {least}')
        if self.chain_label is not None:
            parts.append(f'"{self.chain_label}" in chain.labels')
        if self.allowed:
            parts.append(f"{root}.action in identity.actions")
        return " && ".join(parts or ["true"])

    def reads_classification(self) -> bool:
        return any(part is not None for part in (self.zone, self.label, self.tag, self.chain_label))


@dataclass(frozen=True)
class Window:
    """A correlation; `field`, `op` and `threshold` are those of its condition, if its kind has one."""

    kind: str
    selections: tuple[str, ...]
    group_by: tuple[str, ...] = ()
    timespan_ms: int = 5_000
    attempts: bool = False
    field: str | None = None
    op: str = "gt"
    threshold: int | float = 0

    @property
    def measure(self) -> str | None:
        """The measure it counts or sums."""
        return self.field.removeprefix(MEASURE) if self.field and self.field.startswith(MEASURE) else None


@dataclass(frozen=True)
class Rule:
    id: str
    effect: str
    when: Predicate = Predicate()
    mode: str = "enforce"
    window: Window | None = None
    attested: bool = False
    """Its condition also asks whether the workload has a row."""

    def reads(self, selections: Mapping[str, Predicate]) -> frozenset[str]:
        """Which tables it reads: by its conditions, its selections, what it groups and what it counts by (DESIGN §6)."""
        window = self.window
        predicates = [self.when, *(selections[name] for name in (window.selections if window else ()))]
        paths = {*window.group_by, window.field} if window else set()
        found = set()
        if self.attested or "environment" in paths:
            found.add("infrastructure")
        joined = {"resource.zone", "resource.sensitivity", "resource.owner", "operation", "object_class"}
        if paths & joined or any(p.reads_classification() for p in predicates):
            found.add("classification")
        return frozenset(found)
