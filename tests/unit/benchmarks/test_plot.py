"""A plot has a point for each rate that was answered, and says before anything is measured that it cannot be drawn."""

import os
from importlib.util import find_spec

import pytest

from benchmarks import plot

NAMES = ("p50", "p90", "p99", "p99.9")


def rounds(*values):
    return [dict.fromkeys(NAMES, value) for value in values]


LATENCY = {
    "rates": [
        {"rate": 1_000, "echo": rounds(2.0, 4.0, 3.0), "harness": rounds(5.0, 5.0, 6.0)},
        {"rate": 100, "echo": rounds(1.0, 1.0, 1.0), "harness": rounds(2.0, 2.0, 2.0)},
        {"rate": 5_000, "echo": rounds(9.0, 9.0, 9.0), "harness": rounds(9.0, None, 9.0)},
    ]
}


def test_a_line_goes_by_rate_through_the_medians():
    assert plot.points(LATENCY, "echo", "p99") == ([100, 1_000, 5_000], [1.0, 3.0, 9.0])


def test_a_rate_that_was_not_answered_has_no_point():
    assert plot.points(LATENCY, "harness", "p99") == ([100, 1_000], [2.0, 5.0])


def test_without_a_plot_nothing_is_required():
    plot.require(None)


def test_a_missing_library_is_said_at_once_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match=r"\[benchmarks\]"):
        plot.require(tmp_path / "out.svg")


def test_it_is_drawn(tmp_path):
    if find_spec("matplotlib") is None:
        assert os.environ.get("CI", "").lower() != "true", "CI must have the extra `benchmarks`"
        pytest.skip("the extra `benchmarks` is not installed")
    plot.draw(LATENCY, tmp_path / "out.svg")
    drawn = (tmp_path / "out.svg").read_text()
    assert "<svg" in drawn
