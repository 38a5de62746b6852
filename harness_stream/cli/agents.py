"""`harness agents enroll`: an agent's keys, its credentials file, and its identity row (PROTOCOL §9).

Rule of this file: private keys go into the credentials file and nowhere else; what the table gets is public. The file
comes first: a row whose keys nobody has harms nobody, and keys that nobody was told of can be made again.
"""

from __future__ import annotations

import json as json_format
import time
from contextlib import closing
from functools import partial

# typer reads the annotations of commands at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from harness_stream.cli.flags import takes
from harness_stream.core import limits
from harness_stream.errors import CallerError, HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness_stream.adapters.signing.keyring import Keys
    from harness_stream.config import Settings
    from harness_stream.core.tables import IdentityRow, PublicKey, Row
    from harness_stream.ports import Clock, LogReader, LogWriter
    from harness_stream.runtime.table_load import TableView

# Long enough to be no chore, short enough that a key that got away does not serve for years.
DAYS_DEFAULT: Final = 90
# Two keys are valid during rotation; a day is enough to bring a file to a process and start it again.
OVERLAP_HOURS_DEFAULT: Final = 24
_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


class Made(NamedTuple):
    """New keys of an agent.

    Attributes:
        private: as credentials have them; None in an unsigned realm.
        public: as the row has them.
    """

    private: dict[str, str] | None
    public: tuple[PublicKey, ...]


