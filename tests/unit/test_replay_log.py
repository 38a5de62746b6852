"""A stretch of the real log is decided anew: what rules cannot change stays as it was, and history is what happened."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import factories as make
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worked import Worked

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import MemoryBroker, MemoryReader
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedVerifier
from harness_stream.cli.decision_log import DecisionLog
from harness_stream.core.fold import Place
from harness_stream.core.join import empty_tables
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from harness_stream.errors import BrokerUnavailable, ConfigError, ProtocolError
from harness_stream.runtime import replay_feed
from harness_stream.runtime.replay_feed import DecidedLog, Feed, Stretch, merged, ranges_of
from harness_stream.runtime.replay_log import Answered, Known, LogReplay
from harness_stream.wire.decisions import read_body
from tests.simulation.faults import NETWORK
from tests.simulation.script import run
from tests.simulation.world import ACTIONS, AGENTS, NEW_RULES, PARTITIONS, RULES, TOPICS, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.ports import LogRecord

STRICTER = RULES.replace("{gt: 4}", "{gt: 1}")
LINK = {"incarnation", "epoch", "writer", "prev", "covers", "rules", "partition", "offset", "at"}


def stretches(world: World, first: int | dict[int, int] = 0) -> list[Stretch]:
    """Every partition from an input offset (or its own) on, folded from genesis."""
    found = []
    for partition in range(PARTITIONS):
        end = world.broker.bounds(TOPICS.intents, partition)[1]
        decisions_end = world.broker.bounds(TOPICS.verdicts, partition)[1]
        begin = first if isinstance(first, int) else first[partition]
        found.append(Stretch(partition, Place.genesis("i1", partition), decisions_end, min(begin, end), end))
    return found


def items(world: World, parts: list[Stretch]) -> Iterator[Known | Answered]:
    feed = Feed(MemoryReader(world.broker), world.clock, ranges_of(parts, TOPICS))
    return merged([DecidedLog(feed, part, TOPICS, UnsignedVerifier()) for part in parts])


def replayed(world: World, rules: str, first: int | dict[int, int] = 0, **more: Any) -> list[tuple[Any, dict[str, Any]]]:
    """(real answer, replayed body) of every input."""
    parts = stretches(world, first)
    replay = LogReplay(Windows(load(rules)), more.pop("tables", empty_tables()), "sim", **more)
    for part in parts:
        replay.begin(part.partition, part.first, part.place.header.t)
    told = []
    for item in items(world, parts):
        if isinstance(item, Known):
            replay.know(item)
        else:
            told.append((item.answer, replay.take(item)))
    return told


def essence(body: Any) -> str:
    """What was decided and why, without what links the record into its log."""
    bare = {name: value for name, value in body.items() if name not in LINK}
    if bare["kind"] == "skip":
        return "skip"
    if bare["kind"] == "ack" and bare["change"] is not None:
        bare["change"] = {name: value for name, value in bare["change"].items() if name != "revision"}
    return json.dumps(bare, sort_keys=True)


def worked(seed: int, turns: int = 30) -> World:
    """A world in which a worker without faults has decided something of everything."""
    found, choice = Worked(seed), random.Random(seed)
    for _ in range(turns):
        found.world.clock.advance(choice.choice((0, 1, 300, 1_999, 2_000)))
        found.settle()
        found.act(choice)
    return found.world


# --- The law ---


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 12))
def test_the_same_rules_decide_any_stretch_as_it_was_decided(seed: int, first: int):
    told = replayed(worked(seed), RULES, first)
    assert [essence(body) for _, body in told] == [essence(answer) for answer, _ in told]


@pytest.mark.parametrize("seed", range(6))
def test_void_records_takeovers_stale_tables_and_lost_state_change_nothing(seed: int):
    world = run(2 * seed, [*NETWORK, "crash", "pause", "table stall", "store away", "store loss", "store restore"], 120)
    told = replayed(world, RULES, 3)
    assert told
    assert [essence(body) for _, body in told] == [essence(answer) for answer, _ in told]


@pytest.mark.parametrize("seed", range(4))
def test_rules_that_were_switched_to_decide_what_came_after_as_it_was_decided(seed: int):
    """Their windows began with the history they would have counted, which is what a replay counts."""
    world, switched = World(seed, workers=1), dict[int, int]()
    world.heal()
    for turn in range(120):
        if turn == 60:
            switched = {p: world.broker.bounds(TOPICS.intents, p)[1] for p in range(PARTITIONS)}
            world.push_rules(2, NEW_RULES)
            world.heal()
        world.clock.advance(world.random.choice((10, 200, 900)))
        world.random.choice([world.send, world.send, world.follow_up, world.mandate])()
        world.heal()
    told = replayed(world, NEW_RULES, switched)
    assert len(told) > 20
    assert {answer["rules"]["revision"] for answer, _ in told if answer["kind"] == "verdict"} == {2}
    assert [essence(body) for _, body in told] == [essence(answer) for answer, _ in told]


def test_every_input_of_the_stretch_comes_once_in_its_partitions_order():
    world = worked(1)
    told = replayed(world, RULES, 2)
    for part in stretches(world, 2):
        offsets = [body["offset"] for _, body in told if body["partition"] == part.partition]
        assert offsets == list(range(part.first, part.end))
    assert [body["at"] for _, body in told] == sorted(body["at"] for _, body in told)


@pytest.mark.parametrize("seed", range(4))
def test_bounded_buffers_give_the_same(seed: int, monkeypatch):
    world = worked(seed)
    plain = replayed(world, STRICTER, 2)
    monkeypatch.setattr(replay_feed, "BUFFER_RECORDS_MAX", 12)
    monkeypatch.setattr(replay_feed, "POLL_RECORDS", 2)
    assert replayed(world, STRICTER, 2) == plain


# --- Other rules, the real history ---


def query(world: World, agent: str = "agent-0", **over: Any) -> None:
    world.send(agent_id=agent, by=agent, action="search.query", **over)
    world.heal()


def queries(count: int) -> World:
    world = World(7, workers=1)
    world.heal()
    for _ in range(count):
        world.clock.advance(100)
        query(world)
    return world


def decisions(told: list[tuple[Any, dict[str, Any]]]) -> list[str]:
    return [body.get("decision", body["kind"]) for _, body in told]


def test_other_rules_see_the_stretch_in_a_world_of_their_own():
    world = queries(6)
    assert [answer["decision"] for answer, _ in replayed(world, STRICTER)] == ["approve"] * 4 + ["deny"] * 2
    assert decisions(replayed(world, STRICTER)) == ["approve"] + ["deny"] * 5


def test_what_was_before_the_stretch_happened_whatever_they_say():
    told = replayed(queries(6), STRICTER.replace("{gt: 1}", "{gt: 3}"), 3)
    assert decisions(told) == ["deny"] * 3
    assert told[0][1]["reasons"][0]["evidence_count"] == 4


def test_an_outcome_of_what_is_denied_now_is_a_bypass_and_of_what_was_before_it_is_not():
    world = queries(2)
    partition = next(p for p in range(PARTITIONS) if world.everything(TOPICS.intents, p))
    for record in world.everything(TOPICS.verdicts, partition):
        body, digest = read_body(record.value)
        if body["kind"] != "verdict":
            continue
        outcome = {"v": 1, "type": "outcome", "realm": "sim", "agent_id": "agent-0", "by": "agent-0", "status": "done"}
        named = {"outcome_id": world.uuid7(), "intent_id": body["intent_id"], "verdict_digest": digest}
        world.publish("agent-0", orjson.dumps(outcome | named))
    world.heal()
    told = replayed(world, STRICTER, 1)
    assert [(a["kind"], b.get("decision", b.get("status")), b.get("reason")) for a, b in told] == [
        ("verdict", "deny", None),
        ("ack", "accepted", None),
        ("ack", "refused", "bypass"),
    ]


def test_who_acts_for_one_that_is_denied_now_is_denied_as_well(monkeypatch):
    people = {"grand": {"delegates": ["lead"]}, "lead": {"delegates": ["agent-0"]}}
    for agent in people:
        monkeypatch.setitem(AGENTS, agent, AGENTS["agent-0"])
    world = World(9, workers=1)
    tables = empty_tables()
    for agent, fields in people.items():
        row = {"agent_id": agent, "tenant": AGENTS["agent-0"], "actions": list(ACTIONS), "workloads": ["w1"]} | fields
        world.broker.append(TOPICS.identity, 0, agent.encode(), orjson.dumps(row))
        tables["identity"].put(agent, orjson.dumps(row), 1)
    own = {"agent_id": "agent-0", "tenant": AGENTS["agent-0"], "actions": list(ACTIONS), "workloads": ["w1"]}
    tables["identity"].put("agent-0", orjson.dumps(own), 1)
    world.heal()
    parent = None
    for agent in ("grand", "lead", "agent-0"):
        more = {} if parent is None else {"parent": parent}
        body = orjson.loads(world.send(agent_id=agent, by=agent, action="crm.read", **more))
        parent = {"agent_id": agent, "intent_id": body["intent_id"]}
        world.heal()
    ((_, grand), (_, lead), (real, child)) = replayed(world, NOT_FOR_LEAD, tables=tables)
    assert (grand["decision"], lead["decision"], child["decision"]) == ("approve", "deny", "deny")
    assert child["reasons"][0]["code"] == "delegation"
    assert [row["agent_id"] for row in real["inputs"]["above"]] == ["grand", "lead"]
    assert [row["agent_id"] for row in child["inputs"]["above"]] == ["lead"]


NOT_FOR_LEAD = RULES + "  - {id: not-lead, effect: deny, when: 'intent.agent_id == \"lead\"'}\n"


# --- Facts ---


def test_facts_are_those_the_log_recorded():
    world = queries(1)
    row = {"agent_id": "agent-0", "tenant": AGENTS["agent-0"], "status": "killed"}
    tables = empty_tables()
    tables["identity"].put("agent-0", orjson.dumps(row), 1)
    assert decisions(replayed(world, RULES, tables=tables)) == ["approve"]
    assert decisions(replayed(world, RULES, tables=tables, from_tables=True)) == ["deny"]


@pytest.mark.parametrize("by", ["conductor", "agent-3"])
def test_who_had_a_role_then_had_it_whatever_the_tables_say_now(by: str):
    world = World(4, workers=1)
    row = {"agent_id": "conductor", "tenant": AGENTS["agent-0"], "roles": ["orchestrator"]}
    world.broker.append(TOPICS.identity, 0, b"conductor", orjson.dumps(row))
    world.heal()
    common = {"v": 1, "type": "mandate", "realm": "sim", "agent_id": "agent-0", "by": by, "chain_id": "case"}
    for more in ({"expires_at": world.clock.now_ms() + 10**6}, {"close": True}):
        world.publish("agent-0", orjson.dumps(common | {"mandate_id": world.uuid7()} | more))
        world.heal()
    told = replayed(world, RULES)
    assert [body["status"] for _, body in told] == ["accepted" if by == "conductor" else "refused"] * 2
    assert [essence(body) for _, body in told] == [essence(answer) for answer, _ in told]


NEW_FIELD = RULES + '  - {id: away, effect: deny, when: "infrastructure.present && infrastructure.region == \\"south\\""}\n'


def regions(*, now: str | None) -> tuple[list[str], Any]:
    """Decisions, and which facts were used, of rules that read a field no rule read then."""
    world = World(3, workers=1)
    world.broker.append(TOPICS.infrastructure, 0, b"w1", b'{"workload_id": "w1", "region": "north"}')
    world.heal()
    query(world)
    tables = empty_tables()
    if now is not None:
        tables["infrastructure"].put("w1", orjson.dumps({"workload_id": "w1", "region": now}), 1)
    parts = stretches(world)
    replay = LogReplay(Windows(load(NEW_FIELD)), tables, "sim")
    for part in parts:
        replay.begin(part.partition, part.first, 0)
    bodies = [replay.take(item) for item in items(world, parts) if isinstance(item, Answered)]
    return [body["decision"] for body in bodies], replay.facts


def test_a_field_that_was_not_recorded_is_that_of_the_tables_now_and_is_counted():
    told, facts = regions(now="south")
    assert told == ["deny"]
    assert (facts.recorded, facts.filled, facts.unknown) == (1, {"infrastructure.region": 1}, {})


def test_a_field_nobody_knows_any_more_is_an_error_of_the_rule_that_reads_it():
    told, facts = regions(now=None)
    assert told == ["deny"]
    assert (facts.filled, facts.unknown) == ({}, {"infrastructure.region": 1})


def test_an_intent_that_came_too_late_was_too_late():
    world = World(5, workers=1)
    world.heal()
    world.send(agent_id="agent-0", by="agent-0", deadline_ms=1)
    world.clock.advance(5)
    world.heal()
    ((answer, body),) = replayed(world, make.APPROVE_ALL)
    assert (answer["reasons"], body["reasons"]) == ([body["reasons"][0]],) * 2
    assert body["reasons"][0]["code"] == "late"


# --- Runs of denials ---


def flooded(count: int = 5) -> World:
    """One query is approved, so many come too late in one record, and another one is approved."""
    world = queries(1)
    for _ in range(count):
        world.send(agent_id="agent-0", by="agent-0", deadline_ms=1)
    world.clock.advance(5)
    world.heal()
    query(world)
    return world


def the_run(world: World) -> tuple[int, LogRecord]:
    """Where it stands, and it."""
    found = [(p, r) for p in range(PARTITIONS) for r in world.everything(TOPICS.verdicts, p) if b'"kind":"denials"' in (r.value or b"")]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("first", range(8))
def test_a_stretch_may_begin_anywhere_in_a_run_and_each_of_it_was_too_late(first: int):
    world = flooded()
    told = replayed(world, RULES, first)
    assert [essence(body) for _, body in told] == [essence(answer) for answer, _ in told]
    codes = [body["reasons"][0]["code"] for _, body in told]
    assert codes == ["rule", *["late"] * 5, "rule"][first:]


@pytest.mark.parametrize("first", [0, 3])
def test_who_was_denied_in_a_run_is_known_to_have_been(first: int):
    world = flooded()
    _, run_ = the_run(world)
    row = orjson.loads(run_.value or b"")["denied"][2]
    world.publish("agent-0", world.sent[row["intent_id"]])
    world.heal()
    told = replayed(world, RULES, first)
    assert (told[-1][0]["reason"], told[-1][1]["reason"]) == ("duplicate", "duplicate")


@pytest.mark.parametrize("rows", [None, [], [None], [{"offset": 1}], "x"], ids=repr)
@pytest.mark.parametrize("first", [0, 6])
def test_a_run_that_counts_and_says_nothing_that_could_be_read_is_an_error(first: int, rows: Any):
    world = flooded()
    partition, run_ = the_run(world)
    body = orjson.dumps(orjson.loads(run_.value or b"") | {"denied": rows})
    [part] = [part for part in stretches(world, first) if part.partition == partition]
    world.broker.truncate_from(TOPICS.verdicts, partition, run_.offset)
    world.broker.append(TOPICS.verdicts, partition, None, body, UNSIGNED_HEADERS)
    with pytest.raises(ProtocolError, match="breaks its schema"):
        list(items(world, [part._replace(decisions_end=run_.offset + 1)]))


def test_what_was_skipped_or_rejected_stays_so():
    world = queries(1)
    value = next(iter(world.sent.values()))
    world.publish("agent-0", value)
    world.publish("agent-0", b"no JSON")
    elsewhere = next(p for p in range(PARTITIONS) if not world.everything(TOPICS.intents, p))
    world.publish("agent-0", value.replace(b"search.query", b"search.other"), elsewhere)
    world.heal()
    told = {
        body["kind"]: body["reason"] if body["kind"] == "reject" else body["offsets"][0]["reason"]
        for _, body in replayed(world, make.APPROVE_ALL, 1)
        if body["kind"] != "verdict"
    }
    assert told == {"reject": "duplicate", "skip": "not_json"}
    assert {b["reason"] for _, b in replayed(world, make.APPROVE_ALL) if b["kind"] == "reject"} == {
        "duplicate",
        "wrong_partition",
    }


def test_another_realms_log_is_refused_with_its_name():
    world = queries(1)
    parts = stretches(world)
    replay = LogReplay(Windows(load(RULES)), empty_tables(), "elsewhere")
    for part in parts:
        replay.begin(part.partition, 0, 0)
    with pytest.raises(ConfigError, match="realm `sim`'s") as error:
        [replay.take(item) for item in items(world, parts) if isinstance(item, Answered)]
    assert "--realm sim" in error.value.hint


# --- Where reading begins and ends ---


def test_inputs_that_no_worker_has_answered_yet_are_left_out():
    world = queries(2)
    world.publish("agent-0", b"not yet")
    (part,) = [part for part in stretches(world) if part.end]
    feed = Feed(MemoryReader(world.broker), world.clock, ranges_of([part], TOPICS))
    log = DecidedLog(feed, part, TOPICS, UnsignedVerifier())
    assert len(list(log)) == 2
    assert log.undecided == 1
    assert feed.share == 1


def test_inputs_that_an_operator_left_out_are_left_out():
    """Each was decided as if the next one's answer had been its own."""
    world = queries(4)
    (part,) = [part for part in stretches(world) if part.end]
    verdicts = world.everything(TOPICS.verdicts, part.partition)
    lost = next(r.offset for r in verdicts if read_body(r.value)[0].get("covers") == [2, 2])
    world.broker.truncate_from(TOPICS.verdicts, part.partition, lost)
    world.cut.add(part.partition)  # so that healing wakes its owner, which finds it out
    world.heal()
    world.cut.clear()
    query(world)
    answers = [read_body(r.value)[0] for r in world.everything(TOPICS.verdicts, part.partition)]
    (went_on,) = [body["next_input"] for body in answers if body["kind"] == "resume"]
    assert went_on > 2
    told = [body for _, body in replayed(world, RULES) if body["partition"] == part.partition]
    assert [body["offset"] for body in told] == [0, 1, *range(went_on, world.inputs_end(part.partition))]


