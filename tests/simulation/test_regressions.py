"""What went wrong once: each case as small as it could be made, on the real worker in a virtual world."""

import gc
import logging
from dataclasses import replace

import orjson
import pytest

from harness_stream.adapters.memory.log import Fate
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.adapters.signing import UNSIGNED_HEADERS
from harness_stream.core import limits
from harness_stream.core.lanes import partition_of
from harness_stream.core.partition import Phase
from harness_stream.core.reasons import Deny
from harness_stream.core.state import PARTITION_UNIT
from harness_stream.core.tables import TABLES
from harness_stream.runtime.mover import MOVE_UNITS
from harness_stream.runtime.snapshots import Key
from tests.log_checker import fold_partition
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, World, bundle, compiled

AGENT = "agent-0"
HOME = partition_of(AGENTS[AGENT], PARTITIONS)
CHAIN = ("chain", f"agent:{AGENT}")


def quiet(**over):
    world = World(1, workers=1, **over)
    turns(world, 100)
    return world


def turns(world, count):
    for _ in range(count):
        world.turn()


def act(world, count=1):
    for _ in range(count):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
        turns(world, 40)


def owner(world, partition=HOME):
    return world.members[0].worker.owners[partition]


def events(world):
    return owner(world).state.confirmed(f"a:{AGENT}")[CHAIN].events


def restarted(world, count=4_000):
    world.crash(0)
    turns(world, count)
    return owner(world)


def test_a_foreign_claim_is_noticed_while_the_partition_is_at_rest():
    world = quiet()
    act(world)
    claim = {
        "kind": "claim",
        "incarnation": "i1",
        "epoch": owner(world).place.header.epoch + 1,
        "writer": "f" * 32,
        "after": "crash",
        "pending": False,
    }
    world.broker.append(TOPICS.verdicts, HOME, None, orjson.dumps(claim), UNSIGNED_HEADERS)
    phases = set()
    for _ in range(400):
        world.turn()
        phases.add(owner(world).phase)
    assert phases - {Phase.DECIDING}


def test_a_former_owners_late_snapshot_erases_nothing():
    world = quiet(snapshot_interval_ms=300)
    act(world)
    turns(world, 600)
    old = next(r for r in world.everything(TOPICS.chains, HOME) if f"/a:{AGENT}@".encode() in r.key)
    restarted(world)
    act(world, 3)
    turns(world, 600)
    before = events(world)
    world.broker.append(TOPICS.chains, HOME, old.key, old.value)
    world.store.flush()
    assert restarted(world).phase is Phase.DECIDING
    assert events(world) == before == 4


def test_a_partition_at_rest_outlives_the_retention_of_its_log():
    world = quiet()
    act(world, 3)
    turns(world, 600)
    world.broker.truncate_before(TOPICS.verdicts, HOME, world.broker.bounds(TOPICS.verdicts, HOME)[1])
    assert restarted(world).phase is Phase.DECIDING
    act(world)
    assert events(world) == 4


def test_a_load_begins_where_the_log_does_though_the_checkpoint_names_an_older_record():
    world = quiet()
    act(world, 3)
    turns(world, 600)
    world.broker.truncate_before(TOPICS.verdicts, HOME, owner(world).place.offset + 1)
    assert restarted(world).phase is Phase.DECIDING


JUNK = [
    b"",
    b"{",
    b"[]",
    b'{"kind":[]}',
    b'{"kind":"claim","epoch":[]}',
    b'{"kind":"claim","epoch":18446744073709551615,"writer":"x"}',
    b'{"kind":"verdict","event":7}',
    b'{"kind":"checkpoint","incarnation":"i1","partition":0}',
]


@pytest.mark.parametrize("junk", JUNK)
def test_junk_where_workers_read_stops_nobody(junk):
    world = quiet(snapshot_interval_ms=300)
    act(world, 2)
    turns(world, 600)
    for topic, key in ((TOPICS.heads, str(HOME).encode()), (TOPICS.chains, Key("a:zz", 1).encode("i1")), (TOPICS.verdicts, None)):
        world.broker.append(topic, HOME, key, junk, UNSIGNED_HEADERS)
    world.broker.append(TOPICS.chains, HOME, Key("a:zz", 1).encode("i1"), None)
    world.store.flush()
    assert restarted(world).phase is Phase.DECIDING
    assert events(world) == 2


