"""The holds of a realm, read from its decision log; no cache is asked.

Rule of this file: what it says is what the fold says, up to the end the log had. It begins early enough that no hold is
missed which could still be answered: a hold lives for 15 minutes of chain time, whatever clock this machine has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from pydantic import ValidationError

from harness_stream.cli.decision_log import DecisionLog
from harness_stream.client.head import Effective, Head
from harness_stream.core import limits
from harness_stream.core.holds import Hold, Holds, Settled
from harness_stream.core.ids import id_time_ms
from harness_stream.core.records import Verdict
from harness_stream.errors import CallerError, HarnessError, ProtocolError
from harness_stream.runtime.to_end import ends_of, read_to_end, record_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from harness_stream.core.fold import Place
    from harness_stream.ports import Clock, Ends, LogReader, Verifier
    from harness_stream.wire.topics import Topics

# Chain time never steps back, append times may; a minute covers any step that a time service makes at once.
MARGIN_MS: Final = 60_000
OPEN_REACH_MS: Final = limits.HOLD_MS_DEFAULT + MARGIN_MS
"""Asked longer ago than this before chain time, no hold can be answered any more."""
TOLD_REACH_MS: Final = OPEN_REACH_MS + limits.HOLD_MEMORY_MS
"""For as long a worker tells who answers too late that the hold has expired; so do these commands."""

# A busy owner writes a checkpoint every 5,000 records, so the last 10,000 before an offset hold one to fold from.
LOOK_BACK: Final = 2 * limits.CHECKPOINT_RECORDS
_FURTHER: Final = 4
REFUSALS_LOOKED_AT: Final = 16
"""Refused answers about one agent whose own records are fetched, the newest."""
CANDIDATES_SHOWN: Final = 5
_PLACE: Final = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True, slots=True)
class HoldsSource:
    """What holds are read from; nothing else is done with the reader meanwhile.

    Attributes:
        incarnation: ids of the two log topics.
        offset_at: (partition, epoch ms) → first decision-log offset appended then or later, None if there is none.
        progress: told (records folded so far, of how many) now and then.
    """

    reader: LogReader
    topics: Topics
    incarnation: str
    verifier: Verifier
    clock: Clock
    offset_at: Callable[[int, int], int | None]
    progress: Callable[[int, int], None] = lambda _done, _of: None

    @property
    def log(self) -> DecisionLog:
        """The decision log and its checkpoints."""
        return DecisionLog(self.reader, self.topics, self.incarnation, self.verifier, self.clock)


@dataclass(slots=True)
class Book:
    """One partition's holds.

    Attributes:
        head: the fold, which stands at the log's end.
        first: offset of the first record that was folded.
        low: first offset that the log keeps.
        unanswered: inputs in the log that no decision covers yet; an answer may be among them.
        cut: the log's beginning is gone, so that holds may have been asked before `first` that are not known.
    """

    partition: int
    head: Head
    first: int
    low: int
    holds: Holds = field(default_factory=Holds)
    unanswered: int = 0
    cut: bool = False

    @property
    def place(self) -> Place:
        """Where the fold stands."""
        return self.head.place

    def now(self, clock: Clock) -> int:
        """Chain time that a record appended now would get, as far as this machine's clock is right."""
        return max(self.place.header.t, clock.now_ms())


class Found(NamedTuple):
    """A hold, and the book it stands in.

    Attributes:
        settled: what took its place, None if nobody answered.
    """

    book: Book
    hold: Hold
    settled: Settled | None

    @property
    def name(self) -> str:
        """Partition and offset: what is short and means one hold."""
        return f"{self.book.partition}/{self.hold.offset}"


class Attempt(NamedTuple):
    """An answer that changed nothing.

    Attributes:
        reason: a value of `core.reasons.Refuse`.
    """

    by: str
    decision: str
    reason: str
    said: str
    append_ms: int


# --- Reading ---


