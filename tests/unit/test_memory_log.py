"""The memory log's faults: what is under way lands by its fate, in order, whoever lives or dies."""

import pytest

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import (
    Fate,
    MemoryBroker,
    MemoryGroup,
    MemoryInputConsumer,
    MemoryReader,
    MemoryWriter,
)
from harness_stream.errors import CallerError, ConfigError


@pytest.fixture
def clock():
    return ManualClock(1_000)


@pytest.fixture
def broker(clock):
    return MemoryBroker({"in": 4, "out": 2}, clock.now_ms, limits={"out": 10})


def values(broker, topic="out", partition=0):
    low, _ = broker.bounds(topic, partition)
    return [r.value for r in broker.read(topic, partition, low, 100)]


def fates(*queue):
    remaining = list(queue)
    return lambda _record: remaining.pop(0) if remaining else Fate()


def test_a_log_that_lost_its_end_writes_those_offsets_again(broker):
    for value in (b"a", b"b", b"c"):
        broker.append("out", 0, None, value)
    broker.truncate_from("out", 0, 1)
    assert broker.bounds("out", 0) == (0, 1)
    assert broker.append("out", 0, None, b"d") == 1
    assert values(broker) == [b"a", b"d"]


def test_a_lost_record_is_reported_failed_and_the_next_one_lands(broker):
    writer = MemoryWriter(broker, fate=fates(Fate(lands=False, reports="failed")))
    writer.append("out", 0, None, b"a", token=1)
    writer.append("out", 0, None, b"b", token=2)
    assert values(broker) == [b"b"]
    assert [(d.token, d.offset, d.error is None) for d in writer.deliveries()] == [(1, None, False), (2, 0, True)]


def test_a_falsely_failed_record_is_in_the_log(broker):
    writer = MemoryWriter(broker, fate=lambda _r: Fate(reports="failed"))
    writer.append("out", 0, None, b"a", token=1)
    [delivery] = writer.deliveries()
    assert delivery.offset is None
    assert delivery.error
    assert values(broker) == [b"a"]


def test_a_delayed_record_delays_those_behind_it_in_its_partition_only(broker, clock):
    writer = MemoryWriter(broker, fate=fates(Fate(land_after_ms=50)))
    writer.append("out", 0, None, b"slow", token=1)
    writer.append("out", 0, None, b"behind", token=2)
    writer.append("out", 1, None, b"aside", token=3)
    assert values(broker) == []
    assert [d.token for d in writer.deliveries()] == [3]
    assert writer.flush(0) == 2
    clock.advance(50)
    assert values(broker) == [b"slow", b"behind"]
    assert [(d.token, d.offset) for d in writer.deliveries()] == [(1, 0), (2, 1)]
    assert writer.flush(0) == 0


def test_a_record_lands_with_the_time_at_which_it_landed_not_at_which_somebody_looked(broker, clock):
    MemoryWriter(broker, fate=lambda _r: Fate(land_after_ms=30)).append("out", 0, None, b"a")
    clock.advance(1_000)
    assert broker.read("out", 0, 0, 1)[0].timestamp_ms == 1_030


def test_a_failed_report_may_come_before_the_record_lands(broker, clock):
    writer = MemoryWriter(broker, fate=lambda _r: Fate(land_after_ms=5_000, report_after_ms=3_000, reports="failed"))
    writer.append("out", 0, None, b"zombie")
    clock.advance(3_000)
    assert [d.offset for d in writer.deliveries()] == [None]
    assert values(broker) == []
    clock.advance(2_000)
    assert values(broker) == [b"zombie"]


def test_reports_keep_the_order_of_appends(broker, clock):
    writer = MemoryWriter(broker, fate=fates(Fate(report_after_ms=40)))
    writer.append("out", 0, None, b"a", token=1)
    writer.append("out", 0, None, b"b", token=2)
    assert values(broker) == [b"a", b"b"]
    assert writer.deliveries() == []
    clock.advance(40)
    assert [d.token for d in writer.deliveries()] == [1, 2]


