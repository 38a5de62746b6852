"""A partition decides before its records are folded: each unit takes in its own when somebody asks for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from harness_stream.core import limits
from harness_stream.core.deferred import group_of
from harness_stream.core.names import lane_unit
from harness_stream.core.partition import Phase
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.core.units import decode_unit, encode_unit
from harness_stream.runtime import fetching, loading, progress, taking
from harness_stream.runtime.deciding import Deciding
from harness_stream.runtime.fetching import Fetching
from harness_stream.runtime.worker import LEISURE_MS, LOADING_FIRST_MS
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

if TYPE_CHECKING:
    from harness_stream.core.rules.windows import Windows

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


def test_nor_is_it_by_units_that_nobody_asks_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.store.restore(world.ahead)  # type: ignore[attr-defined]  this file's own
    monkeypatch.undo()
    turns(world, 300)
    assert not owner(world).state.deferred
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


def windows_of(world: World) -> Windows:
    deciding = owner(world)._deciding
    assert deciding is not None
    windows = deciding._windows_confirmed()
    assert windows is not None
    return windows


def units_now(world: World) -> dict[str, bytes]:
    state, place = owner(world).state, owner(world).place
    names = sorted({*state.units()} - {PARTITION_UNIT})
    return {unit: encode_unit(state.confirmed(unit), 0, place.header.t) for unit in names}


def everything_here(world: World) -> State:
    """Without a store everything is folded from the log."""
    world.store.flush()
    crashed(world)
    state = owner(world).state
    assert state.all_here
    assert state.deferred.records > READS
    return state


def test_in_the_order_of_the_log_units_become_what_each_becomes_alone(world: World) -> None:
    state = everything_here(world)
    for group in list(state.deferred.coming(state.deferred.records)):
        taking.take_in(state, group, windows_of(world), lambda: False)
    alone = units_now(world)
    state = everything_here(world)
    touched = taking.take_in_oldest(state, windows_of(world), lambda: False)
    assert not state.deferred
    assert units_now(world) == alone
    assert touched == alone.keys()


def test_what_one_group_took_in_before_is_not_taken_in_again(world: World) -> None:
    state = everything_here(world)
    taking.take_in_oldest(state, windows_of(world), lambda: False)
    together = units_now(world)
    state = everything_here(world)
    for group in (UNIT, group_of(f"a:{OTHER}")):
        taking.take_in(state, group, windows_of(world), lambda: True)  # one record each
    taking.take_in_oldest(state, windows_of(world), lambda: False)
    assert (units_now(world), state.deferred.size) == (together, 0)


def test_each_record_is_read_once_for_all_units(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    state, real, read_values = everything_here(world), taking.body_of, list[bytes]()

    def seen(value: bytes) -> Any:
        read_values.append(value)
        return real(value)

    monkeypatch.setattr(taking, "body_of", seen)
    records = state.deferred.records
    taking.take_in_oldest(state, windows_of(world), lambda: False)
    assert len(read_values) == len({*read_values}) == records


def test_a_record_that_cannot_be_read_halts_whoever_comes_upon_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    state = everything_here(world)
    monkeypatch.setattr(taking, "body_of", lambda value: {"kind": "verdict"})
    with pytest.raises(taking.CannotLoadError, match="breaks its schema"):
        taking.take_in_oldest(state, windows_of(world), lambda: False)


@pytest.mark.parametrize("share", [0, 2])
def test_one_unit_a_fetch_is_enough(world: World, monkeypatch: pytest.MonkeyPatch, share: int) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(limits, "COLD_FETCH_UNITS_MAX", 1)
    monkeypatch.setattr(loading, "DEFERRED_SHARE", share)
    crashed(world)
    turns(world, 3_000)
    assert not owner(world).state.deferred
    assert counted(read(world)) == [READS + 1, READS + 1]


def test_who_waits_for_them_is_told_how_far_they_are(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(fetching, "CATCH_UP_MS_MAX", 0)  # a record a turn
    monkeypatch.setattr(progress, "PROGRESS_MS", 1)
    caplog.set_level(logging.INFO, "harness_stream.runtime.progress")
    everything_here(world)
    turns(world, 300)
    told = [line for line in caplog.messages if "records taken in by their units" in line]
    assert told
    assert told[0].startswith(f"partition {HOME}: deciding, ")


def test_who_is_told_to_leave_time_takes_in_nothing_unasked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    state = everything_here(world)
    for _ in range(10):
        owner(world).step(leisure=False)
    assert state.deferred
    for _ in range(10):
        owner(world).step()
    assert not state.deferred


def test_nobody_has_leisure_while_a_partition_is_loaded_but_not_for_ever(world: World) -> None:
    worker = world.members[0].worker
    turns(world, 50)
    assert worker._has_leisure()
    owner(world).phase = Phase.LOADING
    assert not worker._has_leisure()
    world.clock.advance(LEISURE_MS)
    assert [worker._has_leisure(), worker._has_leisure()] == [True, False], "a turn now and then"
    world.clock.advance(LOADING_FIRST_MS + 1)
    assert worker._has_leisure()


def test_a_partition_that_comes_and_goes_starves_nobody(world: World) -> None:
    worker, given = world.members[0].worker, 0
    turns(world, 50)
    for _ in range(20):
        for phase, span_ms in ((Phase.LOADING, LOADING_FIRST_MS - 100), (Phase.DECIDING, 0)):
            owner(world).phase = phase
            for _ in range(span_ms // 10):
                world.clock.advance(10)
                given += worker._has_leisure()
    assert given >= 20 * (LOADING_FIRST_MS - 100) // LEISURE_MS - 20


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
