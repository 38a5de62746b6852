"""What may be judged at all: the checks between a record as received and an input event (PROTOCOL §1, §8, §9).

Rule of this file: whatever fails here is garbage; it gets a `skip`, touches no state and costs no decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core import limits
from harness_stream.core.ids import id_time_ms
from harness_stream.core.model import IdentityRow, Intent, lane_of
from harness_stream.core.reasons import Garbage
from harness_stream.errors import GarbageRecord
from harness_stream.ports import Sender
from harness_stream.wire.codec import decode_input

if TYPE_CHECKING:
    from harness_stream.core.intake import Input
    from harness_stream.core.join import Table
    from harness_stream.ports import LogRecord, Verifier


def admit(record: LogRecord, realm: str, verifier: Verifier, identities: Table | None = None) -> Input:
    """The input event in a record.

    Args:
        record: as read from the input log.
        realm: this realm's name.
        verifier: says whether it is authentic.
        identities: the identity table: senders' keys and lanes; None where nobody judges inputs.

    Raises:
        GarbageRecord: it must not be judged.
    """
    if record.timestamp_ms is None:
        raise GarbageRecord(Garbage.TIMESTAMP)
    event: Input = decode_input(record.value)
    if event.realm != realm:
        raise GarbageRecord(Garbage.REALM, f"written for `{event.realm}`, this is `{realm}`")
    if not verifier.input_authentic(record, sender_of(event, identities)):
        raise GarbageRecord(Garbage.NOT_AUTHENTIC, f"by `{event.by}`")
    if isinstance(event, Intent):
        age_ms = record.timestamp_ms - id_time_ms(event.intent_id)
        if abs(age_ms) > limits.ID_AGE_MS_MAX:
            raise GarbageRecord(Garbage.ID_TIME, f"{age_ms} ms before append")
    return event


def sender_of(event: Input, identities: Table | None) -> Sender:
    """Who must have written an event. The lane is its agent's by the table, never what key or partition say."""
    about, speaks = _row(identities, event.agent_id), _row(identities, event.by)
    lane = event.agent_id if about is None else lane_of(about)
    return Sender(event.type, lane, () if speaks is None else speaks.keys)


def _row(identities: Table | None, identity: str) -> IdentityRow | None:
    """A row that cannot be read vouches for nobody."""
    try:
        row = None if identities is None else identities.row(identity)
    except ValueError:
        return None
    return row if isinstance(row, IdentityRow) else None