def test_a_record_that_is_never_reported_does_not_hide_the_next_report(broker):
    writer = MemoryWriter(broker, fate=fates(Fate(reports="never")))
    writer.append("out", 0, None, b"a", token=1)
    writer.append("out", 0, None, b"b", token=2)
    assert [d.token for d in writer.deliveries()] == [2]


def test_what_a_dead_writer_handed_over_lands_between_others_records_by_time(broker, clock):
    dead = MemoryWriter(broker, fate=lambda _r: Fate(land_after_ms=20))
    dead.append("out", 0, None, b"zombie")
    del dead
    writer = MemoryWriter(broker)
    writer.append("out", 0, None, b"before")
    clock.advance(20)
    writer.append("out", 0, None, b"after")
    assert values(broker) == [b"before", b"zombie", b"after"]


@pytest.mark.parametrize(("keep", "left"), [(None, 3), (0, 0), (2, 2)])
def test_a_crash_keeps_the_first_of_what_was_under_way(broker, clock, keep, left):
    writer = MemoryWriter(broker, fate=lambda _r: Fate(land_after_ms=10))
    for value in (b"a", b"b", b"c"):
        writer.append("out", 0, None, value)
    writer.crash(keep)
    clock.advance(10)
    assert values(broker) == [b"a", b"b", b"c"][:left]
    with pytest.raises(CallerError):
        writer.append("out", 0, None, b"d")


def test_a_fate_cannot_confirm_what_was_lost():
    with pytest.raises(ValueError, match="never confirms"):
        Fate(lands=False, reports="ok")


def test_append_time_never_steps_back():
    now = [5_000]
    stepping = MemoryBroker({"t": 1}, lambda: now[0])
    stepping.append("t", 0, None, b"a")
    now[0] = 4_000
    stepping.append("t", 0, None, b"b")
    assert [r.timestamp_ms for r in stepping.read("t", 0, 0, 2)] == [5_000, 5_000]


def test_append_time_steps_back_with_the_brokers_clock(broker):
    for off_ms in (4_000, -4_000):
        broker.append_off_ms = off_ms
        broker.append("out", 0, None, b"a")
    assert [r.timestamp_ms for r in broker.read("out", 0, 0, 2)] == [5_000, -3_000]


def test_a_writer_whose_records_were_lost_has_what_is_under_way_and_the_next_one_refused(broker, clock):
    writer = MemoryWriter(broker, fate=fates(Fate(), Fate(land_after_ms=5, report_after_ms=5)))
    writer.append("out", 0, None, b"a", token=1)
    writer.append("out", 0, None, b"b", token=2)
    broker.truncate_from("out", 0, 0)
    writer.break_sequence("out", 0)
    writer.append("out", 0, None, b"c", token=3)
    writer.append("out", 0, None, b"d", token=4)
    writer.append("out", 1, None, b"e", token=5)
    clock.advance(5)
    assert (values(broker), values(broker, partition=1)) == ([b"d"], [b"e"])
    assert {d.token: d.offset for d in writer.deliveries()} == {1: 0, 2: None, 3: None, 4: 0, 5: 0}


def test_skipped_offsets_hold_no_record_but_count(broker):
    reader = MemoryReader(broker)
    reader.follow("out", 0, 0)
    broker.append("out", 0, None, b"a")
    broker.skip_offsets("out", 0, 2)
    broker.append("out", 0, None, b"b")
    assert [r.offset for r in reader.poll(10)] == [0, 3]
    broker.skip_offsets("out", 0, 1)
    assert broker.bounds("out", 0) == (0, 5)


def test_a_reader_serves_every_partition_in_turn(broker):
    reader = MemoryReader(broker)
    for partition in (0, 1):
        reader.follow("out", partition, 0)
        for _ in range(3):
            broker.append("out", partition, None, b"x")
    assert [r.partition for r in reader.poll(2) + reader.poll(2)] == [0, 0, 1, 1]


def test_an_unknown_topic_is_an_error(broker):
    with pytest.raises(ConfigError, match="nothing"):
        broker.append("nothing", 0, None, b"x")
    with pytest.raises(CallerError, match="nothing"):
        MemoryWriter(broker).append("nothing", 0, None, b"x")


