"""A file of events through the worker's own core, without log, clock or store (DESIGN §10, `harness replay`).

Rule of this file: every line is one micro-batch of the worker's `Batch` and `Intake` over one state for the whole file.
What only a log or several processes bring is off: partitions, signatures, id age, deadline, freshness. A line's `at` is
its append time and decided_at; chain time never steps back. Memory grows with agents and their windows, not with lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness_stream.core.apply import units_of
from harness_stream.core.fold import Header, fold_header, genesis
from harness_stream.core.intake import Intake
from harness_stream.core.join import Table, empty_tables
from harness_stream.core.model import IdentityRow, lane_of
from harness_stream.core.reasons import Garbage
from harness_stream.core.state import State
from harness_stream.core.units import decode_unit, encode_unit
from harness_stream.errors import GarbageRecord
from harness_stream.ports import LogRecord
from harness_stream.runtime.batch import Batch, Handling, Taken
from harness_stream.runtime.replay_lines import EventLine, Lines, TableLine, row_bytes
from harness_stream.wire.decisions import digest_of, encode_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.tables import Row

INCARNATION: Final = "replay"
WRITER: Final = "0" * 32  # 128 bits, as every writer id (PROTOCOL §3)
# Units are re-read as if from the store every so many changes, which forgets ids nobody may use again. At 300 bytes an
# id this bounds what is kept too long to about 2 MB, and one pass costs less than the changes before it.
FORGET_CHANGES: Final = 8_192


class Replay:
    """Decides one line after the other.

    Args:
        windows: the compiled rules.
        rows: table and row, the tables before the first line.
        realm: its name, for lines that leave it out.
    """

    def __init__(self, windows: Windows, rows: Iterable[tuple[str, Row]] = (), realm: str = "default") -> None:
        self._windows = windows
        self._tables = empty_tables()
        self._lanes: dict[str, str] = {}
        self._state = State()
        rules = (windows.digest, 1)
        self._intake = Intake(None, 1, self._state, self._tables, windows, rules)
        self._lines = Lines(realm, self._tables, self._state)
        self._header = _started(rules)
        self._touched: set[str] = set()
        self._changes = 0
        for table, row in rows:
            self._put(TableLine(table, row.key, row))

    def take(self, line: int, raw: bytes) -> dict[str, Any] | None:
        """The decision-log body that answers a line, with its number as `line`; None for a table line.

        Args:
            line: counted from 1, rising; the input offset is one less.
            raw: the line; a body of kind `skip` says why it cannot be judged.
        """
        try:
            found = self._lines.read(line, raw)
            if isinstance(found, TableLine):
                self._put(found)
                return None
        except GarbageRecord as garbage:
            record = LogRecord("", 0, line - 1, None, raw, self._header.t)
            return self._answered(Taken(record, garbage=garbage), self._header.t)
        return self._answered(self._arrived(line, found), found.at_ms)

    def _arrived(self, line: int, found: EventLine) -> Taken:
        for table in self._tables.values():
            table.fresh_as_of = found.at_ms
        return Taken(LogRecord("", 0, line - 1, None, found.value, found.at_ms), found.event)

    def _answered(self, taken: Taken, decided_at: int) -> dict[str, Any]:
        batch = Batch(self._header, self._intake, decided_at)
        batch.take(taken, Handling.EVALUATE)
        batch.finish()
        (linked,) = batch.records
        self._header = batch.header
        if linked.change is not None:
            self._touched.update(units_of(linked.change))
            self._forget_if_due()
        return {**linked.body, "line": taken.record.offset + 1}

    def _put(self, change: TableLine) -> None:
        if isinstance(change.row, IdentityRow):
            lane = lane_of(change.row)
            before = self._lanes.setdefault(change.key, lane)
            if before != lane:
                raise GarbageRecord(Garbage.SCHEMA, f"row: `{change.key}` is in lane `{before}`, which never changes")
        table: Table = self._tables[change.table]
        table.put(change.key, row_bytes(change.row), table.revision + 1)

    def _forget_if_due(self) -> None:
        self._changes += 1
        if self._changes < FORGET_CHANGES:
            return
        for unit in self._touched:
            values, _ = decode_unit(encode_unit(self._state.confirmed(unit), 0, self._header.t))
            self._state.install(unit, values)
        self._touched.clear()
        self._changes = 0


def _started(rules: tuple[str, int]) -> Header:
    """A partition after one claim and one switch, as every real one begins."""
    owner = {"incarnation": INCARNATION, "epoch": 1, "writer": WRITER}
    claim = {"kind": "claim", **owner, "after": "clean", "pending": True}
    claimed = fold_header(genesis(INCARNATION, 0), claim, digest_of(encode_body(claim)))
    if claimed is None:
        raise AssertionError("the first claim would be void")
    named = {"digest": rules[0], "revision": rules[1]}
    switch = {"kind": "switch", **owner, "prev": claimed.head, "covers": [0, -1], "rules": named}
    switched = fold_header(claimed, switch, digest_of(encode_body(switch)))
    if switched is None:
        raise AssertionError("the first switch would be void")
    return switched
