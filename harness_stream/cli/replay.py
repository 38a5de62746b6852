"""`harness replay`: what would these rules have decided on these events? Rule authors' first tool (DESIGN §10).

Rule of this file: it knows files and a terminal, no broker; deciding is `runtime.replay`'s. Bodies go to standard
output, all words for people to standard error, so that the output is JSON lines and nothing else.
"""

from __future__ import annotations

import json as json_format
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field

# typer reads the annotations of commands at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, Final

import orjson
import typer

from harness_stream.cli.rules_check import overrides, read_rules, show
from harness_stream.config import load_settings
from harness_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness_stream.config import Settings
    from harness_stream.core.rules.windows import Windows
    from harness_stream.runtime.replay import Replay

EXIT_BAD_LINES: Final = 1
EXIT_MISTAKES: Final = 2
STDIN: Final = "-"
# A person waits without a word for two seconds, not longer.
PROGRESS_S: Final = 2.0
# Enough to see what is wrong with a file; the output has them all.
BAD_LINES_SHOWN: Final = 10


def replay(
    *,
    rules: Annotated[Path, typer.Option("--rules", metavar="FILE", help="The rule set, YAML.")],
    tables: Annotated[Path, typer.Option("--tables", metavar="DIR", help="Rows, as `harness tables load` reads them.")],
    events: Annotated[str, typer.Option("--input", metavar="FILE", help="One event a line; `-` reads standard input.")],
    summary: Annotated[bool, typer.Option("--summary", help="Print counts by decision and rule, no bodies.")] = False,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a param.")] = None,
    realm: Annotated[str | None, typer.Option(help="Realm of lines that name none.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON; bodies always are.")] = False,
) -> None:
    """Decide a file of events by the worker's own core, without a broker: one decision-log body per event.

    A line is an event with its schema's fields, `type` (intent, mandate, outcome, approval) and `at` (RFC 3339 in UTC,
    or epoch ms). v, realm, by, ids, digests, nonce and workload may be left out. An outcome or approval means the
    agent's newest intent, unless it has `intent_id`.

    A row changes by a line like {"type": "table", "table": "risk", "row": {"subject": "agent:a", ...}}; with "key" and
    "row": null it is deleted.

    All agents share one state. Partition, signature, id age, deadline and freshness are not checked. A bad line gives a
    `skip` with its reason, and exit code 1 at the end; mistakes in rules or tables are exit code 2 at once.

    Example: harness replay --rules examples/rules/production.yaml --tables examples/tables
    --input examples/replay/support.jsonl --summary
    """
    settings = load_settings(realm=realm)
    windows = _windows(rules, set_ or [], settings)
    engine = _engine(windows, tables, settings)
    tally = Tally()
    with _opened(events) as source:
        _run(engine, source, tally, events, bodies=not summary)
    if summary:
        typer.echo(json_format.dumps(tally.as_json(), ensure_ascii=False) if json else tally.as_text())
    if tally.bad:
        typer.echo(f"{tally.bad:,} of {tally.lines:,} lines could not be judged", err=True)
        raise typer.Exit(EXIT_BAD_LINES)


@dataclass(slots=True)
class Tally:
    """What was decided, counted.

    Attributes:
        lines: lines with something on them.
        bad: lines that could not be judged.
        kinds: bodies by kind.
        verdicts: (decision, rule or the engine's reason) → verdicts that name it.
        decisions: verdicts by decision.
        shadow: rule in shadow mode → verdicts it would have changed or confirmed.
        others: (kind, reason) → acks refused, rejects and skipped lines.
    """

    lines: int = 0
    bad: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    shadow: Counter[str] = field(default_factory=Counter)
    others: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, body: Mapping[str, Any]) -> None:
        """Count one body."""
        kind = body["kind"]
        self.kinds[kind] += 1
        if kind == "verdict":
            self.decisions[body["decision"]] += 1
            self.verdicts.update((body["decision"], name) for name in _names(body["reasons"]))
            self.shadow.update(_names(body["shadow"]))
        elif kind == "skip":
            self.bad += 1
            self.others[kind, body["offsets"][0]["reason"]] += 1
        elif body["reason"] is not None:
            self.others[kind, body["reason"]] += 1

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "lines": self.lines,
            "bad_lines": self.bad,
            "kinds": dict(self.kinds),
            "decisions": {
                decision: {"count": count, "by": {name: n for (d, name), n in self.verdicts.items() if d == decision}}
                for decision, count in self.decisions.items()
            },
            "shadow": dict(self.shadow),
            "refused": {f"{kind}: {reason}": n for (kind, reason), n in self.others.items()},
        }

    def as_text(self) -> str:
        """For a terminal: decisions, and under each what brought it about."""
        rows = []
        for decision in ("approve", "hold", "deny"):
            if decision in self.decisions:
                rows.append(f"{decision:<8} {self.decisions[decision]:>8,}")
                by = Counter({name: n for (d, name), n in self.verdicts.items() if d == decision})
                rows += [f"           {n:>8,}  {name}" for name, n in by.most_common()]
        rows += [f"shadow   {n:>8,}  {name}" for name, n in self.shadow.most_common()]
        if self.kinds["ack"]:
            rows.append(f"ack      {self.kinds['ack']:>8,}")
        rows += [f"{kind:<8} {n:>8,}  {reason}" for (kind, reason), n in self.others.most_common()]
        return "\n".join([*rows, f"{self.lines:,} lines"])