def test_collecting_a_former_owner_does_not_stop_its_successors_reading():
    world = quiet()
    act(world)
    worker = world.members[0].worker
    worker.owners[HOME] = worker._new_owner(HOME)
    for _ in range(3):
        world.turn()
    worker.owners[HOME] = worker._new_owner(HOME)
    gc.collect()
    turns(world, 2_000)
    assert owner(world).phase is Phase.DECIDING


def test_a_full_dead_letter_topic_costs_the_copies_and_nothing_else(monkeypatch):
    world = quiet()
    writer = world.members[0].writer
    append = writer.append

    def full(topic, *rest, **named):
        if topic == TOPICS.deadletter:
            raise BufferError
        append(topic, *rest, **named)

    monkeypatch.setattr(writer, "append", full)
    for _ in range(50):
        world.publish(AGENT, b"no json")
    act(world)
    epoch = owner(world).place.header.epoch
    assert (epoch, events(world)) == (1, 1)


def test_more_changed_units_than_a_step_takes_are_written_in_several():
    world = quiet()
    world.store.down = True
    for number in range(MOVE_UNITS + 50):
        name = f"new-{number}"
        AGENTS[name] = AGENTS[AGENT]
        try:
            row = {"agent_id": name, "tenant": AGENTS[AGENT], "actions": ["crm.read"], "workloads": ["w1"]}
            world.broker.append(TOPICS.identity, 0, name.encode(), orjson.dumps(row))
            if number % 100 == 0:
                turns(world, 30)
            world.send(agent_id=name, by=name, action="crm.read")
        finally:
            del AGENTS[name]
    turns(world, 600)
    world.store.down = False
    turns(world, 1_500)
    assert world.store.head(HOME).verdict_offset == owner(world).place.offset
    assert len(world.store.units(HOME)) > MOVE_UNITS


@pytest.mark.parametrize("left", [0, 1, 2], ids=["recreated", "truncated", "truncated by one"])
def test_an_input_log_that_lost_what_was_answered_halts_its_partition_and_no_other(left, caplog):
    world = quiet()
    act(world, 3)
    world.broker.truncate_from(TOPICS.intents, HOME, left)
    turns(world, 400)
    assert owner(world).phase is Phase.HALTED
    assert owner(world, 1 - HOME).phase is Phase.DECIDING
    [said] = {r.message for r in caplog.records if r.levelname == "ERROR"}
    assert f"input log too short: it ends at {left}, but inputs up to 2 were answered" in said


def test_a_halted_partition_says_nothing_until_an_operator_resumes_it():
    world = quiet()
    act(world, 3)
    place = owner(world).place
    world.broker.truncate_from(TOPICS.intents, HOME, 1)
    turns(world, 400)
    end = world.broker.bounds(TOPICS.verdicts, HOME)[1]
    act(world)
    assert restarted(world).phase is Phase.HALTED
    assert world.broker.bounds(TOPICS.verdicts, HOME)[1] == end, "not even a claim"
    header = place.header
    resume = {
        "kind": "resume",
        "incarnation": "i1",
        "epoch": header.epoch + 1,
        "writer": "f" * 32,
        "checkpoint": {},
        "head": header.head,
        "next_input": 1,
        "rules": {"digest": header.rules[0], "revision": header.rules[1]},
        "t": header.t,
        "reason": "the broker lost its disk",
    }
    world.broker.append(TOPICS.verdicts, HOME, None, orjson.dumps(resume), UNSIGNED_HEADERS)
    turns(world, 4_000)
    assert owner(world).phase is Phase.DECIDING
    assert owner(world).place.header.next_input == 2
    assert events(world) == 4


