"""A rule that is new or edited applies to history: its windows are warmed before the partition switches (DESIGN §5)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from harness_stream.adapters.memory.broker import Fate
from harness_stream.core.apply import change_of
from harness_stream.core.chain import AGENT_KEY, Agent
from harness_stream.core.counting import WARMUPS_KEY, switched, warm
from harness_stream.core.fold import Place
from harness_stream.core.groups import Kept, generation, window_of
from harness_stream.core.lanes import partition_of
from harness_stream.core.names import agent_unit
from harness_stream.core.state import State
from harness_stream.core.warming import Warmup
from harness_stream.runtime import takeover, warming
from harness_stream.runtime.deciding import BATCH_RECORDS_MAX
from tests.log_checker import fold_partition
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, World, bundle, compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.ports import LogRecord

BEFORE = """
rule_set: sim
default: deny
selections:
  reads: event.action == "crm.read"
rules:
  - {id: allowed, effect: approve, when: "intent.action in identity.actions"}
"""
AFTER = (
    BEFORE
    + """
  - id: reads-of-one
    effect: deny
    when: reads
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 1h, condition: {gt: 600}}
  - id: reads-of-all
    effect: deny
    when: reads
    correlation: {type: event_count, rules: [reads], group-by: [tenant], timespan: 1h, condition: {gt: 700}}
"""
)


def world_with(text: str = BEFORE) -> World:
    world = World(5, workers=1)
    world.push_rules(2, text)
    world.heal()
    return world


def reads(world: World, count: int, agent: str = "agent-1") -> None:
    """So many reads of an agent, one at a time."""
    for _ in range(count):
        world.send(by=agent, agent_id=agent, action="crm.read", chain_id=None, resources=[], measures={})
        for _ in range(4):
            world.turn()
    world.heal()


def switch(world: World, text: str = AFTER, *, now: bool = False) -> None:
    world.push_rules(world.revision + 1, text, now=now)
    world.heal()


def log_of(world: World, agent: str = "agent-1") -> list[dict[str, Any]]:
    return bodies(world, partition_of(AGENTS[agent], PARTITIONS))


def bodies(world: World, partition: int) -> list[dict[str, Any]]:
    return [orjson.loads(r.value) for r in world.everything(TOPICS.verdicts, partition)]


def newest(world: World, agent: str = "agent-1") -> dict[str, Any]:
    return next(b for b in reversed(log_of(world, agent)) if b["kind"] == "verdict" and b["agent_id"] == agent)


def recomputed(world: World, *more: str) -> None:
    """Every verdict recomputes on the log before it."""
    texts = (bundle(), *(bundle(text) for text in (BEFORE, AFTER, *more)))
    bundles = {hashlib.sha256(b).hexdigest(): compiled(b) for b in texts}
    for p in range(PARTITIONS):
        fold_partition(world.everything(TOPICS.intents, p), world.everything(TOPICS.verdicts, p), p, "i1", bundles)


@pytest.fixture(scope="module")
def busy() -> World:
    """Agent 1 has read 600 times, more than its chain keeps."""
    world = world_with()
    reads(world, 600)
    return world


def test_what_was_before_the_switch_counts_after_it_also_beyond_what_chains_keep(busy: World) -> None:
    switch(busy)
    reads(busy, 1)
    reason = newest(busy)["reasons"][0]
    assert (reason["rule"], reason["counted"]) == ("reads-of-one", [601, 601])
    assert not reason.get("unknown")
    reads(busy, 100, "agent-4")  # the same tenant
    reads(busy, 1, "agent-4")
    reason = newest(busy, "agent-4")["reasons"][0]
    assert (reason["rule"], reason["counted"]) == ("reads-of-all", [701, 701])
    recomputed(busy)


def test_at_once_means_unknown_until_warm() -> None:
    world = world_with()
    reads(world, 3)
    switch(world, AFTER.replace("gt: 700", "gt: 5"), now=True)
    reads(world, 1)
    reason = newest(world)["reasons"][0]
    assert (reason["rule"], reason["unknown"], reason["counted"]) == ("reads-of-all", True, [1, None])
    assert [b["warmed"] for b in log_of(world) if b["kind"] == "switch"] == [None] * 2


@pytest.mark.parametrize("store", ["kept", "flushed"])
@pytest.mark.parametrize("group", ["tenant", "action"])
def test_an_ordinary_push_of_the_same_set_then_warms_it(store: str, group: str) -> None:
    text = AFTER.replace("gt: 700", "gt: 5").replace("[tenant]", f"[{group}]")
    world = world_with()
    reads(world, 4)
    switch(world, text, now=True)
    reads(world, 1)
    assert newest(world)["decision"] == "deny"
    switch(world, text)
    if store == "flushed":
        world.store.flush()
        world.crash(0)
        world.heal()
    reads(world, 1)
    assert newest(world)["decision"] == "approve", "it was the fifth, and that is known"
    reads(world, 1)
    reason = newest(world)["reasons"][0]
    assert (reason["rule"], reason.get("unknown"), reason["counted"]) == ("reads-of-all", None, [6, 6])


@pytest.mark.parametrize("kept", [0, 3, 4_096])
def test_the_old_set_decides_until_the_windows_are_warm(kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little of what is published meanwhile is kept in memory."""
    monkeypatch.setattr(warming, "LATER_MAX", kept)
    world = world_with()
    reads(world, 300)
    strict = AFTER.replace("gt: 600", "gt: 300")
    world.push_rules(3, strict)
    for _ in range(40):
        world.send(by="agent-1", agent_id="agent-1", action="crm.read", resources=[], measures={})
        world.turn()
    world.heal()
    log = [b for b in log_of(world) if b["kind"] in {"verdict", "switch"}]
    at = next(i for i, b in enumerate(log) if b["kind"] == "switch" and b["rules"]["revision"] == 3)
    between = sum(b["rules"]["revision"] == 2 for b in log[300:at])
    assert between > 0, "the partition went on deciding while it warmed"
    assert all(b["rules"]["revision"] == 3 for b in log[at:])
    reads(world, 1)
    approved = sum(b["kind"] == "verdict" and b["decision"] == "approve" for b in log_of(world))
    assert newest(world)["reasons"][0]["counted"] == [approved + 1, approved + 1]
    recomputed(world, strict)


