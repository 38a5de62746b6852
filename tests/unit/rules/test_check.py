"""The meaning of a rule set: what is refused, where, and what to write instead."""

from __future__ import annotations

from typing import get_args

import pytest

from harness_stream.core import provenance
from harness_stream.core.rules import inspect
from harness_stream.core.rules.language import ARGUMENT_FIELDS, ARGUMENT_VALUES, FIELD_VALUES, FIELDS
from harness_stream.core.rules.mistakes import Code
from harness_stream.core.scalars import Role
from harness_stream.core.tables import IdentityRow

# The examples here share names that not each of them uses; `test_lint.py` is about those.
UNUSED = {Code.UNUSED_PARAM, Code.UNUSED_SELECTION}
HEAD = """\
rule_set: x
default: deny
params: {n: 5, ratio: 0.5, word: high, flag: true}
selections:
  egress: event.action == "email.send"
  has_rows: '"rows" in event.measures'
  loops: event.labels.exists(x, x == "pii")
"""
RULE = HEAD + "rules:\n  - id: a\n    effect: approve\n    when: "
WHEN_LINE, WHEN_COLUMN = 11, 12  # the first character inside the quotes


def inspected(text, **settings):
    """The program and the mistakes, those about names nobody uses left out; each underlines what it means."""
    program, mistakes = inspect(text, **settings)
    for m in mistakes:
        assert m.text[m.column - 1 : m.end_column - 1] == m.found
        assert m.code in set(Code)
    return program, tuple(m for m in mistakes if m.code not in UNUSED)


def findings(when):
    """What is found in a condition: (offset in it, severity, message, fix)."""
    quoted = "'" + when.replace("'", "''") + "'"
    _, mistakes = inspected(RULE + quoted + "\n")
    assert all(mistake.line == WHEN_LINE for mistake in mistakes), mistakes
    doubled = "'" in when  # then columns do not count one to one
    return [(-1 if doubled else m.column - WHEN_COLUMN, m.severity, m.message, m.fix) for m in mistakes]


@pytest.mark.parametrize(
    "when",
    [
        "egress",
        "!egress && intent.purpose != ''",
        "intent.action in identity.actions && 'support' in identity.roles",
        "risk.present && risk.score > 1",
        "!risk.present || risk.score < 0.5",
        "risk.present ? risk.score < params.n : true",
        "risk.present && (risk.level == params.word || risk.score >= params.ratio)",
        "mandate.present && intent.t < mandate.expires_at",
        "'rows' in intent.measures && intent.measures.rows > params.n",
        "has(intent.measures.rows) && intent.measures['rows'] > 1.5",
        "has_rows && intent.measures.rows > 5",
        "'rows' in event.measures && intent.measures.rows > 5",
        "!('rows' in intent.measures) || intent.measures.rows <= 5",
        "intent.measures.exists(k, intent.measures[k] > 100)",
        "'to' in args && args['to'].role == 'destination' && args.to.exact",
        "has(args.to) && args.to.role == 'secret'",
        "intent.action in {'a': 1} && {'a': 1}[intent.action] > 0",
        "intent.labels.filter(x, x != 'a').exists(x, x == 'b')",
        "size(intent.labels) / 2 > 1",
        "chain.events % 10 == 0",
        "intent.action.matches('^crm[.](read|export)$')",
        "params.flag && chain.events > params.ratio",
        "intent.resource.zone == 'external' // a comment",
        "mandate.present && mandate.expires_at - intent.t < params.n * 60000",
        "size(intent.labels) * 1000 + chain.events > -9223372036854775807",
        "[1, 2].exists(x, x * 1000 == chain.events) && intent.roles.exists_one(x, x == 'a')",
        "size(intent.roles.map(x, x + 'a')) + size(intent.purpose + 'b') > -(-9223372036854775807)",
        "risk.present && risk.score * 1e308 > 1e308",
    ],
)
def test_a_sound_condition_has_no_findings(when):
    assert findings(when) == []


