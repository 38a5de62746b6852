"""The auditor takes each denial of a run for itself: a lie in one row is named with its input, and hides no other."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from harness_stream.core import limits
from harness_stream.core.audit import Kind
from harness_stream.core.denials import DENIALS, answers_in
from harness_stream.core.ids import id_time_ms
from harness_stream.core.lanes import partition_of
from harness_stream.core.rate import Rate
from harness_stream.core.reasons import Deny
from tests.simulation.script import run
from tests.simulation.test_audit import PARTITION, Logs
from tests.simulation.test_audit_run import begun, found, replace
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.core.audit import Finding

Body = dict[str, Any]
HOME = [agent for agent, tenant in AGENTS.items() if partition_of(tenant, PARTITIONS) == PARTITION]
AGENT = HOME[0]
# Rows of the run: what they are denied for, in order. Behind the first of a clock the input log has a hole.
CODES = [Deny.LATE, Deny.LATE, Deny.LATE, Deny.CLOCK, Deny.RATE, Deny.LATE, Deny.RATE]
HOLE_BEHIND = Deny.CLOCK
SAID = range(len(CODES))
WAITED_MS = 100


def send(world: World, agent: str = AGENT, **over: Any) -> None:
    world.send(agent_id=agent, by=agent, action="crm.read", resources=[], measures={}, **over)


def settle(world: World) -> None:
    world.turn()
    while not world.settled():
        world.turn()


@pytest.fixture(scope="module")
def world() -> World:
    """An intent is approved, a run denied behind it, one of the run comes again, and things go on."""
    world = World(11, workers=1, lane_rate=Rate(per_s=1, burst=1))
    world.heal()
    send(world)
    settle(world)
    world.clock.advance(1_100)
    send(world)  # takes the one token that there is
    for code in CODES:
        _provoke(world, code)
        if code == HOLE_BEHIND:
            world.broker.skip_offsets(TOPICS.intents, PARTITION, 2)
    world.clock.advance(WAITED_MS)
    settle(world)
    world.publish(AGENT, [*world.sent.values()][3])
    world.clock.advance(1_100)
    send(world)
    settle(world)
    return world


def _provoke(world: World, code: str) -> None:
    world.clock.advance(1)
    world.broker.append_off_ms = 10_000 if code == Deny.CLOCK else 0
    send(world, deadline_ms=WAITED_MS // 2 if code == Deny.LATE else 60_000)
    world.broker.append_off_ms = 0


@pytest.fixture(scope="module")
def logs(world: World) -> Logs:
    return Logs(world.everything(TOPICS.intents, PARTITION), world.everything(TOPICS.verdicts, PARTITION))


@pytest.fixture(scope="module")
def at(logs: Logs) -> int:
    """Where the run stands."""
    return logs.first(lambda body: body["kind"] == DENIALS)


def rows_of(logs: Logs, at: int) -> list[Body]:
    return list(logs.body(at)["denied"])


def lied(logs: Logs, at: int, change: Callable[[list[Body]], None], **over: Any) -> list[Finding]:
    """What is found in the log up to the run, of which the rows are changed."""
    rows = rows_of(logs, at)
    change(rows)
    return logs.ending_in(at, logs.body(at) | {"denied": rows} | over).findings()


def named(findings: list[Finding], at: int) -> set[tuple[Kind, str]]:
    """Kind and the input that a text begins with or names."""
    assert all(f.offset == at for f in findings)
    return {(f.kind, f.text) for f in findings}


def about(findings: list[Finding], offset: int) -> set[Kind]:
    return {f.kind for f in findings if f"input {offset}" in f.text}


def set_in(n: int, **fields: Any) -> Callable[[list[Body]], None]:
    return lambda rows: rows.__setitem__(n, rows[n] | fields)


# --- Nothing is wrong ---


def test_the_run_is_what_these_tests_are_about(logs: Logs, at: int) -> None:
    assert [row["code"] for row in rows_of(logs, at)] == CODES
    offsets = [row["offset"] for row in rows_of(logs, at)]
    assert [after - one for one, after in pairwise(offsets)].count(3) == 1, "there is a hole"
    assert logs.body(at)["covers"][0] == offsets[0]


def test_without_a_lie_nothing_is_found_and_each_row_was_recomputed(logs: Logs, at: int) -> None:
    audit = logs.audit()
    assert logs.findings(audit) == []
    assert audit.answers is not None
    kinds = Counter(logs.body(r.offset)["kind"] for r in logs.decisions)
    assert audit.answers.recomputed["verdict"] == kinds["verdict"] + len(CODES)
    assert audit.log.records[DENIALS] == kinds[DENIALS] == 1
    rated = CODES.count(Deny.RATE)
    assert audit.answers.unproven == {"denied as rate, which its worker had counted": rated}


def test_a_copy_behind_it_is_a_duplicate_for_the_auditor_as_well(logs: Logs, at: int) -> None:
    rejects = [logs.body(r.offset) for r in logs.decisions if logs.body(r.offset)["kind"] == "reject"]
    assert [body["reason"] for body in rejects] == ["duplicate"]
    offset = logs.first(lambda body: body["kind"] == "reject")
    [found_] = logs.ending_in(offset, logs.body(offset) | {"reason": "id_reused"}).findings()
    assert found_.kind is Kind.REJECT


# --- One row ---

DIGESTS = {"intent_digest": "0" * 64, "arguments_digest": "1" * 64, "enforcer_nonce": "1" * 32, "agent_id": "agent-9"}


@pytest.mark.parametrize("n", SAID)
@pytest.mark.parametrize("field", DIGESTS)
def test_a_row_about_another_intent(logs: Logs, at: int, field: str, n: int) -> None:
    findings = lied(logs, at, set_in(n, **{field: DIGESTS[field]}))
    assert about(findings, rows_of(logs, at)[n]["offset"]) == {Kind.DIGEST}
    assert len(findings) == 1


@pytest.mark.parametrize("n", SAID)
def test_a_row_under_another_id(logs: Logs, at: int, n: int) -> None:
    """How long it is remembered hangs on the time in it."""
    row = rows_of(logs, at)[n]
    findings = lied(logs, at, set_in(n, intent_id="f" + row["intent_id"][1:]))
    assert about(findings, row["offset"]) == {f.kind for f in findings} == {Kind.DIGEST}


OTHERS = {"late": ("clock", "rate", "overload"), "clock": ("late", "rate", "overload"), "rate": ("late", "clock", "overload")}


@pytest.mark.parametrize("n", SAID)
def test_a_row_for_anothers_reason(logs: Logs, at: int, n: int) -> None:
    row = rows_of(logs, at)[n]
    for code in OTHERS[row["code"]]:
        findings = lied(logs, at, set_in(n, code=code))
        assert about(findings, row["offset"]) == {f.kind for f in findings} == {Kind.VERDICT}, code


@pytest.mark.parametrize("n", [n for n in SAID if CODES[n] != Deny.RATE])
@pytest.mark.parametrize("detail", ["1 ms after append, deadline 0 ms", None, ""])
def test_a_row_with_another_detail(logs: Logs, at: int, detail: str | None, n: int) -> None:
    """Of a rate the log does not say what a worker had counted."""
    row = rows_of(logs, at)[n]
    [found_] = lied(logs, at, set_in(n, detail=detail))
    assert (found_.kind, found_.offset) == (Kind.VERDICT, at)
    assert found_.text.startswith(f"input {row['offset']}: reasons is ")


@pytest.mark.parametrize("n", SAID)
def test_a_row_remembered_for_another_time(logs: Logs, at: int, n: int) -> None:
    row = rows_of(logs, at)[n]
    [found_] = lied(logs, at, set_in(n, remember_until=row["remember_until"] - 1))
    assert (found_.kind, found_.text) == (
        Kind.VERDICT,
        f"input {row['offset']}: remember_until is {row['remember_until'] - 1}, and recomputes to {row['remember_until']}",
    )


@pytest.mark.parametrize("n", SAID)
@pytest.mark.parametrize("by_ms", [-1, 1, -10_000, 10_000])
def test_a_row_of_another_chain_time(logs: Logs, at: int, by_ms: int, n: int) -> None:
    """Whatever is remembered with it: the sender may have made both fit."""
    row = rows_of(logs, at)[n]
    findings = lied(logs, at, set_in(n, t=row["t"] + by_ms, remember_until=row["remember_until"] + by_ms))
    assert {f.kind for f in findings} & {Kind.TIME, Kind.SCHEMA}
    assert any(f"input {row['offset'] + further}" in f.text for f in findings for further in range(4))


def test_a_first_row_from_before_the_run(logs: Logs, at: int) -> None:
    """The record's own time is the last row's, and steps nowhere."""
    row, before = rows_of(logs, at)[0], logs.place_before(at).header.t
    by_ms = row["t"] - before + 5
    findings = lied(logs, at, set_in(0, t=row["t"] - by_ms, remember_until=row["remember_until"] - by_ms))
    assert (Kind.TIME, f"input {row['offset']}: chain time steps back from {before} to {before - 5}") in named(findings, at)


@pytest.mark.parametrize("field", ["offset", "t", "remember_until"])
@pytest.mark.parametrize("value", ["7", 7.0, True, None, [], {}, -(2**62)])
def test_numbers_that_are_none(logs: Logs, at: int, field: str, value: object) -> None:
    findings = lied(logs, at, set_in(2, **{field: value}))
    assert findings[0].kind in {Kind.SCHEMA, Kind.VERDICT}
    assert findings[0].offset == at


@pytest.mark.parametrize("change", [{"code": "because"}, {"code": "too_large"}, {"intent_digest": "x"}, {"agent_id": 7}, {"more": 1}], ids=str)
def test_a_row_that_breaks_its_schema_is_named_with_its_input(logs: Logs, at: int, change: Body) -> None:
    offset = rows_of(logs, at)[3]["offset"]
    [found_] = lied(logs, at, set_in(3, **change))
    assert found_.kind is Kind.SCHEMA
    assert found_.text.startswith(f"denied.3.{next(iter(change))} (input {offset}): ")


# --- More or fewer rows ---


def test_rows_in_another_order(logs: Logs, at: int) -> None:
    def swap(rows: list[Body]) -> None:
        rows[2], rows[1] = rows[1], rows[2]

    [found_] = lied(logs, at, swap)
    one, other = (rows_of(logs, at)[n]["offset"] for n in (1, 2))
    assert (found_.kind, found_.text) == (Kind.SCHEMA, f"Value error, input {one} comes after input {other}")


@pytest.mark.parametrize("n", SAID[:-1])
def test_a_row_that_is_missing(logs: Logs, at: int, n: int) -> None:
    """The others are still looked at; whose place it takes is time's to say."""
    offset, behind = (rows_of(logs, at)[m]["offset"] for m in (n, n + 1))
    findings = lied(logs, at, lambda rows: rows.pop(n))
    text = f"input {behind}: nobody answered input {offset}: this record passes over it and answers {behind}"
    assert (Kind.COVERAGE, text) in named(findings, at)


