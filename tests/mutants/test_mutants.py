"""Every mutant of PROTOCOL §10 is killed by the test that the table names."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import runs
from tests.mutants.__main__ import chosen as chosen_by_words
from tests.mutants.table import MUTANTS

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
    return item.path == Path(__file__) and hasattr(item, "callspec")


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


def test_one_alone_is_reported_and_needs_no_servers():
    command = [sys.executable, "-m", "tests.mutants", "nonce ignored"]
    done = subprocess.run(command, cwd=runs.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "1 of 1 mutants killed"
    assert "starting" not in done.stderr


def test_a_test_that_notices_nothing_lets_its_mutant_survive():
    [mutant] = [m for m in MUTANTS if m.name == "nonce ignored"]
    blind = mutant._replace(killed_by=next(m.killed_by for m in ALONE if m.breaks == "V7"))
    assert judged([blind]) == {mutant.name: runs.SURVIVED}


def test_a_test_that_fails_without_its_mutant_kills_nothing():
    [mutant] = [m for m in MUTANTS if m.name == "nonce ignored"]
    assert runs.verdict(mutant, {mutant.killed_by: "refuted: it fails anyway"}, {}).startswith("broken: without the mutant")
