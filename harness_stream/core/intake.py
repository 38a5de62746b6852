"""What each authentic input record gets in the decision log: a verdict, an ack or a reject (PROTOCOL §3, §8).

Rule of this file: exactly one answer per record, decided from the record, the tables and the partition's state alone.
The answer is the record's body without its link into the log (incarnation, epoch, writer, prev, covers), which the
owner adds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness_stream.core import chain as chains
from harness_stream.core import delegation, limits
from harness_stream.core.answered import class_of, foreign_values
from harness_stream.core.decide import (
    Arrival,
    Decided,
    decide,
    denied_later,
    engine_reason,
    event_of,
    refused,
    untimely,
)
from harness_stream.core.denials import Denied, denied, verdict
from harness_stream.core.ids import Remembered, id_time_ms, ids_unit, memory_of, remember_until, remembered
from harness_stream.core.join import ABSENT, Tables, join
from harness_stream.core.lanes import partition_of
from harness_stream.core.model import (
    Approval,
    ClassificationRow,
    IdentityRow,
    Intent,
    Mandate,
    Outcome,
    lane_of,
    measure_of,
    micro_of,
)
from harness_stream.core.names import agent_unit, lane_unit
from harness_stream.core.provenance import found_in
from harness_stream.core.reasons import Deny, Refuse, Reject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.backlog import Backlog
    from harness_stream.core.rate import LaneRates
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State

Answer = dict[str, Any]
Input = Intent | Mandate | Outcome | Approval

ORCHESTRATOR, ENFORCER, APPROVER = "orchestrator", "enforcer", "approver"
# Denials by which a worker protects itself; neither history nor rules say when.
NOT_ADMITTED = frozenset({Deny.RATE, Deny.OVERLOAD})


def units_needed(event: Input, tables: Tables, state: State) -> tuple[str, ...]:
    """Units that must be in memory before `Intake.answer` may be asked; once they are, it may name more."""
    row, agent = _identity(tables, event.agent_id), agent_unit(event.agent_id)
    units = (agent, *_lane(event.agent_id if row is None else lane_of(row), state))
    if isinstance(event, Intent):
        return (*units, *_units_of_intent(event, state))
    if isinstance(event, Outcome):
        return (*units, ids_unit(event.intent_id), *_units_of_outcome(event, state))
    if isinstance(event, Mandate):
        opened: chains.Chain | None = state.get(agent, ("chain", event.chain_id))
        return (*units, lane_unit(_opened_in(opened, event)))
    hold = _hold_named(event, state) if isinstance(event, Approval) else None
    if hold is None:
        return units
    held = Intent.model_validate(hold["intent"])
    return (*units, *_lane(hold["event"]["lane"], state), *_units_of_intent(held, state))


def _lane(lane: str, state: State) -> tuple[str, ...]:
    """A lane's units come together: which shards an intent is counted in is known only once its facts are."""
    return (lane_unit(lane), *state.stored_shards(lane))


def _units_of_outcome(outcome: Outcome, state: State) -> tuple[str, ...]:
    """Where the event counts, which its row need not say any more, and its tree's root."""
    known = memory_of(state, outcome.agent_id, outcome.intent_id)
    if known is None:
        return ()
    event = chains.kept_event(state, outcome.agent_id, known.chain_id, outcome.intent_id)
    lane = () if event is None else _lane(event["lane"], state)
    return lane if known.lineage is None else (*lane, agent_unit(known.lineage.root_agent))


def _units_of_intent(intent: Intent, state: State) -> tuple[str, ...]:
    """Its id's; its parent's, and once those are in memory those of all above."""
    own, parent = ids_unit(intent.intent_id), intent.parent
    if parent is None:
        return (own,)
    found = delegation.delegation_of(state, parent, 0)
    named = (parent.agent_id,) if found is None else found.lineage.above
    return (own, ids_unit(parent.intent_id), *(agent_unit(agent_id) for agent_id in named))


def _opened_in(chain: chains.Chain | None, mandate: Mandate) -> str:
    """The lane a chain was opened in; its agent's row need not be there any more."""
    opened = None if chain is None or chain.mandate is None else chain.mandate["lane"]
    return mandate.agent_id if opened is None else str(opened)


