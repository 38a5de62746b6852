"""When a partition that is behind stops to judge what has waited too long: answered in time with a denial (`overload`).

Rule of this file: first in, first out, more than a worker can judge leaves every intent as old as its deadline, so that
whatever is judged is judged for nobody. Denied at half of it, answers come in time, and those judged can be used.
Only a lasting backlog counts: one that a stall has left is worked off. As core.rate, this is no history.

The idea of watching how long a queue delays, and for how long it has done so, is CoDel's (RFC 8289).
"""

from __future__ import annotations

from typing import Final

from harness_stream.core import limits

# An intent is denied after half of its own deadline: then the answer has as long to be confirmed and read.
WAITED_SHARE: Final = 2
# A resync may take DELIVERY_TIMEOUT_MS, and at half load what came meanwhile is worked off as fast as it came: after
# this long what is next has waited for less than half of the usual deadline again.
LASTING_MS: Final = 2_000


def waited_too_long(waited_ms: int, deadline_ms: int) -> bool:
    """For a partition that is behind. Who says that it can wait for a minute must not make others wait as long."""
    return waited_ms * WAITED_SHARE > min(deadline_ms, limits.DEADLINE_MS_DEFAULT)


class Backlog:
    """Whether one partition is behind for good.

    Attributes:
        shedding: what has waited too long is denied.
    """

    def __init__(self) -> None:
        self.shedding = False
        self._asked_ms = 0
        self._against_ms: int | None = None  # since when intents speak against `shedding`

    def too_long(self, waited_ms: int, deadline_ms: int, now_ms: int) -> bool:
        """Take note of the intent that is next; True if it shall not be judged.

        Args:
            waited_ms: since its append.
            deadline_ms: its own.
            now_ms: decided_at.
        """
        if not 0 <= now_ms - self._asked_ms < LASTING_MS:  # nothing waited for so long, or the clock was set
            self.shedding, self._against_ms = False, None
        self._asked_ms = now_ms
        behind = waited_too_long(waited_ms, deadline_ms)
        if behind is self.shedding:
            self._against_ms = None
        elif self._against_ms is None:
            self._against_ms = now_ms
        elif now_ms - self._against_ms >= LASTING_MS:
            self.shedding, self._against_ms = behind, None
        return self.shedding and behind
