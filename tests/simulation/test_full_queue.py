"""A local queue without room costs one claim more, or a while; never the worker, and never a word that somebody reads."""

from __future__ import annotations

import orjson
import pytest

from harness_stream.adapters.kafka import settings
from harness_stream.adapters.memory.log import Fate
from harness_stream.core import limits
from harness_stream.core.partition import Phase
from harness_stream.runtime import dead_letters
from tests.simulation.judge import check
from tests.simulation.test_regressions import AGENT, HOME, act, events, owner, quiet, turns
from tests.simulation.world import TOPICS, World, identities

FULL = "Local: Queue full"


class Refusing:
    """A member's writer that has no room for some records; all others it takes."""

    def __init__(self, member, refuses):
        self.refuses, self.refused_ms, self._clock = refuses, [], member.clock
        self._append = member.writer.append
        member.writer.append = self.append

    def append(self, topic, partition, key, value, headers=(), *, token=0):
        if self.refuses(topic, partition, value):
            self.refused_ms.append(self._clock.elapsed_ms())
            raise BufferError(FULL)
        self._append(topic, partition, key, value, headers, token=token)


def kind_of(topic, value):
    return orjson.loads(value)["kind"] if topic == TOPICS.verdicts else topic


def full_for(*kinds):
    return lambda topic, partition, value: partition == HOME and kind_of(topic, value) in kinds


def never(*_):
    return False


def once(refuses):
    left = [True]

    def refuses_once(*record):
        if not left or not refuses(*record):
            return False
        left.clear()
        return True

    return refuses_once


def at_home(world, topic):
    return [orjson.loads(record.value) for record in world.everything(topic, HOME)]


def claims(world):
    return [body["after"] for body in at_home(world, TOPICS.verdicts) if body["kind"] == "claim"]


@pytest.mark.parametrize("kind", ["claim", "checkpoint", "verdict", "notice", TOPICS.heads, TOPICS.chains])
def test_no_record_without_room_ends_the_worker(kind):
    world = quiet(snapshot_interval_ms=300)
    act(world, 2)
    world.crash(0)
    writer = Refusing(world.members[0], once(full_for(kind)))
    turns(world, 3_000)
    act(world)
    row = next(row for row in identities() if row["agent_id"] == AGENT)
    world.put_row("identity", AGENT, orjson.dumps(row | {"status": "killed"}))
    turns(world, 3_000)
    assert writer.refused_ms
    assert owner(world).phase is Phase.DECIDING
    assert events(world) == 3
    world.heal()
    assert all(report.void == 0 for report in check(world))


def test_a_claim_waits_for_room_and_is_still_the_one_after_a_crash():
    world = quiet()
    act(world, 2)
    world.crash(0)
    writer = Refusing(world.members[0], full_for("claim"))
    phases = set()
    while len(writer.refused_ms) < 4:
        world.turn()
        phases |= {owner(world).phase} if HOME in world.members[0].worker.owners else set()
    assert phases == {Phase.LOADING, Phase.CLAIMING}
    assert min(b - a for a, b in zip(writer.refused_ms, writer.refused_ms[1:], strict=False)) >= limits.RECLAIM_MS_MIN
    writer.refuses = never
    turns(world, 1_000)
    assert claims(world)[1:] == ["crash"]


def test_a_clean_stop_waits_for_room_for_its_last_word():
    """Without it the next claim would say that somebody crashed, and three of those set an innocent input aside."""
    world = quiet()
    act(world, 2)
    member = world.members[0]
    final = once(lambda topic, at, value: kind_of(topic, value) == "checkpoint" and at == HOME and orjson.loads(value)["final"])
    writer = Refusing(member, final)
    member.worker.stop()
    while not member.worker.stopped:
        world.turn()
    assert writer.refused_ms
    assert at_home(world, TOPICS.verdicts)[-1]["final"]
    world.crash(0)
    turns(world, 3_000)
    assert claims(world)[-1] == "clean"


