"""From where a client reads: the newest checkpoint, up to the log's end, before it publishes anything."""

import json

import pytest
from scripted_worker import HOME, INCARNATION, LANE, TOPICS, Script, World

from harness_stream.adapters.memory.log import Fate
from harness_stream.client.following import WATCH_MS, Phase
from harness_stream.core.fold import Place
from harness_stream.errors import Denied, TimedOut, Unreachable


@pytest.fixture
def world():
    return World()


def opened(world):
    future = world.enforcer.open(LANE)
    world.run()
    return future


def following(world):
    return world.enforcer._following[HOME]


def history(script, count):
    """`count` inputs from elsewhere, each covered."""
    for _ in range(count):
        offset = script.broker.append(TOPICS.intents, HOME, None, b"?")
        script.skip(offset)


def test_a_new_partition_is_folded_from_genesis(world):
    assert opened(world).result(0) is None
    assert following(world).head.place == Place.genesis(INCARNATION, HOME)


def test_history_is_folded_to_its_end_before_the_partition_is_ready(world):
    history(world.script.begin(), 3_000)
    future = world.enforcer.open(LANE)
    world.run(4)
    assert not future.done()
    world.run()
    assert future.result(0) is None
    assert following(world).head.place == world.script.place


def test_reading_starts_at_the_checkpoint_and_not_at_the_first_record_seen(world):
    """Mutant «head from the first record»: the first record kept is a zombie's, and would be believed."""
    zombie = world.script.begin().twin()
    owner = Script(world.broker, writer="b" * 32, place=world.script.place)
    owner.claim("crash")
    history(owner, 3)
    low = zombie.skip(2)
    owner.checkpoint()
    world.broker.truncate_before(TOPICS.verdicts, HOME, low)
    future = world.ask()
    zombie.verdict(world.last_input())
    world.run()
    assert not future.done()
    owner.verdict(world.last_input(), "deny")
    world.run()
    assert isinstance(future.exception(0), Denied)


@pytest.mark.parametrize("topic", [TOPICS.verdicts, TOPICS.heads])
def test_a_log_that_cannot_be_read_on_is_named_as_that(world, topic):
    script = world.script.begin()
    history(script, 3)
    script.checkpoint()
    at = world.broker.bounds(topic, HOME)[1] - 1
    world.broker.damage(topic, HOME, at)
    with pytest.raises(Unreachable, match=f"the record at {at} of `{topic}`/{HOME} cannot be read") as caught:
        opened(world).result(0)
    assert caught.value.reasons[0].code == "log_contradicts"
    assert "damaged" in caught.value.hint
    assert "`harness partitions`" in caught.value.hint, "where it is told what to do"


def test_what_is_asked_for_on_a_log_that_becomes_unreadable_ends_and_nothing_more_is_published(world):
    script = world.script.begin()
    opened(world).result(0)
    future = world.ask()
    world.broker.damage(TOPICS.verdicts, HOME, script.verdict(world.last_input()))
    world.run()
    world.wait(10_000)
    with pytest.raises(TimedOut, match="a log is damaged"):
        future.result(0)
    with pytest.raises(Unreachable, match="not published"):
        world.ask().result(0)


def test_without_a_checkpoint_a_log_whose_beginning_is_gone_is_not_believed(world):
    history(world.script.begin(), 5)
    world.broker.truncate_before(TOPICS.verdicts, HOME, 3)
    future = opened(world)
    with pytest.raises(Unreachable, match="no checkpoint reaches it") as caught:
        future.result(0)
    assert caught.value.reasons[0].code == "log_contradicts"
    with pytest.raises(Unreachable, match="not published"):
        world.ask().result(0)
    assert world.inputs()[5:] == []


def test_the_newest_checkpoint_counts_and_the_log_after_it_is_folded(world):
    script = world.script.begin()
    script.checkpoint()
    history(script, 2)
    script.checkpoint()
    history(script, 2)
    opened(world)
    assert following(world).head.place == script.place


def test_a_log_that_is_shorter_than_its_checkpoint_says_stays_shut(world):
    world.script.begin().checkpoint(verdict_offset=99)
    with pytest.raises(Unreachable, match="it ends at 3, before the checkpoint's record 99"):
        opened(world).result(0)


def test_a_log_that_holds_another_record_than_its_checkpoint_says_stays_shut(world):
    script = world.script.begin()
    history(script, 1)
    script.checkpoint(record_digest="0" * 64)
    with pytest.raises(Unreachable, match="is not the one the checkpoint names"):
        opened(world).result(0)


def test_a_checkpoint_of_another_incarnation_is_no_place_to_start(world):
    world.script.begin().checkpoint(incarnation="other", verdict_offset=99)
    assert opened(world).result(0) is None
    assert following(world).head.place == world.script.place


def test_a_checkpoint_before_a_hole_at_the_end_of_the_heads_is_found(world):
    script = world.script.begin()
    history(script, 3)
    script.checkpoint()
    world.broker.skip_offsets(TOPICS.heads, HOME, 2)
    world.broker.truncate_before(TOPICS.verdicts, HOME, 3)
    world.run()
    assert opened(world).result(0) is None
    assert following(world).head.place == script.place


