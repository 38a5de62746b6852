"""Every mutant of PROTOCOL §10 is killed by the test that the table names."""

import pytest

from tests.mutants import runs
from tests.mutants.table import MUTANTS

LISTED = """
no partition check · no claim · no rollback · no resync after an error · read_committed · last + 1 instead of covers ·
head from the first record · lazy end offset · reset to latest · default batch.size · window interval's wrong end ·
window edge exclusive · current intent not counted · replay after eviction · nonce ignored · CreateTime accepted ·
stalled table consumer unnoticed · older writer overwrites Redis · signature over the wrong bytes · hold approved twice
"""
LATER = {"signature over the wrong bytes"}

ALONE, REAL = ([m for m in MUTANTS if m.real is real] for real in (False, True))


@pytest.fixture(scope="module")
def clean():
    return runs.outcomes([mutant.killed_by for mutant in ALONE])


@pytest.fixture(scope="module")
def clean_real(real_stack):
    return runs.outcomes([mutant.killed_by for mutant in REAL], servers=real_stack)


@pytest.mark.parametrize("mutant", ALONE, ids=lambda m: m.name)
def test_it_is_killed(mutant, clean):
    assert runs.verdict(mutant, clean) == runs.KILLED


@pytest.mark.real
@pytest.mark.parametrize("mutant", REAL, ids=lambda m: m.name)
def test_it_is_killed_on_a_real_broker(mutant, clean_real, real_stack):
    assert runs.verdict(mutant, clean_real, real_stack) == runs.KILLED


def test_every_mutant_of_the_protocol_is_in_the_table():
    listed = {" ".join(name.split()) for name in LISTED.split("·")}
    assert listed - {mutant.name for mutant in MUTANTS} == LATER


def test_every_invariant_has_a_mutant():
    assert {mutant.breaks for mutant in MUTANTS} == {f"V{n}" for n in range(1, 10)}


def test_a_test_that_notices_nothing_lets_its_mutant_survive(clean):
    [mutant] = [m for m in MUTANTS if m.name == "nonce ignored"]
    blind = next(m.killed_by for m in ALONE if m.breaks == "V7")
    assert runs.verdict(mutant._replace(killed_by=blind), clean) == runs.SURVIVED
