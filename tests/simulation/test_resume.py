"""A partition that no worker may continue, what is told of it, and how an operator lets it go on without what is lost."""

from dataclasses import replace

import orjson
import pytest

from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedSigner, UnsignedVerifier
from harness_stream.cli.partitions import as_text, plan_text
from harness_stream.core.fold import Place
from harness_stream.core.partition import Phase
from harness_stream.core.units import encode_parts
from harness_stream.errors import CallerError, StateUnavailable
from harness_stream.ports import Move
from harness_stream.runtime import standing as standing_module
from harness_stream.runtime.mover import FILLING
from harness_stream.runtime.resuming import Operator, claimed, planned, resume
from harness_stream.runtime.snapshots import Key
from harness_stream.runtime.snapshots_seen import snapshotted
from harness_stream.runtime.standing import SILENT_MS, Activity, Source, Trouble, reached, standing, told
from harness_stream.wire.decisions import read_body
from tests.log_checker import fold_partition
from tests.simulation.test_regressions import AGENT, HOME, act, events, owner, quiet, restarted, turns
from tests.simulation.world import TOPICS, World, bundle, compiled

OPERATOR_ID = "e" * 32


def source(world):
    return Source(MemoryReader(world.broker), TOPICS, "i1", UnsignedVerifier(), world.store, world.clock)


def look(world):
    return standing(source(world), HOME)


def resumed(world, next_input=None, *, forget=False):
    plan = planned(source(world), look(world), next_input, forget=forget)
    operator = Operator(MemoryWriter(world.broker), UnsignedSigner(), OPERATOR_ID, "sim")
    return plan, resume(source(world), plan, operator, "the broker lost its disk")


def end(world, topic=TOPICS.verdicts):
    return world.broker.bounds(topic, HOME)[1]


def decided(world):
    """Intent id → decisions that count, in order."""
    found, place = {}, Place.genesis("i1", HOME)
    for record in world.everything(TOPICS.verdicts, HOME):
        body, digest = read_body(record.value)
        after = place.after(record.offset, body, digest)
        if after is not None and body["kind"] == "verdict":
            found.setdefault(body["intent_id"], []).append(body["decision"])
        place = after or place
    return found


def cut_decisions(world, left):
    """An unclean election: the decision log ends after so many verdicts, and its worker is a new one."""
    turns(world, 600)  # a checkpoint names the newest one
    records = world.everything(TOPICS.verdicts, HOME)
    verdicts = [record.offset for record in records if read_body(record.value)[0]["kind"] == "verdict"]
    world.broker.truncate_from(TOPICS.verdicts, HOME, verdicts[left])
    assert restarted(world).phase is Phase.HALTED


# --- What is told ---


def test_a_partition_that_decides_is_told_with_its_owner_and_its_lag():
    world = quiet()
    act(world, 3)
    row = told(look(world), world.clock.now_ms())
    header = owner(world).place.header
    assert row["activity"] == "deciding"
    assert (row["epoch"], row["writer"]) == (header.epoch, header.writer)
    assert (row["next_input"], row["input_end"], row["lag"], row["decision_end"]) == (3, 3, 0, end(world))
    assert row["rules"] == {"digest": header.rules[0], "revision": 1}
    assert row["troubles"] == []


def test_an_owner_at_rest_is_not_called_silent_and_one_that_leaves_inputs_lying_is():
    world = quiet()
    act(world)
    turns(world, 600)
    world.clock.advance(10 * SILENT_MS)
    assert look(world).activity(world.clock.now_ms())[0] is Activity.AT_REST
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    assert look(world).activity(world.clock.now_ms())[0] is Activity.AT_REST, "it has only just arrived"
    world.clock.advance(SILENT_MS + 1)
    found = look(world)
    assert found.activity(world.clock.now_ms()) == (
        Activity.SILENT,
        "its first unanswered input has been waiting for 10 s",
    )
    assert told(found, 0)["lag"] == 1


