"""`temporal` and `absent`: which of the listed selections an event matched (DESIGN §5).

Rule of this file: a selection that matched is a value, so that the state is the one of `value_count`. `absent` asks
whether any selection matched, so all of them are one value.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

from harness_stream.core.window.distinct import Distinct
from harness_stream.core.window.spec import Match, Seen, Spec

if TYPE_CHECKING:
    from harness_stream.core.window.spec import Entry


class Marks(Distinct):
    """State of one group."""

    __slots__ = ()

    def values_of(self, spec: Spec, match: Match) -> tuple[str, ...]:
        """The listed selections an event matched."""
        if spec.kind == "absent":
            return _listed(spec) if match.mask else ()
        return _matched(spec.bits, match.mask)

    def seen(self, spec: Spec, t: int) -> Seen:
        """1 if every listed selection has an event that counts at chain time t, else 0."""
        start, held, listed = t - spec.timespan_ms, self.held(spec, t), _listed(spec)
        newest = {name: self._newest(name, start, held.get(name)) for name in listed}
        found = tuple([e.id for e in newest.values() if e is not None])
        if len(found) == len(listed):
            return Seen(1, 1, found, len(found))
        missing = {name for name, e in newest.items() if e is None}
        perhaps = {name for name, at in self.perhaps.items() if at >= start}
        unknown = self.blind(start) or missing <= perhaps
        return Seen(0, None if unknown else 0, found, len(found))

    def _newest(self, name: str, start: int, hold: Entry | None) -> Entry | None:
        firm = self.values.inside(name, start)
        return hold if firm is None or (hold is not None and hold.t > firm.t) else firm


def _listed(spec: Spec) -> tuple[str, ...]:
    return _numbers(1 if spec.kind == "absent" else len(spec.bits))


@lru_cache(maxsize=4_096)  # a rule set has at most 1,000 windows, and events match few of the ways they could
def _matched(bits: tuple[int, ...], mask: int) -> tuple[str, ...]:
    return tuple(name for name, bit in zip(_numbers(len(bits)), bits, strict=True) if mask >> bit & 1)


@cache
def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
