"""Why each rule fired or did not: the parts of its condition, and its window against the threshold.

Rule of this file: the engine itself is asked. Every rule of the set is put into shadow mode, where each says what it
finds whatever the others say; what it is judged on and what its window counts is noted down on the way, not computed
again. Only the parts of a condition are evaluated here, on exactly the noted variables.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness_stream.core import counting, window
from harness_stream.core.chain import released
from harness_stream.core.rules.cel import Parser, Runtime, outcome
from harness_stream.core.rules.compile import from_bundle
from harness_stream.core.rules.language import TIMESPAN_MS_ANY
from harness_stream.core.rules.parts import parts_of, reads_of, with_selections
from harness_stream.core.rules.program import Program
from harness_stream.core.rules.windows import Windows
from harness_stream.core.scalars import measure_of
from harness_stream.core.views import views_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cel_expr_python import cel

    from harness_stream.core.groups import Group
    from harness_stream.core.rules.parse import Correlation
    from harness_stream.core.rules.program import Judged
    from harness_stream.runtime.case_run import CaseRun, Told

Said = bool | str | None
"""True, False, the text of an error, or None: unknown."""


@dataclass(frozen=True, slots=True)
class Part:
    """One top-level conjunct of a condition.

    Attributes:
        text: as written.
        said: true, false or an error.
        reads: the fields it read, with their values.
        inner: what a selection that stands here says, part by part.
    """

    text: str
    said: Said
    reads: Mapping[str, Any]
    inner: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """One event that a window may count.

    Attributes:
        told: the event; None is the judged one.
        selections: listed ones that match it.
        why_not: why it is not counted; empty if it is.
    """

    told: Told | None
    selections: tuple[str, ...]
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Missed:
    """Why an event of a window's group does not match a selection that the window lists.

    Attributes:
        told: the event, the newest one of a step that is repeated; None is the judged one.
        times: how many of its step miss it.
        selection: with its parts, as they are for the event.
    """

    told: Told | None
    times: int
    selection: Part


@dataclass(frozen=True, slots=True)
class WindowAccount:
    """A rule's window.

    Attributes:
        correlation: as written, parameters put in.
        group: what it is grouped by, with the judged event's values.
        said: whether its condition holds; None is unknown.
        looked_at: False if `when` did not hold, so that nobody asked.
        lo, hi: what it counted, both ends included; hi None is unbounded. Of temporal windows 1 or 0.
        events: of this group, the judged one last.
        missed: why events of this group match no more of its selections; empty if nobody asked for it.
    """

    correlation: Correlation
    group: Mapping[str, Any]
    said: Said
    looked_at: bool
    lo: float | str | None
    hi: float | str | None
    events: tuple[Counted, ...]
    missed: tuple[Missed, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleAccount:
    """What one rule said of the judged event.

    Attributes:
        rule: its id.
        effect: approve, deny or hold.
        mode: enforce or shadow.
        said: it fires, it does not, the text of an error, or it fires as unknown.
        resource: the resource the parts speak of, if the event has several.
        parts: of its condition.
        window: None without one.
    """

    rule: str
    effect: str
    mode: str
    said: Said
    resource: str
    parts: tuple[Part, ...]
    window: WindowAccount | None


def explain(run: CaseRun, program: Program, line: bytes, *, missed: bool = False) -> tuple[RuleAccount, ...]:
    """What every rule says of the next line of a case; empty if rules were not asked.

    Args:
        run: with its history played, and the judged event not yet taken.
        program: the rules that judge.
        line: the judged event.
        missed: also say why events are in no selection of a window.
    """
    watch = _Watch(program)
    body = run.engine.would_answer(run.next_line, line, watch)
    if body is None or body["kind"] != "verdict" or not watch.seen:
        return ()
    explaining = _Explaining(run, program, watch, body, missed=missed)
    return tuple(explaining.rule(index) for index in range(len(program.rules)))


class _Noting(Program):
    """A program that notes what it judges."""

    def __init__(self, program: Program, seen: list[Mapping[str, Any]]) -> None:
        self.__dict__.update(program.__dict__)
        self._seen = seen

    def judge(self, variables: Mapping[str, Any], first: Judged | None = None) -> Judged:
        """As the program; the variables are noted."""
        self._seen.append(variables)
        return super().judge(variables, first)


class _Watch(Windows):
    """Rules in shadow mode whose windows note what they counted.

    Attributes:
        seen: variables, one mapping a resource.
        intervals: rule index → (lo, hi, holds) of each group that was looked at.
    """

    def __init__(self, program: Program) -> None:
        bundle = json.loads(program.bundle)
        for rule in bundle["rules"]:
            rule["mode"] = "shadow"
            rule.pop("obligations", None)
        text = json.dumps(bundle, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        super().__init__(from_bundle(text.encode(), timespan_ms_max=TIMESPAN_MS_ANY))
        self.seen: list[Mapping[str, Any]] = []
        self.intervals: dict[int, list[tuple[int, int | None, bool | None]]] = {}
        self.program = _Noting(self.program, self.seen)
        self.conditions = tuple(self._noting(index, condition) for index, condition in enumerate(self.conditions))

    def _noting(self, index: int, condition: window.Condition) -> window.Condition:
        def noting(lo: int, hi: int | None) -> bool | None:
            holds = condition(lo, hi)
            self.intervals.setdefault(index, []).append((lo, hi, holds))
            return holds

        return noting


class _Explaining:
    def __init__(self, run: CaseRun, program: Program, watch: _Watch, body: Mapping[str, Any], *, missed: bool) -> None:
        self._run, self._program, self._watch, self._tell_missed = run, program, watch, missed
        # As rules and windows see it while it is judged; with every rule in shadow mode its answer is the default.
        self._event: Mapping[str, Any] = {**body["event"], "decision": "approve", "hold_until": None}
        self._findings = {finding["rule"]: finding for finding in body["shadow"]}
        self._parser, self._runtime = Parser(), Runtime()
        self._views = [_View(variables, self._runtime.activation(variables)) for variables in watch.seen]
        before = [(told, event) for told, event in _events(run.history) if event["id"] != self._event["id"]]
        self._events = [*before, (None, self._event)]

    def rule(self, index: int) -> RuleAccount:
        rule = self._program.rules[index]
        texts = parts_of(self._parser, rule.when)
        results = [[self._said(text, view) for text in texts] for view in self._views]
        number = _telling(results, rule.effect, failed=isinstance(self._finding(rule.id), str))
        view, held = self._views[number], all(said is True for said in results[number])
        correlation = rule.correlation
        several = len(self._views) > 1
        return RuleAccount(
            rule.id,
            rule.effect,
            rule.mode,
            self._finding(rule.id),
            str(view.variables["intent"]["resource"]["uri"]) if several else "",
            tuple(self._part(text, view) for text in texts),
            None if correlation is None else self._window(index, correlation, view, held=held),
        )

    def _finding(self, rule: str) -> Said:
        finding = self._findings.get(rule)
        if finding is None:
            return False
        if finding["code"] != "rule":
            return str(finding.get("detail") or finding["code"])
        return None if finding.get("unknown") else True

    # --- conditions ---

    def _said(self, text: str, view: _View) -> Said:
        program = self._runtime.compile(with_selections(self._parser, text, self._program.rule_set.selections))
        return program[0].message if isinstance(program, tuple) else outcome(program, view.activation)

    def _part(self, text: str, view: _View) -> Part:
        selections = self._program.rule_set.selections
        inner = parts_of(self._parser, selections[text]) if text in selections else ()
        reads = {path: view.value(path) for path in reads_of(self._parser, text)}
        return Part(text, self._said(text, view), reads, tuple(self._part(part, view) for part in inner))

    # --- windows ---

    def _window(self, index: int, correlation: Correlation, view: _View, *, held: bool) -> WindowAccount:
        spec = self._watch.by_rule[index]
        if spec is None:
            raise AssertionError("a rule with a correlation has a window")
        group = counting.group_of(spec, view.variables["intent"])
        noted = self._watch.intervals.get(index, [])
        lo, hi, holds = _telling_interval(noted, self._program.rules[index].effect) if noted else (None, None, None)
        scaled = [measure_of(end) if spec.kind == "value_sum" and end is not None else end for end in (lo, hi)]
        events = tuple(self._counted(spec, group, correlation))
        missed = tuple(self._missed(spec, group, correlation)) if self._tell_missed else ()
        shown = {path: view.value(f"intent.{path}") for path in correlation.group_by}
        return WindowAccount(correlation, shown, holds, held and bool(noted), scaled[0], scaled[1], events, missed)

    def _counted(self, spec: window.Spec, group: Group, correlation: Correlation) -> list[Counted]:
        found = []
        for told, event in self._events:
            for sighting in counting.matches(event, self._watch):
                if sighting.spec.id == spec.id and sighting.group == group:
                    pairs = zip(correlation.selections, spec.bits, strict=True)
                    names = tuple(name for name, bit in pairs if sighting.match.mask >> bit & 1)
                    found.append(Counted(told, names, "" if told is None else _why_not(spec, event, self._event["t"])))
        return found

    def _missed(self, spec: window.Spec, group: Group, correlation: Correlation) -> Iterator[Missed]:
        """One a step and selection, so that a given event that is repeated is told once."""
        newest: dict[tuple[int | None, str], tuple[Told | None, list[dict[str, Any]]]] = {}
        times = Counter[tuple[int | None, str]]()
        for told, event in self._events:
            views = [view for view in views_of(event) if counting.group_of(spec, view) == group]
            masks = self._watch.select(views)
            for name, bit in zip(correlation.selections, spec.bits, strict=True):
                if views and not any(mask >> bit & 1 for mask in masks):
                    key = None if told is None else told.step.index, name
                    newest[key] = told, views
                    times[key] += 1
        for key, (told, views) in newest.items():
            yield Missed(told, times[key], self._closest(key[1], views))

    def _closest(self, selection: str, views: Sequence[Mapping[str, Any]]) -> Part:
        """A selection on the resource of an event that comes closest to it."""
        params = self._views[0].variables["params"]
        found = []
        for event in views:
            variables = {"event": event, "params": params}
            found.append(self._part(selection, _View(variables, self._runtime.activation(variables))))
        return max(found, key=lambda part: sum(inner.said is True for inner in part.inner))


@dataclass(frozen=True, slots=True)
class _View:
    """What conditions are asked on: variables, as they are and in CEL's hands."""

    variables: Mapping[str, Any]
    activation: cel.Activation

    def value(self, path: str) -> Any:  # noqa: ANN401  any value of a rule's variables
        """What a dotted name reads; None if there is nothing."""
        value: Any = self.variables
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value


