"""The decision log's bytes: one golden file a kind, as a worker under a virtual clock writes them.

A change here is a change of the log's format: every reader of a running realm sees it. If it is meant, say so in the
changelog and write the files anew: HARNESS_WRITE_GOLDEN=1 python -m pytest tests/simulation/test_golden_records.py
"""

import os
from pathlib import Path

import orjson
import pytest

from harness_stream.core.records import RECORDS
from tests.simulation.world import PARTITIONS, TOPICS, World

GOLDEN = Path(__file__).parents[1] / "golden" / "log"
KINDS = sorted(set(RECORDS) - {"resume"})  # a resume is an operator's, no worker writes it


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
    found: dict[str, bytes] = {}
    for partition in range(PARTITIONS):
        for record in world.everything(TOPICS.verdicts, partition):
            found.setdefault(orjson.loads(record.value)["kind"], record.value)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_those_of_the_golden_file(written: dict[str, bytes], kind: str) -> None:
    file = GOLDEN / f"{kind}.json"
    if os.environ.get("HARNESS_WRITE_GOLDEN"):
        file.write_bytes(written[kind])
    assert written[kind] == file.read_bytes()
    RECORDS[kind].model_validate_json(written[kind])
