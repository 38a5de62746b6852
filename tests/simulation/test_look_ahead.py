"""A batch looks at as many inputs as the last one had time for, not at all that wait: each look costs every turn."""

from collections import Counter
from unittest import mock

import pytest

from harness_stream.core.intake import Intake, units_needed
from harness_stream.runtime import deciding
from tests.simulation.judge import check
from tests.simulation.test_regressions import AGENT, act, owner, quiet, turns

WAITING = 150
# As often as a batch looks further than it comes, and once more, since what is asked for again is what a fetch left over.
LOOKS_MAX = deciding.AHEAD_FACTOR + 1


@pytest.mark.parametrize("answer_ms", [1, 4])
def test_an_input_that_waits_is_looked_at_a_few_times_however_long_answers_take(answer_ms):
    world, looks = quiet(), Counter()
    act(world)
    one_away(world)
    real = Intake.look

    def slow(intake, *words):
        world.clock.advance(answer_ms)
        return real(intake, *words)

    def look(event, *words):
        looks[event.intent_id] += 1
        return units_needed(event, *words)

    with mock.patch.object(Intake, "look", slow), mock.patch.object(deciding, "units_needed", look):
        for _ in range(WAITING):
            world.send(agent_id=AGENT, by=AGENT)
        turns(world, 400)
    assert len(looks) == WAITING
    assert sum(looks.values()) <= LOOKS_MAX * WAITING
    world.heal()
    assert all(report.void == 0 for report in check(world))


def test_nothing_is_looked_for_while_memory_holds_everything():
    world = quiet()
    with mock.patch.object(deciding, "units_needed") as look:
        act(world)
        assert not look.called
        one_away(world)
        act(world)
        assert look.called


def one_away(world):
    """Some unit that nobody asks for has left memory, so that each input is looked at for what it needs."""
    state = owner(world).state
    state.install("a:away", {})
    state.evict("a:away")
