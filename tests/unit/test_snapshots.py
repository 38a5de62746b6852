"""When a unit's newest snapshot may be relied on."""

from itertools import pairwise

import pytest

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import Fate, MemoryBroker, MemoryWriter
from harness_stream.core import limits
from harness_stream.core.fold import Place
from harness_stream.core.ids import Remembered
from harness_stream.core.reigns import REIGNS_KEPT, REIGNS_KEY, begun
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.core.units import VERSION, decode_parts, encode_parts, encode_unit
from harness_stream.ports import LogRecord
from harness_stream.runtime.snapshots import SPREAD_SHARE, Gathered, Key, Snapshots, key_of
from harness_stream.runtime.telemetry import NullMetrics

UNIT = "a:agent-1"
PLACE = Place.genesis("i", 0)._replace(offset=7)
AT = {"land_after_ms": 10, "report_after_ms": 10}


class Cycles:
    """Snapshots of one unit, with the fate of each write."""

    def __init__(self):
        self.clock, self.state, self.fate = ManualClock(), State(), Fate(**AT)
        self.broker = MemoryBroker({"chains": 1}, self.clock.now_ms)
        self.writer = MemoryWriter(self.broker, fate=lambda _: self.fate)
        tokens = iter(range(1, 1_000))
        self.snapshots = Snapshots("chains", 0, self.writer, tokens.__next__, 0, NullMetrics(), -1)
        self.state.put(UNIT, ("since", "w", 1), 1)

    def turn(self):
        self.snapshots.step(self.clock.elapsed_ms(), PLACE, self.state, lambda _: True)

    def reports(self):
        self.clock.advance(10)
        for delivery in self.writer.deliveries():
            self.snapshots.delivered(delivery)

    def run(self):
        for _ in range(10):
            self.turn()
            self.reports()


@pytest.fixture
def cycles():
    cycles = Cycles()
    cycles.snapshots.changed(frozenset({UNIT}))
    return cycles


def test_a_snapshot_counts_once_it_is_in_the_log(cycles):
    cycles.turn()
    cycles.turn()
    assert not cycles.snapshots.is_clean(UNIT)
    assert UNIT not in cycles.snapshots.offsets
    cycles.reports()
    assert cycles.snapshots.is_clean(UNIT)
    assert cycles.snapshots.offsets == {UNIT: 0}


def test_one_whose_fate_is_unknown_is_written_again(cycles):
    cycles.fate = Fate(**AT, lands=False, reports="failed")
    cycles.turn()
    cycles.turn()
    cycles.reports()
    assert not cycles.snapshots.is_clean(UNIT)
    cycles.fate = Fate(**AT)
    cycles.run()
    assert cycles.snapshots.is_clean(UNIT)
    assert cycles.snapshots.cut == 7


def test_a_cycle_that_is_not_sealed_is_sealed_by_the_next_though_nothing_changed(cycles):
    cycles.turn()
    cycles.turn()
    cycles.reports()
    cycles.snapshots.restart()
    cycles.run()
    assert cycles.snapshots.cut == 7
    assert [r.key for r in cycles.broker.read("chains", 0, 0, 9)].count(Key("a:agent-1", 0).encode("i")) == 1, "it was in the log"


def test_a_unit_weighs_what_its_snapshot_does(cycles):
    cycles.run()
    assert cycles.state.hot_bytes == len(cycles.broker.read("chains", 0, 0, 1)[0].value)
    assert PARTITION_UNIT in cycles.snapshots.offsets


