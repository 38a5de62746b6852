"""A seeded world: the real core and runtime on the memory log, under a virtual clock, with faults that a seed decides.

Nothing here models the system; it only decides who runs when, and what the network does to each publish.
"""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import (
    Fate,
    MemoryBroker,
    MemoryGroup,
    MemoryInputConsumer,
    MemoryReader,
    MemoryWriter,
)
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedSigner, UnsignedVerifier
from harness_stream.core.lanes import partition_of
from harness_stream.core.partition import Phase
from harness_stream.core.rules.compile import from_bundle, load
from harness_stream.core.rules.windows import Windows
from harness_stream.runtime.facts import RulesView
from harness_stream.runtime.realm import Ports, Realm
from harness_stream.runtime.telemetry import NullMetrics
from harness_stream.runtime.worker import Worker
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from harness_stream.ports import LogRecord

TOPICS = Topics("sim")
PARTITIONS = 2
AGENTS = {f"agent-{n}": f"tenant-{n % 3}" for n in range(6)}
ACTIONS = ("crm.read", "email.send", "search.query")

RULES = """
rule_set: sim
default: deny
selections:
  reads: event.action == "crm.read"
  egress: event.action == "email.send"
  queries: event.action == "search.query"
rules:
  - {id: allowed, effect: approve, when: "intent.action in identity.actions"}
  - id: no-egress-after-read
    effect: deny
    when: egress
    correlation: {type: temporal, rules: [reads], group-by: [chain_id], timespan: 2s}
  - id: loop
    effect: deny
    when: queries
    correlation: {type: event_count, rules: [queries], group-by: [agent_id], timespan: 5s, condition: {gt: 4}}
  - id: lane-egress
    effect: hold
    when: egress
    correlation: {type: event_count, rules: [egress], group-by: [tenant], timespan: 10s, condition: {gt: 6}}
"""


NEW_RULES = (
    RULES.replace("{gt: 4}", "{gt: 2}").replace("timespan: 2s", "timespan: 3s")
    + """
  - id: reads-then-queries
    effect: deny
    when: queries
    correlation: {type: temporal, rules: [reads, queries], group-by: [agent_id], timespan: 1s}
"""
)
"""One threshold is changed (its counts go on), one window is new by its timespan, one rule is new."""


@functools.cache
def bundle(text: str = RULES) -> bytes:
    return load(text).bundle


@functools.cache
def compiled(data: bytes) -> Windows:
    return Windows(from_bundle(data))


@dataclass
class Faults:
    """Probabilities per publish or per turn."""

    lost: float = 0.01
    delayed: float = 0.05
    falsely_failed: float = 0.01
    crash: float = 0.004
    pause: float = 0.004
    store: float = 0.003


@dataclass
class Member:
    name: str
    worker: Worker
    writer: MemoryWriter
    paused_until_ms: int = 0


