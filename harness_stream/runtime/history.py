"""Stretches of one partition's decision log, read back in bounded pieces (PROTOCOL §7).

Rule of this file: nothing is taken in before it is asked for, so that a day of history fits into a few megabytes, and
every step is a generator that yields whenever it would have to wait. Several may read at once: they take turns piece by
piece, so that a long stretch never keeps a short one waiting. A stretch is folded from a place that a checkpoint in the
log vouches for, never from its first record.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from harness_stream.core import limits
from harness_stream.core.apply import Change, change_of
from harness_stream.core.fold import CHANGING, Place
from harness_stream.core.records import Checkpoint
from harness_stream.wire.decisions import digest_of, read_body

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from harness_stream.core.warming import Warmup
    from harness_stream.ports import Ends, LogRecord, Verifier
    from harness_stream.runtime.reading import Reading
    from harness_stream.runtime.realm import Ports, Realm

# One step: other partitions decide in between, and the tables must not grow stale meanwhile.
STEP_MS_MAX: Final = 10
# Buffered at once, and one poll more: about as much as one fetch brings. A snapshot is as large as a hundred verdicts.
PIECE_RECORDS: Final = 2_000
PIECE_BYTES: Final = 2 * limits.MIB
# A search by time stops when so little is left: reading it costs less than another look.
SEARCH_RECORDS: Final = 1_000
# A checkpoint names a record of at most 3 s before (the producer's delivery time-out): so many at 5,000 a second.
NAMED_RECORDS_MAX: Final = 16_384


def ahead_text(offset: int, end: int) -> str:
    """The state store knows of a record that is behind the decision log's end."""
    return f"the state store stands at {offset}, and the decision log has nothing from {end} on"


def moved_text(offset: int) -> str:
    """The decision log has another record than the one that the state store was moved by."""
    return f"the state store was moved by another record at {offset} than the decision log has there"


class Tail:
    """Buffers one followed partition and its newest bounds (a `Follower`)."""

    def __init__(self) -> None:
        self.records: deque[LogRecord] = deque()
        self.size = 0
        self.ends: Ends | None = None

    def take(self, record: LogRecord) -> None:
        """Keep it until it is drained; `Reading` bounds what arrives per turn."""
        self.records.append(record)
        self.size += len(record.value or b"")

    def bounds(self, ends: Ends, position: int | None) -> None:  # noqa: ARG002  whoever needs the position asks for it
        """Keep the newest bounds."""
        self.ends = ends

    def drain(self) -> list[LogRecord]:
        """What has arrived."""
        records = list(self.records)
        self.records.clear()
        self.size = 0
        return records


def checkpoint_in(record: LogRecord, realm: Realm, partition: int, verifier: Verifier) -> Mapping[str, Any] | None:
    """The authentic checkpoint of this partition of this very log that a record is, else None."""
    body = any_checkpoint_in(record, partition, verifier)
    return body if body is not None and body["incarnation"] == realm.incarnation else None


def any_checkpoint_in(record: LogRecord, partition: int, verifier: Verifier) -> Mapping[str, Any] | None:
    """The same of any incarnation: topics may have been recreated."""
    body, _ = read_body(record.value)
    if body.get("kind") != "checkpoint" or not verifier.decision_authentic(record):
        return None
    try:  # strictly, since what is read of it is the body: "7" is no epoch
        Checkpoint.model_validate(body, strict=True)
        Place.from_json(body)
    except (ValidationError, TypeError, RecursionError):
        return None
    return body if body["partition"] == partition else None


class Readback:
    """Reads stretches of one partition of a topic back.

    Args:
        topic: which.
        partition: of it.
        ports: the realm's ports.
        reading: the worker's reader.
        tail: follows this partition.

    Attributes:
        offset: of the record last handed out.
    """

    def __init__(self, topic: str, partition: int, ports: Ports, reading: Reading, tail: Tail) -> None:
        self._topic, self._partition, self._ports = topic, partition, ports
        self._reading, self._tail = reading, tail
        self._taken = False  # a piece is being read
        self.offset = 0

    def bounds(self) -> Generator[None, None, Ends]:
        """The partition's bounds, asked for now."""
        self._tail.ends = None
        asked_ms = self._ports.clock.elapsed_ms()
        self._reading.ask(self._topic, self._partition, asked_ms)
        while self._tail.ends is None or self._tail.ends.asked_at_ms < asked_ms:
            yield
        return self._tail.ends

    def records(self, first: int, end: int) -> Generator[LogRecord | None, None, None]:
        """Records from offset `first` up to, not including, `end`; None whenever the caller has to give way.

        It ends early if retention overtakes it.
        """
        clock, at = self._ports.clock, first
        while at < end and not self._overtaken(at):
            at, records = yield from self._piece(at, end, PIECE_RECORDS)
            started_ms = clock.elapsed_ms()
            for record in records:
                if clock.elapsed_ms() - started_ms > STEP_MS_MAX:
                    yield None
                    started_ms = clock.elapsed_ms()
                if record.offset < end:
                    self.offset = record.offset
                    yield record

    def any_between(self, first: int, end: int) -> Generator[None, None, bool]:
        """Is there a record from offset `first` up to, not including, `end`? Transaction markers are none."""
        _, records = yield from self._piece(first, end, 1)
        return bool(records) and records[0].offset < end

    def _piece(self, first: int, end: int, enough: int) -> Generator[None, None, tuple[int, list[LogRecord]]]:
        """(where to go on, records) once `enough` have come or all up to `end`."""
        while self._taken:
            yield None
        self._taken = True
        try:
            self._tail.drain()
            self._reading.follow(self._topic, self._partition, first, self._tail)
            while self._has_room(enough) and self._position() < end and not self._overtaken(first):
                yield None
            return max(first, self._position()), self._tail.drain()
        finally:
            self._reading.stop(self._topic, self._partition)
            self._taken = False

    def _has_room(self, enough: int) -> bool:
        return len(self._tail.records) < enough and self._tail.size < PIECE_BYTES

    def _position(self) -> int:
        return self._reading.position(self._topic, self._partition)

    def _overtaken(self, offset: int) -> bool:
        return self._tail.ends is not None and self._tail.ends.low > offset


