"""A seeded world: the real core and runtime on the memory log, under a virtual clock.

Nothing here models the system; it only decides who runs when, and what the network does to each publish. By itself
nothing goes wrong in it: faults are done to it (`faults.py`).
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.incarnation import MemoryIncarnations
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
from harness_stream.core import limits
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import DENIALS
from harness_stream.core.lanes import partition_of
from harness_stream.core.partition import Phase
from harness_stream.core.rules.compile import from_bundle, load
from harness_stream.core.rules.windows import Windows
from harness_stream.errors import CallerError
from harness_stream.runtime.facts import RulesView
from harness_stream.runtime.realm import LANE_RATE_DEFAULT, Ports, Realm
from harness_stream.runtime.resuming import Operator, planned, resume
from harness_stream.runtime.standing import Source, standing
from harness_stream.runtime.telemetry import NullMetrics
from harness_stream.runtime.worker import Worker
from harness_stream.wire.decisions import digest_of
from harness_stream.wire.topics import Topics
from tests.rule_texts import ALLOWED, EGRESS, READS, no_egress_after_read, rule_set
from tests.signed import SignedRealm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness_stream.adapters.memory.state import Dump
    from harness_stream.core.fold import Place
    from harness_stream.core.rate import Rate
    from harness_stream.ports import DecisionSigner, Headers, LogRecord, Verifier

TOPICS = Topics("sim")
PARTITIONS = 2
AGENTS = {f"agent-{n}": f"tenant-{n % 3}" for n in range(6)}
ACTIONS = ("crm.read", "email.send", "search.query", "crm.export")
ROLES = ("orchestrator", "approver", "enforcer")
RESOURCES = {"crm://a": ["pii"], "crm://b": [], "mail://x": [], "mail://y": [], "web://z": []}

RULES = rule_set(
    ALLOWED,
    no_egress_after_read("2s"),
    """\
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
""",
    name="sim",
    reads=READS,
    egress=EGRESS,
    queries='event.action == "search.query"',
    exports='event.action == "crm.export"',
    anything="true",
)


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


def said_in(record: LogRecord) -> list[Mapping[str, Any]]:
    """What a record of the decision log says, each denial of a run for itself."""
    body = orjson.loads(record.value or b"{}")
    return [*answers_in(body)] if body.get("kind") == DENIALS else [body]


@functools.cache
def bundle(text: str = RULES) -> bytes:
    return load(text).bundle


@functools.cache
def compiled(data: bytes) -> Windows:
    return Windows(from_bundle(data))


DELIVERY_MS = limits.DELIVERY_TIMEOUT_MS

FATES: dict[str, Callable[[random.Random], Fate]] = {
    "lost": lambda _: Fate(DELIVERY_MS, DELIVERY_MS, lands=False, reports="failed"),
    "falsely failed": lambda r: Fate(r.randint(1, 4_000), DELIVERY_MS, reports="failed"),
    "delayed": lambda r: Fate(late := r.randint(10, 2_500), late),
    "reported late": lambda r: Fate(r.randint(0, 4_000), r.randint(4_000, 9_000), reports="failed"),
}
"""What the network may do to a publish, beside taking 0 to 4 ms."""

TURN_MS = (0, 1, 1, 2, 5, 20)
SLOW_TURN_MS = (1, 5, 20, 100)
# A session's 6 s end within a hundred turns, and most turns find the tables fresh.
HEAL_TURN_MS = (1, 5, 20, 100, 250)
# V9. After the last fault: a session (6 s) or reports that never come (6 s), an operator who looks at a halted partition
# (5 s between a worker's looks), a lost claim (2 s), loading and the backlog; some of it twice, if owners change.
HEAL_MS_MAX = 60_000
HEAL_TURNS_MAX = 20_000
SETTLED_LOOK_TURNS = 4


class Violation(AssertionError):  # noqa: N818  what it is, not that it is an error
    """One invariant does not hold."""

    def __init__(self, invariant: str, what: object, partition: int | None = None) -> None:
        super().__init__(f"{invariant}: {what}")
        self.invariant, self.partition = invariant, partition


class InputCut(NamedTuple):
    """An input log before it lost its newest records.

    Attributes:
        at: offset of the first one that was lost.
        before: everything that was ever in this log, or in what it had been made of by the cut before.
    """

    partition: int
    at: int
    before: tuple[LogRecord, ...]

    @property
    def lost(self) -> tuple[LogRecord, ...]:
        """What was cut off."""
        return tuple(record for record in self.before if record.offset >= self.at)


class SteppedClock:
    """One process's clock: its wall time may step, its monotonic time never."""

    def __init__(self, base: ManualClock) -> None:
        self._base, self.off_ms = base, 0
        self.elapsed_ms = base.elapsed_ms

    def now_ms(self) -> int:
        return self._base.now_ms() + self.off_ms


