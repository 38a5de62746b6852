"""Ids that the worker's schema takes, that rise, and that nobody can guess."""

import uuid

from hypothesis import given
from hypothesis import strategies as st

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.client.ids import STEP_BACK_MS_MAX, Ids
from harness_stream.core.ids import id_time_ms


def test_an_id_is_a_uuid_of_version_7_with_the_clocks_time():
    clock = ManualClock()
    made = uuid.UUID(Ids(clock).new())
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert id_time_ms(str(made)) == clock.now_ms()


@given(st.lists(st.integers(min_value=0, max_value=3), max_size=50))
def test_ids_rise_within_and_across_milliseconds(steps):
    clock = ManualClock()
    ids = Ids(clock)
    made = [ids.new()]
    for step in steps:
        clock.advance(step)
        made.append(ids.new())
    assert made == sorted(set(made))


class SetClock(ManualClock):
    """A wall clock that an operator sets back."""

    wall_ms = 1_000_000_000_000

    def now_ms(self):
        return self.wall_ms


def test_ids_rise_over_a_small_step_back_and_follow_a_large_one():
    clock = SetClock()
    ids = Ids(clock)
    before = ids.new()
    clock.wall_ms -= STEP_BACK_MS_MAX
    after = ids.new()
    assert after > before
    clock.wall_ms -= 1
    assert id_time_ms(ids.new()) == clock.wall_ms


def test_a_full_millisecond_goes_over_into_the_next():
    ids = Ids(ManualClock())
    ids.new()
    ids._random = (1 << 74) - 1
    before = id_time_ms(ids.new())
    assert before == ManualClock().now_ms() + 1


def test_two_processes_do_not_make_the_same_ids():
    assert len({Ids(ManualClock()).new() for _ in range(1_000)}) == 1_000