@pytest.mark.parametrize(
    ("when", "offset", "message", "fix"),
    [
        # names
        ('"a" in identity.rols', 16, "unknown field `identity.rols`", "did you mean `identity.roles`?"),
        ("event.resource.zon == params.word", 15, "unknown field `event.resource.zon`", "`event.resource.zone`?"),
        ("chain.label == intent.labels", 6, "unknown field `chain.label`", "did you mean `chain.labels`?"),
        ("chain.events > params.m", 22, "unknown field `params.m`", "known: `params.flag`, `params.n`"),
        ("egres", 0, "unknown name `egres`", "did you mean `egress`?"),
        ("user.name == params.word", 0, "unknown name `user`", "known:"),
        ("identity", 0, "`identity` is a table, not a value", "such as `identity.present`"),
        ("event.resource == intent.resource", 0, "`event.resource` is a table", "such as `event.resource.uri`"),
        ("intent.action.startWith(params.word)", 14, "unknown function `startWith`", "did you mean `startsWith`?"),
        ('"to" in args && args["to"].rol == "x"', 27, "unknown field `rol`", "did you mean `role`?"),
        ("intent.labels.exists(event, event == params.word)", 14, "`event` already names", "call the variable `x`"),
        ("intent.labels.exists(egress, egress == params.word)", 14, "`egress` already names", "call the variable"),
        # presence
        ("has(risk.score)", 0, "`has()` is refused", "use `risk.present`"),
        ("has(intent.purpose)", 0, "`has()` is refused", 'compare with `""`'),
        ("intent.measures.rows > 5", 0, "`intent.measures.rows` fails", '`"rows" in intent.measures && …` before'),
        ('intent.measures["rows"] > 5', 0, '`intent.measures["rows"]` fails', '`"rows" in intent.measures && …`'),
        ('intent.measures.rows > 5 && "rows" in intent.measures', 0, "fails when the key is missing", "before it"),
        ('"rows" in intent.measures || intent.measures.rows > 5', 29, "fails when the key is missing", "before it"),
        ('"row" in intent.measures && intent.measures.rows > 5', 28, "fails when the key is missing", "before it"),
        ('args["to"].role == params.word', 0, '`args["to"]` fails', '`"to" in args && …`'),
        ("intent.labels[0] == params.word", 0, "an index into a list", "in list"),
        # arithmetic and conversion
        ("10 / chain.events > 1", 3, "`/` fails when the divisor is 0", "other than 0"),
        ("10 / 0 > 1", 3, "`/` fails", "other than 0"),
        ("10 % params.n > 1", 3, "`%` fails", "other than 0"),
        ("int(intent.action) > 1", 0, "`int()` of an input", "compare without converting"),
        ("timestamp(intent.t) > timestamp(0)", 0, "`timestamp()` of an input", "compare without"),
        ('int("x") > 1', 0, "`int()` of this literal fails", "correct the literal"),
        ("9223372036854775807 + chain.events > 1", 20, "`+` fails when the result is beyond", "smaller numbers"),
        ("-9223372036854775807 - chain.events < 1", 21, "`-` fails when the result is beyond", "smaller numbers"),
        ("intent.t * 1000000 > 1", 9, "`*` fails when the result is beyond", "without arithmetic"),
        ("-(-9223372036854775808) > 1", 0, "`-` fails when the result is beyond", "smaller numbers"),
        ("-9223372036854775808 / -1 > 1", 21, "`/` fails when the result is beyond", "smaller numbers"),
        ("-9223372036854775808 % -1 > 1", 21, "`%` fails when the result is beyond", "smaller numbers"),
        ("[9223372036854775807].exists(x, x + 1 > 1)", 34, "`+` fails when the result is beyond", "smaller"),
        ("[9223372036854775807].map(x, x).exists(y, y + 1 > 1)", 44, "`+` fails when the result is beyond", "smaller"),
        (
            '{"a": 9223372036854775807}.exists(k, k == "b" && {"a": 9223372036854775807}[k] + 1 > 1)',
            79,
            "`+` fails",
            "",
        ),
        ("(egress ? 9223372036854775807 : 1) + 1 > 1", 35, "`+` fails when the result is beyond", "smaller"),
        ('int("9223372036854775807") + 1 > 1', 27, "`+` fails when the result is beyond", "smaller"),
        ("dyn(9223372036854775807) + 1 > 1", 25, "`+` fails when the result is beyond", "smaller"),
        ("1u - 2u == 1u", 3, "`-` can fail with times, durations and unsigned numbers", "whole numbers"),
        ('timestamp("9999-12-31T23:59:59Z") + duration("9h") == timestamp(0)', 34, "`+` can fail with times", "whole numbers"),
        ("has_rows && intent.measures.rows * 2 > 5", 33, "a measure may be whole or not", "compare the measure itself"),
        # types
        ("risk.present && risk.score * 2 > 1", 27, "`*` does not take a double and an int", "`2.0`"),
        ("risk.present && risk.score > params.word", 27, "`>` does not take a double and a string", "one type"),
        ('has_rows && intent.measures.rows > "5"', 33, "`>` does not take a double and a string", "one type"),
        ("intent.action", 0, "this is a string, not true or false", "compare it"),
        ("chain.events && egress", 13, "`&&` does not take an int", "one type"),
        ('"to" in args && args["to"].role > 5', 32, "`>` does not take a string and an int", "one type"),
        ('"to" in args && args.to.values + 1 == []', 31, "`+` does not take a list of string and an int", "one type"),
        ('"to" in args && args.to.exact == "yes"', 30, "`==` does not take a bool and a string", "one type"),
        ('"to" in args && args.to.values.exists(v, v > 1)', 43, "`>` does not take a string and an int", "one type"),
        ("size(intent.labels) > 0.5", 20, "a whole number and a double", "1.0 and 2.0"),
        # syntax
        ("egress &&", 9, "ends too early", "remove the last operator"),
        ("egress and has_rows", 7, "`and` is not CEL", "write `&&`"),
        ("intent.action = params.word", 14, "", "write `==`"),
        ("", 0, "ends too early", "finish it"),
        # cost
        ("intent.labels.exists(x, intent.roles.exists(y, x == y))", 37, "a loop inside a loop", "one loop"),
        ("intent.roles.exists(y, loops)", 23, "a loop inside a loop", "split the rule"),
        ("intent.action.matches(intent.purpose)", 14 + 7, "literal pattern only", "in quotes"),
        ('intent.action.matches("(")', 22, "not a regular expression: missing ): (", "RE2"),
        ('intent.action.matches("(?=a)b")', 22, "not a regular expression: invalid perl operator: (?=", "neither ahead"),
    ],
)
def test_a_condition_is_refused_at_its_place_with_a_fix(when, offset, message, fix):
    found = [entry for entry in findings(when) if message in entry[2] and fix in entry[3] and entry[1] == "error"]
    assert [entry[0] for entry in found] == [offset], findings(when)


