"""A cases file: what is read, what is filled in, and where every mistake stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.cases import Case, Folder, against, read_cases, rows_of
from harness_stream.core.cases.timing import epoch_ms, offset_ms, shown_ms
from harness_stream.core.cases.words import EVENTS_MAX, NOW_MS_DEFAULT, TEXT_BYTES_MAX
from harness_stream.core.rules import load
from harness_stream.core.rules.mistakes import Code

HEAD = "rules: r.yaml\ncases:\n"
CASE = "  - name: a\n    when: {agent: a, action: crm.read}\n    then: approve\n"


def read(text) -> tuple[Case, ...]:
    found = read_cases(text, "c.yaml")
    assert found.cases is not None
    assert found.findings.all() == ()
    return found.cases.cases


def one(text) -> Case:
    (case,) = read(HEAD + text)
    return case


def mistakes(text):
    """(code, line, column, what stands there) of every mistake."""
    found = read_cases(text, "c.yaml").findings.all()
    for m in found:
        assert m.fix
        assert m.text[m.column - 1 : m.end_column - 1] == m.found
    return [(m.code, m.line, m.column, m.found) for m in found]


def in_case(lines):
    """Mistakes of a case with these lines, without the file's head: (code, line in the case, what stands there)."""
    text = HEAD + "  - name: a\n" + "".join(f"    {line}\n" for line in lines.split("\n"))
    return [(code, line - 3, found) for code, line, _, found in mistakes(text)]


# --- what is read ---


def test_the_smallest_case_is_three_lines():
    case = one(CASE)
    assert (case.name, case.line, case.then.decision, case.history) == ("a", 3, "approve", ())
    assert case.when.fields == {"agent_id": "a", "action": "crm.read"}


def test_events_are_ordered_by_time_and_keep_their_index():
    case = one(
        CASE.replace(
            "    when", "    given: [{at: -1m, agent: a, action: b.c}, {at: -2m, agent: a, action: d.e}]\n    when"
        )
    )
    assert [(s.index, s.at_ms, s.fields["action"]) for s in case.history] == [(1, -120_000, "d.e"), (0, -60_000, "b.c")]


def test_an_event_without_a_time_happens_a_second_before():
    case = one(CASE.replace("    when", "    given: [{agent: a, action: b.c}]\n    when"))
    assert [s.at_ms for s in case.history] == [-1_000]


@pytest.mark.parametrize(
    ("entry", "times"),
    [
        ("{repeat: {times: 3, every: 1m}, agent: a, action: b.c}", [-180_000, -120_000, -60_000]),
        ("{at: -10m, repeat: {times: 2, every: 30s}, agent: a, action: b.c}", [-600_000, -570_000]),
        ("{at: -10m, repeat: {times: 2, every: 0}, agent: a, action: b.c}", [-600_000, -600_000]),
    ],
)
def test_a_repeated_event_is_written_out(entry, times):
    case = one(CASE.replace("    when", f"    given: [{entry}]\n    when"))
    assert [(s.index, s.at_ms) for s in case.history] == [(0, t) for t in times]


def test_a_repeated_event_may_name_its_number():
    entry = '{repeat: {times: 2, every: 1s}, agent: a, action: b.c, resources: ["crm://x/{n}"], purpose: "n = {n}"}'
    case = one(CASE.replace("    when", f"    given: [{entry}]\n    when"))
    assert [(s.fields["resources"], s.fields["purpose"]) for s in case.history] == [
        (["crm://x/1"], "n = 1"),
        (["crm://x/2"], "n = 2"),
    ]


def test_one_resource_may_stand_alone_and_decimals_may_be_numbers():
    case = one(CASE.replace("crm.read}", "crm.read, resources: crm://x, measures: {a: 12.50, b: 3, c: '0.1'}}"))
    assert case.when.fields["resources"] == ["crm://x"]
    assert case.when.fields["measures"] == {"a": "12.5", "b": 3, "c": "0.1"}