def test_a_stretch_ends_before_its_end():
    world = queries(5)
    (part,) = [part._replace(first=1, end=3) for part in stretches(world) if part.end]
    found = list(items(world, [part]))
    assert [item.record.offset for item in found if isinstance(item, Answered)] == [1, 2]
    assert [type(item) for item in found] == [Known, Answered, Answered]


def test_a_log_of_other_topics_than_these_is_not_taken_for_an_empty_one():
    world = queries(1)
    (part,) = [part._replace(place=Place.genesis("i2", part.partition)) for part in stretches(world) if part.end]
    with pytest.raises(ProtocolError, match="counts") as error:
        list(items(world, [part]))
    assert "recreated" in error.value.hint


def test_a_forged_record_is_no_answer():
    world = queries(1)
    (part,) = [part for part in stretches(world) if part.end]

    class Nobody(UnsignedVerifier):
        def decision_authentic(self, record: LogRecord) -> bool:
            return False

    feed = Feed(MemoryReader(world.broker), world.clock, ranges_of([part], TOPICS))
    with pytest.raises(ProtocolError):
        list(DecidedLog(feed, part, TOPICS, Nobody()))


class Impatient(ManualClock):
    """Time passes whenever it is asked for."""

    def elapsed_ms(self) -> int:
        self.advance(600)
        return super().elapsed_ms()


