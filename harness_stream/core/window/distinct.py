"""`value_count`: the newest firm event of each of at most 1,024 values, and the holds beside them (DESIGN §5)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.window.spec import Entry, Match, Seen, Spec, later

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Pending = tuple[Entry, tuple[str, ...]]
"""A hold and its values."""

# Longer values are kept as digests: a URI may have 2,048 characters, and 1,024 of those would be 2 MB a group. A digest
# is longer than any value kept as it is, so the two never meet.
_PLAIN_CHARS_MAX = 32


def value_of(raw: object) -> str:
    """What is kept of a value: itself if short, else its SHA-256."""
    text = raw if isinstance(raw, str) else repr(raw)
    return text if len(text) <= _PLAIN_CHARS_MAX else hashlib.sha256(text.encode()).hexdigest()


class Distinct(NamedTuple):
    """State of one group.

    Attributes:
        values: value → its newest firm event, in the order of their chain times.
        pending: holds, oldest first.
        since: chain time after which every matching event was counted; None = all there ever were.
    """

    values: Mapping[str, Entry] = {}
    pending: tuple[Pending, ...] = ()
    since: int | None = None

    def observed(self, spec: Spec, entry: Entry, match: Match) -> Distinct:
        """With an event after all others."""
        state = self._replace(pending=tuple(p for p in self.pending if _alive(spec, p[0], entry.t)))
        if not match.values:
            return state._replace(since=later(self.since, entry.t))
        if entry.until is None:
            values = {v: e for v, e in self.values.items() if e.t >= entry.t - spec.timespan_ms}
            for value in match.values:
                values.pop(value, None)
                values[value] = entry
            return _bounded(state._replace(values=values))
        pending = (*state.pending, (entry, match.values))
        if len(pending) <= limits.EVIDENCE_MAX:
            return state._replace(pending=pending)
        return state._replace(pending=pending[1:], since=later(self.since, pending[0][0].t))

    def inserted(self, spec: Spec, entry: Entry, match: Match) -> Distinct:  # noqa: ARG002  all windows are asked alike
        """With a firm event at its own, earlier place."""
        if not match.values:
            return self._replace(since=later(self.since, entry.t))
        values = dict(self.values)
        for value in match.values:
            if value not in values or values[value].t < entry.t:
                values[value] = entry
        return _bounded(self._replace(values=dict(sorted(values.items(), key=lambda item: item[1].t))))

    def forgotten(self, intent_id: str) -> Distinct:
        """Without a hold that was answered."""
        return self._replace(pending=tuple(p for p in self.pending if p[0].id != intent_id))

    def released(self, spec: Spec, entry: Entry, match: Match) -> Distinct:  # noqa: ARG002  all windows are asked alike
        """Without a firm event that never started; what it had replaced is not known any more."""
        values = {v: e for v, e in self.values.items() if e.id != entry.id}
        if len(values) == len(self.values):
            return self
        return self._replace(values=values, since=later(self.since, entry.t))

    def seen(self, spec: Spec, t: int) -> Seen:
        """How many values at chain time t."""
        start = t - spec.timespan_ms
        inside = {v: e for v, e in self.values.items() if e.t >= start}
        held = {v: e for e, values in self.pending if e.t >= start and spec.counts(e, t) for v in values}
        lo = len(inside.keys() | held.keys())
        blind = self.since is not None and self.since >= start
        entries = sorted({*inside.values(), *held.values()}, key=lambda e: (e.t, e.id))[-limits.EVIDENCE_MAX :]
        return Seen(lo, None if blind else lo, tuple(e.id for e in entries), lo)

    def to_json(self) -> list[Any]:
        """Plain data."""
        values = [[value, entry.t, entry.id] for value, entry in self.values.items()]
        return [values, [[list(e[:3]), list(values)] for e, values in self.pending], self.since]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Distinct:
        """Read what `to_json` wrote."""
        values = {value: Entry(t, intent_id) for value, t, intent_id in data[0]}
        return cls(values, tuple((Entry(*e), tuple(held)) for e, held in data[1]), data[2])


def _bounded(state: Distinct) -> Distinct:
    """At most 1,024 values: the ones longest unseen leave."""
    surplus = len(state.values) - limits.WINDOW_VALUES_MAX
    if surplus <= 0:
        return state
    items = list(state.values.items())
    return state._replace(values=dict(items[surplus:]), since=later(state.since, items[surplus - 1][1].t))


def _alive(spec: Spec, entry: Entry, t: int) -> bool:
    return entry.t >= t - spec.timespan_ms and spec.counts(entry, t)
