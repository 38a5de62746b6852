"""A compiled rule set seen from history: its distinct windows, and which rule asks which of them.

Rule of this file: a window is named by what it counts, never by the rule that asks, so that an edited threshold or a
renamed rule keeps its counts.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits, window

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from harness_stream.core.counting import Sighting
    from harness_stream.core.rules.compile import Program, Selected
    from harness_stream.core.rules.parse import Correlation

# Events match few of the ways they could; beyond that each is looked through anew.
MASKS_MAX: Final = 4_096


Concerned = tuple[window.Spec, int, window.Match | None]
"""(window, all bits that concern it, how it sees an event of one view with the bits asked for; None: the bits alone do
not say)."""


class Windows:
    """A program and its windows.

    Attributes:
        program: the compiled rules.
        digest: names the bundle.
        specs: distinct windows, in order of first use.
        sighted: an event and what `core.counting` found of it: the intent that was just judged is counted next, and
            two equal events look the same to every window.
        spread: those whose groups are spread over a lane's shards.
        by_rule: per rule index its window, None for a rule without one.
        conditions: per rule index the window condition over an interval.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.digest = program.digest
        self.by_rule = tuple(None if c is None else self._spec(c) for c in program.correlations)
        self.take(spec for spec in self.by_rule if spec is not None)
        self.conditions = tuple(_condition(c) for c in program.correlations)

    def _spec(self, correlation: Correlation) -> window.Spec:
        names = self.program.selection_names
        rule_set = self.program.rule_set
        texts = [rule_set.selections[name] for name in correlation.selections]
        if any("params." in text for text in texts):
            texts.append(repr(sorted(rule_set.params.items())))
        field = None if correlation.condition is None else correlation.condition.field
        shape = (correlation.group_by, correlation.timespan_ms, correlation.include_attempts, field)
        return window.Spec(
            window.window_id(correlation.type, texts, *shape),
            correlation.type,
            tuple(names.index(name) for name in correlation.selections),
            *shape,
        )

    def narrowed(self, ids: Collection[str]) -> Windows:
        """The same program with only these windows."""
        narrow = copy(self)
        narrow.take(spec for spec in self.specs if spec.id in ids)
        return narrow

    def take(self, specs: Iterable[window.Spec]) -> None:
        """Count in these windows and no others."""
        self.specs = tuple({spec.id: spec for spec in specs}.values())
        self._counted_by = tuple((spec, spec.mask | spec.mask << window.FAILED_SHIFT) for spec in self.specs)
        self._concerned: dict[int, tuple[Concerned, ...]] = {}
        self.sighted: tuple[Mapping[str, Any], Sequence[Sighting]] | None = None
        self.spread = tuple(spec for spec in self.specs if spec.is_spread)
        self._kept_with: dict[bool, Windows] = {}

    def kept_with(self, *, agents: bool) -> Windows:
        """The same program with only those windows whose groups are kept with agents, or only with lanes."""
        if agents not in self._kept_with:
            self._kept_with[agents] = self.narrowed({spec.id for spec in self.specs if spec.is_agents == agents})
        return self._kept_with[agents]

    def concerned(self, mask: int) -> tuple[Concerned, ...]:
        """The windows that count any of these bits of `select`."""
        found = self._concerned.get(mask)
        if found is None:
            found = tuple((spec, bits, _match(spec, mask)) for spec, bits in self._counted_by if bits & mask)
            if len(self._concerned) < MASKS_MAX:
                self._concerned[mask] = found
        return found

    def select(self, views: Iterable[Mapping[str, Any]]) -> list[int]:
        """Per view of one event, selections that match it, and above `window.FAILED_SHIFT` those that failed on it.

        What does not read the resource is asked once.
        """
        masks: list[int] = []
        first: Selected | None = None
        for view in views:
            found = self.program.select(view, first)
            first = first or found
            masks.append(found.matched | found.failed << window.FAILED_SHIFT)
        return masks


def _match(spec: window.Spec, mask: int) -> window.Match | None:
    if spec.kind in {"value_count", "value_sum"}:
        return None
    return window.Match(mask & spec.mask, bool(mask >> window.FAILED_SHIFT & spec.mask))


def _condition(correlation: Correlation | None) -> window.Condition:
    """A temporal window holds 1 if it is complete; of an absent one nothing may be there."""
    if correlation is None or correlation.condition is None:
        absent = correlation is not None and correlation.type == "absent"
        return window.condition_of("eq", 0) if absent else window.condition_of("gte", 1)
    scale = limits.MEASURE_SCALE if correlation.type == "value_sum" else 1
    return window.condition_of(correlation.condition.op, correlation.condition.threshold, scale)
