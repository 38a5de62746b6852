"""Reader and writer on Apache Kafka.

Rule: neither ever waits or raises because a broker is away; they count and go on.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from harness_stream.access import KafkaAccess, kafka_at
from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.ends import EndsQueries
from harness_stream.adapters.kafka.positions import Positions
from harness_stream.adapters.kafka.refused import Refusals, denied, is_denial
from harness_stream.adapters.kafka.standstill import Standstill
from harness_stream.alarms import Alarm, sound
from harness_stream.ports import Delivery
from harness_stream.wire import acls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness_stream.ports import Clock, Ends, Headers, LogRecord

log = logging.getLogger(__name__)

# A broker that serves answers within milliseconds, the first time after a connection is made.
LEARN_S_MAX: Final = 1.0


class KafkaReader:
    """Reads any partitions without a group (implements `ports.LogReader`).

    A consumer that stands still while the ends that are asked for go on is replaced (standstill.py).

    Args:
        where: the way into Kafka.
        clock: tells how long a consumer stands still.
        topics: those whose partitions shall be delivered as soon as they are followed. librdkafka asks for a topic it
            has not met only in its look at all topics, once a second: two of them, and a takeover takes two seconds
            more. Learning them waits for the broker, at most LEARN_S_MAX each.
    """

    def __init__(self, where: settings.Where, clock: Clock | None = None, topics: Iterable[str] = ()) -> None:
        self._where, self._clock = where, clock or SystemClock()
        self._refusals = Refusals(kafka_at(where))
        self._consumer = self._made()
        for topic in topics:
            self._learn(topic)
        self._positions = Positions(self._consumer, self._refused, self._clock)
        self._standstill = Standstill()
        self._queries = EndsQueries(where)
        self._closed = False

    @property
    def errors(self) -> Mapping[str, int]:
        """Name of librdkafka's error → how often, since the start."""
        return self._positions.errors

    def follow(self, topic: str, partition: int, offset: int) -> None:
        """Deliver this partition from `offset` on. Following it again moves the position."""
        self._positions.place(topic, partition, offset)

    def unfollow(self, topic: str, partition: int) -> None:
        """Deliver nothing of this partition any more, not even what was already fetched."""
        self._positions.drop([(topic, partition)])

    def poll(self, records_max: int) -> list[LogRecord]:
        """At most `records_max` records; a position outside of the log delivers nothing until it is followed anew."""
        if self._closed:
            return []
        records = self._positions.take(records_max)
        if len(records) == records_max:
            self._standstill.busy()
        return records

    def position(self, topic: str, partition: int) -> int | None:
        """Next offset to be delivered, offsets without a record at the end of the log passed over."""
        return self._positions.position(topic, partition)

    def damaged(self, topic: str, partition: int) -> int | None:
        """The offset that a followed partition stands at because its batch cannot be read; None if it goes on."""
        return self._positions.damaged().get((topic, partition))

    def ask_ends(self, partitions: Iterable[tuple[str, int]], now_ms: int) -> None:
        """Start an end-offset query; partitions that do not exist get no answer."""
        self._queries.ask(partitions, now_ms)

    def ends(self) -> list[Ends]:
        """Answers since the last call."""
        if self._closed:
            return []
        answers, now_ms = self._queries.collect(), self._clock.elapsed_ms()
        noticed = [e for e in answers if self._standstill.noticed(e, self._awaited(e.topic, e.partition), now_ms)]
        if noticed:
            self._renew(noticed[0], now_ms)
        return answers

    def close(self) -> None:
        """Free everything; nothing is delivered afterwards."""
        if not self._closed:
            self._closed = True
            self._queries.close()
            self._consumer.close()

    def _refused(self, error: KafkaError, topic: str) -> None:
        """A reader is in no group, so that it does not matter whether it may see one."""
        if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
            self._refusals.alarm(error, topic, acls.READ)

    def _awaited(self, topic: str, partition: int) -> int | None:
        """The position, unless nothing can come there."""
        return None if self.damaged(topic, partition) is not None else self.position(topic, partition)

    def _made(self) -> Consumer:
        return Consumer(settings.reader(self._where) | {"error_cb": self._refusals.alarm})

    def _learn(self, topic: str) -> None:
        # Without an answer nothing is lost but time.
        with contextlib.suppress(KafkaException):
            self._consumer.list_topics(topic, LEARN_S_MAX)

    def _renew(self, ends: Ends, now_ms: int) -> None:
        what = f"`{ends.topic}`/{ends.partition} goes on to {ends.end} and nothing arrives: a new consumer"
        sound(log, Alarm.CLIENT_STOOD_STILL, what)
        former, self._consumer = self._consumer, self._made()
        self._positions.move_to(self._consumer)
        self._standstill.renewed(now_ms)
        former.close()


