"""What windows and outcomes mean, by examples small enough to check by hand (DESIGN §5, §6).

Every example runs through Intake, and the oracle is asked at every step as well (`Tale`): so these hold the oracle to
what a reader would say, as they hold the engine to it. The world they happen in is that of `scenarios.py`: ann, bob and
cat share a lane, eve has her own; `crm://a` is personal.
"""

import pytest
from scenario_runs import Tale
from scenarios import FOREIGN_WORKLOAD

from harness_stream.core import limits
from tests.oracle_words import Predicate, Rule, Window

T = 5_000  # every window's timespan
HOLD = limits.HOLD_MS_DEFAULT
READ, SEND, GET = {"action": "crm.read"}, {"action": "email.send"}, {"action": "web.get"}
ANY = Predicate()
SENDING = Predicate(("email.send",))
PERSONAL = {**READ, "resources": ("crm://a",)}


def window(kind: str, *selections: str, by: tuple[str, ...] = ("agent_id",), span_ms: int = T, **over) -> Window:
    return Window(kind, selections or ("anything",), by, span_ms, **over)


def deny(correlation: Window | None, when: Predicate = ANY, effect: str = "deny") -> Rule:
    return Rule("r", effect, when, window=correlation)


def more_than(threshold, *selections: str, field: str | None = None, **over) -> Window:
    kind = "event_count" if field is None else "value_sum" if field.startswith("measures.") else "value_count"
    return window(over.pop("kind", kind), *selections, field=field, threshold=threshold, **over)


def rows(amount) -> dict:
    return {"measures": (("rows", amount),)}


class TestSpan:
    """Both ends are included: exactly T ago still counts."""

    CASES = (
        more_than(1),
        more_than(1, field="measures.rows"),
        more_than(1, field="action"),
        window("temporal", "reads", "sends"),
        window("temporal_ordered", "reads", "sends"),
    )

    @pytest.mark.parametrize("correlation", CASES, ids=lambda w: w.kind)
    def test_exactly_the_timespan_ago_counts_and_a_millisecond_more_does_not(self, correlation: Window):
        for gap_ms, expected in ((T, "deny"), (T + 1, "approve")):
            tale = Tale(deny(correlation, SENDING))
            tale.act(**READ, **rows(1))
            assert tale.act(gap_ms, **SEND, **rows(1)) == expected

    @pytest.mark.parametrize(("gap_ms", "expected"), [(T, "approve"), (T + 1, "deny")])
    def test_the_same_for_what_must_not_have_happened(self, gap_ms: int, expected: str):
        tale = Tale(deny(window("absent", "reads"), SENDING))
        tale.act(**READ)
        assert tale.act(gap_ms, **SEND) == expected

    def test_ties_count_each(self):
        tale = Tale(deny(more_than(2)))
        assert [tale.act(0) for _ in range(3)] == ["approve", "approve", "deny"]


class TestTheJudgedIntent:
    """It is included if a listed selection matches it."""

    def test_the_one_that_would_make_more_is_denied(self):
        tale = Tale(deny(more_than(2)))
        assert [tale.act(1) for _ in range(4)] == ["approve", "approve", "deny", "deny"]

    def test_it_counts_only_if_it_matches(self):
        tale = Tale(deny(more_than(1, "reads"), SENDING))
        tale.act(**READ)
        assert tale.act(**SEND) == "approve"
        tale.act(**READ)
        assert tale.act(**SEND) == "deny"

    def test_its_measure_is_in_the_sum(self):
        tale = Tale(deny(more_than(10, field="measures.rows")))
        assert [tale.act(**rows(n)) for n in (6, 4, 1)] == ["approve", "approve", "deny"]

    def test_its_value_is_among_the_distinct_ones(self):
        tale = Tale(deny(more_than(1, field="action")))
        assert [tale.act(**a) for a in (READ, READ, SEND)] == ["approve", "approve", "deny"]

    def test_it_is_an_element_of_a_temporal_window(self):
        tale = Tale(deny(window("temporal", "reads", "sends")))
        assert [tale.act(**a) for a in (SEND, READ)] == ["approve", "deny"]

    def test_it_is_the_last_step_of_an_ordered_one(self):
        tale = Tale(deny(window("temporal_ordered", "reads", "sends")))
        assert [tale.act(**a) for a in (SEND, READ, SEND)] == ["approve", "approve", "deny"]

    def test_it_is_there_for_absent(self):
        tale = Tale(deny(window("absent", "sends")))
        assert [tale.act(1, **a) for a in (READ, SEND, READ)] == ["deny", "approve", "approve"]


