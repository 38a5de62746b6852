"""`harness log verify` and `harness log export` on a real log, with a worker that was killed in the middle."""

import json
from collections import Counter
from contextlib import closing

import pytest
from confluent_kafka import TopicPartition
from own_realm import OwnRealm, wait_until

from harness_stream.adapters.kafka.admin import KafkaAdmin, incarnation
from harness_stream.adapters.kafka.log import KafkaReader
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import Place
from harness_stream.local.process import free_port
from harness_stream.runtime.to_end import ends_of
from harness_stream.wire.decisions import read_body

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

RULES = """
rule_set: production
default: deny
selections: {reads: 'event.action == "crm.read"'}
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
  - id: many-reads
    effect: deny
    when: reads
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 24h, condition: {gt: 8}}
"""
TABLES = {
    "identity": [{"agent_id": "reader-1", "tenant": "acme", "actions": ["crm.read"], "workloads": ["w-1"]}],
    "infrastructure": [{"workload_id": "w-1"}],
}
LANE = "acme"


class Kept:
    """A realm, its partition of interest, and how its commands are called."""

    def __init__(self, realm):
        self.realm, self.partition = realm, realm.partition_of(LANE)

    def happen(self):
        with self.realm.worker() as first:
            self.read(6)
            self.realm.send(b"no JSON", LANE)
            for _ in range(40):
                self.realm.send(self.realm.intent("reader-1"), LANE)
            first.kill()
            first.wait()
        with self.realm.worker():
            self.read(6)
            again = self.realm.intent("reader-1")
            self.realm.send(again, LANE)
            self.realm.answer(self.realm.send(again, LANE))

    def read(self, count):
        for _ in range(count):
            self.realm.answer(self.realm.send(self.realm.intent("reader-1"), LANE))

    def verify(self, *words, exit_code=0):
        """Findings, and the summary."""
        told = self.said("verify", *words, "--json", exit_code=exit_code)
        lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        return lines[:-1], lines[-1]["summary"]

    def said(self, *words, exit_code=0):
        return self.realm.harness("log", *words, exit_code=exit_code)

    def exported(self, *words):
        """Its lines; how far it is goes to the other channel, and is said where that takes long."""
        return [json.loads(line) for line in self.said("export", *words).splitlines() if line.startswith("{")]

    def decisions(self):
        return self.realm.records(self.realm.topics.verdicts, self.partition)

    def place(self):
        place = Place.genesis(incarnation(self.realm.settings), self.partition)
        for record in self.decisions():
            place = place.after(record.offset, *read_body(record.value)) or place
        return place


@pytest.fixture(scope="module")
def kept(real_stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("log-verify")
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, folder, rules=RULES, tables=TABLES).prepare()
    found = Kept(realm)
    found.happen()
    return found


def test_a_log_that_a_killed_worker_left_is_right_and_recomputes(kept):
    findings, summary = kept.verify("--full")
    assert findings == []
    told = summary["partitions"][kept.partition]
    bodies = [read_body(r.value)[0] for r in kept.decisions()]
    claims = [b["after"] for b in bodies if b["kind"] == "claim"]
    assert claims[-1] == "crash"
    assert told["from"] == "genesis"
    assert told["end"] == len(bodies)
    assert told["undecided"] == 0
    assert told["recomputed"]["verdict"] == sum(b["kind"] == "verdict" for b in kept.realm.effective(kept.partition))
    rejects = Counter(b["reason"] for b in kept.realm.effective(kept.partition) if b["kind"] == "reject")
    assert told["recomputed"]["reject"] == rejects.pop("duplicate")
    # A busy machine's store may have been silent for a moment; nothing else may be left unproven.
    assert rejects.keys() <= {"state_unavailable"}
    assert told["unproven"] == {f"rejected as {reason}, which tables say": n for reason, n in rejects.items()}
    text = kept.said("verify")
    assert "nothing wrong in 2 partitions" in text
    assert "recomputed" not in text


def test_the_export_holds_every_record_and_what_became_of_it(kept):
    lines = kept.exported("--partition", str(kept.partition))
    assert [(line["offset"], line["append_ms"]) for line in lines] == [
        (r.offset, r.timestamp_ms) for r in kept.decisions()
    ]
    counting = kept.exported("--effective")
    assert {line["status"] for line in counting} == {"effective"}
    said = [dict(a) for line in counting if line["partition"] == kept.partition for a in answers_in(line["body"])]
    assert said == kept.realm.effective(kept.partition)


