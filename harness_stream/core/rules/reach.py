"""What can be known of conditions and windows before any event: what never holds, always holds, or implies another.

Rule: an answer is given only if it is so whatever anybody sends; "not known" is the usual one. Parameters are knobs, so
nothing is concluded from their value inside a condition. Types were checked before, so constants compare as in CEL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import window as windows
from harness_stream.core.rules.guards import spelling
from harness_stream.core.rules.language import COMPARISONS, DECISIONS
from harness_stream.core.rules.syntax import Call, Comprehension, Const, Ident, ListOf, MapOf, Node, Select

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness_stream.core.rules.parse import Condition, Correlation

_UNKNOWN: Final = object()
_DECISION: Final = spelling(Select(0, Ident(0, "event"), "decision", test=False))


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an expression comes down to.

    Attributes:
        truth: True or False if it always comes out so, else None.
        demands: it is true exactly if all of these are; one spelling each.
    """

    truth: bool | None
    demands: frozenset[str]

    def implies(self, other: Meaning) -> bool:
        """Whether the other is surely true wherever this one is."""
        return other.truth is True or (other.truth is None and other.demands <= self.demands)


def meaning_of(tree: Node, selections: Mapping[str, Node], decisions: frozenset[str] = frozenset(DECISIONS)) -> Meaning:
    """The meaning of a condition, with its selections put in, for events whose decision is one of these."""
    literals = list(_literals(_narrowed(_normal(tree, selections), decisions), truth=True))
    values = [_constant(node) if truth else _negated(_constant(node)) for node, truth in literals]
    if False in values or _contradict(literals):
        return Meaning(False, frozenset())
    open_ = [literal for literal, value in zip(literals, values, strict=True) if value is not True]
    return Meaning(None if open_ else True, frozenset(_spelled(*literal) for literal in open_))


def window_holds(window: Correlation, own: Sequence[bool], dead: Sequence[bool]) -> bool | None:
    """Whether a window's condition always or never holds; None if it depends.

    Args:
        window: the correlation.
        own: for each listed selection, whether the intent that is judged surely matches it.
        dead: for each, whether no event ever does.
    """
    if window.type == "absent":
        return False if any(own) else (all(dead) or None)
    if window.condition is not None:
        return _counted(window, window.condition, own=any(own), dead=all(dead))
    if any(dead):
        return False
    # In order, the intent itself is the last match only: it cannot have come after itself.
    ordered = window.type == "temporal_ordered" and len(own) > 1
    return True if all(own) and not ordered else None


def holds_wherever(one: Correlation | None, other: Correlation | None) -> bool:
    """Whether the first window's condition surely holds where the second one's does; no window always holds."""
    if one is None or one == other:
        return True
    if other is None or replace(one, condition=None) != replace(other, condition=None):
        return False
    mine, theirs = one.condition, other.condition
    if mine is None or theirs is None or (mine.op, mine.field) != (theirs.op, theirs.field):
        return False
    if mine.op in {"gt", "gte"}:
        return mine.threshold <= theirs.threshold
    return mine.op in {"lt", "lte"} and mine.threshold >= theirs.threshold


# --- Windows ----------------------------------------------------------------------------------------------------------


def _counted(window: Correlation, condition: Condition, *, own: bool, dead: bool) -> bool | None:
    """Over all that could be counted: at least the intent itself if it matches, nothing if no selection ever does."""
    counts_events = window.type == "event_count"
    if counts_events and condition.op in {"eq", "neq"} and not float(condition.threshold).is_integer():
        return condition.op == "neq"
    low = 1 if own and counts_events else 0
    high: float | None = math.inf if window.type == "value_sum" else None
    if window.type == "value_count" and condition.field in window.group_by:
        high = 1  # a group has one value of what it is grouped by
    if dead:
        high = 0
    holds: Callable[[Any, Any], bool | None] = windows.condition_of(condition.op, condition.threshold)
    return holds(low, high)


# --- Conditions -------------------------------------------------------------------------------------------------------


def _normal(node: Node, selections: Mapping[str, Node]) -> Node:  # noqa: PLR0911  one case a node
    """The tree with selections put in, `&&` and `||` of any number of parts, and `has()` told from reading."""

    def inner(child: Node) -> Node:
        return _normal(child, selections)

    match node:
        case Ident(name=name) if name in selections:
            return _normal(selections[name], {})
        case Call(function="_&&_" | "_||_" as operator):
            return Call(node.offset, operator, None, tuple(map(inner, _flat(node, operator))))
        case Call(target=target, args=args):
            return replace(node, target=target and inner(target), args=tuple(map(inner, args)))
        case Select(operand=operand, test=test):
            plain = replace(node, operand=inner(operand), test=False)
            return Call(node.offset, "has", None, (plain,)) if test else plain
        case ListOf(elements=elements):
            return replace(node, elements=tuple(map(inner, elements)))
        case MapOf(entries=entries):
            return replace(node, entries=tuple((inner(key), inner(value)) for key, value in entries))
        case Comprehension(over=over, body=body):
            return replace(node, over=inner(over), body=tuple(map(inner, body)))
        case _:
            return node


