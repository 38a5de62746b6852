"""Follows the checkpoints of all partitions and holds some of them elsewhere (`harness log witness`).

Rule of this file: whatever contradicts what is held is told at once and held as well; which of two is true, the log
itself is asked. Nothing is judged away: what is held is evidence, which `log verify` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from harness_stream.core.audit.findings import Finding, Kind
from harness_stream.core.fold import Place
from harness_stream.core.witness import DIGITS_SHOWN, Contradiction, Held, contradiction, described
from harness_stream.runtime.history import any_checkpoint_in
from harness_stream.runtime.to_end import ends_of, read_to_end, require_readable
from harness_stream.wire.decisions import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from harness_stream.core.fold import Body
    from harness_stream.ports import Clock, LogReader, LogRecord, Verifier
    from harness_stream.wire.topics import Topics

POLL_RECORDS: Final = 1_000


class Keeper(Protocol):
    """Where checkpoints are held."""

    @property
    def newest(self) -> Mapping[int, Held]:
        """Partition → what was held last."""

    def append(self, held: Held) -> None:
        """Hold one more, for good (raises Unavailable)."""


@dataclass(frozen=True, slots=True)
class WitnessPorts:
    """What a witness may ask of the outside.

    Attributes:
        reader: follows the heads topic, and does nothing else meanwhile.
        again: another one, for looks into the decision log.
        incarnation: asks which log topics there are now.
    """

    reader: LogReader
    again: LogReader
    topics: Topics
    verifier: Verifier
    clock: Clock
    incarnation: Callable[[], str]


class Seen(StrEnum):
    """What the decision log has at a place."""

    STANDS = "stands"
    ANOTHER = "another"
    BEYOND = "beyond"
    GONE = "gone"


class Look(NamedTuple):
    """What the decision log has at a place, and that in words."""

    seen: Seen
    text: str

    @property
    def possible(self) -> bool:
        """The log does not say that it is false."""
        return self.seen in {Seen.STANDS, Seen.GONE}


class Witness:
    """Follows the checkpoints of some partitions.

    Args:
        ports: see there.
        keeper: where they are held.
        partitions: which.
        every_ms: of each partition the newest checkpoint of each so many ms is held, by the broker's time.

    Attributes:
        read: records of the heads topic read since it began.
    """

    def __init__(self, ports: WitnessPorts, keeper: Keeper, partitions: Iterable[int], every_ms: int) -> None:
        self._ports = ports
        self._incarnation = self._foreign = ports.incarnation()
        self._watched = {number: Watched(ports, keeper, number, every_ms, self._incarnation) for number in partitions}
        self._ends: dict[int, int] = {}
        self.read = 0

    @property
    def kept(self) -> int:
        """How many were held since it began."""
        return sum(watched.kept for watched in self._watched.values())

    def begin(self) -> Iterator[Finding]:
        """Compare what is held with the log, and follow all partitions.

        Raises:
            BrokerUnavailable: the broker does not answer.
        """
        topic, reader = self._ports.topics.heads, self._ports.reader
        firsts = {}
        for number, watched in self._watched.items():
            yield from watched.begin()
            ends = ends_of(reader, topic, number, self._ports.clock)
            self._ends[number] = ends.end
            firsts[number], found = watched.first(ends.low, ends.end)
            yield from found
        for number, first in firsts.items():
            reader.follow(topic, number, first)

    @property
    def behind(self) -> bool:
        """Not everything that was there when it began has been read (raises LogDamaged: it cannot be)."""
        reader, topic = self._ports.reader, self._ports.topics.heads
        for number in self._ends:
            require_readable(reader, topic, number)
        return any((reader.position(topic, number) or 0) < end for number, end in self._ends.items())

    def step(self) -> Iterator[Finding]:
        """Take what has arrived, and hold what is due.

        Raises:
            BrokerUnavailable: the log had to be asked, and the broker does not answer.
            Unavailable: what was due could not be written.
        """
        for record in self._ports.reader.poll(POLL_RECORDS):
            self.read += 1
            yield from self._take(record)
        now_ms = self._ports.clock.now_ms()
        for watched in self._watched.values():
            yield from watched.due(now_ms)

    def finish(self) -> None:
        """Hold what is not held yet, and ask nobody (raises Unavailable)."""
        for watched in self._watched.values():
            watched.write()

    def _take(self, record: LogRecord) -> Iterator[Finding]:
        body = any_checkpoint_in(record, record.partition, self._ports.verifier)
        if body is None:
            return
        held = Held(Place.from_json(body), record.timestamp_ms or 0, record.offset)
        if body["incarnation"] not in {self._incarnation, self._foreign}:
            yield from self._look_for_recreation(body["incarnation"])
        if body["incarnation"] == self._incarnation:
            yield from self._watched[record.partition].take(held)

    def _look_for_recreation(self, said: str) -> Iterator[Finding]:
        """Somebody speaks of other log topics: a former owner, or these were made anew."""
        self._foreign, was = said, self._incarnation
        self._incarnation = self._ports.incarnation()
        if self._incarnation != was:
            for watched in self._watched.values():
                yield from watched.move_to(self._incarnation)


class Watched:
    """One partition.

    Args:
        ports: the witness's.
        keeper: where checkpoints are held.
        partition: which.
        every_ms: length of an interval, of which the newest is held.
        incarnation: of the log topics.

    Attributes:
        kept: how many were held since it began.
    """

    def __init__(self, ports: WitnessPorts, keeper: Keeper, partition: int, every_ms: int, incarnation: str) -> None:
        self.kept = 0
        self._ports, self._keeper, self._partition, self._every_ms = ports, keeper, partition, every_ms
        self._incarnation = incarnation
        self._base: Place | None = None  # what the next one must go on from
        self._proof: Place | None = None  # what was held last and stood in the log then
        self._waiting: Held | None = None  # the newest of its interval so far

    def begin(self) -> Iterator[Finding]:
        """Does the log still hold what was held last?"""
        held = self._keeper.newest.get(self._partition)
        if held is None:
            return
        if held.place.header.incarnation != self._incarnation:
            yield self._recreated(held.place)
            return
        look = self._look(held.place)
        if look.possible:
            self._base = self._proof = held.place
        else:
            yield self._missing(held.place, look)

    def first(self, low: int, end: int) -> tuple[int, list[Finding]]:
        """(heads offset to go on at, what is wrong with that).

        Args:
            low: first offset that the heads topic keeps.
            end: of the heads topic.
        """
        held = self._keeper.newest.get(self._partition)
        if held is None or held.place.header.incarnation != self._incarnation:
            return low, []
        if held.at < end:
            return max(low, held.at + 1), []
        text = f"the heads topic ends at {end}, and the checkpoint held last was read there at {held.at}"
        return low, [self._finding(Kind.TRUNCATED, held.place, text)]

    def take(self, held: Held) -> Iterator[Finding]:
        """The next checkpoint of this incarnation, in the order of the heads topic."""
        why = None if self._base is None else contradiction(self._base, held.place)
        if self._base is not None and why is not None:
            yield from self._contradicted(self._base, held, why)
            return
        self._base = held.place
        yield from self._wait_with(held)

    def due(self, now_ms: int) -> Iterator[Finding]:
        """Hold what is waiting if its interval has ended."""
        if self._waiting is not None and now_ms // self._every_ms > self._waiting.append_ms // self._every_ms:
            yield from self._hold()

    def write(self) -> None:
        """Hold what is waiting, whenever its interval ends."""
        held, self._waiting = self._waiting, None
        if held is not None and held != self._keeper.newest.get(self._partition):
            self._keeper.append(held)
            self.kept += 1

    def move_to(self, incarnation: str) -> Iterator[Finding]:
        """The log topics were made anew."""
        base, self._incarnation = self._base, incarnation
        self._base = self._proof = None
        self.write()
        if base is not None:
            yield self._recreated(base)

    def _wait_with(self, held: Held) -> Iterator[Finding]:
        if self._waiting is not None and held.append_ms // self._every_ms != self._waiting.append_ms // self._every_ms:
            yield from self._hold()
        self._waiting = held

    def _hold(self) -> Iterator[Finding]:
        """Hold what is waiting; a log that was written anew shows when what was held before it has left."""
        before, self._proof = self._proof, self._base
        self.write()
        look = None if before is None else self._look(before)
        if before is not None and look is not None and not look.possible:
            yield self._missing(before, look)

    # --- asking the log ---

    def _contradicted(self, base: Place, held: Held, why: Contradiction) -> Iterator[Finding]:
        was, now = self._look(base), self._look(held.place)
        if was.possible and now.possible and self._is_harmless(base, held.place, why):
            if why is Contradiction.INPUT:
                self._base = held.place
                yield from self._wait_with(held)
            return
        self.write()
        self._waiting = held
        self.write()
        text = f"{was.text}; a checkpoint says {described(held.place)} ({now.text}): {why}"
        yield self._finding(_kind(was), base, text)
        if now.possible:
            self._base = held.place
        elif not was.possible:
            self._base = None
        self._proof = self._base

    def _is_harmless(self, base: Place, after: Place, why: Contradiction) -> bool:
        """Both may be true: a former owner's word that came late, or an operator's resume between them."""
        if why is Contradiction.INPUT:
            return self._resumed(base, after)
        return why is Contradiction.LOWER and after.header.epoch <= base.header.epoch

    def _resumed(self, base: Place, after: Place) -> bool:
        topic, ports = self._ports.topics.verdicts, self._ports
        for record in read_to_end(ports.again, topic, self._partition, ports.clock, base.offset + 1):
            body, _ = read_body(record.value)
            if record.offset > after.offset:
                ports.again.unfollow(topic, self._partition)
                break
            if _resumes(body, base, after) and ports.verifier.decision_authentic(record):
                ports.again.unfollow(topic, self._partition)
                return True
        return False

    def _look(self, place: Place) -> Look:
        topic, reader, clock = self._ports.topics.verdicts, self._ports.again, self._ports.clock
        ends = ends_of(reader, topic, self._partition, clock)
        if place.offset >= ends.end:
            return Look(Seen.BEYOND, f"the log ends at {ends.end}")
        if place.offset < ends.low:
            return Look(Seen.GONE, "its record is no longer kept")
        for record in read_to_end(reader, topic, self._partition, clock, place.offset):
            reader.unfollow(topic, self._partition)
            return _compared(place, record)
        return Look(Seen.BEYOND, "no record stands there any more")

    # --- in words ---

    def _finding(self, kind: Kind, base: Place, what: str) -> Finding:
        return Finding(kind, self._partition, base.offset, f"held: {described(base)}; {what}")

    def _missing(self, place: Place, look: Look) -> Finding:
        return self._finding(_kind(look), place, look.text)

    def _recreated(self, held: Place) -> Finding:
        text = (
            f"held of the log topics {held.header.incarnation}: {described(held)}; now they are {self._incarnation}: "
            "they were recreated, or another realm's are held here"
        )
        return Finding(Kind.RECREATED, self._partition, held.offset, text)


def _resumes(body: Body, base: Place, after: Place) -> bool:
    epoch = body.get("epoch") if body.get("kind") == "resume" else None
    return type(epoch) is int and base.header.epoch < epoch <= after.header.epoch


def _kind(look: Look) -> Kind:
    return Kind.TRUNCATED if look.seen is Seen.BEYOND else Kind.WITNESS


def _compared(place: Place, record: LogRecord) -> Look:
    if record.offset != place.offset:
        return Look(Seen.ANOTHER, "no record stands there")
    body, digest = read_body(record.value)
    if digest == place.digest:
        return Look(Seen.STANDS, "its record stands there")
    return Look(Seen.ANOTHER, f"there stands a {body.get('kind')}, record {digest[:DIGITS_SHOWN]}")
