"""The JSON Schema of a rule file: what an editor needs to complete it and to mark mistakes of shape.

Rule of this file: every key, word, pattern and limit comes from `core.rules.language`; here stands only how they nest.
What a shape cannot say (names, types and guards in conditions, ids, retention) is left to `harness rules check`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness_stream.core.rules import language as words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

STEM: Final = "rules"
# What the YAML extensions of editors implement.
DIALECT: Final = "http://json-schema.org/draft-07/schema#"

Schema = dict[str, Any]


def rules_schema() -> Schema:
    """The schema of one rule set."""
    properties = {
        "rule_set": _name(),
        "default": {"const": "deny"},
        "params": _names(words.RESERVED, _SCALAR, words.PARAMS_MAX),
        "selections": _names(words.SELECTION_RESERVED, _ref("expression"), words.SELECTIONS_MAX),
        "rules": {"type": "array", "items": _ref("rule"), "maxItems": words.RULES_MAX},
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:harness-stream:schema:{STEM}",
        "title": "Rule set",
        **_object(words.SET_KEYS, properties, words.SET_REQUIRED),
        "definitions": {
            "expression": _expression(),
            "rule": _rule(),
            "correlation": _correlation(),
            "condition": _condition(),
            "path": {"enum": sorted(words.GROUP_PATHS)},
        },
    }


def _rule() -> Schema:
    properties = {
        "id": _name(),
        "effect": {"enum": list(words.EFFECTS)},
        "when": _ref("expression"),
        "mode": {"enum": list(words.MODES)},
        "because": {"type": "string", "maxLength": words.BECAUSE_CHARS_MAX},
        "severity": {"enum": list(words.SEVERITIES)},
        "correlation": _ref("correlation"),
        "obligations": {
            "type": "object",
            "maxProperties": words.OBLIGATIONS_MAX,
            "propertyNames": {"maxLength": words.NAME_CHARS_MAX},
            "additionalProperties": {
                "anyOf": [
                    {**_SCALAR, "maxLength": words.OBLIGATION_CHARS_MAX},
                    {"type": "array", "items": {**_SCALAR, "maxLength": words.OBLIGATION_CHARS_MAX}},
                ]
            },
        },
    }
    approves = {"properties": {"effect": {"const": "approve"}}}
    counts_exactly = {"properties": {"condition": {"required": ["eq"]}}, "required": ["condition"]}
    return {
        **_object(words.RULE_KEYS, properties, words.RULE_REQUIRED),
        "if": approves,
        "else": {"not": {"anyOf": [{"required": ["obligations"]}, _has("correlation", counts_exactly)]}},
    }


def _correlation() -> Schema:
    properties = {
        "type": {"enum": list(words.WINDOW_TYPES), "description": _listed(words.WINDOW_WORDS)},
        "rules": _list({"type": "string", "minLength": 1}, words.WINDOW_SELECTIONS_MAX) | {"minItems": 1},
        "group-by": _list(_ref("path"), words.GROUP_BY_MAX),
        "timespan": {"type": "string", "pattern": words.TIMESPAN_PATTERN, "examples": ["30s", "5m", "24h"]},
        "include": {"const": "attempts"},
        "condition": _ref("condition"),
    }
    counting = {"properties": {"type": {"enum": list(words.COUNTING)}}}
    events = {"properties": {"type": {"const": "event_count"}}}
    field = {"required": [words.FIELD_KEY]}
    measured = {"properties": {words.FIELD_KEY: {"pattern": _MEASURE}}}
    return {
        **_object(words.WINDOW_KEYS, properties, words.WINDOW_REQUIRED),
        "allOf": [
            {"if": counting, "then": {"required": ["condition"]}, "else": {"not": {"required": ["condition"]}}},
            {"if": {"allOf": [counting, {"not": events}]}, "then": {"properties": {"condition": field}}},
            {"if": events, "then": {"properties": {"condition": {"not": field}}}},
            {
                "if": {"properties": {"type": {"const": "value_sum"}}},
                "then": {"properties": {"condition": measured}},
            },
        ],
    }


def _condition() -> Schema:
    threshold = {
        "anyOf": [
            {"type": "number", "minimum": 0, "maximum": words.INTEGER_MAX},
            {"type": "string", "pattern": _PARAM},
        ]
    }
    field = {"anyOf": [_ref("path"), {"type": "string", "pattern": _MEASURE}]}
    keys = {**words.OPERATOR_WORDS, words.FIELD_KEY: words.FIELD_WORDS}
    properties = dict.fromkeys(words.OPERATORS, threshold) | {words.FIELD_KEY: field}
    one = [{"required": [operator]} for operator in words.OPERATORS]
    return {**_object(keys, properties, ()), "oneOf": one}


def _expression() -> Schema:
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": words.EXPRESSION_CHARS_MAX,
        "description": f"A CEL condition. It may read {', '.join(sorted(words.FIELDS))}, and params by name.",
        "examples": ["intent.action in identity.actions", 'event.action.startsWith("crm.")'],
    }


# --- Parts ------------------------------------------------------------------------------------------------------------

_SCALAR: Final[Mapping[str, Any]] = {"type": ["string", "number", "boolean"]}
_MEASURE: Final = f"^{words.MEASURE_PREFIX.replace('.', '[.]')}{words.IDENTIFIER_PATTERN[1:]}"
_PARAM: Final = f"^{words.PARAM_PREFIX.replace('.', '[.]')}{words.IDENTIFIER_PATTERN[1:]}"


def _object(keys: Mapping[str, str], properties: Mapping[str, Schema], required: Iterable[str]) -> Schema:
    """A mapping with exactly these keys; a property's own description explains its words, the key's what it is for."""
    described = {}
    for key, purpose in keys.items():
        inner = properties[key]
        text = f"{purpose} {inner['description']}" if "description" in inner else purpose
        # Next to a reference this dialect reads nothing, so the reference stands inside.
        described[key] = {"allOf": [inner], "description": text} if "$ref" in inner else inner | {"description": text}
    return {"type": "object", "properties": described, "required": list(required), "additionalProperties": False}


def _names(taken: Iterable[str], values: Mapping[str, Any], most: int) -> Schema:
    pattern, longest = words.IDENTIFIER_PATTERN, words.NAME_CHARS_MAX
    usable = {"pattern": pattern, "maxLength": longest, "not": {"enum": sorted(taken)}}
    return {"type": "object", "propertyNames": usable, "additionalProperties": values, "maxProperties": most}


def _name() -> Schema:
    return {"type": "string", "pattern": words.NAME_PATTERN, "maxLength": words.NAME_CHARS_MAX}


def _list(items: Schema, most: int) -> Schema:
    return {"type": "array", "items": items, "maxItems": most, "uniqueItems": True}


def _ref(definition: str) -> Schema:
    return {"$ref": f"#/definitions/{definition}"}


def _has(key: str, inner: Schema) -> Schema:
    return {"required": [key], "properties": {key: inner}}


def _listed(meanings: Mapping[str, str]) -> str:
    return "; ".join(f"{word}: {meaning}" for word, meaning in meanings.items()) + "."
