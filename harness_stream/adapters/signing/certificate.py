"""Whom the realm's offline root certifies: who writes the decision log or the rules, who vouches for enforcers.

Rule of this file: a certificate says key and range; role, realm and incarnation are bound into its signature and not
repeated, since a reader knows them and must not take them from a sender.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from harness_stream.adapters.signing.framing import CERTIFICATE_DOMAIN, Bound, framed, number
from harness_stream.adapters.signing.keys import KEY_BYTES, kid_of, signed_by
from harness_stream.core import limits

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

WORKER: Final = b"worker"
"""Writes the decision log, in a range of epochs; operators write with a worker's key."""
ENROLLER: Final = b"enroller"
"""Vouches for keys of enforcers (`enforcers`)."""
RULES: Final = b"rules"
"""Writes bundles and says which one is active, in a range of its revisions."""
EPOCHS_ALL: Final = (1, limits.INTEGER_MAX)
"""From the first claim or revision on, for ever."""

_SIGNATURE_BYTES: Final = 64  # Ed25519
_PACKED: Final = struct.Struct(f">{KEY_BYTES}sQQ{_SIGNATURE_BYTES}s")


class Certificate(NamedTuple):
    """A certified key.

    Attributes:
        public: the Ed25519 key.
        first_epoch: from which on it counts; of a rule-pusher's, the first revision.
        last_epoch: up to which it counts, inclusive.
        sig: the root's signature.
    """

    public: bytes
    first_epoch: int
    last_epoch: int
    sig: bytes

    @property
    def kid(self) -> str:
        """Name of the certified key."""
        return kid_of(self.public)

    def covers(self, epoch: int) -> bool:
        """Does it count in that epoch?"""
        return self.first_epoch <= epoch <= self.last_epoch

    def packed(self) -> bytes:
        """112 bytes: key, epochs in 8 bytes each, big-endian, signature."""
        return _PACKED.pack(*self)

    @classmethod
    def unpacked(cls, data: bytes) -> Self | None:
        """The certificate in `data`, None if it is none."""
        return cls(*_PACKED.unpack(data)) if len(data) == _PACKED.size else None

    def signed_by(self, root: bytes, bound: Bound, role: bytes = WORKER) -> bool:
        """Did the root certify this key for that role in this very realm and incarnation?"""
        return signed_by(root, self.sig, _statement(role, bound, self.public, self.first_epoch, self.last_epoch))


def certify(
    root: Ed25519PrivateKey,
    bound: Bound,
    public: bytes,
    epochs: tuple[int, int] = EPOCHS_ALL,
    role: bytes = WORKER,
) -> Certificate:
    """Certify a key.

    Args:
        root: the realm's private root key.
        bound: realm and incarnation in which it counts.
        public: the Ed25519 public key.
        epochs: first and last epoch, or revision, both inclusive.
        role: what for.
    """
    return Certificate(public, *epochs, root.sign(_statement(role, bound, public, *epochs)))


def _statement(role: bytes, bound: Bound, public: bytes, first_epoch: int, last_epoch: int) -> bytes:
    return framed(CERTIFICATE_DOMAIN, (role, *bound.parts(), public, number(first_epoch), number(last_epoch)))
