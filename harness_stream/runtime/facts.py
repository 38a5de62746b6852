"""The worker's views of the tables and of the rules, read in full and kept fresh (DESIGN §3, PROTOCOL §8).

Rule of this file: a view is fresh as of the start of the last end-offset query that it has reached; how old that may be
is decided with each intent, never here. Ages are measured on the monotonic clock: a wall clock that is set back would
make an old view look fresh. A bundle counts only if its bytes have the digest that names it.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from harness_stream.alarms import Alarm, sound
from harness_stream.core.rules.compile import from_bundle
from harness_stream.core.rules.language import TIMESPAN_MS_ANY
from harness_stream.core.rules.windows import Windows
from harness_stream.errors import InvalidInput
from harness_stream.wire.decisions import digest_of
from harness_stream.wire.rules_topic import Pushed, active_key, newer

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from harness_stream.core.join import Table
    from harness_stream.ports import Ends, LogRecord

log = logging.getLogger(__name__)

# Compiled bundles kept: what is in force, what comes next, and what a log being folded names; some megabytes each.
COMPILED_MAX: Final = 8
# Ten seconds of end-offset queries; a view that far behind is stale by any measure, so older ones may be forgotten.
_PENDING_MAX = 100


class View:
    """Freshness of one followed partition.

    Attributes:
        fresh_ms: on the clock that queries carry; None before the first end was reached.
    """

    def __init__(self) -> None:
        self.fresh_ms: int | None = None
        self._next = 0
        self._pending: deque[tuple[int, int]] = deque(maxlen=_PENDING_MAX)

    def passed(self, offset: int) -> None:
        """Everything before `offset` was taken in."""
        self._next = max(self._next, offset)
        while self._pending and self._pending[0][0] <= self._next:
            self.fresh_ms = max(self.fresh_ms or 0, self._pending.popleft()[1])

    def asked(self, ends: Ends, position: int | None) -> None:
        """An end-offset query was answered; `position` counts offsets without records as passed."""
        self._pending.append((ends.end, ends.asked_at_ms))
        self.passed(position or 0)


class TableView:
    """Keeps one `Table` up to date (a `Follower`)."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._view = View()

    def take(self, record: LogRecord) -> None:
        """Put one row; a key that is no UTF-8 names no row."""
        key = (record.key or b"").decode("utf-8", "replace")
        self.table.put(key, record.value, record.offset)
        self._view.passed(record.offset + 1)

    def bounds(self, ends: Ends, position: int | None) -> None:
        """Note how fresh the view is."""
        self._view.asked(ends, position)

    def stamp(self, wall_ms: int) -> None:
        """Say how fresh the table is in epoch ms, which are `wall_ms` ahead of the clock that queries carry."""
        self.table.fresh_as_of = 0 if self._view.fresh_ms is None else self._view.fresh_ms + wall_ms


