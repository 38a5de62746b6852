"""The rows of the four tables (DESIGN §3): identity, infrastructure, risk, classification.

Rule of this file: a row is a fact somebody else is the authority for; we only bound it. An absent text is the empty
text, so that a rule can compare it. `key` is the row's Kafka key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from harness_stream.core import limits
from harness_stream.core.events import Part
from harness_stream.core.scalars import Action, EpochMs, Flag, Identifier, Labels, Reason, Role, Word, at_most

if TYPE_CHECKING:
    from collections.abc import Mapping

_SUBJECT_CHARS_MAX = limits.URI_CHARS_MAX + len("resource:")

RISK_SUBJECT_PATTERN: Final = r"^(agent|tool|resource|tenant):[^\s\x00-\x1f\x7f]+$"
# A star inside would look like a pattern and match nothing: refused.
CLASSIFICATION_SUBJECT_PATTERN: Final = r"^(tool|resource):([^\s\x00-\x1f\x7f*]+\*?|\*)$"
PUBLIC_KEY_PATTERN: Final = r"^[A-Za-z0-9_-]{43}$"

OptionalIdentifier = Identifier | Literal[""]
OptionalWord = Word | Literal[""]

RiskSubject = Annotated[
    str,
    StringConstraints(max_length=_SUBJECT_CHARS_MAX, pattern=RISK_SUBJECT_PATTERN),
]
ClassificationSubject = Annotated[
    str,
    StringConstraints(max_length=_SUBJECT_CHARS_MAX, pattern=CLASSIFICATION_SUBJECT_PATTERN),
]
PublicKeyText = Annotated[str, StringConstraints(pattern=PUBLIC_KEY_PATTERN)]
"""32 bytes in base64url without padding: an X25519 or Ed25519 public key."""


class Row(Part):
    """Base of every table row."""

    @property
    def key(self) -> str:
        """The row's key in its compacted topic."""
        raise NotImplementedError


class PublicKey(Part):
    """One public key of an identity and when it counts.

    Attributes:
        not_before: epoch ms, inclusive.
        not_after: epoch ms, inclusive.
    """

    kid: Identifier
    alg: Literal["x25519", "ed25519"]
    public: PublicKeyText
    not_before: EpochMs = 0
    not_after: EpochMs = limits.INTEGER_MAX


class DelegationLimits(Part):
    """How far an agent's delegation may reach.

    Attributes:
        depth: levels below this agent.
        fan_out: children of one intent.
    """

    depth: Annotated[int, Field(strict=True, ge=0, le=limits.DELEGATION_DEPTH_MAX)] = limits.DELEGATION_DEPTH_DEFAULT
    fan_out: Annotated[int, Field(strict=True, ge=0, le=limits.DELEGATION_FAN_OUT_MAX)] = (
        limits.DELEGATION_FAN_OUT_DEFAULT
    )


class IdentityRow(Row):
    """Who an agent, orchestrator, enforcer or approver is.

    Attributes:
        lane: whose history it shares; see `lane_of`. Immutable per agent.
        roles: for instance `orchestrator`, `approver`, `enforcer`.
        actions: exact names it may use.
        workloads: ids it may name in an intent.
        delegates: agents it may delegate to.
        delegated_only: it may act only for a parent.
        addresses: the principal's own addresses and accounts, as fingerprints or text.
    """

    agent_id: Identifier
    owner: OptionalIdentifier = ""
    tenant: OptionalIdentifier = ""
    lane: OptionalIdentifier = ""
    roles: Annotated[tuple[Word, ...], at_most(limits.ROLES_MAX)] = ()
    actions: Annotated[tuple[Action, ...], at_most(limits.ROW_ACTIONS_MAX)] = ()
    workloads: Annotated[tuple[Identifier, ...], at_most(limits.ROW_WORKLOADS_MAX)] = ()
    status: Literal["active", "suspended", "killed"] = "active"
    keys: Annotated[tuple[PublicKey, ...], at_most(limits.ROW_KEYS_MAX)] = ()
    delegates: Annotated[tuple[Identifier, ...], at_most(limits.ROW_DELEGATES_MAX)] = ()
    delegation: DelegationLimits = DelegationLimits()
    delegated_only: Flag = False
    addresses: Annotated[tuple[Identifier, ...], at_most(limits.ROW_ADDRESSES_MAX)] = ()

    @property
    def key(self) -> str:
        """The agent's id."""
        return self.agent_id