@dataclass
class World:
    seed: int
    faults: Faults = field(default_factory=Faults)
    workers: int = 2
    snapshot_interval_ms: int = 3_000
    hot_units_max: int = 1_000

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.clock = ManualClock()
        topics = {
            TOPICS.intents: PARTITIONS,
            TOPICS.verdicts: PARTITIONS,
            TOPICS.heads: PARTITIONS,
            TOPICS.chains: PARTITIONS,
        }
        single = [
            TOPICS.identity,
            TOPICS.infrastructure,
            TOPICS.risk,
            TOPICS.classification,
            TOPICS.rules,
            TOPICS.deadletter,
        ]
        self.broker = MemoryBroker(topics | dict.fromkeys(single, 1), self.clock.now_ms)
        self.group = MemoryGroup(self.broker, TOPICS.intents)
        self.store = MemoryStateStore()
        self.realm = Realm("sim", "i1", PARTITIONS, TOPICS, "sim", True, self.snapshot_interval_ms, self.hot_units_max)
        self.healed = False
        self.trace: list[str] = []
        self.sent: dict[str, bytes] = {}
        self.dumps = [self.store.snapshot()]
        self._names = iter(range(10_000))
        self._tables()
        self.push_rules(1)
        self.members = [self._member() for _ in range(self.workers)]

    # --- what is there ---

    def _tables(self) -> None:
        for agent, tenant in AGENTS.items():
            row = {"agent_id": agent, "tenant": tenant, "actions": list(ACTIONS), "workloads": ["w1"], "owner": "boss"}
            self.broker.append(TOPICS.identity, 0, agent.encode(), orjson.dumps(row))

    def push_rules(self, revision: int, text: str = RULES) -> None:
        data = bundle(text)
        digest = hashlib.sha256(data).hexdigest()
        self.broker.append(TOPICS.rules, 0, f"bundle/{digest}".encode(), data)
        self.broker.append(TOPICS.rules, 0, b"active/sim", orjson.dumps({"digest": digest, "revision": revision}))

    def _member(self) -> Member:
        name = f"w{next(self._names)}"
        writer = MemoryWriter(self.broker, fate=self._fate)
        ports = Ports(
            consumer=MemoryInputConsumer(self.group, name),
            writer=writer,
            reader=MemoryReader(self.broker),
            store=self.store,
            clock=self.clock,
            signer=UnsignedSigner(),
            verifier=UnsignedVerifier(),
            metrics=NullMetrics(),
            jitter=self.random.random,
        )
        writer_id = f"{self.random.getrandbits(128):032x}"
        return Member(name, Worker(self.realm, ports, writer_id, RulesView("sim", compiled)), writer)

    def _fate(self, _record: object) -> Fate:
        if self.healed:
            return Fate(land_after_ms=1, report_after_ms=1)
        roll, f = self.random.random(), self.faults
        if roll < f.lost:
            return Fate(land_after_ms=3_000, report_after_ms=3_000, lands=False, reports="failed")
        if roll < f.lost + f.falsely_failed:
            return Fate(land_after_ms=self.random.randint(1, 4_000), report_after_ms=3_000, reports="failed")
        if roll < f.lost + f.falsely_failed + f.delayed:
            late = self.random.randint(10, 2_500)
            return Fate(land_after_ms=late, report_after_ms=late)
        quick = self.random.randint(0, 4)
        return Fate(land_after_ms=quick, report_after_ms=quick)

    # --- what happens ---

    def uuid7(self) -> str:
        value = (
            (self.clock.now_ms() << 80)
            | (0x7 << 76)
            | (self.random.getrandbits(12) << 64)
            | (0b10 << 62)
            | self.random.getrandbits(62)
        )
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def send(self, **over: object) -> bytes:
        agent = self.random.choice(list(AGENTS))
        body = {
            "v": 1,
            "type": "intent",
            "realm": "sim",
            "by": agent,
            "agent_id": agent,
            "intent_id": self.uuid7(),
            "workload_id": "w1",
            "action": self.random.choice(ACTIONS),
            "arguments_digest": "0" * 64,
            "enforcer_nonce": "0" * 32,
            "deadline_ms": 60_000,
        } | over
        value = orjson.dumps(body)
        self.publish(str(body["agent_id"]), value)
        self.sent[str(body["intent_id"])] = value
        return value

    def publish(self, agent: str, value: bytes, partition: int | None = None) -> None:
        lane = AGENTS.get(agent, agent)
        at = partition_of(lane, PARTITIONS) if partition is None else partition
        self.broker.append(TOPICS.intents, at, lane.encode(), value, UNSIGNED_HEADERS)

    def everything(self, topic: str, partition: int) -> list[LogRecord]:
        """All records of a partition."""
        return self.broker.read(topic, partition, 0, 10**9)

    def turn(self) -> None:
        self.clock.advance(self.random.choice((0, 1, 1, 2, 5, 20)))
        if not self.healed:
            self._strike()
        now = self.clock.elapsed_ms()
        awake = [m for m in self.members if m.paused_until_ms <= now]
        if awake:
            self.random.choice(awake).worker.step(0)

    def _strike(self) -> None:
        f = self.faults
        if self.random.random() < f.crash:
            self.crash(self.random.randrange(len(self.members)))
        if self.random.random() < f.pause:
            member = self.random.choice(self.members)
            member.paused_until_ms = self.clock.elapsed_ms() + self.random.randint(100, 12_000)
            self.trace.append(f"{self.clock.elapsed_ms()} pause {member.name} until {member.paused_until_ms}")
        if self.random.random() < f.store:
            self._strike_store()

    def _strike_store(self) -> None:
        kind = self.random.choice(("down", "flush", "lose", "dump", "restore", "drop"))
        self.trace.append(f"{self.clock.elapsed_ms()} store {kind}")
        if kind == "down":
            self.store.down = not self.store.down
        elif kind == "flush":
            self.store.flush()
        elif kind == "lose":
            self.store.lose_next_answer = True
        elif kind == "dump":
            self.dumps.append(self.store.snapshot())
        elif kind == "restore":
            self.store.restore(self.random.choice(self.dumps))
        else:
            self.store.drop_units([f"a:{self.random.choice(list(AGENTS))}"])

    def crash(self, index: int) -> None:
        member = self.members[index]
        member.writer.crash(self.random.choice((0, 1, 3, None)))
        self.trace.append(f"{self.clock.elapsed_ms()} crash {member.name}")
        self.members[index] = self._member()
        self.trace.append(f"{self.clock.elapsed_ms()} start {self.members[index].name}")

    def heal(self, turns_max: int = 60_000) -> None:
        """No more faults; everybody runs until every input is covered and everything is confirmed."""
        self.healed = True
        self.store.down = False
        for member in self.members:
            member.paused_until_ms = 0
        for _ in range(turns_max):
            self.turn()
            if self.settled():
                return
        phases = {m.name: {p: (o.phase, o.why) for p, o in m.worker.owners.items()} for m in self.members}
        raise AssertionError(f"seed {self.seed}: not settled: {phases}")

    def settled(self) -> bool:
        owners = {p: o for m in self.members for p, o in m.worker.owners.items() if o.phase is Phase.DECIDING}
        if set(owners) != set(range(PARTITIONS)):
            return False
        ends = [self.broker.bounds(TOPICS.intents, p)[1] for p in range(PARTITIONS)]
        done = all(owners[p].place.header.next_input == ends[p] and not owners[p].in_flight for p in owners)
        return done and all(
            self._stored(p) == owners[p].place.offset or owners[p].place.header.next_input == 0 for p in owners
        )

    def _stored(self, partition: int) -> int:
        head = self.store.head(partition)
        return -1 if head is None else head.verdict_offset
