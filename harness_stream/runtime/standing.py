"""Where one partition stands, as far as the logs and the store tell anyone who reads them (PROTOCOL §5, §7).

Rule of this file: nothing is written and nobody is asked but logs and store. It finds what would halt a worker by what
halts one: a checkpoint that the decision log cannot extend, an input log too short, a history that nothing reaches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from harness_stream.core import limits
from harness_stream.core.audit.void import strangers_text
from harness_stream.core.fold import STATEMENTS, Place, is_own
from harness_stream.errors import LogDamaged, StateUnavailable
from harness_stream.runtime.checkpoints import CHECKPOINT_IDLE_MS
from harness_stream.runtime.history import ahead_text, any_checkpoint_in, moved_text
from harness_stream.runtime.mover import is_filling
from harness_stream.runtime.snapshots_seen import lost_record, snapshotted, unreadable
from harness_stream.runtime.to_end import ends_of, read_to_end, record_at
from harness_stream.wire.decisions import digest_of, read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.fold import Body
    from harness_stream.ports import Clock, Ends, Headers, LogReader, LogRecord, StateStore, Verifier
    from harness_stream.wire.topics import Topics

# With work to do an owner writes each second (CHECKPOINT_INTERVAL_MS), and after a crash its successor within ten: the
# group's session of 6 s, then loading and the claim.
SILENT_MS: Final = 10 * limits.CHECKPOINT_INTERVAL_MS
# Void records are looked for among so many: below 2,000 a second a checkpoint to fold from is among them, and a
# takeover, which leaves at most IN_FLIGHT_RECORDS_MAX of them, is seen for a while.
SAMPLE_RECORDS: Final = 2_000


class Trouble(StrEnum):
    """What keeps every worker from going on, until an operator says how."""

    CONTRADICTED = "the log contradicts its checkpoint"
    INPUT_SHORT = "inputs that were answered are gone"
    HISTORY_GONE = "nothing says what agents did before the log's first record"
    SNAPSHOT_UNREADABLE = "a snapshot cannot be read"
    DAMAGED = "what a worker reads to load cannot be read"
    INPUT_DAMAGED = "the next input cannot be read"
    NOT_AUTHENTIC = "nothing in the decision log is authentic here"
    """No worker with these keys begins it a second time; with the right ones nothing keeps it from going on."""
    UNTOLD = "only the worker's log says why"
    """Never found here: what an operator takes it for who lets a silent partition go on without its history."""


class Activity(StrEnum):
    """What is concluded of a partition's owner."""

    HALTED = "halted"
    UNCLAIMED = "never claimed"
    DECIDING = "deciding"
    AT_REST = "at rest"
    RESUMED = "resumed, not claimed"
    RELEASED = "released"
    SILENT = "claimed and silent"


@dataclass(frozen=True, slots=True)
class Source:
    """What a partition's standing is read from; nothing else is done with these meanwhile.

    Attributes:
        incarnation: ids of the two log topics.
        store: the workers' state store.
        clock: wall time and patience.
    """

    reader: LogReader
    topics: Topics
    incarnation: str
    verifier: Verifier
    store: StateStore
    clock: Clock


class Stored(NamedTuple):
    """What the state store says of a partition.

    Attributes:
        place: where it stands in this incarnation, None if nowhere.
        answers: it was asked and answered.
        filling: it is between two steps of a longer one, so it names no place.
    """

    place: Place | None
    answers: bool = True
    filling: bool = False


NOWHERE: Final = Stored(None)


class Stated(NamedTuple):
    """A checkpoint, when it was written (epoch ms), and the headers that vouch for it."""

    body: Body
    append_ms: int
    headers: Headers = ()

    @property
    def place(self) -> Place:
        """The fold that it states."""
        return Place.from_json(self.body)


