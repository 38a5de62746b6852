"""What every state store promises, whoever keeps it (ports.StateStore): one suite for memory and Redis."""

from __future__ import annotations

import uuid
from itertools import count

import factories as make
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.state import RedisStateStore
from harness_stream.core.ids import ids_unit, remember_denied
from harness_stream.core.state import State
from harness_stream.core.units import Delta, encode_unit, replay_unit
from harness_stream.errors import InvalidInput
from harness_stream.ports import Move, StoredHead, StoredUnit

ODD_NAMES = ["agent:ä", "chain:{x}", "a b", "", "%2F", "hs:{r/0}:head", "u:", "*", "\x00\n", "😀"]
PARTITIONS = count(1)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.real)])
def open_store(request):
    """Opens the store of a named realm; the same name gives the same data."""
    if request.param == "memory":
        servers: dict[str, MemoryStateStore] = {}
        yield lambda realm="r": servers.setdefault(realm, MemoryStateStore())
        return
    url = request.getfixturevalue("real_stack").redis_url
    test, opened = uuid.uuid4().hex, []

    def open_realm(realm="r"):
        # The suite is about meaning, not speed: a busy test machine may answer late.
        opened.append(RedisStateStore(url, Whose(realm + test, "i1"), SystemClock(), timeout_ms=5_000))
        return opened[-1]

    yield open_realm
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store()


def head(offset, epoch=1, header=b"\x00h"):
    return StoredHead(offset, epoch, header)


def step(expect, offset, *, partition=0, epoch=1, bases=None, deltas=None):
    expected = head(expect) if isinstance(expect, int) else expect
    return Move(partition, expected, head(offset, epoch), bases or {}, deltas or {})


def everything(store, partition=0):
    names = sorted(store.units(partition))
    return store.head(partition), store.load(partition, names)


EMPTY = head(-1, 0, b"")


def test_a_new_store_is_empty(store):
    assert store.head(0) is None
    assert store.units(0) == frozenset()
    assert store.load(0, ["a"]) == {"a": None}
    assert store.load(0, []) == {}


def test_a_move_sets_head_and_units_together(store):
    assert store.move(step(None, 7, epoch=3, bases={"a": b"A", "empty": b""})) is None
    assert store.head(0) == head(7, 3)
    assert store.units(0) == {"a", "empty"}
    assert store.load(0, ["empty", "x", "a"]) == {"empty": StoredUnit(b""), "x": None, "a": StoredUnit(b"A")}


def test_the_head_alone_may_move(store):
    store.move(step(None, 0))
    assert store.move(step(0, 1)) is None
    assert everything(store) == (head(1), {})


def test_deltas_follow_the_base_in_order_over_many_moves(store):
    store.move(step(None, 0, bases={"a": b"A"}))
    store.move(step(0, 1, deltas={"a": [b"1", b"", b"2"]}))
    store.move(step(1, 2, deltas={"a": [b"3"]}))
    assert store.load(0, ["a"]) == {"a": StoredUnit(b"A", (b"1", b"", b"2", b"3"))}


def test_a_rebase_replaces_base_and_deltas(store):
    store.move(step(None, 0, bases={"a": b"A"}))
    store.move(step(0, 1, deltas={"a": [b"1"]}))
    store.move(step(1, 2, bases={"a": b"B"}))
    assert store.load(0, ["a"]) == {"a": StoredUnit(b"B")}


def test_a_unit_may_be_rebased_and_appended_to_in_one_move(store):
    store.move(step(None, 0, bases={"a": b"A"}))
    store.move(step(0, 1, bases={"a": b"B"}, deltas={"a": [b"1"]}))
    assert store.load(0, ["a"]) == {"a": StoredUnit(b"B", (b"1",))}


