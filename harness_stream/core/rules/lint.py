"""What a rule set says as a whole and its author can hardly mean.

Rules that never fire, windows that decide nothing, names that nothing uses, history that an agent can shed.

Rule: every finding here is a warning, because such a set is still judged as written; and each is sure, so that a set
without a mistake has none. What only looks odd is the author's business.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from harness_stream.core.limits import WINDOW_VALUES_MAX
from harness_stream.core.rules import reach
from harness_stream.core.rules.language import (
    CONDITION_KEYS,
    COUNTING,
    DECISIONS,
    DECISIONS_COUNTED,
    DECISIONS_JUDGED,
    FIELD_KEY,
    PARAM_PREFIX,
)
from harness_stream.core.rules.mistakes import ERROR, WARNING, Code, Findings, closest
from harness_stream.core.rules.touched import WINDOW, error_places, parts_touched

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness_stream.core.rules.document import Item
    from harness_stream.core.rules.expression import Expression
    from harness_stream.core.rules.mistakes import Mistake
    from harness_stream.core.rules.parse import Correlation, Draft

_CHAIN: Final = "chain_id"
# A history that an agent sheds only helps it where more history makes the rule fire.
_FIRED_BY_HISTORY: Final = frozenset({"temporal", "temporal_ordered"})
_FIRED_BY_MORE: Final = frozenset({"gt", "gte", "eq", "neq"})
_CONDITION: Final = f"{WINDOW}.condition"
# What says whether a window holds: all but how far it looks back.
_WINDOW_MEANING: Final = frozenset(
    {f"{WINDOW}.", _CONDITION, *(f"{WINDOW}.{part}" for part in ("type", "rules", "group-by", "include"))}
)
_SUGGESTED: Final = re.compile(r"did you mean `([\w.]+)`")
_DECIDING: Final = frozenset({"", "effect", "mode"})


def lint(
    draft: Draft,
    selections: Mapping[str, Expression],
    conditions: Sequence[Expression | None],
    misread: Sequence[Mistake],
) -> None:
    """Adds every warning about the whole set to the draft's findings.

    Args:
        draft: what was read.
        selections: those that parse.
        conditions: each rule's `when`, None if it does not parse.
        misread: mistakes in place of which a stand-in was read; the others leave what was written as it is.
    """
    lint_ = _Lint(draft, selections, conditions, misread)
    lint_.approves()
    lint_.unused()
    for index in range(len(draft.rule_set.rules)):
        lint_.rule(index)
    lint_.overruled()


class _Lint:
    def __init__(
        self,
        draft: Draft,
        selections: Mapping[str, Expression],
        conditions: Sequence[Expression | None],
        misread: Sequence[Mistake],
    ) -> None:
        self._set, self._places = draft.rule_set, draft.places
        self._findings: Findings = draft.findings
        self._selections, self._conditions = selections, conditions
        self._misread = self._touched(misread)
        self._wrong = self._touched(draft.findings.all())
        errors = (mistake for mistake in draft.findings.all() if mistake.severity == ERROR)
        self._suggested = {word for mistake in errors for word in _SUGGESTED.findall(mistake.fix)}
        self._trees = trees = {name: expression.tree for name, expression in selections.items()}
        self._matched = {name: reach.meaning_of(tree, {}, DECISIONS_JUDGED) for name, tree in trees.items()}
        self._dead = {
            attempts: {name for name, tree in trees.items() if reach.meaning_of(tree, {}, decisions).truth is False}
            for attempts, decisions in ((False, DECISIONS_COUNTED), (True, frozenset(DECISIONS)))
        }
        self._when = [
            reach.meaning_of(condition.tree, trees, DECISIONS_JUDGED) if condition and "when" not in wrong else None
            for condition, wrong in zip(conditions, self._wrong, strict=True)
        ]
        self._window = [self._window_holds(index) for index in range(len(self._set.rules))]

    def _touched(self, mistakes: Iterable[Mistake]) -> list[frozenset[str]]:
        """The parts of each rule that an error stands in."""
        errors = error_places(mistakes)
        rules = [self._places["rules", index] for index in range(len(self._set.rules))]
        return [parts_touched(rule, errors) for rule in rules]

    def _window_holds(self, index: int) -> bool | None:
        """True without a window; None if it depends on the history, or is not understood."""
        window, when, wrong = self._set.rules[index].correlation, self._when[index], self._wrong[index]
        if window is None:
            return None if wrong & {"", WINDOW} else True
        if when is None or wrong & _WINDOW_MEANING:
            return None
        if not window.selections or not self._matched.keys() >= set(window.selections):
            return None
        if window.type in COUNTING and window.condition is None:
            return None
        own = [when.implies(self._matched[name]) for name in window.selections]
        dead = [name in self._dead[window.include_attempts] for name in window.selections]
        return reach.window_holds(window, own, dead)

    def _warn(self, item: Item, code: Code, message: str, fix: str) -> None:
        self._findings.on(item, message, fix, code=code, severity=WARNING)

    # --- the set ---

    def approves(self) -> None:
        """Zero trust needs a rule that approves."""
        approves = any(rule.effect == "approve" and rule.mode == "enforce" for rule in self._set.rules)
        if not approves and not self._findings.failed:
            message = "no rule approves, so everything is denied"
            fix = "add a rule with `effect: approve`"
            self._findings.at(1, 1, message, fix, WARNING, code=Code.NO_APPROVE)

    def unused(self) -> None:
        """Selections and parameters that nothing reads."""
        listed = {n for rule in self._set.rules if rule.correlation for n in rule.correlation.selections}
        expressions = [*self._selections.values(), *(c for c in self._conditions if c)]
        selections = listed | {name for expression in expressions for name in expression.uses.values()}
        params = {read.removeprefix(PARAM_PREFIX) for expression in expressions for read in expression.reads}
        params |= {ref for _, ref in self._thresholds()}
        # Whoever misspelt a name uses the one that is suggested for it.
        selections |= self._suggested
        params |= {word.removeprefix(PARAM_PREFIX) for word in self._suggested if word.startswith(PARAM_PREFIX)}
        kinds = (("selections", "selection", selections), ("params", "param", params))
        for key, what, used in kinds:
            names: Iterable[str] = self._set.selections if key == "selections" else self._set.params
            for name in names:
                self._unused(key, what, name, used)

    def _unused(self, key: str, what: str, name: str, used: set[str]) -> None:
        place = self._places.get((key,))
        # With mistakes elsewhere not every use was understood; a name that the text has only once is unused anyway.
        if name in used or place is None or (self._findings.failed and self._findings.mentions(name) > 1):
            return
        code = Code.UNUSED_SELECTION if what == "selection" else Code.UNUSED_PARAM
        self._warn(place.keys[name], code, f"the {what} `{name}` is not used by any rule", "remove it, or use it")

    def _thresholds(self) -> Iterator[tuple[int, str]]:
        """Rules whose window is compared with a parameter."""
        for index, rule in enumerate(self._set.rules):
            if rule.correlation and rule.correlation.condition:
                item = self._places.get(self._at(index, "condition", rule.correlation.condition.op))
                if item and isinstance(item.value, str):
                    yield index, item.value.removeprefix(PARAM_PREFIX)

    @staticmethod
    def _at(index: int, *keys: str | int) -> tuple[str | int, ...]:
        return ("rules", index, "correlation", *keys)

    # --- one rule ---

    def rule(self, index: int) -> None:
        """A rule that never fires, a window that decides nothing or not exactly, a history that can be shed."""
        rule, when, window = self._set.rules[index], self._when[index], self._set.rules[index].correlation
        never = when is not None and when.truth is False
        if never:
            self._never_true(index)
        if window is None:
            return
        unmatched = self._unmatched(index, window)
        if when is not None and not never and self._window[index] is not None and not unmatched:
            self._decides(index, window, when)
        self._exact(index, window)
        if rule.effect != "approve" and _CHAIN in window.group_by and self._fired_by_history(index, window):
            self._sheds_history(index, window)

    def _name(self, index: int, otherwise: str = "this rule") -> str:
        return otherwise if "id" in self._misread[index] else f"`{self._set.rules[index].id}`"

    def _never_true(self, index: int) -> None:
        condition = self._conditions[index]
        otherwise = condition and reach.meaning_of(condition.tree, self._trees).truth
        message = f"{self._name(index)} never fires: its condition is never true"
        if otherwise is not False:
            message += "; the intent that is judged reads as `approve`"
        fix = "remove the rule, or correct the condition"
        self._warn(self._places["rules", index, "when"], Code.NEVER_FIRES, message, fix)

    def _unmatched(self, index: int, window: Correlation) -> bool:
        """Points out selections that ask for denied events where none are counted; whether there are any."""
        unread = window.include_attempts or self._misread[index] & {f"{WINDOW}.", f"{WINDOW}.include"}
        names = set() if unread else self._dead[False] - self._dead[True]
        found = [(position, name) for position, name in enumerate(window.selections) if name in names]
        for position, name in found:
            message = f"`{name}` matches nothing here: it asks for denied events, and this window does not count them"
            fix = "add `include: attempts` to the window"
            self._warn(self._place(index, "rules", position), Code.NEVER_MATCHES, message, fix)
        return bool(found)

    def _decides(self, index: int, window: Correlation, when: reach.Meaning) -> None:
        """A window whose condition is settled whatever happened before."""
        counting = window.type in COUNTING
        own = any(when.implies(self._matched[name]) for name in window.selections)
        why = "the intent that is judged is one of its events" if own else "no history can change that"
        fix = "compare with another number" if counting else "list selections that `when` does not imply"
        place = self._place(index, "condition" if counting else "rules")
        if self._window[index]:
            self._warn(place, Code.ALWAYS_HOLDS, f"this window always holds: {why}", f"{fix}, or remove the window")
        else:
            message = f"{self._name(index)} never fires: its window never holds, {why}"
            self._warn(place, Code.NEVER_FIRES, message, f"{fix}, or remove the rule")

    def _exact(self, index: int, window: Correlation) -> None:
        """Beyond the bound a window knows only how many there are at least (DESIGN §5)."""
        condition = window.condition
        if window.type != "value_count" or condition is None or _CONDITION in self._misread[index]:
            return
        decisive = condition.threshold + (condition.op in {"gt", "lte"})
        if decisive > WINDOW_VALUES_MAX:
            message = (
                f"beyond {WINDOW_VALUES_MAX:,} different values a window is an interval: "
                "deny and hold rules then fire as unknown, approve rules do not"
            )
            fix = f"compare with less than {WINDOW_VALUES_MAX:,}, or group more finely"
            self._warn(self._place(index, "condition", condition.op), Code.INEXACT, message, fix)

    def _fired_by_history(self, index: int, window: Correlation) -> bool:
        """Whether more history makes the window hold, as far as what was read tells."""
        if window.type in _FIRED_BY_HISTORY:
            return True
        return window.type in COUNTING and self._operator(index, window) in _FIRED_BY_MORE

    def _operator(self, index: int, window: Correlation) -> str:
        """How a window compares, whatever it is compared with; empty if that is not sure."""
        item = self._places.get(self._at(index, "condition"))
        if window.condition is None or item is None or not isinstance(item.value, dict):
            return ""
        meant = {closest(key, CONDITION_KEYS) for key in item.value} - {FIELD_KEY}
        sure = window.condition.op in item.value and meant == {window.condition.op}
        return window.condition.op if sure else ""

    def _sheds_history(self, index: int, window: Correlation) -> None:
        twin = any(self._may_be_twin(window, other) for other in range(len(self._set.rules)))
        if not twin:
            position = window.group_by.index(_CHAIN)
            message = f"an agent sheds the history that {self._name(index)} looks at with every new chain"
            fix = "group by `agent_id` instead, or add a second rule that does"
            self._warn(self._place(index, "group-by", position), Code.CHAIN_ONLY, message, fix)

    def _may_be_twin(self, window: Correlation, index: int) -> bool:
        """Whether a rule keeps, of all chains together, the history that a window keeps of one; or may be meant to."""
        other, misread = self._set.rules[index], self._misread[index]
        theirs = other.correlation
        if theirs is None:
            return WINDOW in misread
        names = set(theirs.selections)
        return (
            (other.effect != "approve" or "effect" in misread)
            and (other.mode == "enforce" or "mode" in misread)
            and _CHAIN not in theirs.group_by
            and (theirs.type == window.type or f"{WINDOW}.type" in misread)
            and (names == set(window.selections) or f"{WINDOW}.rules" in misread)
        )

    def _place(self, index: int, *keys: str | int) -> Item:
        """The item behind a part of a window, else of the window."""
        places = self._places
        return places.get(self._at(index, *keys)) or places.get(self._at(index, keys[0])) or places[self._at(index)]

    # --- rules against each other ---

    def overruled(self) -> None:
        """Approves and holds that an enforced deny always beats."""
        rules = self._set.rules
        clear = [not wrong & _DECIDING for wrong in self._wrong]
        denies = [i for i, rule in enumerate(rules) if clear[i] and rule.effect == "deny" and rule.mode == "enforce"]
        for index, rule in enumerate(rules):
            if not clear[index] or rule.effect == "deny" or rule.mode != "enforce" or self._never(index):
                continue
            by = next((other for other in denies if self._beats(other, index)), None)
            item = self._places.get(("rules", index, "when"))
            if by is not None and item:
                self._overruled(item, index, by)

    def _overruled(self, item: Item, index: int, by: int) -> None:
        deny, place, when = self._set.rules[by], self._places.get(("rules", by, "when")), self._when[by]
        name, effect = self._name(index), self._set.rules[index].effect
        always = when is not None and when.truth is True and not deny.correlation
        what = "denies every intent" if always else f"denies whatever {name} would {effect}"
        where = f" (line {place.line})" if place else ""
        message = f"{name} never decides: {self._name(by, 'another rule')}{where} {what}"
        self._warn(item, Code.OVERRULED, message, "deny wins: narrow the deny rule, or remove this one")

    def _never(self, index: int) -> bool:
        when = self._when[index]
        return when is None or when.truth is False or self._window[index] is False

    def _beats(self, deny: int, index: int) -> bool:
        theirs, ours = self._when[deny], self._when[index]
        if theirs is None or ours is None or self._never(deny) or not ours.implies(theirs):
            return False
        if self._window[deny]:
            return True
        window = self._set.rules[deny].correlation
        if any(part.startswith(WINDOW) for part in self._wrong[deny] | self._wrong[index]):
            return False
        return reach.holds_wherever(window, self._set.rules[index].correlation)
