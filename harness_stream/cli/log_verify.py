"""`harness log verify`: is the decision log what PROTOCOL says it must be, and if not, which record is wrong and how.

Rule of this file: it finds where to begin, and shows; what is wrong is `core.audit`'s to say. Standard output holds
findings and the summary, everything else goes to standard error.
"""

from __future__ import annotations

import re
from contextlib import ExitStack, closing

# typer reads the annotations of commands at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import orjson
import typer

from harness_stream.cli.flags import takes
from harness_stream.cli.replay_output import Progress, as_json
from harness_stream.errors import CallerError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness_stream.cli.decision_log import DecisionLog, Start
    from harness_stream.config import Settings
    from harness_stream.core.audit import Finding
    from harness_stream.core.fold import Place
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.witness import Held
    from harness_stream.ports import LogReader, Verifier
    from harness_stream.runtime.audit_run import AuditRun
    from harness_stream.wire.topics import Topics

EXIT_FOUND: Final = 1
# A person reads the first ones and mends their cause; programs get all with --json.
FINDINGS_SHOWN: Final = 100
LINE_MAX: Final = 120
_DIGESTS: Final = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")
_PLACE: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,18})")


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def verify(
    *,
    settings: Settings,
    partition: Annotated[list[int] | None, typer.Option(min=0, help="Only these; else all.")] = None,
    start: Annotated[
        str | None, typer.Option("--from", metavar="FILE|P/OFFSET", help="Begin at this checkpoint.")
    ] = None,
    witness: Annotated[
        str | None, typer.Option(metavar="PATH", help="Also compare what `log witness` holds there.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Also recompute every answer.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object a finding, then a summary.")] = False,
) -> None:
    """Audit the decision log: which records count, and what is wrong with them.

    It folds each partition from its first record up to the end there was when
    it began, believes nobody, and names each wrong record as
    partition/offset. Always checked: schema, links, epochs, that every input
    is covered by one record, one terminal verdict an intent, chain time,
    lanes, rule bundles, and that every checkpoint (also those in the heads
    topic) says what the fold says. Records that do not count are no finding:
    they are counted, by why, with the offsets of the first 16.

    An altered record breaks the chain of links. That is a finding at that
    record, beside one of a checkpoint that names it; the audit goes on behind
    it from what a checkpoint states, and the checkpoints that differ because
    of it are counted. Of the newest record only its checkpoints can tell.

    --full also reads the inputs and decides each one again, on the history
    before it, by the rules in force and on the facts that the verdict
    recorded: every field must come out the same.

    Tables are in no log: facts and roles are taken as recorded, and so is
    where returned values came from. Counted as unproven: a reject as
    wrong_partition or state_unavailable; a denial as too_large or
    quarantined, which is given unevaluated; what another engine decided;
    answers whose input is no longer kept; and all answers behind a resume
    that forgets history (--forget-history), or that does not say whether it
    does, as those of older builds. Behind any other they are recomputed, on
    what is left of the log. A record that no certified worker signed does not
    count. Who wrote an input only the workers' key can tell, so inputs that
    were skipped as not authentic are unproven, too.

    --from begins at a checkpoint instead: a file with the body of one, or
    with its line of `log export`, or its place in the log. A log that was truncated or replaced since does not
    go on from it. History before it is not known then, so --full compares
    answers with their inputs and recomputes none; the same holds where
    retention has taken the log's beginning.

    --witness compares the checkpoints that `harness log witness` has held:
    each whose record is still kept must be found there, and state this fold.
    A log that is too short, another record or fold, and topics that were
    recreated are findings, and so is a beginning that is gone within a day,
    which no retention takes. What is gone later is said as no longer kept,
    with the time of the newest such: older than your retention is right.
    Where the fold begins later than what is held, records alone are compared.

    What an operator gave up with `harness partitions resume` is told as
    resumed, for ever, and is no finding, if the record names the head of the
    log before it and a checkpoint that is known: it is in the log or in the
    heads topic, or the record keeps the seal with which a worker wrote it.
    That is for inputs left out, lost epochs, and checkpoints up to that one
    while it is in the heads topic. Inputs answered again are a finding, and
    so are other rules than were in force, and what a witness holds.

    Where what is stored is damaged, the audit of that partition ends with a
    finding that names the first record it could not check.

    Memory grows with agents, not with records. Exit code 1 if anything is
    wrong.

    Example: harness log verify --full

    Example: harness log verify --partition 3 --from checkpoint.json --json

    Example: harness log verify --witness /mnt/elsewhere/heads/
    """
    with ExitStack() as stack:
        runs = _runs(stack, settings, partition or [], start, witness, full=full)
        found, told = 0, []
        for run in runs:
            for finding in _followed(run):
                found += 1
                _show(finding, found, json=json)
            told.append(run.told())
    if json:
        typer.echo(as_json({"summary": {"findings": found, "full": full, "partitions": told}}))
    else:
        typer.echo("\n".join([*(_as_text(part) for part in told), _verdict(found, told)]))
    if found:
        raise typer.Exit(EXIT_FOUND)


