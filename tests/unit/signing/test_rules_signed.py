"""Rule bundles in a signed realm: workers decide by what a certified rule-pusher signed, and by nothing else (PROTOCOL §9)."""

import random

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hold_world import INCARNATION, PARTITIONS, REALM, RULES, SECOND, TOPICS, HoldWorld

from harness_stream.adapters.kafka import admin
from harness_stream.adapters.memory.broker import MemoryBroker
from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier, keyring
from harness_stream.adapters.signing.certificate import certify
from harness_stream.adapters.signing.keys import public_of
from harness_stream.adapters.signing.pairs import operator_signer, rules_signer, verifier_of
from harness_stream.adapters.signing.rules import SignedRules
from harness_stream.cli import rules
from harness_stream.cli.chain import windows_in_force
from harness_stream.cli.log_verify import bundles_in
from harness_stream.cli.rules import Trust, publish, report_of, status_text
from harness_stream.config import Settings
from harness_stream.core.lanes import partition_of
from harness_stream.core.rules.compile import load
from harness_stream.errors import ConfigError, ProtocolError
from harness_stream.ports import LogRecord
from harness_stream.wire.decisions import digest_of, encode_body
from harness_stream.wire.rules_topic import Pushed, active_key, bundle_key, newest_active
from tests.signed import SignedRealm, seed
from tests.unit.signing.test_keyring import BOUND, folder, settings
from tests.unit.signing.test_mutations import CHECKPOINT
from tests.unit.signing.test_signed import mutated

__all__ = ["folder"]

SIGNED = SignedRealm(REALM, INCARNATION)
VERIFIER = SIGNED.verifier()
HOME = partition_of("acme", PARTITIONS)
BUNDLE = load(RULES).bundle
ACTIVE = Pushed("d" * 64, 7).encode()


def record(key=b"active/production", value=ACTIVE, signer=None, topic=TOPICS.rules):
    return LogRecord(TOPICS.rules, 0, 5, key, value, 1, (signer or SIGNED.rules()).seal_rules(topic, key, value))


class BareWorker:
    """A worker's key, by which rules are signed."""

    def seal_rules(self, topic, key, value):
        private = Ed25519PrivateKey.from_private_bytes(seed("worker", "w"))
        as_worker = certify(SIGNED.root, SIGNED.bound, public_of(private))
        return SignedRules(SIGNED.bound, private, as_worker).seal_rules(topic, key, value)


# --- One record ---


def test_what_a_certified_rule_pusher_signed_is_believed():
    assert VERIFIER.why_rules_refused(record()) == ""
    assert VERIFIER.why_rules_refused(record(bundle_key("d" * 64), BUNDLE)) == ""


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (record(signer=UnsignedSigner()), "it is not signed"),
        (record()._replace(headers=[("hs-alg", b"none")]), "it is not signed"),
        (record(signer=BareWorker()), "certified its key for no rules here"),
        (record(signer=SignedRealm("other", INCARNATION).rules()), "certified its key for no rules here"),
        (record(signer=SignedRealm(REALM, "i2.v2").rules()), "certified its key for no rules here"),
        (record()._replace(key=b"active/another"), "signed something else"),
        (record(topic="u.rules"), "signed something else"),
        (record()._replace(value=Pushed("e" * 64, 7).encode()), "signed something else"),
        (record(signer=SIGNED.rules("r", (1, 6))), "certified for revisions 1 to 6"),
    ],
)
def test_nothing_else_is(wrong, why):
    assert why in VERIFIER.why_rules_refused(wrong)


def test_another_roots_rule_pusher_is_nobody():
    stranger = SignedRealm(REALM, INCARNATION)
    stranger.root = Ed25519PrivateKey.from_private_bytes(seed("another root"))
    assert "no rules here" in VERIFIER.why_rules_refused(record(signer=stranger.rules()))


def test_no_mutation_is_believed():
    right, rng = record(), random.Random(4)
    for number in range(1_000):
        changed = mutated(right, rng)
        assert VERIFIER.why_rules_refused(changed), number


# --- A worker ---


@pytest.fixture
def world():
    with HoldWorld(signed=SIGNED).worker() as world:
        world.ask("crm.read")
        yield world


