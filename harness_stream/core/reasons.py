"""Every reason the engine itself may give, in one place (rules give their own ids).

A reason is a word for machines and, with `EXPLAIN`, a sentence for people: what it means and what to do next.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Deny(StrEnum):
    """Why the engine, not a rule, denied an intent."""

    DEFAULT = "default"
    RULE_ERROR = "rule_error"
    UNKNOWN_AGENT = "unknown_agent"
    NOT_SPEAKER = "not_speaker"
    AGENT_STATUS = "agent_status"
    WORKLOAD = "workload"
    CHAIN_UNKNOWN = "chain_unknown"
    CHAIN_CLOSED = "chain_closed"
    DELEGATION = "delegation"
    DELEGATION_LANE = "delegation_lane"
    LATE = "late"
    RATE = "rate"
    OVERLOAD = "overload"
    CLOCK = "clock"
    STALE_FACTS = "stale_facts"
    FACTS_BEHIND = "facts_behind"
    TOO_LARGE = "too_large"
    QUARANTINED = "quarantined"
    HOLD_EXPIRED = "hold_expired"
    HOLD_DENIED = "hold_denied"
    HOLDS_FULL = "holds_full"


class Reject(StrEnum):
    """Why an input record got no verdict of its own (PROTOCOL §3 `reject`)."""

    DUPLICATE = "duplicate"
    ID_REUSED = "id_reused"
    WRONG_PARTITION = "wrong_partition"
    STATE_UNAVAILABLE = "state_unavailable"


class Garbage(StrEnum):
    """Why an input record was skipped (PROTOCOL §9)."""

    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    DUPLICATE_KEY = "duplicate_key"
    NUMBER = "number"
    SURROGATE = "surrogate"
    DEPTH = "depth"
    SCHEMA = "schema"
    TYPE_UNKNOWN = "type_unknown"
    REALM = "realm"
    TIMESTAMP = "timestamp"
    NOT_AUTHENTIC = "not_authentic"
    EMPTY = "empty"
    QUARANTINED = "quarantined"
    ID_TIME = "id_time"


class Refuse(StrEnum):
    """Why a mandate, outcome or approval was taken in but changed nothing (PROTOCOL §3 `ack`)."""

    NOT_ORCHESTRATOR = "not_orchestrator"
    CHAIN_EXISTS = "chain_exists"
    CHAIN_UNKNOWN = "chain_unknown"
    CHAIN_CLOSED = "chain_closed"
    MANDATE_EXPIRED = "mandate_expired"
    CHAINS_FULL = "chains_full"
    NOT_SIGNER = "not_signer"
    NOT_REPORTER = "not_reporter"
    OUTCOME_EXPIRED = "outcome_expired"
    OUTCOME_KNOWN = "outcome_known"
    VERDICT_MISMATCH = "verdict_mismatch"
    BYPASS = "bypass"
    NOT_ENFORCER = "not_enforcer"
    NOT_APPROVER = "not_approver"
    FOREIGN_VALUES = "foreign_values"
    NO_HOLD = "no_hold"
    HOLD_EXPIRED = "hold_expired"
    STALE_FACTS = "stale_facts"


class Revoke(StrEnum):
    """Why an approval was taken back, before its action began or while it ran."""

    SUSPENDED = "suspended"
    KILLED = "killed"
    MANDATE_EXPIRED = "mandate_expired"
    CHAIN_CLOSED = "chain_closed"
    UNHEARD = "unheard"


class Misuse(StrEnum):
    """How an approval was to be used otherwise than once, in time, by who asked, for what was approved."""

    AGAIN = "again"
    LATE = "late"
    ELSEWHERE = "elsewhere"
    CHANGED = "changed"
    KEPT = "kept"


class Skip(StrEnum):
    """Why a range of input offsets was skipped."""

    GARBAGE = "garbage"
    INPUT_LOST = "input_lost"


class Client(StrEnum):
    """Why an enforcement point runs nothing, though no record in the log says so."""

    RULE = "rule"
    HOLD = "hold"
    OBLIGATION = "obligation"
    RAN_OUT = "ran_out"
    NOT_PUBLISHED = "not_published"
    UNCONFIRMED = "unconfirmed"
    NO_WORKER = "no_worker"
    WORKER_SILENT = "worker_silent"
    BEHIND = "behind"
    NO_ANSWER = "no_answer"
    FOREIGN_ANSWER = "foreign_answer"
    LOG_CONTRADICTS = "log_contradicts"
    CLOSED = "closed"


class Token(StrEnum):
    """Why a remote executor runs nothing on a token (PROTOCOL §9)."""

    MALFORMED = "token_malformed"
    REALM = "token_realm"
    AUDIENCE = "token_audience"
    WORKER = "token_worker"
    ENFORCER = "token_enforcer"
    SIGNATURE = "token_signature"
    DECISION = "token_decision"
    TIME = "token_time"
    ACTION = "token_action"
    ARGUMENTS = "token_arguments"
    USED = "token_used"


SECURITY_EVENTS: Final[frozenset[str]] = frozenset(
    {Reject.WRONG_PARTITION, Reject.ID_REUSED, Refuse.BYPASS, Garbage.NOT_AUTHENTIC}
)
"""Answers behind which somebody may have gone around the harness, or tried to."""

EXPLAIN: dict[str, str] = {
    Deny.DEFAULT: "no rule approved it; add an approve rule for this action, or widen the agent's allowed actions",
    Deny.RULE_ERROR: "a rule failed while it was evaluated, so it denies; the reason names the rule and the error",
    Deny.UNKNOWN_AGENT: "no identity row for this agent; load one with `harness tables load`",
    Deny.NOT_SPEAKER: "an intent is sent by the agent itself, or by an active enforcer of its lane",
    Deny.AGENT_STATUS: "the agent is suspended or killed in the identity table",
    Deny.WORKLOAD: "the agent's identity row does not allow this workload id",
    Deny.CHAIN_UNKNOWN: "the intent names a chain that no mandate opened for this agent",
    Deny.CHAIN_CLOSED: "the chain's mandate has expired or was closed; ask the orchestrator for a new one",
    Deny.DELEGATION: "it acts only for a parent and names none, or one above it is not active, does not delegate to it,"
    " is not approved, may not do this itself, or allows no more depth or fan-out; the detail says which",
    Deny.DELEGATION_LANE: "the named parent lives in another lane; delegation stays inside one lane",
    Deny.LATE: "the deadline had passed when a worker saw the intent; the workers lag or the deadline is too short",
    Deny.RATE: "its lane asks for more than a worker evaluates for one lane (`lane_rate`): slow down, find who floods",
    Deny.OVERLOAD: "its partition's worker is behind, and half of the deadline was over: ask less, or run more workers",
    Deny.CLOCK: "the broker's append time is more than 5 s ahead of the worker's clock; synchronise clocks",
    Deny.STALE_FACTS: "a table this decision reads was not known to be fresh; look at the worker's table lag",
    Deny.FACTS_BEHIND: "the intent demands a table revision this worker has not read yet; send it again",
    Deny.TOO_LARGE: "a record has at most 64 KiB, its verdict 16 KiB, a chain 1,024 labels; send less, name less",
    Deny.QUARANTINED: "workers crashed three times on this record; it was set aside unevaluated",
    Garbage.ID_TIME: "the intent id's time is more than 60 s from the broker's append time; use a fresh UUIDv7",
    Deny.HOLD_EXPIRED: "nobody approved the hold in time; the agent needs a new intent",
    Deny.HOLD_DENIED: "an approver said no",
    Deny.HOLDS_FULL: "as many of this agent's intents wait for an approver as may; answer some, or let them expire",
    Reject.DUPLICATE: "this intent was already taken in; its verdict was published earlier",
    Reject.ID_REUSED: "this intent id was used before with other content; every intent needs its own id",
    Reject.WRONG_PARTITION: "the record is not in its lane's partition: murmur2(lane) mod partition count",
    Refuse.NOT_ORCHESTRATOR: "only an identity with role orchestrator in the agent's lane may open or close a chain",
    Refuse.CHAIN_EXISTS: "this chain id is taken; a chain is opened once",
    Refuse.CHAINS_FULL: "this agent has as many chains as may be kept; wait until old ones have ended for a day, and "
    "give mandates that are closed early a nearer end",
    Refuse.MANDATE_EXPIRED: "the mandate's expires_at has passed",
    Refuse.NOT_SIGNER: "only the mandate's signer may close its chain",
    Refuse.NOT_REPORTER: "an outcome is reported by the agent itself or by an identity with role enforcer",
    Refuse.OUTCOME_EXPIRED: "the intent is no longer kept; it counted as done",
    Refuse.OUTCOME_KNOWN: "an outcome was reported before; the first one wins",
    Refuse.VERDICT_MISMATCH: "verdict_digest is not that of the intent's verdict",
    Refuse.BYPASS: "the intent was not approved, yet an outcome was reported: something ran without a verdict;"
    " or nothing ran, and an approval was to be misused, as a detail of again, late, elsewhere, changed or kept says",
    Refuse.NOT_ENFORCER: "only an identity with role enforcer that is not the agent may report `abandoned`",
    Refuse.NOT_APPROVER: "an active approver, and not the agent, its owner, who spoke for it or for whom it acts",
    Refuse.FOREIGN_VALUES: "an approver answers for values that the held intent names, and for no others",
    Refuse.NO_HOLD: "no open hold with this digest; `harness holds list` shows those that are open",
    Reject.STATE_UNAVAILABLE: "the agent's chain could not be loaded in time; look at Redis, then send a new intent",
    Garbage.NOT_JSON: "the value is not one JSON object in UTF-8",
    Garbage.DUPLICATE_KEY: "an object names one key twice",
    Garbage.NUMBER: "a number is not finite or beyond ±(2^53 − 1)",
    Garbage.SURROGATE: "a string holds a lone surrogate",
    Garbage.DEPTH: "the value is nested deeper than 8",
    Garbage.SCHEMA: "the record breaks its schema; the detail names the field",
    Garbage.TYPE_UNKNOWN: "`type` is none of mandate, intent, outcome, approval",
    Garbage.REALM: "the record was written for another realm",
    Garbage.TIMESTAMP: "the record's timestamp is not the broker's append time",
    Garbage.NOT_AUTHENTIC: "it is not signed as this realm asks: keys that have ended or were rotated away, a lane "
    "that is not the identity row's, or `dev` where the realm is signed (`harness agents enroll` makes new "
    "credentials); an action that the table says is nonrepudiable must be named as `nonrepudiable` in the credentials; "
    "a signed mandate that was changed is signed again",
    Garbage.EMPTY: "the record has no value",
    Skip.GARBAGE: "the record was skipped as garbage among many; the dead-letter topic has a copy with the reason",
    Skip.INPUT_LOST: "retention deleted the record before a worker read it; the workers were away too long",
    Revoke.SUSPENDED: "the agent, or one for whom it acts, was suspended (`harness agents resume` lets it go on)",
    Revoke.UNHEARD: "this process can no longer follow the decision log, so nobody could stop it: connect anew",
    Revoke.KILLED: "the agent, or one for whom it acts, was killed in the identity table, which is meant to be final",
    Client.RULE: "change what the rule looks at, or ask its owner; `verdict.evidence` names what made it fire",
    Client.HOLD: "an approver has to answer (`harness holds list`); `wait_for_hold=True` waits for it",
    Client.OBLIGATION: "the approval comes with a duty this program does not know; give a handler in `obligations=`",
    Token.MALFORMED: "hand on the text that `verdict.token` gave, whole and unchanged",
    Token.REALM: "it was made in another realm, or before the log topics were recreated; is the right root trusted?",
    Token.AUDIENCE: "it was made for another executor; the agent names the audience when it asks for the token",
    Token.WORKER: "its verdict is not signed by a worker that this root certified; is it the realm's `root.pub`?",
    Token.ENFORCER: "only an identity with role `enforcer`, of the agent's lane and not the agent, may sign a token, "
    "while its key counts; enrol it (again) with `harness agents enroll NAME --role enforcer`",
    Token.SIGNATURE: "something in it was changed, or the key that signed it is another one",
    Token.DECISION: "only an effective approve that was evaluated may be run",
    Token.TIME: "tokens last 30 s at most and no longer than their approval; are both clocks right? Ask again",
    Token.ACTION: "another action was approved than the one to be run",
    Token.ARGUMENTS: "other arguments were approved than those to be run",
    Token.USED: "each approval runs one action once; every action needs its own intent, and so does one that was"
    " approved before the executor began",
    Client.RAN_OUT: "begin the action before the deadline and within valid_for_ms, or take a longer deadline",
    Client.NOT_PUBLISHED: "nothing was published; is the broker up (`harness status`) and the address right?",
    Client.UNCONFIRMED: "unknown whether the record landed; nothing was run. An action needs a new intent",
    Client.NO_WORKER: "no worker has ever claimed this partition; start one with `harness worker`",
    Client.WORKER_SILENT: "no worker has written to this partition for a while; is one running?",
    Client.BEHIND: "a worker is there and has not come to this record yet; add workers or ask for a longer deadline",
    Client.NO_ANSWER: "the record is covered, but no answer to it was seen in time; look at the worker's log",
    Client.FOREIGN_ANSWER: "a verdict names this intent id but not this intent; somebody else uses the same ids",
    Client.LOG_CONTRADICTS: "the decision log is damaged, or not the one its checkpoint names (truncated or recreated)"
    "; `harness partitions` says which, and what to do; once it is mended, start this process again",
    Client.CLOSED: "this harness was closed; connect anew",
}
