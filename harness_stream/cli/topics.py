"""`harness topics apply`: make a realm's topics what PROTOCOL §2 asks for, as far as that loses nothing.

Rule of this file: the report goes to standard output; what remains to be done by hand ends in exit code 4.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from harness_stream.cli.failures import show, told
from harness_stream.cli.flags import takes
from harness_stream.errors import CallerError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.adapters.kafka.topics import Difference, Plan
    from harness_stream.cli.topics_acls import AclReport
    from harness_stream.config import Settings

Fix = Annotated[bool, typer.Option("--fix", help="Also change settings that differ (never partitions or replicas).")]
Check = Annotated[
    bool, typer.Option("--check", "--dry-run", help="Change nothing; show what would be created, changed or removed.")
]
Acls = Annotated[bool, typer.Option("--acls", help="Also write who may do what (docs/transport.md has the table).")]
Principals = Annotated[
    list[str] | None,
    typer.Option("--principal", metavar="ROLE=User:NAME", help="With --acls: who has a role; repeat it."),
]
Prune = Annotated[bool, typer.Option("--prune", help="With --acls: take away what these principals may do besides.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


@takes("bootstrap", "prefix", "partitions", "max_timespan_ms", "snapshot_interval_ms", "dev", "replication", "group")
def apply(
    *,
    settings: Settings,
    fix: Fix = False,
    check: Check = False,
    acls: Acls = False,
    principal: Principals = None,
    prune: Prune = False,
    as_json: Json = False,
) -> None:
    """Create the realm's topics that are missing, and list every setting that is not what it must be.

    Repeating it is harmless. Nothing that exists is changed without --fix; partition counts and replicas never are.
    With --acls each principal gets the least rights that its role needs. ACLs are never removed without --prune, and
    then only those of principals that are named; the role `none` has no rights. Exit code 4 while differences remain.

    Example: harness topics apply --dev --partitions 8

    Example: harness topics apply --dev --replication 3

    Example: harness topics apply --acls --principal worker=User:worker --principal enforcer=User:support-1 --check
    """
    from harness_stream.adapters.kafka import topics  # noqa: PLC0415  the Kafka client is slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import KafkaAdmin  # noqa: PLC0415  same
    from harness_stream.cli.topics_acls import applied  # noqa: PLC0415  same
    from harness_stream.config import Settings  # noqa: PLC0415  same

    _require_sense(fix=fix, check=check, acls=acls, principal=principal, prune=prune)
    admin = KafkaAdmin(settings.kafka)
    before = topics.plan(admin, settings)
    if not check:
        topics.create(admin, before.missing)
    if fix:
        topics.fix(admin, settings, before.differences)
    after = before if check else topics.plan_when_visible(admin, settings, fixed=fix)
    rights = applied(admin, settings, principal or (), check=check, prune=prune) if acls else None
    count = len(after.missing) + len(after.differences) + (rights.remaining if rights else 0)
    advice = topics.advice(admin, settings, after.differences) + (rights.advice() if rights else [])
    if check and after.missing:
        advice.insert(0, "without `--check` the missing topics are created")
    error = ProtocolError(f"{count} differences remain", hint="; ".join(advice)) if count else None
    done = Applied(before, after, rights)
    _report(done, error, as_json=as_json)
    if done.created and settings.partitions != Settings().partitions and not as_json:
        typer.echo(f"→ start workers with the same count: `HARNESS_PARTITIONS={settings.partitions}`")
    if error is not None and as_json:  # one document, so it is told in the report
        show(error)
        raise typer.Exit(error.exit_code)
    if error is not None:
        raise error


def _require_sense(*, fix: bool, check: bool, acls: bool, principal: Sequence[str] | None, prune: bool) -> None:
    if (principal or prune) and not acls:
        raise CallerError("`--principal` and `--prune` are about ACLs", hint="add --acls")
    if check and fix:
        raise CallerError("`--check` changes nothing, and `--fix` does", hint="leave one of them out")


@dataclass(frozen=True, slots=True)
class Applied:
    """What was found, done and left.

    Attributes:
        before: topics as they were.
        after: topics as they are.
        rights: ACLs, if they were asked for.
    """

    before: Plan
    after: Plan
    rights: AclReport | None

    @property
    def created(self) -> list[str]:
        """Topics that are there now and were not."""
        left = {spec.name for spec in self.after.missing}
        return [spec.name for spec in self.before.missing if spec.name not in left]

    @property
    def fixed(self) -> list[Difference]:
        """Differences that are gone."""
        return [d for d in self.before.differences if d not in self.after.differences]


def _report(done: Applied, error: ProtocolError | None, *, as_json: bool) -> None:
    after, rights = done.after, done.rights
    if as_json:
        report = {
            **({} if error is None else told(error)),
            "created": done.created,
            **({"missing": [spec.name for spec in after.missing]} if after.missing else {}),
            "fixed": [asdict(d) for d in done.fixed],
            "differences": [asdict(d) for d in after.differences],
            **({} if rights is None else {"acls": rights.document()}),
        }
        typer.echo(json.dumps(report, ensure_ascii=False))
        return
    partitions = {spec.name: spec.partitions for spec in done.before.missing}
    for name in done.created:
        typer.echo(f"created `{name}` ({partitions[name]} partitions)")
    for d in done.fixed:
        typer.echo(f"changed `{d.topic}`: {d.setting} from {d.found} to {d.expected}")
    for spec in after.missing:
        typer.echo(f"missing `{spec.name}` ({spec.partitions} partitions)")
    for d in after.differences:
        typer.echo(f"differs {d}")
    if not (done.created or done.fixed or after.missing or after.differences):
        typer.echo("every topic is as it must be")
    for line in () if rights is None else rights.lines():
        typer.echo(line)
