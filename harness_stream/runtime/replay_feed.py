"""Both logs of a realm side by side: every input of a stretch with the effective record that covers it.

Rule of this file: what counts is `core.fold`'s to say; each partition keeps its own order exactly, and partitions are
merged by append time, as far as that can be. Memory is bounded: a partition that runs ahead of the others is not read
on before it is needed.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from harness_stream.core import limits
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import ANSWERS, DENIALS, STATEMENTS, Place
from harness_stream.errors import ProtocolError
from harness_stream.runtime.replay_log import Answered, Known, require_schema
from harness_stream.runtime.to_end import POLL_RECORDS, ends_of, require_readable, wait_or_give_up
from harness_stream.wire.decisions import read_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness_stream.ports import Clock, LogReader, LogRecord, Verifier
    from harness_stream.wire.topics import Topics

# Over all logs and partitions, shared out evenly; what is polled at once comes on top. At 2 KiB a record both say the
# same. A partition that was paused costs a new fetch, a few ms for what is then some thousand records.
BUFFER_RECORDS_MAX: Final = 65_536
BUFFER_BYTES_MAX: Final = 128 * limits.MIB
# A followed position that retention has overtaken delivers nothing; how often silence is looked into.
SILENT_MS: Final = 1_000


class Stretch(NamedTuple):
    """One partition's part of a replay.

    Attributes:
        place: the fold from which on the decision log is read; its next_input is at most `first`.
        decisions_end: the decision log's end as of now.
        first: first input offset of the stretch.
        end: the input offset after its last one.
    """

    partition: int
    place: Place
    decisions_end: int
    first: int
    end: int


@dataclass(slots=True)
class _Source:
    """One log of one partition: offsets `[next, end)` are still to be handed out, `buffer` holds the first of them.

    Attributes:
        read: what comes next from the reader.
        first: lowest offset that was ever asked for.
    """

    next: int
    end: int
    read: int
    first: int
    followed: bool = False
    size: int = 0
    buffer: deque[LogRecord] = field(default_factory=deque)


class Feed:
    """Records of several logs, each taken when it is asked for.

    Args:
        reader: used for nothing else meanwhile.
        clock: measures silence.
        ranges: (topic, partition) → offsets to read, [first, end).
    """

    def __init__(self, reader: LogReader, clock: Clock, ranges: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        self._reader, self._clock = reader, clock
        self._sources = {name: _Source(first, end, first, first) for name, (first, end) in ranges.items()}
        self._offsets = sum(max(0, end - first) for first, end in ranges.values())
        self._records_max = max(1, BUFFER_RECORDS_MAX // max(1, len(ranges)))
        self._bytes_max = max(1, BUFFER_BYTES_MAX // max(1, len(ranges)))
        for name, source in self._sources.items():
            self._follow(name, source)

    @property
    def share(self) -> float:
        """How much of everything was handed out, 0 to 1."""
        left = sum(max(0, source.end - source.next) for source in self._sources.values())
        return 1 - left / self._offsets if self._offsets else 1.0

    def peek(self, topic: str, partition: int) -> LogRecord | None:
        """The next record, which stays; None at the end. Waits for it.

        Raises:
            BrokerUnavailable: the broker does not answer any more.
            ProtocolError: retention has taken it.
            LogDamaged: it cannot be read.
        """
        name, source = (topic, partition), self._sources[topic, partition]
        heard_ms = watched_ms = self._clock.elapsed_ms()
        while not source.buffer and source.read < source.end:
            self._follow(name, source)
            if self._poll():
                heard_ms = watched_ms = self._clock.elapsed_ms()
            elif (position := self._reader.position(*name) or 0) >= source.end:
                source.read = position  # no record was left there
            elif self._clock.elapsed_ms() - watched_ms > SILENT_MS:
                self._require_kept(name, source)
                watched_ms = self._clock.elapsed_ms()
            else:
                require_readable(self._reader, topic, partition)
                wait_or_give_up(topic, self._clock, heard_ms)
        if not source.buffer:
            source.next = source.end
        return source.buffer[0] if source.buffer else None

    def pop(self, topic: str, partition: int) -> None:
        """Hand out what `peek` showed."""
        source = self._sources[topic, partition]
        record = source.buffer.popleft()
        source.size -= len(record.value or b"")
        source.next = record.offset + 1
        if len(source.buffer) <= self._records_max // 2 and source.size <= self._bytes_max // 2:
            self._follow((topic, partition), source)

    def begin(self, topic: str, partition: int, first: int) -> None:
        """Hand out this one's records from `first` on, also those that it had handed out before."""
        source = self._sources[topic, partition]
        self._offsets += max(0, min(source.first, source.end) - first)
        source.first = min(source.first, first)
        if source.next != first:
            self._unfollow((topic, partition), source)
            source.buffer.clear()
            source.next, source.read, source.size = first, first, 0

    def drop(self, topic: str, partition: int) -> None:
        """Nothing more of this one."""
        source = self._sources[topic, partition]
        self._unfollow((topic, partition), source)
        source.buffer.clear()
        source.next = source.read = source.end

    def _poll(self) -> int:
        records = self._reader.poll(POLL_RECORDS)
        for record in records:
            name = (record.topic, record.partition)
            source = self._sources.get(name)
            if source is None or not source.followed or record.offset < source.read:
                continue
            if record.offset < source.end:
                source.buffer.append(record)
                source.size += len(record.value or b"")
            source.read = record.offset + 1
            full = len(source.buffer) >= self._records_max or source.size >= self._bytes_max
            if full or source.read >= source.end:
                self._unfollow(name, source)
        return len(records)

    def _follow(self, name: tuple[str, int], source: _Source) -> None:
        if not source.followed and source.read < source.end:
            self._reader.follow(*name, source.read)
            source.followed = True

    def _unfollow(self, name: tuple[str, int], source: _Source) -> None:
        if source.followed:
            self._reader.unfollow(*name)
            source.followed = False

    def _require_kept(self, name: tuple[str, int], source: _Source) -> None:
        low = ends_of(self._reader, *name, self._clock).low
        if source.read < low:
            raise ProtocolError(
                f"partition {name[1]} of `{name[0]}` is kept from offset {low} on: retention has overtaken the reader",
                hint="begin later",
            )


