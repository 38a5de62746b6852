"""What a worker writes under its certified key: one signature for a micro-batch (PROTOCOL §9).

Rule of this file: it signs and packs; who believes it is `verifier`'s to say. The certificate goes with every record,
so that a reader who knows nothing but the root's public key can begin anywhere in the log (ARCHITECTURE 50).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.adapters.signing import merkle
from harness_stream.adapters.signing.framing import BATCH_DOMAIN, Bound, framed, number
from harness_stream.wire.cloudevents import ALG_BATCH, HS_PROOF, Signature, base64url, signature_headers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from harness_stream.adapters.signing.certificate import Certificate
    from harness_stream.ports import Headers


class SignedDecisions:
    """Signs decision-log records (implements `ports.DecisionSigner`).

    Args:
        bound: realm and incarnation.
        private: the worker's key.
        certificate: of that key.
    """

    def __init__(self, bound: Bound, private: Ed25519PrivateKey, certificate: Certificate) -> None:
        self._bound, self._private, self._certificate = bound, private, certificate
        self._packed = certificate.packed()

    @property
    def dev(self) -> bool:
        """Always false."""
        return False

    def may_sign(self, epoch: int) -> bool:
        """Does the certificate cover that epoch?"""
        return self._certificate.covers(epoch)

    def seal_batch(self, partition: int, digests: Sequence[str]) -> list[Headers]:
        """One signature over the Merkle root of `digests`; each record's headers have it and the record's proof."""
        if not digests:
            return []
        root, proofs = merkle.tree([bytes.fromhex(digest) for digest in digests])
        sig = self._private.sign(batch_statement(self._bound, partition, len(digests), root))
        shared = signature_headers(Signature(ALG_BATCH, self._certificate.kid, sig, cert=self._packed))
        return [[*shared, (HS_PROOF, base64url(proof.packed()))] for proof in proofs]


def batch_statement(bound: Bound, partition: int, size: int, root: bytes) -> bytes:
    """What the signature of a micro-batch is over; the number of records is in it because the root does not tell."""
    return framed(BATCH_DOMAIN, (*bound.parts(), number(partition), number(size), root))
