"""`harness rules push --watch`: every new state of a rule file goes into force, a broken one changes nothing.

Rule of this file: a file is looked at by its content, twice a second, so that editors that replace, truncate or touch
it make no difference. Ctrl-C ends it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A person who saves a file looks for the effect within a second.
LOOK_S: Final = 0.5


def states(file: Path, sleep: Callable[[float], None] = time.sleep) -> Iterator[bytes | None]:
    """The content of `file` now, then each time it is another one; None while it cannot be read."""
    before: bytes | None = b""
    first = True
    while True:
        now = _content(file)
        if first or now != before:
            yield now
        before, first = now, False
        sleep(LOOK_S)


def _content(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
