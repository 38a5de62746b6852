"""The syntax tree of a CEL expression, with the place of every node.

Rule: the only parser is CEL's own, so that what is checked is what runs. It hands its tree out serialised (the protobuf
message `cel.expr.ParsedExpr`); this file decodes that message, macros already expanded, and knows nothing else.
Field numbers are those of cel-spec `cel/expr/syntax.proto`. Offsets count characters from the start of the expression.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Const:
    """A literal; `value` is None for null and for kinds the rule language has no use for."""

    offset: int
    value: str | int | float | bool | bytes | None


class Unsigned(int):
    """The value of an unsigned literal, `5u`: to CEL no number that compares or adds up with others."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Ident:
    """A name; names that macros make up start with `@`."""

    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, or `has(operand.field)` if `test`; the offset is that of the dot."""

    offset: int
    operand: Node
    field: str
    test: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or operator (`_&&_`, `_[_]`, `@in`, …); `target` is the receiver of a method."""

    offset: int
    function: str
    target: Node | None
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list literal."""

    offset: int
    elements: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    """A map literal; `message` names the type if it is a message literal instead."""

    offset: int
    message: str
    entries: tuple[tuple[Node, Node], ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """What `all`, `exists`, `map`, … expand to: `body` holds the accumulator's start, condition, step and result."""

    offset: int
    variable: str
    over: Node
    body: tuple[Node, ...]


Node = Const | Ident | Select | Call | ListOf | MapOf | Comprehension

_Fields = dict[int, list["int | bytes"]]

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_CONTINUES: Final = 0x80
_SIGN_BIT: Final = 1 << 63


def decode(serialized: bytes) -> Node:
    """The tree of what `Expression.serialize()` of an unchecked expression returned.

    Raises:
        ValueError: the bytes are not such a message, which means the CEL library changed.
    """
    parsed = _message(_message(serialized), 2)  # google.protobuf.Any wraps it
    offsets = {_int(entry, 1): _int(entry, 2) for entry in map(_message, _all(_message(parsed, 3), 4))}
    return _node(_message(parsed, 2), offsets)


def children(node: Node) -> Iterator[Node]:
    """The nodes right below this one, in the order of the text."""
    match node:
        case Select():
            yield node.operand
        case Call():
            if node.target is not None:
                yield node.target
            yield from node.args
        case ListOf():
            yield from node.elements
        case MapOf():
            for entry in node.entries:
                yield from entry
        case Comprehension():
            yield node.over
            yield from node.body
        case _:
            return


def _node(fields: _Fields, offsets: dict[int, int]) -> Node:
    offset = offsets.get(_int(fields, 2), 0)
    for number, build in _BUILDERS.items():
        if number in fields:
            return build(_message(fields, number), offset, offsets)
    raise ValueError("an expression of unknown kind")


def _const(fields: _Fields, offset: int, _: dict[int, int]) -> Node:
    for number, values in fields.items():
        value = values[-1]
        if isinstance(value, int):
            if number == 4:  # noqa: PLR2004  4 = uint64
                return Const(offset, Unsigned(value))
            signed = value - (1 << 64) if number == 3 and value & _SIGN_BIT else value  # noqa: PLR2004  3 = int64
            return Const(offset, bool(value) if number == 2 else None if number == 1 else signed)  # noqa: PLR2004  2 = bool, 1 = null
        if number == 5:  # noqa: PLR2004  5 = double
            return Const(offset, struct.unpack("<d", value)[0])
        return Const(offset, value.decode() if number == 6 else value)  # noqa: PLR2004  6 = string, 7 = bytes
    return Const(offset, None)


def _ident(fields: _Fields, offset: int, _: dict[int, int]) -> Node:
    return Ident(offset, _text(fields, 1))


def _select(fields: _Fields, offset: int, offsets: dict[int, int]) -> Node:
    return Select(offset, _node(_message(fields, 1), offsets), _text(fields, 2), bool(_int(fields, 3)))


def _call(fields: _Fields, offset: int, offsets: dict[int, int]) -> Node:
    target = _node(_message(fields, 1), offsets) if 1 in fields else None
    args = tuple(_node(_message(arg), offsets) for arg in _all(fields, 3))
    return Call(offset, _text(fields, 2), target, args)


def _list(fields: _Fields, offset: int, offsets: dict[int, int]) -> Node:
    return ListOf(offset, tuple(_node(_message(element), offsets) for element in _all(fields, 1)))


def _map(fields: _Fields, offset: int, offsets: dict[int, int]) -> Node:
    entries = []
    for entry in map(_message, _all(fields, 2)):
        key = _node(_message(entry, 3), offsets) if 3 in entry else Const(offset, _text(entry, 2))  # noqa: PLR2004  3 = map_key, 2 = field_key
        entries.append((key, _node(_message(entry, 4), offsets)))
    return MapOf(offset, _text(fields, 1), tuple(entries))


def _comprehension(fields: _Fields, offset: int, offsets: dict[int, int]) -> Node:
    over = _node(_message(fields, 2), offsets)
    body = tuple(_node(_message(fields, number), offsets) for number in (4, 5, 6, 7))
    return Comprehension(offset, _text(fields, 1), over, body)


_BUILDERS: Final = {3: _const, 4: _ident, 5: _select, 6: _call, 7: _list, 8: _map, 9: _comprehension}


def _all(fields: _Fields, number: int) -> Iterator[bytes]:
    for value in fields.get(number, ()):
        if not isinstance(value, bytes):
            raise ValueError("a number where a message belongs")  # noqa: TRY004  the bytes are wrong, not a caller's type
        yield value


def _text(fields: _Fields, number: int) -> str:
    return b"".join(_all(fields, number)).decode()


def _int(fields: _Fields, number: int) -> int:
    value = fields.get(number, [0])[-1]
    if isinstance(value, bytes):
        raise ValueError("bytes where a number belongs")  # noqa: TRY004  the bytes are wrong, not a caller's type
    return value


def _message(source: bytes | _Fields, number: int | None = None) -> _Fields:
    """The fields of a protobuf message, or of the message in a field of one, by number."""
    data = source if isinstance(source, bytes) else next(_all(source, number or 0), b"")
    fields: _Fields = {}
    index = 0
    while index < len(data):
        tag, index = _varint(data, index)
        value, index = _value(data, index, tag & 7)
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _value(data: bytes, index: int, wire_type: int) -> tuple[int | bytes, int]:
    if wire_type == _VARINT:
        return _varint(data, index)
    if wire_type == _FIXED64:
        return data[index : index + 8], index + 8
    if wire_type == _BYTES:
        length, index = _varint(data, index)
        return data[index : index + length], index + length
    raise ValueError(f"wire type {wire_type}")


def _varint(data: bytes, index: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if index >= len(data):
            raise ValueError("cut short")
        byte = data[index]
        index += 1
        result |= (byte & 0x7F) << shift
        if byte < _CONTINUES:
            return result, index
        shift += 7
