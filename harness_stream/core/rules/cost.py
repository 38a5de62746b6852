"""What a condition may cost on the largest legal event, told from its syntax tree before it ever runs.

Rule: an estimate errs upwards, and whatever an agent or a row may fill is taken as full. CEL has no clock to stop an
evaluation by; its one budget counts loop steps, and neither copying lists nor regular expressions are loop steps. So
what could stall a worker is refused when a rule set is loaded (`language.py` has the limits).

The same look at the largest values tells which arithmetic can leave the range of whole numbers, an error in CEL.

A step is what one node of a tree costs, about 25 ns; the weights below are measured against that.
`benchmarks/rules.py --worst` prints both sides.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from harness_stream.core import limits
from harness_stream.core.rules.functions import ALLOWS, MENTIONS, ORIGIN, function_of
from harness_stream.core.rules.language import (
    ARITHMETIC,
    CONVERSIONS,
    DIVISIONS,
    FIELDS,
    INTEGER_MAX,
    WHOLE_MAX,
    Kind,
)
from harness_stream.core.rules.patterns import pattern_of
from harness_stream.core.rules.syntax import Call, Comprehension, Const, Ident, ListOf, MapOf, Node, Select, Unsigned

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.rules.expression import Expression


LOOP: Final = "loop"
GROWING: Final = "map, filter"
SELECTION: Final = "selection"
MAP: Final = "map literal"


class Part(NamedTuple):
    """One node of a tree, and how much of the cost it is.

    Attributes:
        offset: where it stands.
        what: the function it calls, or one of the kinds above; empty for a name or a value.
        times: how often it is done; of the longest loop, its passes.
    """

    offset: int = 0
    what: str = ""
    times: int = 1


class Overflow(NamedTuple):
    """Arithmetic whose result can be no whole number of CEL's.

    Attributes:
        offset: where it stands.
        function: CEL's name of it.
        of_whole: whether all it is done with are whole numbers: not times, durations or unsigned numbers.
    """

    offset: int
    function: str
    of_whole: bool


class Cost(NamedTuple):
    """What one evaluation may take.

    Attributes:
        nodes: of the tree, with its selections put in: what compiling takes.
        steps: of evaluation, about 25 ns each.
        loops: passes through loops; CEL gives up at `language.LOOP_STEPS_RUNTIME`.
        dearest: the part that takes most steps.
        longest: the part that takes most passes.
        overflows: the first arithmetic that can fail; None if there is none.
    """

    nodes: int
    steps: int
    loops: int
    dearest: Part = Part()
    longest: Part = Part()
    overflows: Overflow | None = None


class Shape(NamedTuple):
    """How large a value may be.

    Attributes:
        items: elements of a list or map.
        chars: characters of a text.
        inner: the largest element.
        most: magnitude of a whole number.
    """

    items: int = 0
    chars: int = 0
    inner: Shape | None = None
    most: int = 0

    @property
    def weight(self) -> float:
        """Steps to compare it with its equal, or to walk through it."""
        inner = self.inner.weight if self.inner else 0.0
        return 1.0 + self.items * (_COMPARE_STEPS_ITEM + inner) + self.chars * _COMPARE_STEPS_CHAR


_COMPARE_STEPS_ITEM: Final = 1.0
_COMPARE_STEPS_CHAR: Final = 1 / 512
_SCAN_STEPS_ITEM: Final = 0.3
_CONVERT_STEPS: Final = 40
_LOOK_UP_STEPS: Final = 10
_CONVERTING: Final = CONVERSIONS | {"type"}
_JOIN_STEPS_CHAR: Final = 1 / 6
_JOIN_STEPS_ITEM: Final = 5.0
_SEARCH_STEPS_CHAR: Final = 0.5
_COUNT_STEPS_CHAR: Final = 1 / 40
_ENTRY_STEPS: Final = 2.0
_LOOP_STEPS: Final = 2.0
# An intent of 64 KiB has room for some 3,000 fingerprints of values.
_FUNCTION_STEPS: Final = {
    ORIGIN: 4 * _LOOK_UP_STEPS,
    ALLOWS: 2 * limits.WORD_CHARS_MAX * _JOIN_STEPS_CHAR + limits.ACTION_CLASSES_MAX * 2 * _SCAN_STEPS_ITEM,
    MENTIONS: 3_000 * _SCAN_STEPS_ITEM,
}
# `map` and `filter` copy what they have so far for every element: the square of the length.
_GROW_STEPS_ITEM: Final = 0.8

_SCALAR: Final = Shape()
_IDENTIFIER: Final = Shape(chars=limits.IDENTIFIER_CHARS_MAX)
_WORD: Final = Shape(chars=limits.WORD_CHARS_MAX)
# The longest text whose field is not listed: purposes and reasons are as long as identifiers.
_TEXT: Final = _IDENTIFIER
_ARGUMENT: Final = Shape(items=4, inner=_WORD)
_WHOLE: Final = Shape(most=INTEGER_MAX)
# No text, list or map in memory is longer.
_SIZE_MAX: Final = 2**32
# Times, and unsigned numbers, which fail below 0: no arithmetic of them is sure to succeed.
# Beyond -2^63, which is a whole number.
_NO_ARITHMETIC: Final = WHOLE_MAX + 2
_CALCULATING: Final = ARITHMETIC | DIVISIONS | {"-_"}
# A chain carries the labels of all it touched. Nothing bounds them yet; beyond this the loop budget ends a loop.
_CHAIN_LABELS: Final = 1024


def _many(items: int, inner: Shape) -> Shape:
    return Shape(items, inner=inner)


_EVENT: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        "action": Shape(chars=limits.ACTION_CHARS_MAX),
        "roles": _many(limits.ROLES_MAX, _WORD),
        "labels": _many(2 * limits.LABELS_MAX, _WORD),  # the intent's and its tool's
        "measures": _many(limits.MEASURES_MAX, _WORD),
        "resource.uri": Shape(chars=limits.URI_CHARS_MAX),
        "resource.system": Shape(chars=limits.URI_CHARS_MAX),
        "resource.labels": _many(limits.LABELS_MAX, _WORD),
    }
)
_FIELDS: Final[Mapping[str, Shape]] = MappingProxyType(
    {
        **{name: _WHOLE for name, kind in FIELDS.items() if kind is Kind.INT},
        **{f"{root}.{name}": shape for root in ("event", "intent") for name, shape in _EVENT.items()},
        "identity.roles": _many(limits.ROLES_MAX, _WORD),
        "identity.actions": _many(limits.ROW_ACTIONS_MAX, Shape(chars=limits.ACTION_CHARS_MAX)),
        "identity.workloads": _many(limits.ROW_WORKLOADS_MAX, _IDENTIFIER),
        "identity.delegates": _many(limits.ROW_DELEGATES_MAX, _IDENTIFIER),
        "risk.reasons": _many(limits.ROW_REASONS_MAX, _TEXT),
        "chain.labels": _many(_CHAIN_LABELS, _WORD),
        "args": _many(limits.ARGUMENTS_MAX, _ARGUMENT),
    }
)


def shapes_of(params: Mapping[str, str | float | bool]) -> Mapping[str, Shape]:
    """The shapes of fields that are not plain texts, and of a rule set's own parameters."""
    return {**_FIELDS, **{f"params.{name}": _shape_of(value) for name, value in params.items()}}


