"""A seeded world: the real core and runtime on the memory log, under a virtual clock, with faults that a seed decides.

Nothing here models the system; it only decides who runs when, and what the network does to each publish.
"""

from __future__ import annotations

import functools
import hashlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
from harness_stream.core.rate import Rate
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
UNBOUNDED = Rate(1_000_000, 1_000_000)
AGENTS = {f"agent-{n}": f"tenant-{n % 3}" for n in range(6)}
ACTIONS = ("crm.read", "email.send", "search.query", "crm.export")
ROLES = ("orchestrator", "approver", "enforcer")
RESOURCES = {"crm://a": ["pii"], "crm://b": [], "mail://x": [], "mail://y": [], "web://z": []}

RULES = """
rule_set: sim
default: deny
selections:
  reads: event.action == "crm.read"
  egress: event.action == "email.send"
  queries: event.action == "search.query"
  exports: event.action == "crm.export"
  anything: "true"
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
  - id: rows
    effect: deny
    when: exports
    correlation: {type: value_sum, rules: [exports], group-by: [agent_id], timespan: 8s, condition: {field: measures.rows, gt: 40}}
  - id: many-rows-in-the-lane
    effect: hold
    when: exports
    correlation: {type: value_sum, rules: [exports], timespan: 6s, condition: {field: measures.rows, gt: 60}}
  - id: wide
    effect: hold
    when: anything
    correlation: {type: value_count, rules: [anything], group-by: [chain_id], timespan: 4s, condition: {field: resource.uri, gt: 5}}
  - id: read-then-export
    effect: hold
    when: exports
    correlation: {type: temporal_ordered, rules: [reads, queries, exports], group-by: [agent_id], timespan: 9s}
  - id: export-needs-a-query
    effect: hold
    when: exports
    correlation: {type: absent, rules: [queries], group-by: [tenant], timespan: 1s}
  - id: one-record-again-and-again
    effect: deny
    when: anything
    correlation: {type: event_count, rules: [anything], group-by: [resource.uri], timespan: 9s, condition: {gt: 4}}
  - {id: tainted, effect: hold, when: 'egress && "pii" in chain.labels'}
"""


NEW_RULES = (
    RULES.replace("{gt: 4}", "{gt: 2}").replace("timespan: 2s", "timespan: 3s").replace("timespan: 9s", "timespan: 7s")
    + """
  - id: reads-then-queries
    effect: deny
    when: queries
    correlation: {type: temporal, rules: [reads, queries], group-by: [agent_id], timespan: 1s}
"""
)
"""One threshold is changed (its counts go on), one window is new by its timespan, one rule is new."""


def identities() -> list[dict[str, Any]]:
    """Agents, and in each of their lanes one who opens chains, one who approves, one who enforces."""
    own = {agent: {"tenant": tenant, "delegates": list(AGENTS)} for agent, tenant in AGENTS.items()}
    own |= {f"{role}-{n}": {"tenant": f"tenant-{n}", "roles": [role]} for role in ROLES for n in range(3)}
    common = {"actions": list(ACTIONS), "workloads": ["w1"], "owner": "boss"}
    return [{"agent_id": agent, **common, **fields} for agent, fields in own.items()]


