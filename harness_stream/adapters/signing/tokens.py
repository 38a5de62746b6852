"""Tokens: an approve that an executor can believe which folds no log (PROTOCOL §9).

    the record's bytes, its proof, its worker's signature and certificate    a certified worker has written it
    the enforcer's certificate                                               who says that it counts may say so
    the enforcer's signature over (digest, audience, nonce, not-after)       and says it, to this executor, for now

Rule of this file: sizes before parts, signatures before JSON, everything before a yes; whatever is not exactly as
`TokenSeal` writes it is refused. No secret is compared here, so there is nothing to be done in constant time.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from harness_stream.adapters.signing.certificate import Certificate
from harness_stream.adapters.signing.enforcers import EnforcerCertificate
from harness_stream.adapters.signing.framing import (
    TOKEN_DOMAIN,
    TOKEN_TEXT_DOMAIN,
    Bound,
    framed,
    number,
    number_of,
    unframed,
)
from harness_stream.adapters.signing.keys import public_of, raw_of, signed_by
from harness_stream.adapters.signing.verifier import SignedVerifier
from harness_stream.core import limits
from harness_stream.core.reasons import EXPLAIN, Token
from harness_stream.core.records import Verdict
from harness_stream.errors import TokenRefused
from harness_stream.ports import LogRecord
from harness_stream.wire.cloudevents import (
    ALG_BATCH,
    Signature,
    base64url,
    from_base64url,
    signature_headers,
    signature_of,
)
from harness_stream.wire.decisions import read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

NONCE_BYTES: Final = limits.NONCE_DIGITS // 2


class Sealed(NamedTuple):
    """A token's parts, in the order of its bytes.

    Attributes:
        realm: where its verdict was given.
        incarnation: ids of the realm's two log topics.
        partition: of the decision log.
        value: the verdict's record.
        proof: of the record in its micro-batch.
        batch: the worker's signature over that.
        worker: the worker's certificate.
        enforcer: certificate of who signed the token.
        audience: the executor.
        nonce: 16 random bytes.
        not_after: epoch ms from which on nobody may begin.
        sig: the enforcer's signature.
    """

    realm: str
    incarnation: str
    partition: int
    value: bytes
    proof: bytes
    batch: bytes
    worker: bytes
    enforcer: bytes
    audience: str
    nonce: bytes
    not_after: int
    sig: bytes

    @property
    def bound(self) -> Bound:
        """Realm and incarnation."""
        return Bound(self.realm, self.incarnation)

    def text(self) -> str:
        """As it travels: base64url."""
        parts = [p.encode() if isinstance(p, str) else number(p) if isinstance(p, int) else p for p in self]
        return base64url(framed(TOKEN_TEXT_DOMAIN, parts)).decode()

    @classmethod
    def of_text(cls, text: str) -> Self | None:
        """The parts of a token's text, None if it is none."""
        if not isinstance(text, str) or len(text) > limits.TOKEN_CHARS_MAX:
            return None
        try:
            parts = unframed(TOKEN_TEXT_DOMAIN, from_base64url(text), len(cls._fields))
            return None if parts is None else cls._of_parts(parts)
        except ValueError:
            return None

    @classmethod
    def _of_parts(cls, parts: list[bytes]) -> Self | None:
        realm, incarnation, where, value, proof, batch, worker, enforcer, audience, nonce, ends, sig = parts
        partition, not_after = number_of(where), number_of(ends)
        if partition is None or not_after is None or len(nonce) != NONCE_BYTES:
            return None
        bound, proven = (realm.decode(), incarnation.decode()), (value, proof, batch, worker, enforcer)
        return cls(*bound, partition, *proven, audience.decode(), nonce, not_after, sig)

    def statement(self) -> bytes:
        """What the enforcer's signature is over."""
        said = (sha256(self.value).digest(), self.audience.encode(), self.nonce, number(self.not_after))
        return framed(TOKEN_DOMAIN, (*self.bound.parts(), *said))