def test_a_worker_says_that_a_partition_is_halted_also_while_it_looks_again():
    world = quiet()
    act(world, 3)
    world.broker.truncate_from(TOPICS.intents, HOME, 1)
    turns(world, 400)
    worker, phases, said = world.members[0].worker, set(), set()
    for _ in range(4_000):
        world.turn()
        phases.add(owner(world).phase)
        said.update(worker.readiness().waiting_for)
    assert phases == {Phase.HALTED, Phase.LOADING}
    assert said == {f"halted: partitions {HOME}; `harness partitions` says why and what to do"}
    while owner(world).phase is not Phase.HALTED:
        world.turn()
    world.resume_halted()
    turns(world, 4_000)
    assert worker.readiness().ready


def test_an_end_of_the_input_log_that_is_answered_late_halts_nobody(monkeypatch):
    world = quiet()
    reader, under_way = world.members[0].worker._reading._reader, []
    ends = reader.ends

    def late():
        now_ms = world.clock.now_ms()
        under_way.extend((now_ms + 400, answer) for answer in ends())
        due = [answer for due_ms, answer in under_way if due_ms <= now_ms]
        under_way[:] = [(due_ms, answer) for due_ms, answer in under_way if due_ms > now_ms]
        return due

    monkeypatch.setattr(reader, "ends", late)
    act(world, 30)
    turns(world, 400)
    assert (owner(world).place.header.epoch, owner(world).place.header.next_input) == (1, 30)


@pytest.mark.parametrize("waiting", [0, 400], ids=["all were answered", "some were not yet"])
def test_an_input_log_that_was_cut_and_at_once_as_long_again_is_read_on(waiting):
    """Its consumer stood where the log no longer was, which no end that is asked for now and then needs to show."""
    world = quiet()
    act(world, 3)
    for _ in range(waiting):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    turns(world, 1)
    assert (owner(world).waiting > 0) is (waiting > 0)
    world.broker.truncate_from(TOPICS.intents, HOME, 1)
    turns(world, 1)
    for _ in range(2 + waiting):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    turns(world, 100)
    act(world)
    assert (owner(world).phase, owner(world).place.header.epoch) == (Phase.DECIDING, 1)
    assert owner(world).place.header.next_input == 4 + waiting


def test_a_batch_that_is_half_delivered_is_rolled_back_whole():
    """Found by seed 1 of the first simulation: the confirmed place stood inside of a micro-batch."""
    world = World(1, workers=1)
    for _ in range(300):
        world.send()
        world.fates.extend(kind for kind in ("lost", "falsely failed", "delayed") if world.random.random() < 0.1)
        world.turn()
    world.heal()
    windows = compiled(bundle())
    for partition in range(PARTITIONS):
        logs = (world.everything(topic, partition) for topic in (TOPICS.intents, TOPICS.verdicts))
        fold_partition(*logs, partition, "i1", {windows.digest: windows})


# --- Logs that were cut behind their owner's back ---


def cut(world, offset, markers=0):
    """An unclean election loses everything from `offset` on; transaction markers may take the offsets again."""
    world.broker.truncate_from(TOPICS.verdicts, HOME, offset)
    world.broker.skip_offsets(TOPICS.verdicts, HOME, markers)


def test_an_owner_at_rest_notices_that_its_log_was_cut():
    world = quiet()
    act(world, 3)
    turns(world, 600)  # a checkpoint names the newest record
    cut(world, 2)
    turns(world, 400)
    assert owner(world).phase is Phase.HALTED


def test_an_owner_whose_log_was_cut_and_grew_again_does_not_go_on_from_where_it_stood():
    """Everything it wrote was void to everybody else, and so were the checkpoints it wrote over the true ones."""
    world = quiet()
    act(world, 3)
    turns(world, 600)  # a checkpoint names the newest record
    cut(world, 2, markers=50)
    turns(world, 400)
    assert owner(world).phase is Phase.HALTED
    assert "is not the one the checkpoint names" in owner(world).why


def test_a_log_that_is_cut_while_it_is_read_keeps_nobody_waiting():
    """For an end that it no longer reaches; the moment that was found is after the claim, before it is read back."""
    for moment in range(1, 36):
        world = World(1, workers=1)
        turns(world, moment)
        cut(world, 0)
        world.heal()