def test_an_owner_whose_log_was_emptied_by_retention_is_heard_by_its_checkpoint():
    world = quiet()
    act(world)
    turns(world, 600)
    world.clock.advance(2 * SILENT_MS)
    world.retain(TOPICS.verdicts, HOME, end(world))
    assert look(world).activity(world.clock.now_ms())[0] is Activity.AT_REST


def test_an_owner_whose_hourly_checkpoint_is_missing_is_silent_though_nothing_waits():
    world = quiet()
    act(world)
    world.clock.advance(2 * 3_600_000)
    assert look(world).activity(world.clock.now_ms())[0] is Activity.SILENT


@pytest.mark.parametrize("how", ["shorter", "grown again"])
def test_decisions_that_only_the_store_knows_of_are_told_while_nobody_runs(how):
    """All topics put back from one backup contradict nothing; only Redis is newer."""
    world = quiet()
    act(world)
    turns(world, 600)
    ends = {topic: end(world, topic) for topic in (TOPICS.verdicts, TOPICS.heads, TOPICS.intents)}
    assert told(look(world), 0)["decisions_lost"] is None
    act(world)
    turns(world, 600)
    stood = world.store.head(HOME).verdict_offset
    world.crash(0)
    for topic, left in ends.items():
        world.broker.truncate_from(topic, HOME, left)
    if how == "grown again":
        for _ in range(stood + 1 - end(world)):
            world.broker.append(TOPICS.verdicts, HOME, None, orjson.dumps({"kind": "notice"}), UNSIGNED_HEADERS)
    world.clock.advance(2 * SILENT_MS)
    row = told(look(world), world.clock.now_ms())
    assert (row["activity"], row["troubles"], row["store"]) == ("at rest", [], stood)
    if how == "shorter":
        assert row["decisions_lost"] == f"the state store stands at {stood}, and the decision log has nothing from {end(world)} on"
    else:
        moved = f"the state store was moved by another record at {stood} than the decision log has there"
        assert row["decisions_lost"] == moved


def test_a_store_whose_record_retention_took_has_lost_nothing():
    world = quiet()
    act(world)
    turns(world, 600)
    world.retain(TOPICS.verdicts, HOME, end(world))
    assert told(look(world), 0)["decisions_lost"] is None


def test_a_store_that_is_being_filled_is_told_as_that():
    world = quiet()
    act(world)
    at = world.store.head(HOME)
    move = Move(HOME, at, replace(at, verdict_offset=at.verdict_offset + 1, header=FILLING), {}, {})
    assert world.store.move(move) is None
    row = told(look(world), 0)
    assert (row["store"], row["decisions_lost"]) == ("filling", None)


def test_nobody_and_a_clean_stop_are_told_apart():
    world = quiet()
    world.broker.truncate_from(TOPICS.verdicts, HOME, 0)
    world.broker.truncate_from(TOPICS.heads, HOME, 0)
    assert look(world).activity(world.clock.now_ms())[0] is Activity.UNCLAIMED
    world = quiet()
    act(world)
    world.members[0].worker.stop()
    turns(world, 600)
    assert look(world).activity(world.clock.now_ms())[0] is Activity.RELEASED


def test_a_resumed_partition_is_nobodys_until_a_worker_claims_it():
    world = quiet()
    act(world, 3)
    cut_decisions(world, 1)
    resumed(world)
    found = look(world)
    assert found.activity(world.clock.now_ms())[0] is Activity.RESUMED
    with pytest.raises(CallerError, match="can be continued by any worker"):
        planned(source(world), found)
    world.clock.advance(SILENT_MS + 1)
    assert look(world).activity(world.clock.now_ms())[0] is Activity.RESUMED, "not at rest: it has no owner"
    with pytest.raises(CallerError, match="its worker's log says what it waits for"):  # it may have halted anew
        planned(source(world), look(world))
    world.clock.advance(2 * 3_600_000)
    assert look(world).activity(world.clock.now_ms())[0] is Activity.RESUMED
    turns(world, 4_000)
    act(world)
    assert look(world).activity(world.clock.now_ms())[0] is Activity.DECIDING


