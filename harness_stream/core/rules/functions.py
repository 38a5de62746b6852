"""The language's own functions: what they are called, and the look-ups they are rewritten to (DESIGN §6, §9).

Rule: a function asks what `core.variables` has put into maps before any rule is looked at. CEL never calls back, which
would cost more than the whole condition; the text is rewritten when a rule set is loaded.

    origin(name)                  where the values of an argument come from, one word (`core.provenance.WORDS`)
    mandate.allows(op, object)    whether the mandate, and the parent's if there is one, declares this action class
    mandate.mentions(value)       whether the user named this value of an argument
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.core.provenance import NEVER_SEEN
from harness_stream.core.rules.syntax import Call, Const, Ident

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_stream.core.rules.syntax import Node

ORIGIN: Final = "origin"
ALLOWS: Final = "mandate.allows"
MENTIONS: Final = "mandate.mentions"
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    ORIGIN: ("name",),
    ALLOWS: ("operation", "object"),
    MENTIONS: ("value",),
}
READS: Final[Mapping[str, str]] = {ORIGIN: "args", ALLOWS: "mandate.classes", MENTIONS: "mandate.named"}
"""What each of them looks up."""

_FORMS: Final[Mapping[str, Callable[..., str]]] = {
    ORIGIN: lambda name: f'({name} in args ? args[{name}].origin : "{NEVER_SEEN}")',
    ALLOWS: lambda operation, object_: f'((({operation}) + " " + ({object_})) in mandate.classes)',
    MENTIONS: lambda value: f"(({value}) in mandate.named)",
}
_QUOTES: Final = ('"""', "'''", '"', "'")


def function_of(node: Call) -> str | None:
    """The name of the function a call means, if it is one of ours."""
    match node:
        case Call(function="origin", target=None):
            return ORIGIN
        case Call(function=name, target=Ident(name="mandate")) if f"mandate.{name}" in PARAMETERS:
            return f"mandate.{name}"
        case _:
            return None


def names_an_argument(node: Node, bound: tuple[str, ...]) -> bool:
    """`origin` reads its argument twice, so it takes a literal or the variable of a loop."""
    match node:
        case Const(value=str()):
            return True
        case Ident(name=name):
            return name in bound
        case _:
            return False


def rewritten(text: str, start: int, name: str) -> str:
    """The text with the call that begins at `start` replaced by its look-up."""
    opening = text.index("(", start)
    parts, end = _arguments(text, opening + 1)
    return f"{text[:start]}{_FORMS[name](*parts)}{text[end + 1 :]}"


def answered(text: str, start: int) -> str:
    """The text with the call that begins at `start` replaced by `true`; everything keeps its place."""
    _, end = _arguments(text, text.index("(", start) + 1)
    return f"{text[:start]}{'true':<{end + 1 - start}}{text[end + 1 :]}"


def _arguments(text: str, at: int) -> tuple[list[str], int]:
    """The arguments of a call whose bracket opens before `at`, and the place of the one that closes it."""
    parts, depth, begin = list[str](), 0, at
    while True:
        at = _after_quoted(text, at)
        char = text[at]
        if char in ")]}" and depth == 0:
            return [*parts, text[begin:at].strip()], at
        if char == "," and depth == 0:
            parts.append(text[begin:at].strip())
            begin = at + 1
        depth += (char in "([{") - (char in ")]}")
        at += 1


def _after_quoted(text: str, at: int) -> int:
    """The next place at or after `at` that is inside of neither a text nor a comment."""
    while True:
        quote = next((q for q in _QUOTES if text.startswith(q, at)), None)
        if quote is not None:
            at = _end_of(text, at + len(quote), quote)
        elif text.startswith("//", at):
            at = text.index("\n", at)
        else:
            return at


def _end_of(text: str, at: int, quote: str) -> int:
    """A backslash protects what follows it, for CEL's lexer in raw texts as well."""
    while not text.startswith(quote, at):
        at += 2 if text[at] == "\\" else 1
    return at + len(quote)
