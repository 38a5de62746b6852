"""A realm in one process: the worker's loop on the memory log and a virtual clock, without Kafka and Redis."""

from __future__ import annotations

import hashlib
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
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedSigner, UnsignedVerifier
from harness_stream.core import limits
from harness_stream.core.lanes import partition_of
from harness_stream.core.rate import Rate
from harness_stream.core.rules.compile import load
from harness_stream.runtime.realm import Ports, Realm
from harness_stream.runtime.telemetry import PrometheusMetrics
from harness_stream.runtime.worker import Worker
from harness_stream.wire.topics import Topics, topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.ports import Clock, StateStore

TOPICS: Final = Topics("profile")
STEPS_MAX: Final = 1_000_000
SNAPSHOT_MS: Final = 60_000
# What is measured is judging, not refusing.
NO_BOUND: Final = Rate(1_000_000, 1_000_000)


def broker_with(clock: ManualClock, agents: int) -> MemoryBroker:
    """The realm's topics with the workload's rows and rules."""
    specs = topic_specs("profile", PARTITIONS, SNAPSHOT_MS, 1)
    broker = MemoryBroker({spec.name: spec.partitions for spec in specs}, clock.now_ms)
    rows_and_rules(broker, agents)
    return broker


def rows_and_rules(broker: MemoryBroker, agents: int) -> None:
    """The workload's."""
    for name, rows in tables(agents).items():
        for row in rows:
            key = row.get("agent_id") or row.get("workload_id") or row["subject"]
            broker.append(TOPICS.table(name), 0, key.encode(), orjson.dumps(row))
    bundle = load(rules_yaml()).bundle
    digest = hashlib.sha256(bundle).hexdigest()
    broker.append(TOPICS.rules, 0, f"bundle/{digest}".encode(), bundle)
    broker.append(TOPICS.rules, 0, b"active/production", orjson.dumps({"digest": digest, "revision": 1}))


def worker(
    broker: MemoryBroker,
    clock: Clock,
    store: StateStore,
    name: str = "a" * 32,
    snapshot_ms: int = SNAPSHOT_MS,
    lane_rate: Rate = NO_BOUND,
) -> Worker:
    """One that is alone in its group, hence takes every partition."""
    ports = Ports(
        consumer=MemoryInputConsumer(MemoryGroup(broker, TOPICS.intents), "worker"),
        writer=MemoryWriter(broker),
        reader=MemoryReader(broker),
        incarnations=MemoryIncarnations("i1"),
        store=store,
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
        snapshot_interval_ms=snapshot_ms,
        hot_units_max=100_000,
        lane_rate=lane_rate,
    )
    return Worker(realm, ports, name)


def fill(broker: MemoryBroker, agents: int, count: int, deadline_ms: int = limits.DEADLINE_MS_MAX) -> None:
    """So many intents."""
    intents = Intents("profile", agents, deadline_ms, "0" * 32)
    for number in range(count):
        lane, (_, _, _, value) = lane_of(number, agents), intents.make(number)
        broker.append(TOPICS.intents, partition_of(lane, PARTITIONS), lane.encode(), value, UNSIGNED_HEADERS)


def turn_until(
    worker: Worker, clock: Clock, done: Callable[[], bool], between: Callable[[], None] | None = None
) -> None:
    """Let the worker's loop turn, a millisecond each if time is virtual, and do what comes between turns.

    Raises:
        SystemExit: it came to no end.
    """
    for _ in range(STEPS_MAX):
        if done():
            return
        worker.step(0)
        if between is not None:
            between()
        if isinstance(clock, ManualClock):
            clock.advance(1)
    raise SystemExit("the worker came to no end")


def covered(worker: Worker) -> int:
    """How many inputs its partitions have answered."""
    return sum(owner.place.header.next_input for owner in worker.owners.values())
