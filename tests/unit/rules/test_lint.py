"""What a rule set says as a whole and its author can hardly mean; each warning is sure, and can be allowed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.core.model import TABLES
from harness_stream.core.rules import inspect
from harness_stream.core.rules.mistakes import Code
from harness_stream.core.rules.windows import Windows
from harness_stream.runtime.replay import Replay

HEAD = """\
rule_set: x
default: deny
params: {n: 3}
selections:
  mails: event.action == "email.send"
  outside: event.action == "email.send" && event.resource.zone == "external"
  reads: event.action == "crm.read"
  never: event.action == "a.b" && event.action == "c.d"
  anything: "true"
"""
OK = "  - {id: ok, effect: approve, when: 'intent.action in identity.actions'}\n"


def warned(rules, head=HEAD, *, unused=False):
    """(code, line in the rules, what is underlined) of every warning; there is no error."""
    program, mistakes = inspect(f"{head}rules:\n{rules}")
    assert program, mistakes
    lines = head.count("\n") + 1
    names = {Code.UNUSED_SELECTION, Code.UNUSED_PARAM}
    return [(m.code, m.line - lines, m.found) for m in mistakes if unused or m.code not in names]


def rule(effect, when, window="", mode="enforce"):
    correlation = f", correlation: {{{window}}}" if window else ""
    return f"  - {{id: r, effect: {effect}, when: '{when}', mode: {mode}{correlation}}}\n"


# --- conditions ---


@pytest.mark.parametrize(
    "when",
    [
        "false",
        "!true",
        "mails && false",
        "mails && reads",
        "never",
        "!(true || mails)",
        "mails && !mails",
        "outside && !mails",
        "1 > 2",
        '"a" == "b"',
        '"c" in ["a", "b"]',
        'intent.action == "a.b" && event.action == "c.d"',
        'intent.action in ["a.b", "c.d"] && intent.action == "e.f"',
        'intent.action == "a.b" && intent.action != "a.b"',
        "risk.present && !risk.present",
        "chain.events == 1 && chain.events == 2",
    ],
)
@pytest.mark.parametrize("effect", ["approve", "deny", "hold"])
def test_a_condition_that_is_never_true_is_pointed_out(when, effect):
    found = warned(OK + rule(effect, when))
    assert found == [(Code.NEVER_FIRES, 2, when)]


@pytest.mark.parametrize(
    "when",
    [
        "mails || !mails",
        'intent.action == "a.b" || intent.action == "c.d"',
        'intent.action == "a.b" && intent.purpose == "c.d"',
        'intent.action in ["a.b", "c.d"] && intent.action == "c.d"',
        'intent.action != "a.b" && intent.action != "c.d"',
        '"a" in intent.labels && "b" in intent.labels',
        "params.n > 5",  # a knob, not a constant
        "chain.events > 1 && chain.events > 1.5",
    ],
)
def test_a_condition_that_may_hold_is_left_alone(when):
    assert warned(OK + rule("deny", when)) == []


# --- windows ---


@pytest.mark.parametrize(
    ("effect", "when", "window", "underlined"),
    [
        ("approve", "mails", "type: event_count, rules: [mails], timespan: 1m, condition: {lt: 1}", "{lt: 1}"),
        ("approve", "outside", "type: event_count, rules: [mails], timespan: 1m, condition: {lte: 0}", "{lte: 0}"),
        ("approve", "reads", "type: event_count, rules: [anything], timespan: 1m, condition: {eq: 0}", "{eq: 0}"),
        ("deny", "reads", "type: event_count, rules: [mails, reads], timespan: 1m, condition: {lt: 1}", "{lt: 1}"),
        ("deny", "reads", "type: event_count, rules: [mails], timespan: 1m, condition: {lt: 0}", "{lt: 0}"),
        ("approve", "reads", "type: event_count, rules: [mails], timespan: 1m, condition: {eq: 1.5}", "{eq: 1.5}"),
        ("deny", "reads", "type: event_count, rules: [never], timespan: 1m, condition: {gt: 0}", "{gt: 0}"),
        (
            "deny",
            "reads",
            "type: value_count, rules: [reads], group-by: [agent_id], timespan: 1m, condition: {gt: 1, field: agent_id}",
            "{gt: 1, field: agent_id}",
        ),
        ("deny", "mails", "type: temporal, rules: [reads, never], timespan: 1m", "[reads, never]"),
        ("deny", "mails", "type: temporal_ordered, rules: [never, reads], timespan: 1m", "[never, reads]"),
        ("deny", "outside", "type: absent, rules: [mails], timespan: 1m", "[mails]"),
        ("deny", "outside", "type: absent, rules: [reads, mails], timespan: 1m", "[reads, mails]"),
    ],
)
def test_a_window_that_can_never_hold_is_pointed_out(effect, when, window, underlined):
    assert warned(OK + rule(effect, when, window)) == [(Code.NEVER_FIRES, 2, underlined)]


@pytest.mark.parametrize(
    ("when", "window", "underlined"),
    [
        ("mails", "type: event_count, rules: [mails], timespan: 1m, condition: {gt: 0}", "{gt: 0}"),
        ("mails", "type: event_count, rules: [anything], timespan: 1m, condition: {gte: 1}", "{gte: 1}"),
        ("reads", "type: event_count, rules: [mails], timespan: 1m, condition: {gte: 0}", "{gte: 0}"),
        ("reads", "type: value_sum, rules: [mails], timespan: 1m, condition: {gte: 0, field: measures.rows}", "{gte"),
        ("mails", "type: temporal, rules: [mails], timespan: 1m", "[mails]"),
        ("outside", "type: temporal_ordered, rules: [mails], timespan: 1m", "[mails]"),
        ("mails", "type: absent, rules: [never], timespan: 1m", "[never]"),
    ],
)
def test_a_window_that_always_holds_is_pointed_out(when, window, underlined):
    (found,) = warned(OK + rule("deny", when, window))
    assert found[:2] == (Code.ALWAYS_HOLDS, 2)
    assert found[2].startswith(underlined)


@pytest.mark.parametrize(
    ("when", "window"),
    [
        ("mails", "type: event_count, rules: [mails], timespan: 1m, condition: {gt: 1}"),
        ("mails", "type: event_count, rules: [outside], timespan: 1m, condition: {gt: 0}"),
        ("reads", "type: event_count, rules: [mails], timespan: 1m, condition: {lt: 1}"),
        ("mails", "type: temporal, rules: [mails, reads], timespan: 1m"),
        ("mails", "type: temporal_ordered, rules: [mails, mails2], timespan: 1m"),
        ("reads", "type: absent, rules: [mails], timespan: 1m"),
        ("mails", "type: value_sum, rules: [mails], timespan: 1m, condition: {gt: 0, field: measures.rows}"),
        ("mails", "type: value_count, rules: [mails], timespan: 1m, condition: {gt: 1, field: resource.uri}"),
    ],
)
def test_a_window_that_depends_on_the_history_is_left_alone(when, window):
    head = HEAD.replace("  reads:", '  mails2: event.action.startsWith("email.")\n  reads:')
    assert warned(OK + rule("deny", when, window), head) == []


@pytest.mark.parametrize(("op", "last_exact"), [("gt", 1023), ("gte", 1024), ("lt", 1024), ("lte", 1023)])
def test_beyond_its_bound_a_count_of_values_is_an_interval(op, last_exact):
    def window(threshold):
        return f"type: value_count, rules: [mails], timespan: 1m, condition: {{{op}: {threshold}, field: resource.uri}}"

    assert warned(OK + rule("deny", "mails", window(last_exact))) == []
    assert warned(OK + rule("deny", "mails", window(last_exact + 1))) == [(Code.INEXACT, 2, str(last_exact + 1))]


@pytest.mark.parametrize("kind", ["event_count", "value_count", "value_sum"])
@pytest.mark.parametrize("threshold", ["-1", "-0.5", "params.low"])
def test_nothing_that_is_counted_is_negative(kind, threshold):
    field = {"event_count": "", "value_count": ", field: resource.uri", "value_sum": ", field: measures.rows"}[kind]
    window = f"type: {kind}, rules: [mails], timespan: 1m, condition: {{gt: {threshold}{field}}}"
    head = HEAD.replace("params: {n: 3}", "params: {n: 3, low: -2}")
    _, mistakes = inspect(f"{head}rules:\n{OK}{rule('deny', 'mails', window)}")
    assert [(m.code, m.found) for m in mistakes if m.severity == "error"] == [(Code.NEGATIVE_COUNT, threshold)]


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("gt: -1", "always more than -1"),
        ("gte: -0.5", "always at least -0.5"),
        ("neq: -1", "always any number but -1"),
        ("lt: -1", "never less than -1"),
        ("lte: -1", "never at most -1"),
    ],
)
def test_what_comparing_with_a_negative_number_comes_to_is_told(condition, told):
    window = f"type: event_count, rules: [mails], timespan: 1m, condition: {{{condition}}}"
    _, mistakes = inspect(f"{HEAD}rules:\n{OK}{rule('deny', 'mails', window)}")
    (found,) = [m for m in mistakes if m.severity == "error"]
    assert found.message == f"what is counted or summed is {told}: it is not negative"


# --- denied events ---

DENIED = HEAD.replace(
    "  reads:", '  denied: event.decision == "deny"\n  refused: event.decision != "approve"\n  reads:'
)
FEW = "timespan: 1m, condition: {gt: 3}"


@pytest.mark.parametrize(
    "window",
    [
        f"type: event_count, rules: [denied], {FEW}",
        f"type: event_count, rules: [mails, denied], {FEW}",
        "type: temporal, rules: [denied, mails], timespan: 1m",
        "type: absent, rules: [denied], timespan: 1m",
    ],
)
@pytest.mark.parametrize("when", ["reads", "mails"])
def test_a_selection_of_denied_events_matches_nothing_in_a_window_that_does_not_count_them(when, window):
    assert warned(OK + rule("deny", when, window), DENIED) == [(Code.NEVER_MATCHES, 2, "denied")]


@pytest.mark.parametrize(
    "window",
    [
        f"type: event_count, rules: [denied], include: attempts, {FEW}",
        f"type: event_count, rules: [refused], {FEW}",  # holds that wait
        f"type: event_count, rules: [refused], include: attempts, {FEW}",
        "type: temporal, rules: [denied, mails], include: attempts, timespan: 1m",
    ],
)
def test_a_window_that_counts_what_its_selections_ask_for_is_left_alone(window):
    assert warned(OK + rule("deny", "reads", window), DENIED) == []


@pytest.mark.parametrize("when", ["denied", "refused", 'mails && !(intent.decision in ["approve", "hold"])'])
def test_the_intent_that_is_judged_is_not_denied_yet(when):
    found = warned(OK + rule("deny", when), DENIED)
    assert found == [(Code.NEVER_FIRES, 2, when)]
    _, mistakes = inspect(f"{DENIED}rules:\n{OK}{rule('deny', when)}")
    assert next(m.message for m in mistakes if m.code == Code.NEVER_FIRES).endswith("reads as `approve`")


@pytest.mark.parametrize(
    ("window", "found"),
    [
        ("type: event_count, rules: [mine], timespan: 1m, condition: {gt: 0}", Code.ALWAYS_HOLDS),
        ("type: event_count, rules: [refused], include: attempts, timespan: 1m, condition: {gt: 0}", None),
    ],
)
def test_the_intent_that_is_judged_counts_as_approved(window, found):
    head = DENIED.replace("  reads:", '  mine: event.action == "email.send" && event.decision != "deny"\n  reads:')
    assert [code for code, *_ in warned(OK + rule("deny", "mails", window), head)] == ([found] if found else [])


# --- history that can be shed ---

BY_CHAIN = "type: temporal, rules: [reads], group-by: [chain_id], timespan: 1m"


@pytest.mark.parametrize("effect", ["deny", "hold"])
@pytest.mark.parametrize("group", ["[chain_id]", "[agent_id, chain_id]", "[chain_id, action]"])
@pytest.mark.parametrize(
    "window", ["type: temporal, rules: [reads]", "type: event_count, rules: [reads], condition: {gt: 5}"]
)
def test_a_new_chain_sheds_what_is_grouped_by_chain(effect, group, window):
    rules = OK + rule(effect, "mails", f"{window}, group-by: {group}, timespan: 1m")
    assert warned(rules) == [(Code.CHAIN_ONLY, 2, "chain_id")]


@pytest.mark.parametrize(
    "rules",
    [
        rule("deny", "mails", BY_CHAIN.replace("chain_id", "agent_id")),
        rule("deny", "mails", BY_CHAIN.replace("group-by: [chain_id], ", "")),
        rule("approve", "mails", BY_CHAIN),
        # what a new chain lacks only makes these fire
        rule("deny", "mails", BY_CHAIN.replace("temporal", "absent")),
        rule(
            "deny", "mails", "type: event_count, rules: [reads], group-by: [chain_id], timespan: 1m, condition: {lt: 2}"
        ),
        # a second rule that sees through all chains
        rule("deny", "mails", BY_CHAIN)
        + rule("hold", "mails", BY_CHAIN.replace("chain_id", "agent_id")).replace("id: r", "id: s"),
    ],
)
def test_history_that_no_new_chain_sheds_is_left_alone(rules):
    assert warned(OK + rules) == []


@pytest.mark.parametrize(
    "second",
    [
        rule("hold", "mails", BY_CHAIN.replace("chain_id", "agent_id"), "shadow"),
        rule("approve", "mails", BY_CHAIN.replace("chain_id", "agent_id")),
        rule("deny", "mails", BY_CHAIN.replace("chain_id", "agent_id").replace("reads", "outside")),
    ],
)
def test_a_second_rule_that_does_not_see_the_same_is_no_help(second):
    found = warned(OK + rule("deny", "mails", BY_CHAIN) + second.replace("id: r", "id: s"))
    assert (Code.CHAIN_ONLY, 2, "chain_id") in found


# --- rules against each other ---

COUNTED = "type: event_count, rules: [mails], group-by: [agent_id], timespan: 1m, condition: {gt: 5}"


@pytest.mark.parametrize(
    ("deny", "other"),
    [
        (rule("deny", "true"), rule("approve", "mails")),
        (rule("deny", "anything"), rule("hold", "mails")),
        (rule("deny", "mails"), rule("hold", "mails")),
        (rule("deny", "mails"), rule("hold", "outside")),
        (rule("deny", "mails"), rule("approve", "mails", COUNTED)),
        (rule("deny", "reads || mails"), rule("hold", "mails || reads")),
        (
            rule("deny", 'event.action == "email.send"'),
            rule("hold", 'intent.action == "email.send" && chain.events > 1'),
        ),
        (rule("deny", "mails", COUNTED), rule("hold", "outside", COUNTED)),
        (rule("deny", "mails", COUNTED), rule("hold", "mails", COUNTED.replace("5", "6"))),
        (rule("deny", "mails", COUNTED.replace("gt: 5", "gt: 0")), rule("hold", "mails")),
    ],
)
def test_a_rule_that_a_deny_always_beats_is_pointed_out(deny, other):
    for rules, line in ((deny + other.replace("id: r", "id: s"), 2), (other.replace("id: r", "id: s") + deny, 1)):
        found = [entry for entry in warned(rules) if entry[0] == Code.OVERRULED]
        assert [entry[:2] for entry in found] == [(Code.OVERRULED, line)]


@pytest.mark.parametrize(
    ("deny", "other"),
    [
        (rule("deny", "outside"), rule("hold", "mails")),
        (rule("deny", "mails && reads"), rule("hold", "reads")),
        (rule("deny", "mails", mode="shadow"), rule("hold", "mails")),
        (rule("deny", "mails"), rule("hold", "mails", mode="shadow")),
        (rule("deny", "mails", COUNTED), rule("hold", "mails")),
        (rule("deny", "mails", COUNTED.replace("5", "6")), rule("hold", "mails", COUNTED)),
        (rule("deny", "mails", COUNTED.replace("agent_id", "tenant")), rule("hold", "mails", COUNTED)),
        (rule("hold", "true"), rule("approve", "mails")),
        (rule("deny", "mails"), rule("deny", "mails", COUNTED)),
    ],
)
def test_a_rule_that_may_decide_is_left_alone(deny, other):
    assert Code.OVERRULED not in [entry[0] for entry in warned(deny + other.replace("id: r", "id: s"))]


def test_each_rule_that_an_unconditional_deny_beats_is_named():
    rules = OK + rule("hold", "mails") + rule("deny", "true").replace("id: r", "id: stop")
    _, mistakes = inspect(f"{HEAD}rules:\n{rules}")
    told = [m.message for m in mistakes if m.code == Code.OVERRULED]
    assert told == [
        "`ok` never decides: `stop` (line 13) denies every intent",
        "`r` never decides: `stop` (line 13) denies every intent",
    ]


# --- names ---


def test_names_that_nothing_uses_are_pointed_out():
    window = "type: event_count, rules: [reads], timespan: 1m, condition: {gt: params.n}"
    assert warned(OK + rule("deny", "mails", window), unused=True) == [
        (Code.UNUSED_SELECTION, -4, "outside"),
        (Code.UNUSED_SELECTION, -2, "never"),
        (Code.UNUSED_SELECTION, -1, "anything"),
    ]


def test_a_parameter_counts_as_used_in_a_condition_a_selection_or_a_threshold():
    head = 'rule_set: x\ndefault: deny\nparams: {a: 1, b: "x", c: 2, d: 3}\nselections: {s: event.action == params.b}\n'
    window = "type: event_count, rules: [s], timespan: 1m, condition: {gt: params.c}"
    rules = OK + rule("deny", "chain.events > params.a", window)
    assert warned(rules, head, unused=True) == [(Code.UNUSED_PARAM, -2, "d")]


def test_while_there_are_mistakes_only_what_is_named_nowhere_is_called_unused():
    text = f"{HEAD}rules:\n{OK}  - {{id: r, effect: deny, when: 'mails && (', correlation: [outside]}}\n"
    _, mistakes = inspect(text)
    unused = [m.found for m in mistakes if m.code == Code.UNUSED_SELECTION]
    assert unused == ["reads", "never", "anything"]


@pytest.mark.parametrize(
    ("when", "window"),
    [
        ("raeds", "type: event_count, rules: [outside], timespan: 1m, condition: {gt: params.nn}"),
        ("chain.events > params.nn", "type: temporal, rules: [raeds, outside], timespan: 1m"),
    ],
)
def test_what_is_suggested_for_a_misspelt_name_is_not_called_unused_beside_it(when, window):
    _, mistakes = inspect(f"{HEAD}rules:\n{OK}{rule('deny', when, window)}")
    unused = [m.found for m in mistakes if m.code in {Code.UNUSED_SELECTION, Code.UNUSED_PARAM}]
    assert unused == ["mails", "never", "anything"]


# --- beside mistakes ---

SHED = "type: temporal, rules: [reads], group-by: [chain_id], timespan: 1m"
COUNTED_BY_CHAIN = "type: event_count, rules: [reads], group-by: [chain_id], timespan: 1m, condition: {gt: 5}"


def warned_beside_mistakes(rules):
    """Codes of the warnings of a set that does not load."""
    program, mistakes = inspect(f"{HEAD}rules:\n{OK}{rules}")
    assert program is None
    about_names = {Code.UNUSED_SELECTION, Code.UNUSED_PARAM}
    return [m.code for m in mistakes if m.severity == "warning" and m.code not in about_names]


@pytest.mark.parametrize(
    ("was", "mistaken"),
    [
        ("{gt: 5}", "{eq: 5}"),
        ("{gt: 5}", "{gt: -5}"),
        ("{gt: 5}", "{gt: params.m}"),
        ("{gt: 5}", "{gt: many}"),
        ("{gt: 5}", "{gt: 5, field: [by]}"),
        ("{gt: 5}", "{gt: 5, feild: by}"),
        ("timespan: 1m", "timespan: 9d"),
        ("timespan: 1m", "timespan: soon"),
        ("[chain_id]", "[chain_id, realm]"),
        ("rules: [reads]", "rules: [raeds]"),
        ("'mails'", "'identity.rols'"),
        ("'mails'", "'mails && ('"),
        ("when: 'mails', ", ""),
        ("id: r, ", ""),
        ("mode: enforce", "mode: enforced"),
        ("mode: enforce", "mood: enforce"),
        ("id: r,", "id: r, severity: hgh,"),
        ("id: r,", "id: ok,"),
    ],
)
def test_a_mistake_elsewhere_in_the_rule_hides_no_history_that_is_shed(was, mistaken):
    written = rule("deny", "mails", COUNTED_BY_CHAIN)
    assert warned_beside_mistakes(written.replace(was, mistaken)) == [Code.CHAIN_ONLY]


@pytest.mark.parametrize(
    ("was", "mistaken"),
    [
        ("effect: deny", "effect: dny"),
        ("event_count", "event_cont"),
        ("{gt: 5}", "{greater: 5}"),
        ("{gt: 5}", "{gt: 5, lt: 9}"),
        ("{gt: 5}", "{gt: params.m, lt: 9}"),
        ("{gt: 5}", "{gt: 5, unless: 9}"),
        ("{gt: 5}", "{lt: params.m}"),
        ("{gt: 5}", "5"),
        ("group-by:", "goup-by:"),
    ],
)
def test_whether_history_is_shed_is_not_guessed(was, mistaken):
    written = rule("deny", "mails", COUNTED_BY_CHAIN)
    assert warned_beside_mistakes(written.replace(was, mistaken)) == []


@pytest.mark.parametrize(
    ("was", "mistaken", "may_be"),
    [
        ("'mails'", "'identity.rols'", True),
        ("effect: deny", "effect: dny", True),
        ("correlation:", "corelation:", True),
        ("type: temporal", "type: tempral", True),
        ("[reads]", "[reads, 5]", True),
        ("mode: enforce", "mode: enforced", True),
        ("'mails'", "'identity.rols', severity: hgh", True),
        ("agent_id", "chain_id, severity: hgh", False),
        ("type: temporal", "type: absent, for: 1m", False),
        ("effect: deny", "effect: approve, sverity: high", False),
    ],
)
def test_a_second_rule_with_a_mistake_keeps_the_history_if_it_may_be_meant_to(was, mistaken, may_be):
    twin = rule("deny", "mails", SHED.replace("chain_id", "agent_id")).replace("id: r", "id: twin")
    assert Code.CHAIN_ONLY not in [entry[0] for entry in warned(OK + rule("deny", "mails", SHED) + twin)]
    found = warned_beside_mistakes(rule("deny", "mails", SHED) + twin.replace(was, mistaken))
    assert (Code.CHAIN_ONLY not in found) == may_be


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (rule("deny", "mails && false").replace("id: r", "id: 5"), Code.NEVER_FIRES),
        (rule("deny", "mails && false", "type: temporal, rules: [raeds], timespan: 1m"), Code.NEVER_FIRES),
        (rule("deny", "outside", "type: absent, rules: [mails], timespan: soon"), Code.NEVER_FIRES),
        (rule("deny", "mails", "type: temporal, rules: [mails], timespan: soon"), Code.ALWAYS_HOLDS),
        (
            rule("deny", "rols", "type: value_count, rules: [reads], timespan: 1m, condition: {gt: 5000, field: by}"),
            Code.INEXACT,
        ),
        (rule("hold", "outside").replace("id: r", "sverity: low") + rule("deny", "mails"), Code.OVERRULED),
    ],
)
def test_each_finding_looks_only_at_what_it_speaks_of(rules, code):
    assert warned_beside_mistakes(rules) == [code]


@pytest.mark.parametrize(
    "rules",
    [
        rule("deny", "mails && false && rols"),
        rule("deny", "outside", "type: absnt, rules: [mails], timespan: 1m"),
        rule("deny", "outside", "type: absent, rules: [mails], inclde: attempts, timespan: 1m"),
        rule("approve", "mails", "type: event_count, rules: [mails], timespan: 1m, condition: {lt: 1, gt: 5}"),
        rule("hold", "outside") + rule("deny", "mails").replace("mode", "mod").replace("id: r", "id: s"),
        rule("hold", "outside") + rule("deny", "mails").replace("mode: enforce", "window: 5").replace("id: r", "id: s"),
        rule("hold", "outside") + rule("deny", "mails", SHED.replace("chain", "agent")).replace("corr", "cor"),
        rule("deny", "false").replace("id: r", ", ".join(f"key{n}: 1" for n in range(9))),
        rule("hold", "outside", mode="enforced") + rule("deny", "mails").replace("id: r", "id: s"),
    ],
)
def test_what_was_not_read_is_not_judged(rules):
    assert warned_beside_mistakes(rules) == []


def test_a_rule_whose_name_was_not_read_is_told_by_its_place():
    rules = rule("hold", "outside").replace("id: r, ", "") + rule("deny", "mails").replace("id: r", "id: [5]")
    _, mistakes = inspect(f"{HEAD}rules:\n{OK}{rules}")
    (told,) = [m.message for m in mistakes if m.code == Code.OVERRULED]
    assert told == "this rule never decides: another rule (line 13) denies whatever this rule would hold"


# --- allowing ---


@pytest.mark.parametrize(
    "text",
    [
        f"# check: allow never-fires, unused-param — for now\n{HEAD}rules:\n{OK}{rule('deny', 'false')}",
        f"{HEAD}rules:\n{OK}{rule('deny', 'false')[:-1]} # check: allow never-fires\n",
        f"{HEAD}rules:\n{OK}  # check: allow never-fires\n{rule('deny', 'false')}",
    ],
)
def test_a_warning_that_is_meant_can_be_allowed(text):
    assert Code.NEVER_FIRES not in [m.code for m in inspect(text)[1]]


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}rules:\n{OK}# check: allow never-fires\n\n{rule('deny', 'false')}",
        f"{HEAD}rules:\n{OK[:-1]} # check: allow never-fires\n{rule('deny', 'false')}",
        f"# check: allow overruled\n{HEAD}rules:\n{OK}{rule('deny', 'false')}",
        f"# check: deny never-fires\n{HEAD}rules:\n{OK}{rule('deny', 'false')}",
    ],
)
def test_elsewhere_or_otherwise_it_is_not_allowed(text):
    assert Code.NEVER_FIRES in [m.code for m in inspect(text)[1]]


def test_an_error_cannot_be_allowed():
    text = f"# check: allow unknown-name\n{HEAD}rules:\n{OK}{rule('deny', 'mail')}"
    program, mistakes = inspect(text)
    assert program is None
    assert [m.code for m in mistakes if m.severity == "error"] == [Code.UNKNOWN_NAME]


# --- the law: what is called never or always is so, whatever happens ---

ATOMS = [
    "mails",
    "reads",
    "outside",
    "never",
    "anything",
    "true",
    "false",
    "(chain.events > 1)",
    '("pii" in intent.labels)',
]
WHEN = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda text: f"!({text})"),
    ),
    max_leaves=4,
)
LISTED = st.lists(
    st.sampled_from(["mails", "reads", "outside", "never", "anything"]), min_size=1, max_size=2, unique=True
)
WINDOW = st.one_of(
    st.none(),
    st.builds(
        lambda kind, rules: {"type": kind, "rules": rules},
        st.sampled_from(["temporal", "temporal_ordered", "absent"]),
        LISTED,
    ),
    st.builds(
        lambda rules, op, n: {"type": "event_count", "rules": rules, "condition": {op: n}},
        LISTED,
        st.sampled_from(["gt", "gte", "lt", "lte", "neq"]),
        st.integers(0, 2),
    ),
    st.builds(
        lambda rules, op, n: {
            "type": "value_count",
            "rules": rules,
            "group-by": ["agent_id"],
            "condition": {op: n, "field": "agent_id"},
        },
        LISTED,
        st.sampled_from(["gt", "gte", "lt", "lte", "neq"]),
        st.integers(0, 2),
    ),
)
RULE = st.builds(
    lambda effect, when, window: {"effect": effect, "when": when, "window": window},
    st.sampled_from(["approve", "deny", "hold"]),
    WHEN,
    WINDOW,
)
EVENT = st.tuples(
    st.sampled_from(["email.send", "crm.read", "a.b"]), st.sampled_from([[], ["mail:a"], ["x:b", "mail:a"]])
)


def document(rules, mode):
    plain = []
    for number, drawn in enumerate(rules):
        one = {"id": f"r{number}", "effect": drawn["effect"], "when": drawn["when"], "mode": mode}
        if drawn["window"]:
            one["correlation"] = {"timespan": "1m", **drawn["window"]}
        plain.append(one)
    plain.append({"id": "ok", "effect": "approve", "when": "true"})
    selections = {
        "mails": 'event.action == "email.send"',
        "outside": 'event.action == "email.send" && event.resource.zone == "external"',
        "reads": 'event.action == "crm.read"',
        "never": 'event.action == "a.b" && event.action == "c.d"',
        "anything": "true",
    }
    return json.dumps({"rule_set": "x", "default": "deny", "selections": selections, "rules": plain})


def fired(program, events):
    """Which rules the verdicts name: those that decided, and those in shadow."""
    rows = [
        ("identity", {"agent_id": "a", "workloads": ["w"], "actions": ["crm.read"]}),
        ("classification", {"subject": "resource:mail:*", "zone": "external", "labels": ["pii"]}),
    ]
    engine = Replay(Windows(program), [(t, TABLES[t].model_validate_json(json.dumps(row))) for t, row in rows])
    named = []
    for number, (action, resources) in enumerate(events, 1):
        line = {"type": "intent", "at": number * 1_000, "agent_id": "a", "action": action, "resources": resources}
        body = engine.take(number, json.dumps(line).encode())
        named += [{r.get("rule") for r in body[key]} for key in ("reasons", "shadow")]
    return named


@settings(max_examples=150, deadline=None)
@given(st.lists(RULE, min_size=1, max_size=3), st.lists(EVENT, min_size=1, max_size=5))
def test_what_is_called_never_never_is(rules, events):
    for mode, codes in (("shadow", {Code.NEVER_FIRES}), ("enforce", {Code.NEVER_FIRES, Code.OVERRULED})):
        program, mistakes = inspect(document(rules, mode))
        assert program, mistakes
        said = {m.message.split("`")[1] for m in mistakes if m.code in codes}
        assert not any(said & names for names in fired(program, events))


@settings(max_examples=150, deadline=None)
@given(RULE, st.lists(EVENT, min_size=1, max_size=5))
def test_a_window_that_is_said_to_hold_always_changes_nothing(drawn, events):
    program, mistakes = inspect(document([drawn], "shadow"))
    assert program, mistakes
    if Code.ALWAYS_HOLDS in {m.code for m in mistakes}:
        bare, _ = inspect(document([drawn | {"window": None}], "shadow"))
        assert fired(program, events) == fired(bare, events)
