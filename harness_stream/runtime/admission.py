"""What may be judged at all: the checks between a record as received and an input event (PROTOCOL §1, §8, §9).

Rule of this file: whatever fails here is garbage; it gets a `skip`, touches no state and costs no decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core import limits
from harness_stream.core.ids import id_time_ms
from harness_stream.core.model import ClassificationRow, IdentityRow, Intent, lane_of
from harness_stream.core.reasons import Garbage
from harness_stream.errors import GarbageRecord
from harness_stream.ports import Sender
from harness_stream.wire.codec import decode_input

if TYPE_CHECKING:
    from harness_stream.core.intake import Input
    from harness_stream.core.join import Table, Tables
    from harness_stream.ports import LogRecord, Verifier


def admit(record: LogRecord, realm: str, verifier: Verifier, tables: Tables | None = None) -> Input:
    """The input event in a record.

    Args:
        record: as read from the input log.
        realm: this realm's name.
        verifier: says whether it is authentic.
        tables: senders' keys and lanes, and which actions are nonrepudiable; None where nobody judges inputs.

    Raises:
        GarbageRecord: it must not be judged.
    """
    if record.timestamp_ms is None:
        raise GarbageRecord(Garbage.TIMESTAMP)
    event: Input = decode_input(record.value)
    if event.realm != realm:
        raise GarbageRecord(Garbage.REALM, f"written for `{event.realm}`, this is `{realm}`")
    sender = sender_of(event, tables)
    if not verifier.input_authentic(record, sender):
        raise GarbageRecord(Garbage.NOT_AUTHENTIC, f"by `{event.by}`: {verifier.why_refused(record, sender)}")
    if isinstance(event, Intent):
        age_ms = record.timestamp_ms - id_time_ms(event.intent_id)
        if abs(age_ms) > limits.ID_AGE_MS_MAX:
            raise GarbageRecord(Garbage.ID_TIME, f"{age_ms} ms before append")
    return event


def sender_of(event: Input, tables: Tables | None) -> Sender:
    """Who must have written an event. The lane is its agent's by the table, never what key or partition say."""
    identities = None if tables is None else tables["identity"]
    about = _row(identities, event.agent_id)
    speaks = about if event.by == event.agent_id else _row(identities, event.by)
    lane = event.agent_id if about is None else lane_of(about)
    keys = () if speaks is None else speaks.keys
    return Sender(event.type, lane, keys, nonrepudiable=isinstance(event, Intent) and _nonrepudiable(event, tables))


def _nonrepudiable(intent: Intent, tables: Tables | None) -> bool:
    """Does its tool's row say so? An intent whose tool's row cannot be read is denied anyway."""
    try:
        row = None if tables is None else tables["classification"].longest(f"tool:{intent.action}")
    except ValueError:
        return False
    return isinstance(row, ClassificationRow) and row.nonrepudiable


def _row(identities: Table | None, identity: str) -> IdentityRow | None:
    """A row that cannot be read vouches for nobody."""
    try:
        row = None if identities is None else identities.row(identity)
    except ValueError:
        return None
    return row if isinstance(row, IdentityRow) else None
