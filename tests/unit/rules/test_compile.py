"""A program: what it is named by, what it reads, and how it judges."""


from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.core.rules import from_bundle, inspect, load
from harness_stream.core.rules.language import TIMESPAN_MS_MAX
from harness_stream.errors import InvalidInput
from tests.rule_texts import TWO_DAYS

ROOT = Path(__file__).parents[3]
# The example of DESIGN §6.
DESIGN = """\
rule_set: production
default: deny                     # zero trust: something must approve
params: {max_rows: 10000, fan_out: 20}          # the knobs; `rules push --set max_rows=500`
selections:                       # named CEL predicates over one event of the history, or the intent itself
  reads_pii: event.action.startsWith("crm.") && "pii" in event.resource.labels
  exports:   event.action in ["crm.export", "files.download"]
  egress:    event.action in ["email.send", "http.post"] && event.resource.zone == "external"
  anything:  "true"
rules:
  - id: allowed-actions
    effect: approve
    when: intent.action in identity.actions && infrastructure.present && infrastructure.attested
  - id: no-egress-after-pii
    effect: deny
    when: egress                  # a selection may stand for a condition on the intent
    correlation: {type: temporal, rules: [reads_pii], group-by: [chain_id], timespan: 30m}
    because: personal data was read in this chain
  - id: bulk-export
    effect: hold
    when: exports
    correlation: {type: value_sum, rules: [exports], group-by: [agent_id], timespan: 24h, condition: {field: measures.rows, gt: params.max_rows}}
  - id: fan-out
    effect: deny
    mode: shadow                  # recorded, not enforced
    when: anything
    correlation: {type: value_count, rules: [anything], group-by: [tenant], timespan: 5m, condition: {field: resource.system, gt: params.fan_out}}
"""


def event(**changes):
    resource = {"uri": "crm://c/1", "system": "crm", "zone": "internal", "labels": [], "sensitivity": "", "owner": ""}
    resource |= changes.pop("resource", {})
    lists = {"roles": [], "labels": [], "measures": {}, "t": 1_000}
    texts = dict.fromkeys(
        (
            "agent_id",
            "owner",
            "tenant",
            "chain_id",
            "parent",
            "kind",
            "action",
            "purpose",
            "environment",
            "decision",
            "by",
        ),
        "",
    )
    return {**texts, **lists, "resource": resource, **changes}


def variables(intent=None, **rows):
    intent = intent or event()
    absent = {"present": False}
    tables = {
        "identity": {"present": True, "actions": ["crm.read"], "roles": []},
        "infrastructure": absent,
        "risk": absent,
    }
    rest = {"mandate": absent, "chain": {"labels": [], "events": 0}, "args": {}, "params": {}}
    return {"intent": intent, "event": intent, **tables, **rest, **rows}


def one(when, **more):
    params = f"params: {json.dumps(more['params'])}\n" if "params" in more else ""
    selections = f"selections: {json.dumps(more['selections'])}\n" if "selections" in more else ""
    rules = f"rules:\n  - id: a\n    effect: approve\n    when: {json.dumps(when)}\n"
    return load(f"rule_set: x\ndefault: deny\n{params}{selections}{rules}")


def said(program, values):
    """Each rule's answer: true, false or the text of its error."""
    judged = program.judge(values)
    assert set(judged.errors) <= set(range(len(program.rules)))
    assert judged.mask >> len(program.rules) == 0
    assert not any(judged.mask >> index & 1 for index in judged.errors)
    return tuple(judged.of(index) for index in range(len(program.rules)))


# --- loading ---


def test_the_example_of_the_design_loads():
    program = load(DESIGN)
    assert [rule.id for rule in program.rules] == ["allowed-actions", "no-egress-after-pii", "bulk-export", "fan-out"]
    # Grouped by chain alone, as the design shows it: an agent sheds that history with its next mandate.
    assert [(w.code, w.line, w.found) for w in program.warnings] == [("chain-only", 16, "chain_id")]
    assert program.fields_read == {
        "identity": {"actions"},
        "infrastructure": {"present", "attested"},
        "risk": set(),
        "mandate": set(),
    }


def test_the_shipped_example_loads_without_a_warning():
    text = (ROOT / "examples/rules/production.yaml").read_text(encoding="utf-8")
    program = load(text, overrides={"exports_a_day": 1})
    assert program.warnings == ()
    assert {window.type for window in program.correlations if window} == {"event_count", "temporal"}


def test_loading_raises_with_every_mistake():
    with pytest.raises(InvalidInput, match=r"rules.yaml: 2 mistakes, the first on line 4") as caught:
        load("rule_set: x\ndefault: deny\nrules:\n  - {id: a, effect: no, when: nothing}\n", "rules.yaml")
    assert [mistake.column for mistake in caught.value.mistakes] == [21, 31]
    assert caught.value.hint


# --- the bundle ---