def _shape_of(value: str | float | bytes | None) -> Shape:
    """The shape of a literal or a parameter."""
    if isinstance(value, str | bytes):
        return Shape(chars=len(value))
    if isinstance(value, Unsigned):
        return Shape(most=_NO_ARITHMETIC)
    return Shape(most=abs(value)) if isinstance(value, int) else _SCALAR


def cost_of(tree: Node, shapes: Mapping[str, Shape], selections: Mapping[str, Expression]) -> Cost:
    """Estimates one expression; a selection costs what was estimated for it."""
    estimate = _Estimate(shapes, selections)
    estimate.visit(tree, 1)
    found = estimate.dearest, estimate.longest, estimate.overflows
    return Cost(estimate.nodes, round(estimate.steps), estimate.loops, *found)


class _Estimate:
    """One pass over a tree: adds up what each node costs, times how often it is met."""

    def __init__(self, shapes: Mapping[str, Shape], selections: Mapping[str, Expression]) -> None:
        self._shapes = shapes
        self._selections = selections
        self._bound: dict[str, Shape] = {}
        self._most = 0.0
        self.steps = 0.0
        self.nodes = 0
        self.loops = 0
        self.dearest = self.longest = Part(times=0)
        self.overflows: Overflow | None = None

    def _add(self, node: Node, steps: float, times: int, what: str = "") -> None:
        self.steps += steps * times
        if steps * times > self._most:
            self._most, self.dearest = steps * times, Part(node.offset, what, times)

    def _add_passes(self, node: Node, passes: int, what: str) -> None:
        self.loops += passes
        if passes > self.longest.times:
            self.longest = Part(node.offset, what, passes)

    def visit(self, node: Node, times: int) -> Shape:  # noqa: PLR0911  one case a node
        """Adds the cost of a node that is evaluated so many times; says how large its value may be."""
        self.nodes += 1
        self._add(node, 1, times)
        match node:
            case Const(value=value):
                return _shape_of(value)
            case Ident():
                return self._name(node, times)
            case Select():
                return self._select(node, times)
            case Call():
                return self._call(node, times)
            case ListOf(elements=elements):
                return _many(len(elements), _largest([self.visit(element, times) for element in elements]))
            case MapOf(entries=entries):
                self._add(node, len(entries) * _ENTRY_STEPS, times, MAP)
                pairs = [(self.visit(key, times), self.visit(value, times)) for key, value in entries]
                return _many(len(entries), _largest([shape for pair in pairs for shape in pair]))
            case Comprehension():
                return self._loop(node, times)

    def _name(self, node: Ident, times: int) -> Shape:
        selection = self._selections.get(node.name)
        if node.name in self._bound:
            return self._bound[node.name]
        if selection is None:
            return self._shapes.get(node.name, _SCALAR)
        self.nodes += selection.cost.nodes
        self._add_passes(node, selection.cost.loops * times, SELECTION)
        self._add(node, selection.cost.steps, times, SELECTION)
        return _SCALAR

    def _select(self, node: Select, times: int) -> Shape:
        operand = self.visit(node.operand, times)
        return self._shapes.get(_path(node) or "") or operand.inner or _TEXT

    def _loop(self, node: Comprehension, times: int) -> Shape:
        over = self.visit(node.over, times)
        start, *body = node.body
        grows = isinstance(start, ListOf)
        self.visit(start, times)
        before = dict(self._bound)
        self._bound[node.variable] = over.inner or _TEXT
        what, grown = (GROWING, over.items * _GROW_STEPS_ITEM) if grows else (LOOP, 0)
        self._add_passes(node, over.items * times, what)
        self._add(node, over.items * (_LOOP_STEPS + grown), times, what)
        added = [self.visit(part, times * max(1, over.items)) for part in body]
        self._bound = before
        return _many(over.items, _largest([shape.inner for shape in added if shape.inner])) if grows else _SCALAR

    def _call(self, node: Call, times: int) -> Shape:
        operands = ([] if node.target is None else [node.target]) + list(node.args)
        shapes = [self.visit(operand, times) for operand in operands]
        self._add(node, _steps_of(node, shapes), times, function_of(node) or node.function)
        most = _most_of(node.function, [shape.most for shape in shapes])
        if most > WHOLE_MAX and node.function in _CALCULATING and self.overflows is None:
            of_whole = all(shape.most < _NO_ARITHMETIC for shape in shapes)
            self.overflows = Overflow(node.offset, node.function, of_whole)
        match node.function:
            case "_+_":
                return _joined(shapes)._replace(most=most)
            case "_?_:_":
                return _largest(shapes[1:])
            case "_[_]":
                return shapes[0].inner or _TEXT
            case _:
                return Shape(most=most)


