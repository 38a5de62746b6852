"""What of a verdict its fold and the names of its units need: the rest is passed over unread.

A hundred thousand of these stand between a start and the first answer, and most of a verdict is what it was decided on.
Rule of this file: it says what `core.fold` and `core.deferred` say of the whole record, or nothing, and then they are
asked. For records that a signed checkpoint vouches for; what is passed over is not looked at in any way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from harness_stream.core import limits
from harness_stream.core.deferred import groups_of_own
from harness_stream.core.fold import after_own

if TYPE_CHECKING:
    from harness_stream.core.fold import Header

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


def after_link(state: Header, link: Link, digest: str) -> Header | None:
    """As `fold_header`, of a verdict that was read no further than this.

    Args:
        state: where the partition stood.
        link: what the verdict says of its place.
        digest: of its value, hex.
    """
    incarnation, _, epoch, writer, head, next_input, rules, _, _ = state
    first, last = link.covers
    same = link.prev == head and first == next_input and link.epoch == epoch and link.writer == writer
    if not same or link.incarnation != incarnation or rules is None or link.rules.digest != rules[0]:
        return None
    return after_own(state, last, link.t, digest) if link.rules.revision == rules[1] else None


def groups_of_link(link: Link) -> tuple[str, ...]:
    """As `groups_of` the verdict (raises ValueError: its id is none of ours)."""
    return groups_of_own(link.agent_id, link.intent_id, None if link.event is None else link.event.lane)


def link_of(value: bytes) -> Link | None:
    """The link of a verdict; None of any other value, of one that is unusual, and of a delegated intent's."""
    if len(value) > limits.DECISION_BYTES_MAX:
        return None
    try:
        return _DECODER.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
