"""`harness keys init | certify | rotate`: a realm's keys, and who may write its decision log and its rules.

Rule of this file: it asks the broker which log topics there are, since a certificate counts for these alone; everything
else is `adapters.signing.keyring`'s.
"""

from __future__ import annotations

import json as json_format
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

# typer reads the annotations of commands at run time.
from pathlib import Path  # noqa: TC003  isort: skip

from harness_stream.cli.flags import takes
from harness_stream.core import limits
from harness_stream.errors import CallerError

if TYPE_CHECKING:
    from harness_stream.adapters.signing.certificate import Certificate
    from harness_stream.adapters.signing.framing import Bound
    from harness_stream.config import Settings

ROTATED: Final = ("pdp", "worker", "rules", "enroll")
# Long enough to bring every agent's process a new file; the former key is one more that may get away.
OVERLAP_HOURS_DEFAULT: Final = 7 * 24
_HOUR_MS: Final = 3_600_000
_NEXT: Final = {
    "pdp": "restart the workers with `pdp.former.key` beside it, then enrol agents again",
    "worker": "restart the workers that use it",
    "rules": "`harness rules push` signs with it",
    "enroll": "`harness agents enroll --role enforcer` vouches with it",
}

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Incarnation = Annotated[
    str | None, typer.Option(metavar="IDS", help="Ids of the log topics, where no broker can be asked.")
]


@takes("bootstrap", "prefix", "realm")
def init(
    *,
    settings: Settings,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; made if it is not there.")],
    incarnation: Incarnation = None,
    json: Json = False,
) -> None:
    """Make a realm's keys: root, PDP, a worker's, the enroller's and a rule-pusher's with certificates, fingerprints'.

    The realm's topics must be there (`harness topics apply`): a certificate counts for these very topics. Private files
    are for their owner alone, and nothing is ever replaced. Then take `root.key` off this machine: only certifying
    needs it. Workers need the rest of the folder; who only reads logs needs `root.pub`.

    Example: harness keys init keys

    Example: HARNESS_KEYS=keys harness worker
    """
    from harness_stream.adapters.signing.keyring import create  # noqa: PLC0415  slow to load, `--help` is not

    bound = _bound(settings, incarnation)
    made = create(folder, bound)
    if json:
        typer.echo(json_format.dumps({"directory": str(folder), **_told(made, bound)}, ensure_ascii=False))
        return
    typer.echo(f"keys of realm `{bound.realm}` are in {folder}; {_text(made)}")
    typer.echo(f"→ keep {folder / 'root.key'} elsewhere, and `export HARNESS_KEYS={folder}` for workers and commands")


@takes("bootstrap", "prefix", "realm")
def certify(
    *,
    settings: Settings,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds the role's .pub file; gets its .crt.")],
    role: Annotated[str, typer.Option(help="worker; rules: pushes sets; enroll: vouches for enforcers.")] = "worker",
    root: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The root's private key; default DIR/root.key.")
    ] = None,
    first_epoch: Annotated[int, typer.Option(min=1, help="From which claim on it counts; of rules, revision.")] = 1,
    last_epoch: Annotated[int | None, typer.Option(min=1, help="Up to which one; default for ever.")] = None,
    incarnation: Incarnation = None,
    json: Json = False,
) -> None:
    """Certify a key in DIR, by default the worker's, for this realm and its log topics as they are now.

    Needed when the topics were recreated, or a certificate's epochs have come to their end. An epoch is the number of
    a claim in a partition (`harness partitions`). Workers take the new certificate when they are started again; an
    enforcer that signs tokens is enrolled again once the topics were recreated (`--role enroll` first).
    A rule-pusher's key is made if there is none, and so is the enroller's; the range of a rule-pusher's is of
    revisions (`harness rules status`).

    Example: harness keys certify keys --root /media/root.key

    Example: harness keys certify keys --role rules
    """
    from harness_stream.adapters.signing.certificate import EPOCHS_ALL  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.signing.keyring import ROLES, certify_role  # noqa: PLC0415  same

    if role not in ROLES:
        raise CallerError(f"nobody is certified for `{role}`", hint=f"--role {', '.join(ROLES)}")
    if role == "enroll" and (first_epoch, last_epoch) != (1, None):
        hint = "leave out `--first-epoch` and `--last-epoch`; an enforcer's key ends by itself (`agents enroll --days`)"
        raise CallerError("an enroller acts in no epochs, so there is nothing to end it by", hint=hint)
    last = EPOCHS_ALL[1] if last_epoch is None else last_epoch
    if not first_epoch <= last <= limits.INTEGER_MAX:
        raise CallerError(f"epochs {first_epoch} to {last} are none", hint="--first-epoch is at most --last-epoch")
    bound = _bound(settings, incarnation)
    made = certify_role(folder, bound, role, (first_epoch, last), root)
    if json:
        told = {"directory": str(folder), "role": role, **_told(made, bound)}
        typer.echo(json_format.dumps(told, ensure_ascii=False))
        return
    typer.echo(f"{folder / f'{role}.crt'}: {_text(made, role)}; {_NEXT[role]}")


