"""A failing seed is made small, told with all that happened, and can be run again from what was told."""

import shlex
import subprocess
import sys
from unittest.mock import patch

import pytest

from harness_stream.adapters.signing.verifier import SignedVerifier
from tests.mutants import made
from tests.simulation.__main__ import main
from tests.simulation.faults import FAULTS
from tests.simulation.script import ALL, MIXES, script
from tests.simulation.shrink import chosen, named, proven, ran, shrunk, told
from tests.simulation.tally import ALWAYS, Tally

# Under each mistake the first seeds that notice it, and as few steps as are enough.
SMALL = 8
MISTAKES = [made.no_rollback, made.no_resync, made.fact_not_recorded]


def first_failing(mix=ALL):
    return next(seed for seed in range(2, 100, 2) if ran(seed, mix=mix).error)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda made: made.__name__)
def test_a_mistake_is_shown_by_a_few_steps_that_fail_in_the_same_way(mistake):
    with mistake():
        seed = first_failing()
        fewest = shrunk(seed)
        assert ran(seed, fewest).what == ran(seed).what
    assert len(fewest) <= SMALL
    assert ran(seed, fewest).error is None, "without the mistake nothing is wrong"


def commanded(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["python -m tests.simulation", *words])
    return main()


def shown_again(mix, monkeypatch, capsys):
    """What of a mix fails under a mistake is told, and the command that was told shows the same; what that was."""
    seed = first_failing(mix)
    _, *lines, again = told(seed, mix).splitlines()
    words = shlex.split(again.removeprefix("again: python -m tests.simulation"))
    assert commanded(monkeypatch, *words) == 1
    shown, steps = capsys.readouterr().out, chosen(seed, words[1], mix)
    assert all(line.removeprefix("  ") in shown for line in lines)
    assert sum(" ms  step " in line for line in lines) == len(steps) < len(mix.steps_of(seed))
    return ran(seed, steps, mix).what


@pytest.mark.parametrize("mix", MIXES)
def test_what_is_told_of_any_mix_runs_again(mix, monkeypatch, capsys):
    with made.fact_not_recorded():
        assert shown_again(MIXES[mix], monkeypatch, capsys) == "V1"


def test_a_forged_input_that_is_believed_is_shown(monkeypatch, capsys):
    with patch.object(SignedVerifier, "input_authentic", lambda *_: True):
        assert shown_again(MIXES["signed"], monkeypatch, capsys) == "V6"


def test_the_command_shows_what_a_seed_did_though_nothing_is_wrong():
    seed, steps = 3, script(3)[:4]
    command = [sys.executable, "-m", "tests.simulation", str(seed), named(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    trace = proven(seed, steps).trace
    assert done.stdout.splitlines() == [*trace, "seed 3, 4 steps: nothing is wrong"]
    assert sum(" step " in line for line in trace) == 4


def test_no_steps_are_none(monkeypatch, capsys):
    """What no step is needed for is told so, and a command for all would be another run."""
    assert commanded(monkeypatch, "3", named([])) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "seed 3, 0 steps: nothing is wrong"


def test_an_odd_seed_is_none_of_retentions(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        commanded(monkeypatch, "3", "--mix", "retention")
    assert "seed 3 changes the rules, which retention does not meet: take an even one" in capsys.readouterr().err


def test_help_says_what_a_list_of_steps_means(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        commanded(monkeypatch, "--help")
    said = capsys.readouterr().out
    assert "python -m tests.simulation 4711 '3:0,5:2' --mix signed" in said
    assert "step:turns" in said


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
