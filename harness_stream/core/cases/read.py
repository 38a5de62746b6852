"""A cases file as data, and every mistake in it at its place.

Rule: reading never stops at the first mistake, and nothing with a mistake runs. What only the rule set knows (ids of
rules, names of parameters) is checked by `against`, what only the disk knows by whoever reads the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness_stream.core.cases.defaults import filled
from harness_stream.core.cases.events import EventReader, plain
from harness_stream.core.cases.model import Case, CaseFile, Expectation, Folder, InlineRow, Source, Step
from harness_stream.core.cases.timing import epoch_ms
from harness_stream.core.cases.words import (
    CASE_KEYS,
    CASE_REQUIRED,
    CASES_MAX,
    EVENTS_MAX,
    FILE_KEYS,
    FILE_REQUIRED,
    GIVEN_MAX,
    INTENT,
    NAME_CHARS_MAX,
    NOW_MS_DEFAULT,
    TEXT_BYTES_MAX,
)
from harness_stream.core.rules.document import Item, read_yaml
from harness_stream.core.rules.language import PARAMS_MAX, Scalar, param_kind
from harness_stream.core.rules.mistakes import Code, Findings, did_you_mean
from harness_stream.core.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.rules.parse import RuleSet


@dataclass(frozen=True, slots=True)
class Read:
    """What was read: whole only if `findings` holds no error."""

    cases: CaseFile | None
    findings: Findings


def read_cases(text: str, file: str = "<cases>") -> Read:
    """Reads a cases file; never raises for any text.

    Args:
        text: YAML, at most 1 MiB.
        file: name used in mistakes.
    """
    findings = Findings(text, file)
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > TEXT_BYTES_MAX:
        message = f"{size:,} bytes; a cases file has at most {TEXT_BYTES_MAX:,}"
        findings.at(1, 1, message, "split the file", code=Code.LIMIT)
        return Read(None, findings)
    root = read_yaml(text, findings, "cases file", "start with `rules: FILE` and `cases:`")
    if root is not None and isinstance(root.value, dict) and "rule_set" in root.value and "cases" not in root.value:
        fix = "check it by `harness rules check`, and give the file of its cases here"
        findings.on(root.keys["rule_set"], "this is a rule set, not a cases file", fix, code=Code.UNKNOWN_KEY)
        return Read(None, findings)
    return Read(None if root is None else _Reader(findings, "cases file").file(root), findings)


def against(cases: CaseFile, rule_set: RuleSet, findings: Findings) -> None:
    """Adds a mistake for every rule or parameter that the rule set does not have."""
    modes = {rule.id: rule.mode for rule in rule_set.rules}
    for case in cases.cases:
        for then in filter(None, (case.then, *(step.then for step in case.history))):
            _rules(then, modes, findings)
    for name, item in cases.params:
        _param(name, item, rule_set.params, findings)


def _rules(then: Expectation, modes: Mapping[str, str], findings: Findings) -> None:
    for name, item in then.places:
        mode = modes.get(name)
        if mode is None:
            findings.on(item, f"the rule set has no rule `{name}`", did_you_mean(name, modes), code=Code.UNKNOWN_RULE)
        elif name in then.rules and mode == "shadow":
            message = f"`{name}` is in shadow mode, so it never decides"
            findings.on(item, message, "list it under `shadow`", code=Code.BAD_VALUE)
        elif name in then.shadow and mode != "shadow":
            message = f"`{name}` is enforced, so it is never in shadow"
            findings.on(item, message, "list it under `rules`", code=Code.BAD_VALUE)


def _param(name: str, item: Item, params: Mapping[str, Scalar], findings: Findings) -> None:
    if name not in params:
        message = f"the rule set has no parameter `{name}`"
        findings.on(item, message, did_you_mean(name, params), code=Code.UNKNOWN_PARAM)
        return
    numbers = {kind for kind in (param_kind(item.value), param_kind(params[name])) if kind.value in {"int", "double"}}
    if param_kind(item.value) != param_kind(params[name]) and len(numbers) < 2:  # noqa: PLR2004  both are numbers
        message = f"`{name}` is {params[name]!r} in the rule set, and this is {item.value!r}"
        findings.on(item, message, "give a value of the same kind", code=Code.WRONG_TYPE)


def _nothing(item: Item) -> Step:
    """Stands for a judged event that is missing."""
    return Step(None, 0, INTENT, {"agent_id": "a", "action": "a.b"}, None, None, None, item)


class _Reader(EventReader):
    def file(self, root: Item) -> CaseFile:
        keys = self.mapping(root, FILE_KEYS, FILE_REQUIRED, "a cases file")
        rules = keys.get("rules", root)
        self._params: list[tuple[str, Item]] = []
        params = self._read_params(keys.get("params"))
        sources = self._sources(keys.get("tables"))
        now_ms = self._now(keys.get("now"), NOW_MS_DEFAULT)
        cases = self._cases(keys.get("cases"), params, sources, now_ms)
        path = self.text(rules, "rules") if "rules" in keys else ""
        return CaseFile(path, rules, tuple(self._params), tuple(cases))

    def _cases(
        self, item: Item | None, params: Mapping[str, Scalar], sources: tuple[Source, ...], now_ms: int
    ) -> list[Case]:
        if item is None:
            return []
        elements = self.sequence(item, "`cases` is a list of cases", "start each case with `- name: …`")
        if not elements and isinstance(item.value, list):
            self.wrong(item, Code.MISSING_KEY, "`cases` is empty", "add a case: `- {name: …, when: …, then: deny}`")
        if len(elements) > CASES_MAX:
            self.wrong(item, Code.LIMIT, f"{len(elements):,} cases; the limit is {CASES_MAX:,}", "split the file")
            return []
        cases = [self._case(element, params, sources, now_ms) for element in elements]
        self._unique(cases, elements)
        return cases

    def _unique(self, cases: list[Case], items: list[Item]) -> None:
        first: dict[str, int] = {}
        for case, item in zip(cases, items, strict=True):
            if case.name and case.name in first:
                message = f"the name `{case.name}` is taken (line {first[case.name]})"
                place = item.value.get("name", item) if isinstance(item.value, dict) else item
                self.wrong(place, Code.DUPLICATE_ID, message, "choose another: `-k` and coverage name cases by it")
            first.setdefault(case.name, case.line)

    def _case(self, item: Item, params: Mapping[str, Scalar], sources: tuple[Source, ...], now_ms: int) -> Case:
        keys = self.mapping(item, CASE_KEYS, CASE_REQUIRED, "a case")
        self.now_ms = self._now(keys.get("now"), now_ms)
        given = self._elements(keys.get("given"))
        history = [step for index, entry in enumerate(given) for step in self.given(entry, index)]
        if len(history) > EVENTS_MAX:
            message = f"{len(history):,} events; the limit is {EVENTS_MAX:,}"
            self.wrong(keys["given"], Code.LIMIT, message, "judge long histories by `harness replay`")
        when = self.judged(keys["when"], len(given)) if "when" in keys else _nothing(item)
        self._about_intents([*history, when])
        then = self.expectation(keys["then"], len(given)) if "then" in keys else Expectation()
        return Case(
            name=self._name(keys.get("name")),
            line=item.line,
            params={**params, **self._read_params(keys.get("params"))},
            sources=(*sources, *self._sources(keys.get("tables"))),
            now_ms=self.now_ms,
            history=tuple(sorted(history, key=lambda step: step.at_ms)),
            when=when,
            then=then,
        )

    def _elements(self, item: Item | None) -> list[Item]:
        if item is None:
            return []
        elements = self.sequence(
            item, "`given` is a list of events", "start each with `- {at: -5m, agent: …, action: …}`"
        )
        if len(elements) > GIVEN_MAX:
            message = f"{len(elements):,} entries; the limit is {GIVEN_MAX:,}"
            self.wrong(item, Code.LIMIT, message, "use `repeat`, or judge long histories by `harness replay`")
        return elements[:GIVEN_MAX]

    def _about_intents(self, steps: list[Step]) -> None:
        """`of` and `parent` lead to an intent that happened before."""
        first = {step.index: step for step in reversed(steps)}
        for step in steps:
            for key, index in (("of", step.of), ("parent", step.parent)):
                if index is None:
                    continue
                place, meant = step.item.value[key], first[index]
                if meant.kind != INTENT:
                    self.wrong(place, Code.BAD_VALUE, f"entry {index} of `given` is no intent", "name an intent")
                elif meant.at_ms > step.at_ms:
                    message = f"entry {index} of `given` happens after this event"
                    self.wrong(place, Code.BAD_VALUE, message, "correct one of the times")

    def _name(self, item: Item | None) -> str:
        text = "" if item is None else self.text(item, "name")
        if item is not None and isinstance(item.value, str) and not 0 < len(text.strip()) <= NAME_CHARS_MAX:
            self.wrong(item, Code.BAD_NAME, f"a name has 1 to {NAME_CHARS_MAX} characters", "say it in one line")
        return text

    def _now(self, item: Item | None, otherwise: int) -> int:
        if item is None:
            return otherwise
        found = epoch_ms(item.value)
        if found is None:
            fix = 'write RFC 3339 in UTC in quotes, "2026-11-02T09:00:00Z", or epoch ms'
            self.wrong(item, Code.BAD_VALUE, "`now` is not a time", fix)
        return otherwise if found is None else found

    def _read_params(self, item: Item | None) -> dict[str, Scalar]:
        entries = self.entries(item, "params", PARAMS_MAX)
        self._params += entries.items()
        return {name: self.scalar(value, f"params.{name}") for name, value in entries.items()}

    # --- tables ---

    def _sources(self, item: Item | None) -> tuple[Source, ...]:
        if item is None:
            return ()
        parts = item.value if isinstance(item.value, list) else [item]
        return tuple(source for part in parts for source in self._source(part))

    def _source(self, item: Item) -> list[Source]:
        if isinstance(item.value, str):
            return [Folder(item.value, item)]
        if not isinstance(item.value, dict):
            fix = "write `tables: ../tables` or `tables: {identity: [{agent_id: a}]}`"
            self.wrong(item, Code.WRONG_TYPE, "`tables` is a folder, or rows by table", fix)
            return []
        keys = self.mapping(item, tuple(TABLES), (), "`tables`")
        return [row for table, rows in keys.items() for row in self._rows(table, rows)]

    def _rows(self, table: str, item: Item) -> list[Source]:
        elements = self.sequence(item, f"`{table}` is a list of rows", f"write `{table}: [{{…}}]`")
        rows: list[Source] = []
        for element in elements:
            fields = plain(element)
            if not isinstance(fields, dict):
                self.wrong(element, Code.WRONG_TYPE, "a row is written as `field: value`", "write `{…}`")
            elif self.validated(TABLES[table], filled(table, fields, (), self.now_ms), element, {}) is not None:
                rows.append(InlineRow(table, fields, element))
        return rows
