"""The Kafka clients' settings: what PROTOCOL §2 and §5 demand stands in what librdkafka is given."""

import re
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer

from harness_stream.access import KafkaAccess, Secret, Tls
from harness_stream.adapters.kafka import settings
from harness_stream.core import limits
from harness_stream.runtime.inbox import INBOX_RECORDS_MAX
from harness_stream.wire.topics import Topics, topic_specs

SERVERS = "127.0.0.1:1"
ROOT = Path(__file__).parents[2]


TOPICS = Topics("h")
KAFKAS_LIMIT = 1_048_588  # where the table asks for none


def topic_limits():
    found = {}
    for spec in topic_specs("h", 1, 1, 1):
        needs = {need.name: need.value for need in spec.requirements}
        found[spec.name] = int(needs.get("max.message.bytes", KAFKAS_LIMIT))
    return found


def test_a_batch_is_smaller_than_any_topics_limit():
    assert settings.producer(SERVERS)["batch.size"] < min(topic_limits().values())


def test_a_workers_batch_is_smaller_than_the_limit_of_any_topic_it_writes():
    written = [topic_limits()[t] for t in (TOPICS.verdicts, TOPICS.heads, TOPICS.chains, TOPICS.deadletter)]
    assert settings.producer(SERVERS, settings.DECISION_BATCHES)["batch.size"] < min(written)


def test_a_record_of_the_largest_topic_can_be_sent():
    assert settings.producer(SERVERS)["message.max.bytes"] >= max(
        v for v in topic_limits().values() if v != KAFKAS_LIMIT
    )


def test_only_decisions_wait_for_others_and_far_shorter_than_a_turn():
    assert settings.producer(SERVERS)["linger.ms"] == 0
    assert 0 < settings.producer(SERVERS, settings.DECISION_BATCHES)["linger.ms"] < 1


def test_inputs_are_not_fetched_far_ahead_since_a_pause_throws_them_away():
    fetched = settings.input_consumer(SERVERS, "g")["queued.min.messages"]
    assert fetched < INBOX_RECORDS_MAX < settings.reader(SERVERS)["queued.min.messages"]


def test_the_writer_is_idempotent_acknowledged_by_all_and_gives_up_in_three_seconds():
    chosen = settings.producer(SERVERS)
    assert (chosen["acks"], chosen["enable.idempotence"]) == ("all", True)
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


def test_librdkafka_knows_every_setting():  # it raises for one that it does not know
    Consumer(settings.reader(SERVERS)).close()
    Consumer(settings.input_consumer(SERVERS, "g")).close()
    Producer(settings.producer(SERVERS))


def test_no_client_creates_topics_or_writes_to_the_terminal():
    for chosen in (settings.admin(SERVERS), settings.reader(SERVERS), settings.producer(SERVERS)):
        assert chosen["allow.auto.create.topics"] is False
        assert chosen["log_level"] == 0


TLS = Tls("ca.crt", "own.crt", "own.key", Secret("opens"))
SASL = KafkaAccess(SERVERS, "SASL_SSL", user="alice", password=Secret("word"), tls=Tls("ca.crt"))
EVERY = (settings.admin, settings.producer, settings.reader, lambda where: settings.input_consumer(where, "g"))


@pytest.mark.parametrize("made", EVERY)
def test_every_client_is_told_the_way_in(made):
    told = made(SASL)
    assert (told["security.protocol"], told["sasl.mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (told["sasl.username"], told["sasl.password"], told["ssl.ca.location"]) == ("alice", "word", "ca.crt")
    told = made(KafkaAccess(SERVERS, "SSL", tls=TLS))
    assert (told["ssl.certificate.location"], told["ssl.key.location"]) == ("own.crt", "own.key")
    assert told["ssl.key.password"] == "opens"
    assert not any(name.startswith("sasl.") for name in told)


@pytest.mark.parametrize("made", EVERY)
def test_a_brokers_certificate_and_name_are_verified(made):
    for access in (SASL, KafkaAccess(SERVERS, "SSL")):
        told = made(access)
        assert told["enable.ssl.certificate.verification"] is True
        assert told["ssl.endpoint.identification.algorithm"] == "https"


def test_a_plain_address_asks_for_nothing():
    told = settings.admin(SERVERS)
    assert told["security.protocol"] == "PLAINTEXT"
    assert not any(name.startswith(("sasl.", "ssl.")) for name in told)


@pytest.mark.parametrize("folder", ["harness_stream", "topologies", "benchmarks"])
def test_no_client_is_made_of_an_address_alone(folder):
    """Whoever hands over `settings.bootstrap` or `redis_url` leaves out who connects, and how."""
    alone = re.compile(
        r"(Kafka(Reader|Writer|Admin|InputConsumer|Incarnations)|EndsQueries|RedisStateStore|require_topics|producer|reader|admin)"
        r"\(\s*[\w.]*(bootstrap|redis_url)\b|bootstrap\.servers\": "
    )
    may = {"harness_stream/adapters/kafka/settings.py", "harness_stream/local/kafka.py"}
    found = {
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in (ROOT / folder).rglob("*.py")
        for match in alone.finditer(path.read_text("utf-8"))
        if str(path.relative_to(ROOT)) not in may
    }
    assert found == set()