class StallingReader(MemoryReader):
    """A reader some of whose topics stand still.

    Attributes:
        stalled: topic → whether the broker still answers where it ends.
    """

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.stalled: dict[str, bool] = {}

    def ask_ends(self, partitions: Iterable[tuple[str, int]], now_ms: int) -> None:
        super().ask_ends([place for place in partitions if self.stalled.get(place[0], True)], now_ms)

    def _take(self, place: tuple[str, int], offset: int, records_max: int) -> list[LogRecord]:
        return [] if place[0] in self.stalled else super()._take(place, offset, records_max)


class Told(NullMetrics):
    """Counts what workers tell of claims, of partitions that halted, and of what is lost."""

    def __init__(self, happened: Counter[str]) -> None:
        self._happened = happened

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        if name == "harness_claims_total":
            self._happened["claim " + labels["after"]] += 1
        elif labels.get("reason") == "halted":
            self._happened["halt"] += 1
        elif labels.get("reason") == "decisions_lost":
            self._happened["told of lost decisions"] += 1
        elif labels.get("reason") == "input_lost" and name == "harness_security_events_total":
            self._happened["told of lost inputs"] += 1


@dataclass
class Member:
    name: str
    writer_id: str
    worker: Worker
    writer: MemoryWriter
    reader: StallingReader
    clock: SteppedClock
    paused_until_ms: int = 0
    leaving: bool = False
    stalled_ms: dict[str, int] = field(default_factory=dict)  # table → since when, of `World.clock`


