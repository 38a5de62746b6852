"""The logs that the log ports' contract runs on: one in memory, one on Apache Kafka.

Both give one topic of four partitions that takes values up to `LIMIT` bytes, and waiting for something to happen.
"""

import time
import uuid
from contextlib import ExitStack, closing

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from damaged_disk import turn_bit
from real_servers import unavailable

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka.group import KafkaInputConsumer
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.memory.log import (
    MemoryBroker,
    MemoryGroup,
    MemoryInputConsumer,
    MemoryReader,
    MemoryWriter,
)
from harness_stream.core.limits import INTENT_BYTES_MAX

PARTITIONS = 4
LIMIT = 60_000  # bytes of a value that still fit; the Kafka topic has room for framing besides
PATIENCE_S = 30.0  # a rebalance takes 3 s; a busy test machine several times that


def eventually(happened):
    """What `happened` returns once it is true."""
    end = time.monotonic() + PATIENCE_S
    while not (result := happened()):
        assert time.monotonic() < end, f"it did not happen within {PATIENCE_S:g} s"
        time.sleep(0.002)
    return result


def read(source, count):
    """The next `count` records of a reader or a member, which must be all there are."""
    records = []

    def enough():
        records.extend(source.poll(100, 5) if hasattr(source, "start") else source.poll(100))
        return len(records) >= count

    eventually(enough)
    return records


def silent(source):
    """Nothing comes for a while."""
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        records = source.poll(100, 5) if hasattr(source, "start") else source.poll(100)
        if records:
            return False
    return True


class Lane:
    """One log under test."""

    def __init__(self):
        self.opened = ExitStack()
        self.topic = f"contract-{uuid.uuid4().hex}.log"

    def reader(self):
        return self.opened.enter_context(closing(self.new_reader()))

    def writer(self):
        return self.opened.enter_context(closing(self.new_writer()))

    def member(self, name):
        return self.opened.enter_context(closing(self.new_member(name)))

    def fates(self, writer, count):
        """The next `count` delivery reports."""
        known = []

        def enough():
            known.extend(writer.deliveries())
            return len(known) >= count

        eventually(enough)
        return known

    def fill(self, partition, values):
        """Append values and wait until they are in the log."""
        writer = self.writer()
        for token, value in enumerate(values):
            writer.append(self.topic, partition, None, value, token=token)
        assert all(fate.error is None for fate in self.fates(writer, len(values)))


class MemoryLane(Lane):
    def __init__(self):
        super().__init__()
        self.broker = MemoryBroker(
            {self.topic: PARTITIONS}, SystemClock().now_ms, limits={self.topic: LIMIT}, blocking=True
        )
        self.group = MemoryGroup(self.broker, self.topic)

    def new_reader(self):
        return MemoryReader(self.broker)

    def new_writer(self):
        return MemoryWriter(self.broker)

    def new_member(self, name):
        return MemoryInputConsumer(self.group, name)

    def truncate_before(self, partition, offset):
        self.broker.truncate_before(self.topic, partition, offset)

    def damage(self, partition, offset):
        self.broker.damage(self.topic, partition, offset)

    def mend(self, partition, _offset):
        self.broker.damage(self.topic, partition, None)


class KafkaLane(Lane):
    def __init__(self, bootstrap, data=None, **configs):
        super().__init__()
        self.data = data  # the broker's folder, if it is at hand
        self.bootstrap = bootstrap
        self.group = f"group-{self.topic}"
        self.admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        configs = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(INTENT_BYTES_MAX)} | configs
        [created] = self.admin.create_topics([NewTopic(self.topic, PARTITIONS, 1, config=configs)]).values()
        created.result(PATIENCE_S)
        self.admin.list_topics(self.topic, PATIENCE_S)  # records are deleted where leaders are known: leaders.py

    def new_reader(self):
        return KafkaReader(self.bootstrap)

    def new_writer(self):
        return KafkaWriter(self.bootstrap)

    def new_member(self, _name):
        return KafkaInputConsumer(self.bootstrap, self.group, self.topic)

    def truncate_before(self, partition, offset):
        [deleted] = self.admin.delete_records([TopicPartition(self.topic, partition, offset)]).values()
        deleted.result(PATIENCE_S)

    def damage(self, partition, offset):
        if self.data is None:
            unavailable("this one's disk is not at hand, so no batch of it can be damaged")
        turn_bit(self.data, self.topic, partition, offset)

    mend = damage
