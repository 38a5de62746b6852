"""`harness agents suspend`, `kill` and `resume`: one agent's status, and who is known to have seen it.

Rule of this file: the row is written before anything else is looked for; a kill waits for nobody's keys.
"""

from __future__ import annotations

import json as json_format
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness_stream.cli.flags import takes
from harness_stream.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.cli.agents_seen import Seen
    from harness_stream.config import Settings
    from harness_stream.runtime.agent_status import Changed, Status

# Busy workers tell within milliseconds; whoever has told nothing by then is idle, or away.
WAIT_S_DEFAULT: Final = 5.0

Agent = Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until workers are known to have seen it; it is written before.")
]
WaitS = Annotated[float, typer.Option(min=0, help="So long at most, s.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def suspend(
    *, settings: Settings, agent: Agent, wait: Wait = True, wait_s: WaitS = WAIT_S_DEFAULT, json: Json = False
) -> None:
    """Stop an agent until it is resumed: what it asks is denied, and what it has running is told to stop.

    The same for everything that others do for it. Only the status of its row changes.

    Example: harness agents suspend support-1
    """
    _run(settings, change(settings, agent, "suspended"), wait_s if wait else None, json=json)


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def kill(
    *, settings: Settings, agent: Agent, wait: Wait = True, wait_s: WaitS = WAIT_S_DEFAULT, json: Json = False
) -> None:
    """Stop an agent for good: what it asks is denied, and what it has running is told to stop.

    The same for everything that others do for it. Only the status of its row changes, and neither `suspend` nor `tables
    load` take a kill back.

    Example: harness agents kill support-1
    """
    _run(settings, change(settings, agent, "killed"), wait_s if wait else None, json=json)


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def resume(
    *,
    settings: Settings,
    agent: Agent,
    from_killed: Annotated[
        bool, typer.Option("--from-killed", help="Also if it was killed, which is meant to be final.")
    ] = False,
    wait: Wait = True,
    wait_s: WaitS = WAIT_S_DEFAULT,
    json: Json = False,
) -> None:
    """Let a suspended agent go on. Its history stays what it was; approvals that were taken back stay so.

    Example: harness agents resume support-1
    """
    _run(settings, change(settings, agent, "active", from_killed=from_killed), wait_s if wait else None, json=json)


def change(settings: Settings, agent: str, status: Status, *, from_killed: bool = False) -> Changed:
    """What the commands do before they look who has seen it (raises as `runtime.agent_status.set_status`)."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter  # noqa: PLC0415  same
    from harness_stream.runtime.agent_status import set_status  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    topic = Topics(settings.prefix).identity
    require_topics(settings.kafka, [topic])
    # The topic is learnt at once: librdkafka would else ask for it within a second, and a kill is in a hurry.
    with (
        closing(KafkaReader(settings.kafka, topics=[topic])) as reader,
        closing(KafkaWriter(settings.kafka)) as writer,
    ):
        return set_status(
            reader,
            writer,
            topic,
            SystemClock(),
            lambda wait_ms: time.sleep(wait_ms / 1000),
            agent,
            status,
            from_killed=from_killed,
        )


def _run(settings: Settings, changed: Changed, wait_s: float | None, *, json: bool) -> None:
    """Say what was written, then who is known to have seen it; None: without looking."""
    if json:
        seen = None if wait_s is None else _seen(settings, changed, wait_s, lambda _: None)
        typer.echo(json_format.dumps(told(changed, seen), ensure_ascii=False))
        return
    for line in written_lines(changed):
        typer.echo(line)
    if wait_s is not None:
        for line in seen_lines(_seen(settings, changed, wait_s, _progress)):
            typer.echo(line)


def _progress(seen: Seen) -> None:
    typer.echo(f"… the workers of {len(seen.partitions)} of {sum(map(len, seen))} partitions", err=True)


def _seen(settings: Settings, changed: Changed, limit_s: float, tell: Callable[[Seen], None]) -> Seen | str:
    """Who has seen it; why that cannot be known, if so: the row is written, whatever becomes of looking."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  as above
    from harness_stream.adapters.kafka.admin import incarnation, partitions, require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader  # noqa: PLC0415  same
    from harness_stream.adapters.signing.pairs import verifier_of  # noqa: PLC0415  same
    from harness_stream.cli.agents_seen import Watch  # noqa: PLC0415  same
    from harness_stream.cli.decision_log import DecisionLog  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    topics = Topics(settings.prefix)
    try:
        require_topics(settings.kafka, [topics.verdicts, topics.heads])
        realm_id = incarnation(settings)
        verifier, count = verifier_of(settings, realm_id), partitions(settings, topics.verdicts)
        with closing(KafkaReader(settings.kafka, topics=[topics.heads, topics.verdicts])) as reader:
            log = DecisionLog(reader, topics, realm_id, verifier, SystemClock())
            return Watch(reader, log, verifier, topics.verdicts, count, changed.revision).until(limit_s, tell)
    except HarnessError as error:
        return error.message


def told(changed: Changed, seen: Seen | str | None) -> dict[str, Any]:
    """What a program is told; `seen` is null if it was not looked for, or cannot be known (`detail`)."""
    document = {
        "agent_id": changed.row.agent_id,
        "status": changed.row.status,
        "before": changed.before,
        "written": changed.written,
        "revision": changed.revision,
        "feeder": changed.feeder or None,
        "seen": None,
    }
    if isinstance(seen, str):
        return {**document, "detail": seen}
    return document if seen is None else {**document, "seen": {name: list(v) for name, v in seen._asdict().items()}}


def written_lines(changed: Changed) -> list[str]:
    """What was written, for people."""
    agent, status = changed.row.agent_id, changed.row.status
    if changed.written:
        told = [f"`{agent}` is {status} (it was {changed.before}), row at revision {changed.revision}"]
    else:
        told = [f"`{agent}` is {status} already; nothing was written"]
    if changed.feeder:
        told.append(f"→ `{changed.feeder}` keeps this row up to date and may write it again: change it there as well")
    return told


def seen_lines(seen: Seen | str) -> list[str]:
    """Who is known to have seen it, for people."""
    if isinstance(seen, str):
        return [f"who has seen it cannot be told: {seen}"]
    told = [f"the workers of {len(seen.partitions)} of {sum(map(len, seen))} partitions have seen it"]
    if seen.unknown:
        which = ", ".join(map(str, seen.unknown))
        told.append(
            f"of partition {which} it is not known: nothing was decided there since. A worker that runs reads a row "
            "within some 100 ms, and denies everything while its table is older than a second"
        )
    if seen.unowned:
        told.append(f"partition {', '.join(map(str, seen.unowned))}: no worker has ever decided there")
    return told
