"""`harness rules push | status`: put a rule set in force, and see which one each partition decides by.

Rule of this file: a bundle is published under its digest before anything names it, so a broken push changes nothing.
What is in force is what the partitions' newest checkpoints say, not what was pushed.
"""

from __future__ import annotations

import json as json_format
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

# typer reads the annotations of commands at run time.
from pathlib import Path  # noqa: TC003  isort: skip

from harness_stream.cli.flags import takes
from harness_stream.cli.rules_check import check, overrides, read_rules, show
from harness_stream.cli.rules_watch import states
from harness_stream.errors import BrokerUnavailable, CallerError, HarnessError
from harness_stream.runtime.to_end import SILENCE_MS_MAX, read_to_end

if TYPE_CHECKING:
    from harness_stream.config import Settings
    from harness_stream.core.rules.compile import Program
    from harness_stream.ports import Clock, LogReader, LogRecord, LogWriter

__all__ = ["check", "push", "status"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass(frozen=True, slots=True)
class Pushed:
    """What the rules topic names as active."""

    digest: str
    revision: int


@takes("bootstrap", "prefix", "rule_set", "max_timespan_ms")
def push(
    *,
    settings: Settings,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The rule set, YAML.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a param.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Switch at once; new windows are unknown until warm.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and push the file each time it changes.")] = False,
    json: Json = False,
) -> None:
    """Check a rule set and put it in force.

    Each partition first counts the new windows in its decision log, while the former set still decides, and then
    switches without a pause; `--now` does not wait for that. Windows that the former set had too keep their counts.
    A set with mistakes changes nothing. Rolling back is pushing the former file again: it gets a higher revision.
    `--watch` is for authors: the file is pushed each time it is saved without mistakes, until Ctrl-C.

    Example: harness rules push examples/rules/production.yaml --set exports_a_day=2
    """
    if not watch:
        _push(file, set_ or [], settings, now=now, json=json)
        return
    for _ in states(file):
        try:
            _push(file, set_ or [], settings, now=now, json=json)
        except HarnessError as error:  # the set in force stays; the next state of the file may be a good one
            typer.echo(f"error: {error.message}\n→ {error.hint}", err=True)


def _push(file: Path, sets: list[str], settings: Settings, *, now: bool, json: bool) -> None:
    program = _program(file, sets, settings)
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter  # noqa: PLC0415  same

    require_topics(settings.bootstrap, [_topics(settings).rules])
    with closing(KafkaReader(settings.bootstrap)) as reader, closing(KafkaWriter(settings.bootstrap)) as writer:
        pushed, changed = publish(program, settings, reader, writer, SystemClock(), now=now)
    if json:
        typer.echo(json_format.dumps({"digest": pushed.digest, "revision": pushed.revision, "changed": changed}))
    elif changed:
        typer.echo(f"pushed `{settings.rule_set}` revision {pushed.revision}, digest {pushed.digest[:12]}")
        typer.echo("see `harness rules status` for the partitions that have switched")
    else:
        typer.echo(f"`{settings.rule_set}` is already at this digest: revision {pushed.revision}, nothing to do")


@takes("bootstrap", "prefix", "rule_set")
def status(*, settings: Settings, json: Json = False) -> None:
    """Show the active rule set and what each partition's newest checkpoint decides by.

    Example: harness rules status
    """
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import partitions, require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same

    topics, clock = _topics(settings), SystemClock()
    require_topics(settings.bootstrap, [topics.rules, topics.heads])
    with closing(KafkaReader(settings.bootstrap)) as reader:
        active = _active(list(read_to_end(reader, topics.rules, 0, clock)), settings.rule_set)
        count = partitions(settings, topics.heads)
        heads = {p: _last(list(read_to_end(reader, topics.heads, p, clock))) for p in range(count)}
    report: dict[str, Any] = {
        "rule_set": settings.rule_set,
        "active": None if active is None else {"digest": active.digest, "revision": active.revision},
        "partitions": {str(p): None if head is None else head.get("rules") for p, head in heads.items()},
        "next": {str(p): head["next_rules"] for p, head in heads.items() if head and head.get("next_rules")},
    }
    typer.echo(json_format.dumps(report) if json else _status_text(report))


def publish(
    program: Program, settings: Settings, reader: LogReader, writer: LogWriter, clock: Clock, *, now: bool = False
) -> tuple[Pushed, bool]:
    """Write the bundle, then the record that names it active; False if that set is active already.

    Raises:
        BrokerUnavailable: the broker did not take it.
    """
    topics = _topics(settings)
    before = _active(list(read_to_end(reader, topics.rules, 0, clock)), settings.rule_set)
    if before is not None and before.digest == program.digest:
        return before, False
    pushed = Pushed(program.digest, 1 if before is None else before.revision + 1)
    body = orjson.dumps({"digest": pushed.digest, "revision": pushed.revision, "now": now})
    for key, value in ((f"bundle/{pushed.digest}", program.bundle), (f"active/{settings.rule_set}", body)):
        writer.append(topics.rules, 0, key.encode(), value, (), token=1)
        if writer.flush(SILENCE_MS_MAX) or any(d.offset is None for d in writer.deliveries()):
            raise BrokerUnavailable(f"the broker did not take `{key[:24]}`", hint="nothing was activated; push again")
    return pushed, True


def _program(file: Path, sets: list[str], settings: Settings) -> Program:
    from harness_stream.core.rules.compile import inspect  # noqa: PLC0415  CEL is slow to load

    limit_ms = settings.max_timespan_ms
    program, mistakes = inspect(read_rules(file), str(file), overrides(sets), timespan_ms_max=limit_ms)
    for mistake in mistakes:
        typer.echo(show(mistake), err=True)
    if program is None:
        raise CallerError(f"{file} has mistakes; nothing was pushed", hint="mend them: `harness rules check` finds all")
    if program.rule_set.name != settings.rule_set:
        raise CallerError(
            f"{file} is the rule set `{program.rule_set.name}`, this realm decides by `{settings.rule_set}`",
            hint="rename it in the file, or set HARNESS_RULE_SET",
        )
    return program


def _topics(settings: Settings) -> Any:  # noqa: ANN401  imported lazily
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  keeps `--help` light

    return Topics(settings.prefix)


def _active(records: list[LogRecord], rule_set: str) -> Pushed | None:
    found = [r.value for r in records if r.key == f"active/{rule_set}".encode() and r.value]
    if not found:
        return None
    body = orjson.loads(found[-1])
    return Pushed(body["digest"], body["revision"])


def _last(records: list[LogRecord]) -> dict[str, Any] | None:
    return orjson.loads(records[-1].value or b"{}") if records else None


def _status_text(report: dict[str, Any]) -> str:
    active = report["active"]
    lines = [f"rule set `{report['rule_set']}`: " + ("none pushed" if active is None else _rules_text(active))]
    for partition, rules in report["partitions"].items():
        if rules is None:
            state = "no checkpoint yet (is a worker running?)"
        else:
            waiting = report["next"].get(partition)
            state = _rules_text(rules) + ("" if rules == active else f"  ← {_waiting_text(waiting)}")
        lines.append(f"  partition {partition}: {state}")
    return "\n".join(lines)


def _waiting_text(waiting: dict[str, Any] | None) -> str:
    if waiting is None:
        return "not switched yet"
    revision = "the newest" if waiting["revision"] is None else f"revision {waiting['revision']}"
    return f"{revision}: {waiting['state']}, {waiting['detail']}".removesuffix(", ")


def _rules_text(rules: dict[str, Any]) -> str:
    return f"revision {rules['revision']}, digest {rules['digest'][:12]}"