def test_what_a_parameter_is_set_to_decides_what_arithmetic_it_bears():
    text = RULE + "'chain.events < params.n * 86400000'\n"
    program, _ = inspected(text)
    assert program
    _, mistakes = inspected(text, overrides={"n": 2**53 - 1})
    assert ["`*` fails when the result is beyond" in m.message for m in mistakes] == [True]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (f"intent.action in [{', '.join(['1'] * 65)}]".replace("1", '"a"'), "a literal of 65 elements"),
        (f'intent.action.matches("{"a" * 201}")', "a pattern of 201 characters"),
        (f'intent.action == "{"a" * 1_500}"', "the limit is 1,500"),
        ("(" * 40 + "true" + ")" * 40, "nests deeper than 32"),
        ("1" + "+1" * 60 + " > 1", "nests deeper than 32"),
    ],
)
def test_cost_is_bounded(when, message):
    assert [entry for entry in findings(when) if message in entry[2]], findings(when)


def test_the_limit_also_holds_with_selections_put_in():
    long = f'event.action == "{"a" * 900}"'
    text = f"rule_set: x\ndefault: deny\nselections:\n  s: '{long}'\nrules:\n  - {{id: a, effect: approve, when: 's || s'}}\n"
    _, mistakes = inspected(text)
    assert "with its selections put in" in mistakes[0].message


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ("has(risk.score)", ["`has()` is refused here"]),
        ("has(risk.score) && risk.score > 0.5", ["`has()` is refused here"]),
        ("!has( intent.purpose ) || egress", ["`has()` is refused here"]),
        ("has(risk.score) && 1", ["`has()` is refused here", "`&&` does not take a bool and an int"]),
    ],
)
def test_a_refused_has_is_told_once_and_hides_nothing_else(when, found):
    assert [message for _, _, message, _ in findings(when)] == found


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("effect: aprove, when: egress, obligations: {a: 1}", ["aprove"]),
        ("effect: aprove, when: egress, correlation: {type: event_count, ONE, condition: {eq: 3}}", ["aprove"]),
        ("effect: deny, when: egress, correlation: {type: event_cout, ONE, condition: {gt: 3}}", ["event_cout"]),
        ("effect: deny, when: egress, correlation: {type: event_cout, ONE}", ["event_cout"]),
        ("effect: deny, when: egress, correlation: {typ: event_count, ONE, condition: {gt: 3}}", ["typ"]),
        ("effect: deny, when: egress, correlation: {type: event_count, ONE, condition: {gtt: 3}}", ["gtt"]),
        (
            "effect: deny, when: egress, correlation: {type: value_sum, ONE, condition: {gt: 3, filed: measures.rows}}",
            ["filed"],
        ),
        ("effect: deny, when: egress, correlation: {type: value_sum, ONE, condition: 3}", ["3"]),
        ("efect: deny, when: egress", ["efect"]),
        ("effect: deny, when: egress, correlation: {type: temporal, rules: has_rows, timespan: 1m}", ["has_rows"]),
    ],
)
def test_a_misspelt_word_is_one_mistake_and_nothing_follows_from_what_was_read_instead(rule, found):
    one = rule.replace("ONE", "rules: [has_rows], timespan: 1m")
    _, mistakes = inspected(f"{HEAD}rules:\n  - {{id: ok, effect: approve, when: 'true'}}\n  - {{id: r, {one}}}\n")
    assert [m.found for m in mistakes] == found, mistakes


