"""The inputs behind exported decisions, and what each one's signature is worth to somebody who was not there.

Rule of this file: a MAC proves nothing to anybody but the PDP, so it is told and not judged. A signature is judged by
the keys that the identity table has now; one whose key is gone from it is neither right nor wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_stream.core.fold import DENIALS
from harness_stream.errors import GarbageRecord
from harness_stream.runtime.admission import sender_of
from harness_stream.runtime.to_end import read_to_end
from harness_stream.wire.cloudevents import SIGNATURE_NAMES
from harness_stream.wire.codec import decode_input
from harness_stream.wire.decisions import answers_of_any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness_stream.core.join import Tables
    from harness_stream.ports import Clock, LogReader, LogRecord, Verifier


class Inputs:
    """One partition's inputs, asked for in the order of their offsets.

    Args:
        reader: used for nothing else meanwhile.
        topic: the input log.
        partition: whose.
        clock: how long it waits for the broker.
        verifier: says what a signature is worth.
        tables: senders' keys, as they are now.
    """

    def __init__(
        self, reader: LogReader, topic: str, partition: int, clock: Clock, verifier: Verifier, tables: Tables
    ) -> None:
        self._verifier, self._tables = verifier, tables
        self._records: Iterator[LogRecord] = read_to_end(reader, topic, partition, clock)
        self._next = next(self._records, None)

    def told_with(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a record's line says more: `input`, or `inputs` of a run of denials, one a row."""
        behind = [self.behind(answer) for answer in answers_of_any(body)]
        return {"inputs": behind} if body.get("kind") == DENIALS else {"input": behind[0]}

    def behind(self, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """The input that a verdict, ack or reject answers; None if it answers none, or retention took it."""
        covers = body.get("covers")
        if covers is None or body.get("kind") not in {"verdict", "ack", "reject"}:
            return None
        while self._next is not None and self._next.offset < covers[1]:
            self._next = next(self._records, None)
        found = self._next
        return None if found is None or found.offset != covers[1] else self._told(found)

    def _told(self, record: LogRecord) -> dict[str, Any]:
        headers = {name: (value or b"").decode("ascii", "replace") for name, value in record.headers}
        vouched = {name: value for name, value in headers.items() if name in SIGNATURE_NAMES}
        told = {"offset": record.offset, "append_ms": record.timestamp_ms, "headers": vouched}
        value = (record.value or b"").decode("utf-8", "replace")
        return {**told, "value": value, "signature": self._worth(record)}

    def _worth(self, record: LogRecord) -> str | None:
        try:
            sender = sender_of(decode_input(record.value), self._tables)
        except GarbageRecord:
            return None
        return self._verifier.signature_worth(record, sender)
