"""Every number of the protocol and of the engine, once, with its reason.

Rule of this file: a limit is a named constant with its unit last; whoever needs a number imports it from here.
"PROTOCOL §n" and "DESIGN §n" mean that the number is normative there; all others were chosen here and say why.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- Sizes of records (PROTOCOL §2, §3) ---

INTENT_BYTES_MAX: Final = 64 * KIB  # the input topic's max.message.bytes; also the bound of what decode may cost
DECISION_BYTES_MAX: Final = 256 * KIB  # the decision topic's max.message.bytes: four acks, so that a skip fits easily
VERDICT_BYTES_MAX: Final = 16 * KIB  # by construction: a verdict names ≤ EVIDENCE_MAX ids and a count
DENIALS_BYTES_MAX: Final = 128 * KIB  # no further one then; a row is at most 6 KiB, so it fits DECISION_BYTES_MAX
ACK_BYTES_MAX: Final = 64 * KIB  # by construction: the largest mandate has 52 KiB, an outcome's values and event 40 KiB
ROW_BYTES_MAX: Final = 64 * KIB  # a row is parsed whole on use; the largest real ones list some hundred actions
EVIDENCE_MAX: Final = 16  # ids of events shown as reason, the rest is a count
SKIP_OFFSETS_MAX: Final = 16  # a sender finds its own garbage; more would let garbage grow the log
GARBAGE_DETAIL_CHARS_MAX: Final = 200  # enough for a field path and a message, too little to smuggle content

# --- Shape of input (PROTOCOL §9) ---

DEPTH_MAX: Final = 8  # the deepest schema needs 6
RESOURCES_MAX: Final = 32
LABELS_MAX: Final = 32
MEASURES_MAX: Final = 16
CANONICAL_DEPTH_MAX: Final = 64  # of a tool's arguments: never published, so only our own recursion bounds it
INTEGER_MAX: Final = 2**53 - 1  # what every RFC 8785 peer keeps exactly (IEEE 754 double)
MEASURE_DECIMALS_MAX: Final = 6
MEASURE_SCALE: Final = 10**MEASURE_DECIMALS_MAX  # measures are kept as integers of 10⁻⁶
MEASURE_WHOLE_DIGITS_MAX: Final = 15  # of a decimal string: 10^15 - 1 is the longest run of nines below INTEGER_MAX
FINGERPRINT_DIGITS: Final = 16  # 64 bits, hex (PROVENANCE §1)
DIGEST_DIGITS: Final = 64  # SHA-256, hex
NONCE_DIGITS: Final = 32  # 128 random bits, hex (PROTOCOL §8)

# --- Lengths of strings, in characters ---

IDENTIFIER_CHARS_MAX: Final = 256  # SPIFFE ids and cloud resource names of real deployments stay below 200
URI_CHARS_MAX: Final = 2048  # what browsers and proxies agree to carry
WORD_CHARS_MAX: Final = 64  # labels, levels, zones, regions, argument and measure names
ACTION_CHARS_MAX: Final = 128  # server name + tool name, each ≤ 64 in the tool protocols we guard
PURPOSE_CHARS_MAX: Final = 256  # one sentence for a person
REASON_CHARS_MAX: Final = 256  # same, by an approver or a risk feed

# --- Counts inside input events; each times its length stays below INTENT_BYTES_MAX or is cut by it ---

ARGUMENTS_MAX: Final = 64  # tools with more parameters were not found in 69 tools of the benchmark
ARGUMENT_VALUES_MAX: Final = 256  # a mail to 256 recipients; larger lists are `unparsed`
OUTCOME_VALUES_MAX: Final = 1024  # PROVENANCE §2; measured maximum 785
OUTCOME_RECORDS_MAX: Final = 256  # a page of results
CHAIN_VALUES_MAX: Final = 4096  # PROVENANCE §2: 9 bytes each packed = 37 KB
CHAIN_ANSWERED_MAX: Final = 512  # values an approver answered for; with their class ≤ 150 bytes each = 75 KB
CHAIN_VALUES_BYTES_MAX: Final = 40 * KIB  # DESIGN §5
MANDATE_VALUES_MAX: Final = 1024  # a user names tens; as an outcome, so that one mandate cannot fill the chain's map
ACTION_CLASSES_MAX: Final = 64  # operation * object pairs one task needs: ≤ 9 in the benchmark
MANDATE_RECORDS_MAX: Final = 64  # records whose instructions may be followed

# --- Counts inside table rows ---

ROLES_MAX: Final = 32
ROW_ACTIONS_MAX: Final = 1024  # one agent with several large tool servers
ROW_WORKLOADS_MAX: Final = 256
ROW_KEYS_MAX: Final = 8  # two kinds, two valid each during rotation, and room for history
ROW_DELEGATES_MAX: Final = 256
ROW_ADDRESSES_MAX: Final = 64
ROW_REASONS_MAX: Final = 16
DELEGATION_DEPTH_DEFAULT: Final = 3  # orchestrator, specialist, tool agent
DELEGATION_DEPTH_MAX: Final = 16
DELEGATION_FAN_OUT_DEFAULT: Final = 16
DELEGATION_FAN_OUT_MAX: Final = 1024

# --- Time (PROTOCOL §8) ---

DEADLINE_MS_DEFAULT: Final = 5_000
DEADLINE_MS_MAX: Final = 60_000  # = ID_AGE_MS_MAX: an id must not age out while its intent waits
VALID_FOR_MS_DEFAULT: Final = 5_000  # an approve starts within this from being read: as long as the deadline
HOLD_MS_DEFAULT: Final = 900_000  # 15 min for a person to answer
HOLDS_OPEN_MAX: Final = 64  # of one agent: more than a person answers in HOLD_MS_DEFAULT, and a loop stops there
HOLD_MEMORY_MS: Final = 3_600_000  # who answers too late is told so for an hour, then that there is no such hold
CLOCK_SKEW_MS_MAX: Final = 5_000  # append time beyond decided_at: `deny: clock`
ID_AGE_MS_MAX: Final = 60_000  # |UUIDv7 time - append time|
ID_MEMORY_MS: Final = 130_000  # 2 * ID_AGE_MS_MAX (early id, late resend) + 2 * CLOCK_SKEW_MS_MAX
FRESH_MS_MAX: Final = 1_000  # an older table view: rules that read it deny
FRESH_QUERY_MS: Final = 100  # end offsets asked: ten chances before FRESH_MS_MAX
END_QUERY_MS: Final = 100  # own decision partition's end, to notice a foreign writer (PROTOCOL §5)
OUTCOME_GRACE_MS: Final = 60_000  # after the deadline an intent without outcome is `unreported`
ANSWER_GRACE_MS: Final = 50  # a running enforcer answers by deadline + this (V4)
TOKEN_MS_MAX: Final = 30_000  # PROTOCOL §9
# A verdict, a proof (264 bytes of 256 records; a header has 4 KiB), two certificates that name a lane and an enforcer
# of ≤ 256 characters each, an audience as long, keys and signatures.
TOKEN_BYTES_MAX: Final = VERDICT_BYTES_MAX + 8 * KIB
TOKEN_CHARS_MAX: Final = TOKEN_BYTES_MAX * 4 // 3  # base64url
TOKENS_KEPT_MAX: Final = 100_000  # of one executor, until their verdicts end: 20 MB, a minute of 1,600 a second

# --- The worker's loop (PROTOCOL §3, §5) ---

IN_FLIGHT_BATCHES_MAX: Final = 2
IN_FLIGHT_RECORDS_MAX: Final = 256
IN_FLIGHT_BYTES_MAX: Final = 1 * MIB
CHECKPOINT_INTERVAL_MS: Final = 1_000  # while busy
CHECKPOINT_RECORDS: Final = 5_000  # bounds what a successor folds: 5,000 records ≈ 0.1 s
QUARANTINE_CLAIMS: Final = 3  # pending crash claims in a row at one next_input
LOOP_WAIT_MS_MAX: Final = 20  # nothing in the partition loop waits longer for anything (PROTOCOL §6)
RECLAIM_MS_MIN: Final = 200  # random 0.2 to 2 s before claiming again, so that two owners do not chase each other
RECLAIM_MS_MAX: Final = 2_000
SESSION_MS: Final = 6_000  # group session: the shortest a broker allows by default
HEARTBEAT_MS: Final = 500  # survivors notice a leave at their next one, and a takeover shall take at most 2 s
DELIVERY_TIMEOUT_MS: Final = 3_000  # PROTOCOL §2: below DEADLINE_MS_DEFAULT, so that RESYNC can still answer
DRAIN_MS_MAX: Final = 1_000  # a clean stop on SIGTERM
# Copies of garbage whose fate is open, of one worker: a sixteenth of the writer's queue, in which claims and decisions
# wait as well. A broker answers within 10 ms: up to 400 MiB/s of garbage are kept.
DEADLETTER_BYTES_MAX: Final = 4 * MIB

# --- Redis and snapshots (PROTOCOL §6) ---

COLD_FETCH_UNITS_MAX: Final = 64
COLD_FETCH_BYTES_MAX: Final = 2 * MIB
COLD_FETCH_MS_MAX: Final = LOOP_WAIT_MS_MAX
# How long a store that does not answer is asked again where waiting for it is better than doing without: a fifth of the
# default deadline, and four tries of an adapter that rests for 250 ms after a failure.
STORE_PATIENCE_MS: Final = DEADLINE_MS_DEFAULT // 5
DELTAS_BEFORE_REBASE: Final = 64
IDS_DELTAS_MAX: Final = 512  # of a unit of ids: 35 µs each to replay, within COLD_FETCH_MS_MAX

# A piece of a unit in the chains topic (1 MiB a record). The largest single value, an ordered window over sixteen
# selections, stays below 610 KB: alone in a piece it fits as well.
PART_BYTES_MAX: Final = 512 * KIB

# --- Chains and windows (DESIGN §5) ---

# Mandates of one agent that windows still reach into: 64 KiB each, so that one agent stays below 16 MiB.
AGENT_CHAINS_MAX: Final = 256
# Ids of an agent's closed chains whose mandates have not expired: as usual ids are, 5,900 of them. One value of its
# unit: with times it stays below PART_BYTES_MAX.
CLOSED_CHAINS_BYTES_MAX: Final = 256 * KIB

CHAIN_LABELS_MAX: Final = 1_024  # real taxonomies have tens; an agent may add 32 a time, and none is ever dropped
DELEGATION_IDLE_MS: Final = 3_600_000  # an intent may delegate while it is used once an hour, beyond its id's memory
KEPT_EVENTS_MAX: Final = 512  # compact events per chain, which outcomes are about
KEPT_BYTES_MAX: Final = 64 * KIB  # of those
WINDOW_EXACT_MAX: Final = 512  # count and sum: the newest so many are exact
WINDOW_BUCKETS: Final = 64  # then buckets, the oldest of which widens the interval
WINDOW_VALUES_MAX: Final = 1024  # distinct: last time per value
# Newest firm events kept per value or listed selection: the one that counts, and the one under it, so that an action
# that never started leaves no doubt. ≤ 195 bytes a value (64 of text, two times and ids): a group stays below 200 KB.
WINDOW_FIRM_KEPT: Final = 2
# √WINDOW_VALUES_MAX: then copying the changes for each event costs as much as copying all values once in so many.
WINDOW_CHANGES_MAX: Final = 32
# Open holds of a group whose window is no count or sum: more questions about one thing nobody answers in 15 minutes.
# Each is ≤ 60 bytes and its values: ≤ 16 selections' numbers, so ≤ 9 KB, or ≤ 32 values of ≤ 66, so ≤ 140 KB.
WINDOW_HOLDS_MAX: Final = 64
# Values of which only events no longer kept may be inside, and events that lack the field: ≤ 90 bytes each.
WINDOW_DOUBTS_MAX: Final = 64
# Ordered, runs a prefix: so many open holds a step. A run is ≤ 16 events of ≤ 69 bytes and there are ≤ 16 prefixes: a
# group stays below 610 KB, with four selections below 46 KB.
WINDOW_RUNS_MAX: Final = WINDOW_HOLDS_MAX
GROUPS_PER_LANE_MAX: Final = 100_000  # of one window
# A lane's groups are spread over so many units: of small groups each is rewritten and read in some milliseconds (3,125
# with one event each: 9 and 44 ms), and the names of all fit one cold fetch beside the agent's own.
LANE_SHARDS: Final = 32
GROUPS_PER_UNIT_MAX: Final = GROUPS_PER_LANE_MAX // LANE_SHARDS
HOT_BYTES_MAX: Final = 1024 * MIB  # hot set of a worker
HOT_STORED_BYTES_MAX: Final = HOT_BYTES_MAX // 5  # as it is stored: decoded, a busy agent takes 4.3 times that
RETENTION_SLACK_MS: Final = 86_400_000  # PROTOCOL §2: + 24 h
TIMESPAN_MS_MAX_DEFAULT: Final = 86_400_000  # `topics.max_timespan`, default 24 h
