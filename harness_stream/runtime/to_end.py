"""Reading one partition up to the end it has now: what commands and tests do, where waiting is fine.

Rule of this file: the end is asked for again until it is answered (a topic that was just created has no leader for a
moment), and silence ends in `BrokerUnavailable`, never in a short answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness_stream.errors import BrokerUnavailable, LogDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.ports import Clock, Ends, LogReader, LogRecord

SILENCE_MS_MAX = 10_000  # a broker that has not answered by then is away; the bound of every command
ASK_MS = 200  # ask again: a new topic has its leader after tens of milliseconds
PAUSE_S = 0.005  # between two looks: a local broker answers within 5 ms
POLL_RECORDS = 1_000


def read_to_end(reader: LogReader, topic: str, partition: int, clock: Clock, first: int = 0) -> Iterator[LogRecord]:
    """Every kept record from `first` up to the end as of now, in order; `reader` is used for nothing else meanwhile.

    Raises:
        BrokerUnavailable: nothing was heard for SILENCE_MS_MAX.
        LogDamaged: it cannot be read on; all before that was given.
    """
    bounds = ends_of(reader, topic, partition, clock)
    reader.follow(topic, partition, max(bounds.low, first))
    heard_ms = clock.elapsed_ms()
    while (reader.position(topic, partition) or 0) < bounds.end:
        records = reader.poll(POLL_RECORDS)
        if records:
            heard_ms = clock.elapsed_ms()
            yield from (r for r in records if r.offset < bounds.end)
        else:
            require_readable(reader, topic, partition)
            wait_or_give_up(topic, clock, heard_ms)
    reader.unfollow(topic, partition)


def record_at(reader: LogReader, topic: str, partition: int, clock: Clock, offset: int) -> LogRecord | None:
    """The record at exactly this offset, None if none stands there (raises as `read_to_end`)."""
    for record in read_to_end(reader, topic, partition, clock, offset):
        reader.unfollow(topic, partition)
        return record if record.offset == offset else None
    return None


def ends_of(reader: LogReader, topic: str, partition: int, clock: Clock) -> Ends:
    """The partition's bounds as of now (raises as `read_to_end`)."""
    started_ms, asked_ms = clock.elapsed_ms(), -ASK_MS
    asked: set[tuple[str, int, int]] = set()  # the answer to an earlier call's question may come last, and is older
    while True:
        if clock.elapsed_ms() - asked_ms >= ASK_MS:
            asked_ms, now_ms = clock.elapsed_ms(), clock.now_ms()
            asked.add((topic, partition, now_ms))
            reader.ask_ends([(topic, partition)], now_ms)
        for ends in reader.ends():
            if (ends.topic, ends.partition, ends.asked_at_ms) in asked:
                return ends
        wait_or_give_up(topic, clock, started_ms)


def require_readable(reader: LogReader, topic: str, partition: int) -> None:
    """Raise LogDamaged if this followed partition stands at a record that cannot be read."""
    offset = reader.damaged(topic, partition)
    if offset is not None:
        raise LogDamaged(topic, partition, offset)


def wait_or_give_up(topic: str, clock: Clock, heard_ms: int) -> None:
    """Wait a moment for something that was last heard at `heard_ms` of `clock.elapsed_ms`.

    Raises:
        BrokerUnavailable: that was more than SILENCE_MS_MAX ago.
    """
    if clock.elapsed_ms() - heard_ms > SILENCE_MS_MAX:
        raise BrokerUnavailable(
            f"`{topic}` could not be read for {SILENCE_MS_MAX // 1000} s",
            hint="does Kafka run (`harness status`), and do its topics exist (`harness topics apply`)?",
        )
    time.sleep(PAUSE_S)
