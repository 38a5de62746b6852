"""A broker goes away and comes back: the same worker process decides on, and history is whole."""

import time

import pytest
from own_realm import OwnRealm, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

LANE = "acme"
RULES = """
rule_set: production
default: deny
selections: {any: "true"}
rules:
  - {id: allowed, effect: approve, when: "intent.action in identity.actions"}
  - id: few
    effect: deny
    when: any
    correlation: {type: event_count, rules: [any], group-by: [agent_id], timespan: 1h, condition: {gt: 3}}
"""
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
