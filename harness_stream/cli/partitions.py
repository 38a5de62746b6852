"""`harness partitions` and `harness partitions resume`: where each partition stands, and how a halted one goes on.

Rule of this file: what is concluded comes from `runtime.standing`, what a resume sets from `runtime.resuming`; here it
is shown, asked about and told. Exit code 1 while a partition is halted, so that a script can watch.
"""

from __future__ import annotations

import json as json_format
import secrets
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness_stream.cli.flags import takes
from harness_stream.core import limits
from harness_stream.errors import CallerError, LogDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness_stream.config import Settings
    from harness_stream.runtime.resuming import Resumption
    from harness_stream.runtime.standing import Source

DECISIONS_LOST_HINT: Final = "before more is lost, find out what took them: docs/runbook.md, `decisions_lost`"
EXIT_HALTED: Final = 1
EXIT_UNCLAIMED: Final = 3
WRITER_BYTES: Final = 16  # 128 random bits, as every writer's (PROTOCOL §3)
WRITER_SHOWN: Final = 8
_SECOND_MS: Final = 1_000
_MINUTE_MS: Final = 60 * _SECOND_MS
_HOUR_MS: Final = 60 * _MINUTE_MS

_YELLOW: Final = ("claimed and silent", "never claimed", "resumed, not claimed")
_COLOURS: Final = {"halted": "red", "deciding": "green", **dict.fromkeys(_YELLOW, "yellow")}

app = typer.Typer(add_completion=False, invoke_without_command=True)