class TestGroup:
    @pytest.fixture
    def group(self, broker):
        return MemoryGroup(broker, "in", session_ms=100)

    def test_a_second_member_gets_half_only_after_the_first_has_finished(self, group):
        a = MemoryInputConsumer(group, "a")
        assert [x.gained for x in a.assignments()] == [(0, 1, 2, 3)]
        b = MemoryInputConsumer(group, "b")
        assert [x.revoked for x in a.assignments()] == [(2, 3)]
        assert b.assignments() == []
        a.finish_revoke([2])
        assert [x.gained for x in b.assignments()] == [(2,)]
        a.finish_revoke([3])
        assert [x.gained for x in b.assignments()] == [(3,)]

    def test_a_silent_member_is_expelled_and_learns_it_when_it_polls(self, group, clock, broker):
        a, b = MemoryInputConsumer(group, "a"), MemoryInputConsumer(group, "b")
        a.assignments()
        a.finish_revoke([2])
        a.start(0, 0)
        broker.append("in", 0, None, b"x")
        clock.advance(101)
        b.poll(10, 0)
        assert sorted(p for x in b.assignments() for p in x.gained) == [0, 1, 2, 3]
        assert a.assignments() == []  # a zombie: it does not know yet
        assert a.poll(10, 0) == []
        assert [x.lost for x in a.assignments() if x.lost] == [(0, 1, 3)]  # 3 was not given up yet

    @pytest.mark.parametrize(("at", "told"), [(1, [(0, 0)]), (2, [])])
    def test_a_cut_below_what_was_delivered_is_told_though_the_log_has_grown_beyond_it(self, group, broker, at, told):
        a = MemoryInputConsumer(group, "a")
        a.assignments()
        a.start(0, 0)
        for value in (b"a", b"b", b"c"):
            broker.append("in", 0, None, value)
        assert [r.offset for r in a.poll(2, 0)] == [0, 1]
        broker.truncate_from("in", 0, at)
        for value in (b"d", b"e", b"f"):
            broker.append("in", 0, None, value)
        come = [r.value for r in a.poll(10, 0)]
        assert a.lost_ranges() == told
        assert come == ([] if told else [b"d", b"e", b"f"])
        a.start(0, 2)
        a.poll(10, 0)
        assert a.lost_ranges() == []

    def test_before_the_first_record_nobody_knows_a_leader_epoch_to_compare(self, group, broker):
        a = MemoryInputConsumer(group, "a")
        a.assignments()
        for value in (b"a", b"b"):
            broker.append("in", 0, None, value)
        a.start(0, 1)
        broker.truncate_from("in", 0, 0)
        for value in (b"c", b"d"):
            broker.append("in", 0, None, value)
        assert [r.value for r in a.poll(10, 0)] == [b"d"]
        assert a.lost_ranges() == []

    def test_an_expelled_member_joins_again(self, group, clock):
        a, b = MemoryInputConsumer(group, "a"), MemoryInputConsumer(group, "b")
        a.finish_revoke([2, 3])
        clock.advance(101)
        b.poll(1, 0)
        a.poll(1, 0)
        b.assignments()
        b.finish_revoke([2, 3])
        a.poll(1, 0)
        assert len([p for p, owner in group.owners().items() if owner == "a"]) == 2

    def test_partitions_stay_where_they_are_as_far_as_possible(self, group):
        members = [MemoryInputConsumer(group, name) for name in "abc"]
        for _ in range(3):
            for member in members:
                for change in member.assignments():
                    member.finish_revoke(change.revoked)
        before = group.owners()
        assert set(before.values()) == {"a", "b", "c"}
        members[2].close()
        after = group.owners()
        assert all(after[p] == before[p] for p in before if before[p] != "c")
        assert sorted(after) == [0, 1, 2, 3]

    def test_nothing_comes_from_a_partition_that_is_being_revoked(self, group, broker):
        a = MemoryInputConsumer(group, "a")
        a.assignments()
        a.start(3, 0)
        MemoryInputConsumer(group, "b")
        broker.append("in", 3, None, b"x")
        assert a.poll(10, 0) == []

    def test_commits_count_only_for_what_is_owned(self, group):
        a = MemoryInputConsumer(group, "a")
        a.assignments()
        a.commit({0: 7})
        a.close()
        assert group.committed == {0: 7}
