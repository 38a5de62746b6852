"""Where the topology begins to read: as far back as denials still weigh, at a place that can be folded from.

Rule of this file: it keeps nothing of its own, so there is no state to lose or to disagree with the log. A partition's
log is folded from genesis if it is younger than the history wanted, else from the first checkpoint *in the log* after
that time (one is written every second while busy, and what it states was confirmed, so it holds whoever wrote it), else
from the newest checkpoint of the heads topic: then nothing newer has weight.
"""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.kafka.record import to_record
from harness_stream.client.head import place_of
from harness_stream.core.fold import Place
from harness_stream.errors import BrokerUnavailable, ProtocolError
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from harness_stream.config import Settings
    from harness_stream.ports import LogRecord, Verifier

# A serving broker answers in milliseconds; one that just restarted within 5 s.
ANSWER_S_MAX: Final = 10.0
# A first checkpoint is at most a second or 5,000 records away: longer means that nobody answers.
SCAN_S_MAX: Final = 20.0
_POLL_S: Final = 0.2


def find_places(settings: Settings, partitions: Iterable[int], since_ms: int, verifier: Verifier) -> dict[int, Place]:
    """The place to fold each partition from, so that what was appended after `since_ms` (and a second) is folded.

    Args:
        settings: the realm.
        partitions: of the decision log.
        since_ms: epoch ms.
        verifier: says which checkpoints are authentic.

    Raises:
        BrokerUnavailable: nobody answered in time.
        ProtocolError: a partition's start is gone and no checkpoint stands for it.
    """
    try:
        with closing(Consumer(client_settings.reader(settings.kafka))) as consumer:
            search = _Search(consumer, Topics(settings.prefix), incarnation(settings), verifier)
            return {partition: search.place(partition, since_ms) for partition in partitions}
    except KafkaException as error:
        raise BrokerUnavailable(f"Kafka at {settings.bootstrap}: {error}", hint="is it up? `harness status`") from error


class _Search:
    def __init__(self, consumer: Consumer, topics: Topics, incarnation_id: str, verifier: Verifier) -> None:
        self._consumer, self._topics = consumer, topics
        self._incarnation, self._verifier = incarnation_id, verifier

    def place(self, partition: int, since_ms: int) -> Place:
        verdicts = self._topics.verdicts
        low, _ = self._bounds(verdicts, partition)
        wanted = TopicPartition(verdicts, partition, since_ms)
        first = self._consumer.offsets_for_times([wanted], timeout=ANSWER_S_MAX)[0].offset  # negative: nothing so new
        if first == 0:
            return Place.genesis(self._incarnation, partition)
        found = self._checkpoint(verdicts, partition, first, low) if first > 0 else None
        return found or self._newest(partition, low)

    def _newest(self, partition: int, low: int) -> Place:
        _, end = self._bounds(self._topics.heads, partition)
        found = self._checkpoint(self._topics.heads, partition, end - 1, low) if end else None
        if found is None and low > 0:
            raise ProtocolError(
                f"partition {partition}: the log begins at {low}, and no checkpoint stands for what came before",
                hint="start a worker: it writes one",
            )
        return found or Place.genesis(self._incarnation, partition)

    def _checkpoint(self, topic: str, partition: int, offset: int, low: int) -> Place | None:
        """The first checkpoint from `offset` on whose next record is still kept."""
        for record in self._records(topic, partition, offset):
            place = place_of(record, self._incarnation, partition, self._verifier)
            if place is not None and place.offset + 1 >= low:
                return place
        return None

    def _records(self, topic: str, partition: int, offset: int) -> Iterator[LogRecord]:
        """From `offset` to where the log ended meanwhile."""
        _, end = self._bounds(topic, partition)
        self._consumer.assign([TopicPartition(topic, partition, offset)])
        give_up_s = time.monotonic() + SCAN_S_MAX
        while time.monotonic() < give_up_s:
            message = self._consumer.poll(_POLL_S)
            if message is None:
                continue
            if (message.offset() or 0) >= end:  # also the end-of-partition event, which carries the end
                return
            if message.error() is None:
                yield to_record(message)
        raise BrokerUnavailable(f"`{topic}` partition {partition} could not be read", hint="is the broker up?")

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        bounds = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_S_MAX)
        if bounds is None:
            raise BrokerUnavailable(f"no answer about `{topic}`", hint="is the broker up? `harness status`")
        return bounds
