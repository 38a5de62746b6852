"""How `harness rules test` tells what became of a case: one line if it passes, else its chain and what decided.

Rule of this file: words and layout only; nothing is found out here.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import orjson

from harness_stream.cli.rules_check import as_data as mistake_data
from harness_stream.cli.rules_check import plural
from harness_stream.core.cases.timing import shown_ms
from harness_stream.core.reasons import EXPLAIN
from harness_stream.core.rules.language import COUNTING, OPERATOR_WORDS
from harness_stream.runtime.case_run import why

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from harness_stream.cli.rules_test import Ran, Suite
    from harness_stream.runtime.case_explain import Counted, Missed, Part, RuleAccount, Said, WindowAccount
    from harness_stream.runtime.case_run import Result, Told

# Beyond these a failing case is no easier to understand; `--verbose` has them all.
RULES_SHOWN: Final = 5
_VALUE_CHARS: Final = 80
_DEEPER: Final = "  "

Coverage = dict[str, dict[str, list[str]]]


# --- One case ---------------------------------------------------------------------------------------------------------


def case_text(one: Ran, file: str, *, verbose: bool) -> str:
    """One line, and for a failing case (or with `verbose`) everything that led there."""
    result = one.result
    notes = plural(len(result.remarks), "note")
    head = f"  {'pass' if result.ok else 'FAIL'}  {result.case.name}"
    if result.ok and not verbose:
        return f"{head}  ({notes}: --verbose)" if result.remarks else head
    place = "" if result.ok else f"  ({file}:{result.case.line})"
    return "\n".join([f"{head}{place}", *_indented(_failing(one, verbose=verbose), 4)])


def _failing(one: Ran, *, verbose: bool) -> Iterator[str]:
    yield from one.result.failures
    accounts = list(one.accounts) if verbose else relevant(one)
    yield "chain"
    yield from _indented(_chain(one.result, accounts))
    if not one.accounts:
        yield from _engine_words(one.result.judged)
    for account in accounts:
        yield from _account(account)
    hidden = len(one.accounts) - len(accounts)
    if hidden:
        yield f"{plural(hidden, 'other rule')}: --verbose tells of all"
    yield from (f"note: {remark}" for remark in one.result.remarks)


def relevant(one: Ran) -> list[RuleAccount]:
    """Rules that failed, that the case names or that fired; if the decision is another, also those closest to it."""
    then, judged = one.result.case.then, one.result.judged
    named = then.named | judged.spoke()
    found = sorted((a for a in one.accounts if a.rule in named), key=lambda account: not isinstance(account.said, str))
    if then.decision != judged.decision and not then.rules:
        wanted = [a for a in one.accounts if a.effect == then.decision and a.rule not in named and a.mode == "enforce"]
        found += sorted(wanted, key=_closeness, reverse=True)[: max(0, RULES_SHOWN - len(found))]
    return found


def _closeness(account: RuleAccount) -> float:
    held = sum(part.said is True for part in account.parts) / len(account.parts)
    return held + (account.window is None or account.window.said is not False)


def _engine_words(judged: Told) -> Iterator[str]:
    for reason in judged.reasons():
        detail = f" ({reason['detail']})" if reason.get("detail") else ""
        yield f"the engine, before any rule: {reason['code']}{detail}: {EXPLAIN.get(reason['code'], '')}"


# --- The chain ---


def _chain(result: Result, accounts: Sequence[RuleAccount]) -> Iterator[str]:
    matched = _matched(accounts)

    def alike(told: Told) -> tuple[Any, ...]:
        return told.step.index, told.decision, matched.get(told.line), _why(told)

    for (index, _, names, _), group in groupby(result.history, key=alike):
        yield _row(str(index), list(group), names or ())
    yield _row("", [result.judged], matched.get(None, ()))


def _row(index: str, same: Sequence[Told], names: Sequence[str]) -> str:
    first, last = same[0], same[-1]
    when = shown_ms(first.step.at_ms)
    if len(same) > 1:
        when = f"{when} … {shown_ms(last.step.at_ms)} ({len(same)} times)"
    matches = f"   matches {', '.join(names)}" if names else ""
    said = f" ({_why(first)})" if _why(first) else ""
    return f"{index:>3}  {when:<8}  {first.decision:<8}  {what(first)}{said}{matches}"


def _why(told: Told) -> str:
    if told.decision in {"approve", "accepted", "row"} or told.body is None:
        return ""
    return why(told)


def what(told: Told) -> str:
    """An event in a few words."""
    fields = told.step.fields
    if told.step.kind == "intent":
        return " ".join(map(str, (fields["agent_id"], fields["action"], *fields.get("resources", ()))))
    if told.step.kind == "table":
        row = fields.get("row") or {}
        return f"{fields['table']} {fields.get('key') or next(iter(row.values()), '')}"
    said = (
        fields.get("status") or fields.get("decision") or ("close" if fields.get("close") else fields.get("chain_id"))
    )
    return f"{fields['agent_id']} {told.step.kind} {said}"


def _matched(accounts: Iterable[RuleAccount]) -> dict[int | None, tuple[str, ...]]:
    """Line of an event → the selections that windows list and it matches; None is the judged event."""
    found: dict[int | None, dict[str, None]] = {}
    for account in accounts:
        for counted in account.window.events if account.window else ():
            line = None if counted.told is None else counted.told.line
            found.setdefault(line, {}).update(dict.fromkeys(counted.selections))
    return {key: tuple(names) for key, names in found.items()}


# --- A rule ---


def _account(account: RuleAccount) -> Iterator[str]:
    mode = ", shadow" if account.mode == "shadow" else ""
    yield f"{account.rule} ({account.effect}{mode}) {_fires(account)}"
    if account.resource:
        yield f"{_DEEPER}for {account.resource}"
    yield from _indented(line for part in account.parts for line in _part(part))
    if account.window is not None:
        yield from _indented(_window(account.window))


def _fires(account: RuleAccount) -> str:
    said = account.said
    if isinstance(said, str):
        return f"fails{', so it denies' if account.mode == 'enforce' else ''}: {said}"
    return {True: "fires", False: "does not fire", None: "fires, because it is unknown"}[said]


def _part(part: Part) -> Iterator[str]:
    reads = "" if part.inner else ", ".join(f"{path} = {value_text(value)}" for path, value in part.reads.items())
    yield f"{_word(part.said):<7}  {' '.join(part.text.split())}{f'     {reads}' if reads else ''}"
    if isinstance(part.said, str):
        yield f"{_DEEPER}{part.said}"
    yield from _indented(line for inner in part.inner for line in _part(inner))


def _word(said: Said) -> str:
    return "error" if isinstance(said, str) else {True: "true", False: "false", None: "unknown"}[said]


def value_text(value: object) -> str:
    """A value, shortened."""
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= _VALUE_CHARS else f"{text[: _VALUE_CHARS - 1]}…"


def _window(window: WindowAccount) -> Iterator[str]:
    correlation = window.correlation
    groups = ", ".join(f"{path} = {value_text(value)}" for path, value in window.group.items()) or "the whole lane"
    span = shown_ms(correlation.timespan_ms).removeprefix("+")
    said = _word(window.said) if window.looked_at else "-"
    field = f" ({condition.field})" if (condition := correlation.condition) and condition.field else ""
    shape = f"{correlation.type}{field} of {', '.join(correlation.selections)} within {span}, {groups}"
    yield f"{said:<7}  window: {shape}"
    yield f"{_DEEPER}{_against(window)}"
    yield from _indented(_events(window.events))
    yield from _indented(line for missed in window.missed for line in _missed(missed))


def _against(window: WindowAccount) -> str:
    if not window.looked_at:
        return "not looked at, because the condition does not hold"
    condition = window.correlation.condition
    if window.correlation.type in COUNTING and condition is not None:
        wanted = f"{OPERATOR_WORDS[condition.op]} {condition.threshold}"
        return f"counted {_interval(window)}; wanted: {wanted}"
    wanted = "none may be there" if window.correlation.type == "absent" else "all must be there"
    return f"{'complete' if window.lo else 'not complete' if window.hi == 0 else 'not known'}; wanted: {wanted}"


def _interval(window: WindowAccount) -> str:
    if window.lo == window.hi:
        return str(window.lo)
    return f"{window.lo} to {window.hi}" if window.hi is not None else f"{window.lo} or more"


def _events(events: Sequence[Counted]) -> Iterator[str]:
    def alike(counted: Counted) -> tuple[Any, ...]:
        index = None if counted.told is None else counted.told.step.index
        return index, counted.selections, counted.why_not

    for (index, selections, why_not), group in groupby(events, key=alike):
        same = list(group)
        times = [0 if c.told is None else c.told.step.at_ms for c in same]
        when = shown_ms(times[0]) + (f" … {shown_ms(times[-1])} ({len(same)} times)" if len(same) > 1 else "")
        not_counted = f"   not counted: {why_not}" if why_not else ""
        yield f"{'' if index is None else index:>3}  {when:<8}  {', '.join(selections)}{not_counted}"


def _missed(missed: Missed) -> Iterator[str]:
    step = None if missed.told is None else missed.told.step
    index, when = ("", shown_ms(0)) if step is None else (step.index, shown_ms(step.at_ms))
    often = f" ({missed.times} times)" if missed.times > 1 else ""
    yield f"{'' if index is None else index:>3}  {when:<8}  does not match {missed.selection.text}{often}"
    yield from _indented((line for part in missed.selection.inner for line in _part(part)), 3)


def _indented(lines: Iterable[str], levels: int = 1) -> Iterator[str]:
    return (f"{_DEEPER * levels}{line}" for line in lines)


# --- All cases --------------------------------------------------------------------------------------------------------


def summary(ran: Sequence[tuple[Suite, Sequence[Ran]]], coverage: Coverage, *, require_coverage: bool) -> str:
    """How many passed, and which rules the passing cases cover."""
    results = [one.result for _, of_file in ran for one in of_file]
    failed = sum(not result.ok for result in results)
    counts = f"{plural(len(results) - failed, 'case')} passed" + (f", {failed} failed" if failed else "")
    lines = ["", counts]
    for file, rules in coverage.items():
        lines += ["", f"rules of {file} that fired in a passing case: {sum(map(bool, rules.values()))} of {len(rules)}"]
        lines += [
            f"  {rule:<24}  {plural(len(cases), 'case') if cases else 'never fires'}" for rule, cases in rules.items()
        ]
    uncovered = [rule for rules in coverage.values() for rule, cases in rules.items() if not cases]
    if uncovered and require_coverage:
        lines += ["", f"--require-coverage: add a case in which {', '.join(f'`{rule}`' for rule in uncovered)} fires"]
    return "\n".join(lines)


def as_data(ran: Sequence[tuple[Suite, Sequence[Ran]]], coverage: Coverage, *, ok: bool) -> dict[str, Any]:
    """Everything as plain data."""
    results = [one.result for _, of_file in ran for one in of_file]
    passed = sum(result.ok for result in results)
    return {
        "ok": ok,
        "passed": passed,
        "failed": len(results) - passed,
        "files": [
            {
                "file": suite.file,
                "rules": suite.rules_file,
                "mistakes": [mistake_data(mistake) for mistake in suite.mistakes],
                "cases": [_case_data(one) for one in of_file],
            }
            for suite, of_file in ran
        ],
        "coverage": [
            {"rules": file, "rule": rule, "cases": cases}
            for file, rules in coverage.items()
            for rule, cases in rules.items()
        ],
    }


def _case_data(one: Ran) -> dict[str, Any]:
    result = one.result
    data = {
        "name": result.case.name,
        "line": result.case.line,
        "ok": result.ok,
        "failures": list(result.failures),
        "notes": list(result.remarks),
        "judged": _told_data(result.judged),
    }
    if one.accounts or not result.ok:
        data["chain"] = [_told_data(told) for told in result.history]
        data["rules"] = [_account_data(account) for account in one.accounts]
    return data


def _told_data(told: Told) -> dict[str, Any]:
    return {
        "given": told.step.index,
        "at_ms": told.step.at_ms,
        "type": told.step.kind,
        "event": dict(told.step.fields),
        "decision": told.decision,
        "reasons": told.reasons() or [{"code": code} for code in filter(None, [_why(told)])],
        "shadow": told.reasons("shadow"),
    }


def _account_data(account: RuleAccount) -> dict[str, Any]:
    return {
        "rule": account.rule,
        "effect": account.effect,
        "mode": account.mode,
        "fires": account.said is True or account.said is None,
        "unknown": account.said is None,
        "error": account.said if isinstance(account.said, str) else None,
        "resource": account.resource or None,
        "when": [_part_data(part) for part in account.parts],
        "window": None if account.window is None else _window_data(account.window),
    }


def _part_data(part: Part) -> dict[str, Any]:
    return {
        "text": part.text,
        "result": _word(part.said),
        "error": part.said if isinstance(part.said, str) else None,
        "reads": dict(part.reads),
        "parts": [_part_data(inner) for inner in part.inner],
    }


def _window_data(window: WindowAccount) -> dict[str, Any]:
    condition = window.correlation.condition
    return {
        "type": window.correlation.type,
        "selections": list(window.correlation.selections),
        "timespan_ms": window.correlation.timespan_ms,
        "group": dict(window.group),
        "looked_at": window.looked_at,
        "holds": window.said,
        "counted": [window.lo, window.hi],
        "condition": None
        if condition is None
        else {"op": condition.op, "threshold": condition.threshold, "field": condition.field},
        "events": [_counted_data(counted) for counted in window.events],
        "missed": [_missed_data(missed) for missed in window.missed],
    }


def _counted_data(counted: Counted) -> dict[str, Any]:
    told = counted.told
    return {
        "given": None if told is None else told.step.index,
        "at_ms": 0 if told is None else told.step.at_ms,
        "selections": list(counted.selections),
        "counted": not counted.why_not,
        "why_not": counted.why_not or None,
    }


def _missed_data(missed: Missed) -> dict[str, Any]:
    step = None if missed.told is None else missed.told.step
    return {
        "given": None if step is None else step.index,
        "at_ms": 0 if step is None else step.at_ms,
        "times": missed.times,
        "selection": _part_data(missed.selection),
    }