class _Slot:
    """One append waiting for its fate."""

    __slots__ = ("access", "delivery", "partition", "token", "topic")

    def __init__(self, topic: str, partition: int, token: int, access: KafkaAccess) -> None:
        self.access = access
        self.topic = topic
        self.partition = partition
        self.token = token
        self.delivery: Delivery | None = None

    def report(self, error: KafkaError | None, message: Message) -> None:
        """Take librdkafka's delivery report."""
        if error is None:
            self.delivery = Delivery(self.topic, self.partition, self.token, message.offset(), None)
        else:
            self.fail(error)

    def fail(self, error: KafkaError) -> None:
        """It failed, or nobody knows."""
        if self.delivery is not None:
            return
        # Who may write nothing at all is refused a producer's number, which is told as a right on the cluster.
        why = str(denied(self.access, "topic", self.topic, acls.WRITE)) if is_denial(error) else error.str()
        self.delivery = Delivery(self.topic, self.partition, self.token, None, f"{error.name()}: {why}")


class KafkaWriter:
    """Appends in order per partition, idempotent, acks=all (implements `ports.LogWriter`).

    A producer that failed fatally is replaced; what it still held is reported as failed, which means unknown.

    Args:
        where: the way into Kafka.
        batches: how much one request holds; a worker takes `settings.DECISION_BATCHES`.
    """

    def __init__(self, where: settings.Where, batches: settings.Batches = settings.BATCHES) -> None:
        self._access = kafka_at(where)
        self._refusals = Refusals(self._access)
        self._settings = settings.producer(self._access, batches) | {"error_cb": self._count}
        self.errors: Counter[str] = Counter()
        self._producer = Producer(self._settings)
        self._slots: dict[tuple[str, int], deque[_Slot]] = {}

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        *,
        token: int = 0,
    ) -> None:
        """Hand over one record; `value` None is a tombstone. What librdkafka refuses is reported as failed.

        Raises:
            BufferError: the local queue is full; serve `deliveries` and try again.
        """
        slot = _Slot(topic, partition, token, self._access)
        try:
            self._producer.produce(topic, value, key, partition, slot.report, headers=list(headers))
        except KafkaException as error:
            refused: KafkaError = error.args[0]
            slot.fail(refused)
            if refused.fatal():
                self._renew(refused)
        slots = self._slots.get((topic, partition))
        if slots is None:
            slots = self._slots[topic, partition] = deque()
        slots.append(slot)

    def deliveries(self) -> list[Delivery]:
        """Fates known since the last call, in append order per partition."""
        self._serve(lambda: self._producer.poll(0))
        known: list[Delivery] = []
        for slots in self._slots.values():
            while slots and (delivery := slots[0].delivery) is not None:
                known.append(delivery)
                slots.popleft()
        return known

    def flush(self, timeout_ms: int) -> int:
        """Wait until everything handed over has a fate or time is up; the number still open."""
        self._serve(lambda: self._producer.flush(timeout_ms / 1000))
        return sum(slot.delivery is None for slots in self._slots.values() for slot in slots)

    def close(self) -> None:
        """Free everything. What is still queued may or may not land."""
        self._slots.clear()
        with contextlib.suppress(KafkaException):  # a fatal error is nobody's any more
            self._producer.flush(0)
        del self._producer  # its `close` would wait for the delivery time-out

    def _serve(self, callbacks: Callable[[], object]) -> None:
        """A fatal error may be told by whatever call serves callbacks, not only by the next append."""
        try:
            callbacks()
        except KafkaException as error:
            if not error.args[0].fatal():
                raise
            self._renew(error.args[0])

    def _renew(self, error: KafkaError) -> None:
        """After a fatal error (a broker lost our sequence numbers) this producer would refuse everything for ever."""
        for slots in self._slots.values():
            for slot in slots:
                slot.fail(error)
        self._producer = Producer(self._settings)

    def _count(self, error: KafkaError) -> None:
        self.errors[error.name()] += 1
        self._refusals.alarm(error)
