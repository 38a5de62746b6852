"""librdkafka messages as log records. Rule: whatever a sender wrote must come out as a value, never as an exception."""

from __future__ import annotations

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from harness_stream.ports import Headers, LogRecord


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
        headers = message.headers()
    except (SystemError, UnicodeDecodeError):  # a name that is not UTF-8: legal on the wire, fatal to the client
        return ()  # no record without its headers is authentic, so this one ends as garbage
    if not headers:
        return ()
    # A null value is legal on the wire; received names are str and values bytes, whatever the stubs also allow to send.
    return [(name, value or b"") for name, value in headers]  # type: ignore[str-unpack,misc]
