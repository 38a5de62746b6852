"""The link of a verdict: the same fold and the same units as of the whole record, or none (`core.link`)."""

import json

import factories as make
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core import limits
from harness_stream.core.deferred import Told, groups_of
from harness_stream.core.fold import Place
from harness_stream.core.link import link_of, linked
from harness_stream.wire.decisions import UNREADABLE, body_of, digest_of, encode_body

D1, D2 = "1" * 64, "2" * 64
START = Place(make.started(), 4, D1)
EVENTS = [None, {"id": "x", "lane": "acme", "lineage": None}, {"id": "x", "lane": "acme", "lineage": {"root": []}}]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


def verdict(header=None, **over) -> dict:
    digest, revision = make.RULES
    said = {"kind": "verdict", "t": 5, "rules": {"digest": digest, "revision": revision}}
    of = {"agent_id": "support-1", "intent_id": make.uuid7(make.NOW, 1), "event": EVENTS[1]}
    return {**make.linked({**said, **of}, header or make.started()), **over}


def says_the_same(value: bytes, at: Place = START) -> bool:
    """Of a value that is followed by its link; False of one that is not."""
    place, told = linked(at, [(at.offset + 2, value)])
    body = body_of(value)
    if not told or body is UNREADABLE:  # what is passed over is not looked at
        assert told or place is at
        return False
    assert told == [Told(at.offset + 2, value, digest_of(value), groups_of(body))]
    assert place == at.after(at.offset + 2, body, digest_of(value))
    return True


@pytest.mark.parametrize("event", EVENTS[:2], ids=["not counted", "counted"])
def test_an_everyday_verdict_has_a_link(event):
    assert says_the_same(encode_body(verdict(event=event)))


@pytest.mark.parametrize("further", [0, 1, 7])
def test_it_goes_on_behind_what_the_verdict_covers(further):
    first = make.started().next_input
    value = encode_body(verdict(covers=[first, first + further]))
    assert says_the_same(value)
    assert linked(START, [(5, value)])[0].header.next_input == first + further + 1


def test_nothing_is_followed_from_before_the_first_claim_or_the_first_rules():
    for header in (make.started()._replace(epoch=0), make.started(rules=None)):
        place = START._replace(header=header)
        assert linked(place, [(5, encode_body(verdict(header)))]) == (place, [])


WRONG = {
    "of another kind": lambda _: {"kind": "ack"},
    "of other rules": lambda _: {"rules": {"digest": D2, "revision": 1}},
    "not linked": lambda _: {"prev": D2},
    "of a zombie": lambda _: {"writer": "f" * 32},
    "after a gap": lambda next_input: {"covers": [next_input + 1, next_input + 1]},
    "covers less than nothing": lambda next_input: {"covers": [next_input, next_input - 1]},
    "with an id of others": lambda _: {"intent_id": "unlike ours"},
}
ROWS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 2)), max_size=6)


@given(ROWS, st.sampled_from(sorted(WRONG)), st.integers(0, 8))
def test_many_lead_where_they_lead_one_by_one_up_to_the_first_that_is_unusual(rows, wrong, wrong_at):
    places, records = [START], []
    for number, (t, further) in enumerate(rows):
        place, covered = places[-1], places[-1].header.next_input
        over = WRONG[wrong](covered) if number == wrong_at else {}
        said = {"t": t, "covers": [covered, covered + further], "intent_id": make.uuid7(make.NOW, number)}
        offset, value = place.offset + 2, encode_body(verdict(place.header, **{**said, **over}))
        records.append((offset, value))
        places.append(place.after(offset, body_of(value), digest_of(value)) or place)
    followed = min(wrong_at, len(rows))
    place, told = linked(START, records)
    assert place == places[followed]
    assert [(each.offset, each.value) for each in told] == records[:followed]


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
