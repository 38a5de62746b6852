"""Membership in the workers' group on Apache Kafka: classic protocol, cooperative.

Rule: librdkafka's assignment holds exactly what was started, at the offset the owner named, and a revoked partition is
given up only when its owner has finished it or the drain limit has passed.

How a revocation is held: librdkafka waits for one `incremental_unassign` after its revoke callback, but the Python
client makes that call itself unless the callback made one. A call that names a partition nobody has fails without
effect and counts as made, so the rebalance waits for our real one. Meanwhile librdkafka delivers nothing of any
partition of this member, which is why the hold is short and bounded.

A consumer that stands still, or that does not get back into the group, while a broker answers is replaced: its
partitions are lost, and assigned again to the new one (standstill.py).
"""

from __future__ import annotations

import logging
from threading import Thread
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from harness_stream.access import kafka_at
from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.ends import EndsQueries
from harness_stream.adapters.kafka.positions import Positions
from harness_stream.adapters.kafka.refused import Refusals
from harness_stream.adapters.kafka.standstill import Standstill, Wait
from harness_stream.alarms import Alarm, sound
from harness_stream.core.limits import DRAIN_MS_MAX, END_QUERY_MS, FRESH_MS_MAX, SESSION_MS
from harness_stream.ports import Assignment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness_stream.ports import Clock, Ends, LogRecord

log = logging.getLogger(__name__)

# Four times within GAP_MS_MAX, so that a lost answer does not look like a broker that was away.
LOOK_MS: Final = 500
# A group waits for its slowest member, which it gives up after this; before, its session with a former member must end.
JOIN_MS: Final = settings.POLL_INTERVAL_MS_MAX + SESSION_MS
# Every new member makes the others join again; one that is only slow must not do so for ever.
JOIN_MS_MAX: Final = 8 * JOIN_MS
# Leaving takes 20 ms; on a busy machine it may take as long as draining does, and who does not get to it is taken for
# crashed: its partitions stand still for SESSION_MS.
LEAVE_MS_MAX: Final = DRAIN_MS_MAX
# Two looks. Without an answer for so long nobody is there to say goodbye to: librdkafka would wait for its session, and
# with a broker that is silent for SOCKET_TIMEOUT_MS several times over.
HEARD_MS_MAX: Final = FRESH_MS_MAX
# Kafka numbers partitions from 0 up; no topic has this many.
_NOBODYS_PARTITION: Final = 2**31 - 1


