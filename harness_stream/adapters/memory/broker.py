"""A broker in one process, for simulation, demo and tests: topics are lists, the network is a queue.

Rule: whatever was handed over moves when its time has come, whether or not the one who handed it over still lives; so a
paused or dead writer's records still land (zombies). Nothing here waits unless the broker was built `blocking`.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness_stream.errors import ConfigError
from harness_stream.ports import Delivery, Headers, LogRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOO_LARGE = "record too large for the topic"
LOST = "delivery timed out: unknown whether it landed"


@dataclass(frozen=True, slots=True)
class Fate:
    """What the network does to one append.

    Attributes:
        land_after_ms: how long until it is in the log (or dropped), counted from the append.
        report_after_ms: how long until its writer hears of it, counted from the append; an "ok" waits
            until it has landed.
        lands: False drops it.
        reports: "ok", "failed" (also falsely, if it lands), or "never".
    """

    land_after_ms: int = 0
    report_after_ms: int = 0
    lands: bool = True
    reports: Literal["ok", "failed", "never"] = "ok"

    def __post_init__(self) -> None:
        if self.reports == "ok" and not self.lands:
            raise ValueError("a broker never confirms what it did not write")


@dataclass(slots=True)
class InFlight:
    """One handed over record and what is still to happen to it (times in broker milliseconds)."""

    record: LogRecord
    token: int
    land_at_ms: int
    report_at_ms: int
    lands: bool
    reports: Literal["ok", "failed", "never"]
    error: str = LOST
    landed: bool = False
    offset: int | None = None

    def delivery(self) -> Delivery:
        """What the writer hears."""
        topic, partition = self.record.topic, self.record.partition
        if self.reports == "ok":
            return Delivery(topic, partition, self.token, self.offset, None)
        return Delivery(topic, partition, self.token, None, self.error)


@dataclass(slots=True)
class Channel:
    """One writer's way to one partition: first in, first out, for landing as well as for reports."""

    landing: deque[InFlight] = field(default_factory=deque)
    reporting: deque[InFlight] = field(default_factory=deque)
    last_land_at_ms: int = 0
    last_report_at_ms: int = 0


@dataclass(slots=True)
class Partition:
    """One partition's log. Whoever looks at it holds the broker's lock, and has called `advance`."""

    records: list[LogRecord] = field(default_factory=list)
    low: int = 0
    end: int = 0
    last_append_ms: int = 0
    damaged: int | None = None
    cuts: list[int] = field(default_factory=list)  # where it lost its end, in order, as leader epochs would tell

    def read(self, offset: int, records_max: int) -> list[LogRecord]:
        """Up to `records_max` records from `offset` on, none from the damaged one on unless `offset` is beyond it."""
        first = bisect_left(self.records, offset, key=_offset)
        found = self.records[first : first + records_max]
        if self.damaged is None or offset > self.damaged:
            return found
        return [record for record in found if record.offset < self.damaged]

    def unreadable(self, offset: int) -> int | None:
        """The damaged record's offset, if it is the next one from `offset` on."""
        if self.damaged is None or offset > self.damaged or self.read(offset, 1):
            return None
        return self.damaged


def _offset(record: LogRecord) -> int:
    return record.offset


