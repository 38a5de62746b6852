"""Window groups end, and that they did is the log's business alone (DESIGN §5: ≤ 100,000 groups a lane)."""

from __future__ import annotations

from typing import Any

import factories as make
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core import groups, limits, units, window
from harness_stream.core.groups import generation, lives_until, put_window, window_of
from harness_stream.core.names import lane_shards, lane_unit
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from harness_stream.core.state import State

MINUTE = 60_000
HOME = lane_unit("tenant-1")
RULES = """
rule_set: test
default: deny
selections: {anything: "true"}
rules:
  - {id: allow, effect: approve, when: anything}
  - id: busy
    effect: deny
    when: anything
    correlation: {type: event_count, rules: [anything], group-by: [purpose], timespan: 1m, condition: {gt: 100}}
  - id: wide
    effect: deny
    when: anything
    correlation: {type: value_count, rules: [anything], group-by: [purpose], timespan: 1m,
                  condition: {field: action, gt: 100}}
"""
WINDOWS = Windows(load(RULES))
SPEC = WINDOWS.specs[0]


def see(state: State, at: int, purpose: str, now: int | None = None) -> None:
    """An event of that time is counted, now."""
    now = at if now is None else now
    before = window_of(state, SPEC, 0, HOME, (purpose,), now)
    after = window.insert(SPEC, before, window.Entry(at, make.uuid7(at)), window.Match(mask=SPEC.mask))
    put_window(state, SPEC, 0, HOME, (purpose,), after, at, now)


def seen(state: State, t: int, purpose: str) -> tuple[int, int | None]:
    shown = window_of(state, SPEC, 0, HOME, (purpose,), t).seen(SPEC, t)
    return shown.lo, shown.hi


def groups_kept(state: State, unit: str = HOME) -> int:
    return sum(key[0] == "window" for key in state.confirmed(unit) if isinstance(key, tuple))


@pytest.mark.parametrize("at", [0, 1, MINUTE - 1, MINUTE, MINUTE + 1])
def test_a_group_lives_while_its_event_may_be_inside_and_less_than_two_timespans(at: int):
    assert at + MINUTE <= lives_until(MINUTE, at) < at + 2 * MINUTE


def test_what_has_ended_leaves_memory_and_what_is_stored():
    state = State()
    see(state, make.NOW, "a")
    end = lives_until(SPEC.timespan_ms, make.NOW)
    values = state.confirmed(HOME)
    assert set(units.decode_unit(units.encode_unit(values, 0, end))[0]) == set(values)
    assert units.decode_unit(units.encode_unit(values, 0, end + 1))[0] == {}
    state.forget(HOME, units.forgotten(values, end + 1))
    assert groups_kept(state) == 0


def test_groups_that_ended_make_room(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits, "GROUPS_PER_UNIT_MAX", 3)
    state = State()
    for n, purpose in enumerate("abc"):
        see(state, make.NOW + n, purpose)
    see(state, make.NOW + 3, "d")
    assert seen(state, make.NOW + 3, "d") == (0, None), "there was no room, so nobody knows"
    assert seen(state, make.NOW + 3, "a") == (1, 1), "those that are there go on"
    later = make.NOW + 3 * MINUTE
    see(state, later, "d")
    assert seen(state, later, "d") == (1, 1)


def test_a_late_outcome_of_an_ended_group_brings_nothing_back():
    state = State()
    see(state, make.NOW, "a", now=make.NOW + 3 * MINUTE)
    assert groups_kept(state) == 0
    assert seen(state, make.NOW + 3 * MINUTE, "a") == (0, 0)


