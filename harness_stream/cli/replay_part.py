"""Which part of the real log `harness replay --from-log` is asked for, as its options say it.

Rule of this file: it reads texts and knows no log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness_stream.core.rules.language import TIMESPAN_UNITS_MS
from harness_stream.errors import CallerError, GarbageRecord
from harness_stream.runtime.replay_lines import time_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")
_OFFSET: Final = re.compile(r"([0-9]{1,9})/([0-9]{1,18})")

Moment = int | dict[int, int]
"""Epoch ms, or partition → offset."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which part of the log is asked for, as options say it.

    Attributes:
        since: a duration, back from now.
        first: times or `partition/offset`s to begin at.
        last: the same, to end before.
        numbers: partitions; empty means all.
        agent: only events of this agent are shown.
        lane: only events of this lane are shown.
        history: a duration: how much of the log before the stretch is history; None means all that is kept.
    """

    since: str | None = None
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    agent: str | None = None
    lane: str | None = None
    history: str | None = None

    def __post_init__(self) -> None:
        """What is no duration, time or offset is said before a log is asked.

        Raises:
            CallerError: some text is none.
        """
        for text, option in ((self.since, "--since"), (self.history, "--history")):
            if text is not None:
                duration_ms(text, option)
        moment_of(self.first, "--from")
        moment_of(self.last, "--to")

    @property
    def given(self) -> list[str]:
        """The options that were given."""
        named = {
            "--since": self.since,
            "--from": self.first,
            "--to": self.last,
            "--partition": self.numbers,
            "--agent": self.agent,
            "--lane": self.lane,
            "--history": self.history,
        }
        return [name for name, value in named.items() if value not in {None, ()}]


def duration_ms(text: str, option: str) -> int:
    """Milliseconds of `90s`, `15m`, `24h` or `7d`.

    Raises:
        CallerError: it is no such text.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise CallerError(f"{option} {text}: not a duration", hint="write for example 90s, 15m, 24h or 7d")
    return int(found[1]) * TIMESPAN_UNITS_MS[found[2]]


def moment_of(texts: Sequence[str], option: str) -> Moment | None:
    """One time, or partitions and offsets; None for nothing.

    Raises:
        CallerError: it is neither, or both.
    """
    offsets = [found for text in texts if (found := _OFFSET.fullmatch(text))]
    if not texts:
        return None
    if len(offsets) == len(texts):
        return {int(found[1]): int(found[2]) for found in offsets}
    if len(texts) > 1:
        raise CallerError(f"{option} takes one time, or one offset a partition", hint=f"for example {option} 0/1200")
    try:
        return time_of(int(texts[0]) if texts[0].isdigit() else texts[0])
    except GarbageRecord:
        raise CallerError(
            f"{option} {texts[0]}: neither a time nor an offset",
            hint="write 2026-11-02T09:00:00Z, epoch milliseconds, or partition/offset as in 0/1200",
        ) from None
