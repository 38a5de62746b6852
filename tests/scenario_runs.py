"""A scenario run through the engine (`Run`), and the oracle asked the same questions (`Witness`).

Rule of this file: what the oracle is told comes from the scenario's world and the inputs (`witness.py` says how).
"""

from __future__ import annotations

import functools
import json
from copy import copy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import factories as make
from scenarios import (
    ACTIONS,
    AGENTS,
    BRIEF_CHAIN,
    BRIEF_MS,
    FLIPS,
    FOREIGN_WORKLOAD,
    LANES,
    MAY_NOT,
    OPEN_CHAIN,
    REACH,
    RESOURCES,
    SELECTIONS,
    TOOL_LABELS,
    UNKNOWN_WORKLOAD,
    WORKLOADS,
    Scenario,
    Step,
    rules_text,
)

from harness_stream.core.apply import apply, change_of
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from harness_stream.core.state import State
from harness_stream.wire.decisions import encode_body, read_body
from tests import witness
from tests.expectation import spoken
from tests.oracle import Facts, Identity, Oracle, own_chain
from tests.oracle_words import Event, Resource, Rule
from tests.witness import Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_stream.core.intake import Intake
    from harness_stream.core.model import Approval, Intent, Mandate, Outcome


class World:
    """The tables of a scenario: as plain rows, and as the engine reads them."""

    def __init__(self) -> None:
        self.agents = {name: self._agent(name) for name in AGENTS}
        self.resources = {uri: dict(row) for uri, row in RESOURCES.items()}
        self._flipped: dict[int, dict[str, Any]] = {}
        staff = [make.identity_row("approver", roles=["approver"], tenant="people")]
        for lane in LANES:
            staff.append(make.identity_row(f"boss-{lane}", lane=lane, roles=["orchestrator"]))
            staff.append(make.identity_row(f"watch-{lane}", lane=lane, roles=["enforcer"]))
        tools = [{"subject": f"tool:{action}", "labels": labels} for action, labels in TOOL_LABELS.items()]
        self.tables = make.tables(
            *self.agents.values(),
            *staff,
            infrastructure=tuple({"workload_id": w, "environment": name} for w, name in WORKLOADS.items()),
            classification=(*tools, *({"subject": f"resource:{u}", **row} for u, row in self.resources.items())),
        )

    @staticmethod
    def _agent(name: str) -> dict[str, Any]:
        depth, fan_out = REACH[name]
        actions = [action for action in ACTIONS if action != MAY_NOT.get(name)]
        workloads = [*WORKLOADS, UNKNOWN_WORKLOAD]
        limits_ = {"depth": depth, "fan_out": fan_out}
        return make.identity_row(name, **AGENTS[name], actions=actions, workloads=workloads, delegation=limits_)

    def flip(self, number: int) -> None:
        """Take a change of a row, or take it back."""
        kind, name, change = FLIPS[number]
        row = (self.agents if kind == "agent" else self.resources)[name]
        if number in self._flipped:
            before = self._flipped.pop(number)
            for key in change:
                row.pop(key, None)
            row.update(before)
        else:
            self._flipped[number] = {key: row[key] for key in change if key in row}
            row.update(change)
        table, key = ("identity", name) if kind == "agent" else ("classification", f"resource:{name}")
        value = row if kind == "agent" else {"subject": key, **row}
        self.tables[table].put(key, json.dumps(value).encode(), self.tables[table].revision + 1)

    def refresh(self, t: int, stale: frozenset[str] = frozenset()) -> None:
        for name, table in self.tables.items():
            table.fresh_as_of = 0 if name in stale else t

    def identity(self, name: str) -> Identity:
        row = self.agents[name]
        return Identity(
            row["lane"],
            row.get("status", "active"),
            frozenset(row["actions"]),
            frozenset(row["delegates"]),
            row.get("delegated_only", False),
            row["delegation"]["depth"],
            row["delegation"]["fan_out"],
        )

    def resource(self, uri: str) -> Resource:
        row: Mapping[str, Any] = self.resources.get(uri, {})
        labels = frozenset(row.get("labels", ()))
        return Resource(uri, row.get("zone", ""), labels, row.get("sensitivity", ""), row.get("owner", ""))


@functools.lru_cache(maxsize=16)
def _compiled(text: str) -> Windows:
    """A scenario runs several times in a row, and a long test has more rule sets than fit into memory."""
    return Windows(load(text))


