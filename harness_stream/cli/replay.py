"""`harness replay`: what would these rules have decided on these events? Rule authors' first tool (DESIGN §10).

Rule of this file: it puts together what options ask for. Events come from `replay_file` or `replay_log`, deciding is
`runtime.replay`'s, by whom says `replay_rules`, and what is shown is made by `replay_output` or `replay_compare`.
"""

from __future__ import annotations

import time
from contextlib import closing, contextmanager

# typer reads the annotations of commands at run time.
from pathlib import Path  # noqa: TC003  isort: skip
from typing import TYPE_CHECKING, Annotated, Final

import typer

from harness_stream.cli.flags import takes
from harness_stream.cli.replay_rules import THE_LOG, rules_asked
from harness_stream.cli.rules_check import EXIT_MISTAKES, show
from harness_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.cli.replay_compare import Comparison
    from harness_stream.cli.replay_file import FileSource
    from harness_stream.cli.replay_log import LogSource
    from harness_stream.cli.replay_output import Bodies
    from harness_stream.cli.replay_part import Part
    from harness_stream.cli.replay_rules import Rules
    from harness_stream.config import Settings
    from harness_stream.core.join import Tables
    from harness_stream.core.tables import Row
    from harness_stream.ports import Clock, LogReader

EXIT_NO: Final = 1

_PART: Final = "Which part of the log (with --from-log)"