@takes("bootstrap", "prefix", "realm", "dev", "keys")
def enroll(
    *,
    settings: Settings,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="The agent's id; also an enforcer's, a person's.")],
    tenant: Annotated[str | None, typer.Option(help="Whose it is; needed for a new agent.")] = None,
    lane: Annotated[str | None, typer.Option(help="Whose history it shares; default the tenant's.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    role: Annotated[list[str] | None, typer.Option(help="orchestrator, enforcer, approver; again for more.")] = None,
    action: Annotated[list[str] | None, typer.Option(help="It may use this; again for more.")] = None,
    workload: Annotated[list[str] | None, typer.Option(help="It may run there; the first is its file's.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Credentials file; default AGENT.json.")] = None,
    days: Annotated[int, typer.Option(min=1, help="So long the keys count.")] = DAYS_DEFAULT,
    overlap_hours: Annotated[
        int, typer.Option(min=0, help="So long former keys count, when an agent is enrolled again.")
    ] = OVERLAP_HOURS_DEFAULT,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Make an agent's keys, write its credentials file, and put its public keys into its identity row.

    A row that is there keeps its fields, but for those given here: `--action`, `--role` and `--workload` say all there
    are from now on. An enforcer's key is certified, so that it may sign tokens. Enrolling an agent again rotates its
    keys: the newest former ones count for a day more, older ones no longer. The file is for the agent's process alone
    (mode 0600) and is never replaced. In a `--dev` realm there are no keys, and the file says so.

    Example: harness agents enroll support-1 --tenant acme --action crm.read --workload wl-support
    """
    path = out or Path(f"{agent}.json")
    if path.exists():
        raise CallerError(f"`{path}` is there already and is not replaced", hint="`--out FILE` names another one")
    now_ms = time.time_ns() // 1_000_000
    made = _made(settings, now_ms, days)
    said = {"tenant": tenant, "lane": lane, "owner": owner, "roles": role, "actions": action, "workloads": workload}
    given = {name: value for name, value in said.items() if value}
    before, row, revision = _enrolled(settings, agent, given, made, path, now_ms + overlap_hours * _HOUR_MS)
    for line in lost(before, row):
        typer.echo(line, err=True)
    _tell(row, revision, made, path, json=json)


def row_of(
    view: TableView,
    agent: str,
    given: dict[str, Any],
    public: Sequence[PublicKey],
    retire_ms: int,
    before: Row | None = None,
) -> IdentityRow:
    """The identity row to be written.

    Args:
        view: the identity table.
        agent: whose.
        given: fields that were said.
        public: new keys.
        retire_ms: epoch ms until which the newest former keys count at most.
        before: the row whose other fields are kept; default the one in force.

    Raises:
        CallerError: a new agent without tenant or lane, a field that breaks the schema, or a lane that would change.
    """
    from pydantic import ValidationError  # noqa: PLC0415  slow to load, `--help` is not

    from harness_stream.core.refusals import refusals  # noqa: PLC0415  same
    from harness_stream.core.tables import IdentityRow  # noqa: PLC0415  same
    from harness_stream.runtime.table_load import lane_mistake  # noqa: PLC0415  same

    before = before or view.row(agent)
    known = before if isinstance(before, IdentityRow) else None
    if known is None and not (given.get("tenant") or given.get("lane")):
        raise CallerError(f"`{agent}` is new, and it is not said whose it is", hint="--tenant TENANT")
    fields = {} if known is None else known.model_dump(exclude_defaults=True)
    before_keys = () if known is None else known.keys
    keys = [*former(before_keys, retire_ms), *public] if public else before_keys
    try:
        row = IdentityRow.model_validate({**fields, **_plain(given), "agent_id": agent, "keys": _dumped(keys)})
    except ValidationError as error:
        raise CallerError(f"`{agent}` cannot be enrolled: {'; '.join(map(str, refusals(error)))}") from None
    moved = lane_mistake({"identity": view}, row)
    if moved is not None:
        raise CallerError(moved, hint="keep its tenant and lane, or enrol another agent id")
    return row


def lost(before: Row | None, row: IdentityRow) -> list[str]:
    """What an identity may no longer do since it was enrolled again, a line a field: `--action` adds to nothing.

    Args:
        before: its row until then, if there was one.
        row: its row now.
    """
    fields = ("roles", "actions", "workloads")
    had = {name: set(getattr(before, name, ())) - set(getattr(row, name)) for name in fields}
    return [
        f"it has {name} {', '.join(getattr(row, name))} now, and no longer {', '.join(sorted(gone))}"
        for name, gone in had.items()
        if gone
    ]


def former(keys: Sequence[PublicKey], retire_ms: int) -> list[PublicKey]:
    """Of each kind the newest key, for as long as it may count beside the new one."""
    newest = {key.alg: key for key in sorted(keys, key=lambda key: key.not_before)}
    return [key.model_copy(update={"not_after": min(key.not_after, retire_ms)}) for key in newest.values()]


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _dumped(keys: Sequence[PublicKey]) -> tuple[dict[str, Any], ...]:
    return tuple(key.model_dump() for key in keys)


# --- Keys ---


def _made(settings: Settings, now_ms: int, days: int) -> Made:
    """Fresh keys; the realm's own are looked for first, so that nothing is left half done."""
    from harness_stream.adapters.signing.pairs import keys_of  # noqa: PLC0415  slow to load, `--help` is not

    if keys_of(settings) is None:
        return Made(None, ())
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415  as above
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey  # noqa: PLC0415  same

    from harness_stream.adapters.signing.keys import kid_of, public_of, text_of  # noqa: PLC0415  same
    from harness_stream.core.tables import PublicKey  # noqa: PLC0415  same

    exchange, sign = X25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    # The broker's clock judges, and may be behind ours.
    valid = {"not_before": now_ms - limits.CLOCK_SKEW_MS_MAX, "not_after": now_ms + days * _DAY_MS}
    mac, signing = public_of(exchange), public_of(sign)
    public = (
        PublicKey(kid=kid_of(mac), alg="x25519", public=text_of(mac), **valid),
        PublicKey(kid=kid_of(signing), alg="ed25519", public=text_of(signing), **valid),
    )
    return Made({"mac": text_of(exchange.private_bytes_raw()), "sign": text_of(sign.private_bytes_raw())}, public)


def _credentials(settings: Settings, row: IdentityRow, made: Made, incarnation: str = "") -> dict[str, Any]:
    """What the agent's process is given: who it is, where its realm lives, and keys; an enforcer's are certified."""
    from harness_stream.adapters.signing.pairs import keys_of  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.core.tables import lane_of  # noqa: PLC0415  same

    told: dict[str, Any] = {
        "realm": settings.realm,
        "agent_id": row.agent_id,
        "lane": lane_of(row),
        **({"workload_id": row.workloads[0]} if row.workloads else {}),
        "bootstrap": settings.bootstrap,
        "prefix": settings.prefix,
        "dev": settings.dev,
    }
    own = keys_of(settings)
    if own is None:
        return told
    from harness_stream.adapters.signing import keyring  # noqa: PLC0415  as above
    from harness_stream.adapters.signing.keys import text_of  # noqa: PLC0415  same

    public = {
        "pdp_key": text_of(keyring.pdp_public(own)),
        "root_key": text_of(keyring.root_public(own)),
    }
    keys = {**(made.private or {}), **_certified(own, settings.realm, incarnation, row, made)}
    return {**told, "keys": keys, **public, "fingerprint_key": keyring.value_key(own)}


def _certified(own: Keys, realm: str, incarnation: str, row: IdentityRow, made: Made) -> dict[str, str]:
    """An enforcer's key, vouched for: by that, executors elsewhere believe its tokens."""
    from harness_stream.adapters.signing.enforcers import Enforcer  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.signing.framing import Bound  # noqa: PLC0415  same
    from harness_stream.adapters.signing.keyring import vouch  # noqa: PLC0415  same
    from harness_stream.adapters.signing.keys import raw_of  # noqa: PLC0415  same
    from harness_stream.core.intake import ENFORCER  # noqa: PLC0415  same
    from harness_stream.core.tables import lane_of  # noqa: PLC0415  same

    if ENFORCER not in row.roles:
        return {}
    key = next(key for key in made.public if key.alg == "ed25519")
    said = Enforcer(row.agent_id, lane_of(row), raw_of(key.public), key.not_before, key.not_after)
    return {"certificate": vouch(own, Bound(realm, incarnation), said)}


# --- The table ---


def _enrolled(
    settings: Settings, agent: str, given: dict[str, Any], made: Made, path: Path, retire_ms: int
) -> tuple[Row | None, IdentityRow, int]:
    """Write file and row; the row until then and now, and its revision."""
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  the clients are slow to load, `--help` is not
    from harness_stream.adapters.kafka.admin import incarnation, require_topics  # noqa: PLC0415  same
    from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter  # noqa: PLC0415  same
    from harness_stream.private_files import write_new  # noqa: PLC0415  same
    from harness_stream.runtime.table_load import read_tables  # noqa: PLC0415  same
    from harness_stream.wire.topics import Topics  # noqa: PLC0415  same

    topics = {"identity": Topics(settings.prefix).identity}
    clock, read = SystemClock(), list(topics.values())
    require_topics(settings.kafka, read)
    with closing(KafkaReader(settings.kafka, topics=read)) as reader, closing(KafkaWriter(settings.kafka)) as writer:
        view = read_tables(reader, topics, clock, lambda wait_ms: time.sleep(wait_ms / 1000))["identity"]
        row = row_of(view, agent, given, made.public, retire_ms)
        told = _credentials(settings, row, made, "" if made.private is None else incarnation(settings))
        write_new(path, json_format.dumps(told, indent=2, ensure_ascii=False) + "\n")
        again = partial(row_of, view, agent, given, made.public, retire_ms)
        try:
            before = view.row(agent)
            return before, *written(reader, writer, topics, clock, view, row, again)
        except HarnessError:
            path.unlink()
            raise


def written(
    reader: LogReader,
    writer: LogWriter,
    topics: Mapping[str, str],
    clock: Clock,
    view: TableView,
    row: IdentityRow,
    again: Callable[[IdentityRow], IdentityRow],
) -> tuple[IdentityRow, int]:
    """Write a row; the one in force in the end, and its revision.

    Args:
        reader: not used for anything else meanwhile.
        writer: likewise.
        topics: table name → topic.
        clock: measures silence.
        view: the identity table as it was read.
        row: what is to be written.
        again: the row to be written if somebody else's came in between, such as a kill.

    Raises:
        BrokerUnavailable: the broker does not answer, or did not confirm.
        Unavailable: somebody else writes the row again and again.
    """
    from harness_stream.runtime.table_load import (  # noqa: PLC0415  as above
        ATTEMPTS_MAX,
        IDENTITY,
        Change,
        apply,
        contended,
        replaced,
    )

    if view.row(row.key) == row:
        return row, view.table.revision
    for _ in range(ATTEMPTS_MAX):
        revision = apply(writer, topics, [Change(IDENTITY, row.key, row)])[IDENTITY]
        lost = replaced(reader, topics[IDENTITY], clock, view, {row.key: row})
        if not lost:
            return row, revision
        row = again(lost[row.key])
    raise contended(row.key)


def _tell(row: IdentityRow, revision: int, made: Made, path: Path, *, json: bool) -> None:
    from harness_stream.cli.verdicts import clock_text  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.core.tables import lane_of  # noqa: PLC0415  same

    if json:
        told = {"agent_id": row.agent_id, "lane": lane_of(row), "revision": revision, "credentials": str(path)}
        keys = [{"kid": key.kid, "alg": key.alg, "not_after": key.not_after} for key in made.public]
        typer.echo(json_format.dumps({**told, "keys": keys}, ensure_ascii=False))
        return
    until = f"; its keys count until {clock_text(made.public[0].not_after)}" if made.public else "; unsigned, no keys"
    if row.status != "active":
        typer.echo(f"it is {row.status}, and enrolling changes that for nobody: all it asks is denied", err=True)
    typer.echo(f"`{row.agent_id}` is enrolled in lane `{lane_of(row)}`, row at revision {revision}{until}")
    typer.echo(f"→ {path} is for its process alone: `Harness.connect(credentials={str(path)!r})`")
