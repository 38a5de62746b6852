"""The memory of intent ids: no matter who acts how often, each of its units stays small (PROTOCOL §6, §8)."""

from __future__ import annotations

import factories as make
import pytest

from harness_stream.core import limits
from harness_stream.core.ids import SHARDS, SLOT_MS, SLOTS, id_time_ms, ids_unit
from harness_stream.core.names import agent_unit
from harness_stream.core.units import forgotten

NOW = make.NOW


@pytest.mark.parametrize("t", [0, 1, NOW, NOW + SLOT_MS - 1])
def test_the_time_inside_of_an_id(t: int):
    assert id_time_ms(make.uuid7(t)) == t


def test_the_ring_does_not_meet_itself_within_the_memory_of_an_id():
    assert SLOTS * SLOT_MS > limits.ID_AGE_MS_MAX + limits.ID_MEMORY_MS + 2 * SLOT_MS


def test_there_are_as_many_units_as_the_ring_has_places():
    seen = {ids_unit(make.uuid7(NOW + n * 997, n)) for n in range(20_000)}
    assert len(seen) == SLOTS * SHARDS


def test_an_agent_that_never_stops_weighs_no_more_than_one_that_acts_once():
    story = make.Story()
    for n in range(2_000):
        story.act(NOW + n)
    busiest = max(len(story.state.confirmed(u)) for u in story.state.units() if u.startswith("i:"))
    assert busiest <= 2_000 // SHARDS + 1
    assert not [k for k in story.state.confirmed(agent_unit("agent-1")) if k[0] == "id"]


def test_an_agent_that_nobody_knows_leaves_nothing_but_its_ids_for_a_while():
    story = make.Story()
    for n in range(50):
        story.act(NOW + n, agent_id=f"stranger-{n}")
    assert all(u.startswith("i:") for u in story.state.units())
    for unit in list(story.state.units()):
        story.state.forget(unit, forgotten(story.state.confirmed(unit), NOW + 2 * limits.ID_MEMORY_MS))
        assert not story.state.confirmed(unit)