def _followed(run: AuditRun) -> Iterator[Finding]:
    with closing(Progress()) as progress:
        for finding in run.findings():
            if finding is not None:
                progress.close()  # the finding is shown where that line stands
                yield finding
            progress.show(run.records, f"records of partition {run.partition}", run.share)


# --- Where to begin ---


def _runs(
    stack: ExitStack, settings: Settings, chosen: Sequence[int], start: str | None, witness: str | None, *, full: bool
) -> Iterator[AuditRun]:
    """One run a partition, each made when the one before it is done."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import incarnation, partitions, require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import keys_of, verifier_of  # noqa: PLC0415  same
    from harness_stream.cli.decision_log import DecisionLog  # noqa: PLC0415  same
    from harness_stream.runtime.audit_run import AuditedRealm, AuditPorts, AuditRun  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    keys_of(settings)
    begin = None if start is None else _named(start)  # before anybody is asked: it may be a typing mistake
    witnessed = None if witness is None else _witnessed(witness)
    topics, clock = Topics(settings.prefix), SystemClock()
    read = [topics.intents, topics.verdicts, topics.heads, topics.rules]
    require_topics(settings.kafka, read)
    realm_id, count = incarnation(settings), partitions(settings, topics.verdicts)
    verifier = verifier_of(settings, realm_id)
    reader, again = (stack.enter_context(closing(KafkaReader(settings.kafka, topics=read))) for _ in range(2))
    log = DecisionLog(reader, topics, realm_id, verifier, clock)
    if witnessed is not None:
        _require_partitions(witnessed, count)
    given = None if begin is None else _given(begin, realm_id, count, log)
    ports = AuditPorts(reader, again, clock, verifier, bundles_in(reader, topics, verifier))
    realm = AuditedRealm(settings.realm, topics, count)
    for number in _numbers(chosen, count, given):
        held = log.held(number)
        place = log.oldest(number) if given is None else _from(given, log)
        _say_where(number, place, given=given is not None)
        kept = None if witnessed is None else witnessed.pop(number, [])
        yield AuditRun(ports, realm, place.place, place.ends, held, full=full, witness=kept)


def _witnessed(path: str) -> dict[int, list[Held]]:
    """What a witness holds, by partition; read before any end is asked for, since it may be growing."""
    from harness_stream.adapters.witness_file import held_in  # noqa: PLC0415  slow to load, `--help` is not

    found: dict[int, list[Held]] = {}
    for held in held_in(path):
        found.setdefault(held.place.header.partition, []).append(held)
    return found


def _require_partitions(held: Iterable[int], count: int) -> None:
    if max(held) >= count:
        raise CallerError(
            f"checkpoints of partition {max(held)} are held, and the decision log has 0 to {count - 1}",
            hint="are they another realm's? Or were the topics recreated with fewer partitions?",
        )


def bundles_in(reader: LogReader, topics: Topics, verifier: Verifier) -> Callable[[str], Windows | None]:
    """Compiles the bundles of the rules topic, each when it is asked for; one that is not to be believed is none."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.runtime.facts import RulesView  # noqa: PLC0415  same
    from harness_stream.runtime.to_end import read_to_end  # noqa: PLC0415  same

    view = RulesView("", refused=verifier.why_rules_refused)
    for record in read_to_end(reader, topics.rules, 0, SystemClock()):
        view.take(record)
    return view.windows


def numbers_of(chosen: Sequence[int], count: int) -> list[int]:
    """The partitions that were asked for; all if none was named."""
    unknown = [n for n in chosen if n >= count]
    if unknown:
        raise CallerError(f"there is no partition {unknown[0]}", hint=f"the decision log has 0 to {count - 1}")
    return sorted(set(chosen)) or list(range(count))


