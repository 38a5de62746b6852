"""A failing seed is made small, told with all that happened, and can be run again from what was told."""

import re
import subprocess
import sys

import pytest

from tests.mutants import made
from tests.simulation.faults import FAULTS
from tests.simulation.script import script
from tests.simulation.shrink import chosen, failure, named, proven, shrunk, told
from tests.simulation.tally import ALWAYS, Tally

# Under each mistake the first seeds that notice it, and as few steps as are enough.
SMALL = 8
MISTAKES = [made.no_rollback, made.no_resync, made.fact_not_recorded]


def first_failing():
    return next(seed for seed in range(1, 100) if failure(seed, script(seed)))


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda made: made.__name__)
def test_a_mistake_is_shown_by_a_few_steps_that_fail_in_the_same_way(mistake):
    with mistake():
        seed = first_failing()
        fewest = shrunk(seed, script(seed))
        assert failure(seed, fewest).what == failure(seed, script(seed)).what
    assert len(fewest) <= SMALL
    assert failure(seed, fewest) is None, "without the mistake nothing is wrong"


def test_what_is_told_holds_the_trace_and_runs_again():
    with made.fact_not_recorded():
        seed = first_failing()
        text = told(seed)
        [steps] = re.findall(rf"python -m tests\.simulation {seed} '([0-9:,]*)'", text)
        assert failure(seed, chosen(seed, steps)).what == "V1"
    assert re.search(r" ms  step \d+: ", text)


def test_the_command_runs_what_it_is_told():
    seed, steps = 3, script(3)[:4]
    command = [sys.executable, "-m", "tests.simulation", str(seed), named(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "seed 3, 4 steps: nothing is wrong\n"


def test_a_tally_says_which_seeds_ran_and_which_faults_never_happened():
    tally, other = Tally(), Tally()
    for seed in (1, 2, 4):
        (tally if seed < 4 else other).take(seed, proven(seed, []))
    tally.add(Tally.from_json(other.to_json()))
    assert tally.missing == [*FAULTS, *ALWAYS]
    assert tally.lines(failures=0)[1] == "seeds: from 1 to 4 (all of them up to 2)"
    assert tally.happened["claim clean"] > 0


def test_a_tally_says_how_long_all_took_beside_the_goal():
    tally, other = Tally(), Tally()
    tally.seeds, tally.began_s, tally.ended_s = [0, 2], 1000.0, 1004.0
    other.seeds, other.began_s, other.ended_s, other.processes = [1], 1002.0, 1006.4, {0}
    tally.add(Tally.from_json(other.to_json()))
    said, goal = "3 seeds in 6 s on 2 processes", "(goal: 5,000 in 180 s on 2)"
    assert tally.lines(failures=0)[0] == f"{said}: no failure {goal}"
    assert tally.lines(failures=2)[0] == f"{said}: 2 FAILED {goal}"


def test_a_seed_is_a_function_of_itself():
    assert proven(5).trace == proven(5).trace


def test_a_step_that_is_left_out_changes_no_others_dice():
    steps = script(7)
    assert chosen(7, named(steps[::2])) == steps[::2]