@dataclass
class World:
    """Topics, workers and a store.

    Attributes:
        happened: how often what happened, by kind.
        forged: how many records were, by how.
        forged_at: places of the forged inputs.
        lost_rows: identities whose row was away or unreadable for a time.
        cut: partitions whose decision log lost records.
        cuts: of each such loss partition, first offset, end, and where the chains topic ended then.
        forgotten: what retention took, by topic and partition.
        input_cuts: what input logs lost at their ends, in order.
        changed_ms: table → offset and time of every row.
        uneven: publishes take 0 to 4 ms, else 1.
        cramped: windows have room for a few groups only.
        fates: what becomes of the next ones.
        watch: sees every publish of a member before it is under way.
        signed: records are signed, and somebody forges some; everybody has keys.
    """

    seed: int
    workers: int = 2
    snapshot_interval_ms: int = 3_000
    hot_units_max: int = 1_000
    rules: str = RULES
    turn_ms: Sequence[int] = TURN_MS
    lane_rate: Rate = LANE_RATE_DEFAULT
    signed: bool = False

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
        sizes = self.snapshot_interval_ms, self.hot_units_max
        self.realm = Realm("sim", "i1", PARTITIONS, TOPICS, "sim", not self.signed, *sizes, self.lane_rate)
        self._keys, self._forger = SignedRealm("sim", "i1"), random.Random(f"forger {self.seed}")
        everybody = [row["agent_id"] for row in identities()]
        self._speaks = self._keys.inputs(*everybody) if self.signed else None
        self.incarnations = MemoryIncarnations(self.realm.incarnation)
        self.trace: list[str] = []
        self.happened = Counter[str]()
        self.uneven = self.cramped = False
        self.fates: deque[str] = deque()
        self.watch: Callable[[Member, LogRecord], None] | None = None
        self.cut: set[int] = set()
        self.input_cuts: list[InputCut] = []
        self.changed_ms: dict[str, list[tuple[int, int]]] = {}
        self.lost_rows: set[str] = set()
        self.forged, self.forged_at = Counter[str](), list[tuple[int, int]]()
        self.forgotten: dict[tuple[str, int], list[LogRecord]] = {}
        self.sent: dict[str, bytes] = {}
        self.dumps: list[Dump] = []
        self._names = iter(range(10_000))
        self._tables()
        self.push_rules(1, self.rules)
        self.members = [self._member() for _ in range(self.workers)]

    # --- what is there ---

    def _tables(self) -> None:
        for row in identities():
            self.put_row("identity", row["agent_id"], orjson.dumps(row))
        for row in classified():
            self.put_row("classification", row["subject"], orjson.dumps(row))

    def put_row(self, table: str, key: str, row: bytes | None) -> None:
        if self.signed and table == "identity" and row is not None and row.startswith(b'{"agent_id"'):
            keys = [public.model_dump() for public in self._keys.keys(key)]
            row = orjson.dumps(orjson.loads(row) | {"keys": keys})
        elif table == "identity":
            self.lost_rows.add(key)
        offset = self.broker.append(TOPICS.table(table), 0, key.encode(), row)
        self.changed_ms.setdefault(table, []).append((offset, self.clock.elapsed_ms()))

    def push_rules(self, revision: int, text: str = RULES, *, now: bool = False) -> None:
        data = bundle(text)
        digest = hashlib.sha256(data).hexdigest()
        active = orjson.dumps({"digest": digest, "revision": revision, "now": now})
        pusher = self._keys.rules() if self.signed else UnsignedSigner()
        for key, value in ((f"bundle/{digest}".encode(), data), (b"active/sim", active)):
            self.broker.append(TOPICS.rules, 0, key, value, pusher.seal_rules(TOPICS.rules, key, value))
        self.revision = revision

    def signer(self, name: str) -> DecisionSigner:
        """Of a worker, or an operator."""
        return self._keys.worker(name) if self.signed else UnsignedSigner()

    def verifier(self, *, judges: bool = True) -> Verifier:
        """Of a worker; an auditor has no PDP's key and judges no inputs."""
        return self._keys.verifier(judges=judges) if self.signed else UnsignedVerifier()

    def _member(self) -> Member:
        name, clock, reader = f"w{next(self._names)}", SteppedClock(self.clock), StallingReader(self.broker)
        writer = MemoryWriter(self.broker, fate=lambda record: self._fate(member, record))
        ports = Ports(
            consumer=MemoryInputConsumer(self.group, name),
            writer=writer,
            reader=reader,
            incarnations=self.incarnations,
            store=self.store,
            clock=clock,
            signer=self.signer(name),
            verifier=self.verifier(),
            metrics=Told(self.happened),
            jitter=self.random.random,
        )
        writer_id = f"{self.random.getrandbits(128):032x}"
        worker = Worker(self.realm, ports, writer_id, RulesView("sim", compiled, refused=ports.verifier.why_rules_refused))
        member = Member(name, writer_id, worker, writer, reader, clock)
        return member

    def _fate(self, member: Member, record: LogRecord) -> Fate:
        if self.watch is not None:
            self.watch(member, record)
        if self.fates:
            kind = self.fates.popleft()
            self.tell(kind, f"a publish of {member.name} to {record.topic}")
            return FATES[kind](self.random)
        quick = self.random.randint(0, 4) if self.uneven else 1
        return Fate(land_after_ms=quick, report_after_ms=quick)

    def tell(self, kind: str, what: str = "") -> None:
        """Something happened."""
        self.happened[kind] += 1
        self.trace.append(f"{self.clock.elapsed_ms():>8} ms  {kind}: {what}".removesuffix(": "))

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
        verdicts = [(r, b) for r in newest for b in said_in(r) if b.get("kind") == "verdict"]
        if verdicts:
            record, body = self.random.choice(verdicts)
            digest = hashlib.sha256(record.value or b"").hexdigest()
            kind = (
                "approve_or_deny" if body["decision"] == "hold" else self.random.choice(("outcome", "outcome", "child"))
            )
            getattr(self, f"_{kind}")(body, digest, record.offset)

    def _outcome(self, body: Mapping[str, Any], digest: str, _offset: int) -> None:
        self.report(body, digest)

    def report(self, body: Mapping[str, Any], digest: str) -> None:
        """The outcome of what a verdict or an intent names, whatever was decided of it."""
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

    def _approve_or_deny(self, body: Mapping[str, Any], digest: str, offset: int) -> None:
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

    def _child(self, body: Mapping[str, Any], _digest: str, _offset: int) -> None:
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
        headers = self._vouched(lane, value)
        self.broker.append(TOPICS.intents, at, lane.encode(), value, headers)
        if headers is not UNSIGNED_HEADERS:
            self._forge(at, lane.encode(), value, headers)

    def _vouched(self, lane: str, value: bytes) -> Headers:
        """What its sender says under it; what is no event nobody signs."""
        if self._speaks is None or not value.startswith(b"{"):
            return UNSIGNED_HEADERS
        event = orjson.loads(value)
        return self._speaks.seal_input(TOPICS.intents, lane, value, event["type"], event["by"])

    def _forge(self, partition: int, key: bytes, value: bytes, headers: Headers) -> None:
        """Now and then the same again, unsigned, or other bytes under the same signature, or a worker's word."""
        dice = self._forger.random()
        if dice < 0.1:
            self.forged["unsigned"] += 1
            at = self.broker.append(TOPICS.intents, partition, key, value, UNSIGNED_HEADERS)
            self.forged_at.append((partition, at))
        elif dice < 0.2:
            self.forged["changed"] += 1
            at = self.broker.append(TOPICS.intents, partition, key, value.replace(b"crm", b"crn") + b" ", headers)
            self.forged_at.append((partition, at))
        elif dice < 0.22 and self.broker.bounds(TOPICS.heads, partition)[1]:  # else nobody would begin this log
            claim = {"kind": "claim", "incarnation": "i1", "epoch": 10**6, "writer": "f" * 32, "after": "crash"}
            body = orjson.dumps(claim | {"pending": False})
            self.forged["claim"] += 1
            self.broker.append(TOPICS.verdicts, partition, None, body, self._forger.choice((UNSIGNED_HEADERS, headers)))

    def retain(self, topic: str, partition: int, low: int) -> None:
        """Retention takes everything before `low`; it is kept here for whoever judges the run."""
        gone = [record for record in self.broker.read(topic, partition, 0, 10**9) if record.offset < low]
        self.forgotten.setdefault((topic, partition), []).extend(gone)
        self.broker.truncate_before(topic, partition, low)

    def cut_inputs(self, partition: int, at: int) -> None:
        """The input log loses all from `at` on; how it was is kept here for whoever judges the run."""
        self.input_cuts.append(InputCut(partition, at, tuple(self.everything(TOPICS.intents, partition))))
        self.broker.truncate_from(TOPICS.intents, partition, at)

    def everything(self, topic: str, partition: int) -> list[LogRecord]:
        """All records of a partition, those that retention took as well; none of those that a cut took."""
        return [*self.forgotten.get((topic, partition), ()), *self.broker.read(topic, partition, 0, 10**9)]

    def inputs_end(self, partition: int) -> int:
        """Offset after the last input; transaction markers at the log's end are none, but retention leaves none out."""
        records, low = self.everything(TOPICS.intents, partition), self.broker.bounds(TOPICS.intents, partition)[0]
        return max(low, records[-1].offset + 1 if records else 0)

    def turn(self, spans_ms: Sequence[int] | None = None) -> None:
        self.clock.advance(self.random.choice(spans_ms or self.turn_ms))
        now = self.clock.elapsed_ms()
        awake = [m for m in self.members if m.paused_until_ms <= now]
        if not awake:
            return
        member = self.random.choice(awake)
        member.worker.step(0)
        if member.leaving and member.worker.stopped:
            member.worker.close()
            self.replace(member)

    def crash(self, index: int) -> None:
        member = self.members[index]
        member.writer.crash(self.random.choice((0, 1, 3, None)))
        self.replace(member)

    def replace(self, member: Member) -> None:
        """Another one takes its place; the group learns of the old one what it told."""
        self.members[self.members.index(member)] = self._member()

    def heal(self) -> None:
        """No more faults; everybody runs until every input is covered and everything is confirmed (V9)."""
        self.store.down = False
        self.fates.clear()
        self.broker.append_off_ms = 0
        for member in self.members:
            member.paused_until_ms = member.clock.off_ms = 0
            member.reader.stalled.clear()
            member.stalled_ms.clear()
        for agent in (
            AGENTS if self.cut else ()
        ):  # an owner at rest learns only from its next record that others are gone
            self.send(agent_id=agent, by=agent)
        healed_ms, refused = self.clock.elapsed_ms(), dict[int, list[int]]()
        for turn in range(HEAL_TURNS_MAX):
            self.turn(HEAL_TURN_MS)
            if turn % SETTLED_LOOK_TURNS == 0:
                if self.settled():
                    return
                self.resume_halted(refused)
                if self.clock.elapsed_ms() - healed_ms > HEAL_MS_MAX:
                    break
        phases = {m.name: {p: (o.phase, o.why) for p, o in m.worker.owners.items()} for m in self.members}
        raise Violation("V9", f"not settled after {self.clock.elapsed_ms() - healed_ms} ms: {phases}")

    def resume_halted(self, refused: dict[int, list[int]] | None = None) -> None:
        """An operator lets halted partitions go on without what they lost.

        Args:
            refused: partition → where all logs ended when it could not be resumed; nobody is told otherwise before
                somebody has written, as long as there are no faults. None: not known.
        """
        refused = {} if refused is None else refused
        halted = {p for m in self.members for p, o in m.worker.owners.items() if o.phase is Phase.HALTED}
        for partition in sorted(halted):
            writer_id, ends = f"{self.random.getrandbits(128):032x}", [log.end for log in self.broker.logs.values()]
            if refused.get(partition) == ends:
                continue
            source = Source(MemoryReader(self.broker), TOPICS, "i1", self.verifier(), self.store, self.clock)
            operator = Operator(MemoryWriter(self.broker), self.signer("operator"), writer_id, "sim")
            try:
                plan = planned(source, standing(source, partition))
            except CallerError:  # it was resumed, and its worker has not looked since
                refused[partition] = ends
                continue
            place = resume(source, plan, operator, "a record of the log was lost")
            self.tell("resume", f"partition {partition} goes on at {place.offset}, input {plan.next_input}")

    def settled(self) -> bool:
        owners = {p: o for m in self.members for p, o in m.worker.owners.items() if o.phase is Phase.DECIDING}
        if set(owners) != set(range(PARTITIONS)) or any(member.leaving for member in self.members):
            return False
        headers = {p: owner.place.header for p, owner in owners.items()}
        return (
            all(headers[p].next_input >= self.inputs_end(p) and not owners[p].in_flight for p in owners)
            and all(headers[p].next_input <= self.broker.bounds(TOPICS.intents, p)[1] for p in owners)
            and all(self._stands(owner.place) for owner in owners.values())
            and not any(owner.state.warmed for owner in owners.values())
            and all(member.worker.tables["identity"].revision >= self._rows_end() for member in self.members)
            and all(header.rules is not None and header.rules[1] == self.revision for header in headers.values())
            and all(self._stored(p) == owners[p].place.offset or not headers[p].next_input for p in owners)
        )

    def _rows_end(self) -> int:
        """Offset of the newest identity row: who was stopped is told by whoever has read so."""
        rows = self.everything(TOPICS.identity, 0)
        return rows[-1].offset if rows else -1

    def _stands(self, place: Place) -> bool:
        """Is it in the log, as that is now, or was before retention?"""
        records = self.everything(TOPICS.verdicts, place.header.partition)
        return place.offset < 0 or any(
            r.offset == place.offset and digest_of(r.value or b"") == place.digest for r in records
        )

    def _stored(self, partition: int) -> int:
        head = self.store.head(partition)
        return -1 if head is None else head.verdict_offset
