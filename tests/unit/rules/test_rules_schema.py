"""The JSON Schema of rule files: what loads fits it, and a mistake of shape fits neither it nor the checker."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness_stream.cli.main import app
from harness_stream.core.rules import inspect
from harness_stream.core.rules import language as words
from harness_stream.core.rules.mistakes import Code
from harness_stream.wire.rules_schema import rules_schema

ROOT = Path(__file__).parents[3]
EXAMPLES = [ROOT / "examples/rules/production.yaml", ROOT / "examples/agentdojo/rules.yaml"]
SCHEMA = rules_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

EVERYTHING = {
    "rule_set": "x",
    "default": "deny",
    "params": {"n": 5, "word": "a", "flag": True, "ratio": 0.5},
    "selections": {"mails": 'event.action == "email.send"', "reads": 'event.action == "crm.read"'},
    "rules": [
        {"id": "a", "effect": "approve", "when": "true", "obligations": {"redact": True, "rows": 5, "to": "x"}},
        {
            "id": "b",
            "effect": "deny",
            "mode": "shadow",
            "when": "mails",
            "because": "so",
            "severity": "high",
            "correlation": {"type": "temporal", "rules": ["reads"], "group-by": ["agent_id"], "timespan": "30m"},
        },
        {
            "id": "c",
            "effect": "hold",
            "when": "mails",
            "correlation": {
                "type": "value_sum",
                "rules": ["mails", "reads"],
                "timespan": "24h",
                "include": "attempts",
                "condition": {"field": "measures.rows", "gt": "params.n"},
            },
        },
        {
            "id": "d",
            "effect": "approve",
            "when": "mails",
            "correlation": {
                "type": "value_count",
                "rules": ["reads"],
                "timespan": "5s",
                "condition": {"field": "resource.uri", "eq": 1},
            },
        },
        {
            "id": "e",
            "effect": "deny",
            "when": "mails",
            "correlation": {"type": "event_count", "rules": ["reads"], "timespan": "1d", "condition": {"gte": 2.5}},
        },
    ],
}


def errors(document):
    """What the checker has against it; warnings are no matter of shape."""
    return [m for m in inspect(json.dumps(document))[1] if m.severity == "error"]


def test_the_schema_is_a_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_rule_file_fits(path):
    VALIDATOR.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_a_set_with_everything_fits_and_loads():
    VALIDATOR.validate(EVERYTHING)
    assert errors(EVERYTHING) == []


def test_every_key_and_word_of_the_language_is_in_it():
    text = json.dumps(SCHEMA)
    levels = (words.SET_KEYS, words.RULE_KEYS, words.WINDOW_KEYS, words.OPERATOR_WORDS)
    listed = (words.EFFECTS, words.MODES, words.SEVERITIES, words.WINDOW_TYPES, words.GROUP_PATHS)
    for word in (word for group in (*levels, *listed) for word in group):
        assert f'"{word}"' in text
    for meaning in (meaning for level in levels for meaning in level.values()):
        assert meaning in text


def places(node, path=()):
    """The path of every value below."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def at(document, path):
    for key in path:
        document = document[key]
    return document


PLACES = list(places(EVERYTHING))
FREE = {("params",), ("selections",), ("rules", 0, "obligations")}
FIXED = [p for p in ((), *PLACES) if isinstance(at(EVERYTHING, p), dict) and p not in FREE]
WRONG = [None, [], {}, ["x"], {"x": 1}, 7, -1, "", "no such word", True]
SHAPE = {
    Code.UNKNOWN_KEY,
    Code.MISSING_KEY,
    Code.WRONG_TYPE,
    Code.UNKNOWN_WORD,
    Code.BAD_NAME,
    Code.BAD_VALUE,
    Code.BAD_PATH,
    Code.LISTED_TWICE,
    Code.WINDOW_CONDITION,
    Code.NEGATIVE_COUNT,
    Code.EQ_LETS_THROUGH,
}


def agree(document):
    """What loads fits; what has a mistake of shape does not."""
    found = errors(document)
    if not found:
        assert VALIDATOR.is_valid(document)
    if SHAPE & {m.code for m in found}:
        assert not VALIDATOR.is_valid(document), found


@given(st.sampled_from(FIXED), st.text("abcdefghijklmnopqrstuvwxyz_-", min_size=1, max_size=12))
def test_an_unknown_key_fits_neither(path, key):
    document = copy.deepcopy(EVERYTHING)
    target = at(document, path)
    known = {*words.SET_KEYS, *words.RULE_KEYS, *words.WINDOW_KEYS, *words.OPERATORS, words.FIELD_KEY}
    target[key if key not in known else f"{key}x"] = 1
    assert errors(document)
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize("path", PLACES, ids=str)
def test_a_required_key_that_is_missing_fits_neither(path):
    document = copy.deepcopy(EVERYTHING)
    del at(document, path[:-1])[path[-1]]
    agree(document)


@given(st.sampled_from([p for p in PLACES if p[0] != "params"]), st.sampled_from(WRONG))
def test_a_value_of_the_wrong_shape_fits_neither(path, value):
    document = copy.deepcopy(EVERYTHING)
    at(document, path[:-1])[path[-1]] = value
    agree(document)


@pytest.mark.parametrize("value", WRONG, ids=str)
def test_a_parameter_is_one_value(value):
    agree({**EVERYTHING, "params": {**EVERYTHING["params"], "word": value}})


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (1, {"obligations": {"a": 1}}),
        (1, {"effect": "approves"}),
        (1, {"mode": "off"}),
        (1, {"severity": "bad"}),
        (1, {"id": "a b"}),
        (1, {"because": "x" * 257}),
        (3, {"effect": "deny"}),
    ],
)
def test_a_rule_that_says_what_it_may_not_fits_neither(index, change):
    document = copy.deepcopy(EVERYTHING)
    document["rules"][index] |= change
    assert errors(document)
    assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize(
    "window",
    [
        {"type": "temporal", "condition": {"gt": 1}},
        {"type": "event_count"},
        {"type": "event_count", "condition": {"gt": 1, "field": "action"}},
        {"type": "value_sum", "condition": {"gt": 1}},
        {"type": "value_sum", "condition": {"gt": 1, "field": "action"}},
        {"type": "value_count", "condition": {"gt": 1}},
        {"type": "value_count", "condition": {"gt": 1, "field": "labels"}},
        {"type": "event_count", "condition": {"gt": 1, "lt": 5}},
        {"type": "event_count", "condition": {}},
        {"type": "event_count", "condition": {"gt": -1}},
        {"type": "event_count", "condition": {"gt": "n"}},
        {"type": "event_count", "condition": {"eq": 1}},
        {"type": "temporal", "rules": []},
        {"type": "temporal", "rules": ["reads", "reads"]},
        {"type": "temporal", "group-by": ["region"]},
        {"type": "temporal", "timespan": "1w"},
        {"type": "temporal", "timespan": 5},
        {"type": "temporal", "include": "all"},
        {"type": "temporl"},
    ],
)
def test_a_window_that_says_what_it_may_not_fits_neither(window):
    document = copy.deepcopy(EVERYTHING)
    document["rules"][1]["correlation"] = {"rules": ["reads"], "timespan": "1m", **window}
    assert errors(document)
    assert not VALIDATOR.is_valid(document)


def test_the_command_prints_it_and_the_example_names_it():
    printed = CliRunner().invoke(app, ["rules", "schema"]).stdout
    assert json.loads(printed) == SCHEMA
    assert (ROOT / "schemas/rules.schema.json").read_text(encoding="utf-8") == printed
    first = EXAMPLES[0].read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=../../schemas/rules.schema.json"