class MemoryBroker:
    """Topics of append-only partitions with broker append time. Thread-safe.

    Args:
        topics: topic name → partition count.
        now_ms: the broker's clock, milliseconds since the epoch.
        limits: topic name → largest value in bytes; a topic that is not named has none.
        blocking: True lets `wait` really wait (the demo's threads); False is for virtual time.

    Attributes:
        append_off_ms: fault: how far off its append times are; they step back if this becomes less.
        logs: every partition there is, by topic and number; to be looked at as `Partition` says.
    """

    def __init__(
        self,
        topics: Mapping[str, int],
        now_ms: Callable[[], int],
        *,
        limits: Mapping[str, int] | None = None,
        blocking: bool = False,
    ) -> None:
        self.append_off_ms = 0
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._now_ms = now_ms
        self._blocking = blocking
        self._limits = dict(limits or {})
        self.logs = {(t, p): Partition() for t, count in topics.items() for p in range(count)}
        self._counts = dict(topics)
        self._channels: list[Channel] = []
        self._due_ms = math.inf  # nothing that is under way lands before

    def now_ms(self) -> int:
        """The broker's clock."""
        return self._now_ms()

    def partitions(self, topic: str) -> int:
        """Partition count of a topic.

        Raises:
            ConfigError: there is no such topic.
        """
        if topic not in self._counts:
            raise ConfigError(f"the memory log has no topic `{topic}`")
        return self._counts[topic]

    def oversized(self, topic: str, value: bytes | None) -> bool:
        """Is the value larger than the topic takes?"""
        limit = self._limits.get(topic)
        return limit is not None and len(value or b"") > limit

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """Write at once; returns the offset.

        Raises:
            ValueError: the value is larger than the topic takes.
        """
        with self.lock:
            self.advance()
            if self.oversized(topic, value):
                raise ValueError(TOO_LARGE)
            return self._write(LogRecord(topic, partition, -1, key, value, None, tuple(headers)), self._now_ms())

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[LogRecord]:
        """Up to `records_max` records from `offset` on; whoever calls checks `bounds` first."""
        with self.lock:
            self.advance()
            return self._at(topic, partition).read(offset, records_max)

    def damage(self, topic: str, partition: int, offset: int | None) -> None:
        """Fault: what is stored at `offset` cannot be read; None mends it."""
        with self.lock:
            self.advance()
            self._at(topic, partition).damaged = offset

    def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """(first kept offset, next offset to be written)."""
        with self.lock:
            self.advance()
            log = self._at(topic, partition)
            return log.low, log.end

    def truncate_before(self, topic: str, partition: int, offset: int) -> None:
        """Retention: forget everything before `offset`."""
        with self.lock:
            self.advance()
            log = self._at(topic, partition)
            log.low = max(log.low, min(offset, log.end))
            del log.records[: bisect_left(log.records, log.low, key=_offset)]

    def truncate_from(self, topic: str, partition: int, offset: int) -> None:
        """Lose everything from `offset` on, as an unclean election or a recreated topic does."""
        with self.lock:
            self.advance()
            log = self._at(topic, partition)
            log.end = min(log.end, max(log.low, offset))
            log.cuts.append(log.end)
            del log.records[bisect_left(log.records, log.end, key=_offset) :]

    def skip_offsets(self, topic: str, partition: int, count: int) -> None:
        """Use up `count` offsets without records, as transaction markers do."""
        with self.lock:
            self.advance()
            self._at(topic, partition).end += count

    def wait(self, timeout_ms: int) -> bool:
        """Wait until something changed, at most `timeout_ms`; False at once in virtual time. `lock` may be held."""
        if not self._blocking or timeout_ms <= 0:
            return False
        with self._changed:
            self._changed.wait(timeout_ms / 1000)
        return True

    def wake(self) -> None:
        """End every `wait`."""
        with self._changed:
            self._changed.notify_all()

    def advance(self) -> None:
        """Land or drop everything whose time has come, oldest first. Called by every other method."""
        now_ms = self._now_ms()
        if now_ms < self._due_ms:
            return
        with self.lock:
            while (channel := self._next()) is not None and channel.landing[0].land_at_ms <= now_ms:
                flight = channel.landing.popleft()
                flight.landed = True
                if flight.lands:
                    flight.offset = self._write(flight.record, flight.land_at_ms)
                if not channel.landing:
                    self._channels = [c for c in self._channels if c.landing]
            self._due_ms = math.inf if channel is None else channel.landing[0].land_at_ms

    def hand_over(self, channel: Channel, flight: InFlight) -> None:
        """Put a record under way, behind those its writer sent before."""
        with self.lock:
            flight.land_at_ms = channel.last_land_at_ms = max(channel.last_land_at_ms, flight.land_at_ms)
            if flight.reports == "ok":
                flight.report_at_ms = max(flight.report_at_ms, flight.land_at_ms)
            if flight.reports != "never":
                flight.report_at_ms = channel.last_report_at_ms = max(channel.last_report_at_ms, flight.report_at_ms)
            channel.landing.append(flight)
            channel.reporting.append(flight)
            if not any(c is channel for c in self._channels):
                self._channels.append(channel)
            self._due_ms = min(self._due_ms, flight.land_at_ms)
            self.advance()

    def _next(self) -> Channel | None:
        """Whose record lands next; one that died may have nothing under way any more."""
        under_way = (channel for channel in self._channels if channel.landing)
        return min(under_way, key=lambda channel: channel.landing[0].land_at_ms, default=None)

    def _at(self, topic: str, partition: int) -> Partition:
        if (topic, partition) not in self.logs:
            raise ConfigError(f"the memory log has no partition {partition} of `{topic}`")
        return self.logs[topic, partition]

    def _write(self, record: LogRecord, at_ms: int) -> int:
        log = self._at(record.topic, record.partition)
        log.last_append_ms = max(log.last_append_ms, at_ms)
        log.records.append(record._replace(offset=log.end, timestamp_ms=log.last_append_ms + self.append_off_ms))
        log.end += 1
        self._changed.notify_all()
        return log.end - 1
