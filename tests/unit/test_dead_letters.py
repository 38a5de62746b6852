"""Copies of garbage, with the writer of real workers and no broker: whatever is sent, the queue keeps room for others."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest

from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.log import KafkaWriter
from harness_stream.core import limits
from harness_stream.errors import GarbageRecord
from harness_stream.ports import Delivery, LogRecord
from harness_stream.runtime.dead_letters import OVERHEAD_BYTES, DeadLetters
from harness_stream.wire.topics import Topics

NOWHERE = "127.0.0.1:1"
TOPICS = Topics("h")


@pytest.fixture
def writer():
    writer = KafkaWriter(NOWHERE, settings.DECISION_BATCHES)
    yield writer
    writer.close()


def dead_letters(writer, counted):
    metrics = SimpleNamespace(count=lambda name: counted.update([name]))
    tokens = itertools.count(1)
    return DeadLetters(SimpleNamespace(topics=TOPICS), SimpleNamespace(writer=writer, metrics=metrics), tokens.__next__)


def sent(writer, count, key, value):
    """How many copies of so many were not kept."""
    counted = Counter()
    letters = dead_letters(writer, counted)
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


def test_the_fate_of_a_copy_makes_room_once_and_nothing_of_it_is_kept():
    letters = dead_letters(SimpleNamespace(append=lambda *_, **__: None), Counter())
    record = LogRecord(TOPICS.intents, 3, 7, b"lane", b"g", 0)
    for token in range(1, 4):
        letters.bury(record, GarbageRecord("undecodable", "no JSON"))
        for _ in range(2):
            letters.delivered(Delivery(TOPICS.deadletter, 0, token, 7, None))
    assert (letters._open, letters._open_bytes) == ({}, 0)


def test_a_share_of_small_copies_is_a_share_of_the_queues_records_as_well():
    share = limits.DEADLETTER_BYTES_MAX / (settings.QUEUE_KIB_MAX * limits.KIB)
    assert share * settings.QUEUE_RECORDS_MAX >= limits.DEADLETTER_BYTES_MAX / OVERHEAD_BYTES
