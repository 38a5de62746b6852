"""What forked processes tried, told to the process they were forked from, which alone can publish (PROTOCOL §8).

Rule of this file: whoever tells never waits and takes no lock, since a thread of the parent may have held it at the
fork. A descriptor is used only if it still is our own: a program may close what it did not open, and open other files
under the same numbers. What arrives is untrusted.
"""

from __future__ import annotations

import os
import re
import socket
import weakref
from typing import Final

from harness_stream.core import limits

# A message is one verdict's digest.
_MESSAGE = re.compile(rb"[0-9a-f]{%d}" % limits.DIGEST_DIGITS)
# What Linux queues at most (net.unix.max_dgram_qlen), so a turn hears all that waits and is still bounded.
_HEARD_MAX: Final = 512


class Forks:
    """Datagrams from all forked processes to this one."""

    def __init__(self) -> None:
        self._hearing, self._telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._known = {}
        for end in (self._hearing, self._telling):
            end.setblocking(False)
            self._known[end] = _identity(end)
        forked = weakref.WeakMethod(self._forked)
        os.register_at_fork(after_in_child=lambda: None if (method := forked()) is None else method())

    def tell(self, digest: str) -> bool:
        """By a forked process: the verdict's digest. False if the parent does not hear any more, or has no room."""
        try:
            return self._is_own(self._telling) and self._telling.send(digest.encode()) == limits.DIGEST_DIGITS
        except OSError:
            return False

    def told(self) -> list[str]:
        """By the parent: the digests that came since the last call; never waits."""
        found: list[bytes] = []
        try:
            while self._is_own(self._hearing) and len(found) < _HEARD_MAX:
                found.append(self._hearing.recv(limits.DIGEST_DIGITS + 1))
        except OSError:  # nothing more is there
            pass
        return [message.decode() for message in found if _MESSAGE.fullmatch(message)]

    def close(self) -> None:
        """By the parent."""
        self._close(self._hearing)
        self._close(self._telling)

    def _forked(self) -> None:
        """In each forked process: as long as one had the parent's end, it would seem that somebody still hears."""
        self._close(self._hearing)

    def _close(self, end: socket.socket) -> None:
        if self._is_own(end):
            end.close()
        else:
            end.detach()

    def _is_own(self, end: socket.socket) -> bool:
        try:
            return end.fileno() >= 0 and _identity(end) == self._known[end]
        except OSError:
            return False


def _identity(end: socket.socket) -> tuple[int, int]:
    found = os.fstat(end.fileno())
    return found.st_dev, found.st_ino
