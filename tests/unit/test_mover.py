"""The mover and a store that takes its steps but answers too late: nothing is sent again that is known to be there."""

from collections import Counter
from dataclasses import replace
from itertools import count
from random import Random

import orjson
import pytest

from harness_stream.adapters.memory.state import MemoryStateStore, _Partition
from harness_stream.core.fold import Place
from harness_stream.core.ids import SLOT_MS, SLOTS, Remembered, ids_unit
from harness_stream.core.limits import DELTAS_BEFORE_REBASE, IDS_DELTAS_MAX, STORE_PATIENCE_MS
from harness_stream.core.state import State
from harness_stream.core.units import decode_unit
from harness_stream.errors import StateUnavailable
from harness_stream.ports import StoredHead, StoredUnit
from harness_stream.runtime.mover import (
    LOOK_MS,
    MOVE_MS,
    MOVE_UNITS,
    MOVE_UNITS_SOON,
    NEWER_MS,
    REFILL_UNITS,
    RETRY_MS,
    Moved,
    Mover,
    is_filling,
)
from harness_stream.runtime.telemetry import PrometheusMetrics

QUICK_UNITS = 10
INTENT = "0193b7a0-0000-7000-8000-000000000001"
REMEMBERED = Remembered("d", 10**15, "approve", "v", 1, None, None)
MANY = [f"a:agent-{number}" for number in range(100)]


class SlowStore(MemoryStateStore):
    """It takes a step of any size, and answers in time only those of few units."""

    def __init__(self):
        super().__init__()
        self.sent = []

    def move(self, move):
        at = super().move(move)
        self.sent.append(len(move.bases) + len(move.deltas))
        if self.sent[-1] > QUICK_UNITS:
            raise StateUnavailable("late")
        return at


class Partition:
    """One partition in which a unit changes at every turn."""

    def __init__(self):
        self.store, self.state, self.offset = SlowStore(), State(), 0
        self.mover = Mover(self.store, 0, PrometheusMetrics(), count().__next__)

    def turn(self, units, at_ms=None, *, hurry=False):
        assert self.is_kept(units, at_ms, hurry=hurry), "it must be loaded again"

    def is_kept(self, units, at_ms=None, *, hurry=False):
        self.offset += 1
        for unit in units:
            self.state.put(unit, ("since", "w", 1), self.offset)
        self.mover.changed(frozenset(units), ())
        place = Place.genesis("i", 0)._replace(offset=self.offset)
        now_ms = self.offset * RETRY_MS if at_ms is None else at_ms
        return self.mover.flush(place, self.state, now_ms, hurry=hurry)


def test_a_step_that_was_taken_is_not_sent_again_though_its_answer_came_too_late():
    partition = Partition()
    partition.turn(MANY)
    for _ in range(5):
        partition.turn([MANY[0]])
    assert partition.store.sent == [100, 1, 1, 1, 1, 1]
    assert not partition.mover.behind


class RebasingStore(MemoryStateStore):
    """Counts how often a unit is written anew."""

    def __init__(self):
        super().__init__()
        self.bases = Counter()

    def move(self, move):
        self.bases.update(move.bases.keys())
        return super().move(move)