class Effective(NamedTuple):
    """One effective record.

    Attributes:
        place: the fold after it.
        change: what it does to chains, None if nothing.
    """

    place: Place
    body: Mapping[str, Any]
    change: Change | None


class History(Readback):
    """Reads one partition's decision log back.

    Args:
        partition: which.
        realm: this realm.
        ports: its ports.
        reading: the worker's reader.
        tail: follows this partition's decision log.
    """

    def __init__(self, partition: int, realm: Realm, ports: Ports, reading: Reading, tail: Tail) -> None:
        super().__init__(realm.topics.verdicts, partition, ports, reading, tail)
        self._realm = realm

    def effective(self, place: Place, end: int) -> Generator[Effective | None, None, None]:
        """The records that count after `place`, up to `end`; None whenever the caller has to give way."""
        for record in self.records(place.offset + 1, end):
            if record is None:
                yield None
                continue
            body, digest = read_body(record.value)
            authentic = self._ports.verifier.decision_authentic(record)
            after = place.after(record.offset, body, digest) if authentic else None
            if after is not None:
                place = after
                changes = body["kind"] in CHANGING
                yield Effective(place, body, change_of(body, digest) if changes else None)

    def count(
        self, warmup: Warmup, end: int, revision: int, end_t: int, counted: Place | None = None
    ) -> Generator[None, None, Place]:
        """Give a warm-up everything that counts after its place, up to `end` or the switch to `revision`.

        If retention took a part, nothing before the end counts as seen.

        Args:
            warmup: it.
            end: decision-log offset.
            revision: of the switch it is for.
            end_t: chain time at the end, or later.
            counted: how far it has come already, None if it has not begun.

        Returns:
            How far it has come.
        """
        yield from self.bounds()
        first = place = counted or warmup.place
        for step in self.effective(place, end):
            if step is None:
                yield
                continue
            if step.body["kind"] == "switch" and step.body["rules"]["revision"] == revision:
                break
            place = step.place
            if step.change is not None:
                warmup.take(step.change)
        if self._overtaken(first.offset + 1):
            warmup.forget_before(end_t)
        return place

    def place_before(self, t_ms: int, end: int) -> Generator[None, None, Place | None]:
        """A place at or before append time t_ms, if the log reaches back so far, else its first; None if it has none.

        Args:
            t_ms: epoch ms.
            end: how far the log may be read.
        """
        low = (yield from self.bounds()).low
        first = yield from self._offset_before(t_ms, low, end)
        if first <= 0:
            return Place.genesis(self._realm.incarnation, self._partition)
        seen = deque[tuple[int, str]](maxlen=NAMED_RECORDS_MAX)
        for record in self.records(max(low, first - 1), end):
            if record is None:
                yield
                continue
            body = checkpoint_in(record, self._realm, self._partition, self._ports.verifier)
            # One that landed after the log was cut names a record that is no longer in it, or another one by now.
            if body is not None and first - 1 <= body["verdict_offset"] < record.offset:
                place = Place.from_json(body)
                if place.offset < low or (place.offset, place.digest) in seen:
                    return place
            seen.append((record.offset, digest_of(record.value or b"")))
        return None

    def _offset_before(self, t_ms: int, low: int, end: int) -> Generator[None, None, int]:
        """An offset before which everything was appended before t_ms, or `low`."""
        while end - low > SEARCH_RECORDS:
            middle = (low + end) // 2
            t = yield from self._time_at(middle, end)
            low, end = (middle, end) if t is not None and t < t_ms else (low, middle)
        return low

    def _time_at(self, offset: int, end: int) -> Generator[None, None, int | None]:
        _, records = yield from self._piece(offset, end, 1)
        return records[0].timestamp_ms if records else None
