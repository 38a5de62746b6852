"""What must not run, on real processes: each wrong record ends in the answer PROTOCOL names, and blocks nobody else."""

import time
from dataclasses import replace

import pytest
from own_realm import NotAppendedError, OwnRealm, wait_until
from real_servers import open_own_stack, unavailable

from harness_stream.client.blocking import HarnessSync
from harness_stream.core.reasons import Client, Deny, Garbage, Reject
from harness_stream.errors import HarnessError, TimedOut, Unreachable
from harness_stream.local.process import free_port
from tests.rule_texts import ALLOWED, budget, rule_set

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

RULES = rule_set(ALLOWED, budget(1_000, "24h"), any="true")
AGENT = {"tenant": "acme", "actions": ["crm.read"], "workloads": ["w-1"]}
TABLES = {
    "identity": [
        AGENT | {"agent_id": "good-1"},
        AGENT | {"agent_id": "cold-1"},
        AGENT | {"agent_id": "suspended-1", "status": "suspended"},
    ],
    "infrastructure": [{"workload_id": "w-1", "attested": True}],
}
LANE = "acme"


@pytest.fixture(scope="module")
def realm(real_stack, tmp_path_factory):
    """One worker for all; before it began, an intent was published that nobody answered in time."""
    folder = tmp_path_factory.mktemp("denials")
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, folder, rules=RULES, tables=TABLES).prepare()
    realm.late = realm.send(realm.intent("good-1", deadline_ms=1), LANE)
    time.sleep(0.01)
    with realm.worker():
        yield realm
    realm.check()


@pytest.fixture(autouse=True)
def blocks_nobody_else(request):
    """After every case with the common worker, a good intent in the same lane is approved."""
    yield
    if "realm" in request.fixturenames:
        realm = request.getfixturevalue("realm")
        assert realm.answer(realm.send(realm.intent("good-1"), LANE))["decision"] == "approve"


def codes(verdict):
    return [reason["code"] for reason in verdict["reasons"]]


def skipped(answer, place):
    """(reason, detail) of this record in the skip that covers it."""
    assert (answer["kind"], answer["reason"]) == ("skip", "garbage")
    return next((o["reason"], o["detail"]) for o in answer["offsets"] if o["offset"] == place[1])


# --- denied ---


def test_an_unknown_agent_is_denied_in_the_lane_of_its_own_name(realm):
    answer = realm.answer(realm.send(realm.intent("nobody-1"), "nobody-1"))
    assert (answer["kind"], answer["decision"], codes(answer)) == ("verdict", "deny", [Deny.UNKNOWN_AGENT])


def test_a_suspended_agent_is_denied(realm):
    answer = realm.answer(realm.send(realm.intent("suspended-1"), LANE))
    assert (answer["decision"], codes(answer)) == ("deny", [Deny.AGENT_STATUS])


def test_an_intent_whose_deadline_has_passed_is_denied_unevaluated(realm):
    answer = realm.answer(realm.late)
    assert (answer["decision"], codes(answer), answer["event"]) == ("deny", [Deny.LATE], None)


# --- rejected ---


def test_a_record_in_another_partition_than_its_lanes_is_rejected(realm):
    elsewhere = 1 - realm.partition_of(LANE)
    answer = realm.answer(realm.send(realm.intent("good-1"), LANE, partition=elsewhere))
    assert (answer["kind"], answer["reason"]) == ("reject", Reject.WRONG_PARTITION)


def test_the_same_record_twice_gets_one_verdict_and_one_rejection(realm):
    intent = realm.intent("good-1")
    first, second = (realm.answer(realm.send(intent, LANE)) for _ in range(2))
    assert (first["kind"], first["decision"]) == ("verdict", "approve")
    assert (second["kind"], second["reason"]) == ("reject", Reject.DUPLICATE)


def test_the_same_id_with_other_bytes_is_rejected(realm):
    intent = realm.intent("good-1")
    realm.answer(realm.send(intent, LANE))
    answer = realm.answer(realm.send(intent | {"purpose": "something else"}, LANE))
    assert (answer["kind"], answer["reason"]) == ("reject", Reject.ID_REUSED)


# --- skipped ---


def test_an_undecodable_record_is_skipped(realm):
    place = realm.send(b"\x00\x01 no JSON", LANE)
    assert skipped(realm.answer(place), place)[0] == Garbage.NOT_JSON


def test_an_empty_record_is_skipped(realm):
    place = realm.send(b"", LANE)
    assert skipped(realm.answer(place), place)[0] == Garbage.EMPTY


def test_a_record_that_breaks_the_schema_is_skipped_and_its_field_named(realm):
    place = realm.send(realm.intent("good-1", deadline_ms="soon"), LANE)
    reason, detail = skipped(realm.answer(place), place)
    assert reason == Garbage.SCHEMA
    assert detail.startswith("deadline_ms")


def test_a_record_without_a_statement_about_its_signature_is_skipped(realm):
    place = realm.send(realm.intent("good-1"), LANE, headers={})
    assert skipped(realm.answer(place), place)[0] == Garbage.NOT_AUTHENTIC


def test_a_record_of_another_realm_is_skipped(realm):
    place = realm.send(realm.intent("good-1", realm="elsewhere"), LANE)
    assert skipped(realm.answer(place), place)[0] == Garbage.REALM


