"""When a consumer counts as one that stands still for ever."""

import itertools

import pytest

from harness_stream.adapters.kafka.standstill import GAP_MS_MAX, STANDSTILL_MS, STANDSTILL_MS_MAX, Standstill
from harness_stream.core.limits import FRESH_QUERY_MS
from harness_stream.ports import Ends


def answer(end, low=0, topic="t"):
    return Ends(topic, 0, low, end, 0)


def noticed_at(standstill, position, start_ms=0, until_ms=2 * STANDSTILL_MS, end=10, low=0, every_ms=FRESH_QUERY_MS):
    """When it is noticed that nothing arrives at `position`, by answers that come regularly; None if never."""
    for now_ms in range(start_ms, until_ms + 1, every_ms):
        if standstill.noticed(answer(end, low), position, now_ms):
            return now_ms
    return None


def test_a_log_that_goes_on_while_nothing_arrives_is_noticed_in_time():
    assert noticed_at(Standstill(), position=5) == STANDSTILL_MS


@pytest.mark.parametrize(
    ("position", "low"),
    [(10, 0), (11, 0), (4, 5), (None, 0)],
    ids=["at the end", "beyond the end", "overtaken by retention", "not read"],
)
def test_where_nothing_may_come_nothing_is_missed(position, low):
    assert noticed_at(Standstill(), position, low=low) is None


def test_every_record_begins_the_wait_anew():
    standstill, positions = Standstill(), itertools.count()
    for now_ms in range(0, 3 * STANDSTILL_MS, STANDSTILL_MS // 2):
        assert noticed_at(standstill, next(positions), now_ms, now_ms + STANDSTILL_MS // 2) is None


def test_a_broker_that_does_not_answer_is_not_waited_for():
    """It was away, or this process was stopped: neither is the consumer's fault."""
    standstill = Standstill()
    assert noticed_at(standstill, 5, until_ms=STANDSTILL_MS - FRESH_QUERY_MS) is None
    back_ms = STANDSTILL_MS + GAP_MS_MAX
    assert noticed_at(standstill, 5, back_ms, 9 * STANDSTILL_MS) == back_ms + STANDSTILL_MS


def test_a_partition_at_its_end_does_not_excuse_another():
    standstill = Standstill()
    for now_ms in range(0, STANDSTILL_MS, FRESH_QUERY_MS):
        assert not standstill.noticed(answer(10), 5, now_ms)
        assert not standstill.noticed(answer(10, topic="other"), 10, now_ms)
    assert standstill.noticed(answer(10), 5, STANDSTILL_MS)


def test_while_more_arrives_than_is_taken_nobody_stands_still():
    standstill = Standstill()
    assert noticed_at(standstill, 5, until_ms=STANDSTILL_MS - FRESH_QUERY_MS) is None
    standstill.busy()
    assert noticed_at(standstill, 5, STANDSTILL_MS, 9 * STANDSTILL_MS) == 2 * STANDSTILL_MS


def test_a_new_consumer_that_does_not_help_is_given_twice_the_time_up_to_a_bound():
    standstill, waits, now_ms = Standstill(), [], 0
    for _ in range(6):
        noticed_ms = noticed_at(standstill, 5, now_ms, now_ms + 2 * STANDSTILL_MS_MAX)
        waits.append(noticed_ms - now_ms)
        now_ms = noticed_ms
        standstill.renewed(now_ms)
    assert waits == [STANDSTILL_MS * n for n in (1, 2, 4, 8, 10, 10)]


def test_a_record_ends_that_patience():
    standstill = Standstill()
    standstill.renewed(noticed_at(standstill, 5))
    assert noticed_at(standstill, 6, STANDSTILL_MS, 9 * STANDSTILL_MS) == 2 * STANDSTILL_MS
