"""Refuses what a condition may not cost, and says of each kind of cost what to write instead.

Rule: the estimate is `cost.py`'s. Here are only the limits it is held against, and words: where most is spent, and a
fix that makes that very part cheaper.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from harness_stream.core.rules.cel import Complaint
from harness_stream.core.rules.cost import GROWING, LOOP, MAP, SELECTION, Cost, Part
from harness_stream.core.rules.functions import ALLOWS, MENTIONS, ORIGIN
from harness_stream.core.rules.language import (
    COMPARISONS,
    CONDITION_STEPS_MAX,
    CONVERSIONS,
    LOOP_STEPS_MAX,
    OPERATOR_SIGNS,
    WHOLE_MAX,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIXES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "matches": "use `startsWith`, `endsWith` or `in [...]` for the pattern, or repeat less in it",
        "contains": "use `startsWith` or `endsWith`, or search a shorter text",
        "startsWith": "compare shorter texts",
        "endsWith": "compare shorter texts",
        "size": "ask for the size of a shorter text",
        "@in": "search a shorter list, or give the words as a list of their own (`in [...]`)",
        "_+_": "compare the parts, and do not join texts or lists first",
        MAP: "write a map with fewer entries, or a list",
        GROWING: "`map` and `filter` copy what they have so far for each element: use `exists`, `all` or `in`",
        LOOP: "loop over a shorter list, or use `in`",
        SELECTION: "name the selection less often, or make it cheaper where it is defined",
        **dict.fromkeys(COMPARISONS, "compare shorter lists or texts, or ask by `in` for what matters in them"),
        **dict.fromkeys((ALLOWS, MENTIONS, ORIGIN), "ask less often"),
        **dict.fromkeys(CONVERSIONS | {"type"}, "compare without converting"),
    }
)


def too_dear(cost: Cost) -> Complaint | None:
    """What could stall a worker, at the part that takes most; None if nothing could."""
    if cost.loops > LOOP_STEPS_MAX:
        message = f"up to {cost.loops:,} passes through loops; the limit is {LOOP_STEPS_MAX:,}"
        loop, what = cost.longest, "selection" if cost.longest.what == SELECTION else "loop"
        fix = f"this {what} makes up to {loop.times:,} of them: loop over a shorter list, use `in`, or split the rule"
        return Complaint(loop.offset, message, fix)
    if cost.steps > CONDITION_STEPS_MAX:
        message = f"up to {cost.steps:,} steps on the largest event; the limit is {CONDITION_STEPS_MAX:,}"
        return Complaint(cost.dearest.offset, message, _cheaper(cost.dearest))
    return None


def _cheaper(part: Part) -> str:
    fix = _FIXES.get(part.what, "split the rule")
    if part.times == 1:
        return fix
    return f"{fix}; it is done for up to {part.times:,} elements: take it out of the loop, or loop over a shorter list"


def too_large(cost: Cost) -> Complaint | None:
    """Arithmetic that fails for some numbers; None if all of it succeeds."""
    found = cost.overflows
    if found is None:
        return None
    sign = OPERATOR_SIGNS[found.function]
    if not found.of_whole:
        message = f"`{sign}` can fail with times, durations and unsigned numbers"
        return Complaint(found.offset, message, "calculate with whole numbers: `intent.t` is one, in milliseconds")
    message = f"`{sign}` fails when the result is beyond ±{WHOLE_MAX:,}, and here it can be"
    return Complaint(found.offset, message, "compare without arithmetic, or use smaller numbers")