class TestOrdered:
    def test_steps_are_different_events(self):
        both = {**READ, "resources": ("crm://a",)}
        tale = Tale(deny(window("temporal_ordered", "reads", "personal")))
        assert [tale.act(1, **both) for _ in range(2)] == ["approve", "deny"]

    def test_one_event_may_match_several_selections_of_a_temporal_window(self):
        tale = Tale(deny(window("temporal", "reads", "personal")))
        assert tale.act(**READ, resources=("crm://a",)) == "deny"

    def test_at_one_time_the_log_order_counts(self):
        for first, second, expected in ((READ, GET, "deny"), (GET, READ, "approve")):
            tale = Tale(deny(window("temporal_ordered", "reads", "sends", "tagged"), Predicate(tag="vip")))
            tale.act(**first)
            tale.act(0, **second)
            assert tale.act(0, **READ, labels=("vip",)) == expected

    def test_a_later_start_replaces_an_earlier_one(self):
        tale = Tale(deny(window("temporal_ordered", "reads", "sends", "tagged"), Predicate(tag="vip")))
        for gap_ms, action in ((0, READ), (1_000, GET), (3_500, READ), (1, GET)):
            tale.act(gap_ms, **action)
        assert tale.act(T - 1, **READ, labels=("vip",)) == "deny"

    def test_steps_in_the_wrong_order_leave_no_trace(self):
        tale = Tale(deny(window("temporal_ordered", "sends", "reads", "tagged"), Predicate(tag="vip")))
        for action in (READ, READ, GET):
            tale.act(1, **action)
        assert tale.act(1, **GET, labels=("vip",)) == "approve"

    def test_an_approved_hold_moves_to_its_answer(self):
        ordered = deny(window("temporal_ordered", "sends", "reads", span_ms=30 * 60_000), SENDING)
        tale = Tale(Rule("ask", "hold", Predicate(("web.get",))), ordered)
        assert tale.act(**GET) == "hold"
        tale.act(1, **READ)
        assert tale.act(1, **SEND) == "deny"  # in flight counts as done, before the read
        assert tale.answer(1) == "approve"
        assert tale.act(1, **SEND) == "approve"  # now it was done after the read
        tale.act(1, **READ)
        assert tale.act(1, **SEND) == "deny"


class TestResources:
    BOTH = ("crm://a", "crm://b")

    def test_counts_and_sums_take_an_intent_once(self):
        tale = Tale(deny(more_than(1)), Rule("s", "deny", window=more_than(3, field="measures.rows")))
        assert tale.act(resources=self.BOTH, **rows(3)) == "approve"

    def test_distinct_counts_take_each_matching_resource(self):
        assert Tale(deny(more_than(1, field="resource.uri"))).act(resources=self.BOTH) == "deny"
        assert Tale(deny(more_than(1, "personal", field="resource.uri"))).act(resources=self.BOTH) == "approve"

    def test_without_resources_the_empty_text_is_one_value(self):
        tale = Tale(deny(more_than(1, field="resource.uri")))
        assert [tale.act(), tale.act(), tale.act(resources=("crm://a",))] == ["approve", "approve", "deny"]

    def test_a_group_by_resource_holds_only_what_touched_it(self):
        tale = Tale(deny(more_than(1, by=("resource.uri",))))
        acts = [tale.act(resources=(uri,)) for uri in ("crm://a", "crm://b", "crm://a")]
        assert acts == ["approve", "approve", "deny"]

    def test_in_a_group_only_the_resources_of_that_group_match(self):
        tale = Tale(deny(more_than(0, "personal", by=("resource.uri",)), Predicate(zone="inner")))
        assert tale.act(resources=("crm://b", "mail://x")) == "approve"
        assert tale.act(resources=self.BOTH) == "deny"

    def test_any_is_enough_to_deny_and_all_are_needed_to_approve(self):
        again = window("event_count", by=("resource.uri",), op="gte", threshold=2, attempts=True)
        for effect, expected in (("deny", ["deny", "deny"]), ("approve", ["deny", "approve"])):
            tale = Tale(Rule("r", effect, window=again), base=effect == "deny")
            tale.act(resources=("crm://a",))
            assert [tale.act(resources=self.BOTH) for _ in range(2)] == expected


