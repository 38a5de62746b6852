"""Events of a file for `harness replay`: lines, decided by one or two rule sets, each in a world of its own.

Rule of this file: it knows files and nothing of a broker; a bad line is said on standard error and goes on.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import typer

from harness_stream.cli.replay_output import Event, Progress
from harness_stream.errors import ConfigError
from harness_stream.runtime.replay_lines import LINE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness_stream.core.fold import Body
    from harness_stream.runtime.replay import Replay

STDIN: Final = "-"
# Enough to see what is wrong with a file; the output has them all.
BAD_LINES_SHOWN: Final = 10


class FileSource:
    """Decides a file of events.

    Args:
        name: path of a file of JSON lines, or `-`.
        after: the rules that are asked.
        before: those they are compared with.

    Attributes:
        lines: with something on them, so far.
        bad: lines that could not be judged.
    """

    def __init__(self, name: str, after: Replay, before: Replay | None = None) -> None:
        self._name, self._after, self._before = name, after, before
        self.lines = self.bad = 0

    def events(self) -> Iterator[Event]:
        """Every line's event, in order.

        Raises:
            ConfigError: the file cannot be read.
        """
        with opened(self._name) as source, closing(Progress()) as progress:
            size = _size_of(source)
            for number, raw, read in numbered(source):
                yield self._decided(number, raw)
                progress.show(self.lines, "lines", read / size if size else None)

    @property
    def complaint(self) -> str:
        """What went wrong, for people; empty if nothing did."""
        return f"{self.bad:,} of {self.lines:,} lines could not be judged" if self.bad else ""

    def told(self) -> dict[str, Any]:
        """For programs."""
        return {"lines": self.lines, "bad_lines": self.bad}

    def told_lines(self) -> list[str]:
        """For people."""
        return [f"{self.lines:,} lines"]

    def _decided(self, number: int, raw: bytes) -> Event:
        self.lines += 1
        after = self._after.take(number, raw)
        before = None if self._before is None else self._before.take(number, raw)
        if after is not None and after["kind"] == "skip":
            self.bad += 1
            if self.bad <= BAD_LINES_SHOWN:
                self._show_bad(after)
        return Event({"line": number}, 0 if after is None else _at_ms(after), after, before)

    def _show_bad(self, body: Body) -> None:
        found = body["offsets"][0]
        detail = f" ({found['detail']})" if found["detail"] else ""
        typer.echo(f"{self._name}:{body['line']}: {found['reason']}{detail}", err=True)


def _at_ms(body: Mapping[str, Any]) -> int:
    """A verdict's line says `at`; of others the chain time is near enough."""
    return int(body["inputs"]["decided_at"] if body["kind"] == "verdict" else body["t"])


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """The file, or standard input.

    Raises:
        ConfigError: it cannot be opened.
    """
    if name == STDIN:
        yield sys.stdin.buffer
        return
    try:
        source = Path(name).open("rb")  # noqa: SIM115  closed below; only opening may fail as the caller's mistake
    except OSError as error:
        raise ConfigError(f"{name}: {error.strerror}", hint="give a file of JSON lines, or `-`") from error
    with source:
        yield source


def _size_of(source: BinaryIO) -> int | None:
    """Bytes of a regular file, also one that standard input was redirected from."""
    try:
        status = os.fstat(source.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def numbered(source: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Each line with something on it: its number, counted from 1, the line, and bytes read up to its end.

    Of a line that is too long only the beginning is given.
    """
    number, read, size = 0, 0, LINE_BYTES_MAX + len(b"\r\n")
    while piece := source.readline(size):
        number, read = number + 1, read + len(piece)
        line = piece.removeprefix(b"\xef\xbb\xbf") if number == 1 else piece
        while len(piece) == size and not piece.endswith(b"\n"):
            piece = source.readline(size)
            read += len(piece)
        if line.strip():
            yield number, line.rstrip(b"\r\n"), read
