"""A batch that cannot be read is told from one that could not be read just now (`adapters.kafka.damage`)."""

from harness_stream.adapters.kafka.damage import TRIES, TRY_MS, Damage
from harness_stream.adapters.kafka.standstill import STANDSTILL_MS
from harness_stream.client.connect import OPEN_MS_MAX

NAME = ("log", 0)


def tried(damage, times, offset=7):
    """The first error and, each after another position that was set, `times` - 1 more; what each says."""
    said = [damage.seen(NAME, offset, 0)]
    for n in range(1, times):
        assert damage.due(n * TRY_MS) == [NAME]
        said.append(damage.seen(NAME, offset, n * TRY_MS))
    return said


def test_it_is_certain_after_so_many_tries_and_said_once():
    damage = Damage()
    assert tried(damage, TRIES + 2) == [False] * (TRIES - 1) + [True, False, False]
    assert damage.certain() == {NAME: 7}


def test_errors_without_another_try_say_nothing_more():
    damage = Damage()
    assert not any(damage.seen(NAME, 7, n) for n in range(100))
    assert damage.certain() == {}


def test_a_broker_that_does_not_answer_has_not_been_tried():
    damage = Damage()
    damage.seen(NAME, 7, 0)
    for n in range(1, 100):
        assert damage.due(n * TRY_MS) == [NAME]
    assert damage.certain() == {}


def test_where_the_first_error_was_counts_since_later_ones_may_be_of_anything():
    damage = Damage()
    tried(damage, 1)
    for n in range(1, TRIES):
        damage.due(n * TRY_MS)
        damage.seen(NAME, 33_554_433, n * TRY_MS)
    assert damage.certain() == {NAME: 7}


def test_what_comes_after_all_was_no_damage():
    damage = Damage()
    tried(damage, TRIES)
    damage.forget(NAME)
    assert (damage.certain(), damage.due(10**6)) == ({}, [])


def test_it_is_certain_before_a_consumer_is_replaced_or_a_client_gives_up():
    assert min(STANDSTILL_MS, OPEN_MS_MAX) > (TRIES + 1) * TRY_MS
