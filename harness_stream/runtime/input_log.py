"""The input log as an owner sees it beside the records: where it ends (PROTOCOL §5, HALTED).

Rule of this file: an end is compared only with what was answered before that end was asked for. Answers are late, and
inputs are answered all the time, so any other comparison would find a whole log too short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.ports import Clock, Ends, LogRecord


class InputBounds:
    """Passes the input log's bounds on (a `Follower` without records)."""

    def __init__(self, tell: Callable[[Ends], None]) -> None:
        self._tell = tell

    def take(self, record: LogRecord) -> None:
        """Input comes through the group, never through here."""

    def bounds(self, ends: Ends, position: int | None) -> None:  # noqa: ARG002  it reads nothing
        """Pass them on."""
        self._tell(ends)


class Shortage:
    """Finds out, from answers to end-offset queries, that records which were there are no longer in a log.

    Args:
        clock: the one whose monotonic time queries carry.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: tuple[int, int] | None = None  # a next_input that an end fell short of, and when it was known

    def shown_by(self, ends: Ends, next_input: int) -> bool:
        """Take in an answer; True if it proves that the log has become too short."""
        if ends.end >= next_input:
            self._known = None
            return False
        if self._known is None:
            self._known = (next_input, self._clock.elapsed_ms())
        known_input, known_ms = self._known
        return ends.asked_at_ms > known_ms and ends.end < known_input


def too_short(ends: Ends, next_input: int) -> str:
    """Why the partition halts, and what to do about it; up to the colon it is the cause that metrics name."""
    return (
        f"input log too short: it ends at {ends.end}, but inputs up to {next_input - 1} were answered. "
        "It was truncated or recreated; bring it back, or go on without what it lost (`harness partitions resume`)"
    )
