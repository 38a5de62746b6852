"""A client that has lost its broker for ever, while the broker serves on: it is replaced, and nothing is lost or repeated.

librdkafka gets into that state by a race of milliseconds (adapters/kafka/standstill.py). The clients here begin in it:
their first librdkafka client knows no broker, all later ones do.
"""

import os
import signal
import time
from contextlib import closing

import pytest
from confluent_kafka import TopicPartition
from log_lanes import KafkaLane

from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.ends import SILENCE_MS_MAX
from harness_stream.adapters.kafka.group import JOIN_MS
from harness_stream.adapters.kafka.standstill import STANDSTILL_MS
from harness_stream.core.limits import DRAIN_MS_MAX, FRESH_QUERY_MS

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

NOBODY = "127.0.0.1:1"
BOUND_S = 2 * STANDSTILL_MS / 1000 + 10  # noticed, replaced, connected; and ten seconds for a busy machine


@pytest.fixture
def lane(real_stack):
    lane = KafkaLane(real_stack.bootstrap)
    with lane.opened:
        yield lane


@pytest.fixture
def lost_at_first(monkeypatch):
    """Of the settings function named, the first client made from it knows no broker."""

    def apply(name):
        made, whole = [], getattr(settings, name)

        def lost(bootstrap, *rest):
            made.append(bootstrap)
            return whole(NOBODY if len(made) == 1 else bootstrap, *rest)

        monkeypatch.setattr(settings, name, lost)
        return made

    return apply


class Asking:
    """Reads as a worker does: end offsets are asked for ten times a second, and turns never wait."""

    def __init__(self, lane, reader):
        self.values, self.answers = {}, []
        self._lane, self._reader, self._asked_s = lane, reader, 0.0

    def turn(self):
        now_s = time.monotonic()
        if now_s - self._asked_s >= FRESH_QUERY_MS / 1000:
            self._asked_s = now_s
            self._reader.ask_ends([(self._lane.topic, 0), (self._lane.topic, 1)], int(now_s * 1000))
        for record in self._reader.poll(100):
            self.values.setdefault(record.partition, []).append(record.value)
        self.answers += self._reader.ends()
        time.sleep(0.01)

    def until(self, done, limit_s=BOUND_S):
        end_s = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < end_s, f"{self.values}, {len(self.answers)} answers"
            self.turn()


def test_a_reader_whose_consumer_stands_still_gets_another_one(lane, lost_at_first):
    made = lost_at_first("reader")
    lane.fill(0, [b"a", b"b", b"c"])
    reader = lane.reader()
    reader.follow(lane.topic, 0, 1)
    reader.follow(lane.topic, 1, 0)
    asking = Asking(lane, reader)
    asking.until(lambda: asking.values)
    lane.fill(1, [b"d"])
    asking.until(lambda: 1 in asking.values)
    assert asking.values == {0: [b"b", b"c"], 1: [b"d"]}
    assert len(made) == 2


class Member:
    """A member of a group that starts what it gains where it stood, as a worker does."""

    def __init__(self, lane):
        self.consumer, self.values, self.lost, self.owned = lane.member("a"), [], [], set()
        self.slowest_s = 0.0

    def until(self, done, limit_s):
        end_s = time.monotonic() + limit_s
        while not done():
            assert time.monotonic() < end_s, f"{self.values}, owned {self.owned}"
            began_s = time.monotonic()
            self.values += [record.value for record in self.consumer.poll(100, 5)]
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            for change in self.consumer.assignments():
                self.owned = (self.owned | set(change.gained)) - set(change.lost)
                self.lost += change.lost
                self.consumer.start(0, len(self.values))


def test_a_member_that_the_group_never_answers_joins_with_another_consumer(lane, lost_at_first):
    made = lost_at_first("input_consumer")
    lane.fill(0, [b"a", b"b"])
    member = Member(lane)
    member.until(lambda: member.values, limit_s=JOIN_MS / 1000 + BOUND_S)
    assert (member.values, member.owned, member.lost) == ([b"a", b"b"], {0, 1, 2, 3}, [])
    assert member.slowest_s < DRAIN_MS_MAX / 1000, "nobody waits for the former consumer"
    assert len(made) == 2


def test_a_member_to_which_nothing_comes_loses_its_partitions_and_gains_them_again(lane):
    member = Member(lane)
    lane.fill(0, [b"a"])
    member.until(lambda: member.values, limit_s=BOUND_S)
    member.consumer._consumer.pause([TopicPartition(lane.topic, 0)])  # librdkafka's own flag, behind our back
    lane.fill(0, [b"b"])
    member.until(lambda: len(member.values) > 1, limit_s=BOUND_S)
    assert member.values == [b"a", b"b"]
    assert (member.owned, member.lost) == ({0, 1, 2, 3}, [0, 1, 2, 3])
    assert member.slowest_s < DRAIN_MS_MAX / 1000, "nobody waits for the former consumer"


def test_end_offsets_are_asked_of_another_client_when_nobody_answers_the_first(lane, lost_at_first):
    made = lost_at_first("admin")
    asking = Asking(lane, lane.reader())
    asking.until(lambda: asking.answers, limit_s=SILENCE_MS_MAX / 1000 + 10)
    assert len(made) == 2


def test_a_broker_that_is_stopped_and_continued_again_and_again_hides_no_record(own_stack):
    lane = KafkaLane(own_stack.bootstrap)
    with lane.opened, closing(lane.new_reader()) as reader:
        reader.follow(lane.topic, 0, 0)
        asking, broker = Asking(lane, reader), own_stack.brokers[0].running()
        sent = []
        for n in range(4):
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                end_s = time.monotonic() + 4  # twice the broker's session with its controller: it is fenced at times
                while time.monotonic() < end_s:
                    asking.turn()
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            sent.append(b"%d" % n)
            lane.fill(0, sent[-1:])
            asking.until(lambda: asking.values.get(0) == sent)
