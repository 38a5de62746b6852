"""Who may say what is decided by: a rule-pusher's key that the realm's offline root certified (PROTOCOL §9).

Rule of this file: each record of the rules topic is signed with its topic and key, so that no bundle becomes another
set's and no activation is repeated in another realm. Revisions only rise, so none is repeated in its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from harness_stream.adapters.signing.certificate import RULES, Certificate
from harness_stream.adapters.signing.framing import RULES_DOMAIN, Bound, framed
from harness_stream.adapters.signing.keys import signed_by
from harness_stream.wire.cloudevents import ALG_ED25519, Signature, signature_headers, signature_of
from harness_stream.wire.rules_topic import read_active

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from harness_stream.ports import Headers, LogRecord


class SignedRules(NamedTuple):
    """Signs records of the rules topic (implements `ports.RulesSigner`).

    Attributes:
        bound: realm and incarnation.
        key: the rule-pusher's private key.
        certificate: the root's, for that key and role; its range is of revisions.
    """

    bound: Bound
    key: Ed25519PrivateKey
    certificate: Certificate

    def seal_rules(self, topic: str, key: bytes, value: bytes) -> Headers:
        """Headers for one record."""
        sig = self.key.sign(_statement(self.bound, topic, key, value))
        kid, cert = self.certificate.kid, self.certificate.packed()
        return signature_headers(Signature(ALG_ED25519, kid, sig, cert=cert))


def why_rules_refused(record: LogRecord, root: bytes, bound: Bound) -> str:
    """Why a record of the rules topic is not to be believed; empty if it is.

    Args:
        record: a bundle, or what is active.
        root: the realm's Ed25519 root key.
        bound: realm and incarnation.
    """
    found = signature_of(record.headers)
    if found is None or found.alg != ALG_ED25519 or found.proof or found.also:
        return "it is not signed"
    certificate = Certificate.unpacked(found.cert)
    if certificate is None or certificate.kid != found.kid or not certificate.signed_by(root, bound, RULES):
        return "the realm's root has certified its key for no rules here"
    statement = _statement(bound, record.topic, record.key or b"", record.value or b"")
    if not signed_by(certificate.public, found.sig, statement):
        return f"key `{certificate.kid}` signed something else"
    active = read_active(record.value) if (record.key or b"").startswith(b"active/") else None
    if active is not None and not certificate.covers(active.revision):
        revisions = f"{certificate.first_epoch} to {certificate.last_epoch}"
        return f"key `{certificate.kid}` is certified for revisions {revisions}"
    return ""


def _statement(bound: Bound, topic: str, key: bytes, value: bytes) -> bytes:
    return framed(RULES_DOMAIN, (*bound.parts(), topic.encode(), key, value))