@pytest.mark.parametrize("table", ["risk.score > 1.0", "infrastructure.attested", 'mandate.declared_by == "agent"'])
def test_reading_a_row_that_may_be_absent_is_a_warning(table):
    name = table.split(".")[0]
    assert [(e[0], e[1]) for e in findings(table)] == [(0, "warning")]
    assert findings(f"{name}.present && {table}") == []
    assert findings(f"{table} && {name}.present") != []


@pytest.mark.parametrize(
    ("when", "offset", "message", "fix"),
    [
        ('intent.decision == "denied"', 19, "`intent.decision` is one of approve, deny, hold", "did you mean `deny`?"),
        ('"denied" != intent.decision', 0, "`intent.decision` is one of", "did you mean `deny`?"),
        ('intent.decision in ["deny", "holt"]', 28, "`intent.decision` is one of", "did you mean `hold`?"),
        ('intent.kind == "intend"', 15, "`intent.kind` is one of intent", "did you mean `intent`?"),
        ('identity.status == "suspend"', 19, "one of active, suspended, killed", "did you mean `suspended`?"),
        ('mandate.present && mandate.declared_by == "agents"', 42, "one of orchestrator, agent", "`agent`?"),
        ('origin("to") == "mandat"', 16, '`origin("to")` is one of mandate, self', "did you mean `mandate`?"),
        ('args.exists(n, origin(n) == "promt")', 28, "`origin(n)` is one of mandate, self", "did you mean `prose`?"),
        ('"to" in args && args.to.role == "object_"', 32, "`args.to.role` is one of destination", "`object`?"),
        ('"to" in args && args["to"].origin in ["fild"]', 38, "is one of mandate, self", "`field`?"),
        ('"to" in args && args["to"].links != "nonne"', 36, "never_seen, none", "did you mean `none`?"),
    ],
)
def test_a_word_that_a_field_never_holds_is_a_warning(when, offset, message, fix):
    found = [e for e in findings(when) if e[1] == "warning" and message in e[2] and fix in e[3]]
    assert [e[0] for e in found] == [offset], findings(when)


