"""Cold units while the store is away: from their snapshots and the log, exact or not at all (PROTOCOL §6)."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from harness_stream.core import limits
from harness_stream.core.ids import ids_unit
from harness_stream.core.lanes import partition_of
from harness_stream.core.partition import Phase
from harness_stream.core.state import PARTITION_UNIT
from harness_stream.errors import StateUnavailable
from harness_stream.runtime import cold, progress, takeover
from tests.log_checker import check_store, fold_partition
from tests.simulation.faults import store_away
from tests.simulation.judge import check
from tests.simulation.script import play, script
from tests.simulation.test_warming import BEFORE, FEW
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, World, bundle, compiled

if TYPE_CHECKING:
    from harness_stream.runtime.owner import Owner

AGENT, OTHER = "agent-1", "agent-4"  # of one lane
UNIT = f"a:{AGENT}"
HOME = partition_of(AGENTS[AGENT], PARTITIONS)
NEVER = 10**9


def world_with(text: str = FEW, *, hot: int = 1_000, interval_ms: int = NEVER) -> World:
    world = World(5, 1, interval_ms, hot)
    world.push_rules(2, text)
    world.heal()
    return world


def turns(world: World, count: int) -> None:
    for _ in range(count):
        world.turn()


def read(world: World, agent: str = AGENT, **over: object) -> dict[str, Any]:
    """One read; the record that answers it."""
    sent = orjson.loads(world.send(by=agent, agent_id=agent, action="crm.read", resources=[], measures={}, **over))
    for _ in range(3_000):
        world.turn()
        for body in reversed(log(world)):
            if body.get("intent_id") == sent["intent_id"] or body.get("id") == sent["intent_id"]:
                return body
    raise AssertionError("never answered")


def log(world: World) -> list[dict[str, Any]]:
    return [orjson.loads(r.value or b"{}") for r in world.everything(TOPICS.verdicts, HOME)]


def owner(world: World) -> Owner:
    return world.members[0].worker.owners[HOME]


def restart(world: World) -> None:
    """Everything is cold afterwards, and what snapshots hold is known."""
    turns(world, 50)  # the store follows
    world.crash(0)
    for _ in range(6_000):
        world.turn()
        if HOME in world.members[0].worker.owners and owner(world).phase is Phase.DECIDING:
            break
    turns(world, 100)
    assert not owner(world).state.has(UNIT)


def snapshot(world: World) -> None:
    """Everything is in snapshots, and a checkpoint says so."""
    turns(world, 50)
    keeper = owner(world)._snapshots
    keeper._interval_ms = 0
    for _ in range(1_000):
        world.turn()
        if keeper.cut == owner(world).place.offset:
            break
    assert keeper.is_clean(UNIT)
    keeper._interval_ms = NEVER
    turns(world, 400)
    read(world, OTHER)
    turns(world, 50)


def recomputed(world: World, *texts: str) -> None:
    """Every verdict recomputes on the log before it, and the store equals the log."""
    world.store.down = False
    world.heal()
    bundles = {hashlib.sha256(data).hexdigest(): compiled(data) for data in map(bundle, (*texts, FEW))} | {
        hashlib.sha256(bundle()).hexdigest(): compiled(bundle())
    }
    inputs, verdicts = world.everything(TOPICS.intents, HOME), world.everything(TOPICS.verdicts, HOME)
    check_store(fold_partition(inputs, verdicts, HOME, "i1", bundles), world.store, HOME)


def counted(body: dict[str, Any]) -> Any:
    return body["reasons"][0]["counted"]


def test_a_unit_that_was_evicted_is_served_from_its_snapshot() -> None:
    world = world_with(hot=2, interval_ms=100)
    for _ in range(5):
        read(world)
    for _ in range(50):
        read(world, OTHER)
        if not owner(world).state.has(UNIT):
            break
    world.store.down = True
    assert counted(read(world)) == [6, 6]
    recomputed(world)


@pytest.mark.parametrize("after", [0, 3])
def test_a_unit_that_was_cold_since_the_load_is_served_from_snapshot_and_log(after: int) -> None:
    """Snapshots hold the first reads, only the store and the log those after them."""
    world = world_with()
    for _ in range(5 - after):
        read(world)
    snapshot(world)
    for _ in range(after):
        read(world)
        read(world, OTHER)
    restart(world)
    assert owner(world)._snapshots.is_clean(UNIT) == (not after)
    world.store.down = True
    assert counted(read(world)) == [6, 6]
    recomputed(world)


def test_a_snapshot_that_cannot_be_read_off_the_disk_is_a_reject_and_halts_nobody() -> None:
    world = world_with()
    for _ in range(5):
        read(world)
    snapshot(world)
    restart(world)
    world.store.down = True
    world.broker.damage(TOPICS.chains, HOME, owner(world)._snapshots.offsets[UNIT])
    assert read(world)["reason"] == "state_unavailable"
    assert owner(world).phase is Phase.DECIDING
    world.broker.damage(TOPICS.chains, HOME, None)
    recomputed(world)


def test_without_any_snapshot_the_log_alone_serves() -> None:
    world = world_with()
    for _ in range(5):
        read(world)
    restart(world)
    world.store.down = True
    assert counted(read(world)) == [6, 6]
    recomputed(world)


def test_a_worker_that_wrote_other_snapshots_since_still_knows_the_old_ones() -> None:
    world = world_with()
    for _ in range(5):
        read(world)
    snapshot(world)
    for _ in range(3):  # each under an epoch of its own
        restart(world)
        read(world, OTHER)
        snapshot(world)
    world.store.down = True
    assert not owner(world).state.has(UNIT)
    assert counted(read(world)) == [6, 6]
    recomputed(world)


def test_of_a_units_snapshots_the_one_that_stands_furthest_counts() -> None:
    """A former owner's late write lands last."""
    world = world_with()
    read(world)
    snapshot(world)
    old = next(r for r in world.everything(TOPICS.chains, HOME) if f"/{UNIT}@".encode() in (r.key or b""))
    restart(world)
    for _ in range(4):
        read(world)
    snapshot(world)
    world.broker.append(TOPICS.chains, HOME, old.key, old.value)
    restart(world)
    world.store.down = True
    assert counted(read(world)) == [6, 6]
    recomputed(world)


