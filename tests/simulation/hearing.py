"""The oracle asked what every effective record of a simulated log answers (V1, V3).

Rule of this file: answers are computed from input records, from the rows of the tables' topics up to the revisions that a
verdict names, and from the whole history; never by the engine's windows, and never from what it joined.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from harness_stream.core import limits
from harness_stream.core.events import Approval, Intent, Mandate, Outcome
from tests.oracle import Facts, Identity, Oracle, own_chain
from tests.oracle_words import Event, Predicate, Resource, Rule, Window
from tests.simulation.world import ACTIONS, NEW_RULES, RULES, TOPICS, bundle
from tests.witness import Taken, Witness

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness_stream.core.audit import Input
    from tests.log_checker import Report
    from tests.oracle import Answers
    from tests.simulation.world import World

TABLES = ("identity", "classification", "risk", "infrastructure")
# What a worker denies for its own protection, or because of claims and sizes that no history tells.
AS_SAID = frozenset({"rate", "overload", "quarantined", "too_large", "holds_full", "facts_behind"})
NO_ROLE = frozenset({"not_orchestrator", "not_signer", "not_reporter", "not_approver"})



def _stale_roles(taken: Taken) -> bool:
    """Refused because nobody knew whether the identity table is current; an ack names no age of it."""
    return taken.body["kind"] == "ack" and taken.body["reason"] == "stale_facts"


# --- Rules ---

MEANT = {
    **{f'event.action == "{action}"': Predicate((action,)) for action in ACTIONS},
    "true": Predicate(),
    "intent.action in identity.actions": Predicate(allowed=True),
    'egress && "pii" in chain.labels': Predicate(("email.send",), chain_label="pii"),
}
"""Every condition of the simulation's rules, in the oracle's words."""


@dataclass(frozen=True)
class RuleSet:
    selections: Mapping[str, Predicate]
    rules: tuple[Rule, ...]

    @property
    def windows(self) -> frozenset[Window]:
        return frozenset(counted(rule.window) for rule in self.rules if rule.window)


@functools.cache
def rule_sets() -> dict[str, RuleSet]:
    """Digest → what it says."""
    return {hashlib.sha256(bundle(text)).hexdigest(): _rule_set(text) for text in (RULES, NEW_RULES)}


def _rule_set(text: str) -> RuleSet:
    read = yaml.safe_load(text)
    selections = {name: MEANT[when] for name, when in read["selections"].items()}
    whens = MEANT | selections
    rules = (Rule(r["id"], r["effect"], whens[r["when"]], window=_window(r.get("correlation"))) for r in read["rules"])
    return RuleSet(selections, tuple(rules))


def _window(said: Mapping[str, Any] | None) -> Window | None:
    if said is None:
        return None
    seconds = re.fullmatch(r"(\d+)s", said["timespan"])
    assert seconds
    condition = dict(said.get("condition", {}))
    counts = condition.pop("field", None)
    [(op, threshold)] = condition.items() or [("gt", 0)]
    paths = tuple(said.get("group-by", ()))
    return Window(said["type"], tuple(said["rules"]), paths, int(seconds[1]) * 1_000, False, counts, op, threshold)


def counted(window: Window) -> Window:
    """What a window is named by: an edited threshold keeps its counts."""
    return replace(window, op="gt", threshold=0)


# --- Facts ---


@dataclass
class Rows:
    """The tables' topics, as of any revision."""

    world: World
    cached: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    known: dict[int, dict[str, Identity]] = field(default_factory=dict)

    def at(self, table: str, revision: int) -> dict[str, Any]:
        """Key → row; a row that was taken away is not there."""
        key = table, revision
        if key not in self.cached:
            rows: dict[str, Any] = {}
            for record in self.world.everything(TOPICS.table(table), 0):
                if record.offset <= revision:
                    rows[(record.key or b"").decode()] = orjson.loads(record.value) if record.value else None
            self.cached[key] = {name: row for name, row in rows.items() if row is not None}
        return self.cached[key]

    def identities(self, revision: int) -> dict[str, Identity]:
        """All of them."""
        if revision not in self.known:
            self.known[revision] = {name: identity_of(row) for name, row in self.at("identity", revision).items()}
        return self.known[revision]

    def changes(self, agent_id: str) -> int:
        """How many rows this agent had, or lost."""
        return sum(record.key == agent_id.encode() for record in self.world.everything(TOPICS.identity, 0))


def identity_of(row: Mapping[str, Any]) -> Identity:
    return Identity(
        lane=row.get("lane") or row["tenant"],
        status=row.get("status", "active"),
        actions=frozenset(row["actions"]),
        delegates=frozenset(row.get("delegates", ())),
        delegated_only=False,
        depth=limits.DELEGATION_DEPTH_DEFAULT,
        fan_out=limits.DELEGATION_FAN_OUT_DEFAULT,
    )


