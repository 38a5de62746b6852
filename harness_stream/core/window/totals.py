"""`event_count` and `value_sum`: the newest 512 events exactly, then totals in buckets of T/64 (DESIGN §5).

Rule of this file: amounts are never negative, so what is inside of a window for sure is the lower end, and what may be
inside as well is the way to the upper one.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.window.spec import Entry, Interval, Match, Seen, Spec, later

if TYPE_CHECKING:
    from collections.abc import Sequence

Bucket = tuple[int, int, int]
"""(index, firm amount, amount of holds); bucket i spans [i·w, (i+1)·w) with w = ⌈T/64⌉."""


class Totals(NamedTuple):
    """State of one group.

    Attributes:
        entries: newest last, chain times never decreasing.
        buckets: oldest first.
        since: chain time after which every matching event was counted; None = all there ever were.
        total: amounts of the firm entries.
        unsettled: how many entries are holds or lack their amount; while there are none, no entry is looked at.
        left: chain time before which everything has left the window.
    """

    entries: tuple[Entry, ...] = ()
    buckets: tuple[Bucket, ...] = ()
    since: int | None = None
    total: int = 0
    unsettled: int = 0
    left: int = 0

    def observed(self, spec: Spec, entry: Entry, match: Match) -> Totals:
        """With an event after all others."""
        start = entry.t - spec.timespan_ms
        first = _first(self.entries, start)
        entry = entry if match.amount == entry.amount else entry._replace(amount=match.amount)
        kept = self.entries[first:] + (entry,)  # noqa: RUF005  unpacking copies twice
        total, unsettled = self.total, self.unsettled
        if first:
            gone = self.entries[:first]
            total, unsettled = total - _firm(gone), unsettled - _unsettled(gone)
        if entry.until is None and entry.amount is not None:
            total += entry.amount
        else:
            unsettled += 1
        older = () if first else self.buckets  # where an entry has left, so has everything before it
        buckets = older and _reaching(older, start, _bucket_ms(spec))
        return _bounded(spec, Totals(kept, buckets, self.since, total, unsettled, max(start, self.left)))

    def inserted(self, spec: Spec, entry: Entry, match: Match) -> Totals:
        """With a firm event at its own, earlier place."""
        entry = entry._replace(amount=match.amount)
        if self.buckets and (not self.entries or entry.t < self.entries[0].t):
            if entry.amount is None:
                return self._replace(since=later(self.since, entry.t))
            return self._replace(buckets=_with(self.buckets, _index(spec, entry), entry.amount or 0, pending=False))
        at = bisect_right(self.entries, entry.t, key=lambda e: e.t)
        kept = (*self.entries[:at], entry, *self.entries[at:])
        return _bounded(spec, _changed(self, (), (entry,))._replace(entries=kept))

    def forgotten(self, intent_id: str) -> Totals:
        """Without a hold that was answered."""
        gone = tuple(e for e in self.entries if e.id == intent_id)
        return _changed(self, gone, ())._replace(entries=tuple(e for e in self.entries if e.id != intent_id))

    def released(self, spec: Spec, entry: Entry, match: Match) -> Totals:
        """Without a firm event that never started."""
        if any(e.id == entry.id for e in self.entries):
            return self.forgotten(entry.id)
        if entry.t < self.left:  # it left by its age and may never have been in a bucket
            return self
        amount = match.amount or 0
        # What was not seen for sure may not have been counted: then it only may be inside, as a hold.
        maybe = amount if self.since is not None and entry.t <= self.since else 0
        at = _index(spec, entry)  # a bucket that is gone has left the window
        buckets = ((i, firm - amount, held + maybe) if i == at else (i, firm, held) for i, firm, held in self.buckets)
        return self._replace(buckets=tuple(buckets))

    def interval(self, spec: Spec, t: int) -> Interval:
        """The total at chain time t."""
        start = t - spec.timespan_ms
        first = _first(self.entries, start)
        lo = self.total - _firm(self.entries[:first]) if first else self.total
        above, unclear = 0, self.since is not None and self.since >= start
        if self.unsettled:
            inside = self._inside(spec, t)
            lo = sum(e.amount or 0 for e in inside)
            unclear = unclear or any(e.amount is None for e in inside)
        if self.buckets and not first:  # as above
            sure, above = _in_buckets(self.buckets, start, _bucket_ms(spec))
            lo += sure
        return lo, None if unclear else lo + above

    def seen(self, spec: Spec, t: int) -> Seen:
        """The same, and the newest events."""
        (lo, hi), inside = self.interval(spec, t), self._inside(spec, t)
        evidence = tuple([e.id for e in inside[-limits.EVIDENCE_MAX :]])
        return Seen(lo, hi, evidence, lo if spec.field is None else len(inside))

    def _inside(self, spec: Spec, t: int) -> list[Entry]:
        first = _first(self.entries, t - spec.timespan_ms)
        return [e for e in self.entries[first:] if spec.counts(e, t)]

    def to_json(self) -> list[Any]:
        """Plain data; `total` and `unsettled` are derived from the entries."""
        return [[_short(e) for e in self.entries], [list(b) for b in self.buckets], self.since, self.left]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Totals:
        """Read what `to_json` wrote."""
        entries = tuple(Entry(*e) for e in data[0])
        buckets = tuple((b[0], b[1], b[2]) for b in data[1])
        return cls(entries, buckets, data[2], _firm(entries), _unsettled(entries), data[3])


def _changed(state: Totals, gone: Sequence[Entry], come: Sequence[Entry]) -> Totals:
    total = state.total - _firm(gone) + _firm(come)
    return state._replace(total=total, unsettled=state.unsettled - _unsettled(gone) + _unsettled(come))


def _bounded(spec: Spec, state: Totals) -> Totals:
    """At most 512 entries: the oldest goes into its bucket."""
    if len(state.entries) <= limits.WINDOW_EXACT_MAX:
        return state
    oldest, buckets, since = state.entries[0], state.buckets, state.since
    if oldest.amount is None:
        since = later(since, oldest.t)
    else:
        buckets = _with(buckets, _index(spec, oldest), oldest.amount, pending=oldest.until is not None)
    total, unsettled = state.total - _firm((oldest,)), state.unsettled - _unsettled((oldest,))
    return Totals(state.entries[1:], buckets, since, total, unsettled, state.left)


def _short(entry: Entry) -> tuple[Any, ...]:
    """Without the defaults at its end: most entries are firm and count for 1."""
    if entry.amount != 1:
        return entry
    return entry[:3] if entry.until is not None else entry[:2]


def _bucket_ms(spec: Spec) -> int:
    return -(-spec.timespan_ms // limits.WINDOW_BUCKETS)


def _index(spec: Spec, entry: Entry) -> int:
    return entry.t // _bucket_ms(spec)


def _in_buckets(buckets: tuple[Bucket, ...], start: int, width: int) -> tuple[int, int]:
    """What is inside for sure, and what may be inside as well."""
    inside = _reaching(buckets, start, width)
    sure, above = sum([firm for _, firm, _ in inside]), sum([held for _, _, held in inside])
    split = inside[0][1] if inside and inside[0][0] * width < start else 0  # only the oldest can be
    return sure - split, above + split


def _reaching(buckets: tuple[Bucket, ...], start: int, width: int) -> tuple[Bucket, ...]:
    """Those that reach beyond `start`."""
    first = start // width
    return buckets if not buckets or buckets[0][0] >= first else buckets[bisect_left(buckets, (first,)) :]


def _first(entries: tuple[Entry, ...], start: int) -> int:
    if not entries or entries[0].t >= start:
        return 0
    return bisect_left(entries, (start,))


def _firm(entries: Sequence[Entry]) -> int:
    if not entries:
        return 0
    return sum([amount for _, _, until, amount in entries if until is None and amount is not None])


def _unsettled(entries: Sequence[Entry]) -> int:
    if not entries:
        return 0
    return sum([until is not None or amount is None for _, _, until, amount in entries])


def _with(buckets: tuple[Bucket, ...], index: int, amount: int, *, pending: bool) -> tuple[Bucket, ...]:
    at = bisect_left(buckets, (index,))
    there = at < len(buckets) and buckets[at][0] == index
    _, firm, held = buckets[at] if there else (index, 0, 0)
    added = (index, firm, held + amount) if pending else (index, firm + amount, held)
    return buckets[:at] + (added,) + buckets[at + there :]  # noqa: RUF005  unpacking copies twice
