"""What every log promises (ports.LogReader, LogWriter, InputConsumer): one suite for memory and Kafka."""

import time

import pytest
from log_lanes import LIMIT, PARTITIONS, KafkaLane, MemoryLane, eventually, read, silent

EVERY = tuple(range(PARTITIONS))


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.real)])
def lane(request):
    kafka = request.param == "kafka"
    lane = kafka_lane(request.getfixturevalue("real_stack")) if kafka else MemoryLane()
    with lane.opened:
        yield lane


def kafka_lane(stack):
    return KafkaLane(stack.bootstrap, stack.data)


def values(records):
    return [r.value for r in records]


def bounds(reader, *partitions):
    """Answers to an end-offset query, by partition; asked again while unanswered, as a worker does, on a clock that goes.

    An answer says when it was asked; one that comes late, to a question of before, is none to this one.
    """
    answers, asked_ms = {}, set()

    def answered():
        if not answers:
            asked_ms.add(now_ms := time.monotonic_ns() // 1_000_000)
            reader.ask_ends(partitions, now_ms)
            time.sleep(0.05)
        found = [e for e in reader.ends() if e.asked_at_ms in asked_ms and e.topic == partitions[0][0]]
        answers.update({e.partition: e for e in found})
        return len(answers) == len(partitions)

    eventually(answered)
    return {p: (e.low, e.end) for p, e in answers.items()}


class TestWriter:
    def test_a_record_is_read_as_it_was_written(self, lane):
        began_ms = time.time_ns() // 1_000_000
        writer, reader = lane.writer(), lane.reader()
        reader.follow(lane.topic, 1, 0)
        writer.append(lane.topic, 1, b"key", b"value", [("a", b"1"), ("b", b"\x00\xff")], token=9)
        [delivery] = lane.fates(writer, 1)
        assert delivery == (lane.topic, 1, 9, 0, None)
        [record] = read(reader, 1)
        assert record[:5] == (lane.topic, 1, 0, b"key", b"value")
        assert list(record.headers) == [("a", b"1"), ("b", b"\x00\xff")]
        assert began_ms - 1_000 <= record.timestamp_ms <= time.time_ns() // 1_000_000 + 1_000

    def test_no_key_no_headers_and_no_value_are_kept_apart_from_empty_ones(self, lane):
        writer, reader = lane.writer(), lane.reader()
        reader.follow(lane.topic, 0, 0)
        writer.append(lane.topic, 0, None, b"")
        writer.append(lane.topic, 0, b"", None)
        first, tombstone = read(reader, 2)
        assert (first.key, first.value, list(first.headers)) == (None, b"", [])
        assert (tombstone.key, tombstone.value) == (b"", None)

    def test_records_of_a_partition_keep_their_order_and_so_do_their_fates(self, lane):
        writer, reader = lane.writer(), lane.reader()
        for n in range(200):
            writer.append(lane.topic, n % 2, None, b"%d" % n, token=n)
        fates = lane.fates(writer, 200)
        for partition in (0, 1):
            mine = [f for f in fates if f.partition == partition]
            assert [f.token for f in mine] == list(range(partition, 200, 2))
            assert [f.offset for f in mine] == list(range(100))
            reader.follow(lane.topic, partition, 0)
        records = read(reader, 200)
        for partition in (0, 1):
            mine = [r for r in records if r.partition == partition]
            assert values(mine) == [b"%d" % n for n in range(partition, 200, 2)]
            assert [r.timestamp_ms for r in mine] == sorted(r.timestamp_ms for r in mine)

    def test_an_oversized_record_fails_alone(self, lane):
        writer, reader = lane.writer(), lane.reader()
        for token, size in enumerate((1, LIMIT, LIMIT + 10_000, 2_000_000, 1)):
            writer.append(lane.topic, 0, None, b"x" * size, token=token)
        fates = lane.fates(writer, 5)
        assert [f.token for f in fates] == [0, 1, 2, 3, 4]
        assert [f.offset for f in fates] == [0, 1, None, None, 2]
        assert [bool(f.error) for f in fates] == [False, False, True, True, False]
        reader.follow(lane.topic, 0, 0)
        assert [len(v) for v in values(read(reader, 3))] == [1, LIMIT, 1]

    def test_records_that_fit_alone_fit_however_many_are_handed_over_at_once(self, lane):
        writer, size = lane.writer(), LIMIT // 10
        for token in range(100):
            writer.append(lane.topic, 0, None, b"x" * size, token=token)
        assert [f.error for f in lane.fates(writer, 100) if f.error] == []

    def test_flush_waits_for_every_fate_and_loses_none(self, lane):
        writer = lane.writer()
        for token in range(20):
            writer.append(lane.topic, token % PARTITIONS, None, b"x", token=token)
        assert writer.flush(10_000) == 0
        assert sorted(f.token for f in writer.deliveries()) == list(range(20))
        assert writer.deliveries() == []


class TestReader:
    def test_it_starts_at_the_offset_named(self, lane):
        lane.fill(2, [b"a", b"b", b"c"])
        reader = lane.reader()
        reader.follow(lane.topic, 2, 1)
        assert values(read(reader, 2)) == [b"b", b"c"]

    def test_following_from_the_end_delivers_what_comes_later(self, lane):
        lane.fill(0, [b"old"])
        reader = lane.reader()
        reader.follow(lane.topic, 0, bounds(reader, (lane.topic, 0))[0][1])
        lane.fill(0, [b"new"])
        assert values(read(reader, 1)) == [b"new"]

    def test_following_again_moves_back_and_forth_without_stale_records(self, lane):
        lane.fill(0, [b"%d" % n for n in range(500)])
        reader = lane.reader()
        for offset in (0, 300, 100, 499, 0, 250):
            reader.follow(lane.topic, 0, offset)
            eventually(lambda: (got := reader.poll(7)) and setattr(lane, "got", got) is None)
            assert [r.offset for r in lane.got] == list(range(offset, offset + len(lane.got)))
        assert [r.offset for r in read(reader, 250 - len(lane.got))] == list(range(250 + len(lane.got), 500))

    def test_an_unfollowed_partition_is_silent_at_once_and_others_go_on(self, lane):
        lane.fill(0, [b"%d" % n for n in range(100)])
        reader = lane.reader()
        reader.follow(lane.topic, 0, 0)
        eventually(lambda: reader.poll(1))
        reader.unfollow(lane.topic, 0)
        reader.follow(lane.topic, 1, 0)
        assert silent(reader)
        lane.fill(1, [b"other"])
        assert values(read(reader, 1)) == [b"other"]

    def test_poll_gives_at_most_what_was_asked_for(self, lane):
        lane.fill(0, [b"x"] * 10)
        reader = lane.reader()
        reader.follow(lane.topic, 0, 0)
        sizes = []
        eventually(lambda: sizes.append(len(reader.poll(3))) or sum(sizes) == 10)
        assert max(sizes) <= 3

    def test_bounds_are_the_first_kept_and_the_next_written_offset(self, lane):
        lane.fill(0, [b"x"] * 5)
        lane.truncate_before(0, 2)
        assert bounds(lane.reader(), (lane.topic, 0), (lane.topic, 1)) == {0: (2, 5), 1: (0, 0)}

    def test_asking_about_what_does_not_exist_gives_no_answer_and_no_error(self, lane):
        reader = lane.reader()
        for _ in range(3):
            reader.ask_ends([("nothing-here", 0)], 1)
            assert bounds(reader, (lane.topic, 0)) == {0: (0, 0)}
        assert all(e.topic == lane.topic for e in reader.ends())

    @pytest.mark.parametrize("offset", [1, 9])
    def test_a_position_outside_of_the_log_is_not_jumped_from(self, lane, offset):
        lane.fill(0, [b"x"] * 5)
        lane.truncate_before(0, 3)
        reader = lane.reader()
        reader.follow(lane.topic, 0, offset)
        assert silent(reader)
        lane.fill(0, [b"y"] * 10)
        assert silent(reader)
        reader.follow(lane.topic, 0, 3)
        assert [r.offset for r in read(reader, 12)] == list(range(3, 15))

    def test_what_cannot_be_read_is_told_where_it_is_and_others_go_on(self, lane):
        for n in range(4):
            lane.fill(0, [b"%d" % n])  # a batch each
        lane.fill(1, [b"other"])
        lane.damage(0, 2)
        reader = lane.reader()
        for partition in (0, 1):
            reader.follow(lane.topic, partition, 0)
        assert sorted((r.partition, r.offset) for r in read(reader, 3)) == [(0, 0), (0, 1), (1, 0)]
        eventually(lambda: reader.poll(10) or reader.damaged(lane.topic, 0) is not None)
        assert [reader.damaged(lane.topic, p) for p in EVERY] == [2, None, None, None]
        assert reader.position(lane.topic, 0) == 2
        reader.follow(lane.topic, 0, 3)
        assert [r.offset for r in read(reader, 1)] == [3]
        assert reader.damaged(lane.topic, 0) is None

    def test_what_can_be_read_again_is_delivered_and_no_longer_told_of(self, lane):
        for n in range(3):
            lane.fill(0, [b"%d" % n])
        lane.damage(0, 1)
        reader = lane.reader()
        reader.follow(lane.topic, 0, 0)
        assert [r.offset for r in read(reader, 1)] == [0]
        eventually(lambda: reader.poll(10) or reader.damaged(lane.topic, 0) == 1)
        lane.mend(0, 1)
        assert [r.offset for r in read(reader, 2)] == [1, 2]
        assert reader.damaged(lane.topic, 0) is None

    def test_nothing_comes_after_close(self, lane):
        lane.fill(0, [b"x"])
        reader = lane.reader()
        reader.follow(lane.topic, 0, 0)
        reader.close()
        assert reader.poll(10) == []
        assert reader.ends() == []


class Owner:
    """A member and what it owns, as the worker keeps it."""

    def __init__(self, lane, name):
        self.member = lane.member(name)
        self.owned, self.revoked, self.lost = set(), [], []

    def look(self):
        records = self.member.poll(100, 5)
        for change in self.member.assignments():
            self.owned |= set(change.gained)
            self.owned -= set(change.revoked) | set(change.lost)
            self.revoked += change.revoked
            self.lost += change.lost
        return records

    def finish(self):
        done, self.revoked = self.revoked, []
        self.member.finish_revoke(done)
        return done


def alone(lane, name="a"):
    owner = Owner(lane, name)
    eventually(lambda: owner.look() or owner.owned == set(EVERY))
    return owner


def shared(lane):
    """Two owners that have settled on two partitions each."""
    first, second = alone(lane), Owner(lane, "b")

    def settled():
        for owner in (first, second):
            owner.look()
            owner.finish()
        return len(first.owned) == len(second.owned) == PARTITIONS // 2

    eventually(settled)
    return first, second


class TestInputConsumer:
    def test_a_partition_is_silent_until_started_and_starts_exactly_there(self, lane):
        lane.fill(0, [b"%d" % n for n in range(10)])
        owner = alone(lane)
        assert silent(owner.member)
        owner.member.start(0, 4)
        assert [r.offset for r in read(owner.member, 6)] == [4, 5, 6, 7, 8, 9]

    def test_a_restart_brings_no_stale_record(self, lane):
        lane.fill(0, [b"%d" % n for n in range(500)])
        member = alone(lane).member
        for offset in (0, 200, 50, 499, 7):
            member.start(0, offset)
            got = []
            eventually(lambda into=got: into.extend(member.poll(5, 5)) or into)
            assert [r.offset for r in got] == list(range(offset, offset + len(got)))

    def test_pause_keeps_the_place(self, lane):
        lane.fill(0, [b"%d" % n for n in range(300)])
        member = alone(lane).member
        member.start(0, 0)
        got = []
        eventually(lambda: got.extend(member.poll(10, 5)) or got)
        for _ in range(3):
            member.pause(0)
            assert silent(member)
            member.resume(0)
            eventually(lambda: (more := member.poll(10, 5)) and got.extend(more) is None)
        got += read(member, 300 - len(got))
        assert [r.offset for r in got] == list(range(300))

    def test_a_paused_partition_does_not_hold_up_another(self, lane):
        lane.fill(0, [b"zero"])
        lane.fill(1, [b"one"])
        member = alone(lane).member
        member.start(0, 0)
        member.pause(0)
        member.start(1, 0)
        assert values(read(member, 1)) == [b"one"]

    def test_start_ends_a_pause(self, lane):
        lane.fill(0, [b"a", b"b"])
        member = alone(lane).member
        member.start(0, 0)
        member.pause(0)
        member.start(0, 1)
        assert values(read(member, 1)) == [b"b"]

    def test_waiting_ends_when_a_record_comes(self, lane):
        member = alone(lane).member
        member.start(0, 0)
        member.poll(1, 50)
        began = time.monotonic()
        member.poll(1, 50)
        assert 0.03 < time.monotonic() - began < 5
        lane.fill(0, [b"x"])
        assert values(read(member, 1)) == [b"x"]

    def test_two_members_share_and_each_reads_its_own(self, lane):
        first, second = shared(lane)
        assert first.owned | second.owned == set(EVERY)
        assert first.owned & second.owned == set()
        for partition in EVERY:
            lane.fill(partition, [b"%d" % partition])
        for owner in (first, second):
            for partition in owner.owned:
                owner.member.start(partition, 0)
            assert {r.partition for r in read(owner.member, 2)} == owner.owned

    def test_a_moving_partition_stays_with_its_owner_until_it_has_finished(self, lane):
        first, second = alone(lane), Owner(lane, "b")
        eventually(lambda: (first.look(), second.look()) and first.revoked)
        moving = set(first.revoked)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            first.look()
            second.look()
            assert second.owned == set()
        first.member.commit(dict.fromkeys(moving, 0))  # the final checkpoint's group offset
        first.finish()
        eventually(lambda: (first.look(), second.look()) and second.owned == moving)

    def test_what_a_member_keeps_goes_on_where_it_was_after_another_has_joined(self, lane):
        first, second = alone(lane), Owner(lane, "b")
        for partition in EVERY:
            first.member.start(partition, 0)
        eventually(lambda: (first.look(), second.look()) and first.revoked)
        gone = set(first.finish())
        for partition in EVERY:
            lane.fill(partition, [b"x", b"y"])
        got = []
        eventually(lambda: (got.extend(first.look()), second.look()) and len(got) >= 2 * len(first.owned))
        assert sorted((r.partition, r.offset) for r in got) == [(p, o) for p in set(EVERY) - gone for o in (0, 1)]

    def test_a_start_while_others_are_being_revoked_takes_effect(self, lane):
        first, second = alone(lane), Owner(lane, "b")
        eventually(lambda: (first.look(), second.look()) and first.revoked)
        kept = min(first.owned)
        lane.fill(kept, [b"a", b"b"])
        first.member.start(kept, 1)
        first.finish()
        assert values(read(first.member, 1)) == [b"b"]

    def test_a_closed_members_partitions_move(self, lane):
        first, second = shared(lane)
        first.member.close()
        assert first.member.poll(1, 0) == []
        eventually(lambda: second.look() or second.owned == set(EVERY))

    def test_a_position_that_retention_has_overtaken_is_reported_not_jumped(self, lane):
        lane.fill(0, [b"x"] * 5)
        lane.truncate_before(0, 3)
        member = alone(lane).member
        member.start(0, 1)
        lost = []
        eventually(lambda: lost.extend(member.lost_ranges()) or lost or member.poll(10, 5))
        assert lost == [(0, 3)]
        assert silent(member)
        assert member.lost_ranges() == []
        member.start(0, 3)
        assert [r.offset for r in read(member, 2)] == [3, 4]

    def test_a_position_beyond_the_end_is_reported_too(self, lane):
        lane.fill(0, [b"x"] * 5)
        member = alone(lane).member
        member.start(0, 9)
        lost = []
        eventually(lambda: lost.extend(member.lost_ranges()) or lost or member.poll(10, 5))
        assert lost == [(0, 0)]

    def test_a_position_before_what_cannot_be_read_is_told_until_it_is_started_elsewhere(self, lane):
        for n in range(3):
            lane.fill(0, [b"%d" % n])
        lane.damage(0, 1)
        member = alone(lane).member
        member.start(0, 0)
        assert [r.offset for r in read(member, 1)] == [0]
        eventually(lambda: member.poll(10, 5) or member.damaged())
        assert (member.damaged(), member.lost_ranges()) == ({0: 1}, [])
        member.start(0, 2)
        assert member.damaged() == {}
        assert [r.offset for r in read(member, 1)] == [2]

    def test_starting_what_is_not_owned_does_nothing(self, lane):
        member = lane.member("a")
        member.start(0, 0)
        lane.fill(0, [b"x"])
        assert silent(member)
