"""`harness rules test`: the cases beside a rule set, run by the worker's own core, without a broker.

Rule of this file: it finds and reads files, runs cases and counts; what a case means is `core.cases`', how it is run
`runtime.case_run`'s, and how it is told `rules_test_shown`'s.
"""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass, field

# typer reads the annotations of commands at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness_stream.cli.rules_check import (
    CASES_SUFFIXES,
    EXIT_MISTAKES,
    as_data,
    overrides,
    read_rules,
    read_text,
    show,
)
from harness_stream.config import load_settings
from harness_stream.core.rules.mistakes import ERROR, Code, Mistake
from harness_stream.errors import CallerError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness_stream.core.cases import Case, CaseFile
    from harness_stream.core.rules import Program
    from harness_stream.core.rules.language import Scalar
    from harness_stream.core.rules.mistakes import Findings
    from harness_stream.core.tables import Row
    from harness_stream.runtime.case_explain import RuleAccount
    from harness_stream.runtime.case_run import Result

EXIT_FAILED: Final = 1

Folders = dict[str, "list[tuple[str, Row]]"]


@dataclass(slots=True)
class Suite:
    """One cases file, ready to run if it has no mistakes.

    Attributes:
        file: its path, as given.
        rules_file: path of its rule set.
        rules: ids of the rule set, in order.
        cases: those that were asked for.
        programs: per case the rules with its parameters.
        folders: rows by the folder's path as written.
        mistakes: of the file, its rule set and its tables.
    """

    file: str
    rules_file: str = ""
    rules: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    programs: tuple[Program, ...] = ()
    folders: Folders = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """A case that ran; explained if it failed or if everything is to be told."""

    result: Result
    accounts: tuple[RuleAccount, ...]


