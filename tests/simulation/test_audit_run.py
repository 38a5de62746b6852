"""One partition through the auditor as `harness log verify` runs it: where it begins, how far it goes, what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from harness_stream.adapters.memory.log import MemoryReader
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedVerifier
from harness_stream.cli.decision_log import DecisionLog
from harness_stream.cli.log_export import lines
from harness_stream.cli.log_verify import bundles_in
from harness_stream.core.audit import Kind, answers, log
from harness_stream.core.audit.answers import FORGOTTEN, RESUMED
from harness_stream.core.lanes import partition_of
from harness_stream.core.partition import Phase
from harness_stream.runtime.audit_run import AuditedRealm, AuditPorts, AuditRun
from tests.log_checker import audited
from tests.simulation.script import run
from tests.simulation.test_regressions import HOME, act, quiet, turns
from tests.simulation.test_resume import cut_decisions, resumed
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, World, bundle, compiled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness_stream.cli.decision_log import Start
    from harness_stream.core.audit import Finding
    from harness_stream.core.fold import Place
    from harness_stream.runtime.resuming import Resumption
    from tests.log_checker import Report

PARTITION = 1
VERIFIER = UnsignedVerifier()


def a_world(seed: int = 59) -> World:
    return run(seed, faults=(), count=300)


def a_faulty_world() -> World:
    return run(14, faults=["lost"], count=300)


def log_of(world: World) -> DecisionLog:
    return DecisionLog(MemoryReader(world.broker), TOPICS, "i1", VERIFIER, world.clock)


def begun(world: World, start: Start | None = None, *, full: bool = True, partition: int = PARTITION) -> AuditRun:
    reader, log = MemoryReader(world.broker), log_of(world)
    start, rules = start or log.oldest(partition), bundles_in(reader, TOPICS, VERIFIER)
    ports = AuditPorts(reader, MemoryReader(world.broker), world.clock, VERIFIER, rules)
    realm = AuditedRealm("sim", TOPICS, PARTITIONS)
    return AuditRun(ports, realm, start.place, start.ends, log.held(partition), full=full)


def found(audit: AuditRun | Iterator[Finding | None]) -> list[Finding]:
    return [f for f in (audit.findings() if isinstance(audit, AuditRun) else audit) if f is not None]


def bodies(world: World) -> dict[int, Any]:
    return {r.offset: orjson.loads(r.value or b"") for r in world.everything(TOPICS.verdicts, PARTITION)}


def kinds(world: World) -> list[str]:
    return [body["kind"] for body in bodies(world).values()]


def gone_on_after_a_cut() -> tuple[World, Resumption, Place]:
    """A partition that an operator resumed; the place of his word."""
    world = quiet()
    act(world, 3)
    cut_decisions(world, 1)
    plan, place = resumed(world)
    turns(world, 4_000)
    act(world, 2)
    turns(world, 600)
    return world, plan, place


@pytest.mark.parametrize("full", [True, False])
def test_what_an_operator_gave_up_is_told_and_is_no_finding(*, full: bool) -> None:
    """The heads topic still has checkpoints of what was lost."""
    world, plan, place = gone_on_after_a_cut()
    audit = begun(world, full=full, partition=HOME)
    assert found(audit) == []
    [told] = audit.told()["resumed"]
    assert (told["offset"], told["epoch"], told["reason"]) == (place.offset, place.header.epoch, "the broker lost its disk")
    assert told["inputs_left_out"] == [plan.before.header.next_input, plan.next_input - 1]
    assert told["records_lost"] == [plan.before.offset + 1, plan.found.checkpoint.place.offset]
    assert told["checkpoints_of_lost"] > 0


def audited_with(world: World, at: int, end: int | None = None, **over: Any) -> Report:
    """The whole log up to `end`, with another body at one offset."""
    records = world.everything(TOPICS.verdicts, HOME)
    body = {**orjson.loads(records[at].value or b""), **over}
    records[at] = records[at]._replace(value=orjson.dumps(body))
    windows = compiled(bundle())
    inputs = world.everything(TOPICS.intents, HOME)
    return audited(inputs, records[:end], HOME, "i1", {windows.digest: windows}, resumed=True)


def test_behind_an_operator_who_forgets_nothing_answers_are_recomputed_on_what_is_left() -> None:
    """A wrong approve behind a resume was unproven, and no finding."""
    world, plan, place = gone_on_after_a_cut()
    audit = begun(world, partition=HOME)
    assert (found(audit), audit.told()["unproven"], plan.forgets) == ([], {}, False)
    records = world.everything(TOPICS.verdicts, HOME)
    at = [r.offset for r in records if b'"kind":"verdict"' in (r.value or b"")][-1]
    assert at > place.offset
    report = audited_with(world, at, at + 1, decision="deny")
    assert {(f.kind, f.offset) for f in report.findings} == {(Kind.VERDICT, at)}


@pytest.mark.parametrize(("said", "why"), [(True, FORGOTTEN), (None, RESUMED)])
def test_behind_an_operator_who_forgets_or_does_not_say_nothing_is_proven(said: bool | None, why: str) -> None:
    world, _, place = gone_on_after_a_cut()
    audit = audited_with(world, place.offset, forgets=said).audit
    assert audit is not None
    assert audit.answers is not None
    assert audit.answers.unproven == {why: 2}
    assert [resume.forgets for resume in audit.log.resumed.all] == [said]


def test_behind_an_operator_who_sets_other_rules_nothing_is_proven() -> None:
    world, _, place = gone_on_after_a_cut()
    audit = audited_with(world, place.offset, place.offset + 1, rules={"digest": "0" * 64, "revision": 7}).audit
    assert audit is not None
    assert audit.answers is not None
    assert audit.answers._lost == f"the resume at {place.offset} sets other rules"


@pytest.mark.parametrize("full", [True, False])
def test_what_an_operator_gave_up_is_no_finding_once_the_heads_topic_was_compacted(*, full: bool) -> None:
    """The record keeps the seal of the checkpoint, which is nowhere else by then."""
    world, plan, _ = gone_on_after_a_cut()
    newest = world.everything(TOPICS.heads, HOME)[-1]
    world.broker.truncate_before(TOPICS.heads, HOME, newest.offset)
    audit = begun(world, full=full, partition=HOME)
    assert found(audit) == []
    [told] = audit.told()["resumed"]
    assert told["inputs_left_out"] is not None
    assert told["records_lost"] == [plan.before.offset + 1, plan.found.checkpoint.place.offset]
    assert told["checkpoints_of_lost"] == 0, "none of them is held any more"


def test_an_operator_who_lets_inputs_be_answered_again_is_a_finding() -> None:
    world = quiet()
    act(world, 3)
    cut_decisions(world, 2)
    _, place = resumed(world, next_input=0)
    turns(world, 4_000)
    audit = begun(world, full=False, partition=HOME)
    [again, *_] = found(audit)
    assert (again.kind, again.offset, again.text) == (
        Kind.COVERAGE, place.offset, "goes on at input 0, and the next one is 2"
    )


def test_a_checkpoint_that_came_after_the_operators_word_is_excused_by_nobody() -> None:
    """The log is cut a second time, and nobody has said that this is well."""
    world, _, place = gone_on_after_a_cut()
    world.broker.truncate_from(TOPICS.verdicts, HOME, place.offset + 2)
    kinds_found = {finding.kind for finding in found(begun(world, full=False, partition=HOME))}
    assert kinds_found & {Kind.TRUNCATED, Kind.CHECKPOINT}


def test_the_whole_log_is_read_and_everything_is_recomputed() -> None:
    world = a_world()
    audit = begun(world)
    assert found(audit) == []
    told, written = audit.told(), kinds(world)
    assert (told["from"], told["end"], told["undecided"], told["unproven"]) == ("genesis", len(written), 0, {})
    assert told["recomputed"]["verdict"] == written.count("verdict")
    assert told["checkpoints"] == {"compared": written.count("checkpoint"), "too_old": 0}
    assert audit.share == 1
    assert audit.records == len(written)


def test_inputs_behind_a_resume_that_goes_back_are_held_against_what_answers_them() -> None:
    """The input log had lost some that were answered; every answer to those that took their places was called wrong."""
    world = World(1, workers=1)
    agent = next(name for name, lane in AGENTS.items() if partition_of(lane, PARTITIONS) == PARTITION)
    _decided(world, agent, 4)
    world.broker.truncate_from(TOPICS.intents, PARTITION, 2)
    while world.members[0].worker.owners[PARTITION].phase is not Phase.HALTED:
        world.turn()
    world.resume_halted()
    while world.members[0].worker.owners[PARTITION].phase is not Phase.DECIDING:
        world.turn()
    _decided(world, agent, 4)
    audit = begun(world)
    wrong = found(audit)
    resumed = next(at for at, body in bodies(world).items() if body["kind"] == "resume")
    assert [f.kind for f in wrong if f.offset >= resumed] == [Kind.COVERAGE], "the resume itself"
    assert {bodies(world)[f.offset]["covers"][1] for f in wrong if f.offset < resumed} == {2, 3}, "what is gone"
    assert audit.told()["undecided"] == 0


def _decided(world: World, agent: str, count: int) -> None:
    for _ in range(count):
        world.send(agent_id=agent, by=agent)
        for _ in range(100):
            world.turn()


def test_void_records_are_no_finding_and_counted_by_why() -> None:
    world = a_faulty_world()
    audit = begun(world)
    assert found(audit) == []
    assert audit.told()["void"]["wrong prev"] > 0


def test_an_altered_record_is_one_finding_and_of_what_comes_behind_nothing_is_called_undecided() -> None:
    world = a_world()
    offset = next(at for at, body in bodies(world).items() if body["kind"] == "verdict" and at > 10)
    replace(world, offset, {**bodies(world)[offset], "shadow": [{"code": "rule", "rule": "r"}]})
    audit = begun(world, full=False)
    assert [(f.kind, f.offset) for f in found(audit)] == [(Kind.LINK, offset)]
    told, written = audit.told(), kinds(world)
    assert (told["broken"], told["stuck"], told["undecided"]) == ([{"at": offset, "unproven": None}], None, 0)
    assert (told["void"], told["effective"]["verdict"]) == ({}, written.count("verdict"))
    assert audit.records == len(written)


def test_where_nothing_behind_a_break_can_be_folded_it_is_said_where_to_begin_again() -> None:
    world = a_world()
    first = next(at for at, body in bodies(world).items() if body["kind"] == "verdict" and at > 10)
    last = next(at for at, body in bodies(world).items() if body["kind"] == "checkpoint" and at > 40)
    for at, body in bodies(world).items():
        if body["kind"] not in {"checkpoint", "claim"} and first <= at < last:
            replace(world, at, {**body, "t": body.get("t", 0) + 1})
    world.broker.truncate_from(TOPICS.verdicts, PARTITION, last + 1)
    audit = begun(world, full=False)
    [broken] = [f for f in found(audit) if f.kind is Kind.CHECKPOINT]
    told = audit.told()
    assert broken.offset == first
    assert (told["undecided"], told["stuck"]["checkpoint"]) == (None, last)
    assert told["astray"] > 0
    assert log_of(world).stated_at(PARTITION, told["stuck"]["checkpoint"]) is not None


def replace(world: World, offset: int, body: dict[str, Any]) -> None:
    records = world.broker.logs[TOPICS.verdicts, PARTITION].records
    (index,) = (n for n, record in enumerate(records) if record.offset == offset)
    records[index] = records[index]._replace(value=orjson.dumps(body))


def test_what_is_written_meanwhile_is_left_for_the_next_time() -> None:
    world = a_world()
    audit = begun(world)
    end, findings = audit.told()["end"], audit.findings()
    assert next(findings) is None
    for _ in range(40):
        world.send()
        world.turn()
    world.heal()
    assert len(kinds(world)) > end
    assert found(findings) == []
    assert audit.records == end


def test_inputs_that_nobody_has_decided_yet_are_no_finding() -> None:
    world = a_world()
    for _ in range(10):
        world.send()
    audit = begun(world)
    assert found(audit) == []
    assert audit.told()["undecided"] > 0


def test_where_retention_took_the_beginning_it_begins_at_the_oldest_checkpoint() -> None:
    world = a_world()
    checkpoint = next(body for at, body in bodies(world).items() if body["kind"] == "checkpoint" and at > 10)
    world.broker.truncate_before(TOPICS.verdicts, PARTITION, checkpoint["verdict_offset"] + 1)
    start = log_of(world).oldest(PARTITION)
    assert (start.cut, start.place.offset) == (True, checkpoint["verdict_offset"])
    audit = begun(world)
    assert found(audit) == []
    assert not audit.told()["recomputed"]
    assert set(audit.told()["unproven"]) == {"history before the start is not known"}


def test_a_partition_at_rest_of_which_only_checkpoints_are_left_is_audited_all_the_same() -> None:
    world = a_world()
    for _ in range(2 * 3_700):
        world.clock.advance(1_000)
        for member in world.members:
            member.worker.step(0)
    written = kinds(world)
    assert written[-2:] == ["checkpoint"] * 2
    world.broker.truncate_before(TOPICS.verdicts, PARTITION, len(written) - 1)
    audit = begun(world)
    assert found(audit) == []
    assert audit.told()["checkpoints"]["compared"] == 1


def test_an_answer_whose_input_is_gone_is_unproven_and_still_history() -> None:
    world = a_world()
    world.broker.truncate_before(TOPICS.intents, PARTITION, 20)
    audit = begun(world)
    assert found(audit) == []
    told = audit.told()
    assert told["unproven"].keys() == {"its input is no longer kept"}
    assert told["recomputed"]["verdict"] > 20


def test_a_checkpoint_in_the_heads_topic_holds_the_log_to_its_length() -> None:
    world = a_world()
    newest = next(body for body in reversed(bodies(world).values()) if body["kind"] == "checkpoint")
    longer = orjson.dumps({**newest, "verdict_offset": 10_000})
    world.broker.append(TOPICS.heads, PARTITION, b"head", longer, UNSIGNED_HEADERS)
    end = len(kinds(world))
    assert [(f.kind, f.offset) for f in found(begun(world, full=False))] == [(Kind.TRUNCATED, end)]


def test_a_record_that_is_not_authentic_is_void() -> None:
    world = a_world()
    world.broker.append(TOPICS.verdicts, PARTITION, None, b"{}", (("hs-alg", b"ed25519"),))
    audit = begun(world)
    assert found(audit) == []
    assert audit.told()["void"] == {"not authentic": 1}
    offset = world.everything(TOPICS.verdicts, PARTITION)[-1].offset
    assert audit.told()["void_at"] == {"not authentic": [offset]}


@pytest.mark.parametrize("changes", [1, 7])
def test_what_nobody_can_ask_for_is_forgotten_on_the_way(changes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "FORGET_CHANGES", changes)
    world = a_world()
    world.clock.advance(200_000)
    for _ in range(20):
        world.send()
    world.heal()
    audit = begun(world)
    assert found(audit) == []
    assert audit._audit.answers is not None
    state = audit._audit.answers.state
    kept = sum(len(state.confirmed(unit)) for unit in state.units() if unit.startswith("i:"))
    assert kept < kinds(world).count("verdict") / 2


def test_a_unit_that_has_its_warmed_windows_leaves_no_second_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    world = a_world(55)

    def waiting() -> set[str]:
        audit = begun(world)
        assert found(audit) == []
        assert audit._audit.answers is not None
        return {unit for units in audit._audit.answers.state.warmed.values() for unit in units}

    before = waiting()
    monkeypatch.setattr(answers, "FORGET_CHANGES", 1)
    assert waiting() < before


def test_a_checkpoint_that_names_too_old_a_place_is_counted_and_not_called_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "PLACES_KEPT", 1)
    world = a_world()
    newest = next(body for body in reversed(bodies(world).values()) if body["kind"] == "checkpoint")
    for _ in range(20):
        world.send()
    world.heal()
    late = orjson.dumps({**newest, "head": "0" * 64})
    world.broker.append(TOPICS.verdicts, PARTITION, None, late, UNSIGNED_HEADERS)
    audit = begun(world)
    assert found(audit) == []
    assert audit.told()["checkpoints"]["too_old"] >= 1


def test_an_export_says_of_each_record_what_the_fold_says() -> None:
    world = a_faulty_world()
    told = list(lines(MemoryReader(world.broker), TOPICS.verdicts, log_of(world).oldest(PARTITION), VERIFIER))
    assert [line["offset"] for line in told] == list(bodies(world))
    assert [line["body"] for line in told] == list(bodies(world).values())
    assert {line["status"] for line in told} == {"effective", "void", "checkpoint"}
    assert {line["why"] for line in told if line["status"] == "void"} == {"wrong prev"}
    covered = [n for line in told if line["status"] == "effective" for n in _range(line["body"])]
    assert covered == list(range(world.broker.bounds(TOPICS.intents, PARTITION)[1]))


def _range(body: dict[str, Any]) -> range:
    first, last = body.get("covers", (0, -1))
    return range(first, last + 1)