def test_params_tables_and_now_of_a_case_go_over_those_of_the_file():
    text = (
        "rules: r.yaml\nparams: {n: 1, m: 2}\ntables: ../t\nnow: 1000000000\ncases:\n"
        "  - name: a\n    params: {n: 3}\n    tables: [u, {risk: [{subject: agent:a, score: 0.5}]}]\n"
        '    now: "2026-11-02T09:00:00Z"\n    when: {agent: a, action: crm.read}\n    then: deny\n'
        "  - name: b\n    when: {agent: a, action: crm.read}\n    then: deny\n"
    )
    first, second = read(text)
    assert (first.params, second.params) == ({"n": 3, "m": 2}, {"n": 1, "m": 2})
    assert [s.path for s in first.sources if isinstance(s, Folder)] == ["../t", "u"]
    assert len(first.sources) == 3
    assert (first.now_ms, second.now_ms) == (1_793_610_000_000, 1_000_000_000)
    assert one(CASE).now_ms == NOW_MS_DEFAULT


def test_everything_that_may_be_expected():
    then = (
        "{decision: hold, rules: [a], not_rules: [b], shadow: [c], evidence: [1, 0, 1], evidence_count: 4, "
        "unknown: true, obligations: {x: 1}, reasons: [default]}"
    )
    given_two = "    given: [{agent: a, action: b.c}, {agent: a, action: b.c, then: deny}]\n    when"
    case = one(CASE.replace("then: approve", f"then: {then}").replace("    when", given_two))
    expected = case.then
    assert (expected.decision, expected.rules, expected.not_rules, expected.shadow) == ("hold", ("a",), ("b",), ("c",))
    assert (expected.evidence, expected.evidence_count, expected.unknown) == ((0, 1), 4, True)
    assert (expected.obligations, expected.reasons) == ({"x": 1}, ("default",))
    assert [step.then and step.then.decision for step in case.history] == [None, "deny"]


def test_a_rule_set_is_not_taken_for_cases():
    found = read_cases("rule_set: x\ndefault: deny\nrules: []\n").findings.all()
    assert [(m.message, m.found) for m in found] == [("this is a rule set, not a cases file", "rule_set")]


def test_a_field_that_a_row_does_not_have_is_named_with_the_one_that_is_meant():
    text = HEAD + CASE.replace("    when", "    tables: {identity: [{agent_id: a, rols: [x]}]}\n    when")
    (found,) = read_cases(text).findings.all()
    assert (found.found, found.fix) == ("rols", "did you mean `roles`?")


# --- times ---


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("-30m", -1_800_000),
        ("-1h30m", -5_400_000),
        ("-30m1ms", -1_800_001),
        ("1d", 86_400_000),
        ("+5s", 5_000),
        ("0", None),
        (0, 0),
        ("", None),
        ("-", None),
        ("5", None),
        (5, None),
        (True, None),
        (None, None),
        ("1w", None),
        ("1h 5m", None),
    ],
)
def test_a_relative_time(text, ms):
    assert offset_ms(text) == ms


@given(st.integers(-(10**11), 10**11))
def test_a_relative_time_is_shown_as_it_is_read(offset):
    assert offset_ms(0 if shown_ms(offset) == "now" else shown_ms(offset)) == offset


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("2026-11-02T09:00:00Z", 1_793_610_000_000),
        ("2026-11-02T09:00:00.5Z", 1_793_610_000_500),
        (7, 7),
        ("2026-11-02", None),
        ("2026-11-02T09:00:00+01:00", None),
        ("2026-13-02T09:00:00Z", None),
        ("1969-11-02T09:00:00Z", None),
        (-1, None),
        (True, None),
        (2**48, None),
    ],
)
def test_now(value, ms):
    assert epoch_ms(value) == ms


# --- rows ---


def rows(text, **folders):
    return {(table, row.key): row for table, row in rows_of(one(text), folders)}


def test_without_identities_everybody_who_acts_or_speaks_gets_a_row():
    found = rows(
        "  - name: a\n    given:\n"
        "      - {type: mandate, agent: a, chain: c, by: boss}\n"
        "      - {agent: a, action: crm.read, workload: special}\n"
        "      - {type: approval, agent: a, by: grace, decision: approve}\n"
        "    when: {agent: b, action: email.send, parent: 1}\n    then: deny\n"
    )
    people = {key: row for (table, key), row in found.items() if table == "identity"}
    assert set(people) == {"a", "b", "boss", "grace"}
    assert people["a"].actions == ("crm.read", "email.send")
    assert people["a"].workloads == ("wl-a", "special")
    assert (people["boss"].roles, people["grace"].roles) == (("orchestrator",), ("approver",))
    assert "b" in people["a"].delegates
    assert {row.tenant for row in people.values()} == {"tenant-1"}
    assert found["infrastructure", "wl-a"].attested


