"""Reader and writer on the memory broker. Rule: same contract as the Kafka adapter, and every fault by its own name.

A writer's `fate` decides what becomes of each append, so a simulation can lose, delay or falsely fail a publish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.adapters.memory.broker import TOO_LARGE, Channel, Fate, InFlight, MemoryBroker
from harness_stream.adapters.memory.group import MemoryGroup, MemoryInputConsumer
from harness_stream.errors import CallerError
from harness_stream.ports import Delivery, Ends, Headers, LogRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "Fate",
    "MemoryBroker",
    "MemoryGroup",
    "MemoryInputConsumer",
    "MemoryReader",
    "MemoryWriter",
    "lands_at_once",
]


def lands_at_once(record: LogRecord) -> Fate:  # noqa: ARG001  the signature is that of every fate
    """The default fate: in the log and reported before `append` returns."""
    return Fate()


class MemoryReader:
    """Reads any partitions of a memory broker (implements `ports.LogReader`)."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._positions: dict[tuple[str, int], int] = {}
        self._ends: list[Ends] = []

    def follow(self, topic: str, partition: int, offset: int) -> None:
        """Deliver this partition from `offset` on. Following it again moves the position."""
        self._positions.pop((topic, partition), None)
        self._positions[topic, partition] = offset

    def unfollow(self, topic: str, partition: int) -> None:
        """Deliver nothing of this partition any more."""
        self._positions.pop((topic, partition), None)

    def poll(self, records_max: int) -> list[LogRecord]:
        """At most `records_max` records; a position outside of the log delivers nothing until it is followed anew."""
        taken: list[LogRecord] = []
        with self._broker.lock:
            self._broker.advance()
            for place, offset in self._not_at_end():
                if len(taken) >= records_max:
                    break
                taken += self._take(place, offset, records_max - len(taken))
        return taken

    def position(self, topic: str, partition: int) -> int | None:
        """Next offset to be delivered, holes at the end of the log passed over."""
        offset, log = self._positions.get((topic, partition)), self._broker.logs.get((topic, partition))
        if offset is None or log is None:
            return offset
        with self._broker.lock:
            self._broker.advance()
            if offset == log.end:
                return offset
            stands = offset < log.end and (log.read(offset, 1) or log.unreadable(offset) is not None)
            return offset if stands else max(offset, log.end)

    def damaged(self, topic: str, partition: int) -> int | None:
        """The offset that a followed partition stands at because what is stored there cannot be read."""
        offset, log = self._positions.get((topic, partition)), self._broker.logs.get((topic, partition))
        if offset is None or log is None:
            return None
        with self._broker.lock:
            self._broker.advance()
            return log.unreadable(offset)

    def ask_ends(self, partitions: Iterable[tuple[str, int]], now_ms: int) -> None:
        """Note the bounds as of now; partitions that do not exist get no answer."""
        with self._broker.lock:
            self._broker.advance()
            for place in partitions:
                log = self._broker.logs.get(place)
                if log is not None:
                    self._ends.append(Ends(*place, log.low, log.end, now_ms))

    def ends(self) -> list[Ends]:
        """Answers since the last call."""
        answers, self._ends = self._ends, []
        return answers

    def close(self) -> None:
        """Deliver nothing afterwards."""
        self._positions.clear()
        self._ends.clear()

    def _not_at_end(self) -> list[tuple[tuple[str, int], int]]:
        """Places and positions of which there may be something to deliver: mostly none."""
        logs = self._broker.logs
        return [(at, offset) for at, offset in self._positions.items() if at in logs and logs[at].end != offset]

    def _take(self, place: tuple[str, int], offset: int, records_max: int) -> list[LogRecord]:
        log = self._broker.logs[place]
        if not log.low <= offset <= log.end:
            del self._positions[place]  # the owner learns it from `ends`; going on would be a silent jump
            return []
        records = log.read(offset, records_max)
        if records:
            self.follow(*place, records[-1].offset + 1)  # to the back of the queue, so that no partition starves others
        return records


