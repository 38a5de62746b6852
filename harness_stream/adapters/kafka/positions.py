"""A librdkafka consumer whose partitions stand at exact offsets.

Rule: moving a partition is always taking it out of the assignment and putting it back at the new offset. Both calls
raise librdkafka's version of the partition, so what was fetched before never comes through; `seek` does not work after
an out-of-range position. What still arrives below the expected offset is dropped. A batch that cannot be read is asked
for again, and told of if it stays so (damage.py).
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from harness_stream.adapters.kafka.damage import UNREADABLE, Damage, PlaceName
from harness_stream.adapters.kafka.record import to_record
from harness_stream.alarms import Alarm, sound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from harness_stream.ports import Clock, LogRecord

log = logging.getLogger(__name__)

# What librdkafka says when the wanted offset is not in the log; also when it is again, but the broker's leader epochs
# show that the log was cut before it since the record that was delivered last. With `auto.offset.reset=error` it is the
# first of these codes in every case, the others stand in its text.
_OUTSIDE: Final = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE})  # noqa: SLF001  public names of librdkafka's local errors


@dataclass(slots=True)
class _Place:
    offset: int  # the next one to deliver
    paused: bool = False
    dropped: bool = False  # a record came while it was paused
    waiting: bool = False  # not yet put into librdkafka's assignment
    end: int = 0  # where the log ended when it was last read to its end


class Positions:
    """Places partitions of one consumer and lets only expected records through.

    Args:
        consumer: used by nobody else for assignment and reading.
        alarm: told of each error, with the topic that it is about.
        clock: tells when to ask again for what could not be read.

    Attributes:
        errors: librdkafka's error name → how often; transient ones are only counted.
    """

    def __init__(self, consumer: Consumer, alarm: Callable[[KafkaError, str], None], clock: Clock) -> None:
        self._alarm, self._clock, self._damage = alarm, clock, Damage()
        self.errors: Counter[str] = Counter()
        self._consumer = consumer
        self._places: dict[PlaceName, _Place] = {}
        self._assigned: set[PlaceName] = set()
        self._outside: dict[PlaceName, None] = {}  # in order
        self._frozen = False

    def place(self, topic: str, partition: int, offset: int) -> None:
        """Deliver from `offset` on; while frozen, as soon as thawed."""
        self._unpause((topic, partition))
        self._damage.forget((topic, partition))
        self._places[topic, partition] = _Place(offset, waiting=True)
        self._settle((topic, partition))

    def drop(self, names: Iterable[PlaceName]) -> None:
        """Deliver nothing of these any more; librdkafka forgets them in one call (also an empty one, see group.py)."""
        names = set(names)
        self.silence(names)
        gone = [TopicPartition(*name) for name in names & self._assigned]
        self._assigned -= names
        self._consumer.incremental_unassign(gone)

    def silence(self, names: Iterable[PlaceName]) -> None:
        """Deliver nothing of these any more, without touching librdkafka's assignment."""
        for name in names:
            self._unpause(name)
            self._damage.forget(name)
            self._places.pop(name, None)

    def expected(self, topic: str, partition: int) -> int | None:
        """The next offset to deliver; None if the partition is not placed."""
        place = self._places.get((topic, partition))
        return None if place is None else place.offset

    def position(self, topic: str, partition: int) -> int | None:
        """As `expected`, but past offsets without a record at the end of the log."""
        place = self._places.get((topic, partition))
        return None if place is None else max(place.offset, place.end)

    def reading(self) -> dict[PlaceName, int]:
        """The next offset of every partition whose records may come at any time."""
        places, damaged = self._places.items(), self.damaged()
        return {n: at.offset for n, at in places if not at.paused and not at.waiting and n not in damaged}

    def damaged(self) -> Mapping[PlaceName, int]:
        """The first offset that cannot be read, of each partition that stands before one for good."""
        return self._damage.certain()

    def assigned(self) -> frozenset[PlaceName]:
        """What librdkafka fetches."""
        return frozenset(self._assigned)

    def move_to(self, consumer: Consumer) -> None:
        """Go on with another consumer, each partition at the next offset not delivered."""
        self._consumer = consumer
        self._assigned.clear()
        for name, place in self._places.items():
            place.waiting, place.dropped = True, False
            self._settle(name)

    def freeze(self) -> None:
        """Put off every change of librdkafka's assignment until `thaw`."""
        self._frozen = True

    def thaw(self) -> None:
        """Make the changes that were put off."""
        self._frozen = False
        for name, place in list(self._places.items()):
            if place.waiting:
                self._settle(name)

    def pause(self, topic: str, partition: int) -> None:
        """Deliver nothing until `resume`."""
        place = self._places.get((topic, partition))
        if place is not None and not place.paused:
            place.paused = True
            if not place.waiting:
                self._consumer.pause([TopicPartition(topic, partition)])

    def resume(self, topic: str, partition: int) -> None:
        """Go on at the next offset not delivered."""
        place = self._places.get((topic, partition))
        if place is None or not place.paused:
            return
        if place.dropped:
            self.place(topic, partition, place.offset)
            return
        self._unpause((topic, partition))
        place.paused = False

    def take(self, records_max: int, wait_ms: int = 0) -> list[LogRecord]:
        """At most `records_max` records; waits up to `wait_ms` only while nothing is there. Serves callbacks."""
        if self._damage.suspects and not self._frozen:
            self._ask_again()
        return [r for message in self._messages(records_max, wait_ms) if (r := self._accept(message)) is not None]

    def outside(self) -> list[PlaceName]:
        """Placed partitions whose offset turned out not to be in the log, since the last call; they stand still."""
        found, self._outside = self._outside, {}
        return [name for name in found if name in self._places]

    def _unpause(self, name: PlaceName) -> None:
        """Clear librdkafka's flag, which would outlive a quick unassignment."""
        place = self._places.get(name)
        if place is not None and place.paused and not place.waiting:
            self._consumer.resume([TopicPartition(*name)])

    def _settle(self, name: PlaceName) -> None:
        if self._frozen:
            return
        place = self._places[name]
        if name in self._assigned:
            self._consumer.incremental_unassign([TopicPartition(*name)])
        self._consumer.incremental_assign([TopicPartition(*name, place.offset)])
        self._assigned.add(name)
        place.waiting = False
        if place.paused:
            self._consumer.pause([TopicPartition(*name)])

    def _messages(self, records_max: int, wait_ms: int) -> list[Message]:
        try:
            if wait_ms <= 0:
                return self._consumer.consume(records_max, 0)
            first = self._consumer.poll(wait_ms / 1000)
            if first is None or records_max == 1:
                return [] if first is None else [first]
            return [first, *self._consumer.consume(records_max - 1, 0)]
        except KafkaException as error:
            self.count(error.args[0])
            return []

    def _accept(self, message: Message) -> LogRecord | None:
        error = message.error()
        if error is not None:
            self._note(error, message)
            return None
        record = to_record(message)
        place = self._places.get((record.topic, record.partition))
        if place is None or place.waiting or record.offset < place.offset:
            return None
        if place.paused:
            place.dropped = True
            return None
        place.offset = record.offset + 1
        if self._damage.suspects:
            self._damage.forget((record.topic, record.partition))
        return record

    def _note(self, error: KafkaError, message: Message) -> None:
        name = (message.topic() or "", message.partition() or 0)
        place = self._places.get(name)
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  public name of librdkafka's local error
            if place is not None and not place.waiting and not place.paused:
                place.end = message.offset() or 0
            return
        self.count(error)
        self._alarm(error, message.topic() or "")
        if place is None or place.waiting:
            return
        if error.code() in UNREADABLE:
            self._suspect(name, max(place.offset, message.offset() or 0), error)
        elif error.code() in _OUTSIDE and name not in self._damage.suspects:
            self._outside[name] = None

    def _suspect(self, name: PlaceName, offset: int, error: KafkaError) -> None:
        if self._damage.seen(name, offset, self._clock.elapsed_ms()):
            topic, partition = name
            what = f"the batch at {offset} of `{topic}`/{partition} cannot be read: {error.str()}"
            sound(log, Alarm.LOG_DAMAGED, what)

    def _ask_again(self) -> None:
        for name in self._damage.due(self._clock.elapsed_ms()):
            if not self._places[name].waiting:
                self._settle(name)

    def count(self, error: KafkaError) -> None:
        """Count an error that is not worth an exception."""
        self.errors[error.name()] += 1
