"""Whatever arrives and whatever goes wrong: garbage is freed by its count, since nobody looks at old objects again."""

from __future__ import annotations

import gc
import time
import weakref
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.state import RECONNECT_INTERVAL_MS, RedisStateStore
from harness_stream.core.rules.compile import from_bundle
from harness_stream.core.rules.windows import Windows
from harness_stream.errors import StateUnavailable
from harness_stream.runtime.collector import BACKLOG_MIN, REST_S, YOUNG_MAX, Collector
from tests.simulation.faults import FAULTS
from tests.simulation.world import NEW_RULES, RULES, World, bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

TURNS = 150
# Ends a process, or takes away what its world keeps of it: not what a worker lives through.
OTHERS = {"crash", "clean stop"}


@pytest.fixture
def world() -> Iterator[World]:
    gc.collect()
    gc.freeze()  # what is no part of this world
    made = World(5, workers=1)
    turns(made)
    gc.collect()
    gc.disable()
    yield made
    gc.enable()
    gc.unfreeze()


def turns(world: World) -> None:
    for _ in range(TURNS):
        world.send()
        world.turn()


def found() -> dict[str, int]:
    """What only a search finds, by its type."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return Counter(type(each).__name__ for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()


def test_a_search_finds_what_refers_to_itself(world: World) -> None:
    loop: list[object] = []
    loop.append(loop)
    del loop
    assert found() == {"list": 1}


def test_nothing_that_is_sent_leaves_anything_to_a_search(world: World) -> None:
    turns(world)
    for value in (b"no json", b'{"v":1}', b"\xff", b"[" * 100, b""):
        world.publish("agent-1", value)
        world.turn()
    turns(world)
    assert found() == {}


@pytest.mark.parametrize("kind", sorted(FAULTS.keys() - OTHERS))
def test_no_fault_leaves_anything_to_a_search(world: World, kind: str) -> None:
    FAULTS[kind](world)
    turns(world)
    world.heal()
    turns(world)
    assert found() == {}


def test_neither_does_a_store_that_does_not_answer(world: World) -> None:
    """The client's frames refer to themselves, and to all that the turn holds which asked."""
    store = RedisStateStore("redis://127.0.0.1:1/0", Whose("realm", "i1"), world.clock)
    for _ in range(3):
        with pytest.raises(StateUnavailable, match="does not answer"):
            store.head(0)
        world.clock.advance(RECONNECT_INTERVAL_MS)
    store.close()
    assert found() == {}


def test_a_partition_that_is_given_up_leaves_memory_at_once(world: World) -> None:
    worker = world.members[0].worker
    deciding = [weakref.ref(owner._deciding) for owner in worker.owners.values()]
    assert all(each() is not None for each in deciding)
    for partition in list(worker.owners):
        worker._drop(partition)
    assert [each() for each in deciding] == [None] * len(deciding)
    assert found() == {}


def test_so_does_one_that_is_given_up_while_new_rules_are_warmed(world: World) -> None:
    worker = world.members[0].worker
    world.push_rules(9, NEW_RULES)
    while not (warming := [o._deciding for o in worker.owners.values() if o._deciding and o._deciding._warming]):
        world.turn()
    left = [weakref.ref(each) for each in warming]
    warming.clear()
    for partition in list(worker.owners):
        worker._drop(partition)
    assert [each() for each in left] == [None] * len(left)
    assert found() == {}


def test_rules_that_are_out_of_force_leave_memory_at_once(world: World) -> None:
    """After they were asked: what they remember holds nobody."""
    windows = Windows(from_bundle(bundle(RULES)))
    view = {"action": "crm.read", "agent_id": "agent-1", "resource": {"uri": "crm://a"}}
    windows.program.select(view)
    windows.program.judge({"event": view, "intent": view})
    left = weakref.ref(windows.program)
    del windows
    assert left() is None
    assert found() == {}


@pytest.fixture
def made() -> Iterator[list[object]]:
    """What a test makes; then all is as Python has it."""
    before = gc.get_threshold()
    yield []
    gc.set_threshold(*before)
    gc.unfreeze()


def young() -> int:
    return gc.get_count()[0]


def test_few_young_objects_wait(made: list[object]) -> None:
    own = Collector(lambda: True)
    made += [[] for _ in range(YOUNG_MAX // 2)]
    own.step()
    assert young() >= YOUNG_MAX // 4


def test_what_a_look_has_left_is_not_looked_at_again(made: list[object]) -> None:
    own = Collector(lambda: False)
    for _ in range(5):
        made += [[] for _ in range(2 * YOUNG_MAX)]
        own.step()
        assert young() < YOUNG_MAX
        assert len(gc.get_objects()) < YOUNG_MAX  # of all generations


@pytest.mark.parametrize(("number", "is_there"), [(2 * YOUNG_MAX, False), (2 * BACKLOG_MIN, True)])
def test_a_loop_among_many_young_ones_is_found_and_with_a_backlog_waits_for_rest(
    made: list[object], number: int, is_there: bool
) -> None:
    own, loop = Collector(lambda: False), Loop()
    left = weakref.ref(loop)
    del loop
    made += [[] for _ in range(number)]
    own.step()
    assert (left() is not None) is is_there
    assert young() < YOUNG_MAX
    assert own._aged >= number  # so that a look at all comes
    gc.unfreeze()
    gc.collect()
    assert left() is None


def test_all_are_looked_at_once_they_are_twice_as_many_and_there_is_nothing_to_do(
    made: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    resting: list[bool] = []
    own, loop = Collector(lambda: bool(resting)), Loop()
    monkeypatch.setattr(own, "_all", YOUNG_MAX)
    while own._aged < YOUNG_MAX:
        made += [[] for _ in range(2 * YOUNG_MAX)]
        own.step()
    left, now = weakref.ref(loop), time.monotonic()
    del loop
    for rests, at_s, is_there in ((0, 100, 1), (1, 101, 1), (0, 102, 1), (1, 102 + 0.9 * REST_S, 1), (1, 103 + REST_S, 0)):
        resting[:] = [True] * rests
        monkeypatch.setattr(time, "monotonic", lambda at_s=at_s: now + at_s)
        own.step()
        assert (left() is not None) is bool(is_there)
    assert own._all > YOUNG_MAX


def test_a_look_that_would_take_too_long_is_not_taken(made: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    own, looked = Collector(lambda: True), []
    monkeypatch.setattr(own, "_all", 1)
    monkeypatch.setattr(own, "_aged", 2)
    monkeypatch.setattr(own, "_busy_at", time.monotonic() - 2 * REST_S)
    monkeypatch.setattr(own, "_look_at_all", lambda: looked.append(True))
    monkeypatch.setattr("harness_stream.runtime.collector.WHOLE_MAX", gc.get_freeze_count() - 1)
    own.step()
    assert not looked
    monkeypatch.setattr("harness_stream.runtime.collector.WHOLE_MAX", 2 * gc.get_freeze_count())
    monkeypatch.setattr(own, "_aged", 2)
    own.step()
    assert looked


class Loop:
    """Refers to itself."""

    def __init__(self) -> None:
        self.own = self