@pytest.mark.parametrize(
    "when",
    [
        'intent.decision == "approve" && identity.status in ["active", "suspended", "killed"]',
        'origin("to") in ["mandate", "self", "never_seen"] || intent.kind == "intent"',
        'args.exists(n, args[n].role == "content" && args[n].links == "none")',
        'identity.status == params.word && intent.purpose == "any text"',  # a param is a knob
    ],
)
def test_the_words_that_a_field_holds_and_texts_of_other_fields_are_left_alone(when):
    assert findings(when) == []


def test_the_words_of_the_language_are_those_of_rows_events_and_arguments():
    assert FIELD_VALUES["identity.status"] == get_args(IdentityRow.model_fields["status"].annotation)
    assert ARGUMENT_VALUES["role"] == get_args(Role)
    assert ARGUMENT_VALUES["origin"] == provenance.WORDS
    assert set(FIELD_VALUES) <= set(FIELDS)
    assert set(ARGUMENT_VALUES) <= set(ARGUMENT_FIELDS)


def test_a_mistake_in_a_block_of_lines_stands_where_it_was_written():
    text = RULE + "|\n      egress &&\n        identity.rols == identity.roles\n"
    _, mistakes = inspected(text)
    assert [(m.line, m.column) for m in mistakes] == [(13, 18)]
    assert mistakes[0].text[17:] == "rols == identity.roles"


@pytest.mark.parametrize(
    ("quoted", "column"),
    [
        ("'event.purpose == ''a'' && egres'", 38),
        (r'"event.purpose == \"a\" && egres"', 38),
        ("true   &&\n      egres", 7),
    ],
)
def test_quotes_escapes_and_folded_lines_do_not_shift_columns(quoted, column):
    _, mistakes = inspected(RULE + quoted + "\n")
    assert [m.text[m.column - 1 : m.column + 4] for m in mistakes] == ["egres"]
    assert mistakes[0].column == column


@pytest.mark.parametrize(
    ("selection", "message", "fix"),
    [
        ("intent.action == 'x'", "reads only `event` and `params`", "write `event` for `intent`"),
        ("identity.present", "reads only `event` and `params`", "in the rule's `when`"),
        ("egress", "a selection cannot use another one", "write out what `egress` says"),
        ("event.t > 5 && event.tt", "unknown field `event.tt`", "`event.t`"),
    ],
)
def test_selections_read_only_the_event(selection, message, fix):
    text = f'{HEAD}  bad: "{selection}"\nrules:\n  - {{id: a, effect: approve, when: bad}}\n'
    _, mistakes = inspected(text)
    assert [m for m in mistakes if m.line == 8 and message in m.message and fix in m.fix], mistakes


def windowed(effect, window):
    return (
        f"{HEAD}rules:\n  - {{id: ok, effect: approve, when: 'true'}}\n"
        f"  - id: a\n    effect: {effect}\n    when: egress\n    correlation: {window}\n"
    )


