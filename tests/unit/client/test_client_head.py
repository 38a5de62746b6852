"""What a client takes from a partition of the decision log, and what it lets lie."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_worker import HOME, INCARNATION, RULES, TOPICS, Script, World

from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedVerifier
from harness_stream.client.answer import Answer, readable
from harness_stream.client.head import Effective, Head, answers_of, named_by, place_of, skipped_by
from harness_stream.core.denials import Denied
from harness_stream.core.fold import Place
from harness_stream.ports import LogRecord


def head_over(world, place=None):
    head = Head(place or Place.genesis(INCARNATION, HOME), UnsignedVerifier())
    taken = [head.take(r) for r in world.broker.read(TOPICS.verdicts, HOME, 0, 1_000)]
    return head, [e for e in taken if e is not None]


@pytest.fixture
def world():
    return World()


def test_records_that_count_are_handed_out_with_what_they_answer(world):
    world.script.begin()
    world.ask()
    world.script.verdict(world.last_input())
    head, taken = head_over(world)
    assert [e.kind for e in taken] == ["claim", "switch", "verdict"]
    assert named_by(taken[2]).id == "intent-1"
    assert head.place == world.script.place


def test_what_a_zombie_writes_is_counted_and_given_to_nobody(world):
    zombie = world.script.begin().twin()
    Script(world.broker, writer="b" * 32, place=world.script.place).claim("crash")
    world.ask()
    zombie.verdict(world.last_input())
    head, taken = head_over(world)
    assert [e.kind for e in taken] == ["claim", "switch", "claim"]
    assert head.void == 1


def test_a_record_that_is_not_authentic_is_not_even_folded(world):
    world.script.begin()
    claim = {"kind": "claim", "incarnation": INCARNATION, "epoch": 9, "writer": "f" * 32, "after": "clean"}
    world.broker.append(TOPICS.verdicts, HOME, None, json.dumps(claim).encode(), ())
    head, _ = head_over(world)
    assert head.forged == 1
    assert head.place.header.epoch == 1


def test_checkpoints_move_nothing_and_are_a_sign_of_life(world):
    world.script.begin()
    place = world.script.place
    world.clock.advance(700)
    world.script.checkpoint()
    head, _ = head_over(world)
    assert head.place == place
    assert head.sign == ("checkpoint", world.clock.now_ms(), 2)
    assert head.void == 0


def test_a_place_comes_only_from_an_authentic_checkpoint_of_this_very_partition(world):
    world.script.begin().checkpoint()
    [record] = world.broker.read(TOPICS.heads, HOME, 0, 10)
    verifier = UnsignedVerifier()
    assert place_of(record, INCARNATION, HOME, verifier) == world.script.place
    assert place_of(record, "another.realm", HOME, verifier) is None
    assert place_of(record, INCARNATION, HOME + 1, verifier) is None
    assert place_of(record._replace(headers=()), INCARNATION, HOME, verifier) is None
    assert place_of(None, INCARNATION, HOME, verifier) is None
    body = json.loads(record.value)
    for broken in ({**body, "head": "nonsense"}, {**body, "epoch": "many"}, {**body, "kind": "claim"}, [], 7):
        value = json.dumps(broken).encode()
        assert place_of(record._replace(value=value), INCARNATION, HOME, verifier) is None


def test_a_skip_names_the_first_offsets_and_covers_the_rest(world):
    world.script.begin()
    for _ in range(3):
        world.broker.append(TOPICS.intents, HOME, None, b"?")
    world.script.skip(2, named=[(0, "not_json")])
    _, taken = head_over(world)
    skipped = skipped_by(taken[-1])
    assert skipped.reason_of(0) == ("not_json", None)
    assert skipped.reason_of(2) == ("garbage", None)
    assert skipped.reason_of(3) is None


KINDS = ["claim", "switch", "verdict", "denials", "ack", "reject", "skip", "checkpoint", "resume"]
WORDS = [*KINDS, INCARNATION, "a" * 32, "d" * 64, "intent-1"]
LEAVES = st.none() | st.booleans() | st.integers(-2, 3) | st.sampled_from(WORDS) | st.text(max_size=4) | st.floats()
ANYTHING = st.recursive(LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3))
GENESIS = Place.genesis(INCARNATION, HOME)
WAITING = {"intent-1"}
ROW = {**dict.fromkeys(Denied._fields, ANYTHING), "intent_id": st.just("intent-1"), "offset": st.integers(-1, 3)}
ROWS = st.fixed_dictionaries({}, optional={name: value | ANYTHING for name, value in ROW.items()})
LIKELY = {
    "incarnation": st.just(INCARNATION),
    "kind": st.sampled_from(KINDS),
    "epoch": st.integers(0, 3),
    "writer": st.just("a" * 32),
    "covers": st.lists(st.integers(-1, 2), min_size=2, max_size=2),
    "prev": st.just(GENESIS.header.head),
    "rules": st.just(RULES),
    "head": st.text("0g", min_size=64, max_size=64),
    "next_input": st.integers(0, 1),
    "t": st.integers(0, 3),
    "denied": st.lists(ROWS | ANYTHING, max_size=3),
}
FIELDS = [*LIKELY, "after", "decision", "obligations", "reasons", "offsets", "reason", "intent_id", "id", "digest"]
BODIES = st.fixed_dictionaries({}, optional={f: LIKELY.get(f, ANYTHING) | ANYTHING for f in FIELDS})
VALUES = BODIES.map(lambda b: json.dumps(b).encode()) | ANYTHING.map(lambda a: json.dumps(a).encode()) | st.binary()


@settings(max_examples=60, deadline=None)
@given(st.lists(VALUES, max_size=6))
def test_no_content_whatsoever_raises(values):
    head = Head(GENESIS, UnsignedVerifier())
    for offset, value in enumerate(values):
        record = LogRecord(TOPICS.verdicts, HOME, offset, None, value, 1, UNSIGNED_HEADERS)
        place_of(record, INCARNATION, HOME, UnsignedVerifier())
        effective = head.take(record)
        for answer in () if effective is None else answers_of(effective, WAITING):
            named_by(answer)
            skipped_by(answer)
            if readable(answer.body):
                repr(Answer(answer.body, answer.digest, offset, record))


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({n: v | ANYTHING for n, v in ROW.items()}) | ROWS | ANYTHING, max_size=4) | ANYTHING)
def test_whatever_stands_in_a_run_nothing_raises_and_it_only_ever_denies(rows):
    header = GENESIS.header
    body = {"kind": "denials", "covers": [0, 3], "denied": rows, "decided_at": 1, "rules": RULES, "engine": "e", "t": 1}
    body |= {"incarnation": INCARNATION, "epoch": 1, "writer": "a" * 32, "prev": header.head}
    record = LogRecord(TOPICS.verdicts, HOME, 0, None, json.dumps(body).encode(), 1, UNSIGNED_HEADERS)
    for answer in answers_of(Effective("denials", 0, "d" * 64, body, record), WAITING):
        assert (answer.kind, answer.body["intent_id"], answer.body["decision"]) == ("verdict", "intent-1", "deny")
        named_by(answer)
        if readable(answer.body):
            repr(Answer(answer.body, answer.digest, 0, record))


def test_a_record_without_a_value_is_void():
    head = Head(GENESIS, UnsignedVerifier())
    assert head.take(LogRecord(TOPICS.verdicts, HOME, 0, None, None, 1, UNSIGNED_HEADERS)) is None
    assert head.void == 1
