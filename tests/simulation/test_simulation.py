"""The whole worker under seeded faults: whatever crashes, pauses or gets lost, history is right (V1, V2, V3, V5)."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from unittest import mock

import orjson
import pytest

from harness_stream.core import limits
from harness_stream.runtime import history, takeover, warming
from tests.log_checker import check_coverage, check_store, check_terminal, fold_partition
from tests.simulation.world import NEW_RULES, PARTITIONS, RULES, TOPICS, Faults, World, bundle, compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = int(os.environ.get("HARNESS_SIMULATION_SEEDS", "500"))
FIRST_SEED = int(os.environ.get("HARNESS_SIMULATION_FIRST_SEED", "0"))
CHUNKS = 20


@contextmanager
def short_histories(seed: int) -> Iterator[None]:
    """Some runs count new windows from the middle of the log in small pieces; some have room for little."""
    with ExitStack() as stack:
        if seed % 5 == 2:
            stack.enter_context(mock.patch.object(limits, "GROUPS_PER_UNIT_MAX", 2))
        if seed % 3 == 1:
            stack.enter_context(mock.patch.object(limits, "PART_BYTES_MAX", 2_000))
        if seed % 4 == 3:
            stack.enter_context(mock.patch.object(warming, "CHECKPOINT_GAP_MS", -8_000))
            stack.enter_context(mock.patch.object(history, "SEARCH_RECORDS", 8))
            stack.enter_context(mock.patch.object(history, "PIECE_RECORDS", 20))
            stack.enter_context(mock.patch.object(takeover, "UNITS_PER_TURN", 1))
            stack.enter_context(mock.patch.object(warming, "LATER_MAX", 2))
        yield


def run(seed: int, faults: Faults | None = None, turns: int = 400) -> World:
    with short_histories(seed):
        return _run(seed, faults, turns)


def _run(seed: int, faults: Faults | None, turns: int) -> World:
    # Bits of the seed that nothing else depends on, so that evictions meet switches of rules and everything else.
    forgetful, unstored = seed // 4 % 2, seed // 8 % 2
    faults = faults or (Faults(lost=0.002, delayed=0.005, away=0.02) if unstored else Faults())
    world = World(seed, faults, 1 + seed % 3, 150 if forgetful else 3_000, 3 if forgetful else 1_000)
    switches = sorted(world.random.sample(range(turns), 3)) if seed % 2 else []
    traffic(world, range(turns), switches)
    world.heal()
    return world


def traffic(world: World, turns: range, switches: list[int]) -> None:
    """Everything that can be sent, at random; other rules at the turns that `switches` names."""
    for turn in turns:
        if turn in switches:
            world.push_rules(2 + switches.index(turn), (NEW_RULES, RULES)[switches.index(turn) % 2], now=turn % 5 == 0)
        if world.random.random() < 0.3:
            world.send(chain_id=f"case-{turn % 3}") if turn % 9 == 0 else world.send()
        if world.random.random() < 0.1:
            world.follow_up()
        if world.random.random() < 0.02:
            world.mandate()
        if world.random.random() < 0.01 and world.sent:
            value = world.random.choice(list(world.sent.values()))
            world.publish(orjson.loads(value)["agent_id"], value)
        if world.random.random() < 0.01:
            world.publish("agent-1", b"not json")
        world.turn()


def check(world: World) -> list[object]:
    bundles = {hashlib.sha256(data).hexdigest(): compiled(data) for data in (bundle(), bundle(NEW_RULES))}
    reports = [
        fold_partition(world.everything(TOPICS.intents, p), world.everything(TOPICS.verdicts, p), p, "i1", bundles)
        for p in range(PARTITIONS)
    ]
    for partition, report in enumerate(reports):
        check_coverage(report, world.broker.bounds(TOPICS.intents, partition)[1])
        check_store(report, world.store, partition)
    check_terminal(reports, set(world.sent))
    return list(reports)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_history_is_right_whatever_happens(chunk: int) -> None:
    for seed in range(FIRST_SEED + chunk, FIRST_SEED + SEEDS, CHUNKS):
        world = run(seed)
        try:
            check(world)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}\n" + "\n".join(world.trace)) from error


def test_without_faults_nothing_is_void_and_one_claim_a_partition_is_enough() -> None:
    world = World(1, Faults(0, 0, 0, 0, 0, 0), workers=1)
    world.healed = True
    for _ in range(50):
        world.send()
        world.turn()
    world.heal()
    reports = check(world)
    assert all(r.void == 0 for r in reports)
    assert sum(b["kind"] == "claim" for r in reports for b in r.effective) == PARTITIONS
