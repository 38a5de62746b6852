"""A realm in one process: the worker's loop on the memory log and a virtual clock, without Kafka and Redis.

It is unsigned and has the rules of `workload.few_rules` unless it is told otherwise.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Final, Self

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from realm import PARTITIONS, public_keys, speakers_of
from workload import Intents, few_rules, tables

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.incarnation import MemoryIncarnations
from harness_stream.adapters.memory.log import (
    MemoryBroker,
    MemoryGroup,
    MemoryInputConsumer,
    MemoryReader,
    MemoryWriter,
)
from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier
from harness_stream.adapters.signing.certificate import RULES, certify
from harness_stream.adapters.signing.decisions import SignedDecisions
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import SignedInputs
from harness_stream.adapters.signing.keys import public_of
from harness_stream.adapters.signing.rules import SignedRules
from harness_stream.adapters.signing.verifier import SignedVerifier
from harness_stream.core import limits
from harness_stream.core.denials import answers_in
from harness_stream.core.lanes import partition_of
from harness_stream.core.rate import Rate
from harness_stream.core.rules.compile import load
from harness_stream.runtime.realm import Ports, Realm
from harness_stream.runtime.telemetry import PrometheusMetrics
from harness_stream.runtime.worker import Worker
from harness_stream.wire.topics import Topics, topic_specs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from workload import Mix

    from harness_stream.adapters.signing.inputs import Speaker
    from harness_stream.ports import Clock, DecisionSigner, InputSigner, RulesSigner, StateStore, Verifier

TOPICS: Final = Topics("profile")
STEPS_MAX: Final = 1_000_000
SNAPSHOT_MS: Final = 60_000
# What is measured is judging, not refusing.
NO_BOUND: Final = Rate(1_000_000, 1_000_000)
BOUND: Final = Bound("profile", "i1")


@dataclass(frozen=True, slots=True)
class Unsigned:
    """Nobody vouches for anything."""

    speakers: Mapping[str, Speaker] = field(default_factory=dict)

    def decisions(self) -> DecisionSigner:
        """What a worker signs with."""
        return UnsignedSigner()

    def inputs(self) -> InputSigner:
        """What agents sign with."""
        return UnsignedSigner()

    def rules(self) -> RulesSigner:
        """What whoever pushes rules signs with."""
        return UnsignedSigner()

    def verifier(self) -> Verifier:
        """Whom a worker believes."""
        return UnsignedVerifier()


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed realm's keys, made for this process.

    Attributes:
        root: certifies workers and who pushes rules.
        pdp: what agents' MACs are for.
        speakers: agent → its keys.
    """

    root: Ed25519PrivateKey
    pdp: X25519PrivateKey
    speakers: Mapping[str, Speaker]

    @classmethod
    def of(cls, agents: int) -> Self:
        """With so many agents."""
        return cls(Ed25519PrivateKey.generate(), X25519PrivateKey.generate(), speakers_of(agents))

    def decisions(self) -> DecisionSigner:
        """What a worker signs with; each has a key of its own."""
        worker = Ed25519PrivateKey.generate()
        return SignedDecisions(BOUND, worker, certify(self.root, BOUND, public_of(worker)))

    def inputs(self) -> InputSigner:
        """What agents sign with."""
        return SignedInputs(BOUND, public_of(self.pdp), self.speakers)

    def rules(self) -> RulesSigner:
        """What whoever pushes rules signs with."""
        pusher = Ed25519PrivateKey.generate()
        return SignedRules(BOUND, pusher, certify(self.root, BOUND, public_of(pusher), role=RULES))

    def verifier(self) -> Verifier:
        """Whom a worker believes; it remembers nothing yet."""
        return SignedVerifier(BOUND, public_of(self.root), self.pdp)


UNSIGNED: Final = Unsigned()


def broker_with(
    clock: ManualClock, agents: int, mix: Mix | None = None, keys: Unsigned | Signed = UNSIGNED
) -> MemoryBroker:
    """The realm's topics with the workload's rows and rules."""
    specs = topic_specs("profile", PARTITIONS, SNAPSHOT_MS, 1)
    broker = MemoryBroker({spec.name: spec.partitions for spec in specs}, clock.now_ms)
    rows_and_rules(broker, agents, mix or few_rules(), keys)
    return broker


def rows_and_rules(broker: MemoryBroker, agents: int, mix: Mix, keys: Unsigned | Signed) -> None:
    """The workload's."""
    for name, rows in tables(agents, mix.actions).items():
        for row in rows:
            key = row.get("agent_id") or row.get("workload_id") or row["subject"]
            own = {"keys": public_keys(keys.speakers[key])} if name == "identity" and keys.speakers else {}
            broker.append(TOPICS.table(name), 0, key.encode(), orjson.dumps(row | own))
    bundle, signer = load(mix.rules).bundle, keys.rules()
    digest = hashlib.sha256(bundle).hexdigest()
    active = orjson.dumps({"digest": digest, "revision": 1})
    for key, value in ((f"bundle/{digest}".encode(), bundle), (b"active/production", active)):
        broker.append(TOPICS.rules, 0, key, value, signer.seal_rules(TOPICS.rules, key, value))


def worker(
    broker: MemoryBroker,
    clock: Clock,
    store: StateStore,
    name: str = "a" * 32,
    snapshot_ms: int = SNAPSHOT_MS,
    lane_rate: Rate = NO_BOUND,
    keys: Unsigned | Signed = UNSIGNED,
) -> Worker:
    """One that is alone in its group, hence takes every partition."""
    ports = Ports(
        consumer=MemoryInputConsumer(MemoryGroup(broker, TOPICS.intents), "worker"),
        writer=MemoryWriter(broker),
        reader=MemoryReader(broker),
        incarnations=MemoryIncarnations("i1"),
        store=store,
        clock=clock,
        signer=keys.decisions(),
        verifier=keys.verifier(),
        metrics=PrometheusMetrics(),
        jitter=lambda: 0.0,
    )
    realm = Realm(
        "profile",
        "i1",
        PARTITIONS,
        TOPICS,
        "production",
        dev=keys is UNSIGNED,
        snapshot_interval_ms=snapshot_ms,
        hot_units_max=100_000,
        lane_rate=lane_rate,
    )
    return Worker(realm, ports, name)


def fill(
    broker: MemoryBroker,
    agents: int,
    count: int,
    deadline_ms: int = limits.DEADLINE_MS_MAX,
    mix: Mix | None = None,
    keys: Unsigned | Signed = UNSIGNED,
    clock: Clock | None = None,
) -> None:
    """So many intents; their ids are of the clock's time, by default of now."""
    intents, signer = Intents("profile", agents, deadline_ms, "0" * 32, mix, clock), keys.inputs()
    for number in range(count):
        _, agent, lane, value = intents.make(number)
        headers = signer.seal_input(TOPICS.intents, lane, value, "intent", agent)
        broker.append(TOPICS.intents, partition_of(lane, PARTITIONS), lane.encode(), value, headers)


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


def decisions(broker: MemoryBroker) -> Counter[str]:
    """How its intents were decided."""
    values = [
        record.value or b"{}"
        for partition in range(PARTITIONS)
        for record in broker.read(TOPICS.verdicts, partition, 0, STEPS_MAX)
    ]
    bodies = chain.from_iterable(answers_in(orjson.loads(value)) for value in values)
    return Counter(body["decision"] for body in bodies if body["kind"] == "verdict")
