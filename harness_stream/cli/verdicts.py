"""`harness verdicts tail`: the decision log as it grows, one line a record, of a run of denials one line an intent.

Rule of this file: a record is shown as decided only if the fold takes it; what lost is left out, or marked by `--void`.
"""

from __future__ import annotations

import json as json_format
import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness_stream.cli.flags import takes
from harness_stream.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from harness_stream.cli.decision_log import DecisionLog
    from harness_stream.config import Settings
    from harness_stream.core.fold import Place
    from harness_stream.ports import LogReader, LogRecord, Verifier

# A person sees a verdict 20 ms after it could be read; looking costs microseconds.
LOOK_S: Final = 0.02
POLL_RECORDS: Final = 1_000
# How often is looked whether retention has overtaken us or the broker is silent.
WATCH_S: Final = 2.0
REASONS_SHOWN: Final = 2

_COLOURS: Final = {"approve": "green", "deny": "red", "hold": "yellow", "reject": "magenta", "skip": "magenta"}


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def tail(
    *,
    settings: Settings,
    partition: Annotated[int | None, typer.Option(min=0, help="Only this partition.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only records about this agent.")] = None,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="From the log's first record.")] = False,
    follow: Annotated[bool, typer.Option(help="Wait for more; else end at the log's end.")] = True,
    void: Annotated[bool, typer.Option("--void", help="Also show records that do not count, marked.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line: the body, of a run each.")] = False,
) -> None:
    """Show what was decided, from each partition's newest checkpoint on, until Ctrl-C.

    A line: time, partition/offset, agent, action, decision, rule and reason, and how long after the intent it came.
    A switch tells the rules' revision and digest, and whether their new windows were warmed.
    Intents that one record denies together have a line each, as if each had a verdict of its own.

    Example: harness verdicts tail --agent support-1 --from-beginning --no-follow
    """
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import incarnation, require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import keys_of, verifier_of  # noqa: PLC0415  same
    from harness_stream.cli.decision_log import DecisionLog  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    keys_of(settings)
    topics, realm_id = Topics(settings.prefix), incarnation(settings)
    read = [topics.verdicts, topics.heads]
    require_topics(settings.kafka, read)
    verifier, partitions = verifier_of(settings, realm_id), _partitions(settings, topics.verdicts, partition)
    with closing(KafkaReader(settings.kafka, topics=read)) as reader:
        log = DecisionLog(reader, topics, realm_id, verifier, SystemClock())
        tailing = Tailing(reader, log, verifier, topics.verdicts)
        for number in partitions:
            if tailing.begin(number, from_beginning=from_beginning):
                typer.echo(f"partition {number}: its beginning is gone, shown from its newest checkpoint", err=True)
        shown = 0
        for entry in wanted(tailing.entries(follow=follow), agent, void=void):
            shown += 1
            typer.echo(as_json(entry) if json else as_line(entry))
        if not shown and not from_beginning:
            hint = "`--from-beginning` shows what came before"
            typer.echo(f"nothing to show since the newest checkpoints; {hint}", err=True)