def test_a_log_of_which_nothing_is_authentic_here_is_halted_and_not_resumed():
    """Keys of another root, or keys where the realm is unsigned: a worker halts with the same words."""
    world = World(1, workers=1, signed=True)
    turns(world, 600)
    turns(world, 600)
    found = look(world)
    (why,) = found.troubles.values()
    assert list(found.troubles) == [Trouble.NOT_AUTHENTIC]
    assert why.startswith("none of ")
    row = told(found, world.clock.now_ms())
    text = as_text([row])
    assert "`HARNESS_KEYS`" in text
    assert "two workers write" not in text
    with pytest.raises(CallerError, match="is not resumed: none of") as refused:
        planned(source(world), found)
    assert "HARNESS_KEYS" in refused.value.hint


def test_a_topic_that_was_recreated_is_named_as_what_it_is():
    world = quiet()
    act(world)
    found = standing(replace(source(world), incarnation="i2"), HOME)
    activity, why = found.activity(world.clock.now_ms())
    assert activity is Activity.UNCLAIMED
    assert "a log topic was recreated" in why
    assert found.epoch_seen == owner(world).place.header.epoch, "a resume must be above it"


def test_records_that_lost_are_counted_though_a_checkpoint_came_after_them(monkeypatch):
    world = quiet()
    act(world)
    copy = world.everything(TOPICS.verdicts, HOME)[0]
    world.broker.append(TOPICS.verdicts, HOME, None, copy.value, copy.headers)
    turns(world, 1_200)
    row = told(look(world), world.clock.now_ms())
    assert (row["checkpoint_offset"] > copy.offset + 1, row["void"]) == (True, 1)
    monkeypatch.setattr(standing_module, "SAMPLE_RECORDS", 1)
    row = told(look(world), world.clock.now_ms())
    assert (row["void"], row["records"]) == (0, 0), "no checkpoint is among so few"


def test_wherever_the_sample_begins_what_counts_is_not_called_void(monkeypatch):
    world = quiet()
    for _ in range(1_500):  # without a pause, so that verdicts are on their way while a checkpoint is written
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
        world.turn()
    turns(world, 1_200)
    bodies = [(r.offset, read_body(r.value)[0]) for r in world.everything(TOPICS.verdicts, HOME)]
    behind = [offset for offset, body in bodies if body["kind"] == "checkpoint" and body["verdict_offset"] < offset - 1]
    assert behind, "a checkpoint states a place behind the record before it"
    for length in range(1, end(world), 7):
        monkeypatch.setattr(standing_module, "SAMPLE_RECORDS", length)
        row = told(look(world), world.clock.now_ms())
        assert row["void"] == 0, (length, row["records"])


def test_the_table_says_what_is_wrong_and_what_to_do():
    world = quiet()
    act(world, 3)
    cut_decisions(world, 1)
    text = as_text([told(look(world), world.clock.now_ms())])
    assert "halted" in text
    assert f"the log ends at {end(world)}, before checkpoint" in text
    assert f"`harness partitions resume {HOME} --reason TEXT` shows what is lost, and asks" in text


# --- The input log is too short ---


def test_after_inputs_were_lost_it_goes_on_with_new_ones_and_keeps_its_history():
    world = quiet()
    act(world, 3)
    world.broker.truncate_from(TOPICS.intents, HOME, 1)
    turns(world, 400)
    found = look(world)
    assert found.troubles == {Trouble.INPUT_SHORT: "the input log ends at 1, but inputs up to 2 were answered"}
    plan, place = resumed(world)
    assert (plan.next_input, plan.forgets) == (1, False)
    gone, finding = plan.loses
    assert gone == "inputs 1 to 2, which were answered: others that come to stand at these offsets are answered anew"
    assert finding.startswith("`harness log verify` finds this place wrong for ever (`coverage`): it goes on at input 1,")
    assert claimed(source(world), place, wait_ms=0) is None
    turns(world, 4_000)
    assert claimed(source(world), place, wait_ms=0).header.epoch == place.header.epoch + 1
    act(world)
    assert owner(world).place.header.next_input == 2
    assert events(world) == 4


