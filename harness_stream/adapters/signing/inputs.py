"""What an agent's process writes: a MAC under intents and outcomes, a signature under mandates and approvals.

Rule of this file: it speaks only for identities whose keys it was given, and binds each record to realm, incarnation,
topic and lane, so that nobody can copy it elsewhere (PROTOCOL §9). A MAC convinces the PDP alone, which is all that an
intent needs and costs a tenth of a signature; what a person or an orchestrator said must convince others, too.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from harness_stream.adapters.signing.framing import INPUT_DOMAIN, MAC_DOMAIN, Bound, input_frame, with_value
from harness_stream.adapters.signing.keys import KID_DIGITS, kid_of, mac_key, public_of, raw_of
from harness_stream.errors import CallerError
from harness_stream.wire.cloudevents import ALG_ED25519, ALG_MAC, Signature, signature_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.ports import Headers, InputKind

ALG_OF: Final[Mapping[InputKind, str]] = {
    "intent": ALG_MAC,
    "outcome": ALG_MAC,
    "mandate": ALG_ED25519,
    "approval": ALG_ED25519,
}
"""What each kind of input must carry; no other counts, so nobody can choose the weaker one."""


_KID_BYTES: Final = KID_DIGITS // 2
_ALSO_BYTES: Final = _KID_BYTES + 64  # an Ed25519 signature

DOMAIN_OF: Final[Mapping[str, bytes]] = {ALG_MAC: MAC_DOMAIN, ALG_ED25519: INPUT_DOMAIN}
"""Algorithm → first part of the statement it is over."""


class Speaker(NamedTuple):
    """One identity's private keys: for MACs, and for signatures."""

    exchange: X25519PrivateKey
    sign: Ed25519PrivateKey


def speaker_of(exchange: str, sign: str) -> Speaker:
    """A speaker from its keys' texts (raises ValueError as `keys.raw_of`)."""
    own = X25519PrivateKey.from_private_bytes(raw_of(exchange))
    return Speaker(own, Ed25519PrivateKey.from_private_bytes(raw_of(sign)))


class _Ready(NamedTuple):
    """A speaker whose MAC key is derived."""

    mac_kid: str
    mac_key: bytes
    sign_kid: str
    sign: Ed25519PrivateKey


class SignedInputs:
    """Signs inputs (implements `ports.InputSigner`).

    Args:
        bound: realm and incarnation.
        pdp: the PDP's X25519 public key.
        speakers: identity → its keys.

    Raises:
        ValueError: `pdp` is no usable key.
    """

    def __init__(self, bound: Bound, pdp: bytes, speakers: Mapping[str, Speaker]) -> None:
        self._bound = bound
        self._speakers = {by: _ready(bound, pdp, speaker) for by, speaker in speakers.items()}

    def speaks_for(self, by: str) -> bool:
        """Were its keys given?"""
        return by in self._speakers

    def seal_input(
        self, topic: str, lane: str, value: bytes, kind: InputKind, by: str, *, nonrepudiable: bool = False
    ) -> Headers:
        """Headers that vouch for one record.

        Raises:
            CallerError: it does not speak for `by`.
        """
        speaker = self._speakers.get(by)
        if speaker is None:
            hint = "give the credentials file that its enrolment made"
            raise CallerError(f"this process has no keys of `{by}`", hint=hint)
        statement = with_value(input_frame(DOMAIN_OF[ALG_OF[kind]], self._bound, topic, lane), value)
        if ALG_OF[kind] == ALG_MAC:
            also = self._also(topic, lane, value, speaker) if nonrepudiable else b""
            return signature_headers(Signature(ALG_MAC, speaker.mac_kid, mac(speaker.mac_key, statement), also=also))
        return signature_headers(Signature(ALG_ED25519, speaker.sign_kid, speaker.sign.sign(statement)))

    def _also(self, topic: str, lane: str, value: bytes, speaker: _Ready) -> bytes:
        statement = with_value(input_frame(INPUT_DOMAIN, self._bound, topic, lane), value)
        return bytes.fromhex(speaker.sign_kid) + speaker.sign.sign(statement)


def also_of(packed: bytes) -> tuple[str, bytes] | None:
    """Key id and signature that stand besides a MAC; None if it is none."""
    if len(packed) != _ALSO_BYTES:
        return None
    return packed[:_KID_BYTES].hex(), packed[_KID_BYTES:]


def mac(key: bytes, statement: bytes) -> bytes:
    """HMAC-SHA256 (RFC 2104) over an input's statement."""
    return hmac.digest(key, statement, "sha256")


def _ready(bound: Bound, pdp: bytes, speaker: Speaker) -> _Ready:
    public, sign_public = public_of(speaker.exchange), public_of(speaker.sign)
    kid = kid_of(public)
    key = mac_key(bound, speaker.exchange, pdp, public, pdp, kid)
    return _Ready(kid, key, kid_of(sign_public), speaker.sign)
