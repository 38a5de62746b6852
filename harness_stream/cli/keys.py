"""`harness keys init` and `harness keys certify`: a realm's keys, and who may write its decision log.

Rule of this file: it asks the broker which log topics there are, since a certificate counts for these alone; everything
else is `adapters.signing.keyring`'s.
"""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Annotated, Any

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
    """Make a realm's keys: root, PDP, a first worker's and the enroller's with certificates, and the fingerprints' key.

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
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Holds worker.pub; gets worker.crt.")],
    root: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The root's private key; default DIR/root.key.")
    ] = None,
    first_epoch: Annotated[int, typer.Option(min=1, help="From which claim on it counts.")] = 1,
    last_epoch: Annotated[int | None, typer.Option(min=1, help="Up to which one; default for ever.")] = None,
    incarnation: Incarnation = None,
    json: Json = False,
) -> None:
    """Certify the worker's and the enroller's key in DIR for this realm and its log topics as they are now.

    Needed when the topics were recreated, or a certificate's epochs have come to their end. An epoch is the number of
    a claim in a partition (`harness partitions`). Workers take the new certificate when they are started again; an
    enforcer that signs tokens is enrolled again once the topics were recreated.

    Example: harness keys certify keys --root /media/root.key
    """
    from harness_stream.adapters.signing.certificate import EPOCHS_ALL  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.signing.keyring import certify_all  # noqa: PLC0415  same

    last = EPOCHS_ALL[1] if last_epoch is None else last_epoch
    if not first_epoch <= last <= limits.INTEGER_MAX:
        raise CallerError(f"epochs {first_epoch} to {last} are none", hint="--first-epoch is at most --last-epoch")
    bound = _bound(settings, incarnation)
    made = certify_all(folder, bound, (first_epoch, last), root)
    if json:
        typer.echo(json_format.dumps({"directory": str(folder), **_told(made, bound)}, ensure_ascii=False))
    else:
        typer.echo(f"{folder / 'worker.crt'}: {_text(made)}; restart the workers that use it")


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


def _text(made: Certificate) -> str:
    until = "on" if made.last_epoch == limits.INTEGER_MAX else f"to {made.last_epoch}"
    return f"worker key {made.kid} is certified from epoch {made.first_epoch} {until}"
