"""Who vouches for a record. So far only the unsigned pair of `--dev` realms; the signed pair is its own adapter pair.

Rule of this file: unsigned is a statement, `hs-alg: none`, never a lack of one. A record that carries no statement, a
second one, a key id, a signature or a proof is not an unsigned record and counts as forged; the signed verifier in
turn must refuse `none`. So no realm ever holds records of both kinds that count (PROTOCOL §3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.wire.cloudevents import ALG_NONE, HS_ALG, HS_KID, HS_PROOF, HS_SIG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.ports import Headers, LogRecord

UNSIGNED_HEADERS: Final = ((HS_ALG, ALG_NONE.encode()),)
"""All that an unsigned record says about its authenticity; the CloudEvents headers are the envelope's."""

_SIGNATURE_NAMES: Final = frozenset({HS_ALG, HS_KID, HS_SIG, HS_PROOF})


class UnsignedSigner:
    """The `--dev` signer: says that nobody vouches (implements `ports.Signer`)."""

    @property
    def dev(self) -> bool:
        """Always true."""
        return True

    def seal_batch(self, partition: int, digests: Sequence[str]) -> list[Headers]:  # noqa: ARG002  nothing is signed
        """`hs-alg: none` for each record."""
        return [UNSIGNED_HEADERS for _ in digests]

    def seal_input(self, topic: str, lane: str, value: bytes) -> Headers:  # noqa: ARG002  nothing is signed
        """`hs-alg: none`."""
        return UNSIGNED_HEADERS


class UnsignedVerifier:
    """The `--dev` verifier: takes `hs-alg: none` and nothing else (implements `ports.Verifier`)."""

    def input_authentic(self, record: LogRecord, by: str, lane: str) -> bool:  # noqa: ARG002  in `--dev` anyone may be anyone
        """Does the record say that it is unsigned?"""
        return _says_unsigned(record)

    def decision_authentic(self, record: LogRecord) -> bool:
        """Does the record say that it is unsigned?"""
        return _says_unsigned(record)


def _says_unsigned(record: LogRecord) -> bool:
    said = tuple((name, value) for name, value in record.headers if name in _SIGNATURE_NAMES)
    return said == UNSIGNED_HEADERS
