"""Actions marked `nonrepudiable`: an Ed25519 signature besides the MAC, which others than the PDP can check (PROTOCOL §9);
and what the honest sender of a record that is not authentic is told."""

import random

import orjson
import pytest
from hold_world import INCARNATION, PARTITIONS, REALM, TOPICS, HoldWorld

from harness_stream import Credentials, Denied, HarnessSync
from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.adapters.signing.framing import INPUT_DOMAIN, input_frame, with_value
from harness_stream.adapters.signing.inputs import also_of
from harness_stream.adapters.signing.keys import public_of, signed_by
from harness_stream.cli.log_inputs import Inputs
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.core.join import empty_tables
from harness_stream.core.lanes import partition_of
from harness_stream.core.model import TABLES
from harness_stream.core.reasons import EXPLAIN, Garbage
from harness_stream.ports import LogRecord, Sender
from harness_stream.wire.cloudevents import signature_of
from tests.signed import SignedRealm
from tests.unit.signing.test_signed import INTENTS, LANE, MUTATIONS, VALUE, VERIFIER, T, mutated, sealed, with_header
from tests.unit.signing.test_signed import REALM as KEYS

SIGNED = SignedRealm(REALM, INCARNATION)
HOME = partition_of("acme", PARTITIONS)


def both(kind="intent", by="a", lane=LANE, value=VALUE, realm=KEYS):
    headers = realm.inputs(by).seal_input(INTENTS, lane, value, kind, by, nonrepudiable=True)
    return LogRecord(INTENTS, 3, 0, lane.encode(), value, T, headers)


def marked(kind="intent", keys=None, lane=LANE):
    return Sender(kind, lane, KEYS.keys("a") if keys is None else keys, nonrepudiable=True)


def test_a_mac_alone_is_not_enough_and_both_are():
    assert not VERIFIER.input_authentic(sealed(), marked())
    assert VERIFIER.input_authentic(both(), marked())
    assert VERIFIER.input_authentic(both(), marked()._replace(nonrepudiable=False)), "more than is asked for is taken"


def test_anybody_can_hold_it_against_its_sender():
    kid, sig = also_of(signature_of(both().headers).also)
    public = public_of(KEYS.speaker("a").sign)
    assert signed_by(public, sig, with_value(input_frame(INPUT_DOMAIN, KEYS.bound, INTENTS, LANE), VALUE))
    assert kid in {key.kid for key in KEYS.keys("a") if key.alg == "ed25519"}


def test_nobody_elses_signature_stands_besides_a_mac():
    other = dict(both(by="b").headers)["hs-also"]
    assert not VERIFIER.input_authentic(with_header(both(), "hs-also", other), marked())
    assert not VERIFIER.input_authentic(with_header(both(), "hs-also", other), marked()._replace(nonrepudiable=False))


@pytest.mark.parametrize("over", [{"lane": "lane-2"}, {"value": VALUE + b" "}, {"realm": SignedRealm("acme", "a.c")}])
def test_a_signature_for_elsewhere_does_not(over):
    other = dict(both(**over).headers)["hs-also"]
    assert not VERIFIER.input_authentic(with_header(both(), "hs-also", other), marked())


def test_keys_that_ended_do_not():
    keys = [k.model_copy(update={"not_after": T - 1}) if k.alg == "ed25519" else k for k in KEYS.keys("a")]
    assert VERIFIER.input_authentic(sealed(), marked(keys=tuple(keys))._replace(nonrepudiable=False))
    assert not VERIFIER.input_authentic(both(), marked(keys=tuple(keys)))


@pytest.mark.parametrize("kind", ["mandate", "approval", "outcome"])
def test_other_kinds_carry_one_signature(kind):
    one = sealed(kind)
    extra = [*one.headers, ("hs-also", dict(both().headers)["hs-also"])]
    assert not VERIFIER.input_authentic(one._replace(headers=extra), Sender(kind, LANE, KEYS.keys("a")))


@pytest.mark.parametrize("asked", [True, False])
def test_no_mutation_is_taken(asked):
    right, rng = both(), random.Random(asked)
    for number in range(MUTATIONS):
        record = mutated(right, rng)
        if not asked and not dict(record.headers).get("hs-also"):
            continue  # then it is an intent with a MAC, and rightly taken
        assert not VERIFIER.input_authentic(record, marked()._replace(nonrepudiable=asked)), number


# --- Why ---


def ended(kind):
    return tuple(key.model_copy(update={kind: T - 1 if kind == "not_after" else T + 1}) for key in KEYS.keys("a"))