def test_a_run_of_denied_ids_comes_back_once_however_often_its_delta_was_sent(store):
    """After a step whose answer was lost it is sent again, in the next one."""
    ids = [make.uuid7(make.NOW, 32 * n) for n in range(9)]
    unit, state = ids_unit(ids[0]), State()
    for offset, part in enumerate((ids[:2], ids[2:6], ids[6:])):
        rows = [["agent ä", own_id, "0" * 64, make.NOW + 1, make.NOW] for own_id in part]
        change = {"kind": "denials", "digest": f"{offset}" * 64, "ids": {unit: rows, "i:0.1": [["x"] * 5]}}
        remember_denied(state, change, unit)
        told = Delta(change, offset).encoded(unit)
        base = {unit: encode_unit(state.confirmed(unit), offset, make.NOW)} if offset == 0 else None
        store.move(step(offset - 1 if offset else None, offset, bases=base, deltas={unit: [told, told]}))
    stored = store.load(0, [unit])[unit]
    found = replay_unit(unit, stored.base, [*stored.deltas, *stored.deltas], {}, make.windows())
    assert found == state.confirmed(unit)
    assert {key[2] for key in found} == {*ids}


def test_deltas_without_a_base_say_that_the_base_is_missing(store):
    store.move(step(None, 0, deltas={"a": [b"1"]}))
    store.move(step(0, 1, deltas={"a": [b"2"]}))
    assert store.load(0, ["a"]) == {"a": StoredUnit(None, (b"1", b"2"))}


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (step(None, 9, epoch=2), "it expects an empty store"),
        (step(head(4, 2), 9, epoch=2), "it expects an older head"),
        (step(head(6, 2), 9, epoch=2), "it expects a newer head"),
        (step(head(5, 2, b"other"), 9, epoch=2), "it expects another record at that offset"),
        (step(head(5, 1), 9, epoch=2), "it expects another epoch at that offset"),
        (step(head(5, 2), 5, epoch=2), "it stands still"),
        (step(head(5, 2), 4, epoch=2), "it goes back"),
        (step(head(5, 2), 9, epoch=1), "its epoch goes back"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_refused_move_changes_nothing_and_says_where_the_store_stands(store, refused, why):
    store.move(step(None, 5, epoch=2, bases={"a": b"A"}, deltas={"a": [b"1"]}))
    before = everything(store)
    move = Move(0, refused.expect, refused.head, {"a": b"X", "new": b"N"}, {"a": [b"x"]})
    assert store.move(move) == head(5, 2), why
    assert everything(store) == before


def test_a_move_that_expects_a_head_is_refused_by_an_empty_store(store):
    assert store.move(step(3, 4, bases={"a": b"A"})) == EMPTY
    assert everything(store) == (None, {})


def test_a_step_to_offset_minus_one_does_not_go_forward(store):
    assert store.move(step(None, -1)) == EMPTY
    assert store.head(0) is None


def test_offsets_beyond_32_bits_are_kept_exactly(store):
    store.move(step(None, 2**52))
    assert store.move(step(2**52, 2**52 + 1)) is None
    assert store.head(0) == head(2**52 + 1)


def test_clear_forgets_one_partition_and_lets_it_begin_again(store):
    store.move(step(None, 5, bases={"a": b"A"}))
    store.move(step(None, 6, partition=1, bases={"a": b"other"}))
    assert store.clear(0, head(5))
    assert everything(store) == (None, {})
    assert everything(store, 1) == (head(6), {"a": StoredUnit(b"other")})
    assert store.move(step(None, 1, deltas={"a": [b"1"]})) is None
    assert store.load(0, ["a"]) == {"a": StoredUnit(None, (b"1",))}


def test_clearing_an_empty_partition_is_fine(store):
    assert store.clear(0, None)
    assert store.head(0) is None


@pytest.mark.parametrize("expected", [None, head(4, 3), head(5, 2), head(5, 3, b"other")])
def test_nobody_clears_what_another_one_left(store, expected):
    store.move(step(None, 5, epoch=3, bases={"a": b"A"}))
    assert not store.clear(0, expected)
    assert everything(store) == (head(5, 3), {"a": StoredUnit(b"A")})
    assert store.clear(0, head(5, 3))
    assert store.head(0) is None


def test_a_large_partition_is_written_listed_and_cleared_whole(store):
    names = {f"agent:{i}" for i in range(1_000)}
    store.move(step(None, 0, bases=dict.fromkeys(names, b"x" * 100)))
    assert store.units(0) == names
    while not store.clear(0, store.head(0)):
        assert store.head(0) is None
    assert store.units(0) == frozenset()


def test_partitions_do_not_see_each_other(store):
    for partition in (0, 1, 10, 11):
        assert store.move(step(None, partition, partition=partition, bases={"a": b"%d" % partition})) is None
    for partition in (0, 1, 10, 11):
        assert everything(store, partition) == (head(partition), {"a": StoredUnit(b"%d" % partition)})


@pytest.mark.parametrize("other", ["r2", "r/0", "{r}", "}", "R", "r%2F", "ü"])
def test_realms_do_not_see_each_other(open_store, other):
    one, two = open_store("r"), open_store(other)
    one.move(step(None, 1, bases={"a": b"one"}))
    assert everything(two) == (None, {})
    assert two.move(step(None, 2, bases={"a": b"two"})) is None
    assert two.clear(0, head(2))
    assert everything(one) == (head(1), {"a": StoredUnit(b"one")})


def test_two_openings_of_a_realm_see_the_same_data(open_store):
    open_store().move(step(None, 1, bases={"a": b"A"}))
    assert everything(open_store()) == (head(1), {"a": StoredUnit(b"A")})


def test_unit_names_may_hold_any_character(store):
    store.move(step(None, 0, bases={name: name.encode() for name in ODD_NAMES}))
    assert everything(store) == (head(0), {name: StoredUnit(name.encode()) for name in ODD_NAMES})


def test_at_most_64_units_are_loaded_at_once(store):
    names = [str(i) for i in range(64)]
    assert store.load(0, names) == dict.fromkeys(names)
    with pytest.raises(InvalidInput, match="65 units"):
        store.load(0, [*names, "one more"])


def test_one_load_brings_as_many_units_as_2_mib_hold(store):
    store.move(step(None, 0, bases=dict.fromkeys("abcd", b"x" * 900_000)))
    store.move(step(0, 1, deltas={"b": [b"y" * 400_000]}))
    assert list(store.load(0, ["a", "c", "d", "b"])) == ["a", "c"]
    assert list(store.load(0, ["b", "unknown", "d"])) == ["b", "unknown"]


def test_the_first_unit_of_a_load_comes_whatever_its_size(store):
    store.move(step(None, 0, bases={"large": b"x" * 3_000_000, "small": b"s"}))
    assert list(store.load(0, ["large", "small"])) == ["large"]
    assert list(store.load(0, ["small", "large"])) == ["small"]


UNITS = ("a", "b", "c")
content = st.binary(max_size=4)
writes = st.tuples(
    st.dictionaries(st.sampled_from(UNITS), content, max_size=2),
    st.dictionaries(st.sampled_from(UNITS), st.lists(content, min_size=1, max_size=3), max_size=2),
)
# One event: which of two writers acts, how it believes the store stands (0: truly; else so many heads ago), its step.
race = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 3), st.integers(-2, 3), writes, st.booleans()), max_size=25)