def test_units_take_over_and_then_nobody_counts_again(busy: World) -> None:
    reads(busy, 1)  # the store moves with the next record
    for member in busy.members:
        for owner in member.worker.owners.values():
            assert not owner.state.warmed
            assert owner.state.confirmed("p").get(WARMUPS_KEY) in (None, {})


@pytest.mark.parametrize("store", ["kept", "flushed", "older"])
@pytest.mark.parametrize("turns", range(0, 120, 8))
@pytest.mark.parametrize("group", ["tenant", "action"])
def test_a_crash_around_the_switch_changes_nothing(
    store: str, turns: int, group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor crosses the switch, or finds units that have not taken over, or counts anew."""
    monkeypatch.setattr(takeover, "UNITS_PER_TURN", 1)
    world = world_with()
    reads(world, 30)
    reads(world, 30, "agent-4")
    dump = world.store.snapshot()
    text = AFTER.replace("gt: 600", "gt: 30").replace("gt: 700", "gt: 30")
    world.push_rules(3, text.replace("[tenant]", f"[{group}]"))
    for _ in range(turns):
        world.turn()
    world.crash(0)
    if store == "flushed":
        world.store.flush()
    if store == "older":
        world.store.restore(dump)
    world.heal()
    for agent in ("agent-1", "agent-4"):
        reads(world, 1, agent)
        counted = {reason["rule"]: reason["counted"] for reason in newest(world, agent)["reasons"]}
        assert counted == {"reads-of-one": [31, 31], "reads-of-all": [61, 61]}


def test_a_push_that_is_overtaken_is_never_switched_to() -> None:
    world = world_with()
    reads(world, 20)
    world.push_rules(3, AFTER)
    world.push_rules(4, BEFORE)
    world.heal()
    assert [b["rules"]["revision"] for b in log_of(world) if b["kind"] == "switch"] == [2, 4]


def test_a_checkpoint_says_what_a_partition_waits_for() -> None:
    world = world_with()
    reads(world, 3)
    world.broker.append(TOPICS.rules, 0, b"active/sim", orjson.dumps({"digest": "0" * 64, "revision": 9}))
    for _ in range(1_500):
        world.turn()
    told = [b["next_rules"] for b in log_of(world) if b["kind"] == "checkpoint"][-1]
    assert (told["revision"], told["state"]) == (9, "unusable")
    assert "is not in the rules topic" in told["detail"]
    reads(world, 1)
    assert newest(world)["decision"] == "approve", "the set in force stays"


def test_a_quiet_partition_can_be_given_up_after_a_takeover(monkeypatch: pytest.MonkeyPatch) -> None:
    """What units took over at rest has no record to move the store with; nobody waits for one."""
    monkeypatch.setattr(takeover, "UNITS_PER_TURN", 1)
    world = world_with()
    reads(world, 10)
    reads(world, 10, "agent-4")
    switch(world)
    for _ in range(2_000):
        world.turn()
    worker = world.members[0].worker
    worker.stop()
    for _ in range(2_000):
        world.turn()
    assert worker.stopped


def test_units_that_are_never_at_rest_take_over_all_the_same() -> None:
    world = world_with()
    reads(world, 30)
    world._fate = lambda _: Fate(land_after_ms=30, report_after_ms=30)
    for member in world.members:
        member.writer._fate = world._fate
    world.push_rules(world.revision + 1, AFTER)
    owners = [o for m in world.members for o in m.worker.owners.values() if o.state.confirmed("a:agent-1")]
    for _ in range(3_000):
        world.send(by="agent-1", agent_id="agent-1", action="crm.read", chain_id=None, resources=[], measures={})
        world.turn()
    assert [o.place.header.rules[1] for o in owners] == [world.revision]
    assert not any(o.state.warmed for o in owners)


FEW = (
    BEFORE
    + """
  - id: few
    effect: deny
    when: reads
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 1h, condition: {gt: 5}}
"""
)


def test_a_unit_fetched_under_a_switch_that_is_lost_has_lost_no_count() -> None:
    """What is stored is confirmed, so it is replayed by the confirmed bundle, whatever is in flight."""
    world = World(5, workers=1, hot_units_max=2, snapshot_interval_ms=200)
    world.push_rules(2, FEW)
    world.heal()
    reads(world, 5)
    owner = next(o for o in world.members[0].worker.owners.values() if o.state.confirmed("a:agent-1"))
    while owner.state.has("a:agent-1"):
        for other in ("agent-4", "agent-2", "agent-5", "agent-0", "agent-3"):
            reads(world, 1, other)
    lost: list[int] = []

    def fate(record: LogRecord) -> Fate:
        kind = orjson.loads(record.value or b"{}").get("kind") if record.topic == TOPICS.verdicts else None
        if kind == "switch" and record.partition == owner.partition and not lost:
            lost.append(record.partition)
            return Fate(land_after_ms=300, report_after_ms=300, lands=False, reports="failed")
        return Fate(land_after_ms=1, report_after_ms=1)

    world.members[0].writer._fate = fate
    world.push_rules(3, FEW.replace("timespan: 1h", "timespan: 2h"), now=True)
    while not lost:
        world.turn()
    world.send(by="agent-1", agent_id="agent-1", action="crm.read", chain_id=None, resources=[], measures={})
    for _ in range(10):
        world.turn()
    world.push_rules(4, FEW)
    world.heal()
    reads(world, 1)
    assert newest(world)["reasons"][0]["counted"] == [6, 6]


SUMMED = (
    BEFORE
    + """
  - id: rows-of-all
    effect: deny
    when: reads
    correlation: {type: value_sum, rules: [reads], timespan: 1h, condition: {field: measures.rows, gt: 100}}
