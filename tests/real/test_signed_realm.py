"""A signed realm on real servers: from no keys to a verified verdict, and what forgers get there."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from forked import REFUSED, forked
from own_realm import OwnRealm, wait_until
from real_servers import open_own_stack, unavailable

from harness_stream import Credentials, Denied, HarnessSync, TimedOut, token
from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import SignedInputs, speaker_of
from harness_stream.adapters.signing.keys import raw_of
from harness_stream.adapters.signing.pairs import verifier_of
from harness_stream.config import Settings
from harness_stream.errors import BrokerUnavailable, CallerError, ConfigError, HarnessError

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

RULES = """
rule_set: production
default: deny
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
  - {id: exports, effect: hold, when: intent.action == "crm.export", because: an export leaves the house}
"""
TABLES = {"identity": [{"agent_id": "other-1", "tenant": "beta"}], "infrastructure": [{"workload_id": "w-1"}]}
SERVES_S = 60.0  # three brokers on two shared cores
AGENT, LANE, READ, EXPORT = "reader-1", "acme", "crm.read", "crm.export"
ENROLL = ("agents", "enroll", AGENT, "--tenant", LANE, "--action", READ, "--action", EXPORT, "--workload", "w-1", "--role", "orchestrator")
SEND = ("intents", "send", "--credentials", f"{AGENT}.json", "--action", READ, "--resource", "crm://customers/7", "--json")


class Signed:
    """A realm with keys and one enrolled agent; its worker runs."""

    def __init__(self, realm):
        self.realm, self.folder = realm, realm.folder
        self.partition = realm.partition_of(LANE)
        self.settings = Settings(realm=realm.settings.realm, keys=str(self.folder / "keys"))
        self.incarnation = incarnation(realm.settings)
        realm.verifier = verifier_of(self.settings, self.incarnation)

    def credentials(self, name=f"{AGENT}.json"):
        return Credentials.of(self.folder / name)

    def seals(self, of=None, **bound):
        """A signer of the agent's, or one bound to something else."""
        found = of or self.credentials()
        keys = speaker_of(found.keys.mac.get_secret_value(), found.keys.sign.get_secret_value())
        here = Bound(self.realm.settings.realm, self.incarnation)._replace(**bound)
        return SignedInputs(here, raw_of(found.pdp_key), {AGENT: keys})

    def sent(self, signer, lane=LANE, kind="intent", **over):
        value = json.dumps(self.realm.intent(AGENT) | over).encode()
        headers = signer.seal_input(self.realm.topics.intents, lane, value, kind, AGENT)
        return self.realm.answer(self.realm.send(value, LANE, headers=list(headers)))


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """Three brokers: a realm that is not for development has three replicas of everything."""
    with open_own_stack(brokers=3) as stack:
        try:
            stack.up()
        except HarnessError as error:
            unavailable(error.message)
        folder = tmp_path_factory.mktemp("signed")
        keys, servers = {"HARNESS_KEYS": str(folder / "keys")}, (stack.bootstrap, stack.redis_url, folder)
        realm = OwnRealm(*servers, rules=RULES, tables=TABLES, dev=False, **keys)
        wait_until(lambda: prepared(realm), why=lambda: "new topics take no rows", limit_s=SERVES_S)
        with realm.worker():
            realm.harness(*ENROLL)
            yield Signed(realm)


def prepared(realm):
    """Everything a worker needs is there; a new topic's leader may take a while to be known."""
    try:
        return realm.prepare()
    except BrokerUnavailable:
        return None


def document(text):
    """The JSON of a command that may also say something on standard error."""
    return next(json.loads(line) for line in text.splitlines() if line.startswith("{"))


def test_from_keys_to_a_verified_verdict(signed):
    told = json.loads(signed.realm.harness(*SEND))
    assert told["decision"] == "approve"
    record = signed.realm.records(signed.realm.topics.verdicts, signed.partition)[told["verdict_offset"]]
    assert json.loads(record.value)["intent_id"] == told["intent_id"]
    assert verifier_of(signed.settings, signed.incarnation).decision_authentic(record)
    assert (signed.folder / f"{AGENT}.json").stat().st_mode & 0o777 == 0o600