def classified() -> list[dict[str, Any]]:
    """What data resources hold."""
    return [{"subject": f"resource:{uri}", "labels": labels} for uri, labels in RESOURCES.items()]


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
    away: float = 0.0


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
    rules: str = RULES
    lane_rate: Rate = UNBOUNDED

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
        memory = self.snapshot_interval_ms, self.hot_units_max
        self.realm = Realm("sim", "i1", PARTITIONS, TOPICS, "sim", True, *memory, lane_rate=self.lane_rate)
        self.healed = False
        self.trace: list[str] = []
        self.sent: dict[str, bytes] = {}
        self.dumps = [self.store.snapshot()]
        self._names = iter(range(10_000))
        self._tables()
        self.push_rules(1, self.rules)
        self.members = [self._member() for _ in range(self.workers)]

    # --- what is there ---

    def _tables(self) -> None:
        for row in identities():
            self.broker.append(TOPICS.identity, 0, row["agent_id"].encode(), orjson.dumps(row))
        for row in classified():
            self.broker.append(TOPICS.classification, 0, row["subject"].encode(), orjson.dumps(row))

    def push_rules(self, revision: int, text: str = RULES, *, now: bool = False) -> None:
        data = bundle(text)
        digest = hashlib.sha256(data).hexdigest()
        self.broker.append(TOPICS.rules, 0, f"bundle/{digest}".encode(), data)
        active = orjson.dumps({"digest": digest, "revision": revision, "now": now})
        self.broker.append(TOPICS.rules, 0, b"active/sim", active)
        self.revision = revision

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
            "resources": self.random.sample(sorted(RESOURCES), self.random.choice((0, 1, 1, 2))),
            "measures": self.random.choice(({}, *[{"rows": self.random.randint(0, 20)}, {"rows": "0.5"}] * 6)),
            "arguments_digest": "0" * 64,
            "enforcer_nonce": "0" * 32,
            "deadline_ms": 60_000,
        } | over
        value = orjson.dumps(body)
        self.publish(str(body["agent_id"]), value)
        self.sent[str(body["intent_id"])] = value
        return value

    def follow_up(self) -> None:
        """Something that refers to an earlier verdict, which may be void: an outcome, an approval, a child's intent."""
        partition = self.random.randrange(PARTITIONS)
        end = self.broker.bounds(TOPICS.verdicts, partition)[1]
        newest = self.broker.read(TOPICS.verdicts, partition, max(0, end - 40), 40)
        verdicts = [(r, b) for r in newest if (b := orjson.loads(r.value or b"{}")).get("kind") == "verdict"]
        if verdicts:
            record, body = self.random.choice(verdicts)
            digest = hashlib.sha256(record.value or b"").hexdigest()
            kind = "approve_or_deny" if body["decision"] == "hold" else self.random.choice(("outcome", "outcome", "child"))
            getattr(self, f"_{kind}")(body, digest, record.offset)

    def _outcome(self, body: dict[str, Any], digest: str, _offset: int) -> None:
        by = self.random.choice((body["agent_id"], f"enforcer-{AGENTS[body['agent_id']][-1]}"))
        self._say(
            body["agent_id"],
            type="outcome",
            by=by,
            outcome_id=self.uuid7(),
            intent_id=body["intent_id"],
            verdict_digest=digest,
            status=self.random.choice(("done", "done", "failed", "unknown", "abandoned")),
            measures=self.random.choice(({}, {"rows": self.random.randint(0, 30)})),
        )

    def _approve_or_deny(self, body: dict[str, Any], digest: str, offset: int) -> None:
        self._say(
            body["agent_id"],
            type="approval",
            by=f"approver-{self.random.randrange(3)}",
            approval_id=self.uuid7(),
            hold_digest=digest,
            hold_offset=offset,
            decision=self.random.choice(("approve", "approve", "deny")),
            declassify=self.random.choice(([], [], ["pii"])),
        )

    def _child(self, body: dict[str, Any], _digest: str, _offset: int) -> None:
        lane = AGENTS[body["agent_id"]]
        agent = self.random.choice([a for a, other in AGENTS.items() if other == lane])
        self.send(by=agent, agent_id=agent, parent={"agent_id": body["agent_id"], "intent_id": body["intent_id"]})

    def mandate(self) -> None:
        """Opens or closes a chain of a few names, so that both happen to the same one."""
        agent = self.random.choice(list(AGENTS))
        content: dict[str, Any] = {"close": True}
        if self.random.random() < 0.7:
            content = {"expires_at": self.clock.now_ms() + self.random.randint(500, 20_000)}
        chain = f"case-{self.random.randrange(3)}"
        by = f"orchestrator-{AGENTS[agent][-1]}"
        self._say(agent, type="mandate", by=by, mandate_id=self.uuid7(), chain_id=chain, **content)

    def _say(self, agent: str, **content: object) -> None:
        self.publish(agent, orjson.dumps({"v": 1, "realm": "sim", "agent_id": agent, **content}))

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
        if self.random.random() < f.away:
            self.store.down = not self.store.down
            self.trace.append(f"{self.clock.elapsed_ms()} store {'away' if self.store.down else 'back'}")

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
        done = done and not any(owner.state.warmed for owner in owners.values())
        done = done and all(owner.place.header.rules[1] == self.revision for owner in owners.values())
        return done and all(
            self._stored(p) == owners[p].place.offset or owners[p].place.header.next_input == 0 for p in owners
        )

    def _stored(self, partition: int) -> int:
        head = self.store.head(partition)
        return -1 if head is None else head.verdict_offset
