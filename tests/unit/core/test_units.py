"""A unit of state as bytes and back: what is left out no decision can see (PROTOCOL §6)."""

from unittest import mock

import factories as make
import pytest

from harness_stream.core import limits, units
from harness_stream.core.apply import units_of
from harness_stream.core.groups import Kept
from harness_stream.core.ids import UNIT_PREFIX
from harness_stream.core.names import agent_unit, lane_unit
from harness_stream.core.state import PARTITION_UNIT, State

NOW = make.NOW
UNIT = agent_unit("agent-1")
RULES = make.APPROVE_ALL + """
  - {id: ask, effect: hold, when: 'intent.action == "email.send"'}
  - id: flood
    effect: deny
    when: everything
    correlation: {type: event_count, rules: [everything], group-by: [agent_id], timespan: 1h, condition: {gt: 50}}
  - id: lane
    effect: deny
    when: everything
    correlation: {type: temporal, rules: [everything], group-by: [tenant, resource.uri], timespan: 1h}
    mode: shadow
"""
RULES = RULES.replace("rules:\n  -", "selections:\n  everything: 'true'\nrules:\n  -", 1)


def ids_units(story: make.Story) -> set[str]:
    return {unit for unit in story.state.units() if unit.startswith(UNIT_PREFIX)}


@pytest.fixture
def story() -> make.Story:
    story = make.Story(RULES)
    story.take(make.mandate())
    story.act(chain_id="chain-1", measures={"rows": 3, "amount": "0.5"})
    story.act(action="email.send", resources=["mail://x", "mail://y"])
    story.take(make.outcome(intent_id=story.changes[1]["intent_id"], verdict_digest=story.digests[1]))
    return story


def test_it_comes_back_as_it_was(story: make.Story):
    for name in (UNIT, lane_unit("tenant-1"), *ids_units(story)):
        values = story.state.confirmed(name)
        assert units.decode_unit(units.encode_unit(values, 7, NOW)) == (values, 7)


def test_it_holds_something_of_every_kind(story: make.Story):
    assert {key[0] for key in story.state.confirmed(UNIT)} == {"agent", "chain", "hold", "held", "holds", "window", "groups"}


def test_an_id_that_is_forgotten_is_left_out(story: make.Story):
    memory = {k: v for unit in ids_units(story) for k, v in story.state.confirmed(unit).items()}
    until = max(v.until for v in memory.values())
    assert set(units.decode_unit(units.encode_unit(memory, 0, until))[0]) <= set(memory)
    assert units.decode_unit(units.encode_unit(memory, 0, until))[0]
    assert units.decode_unit(units.encode_unit(memory, 0, until + 1))[0] == {}


def test_an_answered_hold_is_left_out(story: make.Story):
    story.take(make.approval(hold_digest=story.digests[2]), t=NOW + 1)
    values, _ = units.decode_unit(units.encode_unit(story.state.confirmed(UNIT), 0, NOW + 1))
    assert {key[0] for key in values} == {"agent", "chain", "holds", "window", "groups"}


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"v":9,"as_of":0,"items":[]}', b'{"v":%d,"as_of":0,"items":[[["x"],1]]}' % units.VERSION]
)
def test_bytes_of_others_are_refused(data: bytes):
    with pytest.raises(ValueError):
        units.decode_unit(data)


@pytest.mark.parametrize("cut", range(5))
def test_a_base_and_the_deltas_after_it_are_the_unit(story: make.Story, cut: int):
    partial = State()
    for change in story.changes[:cut]:
        make.apply(partial, change, story.windows)
    for name in (UNIT, lane_unit("tenant-1"), *ids_units(story)):
        base = units.encode_unit(partial.confirmed(name), cut - 1, NOW) if cut else None
        deltas = [units.Delta(c, n).encoded(name) for n, c in enumerate(story.changes) if name in units_of(c)]
        partition = partial.confirmed(PARTITION_UNIT)
        assert units.replay_unit(name, base, deltas, partition, story.windows) == story.state.confirmed(name)


@pytest.mark.parametrize("group", ["agent_id", "tenant"])
@pytest.mark.parametrize("cut", [1, 100, 290, 300])
def test_deltas_from_before_a_switch_are_replayed_as_they_were(cut: int, group: str):
    """A worker that restarts and a reader that never stopped must know equally much, and equally little."""
    counting = RULES.replace("group-by: [agent_id], timespan: 1h", f"group-by: [{group}], timespan: 2h")
    story = make.Story(make.APPROVE_ALL)
    bases: dict[str, bytes] = {}
    for n in range(310):
        if n == cut:
            bases = {u: units.encode_unit(story.state.confirmed(u), n - 1, NOW + n) for u in story.state.units()}
        if n == 300:
            story.switch(counting, t=NOW + n)
        story.act(t=NOW + n)
    for name in (UNIT, lane_unit("tenant-1")):
        deltas = [units.Delta(c, n).encoded(name) for n, c in enumerate(story.changes)]
        partition = story.state.confirmed(PARTITION_UNIT)
        replayed = units.replay_unit(name, bases[name], deltas, partition, story.windows)
        assert replayed == story.state.confirmed(name)


def test_memory_forgets_what_a_stored_unit_leaves_out():
    story = make.Story()
    for n in range(3):
        story.act(NOW + n)
    for t, left in ((NOW, 3), (NOW + 10**9, 0)):
        for unit in ids_units(story):
            story.state.forget(unit, units.forgotten(story.state.confirmed(unit), t))
        assert sum(len(story.state.confirmed(unit)) for unit in ids_units(story)) == left
    kept = dict(story.state.confirmed(UNIT))
    story.state.forget(UNIT, units.forgotten(kept, NOW + 10**9))
    assert story.state.confirmed(UNIT) == kept


def test_a_large_unit_comes_in_pieces_that_are_the_unit(monkeypatch: pytest.MonkeyPatch):
    story = make.Story(RULES)
    for n in range(60):
        story.act(NOW + n, resources=[f"crm://records/{n}"], purpose="x" * 200)
    values = story.state.confirmed(UNIT)
    assert len(units.encode_parts(values, 7, NOW, 3)) == 1
    whole = units.encode_unit(values, 7, NOW)
    monkeypatch.setattr(limits, "PART_BYTES_MAX", len(whole) // 3)
    written = units.encode_parts(values, 7, NOW, 3)
    parts = [units.decode_part(piece) for piece in written]
    assert len(parts) > 1
    assert [(p.as_of, p.number, p.of, p.mark) for p in parts] == [(7, n, len(parts), 3) for n in range(len(parts))]
    assert {key: value for part in parts for key, value in part.values.items()} == values


def test_a_group_that_nobody_asks_for_is_not_taken_apart_and_is_written_as_it_was_read(story: make.Story):
    stored = units.encode_unit(story.state.confirmed(UNIT), 9, make.NOW)
    values, _ = units.decode_unit(stored)
    with mock.patch("harness_stream.core.window.from_json", side_effect=AssertionError):
        assert units.encode_unit(values, 9, make.NOW) == stored
    groups = [value for value in values.values() if isinstance(value, Kept)]
    assert groups
    assert [g.state for g in groups] == [g.state for g in story.state.confirmed(UNIT).values() if isinstance(g, Kept)]