# --- The decision log is too short, or another one ---


def test_after_decisions_were_lost_history_is_what_is_left_and_new_inputs_are_answered():
    world = quiet(snapshot_interval_ms=300)
    act(world, 3)
    turns(world, 600)
    cut_decisions(world, 1)
    assert list(look(world).troubles) == [Trouble.CONTRADICTED]
    plan, place = resumed(world)
    assert (plan.next_input, place.header.next_input) == (3, 3)
    turns(world, 4_000)
    act(world)
    assert owner(world).phase is Phase.DECIDING
    assert events(world) == 2, "one that is left, and the new one"
    windows = compiled(bundle())
    logs = (world.everything(topic, HOME) for topic in (TOPICS.intents, TOPICS.verdicts))
    fold_partition(*logs, HOME, "i1", {windows.digest: windows}, resumed=True)


@pytest.mark.parametrize("flushed", [False, True], ids=["from the store", "from snapshots"])
def test_nothing_that_was_lost_comes_back_from_store_or_snapshots(flushed):
    world = quiet(snapshot_interval_ms=300)
    act(world, 6)
    turns(world, 600)
    cut_decisions(world, 1)
    resumed(world)
    turns(world, 4_000)
    act(world, 1)
    turns(world, 600)
    if flushed:
        world.store.flush()
    assert restarted(world).phase is Phase.DECIDING
    assert events(world) == 2


def test_what_is_left_of_the_log_still_knows_which_intents_were_answered():
    world = quiet()
    act(world, 3)
    first = next(iter(world.sent))
    cut_decisions(world, 2)
    plan, _ = resumed(world)
    assert any("130 s" in loss for loss in plan.loses)
    turns(world, 4_000)
    world.publish(AGENT, world.sent[first])
    turns(world, 200)
    assert owner(world).place.header.next_input == 4
    assert decided(world)[first] == ["approve"]


def test_a_cut_says_that_what_the_lost_decisions_did_counts_no_longer():
    world = quiet()
    act(world, 3)
    cut_decisions(world, 2)
    plan, _ = resumed(world)
    (said,) = (loss for loss in plan.loses if "limits, labels, open holds and delegations count without it" in loss)
    assert "the lost decisions" in said
    assert not any("every agent" in loss for loss in plan.loses), "one that is left counts"
    assert not any("log verify" in loss for loss in plan.loses), "the auditor excuses what a checkpoint names"


def test_a_cut_that_leaves_no_answer_says_that_all_history_is_lost_though_nothing_had_to_be_allowed():
    world = quiet()
    act(world, 3)
    cut_decisions(world, 0)
    plan, _ = resumed(world)
    assert not plan.forgets
    assert "the history of every agent of this partition: chains, labels, counts, open holds, delegations" in plan.loses
    turns(world, 4_000)
    act(world)
    assert events(world) == 1


def test_naming_an_earlier_input_has_it_answered_again_and_says_so():
    world = quiet()
    act(world, 3)
    cut_decisions(world, 2)
    plan, _ = resumed(world, next_input=2)
    assert "inputs 2 to 2 are answered a second time" in plan.loses
    turns(world, 4_000)
    assert [len(answers) for answers in decided(world).values()] == [1, 1, 1]


