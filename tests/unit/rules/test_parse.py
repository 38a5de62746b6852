"""The shape of a rule text: what is read, and where every mistake stands."""


from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.rules import Condition, Correlation, RuleSet, inspect, parse
from harness_stream.core.rules.language import RULES_MAX, TEXT_BYTES_MAX

RULES = "rules:\n  - {id: a, effect: approve, when: 'true'}\n"
HEAD = "rule_set: x\ndefault: deny\n"


def at(text, message, **overrides):
    """The one mistake whose message contains the words, as (line, column, fix)."""
    rule_set, mistakes = parse(text, "rules.yaml", overrides)
    assert rule_set is None
    found = [mistake for mistake in mistakes if message in mistake.message]
    assert len(found) == 1, mistakes
    assert found[0].file == "rules.yaml"
    assert found[0].text == (text.split("\n")[found[0].line - 1] if text else "")
    return found[0].line, found[0].column, found[0].fix


def read(text, **overrides) -> RuleSet:
    rule_set, mistakes = parse(text, overrides=overrides)
    assert rule_set is not None, mistakes
    return rule_set


@pytest.mark.parametrize(
    ("value", "column", "fix"),
    [
        ('"x" in intent.labels', 15, """put the whole value in quotes: `when: '"x" …'`"""),
        ("'x'in intent.labels", 14, """put the whole value in quotes: `when: "'x' …"`"""),
        ('["a"].exists(x, x == "b")', 16, """put the whole value in quotes: `when: '["a"] …'`"""),
        ('!("x" in intent.labels)', 13, "put the whole value in quotes: `when: '!( …'`"),
        ("!mandate.present", 11, "put the whole value in quotes"),
        ('intent.purpose == "a: b"', 31, "put the whole value in quotes, if this colon belongs to it"),
        ("[a] timespan: 1m", 15, "check indentation, quotes and brackets up to here"),
    ],
)
def test_a_condition_whose_start_yaml_takes_for_the_whole_is_to_be_quoted(value, column, fix):
    text = f"{HEAD}rules:\n  - id: a\n    effect: approve\n    when: {value}\n"
    rule_set, mistakes = parse(text)
    assert rule_set is None
    assert [(m.line, m.column, m.fix) for m in mistakes] == [(6, column, fix)]


@pytest.mark.parametrize(
    ("rule", "fix"),
    [
        ('{id: a, effect: approve, when: "x" in intent.labels}', """`when: '"x" …'`"""),
        ('{id: a, because: "x" when: "true"}', "check indentation, quotes and brackets"),
    ],
)
def test_the_same_inside_of_braces(rule, fix):
    _, mistakes = parse(f"{HEAD}rules:\n  - {rule}\n")
    assert [fix in m.fix for m in mistakes] == [True]


def test_a_rule_set_is_read_with_its_parameters_put_in():
    rule_set = read(
        HEAD
        + "params: {max: 1_000, ratio: 0.5, name: x, on_call: true}\n"
        + "selections: {exports: 'true'}\n"
        + "rules:\n"
        + "  - id: bulk\n    effect: hold\n    when: exports\n    severity: high\n"
        + "    correlation: {type: value_sum, rules: [exports], group-by: [agent_id], timespan: 24h, include: attempts,\n"
        + "      condition: {field: measures.rows, gt: params.max}}\n",
        max=500,
    )
    assert rule_set.params == {"max": 500, "ratio": 0.5, "name": "x", "on_call": True}
    assert rule_set.rules[0].mode == "enforce"
    assert rule_set.rules[0].correlation == Correlation(
        "value_sum", ("exports",), ("agent_id",), 86_400_000, True, Condition("gt", 500, "measures.rows")
    )


def test_an_obligation_is_a_value_or_a_list():
    text = HEAD + "rules:\n  - {id: a, effect: approve, when: 'true', obligations: {mask: [email, phone], max_rows: 100}}\n"
    assert read(text).rules[0].obligations == {"mask": ("email", "phone"), "max_rows": 100}
    long = text.replace("email, phone", ", ".join(f"field{n}" for n in range(50)))
    assert at(long, "an obligation has at most")[0] == 4


def test_only_approves_carry_obligations():
    rule = "rules:\n  - id: a\n    effect: {}\n    when: 'true'\n    obligations: {{redact: true}}\n"
    assert read(HEAD + rule.format("approve")).rules[0].obligations == {"redact": True}
    assert at(HEAD + rule.format("deny"), "carries no obligations")[:2] == (7, 18)


