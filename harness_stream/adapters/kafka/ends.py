"""End-offset queries that never wait. Rule: an answer carries the time before which the query was not yet sent.

A partition is asked once its leader is known (leaders.py says why).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec  # type: ignore[attr-defined]

from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.leaders import Leaders
from harness_stream.core.limits import FRESH_MS_MAX
from harness_stream.ports import Ends

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

# Retention works in minutes; ten end queries share one answer.
LOW_MS: Final = 1_000
# What a broker that restarted, or a former leader, answers to a client with cached metadata.
_STALE: Final = frozenset({KafkaError.FENCED_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION})
# A new client connects and learns its metadata in some 10 ms; a restarted broker needs about a second to know itself.
RENEW_MS: Final = 1_000
# Three rounds of queries of a partition in a row that no broker answered: this client may have lost its brokers (see
# standstill.py). If it has not, because one leader is dead, a new one every so often costs nothing.
SILENCE_MS_MAX: Final = 3 * FRESH_MS_MAX
# An older answer is worth nothing (`fresh_as_of`), so a query is given up then.
QUERY_S_MAX: Final = FRESH_MS_MAX / 1000
# Of a partition: ten queries a second, each given up after one. A silent broker must not pile up more.
OPEN_MAX: Final = 10


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
        if not (_given(self.low) and _given(self.end)):
            return None
        low, end = self.low.result().offset, self.end.result().offset
        crossed = end < low
        return None if crossed else Ends(self.topic, self.partition, low, end, self.asked_at_ms)


def _given(asked: Future[ListOffsetsResultInfo]) -> bool:
    """Of several partitions asked at once those without an answer get librdkafka's invalid offset, and no error."""
    return asked.exception() is None and asked.result().offset >= 0


