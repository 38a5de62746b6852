"""End-offset queries that never wait. Rule: an answer carries the time before which the query was not yet sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

from harness_stream.adapters.kafka import settings
from harness_stream.core.limits import FRESH_MS_MAX
from harness_stream.ports import Ends

if TYPE_CHECKING:
    from collections.abc import Iterable
    from concurrent.futures import Future

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

    def answer(self) -> Ends | None:
        try:
            low, end = self.low.result().offset, self.end.result().offset
        except KafkaException:
            return None
        return Ends(self.topic, self.partition, low, end, self.asked_at_ms)


class EndsQueries:
    """Asks for the bounds of partitions and collects what has arrived.

    Args:
        bootstrap: Kafka bootstrap servers.
    """

    def __init__(self, bootstrap: str) -> None:
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
        return [ends for query in done if (ends := query.answer()) is not None]

    def _send(
        self, places: list[TopicPartition], spec: OffsetSpec
    ) -> dict[TopicPartition, Future[ListOffsetsResultInfo]]:
        return self._admin.list_offsets(
            dict.fromkeys(places, spec),
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=QUERY_S_MAX,
        )
