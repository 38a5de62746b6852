"""From which record on each epoch owned a partition: what tells a snapshot of lost records from one of the log.

Rule of this file: once a later epoch's claim stands, no earlier owner confirms anything behind it. A snapshot that says
so was written by an owner that had not noticed that its log was cut, and another history took the offsets since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Reign = tuple[int, int]
"""(epoch, decision-log offset of its claim or resume)."""

REIGNS_KEY: Final = ("reigns",)
"""In the partition's unit: the newest `Reign`s, oldest first."""
# Each resync claims, so a bad hour of a broker is some hundred; 20 KiB. Beyond, a lost snapshot of a unit that nobody
# has changed since would be believed again.
REIGNS_KEPT: Final = 1_024


def begun(reigns: Sequence[Reign], epoch: int, offset: int) -> tuple[Reign, ...]:
    """With an epoch whose claim stands at `offset`."""
    return (*reigns[-(REIGNS_KEPT - 1) :], (epoch, offset))


def outlived(reigns: Iterable[Reign], epoch: int, as_of: int) -> bool:
    """Did an owner of that epoch claim to know the record `as_of`, where a later one reigned already?"""
    return any(later > epoch and began <= as_of for later, began in reigns)
