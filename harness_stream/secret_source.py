"""Secrets that are in no file: `env:NAME`, a variable of the environment, or `command:WORDS`, what a program prints.

Rule of this file: what is read is one JSON object, and nothing of it is ever shown, not even in an error. A command is
a program and its arguments, never a shell's text; it has bounded time and room, and when it fails it is told by what it
wrote to standard error.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import threading
from contextlib import suppress
from functools import lru_cache
from typing import IO, Any, Final

from harness_stream.config import COMMAND
from harness_stream.errors import ConfigError

ENVIRONMENT: Final = "env:"
# A secrets store in another region answers within a second; a person's second factor is not waited for.
COMMAND_S_MAX: Final = 10.0
# After it was ended nothing should be left to wait for.
_END_S_MAX: Final = 2.0
# A realm's keys are 2 KiB.
SECRET_BYTES_MAX: Final = 65_536
# Enough of its last words for a person to know what is wrong.
STDERR_BYTES_MAX: Final = 65_536
STDERR_CHARS_SHOWN: Final = 500
# What a process asks for: its realm's keys, and some agents' credentials.
_COMMANDS_KEPT: Final = 16
_EXPECTED: Final = "one JSON object is expected, and nothing else"


def is_secret_source(text: str) -> bool:
    """Does this name a variable or a command, and no file?"""
    return text.startswith((ENVIRONMENT, COMMAND))


def named(source: str) -> str:
    """What people call it: a command's arguments may be nobody's to see."""
    if source.startswith(ENVIRONMENT):
        return f"the variable `{source.removeprefix(ENVIRONMENT)}`"
    return f"the command `{next(iter(_words(source)), '')}`"


def document_of(source: str) -> dict[str, Any]:
    """The JSON object that a variable holds, or a command prints; the same command is run once in a process.

    Raises:
        ConfigError: the variable is not set, the command cannot be run, fails or takes too long, or it is no object.
    """
    name = source.removeprefix(ENVIRONMENT)
    text = _printed(source) if name == source else os.environ.get(name, "")
    if not text:
        raise ConfigError(f"{named(source)} is {'empty' if name in os.environ or name == source else 'not set'}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{named(source)} holds no JSON", hint=_EXPECTED) from None
    if not isinstance(found, dict):
        raise ConfigError(f"{named(source)} holds JSON that is no object", hint=_EXPECTED)
    return found


def _words(source: str) -> list[str]:
    try:
        return shlex.split(source.removeprefix(COMMAND))
    except ValueError as error:
        raise ConfigError(f"a command of secrets cannot be taken apart: {error}", hint="look at its quotes") from None


@lru_cache(_COMMANDS_KEPT)
def _printed(source: str) -> str:
    words = _words(source)
    if not words:
        raise ConfigError("`command:` names no program", hint="command:PROGRAM ARGUMENT …")
    try:
        process = subprocess.Popen(  # noqa: S603  the operator's own words, and no shell
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # so that what it starts ends with it
        )
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it cannot be run"
        raise ConfigError(f"{named(source)} was not run: {why}", hint="is it installed, and in PATH?") from None
    out, errors = _Reading(process.stdout, SECRET_BYTES_MAX), _Reading(process.stderr, STDERR_BYTES_MAX)
    try:
        code = process.wait(COMMAND_S_MAX)
    except subprocess.TimeoutExpired:
        _end(process)
        last_words = _heard(errors.end(process))
        raise ConfigError(f"{named(source)} did not end within {COMMAND_S_MAX:.0f} s", hint=last_words) from None
    said = errors.end(process)
    if code != 0:
        how = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
        raise ConfigError(f"{named(source)} {how}", hint=_heard(said))
    text = out.end(process)
    if len(text) > SECRET_BYTES_MAX:
        raise ConfigError(f"{named(source)} printed more than {SECRET_BYTES_MAX:,} bytes", hint=_EXPECTED)
    return text.decode("utf-8", "replace").strip()


class _Reading:
    """Takes in what a pipe gives, up to a bound, in a thread of its own: the other pipe must not fill up meanwhile."""

    def __init__(self, pipe: IO[bytes] | None, bytes_max: int) -> None:
        self._pipe, self._bytes_max, self._taken = pipe, bytes_max, b""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if self._pipe is not None:
            with suppress(OSError, ValueError):
                self._taken = self._pipe.read(self._bytes_max + 1)
            self._pipe.close()  # whoever writes on is told that nobody reads

    def end(self, process: subprocess.Popen[bytes]) -> bytes:
        """All of it; what still holds the pipe open is ended."""
        self._thread.join(_END_S_MAX / 2)
        if self._thread.is_alive():
            _end(process)
            self._thread.join(_END_S_MAX / 2)
        return self._taken


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it and what it has started, if there is something left."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S_MAX)


def _heard(said: bytes) -> str:
    """Its last words, without what would move a terminal's cursor."""
    text = "".join(c if c.isprintable() else " " for c in said.decode("utf-8", "replace"))
    text = " ".join(text.split())
    return f"it said: {text[-STDERR_CHARS_SHOWN:]}" if text else "it said nothing on standard error"
