"""One finding about a text that people write (rules, cases, tables), and the list they are gathered in.

Rule: reading a text never stops at the first mistake. Everything that looks at the text adds to one `Findings`,
and every finding names a place a person can go to, what stands there, what is wrong with it in their own words, and
what to write instead. A warning that the author means as it is may be allowed by a comment; an error never.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness_stream.core.rules.document import Item

ERROR = "error"
WARNING = "warning"


class Code(StrEnum):
    """What kind of mistake it is, for editors and CI. A code never changes its meaning; docs/rules.md explains each."""

    # --- the text and its shape ---
    UNREADABLE = "unreadable"
    SETTING = "setting"
    YAML = "yaml"
    YAML_FEATURE = "yaml-feature"
    DUPLICATE_KEY = "duplicate-key"
    UNKNOWN_KEY = "unknown-key"
    MISSING_KEY = "missing-key"
    WRONG_TYPE = "wrong-type"
    UNKNOWN_WORD = "unknown-word"
    BAD_NAME = "bad-name"
    BAD_VALUE = "bad-value"
    LISTED_TWICE = "listed-twice"
    LIMIT = "limit"
    # --- names ---
    UNKNOWN_NAME = "unknown-name"
    UNKNOWN_FIELD = "unknown-field"
    UNKNOWN_FUNCTION = "unknown-function"
    UNKNOWN_PARAM = "unknown-param"
    UNKNOWN_SELECTION = "unknown-selection"
    UNKNOWN_RULE = "unknown-rule"
    OUT_OF_SCOPE = "out-of-scope"
    # --- conditions ---
    SYNTAX = "syntax"
    TYPE = "type"
    UNGUARDED = "unguarded"
    ABSENT_ROW = "absent-row"
    COST = "cost"
    # --- windows ---
    WIDE_GROUP = "wide-group"
    BAD_PATH = "bad-path"
    LONG_WINDOW = "long-window"
    WINDOW_CONDITION = "window-condition"
    EQ_LETS_THROUGH = "eq-lets-through"
    NEGATIVE_COUNT = "negative-count"
    INEXACT = "inexact"
    CHAIN_ONLY = "chain-only"
    # --- the set as a whole ---
    DUPLICATE_ID = "duplicate-id"
    NEVER_FIRES = "never-fires"
    NEVER_MATCHES = "never-matches"
    ALWAYS_HOLDS = "always-holds"
    OVERRULED = "overruled"
    NO_APPROVE = "no-approve"
    UNUSED_SELECTION = "unused-selection"
    UNUSED_PARAM = "unused-param"


@dataclass(frozen=True, slots=True)
class Mistake:
    """One finding.

    Attributes:
        file: name of the text, as given by the caller.
        line: counted from 1.
        column: counted from 1, in characters.
        text: the whole line of the file.
        message: what is wrong.
        fix: what to write instead.
        severity: "error" (the text is not taken) or "warning".
        found: what stands at line and column and is meant, as written; empty if something is missing there.
        code: one of `Code`; empty for table rows.
    """

    file: str
    line: int
    column: int
    text: str
    message: str
    fix: str
    severity: str = ERROR
    found: str = ""
    code: str = ""

    @property
    def end_column(self) -> int:
        """The column after the last character of `found`, counted from 1; `found` never leaves its line."""
        return self.column + len(self.found)


# What a person would underline at a place of which only the beginning is known: a quoted text, a dotted name (but not
# the method called on it), a number, brackets, an operator.
_TOKEN: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"'
    r"|'(?:[^'\\]|\\.)*'"
    r"|\.?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*(?![\w(]))*"
    r"|[0-9][\w.]*"
    r"|\[[^\[\]]*\]"
    r"|&&|\|\||[=!<>]=|\S"
)
_ALLOW: Final = re.compile(r"#\s*check:\s*allow\s+([a-z-]+(?:\s*,\s*[a-z-]+)*)")


def token_chars(text: str, offset: int) -> int:
    """Length of the token that begins at an offset; 0 at the end of the text."""
    token = _TOKEN.match(text, offset)
    return len(token[0]) if token else 0


class Findings:
    """Gathers the mistakes of one text."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines = text.split("\n")
        self._found: dict[Mistake, None] = {}
        self._allowed = _allowances(self._lines) if "check:" in text else {}

    def at(
        self,
        line: int,
        column: int,
        message: str,
        fix: str,
        severity: str = ERROR,
        *,
        code: str = "",
        end: tuple[int, int] | None = None,
    ) -> None:
        """Adds a finding from line and column, counted from 1, up to `end`, by default that of the token there."""
        text = self._line(line)
        if severity == WARNING and self._is_allowed(code, line):
            return
        if end is None:
            end = line, column + token_chars(text, column - 1)
        found = text[column - 1 : end[1] - 1] if end[0] == line else text[column - 1 :].rstrip()
        self._found[Mistake(self._file, line, column, text, message, fix, severity, found, code)] = None

    def on(
        self,
        item: Item,
        message: str,
        fix: str,
        *,
        code: str = "",
        offset: int = 0,
        length: int | None = None,
        severity: str = ERROR,
    ) -> None:
        """Adds a finding on an item's value: on all of it, or on `length` characters from the `offset`-th on.

        Where no line can say which value is meant, the message does.
        """
        if where := item.dotted:
            message = f"`{where}`: {message}"
        line, column = item.position(offset)
        if length is None and item.style in _QUOTES:
            length = len(item.value) - offset
        end = item.end if length is None else item.position(offset + length)
        self.at(line, column, message, fix, severity, code=code, end=end)

    @property
    def failed(self) -> bool:
        """Whether any finding is an error."""
        return any(mistake.severity == ERROR for mistake in self._found)

    def all(self) -> tuple[Mistake, ...]:
        """Every finding, in the order of the text."""
        return tuple(sorted(self._found, key=lambda mistake: (mistake.line, mistake.column)))

    def mentions(self, word: str) -> int:
        """How often the text names a word: what is named once is defined and never used, however the rest reads."""
        pattern = re.compile(rf"(?<![\w]){re.escape(word)}(?![\w])")
        return sum(len(pattern.findall(line)) for line in self._lines)

    def _line(self, line: int) -> str:
        return self._lines[line - 1].rstrip("\r") if line <= len(self._lines) else ""

    def _is_allowed(self, code: str, line: int) -> bool:
        return any(code in self._allowed.get(where, ()) for where in (_WHOLE_TEXT, line))