def _hold_named(approval: Approval, state: State) -> dict[str, Any] | None:
    unit = agent_unit(approval.agent_id)
    named: tuple[str, int] | None = state.get(unit, ("held", approval.hold_digest))
    hold: dict[str, Any] | None = None if named is None else state.get(unit, ("hold", named[0]))
    return hold


@dataclass(slots=True)
class Intake:
    """Answers the inputs of one partition.

    Attributes:
        partition: this partition; None turns the partition check off (`harness replay`).
        partitions: P.
        state: the partition's newest state.
        tables: the four views.
        windows: the compiled rules in force.
        rules: (digest, revision) as the log names them.
        rates: what each lane may still ask; None admits everything (`harness replay`).
        backlog: whether the partition is behind; None: never (`harness replay`).
    """

    partition: int | None
    partitions: int
    state: State
    tables: Tables
    windows: Windows
    rules: tuple[str, int]
    rates: LaneRates | None = field(default=None, kw_only=True)
    backlog: Backlog | None = field(default=None, kw_only=True)

    def answer(self, event: Input, arrival: Arrival, decided_at: int) -> Answer:
        """The body of the record that covers this input alone."""
        found = self.look(event, arrival, decided_at)
        return found if not isinstance(found, Denied) else verdict(found, decided_at, self.rules_named)

    def look(self, event: Input, arrival: Arrival, decided_at: int) -> Answer | Denied:
        """The same; of an intent that is denied without a look at it what a record of many says of it."""
        refusal = self._rejected(event, arrival)
        if refusal is not None:
            return refusal
        if isinstance(event, Intent):
            return self._intent(event, arrival, decided_at)
        if isinstance(event, Mandate):
            return self._mandate(event, arrival, decided_at)
        if isinstance(event, Outcome):
            return self._outcome(event, arrival, decided_at)
        return self._approval(event, arrival, decided_at)

    def unavailable(self, event: Input, arrival: Arrival) -> Answer:
        """The chain cannot be had. No verdict: without its ids this may be a copy of one that has a verdict."""
        return _reject(event, arrival, Reject.STATE_UNAVAILABLE)

    def quarantined(self, intent: Intent, arrival: Arrival, decided_at: int) -> Answer:
        """A denial without a look at what crashed workers before."""
        return self._rejected(intent, arrival) or self.minimal(intent, arrival, Deny.QUARANTINED, decided_at)

    def minimal(self, intent: Intent, arrival: Arrival, code: Deny, decided_at: int) -> Answer:
        """A denial that names nothing but its reason."""
        return verdict(denied(intent, arrival, engine_reason(code)), decided_at, self.rules_named)

    @property
    def rules_named(self) -> dict[str, Any]:
        """The bundle in force as records name it."""
        return {"digest": self.rules[0], "revision": self.rules[1]}

    def _rejected(self, event: Input, arrival: Arrival) -> Answer | None:
        misplaced = self._misplaced(event)
        if misplaced is not None:
            return _reject(event, arrival, Reject.WRONG_PARTITION, misplaced)
        if not isinstance(event, Intent):
            return None
        known = remembered(self.state, event.agent_id, event.intent_id, arrival.t)
        if known is None:
            return None
        return _reject(event, arrival, Reject.DUPLICATE if known.digest == arrival.digest else Reject.ID_REUSED)

    def _misplaced(self, event: Input) -> str | None:
        row = _identity(self.tables, event.agent_id)
        if row is None or self.partition is None:
            return None
        home = partition_of(lane_of(row), self.partitions)
        return None if home == self.partition else f"lane {lane_of(row)} belongs to partition {home}"

    # --- intents ---

    def _intent(self, intent: Intent, arrival: Arrival, decided_at: int) -> Answer | Denied:
        refusal = untimely(intent, arrival, decided_at) or self.not_admitted(intent, arrival, decided_at)
        if refusal is not None:
            return denied(intent, arrival, refusal.reasons[0])
        inputs = self.facts(intent, arrival.t, decided_at)
        decided = decide(intent, arrival, inputs, self.state, self.windows)
        return self._verdict(intent, arrival, decided, inputs)

    def _verdict(
        self,
        intent: Intent,
        arrival: Arrival,
        decided: Decided,
        inputs: Mapping[str, Any],
        approval: Mapping[str, Any] | None = None,
    ) -> Answer:
        approved = decided.decision == "approve"
        ends_at = delegation.ends_at(self.state, decided.event) if approved and decided.event else None
        shown = dict(inputs)
        shown.pop("resources", None)  # they stand in the event
        return {
            "kind": "verdict",
            "t": arrival.t,
            "decision": decided.decision,
            "agent_id": intent.agent_id,
            "intent_id": intent.intent_id,
            "intent_digest": arrival.digest,
            "arguments_digest": intent.arguments_digest,
            "enforcer_nonce": intent.enforcer_nonce,
            "reasons": list(decided.reasons),
            "shadow": list(decided.shadow),
            "obligations": dict(decided.obligations),
            "valid_for_ms": limits.VALID_FOR_MS_DEFAULT if approved else 0,
            "hold_until": decided.hold_until,
            **({} if ends_at is None else {"ends_at": ends_at}),
            "approval": approval,
            "remember_until": remember_until(intent.intent_id, decided.hold_until or arrival.t + intent.deadline_ms),
            "intent": intent.model_dump(mode="json", exclude_defaults=True) if decided.decision == "hold" else None,
            "rules": self.rules_named,
            "event": decided.event,
            "inputs": shown,
        }

    # --- mandates ---

    def _mandate(self, mandate: Mandate, arrival: Arrival, decided_at: int) -> Answer:
        chain: chains.Chain | None = self.state.get(agent_unit(mandate.agent_id), ("chain", mandate.chain_id))
        if mandate.close:
            refusal = self._bad_close(mandate, chain)
        else:
            refusal = self._bad_open(mandate, chain, arrival.t, decided_at)
        if refusal is not None:
            return _ack(mandate, arrival, refusal, None)
        if mandate.close:
            change = {"op": "close", "chain_id": mandate.chain_id, "lane": _opened_in(chain, mandate)}
            return _ack(mandate, arrival, None, change)
        content = mandate.model_dump(mode="json", exclude={"v", "type", "realm", "agent_id", "chain_id", "close"})
        content["lane"] = self.lane(mandate.agent_id)
        content["declared_by"] = "agent" if mandate.by == mandate.agent_id else ORCHESTRATOR
        return _ack(mandate, arrival, None, {"op": "open", "chain_id": mandate.chain_id, "mandate": content})

    def _bad_open(self, mandate: Mandate, chain: chains.Chain | None, t: int, decided_at: int) -> Refuse | None:
        closed = dict(chains.closed_chains(self.state, mandate.agent_id, t))
        if chain is not None or mandate.chain_id in closed:
            return Refuse.CHAIN_EXISTS
        if mandate.by != mandate.agent_id:
            if not self.roles_known(decided_at):
                return Refuse.STALE_FACTS
            if not self._is_another(mandate.by, ORCHESTRATOR, mandate.agent_id):
                return Refuse.NOT_ORCHESTRATOR
        if mandate.expires_at is not None and mandate.expires_at <= t:
            return Refuse.MANDATE_EXPIRED
        full = len(chains.live_chains(self.state, mandate.agent_id, t)) >= limits.AGENT_CHAINS_MAX
        full = full or sum(len(chain_id.encode()) for chain_id in closed) >= limits.CLOSED_CHAINS_BYTES_MAX
        return Refuse.CHAINS_FULL if full else None

    def _bad_close(self, mandate: Mandate, chain: chains.Chain | None) -> Refuse | None:
        if chain is None or chain.mandate is None:
            return Refuse.CHAIN_UNKNOWN
        if chain.mandate["by"] != mandate.by:
            return Refuse.NOT_SIGNER
        return Refuse.CHAIN_CLOSED if chain.closed_at is not None else None

    # --- outcomes ---

    def _outcome(self, outcome: Outcome, arrival: Arrival, decided_at: int) -> Answer:
        known = remembered(self.state, outcome.agent_id, outcome.intent_id, arrival.t)
        refusal = self._bad_outcome(outcome, known, arrival.t, decided_at)
        if refusal is not None or known is None:
            return _refused_outcome(outcome, arrival, refusal or Refuse.OUTCOME_EXPIRED)
        event = chains.kept_event(self.state, outcome.agent_id, known.chain_id, outcome.intent_id)
        if event is None:
            return _ack(outcome, arrival, Refuse.OUTCOME_EXPIRED, None)
        measures = _raised(outcome, event["measures"])
        counts_else = outcome.status == "abandoned" or measures != event["measures"]
        change = {
            "op": "outcome",
            "intent_id": outcome.intent_id,
            "chain_id": known.chain_id,
            "status": outcome.status,
            "measures": measures,
            "event": event if counts_else else None,
            "revision": self.rules[1],
            **({"revoked": outcome.revoked} if outcome.revoked else {}),
            **self._returned(outcome, event, decided_at),
        }
        return _ack(outcome, arrival, None, change)

    def _returned(self, outcome: Outcome, event: Mapping[str, Any], decided_at: int) -> dict[str, Any]:
        """What the chain and its tree have seen of values now, by value: the log holds no tables."""
        if outcome.status == "abandoned" or not (outcome.records or outcome.overflow or outcome.truncated):
            return {}
        tool = self._tool(event["action"], decided_at)
        root = None if event["lineage"] is None else event["lineage"]["root"]
        mandates = [self._mandate_of(outcome.agent_id, event["chain_id"]), *([self._mandate_of(*root)] if root else [])]
        values: dict[str, int] = {}
        for mandate in mandates:
            for fingerprint, bits in found_in(outcome, tool, mandate).items():
                values[fingerprint] = values.get(fingerprint, 0) | bits
        return {"values": values, "overflow": outcome.overflow or outcome.truncated, "root": root}

    def _tool(self, action: str, decided_at: int) -> ClassificationRow | None:
        """The tool's row; one that cannot be read, or may be another by now, describes nothing."""
        table = self.tables["classification"]
        if table.fresh_as_of < decided_at - limits.FRESH_MS_MAX:
            return None
        try:
            row = table.longest(f"tool:{action}")
        except ValueError:
            return None
        return row if isinstance(row, ClassificationRow) else None

    def _mandate_of(self, agent_id: str, chain_id: str) -> Mapping[str, Any]:
        """What an orchestrator declared; what an agent declares of itself names nothing."""
        chain = chains.chain_of(self.state, agent_id, chain_id)
        return {} if chain is None else chain.declared

    def _bad_outcome(self, outcome: Outcome, known: Remembered | None, t: int, decided_at: int) -> Refuse | None:
        if known is None:
            forgotten = id_time_ms(outcome.intent_id) + limits.ID_MEMORY_MS < t
            return Refuse.OUTCOME_EXPIRED if forgotten else Refuse.BYPASS
        if known.decision != "approve":
            return Refuse.BYPASS
        if known.verdict_digest != outcome.verdict_digest:
            return Refuse.VERDICT_MISMATCH
        if known.outcome is not None:
            return Refuse.OUTCOME_KNOWN
        return self._bad_reporter(outcome, decided_at)

    def _bad_reporter(self, outcome: Outcome, decided_at: int) -> Refuse | None:
        enforcer = outcome.by != outcome.agent_id and self._is_another(outcome.by, ENFORCER, outcome.agent_id)
        if outcome.by != outcome.agent_id and not enforcer:
            return Refuse.NOT_REPORTER
        if outcome.status != "abandoned":  # it only adds to what was counted
            return None
        if not enforcer:
            return Refuse.NOT_ENFORCER
        return None if self.roles_known(decided_at) else Refuse.STALE_FACTS

    # --- approvals ---

    def _approval(self, approval: Approval, arrival: Arrival, decided_at: int) -> Answer:
        hold = _hold_named(approval, self.state)
        refusal = self._bad_approval(approval, hold, arrival.t, decided_at)
        if refusal is not None or hold is None:
            return _ack(approval, arrival, refusal or Refuse.NO_HOLD, None)
        intent = Intent.model_validate(hold["intent"])
        held = Arrival(hold["intent_digest"], arrival.append_ms, arrival.t)
        inputs = self.facts(intent, arrival.t, decided_at)
        satisfied = frozenset(hold["rules"]) if approval.decision == "approve" else frozenset()
        decided = decide(intent, held, inputs, self.state, self.windows, satisfied=satisfied, settles=hold["event"])
        if approval.decision == "deny":
            known = inputs["identity"]["present"]
            event = event_of(intent, arrival.t, inputs, settles=hold["event"]) if known else None
            answered = event and {**event, "decision": "deny"}
            decided = Decided("deny", (engine_reason(Deny.HOLD_DENIED, approval.by),), event=answered)
        if decided.event is None:
            decided = decided._replace(event=denied_later(hold["event"], arrival.t))
        approved = decided.decision == "approve"
        by: dict[str, Any] = {
            "id": approval.approval_id,
            "by": approval.by,
            "decision": approval.decision,
            "reason": approval.reason,
            "declassify": list(approval.declassify) if approved else [],
            "satisfied": sorted(satisfied),
        }
        if approved and approval.values:
            by["answers"] = {"class": class_of(intent.action, inputs), "values": list(approval.values)}
        body = self._verdict(intent, held, decided, inputs, by)
        if approved:
            body["hold_until"] = hold["until"]
        return body

    def _bad_approval(
        self, approval: Approval, hold: Mapping[str, Any] | None, t: int, decided_at: int
    ) -> Refuse | None:
        if hold is None or t > hold["until"] + limits.HOLD_MEMORY_MS:
            return Refuse.NO_HOLD
        if t > hold["until"]:
            return Refuse.HOLD_EXPIRED
        if not self.roles_known(decided_at):
            return Refuse.STALE_FACTS
        lineage, asked_by = hold["event"]["lineage"], hold["event"]["by"]
        above = () if lineage is None else lineage["above"]
        own = {approval.agent_id, self.owner(approval.agent_id), asked_by, *above}
        if approval.by in own or not self.has_role(approval.by, APPROVER, None):
            return Refuse.NOT_APPROVER
        foreign = foreign_values(approval, Intent.model_validate(hold["intent"]))
        return Refuse.FOREIGN_VALUES if foreign else None

    def _is_another(self, identity: str, role: str, agent_id: str) -> bool:
        """Has it the role in the agent's lane, and keys of its own? One key under two names is one speaker (§8)."""
        if not self.has_role(identity, role, agent_id):
            return False
        rows = (_identity(self.tables, name) for name in (identity, agent_id))
        own, agents = ({key.public for key in row.keys} if row is not None else set[str]() for row in rows)
        return own.isdisjoint(agents)

    # --- what is known of who, where, how dangerous and which data; a replay may know it from the log instead ---

    def not_admitted(self, intent: Intent, arrival: Arrival, decided_at: int) -> Decided | None:
        """The denial of an intent that its lane, or this worker, has no room for; else its lane's room is taken."""
        waited_ms, lane = decided_at - arrival.append_ms, self._payer(intent)
        behind = self.backlog is not None and self.backlog.too_long(waited_ms, intent.deadline_ms, decided_at)
        if self.rates is not None and not self.rates.take(lane, arrival.append_ms):
            return refused(Deny.RATE, f"lane {lane}: more than {self.rates.rate}")
        return overloaded(waited_ms, intent.deadline_ms) if behind else None

    def _payer(self, intent: Intent) -> str:
        """The lane of whoever speaks: nobody empties another lane's bucket. All whom nobody knows share one."""
        row = _identity(self.tables, intent.by)
        about = row if intent.by == intent.agent_id else _identity(self.tables, intent.agent_id)
        return "?" if row is None or about is None else lane_of(row)

    def facts(self, intent: Intent, t: int, decided_at: int) -> dict[str, Any]:
        """The `inputs` of a verdict on this intent at chain time t."""
        above = delegation.ancestors(self.state, intent, t)
        return join(intent, self.tables, decided_at, self.windows.program.fields_read, above)

    def lane(self, agent_id: str) -> str:
        """The agent's lane."""
        row = _identity(self.tables, agent_id)
        return agent_id if row is None else lane_of(row)

    def owner(self, agent_id: str) -> str:
        """Who answers for the agent; empty if nobody is known."""
        row = _identity(self.tables, agent_id)
        return "" if row is None else row.owner

    def roles_known(self, decided_at: int) -> bool:
        """Is the identity table fresh enough to say who has a role? A role may have been taken meanwhile (V8)."""
        return self.tables["identity"].fresh_as_of >= decided_at - limits.FRESH_MS_MAX

    def has_role(self, identity: str, role: str, same_lane_as: str | None) -> bool:
        """Is `identity` active with this role (and in the lane of that agent)?"""
        row = _identity(self.tables, identity)
        if row is None or row.status != "active" or role not in row.roles:
            return False
        other = None if same_lane_as is None else _identity(self.tables, same_lane_as)
        return same_lane_as is None or (other is not None and lane_of(other) == lane_of(row))