@takes("bootstrap", "prefix", "realm", "max_timespan_ms", "dev", "keys")
def replay(
    *,
    settings: Settings,
    rules: Annotated[Path, typer.Option("--rules", metavar="FILE", help="The rule set, YAML.")],
    events: Annotated[
        str | None, typer.Option("--input", metavar="FILE", help="Events, one a line; `-`: stdin.")
    ] = None,
    from_log: Annotated[bool, typer.Option("--from-log", help="Take the events from the real log.")] = False,
    tables: Annotated[
        Path | None, typer.Option("--tables", metavar="DIR", help="Rows, as `harness tables load` reads them.")
    ] = None,
    compare: Annotated[
        str | None, typer.Option("--compare", metavar="OTHER", help="Show what differs from OTHER rules, or the `log`.")
    ] = None,
    summary: Annotated[bool, typer.Option("--summary", help="Print counts by decision and rule only.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if anything differs.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="K=VALUE", help="Set a param of --rules.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print differences and the summary as JSON.")] = False,
    since: Annotated[str | None, typer.Option(metavar="24h", help="Begin so long ago.", rich_help_panel=_PART)] = None,
    first: Annotated[
        list[str] | None, typer.Option("--from", metavar="TIME|P/OFFSET", help="Begin there.", rich_help_panel=_PART)
    ] = None,
    last: Annotated[
        list[str] | None, typer.Option("--to", metavar="TIME|P/OFFSET", help="End before.", rich_help_panel=_PART)
    ] = None,
    partition: Annotated[list[int] | None, typer.Option(min=0, help="Only these.", rich_help_panel=_PART)] = None,
    agent: Annotated[str | None, typer.Option(help="Show only this agent.", rich_help_panel=_PART)] = None,
    lane: Annotated[str | None, typer.Option(help="Show only this lane.", rich_help_panel=_PART)] = None,
    history: Annotated[
        str | None, typer.Option(metavar="24h", help="History before it; default all kept.", rich_help_panel=_PART)
    ] = None,
) -> None:
    """Decide events by the worker's own core: a body for each, or what differs.

    From a file (--input, no broker). A line is an event with its schema's
    fields, `type` (intent, mandate, outcome, approval) and `at` (RFC 3339 in
    UTC, or epoch ms). v, realm, by, ids, digests, nonce and workload may be
    left out; an outcome or approval means the agent's newest intent, unless it
    has `intent_id`. A row changes by a line like {"type": "table", "table":
    "risk", "row": {"subject": "agent:a", ...}}; with "key" and "row": null it
    is deleted. All lines share one state. Partition, signature, id age,
    deadline and freshness are not checked. A bad line gives a `skip` with its
    reason, and exit code 1 at the end; mistakes in rules or tables are exit
    code 2 at once.

    From the real log (--from-log). What was decided before the stretch is
    history as it really was; from there on these rules decide. What was
    skipped or rejected stays so. Facts are those each verdict recorded; a
    field that no rule read then is taken from the tables as they are now
    (--summary names it). With --tables all facts are those rows instead.
    --agent and --lane show less and decide as much, since agents of a lane
    share windows.

    --compare OTHER shows what changes when --rules replaces OTHER; with
    `--compare log`, what was really decided. Each side lives in its own world:
    after a first difference its history goes its own way, and what follows
    says so. "would" is what rules in shadow mode say.

    Example: harness replay --rules examples/rules/production.yaml
    --tables examples/tables --input examples/replay/support.jsonl --summary

    Example: harness replay --rules new.yaml --from-log --since 24h
    --compare log --summary
    """
    from harness_stream.cli.replay_part import Part  # noqa: PLC0415  pydantic is slow to load, `--help` is not

    part = Part(since, tuple(first or ()), tuple(last or ()), tuple(partition or ()), agent, lane, history)
    _require_sense(events, tables, compare, part, from_log=from_log)
    asked = rules_asked(rules, set_ or [], compare, settings)
    shown = _shown(asked, summary=summary, json=json)
    with _source(events, part, settings, asked, tables) as source:
        for event in source.events():
            shown.add(event)
    shown.finish(source.told(), source.told_lines())
    if source.complaint:
        typer.echo(source.complaint, err=True)
    if source.complaint or (exit_code and shown.differ):
        raise typer.Exit(EXIT_NO)


def _require_sense(events: str | None, tables: Path | None, compare: str | None, part: Part, *, from_log: bool) -> None:
    """Refuse options that say nothing together.

    Raises:
        ConfigError: with what to give instead.
    """
    if from_log == (events is not None):
        raise ConfigError("events come from one place", hint="give --input FILE, or --from-log")
    if from_log:
        return
    if tables is None:
        raise ConfigError("a file of events needs the rows they are joined with", hint="give --tables DIR")
    if compare == THE_LOG:
        raise ConfigError("a file has no log to compare with", hint="give --from-log, or --compare OTHER_RULES")
    if part.given:
        raise ConfigError(
            f"{', '.join(part.given)}: these choose a part of the log", hint="give --from-log, or leave them out"
        )


def _shown(asked: Rules, *, summary: bool, json: bool) -> Bodies | Comparison:
    from harness_stream.cli.replay_compare import Comparison  # noqa: PLC0415  orjson is slow to load, `--help` is not
    from harness_stream.cli.replay_output import Bodies  # noqa: PLC0415  same

    if asked.compared:
        return Comparison(summary=summary, json=json, shared=asked.shared)
    return Bodies(summary=summary, json=json)


@contextmanager
def _source(
    file: str | None, part: Part, settings: Settings, asked: Rules, tables: Path | None
) -> Iterator[FileSource | LogSource]:
    """Events of the file, without one of the real log."""
    if file is not None:
        yield _from_file(file, settings, asked, tables)
        return
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  the client is slow to load

    with closing(KafkaReader(settings.kafka)) as reader:
        yield _from_log(part, settings, reader, asked, tables)


def _rows(folder: Path) -> list[tuple[str, Row]]:
    from harness_stream.adapters.tables_source import read_folder  # noqa: PLC0415  pydantic is slow to load

    found = read_folder(folder)
    for mistake in found.mistakes:
        typer.echo(show(mistake), err=True)
    if found.mistakes:
        raise typer.Exit(EXIT_MISTAKES)
    return [(row.table, row.row) for row in found.rows]


def _from_file(name: str, settings: Settings, asked: Rules, tables: Path | None) -> FileSource:
    from harness_stream.cli.replay_file import FileSource  # noqa: PLC0415  pydantic is slow to load
    from harness_stream.runtime.replay import Replay  # noqa: PLC0415  same

    rows = [] if tables is None else _rows(tables)
    before = None if asked.before is None else Replay(asked.before, rows, settings.realm)
    return FileSource(name, Replay(asked.after, rows, settings.realm), before)


def _from_log(part: Part, settings: Settings, reader: LogReader, asked: Rules, folder: Path | None) -> LogSource:
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the client is slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import incarnation, require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import keys_of  # noqa: PLC0415  same
    from harness_stream.cli.replay_log import find  # noqa: PLC0415  same
    from harness_stream.wire.topics import TABLES, Topics  # noqa: PLC0415  same

    keys_of(settings)
    clock = SystemClock()
    incarnation(settings)  # a missing topic is said at once, not after the tables' silence; so is a missing right
    topics = Topics(settings.prefix)
    rows = [topics.table(name) for name in TABLES] if folder is None else []
    require_topics(settings.kafka, [topics.intents, topics.verdicts, topics.heads, *rows])
    tables = _tables_now(settings, reader, clock) if folder is None else _tables_of(_rows(folder))
    return find(part, settings, reader, clock, tables, asked, from_tables=folder is not None)


def _tables_of(rows: list[tuple[str, Row]]) -> Tables:
    from harness_stream.core.join import empty_tables  # noqa: PLC0415  pydantic is slow to load
    from harness_stream.wire.codec import encode  # noqa: PLC0415  same

    tables = empty_tables()
    for name, row in rows:
        tables[name].put(row.key, encode(row), tables[name].revision + 1)
    return tables


def _tables_now(settings: Settings, reader: LogReader, clock: Clock) -> Tables:
    from harness_stream.core.model import TABLES  # noqa: PLC0415  pydantic is slow to load
    from harness_stream.runtime.table_load import read_tables  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    topics = {name: Topics(settings.prefix).table(name) for name in TABLES}
    views = read_tables(reader, topics, clock, lambda wait_ms: time.sleep(wait_ms / 1000))
    return {name: view.table for name, view in views.items()}
