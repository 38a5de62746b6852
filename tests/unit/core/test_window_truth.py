"""Windows other than totals against a scan of everything that happened (DESIGN §5): the interval contains the truth.

Once with limits so small that histories of a few events exceed them all, once with the real ones, where the interval
must be the truth but for what `Doubts` of the history explain.
"""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness_stream.core import limits, window
from harness_stream.core.window import Entry, Match, Spec

T = 100
HOLD = 40
LACKS = 7
"""An event of this mask has no value of a counted field."""
VALUES = Spec("v", "value_count", (0,), (), T, attempts=False, field="purpose")
BOTH = Spec("b", "temporal", (0, 1), (), T, attempts=False)
NONE = Spec("n", "absent", (0, 1), (), T, attempts=False)
ORDERED = Spec("o", "temporal_ordered", (0, 1, 2), (), T, attempts=False)
SPECS = [VALUES, BOTH, NONE, ORDERED]

SMALL = {
    "WINDOW_VALUES_MAX": 3,
    "WINDOW_CHANGES_MAX": 2,
    "WINDOW_HOLDS_MAX": 2,
    "WINDOW_DOUBTS_MAX": 1,
    "WINDOW_RUNS_MAX": 2,
}

GAPS = (*(0, 0, 1, 1, 2, 3, 5) * 3, 20, HOLD, HOLD + 1, T, T + 1)
KINDS = (*("firm", "release") * 4, *("hold",) * 3, "answer", "answer", "deny", "insert", "restart")
# Each step is rolled from a number of its own: evenly spread, and a failing list still shrinks, since 0 is no step.
STEPS = st.lists(st.integers(0, 2**40), min_size=25, max_size=40)


class Happened(NamedTuple):
    """One event as it turned out."""

    entry: Entry
    match: Match


class Story:
    """A window beside the list of everything it saw."""

    def __init__(self, spec: Spec, values: int) -> None:
        self.spec, self.values, self.t = spec, values, 1_000
        self.state = window.empty(spec, None)
        self.events: dict[str, Happened] = {}
        self.holds: list[str] = []
        self.released: list[Happened] = []
        self.inserted: list[Happened] = []
        self.settled: list[Happened] = []

    def match(self, mask: int, value: int) -> Match:
        lacks = self.spec.kind == "value_count" and mask == LACKS
        names = () if lacks else tuple(f"v{(value + n) % self.values}" for n in range(1 + mask % 2))
        return Match(mask & self.spec.mask or 1, values=tuple(dict.fromkeys(names)))

    def step(self, number: int, seed: int) -> None:
        dice = random.Random(seed)
        self.t += dice.choice(GAPS)
        match = self.match(dice.randrange(1, 8), dice.randrange(self.values))
        getattr(self, dice.choice(KINDS))(f"e{number}", match, dice.choice((0, 0, 1, 2, 9)))

    def see(self, name: str, match: Match, until: int | None) -> None:
        entry = Entry(self.t, name, until)
        self.state = window.observe(self.spec, self.state, entry, match)
        self.events[name] = Happened(entry, match)

    def firm(self, name: str, match: Match, pick: int) -> None:
        self.see(name, match, None)

    def hold(self, name: str, match: Match, pick: int) -> None:
        self.see(name, match, self.t + HOLD)
        self.holds.append(name)

    def answer(self, name: str, match: Match, pick: int, *, approved: bool = True) -> None:
        """The hold moves to its answer; a denial is an attempt."""
        self.holds = [h for h in self.holds if self.events[h].entry.counts_at(self.t)]
        if not self.holds:
            return
        held = self.holds.pop(pick % len(self.holds))
        self.state = window.forget(self.state, held)
        self.settled.append(self.events.pop(held))
        match = self.settled[-1].match
        if approved or self.spec.attempts:
            self.see(held, match, None)

    def deny(self, name: str, match: Match, pick: int) -> None:
        self.answer(name, match, pick, approved=False)

    def release(self, name: str, match: Match, pick: int) -> None:
        firm = [e for e in self.events.values() if e.entry.until is None]
        if firm:
            gone = firm[-1 - pick % len(firm)]
            self.state = window.release(self.spec, self.state, gone.entry, gone.match)
            self.released.append(self.events.pop(gone.entry.id))

    def insert(self, name: str, match: Match, pick: int) -> None:
        entry = Entry(self.t - 7 * pick, name)
        self.state = window.insert(self.spec, self.state, entry, match)
        self.events[name] = Happened(entry, match)
        self.inserted.append(self.events[name])

    def restart(self, name: str, match: Match, pick: int) -> None:
        self.state = window.from_json(orjson.loads(orjson.dumps(window.to_json(self.state), default=list)))

    # --- the truth ---

    def inside(self, t: int) -> list[Happened]:
        counted = (e for e in self.events.values() if self.spec.attempts or e.entry.counts_at(t))
        return sorted((e for e in counted if t - T <= e.entry.t), key=lambda e: e.entry.t)

    def truth(self, t: int) -> int:
        found = self.inside(t)
        if self.spec.kind == "value_count":
            return len({value for e in found for value in e.match.values})
        masks = [e.match.mask for e in found]
        if self.spec.kind == "absent":
            return int(bool(masks))
        if self.spec.kind == "temporal":
            return int(all(any(mask >> bit & 1 for mask in masks) for bit in self.spec.bits))
        runs = combinations(masks, len(self.spec.bits))
        return int(any(all(m >> b & 1 for m, b in zip(run, self.spec.bits, strict=True)) for run in runs))

    def lacking(self, t: int) -> int:
        """Events inside that may have a value no other has."""
        return sum(not e.match.values for e in self.inside(t))

    def doubts(self, t: int) -> int:
        """Keys of which two events were released and a third one may stand below."""
        gone = Counter(key for e in self.released if e.entry.t >= t - T for key in self.keys(e))
        ever = [*self.released, *self.events.values()]
        there = Counter(key for e in ever if e.entry.t >= t - T for key in self.keys(e))
        kept = limits.WINDOW_FIRM_KEPT
        return sum(gone[key] >= kept and there[key] > kept for key in gone)

    def keys(self, event: Happened) -> tuple[object, ...]:
        if self.spec.kind == "value_count":
            return event.match.values
        if self.spec.kind == "absent":
            return ("any",)
        return tuple(bit for bit in self.spec.bits if event.match.mask >> bit & 1)

    def order_is_known(self, t: int) -> bool:
        """Nothing was put in between, and if something was released, then there never were two for one step."""
        ever = [*self.released, *self.settled, *self.events.values()]
        there = Counter(key for e in ever if e.entry.t >= t - T for key in self.keys(e))
        released = any(e.entry.t >= t - T for e in self.released)
        return not (released and max(there.values()) > 1) and not any(e.entry.t >= t - T for e in self.inserted)