# --- The oracle ---


@dataclass
class UnwarmedOracle(Oracle):
    """Windows may be unknown where nobody warmed them, and where there is no room for all groups (DESIGN §5).

    Attributes:
        cold: window → until when the log does not say what it holds.
        cramped: there is room for a few groups only.
    """

    cold: dict[Window, int] = field(default_factory=dict)
    cramped: bool = False

    def says(self, window: Window, group: tuple[str, ...], now: Event) -> Answers:
        answers = super().says(window, group, now)
        unsure = self.cramped or now.t <= self.cold.get(counted(window), -1)
        return answers | {None} if unsure else answers

    def switch(self, before: RuleSet | None, after: RuleSet, t: int, warmed_from: Mapping[str, Any] | None) -> None:
        """From here on other rules decide; windows that were there keep what they counted.

        Args:
            warmed_from: the place from which new windows were counted; None: they begin now.
        """
        entered = after.windows - before.windows if before is not None else frozenset[Window]()
        unsure = {w: until for w, until in self.cold.items() if w in after.windows}
        if warmed_from is not None:
            entered, t, unsure = entered | unsure.keys(), warmed_from["t"], {}
        self.cold = unsure | {w: t + w.timespan_ms for w in entered}
        self.selections, self.rules = after.selections, after.rules


