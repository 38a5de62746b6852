"""Checkpoints held elsewhere, in a world whose logs are cut and written anew: what the witness tells, and what is found."""

from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest

from harness_stream.adapters.memory.log import MemoryReader
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedVerifier
from harness_stream.adapters.witness_file import WitnessFile, held_in
from harness_stream.cli.decision_log import DecisionLog
from harness_stream.cli.log_verify import bundles_in
from harness_stream.core.audit import Kind
from harness_stream.core.fold import Place
from harness_stream.core.partition import Phase
from harness_stream.core.witness import Held
from harness_stream.runtime.audit_run import AuditedRealm, AuditPorts, AuditRun
from harness_stream.runtime.witness import Witness, WitnessPorts
from harness_stream.wire.decisions import read_body
from tests.simulation.script import run
from tests.simulation.test_regressions import HOME, act, quiet, restarted, turns
from tests.simulation.test_resume import cut_decisions, resumed
from tests.simulation.world import PARTITIONS, TOPICS, SteppedClock

VERIFIER = UnsignedVerifier()
EVERY_MS = 60_000
DAY_MS = 86_400_000


@dataclass
class Witnessing:
    """One witness of a world, as often as it is started."""

    world: Any
    path: Any
    every_ms: int = EVERY_MS
    topics: list = field(default_factory=lambda: ["i1"])  # incarnations that it is told of, the last one from then on

    def _incarnation(self):
        return self.topics.pop(0) if len(self.topics) > 1 else self.topics[0]

    def started(self):
        ports = WitnessPorts(
            MemoryReader(self.world.broker),
            MemoryReader(self.world.broker),
            TOPICS,
            VERIFIER,
            self.world.clock,
            self._incarnation,
        )
        keeper = WitnessFile(str(self.path))
        return keeper, Witness(ports, keeper, [HOME], self.every_ms)

    def once(self):
        """Start, read to the end and stop; what was told."""
        keeper, witness = self.started()
        found = list(witness.begin())
        while witness.behind:
            found += witness.step()
        witness.finish()
        keeper.close()
        return found

    def held(self):
        return list(held_in(str(self.path)))

    def verified(self, incarnation="i1", **over):
        """(findings, what was told) of `log verify --witness`; the log by itself must be in order."""
        plain, _ = audited(self.world, incarnation)
        assert plain == [], "the log itself is consistent"
        return audited(self.world, incarnation, [one for one in self.held() if one.place.header.partition == HOME], **over)


def audited(world, incarnation="i1", held=None, start=None, later_ms=0):
    reader, clock = MemoryReader(world.broker), SteppedClock(world.clock)
    clock.off_ms = later_ms
    log = DecisionLog(reader, TOPICS, incarnation, VERIFIER, world.clock)
    ports = AuditPorts(reader, MemoryReader(world.broker), clock, VERIFIER, bundles_in(reader, TOPICS, VERIFIER))
    start = start or log.oldest(HOME)
    realm = AuditedRealm("sim", TOPICS, PARTITIONS)
    audit = AuditRun(ports, realm, start.place, start.ends, log.held(HOME), full=False, witness=held)
    return [found for found in audit.findings() if found is not None], audit.told()


def stated(world, topic=TOPICS.heads):
    """Checkpoints, newest last."""
    bodies = [orjson.loads(r.value) for r in world.everything(topic, HOME) if r.value]
    return [body for body in bodies if body["kind"] == "checkpoint"]


def say(world, **over):
    """What somebody who may write to the heads topic says."""
    value = orjson.dumps(stated(world)[-1] | over)
    return world.broker.append(TOPICS.heads, HOME, str(HOME).encode(), value, UNSIGNED_HEADERS)


def acted():
    """A partition with some history and a checkpoint of its newest record."""
    world = quiet()
    act(world, 6)
    turns(world, 600)
    return world


def rewrite(world, offset):
    """Whoever owns the broker cuts log, checkpoints and store, and lets a worker decide the rest once more."""
    world.broker.truncate_from(TOPICS.verdicts, HOME, offset)
    for topic in (TOPICS.heads, TOPICS.chains):
        world.broker.truncate_from(topic, HOME, 0)
    world.store = MemoryStateStore()
    assert restarted(world).phase is Phase.DECIDING
    turns(world, 600)


@pytest.fixture
def witnessing(tmp_path):
    return Witnessing(acted(), tmp_path / "heads.jsonl")


# --- What is held ---