def test_an_inline_row_says_only_what_the_case_is_about():
    found = rows(
        "  - name: a\n    tables:\n      identity: [{agent_id: a, roles: [x]}]\n"
        "      infrastructure: [{workload_id: wl-a, attested: false}]\n"
        "      risk: [{subject: agent:a, score: 0.5, valid_until: -1s}, {subject: agent:b, score: 1.0}]\n"
        "    when: {agent: a, action: crm.read}\n    then: deny\n"
    )
    assert found["identity", "a"].actions == ("crm.read",)
    assert not found["infrastructure", "wl-a"].attested
    assert found["infrastructure", "wl-a"].environment == "production"
    assert found["risk", "agent:a"].valid_until == NOW_MS_DEFAULT - 1_000
    assert found["risk", "agent:b"].valid_until > NOW_MS_DEFAULT


def test_somebody_the_rows_do_not_know_stays_unknown():
    found = rows(CASE.replace("    when", "    tables: {identity: [{agent_id: other}]}\n    when"))
    assert [key for table, key in found if table == "identity"] == ["other"]


def test_a_row_goes_over_that_of_a_folder():
    (folder_row,) = [
        row for table, row in rows_of(one(CASE.replace("agent: a", "agent: z")), {}) if table == "identity"
    ]
    text = CASE.replace("    when", "    tables: [t, {identity: [{agent_id: z, owner: me}]}]\n    when")
    assert rows(text, t=[("identity", folder_row)])["identity", "z"].owner == "me"


# --- mistakes ---


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [("missing-key", 1, 1, "")]),
        ("- a\n", [("wrong-type", 1, 1, "- a")]),
        ("rules: r\n", [("missing-key", 1, 1, "rules: r")]),
        ("rules: r\ncases: []\n", [("missing-key", 2, 8, "[]")]),
        ("rules: r\ncases: {}\n", [("wrong-type", 2, 8, "{}")]),
        (f"rules: [r]\ncases:\n{CASE}", [("wrong-type", 1, 8, "[r]")]),
        (f"ruels: r\nrules: r\ncases:\n{CASE}", [("unknown-key", 1, 1, "ruels")]),
        (f"rules: r\nnow: soon\ncases:\n{CASE}", [("bad-value", 2, 6, "soon")]),
        (f"rules: r\nnow: 2026-11-02T09:00:00Z\ncases:\n{CASE}", [("yaml-feature", 2, 6, "2026-11-02T09:00:00Z")]),
        (f"rules: r\nparams: [a]\ncases:\n{CASE}", [("wrong-type", 2, 9, "[a]")]),
        (f"rules: r\nparams: {{a: [1]}}\ncases:\n{CASE}", [("wrong-type", 2, 13, "[1]")]),
        (f"rules: r\ntables: 5\ncases:\n{CASE}", [("wrong-type", 2, 9, "5")]),
        (f"rules: r\ntables: {{risks: []}}\ncases:\n{CASE}", [("unknown-key", 2, 10, "risks")]),
        (f"rules: r\ntables: {{risk: [5]}}\ncases:\n{CASE}", [("wrong-type", 2, 17, "5")]),
        (f"rules: r\ntables: {{risk: [{{subject: agent:a, score: 2}}]}}\ncases:\n{CASE}", [("bad-value", 2, 43, "2")]),
        (f"{HEAD}{CASE}{CASE}", [("duplicate-id", 6, 11, "a")]),
        (f"{HEAD}{CASE}  - 5\n", [("wrong-type", 6, 5, "5")]),
        (f"{HEAD}{CASE}".replace("name: a", "name: ''"), [("bad-name", 3, 12, "")]),
    ],
)
def test_a_mistake_in_a_file_has_its_place(text, found):
    assert mistakes(text) == found


