"""Asked together, with what an action cannot meet left out, conditions say exactly what each says alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.core.rules import masks
from harness_stream.core.rules.cel import outcome
from harness_stream.core.rules.check import check
from harness_stream.core.rules.compile import Program, Selected, load
from harness_stream.core.rules.conditions import ACTION_NODES_MAX
from harness_stream.core.rules.mistakes import Findings
from harness_stream.core.rules.parse import read

ACTIONS = ("crm.read", "crm.export", "crm", "email.send", "files.wipe", "")
SELECTIONS = ("s0", "s1", "s2", "s3")
ABSENT = {"present": False}

# --- conditions ---

QUOTED_ACTION = st.sampled_from(ACTIONS).map(json.dumps)
OF_EVENT = st.one_of(
    QUOTED_ACTION.map(lambda a: f"event.action == {a}"),
    QUOTED_ACTION.map(lambda a: f"{a} == event.action"),
    st.lists(QUOTED_ACTION, max_size=3).map(lambda a: f"event.action in [{', '.join(a)}]"),
    st.sampled_from(["", "c", "crm.", "crm.e", "email.", "email.send"]).map(
        lambda p: f'event.action.startsWith("{p}")'
    ),
    st.sampled_from(
        [
            "true",
            "false",
            "event.action != 'crm.read'",
            "event.resource.zone == 'external'",
            "'pii' in event.resource.labels",
            "event.labels.exists(x, x == event.action)",
            "event.decision == 'approve'",
            "event.purpose == params.word",
            "('rows' in event.measures && event.measures.rows > 5) // big",
            "event.purpose.matches('^a+$')",
        ]
    ),
)
ERRING = st.sampled_from(
    ["risk.score > 0.5", "infrastructure.attested", "identity.delegated_only", "mandate.declared_by == 'agent'"]
)
OF_ROWS = st.sampled_from(
    [
        "risk.present && risk.score > 0.5",
        "!infrastructure.present || infrastructure.attested",
        "intent.action in identity.actions",
        "'to' in args && args['to'].exact",
        "args.exists(k, args[k].role == 'secret')",
        "chain.events >= 1",
        "'pii' in chain.labels // so far",
    ]
)
# `builds` keeps the many branches of events from crowding out the others.
OF_RULE = st.one_of(
    ERRING,
    OF_ROWS,
    st.sampled_from(SELECTIONS),
    st.builds(str, OF_EVENT),
    st.builds(lambda c: c.replace("event.", "intent."), OF_EVENT),
)


def grown(atoms):
    """Conditions over these atoms; brackets on either side of what fits into a mask."""
    return st.recursive(
        atoms.map(lambda a: f"({a}\n)"),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["&&", "||", "&&", "=="]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
            st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(" ".join),
            inner.map(lambda c: f"!{c}" if c.startswith("(") else f"!({c})"),
            st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
            st.tuples(st.integers(0, 26), inner).map(lambda t: "(" * t[0] + t[1] + ")" * t[0]),
        ),
        max_leaves=5,
    )


RULE = st.tuples(grown(OF_RULE), st.sampled_from(["enforce", "enforce", "shadow"]))
SELECTION_TEXTS = st.lists(grown(OF_EVENT), min_size=len(SELECTIONS), max_size=len(SELECTIONS))
# Few rules are drawn and then repeated in turns, so that sets of several masks stay quick to make.
RULE_SETS = st.tuples(st.lists(RULE, min_size=6, max_size=12), st.integers(1, 130), SELECTION_TEXTS)


def loaded(rules, selections=()):
    document = {
        "rule_set": "x",
        "default": "deny",
        "params": {"word": "aaa"},
        "selections": dict(zip(SELECTIONS, selections, strict=False)),
        "rules": [
            {"id": f"r{i}", "effect": "deny", "when": when, "mode": mode} for i, (when, mode) in enumerate(rules)
        ],
    }
    findings = Findings("", "x")
    draft = read(json.dumps(document), findings, {})
    checked = check(draft) if draft else None
    return (Program(draft, checked, b""), checked, findings.all()) if checked else (None, None, findings.all())


def drawn(rule_set):
    rules, count, selections = rule_set
    program, checked, mistakes = loaded([rules[i * 7 % len(rules)] for i in range(count)], selections)
    if program is None:  # too many brackets, or too many of the dear ones: refused, not compiled
        errors = [m.message for m in mistakes if m.severity == "error"]
        assert all(any(words in error for words in ("deeper than", "selections put in", "steps")) for error in errors)
    return program, checked


# --- events ---

MANY = ["more loop steps than CEL's budget"]
"""Stands for so many labels, so that a failing example can be read."""


RESOURCES = st.fixed_dictionaries(
    {"zone": st.sampled_from(["external", "internal"]), "labels": st.sampled_from([[], ["pii"]])}
)
NUMBERS = st.sampled_from([5, 6, 5.5])
VIEWS = st.fixed_dictionaries(
    {
        "action": st.sampled_from((*ACTIONS, "crm.exports", "other")),
        "labels": st.sampled_from([[], [], ["crm.read"], ["pii"], MANY]),
        "measures": st.dictionaries(st.just("rows"), NUMBERS),
        "purpose": st.sampled_from(["aaa", "b"]),
        "decision": st.sampled_from(["approve", "deny"]),
        "resource": RESOURCES,
    }
)
ARGUMENT = st.fixed_dictionaries(
    {"role": st.sampled_from(["secret", "content"]), "exact": st.sampled_from([True, False, "no"])}
)
VARIABLES = st.fixed_dictionaries(
    {
        "identity": st.fixed_dictionaries(
            {"present": st.just(True), "actions": st.just(["crm.read", "crm.export"])},
            optional={"delegated_only": st.sampled_from([True, False, 5, "x", None])},
        ),
        "infrastructure": st.sampled_from([ABSENT, {"present": True, "attested": True}]),
        "risk": st.sampled_from([ABSENT, {"present": True, "score": 0.9}, {"present": True, "score": 0}]),
        "mandate": st.sampled_from([ABSENT, {"present": True, "declared_by": "agent"}]),
        "chain": st.fixed_dictionaries({"labels": st.sampled_from([[], ["pii"]]), "events": st.integers(0, 1)}),
        "args": st.dictionaries(st.just("to"), ARGUMENT),
        "params": st.just({"word": "aaa"}),
    }
)
CASES = st.lists(st.tuples(VIEWS, VARIABLES), min_size=12, max_size=12)


def whole(view):
    return {**view, "labels": ["x"] * 10_001} if view["labels"] is MANY else view


def each(checked, variables):
    """The reference: every condition evaluated alone."""
    activation = checked.runtime.activation(variables)
    return [outcome(program, activation) for program in checked.programs]


def together(program, judged):
    assert set(judged.errors) <= set(range(len(program.rules)))
    assert not any(judged.mask >> bit & 1 for bit in judged.errors)
    return [judged.of(index) for index in range(len(program.rules))]


def each_selected(checked, view):
    activation = checked.runtime.activation({"event": view, "params": {"word": "aaa"}})
    results = [outcome(program, activation) for program in checked.selection_programs]
    bits = list(enumerate(results))
    return Selected(
        sum(1 << bit for bit, said in bits if said is True),
        sum(1 << bit for bit, said in bits if isinstance(said, str)),
    )


# --- what holds ---


@settings(max_examples=150, deadline=None)
@given(RULE_SETS, CASES)
def test_judging_together_equals_judging_each(rule_set, cases):
    """150 rule sets times 12 intents of two resources: 3,600 views."""
    program, checked = drawn(rule_set)
    if program is None:
        return
    for short, variables in cases:
        view = whole(short)
        values = {**variables, "event": view, "intent": view}
        first = program.judge(values)
        assert together(program, first) == each(checked, values)
        other = {**view, "resource": {"zone": "external", "labels": ["pii"]}}
        values = {**variables, "event": other, "intent": other}
        assert together(program, program.judge(values, first)) == each(checked, values)


@settings(max_examples=100, deadline=None)
@given(st.lists(grown(OF_EVENT), min_size=4, max_size=4), st.lists(VIEWS, min_size=12, max_size=12))
def test_selecting_together_equals_selecting_each(selections, views):
    program, checked, _ = loaded([("true", "enforce")], selections)
    if program is None:
        return
    for view in map(whole, views):
        first = program.select(view)
        assert first == each_selected(checked, view)
        other = {**view, "resource": {"zone": "external", "labels": ["pii"]}}
        assert program.select(other, first) == each_selected(checked, other)


def view_of(**changes):
    plain = {"action": "crm.read", "labels": [], "measures": {}, "purpose": "", "decision": "approve"}
    return {**plain, "resource": {"zone": "", "labels": []}, **changes}


def values_of(**changes):
    view = changes.pop("view", view_of())
    rows = dict.fromkeys(("infrastructure", "risk", "mandate"), ABSENT) | {"identity": {"present": True, "actions": []}}
    rest = {"chain": {"labels": [], "events": 0}, "args": {}, "params": {"word": "aaa"}}
    return {"event": view, "intent": view, **rows, **rest, **changes}


@pytest.mark.parametrize("count", [1, 2, 49, 50, 51, 62, 63, 64, 100, 101, 130])
def test_every_bit_of_every_mask_is_its_own(count):
    rules = [(f"chain.events == {i}", "enforce") for i in range(count)]
    program, _, _ = loaded(rules)
    for i in range(count):
        judged = program.judge(values_of(chain={"labels": [], "events": i}))
        assert judged == (1 << i, {})


@pytest.mark.parametrize("at", [0, 1, 24, 25, 49, 50, 99])
@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_one_error_is_that_rules_alone_wherever_it_stands(at, mode):
    rules = [("chain.events == 0" if i % 3 else "chain.events == 1", "enforce") for i in range(100)]
    rules[at] = ("risk.score > 0.5", mode)
    program, checked, _ = loaded(rules)
    judged = program.judge(values_of())
    assert set(judged.errors) == {at}
    assert together(program, judged) == each(checked, values_of())


def test_an_error_makes_only_what_may_hold_be_asked_alone():
    conditions = ["chain.events == 0", "risk.score > 0.5", *["chain.events == 1"] * 40]
    program, checked, _ = loaded([(condition, "enforce") for condition in conditions])
    _, (mask,) = program._rules._all[0]._masks("crm.read")
    activation = checked.runtime.activation(values_of())
    assert [term.bit for term in mask._suspects(activation)] == [0, 1]


def test_what_says_no_more_than_the_action_is_not_asked():
    rules = [("s0", "enforce"), ("s1", "enforce"), ("intent.action.startsWith('crm.') // any", "enforce")]
    program, checked, _ = loaded(rules, ["event.action == 'crm.read'", "event.action in ['crm.read', 'crm']"])
    assert [program.evaluations(action) for action in ("crm.read", "crm", "x")] == [0, 0, 0]
    for action in ("crm.read", "crm", "crm.export", "x"):
        values = values_of(view=view_of(action=action))
        assert together(program, program.judge(values)) == each(checked, values)


def test_a_second_set_of_actions_is_asked_though_the_first_is_met():
    """Only what the action was looked up by is certain."""
    rules = [("intent.action in ['a', 'b'] && intent.action in ['b', 'c', 'd']", "enforce")] * 2
    program, _, _ = loaded(rules)
    said = [program.judge(values_of(view=view_of(action=action))).mask for action in "abcd"]
    assert said == [0b00, 0b11, 0b00, 0b00]


def test_without_a_readable_action_every_condition_is_asked_whole():
    """All are for one action, so that its masks hold the same conditions as those for none."""
    program, checked, _ = loaded([("intent.action == 'a'", "enforce"), ("intent.action == 'a' && s0", "enforce")], ["true"])
    for action in (5, None):
        values = values_of(view=view_of(action=action))
        assert together(program, program.judge(values)) == each(checked, values) == [False, False]


@pytest.mark.parametrize("purpose", ["a", "b"])
@pytest.mark.parametrize("attested", [True, False, 5, None])
def test_conditions_that_begin_alike_say_what_each_says(purpose, attested):
    """The guard holds, does not, is no truth value, cannot be read; what follows it errs in one of them."""
    guard = "intent.purpose == 'a' && infrastructure.attested"
    ends = ["", " && chain.events == 0", " && chain.events == 1", " && risk.score > 0.5", " && s0", " // so"]
    program, checked, _ = loaded([(guard + end, "enforce") for end in ends] * 3, ["event.purpose == 'a'"])
    row = ABSENT if attested is None else {"present": True, "attested": attested}
    values = values_of(view=view_of(purpose=purpose), infrastructure=row)
    assert together(program, program.judge(values)) == each(checked, values)


def test_what_conditions_begin_with_stands_in_their_mask_once():
    text = masks._together([(("a", "b", "c"), 1), (("a", "b"), 2), (("a", "d"), 4), (("e",), 8)])
    assert {part: text.count(f"({part}\n)") for part in "abcde"} == dict.fromkeys("abcde", 1)


def test_a_comment_ends_with_its_condition():
    program, _, _ = loaded(
        [("chain.events == 0 // so", "enforce"), ("s0 // far", "shadow")] * 2, ["event.purpose == '' // none"]
    )
    assert program.judge(values_of()) == (0b1111, {})
    assert program.evaluations("crm.read") == 2  # one for the enforced rules, one for the others


def nested(kind, depth):
    open_, close = {"bracket": ("(", ")"), "not": ("!(", ")"), "choice": ("(true ? ", " : false)")}[kind]
    return open_ * depth + "chain.events == 0" + close * depth


@pytest.mark.parametrize("kind", ["bracket", "not", "choice"])
@pytest.mark.parametrize("count", [2, 3, 50])
def test_what_nests_to_the_parsers_limit_is_judged_like_the_rest(kind, count):
    """At every depth that loads, among few and among many, at either end."""
    accepted = 0
    for depth in range(32):
        deep, plain = (nested(kind, depth), "enforce"), ("chain.events == 0", "enforce")
        erring = [("risk.score > 0.5", "enforce")] * (depth % 2)
        program, checked, _ = loaded([deep, *erring, *[plain] * (count - 2), deep])
        if program is not None:
            accepted = depth
            assert together(program, program.judge(values_of())) == each(checked, values_of())
    assert accepted >= 14


def test_a_condition_of_1500_characters_fits_a_mask_of_fifty():
    text = " && ".join(f'intent.purpose != "{i:04}"' for i in range(53))
    assert 1_400 < len(text) <= 1_500
    program, checked, _ = loaded([(text, "enforce")] * 60)
    assert together(program, program.judge(values_of())) == each(checked, values_of()) == [True] * 60


def test_a_spent_budget_is_that_rules_error_and_says_so():
    rules = [("chain.events == 0", "enforce")] * 20 + [("intent.labels.exists(x, x == 'never')", "enforce")] * 2
    program, checked, _ = loaded(rules)
    values = values_of(view=view_of(labels=["a"] * 10_000))
    judged = program.judge(values)
    assert together(program, judged) == each(checked, values)
    assert judged.errors == dict.fromkeys((20, 21), "budget spent: the condition took more than 10,000 loop steps")


def test_loops_that_each_stay_within_the_budget_do_not_spend_it_together():
    rules = [("identity.actions.exists(x, x == 'never')", "enforce")] * 30
    program, _, _ = loaded(rules)
    judged = program.judge(values_of(identity={"present": True, "actions": ["a"] * 1024}))
    assert judged == (0, {})
    assert 1 < program.evaluations("crm.read") < 30


def test_the_event_of_a_rule_is_the_intent():
    program, _, _ = loaded([('event.action == "a"', "enforce"), ("s0", "enforce")], ['event.action == "a"'])
    values = {**values_of(), "intent": view_of(action="a")}
    del values["event"]
    assert program.judge(values) == (0b11, {})


def test_event_is_replaced_only_where_it_is_the_variable():
    text = """event.action == 'event.action' || 'event' in event . labels || event.purpose == "event" // event.t"""
    _, checked, _ = loaded([(text, "enforce")])
    assert checked.texts[0] == text.replace("event.action ==", "intent.action ==").replace(
        "event . labels", "intent . labels"
    ).replace("event.purpose", "intent.purpose")


