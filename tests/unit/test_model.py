"""What may be judged, and what a row may say: every limit of PROTOCOL §9 at its edge."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness_stream.core import limits
from harness_stream.core.model import (
    TABLES,
    Approval,
    ClassificationRow,
    IdentityRow,
    InfrastructureRow,
    Intent,
    Mandate,
    Outcome,
    RiskRow,
    lane_of,
    measure_of,
    micro_of,
)

ID = "01970000-0000-7000-8000-000000000001"
DIGEST = "0" * 64
FINGERPRINT = "0" * 16
COMMON = {"realm": "r", "by": "b", "agent_id": "a"}


def intent(**changes):
    minimal = {
        "intent_id": ID,
        "workload_id": "w",
        "action": "crm.export",
        "arguments_digest": DIGEST,
        "enforcer_nonce": "0" * 32,
    }
    return Intent(**(COMMON | minimal | changes))


def outcome(**changes):
    return Outcome(
        **({**COMMON, "outcome_id": ID, "intent_id": ID, "verdict_digest": DIGEST, "status": "done"} | changes)
    )


def mandate(**changes):
    return Mandate(**({**COMMON, "mandate_id": ID, "chain_id": "c"} | changes))


def approval(**changes):
    minimal = {"approval_id": ID, "hold_digest": DIGEST, "hold_offset": 1, "decision": "approve"}
    return Approval(**(COMMON | minimal | changes))


def test_an_intent_without_a_chain_belongs_to_the_agents_own():
    assert intent().chain == "agent:a"
    assert intent(chain_id="case-1").chain == "case-1"


def test_an_intent_waits_five_seconds_unless_it_says_otherwise():
    assert intent().deadline_ms == 5_000


def test_events_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        intent().action = "x.y"


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("resources", ["crm://x"] * limits.RESOURCES_MAX),
        ("labels", [f"l{n}" for n in range(limits.LABELS_MAX)]),
        ("measures", {f"m{n}": 1 for n in range(limits.MEASURES_MAX)}),
        ("arguments", [{"name": "x"}] * limits.ARGUMENTS_MAX),
    ],
)
def test_an_intent_may_carry_so_many_and_no_more(field, most):
    more = most | {"more": 1} if isinstance(most, dict) else [*most, *(["more"] if field == "labels" else most[:1])]

    assert len(getattr(intent(**{field: most}), field)) == len(most)
    with pytest.raises(ValidationError, match="at most"):
        intent(**{field: more})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("action", "export"),
        ("action", "crm."),
        ("action", "crm.ex port"),
        ("action", "ｃrm.export"),
        ("action", "crm." + "x" * limits.ACTION_CHARS_MAX),
        ("resources", ["orders/1234"]),
        ("resources", ["CRM://orders/1"]),
        ("resources", ["crm://with blank"]),
        ("resources", ["crm:" + "x" * limits.URI_CHARS_MAX]),
        ("intent_id", "01970000-0000-4000-8000-000000000001"),
        ("intent_id", ID.upper().replace("0197", "0A97")),
        ("intent_id", ID + "\n"),
        ("arguments_digest", "0" * 63),
        ("arguments_digest", "G" * 64),
        ("enforcer_nonce", "0" * 31),
        ("agent_id", ""),
        ("agent_id", "a\x00b"),
        ("agent_id", "a b"),
        ("agent_id", "x" * (limits.IDENTIFIER_CHARS_MAX + 1)),
        ("labels", ["pii", "pii"]),
        ("labels", ["p\u0456i"]),  # a Cyrillic look-alike
        ("purpose", "two\nlines"),
        ("purpose", "x" * (limits.PURPOSE_CHARS_MAX + 1)),
        ("deadline_ms", 0),
        ("deadline_ms", limits.DEADLINE_MS_MAX + 1),
        ("deadline_ms", True),
        ("deadline_ms", "5000"),
        ("min_revision", {"weather": 1}),
        ("min_revision", {"risk": -1}),
        ("min_revision", {"risk": 2**53}),
        ("unparsed", 1),
        ("v", 2),
        ("v", True),
        ("type", "outcome"),
        ("arguments", [{"name": "x", "values": ["0" * 15]}]),
        ("arguments", [{"name": "x", "role": "target"}]),
        ("parent", {"agent_id": "p"}),
        ("surprise", 1),
    ],
)
def test_an_intent_refuses(field, value):
    with pytest.raises(ValidationError):
        intent(**{field: value})


@pytest.mark.parametrize("measure", [0, 1, 2**53 - 1, "0", "0.1", "40.50", "999999999999999.999999"])
def test_a_measure_is_an_integer_or_a_decimal_text(measure):
    assert intent(measures={"m": measure}).measures_micro() == {"m": int(Decimal(measure) * 10**6)}


@pytest.mark.parametrize(
    "measure",
    [
        -1,
        2**53,
        1.5,
        1.0,
        True,
        None,
        "-1",
        "+1",
        "1e3",
        ".5",
        "1.",
        "01",
        "1.1234567",
        "1000000000000000",
        "",
        " 1",
        "\u0661",  # a digit, but not one of ours
    ],
)
def test_a_measure_is_nothing_else(measure):
    with pytest.raises(ValidationError):
        intent(measures={"m": measure})


@given(st.integers(0, 10**21 - 1))
def test_measures_survive_the_way_to_the_wire_and_back(micro):
    assert micro_of(measure_of(micro)) == micro


def test_a_measure_is_written_in_its_shortest_form():
    assert [measure_of(micro) for micro in (0, 3_000_000, 1_500_000, 1)] == [0, 3, "1.5", "0.000001"]


def test_a_mandate_declares_until_when_or_closes():
    assert mandate(expires_at=1).close is False
    assert mandate(close=True).expires_at is None
    with pytest.raises(ValidationError, match="needs `expires_at`"):
        mandate()
    with pytest.raises(ValidationError, match="declares nothing else"):
        mandate(close=True, expires_at=1)
    with pytest.raises(ValidationError, match="declares nothing else"):
        mandate(close=True, values=[FINGERPRINT])


def test_no_mandate_takes_over_an_agents_own_chain():
    with pytest.raises(ValidationError, match="`agent:`"):
        mandate(chain_id="agent:victim", expires_at=1)


def test_an_outcome_bounds_its_values_over_all_records():
    half = {"values": [{"kind": "name", "place": "field", "values": [FINGERPRINT] * (limits.OUTCOME_VALUES_MAX // 2)}]}
    one = {"values": [{"kind": "name", "place": "field", "values": [FINGERPRINT]}]}

    assert len(outcome(records=[half, half]).records) == 2
    with pytest.raises(ValidationError, match="set `overflow`"):
        outcome(records=[half, half, one])


def test_an_outcome_reports_exact_measures():
    assert outcome(measures={"amount": "0.5"}).measures_micro() == {"amount": 500_000}


def test_an_approval_names_values_exactly_when_it_is_about_values():
    assert approval(scope="value", values=[FINGERPRINT]).values == (FINGERPRINT,)
    with pytest.raises(ValidationError, match="scope `value`"):
        approval(scope="value")
    with pytest.raises(ValidationError, match="scope `value`"):
        approval(values=[FINGERPRINT])


def test_every_event_has_its_own_id():
    assert {e.own_id for e in (intent(), outcome(), mandate(close=True), approval())} == {ID}


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (IdentityRow(agent_id="a"), "a"),
        (InfrastructureRow(workload_id="w"), "w"),
        (RiskRow(subject="tenant:t", score=1, valid_until=0), "tenant:t"),
        (ClassificationRow(subject="tool:*"), "tool:*"),
    ],
)
def test_a_row_knows_its_key(row, key):
    assert row.key == key
    assert type(row) in TABLES.values()


def test_a_lane_is_the_named_one_else_the_tenant_else_the_agent():
    assert lane_of(IdentityRow(agent_id="a", tenant="t", lane="l")) == "l"
    assert lane_of(IdentityRow(agent_id="a", tenant="t")) == "t"
    assert lane_of(IdentityRow(agent_id="a")) == "a"


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf"), "0.5", True])
def test_a_risk_is_between_zero_and_one(score):
    with pytest.raises(ValidationError):
        RiskRow(subject="agent:a", score=score, valid_until=0)


@pytest.mark.parametrize("subject", ["a", "user:a", "agent:", "agent:a b"])
def test_a_risk_names_whose_it_is(subject):
    with pytest.raises(ValidationError):
        RiskRow(subject=subject, score=0, valid_until=0)


@pytest.mark.parametrize("subject", ["resource:crm://orders/*", "resource:crm://orders/1", "tool:*", "tool:crm.export"])
def test_a_classification_is_exact_or_a_prefix(subject):
    assert ClassificationRow(subject=subject).key == subject


@pytest.mark.parametrize("subject", ["resource:", "agent:a", "resource:crm://*/orders", "tool:**", "tool:a *"])
def test_a_star_anywhere_else_would_match_nothing_and_is_refused(subject):
    with pytest.raises(ValidationError):
        ClassificationRow(subject=subject)


def test_what_only_tools_have_stands_only_on_tools():
    with pytest.raises(ValidationError, match="belong to a `tool:` row"):
        ClassificationRow(subject="resource:crm://*", operation="read")
