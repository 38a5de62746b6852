"""A naive reference of the decision, written from DESIGN §5/§6 and PROTOCOL §4/§8 alone, never from the engine.

Rule of this file: nothing is incremental. The whole history is a list; every question scans all of it again. What a
selection or condition means is a Python predicate, so that neither CEL nor the engine's windows have a part in it.
Where the engine may answer `unknown` because its state is bounded, the oracle's answer is the set of both; these
excuses are listed in `Oracle.says`.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import combinations, product
from typing import TYPE_CHECKING

from harness_stream.core import limits
from tests.expectation import FAILS, NO, UNKNOWN, YES, Expectation
from tests.oracle_words import COUNTING, Event, Predicate, Resource, Rule, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Answers = frozenset[bool | None]
"""What a condition may say: True, False, or None for unknown."""

KEPT = limits.WINDOW_FIRM_KEPT  # newest events of a value or selection that are kept one by one
HOLDS_FEW = 5  # with fewer there are not more ways over them than are kept

# --- Windows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contribution:
    """An event inside a window and group, with the views that match there and the selections each of them matches."""

    event: Event
    views: tuple[tuple[Resource, frozenset[str]], ...]

    @property
    def names(self) -> frozenset[str]:
        return frozenset().union(*(names for _, names in self.views))

    def values(self, path: str) -> frozenset[str]:
        return frozenset(self.event.text(path, resource) for resource, _ in self.views)


def interval(window: Window, found: list[Contribution]) -> tuple[Decimal, Decimal | None]:
    """What a counting window holds: both ends are equal unless an event lacks the measure; None has no upper end."""
    if window.kind == "event_count":
        return Decimal(len(found)), Decimal(len(found))
    if window.measure is None:
        distinct = Decimal(len({value for c in found for value in c.values(str(window.field))}))
        return distinct, distinct
    values = [c.event.measures.get(window.measure) for c in found]
    known = [value for value in values if value is not None]
    missing = len(values) - len(known)
    if window.kind == "value_sum":
        return sum(known, Decimal(0)), None if missing else sum(known, Decimal(0))
    return Decimal(len(set(known))), Decimal(len(set(known)) + missing)


def compare(op: str, lo: Decimal, hi: Decimal | None, threshold: Decimal) -> bool | None:
    """A condition is true or false only if it is for everything between both ends."""
    if op == "neq":
        equal = compare("eq", lo, hi, threshold)
        return None if equal is None else not equal
    if op == "eq":
        outside = threshold < lo or (hi is not None and threshold > hi)
        return False if outside else (True if lo == hi else None)
    said = {getattr(operator, _OPERATOR[op])(end, threshold) for end in (lo, Decimal("Infinity") if hi is None else hi)}
    return said.pop() if len(said) == 1 else None


_OPERATOR = {"gt": "gt", "gte": "ge", "lt": "lt", "lte": "le"}


def happened(window: Window, found: list[Contribution]) -> bool:
    """temporal, temporal_ordered, absent; `found` is in log order."""
    if window.kind == "absent":
        return not found
    if window.kind == "temporal":
        return all(any(name in c.names for c in found) for name in window.selections)
    return any(
        all(name in c.names for name, c in zip(window.selections, chosen, strict=True))
        for chosen in combinations(found, len(window.selections))
    )


def _ways(found: list[Contribution], steps: tuple[str, ...]) -> int:
    """How many ways lead through these steps over at least one hold; without steps: how many holds there are."""
    if not steps:
        return sum(c.event.decision == "hold" for c in found)
    return sum(
        any(c.event.decision == "hold" for c in chosen)
        and all(name in c.names for name, c in zip(steps, chosen, strict=True))
        for chosen in combinations(found, len(steps))
    )


# --- The oracle -------------------------------------------------------------------------------------------------------


@dataclass
class Oracle:
    """Selections, rules, mandates and the whole history of a partition, in log order."""

    selections: Mapping[str, Predicate]
    rules: tuple[Rule, ...]
    history: dict[tuple[str, str], Event] = field(default_factory=dict)
    chains: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    """(agent, chain) → when its mandate expires, and whether it was closed."""

    settled: list[Event] = field(default_factory=list)
    """Holds that were answered, as they were."""

    def record(self, event: Event) -> None:
        """One intent has one event: what a person answered replaces the hold, at the answer's place."""
        if event.key in self.history:
            self.settled.append(self.history.pop(event.key))
        self.history[event.key] = event

    def change(self, event: Event) -> None:
        """An outcome changes an event where it stands."""
        self.history[event.key] = event

    # --- windows ---

    def contribution(self, window: Window, group: tuple[str, ...], event: Event) -> Contribution | None:
        of_views = zip(event.views(), event.groups(window.group_by), strict=True)
        members = [resource for resource, own in of_views if own == group]
        views = [(r, frozenset(n for n in window.selections if self.selections[n].holds(event, r))) for r in members]
        matching = tuple((resource, names) for resource, names in views if names)
        return Contribution(event, matching) if matching else None

    def inside(self, window: Window, now: Event) -> Iterable[Event]:
        """Everything the window spans, the judged one last; both ends count."""
        for key, event in self.history.items():
            if now.t - window.timespan_ms <= event.t <= now.t and key != now.key:
                yield event
        yield now

    def contributions(self, window: Window, group: tuple[str, ...], now: Event) -> list[Contribution]:
        counted = (e for e in self.inside(window, now) if e is now or e.counts(now.t, attempts=window.attempts))
        return [c for event in counted if (c := self.contribution(window, group, event))]

    def says(self, window: Window, group: tuple[str, ...], now: Event) -> Answers:
        found = self.contributions(window, group, now)
        if window.kind in COUNTING:
            lo, hi = interval(window, found)
            threshold = Decimal(str(window.threshold))
            certain = compare(window.op, lo, hi, threshold)
            doubts = self._doubts(window, group, now) if window.kind == "value_count" else 0
            excused = compare(window.op, lo - doubts, None if hi is None else hi + doubts, threshold) is None
        else:
            certain, excused = happened(window, found), self._order_lost(window, group, now)
            excused = excused or (window.kind in {"temporal", "absent"} and self._doubts(window, group, now) > 0)
        excuses = (self._beyond_bounds, self._crowded)
        if excused or any(excuse(window, group, now) for excuse in excuses):
            return frozenset({certain, None})
        return frozenset({certain})

    def _beyond_bounds(self, window: Window, group: tuple[str, ...], now: Event) -> bool:
        """DESIGN §5: count and sum keep the newest 512 exactly, distinct the last time of 1,024 values."""
        if window.kind not in COUNTING or len(self.history) < limits.WINDOW_EXACT_MAX:
            return False
        taken = (e for e in self.inside(window, now) if window.attempts or e.decision != "deny")
        found = [c for e in taken if (c := self.contribution(window, group, e))]
        if window.kind == "value_count":
            return interval(window, found)[0] > limits.WINDOW_VALUES_MAX
        return len(found) > limits.WINDOW_EXACT_MAX

    def _doubts(self, window: Window, group: tuple[str, ...], now: Event) -> int:
        """Of how many values or selections it may be unknown whether an event is inside after some were released.

        An abandoned event is nowhere. Of each the newest two are kept, so one that never started leaves no doubt; after
        two, whether a third one is inside may not be known. Count and sum keep events one by one, so they never doubt.
        """
        gone, ever = self._released(window, group, now)
        seen, stood = (Counter(key for keys in each for key in keys) for each in (gone, ever))
        return sum(seen[key] > 1 and stood[key] > KEPT for key in seen)

    def _order_lost(self, window: Window, group: tuple[str, ...], now: Event) -> bool:
        """Small state cannot put an event in between, nor release one where there were several for a step."""
        if window.kind != "temporal_ordered":
            return False
        gone, ever = self._released(window, group, now)
        waited = [self._keys(window, group, e) for e in self._holds(window, now)]
        stood = Counter(key for keys in (*ever, *waited) for key in keys)
        changed = (e for e in self.inside(window, now) if e.as_approved is not None)
        entered = any(self._keys(window, group, e) - self._keys(window, group, e.as_approved) for e in changed)
        return entered or bool(gone and max(stood.values(), default=0) > 1)

    def _released(
        self, window: Window, group: tuple[str, ...], now: Event
    ) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
        """Values or selections of each event inside that an outcome took out, and of each that ever stood there."""
        every = list(self.inside(window, now))
        if all(e.as_approved is None for e in every):
            return [], []  # nothing was taken out, and of what stood nobody asks then
        before = [self._keys(window, group, e.as_approved) for e in every if e.as_approved is not None]
        after = [self._keys(window, group, e) for e in every if e.as_approved is not None]
        gone = [old for old, new in zip(before, after, strict=True) if old != new]
        return gone, [*gone, *(self._keys(window, group, e) for e in every)]

    def _keys(self, window: Window, group: tuple[str, ...], event: Event) -> frozenset[str]:
        found = None if event.released else self.contribution(window, group, event)
        if found is None:
            return frozenset()
        if window.kind == "value_count":
            if window.measure is None:
                return found.values(str(window.field))
            value = event.measures.get(window.measure)
            return frozenset() if value is None else frozenset({str(value.normalize())})
        return frozenset({"any"}) if window.kind == "absent" else found.names

    def _crowded(self, window: Window, group: tuple[str, ...], now: Event) -> bool:
        """More holds, or ways to step over holds, than are kept one by one: when they end, others may be forgotten."""
        if window.kind in {"event_count", "value_sum"} or len(self._holds(window, now)) < HOLDS_FEW:
            return False
        counted = (e for e in self.inside(window, now) if e.counts(now.t, attempts=True) and e.decision != "hold")
        everything = sorted([*self._holds(window, now), *counted], key=lambda e: e.t)
        found = [c for e in everything if (c := self.contribution(window, group, e))]
        steps = window.selections if window.kind == "temporal_ordered" else ()
        prefixes = [steps[:length] for length in range(1, len(steps) + 1)]
        return max(_ways(found, prefix) for prefix in prefixes or [()]) > (
            limits.WINDOW_RUNS_MAX if steps else limits.WINDOW_HOLDS_MAX
        )

    def _holds(self, window: Window, now: Event) -> list[Event]:
        """Every hold that stood in the window, whatever became of it."""
        ever = (e for e in [*self.settled, *self.history.values()] if e.decision == "hold")
        return [e for e in ever if now.t - window.timespan_ms <= e.t]

    # --- rules ---

    def rule_says(self, rule: Rule, now: Event, *, workload_known: bool, stale: frozenset[str]) -> frozenset[str]:
        """Any resource is enough to deny or hold, all are needed to approve."""
        if stale and rule.reads(self.selections) & stale:
            return frozenset({FAILS})
        if rule.when.chain_label is None:
            return self._says_with(rule, now, frozenset(), workload_known=workload_known)
        both = {self.chain_labels(now, far=far) for far in (True, False)}
        return frozenset().union(*(self._says_with(rule, now, one, workload_known=workload_known) for one in both))

    def _says_with(self, rule: Rule, now: Event, labels: frozenset[str], *, workload_known: bool) -> frozenset[str]:
        held = [r for r in now.views() if rule.when.holds(now, r, labels) and (workload_known or not rule.attested)]
        window = rule.window
        each = [{True} if window is None else self.says(window, now.group(window.group_by, r), now) for r in held]
        if rule.effect == "approve":
            everywhere = len(held) == len(now.views())
            return frozenset(YES if everywhere and set(one) == {True} else NO for one in product(*each))
        return frozenset().union(*(_any_says(one) for one in product(*each)))

    def expect(
        self, now: Event, facts: Facts, *, stale: frozenset[str] = frozenset(), satisfied: frozenset[str] = frozenset()
    ) -> Expectation:
        """Everything the engine may answer to this intent."""
        barred = self.barred(now, facts)
        answers = {}
        for rule in () if barred else self.rules:
            may = self.rule_says(rule, now, workload_known=facts.workload_known, stale=stale)
            answers[rule.id] = frozenset(NO if rule.id in satisfied and a != FAILS else a for a in may)
        return Expectation(self.rules, barred, answers, lambda rule: self._evidence(rule, now))

    def _evidence(self, rule: Rule, now: Event) -> frozenset[str]:
        """Events that rule may name as what made it fire."""
        window = rule.window
        groups = set(now.groups(window.group_by)) if window else set()
        found = (c for group in groups if window for c in self.contributions(window, group, now))
        return frozenset(c.event.id for c in found)

    # --- who may ask at all ---

    def barred(self, now: Event, facts: Facts) -> frozenset[str]:
        """Reasons of which the engine gives one, without a look at any rule; empty: the rules decide."""
        codes = set(self._misdelegated(now, facts))
        if facts.identities[now.agent_id].status != "active":
            codes.add("agent_status")
        if not facts.workload_allowed:
            codes.add("workload")
        if now.chain_id != own_chain(now.agent_id) and (now.agent_id, now.chain_id) not in self.chains:
            codes.add("chain_unknown")
        above = [(e.agent_id, e.chain_id) for e in self.ancestors(now)]
        if any(self._ended(chain, now.t) for chain in ((now.agent_id, now.chain_id), *above)):
            codes.add("chain_closed")
        return frozenset(codes)

    def _ended(self, chain: tuple[str, str], t: int) -> bool:
        """Delegation ends with the chain of anybody above, as every intent ends with its own."""
        until, closed = self.chains.get(chain, (t, False))
        return closed or t > until

    def _misdelegated(self, now: Event, facts: Facts) -> frozenset[str]:
        me = facts.identities[now.agent_id]
        if now.parent is None:
            return frozenset({"delegation"} if me.delegated_only else ())
        boss = facts.identities.get(now.parent[0])
        lane = frozenset({"delegation_lane"} if boss is None or boss.lane != me.lane else ())
        parent = self.history.get(now.parent)
        effective = parent is not None and parent.decision == "approve" and self._kept(parent, now)
        sound = effective and boss is not None and now.agent_id in boss.delegates
        sound = sound and self._within_limits(now, me, facts) and self._room_for(now, boss)
        return lane if sound else lane | {"delegation"}

    def _kept(self, parent: Event, now: Event) -> bool:
        """An intent may delegate as long as its id is remembered, and from then on while it is used once in a while."""
        told = [*self.settled, *self.history.values()]
        used = (e.t for e in told if e.parent == parent.key and e.decision != "deny")
        return now.t <= max([parent.remembered_until, *(t + limits.DELEGATION_IDLE_MS for t in used)])

    def ancestors(self, event: Event) -> list[Event]:
        """The approved intents it descends from, its parent first."""
        found = []
        parent = self.history.get(event.parent) if event.parent else None
        while parent is not None and parent.decision == "approve":
            found.append(parent)
            parent = self.history.get(parent.parent) if parent.parent else None
        return found

    def _within_limits(self, now: Event, me: Identity, facts: Facts) -> bool:
        below = now
        for distance, ancestor in enumerate(self.ancestors(now), start=1):
            row = facts.identities.get(ancestor.agent_id)
            if row is None or row.status != "active" or distance > row.depth or below.agent_id not in row.delegates:
                return False
            below = ancestor
            if now.action in me.actions and now.action not in row.actions:
                return False
        return True

    def _room_for(self, now: Event, boss: Identity) -> bool:
        """Is there room below this parent for one more agent, or is this one there already?

        A hold takes no place: whether there is room is asked again when it is answered.
        """
        siblings = (e for e in self.history.values() if e.parent == now.parent and e.key != now.key)
        busy = {e.agent_id for e in siblings if e.decision == "approve"}
        return len(busy | {now.agent_id}) <= boss.fan_out

    # --- labels ---

    def root(self, event: Event) -> tuple[str, str]:
        """Names the tree an event belongs to: agent and chain of the topmost intent."""
        top = [event, *self.ancestors(event)][-1]
        return top.agent_id, top.chain_id

    def chain_labels(self, now: Event, *, far: bool = True) -> frozenset[str]:
        """What was read in the intent's chain, its parent's and its root's, and by whoever acts for one of them.

        Who acts for another carries from then on what the other one carried. DESIGN §5 does not say how far in a tree
        an approval takes labels away: everywhere (`far`), or nowhere but in a chain that is no part of one.
        """
        parent = self.history.get(now.parent) if now.parent else None
        homes = {(now.agent_id, now.chain_id), self.root(now), *([(parent.agent_id, parent.chain_id)] if parent else [])}
        return frozenset().union(*(self._carried(home, now, far=far) for home in homes))

    def _carried(self, home: tuple[str, str], now: Event, *, far: bool) -> frozenset[str]:
        """Labels of one chain, or of the tree that began in it: approvals may take some from it."""
        carried = frozenset[str]()
        for e in self.history.values():
            chain, root = (e.agent_id, e.chain_id), self.root(e)
            if e.decision == "approve" and e.key != now.key and home in {chain, root}:
                carried |= e.touched() | (e.brought if far else e.brought_perhaps)
                carried -= e.declassified if far or root == chain == home else frozenset()
        return carried

    def brings(self, now: Event, *, far: bool = True) -> frozenset[str]:
        """A child brings along what it carries."""
        return self.chain_labels(now, far=far) if now.parent else frozenset()

    # --- outcomes ---

    def report(self, key: tuple[str, str], status: str, measures: Mapping[str, Decimal]) -> None:
        """A valid outcome, the first of its intent."""
        event = self.history[key]
        raised = dict(event.measures)
        if status == "done":
            for name, value in measures.items():
                raised[name] = max(raised.get(name, Decimal(0)), value)
        self.change(replace(event, measures=raised, released=status == "abandoned", as_approved=event))


def own_chain(agent_id: str) -> str:
    return f"agent:{agent_id}"


def _any_says(each: tuple[bool | None, ...]) -> frozenset[str]:
    """What a deny or hold rule says of these resources; with a sure one beside an unknown one either may be named."""
    if not any(one in (True, None) for one in each):
        return frozenset({NO})
    return frozenset({YES} if True in each else ()) | frozenset({UNKNOWN} if None in each else ())


@dataclass(frozen=True)
class Identity:
    lane: str
    status: str
    actions: frozenset[str]
    delegates: frozenset[str]
    delegated_only: bool
    depth: int
    fan_out: int


@dataclass(frozen=True)
class Facts:
    """The tables as they are now."""

    identities: Mapping[str, Identity]
    workload_known: bool = True
    workload_allowed: bool = True
