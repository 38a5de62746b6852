"""The decision log's records (PROTOCOL §3), as they are read: one model a kind, no behaviour.

The worker writes these bodies as plain dictionaries (`core.intake`); tests hold both to the same schema. Readers that
only follow the head need `Envelope` alone; what a record did to a chain stands in `Change`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256, lower-case hex")]
WriterId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="128 random bits per process start, hex")]
Offset = Annotated[int, Field(ge=-1)]
Covers = Annotated[tuple[Offset, Offset], Field(description="first and last input offset, both inclusive")]
# Strictly, since bodies are read as they are: a time in quotes cannot be compared.
EpochMs = Annotated[int, Field(strict=True, description="milliseconds since 1970-01-01 UTC")]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    incarnation: str = Field(description="ids of the two log topics: a recreated topic is another realm's")
    epoch: int = Field(ge=1)
    writer: WriterId


class _Linked(_Record):
    prev: Digest = Field(description="the partition's head before this record")
    covers: Covers


class RuleRef(BaseModel):
    """The bundle a partition decides by: `digest` names its bytes, `revision` only rises."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: Digest
    revision: int = Field(ge=1)


class Claim(_Record):
    """A new owner's first record: epoch = highest seen + 1."""

    kind: Literal["claim"] = "claim"
    after: Literal["clean", "crash", "resync"]
    pending: bool = Field(description="input beyond next_input existed when this was written")


class Switch(_Linked):
    """From here this partition decides by another bundle; covers [n, n − 1]."""

    kind: Literal["switch"] = "switch"
    rules: RuleRef
    warmed: dict[str, Any] | None = Field(
        default=None, description="place from which new windows were counted in the log; null: they begin as units know"
    )


class Reason(BaseModel):
    """Why a decision came out as it did: a rule that fired, or a word of the engine (`core.reasons`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(description="`rule`, or the engine's reason")
    rule: str | None = None
    effect: Literal["approve", "deny", "hold"] | None = None
    because: str | None = None
    detail: str | None = None
    unknown: bool = Field(default=False, description="the window's interval did not settle the condition")
    evidence: tuple[str, ...] = Field((), max_length=16, description="ids of intents that made it fire, newest last")
    evidence_count: int = 0
    counted: tuple[int | str, int | str | None] | None = Field(
        default=None, description="what a counting window held, from … to; equal when exact, null is unbounded"
    )


class Verdict(_Linked):
    """Approve, deny or hold for one intent. The intent's offset is covers[1]."""

    kind: Literal["verdict"] = "verdict"
    t: EpochMs = Field(description="chain time after this record")
    decision: Literal["approve", "deny", "hold"]
    agent_id: str
    intent_id: str
    intent_digest: Digest = Field(description="of the intent's value as received")
    arguments_digest: Digest
    enforcer_nonce: str
    reasons: tuple[Reason, ...]
    shadow: tuple[Reason, ...] = Field(default=(), description="what rules in shadow mode would have said")
    obligations: dict[str, Any] = {}
    valid_for_ms: int = Field(ge=0)
    hold_until: EpochMs | None = None
    ends_at: EpochMs | None = Field(
        default=None, description="of an approval: the last chain time of every mandate it was given under"
    )
    approval: dict[str, Any] | None = Field(default=None, description="the person's answer, and what it satisfied")
    remember_until: EpochMs = Field(description="chain time up to which a second record with this id is refused")
    intent: dict[str, Any] | None = Field(default=None, description="a held intent, so that an approval can re-run it")
    rules: RuleRef
    event: dict[str, Any] | None = Field(description="the chain event; null if the intent was not evaluated or counted")
    inputs: dict[str, Any] = Field(description="every input of the decision that is not in a log, by value")


