"""Who waits for a long loading is told how far it is; who waits shortly is not bothered."""

import logging

import pytest

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.runtime.progress import PROGRESS_MS, Progress


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, "harness_stream.runtime.progress")
    return caplog


def test_a_short_one_says_nothing(said):
    clock = ManualClock(0)
    progress = Progress(3, "snapshots", 100, 200, clock)
    for offset in range(100, 201):
        progress.at(offset)
        clock.advance((PROGRESS_MS - 1) // 100)
    assert said.messages == []


def test_a_long_one_says_where_it_is_and_how_fast(said):
    clock = ManualClock(0)
    progress = Progress(3, "snapshots", 1_000, 101_000, clock)
    for offset in (26_000, 51_000, 51_500):
        clock.advance(PROGRESS_MS if offset != 51_500 else 1)
        progress.at(offset)
    assert said.messages == [
        "partition 3: loading, 25,000 of 100,000 snapshots, 12,500/s",
        "partition 3: loading, 50,000 of 100,000 snapshots, 12,500/s",
    ]