_WHOLE_TEXT: Final = 0
_QUOTES: Final = ("'", '"')


def _allowances(lines: list[str]) -> dict[int, frozenset[str]]:
    """Codes allowed by `# check: allow CODE, …`, by line.

    A comment beside something speaks of its line, one that stands alone of the next line, one before the first key of
    the whole text.
    """
    allowed: dict[int, frozenset[str]] = {}
    head = True
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        head = head and (not bare or bare.startswith("#"))
        if words := frozenset(_codes(line)):
            where = _WHOLE_TEXT if head else number + bare.startswith("#")
            allowed[where] = allowed.get(where, frozenset()) | words
    return allowed


def _codes(line: str) -> Iterator[str]:
    for found in _ALLOW.finditer(line):
        yield from found[1].replace(",", " ").split()


def closest(name: str, known: Iterable[str]) -> str:
    """The known word that is surely meant; empty if there is none."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.6)), "")


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """A fix that names the closest known word, else all of them."""
    words = sorted(known)
    close = closest(name, words)
    if close:
        return f"did you mean `{prefix}{close}`?"
    # Twelve words fit on a line of a terminal; a longer list is no help.
    listed = ", ".join(f"`{prefix}{word}`" for word in words[:12])
    return f"known: {listed}{', …' if len(words) > 12 else ''}" if words else "there are none to choose from"  # noqa: PLR2004  the number explained above
