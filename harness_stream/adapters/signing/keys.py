"""Keys as bytes, texts and names. Rule of this file: a private key is never part of a message or of a repr.

`cryptography` does the mathematics (X25519: RFC 7748, Ed25519: RFC 8032, HKDF: RFC 5869); nothing of it is made here.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from harness_stream.adapters.signing.framing import MAC_KEY_DOMAIN, Bound, framed
from harness_stream.wire.cloudevents import base64url, from_base64url

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY_BYTES: Final = 32
# 64 bits: a name has to be another one among the few keys of one identity; what counts is the key behind it.
KID_DIGITS: Final = 16

PrivateKey = Ed25519PrivateKey | X25519PrivateKey
PRIVATE: Final[Mapping[str, type[PrivateKey]]] = {"ed25519": Ed25519PrivateKey, "x25519": X25519PrivateKey}
"""Algorithm → private key."""


def text_of(raw: bytes) -> str:
    """A key, or another value of few bytes, as base64url without padding."""
    return base64url(raw).decode()


def raw_of(text: str) -> bytes:
    """The 32 bytes of a key's text.

    Raises:
        ValueError: it is none; the message does not repeat it.
    """
    try:
        raw = from_base64url(text)
    except ValueError:
        raise ValueError("a key is 32 bytes as base64url without padding") from None
    if len(raw) != KEY_BYTES:
        raise ValueError(f"a key is {KEY_BYTES} bytes as base64url, this one has {len(raw)}")
    return raw


def private_of(alg: str, text: str) -> PrivateKey:
    """A private key from its text (raises ValueError as `raw_of`)."""
    return PRIVATE[alg].from_private_bytes(raw_of(text))


def public_of(private: PrivateKey) -> bytes:
    """The public key's 32 bytes."""
    return private.public_key().public_bytes_raw()


def kid_of(public: bytes) -> str:
    """A key's name: the first 16 hex digits of SHA-256 over its public bytes."""
    return sha256(public).hexdigest()[:KID_DIGITS]


def mac_key(bound: Bound, private: X25519PrivateKey, other: bytes, sender: bytes, pdp: bytes, kid: str) -> bytes:
    """The key that a sender and the PDP share: HKDF-SHA256 over X25519 (PROTOCOL §9), 32 bytes.

    Both sides come to the same, each from its own private and the other's public key. Both public keys are bound in, as
    RFC 7748 §6.1 asks: different public keys can give one shared secret.

    Args:
        bound: realm and incarnation.
        private: the own key.
        other: the other side's public key.
        sender: the sender's public key.
        pdp: the PDP's public key.
        kid: the sender's key id.

    Raises:
        ValueError: the other key gives no secret (a point of low order).
    """
    secret = private.exchange(X25519PublicKey.from_public_bytes(other))
    info = framed(MAC_KEY_DOMAIN, (*bound.parts(), kid.encode(), sender, pdp))
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def signed_by(public: bytes, sig: bytes, message: bytes) -> bool:
    """Is it that Ed25519 key's signature?"""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(sig, message)
    except (InvalidSignature, ValueError):
        return False
    return True