@pytest.mark.parametrize(
    ("text", "message", "line", "column", "fix"),
    [
        ("", "is empty", 1, 1, "start with `rule_set: NAME`"),
        ("- a\n", "the rule set is written as", 1, 1, "its keys are rule_set"),
        ("rule_set: x\ndefault: deny\n", "needs `rules`", 1, 1, "add `rules: …`"),
        (HEAD + "ruels: []\n" + RULES, "unknown key `ruels`", 3, 1, "did you mean `rules`?"),
        (HEAD + "rule_set: y\n" + RULES, "given twice (first on line 1)", 3, 1, "keep one"),
        ("rule_set: x\ndefault: allow\n" + RULES, "always `deny`", 2, 10, "write `default: deny`"),
        ("rule_set: a b\ndefault: deny\n" + RULES, "`a b` is not a name", 1, 11, "such as `bulk-export`"),
        ("rule_set: 7\ndefault: deny\n" + RULES, "`rule_set` is a text", 1, 11, "write it in quotes"),
        (HEAD + "params: [1]\n" + RULES, "`params` is written as", 3, 9, "write `params: {name: value}`"),
        (HEAD + "params: {a: [1]}\n" + RULES, "`params.a` is a text, a number", 3, 13, "write one value"),
        (HEAD + "params: {a-b: 1}\n" + RULES, "`a-b` cannot name a parameter", 3, 10, "use letters"),
        (HEAD + "params: {in: 1}\n" + RULES, "`in` cannot name a parameter", 3, 10, "choose another name"),
        (HEAD + "params: {a: 0o17, b: 0x1F}\n" + RULES, "`0x1F` is not a decimal", 3, 22, "write it in decimal"),
        (HEAD + "params: {a: .inf}\n" + RULES, "`.inf` is not a decimal", 3, 13, "write it in decimal"),
        (HEAD + "params: {a: 9007199254740992}\n" + RULES, "out of range", 3, 13, "between ±9007199254740991"),
        (HEAD + "params: {a: 2026-01-01}\n" + RULES, "is read as a timestamp", 3, 13, "write it in quotes"),
        (HEAD + "params: {1: 2}\n" + RULES, "a key must be a text", 3, 10, "in quotes"),
        (HEAD + "params: {a: &x 1, b: *x}\n" + RULES, "aliases", 3, 22, "write the value out"),
        (HEAD + "params: {a: !!python/none 1}\n" + RULES, "is read as a", 3, 13, "in quotes"),
        (HEAD + 'params: {a: "\\uD800"}\n' + RULES, "lone surrogates", 3, 13, "remove"),
        (HEAD + "selections: {event: 'true'}\n" + RULES, "`event` cannot name a selection", 3, 14, "choose another"),
        (HEAD + "selections: {x: true}\n" + RULES, "a condition is a text", 3, 17, 'write "true" in quotes'),
        (HEAD + "rules: {}\n", "`rules` is a list", 3, 8, "start each rule with `- id"),
        (HEAD + "rules:\n  - a\n", "a rule is written as", 4, 5, "its keys are id"),
        (HEAD + "rules:\n  - {effect: deny, when: 'true'}\n", "needs `id`", 4, 5, "add `id: …`"),
        (HEAD + "rules:\n  - {id: a, when: 'true'}\n", "needs `effect`", 4, 5, "add `effect: …`"),
        (HEAD + "rules:\n  - {id: a, effect: deny}\n", "needs `when`", 4, 5, "add `when: …`"),
        (HEAD + "rules:\n  - {id: a, effect: alow, when: 'true'}\n", "`effect` is one of", 4, 21, "known:"),
        (HEAD + "rules:\n  - {id: a, effect: hold, when: 1}\n", "text in CEL", 4, 33, "such as"),
        (HEAD + "rules:\n  - {id: a, effect: deny, when: 'true', mode: shade}\n", "`mode`", 4, 47, "`shadow`"),
        (HEAD + "rules:\n  - {id: a, effect: deny, when: 'true', because: [x]}\n", "`because`", 4, 50, "quotes"),
        ("a: [1\nb: 2\n", "not YAML", 2, 2, "check indentation"),
        ("a: 1\n---\nb: 2\n", "not YAML", 2, 1, "one file is one document"),
        ("a: \x07\n", "does not allow", 1, 4, "remove it"),
        ('a: "\\U00110000"\n', "no character", 1, 1, "write the character"),
        ("[" * 5_000, "nested deeper than 12", 1, 13, "no rule needs this"),
    ],
)
def test_a_mistake_has_its_place_and_a_fix(text, message, line, column, fix):
    found = at(text, message)
    assert found[:2] == (line, column)
    assert fix in found[2]


WINDOW = (
    HEAD
    + "params: {n: 5, s: x}\nselections: {e: 'true'}\nrules:\n  - id: a\n    effect: deny\n    when: e\n    correlation: "
)


