"""Bring table topics to what an operator's rows say: read what is there, plan, write only what differs.

Rule of this file: it sees the log through its ports and files not at all. Facts are written before grants
(classification, risk, infrastructure, then identity), so that no agent is let in before what is known of its data.
Repeating a load is harmless: rows that already stand are left alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from harness_stream.core import limits
from harness_stream.core.join import Table
from harness_stream.core.tables import IdentityRow, Row, lane_of
from harness_stream.errors import BrokerUnavailable, Unavailable
from harness_stream.runtime.to_end import read_to_end, require_readable
from harness_stream.wire.cloudevents import read_headers
from harness_stream.wire.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness_stream.ports import Clock, Ends, LogReader, LogRecord, LogWriter

WRITE_ORDER: Final = ("classification", "risk", "infrastructure", "identity")
IDENTITY: Final = "identity"
PARTITION: Final = 0  # a table topic has one partition, so that a revision is an offset (PROTOCOL §2)
# A broker that is restarting serves again after 5 to 13 s.
SILENCE_MS_MAX: Final = 15_000
# Nobody's deadline hangs on a table load; two looks per fetch wait of the Kafka reader.
LOOK_MS: Final = 20
# Ask again: a topic that was just created has no leader yet, and its first query no answer.
ASK_MS: Final = 200
# Records taken at once: bounds memory, not speed.
POLL_RECORDS: Final = 10_000
# Two writers of one row at once are an accident; a third time is a feeder in a loop, which has to be stopped first.
ATTEMPTS_MAX: Final = 3
# All deliveries are known one after the other; each is decided within the delivery time-out.
FLUSH_MS: Final = 2 * limits.DELIVERY_TIMEOUT_MS


@dataclass(slots=True)
class TableView:
    """One table topic as read to its end.

    Attributes:
        table: its rows in force.
        lanes: agent → lane, deleted agents included as far back as the topic still tells.
        feeders: key → who keeps this row up to date, of rows whose record names one (CloudEvents `source`).
    """

    table: Table
    lanes: dict[str, str] = field(default_factory=dict)
    feeders: dict[str, str] = field(default_factory=dict)

    def take(self, record: LogRecord) -> None:
        """One record of the topic, in order."""
        try:
            key = (record.key or b"").decode()
        except UnicodeDecodeError:
            key = ""
        if not key:  # no row has such a key; a foreign record must not stop the operator
            self.table.revision = record.offset
            return
        self.table.put(key, record.value, record.offset)
        self.feeders.pop(key, None)
        feeder = read_headers(record.headers).source
        if feeder and record.value is not None:
            self.feeders[key] = feeder
        row = self.row(key)
        if isinstance(row, IdentityRow):
            self.lanes[key] = lane_of(row)

    def row(self, key: str) -> Row | None:
        """The row in force; None if there is none or nobody can read it."""
        try:
            return self.table.row(key)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Change:
    """One record to be written; a `row` of None deletes."""

    table: str
    key: str
    row: Row | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load will do.

    Attributes:
        changes: in the order they are written.
        unchanged: table → rows that already stand.
        kept: table → keys that would be deleted if they were not a feeder's; tables without one are left out.
    """

    changes: tuple[Change, ...]
    unchanged: Mapping[str, int]
    kept: Mapping[str, Sequence[str]]

    def deleted(self) -> dict[str, list[str]]:
        """Table → keys of the rows that will be deleted; tables that lose none are left out."""
        gone: dict[str, list[str]] = {}
        for change in self.changes:
            if change.row is None:
                gone.setdefault(change.table, []).append(change.key)
        return gone


def read_tables(
    reader: LogReader, topics: Mapping[str, str], clock: Clock, wait: Callable[[int], None]
) -> dict[str, TableView]:
    """Read each table to the end it has now.

    Args:
        reader: not used for anything else meanwhile.
        topics: table name → topic.
        clock: measures silence.
        wait: sleeps for so many milliseconds.

    Raises:
        BrokerUnavailable: nothing arrived for `SILENCE_MS_MAX`, or a topic does not exist.
        LogDamaged: a topic cannot be read to its end.
    """
    ends = _ask_ends(reader, topics, clock, wait)
    views = {name: TableView(Table(name)) for name in topics}
    by_topic = {topic: views[name] for name, topic in topics.items()}
    behind = {topic for topic, end in ends.items() if end.low < end.end}
    for topic in behind:
        reader.follow(topic, PARTITION, ends[topic].low)
    heard_ms = clock.elapsed_ms()
    while behind:
        records = reader.poll(POLL_RECORDS)
        for record in records:
            by_topic[record.topic].take(record)
        behind = {topic for topic in behind if (reader.position(topic, PARTITION) or 0) < ends[topic].end}
        for topic in behind:
            require_readable(reader, topic, PARTITION)
        heard_ms = _patience(clock, wait, heard_ms, sorted(behind), heard=bool(records))
    for topic in ends:
        reader.unfollow(topic, PARTITION)
    return views


