"""Bytes ⇄ input events and rows (PROTOCOL §9): everything that may not be judged ends here as `GarbageRecord`.

Rule of this file: the honest path is one parse by the compiled schema plus one look for repeated keys; only what fails
there is taken apart slowly, to say why. Nothing but `GarbageRecord` may come out, whatever goes in, and cost is bounded
by the size limit, which is checked first.
"""

from __future__ import annotations

import json
import math
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn, Union, get_args, get_origin

import orjson
from pydantic import TypeAdapter, ValidationError

from harness_stream.core import limits
from harness_stream.core.events import EVENTS, InputEvent, Part
from harness_stream.core.reasons import Garbage
from harness_stream.core.refusals import refusals
from harness_stream.core.tables import TABLES, Row
from harness_stream.errors import GarbageRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from harness_stream.core.scalars import TableName

_INPUT: Final[TypeAdapter[InputEvent]] = TypeAdapter(InputEvent)
_INPUT_VALIDATOR: Final = _INPUT.validator

# Says which model a body is, hence always written though it is the default.
_ALWAYS_WRITTEN: Final = ("v", "type", "kind")
# Longer texts cannot be an integer within ±(2^53 - 1), and converting them costs quadratic time.
_INTEGER_CHARS_MAX: Final = len(str(-limits.INTEGER_MAX))
# All that JSON allows between tokens (RFC 8259 §2). Taken out of texts too, they only make more pairs to look at.
_BLANKS: Final = b" \t\n\r"
# Each costs a dictionary: a record with thousands of mistakes is described by their number alone.
_MISTAKES_MAX: Final = 100


def decode_input(value: bytes | None) -> InputEvent:
    """The input event in a record's value.

    Args:
        value: as received, ≤ INTENT_BYTES_MAX.

    Raises:
        GarbageRecord: with a `core.reasons.Garbage` and a detail of ≤ GARBAGE_DETAIL_CHARS_MAX characters.
    """
    raw = _sized(value, limits.INTENT_BYTES_MAX)
    try:
        event: InputEvent = _INPUT_VALIDATOR.validate_json(raw)
    except ValidationError as error:
        _explain(raw, error, EVENTS)
    if "v" not in event.model_fields_set:
        raise GarbageRecord(Garbage.SCHEMA, "v: Field required")
    _refuse_repeated_keys(raw, event)
    return event


def decode_row(table: TableName, value: bytes | None) -> Row:
    """The row in a table record's value; a tombstone is the caller's to see first.

    Args:
        table: which table.
        value: as received, ≤ ROW_BYTES_MAX.

    Raises:
        GarbageRecord: as `decode_input`.
    """
    raw = _sized(value, limits.ROW_BYTES_MAX)
    try:
        row = TABLES[table].model_validate_json(raw)
    except ValidationError as error:
        _explain(raw, error, {})
    _refuse_repeated_keys(raw, row)
    return row


def encode(model: BaseModel) -> bytes:
    """Compact UTF-8 JSON in the schema's order, without fields that equal their default."""
    fields = type(model).model_fields
    body = {name: getattr(model, name) for name in _ALWAYS_WRITTEN if name in fields}
    return orjson.dumps(body | model.model_dump(exclude_defaults=True))


def _sized(value: bytes | None, bytes_max: int) -> bytes:
    if not value:
        raise GarbageRecord(Garbage.EMPTY)
    if len(value) > bytes_max:
        raise GarbageRecord(Garbage.TOO_LARGE, f"{len(value)} bytes, at most {bytes_max}")
    return value


# --- Repeated keys: the parser keeps the last one silently ---


def _refuse_repeated_keys(raw: bytes, part: Part) -> None:
    """Without blanks a raw key ends in `":`, so as many of these as keys read means none twice."""
    if raw.translate(None, _BLANKS).count(b'":') != key_count(part):
        _strict_json(raw)


def key_count(part: Part) -> int:
    """How many object keys a decoded part was read from; may be too low for new kinds of fields, never too high."""
    said = part.model_fields_set
    count = len(said)
    for name in said & _composite_fields(type(part)):
        held = getattr(part, name)
        if not held:
            continue
        if isinstance(held, dict):
            count += len(held)
        elif isinstance(held, tuple):
            count += sum(map(key_count, held))
        else:
            count += key_count(held)
    return count


