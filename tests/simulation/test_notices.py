"""The owner of a partition tells enforcers of stopped agents that have acted there: soon, once, and few a turn."""

from __future__ import annotations

from unittest import mock

import orjson
import pytest

from harness_stream.core.join import Table
from harness_stream.core.lanes import partition_of
from harness_stream.core.notice import Stopped
from harness_stream.core.partition import Phase
from harness_stream.runtime.notices import NOTICES_PER_TURN
from tests.simulation.judge import check
from tests.simulation.stopped import notices
from tests.simulation.test_regressions import AGENT, HOME, act, owner, quiet, restarted, turns
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, identities


def put(world, agent, status, **over):
    """The revision of its new row."""
    row = next(row for row in identities() if row["agent_id"] == agent) | {"status": status} | over
    return world.broker.append(TOPICS.identity, 0, agent.encode(), orjson.dumps(row))


def said(world, partition=HOME):
    return [notice for _, notice in notices(world, partition)]


@pytest.mark.parametrize("status", ["suspended", "killed"])
def test_who_has_acted_is_told_of_once_within_a_few_turns(status):
    world = quiet()
    act(world)
    revision = put(world, AGENT, status)
    turns(world, 40)
    assert said(world) == [Stopped(AGENT, status, revision)]
    turns(world, 1_000)
    assert len(said(world)) == 1
    assert owner(world).phase is Phase.DECIDING
    world.heal()
    assert all(report.void == 0 for report in check(world))


def test_who_has_never_acted_here_is_not():
    world = quiet()
    act(world)
    elsewhere = next(agent for agent, lane in AGENTS.items() if partition_of(lane, PARTITIONS) != HOME)
    for agent in (elsewhere, "agent-3"):
        put(world, agent, "killed")
    turns(world, 100)
    assert said(world, 0) == said(world, 1) == []


def test_one_that_goes_on_is_not_and_one_that_is_stopped_anew_is_again():
    world = quiet()
    act(world)
    first = put(world, AGENT, "suspended")
    turns(world, 40)
    put(world, AGENT, "active")
    turns(world, 40)
    again = put(world, AGENT, "killed")
    turns(world, 40)
    assert said(world) == [Stopped(AGENT, "suspended", first), Stopped(AGENT, "killed", again)]


def test_what_is_still_under_way_counts_as_having_acted():
    """Else an approval that was published right before the row came could run on untold."""
    world = quiet()
    with mock.patch.object(type(owner(world)._deciding), "_confirm"):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
        turns(world, 10)
        assert owner(world).state.in_flight
        put(world, AGENT, "killed")
        turns(world, 30)
    assert [notice.agent_id for notice in said(world)] == [AGENT]


def test_one_whose_unit_has_left_memory_is_told_of():
    world = quiet(hot_units_max=2, snapshot_interval_ms=100)
    act(world)
    for _ in range(200):
        other = next(agent for agent, lane in AGENTS.items() if lane == AGENTS[AGENT] and agent != AGENT)
        world.send(agent_id=other, by=other, action="crm.read")
        turns(world, 10)
        if not owner(world).state.has(f"a:{AGENT}"):
            break
    else:
        raise AssertionError("it does not leave")
    put(world, AGENT, "killed")
    turns(world, 40)
    assert [notice.agent_id for notice in said(world)] == [AGENT]


def test_a_successor_tells_of_those_who_still_are_stopped():
    """What its predecessor was told right before it died may not have come to the log."""
    world = quiet()
    act(world)
    world.crash(0)
    revision = put(world, AGENT, "killed")
    turns(world, 4_000)
    assert owner(world).phase is Phase.DECIDING
    assert said(world) == [Stopped(AGENT, "killed", revision)]
    restarted(world)
    assert said(world) == [Stopped(AGENT, "killed", revision)] * 2


def test_a_row_that_only_mentions_the_word_or_cannot_be_read_stops_nobody():
    world = quiet()
    act(world)
    put(world, AGENT, "active", roles=["killed"])
    turns(world, 40)
    world.broker.append(TOPICS.identity, 0, AGENT.encode(), b'{"status":"killed"}')
    turns(world, 40)
    assert not [r for r in world.everything(TOPICS.verdicts, HOME) if orjson.loads(r.value)["kind"] == "notice"]


def test_many_are_told_of_few_a_turn_and_none_is_left_out():
    world = quiet()
    count = 5 * NOTICES_PER_TURN
    names = [f"many-{n}" for n in range(count)]
    row = next(row for row in identities() if row["agent_id"] == AGENT)
    for name in names:
        world.broker.append(TOPICS.identity, 0, name.encode(), orjson.dumps(row | {"agent_id": name}))
    turns(world, 40)
    with mock.patch.dict(AGENTS, dict.fromkeys(names, AGENTS[AGENT])):
        for name in names:
            world.send(agent_id=name, by=name, action="crm.read")
            turns(world, 5)
    turns(world, 200)
    most = 0
    for name in names:
        world.broker.append(TOPICS.identity, 0, name.encode(), orjson.dumps(row | {"agent_id": name, "status": "killed"}))
    for _ in range(300):
        before = len(said(world))
        world.turn([1])
        most = max(most, len(said(world)) - before)
    assert {notice.agent_id for notice in said(world)} == set(names)
    assert 0 < most <= NOTICES_PER_TURN


def test_while_no_row_changes_nothing_is_looked_at():
    world = quiet()
    act(world)
    put(world, AGENT, "killed")
    turns(world, 40)
    with mock.patch.object(Table, "row", side_effect=AssertionError("it looked")):
        turns(world, 40)
