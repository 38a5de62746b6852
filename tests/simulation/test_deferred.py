"""A partition decides before its records are folded: each unit takes in its own when somebody asks for it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from harness_stream.core.deferred import group_of
from harness_stream.core.names import lane_unit
from harness_stream.core.partition import Phase
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.core.units import decode_unit, encode_unit
from harness_stream.runtime import fetching, loading, taking
from harness_stream.runtime.deciding import Deciding
from harness_stream.runtime.fetching import Fetching
from tests.simulation.test_cold import (
    AGENT,
    HOME,
    NEVER,
    OTHER,
    UNIT,
    counted,
    log,
    owner,
    read,
    recomputed,
    snapshot,
    turns,
    world_with,
)
from tests.simulation.world import TOPICS, World

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


def test_nothing_is_judged_without_the_one_record_that_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, last = taking.change_of, [b for b in log(world) if b["kind"] == "verdict" and b["agent_id"] == AGENT][-1]

    def of_another_version(body: Any, digest: str) -> Any:
        if body.get("intent_id") == last["intent_id"]:
            raise KeyError("chains")
        return real(body, digest)

    monkeypatch.setattr(taking, "change_of", of_another_version)
    before = len(log(world))
    world.send(by=AGENT, agent_id=AGENT, action="crm.read", resources=[], measures={})
    turns(world, 2_000)
    assert {body["kind"] for body in log(world)[before:]} <= {"checkpoint"}
    assert owner(world).phase is not Phase.DECIDING


def test_a_forged_record_between_cut_and_store_stops_nobody() -> None:
    world = world_with()
    for _ in range(READS):
        read(world)
    snapshot(world)
    forged = {"kind": "verdict", "agent_id": "a", "intent_id": "zz", "event": None, "epoch": 1, "writer": "nobody"}
    world.broker.append(TOPICS.verdicts, HOME, b"x", orjson.dumps(forged))
    turns(world, 600)
    read(world, OTHER)
    crashed(world)
    assert counted(read(world)) == [READS + 1, READS + 1]


def test_a_store_from_before_the_first_rules_leaves_nothing_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(5, 1, NEVER, 1_000)
    monkeypatch.setattr(Deciding, "_switch_if_due", lambda self: None)
    turns(world, 300)
    assert PARTITION_UNIT in world.store.units(HOME)
    monkeypatch.undo()
    crashed(world)
    turns(world, 600)
    assert owner(world).state.complete


@pytest.mark.parametrize("written", ["nothing", "lost"])
def test_a_snapshot_of_lost_records_that_took_a_good_ones_place_begins_nobody_anew(written: str) -> None:
    world = world_with()
    for _ in range(READS):
        read(world)
    snapshot(world)
    good = next(r for r in world.everything(TOPICS.chains, HOME) if f"/{UNIT}@1".encode() in (r.key or b""))
    crashed(world)
    read(world, OTHER)
    snapshot(world)
    claimed = max(offset for offset, body in enumerate(log(world)) if body["kind"] == "claim")
    if written == "lost":
        late = encode_unit(decode_unit(good.value or b"")[0], claimed + 1, 0)
        world.broker.append(TOPICS.chains, HOME, good.key, late)
    world.store.flush()
    crashed(world)
    assert counted(read(world)) == [READS + 1, READS + 1]


def test_many_groups_of_a_lane_are_not_copied_for_each_record() -> None:
    state, lane = State(), lane_unit("tenant-1")
    state.install(lane, {("window", "w", 1, (n,)): n for n in range(100_000)})
    values = state.confirmed(lane)
    assert taking._alone(state, (lane,)).confirmed(lane) is values


def test_no_snapshot_is_begun_while_units_wait(world: World) -> None:
    keeper = owner(world)._snapshots
    keeper._interval_ms = 0
    read(world)
    turns(world, 200)
    assert keeper._cycle is None
    assert keeper.cut == -1


def test_a_clean_stop_does_not_wait_for_them(world: World) -> None:
    owner(world).release()
    turns(world, 100)
    assert owner(world).finished
    assert waits(world, UNIT)


def test_beyond_its_bound_loading_folds_as_it_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "DEFERRED_SHARE", 0)
    crashed(world)
    assert not owner(world).state.deferred
    assert counted(read(world)) == [READS + 1, READS + 1]


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