class TestPieces:
    """A unit that no record holds comes in pieces, and there is always a whole set of them."""

    @pytest.fixture(autouse=True)
    def small_records(self, monkeypatch):
        monkeypatch.setattr(limits, "PART_BYTES_MAX", 60)

    def grown(self, cycles, value):
        for name in "abc":
            cycles.state.put(UNIT, ("since", name * 20, 1), value)
        cycles.snapshots.changed(frozenset({UNIT}))

    def gathered(self, cycles):
        gathered = Gathered("i")
        newest = {}
        for record in cycles.broker.read("chains", 0, 0, 1_000):
            newest[record.key] = record  # as compaction leaves it
        for record in newest.values():
            gathered.take(record)
        return gathered.units

    def test_together_they_are_the_unit(self, cycles):
        self.grown(cycles, 1)
        cycles.run()
        assert decode_parts(self.gathered(cycles)[UNIT].pieces) == cycles.state.confirmed(UNIT)
        assert cycles.snapshots.cut == PLACE.offset
        assert (cycles.snapshots.offsets.get(UNIT), cycles.snapshots.in_pieces) == (None, {UNIT})

    @pytest.mark.parametrize("cycles_before", [1, 2, 3])
    @pytest.mark.parametrize("breaks", [1, 2])
    def test_a_cycle_that_breaks_off_leaves_the_one_before_it(self, cycles, cycles_before, breaks):
        for value in range(cycles_before):
            self.grown(cycles, value)
            cycles.run()
        before = dict(cycles.state.confirmed(UNIT))
        self.grown(cycles, 99)
        for _ in range(breaks):
            fates = iter([Fate(**AT), *[Fate(**AT, lands=False, reports="failed")] * 50])
            cycles.writer._fate = lambda _, fates=fates: next(fates)
            for _ in range(3):
                cycles.turn()
                cycles.reports()
        assert decode_parts(self.gathered(cycles)[UNIT].pieces) == before

    def test_a_unit_that_shrinks_is_one_record_again(self, cycles):
        self.grown(cycles, 1)
        cycles.run()
        cycles.state.forget(UNIT, [key for key in cycles.state.confirmed(UNIT) if key[1] != "a" * 20])
        cycles.snapshots.changed(frozenset({UNIT}))
        cycles.run()
        assert decode_parts(self.gathered(cycles)[UNIT].pieces) == cycles.state.confirmed(UNIT)
        assert UNIT in cycles.snapshots.offsets
        assert not cycles.snapshots.in_pieces


@pytest.mark.parametrize("unit", ["a:agent-1", "a:x@y#1~0", "s:03:lane@7", "l:a\nb"])
@pytest.mark.parametrize(("number", "turn"), [(0, None), (3, 0), (12, 1)])
def test_a_key_reads_as_what_was_written(unit, number, turn):
    key = Key(unit, 5, number, turn)
    record = LogRecord("chains", 0, 0, key.encode("i"), b"", 0)
    assert key_of(record, "i") == key
    assert key_of(record, "j") is None, "topics that were recreated begin with nothing"


def test_what_a_cycle_seals_is_as_of_its_beginning(cycles):
    """A switch or a takeover that comes in between belongs to the next one: its place would be one before it."""
    cycles.state.put(PARTITION_UNIT, ("since",), {"w": [1, 0, True, None]})
    cycles.turn()
    cycles.state.put(PARTITION_UNIT, ("since",), {"w": [2, 0, True, None]})
    cycles.run()
    gathered = Gathered("i")
    for record in cycles.broker.read("chains", 0, 0, 1_000):
        gathered.take(record)
    assert decode_parts(gathered.units[PARTITION_UNIT].pieces)["since",] == {"w": [1, 0, True, None]}


def test_a_store_that_is_away_for_long_keeps_nothing_that_ended_in_memory(cycles):
    cycles.state.put(UNIT, ("id", "agent-1", "x"), Remembered("", PLACE.header.t - 1, "approve", "", 0, None, None))
    cycles.run()
    assert list(cycles.state.confirmed(UNIT)) == [("since", "w", 1)]


DAMAGES = [lambda data: data[:-5], lambda data: b"", lambda data: data.replace(b'"as_of"', b'"is_of"')]


def taken(*records):
    found = Gathered("i")
    for offset, (key, value) in enumerate(records):
        found.take(LogRecord("chains", 0, offset, key.encode("i"), value, 0))
    return found


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_told_until_a_whole_one_comes(damage):
    older, newer = encode_unit({}, 5, 0), encode_unit({}, 9, 0)
    assert taken((Key(UNIT, 1), older), (Key(UNIT, 1), damage(newer))).broken == {UNIT: 1}
    assert taken((Key(UNIT, 2), damage(newer)), (Key(UNIT, 1), older)).broken == {UNIT: 2}, "a former owner's late one"
    assert taken((Key(UNIT, 1), damage(newer)), (Key(UNIT, 2), newer)).broken == {}
    assert taken((Key(UNIT, 1), damage(newer)), (Key(UNIT, 1), None)).broken == {}, "an operator ended it"