def test_a_log_that_has_grown_past_its_checkpoint_again_is_told_by_its_digest_and_can_be_resumed():
    world = quiet(snapshot_interval_ms=300)
    act(world, 3)
    turns(world, 600)
    old_end = end(world)
    world.broker.truncate_from(TOPICS.verdicts, HOME, 2)
    for _ in range(old_end):
        world.broker.append(TOPICS.verdicts, HOME, None, b"{}", world.everything(TOPICS.verdicts, HOME)[0].headers)
    world.store.flush()
    assert restarted(world).phase is Phase.HALTED
    assert "is not the one the checkpoint names" in look(world).troubles[Trouble.CONTRADICTED]
    resumed(world)
    turns(world, 4_000)
    act(world)
    assert events(world) == 1


def test_offsets_that_markers_took_after_a_cut_are_no_history():
    """The record that a checkpoint, or the sealed snapshots, name is gone whether or not its offset is in use again."""
    world = quiet(snapshot_interval_ms=300)
    act(world, 3)
    turns(world, 600)
    records = world.everything(TOPICS.verdicts, HOME)
    first = next(r.offset for r in records if read_body(r.value)[0]["kind"] == "verdict")
    world.broker.truncate_from(TOPICS.verdicts, HOME, first + 1)
    world.broker.skip_offsets(TOPICS.verdicts, HOME, 40)
    world.store.flush()
    assert restarted(world).phase is Phase.HALTED
    assert list(look(world).troubles) == [Trouble.CONTRADICTED]
    plan, _ = resumed(world)
    assert plan.cut == -1
    turns(world, 4_000)
    act(world)
    assert events(world) == 2


@pytest.mark.parametrize("ahead", [False, True], ids=["in the log again", "beyond the log's end"])
def test_snapshots_that_stand_on_what_was_lost_halt_a_worker_and_can_be_resumed_though_the_checkpoint_stands(ahead):
    """Found by seed 1308: nobody could go on, and the operator was told that anybody could."""
    world = quiet(snapshot_interval_ms=100)
    act(world, 1)
    turns(world, 600)
    heads = world.everything(TOPICS.heads, HOME)
    act(world, 3)
    turns(world, 100)
    sealed = snapshotted(source(world), HOME).place.offset
    world.broker.truncate_from(TOPICS.heads, HOME, heads[-1].offset + 1)  # no checkpoint came before the cut
    assert look(world).checkpoint.place.offset < sealed
    world.broker.truncate_from(TOPICS.verdicts, HOME, sealed)
    world.broker.skip_offsets(TOPICS.verdicts, HOME, 0 if ahead else 20)
    world.store.flush()
    assert restarted(world).phase is Phase.HALTED
    assert "snapshot" in owner(world).why
    plan, _ = resumed(world)
    assert plan.dropped
    turns(world, 4_000)
    assert owner(world).phase is Phase.DECIDING


# --- A snapshot is none to begin from ---


def with_a_lost_snapshot():
    """Retention took what was before the seal; a former owner's snapshot stands behind its successor's claim."""
    world = quiet(snapshot_interval_ms=8_000)
    act(world, 3)
    turns(world, 2_600)  # one cycle, which takes half of its interval, and no other
    former, sealed = owner(world).place.header.epoch, snapshotted(source(world), HOME).place.offset
    world.realm = replace(world.realm, snapshot_interval_ms=10**9)
    claim = restarted(world).place.offset
    act(world, 3)
    (lost,) = encode_parts({}, claim, 0, 0)
    world.broker.append(TOPICS.chains, HOME, Key("a:another", former).encode("i1"), lost)
    world.broker.truncate_before(TOPICS.verdicts, HOME, sealed + 1)
    world.store.flush()
    assert restarted(world).phase is Phase.HALTED
    return world


def test_a_snapshot_that_only_the_log_behind_the_seal_shows_to_be_lost_is_told_and_can_be_resumed():
    """The operator was told that any worker could go on, and no record could be written."""
    world = with_a_lost_snapshot()
    assert list(look(world).troubles) == [Trouble.HISTORY_GONE]
    with pytest.raises(CallerError, match="neither log, store nor snapshots"):
        resumed(world)
    resumed(world, forget=True)
    turns(world, 4_000)
    act(world)
    assert owner(world).phase is Phase.DECIDING
    assert events(world) == 1


