"""Ids that a run was denied under are remembered wherever a unit comes from: memory, deltas, records that wait."""

from __future__ import annotations

import json
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import factories as make
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.core.apply import apply, change_of, units_of
from harness_stream.core.deferred import Told, groups_of
from harness_stream.core.denials import DENIALS, groups_of_denials
from harness_stream.core.fold import Place
from harness_stream.core.ids import ids_unit, is_of_ids, memory_of
from harness_stream.core.limits import DELTAS_BEFORE_REBASE, IDS_DELTAS_MAX
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.core.units import Delta, encode_unit, replay_unit
from harness_stream.runtime import taking
from harness_stream.runtime.cold import units_named
from harness_stream.runtime.mover import MOVE_MS, Moved, Mover
from harness_stream.runtime.taking import take_in, take_in_oldest
from harness_stream.runtime.telemetry import PrometheusMetrics
from harness_stream.wire.decisions import body_of
from tests.unit.core.test_denials import LATE_MS, NOW, RULES, History, Sent, late, lone, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.unit.core.test_denials import Answered

WINDOWS = make.windows(RULES)
SHARDS = 32  # an id's last digits say which
# Several ids a unit, and several units a run.
ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=2, max_size=12, unique=True)
RUNS = st.lists(ROWS, min_size=1, max_size=4)
few = settings(max_examples=25, deadline=None)


def intent_of(run: int, shard: int, n: int) -> Any:
    return lone(shard + SHARDS * (6 * run + n + 1))


def ran(runs: Sequence[Sequence[tuple[int, int]]]) -> Answered:
    """Runs with an evaluated intent behind each."""
    sent: list[Sent] = []
    for number, rows in enumerate(runs):
        sent += [late(intent_of(number, *row)) for row in rows]
        sent.append(Sent(NOW, lone(7 + SHARDS * (6 * number + 1), action="crm.read")))
    return together(History(), sent)


def one_run(count: int) -> Any:
    """The record of so many ids that one unit remembers."""
    [linked] = together(History(), [late(lone(SHARDS * (n + 1))) for n in range(count)]).records
    assert linked.body["kind"] == DENIALS
    assert len(groups_of_denials(linked.body)) == 1
    return linked


def changes(answered: Answered) -> list[tuple[int, Any]]:
    return [(offset, linked.change) for offset, linked in enumerate(answered.records) if linked.change is not None]


def replayed(name: str, base: bytes | None, deltas: list[bytes]) -> Any:
    return replay_unit(name, base, deltas, State().confirmed(PARTITION_UNIT), WINDOWS)


def state_of(all_changes: Sequence[tuple[int, Any]]) -> State:
    state = State()
    for _, change in all_changes:
        apply(state, change, WINDOWS)
    return state


def units_in(state: State) -> dict[str, Any]:
    return {unit: dict(state.confirmed(unit)) for unit in state.units() if state.confirmed(unit)}


# --- What a record names ---


@few
@given(runs=RUNS)
def test_a_run_changes_the_units_of_its_ids_and_no_other(runs: Any) -> None:
    for linked in ran(runs).records:
        if linked.body["kind"] == DENIALS:
            body, units = json.loads(linked.value), {ids_unit(row["intent_id"]) for row in linked.body["denied"]}
            change = change_of(body, linked.digest)
            assert change == linked.change
            assert units == linked.units == {*groups_of_denials(body)} == {*groups_of(change)} == {*units_of(change)} == {*units_named(body)}


JUNK = [None, 1, "x", [], {}, [None], [1], ["x"], [{}], [{"intent_id": 1}], [{"intent_id": "x"}], [{"intent_id": []}]]


@pytest.mark.parametrize("rows", JUNK, ids=repr)
def test_whose_rows_cannot_be_read_names_no_unit(rows: Any) -> None:
    assert units_named({"kind": DENIALS, "denied": rows}) == ()


# --- Units from deltas ---


