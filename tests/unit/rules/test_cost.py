"""What a condition may cost is told before it runs, and what could stall a worker does not load.

How true the estimates are depends on the machine: `benchmarks/rules.py --worst` prints them beside what they stand for.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.core.rules import inspect
from harness_stream.core.rules.cel import Parser, Runtime, outcome
from harness_stream.core.rules.cost import cost_of, shapes_of
from harness_stream.core.rules.language import (
    CONDITION_STEPS_MAX,
    INTEGER_MAX,
    INTENT_STEPS_MAX,
    LOOP_STEPS_MAX,
    PATTERN_UNITS_MAX,
    RULES_MAX,
    TREE_NODES_MAX,
)
from harness_stream.core.rules.patterns import pattern_of

PARSER = Parser()


def cost(condition, **params):
    return cost_of(PARSER.tree(condition), shapes_of(params), {})


def mistakes_of(conditions, selections=None, params=None):
    rules = [{"id": f"r{i}", "effect": "approve", "when": when} for i, when in enumerate(conditions)]
    document = {"rule_set": "x", "default": "deny", "rules": rules}
    document |= {"selections": selections or {}, "params": params or {}}
    program, mistakes = inspect(json.dumps(document))
    assert (program is None) == any(m.severity == "error" for m in mistakes)
    return [m.message for m in mistakes if m.severity == "error"]


# --- one condition ---


@pytest.mark.parametrize(
    ("cheaper", "dearer"),
    [
        ('intent.action == "a"', 'intent.action == "a" && intent.purpose == "b"'),
        ('"a" in intent.roles', '"a" in identity.actions'),
        ("identity.roles.exists(x, x == 'a')", "identity.actions.exists(x, x == 'a')"),
        ("identity.actions.exists(x, x == 'a')", "identity.actions.exists(x, x == 'a' && x != 'b')"),
        ("identity.actions.exists(x, x == 'a')", "identity.actions.filter(x, x == 'a') == []"),
        ("identity.workloads.map(x, x) == []", "identity.actions.map(x, x) == []"),
        ('intent.action.contains("a")', 'intent.resource.uri.contains("a")'),
        ("identity.roles == intent.roles", "identity.actions == identity.actions"),
        ('intent.action.matches("^a[bc]$")', 'intent.action.matches("a[bc]{9}")'),
        ('intent.action.matches("a[bc]{9}")', 'intent.resource.uri.matches("a[bc]{9}")'),
        ("params.short.contains('a')", "params.long.contains('a')"),
    ],
)
def test_more_to_do_costs_more(cheaper, dearer):
    params = {"short": "a", "long": "a" * 10_000}
    assert cost(cheaper, **params).steps < cost(dearer, **params).steps


def test_what_a_condition_makes_is_as_large_as_it_can_get():
    """Lists and texts that grow inside of a condition are followed through names, loops and choices."""
    once = cost("size(identity.workloads + identity.workloads) > 0").steps
    assert cost("size(identity.workloads + identity.workloads + identity.workloads) > 0").steps > 1.5 * once
    looped = cost("[identity.actions].exists(x, x == identity.actions)").steps
    assert looped >= cost("identity.actions == identity.actions").steps
    chosen = cost('(risk.present ? intent.resource.uri : "a").contains("b")').steps
    assert chosen >= cost('intent.resource.uri.contains("b")').steps


def test_a_loop_counts_each_pass():
    assert cost("identity.actions.exists(x, x == 'a')").loops == 1024
    assert cost("identity.roles.filter(x, x != '').exists(x, x == 'a')").loops == 64


@pytest.mark.parametrize(
    ("condition", "message", "at"),
    [
        ('true && identity.actions.filter(x, x != "") == []', "steps on the largest event", "filter("),
        ("true && identity.actions.map(x, x + x) == []", "steps on the largest event", "map("),
        ("identity.actions.exists(x, x in identity.actions)", "steps on the largest event", "in"),
        ("identity.actions.exists(x, identity.actions == identity.actions)", "steps on the largest event", "=="),
        ('identity.actions.exists(x, x.matches("a"))', "steps on the largest event", "matches("),
        (" || ".join(['identity.actions.exists(x, x == "a")'] * 5), "passes through loops", "exists("),
        (r'intent.action.matches("\\pL")', "unfolds to", '"'),
        ('intent.action.matches("(a{20}){60}")', "unfolds to", '"'),
    ],
)
def test_a_condition_that_could_stall_a_worker_is_refused_at_its_dearest_part(condition, message, at):
    rule = f"rule_set: x\ndefault: deny\nrules:\n  - id: a\n    effect: approve\n    when: |-\n      {condition}\n"
    program, mistakes = inspect(rule)
    assert program is None
    (found,) = [m for m in mistakes if message in m.message]
    assert found.text[found.column - 1 :].startswith(at)


@pytest.mark.parametrize(
    ("condition", "fix"),
    [
        ('identity.actions.filter(x, x != "") == []', "use `exists`, `all` or `in`"),
        ('intent.purpose.matches("(a|bc){1,80}(a|bc){1,80}")', "use `startsWith`, `endsWith` or `in [...]`"),
        ("identity.actions.exists(x, x in identity.actions)", "search a shorter list"),
        ("identity.actions.exists(x, identity.actions == identity.actions)", "compare shorter lists"),
        ("identity.actions.exists(x, intent.resource.uri.contains(x))", "use `startsWith` or `endsWith`"),
        ("identity.actions.exists(x, intent.resource.uri + x == x)", "do not join"),
        ("identity.actions.exists(x, mandate.allows(x, x) || mandate.allows(x, 'a'))", "ask less often"),
        ("identity.actions.exists(x, type(x) == string || type(x) == int || type(x) == bool)", "without converting"),
        ("identity.actions.exists(x, costly)", "name the selection less often"),
        (" || ".join(["looping"] * 80), "this selection makes up to 64 of them"),
        (" || ".join(["identity.actions.exists(x, x == 'a')"] * 5), "this loop makes up to 1,024 of them"),
    ],
)
def test_what_costs_too_much_has_a_fix_that_makes_that_very_part_cheaper(condition, fix):
    selections = {"costly": "params.long.contains('b')", "looping": "event.labels.exists(x, x == 'a')"}
    document = {"rule_set": "x", "default": "deny", "params": {"long": "a" * 300}, "selections": selections}
    document["rules"] = [{"id": "r", "effect": "approve", "when": condition}]
    _, mistakes = inspect(json.dumps(document, indent=0))
    (found,) = [m for m in mistakes if m.code == "cost" and '"when"' in m.text]
    assert fix in found.fix
    assert ("take it out of the loop" in found.fix) == (".exists(x" in condition and "makes" not in fix)


@pytest.mark.parametrize(
    ("condition", "message", "fix"),
    [
        ("intent.t * 9000000000 > 5", "beyond ±9,223,372,036,854,775,807", "use smaller numbers"),
        ("-(-9223372036854775808) > 1", "beyond ±9,223,372,036,854,775,807", "use smaller numbers"),
        ("3u + 4u > 5u", "times, durations and unsigned numbers", "calculate with whole numbers"),
        ('duration("1h") + duration("1h") > duration("1h")', "times, durations", "calculate with whole numbers"),
    ],
)
def test_arithmetic_that_can_fail_is_told_why(condition, message, fix):
    _, mistakes = inspect(json.dumps({"rules": [{"id": "r", "effect": "approve", "when": condition}]}))
    (found,) = [m for m in mistakes if m.code == "unguarded"]
    assert message in found.message
    assert fix in found.fix


@pytest.mark.parametrize(
    "condition",
    [
        "identity.actions.exists(x, identity.actions.exists(y, x == y))",
        'intent.action.matches("(((a{100}){100}){100}){100}")',
    ],
)
def test_what_is_refused_for_its_form_is_not_refused_for_its_cost_again(condition):
    assert len(mistakes_of([condition])) == 1


def test_the_limits_are_the_last_that_load():
    loops = "identity.actions.exists(x, x == 'a')"
    assert mistakes_of([" || ".join([loops] * (LOOP_STEPS_MAX // 1024))]) == []
    assert mistakes_of([f'intent.action.matches("a{{{PATTERN_UNITS_MAX - 2}}}")']) == []
    assert mistakes_of([f'intent.action.matches("a{{{PATTERN_UNITS_MAX}}}")']) != []
    assert cost("identity.workloads.filter(x, x != '') == []").steps < CONDITION_STEPS_MAX
    assert mistakes_of(["identity.workloads.filter(x, x != '') == []"]) == []


# --- all of them ---


def test_a_thousand_ordinary_rules_load():
    condition = 'intent.action == "crm.{}" && intent.resource.zone == "external" && "s{}" in intent.resource.labels'
    assert mistakes_of([condition.format(i, i) for i in range(RULES_MAX)]) == []
    assert mistakes_of(['"pii" in chain.labels && intent.action in identity.actions'] * (RULES_MAX - 100)) == []


def test_what_reads_the_resource_counts_once_for_each_resource():
    looped = "intent.{}labels.exists(x, x == 'a' || x == 'b')"
    often = INTENT_STEPS_MAX // cost(looped.format("resource.")).steps // 32
    assert mistakes_of([looped.format("resource.")] * often) == []
    assert "more than 4,000,000 steps" in mistakes_of([looped.format("resource.")] * (often + 1))[0]
    assert mistakes_of([looped.format("")] * (often + 1)) == []


def test_selections_have_steps_of_their_own_and_count_where_they_are_used():
    dear = "event.resource.uri.contains('a')"
    many = {f"s{i}": dear for i in range(100)}
    assert mistakes_of(["true"], many) == []
    assert mistakes_of([dear] * 100, many) == []
    assert mistakes_of(["true"], {f"s{i}": dear for i in range(150)}) != []
    assert mistakes_of([" || ".join(["s0"] * 100)] * 2, many) != []


def test_the_nodes_of_a_set_are_bounded_with_selections_put_in():
    dense = "&&".join(["1 < 2"] * 200)
    often = TREE_NODES_MAX // cost(dense).nodes
    assert mistakes_of([dense] * often) == []
    assert "more than 40,000" in mistakes_of([dense] * (often + 1))[0]
    assert "more than 40,000" in mistakes_of(["s && true"] * often, {"s": dense})[0]


def test_after_too_much_nothing_more_is_looked_at_and_that_is_said():
    """Or a hostile text would be checked to its end, for seconds."""
    dense = "&&".join(["1 < 2"] * 200)
    (told,) = mistakes_of([dense] * 100 + ["nothing.known"] * 100)
    assert "more than 40,000" in told
    assert told.endswith("; not checked: 149 conditions (from line 1 on)")
    (told,) = mistakes_of(["nothing.known"] * 2, {f"s{i}": dense for i in range(52)})
    assert told.endswith("; not checked: 1 selection (from line 1 on) and 2 conditions (from line 1 on)")


def test_what_is_too_dear_hides_no_mistake_after_it():
    """A condition that is refused anyway takes nothing from the others; steps bound what is run, not what is checked."""
    dear = "intent.resource.uri.contains('a') || intent.action in identity.actions"
    pattern = 'intent.resource.uri.matches("(a|bc){1,80}(a|bc){1,80}")'
    assert [told.split(" ")[0] for told in mistakes_of([pattern, "nothing.known"])] == ["up", "unknown"]
    told = mistakes_of([dear] * 200 + ["nothing.known"])
    assert ["more than 4,000,000 steps" in told[0], told[1:]] == [True, ["unknown name `nothing`"]]


def test_what_is_too_much_together_says_where_to_begin():
    dear, dearer = "intent.resource.uri.contains('a')", "intent.resource.uri.contains('a') || intent.action == 'a'"
    rules = "".join(f'  - {{id: r{i}, effect: approve, when: "{dearer if i == 7 else dear}"}}\n' for i in range(200))
    _, mistakes = inspect(f"rule_set: x\ndefault: deny\nrules:\n{rules}")
    (found,) = mistakes
    assert f"{cost(dearer).steps * 32:,} steps on line 11" in found.fix


# --- patterns ---


@pytest.mark.parametrize(
    ("pattern", "units"),
    [
        ("abc", 3),
        ("a|b", 3),
        ("a{5}", 6),
        ("a{2,5}", 6),
        ("a{5,}", 6),
        ("(a{10}){10}", 121),
        ("a{x}", 4),
        ("[a-z0-9]", 2),
        ("[]a]", 2),
        ("[[:alpha:]b]", 10),
        (r"\.", 2),
        (r"\Q(((\E", 7),
        ("(?:ab)+", 4),
        ("(?P<name>ab)", 3),
        ("(?i)ab", 8),
    ],
)
def test_repetition_unfolds(pattern, units):
    assert pattern_of(pattern).units == units


@pytest.mark.parametrize("pattern", [r"\pL", r"\p{Greek}", r"[\pL]", r"[^\PN]", "(?i)[^a]"])
def test_a_class_of_letters_is_large(pattern):
    assert pattern_of(pattern).units > PATTERN_UNITS_MAX


@pytest.mark.parametrize(
    ("pattern", "pinned", "literal"),
    [
        ("^crm[.](read|write)$", True, True),
        ("crm[.](read|write)$", False, True),
        ("^a|b", False, True),
        ("^(a|b)", True, True),
        ("^a+", False, False),
        ("^a{3,}", False, False),
        ("^[ab]{3}", True, False),
        ("(?m)^a", False, True),
        ("a.b", False, False),
    ],
)
def test_a_pattern_with_a_start_and_an_end_does_not_read_on(pattern, pinned, literal):
    found = pattern_of(pattern)
    assert (found.pinned, found.literal) == (pinned, literal)
    assert found.steps(100_000) <= (found.steps(found.units) if pinned else float("inf"))


# --- arithmetic ---

OPERANDS = st.sampled_from(["intent.t", "chain.events", "params.n", "size(intent.labels)"]) | st.integers(
    -(2**63) + 1, 2**63 - 1
).map(lambda number: f"({number})")
SUMS = st.recursive(
    OPERANDS | st.integers(-9, 9).map(lambda number: f"({number})"),
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda part: f"({' '.join(part)})")
        | inner.map(lambda part: f"-({part})")
    ),
    max_leaves=5,
)


@settings(max_examples=200)
@given(SUMS, st.sampled_from([0, 1, INTEGER_MAX]), st.sampled_from([0, 1, INTEGER_MAX]))
def test_arithmetic_that_is_accepted_fails_for_no_number_that_a_field_can_hold(text, t, events):
    n = 86_400_000
    if cost(text, n=n).overflows is None:
        values = {"intent": {"t": t, "labels": ["a"]}, "chain": {"events": events}, "params": {"n": n}}
        runtime = Runtime()
        assert isinstance(outcome(runtime.compile(f"{text} > 0"), runtime.activation(values)), bool)
