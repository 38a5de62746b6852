"""Where a worker's time goes: its loop under cProfile, in one process, on the memory log and a virtual clock.

    python benchmarks/profile_worker.py --intents 5000 --top 25

Drains as many intents twice: first bare, for the CPU each costs; then under the profiler, which makes calls dearer,
small ones most, so read its list as shares. Kafka and Redis cost nothing here.
"""

from __future__ import annotations

import argparse
import cProfile
import hashlib
import pstats
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import orjson
from realm import PARTITIONS
from workload import Intents, lane_of, rules_yaml, tables

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.incarnation import MemoryIncarnations
from harness_stream.adapters.memory.log import (
    MemoryBroker,
    MemoryGroup,
    MemoryInputConsumer,
    MemoryReader,
    MemoryWriter,
)
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedSigner, UnsignedVerifier
from harness_stream.core import limits
from harness_stream.core.lanes import partition_of
from harness_stream.core.rules.compile import load
from harness_stream.runtime.realm import Ports, Realm
from harness_stream.runtime.telemetry import PrometheusMetrics
from harness_stream.runtime.worker import Worker
from harness_stream.wire.topics import Topics, topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

TOPICS: Final = Topics("profile")
STEPS_MAX: Final = 1_000_000
SNAPSHOT_MS: Final = 60_000


def main(words: Sequence[str] | None = None) -> None:
    """Fill, start, drain under the profiler, print."""
    asked = _arguments().parse_args(words)
    clock = ManualClock(time.time_ns() // 1_000_000)
    specs = topic_specs("profile", PARTITIONS, SNAPSHOT_MS, 1)
    broker = MemoryBroker({spec.name: spec.partitions for spec in specs}, clock.now_ms)
    _rows_and_rules(broker, asked.agents)
    worker = _worker(broker, clock)
    _turn_until(worker, clock, lambda: worker.readiness().ready)
    _fill(broker, asked.agents, asked.intents)
    cpu = time.process_time()
    _turn_until(worker, clock, lambda: _covered(worker) >= asked.intents)
    cpu = time.process_time() - cpu
    _fill(broker, asked.agents, asked.intents)
    profiler = cProfile.Profile(time.process_time)  # CPU time: what else the machine does is not in it
    profiler.enable()
    _turn_until(worker, clock, lambda: _covered(worker) >= 2 * asked.intents)
    profiler.disable()
    print(f"2 x {asked.intents:,} intents: {dict(_decisions(broker))}")
    print(f"without the profiler: {cpu / asked.intents * 1e6:.0f} µs of CPU each")
    pstats.Stats(profiler).sort_stats(asked.sort).print_stats(asked.top)


def _rows_and_rules(broker: MemoryBroker, agents: int) -> None:
    for name, rows in tables(agents).items():
        for row in rows:
            key = row.get("agent_id") or row.get("workload_id") or row["subject"]
            broker.append(TOPICS.table(name), 0, key.encode(), orjson.dumps(row))
    bundle = load(rules_yaml()).bundle
    digest = hashlib.sha256(bundle).hexdigest()
    broker.append(TOPICS.rules, 0, f"bundle/{digest}".encode(), bundle)
    broker.append(TOPICS.rules, 0, b"active/production", orjson.dumps({"digest": digest, "revision": 1}))


def _worker(broker: MemoryBroker, clock: ManualClock) -> Worker:
    ports = Ports(
        consumer=MemoryInputConsumer(MemoryGroup(broker, TOPICS.intents), "worker"),
        writer=MemoryWriter(broker),
        reader=MemoryReader(broker),
        incarnations=MemoryIncarnations("i1"),
        store=MemoryStateStore(),
        clock=clock,
        signer=UnsignedSigner(),
        verifier=UnsignedVerifier(),
        metrics=PrometheusMetrics(),
        jitter=lambda: 0.0,
    )
    realm = Realm(
        "profile",
        "i1",
        PARTITIONS,
        TOPICS,
        "production",
        dev=True,
        snapshot_interval_ms=SNAPSHOT_MS,
        hot_units_max=100_000,
    )
    return Worker(realm, ports, "a" * 32)


def _fill(broker: MemoryBroker, agents: int, count: int) -> None:
    intents = Intents("profile", agents, limits.DEADLINE_MS_MAX, "0" * 32)
    for number in range(count):
        lane, (_, _, _, value) = lane_of(number, agents), intents.make(number)
        broker.append(TOPICS.intents, partition_of(lane, PARTITIONS), lane.encode(), value, UNSIGNED_HEADERS)


def _turn_until(worker: Worker, clock: ManualClock, done: Callable[[], bool]) -> None:
    for _ in range(STEPS_MAX):
        if done():
            return
        worker.step(0)
        clock.advance(1)
    raise SystemExit("the worker came to no end")


def _covered(worker: Worker) -> int:
    return sum(owner.place.header.next_input for owner in worker.owners.values())


def _decisions(broker: MemoryBroker) -> Counter[str]:
    bodies = [
        orjson.loads(record.value or b"{}")
        for p in range(PARTITIONS)
        for record in broker.read(TOPICS.verdicts, p, 0, STEPS_MAX)
    ]
    return Counter(body["decision"] for body in bodies if body["kind"] == "verdict")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--intents", type=int, default=5_000)
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--top", type=int, default=25)
    parser.add_argument("--sort", default="tottime")
    return parser


if __name__ == "__main__":
    main()