class InfrastructureRow(Row):
    """Where an agent runs.

    Attributes:
        attested: the workload's identity was attested.
        attestation: by what, for instance `tpm`.
        zone: network zone.
    """

    workload_id: Identifier
    environment: OptionalWord = ""
    region: OptionalWord = ""
    attested: Flag = False
    attestation: OptionalWord = ""
    zone: OptionalWord = ""

    @property
    def key(self) -> str:
        """The workload's id."""
        return self.workload_id


class RiskRow(Row):
    """How dangerous an agent, tool, resource or tenant is now.

    Attributes:
        score: 0 … 1.
        valid_until: epoch ms; afterwards the row counts as absent.
    """

    subject: RiskSubject
    score: Annotated[float, Field(strict=True, ge=0, le=1)]
    level: OptionalWord = ""
    reasons: Annotated[tuple[Reason, ...], at_most(limits.ROW_REASONS_MAX)] = ()
    valid_until: EpochMs

    @property
    def key(self) -> str:
        """The subject with its kind."""
        return self.subject


class ClassificationRow(Row):
    """What data a resource holds, or what a tool does.

    Attributes:
        subject: `tool:` or `resource:` + an exact id, or a prefix ending in `*`; the longest match wins.
        trust: of a tool's output.
        argument_roles: of a tool, by parameter.
        operation: of a tool, with `object_class` its action class.
        free_text: of a tool, the fields an outsider can write prose into.
        nonrepudiable: of a tool, an intent to use it must carry its sender's Ed25519 signature besides the MAC.
    """

    subject: ClassificationSubject
    labels: Labels = ()
    sensitivity: OptionalWord = ""
    residency: OptionalWord = ""
    owner: OptionalIdentifier = ""
    zone: OptionalWord = ""
    trust: OptionalWord = ""
    argument_roles: Annotated[dict[Word, Role], Field(max_length=limits.ARGUMENTS_MAX)] = {}  # noqa: RUF012  pydantic copies it, the row is frozen
    operation: OptionalWord = ""
    object_class: OptionalWord = ""
    free_text: Annotated[tuple[Word, ...], at_most(limits.ARGUMENTS_MAX)] = ()
    nonrepudiable: Flag = False

    @property
    def key(self) -> str:
        """The subject with its kind."""
        return self.subject

    @model_validator(mode="after")
    def _tool_fields_on_tools(self) -> Self:
        of_tool = (self.trust, self.argument_roles, self.operation, self.object_class, self.free_text)
        if (any(of_tool) or self.nonrepudiable) and not self.subject.startswith("tool:"):
            raise ValueError(
                "`trust`, `argument_roles`, `operation`, `object_class`, `free_text` and `nonrepudiable` belong to a "
                "`tool:` row"
            )
        return self


TABLES: dict[str, type[Row]] = {
    "identity": IdentityRow,
    "infrastructure": InfrastructureRow,
    "risk": RiskRow,
    "classification": ClassificationRow,
}
"""Table name → its row."""


TIME_FIELDS: Final = frozenset({"valid_until", "not_before", "not_after"})
"""Fields of rows, and of what is in rows, that hold a point in time: in files also as RFC 3339 (`core.instant`)."""


def lane_of(row: IdentityRow) -> str:
    """The lane of an agent: its `lane`, by default its tenant, else the agent itself (PROTOCOL §1)."""
    return row.lane or row.tenant or row.agent_id


def lane_of_fields(fields: Mapping[str, Any], agent_id: str) -> str:
    """`lane_of` from a row's plain fields; without a row the lane is the agent itself."""
    return str(fields.get("lane") or fields.get("tenant") or agent_id)