# --- Clocks, and who stops ---


def test_a_clock_that_is_set_back_makes_no_table_fresh():
    world = quiet()
    member = world.members[0]
    member.reader.stalled[TOPICS.identity] = False
    member.clock.off_ms = -4_000
    until_ms = world.clock.elapsed_ms() + limits.FRESH_MS_MAX + limits.FRESH_QUERY_MS
    while world.clock.elapsed_ms() < until_ms:
        world.turn()
    act(world)
    answers = [orjson.loads(record.value) for record in world.everything(TOPICS.verdicts, HOME)]
    verdict = next(body for body in answers if body["kind"] == "verdict")
    assert (verdict["decision"], verdict["reasons"][0]["code"]) == ("deny", "stale_facts")


def test_a_worker_that_stops_takes_nothing_that_another_one_leaves():
    world = World(1, workers=2)
    world.heal()
    first, second = world.members
    for member in world.members:
        member.worker.stop()
    for member in (first, second):
        for _ in range(200):
            world.clock.advance(5)
            member.worker.step(0)
        assert member.worker.stopped
        member.worker.close()


def claims(world):
    return sum(b'"kind":"claim"' in record.value for record in world.everything(TOPICS.verdicts, HOME))


@pytest.mark.parametrize(("markers", "records", "decision"), [(2, 0, "approve"), (0, 1, "deny"), (2, 1, "deny")])
def test_crashes_at_rest_are_no_record_to_be_set_aside(markers, records, decision):
    """A transaction's marker takes an offset at the log's end and is no input that could have crashed a worker."""
    world = quiet()
    act(world, 2)
    world.crash(0)
    world.broker.skip_offsets(TOPICS.intents, HOME, markers)
    for _ in range(records):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    for _ in range(limits.QUARANTINE_CLAIMS):
        before = claims(world)
        while claims(world) == before:
            world.turn()
        world.crash(0)
    turns(world, 4_000)
    if not records:
        act(world, 1)
    log = [orjson.loads(record.value) for record in world.everything(TOPICS.verdicts, HOME)]
    assert [body["decision"] for body in log if body["kind"] == "verdict"][-1] == decision


def test_a_log_that_refuses_claims_at_once_is_not_flooded_with_them():
    """A topic whose limit was lowered answered 300 claims a second, each with two lines in the worker's log."""
    world, asked = quiet(), []

    def refused(record):
        asked.append(record)
        return Fate(lands=False, report_after_ms=1, reports="failed")

    world.members[0].writer._fate = refused
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    began_ms = world.clock.elapsed_ms()
    while world.clock.elapsed_ms() < began_ms + 3_000:
        world.turn()
    assert 3 <= len(asked) / PARTITIONS <= 1 + 3_000 / limits.RECLAIM_MS_MIN


class TestRecreatedLogs:
    """The names stay and the ids do not: a worker that goes on would decide on a history that begins with nothing."""

    def test_a_worker_of_before_halts_and_claims_nothing_in_what_is_not_its_log(self):
        world = quiet()
        act(world)
        before = claims(world)
        world.incarnations.current = "i2"
        former = restarted(world)
        assert former.phase is Phase.HALTED
        assert former.why.startswith("log topics recreated: ")
        assert claims(world) == before

    def test_one_that_was_about_to_claim_does_not_decide(self):
        world = quiet()
        world.crash(0)
        phases = set()

        def recreated_meanwhile(record):
            world.incarnations.current = "i2"
            return Fate()

        world.members[0].writer._fate = recreated_meanwhile
        for _ in range(2_000):
            world.turn()
            phases |= {each.phase for each in world.members[0].worker.owners.values()}
        assert {Phase.CLAIMING, Phase.HALTED} <= phases
        assert Phase.DECIDING not in phases

    def test_a_worker_without_any_partition_says_so_too(self):
        """It joined before there was a topic: ready, it said, while nobody decided."""
        world = World(1, workers=PARTITIONS + 1)
        turns(world, 3_000)
        idle = next(member.worker for member in world.members if not member.worker.owners)
        assert "recreated" not in " ".join(idle.readiness().waiting_for)
        world.incarnations.current = "i2"
        turns(world, 4_000)
        assert idle.readiness().waiting_for[0].startswith("log topics recreated: ")


