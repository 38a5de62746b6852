"""What parts of the protocol are there for: each case goes wrong without one of them (tests/mutants leaves them out)."""

import hashlib

import orjson

from harness_stream.core import limits
from harness_stream.core.ids import ids_unit
from harness_stream.core.partition import Phase
from tests.log_checker import fold_partition
from tests.simulation.faults import NETWORK
from tests.simulation.judge import check
from tests.simulation.script import run
from tests.simulation.test_regressions import AGENT, HOME, act, owner, quiet, turns
from tests.simulation.world import TOPICS, World, bundle, compiled

# Nothing but publishes that are lost, late or wrongly reported.
NETWORK_SEEDS = range(1, 9)


def bodies(world, since=0):
    return [orjson.loads(record.value) for record in world.everything(TOPICS.verdicts, HOME)[since:]]


def effective(world):
    windows = {hashlib.sha256(bundle()).hexdigest(): compiled(bundle())}
    logs = (world.everything(topic, HOME) for topic in (TOPICS.intents, TOPICS.verdicts))
    return fold_partition(*logs, HOME, "i1", windows).effective


def until(happened, turn):
    """Go on until it has happened; a session, a load and whatever else takes time end in far fewer turns."""
    for _ in range(10_000):
        if happened():
            return
        turn()
    raise AssertionError("it did not happen")


def last_answer(world):
    return next(body for body in reversed(bodies(world)) if body["kind"] in {"verdict", "reject"})


def test_whatever_becomes_of_publishes_history_is_right_and_goes_on():
    """Rollback and resync: what was decided on a record that never counted must be forgotten and decided again."""
    for seed in NETWORK_SEEDS:
        check(run(seed, NETWORK, count=100))


def deciding_in(member):
    """The member's ownership of HOME, if it decides there."""
    owner = member.worker.owners.get(HOME)
    return owner if owner is not None and owner.phase is Phase.DECIDING else None


def test_what_a_former_owner_decides_once_its_successor_is_ready_is_void():
    """The claim: at rest nothing else stands between the head and a former owner's record, so its link fits."""
    world = World(1, workers=2)
    world.heal()
    former, successor = sorted(world.members, key=lambda member: deciding_in(member) is None)
    former.paused_until_ms = world.clock.elapsed_ms() + 60_000
    until(lambda: deciding_in(successor), world.turn)
    turns(world, 100)
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    end = world.broker.bounds(TOPICS.verdicts, HOME)[1]
    still_deciding = deciding_in(former)
    still_deciding.offer(world.everything(TOPICS.intents, HOME)[-1:])
    still_deciding.step()  # it has heard nothing of the group
    world.clock.advance(10)
    decided = next(body for body in bodies(world, end) if body["kind"] == "verdict")
    assert decided not in effective(world)


def test_a_copy_is_rejected_though_its_id_has_left_memory():
    world = quiet(hot_units_max=2, snapshot_interval_ms=100)
    sent = world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    first = orjson.loads(sent)["intent_id"]
    turns(world, 40)
    until(lambda: ids_unit(first) not in set(owner(world).state.units()), lambda: act(world))
    world.publish(AGENT, sent)
    turns(world, 100)
    answer = last_answer(world)
    assert (answer["kind"], answer.get("reason"), answer.get("id")) == ("reject", "duplicate", first)


def test_a_table_that_no_longer_arrives_denies_after_a_second_if_it_has_gone_on():
    world = quiet()
    reader = world.members[0].worker._reading._reader
    reader.unfollow(TOPICS.identity, 0)
    suspended = {"agent_id": AGENT, "tenant": "tenant-0", "status": "suspended", "workloads": ["w1"]}
    world.broker.append(TOPICS.identity, 0, AGENT.encode(), orjson.dumps(suspended))
    began_ms = world.clock.elapsed_ms()
    aged_ms = began_ms + limits.FRESH_MS_MAX + limits.FRESH_QUERY_MS
    until(lambda: world.clock.elapsed_ms() > aged_ms, world.turn)
    act(world)
    answer = last_answer(world)
    assert (answer["decision"], answer["reasons"][0]["code"]) == ("deny", "stale_facts")