def test_a_snapshot_of_a_record_that_was_cut_off_and_whose_offset_is_a_hole_now_reaches_nothing():
    world = with_a_lost_snapshot()
    world.broker.skip_offsets(TOPICS.verdicts, HOME, 3)
    (lost,) = encode_parts({}, end(world) - 1, 0, 0)
    world.broker.append(TOPICS.chains, HOME, Key("a:another", 2).encode("i1"), lost)
    assert list(look(world).troubles) == [Trouble.HISTORY_GONE]


def with_a_broken_snapshot(damage):
    """One agent's newest snapshot is damaged, and Redis is empty."""
    world = quiet(snapshot_interval_ms=8_000)
    act(world, 3)
    turns(world, 2_600)  # one cycle, which takes half of its interval, and no other
    act(world)
    turns(world, 600)  # a checkpoint vouches for the snapshots
    mine = [r for r in world.everything(TOPICS.chains, HOME) if f"/a:{AGENT}@".encode() in r.key]
    world.broker.append(TOPICS.chains, HOME, mine[-1].key, damage(mine[-1].value))
    world.crash(0)
    world.store.flush()
    turns(world, 4_000)
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    turns(world, 4_000)
    return world


def cut_short(value):
    return value[:-5]


def of_other_words(value):
    return value.replace(b'"items":[[["', b'"items":[[["no-')


@pytest.mark.parametrize("damage", [cut_short, of_other_words])
def test_a_snapshot_that_cannot_be_read_is_dropped_by_a_resume_and_the_log_has_the_history(damage):
    """Each look halted the worker again, `partitions` said that nothing was wrong, and a resume was refused."""
    world = with_a_broken_snapshot(damage)
    assert owner(world).phase is not Phase.DECIDING
    plan, _ = resumed(world)
    assert plan.found.troubles == {Trouble.SNAPSHOT_UNREADABLE: f"a snapshot cannot be read: a:{AGENT}"}
    assert (plan.cut, plan.forgets, bool(plan.dropped)) == (-1, False, True)
    turns(world, 4_000)
    act(world)
    assert owner(world).phase is Phase.DECIDING
    assert events(world) == 4 + 1


def test_nobody_decides_for_a_snapshot_that_cannot_be_read_and_it_is_said():
    world = with_a_broken_snapshot(cut_short)
    world.clock.advance(SILENT_MS + 1)
    assert list(look(world).troubles) == [Trouble.SNAPSHOT_UNREADABLE]
    assert look(world).activity(world.clock.now_ms())[0] is Activity.HALTED


def test_a_store_that_stands_makes_a_snapshot_that_cannot_be_read_nobodys_trouble():
    world = quiet(snapshot_interval_ms=8_000)
    act(world, 3)
    turns(world, 2_600)  # one cycle, which takes half of its interval, and no other
    newest = world.everything(TOPICS.chains, HOME)[-1]
    world.broker.append(TOPICS.chains, HOME, newest.key, newest.value[:-5])
    with pytest.raises(CallerError, match="can be continued by any worker"):
        resumed(world)


# --- A record that nobody can read ---


def with_an_unreadable_record():
    """The owner's own record, well linked, whose free part is none that this version knows."""
    world = quiet()
    act(world, 3)
    header = owner(world).place.header
    event = next(b for r in world.everything(TOPICS.verdicts, HOME) if (b := read_body(r.value)[0])["kind"] == "verdict")
    covers = [header.next_input, header.next_input]
    body = {**event, "prev": header.head, "covers": covers, "t": header.t, "reasons": "of another version"}
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    world.crash(0)
    world.broker.append(TOPICS.verdicts, HOME, None, orjson.dumps(body), UNSIGNED_HEADERS)
    world.store.flush()
    turns(world, 4_000)
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    turns(world, 4_000)
    assert "breaks its schema" in owner(world).why
    return world