class RulesView:
    """Bundles by digest and the active one (a `Follower` of the rules topic).

    Attributes:
        now: the active one is to be switched to at once, without warming its windows.
        active: (digest, revision) named by `active/<rule set>`, None if there is none or its bundle is not here or
        broken. problem: why the newest active record does not count, for people; empty if it does.

    Args:
        rule_set: whose active record counts.
        load: makes windows of a bundle's bytes, default `compiled`; raises InvalidInput.
        background: compiles what is pushed, so that the loop goes on deciding; a thousand rules take a second.
        refused: why a record of the topic is not to be believed, empty if it is; default: all are (`--dev`).
    """

    def __init__(
        self,
        rule_set: str,
        load: Callable[[bytes], Windows] | None = None,
        background: Executor | None = None,
        refused: Callable[[LogRecord], str] = lambda _record: "",
    ) -> None:
        self._why_refused, self._refused = refused, False
        self._compiled, self._background = load or compiled, background
        self._compiling: tuple[str, Future[Windows]] | None = None
        self.active: tuple[str, int] | None = None
        self.now = False
        self.problem = ""
        self._key = active_key(rule_set)
        self._bundles: dict[str, bytes] = {}
        self._broken: dict[str, str] = {}  # digest → why it does not load
        self._windows: dict[str, Windows] = {}  # the longest unasked first
        self._wanted: Pushed | None = None
        self._view = View()

    @property
    def complete(self) -> bool:
        """Was the topic read to its end once?"""
        return self._view.fresh_ms is not None

    @property
    def wanted(self) -> int | None:
        """Revision of the newest active record, whether or not its bundle loads; None if it is not to be believed."""
        return None if self._wanted is None or self._refused else self._wanted.revision

    def take(self, record: LogRecord) -> None:
        """A bundle, or which one is active."""
        key = record.key or b""
        if key.startswith(b"bundle/") and record.value is not None and not self._why_refused(record):
            self._bundles.setdefault(digest_of(record.value), record.value)
        elif key == self._key:
            self._named(record)
        self._view.passed(record.offset + 1)
        self._activate()

    def _named(self, record: LogRecord) -> None:
        """A record says which bundle is active; one that nobody may believe is told, and changes nothing."""
        why = self._why_refused(record)
        if why:
            self._refused = True
            self.problem = f"an active record, at offset {record.offset}, is not to be believed: {why}"
            sound(log, Alarm.BUNDLE_UNUSABLE, f"rules: the former set stays in force: {self.problem}")
            return
        before, self._wanted = self._wanted, newer(self._wanted, record.value)
        if self._refused and self._wanted != before:
            self._refused, self.problem = False, ""

    def bounds(self, ends: Ends, position: int | None) -> None:
        """Note how fresh the view is."""
        self._view.asked(ends, position)
        if self.compiling:
            self._activate()

    @property
    def compiling(self) -> bool:
        """Is what was pushed being compiled?"""
        return self._compiling is not None

    def windows(self, digest: str) -> Windows | None:
        """The compiled bundle, None if its bytes are not here or do not load."""
        found = self._windows.pop(digest, None)
        if found is not None:
            self._windows[digest] = found
        elif digest in self._bundles and digest not in self._broken:
            self._keep(digest, lambda: self._compiled(self._bundles[digest]))
        return self._windows.get(digest)

    def _keep(self, digest: str, compiled: Callable[[], Windows]) -> None:
        try:
            self._windows[digest] = compiled()
        except InvalidInput as error:
            self._broken[digest] = error.message
        if len(self._windows) > COMPILED_MAX:
            del self._windows[next(iter(self._windows))]

    def _is_compiled(self, digest: str) -> bool:
        """Is there nothing left to wait for? Begins, and looks whether it has ended."""
        known = digest in self._windows or digest in self._broken or digest not in self._bundles
        if self._background is None or known:
            return True
        if self._compiling is None or self._compiling[0] != digest:
            if self._compiling is not None:
                self._compiling[1].cancel()  # overtaken before it began
            self._compiling = digest, self._background.submit(self._compiled, self._bundles[digest])
        if self._compiling[1].done():
            self._keep(digest, self._compiling[1].result)
            return True
        return False

    def _activate(self) -> None:
        wanted = self._wanted
        if wanted is None or (self.active is not None and wanted.revision <= self.active[1]):
            return
        self.problem = ""  # of the one before it
        if not self._is_compiled(wanted.digest):
            return
        self._compiling = None
        if self.windows(wanted.digest) is not None:
            self.active, self.now = (wanted.digest, wanted.revision), wanted.now
        else:
            why = self._broken.get(wanted.digest)
            self.problem = f"bundle {wanted.digest[:12]} " + (
                "is not in the rules topic" if why is None else f"does not load: {why}"
            )
            what = f"rules: revision {wanted.revision} stays out of force: {self.problem}"
            sound(log, Alarm.BUNDLE_UNUSABLE, what)


def compiled(bundle: bytes, timespan_ms_max: int = TIMESPAN_MS_ANY) -> Windows:
    """A bundle's windows.

    Raises:
        InvalidInput: it does not load, or asks for longer windows than `timespan_ms_max`.
    """
    return Windows(from_bundle(bundle, timespan_ms_max=timespan_ms_max))