def _ask_ends(
    reader: LogReader, topics: Mapping[str, str], clock: Clock, wait: Callable[[int], None]
) -> dict[str, Ends]:
    started_ms = clock.elapsed_ms()
    asked_ms = started_ms - ASK_MS
    ends: dict[str, Ends] = {}
    asked: set[tuple[str, int, int]] = set()  # an answer may be to what was asked of another topic before
    while missing := sorted(set(topics.values()) - ends.keys()):
        if clock.elapsed_ms() - asked_ms >= ASK_MS:
            asked_ms, now_ms = clock.elapsed_ms(), clock.now_ms()
            asked |= {(topic, PARTITION, now_ms) for topic in missing}
            reader.ask_ends([(topic, PARTITION) for topic in missing], now_ms)
        ends |= {e.topic: e for e in reader.ends() if (e.topic, e.partition, e.asked_at_ms) in asked}
        _patience(clock, wait, started_ms, missing, heard=not set(missing) - ends.keys())
    return ends


def _patience(clock: Clock, wait: Callable[[int], None], heard_ms: int, topics: Sequence[str], *, heard: bool) -> int:
    """When something was last heard; waits a little if nothing was just now."""
    now_ms = clock.elapsed_ms()
    if heard:
        return now_ms
    if now_ms - heard_ms > SILENCE_MS_MAX:
        raise BrokerUnavailable(
            f"no answer about {', '.join(f'`{topic}`' for topic in topics)} for {SILENCE_MS_MAX // 1000} s",
            hint="check `bootstrap`, and that `harness topics apply` has made the topics",
        )
    wait(LOOK_MS)
    return heard_ms


def lane_mistake(views: Mapping[str, TableView], row: Row) -> str | None:
    """Why this row may not replace the one in force (PROTOCOL §1: an agent's lane never changes), or None."""
    if not isinstance(row, IdentityRow):
        return None
    before = views["identity"].lanes.get(row.key)
    if before is None or before == lane_of(row):
        return None
    return f"`{row.key}` is in lane `{before}`; this row would move it to `{lane_of(row)}`, away from its history"


def revival_mistake(views: Mapping[str, TableView], row: Row) -> str | None:
    """Why this row may not replace the one in force: that one was killed, and a file would take it back; or None."""
    before = views["identity"].row(row.key) if isinstance(row, IdentityRow) else None
    if not isinstance(before, IdentityRow) or not isinstance(row, IdentityRow) or before.status != "killed":
        return None
    if "status" not in row.model_fields_set or row.status == "killed":
        return None
    return f"`{row.key}` was killed, and this row would make it {row.status}"


def with_status(views: Mapping[str, TableView], row: Row) -> Row:
    """The row, with the status of the one in force if it says nothing of it: a load takes back no suspension."""
    before = views["identity"].row(row.key) if isinstance(row, IdentityRow) else None
    if not isinstance(before, IdentityRow) or "status" in row.model_fields_set:
        return row
    return row.model_copy(update={"status": before.status})


def with_keys(views: Mapping[str, TableView], row: Row) -> Row:
    """The row, with the keys of the one in force if it says nothing of keys: enrolment writes them, and no file."""
    before = views["identity"].row(row.key) if isinstance(row, IdentityRow) else None
    if not isinstance(before, IdentityRow) or not before.keys or "keys" in row.model_fields_set:
        return row
    return row.model_copy(update={"keys": before.keys})


def replaced(
    reader: LogReader, topic: str, clock: Clock, view: TableView, written: Mapping[str, IdentityRow]
) -> dict[str, IdentityRow]:
    """Rows of somebody else that ours have replaced unseen: compaction has no compare-and-set.

    Args:
        reader: not used for anything else meanwhile.
        topic: of the identity table.
        clock: measures silence.
        view: as it was read before ours were written; it is brought up to date.
        written: agent → our row, which the broker has confirmed.

    Raises:
        BrokerUnavailable: the broker does not answer.
    """
    ours = {agent: encode(row) for agent, row in written.items()}
    between: dict[str, IdentityRow] = {}
    lost: dict[str, IdentityRow] = {}
    for record in read_to_end(reader, topic, PARTITION, clock, view.table.revision + 1):
        view.take(record)
        agent = (record.key or b"").decode("utf-8", "replace")
        row = view.row(agent)
        if record.value == ours.get(agent):
            lost |= {agent: between.pop(agent)} if agent in between else {}
        elif agent in ours and isinstance(row, IdentityRow):
            between[agent] = row
            lost.pop(agent, None)  # whoever wrote after us has the last word
    return lost


