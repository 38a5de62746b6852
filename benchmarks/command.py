"""How every script here begins and ends.

Rule of this file: what is asked for is checked before anything is measured. Whatever ends a script, Ctrl-C, SIGTERM or
a failure, ends it on one way on which every `with` is left, so that no process, topic, key or folder stays.
What the harness raises on purpose is told in its words; anything else is a mistake of ours and keeps its traceback.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from argparse import SUPPRESS, ArgumentTypeError
from pathlib import Path
from typing import TYPE_CHECKING, Final, Never, TypeVar

from harness_stream.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130
EXIT_TERMINATED: Final = 128 + signal.SIGTERM

__all__ = ["SUPPRESS", "ArgumentTypeError"]
Number = TypeVar("Number", int, float)


class Terminated(SystemExit):
    """SIGTERM came."""


def ended(main: Callable[[], int | None]) -> int:
    """Run a script's `main`; its exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return main() or 0
    except KeyboardInterrupt:
        print("ended by Ctrl-C", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Terminated:
        print("ended by SIGTERM", file=sys.stderr)
        return EXIT_TERMINATED
    except HarnessError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED


def _terminated(_number: int, _frame: object) -> Never:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what is being cleaned up now is to come to its end
    raise Terminated(EXIT_TERMINATED)


# --- words ---


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The text as it was written, and each default that is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        plain = action.default is None or action.default is False
        return action.help if plain else super()._get_help_string(action)


def parser(text: str | None, name: str | None = None) -> argparse.ArgumentParser:
    """One that shows the whole head of a file; its name is that of the script which was started."""
    name = name or f"python benchmarks/{Path(sys.argv[0]).name}"
    return argparse.ArgumentParser(name, description=text, formatter_class=_Help)


def count(text: str) -> int:
    """A whole number of at least one."""
    return _positive(int, text)


def amount(text: str) -> float:
    """A number above zero."""
    return _positive(float, text)


def seconds(text: str) -> float:
    """A time, which may be none."""
    return 0.0 if text in {"0", "0.0"} else amount(text)


def counts(text: str) -> tuple[int, ...]:
    """Whole numbers of at least one, comma-separated."""
    return tuple(count(part) for part in text.split(","))


def amounts(text: str) -> tuple[float, ...]:
    """Numbers above zero, comma-separated."""
    return tuple(amount(part) for part in text.split(","))


def pair(text: str) -> tuple[int, int]:
    """Two of `counts`."""
    found = counts(text)
    if len(found) != 2:
        raise ArgumentTypeError(f"`{text}` is not two numbers with a comma between")
    return found[0], found[1]


def _positive(kind: Callable[[str], Number], text: str) -> Number:
    try:
        found = kind(text)
    except ValueError:
        raise ArgumentTypeError(f"`{text}` is no number") from None
    if not 0 < found < float("inf"):
        raise ArgumentTypeError(f"`{text}` is not above zero")
    return found


def output(text: str) -> Path:
    """A file that can be written."""
    path = Path(text)
    if path.is_dir():
        raise ArgumentTypeError(f"`{text}` is a folder")
    if not path.parent.is_dir():
        raise ArgumentTypeError(f"there is no folder `{path.parent}`")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ArgumentTypeError(f"`{text}` cannot be written")
    return path
