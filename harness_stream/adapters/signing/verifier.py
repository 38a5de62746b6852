"""Who is believed in a signed realm (PROTOCOL §9): inputs by the sender's keys, decisions by the realm's root.

Rule of this file: whatever is not exactly as its signer writes it is refused, and a refusal costs no more than an
acceptance. No key is taken from a record: senders' keys come from the identity table, the root's from settings.
"""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from harness_stream.adapters.signing import merkle
from harness_stream.adapters.signing.certificate import EPOCHS_ALL, Certificate
from harness_stream.adapters.signing.decisions import batch_statement
from harness_stream.adapters.signing.framing import Bound, input_frame, with_value
from harness_stream.adapters.signing.inputs import ALG_OF, DOMAIN_OF, also_of, mac
from harness_stream.adapters.signing.keys import KID_DIGITS, mac_key, public_of, raw_of, signed_by
from harness_stream.adapters.signing.rules import why_rules_refused
from harness_stream.core import limits
from harness_stream.wire.cloudevents import ALG_BATCH, ALG_ED25519, ALG_MAC, signature_of
from harness_stream.wire.decisions import read_body

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from harness_stream.ports import LogRecord, Sender

_ALG_OF_KEY: Final = {ALG_MAC: "x25519", ALG_ED25519: "ed25519"}
"""What a record says vouches for it → which kind of key that is."""
_KID: Final = re.compile(f"[0-9a-f]{{{KID_DIGITS}}}", re.ASCII)

# Derived keys, and what is bound in front of a lane's values: 0.3 KB each; a derivation costs ten MACs.
MAC_KEYS_MAX: Final = 10_000
# Micro-batches in flight in 256 partitions, two each, and as many checkpoints; 1 MB. A dropped one is verified anew.
BATCHES_MAX: Final = 1_024
# Workers of a realm, those that were replaced included.
CERTIFICATES_MAX: Final = 256


