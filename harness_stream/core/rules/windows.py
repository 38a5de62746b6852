"""A compiled rule set seen from history: its distinct windows, and which rule asks which of them.

Rule of this file: a window is named by what it counts, never by the rule that asks, so that an edited threshold or a
renamed rule keeps its counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness_stream.core import window
from harness_stream.errors import InvalidInput

if TYPE_CHECKING:
    from harness_stream.core.rules.compile import Program

Condition = Callable[[int, int | None], bool | None]


class Windows:
    """A program and its windows.

    Attributes:
        program: the compiled rules.
        digest: names the bundle.
        specs: distinct windows, in order of first use.
        by_rule: per rule index its window, None for a rule without one.
        conditions: per rule index the window condition over an interval.

    Raises:
        InvalidInput: the program asks for a window that this engine does not evaluate.
    """

    def __init__(self, program: Program) -> None:
        missing = sorted({c.type for c in program.correlations if c is not None} - window.KINDS)
        if missing:
            raise InvalidInput(
                f"window type {', '.join(f'`{kind}`' for kind in missing)} is not evaluated yet",
                hint=f"use {' or '.join(f'`{kind}`' for kind in sorted(window.KINDS))}",
            )
        self.program = program
        self.digest = program.digest
        self.by_rule = tuple(None if c is None else self._spec(c) for c in program.correlations)
        self.specs = tuple({spec.id: spec for spec in self.by_rule if spec is not None}.values())
        self.conditions = tuple(_condition(c) for c in program.correlations)

    def _spec(self, correlation: Any) -> window.Spec:
        names = self.program.selection_names
        rule_set = self.program.rule_set
        texts = [rule_set.selections[name] for name in correlation.selections]
        if any("params." in text for text in texts):
            texts.append(repr(sorted(rule_set.params.items())))
        shape = (correlation.group_by, correlation.timespan_ms, correlation.include_attempts)
        return window.Spec(
            window.window_id(correlation.type, texts, *shape),
            correlation.type,
            tuple(names.index(name) for name in correlation.selections),
            *shape,
        )

    def select(self, view: Mapping[str, Any]) -> int:
        """Selections that match one view of an event, and above `window.FAILED_SHIFT` those that failed on it."""
        matched, failed = self.program.select(view)
        return matched | failed << window.FAILED_SHIFT


def _condition(correlation: Any) -> Condition:
    if correlation is None or correlation.condition is None:
        return lambda lo, hi: True  # noqa: ARG005  a temporal window has no condition of its own
    return window.condition_of(correlation.condition.op, correlation.condition.threshold)
