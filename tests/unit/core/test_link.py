"""The link of a verdict: the same fold and the same units as of the whole record, or none (`core.link`)."""

import json

import factories as make
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core import limits
from harness_stream.core.deferred import groups_of
from harness_stream.core.fold import fold_header
from harness_stream.core.link import after_link, groups_of_link, link_of
from harness_stream.wire.decisions import UNREADABLE, body_of, encode_body

D1, D2 = "1" * 64, "2" * 64
EVENTS = [None, {"id": "x", "lane": "acme", "lineage": None}, {"id": "x", "lane": "acme", "lineage": {"root": []}}]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


def verdict(**over) -> dict:
    digest, revision = make.RULES
    said = {"kind": "verdict", "t": 5, "rules": {"digest": digest, "revision": revision}}
    of = {"agent_id": "support-1", "intent_id": make.uuid7(make.NOW, 1), "event": EVENTS[1]}
    return {**make.linked({**said, **of}, make.started()), **over}


def says_the_same(value: bytes) -> bool:
    """Of a value that has a link; False of one that has none."""
    link, body = link_of(value), body_of(value)
    if link is None or body is UNREADABLE:  # what is passed over is not looked at
        return False
    assert after_link(make.started(), link, D2) == fold_header(make.started(), body, D2)
    assert outcome(groups_of_link, link) == outcome(groups_of, body)
    return True


def outcome(of, said):
    """What it gives, or that it is no version of ours."""
    try:
        return of(said)
    except (KeyError, TypeError, ValueError):
        return "unreadable"


@pytest.mark.parametrize("event", EVENTS[:2], ids=["not counted", "counted"])
def test_an_everyday_verdict_has_a_link(event):
    assert says_the_same(encode_body(verdict(event=event)))


@pytest.mark.parametrize("further", [0, 1, 7])
def test_it_goes_on_behind_what_the_verdict_covers(further):
    first = make.started().next_input
    link = link_of(encode_body(verdict(covers=[first, first + further])))
    assert link is not None
    after = after_link(make.started(), link, D2)
    assert after is not None
    assert after.next_input == first + further + 1


@pytest.mark.parametrize("over", [{"event": EVENTS[2]}, {"kind": "ack"}, {"kind": "denials"}, {"covers": [3]}], ids=str)
def test_what_is_more_than_that_has_none(over):
    assert link_of(encode_body(verdict(**over))) is None


def test_nor_has_what_no_record_may_be():
    long = verdict(shadow="x" * limits.DECISION_BYTES_MAX)
    assert [link_of(value) for value in (b"", b"{", b"[]", encode_body(long))] == [None] * 4


@given(st.sampled_from(sorted(verdict())), ANYTHING)
def test_whatever_one_of_its_fields_is_the_whole_record_says_no_other(name, value):
    says_the_same(json.dumps(verdict(**{name: value})).encode())


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "prev": st.sampled_from([D1, D2]),
            "epoch": st.sampled_from([-1, 0, 1, 2, True, 1.0, 2**53, 2**70]),
            "writer": st.sampled_from(["", "c" * 32]),
            "incarnation": st.sampled_from(["", "other"]),
            "covers": st.lists(st.sampled_from([-1, 0, 1, 2, True, 1.0, 2**53]), max_size=3),
            "t": st.sampled_from([-1, 0, 7, 7.0, True, None, 2**53 - 1, 2**53]),
            "rules": st.fixed_dictionaries(
                {"digest": st.sampled_from([make.RULES[0], D1]), "revision": st.sampled_from([1, 1.0, True, 0, 2])}
            ),
        },
    )
)
def test_neither_of_its_place_nor_of_its_rules(over):
    says_the_same(json.dumps(verdict(**over)).encode())


@given(st.integers(0, 2_000), st.sampled_from(["0", "af", ",", '"', ":", "{", "}", "[", "]", "\\", "-", ".e", "\\u0061"]))
def test_nor_where_bytes_of_it_were_changed(at, put):
    value = encode_body(verdict())
    at %= len(value)
    says_the_same(value[:at] + put.encode() + value[at + len(put) :])