"""
)


@pytest.mark.parametrize("row_gone", [False, True])
def test_an_outcome_counts_in_its_lane_whatever_became_of_the_agents_row(row_gone: bool) -> None:
    world = World(5, workers=1, snapshot_interval_ms=10**9)
    world.push_rules(2, SUMMED)
    world.heal()

    def read(agent: str, rows: int) -> None:
        world.send(by=agent, agent_id=agent, action="crm.read", chain_id=None, resources=[], measures={"rows": rows})
        world.heal()

    read("agent-4", 60)
    read("agent-1", 30)
    verdict = newest_record(world)
    for _ in range(2):  # every unit is cold afterwards
        world.crash(0)
        world.heal()
    if row_gone:
        world.broker.append(TOPICS.identity, 0, b"agent-1", None)
        for _ in range(50):
            world.turn()
    world._say(
        "agent-1",
        type="outcome",
        by="agent-1",
        outcome_id=world.uuid7(),
        intent_id=orjson.loads(verdict)["intent_id"],
        verdict_digest=hashlib.sha256(verdict).hexdigest(),
        status="done",
        measures={"rows": 35},
    )
    world.heal()
    read("agent-4", 20)
    assert newest(world, "agent-4")["reasons"][0]["counted"] == [115, 115]


def newest_record(world: World, agent: str = "agent-1") -> bytes:
    records = [r.value or b"" for p in range(PARTITIONS) for r in world.everything(TOPICS.verdicts, p)]
    return [value for value in records if orjson.loads(value).get("agent_id") == agent][-1]


def test_a_count_that_retention_overtakes_knows_nothing_before_its_end() -> None:
    world = world_with()
    reads(world, 5)
    world.clock.advance(2_000)
    reads(world, 50)
    partition = partition_of(AGENTS["agent-1"], PARTITIONS)
    owner = world.members[0].worker.owners[partition]
    place = next(
        Place.from_json(b) for b in bodies(world, partition) if b["kind"] == "checkpoint" and b["verdict_offset"] > 3
    )
    end = world.broker.bounds(TOPICS.verdicts, partition)[1]
    world.broker.truncate_before(TOPICS.verdicts, partition, end - 10)
    warmup = Warmup(compiled(bundle(AFTER)), place)
    counting = owner._loader.history.count(warmup, end, 99, owner.place.header.t)
    for _ in counting:
        world.turn()
    assert warmup.since == owner.place.header.t


def test_who_takes_over_after_retention_took_the_count_knows_nothing_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The store holds units from before the switch, and the log no longer what they were to take over."""
    monkeypatch.setattr(takeover, "UNITS_PER_TURN", 0)
    world = world_with()
    reads(world, 40)
    world.push_rules(3, AFTER.replace("gt: 600", "gt: 30").replace("gt: 700", "gt: 30"))
    for _ in range(2_000):
        world.turn()
    partition = partition_of(AGENTS["agent-1"], PARTITIONS)
    assert world.members[0].worker.owners[partition].place.header.rules[1] == 3
    end = world.broker.bounds(TOPICS.verdicts, partition)[1]
    world.broker.truncate_before(TOPICS.verdicts, partition, end - 3)
    world.crash(0)
    for _ in range(6_000):
        world.turn()
    world.send(by="agent-1", agent_id="agent-1", action="crm.read", chain_id=None, resources=[], measures={})
    for _ in range(200):
        world.turn()
    reasons = {reason["rule"]: reason["counted"] for reason in newest(world)["reasons"]}
    assert {rule: hi for rule, (_, hi) in reasons.items()} == {"reads-of-one": None, "reads-of-all": None}
    assert newest(world)["decision"] == "deny"


