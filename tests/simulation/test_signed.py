"""A signed realm's worker: what it does with forgeries, with keys that change, and with a certificate that has ended."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness_stream.adapters.signing import UNSIGNED_HEADERS
from harness_stream.adapters.signing.verifier import SignedVerifier
from harness_stream.core.audit import Kind
from harness_stream.core.fold import Place
from harness_stream.core.lanes import partition_of
from harness_stream.core.partition import Phase
from harness_stream.runtime import loading
from harness_stream.runtime.loading import Loader
from harness_stream.wire.decisions import read_body
from tests.log_checker import audited
from tests.signed import SignedRealm
from tests.simulation.judge import bundles, check
from tests.simulation.world import AGENTS, PARTITIONS, TOPICS, World

if TYPE_CHECKING:
    from harness_stream.ports import DecisionSigner, LogRecord
    from harness_stream.runtime.owner import Owner

AGENT = "agent-1"
LANE = AGENTS[AGENT]
HOME = partition_of(LANE, PARTITIONS)
FLOOD = 1_000


@dataclass
class Quiet(World):
    """A signed world in which nobody forges unless a test does."""

    epochs: tuple[int, int] | None = None

    def signer(self, name: str) -> DecisionSigner:
        return super().signer(name) if self.epochs is None else self._keys.worker(name, self.epochs)

    def _forge(self, *_: Any) -> None:
        pass


def world_of(**more: Any) -> Quiet:
    return Quiet(1, workers=1, signed=True, **more)


def decided(world: World, *kinds: str) -> list[dict[str, Any]]:
    bodies = (read_body(record.value)[0] for record in world.everything(TOPICS.verdicts, HOME))
    return [dict(body) for body in bodies if body["kind"] in kinds]


def settle(world: World) -> None:
    world.heal()
    check(world)


def test_a_flood_of_forgeries_is_few_records_and_keeps_nobody_waiting() -> None:
    world = world_of()
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    before = len(world.everything(TOPICS.verdicts, HOME))
    value = world.sent.popitem()[1]
    for _ in range(FLOOD):
        world.broker.append(TOPICS.intents, HOME, LANE.encode(), value + b" ", UNSIGNED_HEADERS)
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    skips = decided(world, "skip")
    assert sum(body["count"] for body in skips) == FLOOD
    assert {told["reason"] for body in skips for told in body["offsets"]} == {"not_authentic"}
    # 256 records a micro-batch at most, and a checkpoint now and then.
    assert len(world.everything(TOPICS.verdicts, HOME)) - before < FLOOD / 20
    assert len(decided(world, "verdict")) == 2


@pytest.mark.parametrize("lane", ["", "tenant-9"])
def test_what_was_signed_for_another_lane_is_skipped_where_it_stands(lane: str) -> None:
    world = world_of()
    value = world.send(agent_id=AGENT, by=AGENT)
    world.sent.clear()
    headers = world._speaks.seal_input(TOPICS.intents, lane, value, "intent", AGENT)
    offset = world.broker.append(TOPICS.intents, HOME, LANE.encode(), value + b" ", headers)
    settle(world)
    (skip,) = decided(world, "skip")
    why = f"by `{AGENT}`: it was signed for other bytes, another lane than `{LANE}`, another realm or other log topics, or for a PDP key that was rotated away"
    assert skip["offsets"] == [{"offset": offset, "reason": "not_authentic", "detail": why}]


def test_an_agent_without_a_row_is_nobody_and_with_one_it_is_heard() -> None:
    world = world_of()
    row = {"agent_id": AGENT, "tenant": LANE, "owner": "boss", "actions": ["crm.read"], "workloads": ["w1"]}
    world.put_row("identity", AGENT, None)
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    assert [told["reason"] for body in decided(world, "skip") for told in body["offsets"]] == ["not_authentic"]
    world.put_row("identity", AGENT, orjson.dumps(row))
    settle(world)
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    assert len(decided(world, "verdict")) == 1


def test_nobody_speaks_with_another_ones_keys() -> None:
    world = world_of()
    world.send(agent_id=AGENT, by=AGENT)
    stolen = world.sent.popitem()[1]
    other = next(name for name in AGENTS if name != AGENT)
    headers = world._speaks.seal_input(TOPICS.intents, LANE, stolen + b"\n", "intent", other)
    world.broker.append(TOPICS.intents, HOME, LANE.encode(), stolen + b"\n", headers)
    settle(world)
    assert [told["reason"] for body in decided(world, "skip") for told in body["offsets"]] == ["not_authentic"]


def restarted(world: World) -> Owner:
    world.crash(0)
    for _ in range(2_000):
        world.turn()
    return world.members[0].worker.owners[HOME]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("first_signed", [True, False])
def test_a_worker_of_the_other_kind_claims_nothing_in_a_log_that_has_begun(first_signed: bool, stored: bool) -> None:
    world = Quiet(1, workers=1, signed=first_signed)
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    written = len(world.everything(TOPICS.verdicts, HOME))
    world.signed = not first_signed
    if not stored:
        world.store.clear(HOME, world.store.head(HOME))
    owner = restarted(world)
    assert owner.phase is Phase.HALTED
    assert "is authentic here" in owner.why
    assert len(world.everything(TOPICS.verdicts, HOME)) == written


def test_a_worker_whose_certificate_has_ended_halts_and_a_new_one_lets_it_go_on() -> None:
    world = world_of(epochs=(1, 1))
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    owner = restarted(world)
    assert owner.phase is Phase.HALTED
    assert "not certified" in owner.why
    assert "harness keys certify" in owner.why
    assert {body["epoch"] for body in decided(world, "claim")} == {1}
    world.epochs = (2, 9)
    world.crash(0)
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    assert {body["epoch"] for body in decided(world, "claim")} == {1, 2}


# --- Who may write the topics, and has no key that the root certified ---


def stranger(value: bytes) -> Any:
    """Headers of a worker of another root that says it is this realm's."""
    realm = SignedRealm("sim", "i1")
    realm.root = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return realm.worker("stranger").seal_batch(HOME, [sha256(value).hexdigest()])[0]