def told(world):
    """What the newest checkpoint says of pushed sets."""
    return orjson.loads(world.broker.read(TOPICS.heads, HOME, 0, 100_000)[-1].value)["next_rules"]


def unusable(world):
    return world.until(lambda: (found := told(world)) and found["state"] == "unusable" and found)


@pytest.mark.parametrize(
    ("signer", "why"),
    [
        (UnsignedSigner(), "it is not signed"),
        (SignedRealm("other", INCARNATION).rules(), "no rules here"),
        (BareWorker(), "no rules here"),
        (SIGNED.rules("r", (1, 1)), "certified for revisions 1 to 1"),
    ],
)
def test_the_running_set_stays_and_the_reason_is_told(world, signer, why):
    world.push(SECOND, 2, signer)
    found = unusable(world)
    assert found["revision"] is None
    assert why in found["detail"]
    world.ask("crm.read")
    assert [body["rules"]["revision"] for body in world.decided(HOME) if body["kind"] == "switch"] == [1]
    heads = {HOME: orjson.loads(world.broker.read(TOPICS.heads, HOME, 0, 100_000)[-1].value)}
    report = report_of("production", Pushed(load(RULES).digest, 1), heads)
    assert report["ok"] is False
    assert why in status_text(report)


def test_a_push_that_is_signed_comes_in_force_and_ends_the_complaint(world):
    world.push(SECOND, 9, UnsignedSigner())
    unusable(world)
    world.push(SECOND, 2)
    world.until(lambda: [b for b in world.decided(HOME) if b["kind"] == "switch"][1:])
    world.until(lambda: told(world) is None)
    assert world.ask()["reasons"][0]["rule"] == "export"


def test_an_unsigned_bundle_under_a_signed_activation_is_no_bundle(world):
    data = load(SECOND).bundle
    digest = load(SECOND).digest
    world.broker.append(TOPICS.rules, 0, bundle_key(digest), data)
    key, value = active_key("production"), Pushed(digest, 2, now=True).encode()
    world.broker.append(TOPICS.rules, 0, key, value, SIGNED.rules().seal_rules(TOPICS.rules, key, value))
    assert "is not in the rules topic" in unusable(world)["detail"]


def test_an_auditor_takes_no_bundle_that_nobody_signed(world):
    world.push(SECOND, 2, UnsignedSigner())
    windows = bundles_in(MemoryReader(world.broker), TOPICS, SIGNED.verifier(judges=False))
    assert windows(load(RULES).digest) is not None
    assert windows(load(SECOND).digest) is None


def test_a_chain_is_not_shown_by_a_bundle_that_nobody_signed(world):
    """Which one is asked for comes from Redis, which carries no signature."""
    world.push(SECOND, 2, UnsignedSigner())
    ports = MemoryReader(world.broker), TOPICS.rules
    assert windows_in_force(*ports, load(RULES).digest, SIGNED.verifier(judges=False))
    with pytest.raises(ProtocolError, match="is not in"):
        windows_in_force(*ports, load(SECOND).digest, SIGNED.verifier(judges=False))
    assert windows_in_force(*ports, load(SECOND).digest, UnsignedVerifier())


# --- The command ---


class Topic:
    """A rules topic in memory, and whoever pushes to it."""

    def __init__(self):
        self.clock = HoldWorld().clock
        self.settings = Settings()
        self.broker = MemoryBroker({"harness.rules": 1}, self.clock.now_ms)

    def push(self, trust, **more):
        ports = MemoryReader(self.broker), MemoryWriter(self.broker), self.clock
        return publish(load(RULES), self.settings, *ports, trust=trust, **more)

    def believed(self, verifier):
        records = self.broker.read("harness.rules", 0, 0, 100)
        return [(r.key, r.value) for r in records if not verifier.why_rules_refused(r)]


def trust_of(folder):
    own = settings(folder)
    return Trust(verifier_of(own, BOUND.incarnation).why_rules_refused, rules_signer(own, BOUND.incarnation).seal_rules)


def test_a_push_signs_bundle_and_activation(folder):
    topic, trust = Topic(), trust_of(folder)
    pushed, changed = topic.push(trust)
    assert (pushed.revision, changed) == (1, True)
    found = topic.believed(verifier_of(settings(folder), BOUND.incarnation))
    assert [key for key, _ in found] == [bundle_key(pushed.digest), b"active/production"]
    assert topic.push(trust) == (pushed, False)


