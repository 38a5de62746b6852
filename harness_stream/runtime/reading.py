"""One reader for everything a worker reads without a group: tables, rules, heads, snapshots, the decision log.

Rule of this file: records and end offsets go to whoever follows that partition; end offsets are asked for every 100 ms,
so that freshness (V8) and foreign writers (PROTOCOL §5) are noticed in time, and nothing here ever waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from harness_stream.core import limits
from harness_stream.errors import LogDamaged
from harness_stream.runtime.taking import CannotReadError

if TYPE_CHECKING:
    from harness_stream.ports import Ends, LogReader, LogRecord

# One turn of the loop must not starve decisions: 1,000 records fold in about 20 ms.
POLL_RECORDS_MAX = 1_000


class Follower(Protocol):
    """Who reads a partition."""

    def take(self, record: LogRecord) -> None:
        """The next record."""

    def bounds(self, ends: Ends, position: int | None) -> None:
        """The partition's bounds, and the next offset this follower will be given (None: it only watches)."""


class Reading:
    """Followers of partitions over one `LogReader`."""

    def __init__(self, reader: LogReader) -> None:
        self._reader = reader
        self._followers: dict[tuple[str, int], Follower] = {}
        self._watchers: dict[tuple[str, int], Follower] = {}
        self._asked_at_ms = -limits.FRESH_QUERY_MS

    def watch(self, topic: str, partition: int, follower: Follower) -> None:
        """Tell `follower` the bounds of a partition, whoever else follows it."""
        self._watchers[topic, partition] = follower

    def follow(self, topic: str, partition: int, offset: int, follower: Follower) -> None:
        """Give `follower` the records from `offset` on, and the bounds."""
        self._followers[topic, partition] = follower
        self._reader.follow(topic, partition, offset)

    def stop(self, topic: str, partition: int) -> None:
        """No more records; bounds go on for one who watches."""
        self._reader.unfollow(topic, partition)
        self._followers.pop((topic, partition), None)

    def drop(self, topic: str, partition: int) -> None:
        """Neither records nor bounds."""
        self.stop(topic, partition)
        self._watchers.pop((topic, partition), None)

    def position(self, topic: str, partition: int) -> int:
        """Next offset the partition's follower will be given.

        Raises:
            CannotReadError: what is stored there cannot be read.
        """
        damaged = self._reader.damaged(topic, partition)
        if damaged is not None:
            raise CannotReadError(LogDamaged(topic, partition, damaged))
        return self._reader.position(topic, partition) or 0

    def ask(self, topic: str, partition: int, elapsed_ms: int) -> None:
        """Ask for the bounds now, without waiting for the next round."""
        self._reader.ask_ends([(topic, partition)], elapsed_ms)

    def step(self, elapsed_ms: int) -> int:
        """Hand out what has arrived; the number of records. Time is monotonic: wall clocks are set back."""
        if elapsed_ms - self._asked_at_ms >= limits.FRESH_QUERY_MS:
            self._asked_at_ms = elapsed_ms
            self._reader.ask_ends(list(self._followers | self._watchers), elapsed_ms)
        records = self._reader.poll(POLL_RECORDS_MAX)
        for record in records:
            follower = self._followers.get((record.topic, record.partition))
            if follower is not None:
                follower.take(record)
        for ends in self._reader.ends():
            place = (ends.topic, ends.partition)
            for follower in (self._followers.get(place), self._watchers.get(place)):
                if follower is not None:
                    follower.bounds(ends, self._reader.position(*place))
        return len(records)