def restore(
    reader: LogReader,
    writer: LogWriter,
    topics: Mapping[str, str],
    clock: Clock,
    view: TableView,
    said: Mapping[str, IdentityRow],
    written: Mapping[str, IdentityRow],
) -> int | None:
    """After a load: keys and stops that somebody else wrote between our reading and our writing are put back.

    Args:
        reader: not used for anything else meanwhile.
        writer: likewise.
        topics: table name → topic.
        clock: measures silence.
        view: the identity table as it was read before; it is brought up to date.
        said: agent → the row as its file has it.
        written: agent → the row that was written for it.

    Returns:
        Offset of the last row that was put back; None if nothing was lost.

    Raises:
        BrokerUnavailable: the broker does not answer, or did not confirm.
        Unavailable: somebody else writes the same rows again and again.
    """
    revision, ours = None, dict(written)
    for _ in range(ATTEMPTS_MAX):
        lost = replaced(reader, topics[IDENTITY], clock, view, ours) if ours else {}
        kept = {agent: _over(row, said[agent]) for agent, row in lost.items()}
        ours = {agent: row for agent, row in kept.items() if row != ours[agent]}
        if not ours:
            return revision
        revision = apply(writer, topics, [Change(IDENTITY, agent, row) for agent, row in ours.items()])[IDENTITY]
    raise contended(next(iter(ours)))


def contended(agent: str) -> Unavailable:
    """Two who write one row cannot both be right."""
    return Unavailable(
        f"`{agent}` was written by somebody else {ATTEMPTS_MAX} times meanwhile; what is in force may be theirs",
        hint=f"find who writes its row (`harness tables get {IDENTITY} {agent}` shows it), then do this again",
    )


def _over(before: IdentityRow, said: IdentityRow) -> IdentityRow:
    """What a load would have written, had it read `before`; of a killed agent it would have written nothing."""
    view = TableView(Table(IDENTITY))
    view.table.put(before.key, encode(before), 0)
    views = {IDENTITY: view}
    if revival_mistake(views, said) is not None:
        return before
    row = with_status(views, with_keys(views, said))
    return row if isinstance(row, IdentityRow) else before


def plan(views: Mapping[str, TableView], rows: Iterable[tuple[str, Row]], prune: frozenset[str] = frozenset()) -> Plan:
    """What to write so that `rows` are in force.

    Args:
        views: the tables as they are.
        rows: table and row, one per key; of tables among `views`.
        prune: tables whose rows that are not in `rows` shall be deleted, but for those that a feeder writes: it says
            itself when a row has to go, and until it writes it again the fact would be missing.
    """
    wanted: dict[str, dict[str, Row]] = {name: {} for name in WRITE_ORDER}
    for name, row in rows:
        wanted[name][row.key] = row
    changes: list[Change] = []
    unchanged: dict[str, int] = {}
    kept: dict[str, list[str]] = {}
    for name in (known for known in WRITE_ORDER if known in views):
        differing = [Change(name, key, row) for key, row in wanted[name].items() if views[name].row(key) != row]
        unwanted = set(views[name].table.keys()) - wanted[name].keys() if name in prune else set()
        gone = sorted(unwanted - views[name].feeders.keys())
        changes += [*differing, *(Change(name, key, None) for key in gone)]
        unchanged[name] = len(wanted[name]) - len(differing)
        if fed := unwanted & views[name].feeders.keys():
            kept[name] = sorted(fed)
    return Plan(tuple(changes), unchanged, kept)


def apply(writer: LogWriter, topics: Mapping[str, str], changes: Sequence[Change]) -> dict[str, int]:
    """Write the changes and wait until the broker has confirmed each.

    Returns:
        Table → offset of its last record written; tables without a change are left out.

    Raises:
        BrokerUnavailable: some records were not confirmed; they may or may not be there.
    """
    offsets: dict[int, int | None] = {}
    for token, change in enumerate(changes, 1):
        value = None if change.row is None else encode(change.row)
        _append(writer, topics[change.table], change.key.encode(), value, token)
        _collect(writer, offsets)
    writer.flush(FLUSH_MS)
    _collect(writer, offsets)
    confirmed = {token: offset for token, offset in offsets.items() if offset is not None}
    if len(confirmed) < len(changes):
        raise BrokerUnavailable(
            f"{len(changes) - len(confirmed)} of {len(changes)} rows were not confirmed",
            hint="load again: rows that did arrive are left alone",
        )
    revisions: dict[str, int] = {}
    for token, change in enumerate(changes, 1):
        revisions[change.table] = max(confirmed[token], revisions.get(change.table, -1))
    return revisions


def _append(writer: LogWriter, topic: str, key: bytes, value: bytes | None, token: int) -> None:
    try:
        writer.append(topic, PARTITION, key, value, (), token=token)
    except BufferError:
        writer.flush(FLUSH_MS)
        try:
            writer.append(topic, PARTITION, key, value, (), token=token)
        except BufferError:
            raise BrokerUnavailable("the broker takes no more rows", hint="load again when it answers") from None


def _collect(writer: LogWriter, offsets: dict[int, int | None]) -> None:
    offsets.update((delivery.token, delivery.offset) for delivery in writer.deliveries())