CLAIM = {"kind": "claim", "incarnation": "i1", "epoch": 99, "writer": "f" * 32, "after": "crash", "pending": False}
RESUME = {
    "kind": "resume", "incarnation": "i1", "epoch": 99, "writer": "f" * 32, "checkpoint": {}, "reason": "forged",
    "head": "0" * 64, "next_input": 0, "rules": None, "t": 0,
}


@pytest.mark.parametrize("forged", [CLAIM, RESUME], ids=["claim", "resume"])
@pytest.mark.parametrize("how", ["unsigned", "another root's", "copied"])
def test_a_forged_claim_or_resume_changes_nothing_and_the_owner_goes_on(forged: dict[str, Any], how: str) -> None:
    world = world_of()
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    value, true = orjson.dumps(forged), world.everything(TOPICS.verdicts, HOME)[-1]
    headers = {"unsigned": UNSIGNED_HEADERS, "another root's": stranger(value), "copied": true.headers}[how]
    world.broker.append(TOPICS.verdicts, HOME, None, value, headers)
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    assert len(decided(world, "verdict")) == 2
    own = [body["epoch"] for body in decided(world, "claim") if body["writer"] != "f" * 32]
    assert max(own) < 99
    owner = world.members[0].worker.owners[HOME]
    assert owner.phase is Phase.DECIDING


@pytest.mark.parametrize("how", ["unsigned", "another root's", "copied"])
@pytest.mark.parametrize("change", [{"record_digest": "0" * 64}, {"next_input": 0, "t": 0}], ids=["no such record", "another fold"])
def test_a_forged_checkpoint_starts_nobody_and_halts_nobody(change: dict[str, Any], how: str) -> None:
    world = world_of()
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    true = world.everything(TOPICS.heads, HOME)[-1]
    value = orjson.dumps(orjson.loads(true.value or b"") | change)
    headers = {"unsigned": UNSIGNED_HEADERS, "another root's": stranger(value), "copied": true.headers}[how]
    world.broker.append(TOPICS.heads, HOME, true.key, value, headers)
    world.store.clear(HOME, world.store.head(HOME))
    assert restarted(world).phase is Phase.DECIDING
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)
    assert len(decided(world, "verdict")) == 2


# --- What leads to a signed checkpoint by its hashes needs no signature (PROTOCOL §7) ---


def ask(world: World) -> None:
    world.send(agent_id=AGENT, by=AGENT)
    settle(world)


def asked_once() -> Quiet:
    world = world_of()
    ask(world)
    return world


