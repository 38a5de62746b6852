"""Record headers: CloudEvents 1.0 Kafka binding (binary mode), W3C trace context, and the signature's six.

Rule of this file: headers are hints and proofs, never an input of a decision (PROTOCOL §3). Reading them therefore
never fails: what is malformed is absent, and what is absent fails verification where that is asked for.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

CE_ID: Final = "ce_id"
CE_SOURCE: Final = "ce_source"
CE_TYPE: Final = "ce_type"
CE_SPECVERSION: Final = "ce_specversion"
CE_TIME: Final = "ce_time"
CONTENT_TYPE: Final = "content-type"
TRACEPARENT: Final = "traceparent"
HS_ALG: Final = "hs-alg"
HS_KID: Final = "hs-kid"
HS_SIG: Final = "hs-sig"
HS_PROOF: Final = "hs-proof"
HS_CERT: Final = "hs-cert"
HS_ALSO: Final = "hs-also"
SIGNATURE_NAMES: Final = frozenset({HS_ALG, HS_KID, HS_SIG, HS_PROOF, HS_CERT, HS_ALSO})
"""Every header that says who vouches."""

# In the order of `Signature`.
_RAW: Final = (HS_SIG, HS_PROOF, HS_CERT, HS_ALSO)

ALG_NONE: Final = "none"
"""Unsigned; exists only in a realm started with `--dev`."""
ALG_MAC: Final = "x25519-hmac-sha256"
"""Intents and outcomes."""
ALG_ED25519: Final = "ed25519"
"""Mandates and approvals."""
ALG_BATCH: Final = "ed25519-merkle-sha256"
"""Decision-log records: a signed Merkle root and a proof."""

SPECVERSION: Final = "1.0"
JSON_CONTENT_TYPE: Final = "application/json"
TYPE_PREFIX: Final = "harness."
"""`ce_type` is this and the body's `type` or `kind`: `harness.intent`, `harness.verdict`."""

# A proof of a micro-batch of 256 has 8 hashes of 32 bytes: 342 characters. Larger headers are not ours.
HEADER_BYTES_MAX: Final = 4096
# Some clients add headers of their own; beyond this nobody reads on.
HEADERS_MAX: Final = 64

# Records are written now, so it is the same second nearly always; spelling one out costs more than all other headers.
SECONDS_KEPT: Final = 4
# A micro-batch is written within a millisecond or two, by one writer.
MOMENTS_KEPT: Final = 16

# W3C Trace Context: version, trace id, parent id, flags; all zero ids are invalid there and useless here.
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)

Header = tuple[str, bytes]


@dataclass(frozen=True, slots=True)
class Signature:
    """What proves who wrote a record (PROTOCOL §9).

    Attributes:
        alg: `none` only with `--dev`.
        kid: the key's id.
        sig: raw bytes; base64url on the wire.
        proof: raw inclusion proof of a decision record in its micro-batch.
        cert: raw certificate of the key that signed a decision record.
        also: raw key id and Ed25519 signature of an intent, besides its MAC.
    """

    alg: str = ALG_NONE
    kid: str = ""
    sig: bytes = b""
    proof: bytes = b""
    cert: bytes = b""
    also: bytes = b""


@dataclass(frozen=True, slots=True)
class Headers:
    """Headers as read; an absent or malformed one is None.

    Attributes:
        id: CloudEvents id.
        source: CloudEvents source.
        type: CloudEvents type.
        time: CloudEvents time, RFC 3339, as written.
        content_type: of the value.
        traceparent: well-formed W3C trace parent.
        signature: None without `hs-alg`, or if a part of it is not base64url.
    """

    id: str | None = None
    source: str | None = None
    type: str | None = None
    time: str | None = None
    content_type: str | None = None
    traceparent: str | None = None
    signature: Signature | None = None


def envelope(
    *, event_id: str, source: str, event_type: str, time_ms: int, traceparent: str | None = None
) -> list[Header]:
    """Headers of one record, without what vouches for it (`signature_headers`), which is the signer's to say.

    Args:
        event_id: unique within `source`: an event's own UUIDv7, or a decision record's digest.
        source: URI reference of the writer, see `source_of`.
        event_type: the body's `type` or `kind`; `harness.` is put before it.
        time_ms: when it happened, epoch ms.
        traceparent: passed through if well-formed, else left out.
    """
    headers = [(CE_ID, event_id.encode()), *_common(source, event_type, time_ms)]
    if traceparent is not None and is_traceparent(traceparent):
        headers.append((TRACEPARENT, traceparent.encode()))
    return headers