def test_the_newest_checkpoint_is_held_and_the_log_is_found_to_hold_it(witnessing):
    assert witnessing.once() == []
    newest = stated(witnessing.world)[-1]
    (held,) = witnessing.held()
    assert (held.place.offset, held.place.digest) == (newest["verdict_offset"], newest["record_digest"])
    findings, told = witnessing.verified()
    assert findings == []
    assert told["witness"] == {
        "held": 1,
        "compared": 1,
        "by_digest": 0,
        "no_longer_kept": 0,
        "newest_no_longer_kept_ms": None,
    }


def test_nothing_is_held_twice(witnessing):
    witnessing.once()
    assert witnessing.once() == []
    assert len(witnessing.held()) == 1


def test_of_each_interval_the_newest_one_is_held_and_in_order(witnessing):
    world, witnessing.every_ms = witnessing.world, 2_000
    keeper, witness = witnessing.started()
    assert list(witness.begin()) == []
    for _ in range(40):
        act(world)
        turns(world, 100)
        assert list(witness.step()) == []
    witness.finish()
    keeper.close()
    held = witnessing.held()
    assert [one.at for one in held] == sorted({one.at for one in held})
    newest = {}
    for record in world.everything(TOPICS.heads, HOME):
        newest[record.timestamp_ms // 2_000] = record.offset
    assert [one.at for one in held] == list(newest.values())
    assert 4 < len(held) < len(world.everything(TOPICS.heads, HOME))
    findings, told = witnessing.verified()
    assert (findings, told["witness"]["compared"]) == ([], len(held))


def test_a_partition_at_rest_is_not_waited_for(witnessing):
    keeper, witness = witnessing.started()
    found = [*witness.begin(), *witness.step()]
    assert (found, keeper.newest) == ([], {})
    witnessing.world.clock.advance(EVERY_MS)
    assert list(witness.step()) == []
    assert keeper.newest[HOME].place.offset == stated(witnessing.world)[-1]["verdict_offset"]
    keeper.close()


@pytest.mark.parametrize("seed", [14, 31, 59])
def test_owners_that_come_and_go_contradict_nothing(seed, tmp_path):
    world = run(seed, faults=["delayed", "falsely failed", "clean stop"], count=600)
    witnessing = Witnessing(world, tmp_path / "heads.jsonl", every_ms=1)
    assert witnessing.once() == []
    findings, told = witnessing.verified()
    assert (findings, told["witness"]["compared"]) == ([], len(witnessing.held()))
    assert told["witness"]["compared"] > 3


# --- A log that is in order, and is not the one that was ---


def test_a_log_that_was_cut_and_goes_on_in_order_is_found(witnessing):
    witnessing.once()
    (held,) = witnessing.held()
    world = witnessing.world
    world.broker.truncate_from(TOPICS.verdicts, HOME, held.place.offset - 2)
    world.broker.truncate_from(TOPICS.heads, HOME, 0)
    findings, _ = witnessing.verified()
    end = world.broker.bounds(TOPICS.verdicts, HOME)[1]
    assert [(f.kind, f.offset) for f in findings] == [(Kind.TRUNCATED, end)]
    assert f"held: offset {held.place.offset}, record {held.place.digest[:12]}" in findings[0].text
    (told,) = witnessing.once()[:1]
    assert (told.kind, told.offset) == (Kind.TRUNCATED, held.place.offset)


def test_a_log_that_was_written_anew_from_somewhere_on_is_found(witnessing):
    witnessing.once()
    (held,) = witnessing.held()
    world = witnessing.world
    rewrite(world, 4)
    while world.broker.bounds(TOPICS.verdicts, HOME)[1] <= held.place.offset:
        act(world)
    turns(world, 600)
    findings, told = witnessing.verified()
    assert [(f.kind, f.offset) for f in findings] == [(Kind.WITNESS, held.place.offset)]
    stands = world.everything(TOPICS.verdicts, HOME)[held.place.offset]
    assert f"there stands a {orjson.loads(stands.value)['kind']}" in findings[0].text
    assert told["witness"]["compared"] == 0
    kinds = [found.kind for found in witnessing.once()]
    assert kinds[:1] == [Kind.WITNESS]


def test_a_log_that_is_written_anew_while_it_is_watched_is_told_within_an_interval(witnessing):
    world, witnessing.every_ms = witnessing.world, 1_000
    keeper, witness = witnessing.started()
    assert [*witness.begin(), *witness.step()] == []
    world.clock.advance(1_000)
    assert list(witness.step()) == []
    held = keeper.newest[HOME]
    world.broker.truncate_from(TOPICS.verdicts, HOME, 4)
    world.broker.truncate_from(TOPICS.chains, HOME, 0)
    world.store = MemoryStateStore()
    say(world, **genesis_like(world))
    restarted(world)
    found = []
    for _ in range(30):
        act(world)
        turns(world, 60)
        found += witness.step()
    assert held.place.offset in {one.offset for one in found}
    assert {one.kind for one in found} <= {Kind.WITNESS, Kind.TRUNCATED}
    keeper.close()


def genesis_like(world):
    """The newest checkpoint of what is left, so that a worker goes on from there."""
    place = Place.genesis("i1", HOME)
    for record in world.everything(TOPICS.verdicts, HOME):
        place = place.after(record.offset, *read_body(record.value)) or place
    return {**place.to_json(), "snapshot_cut": -1}


def test_every_held_checkpoint_of_a_lost_history_is_told_and_what_came_before_stands(witnessing):
    world, witnessing.every_ms = witnessing.world, 1
    witnessing.once()
    at = [one.place.offset for one in witnessing.held()]
    rewrite(world, at[1] + 1)
    while world.broker.bounds(TOPICS.verdicts, HOME)[1] <= at[-1]:
        act(world)
    findings, told = witnessing.verified()
    assert {f.offset for f in findings} == {offset for offset in at if offset > at[1]}
    assert told["witness"]["compared"] == sum(offset <= at[1] for offset in at)


def test_what_retention_took_is_no_longer_kept_and_not_wrong(witnessing):
    world, witnessing.every_ms = witnessing.world, 1
    witnessing.once()
    held = witnessing.held()
    low = held[-1].place.offset
    world.broker.truncate_before(TOPICS.verdicts, HOME, low)
    act(world, 3)
    turns(world, 600)
    findings, told = witnessing.verified(later_ms=2 * DAY_MS)
    gone = [one for one in held if one.place.offset < low]
    assert findings == []
    assert told["witness"]["no_longer_kept"] == len(gone) > 0
    assert told["witness"]["newest_no_longer_kept_ms"] == gone[-1].append_ms
    assert witnessing.once() == []


@pytest.mark.parametrize("of", ["a part", "everything"])
def test_a_beginning_that_was_deleted_before_any_retention_takes_it_is_a_finding(witnessing, of):
    world, witnessing.every_ms = witnessing.world, 1
    witnessing.once()
    act(world, 3)
    turns(world, 600)
    low = witnessing.held()[-1].place.offset if of == "a part" else world.broker.bounds(TOPICS.verdicts, HOME)[1]
    world.broker.truncate_before(TOPICS.verdicts, HOME, low)
    (found,), told = witnessing.verified()
    assert (found.kind, found.offset) == (Kind.TRUNCATED, low)
    assert told["witness"]["no_longer_kept"] > 0


def test_what_is_held_of_before_the_folds_start_is_compared_by_its_records(witnessing):
    world, witnessing.every_ms = witnessing.world, 1
    act(world, 3)
    turns(world, 600)
    witnessing.once()
    held = witnessing.held()
    log = DecisionLog(MemoryReader(world.broker), TOPICS, "i1", VERIFIER, world.clock)
    findings, told = audited(world, held=held, start=log.start(HOME))
    assert (findings, told["witness"]["compared"]) == ([], len(held))
    assert told["witness"]["by_digest"] == sum(one.place.offset < told["from"] for one in held) > 0
    other = held[0]._replace(place=held[0].place._replace(digest="0" * 64))
    findings, _ = audited(world, held=[other], start=log.start(HOME))
    assert [(f.kind, f.offset) for f in findings] == [(Kind.WITNESS, other.place.offset)]


def test_recreated_topics_are_a_finding_of_their_own(witnessing):
    witnessing.once()
    for topic in (TOPICS.intents, TOPICS.verdicts, TOPICS.heads):
        witnessing.world.broker.truncate_from(topic, HOME, 0)
    witnessing.topics = ["i2"]
    (found,) = witnessing.once()
    assert found.kind is Kind.RECREATED
    (found,), told = witnessing.verified("i2")
    assert (found.kind, told["end"], told["witness"]["compared"]) == (Kind.RECREATED, 0, 0)
    assert "i1" in found.text
    assert "i2" in found.text


def test_topics_that_are_recreated_while_it_watches_are_told_once(witnessing):
    world, witnessing.topics = witnessing.world, ["i1", "i1", "i2"]
    keeper, witness = witnessing.started()
    assert [*witness.begin(), *witness.step()] == []
    say(world, incarnation="i0")
    assert list(witness.step()) == [], "a former owner's word"
    say(world, incarnation="i2", verdict_offset=1)
    (found,) = witness.step()
    assert found.kind is Kind.RECREATED
    say(world, incarnation="i2", verdict_offset=2)
    assert list(witness.step()) == []
    witness.finish()
    keeper.close()
    assert [one.place.header.incarnation for one in witnessing.held()] == ["i1", "i2"]


# --- Contradictions ---


def contradicted(witnessing, **over):
    """Hold what is true, then somebody says something else."""
    witnessing.once()
    say(witnessing.world, **over)
    return witnessing.once()


@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"record_digest": "0" * 64}, "it says otherwise of the same record"),
        ({"next_input": 3}, "it says otherwise of the same record"),
        ({"verdict_offset": 3, "record_digest": "0" * 64}, "it names a lower offset"),
        ({"verdict_offset": 500, "epoch": 1, "writer": "0" * 32}, "it has another writer in the same epoch"),
        ({"verdict_offset": 500, "next_input": 1}, "its next_input goes back, and no resume is known"),
    ],
)
def test_a_checkpoint_that_cannot_follow_is_told_with_what_is_held_and_is_held_as_evidence(witnessing, over, text):
    (found,) = contradicted(witnessing, **over)
    assert found.kind is Kind.WITNESS
    assert text in found.text
    held = witnessing.held()
    assert found.offset == held[0].place.offset
    assert len(held) == 2
    assert f"held: offset {held[0].place.offset}" in found.text
    assert f"a checkpoint says offset {held[1].place.offset}" in found.text


