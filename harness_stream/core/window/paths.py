"""`temporal_ordered`: per prefix of the listed selections, the latest time a run through it can have begun (DESIGN §5).

Rule of this file: of two runs through the same prefix the one that began later stays inside the window longer, so it
replaces the other, unless it leans on a hold that the other does not: that hold may yet turn out not to count. A firm
event may turn out never to have started, too; for that the time of the latest replaced run is enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.window.spec import Entry, Interval, Match, Seen, Spec, later

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
        return frozenset([e.id for e in self.steps if e.until is not None])

    def has(self, intent_id: str) -> bool:
        """Is the event one of its steps?"""
        return any(e.id == intent_id for e in self.steps)

    def counts(self, spec: Spec, t: int) -> bool:
        """Is the whole run inside the window at chain time t?"""
        steps = self.steps
        if steps[0].t < t - spec.timespan_ms:
            return False
        return not [e for e in steps if e.until is not None and not spec.counts(e, t)]

    def settled(self, t: int) -> Path:
        """With expired holds as what they are from then on if they still count: firm attempts."""
        return Path(tuple(e if e.counts_at(t) else e._replace(until=None) for e in self.steps))


class Paths(NamedTuple):
    """State of one group.

    Attributes:
        prefixes: runs through the first 1, 2, … listed selections; each the earliest begun first.
        replaced: of each prefix, when the latest begun of the runs that others replaced there had begun.
        since: chain time after which every matching event was counted; None = all there ever were.
    """

    prefixes: tuple[tuple[Path, ...], ...]
    replaced: tuple[int | None, ...]
    since: int | None = None

    def observed(self, spec: Spec, entry: Entry, match: Match) -> Paths:
        """With an event after all others; it can be one step only, so the longest prefix goes first."""
        prefixes = [[p for p in paths if p.counts(spec, entry.t)] for paths in self.prefixes]
        if spec.attempts:
            prefixes = [[p.settled(entry.t) for p in paths] for paths in prefixes]
        replaced = list(self.replaced)
        for index in range(len(spec.bits) - 1, -1, -1):
            if match.mask >> spec.bits[index] & 1:
                before = [()] if index == 0 else [p.steps for p in prefixes[index - 1]]
                prefixes[index] += [Path((*steps, entry)) for steps in before]
                prefixes[index], replaced[index] = _undominated(prefixes[index], replaced[index])
        return _bounded(prefixes, tuple(replaced), self.since)

    def inserted(self, spec: Spec, entry: Entry, match: Match) -> Paths:  # noqa: ARG002  all windows are asked alike
        """With a firm event at an earlier place: the runs it could have been part of began no later than it."""
        return self._replace(since=later(self.since, entry.t))

    def forgotten(self, intent_id: str) -> Paths:
        """Without a hold that was answered."""
        return self._replace(prefixes=tuple(tuple(p for p in ps if not p.has(intent_id)) for ps in self.prefixes))

    def released(self, spec: Spec, entry: Entry, match: Match) -> Paths:  # noqa: ARG002  all windows are asked alike
        """Without a firm event that never started."""
        gone = [(n, p) for n, paths in enumerate(self.prefixes) for p in paths if p.has(entry.id)]
        began = _latest(self._stood_for(index, path, entry.id) for index, path in gone)
        after = self.forgotten(entry.id)
        return after if began is None else after._replace(since=later(self.since, began))

    def _stood_for(self, index: int, path: Path, intent_id: str) -> int | None:
        """When the latest begun run may have begun that a run through an event stood for; None: for no other one.

        It was replaced at that event's step or a later one, by what became this run, so it began no later than it.
        """
        step = next(n for n, e in enumerate(path.steps) if e.id == intent_id)
        began = _latest(self.replaced[step : index + 1])
        return None if began is None else min(began, path.start)

    def interval(self, spec: Spec, t: int) -> Interval:
        """1 if a whole run is inside the window at chain time t, else 0."""
        for path in self.prefixes[-1]:
            if path.counts(spec, t):
                return 1, 1
        blind = self.since is not None and self.since >= t - spec.timespan_ms
        return 0, None if blind else 0

    def seen(self, spec: Spec, t: int) -> Seen:
        """The same, and the longest run, of those the latest begun."""
        counting = [[p for p in paths if p.counts(spec, t)] for paths in self.prefixes]
        longest = next((paths[-1].steps for paths in reversed(counting) if paths), ())
        evidence = tuple(e.id for e in longest)
        return Seen(*self.interval(spec, t), evidence, len(evidence))

    def to_json(self) -> list[Any]:
        """Plain data."""
        runs = [[[list(e[:3]) for e in p.steps] for p in paths] for paths in self.prefixes]
        return [runs, list(self.replaced), self.since]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Paths:
        """Read what `to_json` wrote."""
        prefixes = (tuple(Path(tuple(Entry(*e) for e in steps)) for steps in paths) for paths in data[0])
        return cls(tuple(prefixes), tuple(data[1]), data[2])


def _bounded(prefixes: Sequence[list[Path]], replaced: tuple[int | None, ...], since: int | None) -> Paths:
    """At most WINDOW_RUNS_MAX runs a prefix: the latest begun, and unknown from the latest dropped one back."""
    for paths in prefixes:
        for dropped in paths[: -limits.WINDOW_RUNS_MAX]:
            since = later(since, dropped.start)
    return Paths(tuple([tuple(paths[-limits.WINDOW_RUNS_MAX :]) for paths in prefixes]), replaced, since)


def empty_paths(spec: Spec, since: int | None) -> Paths:
    """Before the first event."""
    return Paths(((),) * len(spec.bits), (None,) * len(spec.bits), since)


def _undominated(paths: list[Path], replaced: int | None) -> tuple[list[Path], int | None]:
    """Without the runs that another one outlives whatever becomes of the holds; the earliest begun first.

    Beside them when the latest begun of those had begun, or of those `replaced` before.
    """
    if len(paths) <= 1:
        return paths, replaced
    latest = max(paths, key=_start)
    if not latest.holds:  # it outlives all others
        return [latest], _latest([replaced, *[path.start for path in paths if path is not latest]])
    kept: list[tuple[Path, frozenset[str]]] = []
    for path in sorted(paths, key=_start, reverse=True):
        holds = path.holds
        if any(others <= holds for _, others in kept):
            replaced = later(replaced, path.start)
        else:
            kept.append((path, holds))
    return [path for path, _ in reversed(kept)], replaced


def _start(path: Path) -> int:
    return path.steps[0].t


def _latest(times: Iterable[int | None]) -> int | None:
    return max((t for t in times if t is not None), default=None)
