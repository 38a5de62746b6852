"""`harness replay --from-log` on real processes: one's own history, decided again by the same rules and by others."""

import json
import time
from contextlib import closing

import pytest
from confluent_kafka import TopicPartition
from own_realm import OwnRealm, wait_until

from harness_stream.adapters.kafka.admin import KafkaAdmin
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.cli.tables import Options, load_folder, topics_of
from harness_stream.local.process import free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

RULES = """
rule_set: production
default: deny
params: {exports: 3}
selections: {exports: 'event.action == "crm.export"', any: "true"}
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
  - id: many-exports
    effect: deny
    when: exports
    correlation: {type: event_count, rules: [exports], group-by: [agent_id], timespan: 24h, condition: {gt: params.exports}}
  - id: reads-need-a-yes
    effect: hold
    when: intent.action == "crm.secret"
"""
NEW_FIELD = RULES + '  - {id: no-region, effect: deny, when: infrastructure.present && infrastructure.region == ""}\n'
WITH_SHADOW = RULES + '  - {id: try-it, effect: deny, mode: shadow, when: intent.action == "crm.read"}\n'

AGENT = {"tenant": "acme", "actions": ["crm.read", "crm.export", "crm.secret"], "workloads": ["w-1"]}
TABLES = {
    "identity": [
        AGENT | {"agent_id": "exporter-1"},
        AGENT | {"agent_id": "reader-1"},
        AGENT | {"agent_id": "globex-1", "tenant": "globex"},
        {"agent_id": "judge", "tenant": "court", "roles": ["approver"]},
    ],
    "infrastructure": [{"workload_id": "w-1", "region": "north"}],
}
LANE, OTHER_LANE = "acme", "globex"


class Past:
    """A realm with some history, and the places of what matters in it."""

    def __init__(self, realm):
        self.realm = realm
        self.exports = []
        self.late = realm.send(realm.intent("reader-1", deadline_ms=1), LANE)
        time.sleep(0.01)

    def happen(self):
        realm = self.realm
        assert realm.partition_of(LANE) != realm.partition_of(OTHER_LANE)
        for _ in range(2):
            self.send("exporter-1", "crm.export")
        time.sleep(1.1)  # so that the worker's next step writes a checkpoint
        self.stretch = self.send("reader-1", "crm.read")
        for _ in range(3):
            self.exports.append(self.send("exporter-1", "crm.export"))
        self.send("globex-1", "crm.export", OTHER_LANE)
        realm.send(b"no JSON", LANE)
        again = realm.intent("reader-1")
        realm.send(again, LANE)
        self.approved = realm.answer(realm.send(again, LANE))
        self.unknown = self.send("nobody-1", "crm.read", "nobody-1")
        self.held()
        self.done(self.send("reader-1", "crm.read"))

    def send(self, agent, action, lane=LANE):
        place = self.realm.send(self.realm.intent(agent, action=action), lane)
        self.realm.answer(place)
        return place

    def held(self):
        """A hold that a person answers."""
        self.hold = self.send("reader-1", "crm.secret")
        body, digest = self.decision(self.hold)
        approval = {"hold_digest": digest, "hold_offset": 0, "decision": "approve", "by": "judge"}
        place = self.realm.send(self.about("approval", body, approval), LANE)
        assert self.realm.answer(place)["decision"] == "approve"

    def done(self, place):
        body, digest = self.decision(place)
        outcome = {"intent_id": body["intent_id"], "verdict_digest": digest, "status": "done", "by": "reader-1"}
        assert self.realm.answer(self.realm.send(self.about("outcome", body, outcome), LANE))["status"] == "accepted"

    def about(self, kind, body, fields):
        own_id = self.realm.intent("judge")["intent_id"]
        common = {"v": 1, "type": kind, "realm": self.realm.settings.realm, "agent_id": body["agent_id"]}
        return common | {f"{kind}_id": own_id} | fields

    def decision(self, place):
        from harness_stream.wire.decisions import read_body

        found = [read_body(r.value) for r in self.realm.records(self.realm.topics.verdicts, place[0])]
        return next((b, d) for b, d in found if b["kind"] == "verdict" and b["covers"][1] == place[1])

    def rules(self, text, name="rules.yaml"):
        (self.realm.folder / name).write_text(text)
        return name

    def replay(self, rules, *words, exit_code=0):
        """Standard output's JSON lines."""
        name = self.rules(rules)
        told = self.realm.harness("replay", "--rules", name, "--from-log", "--json", *words, exit_code=exit_code)
        return [json.loads(line) for line in told.splitlines() if line.startswith("{")]

    def said(self, rules, *words, exit_code=0):
        """Everything that was printed."""
        return self.realm.harness("replay", "--rules", self.rules(rules), "--from-log", *words, exit_code=exit_code)