def test_an_epoch_that_goes_back_is_told(witnessing):
    restarted(witnessing.world)
    turns(witnessing.world, 600)
    (found,) = contradicted(witnessing, verdict_offset=500, epoch=1)
    assert "its epoch goes back" in found.text


def test_after_a_lie_the_truth_contradicts_nothing(witnessing):
    keeper, witness = witnessing.started()
    assert [*witness.begin(), *witness.step()] == []
    say(witnessing.world, verdict_offset=3, record_digest="0" * 64)
    assert len(list(witness.step())) == 1
    act(witnessing.world, 3)
    turns(witnessing.world, 600)
    assert list(witness.step()) == []
    witness.finish()
    keeper.close()
    assert len(witnessing.held()) == 3


def test_a_former_owners_word_that_comes_late_is_true_and_told_by_nobody(witnessing):
    early = stated(witnessing.world)[0]
    assert contradicted(witnessing, **early) == []
    assert len(witnessing.held()) == 1


def test_an_operators_resume_may_answer_inputs_again(witnessing):
    world = witnessing.world
    witnessing.once()
    world.broker.truncate_from(TOPICS.intents, HOME, 1)
    turns(world, 400)
    resumed(world)
    turns(world, 400)
    before, after = witnessing.held()[0].place.header.next_input, stated(world)[-1]["next_input"]
    assert after < before
    assert witnessing.once() == []
    assert witnessing.held()[-1].place.header.next_input == after


