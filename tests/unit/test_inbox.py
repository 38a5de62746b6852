"""What has arrived of one partition is bounded, in records and in bytes, by pausing it."""

from __future__ import annotations

from typing import Any

import pytest

from harness_stream.core import limits
from harness_stream.ports import LogRecord
from harness_stream.runtime.inbox import INBOX_BYTES_MAX, INBOX_RECORDS_MAX, Inbox

PARTITION = 3


class Consumer:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def pause(self, partition: int) -> None:
        self.told.append(("pause", partition))

    def resume(self, partition: int) -> None:
        self.told.append(("resume", partition))


def filled(size: int, count: int) -> tuple[Inbox, Consumer]:
    consumer: Any = Consumer()
    inbox = Inbox(PARTITION, consumer)
    for offset in range(count):
        inbox.offer([LogRecord("t", PARTITION, offset, None, bytes(size), 0)])
    return inbox, consumer


BOUNDS = pytest.mark.parametrize(
    ("size", "most"), [(500, INBOX_RECORDS_MAX), (limits.INTENT_BYTES_MAX, INBOX_BYTES_MAX // limits.INTENT_BYTES_MAX)]
)


@BOUNDS
def test_a_full_inbox_pauses_its_partition_once(size: int, most: int) -> None:
    assert filled(size, most - 1)[1].told == []
    assert filled(size, 2 * most)[1].told == [("pause", PARTITION)]


@BOUNDS
def test_it_asks_for_more_once_a_quarter_is_left(size: int, most: int) -> None:
    inbox, consumer = filled(size, most)
    for _ in range(most - most // 4 - 1):
        inbox.answered()
        inbox.refill()
    assert consumer.told == [("pause", PARTITION)]
    inbox.answered()
    for _ in range(2):
        inbox.refill()
    assert consumer.told == [("pause", PARTITION), ("resume", PARTITION)]


def test_the_oldest_come_first_and_stay_until_they_are_answered() -> None:
    inbox, _ = filled(10, 3)
    assert [taken.record.offset for taken in inbox.first(2)] == [0, 1]
    inbox.answered()
    assert [taken.record.offset for taken in inbox.first(9)] == [1, 2]
    inbox.clear()
    assert (len(inbox), inbox.first(1)) == (0, [])
