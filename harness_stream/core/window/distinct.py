"""`value_count`: the newest firm events of each of at most 1,024 values, and the holds beside them (DESIGN §5).

Rule of this file: what is kept of a value never says less than the truth. Events that newer ones made needless leave
one time behind, so that after a release it is still known how far back they may be inside.
"""

from __future__ import annotations

import hashlib
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from harness_stream.core import limits
from harness_stream.core.window.spec import Entry, Interval, Match, Seen, Spec, later
from harness_stream.core.window.versions import Last, Versions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

Pending = tuple[Entry, tuple[str, ...]]
"""A hold and its values; none: it lacks the field."""

# Longer values are kept as digests: a URI may have 2,048 characters, and 1,024 of those would be 2 MB a group. A digest
# is longer than any value kept as it is, so the two never meet.
_PLAIN_CHARS_MAX = 32


def value_of(raw: object) -> str:
    """What is kept of a value: itself if short, else its SHA-256."""
    text = raw if isinstance(raw, str) else repr(raw)
    return text if len(text) <= _PLAIN_CHARS_MAX else hashlib.sha256(text.encode()).hexdigest()


def _unnamed(entry: Entry) -> str:
    """Stands for the value of an event that lacks the field; longer than any text kept as it is, and no digest."""
    return "?" * (_PLAIN_CHARS_MAX + 1) + entry.id


