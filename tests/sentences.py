"""Whether a sentence that a page quotes is one that the code can say.

Rule of this file: a sentence is taken apart by the strings in the sources. Each is texts and gaps, where something is
filled in; what is in a gap is a value, one word, or must be taken apart in the same way, a number before it left out.
"""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

VALUE, COUNTED = re.compile(r"\S+"), re.compile(r"\d+ (.+)")
LEFT_OUT = "…"
GAP = None
Pieces = tuple[str | None, ...]


def _pieces(node: ast.AST) -> Iterator[str | None]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield from _pieces(value)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _pieces(node.left)
        yield from _pieces(node.right)
    else:
        yield GAP


def _says_something(pieces: Sequence[str | None]) -> bool:
    """Has it a word, or does it put two sentences together? Any other would take any text apart into its words."""
    return any(text is not GAP and (re.search("[a-z]{2}", text) or text == "; ") for text in pieces)


def _beginnings(pieces: Pieces) -> list[Pieces]:
    """The whole, and what is left of it where its beginning is left out."""
    return [pieces, *(pieces[at:] for at, text in enumerate(pieces) if at and text is GAP)]


class Sentences:
    """What can be said.

    Args:
        sources: texts of Python modules.
        others: sentences that come from elsewhere.
    """

    def __init__(self, sources: Iterable[str], others: Iterable[str] = ()) -> None:
        nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
        inner = {id(value) for node in nodes if isinstance(node, ast.JoinedStr) for value in node.values}
        whole = (n for n in nodes if isinstance(n, ast.JoinedStr | ast.Constant | ast.BinOp) and id(n) not in inner)
        known = {tuple(_pieces(node)) for node in whole} | {(other,) for other in others}
        self._known = [pieces for pieces in known if _says_something(pieces)]
        self.can_be = cache(self._can_be)

    def _can_be(self, sentence: str) -> bool:
        """Is the whole of it made of them? Where it begins with `…`, a beginning may be left out."""
        if counted := COUNTED.fullmatch(sentence):
            return self.can_be(counted[1])
        return bool(VALUE.fullmatch(sentence)) or any(
            all(self.can_be(part) for part in filled.groups())
            for pieces in self._known
            for shown in (_beginnings(pieces) if sentence.startswith(LEFT_OUT) else [pieces])
            if _says_something(shown) and all(text in sentence for text in shown if text is not GAP)
            if (filled := re.fullmatch("".join("(.+?)" if t is GAP else re.escape(t) for t in shown), sentence))
        )
