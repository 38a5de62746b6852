"""`harness up`, `down` and `status`: the real stack on this machine, without containers.

Rule of this file: results go to standard output, progress to standard error, so that `--json` can be piped.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness_stream.local.cluster import BROKERS
from harness_stream.local.process import PORT_MAX
from harness_stream.local.stack import DEFAULT_DIRECTORY, DEFAULT_KAFKA_PORT, DEFAULT_REDIS_PORT, Stack

if TYPE_CHECKING:
    from harness_stream.local.stack import ServiceStatus

Directory = Annotated[Path, typer.Option("--dir", help="Folder of data, logs and process records.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
KafkaPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=PORT_MAX,
        help=f"First TCP port of Kafka; 3 brokers take six. \\[default: as before, else {DEFAULT_KAFKA_PORT}]",
    ),
]
RedisPort = Annotated[
    int | None,
    typer.Option(min=1, max=PORT_MAX, help=f"TCP port of Redis.  \\[default: as before, else {DEFAULT_REDIS_PORT}]"),
]
Brokers = Annotated[
    int | None,
    typer.Option(min=1, max=BROKERS, help=f"1 or {BROKERS}, chosen once a folder.  \\[default: as before, else 1]"),
]
KafkaLibs = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="Use these Kafka jars instead of fetching them by Maven."),
]


def up(
    *,
    directory: Directory = DEFAULT_DIRECTORY,
    kafka_port: KafkaPort = None,
    redis_port: RedisPort = None,
    brokers: Brokers = None,
    kafka_libs: KafkaLibs = None,
    as_json: Json = False,
) -> None:
    """Start Apache Kafka and Redis on this machine and wait until both serve. Needs Java 17; fetches Kafka once.

    Repeating it is harmless. Data and ports survive `harness down`; to start from nothing, delete the folder.

    With --brokers 3 each record is on three brokers and is acknowledged by two, so one may be killed and come back.
    Two killed ones stop everything until one is back: nothing is acknowledged, so nobody acts.

    Example: harness up --kafka-port 19092

    Example: harness up --brokers 3 --dir .harness-3
    """
    began = time.monotonic()
    stack = Stack(directory, kafka_port=kafka_port, redis_port=redis_port, brokers=brokers, kafka_libs=kafka_libs)
    stack.up(_show)
    if as_json:
        _print_json(stack)
        return
    typer.echo(f"Kafka {stack.bootstrap} and Redis {stack.redis_url} serve ({time.monotonic() - began:.1f} s).")
    typer.echo(_next_steps(stack))


def down(*, directory: Directory = DEFAULT_DIRECTORY, as_json: Json = False) -> None:
    """Stop what `harness up` started. Data stays. Repeating it is harmless.

    Example: harness down
    """
    stack = Stack(directory)
    stopped = stack.down(_show)
    if as_json:
        typer.echo(json.dumps({"stopped": stopped, "directory": str(stack.directory)}))
    else:
        typer.echo(f"Stopped; data stays in {stack.directory}." if stopped else "Nothing was running.")


def status(*, directory: Directory = DEFAULT_DIRECTORY, as_json: Json = False) -> None:
    """Show what runs, and whether it answers: each server is really asked. Exit code 1 unless all answer.

    Example: harness status --json
    """
    stack = Stack(directory)
    found = _print_json(stack) if as_json else _print_text(stack)
    if not all(service.answers for service in found):
        raise typer.Exit(1)


def _show(step: str, /) -> None:
    typer.echo(f"· {step} …", err=True)


def _print_json(stack: Stack) -> tuple[ServiceStatus, ...]:
    found = stack.status()
    document = {
        "bootstrap": stack.bootstrap,
        "redis_url": stack.redis_url,
        "directory": str(stack.directory),
        "services": [asdict(service) for service in found],
    }
    typer.echo(json.dumps(document))
    return found


def _print_text(stack: Stack) -> tuple[ServiceStatus, ...]:
    found = stack.status()
    for service in found:
        typer.echo(_line(service))
    if not any(service.running for service in found):
        typer.echo(f"→ start it: harness up{stack.flag}")
    return found


def _line(service: ServiceStatus) -> str:
    if not service.running:
        return f"{service.name:<7} not running"
    verdict = "answers" if service.answers else f"does not answer, see {service.log}"
    return f"{service.name:<7} {verdict}  {service.address}  process {service.pid}  up {service.uptime_s:.0f} s"


def _next_steps(stack: Stack) -> str:
    settings = "".join(
        f"  export {name}={value}\n"
        for name, value, usual in (
            ("HARNESS_BOOTSTRAP", stack.bootstrap, f"127.0.0.1:{DEFAULT_KAFKA_PORT}"),
            ("HARNESS_REDIS_URL", stack.redis_url, f"redis://127.0.0.1:{DEFAULT_REDIS_PORT}/0"),
            ("HARNESS_REPLICATION", str(len(stack.brokers)), "1"),
        )
        if value != usual
    )
    return (
        f"Next:\n{settings}"
        "  harness topics apply --dev     create the topics of an unsigned realm (a signed one: docs/signed.md)\n"
        "  harness demo --kafka           watch agents being judged on this stack\n"
        f"  harness status{stack.flag}\n"
        f"  harness down{stack.flag}"
    )