SEND = "when: {agent: a, action: crm.read}"


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        # events
        (f"{SEND}", [("missing-key", 0, "name: a")]),
        ("then: deny", [("missing-key", 0, "name: a")]),
        ("when: {agent: a, acton: crm.read}\nthen: deny", [("unknown-key", 1, "acton")]),
        ("when: {agent: a, action: crm}\nthen: deny", [("bad-value", 1, "crm")]),
        ("when: {agent: a b, action: crm.read}\nthen: deny", [("bad-value", 1, "a b")]),
        ("when: {agent: a, action: crm.read, resources: [x, crm://y]}\nthen: deny", [("bad-value", 1, "x")]),
        ("when: {agent: a, action: crm.read, measures: {rows: -1}}\nthen: deny", [("bad-value", 1, "-1")]),
        ("when: {agent: a, action: crm.read, arguments: [{nam: x}]}\nthen: deny", [("missing-key", 1, "{nam: x}"), ("unknown-key", 1, "nam")]),
        ("when: {agent: a, action: crm.read, at: -5m}\nthen: deny", [("unknown-key", 1, "at")]),
        ("when: {type: intnt, agent: a, action: crm.read}\nthen: deny", [("unknown-word", 1, "intnt")]),
        ("when: {type: table, table: risk, row: {subject: agent:a, score: 1}}\nthen: deny", [("bad-value", 1, "{type: table, table: risk, row: {subject: agent:a, score: 1}}")]),
        ("when: {type: approval, agent: a, decision: approve}\nthen: deny", [("missing-key", 1, "{type: approval, agent: a, decision: approve}")]),
        (f"given: [{{at: -5, agent: a, action: b.c}}]\n{SEND}\nthen: deny", [("bad-value", 1, "-5")]),
        (f"given: [{{at: 5m, agent: a, action: b.c}}]\n{SEND}\nthen: deny", [("bad-value", 1, "5m")]),
        (f"given: [{{at: -1m, repeat: {{times: 3, every: 1m}}, agent: a, action: b.c}}]\n{SEND}\nthen: deny", [("bad-value", 1, "-1m")]),
        (f"given: [{{repeat: {{times: 0, every: 1m}}, agent: a, action: b.c}}]\n{SEND}\nthen: deny", [("bad-value", 1, "0")]),
        (f"given: [{{repeat: {{times: 2}}, agent: a, action: b.c}}]\n{SEND}\nthen: deny", [("missing-key", 1, "{times: 2}")]),
        (f"given: {{a: 1}}\n{SEND}\nthen: deny", [("wrong-type", 1, "{a: 1}")]),
        (f"given: [{{type: outcome, agent: a, status: done, of: 0}}]\n{SEND}\nthen: deny", [("bad-value", 1, "0")]),
        ("given: [{type: mandate, agent: a, chain: c}]\nwhen: {agent: b, action: b.c, parent: 0}\nthen: deny", [("bad-value", 2, "0")]),
        (f"given: [{{at: -1m, agent: a, action: b.c}}, {{type: outcome, at: -2m, agent: a, status: done, of: 0}}]\n{SEND}\nthen: deny", [("bad-value", 1, "0")]),
        (f"given: [{{type: table, table: riks, row: {{}}}}]\n{SEND}\nthen: deny", [("unknown-word", 1, "riks")]),
        (f"given: [{{type: table, table: risk, row: null}}]\n{SEND}\nthen: deny", [("missing-key", 1, "{type: table, table: risk, row: null}")]),
        (f"given: [{{type: table, table: risk, row: 5}}]\n{SEND}\nthen: deny", [("wrong-type", 1, "5")]),
        (f"given: [{{type: table, table: risk}}]\n{SEND}\nthen: deny", [("missing-key", 1, "{type: table, table: risk}")]),
        (f"given: [{{type: mandate, agent: a, chain: 'agent:a'}}]\n{SEND}\nthen: deny", [("bad-value", 1, "{type: mandate, agent: a, chain: 'agent:a'}")]),
        # what has to come out
        (f"{SEND}\nthen: denied", [("unknown-word", 2, "denied")]),
        (f"{SEND}\nthen: {{}}", [("missing-key", 2, "{}")]),
        (f"{SEND}\nthen: [deny]", [("wrong-type", 2, "[deny]")]),
        (f"{SEND}\nthen: {{decision: dny}}", [("unknown-word", 2, "dny")]),
        (f"{SEND}\nthen: {{rule: [x]}}", [("unknown-key", 2, "rule")]),
        (f"{SEND}\nthen: {{rules: x}}", [("wrong-type", 2, "x")]),
        (f"{SEND}\nthen: {{rules: [x, x]}}", [("listed-twice", 2, "x")]),
        (f"{SEND}\nthen: {{rules: [x], not_rules: [x]}}", [("bad-value", 2, "x")]),
        (f"{SEND}\nthen: {{evidence: [0]}}", [("bad-value", 2, "0")]),
        (f"{SEND}\nthen: {{evidence: 0}}", [("wrong-type", 2, "0")]),
        (f"{SEND}\nthen: {{evidence_count: many}}", [("bad-value", 2, "many")]),
        (f"{SEND}\nthen: {{unknown: maybe}}", [("wrong-type", 2, "maybe")]),
        (f"{SEND}\nthen: {{obligations: [a]}}", [("wrong-type", 2, "[a]")]),
        (f"{SEND}\nthen: {{reasons: [unknown-agent]}}", [("unknown-word", 2, "unknown-agent")]),
    ],
)  # fmt: skip
def test_a_mistake_in_a_case_has_its_place(lines, found):
    assert in_case(lines) == found