def test_a_checkpoint_is_copied_to_the_heads_once_there_is_room():
    world = quiet()
    writer = Refusing(world.members[0], full_for(TOPICS.heads))
    act(world, 2)
    turns(world, 1_000)
    newest = at_home(world, TOPICS.verdicts)[-1]
    assert newest["kind"] == "checkpoint"
    assert at_home(world, TOPICS.heads)[-1] != newest
    writer.refuses = never
    turns(world, 2)
    assert at_home(world, TOPICS.heads)[-1] == at_home(world, TOPICS.verdicts)[-1] == newest
    assert len(claims(world)) == 1


def test_a_clean_stop_waits_until_the_last_checkpoint_is_among_the_heads():
    world = quiet()
    act(world)
    member = world.members[0]
    writer = Refusing(member, full_for(TOPICS.heads))
    member.worker.stop()
    turns(world, 200)
    assert not member.worker.stopped
    writer.refuses = never
    turns(world, 10)
    assert member.worker.stopped
    assert at_home(world, TOPICS.heads)[-1]["final"]


class DeadLettersFail(World):
    """One worker whose dead letters nobody takes, which is known three seconds later."""

    def __init__(self):
        super().__init__(1, workers=1)
        self.garbage = self.copies = 0
        turns(self, 100)

    def _fate(self, member, record):
        if record.topic != TOPICS.deadletter:
            return super()._fate(member, record)
        self.copies += 1
        return Fate(lands=False, reports="failed", report_after_ms=limits.DELIVERY_TIMEOUT_MS)

    def send_garbage(self, count, size):
        self.garbage += count
        for _ in range(count):
            self.publish(AGENT, b"g" * size)


class OneQueue(Refusing):
    """A local queue of all topics, in which dead letters stay until they failed, and others for a moment."""

    def __init__(self, member, bytes_max):
        super().__init__(member, lambda topic, _partition, value: not self._takes(topic, len(value or b"")))
        self._room, self._open = bytes_max, []

    def _takes(self, topic, size):
        now_ms = self._clock.elapsed_ms()
        self._open = [(until_ms, size) for until_ms, size in self._open if until_ms > now_ms]
        if sum(size for _, size in self._open) + size > self._room:
            return False
        self._open.append((now_ms + (limits.DELIVERY_TIMEOUT_MS if topic == TOPICS.deadletter else 3), size))
        return True


@pytest.fixture
def small_share(monkeypatch):
    """A sixty-fourth of what it is, as is what a copy takes besides."""
    monkeypatch.setattr(limits, "DEADLETTER_BYTES_MAX", limits.DEADLETTER_BYTES_MAX // 64)
    monkeypatch.setattr(dead_letters, "OVERHEAD_BYTES", dead_letters.OVERHEAD_BYTES // 64)


@pytest.mark.usefixtures("small_share")
def test_garbage_that_nobody_takes_leaves_room_for_claims_and_decisions():
    world = DeadLettersFail()
    writer = OneQueue(world.members[0], settings.QUEUE_KIB_MAX * limits.KIB // 64)
    for number in range(200):
        world.send_garbage(20, 1_000)
        if number % 10 == 0:
            world.send(agent_id=AGENT, by=AGENT, action="crm.read")
        world.turn()
    turns(world, 40)
    assert 0 < world.copies < world.garbage
    assert writer.refused_ms == []
    assert events(world) == 20
    assert claims(world) == ["clean"]


@pytest.mark.usefixtures("small_share")
def test_a_copy_whose_fate_is_known_makes_room_for_others():
    world = DeadLettersFail()
    kept = []
    for _ in range(3):
        world.send_garbage(200, 1_000)
        turns(world, 3_000)
        kept.append(world.copies)
    assert 0 < kept[0] < 200
    assert kept == [kept[0], 2 * kept[0], 3 * kept[0]]
