"""Who gets in, and who may do what: a broker with an authorizer, SCRAM and certificates; Redis with TLS and ACL users."""

from __future__ import annotations

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import redis
from certificates import made
from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)
from own_realm import wait_until
from secured import PASSWORD, ROOT, guarded_kafka, guarded_redis

from harness_stream import Credentials, Denied, HarnessSync, TimedOut
from harness_stream.access import KafkaAccess, Secret, redis_access
from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import acls as cluster_acls
from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.kafka import topics as realm_topics
from harness_stream.adapters.kafka.admin import KafkaAdmin, incarnation, require_topics
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.rights import rules as redis_rules
from harness_stream.adapters.redis.state import RedisStateStore
from harness_stream.errors import AccessRefused, StateRefused
from harness_stream.ports import Move, StoredHead
from harness_stream.wire import acls
from harness_stream.wire.acls import Names

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

CELLS, LIVE = "cells", "live"
"""Prefixes of two realms on one cluster: one whose cells are tried, one that decides."""

# Written by hand, beside the product's table: R READ, W WRITE, D DESCRIBE, C DESCRIBE_CONFIGS, A ALTER_CONFIGS,
# N CREATE, X DELETE; for groups R joins and commits; for the cluster A is ALTER. What Kafka derives is written out.
HEADING = "intents verdicts heads chains identity infrastructure risk classification rules deadletter workers risk-group readers cluster"
EXPECTED = """
agent                  WD     D      -      -      -     -     -     -     -     -     -     -     -     -
enforcer               WD     RD     RD     -      -     -     -     -     D     -     -     -     D     -
approver               RWD    RD     RD     -      RD    -     -     -     RD    -     -     -     D     -
worker                 RDC    RWDC   RWDC   RWDC   RDC   RDC   RDC   RDC   RDC   WDC   RD    -     D     -
auditor                RD     RD     RD     RD     RD    RD    RD    RD    RD    -     -     -     D     -
witness                D      RD     RD     -      -     -     -     -     -     -     -     -     D     -
identity-writer        D      D      -      -      RWD   -     -     -     -     -     -     -     D     -
infrastructure-writer  -      -      -      -      -     RWD   -     -     -     -     -     -     D     -
risk-writer            -      -      -      -      -     -     RWD   -     -     -     -     -     D     -
classification-writer  -      -      -      -      -     -     -     RWD   -     -     -     -     D     -
rule-pusher            D      D      RD     -      -     -     -     -     RWD   -     -     -     D     -
operator               RDCAN  RWDCAN RWDCAN RWDCAN DCAN  DCAN  DCAN  DCAN  RDCAN RDCAN -     -     D     -
acl-admin              DC     DC     DC     DC     DC    DC    DC    DC    DC    DC    -     -     -     AD
risk-topology          D      RD     RD     -      -     -     WD    -     -     -     -     RD    D     -
none                   -      -      -      -      -     -     -     -     -     -     -     -     -     -
"""
ROWS = {line.split()[0]: dict(zip(HEADING.split(), line.split()[1:], strict=True)) for line in EXPECTED.split("\n")[1:-1]}
TOPICS, GROUPS, CLUSTER = HEADING.split()[:10], HEADING.split()[10:13], "cluster"
LETTERS = {
    "topic": {"R": "READ", "W": "WRITE", "D": "DESCRIBE", "C": "DESCRIBE_CONFIGS", "A": "ALTER_CONFIGS", "N": "CREATE"},
    "group": {"R": "READ", "D": "DESCRIBE"},
    "cluster": {"A": "ALTER", "D": "DESCRIBE"},
}
DENIALS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
SECONDS = 4.5  # less than the admin time-out: else it would be told as a silent broker


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with guarded_kafka(tmp_path_factory.mktemp("guarded"), [*ROWS, "stranger"]) as found:
        yield found


# --- the matrix ---


