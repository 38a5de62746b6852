"""The floor: what a Python process costs that does nothing but consume a record and produce one of the verdict's size.

    python echo.py answer BOOTSTRAP FROM TO PARTITIONS SIZE      until SIGTERM; the bare two-hop echo
    python echo.py drain  BOOTSTRAP FROM TO PARTITIONS SIZE N    N records from the beginning; prints CPU and wall time

Rule of this file: nothing of the harness is used but its client settings, so that both pay for the same durability.
"""

from __future__ import annotations

import json
import signal
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

from harness_stream.adapters.kafka import settings
from harness_stream.config import load_settings

POLL_S = 0.02  # as the worker's longest wait
BATCH = 500  # as the worker's
SILENCE_S_MAX = 30.0
FLUSH_S_MAX = 30.0


def consumer(where: settings.Where) -> Consumer:
    """A consumer with the worker's fetch settings, that is told its positions."""
    return Consumer(settings.reader(where) | {"enable.partition.eof": False})


def answer(bootstrap: str, source: str, target: str, partitions: int, size: int) -> None:
    """Echo what comes, from now on; says `ready` first."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    where = load_settings(bootstrap=bootstrap).kafka
    reader, writer, filler = consumer(where), Producer(settings.producer(where)), bytes(size)
    places = [TopicPartition(source, p) for p in range(partitions)]
    reader.assign([TopicPartition(p.topic, p.partition, reader.get_watermark_offsets(p)[1]) for p in places])
    print("ready", flush=True)
    while not stopped:
        first = reader.poll(POLL_S)
        for record in [first, *reader.consume(BATCH, 0)] if first is not None else ():
            value = (record.value() or b"")[:8] + filler[8:]
            writer.produce(target, value, key=record.key(), partition=record.partition() or 0)
        writer.poll(0)
    writer.flush(FLUSH_S_MAX)
    reader.close()


def drain(bootstrap: str, source: str, target: str, partitions: int, size: int, count: int) -> None:
    """Consume-produce over what is there."""
    where = load_settings(bootstrap=bootstrap).kafka
    reader, writer, filler = consumer(where), Producer(settings.producer(where)), bytes(size)
    reader.assign([TopicPartition(source, p, 0) for p in range(partitions)])
    done, heard = 0, time.monotonic()
    first = None
    while first is None and time.monotonic() - heard < SILENCE_S_MAX:
        first = reader.poll(POLL_S)
    cpu, wall = time.process_time(), time.monotonic()
    while done < count and time.monotonic() - heard < SILENCE_S_MAX:
        batch = [*([first] if first is not None else []), *reader.consume(BATCH, 0)]
        for record in batch:
            produce(writer, target, filler, record.key(), record.partition() or 0)
        done, heard = done + len(batch), time.monotonic() if batch else heard
        writer.poll(0)
        first = reader.poll(POLL_S) if done < count else None
    writer.flush(FLUSH_S_MAX)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    reader.close()
    print(json.dumps({"records": done, "cpu_s": cpu, "wall_s": wall}))


def produce(writer: Producer, topic: str, value: bytes, key: bytes | None, partition: int) -> None:
    """Wait for room in the local queue if need be."""
    while True:
        try:
            writer.produce(topic, value, key=key, partition=partition)
        except BufferError:
            writer.poll(POLL_S)
        else:
            return


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who started it, and ends it
    mode, bootstrap, source, target, *numbers = sys.argv[1:]
    if mode == "answer":
        answer(bootstrap, source, target, *map(int, numbers))
    else:
        drain(bootstrap, source, target, *map(int, numbers))
