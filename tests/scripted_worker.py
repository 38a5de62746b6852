"""A worker that writes what a test tells it to: the decision log by hand, honest or not."""

import hashlib
import json
import threading

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import MemoryBroker, MemoryReader, MemoryWriter, lands_at_once
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedSigner, UnsignedVerifier
from harness_stream.client.credentials import Credentials
from harness_stream.client.enforcer import Enforcer
from harness_stream.client.request import Request
from harness_stream.client.session import Session
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.core.fold import Place, fold_header
from harness_stream.core.lanes import partition_of
from harness_stream.core.notice import Stopped, notice
from harness_stream.wire.topics import Topics

INCARNATION = "intents-1.verdicts-1"
TOPICS = Topics("harness")
RULES = {"digest": "d" * 64, "revision": 1}
LANE = "acme"
PARTITIONS = 4
HOME = partition_of(LANE, PARTITIONS)


def sha(value):
    return hashlib.sha256(value).hexdigest()


def make_broker(now_ms, *, blocking=False):
    topics = dict.fromkeys((TOPICS.intents, TOPICS.verdicts, TOPICS.heads), PARTITIONS) | {TOPICS.rules: 1}
    return MemoryBroker(topics, now_ms, limits={TOPICS.intents: 65_536}, blocking=blocking)


def make_wiring(broker, clock, fate=lands_at_once):
    realm = ClientRealm("default", INCARNATION, PARTITIONS, TOPICS)
    return Wiring(
        realm, MemoryReader(broker), MemoryWriter(broker, fate=fate), clock, UnsignedSigner(), UnsignedVerifier()
    )


class Script:
    """One writer of one partition's decision log; `twin` makes the zombie that still believes it owns it."""

    def __init__(self, broker, partition=HOME, writer="a" * 32, place=None):
        self.broker, self.partition, self.writer = broker, partition, writer
        self.place = place or Place.genesis(INCARNATION, partition)

    @property
    def header(self):
        return self.place.header

    def twin(self, writer=None):
        return Script(self.broker, self.partition, writer or self.writer, self.place)

    def write(self, body, *, headers=UNSIGNED_HEADERS):
        """Append `body` as it is; follow it if it is effective."""
        value = json.dumps(body).encode()
        offset = self.broker.append(TOPICS.verdicts, self.partition, None, value, headers)
        if (header := fold_header(self.header, body, sha(value))) is not None:
            self.place = Place(header, offset, sha(value))
        return offset

    def claim(self, after="clean"):
        epoch = self.header.epoch + 1
        own = {"incarnation": INCARNATION, "epoch": epoch, "writer": self.writer}
        return self.write({"kind": "claim", **own, "after": after, "pending": False})

    def begin(self):
        """Claim and switch: ready to decide."""
        self.claim()
        start = self.header.next_input
        self.write({**self.linked("switch", start - 1), "rules": RULES})
        return self

    def linked(self, kind, last):
        h = self.header
        own = {"kind": kind, "incarnation": h.incarnation, "epoch": h.epoch, "writer": h.writer}
        return {**own, "prev": h.head, "covers": [h.next_input, last], "t": self.broker.now_ms()}

    def verdict_body(self, record, decision="approve", **other):
        intent = json.loads(record.value)
        return {
            **self.linked("verdict", record.offset),
            "decision": decision,
            "agent_id": intent["agent_id"],
            "intent_id": intent["intent_id"],
            "intent_digest": sha(record.value),
            "arguments_digest": intent["arguments_digest"],
            "enforcer_nonce": intent["enforcer_nonce"],
            "reasons": [{"code": "rule", "rule": "allowed", "effect": decision, "evidence": ["e-1", "e-2"]}],
            "shadow": [],
            "obligations": {},
            "valid_for_ms": 5_000 if decision == "approve" else 0,
            "hold_until": self.broker.now_ms() + 900_000 if decision == "hold" else None,
            "rules": RULES,
            "event": None,
            "inputs": {},
            **other,
        }

    def verdict(self, record, decision="approve", **other):
        return self.write(self.verdict_body(record, decision, **other))

    def denied(self, record, code="late", detail=None, **other):
        """A row of `denials`."""
        intent = json.loads(record.value)
        return {
            "offset": record.offset,
            "t": self.broker.now_ms(),
            "agent_id": intent["agent_id"],
            "intent_id": intent["intent_id"],
            "intent_digest": sha(record.value),
            "arguments_digest": intent["arguments_digest"],
            "enforcer_nonce": intent["enforcer_nonce"],
            "code": code,
            "detail": detail,
            "remember_until": self.broker.now_ms() + 130_000,
            **other,
        }

    def denials(self, rows, last):
        """A run of them that covers inputs up to `last`."""
        said = {"rules": RULES, "decided_at": self.broker.now_ms(), "engine": "e", "denied": rows}
        return self.write({**self.linked("denials", last), **said})

    def covered(self, record):
        """Approve something else: the record is covered, and its sender gets no answer."""
        foreign = {"intent_id": "0", "intent_digest": "0" * 64}
        return self.write({**self.verdict_body(record), **foreign})

    def _about(self, kind, record, **other):
        body = json.loads(record.value)
        own_id = body.get(f"{body['type']}_id")
        named = {"agent_id": body["agent_id"], "id": own_id, "digest": sha(record.value)}
        return self.write({**self.linked(kind, record.offset), **named, **other})

    def reject(self, record, reason, detail=None):
        return self._about("reject", record, reason=reason, detail=detail)

    def ack(self, record, refused=None):
        kind = json.loads(record.value)["type"]
        status = "accepted" if refused is None else "refused"
        return self._about("ack", record, event_type=kind, status=status, reason=refused, change=None)

    def skip(self, last, reason="garbage", named=()):
        body = self.linked("skip", last)
        offsets = [{"offset": o, "reason": r, "detail": None} for o, r in named]
        return self.write({**body, "reason": reason, "count": 1, "digest": "0" * 64, "offsets": offsets})

    def notice(self, agent="support-1", status="killed", **other):
        return self.write({**notice(self.header, Stopped(agent, status, 7)), **other})

    def close(self, record):
        """Take in the close of a chain."""
        mandate = json.loads(record.value)
        return self._about("ack", record, event_type="mandate", status="accepted", reason=None, change={"op": "close", "chain_id": mandate["chain_id"], "lane": LANE})

    def checkpoint(self, **other):
        """State the fold, in the log and in the heads topic."""
        p, h = self.place, self.header
        rules = None if h.rules is None else {"digest": h.rules[0], "revision": h.rules[1]}
        body = {
            "kind": "checkpoint",
            "incarnation": h.incarnation,
            "epoch": h.epoch,
            "writer": h.writer,
            "partition": self.partition,
            "verdict_offset": p.offset,
            "record_digest": p.digest,
            "head": h.head,
            "next_input": h.next_input,
            "rules": rules,
            "t": h.t,
            "crash_claims": 0,
            "snapshot_cut": -1,
            "dev": True,
            **other,
        }
        self.write(body)
        self.broker.append(TOPICS.heads, self.partition, b"0", json.dumps(body).encode(), UNSIGNED_HEADERS)


