"""`harness rules push | status`: put a rule set in force, and see which one each partition decides by.

Rule of this file: a bundle is published under its digest before anything names it, so a broken push changes nothing.
What is in force is what the partitions' newest checkpoints say, not what was pushed.
"""

from __future__ import annotations

import json as json_format
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import typer

# typer reads the annotations of commands at run time.
from pathlib import Path  # noqa: TC003  isort: skip

from harness_stream.cli.flags import takes
from harness_stream.cli.rules_check import EXIT_MISTAKES, as_data, check, checked, overrides, show
from harness_stream.cli.rules_watch import states
from harness_stream.core.rules.mistakes import WARNING, Code
from harness_stream.errors import BrokerUnavailable, CallerError, HarnessError
from harness_stream.runtime.to_end import SILENCE_MS_MAX, read_to_end
from harness_stream.wire.rules_topic import Pushed, active_key, bundle_key, newest_active

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness_stream.cli.rules_check import CheckedFile
    from harness_stream.config import Settings
    from harness_stream.core.rules.compile import Program
    from harness_stream.core.rules.language import Scalar
    from harness_stream.core.rules.mistakes import Mistake
    from harness_stream.ports import Clock, Headers, LogReader, LogRecord, LogWriter

__all__ = ["check", "push", "status"]

