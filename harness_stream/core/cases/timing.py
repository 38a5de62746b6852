"""Times of a case: `-30m`, `-1h30m`, `5m1ms`, `0`, relative to now; and now itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from harness_stream.core.cases.words import UNITS_MS
from harness_stream.core.instant import instant_ms

if TYPE_CHECKING:
    from harness_stream.core.rules.document import Value

_PART: Final = r"[0-9]{1,9}(?:ms|[smhd])"
_OFFSET: Final = re.compile(rf"([-+]?)((?:{_PART})+)")
_PARTS: Final = re.compile(r"([0-9]+)(ms|[smhd])")


def offset_ms(value: Value) -> int | None:
    """Milliseconds of `-30m`, `1h30m`, `0`; None if it is none of these."""
    if value == 0 and not isinstance(value, bool):
        return 0
    found = _OFFSET.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    span = sum(int(number) * UNITS_MS[unit] for number, unit in _PARTS.findall(found[2]))
    return -span if found[1] == "-" else span


def shown_ms(offset: int) -> str:
    """An offset as one writes it: `-1h30m`, `now`."""
    if offset == 0:
        return "now"
    rest, text = abs(offset), ""
    for unit, size in UNITS_MS.items():
        number, rest = divmod(rest, size)
        text += f"{number}{unit}" if number else ""
    return f"{'-' if offset < 0 else '+'}{text}"


def epoch_ms(value: Value) -> int | None:
    """Epoch ms of `2026-11-02T09:00:00Z` or of epoch ms; None if it is neither."""
    try:
        return instant_ms(value)
    except ValueError:
        return None