@pytest.fixture(scope="module")
def past(real_stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replayed")
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, folder, rules=RULES, tables=TABLES).prepare()
    past = Past(realm)
    with realm.worker():
        past.happen()
    return past


def places(differences):
    return [(d["partition"], d["offset"]) for d in differences]


def test_the_same_rules_decide_as_was_decided(past):
    (told,) = past.replay(RULES, "--compare", "log", "--summary", "--exit-code")
    assert (told["different"], told["consequences"], told["undecided"]) == (0, 0, 0)
    assert told["before"] == told["after"]
    assert told["inputs"] == sum(past.realm.end_of(past.realm.topics.intents, p) for p in (0, 1))
    assert told["after"]["refused"].keys() == {"skip: not_json", "reject: duplicate"}
    assert told["facts"] == {
        "from": "log",
        "recorded": told["after"]["kinds"]["verdict"] - 1,  # the late one was denied unread
        "tables": 0,
        "filled": {},
        "unknown": {},
    }


def test_its_bodies_say_what_was_decided_and_where(past):
    bodies = past.replay(RULES)
    assert [b["at"] for b in bodies] == sorted(b["at"] for b in bodies)
    for partition in (0, 1):
        ours = [b for b in bodies if b["partition"] == partition]
        assert [b["offset"] for b in ours] == list(range(past.realm.end_of(past.realm.topics.intents, partition)))
        theirs = [b for b in past.realm.effective(partition) if b["kind"] in {"verdict", "ack", "reject", "skip"}]
        assert [b.get("decision", b.get("reason")) for b in ours] == [b.get("decision", b.get("reason")) for b in theirs]


def test_another_threshold_differs_exactly_where_it_must(past):
    differences = past.replay(RULES, "--set", "exports=4", "--compare", "log", "--exit-code", exit_code=1)
    (found,) = differences
    assert (found["partition"], found["offset"]) == past.exports[1]
    assert (found["agent_id"], found["action"], found["event"]) == ("exporter-1", "crm.export", "intent")
    assert (found["before"]["decision"], found["after"]["decision"]) == ("deny", "approve")
    assert found["before"]["reasons"][0]["rule"] == "many-exports"
    assert len(found["before"]["reasons"][0]["evidence"]) == 3
    assert found["after"]["reasons"][0]["rule"] == "allowed"
    assert (found["differs"], found["follows"]) == (["decision", "rules"], None)


def test_what_was_before_the_stretch_is_history_as_it_really_was(past):
    begin = "/".join(map(str, past.stretch))
    told = past.replay(RULES, "--set", "exports=1", "--compare", "log", "--from", begin)
    assert places(told) == [past.exports[0]]  # two exports before it count, though these rules would not have let them
    (summed,) = past.replay(RULES, "--compare", "log", "--from", begin, "--summary")
    assert (summed["different"], summed["history"]) == (0, 3)
    until = past.replay(RULES, "--from", begin, "--to", f"{past.exports[0][0]}/{past.exports[0][1]}")
    assert [(b["partition"], b["offset"]) for b in until] == [past.stretch]


def test_a_rule_in_shadow_mode_says_what_it_would_do(past):
    differences = past.replay(WITH_SHADOW, "--compare", "log")
    assert {tuple(d["differs"]) for d in differences} == {("would",)}
    assert past.stretch in places(differences)
    assert past.late not in places(differences)
    assert past.unknown not in places(differences)
    assert differences[0]["after"]["would"][0]["rule"] == "try-it"
    text = past.said(WITH_SHADOW, "--compare", "log")
    assert "+ would deny try-it" in text


def test_two_rule_sets_are_compared_over_the_same_stretch(past):
    other = past.rules(RULES.replace("exports: 3", "exports: 4"), "other.yaml")
    differences = past.replay(RULES, "--compare", other)
    assert places(differences) == [past.exports[1]]
    assert (differences[0]["before"]["decision"], differences[0]["after"]["decision"]) == ("approve", "deny")


def test_a_field_no_rule_read_then_is_named(past):
    (told,) = past.replay(NEW_FIELD, "--compare", "log", "--summary")
    assert told["different"] == 0
    assert told["facts"]["filled"]["infrastructure.region"] > 0
    assert "infrastructure.region: not recorded, from the tables now" in past.said(NEW_FIELD, "--summary")


