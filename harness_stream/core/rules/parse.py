"""A rule text as data: `RuleSet`, `Rule`, `Correlation`, `Condition`, and where each of them stood.

Rule: this file knows the shape (keys, types, sizes, references to parameters), `check.py` knows the meaning. Reading
goes on after a mistake with a harmless stand-in, so that one look finds them all; nothing with a mistake is returned.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from harness_stream.core.rules.document import Item, read_json, read_yaml
from harness_stream.core.rules.language import (
    BECAUSE_CHARS_MAX,
    CONDITION_KEYS,
    EFFECTS,
    FIELD_KEY,
    GROUP_BY_MAX,
    IDENTIFIER_PATTERN,
    INTEGER_MAX,
    MODES,
    NAME_CHARS_MAX,
    NAME_PATTERN,
    OBLIGATION_CHARS_MAX,
    OBLIGATIONS_MAX,
    OPERATORS,
    PARAM_PREFIX,
    PARAMS_MAX,
    RESERVED,
    RULE_KEYS,
    RULE_REQUIRED,
    RULES_MAX,
    SELECTION_RESERVED,
    SELECTIONS_MAX,
    SET_KEYS,
    SET_REQUIRED,
    SEVERITIES,
    TEXT_BYTES_MAX,
    TIMESPAN_PATTERN,
    TIMESPAN_UNITS_MS,
    WINDOW_KEYS,
    WINDOW_REQUIRED,
    WINDOW_SELECTIONS_MAX,
    WINDOW_TYPES,
    Obligation,
    Scalar,
)
from harness_stream.core.rules.mistakes import Code, Findings, Mistake, did_you_mean
from harness_stream.core.rules.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Condition", "Correlation", "Draft", "Mistake", "Rule", "RuleSet", "parse", "read", "read_bundle"]

Path = tuple[str | int, ...]

_IDENTIFIER: Final = re.compile(IDENTIFIER_PATTERN)
_NAME: Final = re.compile(NAME_PATTERN)
_TIMESPAN: Final = re.compile(TIMESPAN_PATTERN)
_NO_TIME: Final = re.compile(r"0+[smhd]")


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of what a window counted.

    Attributes:
        op: gt, gte, lt, lte, eq or neq.
        threshold: parameters are already put in.
        field: path of the event that is counted or summed, without prefix; None for `event_count`.
    """

    op: str
    threshold: int | float
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Correlation:
    """A window over the history (DESIGN §6).

    Attributes:
        type: event_count, value_count, value_sum, temporal, temporal_ordered or absent.
        selections: names of the selections it listens to.
        group_by: paths of the event, without prefix; empty means the lane.
        timespan_ms: length, both ends included.
        include_attempts: whether denied events count as well.
        condition: None for temporal, temporal_ordered and absent.
    """

    type: str
    selections: tuple[str, ...]
    group_by: tuple[str, ...]
    timespan_ms: int
    include_attempts: bool
    condition: Condition | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule.

    Attributes:
        id: unique in its set.
        effect: approve, deny or hold.
        when: condition on the intent, as written.
        mode: enforce or shadow (recorded only).
        because: what the agent's owner reads; may be empty.
        severity: informational, low, medium, high or critical.
        correlation: the window, if any; the rule fires if `when` and the window's condition hold.
        obligations: what an approve asks of the enforcement point.
    """

    id: str
    effect: str
    when: str
    mode: str = "enforce"
    because: str = ""
    severity: str = "medium"
    correlation: Correlation | None = None
    obligations: Mapping[str, Obligation] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class RuleSet:
    """A rule set with its parameters put in.

    Attributes:
        name: of the set.
        default: always deny.
        params: the knobs, overrides applied.
        selections: name to expression, in the order of the text.
        rules: in the order of the text.
        source: the text it was read from.
    """

    name: str
    default: str
    params: Mapping[str, Scalar]
    selections: Mapping[str, str]
    rules: tuple[Rule, ...]
    source: str = field(compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Draft:
    """What could be read of a text, for `check.py`: whole only if findings holds no error.

    Attributes:
        rule_set: with stand-ins where the text was wrong.
        places: the item behind ("selections",), ("selections", name), ("rules", index), ("rules", index, "when"),
            ("rules", index, "correlation", key), …
        findings: mistakes so far.
    """

    rule_set: RuleSet
    places: Mapping[Path, Item]
    findings: Findings


def parse(
    text: str, file: str = "<rules>", overrides: Mapping[str, Scalar] | None = None
) -> tuple[RuleSet | None, tuple[Mistake, ...]]:
    """Reads the shape of a rule text; expressions and windows are checked by `compile.load`.

    Args:
        text: YAML, at most 256 KiB.
        file: name used in mistakes.
        overrides: parameters to set instead of the text's values.

    Returns:
        The rule set, or None if any mistake is an error; and every mistake. Never raises for any text.
    """
    findings = Findings(text, file)
    draft = read(text, findings, overrides or {})
    return (draft.rule_set if draft and not findings.failed else None), findings.all()


def read(text: str, findings: Findings, overrides: Mapping[str, Scalar]) -> Draft | None:
    """Like `parse`, for the checks that follow. None: nothing of the text is usable."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TEXT_BYTES_MAX:
        message = f"{size:,} bytes; a rule set has at most {TEXT_BYTES_MAX:,}"
        findings.at(1, 1, message, "split the rule set", code=Code.LIMIT)
        return None
    root = read_yaml(text, findings)
    if root is not None and isinstance(root.value, dict) and "cases" in root.value and "rule_set" not in root.value:
        item = root.keys["cases"]
        findings.on(
            item, "this is a cases file, not a rule set", "run it by `harness rules test`", code=Code.UNKNOWN_KEY
        )
        return None
    return None if root is None else _Reader(findings, overrides).rule_set(root, text)