@few
@given(runs=RUNS, cut=st.integers(0, 8))
def test_a_base_and_the_deltas_after_it_are_the_unit(runs: Any, cut: int) -> None:
    """Of a base, or of none if the unit began with a delta."""
    told = changes(ran(runs))
    before, whole = state_of(told[:cut]), state_of(told)
    as_of = told[min(cut, len(told)) - 1][0] if cut else -1
    for name in filter(is_of_ids, list(whole.units())):
        base = encode_unit(before.confirmed(name), as_of, NOW) if cut else None
        deltas = [Delta(change, offset).encoded(name) for offset, change in told if name in units_of(change)]
        assert replayed(name, base, deltas) == whole.confirmed(name)


@few
@given(runs=RUNS)
def test_a_delta_that_arrives_twice_counts_once_though_it_tells_of_several_ids(runs: Any) -> None:
    told = changes(ran(runs))
    whole = state_of(told)
    for name in filter(is_of_ids, list(whole.units())):
        deltas = [Delta(change, offset).encoded(name) for offset, change in told if name in units_of(change)]
        assert replayed(name, None, [*deltas[:2], *deltas]) == whole.confirmed(name)
        assert replayed(name, encode_unit(whole.confirmed(name), 10**6, NOW), deltas) == whole.confirmed(name)


@few
@given(rows=ROWS)
def test_a_unit_is_told_of_its_own_ids_alone(rows: Any) -> None:
    [(_, change), *_] = changes(ran([rows]))
    for name in units_of(change):
        told = orjson.loads(Delta(change, 0).encoded(name))[1]
        assert told["ids"].keys() == {name}
        assert {intent_id for _, intent_id, *_ in told["ids"][name]} == {
            intent_of(0, *row).intent_id for row in rows if ids_unit(intent_of(0, *row).intent_id) == name
        }


# --- Units that take in what waits for them ---


def waiting_for(answered: Answered) -> State:
    state = State()
    for offset, linked in enumerate(answered.records):
        groups = () if linked.change is None else groups_of(linked.change)
        if groups:
            state.deferred.add([Told(offset, linked.value, linked.digest, groups)])
    return state


@few
@given(runs=RUNS, order=st.randoms(use_true_random=False), piecemeal=st.booleans())
def test_unit_by_unit_in_any_order_comes_to_what_all_at_once_does(runs: Any, order: Any, piecemeal: bool) -> None:
    answered = ran(runs)
    at_once, alone = waiting_for(answered), waiting_for(answered)
    touched = take_in_oldest(at_once, WINDOWS, lambda: False)
    groups = list(alone.deferred.coming(alone.deferred.records))
    while groups:
        group = order.choice(groups)
        take_in(alone, group, WINDOWS, lambda: piecemeal)  # one record, or all of them
        groups = [waits for waits in groups if waits in alone.deferred]
    assert units_in(alone) == units_in(at_once) == units_in(state_of(changes(answered)))
    assert touched == units_in(at_once).keys()
    assert alone.deferred.size == at_once.deferred.size == 0


@few
@given(rows=ROWS)
def test_what_a_units_base_holds_already_is_not_taken_in_again(rows: Any) -> None:
    answered = ran([rows])
    state, whole = waiting_for(answered), state_of(changes(answered))
    for name in list(whole.units()):
        state.install(name, whole.confirmed(name))
        state.deferred.ahead[name] = len(answered.records)
    assert take_in_oldest(state, WINDOWS, lambda: False) == frozenset()
    assert units_in(state) == units_in(whole)