def test_a_filter_shows_less_and_decides_as_much(past):
    differences = past.replay(RULES, "--set", "exports=0", "--compare", "log", "--agent", "globex-1")
    assert [d["agent_id"] for d in differences] == ["globex-1"]
    assert {d["agent_id"] for d in past.replay(RULES, "--set", "exports=0", "--compare", "log", "--lane", LANE)} == {
        "exporter-1"
    }
    assert {b["partition"] for b in past.replay(RULES, "--lane", LANE)} == {past.realm.partition_of(LANE)}
    assert "no partition is in all" in past.said(
        RULES, "--lane", LANE, "--partition", str(1 - past.realm.partition_of(LANE)), exit_code=2
    )


def test_times_choose_a_stretch(past):
    bodies = past.replay(RULES)
    middle = bodies[len(bodies) // 2]["at"]
    later = past.replay(RULES, "--from", str(middle))
    earlier = past.replay(RULES, "--to", str(middle), "--history", "1h")
    assert [b["at"] for b in earlier + later] == [b["at"] for b in bodies]
    assert later[0]["at"] >= middle > earlier[-1]["at"]
    assert len(past.replay(RULES, "--since", "1h")) == len(bodies)
    assert "holds no decided input" in past.said(RULES, "--since", "0s", exit_code=2)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--since", "1 day"), "write for example 90s, 15m, 24h or 7d"),
        (("--since", "1h", "--from", "0/0"), "give one of them"),
        (("--from", "yesterday"), "partition/offset as in 0/1200"),
        (("--from", "9/0"), "there is no partition 9"),
        (("--compare", "missing.yaml"), "missing.yaml: No such file"),
        (("--input", "-"), "events come from one place"),
        (("--realm", "elsewhere"), "give `--realm default`"),
    ],
)
def test_what_makes_no_sense_is_said(past, words, told):
    assert told in past.said(RULES, *words, exit_code=2)


def test_a_broker_that_is_away_and_topics_that_are_not_there_are_told_apart(past):
    away = past.said(RULES, "--bootstrap", f"127.0.0.1:{free_port()}", exit_code=3)
    assert "Kafka does not answer" in away
    assert "Traceback" not in away
    assert "`nothing.intents` does not exist" in past.said(RULES, "--prefix", "nothing", exit_code=4)


# --- From here on the realm itself is changed ---


def test_facts_are_those_of_then_and_given_tables_are_another_question(past):
    realm, folder = past.realm, past.realm.folder / "tables"
    suspended = [row | {"status": "suspended"} if row["agent_id"] == "exporter-1" else row for row in TABLES["identity"]]
    (folder / "identity.yaml").write_text(json.dumps(suspended))
    with closing(KafkaReader(realm.settings.bootstrap)) as reader, closing(KafkaWriter(realm.settings.bootstrap)) as writer:
        names = topics_of(realm.settings)
        assert load_folder(folder, reader, writer, topics=names, clock=realm.clock, options=Options()).applied
    assert past.replay(RULES, "--compare", "log") == []
    differences = past.replay(RULES, "--compare", "log", "--tables", "tables", "--agent", "exporter-1")
    assert {d["after"]["reasons"][0]["code"] for d in differences} == {"agent_status"}
    assert len(differences) == 5


def test_a_stretch_that_retention_has_begun_to_take_says_from_when_on(past):
    realm, (partition, offset) = past.realm, past.exports[1]
    admin = KafkaAdmin(realm.settings.bootstrap)
    admin.describe([realm.topics.intents, realm.topics.verdicts])  # adapters/kafka/leaders.py says why
    cut = {
        realm.topics.intents: offset,
        realm.topics.verdicts: 3,  # what is kept there begins after the first claim, switch and checkpoint
    }
    for topic, low in cut.items():
        for future in admin.client.delete_records([TopicPartition(topic, partition, low)]).values():
            future.result(30)
    wait_until(lambda: realm.records(realm.topics.intents, partition)[0].offset == offset, why=lambda: "not deleted")
    text = past.said(RULES, "--since", "1h", "--compare", "log", "--summary")
    assert f"partition {partition} is kept from input offset {offset} on" in text
    assert "history begins later: counts may be too low" in text
    assert "deny → approve" in text  # exports before that are gone from history
    assert "is kept from offset" in past.said(RULES, "--from", f"{partition}/0", exit_code=2)