def run_cases(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Cases files, or folders of *.cases.yaml.")],
    *,
    only: Annotated[list[str] | None, typer.Option("-k", metavar="TEXT", help="Only cases named like this.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a param.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Explain every rule in every case, and why events missed a window.")
    ] = False,
    require_coverage: Annotated[
        bool, typer.Option("--require-coverage", help="Fail if a rule fires in no passing case.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the cases beside a rule set by the worker's own core, and say of a failing one which part decided.

    Example: harness rules test examples/rules/production.cases.yaml

    A case says what happened before (given, times relative to now),
    what is judged (when) and what has to come out (then):

    rules: production.yaml
    tables: ../tables
    cases:
    - name: mail outside after personal data was read
      given:
      - {at: -29m, agent: support-1, action: crm.read, resources: crm://customers/7}
      when: {agent: support-1, action: email.send, resources: email://external/x}
      then: {decision: deny, rules: ["no-egress-after-pii"], evidence: [0]}

    docs/rules.md has every key. Exit code 0: all pass; 1: a case fails,
    or with --require-coverage a rule fires in none; 2: mistakes in cases,
    rules or tables, which are printed, and nothing ran; or no case is
    named like -k says.
    """
    suites = [load(file, overrides(set_ or []), only or []) for file in found_files(files)]
    if any(mistake.severity == ERROR for suite in suites for mistake in suite.mistakes):
        _tell_mistakes(suites, json=json)
        raise typer.Exit(EXIT_MISTAKES)
    from harness_stream.cli import rules_test_shown as shown  # noqa: PLC0415  keeps `--help` light

    ran = [(suite, list(_run(suite, verbose=verbose, tell=not json))) for suite in suites]
    coverage = covered(ran)
    complete = all(cases for rules in coverage.values() for cases in rules.values())
    passed = all(one.result.ok for _, results in ran for one in results)
    some = any(results for _, results in ran)
    ok = some and passed and (complete or not require_coverage)
    if json:
        typer.echo(json_format.dumps(shown.as_data(ran, coverage, ok=ok), ensure_ascii=False, default=str))
    elif some:
        typer.echo(shown.summary(ran, coverage, require_coverage=require_coverage))
    if not some:
        raise _no_case_ran(only or [])
    if not ok:
        raise typer.Exit(EXIT_FAILED)


def _no_case_ran(only: Sequence[str]) -> CallerError:
    """A name that is mistyped in CI must not pass as a test."""
    named = " or ".join(f"`{text}`" for text in only)
    hint = "`-k` takes any part of a case's name; leave it out and every name is printed"
    return CallerError(f"no case ran: none is named like {named}", hint=hint)


def found_files(paths: Sequence[Path]) -> list[Path]:
    """Every cases file that is named, or lies below a named folder.

    Raises:
        ConfigError: a folder has none.
    """
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.name.endswith(CASES_SUFFIXES)) if path.is_dir() else [path]
        if not inside:
            raise ConfigError(f"`{path}` holds no cases", hint=f"name the files *{CASES_SUFFIXES[0]}, or give one")
        found |= dict.fromkeys(inside)
    return list(found)


def load(file: Path, knobs: Mapping[str, Scalar], only: Sequence[str]) -> Suite:
    """Read a cases file with everything it names.

    Args:
        file: its path.
        knobs: parameters that replace all others.
        only: if not empty, cases whose name holds one of these, in any case of letters.
    """
    from harness_stream.core.cases import against, read_cases  # noqa: PLC0415  pydantic is slow to load, `--help` is not
    from harness_stream.core.cases.words import TEXT_BYTES_MAX  # noqa: PLC0415  same

    suite = Suite(str(file))
    try:
        read = read_cases(read_text(file, TEXT_BYTES_MAX, "split the file"), str(file))
    except CallerError as error:
        message = error.message.removeprefix(f"{file}: ")
        suite.mistakes = (Mistake(str(file), 1, 1, "", message, error.hint, code=Code.UNREADABLE),)
        return suite
    if read.cases is None:
        suite.mistakes = read.findings.all()
        return suite
    elsewhere: list[Mistake] = []
    base = _rules(suite, file, read.cases, read.findings, elsewhere)
    if base is not None:
        against(read.cases, base.rule_set, read.findings)
    _tables(suite, file, read.cases, read.findings, elsewhere)
    wanted = tuple(case for case in read.cases.cases if _is_wanted(case, only))
    if base is not None and not read.findings.failed:
        suite.cases = wanted
        suite.programs = tuple(_programs(suite, wanted, knobs, elsewhere))
    suite.mistakes = (*read.findings.all(), *dict.fromkeys(elsewhere))
    return suite


def covered(ran: Sequence[tuple[Suite, Sequence[Ran]]]) -> dict[str, dict[str, list[str]]]:
    """Rules file → rule → names of the passing cases in which it fired as they expect."""
    found: dict[str, dict[str, list[str]]] = {}
    for suite, results in ran:
        rules = found.setdefault(suite.rules_file, {rule: [] for rule in suite.rules})
        for one in results:
            for rule in _fired(one.result) if one.result.ok else ():
                rules[rule].append(one.result.case.name)
    return found


def _fired(result: Result) -> set[str]:
    """Rules that fired in the judged event, or in a given one whose author says what comes out."""
    stated = [result.judged, *(told for told in result.history if told.step.then is not None)]
    return {rule for told in stated for key in ("reasons", "shadow") for rule in told.fired(key)}


def _is_wanted(case: Case, only: Sequence[str]) -> bool:
    return not only or any(text.casefold() in case.name.casefold() for text in only)


def _rules(suite: Suite, file: Path, cases: CaseFile, findings: Findings, elsewhere: list[Mistake]) -> Program | None:
    """The rule set as it is written; why there is none goes to the findings."""
    if not cases.rules:
        return None
    from harness_stream.core.rules import inspect  # noqa: PLC0415  CEL is slow to load

    path = file.parent / cases.rules
    suite.rules_file = str(path)
    try:
        text = read_rules(path)
    except CallerError as error:
        findings.on(cases.rules_item, error.message, error.hint, code=Code.UNREADABLE)
        return None
    program, mistakes = inspect(text, str(path), timespan_ms_max=load_settings().max_timespan_ms)
    if program is None:
        elsewhere += [mistake for mistake in mistakes if mistake.severity == ERROR]
        return None
    suite.rules = tuple(rule.id for rule in program.rules)
    return program


def _programs(
    suite: Suite, cases: Sequence[Case], knobs: Mapping[str, Scalar], elsewhere: list[Mistake]
) -> Iterator[Program]:
    """The rules with each case's parameters; the same parameters make the same program."""
    from harness_stream.core.rules import inspect  # noqa: PLC0415  CEL is slow to load

    text, known = read_rules(Path(suite.rules_file)), dict[str, "Program | None"]()
    for case in cases:
        params = {**case.params, **knobs}
        key = repr(sorted(params.items()))
        if key not in known:
            limit_ms = load_settings().max_timespan_ms
            known[key], mistakes = inspect(text, suite.rules_file, params, timespan_ms_max=limit_ms)
            elsewhere += [m for m in mistakes if m.severity == ERROR]
        if (program := known[key]) is not None:
            yield program


def _tables(suite: Suite, file: Path, cases: CaseFile, findings: Findings, elsewhere: list[Mistake]) -> None:
    """The rows of every folder that is named."""
    from harness_stream.adapters.tables_source import read_folder  # noqa: PLC0415  pydantic is slow to load
    from harness_stream.core.cases import Folder  # noqa: PLC0415  same

    folders = [s for case in cases.cases for s in case.sources if isinstance(s, Folder)]
    for folder in folders:
        if folder.path in suite.folders:
            continue
        suite.folders[folder.path] = []
        try:
            source = read_folder(file.parent / folder.path)
        except ConfigError as error:
            findings.on(folder.item, error.message, error.hint, code=Code.UNREADABLE)
        else:
            suite.folders[folder.path] = [(row.table, row.row) for row in source.rows]
            elsewhere += source.mistakes


def _run(suite: Suite, *, verbose: bool, tell: bool) -> Iterator[Ran]:
    from harness_stream.cli import rules_test_shown as shown  # noqa: PLC0415  keeps `--help` light

    if tell and suite.cases:
        typer.echo(suite.file)
    for case, program in zip(suite.cases, suite.programs, strict=True):
        one = run_case(case, program, suite.folders, explain_all=verbose)
        if tell:
            typer.echo(shown.case_text(one, suite.file, verbose=verbose))
        yield one


def run_case(case: Case, program: Program, folders: Folders, *, explain_all: bool = False) -> Ran:
    """Run a case; if it fails (or `explain_all`) its history is played again and every rule is asked why.

    Only `explain_all` also asks why events of the history are in no selection: with a long history there are many.
    """
    from harness_stream.core.cases import rows_of  # noqa: PLC0415  pydantic is slow to load
    from harness_stream.core.rules.windows import Windows  # noqa: PLC0415  same
    from harness_stream.runtime.case_explain import explain  # noqa: PLC0415  same
    from harness_stream.runtime.case_run import CaseRun  # noqa: PLC0415  same

    windows, rows = Windows(program), rows_of(case, folders)
    run = CaseRun(case, windows, rows)
    run.play_history()
    result = run.judge()
    if result.ok and not explain_all:
        return Ran(result, ())
    again = CaseRun(case, windows, rows)
    again.play_history()
    return Ran(result, explain(again, program, again.line_of(case.when), missed=explain_all))


def _tell_mistakes(suites: Sequence[Suite], *, json: bool) -> None:
    if not json:
        typer.echo("\n\n".join(show(mistake) for suite in suites for mistake in suite.mistakes))
        return
    files: list[dict[str, Any]] = [
        {"file": s.file, "mistakes": [{"in": m.file, **as_data(m)} for m in s.mistakes]} for s in suites
    ]
    typer.echo(json_format.dumps({"ok": False, "files": files}, ensure_ascii=False))