def test_what_stood_there_unsigned_is_pushed_again_signed(folder):
    topic, trust = Topic(), trust_of(folder)
    assert topic.push(None)[1]
    pushed, changed = topic.push(trust)
    assert changed
    found = topic.believed(verifier_of(settings(folder), BOUND.incarnation))
    assert newest_active(found, "production") == pushed


def test_an_unsigned_realm_is_as_it_was():
    topic = Topic()
    topic.push(None)
    assert [r.headers for r in topic.broker.read("harness.rules", 0, 0, 9)] == [(), ()]
    assert len(topic.believed(UnsignedVerifier())) == 2


def test_who_has_no_rule_pushers_key_is_told_what_to_do(folder):
    (folder / "rules.crt").unlink()
    with pytest.raises(ConfigError, match=r"rules\.crt` is missing") as refused:
        rules_signer(settings(folder), BOUND.incarnation)
    assert "--role rules" in refused.value.hint
    keyring.certify_role(folder, BOUND, "rules")
    with pytest.raises(ConfigError, match="recreated") as refused:
        rules_signer(settings(folder), "t1.t3")
    assert "--role rules" in refused.value.hint


def test_certified_for_some_revisions_it_pushes_no_others(folder):
    """What no worker would take is not written, and nobody is told that it was pushed."""
    keyring.certify_role(folder, BOUND, "rules", (5, 9))
    topic, trust = Topic(), trust_of(folder)
    with pytest.raises(ConfigError, match="certified for revisions 5 to 9; nothing was pushed") as refused:
        topic.push(trust)
    assert "--role rules" in refused.value.hint
    assert topic.broker.read("harness.rules", 0, 0, 9) == []
    assert topic.push(trust, in_force=lambda: 4)[0].revision == 5


def test_a_certificate_for_some_revisions_counts_in_no_others(folder):
    keyring.certify_role(folder, BOUND, "rules", (5, 9))
    topic = Topic()
    topic.push(Trust(seal=trust_of(folder).seal))
    assert newest_active(topic.believed(verifier_of(settings(folder), BOUND.incarnation)), "production") is None


def test_a_push_after_the_active_record_is_gone_is_above_what_partitions_decide_by(folder):
    """Compaction keeps the newest record of a key, also a forged one; a revision that does not rise comes in force nowhere."""
    topic, trust = Topic(), trust_of(folder)
    topic.broker.append("harness.rules", 0, b"active/production", Pushed("d" * 64, 99).encode(), ())
    assert topic.push(trust, in_force=lambda: 7)[0].revision == 8
    assert topic.push(trust, in_force=lambda: 8)[0].revision == 8


def test_what_partitions_decide_by_is_believed_of_workers_only(folder, monkeypatch):
    """Else whoever may write to the heads topic makes a push wait, fail or jump."""
    own, verifier = settings(folder), verifier_of(settings(folder), BOUND.incarnation)
    monkeypatch.setattr(admin, "partitions", lambda _settings, _topic: 1)
    clock = HoldWorld().clock
    broker = MemoryBroker({"harness.heads": 1}, clock.now_ms)
    said = {**CHECKPOINT, "incarnation": BOUND.incarnation, "partition": 0}
    true, forged = (encode_body({**said, "rules": {"digest": "d" * 64, "revision": n}}) for n in (3, 99))
    sealed = operator_signer(own, BOUND.incarnation).seal_batch(0, [digest_of(true)])[0]
    for value, headers in ((true, sealed), (forged, ()), (forged, UnsignedSigner().seal_batch(0, [""])[0]), (forged, sealed)):
        broker.append("harness.heads", 0, b"0", value, headers)
    trust = Trust(verifier.why_rules_refused, authentic=verifier.decision_authentic)
    assert rules._heads(own, MemoryReader(broker), clock, trust)[0]["rules"]["revision"] == 3
    assert rules._in_force(own, MemoryReader(broker), clock, trust) == 3
    assert rules._in_force(own, MemoryReader(broker), clock, Trust()) == 99