def test_a_reader_that_retention_overtakes_says_so():
    clock = Impatient()
    broker = MemoryBroker({"log": 1}, clock.now_ms)
    for number in range(5):
        broker.append("log", 0, None, b"%d" % number, UNSIGNED_HEADERS)
    feed = Feed(MemoryReader(broker), clock, {("log", 0): (1, 5)})
    broker.truncate_before("log", 0, 3)
    with pytest.raises(ProtocolError, match="kept from offset 3 on"):
        feed.peek("log", 0)


def test_a_broker_that_falls_silent_is_an_error_not_an_end():
    clock = Impatient()
    feed = Feed(MemoryReader(MemoryBroker({}, clock.now_ms)), clock, {("log", 0): (0, 5)})
    with pytest.raises(BrokerUnavailable):
        feed.peek("log", 0)


def test_who_begins_before_the_range_has_handed_out_nothing_yet():
    """An audit whose log answers inputs again, from before those that it was to begin with."""
    clock = ManualClock()
    broker = MemoryBroker({"log": 1}, clock.now_ms)
    for number in range(10):
        broker.append("log", 0, None, b"%d" % number, UNSIGNED_HEADERS)
    feed = Feed(MemoryReader(broker), clock, {("log", 0): (8, 10)})
    shares = []
    for first in (0, 5, 0):
        feed.begin("log", 0, first)
        shares.append(feed.share)
    assert shares == [0, 0.5, 0]
    while feed.peek("log", 0) is not None:
        feed.pop("log", 0)
    assert feed.share == 1


