"""`harness topics apply` against a real broker: it creates, repeats harmlessly, reports, and mends only when asked."""

import json
import sys
import uuid
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient
from log_lanes import eventually

from harness_stream.adapters.kafka.admin import KafkaAdmin, incarnation, partitions
from harness_stream.adapters.kafka.topics import create, plan, verify
from harness_stream.cli import main as cli
from harness_stream.config import Settings
from harness_stream.errors import BrokerUnavailable, ProtocolError
from harness_stream.wire import acls

pytestmark = pytest.mark.real


@pytest.fixture
def realm(real_stack, monkeypatch):
    """Settings of a realm that has no topics yet; the command sees the same ones."""
    realm = Settings(bootstrap=real_stack.bootstrap, prefix=f"realm-{uuid.uuid4().hex[:8]}", partitions=3, dev=True)
    monkeypatch.setenv("HARNESS_BOOTSTRAP", realm.bootstrap)
    monkeypatch.setenv("HARNESS_PREFIX", realm.prefix)
    return realm


@pytest.fixture
def apply(monkeypatch, capsys):
    """Runs `harness topics apply` with these flags: (exit code, its JSON report, what it said on standard error)."""

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["harness", "topics", "apply", "--json", *flags])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, json.loads(said.out) if said.out else None, said.err

    return run


FLAGS = ("--dev", "--partitions", "3")


def test_a_new_realm_is_created_whole_and_repeating_changes_nothing(realm, apply):
    code, report, _ = apply(*FLAGS)
    assert code == 0
    assert len(report["created"]) == 10
    verify(realm)
    assert partitions(realm, f"{realm.prefix}.intents") == 3
    assert apply(*FLAGS)[:2] == (0, {"created": [], "fixed": [], "differences": []})


class LateAnswer(KafkaAdmin):
    """A broker so busy making topics that its answer comes when nobody waits for it any more."""

    def result(self, future, name="", *operations):
        found = super().result(future, name, *operations)
        if operations == (acls.CREATE,):
            raise self.unavailable("Failed while waiting for response from broker: Local: Timed out")
        return found


class NoAnswer(LateAnswer):
    def describe(self, names, wanted=None):
        return dict.fromkeys(names)


def test_topics_that_were_made_though_the_answer_was_late_are_made(realm):
    """It said that Kafka does not answer, and all that was asked for was there."""
    admin = LateAnswer(realm.kafka)
    create(admin, plan(admin, realm).missing)
    verify(realm)


def test_a_topic_that_does_not_come_is_not_taken_for_made(realm, monkeypatch):
    monkeypatch.setattr("harness_stream.adapters.kafka.topics.VISIBLE_S_MAX", 0.1)
    with pytest.raises(BrokerUnavailable, match="is not made after"):
        create(NoAnswer(realm.kafka), plan(KafkaAdmin(realm.kafka), realm).missing)


def test_before_that_a_worker_is_told_what_is_missing(realm):
    with pytest.raises(ProtocolError, match="intents` does not exist") as told:
        verify(realm)
    assert "harness topics apply" in told.value.hint
    with pytest.raises(ProtocolError, match="does not exist"):
        incarnation(realm)


def test_differences_end_in_exit_code_4_and_only_fix_mends_settings(realm, apply):
    apply(*FLAGS)
    longer = replace(realm, max_timespan_ms=7 * 86_400_000)
    with pytest.raises(ProtocolError, match=r"retention\.ms is \d+, must be ≥ \d+"):
        verify(longer)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as env:
        env.setenv("HARNESS_MAX_TIMESPAN_MS", str(longer.max_timespan_ms))
        code, report, said = apply(*FLAGS)
        assert (code, len(report["differences"])) == (4, 2)
        assert "--fix" in said
        code, report, _ = apply(*FLAGS, "--fix")
        assert (code, len(report["fixed"]), report["differences"]) == (0, 2, [])
    verify(longer)


def test_partition_counts_are_never_changed(realm, apply):
    apply(*FLAGS)
    code, report, said = apply("--dev", "--partitions", "5", "--fix")
    assert code == 4
    assert {d["setting"] for d in report["differences"]} == {"partitions"}
    assert "never changed in place" in said
    assert partitions(realm, f"{realm.prefix}.verdicts") == 3


def test_a_dev_realm_without_dev_is_told_that_this_is_the_cause(realm, apply):
    apply(*FLAGS)
    code, report, said = apply("--partitions", "3")
    assert code == 4
    assert {d["setting"] for d in report["differences"]} >= {"replication factor", "min.insync.replicas"}
    assert said.splitlines()[1] == (
        "→ a realm made with `--dev` has one replica: add `--dev` (or set HARNESS_DEV=1) here too"
    )
    with pytest.raises(ProtocolError) as told:
        verify(replace(realm, dev=False))
    assert "add `--dev`" in told.value.hint
    code, _, said = apply("--partitions", "5")
    assert "add `--dev`" in said
    assert "never changed in place" in said


def test_fix_without_dev_does_not_demand_more_replicas_in_sync_than_a_dev_realm_has(realm, apply):
    apply(*FLAGS)
    apply("--partitions", "3", "--fix")
    verify(realm)
    found = plan(KafkaAdmin(realm.bootstrap), replace(realm, dev=False)).differences
    assert {d.found for d in found if d.setting == "min.insync.replicas"} == {"1"}


def test_production_settings_are_refused_by_a_single_broker_with_advice(realm, apply):
    code, _, said = apply("--partitions", "3")
    assert code == 4
    assert "on fewer brokers than that add `--dev`" in said


def test_a_recreated_log_is_another_incarnation(realm, apply):
    assert apply(*FLAGS)[0] == 0
    first = incarnation(realm)
    assert incarnation(realm) == first
    client = AdminClient({"bootstrap.servers": realm.bootstrap})
    [deleted] = client.delete_topics([f"{realm.prefix}.verdicts"]).values()
    deleted.result(30)

    def gone():
        try:
            return not incarnation(realm)
        except ProtocolError:
            return True

    eventually(gone)  # the broker's own view follows its controller's by some milliseconds
    assert apply(*FLAGS)[0] == 0
    second = incarnation(realm)
    assert second != first
    assert second.split(".")[0] == first.split(".")[0]


def test_no_broker_is_exit_code_3_with_its_address_and_what_to_do(apply):
    code, _, said = apply("--bootstrap", "127.0.0.1:1")
    assert code == 3
    assert "127.0.0.1:1" in said
    assert "harness up" in said
    with pytest.raises(BrokerUnavailable):
        incarnation(Settings(bootstrap="127.0.0.1:1"))


@pytest.mark.usefixtures("realm")
def test_rights_are_not_written_where_they_would_protect_nothing(apply):
    code, _, said = apply(*FLAGS, "--acls", "--principal", "worker=User:worker")
    assert code == 2
    assert "has no authorizer, so ACLs protect nothing there" in said
    assert "authorizer.class.name" in said


def test_a_check_creates_nothing_and_says_what_it_would(realm, apply):
    code, report, said = apply(*FLAGS, "--check")
    assert (code, report["created"], len(report["missing"])) == (4, [], 10)
    assert "without `--check` the missing topics are created" in said
    assert [spec.name for spec in plan(KafkaAdmin(realm.bootstrap), realm).missing] == report["missing"]
    code, _, said = apply(*FLAGS, "--check", "--fix")
    assert (code, "`--check` changes nothing" in said) == (2, True)
    code, _, said = apply(*FLAGS, "--prune")
    assert (code, "add --acls" in said) == (2, True)