def _names(reasons: list[Mapping[str, Any]]) -> set[str]:
    """The rule that spoke, else the engine's word; a rule that failed is not one that fired."""
    return {_name(reason) for reason in reasons}


def _name(reason: Mapping[str, Any]) -> str:
    rule = reason.get("rule")
    if rule is None:
        return str(reason["code"])
    return str(rule) if reason["code"] == "rule" else f"{rule} ({reason['code']})"


def _windows(file: Path, sets: list[str], settings: Settings) -> Windows:
    from harness_stream.core.rules import inspect  # noqa: PLC0415  CEL is slow to load, `--help` is not
    from harness_stream.core.rules.windows import Windows  # noqa: PLC0415  same

    limit_ms = settings.max_timespan_ms
    program, mistakes = inspect(read_rules(file), str(file), overrides(sets), timespan_ms_max=limit_ms)
    for mistake in mistakes:
        typer.echo(show(mistake), err=True)
    if program is None:
        raise typer.Exit(EXIT_MISTAKES)
    return Windows(program)


def _engine(windows: Windows, folder: Path, settings: Settings) -> Replay:
    from harness_stream.adapters.tables_source import read_folder  # noqa: PLC0415  pydantic is slow to load
    from harness_stream.runtime.replay import Replay  # noqa: PLC0415  same

    found = read_folder(folder)
    for mistake in found.mistakes:
        typer.echo(show(mistake), err=True)
    if found.mistakes:
        raise typer.Exit(EXIT_MISTAKES)
    return Replay(windows, ((row.table, row.row) for row in found.rows), settings.realm)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STDIN:
        yield sys.stdin.buffer
        return
    try:
        source = Path(name).open("rb")  # noqa: SIM115  closed below; only opening may fail as the caller's mistake
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}", hint="give a file of JSON lines, or `-`") from error
    with source:
        yield source


def _run(engine: Replay, source: BinaryIO, tally: Tally, name: str, *, bodies: bool) -> None:
    progress = _Progress()
    for number, raw in numbered(source):
        tally.lines += 1
        body = engine.take(number, raw)
        if body is not None:
            tally.add(body)
            if bodies:
                sys.stdout.write(orjson.dumps(body).decode() + "\n")
            if body["kind"] == "skip" and tally.bad <= BAD_LINES_SHOWN:
                _show_bad(name, body)
        progress.show(number)
    progress.close()


def _show_bad(name: str, body: Mapping[str, Any]) -> None:
    found = body["offsets"][0]
    detail = f" ({found['detail']})" if found["detail"] else ""
    typer.echo(f"{name}:{body['line']}: {found['reason']}{detail}", err=True)


def numbered(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Each line with something on it and its number, counted from 1; of one that is too long only the beginning."""
    from harness_stream.runtime.replay_lines import LINE_BYTES_MAX  # noqa: PLC0415  pydantic is slow to load

    number, size = 0, LINE_BYTES_MAX + len(b"\r\n")
    while piece := source.readline(size):
        number += 1
        line = piece.removeprefix(b"\xef\xbb\xbf") if number == 1 else piece
        while len(piece) == size and not piece.endswith(b"\n"):
            piece = source.readline(size)
        if line.strip():
            yield number, line.rstrip(b"\r\n")


class _Progress:
    """A line on standard error every few seconds, over itself on a terminal."""

    def __init__(self) -> None:
        self._began_s = self._shown_s = time.monotonic()
        self._over = sys.stderr.isatty()
        self._open = False

    def show(self, lines: int) -> None:
        """Say how far it is, if that is due."""
        now_s = time.monotonic()
        if now_s - self._shown_s < PROGRESS_S:
            return
        self._shown_s, self._open = now_s, self._over
        rate = lines / (now_s - self._began_s)
        typer.echo(f"\r{lines:,} lines, {rate:,.0f}/s"[0 if self._over else 1 :], err=True, nl=not self._over)

    def close(self) -> None:
        """End the line it wrote over."""
        if self._open:
            typer.echo(err=True)
