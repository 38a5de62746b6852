"""What may be judged at all: the checks between a record as received and an input event (PROTOCOL §1, §8, §9).

Rule of this file: whatever fails here is garbage; it gets a `skip`, touches no state and costs no decision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core import limits
from harness_stream.core.ids import id_time_ms
from harness_stream.core.model import Intent
from harness_stream.core.reasons import Garbage
from harness_stream.errors import GarbageRecord
from harness_stream.wire.codec import decode_input

if TYPE_CHECKING:
    from harness_stream.core.intake import Input
    from harness_stream.ports import LogRecord, Verifier


def admit(record: LogRecord, realm: str, verifier: Verifier, lane_of: dict[str, str] | None = None) -> Input:
    """The input event in a record.

    Args:
        record: as read from the input log.
        realm: this realm's name.
        verifier: says whether it is authentic.
        lane_of: lane by agent id, for the signature's binding; unsigned realms need none.

    Raises:
        GarbageRecord: it must not be judged.
    """
    if record.timestamp_ms is None:
        raise GarbageRecord(Garbage.TIMESTAMP)
    event: Input = decode_input(record.value)
    if event.realm != realm:
        raise GarbageRecord(Garbage.REALM, f"written for `{event.realm}`, this is `{realm}`")
    if not verifier.input_authentic(record, event.by, (lane_of or {}).get(event.agent_id, "")):
        raise GarbageRecord(Garbage.NOT_AUTHENTIC, f"by `{event.by}`")
    if isinstance(event, Intent):
        age_ms = record.timestamp_ms - id_time_ms(event.intent_id)
        if abs(age_ms) > limits.ID_AGE_MS_MAX:
            raise GarbageRecord(Garbage.ID_TIME, f"{age_ms} ms before append")
    return event
