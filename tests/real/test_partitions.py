"""`harness partitions` and its `resume` on real servers: a history that nothing reaches any more, and life after it."""

import pytest
from confluent_kafka import TopicPartition
from own_realm import OwnRealm, wait_until

from harness_stream.adapters.kafka.admin import KafkaAdmin

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

RULES = """
rule_set: production
default: deny
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
"""
TABLES = {
    "identity": [{"agent_id": "reader-1", "tenant": "acme", "actions": ["crm.read"], "workloads": ["w-1"]}],
    "infrastructure": [{"workload_id": "w-1"}],
}
LANE = "acme"


@pytest.fixture
def realm(real_stack, tmp_path):
    return OwnRealm(real_stack.bootstrap, real_stack.redis_url, tmp_path, rules=RULES, tables=TABLES).prepare()


def read(realm):
    return realm.answer(realm.send(realm.intent("reader-1"), LANE))


def lose_history(realm, partition):
    """Retention takes the log up to its last verdict, and Redis is emptied; no snapshot was written yet."""
    admin = KafkaAdmin(realm.settings.bootstrap)
    admin.describe([realm.topics.verdicts])  # adapters/kafka/leaders.py says why
    last = max(o for o, b in realm.bodies(realm.topics.verdicts, partition).items() if b["kind"] == "verdict")
    (done,) = admin.client.delete_records([TopicPartition(realm.topics.verdicts, partition, last)]).values()
    admin.result(done)
    store = realm._store()
    while not store.clear(partition, store.head(partition)):
        pass
    store.close()


def test_a_partition_whose_history_is_gone_halts_is_resumed_and_decides_again(realm):
    number = realm.partition_of(LANE)
    with realm.worker():
        for _ in range(3):
            assert read(realm)["decision"] == "approve"
        row = realm.standings()[number]
        assert (row["activity"], row["lag"], row["next_input"], row["troubles"]) == ("deciding", 0, 3, [])
    lose_history(realm, number)
    row = realm.standings(exit_code=1)[number]
    assert (row["activity"], row["troubles"]) == ("halted", ["history_gone"])
    words = ("partitions", "resume", str(number), "--reason", "disk lost", "--yes")
    assert "--forget-history" in realm.harness(*words, exit_code=2)
    with realm.running("harness_stream", "worker", "--metrics-port", "0", ready="halted"):
        said = realm.harness(*words, "--forget-history")
        assert "the history of every agent of this partition" in said
        assert f"partition {number} was claimed with epoch" in said
        place = realm.send(realm.intent("reader-1"), LANE)
        verdicts = wait_until(
            lambda: [
                b for b in realm.bodies(realm.topics.verdicts, number).values() if b.get("covers") == [place[1]] * 2
            ],
            why=lambda: realm.harness("partitions"),
        )
        assert verdicts[0]["decision"] == "approve"
        assert realm.standings()[number]["troubles"] == []