@dataclass
class Run:
    """One pass of a scenario through the engine, one record after the other."""

    scenario: Scenario
    rules: tuple[Rule, ...] | None = None
    audit: Callable[[Run, Any, dict[str, Any]], None] | None = None
    """Called with an input and the record it got, before that is applied."""
    state: State = field(default_factory=State)
    t: int = make.NOW
    taken: list[Taken] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    open_holds: list[tuple[str, str]] = field(default_factory=list)
    """Agent and digest of each hold that nobody has answered."""
    verdicts: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """(agent, intent id) → newest decision and digest."""
    reported: set[tuple[str, str]] = field(default_factory=set)
    """Intents some outcome was about."""
    delegated: set[tuple[str, str]] = field(default_factory=set)
    """Intents that name a parent."""

    def __post_init__(self) -> None:
        self.windows = _compiled(rules_text(self.scenario.rules if self.rules is None else self.rules))
        self.world = World()
        for agent, row in self.world.agents.items():
            for chain, until in ((OPEN_CHAIN, 2 * make.NOW), (BRIEF_CHAIN, make.NOW + BRIEF_MS)):
                opened = make.mandate(agent_id=agent, by=f"boss-{row['lane']}", chain_id=chain, expires_at=until)
                self._take(opened)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [taken.body for taken in self.taken]

    @property
    def intake(self) -> Intake:
        return make.intake(self.state, tables=self.world.tables, windows=self.windows)

    def bookmark(self) -> tuple[Any, ...]:
        marked = (self.taken, self.changes, self.open_holds, self.verdicts, self.reported, self.delegated)
        return (self.t, *map(copy, marked))

    def back_to(self, mark: tuple[Any, ...]) -> None:
        """Forget what happened since, but for the state."""
        self.t, self.taken, self.changes, self.open_holds, self.verdicts, self.reported, self.delegated = mark

    def all(self, before: Callable[[Run, int], None] | None = None) -> list[dict[str, Any]]:
        """Every body the scenario makes; `before` may disturb the run between two steps."""
        for number, step in enumerate(self.scenario.steps):
            if before is not None:
                before(self, number)
            self.step(step, number)
        return self.bodies

    def step(self, step: Step, number: int) -> Taken | None:
        """Run one step; None if it wrote nothing."""
        self.t += step.gap_ms
        self.world.refresh(self.t, step.stale)
        if step.kind == "flip":
            self.world.flip(step.flip)
            return None
        event = getattr(self, f"_{step.kind}")(step, make.uuid7(self.t, number))
        return None if event is None else self._take(event, step.stale)

    def _intent(self, step: Step, name: str) -> Intent:
        row = self.world.agents[step.agent]
        return make.intent(
            agent_id=step.agent,
            by=step.agent if step.by == "agent" else f"watch-{row['lane']}",
            intent_id=name,
            chain_id=step.chain,
            action=step.action,
            resources=step.resources,
            measures=dict(step.measures),
            labels=step.labels,
            purpose=step.purpose,
            workload_id=step.workload,
            parent=self._parent(step, name),
        )

    def _parent(self, step: Step, name: str) -> dict[str, str] | None:
        if step.parent is None:
            return None
        which, pick = step.parent
        found = ("ann", name) if which == "nobody" else self._picked(which, pick, step.agent)
        if found is None:
            return None
        self.delegated.add((step.agent, name))
        return {"agent_id": found[0], "intent_id": found[1]}

    def _picked(self, which: str, pick: int, child: str = "") -> tuple[str, str] | None:
        """One of the earlier intents that are `which`, counted from the newest."""
        approved = [key for key, (decision, _) in self.verdicts.items() if decision == "approve"]
        listing = [key for key in approved if child in self.world.agents[key[0]]["delegates"]]
        wanted = {
            "approved": approved,
            "unreported": [key for key in approved if key not in self.reported],
            "delegating": listing,
            "delegated": [key for key in listing if key in self.delegated] or listing,
            "other": [key for key, (decision, _) in self.verdicts.items() if decision != "approve"],
        }[which]
        return wanted[-1 - pick % len(wanted)] if wanted else None

    def _answer(self, step: Step, name: str) -> Approval | None:
        if not self.open_holds:
            return None
        agent, digest = self.open_holds.pop(-1 - step.pick % len(self.open_holds))
        decision = "approve" if step.approve else "deny"
        return make.approval(agent_id=agent, approval_id=name, hold_digest=digest, decision=decision)

    def _outcome(self, step: Step, name: str) -> Outcome | None:
        found = self._picked(step.about, step.pick)
        if found is None:
            return None
        self.reported.add(found)
        lane = self.world.agents[found[0]]["lane"]
        other = next(each for each in LANES if each != lane)
        by = {"agent": found[0], "enforcer": f"watch-{lane}", "stranger": f"watch-{other}"}[step.by]
        return make.outcome(
            agent_id=found[0],
            by=by,
            outcome_id=name,
            intent_id=found[1],
            verdict_digest=self.verdicts[found][1] if step.digest_right else "f" * 64,
            status=step.status,
            measures=dict(step.measures),
        )

    def _close(self, step: Step, name: str) -> Mandate:
        lane = self.world.agents[step.agent]["lane"]
        return make.mandate(agent_id=step.agent, by=f"boss-{lane}", mandate_id=name, chain_id=step.chain, close=True)

    def _take(self, event: Any, stale: frozenset[str] = frozenset()) -> Taken:
        value = encode_body(self.intake.answer(event, make.arrival(event, self.t), self.t))
        read, digest = read_body(value)
        body = dict(read)
        if self.audit is not None:
            self.audit(self, event, body)
        self.taken.append(Taken(event, self.t, stale, body, digest))
        change = change_of(read, digest)
        if change is not None:
            self.changes.append(change)
            apply(self.state, change, self.windows)
        if body["kind"] == "verdict":
            key = (body["agent_id"], body["intent_id"])
            self.verdicts.pop(key, None)
            self.verdicts[key] = (body["decision"], digest)
            if body["decision"] == "hold":
                self.open_holds.append((body["agent_id"], digest))
        return self.taken[-1]


