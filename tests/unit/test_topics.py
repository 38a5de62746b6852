"""The topic table of PROTOCOL §2, and how what a broker has is compared with it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from harness_stream.adapters.kafka import topics
from harness_stream.adapters.kafka.topics import Found, compare, topics_for
from harness_stream.cli.main import app
from harness_stream.config import Settings
from harness_stream.errors import ConfigError
from harness_stream.wire.topics import Requirement, Topics, retention_ms, topic_specs

DAY_MS = 86_400_000
KEPT_MS = retention_ms(Settings().max_timespan_ms, Settings().snapshot_interval_ms)


def specs(*, partitions=8, kept_ms=DAY_MS, replication=3):
    return {s.name: s for s in topic_specs("harness", partitions, kept_ms, replication)}


def wanted(spec):
    return {need.name: need.value for need in spec.requirements}


def as_created(spec):
    return Found(spec.partitions, spec.replication, wanted(spec))


def test_a_realm_has_the_ten_topics_of_the_protocol():
    topics = Topics("harness")
    assert set(specs()) == {
        topics.intents,
        topics.verdicts,
        topics.heads,
        topics.chains,
        topics.identity,
        topics.infrastructure,
        topics.risk,
        topics.classification,
        topics.rules,
        topics.deadletter,
    }
    assert topics.intents == "harness.intents"
    assert topics.table("risk") == topics.risk


def test_what_is_numbered_as_the_lanes_has_their_partition_count_and_the_rest_has_one():
    counts = {name: s.partitions for name, s in specs(partitions=5).items()}
    lanes = {n for n, count in counts.items() if count == 5}
    assert lanes == {"harness.intents", "harness.verdicts", "harness.heads", "harness.chains"}
    assert {counts[n] for n in set(counts) - lanes} == {1}


def test_every_topic_carries_the_brokers_time():
    assert all(wanted(s)["message.timestamp.type"] == "LogAppendTime" for s in specs().values())


def test_the_logs_are_deleted_by_time_and_everything_else_but_garbage_is_compacted():
    deleted = {n for n, s in specs().items() if wanted(s)["cleanup.policy"] == "delete"}
    assert deleted == {"harness.intents", "harness.verdicts", "harness.deadletter"}


def test_a_batch_of_compressed_input_cannot_exceed_its_limit_when_unpacked():
    intents = wanted(specs()["harness.intents"])
    assert intents["compression.type"] == "uncompressed"
    assert intents["max.message.bytes"] == str(64 * 1024)


def test_the_logs_outlive_the_longest_window_a_hold_two_snapshots_and_a_day():
    kept_ms = retention_ms(7 * DAY_MS, 60_000)
    assert kept_ms == 7 * DAY_MS + 900_000 + 2 * 60_000 + DAY_MS
    for log in ("harness.intents", "harness.verdicts"):
        assert wanted(specs(kept_ms=kept_ms)[log])["retention.ms"] == str(kept_ms)


def test_production_survives_the_loss_of_a_broker_and_dev_needs_only_one():
    for spec in specs().values():
        assert (spec.replication, wanted(spec)["min.insync.replicas"]) == (3, "2")
        assert wanted(spec)["unclean.leader.election.enable"] == "false"
    for spec in specs(replication=1).values():
        assert (spec.replication, wanted(spec)["min.insync.replicas"]) == (1, "1")


def test_a_dev_realm_that_asks_for_three_replicas_gets_what_production_has():
    assert topics_for(Settings(dev=True)) == tuple(specs(kept_ms=KEPT_MS, replication=1).values())
    assert topics_for(Settings(dev=True, replication=3)) == topics_for(Settings())
    assert topics_for(Settings()) == tuple(specs(kept_ms=KEPT_MS).values())


def test_without_dev_a_realm_cannot_ask_for_fewer():
    with pytest.raises(ConfigError, match="at least 3 replicas, not 1"):
        topics_for(Settings(replication=1))


@pytest.mark.parametrize("replication", [1, 2, 3])
def test_what_was_just_created_has_no_differences(replication):
    assert [d for s in specs(replication=replication).values() for d in compare(s, as_created(s))] == []


def test_more_replicas_and_longer_retention_are_no_difference():
    spec = specs()["harness.verdicts"]
    configs = wanted(spec) | {"retention.ms": "-1", "min.insync.replicas": "3"}
    assert compare(spec, Found(8, 5, configs)) == []


def test_partitions_and_replicas_are_reported_as_not_fixable():
    spec = specs()["harness.intents"]
    found = [(d.setting, d.expected, d.found, d.fixable) for d in compare(spec, Found(4, 1, wanted(spec)))]
    assert found == [("partitions", "8", "4", False), ("replication factor", "≥ 3", "1", False)]


def test_a_difference_says_what_is_and_what_must_be():
    spec = specs()["harness.intents"]
    [difference] = compare(spec, Found(8, 3, wanted(spec) | {"message.timestamp.type": "CreateTime"}))
    assert str(difference) == "`harness.intents`: message.timestamp.type is CreateTime, must be LogAppendTime"
    assert difference.fixable


@given(st.sampled_from(sorted(specs())), st.data())
def test_each_setting_that_is_missing_is_one_difference(name, data):
    spec = specs()[name]
    gone = data.draw(st.sets(st.sampled_from([need.name for need in spec.requirements])))
    configs = {k: v for k, v in wanted(spec).items() if k not in gone}
    assert {d.setting for d in compare(spec, Found(spec.partitions, 3, configs))} == gone


@given(st.integers(0, 2**53), st.integers(0, 2**53))
def test_a_floor_is_met_by_any_number_not_below_it(floor, found):
    assert Requirement("x", str(floor), floor=True).met_by(str(found)) == (found >= floor)


@pytest.mark.parametrize(("partitions", "told"), [(4, True), (Settings().partitions, False)])
def test_whoever_creates_topics_with_another_partition_count_reads_that_workers_need_it_too(monkeypatch, partitions, told):
    missing = topics.Plan(tuple(topic_specs("harness", partitions, DAY_MS, 1)), ())
    monkeypatch.setattr(topics, "plan", lambda *_: missing)
    monkeypatch.setattr(topics, "create", lambda *_: None)
    monkeypatch.setattr(topics, "plan_when_visible", lambda *_, **__: topics.Plan((), ()))
    monkeypatch.setattr(topics, "advice", lambda *_: [])
    done = CliRunner().invoke(app, ["topics", "apply", "--dev", "--partitions", str(partitions)])
    assert f"created `harness.intents` ({partitions} partitions)" in done.output
    assert (f"`HARNESS_PARTITIONS={partitions}`" in done.output) is told
