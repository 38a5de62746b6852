"""A point in time as people write it in files: RFC 3339 in UTC, or epoch ms.

Rule of this file: every file that people write takes both, through here, so that a time means the same everywhere.
Records take epoch ms alone.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

# A UUIDv7 holds its time in 48 bits (RFC 9562 §5.7): the year 10889.
INSTANT_MS_MAX: Final = 2**48 - 1
# RFC 3339 §5.6; Python's own parser also takes weeks, bare dates and times without an offset.
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def instant_ms(value: object) -> int:
    """Epoch ms of a time in either form; fractions of a millisecond are cut.

    Raises:
        ValueError: it is neither; says what was expected.
    """
    if type(value) is int and 0 <= value <= INSTANT_MS_MAX:
        return value
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        moment = datetime.fromisoformat(value.upper())
        if moment.utcoffset():
            raise ValueError("not in UTC, write `Z`")
        found = (moment - _EPOCH) // timedelta(milliseconds=1)
        if found >= 0:
            return found
    raise ValueError("neither RFC 3339 in UTC (`2026-11-02T09:00:00Z`) nor epoch ms")
