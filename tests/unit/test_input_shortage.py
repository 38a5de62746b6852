"""Which answers prove that the input log has lost inputs that were answered."""

import pytest

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.ports import Ends
from harness_stream.runtime.input_log import Shortage, too_short


@pytest.fixture
def clock():
    return ManualClock()


def answer(end, asked_at_ms):
    return Ends("intents", 0, 0, end, asked_at_ms)


def test_an_end_that_was_asked_for_after_the_inputs_were_answered_proves_it(clock):
    shortage = Shortage(clock)
    assert not shortage.shown_by(answer(3, clock.elapsed_ms()), 5)  # asked before anybody knew of input 4
    clock.advance(1)
    assert shortage.shown_by(answer(3, clock.elapsed_ms()), 5)


def test_an_end_that_was_asked_for_before_proves_nothing_however_late_it_comes(clock):
    shortage, asked_ms = Shortage(clock), clock.elapsed_ms()
    for next_input in range(5, 100):
        clock.advance(100)
        assert not shortage.shown_by(answer(3, asked_ms), next_input)


def test_an_answer_is_held_against_what_was_known_when_it_was_asked_for(clock):
    """Not against what was answered meanwhile: a busy partition is ahead of every answer."""
    shortage, next_input = Shortage(clock), 5
    for _ in range(100):
        assert not shortage.shown_by(answer(next_input - 1, clock.elapsed_ms()), next_input)
        clock.advance(100)
        next_input += 10


def test_a_log_that_reaches_far_enough_is_believed_at_once(clock):
    shortage = Shortage(clock)
    shortage.shown_by(answer(3, clock.elapsed_ms()), 5)
    clock.advance(100)
    assert not shortage.shown_by(answer(5, clock.elapsed_ms()), 5)
    assert not shortage.shown_by(answer(4, clock.elapsed_ms()), 6)


def test_what_people_read_says_what_happened_and_what_to_do():
    why = too_short(answer(3, 0), 5)
    assert "ends at 3" in why
    assert "up to 4 were answered" in why
    assert "`harness partitions resume`" in why
    assert why.split(":")[0] == "input log too short", "a cause without numbers, for metrics"