def test_the_export_has_the_input_of_each_answer_if_asked_for(kept):
    told = [
        (answer["covers"][1], found["offset"])
        for line in kept.exported("--effective", "--inputs")
        for answer, found in zip(answers_in(line["body"]), line.get("inputs") or [line["input"]], strict=True)
        if answer["kind"] in {"verdict", "ack", "reject"}
    ]
    assert told
    assert [last for last, _ in told] == [offset for _, offset in told]


def test_a_checkpoint_is_a_place_to_begin_at(kept):
    stated = [(r.offset, read_body(r.value)[0]) for r in kept.decisions() if read_body(r.value)[0]["kind"] == "checkpoint"]
    offset, body = stated[1]
    findings, summary = kept.verify("--from", f"{kept.partition}/{offset}", "--full")
    (told,) = summary["partitions"]
    assert (findings, told["partition"], told["from"]) == ([], kept.partition, body["verdict_offset"])
    assert told["recomputed"] == {}
    assert told["unproven"].keys() == {"history before the start is not known"}
    file = kept.realm.folder / "checkpoint.json"
    file.write_text(json.dumps(body))
    assert kept.verify("--from", str(file), "--full") == (findings, summary)


def test_a_checkpoint_of_another_course_of_events_is_named(kept):
    body = next(b for b in (read_body(r.value)[0] for r in kept.decisions()[3:]) if b["kind"] == "checkpoint")
    file = kept.realm.folder / "other.json"
    file.write_text(json.dumps(body | {"record_digest": "0" * 64}))
    (found,), _ = kept.verify("--from", str(file), exit_code=1)
    assert (found["finding"], found["offset"]) == ("checkpoint", body["verdict_offset"])
    file.write_text(json.dumps(body | {"verdict_offset": 10_000}))
    (found,), _ = kept.verify("--from", str(file), exit_code=1)
    assert found["finding"] == "truncated"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--from", "0/10000000"), 2, "there is no checkpoint at 0/10000000"),
        (("--from", "9/0"), 2, "there is no partition 9"),
        (("--from", "missing.json"), 2, "missing.json: No such file"),
        (("--from", "tables/identity.yaml"), 2, "holds no checkpoint's body"),
        (("--partition", "9"), 2, "there is no partition 9"),
        (("--prefix", "nothing"), 4, "do not exist"),
        (("--bootstrap", "127.0.0.1:{port}"), 3, "Kafka does not answer"),
    ],
)
def test_what_makes_no_sense_is_said(kept, words, code, told):
    words = [word.format(port=free_port()) for word in words]
    text = kept.said("verify", *words, exit_code=code)
    assert told in text
    assert "Traceback" not in text


# --- From here on the log itself is changed ---


def test_a_lie_in_the_owners_name_is_found_with_its_place(kept):
    """Without signatures anybody who may write can lie; whoever recomputes sees it."""
    realm, place = kept.realm, kept.place()
    header = place.header
    asked = realm.intent("reader-1", action="crm.delete")
    _, offset = realm.send(asked, LANE)
    approved = next(b for b in realm.effective(kept.partition) if b.get("decision") == "approve")
    lie = approved | {
        "epoch": header.epoch,
        "writer": header.writer,
        "prev": header.head,
        "covers": [header.next_input, offset],
        "intent_id": asked["intent_id"],
    }
    realm.append_decision(kept.partition, lie)
    with closing(KafkaReader(realm.settings.bootstrap)) as reader:
        at = ends_of(reader, realm.topics.verdicts, kept.partition, realm.clock).end - 1
    findings, _ = kept.verify("--full", exit_code=1)
    assert {(f["partition"], f["offset"]) for f in findings} == {(kept.partition, at)}
    assert {"digest", "verdict"} <= {f["finding"] for f in findings}
    assert f"{kept.partition}/{at}  digest: intent_digest" in kept.said("verify", "--full", exit_code=1)


def test_where_retention_took_the_beginning_that_is_said(kept):
    realm = kept.realm
    offsets = [r.offset for r in kept.decisions() if read_body(r.value)[0]["kind"] == "checkpoint"]
    admin = KafkaAdmin(realm.settings.bootstrap)
    admin.describe([realm.topics.verdicts])  # adapters/kafka/leaders.py says why
    where = [TopicPartition(realm.topics.verdicts, kept.partition, offsets[1])]
    for future in admin.client.delete_records(where).values():
        future.result(30)
    wait_until(lambda: kept.decisions()[0].offset == offsets[1], why=lambda: "not deleted")
    text = kept.said("verify", "--partition", str(kept.partition), exit_code=1)
    assert f"kept from offset {offsets[1]} on; the audit begins at its oldest checkpoint" in text
