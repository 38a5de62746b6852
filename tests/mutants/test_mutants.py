"""Every mutant of PROTOCOL §10 is killed by the test that the table names."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import runs
from tests.mutants.__main__ import chosen as chosen_by_words
from tests.mutants.table import MUTANTS, WINDOWS

LISTED = """
no partition check · no claim · no rollback · no resync after an error · read_committed · last + 1 instead of covers ·
head from the first record · lazy end offset · reset to latest · default batch.size · window interval's wrong end ·
window edge exclusive · current intent not counted · replay after eviction · nonce ignored · CreateTime accepted ·
stalled table consumer unnoticed · older writer overwrites Redis · signature over the wrong bytes · hold approved twice
"""
LATER = set()

ALONE, REAL = ([m for m in MUTANTS if m.real is real] for real in (False, True))


def chosen(request, among):
    """Those of the mutants that this session asks for."""
    names = {item.callspec.params["mutant"].name for item in request.session.items if _has_mutant(item)}
    return [mutant for mutant in among if mutant.name in names]


def _has_mutant(item):
    return item.path == Path(__file__) and hasattr(item, "callspec") and "mutant" in item.callspec.params


def judged(mutants, servers=None):
    return dict(zip([m.name for m in mutants], runs.verdicts(mutants, servers), strict=True))


@pytest.fixture(scope="module")
def verdicts(request):
    return judged(chosen(request, ALONE))


@pytest.fixture(scope="module")
def real_verdicts(request, real_stack):
    return judged(chosen(request, REAL), real_stack)


@pytest.mark.parametrize("mutant", ALONE, ids=lambda m: m.name)
def test_it_is_killed(mutant, verdicts, record_property):
    assert verdicts[mutant.name] == runs.KILLED
    record_property("mutants", f"{mutant.name} → {mutant.breaks} → {mutant.killed_by}")


@pytest.mark.real
@pytest.mark.parametrize("mutant", REAL, ids=lambda m: m.name)
def test_it_is_killed_on_real_servers(mutant, real_verdicts, record_property):
    assert real_verdicts[mutant.name] == runs.KILLED
    record_property("mutants", f"{mutant.name} → {mutant.breaks} → {mutant.killed_by}")


def test_every_mutant_of_the_protocol_is_in_the_table():
    listed = {" ".join(name.split()) for name in LISTED.split("·")}
    assert listed - {mutant.name for mutant in MUTANTS} == LATER


def test_every_invariant_has_a_mutant():
    assert {mutant.breaks for mutant in MUTANTS} == {f"V{n}" for n in range(1, 10)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_each_can_be_asked_for_by_its_name(mutant):
    assert chosen_by_words([mutant.name]) == [mutant]


def test_without_a_name_all_are_asked_for_and_an_unknown_one_is_told(capsys):
    assert chosen_by_words([]) == [*MUTANTS]
    with pytest.raises(SystemExit):
        chosen_by_words(["nonce"])
    assert "python -m tests.mutants: error: no mutant is named `nonce`" in capsys.readouterr().err


def test_the_help_says_how_to_name_them_and_which_need_servers(capsys):
    with pytest.raises(SystemExit):
        chosen_by_words(["--help"])
    said = capsys.readouterr().out
    assert "Several NAMEs may be given together" in said
    listed = said.partition("Mutants:\n")[2].splitlines()
    assert listed == [f"  {m.name}{'  (real)' if m.real else ''}" for m in MUTANTS]


def test_one_alone_is_reported_and_needs_no_servers():
    command = [sys.executable, "-m", "tests.mutants", "nonce ignored"]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 of 1 mutants killed"
    assert "starting" not in done.stderr


def test_a_test_that_notices_nothing_lets_its_mutant_survive():
    [mutant] = [m for m in MUTANTS if m.name == "nonce ignored"]
    blind = mutant._replace(killed_by=next(m.killed_by for m in ALONE if m.breaks == "V7"))
    assert judged([blind]) == {mutant.name: runs.SURVIVED}


def test_a_mutant_that_cannot_be_made_is_broken_and_says_why(capfd):
    [mutant] = [m for m in MUTANTS if m.name == "nonce ignored"]
    unknown = mutant._replace(name="no such mutant")
    assert judged([unknown])[unknown.name].startswith("broken: ValueError: not enough values to unpack")
    assert "Traceback (most recent call last)" in capfd.readouterr().err


@pytest.mark.parametrize("lost", [f"{WINDOWS}::test_that_was_renamed", "tests/unit/test_that_was_moved.py::test_it"])
def test_of_a_test_that_is_not_there_only_its_own_mutant_is_broken(lost):
    [mutant] = [m for m in MUTANTS if m.name == "nonce ignored"]
    stale = mutant._replace(name="no claim", killed_by=lost)
    assert judged([stale, mutant]) == {"no claim": "broken: its test is not there", mutant.name: runs.KILLED}
    assert judged([stale]) == {"no claim": "broken: its test is not there"}


def test_a_test_that_takes_too_long_has_noticed_nothing(monkeypatch):
    monkeypatch.setenv("PYTEST_ADDOPTS", "--timeout=0.001 -o timeout_func_only=true")
    [mutant] = [m for m in MUTANTS if m.name == "nonce ignored"]
    assert "['broken: call: Failed: Timeout (>" in judged([mutant])[mutant.name]


def test_a_test_that_fails_without_its_mutant_kills_nothing():
    [mutant] = [m for m in MUTANTS if m.name == "nonce ignored"]
    assert runs.verdict(mutant, {mutant.killed_by: "refuted: it fails anyway"}, {}).startswith("broken: without the mutant")