class TokenSeal:
    """Signs tokens (implements `ports.TokenSigner`).

    Args:
        bound: realm and incarnation.
        private: the enforcer's Ed25519 key.
        certificate: of that key, packed.
    """

    def __init__(self, bound: Bound, private: Ed25519PrivateKey, certificate: bytes) -> None:
        self._bound, self._private, self._certificate = bound, private, certificate
        self._said = EnforcerCertificate.unpacked(certificate)

    def counts_at(self, now_ms: int) -> bool:
        """See `ports.TokenSigner`."""
        said = self._said
        return said is not None and said.enforcer.not_before <= now_ms <= said.enforcer.not_after

    def seal_token(self, record: LogRecord, audience: str, not_after_ms: int) -> str:
        """See `ports.TokenSigner`."""
        found = signature_of(record.headers) or Signature()
        proven = (record.value or b"", found.proof, found.sig, found.cert, self._certificate)
        nonce = secrets.token_bytes(NONCE_BYTES)
        made = Sealed(*self._bound, record.partition, *proven, audience, nonce, not_after_ms, b"")
        return made._replace(sig=self._private.sign(made.statement())).text()


def seal_of(bound: Bound, root: bytes, identity: str, key: str, certificate: str) -> TokenSeal | None:
    """An enforcer's seal from what its credentials have; None if no executor would believe it.

    Args:
        bound: realm and incarnation.
        root: the realm's root key.
        identity: the enforcer's id.
        key: its Ed25519 key's text.
        certificate: of that key, as text.
    """
    try:
        private, packed = Ed25519PrivateKey.from_private_bytes(raw_of(key)), from_base64url(certificate)
    except ValueError:
        return None
    found = EnforcerCertificate.unpacked(packed)
    if found is None or not found.vouched_for(root, bound):
        return None
    own = (found.enforcer.identity, found.enforcer.public) == (identity, public_of(private))
    return TokenSeal(bound, private, packed) if own else None


class Verified(NamedTuple):
    """What a token allows, once it was believed.

    Attributes:
        agent_id: who asked.
        intent_id: the intent that was approved.
        action: what may be run.
        resources: URIs.
        measures: named numbers, as approved.
        obligations: what the enforcer has fulfilled before it signed.
        arguments_digest: SHA-256 of the arguments, hex.
        verdict_digest: SHA-256 of the verdict's record, hex: an executor runs each once.
        enforcer: who vouched.
        nonce: of the token, hex.
        decided_ms: epoch ms at which it was approved.
        not_after_ms: epoch ms from which on nobody may begin.
        ends_ms: epoch ms from which on no token of this verdict is believed, so that its digest may be forgotten.
    """

    agent_id: str
    intent_id: str
    action: str
    resources: tuple[str, ...]
    measures: Mapping[str, int | str]
    obligations: Mapping[str, Any]
    arguments_digest: str
    verdict_digest: str
    enforcer: str
    nonce: str
    decided_ms: int
    not_after_ms: int
    ends_ms: int


def believed(text: str, root: bytes, audience: str, realm: str, incarnation: str | None, now_ms: int) -> Verified:
    """What a token says, if everything in it is true; whether that is what shall be run is the caller's to ask.

    Args:
        text: the token.
        root: the realm's Ed25519 root key.
        audience: the executor's own name.
        realm: the realm's name.
        incarnation: ids of its log topics; None believes whatever the root has certified a worker for.
        now_ms: epoch ms.

    Raises:
        TokenRefused: with the first thing that is wrong.
    """
    found = Sealed.of_text(text)
    if found is None:
        raise refused(Token.MALFORMED, "it is no token")
    if found.realm != realm or incarnation not in {None, found.incarnation}:
        raise refused(Token.REALM, f"it is of realm {_quoted(found.realm)}, topics {_quoted(found.incarnation)}")
    if found.audience != audience:
        raise refused(Token.AUDIENCE, f"it is for {_quoted(found.audience)}, and this is `{audience}`")
    verdict = _approve(found, root)
    enforcer = _enforcer(found, root, verdict.event or {}, now_ms)
    if not signed_by(enforcer.enforcer.public, found.sig, found.statement()):
        raise refused(Token.SIGNATURE, f"it is not signed by `{enforcer.enforcer.identity}`")
    said = _said(found, verdict, enforcer.enforcer.identity)
    _in_time(said, now_ms)
    return said


