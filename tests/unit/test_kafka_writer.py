"""The Kafka writer, where its producer fails for good: a stand-in for librdkafka's, which nobody can make do so."""

import pytest
from confluent_kafka import KafkaError, KafkaException

from harness_stream.adapters.kafka import log


class FatalAfterOne:
    """A producer that takes one record, never reports on it, and then refuses everything."""

    def __init__(self, _settings):
        self.taken = 0

    def produce(self, *_arguments, **_options):
        self.taken += 1
        if self.taken > 1:
            raise KafkaException(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "sequence lost", fatal=True))

    def poll(self, _timeout_s):
        return 0


@pytest.fixture
def built(monkeypatch):
    producers = []
    monkeypatch.setattr(log, "Producer", lambda chosen: producers.append(FatalAfterOne(chosen)) or producers[-1])
    return producers


def test_a_fatal_error_fails_what_is_open_and_the_next_append_has_a_new_producer(built):
    writer = log.KafkaWriter("127.0.0.1:1")
    writer.append("t", 0, None, b"a", token=1)
    assert writer.deliveries() == []
    writer.append("t", 0, None, b"b", token=2)
    fates = writer.deliveries()
    assert [(f.token, f.offset) for f in fates] == [(1, None), (2, None)]
    assert all("OUT_OF_ORDER" in f.error for f in fates)
    writer.append("t", 0, None, b"c", token=3)
    assert [p.taken for p in built] == [2, 1]
    assert writer.deliveries() == []


class FatalWhenServed(FatalAfterOne):
    """The same, which says so where callbacks are served."""

    def poll(self, _timeout_s):
        if self.taken:
            raise KafkaException(KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "sequence lost", fatal=True))
        return 0

    flush = poll


@pytest.mark.parametrize("serve", [lambda writer: writer.deliveries(), lambda writer: writer.flush(10)])
def test_a_fatal_error_told_while_waiting_ends_nobody(monkeypatch, serve):
    """A log that became shorter than the producer's numbers (three restored disks) is told by `poll`."""
    monkeypatch.setattr(log, "Producer", FatalWhenServed)
    writer = log.KafkaWriter("127.0.0.1:1")
    writer.append("t", 0, None, b"a", token=1)
    fates = serve(writer) or writer.deliveries()
    assert [(f.token, f.offset) for f in fates] == [(1, None)]
    assert writer.deliveries() == []