def test_a_record_that_no_worker_can_read_leaves_the_operator_a_way_that_forgets():
    """Nothing but the worker knew why it had halted, and a resume was refused whatever the operator said."""
    world = with_an_unreadable_record()
    world.clock.advance(SILENT_MS + 1)
    assert look(world).activity(world.clock.now_ms())[0] is Activity.SILENT
    with pytest.raises(CallerError, match="nothing in logs and store") as refused:
        resumed(world)
    assert "--forget-history" in refused.value.hint
    plan, _ = resumed(world, forget=True)
    assert plan.forgets
    turns(world, 4_000)
    act(world)
    assert owner(world).phase is Phase.DECIDING
    assert events(world) == 1
    assert restarted(world).phase is Phase.DECIDING, "nobody reads that record again"


def test_a_silent_partition_whose_history_redis_has_is_not_made_to_forget_it():
    world = quiet()
    act(world, 3)
    world.crash(0)
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    world.clock.advance(10 * SILENT_MS)
    with pytest.raises(CallerError, match="Redis still has the history"):
        resumed(world, forget=True)


# --- Nothing reaches the history ---


def unreached():
    """Retention has taken the log's beginning before anything was snapshot, and the store is empty."""
    world = quiet(snapshot_interval_ms=10**9)
    act(world, 3)
    turns(world, 600)
    act(world, 1)
    world.broker.truncate_before(TOPICS.verdicts, HOME, 3)
    world.store.flush()
    assert restarted(world).phase is Phase.HALTED
    return world


def test_history_is_forgotten_only_if_the_operator_says_so():
    world = unreached()
    assert list(look(world).troubles) == [Trouble.HISTORY_GONE]
    before = end(world)
    with pytest.raises(CallerError, match="neither log, store nor snapshots") as refused:
        resumed(world)
    assert "--forget-history" in refused.value.hint
    assert end(world) == before


def test_a_forgotten_history_begins_anew_at_the_resume_for_every_later_reader():
    world = unreached()
    plan, place = resumed(world, forget=True)
    assert any("history of every agent" in loss for loss in plan.loses)
    assert read_body(world.broker.read(TOPICS.verdicts, HOME, place.offset, 1)[0].value)[0]["forgets"] is True
    turns(world, 4_000)
    act(world)
    assert events(world) == 1
    world.store.flush()
    assert restarted(world).phase is Phase.DECIDING
    assert events(world) == 1


def test_whether_history_is_gone_is_not_guessed_while_the_store_is_silent():
    world = unreached()
    world.store.down = True
    assert look(world).troubles == {}
    world.broker.truncate_from(TOPICS.intents, HOME, 1)
    with pytest.raises(StateUnavailable):
        resumed(world, forget=True)


def test_an_owner_that_decides_while_it_is_looked_at_is_not_taken_for_a_halted_one(monkeypatch):
    world = quiet(snapshot_interval_ms=10**9)
    act(world, 3)
    turns(world, 600)
    world.broker.truncate_before(TOPICS.verdicts, HOME, 3)
    head = world.store.head

    def meanwhile(partition):
        act(world)
        return head(partition)

    monkeypatch.setattr(world.store, "head", meanwhile)
    assert look(world).troubles == {}


def test_a_snapshot_of_what_was_decided_while_it_is_looked_at_reaches_the_log(monkeypatch):
    world = quiet(snapshot_interval_ms=300)
    act(world, 3)
    turns(world, 600)
    world.broker.truncate_before(TOPICS.verdicts, HOME, 3)

    def meanwhile(*asked):
        act(world)
        turns(world, 600)
        return snapshotted(*asked)

    monkeypatch.setattr("harness_stream.runtime.standing.snapshotted", meanwhile)
    monkeypatch.setattr(world.store, "head", lambda _: None)
    assert reached(source(world), look(world))
    assert look(world).troubles == {}