@cache
def _composite_fields(model: type[Part]) -> frozenset[str]:
    """The fields that hold keys of their own: parts, tuples of parts, and dictionaries of scalars."""
    return frozenset(name for name, field in model.model_fields.items() if _is_composite(field.annotation))


def _is_composite(annotation: object) -> bool:
    origin = get_origin(annotation)
    if origin is dict:
        return True
    if origin in (tuple, Union, UnionType, Annotated):
        return any(_is_composite(inner) for inner in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, Part)


# --- The slow side: why was it refused? ---


def _explain(raw: bytes, error: ValidationError, known_types: Mapping[str, object]) -> NoReturn:
    parsed = _strict_json(raw)
    if not isinstance(parsed, dict):
        raise GarbageRecord(Garbage.NOT_JSON, "not an object")
    _refuse_shape(parsed)
    kind = parsed.get("type")
    if known_types and not (isinstance(kind, str) and kind in known_types):
        raise GarbageRecord(Garbage.TYPE_UNKNOWN, "`type` is missing" if kind is None else _printable(repr(kind)))
    raise GarbageRecord(Garbage.SCHEMA, _first_mistake(error, known_types))


def _strict_json(raw: bytes) -> object:
    """Parse, and refuse what PROTOCOL §9 refuses in any JSON: repeated keys and numbers out of range."""
    try:
        return json.loads(
            raw.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=_constant,
        )
    except UnicodeDecodeError:
        raise GarbageRecord(Garbage.NOT_JSON, "not UTF-8") from None
    except RecursionError:
        raise GarbageRecord(Garbage.DEPTH, f"deeper than {limits.DEPTH_MAX}") from None
    except ValueError as error:
        raise GarbageRecord(Garbage.NOT_JSON, _printable(str(error))) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise GarbageRecord(Garbage.DUPLICATE_KEY, _printable(repeated))
    return members


def _integer(text: str) -> int:
    if len(text) > _INTEGER_CHARS_MAX or abs(number := int(text)) > limits.INTEGER_MAX:
        raise GarbageRecord(Garbage.NUMBER, f"{text[:_INTEGER_CHARS_MAX]}… is beyond ±(2^53 - 1)")
    return number


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise GarbageRecord(Garbage.NUMBER, "a number is too large for a double")
    return number


def _constant(name: str) -> NoReturn:
    raise GarbageRecord(Garbage.NUMBER, f"{name} is not a number of JSON")


def _refuse_shape(parsed: dict[str, Any]) -> None:
    """Depth and surrogates, without recursion."""
    level: Sequence[Any] = [parsed]
    depth = 0
    while level:
        if depth == limits.DEPTH_MAX and any(isinstance(node, dict | list) for node in level):
            raise GarbageRecord(Garbage.DEPTH, f"deeper than {limits.DEPTH_MAX}")
        depth += 1
        level = _inner(level)


def _inner(level: Sequence[Any]) -> list[Any]:
    """Everything one level further down; keys count as strings of that level."""
    inner: list[Any] = []
    for node in level:
        if isinstance(node, dict):
            inner.extend(node)
            inner.extend(node.values())
        elif isinstance(node, list):
            inner.extend(node)
        elif isinstance(node, str):
            _refuse_surrogates(node)
    return inner


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise GarbageRecord(Garbage.SURROGATE) from None


def _first_mistake(error: ValidationError, known_types: Mapping[str, object]) -> str:
    if error.error_count() > _MISTAKES_MAX:
        return f"{error.error_count()} mistakes"
    first = refusals(error)[0]
    if known_types and first.loc and first.loc[0] in known_types:
        first = first._replace(loc=first.loc[1:])
    return _printable(str(first))


def _printable(text: str) -> str:
    """Cut, and without characters that could break a terminal or a log line."""
    cut = text[: limits.GARBAGE_DETAIL_CHARS_MAX]
    return "".join(char if char.isprintable() else "?" for char in cut)