class Tried:
    """One role's attempts at everything; what a broker did not refuse was allowed."""

    def __init__(self, guarded, role):
        self._settings = guarded.settings(role, CELLS)
        self._names = Names(CELLS, self._settings.group)
        self._admin = KafkaAdmin(self._settings.kafka)
        self._client = self._admin.client
        self.letters = {word: set() for word in HEADING.split()}
        self._full = {word: f"{CELLS}.{word}" for word in TOPICS}
        for attempt in (self.describe, self.write, self.read, self.configure, self.create, self.groups, self.cluster):
            attempt()
        self.delete()  # last: what should not be possible would take the ground away

    def note(self, word, letter, error):
        if error is None or error.code() not in DENIALS:
            self.letters[word].add(letter)

    def settle(self, word, letter, future):
        try:
            future.result(10)
        except KafkaException as error:
            return self.note(word, letter, error.args[0])
        return self.note(word, letter, None)

    def write(self):
        """Not idempotent: who may write nothing at all would be refused as a whole, whatever the topic."""
        producer = Producer(client_settings.producer(self._settings.kafka) | {"enable.idempotence": False})
        for word, name in self._full.items():
            note = lambda error, _message, word=word: self.note(word, "W", error)  # noqa: E731
            producer.produce(name, b"x", b"k", 0, on_delivery=note)
        assert producer.flush(10) == 0

    def read(self):
        """Of a topic that it may not even look at librdkafka says nothing; READ would bring DESCRIBE along."""
        consumer, told = Consumer(client_settings.reader(self._settings.kafka)), {}
        words = {name: word for word, name in self._full.items()}
        consumer.assign([TopicPartition(name, 0, 0) for name in words])
        seen = {self._full[word] for word in TOPICS if "D" in self.letters[word]}
        end = time.monotonic() + 10
        while not seen <= told.keys() and time.monotonic() < end:
            for message in consumer.consume(100, 0.1):
                error = message.error()
                if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    continue  # it reads without a group
                read = error is None or error.code() == KafkaError._PARTITION_EOF
                assert read or error.code() in DENIALS, error
                told[message.topic()] = None if read else error
        consumer.close()
        assert seen <= told.keys()
        for name, error in told.items():
            self.note(words[name], "R", error)

    def describe(self):
        asked = self._client.describe_topics(TopicCollection(list(self._full.values())))
        for word, name in self._full.items():
            self.settle(word, "D", asked[name])

    def configure(self):
        resources = {word: ConfigResource(ResourceType.TOPIC, name) for word, name in self._full.items()}
        asked = self._client.describe_configs(list(resources.values()))
        for word, resource in resources.items():
            self.settle(word, "C", asked[resource])
        entry = ConfigEntry("retention.ms", "-1", incremental_operation=AlterConfigOpType.SET)
        changes = {w: ConfigResource(ResourceType.TOPIC, n, incremental_configs=[entry]) for w, n in self._full.items()}
        changed = self._client.incremental_alter_configs(list(changes.values()), validate_only=True)
        for word, resource in changes.items():
            self.settle(word, "A", changed[resource])

    def create(self):
        asked = self._client.create_topics([NewTopic(name, 1) for name in self._full.values()], validate_only=True)
        for word, name in self._full.items():
            self.settle(word, "N", asked[name])

    def delete(self):
        asked = self._client.delete_topics(list(self._full.values()))
        for word, name in self._full.items():
            self.settle(word, "X", asked[name])

    def groups(self):
        for word, ours in zip(GROUPS, (acls.WORKERS, acls.RISK, acls.READERS), strict=True):
            name = self._names.named("group", ours)
            topic = self._full["intents" if word == "workers" else "verdicts"]  # which who is in the group reads
            commit = ConsumerGroupTopicPartitions(name, [TopicPartition(topic, 0, 0)])
            self.commit(word, self._client.alter_consumer_group_offsets([commit])[name])
            self.settle(word, "D", self._client.describe_consumer_groups([name])[name])
            self.settle(word, "X", self._client.delete_consumer_groups([name])[name])

    def commit(self, word, future):
        """Who may see the group is refused a partition at a time."""
        try:
            (place,) = future.result(10).topic_partitions
        except KafkaException as error:
            return self.note(word, "R", error.args[0])
        return self.note(word, "R", place.error)

    def cluster(self):
        """What it would change is about a topic that nobody has, and is taken back by who may."""
        nobodys = (ResourceType.TOPIC, "nobodys", ResourcePatternType.LITERAL, "User:nobody", "*")
        binding = AclBinding(*nobodys, AclOperation.READ, AclPermissionType.ALLOW)
        self.settle(CLUSTER, "A", self._client.create_acls([binding])[binding])
        found = self._admin.result(self._client.describe_cluster(include_authorized_operations=True))
        granted = set(found.authorized_operations or ())
        assert granted <= {AclOperation.ALTER, AclOperation.DESCRIBE}
        self.letters[CLUSTER] |= {"D"} if AclOperation.DESCRIBE in granted else set()
        if "A" in self.letters[CLUSTER]:
            again = AclBindingFilter(*nobodys, AclOperation.READ, AclPermissionType.ALLOW)
            self._admin.result(self._client.delete_acls([again])[again])