class Distinct(NamedTuple):
    """State of one group.

    Attributes:
        values: value → its newest firm events.
        perhaps: value → chain time up to which an event of it may be inside though none is known; an event that lacks
            the field may have a value that no other has.
        pending: holds, oldest first.
        since: chain time after which every matching event was counted; None = all there ever were.
    """

    values: Versions = Versions()
    perhaps: Mapping[str, int] = {}
    pending: tuple[Pending, ...] = ()
    since: int | None = None

    def values_of(self, spec: Spec, match: Match) -> tuple[str, ...]:  # noqa: ARG002  marks are asked alike
        """The values an event has."""
        return match.values

    def observed(self, spec: Spec, entry: Entry, match: Match) -> Self:
        """With an event after all others."""
        values = self.values_of(spec, match)
        state = self.reached(spec, entry.t) if self.pending or self.perhaps else self
        if entry.until is not None:
            return state.with_hold(entry, values)
        return state.with_firm(entry, values, entry.t - spec.timespan_ms)

    def inserted(self, spec: Spec, entry: Entry, match: Match) -> Self:
        """With a firm event at its own, earlier place."""
        return self.with_firm(entry, self.values_of(spec, match))

    def forgotten(self, intent_id: str) -> Self:
        """Without a hold that was answered."""
        return self._replace(pending=tuple(p for p in self.pending if p[0].id != intent_id))

    def released(self, spec: Spec, entry: Entry, match: Match) -> Self:
        """Without a firm event that never started."""
        values = self.values_of(spec, match)
        if not values:
            return self.changed({_unnamed(entry): Last()})
        found = {value: self._last(value) for value in values}
        changes = {v: last.minus(entry.id) for v, last in found.items() if any(e.id == entry.id for e in last.known)}
        return self.changed(changes) if changes else self

    def interval(self, spec: Spec, t: int) -> Interval:
        """How many values at chain time t."""
        start = t - spec.timespan_ms
        lo = hi = self.values.count(start)
        if self.pending or self.perhaps:
            held = self.held(spec, t)
            lo += sum(self.values.inside(value, start) is None for value in held)
            doubts = sum(
                at >= start and value not in held and self.values.inside(value, start) is None
                for value, at in self.perhaps.items()
            )
            doubts += sum(not values and e.t >= start and spec.counts(e, t) for e, values in self.pending)
            hi = lo + doubts
        return lo, None if self.blind(start) else hi

    def seen(self, spec: Spec, t: int) -> Seen:
        """The same, and the newest events of different values."""
        newest = self.values.newest(t - spec.timespan_ms, limits.EVIDENCE_MAX)
        entries = sorted(dict.fromkeys((*newest, *self.held(spec, t).values())), key=lambda e: e.t)
        lo, hi = self.interval(spec, t)
        return Seen(lo, hi, tuple(e.id for e in entries[-limits.EVIDENCE_MAX :]), lo)

    def held(self, spec: Spec, t: int) -> dict[str, Entry]:
        """Value → the newest hold of it that counts at chain time t."""
        start = t - spec.timespan_ms
        return {v: e for e, values in self.pending if e.t >= start and spec.counts(e, t) for v in values}

    def blind(self, start: int) -> bool:
        """Are there events at `start` or later that were not counted?"""
        return self.since is not None and self.since >= start

    def reached(self, spec: Spec, t: int) -> Self:
        """At chain time t: what has left is gone, and a hold that expired is a firm attempt, or nothing."""
        start = t - spec.timespan_ms
        over = sum(1 for _ in takewhile(lambda p: p[0].t < start or not p[0].counts_at(t), self.pending))
        perhaps = {value: at for value, at in self.perhaps.items() if at >= start}
        state = self._replace(perhaps=perhaps, pending=self.pending[over:])
        for entry, values in self.pending[:over] if spec.attempts else ():
            state = state.with_firm(entry._replace(until=None), values)
        return state

    def with_firm(self, entry: Entry, values: Iterable[str], floor: int = 0) -> Self:
        """With a firm event that has these values, or one nobody knows; and without those older than `floor`."""
        found = {value: self._last(value).plus(entry) for value in values}
        return self.changed(found or {_unnamed(entry): Last((), entry.t)}, floor)

    def with_hold(self, entry: Entry, values: tuple[str, ...]) -> Self:
        """With one more hold; beyond WINDOW_HOLDS_MAX whether the oldest one counts is not known from then on."""
        pending = (*self.pending, (entry, values))
        if len(pending) <= limits.WINDOW_HOLDS_MAX:
            return self._replace(pending=pending)
        dropped, its = pending[0]
        found = {value: self._last(value) for value in its or (_unnamed(dropped),)}
        changes = {value: last._replace(older=later(last.older, dropped.t)) for value, last in found.items()}
        return self._replace(pending=pending[1:]).changed(changes)

    def _last(self, value: str) -> Last:
        last = self.values.get(value) or Last()
        perhaps = self.perhaps.get(value) if self.perhaps else None
        return last if perhaps is None else last._replace(older=later(last.older, perhaps))

    def changed(self, changes: Mapping[str, Last], floor: int = 0) -> Self:
        """With other knowledge of some values, and without those older than `floor`."""
        known: dict[str, Last | None] = {}
        perhaps = dict(self.perhaps)
        for value, last in changes.items():
            perhaps.pop(value, None)
            known[value] = last if last.known else None
            if last.older is not None and (not last.known or last.older > last.known[-1].t):
                perhaps[value] = last.older
                known[value] = Last(last.known) if last.known else None
        return type(self)(self.values.put(known, floor), perhaps, self.pending, self.since).bounded()

    def bounded(self) -> Self:
        """Within WINDOW_VALUES_MAX and WINDOW_DOUBTS_MAX: the oldest leave, and all is unknown from there back."""
        if self.values.count_max <= limits.WINDOW_VALUES_MAX and len(self.perhaps) <= limits.WINDOW_DOUBTS_MAX:
            return self
        surplus = self.values.count() - limits.WINDOW_VALUES_MAX
        gone = self.values.oldest(surplus) if surplus > 0 else []
        doubts = sorted(self.perhaps.items(), key=lambda item: item[1])
        dropped = doubts[: -limits.WINDOW_DOUBTS_MAX]
        times = [*(last.t for _, last in gone), *(at for _, at in dropped)]
        if not times:
            return self
        values = self.values.put(dict.fromkeys((value for value, _ in gone), None))
        perhaps = dict(doubts[-limits.WINDOW_DOUBTS_MAX :])
        return self._replace(values=values, perhaps=perhaps, since=later(self.since, max(times)))

    def to_json(self) -> list[Any]:
        """Plain data."""
        values = [[v, last.older, *(part for e in last.known for part in e[:2])] for v, last in self.values.oldest()]
        pending = [[list(e[:3]), list(values)] for e, values in self.pending]
        return [values, list(self.perhaps.items()), pending, self.since, self.values.floor]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Self:
        """Read what `to_json` wrote."""
        values = Versions.of(
            ((value, Last(tuple(map(Entry, known[::2], known[1::2])), older)) for value, older, *known in data[0]),
            data[4],
        )
        pending = tuple((Entry(*e), tuple(held)) for e, held in data[2])
        return cls(values, dict(data[1]), pending, data[3])
