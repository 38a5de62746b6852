"""What a rule set means, checked before it may run: selections, conditions, windows.

Rule: whatever could only fail at run time is refused here, with its place and a fix (DESIGN §6). A rule set that passes
can still meet an absent row or a spent budget; such a rule denies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness_stream.core.rules.budget import Budget
from harness_stream.core.rules.cel import Parser, Runtime, TypeChecker
from harness_stream.core.rules.cost import Cost, shapes_of
from harness_stream.core.rules.expression import Expression, Scope, understand
from harness_stream.core.rules.language import (
    CONDITION_KEYS,
    COUNTING,
    EXPRESSION_CHARS_MAX,
    FIELD_KEY,
    FIELDS,
    GROUP_PATHS,
    MEASURE_PREFIX,
    OPERATOR_WORDS,
    ROOTS,
    SELECTION_ROOTS,
    TIMESPAN_MS_MAX,
    WIDER_THAN_LANE,
    param_kind,
)
from harness_stream.core.rules.lint import lint
from harness_stream.core.rules.mistakes import Code, Findings, closest, did_you_mean
from harness_stream.core.rules.parts import bracketed, put_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cel_expr_python import cel

    from harness_stream.core.rules.document import Item
    from harness_stream.core.rules.language import Kind
    from harness_stream.core.rules.parse import Correlation, Draft, Path, Rule


_KIND_WORDS: Final = {"int": "a whole number", "bool": "true or false", "list of strings": "a list"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A rule set ready to run.

    Attributes:
        runtime: the CEL environment its programs belong to.
        selections: by name, in alphabetical order.
        conditions: each rule's `when`.
        selection_programs: in the order of the selections.
        texts: each rule's `when` with its selections put in and `intent` for `event`.
        programs: those texts, compiled.
    """

    runtime: Runtime
    selections: Mapping[str, Expression]
    conditions: tuple[Expression, ...]
    selection_programs: tuple[cel.Expression, ...]
    texts: tuple[str, ...]
    programs: tuple[cel.Expression, ...]


def check(draft: Draft, *, timespan_ms_max: int = TIMESPAN_MS_MAX) -> Checked | None:
    """Checks all expressions and windows; mistakes go to the draft's findings.

    Args:
        draft: what `parse.read` returned.
        timespan_ms_max: `topics.max_timespan`, the longest window the log can rebuild.

    Returns:
        The programs, or None if there is any error.
    """
    pass_ = _Pass(draft, timespan_ms_max)
    pass_.selections()
    conditions = [pass_.condition(index) for index in range(len(draft.rule_set.rules))]
    for index, rule in enumerate(draft.rule_set.rules):
        pass_.window(index, rule)
    pass_.ids()
    return pass_.finish(conditions)


def expanded(expression: Expression, selections: Mapping[str, Expression]) -> str:
    """The text with every selection replaced by its own text, and every function of ours by its look-up."""
    words = {at: (name, bracketed(selections[name].text)) for at, name in expression.uses.items()}
    return put_in(expression.text, words, expression.calls)


def of_intent(expression: Expression, selections: Mapping[str, Expression]) -> str:
    """The same, and `event` is read as `intent`: they are one view, and CEL would convert each of the two maps."""
    words = {at: (name, bracketed(_intents(selections[name]))) for at, name in expression.uses.items()}
    return put_in(expression.text, words | dict.fromkeys(expression.events, ("event", "intent")), expression.calls)


def _intents(selection: Expression) -> str:
    return put_in(selection.text, dict.fromkeys(selection.events, ("event", "intent")), {})


