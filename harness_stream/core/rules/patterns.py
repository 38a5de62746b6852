"""What a regular expression may cost, read off its text.

Rule: an estimate errs upwards. RE2 never backtracks, but CEL keeps no compiled pattern: every match compiles it anew,
counted repetition and Unicode classes unfold while it does, and a state of its automaton is as large as the pattern.
The unit is one instruction of the unfolded pattern. `benchmarks/rules.py` prints estimates beside what they stand for.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# `\pL` compiles like 4,700 letters; a negated class or `.` is up to twelve ranges of UTF-8 bytes.
_UNICODE_UNITS: Final = 5_000
_WIDE_UNITS: Final = 12
_SET_UNITS: Final = 4  # `\w`: small and capital letters, digits, the underscore
# In a pattern that ignores case a letter may be four: k, K, the Kelvin sign, and a branch.
_FOLDED_UNITS: Final = 4
# 2^11 states are as many as a URI has characters: beyond that every character may meet a new one.
_STATES_DOUBLINGS_MAX: Final = 11

_BASE_STEPS: Final = 120
_COMPILE_STEPS_UNIT: Final = 16
_STATE_STEPS_UNIT: Final = 0.6
_READ_STEPS_CHAR: Final = 0.2

_TOKEN: Final = re.compile(
    r"""(?P<flags>\(\?[a-zA-Z]*-?[a-zA-Z]*(?:[:)]|<\w*>))
      | (?P<open>\() | (?P<close>\))
      | (?P<count>\{(?P<least>\d+)(?:,(?P<most>\d*))?\}) | (?P<repeat>[*+?])
      | (?P<quoted>\\Q.*?(?:\\E|\Z)) | (?P<unicode>\\[pP](?:\{[^}]*\}|.)) | (?P<code>\\x\{[0-9a-fA-F]*\})
      | (?P<negated>\\[WDSC]) | (?P<set>\\[a-zA-Z]) | (?P<escape>\\.)
      | (?P<class>\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]?)
      | (?P<wide>\.) | (?P<either>\|) | (?P<plain>.)""",
    re.VERBOSE | re.DOTALL,
)
_IGNORES_CASE: Final = re.compile(r"\(\?[a-zA-Z-]*i")
_RANGE: Final = re.compile(r".-.", re.DOTALL)
_ONE_CHAR_CLASS: Final = len("[x]")


class Pattern(NamedTuple):
    """What a pattern comes to.

    Attributes:
        units: instructions once repetition is unfolded.
        pinned: it begins with the text and has an end, so that it reads no more characters than it has units.
        literal: words and alternatives only, whose automaton has no more states than they have letters.
    """

    units: int
    pinned: bool
    literal: bool

    def steps(self, chars: int) -> float:
        """What one match against a text of so many characters may cost, in steps (`cost.py`)."""
        read = min(chars, self.units) if self.pinned else chars
        states = self.units if self.literal else 1 << min(self.units, _STATES_DOUBLINGS_MAX)
        compiling = _BASE_STEPS + self.units * _COMPILE_STEPS_UNIT
        return compiling + min(read, states) * self.units * _STATE_STEPS_UNIT + read * _READ_STEPS_CHAR


def pattern_of(text: str) -> Pattern:
    """Reads a pattern that RE2 accepts."""
    reader = _Reader(text)
    for token in _TOKEN.finditer(text):
        reader.take(token)
    return reader.close()


class _Reader:
    """Adds up atoms from left to right; a group is one atom of the group around it."""

    def __init__(self, text: str) -> None:
        self._groups = [0]
        self._atom = 0
        self._folded = bool(_IGNORES_CASE.search(text))
        self._pinned = text.startswith("^") and "(?" not in text
        self._literal = True

    def close(self) -> Pattern:
        """The whole; a bracket that this file misread ends here."""
        while len(self._groups) > 1:
            self._close()
        self._next(0)
        return Pattern(max(1, self._groups[0]), self._pinned, self._literal)

    def take(self, token: re.Match[str]) -> None:
        kind = token.lastgroup or "plain"
        if kind in {"open", "flags"}:
            self._open(token[0])
        elif kind == "close":
            self._close()
        elif kind == "repeat":
            self._repeat(1, endless=token[0] != "?")
        elif kind == "count":
            most = token["most"]
            self._repeat(max(1, int(token["least"]), int(most or 0)), endless=most == "")
        else:
            self._next(self._weight(kind, token[0]))
            self._pinned = self._pinned and not (kind == "either" and len(self._groups) == 1)

    def _weight(self, kind: str, text: str) -> int:
        one_char = kind == "class" and len(text) == _ONE_CHAR_CLASS
        self._literal = self._literal and (one_char or kind in {"plain", "escape", "either", "quoted", "code"})
        if kind == "class":
            return self._class(text)
        if kind == "unicode":
            return _UNICODE_UNITS
        if kind == "set":
            return _SET_UNITS
        if kind in {"wide", "negated"}:
            return _WIDE_UNITS
        return len(text.encode()) * (_FOLDED_UNITS if self._folded else 1)

    def _class(self, text: str) -> int:
        if "\\p" in text or "\\P" in text:
            return _UNICODE_UNITS
        if text.startswith("[^") or not text.isascii() or "\\" in text or "[:^" in text:
            return _UNICODE_UNITS if self._folded else len(text) * _WIDE_UNITS
        return len(_RANGE.sub("r", text[1:].removesuffix("]"))) * (_FOLDED_UNITS if self._folded else 1)

    def _open(self, text: str) -> None:
        self._next(0)
        if not (text.startswith("(?") and text.endswith(")")):
            self._groups.append(0)

    def _close(self) -> None:
        self._next(0)
        if len(self._groups) > 1:
            self._atom = self._groups.pop() + 1

    def _next(self, atom: int) -> None:
        self._groups[-1] += self._atom
        self._atom = atom

    def _repeat(self, times: int, *, endless: bool) -> None:
        self._atom = max(1, self._atom) * times + 1
        self._literal = False
        self._pinned = self._pinned and not endless