# --- Who may be resumed, and how ---


def test_a_healthy_partition_is_not_resumed():
    world = quiet()
    act(world)
    before = end(world)
    with pytest.raises(CallerError, match="can be continued by any worker"):
        resumed(world)
    assert end(world) == before


def test_it_cannot_go_on_at_an_input_that_is_not_there_yet():
    world = quiet()
    act(world, 3)
    world.broker.truncate_from(TOPICS.intents, HOME, 1)
    with pytest.raises(CallerError, match="no place 2 to go on at"):
        resumed(world, next_input=2)


def test_the_operator_reads_what_will_be_set_before_anything_is_written():
    world = quiet()
    act(world, 3)
    cut_decisions(world, 1)
    text = plan_text(planned(source(world), look(world)))
    assert "old checkpoint  verdict" in text
    assert "next_input      3" in text
    assert "the decisions on inputs 1 to 2" in text


def test_the_record_names_the_old_checkpoint_and_a_higher_epoch():
    world = quiet()
    act(world, 3)
    cut_decisions(world, 1)
    old = look(world).checkpoint.body
    _, place = resumed(world)
    body, _ = read_body(world.broker.read(TOPICS.verdicts, HOME, place.offset, 1)[0].value)
    assert body["checkpoint"] == old
    assert body["reason"] == "the broker lost its disk"
    assert body["epoch"] > old["epoch"]
    assert body["writer"] == OPERATOR_ID
    assert body["seal"] == {"hs-alg": "none"}, "by which the old checkpoint is believed when it is nowhere else"


def test_snapshots_that_stand_on_what_was_lost_are_gone():
    world = quiet(snapshot_interval_ms=300)
    act(world, 3)
    turns(world, 600)
    assert snapshotted(source(world), HOME).keys
    cut_decisions(world, 0)
    resumed(world)
    assert snapshotted(source(world), HOME).keys == ()
    assert look(world).checkpoint.body["snapshot_cut"] == -1


def cut_behind_snapshots():
    """The log holds what came after the sealed snapshots, but for its last two verdicts; the store is empty."""
    world = quiet(snapshot_interval_ms=8_000)
    act(world, 3)
    turns(world, 2_600)  # one cycle, which takes half of its interval, and no other
    sealed = snapshotted(source(world), HOME).place.offset
    act(world, 3)
    world.broker.truncate_before(TOPICS.verdicts, HOME, sealed + 1)
    cut_decisions(world, 1)
    world.store.flush()
    return world, sealed


def test_snapshots_that_stand_on_what_is_left_keep_the_history_that_the_log_no_longer_has():
    world, sealed = cut_behind_snapshots()
    plan, _ = resumed(world)
    assert (plan.forgets, plan.cut, plan.dropped) == (False, sealed, ())
    turns(world, 4_000)
    act(world)
    assert events(world) == 3 + 1 + 1


def test_one_snapshot_that_is_ahead_of_what_is_left_makes_all_of_them_useless():
    world, _ = cut_behind_snapshots()
    (ahead,) = encode_parts({}, end(world), 0, 0)
    world.broker.append(TOPICS.chains, HOME, Key("a:another", 1).encode("i1"), ahead)
    with pytest.raises(CallerError, match="neither log, store nor snapshots"):
        resumed(world)


def test_a_worker_that_starts_from_the_store_does_not_look_for_dropped_snapshots():
    world = quiet(snapshot_interval_ms=300)
    act(world, 2)
    dump = world.store.snapshot()
    act(world, 2)
    turns(world, 600)
    world.realm = replace(world.realm, snapshot_interval_ms=10**9)
    cut_decisions(world, 3)
    resumed(world)
    world.store.restore(dump)
    turns(world, 4_000)
    assert owner(world)._folded.stored is not None
    assert owner(world)._snapshots.unscanned is None
    assert owner(world)._snapshots.offsets == {}