def test_a_resume_of_a_cut_log_is_told_as_what_it_is(witnessing):
    world = witnessing.world
    witnessing.once()
    cut_decisions(world, 2)
    _, place = resumed(world)
    turns(world, 600)
    kinds = [found.kind for found in witnessing.once()]
    assert kinds
    assert set(kinds) <= {Kind.TRUNCATED, Kind.WITNESS}
    findings, _ = audited(world, held=witnessing.held())
    assert any(f"an operator resumed at {place.offset} with epoch {place.header.epoch}" in f.text for f in findings)


def test_a_heads_topic_that_is_shorter_than_it_was_is_told(witnessing):
    witnessing.once()
    (held,) = witnessing.held()
    witnessing.world.broker.truncate_from(TOPICS.heads, HOME, held.at)
    (found,) = witnessing.once()
    assert (found.kind, found.offset) == (Kind.TRUNCATED, held.place.offset)
    assert f"the heads topic ends at {held.at}" in found.text


def test_what_is_no_checkpoint_is_passed_over(witnessing):
    world = witnessing.world
    for value in (b"", b"no JSON", b'{"kind":"checkpoint"}', orjson.dumps(stated(world)[-1] | {"partition": 1 - HOME})):
        world.broker.append(TOPICS.heads, HOME, b"x", value, UNSIGNED_HEADERS)
    assert witnessing.once() == []
    assert len(witnessing.held()) == 1
    assert isinstance(witnessing.held()[0], Held)


@pytest.mark.parametrize("epoch", [1, 7])
def test_a_resume_of_another_epoch_excuses_no_input_that_is_answered_again(witnessing, epoch):
    """One that is void, or that the checkpoint itself does not know of."""
    world = witnessing.world
    witnessing.once()
    (held,) = witnessing.held()
    body = {"kind": "resume", "incarnation": "i1", "epoch": epoch, "writer": "e" * 32}
    at = world.broker.append(TOPICS.verdicts, HOME, None, orjson.dumps(body), UNSIGNED_HEADERS)
    say(world, verdict_offset=at, next_input=held.place.header.next_input - 1, epoch=held.place.header.epoch)
    (found,) = witnessing.once()
    assert "its next_input goes back, and no resume is known" in found.text
