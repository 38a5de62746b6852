"""End queries of a real broker. A process that asks lives: librdkafka is never made to look for leaders (leaders.py)."""

import time
from contextlib import closing
from functools import partial

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from log_lanes import PARTITIONS, KafkaLane

from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.admin import offsets_at
from harness_stream.adapters.kafka.ends import EndsQueries
from harness_stream.config import Settings

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

PATIENCE_S = 20
LOOKED_UP = "query partition leaders"  # what librdkafka logs as it does so, on its way to a SIGSEGV


@pytest.fixture
def lane(real_stack):
    lane = KafkaLane(real_stack.bootstrap)
    with lane.opened:
        # A broker that has not heard yet that it leads says so, and librdkafka drops the leaders that it knew.
        for partition in range(PARTITIONS):
            eventually(lambda partition=partition: offset_answered(lane, partition))
        yield lane


def offset_answered(lane, partition):
    asked = lane.admin.list_offsets({TopicPartition(lane.topic, partition): OffsetSpec.latest()})
    return [future.exception(PATIENCE_S) for future in asked.values()] == [None]


@pytest.fixture
def logged(monkeypatch, capfd):
    """What admin clients that are made from now on have logged about metadata."""
    whole = settings.admin
    monkeypatch.setattr(settings, "admin", lambda where: whole(where) | {"debug": "metadata", "log_level": 7})
    return lambda: capfd.readouterr().err


def eventually(look):
    until_s = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < until_s
        time.sleep(0.005)
    return found


def all_answered(queries, names, asked_at_ms):
    answers = {(ends.topic, ends.partition): ends for ends in queries.collect()}
    eventually(lambda: answers.update({(e.topic, e.partition): e for e in queries.collect()}) or set(answers) >= names)
    assert {ends.asked_at_ms for ends in answers.values()} == {asked_at_ms}
    return answers


def test_whoever_asks_again_and_again_from_the_first_moment_on_makes_librdkafka_look_for_no_leader(lane, logged):
    names = {(lane.topic, partition) for partition in range(PARTITIONS)}
    for _ in range(5):
        with closing(EndsQueries(lane.bootstrap)) as queries:
            eventually(lambda queries=queries: queries.ask(names, 0) or len(queries.collect()) >= PARTITIONS)
    lines = logged()
    assert lane.topic in lines
    assert LOOKED_UP not in lines


def test_who_looks_up_a_moment_makes_librdkafka_look_for_no_leader(lane, logged):
    lane.fill(1, [b"a", b"b"])
    found = offsets_at(Settings(bootstrap=lane.bootstrap), lane.topic, range(PARTITIONS), 0)
    assert (found[0], found[1]) == (None, 0)
    lines = logged()
    assert lane.topic in lines
    assert LOOKED_UP not in lines


def test_where_leaders_are_not_known_the_log_says_so(lane, logged):
    """Or the tests above would prove nothing. One question alone is very unlikely to end the process."""
    admin = AdminClient(settings.admin(lane.bootstrap))
    time.sleep(1)
    [asked] = admin.list_offsets({TopicPartition(lane.topic, 0): OffsetSpec.latest()}).values()
    assert asked.result(PATIENCE_S).offset == 0
    assert LOOKED_UP in logged()


def test_an_answer_waits_for_leaders_and_is_of_the_newest_question(lane):
    lane.fill(0, [b"a", b"b"])
    names = {(lane.topic, 0), (lane.topic, 1)}
    with closing(EndsQueries(lane.bootstrap)) as queries:
        queries.ask(names, 1)
        queries.ask(names, 2)
        answers = all_answered(queries, names, 2)
    assert [(answers[lane.topic, p].low, answers[lane.topic, p].end) for p in (0, 1)] == [(0, 2), (0, 0)]


@pytest.mark.parametrize("absent", [("no-such-topic", 0), None])
def test_who_is_not_there_gets_no_answer_and_keeps_nobody_from_theirs(lane, absent):
    name = (lane.topic, 0)
    nobody = absent or (lane.topic, PARTITIONS)
    with closing(EndsQueries(lane.bootstrap)) as queries:
        for asked_at_ms in range(5):
            queries.ask([name, nobody], asked_at_ms)
            assert set(all_answered(queries, {name}, asked_at_ms)) == {name}


def test_after_forgetting_no_answer_is_of_before(lane):
    name, other = (lane.topic, 0), (lane.topic, 1)
    with closing(EndsQueries(lane.bootstrap)) as queries:
        ask = partial(queries.ask, [name])
        eventually(lambda: ask(0) or queries.collect())
        queries.forget(*name)
        queries.ask([name, other], 1)
        queries.forget(*name)
        ask(2)
        answers = []
        eventually(lambda: answers.extend(queries.collect()) or len(answers) == 2)
        assert sorted((ends.partition, ends.asked_at_ms) for ends in answers) == [(0, 2), (1, 1)]
        ask(3)
        assert queries._lows[name][0] == 2, "a second's queries share one answer about the low end"
        queries.forget(*name)
        ask(4)
        assert queries._lows[name][0] == 4


def test_after_close_nothing_is_asked_and_nothing_answered(lane):
    queries = EndsQueries(lane.bootstrap)
    queries.ask([(lane.topic, 0)], 1)
    queries.close()
    queries.ask([(lane.topic, 0)], 2)
    assert queries.collect() == []
