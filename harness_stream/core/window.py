"""Windows over a chain: small immutable states, exact up to a bound, then an interval with the truth in it (DESIGN §5).

A window of timespan T at time t covers events with t − T ≤ event time ≤ t, both ends inclusive. The intent being judged
is `observe`d first and evaluated then, so it is included. Cost does not depend on the length of history.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Entry(NamedTuple):
    """One counted event: chain time, intent id, and for a hold the chain time after which it no longer counts."""

    t: int
    id: str
    until: int | None = None

    def counts_at(self, t: int) -> bool:
        """A hold that nobody answered reads as denied after `until`."""
        return self.until is None or t <= self.until


class Outcome(NamedTuple):
    """What a window condition came to. `holds` is None when the interval does not settle it: unknown."""

    holds: bool | None
    evidence: tuple[str, ...]
    counted: int


class Spec(NamedTuple):
    """One window: what it counts, by what it groups, how far it looks.

    Attributes:
        id: names the window by content, so that an unchanged window survives a change of rules.
        kind: `event_count` or `temporal`.
        bits: selection bits, one per listed selection, in order.
        group_by: event paths.
        timespan_ms: T.
        attempts: count denied events as well.
    """

    id: str
    kind: str
    bits: tuple[int, ...]
    group_by: tuple[str, ...]
    timespan_ms: int
    attempts: bool

    @property
    def mask(self) -> int:
        """All listed selections."""
        return _mask_of(self.bits)


@cache
def _mask_of(bits: tuple[int, ...]) -> int:
    return sum(1 << bit for bit in set(bits))


FAILED_SHIFT = 1_024
"""In a mask, bits from here on say which selections failed; a rule set has at most 1,000."""
FAILED = 1 << FAILED_SHIFT
"""A listed selection failed on the event: nobody knows whether it belongs to the window."""

KINDS = frozenset({"event_count", "temporal"})
"""Windows this engine evaluates."""


def window_id(kind: str, texts: Sequence[str], group_by: Sequence[str], timespan_ms: int, attempts: bool) -> str:
    """16 hex digits over everything that changes what a window counts (not over its condition)."""
    content = json.dumps([kind, list(texts), list(group_by), timespan_ms, attempts], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Count(NamedTuple):
    """`event_count`: the newest 512 entries, then counts in buckets of T/64.

    Attributes:
        entries: newest last, chain times never decreasing.
        buckets: (index, firm events, pending holds), oldest first; bucket i spans [i·w, (i+1)·w) with w = ⌈T/64⌉.
        since: chain time after which every matching event was counted; None = all there ever were.
        holds: how many entries are holds; while there are none, counting needs no look at each entry.
    """

    entries: tuple[Entry, ...] = ()
    buckets: tuple[tuple[int, int, int], ...] = ()
    since: int | None = None
    holds: int = 0


class Marks(NamedTuple):
    """`temporal`: per listed selection the newest firm entry and the pending holds after it; `since` as in `Count`."""

    entries: tuple[tuple[Entry, ...], ...]
    since: int | None = None


WindowState = Count | Marks


def empty(spec: Spec, since: int | None) -> WindowState:
    """The window before its first event."""
    return Count(since=since) if spec.kind == "event_count" else Marks(((),) * len(spec.bits), since)


def observe(spec: Spec, state: WindowState, entry: Entry, mask: int) -> WindowState:
    """The window after an event whose matching selections are `mask`; a settled hold is `forget`-ten first.

    With `FAILED` in the mask the window is unknown until the event has left it.
    """
    if mask & FAILED:
        state = state._replace(since=entry.t if state.since is None else max(state.since, entry.t))
    if mask == FAILED:
        return state
    if isinstance(state, Count):
        return _count(spec, state, entry)
    marks = tuple(
        _mark(old, entry) if mask >> bit & 1 else old for bit, old in zip(spec.bits, state.entries, strict=True)
    )
    if max(map(len, marks), default=0) <= limits.EVIDENCE_MAX:
        return state._replace(entries=marks)
    # Whether the dropped hold counts may matter once those after it are denied: unknown from here back.
    blind = max(old[1].t for old in marks if len(old) > limits.EVIDENCE_MAX)
    since = blind if state.since is None else max(blind, state.since)
    return Marks(tuple(_bounded(old) for old in marks), since)


def forget(state: WindowState, intent_id: str) -> WindowState:
    """The window without one event: a hold that is answered leaves its place, whatever the answer."""
    if isinstance(state, Count):
        kept = tuple(e for e in state.entries if e.id != intent_id)
        return state._replace(entries=kept, holds=_holds(kept))
    return state._replace(entries=tuple(tuple(e for e in old if e.id != intent_id) for old in state.entries))


def evaluate(spec: Spec, state: WindowState, t: int, condition: Callable[[int, int | None], bool | None]) -> Outcome:
    """Evaluate at chain time t.

    Args:
        spec: the window.
        state: its state for one group.
        t: chain time.
        condition: for counts, `condition(lo, hi)` with hi None = unbounded: true, false or None (unknown).
    """
    start = t - spec.timespan_ms
    if isinstance(state, Count):
        return _evaluate_count(spec, state, t, condition)
    newest = [next((e for e in reversed(old) if e.t >= start and _counts(spec, e, t)), None) for old in state.entries]
    found = tuple(e.id for e in newest if e is not None)
    if len(found) == len(newest):
        return Outcome(True, found, len(found))
    blind = state.since is not None and state.since >= start
    return Outcome(None if blind else False, found, len(found))


def condition_of(op: str, threshold: float) -> Callable[[int, int | None], bool | None]:
    """A comparison over an interval: true or false only if it is so for both ends."""
    compare = _COMPARE[op]

    def holds(lo: int, hi: int | None) -> bool | None:
        if op in {"eq", "neq"}:
            if lo == hi:
                return compare(lo, threshold)
            inside = lo <= threshold and (hi is None or threshold <= hi)
            return None if inside else op == "neq"
        ends = compare(lo, threshold), compare(limits.INTEGER_MAX if hi is None else hi, threshold)
        return ends[0] if ends[0] == ends[1] else None

    return holds


_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "eq": lambda a, b: a == b,
    "neq": lambda a, b: a != b,
}


def _bucket_ms(spec: Spec) -> int:
    return -(-spec.timespan_ms // limits.WINDOW_BUCKETS)


def _count(spec: Spec, state: Count, entry: Entry) -> Count:
    start, width = entry.t - spec.timespan_ms, _bucket_ms(spec)
    first = _first(state.entries, start)
    kept = (*state.entries[first:], entry)
    holds = state.holds - _holds(state.entries[:first]) + _holds((entry,))
    buckets = tuple(b for b in state.buckets if (b[0] + 1) * width > start)
    if len(kept) <= limits.WINDOW_EXACT_MAX:
        return Count(kept, buckets, state.since, holds)
    oldest = kept[0]
    buckets = _add(buckets, oldest.t // width, oldest.until is not None)
    return Count(kept[1:], buckets, state.since, holds - _holds((oldest,)))


def _holds(entries: Sequence[Entry]) -> int:
    return sum(e.until is not None for e in entries)


def _counts(spec: Spec, entry: Entry, t: int) -> bool:
    """An expired hold reads as denied, and a denial is an attempt."""
    return spec.attempts or entry.counts_at(t)


def _add(buckets: tuple[tuple[int, int, int], ...], index: int, pending: bool) -> tuple[tuple[int, int, int], ...]:
    _, firm, held = buckets[-1] if buckets and buckets[-1][0] == index else (index, 0, 0)
    others = buckets[:-1] if firm or held else buckets
    return (*others, (index, firm + (not pending), held + pending))


def _first(entries: tuple[Entry, ...], start: int) -> int:
    return bisect_left(entries, start, key=lambda e: e.t)


def _mark(old: tuple[Entry, ...], entry: Entry) -> tuple[Entry, ...]:
    # A firm entry stays below pending holds: they may yet turn out not to count.
    return (entry,) if entry.until is None else (*old, entry)


def _bounded(old: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """At most EVIDENCE_MAX: the oldest, which may be the firm one, and the newest."""
    return old if len(old) <= limits.EVIDENCE_MAX else (old[0], *old[2:])


def _evaluate_count(
    spec: Spec, state: Count, t: int, condition: Callable[[int, int | None], bool | None]
) -> Outcome:
    start, width = t - spec.timespan_ms, _bucket_ms(spec)
    inside: Sequence[Entry] = state.entries[_first(state.entries, start) :]
    if state.holds:
        inside = [e for e in inside if _counts(spec, e, t)]
    whole = [b for b in state.buckets if b[0] * width >= start]
    split = [b for b in state.buckets if b[0] * width < start < (b[0] + 1) * width]
    lo = len(inside) + sum(firm for _, firm, _ in whole)
    above = sum(held for _, _, held in whole) + sum(firm + held for _, firm, held in split)
    hi = None if state.since is not None and state.since >= start else lo + above
    evidence = tuple(e.id for e in inside[-limits.EVIDENCE_MAX :])
    return Outcome(condition(lo, hi), evidence, lo)


def to_json(state: WindowState) -> list[Any]:
    """Plain data, the inverse of `from_json`."""
    if isinstance(state, Count):
        # `holds` is derived from the entries.
        return ["c", [list(e) for e in state.entries], [list(b) for b in state.buckets], state.since]
    return ["m", [[list(e) for e in old] for old in state.entries], state.since]


def from_json(data: Sequence[Any]) -> WindowState:
    """Read what `to_json` wrote."""
    if data[0] == "c":
        entries = tuple(Entry(*e) for e in data[1])
        return Count(entries, tuple((b[0], b[1], b[2]) for b in data[2]), data[3], _holds(entries))
    return Marks(tuple(tuple(Entry(*e) for e in old) for old in data[1]), data[2])
