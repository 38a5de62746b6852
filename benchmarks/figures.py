"""Figures as every measurement shows them: quantiles, median and spread of rounds, goals, and tables of text.

Rule of this file: pure. What was not measured is None, never a zero; what was never answered is infinitely late.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

QUANTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
NOTHING: Final = "-"
FEW: Final = 100  # below it, decimals are shown


def quantile(values: Sequence[float], share: float, missing: int = 0) -> float | None:
    """The nearest-rank quantile.

    Args:
        values: what was measured, in any order.
        share: 0 < share ≤ 1.
        missing: further ones that are larger than any number: requests that were never answered.

    Returns:
        None if there is nothing, or if it falls among the missing.
    """
    total = len(values) + missing
    rank = max(1, math.ceil(share * total))
    return sorted(values)[rank - 1] if rank <= len(values) else None


def percentile(values: Sequence[float], share: float) -> float:
    """The same as a number in any case; NaN of nothing."""
    found = quantile(values, share)
    return math.nan if found is None else found


def quantiles(values: Sequence[float], missing: int = 0) -> dict[str, float | None]:
    """Every one of `QUANTILES`, by its name (see `quantile`)."""
    ordered = sorted(values)
    return {name: quantile(ordered, share, missing) for name, share in QUANTILES.items()}


class Spread(NamedTuple):
    """Median, least and most of the rounds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Self | None:
        """None unless every round has a value: a round that was not measured may have been the worst."""
        there = [value for value in values if value is not None]
        if not there or len(there) < len(values):
            return None
        return cls(statistics.median(there), min(there), max(there))


def spread_text(spread: Spread | None, digits: int = 2) -> str:
    """`median (least to most)`."""
    if spread is None:
        return NOTHING
    return f"{spread.median:,.{digits}f} ({spread.least:,.{digits}f} to {spread.most:,.{digits}f})"


def ratios(above: Sequence[float | None], below: Sequence[float | None]) -> list[float | None]:
    """Round by round, so that a bad minute hits both; None where one side is missing or nothing."""
    pairs = zip(above, below, strict=True)
    return [None if over is None or not under else over / under for over, under in pairs]


class Goal(NamedTuple):
    """What an issue or DESIGN asks for, beside what was measured.

    Attributes:
        name: in words, with the size that it speaks of.
        limit: in `unit`.
        value: median of the rounds; None if it was not measured at that size, or could not be.
        unit: behind both figures.
        at_least: the limit is a floor, not a ceiling.
        why_not: said instead of a missing value.
        missed: there is no value because what was asked for was not reached at all.
        least: of the rounds; None if there is no value, or one.
        most: same.
        judged: the sizes were those that the goal speaks of.
    """

    name: str
    limit: float
    value: float | None
    unit: str
    at_least: bool = False
    why_not: str = "not measured"
    missed: bool = False
    least: float | None = None
    most: float | None = None
    judged: bool = True

    @classmethod
    def of(cls, name: str, limit: float, spread: Spread | None, unit: str, **more: Any) -> Self:  # noqa: ANN401  as the fields
        """With median and spread of the rounds."""
        if spread is None:
            return cls(name, limit, None, unit, **more)
        return cls(name, limit, spread.median, unit, least=spread.least, most=spread.most, **more)

    @property
    def met(self) -> bool | None:
        """None if it was not measured, or not at sizes to judge by."""
        if not self.judged:
            return None
        if self.value is None:
            return False if self.missed else None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """With the answer."""
        return {**self._asdict(), "met": self.met}


def goals_text(goals: Sequence[Goal]) -> list[str]:
    """A line a goal: met, missed, not judged or not measured."""
    rows = [[_answer(goal), goal.name, _limit(goal), _value(goal)] for goal in goals]
    return table(["", "goal", "limit", "measured"], rows) if rows else []


def _answer(goal: Goal) -> str:
    if not goal.judged:
        return "not judged"
    return {True: "met", False: "MISSED", None: NOTHING}[goal.met]


def _limit(goal: Goal) -> str:
    return f"{'≥' if goal.at_least else '≤'} {goal.limit:,g} {goal.unit}"


def _value(goal: Goal) -> str:
    if goal.value is None:
        return goal.why_not
    digits = 0 if goal.value >= FEW else 2
    spread = "" if goal.least is None else f" ({goal.least:,.{digits}f} to {goal.most:,.{digits}f})"
    return f"{goal.value:,.{digits}f} {goal.unit}{spread}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], indent: int = 2) -> list[str]:
    """Columns side by side: the first two to the left, what has figures to the right.

    Args:
        head: a word a column.
        rows: as many texts each.
        indent: blanks before each line.
    """
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    left = [_is_left(rows, column) for column in range(len(head))]
    return [
        " " * indent + "   ".join(map(_cell, line, widths, left)).rstrip()
        for line in lines
    ]


def _is_left(rows: Sequence[Sequence[str]], column: int) -> bool:
    """A column whose every cell begins with a figure stands to the right."""
    return not all(row[column][:1].isdigit() or row[column] == NOTHING for row in rows)


def _cell(text: str, width: int, left: bool) -> str:
    return text.ljust(width) if left else text.rjust(width)
