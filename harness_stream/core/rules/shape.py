"""Reading items of a known shape: mappings with known keys, lists, texts, words.

Rule: whatever is wrong becomes a finding and a harmless stand-in, so that one look finds everything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core.rules.language import NAME_CHARS_MAX, Scalar
from harness_stream.core.rules.mistakes import Code, Findings, closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection

    from harness_stream.core.rules.document import Item


class Shape:
    """Turns items into data.

    Args:
        findings: takes the mistakes.
        whole: what is to be split when there is too much of it, in the user's words.
    """

    def __init__(self, findings: Findings, whole: str) -> None:
        self.findings = findings
        self._whole = whole

    def wrong(self, item: Item, code: Code, message: str, fix: str) -> None:
        """Adds a mistake on an item."""
        self.findings.on(item, message, fix, code=code)

    def mapping(self, item: Item, known: Collection[str], required: Collection[str], what: str) -> dict[str, Item]:
        """The values of a mapping's known keys, in the order of `known`."""
        if not isinstance(item.value, dict):
            fix = f"its keys are {', '.join(known)}"
            self.wrong(item, Code.WRONG_TYPE, f"{what} is written as `key: value`", fix)
            return {}
        unknown = item.value.keys() - set(known)
        meant = {closest(name, known) for name in unknown}
        for name in unknown:
            message = f"unknown key `{name[:NAME_CHARS_MAX]}` in {what}"
            self.wrong(item.keys[name], Code.UNKNOWN_KEY, message, did_you_mean(name, known))
        for name in required:
            if name not in item.value and name not in meant:
                self.wrong(item, Code.MISSING_KEY, f"{what} needs `{name}`", f"add `{name}: …`")
        return {name: item.value[name] for name in known if name in item.value}

    def entries(self, item: Item | None, what: str, most: int) -> dict[str, Item]:
        """The values of a mapping whose keys are names."""
        if item is None:
            return {}
        if not isinstance(item.value, dict):
            fix = f"write `{what}: {{name: value}}`"
            self.wrong(item, Code.WRONG_TYPE, f"`{what}` is written as `name: value`", fix)
            return {}
        if len(item.value) > most:
            message = f"{len(item.value):,} {what}; the limit is {most:,}"
            self.wrong(item, Code.LIMIT, message, f"split the {self._whole}")
            return {}
        return item.value

    def sequence(self, item: Item, message: str, fix: str) -> list[Item]:
        """The elements of a list."""
        if isinstance(item.value, list):
            return item.value
        self.wrong(item, Code.WRONG_TYPE, message, fix)
        return []

    def text(self, item: Item, key: str) -> str:
        """A text."""
        if isinstance(item.value, str):
            return item.value
        self.wrong(item, Code.WRONG_TYPE, f"`{key}` is a text", "write it in quotes")
        return ""

    def word(self, item: Item | None, known: Collection[str], key: str, otherwise: str) -> str:
        """One of the known words."""
        if item is None:
            return otherwise
        if isinstance(item.value, str) and item.value in known:
            return item.value
        fix = did_you_mean(str(item.value)[:NAME_CHARS_MAX], known)
        self.wrong(item, Code.UNKNOWN_WORD, f"`{key}` is one of {', '.join(known)}", fix)
        return otherwise

    def scalar(self, item: Item, key: str) -> Scalar:
        """A text, a number, true or false."""
        if isinstance(item.value, str | int | float):  # bool is an int
            return item.value
        self.wrong(item, Code.WRONG_TYPE, f"`{key}` is a text, a number, true or false", "write one value")
        return 0