def test_a_unit_of_ids_is_written_anew_no_more_often_than_it_doubles_and_others_every_64_deltas():
    store, state = RebasingStore(), State()
    mover, unit, agent = Mover(store, 0, PrometheusMetrics(), count().__next__), ids_unit(INTENT), "a:agent-1"
    for number in range(1, 2_001):
        change = {"kind": "outcome", "agent_id": f"agent-{number}", "intent_id": INTENT, "status": "done"}
        state.put(unit, ("id", f"agent-{number}", INTENT), REMEMBERED)
        state.put(agent, ("since", "w", 1), number)
        mover.changed(frozenset((unit, agent)), [Moved(change, number, frozenset((unit, agent)))])
        place = Place.genesis("i", 0)._replace(offset=number)
        assert mover.flush(place, state, number * MOVE_MS)
    assert store.bases[agent] == pytest.approx(2_000 / (DELTAS_BEFORE_REBASE + 1), abs=1)
    assert store.bases[unit] <= 9, "after 1, 65, 130, 260, 520, 1,032, 1,544"
    assert len(store.load(0, [unit])[unit].deltas) <= IDS_DELTAS_MAX
    later = [Moved(change, number + 1, frozenset([unit]))]
    mover.flush(place, state, number * MOVE_MS + SLOTS * SLOT_MS + 1)
    mover.changed(frozenset([unit]), later)
    assert mover.flush(place._replace(offset=number + 1), state, number * MOVE_MS + SLOTS * SLOT_MS + 2 * MOVE_MS)
    assert not store.load(0, [unit])[unit].deltas, "a turn of the ring later it is written anew"


class FailingStore(MemoryStateStore):
    """Fails when it is told to: before it takes a step, or after."""

    def __init__(self):
        super().__init__()
        self.fails = None

    def move(self, move):
        fails, self.fails = self.fails, None
        if fails == "before":
            raise StateUnavailable("away")
        at = super().move(move)
        if fails == "after":
            raise StateUnavailable("the answer was lost")
        return at


def outcome(number):
    return {"kind": "outcome", "op": "outcome", "agent_id": "x", "intent_id": "i", "status": "done", "number": number}


@pytest.mark.parametrize("seed", range(20))
def test_every_change_of_a_unit_is_stored_once_and_in_order_whatever_becomes_of_steps(seed):
    random, store, state, units = Random(seed), FailingStore(), State(), ("a:x", "a:y", "i:1.2", "l:z")
    mover, told, offset = Mover(store, 0, PrometheusMetrics(), count().__next__), {unit: [] for unit in units}, -1
    for turn in range(60):
        changes = []
        for _ in range(random.randint(0, 3)):
            offset += 1
            touched = frozenset(random.sample(units, random.randint(1, 3)))
            changes.append(Moved(outcome(offset), offset, touched))
            for unit in touched:
                state.put(unit, ("since", "w", 1), offset)
                told[unit].append(offset)
        mover.changed(state.touched(), changes)
        store.fails = random.choice([None, None, "before", "after"]) if turn < 50 else None
        place = Place.genesis("i", 0)._replace(offset=offset)
        assert mover.flush(place, state, turn * RETRY_MS, hurry=turn >= 50)
    assert not mover.behind
    for unit, offsets in told.items():
        stored = store.load(0, [unit])[unit]
        as_of = -1 if stored.base is None else decode_unit(stored.base)[1]
        deltas = [orjson.loads(delta) for delta in stored.deltas]
        assert [at for at, _ in deltas if at > as_of] == [at for at in offsets if at > as_of]
        assert all(("number" in change) != unit.startswith("i:") for _, change in deltas), "ids need only a part"


class CountingStore(MemoryStateStore):
    """Keeps what the head said after each step."""

    def __init__(self):
        super().__init__()
        self.heads, self.answers_lost = [], 0

    def move(self, move):
        at = super().move(move)
        self.heads.append(self.head(0))
        if self.answers_lost:
            self.answers_lost -= 1
            raise StateUnavailable("the answer was lost")
        return at


def behind_by(units, *, complete, answers_lost=0):
    """A partition whose store is one record behind that and then some, and how it gets there."""
    partition = Partition()
    partition.store = CountingStore()
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    partition.turn([MANY[0]])
    partition.store.answers_lost = answers_lost
    if not complete:
        partition.state.install("a:elsewhere", {})
        partition.state.evict("a:elsewhere")
    names = [f"a:agent-{number}" for number in range(units)]
    partition.offset += 100  # so many records changed them
    for _ in range(12):
        partition.turn(names)
        names = []
    return partition


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize("answers_lost", [0, 1])
def test_more_than_a_step_takes_is_moved_in_parts_and_nothing_is_loaded_anew(complete, answers_lost):
    partition = behind_by(2 * MOVE_UNITS + 5, complete=complete, answers_lost=answers_lost)
    head = partition.store.head(0)
    assert (head.verdict_offset, partition.mover.behind) == (partition.offset, False)
    assert len(partition.store.units(0)) == 2 * MOVE_UNITS + 5
    assert all(is_filling(head) for head in partition.store.heads[1:3]), "who comes in the middle does not start from it"
    assert not is_filling(head)