def apply_to_model(model, bases, deltas):
    fresh = dict(model)
    fresh.update({name: StoredUnit(base) for name, base in bases.items()})
    for name, added in deltas.items():
        unit = fresh.get(name, StoredUnit(None))
        fresh[name] = StoredUnit(unit.base, unit.deltas + tuple(added))
    return fresh


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=race)
def test_however_two_writers_race_the_store_is_what_the_accepted_steps_made_and_never_goes_back(open_store, events):
    partition = next(PARTITIONS)
    writers = open_store("race"), open_store("race")
    past: list[StoredHead | None] = [None]
    model: dict[str, StoredUnit] = {}
    for writer, ago, by, (bases, deltas), newer_epoch in events:
        believed, now = past[max(0, len(past) - 1 - ago)], past[-1]
        start = -1 if believed is None else believed.verdict_offset
        epoch = (believed.epoch if believed else 0) + newer_epoch
        move = Move(partition, believed, head(start + by, epoch), bases, deltas)
        answer = writers[writer].move(move)
        # Accepted: the belief was true and the step goes forward. Anything else must leave the newer state alone.
        assert (answer is None) == (believed == now and by > 0)
        if answer is None:
            past.append(move.head)
            model = apply_to_model(model, bases, deltas)
        else:
            assert answer == (now or EMPTY)
        assert everything(writers[1 - writer], partition) == (past[-1], model)