def _raised(outcome: Outcome, approved: Mapping[str, int | str]) -> dict[str, int | str]:
    """`done`: each measure becomes max(approved, reported); anything else leaves what was approved."""
    measures = dict(approved)
    if outcome.status == "done":
        for name, micro in outcome.measures_micro().items():
            measures[name] = measure_of(max(micro_of(measures.get(name, 0)), micro))
    return measures


def _identity(tables: Tables, agent_id: str) -> IdentityRow | None:
    try:
        row = tables["identity"].row(agent_id)
    except ValueError:
        return None
    return row if isinstance(row, IdentityRow) else None


def _reject(event: Input, arrival: Arrival, reason: Reject, detail: str | None = None) -> Answer:
    return {
        "kind": "reject",
        "t": arrival.t,
        "agent_id": event.agent_id,
        "id": event.own_id,
        "digest": arrival.digest,
        "reason": str(reason),
        "detail": detail,
    }


def _ack(event: Input, arrival: Arrival, reason: Refuse | None, change: Mapping[str, Any] | None) -> Answer:
    return {
        "kind": "ack",
        "t": arrival.t,
        "agent_id": event.agent_id,
        "event_type": event.type,
        "id": event.own_id,
        "digest": arrival.digest,
        "status": "accepted" if reason is None else "refused",
        "reason": None if reason is None else str(reason),
        "change": change,
    }


