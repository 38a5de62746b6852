"""Generated rule sets and histories, run through the engine; the oracle is asked the same questions.

Rule of this file: a scenario is plain data, so that the same one can be run twice: in other batches, after a restart,
with its rules in another order. The oracle's facts come from the scenario, never from what the engine recorded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import factories as make
from hypothesis import strategies as st
from oracle import Event, Oracle, Predicate, Rule, Window

from harness_stream.core import limits
from harness_stream.core.apply import apply, change_of
from harness_stream.core.state import State
from harness_stream.wire.decisions import encode_body, read_body

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.core.intake import Intake

# Two agents share a lane under different tenants; a third has the first one's tenant in a lane of its own.
AGENTS = {"ann": ("t1", "shared"), "bob": ("t2", "shared"), "eve": ("t1", "alone")}
ACTIONS = ("crm.read", "email.send", "web.get")
ZONES = {"crm://a": "inner", "crm://b": "inner", "mail://x": "outer"}
SELECTIONS = {
    "reads": Predicate(("crm.read",)),
    "sends": Predicate(("email.send", "web.get")),
    "outer": Predicate(zone="outer"),
    "personal": Predicate(label="pii"),
    "anything": Predicate(),
}
EXISTING_CHAINS = ("case",)
GROUPS = (
    (),
    ("agent_id",),
    ("chain_id",),
    ("tenant",),
    ("resource.uri",),
    ("agent_id", "resource.system"),
    ("chain_id", "action"),
    ("tenant", "resource.zone"),
)
MINUTES = 60_000
# Ties, both sides of every timespan's edge, and both sides of a hold's end.
SHORT_GAPS_MS = (0, 0, 0, 1, 999, 1_000, 1_001, 4_000, 5_000)
GAPS_MS = (*SHORT_GAPS_MS, *SHORT_GAPS_MS, 15 * MINUTES, limits.HOLD_MS_DEFAULT, limits.HOLD_MS_DEFAULT + 1)
TIMESPANS_MS = (1_000, 5_000, 30 * MINUTES)


@dataclass(frozen=True)
class Step:
    """An intent, an approver's answer to the newest open hold but `pick`, or a change of a resource's labels."""

    kind: str
    gap_ms: int
    agent: str = "ann"
    chain: str | None = None
    action: str = "crm.read"
    resources: tuple[str, ...] = ()
    stale: frozenset[str] = frozenset()
    pick: int = 0
    approve: bool = True


@dataclass(frozen=True)
class Scenario:
    rules: tuple[Rule, ...]
    steps: tuple[Step, ...]


def rules_text(rules: tuple[Rule, ...]) -> str:
    lines = ["rule_set: generated", "default: deny", "selections:"]
    lines += [f"  {name}: '{predicate.cel('event')}'" for name, predicate in SELECTIONS.items()]
    lines.append("rules:")
    for rule in rules:
        head = f"id: {rule.id}, effect: {rule.effect}, mode: {rule.mode}"
        lines.append(f"  - {{{head}, when: '{_when(rule)}'{_tail(rule)}}}")
    return "\n".join(lines)


def _when(rule: Rule) -> str:
    guard = "infrastructure.present && " if "infrastructure" in rule.reads else ""
    return guard + rule.when.cel("intent")


def _tail(rule: Rule) -> str:
    w = rule.window
    if w is None:
        return ""
    attempts = ", include: attempts" if w.attempts else ""
    condition = f", condition: {{{w.op}: {w.threshold}}}" if w.kind == "event_count" else ""
    fields = f"type: {w.kind}, rules: [{', '.join(w.selections)}], group-by: [{', '.join(w.group_by)}]"
    return f", correlation: {{{fields}, timespan: {w.timespan_ms // 1000}s{attempts}{condition}}}"


def _reads(rule: Rule) -> frozenset[str]:
    """Which tables a rule reads: the classification by zone or label, the identity by tenant, as DESIGN §6 says."""
    predicates = [rule.when, *(SELECTIONS[name] for name in (rule.window.selections if rule.window else ()))]
    joined = any(p.zone is not None or p.label is not None for p in predicates)
    joined = joined or (rule.window is not None and "resource.zone" in rule.window.group_by)
    return rule.reads | ({"classification"} if joined else set())


@st.composite
def _windows(draw: st.DrawFn) -> Window:
    kind = draw(st.sampled_from(["event_count", "event_count", "temporal"]))
    names = draw(st.lists(st.sampled_from(sorted(SELECTIONS)), min_size=1, max_size=3, unique=True))
    return Window(
        kind,
        tuple(names),
        draw(st.sampled_from(GROUPS)),
        draw(st.sampled_from(TIMESPANS_MS)),
        attempts=draw(st.booleans()),
        op=draw(st.sampled_from(["gt", "gte", "lt", "lte"])),
        threshold=draw(st.integers(0, 4)),
    )


@st.composite
def _rule_sets(draw: st.DrawFn) -> tuple[Rule, ...]:
    rules = [Rule("base", "approve", Predicate())]
    for index in range(draw(st.integers(2, 4))):
        rule = Rule(
            f"r{index}",
            draw(st.sampled_from(["deny", "hold", "hold", "hold", "approve"])),
            draw(st.sampled_from(sorted(SELECTIONS.values(), key=repr))),
            mode=draw(st.sampled_from(["enforce", "enforce", "enforce", "shadow"])),
            window=draw(st.none() | _windows()),
            reads=frozenset(draw(st.sampled_from([(), (), ("infrastructure",)]))),
        )
        rules.append(replace(rule, reads=_reads(rule)))
    return tuple(rules[draw(st.sampled_from((0, 0, 0, 1))) :])


_INTENTS = st.builds(
    Step,
    st.just("intent"),
    st.sampled_from(GAPS_MS),
    agent=st.sampled_from(("ann", "ann", "bob", "eve")),
    chain=st.sampled_from((*(None, *EXISTING_CHAINS) * 3, "nowhere")),
    action=st.sampled_from(ACTIONS),
    resources=st.lists(st.sampled_from(sorted(ZONES)), max_size=3, unique=True).map(tuple),
    stale=st.sampled_from((*[frozenset[str]()] * 10, frozenset({"classification"}), frozenset({"infrastructure"}))),
)
_ANSWERS = st.builds(
    Step, st.just("answer"), st.sampled_from(GAPS_MS), pick=st.sampled_from((0, 0, 0, 1)), approve=st.booleans()
)
_RELABELS = st.builds(Step, st.just("relabel"), st.just(0))
_STEPS = st.one_of(_INTENTS, _INTENTS, _INTENTS, _ANSWERS, _ANSWERS, _RELABELS)


def scenarios(steps_max: int = 30) -> st.SearchStrategy[Scenario]:
    return st.builds(Scenario, _rule_sets(), st.lists(_STEPS, min_size=steps_max // 2, max_size=steps_max).map(tuple))


@dataclass
class Run:
    """One pass of a scenario through the engine, one record after the other."""

    scenario: Scenario
    rules: tuple[Rule, ...] | None = None
    state: State = field(default_factory=State)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    t: int = make.NOW
    personal: bool = False
    open_holds: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    audit: Callable[[Run, Any, dict[str, Any]], None] | None = None
    """Called with an input and the record it got, before that is applied."""

    def __post_init__(self) -> None:
        rules = self.scenario.rules if self.rules is None else self.rules
        self.windows = make.windows(rules_text(rules))
        identities = [
            make.identity_row(agent, tenant=tenant, lane=lane) for agent, (tenant, lane) in AGENTS.items()
        ]
        approver = make.identity_row("approver", roles=["approver"])
        lanes = sorted({lane for _, lane in AGENTS.values()})
        orchestrators = [make.identity_row(f"boss-{lane}", lane=lane, roles=["orchestrator"]) for lane in lanes]
        self.tables = make.tables(*identities, approver, *orchestrators)
        self._relabel()
        for agent, (_, lane) in AGENTS.items():
            for chain in EXISTING_CHAINS:
                event = make.mandate(agent_id=agent, by=f"boss-{lane}", chain_id=chain, expires_at=2 * make.NOW)
                self._take(event)

    def _relabel(self) -> None:
        rows = {uri: {"zone": zone, "labels": ["pii"] if self.labels(uri) else []} for uri, zone in ZONES.items()}
        for uri, row in rows.items():
            value = json.dumps({"subject": f"resource:{uri}", **row}).encode()
            self.tables["classification"].put(f"resource:{uri}", value, self.tables["classification"].revision + 1)

    def labels(self, uri: str) -> frozenset[str]:
        return frozenset({"pii"} if uri == "crm://a" or (uri == "crm://b" and self.personal) else ())

    @property
    def intake(self) -> Intake:
        return make.intake(self.state, tables=self.tables, windows=self.windows)

    def step(self, step: Step, number: int) -> dict[str, Any] | None:
        """Run one step; None if it wrote nothing."""
        self.t += step.gap_ms
        if step.kind == "relabel":
            self.personal = not self.personal
            self._relabel()
            return None
        if step.kind == "answer":
            return self._answer(step, number)
        event = make.intent(
            agent_id=step.agent,
            intent_id=make.uuid7(self.t, number),
            chain_id=step.chain,
            action=step.action,
            resources=step.resources,
        )
        for name in self.tables:
            self.tables[name].fresh_as_of = 0 if name in step.stale else self.t
        return self._take(event)

    def _answer(self, step: Step, number: int) -> dict[str, Any] | None:
        if step.pick >= len(self.open_holds):
            return None
        digest, hold = self.open_holds.pop(-1 - step.pick)
        for table in self.tables.values():
            table.fresh_as_of = self.t
        answer = make.approval(
            agent_id=hold["agent_id"],
            approval_id=make.uuid7(self.t, number),
            hold_digest=digest,
            decision="approve" if step.approve else "deny",
        )
        return self._take(answer)

    def _take(self, event: Any) -> dict[str, Any]:
        body = self.intake.answer(event, make.arrival(event, self.t), self.t)
        value = encode_body(body)
        read, digest = read_body(value)
        if self.audit is not None:
            self.audit(self, event, dict(read))
        self.bodies.append(dict(read))
        change = change_of(read, digest)
        if change is not None:
            self.changes.append(change)
            apply(self.state, change, self.windows)
        if body["kind"] == "verdict" and body["decision"] == "hold":
            self.open_holds.append((digest, body))
        return body

    def all(self, before: Callable[[Run, int], None] | None = None) -> list[dict[str, Any]]:
        """Every body the scenario makes; `before` may disturb the run between two steps."""
        for number, step in enumerate(self.scenario.steps):
            if before is not None:
                before(self, number)
            self.step(step, number)
        return self.bodies


@dataclass
class Expected:
    """What the oracle makes of the same steps."""

    run: Run

    def __post_init__(self) -> None:
        self.oracle = Oracle(SELECTIONS, self.run.scenario.rules)
        self._held: dict[str, tuple[Event, frozenset[str]]] = {}

    def of_intent(self, step: Step, body: dict[str, Any]) -> tuple[str, frozenset[str]]:
        tenant, lane = AGENTS[step.agent]
        known = step.chain in (None, *EXISTING_CHAINS)
        chain = step.chain if step.chain and known else f"agent:{step.agent}"
        facts = self._facts(step.resources)
        now = Event(body["intent_id"], self.run.t, lane, tenant, step.agent, chain, step.action, facts)
        if not known:
            self.oracle.record(replace(now, decision="deny"))
            return "deny", frozenset()
        return self._judge(now, step.stale, frozenset())

    def of_answer(self, body: dict[str, Any], *, approve: bool) -> tuple[str, frozenset[str]]:
        held, asked = self._held.pop(body["intent_id"])
        now = replace(held, t=self.run.t, resources=self._facts(tuple(r[0] for r in held.resources)))
        if not approve:
            self.oracle.record(replace(now, decision="deny", hold_until=None))
            return "deny", frozenset()
        return self._judge(replace(now, decision="approve", hold_until=None), frozenset(), asked)

    def _facts(self, uris: tuple[str, ...]) -> tuple[tuple[str, str, frozenset[str]], ...]:
        return tuple((uri, ZONES[uri], self.run.labels(uri)) for uri in uris)

    def _judge(self, now: Event, stale: frozenset[str], satisfied: frozenset[str]) -> tuple[str, frozenset[str]]:
        decision, reasons = self.oracle.decide(now, stale=stale, satisfied=satisfied)
        judged = self.oracle.judged(now, decision, limits.HOLD_MS_DEFAULT)
        self.oracle.record(judged)
        if decision == "hold":
            self._held[now.id] = (judged, reasons)
        return decision, reasons


def said(body: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """Decision and rules of a verdict."""
    return body["decision"], frozenset(r["rule"] for r in body["reasons"] if "rule" in r)
