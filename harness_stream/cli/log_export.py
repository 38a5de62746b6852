"""`harness log export`: the decision log as JSON lines, for other tools.

Rule of this file: every record is there with what the fold says of it; nothing is interpreted further.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from harness_stream.cli.flags import takes
from harness_stream.cli.replay_output import Progress
from harness_stream.errors import LogDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness_stream.cli.decision_log import Start
    from harness_stream.cli.log_inputs import Inputs
    from harness_stream.config import Settings
    from harness_stream.ports import LogReader, Verifier
    from harness_stream.wire.topics import Topics


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def export(
    *,
    settings: Settings,
    partition: Annotated[list[int] | None, typer.Option(min=0, help="Only these; else all.")] = None,
    effective: Annotated[bool, typer.Option("--effective", help="Only records that count.")] = False,
    inputs: Annotated[bool, typer.Option("--inputs", help="Each answer with the input it is about.")] = False,
) -> None:
    """Print every record of the decision log as one JSON object a line, up to the end there is now.

    Partition by partition, in the order of offsets: `partition`, `offset`,
    `append_ms`, `digest`, `status` (effective, void, checkpoint or notice),
    `why` of a void one, and the whole `body`. A record that is void lost against
    another one and changed nothing. Where retention has taken a partition's
    beginning, records that come before the place it can be folded from are
    left out; that is said on standard error. So is where a partition ends
    early because what is stored is damaged; the exit code is then 4.

    A record of kind `denials` denies several intents at once: those in
    `denied`, each for the reason `code`.

    With `--inputs` a verdict, ack or reject has `input`: offset, append_ms,
    value, what vouches for it (headers), and `signature`: right, wrong or
    `no such key` by the identity table as it is now; null if it has a MAC
    only, which proves nothing to others. Null where retention took it. Of
    `denials` it is `inputs`, as many as there are in `denied`.

    Example: harness log export --effective | grep -E '"decision":"deny"|"kind":"denials"'
    """
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import incarnation, partitions, require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import keys_of, verifier_of  # noqa: PLC0415  same
    from harness_stream.cli.decision_log import DecisionLog  # noqa: PLC0415  same
    from harness_stream.cli.log_verify import numbers_of  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    keys_of(settings)
    topics = Topics(settings.prefix)
    read = [topics.verdicts, topics.intents, topics.heads]
    require_topics(settings.kafka, read)
    realm_id = incarnation(settings)
    verifier = verifier_of(settings, realm_id)
    with closing(KafkaReader(settings.kafka, topics=read)) as reader, closing(Progress()) as progress:
        log = DecisionLog(reader, topics, realm_id, verifier, SystemClock())
        behind = inputs_of(settings, topics, verifier) if inputs else None
        shown = exit_code = 0
        for number in numbers_of(partition or [], partitions(settings, topics.verdicts)):
            start = log.oldest(number)
            if start.cut:
                typer.echo(f"partition {number}: shown from after offset {start.place.offset}, retention", err=True)
            asked = None if behind is None else behind(number)
            try:
                for line in lines(reader, topics.verdicts, start, verifier):
                    if asked is not None and line["status"] == "effective":
                        line.update(asked.told_with(line["body"]))
                    if not effective or line["status"] == "effective":
                        sys.stdout.write(orjson.dumps(line).decode() + "\n")
                        shown += 1
                    progress.show(shown, "records")
            except LogDamaged as damage:
                exit_code = damage.exit_code
                reader.unfollow(damage.topic, damage.partition)
                typer.echo(f"partition {number} ends early: {damage.message}\n  → {damage.hint}", err=True)
    if exit_code:
        raise typer.Exit(exit_code)


def inputs_of(settings: Settings, topics: Topics, verifier: Verifier) -> Callable[[int], Inputs]:
    """Opens a partition's inputs (raises BrokerUnavailable); its reader lives as long as the command."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.cli.log_inputs import Inputs  # noqa: PLC0415  same
    from harness_stream.runtime.table_load import read_tables  # noqa: PLC0415  same

    named = {name: topics.table(name) for name in ("identity", "classification")}
    reader, clock = KafkaReader(settings.kafka, topics=[*named.values(), topics.intents]), SystemClock()
    views = read_tables(reader, named, clock, lambda wait_ms: time.sleep(wait_ms / 1000))
    tables = {name: view.table for name, view in views.items()}
    return lambda number: Inputs(reader, topics.intents, number, clock, verifier, tables)


def lines(reader: LogReader, topic: str, start: Start, verifier: Verifier) -> Iterator[dict[str, Any]]:
    """Every record of one partition after the start, up to its end as of then.

    Raises:
        BrokerUnavailable: the broker does not answer any more.
        ProtocolError: retention has overtaken it.
    """
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.core.audit.void import Void, why_void  # noqa: PLC0415  same
    from harness_stream.core.fold import STATEMENTS  # noqa: PLC0415  same
    from harness_stream.runtime.audit_read import record_of  # noqa: PLC0415  same
    from harness_stream.runtime.replay_feed import Feed  # noqa: PLC0415  same

    place, partition = start.place, start.place.header.partition
    first = max(start.ends.low, place.offset + 1)
    feed = Feed(reader, SystemClock(), {(topic, partition): (first, start.ends.end)})
    while (raw := feed.peek(topic, partition)) is not None:
        feed.pop(topic, partition)
        record = record_of(raw, verifier)
        told = {"partition": partition, "offset": raw.offset, "append_ms": raw.timestamp_ms, "digest": record.digest}
        after = place.after(*record[:3]) if record.authentic else None
        if after is not None:
            place, told["status"] = after, "effective"
        elif record.authentic and record.body.get("kind") in STATEMENTS:
            told["status"] = str(record.body["kind"])
        else:
            why = why_void(place.header, record.body) if record.authentic else Void.NOT_AUTHENTIC
            told |= {"status": "void", "why": str(why)}
        yield {**told, "body": record.body}
    feed.drop(topic, partition)
