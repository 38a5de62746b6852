"""Records of both logs as the auditor takes them in.

Rule of this file: what an input record is, garbage or event, is `runtime.admission`'s to say, as it was the worker's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core.audit import Input, Record
from harness_stream.errors import GarbageRecord
from harness_stream.runtime.admission import admit
from harness_stream.wire.decisions import digest_of, encode_body, headers_of, read_body

if TYPE_CHECKING:
    from harness_stream.core.fold import Body
    from harness_stream.ports import LogRecord, Verifier


def record_of(record: LogRecord, verifier: Verifier) -> Record:
    """A record of the decision log."""
    body, digest = read_body(record.value)
    vouched = body.get("kind") == "resume" and _is_sealed(record, body, verifier)
    return Record(record.offset, body, digest, verifier.decision_authentic(record), vouched)


def _is_sealed(resume: LogRecord, body: Body, verifier: Verifier) -> bool:
    """Did a worker write the checkpoint that a resume names? Its own record may be gone from log and heads topic."""
    checkpoint, seal = body.get("checkpoint"), body.get("seal")
    if not isinstance(checkpoint, dict) or checkpoint.get("kind") != "checkpoint" or not isinstance(seal, dict):
        return False
    try:
        value, headers = encode_body(checkpoint), headers_of(seal)
    except (TypeError, ValueError):
        return False
    return verifier.decision_authentic(resume._replace(value=value, headers=headers))


def input_of(record: LogRecord, realm: str, verifier: Verifier) -> Input:
    """A record of the input log.

    Args:
        record: as read.
        realm: this realm's name.
        verifier: says which records are authentic.
    """
    append_ms, digest = record.timestamp_ms or 0, digest_of(record.value or b"")
    unjudged = not verifier.judges_inputs
    try:
        return Input(record.offset, append_ms, digest, admit(record, realm, verifier), unjudged=unjudged)
    except GarbageRecord as garbage:
        return Input(record.offset, append_ms, digest, None, (garbage.reason, garbage.detail or None), unjudged)