def test_the_last_row_is_missing(logs: Logs, at: int) -> None:
    [found_] = lied(logs, at, lambda rows: rows.pop())
    last, end = rows_of(logs, at)[-2], logs.body(at)["covers"][1]
    assert found_.kind is Kind.SCHEMA
    assert found_.text.startswith(f"Value error, ends with input {last['offset']} ")
    assert f"not with input {end}" in found_.text


def test_no_rows_at_all(logs: Logs, at: int) -> None:
    [found_] = lied(logs, at, lambda rows: rows.clear())
    assert (found_.kind, found_.text[:8]) == (Kind.SCHEMA, "denied: ")


def in_the_hole(rows: list[Body], **over: Any) -> int:
    """Such a row, where no input stands."""
    n = CODES.index(HOLE_BEHIND)
    rows.insert(n + 1, rows[n] | {"offset": rows[n]["offset"] + 1, **over})
    return int(rows[n + 1]["offset"])


def test_a_row_of_no_input(logs: Logs, at: int) -> None:
    rows = rows_of(logs, at)
    offset = in_the_hole(rows, intent_id="1" + rows[0]["intent_id"][1:])
    findings = lied(logs, at, lambda rows: in_the_hole(rows, intent_id="1" + rows[0]["intent_id"][1:]))
    assert named(findings, at) == {
        (Kind.COVERAGE, f"input {offset}: answers input {offset}, and the input log has no record there")
    }


