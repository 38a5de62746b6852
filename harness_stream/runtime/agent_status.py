"""Change one agent's status in the identity table, and nothing else of its row.

Rule of this file: what is written is the newest row but for its status. Compaction has no compare-and-set, so after
writing it is looked whether somebody else wrote the row in between; then it is done again on what they wrote.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness_stream.core.tables import IdentityRow
from harness_stream.errors import CallerError, Unavailable
from harness_stream.runtime.table_load import ATTEMPTS_MAX, IDENTITY, PARTITION, Change, apply, read_tables
from harness_stream.runtime.to_end import read_to_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.ports import Clock, LogReader, LogWriter
    from harness_stream.runtime.table_load import TableView

Status = Literal["active", "suspended", "killed"]


class Changed(NamedTuple):
    """What became of it.

    Attributes:
        row: in force now.
        before: its status before.
        revision: of the identity table, from which on the status is in force.
        written: False if it was so already.
        feeder: who keeps this row up to date and may write it again; empty for rows from files and commands.
    """

    row: IdentityRow
    before: Status
    revision: int
    written: bool
    feeder: str = ""


def set_status(
    reader: LogReader,
    writer: LogWriter,
    topic: str,
    clock: Clock,
    wait: Callable[[int], None],
    agent: str,
    status: Status,
    *,
    from_killed: bool = False,
) -> Changed:
    """Bring an agent's row to a status.

    Args:
        reader: not used for anything else meanwhile.
        writer: likewise.
        topic: of the identity table.
        clock: measures silence.
        wait: sleeps for so many milliseconds.
        agent: whose.
        status: which.
        from_killed: what was killed shall live again.

    Raises:
        CallerError: no such agent, its row is unreadable, or it was killed and that is not to be taken back.
        BrokerUnavailable: the broker does not answer, or did not confirm.
        Unavailable: somebody else writes the row again and again.
    """
    topics = {IDENTITY: topic}
    view = read_tables(reader, topics, clock, wait)[IDENTITY]
    row, feeder = _row(view, agent), view.feeders.get(agent, "")
    before = row.status
    if before == status:
        return Changed(row, before, view.table.revision, written=False, feeder=feeder)
    for _ in range(ATTEMPTS_MAX):
        if row.status == "killed" and status != "killed" and not from_killed:
            raise _killed(agent, status)
        wanted = row.model_copy(update={"status": status})
        revision = apply(writer, topics, [Change(IDENTITY, agent, wanted)])[IDENTITY]
        between = _between(reader, topic, clock, view, agent, revision)
        if between is None:
            return Changed(wanted, before, revision, written=True, feeder=feeder)
        row = between
    raise Unavailable(
        f"`{agent}` was written by somebody else {ATTEMPTS_MAX} times meanwhile; its status may not be `{status}`",
        hint=f"find who writes its row (`harness tables get {IDENTITY} {agent}` shows it), then do this again",
    )


def _row(view: TableView, agent: str) -> IdentityRow:
    found = view.row(agent)
    if isinstance(found, IdentityRow):
        return found
    if agent in view.table.keys():  # noqa: SIM118  a method, no dictionary
        raise CallerError(
            f"the identity row of `{agent}` cannot be read, so every intent of it is denied",
            hint="load or enrol it again; its status can be changed then",
        )
    near = difflib.get_close_matches(agent, view.table.keys(), 1)
    hint = f"did you mean `{near[0]}`?" if near else "`harness tables get identity` lists them"
    raise CallerError(f"there is no agent `{agent}` in the identity table; nothing was written", hint=hint)


def _killed(agent: str, status: Status) -> CallerError:
    then = "" if status == "active" else f", then `harness agents suspend {agent}`"
    return CallerError(
        f"`{agent}` was killed, which is meant to be final; nothing was written",
        hint=f"enrol another agent id; or, if it was a mistake, `harness agents resume {agent} --from-killed`{then}",
    )


def _between(
    reader: LogReader, topic: str, clock: Clock, view: TableView, agent: str, revision: int
) -> IdentityRow | None:
    """The agent's row that ours has replaced unseen, or that has replaced ours already; None if nobody else wrote."""
    found: IdentityRow | None = None
    for record in read_to_end(reader, topic, PARTITION, clock, view.table.revision + 1):
        view.take(record)
        other = view.row(agent)
        if record.key == agent.encode() and record.offset != revision and isinstance(other, IdentityRow):
            found = other
    return found
