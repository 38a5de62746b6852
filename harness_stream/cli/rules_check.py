"""`harness rules check FILE...`: every mistake of rule sets at once, each with its place, what stands there and a fix.

Rule: this command reads files and prints; it knows no broker and changes nothing. What it prints with `--json` is read
by editors and CI: keys are only ever added.
"""

from __future__ import annotations

import json as json_format
import re
import sys
from dataclasses import dataclass

# typer reads the annotations of commands at run time.
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from harness_stream.config import load_settings
from harness_stream.core.rules.language import TEXT_BYTES_MAX, Scalar
from harness_stream.core.rules.mistakes import ERROR, WARNING, Code, Mistake
from harness_stream.errors import CallerError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.core.rules import Program

EXIT_MISTAKES: Final = 2
"""The exit code of `errors.CallerError`: something must be changed before it is tried again."""

CASES_SUFFIXES: Final = (".cases.yaml", ".cases.yml")
_RULE_SET: Final = re.compile(rb"^(rule_set|rules)\s*:", re.MULTILINE)

STDIN: Final = "-"
STDIN_NAME: Final = "<stdin>"

# A line of a terminal; what stands further left or right of the caret is cut.
_SHOWN_CHARS: Final = 100

_ELSEWHERE: Final = frozenset({Code.UNREADABLE, Code.SETTING})

_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,16}\Z")
_REAL: Final = re.compile(r"[-+]?[0-9]{1,16}\.[0-9]{1,16}\Z")

Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a param of every file.")]


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What was found in one file; `program` is None if it does not load."""

    file: str
    program: Program | None
    mistakes: tuple[Mistake, ...]

    @property
    def elsewhere(self) -> tuple[Mistake, ...]:
        """The errors, if none stands in the text: it cannot be read, or does not take a setting."""
        errors = tuple(mistake for mistake in self.mistakes if mistake.severity == ERROR)
        return errors if all(mistake.code in _ELSEWHERE for mistake in errors) else ()

    def count(self, severity: str) -> int:
        """Mistakes of one severity."""
        return sum(mistake.severity == severity for mistake in self.mistakes)


def check(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Rule sets in YAML, or folders of them; `-` is standard input."),
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, for editors and CI.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail, too.")] = False,
    set_: Settings = None,
    name: Annotated[str | None, typer.Option(help="What mistakes call standard input.")] = None,
) -> None:
    """Find every mistake in rule sets: names, types, reads that can fail, windows, rules that never fire.

    Example: harness rules check examples/rules/production.yaml --set exports_a_day=2

    Of a folder every rule set below it is checked: a YAML file that has
    a line `rule_set:` or `rules:` and is no cases file.

    Exit code 0: every file loads (there may be warnings);
    2: some file does not, or with --strict: some file has a warning.

    A warning that is meant is allowed by a comment `# check: allow CODE`:
    beside it, on the line above, or for the whole file before its first key.

    --json prints one object:
    ok (the exit code is 0), errors, warnings (how many), files: a list of
    file, ok (it loads), mistakes, and if it loads rules, selections,
    windows (how many), digest. A mistake has code, severity (error or
    warning), message, fix, line, column, end_line, end_column, found
    (what stands there), text (the line). Lines and columns count from 1,
    in characters; end_column is that after the last.

    Editors that know JSON Schema complete rule files:
    harness rules schema > rules.schema.json, and as a file's first line
    # yaml-language-server: $schema=rules.schema.json
    """
    if name is not None and STDIN not in files:
        raise ConfigError("`--name` names standard input", hint=f"give `{STDIN}` as a file, or leave `--name` out")
    knobs, limit_ms = overrides(set_ or []), load_settings().max_timespan_ms
    found = [checked(file, knobs, limit_ms, name or STDIN_NAME) for file in found_files(files)]
    failed = any(f.program is None or (strict and f.count(WARNING)) for f in found)
    typer.echo(_as_json(found, ok=not failed) if json else _as_text(found, strict=strict))
    if failed:
        raise typer.Exit(EXIT_MISTAKES)


def found_files(paths: Iterable[str]) -> list[str]:
    """Every rule set that is named, or lies below a named folder, once.

    Raises:
        ConfigError: a folder has none.
    """
    found: dict[str, None] = {}
    for path in paths:
        inside = [path]
        if path != STDIN and Path(path).is_dir():
            inside = [str(file) for file in sorted(Path(path).rglob("*")) if _is_rule_set(file)]
        if not inside:
            raise ConfigError(f"`{path}` holds no rule set", hint="name the files *.yaml, or give one")
        found |= dict.fromkeys(inside)
    return list(found)


def _is_rule_set(file: Path) -> bool:
    """Rows of tables and cases lie beside rules and are not meant."""
    if file.suffix not in {".yaml", ".yml"} or file.name.endswith(CASES_SUFFIXES) or not file.is_file():
        return False
    with file.open("rb") as source:
        return _RULE_SET.search(source.read(TEXT_BYTES_MAX)) is not None


def checked(file: str, knobs: Mapping[str, Scalar], timespan_ms_max: int, stdin_name: str = STDIN_NAME) -> CheckedFile:
    """Check one file; that it cannot be read is a mistake like any other."""
    from harness_stream.core.rules import inspect  # noqa: PLC0415  CEL is slow to load, `--help` is not

    shown = stdin_name if file == STDIN else file
    try:
        text = _text_of(sys.stdin.buffer.read(TEXT_BYTES_MAX + 1), shown) if file == STDIN else read_rules(Path(file))
    except CallerError as error:
        message = error.message.removeprefix(f"{shown}: ")
        return CheckedFile(shown, None, (Mistake(shown, 1, 1, "", message, error.hint, code=Code.UNREADABLE),))
    return CheckedFile(shown, *inspect(text, shown, knobs, timespan_ms_max=timespan_ms_max))


def read_rules(file: Path) -> str:
    """The text of a rule file.

    Raises:
        ConfigError: it cannot be read, or is no UTF-8, or is larger than any rule set.
    """
    return read_text(file, TEXT_BYTES_MAX, "split the rule set")


def read_text(file: Path, bytes_max: int, too_large: str) -> str:
    """The text of a file of at most so many bytes.

    Raises:
        ConfigError: it cannot be read, or is no UTF-8, or is larger (`too_large` says what to do then).
    """
    try:
        with file.open("rb") as source:
            data = source.read(bytes_max + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", hint="give the path of a YAML file") from error
    return _text_of(data, str(file), bytes_max, too_large)


def _text_of(data: bytes, name: str, bytes_max: int = TEXT_BYTES_MAX, too_large: str = "split the rule set") -> str:
    if len(data) > bytes_max:
        raise ConfigError(f"{name}: larger than {bytes_max:,} bytes", hint=too_large)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: not UTF-8 at byte {error.start}", hint="save the file as UTF-8") from error


def overrides(settings: Iterable[str]) -> dict[str, Scalar]:
    """Parameters from `NAME=VALUE`: numbers, true and false are what they look like, `"…"` is always a text.

    Raises:
        ConfigError: a setting without `=`, or a name given twice.
    """
    found: dict[str, Scalar] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise ConfigError(f"`--set {setting}` is not NAME=VALUE", hint="write for example `--set max_rows=500`")
        if name in found:
            raise ConfigError(f"`--set {name}` is given twice", hint="keep one of them")
        found[name] = _scalar(value)
    return found


def _scalar(text: str) -> Scalar:
    if text in {"true", "false"}:
        return text == "true"
    if _WHOLE.match(text):
        return int(text)
    if _REAL.match(text):
        return float(text)
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    return text[1:-1] if quoted else text


def show(mistake: Mistake) -> str:
    """One mistake for a terminal: place and message, the line with what is meant underlined, the fix."""
    first = max(0, mistake.column - 1 - _SHOWN_CHARS * 3 // 4)
    line = "".join(char if char.isprintable() else " " for char in mistake.text[first : first + _SHOWN_CHARS])
    begin = mistake.column - 1 - first
    underlined = " " * begin + "^" * max(1, min(len(mistake.found), _SHOWN_CHARS - begin))
    warning = "warning: " if mistake.severity == WARNING else ""
    code = f" [{mistake.code}]" if mistake.code else ""
    place = f"{mistake.file}:{mistake.line}:{mistake.column}"
    shown = f"\n    {line}\n    {underlined}" if mistake.text else ""
    return f"{place}: {warning}{mistake.message}{code}{shown}\n  → {mistake.fix}"


def as_data(mistake: Mistake) -> dict[str, Any]:
    """One mistake as `--json` has it."""
    return {
        "code": str(mistake.code),
        "severity": mistake.severity,
        "message": mistake.message,
        "fix": mistake.fix,
        "found": mistake.found,
        "line": mistake.line,
        "column": mistake.column,
        "end_line": mistake.line,
        "end_column": mistake.end_column,
        "text": mistake.text,
    }


def plural(count: int, what: str) -> str:
    """`1 rule`, `2 rules`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _counts(program: Program) -> dict[str, int]:
    windows = sum(correlation is not None for correlation in program.correlations)
    return {"rules": len(program.rules), "selections": len(program.selection_names), "windows": windows}


