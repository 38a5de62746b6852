"""Leaders that an admin client knows. Rule: what librdkafka sends to leaders is asked once it knows all of them.

Where it does not, `list_offsets` and `delete_records` look them up in the caller's thread while librdkafka's own, to
which any metadata that arrives is a sign to look again, frees what the caller still uses
(`rd_kafka_topic_partition_list_query_leaders_async`, 2.16.0): the process ends by SIGSEGV. A description of the topic
puts its leaders into the client's cache, and the answer says that they are there. Left is the moment between a failed
request, with which librdkafka drops them, and our hearing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException, TopicCollection

from harness_stream.core.limits import FRESH_MS_MAX

if TYPE_CHECKING:
    from concurrent.futures import Future

    from confluent_kafka.admin import AdminClient, TopicDescription  # type: ignore[attr-defined]  # re-exported without saying so

# A third of what librdkafka keeps an answer for (`metadata.max.age.ms`, 900 s).
LEADERS_MS: Final = 300_000
# An end query that waits for it is worth nothing afterwards.
DESCRIBE_S_MAX: Final = FRESH_MS_MAX / 1000


@dataclass(frozen=True, slots=True)
class Told:
    """An answer to the question after a topic's leaders, or that there is none.

    Attributes:
        topic: its name.
        asked_at_ms: when it was asked for.
        led: its partitions that have a leader.
        heard: whether a broker said anything.
    """

    topic: str
    asked_at_ms: int
    led: frozenset[int]
    heard: bool


class Leaders:
    """Asks one client for the leaders of partitions and collects what has arrived.

    Args:
        admin: whose cache is filled.
    """

    def __init__(self, admin: AdminClient) -> None:
        self.admin = admin
        self._known: dict[tuple[str, int], int] = {}  # partition → when its leader was asked for
        self._open: dict[str, tuple[int, Future[TopicDescription]]] = {}

    def known(self, topic: str, partition: int, now_ms: int) -> bool:
        """May what is sent to its leader be asked for? If not, the question after that is under way."""
        if 0 <= now_ms - self._known.get((topic, partition), now_ms - LEADERS_MS) < LEADERS_MS:
            return True
        if topic not in self._open:
            asked = self.admin.describe_topics(TopicCollection([topic]), request_timeout=DESCRIBE_S_MAX)
            self._open[topic] = (now_ms, asked[topic])
        return False

    def forget(self, topic: str) -> None:
        """What was asked of a leader failed: librdkafka drops what it knows of a topic whose leader has moved."""
        self._known = {name: asked_at_ms for name, asked_at_ms in self._known.items() if name[0] != topic}

    def collect(self) -> list[Told]:
        """Take what has arrived: from then on partitions that have a leader are known."""
        done = [(topic, *asked) for topic, asked in self._open.items() if asked[1].done()]
        told = [Told(topic, asked_at_ms, _led(answer), _heard(answer)) for topic, asked_at_ms, answer in done]
        for answer in told:
            del self._open[answer.topic]
            self._known |= {(answer.topic, number): answer.asked_at_ms for number in answer.led}
        return told


def _led(description: Future[TopicDescription]) -> frozenset[int]:
    if description.exception() is not None:
        return frozenset()
    return frozenset(partition.id for partition in description.result().partitions if partition.leader is not None)


def _heard(description: Future[TopicDescription]) -> bool:
    """Errors of librdkafka's own are negative."""
    error = description.exception()
    return not isinstance(error, KafkaException) or bool(error.args[0].code() >= 0)
