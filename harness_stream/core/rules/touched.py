"""Which parts of a rule a mistake stands in, so that whatever else can be said of the rule still is.

Rule: a part is named as its author writes it: `when`, `correlation`, `correlation.group-by`. A key that nobody knows
touches the part it resembles, for its author meant that one. What resembles nothing touches the part "", and inside of
a window `correlation.`: it may have been meant for anything there.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from harness_stream.core.rules.language import RULE_KEYS, RULE_REQUIRED, WINDOW_KEYS, WINDOW_REQUIRED
from harness_stream.core.rules.mistakes import ERROR, Code, closest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from harness_stream.core.rules.document import Item
    from harness_stream.core.rules.mistakes import Mistake

Place = tuple[int, int]
"""Line and column, both from 1."""

WINDOW: Final = "correlation"


def error_places(mistakes: Iterable[Mistake]) -> list[Place]:
    """Where errors stand, in the order of the text; what is missing stands nowhere, and is seen in the rule itself."""
    return sorted((m.line, m.column) for m in mistakes if m.severity == ERROR and m.code != Code.MISSING_KEY)


def parts_touched(rule: Item, errors: Sequence[Place]) -> frozenset[str]:
    """Parts of a rule that an error stands in, or that are missing.

    Args:
        rule: as it stands in the text.
        errors: of the whole text, in its order.
    """
    parts = set(_touched(rule, errors, RULE_KEYS, RULE_REQUIRED))
    if WINDOW in parts and isinstance(rule.value, dict) and WINDOW in rule.value:
        window = rule.value[WINDOW]
        parts |= {f"{WINDOW}.{part}" for part in _touched(window, errors, WINDOW_KEYS, WINDOW_REQUIRED)}
    return frozenset(parts)


def _touched(item: Item, errors: Sequence[Place], known: Collection[str], required: Collection[str]) -> Iterator[str]:
    # With more unknown keys than there are known ones it is some other text, and each is compared with all known ones.
    if not isinstance(item.value, dict) or len(item.value.keys() - set(known)) > len(known):
        yield from ("", *known)
        return
    yield from (key for key in required if key not in item.value)
    at = {(key_item.line, key_item.column): key for key, key_item in item.keys.items()}
    values = {key: item.value[key] for key in known if key in item.value}
    for place in _inside(item, errors):
        key = next((key for key, value in values.items() if _stands_in(place, value)), None) or at.get(place, "")
        yield key if key in known else closest(key, known)


def _inside(item: Item, errors: Sequence[Place]) -> Sequence[Place]:
    return errors[bisect_left(errors, (item.line, item.column)) : bisect_left(errors, item.end)]


def _stands_in(place: Place, item: Item) -> bool:
    begin = (item.line, item.column)
    return place == begin or begin <= place < item.end