def _telling(results: Sequence[Sequence[Said]], effect: str, *, failed: bool) -> int:
    """The resource that tells most: the one for which it failed or that decided, else the one that comes closest."""
    whole = [_whole(result) for result in results]
    decisive = effect != "approve"
    for view, said in enumerate(whole):
        if isinstance(said, str) if failed else said is decisive:
            return view
    return max(range(len(results)), key=lambda view: sum(said is True for said in results[view]))


def _whole(parts: Sequence[Said]) -> Said:
    """What a conjunction comes to: false if any part is, whatever fails beside it."""
    if False in parts:
        return False
    return next((said for said in parts if isinstance(said, str)), True)


def _telling_interval(
    noted: Sequence[tuple[int, int | None, bool | None]], effect: str
) -> tuple[int, int | None, bool | None]:
    """Of several groups the one that decided."""
    decisive = [True, None, False] if effect != "approve" else [False, None, True]
    return min(noted, key=lambda entry: decisive.index(entry[2]))


def _events(history: Sequence[Told]) -> list[tuple[Told, Mapping[str, Any]]]:
    """Events that history keeps, as they are now: an answered hold is what the answer made of it."""
    newest: dict[str, tuple[Told, Mapping[str, Any]]] = {}
    for told in history:
        body = told.body or {}
        event, change = body.get("event"), body.get("change") or {}
        if event is not None:
            newest.pop(event["id"], None)
            newest[event["id"]] = (told, event)
        elif change.get("op") == "outcome" and change["intent_id"] in newest:
            before, event = newest[change["intent_id"]]
            done = {"outcome": change["status"], "measures": change["measures"]}
            newest[change["intent_id"]] = (before, {**event, **done})
    return list(newest.values())


def _why_not(spec: window.Spec, event: Mapping[str, Any], t: int) -> str:
    if event["t"] < t - spec.timespan_ms:
        return "too long ago"
    if released(event):
        return "never started"
    if event["decision"] == "deny":
        return "" if spec.attempts else "was denied"
    if event["hold_until"] is not None and event["hold_until"] < t and not spec.attempts:
        return "nobody answered the hold"
    return ""
