"""Who waits finds his own denial in a run's record, and what stands beside it disturbs nobody."""

import json

import pytest
from scripted_worker import RULES, Script, World

from harness_stream.core.limits import ANSWER_GRACE_MS
from harness_stream.core.reasons import EXPLAIN, Deny
from harness_stream.core.records import Denials
from harness_stream.errors import Denied, TimedOut

JUNK = [None, True, 7, -1, 0.5, "row", "", [], {}, [1, 2], {"intent_id": []}, {"intent_id": {}}, {"offset": 3}, [[]]]


@pytest.fixture
def world():
    world = World()
    world.script.begin()
    return world


def asked(world, count):
    """So many who wait, and their inputs."""
    futures = [world.ask() for _ in range(count)]
    return futures, world.inputs()[-count:]


def run_of(world, rows, inputs):
    world.script.denials(rows, inputs[-1].offset)
    world.run()


def denial(future):
    error = future.exception(0)
    assert type(error) is Denied, error
    return error


def test_each_who_waits_is_denied_with_the_reason_and_detail_of_his_own_row(world):
    futures, inputs = asked(world, 3)
    codes = [(Deny.LATE, "9 ms after append"), (Deny.RATE, "lane acme: more than 1"), (Deny.OVERLOAD, None)]
    rows = [world.script.denied(record, *code) for record, code in zip(inputs, codes, strict=True)]
    offset = world.script.denials(rows, inputs[-1].offset)
    world.run()
    for future, record, (code, detail) in zip(futures, inputs, codes, strict=True):
        error = denial(future)
        assert [(reason.code, reason.detail) for reason in error.reasons] == [(code, detail)]
        assert error.hint == EXPLAIN[code]
        assert (error.verdict.decision, error.verdict.offset) == ("deny", offset)
        assert error.verdict.intent_id == json.loads(record.value)["intent_id"]
        assert not error.verdict.valid


def test_what_the_script_writes_is_what_workers_write(world):
    _, inputs = asked(world, 2)
    rows = [world.script.denied(record) for record in inputs]
    said = {"rules": RULES, "decided_at": 1, "engine": "e", "denied": rows}
    Denials.model_validate({**world.script.linked("denials", inputs[-1].offset), **said})


def test_the_next_answer_counts_behind_a_run(world):
    futures, inputs = asked(world, 3)
    run_of(world, [world.script.denied(record) for record in inputs[:2]], inputs[:2])
    world.script.verdict(inputs[2])
    world.run()
    assert [denial(future).reasons[0].code for future in futures[:2]] == ["late", "late"]
    assert futures[2].result(0).decision == "approve"


def test_rows_of_others_disturb_nobody(world):
    [future], [record] = asked(world, 1)
    own = world.script.denied(record, offset=record.offset + 2)
    others = [{**own, "offset": record.offset + n, "intent_id": f"other-{n}", "intent_digest": "0" * 64} for n in (0, 1, 3)]
    world.script.denials([*others[:2], own, others[2]], record.offset + 3)
    world.run()
    assert denial(future).reasons[0].code == "late"


@pytest.mark.parametrize(
    "wrong",
    [{"intent_digest": "1" * 64}, {"arguments_digest": "1" * 64}, {"enforcer_nonce": "1" * 32}, {"agent_id": "another"}, {"intent_digest": None}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_row_under_his_id_about_something_else_is_not_his_answer(world, wrong):
    [future], [record] = asked(world, 1)
    run_of(world, [{**world.script.denied(record), **wrong}], [record])
    assert not future.done()
    world.wait(5_000 + ANSWER_GRACE_MS)
    assert isinstance(future.exception(0), TimedOut)


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_a_row_that_cannot_be_read_raises_nothing_and_hides_nobodys_answer(world, junk):
    futures, inputs = asked(world, 2)
    rows = [junk, world.script.denied(inputs[0]), junk, world.script.denied(inputs[1], Deny.RATE), junk]
    run_of(world, rows, inputs)
    assert [denial(future).reasons[0].code for future in futures] == ["late", "rate"]


@pytest.mark.parametrize("field", ["agent_id", "intent_digest", "arguments_digest", "enforcer_nonce", "t", "code", "remember_until"])
def test_a_row_that_lacks_a_field_answers_nobody(world, field):
    futures, inputs = asked(world, 2)
    rows = [world.script.denied(record) for record in inputs]
    del rows[0][field]
    run_of(world, rows, inputs)
    assert not futures[0].done()
    assert denial(futures[1]).reasons[0].code == "late"


@pytest.mark.parametrize("rows", [*JUNK, {"intent_id": "intent-1"}], ids=repr)
def test_rows_that_are_none_answer_nobody(world, rows):
    [future], inputs = asked(world, 1)
    run_of(world, rows, inputs)
    assert not future.done()


@pytest.mark.parametrize("code", JUNK, ids=repr)
def test_a_reason_that_cannot_be_read_is_a_denial_all_the_same(world, code):
    [future], [record] = asked(world, 1)
    run_of(world, [world.script.denied(record, code, code)], [record])
    assert denial(future).verdict.decision == "deny"


def test_a_void_run_denies_nobody(world):
    [future], [record] = asked(world, 1)
    former = world.script.twin()
    successor = Script(world.broker, writer="b" * 32, place=world.script.place)
    successor.claim("crash")
    former.denials([former.denied(record)], record.offset)
    world.run()
    assert not future.done()
    successor.verdict(record)
    world.run()
    assert future.result(0).decision == "approve"