def read_book(source: HoldsSource, partition: int, reach_ms: int = OPEN_REACH_MS) -> Book:
    """Every hold of a partition that was asked at most `reach_ms` of chain time ago.

    Raises:
        BrokerUnavailable: the broker does not answer.
        ProtocolError: the log contradicts its checkpoint, or an effective record cannot be read.
    """
    newest = source.log.start(partition).place
    wanted = max(0, newest.header.t - reach_ms)
    book, ends = _begun(source, partition, wanted, newest)
    for effective, append_ms in _folded(source, book.head, ends):
        take(book, effective, append_ms)
    inputs = ends_of(source.reader, source.topics.intents, partition, source.clock)
    book.unanswered = max(0, inputs.end - book.place.header.next_input)
    return book


def take(book: Book, effective: Effective, append_ms: int) -> None:
    """The next effective record of the book's partition.

    Raises:
        ProtocolError: it is a hold that breaks its schema.
    """
    if effective.kind == "verdict" and effective.body.get("decision") == "hold":
        try:
            Verdict.model_validate(effective.body)
        except ValidationError as error:
            place = f"{book.partition}/{effective.offset}"
            why = str(error).splitlines()[0]
            raise ProtocolError(f"the hold at {place} breaks its schema: {why}", hint="compare versions") from None
    book.holds.take(effective.offset, effective.digest, append_ms, effective.body)


def _begun(source: HoldsSource, partition: int, since_ms: int, newest: Place) -> tuple[Book, Ends]:
    """A fold that begins before the first record appended at `since_ms`, or as early as the log allows."""
    log = source.log
    ends = log.ends(partition)
    first = source.offset_at(partition, since_ms)
    wanted = ends.end if first is None else first
    place, back = newest, LOOK_BACK
    while place.offset >= wanted and place.offset >= ends.low:
        asked = max(wanted - back, ends.low)
        place, back = log.start_before(partition, asked).place, back * _FURTHER
        if asked == ends.low:
            break
    head = Head(place, source.verifier)
    cut = wanted > 0 and (place.offset >= wanted or wanted <= ends.low)  # nothing older is kept: was there nothing?
    return Book(partition, head, place.offset + 1, ends.low, cut=cut), ends


def _folded(source: HoldsSource, head: Head, ends: Ends) -> Iterator[tuple[Effective, int]]:
    """Effective records up to the log's end, with their append times."""
    first, topic, partition = head.place.offset + 1, source.topics.verdicts, head.place.header.partition
    for record in read_to_end(source.reader, topic, partition, source.clock, first):
        source.progress(record.offset + 1 - first, ends.end - first)
        effective = head.take(record)
        if effective is not None:
            yield effective, record.timestamp_ms or 0


# --- One hold by name ---


def find(source: HoldsSource, partitions: Sequence[int], name: str) -> Found:
    """The hold that a person names: by partition/offset, or the first characters of its digest or its intent's id.

    Args:
        source: where holds are read from.
        partitions: where to look, unless the name says it.
        name: as given.

    Raises:
        HarnessError: there is none, at least none that was asked within the last 76 minutes and is still in the log.
        CallerError: several begin like this, or there is no such partition.
        BrokerUnavailable, ProtocolError: as `read_book`.
    """
    named = _PLACE.fullmatch(name)
    looked_at = list(partitions) if named is None else _known(int(named[1]), partitions)
    books: list[Book] = []
    for reach_ms in (OPEN_REACH_MS, TOLD_REACH_MS):
        books = [read_book(source, number, reach_ms) for number in looked_at]
        found = [f for book in books for f in _matching(book, name)]
        if len(found) > 1:
            raise _ambiguous(name, found)
        if found:
            return found[0]
    if cut := [book for book in books if book.cut]:
        raise _not_kept(name, cut)
    minutes = TOLD_REACH_MS // 60_000
    raise HarnessError(
        f"no hold `{name}` was asked in the last {minutes} minutes",
        hint="`harness holds list` shows the open ones; who asked before that was denied, "
        "`harness verdicts tail --from-beginning --no-follow` shows it",
    )


def _not_kept(name: str, cut: Sequence[Book]) -> HarnessError:
    where = ", ".join(f"{book.partition}/{book.low}" for book in cut[:CANDIDATES_SHOWN])
    return HarnessError(
        f"no hold `{name}` stands in what is left of the log, whose beginning is gone (it begins at {where})",
        hint="one that was asked before cannot be answered any more and is denied when its time is over; "
        "`harness chain show AGENT` still knows it",
    )