class LogWitness(Witness):
    """Hears one partition's effective records, each with the input it answers."""

    def __init__(self, rows: Rows, *, cramped: bool) -> None:
        self.heard = UnwarmedOracle({}, (), cramped=cramped)
        super().__init__(self.heard)
        self.rows, self.t, self.asked = rows, 0, 0
        self.rule_set: RuleSet | None = None
        self.revisions: dict[str, int] = {}

    def take(self, body: Mapping[str, Any], digest: str, item: Input | None) -> list[str]:
        """What is wrong with this record."""
        if body["kind"] == "switch":
            self._switch(body)
        if body["kind"] == "resume":
            self.t = body["t"]
        if body["kind"] not in {"verdict", "ack", "reject"}:
            return []
        if item is None or item.event is None:
            return ["it answers what is no input"]
        return [*self._time(body, item), *(self._answered(body, digest, item) if body["kind"] != "reject" else [])]

    def _switch(self, body: Mapping[str, Any]) -> None:
        after = rule_sets()[body["rules"]["digest"]]
        self.heard.switch(self.rule_set, after, self.t, body["warmed"])
        self.rule_set = after

    def _time(self, body: Mapping[str, Any], item: Input) -> Iterator[str]:
        """PROTOCOL §8; who does not say when it decided may have done so by a clock that was wrong."""
        may = {max(self.t, item.append_ms)}
        if body["kind"] != "verdict":
            may.add(self.t)
        elif item.append_ms - body["inputs"]["decided_at"] > limits.CLOCK_SKEW_MS_MAX:
            may = {self.t}
        if body["t"] not in may:
            yield f"chain time {body['t']} is none of {may}"
        self.t = body["t"]

    def _answered(self, body: Mapping[str, Any], digest: str, item: Input) -> list[str]:
        taken = Taken(item.event, self.t, self._stale(body), body, digest)
        if body["kind"] == "ack":
            return self.hear(taken)
        self.asked += 1
        self.revisions = {name: place[0] for name, place in body["inputs"]["tables"].items()}
        code = body["reasons"][0]["code"] if body["decision"] == "deny" else None
        refused = frozenset() if code in AS_SAID else self._refused(taken, item)
        if code in AS_SAID | refused:
            return self._remember_refusal(taken)
        return [f"{body['decision']} by {code}, expected one of {sorted(refused)}"] if refused else self.hear(taken)

    def _remember_refusal(self, taken: Taken) -> list[str]:
        """An approval that is refused like this ends its hold; what was not joined counts nowhere."""
        if not isinstance(taken.event, Approval):
            if taken.body["event"] is not None:
                self.remember(taken, taken.event, self.event_of(taken.event, taken.t))
            return []
        held = self.held.pop(taken.event.hold_digest, None)
        if held is None or taken.t > held.until:
            return ["the hold had ended"]
        asked = self.oracle.history[held.intent.agent_id, held.intent.intent_id]
        self.remember(taken, held.intent, replace(asked, t=taken.t))
        return []

    # --- what is asked before any rule ---

    def _refused(self, taken: Taken, item: Input) -> frozenset[str]:
        """The code that a denial must give though nothing else was asked (PROTOCOL §8): a person is never late."""
        inputs, asks = taken.body["inputs"], isinstance(taken.event, Intent)
        if not asks and taken.event.decision == "deny":
            return frozenset()  # a person's no needs no facts
        age_ms = inputs["decided_at"] - item.append_ms
        if asks and -age_ms > limits.CLOCK_SKEW_MS_MAX:
            return frozenset({"clock"})
        if asks and age_ms > taken.event.deadline_ms:
            return frozenset({"late"})
        if "identity" in taken.stale:
            return frozenset({"stale_facts"})
        return frozenset(() if taken.event.agent_id in self._rows("identity") else {"unknown_agent"})

    def _stale(self, body: Mapping[str, Any]) -> frozenset[str]:
        """Tables of which more than a second was not known (V8)."""
        inputs = body.get("inputs", {"tables": {}})
        ages_ms = {name: inputs["decided_at"] - fresh for name, (_, fresh) in inputs["tables"].items()}
        return frozenset(name for name, age_ms in ages_ms.items() if age_ms > limits.FRESH_MS_MAX)

    # --- acks name no facts: who speaks of or for an agent whose row ever changed may have been refused for that ---

    def _unsure(self, taken: Taken) -> bool:
        changes = self.rows.changes(taken.event.agent_id)
        if taken.body["status"] != "refused":
            return False
        return _stale_roles(taken) or (taken.body["reason"] in NO_ROLE and changes > 1)

    def answer(self, taken: Taken, approval: Approval, *, ask: bool) -> list[str]:
        return [] if _stale_roles(taken) else super().answer(taken, approval, ask=ask)  # its hold stays open

    def mandate(self, mandate: Mandate, taken: Taken) -> bool:
        expired = not mandate.close and (mandate.expires_at or 0) <= taken.t
        return not expired and not self._unsure(taken) and super().mandate(mandate, taken)

    def outcome(self, taken: Taken) -> bool:
        return not self._unsure(taken) and super().outcome(taken)

    # --- the world ---

    def _rows(self, table: str) -> dict[str, Any]:
        return self.rows.at(table, self.revisions[table])

    def event_of(self, intent: Intent, t: int) -> Event:
        row = self._rows("identity").get(intent.agent_id)
        if row is None:  # it was held before, and a person's no needs no row
            return replace(self.oracle.history[intent.agent_id, intent.intent_id], t=t)
        return Event(
            id=intent.intent_id,
            t=t,
            agent_id=intent.agent_id,
            lane=identity_of(row).lane,
            chain_id=intent.chain_id or own_chain(intent.agent_id),
            action=intent.action,
            resources=tuple(map(self._resource, intent.resources)),
            parent=None if intent.parent is None else (intent.parent.agent_id, intent.parent.intent_id),
            measures={name: Decimal(str(value)) for name, value in intent.measures.items()},
            labels=frozenset(intent.labels),
            tenant=row["tenant"],
            owner=row["owner"],
            purpose=intent.purpose,
            by=intent.by,
            allowed=frozenset(row["actions"]),
        )

    def _resource(self, uri: str) -> Resource:
        row = self._rows("classification").get(f"resource:{uri}", {})
        return Resource(uri, labels=frozenset(row.get("labels", ())))

    def facts(self, intent: Intent, taken: Taken) -> Facts:
        return Facts(self.rows.identities(self.revisions["identity"]), workload_known=False)

    def enforces(self, outcome: Outcome, event: Event) -> bool:
        return outcome.by == f"enforcer-{event.lane[-1]}"

    def remember(self, taken: Taken, intent: Intent, now: Event) -> Event:
        if isinstance(taken.event, Approval) and taken.body["decision"] == "approve":
            now = replace(now, declassified=frozenset(taken.event.declassify))
        return super().remember(taken, intent, now)


def complaints(world: World, partition: int, report: Report) -> tuple[list[str], int]:
    """What the oracle says against a partition's effective records, and how many verdicts it was asked about."""
    witness = LogWitness(Rows(world), cramped=world.cramped)
    logs = iter([report.inputs, *report.behind])
    inputs, next_input, found = {item.offset: item for item in next(logs)}, 0, []
    for body, digest in zip(report.effective, report.digests, strict=True):
        if body["kind"] == "resume" and body["next_input"] < next_input and report.behind:
            inputs = {item.offset: item for item in next(logs)}
        first, last = body.get("covers", (0, -1))
        next_input = body["next_input"] if body["kind"] == "resume" else max(next_input, last + 1)
        item = next((inputs[offset] for offset in range(first, last + 1) if offset in inputs), None)
        wrong = witness.take(body, digest, item)
        found += [f"partition {partition}, covers {[first, last]}: {complaint}" for complaint in wrong]
    return found, witness.asked
