"""Held checkpoints as JSON lines: one file, or a folder with one file a partition.

Rule of this file: what stands in a file is never written again, only appended to, and a line counts once its end is on
the disk (fsync). A last line without an end was torn by a crash: it is completed if it can be read, else cut off, and
nothing but that is ever cut. Any other line that cannot be read stops everything, since somebody has changed it.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from pydantic import ValidationError

from harness_stream.errors import CallerError, Unavailable
from harness_stream.wire.witness import decode_line, encode_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.core.witness import Held

_NAME: Final = "partition-{:05d}.jsonl"
_NAMES: Final = "partition-*.jsonl"
_LINE_END: Final = b"\n"
# A held checkpoint has below 1 KiB; a file without line ends is none of ours, and is not read whole to find that out.
LINE_BYTES_MAX: Final = 64 * 1024


class WitnessFile:
    """What one witness holds, and appends to.

    Nobody else can open the same path meanwhile.

    Args:
        path: a file, or a folder; what does not exist yet is made, a folder if the path ends in `/`.

    Attributes:
        newest: partition → what was held last.

    Raises:
        CallerError: it cannot be opened, another witness has it, or a line is none.
    """

    def __init__(self, path: str) -> None:
        self.newest: dict[int, Held] = {}
        self._path, self._is_folder = Path(path), path.endswith("/") or Path(path).is_dir()
        self._files: dict[Path, IO[bytes]] = {}
        with _told(self._path):
            if self._is_folder:
                self._path.mkdir(parents=True, exist_ok=True)
            for file in _files_of(self._path):
                self._open(file)

    def append(self, held: Held) -> None:
        """Hold one more; it is on the disk when this returns.

        Raises:
            CallerError: its file cannot be opened.
            Unavailable: it could not be written; what was torn is repaired when this path is opened the next time.
        """
        number = held.place.header.partition
        file = self._path / _NAME.format(number) if self._is_folder else self._path
        with _told(file):
            handle = self._files.get(file) or self._open(file)
        try:
            handle.write(encode_line(held))
            handle.flush()
            os.fsync(handle.fileno())
        except OSError as error:
            raise Unavailable(
                f"{file} could not be written: {error.strerror}", hint="nothing that it held before is lost"
            ) from None
        self.newest[number] = held

    def close(self) -> None:
        """Let others have it."""
        for handle in self._files.values():
            handle.close()
        self._files.clear()

    def _open(self, file: Path) -> IO[bytes]:
        is_new = not file.exists()
        handle = file.open("a+b")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            hint = "one path has one witness; give each its own"
            raise CallerError(f"{file} is held open by another `harness log witness`", hint=hint) from None
        self._files[file] = handle
        if is_new:
            _sync_folder(file.parent)
        _repair(handle)
        for held in _lines(file):
            self.newest[held.place.header.partition] = held
        return handle


def held_in(path: str) -> Iterator[Held]:
    """All that is held there, file by file, in the order in which it was held.

    A torn last line is passed over: its witness may be writing it.

    Raises:
        CallerError: it cannot be read, it is empty of checkpoints, or a line is none.
    """
    place, some = Path(path), False
    with _told(place, "give what `harness log witness` writes: a file, or its folder"):
        for file in _files_of(place):
            for held in _lines(file):
                some = True
                yield held
    if not some:
        raise CallerError(f"{path} holds no checkpoint", hint=f"`harness log witness {path} --once` keeps some")


def _files_of(path: Path) -> list[Path]:
    return sorted(path.glob(_NAMES)) if path.is_dir() else [path]


def _lines(file: Path) -> Iterator[Held]:
    with file.open("rb") as lines:
        for number in itertools.count(1):
            line = lines.readline(LINE_BYTES_MAX)
            if len(line) < LINE_BYTES_MAX and not line.endswith(_LINE_END):
                return
            try:
                yield decode_line(line)
            except ValueError as error:
                raise CallerError(
                    f"{file}, line {number} is no held checkpoint: {_why(error)}",
                    hint="a crash only tears the last line: was the file changed? Keep it, and look at who wrote to it",
                ) from None


def _why(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(part for part in (".".join(map(str, first["loc"])), first["msg"]) if part)


def _repair(handle: IO[bytes]) -> None:
    """End a torn last line: keep it if it lacks nothing but its end, else cut it off."""
    handle.seek(0)
    whole, torn = 0, b""
    for line in handle:
        if not line.endswith(_LINE_END):
            torn = line
            break
        whole += len(line)
    if not torn:
        return
    if _is_whole(torn):
        handle.write(_LINE_END)
        handle.flush()
    else:
        handle.truncate(whole)
    os.fsync(handle.fileno())


def _is_whole(line: bytes) -> bool:
    try:
        decode_line(line)
    except ValueError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk only once its folder is."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


_WRITABLE: Final = "give a file, or a folder ending in `/`, that may be written and whose folder exists"


@contextmanager
def _told(path: Path, hint: str = _WRITABLE) -> Iterator[None]:
    """An error of the file system in words."""
    try:
        yield
    except OSError as error:
        raise CallerError(f"{error.filename or path}: {error.strerror}", hint=hint) from None