def test_every_record_that_a_worker_writes_is_signed_and_checkpoints_say_so(signed):
    verifier = verifier_of(signed.settings, signed.incarnation)
    topics, number = signed.realm.topics, signed.partition
    own = [r for r in signed.realm.records(topics.verdicts, number) if dict(r.headers).get("hs-alg") != b"none"]
    heads = signed.realm.records(topics.heads, number)
    assert own
    assert heads
    assert all(map(verifier.decision_authentic, [*own, *heads]))
    assert not any(json.loads(record.value)["dev"] for record in heads)


def test_the_api_asks_reports_and_opens_a_chain(signed):
    with HarnessSync.connect(signed.folder / f"{AGENT}.json") as harness:
        verdict = harness.chain().decide(READ, ["crm://customers/8"], measures={"rows": 3})
        verdict.start()
        verdict.report("done", measures={"rows": 4})
        fields = {"v": 1, "type": "mandate", "realm": signed.realm.settings.realm, "by": AGENT, "agent_id": AGENT}
        own = {"mandate_id": signed.realm._ids.new(), "chain_id": "case-1"}
        until = signed.realm.clock.now_ms() + 60_000
        chain = harness.chain(mandate={**fields, **own, "expires_at": until})
        assert chain.decide(READ).decision == "approve"
        with pytest.raises(CallerError, match="no keys of it"):
            harness.chain(mandate={**fields, **own, "by": "other-1", "expires_at": until})
    told = json.loads(signed.realm.harness("chain", "show", AGENT, "--json"))
    assert "case-1" in told["chains"]


def test_an_approve_is_handed_to_an_executor_that_knows_the_root_and_nothing_else(signed):
    realm, folder = signed.realm, signed.folder
    realm.harness("agents", "enroll", "gate-1", "--tenant", LANE, "--role", "enforcer")
    gate, own = (json.loads((folder / name).read_text()) for name in ("gate-1.json", f"{AGENT}.json"))
    told = {**own, "enforcer": "gate-1", "others": {"gate-1": gate["keys"]}}
    (folder / "with-gate.json").write_text(json.dumps(told))
    (folder / "with-gate.json").chmod(0o600)
    root, once = token.root_key(folder / "keys/root.pub"), token.Once()
    asked = {"root": root, "realm": signed.settings.realm, "audience": "crm", "action": READ, "once": once}
    with HarnessSync.connect(folder / "with-gate.json") as harness:
        verdict = harness.chain().decide(READ, ["crm://customers/9"], arguments={"id": 9}, deadline_ms=60_000)
        text = verdict.token("crm")
        said = token.verify(text, arguments={"id": 9}, incarnation=signed.incarnation, **asked)
        with pytest.raises(token.TokenRefused, match="token_used"):
            token.verify(text, arguments={"id": 9}, **asked)
        verdict.report("done")
        with pytest.raises(CallerError, match="used once"):
            verdict.token("crm")
    assert (said.agent_id, said.resources, said.verdict_digest) == (AGENT, ("crm://customers/9",), verdict.digest)
    (folder / "token.txt").write_text(text)
    words = ("--audience", "crm", "--root", "keys/root.pub", "--json")
    shown = json.loads(realm.harness("token", "verify", "token.txt", *words, "--realm", signed.settings.realm))
    assert (shown["intent_id"], shown["enforcer"]) == (said.intent_id, "gate-1")
    wait_until(lambda: misused(signed), why=lambda: "the second use was not recorded as a bypass")


def test_a_late_use_and_one_in_a_forked_process_are_bypasses_in_the_log(signed):
    before = len(misused(signed))
    with HarnessSync.connect(signed.folder / f"{AGENT}.json") as harness:
        kept = harness.chain().decide(READ, deadline_ms=2_000)
        wait_until(lambda: not kept.valid, why=lambda: "the approval does not run out")
        with pytest.raises(TimedOut, match="run out"):
            kept.start()
        wait_until(lambda: len(misused(signed)) == before + 1, why=lambda: "the late use was not recorded")
        copied = harness.chain().decide(READ, deadline_ms=60_000)
        assert forked(copied.start) == REFUSED
        wait_until(lambda: len(misused(signed)) == before + 2, why=lambda: "the forked process was not recorded")
        found = [json.loads(record.value)["detail"] for record in misused(signed)[before:]]
        assert found == [f"late of verdict {kept.digest}, by {AGENT}", f"elsewhere of verdict {copied.digest}, by {AGENT}"]
        copied.start()
        copied.report("done")


