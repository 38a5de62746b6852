"""A realm in memory whose agents ask people: a real worker in a thread, and a clock that a test may turn forward."""

import random
import secrets
import threading
import time
from contextlib import contextmanager

import orjson
from factories import identity_row

from harness_stream.adapters.clock import SystemClock
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
from harness_stream.cli.holds import Realm as HoldsRealm
from harness_stream.cli.holds_answer import Voice
from harness_stream.cli.holds_read import HoldsSource
from harness_stream.client.ids import Ids
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import Place
from harness_stream.core.lanes import partition_of
from harness_stream.core.rules.compile import load
from harness_stream.errors import StateUnavailable
from harness_stream.runtime.realm import Ports, Realm
from harness_stream.runtime.telemetry import NullMetrics
from harness_stream.runtime.worker import Worker
from harness_stream.wire.decisions import digest_of, read_body
from harness_stream.wire.topics import Topics, topic_specs

REALM, INCARNATION, PARTITIONS, TOPICS = "test", "i1.v1", 2, Topics("t")
PATIENCE_S = 20.0
ALWAYS = {"not_before": 0, "not_after": 4_102_444_800_000}

RULES = """
rule_set: production
default: deny
selections:
  reads: event.action == "crm.read"
  sends: event.action == "email.send"
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
  - {id: export, effect: hold, when: intent.action == "crm.export", because: an export leaves the house}
  - id: after-a-read
    effect: hold
    when: sends
    correlation: {type: temporal, rules: [reads], group-by: [agent_id], timespan: 1h}
    because: it has read customers
  - {id: hot, effect: deny, when: 'risk.present && risk.score > 0.8', because: the agent is hot}
  - {id: watched, effect: deny, mode: shadow, when: intent.action == "crm.export"}
"""
SECOND = RULES + '  - {id: second-look, effect: hold, when: intent.action == "crm.export"}\n'

ACTIONS = ["crm.read", "crm.export", "email.send"]
PEOPLE = [
    identity_row("agent-1", tenant="acme", owner="olga", actions=ACTIONS, roles=["approver"]),
    identity_row("agent-2", tenant="globex", actions=ACTIONS),
    identity_row("agent-3", tenant="acme", actions=ACTIONS),
    identity_row("gate", tenant="acme", roles=["enforcer", "approver"]),
    identity_row("olga", roles=["approver"], tenant="people"),
    identity_row("grace", roles=["approver"], tenant="people"),
    identity_row("ada", roles=["approver"], tenant="people"),
    identity_row("gone", roles=["approver"], tenant="people", status="suspended"),
    identity_row("boss", roles=["orchestrator"], tenant="acme"),
]
DATA = [{"subject": "resource:crm://*", "labels": ["pii"], "owner": "sales"}]


class TurnedClock(SystemClock):
    """The machine's, and what a test put on top."""

    def __init__(self):
        self.ahead_ms = 0

    def now_ms(self):
        return super().now_ms() + self.ahead_ms


class AwayStore(MemoryStateStore):
    """Redis that does not answer."""

    def head(self, partition):
        raise StateUnavailable("Redis does not answer", hint="start it")


