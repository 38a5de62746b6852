"""Whose answer is whose where an input log was cut, on the real worker in a virtual world: the judge of all such runs."""

from __future__ import annotations

import orjson
import pytest

from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.core.lanes import partition_of
from harness_stream.core.partition import Phase
from harness_stream.ports import Ends
from harness_stream.runtime.resuming import Operator, planned, resume
from harness_stream.runtime.standing import Source, standing
from tests.simulation.judge import check
from tests.simulation.regiven import Regiven
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, Violation, World

AGENT = "agent-0"
HOME = partition_of(AGENTS[AGENT], PARTITIONS)


def acted(count: int) -> World:
    world = World(1, workers=1)
    act(world, count)
    return world


def act(world: World, count: int) -> None:
    for _ in range(count):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
        turns(world, 100)


def turns(world: World, count: int) -> None:
    for _ in range(count):
        world.turn()


def resumed_at(world: World, next_input: int | None) -> None:
    source = Source(MemoryReader(world.broker), TOPICS, "i1", world.verifier(), world.store, world.clock)
    operator = Operator(MemoryWriter(world.broker), world.signer("operator"), "f" * 32, "sim")
    resume(source, planned(source, standing(source, HOME), next_input), operator, "its input was lost")
    while world.members[0].worker.owners[HOME].phase is not Phase.DECIDING:
        world.turn()


def cut(world: World, at: int) -> None:
    world.cut_inputs(HOME, at)
    while world.members[0].worker.owners[HOME].phase is not Phase.HALTED:
        world.turn()


def ids(world: World, records: list) -> list[int]:
    """Each intent as the how-manieth it was sent."""
    sent = list(world.sent)
    return [sent.index(orjson.loads(record.value)["intent_id"]) for record in records]


def test_behind_an_operators_word_the_inputs_that_took_lost_ones_offsets_are_answered() -> None:
    world = acted(3)
    cut(world, 1)
    resumed_at(world, None)
    act(world, 3)
    found = Regiven(world, HOME)
    assert [ids(world, era) for era in found.eras()] == [[0, 1, 2], [3, 4, 5]]
    assert [record.offset for record in found.eras()[1]] == [1, 2, 3]
    assert (found.wrong(set()), found.unanswered()) == ([], [])
    world.heal()
    check(world)


def test_where_nobody_could_tell_that_the_log_was_short_they_are_not_and_those_behind_them_are() -> None:
    world = acted(3)
    world.cut_inputs(HOME, 1)
    for _ in range(3):
        world.send(agent_id=AGENT, by=AGENT)
    turns(world, 200)
    found = Regiven(world, HOME)
    assert [ids(world, era) for era in found.eras()] == [[0, 1, 2, 5]]
    assert ids(world, found.unanswered()) == [3, 4]
    assert found.wrong(set()) == []
    assert found.happened() == {"offset answered anew": 0, "never answered at its offset": 2}
    world.heal()
    check(world)


def test_an_input_that_is_still_there_and_answered_twice_is_wrong() -> None:
    world = acted(3)
    cut(world, 2)
    resumed_at(world, 1)
    turns(world, 100)
    assert Regiven(world, HOME).wrong(set()) == ["input 1 is answered 2 times"]
    with pytest.raises(Violation, match=r"V5: .*input 1 is answered 2 times"):
        check(world)


def test_an_input_behind_all_that_was_answered_is_wrong_unless_it_was_lost() -> None:
    world = acted(3)
    world.send(agent_id=AGENT, by=AGENT)
    assert Regiven(world, HOME).wrong(set()) == ["input 3 is answered 0 times"]
    assert Regiven(world, HOME).wrong({3}) == []
    world.cut_inputs(HOME, 3)
    found = Regiven(world, HOME)
    assert (found.wrong(set()), ids(world, found.unanswered())) == ([], [3])


def with_inputs_waiting():
    """A world, and the owner in whom a hundred inputs wait."""
    world = acted(1)
    for _ in range(400):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    owner = world.members[0].worker.owners[HOME]
    while owner.waiting < 100:
        world.turn()
    return world, owner


@pytest.mark.parametrize("come", [0, 150])
def test_what_waits_here_when_the_input_log_is_cut_leaves_its_offsets_to_what_comes_next(come, caplog):
    world, owner = with_inputs_waiting()
    left = owner._deciding._header.next_input + 20
    world.cut_inputs(HOME, left)
    world.turn()
    for _ in range(come):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    turns(world, 300)
    assert owner.phase is Phase.DECIDING
    assert owner.place.header.next_input == left + come
    assert f"the input log was cut; read on from {left - 20} [input_lost]" in caplog.text
    world.heal()
    check(world)


def test_so_it_does_where_the_log_has_grown_beyond_it_before_anybody_looks(caplog):
    """Only the broker's leader epochs tell: the position was in the log all the time."""
    world, owner = with_inputs_waiting()
    read_on_from = owner._deciding._header.next_input
    world.cut_inputs(HOME, read_on_from + 20)
    for _ in range(500):
        world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    turns(world, 300)
    assert (owner.phase, owner.waiting) == (Phase.DECIDING, 0)
    assert owner.place.header.next_input == read_on_from + 520
    assert [r.message for r in caplog.records if "input_lost" in r.message] == [
        f"partition {HOME}: the input log was cut; read on from {read_on_from} [input_lost]"
    ]
    world.heal()
    check(world)
    assert not Regiven(world, HOME).happened()["never answered at its offset"]


def test_an_answer_to_a_question_of_before_the_cut_does_not_end_it(caplog):
    world = acted(3)
    owner = world.members[0].worker.owners[HOME]
    old = Ends(TOPICS.intents, HOME, 0, 3, world.clock.elapsed_ms())
    owner.input_lost(0)
    owner.input_bounds(old)
    assert "input_lost" not in caplog.text
    owner.input_bounds(old._replace(asked_at_ms=old.asked_at_ms + 1))
    assert caplog.text.count("input_lost") == 1
