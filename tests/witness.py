"""Hears inputs with their answers, says what is wrong with each, and remembers what happened (V1, V3).

Rule of this file: what the oracle is told comes from inputs and facts, never from what the engine recorded; of a verdict
it takes only the decision, after it has judged it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.events import Approval, Intent, Mandate, Outcome
from harness_stream.core.ids import id_time_ms
from tests.oracle import own_chain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.oracle import Facts, Oracle
    from tests.oracle_words import Event


class Taken(NamedTuple):
    """An input, when it was taken in, which tables were stale, and what it got."""

    event: Any
    t: int
    stale: frozenset[str]
    body: Mapping[str, Any]
    digest: str


class Held(NamedTuple):
    """What is needed to judge a held intent again."""

    intent: Intent
    until: int
    rules: frozenset[str]  # those that ask, and those that were answered on the way here


class Witness(ABC):
    """Asks the oracle what the engine was asked."""

    def __init__(self, oracle: Oracle) -> None:
        self.oracle = oracle
        self.held: dict[str, Held] = {}
        self.digests: dict[tuple[str, str], str] = {}
        self.reported: set[tuple[str, str]] = set()

    # --- what only the world knows ---

    @abstractmethod
    def event_of(self, intent: Intent, t: int) -> Event:
        """The intent with all that the world knows of it now."""

    @abstractmethod
    def facts(self, intent: Intent, taken: Taken) -> Facts:
        """The tables as they were for this answer."""

    @abstractmethod
    def enforces(self, outcome: Outcome, event: Event) -> bool:
        """Is who speaks an enforcer of the event's lane?"""

    # --- what is heard ---

    def hear(self, taken: Taken, *, ask: bool = True) -> list[str]:
        """What is wrong with this answer; `ask=False` only remembers it."""
        if isinstance(taken.event, Intent):
            return self.verdict(taken, taken.event, frozenset(), ask=ask)
        if isinstance(taken.event, Approval):
            return self.answer(taken, taken.event, ask=ask)
        right = self.mandate(taken.event, taken) if isinstance(taken.event, Mandate) else self.outcome(taken)
        said = taken.body["status"] == "accepted"
        return [] if said == right else [f"{taken.event.type} {taken.body['status']} {taken.body['reason']}"]

    def verdict(self, taken: Taken, intent: Intent, satisfied: frozenset[str], *, ask: bool) -> list[str]:
        body, now = taken.body, self.event_of(intent, taken.t)
        complaints = self.complaints(taken, intent, now, satisfied) if ask else []
        event = self.remember(taken, intent, now)
        complaints += [f"the log keeps another {name} than {value!r}" for name, value in _kept(event, body)]
        if body["decision"] == "hold":
            asked = frozenset(reason["rule"] for reason in body["reasons"])
            self.held[taken.digest] = Held(intent, taken.t + limits.HOLD_MS_DEFAULT, asked | satisfied)
        return complaints

    def complaints(self, taken: Taken, intent: Intent, now: Event, satisfied: frozenset[str]) -> list[str]:
        facts = self.facts(intent, taken)
        return self.oracle.expect(now, facts, stale=taken.stale, satisfied=satisfied).complaints(taken.body)

    def remember(self, taken: Taken, intent: Intent, now: Event) -> Event:
        decision = taken.body["decision"]
        until = taken.t + limits.HOLD_MS_DEFAULT if decision == "hold" else None
        if now.chain_id != own_chain(now.agent_id) and (now.agent_id, now.chain_id) not in self.oracle.chains:
            now = replace(now, chain_id=own_chain(now.agent_id))  # an invented chain sheds no history
        end = (until or taken.t + intent.deadline_ms) + limits.OUTCOME_GRACE_MS
        kept = max(end, id_time_ms(intent.intent_id) + limits.ID_MEMORY_MS)
        now = replace(now, decision=decision, hold_until=until, remembered_until=kept)
        if decision == "approve":
            brought = {"brought": self.oracle.brings(now), "brought_perhaps": self.oracle.brings(now, far=False)}
            now = replace(now, **brought)
        self.oracle.record(now)
        self.digests[now.key] = taken.digest
        return now

    def answer(self, taken: Taken, approval: Approval, *, ask: bool) -> list[str]:
        held = self.held.pop(approval.hold_digest, None)
        if held is None or taken.t > held.until:
            refused = taken.body["kind"] == "ack" and taken.body["status"] == "refused"
            return [] if refused else ["the hold had ended"]
        if taken.body["kind"] != "verdict":
            return [f"the answer was refused: {taken.body['reason']}"]
        if approval.decision == "approve":
            return self.verdict(taken, held.intent, held.rules, ask=ask)
        self.verdict(taken, held.intent, held.rules, ask=False)
        right = taken.body["decision"] == "deny" and taken.body["reasons"][0]["code"] == "hold_denied"
        return [] if right else ["a person said no"]

    # --- what gets an ack: is it valid? ---

    def mandate(self, mandate: Mandate, taken: Taken) -> bool:
        key = (mandate.agent_id, mandate.chain_id)
        until, closed = self.oracle.chains.get(key, (0, True))
        if not mandate.close:
            self.oracle.chains.setdefault(key, (mandate.expires_at or 0, False))
            return (until, closed) == (0, True)
        if key in self.oracle.chains:
            self.oracle.chains[key] = (until, True)
        return not closed

    def outcome(self, taken: Taken) -> bool:
        outcome: Outcome = taken.event
        key = (outcome.agent_id, outcome.intent_id)
        event = self.oracle.history.get(key)
        if event is None or event.decision != "approve" or taken.t > event.remembered_until:
            return False
        if key in self.reported or self.digests[key] != outcome.verdict_digest:
            return False
        if not self.enforces(outcome, event) and (outcome.by != outcome.agent_id or outcome.status == "abandoned"):
            return False
        self.reported.add(key)
        measures = {name: Decimal(str(value)) for name, value in outcome.measures.items()}
        self.oracle.report(key, outcome.status, measures)
        return True


def _kept(event: Event, body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Where the log's event is another one than ours."""
    kept = body["event"]
    ours = {name: getattr(event, name) for name in ("id", "agent_id", "lane", "chain_id", "action", "decision", "t")}
    yield from ((name, value) for name, value in ours.items() if kept[name] != value)
    if frozenset(kept["labels"]) != event.labels:
        yield "labels", sorted(event.labels)
    if [resource["uri"] for resource in kept["resources"]] != [resource.uri for resource in event.resources]:
        yield "resources", event.resources
