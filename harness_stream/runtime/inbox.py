"""Input of one partition that has arrived and is not answered yet, and whether the log still leads to what comes next.

Rule of this file: bounded in records and bytes, whatever the log holds: a full inbox pauses its partition, and the rest
waits in the log. Beyond the bounds comes at most what one poll had already brought.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

from harness_stream.core import limits
from harness_stream.runtime.batch import Taken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness_stream.ports import Ends, InputConsumer, LogRecord

# To pause throws away what librdkafka holds and asks the broker for it again, so it must be seldom (decision 102), and
# what is left meanwhile fills several batches.
INBOX_RECORDS_MAX: Final = 8 * limits.IN_FLIGHT_RECORDS_MAX
# As many of 2 KiB, which everyday ones do not reach.
INBOX_BYTES_MAX: Final = 4 * limits.IN_FLIGHT_BYTES_MAX
# More is asked for when a quarter is left: several batches, while which the broker answers.
_REFILL_SHARE: Final = 4


class Inbox:
    """First in, first out.

    Args:
        partition: whose input.
        consumer: is paused and resumed.

    Attributes:
        kept_from: where the log begins, as far as that was told.
    """

    def __init__(self, partition: int, consumer: InputConsumer) -> None:
        self._partition, self._consumer = partition, consumer
        self._waiting: deque[Taken] = deque()
        self._bytes = 0
        self._paused = False
        self.kept_from = 0
        self._cut_ms: int | None = None  # when we were told that the log was cut; until it is read on

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, records: Iterable[LogRecord]) -> None:
        """Take in the next records."""
        for record in records:
            self._waiting.append(Taken(record))
            self._bytes += len(record.value or b"")
        full = len(self._waiting) >= INBOX_RECORDS_MAX or self._bytes >= INBOX_BYTES_MAX
        if full and not self._paused:
            self._consumer.pause(self._partition)
            self._paused = True

    def start(self, offset: int) -> None:
        """Have the log read from `offset` on."""
        self._consumer.start(self._partition, offset)
        self._paused = False

    def first(self, count: int) -> list[Taken]:
        """At most so many, oldest first; they stay."""
        return list(islice(self._waiting, count))

    def answered(self) -> None:
        """The first one is."""
        self._bytes -= len(self._waiting.popleft().record.value or b"")

    def clear(self) -> None:
        """Forget everything; nothing is asked for again."""
        self._waiting.clear()
        self._bytes = 0

    def lost(self, low: int, next_input: int, now_ms: int) -> None:
        """The log, which begins at `low`, does not lead to `next_input`.

        What waits here and may not be in the log is not answered: it would take the offsets of what comes next.
        """
        self.kept_from = low
        self._cut_ms = now_ms if low <= next_input else None
        self.clear()

    def read_on(self, next_input: int, ends: Ends) -> bool:
        """Have the log read again once it leads to `next_input` after a cut; False if it was not cut or is too short.

        An answer to a question of before we were told may be of before the cut.
        """
        if self._cut_ms is None or ends.asked_at_ms <= self._cut_ms or next_input > ends.end:
            return False
        self._cut_ms = None
        self.start(next_input)
        return True

    def refill(self) -> None:
        """Ask for more if there is room again."""
        few = len(self._waiting) <= INBOX_RECORDS_MAX // _REFILL_SHARE
        if self._paused and few and self._bytes <= INBOX_BYTES_MAX // _REFILL_SHARE:
            self._consumer.resume(self._partition)
            self._paused = False
