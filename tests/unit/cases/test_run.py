"""A case runs through the replay's engine; what had to come out is compared, and why it did not is explained."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.cli.rules_test import run_case
from harness_stream.core.cases import read_cases
from harness_stream.core.rules import load
from harness_stream.core.rules.cel import Parser
from harness_stream.core.rules.parts import parts_of, reads_of

RULES = """\
rule_set: x
default: deny
params: {n: 2}
selections:
  reads: event.action == "crm.read"
  mails: event.action == "email.send" && event.resource.zone != "internal"
  broken: event.resource.labels.exists(x, x == event.action)
rules:
  - {id: ok, effect: approve, when: "true", obligations: {redact: true}}
  - {id: quiet, effect: deny, when: mails, correlation: {type: temporal, rules: [reads], group-by: [agent_id], timespan: 30m}}
  - id: many
    effect: hold
    when: reads
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 1h, condition: {gt: params.n}}
  - id: rows
    effect: deny
    when: '"rows" in intent.measures'
    correlation: {type: value_sum, rules: [reads], group-by: [agent_id], timespan: 1h, condition: {gt: 10, field: measures.rows}}
  - {id: risky, effect: deny, when: risk.present && risk.score > 0.5}
  - {id: failing, effect: deny, mode: shadow, when: mandate.expires_at > 5}
  - {id: seen, effect: deny, mode: shadow, when: mails}