def test_a_checkpoint_that_does_not_come_is_looked_for_again(world):
    world.script.begin().checkpoint()
    reader = world.wiring.reader
    follow, asked = reader.follow, []

    def follow_too_far_once(topic, partition, offset):
        asked.append(topic)
        follow(topic, partition, offset + (10_000 if len(asked) == 1 else 0))
        if len(asked) == 1:
            reader.position = lambda *_place: 0

    reader.follow = follow_too_far_once
    future = opened(world)
    world.wait(1_990)
    assert not future.done()
    del reader.position
    world.wait(50)
    assert future.result(0) is None
    assert following(world).head.place == world.script.place


def test_the_position_is_known_before_the_first_intent_is_published():
    """Mutant «lazy end offset»: answer and checkpoint are in the log before the publish has even returned."""

    def answer_at_once(record):
        if record.topic == TOPICS.intents:
            world.script.verdict(record._replace(offset=world.broker.bounds(TOPICS.intents, HOME)[1]))
            world.script.checkpoint()
        return Fate()

    world = World(fate=answer_at_once)
    world.script.begin()
    future = world.ask()
    assert future.done()
    assert future.result(0).decision == "approve"


def test_nothing_is_published_while_the_end_is_not_yet_reached(world):
    history(world.script.begin(), 3_000)
    world.enforcer.submit(world.request())
    world.run(4)
    assert len(world.inputs()) == 3_000
    world.run()
    assert len(world.inputs()) == 3_001


def test_a_position_that_retention_has_overtaken_is_found_again_by_the_checkpoint(world):
    script = world.script.begin()
    opened(world)
    history(script, 5_000)
    script.checkpoint()
    history(script, 1)
    world.broker.truncate_before(TOPICS.verdicts, HOME, script.place.offset - 1)
    world.wait(2 * WATCH_MS)
    assert following(world).ready
    assert following(world).head.place == script.place
    future = world.ask()
    script.verdict(world.last_input())
    world.run()
    assert future.result(0).decision == "approve"


def test_a_log_that_is_shut_after_a_queued_intents_deadline_ends_nobody_elses_wait(world):
    """A second end for the same wait stopped the enforcer's thread, and with it every other wait of the process."""
    world.wiring.reader.ends = list  # no broker answers
    expired = world.ask(deadline_ms=1_000)
    world.wait(1_050)
    assert isinstance(expired.exception(0), Unreachable)
    following(world)._break("the record at 3 is not the one the checkpoint names")
    with pytest.raises(Unreachable, match="not the one"):
        world.ask().result(0)


def test_a_log_that_loses_its_end_is_shut_and_intents_are_refused(world):
    history(world.script.begin(), 3)
    opened(world)
    future = world.ask()
    following(world).head.place = following(world).head.place._replace(offset=50)
    world.wait(2 * WATCH_MS)
    assert following(world).phase is Phase.BROKEN
    with pytest.raises(Unreachable, match="before the record 50 that was read"):
        world.ask().result(0)
    world.wait(5_000)
    with pytest.raises(TimedOut):
        future.result(0)


def test_a_partition_that_nobody_answers_for_ends_in_unreachable_at_the_deadline(world):
    future = world.enforcer.submit(world.request(lane="elsewhere", deadline_ms=200))
    partition = world.enforcer._inbox[0].partition
    world.enforcer._inbox[0].partition = partition + 1_000
    world.wait(190)
    assert not future.done()
    world.wait(60)
    with pytest.raises(Unreachable, match="was not published") as caught:
        future.result(0)
    assert "is the broker up" in caught.value.hint


def test_partitions_of_several_lanes_are_followed_side_by_side(world):
    lanes = ["acme", "globex", "initech"]
    futures = [world.enforcer.submit(world.request(lane=lane)) for lane in lanes]
    world.run()
    published = [r for p in range(4) for r in world.broker.read(TOPICS.intents, p, 0, 10)]
    assert sorted(r.key.decode() for r in published) == lanes
    for record in published:
        script = Script(world.broker, record.partition)
        script = script.begin() if world.broker.bounds(TOPICS.verdicts, record.partition)[1] == 0 else script
        script.verdict(record)
    world.run()
    assert sum(f.done() for f in futures) >= len({r.partition for r in published})
    assert json.loads(published[0].value)["type"] == "intent"


def test_an_end_that_was_asked_for_before_the_newest_record_was_read_is_no_truncation(world):
    """Found under load: the broker's answer took a second, and records read meanwhile lay beyond it."""
    world.script.begin()
    opened(world)
    asked = following(world)
    asked.step(world.clock.elapsed_ms() + WATCH_MS)
    late = next(e for e in world.enforcer._wiring.reader.ends() if e.topic == TOPICS.verdicts)
    history(world.script, 3)
    world.run()
    asked.bounds(late._replace(asked_at_ms=asked._asked_ms))
    asked.bounds(late._replace(asked_at_ms=asked._asked_ms - 1))
    assert asked.phase is Phase.READY
