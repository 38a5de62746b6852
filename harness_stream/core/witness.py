"""What a witness holds: checkpoints kept elsewhere, so that a log that was cut or written anew is noticed (V5).

Rule of this file: pure. It says whether one history can have made both of two checkpoints; which of them the log holds
is for whoever can read it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.core.fold import Place

DIGITS_SHOWN: Final = 12  # of a digest, as everywhere people read them


class Held(NamedTuple):
    """One checkpoint that is held.

    Attributes:
        place: the fold that it states.
        append_ms: when the broker took it, epoch ms.
        at: its offset in the heads topic.
    """

    place: Place
    append_ms: int
    at: int


class Contradiction(StrEnum):
    """Why a checkpoint cannot come from a log that goes on from an earlier one."""

    SAME_RECORD = "it says otherwise of the same record"
    LOWER = "it names a lower offset"
    EPOCH = "its epoch goes back"
    WRITER = "it has another writer in the same epoch"
    INPUT = "its next_input goes back, and no resume is known between them"


def contradiction(before: Place, after: Place) -> Contradiction | None:
    """Why no log has both of them in this order, None if one may.

    Args:
        before: what was stated first.
        after: what was stated later, of the same partition and incarnation.
    """
    old, new = before.header, after.header
    if after.offset == before.offset:
        return None if after == before else Contradiction.SAME_RECORD
    if after.offset < before.offset:
        return Contradiction.LOWER
    if new.epoch < old.epoch:
        return Contradiction.EPOCH
    if new.epoch == old.epoch and new.writer != old.writer:
        return Contradiction.WRITER
    return Contradiction.INPUT if new.next_input < old.next_input else None


def described(place: Place) -> str:
    """For people: all of it that identifies a history."""
    header = place.header
    return (
        f"offset {place.offset}, record {place.digest[:DIGITS_SHOWN]}, epoch {header.epoch}, "
        f"next_input {header.next_input}, head {header.head[:DIGITS_SHOWN]}"
    )


def spanned(places: Sequence[Place]) -> str:
    """For people: the first of them, how many more there are and where the last one is.

    Args:
        places: at least one, in the order of offsets.
    """
    first, last = places[0], places[-1]
    more = "" if len(places) == 1 else f", and {len(places) - 1:,} more up to offset {last.offset}"
    return f"{described(first)}{more}"
