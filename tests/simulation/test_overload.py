"""More than may be asked, and more than is judged in time, under the faults of the other runs: refused, and history right."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from harness_stream.core import backlog, limits
from harness_stream.core.rate import Rate
from harness_stream.core.reasons import Deny
from harness_stream.runtime import deciding
from harness_stream.runtime.worker import Worker
from tests.simulation.faults import FAULTS
from tests.simulation.judge import check
from tests.simulation.world import World

if TYPE_CHECKING:
    from tests.log_checker import Report

RATE = Rate(per_s=100, burst=5)
TURNS, INTENTS_A_TURN = 120, 4
FAULT_SHARE, KINDS = 0.02, ("crash", "pause")
DEADLINES_MS = (10, 100, 60_000)


def flooded(seed: int) -> list[Report]:
    """A worker that judges half of what is asked, until it heals; runs are so short that some 10 ms are long."""
    with mock.patch.object(limits, "DEADLINE_MS_DEFAULT", 20), mock.patch.object(backlog, "LASTING_MS", 50):
        world = World(seed, workers=2, lane_rate=RATE)
        one_a_turn = mock.patch.object(deciding, "BATCH_RECORDS_MAX", 1), mock.patch.object(Worker, "_work_off")
        with one_a_turn[0], one_a_turn[1]:
            for _ in range(TURNS):
                _turn(world)
        world.heal()
        return check(world)


def _turn(world: World) -> None:
    for _ in range(INTENTS_A_TURN):
        world.send(deadline_ms=world.random.choice(DEADLINES_MS))
    if world.random.random() < FAULT_SHARE:
        FAULTS[world.random.choice(KINDS)](world)
    world.turn()


@pytest.fixture(scope="module")
def runs() -> list[list[Report]]:
    return [flooded(seed) for seed in range(12)]


def test_each_way_to_refuse_is_taken_and_the_log_stays_right(runs: list[list[Report]]) -> None:
    codes = Counter(
        body["reasons"][0]["code"]
        for reports in runs
        for report in reports
        for body in report.effective
        if body["kind"] == "verdict" and body["decision"] == "deny"
    )
    assert {Deny.LATE, Deny.RATE, Deny.OVERLOAD} <= codes.keys()


def test_under_one_claim_a_lane_is_judged_no_more_than_its_bound(runs: list[list[Report]]) -> None:
    times = defaultdict[tuple[int, int, int, str], list[int]](list)
    for number, reports in enumerate(runs):
        for partition, report in enumerate(reports):
            for body in report.effective:
                if body["kind"] == "verdict" and body["event"] is not None and body["approval"] is None:
                    times[number, partition, body["epoch"], body["event"]["lane"]].append(body["t"])
    assert times
    for judged in times.values():
        assert len(judged) <= RATE.burst + (judged[-1] - judged[0]) * RATE.per_s / 1000 + 1