@lru_cache(MOMENTS_KEPT)
def _common(source: str, event_type: str, time_ms: int) -> tuple[Header, ...]:
    return (
        (CE_SOURCE, source.encode()),
        (CE_TYPE, f"{TYPE_PREFIX}{event_type}".encode()),
        (CE_SPECVERSION, SPECVERSION.encode()),
        (CE_TIME, rfc3339(time_ms).encode()),
        (CONTENT_TYPE, JSON_CONTENT_TYPE.encode()),
    )


def read_headers(headers: Iterable[tuple[str, bytes | None]] | None) -> Headers:
    """What a record's headers say. The first of a repeated header counts. Raises nothing."""
    headers = list(islice(headers or (), HEADERS_MAX))
    texts = _texts(headers)
    return Headers(
        id=texts.get(CE_ID),
        source=texts.get(CE_SOURCE),
        type=texts.get(CE_TYPE),
        time=texts.get(CE_TIME),
        content_type=texts.get(CONTENT_TYPE),
        traceparent=traceparent_of(headers),
        signature=_read_signature(texts),
    )


def traceparent_of(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """As in `read_headers`, without reading the others: a worker asks for it with every record."""
    said = [header for header in islice(headers, HEADERS_MAX) if header[0] == TRACEPARENT]
    found = _texts(said).get(TRACEPARENT) if said else None
    return found if found is not None and is_traceparent(found) else None


def source_of(realm: str, writer: str) -> str:
    """CloudEvents `source` of an identity or worker in a realm: a URI reference without a host."""
    return f"/{realm}/{writer}"


def is_traceparent(text: str) -> bool:
    """Whether it has the form of W3C Trace Context."""
    return _TRACEPARENT.fullmatch(text) is not None


def rfc3339(time_ms: int) -> str:
    """Epoch ms → `2026-11-01T12:00:00.123Z`."""
    return f"{_second(time_ms // 1000)}.{time_ms % 1000:03d}Z"


@lru_cache(SECONDS_KEPT)
def _second(time_s: int) -> str:
    return f"{datetime.fromtimestamp(time_s, UTC):%Y-%m-%dT%H:%M:%S}"


def signature_headers(signature: Signature) -> list[Header]:
    """A signature as headers; what is empty is left out."""
    headers = [(HS_ALG, signature.alg.encode())]
    if signature.kid:
        headers.append((HS_KID, signature.kid.encode()))
    if signature.sig:
        headers.append((HS_SIG, base64url(signature.sig)))
    if signature.proof:
        headers.append((HS_PROOF, base64url(signature.proof)))
    if signature.cert:
        headers.append((HS_CERT, base64url(signature.cert)))
    if signature.also:
        headers.append((HS_ALSO, base64url(signature.also)))
    return headers


def signature_of(headers: Iterable[tuple[str, bytes | None]]) -> Signature | None:
    """What vouches for a record, strictly: None if a part of it is malformed or is said twice. Raises nothing."""
    said: dict[str, str] = {}
    for name, value in headers:
        if name not in SIGNATURE_NAMES:
            continue
        if value is None or name in said or len(value) > HEADER_BYTES_MAX or not value.isascii():
            return None
        said[name] = value.decode("ascii")
    return _read_signature(said)


def _texts(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in headers:
        if value is None or name in texts or len(value) > HEADER_BYTES_MAX:
            continue
        try:
            texts[name] = value.decode()
        except UnicodeDecodeError:
            continue
    return texts


def _read_signature(texts: dict[str, str]) -> Signature | None:
    alg = texts.get(HS_ALG)
    if alg is None:
        return None
    try:
        raw = [from_base64url(texts[name]) if name in texts else b"" for name in _RAW]
    except ValueError:
        return None
    return Signature(alg, texts.get(HS_KID, ""), *raw)


def base64url(data: bytes) -> bytes:
    """RFC 4648 §5 without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def from_base64url(text: str) -> bytes:
    """The bytes of a text, strictly: one text for one value, so that a signature cannot be respelled.

    Raises:
        ValueError: not base64url without padding in its only form.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if base64url(data).decode() != text:
        raise ValueError("not in canonical form")
    return data
