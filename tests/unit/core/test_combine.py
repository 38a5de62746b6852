"""The theorems of combining (DESIGN §6): deny wins, default deny, order and duplicates don't matter."""

from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.combine import combine, merge_obligations

FINDING = st.builds(
    lambda rule, effect, code: {"code": code, "rule": rule, "effect": effect},
    st.sampled_from("abcdef"),
    st.sampled_from(["approve", "hold", "deny"]),
    st.sampled_from(["rule", "rule", "rule", "rule_error", "stale_facts"]),
)
# A rule has one finding.
FINDINGS = st.lists(FINDING, max_size=6, unique_by=lambda f: f["rule"])
RANK = {"approve": 0, "hold": 1, "deny": 2}
SCALAR = st.integers(-3, 3) | st.floats(-2, 2).map(lambda x: x + 0.25) | st.sampled_from(["", "a", "b", True, False])
OBLIGATIONS = st.lists(st.dictionaries(st.sampled_from("xyz"), SCALAR), max_size=4)


def denies(finding) -> bool:
    return finding["code"] != "rule" or finding["effect"] == "deny"


def test_nothing_said_is_denied():
    assert combine([]) == ("deny", ())


@given(FINDINGS)
def test_deny_wins_over_hold_and_hold_over_approve(findings):
    decision, reasons = combine(findings)
    if any(denies(f) for f in findings):
        assert decision == "deny"
        assert all(denies(f) for f in reasons)
    elif any(f["effect"] == "hold" for f in findings):
        assert decision == "hold"
    elif findings:
        assert decision == "approve"


@given(FINDINGS, st.randoms(use_true_random=False))
def test_order_does_not_matter(findings, random):
    shuffled = random.sample(findings, len(findings))
    assert combine(shuffled) == combine(findings)


@given(FINDINGS)
def test_duplicates_do_not_change_the_decision(findings):
    assert combine(findings * 2)[0] == combine(findings)[0]


@given(FINDINGS, FINDING)
def test_one_more_finding_that_is_no_approve_never_allows_more(findings, more):
    if denies(more) or more["effect"] == "hold":
        before = combine(findings)[0]
        assert RANK[combine([*findings, more])[0]] >= (RANK[before] if findings else 0)


@given(FINDINGS, FINDING)
def test_adding_a_deny_denies(findings, more):
    assert combine([*findings, {**more, "code": "rule", "effect": "deny"}])[0] == "deny"


def test_the_reasons_are_those_that_decided():
    findings = [{"code": "rule", "rule": r, "effect": e} for r, e in (("b", "hold"), ("a", "hold"), ("c", "approve"))]
    assert [f["rule"] for f in combine(findings)[1]] == ["a", "b"]


class TestObligations:
    def test_the_stricter_number_and_both_lists(self):
        merged = merge_obligations([{"rows": 10, "mask": ["a"]}, {"rows": 5, "mask": ["b"]}])
        assert merged == {"mask": ["a", "b"], "rows": 5}

    @given(OBLIGATIONS, st.randoms(use_true_random=False))
    def test_order_and_duplicates_do_not_matter(self, obligations, random):
        shuffled = random.sample(obligations * 2, len(obligations) * 2)
        assert merge_obligations(shuffled) == merge_obligations(obligations)


def test_a_list_is_what_the_log_gives_back():
    assert merge_obligations([{"mask": ("email",), "rows": 1}]) == {"mask": ["email"], "rows": 1}
    assert merge_obligations([{"mask": ("email",)}, {"mask": ("phone",)}]) == {"mask": ["email", "phone"]}
