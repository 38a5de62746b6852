"""Copies of garbage, with the writer of real workers and no broker: whatever is sent, the queue keeps room for others."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.log import KafkaWriter
from harness_stream.core import limits
from harness_stream.errors import GarbageRecord
from harness_stream.ports import LogRecord
from harness_stream.runtime.dead_letters import OVERHEAD_BYTES, DeadLetters
from harness_stream.wire.topics import Topics

NOWHERE = "127.0.0.1:1"
TOPICS = Topics("h")


@pytest.fixture
def writer():
    writer = KafkaWriter(NOWHERE, settings.DECISION_BATCHES)
    yield writer
    writer.close()


def sent(writer, count, key, value):
    """How many copies of so many were not kept."""
    counted = Counter()
    metrics = SimpleNamespace(count=lambda name: counted.update([name]))
    ports, tokens = SimpleNamespace(writer=writer, metrics=metrics), iter(range(1, count + 1))
    letters = DeadLetters(SimpleNamespace(topics=TOPICS), ports, tokens.__next__)
    for offset in range(count):
        letters.bury(LogRecord(TOPICS.intents, 3, offset, key, value, 0), GarbageRecord("undecodable", "no JSON"))
    assert set(counted) <= {"harness_deadletter_dropped_total"}
    return counted.total()


@pytest.mark.parametrize(
    ("key", "value", "count"),
    [
        (b"lane", b"g" * 65_000, 1_100),
        (b"k" * 65_000, None, 1_100),
        (None, b"g", settings.QUEUE_RECORDS_MAX + 100),
        (None, None, settings.QUEUE_RECORDS_MAX + 100),
    ],
    ids=["large values", "large keys", "small ones", "empty ones"],
)
def test_more_garbage_than_the_queue_holds_fills_a_sixteenth_of_it(writer, key, value, count):
    dropped = sent(writer, count, key, value)
    size = len(key or b"") + len(value or b"") + OVERHEAD_BYTES
    assert count - dropped == limits.DEADLETTER_BYTES_MAX // size
    for number in range(15 * settings.QUEUE_KIB_MAX // 16 // 256):
        writer.append(TOPICS.verdicts, number % 64, None, b"d" * (256 * limits.KIB - 1_024), token=number + 1)


def test_a_share_of_small_copies_is_a_share_of_the_queues_records_as_well():
    share = limits.DEADLETTER_BYTES_MAX / (settings.QUEUE_KIB_MAX * limits.KIB)
    assert share * settings.QUEUE_RECORDS_MAX >= limits.DEADLETTER_BYTES_MAX / OVERHEAD_BYTES