def test_the_digest_is_of_the_bundle_and_the_bundle_makes_the_program_again():
    program = load(DESIGN, overrides={"max_rows": 7})
    again = from_bundle(program.bundle)
    assert program.digest == again.digest == hashlib.sha256(program.bundle).hexdigest()
    assert again.rule_set == program.rule_set
    assert again.selection_names == program.selection_names
    assert again.tables_read == program.tables_read


def test_the_digest_depends_on_what_is_said_not_on_how_it_is_written():
    plain = load("rule_set: x\ndefault: deny\nrules:\n  - {id: a, effect: approve, when: 'true'}\n")
    same = load(
        "# c\ndefault: deny\nrule_set: x\nrules:\n- when: |-\n    true\n  effect: approve\n  mode: enforce\n  id: a\n"
    )
    other = load("rule_set: x\ndefault: deny\nrules:\n  - {id: a, effect: approve, when: 'false'}\n")
    assert plain.digest == same.digest != other.digest


def test_an_override_makes_another_bundle():
    assert load(DESIGN).digest != load(DESIGN, overrides={"max_rows": 1}).digest


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b[:-1],
        lambda b: b + b" ",
        lambda b: b.replace(b'"deny"', b'"allow"', 1),
        lambda b: b.replace(b'"default"', b'"rule_set":"y","default"'),
        lambda b: b.replace(b"10000", b"1e999"),
        lambda b: b.replace(b"10000", b"NaN"),
        lambda b: b.replace(b"identity.actions", b"identity.action"),
        lambda b: b"\xff" + b,
        lambda _: b"[" * 100_000,
        lambda _: b"",
    ],
)
def test_bytes_that_are_no_canonical_bundle_are_refused(change):
    with pytest.raises(InvalidInput):
        from_bundle(change(load(DESIGN).bundle))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda b: b, "<bundle>: 1 mistake: `rules.two-days.correlation.timespan`: the longest window is 86,400 s"),
        (lambda b: b.replace(b"crm.read", b"x"), "<bundle>: 1 mistake: `rules.two-days.correlation.timespan`: the longest"),
        (lambda b: b.replace(b'"when":"reads"', b'"when":"raeds"'), "<bundle>: 2 mistakes, the first: `rules.two-days.when`"),
        (lambda b: b.replace(b'"id":"two-days",', b""), "<bundle>: 2 mistakes, the first: `rules.1`: a rule needs `id`"),
        (lambda b: b.replace(b"event.action", b"event.actoin"), "`selections.reads`: unknown field `event.actoin`"),
        (lambda b: b.replace(b'"severity"', b'"sverity"'), "`rules.ok.sverity`: unknown key `sverity` in a rule"),
    ],
)
def test_a_bundle_that_does_not_load_names_what_is_wrong_in_it_for_it_has_no_lines(change, told):
    bundle = load(TWO_DAYS, timespan_ms_max=2 * TIMESPAN_MS_MAX).bundle
    with pytest.raises(InvalidInput) as caught:
        from_bundle(change(bundle))
    assert told in caught.value.message
    assert "line 1" not in caught.value.message


PRINTABLE = st.characters(categories=["L", "N", "P", "S", "Zs"])
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9),
    st.text(PRINTABLE, max_size=20),
)


@settings(deadline=None)  # what loading takes depends on the machine
@given(
    params=st.dictionaries(st.from_regex(r"[a-z]{1,8}x", fullmatch=True), SCALARS, max_size=4),
    because=st.text(PRINTABLE, max_size=40),
)
def test_every_loaded_set_survives_its_bundle(params, because):
    document = {
        "rule_set": "x",
        "default": "deny",
        "params": params,
        "rules": [{"id": "a", "effect": "approve", "when": "true", "because": because}],
    }
    program = load(json.dumps(document, ensure_ascii=False))
    again = from_bundle(program.bundle)
    assert again.digest == program.digest
    assert again.rule_set == program.rule_set


# --- what it reads ---


@pytest.mark.parametrize(
    ("when", "tables"),
    [
        ("true", set()),
        ("risk.present", {"risk"}),
        ("intent.action in identity.actions", {"identity"}),
        ("event.resource.zone == ''", {"classification"}),
        ("intent.environment == ''", {"infrastructure"}),
        ("intent.resource.uri == ''", set()),
        ("mandate.present", set()),
        ("origin('to') == 'prose'", {"classification"}),  # a tool's row says what its arguments steer
        ("zoned", {"classification"}),
    ],
)
def test_a_rule_knows_the_tables_it_needs(when, tables):
    assert one(when, selections={"zoned": "event.resource.zone == 'x'"}).tables_read == (tables,)


def test_a_window_needs_the_tables_of_its_selections_and_paths():
    program = load(DESIGN)
    assert program.tables_read[1] == {"classification"}
    assert program.tables_read[3] == {"identity"}  # grouped by tenant


# --- judging ---


def test_a_condition_is_true_false_or_an_error():
    program = load(
        "rule_set: x\ndefault: deny\nrules:\n"
        "  - {id: a, effect: approve, when: 'intent.action in identity.actions'}\n"
        "  - {id: b, effect: deny, when: 'risk.score > 0.5'}\n"
    )
    assert said(program, variables(event(action="crm.read"), risk={"present": True, "score": 1})) == (True, True)
    allowed, failed = said(program, variables(event(action="crm.write")))
    assert allowed is False
    assert isinstance(failed, str)
    assert "score" in failed