@pytest.mark.parametrize(
    ("window", "column", "message", "fix"),
    [
        ("{type: temporal, rules: [egres], timespan: 1m}", 43, "unknown selection `egres`", "did you mean `egress`?"),
        ("{type: temporal, rules: [], timespan: 1m}", 42, "lists no selection", "at least one"),
        ("{type: temporal, rules: [egress], timespan: 25h}", 62, "the longest window is 86,400 s", "shorten it"),
        ("{type: temporal, rules: [egress], timespan: 1m, condition: {gt: 1}}", 77, "has no condition", "remove it"),
        ("{type: absent, rules: [egress], timespan: 1m, condition: {gt: 1}}", 75, "has no condition", "remove it"),
        ("{type: event_count, rules: [egress], timespan: 1m}", 18, "needs a condition", "add `condition"),
        ("{type: event_count, rules: [egress], timespan: 1m, condition: {eq: 1}}", 81, "`eq` in a deny", "write `gte`"),
        (
            "{type: event_count, rules: [egress], timespan: 1m, condition: {gt: 1, field: action}}",
            95,
            "counts events",
            "remove",
        ),
        ("{type: value_sum, rules: [egress], timespan: 1m, condition: {gt: 1}}", 78, "needs a field", "add `field"),
        (
            "{type: value_sum, rules: [egress], timespan: 1m, condition: {gt: 1, field: action}}",
            93,
            "be summed",
            "measure",
        ),
        (
            "{type: value_count, rules: [egress], timespan: 1m, condition: {gt: 1, field: labels}}",
            95,
            "only count a text",
            "known",
        ),
        (
            "{type: temporal, rules: [egress], group-by: [realm], timespan: 1m}",
            63,
            "wider than a lane",
            "`tenant` at most",
        ),
        (
            "{type: temporal, rules: [egress], group-by: [event.action], timespan: 1m}",
            63,
            "no prefix",
            "write `action`",
        ),
        ("{type: temporal, rules: [egress], group-by: [agentid], timespan: 1m}", 63, "not a path", "`agent_id`?"),
        ("{type: temporal, rules: [egress], group-by: [labels], timespan: 1m}", 63, "`labels` holds a list", "known"),
        ("{type: temporal, rules: [egress], group-by: [t], timespan: 1m}", 63, "`t` holds a whole number", "known"),
    ],
)
def test_a_window_is_refused_at_its_place_with_a_fix(window, column, message, fix):
    _, mistakes = inspected(windowed("deny", window))
    assert [(m.line, m.column) for m in mistakes if message in m.message and fix in m.fix] == [(13, column)], mistakes


@pytest.mark.parametrize(
    ("effect", "window"),
    [
        ("deny", "{type: temporal_ordered, rules: [egress, has_rows], timespan: 1d}"),
        ("deny", "{type: absent, rules: [has_rows], group-by: [chain_id], timespan: 30s}"),
        ("hold", "{type: event_count, rules: [egress], group-by: [], timespan: 1m, condition: {lt: 2}}"),
        (
            "hold",
            "{type: value_count, rules: [egress], group-by: [tenant], timespan: 1m, condition: {gt: 2, field: resource.uri}}",
        ),
        ("deny", "{type: value_sum, rules: [egress], timespan: 1m, condition: {gte: params.n, field: measures.rows}}"),
        ("approve", "{type: event_count, rules: [egress], timespan: 1m, condition: {eq: 1}}"),
    ],
)
def test_every_type_of_window_is_accepted(effect, window):
    program, mistakes = inspected(windowed(effect, window))
    assert program, mistakes
    assert mistakes == ()


def test_the_longest_window_is_a_setting():
    text = windowed("deny", "{type: temporal, rules: [egress], timespan: 2d}")
    assert inspected(text)[0] is None
    assert inspected(text, timespan_ms_max=48 * 3_600_000)[0]


def test_ids_are_unique():
    _, mistakes = inspected(HEAD + "rules:\n" + "  - {id: a, effect: approve, when: 'true'}\n" * 2)
    assert [(m.line, m.column, m.message) for m in mistakes] == [(10, 10, "the id `a` is taken (line 9)")]


def test_a_set_that_approves_nothing_loads_with_a_warning():
    program, mistakes = inspected(HEAD + "rules:\n  - {id: a, effect: deny, when: 'true'}\n")
    assert program
    assert [m.severity for m in mistakes] == ["warning"]


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_text():
    text = """\
rule_set: x
default: allow
selections:
  a: event.acton == "x"
rules:
  - id: one
    effect: deny
    when: a && identity.rols == ""
  - id: one
    effect: denny
    when: infrastructur.present
"""
    _, mistakes = inspected(text)
    assert [m.line for m in mistakes if m.severity == "error"] == [2, 4, 8, 9, 10, 11]
