"""Leaders that an admin client knows. Rule: what librdkafka sends to leaders is asked for where it knows them.

Where it does not, `list_offsets` and `delete_records` look for them in the caller's thread, while librdkafka's own, for
which any metadata that arrives is a sign to look again, frees what the caller still uses
(`rd_kafka_topic_partition_list_query_leaders_async`, 2.16.0): the process ends by SIGSEGV. Metadata of a topic put its
leaders into the client's cache. What is left is the moment between librdkafka's dropping them, because one has moved
or there is none, and our hearing of it.

Metadata are asked for in a thread, since there is only a call that waits for them; unlike a description of the topic,
which takes the broker that the last metadata named as the controller, they come from any broker that is up.
"""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from harness_stream.core.limits import FRESH_MS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from confluent_kafka.admin import AdminClient

# A third of what librdkafka keeps an answer for (`metadata.max.age.ms`, 900 s).
LEADERS_MS: Final = 300_000
# An end query that waits for it is worth nothing afterwards.
LEARN_S_MAX: Final = FRESH_MS_MAX / 1000


@dataclass(frozen=True, slots=True)
class Told:
    """An answer to the question after a topic's leaders, or that there is none.

    Attributes:
        topic: its name.
        asked_at_ms: when it was asked for.
        leaders: partition → number of the broker that leads it; who has no leader is left out.
        heard: whether a broker said anything.
    """

    topic: str
    asked_at_ms: int
    leaders: Mapping[int, int]
    heard: bool


@dataclass(frozen=True, slots=True)
class _Question:
    asked_at_ms: int
    answer: Future[Mapping[int, int]]
    thread: Thread


class Leaders:
    """Asks one client for the leaders of topics and collects what has arrived.

    Args:
        admin: whose cache is filled.
    """

    def __init__(self, admin: AdminClient) -> None:
        self.admin = admin
        self._known: dict[tuple[str, int], tuple[int, int]] = {}  # partition → when it was asked for, its leader
        self._open: dict[str, _Question] = {}

    def of(self, topic: str, partition: int, now_ms: int) -> int | None:
        """Number of the broker that leads a partition, None if that is not known or LEADERS_MS old.

        Args:
            topic: the partition's.
            partition: its number.
            now_ms: the present, on the clock that `want` was given.
        """
        asked_at_ms, leader = self._known.get((topic, partition), (now_ms - LEADERS_MS, -1))
        return leader if 0 <= now_ms - asked_at_ms < LEADERS_MS else None

    def want(self, topic: str, now_ms: int) -> None:
        """Ask for a topic's leaders, unless that is under way."""
        if topic in self._open:
            return
        answer: Future[Mapping[int, int]] = Future()
        # One that does not come back while the process ends holds nothing up.
        thread = Thread(target=_learn, args=(self.admin, topic, answer), name="leaders", daemon=True)
        # A process whose main thread has ended gets no thread any more (Python 3.12): nobody is told, as by silence.
        with suppress(RuntimeError):
            thread.start()
            self._open[topic] = _Question(now_ms, answer, thread)

    def forget(self, topic: str) -> None:
        """They are not known any more, whatever is under way: it may be older than that they were dropped."""
        self._open.pop(topic, None)
        for name in [name for name in self._known if name[0] == topic]:
            del self._known[name]

    def collect(self) -> list[Told]:
        """Take what has arrived: from then on partitions that have a leader are known.

        Raises:
            Exception: what went wrong while they were learned, other than that no broker answered.
        """
        done = [(topic, asked) for topic, asked in self._open.items() if asked.answer.done()]
        told = [_told(topic, asked.asked_at_ms, asked.answer) for topic, asked in done]
        for answer in told:
            del self._open[answer.topic]
            if answer.heard:
                self.forget(answer.topic)
            known = {(answer.topic, number): (answer.asked_at_ms, leader) for number, leader in answer.leaders.items()}
            self._known |= known
        return told

    def close(self) -> None:
        """Wait, at most LEARN_S_MAX each, for the threads that hold the client; that of a forgotten topic may stay."""
        for question in self._open.values():
            question.thread.join(LEARN_S_MAX)
        self._open.clear()


def _learn(admin: AdminClient, topic: str, answer: Future[Mapping[int, int]]) -> None:
    try:
        found = admin.list_topics(topic, LEARN_S_MAX)
        led = found.topics[topic].partitions.values()
        answer.set_result({partition.id: partition.leader for partition in led if partition.leader in found.brokers})
    except Exception as error:  # noqa: BLE001  `collect` tells or raises it, where somebody hears
        answer.set_exception(error)


def _told(topic: str, asked_at_ms: int, answer: Future[Mapping[int, int]]) -> Told:
    error = answer.exception()
    if error is None:
        return Told(topic, asked_at_ms, answer.result(), heard=True)
    if isinstance(error, KafkaException):
        return Told(topic, asked_at_ms, {}, heard=bool(error.args[0].code() >= 0))  # librdkafka's own are negative
    raise error
