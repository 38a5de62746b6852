"""A signed realm's keys for tests: the same for the same name, so that a seed gives the same run again."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from harness_stream.adapters.signing.certificate import EPOCHS_ALL, RULES, certify
from harness_stream.adapters.signing.decisions import SignedDecisions
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import SignedInputs, Speaker
from harness_stream.adapters.signing.keys import kid_of, public_of, text_of
from harness_stream.adapters.signing.rules import SignedRules
from harness_stream.adapters.signing.verifier import SignedVerifier
from harness_stream.core.tables import PublicKey


def seed(*names: str) -> bytes:
    return sha256("/".join(names).encode()).digest()


@dataclass
class SignedRealm:
    """Root, PDP, a worker and as many speakers as are asked for."""

    name: str = "sim"
    incarnation: str = "i1"
    bound: Bound = field(init=False)

    def __post_init__(self) -> None:
        self.bound = Bound(self.name, self.incarnation)
        self.root = Ed25519PrivateKey.from_private_bytes(seed("root"))
        self.pdp = X25519PrivateKey.from_private_bytes(seed("pdp"))
        self.root_public, self.pdp_public = public_of(self.root), public_of(self.pdp)

    def worker(self, name: str = "w", epochs: tuple[int, int] = EPOCHS_ALL) -> SignedDecisions:
        key = Ed25519PrivateKey.from_private_bytes(seed("worker", name))
        return SignedDecisions(self.bound, key, certify(self.root, self.bound, public_of(key), epochs))

    def rules(self, name: str = "r", revisions: tuple[int, int] = EPOCHS_ALL) -> SignedRules:
        key = Ed25519PrivateKey.from_private_bytes(seed("rules", name))
        return SignedRules(self.bound, key, certify(self.root, self.bound, public_of(key), revisions, RULES))

    def speaker(self, name: str) -> Speaker:
        return Speaker(
            X25519PrivateKey.from_private_bytes(seed(name, "x")), Ed25519PrivateKey.from_private_bytes(seed(name, "e"))
        )

    def inputs(self, *names: str) -> SignedInputs:
        return SignedInputs(self.bound, self.pdp_public, {name: self.speaker(name) for name in names})

    def verifier(self, *, judges: bool = True) -> SignedVerifier:
        return SignedVerifier(self.bound, self.root_public, self.pdp if judges else None)

    def credentials(self, name: str, **over: object) -> dict[str, object]:
        """What enrolment writes for an identity."""
        mac, sign = (text_of(private.private_bytes_raw()) for private in self.speaker(name))
        public = {"pdp_key": text_of(self.pdp_public), "root_key": text_of(self.root_public)}
        return {"realm": self.name, "agent_id": name, "keys": {"mac": mac, "sign": sign}, **public, **over}

    def keys(self, name: str, **valid: int) -> tuple[PublicKey, ...]:
        return tuple(
            PublicKey(kid=kid_of(public), alg=alg, public=text_of(public), **valid)
            for alg, private in zip(("x25519", "ed25519"), self.speaker(name), strict=True)
            for public in [public_of(private)]
        )