class World:
    """One enforcer and one scripted worker on a memory log, in virtual time; nothing happens by itself."""

    def __init__(self, fate=lands_at_once):
        self.clock = ManualClock()
        self.broker = make_broker(self.clock.now_ms)
        self.script = Script(self.broker)
        self.wiring = make_wiring(self.broker, self.clock, fate)
        self.abandoned = []
        self.enforcer = Enforcer(self.wiring, self._abandon)
        self._count = 0

    def run(self, turns=8):
        for _ in range(turns):
            self.enforcer.step()

    def wait(self, ms):
        """Let time pass in small steps, as the thread would see it."""
        for _ in range(ms // 10):
            self.clock.advance(10)
            self.enforcer.step()

    def request(self, **other):
        self._count += 1
        own_id = f"intent-{self._count}"
        body = {
            "type": "intent",
            "intent_id": own_id,
            "agent_id": "support-1",
            "arguments_digest": "5" * 64,
            "enforcer_nonce": self.enforcer.nonce,
        }
        value = json.dumps(body).encode()
        fields = {"id": own_id, "agent_id": "support-1", "lane": LANE, "value": value, "headers": []}
        shown = {"deadline_ms": 5_000, "subject": "`crm.read`", "arguments_digest": "5" * 64}
        return Request(**{"kind": "intent", **fields, **shown, **other})

    def ask(self, **other):
        """Submit an intent and let it be published."""
        future = self.enforcer.submit(self.request(**other))
        self.run()
        return future

    def inputs(self):
        return self.broker.read(TOPICS.intents, HOME, 0, 10_000)

    def last_input(self):
        return self.inputs()[-1]

    def _abandon(self, request, answer):
        self.abandoned.append((request.id, answer.digest))
        return self.request(kind="outcome", id=f"abandoned-{request.id}")


class LiveWorker:
    """A thread that answers every input by `policy(intent) -> (decision, other fields)`; acks everything else."""

    def __init__(self, broker, policy):
        self.broker, self.policy = broker, policy
        self.seen = []
        self.refuse = {}
        self._script = Script(broker).begin()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def of(self, kind):
        return [event for event in self.seen if event["type"] == kind]

    def _run(self):
        position = 0
        while not self._stopping:
            records = self.broker.read(TOPICS.intents, HOME, position, 1_000)
            for record in records:
                self._answer(record)
                position = record.offset + 1
            if not records:
                self.broker.wait(10)

    def _answer(self, record):
        event = json.loads(record.value)
        if event["type"] == "intent":
            decision, other = self.policy(event)
            if decision is not None:
                self._script.verdict(record, decision, **other)
        else:
            self._script.ack(record, self.refuse.get(event["type"]))
        self.seen.append(event)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self._stopping = True
        self.broker.wake()
        self._thread.join(5)


class Live:
    """A blocking memory log, a live worker, and what connects to them."""

    def __init__(self, policy=lambda _intent: ("approve", {})):
        self.clock = SystemClock()
        self.broker = make_broker(self.clock.now_ms, blocking=True)
        self.worker = LiveWorker(self.broker, policy)

    def connection(self):
        return {
            "agent": "support-1",
            "lane": LANE,
            "workload": "wl-support",
            "dev": True,
            "wiring": make_wiring(self.broker, self.clock),
        }

    def session(self):
        credentials = Credentials(agent_id="support-1", lane=LANE, dev=True)
        return Session(credentials, make_wiring(self.broker, self.clock))

    def __enter__(self):
        self.worker.__enter__()
        return self

    def __exit__(self, *exc):
        self.worker.__exit__(*exc)
