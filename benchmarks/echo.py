"""The floor: what a Python process costs that does nothing but consume a record and produce one of a verdict's shape.

    python echo.py answer BOOTSTRAP FROM TO PARTITIONS SHAPE      until SIGTERM; the bare two-hop echo
    python echo.py drain  BOOTSTRAP FROM TO PARTITIONS SHAPE N    N records from the beginning; prints CPU and wall time

A part of `python benchmarks`. Rule of this file: nothing of the harness is used but its client settings, so that both
pay for the same durability; a record carries as many bytes as the harness's, in its value and in headers of the same
names.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from confluent_kafka import Consumer, Producer, TopicPartition

from harness_stream.adapters.kafka import settings
from harness_stream.config import load_settings

if TYPE_CHECKING:
    from confluent_kafka import Message

POLL_S = 0.02  # as the worker's longest wait
BATCH = 500  # as the worker's
SILENCE_S_MAX = 30.0
FLUSH_S_MAX = 30.0


class Shape(NamedTuple):
    """A record as a broker sees it.

    Attributes:
        value: bytes.
        headers: name and bytes of each.
    """

    value: int
    headers: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, record: Message) -> Self:
        """That of a record."""
        headers = tuple((header[0], len(header[1] or b"")) for header in record.headers() or [])
        return cls(len(record.value() or b""), headers)

    @classmethod
    def read(cls, word: str) -> Self:
        """From a command line."""
        value, headers = json.loads(word)
        return cls(value, tuple((name, size) for name, size in headers))

    @property
    def word(self) -> str:
        """For a command line."""
        return json.dumps(self)

    def filling(self) -> list[tuple[str, bytes]]:
        """Headers of that shape, with nothing to say."""
        return [(name, bytes(size)) for name, size in self.headers]


def consumer(where: settings.Where) -> Consumer:
    """A consumer with the worker's fetch settings, that is told its positions."""
    return Consumer(settings.reader(where) | {"enable.partition.eof": False})


def answer(bootstrap: str, source: str, target: str, partitions: int, shape: Shape) -> None:
    """Echo what comes, from now on; says `ready` first."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    where = load_settings(bootstrap=bootstrap).kafka
    reader, writer, filler = consumer(where), Producer(settings.producer(where)), bytes(shape.value)
    headers = shape.filling()
    places = [TopicPartition(source, p) for p in range(partitions)]
    reader.assign([TopicPartition(p.topic, p.partition, reader.get_watermark_offsets(p)[1]) for p in places])
    print("ready", flush=True)
    while not stopped:
        first = reader.poll(POLL_S)
        for record in [first, *reader.consume(BATCH, 0)] if first is not None else ():
            value = (record.value() or b"")[:8] + filler[8:]
            writer.produce(target, value, key=record.key(), partition=record.partition() or 0, headers=list(headers))
        writer.poll(0)
    writer.flush(FLUSH_S_MAX)
    reader.close()


def drain(bootstrap: str, source: str, target: str, partitions: int, shape: Shape, count: int) -> None:
    """Consume-produce over what is there."""
    where = load_settings(bootstrap=bootstrap).kafka
    reader, writer = consumer(where), Producer(settings.producer(where))
    filler, headers = bytes(shape.value), shape.filling()
    reader.assign([TopicPartition(source, p, 0) for p in range(partitions)])
    done, heard = 0, time.monotonic()
    first = None
    while first is None and time.monotonic() - heard < SILENCE_S_MAX:
        first = reader.poll(POLL_S)
    cpu, wall = time.process_time(), time.monotonic()
    while done < count and time.monotonic() - heard < SILENCE_S_MAX:
        batch = [*([first] if first is not None else []), *reader.consume(BATCH, 0)]
        for record in batch:
            produce(writer, target, filler, record.key(), record.partition() or 0, headers)
        done, heard = done + len(batch), time.monotonic() if batch else heard
        writer.poll(0)
        first = reader.poll(POLL_S) if done < count else None
    writer.flush(FLUSH_S_MAX)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    reader.close()
    print(json.dumps({"records": done, "cpu_s": cpu, "wall_s": wall}))


def produce(
    writer: Producer, topic: str, value: bytes, key: bytes | None, partition: int, headers: list[tuple[str, bytes]]
) -> None:
    """Wait for room in the local queue if need be."""
    while True:
        try:
            writer.produce(topic, value, key=key, partition=partition, headers=list(headers))
        except BufferError:
            writer.poll(POLL_S)
        else:
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who started it, and ends it
    if len(sys.argv) not in {7, 8}:
        raise SystemExit(__doc__)
    mode, bootstrap, source, target, partitions, shape, *count = sys.argv[1:]
    place = bootstrap, source, target, int(partitions), Shape.read(shape)
    if mode == "answer":
        answer(*place)
    else:
        drain(*place, int(count[0]))