def _numbers(chosen: Sequence[int], count: int, given: Place | None) -> list[int]:
    if given is None:
        return numbers_of(chosen, count)
    if set(chosen) - {given.header.partition}:
        raise CallerError(
            f"the checkpoint is partition {given.header.partition}'s", hint="leave out `--partition`, or name that one"
        )
    return [given.header.partition]


class StartFile(NamedTuple):
    """A file that `--from` names, and the place that it states."""

    path: Path
    place: Place


def _named(start: str) -> tuple[int, int] | StartFile:
    """What `--from` says: (partition, offset) of a checkpoint in the log, or a file with one."""
    found = _PLACE.fullmatch(start)
    return (int(found[1]), int(found[2])) if found is not None else StartFile(Path(start), _in_file(Path(start)))


def _given(named: tuple[int, int] | StartFile, realm_id: str, count: int, log: DecisionLog) -> Place:
    """The place that `--from` names, of this very log."""
    if not isinstance(named, StartFile):
        (number,) = numbers_of([named[0]], count)
        place = log.stated_at(number, named[1])
        if place is None:
            hint = "`harness log export` names the kind of each record"
            raise CallerError(f"there is no checkpoint at {number}/{named[1]}", hint=hint)
        return place
    if named.place.header.incarnation != realm_id:
        raise CallerError(
            f"{named.path} is a checkpoint of other log topics than this realm's",
            hint="were the topics recreated? Then this log says nothing of that history",
        )
    return named.place


def _in_file(file: Path) -> Place:
    from harness_stream.core.fold import Place  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.core.records import Checkpoint  # noqa: PLC0415  same

    try:
        return Place.from_json(Checkpoint.model_validate(_body_in(orjson.loads(file.read_bytes()))).model_dump())
    except OSError as error:
        raise CallerError(f"{file}: {error.strerror}", hint="give a file, or a place as in 0/1200") from None
    except (ValueError, TypeError) as error:  # both orjson's and pydantic's are the first
        why = str(error).splitlines()[0]
        raise CallerError(
            f"{file} holds no checkpoint's body: {why}",
            hint="one line of `harness log export` with the status `checkpoint` will do; see "
            "schemas/record-checkpoint.json",
        ) from None


def _body_in(document: object) -> object:
    """A record's body, also if the whole line is given that `log export` prints of it."""
    if isinstance(document, dict) and "status" in document and "body" in document:
        return document["body"]
    return document


def _from(given: Place, log: DecisionLog) -> Start:
    from harness_stream.cli.decision_log import Start  # noqa: PLC0415  slow to load, `--help` is not

    ends = log.ends(given.header.partition)
    if given.offset < ends.low - 1:
        raise ProtocolError(
            f"partition {given.header.partition} is kept from offset {ends.low} on, "
            f"and the checkpoint names {given.offset}: what came between is gone",
            hint="give a newer checkpoint, or none",
        )
    return Start(given, ends)


def _say_where(number: int, start: Start, *, given: bool) -> None:
    if start.cut and not given:
        typer.echo(
            f"partition {number}: kept from offset {start.ends.low} on; the audit begins at its oldest checkpoint, "
            f"after offset {start.place.offset}. History before it is not known",
            err=True,
        )


# --- What is shown ---


def finding_text(finding: Finding) -> str:
    """For a person: one line, or one a part if that would be long; digests in short, `--json` has all of them."""
    from harness_stream.cli.verdicts import printable  # noqa: PLC0415  slow to load, `--help` is not

    where, text = f"{finding.partition}/{finding.offset}", _DIGESTS.sub(r"\1…", printable(finding.text))
    if len(f"{where}  {finding.kind}: {text}") > LINE_MAX:
        text = text.replace("; ", ";\n    ")
    return f"{where}  {typer.style(f'{finding.kind}', fg='red')}: {text}"


def _show(finding: Finding, number: int, *, json: bool) -> None:
    if json:
        typer.echo(as_json(finding.to_json()))
    elif number <= FINDINGS_SHOWN:
        typer.echo(finding_text(finding))
    elif number == FINDINGS_SHOWN + 1:
        typer.echo(f"more findings are counted only; `--json` shows all that come after these {FINDINGS_SHOWN}")


