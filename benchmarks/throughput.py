"""How much CPU one verdict costs, draining a log that was filled before the worker started.

Rule of this file: verdicts are counted in the log; time runs from the first one's append to the last's. The worker's
CPU is sampled from outside and read off at those two moments, so that its start does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported silently
from echo import SILENCE_S_MAX, consumer
from realm import PARTITIONS, cpu_s
from workload import Intents

from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.kafka.log import KafkaWriter
from harness_stream.adapters.signing import UNSIGNED_HEADERS
from harness_stream.core import limits
from harness_stream.core.lanes import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from realm import BenchRealm

DRAIN_S_MAX: Final = 180.0
FLUSH_MS_MAX: Final = 30_000
SAMPLE_S: Final = 0.1  # two requests to the broker each: below 1 % of what is measured
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
QUIET_S: Final = 1.5  # no verdict for that long after enough records: it is done


@dataclass(frozen=True, slots=True)
class Drained:
    """One drain.

    Attributes:
        records: verdicts, or echoed records.
        cpu_us: CPU microseconds of the process per record.
        per_s: records a second of wall time.
        decisions: how the verdicts were decided; empty for the echo.
        value_bytes: mean size of a verdict's value.
    """

    records: int
    cpu_us: float
    per_s: float
    decisions: dict[str, int]
    value_bytes: int


def fill(realm: BenchRealm, agents: int, count: int, deadline_ms: int = limits.DEADLINE_MS_MAX) -> None:
    """Append `count` intents by distinct agents, over all lanes."""
    writer, intents = KafkaWriter(realm.settings.kafka), Intents("default", agents, deadline_ms, "0" * 32)
    for number in range(count):
        _, _, lane, value = intents.make(number)
        at = partition_of(lane, PARTITIONS)
        _append(writer, realm.topics.intents, at, lane.encode(), value)
    unsent = writer.flush(FLUSH_MS_MAX)
    writer.close()
    if unsent:
        raise SystemExit(f"the broker did not take {unsent} of {count} intents")


def drain_by_worker(realm: BenchRealm, count: int) -> Drained:
    """Start a worker, let it judge everything, stop it."""
    with realm.starting_worker() as pid:
        samples = _watch(realm, pid, count)
    records = list(verdicts(realm))
    decisions: dict[str, int] = {}
    for _, body, _ in records:
        said = said_by(body)
        decisions[said] = decisions.get(said, 0) + 1
    first, last = min(at for at, _, _ in records), max(at for at, _, _ in records)
    cpu = _cpu_at(samples, last / 1000) - _cpu_at(samples, first / 1000)
    wall_s, number = max(last - first, 1) / 1000, len(records)
    return Drained(
        number, cpu / number * 1e6, number / wall_s, decisions, sum(size for _, _, size in records) // number
    )


def drain_by_echo(realm: BenchRealm, count: int, size: int) -> Drained:
    """The bare consume-produce loop over the same records."""
    words = [
        "drain",
        realm.settings.bootstrap,
        realm.topics.intents,
        realm.echo_out,
        str(PARTITIONS),
        str(size),
        str(count),
    ]
    command = [sys.executable, str(Path(__file__).with_name("echo.py")), *words]
    done = subprocess.run(command, capture_output=True, check=True, timeout=DRAIN_S_MAX)
    found = json.loads(done.stdout)
    number = max(found["records"], 1)
    return Drained(found["records"], found["cpu_s"] / number * 1e6, number / found["wall_s"], {}, size)


def said_by(body: dict[str, Any]) -> str:
    """The decision, and of a refusal its first reason."""
    if body["decision"] == "approve":
        return "approve"
    first = body["reasons"][0]
    return f"{body['decision']}: {' '.join(filter(None, (first.get('rule'), first['code'])))}"


def _append(writer: KafkaWriter, topic: str, partition: int, key: bytes, value: bytes) -> None:
    while True:
        try:
            writer.append(topic, partition, key, value, UNSIGNED_HEADERS)
        except BufferError:
            writer.deliveries()
            time.sleep(0.001)
        else:
            return


def _watch(realm: BenchRealm, pid: int, count: int) -> list[tuple[float, float]]:
    """(wall time, CPU seconds) of the worker until the decision log has stopped growing."""
    admin, samples = AdminClient(client_settings.admin(realm.settings.kafka)), list[tuple[float, float]]()
    end, grown, quiet_since = time.monotonic() + DRAIN_S_MAX, 0, time.monotonic()
    places = {TopicPartition(realm.topics.verdicts, p): _LATEST for p in range(PARTITIONS)}
    while time.monotonic() < end:
        samples.append((time.time(), cpu_s(pid)))
        found = sum(answer.result(SILENCE_S_MAX).offset for answer in admin.list_offsets(places).values())
        # Checkpoints go on while idle; anything more is verdicts.
        if found > grown + 2 * PARTITIONS:
            grown, quiet_since = found, time.monotonic()
        if grown >= count and time.monotonic() - quiet_since > QUIET_S:
            return samples
        time.sleep(SAMPLE_S)
    raise SystemExit(f"the worker has not drained {count} intents within {DRAIN_S_MAX:g} s")


def _cpu_at(samples: list[tuple[float, float]], at_s: float) -> float:
    """CPU seconds used by then, between two samples by their straight line."""
    before = max((s for s in samples if s[0] <= at_s), default=samples[0])
    after = min((s for s in samples if s[0] > at_s), default=samples[-1])
    span = after[0] - before[0]
    return before[1] + (after[1] - before[1]) * ((at_s - before[0]) / span if span > 0 else 0)


def verdicts(realm: BenchRealm) -> Iterator[tuple[int, dict[str, Any], int]]:
    """(append time in ms, body, bytes) of every verdict that is in the log now."""
    reader, topic = consumer(realm.settings.kafka), realm.topics.verdicts
    ends = {p: reader.get_watermark_offsets(TopicPartition(topic, p))[1] for p in range(PARTITIONS)}
    reader.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
    left, heard = sum(ends.values()), time.monotonic()
    while left > 0 and time.monotonic() - heard < SILENCE_S_MAX:
        for record in reader.consume(500, 0.1):
            left, heard = left - 1, time.monotonic()
            value = record.value() or b"{}"
            body = orjson.loads(value)
            if body.get("kind") == "verdict":
                yield record.timestamp()[1], body, len(value)
    reader.close()