@app.callback()
@takes("bootstrap", "prefix", "realm", "redis_url", "dev", "keys")
def partitions(
    *,
    ctx: typer.Context,
    settings: Settings,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show where each partition stands: owner, lag, checkpoint, rules in force, and what keeps it from going on.

    Nobody is asked but the logs and Redis, so a state is a conclusion:

    deciding: its owner wrote within 10 s. at rest: every input is answered,
    and an owner at rest writes once an hour. claimed and silent: inputs wait
    for more than 10 s, or even the hourly checkpoint is missing. released: a
    worker stopped cleanly, nobody has claimed it since. resumed, not claimed:
    by an operator, and no worker has claimed it since. never claimed: no
    worker was there yet. halted: no worker can go on, because the decision
    log contradicts its newest checkpoint, inputs that were answered are gone,
    nothing reaches the history before the log's first record, a snapshot
    cannot be read, what is stored of a log is damaged, or nothing in the
    decision log is authentic by these keys.

    Lag is input end less next_input. Void records lost against others; they
    are counted among the newest 2,000 records, from the first checkpoint
    among those on. A rate that no takeover explains is said below the table,
    and so is a Redis that knows of decisions which the log has not any more:
    the log was cut, or put back from a backup. Redis vouches for nothing, so
    that halts nobody; it is the worker's alarm `decisions_lost`.

    Exit code 1 while a partition is halted.

    Example: harness partitions

    Example: harness partitions resume 3 --reason "broker 2 lost its disk"
    """
    if ctx.invoked_subcommand is not None:
        return
    from harness_stream.runtime.standing import standing, told  # noqa: PLC0415  slow to load, `--help` is not

    with _source(settings) as (source, count):
        rows = [told(standing(source, number), source.clock.now_ms()) for number in range(count)]
    typer.echo(json_format.dumps({"partitions": rows}, ensure_ascii=False) if json else as_text(rows))
    if any(row["troubles"] for row in rows):
        raise typer.Exit(EXIT_HALTED)


@app.command("resume")
@takes("bootstrap", "prefix", "realm", "redis_url", "dev", "keys")
def resume(
    *,
    settings: Settings,
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0, help="The halted one.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it stays in the log.")],
    next_input: Annotated[
        int | None,
        typer.Option("--next-input", min=0, metavar="OFFSET", help="Answer from here on; default: new inputs."),
    ] = None,
    forget_history: Annotated[
        bool, typer.Option("--forget-history", help="Go on though nothing reaches the agents' history.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object; needs --yes.")] = False,
) -> None:
    """Let a halted partition go on, without what its logs have lost.

    A partition halts when going on would mean deciding on a history that is
    known to be incomplete. If the log can be brought back (a broker that was
    only away, a backup), do that instead: workers look again every 5 s.

    This command shows what is lost for good, asks, and writes the operator's
    record with a higher epoch: from there on the history is what is left of
    the log. Inputs before --next-input are not answered; by default that are
    all that are there, for a second answer could approve what has run.

    If log, Redis and snapshots together do not reach the history, it also
    needs --forget-history: then chains, labels, counts and open holds of all
    agents of this partition begin anew, rules that look back see nothing, and
    `harness log verify --full` recomputes no answer behind it.
    The same goes for a record that no worker can read, which only its log
    names: then empty Redis first.

    Then it waits up to 15 s for a worker's claim. Agents' processes that saw
    the log contradict itself must be started again. `harness log verify`
    goes on showing the place. Exit code 3 if no worker has claimed.

    It cannot go on behind a damaged record of the decision log; behind one
    of the input log it can, and what is in between is never answered.

    If both log topics or one of them were recreated, restart the workers
    first: another topic is another incarnation, which begins with nothing.

    Example: harness partitions resume 3 --reason "broker 2 lost its disk" --dev
    """
    from harness_stream.runtime.resuming import claimed, planned  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.runtime.resuming import resume as write  # noqa: PLC0415  same
    from harness_stream.runtime.standing import standing  # noqa: PLC0415  same

    if json and not yes:
        raise CallerError("--json asks nobody", hint="add --yes")
    _require_reason(reason)
    with _source(settings) as (source, count), _operator(settings, source.incarnation) as operator:
        if partition >= count:
            raise CallerError(f"there is no partition {partition}", hint=f"this realm has 0 to {count - 1}")
        plan = planned(source, standing(source, partition), next_input, forget=forget_history)
        if not json:
            typer.echo(plan_text(plan))
        if not yes:
            typer.confirm("Write the record?", abort=True)
        place = write(source, plan, operator, reason)
        if not json:
            typer.echo(f"resumed at {partition}/{place.offset}, epoch {place.header.epoch}; waiting for a worker")
        after = claimed(source, place)
    _tell(plan, place.offset, None if after is None else after.header.epoch, json=json)


def _require_reason(reason: str) -> None:
    """Refuse what nobody wants to read in the log for ever."""
    if not reason.strip():
        raise CallerError("the reason is empty", hint="say what happened: it stays in the log for whoever audits it")
    if len(reason) > limits.REASON_CHARS_MAX or not reason.isprintable():
        hint = f"at most {limits.REASON_CHARS_MAX} characters in one line: each audit shows it; nothing was written"
        raise CallerError("the reason is too long, or more than one line", hint=hint)


def _tell(plan: Resumption, offset: int, claim: int | None, *, json: bool) -> None:
    partition = plan.found.partition
    if json:
        content = {
            "partition": partition,
            "offset": offset,
            "next_input": plan.next_input,
            "forgets": plan.forgets,
            "loses": list(plan.loses),
            "claimed_epoch": claim,
        }
        typer.echo(json_format.dumps(content, ensure_ascii=False))
    elif claim is not None:
        typer.echo(f"partition {partition} was claimed with epoch {claim} and decides again")
    else:
        typer.echo("no worker has claimed it yet", err=True)
        typer.echo("→ start one: `harness worker`; `harness partitions` shows what one that runs does", err=True)
    if claim is None:
        raise typer.Exit(EXIT_UNCLAIMED)


# --- What it is read from and written by ---


@contextmanager
def _source(settings: Settings) -> Iterator[tuple[Source, int]]:
    """What partitions are read from, and how many there are."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka import admin  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.adapters.redis.keys import Whose  # noqa: PLC0415  same
    from harness_stream.adapters.redis.state import RedisStateStore  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import keys_of, verifier_of  # noqa: PLC0415  same
    from harness_stream.cli.chain import STORE_MS_MAX  # noqa: PLC0415  same
    from harness_stream.runtime.standing import Source  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    keys_of(settings)
    topics, clock = Topics(settings.prefix), SystemClock()
    read = [topics.intents, topics.verdicts, topics.heads, topics.chains]
    admin.require_topics(settings.kafka, read)
    realm_id = admin.incarnation(settings)
    whose = Whose.of(settings, realm_id)
    with ExitStack() as stack:
        reader = stack.enter_context(closing(KafkaReader(settings.kafka, topics=read)))
        store = stack.enter_context(closing(RedisStateStore(settings.redis, whose, clock, timeout_ms=STORE_MS_MAX)))
        source = Source(reader, topics, realm_id, verifier_of(settings, realm_id), store, clock)
        yield source, admin.partitions(settings, topics.verdicts)


@contextmanager
def _operator(settings: Settings, incarnation: str) -> Iterator[Any]:
    from harness_stream.adapters.kafka.admin import require_topics  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.kafka.log import KafkaWriter  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import operator_signer  # noqa: PLC0415  same
    from harness_stream.runtime.resuming import Operator  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    topics = Topics(settings.prefix)  # said before anything is written, not in the middle
    require_topics(settings.kafka, [], writes=[topics.verdicts, topics.heads, topics.chains])
    signer = operator_signer(settings, incarnation)
    with closing(KafkaWriter(settings.kafka)) as writer:
        yield Operator(writer, signer, secrets.token_hex(WRITER_BYTES), settings.realm)


# --- For people ---

_TITLES: Final = (
    *("part", "state", "owner", "epoch", "next", "end", "lag", "log end", "checkpoint", "rules"),
    "void rate",
)


def as_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, and below it what needs somebody's attention."""
    cells = [_TITLES, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_TITLES))]
    lines = [_line(cells[0], widths)]
    for row, line in zip(rows, cells[1:], strict=True):
        shown = _line(line, widths)
        lines.append(typer.style(shown, fg=_COLOURS[row["activity"]]) if row["activity"] in _COLOURS else shown)
    return "\n".join([*lines, *_notes(rows)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    rules, coming = row["rules"], row["next_rules"]
    shown = "-" if rules is None else f"{rules['revision']} ({rules['digest'][:8]})"
    if coming is not None:
        shown += f" → {coming['revision'] or '?'} {coming['state']}"
    numbers = (row["epoch"], row["next_input"], row["input_end"], row["lag"], row["decision_end"])
    epoch, first, end, lag, decision_end = ("-" if number is None else str(number) for number in numbers)
    owner = (row["writer"] or "-")[:WRITER_SHOWN]
    void = f"{row['void'] / row['records']:.1%} of {row['records']}" if row["records"] else "-"
    age = "none" if row["checkpoint_age_ms"] is None else duration_text(row["checkpoint_age_ms"]) + " ago"
    return (str(row["partition"]), row["activity"], owner, epoch, first, end, lag, decision_end, age, shown, void)


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What needs somebody, said once of all partitions of which it is the same."""
    yield from _standing_notes(rows)
    silent = [row["partition"] for row in rows if row["store"] == "unavailable"]
    if silent:
        yield f"{_named(silent)}: Redis does not answer, so whether history is reached is not known"
    filling = [row["partition"] for row in rows if row["store"] == "filling"]
    if filling:
        yield f"{_named(filling)}: Redis is being filled; who loads meanwhile reads snapshots and the log"
        yield "  → a worker fills it while it decides; if it stays, does one run? `harness worker`"
    for row in rows:
        if row["decisions_lost"] is not None:
            yield f"partition {row['partition']}: {row['decisions_lost']}: the log lost decisions that Redis knows of"
            yield f"  → {DECISIONS_LOST_HINT}"
        if _is_void_too_often(row) and "not_authentic" not in row["troubles"]:
            number, void, records = row["partition"], row["void"], row["records"]
            most = limits.IN_FLIGHT_RECORDS_MAX
            yield f"partition {number}: {void:,} of its newest {records:,} records do not count; takeovers leave {most}"
            yield (
                "  → if it stays, a record was altered or two workers write: "
                f"see `harness log verify --partition {number}`"
            )


def _standing_notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    alike: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if _hint(row) is not None:
            alike.setdefault((row["activity"], row["concluded_from"]), []).append(row)
    for (activity, why), same in alike.items():
        yield f"{_named([row['partition'] for row in same])} {'is' if len(same) == 1 else 'are'} {activity}: {why}"
        yield from (f"  → {hint}" for hint in dict.fromkeys(map(_hint, same)))


def _hint(row: Mapping[str, Any]) -> str | None:
    """What to do about it, None if nothing."""
    hints = {
        "halted": _halted_hint(row),
        "claimed and silent": "does a worker run? `harness worker`; its log says what it waits for",
        "never claimed": "(re)start a worker: `harness worker`; it needs a rule set (`harness rules push`)",
        "released": "start a worker: `harness worker`",
        "resumed, not claimed": "start a worker: `harness worker`; one that has halted looks again every 5 s",
    }
    return hints.get(row["activity"])


def _halted_hint(row: Mapping[str, Any]) -> str:
    from harness_stream.core.audit.void import STRANGERS_HINT  # noqa: PLC0415  slow to load, `--help` is not

    if "damaged" in row["troubles"]:
        return LogDamaged.restore
    if "not_authentic" in row["troubles"]:
        return STRANGERS_HINT
    return (
        "bring the log back if you can, and workers go on by themselves; if not, "
        f"`harness partitions resume {row['partition']} --reason TEXT` shows what is lost, and asks"
    )


def _named(numbers: Sequence[int]) -> str:
    return f"partition{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


def _is_void_too_often(row: Mapping[str, Any]) -> bool:
    """More than a takeover leaves, or more than counts: what the owner writes does not go into the history."""
    return bool(row["void"] > limits.IN_FLIGHT_RECORDS_MAX or 2 * row["void"] > row["records"])


def duration_text(duration_ms: int) -> str:
    """A duration in the largest unit that is not 0."""
    for name, size_ms in (("h", _HOUR_MS), ("min", _MINUTE_MS), ("s", _SECOND_MS)):
        if duration_ms >= size_ms:
            return f"{duration_ms // size_ms} {name}"
    return f"{duration_ms} ms"


def plan_text(plan: Resumption) -> str:
    """What a resume will set, and what that costs."""
    stated = None if plan.found.checkpoint is None else plan.found.checkpoint.place
    number, troubles = plan.found.partition, (plan.found.troubles or {}).values()
    old = "none" if stated is None else f"verdict {stated.offset}, epoch {stated.header.epoch}"
    lines = [f"partition {number} is halted: {'; '.join(troubles)}"]
    lines += [
        f"  old checkpoint  {old}, next_input {stated.header.next_input}" if stated else f"  old checkpoint  {old}",
        f"  new head        {plan.before.header.head[:12]}, after verdict {plan.before.offset}",
        f"  new epoch       {plan.found.epoch_seen + 1}",
        f"  next_input      {plan.next_input}",
        "lost for good:" if plan.loses else "nothing more is lost",
    ]
    return "\n".join([*lines, *(f"  - {loss}" for loss in plan.loses)])