def from_the_log(world: World, monkeypatch: pytest.MonkeyPatch | None = None) -> tuple[Owner, list[int]]:
    """A worker that finds no store; and the records of the decision log whose signatures it asked for."""
    asked: list[int] = []
    judge = SignedVerifier.decision_authentic

    def authentic(self: SignedVerifier, record: LogRecord) -> bool:
        if (record.topic, record.partition) == (TOPICS.verdicts, HOME):
            asked.append(record.offset)
        return judge(self, record)

    if monkeypatch is not None:
        monkeypatch.setattr(SignedVerifier, "decision_authentic", authentic)
    world.store.clear(HOME, world.store.head(HOME))
    return restarted(world), asked


def linked(world: World, **content: Any) -> bytes:
    """A record that goes on from where the log stands, as far as its hashes say."""
    header = world.members[0].worker.owners[HOME].place.header
    base = {"incarnation": "i1", "epoch": header.epoch, "writer": header.writer, "prev": header.head}
    return orjson.dumps({"kind": "skip", **base, "covers": [header.next_input] * 2, **content})


def verdict(world: World, **content: Any) -> bytes:
    """By the rules in force, of which `core.link` reads no more."""
    header = world.members[0].worker.owners[HOME].place.header
    assert header.rules is not None
    rules = {"digest": header.rules[0], "revision": header.rules[1]}
    return linked(world, **{"kind": "verdict", "rules": rules, "t": header.t, "agent_id": AGENT, **content})


def newest_checkpoint(world: World) -> int:
    found: int = orjson.loads(world.everything(TOPICS.heads, HOME)[-1].value or b"")["verdict_offset"]
    return found


def test_who_loads_asks_for_no_signature_up_to_the_newest_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_of()
    for _ in range(5):
        ask(world)
    to = newest_checkpoint(world)
    kinds = [orjson.loads(record.value or b"")["kind"] for record in world.everything(TOPICS.verdicts, HOME)]
    owner, asked = from_the_log(world, monkeypatch)
    assert owner.phase is Phase.DECIDING
    assert kinds[:to].count("verdict") == 4
    assert {kinds[offset] for offset in asked if offset < to} <= {"checkpoint", "claim", "switch"}
    settle(world)


