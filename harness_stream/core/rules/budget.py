"""What all expressions of a rule set take together, against what it may.

Rule: a thousand harmless conditions can stall a worker like a dear one, so their steps are added up; and a hostile text
would be checked for seconds, so nothing is looked at once there is too much of it. What was not looked at is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core import limits
from harness_stream.core.rules.language import CONDITION_STEPS_MAX, INTENT_STEPS_MAX, TREE_NODES_MAX
from harness_stream.core.rules.mistakes import Code, Findings

if TYPE_CHECKING:
    from harness_stream.core.rules.cost import Cost
    from harness_stream.core.rules.document import Item


class Budget:
    """Adds up the expressions of a set in the order in which they are checked."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._nodes = 0
        self._last: Item | None = None
        self._steps = {"selections": 0, "rules": 0}
        self._dearest: dict[str, tuple[int, Item]] = {}
        self._left: dict[str, list[Item]] = {"selections": [], "rules": []}

    def refuses(self, item: Item, part: str) -> bool:
        """Whether there is too much already to look at one more."""
        if self._last is not None:
            self._left[part].append(item)
        return self._last is not None

    def add(self, item: Item, part: str, cost: Cost, *, once: bool) -> None:
        """Takes one in.

        Args:
            item: where it stands.
            part: `selections` or `rules`, which are evaluated for different events.
            cost: of one evaluation.
            once: whether it is evaluated once an intent, and not for each of its resources.
        """
        self._nodes += cost.nodes
        if self._nodes > TREE_NODES_MAX:
            self._last = item
        # One that is too dear alone was refused, and will be another one.
        if cost.steps <= CONDITION_STEPS_MAX:
            self._add_steps(item, part, cost.steps * (1 if once else limits.RESOURCES_MAX))

    def _add_steps(self, item: Item, part: str, steps: int) -> None:
        before, self._steps[part] = self._steps[part], self._steps[part] + steps
        if steps > self._dearest.get(part, (0, item))[0]:
            self._dearest[part] = steps, item
        if before <= INTENT_STEPS_MAX < self._steps[part]:
            most, where = self._dearest[part]
            message = f"up to here the {part} may take more than {INTENT_STEPS_MAX:,} steps for one intent"
            fix = (
                f"begin with the dearest, {most:,} steps on line {where.line}: use less of loops and patterns; "
                f"what reads the resource counts {limits.RESOURCES_MAX} times"
            )
            self._findings.on(item, message, fix, code=Code.COST)

    def close(self) -> None:
        """Says that there was too much to look at, and at what nobody looked."""
        if self._last is None:
            return
        message = f"up to here the rule set has more than {TREE_NODES_MAX:,} names, values and operators"
        words = {"selections": "selection", "rules": "condition"}
        left = [
            f"{len(items):,} {words[part]}{'s' if len(items) > 1 else ''} (from line {items[0].line} on)"
            for part, items in self._left.items()
            if items
        ]
        unseen = f"; not checked: {' and '.join(left)}" if left else ""
        fix = "split the rule set, and check it again; what a selection says counts wherever it is used"
        self._findings.on(self._last, f"{message}{unseen}", fix, code=Code.COST)
