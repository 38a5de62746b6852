"""Who vouches for a record: the unsigned pair of `--dev` realms, and the signed pair of all others (PROTOCOL §9).

Rule of this package: unsigned is a statement, `hs-alg: none`, never a lack of one, and each pair refuses what the other
writes. `unsigned` needs no cryptography and is all that this file names; the signed pair is `inputs` (what agents
write), `decisions` (what workers write) and `verifier` (who believes whom), made of the key files that `keyring` keeps.
"""

from harness_stream.adapters.signing.unsigned import UNSIGNED_HEADERS, UnsignedSigner, UnsignedVerifier

__all__ = ["UNSIGNED_HEADERS", "UnsignedSigner", "UnsignedVerifier"]