@pytest.mark.parametrize("offset", [0, 1, 4, 9, 10**6])
@pytest.mark.parametrize("low", [0, 3, 20])
def test_history_can_begin_anywhere_a_checkpoint_allows(offset: int, low: int):
    world = World(11, workers=1)
    for number in range(60):
        world.clock.advance(400)
        query(world, f"agent-{number % 6}")
    for partition in range(PARTITIONS):
        world.broker.truncate_before(TOPICS.verdicts, partition, low)
        log = DecisionLog(MemoryReader(world.broker), TOPICS, "i1", UnsignedVerifier(), world.clock)
        start = log.start_before(partition, offset)
        assert (start.place.offset == -1) == (low == 0 and offset in {0, 10**6})  # no checkpoint follows the last
        place = start.place
        for record in world.everything(TOPICS.verdicts, partition):
            place = place.after(record.offset, *read_body(record.value)) or place
        assert place.header.next_input == world.broker.bounds(TOPICS.intents, partition)[1]


def test_the_worlds_of_the_tests_hold_what_they_are_about():
    """Holds, approvals, outcomes, garbage and repeated ids: else the law above says little."""
    answers = [answer for seed in range(3) for answer, _ in replayed(worked(seed), RULES)]
    assert {answer["kind"] for answer in answers} == {"verdict", "ack", "reject", "skip"}
    assert any(answer["kind"] == "verdict" and answer["approval"] for answer in answers)
