"""The Kafka clients' settings: what PROTOCOL §2 and §5 demand stands in what librdkafka is given."""

import pytest
from confluent_kafka import Consumer, Producer

from harness_stream.adapters.kafka import settings
from harness_stream.core import limits
from harness_stream.wire.topics import topic_specs

SERVERS = "127.0.0.1:1"


def topic_limits():
    needs = [need for s in topic_specs("h", 1, 1, dev=True) for need in s.requirements]
    return [int(need.value) for need in needs if need.name == "max.message.bytes"]


def test_a_batch_is_smaller_than_any_topics_limit():
    assert settings.producer(SERVERS)["batch.size"] < min(topic_limits())


def test_a_record_of_the_largest_topic_can_be_sent():
    assert settings.producer(SERVERS)["message.max.bytes"] >= max(topic_limits())


def test_the_writer_is_idempotent_acknowledged_by_all_and_gives_up_in_three_seconds():
    chosen = settings.producer(SERVERS)
    assert (chosen["acks"], chosen["enable.idempotence"], chosen["linger.ms"]) == ("all", True, 0)
    assert chosen["request.timeout.ms"] < chosen["delivery.timeout.ms"] == 3_000


@pytest.mark.parametrize("chosen", [settings.reader(SERVERS), settings.input_consumer(SERVERS, "g")])
def test_readers_see_uncommitted_records_and_never_jump(chosen):
    assert chosen["isolation.level"] == "read_uncommitted"
    assert chosen["auto.offset.reset"] == "error"
    assert chosen["enable.auto.commit"] is False


def test_a_member_that_hangs_loses_its_partitions_soon_but_not_before_its_session():
    chosen = settings.input_consumer(SERVERS, "g")
    assert (chosen["group.protocol"], chosen["partition.assignment.strategy"]) == ("classic", "cooperative-sticky")
    assert chosen["heartbeat.interval.ms"] * 3 < chosen["session.timeout.ms"] == limits.SESSION_MS
    assert chosen["session.timeout.ms"] <= chosen["max.poll.interval.ms"] <= 10_000


def test_librdkafka_knows_every_setting():
    Consumer(settings.reader(SERVERS)).close()
    Consumer(settings.input_consumer(SERVERS, "g")).close()
    assert len(Producer(settings.producer(SERVERS))) == 0


def test_no_client_creates_topics_or_writes_to_the_terminal():
    for chosen in (settings.admin(SERVERS), settings.reader(SERVERS), settings.producer(SERVERS)):
        assert chosen["allow.auto.create.topics"] is False
        assert chosen["log_level"] == 0