def _most_of(function: str, operands: list[int]) -> int:  # noqa: PLR0911  one case a function
    """Magnitude of a call's result, if it is a whole number; 0 if it surely is none."""
    match function:
        case "_+_" | "_-_":
            return sum(operands)
        case "_*_":
            return math.prod(operands)
        case "_/_" | "_%_" | "-_" | "dyn":
            return operands[0]  # -2^63 / -1 is beyond the range as well
        case "size":
            return _SIZE_MAX
        case "int":
            return WHOLE_MAX + 1  # of -2^63
        case "uint" | "timestamp" | "duration":
            return _NO_ARITHMETIC
        case _:
            return 0


def _steps_of(node: Call, shapes: list[Shape]) -> float:  # noqa: PLR0911  one case a function
    """What a call adds to its own node."""
    match node.function:
        case "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" | "startsWith" | "endsWith":
            return min(shape.weight for shape in shapes)
        case "@in":
            element, container = shapes
            inner = container.inner or _TEXT
            return _LOOK_UP_STEPS + container.items * (_SCAN_STEPS_ITEM + min(element.weight, inner.weight) - 1)
        case "_+_":
            return sum(shape.chars * _JOIN_STEPS_CHAR + shape.items * _JOIN_STEPS_ITEM for shape in shapes)
        case "contains":
            return shapes[0].chars * _SEARCH_STEPS_CHAR
        case "size":
            return shapes[0].chars * _COUNT_STEPS_CHAR
        case "matches":
            pattern = node.args[-1]
            text = pattern.value if isinstance(pattern, Const) and isinstance(pattern.value, str) else ""
            return pattern_of(text).steps(shapes[0].chars)
        case "_[_]":
            return _LOOK_UP_STEPS
        case _ if (own := function_of(node)) is not None:
            return _FUNCTION_STEPS[own]
        case name if name in _CONVERTING:
            return _CONVERT_STEPS
        case _:
            return 0


def _path(node: Node) -> str | None:
    match node:
        case Ident(name=name):
            return name
        case Select(operand=operand, field=field, test=False):
            before = _path(operand)
            return None if before is None else f"{before}.{field}"
        case _:
            return None


def _largest(shapes: list[Shape]) -> Shape:
    inner = [shape.inner for shape in shapes if shape.inner]
    return Shape(
        max((shape.items for shape in shapes), default=0),
        max((shape.chars for shape in shapes), default=0),
        _largest(inner) if inner else None,
        max((shape.most for shape in shapes), default=0),
    )


def _joined(shapes: list[Shape]) -> Shape:
    largest = _largest(shapes)
    return largest._replace(items=sum(s.items for s in shapes), chars=sum(s.chars for s in shapes))
