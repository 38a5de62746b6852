"""What of a verdict its fold and the names of its units need: the rest is passed over unread.

A hundred thousand of these stand between a start and the first answer, and most of a verdict is what it was decided on.
Rule of this file: it says what `core.fold` and `core.deferred` say of the whole record, or nothing, and then they are
asked. For records that a signed checkpoint vouches for; what is passed over is not looked at in any way.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from harness_stream.core import limits
from harness_stream.core.deferred import Told, groups_of_own
from harness_stream.core.fold import Header, Place

if TYPE_CHECKING:
    from collections.abc import Iterable

_Whole = Annotated[int, msgspec.Meta(ge=0, le=limits.INTEGER_MAX)]


class NamedRules(msgspec.Struct, frozen=True, gc=False):
    """The bundle that a verdict was decided by."""

    digest: str
    revision: _Whole


class LinkedEvent(msgspec.Struct, frozen=True, gc=False):
    """Of the chain event of an intent that no other one delegated."""

    lane: str
    lineage: None


class Link(msgspec.Struct, frozen=True, gc=False):
    """See `core.records.Verdict`."""

    kind: Literal["verdict"]
    incarnation: str
    epoch: _Whole
    writer: str
    prev: str
    covers: tuple[_Whole, _Whole]
    t: _Whole
    agent_id: str
    intent_id: str
    rules: NamedRules
    event: LinkedEvent | None


_DECODER: Final = msgspec.json.Decoder(Link)


def linked(place: Place, records: Iterable[tuple[int, bytes]]) -> tuple[Place, list[Told]]:
    """Follow records by their links alone, as long as they go on from one another and are everyday verdicts.

    Args:
        place: where the partition stands.
        records: offset and value of each, in the log's order behind it.

    Returns:
        Where the first of them lead, and these, as their units wait for them. The next one is to be read as ever.
    """
    incarnation, partition, epoch, writer, head, next_input, rules, t, _ = place.header
    under, told = (incarnation, epoch, writer, rules), list[Told]()
    for offset, value in records if epoch > 0 else ():
        link = link_of(value)
        if link is None or link.prev != head or _under(link) != under:
            break
        first, last = link.covers
        groups = _groups(link)
        if not first == next_input <= last or groups is None:
            break
        head, next_input, t = hashlib.sha256(value).hexdigest(), last + 1, max(t, link.t)
        told.append(Told(offset, value, head, groups))
    if not told:
        return place, told
    header = Header(incarnation, partition, epoch, writer, head, next_input, rules, t, 0)
    return Place(header, told[-1].offset, head), told


def _under(link: Link) -> tuple[str, int, str, tuple[str, int]]:
    """Under which claim, and which rules."""
    return link.incarnation, link.epoch, link.writer, (link.rules.digest, link.rules.revision)


def _groups(link: Link) -> tuple[str, ...] | None:
    """As `groups_of` the verdict; None: its id is none of ours."""
    try:
        return groups_of_own(link.agent_id, link.intent_id, None if link.event is None else link.event.lane)
    except ValueError:
        return None


def link_of(value: bytes) -> Link | None:
    """The link of a verdict; None of any other value, of one that is unusual, and of a delegated intent's."""
    if len(value) > limits.DECISION_BYTES_MAX:
        return None
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