def test_names_that_the_store_lost_while_they_were_read_are_not_forgotten_agents(monkeypatch):
    """Between the head and the names: whoever is not among them would be taken for one that never acted."""
    world = quiet()
    act(world, 2)
    turns(world, 600)
    value, units = next(iter(world.sent.values())), world.store.units

    def lost(partition):
        world.store.drop_names([name for name in units(partition) if name != PARTITION_UNIT])
        return units(partition)

    monkeypatch.setattr(world.store, "units", lost)
    assert restarted(world).phase is Phase.DECIDING
    assert events(world) == 2
    world.publish(AGENT, value)
    turns(world, 200)
    bodies = [orjson.loads(record.value) for record in world.everything(TOPICS.verdicts, HOME)]
    assert [body["reason"] for body in bodies if body["kind"] == "reject"] == ["duplicate"]


@pytest.mark.parametrize("when", ["names", "load"])
def test_a_store_that_another_history_moved_while_it_was_read_is_not_begun_from(monkeypatch, caplog, when):
    """At the same offset: only the whole head tells."""
    caplog.set_level(logging.INFO)
    world = quiet()
    act(world, 2)
    turns(world, 600)
    asked = getattr(world.store, "units" if when == "names" else "load")

    def moved(partition, *names):
        answer = asked(partition, *names)
        stored = world.store._partitions[partition]
        stored.head = replace(stored.head, header=stored.head.header.replace(b'"head":"', b'"head":"0', 1))
        return answer

    monkeypatch.setattr(world.store, "units" if when == "names" else "load", moved)
    restarted(world)
    said = {"names": "the store was moved, or lost names, while it was read", "load": "another worker moved the store"}
    assert said[when] in caplog.text


def test_what_an_owner_of_a_lost_history_left_in_the_store_is_replaced_by_who_met_it_at_the_start(caplog):
    """Its epoch is higher than any in the log. Who has looked at it need not doubt it again, and load every 3 s."""
    world = quiet()
    act(world, 2)
    turns(world, 600)
    head = world.store.head(HOME)
    lost = {**orjson.loads(head.header), "epoch": head.epoch + 9, "writer": "f" * 32, "record_digest": "0" * 64}
    world.store._partitions[HOME].head = replace(head, epoch=head.epoch + 9, header=orjson.dumps(lost))
    assert restarted(world).phase is Phase.DECIDING
    caplog.clear()
    act(world)
    turns(world, 2_000)
    assert world.store.head(HOME).verdict_offset == owner(world).place.offset
    assert "state_gone" not in caplog.text
    assert events(world) == 3


def test_a_worker_that_starts_while_the_newest_set_is_unusable_decides_by_the_one_in_force_and_says_so():
    """It called itself not ready, as if nothing had ever been pushed, and decided all the while."""
    world = quiet()
    act(world)
    active = orjson.dumps({"digest": "0" * 64, "revision": 2})
    world.broker.append(TOPICS.rules, 0, b"active/sim", active)
    former = restarted(world)
    assert former.place.header.rules[1] == 1
    worker = world.members[0].worker
    assert worker.readiness().ready
    before = events(world)
    act(world)
    assert events(world) == before + 1


def last_verdict(world):
    bodies = [orjson.loads(r.value) for r in world.everything(TOPICS.verdicts, HOME)]
    return [body for body in bodies if body["kind"] == "verdict"][-1]


def test_a_clock_that_is_set_back_within_a_turn_makes_no_table_fresh():
    world = quiet()
    act(world)
    member = world.members[0]
    member.reader.stalled.update(dict.fromkeys(map(TOPICS.table, TABLES), False))
    world.clock.advance(3_000)
    read = member.worker._read

    def then_set_back():
        read()
        member.clock.off_ms = -4_000

    world.send(agent_id=AGENT, by=AGENT, action="crm.read", resources=["web://z"])
    member.worker._read = then_set_back
    world.turn()
    member.worker._read = read
    turns(world, 60)
    assert last_verdict(world)["reasons"][0]["code"] == Deny.STALE_FACTS


