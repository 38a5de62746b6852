"""Windows: both ends included, exact up to a bound, an interval that contains the truth beyond it (DESIGN §5)."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.core import limits, window
from harness_stream.core.window import Entry, Match, Spec

T = 64_000  # buckets of 1 s
ONE = Match(0b1)
BOTH_MATCH = Match(0b11)
COUNT = Spec("c", "event_count", (0,), (), T, attempts=False)
BOTH = Spec("b", "temporal", (0, 1), (), T, attempts=False)


SUM = Spec("s", "value_sum", (0,), (), T, attempts=False, field="measures.rows")
VALUES = Spec("v", "value_count", (0,), (), T, attempts=False, field="resource.uri")
NONE = Spec("n", "absent", (0, 1), (), T, attempts=False)
ORDERED = Spec("o", "temporal_ordered", (0, 1), (), T, attempts=False)


def seen(spec: Spec, *entries: Entry, state=None, match: Match = ONE):
    state = window.empty(spec, None) if state is None else state
    for entry in entries:
        state = window.observe(spec, state, entry, match)
    return state


def interval(spec: Spec, state, t: int) -> tuple[int, int | None]:
    return state.seen(spec, t)[:2]


def holds(spec: Spec, state, t: int) -> bool | None:
    return window.condition_of("gte", 1)(*state.interval(spec, t))


ALL = Match(0b11, values=("x",))
EVERY = [COUNT, SUM, VALUES, BOTH, NONE, ORDERED]
OTHERS = [VALUES, BOTH, NONE, ORDERED]
"""Windows that are no totals."""


def done(spec: Spec, t: int, until: int | None = None):
    """A window in which everything listed happened at t; an ordered one takes two events for that."""
    if spec is ORDERED:
        return seen(spec, Entry(t, "b", until), state=seen(spec, Entry(t, "a", until)), match=Match(0b10))
    return seen(spec, Entry(t, "a", until), match=ALL)


def twice_released(spec: Spec, match: Match, state=None):
    """Three events at 1, 2 and 3, and the newer two never started."""
    state = seen(spec, *(Entry(n, str(n)) for n in (1, 2, 3)), state=state, match=match)
    for n in (3, 2):
        state = window.release(spec, state, Entry(n, str(n)), match)
    return state


class TestEdges:
    """Both ends are inside: what happened exactly T ago, and what happens now."""

    @pytest.mark.parametrize("spec", EVERY, ids=lambda spec: spec.kind)
    def test_exactly_the_timespan_ago_still_counts(self, spec: Spec):
        state = done(spec, 1_000)
        assert [interval(spec, state, t)[0] > 0 for t in (1_000, 1_000 + T, 1_001 + T)] == [True, True, False]

    # Another event there makes a window let go of what has left; it completes no window by itself.
    BESIDE = ((VALUES, Match(1, values=("y",)), 2), (BOTH, Match(0b01), 1), (ORDERED, Match(0b01), 1))

    @pytest.mark.parametrize("until", [None, 1_000 + 2 * T])
    @pytest.mark.parametrize(("spec", "beside", "found"), BESIDE)
    def test_also_when_something_else_happens_then(self, spec: Spec, beside: Match, found: int, until: int | None):
        for later, expected in ((T, found), (T + 1, found - 1)):
            state = seen(spec, Entry(1_000 + later, "c"), state=done(spec, 1_000, until), match=beside)
            assert interval(spec, state, 1_000 + later) == (expected, expected)

    @pytest.mark.parametrize(("spec", "beside", "found"), BESIDE)
    def test_a_hold_counts_at_its_end_also_then(self, spec: Spec, beside: Match, found: int):
        for t, expected in ((1_010, found), (1_011, found - 1)):
            state = seen(spec, Entry(t, "c"), state=done(spec, 1_000, 1_010), match=beside)
            assert interval(spec, state, t) == (expected, expected)

    @pytest.mark.parametrize("spec", EVERY, ids=lambda spec: spec.kind)
    def test_a_hold_leaves_at_whichever_end_comes_first(self, spec: Spec):
        for until in (1_010, 1_000 + 2 * T):
            last = min(until, 1_000 + T)
            state = done(spec, 1_000, until)
            assert [interval(spec, state, t)[0] > 0 for t in (last, last + 1)] == [True, False]

    @pytest.mark.parametrize("spec", EVERY, ids=lambda spec: spec.kind)
    def test_what_was_not_seen_is_unknown_up_to_there(self, spec: Spec):
        state = window.empty(spec, since=1_000)
        assert [interval(spec, state, t) for t in (1_000 + T, 1_001 + T)] == [(0, None), (0, 0)]

    @pytest.mark.parametrize("spec", OTHERS, ids=lambda spec: spec.kind)
    def test_a_hold_that_is_dropped_is_unknown_up_to_there(self, spec: Spec):
        held = [Entry(1_000 + n, f"h{n}", 1_000 + 2 * T) for n in range(limits.WINDOW_HOLDS_MAX + 1)]
        state = seen(spec, *held, match=Match(0b01, values=("x",)))
        if spec in (BOTH, ORDERED):
            state = seen(spec, Entry(1_100, "b"), state=state, match=Match(0b10))
        for entry in held[1:]:
            state = window.forget(state, entry.id)
        assert [holds(spec, state, t) for t in (1_000 + T, 1_001 + T)] == [None, False]

    def test_a_doubt_lasts_up_to_there_also_when_something_else_happens_then(self):
        state = twice_released(VALUES, ALL)
        for t, doubts in ((1 + T, 1), (2 + T, 0)):
            after = seen(VALUES, Entry(t, "c"), state=state, match=Match(1, values=("y",)))
            assert interval(VALUES, after, t) == (1, 1 + doubts)

    def test_values_of_one_time_leave_one_by_one(self):
        state = window.empty(VALUES, None)
        for n in range(limits.WINDOW_VALUES_MAX + 1):
            state = seen(VALUES, Entry(1_000, str(n)), state=state, match=Match(1, values=(f"u{n}",)))
        assert interval(VALUES, state, 1_000 + T) == (limits.WINDOW_VALUES_MAX, None)
        assert interval(VALUES, state, 1_001 + T) == (0, 0)

    def test_ties_in_time_count_each(self):
        assert interval(COUNT, seen(COUNT, Entry(5, "a"), Entry(5, "b")), 5) == (2, 2)

    @pytest.mark.parametrize("spec", [VALUES, BOTH, NONE])
    @pytest.mark.parametrize("name", ["a", "b"])
    def test_of_a_tie_either_may_be_released(self, spec: Spec, name: str):
        state = seen(spec, Entry(5, "a"), Entry(5, "b"), match=ALL)
        gone = window.release(spec, state, Entry(5, name), ALL)
        assert [interval(spec, gone, t) for t in (5 + T, 6 + T)] == [(1, 1), (0, 0)]

    @pytest.mark.parametrize("spec", [VALUES, BOTH, NONE])
    def test_an_event_may_be_put_in_at_the_time_of_another(self, spec: Spec):
        state = window.insert(spec, seen(spec, Entry(5, "a"), match=ALL), Entry(5, "b"), ALL)
        gone = window.release(spec, state, Entry(5, "a"), ALL)
        assert interval(spec, gone, 5 + T) == (1, 1)


class TestTemporal:
    def test_every_listed_selection_must_have_matched(self):
        state = seen(BOTH, Entry(1, "a"), match=Match(0b01))
        assert holds(BOTH, state, 2) is False
        assert holds(BOTH, seen(BOTH, Entry(2, "b"), state=state, match=Match(0b10)), 2) is True

    def test_a_new_match_replaces_an_old_one(self):
        state = seen(BOTH, Entry(1, "a"), Entry(T, "b"), match=BOTH_MATCH)
        assert state.seen(BOTH, T + 2).evidence == ("b", "b")

    def test_a_firm_match_stays_under_any_number_of_holds(self):
        held = [Entry(2, f"h{n}", until=100) for n in range(3 * limits.WINDOW_HOLDS_MAX)]
        state = seen(BOTH, Entry(1, "firm"), *held, match=BOTH_MATCH)
        assert len(state.pending) == limits.WINDOW_HOLDS_MAX
        assert holds(BOTH, state, 101) is True


class TestHolds:
    def test_a_hold_counts_until_it_expires(self):
        state = seen(COUNT, Entry(1, "h", until=10))
        assert interval(COUNT, state, 10) == (1, 1)
        assert interval(COUNT, state, 11) == (0, 0)

    def test_an_expired_hold_is_an_attempt(self):
        spec = COUNT._replace(attempts=True)
        assert interval(spec, seen(spec, Entry(1, "h", until=10)), 11) == (1, 1)
        spec = BOTH._replace(attempts=True)
        assert holds(spec, seen(spec, Entry(1, "h", until=10), match=BOTH_MATCH), 11) is True

    @pytest.mark.parametrize("spec", [COUNT, BOTH, SUM, NONE])
    def test_an_answered_hold_leaves_its_place(self, spec: Spec):
        state = window.forget(seen(spec, Entry(1, "h", until=10), match=BOTH_MATCH), "h")
        assert state == window.empty(spec, None)
        approved = seen(spec, Entry(5, "h"), state=state, match=BOTH_MATCH)
        assert interval(spec, approved, 11) == (1, 1)

    def test_forgetting_what_is_not_there_changes_nothing(self):
        state = seen(COUNT, Entry(1, "a"))
        assert window.forget(state, "b") == state


class TestManyHolds:
    """Windows other than totals keep so many open holds of a group one by one."""

    def held(self, spec: Spec, count: int):
        entries = [Entry(n, f"h{n}", 10_000) for n in range(count)]
        state = seen(spec, *entries, match=Match(0b01, values=("x",)))
        second = Match(0b10, values=("x",)) if spec in (BOTH, ORDERED) else None
        return entries, seen(spec, Entry(500, "b"), state=state, match=second) if second else state

    @pytest.mark.parametrize("spec", OTHERS, ids=lambda spec: spec.kind)
    def test_any_of_them_may_be_the_one_that_is_approved(self, spec: Spec):
        entries, state = self.held(spec, limits.WINDOW_HOLDS_MAX)
        for entry in entries[1:]:
            state = window.forget(state, entry.id)
        assert interval(spec, state, 501) == (1, 1)
        assert interval(spec, window.forget(state, "h0"), 501) == (0, 0)

    def test_one_more_leaves_only_its_own_values_in_doubt(self):
        state = window.empty(VALUES, None)
        for n in range(limits.WINDOW_HOLDS_MAX + 1):
            state = seen(VALUES, Entry(n, f"h{n}", 10_000), state=state, match=Match(1, values=(f"u{n}",)))
        assert interval(VALUES, state, 100) == (limits.WINDOW_HOLDS_MAX, limits.WINDOW_HOLDS_MAX + 1)

    def test_one_that_nobody_answered_is_an_attempt_and_waits_no_more(self):
        spec, state, count = VALUES._replace(attempts=True), window.empty(VALUES, None), 3 * limits.WINDOW_HOLDS_MAX
        for n in range(count):
            match = Match(1, values=(f"u{n}",))
            state = seen(spec, Entry(100 * n, f"h{n}", 100 * n + 50), state=state, match=match)
        assert interval(spec, state, 100 * count) == (count, count)
        assert interval(spec, state, 100 + T) == (count - 1, count - 1)

    def test_so_it_takes_no_place_among_the_runs(self):
        spec = ORDERED._replace(attempts=True)
        state = seen(spec, *(Entry(100 * n, f"h{n}", 100 * n + 50) for n in range(3 * limits.WINDOW_RUNS_MAX)))
        assert interval(spec, state, 100 * 3 * limits.WINDOW_RUNS_MAX) == (0, 0)

    def test_a_full_group_is_as_small_as_its_limits_say(self):
        """See `WINDOW_FIRM_KEPT`, `WINDOW_HOLDS_MAX` and `WINDOW_RUNS_MAX`."""
        now = 1_800_000_000_000
        uuid, until = "018f0000-0000-7000-8000-{:012d}".format, now + 900_000
        values = window.empty(VALUES, None)
        for n in range(2 * limits.WINDOW_VALUES_MAX):
            match = Match(1, values=(f"{n % limits.WINDOW_VALUES_MAX:064d}",))
            values = seen(VALUES, Entry(now, uuid(n)), state=values, match=match)
        firm = len(orjson.dumps(window.to_json(values), default=list))
        for n in range(limits.WINDOW_HOLDS_MAX):
            match = Match(1, values=tuple(f"{n * 32 + i:064d}" for i in range(limits.RESOURCES_MAX)))
            values = seen(VALUES, Entry(now, uuid(n), until), state=values, match=match)
        held = len(orjson.dumps(window.to_json(values), default=list)) - firm
        assert (firm <= 200_000, held <= 145_000) == (True, True)

        four = ORDERED._replace(bits=(0, 1, 2, 3))
        state = window.empty(four, None)
        for n in range(1_000):
            state = seen(four, Entry(now, uuid(n), until), state=state, match=Match(1 << n % 4))
        assert [len(runs) for runs in state.prefixes] == [limits.WINDOW_RUNS_MAX] * 4
        assert len(orjson.dumps(window.to_json(state), default=list)) <= 46_000


class TestUnknown:
    @pytest.mark.parametrize(
        ("op", "answers"),
        [
            ("gt", (False, None, None, True)),
            ("gte", (None, None, True, True)),
            ("lt", (None, None, False, False)),
            ("lte", (True, None, None, False)),
            ("eq", (None, None, None, False)),
            ("neq", (None, None, None, True)),
        ],
    )
    def test_a_condition_holds_only_if_it_does_at_both_ends(self, op: str, answers: tuple):
        condition = window.condition_of(op, 5)
        assert tuple(condition(lo, hi) for lo, hi in ((4, 5), (4, 6), (5, 6), (6, 7))) == answers

    @given(
        st.sampled_from(["gt", "gte", "lt", "lte", "eq", "neq"]),
        st.integers(0, 9),
        st.integers(0, 9),
        st.integers(0, 5),
    )
    def test_and_then_it_does_for_everything_between(self, op: str, threshold: int, lo: int, width: int):
        answer = window.condition_of(op, threshold)(lo, lo + width)
        exact = {window.condition_of(op, threshold)(n, n) for n in range(lo, lo + width + 1)}
        assert answer in exact if len(exact) == 1 else answer is None

    def test_without_an_upper_end_only_what_more_cannot_undo_is_known(self):
        assert window.condition_of("gt", 5)(6, None) is True
        assert window.condition_of("gt", 5)(5, None) is None
        assert window.condition_of("lt", 5)(4, None) is None
        assert window.condition_of("eq", 5)(6, None) is False


class TestBuckets:
    def test_the_newest_512_are_exact(self):
        state = seen(COUNT, *(Entry(n, str(n)) for n in range(limits.WINDOW_EXACT_MAX)))
        assert interval(COUNT, state, T) == (512, 512)

    def test_whole_buckets_are_exact_and_a_split_one_widens(self):
        state = seen(COUNT, *(Entry(100 * n, str(n)) for n in range(600)))  # 10 a second, from 0 to 59,900
        assert interval(COUNT, state, 59_900) == (600, 600)
        assert interval(COUNT, state, T + 1_000) == (590, 590)
        lo, hi = interval(COUNT, state, T + 1_500)
        assert (lo, hi) == (580, 590)  # the truth is 585

    def test_there_are_never_more_than_a_bucket_a_64th(self):
        state = seen(COUNT, *(Entry(500 * n, str(n)) for n in range(2_000)))
        assert len(state.buckets) <= limits.WINDOW_BUCKETS + 1
        assert len(state.entries) <= limits.WINDOW_EXACT_MAX

    @settings(max_examples=25, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0, 0, 1, 10, 90, 1_000]),
                st.sampled_from(["firm", "firm", "hold", "settle", "deny"]),
            ),
            min_size=3,
            max_size=12,
        ),
        st.booleans(),
        st.integers(0, T),
    )
    def test_the_interval_contains_the_truth(self, phases, attempts: bool, later: int):
        """Runs of 120 events each; holds last 5 s, and some are approved or denied long after."""
        spec = COUNT._replace(attempts=attempts)
        state, truth, t, open_holds = window.empty(spec, None), {}, 0, []
        for phase, (gap, kind) in enumerate(phases):
            for n in range(120):
                t += gap
                name = f"{phase}-{n}"
                if kind in {"settle", "deny"} and open_holds:
                    name = open_holds.pop(0)
                    state = window.forget(state, name)
                    del truth[name]
                if kind == "deny" and not attempts:
                    continue
                entry = Entry(t, name, t + 5_000 if kind == "hold" else None)
                open_holds += [name] if kind == "hold" else []
                state = seen(spec, entry, state=state)
                truth[name] = entry
        t += later
        exact = sum(t - T <= e.t and (attempts or e.counts_at(t)) for e in truth.values())
        lo, hi = interval(spec, state, t)
        assert hi is not None
        assert lo <= exact <= hi


class TestSums:
    def test_amounts_are_added(self):
        state = seen(SUM, Entry(1, "a"), match=Match(1, amount=5))
        assert interval(SUM, seen(SUM, Entry(2, "b"), state=state, match=Match(1, amount=7)), 2) == (12, 12)

    def test_a_threshold_is_exact_in_the_measures_unit(self):
        tenth = window.condition_of("gt", 0.1, limits.MEASURE_SCALE)
        assert (tenth(100_000, 100_000), tenth(100_001, 100_001)) == (False, True)

    def test_an_event_without_the_measure_makes_it_unknown_while_it_is_inside(self):
        state = seen(SUM, Entry(1, "a"), match=Match(1, amount=None))
        assert interval(SUM, state, 1 + T) == (0, None)
        assert interval(SUM, state, 2 + T) == (0, 0)

    def test_until_an_outcome_tells(self):
        state = seen(SUM, Entry(1, "a"), match=Match(1, amount=None))
        state = window.release(SUM, state, Entry(1, "a"), Match(1, amount=None))
        assert interval(SUM, window.insert(SUM, state, Entry(1, "a"), Match(1, amount=3)), 2) == (3, 3)


class TestValues:
    def uris(self, *names: str) -> Match:
        return Match(1, values=names)

    def test_each_value_counts_once(self):
        state = seen(VALUES, Entry(1, "a"), match=self.uris("x", "y"))
        assert interval(VALUES, seen(VALUES, Entry(2, "b"), state=state, match=self.uris("x")), 2) == (2, 2)

    def test_a_value_stays_as_long_as_its_newest_event(self):
        state = seen(VALUES, Entry(1, "a"), Entry(1_000, "b"), match=self.uris("x"))
        assert interval(VALUES, state, 1_000 + T) == (1, 1)
        assert interval(VALUES, state, 1_001 + T) == (0, 0)

    def test_a_held_value_counts_until_it_expires(self):
        state = seen(VALUES, Entry(1, "a", until=10), match=self.uris("x"))
        assert [interval(VALUES, state, t) for t in (10, 11)] == [(1, 1), (0, 0)]

    def test_an_event_without_the_field_may_be_one_more(self):
        state = seen(VALUES, Entry(1, "a"), state=seen(VALUES, Entry(1, "b"), match=self.uris("x")), match=Match(1))
        assert [interval(VALUES, state, t) for t in (1 + T, 2 + T)] == [(1, 2), (0, 0)]

    def test_until_it_never_started_or_an_outcome_tells(self):
        gone = window.release(VALUES, seen(VALUES, Entry(1, "a"), match=Match(1)), Entry(1, "a"), Match(1))
        assert interval(VALUES, gone, 2) == (0, 0)
        assert interval(VALUES, window.insert(VALUES, gone, Entry(1, "a"), self.uris("x")), 2) == (1, 1)

    def test_a_hold_without_it_may_be_one_more_while_it_counts(self):
        state = seen(VALUES, Entry(1, "a", until=10), match=Match(1))
        assert [interval(VALUES, state, t) for t in (10, 11)] == [(0, 1), (0, 0)]
        assert interval(VALUES, window.forget(state, "a"), 2) == (0, 0)

    def test_beyond_the_limit_there_are_at_least_so_many(self):
        state = window.empty(VALUES, None)
        for n in range(limits.WINDOW_VALUES_MAX + 5):
            state = seen(VALUES, Entry(n, str(n)), state=state, match=self.uris(f"u{n}"))
        assert interval(VALUES, state, 2_000) == (limits.WINDOW_VALUES_MAX, None)
        assert interval(VALUES, state, T + 5) == (limits.WINDOW_VALUES_MAX, limits.WINDOW_VALUES_MAX)

    def test_long_values_are_told_apart_by_their_digest(self):
        long = "crm://" + "x" * 2_000
        assert window.value_of("crm://a") == "crm://a"
        assert window.value_of(long) != window.value_of(long + "y")
        assert len(window.value_of(long)) == 64


class TestOrdered:
    def test_one_event_is_one_step(self):
        assert holds(ORDERED, seen(ORDERED, Entry(1, "a"), match=BOTH_MATCH), 1) is False
        assert holds(ORDERED, seen(ORDERED, Entry(1, "a"), Entry(1, "b"), match=BOTH_MATCH), 1) is True

    def test_order_matters(self):
        state = seen(ORDERED, Entry(1, "b"), match=Match(0b10))
        state = seen(ORDERED, Entry(2, "a"), state=state, match=Match(0b01))
        assert holds(ORDERED, state, 2) is False
        state = seen(ORDERED, Entry(3, "c"), state=state, match=Match(0b10))
        assert state.seen(ORDERED, 3).evidence == ("a", "c")

    def test_the_run_ends_with_its_first_event(self):
        state = seen(ORDERED, Entry(1, "a"), match=Match(0b01))
        state = seen(ORDERED, Entry(1_000, "b"), state=state, match=Match(0b10))
        assert [holds(ORDERED, state, t) for t in (1 + T, 2 + T)] == [True, False]

    def test_a_run_over_a_hold_does_not_replace_a_firm_one(self):
        state = seen(ORDERED, Entry(1, "firm"), match=Match(0b01))
        state = seen(ORDERED, Entry(2, "held", until=9), state=state, match=Match(0b01))
        state = seen(ORDERED, Entry(3, "b"), state=state, match=Match(0b10))
        assert holds(ORDERED, state, 10) is True
        assert holds(ORDERED, window.forget(state, "held"), 3) is True


class TestAbsent:
    def test_nothing_may_have_matched(self):
        nothing = window.condition_of("eq", 0)
        assert nothing(*window.empty(NONE, None).interval(NONE, 5)) is True
        assert nothing(*window.empty(NONE, since=5).interval(NONE, 5)) is None
        state = seen(NONE, Entry(5, "a"), match=Match(0b10))
        assert [nothing(*state.interval(NONE, t)) for t in (5 + T, 6 + T)] == [False, True]


class TestReleased:
    """An approved event that never started counts nowhere; small states may not know what stood under it."""

    @pytest.mark.parametrize("spec", [COUNT, SUM])
    def test_totals_are_exact(self, spec: Spec):
        state = seen(spec, Entry(1, "a"), Entry(2, "b"))
        assert interval(spec, window.release(spec, state, Entry(1, "a"), ONE), 2) == (1, 1)

    @pytest.mark.parametrize("spec", [COUNT, SUM])
    def test_also_in_a_bucket(self, spec: Spec):
        state = seen(spec, *(Entry(n, str(n)) for n in range(600)))
        assert interval(spec, window.release(spec, state, Entry(3, "3"), ONE), 600) == (599, 599)

    @pytest.mark.parametrize("spec", [VALUES, BOTH, NONE, ORDERED])
    def test_what_stood_for_no_other_leaves_nothing(self, spec: Spec):
        state = done(spec, 5)
        gone = window.release(spec, state, Entry(5, "a"), ALL)
        assert interval(spec, gone, 6) == (0, 0)

    @pytest.mark.parametrize("spec", [VALUES, BOTH, NONE])
    def test_under_the_newest_one_stands_the_one_before(self, spec: Spec):
        state = seen(spec, Entry(1, "1"), Entry(2, "2"), Entry(3, "3"), match=ALL)
        gone = window.release(spec, state, Entry(3, "3"), ALL)
        assert gone.seen(spec, 2 + T)[:3] == (1, 1, ("2",) * len(gone.seen(spec, 4).evidence))
        assert interval(spec, gone, 3 + T) == (0, 0)

    @pytest.mark.parametrize("spec", [VALUES, BOTH, NONE])
    def test_one_that_is_not_the_newest_changes_nothing(self, spec: Spec):
        state = seen(spec, *(Entry(n, str(n)) for n in range(1, 5)), match=ALL)
        gone = state
        for n in (1, 2, 3):
            gone = window.release(spec, gone, Entry(n, str(n)), ALL)
        assert [interval(spec, gone, t) for t in (5, 4 + T, 5 + T)] == [(1, 1), (1, 1), (0, 0)]

    @pytest.mark.parametrize("spec", [BOTH, NONE])
    def test_after_two_a_third_one_may_be_there_as_long_as_it_could(self, spec: Spec):
        state = twice_released(spec, ALL)
        assert [holds(spec, state, t) for t in (4, 1 + T, 2 + T)] == [None, None, False]

    def test_a_selection_that_never_matched_is_still_known_not_to(self):
        assert holds(BOTH, twice_released(BOTH, Match(0b01)), 4) is False

    def test_each_value_in_doubt_is_at_most_one_more(self):
        state = seen(VALUES, Entry(1, "y"), match=Match(1, values=("y",)))
        state = twice_released(VALUES, Match(1, values=("x", "z")), state)
        assert [interval(VALUES, state, t) for t in (4, 1 + T, 2 + T)] == [(1, 3), (1, 3), (0, 0)]
        state = seen(VALUES, Entry(5, "n"), state=state, match=Match(1, values=("x",)))
        assert interval(VALUES, state, 5) == (2, 3)

    def test_beyond_so_many_doubts_there_is_no_upper_end(self):
        names = tuple(f"u{n}" for n in range(limits.WINDOW_DOUBTS_MAX + 1))
        state = twice_released(VALUES, Match(1, values=names[:-1]))
        assert interval(VALUES, state, 4) == (0, limits.WINDOW_DOUBTS_MAX)
        assert interval(VALUES, twice_released(VALUES, Match(1, values=names)), 1 + T) == (0, None)
        assert interval(VALUES, twice_released(VALUES, Match(1, values=names)), 2 + T) == (0, 0)

    def test_a_run_may_have_stood_for_one_that_began_earlier(self):
        state = seen(ORDERED, Entry(1, "1"), Entry(3, "3"), match=Match(0b01))
        state = seen(ORDERED, Entry(4, "b"), state=state, match=Match(0b10))
        gone = window.release(ORDERED, state, Entry(3, "3"), Match(0b01))
        assert [holds(ORDERED, gone, t) for t in (5, 1 + T, 2 + T)] == [None, None, False]

    def test_one_step_less_is_no_run(self):
        state = seen(ORDERED, Entry(1, "1"), Entry(3, "3"), match=Match(0b01))
        state = seen(ORDERED, Entry(4, "b"), state=state, match=Match(0b10))
        assert holds(ORDERED, window.release(ORDERED, state, Entry(4, "b"), Match(0b10)), 5) is False

    def test_what_may_never_have_been_counted_only_may_leave(self):
        state = window.empty(COUNT, since=1_000)
        state = seen(COUNT, *(Entry(1_001, f"n{n}") for n in range(1_100)), state=state)
        for n in range(60):
            state = window.release(COUNT, state, Entry(1_000, f"o{n}"), ONE)
        lo, hi = interval(COUNT, state, 1_001 + T)
        assert lo <= 1_100 <= hi


class TestInserted:
    """An outcome may show that an event belongs to a window it was not seen by."""

    @pytest.mark.parametrize("spec", [COUNT, SUM, VALUES, BOTH])
    def test_it_counts_from_its_own_time(self, spec: Spec):
        match = Match(0b11, values=("x",))
        state = window.insert(spec, seen(spec, Entry(5, "b"), match=match), Entry(1, "a"), match)
        assert interval(spec, state, 1 + T) == ((2, 2) if spec in (COUNT, SUM) else (1, 1))
        assert interval(spec, state, 6 + T) == (0, 0)

    def test_a_total_takes_it_into_the_bucket_of_its_time(self):
        state = seen(COUNT, *(Entry(1_000 + n, str(n)) for n in range(600)))
        state = window.insert(COUNT, state, Entry(1, "late"), ONE)
        assert interval(COUNT, state, 2_000) == (601, 601)

    def test_without_its_amount_the_bucket_is_unknown(self):
        state = seen(SUM, *(Entry(1_000 + n, str(n)) for n in range(600)))
        state = window.insert(SUM, state, Entry(1_005, "late"), Match(1, amount=None))
        assert interval(SUM, state, 2_000)[1] is None

    def test_an_order_that_is_not_known_is_unknown(self):
        state = window.insert(ORDERED, seen(ORDERED, Entry(5, "b"), match=Match(0b10)), Entry(1, "a"), Match(0b01))
        assert holds(ORDERED, state, 6) is None


EXAMPLES = [Match(0b01, values=("x",)), Match(0b10, values=("y", "x")), Match(0b11, values=("z",), amount=7)]


def example(spec: Spec, state, n: int):
    """The nth event of a history with holds, and some that never started."""
    match, entry = EXAMPLES[n % 3], Entry(n, str(n), n + 50 if n % 7 == 3 else None)
    state = window.observe(spec, state, entry, match)
    return window.release(spec, state, entry, match) if n % 5 == 0 and entry.until is None else state


@pytest.mark.parametrize("attempts", [False, True])
@pytest.mark.parametrize("spec", [COUNT, SUM, VALUES, BOTH, NONE, ORDERED])
def test_a_window_that_was_written_and_read_goes_on_as_if_it_had_not_been(spec: Spec, attempts: bool):
    spec = spec._replace(attempts=attempts, timespan_ms=400)
    state = read = window.empty(spec, 7)
    for n in range(700):
        state, read = example(spec, state, n), example(spec, read, n)
        assert state.seen(spec, n) == read.seen(spec, n)
        written = orjson.dumps(window.to_json(state), default=list)
        assert written == orjson.dumps(window.to_json(read), default=list)
        if n % 100 == 0 or n > 690:
            read = window.from_json(orjson.loads(written))


def test_a_window_is_named_by_what_it_counts():
    base = ("event_count", ["true"], ["agent_id"], 5, False)
    others = [
        ("temporal", ["true"], ["agent_id"], 5, False),
        ("event_count", ["false"], ["agent_id"], 5, False),
        ("event_count", ["true"], [], 5, False),
        ("event_count", ["true"], ["agent_id"], 6, False),
        ("event_count", ["true"], ["agent_id"], 5, True),
    ]
    assert len({window.window_id(*each) for each in (base, *others)}) == 6


class TestWhatLeftATotal:
    """Buckets hold what was too much to keep one by one, and never what merely left."""

    SPEC = window.Spec("w", "event_count", (0,), ("agent_id",), 64_000, attempts=False)
    MATCH = window.Match(mask=1)

    def filled(self, count: int) -> window.WindowState:
        state = window.empty(self.SPEC, None)
        for n in range(count):
            state = window.observe(self.SPEC, state, window.Entry(n, f"e{n}"), self.MATCH)
        return state

    def test_one_that_comes_late_beside_buckets_alone_goes_into_them(self):
        state = self.filled(limits.WINDOW_EXACT_MAX + 88)
        for n in range(88, limits.WINDOW_EXACT_MAX + 88):
            state = window.release(self.SPEC, state, window.Entry(n, f"e{n}"), self.MATCH)
        state = window.insert(self.SPEC, state, window.Entry(3, "late"), self.MATCH)
        seen = state.seen(self.SPEC, 64_000 + 4)
        assert seen.lo <= 84 <= seen.hi

    def test_one_that_left_by_its_age_takes_nothing_from_a_bucket(self):
        """Others of its second, which came after it, have been put there since."""
        state = window.empty(self.SPEC, None)
        times = [1_000, *[1_500] * 300, 65_001, *[65_100] * 300]
        for n, t in enumerate(times):
            state = window.observe(self.SPEC, state, window.Entry(t, f"e{n}"), self.MATCH)
        state = window.release(self.SPEC, state, window.Entry(1_000, "e0"), self.MATCH)
        seen = state.seen(self.SPEC, 65_100)
        assert seen.lo <= len(times) - 1 <= seen.hi
        assert window.from_json(window.to_json(state)) == state


def test_what_left_stays_away_when_a_release_uncovers_it_also_after_it_was_stored():
    """The two newest events of a value are kept: without the newer one the older stands there, unless it has left."""
    spec = window.Spec("w", "value_count", (0,), ("agent_id",), 1_000, attempts=False, field="action")
    states = [window.empty(spec, None)] * 2
    for at, name in ((313, "a"), (931, "a"), (1_612, "b")):
        match = window.Match(1, values=(name,))
        states = [window.observe(spec, state, window.Entry(at, f"e{at}"), match) for state in states]
    states[1] = window.from_json(window.to_json(states[1]))
    gone = window.Match(1, values=("a",))
    states = [window.release(spec, state, window.Entry(931, "e931"), gone) for state in states]
    assert window.to_json(states[0]) == window.to_json(states[1])