def misused(signed):
    found = signed.realm.records(signed.realm.topics.verdicts, signed.partition)
    return [record for record in found if json.loads(record.value).get("reason") == "bypass"]


def test_a_hold_is_answered_by_an_enrolled_approver_and_the_action_runs(signed):
    realm, ran, as_alice = signed.realm, [], ("--credentials", "alice.json", "--json")

    def export(order):
        ran.append(order)

    realm.harness("agents", "enroll", "alice", "--tenant", "people", "--role", "approver")
    with ThreadPoolExecutor(1) as background, HarnessSync.connect(signed.folder / f"{AGENT}.json") as harness:
        guarded = harness.chain().guard(EXPORT, resources="crm://orders/{order}", wait_for_hold=True)(export)
        waiting = background.submit(guarded, 7)
        found = wait_until(lambda: document(realm.harness("holds", "list", *as_alice))["holds"], why=lambda: str(waiting))
        assert not ran
        said = realm.harness("holds", "approve", found[0]["place"], *as_alice, "--reason", "ticket 4711", "--yes")
        assert document(said)["by"] == "alice"
        waiting.result(10)
    assert ran == [7]


def test_forged_inputs_end_as_garbage_where_they_stand_and_block_nobody(signed):
    realm, signer = signed.realm, signed.seals()
    right = signed.sent(signer)
    assert (right["kind"], right["decision"]) == ("verdict", "approve")
    forged = [
        realm.answer(realm.send(realm.intent(AGENT), LANE)),
        realm.answer(realm.send(realm.intent(AGENT), LANE, headers=None)),
        signed.sent(signed.seals(incarnation="t1.t2")),
        signed.sent(signed.seals(realm="another")),
        signed.sent(signer, lane="beta"),
        signed.sent(signer, by="other-1"),
        signed.sent(signer, kind="mandate"),
    ]
    assert [body["kind"] for body in forged] == ["skip"] * len(forged)
    assert {told["reason"] for body in forged for told in body["offsets"]} == {"not_authentic"}
    assert json.loads(realm.harness(*SEND))["decision"] == "approve"


def test_who_connects_without_keys_is_refused_and_an_unsigned_client_learns_why(signed):
    realm = signed.realm
    with pytest.raises(ConfigError, match="have to be signed"):
        HarnessSync.connect(agent=AGENT, bootstrap=realm.settings.bootstrap, prefix=realm.settings.prefix, dev=False).open()
    where = {"bootstrap": realm.settings.bootstrap, "prefix": realm.settings.prefix}
    with HarnessSync.connect(agent=AGENT, lane=LANE, workload="w-1", dev=True, **where) as harness:
        with pytest.raises((Denied, TimedOut)) as refused:
            harness.chain().decide(READ, deadline_ms=2_000)
        assert "not authentic" in refused.value.message


def test_a_forged_decision_counts_for_nobody(signed):
    realm, number = signed.realm, signed.partition
    claim = {"kind": "claim", "incarnation": signed.incarnation, "epoch": 99, "writer": "f" * 32, "after": "crash"}
    realm.append_decision(number, {**claim, "pending": False})
    assert json.loads(realm.harness(*SEND))["decision"] == "approve"
    # The worker notices that somebody else wrote there, claims anew and goes on.
    (found,) = [row for row in realm.standings() if row["partition"] == number]
    assert found["epoch"] < 99
    exported = [json.loads(line) for line in realm.harness("log", "export").splitlines() if line.startswith("{")]
    assert "f" * 32 not in {line["body"]["writer"] for line in exported if line["status"] == "effective"}


def test_commands_that_read_believe_the_root_only(signed):
    realm = signed.realm
    assert "nothing wrong" in realm.harness("log", "verify", "--full")
    shown = realm.harness("verdicts", "tail", "--from-beginning", "--no-follow")
    assert "approve" in shown
    (signed.folder / "new.yaml").write_text(RULES)
    replayed = realm.harness("replay", "--rules", "new.yaml", "--from-log", "--compare", "log", "--summary", "--json")
    summary = next(json.loads(line) for line in replayed.splitlines() if line.startswith("{"))
    assert summary
    blind = realm.harness("verdicts", "tail", "--no-follow", "--dev", "--keys", "", "--from-beginning")
    assert "approve" not in blind