class TestAttempts:
    def test_denied_ones_count_only_if_asked_for(self):
        for attempts, expected in ((False, "approve"), (True, "deny")):
            never = Rule("never", "deny", Predicate(("email.send",)))
            tale = Tale(never, deny(more_than(1, "sends", attempts=attempts), Predicate(("web.get",))))
            assert tale.act(**SEND) == "deny"
            assert tale.act(**GET) == expected

    def test_what_the_engine_itself_denied_is_an_attempt(self):
        tale = Tale(deny(more_than(1, attempts=True, by=())))
        assert tale.verdict(chain="nowhere")["reasons"][0]["code"] == "chain_unknown"
        assert tale.act() == "deny"

    def test_whatever_it_was_denied_for_it_opens_no_chain(self):
        tale = Tale()
        for over in ({"workload": FOREIGN_WORKLOAD}, {}):
            body = tale.verdict(chain="nowhere", **over)
            assert (body["decision"], body["event"]["chain_id"]) == ("deny", "agent:ann")


class TestHolds:
    """In flight counts as done; an expired hold reads as denied; an answer takes the hold's place."""

    ASK = Rule("ask", "hold", SENDING)

    def tale(self, **over) -> Tale:
        counting = more_than(0, "sends", span_ms=2 * HOLD // 1_000 * 1_000, **over)
        return Tale(self.ASK, deny(counting, Predicate(("crm.read",))))

    def test_an_open_hold_counts_up_to_its_end_and_not_after(self):
        tale = self.tale()
        assert tale.act(**SEND) == "hold"
        assert tale.act(HOLD, **READ) == "deny"
        assert tale.act(1, **READ) == "approve"

    def test_an_expired_hold_is_still_an_attempt(self):
        tale = self.tale(attempts=True)
        tale.act(**SEND)
        assert tale.act(HOLD + 1, **READ) == "deny"

    def test_an_expired_hold_takes_no_answer(self):
        tale = self.tale()
        tale.act(**SEND)
        assert tale.answer(HOLD + 1) == "refused"
        assert tale.act(**READ) == "approve"

    @pytest.mark.parametrize("attempts", [False, True])
    def test_a_denied_hold_is_an_attempt(self, attempts: bool):
        tale = self.tale(attempts=attempts)
        tale.act(**SEND)
        assert tale.answer(1, approve=False) == "deny"
        assert tale.act(1, **READ) == ("deny" if attempts else "approve")

    def test_an_approved_hold_is_one_event_at_the_answers_time(self):
        tale = Tale(self.ASK, deny(more_than(0, "sends"), Predicate(("crm.read",))))
        tale.act(**SEND)
        assert tale.answer(T) == "approve"
        assert tale.act(T, **READ) == "deny"
        assert tale.act(1, **READ) == "approve"

    def test_many_open_holds_hide_nothing(self):
        sends = window("temporal", "sends", by=(), span_ms=2 * HOLD)
        tale = Tale(self.ASK, deny(sends, Predicate(("crm.read",))))
        tale.act(**GET)
        for agent in ("ann", "bob"):
            for _ in range(limits.WINDOW_HOLDS_MAX):
                assert tale.act(1, agent=agent, **SEND) == "hold"
        assert tale.act(HOLD + 1, **READ) == "deny"

    def test_any_of_many_open_holds_may_be_the_one_that_still_counts(self):
        tale = Tale(self.ASK, deny(window("temporal", "sends", span_ms=2 * HOLD), Predicate(("crm.read",))))
        for _ in range(limits.WINDOW_HOLDS_MAX):
            assert tale.act(1, **SEND) == "hold"
        for _ in range(limits.WINDOW_HOLDS_MAX - 1):
            assert tale.answer(1, approve=False) == "deny"
        assert tale.act(1, **READ) == "deny"
        assert tale.answer(1, approve=False) == "deny"
        assert tale.act(1, **READ) == "approve"

    def test_however_many_nobody_answered_are_attempts(self):
        values = more_than(1, "sends", field="purpose", attempts=True, span_ms=4 * HOLD)
        tale = Tale(self.ASK, deny(values, Predicate(("crm.read",))))
        for _ in range(2):
            for _ in range(limits.WINDOW_HOLDS_MAX // 2 + 1):
                tale.act(1, **SEND, purpose="p")
            tale.run.t += HOLD
        assert tale.act(1, **READ) == "approve"


class TestSums:
    def test_decimals_are_exact(self):
        tale = Tale(deny(more_than(0.3, field="measures.rows")))
        assert [tale.act(**rows(n)) for n in ("0.1", "0.2", "0.000001")] == ["approve", "approve", "deny"]

    def test_a_missing_measure_makes_it_unknown_while_it_is_inside(self):
        tale = Tale(deny(more_than(10, field="measures.rows"), SENDING))
        tale.act(**READ)
        assert tale.act(T, **SEND, **rows(1)) == "deny?"
        assert tale.act(1, **SEND, **rows(1)) == "approve"

    def test_then_approve_rules_do_not_fire(self):
        below = window("value_sum", field="measures.rows", op="lte", threshold=10, attempts=True)
        tale = Tale(Rule("few", "approve", window=below), base=False)
        assert [tale.act(**rows(1)), tale.act(1), tale.act(1, **rows(1))] == ["approve", "deny", "deny"]
        assert tale.act(T + 1, **rows(1)) == "approve"

    def test_distinct_measures_are_numbers(self):
        tale = Tale(deny(more_than(1, field="measures.rows", kind="value_count")))
        assert [tale.act(1, **rows(n)) for n in (1, "1.0", 2)] == ["approve", "approve", "deny"]

    def test_a_missing_one_may_be_one_more(self):
        tale = Tale(deny(more_than(1, field="measures.rows", kind="value_count"), SENDING))
        tale.act(**READ)
        assert tale.act(T, **SEND, **rows(1)) == "deny?"
        assert tale.act(1, **SEND, **rows(1)) == "approve"

    def test_but_not_two_more(self):
        tale = Tale(deny(more_than(2, field="measures.rows", kind="value_count"), SENDING))
        tale.act(**READ)
        assert tale.act(1, **SEND, **rows(1)) == "approve"

    def test_until_the_outcome_tells(self):
        tale = Tale(deny(more_than(1, field="measures.rows", kind="value_count"), SENDING))
        tale.act(**READ)
        assert tale.report("done", 1, **rows(1)) == "accepted"
        assert tale.act(1, **SEND, **rows(1)) == "approve"


class TestOutcomes:
    def tale(self) -> Tale:
        tale = Tale(deny(more_than(10, "reads", field="measures.rows"), SENDING))
        tale.act(**READ, **rows(5))
        return tale

    @pytest.mark.parametrize(("reported", "expected"), [(11, "deny"), (10, "approve"), (1, "approve")])
    def test_done_raises_a_measure_to_the_larger(self, reported: int, expected: str):
        tale = self.tale()
        assert tale.report("done", 1, **rows(reported)) == "accepted"
        assert tale.act(1, **SEND) == expected

    def test_it_never_lowers_one(self):
        tale = self.tale()
        tale.report("done", 1, **rows(0))
        tale.act(1, **READ, **rows(6))
        assert tale.act(1, **SEND) == "deny"

    def test_it_counts_at_the_approved_time(self):
        tale = self.tale()
        tale.report("done", 1, **rows(11))
        assert tale.act(T - 1, **SEND) == "deny"
        assert tale.act(1, **SEND) == "approve"

    def test_it_moves_nothing_in_the_order(self):
        tale = Tale(deny(window("temporal_ordered", "reads", "sends"), SENDING))
        tale.act(**READ)
        tale.act(**GET)
        assert tale.report("done", pick=1, **rows(1)) == "accepted"
        tale.report("done", pick=0, **rows(1))
        assert tale.act(**SEND) == "deny"
        tale = Tale(deny(window("temporal_ordered", "sends", "reads"), SENDING))
        tale.act(**READ)
        tale.act(**GET)
        tale.report("done", pick=1, **rows(1))
        assert tale.act(**SEND) == "approve"

    @pytest.mark.parametrize("status", ["failed", "unknown"])
    def test_anything_else_changes_nothing(self, status: str):
        tale = self.tale()
        assert tale.report(status, 1, **rows(99)) == "accepted"
        assert tale.act(1, **SEND) == "approve"

    def test_a_measure_it_adds_is_there_from_then_on(self):
        tale = Tale(deny(more_than(10, "reads", field="measures.rows"), SENDING))
        tale.act(**READ)
        assert tale.act(1, **SEND) == "deny?"
        assert tale.report("done", 1, **rows(3)) == "accepted"
        assert tale.act(1, **SEND) == "approve"

    def test_a_selection_sees_the_raised_measure(self):
        tale = Tale(deny(more_than(0, "large"), SENDING))
        tale.act(**READ, **rows(2))
        assert tale.act(1, **SEND) == "approve"
        tale.report("done", 1, pick=1, **rows(3))
        assert tale.act(1, **SEND) == "deny"

    def test_the_first_one_wins(self):
        tale = self.tale()
        tale.report("failed")
        assert tale.report("done", **rows(99)) == "refused"
        assert tale.act(1, **SEND) == "approve"


class TestReleased:
    """`abandoned`, signed by an enforcer that is not the agent: as if it had never been in any window."""

    def test_count_and_sum_forget_it(self):
        tale = Tale(deny(more_than(1)), Rule("s", "deny", window=more_than(5, field="measures.rows")))
        tale.act(**rows(5))
        assert tale.report("abandoned", 1) == "accepted"
        assert tale.act(1, **rows(5)) == "approve"
        assert tale.act(1, **rows(0)) == "deny"

    def test_not_by_the_agent_itself(self):
        tale = Tale(deny(more_than(1)))
        tale.act()
        assert tale.report("abandoned", 1, by="agent") == "refused"
        assert tale.act(1) == "deny"

    TEMPORAL = (window("temporal", "reads", "sends"), window("temporal_ordered", "reads", "sends"))

    @pytest.mark.parametrize("correlation", [*TEMPORAL, more_than(0, "reads", field="purpose")], ids=lambda w: w.kind)
    def test_the_only_one_is_gone_everywhere(self, correlation: Window):
        tale = Tale(deny(correlation, SENDING))
        tale.act(**READ)
        assert tale.act(1, **SEND) == "deny"
        tale.report("abandoned", 1)
        assert tale.act(1, **SEND) == "approve"

    def test_also_from_what_must_not_be_absent(self):
        tale = Tale(deny(window("absent", "reads"), SENDING))
        tale.act(**READ)
        tale.report("abandoned", 1)
        assert tale.act(1, **SEND) == "deny"

    @pytest.mark.parametrize(("correlation", "said"), [*zip(TEMPORAL, ("deny", "deny?"), strict=True)])
    def test_what_it_stood_before_is_not_forgotten_with_it(self, correlation: Window, said: str):
        tale = Tale(deny(correlation, SENDING))
        tale.act(**READ)
        tale.act(1, **READ)
        tale.report("abandoned", 1)
        assert tale.act(T - 2, **SEND) == said
        assert tale.act(1, **SEND) == "approve"

    def test_what_must_not_be_absent_is_still_there(self):
        tale = Tale(deny(window("absent", "reads"), SENDING))
        tale.act(**READ)
        tale.act(1, **READ)
        tale.report("abandoned", 1)
        assert tale.act(T - 2, **SEND) == "approve"
        assert tale.act(1, **SEND) == "deny"

    @pytest.mark.parametrize(("most", "said"), [(1, "deny?"), (2, "approve")])
    def test_a_value_of_which_two_are_gone_is_one_more_at_most(self, most: int, said: str):
        tale = Tale(deny(more_than(most, field="purpose"), SENDING))
        for _ in range(3):
            tale.act(**READ, purpose="p")
        for pick in (0, 1):
            tale.report("abandoned", pick=pick)
        assert tale.act(1, **SEND, purpose="q") == said

    def test_its_labels_stay(self):
        tale = Tale(deny(None, Predicate(("email.send",), chain_label="pii")))
        tale.act(**READ, resources=("crm://a",))
        tale.report("abandoned", 1)
        assert tale.act(1, **SEND) == "deny"


class TestGroups:
    def test_no_group_leaves_its_lane(self):
        tale = Tale(deny(more_than(1, by=("tenant",))))
        assert [tale.act(agent=agent) for agent in ("ann", "eve", "bob", "cat")] == ["approve"] * 3 + ["deny"]

    def test_without_a_group_the_whole_lane_is_one(self):
        tale = Tale(deny(more_than(2, by=())))
        assert [tale.act(agent=agent) for agent in ("ann", "bob", "eve", "cat")] == ["approve"] * 3 + ["deny"]

    def test_a_chain_is_one_agents(self):
        tale = Tale(deny(more_than(1, by=("chain_id",))))
        for agent, chain in (("ann", "case"), ("bob", "case"), ("ann", None)):
            assert tale.act(agent=agent, chain=chain) == "approve"
        assert tale.act(agent="ann", chain="case") == "deny"

    def test_values_are_never_joined_into_one_text(self):
        tale = Tale(deny(more_than(1, by=("purpose", "owner"))))
        assert [tale.act(agent="bob", purpose="p"), tale.act(purpose="p|x")] == ["approve", "approve"]

    def test_by_the_parent_agent(self):
        tale = Tale(deny(more_than(1, by=("parent",)), Predicate(tag="vip")))
        tale.act()
        for agent in ("bob", "cat"):
            assert tale.act(1, agent=agent, parent=("approved", 0 if agent == "bob" else 1)) == "approve"
        assert tale.act(1, agent="bob", parent=("approved", 2), labels=("vip",)) == "deny"
        assert tale.act(1, agent="bob", labels=("vip",)) == "deny"

    def test_what_an_event_was_joined_with_stays(self):
        tale = Tale(deny(more_than(1, by=("owner",)), Predicate(tag="vip")))
        tale.act(agent="bob")
        tale.flip("agent", "bob", owner="o")
        assert tale.act(1, agent="bob", labels=("vip",)) == "approve"

    def test_labels_of_an_event_are_those_of_its_time(self):
        tale = Tale(deny(more_than(0, "personal"), SENDING))
        tale.act(**READ, resources=("crm://b",))
        tale.flip("resource", "crm://b", labels=["pii"], sensitivity="high")
        assert tale.act(1, **SEND) == "approve"
        tale.act(1, **READ, resources=("crm://b",))
        tale.flip("resource", "crm://b", labels=["pii"], sensitivity="high")
        assert tale.act(1, **SEND) == "deny"


class TestSelections:
    def test_several_listed_are_a_total(self):
        tale = Tale(deny(more_than(2, "reads", "sends")))
        assert [tale.act(**a) for a in (READ, SEND, GET)] == ["approve", "approve", "deny"]

    def test_an_event_that_matches_two_counts_once(self):
        tale = Tale(deny(more_than(1, "reads", "personal")))
        assert tale.act(**READ, resources=("crm://a",)) == "approve"


@pytest.mark.parametrize(
    ("op", "fires_at"),
    [("gt", {3}), ("gte", {2, 3}), ("lt", {1}), ("lte", {1, 2}), ("neq", {1, 3})],
)
def test_operators(op: str, fires_at: set[int]):
    tale = Tale(deny(window("event_count", op=op, threshold=2, attempts=True)))
    assert {n for n in (1, 2, 3) if tale.act() == "deny"} == fires_at


def test_eq_approves_at_one_number_only():
    second = Rule("second", "approve", window=window("event_count", op="eq", threshold=2, attempts=True))
    tale = Tale(second, base=False)
    assert [tale.act() for _ in range(3)] == ["deny", "approve", "deny"]