def read_bundle(bundle: bytes, findings: Findings) -> Draft | None:
    """Reads the canonical bytes of a bundle by the same rules as a text."""
    if len(bundle) > TEXT_BYTES_MAX:
        message = f"{len(bundle):,} bytes; a bundle has at most {TEXT_BYTES_MAX:,}"
        findings.at(1, 1, message, "split the rule set", code=Code.LIMIT)
        return None
    root = read_json(bundle, findings)
    return None if root is None else _Reader(findings, {}).rule_set(root, bundle.decode())


class _Reader(Shape):
    """Turns items into data; whatever is wrong becomes a finding and a stand-in."""

    def __init__(self, findings: Findings, overrides: Mapping[str, Scalar]) -> None:
        super().__init__(findings, "rule set")
        self._overrides = overrides
        self._params: dict[str, Scalar] = {}
        self._places: dict[Path, Item] = {}

    # --- the set ---

    def rule_set(self, root: Item, source: str) -> Draft:
        keys = self.mapping(root, SET_KEYS, SET_REQUIRED, "the rule set")
        name = self._name(keys.get("rule_set"), "rule_set") or "unnamed"
        self._default(keys.get("default"))
        self._read_params(keys.get("params"), root)
        selections = self._selections(keys.get("selections"))
        rules = self._rules(keys.get("rules"))
        proxy = MappingProxyType(dict(self._params))
        rule_set = RuleSet(name, "deny", proxy, MappingProxyType(selections), rules, source)
        return Draft(rule_set, self._places, self.findings)

    def _default(self, item: Item | None) -> None:
        if item is not None and item.value != "deny":
            self.wrong(item, Code.BAD_VALUE, "`default` is always `deny`", "write `default: deny` and approve by rules")

    def _read_params(self, item: Item | None, root: Item) -> None:
        entries = self.entries(item, "params", PARAMS_MAX)
        if item is not None and entries:
            self._places["params",] = item
        for name, value in entries.items():
            if self._usable(item, name, "a parameter", RESERVED):
                self._params[name] = self.scalar(value, f"params.{name}")
                self._places["params", name] = value
        for name, override in self._overrides.items():
            self._override(name, override, entries.get(name), root.keys.get("params", root))

    def _override(self, name: str, value: Scalar, declared: Item | None, where: Item) -> None:
        if declared is None or name not in self._params:
            message = f"`--set {name}`: there is no parameter `{name}`"
            fix = did_you_mean(name, self._params) if self._params else "leave it out: this set has no params"
            self.wrong(where, Code.SETTING, message, fix)
            return
        default = self._params[name]
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if _sort(value) != _sort(default):
            message = f"`--set {name}`: `params.{name}` is a {_sort(default)}, and this is a {_sort(value)}"
            self.wrong(declared, Code.SETTING, message, f"give a {_sort(default)}, like {default!r}")
        elif isinstance(value, int | float) and not abs(value) <= INTEGER_MAX:
            fix = f"use a number between ±{INTEGER_MAX}"
            self.wrong(declared, Code.SETTING, f"`--set {name}`: out of range", fix)
        else:
            self._params[name] = value

    def _selections(self, item: Item | None) -> dict[str, str]:
        found = {}
        entries = self.entries(item, "selections", SELECTIONS_MAX)
        if item is not None and entries:
            self._places["selections",] = item
        for name, value in entries.items():
            if self._usable(item, name, "a selection", SELECTION_RESERVED):
                found[name] = self._expression(value, ("selections", name))
        return found

    def _usable(self, item: Item | None, name: str, what: str, taken: frozenset[str]) -> bool:
        """Whether a name can stand in an expression."""
        key = item.keys[name] if item else Item(name)
        if not _IDENTIFIER.fullmatch(name) or len(name) > NAME_CHARS_MAX:
            fix = f"use letters, digits and `_`, at most {NAME_CHARS_MAX}, such as `reads_pii`"
            self.wrong(key, Code.BAD_NAME, f"`{name[:NAME_CHARS_MAX]}` cannot name {what}", fix)
            return False
        if name in taken:
            message = f"`{name}` cannot name {what}: the word has a meaning already"
            self.wrong(key, Code.BAD_NAME, message, "choose another name")
            return False
        return True

    # --- rules ---

    def _rules(self, item: Item | None) -> tuple[Rule, ...]:
        if item is None:
            return ()
        elements = self.sequence(item, "`rules` is a list of rules", "start each rule with `- id: NAME`")
        if len(elements) > RULES_MAX:
            message = f"{len(elements):,} rules; the limit is {RULES_MAX:,}"
            self.wrong(item, Code.LIMIT, message, "split the rule set")
            return ()
        return tuple(self._rule(element, index) for index, element in enumerate(elements))

    def _rule(self, item: Item, index: int) -> Rule:
        keys = self.mapping(item, RULE_KEYS, RULE_REQUIRED, "a rule")
        self._places["rules", index] = item
        for key, value in keys.items():
            self._places["rules", index, key] = value
        when = keys.get("when")
        effect = self.word(keys.get("effect"), EFFECTS, "effect", "approve")  # of an approve nothing else is refused
        return Rule(
            id=self._name(keys.get("id"), "id"),
            effect=effect,
            when="true" if when is None else self._expression(when, ("rules", index, "when")),
            mode=self.word(keys.get("mode"), MODES, "mode", "enforce"),
            because=self._because(keys.get("because")),
            severity=self.word(keys.get("severity"), SEVERITIES, "severity", "medium"),
            correlation=self._correlation(keys.get("correlation"), index),
            obligations=self._obligations(keys.get("obligations"), effect),
        )

    def _because(self, item: Item | None) -> str:
        if item is None:
            return ""
        text = self.text(item, "because")
        if len(text) > BECAUSE_CHARS_MAX:
            message = f"`because` has {len(text)} characters; the limit is {BECAUSE_CHARS_MAX}"
            self.wrong(item, Code.LIMIT, message, "verdicts carry it: say it in one line")
        return text

    def _obligations(self, item: Item | None, effect: str) -> Mapping[str, Obligation]:
        if item is not None and effect != "approve":
            message = f"a {effect} rule carries no obligations"
            self.wrong(item, Code.BAD_VALUE, message, "move them to the rule that approves")
        found: dict[str, Obligation] = {}
        for name, value in self.entries(item, "obligations", OBLIGATIONS_MAX).items():
            parts = value.value if isinstance(value.value, list) else [value]
            scalars = tuple(self.scalar(part, f"obligations.{name}") for part in parts)
            chars = len(name) + sum(len(str(scalar)) for scalar in scalars)
            if len(name) > NAME_CHARS_MAX or chars > OBLIGATION_CHARS_MAX:
                message = f"an obligation has at most {OBLIGATION_CHARS_MAX} characters, name and values together"
                self.wrong(value, Code.LIMIT, message, "verdicts carry it: shorten it")
            found[name] = scalars if isinstance(value.value, list) else scalars[0]
        return MappingProxyType(found)

    # --- windows ---

    def _correlation(self, item: Item | None, index: int) -> Correlation | None:
        if item is None:
            return None
        keys = self.mapping(item, WINDOW_KEYS, WINDOW_REQUIRED, "a correlation")
        for key, value in keys.items():
            self._places["rules", index, "correlation", key] = value
        return Correlation(
            type=self.word(keys.get("type"), WINDOW_TYPES, "type", ""),
            selections=self._names(keys.get("rules"), "rules", WINDOW_SELECTIONS_MAX, index),
            group_by=self._names(keys.get("group-by"), "group-by", GROUP_BY_MAX, index),
            timespan_ms=self._timespan(keys.get("timespan")),
            include_attempts=self._include(keys.get("include")),
            condition=self._condition(keys.get("condition"), index),
        )

    def _names(self, item: Item | None, key: str, most: int, index: int) -> tuple[str, ...]:
        if item is None:
            return ()
        elements = self.sequence(item, f"`{key}` is a list of names", f"write `{key}: [NAME, …]`")
        if len(elements) > most:
            message = f"`{key}` lists {len(elements)} names; the limit is {most}"
            self.wrong(item, Code.LIMIT, message, "split the rule")
        names: list[str] = []
        for element in elements[:most]:
            name = self.text(element, key)
            if element.value == "":
                self.wrong(element, Code.BAD_NAME, f"`{key}` lists an empty name", "remove it, or name something")
            if name in names:
                self.wrong(element, Code.LISTED_TWICE, f"`{name}` is listed twice", "list it once")
            elif name:
                self._places["rules", index, "correlation", key, len(names)] = element
                names.append(name)
        return tuple(names)

    def _timespan(self, item: Item | None) -> int:
        found = _TIMESPAN.fullmatch(item.value) if item and isinstance(item.value, str) else None
        if found:
            return int(found[1]) * TIMESPAN_UNITS_MS[found[2]]
        if item:
            fix = "write a whole number of at least 1 with s, m, h or d: `30s`, `5m`, `24h`, `1d`"
            what = "is not a duration" if _NO_TIME.fullmatch(str(item.value)) is None else "is no time at all"
            self.wrong(item, Code.BAD_VALUE, f"`timespan` {what}", fix)
        return TIMESPAN_UNITS_MS["s"]

    def _include(self, item: Item | None) -> bool:
        if item is not None and item.value != "attempts":
            fix = "write `include: attempts` to count denied events too, or leave it out"
            self.wrong(item, Code.UNKNOWN_WORD, "`include` knows one word: `attempts`", fix)
        return item is not None

    def _condition(self, item: Item | None, index: int) -> Condition | None:
        if item is None:
            return None
        keys = self.mapping(item, CONDITION_KEYS, (), "a condition")
        for key, value in keys.items():
            self._places["rules", index, "correlation", "condition", key] = value
        path = self.text(keys[FIELD_KEY], FIELD_KEY) if FIELD_KEY in keys else None
        operators = [key for key in keys if key in OPERATORS]
        understood = isinstance(item.value, dict) and len(keys) == len(item.value)
        if len(operators) > 1 or (understood and not operators):
            fix = "write one of gt, gte, lt, lte, eq, neq, such as `condition: {gt: 10}`"
            message = f"a condition has exactly one operator, this one has {len(operators)}"
            self.wrong(item, Code.WINDOW_CONDITION, message, fix)
        op = operators[0] if operators else "gt"
        return Condition(op, self._threshold(keys[op]) if operators else 0, path or None)

    def _threshold(self, item: Item) -> int | float:
        value = item.value
        if isinstance(value, str) and value.startswith(PARAM_PREFIX):
            return self._param_threshold(item, value.removeprefix(PARAM_PREFIX))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        fix = "write `gt: 10` or `gt: params.max_rows`"
        self.wrong(item, Code.WRONG_TYPE, "a threshold is a number or `params.NAME`", fix)
        return 0

    def _param_threshold(self, item: Item, name: str) -> int | float:
        value = self._params.get(name)
        if name not in self._params:
            fix = did_you_mean(name, self._params, prefix="params.")
            self.wrong(item, Code.UNKNOWN_PARAM, f"unknown parameter `params.{name}`", fix)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            message = f"`params.{name}` is a {_sort(value)}, not a number"
            self.wrong(item, Code.WRONG_TYPE, message, "compare with a number")
        else:
            return value
        return 0

    # --- values ---

    def _expression(self, item: Item, path: Path) -> str:
        """An expression keeps its place only if it is a text, so that nothing checks a stand-in."""
        if isinstance(item.value, str):
            self._places[path] = item
            return item.value
        self._places.pop(path, None)
        if isinstance(item.value, bool):
            fix = f'write "{str(item.value).lower()}" in quotes'
        else:
            fix = 'write a condition, such as `intent.action == "crm.read"`'
        self.wrong(item, Code.WRONG_TYPE, "a condition is a text in CEL", fix)
        return "true"

    def _name(self, item: Item | None, key: str) -> str:
        if item is None:
            return ""
        text = self.text(item, key)
        if isinstance(item.value, str) and not (_NAME.fullmatch(text) and len(text) <= NAME_CHARS_MAX):
            fix = f"use letters, digits, `-`, `_` and `.`, at most {NAME_CHARS_MAX}, such as `bulk-export`"
            self.wrong(item, Code.BAD_NAME, f"`{text[:NAME_CHARS_MAX]}` is not a name", fix)
        return text


def _sort(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "number" if isinstance(value, int | float) else "text"
