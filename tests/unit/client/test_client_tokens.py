"""An approve handed to an executor elsewhere: once, in time, by the process that asked, and only where it can be believed."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
from scripted_worker import LANE, World
from signed_client import AGENT, REALM, SignedWorld, published

from harness_stream import token as executor
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.keys import text_of
from harness_stream.client.connect import _token_signer
from harness_stream.client.credentials import Credentials
from harness_stream.client.session import Ask, Session
from harness_stream.client.verdict import Verdict
from harness_stream.core.canonical import arguments_digest
from harness_stream.errors import CallerError, TimedOut
from tests.signed import SignedRealm, seed
from tests.tokens import certificate

GATE = "gate-1"
ARGUMENTS = {"order": 1234}
TIMES = (0, 2**53 - 1)


def credentials(packed=None, **more):
    own = {"mac": text_of(seed(AGENT, "x")), "sign": text_of(seed(AGENT, "e"))}
    gate = {"mac": text_of(seed(GATE, "x")), "sign": text_of(seed(GATE, "e"))}
    if packed is not None:
        gate["certificate"] = text_of(packed)
    public = {"pdp_key": text_of(REALM.pdp_public), "root_key": text_of(REALM.root_public)}
    known = {"agent_id": AGENT, "lane": LANE, "realm": REALM.name, "keys": own, **public}
    return Credentials.model_validate({**known, "others": {GATE: gate}, "enforcer": GATE, **more})


class TokenWorld(SignedWorld):
    """A session whose enforcer `gate-1` is certified, and one approve."""

    def __init__(self, of=None):
        super().__init__(GATE)
        self.of = of or credentials(certificate(REALM, GATE, LANE, TIMES))
        self.wiring = replace(self.wiring, tokens=_token_signer(self.of, REALM.incarnation))
        self.script.begin()
        self.asking = Session(self.of, self.wiring)

    def approved(self, **over):
        future = self.asking.ask(None, "crm.refund", Ask(arguments=ARGUMENTS, deadline_ms=over.pop("deadline_ms", 5_000)))
        record = published(self.asking, self)
        event = {"lane": LANE, "agent_id": AGENT, "action": "crm.refund", "resources": [], "measures": {}}
        self.script.verdict(record, event=event, remember_until=0, **over)
        published(self.asking, self)
        return Verdict(self.asking, future.result(0))

    def verify(self, text, **over):
        asked = {"root": REALM.root_public, "audience": "payments", "action": "crm.refund", "once": None}
        return executor.verify(text, arguments=ARGUMENTS, now_ms=self.clock.now_ms(), **{**asked, **over})


@pytest.fixture
def world():
    return TokenWorld()


def test_a_token_of_an_approve_is_believed_by_its_executor(world):
    verdict = world.approved()
    said = world.verify(verdict.token("payments"))
    assert (said.agent_id, said.enforcer, said.verdict_digest) == (AGENT, GATE, verdict.digest)
    assert said.arguments_digest == arguments_digest(ARGUMENTS)


@pytest.mark.parametrize("first", ["start", "token"])
def test_it_uses_the_approve_up_as_starting_does(world, first):
    verdict = world.approved()
    verdict.start() if first == "start" else verdict.token("payments")
    for use in (verdict.start, lambda: verdict.token("payments")):
        with pytest.raises(CallerError, match="used once"):
            use()


@pytest.mark.parametrize(
    ("valid_s", "deadline_ms", "valid_for_ms", "lasts_ms"),
    [(None, 5_000, 9_000, 5_000), (None, 60_000, 60_000, 30_000), (2, 5_000, 5_000, 2_000), (30, 5_000, 700, 700), (0.5, 400, 900, 400)],
)
def test_it_ends_with_whatever_ends_first(world, valid_s, deadline_ms, valid_for_ms, lasts_ms):
    text = world.approved(deadline_ms=deadline_ms, valid_for_ms=valid_for_ms).token("payments", valid_s)
    assert world.verify(text).not_after_ms == world.clock.now_ms() + lasts_ms
    world.clock.advance(lasts_ms - 1)
    assert world.verify(text)
    world.clock.advance(1)
    with pytest.raises(executor.TokenRefused, match="token_time"):
        world.verify(text)


def test_what_time_has_passed_since_the_approve_is_not_given_again(world):
    verdict = world.approved()
    world.clock.advance(4_000)
    assert world.verify(verdict.token("payments")).not_after_ms == world.clock.now_ms() + 1_000


def test_after_its_validity_there_is_none(world):
    verdict = world.approved()
    world.clock.advance(5_000)
    with pytest.raises(TimedOut, match="run out"):
        verdict.token("payments")


@pytest.mark.parametrize("wrong", [{"valid_s": 0}, {"valid_s": 30.1}, {"valid_s": -1}, {"audience": ""}, {"audience": "x" * 257}])
def test_what_cannot_be_signed_uses_nothing_up(world, wrong):
    verdict = world.approved()
    with pytest.raises(CallerError):
        verdict.token(**{"audience": "payments", **wrong})
    assert verdict.valid


def test_a_forked_process_gets_none(world):
    verdict = world.approved()
    child = os.fork()
    if child == 0:
        try:
            verdict.token("payments")
        except CallerError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_obligations_are_fulfilled_before_it_is_signed(world):
    order = []
    future = world.asking.ask(None, "crm.refund", Ask(arguments=ARGUMENTS, obligations={"mask": order.append}))
    world.script.verdict(published(world.asking, world), obligations={"mask": "iban"})
    published(world.asking, world)
    Verdict(world.asking, future.result(0)).token("payments")
    assert order == ["iban"]


def test_in_an_unsigned_realm_it_says_what_is_missing_and_uses_nothing_up():
    world = World()
    world.script.begin()
    future = world.ask()
    world.script.verdict(world.last_input())
    world.run()
    verdict = Verdict(Session(Credentials(agent_id=AGENT, lane=LANE, dev=True), world.wiring), future.result(0))
    with pytest.raises(CallerError, match="unsigned realm") as refused:
        verdict.token("payments")
    assert "harness keys init" in refused.value.hint
    assert verdict.valid


@pytest.mark.parametrize(
    "of",
    [
        credentials(),
        credentials(certificate(REALM, GATE, LANE, TIMES), enforcer=None),
        credentials(certificate(SignedRealm("default", "recreated"), GATE, LANE, TIMES)),
        credentials(certificate(REALM, "gate-2", LANE, TIMES)),
        credentials(b"none"),
        credentials(certificate(REALM, GATE, LANE, (0, TIMES[0]))),
        credentials(certificate(REALM, GATE, LANE, (TIMES[1], TIMES[1] + 1))),
    ],
    ids=["not certified", "no enforcer", "recreated topics", "another's", "no certificate", "ended", "not begun"],
)
def test_without_a_certified_enforcer_it_says_how_to_get_one(of):
    verdict = TokenWorld(of).approved()
    with pytest.raises(CallerError, match="role `enforcer`") as refused:
        verdict.token("payments")
    assert "harness agents enroll" in refused.value.hint
    assert verdict.valid


def test_a_certificate_is_no_secret_and_keys_stay_hidden():
    shown = repr(credentials(certificate(REALM, GATE, LANE, TIMES)))
    assert text_of(seed(GATE, "e")) not in shown
    assert json.loads(credentials().model_dump_json())["agent_id"] == AGENT
    assert Bound(REALM.name, REALM.incarnation) == REALM.bound