class DecidedLog:
    """One partition of both logs: first what is known from before the stretch, then each of its inputs.

    Args:
        feed: holds both logs of the partition.
        stretch: which part.
        topics: the realm's.
        verifier: says which records are authentic.
    """

    def __init__(self, feed: Feed, stretch: Stretch, topics: Topics, verifier: Verifier) -> None:
        self._feed, self._stretch, self._verifier = feed, stretch, verifier
        self._decisions = (topics.verdicts, stretch.partition)
        self._inputs = (topics.intents, stretch.partition)
        self._place = stretch.place

    @property
    def undecided(self) -> int:
        """Input offsets at the stretch's end that no effective record covers yet."""
        return max(0, self._stretch.end - max(self._stretch.first, self._place.header.next_input))

    def __iter__(self) -> Iterator[Known | Answered]:
        """Everything in order.

        Raises:
            BrokerUnavailable, ProtocolError: as `Feed.peek`; also ProtocolError, a run's record counts and is none.
        """
        void = 0
        while self._place.header.next_input < self._stretch.end and (record := self._feed.peek(*self._decisions)):
            self._feed.pop(*self._decisions)
            body, digest = read_body(record.value)
            authentic = self._verifier.decision_authentic(record)
            place = self._place.after(record.offset, body, digest) if authentic else None
            if place is None:
                void += body.get("kind") not in STATEMENTS
                continue
            self._place = place
            if body["kind"] in ANSWERS:
                if body["kind"] == DENIALS:  # else it could not even be taken apart
                    require_schema(body, record.partition)
                for answer in answers_in(body):
                    yield from self._covered(Known(record.partition, record.timestamp_ms or 0, answer, digest))
        if void and self._place == self._stretch.place and self._stretch.first < self._stretch.end:
            raise ProtocolError(
                f"no record in partition {self._stretch.partition} of `{self._decisions[0]}` counts",
                hint="were the topics recreated? Records of other topics' time count no more",
            )
        self._feed.drop(*self._decisions)
        self._feed.drop(*self._inputs)

    def _covered(self, known: Known) -> Iterator[Known | Answered]:
        first, last = known.body["covers"]
        if last < self._stretch.first:
            yield known
            return
        while (record := self._feed.peek(*self._inputs)) is not None and record.offset <= last:
            self._feed.pop(*self._inputs)
            if record.offset >= first:  # an operator may have left inputs out
                yield Answered(record, known.body)


def ranges_of(stretches: list[Stretch], topics: Topics) -> dict[tuple[str, int], tuple[int, int]]:
    """What a `Feed` must hold for these stretches."""
    decisions = {(topics.verdicts, s.partition): (s.place.offset + 1, s.decisions_end) for s in stretches}
    return decisions | {(topics.intents, s.partition): (s.first, s.end) for s in stretches}


def merged(logs: list[DecidedLog]) -> Iterator[Known | Answered]:
    """All partitions by append time; where time steps back inside a partition, its order is kept."""
    return heapq.merge(*logs, key=lambda item: (item.at_ms, item.partition))
