"""What is stored of a log cannot be read: its partition halts with the reason, and goes on once it can."""

import pytest

from harness_stream.core.partition import Phase
from harness_stream.errors import CallerError
from harness_stream.runtime.resuming import planned
from harness_stream.runtime.standing import SILENT_MS, Trouble, told
from harness_stream.wire.decisions import read_body
from tests.simulation.test_regressions import AGENT, HOME, act, events, owner, quiet, restarted, turns
from tests.simulation.test_resume import decided, look, resumed, source
from tests.simulation.world import TOPICS


def offsets(world, kind):
    records = world.everything(TOPICS.verdicts, HOME)
    return [record.offset for record in records if read_body(record.value)[0]["kind"] == kind]


def troubles(world):
    return list(look(world).troubles)


def words(offset, topic=TOPICS.verdicts):
    return f"a log is damaged: the record at {offset} of `{topic}`/{HOME} cannot be read, its checksum does not match"


def test_a_worker_that_has_to_read_it_halts_and_says_where_it_is():
    world = quiet()
    act(world, 3)
    last = offsets(world, "verdict")[-1]
    world.broker.damage(TOPICS.verdicts, HOME, last)
    assert restarted(world).phase is Phase.HALTED
    assert owner(world).why == words(last)
    others = {o.phase for p, o in world.members[0].worker.owners.items() if p != HOME}
    assert others == {Phase.DECIDING}


def test_it_goes_on_by_itself_with_its_whole_history_once_the_log_can_be_read():
    world = quiet()
    act(world, 3)
    world.broker.damage(TOPICS.verdicts, HOME, offsets(world, "verdict")[-1])
    restarted(world)
    world.broker.damage(TOPICS.verdicts, HOME, None)
    turns(world, 4_000)
    assert owner(world).phase is Phase.DECIDING
    act(world)
    assert events(world) == 4


def test_it_is_told_as_halted_with_what_its_checkpoint_says_and_is_not_resumed():
    world = quiet()
    act(world, 3)
    turns(world, 600)
    last = offsets(world, "verdict")[-1]
    world.broker.damage(TOPICS.verdicts, HOME, last)
    row = told(look(world), world.clock.now_ms())
    assert (row["activity"], row["concluded_from"], row["next_input"]) == ("halted", words(last), 3)
    with pytest.raises(CallerError, match="is not resumed: a log is damaged"):
        planned(source(world), look(world))


def test_what_no_worker_needs_any_more_halts_nobody():
    world = quiet()
    act(world, 3)
    turns(world, 600)
    world.broker.damage(TOPICS.verdicts, HOME, offsets(world, "verdict")[0])
    assert troubles(world) == []
    assert restarted(world).phase is Phase.DECIDING
    turns(world, 2_000)
    assert owner(world).phase is Phase.DECIDING, "nor does what looks back in the background"
    assert troubles(world) == []


def test_what_only_a_load_without_redis_needs_is_told_when_it_keeps_the_partition_silent():
    world = quiet()
    act(world, 3)
    turns(world, 600)
    world.broker.damage(TOPICS.verdicts, HOME, offsets(world, "verdict")[0])
    world.store.flush()
    assert restarted(world).phase is Phase.HALTED
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    world.clock.advance(SILENT_MS + 1)
    turns(world, 10)
    assert troubles(world) == [Trouble.DAMAGED]


def test_an_input_that_cannot_be_read_halts_behind_the_last_answer_and_is_claimed_no_more():
    world = quiet()
    act(world, 2)
    world.broker.damage(TOPICS.intents, HOME, 2)
    act(world, 2)
    turns(world, 4_000)
    assert (owner(world).phase, owner(world).why) == (Phase.HALTED, words(2, TOPICS.intents))
    assert owner(world).place.header.next_input == 2
    assert len(offsets(world, "claim")) == 1, "each look of a halted one would be another claim"
    assert troubles(world) == [Trouble.INPUT_DAMAGED]


def test_after_an_input_that_cannot_be_read_it_is_resumed_with_all_that_it_knows():
    world = quiet()
    act(world, 2)
    world.broker.damage(TOPICS.intents, HOME, 2)
    act(world, 2)
    with pytest.raises(CallerError, match="inputs from 2 on cannot be read"):
        planned(source(world), look(world), 2)
    plan, _ = resumed(world, 3)
    assert (plan.forgets, plan.loses) == (False, ("inputs 2 to 2 are never answered: whoever waits for them times out",))
    turns(world, 6_000)
    assert owner(world).phase is Phase.DECIDING
    assert owner(world).place.header.next_input == 4
    assert len(decided(world)) == 3


def test_an_input_that_can_be_read_again_is_answered():
    world = quiet()
    world.broker.damage(TOPICS.intents, HOME, 0)
    act(world)
    assert owner(world).phase is Phase.HALTED
    world.broker.damage(TOPICS.intents, HOME, None)
    turns(world, 4_000)
    assert owner(world).place.header.next_input == 1