@pytest.mark.parametrize("lost", ["emptied", "older"])
def test_a_partition_at_rest_notices_that_its_store_was_emptied_or_put_back(lost):
    partition = Partition()
    partition.store = CountingStore()
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    partition.turn([MANY[0]])
    older = partition.store.snapshot()
    partition.turn([MANY[1]])
    if lost == "emptied":
        partition.store.flush()
    else:
        partition.store.restore(older)
    place = Place.genesis("i", 0)._replace(offset=partition.offset)
    for turn in range(1, 10):
        assert partition.mover.flush(place, partition.state, partition.offset * RETRY_MS + turn * LOOK_MS)
    assert partition.store.head(0).verdict_offset == partition.offset
    assert partition.store.units(0) == {MANY[0], MANY[1]}


def test_late_answers_far_apart_are_no_outage(caplog):
    """Each is followed by an answer, if only to the question what became of the step."""
    partition = Partition()
    for _ in range(5):
        partition.turn(MANY)  # taken, and answered too late
        partition.turn([MANY[0]])
        partition.offset += STORE_PATIENCE_MS // RETRY_MS
    assert "does not answer" not in caplog.text


def refilled(units, lost):
    """A partition at rest that fills its store anew; the answers of the steps named in `lost` (from 0) do not come."""
    partition = Partition()
    for number in range(units):
        partition.state.put(f"a:agent-{number}", ("since", "w", 1), 1)
    partition.store = CountingStore()
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    partition.mover.refill(partition.state)
    place = Place.genesis("i", 0)._replace(offset=7)
    for turn in range(1, 20):
        partition.store.answers_lost = int(len(partition.store.heads) in lost)
        assert partition.mover.flush(place, partition.state, turn * RETRY_MS)
    return partition


@pytest.mark.parametrize("units", [0, 5, 2 * REFILL_UNITS + 5])
@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {0, 1, 2}])
def test_a_refill_ends_though_an_answer_was_lost_and_no_record_comes(units, lost):
    """A clean stop waits for it: one that never ended kept its partition for ever (found by the simulation)."""
    partition = refilled(units, lost)
    assert not partition.mover.behind
    assert not is_filling(partition.store.head(0))
    assert len(partition.store.units(0)) == units
    assert len(partition.store.heads) == 1 + units // REFILL_UNITS, "each part was sent once"


def test_what_changes_while_a_part_is_under_way_is_not_taken_for_sent():
    partition = Partition()
    partition.store = CountingStore()
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    partition.state.put(MANY[0], ("since", "w", 1), 1)
    partition.mover.refill(partition.state)
    partition.store.answers_lost = 1
    partition.turn([])
    partition.turn([])
    for _ in range(3):
        partition.turn([MANY[0]])
    stored = partition.store.load(0, [MANY[0]])[MANY[0]]
    assert decode_unit(stored.base)[0][("since", "w", 1)] == partition.offset


