"""A notice: the owner's word that an agent was stopped, for what that agent has running (beyond PROTOCOL §3).

Rule of this file: a notice changes no fold and no chain, so it is believed only where it stands: at the very head it
names, in the epoch and by the writer in force. A former owner's, a copied one or one from another partition says
nothing. What it reads is untrusted: nothing here raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness_stream.core.fold import NOTICE, is_own, whole

if TYPE_CHECKING:
    from harness_stream.core.fold import Body, Header

STOPPED: Final = frozenset({"suspended", "killed"})
"""What an identity row's `status` says of an agent that may run nothing."""


class Stopped(NamedTuple):
    """What a notice says.

    Attributes:
        agent_id: who may run nothing any more.
        status: one of `STOPPED`.
        revision: of the identity table that says so.
    """

    agent_id: str
    status: str
    revision: int


def notice(header: Header, said: Stopped) -> dict[str, Any]:
    """The record, to be written right after what `header` is the fold of."""
    return {
        "kind": NOTICE,
        "incarnation": header.incarnation,
        "epoch": header.epoch,
        "writer": header.writer,
        "partition": header.partition,
        "prev": header.head,
        **said._asdict(),
        "t": header.t,
    }


def heard(header: Header, body: Body) -> Stopped | None:
    """What an authentic record says to one whose fold stands at `header`; None if it is no notice that counts here."""
    if body.get("kind") != NOTICE or not is_own(header, body):
        return None
    place = {"incarnation": header.incarnation, "partition": header.partition, "prev": header.head}
    if any(body.get(name) != value for name, value in place.items()):
        return None
    agent_id, status, revision = body.get("agent_id"), body.get("status"), whole(body.get("revision"))
    if not isinstance(agent_id, str) or not isinstance(status, str) or status not in STOPPED or revision is None:
        return None
    return Stopped(agent_id, status, revision)
