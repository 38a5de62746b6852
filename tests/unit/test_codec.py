"""Bytes → events: one clear reason for each kind of garbage, and never anything else, whatever comes in."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness_stream.core import limits
from harness_stream.core.model import InfrastructureRow, Intent
from harness_stream.core.reasons import Garbage
from harness_stream.errors import GarbageRecord
from harness_stream.wire import codec
from harness_stream.wire.codec import decode_input, decode_row, encode, key_count

GOLDEN = Path(__file__).parent.parent / "golden"
SMALL = (GOLDEN / "intent.small.json").read_bytes()
FULL = (GOLDEN / "intent.full.json").read_bytes()
EVENTS = [(GOLDEN / f"{kind}.full.json").read_bytes() for kind in ("intent", "mandate", "outcome", "approval")]
# Honest cost is 0.02 ms. The worst found is 40 ms; the bound only has to tell linear from quadratic on a busy machine.
HOSTILE_S_MAX = 1.0


def plus(members, event=SMALL):
    """An intent with more members, written as they stand."""
    return event[:-1] + b"," + members + b"}"


def refusal(value):
    with pytest.raises(GarbageRecord) as caught:
        decode_input(value)
    return caught.value


def nested(depth):
    return b'"x":' + b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Garbage.EMPTY),
        (b"", Garbage.EMPTY),
        (b" " * (limits.INTENT_BYTES_MAX + 1), Garbage.TOO_LARGE),
        (b"hello", Garbage.NOT_JSON),
        (b"[1]", Garbage.NOT_JSON),
        (b"null", Garbage.NOT_JSON),
        (SMALL + b"x", Garbage.NOT_JSON),
        (SMALL[:-1], Garbage.NOT_JSON),
        (b"\xef\xbb\xbf" + SMALL, Garbage.NOT_JSON),
        (SMALL.decode().encode("utf-16"), Garbage.NOT_JSON),
        (plus(b'"purpose":"\xff"'), Garbage.NOT_JSON),
        (plus(b'"purpose":"\xed\xa0\x80"'), Garbage.NOT_JSON),
        (plus(b'"action":"crm.read"'), Garbage.DUPLICATE_KEY),
        (plus(b'"action" :"crm.read"'), Garbage.DUPLICATE_KEY),
        (plus(b'"action"\n:"crm.read"'), Garbage.DUPLICATE_KEY),
        (plus(b'"\\u0061ction":"crm.read"'), Garbage.DUPLICATE_KEY),
        (plus(b'"measures":{"rows":1,"rows":2}'), Garbage.DUPLICATE_KEY),
        (plus(b'"arguments":[{"name":"a","name":"b"}]'), Garbage.DUPLICATE_KEY),
        (plus(b'"parent":{"agent_id":1},"parent":null'), Garbage.DUPLICATE_KEY),
        (plus(b'"deadline_ms":NaN'), Garbage.NUMBER),
        (plus(b'"deadline_ms":-Infinity'), Garbage.NUMBER),
        (plus(b'"deadline_ms":1e999'), Garbage.NUMBER),
        (plus(b'"measures":{"rows":9007199254740992}'), Garbage.NUMBER),
        (plus(b'"measures":{"rows":-9007199254740992}'), Garbage.NUMBER),
        (plus(b'"purpose":"\\ud800"'), Garbage.SURROGATE),
        (plus(b'"\\udc00":1'), Garbage.SURROGATE),
        (plus(nested(limits.DEPTH_MAX)), Garbage.DEPTH),
        (plus(nested(limits.DEPTH_MAX - 1)), Garbage.SCHEMA),
        (b"[" * limits.INTENT_BYTES_MAX, Garbage.DEPTH),
        (plus(b'"surprise":1'), Garbage.SCHEMA),
        (plus(b'"measures":{"rows":-1}'), Garbage.SCHEMA),
        (plus(b'"measures":{"rows":1.5}'), Garbage.SCHEMA),
        (plus(b'"resources":[' + b",".join([b'"a:b"'] * 33) + b"]"), Garbage.SCHEMA),
        (plus(b'"labels":[' + b",".join(b'"l%d"' % n for n in range(33)) + b"]"), Garbage.SCHEMA),
        (plus(b'"measures":{' + b",".join(b'"m%d":1' % n for n in range(17)) + b"}"), Garbage.SCHEMA),
        (SMALL.replace(b'"v":1,', b""), Garbage.SCHEMA),
        (SMALL.replace(b'"v":1', b'"v":2'), Garbage.SCHEMA),
        (SMALL.replace(b'"type":"intent",', b""), Garbage.TYPE_UNKNOWN),
        (SMALL.replace(b'"intent"', b'"order"'), Garbage.TYPE_UNKNOWN),
        (SMALL.replace(b'"intent"', b"[1]"), Garbage.TYPE_UNKNOWN),
    ],
)
def test_garbage_has_a_reason(value, reason):
    assert refusal(value).reason == reason


def test_the_largest_exact_integer_is_no_garbage():
    event = decode_input(plus(b'"measures":{"rows":9007199254740991}'))

    assert isinstance(event, Intent)
    assert event.measures == {"rows": 2**53 - 1}


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (SMALL.replace(b'"realm":"prod-eu",', b""), "realm: Field required"),
        (plus(b'"measures":{"rows":1.5}'), "measures.rows: must be a number ≥ 0: whole, or with a point as text"),
        (plus(b'"arguments":[{"name":"a","role":"x"}]'), "arguments.0.role: Input should be 'destination'"),
        (plus(b'"action":"crm.read"'), "action"),
    ],
)
def test_the_detail_names_the_field(value, detail):
    assert refusal(value).detail.startswith(detail)


@pytest.mark.parametrize(
    "value",
    [
        plus(b'"' + b"k" * 5000 + b'":1'),
        plus(b'"' + b"k" * 500 + b'":1,"' + b"k" * 500 + b'":1'),
        b'{"type":"' + b"t" * 5000 + b'"}',
        plus(b'"\\u001b[31m\\u202e":1'),
    ],
)
def test_the_detail_is_short_and_cannot_break_a_terminal(value):
    detail = refusal(value).detail

    assert len(detail) <= limits.GARBAGE_DETAIL_CHARS_MAX
    assert detail.isprintable()


def test_other_spacing_and_order_are_no_mistake():
    spaced = json.dumps(dict(reversed(json.loads(FULL).items())), indent=2, separators=(" , ", " : ")).encode()

    assert decode_input(spaced) == decode_input(FULL)


def test_quotes_and_colons_inside_text_are_no_keys():
    event = decode_input(plus(b'"purpose":"say \\"a\\": \\"b\\" and \\":"'))

    assert isinstance(event, Intent)
    assert event.purpose == 'say "a": "b" and ":'


@pytest.mark.parametrize("value", EVENTS)
def test_an_honest_writer_never_needs_the_slow_look_for_repeated_keys(value):
    assert key_count(decode_input(value)) == value.count(b'":')


def test_what_equals_its_default_is_not_written():
    event = decode_input(plus(b'"deadline_ms":5000,"labels":[],"parent":null'))

    assert encode(event) == SMALL


def test_a_row_is_read_as_its_tables():
    assert decode_row("infrastructure", b'{"workload_id":"w","attested":true}') == InfrastructureRow(
        workload_id="w", attested=True
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Garbage.EMPTY),
        (b"{}", Garbage.SCHEMA),
        (b'{"workload_id":"w","workload_id":"x"}', Garbage.DUPLICATE_KEY),
        (b'{"workload_id":"w","zone":"\\ud800"}', Garbage.SURROGATE),
        (b" " * (limits.ROW_BYTES_MAX + 1), Garbage.TOO_LARGE),
    ],
)
def test_a_row_is_held_to_the_same(value, reason):
    with pytest.raises(GarbageRecord) as caught:
        decode_row("infrastructure", value)

    assert caught.value.reason == reason


HOSTILE = [
    b'{"a":' * 10_000,
    b'{"type":"intent","deadline_ms":' + b"9" * 60_000 + b"}",
    plus(b'"deadline_ms":' + b"9" * 60_000 + b".5"),
    plus(b",".join(b'"k%d":1' % n for n in range(5_000))),
    b'{"type":"intent","resources":[' + b",".join([b"1"] * 30_000) + b"]}",
    b'{"type":"intent","measures":{' + b",".join(b'"k%d":1.5' % n for n in range(5_000)) + b"}}",
    b'{"type":"outcome","records":[' + b",".join([b'{"values":[{}]}'] * 4_000) + b"]}",
    plus(b'"purpose":"' + b'\\":' * 20_000 + b'"'),
    b'{"type":"intent","type":' + b'"' + b"\\u0022:" * 9_000 + b'"}',
]


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_input_costs_a_bounded_time(value):
    started = time.thread_time()

    refusal(value)

    assert time.thread_time() - started < HOSTILE_S_MAX


def decoded(value):
    """The event, or the garbage it is; anything else that is raised fails the test."""
    try:
        return decode_input(value)
    except GarbageRecord as garbage:
        return garbage


def only_garbage_or_an_event(value):
    result = decoded(value)
    if isinstance(result, GarbageRecord):
        assert result.reason in set(Garbage)
        assert len(result.detail) <= limits.GARBAGE_DETAIL_CHARS_MAX
        assert result.detail.isprintable()
    else:
        assert decode_input(encode(result)) == result


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_garbage(value):
    only_garbage_or_an_event(value)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.sampled_from(EVENTS), st.dictionaries(st.text(max_size=8), any_json, max_size=2), st.data())
def test_any_change_of_an_event_gives_an_event_or_garbage(event, extra, data):
    body = json.loads(event)
    changed = data.draw(st.sampled_from(sorted(body)))

    only_garbage_or_an_event(json.dumps(body | {changed: data.draw(any_json)}).encode())
    only_garbage_or_an_event(json.dumps(body | extra).encode("utf-8", "surrogatepass"))


@given(st.sampled_from(EVENTS), st.integers(0, 2000), st.integers(0, 20), st.binary(max_size=6))
@example(SMALL, 1, 0, b'"v":1,')
def test_any_cut_and_paste_of_bytes_gives_an_event_or_garbage(event, at, cut, paste):
    only_garbage_or_an_event(event[:at] + paste + event[at + cut :])


@given(st.sampled_from(EVENTS), st.data())
def test_a_repeated_key_never_gets_through(event, data):
    """However it is spelled and wherever it stands, blanks and escapes included."""
    body = json.loads(event)
    key = data.draw(st.sampled_from(sorted(body)))
    spelled = data.draw(st.sampled_from([json.dumps(key), '"' + "".join(f"\\u{ord(c):04x}" for c in key) + '"']))
    blank = data.draw(st.text(" \t\r\n", max_size=2))
    member = f"{spelled}{blank}:{json.dumps(body[key])}".encode()

    assert refusal(plus(member, event)).reason == Garbage.DUPLICATE_KEY
    assert refusal(b"{" + member + b"," + event[1:]).reason == Garbage.DUPLICATE_KEY


def test_the_slow_look_agrees_with_the_fast_one():
    for value in EVENTS:
        assert codec._strict_json(value) == json.loads(value)
