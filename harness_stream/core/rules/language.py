"""The words of the rule language: variables, fields, types, functions and limits.

Rule: everything a rule author may write stands in a table here. What the tables do not list is a mistake.
A field's type is what the checker assumes; at run time values arrive in nested maps without types (DESIGN §9).
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from harness_stream.core.provenance import NO_LINKS
from harness_stream.core.provenance import WORDS as ORIGINS

if TYPE_CHECKING:
    from collections.abc import Mapping

Scalar = str | int | float | bool
Obligation = Scalar | tuple[Scalar, ...]
"""What an approve asks, such as `max_rows: 100` or `mask: [email, phone]`."""


class Kind(Enum):
    """What a field holds."""

    STRING = "string"
    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRINGS = "list of strings"
    MEASURES = "named numbers"
    ARGS = "named arguments"


# --- Limits -----------------------------------------------------------------------------------------------------------

# A bundle travels as one record of `harness.rules`; 256 KiB is the largest record any topic of ours takes.
TEXT_BYTES_MAX: Final = 256 * 1024
# What a person can still oversee; what they may cost together is bounded below.
RULES_MAX: Final = 1_000
SELECTIONS_MAX: Final = 1_000
# CEL compiles 1,500 characters in well under a millisecond and stays far from its own limits (DESIGN §9).
EXPRESSION_CHARS_MAX: Final = 1_500
# A literal list is searched from its start for every intent.
LITERAL_ELEMENTS_MAX: Final = 64
# RE2 is linear in text times pattern, once repetition is unfolded: 20 characters may stand for 20,000 (`patterns.py`).
PATTERN_CHARS_MAX: Final = 200
# Unfolded instructions; compiling so many takes half a millisecond, at every match. One class of letters has 5,000.
PATTERN_UNITS_MAX: Final = 1_000
# CEL ends an evaluation that made so many passes through loops; fixed in the library.
LOOP_STEPS_RUNTIME: Final = 10_000
# Half of it, so that no legal event spends it, alone or in a mask.
LOOP_STEPS_MAX: Final = 5_000
# A step is about 25 ns (`cost.py`): 2.5 ms for the dearest condition on the largest event.
CONDITION_STEPS_MAX: Final = 100_000
# 0.1 s for all conditions, or all selections, on the largest intent of 32 resources. An error in each makes it three
# times as much (`masks.py`), which is still less than what makes a table view stale (PROTOCOL §8).
INTENT_STEPS_MAX: Final = 4_000_000
# Nodes of all syntax trees, selections put in: forty a rule. Loading takes 25 µs and 1 KB a node.
TREE_NODES_MAX: Final = 40_000
# The CEL parser's own recursion limit; not ours to raise.
NESTING_MAX: Final = 32
# Default of `topics.max_timespan`: longer windows could not be rebuilt from the log (PROTOCOL §2).
TIMESPAN_MS_MAX: Final = 24 * 3_600_000
# For whoever reads what is in force, or was: it was checked against that realm's setting when it came to be.
TIMESPAN_MS_ANY: Final = 2**53
# Names and texts of a rule travel in every verdict it decides, and a verdict is ≤ 16 KiB (PROTOCOL §3).
NAME_CHARS_MAX: Final = 64
BECAUSE_CHARS_MAX: Final = 256
OBLIGATIONS_MAX: Final = 16
OBLIGATION_CHARS_MAX: Final = 256
PARAMS_MAX: Final = 256
# A window keeps one timestamp a selection and group (DESIGN §5); 16 selections keep that under 256 bytes.
WINDOW_SELECTIONS_MAX: Final = 16
GROUP_BY_MAX: Final = 8
# Integers above this lose their last digits in any other reader of the JSON (RFC 8785).
INTEGER_MAX: Final = 2**53 - 1
# CEL's whole numbers have 64 bits; arithmetic that leaves them is an error.
WHOLE_MAX: Final = 2**63 - 1

# --- Words ------------------------------------------------------------------------------------------------------------

# Each mapping is a level of a rule file: key → what it says. Checker, JSON Schema and editors have them from here.
SET_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "rule_set": "The set's name; a realm decides by the set it is configured for.",
        "default": "Always `deny`: what no rule approves is denied.",
        "params": "The knobs: names with a number, a text, true or false. `--set NAME=VALUE` replaces a value.",
        "selections": "Named conditions on one event of the history, or on the intent that is being judged.",
        "rules": "The rules. Their order never matters: deny wins over hold, hold over approve.",
    }
)
SET_REQUIRED: Final = ("rule_set", "default", "rules")
RULE_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "id": "Unique in the set; verdicts name the rule by it.",
        "effect": "What the rule says when it fires: approve, deny, or hold (a person has to answer).",
        "when": "Condition on the intent, in CEL. It holds if it does for any resource; for an approve, for all.",
        "mode": "`enforce` (default), or `shadow`: recorded in the verdict, not enforced.",
        "because": "One line for the agent's owner; the verdict carries it.",
        "severity": "How bad it is when the rule fires; `medium` by default.",
        "correlation": "A window over the history: the rule fires only if its condition holds as well.",
        "obligations": "What an approve asks of the enforcement point: names with one value, or a list of them.",
    }
)
RULE_REQUIRED: Final = ("id", "effect", "when")
WINDOW_KEYS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "type": "What the window looks for, in Sigma correlation's words.",
        "rules": "Selections whose matches it sees. The intent that is being judged is one of them if it matches.",
        "group-by": "Paths of the event that must be equal, without prefix; left out, the whole lane is one group.",
        "timespan": "How far it looks back, both ends included: a whole number with s, m, h or d.",
        "include": "`attempts`: denied events count as well.",
        "condition": "One comparison of what was counted; of event_count, value_count and value_sum.",
    }
)
WINDOW_REQUIRED: Final = ("type", "rules", "timespan")
OPERATOR_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "gt": "more than",
        "gte": "at least",
        "lt": "less than",
        "lte": "at most",
        "eq": "exactly",
        "neq": "any number but",
    }
)
OPERATORS: Final = tuple(OPERATOR_WORDS)
FIELD_KEY: Final = "field"
CONDITION_KEYS: Final = (FIELD_KEY, *OPERATORS)
FIELD_WORDS: Final = "What is counted or summed: a path of the event without prefix, such as `measures.rows`."

EFFECTS: Final = ("approve", "deny", "hold")
MODES: Final = ("enforce", "shadow")
SEVERITIES: Final = ("informational", "low", "medium", "high", "critical")
WINDOW_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "event_count": "how many events matched",
        "value_count": "how many different values of a field the matches had",
        "value_sum": "the sum of a measure over the matches",
        "temporal": "each listed selection was matched",
        "temporal_ordered": "each listed selection was matched, in that order",
        "absent": "none of the listed selections was matched",
    }
)
WINDOW_TYPES: Final = tuple(WINDOW_WORDS)
COUNTING: Final = ("event_count", "value_count", "value_sum")
TIMESPAN_UNITS_MS: Final[Mapping[str, int]] = MappingProxyType(
    {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
)

# Regular expressions that Python and JSON Schema (ECMA 262) read alike; each matches a whole text.
IDENTIFIER_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_]*$"
NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
TIMESPAN_PATTERN: Final = r"^([1-9][0-9]{0,8})([smhd])$"
MEASURE_PREFIX: Final = "measures."
PARAM_PREFIX: Final = "params."

# --- Variables --------------------------------------------------------------------------------------------------------

_EVENT: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "agent_id": Kind.STRING,
        "owner": Kind.STRING,
        "tenant": Kind.STRING,
        "roles": Kind.STRINGS,
        "chain_id": Kind.STRING,
        "parent": Kind.STRING,
        "kind": Kind.STRING,
        "action": Kind.STRING,
        "operation": Kind.STRING,
        "object_class": Kind.STRING,
        "resource.uri": Kind.STRING,
        "resource.system": Kind.STRING,
        "resource.zone": Kind.STRING,
        "resource.labels": Kind.STRINGS,
        "resource.sensitivity": Kind.STRING,
        "resource.owner": Kind.STRING,
        "measures": Kind.MEASURES,
        "labels": Kind.STRINGS,
        "purpose": Kind.STRING,
        "environment": Kind.STRING,
        "decision": Kind.STRING,
        "by": Kind.STRING,
        "t": Kind.INT,
    }
)

_TABLES: Final[Mapping[str, Mapping[str, Kind]]] = MappingProxyType(
    {
        "identity": {
            "present": Kind.BOOL,
            "agent_id": Kind.STRING,
            "owner": Kind.STRING,
            "tenant": Kind.STRING,
            "lane": Kind.STRING,
            "roles": Kind.STRINGS,
            "actions": Kind.STRINGS,
            "workloads": Kind.STRINGS,
            "status": Kind.STRING,
            "delegates": Kind.STRINGS,
            "delegated_only": Kind.BOOL,
        },
        "infrastructure": {
            "present": Kind.BOOL,
            "workload_id": Kind.STRING,
            "environment": Kind.STRING,
            "region": Kind.STRING,
            "attested": Kind.BOOL,
            "zone": Kind.STRING,
        },
        "risk": {"present": Kind.BOOL, "score": Kind.DOUBLE, "level": Kind.STRING, "reasons": Kind.STRINGS},
        "mandate": {
            "present": Kind.BOOL,
            "declared_by": Kind.STRING,
            "goal_digest": Kind.STRING,
            "expires_at": Kind.INT,
        },
    }
)

TABLES: Final = tuple(_TABLES)
# An absent identity is denied before any rule runs, so only these need a guard.
GUARDED_TABLES: Final = frozenset({"infrastructure", "risk", "mandate"})
ROOTS: Final = frozenset({"event", "intent", *TABLES, "chain", "args", "params"})
SELECTION_ROOTS: Final = frozenset({"event", "params"})
ARGUMENT_KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "role": Kind.STRING,
        "exact": Kind.BOOL,
        "values": Kind.STRINGS,
        "origin": Kind.STRING,
        "links": Kind.STRING,
    }
)
ARGUMENT_FIELDS: Final = tuple(ARGUMENT_KINDS)
# CEL's maps have values of one type: for its type checker these names stand in for an argument's fields. They are
# shorter than what they stand for (`args.x.role`), so that everything keeps its place.
STAND_INS: Final[Mapping[Kind, str]] = MappingProxyType(
    {Kind.STRING: "__text", Kind.BOOL: "__flag", Kind.STRINGS: "__texts"}
)


# Fields that hold one of a few words; what else is compared with them never matches.
DECISIONS: Final = ("approve", "deny", "hold")
# An intent reads as approved while it is judged; a window without `include: attempts` holds nothing that was denied.
DECISIONS_JUDGED: Final = frozenset({"approve"})
DECISIONS_COUNTED: Final = frozenset({"approve", "hold"})
_EVENT_WORDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({"decision": DECISIONS, "kind": ("intent",)})
FIELD_VALUES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {f"{root}.{name}": words for root in ("event", "intent") for name, words in _EVENT_WORDS.items()}
    | {
        "identity.status": ("active", "suspended", "killed"),
        "mandate.declared_by": ("orchestrator", "agent"),
    }
)
ARGUMENT_VALUES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "role": ("destination", "object", "secret", "content", "other"),
        "origin": ORIGINS,
        "links": (*ORIGINS, NO_LINKS),
    }
)


def _fields() -> Mapping[str, Kind]:
    roots: dict[str, Mapping[str, Kind]] = {"event": _EVENT, "intent": _EVENT, **_TABLES}
    flat = {f"{root}.{name}": kind for root, fields in roots.items() for name, kind in fields.items()}
    return MappingProxyType(
        flat | {"chain.labels": Kind.STRINGS, "chain.events": Kind.INT, "args": Kind.ARGS},
    )


# Every dotted name with its type, without `params`, which each rule set brings along.
FIELDS: Final = _fields()


def param_kind(value: Scalar) -> Kind:
    """The type of a parameter follows from its value."""
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int):
        return Kind.INT
    return Kind.DOUBLE if isinstance(value, float) else Kind.STRING


# --- Paths of windows -------------------------------------------------------------------------------------------------

# What a window may be grouped or counted by: one text per event. Histories never leave their lane: no group is wider.
GROUP_PATHS: Final = frozenset(name for name, kind in _EVENT.items() if kind is Kind.STRING)
# Words people reach for that would mean histories of several lanes in one place (PROTOCOL §1).
WIDER_THAN_LANE: Final = frozenset(
    {"realm", "partition", "region", "deployment", "organization", "organisation", "global", "all"}
)

# --- Tables behind a name ---------------------------------------------------------------------------------------------

# Joined values of an event come from these rows; a rule that reads one needs that table fresh (PROTOCOL §8).
_JOINED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "owner": "identity",
        "tenant": "identity",
        "roles": "identity",
        "environment": "infrastructure",
        "labels": "classification",
        "operation": "classification",
        "object_class": "classification",
        "resource.labels": "classification",
        "resource.sensitivity": "classification",
        "resource.zone": "classification",
        "resource.owner": "classification",
    }
)
FRESH_TABLES: Final = ("identity", "infrastructure", "risk", "classification")


def table_of(path: str) -> str | None:
    """The compacted table a dotted name is read from, if any; `mandate` comes from the log, not from a table."""
    root, _, rest = path.partition(".")
    if root in FRESH_TABLES:
        return root
    if path in {"chain.labels", "args"}:  # a tool's row says what its arguments steer
        return "classification"
    return _JOINED.get(rest) if root in {"event", "intent"} else None


# --- Functions --------------------------------------------------------------------------------------------------------

OPERATOR_SIGNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "_&&_": "&&",
        "_||_": "||",
        "!_": "!",
        "_==_": "==",
        "_!=_": "!=",
        "_<_": "<",
        "_<=_": "<=",
        "_>_": ">",
        "_>=_": ">=",
        "_+_": "+",
        "_-_": "-",
        "_*_": "*",
        "_/_": "/",
        "_%_": "%",
        "-_": "-",
        "_?_:_": "? :",
        "_[_]": "[ ]",
        "@in": "in",
    }
)
COMPARISONS: Final = frozenset({"_==_", "_!=_", "_<_", "_<=_", "_>_", "_>=_"})
ARITHMETIC: Final = frozenset({"_+_", "_-_", "_*_"})
DIVISIONS: Final = frozenset({"_/_", "_%_"})
CONVERSIONS: Final = frozenset({"bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "uint"})
PREDICATES: Final = frozenset({"contains", "endsWith", "matches", "size", "startsWith", "type"})
MACROS: Final = frozenset({"all", "exists", "exists_one", "filter", "has", "map"})
# Names of types are values in CEL (`type(x) == string`).
TYPE_NAMES: Final = frozenset({"bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint"})
# Not usable as names of selections or parameters: CEL's own words and its reserved ones.
RESERVED: Final = frozenset(
    {"as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let", "loop"}
    | {"namespace", "null", "package", "return", "true", "var", "void", "while"}
)
SELECTION_RESERVED: Final = RESERVED | ROOTS | TYPE_NAMES | set(STAND_INS.values())
# What other languages write, and CEL's word for it.
FOREIGN_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "and": "&&",
        "AND": "&&",
        "or": "||",
        "OR": "||",
        "not": "!",
        "NOT": "!",
        "=": "==",
        "&": "&&",
        "|": "||",
        "<>": "!=",
    }
)