@pytest.mark.parametrize(
    ("record", "who", "why"),
    [
        (sealed()._replace(headers=()), marked(), "intent, carries `hs-alg: x25519-hmac-sha256`, and this says what vouches"),
        (sealed("mandate"), marked(), "x25519-hmac-sha256`, and this says another one"),
        (sealed(), marked(keys=()), "no keys of it are known"),
        (sealed(by="b"), marked(), "its row has no x25519 key `"),
        (sealed(), marked(keys=ended("not_after")), "has ended"),
        (sealed(), marked(keys=ended("not_before")), "does not count yet"),
        (sealed(), marked(), "this action is nonrepudiable, and no valid Ed25519"),
        (both(), marked("outcome"), "more vouches for it than for its kind, outcome"),
        (with_header(both(), "hs-also", b"AAAA"), marked()._replace(nonrepudiable=False), "it says that it is signed, and no"),
        (sealed(lane="x"), marked(), "another lane than `lane-1`, another realm"),
        (both()._replace(value=VALUE + b" "), marked(), "it was signed for other bytes"),
        (sealed(lane="x"), Sender("intent", LANE, KEYS.keys("a")), "another lane than `lane-1`, another realm"),
        (with_header(sealed(), "hs-kid", b"\x1b[2J"), marked(), "has no x25519 key `of no form`"),
    ],
)
def test_the_honest_sender_is_told(record, who, why):
    assert not VERIFIER.input_authentic(record, who)
    assert why in VERIFIER.why_refused(record, who)


def test_and_where_to_name_the_action_so_that_it_is_signed():
    assert "`nonrepudiable` in the credentials" in EXPLAIN[Garbage.NOT_AUTHENTIC]


# --- Held against its sender, by somebody who was not there ---


def test_a_reader_without_the_pdps_key_can_say_what_a_signature_is_worth():
    reader, known = KEYS.verifier(judges=False), Sender("intent", LANE, KEYS.keys("a"))
    assert reader.signature_worth(both(), known) == "right"
    assert reader.signature_worth(sealed("mandate"), known._replace(kind="mandate")) == "right"
    assert reader.signature_worth(sealed(), known) is None, "a MAC proves nothing to others"
    assert reader.signature_worth(both()._replace(value=VALUE + b" "), known) == "wrong"
    assert reader.signature_worth(both(), known._replace(lane="lane-2")) == "wrong"
    assert reader.signature_worth(both(), known._replace(keys=())) == "no such key"


def test_inputs_are_told_beside_the_answers_to_them(world):
    decided(world, "email.send")
    decided(world, "crm.read", nonrepudiable=["crm.*"])
    tables = empty_tables()
    for record in world.broker.read(TOPICS.identity, 0, 0, 100):
        tables["identity"].put(record.key.decode(), record.value, record.offset)
    verifier = SIGNED.verifier(judges=False)
    inputs = Inputs(MemoryReader(world.broker), TOPICS.intents, HOME, world.clock, verifier, tables)
    told = [found for body in world.decided(HOME) if (found := inputs.behind(body)) is not None]
    assert [found["signature"] for found in told] == [None, "right"]
    assert [orjson.loads(found["value"])["action"] for found in told] == ["email.send", "crm.read"]
    assert "hs-also" in told[1]["headers"]


# --- Where it is marked, with a real worker ---


@pytest.fixture
def world():
    world = HoldWorld(signed=SIGNED)
    row = {"subject": "tool:crm.*", "operation": "read", "object_class": "customer", "nonrepudiable": True}
    world.put("classification", "tool:crm.*", row)
    with world.worker():
        yield world


def decided(world, action, **more):
    """What an agent's own process is answered."""
    realm = ClientRealm(REALM, INCARNATION, PARTITIONS, TOPICS)
    ports = MemoryReader(world.broker), MemoryWriter(world.broker), world.clock
    wiring = Wiring(realm, *ports, SIGNED.inputs("agent-1"), SIGNED.verifier(judges=False))
    said = SIGNED.credentials("agent-1", lane="acme", workload_id="w-1", prefix="t", **more)
    with HarnessSync.connect(Credentials.model_validate(said), wiring=wiring) as harness:
        return harness.chain().decide(action)


def test_an_intent_for_a_marked_action_without_a_signature_is_refused_with_the_reason(world):
    with pytest.raises(Denied) as denied:
        decided(world, "crm.read")
    assert denied.value.reasons[0].code == "not_authentic"
    assert "nonrepudiable" in denied.value.reasons[0].detail
    assert decided(world, "email.send").decision == "approve", "an action that nobody marked needs none"


@pytest.mark.parametrize("signs", [["crm.read"], ["crm.*"], ["*"]])
def test_credentials_say_what_is_signed(world, signs):
    assert decided(world, "crm.read", nonrepudiable=signs).decision == "approve"
    record = world.broker.read(TOPICS.intents, HOME, 0, 1)[0]
    assert also_of(signature_of(record.headers).also)


def test_only_tools_are_marked():
    with pytest.raises(ValueError, match="nonrepudiable"):
        TABLES["classification"].model_validate_json(orjson.dumps({"subject": "resource:crm://*", "nonrepudiable": True}))
