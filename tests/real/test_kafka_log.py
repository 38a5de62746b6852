"""What only a real broker can show of the log: foreign transactions, foreign clocks, hostile records, restarts."""

import time
import uuid
from contextlib import ExitStack, closing

import pytest
from confluent_kafka import Producer
from log_lanes import KafkaLane, eventually, read
from raw_kafka import append_raw

from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.group import KafkaInputConsumer
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.core.limits import DRAIN_MS_MAX

pytestmark = [pytest.mark.real, pytest.mark.load]


@pytest.fixture
def lane(real_stack):
    lane = KafkaLane(real_stack.bootstrap)
    with lane.opened:
        yield lane


def owner_of_all(lane):
    member, owned = lane.member("a"), set()

    def joined():
        member.poll(1, 5)
        for change in member.assignments():
            owned.update(change.gained)
        return len(owned) == 4

    eventually(joined)
    return member


def test_an_open_transaction_of_another_producer_hides_nothing(lane):
    stranger = Producer(
        settings.common(lane.bootstrap) | {"transactional.id": f"t-{uuid.uuid4()}", "transaction.timeout.ms": 60_000}
    )
    stranger.init_transactions(30)
    stranger.begin_transaction()
    stranger.produce(lane.topic, b"open", partition=0)
    stranger.flush(10)
    lane.fill(0, [b"behind it"])
    reader = lane.reader()
    reader.follow(lane.topic, 0, 0)
    assert [r.value for r in read(reader, 2)] == [b"open", b"behind it"]
    member = owner_of_all(lane)
    member.start(0, 0)
    assert [r.value for r in read(member, 2)] == [b"open", b"behind it"]
    stranger.abort_transaction(10)


def test_a_producers_own_time_is_no_append_time(real_stack):
    lane = KafkaLane(real_stack.bootstrap, **{"message.timestamp.type": "CreateTime"})
    with lane.opened:
        lane.fill(0, [b"x"])
        reader = lane.reader()
        reader.follow(lane.topic, 0, 0)
        assert read(reader, 1)[0].timestamp_ms is None


def test_headers_that_no_client_can_read_stop_nobody(lane):
    lane.fill(0, [b"warm"] * 1_000)  # an interpreter that has specialised the call checks less
    append_raw(lane.bootstrap, lane.topic, 0, b"before", [(b"a", b"1"), (b"nothing", None)])
    append_raw(lane.bootstrap, lane.topic, 0, b"hostile", [(b"a", b"1"), (b"\xff\xfe", b"1")])
    append_raw(lane.bootstrap, lane.topic, 0, b"after", [(b"a\0b", b"1"), (b"", b"x")])
    reader = lane.reader()
    reader.follow(lane.topic, 0, 0)
    before, hostile, after = read(reader, 1_003)[1_000:]
    assert list(before.headers) == [("a", b"1"), ("nothing", b"")]
    assert (hostile.value, list(hostile.headers)) == (b"hostile", [])
    assert after.value == b"after"


def test_a_revocation_that_nobody_finishes_ends_by_itself(lane):
    first, second, gained = owner_of_all(lane), lane.member("b"), set()

    def moved():
        first.poll(1, 5)
        second.poll(1, 5)
        for change in second.assignments():
            gained.update(change.gained)
        return gained

    eventually(moved)
    revoked = [p for change in first.assignments() for p in change.revoked]
    assert set(revoked) == gained
    first.finish_revoke(revoked)  # too late, and harmless


def test_a_member_that_stops_polling_finds_its_partitions_lost_and_joins_again(lane, monkeypatch):
    quick = settings.input_consumer
    monkeypatch.setattr(settings, "input_consumer", lambda b, g: quick(b, g) | {"max.poll.interval.ms": 6_000})
    member = owner_of_all(lane)
    lane.fill(0, [b"x"])
    member.start(0, 0)
    read(member, 1)
    time.sleep(6.5)  # the shortest interval a broker's session allows
    news = []

    def back():
        member.poll(1, 5)
        news.extend(member.assignments())
        return any(change.lost for change in news) and news[-1].gained

    eventually(back)
    assert [change.lost for change in news if change.lost] == [(0, 1, 2, 3)]
    member.start(0, 0)
    assert [r.value for r in read(member, 1)] == [b"x"]


