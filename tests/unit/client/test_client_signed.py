"""A client of a signed realm: what it publishes convinces the worker, and only certified workers' words are obeyed (V6)."""

from __future__ import annotations

import json

import pytest
from scripted_worker import HOME, INCARNATION, LANE, TOPICS, Script, sha
from signed_client import AGENT, REALM, SignedWorld, published

from harness_stream.client.session import Ask
from harness_stream.core.limits import ANSWER_GRACE_MS
from harness_stream.core.notice import Stopped, notice
from harness_stream.errors import CallerError, TimedOut
from harness_stream.ports import Sender
from tests.signed import SignedRealm


@pytest.fixture
def world():
    world = SignedWorld()
    world.script.begin()
    return world


def judged(record, kind, by=AGENT):
    return REALM.verifier().input_authentic(record._replace(timestamp_ms=1), Sender(kind, LANE, REALM.keys(by)))


def test_an_intent_is_signed_and_its_verdict_obeyed(world):
    future = world.ask()
    record = world.last_input()
    assert judged(record, "intent")
    world.script.verdict(record)
    world.run()
    assert future.result(0).decision == "approve"


def test_a_verdict_that_nobody_certified_signed_is_not_obeyed_and_the_right_one_after_it_is(world):
    future, record = world.ask(), world.last_input()
    forger, stranger = Script(world.broker, place=world.script.place), SignedRealm("default", "another incarnation")
    forger.twin().verdict(record)
    body = json.dumps(forger.verdict_body(record)).encode()
    world.broker.append(TOPICS.verdicts, HOME, None, body, stranger.worker().seal_batch(HOME, [sha(body)])[0])
    world.broker.append(TOPICS.verdicts, HOME, None, body, REALM.worker().seal_batch(HOME + 1, [sha(body)])[0])
    world.broker.append(TOPICS.verdicts, HOME, None, body, REALM.worker().seal_batch(HOME, [sha(body + b" ")])[0])
    world.run()
    assert not future.done()
    world.script.verdict(record, "deny")
    world.run()
    assert future.exception(0).verdict.decision == "deny"


def test_a_notice_that_nobody_certified_signed_takes_nothing_back_and_the_right_one_after_it_does(world):
    future = world.ask()
    world.script.verdict(world.last_input())
    world.run()
    answer = future.result(0)
    forger = Script(world.broker, place=world.script.place)
    forger.notice(AGENT)
    body = notice(forger.header, Stopped(AGENT, "killed", 7))
    for stranger in (SignedRealm("another", INCARNATION), SignedRealm("default", "another incarnation")):
        forger.write(body, headers=stranger.worker().seal_batch(HOME, [sha(json.dumps(body).encode())])[0])
    world.run()
    assert not answer.revoked.is_set()
    world.script.notice(AGENT)
    world.run()
    assert answer.revoked.is_set()


def test_a_checkpoint_that_is_not_signed_starts_nobody():
    world = SignedWorld()
    world.script.begin()
    Script(world.broker, place=world.script.place).checkpoint()
    future = world.ask()
    world.script.verdict(world.last_input())
    world.run()
    assert future.result(0).decision == "approve"


def test_who_believes_nothing_of_the_log_is_told_so():
    world = SignedWorld()
    Script(world.broker).begin()
    future = world.ask()
    world.wait(5_000 + ANSWER_GRACE_MS)
    error = future.exception(0)
    assert type(error) is TimedOut
    assert "all 2 records read of its decision log are not authentic" in error.message
    assert "credentials" in error.hint


def mandate(session, by, **more):
    clock = session.enforcer._clock
    fields = {"v": 1, "type": "mandate", "realm": "default", "by": by, "agent_id": AGENT, "chain_id": "case-1"}
    own = {"mandate_id": session._ids.new(), "expires_at": clock.now_ms() + 60_000}
    return session.declare({**fields, **own, **more})


def test_a_mandate_carries_its_signers_signature():
    world = SignedWorld("orchestrator-1")
    session = world.session()
    for by in (AGENT, "orchestrator-1"):
        mandate(session, by)
        record = published(session, world)
        assert judged(record, "mandate", by)
        assert not judged(record, "intent", by)
        assert dict(record.headers)["hs-alg"] == b"ed25519"


def test_a_mandate_of_somebody_whose_keys_are_not_here_is_refused_before_it_is_published():
    world = SignedWorld()
    with pytest.raises(CallerError, match="no keys of it") as refused:
        mandate(world.session(), "orchestrator-1")
    assert "harness mandates sign" in refused.value.hint
    assert world.inputs() == []


def test_an_outcome_is_vouched_for_by_who_reports_it():
    world = SignedWorld("enforcer-1")
    session = world.session(enforcer="enforcer-1")
    world.script.begin()
    future = session.ask(None, "crm.read", Ask())
    world.script.verdict(published(session, world))
    published(session, world)
    session.report(future.result(0), "done")
    record = published(session, world)
    assert json.loads(record.value)["by"] == "enforcer-1"
    assert judged(record, "outcome", "enforcer-1")
    assert not judged(record, "outcome", AGENT)