def test_whoever_is_asked_for_takes_a_run_in_for_all_who_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading it is what costs: each of up to 128 units read every run anew."""
    answered = ran([[(number, 0) for number in range(3)]] * 4)
    state, first, read = waiting_for(answered), intent_of(0, 1, 0).intent_id, Counter[bytes]()
    monkeypatch.setattr(taking, "body_of", lambda value: read.update([value]) or body_of(value))
    touched = take_in(state, ids_unit(first), WINDOWS, lambda: False)
    known = memory_of(state, "agent-1", first)
    assert known is not None
    assert (known.decision, known.verdict_digest) == ("deny", answered.records[0].digest)
    runs = [linked for linked in answered.records if linked.body["kind"] == DENIALS]
    assert touched == {unit for run in runs for unit in groups_of_denials(run.body)}
    assert not any(unit in state.deferred for unit in touched)
    assert read == {run.value: 1 for run in runs}


def test_but_not_for_units_that_are_not_in_memory() -> None:
    answered = ran([[(0, 0), (1, 0), (2, 0)]])
    state, (first, second) = waiting_for(answered), (intent_of(0, number, 0).intent_id for number in (1, 2))
    away = state_of(changes(answered))
    state.install(ids_unit(second), away.confirmed(ids_unit(second)))
    state.evict(ids_unit(second))
    take_in(state, ids_unit(first), WINDOWS, lambda: False)
    assert memory_of(state, "agent-1", first) is not None
    assert ids_unit(second) in state.deferred
    assert state.is_elsewhere(ids_unit(second))


# --- What the store is told ---


class Stored:
    """A partition's mover, and ids that are denied."""

    def __init__(self) -> None:
        self.store, self.state, self.offset, self.ids = MemoryStateStore(), State(), -1, 0
        self.mover = Mover(self.store, 0, PrometheusMetrics(), count().__next__)
        self.unit = ids_unit(make.uuid7(NOW, SHARDS))

    def run(self, count: int) -> None:
        """So many ids of one unit in one record."""
        self.offset += 1
        rows = [["agent-1", make.uuid7(NOW, SHARDS * (self.ids + n + 1)), "d", 10**15, NOW] for n in range(count)]
        self.ids += count
        change = {"kind": DENIALS, "digest": "v", "ids": {self.unit: rows}}
        self.state.push()
        apply(self.state, change, WINDOWS)
        self.mover.changed(self.state.confirm(), [Moved(change, self.offset, frozenset([self.unit]))])
        place = Place.genesis("i", 0)._replace(offset=self.offset)
        assert self.mover.flush(place, self.state, (self.offset + 1) * MOVE_MS)

    def told(self) -> int:
        """Ids that stand in deltas, which whoever loads it replays."""
        return sum(len(orjson.loads(delta)[1]["ids"][self.unit]) for delta in self.loaded().deltas)

    def loaded(self) -> Any:
        return self.store.load(0, [self.unit])[self.unit]


def test_ids_count_one_by_one_against_what_a_unit_gets_before_it_is_written_anew() -> None:
    stored = Stored()
    stored.run(2)
    assert not stored.loaded().deltas, "its first time is a base"
    for _ in range(4):
        stored.run(16)
    assert (len(stored.loaded().deltas), stored.told()) == (4, DELTAS_BEFORE_REBASE)
    stored.run(2)
    assert not stored.loaded().deltas


def test_a_run_of_more_than_are_left_writes_the_unit_anew_at_once() -> None:
    stored = Stored()
    stored.run(2)
    stored.run(DELTAS_BEFORE_REBASE + 1)
    assert not stored.loaded().deltas


@few
@given(counts=st.lists(st.integers(2, 200), min_size=1, max_size=15))
def test_however_long_runs_are_what_is_replayed_is_bounded_and_the_store_is_the_state(counts: list[int]) -> None:
    stored = Stored()
    for length in counts:
        stored.run(length)
        loaded = stored.loaded()
        assert stored.told() <= IDS_DELTAS_MAX
        assert replayed(stored.unit, loaded.base, list(loaded.deltas)) == stored.state.confirmed(stored.unit)
    assert len(stored.state.confirmed(stored.unit)) == sum(counts)


def test_the_largest_run_is_one_delta_a_unit() -> None:
    linked = one_run(40)
    state = State()
    apply(state, linked.change, WINDOWS)
    name = ids_unit(lone(SHARDS).intent_id)
    assert replayed(name, None, [Delta(linked.change, 0).encoded(name)]) == state.confirmed(name)
    assert len(state.confirmed(name)) == 40


def test_a_run_is_remembered_up_to_where_a_lone_denial_would_be() -> None:
    t = NOW - LATE_MS
    [linked] = together(History(), [late(lone(n)) for n in range(3)]).records
    state = State()
    apply(state, linked.change, WINDOWS)
    alone = History()
    untils = {key[-1]: value.until for name in state.units() for key, value in state.confirmed(name).items()}
    for n in range(3):
        body = alone.intake.answer(lone(n), make.Arrival("0" * 64, t, t), NOW)
        assert untils[lone(n).intent_id] == body["remember_until"]