def test_a_row_twice(logs: Logs, at: int) -> None:
    row = rows_of(logs, at)[2]
    [found_] = lied(logs, at, lambda rows: rows.insert(2, rows[2]))
    offset = row["offset"]
    assert (found_.kind, found_.text) == (Kind.SCHEMA, f"Value error, input {offset} comes after input {offset}")


def test_an_intent_twice(logs: Logs, at: int) -> None:
    findings = lied(logs, at, in_the_hole)
    row = rows_of(logs, at)[CODES.index(HOLE_BEHIND)]
    twice = f"{row['agent_id']} intent {row['intent_id']} has its terminal verdict at {at}"
    assert (Kind.SETTLED_TWICE, f"input {row['offset'] + 1}: {twice}") in named(findings, at)
    assert about(findings, row["offset"] + 1) == {Kind.SETTLED_TWICE, Kind.COVERAGE}


def test_one_of_the_run_that_was_denied_before(logs: Logs, at: int) -> None:
    """A verdict of before, and a second one in a row."""
    approved = logs.body(logs.first(lambda body: body["kind"] == "verdict"))
    row = rows_of(logs, at)[4]
    findings = lied(logs, at, set_in(4, intent_id=approved["intent_id"], agent_id=approved["agent_id"]))
    assert Kind.SETTLED_TWICE in about(findings, row["offset"])