def test_a_damaged_piece_is_told(monkeypatch):
    monkeypatch.setattr(limits, "PART_BYTES_MAX", 200)
    values = {("id", "a", str(n)): Remembered("d" * 20, 9_000, "approve", "v" * 20, 5, None, None) for n in range(5)}
    pieces = encode_parts(values, 9, 0, 77)
    whole = [(Key(UNIT, 1, number, 0), piece) for number, piece in enumerate(pieces)]
    assert len(whole) > 1
    assert taken(*whole).broken == {}
    assert taken((whole[0][0], whole[0][1].replace(b'[[["id', b'[[["no')), *whole[1:]).broken == {UNIT: 1}


def test_another_version_is_none_of_ours():
    data = encode_unit({}, 5, 0)
    found = taken((Key(UNIT, 1), data.replace(b'"v":%d' % VERSION, b'"v":%d' % (VERSION - 1))))
    assert (found.units, found.broken) == ({}, {})


class TestWhoWrote:
    """Once a later epoch's claim stands, no earlier owner confirms anything behind it."""

    def gathered(self, *written, reigns=()):
        sealed = (Key(PARTITION_UNIT, 5), encode_unit({REIGNS_KEY: reigns}, 30, 0))
        return taken(sealed, *((Key(UNIT, epoch), encode_unit({}, as_of, 0)) for epoch, as_of in written))

    def lost(self, *written, reigns):
        found = self.gathered(*written, reigns=reigns)
        return found.lost(found.reigns()) == [UNIT]

    def test_what_an_owner_wrote_behind_a_later_claim_is_of_lost_records(self):
        assert self.lost((2, 8), (3, 15), reigns=((3, 9), (4, 10)))

    def test_an_owner_that_knew_no_more_than_its_reign_is_believed(self):
        assert not self.lost((2, 8), (3, 9), reigns=((3, 9), (4, 10)))

    def test_of_one_owner_the_newest_says_it_since_it_has_taken_the_place_of_what_was_good(self):
        assert self.lost((3, 9), (3, 15), reigns=((3, 9), (4, 10)))

    def test_a_later_owner_heals_it(self):
        assert not self.lost((3, 15), (4, 12), reigns=((3, 9), (4, 10)))

    def test_the_latest_owner_is_believed_even_if_another_one_claims_to_know_more(self):
        found = self.gathered((4, 12), (3, 15)).units[UNIT]
        assert (found.epoch, found.as_of) == (4, 12)

    def test_reigns_are_bounded_and_the_newest_stay(self):
        reigns = ()
        for epoch in range(1, 2_000):
            reigns = begun(reigns, epoch, 10 * epoch)
        assert (len(reigns), reigns[-1]) == (REIGNS_KEPT, (1_999, 19_990))


def test_a_cycle_is_spread_over_its_part_of_the_time_between_two():
    cycles, interval_ms, units = Cycles(), 1_000, 100
    tokens = iter(range(1, 1_000))
    cycles.snapshots = Snapshots("chains", 0, cycles.writer, tokens.__next__, interval_ms, NullMetrics(), -1)
    names = frozenset(f"a:agent-{n}" for n in range(units))
    cycles.snapshots.changed(names)
    written = []
    for _ in range(2 * interval_ms // 10):
        cycles.turn()
        cycles.reports()
        written.append(len(cycles.snapshots.offsets))
    begun = interval_ms // 10
    assert written[begun] == 0
    ends = begun + interval_ms // SPREAD_SHARE // 10
    share = [written[begun + (ends - begun) * n // 4] / units for n in (1, 2, 3)]
    assert share == pytest.approx([0.25, 0.5, 0.75], abs=0.05)
    assert written[ends + 1] >= units  # and the one that seals them
    assert max(after - before for before, after in pairwise(written)) <= 3
    assert cycles.snapshots.cut == 7
