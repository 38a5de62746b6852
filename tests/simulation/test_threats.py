"""What docs/threat-model.md promises and no other test tries: lies in places that are believed, and who finds them."""

from dataclasses import replace

import orjson
import pytest

from harness_stream.adapters.memory.log import MemoryReader
from harness_stream.adapters.signing import UnsignedVerifier
from harness_stream.cli.decision_log import DecisionLog
from harness_stream.cli.log_verify import bundles_in
from harness_stream.core.audit import Kind
from harness_stream.core.partition import Phase
from harness_stream.runtime.audit_run import AuditedRealm, AuditPorts, AuditRun
from tests.simulation.test_regressions import AGENT, HOME, quiet, restarted, turns
from tests.simulation.test_resume import resumed
from tests.simulation.world import PARTITIONS, TOPICS

VERIFIER = UnsignedVerifier()
UNIT = f"a:{AGENT}"


def ask(world, action, *resources, **over):
    """Decision and engine's word or rules of the answer to one intent."""
    asked = orjson.loads(world.send(agent_id=AGENT, action=action, resources=list(resources), **{"by": AGENT} | over))
    turns(world, 80)
    bodies = (orjson.loads(record.value) for record in world.everything(TOPICS.verdicts, HOME))
    verdict = next(body for body in bodies if body.get("intent_id") == asked["intent_id"])
    return verdict["decision"], {reason.get("rule") or reason["code"] for reason in verdict["reasons"]}


def wrong(world):
    """Kinds of what `log verify --full` finds."""
    reader = MemoryReader(world.broker)
    log = DecisionLog(reader, TOPICS, "i1", VERIFIER, world.clock)
    ports = AuditPorts(reader, MemoryReader(world.broker), world.clock, VERIFIER, bundles_in(reader, TOPICS, VERIFIER))
    start, realm = log.oldest(HOME), AuditedRealm("sim", TOPICS, PARTITIONS)
    audit = AuditRun(ports, realm, start.place, start.ends, log.held(HOME), full=True)
    return {found.kind for found in audit.findings() if found is not None}


def read_personal_data():
    """An agent that has read personal data, in store and snapshots alike; what it sends out from then on is held."""
    world = quiet(snapshot_interval_ms=300)
    assert ask(world, "crm.read", "crm://a")[0] == "approve"
    turns(world, 1_500)
    return world


def without_labels(stored):
    assert b'["pii"]' in stored
    return stored.replace(b'["pii"]', b"[]")


def in_the_store(world):
    dump = world.store.snapshot()
    unit = dump[HOME].units[UNIT]
    dump[HOME].units[UNIT] = replace(unit, base=without_labels(unit.base))
    world.store.restore(dump)


def in_a_snapshot(world):
    record = next(r for r in reversed(world.everything(TOPICS.chains, HOME)) if f"/{UNIT}@".encode() in r.key)
    world.broker.append(TOPICS.chains, HOME, record.key, without_labels(record.value), record.headers)
    world.store.flush()


def nowhere(world):
    """The same without a lie."""


@pytest.mark.parametrize(
    ("lie", "decision", "found"),
    [
        (nowhere, "hold", set()),
        (in_the_store, "approve", {Kind.VERDICT}),
        (in_a_snapshot, "approve", {Kind.VERDICT}),
    ],
)
def test_a_chain_that_was_changed_where_it_is_stored_is_found_by_who_recomputes(lie, decision, found):
    """Workers believe what they stored. The log does not: it has the events that the stored chain leaves out."""
    world = read_personal_data()
    lie(world)
    restarted(world)
    turns(world, 1_500)
    assert ask(world, "email.send", "mail://x")[0] == decision
    assert wrong(world) == found


def test_an_agent_that_speaks_for_another_is_denied_whatever_that_one_may():
    world = quiet()
    other = "agent-3"  # of the same lane
    assert ask(world, "crm.read", "crm://b") == ("approve", {"allowed"})
    assert ask(world, "crm.read", "crm://b", by=other) == ("deny", {"not_speaker"})
    assert ask(world, "crm.read", "crm://b", by="enforcer-0")[0] == "approve"
    assert ask(world, "crm.read", "crm://b", by="enforcer-1") == ("deny", {"not_speaker"})


def test_a_forged_checkpoint_halts_whoever_starts_from_it_and_is_resumed():
    world = quiet()
    assert ask(world, "crm.read", "crm://b")[0] == "approve"
    turns(world, 600)
    newest = world.everything(TOPICS.heads, HOME)[-1]
    forged = orjson.dumps(orjson.loads(newest.value) | {"record_digest": "0" * 64})
    world.broker.append(TOPICS.heads, HOME, newest.key, forged, newest.headers)
    assert restarted(world).phase is Phase.HALTED
    resumed(world)
    turns(world, 4_000)
    assert ask(world, "crm.read", "crm://b")[0] == "approve"