def test_a_lane_of_ever_new_groups_stays_small(monkeypatch: pytest.MonkeyPatch):
    """An agent that names a new purpose each time fills the room for two timespans, not for ever."""
    monkeypatch.setattr(limits, "GROUPS_PER_UNIT_MAX", 6)
    story, t = make.Story(RULES), make.NOW
    for n in range(300):
        t += 10_000
        story.act(t, purpose=f"p{n}")
        for shard in lane_shards("tenant-1"):
            story.state.forget(shard, units.forgotten(story.state.confirmed(shard), t))
            assert groups_kept(story.state, shard) <= 2 * 6, "two windows count each"
            assert not [key for key in story.state.confirmed(shard) if key[0] == "overflow"]


def test_many_groups_of_a_lane_are_spread_and_few_are_not():
    story = make.Story(RULES + """
  - id: all
    effect: deny
    when: anything
    correlation: {type: event_count, rules: [anything], group-by: [tenant], timespan: 1m, condition: {gt: 10000}}
""")
    for n in range(1_000):
        story.act(make.NOW + n, purpose=f"p{n}")
    sizes = [groups_kept(story.state, shard) for shard in lane_shards("tenant-1")]
    assert (sum(sizes), len(sizes)) == (2_000, limits.LANE_SHARDS), "two windows count each purpose"
    assert max(sizes) < 3 * sum(sizes) / len(sizes)
    assert groups_kept(story.state) == 1


STEPS = st.lists(
    st.tuples(
        st.integers(0, 90_000),  # time since the step before
        st.sampled_from("abcde"),
        st.sampled_from([0, 0, 0, 10_000, 61_000, 200_000]),  # how late the event is counted
        st.booleans(),  # whether memory lets go what has ended
    ),
    max_size=30,
)


@given(steps=STEPS, room=st.integers(2, 6))
def test_when_memory_lets_go_changes_nothing(steps: list[Any], room: int):
    forgetful, keeping, t = State(), State(), make.NOW
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "GROUPS_PER_UNIT_MAX", room)
        for waited, purpose, late, lets_go in steps:
            t += waited
            for state in (forgetful, keeping):
                see(state, t - late, purpose, now=t)
            if lets_go:
                forgetful.forget(HOME, units.forgotten(forgetful.confirmed(HOME), t))
            assert [seen(forgetful, t, p) for p in "abcde"] == [seen(keeping, t, p) for p in "abcde"]
            alive = [k for k, v in keeping.confirmed(HOME).items() if isinstance(v, groups.Kept) and v.until >= t]
            for state in (forgetful, keeping):
                found = next((v for v in state.confirmed(HOME).values() if isinstance(v, groups.Room)), groups.Room())
                assert found.at(SPEC.timespan_ms, t) == len(alive) <= room


def test_a_windows_room_does_not_depend_on_the_bundle_that_replays_it(monkeypatch: pytest.MonkeyPatch):
    """Deltas from before a switch are replayed by the bundle after it, which may have other windows."""
    monkeypatch.setattr(limits, "GROUPS_PER_UNIT_MAX", 2)
    before = RULES.replace("[purpose]", "[agent_id, purpose]")
    after = before[: before.index("  - id: wide")]
    story, unit = make.Story(before), "a:agent-1"
    for n in range(2):
        story.act(make.NOW + n, purpose=f"p{n}")
    base = units.encode_unit(story.state.confirmed(unit), 1, make.NOW + 2)
    story.act(make.NOW + 10, purpose="new")
    deltas = [units.Delta(story.changes[-1], 5).encoded(unit)]
    story.switch(after, make.NOW + 20)
    replayed = units.replay_unit(unit, base, deltas, story.state.confirmed("p"), story.windows)
    spec = story.windows.specs[0]
    for values in (replayed, story.state.confirmed(unit)):
        state = State()
        state.install("p", story.state.confirmed("p"))
        state.install(unit, values)
        found = [window_of(state, spec, generation(state, spec.id), unit, ("agent-1", p), make.NOW + 20) for p in ("p0", "p1", "new", "other")]
        assert [shown.seen(spec, make.NOW + 20)[:2] for shown in found] == [(1, 1), (1, 1), (0, None), (0, None)]