# --- One that ought not to be in it ---


def test_a_late_one_that_was_not_late(logs: Logs, at: int) -> None:
    """The input behind the run, which really was a copy."""
    body, behind = logs.body(at), logs.inputs[-2]
    sent, until = orjson.loads(behind.value or b""), body["denied"][-1]["remember_until"]
    row = body["denied"][-1] | {name: sent[name] for name in ("agent_id", "intent_id", "arguments_digest", "enforcer_nonce")}
    digest = next(logs.body(r.offset) for r in logs.decisions if logs.body(r.offset).get("reason") == "duplicate")["digest"]
    row |= {"offset": behind.offset, "intent_digest": digest, "t": behind.timestamp_ms, "code": "late", "detail": "x", "remember_until": until}
    findings = lied(logs, at, lambda rows: rows.append(row), covers=[body["covers"][0], behind.offset], t=behind.timestamp_ms)
    asked = f"input {behind.offset}: a verdict, and history asks for reject: duplicate"
    assert (Kind.ANSWER, asked) in named(findings, at)


def test_whose_deadline_had_not_passed(logs: Logs, at: int) -> None:
    """All that depends on when it was decided: only what has another reason still stands."""
    findings = lied(logs, at, lambda rows: None, decided_at=logs.body(at)["decided_at"] - WAITED_MS)
    for row in rows_of(logs, at):
        expected = set() if row["code"] == Deny.RATE else {Kind.VERDICT}
        assert about(findings, row["offset"]) == expected


def test_an_input_of_another_kind_between_them(logs: Logs, at: int) -> None:
    offset = rows_of(logs, at)[2]["offset"]
    inputs = [r._replace(value=b"no json") if r.offset == offset else r for r in logs.inputs]
    findings = Logs(inputs, logs.decisions[: at + 1]).findings()
    assert about(findings, offset) == {f.kind for f in findings} - {Kind.TRUNCATED} == {Kind.ANSWER}


# --- Together ---


def test_a_wrong_row_hides_no_other(logs: Logs, at: int) -> None:
    def both(rows: list[Body]) -> None:
        set_in(0, intent_digest="0" * 64)(rows)
        set_in(2, detail="x")(rows)
        set_in(6, remember_until=1)(rows)

    findings, rows = lied(logs, at, both), rows_of(logs, at)
    assert [about(findings, rows[n]["offset"]) for n in (0, 2, 6)] == [{Kind.DIGEST}, {Kind.VERDICT}, {Kind.VERDICT}]
    assert len(findings) == 3


def test_each_row_that_is_wrong_is_one_finding(logs: Logs, at: int) -> None:
    def all_of_them(rows: list[Body]) -> None:
        for n in SAID:
            set_in(n, remember_until=1)(rows)

    findings = lied(logs, at, all_of_them)
    assert [f.text.split(":")[0] for f in findings] == [f"input {row['offset']}" for row in rows_of(logs, at)]


