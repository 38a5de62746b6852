"""`harness log witness` and `log verify --witness` on a real broker: held, contradicted, recreated."""

import json
import os
import signal

import pytest
from confluent_kafka.admin import NewTopic
from log_lanes import eventually
from own_realm import UNSIGNED, OwnRealm, wait_until

from harness_stream.adapters.kafka.admin import KafkaAdmin
from harness_stream.adapters.witness_file import held_in

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

RULES = """
rule_set: production
default: deny
selections: {}
rules: [{id: allowed, effect: approve, when: intent.action in identity.actions}]
"""
TABLES = {
    "identity": [{"agent_id": "reader-1", "tenant": "acme", "actions": ["crm.read"], "workloads": ["w-1"]}],
    "infrastructure": [{"workload_id": "w-1"}],
}
LANE = "acme"


class Witnessed:
    """A realm and the folder in which its checkpoints are held."""

    def __init__(self, realm):
        self.realm, self.folder, self.partition = realm, realm.folder / "heads", realm.partition_of(LANE)

    def read(self, count=3):
        for _ in range(count):
            self.realm.answer(self.realm.send(self.realm.intent("reader-1"), LANE))

    def said(self, *words, exit_code=0):
        """What a command tells programs: findings, and the summary."""
        told = self.realm.harness("log", *words, "--json", exit_code=exit_code)
        lines = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
        return lines[:-1], lines[-1]["summary"]

    def once(self, exit_code=0):
        return self.said("witness", f"{self.folder}/", "--once", exit_code=exit_code)

    def verified(self, path=None, exit_code=0):
        findings, summary = self.said("verify", "--witness", str(path or self.folder), exit_code=exit_code)
        return findings, summary["partitions"][self.partition]["witness"]

    def lines(self):
        file = self.folder / f"partition-{self.partition:05d}.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def altered(self, **over):
        """Another witness's file: what this log would look like to one who saw another one."""
        file = self.realm.folder / "altered.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in [*self.lines(), self.lines()[-1] | over]))
        return file

    def say(self, **over):
        """A checkpoint of somebody who may write to the heads topic."""
        newest = self.realm.records(self.realm.topics.heads, self.partition)[-1]
        body = json.dumps(json.loads(newest.value) | over).encode()
        self.realm._producer.produce(self.realm.topics.heads, body, newest.key, self.partition, headers=UNSIGNED)
        assert self.realm._producer.flush(30) == 0


@pytest.fixture(scope="module")
def witnessed(real_stack, tmp_path_factory):
    folder = tmp_path_factory.mktemp("witness")
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, folder, rules=RULES, tables=TABLES).prepare()
    return Witnessed(realm)


def test_what_a_worker_writes_is_held_while_it_is_followed_and_a_signal_ends_it_cleanly(witnessed):
    realm, path = witnessed.realm, f"{witnessed.folder}/"
    following = realm.running("harness_stream", "log", "witness", path, "--every", "1s", ready="(?m)^holding ")
    with realm.worker(), following as witness:
        witnessed.read()
        wait_until(lambda: witnessed.folder.exists() and len(list_of(witnessed)) > 1, why=lambda: "nothing is held")
        witness.send_signal(signal.SIGINT)
        assert witness.wait(30) == 0
    held = witnessed.lines()
    assert [line["at"] for line in held] == sorted({line["at"] for line in held})
    assert witnessed.once()[0] == []
    findings, told = witnessed.verified()
    assert (findings, told["compared"]) == ([], len(witnessed.lines()))
    text = realm.harness("log", "verify", "--witness", path)
    assert f"witness: {told['held']} held, {told['compared']} found as they are held" in text


def list_of(witnessed):
    return [one for one in held_in(str(witnessed.folder)) if one.place.header.partition == witnessed.partition]


def test_a_log_that_was_longer_or_had_another_record_is_found_by_who_held_it(witnessed):
    (found,), _ = witnessed.verified(witnessed.altered(verdict_offset=10_000), exit_code=1)
    assert (found["finding"], found["partition"]) == ("truncated", witnessed.partition)
    assert "held: offset 10000, record " in found["text"]
    last = witnessed.lines()[-1]
    (found,), _ = witnessed.verified(witnessed.altered(record_digest="0" * 64), exit_code=1)
    assert (found["finding"], found["offset"]) == ("witness", last["verdict_offset"])
    assert f"record {last['record_digest'][:12]}" in found["text"]


def test_a_checkpoint_that_contradicts_what_is_held_is_told_and_the_truth_after_it_is_not(witnessed):
    offset = witnessed.lines()[-1]["verdict_offset"]
    with witnessed.realm.worker():  # one that started after the lie would halt
        witnessed.read()
        witnessed.say(verdict_offset=offset - 1, record_digest="0" * 64)
        (found,), summary = witnessed.once(exit_code=1)
        assert (found["finding"], summary["findings"]) == ("witness", 1)
        assert found["offset"] >= offset
        assert "it names a lower offset" in found["text"]
        witnessed.read()
    # A lie that was held last is said at the next start, unless its worker's truth came before the first one ended.
    wait_until(lambda: says_nothing(witnessed), why=lambda: "the truth is contradicted")
    findings, told = witnessed.verified(exit_code=1)
    # The auditor itself names the lie as well, which still stands in the heads topic.
    assert [found["offset"] for found in findings if found["finding"] == "witness"] == [offset - 1], findings
    assert told["compared"] == told["held"] - 1


def says_nothing(witnessed):
    try:
        return witnessed.once()[0] == []
    except AssertionError:
        return False


def test_a_torn_line_is_mended_and_two_witnesses_do_not_share_a_file(witnessed):
    file = witnessed.folder / f"partition-{witnessed.partition:05d}.jsonl"
    whole = file.read_bytes()
    with file.open("ab") as torn:
        torn.write(whole[:50])
    assert witnessed.once()[0] == []
    assert file.read_bytes() == whole
    following = witnessed.realm.running("harness_stream", "log", "witness", str(witnessed.folder), ready="(?m)^holding ")
    with following:
        text = witnessed.realm.harness("log", "witness", str(witnessed.folder), "--once", exit_code=2)
    assert "is held open by another `harness log witness`" in text
    assert "Traceback" not in text
    assert os.access(file, os.R_OK)


def test_recreated_topics_are_told_by_both(witnessed):
    realm = witnessed.realm
    admin, names = KafkaAdmin(realm.settings.bootstrap), [realm.topics.verdicts]
    for deleted in admin.client.delete_topics(names).values():
        admin.result(deleted)
    eventually(lambda: set(admin.describe(names).values()) == {None})
    for created in admin.client.create_topics([NewTopic(names[0], realm.settings.partitions, 1)]).values():
        admin.result(created)
    eventually(lambda: None not in admin.describe(names).values())
    findings, _ = witnessed.once(exit_code=1)
    assert {found["finding"] for found in findings} == {"recreated"}
    findings, told = witnessed.verified(exit_code=1)
    assert {found["finding"] for found in findings} == {"recreated"}
    assert (told["held"], told["compared"]) == (len(witnessed.lines()), 0)