class MemoryWriter:
    """Appends to a memory broker by the fates it is given (implements `ports.LogWriter`).

    Args:
        broker: where records land.
        now_ms: the broker's time base; a worker's skewed wall clock does not belong here.
        fate: what happens to an append; it sees the record with offset -1 and no timestamp.
    """

    def __init__(
        self,
        broker: MemoryBroker,
        now_ms: Callable[[], int] | None = None,
        fate: Callable[[LogRecord], Fate] = lands_at_once,
    ) -> None:
        self._broker = broker
        self._now_ms = now_ms or broker.now_ms
        self._fate = fate
        self._channels: dict[tuple[str, int], Channel] = {}
        self._broken: set[tuple[str, int]] = set()
        self._closed = False

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        *,
        token: int = 0,
    ) -> None:
        """Hand over one record; `value` None is a tombstone.

        Raises:
            CallerError: the writer was closed, or the partition does not exist.
        """
        if self._closed:
            raise CallerError("this writer is closed")
        if (topic, partition) not in self._broker.logs:
            raise CallerError(f"the memory log has no partition {partition} of `{topic}`")
        record = LogRecord(topic, partition, -1, key, value, None, tuple(headers))
        channel = self._channels.setdefault((topic, partition), Channel())
        self._broker.hand_over(channel, self._flight(record, token))

    def deliveries(self) -> list[Delivery]:
        """Fates known since the last call, in append order per partition."""
        with self._broker.lock:
            self._broker.advance()
            now_ms, waiting = self._broker.now_ms(), [c for c in self._channels.values() if c.reporting]
            return [delivery for channel in waiting for delivery in self._reported(channel, now_ms)]

    def flush(self, timeout_ms: int) -> int:  # noqa: ARG002  time does not pass in here, waiting would change nothing
        """The number of records without a known fate; never waits, since only the owner of the clock moves time."""
        with self._broker.lock:
            self._broker.advance()
            now_ms = self._broker.now_ms()
            flights = [f for channel in self._channels.values() for f in channel.reporting]
            return sum(f.reports == "never" or f.report_at_ms > now_ms for f in flights)

    def close(self) -> None:
        """Hear nothing afterwards; what is under way lands in its time."""
        self._closed = True
        self._channels.clear()

    def crash(self, keep: int | None = None) -> None:
        """Die: of what is under way the first `keep` records per partition (None: all) still land, the rest never."""
        with self._broker.lock:
            self._broker.advance()
            for channel in self._channels.values():
                while keep is not None and len(channel.landing) > keep:
                    channel.landing.pop()
            self.close()

    def break_sequence(self, topic: str, partition: int) -> None:
        """Fault: the broker lost records of this writer, whose numbers no longer follow on what the broker has.

        What is under way there fails, and what is appended next does; then a new sequence begins.
        """
        with self._broker.lock:
            self._broker.advance()
            self._broken.add((topic, partition))
            for flight in self._channels.get((topic, partition), Channel()).landing:
                flight.lands, flight.reports = False, "failed"

    def _flight(self, record: LogRecord, token: int) -> InFlight:
        now_ms = self._now_ms()
        if (record.topic, record.partition) in self._broken:
            self._broken.discard((record.topic, record.partition))
            return InFlight(record, token, now_ms, now_ms, lands=False, reports="failed")
        if self._broker.oversized(record.topic, record.value):
            return InFlight(record, token, now_ms, now_ms, lands=False, reports="failed", error=TOO_LARGE)
        fate = self._fate(record)
        return InFlight(
            record, token, now_ms + fate.land_after_ms, now_ms + fate.report_after_ms, fate.lands, fate.reports
        )

    def _reported(self, channel: Channel, now_ms: int) -> list[Delivery]:
        known: list[Delivery] = []
        while channel.reporting and (
            channel.reporting[0].reports == "never" or channel.reporting[0].report_at_ms <= now_ms
        ):
            flight = channel.reporting.popleft()
            if flight.reports != "never":
                known.append(flight.delivery())
        return known