def test_an_intent_with_an_old_id_is_skipped(realm):
    place = realm.send(realm.intent("good-1", intent_id="01900000-0000-7000-8000-000000000000"), LANE)
    assert skipped(realm.answer(place), place)[0] == Garbage.ID_TIME


def test_garbage_beside_garbage_names_each_record(realm):
    places = [realm.send(b"[%d" % n, LANE) for n in range(20)]
    answers = [realm.answer(place) for place in places]
    assert {a["kind"] for a in answers} == {"skip"}
    named = {o["offset"] for a in answers for o in a["offsets"]}
    assert {offset for _, offset in places[:16]} <= named


# --- never in the log ---


def test_an_oversized_record_is_refused_by_the_broker_and_its_sender_is_told(realm):
    before = realm.end_of(realm.topics.intents, realm.partition_of(LANE))
    with pytest.raises(NotAppendedError, match="MSG_SIZE_TOO_LARGE"):
        realm.send(realm.intent("good-1", purpose="x" * 70_000), LANE)
    assert realm.end_of(realm.topics.intents, realm.partition_of(LANE)) == before


def test_a_senders_own_timestamp_is_replaced_by_the_brokers(realm):
    month_ms = 30 * 24 * 3_600_000
    sent_ms = int(time.time() * 1000)
    answer = realm.answer(realm.send(realm.intent("good-1"), LANE, timestamp=sent_ms - month_ms))
    assert answer["decision"] == "approve"
    assert answer["t"] >= sent_ms


# --- nobody there ---


def connected(realm, agent="good-1"):
    s = realm.settings
    return HarnessSync.connect(
        agent=agent, lane=LANE, workload="w-1", bootstrap=s.bootstrap, prefix=s.prefix, realm=s.realm, dev=True
    )


def test_without_a_worker_the_client_times_out_and_says_so(real_stack, tmp_path):
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, tmp_path, rules=RULES, tables=TABLES).prepare()
    with connected(realm) as harness, pytest.raises(TimedOut) as caught:
        harness.chain().decide("crm.read", deadline_ms=500)
    assert [reason.code for reason in caught.value.reasons] == [Client.NO_WORKER]
    assert "harness worker" in caught.value.hint


def test_without_a_broker_the_client_cannot_reach_it_and_a_worker_exits_with_3(tmp_path):
    nobody = f"127.0.0.1:{free_port()}"
    realm = OwnRealm(nobody, "redis://127.0.0.1:1/0", tmp_path, rules=RULES, tables=TABLES)
    with pytest.raises(Unreachable, match=nobody), connected(realm):
        pass
    said = realm.harness("worker", "--metrics-port", "0", exit_code=3)
    assert f"Kafka does not answer at {nobody}" in said
    assert "Traceback" not in said


# --- no Redis ---


@pytest.fixture
def own_redis():
    """A Redis that this test may stop; the broker is everybody's."""
    with open_own_stack() as stack:
        try:
            stack.redis.start()
        except HarnessError as error:
            unavailable(error.message)
        yield stack.redis


@pytest.fixture
def own_realm(real_stack, own_redis, tmp_path):
    return OwnRealm(real_stack.bootstrap, own_redis.url, tmp_path, rules=RULES, tables=TABLES).prepare()


def approved(realm, agent="good-1"):
    return realm.answer(realm.send(realm.intent(agent), LANE)).get("decision") == "approve"


def stored(realm):
    """Does Redis hold the whole fold?"""
    try:
        realm.check()
    except AssertionError:
        return False
    return True


def sealed(realm):
    """Are there snapshots as of one place?"""
    partition = realm.partition_of(LANE)
    return any(b"/p@" in (r.key or b"") for r in realm.records(realm.topics.chains, partition))


def test_a_worker_decides_without_redis_and_fills_it_when_it_comes(own_redis, own_realm):
    own_redis.stop()
    with own_realm.worker():
        assert approved(own_realm)
        own_redis.start()
        assert approved(own_realm)
        wait_until(lambda: stored(own_realm), why=lambda: "Redis does not hold the fold")
    own_realm.check()


def test_redis_dies_while_running_and_comes_back_empty(own_redis, own_realm):
    with own_realm.worker():
        assert approved(own_realm)
        own_redis.kill()
        assert all(approved(own_realm) for _ in range(3)), "a hot agent needs no Redis"
        assert approved(own_realm, "cold-1"), "this worker began at the log's first record: all is in memory"
        own_redis.start()
        wait_until(lambda: stored(own_realm), why=lambda: "Redis does not hold the fold")
        assert approved(own_realm)
    own_realm.check()


@pytest.mark.parametrize("from_", ["the log", "its snapshot"])
def test_a_cold_agent_is_served_while_redis_is_dead(own_redis, own_realm, from_):
    if from_ == "its snapshot":
        own_realm.settings = replace(own_realm.settings, snapshot_interval_ms=200)
    with own_realm.worker():
        assert approved(own_realm, "cold-1")
        assert approved(own_realm)
        wait_until(lambda: stored(own_realm), why=lambda: "Redis does not hold the fold")
        if from_ == "its snapshot":
            wait_until(lambda: sealed(own_realm), why=lambda: "no snapshots")
    with own_realm.worker():
        assert approved(own_realm), "its state comes from Redis, and is hot now"
        own_redis.kill()
        assert approved(own_realm)
        assert approved(own_realm, "cold-1")
        own_redis.start()
        wait_until(lambda: stored(own_realm), why=lambda: "Redis does not hold the fold")
        assert approved(own_realm, "cold-1")
    own_realm.check()