def test_a_log_that_retention_shortened_meanwhile_serves_nobody() -> None:
    world = world_with()
    for _ in range(3):
        read(world)
    restart(world)
    world.broker.truncate_before(TOPICS.verdicts, HOME, owner(world).place.offset)
    turns(world, 100)
    world.store.down = True
    world.send(by=AGENT, agent_id=AGENT, action="crm.read", resources=[], measures={})
    turns(world, 1_000)
    assert log(world)[-1].get("reason") == "state_unavailable" or log(world)[-2]["reason"] == "state_unavailable"


@pytest.mark.parametrize("from_", ["log", "snapshot"])
def test_what_the_store_brought_meanwhile_is_not_replaced_by_what_is_older(from_: str) -> None:
    world = world_with()
    read(world)
    if from_ == "snapshot":
        snapshot(world)
    restart(world)
    deciding, state = owner(world)._deciding, owner(world).state
    fetch = deciding._loader.cold(owner(world)._snapshots).fetch([UNIT], state, deciding._windows_confirmed)
    next(fetch)
    read(world)
    if from_ == "snapshot":
        snapshot(world)
        state.evict(UNIT)
    assert not list(fetch)
    for _ in range(3):
        read(world)
    assert counted(read(world)) == [6, 6]


def test_units_that_come_one_by_one_do_not_leave_before_all_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with()
    read(world)
    parent = {"agent_id": OTHER, "intent_id": read(world, OTHER)["intent_id"]}
    snapshot(world)
    world.realm = replace(world.realm, hot_units_max=1)
    restart(world)
    monkeypatch.setattr(limits, "COLD_FETCH_BYTES_MAX", 1)
    assert read(world, parent=parent)["decision"] == "approve"