def _as_text(told: dict[str, Any]) -> str:
    inputs, begin = told["inputs"], told["from"]
    counted = ", ".join(f"{n:,} {kind}" for kind, n in told["effective"].items()) or "nothing"
    answered = f"inputs {inputs['first']} to {inputs['next'] - 1} are answered"
    answered = answered if inputs["next"] > inputs["first"] else "no input is answered"
    undecided = f", {told['undecided']:,} {_are(told['undecided'])} not decided yet" if told["undecided"] else ""
    damaged = "" if told.get("damaged") is None else ", not to its end: damaged"
    lines = [
        f"partition {told['partition']}: {_read_text(begin, told['end'])}{damaged}; {answered}{undecided}",
        f"  count: {counted}",
    ]
    if told["void"]:
        lines += [f"  void:  {n:,} {why}, at {_offsets(told['void_at'][why], n)}" for why, n in told["void"].items()]
    checkpoints = told["checkpoints"]
    old = f", {checkpoints['too_old']:,} of too old a place" if checkpoints["too_old"] else ""
    lines.append(f"  checkpoints: {checkpoints['compared']:,} compared{old}")
    lines += [_resumed_text(resume) for resume in told["resumed"]]
    lines += _broken_texts(told)
    if told.get("notices"):
        lines.append(f"  notices of stopped agents: {told['notices']:,}")
    if "witness" in told:
        lines.append(_witness_text(told["witness"]))
    if "recomputed" in told:
        again = ", ".join(f"{n:,} {kind}" for kind, n in told["recomputed"].items()) or "nothing"
        lines.append(f"  recomputed: {again}")
        lines += [f"  unproven: {n:,} {why}" for why, n in told["unproven"].items()]
    return "\n".join(lines)


def _read_text(begin: int | str, end: int) -> str:
    """What was read, up to the first offset that was not; of a log that ends before its start that is nothing."""
    if begin == "genesis":
        return f"from its first record to {end}"
    if isinstance(begin, int) and begin >= end:
        return f"nothing is left to read; it ends at {end}, and the start is offset {begin}"
    return f"from offset {begin} to {end}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _resumed_text(resume: dict[str, Any]) -> str:
    """What an operator gave up, and why."""
    from harness_stream.cli.verdicts import printable  # noqa: PLC0415  slow to load, `--help` is not

    parts = [f"  resumed: at {resume['offset']} with epoch {resume['epoch']}, \"{printable(resume['reason'])}\""]
    for name, text in (("inputs_left_out", "inputs {} to {} left out"), ("records_lost", "records {} to {} lost")):
        if resume[name] is not None:
            parts.append(text.format(*resume[name]))
    if resume["forgets_history"]:
        parts.append("history forgotten")
    count = resume["checkpoints_of_lost"]
    if count:
        parts.append(f"{count:,} checkpoint{'' if count == 1 else 's'} of these")
    return "; ".join(parts)


def _broken_texts(told: dict[str, Any]) -> list[str]:
    """Where the links break, what is not proven because of it, and how to see what comes behind."""
    lines = []
    for broken in told.get("broken", ()):
        unproven = broken["unproven"]
        gap = "what comes behind was audited" if unproven is None else "{} to {} are not proven".format(*unproven)
        lines.append(f"  broken: at {broken['at']}; {gap}")
    if told.get("stuck"):
        number, start = told["partition"], told["stuck"]["checkpoint"]
        again = f"`harness log verify --partition {number} --from {number}/{start}` shows what comes behind"
        lines.append(f"  broken: from {told['stuck']['from']} on nothing is proven; {again}")
    if told.get("astray"):
        lines.append(f"  broken: {told['astray']:,} more checkpoints differ because of it")
    return lines


def _offsets(shown: Sequence[int], count: int) -> str:
    return ", ".join(map(str, shown)) + (", …" if count > len(shown) else "")


def _witness_text(told: dict[str, Any]) -> str:
    from harness_stream.cli.verdicts import clock_text  # noqa: PLC0415  slow to load, `--help` is not

    gone, by_digest, at_ms = told["no_longer_kept"], told["by_digest"], told["newest_no_longer_kept_ms"]
    digests = f" ({by_digest:,} by their records alone)" if by_digest else ""
    old = f", {gone:,} no longer kept, the newest of {clock_text(at_ms)}" if gone else ""
    return f"  witness: {told['held']:,} held, {told['compared']:,} found as they are held{digests}{old}"


def _verdict(found: int, told: list[dict[str, Any]]) -> str:
    where = f"{len(told)} partition{'' if len(told) == 1 else 's'}"
    if found:
        return typer.style(f"{found:,} finding{'' if found == 1 else 's'} in {where}", fg="red")
    resumed = sum(bool(part["resumed"]) for part in told)
    accepted = f", but what operators gave up in {resumed}" if resumed else ""
    return typer.style(f"nothing wrong in {where}{accepted}", fg="green")