class KafkaInputConsumer:
    """One worker's share of the input topic (implements `ports.InputConsumer`); joins at the first `poll`.

    Args:
        where: the way into Kafka.
        group: consumer group.
        topic: the input topic.
        clock: bounds how long a revocation is held, and a consumer may stand still.
    """

    def __init__(self, where: settings.Where, group: str, topic: str, clock: Clock | None = None) -> None:
        self._where, self._group, self._topic = where, group, topic
        self._clock = clock or SystemClock()
        self._refusals = Refusals(kafka_at(where))
        self._consumer = self._member()
        self._positions = Positions(self._consumer, self._refused, self._clock)
        self._standstill, self._looked_ms = Standstill(), self._clock.elapsed_ms()
        self._joining: Wait | None = self._join()  # until the group has answered
        self._queries = EndsQueries(where)
        self._owned: set[int] = set()  # without those being given up
        self._held: frozenset[int] = frozenset()  # revoked in one callback, given up in one call
        self._unfinished: set[int] = set()
        self._held_until_ms = 0
        self._outside: dict[int, int] = {}  # partition → when bounds were last asked for that say where its log begins
        self._news: list[Assignment] = []
        self._lost: list[tuple[int, int]] = []
        self._heard_ms = self._clock.elapsed_ms()  # when a broker last answered
        self._closed = False

    @property
    def errors(self) -> Mapping[str, int]:
        """Name of librdkafka's error → how often, since the start."""
        return self._positions.errors

    def poll(self, records_max: int, wait_ms: int) -> list[LogRecord]:
        """Records of started partitions. Waits up to `wait_ms` only while nothing is there."""
        if self._closed:
            return []
        if self._held and self._clock.elapsed_ms() >= self._held_until_ms:
            self._release()
        records = self._positions.take(records_max, wait_ms)
        if len(records) == records_max:
            self._standstill.busy()
        self._look()
        return records

    def assignments(self) -> list[Assignment]:
        """Group changes that `poll` has seen since the last call, in order."""
        news, self._news = self._news, []
        return news

    def finish_revoke(self, partitions: Sequence[int]) -> None:
        """These are drained; what was revoked together is given up once all of it is."""
        if not self._held:
            return
        self._unfinished -= set(partitions)
        if not self._unfinished:
            self._release()

    def start(self, partition: int, offset: int) -> None:
        """Deliver from `offset` on, not paused; without effect for a partition that is not owned (any more)."""
        if partition in self._owned:
            self._outside.pop(partition, None)
            self._positions.place(self._topic, partition, offset)

    def pause(self, partition: int) -> None:
        """Deliver nothing until `resume`; keep the place."""
        self._positions.pause(self._topic, partition)

    def resume(self, partition: int) -> None:
        """Go on where `pause` stopped."""
        self._positions.resume(self._topic, partition)

    def lost_ranges(self) -> list[tuple[int, int]]:
        """(partition, first kept offset) of positions that the log does not lead to; each stands until `start`."""
        lost, self._lost = self._lost, []
        return lost

    def damaged(self) -> Mapping[int, int]:
        """Partition → offset that it stands at because its batch cannot be read."""
        return {partition: offset for (_, partition), offset in self._positions.damaged().items()}

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Publish next_input as group offsets, asynchronously; only of owned partitions, failures are counted."""
        owned = self._owned | self._held
        places = [TopicPartition(self._topic, p, offset) for p, offset in offsets.items() if p in owned]
        if not places:
            return
        try:
            self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            self._positions.count(error.args[0])

    def close(self) -> None:
        """Leave the group, within LEAVE_MS_MAX; if no broker answers, our session has to end instead."""
        if self._closed:
            return
        self._closed = True
        # A long turn before this one may have left answers lying.
        self._heard_ms = max([self._heard_ms, *(ends.asked_at_ms for ends in self._queries.collect())])
        self._queries.close()
        self._release()
        # A client that is dropped unclosed is closed by its destructor, which waits as long.
        leaving = Thread(target=self._leave, name="leave", daemon=True)
        leaving.start()
        heard = self._clock.elapsed_ms() - self._heard_ms <= HEARD_MS_MAX
        leaving.join(LEAVE_MS_MAX / 1000 if heard else 0)
        if leaving.is_alive():
            log.info("no broker answers: the group is not left, others wait %d ms for our partitions", SESSION_MS)

    def _leave(self) -> None:
        if not self._owned:
            self._consumer.unsubscribe()  # librdkafka leaves a group silently, as a crash, if it holds nothing
        self._consumer.close()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.incremental_assign([])  # taken note of; each is fetched from when it is started
        self._joining = None
        if partitions:
            gained = tuple(sorted(p.partition for p in partitions))
            self._owned |= set(gained)
            self._news.append(Assignment(gained=gained))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._closed:
            self._positions.drop(self._positions.assigned())
            return
        if consumer is not self._consumer:
            return  # it was replaced, and is being closed
        self._held = frozenset(p.partition for p in partitions)
        self._unfinished = set(self._held)
        self._held_until_ms = self._clock.elapsed_ms() + DRAIN_MS_MAX
        self._owned -= self._held
        self._positions.silence((self._topic, p) for p in self._held)
        self._positions.freeze()
        self._news.append(Assignment(revoked=tuple(sorted(self._held))))
        try:
            consumer.incremental_unassign([TopicPartition(self._topic, _NOBODYS_PARTITION)])
        except KafkaException as error:
            self._positions.count(error.args[0])

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        self._joining = self._join()
        lost = {p.partition for p in partitions} | self._held
        self._held = frozenset()
        self._owned -= lost
        self._positions.drop((self._topic, p) for p in lost)
        self._positions.thaw()
        self._news.append(Assignment(lost=tuple(sorted(lost))))

    def _release(self) -> None:
        if not self._held:
            return
        held, self._held = self._held, frozenset()
        self._unfinished.clear()
        self._positions.drop((self._topic, p) for p in held)
        self._positions.thaw()

    def _look(self) -> None:
        """Find out, without waiting, where the logs begin and end, and what that says of positions that do not move."""
        for topic, partition in self._positions.outside():
            self._queries.forget(topic, partition)
            self._outside[partition] = -END_QUERY_MS
        now_ms = self._clock.elapsed_ms()
        answers = self._queries.collect()
        if answers:
            self._heard_ms = now_ms
        for ends in answers:
            self._judge(ends)
        if answers and self._stands(answers, now_ms):
            self._renew(now_ms)
        due = {p for p, asked_ms in self._outside.items() if now_ms - asked_ms >= END_QUERY_MS}
        self._outside |= dict.fromkeys(due, now_ms)
        if now_ms - self._looked_ms >= LOOK_MS:
            self._looked_ms = now_ms
            due |= {p for _, p in self._positions.reading()} or {0}  # any partition shows that a broker answers
        self._queries.ask([(self._topic, p) for p in due], now_ms)

    def _stands(self, answers: list[Ends], now_ms: int) -> bool:
        """While these answers come, has something else not come for too long?"""
        at = self._positions.reading()
        noticed = [self._standstill.noticed(e, at.get((e.topic, e.partition)), now_ms) for e in answers]
        return any(noticed) or (self._joining is not None and self._joining.is_over(now_ms))

    def _renew(self, now_ms: int) -> None:
        what = f"the group's consumer of `{self._topic}` stands still while a broker answers: a new one"
        sound(log, Alarm.CLIENT_STOOD_STILL, what)
        lost = self._owned | self._held
        former, self._consumer = self._consumer, self._member()
        self._positions.silence((self._topic, p) for p in lost)
        self._positions.move_to(self._consumer)
        self._positions.thaw()
        self._owned, self._held = set(), frozenset()
        self._unfinished.clear()
        self._outside.clear()
        self._standstill.renewed(now_ms)
        if self._joining is None:
            self._joining = self._join()
        else:
            self._joining.again(now_ms, JOIN_MS_MAX)
        if lost:
            self._news.append(Assignment(lost=tuple(sorted(lost))))
        former.close()

    def _member(self) -> Consumer:
        consumer = Consumer(settings.input_consumer(self._where, self._group) | {"error_cb": self._refusals.alarm})
        consumer.subscribe([self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        return consumer

    def _refused(self, error: KafkaError, topic: str) -> None:
        """Who may not be in the group is told so as an error that names no topic."""
        self._refusals.alarm(error, topic or self._group)

    def _join(self) -> Wait:
        now_ms = self._clock.elapsed_ms()
        return Wait(now_ms, now_ms, JOIN_MS)

    def _judge(self, ends: Ends) -> None:
        """A position that is within the bounds is lost as well: the log was cut before it, and has grown since."""
        placed = self._positions.expected(ends.topic, ends.partition) is not None
        if self._outside.pop(ends.partition, None) is not None and placed:
            self._lost.append((ends.partition, ends.low))