class DeniedIntent(BaseModel):
    """One intent that was denied without a look at it; what these fields mean, `Verdict` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)  # as EpochMs: "7" is no offset

    offset: Offset = Field(description="of the intent in the input log")
    t: EpochMs
    agent_id: str
    intent_id: str
    intent_digest: Digest
    arguments_digest: Digest
    enforcer_nonce: str
    code: Literal["late", "clock", "rate", "overload"] = Field(description="of the one reason")
    detail: str | None
    remember_until: EpochMs


class Denials(_Linked):
    """A run of intents that were late, or for which there was no room: as many verdicts in one record."""

    kind: Literal["denials"] = "denials"
    t: EpochMs = Field(description="chain time after this record, the last row's")
    rules: RuleRef
    decided_at: EpochMs
    engine: str
    denied: tuple[DeniedIntent, ...] = Field(min_length=1, description="in the order of the input log")

    @model_validator(mode="after")
    def _rows_in_order(self) -> Denials:
        first, last, end = self.denied[0], self.denied[-1], self.covers[1]
        if first.offset < self.covers[0]:
            raise ValueError(f"input {first.offset} is not among those it covers, which begin at {self.covers[0]}")
        for row, after in pairwise(self.denied):
            if after.offset <= row.offset:
                raise ValueError(f"input {after.offset} comes after input {row.offset}")
            if after.t < row.t:
                raise ValueError(f"chain time steps back from {row.t} to {after.t} at input {after.offset}")
        if (last.offset, last.t) != (end, self.t):
            raise ValueError(f"ends with input {last.offset} at {last.t}, and not with input {end} at {self.t}")
        return self


class Ack(_Linked):
    """A mandate, outcome or (invalid) approval was taken in, with what it changed."""

    kind: Literal["ack"] = "ack"
    t: EpochMs
    agent_id: str
    event_type: Literal["mandate", "outcome", "approval"]
    id: str
    digest: Digest
    status: Literal["accepted", "refused"]
    reason: str | None = None
    detail: str | None = None
    change: dict[str, Any] | None = None


class Rejected(_Linked):
    """A record that touches no chain and is no terminal verdict; a waiting client raises Denied."""

    kind: Literal["reject"] = "reject"
    t: EpochMs
    agent_id: str
    id: str
    digest: Digest
    reason: str
    detail: str | None = None


class SkippedOffset(BaseModel):
    """One skipped input record, so that its sender finds its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offset: Offset
    reason: str
    detail: str | None = None


class Skipped(_Linked):
    """A range without verdicts: garbage, or input lost to retention."""

    kind: Literal["skip"] = "skip"
    t: EpochMs
    reason: Literal["garbage", "input_lost"]
    count: int = Field(ge=0)
    digest: Digest = Field(description="SHA-256 over the skipped values' digests, in order")
    offsets: tuple[SkippedOffset, ...] = Field(default=(), max_length=16)


class NextRules(BaseModel):
    """A pushed bundle that is not in force yet, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    revision: int | None = Field(description="null: the active record itself cannot be read")
    state: Literal["warming", "unusable"]
    detail: str = Field(description="how far warming is, or what keeps the bundle from loading")


class Checkpoint(_Record):
    """Statement of a fold that its writer has confirmed; ignored by the fold."""

    kind: Literal["checkpoint"] = "checkpoint"
    partition: int = Field(ge=0)
    verdict_offset: Offset = Field(description="offset of the last effective record folded")
    record_digest: Digest = Field(description="digest of that record, so that another log is noticed")
    head: Digest
    next_input: Offset
    rules: RuleRef | None
    t: EpochMs
    crash_claims: int = Field(ge=0, description="pending crash claims in a row at next_input")
    snapshot_cut: Offset = Field(description="snapshots hold every change up to this verdict offset")
    next_rules: NextRules | None = Field(default=None, description="a pushed bundle that is not in force here yet")
    dev: bool = Field(description="this realm is unsigned: it was started with --dev")
    final: bool = Field(default=False, description="written by a clean stop")


class Resume(_Record):
    """An operator's word that continues a halted partition; needs a higher epoch, sets the state."""

    kind: Literal["resume"] = "resume"
    checkpoint: dict[str, Any] = Field(description="the checkpoint that could not be extended")
    head: Digest
    next_input: Offset
    rules: RuleRef | None
    t: EpochMs
    reason: str
    forgets: bool | None = Field(
        default=None,
        strict=True,
        description="no chain, window, hold or id of before is known from here on; null: not said",
    )
    seal: dict[str, str] | None = Field(
        default=None, description="signature headers of that checkpoint's record, so that it can still be believed"
    )


class Notice(_Record):
    """An agent that has acted in this partition was stopped; ignored by the fold, obeyed at the head it names."""

    kind: Literal["notice"] = "notice"
    partition: int = Field(ge=0)
    prev: Digest = Field(description="the partition's head where this was written; anywhere else it says nothing")
    agent_id: str
    status: Literal["suspended", "killed"]
    revision: Offset = Field(description="of the identity table that says so")
    t: EpochMs = Field(description="chain time")


RECORDS: dict[str, type[BaseModel]] = {
    "claim": Claim,
    "switch": Switch,
    "verdict": Verdict,
    "denials": Denials,
    "ack": Ack,
    "reject": Rejected,
    "skip": Skipped,
    "checkpoint": Checkpoint,
    "resume": Resume,
    "notice": Notice,
}