def test_facts_and_reasons_of_the_record_itself(logs: Logs, at: int) -> None:
    for over, kinds in (({"t": 1}, {Kind.SCHEMA}), ({"engine": 7}, {Kind.SCHEMA}), ({"decided_at": "x"}, {Kind.SCHEMA}), ({"decided_at": "7"}, {Kind.SCHEMA})):
        assert {f.kind for f in lied(logs, at, lambda rows: None, **over)} == kinds, over


def test_another_engine_is_counted_row_by_row(logs: Logs, at: int) -> None:
    body = logs.body(at) | {"engine": "harness-stream/0"}
    other = logs.ending_in(at, body)
    audit = other.audit()
    assert other.findings(audit) == []
    assert audit.answers is not None
    assert audit.answers.unproven == {"decided by engine harness-stream/0": len(CODES)}


# --- As `harness log verify` runs it ---


def test_from_a_checkpoint_each_row_is_still_held_against_its_input(logs: Logs, at: int) -> None:
    start = [place for place in logs.checkpoints() if place.offset < at and place.header.rules is not None][-1]
    audit = logs.audit(start=start)
    assert logs.findings(audit) == []
    assert audit.answers is not None
    assert audit.answers.unproven["history before the start is not known"] >= len(CODES)
    rows = rows_of(logs, at)
    rows[5] |= {"arguments_digest": "1" * 64}
    wrong = logs.ending_in(at, logs.body(at) | {"denied": rows})
    [found_] = wrong.findings(wrong.audit(start=start))
    assert (found_.kind, found_.offset) == (Kind.DIGEST, at)
    assert f"input {rows[5]['offset']}" in found_.text


def test_the_whole_partition(world: World) -> None:
    audit = begun(world)
    assert found(audit) == []
    told = audit.told()
    assert (told["effective"][DENIALS], told["undecided"]) == (1, 0)
    assert told["recomputed"]["verdict"] == told["effective"]["verdict"] + len(CODES)


def test_inputs_that_are_no_longer_kept_are_counted_row_by_row(world: World, logs: Logs, at: int) -> None:
    audit = logs.audit()
    kept_from = rows_of(logs, at)[3]["offset"]
    audit._low = kept_from
    assert [f for f in logs.findings(audit) if f.offset == at] == []
    assert audit.answers is not None
    assert audit.answers.unproven["its input is no longer kept"] == 2 + 3, "two approvals and three of the run"


@pytest.mark.parametrize("seed", [4, 11, 18])
def test_an_altered_run_in_the_middle_of_a_log_is_the_one_record_that_is_named(seed: int) -> None:
    """What comes behind it is audited all the same."""
    flooded = run(seed, faults=(), count=300)
    bodies = {r.offset: orjson.loads(r.value or b"") for r in flooded.everything(TOPICS.verdicts, PARTITION)}
    runs = [offset for offset, body in bodies.items() if body["kind"] == DENIALS]
    assert len(runs) > 2
    body = bodies[runs[1]]
    body["denied"][0]["remember_until"] += 1
    replace(flooded, runs[1], body)
    audit = begun(flooded, full=False)
    assert [(f.kind, f.offset) for f in found(audit)] == [(Kind.LINK, runs[1])]
    assert audit.told()["effective"][DENIALS] == len(runs)


@pytest.mark.parametrize("seed", [4, 11, 18])
def test_a_flooded_log_recomputes_row_by_row(seed: int) -> None:
    flooded = run(seed, faults=(), count=300)
    audit = begun(flooded)
    assert found(audit) == []
    bodies = [orjson.loads(r.value or b"") for r in flooded.everything(TOPICS.verdicts, PARTITION)]
    said = Counter(answer["kind"] for body in bodies if "covers" in body for answer in answers_in(body))
    assert audit.told()["recomputed"]["verdict"] == said["verdict"]


def test_an_id_of_a_row_is_settled_until_it_is_garbage(logs: Logs, at: int) -> None:
    """As long as a lone denial's: the auditor forgets both alike."""
    for row in rows_of(logs, at):
        assert row["remember_until"] >= id_time_ms(row["intent_id"]) + limits.ID_MEMORY_MS