def test_what_stands_in_no_snapshot_and_no_log_is_rejected_and_nobody_behind_waits_for_it() -> None:
    world = world_with()
    read(world)
    snapshot(world)
    restart(world)
    world.broker.truncate_before(TOPICS.chains, HOME, world.broker.bounds(TOPICS.chains, HOME)[1])
    world.store.down = True
    assert read(world)["reason"] == "state_unavailable"
    began_ms = world.clock.elapsed_ms()
    answers = [read(world)["reason"] for _ in range(3)]
    assert answers == ["state_unavailable"] * 3
    assert world.clock.elapsed_ms() - began_ms < limits.STORE_PATIENCE_MS, "it is known by then"
    world.store.down = False
    assert read(world)["decision"] == "approve"
    recomputed(world)


def test_snapshots_that_end_before_the_cut_of_the_checkpoint_serve_nobody() -> None:
    """The chains topic lost its end (an unclean election): what is left says nothing of what came after it."""
    world = world_with()
    read(world)
    snapshot(world)
    end = world.broker.bounds(TOPICS.chains, HOME)[1]
    read(world)
    snapshot(world)
    records = world.broker.logs[TOPICS.chains, HOME].records
    del records[end:]
    restart(world)
    world.store.down = True
    assert read(world)["reason"] == "state_unavailable"
    recomputed(world)


def test_a_read_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with()
    read(world)
    snapshot(world)
    restart(world)
    reader = world.members[0].worker._ports.reader
    follow = reader.follow
    monkeypatch.setattr(reader, "follow", lambda topic, *rest: topic == TOPICS.chains or follow(topic, *rest))
    world.store.down = True
    began_ms = world.clock.elapsed_ms()
    assert read(world)["reason"] == "state_unavailable"
    assert world.clock.elapsed_ms() - began_ms < 3 * limits.STORE_PATIENCE_MS


def test_nobody_waits_beyond_the_deadline() -> None:
    world = world_with()
    read(world)
    snapshot(world)
    restart(world)
    world.broker.truncate_before(TOPICS.chains, HOME, world.broker.bounds(TOPICS.chains, HOME)[1])
    world.store.down = True
    began_ms = world.clock.elapsed_ms()
    assert read(world, deadline_ms=200)["reason"] == "state_unavailable"
    assert world.clock.elapsed_ms() - began_ms < limits.STORE_PATIENCE_MS // 2


@pytest.fixture(params=["before the switch", "before units took over"])
def taken_over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """Units took over their windows in the store; their snapshots are from before, and no record named them."""
    world = world_with(BEFORE)
    for _ in range(5):
        read(world)
    snapshot(world)
    world.push_rules(3, FEW)
    if request.param != "before the switch":
        monkeypatch.setattr(takeover, "UNITS_PER_TURN", 0)
        turns(world, 200)
        snapshot(world)
        monkeypatch.undo()
    world.heal()
    read(world, OTHER)  # the store moves with the next record
    restart(world)
    assert not owner(world).state.warmed
    return world


def test_a_snapshot_from_before_a_takeover_serves_nobody(taken_over: World) -> None:
    taken_over.store.down = True
    assert read(taken_over)["reason"] == "state_unavailable"
    recomputed(taken_over, BEFORE)


def test_the_next_snapshots_hold_what_was_taken_over(taken_over: World) -> None:
    read(taken_over, OTHER)
    snapshot(taken_over)
    taken_over.store.flush()
    taken_over.crash(0)
    taken_over.heal()
    assert counted(read(taken_over)) == [6, 6]
    recomputed(taken_over, BEFORE)