@pytest.mark.parametrize("how", ["unsigned", "another root's"])
def test_a_forged_record_that_goes_on_from_the_log_by_its_hashes_is_found_out_at_the_checkpoint(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = asked_once()
    forged = linked(world)
    at = world.broker.append(
        TOPICS.verdicts, HOME, None, forged, UNSIGNED_HEADERS if how == "unsigned" else stranger(forged)
    )
    ask(world)
    assert newest_checkpoint(world) > at
    owner, asked = from_the_log(world, monkeypatch)
    assert owner.phase is Phase.DECIDING
    assert at in asked
    assert len(decided(world, "verdict")) == 2
    ask(world)
    assert len(decided(world, "verdict")) == 3


@pytest.mark.parametrize("warmed", [None, True, {"a": 1}, [1], {"epoch": "x"}], ids=str)
def test_a_forged_switch_is_believed_by_nobody_whatever_it_holds(
    warmed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a switch says is acted on at once, long before the checkpoint is reached."""
    world = asked_once()
    header = world.members[0].worker.owners[HOME].place.header
    assert header.rules is not None
    rules = {"digest": header.rules[0], "revision": header.rules[1] + 1}
    forged = linked(
        world, kind="switch", covers=[header.next_input, header.next_input - 1], rules=rules, warmed=warmed, t=header.t
    )
    world.broker.append(TOPICS.verdicts, HOME, None, forged, UNSIGNED_HEADERS)
    ask(world)
    owner, asked = from_the_log(world, monkeypatch)
    assert owner.phase is Phase.DECIDING
    assert owner.place.header.rules == header.rules
    kinds = [orjson.loads(record.value or b"")["kind"] for record in world.everything(TOPICS.verdicts, HOME)]
    assert "verdict" not in {kinds[offset] for offset in asked}, "it was loaded a second time"
    assert len(decided(world, "verdict")) == 2


def denials(world: World) -> bytes:
    """A run that goes on in the same way, and denies whatever it names."""
    header = world.members[0].worker.owners[HOME].place.header
    assert header.rules is not None
    row = {"offset": header.next_input, "t": header.t, "agent_id": AGENT, "intent_id": world.uuid7(), "detail": None, "code": "late"}
    row |= {"intent_digest": "0" * 64, "arguments_digest": "0" * 64, "enforcer_nonce": "0" * 32, "remember_until": header.t + 10**6}
    said = {"t": header.t, "decided_at": header.t, "engine": "e", "denied": [row]}
    return linked(world, kind="denials", rules={"digest": header.rules[0], "revision": header.rules[1]}, **said)


def test_a_run_of_denials_is_believed_by_its_hash_as_any_answer_is(monkeypatch: pytest.MonkeyPatch) -> None:
    world = asked_once()
    for _ in range(5):
        world.send(agent_id=AGENT, by=AGENT, deadline_ms=50)
    first = [*world.sent.values()][-5]
    world.clock.advance(100)
    settle(world)
    ask(world)
    for _ in range(600):
        world.turn()
    kinds = [orjson.loads(record.value or b"")["kind"] for record in world.everything(TOPICS.verdicts, HOME)]
    assert kinds.index("denials") < newest_checkpoint(world)
    owner, asked = from_the_log(world, monkeypatch)
    assert owner.phase is Phase.DECIDING
    assert kinds.index("denials") not in asked
    world.publish(AGENT, first)
    settle(world)
    assert [body["reason"] for body in decided(world, "reject")] == ["duplicate"]


@pytest.mark.parametrize("unreadable", [b'"\xff"', b"1e999"], ids=repr)
@pytest.mark.parametrize("how", ["halted before", "no room to wait"])
def test_a_forged_verdict_of_which_only_the_link_can_be_read_costs_a_second_load(
    how: str, unreadable: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken in before the checkpoint is reached, and ended the worker, at each start."""
    world = asked_once()
    world.publish(AGENT, [*world.sent.values()][-1])  # a reject, so that nothing waits when the forged one is met
    settle(world)
    said = verdict(world, intent_id=world.uuid7(), event=None, more="more")
    forged = said.replace(b'"more":"more"', b'"more":' + unreadable)
    at = world.broker.append(TOPICS.verdicts, HOME, None, forged, UNSIGNED_HEADERS)
    ask(world)
    assert newest_checkpoint(world) > at
    if how == "no room to wait":
        monkeypatch.setattr(loading, "DEFERRED_SHARE", 0)
    else:
        load = Loader.load
        monkeypatch.setattr(Loader, "load", lambda self, *, trust_store, **_: load(self, trust_store=trust_store, patient=False))
    owner, asked = from_the_log(world, monkeypatch)
    assert owner.phase is Phase.DECIDING
    assert at in asked
    assert len(decided(world, "verdict")) == 2


@pytest.mark.parametrize("kind", ["skip", "verdict", "denials", "claim"])
def test_a_forged_record_behind_the_newest_checkpoint_is_void_for_who_loads(kind: str) -> None:
    world = asked_once()
    header = world.members[0].worker.owners[HOME].place.header
    made = {"skip": linked(world), "verdict": verdict(world, intent_id=world.uuid7(), event=None)}
    forged = (made | {"denials": denials(world), "claim": orjson.dumps(CLAIM)})[kind]
    at = world.broker.append(TOPICS.verdicts, HOME, None, forged, UNSIGNED_HEADERS)
    assert newest_checkpoint(world) < at
    owner, _ = from_the_log(world)
    assert owner.phase is Phase.DECIDING
    assert owner.place.header.epoch == header.epoch + 1
    ask(world)
    assert len(decided(world, "verdict")) == 2 + (kind == "verdict")


@pytest.mark.parametrize("lie", [{"next_input": 0}, {"writer": "9" * 32}], ids=str)
@pytest.mark.parametrize("at_checkpoint", [True, False])
def test_a_store_that_says_another_place_is_done_without(lie: dict[str, Any], at_checkpoint: bool) -> None:
    world = asked_once()
    for _ in range(600 if at_checkpoint else 0):
        world.turn()
    before = world.store.snapshot()
    for _ in range(0 if at_checkpoint else 3):
        ask(world)
    true = before[HOME].head
    assert true is not None
    assert (true.verdict_offset == newest_checkpoint(world)) == at_checkpoint
    before[HOME].head = replace(true, header=orjson.dumps(orjson.loads(true.header) | lie))
    world.store.restore(before)
    assert restarted(world).phase is Phase.DECIDING
    settle(world)


def test_a_log_whose_beginning_was_replaced_by_a_forged_resume_halts_whoever_loads_it() -> None:
    """Its hashes lead to the checkpoint: a resume names the head that the true claim after it goes on from."""
    world = asked_once()
    before = world.members[0].worker.owners[HOME].place.header
    world.crash(0)
    ask(world)
    true = world.everything(TOPICS.verdicts, HOME)
    second = next(r for r in true if orjson.loads(r.value or b"").get("epoch") == 2)
    rules = {"digest": before.rules[0], "revision": before.rules[1]} if before.rules else None
    said = {"epoch": 1, "head": before.head, "next_input": before.next_input, "rules": rules, "t": before.t}
    forged = orjson.dumps(RESUME | said)
    world.broker.truncate_from(TOPICS.verdicts, HOME, 0)
    world.broker.skip_offsets(TOPICS.verdicts, HOME, second.offset - 1)
    world.broker.append(TOPICS.verdicts, HOME, None, forged, UNSIGNED_HEADERS)
    for record in true[true.index(second) :]:
        world.broker.append(TOPICS.verdicts, HOME, record.key, record.value, record.headers)
    owner, _ = from_the_log(world)
    assert owner.phase is Phase.HALTED
    assert "do not lead to what the checkpoint says" in owner.why


def test_what_was_forged_before_a_true_resume_is_believed_by_nobody() -> None:
    """The head that a resume names is right, and says nothing of how one came to it."""
    world = world_of()
    for _ in range(2):
        ask(world)
    true = world.everything(TOPICS.verdicts, HOME)
    first, second = (r for r in true if orjson.loads(r.value or b"")["kind"] == "verdict")
    world.broker.truncate_from(TOPICS.verdicts, HOME, second.offset)
    assert restarted(world).phase is Phase.HALTED
    place = Place.genesis("i1", HOME)
    for record in world.everything(TOPICS.verdicts, HOME):
        place = place.after(record.offset, *read_body(record.value)) or place
    said = {"prev": place.header.head, "covers": [place.header.next_input] * 2, "intent_id": world.uuid7()}
    forged = orjson.dumps(orjson.loads(first.value or b"") | {"epoch": place.header.epoch, **said})
    world.broker.append(TOPICS.verdicts, HOME, None, forged, UNSIGNED_HEADERS)
    world.resume_halted()
    world.heal()
    world.send(agent_id=AGENT, by=AGENT)
    world.heal()
    owner, _ = from_the_log(world)
    assert owner.phase is Phase.DECIDING
    world.heal()
    assert owner.state.confirmed(f"a:{AGENT}")["chain", f"agent:{AGENT}"].events == 2


INVENTED: dict[str, dict[str, Any]] = {
    "as it was written": {},
    "another one": {"checkpoint": {"epoch": 50}},
    "unsigned": {"seal": {"hs-alg": "none"}},
    "without a seal": {"seal": {}},
}


@pytest.mark.parametrize("how", INVENTED)
def test_a_checkpoint_that_only_a_resume_still_has_is_believed_by_its_seal(how: str) -> None:
    """Who may sign a resume could excuse whatever he left out by a checkpoint that never was."""
    world = world_of()
    for _ in range(2):
        ask(world)
    second = next(r.offset for r in reversed(world.everything(TOPICS.verdicts, HOME)) if b'"kind":"verdict"' in (r.value or b""))
    world.broker.truncate_from(TOPICS.verdicts, HOME, second)
    assert restarted(world).phase is Phase.HALTED
    world.resume_halted()
    logs = [world.everything(topic, HOME) for topic in (TOPICS.intents, TOPICS.verdicts)]
    at = next(r.offset for r in logs[1] if b'"kind":"resume"' in (r.value or b""))
    body, over = orjson.loads(logs[1][at].value or b""), INVENTED[how]
    assert set(body["seal"]) > {"hs-sig", "hs-cert"}
    value = orjson.dumps({**body, **{name: body[name] | over[name] if name == "checkpoint" else over[name] for name in over}})
    [headers] = world.signer("operator").seal_batch(HOME, [sha256(value).hexdigest()])
    logs[1][at:] = [logs[1][at]._replace(value=value, headers=headers)]
    report = audited(*logs, HOME, "i1", bundles(), resumed=True, verifier=world.verifier(judges=False))
    assert [f.kind for f in report.findings] == ([] if how == "as it was written" else [Kind.COVERAGE])
