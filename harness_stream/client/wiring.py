"""What a client is given once: the realm it speaks to, and the ports it does so through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness_stream.ports import Clock, InputSigner, LogReader, LogWriter, TokenSigner, Verifier
    from harness_stream.wire.topics import Topics


@dataclass(frozen=True, slots=True)
class ClientRealm:
    """One deployment and domain of trust, as far as a client must know it (PROTOCOL §1).

    Attributes:
        name: as inputs name it.
        incarnation: ids of the two log topics.
        partitions: P.
        topics: their names.
    """

    name: str
    incarnation: str
    partitions: int
    topics: Topics


@dataclass(frozen=True, slots=True)
class Wiring:
    """A realm and the ports to it. Reader and writer belong to the enforcer they are given to, which closes them.

    Attributes:
        tokens: signs for remote executors; None if nobody certified this process for that.
    """

    realm: ClientRealm
    reader: LogReader
    writer: LogWriter
    clock: Clock
    signer: InputSigner
    verifier: Verifier
    tokens: TokenSigner | None = None
