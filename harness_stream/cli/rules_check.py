"""`harness rules check FILE`: every mistake of a rule set at once, each with its line, a caret and a fix.

Rule: this command reads one file and prints; it knows no broker and changes nothing.
"""

from __future__ import annotations

import json as json_format
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

import typer

# typer reads the annotations of commands at run time.
from pathlib import Path  # noqa: TC003  isort: skip

from harness_stream.core.rules import Mistake, Program, inspect
from harness_stream.core.rules.language import TEXT_BYTES_MAX, Scalar
from harness_stream.core.rules.windows import Windows
from harness_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

EXIT_MISTAKES: Final = 2
"""The exit code of `errors.CallerError`: something must be changed before it is tried again."""

# A line of a terminal; what stands further left or right of the caret is cut.
_SHOWN_CHARS: Final = 100

_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,16}\Z")
_REAL: Final = re.compile(r"[-+]?[0-9]{1,16}\.[0-9]{1,16}\Z")


def check(
    file: Annotated[Path, typer.Argument(help="The rule set, in YAML.")],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    set: Annotated[list[str] | None, typer.Option("--set", help="Set a parameter: NAME=VALUE.")] = None,  # noqa: A002  the option's name
) -> None:
    """Find every mistake in a rule set.

    Example: harness rules check examples/rules/production.yaml --set exports_a_day=2
    """
    program, mistakes = inspect(read_rules(file), str(file), overrides(set or []))
    typer.echo(_as_json(program, mistakes) if json else _as_text(program, mistakes))
    if program is None:
        raise typer.Exit(EXIT_MISTAKES)
    Windows(program)  # a window this version does not evaluate is the user's to know now, not at the push


def read_rules(file: Path) -> str:
    """The text of a rule file.

    Raises:
        ConfigError: it cannot be read, or is no UTF-8, or is larger than any rule set.
    """
    try:
        with file.open("rb") as source:
            data = source.read(TEXT_BYTES_MAX + 1)
        text = data.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}", hint="give the path of a YAML file") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 at byte {error.start}", hint="save the file as UTF-8") from error
    if len(data) > TEXT_BYTES_MAX:
        raise ConfigError(f"{file}: larger than {TEXT_BYTES_MAX:,} bytes", hint="split the rule set")
    return text


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
    """One mistake for a terminal: place and message, the line with a caret, the fix."""
    first = max(0, mistake.column - 1 - _SHOWN_CHARS * 3 // 4)
    line = mistake.text[first : first + _SHOWN_CHARS].replace("\t", " ")
    caret = " " * (mistake.column - 1 - first) + "^"
    warning = "warning: " if mistake.severity == "warning" else ""
    place = f"{mistake.file}:{mistake.line}:{mistake.column}"
    return f"{place}: {warning}{mistake.message}\n    {line}\n    {caret}\n  → {mistake.fix}"


def _counts(program: Program) -> dict[str, int]:
    windows = sum(correlation is not None for correlation in program.correlations)
    return {"rules": len(program.rules), "selections": len(program.selection_names), "windows": windows}


def _as_text(program: Program | None, mistakes: tuple[Mistake, ...]) -> str:
    parts = [show(mistake) for mistake in mistakes]
    if program:
        counts = ", ".join(f"{count} {name if count != 1 else name[:-1]}" for name, count in _counts(program).items())
        parts.append(f"{counts}, digest {program.digest}")
    else:
        errors = sum(mistake.severity == "error" for mistake in mistakes)
        parts.append(f"{errors} mistake{'s' if errors != 1 else ''}; nothing was loaded")
    return "\n\n".join(parts)


def _as_json(program: Program | None, mistakes: tuple[Mistake, ...]) -> str:
    counted = _counts(program) | {"digest": program.digest} if program else {}
    found = [asdict(mistake) for mistake in mistakes]
    return json_format.dumps({"ok": program is not None, **counted, "mistakes": found}, ensure_ascii=False)
