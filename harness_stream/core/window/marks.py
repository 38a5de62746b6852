"""`temporal` and `absent`: per listed selection the newest event that matched it (DESIGN §5).

Rule of this file: a firm event makes older ones needless; a hold does not, since it may yet turn out not to count.
`absent` asks whether any selection matched, so it keeps one mark for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.window.spec import Entry, Match, Seen, Spec, later

if TYPE_CHECKING:
    from collections.abc import Sequence

Mark = tuple[Entry, ...]
"""The newest firm entry, if any, and the holds after it."""


class Marks(NamedTuple):
    """State of one group.

    Attributes:
        marks: one a listed selection; a single one for `absent`.
        since: chain time after which every matching event was counted; None = all there ever were.
    """

    marks: tuple[Mark, ...]
    since: int | None = None

    def observed(self, spec: Spec, entry: Entry, match: Match) -> Marks:
        """With an event after all others."""
        marks = tuple(
            _marked(spec, old, entry) if hit else old for hit, old in zip(_hits(spec, match), self.marks, strict=True)
        )
        if max(map(len, marks), default=0) <= limits.EVIDENCE_MAX:
            return self._replace(marks=marks)
        # Whether the dropped hold counts may matter once those after it are denied: unknown from here back.
        blind = max(old[1].t for old in marks if len(old) > limits.EVIDENCE_MAX)
        return Marks(tuple(_bounded(old) for old in marks), later(self.since, blind))

    def inserted(self, spec: Spec, entry: Entry, match: Match) -> Marks:
        """With a firm event at its own, earlier place."""
        return self._replace(
            marks=tuple(
                _put_in(old, entry) if hit else old for hit, old in zip(_hits(spec, match), self.marks, strict=True)
            )
        )

    def forgotten(self, intent_id: str) -> Marks:
        """Without a hold that was answered."""
        return self._replace(marks=tuple(tuple(e for e in old if e.id != intent_id) for old in self.marks))

    def released(self, spec: Spec, entry: Entry, match: Match) -> Marks:  # noqa: ARG002  all windows are asked alike
        """Without a firm event that never started; what it had replaced is not known any more."""
        after = self.forgotten(entry.id)
        return self if after == self else after._replace(since=later(self.since, entry.t))

    def seen(self, spec: Spec, t: int) -> Seen:
        """1 if every mark has an event that counts at chain time t, else 0."""
        start = t - spec.timespan_ms
        newest = [next((e for e in reversed(old) if e.t >= start and spec.counts(e, t)), None) for old in self.marks]
        found = tuple(e.id for e in newest if e is not None)
        if len(found) == len(newest):
            return Seen(1, 1, found, len(found))
        blind = self.since is not None and self.since >= start
        return Seen(0, None if blind else 0, found, len(found))

    def to_json(self) -> list[Any]:
        """Plain data."""
        return [[[list(e[:3]) for e in old] for old in self.marks], self.since]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Marks:
        """Read what `to_json` wrote."""
        return cls(tuple(tuple(Entry(*e) for e in old) for old in data[0]), data[1])


def empty_marks(spec: Spec, since: int | None) -> Marks:
    """Before the first event."""
    return Marks(((),) * (1 if spec.kind == "absent" else len(spec.bits)), since)


def _hits(spec: Spec, match: Match) -> tuple[bool, ...]:
    if spec.kind == "absent":
        return (match.mask != 0,)
    return tuple(bool(match.mask >> bit & 1) for bit in spec.bits)


def _marked(spec: Spec, old: Mark, entry: Entry) -> Mark:
    if entry.until is None:
        return (entry,)
    return (*(e for e in old if spec.counts(e, entry.t)), entry)


def _put_in(old: Mark, entry: Entry) -> Mark:
    if old and old[0].until is None and old[0].t >= entry.t:
        return old
    return (entry, *(e for e in old if e.until is not None and e.t >= entry.t))


def _bounded(old: Mark) -> Mark:
    """At most EVIDENCE_MAX: the oldest, which may be the firm one, and the newest."""
    return old if len(old) <= limits.EVIDENCE_MAX else (old[0], *old[2:])