def five_reads() -> tuple[list[dict[str, Any]], Place]:
    """Their verdicts, and the place after the first one."""
    world = world_with()
    reads(world, 5)
    partition = partition_of(AGENTS["agent-1"], PARTITIONS)
    verdicts = [b for b in bodies(world, partition) if b["kind"] == "verdict"]
    begun = Place.genesis("i1", partition)
    return verdicts, begun._replace(offset=3, header=begun.header._replace(t=verdicts[0]["t"]))


def kept_by(warmup: Warmup) -> list[Kept]:
    return [value for unit in warmup.units(3).values() for value in unit.values() if isinstance(value, Kept)]


def test_a_count_from_the_middle_of_the_log_knows_nothing_before_it_of_what_it_counts() -> None:
    """Found by the oracle, seed 939: what was counted looked exact, and one denial too few was given."""
    verdicts, middle = five_reads()
    warmup = Warmup(compiled(bundle(AFTER)), middle)
    for body in verdicts[1:]:
        change = change_of(body, "")
        assert change is not None
        warmup.take(change)
    assert {kept.state.since for kept in kept_by(warmup)} == {verdicts[0]["t"]}
    warmup.forget_before(verdicts[3]["t"])
    assert {kept.state.since for kept in kept_by(warmup)} == {verdicts[3]["t"]}


def test_warming_ends_though_every_turn_publishes_a_whole_batch() -> None:
    published = [{"kind": "ack"}] * BATCH_RECORDS_MAX  # they bring no event, so that nothing is counted

    class Log:
        offset = 0

        def place_before(self, *_: object) -> Iterator[None]:
            yield

        def count(self, *_: object) -> Iterator[None]:
            yield

    place = Place.genesis("i1", 0)
    warm = warming.Warming(Log(), compiled(bundle(AFTER)), 3, place, lambda: (place, 0, published * 4))
    run = warm.run(0)
    for _ in range(50):
        if next(run, "done") == "done":
            break
        warm.published(published)
    assert warm.ready


PER_CHAIN = (
    BEFORE
    + """
  - id: reads-in-a-chain
    effect: deny
    when: reads
    correlation: {type: event_count, rules: [reads], group-by: [chain_id], timespan: 1h, condition: {gt: 3}}
"""
)


def test_a_group_that_nothing_was_counted_in_knows_nothing_of_what_retention_took_either() -> None:
    """An agent with two chains: one was counted, the other's events were in what retention took."""
    verdicts, middle = five_reads()
    old, new = compiled(bundle(BEFORE)), compiled(bundle(PER_CHAIN))
    warmup, change = Warmup(new, middle), change_of(verdicts[1], "")
    assert change is not None
    warmup.take(change)
    t = verdicts[3]["t"]
    warmup.forget_before(t)
    state, unit = State(), agent_unit("agent-1")
    state.put(unit, AGENT_KEY, Agent(windows_for=0))
    switched(state, old, new, t, 3, warmup)
    warm(state, unit, new)
    [spec] = new.specs
    assert [window_of(state, spec, generation(state, spec.id), unit, (chain,), t).since for chain in ("agent:agent-1", "case-1")] == [t, t]