def test_topics_that_were_recreated_take_no_history_from_snapshots_of_before():
    """The log had grown past them when the store was lost: an agent's history of another life came back for its own."""
    world = quiet(snapshot_interval_ms=300)
    act(world, 20)
    turns(world, 800)
    for topic in (TOPICS.intents, TOPICS.verdicts):
        for partition in range(PARTITIONS):
            log = world.broker.logs[topic, partition]
            log.records.clear()
            log.end = 0
    world.crash(0)
    world.realm = replace(world.realm, incarnation="i2")
    world.incarnations.current, world.store = "i2", MemoryStateStore()
    world.replace(world.members[0])
    turns(world, 4_000)
    act(world, 3)
    other = next(a for a, lane in AGENTS.items() if lane == AGENTS[AGENT] and a != AGENT)
    for _ in range(30):
        world.send(agent_id=other, by=other, action="search.query", resources=[])
        turns(world, 40)
    assert events(world) == 3
    world.store = MemoryStateStore()
    restarted(world)
    assert (owner(world).phase, events(world)) == (Phase.DECIDING, 3)


def test_no_claim_is_written_into_logs_that_were_recreated_after_one_was_lost():
    world = World(1, workers=1)
    world.fates.extend(["lost"] * PARTITIONS)
    while not any(o.phase is Phase.RESYNC for o in world.members[0].worker.owners.values()):
        world.turn()
    world.incarnations.current = "i2"
    turns(world, 3_000)
    assert claims(world) == 0


def test_a_record_whose_free_parts_are_of_another_version_halts_its_partition_and_ends_no_worker(monkeypatch):
    world = quiet()
    act(world)
    world.store.flush()

    def of_another_version(*change):
        raise KeyError("chains")

    for name in ("apply", "apply_within"):
        monkeypatch.setattr(f"harness_stream.runtime.taking.{name}", of_another_version)
    found = restarted(world)
    assert found.phase is Phase.HALTED
    assert "cannot be read: KeyError: 'chains'" in found.why
    claimed = claims(world)
    turns(world, 20_000)
    assert owner(world).phase is not Phase.DECIDING
    assert claims(world) == claimed, "it is found while loading now, before any claim"


def test_input_that_is_lost_before_the_first_rules_waits_for_them():
    """Found by simulation, seed 8: the worker died of it, and so did the next one."""
    world = World(1, workers=1)
    world.send(agent_id=AGENT, by=AGENT)
    world.retain(TOPICS.intents, HOME, 1)
    world.heal()
    kinds = [orjson.loads(record.value)["kind"] for record in world.everything(TOPICS.verdicts, HOME)]
    assert [kind for kind in kinds if kind != "checkpoint"] == ["claim", "switch", "skip"]


def test_progress_of_a_loading_that_is_given_nothing_says_so(caplog):
    """Where the log cannot be read for a while: it once told of less than nothing."""
    world = quiet()
    act(world, 3)
    world.crash(0)
    world.members[0].reader.stalled[TOPICS.verdicts] = True
    with caplog.at_level("INFO", logger="harness_stream.runtime.progress"):
        turns(world, 6_000)
    told = [record.message for record in caplog.records if "records of the decision log" in record.message]
    assert told
    assert all(message.startswith(f"partition {message[10]}: loading, 0 of ") for message in told), told


def test_who_gives_a_partition_up_leaves_the_store_at_its_end(monkeypatch):
    """However long the next step of the store is off: a successor folds only what is behind it."""
    world = quiet()
    monkeypatch.setattr("harness_stream.runtime.mover.MOVE_MS", 10**9)
    act(world, 3)
    given_up = owner(world)
    assert world.store.head(HOME).verdict_offset < given_up.place.offset
    given_up.release()
    turns(world, 200)
    assert given_up.finished
    assert world.store.head(HOME).verdict_offset == given_up.place.offset