class Heard:
    """The fold of the decision log, and what else was met on the way.

    Args:
        source: says which records are authentic, and of which incarnation.
        partition: which.
        place: where to fold from; None: from the first checkpoint that the log goes on from.
        low: first offset that the log keeps.
        wanted: offsets whose records' digests are kept.

    Attributes:
        place: the fold so far, None as long as nothing says what came before the log's first record.
        void: records that did not count.
        records: all of them, checkpoints left out.
        strangers: records that are not authentic.
        believed: some record is.
        resumed: the newest epoch was begun by an operator, and no worker has claimed since.
        epoch_seen: highest epoch of any record, effective or not.
        owner_ms: append time of the owner's newest record, None if none was met.
        final: the owner's last word is that it stopped.
        digests: of the wanted records.
        last: offset of the newest record, −1 if there is none; markers and a cut leave holes behind it.
    """

    def __init__(self, source: Source, partition: int, place: Place | None, low: int, wanted: frozenset[int]) -> None:
        self.place = place
        self.void = self.records = self.strangers = 0
        self.believed = self.resumed = False
        self.epoch_seen = 0 if place is None else place.header.epoch
        self.owner_ms: int | None = None
        self.final = False
        self.digests: dict[int, str] = {}
        self.last = -1
        self._source, self._partition, self._low, self._wanted = source, partition, low, wanted
        self._before: list[tuple[LogRecord, Body, str]] = []  # what was met while `place` was not known

    def take(self, record: LogRecord) -> None:
        """The next record."""
        body, digest = read_body(record.value)
        self.last = record.offset
        if record.offset in self._wanted:
            self.digests[record.offset] = digest
        if self._source.verifier.decision_authentic(record):
            self.believed = True
        else:
            self.strangers += 1
            body = {}  # it does not count, whatever it says
        epoch = body.get("epoch")
        if type(epoch) is int:
            self.epoch_seen = max(self.epoch_seen, epoch)
        if self.place is not None:
            self._fold(record, body, digest, self.place)
            return
        self._before.append((record, body, digest))
        self.place = place = self._begun_by(record)
        if place is not None:
            # The checkpoint may state a place that is some effective records behind it.
            before, self._before = self._before, []
            for earlier in before:
                self._fold(*earlier, self.place or place)

    def may_hold(self, offset: int, digest: str) -> bool:
        """False if the record there is known to be another one, or none where retention took nothing."""
        if offset in self.digests or offset not in self._wanted or offset < self._low:
            return self.digests.get(offset, digest) == digest
        return False

    def _begun_by(self, record: LogRecord) -> Place | None:
        body = any_checkpoint_in(record, self._partition, self._source.verifier)
        if body is None or body["incarnation"] != self._source.incarnation:
            return None
        place = Place.from_json(body)
        return place if self._low - 1 <= place.offset < record.offset else None

    def _fold(self, record: LogRecord, body: Body, digest: str, place: Place) -> None:
        after, checkpoint = place.after(record.offset, body, digest), body.get("kind") == "checkpoint"
        if after is not None or is_own(place.header, body):
            self.owner_ms = record.timestamp_ms
            self.final = checkpoint and body.get("final") is True
        here = (record.offset, digest) == (place.offset, place.digest)
        if body.get("kind") in {"claim", "resume"} and (here or after is not None):
            self.resumed = body["kind"] == "resume"
        if record.offset > place.offset and body.get("kind") not in STATEMENTS:
            self.records += 1
            self.void += after is None
        self.place = after or place


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition.

    Attributes:
        incarnation: ids of the two log topics.
        checkpoint: the newest one, None if none was written in this incarnation.
        former: epochs up to this one were claimed in another incarnation, whose topics were recreated; 0 if none was.
        ends: the decision log's bounds.
        input_ends: the input log's.
        heard: in the decision log.
        sampled: in its newest SAMPLE_RECORDS, as far as a checkpoint among them tells what counts.
        store: what the state store says.
        waiting_ms: for how long the first unanswered input has been in the log, None if all are answered.
        troubles: what halts it, with details.
        input_damaged: the first input offset that cannot be read, if it is the next one to be answered.
    """

    incarnation: str
    partition: int
    checkpoint: Stated | None
    former: int
    ends: Ends
    input_ends: Ends
    heard: Heard
    sampled: Heard | None = None
    store: Stored = NOWHERE
    waiting_ms: int | None = None
    troubles: Mapping[Trouble, str] | None = None
    input_damaged: int | None = None

    @property
    def halted(self) -> bool:
        """Can no worker go on?"""
        return bool(self.troubles)

    @property
    def decisions_lost(self) -> str | None:
        """What shows that the log lost decisions, None if nothing does: the store holds only what was acknowledged."""
        place = self.store.place
        if place is None:
            return None
        if place.offset >= self.ends.end:
            return ahead_text(place.offset, self.ends.end)
        return None if self.heard.may_hold(place.offset, place.digest) else moved_text(place.offset)

    @property
    def next_input(self) -> int | None:
        """First input offset that no effective record covers, as far as it is known."""
        place = self.heard.place or (self.checkpoint and self.checkpoint.place)
        return None if place is None else place.header.next_input

    @property
    def epoch_seen(self) -> int:
        """Highest epoch that anything names."""
        places = [self.store.place, self.checkpoint and self.checkpoint.place]
        return max(self.heard.epoch_seen, self.former, *(0 if p is None else p.header.epoch for p in places))

    def activity(self, now_ms: int) -> tuple[Activity, str]:
        """What the owner does, and what that is concluded from.

        Args:
            now_ms: wall time, epoch ms.
        """
        if self.troubles:
            return Activity.HALTED, "; ".join(self.troubles.values())
        place = self.heard.place
        if place is None or place.header.epoch == 0:
            recreated = "; the newest checkpoint is of another incarnation: a log topic was recreated"
            return Activity.UNCLAIMED, "there is no claim" + (recreated if self.former else "")
        if self.heard.final:
            return Activity.RELEASED, "its last record is a clean stop's checkpoint"
        if self.heard.resumed:
            return Activity.RESUMED, "an operator's word is the newest epoch, and no worker has claimed since"
        return self._owner_activity(None if self.owner_ms is None else now_ms - self.owner_ms)

    def unattended(self, now_ms: int) -> bool:
        """Does nobody decide it, for longer than a worker needs to claim?"""
        activity, _ = self.activity(now_ms)
        if activity is Activity.RESUMED:
            return self.owner_ms is not None and now_ms - self.owner_ms > SILENT_MS
        return activity is Activity.SILENT

    @property
    def owner_ms(self) -> int | None:
        """When the owner was last heard, epoch ms: in the log, or where retention emptied it by its last checkpoint."""
        stated = self.checkpoint
        if self.heard.owner_ms is None and stated is not None and stated.body["epoch"] == self.epoch_seen:
            return stated.append_ms
        return self.heard.owner_ms

    def _owner_activity(self, silent_ms: int | None) -> tuple[Activity, str]:
        waiting_ms = self.waiting_ms or 0
        if silent_ms is not None and silent_ms <= SILENT_MS:
            return Activity.DECIDING, "its owner wrote just now"
        if waiting_ms > SILENT_MS:
            return Activity.SILENT, f"its first unanswered input has been waiting for {waiting_ms // 1000} s"
        if silent_ms is None or silent_ms > CHECKPOINT_IDLE_MS + SILENT_MS:
            return Activity.SILENT, "not even the hourly checkpoint of an owner at rest was written"
        return Activity.AT_REST, "every input is answered; an owner at rest writes once an hour"


def standing(source: Source, partition: int) -> Standing:
    """Read one partition's logs and store.

    Whatever names a place in the decision log is read before that log's end is asked for: an owner goes on meanwhile.

    Raises:
        BrokerUnavailable: the broker does not answer.
    """
    try:
        return _standing(source, partition)
    except LogDamaged as damage:
        return _damaged(source, partition, damage)


def _damaged(source: Source, partition: int, damage: LogDamaged) -> Standing:
    """No worker can read it either, so that only the newest checkpoint tells of it."""
    source.reader.unfollow(damage.topic, damage.partition)
    checkpoint, former = None, 0
    if damage.topic != source.topics.heads:
        checkpoint, former = _newest_checkpoint(source, partition)
    store = _stored(source, partition)
    ends = ends_of(source.reader, source.topics.verdicts, partition, source.clock)
    input_ends = ends_of(source.reader, source.topics.intents, partition, source.clock)
    heard = Heard(source, partition, None if checkpoint is None else checkpoint.place, ends.low, frozenset())
    found = Standing(source.incarnation, partition, checkpoint, former, ends, input_ends, heard)
    return replace(found, store=store, troubles={Trouble.DAMAGED: damage.message})


def _standing(source: Source, partition: int) -> Standing:
    checkpoint, former = _newest_checkpoint(source, partition)
    store = _stored(source, partition)
    ends = ends_of(source.reader, source.topics.verdicts, partition, source.clock)
    found = _folded(source, partition, checkpoint, ends, store.place)
    known = found.heard.place or (checkpoint and checkpoint.place)
    input_ends = ends_of(source.reader, source.topics.intents, partition, source.clock)
    found = replace(found, former=former, store=store, input_ends=input_ends)
    found = replace(found, sampled=_sampled(source, partition, ends))
    troubles = dict(found.troubles or {})
    if checkpoint is None and found.heard.strangers and not found.heard.believed:
        troubles[Trouble.NOT_AUTHENTIC] = strangers_text(found.heard.strangers)
    if known is not None and known.header.next_input > input_ends.end:
        end, last = input_ends.end, known.header.next_input - 1
        troubles[Trouble.INPUT_SHORT] = f"the input log ends at {end}, but inputs up to {last} were answered"
    if not troubles and store.answers and not reached(source, found):
        troubles[Trouble.HISTORY_GONE] = f"the log begins at {ends.low} and neither store nor snapshots reach it"
    try:
        found = replace(found, waiting_ms=_waiting_ms(source, found))
    except LogDamaged as damage:
        source.reader.unfollow(damage.topic, damage.partition)
        troubles[Trouble.INPUT_DAMAGED] = damage.message
        found = replace(found, input_damaged=damage.offset)
    found = replace(found, troubles=troubles)
    if found.unattended(source.clock.now_ms()):  # is it for what only a load from snapshots meets?
        found = replace(found, troubles=of_snapshots(source, found))
    return found


def of_snapshots(source: Source, found: Standing) -> Mapping[Trouble, str]:
    """What halts a worker whose checkpoint stands: newer snapshots than that one, and what cannot be taken apart.

    All snapshots are read for it, so it is only asked of a partition that nobody decides, or that is to be resumed.

    Args:
        source: of the same partition.
        found: where it stands; nothing else keeps it.

    Raises:
        BrokerUnavailable: the broker does not answer.
        LogDamaged: a worker cannot read what it would have to.
    """
    topic, partition = source.topics.verdicts, found.partition
    seen = snapshotted(source, partition)
    ends = ends_of(source.reader, topic, partition, source.clock)  # asked after: an owner may have gone on meanwhile
    if seen.furthest >= ends.end:
        why = f"the log ends at {ends.end}, and a snapshot holds what the record at {seen.furthest} changed"
        return {Trouble.CONTRADICTED: why}
    place = seen.place
    if place is not None and place.offset >= ends.low and digest_at(source, partition, place.offset) != place.digest:
        return {Trouble.CONTRADICTED: f"the record at {place.offset} is not the one the snapshots stand on"}
    if stands(found.store.place, found):
        return {}
    unit = None if _cut_of(found) < 0 else unreadable(seen)
    if unit is not None:
        return {Trouble.SNAPSHOT_UNREADABLE: f"a snapshot cannot be read: {unit}"}
    for _ in read_to_end(source.reader, topic, partition, source.clock, 0 if place is None else place.offset):
        pass  # a worker reads it, too
    return {}


def _cut_of(found: Standing) -> int:
    """Up to which record the newest checkpoint vouches for snapshots; −1: it does not, and no worker looks at any."""
    return -1 if found.checkpoint is None else int(found.checkpoint.body["snapshot_cut"])


def digest_at(source: Source, partition: int, offset: int) -> str | None:
    """The digest of the decision-log record at exactly this offset, None if there is none."""
    record = record_at(source.reader, source.topics.verdicts, partition, source.clock, offset)
    return None if record is None else digest_of(record.value or b"")


def stands(place: Place | None, found: Standing) -> bool:
    """Is this a place in the decision log as it is now, from which the rest of it can be folded?"""
    if place is None:
        return False
    low, end = found.ends.low, found.ends.end
    resting = found.checkpoint is not None and found.checkpoint.place.digest == place.digest
    if place.offset >= end:
        return low == end and resting
    return (place.offset >= low - 1 or resting) and found.heard.may_hold(place.offset, place.digest)


# --- Reading ---


def _newest_checkpoint(source: Source, partition: int) -> tuple[Stated | None, int]:
    """The newest of this incarnation, and the highest epoch of any other."""
    newest, former = None, 0
    for record in read_to_end(source.reader, source.topics.heads, partition, source.clock):
        body = any_checkpoint_in(record, partition, source.verifier)
        if body is None:
            continue
        if body["incarnation"] == source.incarnation:
            newest = Stated(body, record.timestamp_ms or 0, record.headers)
        else:
            former = max(former, body["epoch"])
    return newest, former


def _stored(source: Source, partition: int) -> Stored:
    try:
        head = source.store.head(partition)
        if head is None or is_filling(head):
            return Stored(None, filling=head is not None)
        place = Place.from_json(orjson.loads(head.header))
    except StateUnavailable:
        return Stored(None, answers=False)
    except (ValueError, KeyError, TypeError):
        return NOWHERE
    return Stored(place if place.header.incarnation == source.incarnation else None)


def _folded(source: Source, partition: int, checkpoint: Stated | None, ends: Ends, stored: Place | None) -> Standing:
    """The log folded from the checkpoint; if it contradicts that one, from wherever it can be."""
    start = Place.genesis(source.incarnation, partition) if ends.low == 0 else None
    if checkpoint is None:
        return Standing(
            source.incarnation, partition, None, 0, ends, ends, _fold(source, partition, start, ends, stored)
        )
    stated = checkpoint.place
    why = f"the log ends at {ends.end}, before checkpoint {stated.offset} (epoch {stated.header.epoch})"
    resting = ends.low == ends.end and stated.offset < ends.end
    if stated.offset < ends.end or resting:
        heard = _fold(source, partition, stated, ends, stored)
        if heard.may_hold(stated.offset, stated.digest):
            return Standing(source.incarnation, partition, checkpoint, 0, ends, ends, heard)
        why = f"the record at {stated.offset} is not the one the checkpoint names"
    heard = _fold(source, partition, start, ends, stored)
    return Standing(
        source.incarnation, partition, checkpoint, 0, ends, ends, heard, troubles={Trouble.CONTRADICTED: why}
    )


def _fold(source: Source, partition: int, start: Place | None, ends: Ends, stored: Place | None) -> Heard:
    known = [place.offset for place in (start, stored) if place is not None]
    heard = Heard(source, partition, start, ends.low, frozenset(known))
    first = ends.low if start is None else max(ends.low, min(known))
    for record in read_to_end(source.reader, source.topics.verdicts, partition, source.clock, first):
        if record.offset < ends.end:
            heard.take(record)
    return heard


def _sampled(source: Source, partition: int, ends: Ends) -> Heard | None:
    first = max(ends.low, ends.end - SAMPLE_RECORDS)
    start = Place.genesis(source.incarnation, partition) if first == 0 else None
    try:
        return _fold(source, partition, start, ends._replace(low=first), None)
    except LogDamaged as damage:  # no worker reads so far back
        source.reader.unfollow(damage.topic, damage.partition)
        return None


def reached(source: Source, found: Standing) -> bool:
    """Would a worker find the chains that belong to some place in this log?"""
    if found.ends.low == 0 or stands(found.store.place, found):
        return True
    if _cut_of(found) < 0:
        return False
    seen = snapshotted(source, found.partition)
    ends = ends_of(source.reader, found.ends.topic, found.partition, source.clock)
    stood = not seen.broken and stands(seen.place, replace(found, ends=ends))
    return stood and lost_record(source, seen) is None


def _waiting_ms(source: Source, found: Standing) -> int | None:
    """Since when the first unanswered input has been waiting."""
    first = found.next_input
    if first is None or first >= found.input_ends.end:
        return None
    topic, partition = source.topics.intents, found.partition
    for record in read_to_end(source.reader, topic, partition, source.clock, first):
        source.reader.unfollow(topic, partition)
        return max(0, source.clock.now_ms() - (record.timestamp_ms or 0))
    return None


def told(found: Standing, now_ms: int) -> dict[str, Any]:
    """Plain data: what `harness partitions --json` prints of one partition."""
    activity, why = found.activity(now_ms)
    place, checkpoint = found.heard.place, found.checkpoint
    header = None if place is None else place.header
    rules = None if header is None or header.rules is None else header.rules
    return {
        "partition": found.partition,
        "activity": str(activity),
        "concluded_from": why,
        "troubles": [trouble.name.lower() for trouble in found.troubles or ()],
        "epoch": None if header is None else header.epoch,
        "writer": None if header is None else header.writer or None,
        "owner_heard_ms": found.owner_ms,
        "next_input": found.next_input,
        "input_end": found.input_ends.end,
        "lag": None if found.next_input is None else max(0, found.input_ends.end - found.next_input),
        "decision_end": found.ends.end,
        "checkpoint_offset": None if checkpoint is None else checkpoint.place.offset,
        "checkpoint_age_ms": None if checkpoint is None else max(0, now_ms - checkpoint.append_ms),
        "rules": None if rules is None else {"digest": rules[0], "revision": rules[1]},
        "next_rules": None if checkpoint is None else checkpoint.body.get("next_rules"),
        "void": 0 if found.sampled is None else found.sampled.void,
        "records": 0 if found.sampled is None else found.sampled.records,
        "store": _store_told(found.store),
        "decisions_lost": found.decisions_lost,
    }


def _store_told(store: Stored) -> int | str | None:
    if not store.answers:
        return "unavailable"
    if store.filling:
        return "filling"
    return None if store.place is None else store.place.offset
