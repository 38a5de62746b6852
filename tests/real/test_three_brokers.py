"""Three real brokers: one may be killed, two killed stop everything, and a log that all three have shortened is noticed.

The tests share one cluster and one worker, and each begins with what the one before left behind.
"""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import redis
from own_realm import OwnRealm, wait_until
from real_servers import open_own_stack, unavailable

from harness_stream.adapters.kafka.admin import KafkaAdmin
from harness_stream.adapters.kafka.log import KafkaReader
from harness_stream.client.blocking import HarnessSync
from harness_stream.core.audit.answers import FORGOTTEN, RESUMED
from harness_stream.core.fold import Place
from harness_stream.core.limits import CHECKPOINT_INTERVAL_MS
from harness_stream.errors import BrokerUnavailable, HarnessError, TimedOut, Unreachable
from harness_stream.runtime.mover import is_filling
from harness_stream.wire.decisions import digest_of
from tests.log_checker import check_terminal
from tests.rule_texts import ALLOWED, budget, rule_set

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

PARTITIONS, AGENTS, TENANTS, LANE = 2, 100, 10, "tenant-0"
RULES = rule_set(ALLOWED, budget(20, "24h"), any="true")
ACTIONS = ["crm.read", "email.send", "search.query", "files.read"]
TABLES = {
    "identity": [
        *(
            {"agent_id": f"agent-{n}", "tenant": f"tenant-{n % TENANTS}", "actions": ACTIONS, "workloads": ["w"]}
            for n in range(AGENTS)
        ),
        {"agent_id": "actor", "tenant": LANE, "actions": ["files.write"], "workloads": ["w"]},
    ],
    "infrastructure": [],
}
SERVES_AGAIN_S = 60  # three JVMs start, elect and catch up on two shared cores
SHORT_MS = 4_000
DECIDED = {"approve", "Denied"}
TOLD = DECIDED | {"TimedOut", "Unreachable"}


class Cluster:
    """The realm, its worker, and the three brokers under them."""

    def __init__(self, stack, realm):
        self.stack, self.realm = stack, realm
        self.partition = realm.partition_of(LANE)

    def leader(self):
        """The broker that leads the decision log's partition of our lane; None while that is not known."""
        (found,) = self._described(self.realm.topics.verdicts)
        leader = found and found.partitions[self.partition].leader
        return next((b for b in self.stack.brokers if leader is not None and b.node_id == leader.id), None)

    def _described(self, *names):
        """By a client of its own each time: one that has lost its controller waits for it, and only for it."""
        try:
            return list(KafkaAdmin(self.realm.settings.bootstrap).describe(list(names)).values())
        except BrokerUnavailable:
            return [None] * len(names)

    def restore(self):
        """All brokers run, and have all records."""
        self.stack.start_brokers()
        wait_until(self._in_sync, why=lambda: "replicas stay behind", limit_s=SERVES_AGAIN_S)

    def _in_sync(self):
        topics = self.realm.topics
        found = self._described(topics.intents, topics.verdicts, topics.heads, topics.chains)
        return all(topic and all(len(p.isr) == len(self.stack.brokers) for p in topic.partitions) for topic in found)

    def quiet_end(self):
        """End of our decision log as soon as nobody writes: the last checkpoint of the busy second is in it."""
        ends = []

        def quiet():
            ends.append(self.realm.end_of(self.realm.topics.verdicts, self.partition))
            time.sleep(CHECKPOINT_INTERVAL_MS / 1000)
            return len(ends) > 2 and len(set(ends[-3:])) == 1

        wait_until(quiet, why=lambda: f"it goes on: {ends}")
        return ends[-1]

    def decided(self):
        """How far the decision logs reach, all partitions together."""
        return sum(self.realm.end_of(self.realm.topics.verdicts, p) for p in range(PARTITIONS))


def prepared(realm):
    """Leaders of new topics take some moments on a busy machine, and rows are given up after three seconds."""
    try:
        return realm.prepare()
    except BrokerUnavailable:
        return None


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with open_own_stack(brokers=3) as stack:
        try:
            stack.up()
        except HarnessError as error:
            unavailable(error.message)
        realm = OwnRealm(
            *(stack.bootstrap, stack.redis_url, tmp_path_factory.mktemp("three")),
            rules=RULES,
            tables=TABLES,
            partitions=PARTITIONS,
            replication=3,
        )
        wait_until(lambda: prepared(realm), why=lambda: "new topics take no rows", limit_s=SERVES_AGAIN_S)
        with realm.worker():
            yield Cluster(stack, realm)


