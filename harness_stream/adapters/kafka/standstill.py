"""Notices a consumer that stands still for ever.

librdkafka (2.13 to 2.16) believes a metadata answer that names topics and no broker, which a broker gives while its
controller has fenced it for a moment. It then forgets every broker, and at times never asks one again
(confluentinc/librdkafka issue 5301). No error says so; all that shows it is a log that goes on without us.

Rule: only what a broker has just answered counts, so that a broker that is away is never taken for a dead consumer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness_stream.adapters.kafka.settings import SOCKET_TIMEOUT_MS
from harness_stream.core.limits import FRESH_MS_MAX

if TYPE_CHECKING:
    from harness_stream.ports import Ends

# Until then librdkafka may mend itself: a request on a dead connection is given up after this; one on a live connection
# is asked anew within two seconds (RECONNECT_MS_MAX, then its own look at all topics, once a second).
STANDSTILL_MS: Final = SOCKET_TIMEOUT_MS
# After a new consumer that did not help the next one waits twice as long, at most so long: one fetch over a slow line
# may take a while, and must not be thrown away again and again.
STANDSTILL_MS_MAX: Final = 10 * STANDSTILL_MS
# Whoever watches asks at least four times meanwhile; after a longer gap the broker, or this process, was away.
GAP_MS_MAX: Final = 2 * FRESH_MS_MAX


@dataclass(slots=True)
class Wait:
    """How long a broker has been answering while something else does not come.

    Attributes:
        since_ms: when it began, by a clock for durations.
        heard_ms: when a broker last answered.
        patience_ms: when it is over.
    """

    since_ms: int
    heard_ms: int
    patience_ms: int

    def is_over(self, now_ms: int) -> bool:
        """Take in that a broker has answered now."""
        if now_ms - self.heard_ms > GAP_MS_MAX:
            self.since_ms = now_ms
        self.heard_ms = now_ms
        return now_ms - self.since_ms >= self.patience_ms

    def again(self, now_ms: int, patience_ms_max: int) -> None:
        """What was done about it may not help: wait anew, and for longer."""
        self.since_ms = now_ms
        self.patience_ms = min(2 * self.patience_ms, patience_ms_max)


class Standstill:
    """Watches the positions of one consumer against the ends of the logs it reads."""

    def __init__(self) -> None:
        self._standing: dict[tuple[str, int], tuple[int, Wait]] = {}  # position, and the wait at it

    def noticed(self, ends: Ends, position: int | None, now_ms: int) -> bool:
        """Take in a broker's answer; True if this partition has stood still for too long.

        Args:
            ends: the answer.
            position: next offset to be delivered, None if the partition is not read.
            now_ms: a clock for durations.
        """
        name = (ends.topic, ends.partition)
        if position is None or not ends.low <= position < ends.end:  # outside of the log nothing may come
            self._standing.pop(name, None)
            return False
        before, wait = self._standing.get(name, (None, None))
        if wait is None or before != position:
            self._standing[name] = (position, Wait(now_ms, now_ms, STANDSTILL_MS))
            return False
        return wait.is_over(now_ms)

    def busy(self) -> None:
        """As much has arrived as was asked for: who is not among it may come next."""
        self._standing.clear()

    def renewed(self, now_ms: int) -> None:
        """The consumer was replaced: be more patient with those who stood still."""
        for _, wait in self._standing.values():
            wait.again(now_ms, STANDSTILL_MS_MAX)