class Witness(witness.Witness):
    """Hears what a run takes in."""

    def __init__(self, run: Run) -> None:
        super().__init__(Oracle(SELECTIONS, run.scenario.rules))
        self.world = run.world
        for taken in run.taken:
            self.hear(taken)

    def event_of(self, intent: Intent, t: int) -> Event:
        row = self.world.agents[intent.agent_id]
        return Event(
            id=intent.intent_id,
            t=t,
            agent_id=intent.agent_id,
            lane=row["lane"],
            chain_id=intent.chain_id or own_chain(intent.agent_id),
            action=intent.action,
            resources=tuple(map(self.world.resource, intent.resources)),
            parent=None if intent.parent is None else (intent.parent.agent_id, intent.parent.intent_id),
            measures={name: Decimal(str(value)) for name, value in intent.measures.items()},
            labels=frozenset(intent.labels) | frozenset(TOOL_LABELS.get(intent.action, ())),
            tenant=row["tenant"],
            owner=row["owner"],
            environment=WORKLOADS.get(intent.workload_id, ""),
            purpose=intent.purpose,
            by=intent.by,
        )

    def facts(self, intent: Intent, taken: Taken) -> Facts:
        identities = {name: self.world.identity(name) for name in AGENTS}
        workload = intent.workload_id
        return Facts(identities, workload in WORKLOADS, workload_allowed=workload != FOREIGN_WORKLOAD)

    def enforces(self, outcome: Outcome, event: Event) -> bool:
        return outcome.by == f"watch-{event.lane}"


def said(body: Mapping[str, Any]) -> dict[str, str]:
    """What each rule says in a verdict, shadow rules too."""
    return {r["rule"]: spoken(r) for r in (*body["reasons"], *body["shadow"]) if "rule" in r}


class Tale:
    """A story told step by step, in the world of the scenarios: every answer is what the oracle says as well."""

    def __init__(self, *rules: Rule, base: bool = True) -> None:
        self.run = Run(Scenario((*((Rule("base", "approve"),) if base else ()), *rules), ()))
        self.witness = Witness(self.run)
        self._steps = 0

    def _go(self, step: Step) -> dict[str, Any]:
        self._steps += 1
        taken = self.run.step(step, self._steps)
        assert taken is not None, "there is nothing this could be about"
        complaints = self.witness.hear(taken)
        assert not complaints, f"{complaints} of {taken.body['reasons']}"
        return taken.body

    def verdict(self, gap_ms: int = 0, **over: Any) -> dict[str, Any]:
        """An intent, `gap_ms` after the step before it."""
        return self._go(Step("intent", gap_ms, **over))

    def act(self, gap_ms: int = 0, **over: Any) -> str:
        """What an intent gets: the decision, with a `?` if a window was unknown."""
        body = self.verdict(gap_ms, **over)
        return body["decision"] + ("?" if any(reason.get("unknown") for reason in body["reasons"]) else "")

    def answer(self, gap_ms: int = 0, **over: Any) -> str:
        """A person's answer to the newest hold: the decision, or `refused`."""
        body = self._go(Step("answer", gap_ms, **over))
        return body.get("decision") or body["status"]

    def report(self, status: str, gap_ms: int = 0, **over: Any) -> str:
        """The outcome of the newest approved intent but `pick`, reported by an enforcer: `accepted` or `refused`."""
        return str(self._go(Step("outcome", gap_ms, status=status, **{"by": "enforcer", **over}))["status"])

    def close(self, agent: str = "ann") -> None:
        """The end of an agent's chain."""
        self._go(Step("close", agent=agent, chain=OPEN_CHAIN))

    def flip(self, kind: str, name: str, **change: Any) -> None:
        """One of the changes of a table that FLIPS knows."""
        self.run.step(Step("flip", flip=FLIPS.index((kind, name, change))), 0)