@pytest.mark.parametrize(
    ("window", "message", "column", "fix"),
    [
        ("[]", "a correlation is written as", 18, "its keys are type"),
        ("{rules: [e], timespan: 1m}", "needs `type`", 18, "add `type: …`"),
        ("{type: event_count, timespan: 1m, condition: {gt: 1}}", "needs `rules`", 18, "add `rules: …`"),
        ("{type: temporal, rules: [e]}", "needs `timespan`", 18, "add `timespan: …`"),
        ("{type: temprol, rules: [e], timespan: 1m}", "`type` is one of", 25, "`temporal`"),
        ("{type: temporal, rules: e, timespan: 1m}", "`rules` is a list", 42, "write `rules: [NAME, …]`"),
        ("{type: temporal, rules: [e, e], timespan: 1m}", "listed twice", 46, "list it once"),
        ("{type: temporal, rules: [e], timespan: 5}", "not a duration", 57, "`30s`"),
        ("{type: temporal, rules: [e], timespan: 1w}", "not a duration", 57, "`30s`"),
        ("{type: temporal, rules: [e], timespan: 0s}", "is no time at all", 57, "at least 1"),
        ("{type: temporal, rules: [e], timespan: 1m, include: all}", "one word", 70, "include: attempts"),
        ("{type: event_count, rules: [e], timespan: 1m, condition: {}}", "this one has 0", 75, "such as"),
        ("{type: event_count, rules: [e], timespan: 1m, condition: {gt: 1, lt: 3}}", "this one has 2", 75, "one of"),
        ("{type: event_count, rules: [e], timespan: 1m, condition: {gt: many}}", "a threshold is", 80, "gt: 10"),
        (
            "{type: event_count, rules: [e], timespan: 1m, condition: {gt: params.m}}",
            "`params.m`",
            80,
            "known: `params.n`",
        ),
        ("{type: event_count, rules: [e], timespan: 1m, condition: {gt: params.s}}", "not a number", 80, "a number"),
        ("{type: event_count, rules: [e], timespan: 1m, condition: {above: 1, gt: 1}}", "key `above`", 76, "known:"),
        ("{type: event_count, rules: [e], timespan: 1m, group_by: [tenant]}", "`group_by`", 64, "`group-by`?"),
    ],
)
def test_a_mistake_in_a_window_has_its_place_and_a_fix(window, message, column, fix):
    found = at(WINDOW + window + "\n", message)
    assert found[:2] == (9, column)
    assert fix in found[2]


@pytest.mark.parametrize(
    ("override", "message", "fix"),
    [
        ({"maxx": 1}, "no parameter `maxx`", "did you mean `max`?"),
        ({"max": "x"}, "is a number, and this is a text", "give a number, like 10"),
        ({"max": True}, "this is a true or false", "give a number"),
        ({"max": 1e300}, "out of range", "±"),
    ],
)
def test_an_override_must_name_a_parameter_and_keep_its_type(override, message, fix):
    assert fix in at(HEAD + "params: {max: 10}\n" + RULES, message, **override)[2]


def test_a_whole_override_of_a_double_stays_a_double():
    params = read(HEAD + "params: {limit: 0.5}\n" + RULES, limit=1).params
    assert isinstance(params["limit"], float)


def test_limits_are_named():
    assert f"at most {TEXT_BYTES_MAX:,}" in parse("#" * (TEXT_BYTES_MAX + 1))[1][0].message
    many = "".join(f"  - {{id: r{i}, effect: deny, when: 'true'}}\n" for i in range(RULES_MAX + 1))
    assert "the limit is 1,000" in parse(HEAD + "rules:\n" + many)[1][0].message
    because = HEAD + f"rules:\n  - {{id: a, effect: deny, when: 'true', because: {'x' * 257}}}\n"
    assert "the limit is 256" in parse(because)[1][0].message


def test_a_bomb_of_aliases_is_refused_before_it_expands():
    bomb = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True))
    assert "aliases" in parse(bomb)[1][0].message


@given(st.text(max_size=200))
def test_no_text_ever_raises(text):
    program, mistakes = inspect(text)
    assert program is None
    assert mistakes


@given(st.text(max_size=60))
def test_no_expression_ever_raises(text):
    quoted = "'" + text.replace("'", "''") + "'"
    program, mistakes = inspect(HEAD + f"rules:\n  - id: a\n    effect: approve\n    when: {quoted}\n")
    assert program or mistakes


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("a: b\n\t- c\n", "not YAML", "replace the tab"),
        ("a:\n -\tb: c\n", "not YAML", "replace the tab"),
        ("a: b\n\x00", "U+0000", "remove it"),
    ],
)
def test_what_yaml_refuses_is_told_in_words(text, message, fix):
    _, (found,) = parse(text)
    assert (found.line, found.code) == (2, "yaml")
    assert message in found.message
    assert fix in found.fix


@pytest.mark.parametrize("text", ["\r\t", "a: b\r\t: c", "x\u2028\t", "\x85\t", "\r\n\t", "\r\r\r["])
def test_lines_are_counted_as_yaml_counts_them(text):
    program, mistakes = inspect(text)
    assert program is None
    assert mistakes
