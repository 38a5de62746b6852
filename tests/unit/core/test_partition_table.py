"""A partition's states as a table (PROTOCOL §5)."""

import itertools

import pytest

from harness_stream.core.partition import TRANSITIONS, Phase, Signal, after


def test_every_phase_is_reachable_from_loading():
    reached, before = {Phase.LOADING}, set()
    while reached != before:
        before = set(reached)
        reached |= {end for (start, _), end in TRANSITIONS.items() if start in reached}
    assert reached == set(Phase)


@pytest.mark.parametrize(("phase", "signal"), list(itertools.product(Phase, Signal)))
def test_what_is_not_in_the_table_is_our_bug(phase: Phase, signal: Signal):
    if (phase, signal) in TRANSITIONS:
        assert after(phase, signal) is TRANSITIONS[phase, signal]
    else:
        with pytest.raises(AssertionError, match=f"{phase} cannot see `{signal}`"):
            after(phase, signal)


def test_deciding_begins_only_by_reading_back_the_own_claim():
    assert {key for key, end in TRANSITIONS.items() if end is Phase.DECIDING} == {
        (Phase.CLAIMING, Signal.CLAIM_READ_BACK)
    }


def test_any_fault_while_deciding_leads_through_a_new_claim():
    assert after(Phase.DECIDING, Signal.FAULT) is Phase.RESYNC
    assert after(Phase.RESYNC, Signal.SETTLED) is Phase.CLAIMING


@pytest.mark.parametrize("phase", [Phase.CLAIMING, Phase.DECIDING, Phase.RESYNC])
def test_a_higher_epoch_always_ends_ownership(phase: Phase):
    assert after(phase, Signal.OVERTAKEN) is Phase.LOST


def test_a_halted_partition_goes_on_only_by_loading_again():
    assert {end for (start, _), end in TRANSITIONS.items() if start is Phase.HALTED} <= {Phase.HALTED, Phase.LOADING}


@pytest.mark.parametrize("phase", Phase)
def test_a_fault_is_understood_everywhere(phase: Phase):
    assert (phase, Signal.FAULT) in TRANSITIONS
