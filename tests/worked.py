"""A worker on the memory log that has decided a random stretch of inputs: what it was sent, and what it answered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from harness_stream.core import limits
from harness_stream.core.ids import id_time_ms
from harness_stream.core.lanes import partition_of
from harness_stream.core.model import TABLES
from harness_stream.core.partition import Phase
from harness_stream.wire.decisions import read_body
from tests.simulation.world import ACTIONS, AGENTS, PARTITIONS, TOPICS, World

if TYPE_CHECKING:
    import random


class Worked:
    """A worker in the memory world without faults: what it was sent, and what it answered."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed, workers=1)
        row = {"agent_id": "judge", "tenant": "court", "roles": ["approver"]}
        self.world.broker.append(TOPICS.identity, 0, b"judge", orjson.dumps(row))
        self.sent: list[tuple[int, bytes, str | None]] = []  # append time, value, intent id of an approval
        self.settle()

    def act(self, choice: random.Random) -> None:
        agent = choice.choice(list(AGENTS))
        kind = choice.choices(("intent", "again", "garbage", "outcome", "approval"), (12, 1, 1, 2, 3))[0]
        if kind == "intent":
            self._send(agent, self.world.send(agent_id=agent, by=agent, action=choice.choice((*ACTIONS, "email.send"))))
        elif kind == "garbage":
            self._publish(agent, b'{"type": "intent"}')
        elif kind == "again" and (young := self._young()):
            value = choice.choice(young)
            self._publish(json.loads(value)["agent_id"], value)
        elif kind in {"outcome", "approval"}:
            self._about_a_verdict(kind, choice)
        self.settle()

    def _young(self) -> list[bytes]:
        """Intents whose ids are not too old yet: a replay does not look at the age of ids, a worker does."""
        oldest = self.world.clock.now_ms() - limits.ID_AGE_MS_MAX // 2
        return [value for intent_id, value in self.world.sent.items() if id_time_ms(intent_id) >= oldest]

    def _about_a_verdict(self, kind: str, choice: random.Random) -> None:
        decision = "approve" if kind == "outcome" else "hold"
        # A line of the file names the intent, so it can only mean an intent's newest hold.
        known = {body["intent_id"]: (body, d) for body, d in self.bodies() if body.get("decision") == decision}
        if not known:
            return
        body, digest = choice.choice(list(known.values()))
        common = {"v": 1, "type": kind, "realm": "sim", "agent_id": body["agent_id"], f"{kind}_id": self.world.uuid7()}
        if kind == "outcome":
            named = {"intent_id": body["intent_id"], "verdict_digest": digest}
            fields = {"by": body["agent_id"], **named, "status": "done"}
        else:
            answer = choice.choice(("approve", "deny"))
            fields = {"by": "judge", "hold_digest": digest, "hold_offset": 0, "decision": answer}
        self._publish(body["agent_id"], orjson.dumps(common | fields), body["intent_id"])

    def _publish(self, agent: str, value: bytes, intent_id: str | None = None) -> None:
        self.world.publish(agent, value)
        self._send(agent, value, intent_id)

    def _send(self, agent: str, value: bytes, intent_id: str | None = None) -> None:
        partition = partition_of(AGENTS[agent], PARTITIONS)
        self.sent.append((self.world.everything(TOPICS.intents, partition)[-1].timestamp_ms or 0, value, intent_id))

    def settle(self) -> None:
        """Until everything is answered and every table was looked at just now."""
        (member,) = self.world.members
        for _ in range(2_000):
            self.world.turn()
            now_ms = self.world.clock.now_ms()
            fresh = all(now_ms - table.fresh_as_of < limits.FRESH_MS_MAX / 2 for table in member.worker.tables.values())
            if fresh and all(self._answered(member.worker.owners.get(p), p) for p in range(PARTITIONS)):
                return
        raise AssertionError("the worker does not settle")

    def _answered(self, owner: Any, partition: int) -> bool:
        end = self.world.broker.bounds(TOPICS.intents, partition)[1]
        deciding = owner is not None and owner.phase is Phase.DECIDING
        return deciding and owner.place.header.next_input == end and not owner.in_flight

    def rows(self) -> list[tuple[str, Any]]:
        """Table and row, all there are."""
        topics = {name: TOPICS.table(name) for name in TABLES}
        values = [(name, r.value) for name, topic in topics.items() for r in self.world.everything(topic, 0)]
        return [(name, TABLES[name].model_validate_json(value)) for name, value in values]

    def bodies(self) -> list[tuple[dict[str, Any], str]]:
        found = [r for p in range(PARTITIONS) for r in self.world.everything(TOPICS.verdicts, p)]
        return [(dict(body), digest) for body, digest in (read_body(r.value) for r in found) if "covers" in body]

    def lines(self) -> list[bytes]:
        """The file of what was sent: verdicts have other digests there, so lines name the intent instead."""
        return [self._line(*sent) for sent in self.sent]

    def _line(self, at_ms: int, value: bytes, intent_id: str | None) -> bytes:
        body = orjson.loads(value) | {"at": at_ms}
        if body["type"] == "approval":
            del body["hold_digest"]
            body["intent_id"] = intent_id
        body.pop("verdict_digest", None)
        return orjson.dumps(body)
