"""What has waited for half of its deadline is denied, once a partition has been behind for long."""

from __future__ import annotations

import random

import factories as make
import pytest

from harness_stream.core.audit.recorded import recorded_intake
from harness_stream.core.backlog import LASTING_MS, Backlog
from harness_stream.core.reasons import Deny
from harness_stream.core.state import State

NOW, DEADLINE_MS, HALF_MS = make.NOW, 5_000, 2_500
STEP_MS = 100


def told(backlog: Backlog, waited_ms: int, from_ms: int, to_ms: int) -> list[bool]:
    """An intent every STEP_MS, each as old."""
    return [backlog.too_long(waited_ms, DEADLINE_MS, NOW + at) for at in range(from_ms, to_ms, STEP_MS)]


def behind() -> Backlog:
    backlog = Backlog()
    told(backlog, HALF_MS + 1, 0, LASTING_MS + STEP_MS)
    assert backlog.shedding
    return backlog


def test_half_of_the_deadline_is_too_long_only_after_a_lasting_backlog() -> None:
    backlog = Backlog()
    assert not any(told(backlog, HALF_MS + 1, 0, LASTING_MS))
    assert all(told(backlog, HALF_MS + 1, LASTING_MS, 2 * LASTING_MS))
    assert not any(told(Backlog(), HALF_MS, 0, 3 * LASTING_MS))


def test_one_that_came_soon_enough_begins_the_count_anew() -> None:
    backlog = Backlog()
    assert not any(told(backlog, HALF_MS + 1, 0, LASTING_MS))
    assert not backlog.too_long(HALF_MS, DEADLINE_MS, NOW + LASTING_MS)
    assert not any(told(backlog, HALF_MS + 1, LASTING_MS, 2 * LASTING_MS))


def test_while_behind_younger_ones_are_judged_and_the_older_ones_still_denied() -> None:
    backlog, start = behind(), LASTING_MS + STEP_MS
    for at in range(start, start + 10 * LASTING_MS, 2 * STEP_MS):
        assert not backlog.too_long(HALF_MS, DEADLINE_MS, NOW + at)
        assert backlog.too_long(HALF_MS + 1, DEADLINE_MS, NOW + at + STEP_MS)


@pytest.mark.parametrize("gap_ms", [LASTING_MS, -1])
def test_a_silence_or_a_clock_set_back_ends_it(gap_ms: int) -> None:
    assert not behind().too_long(HALF_MS + 1, DEADLINE_MS, NOW + LASTING_MS + gap_ms)
    assert behind().too_long(HALF_MS + 1, DEADLINE_MS, NOW + LASTING_MS + max(gap_ms - 1, 0))


def test_one_that_can_wait_long_does_not_hide_that_the_partition_is_behind() -> None:
    backlog = Backlog()
    for at in range(0, LASTING_MS, STEP_MS):
        assert not backlog.too_long(HALF_MS + 1, 60_000, NOW + at)
    assert backlog.too_long(HALF_MS + 1, DEADLINE_MS, NOW + LASTING_MS)


def test_each_intent_is_held_against_its_own_deadline_and_none_against_more_than_the_usual() -> None:
    """Who says that it can wait for a minute would else make all behind it wait for half of that."""
    backlog, at = behind(), NOW + LASTING_MS
    assert backlog.too_long(501, 1_000, at)
    assert not backlog.too_long(500, 1_000, at)
    assert backlog.too_long(HALF_MS + 1, 12 * DEADLINE_MS, at)
    assert not backlog.too_long(HALF_MS, 12 * DEADLINE_MS, at)


def test_it_is_over_once_all_came_soon_enough_for_as_long() -> None:
    backlog, start = behind(), LASTING_MS + STEP_MS
    told(backlog, 0, start, start + LASTING_MS + STEP_MS)
    assert not backlog.shedding
    assert not backlog.too_long(HALF_MS + 1, DEADLINE_MS, NOW + start + LASTING_MS + STEP_MS)