def _refused_outcome(outcome: Outcome, arrival: Arrival, reason: Refuse) -> Answer:
    """A bypass says whose word it is, and of what: who is woken by it has only the log."""
    body = _ack(outcome, arrival, reason, None)
    if reason is Refuse.BYPASS:
        ran = f"{outcome.status} of intent {outcome.intent_id}"
        what = f"{outcome.misused} of verdict {outcome.verdict_digest}" if outcome.misused else ran
        body["detail"] = f"{what}, by {outcome.by}"
    return body


def overloaded(waited_ms: int, deadline_ms: int) -> Decided:
    """The denial of an intent that waited too long in a partition that is behind."""
    return refused(Deny.OVERLOAD, f"{waited_ms} ms after append, deadline {deadline_ms} ms")


def not_admitted_by(body: Mapping[str, Any]) -> Decided | None:
    """The denial that a record gives for its lane's rate or its worker's backlog; None if it was admitted."""
    reasons = body["reasons"] if body["kind"] == "verdict" else []
    if not reasons or reasons[0].get("code") not in NOT_ADMITTED:
        return None
    return refused(Deny(reasons[0]["code"]), reasons[0].get("detail"))


def inputs_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """The `inputs` a verdict was decided on, whole again: resource facts stand in its event."""
    event = body["event"] or {"resources": []}
    inputs = {"identity": ABSENT, "infrastructure": ABSENT, "risk": ABSENT, "tool_labels": [], **body["inputs"]}
    return {**inputs, "resources": event["resources"]}
