"""The unsigned pair of `--dev` realms: nobody vouches, and every record says so.

Rule of this file: unsigned is a statement, `hs-alg: none`, never a lack of one. A record that carries no statement, a
second one, a key id, a signature, a proof or a certificate is not an unsigned record and counts as forged; the signed
verifier in turn refuses `none`. So no realm ever holds records of both kinds that count (PROTOCOL §3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.wire.cloudevents import ALG_NONE, HS_ALG, SIGNATURE_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.ports import Headers, InputKind, LogRecord, Sender

UNSIGNED_HEADERS: Final = ((HS_ALG, ALG_NONE.encode()),)
"""All that an unsigned record says about its authenticity; the CloudEvents headers are the envelope's."""


class UnsignedSigner:
    """The `--dev` signer: says that nobody vouches (implements `ports.DecisionSigner` and `ports.InputSigner`)."""

    @property
    def dev(self) -> bool:
        """Always true."""
        return True

    def seal_batch(self, partition: int, digests: Sequence[str]) -> list[Headers]:  # noqa: ARG002  nothing is signed
        """`hs-alg: none` for each record."""
        return [UNSIGNED_HEADERS for _ in digests]

    def may_sign(self, epoch: int) -> bool:  # noqa: ARG002  nothing is certified
        """Always true."""
        return True

    def speaks_for(self, by: str) -> bool:  # noqa: ARG002  in `--dev` anyone may be anyone
        """Always true."""
        return True

    def seal_rules(self, topic: str, key: bytes, value: bytes) -> Headers:  # noqa: ARG002  nothing is signed
        """None."""
        return ()

    def seal_input(
        self,
        topic: str,  # noqa: ARG002  nothing is signed
        lane: str,  # noqa: ARG002  same
        value: bytes,  # noqa: ARG002  same
        kind: InputKind,  # noqa: ARG002  same
        by: str,  # noqa: ARG002  same
        *,
        nonrepudiable: bool = False,  # noqa: ARG002  same
    ) -> Headers:
        """`hs-alg: none`."""
        return UNSIGNED_HEADERS


class UnsignedVerifier:
    """The `--dev` verifier: takes `hs-alg: none` and nothing else (implements `ports.Verifier`)."""

    @property
    def judges_inputs(self) -> bool:
        """Always true: the statement is there or it is not."""
        return True

    def input_authentic(self, record: LogRecord, sender: Sender) -> bool:  # noqa: ARG002  in `--dev` anyone may be anyone
        """Does the record say that it is unsigned?"""
        return self.decision_authentic(record)

    def signature_worth(self, record: LogRecord, sender: Sender) -> str | None:  # noqa: ARG002  nothing is signed
        """None has any."""
        return None

    def why_refused(self, record: LogRecord, sender: Sender) -> str:  # noqa: ARG002  nobody's keys are looked at
        """That it does not say so."""
        return "this realm is unsigned (`--dev`), and it does not say `hs-alg: none` and nothing else"

    def why_rules_refused(self, record: LogRecord) -> str:  # noqa: ARG002  in `--dev` anyone may push
        """Always empty."""
        return ""

    def decision_authentic(self, record: LogRecord) -> bool:
        """Does the record say that it is unsigned?"""
        return [header for header in record.headers if header[0] in SIGNATURE_NAMES] == _UNSIGNED


_UNSIGNED: Final = [*UNSIGNED_HEADERS]