def test_a_denial_says_how_old_it_was_and_is_neither_read_nor_counted() -> None:
    story = make.Story(backlog=behind())
    at = NOW + LASTING_MS
    intent = make.intent(intent_id=make.uuid7(at, 2), deadline_ms=DEADLINE_MS)
    answer = story.take(intent, at - HALF_MS - 1, at=at)
    assert answer["reasons"] == [{"code": Deny.OVERLOAD, "detail": "2501 ms after append, deadline 5000 ms"}]
    assert (answer["decision"], answer["event"], answer["inputs"]["tables"]) == ("deny", None, {})


JUDGE_MS, DENY_MS = 10, 1  # a denial is far cheaper, which is what makes this work


@pytest.mark.parametrize("seed", range(5))
def test_at_three_times_the_capacity_all_are_answered_in_time_and_as_soon_as_it_is_over_all_are_judged(
    seed: int,
) -> None:
    draw, now_ms, backlog = random.Random(seed), 0.0, Backlog()
    overload_ms, end_ms = 60_000, 75_000
    asked = sorted(draw.uniform(0, overload_ms) for _ in range(3 * overload_ms // JUDGE_MS))
    asked += sorted(draw.uniform(overload_ms, end_ms) for _ in range((end_ms - overload_ms) // (2 * JUDGE_MS)))
    judged, ages = [], []
    for append_ms in asked:
        now_ms = max(now_ms, append_ms)
        denied = now_ms - append_ms > DEADLINE_MS or backlog.too_long(
            int(now_ms - append_ms), DEADLINE_MS, NOW + int(now_ms)
        )
        now_ms += DENY_MS if denied else JUDGE_MS
        ages.append(now_ms - append_ms)
        judged.append(not denied)
    assert max(ages) < DEADLINE_MS
    assert 0.2 < sum(judged) / len(judged) < 0.4
    recovered = next(n for n, append_ms in enumerate(asked) if append_ms > overload_ms + HALF_MS)
    assert all(judged[recovered:])


@pytest.mark.parametrize(
    "asked",
    [{2_000: 3.0}, {1_000: 3.0}, {DEADLINE_MS: 0.3, 12 * DEADLINE_MS: 2.7}],
    ids=["all can wait for two seconds", "all for one", "few for five, beside many for a minute"],
)
def test_whatever_deadlines_there_are_nearly_all_are_answered_in_time(asked: dict[int, float]) -> None:
    """Asked: deadline → how many times the capacity."""
    draw, now_ms, backlog = random.Random(1), 0.0, Backlog()
    each = [(draw.uniform(0, 60_000), ms) for ms, share in asked.items() for _ in range(int(share * 60_000 / JUDGE_MS))]
    answered: dict[int, list[bool]] = {ms: [] for ms in asked}
    for append_ms, deadline_ms in sorted(each):
        now_ms = max(now_ms, append_ms)
        waited_ms = int(now_ms - append_ms)
        denied = waited_ms > deadline_ms or backlog.too_long(waited_ms, deadline_ms, NOW + int(now_ms))
        now_ms += DENY_MS if denied else JUDGE_MS
        answered[deadline_ms].append(now_ms - append_ms <= deadline_ms)
    assert all(sum(times) / len(times) > 0.95 for times in answered.values())


def test_an_overload_that_the_record_itself_refutes() -> None:
    """Whether a partition was behind is no history; how long the intent had waited is."""
    intent = make.intent(deadline_ms=5_000)
    real = {"kind": "verdict", "reasons": [{"code": "overload", "detail": "2501 ms after append, deadline 5000 ms"}]}
    intake = recorded_intake(State(), make.windows(), make.RULES, real)
    waited = {ms: intake.not_admitted(intent, make.arrival(intent), make.NOW + ms) for ms in (2_500, 2_501)}
    assert waited[2_500] is None
    assert waited[2_501].reasons == ({"code": "overload", "detail": "2501 ms after append, deadline 5000 ms"},)
