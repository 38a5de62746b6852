"""The input events: mandate, intent, outcome, approval (DESIGN §3, PROTOCOL §9).

Rule of this file: what these models accept is exactly what may be judged. They are frozen, refuse unknown fields and
bound every string, list and number. A default is what absence on the wire means; `v` and `type` are always written.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness_stream.core import limits
from harness_stream.core.scalars import (
    Action,
    Digest,
    EpochMs,
    Fingerprint,
    Flag,
    Identifier,
    Labels,
    Measures,
    Natural,
    Nonce,
    Place,
    Purpose,
    Reason,
    Role,
    TableName,
    Uri,
    Uuid7,
    ValueKind,
    Word,
    at_most,
    micro_of,
)

OWN_CHAIN_PREFIX = "agent:"
"""Names the chain every agent has without a mandate (DESIGN §5); no mandate may claim such a name."""


# A strict integer, because a literal 1 would also take `true` and `1.0`.
Version = Annotated[int, Field(strict=True, ge=1, le=1)]


# An empty dictionary, made anew: a default one is copied by `copy.deepcopy`, which takes a third of reading an intent.
NO_KEYS: Any = Field(default_factory=dict, json_schema_extra={"default": {}})


class Part(BaseModel):
    """Base of every frozen piece of an event or row."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Event(Part):
    """What every input event says first.

    Attributes:
        v: version of the format.
        realm: the deployment it was written for.
        by: the identity that speaks and signs.
        agent_id: the agent it is about; its row gives the lane, hence the partition.
    """

    v: Version = 1
    type: str
    realm: Identifier
    by: Identifier
    agent_id: Identifier


class ActionClass(Part):
    """What a tool does to what: `(send, email)`."""

    operation: Word
    object: Word


class Parent(Part):
    """The approved intent of another agent that delegated to this one."""

    agent_id: Identifier
    intent_id: Uuid7


class Argument(Part):
    """One argument of the action, as fingerprints (PROVENANCE §1).

    Attributes:
        name: the parameter's name.
        role: what the value steers.
        values: fingerprints of the typed values found in it.
        exact: the raw value equals its canonical form. False (the default) reads as never seen.
        links: fingerprints of links found in content.
    """

    name: Word
    role: Role = "other"
    values: Annotated[tuple[Fingerprint, ...], at_most(limits.ARGUMENT_VALUES_MAX)] = ()
    exact: Flag = False
    links: Annotated[tuple[Fingerprint, ...], at_most(limits.ARGUMENT_VALUES_MAX)] = ()


class Intent(_Event):
    """A request to act, published by the agent's enforcement point.

    Attributes:
        chain_id: None means the agent's own chain, `agent:<agent_id>`.
        parent: set if another agent delegated this.
        resources: URIs; `resource.system` is the scheme.
        unparsed: some argument could not be taken apart; all its values read as never seen.
        arguments_digest: SHA-256 over RFC 8785 of {name: value}, see `core.canonical.arguments_digest`.
        measures: named numbers ≥ 0 as on the wire; sums use `measures_micro`.
        labels: can only add to the table's.
        deadline_ms: from the enforcer's own publish.
        min_revision: per table the offset the decision must have read at least.
        enforcer_nonce: 128 random bits of the enforcer's process, 32 hex digits.
    """

    type: Literal["intent"] = "intent"
    intent_id: Uuid7
    workload_id: Identifier
    chain_id: Identifier | None = None
    parent: Parent | None = None
    action: Action
    resources: Annotated[tuple[Uri, ...], at_most(limits.RESOURCES_MAX)] = ()
    arguments: Annotated[tuple[Argument, ...], at_most(limits.ARGUMENTS_MAX)] = ()
    unparsed: Flag = False
    arguments_digest: Digest
    measures: Measures = NO_KEYS
    labels: Labels = ()
    purpose: Purpose = ""
    deadline_ms: Annotated[int, Field(strict=True, ge=1, le=limits.DEADLINE_MS_MAX)] = limits.DEADLINE_MS_DEFAULT
    min_revision: dict[TableName, Natural] = NO_KEYS
    enforcer_nonce: Nonce

    @property
    def own_id(self) -> str:
        """The event's own UUIDv7."""
        return self.intent_id

    @property
    def chain(self) -> str:
        """The chain this intent belongs to: the named one, else the agent's own."""
        return self.chain_id or OWN_CHAIN_PREFIX + self.agent_id

    def measures_micro(self) -> dict[str, int]:
        """The measures as exact integers of 10⁻⁶."""
        return {name: micro_of(value) for name, value in self.measures.items()}