@pytest.fixture(scope="module")
def cells(guarded):
    """The realm whose cells are tried, with everybody's rights."""
    settings = guarded.settings(ROOT, CELLS)
    admin, names = KafkaAdmin(settings.kafka), Names(CELLS, settings.group)
    realm_topics.create(admin, realm_topics.plan(admin, settings).missing)
    realm_topics.plan_when_visible(admin, settings, fixed=False)
    roles = cluster_acls.roles_of([f"{role}=User:{role}" for role in ROWS])
    cluster_acls.create(admin, cluster_acls.plan(admin, roles, names).missing)
    assert cluster_acls.plan_when_visible(admin, roles, names, pruned=False).missing == ()
    with ThreadPoolExecutor(3) as pool:
        return dict(zip(ROWS, pool.map(lambda role: Tried(guarded, role).letters, ROWS), strict=True))


@pytest.mark.parametrize("role", ROWS)
def test_a_role_may_do_what_it_must_and_every_other_cell_is_refused(cells, role):
    expected = {word: set(letters.strip("-")) for word, letters in ROWS[role].items()}
    assert cells[role] == expected


def kind_of(word):
    return "topic" if word in TOPICS else "cluster" if word == CLUSTER else "group"


def test_the_tables_of_product_and_test_say_the_same():
    assert ROWS.keys() == acls.MATRIX.keys()
    ours = {"workers": acls.WORKERS, "risk-group": acls.RISK, "readers": acls.READERS, "cluster": acls.CLUSTER}
    for role, row in ROWS.items():
        for word, letters in row.items():
            kind, name = kind_of(word), ours.get(word, word)
            allowed = {letter for letter, op in LETTERS[kind].items() if acls.may(role, kind, name, op)}
            assert allowed == set(letters.strip("-")), (role, word)


# --- a realm that decides under least rights ---

RULES = """
rule_set: production
default: deny
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
"""
IDENTITY = [{"agent_id": "a-1", "tenant": "acme", "actions": ["crm.read"], "workloads": ["w-1"]}]
LIVE_ROLES = ("worker", "enforcer", "identity-writer", "infrastructure-writer", "rule-pusher", "witness", "agent")


@pytest.fixture(scope="module")
def live(guarded):
    """Topics and rights by the command itself; rows and rules, each by whoever may write them; a worker."""
    how = {"user": ROOT, "prefix": LIVE}
    given = [word for role in LIVE_ROLES for word in ("--principal", f"{role}=User:{role}")]
    listed = guarded.harness("topics", "apply", "--acls", *given, "--check", exit_code=4, **how)
    assert "would create User:worker WRITE topic `live.verdicts`" in listed
    told = json.loads(guarded.harness("topics", "apply", "--acls", *given, "--json", **how))
    assert len(told["created"]) == 10
    created = {acls.Acl(**entry) for entry in told["acls"]["created"]}
    assert {entry for entry in wanted() if entry.kind == "topic"} <= created <= wanted()  # groups may be shared
    assert (told["acls"]["missing"], told["acls"]["extra"]) == ([], [])
    identity, infrastructure = guarded.folder / "identity", guarded.folder / "infrastructure"
    identity.mkdir()
    (identity / "identity.yaml").write_text(json.dumps(IDENTITY))
    infrastructure.mkdir()
    (infrastructure / "infrastructure.yaml").write_text(json.dumps([{"workload_id": "w-1"}]))
    (guarded.folder / "rules.yaml").write_text(RULES)
    writing = [
        guarded.started("tables", "load", str(identity), user="identity-writer", prefix=LIVE),
        guarded.started("tables", "load", str(infrastructure), user="infrastructure-writer", prefix=LIVE),
        guarded.started("rules", "push", "rules.yaml", user="rule-pusher", prefix=LIVE),
    ]
    for process in writing:
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
    store = {"worker": redis_rules(f"default/{LIVE}", writes=True)}
    with guarded_redis(guarded.folder, guarded.ca, store) as url:
        over = {"redis_url": url, "redis_user": "worker", "redis_password": "worker-password"}
        over |= {"redis_ca": str(guarded.ca.crt), "metrics_port": "0"}
        log = (guarded.folder / "worker.log").open("w+")
        worker = guarded.started("worker", user="worker", prefix=LIVE, out=log, **over)
        try:
            read = (guarded.folder / "worker.log").read_text
            wait_until(lambda: " ready\n" in read() or worker.poll() is not None, why=read)
            assert worker.poll() is None, read()
            yield read
        finally:
            worker.terminate()
            worker.wait(20)