@pytest.mark.parametrize("store", ["there", "away"])
def test_what_is_more_than_one_call_may_bring_comes_with_the_next(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with()
    for agent in (AGENT, OTHER):
        read(world, agent)
    snapshot(world)
    restart(world)
    monkeypatch.setattr(limits, "COLD_FETCH_BYTES_MAX", 1)
    world.store.down = store == "away"
    for agent in (AGENT, OTHER):
        assert read(world, agent)["decision"] == "approve"
    recomputed(world)


def test_no_snapshot_is_written_of_a_unit_that_a_call_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with()
    for agent in (AGENT, OTHER) * 5:
        read(world, agent)
    restart(world)
    monkeypatch.setattr(limits, "COLD_FETCH_BYTES_MAX", 1)
    snapshot(world)
    world.store.flush()
    world.crash(0)
    world.heal()
    for agent in (AGENT, OTHER):
        assert counted(read(world, agent)) == [6, 6]


def test_one_answer_that_is_late_does_not_empty_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with()
    read(world)
    late = {"head": 3, "units": 3, "load": 3}
    cleared: list[int] = []

    def slow(name: str) -> Any:
        ask = getattr(world.store, name)

        def asked(*args: Any) -> Any:
            late[name] -= 1
            if late[name] >= 0:
                raise StateUnavailable("late")
            return ask(*args)

        return asked

    for name in late:
        monkeypatch.setattr(world.store, name, slow(name))
    monkeypatch.setattr(world.store, "clear", cleared.append)
    restart(world)
    assert not cleared
    assert not owner(world).state.has(UNIT), "it began from the store"


def test_a_store_that_stays_away_is_not_waited_for_long() -> None:
    world = world_with()
    read(world)
    world.store.down = True
    world.crash(0)
    turns(world, 4_000)
    assert owner(world).phase is Phase.DECIDING
    assert read(world)["decision"] == "approve"


def test_memory_is_bounded_in_bytes_too() -> None:
    world = world_with(interval_ms=100)
    read(world)
    state = owner(world).state
    turns(world, 200)
    assert state.has(UNIT)
    assert state.hot_bytes > 500
    object.__setattr__(world.realm, "hot_bytes_max", 500)
    for _ in range(20):
        read(world, OTHER)
    assert not state.has(UNIT)
    assert read(world)["decision"] == "approve"
    assert state.hot_bytes >= len(world.store.load(HOME, [UNIT])[UNIT].base), "it weighs what it had"


def loaded_then_left(seed: int) -> World:
    """Traffic, a crash, a successor that starts from the store, and then a store that comes and goes."""
    world = World(seed, 1, (150, 400, 1_500)[seed % 3], 3 if seed % 2 else 1_000)
    steps = script(seed, (), 120)
    play(world, steps[:60])
    world.crash(0)
    while len(decides(world)) < PARTITIONS:
        world.turn()
    turns(world, world.random.randint(5, 60))
    for step in steps[60:]:
        if step.index % 6 == 0:
            store_away(world)
        play(world, [step])
    world.heal()
    return world


def decides(world: World) -> list[Owner]:
    return [o for o in world.members[0].worker.owners.values() if o.phase is Phase.DECIDING]


@pytest.mark.parametrize("half", [0, 1])
def test_whenever_the_store_goes_and_comes_what_is_served_is_exact(half: int, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[bool] = []
    install = cold._install

    def noted(state: Any, unit: str, read: Any, windows: Any) -> bool:
        assert unit != PARTITION_UNIT
        installed.append(bool(read.deltas))
        return install(state, unit, read, windows)

    monkeypatch.setattr(cold, "_install", noted)
    for seed in range(8 * half, 8 * half + 8):
        check(loaded_then_left(seed))
    assert set(installed) == {True, False}, "alone and with what the log says"


# --- a start without the store ---


def rebuilt(world: World) -> Owner:
    """The worker anew, from snapshots and log alone."""
    world.crash(0)
    world.store.flush()
    for _ in range(6_000):
        world.turn()
        if HOME in world.members[0].worker.owners and owner(world).phase is Phase.DECIDING:
            return owner(world)
    raise AssertionError("never decided again")


def test_units_that_nobody_looks_into_stay_as_they_were_written() -> None:
    world = world_with()
    read(world)
    snapshot(world)
    keeper = rebuilt(world)
    acted = f"a:{OTHER}"  # it acted after the snapshots were sealed
    kept = {unit for unit in keeper.state.units() if keeper.state.packed(unit) is not None}
    assert UNIT in kept
    assert acted not in kept
    assert read(world)["kind"] == "verdict"
    assert keeper.state.packed(UNIT) is None
    turns(world, 600)
    recomputed(world)


def test_a_long_start_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "PROGRESS_MS", 1)
    caplog.set_level("INFO", "harness_stream.runtime.progress")
    world = world_with()
    read(world)
    snapshot(world)
    rebuilt(world)
    assert any("snapshots, " in line for line in caplog.messages)
    assert any("records of the decision log, " in line for line in caplog.messages)


def test_a_snapshot_that_cannot_be_taken_apart_halts_instead_of_forgetting(caplog: pytest.LogCaptureFixture) -> None:
    world = world_with()
    read(world)
    snapshot(world)
    broken = next(r for r in reversed(world.everything(TOPICS.chains, HOME)) if f"/{UNIT}@".encode() in (r.key or b""))
    world.broker.append(TOPICS.chains, HOME, broken.key, (broken.value or b"").replace(b'"items":[[["', b'"items":[[["no-'))
    world.crash(0)
    world.store.flush()
    turns(world, 4_000)
    world.send(by=AGENT, agent_id=AGENT, action="crm.read", resources=[], measures={})
    turns(world, 50)
    assert owner(world).phase is Phase.HALTED
    assert "a snapshot cannot be read" in caplog.text


def test_a_cold_agent_is_not_judged_by_an_older_store_that_nobody_has_noticed_yet() -> None:
    """Found by the oracle, seed 63: the store was restored from an older dump, and an agent came back as it was then."""
    world = world_with(hot=2, interval_ms=100)
    read(world)
    turns(world, 50)
    older = world.store.snapshot()
    for _ in range(4):
        read(world)
    for _ in range(50):
        read(world, OTHER)
        if not owner(world).state.has(UNIT):
            break
    world.store.restore(older)
    assert counted(read(world)) == [6, 6]
    recomputed(world)


def newest_snapshot(world: World, unit: str) -> Any:
    return next(r for r in reversed(world.everything(TOPICS.chains, HOME)) if f"/{unit}@".encode() in (r.key or b""))


def test_a_snapshot_that_was_cut_short_halts_instead_of_forgetting(caplog: pytest.LogCaptureFixture) -> None:
    world = world_with()
    read(world)
    snapshot(world)
    newest = newest_snapshot(world, UNIT)
    world.broker.append(TOPICS.chains, HOME, newest.key, newest.value[:-5])
    world.crash(0)
    world.store.flush()
    turns(world, 4_000)
    assert owner(world).phase is Phase.HALTED
    assert f"a snapshot cannot be read: {UNIT}" in caplog.text


def test_a_damaged_unit_that_is_only_written_to_halts_as_well() -> None:
    """An approval remembers its intent's id without looking it up."""
    ask = "rules:\n  - {id: ask, effect: hold, when: 'intent.action == \"search.query\"'}"
    world = world_with(FEW.replace("rules:", ask, 1))
    sent = orjson.loads(world.send(by=AGENT, agent_id=AGENT, action="search.query", resources=[], measures={}))
    turns(world, 100)
    held = next(
        r
        for r in world.everything(TOPICS.verdicts, HOME)
        if orjson.loads(r.value or b"{}").get("intent_id") == sent["intent_id"]
    )
    snapshot(world)
    unit = ids_unit(sent["intent_id"])
    broken = newest_snapshot(world, unit)
    world.broker.append(TOPICS.chains, HOME, broken.key, broken.value.replace(b'"items":[[["', b'"items":[[["no-'))
    assert rebuilt(world).state.packed(unit) is not None
    digest = hashlib.sha256(held.value or b"").hexdigest()
    answer = {"type": "approval", "by": "approver-0", "approval_id": world.uuid7(), "decision": "approve"}
    world._say(AGENT, **answer, declassify=[], hold_digest=digest, hold_offset=held.offset)
    turns(world, 50)
    assert owner(world).phase is Phase.HALTED