def _approve(found: Sealed, root: bytes) -> Verdict:
    """The verdict, if a certified worker has written it and it is an approve of the realm's own."""
    certificate = Certificate.unpacked(found.worker)
    kid = "" if certificate is None else certificate.kid
    headers = signature_headers(Signature(ALG_BATCH, kid, found.batch, found.proof, found.worker))
    record = LogRecord("", found.partition, 0, None, found.value, None, headers)
    if len(found.value) > limits.VERDICT_BYTES_MAX or not SignedVerifier(found.bound, root).decision_authentic(record):
        raise refused(Token.WORKER, "its verdict is not by a worker of this realm")
    try:
        verdict = Verdict.model_validate(read_body(found.value)[0])
    except (ValidationError, RecursionError):
        raise refused(Token.DECISION, "its record is no verdict") from None
    if verdict.decision != "approve" or verdict.event is None or verdict.incarnation != found.incarnation:
        raise refused(Token.DECISION, f"its verdict is `{verdict.decision}`")
    return verdict


def _enforcer(found: Sealed, root: bytes, event: Mapping[str, Any], now_ms: int) -> EnforcerCertificate:
    """Who signed, if they may: certified, in the agent's lane, not the agent, and while the key counts."""
    certificate = EnforcerCertificate.unpacked(found.enforcer)
    if certificate is None or not certificate.vouched_for(root, found.bound):
        raise refused(Token.ENFORCER, "nobody this root trusts has certified who signed it")
    who = certificate.enforcer
    if who.identity == event.get("agent_id") or who.lane != event.get("lane"):
        whom = f"`{event.get('agent_id')}`"
        raise refused(Token.ENFORCER, f"`{who.identity}` of lane `{who.lane}` may not speak for {whom}")
    if not who.not_before <= now_ms <= who.not_after:
        raise refused(Token.ENFORCER, f"the key of `{who.identity}` does not count now")
    return certificate


def _said(found: Sealed, verdict: Verdict, enforcer: str) -> Verified:
    event = verdict.event or {}
    try:
        uris = tuple(str(resource["uri"]) for resource in event["resources"])
        action, measures = str(event["action"]), dict(event["measures"])
    except (KeyError, TypeError, ValueError):
        raise refused(Token.DECISION, "its verdict does not say what was approved") from None
    # A token may end no later than what it was approved for: the longest deadline there is, or the end of its hold.
    last = verdict.t + limits.DEADLINE_MS_MAX if verdict.hold_until is None else verdict.hold_until
    return Verified(
        agent_id=verdict.agent_id,
        intent_id=verdict.intent_id,
        action=action,
        resources=uris,
        measures=measures,
        obligations=verdict.obligations,
        arguments_digest=verdict.arguments_digest,
        verdict_digest=sha256(found.value).hexdigest(),
        enforcer=enforcer,
        nonce=found.nonce.hex(),
        decided_ms=verdict.t,
        not_after_ms=found.not_after,
        ends_ms=last + limits.CLOCK_SKEW_MS_MAX,
    )


def _in_time(said: Verified, now_ms: int) -> None:
    if now_ms >= said.not_after_ms:
        raise refused(Token.TIME, f"it ended {(now_ms - said.not_after_ms) / 1000:.1f} s ago")
    if said.not_after_ms > now_ms + limits.TOKEN_MS_MAX + limits.CLOCK_SKEW_MS_MAX:
        raise refused(Token.TIME, f"it lasts {(said.not_after_ms - now_ms) / 1000:.1f} s more")
    if said.not_after_ms > said.ends_ms:
        raise refused(Token.TIME, "it lasts longer than what was approved")


def _quoted(text: str) -> str:
    """What nobody has vouched for yet: escaped, since it may be shown on a terminal, and not all of it."""
    return f"`{text[:limits.WORD_CHARS_MAX].encode('unicode_escape').decode()}`"


def refused(word: Token, detail: str) -> TokenRefused:
    """A refusal by that word."""
    return TokenRefused(f"the token is refused: {detail} ({word})", hint=EXPLAIN[word], reasons=(word,))
