"""A broker goes away and comes back: the same worker process decides on, and history is whole; one that is stopped
meanwhile ends as fast as ever."""

import os
import signal
import time

import pytest
from confluent_kafka.admin import AdminClient
from own_realm import PATIENCE_S, OwnRealm, wait_until

from harness_stream.core.limits import DRAIN_MS_MAX, SESSION_MS
from tests.rule_texts import ALLOWED, budget, rule_set

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

LANE = "acme"
# Draining takes all of its second, since nothing is confirmed; the rest is for a busy machine, and still far from the
# session that a member's client waits for before it gives up.
STOP_S_MAX = DRAIN_MS_MAX / 1000 + 2
assert STOP_S_MAX < SESSION_MS / 1000
RULES = rule_set(ALLOWED, budget(3, "1h"), any="true")
TABLES = {
    "identity": [{"agent_id": "good-1", "tenant": LANE, "actions": ["crm.read"], "workloads": ["w-1"]}],
    "infrastructure": [],
    "risk": [],
    "classification": [],
}


def decision(realm):
    return realm.answer(realm.send(realm.intent("good-1", deadline_ms=60_000), LANE))["decision"]


def test_a_worker_goes_on_when_the_broker_is_back(own_stack, tmp_path):
    realm = OwnRealm(own_stack.bootstrap, own_stack.redis_url, tmp_path, rules=RULES, tables=TABLES).prepare()
    with realm.worker():
        assert decision(realm) == "approve"
        own_stack.brokers[0].stop()
        time.sleep(7)  # longer than the group's session: the partitions are lost, and assigned again afterwards
        own_stack.brokers[0].start(lambda _: None)
        wait_until(lambda: decision(realm) in {"approve", "deny"}, why=lambda: "nobody decides", limit_s=60)
        assert [decision(realm) for _ in range(3)][-1] == "deny", "what was counted before the restart still counts"
    realm.check()


def stop_s(worker):
    """How long the process takes to end after SIGTERM; who asks again and again changes nothing."""
    began_s = time.monotonic()
    while worker.poll() is None:
        assert time.monotonic() - began_s < PATIENCE_S
        worker.terminate()
        time.sleep(0.001)
    assert worker.returncode == 0
    return time.monotonic() - began_s


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "silent"])
def test_a_worker_that_is_stopped_while_no_broker_answers_drains_for_its_second_and_ends(own_stack, tmp_path, number):
    realm = OwnRealm(own_stack.bootstrap, own_stack.redis_url, tmp_path, rules=RULES, tables=TABLES).prepare()
    broker = own_stack.brokers[0].running().pid
    with realm.worker() as worker:
        assert decision(realm) == "approve"
        os.kill(broker, number)
        took_s = stop_s(worker)
    own_stack.brokers[0].kill()  # a silent one would not end by being asked
    assert took_s < STOP_S_MAX


def test_a_stop_writes_final_checkpoints_and_leaves_the_group_so_that_others_need_not_wait(own_stack, tmp_path):
    realm = OwnRealm(own_stack.bootstrap, own_stack.redis_url, tmp_path, rules=RULES, tables=TABLES).prepare()
    with realm.worker() as worker:
        assert decision(realm) == "approve"
        stop_s(worker)
    assert members(realm) == [], "one that had only ended would be a member for its session of 6 s"
    newest = [max(realm.bodies(realm.topics.heads, partition).items())[1] for partition in range(2)]
    assert [body["final"] for body in newest] == [True, True]


def members(realm):
    group = realm.settings.group
    admin = AdminClient({"bootstrap.servers": realm.settings.bootstrap})  # dropped, it would answer nothing
    return admin.describe_consumer_groups([group])[group].result(10).members
