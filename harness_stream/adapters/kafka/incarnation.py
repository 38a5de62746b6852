"""Asks, without ever waiting, which incarnation the two log topics are of now (implements `ports.Incarnations`).

Rule: what does not exist is no answer, since a broker that comes back may not know its topics yet; a question is asked
again until a broker has said both ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from harness_stream.adapters.kafka import settings
from harness_stream.core.limits import FRESH_MS_MAX
from harness_stream.ports import Known

if TYPE_CHECKING:
    from collections.abc import Mapping
    from concurrent.futures import Future

    from confluent_kafka import KafkaError
    from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]  # re-exported without saying so

    from harness_stream.ports import Clock

# As long as a worker waits for the end of a log; then the question is asked anew.
QUERY_S_MAX: Final = FRESH_MS_MAX / 1000
# An error may come back at once; ten times a second does not disturb a broker that is starting.
RETRY_MS: Final = 100
# A client that lost its brokers for ever (standstill.py) is told by silence alone: after so many questions in a row
# that no broker answered, a new one.
SILENCES_MAX: Final = 3


class KafkaIncarnations:
    """One question at a time.

    Args:
        where: the way into Kafka.
        topics: the two log topics, in the order in which the incarnation names them.
        clock: spaces repeated questions.
    """

    def __init__(self, where: settings.Where, topics: tuple[str, str], clock: Clock) -> None:
        self._where, self._topics, self._clock = where, topics, clock
        self._admin: AdminClient | None = AdminClient(settings.admin(where))
        self._wanted_ms = -1
        self._open: Mapping[str, Future[TopicDescription]] | None = None
        self._open_for_ms = self._retry_ms = -1
        self._silences = 0
        self._known: Known | None = None

    def ask(self, now_ms: int) -> None:
        """Want an answer to a question that is asked from now on."""
        self._wanted_ms = max(now_ms, self._wanted_ms)
        self._send_if_due()

    def known(self) -> Known | None:
        """The newest answer; None before the first."""
        if self._open is not None and all(future.done() for future in self._open.values()):
            self._collect(self._open)
        self._send_if_due()
        return self._known

    def close(self) -> None:
        """Drop the client, and with it an open question: an answer in a process's last moments crashes it."""
        self._admin, self._open = None, None

    def _send_if_due(self) -> None:
        if self._admin is None:
            return
        known_ms = -1 if self._known is None else self._known.asked_at_ms
        if self._open is None and known_ms < self._wanted_ms and self._clock.elapsed_ms() >= self._retry_ms:
            self._open_for_ms = self._wanted_ms
            names = TopicCollection(list(self._topics))
            self._open = self._admin.describe_topics(names, request_timeout=QUERY_S_MAX)

    def _collect(self, answered: Mapping[str, Future[TopicDescription]]) -> None:
        self._open = None
        try:
            ids = [str(answered[topic].result().topic_id) for topic in self._topics]
        except KafkaException as error:
            self._failed(error.args[0])
        else:
            self._known, self._silences = Known(".".join(ids), self._open_for_ms), 0

    def _failed(self, error: KafkaError) -> None:
        """What is negative is librdkafka's own; the rest a broker has said, for example that there is no topic."""
        self._retry_ms = self._clock.elapsed_ms() + RETRY_MS
        self._silences = self._silences + 1 if error.code() < 0 else 0
        if self._silences >= SILENCES_MAX:
            self._admin, self._silences = AdminClient(settings.admin(self._where)), 0