"""
PROGRAM = load(RULES)
MAIL = "{agent: a, action: email.send, resources: email://x}"
READ = "{agent: a, action: crm.read, resources: crm://x}"


def ran(when, then, given=(), more="", program=PROGRAM, *, explain=True):
    entries = "".join(f"      - {entry}\n" for entry in given)
    before = f"    given:\n{entries}" if given else ""
    text = f"rules: r\ncases:\n  - name: a\n{more}{before}    when: {when}\n    then: {then}\n"
    read = read_cases(text)
    assert read.findings.all() == (), read.findings.all()
    return run_case(read.cases.cases[0], program, {}, explain_all=explain)


def failures(*arguments, **more):
    return list(ran(*arguments, **more).result.failures)


def account(one, rule):
    return next(a for a in one.accounts if a.rule == rule)


def at(entry, time):
    return entry.replace("{", f"{{at: {time}, ", 1)


# --- what came out against what had to ---


@pytest.mark.parametrize(
    ("when", "given_", "then"),
    [
        (MAIL, (), "approve"),
        (MAIL, (), "{decision: approve, rules: [ok], not_rules: [quiet, risky], obligations: {redact: true}, unknown: false}"),
        (MAIL, (), "{shadow: [seen], evidence: []}"),
        (MAIL, (at(READ, "-30m"),), "{decision: deny, rules: [quiet], evidence: [0], evidence_count: 1}"),
        (MAIL, (at(READ, "-30m1ms"),), "approve"),
        (READ, (READ, READ), "{decision: hold, rules: [many], evidence: [0, 1], evidence_count: 3}"),
        (READ, ("{repeat: {times: 2, every: 1m}, agent: a, action: crm.read}",), "{decision: hold, evidence: [0]}"),
        ("{type: approval, agent: a, by: grace, decision: approve}", (READ, READ, READ.replace("}", ", then: hold}")), "approve"),
        ("{type: approval, agent: a, by: grace, decision: deny}", (READ, READ, READ.replace("}", ", then: hold}")), "{decision: deny, reasons: [hold_denied]}"),
        ("{type: approval, agent: a, by: a, decision: approve}", (READ, READ, READ), "{decision: refused, reasons: [not_approver]}"),
        ("{type: outcome, agent: a, status: done}", (READ,), "accepted"),
        ("{type: outcome, agent: a, status: done, of: 0}", (MAIL, READ), "accepted"),
        ("{type: outcome, agent: a, status: done}", (), "{decision: refused, reasons: [bypass]}"),
        ("{type: mandate, agent: a, by: boss, chain: c}", (), "accepted"),
        ("{agent: a, action: crm.read, chain: c}", (), "{decision: deny, reasons: [chain_unknown]}"),
        ("{agent: a, action: crm.read, chain: c}", ("{type: mandate, agent: a, chain: c, expires: -1ms}",), "{reasons: [chain_closed]}"),
        ("{agent: a, action: crm.read, chain: c}", ("{type: mandate, agent: a, chain: c, expires: 0}",), "approve"),
        ("{agent: b, action: crm.read, parent: 0}", (MAIL,), "approve"),
        ("{agent: a, action: crm.read}", ("{type: table, table: risk, row: {subject: agent:a, score: 0.9}}",), "{decision: deny, rules: [risky]}"),
        ("{agent: a, action: crm.read}", ("{type: table, table: risk, row: {subject: agent:a, score: 0.9, valid_until: -1ms}}",), "approve"),
        ("{agent: a, action: crm.read, measures: {rows: 1}}", ("{agent: a, action: crm.read, measures: {rows: 10}}",), "{rules: [rows]}"),
        ("{agent: a, action: crm.read, measures: {rows: 0.5}}", ("{agent: a, action: crm.read, measures: {rows: 9.5}}",), "approve"),
        ("{agent: a, action: crm.read, measures: {rows: 1}}", ("{agent: a, action: crm.read}",), "{rules: [rows], unknown: true}"),
    ],
)  # fmt: skip
def test_a_case_passes(when, given_, then):
    assert failures(when, then, given_) == []


RAN = "done of intent 019b796d-d600-7000-8000-000000000001, by a"


@pytest.mark.parametrize(
    ("when", "given_", "then", "told"),
    [
        (MAIL, (), "deny", ["decision is approve (ok), expected deny"]),
        (MAIL, (), "{rules: [quiet]}", ["`quiet` did not decide"]),
        (MAIL, (), "{shadow: [seen], not_rules: [seen]}".replace("shadow: [seen], ", ""), ["`seen` fired"]),
        (MAIL, (), "{shadow: [failing]}", ['`failing` did not fire in shadow: it failed (NOT_FOUND: Key not found in map : "expires_at")']),
        (MAIL, (READ,), "{evidence: []}", ["evidence is 0, expected none"]),
        (MAIL, (READ, MAIL.replace("a,", "b,")), "{rules: [quiet], evidence: [1]}", ["evidence is 0, expected 1"]),
        (MAIL, (READ,), "{evidence_count: 2}", ["evidence_count is 1, expected 2"]),
        (MAIL, (READ,), "{unknown: true}", ["unknown is false, expected true"]),
        (MAIL, (), "{obligations: {}}", ['obligations are {"redact":true}, expected {}']),
        (MAIL, (), "{reasons: [default]}", ["the engine did not say default"]),
        ("{agent: a, action: crm.read, chain: c}", (), "{reasons: [default]}", ["the engine did not say default, but chain_unknown"]),
        (READ, (at(READ, "-5m").replace("}", ", then: hold}"),), "approve", ["given 0 (-5m): decision is approve (ok), expected hold"]),
        ("{type: outcome, agent: a, status: done}", (), "accepted", [f"decision is refused (bypass: {RAN}), expected accepted"]),
    ],
)  # fmt: skip
def test_a_case_fails_in_words(when, given_, then, told):
    assert failures(when, then, given_) == told


def test_a_given_intent_that_is_not_approved_is_pointed_out_unless_it_is_stated():
    first = "{at: -2m, agent: a, action: crm.read, chain: nope}"
    assert ran(MAIL, "approve", (first,)).result.remarks == (
        "given 0 (-2m): deny (chain_unknown: nope); if that is meant, write `then: deny` there",
    )
    assert ran(MAIL, "approve", (first.replace("}", ", then: deny}"),)).result.remarks == ()
    late = "{type: outcome, at: -1m, agent: a, status: done}"
    assert "refused (bypass: done of intent" in ran(MAIL, "approve", (late,)).result.remarks[0]


def test_what_no_worker_would_judge_fails_the_case():
    moved = "{type: table, table: identity, row: {agent_id: a, tenant: other}}"
    assert failures(MAIL, "approve", (moved,))[0].startswith("given 0 (-1s): could not be judged: schema")


def test_an_obligation_may_be_a_list():
    masked = load(RULES.replace("{redact: true}", "{mask: [email, phone]}"))
    assert failures(MAIL, "{obligations: {mask: [email, phone]}}", program=masked) == []
    assert failures(MAIL, "{obligations: {mask: [email]}}", program=masked) == [
        'obligations are {"mask":["email","phone"]}, expected {"mask":["email"]}'
    ]


def test_parameters_make_other_programs():
    strict = load(RULES, overrides={"n": 0})
    assert failures(READ, "hold", program=strict) == []
    assert failures(READ, "approve") == []


def test_the_same_case_always_comes_out_the_same():
    first, second = (ran(READ, "hold", (READ, READ)).result for _ in range(2))
    assert [t.body for t in (*first.history, first.judged)] == [t.body for t in (*second.history, second.judged)]


# --- why ---


def test_a_condition_is_told_part_by_part_with_what_it_read():
    parts = account(ran(READ, "deny"), "risky").parts
    assert [(p.text, p.said, dict(p.reads)) for p in parts] == [
        ("risk.present", False, {"risk.present": False}),
        ("risk.score > 0.5", 'NOT_FOUND: Key not found in map : "score"', {"risk.score": None}),
    ]


def test_a_selection_is_told_by_its_own_parts():
    (part,) = account(ran(READ, "deny"), "quiet").parts
    assert (part.text, part.said) == ("mails", False)
    assert [(p.text, p.said, dict(p.reads)) for p in part.inner] == [
        ('event.action == "email.send"', False, {"event.action": "crm.read"}),
        ('event.resource.zone != "internal"', True, {"event.resource.zone": ""}),
    ]


def test_the_languages_own_functions_are_told_too():
    program = load(
        "rule_set: x\ndefault: deny\nrules:\n"
        "  - {id: ok, effect: approve, when: 'true'}\n"
        '  - {id: own, effect: deny, when: \'origin("to") == "never_seen" && !mandate.allows("send", "mail")\'}\n'
    )
    when = "{agent: a, action: email.send, arguments: [{name: to, role: destination, values: [0123456789abcdef]}]}"
    parts = account(ran(when, "{rules: [own]}", program=program), "own").parts
    assert [(p.text, p.said) for p in parts] == [
        ('origin("to") == "never_seen"', True),
        ('!mandate.allows("send", "mail")', True),
    ]
    assert parts[0].reads["args"]["to"]["origin"] == "never_seen"
    assert list(parts[1].reads) == ["mandate.classes"]


def test_of_several_resources_the_one_that_decided_is_told():
    when = "{agent: a, action: email.send, resources: [email://in/x, email://out/y]}"
    more = "    tables: {classification: [{subject: 'resource:email://in/*', zone: internal}]}\n"
    assert account(ran(when, "approve", more=more), "seen").resource == "email://out/y"
    assert account(ran(MAIL, "approve"), "seen").resource == ""


def test_of_several_resources_the_one_for_which_the_rule_failed_is_told():
    crm = 'intent.resource.system == "crm"'
    condition = f"intent.action == 'x.y' && ({crm} || risk.score > 0.5) && !({crm})"
    program = load(f"{RULES}  - id: unguarded\n    effect: hold\n    when: {condition}\n")
    when = "{agent: a, action: x.y, resources: [crm://a, email://b]}"
    told = account(ran(when, "deny", program=program), "unguarded")
    assert told.resource == "email://b"
    assert "score" in told.said


def test_a_window_is_told_with_its_count_its_threshold_and_its_events():
    history = (
        at(READ, "-2h"),
        at(READ, "-1h"),
        "{at: -5m, agent: a, action: crm.read, chain: c}",
        READ.replace("a,", "b,"),
    )
    window = account(ran(READ, "hold", history), "many").window
    assert (window.lo, window.hi, window.said, window.looked_at) == (2, 2, False, True)
    assert (window.correlation.condition.op, window.correlation.condition.threshold) == ("gt", 2)
    assert dict(window.group) == {"agent_id": "a"}
    assert [(c.told and c.told.step.index, c.selections, c.why_not) for c in window.events] == [
        (0, ("reads",), "too long ago"),
        (1, ("reads",), ""),
        (2, ("reads",), "was denied"),
        (None, ("reads",), ""),
    ]


def test_what_is_being_judged_is_not_told_as_if_it_had_been_denied():
    text = RULES.replace("rules:\n", '  denied: event.decision == "deny"\nrules:\n', 1) + (
        "  - {id: probes, effect: deny, when: 'true', correlation: {type: event_count, rules: [denied],\n"
        "     group-by: [agent_id], timespan: 1h, include: attempts, condition: {gt: 2}}}\n"
    )
    window = account(ran(READ, "approve", program=load(text)), "probes").window
    assert (window.lo, window.hi, window.events) == (0, 0, ())


def test_a_window_nobody_asked_is_told_as_such():
    window = account(ran(READ, "approve", (READ,)), "quiet").window
    assert (window.looked_at, window.said, window.lo) == (False, None, None)


def test_a_sum_is_told_as_people_read_it():
    when = "{agent: a, action: crm.read, measures: {rows: 0.5}}"
    window = account(ran(when, "deny", ("{agent: a, action: crm.read, measures: {rows: 9.25}}",)), "rows").window
    assert (window.lo, window.hi, window.said) == ("9.75", "9.75", False)


def test_an_action_that_never_started_is_not_counted():
    tables = "    tables: {identity: [{agent_id: a}, {agent_id: pep, roles: [enforcer]}]}\n"
    history = (
        "{at: -3m, agent: a, action: crm.read}",
        "{type: outcome, at: -2m, agent: a, by: pep, status: abandoned}",
    )
    window = account(ran(READ, "approve", history, more=tables), "many").window
    assert [c.why_not for c in window.events] == ["never started", ""]
    assert window.lo == 1


def test_a_hold_that_was_answered_is_told_as_the_answer_left_it():
    history = (
        at(READ, "-9m"),
        at(READ, "-8m"),
        at(READ, "-7m"),
        "{type: approval, at: -6m, agent: a, by: grace, decision: approve}",
    )
    window = account(ran(READ, "hold", history), "many").window
    assert [(c.told and c.told.step.index, c.why_not) for c in window.events] == [(0, ""), (1, ""), (3, ""), (None, "")]
    assert window.lo == 4


def test_without_a_look_at_the_rules_there_is_nothing_to_tell():
    assert ran("{agent: a, action: crm.read, chain: c}", "deny").accounts == ()


def test_explaining_changes_nothing():
    with_, without = (ran(READ, "hold", (READ, READ), explain=e).result for e in (True, False))
    assert with_.judged.body == without.judged.body


ENTRY = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from(["crm.read", "email.send"]),
    st.sampled_from([[], ["email://in/x"], ["email://in/x", "crm://y"]]),
    st.integers(0, 4_000),
    st.sampled_from([None, 1, 6]),
)


def written(entry, *, time=True):
    agent, action, resources, seconds, rows = entry
    when = f"at: -{seconds}s, " if time and seconds else ""
    measures = f", measures: {{rows: {rows}}}" if rows else ""
    return f"{{{when}agent: {agent}, action: {action}, resources: [{', '.join(resources)}]{measures}}}"


@settings(max_examples=60, deadline=None)
@given(st.lists(ENTRY, max_size=8), ENTRY)
def test_what_is_told_of_a_rule_agrees_with_what_the_rule_said(history, judged):
    more = "    tables: {classification: [{subject: 'resource:email://in/*', zone: internal}]}\n"
    one = ran(written(judged, time=False), "approve", [written(e) for e in history], more=more)
    fired = {*one.result.judged.fired(), *one.result.judged.fired("shadow")}
    for told in one.accounts:
        held = all(part.said is True for part in told.parts)
        if not isinstance(told.said, str):
            open_ = told.window is None or told.window.said is not False
            assert (told.said is not False) == (held and open_), told
        if told.said is False:
            assert told.rule not in fired
        if told.window is not None:
            assert told.window.looked_at == held


# --- taking a condition apart ---


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a && b", ["a", "b"]),
        ("a && b && c && d && e", ["a", "b", "c", "d", "e"]),
        ("(a && b) && c", ["a", "b", "c"]),
        ("((a && (b && c)))", ["a", "b", "c"]),
        ("a || b && c", ["a || b && c"]),
        ("(a || b) && c", ["(a || b)", "c"]),
        ("a ? b && c : d", ["a ? b && c : d"]),
        ("!(a && b)", ["!(a && b)"]),
        ('x == "a && b" && c', ['x == "a && b"', "c"]),
        ('x == "\\" && b" && c', ['x == "\\" && b"', "c"]),
        ("x == r'\\\\' && c", ["x == r'\\\\'", "c"]),
        ('x == """ && " """ && c', ['x == """ && " """', "c"]),
        ("a // b && c\n&& d", ["a // b && c", "d"]),
        ("x in [a && b] && c", ["x in [a && b]", "c"]),
        ("  a  &&\n  b  ", ["a", "b"]),
        ("a &&", ["a &&"]),
    ],
)
def test_a_condition_is_taken_apart_at_its_conjunctions(text, parts):
    assert list(parts_of(Parser(), text)) == parts


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("intent.action in identity.actions", ["intent.action", "identity.actions"]),
        ("intent.measures.rows > params.n", ["intent.measures", "params.n"]),
        ('intent.measures["rows"] > 5', ["intent.measures"]),
        ('args["to"].role == "x"', ["args"]),
        ("intent.labels.exists(x, x == intent.action)", ["intent.labels", "intent.action"]),
        ('event.resource.zone.startsWith("a")', ["event.resource.zone"]),
        ("mails && true", []),
        ('origin("to") == "prose"', ["args"]),
        (
            "mandate.allows(event.operation, event.object_class)",
            ["mandate.classes", "event.operation", "event.object_class"],
        ),
    ],
)
def test_what_a_condition_reads(text, reads):
    assert list(reads_of(Parser(), text)) == reads
