"""An input log that was cut, as librdkafka tells it and as `adapters.kafka.group` passes it on."""

import time

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import group, settings
from harness_stream.adapters.kafka.positions import Positions
from harness_stream.core.limits import END_QUERY_MS
from harness_stream.ports import Ends

PATIENCE_S = 20
NAME = ("log", 0)


class Said:
    """What librdkafka hands over in place of a record."""

    def __init__(self, error):
        self._error = error

    def error(self):
        return self._error

    def topic(self):
        return NAME[0]

    def partition(self):
        return NAME[1]

    def offset(self):
        return None


class Scripted:
    """A consumer that says what it is told to."""

    def __init__(self, *_settings):
        self.said, self.assigned = [], []

    def subscribe(self, *_topics, **_callbacks):
        """Whoever wants to be in the group is."""

    def incremental_assign(self, places):
        self.assigned += [place.offset for place in places]

    def incremental_unassign(self, places):
        """Nothing is fetched anyway."""

    def consume(self, _count, _wait_s):
        said, self.said = self.said, []
        return said


class Answers:
    """Questions about bounds, answered when a test says so."""

    def __init__(self, _where):
        self.answers, self.asked = [], []

    def ask(self, partitions, now_ms):
        self.asked += [(*name, now_ms) for name in partitions]

    def forget(self, topic, partition):
        self.answers = [ends for ends in self.answers if (ends.topic, ends.partition) != (topic, partition)]

    def collect(self):
        answers, self.answers = self.answers, []
        return answers


@pytest.fixture
def member(monkeypatch):
    """Owns its partition, and stands at 100."""
    monkeypatch.setattr(group, "Consumer", Scripted)
    monkeypatch.setattr(group, "EndsQueries", Answers)
    member = group.KafkaInputConsumer("127.0.0.1:1", "g", NAME[0])
    member._on_assign(member._consumer, [TopicPartition(*NAME)])
    member.start(0, 100)
    return member


def told(member, low, end):
    """What is outside, once it is answered that the log goes from `low` to `end`."""
    member._queries.answers.append(Ends(*NAME, low, end, 0))
    member.poll(1, 0)
    return member.lost_ranges()


def outside(member):
    member._consumer.said.append(Said(KafkaError(KafkaError._AUTO_OFFSET_RESET)))
    member.poll(1, 0)


@pytest.mark.parametrize(("low", "end"), [(0, 90), (0, 120), (110, 120), (100, 100)])
def test_a_position_that_librdkafka_refuses_is_told_wherever_the_log_ends_by_then(member, low, end):
    """It may have been cut, and have grown beyond the position before anybody could ask where it ends."""
    outside(member)
    assert member.lost_ranges() == []
    assert told(member, low, end) == [(0, low)]
    assert member._consumer.assigned == [100], "it stands until it is started"
    assert told(member, low, end) == [], "and is told once"


def test_bounds_that_were_asked_for_before_do_not_say_where_the_log_begins(member):
    member._queries.answers.append(Ends(*NAME, 0, 120, 0))
    outside(member)
    assert member.lost_ranges() == []
    assert told(member, 110, 120) == [(0, 110)]


def test_while_nobody_answers_they_are_asked_for_again(member):
    outside(member)
    asked = len(member._queries.asked)
    time.sleep(END_QUERY_MS / 1000)
    member.poll(1, 0)
    assert asked
    assert len(member._queries.asked) > asked


# --- On a broker that librdkafka brings along ---


@pytest.fixture(scope="module")
def bootstrap():
    producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
    [broker] = producer.list_topics(timeout=PATIENCE_S).brokers.values()
    for _ in range(3):
        producer.produce(NAME[0], b"x", partition=NAME[1])
    assert producer.flush(PATIENCE_S) == 0
    yield f"{broker.host}:{broker.port}"
    del producer


def eventually(look):
    until_s = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < until_s
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("place", [TopicPartition(*NAME, 9), TopicPartition(*NAME, 9, leader_epoch=0)])
def test_a_position_beyond_the_end_and_a_cut_that_leader_epochs_show_are_both_outside_of_the_log(bootstrap, place):
    """The second is told although the position may be in the log again; it has a code, and comes under another one."""
    cut = place.leader_epoch is not None
    told = eventually(lambda: [e for e in refused(bootstrap, place) if ("truncation" in e.str()) is cut])
    assert {error.code() for error in told} == {KafkaError._AUTO_OFFSET_RESET}


def refused(bootstrap, place):
    """What is said of a place, by a consumer of its own: a busy one may fetch before it compares epochs, or do neither."""
    consumer, errors = Consumer(settings.input_consumer(bootstrap, "g")), []
    positions = Positions(consumer, lambda error, _topic: errors.append(error), SystemClock())
    positions.place(*NAME, place.offset)
    if place.leader_epoch is not None:
        consumer.incremental_unassign([place])
        consumer.incremental_assign([place])
    until_s = time.monotonic() + PATIENCE_S / 5
    while not (found := positions.take(1) or positions.outside()) and time.monotonic() < until_s:
        time.sleep(0.01)
    consumer.close()
    assert found in ([], [NAME])
    return errors