def test_group_offsets_show_where_a_member_is(lane):
    member = owner_of_all(lane)
    member.commit({0: 7, 3: 9})
    client = lane.admin

    def committed():
        from confluent_kafka import ConsumerGroupTopicPartitions

        [found] = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(lane.group)]).values()
        return {p.partition: p.offset for p in found.result(10).topic_partitions} == {0: 7, 3: 9}

    eventually(lambda: member.poll(1, 5) or committed())


def took_ms(call):
    began = time.monotonic()
    call()
    return (time.monotonic() - began) * 1000


def test_without_a_broker_nothing_waits_nothing_raises_and_appends_fail_in_time():
    nobody = "127.0.0.1:1"
    reader, writer, member = KafkaReader(nobody), KafkaWriter(nobody), KafkaInputConsumer(nobody, "g", "t")
    reader.follow("t", 0, 0)
    assert took_ms(lambda: writer.append("t", 0, None, b"x", token=5)) < 500
    for _ in range(200):
        assert took_ms(lambda: reader.ask_ends([("t", 0)], 1)) < 500
    assert took_ms(lambda: reader.poll(10)) < 500
    assert member.poll(10, 5) == []
    fates = []
    eventually(lambda: fates.extend(writer.deliveries()) or fates)
    assert [(f.token, f.offset) for f in fates] == [(5, None)]
    assert "TIMED_OUT" in fates[0].error
    assert reader.ends() == []
    assert took_ms(writer.close) < DRAIN_MS_MAX
    assert took_ms(member.close) < DRAIN_MS_MAX
    assert took_ms(reader.close) < DRAIN_MS_MAX


class Worker:
    """A member that starts what it gains where it stood, as a worker does."""

    def __init__(self, member):
        self.member = member
        self.next_offset = dict.fromkeys(range(4), 0)
        self.values = []

    def look(self):
        for record in self.member.poll(100, 5):
            self.next_offset[record.partition] = record.offset + 1
            self.values.append(record.value)
        for change in self.member.assignments():
            for partition in change.gained:
                self.member.start(partition, self.next_offset[partition])


def test_a_broker_that_crashes_and_comes_back_is_survived(own_stack):
    lane = KafkaLane(own_stack.bootstrap)
    with lane.opened:
        reader, writer, worker = lane.reader(), lane.writer(), Worker(lane.member("a"))
        lane.fill(0, [b"before"])
        reader.follow(lane.topic, 0, 0)
        read(reader, 1)
        eventually(lambda: worker.look() or worker.values)
        own_stack.brokers[0].kill()
        writer.append(lane.topic, 0, None, b"into the void", token=1)
        fates = []
        eventually(lambda: fates.extend(writer.deliveries()) or worker.look() or fates)
        assert fates[0].offset is None
        assert reader.poll(10) == []
        own_stack.brokers[0].start()

        def again():
            writer.append(lane.topic, 0, None, b"after", token=2)
            return any(fate.error is None for fate in lane.fates(writer, 1))

        eventually(again)
        seen = []
        eventually(lambda: seen.extend(r.value for r in reader.poll(10)) or b"after" in seen)
        eventually(lambda: worker.look() or b"after" in worker.values)
        assert worker.values[0] == b"before"
        assert worker.values.count(b"before") == 1


def test_partitions_of_topics_that_were_learnt_are_delivered_as_soon_as_they_are_followed(real_stack):
    """librdkafka meets a topic in its look at all topics, once a second: these five would take five seconds."""
    with ExitStack() as opened:
        lanes = [KafkaLane(real_stack.bootstrap) for _ in range(5)]
        for lane in lanes:
            opened.enter_context(lane.opened)
            lane.fill(0, [b"x"])
        topics = [lane.topic for lane in lanes]
        reader = opened.enter_context(closing(KafkaReader(real_stack.bootstrap, topics=topics)))
        start_s = time.monotonic()
        for topic in topics:
            reader.follow(topic, 0, 0)
            assert [record.topic for record in read(reader, 1)] == [topic]
        assert time.monotonic() - start_s < 2.5
