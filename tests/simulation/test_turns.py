"""A turn of the worker's loop: one batch of each partition, and what is left of its time to those that are behind."""

from unittest import mock

import pytest

from harness_stream.adapters.memory.log import Fate
from harness_stream.core import limits
from harness_stream.core.intake import Intake
from harness_stream.core.lanes import partition_of
from harness_stream.core.partition import Phase
from harness_stream.ports import Assignment
from harness_stream.runtime.deciding import BATCH_MS_MAX, BATCH_RECORDS_MAX, Deciding
from tests.simulation.test_regressions import AGENT, HOME, act, owner, turns
from tests.simulation.world import AGENTS, PARTITIONS, World

ELSEWHERE = next(agent for agent, lane in AGENTS.items() if partition_of(lane, PARTITIONS) != HOME)
WAITING = 3 * BATCH_RECORDS_MAX


class AtOnce(World):
    """Each record is in the log, and known to be, before the next one is handed over."""

    def _fate(self, *_):
        return Fate()


def behind():
    world = AtOnce(1, workers=1)
    turns(world, 100)
    act(world)
    for _ in range(WAITING):
        world.send(agent_id=AGENT, by=AGENT)
    return world


def answered_in_a_turn(world):
    before = owner(world).place.header.next_input
    world.members[0].worker.step(0)
    world.members[0].worker.step(0)  # confirms what the first one published last
    return owner(world).place.header.next_input - before


def test_a_partition_in_which_whole_batches_wait_gets_what_is_left_of_a_turn():
    world = behind()
    assert answered_in_a_turn(world) == WAITING


def test_who_asks_elsewhere_meanwhile_is_answered_between_two_batches_of_the_flooded_one():
    world = behind()
    decided, decide = [], Deciding._decide

    def asked_elsewhere(deciding):
        if not decided:
            world.send(agent_id=ELSEWHERE, by=ELSEWHERE)
        before = deciding.waiting
        decide(deciding)
        decided.append((deciding._partition, before - deciding.waiting))

    with mock.patch.object(Deciding, "_decide", asked_elsewhere):
        world.members[0].worker.step(0)
    answered = [(partition, count) for partition, count in decided if count]
    assert sorted(answered[:3]) == sorted([(HOME, BATCH_RECORDS_MAX), (HOME ^ 1, 1), (HOME, BATCH_RECORDS_MAX)])
    assert sum(count for _, count in answered) == WAITING + 1


@pytest.mark.parametrize("answer_ms", [1, 4, BATCH_MS_MAX])
def test_what_is_left_of_a_turn_is_no_longer_than_a_wait_for_input(answer_ms):
    world = behind()
    look = Intake.look

    def slow(intake, *words):
        world.clock.advance(answer_ms)
        return look(intake, *words)

    began_ms = world.clock.elapsed_ms()
    with mock.patch.object(Intake, "look", slow):
        world.members[0].worker.step(0)
    took_ms = world.clock.elapsed_ms() - began_ms
    batch_ms = BATCH_MS_MAX + answer_ms
    assert limits.LOOP_WAIT_MS_MAX <= took_ms <= limits.LOOP_WAIT_MS_MAX + batch_ms


def test_a_partition_that_does_not_come_on_ends_its_turn():
    world = behind()
    with mock.patch.object(Deciding, "_decide", autospec=True) as decide:
        world.members[0].worker.step(0)
    assert 1 < decide.call_count <= 2 * len(world.members[0].worker.owners)


@pytest.mark.parametrize("how", ["lost", "revoked"])
def test_a_partition_may_go_while_its_backlog_is_worked_off(how, monkeypatch):
    world = behind()
    told = [[], [Assignment(**{how: (HOME,)})]]
    monkeypatch.setattr(world.members[0].worker._ports.consumer, "assignments", lambda: told.pop(0) if told else [])
    world.members[0].worker.step(0)
    assert not told
    owners = world.members[0].worker.owners
    assert HOME not in owners if how == "lost" else not owners[HOME].backlogged


def test_nobody_works_off_while_a_partition_is_loaded():
    world = behind()
    world.members[0].worker.owners[HOME ^ 1].phase = Phase.LOADING
    with mock.patch.object(Deciding, "_decide", autospec=True) as decide:
        world.members[0].worker.step(0)
    assert decide.call_count <= len(world.members[0].worker.owners)
