"""Which actions a condition can hold for: certain, or any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.rules.cel import Parser
from harness_stream.core.rules.cost import Cost
from harness_stream.core.rules.expression import Expression
from harness_stream.core.rules.index import ActionIndex, Actions, actions_of, asks_action_only, constantly_true

PARSER = Parser()


def expression(text, *, loops=False):
    return Expression(text, PARSER.tree(text), frozenset(), {}, loops, Cost(1, 1, 0))


SELECTIONS = {
    "exports": expression('event.action in ["crm.export", "files.export"]'),
    "crm": expression('event.action.startsWith("crm.") && event.purpose == ""'),
    "anything": expression("true"),
    "loops": expression("event.labels.exists(x, x == event.action)", loops=True),
}


def exact(*names):
    return Actions(frozenset(names))


def prefixes(*names):
    return Actions(prefixes=frozenset(names))


@pytest.mark.parametrize(
    ("condition", "actions"),
    [
        ('intent.action == "a"', exact("a")),
        ('"a" == event.action', exact("a")),
        ('intent.action in ["a", "b"]', exact("a", "b")),
        ("intent.action in []", exact()),
        ('intent.action.startsWith("crm.")', prefixes("crm.")),
        ("false", exact()),
        ("exports", exact("crm.export", "files.export")),
        ("crm && risk.score > 1", prefixes("crm.")),
        # one side of && is enough, wherever it stands and whatever the others do
        ('risk.score > 1 && (intent.action == "a" && chain.events > 0)', exact("a")),
        ('intent.action in ["a", "b"] && intent.action == "a"', exact("a")),
        ('intent.action.startsWith("crm.") && intent.action == "crm.read"', exact("crm.read")),
        # both sides of || are needed
        ('intent.action == "a" || event.action.startsWith("b")', Actions(frozenset({"a"}), frozenset({"b"}))),
        ('intent.action == "a" && risk.present || exports', exact("a", "crm.export", "files.export")),
        # a loop's budget is an error that && does not hide: only its left counts
        ('intent.action == "a" && intent.labels.exists(x, x == "y")', exact("a")),
        ('intent.action == "a" && loops', exact("a")),
    ],
)
def test_these_are_certainly_false_for_other_actions(condition, actions):
    assert actions_of(PARSER.tree(condition), SELECTIONS) == actions


@pytest.mark.parametrize(
    "condition",
    [
        "true",
        "anything",
        "risk.present",
        'intent.action != "a"',
        '!(intent.action == "a")',
        'intent.action == "a" || risk.present',
        'intent.action == "a" ? risk.present : false',
        'intent.purpose == "a"',
        'intent.resource.action == "a"',
        'other.action == "a"',
        'args.action == "a"',
        "intent.action == params.word",
        'intent.action in ["a", params.word]',
        'intent.action in ["a", 1]',
        'intent.action in {"a": 1}',
        '"a" in [intent.action]',
        "intent.action in identity.actions",
        'intent.action.endsWith("a")',
        'intent.action.matches("^a$")',
        '"abc".startsWith(intent.action)',
        'intent.labels.exists(x, intent.action == "a")',
        'intent.labels.exists(x, x == "y") && intent.action == "a"',
        'loops && intent.action == "a"',
        '(risk.present || loops) && intent.action == "a"',
    ],
)
def test_these_may_hold_or_err_for_any_action(condition):
    assert actions_of(PARSER.tree(condition), SELECTIONS) is None


@pytest.mark.parametrize(
    ("condition", "only"),
    [
        ('"a" == event.action', True),
        ('intent.action in ["a"] || intent.action.startsWith("b")', True),
        ('intent.action == "a" || intent.action == "b" && risk.present', False),
        ('intent.action == "a" && intent.action == "a"', False),
        ('intent.action == "a" || risk.present', False),
        ("false", False),
        ('intent.purpose == "a"', False),
    ],
)
def test_these_ask_for_the_action_and_for_nothing_else(condition, only):
    assert asks_action_only(PARSER.tree(condition)) is only


@pytest.mark.parametrize(
    ("condition", "constant"), [("true", True), ("anything", True), ("false", False), ("crm", False)]
)
def test_a_condition_that_says_true_need_not_be_asked(condition, constant):
    assert constantly_true(PARSER.tree(condition), SELECTIONS) is constant


WORDS = st.text("ab.", max_size=4)
SETS = st.builds(Actions, st.frozensets(WORDS, max_size=3), st.frozensets(WORDS, max_size=3))


@given(st.lists(SETS, max_size=6), WORDS)
def test_an_action_meets_those_whose_actions_it_is_among(sets, action):
    index = ActionIndex(sets)
    met = index.met(action)
    assert met == tuple(position for position, actions in enumerate(sets) if action in actions)
    assert met == () or met in index.distinct(100)
