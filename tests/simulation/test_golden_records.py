"""The decision log's bytes: one golden file a kind, as a worker under a virtual clock writes them.

A change here is a change of the log's format: every reader of a running realm sees it. If it is meant, say so in the
changelog and write the files anew: HARNESS_WRITE_GOLDEN=1 python -m pytest tests/simulation/test_golden_records.py
"""

import os
from pathlib import Path

import orjson
import pytest

from harness_stream.core.records import RECORDS
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, World

GOLDEN = Path(__file__).parents[1] / "golden" / "log"
KINDS = sorted(RECORDS)
TURNS_TO_A_CHECKPOINT = 600
# A crashed worker's session runs out first, and its successor loads.
TURNS_TO_A_HALT = 4_000

# Of their own, so that the simulation may try other rules without changing these bytes.
RULES = """
rule_set: sim
default: deny
rules:
  - {id: allowed, effect: approve, when: "intent.action in identity.actions"}
"""


def settle(world: World) -> None:
    world.turn()
    while not world.settled():
        world.turn()


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    world = World(7, workers=1, rules=RULES)
    settle(world)
    about = {"agent_id": "agent-1", "by": "agent-1", "action": "crm.read", "resources": ["crm://customers/1"]}
    sent = world.send(**about, measures={"rows": 3})
    world.publish("agent-1", sent)
    world.publish("agent-1", b"no json")
    mandate = {"v": 1, "type": "mandate", "realm": "sim", "by": "agent-1", "agent_id": "agent-1", "chain_id": "c"}
    expires_at = world.clock.now_ms() + 60_000
    world.publish("agent-1", orjson.dumps(mandate | {"mandate_id": world.uuid7(), "expires_at": expires_at}))
    for _ in range(200):
        world.turn()
    settle(world)
    first = first_of_each_kind(world)
    lose_a_verdict(world)
    stop_an_agent(world)
    return first_of_each_kind(a_flood()) | first_of_each_kind(world) | first


def first_of_each_kind(world: World) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for partition in range(PARTITIONS):
        for record in world.everything(TOPICS.verdicts, partition):
            found.setdefault(orjson.loads(record.value)["kind"], record.value)
    return found


def lose_a_verdict(world: World) -> None:
    """A checkpoint names a verdict that the log has not any more: its partition halts, and an operator resumes it."""
    for _ in range(TURNS_TO_A_CHECKPOINT):
        world.turn()
    partition, offset = next(
        (partition, record.offset)
        for partition in range(PARTITIONS)
        for record in world.everything(TOPICS.verdicts, partition)
        if orjson.loads(record.value)["kind"] == "verdict"
    )
    world.broker.truncate_from(TOPICS.verdicts, partition, offset)
    world.crash(0)
    for _ in range(TURNS_TO_A_HALT):
        world.turn()
    world.resume_halted()


def stop_an_agent(world: World) -> None:
    """What it has running is told of by the owner of its partition."""
    world.heal()
    settle(world)
    world.publish("agent-1", world.send(agent_id="agent-1", by="agent-1", action="crm.read"))
    for _ in range(200):
        world.turn()
    row = {"agent_id": "agent-1", "tenant": AGENTS["agent-1"], "status": "killed"}
    world.put_row("identity", "agent-1", orjson.dumps(row))
    settle(world)
    for _ in range(200):
        world.turn()


def a_flood() -> World:
    """Three that nobody looks at in time, and one whose clock is ahead of the worker's.

    In a world of its own, so that these bytes do not hang on when the other one's owner comes back.
    """
    world = World(7, workers=1, rules=RULES)
    settle(world)
    for _ in range(3):
        world.send(agent_id="agent-0", by="agent-0", action="crm.read", deadline_ms=50)
    world.clock.advance(100)
    world.broker.append_off_ms = 10_000
    world.send(agent_id="agent-0", by="agent-0", action="crm.read")
    world.broker.append_off_ms = 0
    settle(world)
    return world


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_the_golden_file(written: dict[str, bytes], kind: str) -> None:
    file = GOLDEN / f"{kind}.json"
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        file.write_bytes(written[kind])
    assert written[kind] == file.read_bytes()
    RECORDS[kind].model_validate_json(written[kind])
