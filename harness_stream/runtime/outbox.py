"""Own decision-log records on their way: what was handed to the log and is not known to be in it.

Rule of this file: records leave in order and their fates come back in order; what a fate means is for the owner to say.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.wire.cloudevents import source_of, traceparent_of
from harness_stream.wire.decisions import decision_headers, digest_of, encode_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from harness_stream.core.apply import Change
    from harness_stream.core.fold import Header
    from harness_stream.ports import Delivery, Headers
    from harness_stream.runtime.batch import Linked
    from harness_stream.runtime.realm import Ports, Realm


def body_of(kind: str, header: Header) -> dict[str, Any]:
    """What every own record begins with."""
    return {"kind": kind, "incarnation": header.incarnation, "epoch": header.epoch, "writer": header.writer}


class Sent(NamedTuple):
    """One own decision-log record whose fate is open.

    Attributes:
        header: the fold after it; None for a claim or checkpoint.
        units: those that its change changed.
        closes_layer: with it a micro-batch is confirmed.
        size: bytes of its value.
        sent_ms: elapsed time.
    """

    token: int
    body: Mapping[str, Any]
    digest: str
    header: Header | None
    change: Change | None
    units: frozenset[str]
    closes_layer: bool
    size: int
    sent_ms: int


class Outbox:
    """Sends one partition's records.

    Args:
        partition: which.
        realm: this realm.
        ports: its ports.
        writer_id: 128 random bits of this process, hex.
        next_token: gives tokens for appends.
    """

    def __init__(
        self, partition: int, realm: Realm, ports: Ports, writer_id: str, next_token: Callable[[], int]
    ) -> None:
        self.writer_id = writer_id
        self.size = 0
        self._partition, self._realm, self._ports, self._next_token = partition, realm, ports, next_token
        self._topic, self._source = realm.topics.verdicts, source_of(realm.name, writer_id)
        self._flight: deque[Sent] = deque()

    def __len__(self) -> int:
        """Records whose fate is open."""
        return len(self._flight)

    def changes(self) -> list[Change]:
        """What records whose fate is open change, in order."""
        return [sent.change for sent in self._flight if sent.change is not None]

    def send(self, body: Mapping[str, Any], header: Header | None = None, *, closes_layer: bool = False) -> None:
        """Send one record that stands alone: claim, switch, checkpoint.

        Raises:
            BufferError: the local queue is full.
        """
        value = encode_body(body)
        digest = digest_of(value)
        seal = self._ports.signer.seal_batch(self._partition, [digest])[0]
        place = self._next_token(), body, digest, header
        sent = Sent(*place, None, frozenset(), closes_layer, len(value), self._ports.clock.elapsed_ms())
        self._append(sent, value, self._headers(body["kind"], digest, self._ports.clock.now_ms(), seal))

    def send_batch(self, records: Sequence[Linked]) -> None:
        """Send one micro-batch under one seal; the last record closes its layer (raises as `send`)."""
        seals = self._ports.signer.seal_batch(self._partition, [linked.digest for linked in records])
        sent_ms, now_ms, last = self._ports.clock.elapsed_ms(), self._ports.clock.now_ms(), records[-1]
        for linked, seal in zip(records, seals, strict=True):
            body, value, digest, header, change, units, source = linked
            sent = Sent(
                self._next_token(), body, digest, header, change, units, linked is last, len(value), sent_ms
            )
            headers = self._headers(body["kind"], digest, now_ms, seal, traceparent_of(source.headers or ()))
            self._append(sent, value, headers, source.key)

    def take(self, delivery: Delivery) -> Sent | None:
        """The record a fate belongs to; None if it was given up before, or sent by a former owner object."""
        if not self._flight or delivery.token < self._flight[0].token:
            return None
        sent = self._flight.popleft()
        self.size -= sent.size
        if sent.token != delivery.token:
            raise AssertionError(f"deliveries out of order: {delivery.token}, expected {sent.token}")
        return sent

    def give_up(self) -> None:
        """Wait for nothing any more."""
        self._flight.clear()
        self.size = 0

    def copy_to_heads(self, checkpoint: Sent) -> None:
        """Put a checkpoint that is in the log where readers look for it (raises as `send`)."""
        seal = self._ports.signer.seal_batch(self._partition, [checkpoint.digest])[0]
        headers = self._headers("checkpoint", checkpoint.digest, self._ports.clock.now_ms(), seal)
        key, value = str(self._partition).encode(), encode_body(checkpoint.body)
        self._ports.writer.append(self._realm.topics.heads, self._partition, key, value, headers)

    def _append(self, sent: Sent, value: bytes, headers: Headers, key: bytes | None = None) -> None:
        self._ports.writer.append(self._topic, self._partition, key, value, headers, token=sent.token)
        self._flight.append(sent)
        self.size += sent.size

    def _headers(self, kind: str, digest: str, now_ms: int, seal: Headers, trace: str | None = None) -> Headers:
        """The envelope, and what vouches for the record."""
        return [*decision_headers(self._source, kind, digest, now_ms, trace), *seal]
