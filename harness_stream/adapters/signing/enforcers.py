"""Who may vouch for verdicts towards remote executors: an enforcer's key, certified when it was enrolled (PROTOCOL §9).

Rule of this file: the offline root certifies the enroller's key, the enroller's key each enforcer's. So the root stays
where it is when an enforcer is enrolled, and who has the enroller's key still cannot make an approve: a certified
worker's signature is asked for beside. Realm and incarnation are bound in and not said, as in `certificate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from harness_stream.adapters.signing.certificate import ENROLLER, EPOCHS_ALL, Certificate
from harness_stream.adapters.signing.framing import (
    ENFORCER_DOMAIN,
    ENFORCER_TEXT_DOMAIN,
    Bound,
    framed,
    number,
    number_of,
    unframed,
)
from harness_stream.adapters.signing.keys import KEY_BYTES, signed_by

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_PARTS = 7


class Enforcer(NamedTuple):
    """An identity with role `enforcer`, as it is certified.

    Attributes:
        identity: its id.
        lane: for whose agents it may speak.
        public: its Ed25519 key.
        not_before: epoch ms from which on the key counts.
        not_after: epoch ms up to which it counts, inclusive.
    """

    identity: str
    lane: str
    public: bytes
    not_before: int
    not_after: int

    def parts(self) -> tuple[bytes, ...]:
        """As they stand in a statement."""
        named = (self.identity.encode(), self.lane.encode(), self.public)
        return (*named, number(self.not_before), number(self.not_after))


class EnforcerCertificate(NamedTuple):
    """An enforcer and who vouches for it.

    Attributes:
        enroller: certificate of the key that signed.
        enforcer: what it says.
        sig: the enroller's signature.
    """

    enroller: Certificate
    enforcer: Enforcer
    sig: bytes

    def packed(self) -> bytes:
        """The enroller's certificate, what is said, and the signature, each behind its length."""
        return framed(ENFORCER_TEXT_DOMAIN, (self.enroller.packed(), *self.enforcer.parts(), self.sig))

    @classmethod
    def unpacked(cls, data: bytes) -> Self | None:
        """The certificate in `data`, None if it is none."""
        parts = unframed(ENFORCER_TEXT_DOMAIN, data, _PARTS)
        if parts is None:
            return None
        enroller, times = Certificate.unpacked(parts[0]), (number_of(parts[4]), number_of(parts[5]))
        if enroller is None or times[0] is None or times[1] is None or len(parts[3]) != KEY_BYTES:
            return None
        try:
            said = Enforcer(parts[1].decode(), parts[2].decode(), parts[3], times[0], times[1])
        except UnicodeDecodeError:
            return None
        return cls(enroller, said, parts[6])

    def vouched_for(self, root: bytes, bound: Bound) -> bool:
        """Did the root certify the enroller, and the enroller this enforcer, in this very realm and incarnation?"""
        enroller = self.enroller
        if (enroller.first_epoch, enroller.last_epoch) != EPOCHS_ALL or not enroller.signed_by(root, bound, ENROLLER):
            return False
        return signed_by(enroller.public, self.sig, _statement(bound, self.enforcer))


def certify_enforcer(
    private: Ed25519PrivateKey, enroller: Certificate, bound: Bound, enforcer: Enforcer
) -> EnforcerCertificate:
    """Certify an enforcer's key.

    Args:
        private: the enroller's key.
        enroller: its certificate.
        bound: realm and incarnation in which it counts.
        enforcer: what is said.
    """
    return EnforcerCertificate(enroller, enforcer, private.sign(_statement(bound, enforcer)))


def _statement(bound: Bound, enforcer: Enforcer) -> bytes:
    return framed(ENFORCER_DOMAIN, (*bound.parts(), *enforcer.parts()))
