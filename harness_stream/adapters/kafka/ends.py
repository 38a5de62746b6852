"""End-offset queries that never wait. Rule: an answer carries the time before which the query was not yet sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

from harness_stream.adapters.kafka import settings
from harness_stream.core.limits import FRESH_MS_MAX
from harness_stream.ports import Ends

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

# What a broker that restarted, or a former leader, answers to a client with cached metadata.
_STALE: Final = frozenset({KafkaError.FENCED_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION})
# A new client connects and learns its metadata in some 10 ms; a restarted broker needs about a second to know itself.
RENEW_MS: Final = 1_000
# An older answer is worth nothing (`fresh_as_of`), so a query is given up then.
QUERY_S_MAX: Final = FRESH_MS_MAX / 1000
# Ten queries a second, each given up after one, of up to 64 partitions; a silent broker must not pile up more.
OPEN_MAX: Final = 640


@dataclass(frozen=True, slots=True)
class _Query:
    topic: str
    partition: int
    asked_at_ms: int
    low: Future[ListOffsetsResultInfo]
    end: Future[ListOffsetsResultInfo]

    def answered(self) -> bool:
        return self.low.done() and self.end.done()

    def stale(self) -> bool:
        """Did it fail because this client knows an older leader than there is?"""
        failures = (future.exception() for future in (self.low, self.end))
        return any(isinstance(e, KafkaException) and e.args[0].code() in _STALE for e in failures)

    def answer(self) -> Ends | None:
        try:
            low, end = self.low.result().offset, self.end.result().offset
        except KafkaException:
            return None
        if low < 0 or end < low:
            return None  # librdkafka's "invalid offset", given as a result under load; and two queries that crossed
        return Ends(self.topic, self.partition, low, end, self.asked_at_ms)


class EndsQueries:
    """Asks for the bounds of partitions and collects what has arrived.

    Args:
        bootstrap: Kafka bootstrap servers.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._renewed_at_ms = 0
        self._admin = AdminClient(settings.admin(bootstrap))
        self._open: list[_Query] = []

    def ask(self, partitions: Iterable[tuple[str, int]], now_ms: int) -> None:
        """Send a query; dropped if too many are open, the next one will do."""
        places = [TopicPartition(topic, partition) for topic, partition in partitions]
        if not places or len(self._open) + len(places) > OPEN_MAX:
            return
        lows = self._send(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = self._send(places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        self._open += [_Query(p.topic, p.partition, now_ms, lows[p], ends[p]) for p in places]

    def collect(self) -> list[Ends]:
        """Answers that have arrived; failed queries have none."""
        done = [query for query in self._open if query.answered()]
        if done:
            self._open = [query for query in self._open if query not in done]
        stale = [query.asked_at_ms for query in done if query.stale()]
        if stale and max(stale) - self._renewed_at_ms >= RENEW_MS:
            self._renew(max(stale))
        return [ends for query in done if (ends := query.answer()) is not None]

    def _renew(self, now_ms: int) -> None:
        """A client whose cached leader was fenced never asks for the new one by itself; its open queries fail."""
        self._open, self._renewed_at_ms = [], now_ms
        self._admin = AdminClient(settings.admin(self._bootstrap))

    def _send(
        self, places: list[TopicPartition], spec: OffsetSpec
    ) -> dict[TopicPartition, Future[ListOffsetsResultInfo]]:
        return self._admin.list_offsets(
            dict.fromkeys(places, spec),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=QUERY_S_MAX,
        )
