"""A plot has a point for each rate that was answered, and says before anything is measured that it cannot be drawn."""

import argparse
import os
from importlib.util import find_spec

import pytest

NAMES = ("p50", "p90", "p99", "p99.9")


@pytest.fixture
def plot(script):
    return script("plot")


def rounds(*values, approved=100):
    return [dict.fromkeys(NAMES, value) | {"approved": approved, "offered": 100, "settled": True} for value in values]


def at(rate, echo, harness, *, half=False):
    return {"rate": rate, "half_of_saturation": half, "echo": echo, "harness": harness}


LATENCY = {
    "rates": [
        at(1_000, rounds(2.0, 4.0, 3.0), rounds(5.0, 5.0, 6.0), half=True),
        at(100, rounds(1.0, 1.0, 1.0), rounds(2.0, 2.0, 2.0)),
        at(5_000, rounds(9.0, 9.0, 9.0), rounds(9.0, None, 9.0)),
        at(9_000, rounds(9.0, 9.0, 9.0), rounds(9.0, 9.0, 9.0, approved=50)),
    ]
}


def test_a_line_goes_by_rate_through_the_medians_and_knows_their_spread(plot):
    found = plot.points(LATENCY, "echo", "p99")
    assert [(point.rate, point.median) for point in found] == [(100, 1.0), (1_000, 3.0), (5_000, 9.0), (9_000, 9.0)]
    assert (found[1].least, found[1].most, found[1].carried) == (2.0, 4.0, True)


def test_a_rate_that_was_not_answered_has_no_point_and_one_that_was_not_carried_is_marked(plot):
    found = plot.points(LATENCY, "harness", "p99")
    assert [(point.rate, point.carried) for point in found] == [(100, True), (1_000, True), (9_000, False)]


def test_a_missing_library_is_said_at_once_with_what_to_do(plot, monkeypatch, tmp_path):
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    with pytest.raises(argparse.ArgumentTypeError, match=r"\[benchmarks\]"):
        plot.output(str(tmp_path / "out.svg"))


def test_an_ending_that_names_no_format_is_said_at_once(plot, tmp_path):
    with pytest.raises(argparse.ArgumentTypeError, match=r"\.svg"):
        plot.output(str(tmp_path / "out.xyz"))


def test_it_is_drawn_with_the_machine(plot, tmp_path):
    if find_spec("matplotlib") is None:
        assert os.environ.get("CI", "").lower() != "true", "CI must have the extra `benchmarks`"
        pytest.skip("the extra `benchmarks` is not installed")
    plot.draw(LATENCY, tmp_path / "out.svg", {"cpu": "1 × test"})
    drawn = (tmp_path / "out.svg").read_text()
    assert "<svg" in drawn
