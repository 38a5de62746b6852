"""A comparison over an interval: true or false only if it is so for both ends, else unknown (DESIGN §5)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from fractions import Fraction
from math import inf
from typing import Final

Condition = Callable[[int, int | None], bool | None]
"""`condition(lo, hi)`, hi None = unbounded: true, false or None (unknown)."""


def condition_of(op: str, threshold: float, scale: int = 1) -> Condition:
    """A comparison with a threshold.

    Args:
        op: gt, gte, lt, lte, eq or neq.
        threshold: as the rule has it.
        scale: units of the interval in one of the threshold's.
    """
    compare = _COMPARE[op]
    exact = Fraction(str(threshold)) * scale  # as written: 0.1 is a tenth
    bound = exact.numerator if exact.denominator == 1 else exact

    def holds(lo: int, hi: int | None) -> bool | None:
        if lo == hi:
            return compare(lo, bound)
        if op in {"eq", "neq"}:
            inside = lo <= bound and (hi is None or bound <= hi)
            return None if inside else op == "neq"
        ends = compare(lo, bound), compare(inf if hi is None else hi, bound)
        return ends[0] if ends[0] == ends[1] else None

    return holds


_COMPARE: Final[dict[str, Callable[[float, int | Fraction], bool]]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
    "eq": operator.eq,
    "neq": operator.ne,
}
