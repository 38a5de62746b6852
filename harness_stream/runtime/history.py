"""Stretches of one partition's decision log, read back in bounded pieces (PROTOCOL §7).

Rule of this file: nothing is taken in before it is asked for, so that a day of history fits into a few megabytes, and
every step is a generator that yields whenever it would have to wait. A stretch is folded from a place that a checkpoint
in the log vouches for, never from its first record.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from harness_stream.core.apply import change_of
from harness_stream.core.fold import Place
from harness_stream.core.records import Checkpoint
from harness_stream.wire.decisions import read_body

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from harness_stream.core.warming import Warmup
    from harness_stream.ports import Ends, LogRecord, Verifier
    from harness_stream.runtime.reading import Reading
    from harness_stream.runtime.realm import Ports, Realm

# One step: other partitions decide in between, and the tables must not grow stale meanwhile.
STEP_MS_MAX: Final = 10
# Buffered at once: at 1 KiB a record 2 MiB, and one fetch brings about as much.
PIECE_RECORDS: Final = 2_000
# A search by time stops when so little is left: reading it costs less than another look.
SEARCH_RECORDS: Final = 1_000


class Tail:
    """Buffers one followed partition and its newest bounds (a `Follower`)."""

    def __init__(self) -> None:
        self.records: deque[LogRecord] = deque()
        self.ends: Ends | None = None

    def take(self, record: LogRecord) -> None:
        """Keep it until it is drained; `Reading` bounds what arrives per turn."""
        self.records.append(record)

    def bounds(self, ends: Ends, position: int | None) -> None:  # noqa: ARG002  whoever needs the position asks for it
        """Keep the newest bounds."""
        self.ends = ends

    def drain(self) -> list[LogRecord]:
        """What has arrived."""
        records = list(self.records)
        self.records.clear()
        return records


def checkpoint_in(record: LogRecord, realm: Realm, partition: int, verifier: Verifier) -> Mapping[str, Any] | None:
    """The authentic checkpoint of this partition of this very log that a record is, else None."""
    body, _ = read_body(record.value)
    if body.get("kind") != "checkpoint" or not verifier.decision_authentic(record):
        return None
    try:
        Checkpoint.model_validate(body)
    except ValidationError:
        return None
    ours = body["incarnation"] == realm.incarnation and body["partition"] == partition
    return body if ours else None


class History:
    """Reads one partition's decision log back. One stretch at a time.

    Args:
        partition: which.
        realm: this realm.
        ports: its ports.
        reading: the worker's reader.
        tail: follows this partition's decision log.

    Attributes:
        offset: of the record last handed out.
    """

    def __init__(self, partition: int, realm: Realm, ports: Ports, reading: Reading, tail: Tail) -> None:
        self._partition, self._realm, self._ports = partition, realm, ports
        self._reading, self._tail, self._topic = reading, tail, realm.topics.verdicts
        self.offset = 0

    def bounds(self) -> Generator[None, None, Ends]:
        """The log's bounds, asked for now."""
        self._tail.ends = None
        asked_ms = self._ports.clock.now_ms()
        self._reading.ask(self._topic, self._partition, asked_ms)
        while self._tail.ends is None or self._tail.ends.asked_at_ms < asked_ms:
            yield
        return self._tail.ends

    def records(self, first: int, end: int) -> Generator[LogRecord | None, None, None]:
        """Records from offset `first` up to, not including, `end`; None whenever the caller has to give way.

        It ends early if retention overtakes it.
        """
        clock, at = self._ports.clock, first
        try:
            while at < end and not self._overtaken(at):
                self._follow(at)
                while self._position() < end and self._is_short() and not self._overtaken(at):
                    yield None
                at, records = max(at, self._position()), self._stop()
                started_ms = clock.elapsed_ms()
                for record in records:
                    if clock.elapsed_ms() - started_ms > STEP_MS_MAX:
                        yield None
                        started_ms = clock.elapsed_ms()
                    if record.offset < end:
                        self.offset = record.offset
                        yield record
        finally:
            self._stop()

    def count(
        self, warmup: Warmup, end: int, revision: int, counted: Place | None = None
    ) -> Generator[None, None, Place]:
        """Give a warm-up everything that counts after its place, up to `end` or the switch to `revision`.

        If retention took a part, nothing before the end counts as seen.

        Args:
            warmup: it.
            end: decision-log offset.
            revision: of the switch it is for.
            counted: how far it has come already, None if it has not begun.

        Returns:
            How far it has come.
        """
        yield from self.bounds()
        first = place = counted or warmup.place
        for record in self.records(place.offset + 1, end):
            if record is None:
                yield
                continue
            body, digest = read_body(record.value)
            authentic = self._ports.verifier.decision_authentic(record)
            after = place.after(record.offset, body, digest) if authentic else None
            if after is None:
                continue
            if body["kind"] == "switch" and body["rules"]["revision"] == revision:
                break
            place = after
            change = change_of(body, digest) if body["kind"] in {"verdict", "ack"} else None
            if change is not None:
                warmup.take(change)
        if self._overtaken(first.offset + 1):
            warmup.since = place.header.t
        return place

    def place_before(self, t_ms: int, end: int) -> Generator[None, None, Place | None]:
        """A place at or before append time t_ms, if the log reaches back so far, else its first; None if it has none.

        Args:
            t_ms: epoch ms.
            end: how far the log may be read.
        """
        first = yield from self._offset_before(t_ms, (yield from self.bounds()).low, end)
        if first <= 0:
            return Place.genesis(self._realm.incarnation, self._partition)
        for record in self.records(first, end):
            if record is None:
                yield
                continue
            body = checkpoint_in(record, self._realm, self._partition, self._ports.verifier)
            if body is not None and body["verdict_offset"] >= first - 1:
                return Place.from_json(body)
        return None

    def _offset_before(self, t_ms: int, low: int, end: int) -> Generator[None, None, int]:
        """An offset before which everything was appended before t_ms, or `low`."""
        while end - low > SEARCH_RECORDS:
            middle = (low + end) // 2
            t = yield from self._time_at(middle, end)
            low, end = (middle, end) if t is not None and t < t_ms else (low, middle)
        return low

    def _time_at(self, offset: int, end: int) -> Generator[None, None, int | None]:
        self._follow(offset)
        while not self._tail.records and self._position() < end and not self._overtaken(offset):
            yield
        records = self._stop()
        return records[0].timestamp_ms if records else None

    def _position(self) -> int:
        return self._reading.position(self._topic, self._partition)

    def _overtaken(self, offset: int) -> bool:
        return self._tail.ends is not None and self._tail.ends.low > offset

    def _is_short(self) -> bool:
        return len(self._tail.records) < PIECE_RECORDS

    def _follow(self, offset: int) -> None:
        self._tail.drain()
        self._reading.follow(self._topic, self._partition, offset, self._tail)

    def _stop(self) -> list[LogRecord]:
        self._reading.stop(self._topic, self._partition)
        return self._tail.drain()