@takes("bootstrap", "prefix", "realm")
def rotate(
    *,
    settings: Settings,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The realm's keys.")],
    key: Annotated[str, typer.Option(help="pdp, worker, rules or enroll.")] = "worker",
    root: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The root's private key; default DIR/root.key.")
    ] = None,
    overlap_hours: Annotated[
        int, typer.Option(min=0, help="So long inputs under the PDP's former key count.")
    ] = OVERLAP_HOURS_DEFAULT,
    incarnation: Incarnation = None,
    json: Json = False,
) -> None:
    """Put a new key in the place of one, and certify it, unless it is the PDP's.

    The PDP's: inputs under the former key count for a week more. Restart the
    workers, then enrol agents again: their new files name the new key. Every
    worker's folder needs the new `pdp.key` and `pdp.former.key`.

    A worker's, or a rule-pusher's: restart the worker, or push again. The
    former key's certificate counts as long as it says; one for some epochs
    only (`keys certify --last-epoch`) ends by itself. The enroller's: enforcers
    that it has vouched for stay so until their own keys end.

    The root cannot be rotated: all trust begins there. A new root means new
    topics: `keys init` another folder, `topics apply` with another prefix.

    Example: harness keys rotate keys --key pdp

    Example: harness keys rotate keys --key worker --root /media/root.key
    """
    from harness_stream.adapters.signing import keyring  # noqa: PLC0415  slow to load, `--help` is not

    if key not in ROTATED:
        hint = "a new root means new topics; see `docs/signed.md`" if key == "root" else f"--key {', '.join(ROTATED)}"
        raise CallerError(f"`{key}` is no key that is rotated", hint=hint)
    certified = key in keyring.ROLES
    bound = _bound(settings, incarnation) if certified else None
    if certified:
        keyring.require_root(folder, root)
    until_ms = time.time_ns() // 1_000_000 + overlap_hours * _HOUR_MS
    kid = keyring.rotate(folder, key, until_ms)
    if bound is not None:
        keyring.certify_role(folder, bound, key, root=root)
    if json:
        told = {"directory": str(folder), "key": key, "kid": kid, "former_until": None if certified else until_ms}
        typer.echo(json_format.dumps(told, ensure_ascii=False))
        return
    typer.echo(f"{folder / f'{key}.key'} is a new key, {kid}; {_NEXT[key]}")


def _bound(settings: Settings, given: str | None) -> Bound:
    from harness_stream.adapters.kafka import admin  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.signing.framing import Bound  # noqa: PLC0415  same

    return Bound(settings.realm, given or admin.incarnation(settings))


def _told(made: Certificate, bound: Bound) -> dict[str, Any]:
    return {
        "realm": bound.realm,
        "incarnation": bound.incarnation,
        "kid": made.kid,
        "first_epoch": made.first_epoch,
        "last_epoch": made.last_epoch,
    }


def _text(made: Certificate, role: str = "worker") -> str:
    until = "on" if made.last_epoch == limits.INTEGER_MAX else f"to {made.last_epoch}"
    unit = "revision" if role == "rules" else "epoch"
    return f"{role} key {made.kid} is certified from {unit} {made.first_epoch} {until}"
