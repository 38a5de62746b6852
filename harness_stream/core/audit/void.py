"""Why a record does not count: the fold's one rule, read aloud (PROTOCOL §4).

Rule of this file: it is asked about records that `core.fold` has found void, and decides nothing itself.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from harness_stream.core.fold import LINKED, RULED

if TYPE_CHECKING:
    from harness_stream.core.fold import Body, Header


class Void(StrEnum):
    """Why. All up to WRONG_PREV happen when owners change or a publish is lost, and do no harm."""

    STALE_EPOCH = "stale epoch"
    """A former owner's, written after it was succeeded."""
    FOREIGN_WRITER = "foreign writer"
    """Of the epoch in force, by another process; who loses a race for an epoch writes nothing but the claim."""
    WRONG_PREV = "wrong prev"
    """The owner's own, and the record before it in its mind is not the one in the log: it was lost."""
    WRONG_COVERS = "wrong covers"
    """The owner's own and linked, but it leaves inputs out or answers some again."""
    WRONG_RULES = "wrong rules"
    """The owner's own and linked, but by a bundle that is not in force, or a switch that is not forward."""
    UNCLAIMED_EPOCH = "unclaimed epoch"
    INCARNATION = "other incarnation"
    NOT_AUTHENTIC = "not authentic"
    UNREADABLE = "unreadable"


FOREIGN: Final = frozenset({Void.FOREIGN_WRITER, Void.UNCLAIMED_EPOCH, Void.NOT_AUTHENTIC, Void.UNREADABLE})
"""No owner of this partition, present or former, writes such: what two who claim at once leave behind is stale."""


STRANGERS_HINT: Final = "set `HARNESS_KEYS` or `HARNESS_DEV` as its workers have it; a new root means new topics"
"""What to do about a log of which nothing is believed, for who reads it."""


def strangers_text(records: int) -> str:
    """Why a log of which nothing is believed is not taken for one that holds nothing."""
    why = "they are signed by another root, or one of the two is unsigned (`--dev`)"
    return f"none of {records:,} records is authentic here: {why}"


def why_void(header: Header, body: Body) -> Void:
    """Why a record that does not count does not.

    Args:
        header: where the fold stood.
        body: of an authentic record that `fold_header` does not take and that is none of `STATEMENTS`.
    """
    kind, epoch = body.get("kind"), body.get("epoch")
    if not isinstance(kind, str) or kind not in LINKED | {"claim", "resume"}:
        return Void.UNREADABLE
    if body.get("incarnation") != header.incarnation:
        return Void.INCARNATION
    if type(epoch) is not int:
        return Void.UNREADABLE
    if epoch < header.epoch or (kind not in LINKED and epoch == header.epoch):
        return Void.STALE_EPOCH
    if kind not in LINKED:
        return Void.UNREADABLE
    return Void.UNCLAIMED_EPOCH if epoch > header.epoch else _of_this_epoch(header, body)


def _of_this_epoch(header: Header, body: Body) -> Void:
    if body.get("writer") != header.writer:
        return Void.FOREIGN_WRITER
    if body.get("prev") != header.head:
        return Void.WRONG_PREV
    covers = body.get("covers")
    if not isinstance(covers, list | tuple) or covers[:1] != [header.next_input] or len(covers) != 2:  # noqa: PLR2004  first and last
        return Void.WRONG_COVERS
    return Void.WRONG_RULES if body["kind"] in RULED | {"switch"} and _last_fits(body) else Void.WRONG_COVERS


def _last_fits(body: Body) -> bool:
    first, last = body["covers"]
    return type(last) is int and (last == first - 1 if body["kind"] == "switch" else last >= first)