class _Pass:
    def __init__(self, draft: Draft, timespan_ms_max: int) -> None:
        self._draft = draft
        self._set = draft.rule_set
        self._findings: Findings = draft.findings
        self._misread = draft.findings.all()
        self._timespan_ms_max = timespan_ms_max
        self._parser = Parser()
        self._runtime = Runtime()
        self._shapes = shapes_of(draft.rule_set.params)
        self._selections: dict[str, Expression] = {}
        self._when: Scope | None = None
        self._budget = Budget(draft.findings)

    def _fields(self, roots: frozenset[str]) -> dict[str, Kind]:
        params = {f"params.{name}": param_kind(value) for name, value in self._set.params.items()}
        return {name: kind for name, kind in FIELDS.items() if name.partition(".")[0] in roots} | params

    def selections(self) -> None:
        fields = self._fields(SELECTION_ROOTS)
        names = frozenset(self._set.selections)
        scope = Scope(fields, SELECTION_ROOTS, {}, TypeChecker(fields), self._parser, self._shapes, names)
        for name in self._set.selections:
            if expression := self._understood(("selections", name), scope):
                self._selections[name] = expression

    def condition(self, index: int) -> Expression | None:
        return self._understood(("rules", index, "when"), self._when_scope())

    def _understood(self, path: Path, scope: Scope) -> Expression | None:
        """Checks the expression that stands there, unless the set is too large already."""
        item, part = self._draft.places.get(path), str(path[0])
        if item is None or self._budget.refuses(item, part):
            return None
        expression = understand(item, scope, self._findings)
        if expression:
            once = part == "rules" and not expression.varies(self._when_scope().selections)
            self._budget.add(item, part, expression.cost, once=once)
        return expression

    def _when_scope(self) -> Scope:
        if self._when is None:
            fields = self._fields(ROOTS)
            # A selection that does not parse is a mistake once, where it stands, and not in every rule that uses it.
            missing = {name: _stand_in(self._parser) for name in self._set.selections if name not in self._selections}
            checker = TypeChecker(fields, tuple(self._set.selections))
            self._when = Scope(fields, ROOTS, self._selections | missing, checker, self._parser, self._shapes)
        return self._when

    # --- windows ---

    def window(self, index: int, rule: Rule) -> None:
        if rule.correlation is None:
            return
        self._listed_selections(index, rule.correlation)
        for position, path in enumerate(rule.correlation.group_by):
            self._group(self._place(index, "group-by", position), path)
        if rule.correlation.timespan_ms > self._timespan_ms_max:
            longest = f"{self._timespan_ms_max // 1000:,} s"
            message = f"the longest window is {longest} (`topics.max_timespan`)"
            fix = "shorten it, or raise the setting and the topics' retention"
            self._wrong(self._place(index, "timespan"), Code.LONG_WINDOW, message, fix)
        if rule.correlation.type in COUNTING:
            self._counting(index, rule, rule.correlation)
        elif rule.correlation.type and rule.correlation.condition is not None:
            message = f"a `{rule.correlation.type}` window has no condition"
            fix = f"remove it, or use {', '.join(COUNTING)}"
            self._wrong(self._place(index, "condition"), Code.WINDOW_CONDITION, message, fix)

    def _listed_selections(self, index: int, window: Correlation) -> None:
        place = self._draft.places.get(("rules", index, "correlation", "rules"))
        if place is not None and place.value == []:
            self._wrong(place, Code.MISSING_KEY, "`rules` lists no selection", "name at least one selection")
        for position, name in enumerate(window.selections):
            if name not in self._set.selections:
                fix = did_you_mean(name, self._set.selections)
                place = self._place(index, "rules", position)
                self._wrong(place, Code.UNKNOWN_SELECTION, f"unknown selection `{name}`", fix)

    def _group(self, item: Item, path: str) -> None:
        if path in GROUP_PATHS:
            return
        if path in WIDER_THAN_LANE:
            fix = "group by `tenant` at most, or leave `group-by` out for the whole lane"
            self._wrong(item, Code.WIDE_GROUP, f"`{path}` is wider than a lane", fix)
        else:
            self._path(item, path, "group by")

    def _path(self, item: Item, path: str, what: str) -> None:
        bare = path.removeprefix("event.").removeprefix("intent.")
        if bare != path and bare in GROUP_PATHS:
            self._wrong(item, Code.BAD_PATH, "paths of the event have no prefix here", f"write `{bare}`")
        elif f"event.{path}" in FIELDS:
            kind = FIELDS[f"event.{path}"].value
            message = f"`{path}` holds {_KIND_WORDS.get(kind, kind)}; one can only {what} a text"
            self._wrong(item, Code.BAD_PATH, message, did_you_mean(path, GROUP_PATHS))
        else:
            self._wrong(item, Code.BAD_PATH, f"`{path}` is not a path of the event", did_you_mean(path, GROUP_PATHS))

    def _counting(self, index: int, rule: Rule, window: Correlation) -> None:
        condition = window.condition
        if condition is None:
            place = self._draft.places["rules", index, "correlation"]
            fix = "add `condition: {gt: 10}`"
            self._wrong(place, Code.WINDOW_CONDITION, f"`{window.type}` needs a condition", fix)
            return
        if condition.op == "eq" and rule.effect != "approve":
            message = f"`eq` in a {rule.effect} window lets the next number through"
            operator = self._place(index, "condition").keys["eq"]
            self._wrong(operator, Code.EQ_LETS_THROUGH, message, "write `gte`")
        if condition.threshold < 0:
            often = "always" if condition.op in {"gt", "gte", "neq"} else "never"
            compared = f"{OPERATOR_WORDS[condition.op]} {condition.threshold}"
            message = f"what is counted or summed is {often} {compared}: it is not negative"
            place = self._place(index, "condition", condition.op)
            self._wrong(place, Code.NEGATIVE_COUNT, message, "compare with 0 or more")
        self._counted(index, window.type, condition.field)

    def _counted(self, index: int, kind: str, path: str | None) -> None:
        if kind == "event_count":
            if path is not None:
                place, message = self._place(index, "condition", "field"), "`event_count` counts events, not a field"
                self._wrong(
                    place, Code.WINDOW_CONDITION, message, "remove `field`, or use `value_count` or `value_sum`"
                )
        elif path is None:
            item = self._place(index, "condition")
            unknown = set(item.value) - set(CONDITION_KEYS) if isinstance(item.value, dict) else {FIELD_KEY}
            if FIELD_KEY not in {closest(key, CONDITION_KEYS) for key in unknown}:
                fix = f"add `field: {'measures.rows' if kind == 'value_sum' else 'resource.uri'}`"
                self._wrong(item, Code.WINDOW_CONDITION, f"`{kind}` needs a field", fix)
        elif not _is_measure(path):
            self._text_field(self._place(index, "condition", "field"), kind, path)

    def _text_field(self, item: Item, kind: str, path: str) -> None:
        if kind == "value_sum":
            fix = "sum a measure, such as `measures.rows`"
            self._wrong(item, Code.BAD_PATH, f"`{path}` cannot be summed", fix)
        elif path not in GROUP_PATHS:
            self._path(item, path, "count")

    def _place(self, index: int, key: str, *more: str | int) -> Item:
        """The item behind a part of a window, else of the window."""
        places = self._draft.places
        exact = places.get(("rules", index, "correlation", key, *more))
        return exact or places.get(("rules", index, "correlation", key)) or places["rules", index, "correlation"]

    def _wrong(self, item: Item, code: Code, message: str, fix: str) -> None:
        self._findings.on(item, message, fix, code=code)

    # --- the whole ---

    def ids(self) -> None:
        first: dict[str, int] = {}
        for index, rule in enumerate(self._set.rules):
            item = self._draft.places.get(("rules", index, "id"))
            if item and rule.id in first:
                message = f"the id `{rule.id}` is taken (line {first[rule.id]})"
                self._wrong(item, Code.DUPLICATE_ID, message, "verdicts name rules by id: choose another")
            elif item:
                first[rule.id] = item.line

    def finish(self, conditions: list[Expression | None]) -> Checked | None:
        self._budget.close()
        lint(self._draft, self._selections, conditions, self._misread)
        if self._findings.failed:
            return None
        known = tuple(condition for condition in conditions if condition)
        selections = dict(sorted(self._selections.items()))
        listening = [self._program(s.text, self._draft.places["selections", name]) for name, s in selections.items()]
        judging = [self._condition_program(index, condition) for index, condition in enumerate(known)]
        if self._findings.failed:
            return None
        return Checked(
            self._runtime,
            selections,
            known,
            tuple(program for program in listening if program),
            tuple(text for text, _ in judging),
            tuple(program for _, program in judging if program),
        )

    def _condition_program(self, index: int, condition: Expression) -> tuple[str, cel.Expression | None]:
        """What a rule's `when` comes to, and its program if it can have one."""
        item = self._draft.places["rules", index, "when"]
        length = len(expanded(condition, self._selections))
        if length > EXPRESSION_CHARS_MAX:
            message = f"{length:,} characters with its selections put in; the limit is {EXPRESSION_CHARS_MAX:,}"
            self._wrong(item, Code.LIMIT, message, "split the rule")
            return "", None
        text = of_intent(condition, self._selections)
        return text, self._program(text, item)

    def _program(self, text: str, item: Item) -> cel.Expression | None:
        program = self._runtime.compile(text)
        if not isinstance(program, tuple):
            return program
        for complaint in program:
            self._wrong(item, Code.TYPE, f"with its selections put in: {complaint.message}", complaint.fix)
        return None


def _is_measure(path: str) -> bool:
    return path.startswith(MEASURE_PREFIX) and path.removeprefix(MEASURE_PREFIX).isidentifier()


def _stand_in(parser: Parser) -> Expression:
    tree = parser.tree("true")
    if isinstance(tree, tuple):
        raise TypeError("`true` is an expression")
    return Expression("true", tree, frozenset(), {}, loops=False, cost=Cost(1, 1, 0))