@pytest.mark.parametrize("value", [6, 6.0, 5.5])
def test_numbers_compare_across_int_and_double(value):
    program = one('"rows" in intent.measures && intent.measures.rows > params.n', params={"n": 5})
    assert said(program, variables(event(measures={"rows": value}), params={"n": 5})) == (True,)
    assert said(program, variables(event(measures={"rows": value}), params={"n": 7.5})) == (False,)


def test_a_selection_stands_for_its_condition_and_keeps_its_own_comment():
    program = one("!egress && true", selections={"egress": "event.action == 'a' || event.action == 'b' // mail"})
    assert said(program, variables(event(action="c"))) == (True,)
    assert said(program, variables(event(action="b"))) == (False,)


def test_a_selection_is_not_replaced_inside_texts_or_fields():
    program = one("intent.action == 'zone' && intent.resource.zone == 'zone'", selections={"zone": "false"})
    assert said(program, variables(event(action="zone", resource={"zone": "zone"}))) == (True,)


def test_select_gives_masks_by_name():
    program = load(DESIGN)
    names = program.selection_names
    matched, failed = program.select(event(action="crm.export", resource={"labels": ["pii"]}))
    assert {name for bit, name in enumerate(names) if matched >> bit & 1} == {"anything", "exports", "reads_pii"}
    assert failed == 0


def test_a_selection_that_fails_does_not_hold():
    program = load(DESIGN)
    broken = event(action="crm.read")
    del broken["resource"]
    matched, failed = program.select(broken)
    names = {name for bit, name in enumerate(program.selection_names) if failed >> bit & 1}
    assert names == {"reads_pii"}
    assert not matched & failed


def test_a_spent_budget_is_an_error_not_an_exception():
    program = one("intent.labels.exists(x, x == 'never')")
    (result,) = said(program, variables(event(labels=["a"] * 20_000)))
    assert isinstance(result, str)
    assert "budget" in result


def test_an_error_is_one_short_line():
    program = one("intent.resource.zone == 'x'")
    (result,) = said(program, variables({"resource": {"x" * 5_000: 1, "zone": object()}}))
    assert isinstance(result, str)
    assert len(result) <= 200
    assert "\n" not in result


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
    | st.builds(object),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
PROBE = load(DESIGN)


@given(st.dictionaries(st.sampled_from(["intent", "event", "identity", "infrastructure", "risk"]), ANYTHING))
def test_no_variables_ever_raise(values):
    results = said(PROBE, values)
    assert len(results) == len(PROBE.rules)
    assert all(result is True or result is False or len(result) <= 200 for result in results)


@given(ANYTHING)
def test_no_event_ever_raises(view):
    matched, failed = PROBE.select(view)
    assert not matched & failed


@pytest.mark.parametrize("broken", [None, 5, "x", [1], {1: 2}])
def test_variables_that_are_no_mapping_of_names_are_errors(broken):
    assert all(isinstance(result, str) for result in said(one("chain.events == 0"), broken))


ATOMS = st.sampled_from(
    [
        "true",
        '(intent.action == "crm.read")',
        "(risk.score > 0.5)",
        "risk.present",
        "(chain.events >= 1)",
        '("pii" in intent.labels)',
        "infrastructure.attested",
        '("rows" in intent.measures && intent.measures.rows > 5)',
        "intent.labels.exists(x, x == intent.action)",
    ]
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "=="]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda c: f"!({c})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
    ),
    max_leaves=6,
)
CHAIN = st.fixed_dictionaries({"labels": st.just([]), "events": st.integers(0, 2)})
RISK = st.sampled_from([{"present": False}, {"present": True, "score": 1}, {"present": True, "score": 0.1}])


@settings(deadline=None)  # as above
@given(st.lists(CONDITIONS, min_size=1, max_size=4), st.randoms(), CHAIN, RISK)
def test_the_order_of_rules_never_changes_what_each_says(conditions, random, chain, risk):
    order = list(range(len(conditions)))
    random.shuffle(order)

    def judged(indexes):
        rules = [{"id": f"r{i}", "effect": "approve", "when": conditions[i]} for i in indexes]
        program, mistakes = inspect(json.dumps({"rule_set": "x", "default": "deny", "rules": rules}))
        assert program, mistakes
        values = variables(
            event(action="crm.read", labels=["crm.read"], measures={"rows": 6.5}), chain=chain, risk=risk
        )
        return dict(zip(indexes, said(program, values), strict=True))

    assert judged(order) == judged(sorted(order))


def test_the_example_here_is_the_one_people_read():
    """Every rule id and selection of the shipped example's core is the design's."""
    shipped = (ROOT / "examples/rules/production.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"- id: ([\w-]+)", DESIGN)) - {"fan-out"} <= set(re.findall(r"- id: ([\w-]+)", shipped))
