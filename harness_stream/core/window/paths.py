"""`temporal_ordered`: per prefix of the listed selections, the latest time a run through it can have begun (DESIGN §5).

Rule of this file: of two runs through the same prefix the one that began later stays inside the window longer, so it
replaces the other, unless it leans on a hold that the other does not: that hold may yet turn out not to count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.window.spec import Entry, Match, Seen, Spec, later

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Path(NamedTuple):
    """Different events, in log order, one a listed selection so far."""

    steps: tuple[Entry, ...]

    @property
    def start(self) -> int:
        """Chain time of the first event: when it leaves, the run is over."""
        return self.steps[0].t

    @property
    def holds(self) -> frozenset[str]:
        """Events that may yet turn out not to count."""
        return frozenset(e.id for e in self.steps if e.until is not None)

    def counts(self, spec: Spec, t: int) -> bool:
        """Is the whole run inside the window at chain time t?"""
        return self.start >= t - spec.timespan_ms and all(spec.counts(e, t) for e in self.steps)


class Paths(NamedTuple):
    """State of one group.

    Attributes:
        prefixes: runs through the first 1, 2, … listed selections; each the earliest begun first.
        since: chain time after which every matching event was counted; None = all there ever were.
    """

    prefixes: tuple[tuple[Path, ...], ...]
    since: int | None = None

    def observed(self, spec: Spec, entry: Entry, match: Match) -> Paths:
        """With an event after all others; it can be one step only, so the longest prefix goes first."""
        prefixes = [[p for p in paths if p.counts(spec, entry.t)] for paths in self.prefixes]
        for index in range(len(spec.bits) - 1, -1, -1):
            if match.mask >> spec.bits[index] & 1:
                before = [()] if index == 0 else [p.steps for p in prefixes[index - 1]]
                prefixes[index] += [Path((*steps, entry)) for steps in before]
        return self._bounded([_undominated(paths) for paths in prefixes])

    def inserted(self, spec: Spec, entry: Entry, match: Match) -> Paths:  # noqa: ARG002  all windows are asked alike
        """With a firm event at an earlier place: the runs it could have been part of began no later than it."""
        return self._replace(since=later(self.since, entry.t))

    def forgotten(self, intent_id: str) -> Paths:
        """Without a hold that was answered."""
        return self._replace(prefixes=tuple(tuple(_without(paths, intent_id)) for paths in self.prefixes))

    def released(self, spec: Spec, entry: Entry, match: Match) -> Paths:  # noqa: ARG002  all windows are asked alike
        """Without a firm event that never started; the runs that were replaced had begun no later than its own."""
        after = self.forgotten(entry.id)
        gone = [p.start for old, new in zip(self.prefixes, after.prefixes, strict=True) for p in {*old} - {*new}]
        return after._replace(since=later(self.since, max(gone))) if gone else self

    def seen(self, spec: Spec, t: int) -> Seen:
        """1 if a whole run is inside the window at chain time t, else 0."""
        counting = [[p for p in paths if p.counts(spec, t)] for paths in self.prefixes]
        longest = next((paths[-1].steps for paths in reversed(counting) if paths), ())
        evidence = tuple(e.id for e in longest)
        if counting[-1]:
            return Seen(1, 1, evidence, len(evidence))
        blind = self.since is not None and self.since >= t - spec.timespan_ms
        return Seen(0, None if blind else 0, evidence, len(evidence))

    def _bounded(self, prefixes: Sequence[list[Path]]) -> Paths:
        """At most EVIDENCE_MAX runs a prefix: the latest begun, and unknown from the latest dropped one back."""
        dropped = [p.start for paths in prefixes for p in paths[: -limits.EVIDENCE_MAX]]
        since = later(self.since, max(dropped)) if dropped else self.since
        return Paths(tuple(tuple(paths[-limits.EVIDENCE_MAX :]) for paths in prefixes), since)

    def to_json(self) -> list[Any]:
        """Plain data."""
        return [[[[list(e[:3]) for e in p.steps] for p in paths] for paths in self.prefixes], self.since]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Paths:
        """Read what `to_json` wrote."""
        prefixes = (tuple(Path(tuple(Entry(*e) for e in steps)) for steps in paths) for paths in data[0])
        return cls(tuple(prefixes), data[1])


def empty_paths(spec: Spec, since: int | None) -> Paths:
    """Before the first event."""
    return Paths(((),) * len(spec.bits), since)


def _undominated(paths: Iterable[Path]) -> list[Path]:
    """Without the runs that another one outlives whatever becomes of the holds; the earliest begun first."""
    kept: list[Path] = []
    for path in sorted(paths, key=lambda p: p.start, reverse=True):
        if not any(other.holds <= path.holds for other in kept):
            kept.append(path)
    return kept[::-1]


def _without(paths: Iterable[Path], intent_id: str) -> Iterable[Path]:
    return (p for p in paths if all(e.id != intent_id for e in p.steps))
