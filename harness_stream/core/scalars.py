"""The scalar types of every event and row: what one string or number may be.

Rule of this file: each type refuses in the parser (patterns and bounds compiled by pydantic), never in Python code,
because these run for every intent. Integers and booleans are strict: `true`, `"5"` and `5.0` are no integers.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, StringConstraints

from harness_stream.core import limits

# Neither blank nor control characters, so that ids never break a log line, a header or a Redis key.
ID_PATTERN: Final = r"^[^\s\x00-\x1f\x7f]+$"
TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f]*$"
# ASCII only: a rule that names a label cannot be passed by a look-alike letter.
WORD_PATTERN: Final = r"^[A-Za-z0-9_][A-Za-z0-9_.:/@+-]*$"
ACTION_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z0-9_][A-Za-z0-9_-]*)+$"
# Scheme in lower case: `resource.system` is the scheme, and `CRM:` must not be another system than `crm:`.
URI_PATTERN: Final = r"^[a-z][a-z0-9+.-]*:[^\s\x00-\x1f\x7f]+$"
# Lower case only, because identity is decided on the text.
UUID7_PATTERN: Final = r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
DECIMAL_PATTERN: Final = (
    rf"^(0|[1-9][0-9]{{0,{limits.MEASURE_WHOLE_DIGITS_MAX - 1}}})(\.[0-9]{{1,{limits.MEASURE_DECIMALS_MAX}}})?$"
)


def hex_pattern(digits: int) -> str:
    """Exactly so many hexadecimal digits, lower case only."""
    return rf"^[0-9a-f]{{{digits}}}$"


def _hex(digits: int) -> StringConstraints:
    return StringConstraints(pattern=hex_pattern(digits))


def at_most(count: int) -> Any:  # noqa: ANN401  pydantic's own type of a field's annotation
    """The bound of a list; reading stops at its first mistake, so that a hostile list costs one error."""
    return Field(max_length=count, fail_fast=True)


Identifier = Annotated[str, StringConstraints(max_length=limits.IDENTIFIER_CHARS_MAX, pattern=ID_PATTERN)]
"""Who or where: an agent, a workload, a chain, a realm. Non-empty, no blanks, no control characters."""

Word = Annotated[str, StringConstraints(max_length=limits.WORD_CHARS_MAX, pattern=WORD_PATTERN)]
"""A label, role or name: ASCII letters, digits and `_ . : / @ + -`."""

Action = Annotated[str, StringConstraints(max_length=limits.ACTION_CHARS_MAX, pattern=ACTION_PATTERN)]
"""A dotted verb, `crm.export`."""

Uri = Annotated[str, StringConstraints(max_length=limits.URI_CHARS_MAX, pattern=URI_PATTERN)]
"""A resource with its scheme, in lower case: `crm://orders/1234`."""

Purpose = Annotated[str, StringConstraints(max_length=limits.PURPOSE_CHARS_MAX, pattern=TEXT_PATTERN)]
"""One line of text for a person; may be empty."""

Reason = Annotated[str, StringConstraints(max_length=limits.REASON_CHARS_MAX, pattern=TEXT_PATTERN)]
"""One line of text for a person; may be empty."""

Uuid7 = Annotated[str, StringConstraints(pattern=UUID7_PATTERN)]
"""A UUID of version 7 in its canonical lower-case text (RFC 9562)."""

Fingerprint = Annotated[str, _hex(limits.FINGERPRINT_DIGITS)]
Digest = Annotated[str, _hex(limits.DIGEST_DIGITS)]
Nonce = Annotated[str, _hex(limits.NONCE_DIGITS)]

Natural = Annotated[int, Field(strict=True, ge=0, le=limits.INTEGER_MAX)]
"""0 … 2^53 - 1."""

EpochMs = Natural
"""Milliseconds since 1970-01-01 UTC."""

Flag = Annotated[bool, Field(strict=True)]

Measure = Annotated[
    Natural | Annotated[str, StringConstraints(pattern=DECIMAL_PATTERN)], Field(union_mode="left_to_right")
]
"""A number ≥ 0 as on the wire: an integer ≤ 2^53 - 1, or a decimal string with ≤ 15 digits and ≤ 6 decimals.

JSON floats are refused: 0.1 is not 0.1 in binary, and two readers would sum differently.
Sums use `micro_of`.
"""

Measures = Annotated[dict[Word, Measure], Field(max_length=limits.MEASURES_MAX)]


def _unique(items: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(items)) != len(items):
        raise ValueError("an entry is named twice")
    return items


Labels = Annotated[
    tuple[Word, ...],
    Field(max_length=limits.LABELS_MAX, fail_fast=True, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_unique),
]

TableName = Literal["identity", "infrastructure", "risk", "classification"]
Role = Literal["destination", "object", "secret", "content", "other"]
ValueKind = Literal[
    "email", "url", "host", "account", "file", "identifier", "date", "amount", "number", "name", "phrase"
]
Place = Literal["identifier", "field", "free_text"]


def micro_of(measure: int | str) -> int:
    """A wire measure as an integer of 10⁻⁶ (PROTOCOL §9).

    Args:
        measure: a validated `Measure`.

    Returns:
        The exact value times 10^6. May exceed 2^53: keep it out of JSON, write `measure_of` there.
    """
    if isinstance(measure, int):
        return measure * limits.MEASURE_SCALE
    whole, _, decimals = measure.partition(".")
    return int(whole) * limits.MEASURE_SCALE + int(decimals.ljust(limits.MEASURE_DECIMALS_MAX, "0"))


def measure_of(micro: int) -> int | str:
    """The shortest wire form of an integer of 10⁻⁶; the inverse of `micro_of`.

    Args:
        micro: ≥ 0.

    Returns:
        An integer if it is whole, else a decimal string without trailing zeros.
    """
    whole, decimals = divmod(micro, limits.MEASURE_SCALE)
    if decimals == 0:
        return whole
    return f"{whole}.{decimals:0{limits.MEASURE_DECIMALS_MAX}d}".rstrip("0")