class Mandate(_Event):
    """The first event of a chain, or its `close`.

    Attributes:
        chain_id: the chain it opens or closes; never `agent:…`.
        goal_digest: SHA-256 of the user's words.
        action_classes: what the task needs; declared if the signer is not the agent.
        values: fingerprints of values the user named.
        phrases: fingerprints of phrases the user named.
        delegates_to: fingerprints of the records whose instructions may be followed.
        expires_at: epoch ms; required unless `close`.
        close: ends the chain; then nothing else may be declared.
    """

    type: Literal["mandate"] = "mandate"
    mandate_id: Uuid7
    chain_id: Identifier
    goal_digest: Digest | None = None
    action_classes: Annotated[tuple[ActionClass, ...], at_most(limits.ACTION_CLASSES_MAX)] = ()
    values: Annotated[tuple[Fingerprint, ...], at_most(limits.MANDATE_VALUES_MAX)] = ()
    phrases: Annotated[tuple[Fingerprint, ...], at_most(limits.MANDATE_VALUES_MAX)] = ()
    delegates_to: Annotated[tuple[Fingerprint, ...], at_most(limits.MANDATE_RECORDS_MAX)] = ()
    expires_at: EpochMs | None = None
    close: Flag = False

    @property
    def own_id(self) -> str:
        """The event's own UUIDv7."""
        return self.mandate_id

    @model_validator(mode="after")
    def _declares_or_closes(self) -> Self:
        if self.chain_id.startswith(OWN_CHAIN_PREFIX):
            raise ValueError("`chain_id` must not start with `agent:`, which names an agent's own chain")
        declared = (self.goal_digest, self.action_classes, self.values, self.phrases, self.delegates_to)
        if self.close and (any(declared) or self.expires_at is not None):
            raise ValueError("a mandate with `close` declares nothing else")
        if not self.close and self.expires_at is None:
            raise ValueError("a mandate needs `expires_at`, or `close`")
        return self


class ReturnedValues(Part):
    """Values of one kind found at one place of a returned record.

    Attributes:
        kind: of the values.
        place: the record's identifier, a structured field, or free text.
        name: the field's name, where there is one.
        values: their fingerprints.
    """

    kind: ValueKind
    place: Place
    name: Word | None = None
    values: Annotated[tuple[Fingerprint, ...], at_most(limits.OUTCOME_VALUES_MAX)]


class ReturnedRecord(Part):
    """One record an action returned: a mail, a row, a file."""

    values: Annotated[tuple[ReturnedValues, ...], at_most(limits.OUTCOME_VALUES_MAX)] = ()


class Outcome(_Event):
    """What the enforcement point reports after it ran, or did not run, an approved action.

    Attributes:
        verdict_digest: of the verdict's value; outcomes are matched by it.
        status: `abandoned` means never started.
        measures: as on the wire; `done` raises each to max(approved, reported).
        records: what came back, as fingerprints.
        overflow: there were more values than OUTCOME_VALUES_MAX.
        truncated: the result was cut before it was read whole.
        revoked: why the approval was taken back while the action ran, or before it began; see `core.reasons.Revoke`.
        misused: how an approval was to be used otherwise than it was given; nothing ran; see `core.reasons.Misuse`.
    """

    type: Literal["outcome"] = "outcome"
    outcome_id: Uuid7
    intent_id: Uuid7
    verdict_digest: Digest
    status: Literal["done", "failed", "abandoned", "unknown"]
    measures: Measures = NO_KEYS
    records: Annotated[tuple[ReturnedRecord, ...], at_most(limits.OUTCOME_RECORDS_MAX)] = ()
    overflow: Flag = False
    truncated: Flag = False
    revoked: Literal["", "suspended", "killed", "mandate_expired", "chain_closed", "unheard"] = ""
    misused: Literal["", "again", "late", "elsewhere", "changed", "kept"] = ""

    @property
    def own_id(self) -> str:
        """The event's own UUIDv7."""
        return self.outcome_id

    def measures_micro(self) -> dict[str, int]:
        """The measures as exact integers of 10⁻⁶."""
        return {name: micro_of(value) for name, value in self.measures.items()}

    @model_validator(mode="after")
    def _values_bounded(self) -> Self:
        count = sum(len(found.values) for record in self.records for found in record.values)
        if count > limits.OUTCOME_VALUES_MAX:
            raise ValueError(f"more than {limits.OUTCOME_VALUES_MAX} values; cut them and set `overflow`")
        return self


class Approval(_Event):
    """A human approver's answer to a hold.

    Attributes:
        hold_digest: digest of the hold's record.
        hold_offset: its offset in the decision log.
        scope: `value` answers for these values in this chain and class of action too, so that it is asked once.
        values: fingerprints that the held intent names, with scope `value`.
        declassify: labels the chain loses.
    """

    type: Literal["approval"] = "approval"
    approval_id: Uuid7
    hold_digest: Digest
    hold_offset: Natural
    decision: Literal["approve", "deny"]
    scope: Literal["intent", "value"] = "intent"
    values: Annotated[tuple[Fingerprint, ...], at_most(limits.ARGUMENT_VALUES_MAX)] = ()
    declassify: Labels = ()
    reason: Reason = ""

    @property
    def own_id(self) -> str:
        """The event's own UUIDv7."""
        return self.approval_id

    @model_validator(mode="after")
    def _values_have_their_scope(self) -> Self:
        if bool(self.values) != (self.scope == "value"):
            raise ValueError("`values` belong to scope `value`, which needs at least one")
        if self.values and self.decision == "deny":
            raise ValueError("scope `value` belongs to decision `approve`: a no is to this intent alone")
        return self


InputEvent = Annotated[Mandate | Intent | Outcome | Approval, Field(discriminator="type")]
"""Any input event, told apart by `type`."""

EVENTS: dict[str, type[Mandate | Intent | Outcome | Approval]] = {
    "mandate": Mandate,
    "intent": Intent,
    "outcome": Outcome,
    "approval": Approval,
}
