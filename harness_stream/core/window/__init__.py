"""Windows over a chain: small immutable states, exact up to a bound, then an interval with the truth in it (DESIGN §5).

The intent being judged is `observe`d first and evaluated then, so it is included. Cost does not depend on the length of
history. Each kind of window has a state of its own, with the same methods; here stands what is common to all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness_stream.core.window.condition import Condition, condition_of
from harness_stream.core.window.distinct import Distinct, value_of
from harness_stream.core.window.marks import Marks
from harness_stream.core.window.paths import Paths, empty_paths
from harness_stream.core.window.spec import Entry, Interval, Match, Seen, Spec, later, window_id
from harness_stream.core.window.totals import Totals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = [
    "FAILED_SHIFT",
    "KINDS",
    "Condition",
    "Entry",
    "Interval",
    "Match",
    "Seen",
    "Spec",
    "WindowState",
    "condition_of",
    "empty",
    "forget",
    "from_json",
    "insert",
    "later",
    "observe",
    "release",
    "to_json",
    "value_of",
    "window_id",
]

WindowState = Totals | Distinct | Marks | Paths

FAILED_SHIFT: Final = 1_024
"""In a mask of selections, bits from here on say which of them failed; a rule set has at most 1,000."""

_EMPTY: Final[Mapping[str, Callable[[Spec, int | None], WindowState]]] = {
    "event_count": lambda _, since: Totals(since=since),
    "value_sum": lambda _, since: Totals(since=since),
    "value_count": lambda _, since: Distinct(since=since),
    "temporal": lambda _, since: Marks(since=since),
    "absent": lambda _, since: Marks(since=since),
    "temporal_ordered": empty_paths,
}
KINDS: Final = frozenset(_EMPTY)


def empty(spec: Spec, since: int | None) -> WindowState:
    """The window before its first event.

    Args:
        spec: the window.
        since: chain time after which every matching event is counted; None = all there ever were.
    """
    return _EMPTY[spec.kind](spec, since)


def observe(spec: Spec, state: WindowState, entry: Entry, match: Match) -> WindowState:
    """The window after one more event, the newest; a settled hold is `forget`-ten first.

    If a listed selection failed on it, the window is unknown until the event has left it.
    """
    after = state.observed(spec, entry, match) if match.mask else state
    return after._replace(since=later(after.since, entry.t)) if match.failed else after


def insert(spec: Spec, state: WindowState, entry: Entry, match: Match) -> WindowState:
    """The window as if it had seen a firm event at its time, which may be before others."""
    after = state.inserted(spec, entry, match) if match.mask else state
    return after._replace(since=later(after.since, entry.t)) if match.failed else after


def forget(state: WindowState, intent_id: str) -> WindowState:
    """The window without a hold that is answered: it leaves its place, whatever the answer."""
    return state.forgotten(intent_id)


def release(spec: Spec, state: WindowState, entry: Entry, match: Match) -> WindowState:
    """The window as if it had never seen a firm event; what it had made needless may be unknown, except in totals."""
    return state.released(spec, entry, match) if match.mask else state


_LETTERS: Final[Mapping[str, type[WindowState]]] = {"t": Totals, "v": Distinct, "s": Marks, "r": Paths}
_LETTER_OF: Final = {kind: letter for letter, kind in _LETTERS.items()}


def to_json(state: WindowState) -> list[Any]:
    """Plain data, the inverse of `from_json`."""
    return [_LETTER_OF[type(state)], *state.to_json()]


def from_json(data: Sequence[Any]) -> WindowState:
    """Read what `to_json` wrote."""
    return _LETTERS[data[0]].from_json(data[1:])
