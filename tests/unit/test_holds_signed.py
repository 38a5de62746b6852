"""Approvers in a signed realm: what their credentials file says counts, and nothing else does (PROTOCOL §8, §9)."""

import json
from contextlib import contextmanager

import pytest
from hold_world import ALWAYS, INCARNATION, PARTITIONS, REALM, TOPICS, HoldWorld
from signed import SignedRealm
from typer.testing import CliRunner

from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import SignedInputs
from harness_stream.cli import holds
from harness_stream.cli.main import app
from harness_stream.core import limits
from harness_stream.core.lanes import partition_of
from harness_stream.errors import CallerError, ConfigError, HarnessError

SIGNED = SignedRealm(REALM, INCARNATION)
HOME = partition_of("acme", PARTITIONS)
OVER_MS = limits.HOLD_MS_DEFAULT + 1_000


@pytest.fixture
def world():
    with HoldWorld(signed=SIGNED).worker() as world:
        yield world


@pytest.fixture
def run(world, monkeypatch, tmp_path):
    """Run `harness holds approve | deny PLACE` as whom a credentials file says; an error of ours is raised."""
    monkeypatch.setenv("HARNESS_DEV", "0")
    monkeypatch.chdir(tmp_path)

    @contextmanager
    def realm(speaker):
        yield world.realm(signer=speaker.signer(INCARNATION))

    monkeypatch.setattr(holds, "_realm", realm)

    def run(decision, place, who, *words, **over):
        path = tmp_path / f"{who}.json"
        path.write_text(json.dumps(SIGNED.credentials(who, **over)))
        path.chmod(0o600)
        told = ("--credentials", str(path), "--reason", "seen", "--yes")
        done = CliRunner().invoke(app, ["holds", decision, place, *told, *words])
        if isinstance(done.exception, HarnessError):
            raise done.exception
        return done.exit_code, done.output

    return run


def test_an_approver_says_yes_with_its_own_keys(world, run):
    hold = world.ask()
    assert hold["decision"] == "hold"
    assert run("approve", hold["place"], "grace")[0] == 0
    verdict = world.decided(HOME)[-1]
    assert (verdict["decision"], verdict["approval"]["by"]) == ("approve", "grace")
    record = world.broker.read(TOPICS.intents, HOME, 1, 1)[0]
    assert dict(record.headers)["hs-alg"] == b"ed25519"


def test_a_no_too(world, run):
    hold = world.ask()
    assert run("deny", hold["place"], "grace")[0] == 0
    assert world.decided(HOME)[-1]["reasons"][0] == {"code": "hold_denied", "detail": "grace"}


@pytest.mark.parametrize("who", ["agent-1", "olga", "boss", "gone"])
def test_whoever_may_not_is_told_before_anything_is_published(world, run, who):
    hold, inputs = world.ask(), world.broker.bounds(TOPICS.intents, HOME)[1]
    with pytest.raises(CallerError, match="nothing was published"):
        run("approve", hold["place"], who)
    assert world.broker.bounds(TOPICS.intents, HOME)[1] == inputs


@pytest.mark.parametrize("who", ["agent-1", "olga", "boss", "gone"])
def test_a_worker_refuses_them_whatever_they_sign(world, who):
    hold = world.ask()
    refused = world.answer_raw(hold, who)
    assert (refused["kind"], refused["reason"]) == ("ack", "not_approver")


def test_nor_the_enforcer_that_spoke(world):
    hold = world.ask(by="gate")
    assert world.answer_raw(hold, "gate")["reason"] == "not_approver"
    assert world.answer_raw(hold, "grace")["decision"] == "approve"


def forgeries():
    """Name → a signer that is not grace's in this realm."""
    mine = {"grace": SIGNED.speaker("grace")}
    bound, pdp = SIGNED.bound, SIGNED.pdp_public
    return {
        "the agent's keys": SignedInputs(bound, pdp, {"grace": SIGNED.speaker("agent-1")}),
        "another realm": SignedInputs(Bound("other", INCARNATION), pdp, mine),
        "recreated topics": SignedInputs(Bound(REALM, "i2.v2"), pdp, mine),
    }


@pytest.mark.parametrize("name", forgeries())
def test_a_forged_yes_is_garbage_and_the_hold_stays_open(world, name):
    hold = world.ask()
    skip = world.answer(*world.send(world.approval(hold, "grace", "approve"), signer=forgeries()[name]))
    assert (skip["kind"], skip["offsets"][0]["reason"]) == ("skip", "not_authentic")
    assert world.answer_raw(hold, "grace")["decision"] == "approve"


def test_a_yes_that_is_copied_into_another_lane_is_garbage(world):
    """Signed for the agent's lane; the same bytes about an agent of another lane are somebody else's statement."""
    hold, said = world.ask(), None
    said = world.approval(hold, "grace", "approve")
    skip = world.answer(*world.send(said, signer=Rebound(SIGNED.inputs("grace"), "globex")))
    assert (skip["kind"], skip["offsets"][0]["reason"]) == ("skip", "not_authentic")


class Rebound:
    """Seals for one lane whatever lane is asked for."""

    def __init__(self, signer, lane):
        self.signer, self.lane = signer, lane

    def seal_input(self, topic, _lane, value, kind, by, **how):
        return self.signer.seal_input(topic, self.lane, value, kind, by, **how)


def test_who_uses_keys_that_ended_is_told_why(world, run):
    ended = [k.model_copy(update={"not_after": 1}).model_dump() for k in SIGNED.keys("ada", **ALWAYS)]
    world.put("identity", "ada", {"agent_id": "ada", "tenant": "people", "roles": ["approver"], "keys": ended})
    hold = world.ask()
    code, text = run("approve", hold["place"], "ada")
    assert code == 3
    assert "your answer changed nothing, not_authentic" in text
    assert "harness agents enroll" in text
    assert world.answer_raw(hold, "grace")["decision"] == "approve"


def test_expiry_denies(world, run):
    hold = world.ask()
    world.clock.ahead_ms += OVER_MS
    code, text = run("approve", hold["place"], "grace")
    assert (code, "has expired, which denied it" in text) == (7, True)


def test_it_is_decided_on_what_the_chain_is_now(world, run):
    hold = world.ask()
    world.heat("agent-1")
    assert run("approve", hold["place"], "grace")[0] == 5


def test_a_file_is_of_one_identity(world, run):
    hold = world.ask()
    with pytest.raises(CallerError, match="is of `grace`, not of `ada`"):
        run("approve", hold["place"], "grace", "--by", "ada")


def test_a_file_without_keys_signs_nothing(run):
    with pytest.raises(ConfigError, match="have to be signed"):
        run("approve", "0/1", "grace", keys=None)
