"""A partition decides before its records are folded: each unit takes in its own when somebody asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from harness_stream.core.deferred import group_of
from harness_stream.core.partition import Phase
from harness_stream.runtime import fetching
from harness_stream.runtime.fetching import Fetching
from tests.simulation.test_cold import (
    AGENT,
    HOME,
    OTHER,
    UNIT,
    counted,
    log,
    owner,
    read,
    recomputed,
    turns,
    world_with,
)

if TYPE_CHECKING:
    from tests.simulation.world import World

READS = 5


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Both agents have acted; nobody takes in anything without being asked."""
    world = world_with()
    read(world)
    read(world, OTHER)
    turns(world, 50)
    behind = world.store.snapshot()
    for _ in range(READS - 1):
        read(world)
        read(world, OTHER)
    turns(world, 50)
    world.ahead = world.store.snapshot()  # type: ignore[attr-defined]  this file's own
    world.store.restore(behind)
    monkeypatch.setattr(Fetching, "catch_up", lambda self: None)
    crashed(world)
    return world


def crashed(world: World) -> None:
    world.crash(0)
    for _ in range(6_000):
        world.turn()
        if HOME in world.members[0].worker.owners and owner(world).phase is Phase.DECIDING:
            return
    raise AssertionError("never decided")


def waits(world: World, unit: str) -> bool:
    return group_of(unit) in owner(world).state.deferred


def test_who_acts_takes_in_what_it_did_and_nobody_else_does(world: World) -> None:
    assert waits(world, UNIT)
    assert counted(read(world)) == [READS + 1, READS + 1]
    assert not waits(world, UNIT)
    assert waits(world, f"a:{OTHER}")


def test_one_record_a_turn_is_enough(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "TAKE_IN_MS_MAX", 0)
    assert counted(read(world)) == [READS + 1, READS + 1]


def test_the_store_stays_where_it_is_until_every_unit_has_taken_in_its_records(world: World) -> None:
    """Its head would speak for those that have not, and a successor would never fold them."""
    stood = world.store.head(HOME)
    read(world)
    turns(world, 200)
    assert world.store.head(HOME) == stood
    crashed(world)
    assert counted(read(world, OTHER)) == [READS + 1, READS + 1]


def test_nothing_is_counted_twice_that_a_former_owner_had_stored_meanwhile(world: World) -> None:
    world.store.restore(world.ahead)  # type: ignore[attr-defined]  this file's own
    assert counted(read(world)) == [READS + 1, READS + 1]
    assert counted(read(world, OTHER)) == [READS + 1, READS + 1]


def test_a_switch_waits_for_them(world: World) -> None:
    """They were decided, and are counted, by the set before it."""
    world.push_rules(9)
    turns(world, 500)
    assert [body["kind"] for body in log(world)].count("switch") == 1
    assert waits(world, UNIT)


def test_once_all_have_the_store_goes_on_and_the_switch_comes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push_rules(9)
    monkeypatch.undo()
    turns(world, 1_000)
    assert not owner(world).state.deferred
    assert [body["kind"] for body in log(world)].count("switch") == 2
    recomputed(world)
    assert AGENT in str(world.store.units(HOME))