def _known(number: int, partitions: Sequence[int]) -> list[int]:
    if number not in partitions:
        raise CallerError(f"there is no partition {number}", hint=f"this realm has 0 to {max(partitions)}")
    return [number]


def _matching(book: Book, name: str) -> list[Found]:
    every = [Found(book, hold, book.holds.settled(hold)) for hold in book.holds.all()]
    exact = [f for f in every if name in {f.name, f.hold.digest}]
    lower = name.lower()
    begun = [f for f in every if f.hold.digest.startswith(lower) or f.hold.intent_id.startswith(lower)]
    return exact or _newest_of_each(begun)


def _newest_of_each(found: Iterable[Found]) -> list[Found]:
    """An intent that another rule asks about again has several holds; its id means the last one."""
    newest = {(f.hold.agent_id, f.hold.intent_id): f for f in found}
    return list(newest.values())


def _ambiguous(name: str, found: Sequence[Found]) -> CallerError:
    shown = [f"{f.name} ({f.hold.digest[:12]}, {f.hold.agent_id})" for f in found[:CANDIDATES_SHOWN]]
    more = f" and {len(found) - CANDIDATES_SHOWN} more" if len(found) > CANDIDATES_SHOWN else ""
    return CallerError(f"`{name}` may mean {len(found)} holds: {', '.join(shown)}{more}", hint="name one of them")


# --- What stands around it ---


def evidence(source: HoldsSource, found: Found) -> dict[str, Mapping[str, Any]]:
    """The events that the hold's reasons name: intent id → event, its decision and outcome as they were by then.

    An id is missing if the log no longer keeps its record.

    Raises:
        BrokerUnavailable, ProtocolError: as `read_book`.
    """
    reasons = (*found.hold.body["reasons"], *found.hold.body["shadow"])
    wanted = {own_id for reason in reasons for own_id in reason.get("evidence", ())}
    if not wanted:
        return {}
    since_ms = min(map(id_time_ms, wanted)) - limits.ID_AGE_MS_MAX
    book, ends = _begun(source, found.book.partition, since_ms, source.log.start(found.book.partition).place)
    events: dict[str, dict[str, Any]] = {}
    for effective, _ in _folded(source, book.head, ends):
        if effective.offset >= found.hold.offset:
            source.reader.unfollow(source.topics.verdicts, found.book.partition)
            break
        _note(events, wanted, effective.body)
    return {own_id: events[own_id] for own_id in wanted if own_id in events}


def _note(events: dict[str, dict[str, Any]], wanted: set[str], body: Mapping[str, Any]) -> None:
    if body.get("kind") == "verdict" and body.get("intent_id") in wanted and body.get("event") is not None:
        events[body["intent_id"]] = {**body["event"], "decision": body["decision"]}
    change = body.get("change") if body.get("kind") == "ack" else None
    if change and change.get("op") == "outcome" and change.get("intent_id") in events:
        events[change["intent_id"]]["outcome"] = change["status"]


def attempts(source: HoldsSource, found: Found) -> list[Attempt]:
    """Answers to this very hold that changed nothing, oldest first; of many the newest (raises BrokerUnavailable)."""
    told = []
    for refusal in found.book.holds.refused(found.hold)[-REFUSALS_LOOKED_AT:]:
        said = _input_at(source, found.book.partition, refusal.input_offset)
        if said.get("hold_digest") == found.hold.digest:
            by, decision, text = (str(said.get(name, "")) for name in ("by", "decision", "reason"))
            told.append(Attempt(by, decision, str(refusal.body.get("reason")), text, refusal.append_ms))
    return told


def _input_at(source: HoldsSource, partition: int, offset: int) -> Mapping[str, Any]:
    """The input at this offset; nothing if retention took it or nobody can read it."""
    record = record_at(source.reader, source.topics.intents, partition, source.clock, offset)
    try:
        body = {} if record is None else orjson.loads(record.value or b"")
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
