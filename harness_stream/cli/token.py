"""`harness token verify`: what a token allows, or why it is refused (PROTOCOL §9).

Rule of this file: it needs neither a broker nor a store; it decides nothing, `harness_stream.token` does.
"""

from __future__ import annotations

import json as json_format
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

# typer reads the annotations of commands at run time.
from pathlib import Path  # isort: skip

from harness_stream.cli.flags import takes
from harness_stream.core import limits
from harness_stream.errors import CallerError

if TYPE_CHECKING:
    from harness_stream.adapters.signing.tokens import Verified
    from harness_stream.config import Settings

STDIN: Final = "-"


@takes("realm")
def verify(
    *,
    settings: Settings,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Holds the token's text; `-` is standard input.")],
    audience: Annotated[str, typer.Option(help="The executor's own name.")],
    root: Annotated[Path, typer.Option(metavar="FILE", help="The realm's root.pub.")],
    action: Annotated[str | None, typer.Option(help="Compare what was approved with this.")] = None,
    arguments: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with these arguments: one JSON object.")
    ] = None,
    incarnation: Annotated[str | None, typer.Option(metavar="IDS", help="Ids of the log topics.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Verify a token as an executor does, and show what it allows now.

    Exit code 0: it is true, and what it says may be run once; this command remembers nothing, so an executor asks
    `harness_stream.token.verify` with a memory. 1: it is refused, with the reason. 2: something could not be read.

    Example: harness token verify token.txt --audience payments --root root.pub --arguments refund.json
    """
    from harness_stream import token as executor  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  same
    from harness_stream.adapters.signing.tokens import believed  # noqa: PLC0415  same

    given = None if arguments is None else _arguments(arguments)
    text, now_ms = _read(file, limits.TOKEN_CHARS_MAX).strip(), SystemClock().now_ms()
    said = believed(text, executor.root_key(root), audience, settings.realm, incarnation, now_ms)
    executor.compare(said, said.action if action is None else action, _digest(said, given))
    compared = {"action": action is not None, "arguments": given is not None}
    if json:
        told = {**said._asdict(), "left_ms": said.not_after_ms - now_ms, "compared": compared}
        typer.echo(json_format.dumps(told, ensure_ascii=False))
    else:
        _show(said, compared, now_ms)


def _digest(said: Verified, given: dict[str, Any] | None) -> str:
    from harness_stream.core.canonical import arguments_digest  # noqa: PLC0415  as above

    if given is None:
        return said.arguments_digest
    try:
        return arguments_digest(given)
    except TypeError as error:
        raise CallerError(f"the arguments cannot be compared: {error}") from None


def _show(said: Verified, compared: dict[str, bool], now_ms: int) -> None:
    from harness_stream.cli.verdicts import printable  # noqa: PLC0415  as above

    unseen = [f"--{name}" for name, done in compared.items() if not done]
    left = (said.not_after_ms - now_ms) / 1000
    typer.echo(f"approved: `{printable(said.agent_id)}` may run `{said.action}` once, within {left:.1f} s")
    typer.echo(f"  on {printable(', '.join(said.resources) or 'no resource')}")
    typer.echo(f"  arguments {said.arguments_digest}, intent {printable(said.intent_id)}")
    typer.echo(f"  vouched for by `{printable(said.enforcer)}`")
    if unseen:
        typer.echo(f"→ not compared: give {' and '.join(unseen)}")


def _arguments(path: Path) -> dict[str, Any]:
    try:
        found = json_format.loads(_read(str(path), limits.MIB))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CallerError(f"`{path}` must hold one JSON object: argument name → value")
    return found


def _read(name: str, chars_max: int) -> str:
    """A file's text; more than could be one of ours is not read."""
    try:
        if name == STDIN:
            return sys.stdin.read(chars_max + 1)
        with Path(name).open(encoding="utf-8") as file:
            return file.read(chars_max + 1)
    except OSError as error:
        raise CallerError(f"`{name}` cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CallerError(f"`{name}` is no text") from None
