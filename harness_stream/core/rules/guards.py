"""What an expression has made sure of before it reads something that may not be there.

Rule: a fact is known on the right of `&&` if its left side being true implies it, on the right of `||` if the left side
being false does, and in the branches of `? :` accordingly. That is CEL's short circuit, so a guarded read cannot fail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.core.rules.syntax import Call, Comprehension, Const, Ident, ListOf, MapOf, Node, Select

if TYPE_CHECKING:
    from collections.abc import Mapping

Fact = tuple[str, ...]
Facts = frozenset[Fact]
NOTHING: Final[Facts] = frozenset()


def present(table: str) -> Fact:
    """The row of this table is there."""
    return ("present", table)


def key_in(container: Node, key: Node) -> Fact:
    """The map holds the key."""
    return ("key", spelling(container), spelling(key))


def implied(node: Node, truth: bool, selections: Mapping[str, Node]) -> Facts:  # noqa: PLR0911  one case a node
    """What is known if the node came out as `truth`; selections stand for their own expressions."""
    match node:
        case Ident(name=name) if name in selections:
            return implied(selections[name], truth, {})
        case Select(operand=Ident(name=table), field="present", test=False) if truth:
            return frozenset({present(table)})
        case Select(operand=container, field=field, test=True) if truth:
            # On a table it is refused, once: what it stands before is guarded as was meant.
            row = {present(container.name)} if isinstance(container, Ident) else set()
            return frozenset({key_in(container, Const(0, field)), *row})
        case Call(function="@in", args=(key, container)) if truth:
            return frozenset({key_in(container, key)})
        case Call(function="!_", args=(inner,)):
            return implied(inner, not truth, selections)
        case Call(function="_&&_" | "_||_" as operator, args=args):
            sides = [implied(arg, truth, selections) for arg in args]
            both_hold = truth == (operator == "_&&_")
            return NOTHING.union(*sides) if both_hold else sides[0].intersection(*sides[1:])
        case _:
            return NOTHING


def spelling(node: Node) -> str:  # noqa: PLR0911  one case a node
    """One spelling for expressions that read the same thing: `m.k` is `m["k"]`, and `event` is `intent`."""
    match node:
        case Const(value=value):
            return repr(value)
        case Ident(name=name):
            return "intent" if name == "event" else name
        case Select(operand=operand, field=field):
            return f"{spelling(operand)}[{field!r}]"
        case Call(function="_[_]", args=(operand, key)):
            return f"{spelling(operand)}[{spelling(key)}]"
        case Call(function=function, target=target, args=args):
            parts = [spelling(part) for part in (*([target] if target else []), *args)]
            return f"{function}({','.join(parts)})"
        case ListOf(elements=elements):
            return f"list({','.join(map(spelling, elements))})"
        case MapOf(entries=entries):
            return f"map({','.join(f'{spelling(key)}:{spelling(value)}' for key, value in entries)})"
        case Comprehension(over=over, body=body):
            return f"loop({','.join(map(spelling, (over, *body)))})"


def written(node: Node) -> str:  # noqa: PLR0911  one case a node
    """Roughly what the author wrote, for messages."""
    match node:
        case Const(value=str(value)):
            return f'"{value}"'
        case Const(value=value):
            return str(value).lower() if isinstance(value, bool) else str(value)
        case Ident(name=name):
            return name
        case Select(operand=operand, field=field):
            return f"{written(operand)}.{field}"
        case Call(function="_[_]", args=(operand, key)):
            return f"{written(operand)}[{written(key)}]"
        case Call(function=function, target=None, args=args) if function.isidentifier():
            return f"{function}({', '.join(map(written, args))})"
        case _:
            return "(…)"