class HoldWorld:
    """Topics, tables, rules, one worker; and the realm as `harness holds` is given it."""

    def __init__(self, rules=RULES, signed=None):
        self.signed, self.metrics = signed, NullMetrics()
        self.clock, self.store = TurnedClock(), MemoryStateStore()
        specs = topic_specs("t", PARTITIONS, 86_400_000, 1)
        self.broker = MemoryBroker({s.name: s.partitions for s in specs}, self.clock.now_ms, blocking=True)
        self.group = MemoryGroup(self.broker, TOPICS.intents)
        self._ids, self._stopping, self._thread = Ids(self.clock), threading.Event(), None
        for row in PEOPLE:
            self.put("identity", row["agent_id"], row | self._keys(row["agent_id"]))
        for row in DATA:
            self.put("classification", row["subject"], row)
        self.put("infrastructure", "w-1", {"workload_id": "w-1", "environment": "prod"})
        self.push(rules, 1)

    def _keys(self, name):
        return {} if self.signed is None else {"keys": [k.model_dump() for k in self.signed.keys(name, **ALWAYS)]}

    # --- what is there ---

    def put(self, table, key, row):
        self.broker.append(TOPICS.table(table), 0, key.encode(), orjson.dumps(row))

    def heat(self, agent_id):
        until = self.clock.now_ms() + 86_400_000
        self.put("risk", f"agent:{agent_id}", {"subject": f"agent:{agent_id}", "score": 0.9, "valid_until": until})
        time.sleep(0.3)  # a view asks for its end every 100 ms

    def push(self, text, revision, signer=None):
        """`signer`: of the rules topic's records; default the realm's, () in an unsigned one."""
        signer = signer or (UnsignedSigner() if self.signed is None else self.signed.rules())
        data = load(text).bundle
        active = orjson.dumps({"digest": digest_of(data), "revision": revision, "now": True})
        for key, value in ((f"bundle/{digest_of(data)}".encode(), data), (b"active/production", active)):
            self.broker.append(TOPICS.rules, 0, key, value, signer.seal_rules(TOPICS.rules, key, value))

    def switched(self, text):
        """Another set is in force in every partition."""
        self.push(text, 2)
        for number in range(PARTITIONS):
            self.until(lambda number=number: [b for b in self.decided(number) if b["kind"] == "switch"][1:])

    @contextmanager
    def worker(self):
        """One that decides until the end."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def start(self):
        dev = self.signed is None
        realm = Realm(REALM, INCARNATION, PARTITIONS, TOPICS, "production", dev, 3_600_000, 1_000)
        name = f"w{secrets.token_hex(2)}"
        ports = Ports(
            consumer=MemoryInputConsumer(self.group, name),
            writer=MemoryWriter(self.broker),
            reader=MemoryReader(self.broker),
            incarnations=MemoryIncarnations(INCARNATION),
            store=self.store,
            clock=self.clock,
            signer=UnsignedSigner() if self.signed is None else self.signed.worker(),
            verifier=self.verifier(judges=True),
            metrics=self.metrics,
            jitter=random.random,
        )
        self._worker = Worker(realm, ports, secrets.token_hex(16))
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self):
        self._stopping.set()
        self._thread.join(PATIENCE_S)

    def _run(self):
        while not self._stopping.is_set():
            self._worker.step()
        self._worker.stop()
        while not self._worker.stopped:
            self._worker.step(1)
        self._worker.close()

    # --- what goes in and comes out ---

    def verifier(self, *, judges=False):
        return UnsignedVerifier() if self.signed is None else self.signed.verifier(judges=judges)

    def send(self, body, lane="acme", signer=None):
        """(partition, offset) of an input."""
        number, value = partition_of(lane, PARTITIONS), orjson.dumps(body)
        if self.signed is None:
            headers = UNSIGNED_HEADERS
        else:
            signer = signer or self.signed.inputs(body["by"])
            headers = signer.seal_input(TOPICS.intents, lane, value, body["type"], body["by"])
        return number, self.broker.append(TOPICS.intents, number, lane.encode(), value, headers)

    def ask(self, action="crm.export", agent="agent-1", lane="acme", **over):
        """The verdict on an intent."""
        body = {
            "v": 1,
            "type": "intent",
            "realm": REALM,
            "by": agent,
            "agent_id": agent,
            "intent_id": self._ids.new(),
            "workload_id": "w-1",
            "action": action,
            "resources": ["crm://orders/1"] if action.startswith("crm.") else ["mail://out"],
            "arguments_digest": "0" * 64,
            "enforcer_nonce": "0" * 32,
        }
        return self.answer(*self.send(body | over, lane))

    def answer_raw(self, hold, by, decision="approve", **over):
        """An approval that no command would send; what it got."""
        return self.answer(*self.send(self.approval(hold, by, decision, **over)))

    def approval(self, hold, by, decision, **over):
        return {
            "v": 1,
            "type": "approval",
            "realm": REALM,
            "by": by,
            "agent_id": hold["agent_id"],
            "approval_id": self._ids.new(),
            "hold_digest": hold["digest"],
            "hold_offset": hold["offset"],
            "decision": decision,
        } | over

    def answer(self, number, offset):
        """What answers this input, with digest and place of the effective record that says it."""
        return self.until(lambda: next((b for b in self.decided(number) if _covers(b, offset)), None))

    def decided(self, number):
        """What the effective records say so far."""
        place, found = Place.genesis(INCARNATION, number), []
        for record in self.broker.read(TOPICS.verdicts, number, 0, 100_000):
            body, digest = read_body(record.value)
            after = place.after(record.offset, body, digest)
            if after is not None:
                place = after
                at = {"digest": digest, "offset": record.offset, "place": f"{number}/{record.offset}"}
                found += [{**answer, **at} for answer in answers_in(body)]
        return found

    def until(self, look):
        end = time.monotonic() + PATIENCE_S
        while not (found := look()):
            assert time.monotonic() < end
            time.sleep(0.01)
        return found

    def newest_checkpoint(self, number):
        """Where it stands, −1 if there is none."""
        records = self.broker.read(TOPICS.heads, number, 0, 100_000)
        return orjson.loads(records[-1].value)["verdict_offset"] if records else -1

    def stored(self, number):
        """Wait until the store has everything."""
        last = self.decided(number)[-1]["offset"]
        self.until(lambda: (head := self.store.head(number)) is not None and head.verdict_offset >= last)

    def lose_last(self, number, grown):
        """No worker runs any more, and of the decision log its last effective record is lost; the store stands on it.

        `grown`: records that another history has brought since. What workers kept elsewhere is lost as well, as it is
        behind a resume.
        """
        self.stop()
        self.broker.truncate_from(TOPICS.verdicts, number, self.decided(number)[-1]["offset"])
        self.broker.truncate_from(TOPICS.heads, number, 0)
        for _ in range(grown):
            self.broker.append(TOPICS.verdicts, number, b"", b"{}")

    # --- as a command sees it ---

    def source(self):
        reader = MemoryReader(self.broker)
        return HoldsSource(reader, TOPICS, INCARNATION, self.verifier(), self.clock, self._offset_at)

    def realm(self, store=None, signer=None):
        @contextmanager
        def voice():
            yield Voice(MemoryWriter(self.broker), signer or UnsignedSigner(), REALM)

        @contextmanager
        def opened():
            yield store or self.store

        return HoldsRealm(REALM, self.source(), PARTITIONS, voice, opened)

    def _offset_at(self, number, at_ms):
        records = self.broker.read(TOPICS.verdicts, number, 0, 100_000)
        return next((r.offset for r in records if (r.timestamp_ms or 0) >= at_ms), None)


def _covers(body, offset):
    first, last = body.get("covers", (0, -1))
    return first <= offset <= last
