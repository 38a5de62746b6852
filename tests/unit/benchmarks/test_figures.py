"""Quantiles count what never came, rounds are compared with their own, and a goal is met, missed or not measured."""

import pytest

from benchmarks.figures import Goal, Spread, goals_text, percentile, quantile, quantiles, ratios, spread_text, table

HUNDRED = [float(n) for n in range(1, 101)]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.9, 90), (0.99, 99), (0.999, 100), (1.0, 100), (0.001, 1)])
def test_a_quantile_is_the_nearest_rank(share, expected):
    assert quantile(HUNDRED[::-1], share) == expected


def test_of_one_value_every_quantile_is_that_value():
    assert set(quantiles([7.0]).values()) == {7.0}


def test_of_nothing_there_is_no_quantile():
    assert quantile([], 0.5) is None
    assert percentile([], 0.5) != percentile([], 0.5)  # NaN


def test_what_was_never_answered_is_later_than_any_answer():
    assert quantiles(HUNDRED[:98], missing=2) == {"p50": 50, "p90": 90, "p99": None, "p99.9": None}


def test_one_missing_of_two_hundred_leaves_the_99th_percentile():
    assert quantile([1.0] * 199, 0.99, missing=1) == 1.0
    assert quantile([1.0] * 197, 0.99, missing=3) is None


def test_a_spread_is_median_least_and_most():
    assert Spread.of([3, 1, 2, 9]) == (2.5, 1, 9)
    assert spread_text(Spread.of([3, 1, 2])) == "2.00 (1.00 to 3.00)"


@pytest.mark.parametrize("rounds", [[], [None], [1.0, None, 2.0]])
def test_a_round_without_a_value_leaves_no_spread(rounds):
    assert Spread.of(rounds) is None
    assert spread_text(Spread.of(rounds)) == "-"


def test_each_round_is_compared_with_its_own_other_side():
    assert ratios([2, 30, None, 5], [1, 10, 1, 0]) == [2, 3, None, None]


@pytest.mark.parametrize(
    ("value", "at_least", "met"),
    [(1.5, False, True), (1.51, False, False), (1.5, True, True), (1.49, True, False), (None, False, None), (None, True, None)],
)
def test_a_limit_itself_is_met(value, at_least, met):
    assert Goal("g", 1.5, value, "×", at_least=at_least).met is met


def test_goals_are_printed_with_limit_and_value():
    goals = [
        Goal("latency", 1.5, 1.2, "×"),
        Goal("cpu", 50, 230.04, "µs"),
        Goal("rebuild", 50_000, 6_061.4, "records/s", at_least=True),
        Goal("start", 30, None, "s", why_not="not measured at that size"),
        Goal("half", 1.5, None, "×", why_not="the rate was not carried", missed=True),
    ]
    printed = [line.split("   ") for line in goals_text(goals)]
    assert [[cell.strip() for cell in line if cell.strip()] for line in printed[1:]] == [
        ["met", "latency", "≤ 1.5 ×", "1.20 ×"],
        ["MISSED", "cpu", "≤ 50 µs", "230 µs"],
        ["MISSED", "rebuild", "≥ 50,000 records/s", "6,061 records/s"],
        ["-", "start", "≤ 30 s", "not measured at that size"],
        ["MISSED", "half", "≤ 1.5 ×", "the rate was not carried"],
    ]
    assert goals[3].to_json()["met"] is None


def test_figures_stand_to_the_right_and_words_to_the_left():
    assert table(["name", "µs"], [["a", "1.0"], ["long name", "100.0"]]) == [
        "  name           µs",
        "  a             1.0",
        "  long name   100.0",
    ]
