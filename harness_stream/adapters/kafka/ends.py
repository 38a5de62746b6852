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

# Retention works in minutes; ten end queries share one answer.
LOW_MS: Final = 1_000
# What a broker that restarted, or a former leader, answers to a client with cached metadata.
_STALE: Final = frozenset({KafkaError.FENCED_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION})
# A new client connects and learns its metadata in some 10 ms; a restarted broker needs about a second to know itself.
RENEW_MS: Final = 1_000
# Three rounds of queries of a partition in a row that no broker answered: this client may have lost its brokers (see
# standstill.py), or it goes on asking a leader that died, whatever the others answer: an admin client looks up leaders
# once. If neither, a new one every so often costs nothing.
SILENCE_MS_MAX: Final = 3 * FRESH_MS_MAX
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

    def heard(self) -> bool:
        """Did a broker say anything? librdkafka's own errors are negative."""
        return _said(self.low) and _said(self.end)

    def answer(self) -> Ends | None:
        try:
            low, end = self.low.result().offset, self.end.result().offset
        except KafkaException:
            return None
        if low < 0 or end < low:
            return None  # a result that nobody gave (`_said`), or two queries that crossed
        return Ends(self.topic, self.partition, low, end, self.asked_at_ms)


def _said(asked: Future[ListOffsetsResultInfo]) -> bool:
    """Of several partitions asked at once those without an answer get librdkafka's invalid offset, and no error."""
    error = asked.exception()
    if isinstance(error, KafkaException):
        return bool(error.args[0].code() >= 0)
    return error is None and bool(asked.result().offset >= 0)


class EndsQueries:
    """Asks for the bounds of partitions and collects what has arrived.

    Args:
        where: the way into Kafka.
    """

    def __init__(self, where: settings.Where) -> None:
        self._where = where
        self._renewed_at_ms = 0
        self._silent_since_ms: dict[tuple[str, int], int] = {}  # when a partition's first unanswered query was asked
        self._lows: dict[tuple[str, int], tuple[int, Future[ListOffsetsResultInfo]]] = {}
        self._admin: AdminClient | None = AdminClient(settings.admin(where))
        self._open: list[_Query] = []

    def ask(self, partitions: Iterable[tuple[str, int]], now_ms: int) -> None:
        """Send a query; dropped if too many are open, the next one will do. Nothing is asked after `close`."""
        places = [TopicPartition(topic, partition) for topic, partition in partitions]
        if self._admin is None or not places or len(self._open) + len(places) > OPEN_MAX:
            return
        lows = self._firsts(self._admin, places, now_ms)
        ends = _send(self._admin, places, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        queries = (_Query(p.topic, p.partition, now_ms, low, ends[p]) for p, low in zip(places, lows, strict=True))
        self._open += queries

    def forget(self, topic: str, partition: int) -> None:
        """Whatever is answered of this partition from here on, both bounds were asked for from here on."""
        self._open = [query for query in self._open if (query.topic, query.partition) != (topic, partition)]
        self._lows.pop((topic, partition), None)

    def collect(self) -> list[Ends]:
        """Answers that have arrived; failed queries have none."""
        done = [query for query in self._open if query.answered()]
        if done:
            self._open = [query for query in self._open if query not in done]
        due = [q.asked_at_ms for q in done if q.stale() and q.asked_at_ms - self._renewed_at_ms >= RENEW_MS]
        due += self._silent(done)
        if due:
            self._renew(max(due))
        return [ends for query in done if (ends := query.answer()) is not None]

    def _silent(self, done: list[_Query]) -> list[int]:
        """When queries were asked of partitions of which for too long no broker has said anything."""
        late = []
        for query in done:
            name = (query.topic, query.partition)
            if query.heard():
                self._silent_since_ms.pop(name, None)
            elif query.asked_at_ms - self._silent_since_ms.setdefault(name, query.asked_at_ms) >= SILENCE_MS_MAX:
                late.append(query.asked_at_ms)
        return late

    def _firsts(
        self, admin: AdminClient, places: list[TopicPartition], now_ms: int
    ) -> list[Future[ListOffsetsResultInfo]]:
        """First kept offsets: they move with retention, so an answer serves for LOW_MS (half of all queries saved)."""
        names = [(p.topic, p.partition) for p in places]
        due = [p for p, name in zip(places, names, strict=True) if not self._is_recent(name, now_ms)]
        if due:
            asked = _send(admin, due, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
            self._lows |= {(p.topic, p.partition): (now_ms, asked[p]) for p in due}
        return [self._lows[name][1] for name in names]

    def _is_recent(self, name: tuple[str, int], now_ms: int) -> bool:
        asked_ms, low = self._lows.get(name, (now_ms - LOW_MS, None))
        failed = low is not None and low.done() and not _said(low)
        return not failed and 0 <= now_ms - asked_ms < LOW_MS

    def close(self) -> None:
        """Drop the client, at once, and with it open queries: an answer in a process's last moments crashes it."""
        self._open, self._lows, self._admin = [], {}, None

    def _renew(self, now_ms: int) -> None:
        """A client whose cached leader was fenced, or that forgot its brokers, may never ask again by itself."""
        self._open, self._lows, self._renewed_at_ms, self._silent_since_ms = [], {}, now_ms, {}
        self._admin = AdminClient(settings.admin(self._where))


def _send(
    admin: AdminClient, places: list[TopicPartition], spec: OffsetSpec
) -> dict[TopicPartition, Future[ListOffsetsResultInfo]]:
    return admin.list_offsets(
        dict.fromkeys(places, spec),
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=QUERY_S_MAX,
    )
