"""librdkafka messages as log records. Rule: whatever a sender wrote must come out as a value, never as an exception."""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Final

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from harness_stream.ports import Headers, LogRecord

if TYPE_CHECKING:
    from collections.abc import Callable

# For a header name that is not UTF-8 (legal on the wire) the client returns a broken list and leaves an exception set.
# Called by bytecode, a warm interpreter skips the check and the exception strikes somewhere later; called from C it is
# raised here, as SystemError.
_CHECKED_HEADERS: Final[Callable[[Message], list[tuple[str, bytes | None]] | None]] = methodcaller("headers")


def to_record(message: Message) -> LogRecord:
    """The record in a message without error; its timestamp is None unless the broker stamped it."""
    kind, timestamp_ms = message.timestamp()
    # The stubs allow for messages that were never in a log; one without error has a place.
    return LogRecord(
        message.topic(),  # type: ignore[arg-type]
        message.partition(),  # type: ignore[arg-type]
        message.offset(),  # type: ignore[arg-type]
        message.key(),
        message.value(),
        timestamp_ms if kind == TIMESTAMP_LOG_APPEND_TIME else None,
        _headers(message),
    )


def _headers(message: Message) -> Headers:
    try:
        headers = _CHECKED_HEADERS(message)
    except (SystemError, UnicodeDecodeError):
        return ()  # no record without its headers is authentic, so this one ends as garbage
    if not headers:
        return ()
    # A null value is legal on the wire; received names are str and values bytes, whatever the stubs also allow to send.
    return [(name, value or b"") for name, value in headers]
