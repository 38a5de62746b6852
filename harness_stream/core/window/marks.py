"""`temporal` and `absent`: which of the listed selections an event matched (DESIGN §5).

Rule of this file: a selection that matched is a value, so that the state is the one of `value_count`. `absent` asks
whether any selection matched, so all of them are one value.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from harness_stream.core.window.distinct import Distinct
from harness_stream.core.window.spec import Interval, Match, Seen, Spec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness_stream.core.window.spec import Entry


class Marks(Distinct):
    """State of one group."""

    __slots__ = ()

    def values_of(self, spec: Spec, match: Match) -> tuple[str, ...]:
        """The listed selections an event matched."""
        if spec.kind == "absent":
            return _listed(spec) if match.mask else ()
        return _matched(spec.bits, match.mask)

    def interval(self, spec: Spec, t: int) -> Interval:
        """1 if every listed selection has an event that counts at chain time t, else 0."""
        start = t - spec.timespan_ms
        missing = self.values.lacking(_listed(spec), start)
        if missing and self.pending:
            held = self.held(spec, t)
            missing = [name for name in missing if name not in held]
        if not missing:
            return 1, 1
        return 0, None if self.blind(start) or (self.perhaps and self._may_be_there(missing, start)) else 0

    def seen(self, spec: Spec, t: int) -> Seen:
        """The same, and the newest event of each selection."""
        found = tuple([e.id for e in self._newest(spec, t) if e is not None])
        return Seen(*self.interval(spec, t), found, len(found))

    def _may_be_there(self, missing: Iterable[str], start: int) -> bool:
        return all(self.perhaps.get(name, start - 1) >= start for name in missing)

    def _newest(self, spec: Spec, t: int) -> list[Entry | None]:
        start, held = t - spec.timespan_ms, self.held(spec, t)
        return [_newer(held.get(name), self.values.inside(name, start)) for name in _listed(spec)]


def _newer(hold: Entry | None, firm: Entry | None) -> Entry | None:
    return hold if firm is None or (hold is not None and hold.t > firm.t) else firm


def _listed(spec: Spec) -> tuple[str, ...]:
    return _numbers(1 if spec.kind == "absent" else len(spec.bits))


@lru_cache(maxsize=4_096)  # a rule set has at most 1,000 windows, and events match few of the ways they could
def _matched(bits: tuple[int, ...], mask: int) -> tuple[str, ...]:
    return tuple(name for name, bit in zip(_numbers(len(bits)), bits, strict=True) if mask >> bit & 1)


@cache
def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
