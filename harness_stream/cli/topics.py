"""`harness topics apply`: make a realm's topics what PROTOCOL §2 asks for, as far as that loses nothing.

Rule of this file: the report goes to standard output; what remains to be done by hand ends in exit code 4.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from harness_stream.cli.failures import show, told
from harness_stream.cli.flags import takes
from harness_stream.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.adapters.kafka.topics import Difference, Plan
    from harness_stream.config import Settings

Fix = Annotated[bool, typer.Option("--fix", help="Also change settings that differ (never partitions or replicas).")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


@takes("bootstrap", "prefix", "partitions", "max_timespan_ms", "snapshot_interval_ms", "dev", "replication")
def apply(*, settings: Settings, fix: Fix = False, as_json: Json = False) -> None:
    """Create the realm's topics that are missing, and list every setting that is not what it must be.

    Repeating it is harmless. Nothing that exists is changed without --fix; partition counts and replicas never are.
    Exit code 4 while differences remain.

    Example: harness topics apply --dev --partitions 8

    Example: harness topics apply --dev --replication 3
    """
    from harness_stream.adapters.kafka import topics  # noqa: PLC0415  the Kafka client is slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import KafkaAdmin  # noqa: PLC0415  same

    admin = KafkaAdmin(settings.kafka)
    before = topics.plan(admin, settings)
    topics.create(admin, before.missing)
    if fix:
        topics.fix(admin, settings, before.differences)
    after = topics.plan_when_visible(admin, settings, fixed=fix)
    fixed = [d for d in before.differences if d not in after.differences]
    count = len(after.missing) + len(after.differences)
    advice = "; ".join(topics.advice(admin, settings, after.differences))
    error = ProtocolError(f"{count} differences remain", hint=advice) if count else None
    _report(before, fixed, after.differences, error, as_json=as_json)
    if error is not None and as_json:  # one document, so it is told in the report
        show(error)
        raise typer.Exit(error.exit_code)
    if error is not None:
        raise error


def _report(
    before: Plan,
    fixed: Sequence[Difference],
    remaining: Sequence[Difference],
    error: ProtocolError | None,
    *,
    as_json: bool,
) -> None:
    if as_json:
        report = {
            **({} if error is None else told(error)),
            "created": [spec.name for spec in before.missing],
            "fixed": [asdict(d) for d in fixed],
            "differences": [asdict(d) for d in remaining],
        }
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    for spec in before.missing:
        typer.echo(f"created `{spec.name}` ({spec.partitions} partitions)")
    for d in fixed:
        typer.echo(f"changed `{d.topic}`: {d.setting} from {d.found} to {d.expected}")
    for d in remaining:
        typer.echo(f"differs {d}")
    if not (before.missing or fixed or remaining):
        typer.echo("every topic is as it must be")

