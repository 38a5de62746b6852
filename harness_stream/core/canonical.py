"""RFC 8785 (JCS): one JSON value, one sequence of bytes; and the digests made of them.

Rule of this file: what two conforming peers could read differently is refused, never written: integers beyond
±(2^53 - 1), non-finite numbers, lone surrogates, keys that are no strings.
"""

from __future__ import annotations

import hashlib
import math
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# ECMAScript writes numbers plainly from 1e-6 up to below 1e21.
_PLAIN_POINT_MIN: Final = -6
_PLAIN_POINT_MAX: Final = 21


def canonical_bytes(value: object) -> bytes:
    """`value` by RFC 8785.

    Args:
        value: None, bool, int, float, str, or lists, tuples and mappings of them; depth ≤ CANONICAL_DEPTH_MAX.

    Raises:
        TypeError: it holds something that is not JSON; the message names the place, as in `[2].name`.
    """
    parts: list[str] = []
    _write(value, "", 0, parts.append)
    return "".join(parts).encode()


def sha256_hex(data: bytes) -> str:
    """SHA-256 as 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def arguments_digest(arguments: Mapping[str, object]) -> str:
    """What a verdict is bound to: SHA-256 over RFC 8785 of {name: value} (DESIGN §3).

    Args:
        arguments: every argument of the call after binding defaults, without `self`.

    Raises:
        TypeError: a value is not JSON; the message names the argument and what to do.
    """
    parts: list[str] = []
    try:
        _write(dict(arguments), "", 0, parts.append)
    except TypeError as error:
        raise TypeError(f"argument {error}; give `encode=` to turn it into JSON") from None
    return sha256_hex("".join(parts).encode())


def number_text(number: float) -> str:
    """A finite double as ECMAScript's Number::toString writes it (RFC 8785 §3.2.2.3).

    Python's `repr` finds the same shortest digits; only where the point stands and the exponent's form differ.
    """
    if number == 0:
        return "0"  # also -0
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = repr(abs(number)).partition("e")
    whole, _, decimals = mantissa.partition(".")
    digits = (whole + decimals).lstrip("0")
    leading = len(whole + decimals) - len(digits)
    point = len(whole) - leading + int(exponent or 0)
    return sign + _placed(digits.rstrip("0"), point)


def _placed(digits: str, point: int) -> str:
    """0.`digits` * 10^point in ECMAScript's form."""
    count = len(digits)
    if count <= point <= _PLAIN_POINT_MAX:
        return digits + "0" * (point - count)
    if 0 < point <= _PLAIN_POINT_MAX:
        return f"{digits[:point]}.{digits[point:]}"
    if _PLAIN_POINT_MIN < point <= 0:
        return f"0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{digits[0]}{tail}e{point - 1:+d}"


def _write(value: object, place: str, depth: int, emit: Callable[[str], None]) -> None:
    if depth > limits.CANONICAL_DEPTH_MAX:
        raise TypeError(f"`{place[: limits.WORD_CHARS_MAX]}…` is nested deeper than {limits.CANONICAL_DEPTH_MAX}")
    if isinstance(value, str):
        emit(_string(value, place))
    elif value is None or isinstance(value, bool):
        emit({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, int | float):
        emit(_number(value, place))
    elif isinstance(value, list | tuple):
        _write_array(value, place, depth, emit)
    elif isinstance(value, dict):
        _write_object(value, place, depth, emit)
    else:
        raise TypeError(f"`{place}` is a {type(value).__name__}, which is not JSON")


def _write_array(items: list[object] | tuple[object, ...], place: str, depth: int, emit: Callable[[str], None]) -> None:
    emit("[")
    for index, item in enumerate(items):
        if index:
            emit(",")
        _write(item, f"{place}[{index}]", depth + 1, emit)
    emit("]")


def _write_object(members: dict[Any, object], place: str, depth: int, emit: Callable[[str], None]) -> None:
    for key in members:
        if not isinstance(key, str):
            raise TypeError(f"`{place}` has the key {key!r:.40}, which is no string")
    emit("{")
    separator = ""
    # By UTF-16 code units, not code points: an astral character sorts by its surrogates, before U+E000.
    for key in sorted(members, key=_utf16):
        inner = f"{place}.{key}" if place else key
        emit(f"{separator}{_string(key, inner)}:")
        _write(members[key], inner, depth + 1, emit)
        separator = ","
    emit("}")


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _string(text: str, place: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise TypeError(f"`{ascii(place)[1:-1]}` holds a lone surrogate, which is no text") from None
    return encode_basestring(text)


def _number(number: float, place: str) -> str:
    if isinstance(number, int):
        if abs(number) > limits.INTEGER_MAX:
            raise TypeError(f"`{place}` is an integer beyond ±(2^53 - 1), which JSON readers round; send a string")
        return int.__repr__(number)
    if not math.isfinite(number):
        raise TypeError(f"`{place}` is {number}, which is not JSON")
    return number_text(float(number))
