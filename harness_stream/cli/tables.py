"""`harness tables load` and `harness tables get`: the facts an operator keeps in files, and those in force.

Rule of this file: it composes files, plan and broker, and prints; what is a mistake is decided by those.
"""

from __future__ import annotations

import difflib
import json as json_format
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

# typer reads the annotations of commands at run time.
from pathlib import Path  # noqa: TC003  isort: skip

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka.admin import require_topics
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.tables_source import Source, SourceRow, read_folder, tables_in
from harness_stream.cli.flags import takes
from harness_stream.cli.rules_check import show
from harness_stream.core.rules.mistakes import Mistake, did_you_mean
from harness_stream.core.tables import TABLES, IdentityRow
from harness_stream.errors import ConfigError
from harness_stream.runtime.table_load import (
    IDENTITY,
    Plan,
    TableView,
    apply,
    lane_mistake,
    plan,
    read_tables,
    restore,
    revival_mistake,
    with_keys,
    with_status,
)
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness_stream.config import Settings
    from harness_stream.core.tables import Row
    from harness_stream.ports import Clock, LogReader, LogWriter

EXIT_MISTAKES: Final = ConfigError.exit_code
# Enough to see that it is the wrong file, and no more than a few lines of a terminal.
KEYS_SHOWN: Final = 10

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The facts decisions are made on.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass(frozen=True, slots=True)
class TableReport:
    """What a load did to one table, or would do; `revision` is the offset of its newest record, -1 if it has none."""

    written: int
    unchanged: int
    deleted: int
    revision: int


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The answer of a load.

    Attributes:
        applied: False if nothing was written, because of mistakes or a dry run.
        tables: only tables that have a file.
        deleted: table → keys that were deleted, or would be.
        kept: table → keys that are not in the files and stay, because a feeder writes them.
    """

    applied: bool
    tables: Mapping[str, TableReport]
    mistakes: Sequence[Mistake]
    deleted: Mapping[str, Sequence[str]]
    kept: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Options:
    """How to load.

    Attributes:
        partial: write the good rows although there are bad ones.
        prune: delete rows that are not in the files and are no feeder's, unless nothing of a table were left.
        dry_run: write nothing.
        prune_all: the same, whatever is left.
    """

    partial: bool = False
    prune: bool = False
    dry_run: bool = False
    prune_all: bool = False

    @property
    def deletes(self) -> bool:
        """Rows that the files do not have shall go."""
        return self.prune or self.prune_all


@app.command("load")
@takes("bootstrap", "prefix")
def load(
    *,
    settings: Settings,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds identity.yaml, risk.csv and so on.")],
    partial: Annotated[bool, typer.Option("--partial", help="Write the good rows although some are bad.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete rows the files do not have.")] = False,
    prune_all: Annotated[bool, typer.Option("--prune-all", help="The same, even if that is every row.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written and deleted.")] = False,
    json: Json = False,
) -> None:
    """Load rows from DIR/<table>.yaml, .yml, .jsonl or .csv. Nothing is written if any row is bad.

    Only rows that differ are written, and a table without a file is left alone. Keys and status of an identity row stay
    unless the file says `keys` or `status` itself: `harness agents` writes them, and no file revives what was killed.
    `--prune` refuses to delete every row
    of a table, which is what an empty file would ask for. Rows that a feeder keeps up to date, as the risk topology
    does, stay: their record names it in the header `ce_source`, which rows from files have not. Times in files are
    RFC 3339 in UTC or epoch ms.

    Example: harness tables load examples/tables --prune --dry-run
    """
    topics, here = topics_of(settings), tables_in(folder)
    used = [topic for name, topic in topics.items() if name in here]  # who writes one table has rights on no other
    if used:
        require_topics(settings.kafka, used, writes=() if dry_run else used)
    with closing(KafkaReader(settings.kafka, topics=used)) as reader, closing(KafkaWriter(settings.kafka)) as writer:
        report = load_folder(
            folder,
            reader,
            writer,
            topics=topics,
            clock=SystemClock(),
            options=Options(partial, prune, dry_run, prune_all),
        )
    typer.echo(_report_json(report) if json else _report_text(report))
    if report.mistakes:
        raise typer.Exit(EXIT_MISTAKES)


@app.command("get")
@takes("bootstrap", "prefix")
def get(
    *,
    settings: Settings,
    table: Annotated[str, typer.Argument(help=f"One of {', '.join(TABLES)}.")],
    key: Annotated[str | None, typer.Argument(help="Only this row.")] = None,
    json: Json = False,
) -> None:
    """Show the rows in force and the table's revision. Exit code 1 if KEY has no row.

    Example: harness tables get identity support-1
    """
    if table not in TABLES:
        raise ConfigError(f"there is no table `{table}`", hint=did_you_mean(table, TABLES))
    topic = {table: topics_of(settings)[table]}
    require_topics(settings.kafka, [topic[table]])
    with closing(KafkaReader(settings.kafka, topics=topic.values())) as reader:
        view = read_tables(reader, topic, SystemClock(), _sleep)[table]
    rows = rows_of(view, key)
    typer.echo(_rows_json(table, view, rows) if json else _rows_text(table, view, rows))
    if key is not None and not rows:
        typer.echo(f"there is no row `{key}`{_nearest(key, view)}", err=True)
        raise typer.Exit(1)


def topics_of(settings: Settings) -> dict[str, str]:
    """Table name → topic."""
    topics = Topics(settings.prefix)
    return {name: topics.table(name) for name in TABLES}


def load_folder(
    folder: Path,
    reader: LogReader,
    writer: LogWriter,
    *,
    topics: Mapping[str, str],
    clock: Clock,
    options: Options,
) -> LoadReport:
    """Load a folder through any log; `harness tables load` and the demo are this.

    Raises:
        ConfigError: no table in the folder, options that contradict each other, or a table would lose every row and
            `prune_all` was not asked for.
        BrokerUnavailable: the log does not answer.
    """
    if options.partial and options.deletes:
        raise ConfigError(
            "`--partial` and `--prune` together could delete a row because its line has a mistake",
            hint="correct the mistakes first, then prune",
        )
    source = read_folder(folder)
    views = read_tables(reader, {name: topics[name] for name in topics if name in source.tables}, clock, _sleep)
    rows, refused = _without_moves(source, views)
    mistakes = (*source.mistakes, *refused)
    wanted = [(row.table, with_status(views, with_keys(views, row.row))) for row in rows]
    intended = plan(views, wanted, source.tables if options.deletes else frozenset())
    applied = not options.dry_run and (options.partial or not mistakes)
    revisions = {name: view.table.revision for name, view in views.items()}
    deleted = intended.deleted()
    if not mistakes and not options.prune_all:
        _refuse_to_empty(views, deleted, intended.kept)
    if applied:
        revisions |= apply(writer, topics, intended.changes)
        revisions |= _restored(reader, writer, topics, clock, views, intended, rows)
    return LoadReport(applied, _tables(source, intended, revisions), mistakes, deleted, intended.kept)


def _restored(
    reader: LogReader,
    writer: LogWriter,
    topics: Mapping[str, str],
    clock: Clock,
    views: Mapping[str, TableView],
    intended: Plan,
    rows: Sequence[SourceRow],
) -> dict[str, int]:
    """A kill, or new keys, that came while this load was under way are not lost."""
    said = {row.row.key: row.row for row in rows if isinstance(row.row, IdentityRow)}
    written = {change.key: change.row for change in intended.changes if isinstance(change.row, IdentityRow)}
    if not written:
        return {}
    revision = restore(reader, writer, topics, clock, views[IDENTITY], said, written)
    return {} if revision is None else {IDENTITY: revision}


def _refuse_to_empty(
    views: Mapping[str, TableView], deleted: Mapping[str, Sequence[str]], kept: Mapping[str, Sequence[str]]
) -> None:
    """A file that is empty by mistake looks like the wish to delete everything, and that locks every agent out."""
    left = {name: len(views[name].table.keys()) - len(gone) - len(kept.get(name, ())) for name, gone in deleted.items()}
    emptied = [name for name, count in left.items() if count == 0]
    if emptied:
        told = "; ".join(f"{len(deleted[name])} of {name}: {_keys_text(deleted[name])}" for name in emptied)
        raise ConfigError(
            f"`--prune` would delete every row that stands, {told}; nothing was written",
            hint="look at the table's file, it may be empty by mistake; `--prune-all` does delete every row",
        )


def _without_moves(source: Source, views: Mapping[str, TableView]) -> tuple[list[SourceRow], list[Mistake]]:
    """Rows that may replace those in force, and what is wrong with the others."""
    good: list[SourceRow] = []
    bad: list[Mistake] = []
    for row in source.rows:
        moved, revived = lane_mistake(views, row.row), revival_mistake(views, row.row)
        if moved is not None:
            bad.append(row.mistake(moved, "keep the lane (by default the tenant), or enroll another agent id"))
        elif revived is not None:
            hint = f"leave `status` out, or `harness agents resume {row.row.key} --from-killed` if it was a mistake"
            bad.append(row.mistake(revived, hint))
        else:
            good.append(row)
    return good, bad


def _tables(source: Source, intended: Plan, revisions: Mapping[str, int]) -> dict[str, TableReport]:
    reports, gone = {}, intended.deleted()
    for name in TABLES:
        if name in source.tables:
            deleted = len(gone.get(name, ()))
            written = sum(change.table == name for change in intended.changes) - deleted
            reports[name] = TableReport(written, intended.unchanged[name], deleted, revisions[name])
    return reports


def _sleep(wait_ms: int) -> None:
    time.sleep(wait_ms / 1000)


def _report_json(report: LoadReport) -> str:
    """Done and planned under names of their own, so that nobody takes a plan for a deed."""
    document = asdict(report)
    for counts in document["tables"].values():
        _split(counts, "written", "to_write", 0, applied=report.applied)
        _split(counts, "deleted", "to_delete", 0, applied=report.applied)
    _split(document, "deleted", "to_delete", {}, applied=report.applied)
    return json_format.dumps(document, ensure_ascii=False)


def _split(document: dict[str, Any], done: str, planned: str, none: object, *, applied: bool) -> None:
    said = document[done]
    document[done], document[planned] = (said, none) if applied else (none, said)


def _report_text(report: LoadReport) -> str:
    parts = [show(mistake) for mistake in report.mistakes]
    width = max(map(len, report.tables), default=0)
    wrote, deleted = ("written", "deleted") if report.applied else ("to write", "to delete")
    parts += [
        f"{name:{width}}  {done.written} {wrote}, {done.unchanged} unchanged, {done.deleted} {deleted}, "
        f"revision {done.revision}"
        for name, done in report.tables.items()
    ]
    parts += [f"{deleted} from {name}: {_keys_text(keys)}" for name, keys in report.deleted.items()]
    parts += [f"not deleted from {name}, a feeder writes it: {_keys_text(keys)}" for name, keys in report.kept.items()]
    if not report.applied:
        parts.append("nothing was written" + (": correct the mistakes, or use `--partial`" if report.mistakes else ""))
    return "\n".join(parts)


def _keys_text(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
    return ", ".join(f"`{key}`" for key in keys[:KEYS_SHOWN]) + more


def _nearest(key: str, view: TableView) -> str:
    near = difflib.get_close_matches(key, view.table.keys(), 1)
    return f"; did you mean `{near[0]}`?" if near else ""


def rows_of(view: TableView, key: str | None) -> dict[str, Row | None]:
    """Key → row in force, only of `key` if given; None for a row nobody can read."""
    names = view.table.keys()
    return {name: view.row(name) for name in names if key in {None, name}}


def _dumped(row: Row | None) -> dict[str, Any] | None:
    return None if row is None else row.model_dump(mode="json", exclude_defaults=True)


def _rows_json(table: str, view: TableView, rows: Mapping[str, Row | None]) -> str:
    shown = {"table": table, "revision": view.table.revision, "rows": {k: _dumped(row) for k, row in rows.items()}}
    return json_format.dumps(shown, ensure_ascii=False)


def _rows_text(table: str, view: TableView, rows: Mapping[str, Row | None]) -> str:
    lines = [f"{key}  {_row_text(row)}" for key, row in rows.items()]
    count = f"{len(lines)} row{'' if len(lines) == 1 else 's'}"
    return "\n".join([*lines, f"{table}: {count} at revision {view.table.revision}"])


def _row_text(row: Row | None) -> str:
    if row is None:
        return "unreadable: it breaks the schema, and rules that read it deny; load it again"
    return json_format.dumps(_dumped(row), ensure_ascii=False)