def test_more_actions_than_have_masks_of_their_own_are_judged_alike():
    """200 rules that all meet each of 30 actions: more nodes than masks of single actions may hold."""
    listed = ", ".join(f'"a{i}"' for i in range(60))
    program, checked, _ = loaded(
        [(f"intent.action in [{listed}] && chain.events == {i}", "enforce") for i in range(200)]
        + [(f'intent.action == "a{i}"', "enforce") for i in range(60)]
    )
    for action in ("a0", "a29", "a59", "b"):
        values = values_of(view=view_of(action=action))
        assert together(program, program.judge(values)) == each(checked, values)
    (conditions,) = program._rules._all
    compiled = sum(conditions._tied[position].cost.nodes for met in conditions._own for position in met)
    assert 0 < compiled <= ACTION_NODES_MAX
    assert program.evaluations("a59") < 15  # of 201 conditions


def test_an_action_meets_few_masks():
    rules = "\n".join(
        f'  - {{id: r{i}, effect: deny, when: \'intent.action == "tool{i // 10}.{i % 10}" && intent.purpose == "x"\'}}'
        for i in range(990)
    )
    program = load(f"rule_set: x\ndefault: deny\nrules:\n  - {{id: a, effect: approve, when: risk.present}}\n{rules}\n")
    assert program.evaluations("tool5.5") == 2
    assert program.evaluations("tool5.11") == 1