def test_steps_follow_each_other_at_a_pace():
    partition = Partition()
    for at_ms in range(0, 2 * MOVE_MS + 1, 10):
        partition.turn([MANY[at_ms // 10 % 3]], at_ms)
    assert partition.store.sent == [1, 3, 3]
    assert partition.store.head(0).verdict_offset == partition.offset


def test_what_changed_between_two_steps_is_all_in_the_next():
    partition = Partition()
    for at_ms in (0, 1, 2, MOVE_MS):
        partition.turn([f"u{at_ms}"], at_ms)
    assert partition.store.units(0) >= {"u0", "u1", "u2", f"u{MOVE_MS}"}
    assert not partition.mover.behind


def test_many_units_do_not_wait():
    partition = Partition()
    partition.store = MemoryStateStore()
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    partition.turn(["first"], 0)
    partition.turn([f"u{n}" for n in range(MOVE_UNITS_SOON)], 1)
    assert partition.store.head(0).verdict_offset == 2


def test_who_gives_a_partition_up_does_not_wait():
    partition = Partition()
    partition.turn(["first"], 0)
    partition.turn(["second"], 1)
    assert partition.mover.behind
    partition.turn([], 2, hurry=True)
    assert (partition.store.head(0).verdict_offset, partition.mover.behind) == (3, False)


def test_partitions_of_one_worker_do_not_step_in_the_same_turn():
    turn_ms, turns = 10, Counter()
    for number in range(8):
        partition = Partition()
        partition.mover = Mover(partition.store, number, PrometheusMetrics(), count().__next__)
        for at_ms in range(0, 4 * MOVE_MS, turn_ms):
            before = len(partition.store.sent)
            partition.turn([MANY[0]], at_ms)
            turns[at_ms] += len(partition.store.sent) - before
    first = turns.pop(0)  # nothing is known to be in the store yet
    assert first == 8
    assert max(turns.values()) <= 2
    assert sum(turns.values()) == pytest.approx(8 * 4, abs=8)


# --- Whose step it was ---


def left_in_a_store():
    partition = Partition()
    partition.turn(MANY[:3])
    return partition


def of_another_record(head):
    """As the same offset has in a history that the log lost."""
    place = Place.from_json(orjson.loads(head.header))._replace(digest="1" * 64)
    return replace(head, header=orjson.dumps(place.to_json()))


@pytest.mark.parametrize("ahead", [0, 1])
def test_a_store_that_stands_at_another_record_is_filled_anew_wherever_that_was(ahead, caplog):
    """The log may have grown again beyond what it lost, so that offsets alone say nothing."""
    partition = left_in_a_store()
    head = of_another_record(partition.store.head(0))
    lost = _Partition(replace(head, verdict_offset=head.verdict_offset + ahead), {"a:lost": StoredUnit(b"lost")})
    partition.store.restore({0: lost})
    for _ in range(6):
        partition.turn([MANY[0]])
    assert "filling it anew" in caplog.text
    assert partition.store.units(0) == frozenset(MANY[:3])
    assert not partition.mover.behind


def test_a_partition_at_rest_sees_that_the_store_came_back_with_another_record():
    partition = left_in_a_store()
    partition.store.restore({0: _Partition(of_another_record(partition.store.head(0)))})
    place = Place.genesis("i", 0)._replace(offset=partition.offset)
    for number in range(6):
        assert partition.mover.flush(place, partition.state, (number + 1) * LOOK_MS)
    assert partition.store.units(0) == frozenset(MANY[:3])


def test_what_a_store_holds_counts_only_where_it_was_left():
    partition = left_in_a_store()
    head = partition.store.head(0)
    partition.mover.reign(3, "w" * 32)
    assert partition.mover.reached(head, 0)
    assert not partition.mover.reached(None, 0)
    assert not partition.mover.reached(of_another_record(head), 0)
    assert not partition.mover.reached(replace(of_another_record(head), verdict_offset=head.verdict_offset + 7), 0)
    with pytest.raises(StateUnavailable, match="another worker"):
        partition.mover.reached(of_another_owner(4), 1_000)
    assert not partition.mover.reached(of_another_owner(4), 1_000 + NEWER_MS), "the log would have told us of him"


def of_another_owner(epoch, writer=b"another"):
    return StoredHead(1, epoch, b'{"writer":"' + writer + b'"}')


@pytest.mark.parametrize("filling", [True, False])
@pytest.mark.parametrize("epoch", [3, 5])
def test_a_former_owner_neither_moves_nor_empties_what_a_later_one_left_and_then_loads_again(filling, epoch):
    """Of the own epoch as well: a log that lost a claim may give its number to somebody else."""
    partition = left_in_a_store()
    partition.mover.reign(3, "w" * 32)
    if filling:
        partition.mover.refill(partition.state)
    later = of_another_owner(epoch)
    partition.store.restore({0: _Partition(later, {"a:kept": StoredUnit(b"kept")})})
    heard = [partition.is_kept([MANY[0]]) for _ in range(NEWER_MS // RETRY_MS + 3)]
    assert NEWER_MS // RETRY_MS - 1 <= heard.count(True) <= NEWER_MS // RETRY_MS + 1
    assert not heard[-1]
    assert partition.store.head(0) == later
    assert partition.store.units(0) == {"a:kept"}


@pytest.mark.parametrize("seen", ["before our claim", "of our own claim", "of an earlier claim"])
def test_what_no_later_owner_can_have_left_is_replaced_at_once(seen):
    partition, state = Partition(), State()
    heads = {
        "before our claim": of_another_owner(9),
        "of our own claim": of_another_owner(3, b"w" * 32),
        "of an earlier claim": of_another_owner(2),
    }
    partition.store.restore({0: _Partition(heads[seen], {"a:lost": StoredUnit(b"lost")})})
    met = heads[seen] if seen == "before our claim" else None
    partition.mover, partition.state = Mover(partition.store, 0, PrometheusMetrics(), count().__next__, met=met), state
    partition.mover.reign(3, "w" * 32)
    partition.mover.refill(state)
    for _ in range(4):
        partition.turn([MANY[0]])
    assert partition.store.units(0) == {MANY[0]}
    assert not partition.mover.behind


LATE = [(1, 3_000, False), (2, 3_000, False), (1, 600, True), (2, 600, True), (3, 600, True)]


class LateStore(MemoryStateStore):
    """One step is taken for lost: its connection was given up, and it arrives right before the next one."""

    def __init__(self):
        super().__init__()
        self.arms_at, self.late, self.calls = None, None, 0

    def move(self, move):
        self.calls += 1
        if self.calls == self.arms_at:
            self.late = move
            raise StateUnavailable("away")
        if self.late is not None:
            late, self.late = self.late, None
            super().move(late)
        return super().move(move)


def late_in(*, step, units, refilled):
    """A partition whose step of that number arrives late, once all is said to be stored."""
    partition = Partition()
    partition.store, partition.offset = LateStore(), 100
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    names = [f"a:{number}" for number in range(units)]
    for name in names:
        partition.state.put(name, ("since", "w", 1), 1)
    partition.store.arms_at = step
    if refilled:
        partition.mover.refill(partition.state)
    partition.turn(names)
    for _ in range(40):
        partition.turn([names[0]])
        if not partition.mover.behind:
            break
    return partition, names


@pytest.mark.parametrize(("step", "units", "refilled"), LATE)
def test_a_step_that_arrives_late_is_not_taken_for_the_one_that_was_sent_after_it(step, units, refilled, caplog):
    partition, names = late_in(step=step, units=units, refilled=refilled)
    assert partition.store.late is None
    assert not partition.mover.behind
    assert partition.store.units(0) == frozenset(names)
    assert not is_filling(partition.store.head(0))
    assert "filling it anew" not in caplog.text
    assert partition.store.calls < 12


def test_a_last_part_that_arrives_late_ends_its_fill_though_nothing_comes_after_it(caplog):
    partition = Partition()
    partition.store, partition.offset = LateStore(), 100
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    partition.store.arms_at = 1
    for name in MANY:
        partition.state.put(name, ("since", "w", 1), 1)
    partition.mover.refill(partition.state)
    place = Place.genesis("i", 0)._replace(offset=100)
    for turn in range(6):
        assert partition.mover.flush(place, partition.state, turn * RETRY_MS)
    assert not partition.mover.behind
    assert partition.store.calls == 2
    assert partition.store.units(0) == frozenset(MANY)
    assert "filling it anew" not in caplog.text


class Held(MemoryStateStore):
    """The next step is on its way for as long as `hold` says so, and arrives before the one after it."""

    def __init__(self):
        super().__init__()
        self.hold, self._late = False, []

    def move(self, move):
        if self.hold:
            self.hold = False
            self._late.append(move)
            raise StateUnavailable("late")
        while self._late:
            super().move(self._late.pop())
        return super().move(move)


def test_a_late_step_to_a_place_is_not_taken_for_a_later_one_to_the_same_place():
    """A unit that takes over windows changes without a record, so that two steps may go to one place."""
    partition = Partition()
    partition.store = Held()
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    partition.mover.reign(1, "w" * 32)
    taking, other = MANY[:2]
    partition.turn([taking, other])
    partition.store.hold = True
    partition.turn([other])
    place = Place.genesis("i", 0)._replace(offset=partition.offset)
    partition.state.put(taking, ("since", "w", 1), "taken over")
    partition.mover.changed(frozenset([taking]), ())
    for turn in range(1, 7):
        assert partition.mover.flush(place, partition.state, (partition.offset + turn) * RETRY_MS, hurry=True)
    for _ in range(4):
        partition.offset += 7
        partition.turn([other])
    (stored,) = partition.store.load(0, [taking]).values()
    assert decode_unit(stored.base)[0][("since", "w", 1)] == "taken over"


class Name(str):
    """A unit's name that counts how often it is compared."""

    __slots__ = ()
    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other):
        Name.compared += 1
        return str.__eq__(self, other)


def test_a_step_of_a_refill_compares_no_more_names_than_it_writes():
    """Each unit that had changed was looked for among all that were left: seconds a step, and all partitions wait."""
    partition, names = Partition(), [Name(f"a:{number}") for number in range(10 * REFILL_UNITS)]
    partition.store = MemoryStateStore()
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    for name in names:
        partition.state.put(name, ("since", "w", 1), 1)
    partition.mover.refill(partition.state)
    partition.turn([])
    changed = [Name(name) for name in names[-500:]]
    before = Name.compared
    partition.turn(changed)
    assert Name.compared - before < 10 * len(changed)


@pytest.mark.parametrize("busy", [0, REFILL_UNITS // 2, REFILL_UNITS, 2 * REFILL_UNITS])
def test_a_refill_ends_though_more_units_change_at_each_turn_than_a_part_holds(busy):
    """Until it ends nothing may leave memory, and the store names no place to start from."""
    partition, names = Partition(), [f"a:{number}" for number in range(5 * REFILL_UNITS)]
    partition.store, partition.offset = MemoryStateStore(), 100
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    for name in names:
        partition.state.put(name, ("since", "w", 1), 1)
    partition.mover.refill(partition.state)
    for turn in range(10):
        partition.turn([names[(turn * busy + n) % len(names)] for n in range(busy)])
    assert not is_filling(partition.store.head(0))
    assert partition.store.units(0) == frozenset(names)


def test_a_fill_that_has_no_offsets_left_never_names_a_place_before_all_is_there():
    """Each try takes an offset of its own, and the log may have no more records than there are parts."""
    partition = Partition()
    partition.store = HeadsStore()
    partition.mover = Mover(partition.store, 0, PrometheusMetrics(), count().__next__)
    names = [f"a:{number}" for number in range(3 * REFILL_UNITS)]
    for name in names:
        partition.state.put(name, ("since", "w", 1), 1)
    partition.mover.refill(partition.state)
    for _ in range(12):
        partition.turn([names[0]])
    assert not partition.mover.behind
    assert all(is_filling(head) for head, units in partition.store.steps if units < len(names))


class HeadsStore(MemoryStateStore):
    """Notes after each step where it stands, and how many units it holds."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def move(self, move):
        at = super().move(move)
        self.steps.append((self.head(0), len(self.units(0))))
        return at
