"""Small makers of valid inputs: each names what its test is about and leaves the rest to a sensible default."""

from __future__ import annotations

import functools
import hashlib
import json
from typing import TYPE_CHECKING, Any

from harness_stream.core.apply import apply, change_of
from harness_stream.core.chain import Chain, chain_of
from harness_stream.core.counting import switched
from harness_stream.core.decide import Arrival
from harness_stream.core.fold import fold_header, genesis
from harness_stream.core.intake import Intake
from harness_stream.core.join import Table, empty_tables
from harness_stream.core.model import Approval, Intent, Mandate, Outcome
from harness_stream.core.records import RECORDS
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from harness_stream.core.state import State
from harness_stream.wire.decisions import encode_body, read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.fold import Header

NOW = 1_700_000_000_000
"""Epoch ms at which tests begin."""

ZERO_DIGEST = "0" * 64
NONCE = "0" * 32
WRITER = "a" * 32
RULES = ("b" * 64, 1)

APPROVE_ALL = """
rule_set: test
default: deny
rules:
  - {id: everything, effect: approve, when: "true"}
"""


def uuid7(t_ms: int = NOW, n: int = 0) -> str:
    """A UUIDv7 of that time; equal arguments give the same id."""
    head = f"{t_ms:012x}"
    return f"{head[:8]}-{head[8:]}-7000-8000-{n:012x}"