def test_without_keys_and_without_dev_a_command_says_what_to_do(signed, monkeypatch):
    monkeypatch.setitem(signed.realm._environment, "HARNESS_KEYS", "")
    for words in (("verdicts", "tail"), ("log", "verify"), ("partitions",), ("chain", "show", AGENT), ("worker",)):
        said = signed.realm.harness(*words, exit_code=2)
        assert "HARNESS_KEYS" in said
        assert "Traceback" not in said


def test_enrolled_again_both_keys_count(signed):
    realm, old = signed.realm, signed.seals()
    realm.harness("agents", "enroll", AGENT, "--out", "second.json")
    assert "not replaced" in realm.harness("agents", "enroll", AGENT, "--out", "second.json", exit_code=2)
    new = signed.seals(signed.credentials("second.json"))
    wait_until(lambda: signed.sent(new)["kind"] == "verdict", why=lambda: "the new keys are not taken")
    assert signed.sent(old)["kind"] == "verdict"


def test_a_kill_takes_back_what_runs_and_is_final(signed, monkeypatch):
    realm, agent = signed.realm, "runner-1"
    realm.harness("agents", "enroll", agent, *ENROLL[3:-2])
    with HarnessSync.connect(signed.folder / f"{agent}.json") as harness:
        wait_until(lambda: asked(harness), why=lambda: "its row is not taken")
        running = harness.chain().decide(READ)
        running.start()
        told = json.loads(realm.harness("agents", "kill", agent, "--json"))
        assert running.revoked.wait(SERVES_S)
        assert running.revoked.reason == "killed"
        running.report("unknown")
        with pytest.raises(Denied, match="agent_status"):
            harness.chain().decide(READ)
    assert (told["status"], told["before"], told["written"]) == ("killed", "active", True)
    assert signed.partition in told["seen"]["partitions"]
    exported = [json.loads(line) for line in realm.harness("log", "export").splitlines() if line.startswith("{")]
    assert [line["body"]["agent_id"] for line in exported if line["status"] == "notice"] == [agent]
    assert "final" in realm.harness("agents", "resume", agent, exit_code=2)
    monkeypatch.setitem(realm._environment, "HARNESS_KEYS", "")
    without_keys = realm.harness("agents", "resume", agent, "--from-killed")
    assert "is active (it was killed)" in without_keys
    assert "who has seen it cannot be told: records are signed" in without_keys


def asked(harness):
    try:
        return harness.chain().decide(READ)
    except Denied:
        return None


def test_keys_that_a_command_prints_serve_like_those_of_a_folder(signed, monkeypatch):
    folder = signed.folder / "keys"
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.name != "root.key"}
    (signed.folder / "printed.json").write_text(json.dumps(texts))
    monkeypatch.setitem(signed.realm._environment, "HARNESS_KEYS", f"command:cat {signed.folder / 'printed.json'}")
    assert "nothing wrong" in signed.realm.harness("log", "verify")
    with signed.realm.worker():
        assert json.loads(signed.realm.harness(*SEND))["decision"] == "approve"


def test_a_worker_that_starts_anew_goes_on_from_what_was_signed(signed):
    realm = signed.realm
    with realm.worker():
        answers = [signed.sent(signed.seals()) for _ in range(3)]
    assert {body["decision"] for body in answers} == {"approve"}
    assert json.loads(realm.harness(*SEND))["decision"] == "approve"


def test_no_private_key_is_in_any_topic_or_log_file(signed):
    secrets = [json.loads(path.read_text()) for path in (*signed.folder.glob("keys/*.key"), *signed.folder.glob("*.json"))]
    texts = [found["private"] for found in secrets if "private" in found]
    texts += [key for found in secrets for key in (found.get("keys") or {}).values()]
    assert len(texts) >= 6
    topics = signed.realm.topics
    records = [*signed.realm.records(topics.identity, 0), *signed.realm.records(topics.verdicts, signed.partition)]
    everything = b"".join(record.value or b"" for record in records)
    said = b"".join(path.read_bytes() for path in signed.folder.glob("*.log"))
    assert not [text for text in texts if text.encode() in everything + said]