def _said(asked: Future[ListOffsetsResultInfo]) -> bool:
    error = asked.exception()
    return bool(error.args[0].code() >= 0) if isinstance(error, KafkaException) else _given(asked)


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
        self._leaders: Leaders | None = Leaders(AdminClient(settings.admin(where)))
        self._due: dict[tuple[str, int], int] = {}  # when those were asked for whose leaders are not known yet
        self._asked_ms = 0  # when somebody last asked
        self._open: list[_Query] = []
        self._sent: list[tuple[str, int, Future[ListOffsetsResultInfo]]] = []  # each is looked at once (`_unlearn`)

    def ask(self, partitions: Iterable[tuple[str, int]], now_ms: int) -> None:
        """Send a query; dropped if too many of its partition are open, the next one will do. Nothing after `close`."""
        if self._leaders is not None:
            self._asked_ms = now_ms
            self._due |= dict.fromkeys(partitions, now_ms)
            self._unlearn(self._leaders)
            self._send(self._leaders)

    def _send(self, leaders: Leaders) -> None:
        """What is due of partitions with a known leader, each leader by itself: a silent one holds up nobody else's."""
        now_ms = max(self._due.values(), default=0)
        led: dict[int, dict[tuple[str, int], int]] = {}
        for name in list(self._due):
            leader = leaders.of(*name, now_ms)
            if leader is None:
                leaders.want(name[0], now_ms)
            else:
                led.setdefault(leader, {})[name] = self._due.pop(name)
        waiting = Counter((query.topic, query.partition) for query in self._open)
        for asked_at_ms in led.values():
            if wanted := {name: at_ms for name, at_ms in asked_at_ms.items() if waiting[name] < OPEN_MAX}:
                self._send_to_one(leaders.admin, wanted)

    def _send_to_one(self, admin: AdminClient, asked_at_ms: Mapping[tuple[str, int], int]) -> None:
        lows = self._firsts(admin, asked_at_ms)
        ends = self._asked(admin, asked_at_ms, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        self._open += (_Query(*name, now_ms, lows[name], ends[name]) for name, now_ms in asked_at_ms.items())

    def forget(self, topic: str, partition: int) -> None:
        """Whatever is answered of this partition from here on, both bounds were asked for from here on."""
        self._open = [query for query in self._open if (query.topic, query.partition) != (topic, partition)]
        self._due.pop((topic, partition), None)
        self._silent_since_ms.pop((topic, partition), None)
        self._lows.pop((topic, partition), None)

    def collect(self) -> list[Ends]:
        """Answers that have arrived; failed queries have none."""
        if self._leaders is None:
            return []
        late, done = self._unled(self._leaders), [query for query in self._open if query.answered()]
        self._unlearn(self._leaders)
        if done:
            self._open = [query for query in self._open if query not in done]
        late += [q.asked_at_ms for q in done if q.stale() and q.asked_at_ms - self._renewed_at_ms >= RENEW_MS]
        late += self._silent(done)
        if late:
            self._renew(max(late))
        else:
            self._send(self._leaders)
        return [ends for query in done if (ends := query.answer()) is not None]

    def _unlearn(self, leaders: Leaders) -> None:
        """Where a broker says that it does not lead, librdkafka drops all leaders of the topic; in silence, none.

        A broker that is only slow is asked on, while the leader that may have followed it is looked for.
        """
        sent, self._sent = self._sent, []
        for topic, partition, future in sent:
            if not future.done():
                self._sent.append((topic, partition, future))
            elif _given(future):
                continue
            elif _said(future):
                leaders.forget(topic)
            else:
                leaders.want(topic, self._asked_ms)

    def _unled(self, leaders: Leaders) -> list[int]:
        """When leaders were asked for of which for too long no broker has said anything; who has none is not asked."""
        late = []
        for told in leaders.collect():
            for name in [n for n in self._due if n[0] == told.topic and n[1] not in told.leaders]:
                del self._due[name]
                if self._is_silent(name, told.asked_at_ms, heard=told.heard):
                    late.append(told.asked_at_ms)
        return late

    def _silent(self, done: list[_Query]) -> list[int]:
        """When queries were asked of partitions of which for too long no broker has said anything."""
        return [q.asked_at_ms for q in done if self._is_silent((q.topic, q.partition), q.asked_at_ms, heard=q.heard())]

    def _is_silent(self, name: tuple[str, int], asked_at_ms: int, *, heard: bool) -> bool:
        if heard:
            self._silent_since_ms.pop(name, None)
            return False
        return asked_at_ms - self._silent_since_ms.setdefault(name, asked_at_ms) >= SILENCE_MS_MAX

    def _firsts(
        self, admin: AdminClient, asked_at_ms: Mapping[tuple[str, int], int]
    ) -> dict[tuple[str, int], Future[ListOffsetsResultInfo]]:
        """First kept offsets: they move with retention, so an answer serves for LOW_MS (half of all queries saved)."""
        due = [name for name, now_ms in asked_at_ms.items() if not self._is_recent(name, now_ms)]
        if due:
            asked = self._asked(admin, due, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
            self._lows |= {name: (asked_at_ms[name], asked[name]) for name in due}
        return {name: self._lows[name][1] for name in asked_at_ms}

    def _asked(
        self, admin: AdminClient, names: Iterable[tuple[str, int]], spec: OffsetSpec
    ) -> dict[tuple[str, int], Future[ListOffsetsResultInfo]]:
        places = {TopicPartition(*name): spec for name in names}
        isolation = IsolationLevel.READ_UNCOMMITTED
        asked = admin.list_offsets(places, isolation_level=isolation, request_timeout=QUERY_S_MAX)
        self._sent += ((place.topic, place.partition, future) for place, future in asked.items())
        return {(place.topic, place.partition): future for place, future in asked.items()}

    def _is_recent(self, name: tuple[str, int], now_ms: int) -> bool:
        asked_ms, low = self._lows.get(name, (now_ms - LOW_MS, None))
        failed = low is not None and low.done() and not _given(low)
        return not failed and 0 <= now_ms - asked_ms < LOW_MS

    def close(self) -> None:
        """Drop the client, and with it open queries: an answer in a process's last moments crashes it.

        Waits for leaders that are being learned, at most LEARN_S_MAX (leaders.py) a topic.
        """
        if self._leaders is not None:
            self._leaders.close()
        self._open, self._sent, self._lows, self._due, self._leaders = [], [], {}, {}, None

    def _renew(self, now_ms: int) -> None:
        """A client whose cached leader was fenced, or that forgot its brokers, may never ask again by itself."""
        self._open, self._sent, self._lows = [], [], {}
        self._renewed_at_ms, self._silent_since_ms = now_ms, {}
        self._leaders = Leaders(AdminClient(settings.admin(self._where)))
