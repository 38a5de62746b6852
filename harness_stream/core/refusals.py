"""What the schema refuses, in words for people: what was expected and an example, never a regular expression.

Rule of this file: whoever shows a person a mistake that pydantic found reads it from here, so that the same mistake has
the same words in a table file, a case, a mandate, credentials and the dead-letter record of an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness_stream.core import limits, scalars, tables

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import ValidationError

_PATTERN: Final = "string_pattern_mismatch"
# How pydantic names the forms of a field that may have several, inside a mistake's path; means nothing to a person.
_FORMS: Final = frozenset({"constrained-int", "constrained-str", "literal['']"})
# Only a measure is an integer or something else.
_MEASURE_FORM: Final = "constrained-int"
_NAME: Final = "[key]"

EXPECTED: Final[Mapping[str, str]] = {
    scalars.ID_PATTERN: "must have one character or more, and no blanks, e.g. `support-1`",
    scalars.TEXT_PATTERN: "must be one line of text, e.g. `asked for by the customer`",
    scalars.WORD_PATTERN: "must be ASCII letters, digits or `_ . : / @ + -`, first a letter, digit or `_`, e.g. `pii`",
    scalars.ACTION_PATTERN: "must be words of ASCII letters, digits, `_` and `-` with dots between, e.g. `crm.export`",
    scalars.URI_PATTERN: "must be a URI without blanks, its scheme in lower case, e.g. `crm://orders/1234`",
    scalars.UUID7_PATTERN: "must be a UUID of version 7 in lower case, e.g. `01976f1c-5e3a-7c41-9d2b-3f8a6b1c0d2e`",
    scalars.DECIMAL_PATTERN: (
        f"must be a number ≥ 0: whole, or with a point as text of at most {limits.MEASURE_WHOLE_DIGITS_MAX} digits "
        f'and {limits.MEASURE_DECIMALS_MAX} decimals, e.g. 40 or "12.50"'
    ),
    tables.RISK_SUBJECT_PATTERN: (
        "must be `agent:`, `tool:`, `resource:` or `tenant:` and an id without blanks, e.g. `agent:support-1`"
    ),
    tables.CLASSIFICATION_SUBJECT_PATTERN: (
        "must be `tool:` or `resource:` and an id without blanks, or how ids begin and one `*` at the end, "
        "e.g. `tool:crm.export` or `resource:crm://customers/*`"
    ),
    tables.PUBLIC_KEY_PATTERN: f"must be 32 bytes as base64url without `=`, 43 characters, e.g. `{'Ab3_' * 10}Ab0`",
    **{
        scalars.hex_pattern(digits): f"must be {digits} digits 0-9 and a-f{of}, e.g. `{'3f' * (digits // 2)}`"
        for digits, of in (
            (limits.DIGEST_DIGITS, ", a SHA-256"),
            (limits.NONCE_DIGITS, ""),
            (limits.FINGERPRINT_DIGITS, ", a fingerprint"),
        )
    },
}
"""Regular expression of a field → what it asks for."""


class Refusal(NamedTuple):
    """One mistake.

    Attributes:
        kind: pydantic's word for it, `missing`.
        loc: the way to the field.
        message: what was expected.
    """

    kind: str
    loc: tuple[int | str, ...]
    message: str

    def __str__(self) -> str:
        path = ".".join(map(str, self.loc))
        return f"{path}: {self.message}" if path else self.message


def refusals(error: ValidationError) -> list[Refusal]:
    """Every mistake, one a field: of a field that may have several forms, the one that says most."""
    found: dict[tuple[int | str, ...], Refusal] = {}
    for detail in error.errors(include_url=False, include_input=False):
        loc = tuple(step for step in detail["loc"] if step not in _FORMS and step != _NAME)
        if loc not in found or detail["type"] == _PATTERN:
            found[loc] = Refusal(detail["type"], loc, _message(detail))
    return list(found.values())


def _message(detail: Any) -> str:  # noqa: ANN401  pydantic's details, whose type is of another package
    if _MEASURE_FORM in detail["loc"]:
        return EXPECTED[scalars.DECIMAL_PATTERN]
    if detail["type"] != _PATTERN:
        return str(detail["msg"]).removeprefix("Value error, ")
    expected = EXPECTED.get(detail["ctx"]["pattern"], "is not as its schema demands")
    return f"the name {expected}" if _NAME in detail["loc"] else expected