def _partitions(settings: Settings, topic: str, only: int | None) -> list[int]:
    from harness_stream.adapters.kafka.admin import partitions  # noqa: PLC0415  slow to load, `--help` is not

    count = partitions(settings, topic)
    if only is not None and only >= count:
        raise CallerError(f"there is no partition {only}", hint=f"`{topic}` has 0 to {count - 1}")
    return list(range(count)) if only is None else [only]


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of the decision log, checkpoints left out; or one of the verdicts that a run of denials is.

    Attributes:
        append_ms: broker's append time, epoch ms.
        effective: the fold took it.
    """

    partition: int
    offset: int
    append_ms: int
    effective: bool
    body: Mapping[str, Any]

    @property
    def latency_ms(self) -> int | None:
        """From the intent's append, as far as chain time tells it, to the verdict's."""
        t = self.body.get("t")
        return max(0, self.append_ms - t) if self.body.get("kind") == "verdict" and isinstance(t, int) else None


def wanted(records: Iterable[Entry], agent: str | None, *, void: bool) -> Iterator[Entry]:
    """What is to be shown of these records: each answer in them about the agent, None: about any."""
    from harness_stream.wire.decisions import answers_of_any  # noqa: PLC0415  slow to load, `--help` is not

    for record in records:
        for body in answers_of_any(record.body) if record.effective or void else ():
            if agent in {None, body.get("agent_id")}:
                yield replace(record, body=body)


class Tailing:
    """Folds partitions of the decision log, record by record.

    Args:
        reader: of the decision log.
        log: finds where to begin; shares the reader.
        verifier: says which records are authentic; others do not count.
        topic: the decision log's.
    """

    def __init__(self, reader: LogReader, log: DecisionLog, verifier: Verifier, topic: str) -> None:
        self._reader, self._log, self._verifier, self._topic = reader, log, verifier, topic
        self._places: dict[int, Place] = {}
        self._ends: dict[int, int] = {}

    def begin(self, partition: int, *, from_beginning: bool) -> bool:
        """Fold this partition too; True if the beginning was asked for and is gone."""
        start = self._log.start(partition, from_beginning=from_beginning)
        self._places[partition], self._ends[partition] = start.place, start.ends.end
        return start.cut

    def begin_at(self, partition: int, place: Place) -> None:
        """Fold this partition on from a place that is known."""
        self._places[partition], self._ends[partition] = place, self._log.ends(partition).end

    def entries(self, *, follow: bool) -> Iterator[Entry]:
        """Records in order within a partition; without `follow` up to the ends there were.

        Raises:
            BrokerUnavailable: the broker does not answer any more.
            ProtocolError: retention has overtaken the reader and no checkpoint reaches what is left.
            LogDamaged: a partition cannot be read on.
        """
        self._follow_all()
        watched_s = time.monotonic()
        while follow or self._behind():
            records = self._reader.poll(POLL_RECORDS)
            for record in records:
                entry = self._taken(record)
                if entry is not None and (follow or record.offset < self._ends[record.partition]):
                    yield entry
            if not records:
                time.sleep(LOOK_S)
            if time.monotonic() - watched_s > WATCH_S and not records:
                self._watch()
                watched_s = time.monotonic()

    def _behind(self) -> bool:
        return any((self._reader.position(self._topic, p) or 0) < end for p, end in self._ends.items())

    def _watch(self) -> None:
        """Is the broker there, and is what comes next still kept, and readable?"""
        from harness_stream.runtime.to_end import require_readable  # noqa: PLC0415  slow to load, `--help` is not

        lows = {partition: self._log.ends(partition).low for partition in self._places}
        for partition in self._places:
            require_readable(self._reader, self._topic, partition)
        gone = [p for p, low in lows.items() if (self._reader.position(self._topic, p) or 0) < low]
        if gone:
            for partition in self._places:  # the reader is needed alone while the checkpoint is looked up
                self._reader.unfollow(self._topic, partition)
            for partition in gone:
                self.begin(partition, from_beginning=False)
            self._follow_all()

    def _follow_all(self) -> None:
        for partition, place in self._places.items():
            self._reader.follow(self._topic, partition, place.offset + 1)

    def _taken(self, record: LogRecord) -> Entry | None:
        from harness_stream.core.fold import STATEMENTS  # noqa: PLC0415  slow to load, `--help` is not
        from harness_stream.wire.decisions import read_body  # noqa: PLC0415  same

        body, digest = read_body(record.value)
        if body.get("kind") in STATEMENTS:
            return None
        authentic = self._verifier.decision_authentic(record)
        place = self._places[record.partition].after(record.offset, body, digest) if authentic else None
        if place is not None:
            self._places[record.partition] = place
        return Entry(record.partition, record.offset, record.timestamp_ms or 0, place is not None, body)


def as_json(entry: Entry) -> str:
    """One line for a program."""
    told = {
        "partition": entry.partition,
        "offset": entry.offset,
        "append_ms": entry.append_ms,
        "effective": entry.effective,
        "latency_ms": entry.latency_ms,
        "body": dict(entry.body),
    }
    return json_format.dumps(told, ensure_ascii=False)


def as_line(entry: Entry) -> str:
    """One line for a terminal; colours are dropped where there is none."""
    body = entry.body
    word = str(body.get("decision") or body.get("kind"))
    when = clock_text(entry.append_ms)
    shown = decision_text(word)
    latency = "" if entry.latency_ms is None else f"  {entry.latency_ms} ms"
    mark = "" if entry.effective else typer.style("void  ", fg="bright_black")
    agent, action = printable(body.get("agent_id", "")), printable(_action(body))
    why = _why(body) if entry.effective else printable(f"epoch {body.get('epoch')}, writer {body.get('writer')}")
    return f"{when}  {entry.partition}/{entry.offset:<6} {mark}{agent:<18} {action:<18} {shown} {why}{latency}"


def decision_text(word: str) -> str:
    """A decision or kind in its colour and in one width."""
    return typer.style(f"{printable(word):<8}", fg=_COLOURS.get(word, "cyan"))


def clock_text(epoch_ms: int) -> str:
    """Time in UTC, to the millisecond, for people."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def printable(text: object) -> str:
    """Foreign text without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def _action(body: Mapping[str, Any]) -> str:
    event = body.get("event")
    return str(event.get("action", "")) if isinstance(event, dict) else str(body.get("event_type", ""))


def _why(body: Mapping[str, Any]) -> str:
    kind = body.get("kind")
    if kind == "verdict":
        reasons = [reason_text(r) for r in body.get("reasons", ())]
        more = f" and {len(reasons) - REASONS_SHOWN} more" if len(reasons) > REASONS_SHOWN else ""
        return printable("; ".join(reasons[:REASONS_SHOWN]) + more)
    if kind == "claim":
        return printable(f"epoch {body.get('epoch')}, after {body.get('after')}")
    if kind == "switch":
        return printable(_switch_text(body))
    if kind == "skip":
        found = ", ".join(_skipped_text(each) for each in body.get("offsets", ()))
        return printable(f"{body.get('count')} × {body.get('reason')} {found}")
    status = [str(part) for part in (body.get("status"), body.get("reason"), body.get("detail")) if part]
    return printable(" ".join(status))


def _skipped_text(skipped: Mapping[str, Any]) -> str:
    detail = skipped.get("detail")
    return f"{skipped.get('offset')}: {skipped.get('reason')}" + (f" ({detail})" if detail else "")


def _switch_text(body: Mapping[str, Any]) -> str:
    """Which rules, and whether windows that were new know what came before; the record does not say why they do not."""
    rules = body.get("rules", {})
    counted = "new windows warmed" if body.get("warmed") else "no windows warmed (--now, or none were new)"
    return f"rules revision {rules.get('revision')}, digest {str(rules.get('digest'))[:12]}: {counted}"


def reason_text(reason: Mapping[str, Any]) -> str:
    """Rule or engine word, and why; `unknown` if the rule fired because its window is not known exactly."""
    rule, code = reason.get("rule"), reason.get("code")
    name = str(code) if rule is None else str(rule) + ("" if code == "rule" else f" ({code})")
    name += " (unknown)" if reason.get("unknown") else ""
    more = reason.get("because") or reason.get("detail")
    return f"{name}: {more}" if more else name
