"""How an error of ours is told: two lines for a person, one JSON object for a program that asked for JSON.

Rule of this file: both say the same, and whoever reads standard output as JSON is never left with nothing.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.errors import HarnessError

JSON_FLAG: Final = "--json"


def told(error: HarnessError) -> dict[str, Any]:
    """What a program is told."""
    return {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}


def show(error: HarnessError) -> None:
    """Tell it on standard error."""
    typer.echo(f"error: {error.message}", err=True)
    if error.hint:
        typer.echo(f"→ {error.hint}", err=True)


def print_json(document: dict[str, Any]) -> None:
    """Print one line of standard output."""
    typer.echo(json.dumps(document, ensure_ascii=False))


def json_wanted(words: Sequence[str] | None = None) -> bool:
    """Whether the command line asks for JSON.

    Its words are looked at, because a command line that cannot be parsed has no parameters yet.

    Args:
        words: the command line; default the process's.
    """
    return JSON_FLAG in (sys.argv[1:] if words is None else words)