@contextmanager
def load(realm, intents, deadline_ms):
    """Many agents in a process of their own; yields what waits for its end and says what each intent was told."""
    s, numbers = realm.settings, (PARTITIONS, 0, intents, AGENTS, TENANTS, deadline_ms)
    script = str(Path(__file__).with_name("load_client.py"))
    command = [sys.executable, script, s.bootstrap, s.prefix, *map(str, numbers)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def answers():
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()[-3000:]
        return {intent: told.partition(":")[0] for intent, told in json.loads(out).items()}

    try:
        yield answers
    finally:
        process.kill()
        process.wait()


@contextmanager
def actor(realm):
    """Something that an agent does, and each time that it did."""
    s, done = realm.settings, []
    with HarnessSync.connect(
        agent="actor", lane=LANE, workload="w", bootstrap=s.bootstrap, prefix=s.prefix, realm=s.realm, dev=True
    ) as harness:
        yield harness.chain().guard("files.write", deadline_ms=SHORT_MS)(lambda: done.append(1)), done


def acts(act):
    """Was it approved and run, by the deadline?"""
    try:
        act()
    except (TimedOut, Unreachable):
        return False
    return True


def caught_up(realm):
    """Is every input covered? Clients wait for none that is past its deadline, and workers answer it all the same."""
    for partition in range(realm.settings.partitions):
        inputs, decisions = (realm.bodies(topic, partition) for topic in (realm.topics.intents, realm.topics.verdicts))
        covered = max((body["covers"][1] for body in decisions.values() if "covers" in body), default=-1)
        if covered < max(inputs, default=-1):
            return False
    return True


def check_truth(realm, answers):
    """The log is right in itself, and nobody was told anything else than what stands in it."""
    wait_until(lambda: caught_up(realm), why=lambda: "some inputs are not answered", limit_s=SERVES_AGAIN_S)
    reports = realm.check()
    verdicts = {b["intent_id"]: b["decision"] for r in reports for b in r.effective if b["kind"] == "verdict"}
    approved = {intent for intent, told in answers.items() if told == "approve"}
    assert approved <= {intent for intent, decision in verdicts.items() if decision == "approve"}
    check_terminal(reports, {intent for intent, told in answers.items() if told in DECIDED})


def cpu_of_asking_s(realm, seconds):
    """CPU time that this process takes to ask for ends as often as a worker does."""
    began_s = time.process_time()
    with closing(KafkaReader(realm.settings.bootstrap)) as reader:
        for turn in range(10 * seconds):
            reader.ask_ends([(realm.topics.verdicts, p) for p in range(PARTITIONS)], 100 * turn)
            reader.ends()
            time.sleep(0.1)
    return time.process_time() - began_s


def test_a_leader_killed_under_load_loses_and_doubles_nothing(cluster):
    began = cluster.decided()
    with load(cluster.realm, 1_000, deadline_ms=30_000) as answers_of:
        wait_until(lambda: cluster.decided() > began + 60, why=lambda: "no load")
        killed = cluster.leader()
        killed.kill()
        assert cpu_of_asking_s(cluster.realm, 3) < 1, "what clients burn is taken from the brokers that elect"
        wait_until(
            lambda: cluster.leader() not in {None, killed}, why=lambda: "no other leader", limit_s=SERVES_AGAIN_S
        )
        answers = answers_of()
    kinds = Counter(answers.values())
    assert kinds.keys() <= TOLD, kinds
    assert list(answers.values())[-1] in DECIDED, "it is served again, by two brokers"
    cluster.restore()
    check_truth(cluster.realm, answers)


def test_two_killed_brokers_mean_silence_and_nothing_wrong_afterwards(cluster):
    began = cluster.decided()
    with actor(cluster.realm) as (act, done), load(cluster.realm, 800, deadline_ms=SHORT_MS) as answers_of:
        act()
        wait_until(lambda: cluster.decided() > began + 60, why=lambda: "no load")
        first = cluster.leader()
        second = next(broker for broker in cluster.stack.brokers if broker is not first)
        first.kill()
        second.kill()
        assert [acts(act) for _ in range(2)] == [False, False]
        assert done == [1]
        cluster.restore()
        wait_until(lambda: acts(act), why=lambda: "nobody decides", limit_s=SERVES_AGAIN_S)
        assert done == [1, 1]
        answers = answers_of()
    kinds = Counter(answers.values())
    assert kinds.keys() <= TOLD, kinds
    check_truth(cluster.realm, answers)


def newest(stack, folder, copies):
    """Each broker's copy of a log folder, as it stands on its disk."""
    for broker in stack.brokers:
        shutil.copytree(broker.data / folder, copies / broker.name)


def put_back(stack, folder, copies):
    """All brokers lose their power, and come back with an older disk."""
    for broker in stack.brokers:
        broker.kill()
    for broker in stack.brokers:
        shutil.rmtree(broker.data / folder)
        shutil.copytree(copies / broker.name, broker.data / folder)


def redis_as_it_is(realm):
    with closing(redis.Redis.from_url(realm.settings.redis_url)) as client:
        return {key: client.dump(key) for key in client.scan_iter()}


def bring_back(realm, kept):
    """Redis comes back with an older dump, at once: a worker that serves would write between two keys."""
    with closing(redis.Redis.from_url(realm.settings.redis_url)) as client, client.pipeline(transaction=True) as steps:
        steps.flushall()
        for key, value in kept.items():
            steps.restore(key, 0, value)
        steps.execute()


def stands_on_the_log(realm, partition):
    """Is what moved Redis last a record of the decision log?"""
    with closing(realm._store()) as store:
        head = store.head(partition)
    place = None if head is None or is_filling(head) else Place.from_json(json.loads(head.header))
    records = {r.offset: digest_of(r.value) for r in realm.records(realm.topics.verdicts, partition)}
    return place is not None and records.get(place.offset) == place.digest


def test_a_log_that_all_three_have_shortened_halts_is_resumed_and_says_so_for_ever(cluster, tmp_path):
    realm, number = cluster.realm, cluster.partition
    folder = f"{realm.topics.verdicts}-{number}"
    with actor(realm) as (act, done):
        act()
        left = cluster.quiet_end()
        newest(cluster.stack, folder, tmp_path)
        for _ in range(3):
            act()
        wait_until(lambda: realm.standings()[number]["checkpoint_offset"] >= left, why=lambda: "no checkpoint")
        of_before = redis_as_it_is(realm)
        put_back(cluster.stack, folder, tmp_path)
        cluster.restore()
        acted = len(done)
        assert not acts(act)
        assert len(done) == acted
    halted = realm.standings(exit_code=1)[number]
    assert (halted["activity"], halted["troubles"]) == ("halted", ["contradicted"])
    assert halted["decision_end"] <= halted["checkpoint_offset"]
    assert halted["lag"] == halted["input_end"] - halted["next_input"] > 0
    assert halted["checkpoint_age_ms"] > 0

    said = realm.harness("partitions", "resume", str(number), "--reason", "all disks restored", "--yes")
    assert "lost for good" in said
    assert f"partition {number} was claimed with epoch {halted['epoch'] + 2}" in said
    row = realm.standings()[number]
    assert (row["activity"], row["troubles"], row["lag"]) == ("deciding", [], 0)
    with actor(realm) as (act, done):
        wait_until(lambda: acts(act), why=lambda: "nobody decides")
        assert done == [1]
        bring_back(realm, of_before)  # it ends behind the records that were lost
        assert acts(act)
        wait_until(lambda: stands_on_the_log(realm, number), why=lambda: "Redis stays with what was lost")

    audit = realm.harness("log", "verify", "--full")
    assert '"all disks restored"; ' in audit
    assert f"inputs {halted['next_input']} to {halted['input_end'] - 1} left out" in audit
    assert f"to {halted['checkpoint_offset']} lost" in audit
    assert "nothing wrong in" in audit
    assert "resumed: " in audit
    assert not any(why in audit for why in (RESUMED, FORGOTTEN)), "what was left of history still proves answers"