Heads = dict[int, "dict[str, Any] | None"]
"""Each partition's newest checkpoint, None where there is none."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

EXIT_UNUSABLE: Final = 1
"""Of `rules status`: what was pushed cannot come in force in some partition."""

UNUSABLE_HINT: Final = "push a set that the workers load, or the former file again: it gets a higher revision"
WARM_HINT: Final = "push the same file again without --now: its windows are then counted from the log"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose records of the rules topic count, and by what ours are vouched for; the default is an unsigned realm.

    Attributes:
        refused: why a record is not to be believed, empty if it is.
        seal: headers for (topic, key, value).
        authentic: did a worker write this checkpoint?
    """

    refused: Callable[[LogRecord], str] = lambda _record: ""
    seal: Callable[[str, bytes, bytes], Headers] = lambda _topic, _key, _value: ()
    authentic: Callable[[LogRecord], bool] = lambda _record: True

    @classmethod
    def of(cls, settings: Settings, *, signs: bool = True) -> Self:
        """Of the realm's keys; `signs`: with those of a rule-pusher.

        Raises:
            ConfigError: a key or the certificate cannot be used.
        """
        from harness_stream.adapters.kafka import admin  # noqa: PLC0415  same
        from harness_stream.adapters.signing.pairs import rules_signer, verifier_of  # noqa: PLC0415  slow to load, `--help` is not

        incarnation = "" if settings.dev else admin.incarnation(settings)
        verifier = verifier_of(settings, incarnation)
        trust = cls(verifier.why_rules_refused, authentic=verifier.decision_authentic)
        return replace(trust, seal=rules_signer(settings, incarnation).seal_rules) if signs else trust

    def believed(self, records: Iterable[LogRecord]) -> list[LogRecord]:
        """Those that count."""
        return [record for record in records if not self.refused(record)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What `rules push` was asked for.

    Attributes:
        file: the rule set.
        params: parameters that replace the file's.
        now: switch without warming.
        strict: warnings keep it from being pushed.
        json: tell it as JSON.
    """

    file: Path
    params: Mapping[str, Scalar]
    now: bool = False
    strict: bool = False
    json: bool = False


@takes("bootstrap", "prefix", "realm", "rule_set", "max_timespan_ms", "dev", "keys")
def push(
    *,
    settings: Settings,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The rule set, YAML.")],
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a param.")] = None,
    now: Annotated[bool, typer.Option("--now", help="Switch at once; new windows are unknown until warm.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and push the file each time it changes.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A set with warnings is not pushed.")] = False,
    json: Json = False,
) -> None:
    """Check a rule set and put it in force.

    Each partition first counts the new windows in its decision log, while the former set still decides, and then
    switches without a pause; `--now` does not wait for that. Windows that the former set had too keep their counts.
    What was pushed with `--now` can be pushed again without it: the windows that are still unknown are then counted.
    A set with mistakes changes nothing; warnings are shown.
    Rolling back is pushing the former file again: it gets a higher revision.
    In a signed realm it is signed with the key of a rule-pusher (`rules.key` in
    the folder of keys), and workers take nothing else.
    `--watch` is for authors: the file is pushed each time it is saved without mistakes, until Ctrl-C.

    Example: harness rules push examples/rules/production.yaml --set exports_a_day=2

    --json prints one object, with --watch one a line:
    ok, changed (something was written), digest and revision of what is
    active now (null if nothing was pushed because of mistakes), mistakes
    (warnings, too) as `rules check --json` has them, unusable (partition
    to cause, if the set is active already and workers cannot load it).

    Exit code 0: pushed, or active already; 2: it has mistakes, or is
    active already and unusable.
    """
    wanted = Wanted(file, overrides(set_ or []), now=now, strict=strict, json=json)
    if not watch:
        push_once(wanted, settings)
        return
    typer.echo(f"watching {file}; Ctrl-C ends", err=True)
    for content in states(file):
        if content is None:
            typer.echo(f"{file} cannot be read; waiting for it", err=True)
        else:
            _push_or_tell(wanted, settings)


def _push_or_tell(wanted: Wanted, settings: Settings) -> None:
    """The set in force stays, whatever is wrong with this one: the next state of the file may be a good one."""
    try:
        push_once(wanted, settings)
    except HarnessError as error:
        typer.echo(f"error: {error.message}\n→ {error.hint}", err=True)
    except typer.Exit:
        return  # its mistakes are told as JSON


def push_once(wanted: Wanted, settings: Settings) -> None:
    """Check, publish and tell.

    Raises:
        CallerError: mistakes keep the set from being pushed, or it is another set than the realm's.
        typer.Exit: the same mistakes, told as JSON.
        BrokerUnavailable: the broker does not answer.
    """
    found = checked(str(wanted.file), wanted.params, settings.max_timespan_ms)
    program = _program(wanted, found, settings.rule_set)
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import keys_of  # noqa: PLC0415  same

    keys_of(settings)
    topics, clock = _topics(settings), SystemClock()
    read = [topics.rules, topics.heads]
    require_topics(settings.kafka, read, writes=[topics.rules])
    trust = Trust.of(settings)
    with closing(KafkaReader(settings.kafka, topics=read)) as reader, closing(KafkaWriter(settings.kafka)) as writer:
        in_force = partial(_in_force, settings, reader, clock, trust)
        ports = reader, writer, clock
        pushed, changed = publish(program, settings, *ports, now=wanted.now, trust=trust, in_force=in_force)
        heads = {} if changed else _heads(settings, reader, clock, trust)
    tell_pushed(wanted, settings.rule_set, found.mistakes, pushed, changed=changed, unusable=unusable_in(pushed, heads))


def tell_pushed(
    wanted: Wanted,
    rule_set: str,
    mistakes: tuple[Mistake, ...],
    pushed: Pushed,
    *,
    changed: bool,
    unusable: Mapping[str, str],
) -> None:
    """Say what became of a push.

    Raises:
        CallerError: the set was active already, and workers cannot load it.
        typer.Exit: the same, told as JSON.
    """
    if wanted.json:
        typer.echo(_as_json(mistakes, pushed, changed=changed, unusable=unusable))
        if unusable:
            raise typer.Exit(EXIT_MISTAKES)
    elif changed:
        typer.echo(f"pushed `{rule_set}` revision {pushed.revision}, digest {pushed.digest[:12]}")
        typer.echo("see `harness rules status` for the partitions that have switched")
        if pushed.now:
            typer.echo(f"windows that are new may be unknown; to mend that, {WARM_HINT}")
    elif unusable:
        where, why = next(iter(unusable.items()))
        message = f"`{rule_set}` is already at this digest, revision {pushed.revision}, and it is unusable"
        raise CallerError(f"{message}: partition {where}: {why}", hint=UNUSABLE_HINT)
    else:
        typer.echo(f"`{rule_set}` is already at this digest: revision {pushed.revision}, nothing to do")


def _program(wanted: Wanted, found: CheckedFile, rule_set: str) -> Program:
    strictly = wanted.strict and found.count(WARNING) > 0
    if wanted.json and (found.program is None or strictly):
        typer.echo(_as_json(found.mistakes, None, changed=False))
        raise typer.Exit(EXIT_MISTAKES)
    if found.elsewhere:
        unreadable = f"{found.file}: " if found.elsewhere[0].code == Code.UNREADABLE else ""
        message = "; ".join(mistake.message for mistake in found.elsewhere)
        hint = "; ".join(mistake.fix for mistake in found.elsewhere)
        raise CallerError(f"{unreadable}{message}; nothing was pushed", hint=hint)
    for mistake in () if wanted.json else found.mistakes:
        typer.echo(f"{show(mistake)}\n", err=True)
    if found.program is None:
        hint = "mend them: `harness rules check` finds all"
        raise CallerError(f"{found.file} has mistakes; nothing was pushed", hint=hint)
    if strictly:
        hint = "mend them, or allow what is meant by a comment `# check: allow CODE`"
        raise CallerError(f"{found.file} has warnings (--strict); nothing was pushed", hint=hint)
    if found.program.rule_set.name != rule_set:
        raise CallerError(
            f"{found.file} is the rule set `{found.program.rule_set.name}`, this realm decides by `{rule_set}`",
            hint="rename it in the file, or set HARNESS_RULE_SET",
        )
    return found.program


def _as_json(
    mistakes: tuple[Mistake, ...], pushed: Pushed | None, *, changed: bool, unusable: Mapping[str, str] | None = None
) -> str:
    told = {
        "ok": pushed is not None and not unusable,
        "changed": changed,
        "digest": pushed and pushed.digest,
        "revision": pushed and pushed.revision,
        "mistakes": [as_data(m) for m in mistakes],
        "unusable": dict(unusable or {}),
    }
    return json_format.dumps(told, ensure_ascii=False)


@takes("bootstrap", "prefix", "realm", "rule_set", "dev", "keys")
def status(*, settings: Settings, json: Json = False) -> None:
    """Show the active rule set and what each partition's newest checkpoint decides by.

    With `--keys`, what no certified rule-pusher signed is not shown as active.

    Example: harness rules status

    --json prints one object:
    ok (the exit code is 0), rule_set, active (digest, revision and now
    of what was pushed last, null if nothing was), hint (what to do, may be
    empty), partitions (number to digest and revision that it decides by,
    null without a checkpoint), next (number to what keeps a newer set out:
    revision, state, which is warming or unusable, and detail).

    Exit code 0: what was pushed last is in force or on its way;
    1: some partition cannot use it.
    """
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same

    topics, clock = _topics(settings), SystemClock()
    read = [topics.rules, topics.heads]
    require_topics(settings.kafka, read)
    with closing(KafkaReader(settings.kafka, topics=read)) as reader:
        trust = Trust.of(settings, signs=False) if settings.keys else Trust()
        active = _active(trust.believed(read_to_end(reader, topics.rules, 0, clock)), settings)
        heads = _heads(settings, reader, clock, trust)
    report = report_of(settings.rule_set, active, heads)
    typer.echo(json_format.dumps(report) if json else status_text(report))
    if not report["ok"]:
        raise typer.Exit(EXIT_UNUSABLE)


def report_of(rule_set: str, active: Pushed | None, heads: Heads) -> dict[str, Any]:
    """What `rules status --json` prints."""
    unusable = bool(unusable_in(active, heads))
    warm_hint = WARM_HINT if active is not None and active.now else ""
    return {
        "ok": not unusable,
        "rule_set": rule_set,
        "active": None if active is None else active._asdict(),
        "hint": UNUSABLE_HINT if unusable else warm_hint,
        "partitions": {str(p): None if head is None else head.get("rules") for p, head in heads.items()},
        "next": {str(p): head["next_rules"] for p, head in heads.items() if head and head.get("next_rules")},
    }


def unusable_in(active: Pushed | None, heads: Heads) -> dict[str, str]:
    """Partition → why it cannot use what was pushed last; what is told of an earlier push does not count any more."""
    told = {p: head.get("next_rules") for p, head in heads.items() if head}
    newest = {None, active and active.revision}
    return {
        str(p): rules["detail"]
        for p, rules in told.items()
        if rules and rules["state"] == "unusable" and rules["revision"] in newest
    }


def publish(
    program: Program,
    settings: Settings,
    reader: LogReader,
    writer: LogWriter,
    clock: Clock,
    *,
    now: bool = False,
    trust: Trust | None = None,
    in_force: Callable[[], int] = lambda: 0,
) -> tuple[Pushed, bool]:
    """Write the bundle, then the record that names it active; False if that set is active already.

    A set that was activated with `now` and is pushed without it becomes active again: a switch of its own is what its
    windows, unknown since then, are warmed for. So does one whose bundle is not in the topic. Where no record names a
    set, the new revision is above `in_force`, what partitions decide by: the last one may be gone, compacted away
    behind a forged one.

    Raises:
        BrokerUnavailable: the broker did not take it.
        ConfigError: nobody would believe it; nothing was written.
    """
    topics, trust = _topics(settings), trust or Trust()
    records = trust.believed(read_to_end(reader, topics.rules, 0, clock))
    before, there = _active(records, settings), any(r.value == program.bundle for r in records)
    if before is not None and before.digest == program.digest and there and (now or not before.now):
        return before, False
    pushed = Pushed(program.digest, 1 + (in_force() if before is None else before.revision), now)
    bundle, active = (bundle_key(pushed.digest), program.bundle), (active_key(settings.rule_set), pushed.encode())
    sealed = [(key, value, trust.seal(topics.rules, key, value)) for key, value in (bundle, active)]
    _require_believed(trust, topics.rules, sealed)
    for key, value, seal in sealed:
        writer.append(topics.rules, 0, key, value, seal, token=1)
        if writer.flush(SILENCE_MS_MAX) or any(d.offset is None for d in writer.deliveries()):
            what = key.decode()[:24]
            raise BrokerUnavailable(f"the broker did not take `{what}`", hint="nothing was activated; push again")
    return pushed, True


def _in_force(settings: Settings, reader: LogReader, clock: Clock, trust: Trust) -> int:
    """The highest revision that a partition decides by, 0 without one."""
    rules = [head.get("rules") for head in _heads(settings, reader, clock, trust).values() if head]
    return max((int(said["revision"]) for said in rules if said), default=0)


def _require_believed(trust: Trust, topic: str, sealed: Iterable[tuple[bytes, bytes, Headers]]) -> None:
    """What no worker would take is not written: a certificate may count for other revisions."""
    from harness_stream.errors import ConfigError  # noqa: PLC0415  keeps `--help` light
    from harness_stream.ports import LogRecord  # noqa: PLC0415  same

    for key, value, seal in sealed:
        why = trust.refused(LogRecord(topic, 0, 0, key, value, None, seal))
        if why:
            hint = "`harness keys certify DIR --role rules` makes a certificate that counts"
            raise ConfigError(f"nobody would believe this push: {why}; nothing was pushed", hint=hint)


def _topics(settings: Settings) -> Any:  # noqa: ANN401  imported lazily
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  keeps `--help` light

    return Topics(settings.prefix)


def _active(records: list[LogRecord], settings: Settings) -> Pushed | None:
    return newest_active(((record.key, record.value) for record in records), settings.rule_set)


def _heads(settings: Settings, reader: LogReader, clock: Clock, trust: Trust) -> Heads:
    from harness_stream.adapters.kafka.admin import partitions  # noqa: PLC0415  slow to load, `--help` is not

    topic = _topics(settings).heads
    numbers = range(partitions(settings, topic))
    return {p: _last([r for r in read_to_end(reader, topic, p, clock) if trust.authentic(r)]) for p in numbers}


def _last(records: list[LogRecord]) -> dict[str, Any] | None:
    """The newest checkpoint's body; nothing of a record that nobody can read."""
    from pydantic import ValidationError  # noqa: PLC0415  keeps `--help` light

    from harness_stream.core.records import Checkpoint  # noqa: PLC0415  same
    from harness_stream.wire.decisions import read_body  # noqa: PLC0415  same

    body = dict(read_body(records[-1].value)[0]) if records else {}
    try:
        Checkpoint.model_validate(body)
    except (ValidationError, RecursionError):
        return None
    return body


def status_text(report: Mapping[str, Any]) -> str:
    """A report for a terminal."""
    active = report["active"]
    lines = [f"rule set `{report['rule_set']}`: " + ("none pushed" if active is None else _rules_text(active))]
    if report["hint"]:
        now = "pushed with --now: windows that were new may be unknown"
        standing = now if report["ok"] else "unusable: the rules before it stay in force"
        lines = [f"{lines[0]}, {standing}", f"  → {report['hint']}"]
    for partition, rules in report["partitions"].items():
        if rules is None:
            state = "no checkpoint yet (is a worker running?)"
        else:
            waiting = report["next"].get(partition)
            in_force = active is not None and rules == {name: active[name] for name in rules}
            state = _rules_text(rules) + ("" if in_force and waiting is None else f"  ← {_waiting_text(waiting)}")
        lines.append(f"  partition {partition}: {state}")
    return "\n".join(lines)


def _waiting_text(waiting: dict[str, Any] | None) -> str:
    if waiting is None:
        return "not switched yet"
    revision = "the newest" if waiting["revision"] is None else f"revision {waiting['revision']}"
    return f"{revision}: {waiting['state']}, {waiting['detail']}".removesuffix(", ")


def _rules_text(rules: dict[str, Any]) -> str:
    return f"revision {rules['revision']}, digest {rules['digest'][:12]}"
