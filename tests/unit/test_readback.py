"""Stretches of a topic read back: bounded pieces, and turns between those who read."""

import pytest

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import MemoryBroker, MemoryReader
from harness_stream.runtime.history import PIECE_BYTES, Readback, Tail
from harness_stream.runtime.reading import POLL_RECORDS_MAX, Reading

TOPIC, RECORDS = "chains", 5_000


class Worker:
    """One reader, and a log of records of equal size."""

    def __init__(self, record_bytes):
        self.clock = ManualClock()
        broker = MemoryBroker({TOPIC: 1}, self.clock.now_ms)
        for _ in range(RECORDS):
            broker.append(TOPIC, 0, None, b"x" * record_bytes)
        self.reading, self.tail = Reading(MemoryReader(broker)), Tail()
        self.readback = Readback(TOPIC, 0, self, self.reading, self.tail)

    def turn(self):
        self.reading.step(self.clock.elapsed_ms())


@pytest.fixture
def worker():
    return Worker(4_000)


def test_a_piece_is_bounded_in_bytes(worker):
    read, largest = 0, 0
    for record in worker.readback.records(0, RECORDS):
        if record is None:
            worker.turn()
        largest = max(largest, len(worker.tail.records))
        read += record is not None
    assert read == RECORDS
    assert PIECE_BYTES // 4_000 <= largest <= POLL_RECORDS_MAX


def test_a_short_read_does_not_wait_for_a_long_one(worker):
    long, short = worker.readback.records(0, RECORDS), worker.readback.records(17, 18)
    found, of_long = None, 0
    while found is None:
        of_long += next(long) is not None
        found = next(short)
        worker.turn()
    assert found.offset == 17
    assert of_long < RECORDS // 2


def test_both_get_all_their_records(worker):
    first, second = worker.readback.records(0, RECORDS), worker.readback.records(100, RECORDS)
    seen = {first: [], second: []}
    open_ones = [first, second]
    while open_ones:
        for read in list(open_ones):
            record = next(read, "end")
            if record == "end":
                open_ones.remove(read)
            elif record is not None:
                seen[read].append(record.offset)
        worker.turn()
    assert seen[first] == list(range(RECORDS))
    assert seen[second] == list(range(100, RECORDS))


def test_one_that_is_closed_gives_way(worker):
    closed, other = worker.readback.records(0, RECORDS), worker.readback.records(0, 1)
    next(closed)
    closed.close()
    for _ in range(5):
        record = next(other, None)
        worker.turn()
        if record is not None:
            break
    assert record.offset == 0