class SignedVerifier:
    """Takes what is signed in one realm and incarnation (implements `ports.Verifier`).

    Args:
        bound: realm and incarnation.
        root: the realm's Ed25519 root key.
        pdp: the PDP's private key; None in a process that only reads decisions, which then judges no input.
        former: PDP keys before it, each with the epoch ms of append up to which it counts.
    """

    def __init__(
        self,
        bound: Bound,
        root: bytes,
        pdp: X25519PrivateKey | None = None,
        former: Sequence[tuple[X25519PrivateKey, int]] = (),
    ) -> None:
        self._bound, self._root = bound, root
        self._pdps = () if pdp is None else ((pdp, limits.INTEGER_MAX), *former)
        self._frame = lru_cache(MAC_KEYS_MAX)(self._input_frame)
        self._mac_key = lru_cache(MAC_KEYS_MAX)(self._derived)
        self._certified = lru_cache(CERTIFICATES_MAX)(self._read_certificate)
        self._batch_signed = lru_cache(BATCHES_MAX)(self._verify_batch)

    @property
    def judges_inputs(self) -> bool:
        """Has it the PDP's key?"""
        return bool(self._pdps)

    # --- inputs ---

    def input_authentic(self, record: LogRecord, sender: Sender) -> bool:
        """Does it carry what its kind must, under one of the sender's keys that counted at append time?"""
        if not self._pdps:
            return True
        found = signature_of(record.headers)
        if found is None or found.alg != ALG_OF[sender.kind] or found.proof or found.cert:
            return False
        public = _key_of(sender, _ALG_OF_KEY[found.alg], found.kid, record.timestamp_ms)
        if public is None:
            return False
        statement = with_value(self._frame(found.alg, record.topic, sender.lane), record.value or b"")
        if found.alg != ALG_MAC:
            return not found.also and _signed_by(public, found.sig, statement)
        if not self._mac_right(found.kid, public, statement, found.sig, record.timestamp_ms or 0):
            return False
        # A signature costs ten MACs: it is asked for last, and then it has to be right, wanted or not.
        wanted = bool(found.also) or sender.nonrepudiable
        return not wanted or (sender.kind == "intent" and self._signed_also(record, sender, found.also))

    def _mac_right(self, kid: str, public: str, statement: bytes, sig: bytes, append_ms: int) -> bool:
        """With the PDP's key, or with one before it that still counted at append time."""
        for number, (_, not_after) in enumerate(self._pdps):
            key = self._mac_key(kid, public, number) if append_ms <= not_after else None
            if key is not None and hmac.compare_digest(mac(key, statement), sig):
                return True
        return False

    def _mac_of(self, record: LogRecord, sender: Sender, kid: str, sig: bytes) -> bool:
        """Is its MAC right, whatever else is wrong?"""
        public = _key_of(sender, "x25519", kid, record.timestamp_ms)
        statement = with_value(self._frame(ALG_MAC, record.topic, sender.lane), record.value or b"")
        return public is not None and self._mac_right(kid, public, statement, sig, record.timestamp_ms or 0)

    def _signed_also(self, record: LogRecord, sender: Sender, packed: bytes) -> bool:
        """Does it carry one of the sender's signatures besides its MAC?"""
        also = also_of(packed)
        public = None if also is None else _key_of(sender, "ed25519", also[0], record.timestamp_ms)
        statement = with_value(self._frame(ALG_ED25519, record.topic, sender.lane), record.value or b"")
        return also is not None and public is not None and _signed_by(public, also[1], statement)

    def signature_worth(self, record: LogRecord, sender: Sender) -> str | None:
        """What the Ed25519 signature of an input is worth; the PDP's key is not needed for that."""
        found = signature_of(record.headers)
        own = None if found is None or found.alg != ALG_ED25519 else (found.kid, found.sig)
        named = own if own is not None or found is None else also_of(found.also)
        if named is None:
            return None
        public = _key_of(sender, "ed25519", named[0], record.timestamp_ms)
        if public is None:
            return "no such key"
        statement = with_value(self._frame(ALG_ED25519, record.topic, sender.lane), record.value or b"")
        return "right" if _signed_by(public, named[1], statement) else "wrong"

    def why_refused(self, record: LogRecord, sender: Sender) -> str:
        """What is wrong with an input that is not authentic."""
        found = signature_of(record.headers)
        wanted = ALG_OF[sender.kind]
        if found is None or found.alg != wanted:
            other = "what vouches for it is malformed or missing" if found is None else "another one"
            return f"its kind, {sender.kind}, carries `hs-alg: {wanted}`, and this says {other}"
        if found.proof or found.cert or (found.also and sender.kind != "intent"):
            return f"more vouches for it than for its kind, {sender.kind}: one MAC or one signature"
        why = _why_no_key(sender, _ALG_OF_KEY[found.alg], found.kid, record.timestamp_ms)
        if why:
            return why
        if found.alg == ALG_MAC and self._mac_of(record, sender, found.kid, found.sig):
            asked = "this action is nonrepudiable" if sender.nonrepudiable else "it says that it is signed"
            return f"{asked}, and no valid Ed25519 signature stands besides the MAC"
        former = ", or for a PDP key that was rotated away" if found.alg == ALG_MAC else ""
        elsewhere = f"other bytes, another lane than `{sender.lane}`, another realm or other log topics"
        return f"it was signed for {elsewhere}{former}"

    def _input_frame(self, alg: str, topic: str, lane: str) -> bytes:
        return input_frame(DOMAIN_OF[alg], self._bound, topic, lane)

    def _derived(self, kid: str, public: str, number: int) -> bytes | None:
        """None for 43 characters that spell no 32 bytes, and for a key that gives no secret."""
        pdp = self._pdps[number][0]
        try:
            sender = raw_of(public)
            return mac_key(self._bound, pdp, sender, sender, public_of(pdp), kid)
        except ValueError:
            return None

    # --- decisions ---

    def decision_authentic(self, record: LogRecord) -> bool:
        """Is it in a micro-batch that a worker signed whose key the root certified for its epoch?"""
        found = signature_of(record.headers)
        if found is None or found.alg != ALG_BATCH or found.also:
            return False
        certificate, proof = self._certified(found.cert), merkle.Proof.unpacked(found.proof)
        if certificate is None or proof is None or certificate.kid != found.kid:
            return False
        root = merkle.root_of(sha256(record.value or b"").digest(), proof)
        if root is None or not self._batch_signed(certificate.public, record.partition, proof.size, root, found.sig):
            return False
        return (certificate.first_epoch, certificate.last_epoch) == EPOCHS_ALL or _in_epochs(record, certificate)

    # --- rules ---

    def why_rules_refused(self, record: LogRecord) -> str:
        """Why a record of the rules topic is not to be believed; empty if a certified rule-pusher signed it."""
        return why_rules_refused(record, self._root, self._bound)

    def _read_certificate(self, packed: bytes) -> Certificate | None:
        found = Certificate.unpacked(packed)
        return found if found is not None and found.signed_by(self._root, self._bound) else None

    def _verify_batch(self, public: bytes, partition: int, size: int, root: bytes, sig: bytes) -> bool:
        return signed_by(public, sig, batch_statement(self._bound, partition, size, root))


def _key_of(sender: Sender, alg: str, kid: str, append_ms: int | None) -> str | None:
    """The public key that a record names, if it counted when the record was appended."""
    if append_ms is None:
        return None
    for key in sender.keys:
        if key.kid == kid and key.alg == alg and key.not_before <= append_ms <= key.not_after:
            return key.public
    return None


def _why_no_key(sender: Sender, alg: str, kid: str, append_ms: int | None) -> str:
    """Why the key that a record names does not count; empty if it does."""
    named = [key for key in sender.keys if key.kid == kid and key.alg == alg]
    if not named:
        return "no keys of it are known" if not sender.keys else f"its row has no {alg} key `{printable_kid(kid)}`"
    if append_ms is None or any(key.not_before <= append_ms <= key.not_after for key in named):
        return ""
    return f"its key `{kid}` " + ("has ended" if named[-1].not_after < append_ms else "does not count yet")


def printable_kid(kid: str) -> str:
    """A key id that a sender chose, fit to be shown: it may be anything."""
    return kid if _KID.fullmatch(kid) else "of no form"


def _signed_by(public: str, sig: bytes, statement: bytes) -> bool:
    try:
        return signed_by(raw_of(public), sig, statement)
    except ValueError:
        return False


def _in_epochs(record: LogRecord, certificate: Certificate) -> bool:
    """A certificate for some epochs only: the record's own must be one of them."""
    epoch = read_body(record.value)[0].get("epoch")
    return type(epoch) is int and certificate.covers(epoch)