def test_all_mistakes_are_found_in_one_look():
    text = HEAD + "  - name: a\n    when: {agent: a, action: crm}\n    then: dny\n  - name: a\n    wen: {}\n"
    assert [code for code, *_ in mistakes(text)] == [
        "bad-value", "unknown-word", "missing-key", "duplicate-id", "unknown-key",
    ]  # fmt: skip


def test_too_much_is_refused():
    assert mistakes("#" * (TEXT_BYTES_MAX + 1))[0][0] == Code.LIMIT
    entry = f"{{repeat: {{times: {EVENTS_MAX // 2 + 1}, every: 1s}}, agent: a, action: b.c}}"
    assert in_case(f"given: [{entry}, {entry}]\n{SEND}\nthen: deny")[0][0] == Code.LIMIT


RULES = load(
    "rule_set: x\ndefault: deny\nparams: {n: 1, word: a, ratio: 0.5}\nrules:\n"
    "  - {id: ok, effect: approve, when: 'params.n > 0 && params.word != \"\" && params.ratio > 0.1'}\n"
    "  - {id: seen, effect: deny, mode: shadow, when: 'chain.events > 5'}\n"
).rule_set


@pytest.mark.parametrize(
    ("then", "params", "found"),
    [
        ("{rules: [ok], shadow: [seen], not_rules: []}", "{n: 2, word: b, ratio: 1}", []),
        ("{rules: [okay]}", "{}", [("unknown-rule", "okay", "did you mean `ok`?")]),
        ("{not_rules: [okay]}", "{}", [("unknown-rule", "okay", "did you mean `ok`?")]),
        ("{rules: [seen]}", "{}", [("bad-value", "seen", "list it under `shadow`")]),
        ("{shadow: [ok]}", "{}", [("bad-value", "ok", "list it under `rules`")]),
        ("deny", "{m: 1}", [("unknown-param", "1", "known: `n`, `ratio`, `word`")]),
        ("deny", "{word: 1}", [("wrong-type", "1", "give a value of the same kind")]),
        ("deny", "{n: true}", [("wrong-type", "true", "give a value of the same kind")]),
    ],
)
def test_what_the_rule_set_does_not_have_is_a_mistake(then, params, found):
    text = f"{HEAD}  - name: a\n    params: {params}\n    when: {{agent: a, action: b.c}}\n    then: {then}\n"
    read_ = read_cases(text)
    against(read_.cases, RULES, read_.findings)
    assert [(m.code, m.found, m.fix) for m in read_.findings.all()] == found


@given(st.text(max_size=200))
def test_no_text_ever_raises(text):
    assert read_cases(text).findings.failed


WORDS = st.sampled_from(
    [
        "rules",
        "cases",
        "name",
        "given",
        "when",
        "then",
        "agent",
        "a",
        "crm.read",
        "type",
        "at",
        "-5m",
        "table",
        "repeat",
        "of",
        "tables",
        "risk",
        "identity",
        "deny",
        "{n}",
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=20,
)


@given(VALUES, VALUES, VALUES, VALUES)
def test_no_shape_ever_raises(given_, when, then, tables):
    document = {"rules": "r", "cases": [{"name": "a", "given": given_, "when": when, "then": then, "tables": tables}]}
    found = read_cases(json.dumps(document))
    if not found.findings.failed and found.cases is not None:
        rows_of(found.cases.cases[0], {s.path: () for s in found.cases.cases[0].sources if isinstance(s, Folder)})
