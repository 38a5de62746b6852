"""Where a value came from (PROVENANCE.md): origins of values, kept per chain, and one word for an argument.

Rule of this file: trust is by positive match only. A value nobody saw is untrusted, so look-alikes, splitting and
re-spacing fail safe; whatever does not fit is dropped and reads as never seen.
"""

from __future__ import annotations

import base64
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness_stream.core import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness_stream.core.model import Argument, ClassificationRow, Outcome, ReturnedRecord, ReturnedValues


class Origin(IntFlag):
    """Where a value was seen, the most trusted first."""

    MANDATE = 1
    SELF = 2
    DIRECTORY = 4
    NAMED_FIELD = 8
    FIELD = 16
    NAMED_TEXT = 32
    PROSE = 64


NEVER_SEEN: Final = "never_seen"
NO_LINKS: Final = "none"
WORDS: Final = (*(str(origin.name).lower() for origin in Origin), NEVER_SEEN)
"""What `origin(arg)` may say, the most trusted first."""

DIRECTORY_TRUST: Final = "directory"
"""A tool whose records are a system of record."""
UNTRUSTED: Final = "untrusted"
"""A tool whose every field an outsider can write, as of one that no row describes."""

_PACKED_BYTES: Final = limits.FINGERPRINT_DIGITS // 2


class ValueMap(NamedTuple):
    """What a chain has seen, under ("values", chain id) in its agent's unit.

    Attributes:
        origins: fingerprint → `Origin` bits, the longest unseen first; ≤ `limits.CHAIN_VALUES_MAX`.
        overflow: something was dropped.
    """

    origins: Mapping[str, int] = {}
    overflow: bool = False

    def after(self, found: Mapping[str, int], *, overflow: bool) -> ValueMap:
        """With more values; beyond the limit those longest unseen are dropped."""
        origins = dict(self.origins)
        for fingerprint, bits in found.items():
            origins[fingerprint] = origins.pop(fingerprint, 0) | bits
        surplus = len(origins) - limits.CHAIN_VALUES_MAX
        if surplus > 0:
            origins = dict(list(origins.items())[surplus:])
        return ValueMap(origins, self.overflow or overflow or surplus > 0)

    def to_json(self) -> list[Any]:
        """Plain data: 9 bytes a value, packed."""
        packed = b"".join(bytes.fromhex(fp) + bytes((bits,)) for fp, bits in self.origins.items())
        return [base64.b64encode(packed).decode(), self.overflow]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> ValueMap:
        """Read what `to_json` wrote."""
        packed, step = base64.b64decode(data[0]), _PACKED_BYTES + 1
        entries = (packed[at : at + step] for at in range(0, len(packed), step))
        return cls({entry[:-1].hex(): entry[-1] for entry in entries}, data[1])


def found_in(outcome: Outcome, tool: ClassificationRow | None, mandate: Mapping[str, Any]) -> dict[str, int]:
    """Origins of the values that an outcome returned.

    Args:
        outcome: its records are facts of the enforcement point; what they mean is decided here.
        tool: the row of the tool that returned them, None if nobody described it.
        mandate: of the chain; a record is named if the mandate names its identifier.
    """
    found: dict[str, int] = {}
    for record in outcome.records:
        named = _named(record, (*mandate.get("values", ()), *mandate.get("phrases", ())))
        followed = _named(record, mandate.get("delegates_to", ()))
        for values in record.values:
            bit = _bit(values, tool, named=named, followed=followed)
            for fingerprint in values.values:
                found[fingerprint] = found.get(fingerprint, 0) | bit
    return found


def _named(record: ReturnedRecord, names: Iterable[str]) -> bool:
    known = set(names)
    return any(fp in known for values in record.values if values.place == "identifier" for fp in values.values)


def _bit(values: ReturnedValues, tool: ClassificationRow | None, *, named: bool, followed: bool) -> Origin:
    if tool is None or tool.trust == UNTRUSTED:
        return Origin.PROSE
    text = values.place == "free_text" or (values.place == "field" and values.name in tool.free_text)
    if text:
        return Origin.NAMED_FIELD if followed else Origin.NAMED_TEXT if named else Origin.PROSE
    if tool.trust == DIRECTORY_TRUST:
        return Origin.DIRECTORY
    return Origin.NAMED_FIELD if named or followed else Origin.FIELD


def origin_of(argument: Argument, origins: Callable[[str], int], *, unparsed: bool) -> str:
    """One word for an argument: each value's most trusted origin, of these the least trusted.

    Args:
        argument: of the intent.
        origins: fingerprint → `Origin` bits, 0 if it was never seen.
        unparsed: the intent says that some argument could not be taken apart.
    """
    if unparsed or not argument.exact or not argument.values:
        return NEVER_SEEN
    return _least(argument.values, origins)


def links_of(argument: Argument, origins: Callable[[str], int], *, unparsed: bool) -> str:
    """The same word for the links in an argument; `none` if it surely has none."""
    if unparsed:
        return NEVER_SEEN
    return _least(argument.links, origins) if argument.links else NO_LINKS


def _least(fingerprints: Iterable[str], origins: Callable[[str], int]) -> str:
    ranks = [_rank(origins(fingerprint)) for fingerprint in fingerprints]
    return WORDS[max(ranks)]


def _rank(bits: int) -> int:
    """Place of the most trusted bit in `WORDS`."""
    return (bits & -bits).bit_length() - 1 if bits else len(WORDS) - 1
