"""Windows: both ends included, exact up to a bound, an interval that contains the truth beyond it (DESIGN §5)."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.core import limits, window
from harness_stream.core.window import Count, Entry, Marks, Spec

T = 64_000  # buckets of 1 s
COUNT = Spec("c", "event_count", (0,), (), T, attempts=False)
BOTH = Spec("b", "temporal", (0, 1), (), T, attempts=False)


def seen(spec: Spec, *entries: Entry, state=None, mask: int = 1):
    state = window.empty(spec, None) if state is None else state
    for entry in entries:
        state = window.observe(spec, state, entry, mask)
    return state


def interval(spec: Spec, state, t: int) -> tuple[int, int | None]:
    found = []
    window.evaluate(spec, state, t, lambda lo, hi: found.append((lo, hi)))
    return found[0]


def holds(spec: Spec, state, t: int) -> bool | None:
    return window.evaluate(spec, state, t, lambda lo, hi: lo > 0).holds


class TestEdges:
    def test_exactly_the_timespan_ago_still_counts(self):
        state = seen(COUNT, Entry(1_000, "a"))
        assert interval(COUNT, state, 1_000 + T) == (1, 1)
        assert interval(COUNT, state, 1_001 + T) == (0, 0)

    def test_now_counts(self):
        assert interval(COUNT, seen(COUNT, Entry(1_000, "a")), 1_000) == (1, 1)

    def test_the_same_for_temporal(self):
        state = seen(BOTH, Entry(1_000, "a"), mask=0b11)
        assert holds(BOTH, state, 1_000 + T) is True
        assert holds(BOTH, state, 1_001 + T) is False

    def test_ties_in_time_count_each(self):
        assert interval(COUNT, seen(COUNT, Entry(5, "a"), Entry(5, "b")), 5) == (2, 2)


class TestTemporal:
    def test_every_listed_selection_must_have_matched(self):
        state = seen(BOTH, Entry(1, "a"), mask=0b01)
        assert holds(BOTH, state, 2) is False
        assert holds(BOTH, seen(BOTH, Entry(2, "b"), state=state, mask=0b10), 2) is True

    def test_a_new_match_replaces_an_old_one(self):
        state = seen(BOTH, Entry(1, "a"), Entry(T, "b"), mask=0b11)
        assert window.evaluate(BOTH, state, T + 2, lambda lo, hi: None).evidence == ("b", "b")

    def test_a_firm_match_stays_under_any_number_of_holds(self):
        held = [Entry(2 + n, f"h{n}", until=100) for n in range(3 * limits.EVIDENCE_MAX)]
        state = seen(BOTH, Entry(1, "firm"), *held, mask=0b11)
        assert all(len(old) <= limits.EVIDENCE_MAX for old in state.entries)
        assert holds(BOTH, state, 101) is True

    def test_a_forgotten_hold_may_have_counted(self):
        held = [Entry(2 + n, f"h{n}", until=100) for n in range(3 * limits.EVIDENCE_MAX)]
        state = seen(BOTH, *held, mask=0b11)
        for entry in held:
            if entry.id != held[5].id:
                state = window.forget(state, entry.id)
        assert holds(BOTH, state, 90) is None


class TestHolds:
    def test_a_hold_counts_until_it_expires(self):
        state = seen(COUNT, Entry(1, "h", until=10))
        assert interval(COUNT, state, 10) == (1, 1)
        assert interval(COUNT, state, 11) == (0, 0)

    def test_an_expired_hold_is_an_attempt(self):
        spec = COUNT._replace(attempts=True)
        assert interval(spec, seen(spec, Entry(1, "h", until=10)), 11) == (1, 1)
        spec = BOTH._replace(attempts=True)
        assert holds(spec, seen(spec, Entry(1, "h", until=10), mask=0b11), 11) is True

    @pytest.mark.parametrize("spec", [COUNT, BOTH])
    def test_an_answered_hold_leaves_its_place(self, spec: Spec):
        state = window.forget(seen(spec, Entry(1, "h", until=10), mask=0b11), "h")
        assert state == window.empty(spec, None)
        approved = seen(spec, Entry(5, "h"), state=state, mask=0b11)
        assert window.evaluate(spec, approved, 11, lambda lo, hi: (lo, hi) == (1, 1)).holds is True

    def test_forgetting_what_is_not_there_changes_nothing(self):
        state = seen(COUNT, Entry(1, "a"))
        assert window.forget(state, "b") == state


class TestUnknown:
    def test_what_was_not_seen_has_no_upper_end(self):
        state = window.empty(COUNT, since=1_000)
        assert interval(COUNT, state, 1_000 + T) == (0, None)
        assert interval(COUNT, state, 1_001 + T) == (0, 0)

    def test_a_temporal_window_that_did_not_see_everything_never_says_no(self):
        state = window.empty(BOTH, since=1_000)
        assert holds(BOTH, state, 1_000 + T) is None
        assert holds(BOTH, state, 1_001 + T) is False

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


@pytest.mark.parametrize(
    "state",
    [
        window.empty(COUNT, None),
        window.empty(BOTH, 7),
        Count((Entry(1, "a"), Entry(2, "b", 9)), ((0, 1, 2), (3, 4, 5)), 6, holds=1),
        Marks(((Entry(1, "a"),), (Entry(2, "b", 9), Entry(3, "c"))), None),
    ],
)
def test_a_window_survives_json(state):
    assert window.from_json(orjson.loads(orjson.dumps(window.to_json(state), default=list))) == state


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
