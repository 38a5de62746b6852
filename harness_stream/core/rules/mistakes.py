"""One finding about a rule text, and the list they are gathered in.

Rule: reading a rule set never stops at the first mistake. Everything that looks at the text adds to one `Findings`,
and every finding names a place a person can go to, what is wrong in their own words, and what to write instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness_stream.core.rules.document import Item

ERROR = "error"
WARNING = "warning"


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
        severity: "error" (the set does not load) or "warning".
    """

    file: str
    line: int
    column: int
    text: str
    message: str
    fix: str
    severity: str = ERROR


class Findings:
    """Gathers the mistakes of one text."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._lines = text.split("\n")
        self._found: dict[Mistake, None] = {}

    def at(self, line: int, column: int, message: str, fix: str, severity: str = ERROR) -> None:
        """Adds a finding; line and column count from 1."""
        text = self._lines[line - 1].rstrip("\r") if line <= len(self._lines) else ""
        self._found[Mistake(self._file, line, column, text, message, fix, severity)] = None

    def on(self, item: Item, message: str, fix: str, *, offset: int = 0, severity: str = ERROR) -> None:
        """Adds a finding on the `offset`-th character of an item's value."""
        line, column = item.position(offset)
        self.at(line, column, message, fix, severity)

    @property
    def failed(self) -> bool:
        """Whether any finding is an error."""
        return any(mistake.severity == ERROR for mistake in self._found)

    def all(self) -> tuple[Mistake, ...]:
        """Every finding, in the order of the text."""
        return tuple(sorted(self._found, key=lambda mistake: (mistake.line, mistake.column)))


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """A fix that names the closest known word, else all of them."""
    words = sorted(known)
    close = get_close_matches(name, words, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{prefix}{close[0]}`?"
    # Twelve words fit on a line of a terminal; a longer list is no help.
    listed = ", ".join(f"`{prefix}{word}`" for word in words[:12])
    return f"known: {listed}{', …' if len(words) > 12 else ''}" if words else "there are none to choose from"  # noqa: PLR2004  the number explained above
