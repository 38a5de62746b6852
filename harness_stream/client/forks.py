"""What forked processes tried, told to the process they were forked from, which alone can publish (PROTOCOL §8).

Rule of this file: whoever tells never waits and takes no lock, since a thread of the parent may have held it at the
fork; nothing is written to anything but our own pipe, even if the child closed it and its number means another file.
"""

from __future__ import annotations

import os
from typing import Final

from harness_stream.core import limits

# A message is one verdict's digest, far below PIPE_BUF (POSIX: ≥ 512 bytes), so two of them never mix.
_MESSAGE_BYTES: Final = limits.DIGEST_DIGITS
# Whole messages, and as much as a pipe holds on Linux (64 KiB): all that can wait there is read at once.
_READ_BYTES_MAX: Final = 1_024 * _MESSAGE_BYTES


class Forks:
    """A pipe from all forked processes to this one."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._pipe = _identity(self._write)

    def tell(self, digest: str) -> bool:
        """By a forked process: the verdict's digest. False if it could not be told."""
        try:
            return _identity(self._write) == self._pipe and os.write(self._write, digest.encode()) == _MESSAGE_BYTES
        except OSError:  # closed, or full
            return False

    def told(self) -> list[str]:
        """By the parent: the digests that came since the last call; never waits."""
        try:
            found = os.read(self._read, _READ_BYTES_MAX)
        except OSError:  # nothing there, or the program closed what it did not open
            return []
        return [found[i : i + _MESSAGE_BYTES].decode() for i in range(0, len(found), _MESSAGE_BYTES)]

    def close(self) -> None:
        """By the parent, once."""
        os.close(self._read)
        os.close(self._write)


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