def _as_text(found: list[CheckedFile], *, strict: bool) -> str:
    parts: list[str] = []
    for one in found:
        parts += [show(mistake) for mistake in one.mistakes]
        parts.append(("" if len(found) == 1 else f"{one.file}: ") + _summary(one, strict=strict))
    return "\n\n".join(parts)


def _summary(one: CheckedFile, *, strict: bool) -> str:
    if one.program is None:
        return f"{plural(one.count(ERROR), 'mistake')}; nothing was loaded"
    counts = ", ".join(plural(count, name[:-1]) for name, count in _counts(one.program).items())
    warnings = one.count(WARNING)
    judged = f", {plural(warnings, 'warning')}{' (--strict: not accepted)' if strict else ''}" if warnings else ""
    return f"{counts}, digest {one.program.digest}{judged}"


def _as_json(found: list[CheckedFile], *, ok: bool) -> str:
    files = [
        {
            "file": one.file,
            "ok": one.program is not None,
            **(_counts(one.program) | {"digest": one.program.digest} if one.program else {}),
            "mistakes": [as_data(mistake) for mistake in one.mistakes],
        }
        for one in found
    ]
    errors, warnings = (sum(one.count(severity) for one in found) for severity in (ERROR, WARNING))
    return json_format.dumps({"ok": ok, "errors": errors, "warnings": warnings, "files": files}, ensure_ascii=False)