def wanted():
    names = Names(LIVE, f"{LIVE}-group")
    return {entry for role in LIVE_ROLES for entry in acls.entries(role, f"User:{role}", names)}


def test_an_intent_gets_its_verdict_over_sasl_ssl_with_no_right_too_many(guarded, live):
    path = guarded.folder / "agent.json"
    said = {"agent_id": "a-1", "lane": "acme", "workload_id": "w-1", "bootstrap": guarded.sasl, "prefix": LIVE}
    said |= {"sasl_user": "enforcer", "sasl_password_file": "password", "ssl_ca": "ca.crt", "dev": True}
    path.write_text(json.dumps(said))
    (guarded.folder / "password").write_text(PASSWORD.format("enforcer") + "\n")
    (guarded.folder / "password").chmod(0o600)
    with HarnessSync.connect(path) as harness:
        assert harness.chain().decide("crm.read", ["crm://customers/7"], deadline_ms=20_000).decision == "approve"
    assert "access_refused" not in live()  # neither Kafka nor Redis refused the worker anything


def test_a_witness_gets_in_by_its_certificate(guarded, live):
    assert live()
    pair = made(guarded.folder, "witness", guarded.ca)
    over = {"bootstrap": guarded.mtls, "sasl_user": "", "sasl_password": ""}
    over |= {"ssl_cert": str(pair.crt), "ssl_key": str(pair.key)}
    told = guarded.harness("log", "witness", "heads.txt", "--once", user="", prefix=LIVE, **over)
    assert (guarded.folder / "heads.txt").read_text().count("\n") == 2, told


def test_with_keys_rules_are_pushed_agents_enrolled_and_mandates_signed_by_who_may_just_that(guarded):
    """Whoever signs binds the log topics' ids in, so has to see them; in an unsigned realm nobody notices."""
    roles = ("rule-pusher", "identity-writer", "enforcer")
    given = [word for role in roles for word in ("--principal", f"{role}=User:{role}")]
    guarded.harness("topics", "apply", "--acls", *given, user=ROOT, prefix="signed")
    guarded.harness("keys", "init", "keys", user=ROOT, prefix="signed")
    (guarded.folder / "signed.yaml").write_text(RULES)
    signed = {"prefix": "signed", "dev": "", "keys": str(guarded.folder / "keys")}
    assert "revision 1" in guarded.harness("rules", "push", "signed.yaml", user="rule-pusher", **signed)
    assert "revision 1" in guarded.harness("rules", "status", user="rule-pusher", **signed)
    for name, more in (("b-1", ()), ("gate-1", ("--role", "enforcer")), ("ui-1", ("--role", "orchestrator"))):
        guarded.harness("agents", "enroll", name, "--tenant", "acme", *more, user="identity-writer", **signed)
    mandate = ("mandates", "sign", "--credentials", "ui-1.json", "--agent", "b-1", "--lane", "acme", "--expires", "2h")
    assert "opens chain" in guarded.harness(*mandate, user="enforcer", **signed)
    killed = guarded.harness("agents", "kill", "b-1", user="identity-writer", **signed)
    assert "`b-1` is killed" in killed
    assert "who has seen it cannot be told: `User:identity-writer` may not READ" in killed


def test_a_second_apply_changes_nothing_and_prune_takes_away_only_from_who_is_named(guarded, live):
    assert live()
    settings = guarded.settings(ROOT, LIVE)
    admin, names = KafkaAdmin(settings.kafka), Names(LIVE, settings.group)
    foreign = acls.Acl("User:stranger", "topic", f"{LIVE}.intents", "READ")
    wide = acls.Acl("User:agent", "topic", LIVE, "READ", pattern="PREFIXED")
    cluster_acls.create(admin, [foreign, wide])
    pairs = [("agent", "User:agent")]
    wait_until(lambda: wide in cluster_acls.plan(admin, pairs, names).extra, why=lambda: "ACLs are not seen")
    found = cluster_acls.plan(admin, pairs, names)
    assert (found.missing, found.extra) == ((), (wide,))
    assert foreign in found.others
    how = {"user": ROOT, "prefix": LIVE}
    told = guarded.harness("topics", "apply", "--acls", "--principal", "agent=User:agent", exit_code=4, **how)
    assert "besides User:agent READ topic `live` (prefixed)" in told
    told = guarded.harness("topics", "apply", "--acls", "--principal", "agent=User:agent", "--prune", **how)
    assert "removed User:agent READ topic `live` (prefixed)" in told
    left = cluster_acls.plan(admin, pairs, names)
    assert (left.missing, left.extra, foreign in left.others) == ((), (), True)


