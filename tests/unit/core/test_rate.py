"""Admission per lane: never more than burst + rate * time of one lane, and no lane pays for another."""

from __future__ import annotations

import factories as make
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.rate import LaneRates, Rate
from harness_stream.core.reasons import Deny, Reject

NOW = make.NOW

ASKED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 400)), max_size=200)


def taken(rates: LaneRates, asked: list[tuple[int, int]]) -> list[tuple[int, int, bool]]:
    t, answers = NOW, []
    for lane, gap_ms in asked:
        t += gap_ms
        answers.append((lane, t, rates.take(f"lane-{lane}", t)))
    return answers


@given(asked=ASKED, per_s=st.sampled_from((1, 2, 4, 10)), burst=st.integers(1, 20))
def test_a_lane_gets_what_a_bucket_filled_by_the_clock_would_give(
    asked: list[tuple[int, int]], per_s: int, burst: int
) -> None:
    tokens: dict[int, tuple[int, float]] = {}
    for lane, t, was_taken in taken(LaneRates(Rate(per_s, burst)), asked):
        at, left = tokens.get(lane, (t, float(burst)))
        left = min(float(burst), left + (t - at) * per_s / 1_000)
        assert was_taken == (left > 1 - 1e-6)
        tokens[lane] = (t, left - was_taken)


def test_a_burst_then_the_rate() -> None:
    rates = LaneRates(Rate(per_s=10, burst=3))
    assert [rates.take("a", NOW) for _ in range(4)] == [True, True, True, False]
    assert [rates.take("a", NOW + ms) for ms in (99, 100, 100)] == [False, True, False]


def test_a_lane_at_rest_is_forgotten_and_another_one_pays_nothing() -> None:
    rates = LaneRates(Rate(per_s=1, burst=1))
    assert all(rates.take(f"lane-{n}", NOW) for n in range(100))
    assert len(rates) == 100
    assert all(rates.take("busy", NOW + 1_000 * (n + 1)) for n in range(101))
    assert len(rates) == 1


def test_asking_beyond_the_bound_does_not_push_the_bound_away() -> None:
    rates = LaneRates(Rate(per_s=1, burst=1))
    assert rates.take("a", NOW)
    assert not any(rates.take("a", NOW + ms) for ms in range(1_000))
    assert rates.take("a", NOW + 1_000)


def story(per_s: int = 1, burst: int = 1) -> make.Story:
    return make.Story(rates=LaneRates(Rate(per_s, burst)))


def test_beyond_its_rate_an_intent_is_denied_unread_and_uncounted_and_the_answer_says_who_and_how_much() -> None:
    told = story()
    assert told.take(make.intent())["decision"] == "approve"
    answer = told.take(make.intent(intent_id=make.uuid7(n=2)))
    assert answer["reasons"] == [{"code": "rate", "detail": "lane tenant-1: more than 1 intents/s (at once 1)"}]
    assert (answer["decision"], answer["event"], answer["inputs"]["tables"]) == ("deny", None, {})


def test_what_comes_too_late_or_twice_takes_no_room_and_what_was_denied_for_its_rate_is_remembered() -> None:
    told = story(burst=2)
    late = make.intent(intent_id=make.uuid7(n=2), deadline_ms=100)
    assert told.take(late, at=NOW + 101)["reasons"][0]["code"] == Deny.LATE
    for _ in range(3):
        told.take(late)
    assert [told.take(make.intent(intent_id=make.uuid7(n=n)))["decision"] for n in (3, 4, 5)] == ["approve", "approve", "deny"]
    assert told.take(make.intent(intent_id=make.uuid7(n=5)))["reason"] == Reject.DUPLICATE


def test_nobody_empties_the_bucket_of_a_lane_he_may_not_speak_for() -> None:
    told = story()
    strangers = ({"by": "approver"}, {"agent_id": "tenant-1", "by": "tenant-1"}, {"by": "nobody"})
    for n, over in enumerate(strangers, start=10):
        assert told.take(make.intent(intent_id=make.uuid7(n=n), **over))["decision"] == "deny"
    assert told.take(make.intent())["decision"] == "approve"


def test_an_append_time_that_was_ahead_stops_no_bucket() -> None:
    """Chain time stands still until the others have caught up; a lane that asks as before is admitted as before."""
    rates = LaneRates(Rate(per_s=10, burst=2))
    times = [*range(NOW, NOW + 1_000, 200), *range(NOW + 5_900, NOW + 6_500, 200), *range(NOW + 1_600, NOW + 5_000, 200)]
    assert all(rates.take("a", append_ms) for append_ms in times)
