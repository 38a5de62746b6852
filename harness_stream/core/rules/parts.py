"""A condition taken apart for people: its top-level conjuncts as they were written, and the fields each of them reads.

Rule: a condition is true exactly if all of its parts are, and CEL's own parser says where they end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.core.rules.functions import READS, function_of, rewritten
from harness_stream.core.rules.language import FIELDS, ROOTS
from harness_stream.core.rules.syntax import Call, Ident, Node, Select, children

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness_stream.core.rules.cel import Parser

_AND: Final = "_&&_"
_OPEN, _CLOSE, _QUOTES = "([{", ")]}", "\"'"


def parts_of(parser: Parser, text: str) -> tuple[str, ...]:
    """The conjuncts of a condition, in order; brackets around them are left out."""
    bare = text.strip()
    tree = parser.tree(bare)
    if not isinstance(tree, Call) or tree.function != _AND:
        return (bare,)
    cuts = sorted(_conjunctions(tree) & _outside(bare))
    if not cuts:  # the whole is in brackets
        return parts_of(parser, bare[1:-1]) if bare[:1] == "(" and bare[-1:] == ")" else (bare,)
    ends = [*cuts, len(bare)]
    begins = [0, *(cut + len("&&") for cut in cuts)]
    return tuple(part for begin, end in zip(begins, ends, strict=True) for part in parts_of(parser, bare[begin:end]))


def with_selections(parser: Parser, text: str, selections: Mapping[str, str]) -> str:
    """The text with every selection replaced by its own."""
    tree = parser.tree(text)
    if isinstance(tree, tuple):
        return text
    words = {at: (name, bracketed(selections[name])) for at, name in _mentions(tree, selections)}
    return put_in(text, words, dict(_calls(text, tree)))


def put_in(text: str, words: Mapping[int, tuple[str, str]], calls: Mapping[int, str]) -> str:
    """The text with words replaced by others, and functions of ours by their look-ups.

    Args:
        text: the condition.
        words: what stands there and what is to stand there, by its offset.
        calls: the language's own functions it calls, by the offset of each call.
    """
    for offset in sorted({*words, *calls}, reverse=True):  # what stands inside of a call goes before the call does
        if offset in calls:
            text = rewritten(text, offset, calls[offset])
        else:
            word, other = words[offset]
            text = f"{text[:offset]}{other}{text[offset + len(word) :]}"
    return text


def bracketed(selection: str) -> str:
    """A selection's text as it is put in; the line break ends a comment at its end."""
    return f"({selection}\n)"


def reads_of(parser: Parser, text: str) -> tuple[str, ...]:
    """The dotted names a condition reads, in the order of the text; selections are not followed."""
    tree = parser.tree(text)
    return () if isinstance(tree, tuple) else tuple(dict.fromkeys(_reads(tree)))


def _conjunctions(node: Node) -> frozenset[int]:
    """Places of the `&&` that join the node's conjuncts."""
    if isinstance(node, Call) and node.function == _AND:
        return frozenset({node.offset}).union(*map(_conjunctions, node.args))
    return frozenset()


def _outside(text: str) -> frozenset[int]:
    """Places outside of brackets, quoted texts and comments."""
    found, depth, index = set(), 0, 0
    while index < len(text):
        char = text[index]
        if char in _QUOTES:
            index = _after_quoted(text, index)
            continue
        if text.startswith("//", index):
            index = text.find("\n", index) if "\n" in text[index:] else len(text)
            continue
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth == 0:
            found.add(index)
        index += 1
    return frozenset(found)


def _after_quoted(text: str, index: int) -> int:
    """The place after a quoted text that begins at index."""
    quote = text[index] * 3 if text.startswith(text[index] * 3, index) else text[index]
    index += len(quote)
    while index < len(text) and not text.startswith(quote, index):
        index += 1 if text[index] != "\\" else 2  # in a raw text, too, CEL reads a backslash with what follows it
    return index + len(quote)


def _mentions(node: Node, selections: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    if isinstance(node, Ident) and node.name in selections:
        yield node.offset, node.name
    for child in children(node):
        yield from _mentions(child, selections)


def _calls(text: str, node: Node) -> Iterator[tuple[int, str]]:
    """Where the language's own functions are called."""
    if isinstance(node, Call) and (name := function_of(node)) is not None:
        yield node.target.offset if node.target else len(text[: node.offset].rstrip()) - len(name), name
    for child in children(node):
        yield from _calls(text, child)


def _reads(node: Node) -> Iterator[str]:
    path = _path(node)
    if path is not None:
        yield path
        return
    if isinstance(node, Call) and (name := function_of(node)) is not None:
        yield READS[name]
    for child in children(node):
        yield from _reads(child)


def _path(node: Node) -> str | None:
    """The field a node names; of what lies inside a field, the field."""
    match node:
        case Ident(name=name) if name in ROOTS:
            return name if name == "args" else None
        case Select(operand=operand):
            outer = _path(operand)
            if outer is not None:
                return outer
            dotted = _dotted(node)
            known = dotted is not None and (dotted in FIELDS or dotted.startswith("params."))
            return dotted if known else None
        case Call(function="_[_]", args=(operand, _)):
            return _path(operand)
        case _:
            return None


def _dotted(node: Node) -> str | None:
    match node:
        case Ident(name=name) if name in ROOTS:
            return name
        case Select(operand=operand, field=field):
            base = _dotted(operand)
            return None if base is None else f"{base}.{field}"
        case _:
            return None
