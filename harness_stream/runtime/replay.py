"""Events through the worker's own core, without log, clock or store (DESIGN §10, `harness replay`).

Rule of this file: every event is one micro-batch of the worker's `Batch` and `Intake` over one `World`, a state and its
place in a log of its own. Of a file (`Replay`), what only a log or several processes bring is off: partitions,
signatures, id age, deadline, freshness. A line's `at` is its append time and decided_at; chain time never steps back.
Memory grows with agents and their windows, not with events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness_stream.core.apply import apply, change_of
from harness_stream.core.decide import Arrival
from harness_stream.core.fold import Header, fold_header, genesis
from harness_stream.core.intake import Intake
from harness_stream.core.join import Table, empty_tables
from harness_stream.core.model import IdentityRow, lane_of
from harness_stream.core.reasons import Garbage
from harness_stream.core.state import State
from harness_stream.core.units import forgotten
from harness_stream.errors import GarbageRecord
from harness_stream.ports import LogRecord
from harness_stream.runtime.batch import Batch, Handling, Taken
from harness_stream.runtime.replay_lines import EventLine, Lines, TableLine, row_bytes
from harness_stream.wire.decisions import digest_of, encode_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.tables import Row

INCARNATION: Final = "replay"
WRITER: Final = "0" * 32  # 128 bits, as every writer id (PROTOCOL §3)
REVISION: Final = 1  # a replay decides by one bundle from its first event on
# What no decision can see any more leaves memory every so many changes. At 300 bytes an id this bounds what is kept too
# long to about 2 MB, and one pass costs less than the changes before it.
FORGET_CHANGES: Final = 8_192


class World:
    """One course of events: what was decided in it, and where it stands.

    Args:
        intake: answers its inputs; its state is this world's.
        next_input: offset of its first input.
        partition: as its bodies' place in a log names it.
        t: chain time before the first input, epoch ms.

    Attributes:
        header: the fold of its bodies so far.
    """

    def __init__(self, intake: Intake, next_input: int = 0, partition: int = 0, t: int = 0) -> None:
        self.header = _started(intake.rules)._replace(next_input=next_input, partition=partition, t=t)
        self._intake = intake
        self._touched: set[str] = set()
        self._changes = 0

    def answer(self, taken: Taken, decided_at: int, handling: Handling = Handling.EVALUATE) -> dict[str, Any]:
        """The decision-log body that covers the next input.

        Args:
            taken: the input; its offset is at least `header.next_input`.
            decided_at: epoch ms.
            handling: how far it may be looked at.
        """
        batch = Batch(self.header, self._intake, decided_at)
        batch.take(taken, handling)
        batch.finish()
        (linked,) = batch.records
        self.header = batch.header
        if linked.change is not None:
            self._changed(linked.units)
        return dict(linked.body)

    def know(self, body: Mapping[str, Any], digest: str) -> None:
        """Take as history what an effective record of a real log did, whatever these rules say of it."""
        change = change_of(body, digest)
        self.header = self.header._replace(t=max(self.header.t, body["t"]))
        if change is not None:
            change = {**change, "revision": REVISION}  # as if these rules had been there
            apply(self._intake.state, change, self._intake.windows)
            self._changed(self._intake.state.touched())

    def _changed(self, units: frozenset[str]) -> None:
        self._touched.update(units)
        self._changes += 1
        if self._changes < FORGET_CHANGES:
            return
        state = self._intake.state
        for unit in self._touched:
            state.forget(unit, forgotten(state.confirmed(unit), self.header.t))
        self._touched.clear()
        self._changes = 0


class Replay:
    """Decides one line of a file after the other.

    Args:
        windows: the compiled rules.
        rows: table and row, the tables before the first line.
        realm: its name, for lines that leave it out.
    """

    def __init__(self, windows: Windows, rows: Iterable[tuple[str, Row]] = (), realm: str = "default") -> None:
        self._tables = empty_tables()
        self._lanes: dict[str, str] = {}
        self._state = State()
        self._world = World(Intake(None, 1, self._state, self._tables, windows, (windows.digest, REVISION)))
        self._lines = Lines(realm, self._tables, self._state)
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
            t = self._world.header.t
            record = LogRecord("", 0, line - 1, None, raw, t)
            return {**self._world.answer(Taken(record, garbage=garbage), t), "line": line}
        return {**self._world.answer(self._arrived(line, found), found.at_ms), "line": line}

    def would_answer(self, line: int, raw: bytes, windows: Windows) -> Mapping[str, Any] | None:
        """What other rules would answer to the next line, which is not taken: no history changes.

        Args:
            line: its number.
            raw: the line.
            windows: rules that look at the history through the same windows.

        Returns:
            The answer without its link into the log; None for what is no event.
        """
        try:
            found = self._lines.read(line, raw)
        except GarbageRecord:
            return None
        if isinstance(found, TableLine):
            return None
        self._arrived(line, found)
        intake = Intake(None, 1, self._state, self._tables, windows, (windows.digest, REVISION))
        t = max(self._world.header.t, found.at_ms)
        return intake.answer(found.event, Arrival(digest_of(found.value), found.at_ms, t), found.at_ms)

    def _arrived(self, line: int, found: EventLine) -> Taken:
        for table in self._tables.values():
            table.fresh_as_of = found.at_ms
        return Taken(LogRecord("", 0, line - 1, None, found.value, found.at_ms), found.event)

    def _put(self, change: TableLine) -> None:
        if isinstance(change.row, IdentityRow):
            lane = lane_of(change.row)
            before = self._lanes.setdefault(change.key, lane)
            if before != lane:
                raise GarbageRecord(Garbage.SCHEMA, f"row: `{change.key}` is in lane `{before}`, which never changes")
        table: Table = self._tables[change.table]
        table.put(change.key, row_bytes(change.row), table.revision + 1)


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