def test_a_worker_that_loses_a_right_says_so_and_goes_on_once_it_has_it_back(guarded, live):
    admin = KafkaAdmin(guarded.settings(ROOT, LIVE).kafka)
    right = [acls.Acl("User:worker", "topic", f"{LIVE}.verdicts", "WRITE")]
    enforcer = {"sasl_user": "enforcer", "sasl_password": PASSWORD.format("enforcer")}
    who = {"agent_id": "a-1", "lane": "acme", "workload_id": "w-1", "bootstrap": guarded.sasl, "prefix": LIVE, "dev": True}
    with HarnessSync.connect(Credentials(**who, **enforcer, ssl_ca=str(guarded.ca.crt))) as harness:
        chain = harness.chain()
        assert chain.decide("crm.read", deadline_ms=20_000).decision == "approve"
        cluster_acls.remove(admin, right)
        wait_until(lambda: not approved(chain), why=live)  # a broker learns of it in its own time
        wait_until(lambda: "`User:worker` may not WRITE topic `live.verdicts`" in live(), why=live)
        cluster_acls.create(admin, right)
        wait_until(lambda: approved(chain), why=live)


def approved(chain):
    """Was it, within a while?"""
    try:
        return chain.decide("crm.read", deadline_ms=2_000).decision == "approve"
    except (TimedOut, Denied):
        return False


# --- refusals, in words and in seconds ---


def refused(ask):
    """The error, which must come soon."""
    began = time.monotonic()
    with pytest.raises(AccessRefused) as found:
        ask()
    assert time.monotonic() - began < SECONDS
    return found.value


def test_a_wrong_password_an_unknown_user_and_a_wrong_ca_are_told_in_seconds(guarded):
    wrong = {"sasl_password": Secret("not it")}
    error = refused(lambda: incarnation(guarded.settings("worker", LIVE, **wrong)))
    assert "refuses user `worker`: wrong user or password" in error.message
    assert "sasl_password_file" in error.hint
    assert "not it" not in str(error) + repr(guarded.settings("worker", LIVE, **wrong))
    assert "refuses user `nobody`" in refused(lambda: incarnation(guarded.settings("nobody", LIVE))).message
    other = made(guarded.folder, "other-ca")
    error = refused(lambda: incarnation(guarded.settings("worker", LIVE, ssl_ca=str(other.crt))))
    assert f"not vouched for by `ssl_ca` `{other.crt}`" in error.message


def test_a_certificate_that_is_missing_or_expired_is_told_in_seconds(guarded):
    over = {"bootstrap": guarded.mtls, "sasl_user": "", "sasl_password": Secret("")}
    assert "wants a certificate" in refused(lambda: incarnation(guarded.settings("", LIVE, **over))).message
    old = made(guarded.folder, "old", guarded.ca, days=-1)
    over |= {"ssl_cert": str(old.crt), "ssl_key": str(old.key)}
    assert "our certificate" in (said := refused(lambda: incarnation(guarded.settings("", LIVE, **over))).message)
    assert "expired at" in said


def test_a_command_says_which_right_is_missing_and_what_gives_it(guarded, cells):
    assert cells
    how = {"user": "agent", "prefix": CELLS, "exit_code": 2}
    told = guarded.harness("verdicts", "tail", "--no-follow", **how)
    assert "`User:agent` may not READ topic `cells." in told
    assert "harness topics apply --acls --principal witness=User:agent" in told
    assert "Traceback" not in told
    assert "may not" in guarded.harness("worker", user="enforcer", prefix=CELLS, exit_code=2)
    stranger = guarded.settings("stranger", CELLS)
    assert "may not READ topic" in refused(lambda: require_topics(stranger.kafka, [f"{CELLS}.heads"])).message
    assert "may not DESCRIBE cluster" in refused(
        lambda: cluster_acls.plan(KafkaAdmin(stranger.kafka), [("agent", "User:a")], Names(CELLS, "g"))
    ).message


