"""Every kind of input, wrongly vouched for in every way: garbage at its own offset, with the reason, counted, a security
event, and nobody else waits (PROTOCOL §9)."""

import json
from collections import Counter

import pytest
from hold_world import ALWAYS, INCARNATION, PARTITIONS, REALM, TOPICS, HoldWorld

from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import SignedInputs
from harness_stream.core.lanes import partition_of
from harness_stream.runtime.telemetry import NullMetrics
from tests.signed import SignedRealm

SIGNED = SignedRealm(REALM, INCARNATION)
HOME = partition_of("acme", PARTITIONS)
ELSEWHERE = "other bytes, another lane than `acme`, another realm or other log topics"
KINDS = ("intent", "outcome", "mandate", "approval")


class Counted(NullMetrics):
    def __init__(self):
        self.events = Counter()

    def count(self, name, amount=1, **labels):
        if name == "harness_security_events_total":
            self.events[labels["reason"]] += amount


@pytest.fixture(scope="module")
def world():
    world = HoldWorld(signed=SIGNED)
    world.metrics = Counted()
    with world.worker():
        yield world


def signer(by, *, keys=None, bound=SIGNED.bound, pdp=SIGNED.pdp_public):
    return SignedInputs(bound, pdp, {by: keys or SIGNED.speaker(by)})


WRONG = {
    "another's key": (lambda by: signer(by, keys=SIGNED.speaker("mallory")), "has no"),
    "another realm": (lambda by: signer(by, bound=Bound("other", INCARNATION)), ELSEWHERE),
    "another incarnation": (lambda by: signer(by, bound=Bound(REALM, "i2.v2")), ELSEWHERE),
    "nothing": (None, "carries `hs-alg:"),
}


def body_of(world, kind, by):
    """An event of this kind, right but for what vouches for it."""
    own = {"v": 1, "type": kind, "realm": REALM, "by": by, "agent_id": "agent-1"}
    new = world._ids.new()
    return own | {
        "intent": lambda: {
            "intent_id": new,
            "workload_id": "w-1",
            "action": "crm.read",
            "arguments_digest": "0" * 64,
            "enforcer_nonce": "0" * 32,
        },
        "outcome": lambda: {"outcome_id": new, "intent_id": new, "verdict_digest": "0" * 64, "status": "done"},
        "mandate": lambda: {"mandate_id": new, "chain_id": new, "expires_at": world.clock.now_ms() + 60_000},
        "approval": lambda: {"approval_id": new, "hold_digest": "0" * 64, "hold_offset": 0, "decision": "approve"},
    }[kind]()


def refused(world, body, make, lane="acme"):
    """The reason at its offset; the next honest intent is answered."""
    before = world.metrics.events["not_authentic"]
    if make is None:
        value = json.dumps(body).encode()
        offset = world.broker.append(TOPICS.intents, HOME, b"acme", value, ())
    else:
        _, offset = world.send(body, signer=Elsewhere(make(body["by"]), lane))
    skip = world.answer(HOME, offset)
    assert skip["kind"] == "skip"
    assert world.ask("crm.read")["decision"] == "approve"
    world.until(lambda: world.metrics.events["not_authentic"] > before)
    (told,) = [found for found in skip["offsets"] if found["offset"] == offset]
    assert told["reason"] == "not_authentic"
    return told["detail"]


class Elsewhere:
    """Seals for a lane of its own choice."""

    def __init__(self, inner, lane):
        self.inner, self.lane = inner, lane

    def seal_input(self, topic, _lane, value, kind, by):
        return self.inner.seal_input(topic, self.lane, value, kind, by)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("kind", KINDS)
def test_who_did_not_write_it_is_told_at_its_offset(world, kind, wrong):
    make, why = WRONG[wrong]
    by = {"mandate": "boss", "approval": "grace"}.get(kind, "agent-1")
    detail = refused(world, body_of(world, kind, by), make)
    assert f"by `{by}`" in detail
    assert why in detail


@pytest.mark.parametrize("kind", KINDS)
def test_another_lane(world, kind):
    assert ELSEWHERE in refused(world, body_of(world, kind, "agent-3"), signer, lane="globex")


@pytest.mark.parametrize("kind", KINDS)
def test_somebody_whom_no_row_knows(world, kind):
    assert "no keys of it are known" in refused(world, body_of(world, kind, "nobody"), signer)


@pytest.mark.parametrize(("field", "at_ms", "why"), [("not_after", 1, "has ended"), ("not_before", 2**50, "not count yet")])
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_does_not_count_now(world, kind, field, at_ms, why):
    by = f"late-{field}"
    keys = [k.model_copy(update={field: at_ms}).model_dump() for k in SIGNED.keys(by, **ALWAYS)]
    world.put("identity", by, {"agent_id": by, "tenant": "acme", "keys": keys})
    world.until(lambda: world._worker.tables["identity"].row(by))
    assert why in refused(world, body_of(world, kind, by), signer)