def digest_of(value: object) -> str:
    """A digest for anything that JSON can say."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def intent(**over: Any) -> Intent:
    fields: dict[str, Any] = {
        "realm": "test",
        "by": over.get("agent_id", "agent-1"),
        "agent_id": "agent-1",
        "intent_id": uuid7(),
        "workload_id": "w-1",
        "action": "crm.read",
        "resources": ("crm://orders/1",),
        "arguments_digest": ZERO_DIGEST,
        "enforcer_nonce": NONCE,
    }
    return Intent.model_validate(fields | over)


def mandate(**over: Any) -> Mandate:
    fields: dict[str, Any] = {
        "realm": "test",
        "by": "orchestrator",
        "agent_id": "agent-1",
        "mandate_id": uuid7(n=1),
        "chain_id": "chain-1",
    }
    if not over.get("close"):
        fields["expires_at"] = NOW + 3_600_000
    return Mandate.model_validate(fields | over)


def outcome(**over: Any) -> Outcome:
    fields: dict[str, Any] = {
        "realm": "test",
        "by": "agent-1",
        "agent_id": "agent-1",
        "outcome_id": uuid7(n=2),
        "intent_id": uuid7(),
        "verdict_digest": ZERO_DIGEST,
        "status": "done",
    }
    return Outcome.model_validate(fields | over)


def approval(**over: Any) -> Approval:
    fields: dict[str, Any] = {
        "realm": "test",
        "by": "approver",
        "agent_id": "agent-1",
        "approval_id": uuid7(n=3),
        "hold_digest": ZERO_DIGEST,
        "hold_offset": 0,
        "decision": "approve",
    }
    return Approval.model_validate(fields | over)


def identity_row(agent_id: str = "agent-1", **over: Any) -> dict[str, Any]:
    return {
        "agent_id": agent_id,
        "owner": "owner-1",
        "tenant": "tenant-1",
        "actions": ["crm.read", "email.send"],
        "workloads": ["w-1"],
        **over,
    }


def people() -> list[dict[str, Any]]:
    """An agent, and everybody who may speak about it."""
    return [
        identity_row(),
        identity_row("orchestrator", roles=["orchestrator"]),
        identity_row("enforcer", roles=["enforcer"]),
        identity_row("approver", roles=["approver"], tenant="people"),
    ]


def tables(
    *identities: Mapping[str, Any],
    infrastructure: tuple[Mapping[str, Any], ...] = ({"workload_id": "w-1", "environment": "prod", "attested": True},),
    risk: tuple[Mapping[str, Any], ...] = (),
    classification: tuple[Mapping[str, Any], ...] = (),
    fresh_as_of: int = NOW + 1_000_000_000,
) -> dict[str, Table]:
    """The four tables with these rows (without identities: `people()`), fresh for as long as a test runs."""
    made = empty_tables()
    keyed = {
        "identity": [(row["agent_id"], row) for row in identities or people()],
        "infrastructure": [(row["workload_id"], row) for row in infrastructure],
        "risk": [(row["subject"], row) for row in risk],
        "classification": [(row["subject"], row) for row in classification],
    }
    for name, rows in keyed.items():
        for revision, (key, row) in enumerate(rows):
            made[name].put(key, json.dumps(row).encode(), revision)
        made[name].fresh_as_of = fresh_as_of
    return made


@functools.lru_cache(maxsize=64)  # a compiled set takes megabytes
def windows(rules_text: str = APPROVE_ALL) -> Windows:
    return Windows(load(rules_text))


def arrival(event: Any = None, t: int = NOW, *, append_ms: int | None = None) -> Arrival:
    """How the log received an event: its digest, append time, and chain time t."""
    digest = digest_of(event.model_dump(mode="json")) if event is not None else ZERO_DIGEST
    return Arrival(digest, t if append_ms is None else append_ms, t)


def intake(state: State | None = None, rules_text: str = APPROVE_ALL, **over: Any) -> Intake:
    fields: dict[str, Any] = {
        "partition": None,
        "partitions": 1,
        "state": State() if state is None else state,
        "tables": tables(),
        "windows": windows(rules_text),
        "rules": RULES,
    }
    return Intake(**fields | over)


def linked(body: Mapping[str, Any], header: Header | None = None) -> dict[str, Any]:
    """A body with the link fields its owner adds."""
    header = header or started()
    covers = [header.next_input, header.next_input]
    return {
        **body,
        "incarnation": header.incarnation,
        "epoch": header.epoch,
        "writer": header.writer,
        "prev": header.head,
        "covers": covers,
    }


def claim(epoch: int = 1, **over: Any) -> dict[str, Any]:
    fields = {"kind": "claim", "incarnation": "inc", "epoch": epoch, "writer": WRITER, "after": "clean"}
    return {**fields, "pending": False, **over}


def started(rules: tuple[str, int] | None = RULES) -> Header:
    """A partition after its first claim, deciding by `rules`."""
    header = fold_header(genesis("inc", 0), claim(), digest_of("claim"))
    assert header is not None
    return header._replace(rules=rules)




class Story:
    """Inputs one after the other into one state, each applied as a reader of the log would."""

    def __init__(self, rules_text: str = APPROVE_ALL, **over: Any) -> None:
        self.state = State()
        self.windows = windows(rules_text)
        self.intake = intake(self.state, rules_text, **over)
        self.digests: list[str] = []
        self.changes: list[dict[str, Any]] = []
        self._acted = 0

    def take(self, event: Any, t: int = NOW, *, at: int | None = None) -> dict[str, Any]:
        """The body this input gets that was appended at t and is decided at `at`, by default the same."""
        body, digest = read_body(encode_body(self.intake.answer(event, arrival(event, t), t if at is None else at)))
        RECORDS[body["kind"]].model_validate(linked(body))
        self.digests.append(digest)
        change = change_of(body, digest)
        if change is not None:
            self.changes.append(change)
            apply(self.state, change, self.windows)
        return dict(body)

    def act(self, t: int = NOW, **over: Any) -> dict[str, Any]:
        """An intent with an id of its own."""
        self._acted += 1
        return self.take(intent(**{"intent_id": uuid7(t, 1_000 + self._acted), **over}), t)

    def chain(self, chain_id: str = "agent:agent-1", agent_id: str = "agent-1") -> Chain:
        found = chain_of(self.state, agent_id, chain_id)
        assert found is not None
        return found

    def switch(self, rules_text: str, t: int = NOW) -> None:
        new = windows(rules_text)
        revision = self.intake.rules[1] + 1
        switched(self.state, self.windows, new, t, revision)
        self.intake.rules = (new.digest, revision)
        self.windows = self.intake.windows = new
