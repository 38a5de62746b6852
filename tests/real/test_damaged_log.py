"""A batch on a broker's disk is damaged: its partition halts and says so, all others go on, and every tool names it."""

import json

import pytest
from confluent_kafka import TopicPartition
from damaged_disk import turn_bit
from own_realm import OwnRealm, wait_until

from harness_stream.adapters.kafka.admin import KafkaAdmin
from harness_stream.core.lanes import partition_of
from tests.rule_texts import ALLOWED, budget, rule_set

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

LANE = "acme"
HURT = partition_of(LANE, 2)
OTHER_LANE = next(name for name in map("lane-{}".format, range(100)) if partition_of(name, 2) != HURT)
OTHER = 1 - HURT
RULES = rule_set(ALLOWED, budget(90, "1h"), any="true")
TABLES = {
    "identity": [
        {"agent_id": "good-1", "tenant": LANE, "actions": ["crm.read"], "workloads": ["w-1"]},
        {"agent_id": "other-1", "tenant": OTHER_LANE, "actions": ["crm.read"], "workloads": ["w-1"]},
    ],
    "infrastructure": [],
    "risk": [],
    "classification": [],
}


@pytest.fixture
def realm(own_stack, tmp_path):
    return OwnRealm(own_stack.bootstrap, own_stack.redis_url, tmp_path, rules=RULES, tables=TABLES).prepare()


def decided(realm, agent, lane):
    return realm.answer(realm.send(realm.intent(agent, deadline_ms=60_000), lane))["decision"]


def halted(realm):
    return realm.running("harness_stream", "worker", "--metrics-port", "0", ready=r"\[halted\]")


def exported(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def finds(text):
    return [line for line in exported(text) if "finding" in line]


def test_a_damaged_decision_log_halts_its_partition_and_every_tool_names_it(own_stack, realm):
    with realm.worker():
        for _ in range(5):
            assert decided(realm, "good-1", LANE) == "approve"
        assert decided(realm, "other-1", OTHER_LANE) == "approve"
    topic, disk = realm.topics.verdicts, own_stack.brokers[0].data
    effective = max(o for o, body in realm.bodies(topic, HURT).items() if body["kind"] == "verdict")
    other_end = realm.end_of(topic, OTHER)
    first, _ = turn_bit(disk, topic, HURT, effective)
    where = f"the record at {first} of `{topic}`/{HURT} cannot be read"
    with halted(realm):
        assert decided(realm, "other-1", OTHER_LANE) == "approve", "the other partition goes on"
        hurt, other = sorted(realm.standings(exit_code=1), key=lambda told: told["partition"] != HURT)
        assert (hurt["activity"], hurt["troubles"]) == ("halted", ["damaged"])
        assert where in hurt["concluded_from"]
        assert (other["activity"], other["troubles"]) == ("deciding", [])
        assert "another replica or a backup" in realm.harness("partitions", exit_code=1)
        assert where in realm.harness("partitions", "resume", str(HURT), "--reason", "x", "--yes", exit_code=2)
        found = finds(realm.harness("log", "verify", "--json", exit_code=1))
        assert [(f["finding"], f["partition"], f["offset"]) for f in found] == [("damaged", HURT, first)]
        assert where in found[0]["text"]
        told = realm.harness("log", "export", exit_code=4)
        assert f"partition {HURT} ends early" in told
        assert where in told
        lines = exported(told)
        assert [line["offset"] for line in lines if line["partition"] == HURT] == list(range(first))
        assert [line["offset"] for line in lines if line["partition"] == OTHER][: other_end + 1][-1] >= other_end
        turn_bit(disk, topic, HURT, effective)  # as it was, as a good replica has it
        wait_until(
            lambda: realm.standings(exit_code=None)[HURT]["activity"] == "deciding",
            why=lambda: "the worker does not go on by itself",
        )
        assert decided(realm, "good-1", LANE) == "approve"
    realm.check()


def test_a_damaged_input_halts_its_partition_which_is_resumed_behind_it(own_stack, realm):
    topic, disk = realm.topics.intents, own_stack.brokers[0].data
    with realm.worker():
        assert decided(realm, "good-1", LANE) == "approve"
    _, bad = realm.send(realm.intent("good-1", deadline_ms=60_000), LANE)
    realm.send(realm.intent("good-1", deadline_ms=60_000), LANE)
    turn_bit(disk, topic, HURT, bad)
    with halted(realm):
        assert decided(realm, "other-1", OTHER_LANE) == "approve", "the other partition goes on"
        hurt = realm.standings(exit_code=1)[HURT]
        assert hurt["troubles"] == ["input_damaged"]
        assert f"the record at {bad} of `{topic}`/{HURT} cannot be read" in hurt["concluded_from"]
        claims = [b for b in realm.bodies(realm.topics.verdicts, HURT).values() if b["kind"] == "claim"]
        assert len(claims) == 2, "one a start of a worker, and none a look of a halted one"
        resume = ("partitions", "resume", str(HURT), "--reason", "x", "--yes", "--next-input")
        assert "behind the batch" in realm.harness(*resume, str(bad), exit_code=2)
        assert "decides again" in realm.harness(*resume, str(bad + 1))
        assert decided(realm, "good-1", LANE) == "approve"
    assert [b["covers"] for b in realm.effective(HURT) if b["kind"] == "verdict"][-2:] == [[bad + 1] * 2, [bad + 2] * 2]


def test_whoever_asks_is_told_that_the_log_is_damaged(own_stack, realm):
    with realm.worker():
        assert decided(realm, "good-1", LANE) == "approve"
    topic = realm.topics.verdicts
    effective = max(o for o, body in realm.bodies(topic, HURT).items() if body["kind"] == "verdict")
    first, last = turn_bit(own_stack.brokers[0].data, topic, HURT, effective)
    sent = ("intents", "send", "--agent", "good-1", "--action", "crm.read")
    told = realm.harness(*sent, exit_code=3)
    assert f"the record at {first} of `{topic}`/{HURT} cannot be read" in told
    assert "no connection" not in told
    # Without another copy: what is damaged is deleted, and Redis still has the history.
    admin = KafkaAdmin(realm.settings.bootstrap)  # dropped, it would answer nothing
    admin.describe([topic])  # adapters/kafka/leaders.py says why
    [deleted] = admin.client.delete_records([TopicPartition(topic, HURT, last + 1)]).values()
    deleted.result(10)
    with realm.worker():
        assert "approve" in realm.harness(*sent)
