"""Bounds as of now, from a reader that still owes answers to earlier questions."""

import pytest

from harness_stream.adapters.memory.broker import MemoryBroker
from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import MemoryReader
from harness_stream.runtime.table_load import read_tables
from harness_stream.runtime.to_end import ends_of, read_to_end

TOPICS = {"log": 2, "inputs": 1}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def broker(clock):
    return MemoryBroker(TOPICS, clock.now_ms)


def owing(broker, clock, *places):
    """A reader that was asked about these before, and has not been heard about it yet."""
    reader = MemoryReader(broker)
    reader.ask_ends(places, clock.now_ms())
    clock.advance(1)
    return reader


def test_an_answer_to_an_earlier_question_is_not_the_bounds_of_now(broker, clock):
    broker.append("log", 0, None, b"a")
    reader = owing(broker, clock, ("log", 0))
    broker.append("log", 0, None, b"b")
    assert ends_of(reader, "log", 0, clock).end == 2


def test_what_was_written_since_an_earlier_question_is_read(broker, clock):
    reader = owing(broker, clock, ("log", 0))
    broker.append("log", 0, None, b"a")
    assert [record.value for record in read_to_end(reader, "log", 0, clock)] == [b"a"]


@pytest.mark.parametrize("owed", [("inputs", 0), ("log", 1)])
def test_an_answer_about_something_else_is_no_tables(broker, clock, owed):
    broker.append(*owed, None, b"no row")
    reader = owing(broker, clock, owed)
    view = read_tables(reader, {"identity": "log"}, clock, clock.advance)["identity"]
    assert view.table.revision == -1