def told(spec: Spec, values: int, seeds: list[int]) -> Iterator[tuple[Story, int]]:
    """The story after each of its steps, and times at which to look."""
    story = Story(spec, values)
    for number, seed in enumerate(seeds):
        if seed:
            story.step(number, seed)
            yield from ((story, story.t + later) for later in TIMES_LATER)


TIMES_LATER = (0, 1, HOLD, HOLD + 1, T - 1, T, T + 1, 2 * T)


@pytest.mark.parametrize("attempts", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_beyond_every_limit_the_interval_contains_the_truth(spec: Spec, attempts: bool, monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(limits, name, value)

    @settings(max_examples=80, deadline=None)
    @given(STEPS)
    def contained(steps):
        for story, t in told(spec._replace(attempts=attempts), 6, steps):
            lo, hi = story.state.seen(story.spec, t)[:2]
            assert lo <= story.truth(t)
            assert hi is None or story.truth(t) + story.lacking(t) <= hi

    contained()


@pytest.mark.parametrize("attempts", [False, True])
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_below_the_limits_it_is_the_truth_but_for_what_releases_left_in_doubt(spec: Spec, attempts: bool):
    @settings(max_examples=80, deadline=None)
    @given(STEPS)
    def exact(steps):
        for story, t in told(spec._replace(attempts=attempts), 3, steps):
            lo, hi = story.state.seen(story.spec, t)[:2]
            truth, doubts = story.truth(t), story.doubts(t)
            assert lo <= truth
            if spec.kind == "value_count":
                assert hi is not None
                assert truth - doubts <= lo
                assert truth + story.lacking(t) <= hi <= truth + story.lacking(t) + doubts
            elif story.order_is_known(t) if spec is ORDERED else not doubts:
                assert lo == hi == truth

    exact()