def test_a_client_that_runs_on_says_what_it_may_not(guarded, cells, caplog):
    assert cells
    kafka = guarded.settings("agent", CELLS).kafka
    with closing(KafkaWriter(kafka)) as writer, caplog.at_level(logging.WARNING):
        writer.append(f"{CELLS}.verdicts", 0, b"k", b"x", token=1)
        assert writer.flush(5_000) == 0
        (fate,) = writer.deliveries()
        assert "`User:agent` may not WRITE topic `cells.verdicts`" in fate.error
    with closing(KafkaReader(kafka)) as reader:
        reader.follow(f"{CELLS}.verdicts", 0, 0)
        wait_until(lambda: reader.poll(10) == [] and caplog.messages, why=lambda: "nothing was said")
    assert "`User:agent` may not READ topic `cells.verdicts`" in caplog.text
    assert caplog.messages[-1].endswith("[access_refused]")


def test_a_connecting_agent_is_told_why_it_does_not_get_in(guarded, live):
    assert live()
    where = {"bootstrap": guarded.sasl, "prefix": LIVE, "dev": True}
    said = {"agent_id": "a-1", "sasl_user": "agent", "ssl_ca": str(guarded.ca.crt), **where}
    said["sasl_password"] = PASSWORD.format("agent")
    path = guarded.folder / "mere-agent.json"
    path.write_text(json.dumps(said))
    path.chmod(0o600)
    error = refused(lambda: HarnessSync.connect(path).open())
    assert "`User:agent` may not READ topic `live." in error.message


# --- Redis ---


def test_redis_serves_the_state_store_to_its_user_over_tls_and_forbids_all_else(guarded, tmp_path):
    users = {"full": redis_rules("r/p", writes=True), "look": redis_rules("r/p", writes=False)}
    with guarded_redis(tmp_path, guarded.ca, users) as url:

        def store(user, realm="r/p", ca=guarded.ca, suffix="-password"):
            words = {"redis_user": user, "redis_password": Secret(user + suffix)}
            access = redis_access(url, words | {"redis_ca": str(ca.crt)})
            return RedisStateStore(access, Whose(realm, "i1"), SystemClock(), timeout_ms=2_000)

        full, look = store("full"), store("look")
        full.clear(0, full.head(0))
        assert full.move(Move(0, None, StoredHead(5, 1, b"h"), {"a": b"x"}, {"b": (b"y",)})) is None
        assert full.move(Move(0, StoredHead(5, 1, b"h"), StoredHead(6, 1, b"h"), {}, {"a": (b"z",)})) is None
        for reading in (full, look):
            assert reading.units(0) == {"a", "b"}
            assert reading.load(0, ["a"])["a"].deltas == (b"z",)
            assert reading.head(0).verdict_offset == 6
        full.clear(0, full.head(0))
        assert full.head(0) is None
        for call in (lambda s: s.move(Move(0, None, StoredHead(5, 1, b"h"), {"a": b"x"})), lambda s: s.clear(0, None)):
            with pytest.raises(StateRefused, match="user `look` may not"):
                call(store("look"))
        for other in ("r/q", "rr/p", "r"):
            with pytest.raises(StateRefused, match="user `full` may not"):
                store("full", other).head(0)
        with pytest.raises(StateRefused, match="refuses user `full`: wrong user or password") as found:
            store("full", suffix="not it").head(0)
        assert "not it" not in str(found.value)
        with pytest.raises(StateRefused, match="not vouched for by `redis_ca`"):
            store("full", ca=made(tmp_path, "other-ca")).head(0)
        named = url.replace("//", "//full:full-password@")
        with closing(redis.Redis.from_url(named, ssl_ca_certs=guarded.ca.crt)) as raw:
            for words in ("PING", "KEYS *", "FLUSHALL", "CONFIG GET *", "ACL LIST", "SET hs:{r%2Fp/0}:x 1", "SCRIPT FLUSH"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    raw.execute_command(*words.split())


def test_without_its_ca_nobody_speaks_to_the_broker_at_all(guarded):
    access = KafkaAccess(guarded.sasl, "SASL_SSL", user=ROOT, password=Secret(PASSWORD.format(ROOT)))
    assert "the system's CAs" in refused(lambda: KafkaAdmin(access).describe(["x"])).message
