"""How often an enforcer looks: as often as answers are quick, never less often than it must."""

from harness_stream.client.pace import FRESH_PAUSE_S, PAUSE_SHARE, WAITING_PAUSE_S, Pace


def after(*took_ms):
    pace = Pace()
    for each in took_ms:
        pace.answered(each)
    return pace.pause_s()


def test_before_the_first_answer_it_looks_as_often_as_it_may():
    assert after() == FRESH_PAUSE_S


def test_quick_answers_are_not_looked_for_more_often_than_that():
    assert after(*[0] * 100) == after(*[1] * 100) == FRESH_PAUSE_S


def test_a_pause_is_a_share_of_what_answers_take():
    assert abs(after(*[16] * 100) - 0.016 / PAUSE_SHARE) < 0.000_01


def test_it_never_pauses_longer_than_while_something_waits_for_long():
    assert after(*[4_000] * 100) == WAITING_PAUSE_S


def test_one_late_answer_is_soon_forgotten():
    assert after(*[2] * 100, 100) < WAITING_PAUSE_S
    assert after(*[2] * 100, 100, *[2] * 30) < 1.2 * FRESH_PAUSE_S