def _narrowed(node: Node, decisions: frozenset[str]) -> Node:
    """The tree with what is asked of the decision answered where it is settled."""
    match node:
        case Call(function="_&&_" | "_||_" | "!_", args=args):
            return replace(node, args=tuple(_narrowed(arg, decisions) for arg in args))
        case Call(function="_!=_", args=args):
            equal = _narrowed(Call(node.offset, "_==_", None, args), decisions)
            return Const(node.offset, not equal.value) if isinstance(equal, Const) else node
        case Call() if (found := _values(node)) is not None and found[0] == _DECISION and found[1] <= set(DECISIONS):
            asked = found[1] & decisions
            settled = not asked or asked == decisions
            return Const(node.offset, bool(asked)) if settled else node
        case _:
            return node


def _flat(node: Node, operator: str) -> Iterator[Node]:
    match node:
        case Call(function=function, args=args) if function == operator:
            yield from chain.from_iterable(_flat(arg, operator) for arg in args)
        case _:
            yield node


def _literals(node: Node, *, truth: bool) -> Iterator[tuple[Node, bool]]:
    """Parts that must all come out as stated for the node to come out as `truth`."""
    match node:
        case Call(function="_&&_" | "_||_" as operator, args=args) if truth == (operator == "_&&_"):
            yield from chain.from_iterable(_literals(arg, truth=truth) for arg in args)
        case Call(function="!_", args=(inner,)):
            yield from _literals(inner, truth=not truth)
        case Call(function="_!=_", args=args):
            yield Call(node.offset, "_==_", None, args), not truth
        case _:
            yield node, truth


def _spelled(node: Node, truth: bool) -> str:
    match node:
        case Call(function="_&&_" | "_||_" as operator, args=args):
            text = f"{operator}({','.join(sorted(_spelled(arg, True) for arg in args))})"
        case _:
            text = spelling(node)
    return text if truth else f"!{text}"


def _constant(node: Node) -> Any:  # noqa: ANN401  any CEL value
    """The value of a node without variables, else `_UNKNOWN`."""
    match node:
        case Const(value=value) if value is not None:
            return value
        case ListOf(elements=elements):
            values = tuple(map(_constant, elements))
            return _UNKNOWN if _UNKNOWN in values else values
        case Call(function="!_", args=(inner,)):
            return _negated(_constant(inner))
        case Call(function="_&&_" | "_||_" as operator, args=args):
            decisive = operator == "_||_"
            values = tuple(map(_constant, args))
            return decisive if decisive in values else _UNKNOWN if _UNKNOWN in values else not decisive
        case Call(function=function, args=(left, right)) if function in COMPARISONS or function == "@in":
            return _compared(function, _constant(left), _constant(right))
        case _:
            return _UNKNOWN


def _negated(value: Any) -> Any:  # noqa: ANN401  as above
    return not value if isinstance(value, bool) else _UNKNOWN


def _compared(function: str, left: Any, right: Any) -> Any:  # noqa: ANN401  as above
    if left is _UNKNOWN or right is _UNKNOWN:
        return _UNKNOWN
    try:
        return bool(_COMPARE[function](left, right))
    except TypeError:  # the type checker has said so already
        return _UNKNOWN


_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "_==_": lambda a, b: a == b,
    "_!=_": lambda a, b: a != b,
    "_<_": lambda a, b: a < b,
    "_<=_": lambda a, b: a <= b,
    "_>_": lambda a, b: a > b,
    "_>=_": lambda a, b: a >= b,
    "@in": lambda a, b: a in b,
}


def _contradict(literals: list[tuple[Node, bool]]) -> bool:
    """Whether two parts exclude each other: one and its opposite, or values of one field that do not meet."""
    said = {_spelled(*literal) for literal in literals}
    if any(f"!{text}" in said for text in said):
        return True
    allowed: dict[str, frozenset[Any]] = {}
    barred: dict[str, set[Any]] = {}
    for node, truth in literals:
        if (found := _values(node)) is None:
            continue
        field, values = found
        if truth:
            allowed[field] = allowed.get(field, values) & values
        else:
            barred.setdefault(field, set()).update(values)
    return any(not values - barred.get(field, set()) for field, values in allowed.items())


def _values(node: Node) -> tuple[str, frozenset[Any]] | None:
    """A field and the constants it is compared with, if the node is `field == c` or `field in [c, …]`."""
    match node:
        case (
            Call(function="_==_", args=(Const(value=value), field))
            | Call(function="_==_", args=(field, Const(value=value)))
        ) if isinstance(value, str | int | float):
            return spelling(field), frozenset({value})
        case Call(function="@in", args=(field, ListOf() as listed)):
            values = _constant(listed)
            plain = values is not _UNKNOWN and all(isinstance(value, str | int | float) for value in values)
            return (spelling(field), frozenset(values)) if plain else None
        case _:
            return None
