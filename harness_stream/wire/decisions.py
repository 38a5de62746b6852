"""Decision-log records ⇄ bytes (PROTOCOL §3). Rule of this file: reading never raises, what cannot be read is void."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from harness_stream.core import limits
from harness_stream.core.denials import answers_in
from harness_stream.wire.cloudevents import SIGNATURE_NAMES, envelope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

UNREADABLE: Mapping[str, Any] = {"kind": "unreadable"}
"""The body of a value that is no JSON object: no fold takes it."""


def digest_of(value: bytes) -> str:
    """SHA-256 over the value as received, hex."""
    return hashlib.sha256(value).hexdigest()


def encode_body(body: Mapping[str, Any]) -> bytes:
    """Compact UTF-8 JSON."""
    return orjson.dumps(body)


def read_body(value: bytes | None) -> tuple[Mapping[str, Any], str]:
    """(parsed body, digest) of a decision-log value; the body of what names no kind is `UNREADABLE`."""
    raw = value or b""
    return body_of(raw), digest_of(raw)


def body_of(raw: bytes) -> Mapping[str, Any]:
    """The body alone."""
    if len(raw) > limits.DECISION_BYTES_MAX:
        return UNREADABLE
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return UNREADABLE
    named = isinstance(body, dict) and isinstance(body.get("kind"), str)
    return body if named else UNREADABLE


def answers_of_any(body: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What a body says whose schema nobody has checked: as `answers_in`; itself if it is a run that cannot be read."""
    try:
        return list(answers_in(body))
    except (KeyError, IndexError, TypeError):
        return [body]


def decision_headers(
    source: str, kind: str, digest: str, time_ms: int, traceparent: str | None = None
) -> list[tuple[str, bytes]]:
    """A record's CloudEvents headers; what vouches for it is the signer's to say.

    Args:
        source: who writes it (`wire.cloudevents.source_of`).
        kind: the body's.
        digest: of the value, hex.
        time_ms: when it happened, epoch ms.
        traceparent: of the input that it answers, of many the last one.
    """
    return envelope(event_id=digest, source=source, event_type=kind, time_ms=time_ms, traceparent=traceparent)


def seal_of(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """The headers that vouch for a record, as another body may keep them; of a record that was found authentic."""
    return {name: (value or b"").decode("ascii") for name, value in headers if name in SIGNATURE_NAMES}


def headers_of(seal: Mapping[str, Any]) -> list[tuple[str, bytes]]:
    """The inverse of `seal_of`.

    Raises:
        ValueError: it is none.
    """
    if not all(isinstance(value, str) for value in seal.values()):
        raise ValueError("a seal's headers are texts")
    return [(name, value.encode("ascii")) for name, value in seal.items()]
