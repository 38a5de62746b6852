"""What a window is, and the words all kinds of windows share (DESIGN §5, §6).

A window of timespan T at time t covers events with t − T ≤ event time ≤ t, both ends inclusive.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Entry(NamedTuple):
    """One counted event.

    Attributes:
        t: chain time, epoch ms.
        id: intent id.
        until: of a hold, the chain time after which it no longer counts; None once it is firm.
        amount: what it adds to a total: 1 for a count, 10⁻⁶ units for a sum, None if the event lacks the measure.
    """

    t: int
    id: str
    until: int | None = None
    amount: int | None = 1

    def counts_at(self, t: int) -> bool:
        """A hold that nobody answered reads as denied after `until`."""
        return self.until is None or t <= self.until


class Match(NamedTuple):
    """How an event looks to one window group.

    Attributes:
        mask: listed selections that match.
        failed: a listed selection failed on the event: nobody knows whether it belongs to the window.
        values: distinct values of the window's field, of the resources that match.
        amount: of the window's measure, see `Entry.amount`.
    """

    mask: int
    failed: bool = False
    values: tuple[str, ...] = ()
    amount: int | None = 1


Interval = tuple[int, int | None]
"""With the truth in it: both ends inclusive, equal when exact; None is unbounded."""


class Seen(NamedTuple):
    """What a window holds at a time, and what shows it.

    Attributes:
        lo, hi: an `Interval`. A temporal window holds 1 or 0.
        evidence: intent ids, newest last, ≤ `limits.EVIDENCE_MAX`.
        counted: how many events that is at least; for a temporal window, how many of its selections matched.
    """

    lo: int
    hi: int | None
    evidence: tuple[str, ...]
    counted: int


class Spec(NamedTuple):
    """One window: what it counts, by what it groups, how far it looks.

    Attributes:
        id: names the window by content, so that an unchanged window survives a change of rules.
        kind: one of `KINDS`.
        bits: selection bits, one per listed selection, in order.
        group_by: event paths.
        timespan_ms: T.
        attempts: count denied events as well.
        field: event path whose values are counted or summed.
    """

    id: str
    kind: str
    bits: tuple[int, ...]
    group_by: tuple[str, ...]
    timespan_ms: int
    attempts: bool
    field: str | None = None

    @property
    def mask(self) -> int:
        """All listed selections."""
        return _mask_of(self.bits)

    @property
    def is_agents(self) -> bool:
        """Does each group belong to one agent?"""
        return "agent_id" in self.group_by or "chain_id" in self.group_by

    @property
    def is_spread(self) -> bool:
        """May a lane have more than a few groups? By nothing or by tenant it has not, and an agent's are its own."""
        return not self.is_agents and self.group_by not in {(), ("tenant",)}

    def counts(self, entry: Entry, t: int) -> bool:
        """An expired hold reads as denied, and a denial is an attempt."""
        return self.attempts or entry.counts_at(t)


@cache
def _mask_of(bits: tuple[int, ...]) -> int:
    return sum(1 << bit for bit in set(bits))


def window_id(
    kind: str, texts: Sequence[str], group_by: Sequence[str], timespan_ms: int, attempts: bool, field: str | None = None
) -> str:
    """16 hex digits over everything that changes what a window counts (not over its condition)."""
    content = json.dumps([kind, list(texts), list(group_by), timespan_ms, attempts, field], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def later(since: int | None, t: int) -> int:
    """What was not seen up to `since`, and now not up to t either."""
    return t if since is None else max(since, t)
