"""The words of a cases file: its keys, what they say, and its limits.

Rule: everything an author of cases may write stands in a table here; what the tables do not list is a mistake. Events
are written in the words of `harness intents send` (`agent`, `chain`, `workload`), everything else as their schemas do.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from harness_stream.core.reasons import Deny, Refuse, Reject

if TYPE_CHECKING:
    from collections.abc import Mapping

# --- Limits -----------------------------------------------------------------------------------------------------------

# Four rule sets' worth; PyYAML composes 1 MiB in two seconds.
TEXT_BYTES_MAX: Final = 1024 * 1024
CASES_MAX: Final = 1_000
GIVEN_MAX: Final = 1_000
# Enough for any bound of a window (1,024 values); a longer history is a file for `harness replay`.
EVENTS_MAX: Final = 10_000
NAME_CHARS_MAX: Final = 200

# --- Keys -------------------------------------------------------------------------------------------------------------

FILE_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rules": "The rule set, relative to this file.",
        "params": "Parameters of every case; like `--set`.",
        "tables": "Rows of every case: a folder relative to this file, rows by table, or a list of both.",
        "now": "When the judged event happens: RFC 3339 in UTC, in quotes, or epoch ms.",
        "cases": "The cases.",
    }
)
FILE_REQUIRED: Final = ("rules", "cases")
CASE_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "name": "What the case is about, in one line.",
        "params": "Parameters of this case, over those of the file.",
        "tables": "Rows of this case, over those of the file.",
        "now": "When the judged event happens in this case.",
        "given": "What happened before, in any order; each with its time before now.",
        "when": "The event that is judged, now.",
        "then": "What has to come out: a decision, or a mapping.",
    }
)
CASE_REQUIRED: Final = ("name", "when", "then")
THEN_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "decision": "approve, deny or hold; of a mandate, outcome or unanswerable approval accepted or refused.",
        "rules": "Rules that must be among those that decided.",
        "not_rules": "Rules that must not have fired, neither enforced nor in shadow.",
        "shadow": "Rules in shadow mode that must have fired.",
        "evidence": "Exactly these entries of `given`, by their index from 0, made the rules fire.",
        "evidence_count": "How many events the rules' windows counted, the judged one included.",
        "unknown": "Whether a rule fired only because its window could not be settled.",
        "obligations": "Exactly what the approve asks of the enforcement point.",
        "reasons": "Words of the engine that must be among the reasons, such as `unknown_agent`.",
    }
)
DECISIONS: Final = ("approve", "deny", "hold", "accepted", "refused", "rejected")
REASONS: Final = tuple(dict.fromkeys(str(word) for words in (Deny, Refuse, Reject) for word in words))

# --- Events -----------------------------------------------------------------------------------------------------------

INTENT: Final = "intent"
TABLE: Final = "table"
# Keys of an event by its type → the field of its schema; an empty one is not a field and is worked out.
FIELDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        INTENT: {
            "agent": "agent_id",
            "action": "action",
            "resources": "resources",
            "chain": "chain_id",
            "workload": "workload_id",
            "by": "by",
            "parent": "",
            "arguments": "arguments",
            "unparsed": "unparsed",
            "measures": "measures",
            "labels": "labels",
            "purpose": "purpose",
        },
        "mandate": {
            "agent": "agent_id",
            "by": "by",
            "chain": "chain_id",
            "expires": "",
            "close": "close",
            "goal_digest": "goal_digest",
            "action_classes": "action_classes",
            "values": "values",
            "phrases": "phrases",
            "delegates_to": "delegates_to",
        },
        "outcome": {
            "agent": "agent_id",
            "by": "by",
            "of": "",
            "status": "status",
            "measures": "measures",
            "records": "records",
            "overflow": "overflow",
            "truncated": "truncated",
        },
        "approval": {
            "agent": "agent_id",
            "by": "by",
            "of": "",
            "decision": "decision",
            "reason": "reason",
            "scope": "scope",
            "values": "values",
            "declassify": "declassify",
        },
        TABLE: {"table": "table", "key": "key", "row": "row"},
    }
)
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        INTENT: ("agent", "action"),
        "mandate": ("agent", "chain"),
        "outcome": ("agent", "status"),
        "approval": ("agent", "by", "decision"),
        TABLE: ("table",),
    }
)
TYPE: Final = "type"
AT, THEN, REPEAT = "at", "then", "repeat"
GIVEN_KEYS: Final = (AT, THEN, REPEAT)
REPEAT_KEYS: Final = ("times", "every")
# Stands in the texts of a repeated event for its number, from 1.
NUMBER_MARK: Final = "{n}"

# --- Time -------------------------------------------------------------------------------------------------------------

# 2026-01-01T12:00:00Z: any time would do, as long as it is always the same.
NOW_MS_DEFAULT: Final = 1_767_268_800_000
AT_MS_DEFAULT: Final = -1_000
EXPIRES_MS_DEFAULT: Final = 24 * 3_600_000
UNITS_MS: Final[Mapping[str, int]] = MappingProxyType(
    {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
)
