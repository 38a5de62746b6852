"""A notice says something only where it stands: at the head it names, by the owner in force, in its own partition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.fold import Place, fold_header, genesis
from harness_stream.core.notice import Stopped, heard, notice
from harness_stream.core.records import Notice

SAID = Stopped("agent-1", "killed", 7)
CLAIM = {"kind": "claim", "incarnation": "i1", "epoch": 1, "writer": "a" * 32, "after": "clean", "pending": False}
HEADER = fold_header(genesis("i1", 3), CLAIM, "d" * 64)


def test_it_is_heard_where_it_was_written_and_has_its_schema():
    body = notice(HEADER, SAID)
    assert heard(HEADER, body) == SAID
    Notice.model_validate(body)


def test_the_fold_passes_over_it():
    assert fold_header(HEADER, notice(HEADER, SAID), "e" * 64) is None
    assert Place(HEADER, 5, "d" * 64).after(6, notice(HEADER, SAID), "e" * 64) is None


@pytest.mark.parametrize(
    "over",
    [
        {"kind": "verdict"},
        {"incarnation": "i2"},
        {"epoch": 2},
        {"epoch": 0},
        {"epoch": True},
        {"writer": "b" * 32},
        {"partition": 4},
        {"prev": "0" * 64},
        {"agent_id": None},
        {"status": "active"},
        {"status": ["killed"]},
        {"revision": "7"},
        {"revision": -2},
    ],
    ids=str,
)
def test_whatever_is_not_as_the_owner_would_write_it_here_says_nothing(over):
    assert heard(HEADER, notice(HEADER, SAID) | over) is None


def test_before_the_first_claim_nobody_may_speak():
    start = genesis("i1", 3)
    assert heard(start, notice(start, SAID)) is None


def test_a_copy_says_nothing_once_the_log_has_gone_on():
    moved = HEADER._replace(head="f" * 64)
    assert heard(moved, notice(HEADER, SAID)) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=4), x, max_size=2),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*notice(HEADER, SAID)]), JSON))
def test_no_content_whatsoever_raises(over):
    body = notice(HEADER, SAID) | over
    found = heard(HEADER, body)
    assert found is None or found == (body["agent_id"], body["status"], body["revision"])
