"""Mandates by an orchestrator, never the agent itself: signed in one process, published byte for byte by another."""

import json
from contextlib import contextmanager

import pytest
from hold_world import INCARNATION, PARTITIONS, REALM, TOPICS, HoldWorld
from signed import SignedRealm
from typer.testing import CliRunner

from harness_stream import Credentials, Denied, HarnessSync
from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.cli.main import COMMANDS, app
from harness_stream.client.fingerprints import fingerprints_of
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.core.lanes import partition_of
from harness_stream.errors import CallerError, ConfigError, HarnessError, InvalidInput

SIGNED = SignedRealm(REALM, INCARNATION)
HOME = partition_of("acme", PARTITIONS)
VALUES_KEY = "A" * 43
TASK = ("--goal", "mail ann@example.org", "--class", "send:email", "--expires", "2h")


@pytest.fixture
def world():
    with HoldWorld(signed=SIGNED).worker() as world:
        yield world


@pytest.fixture
def sign(monkeypatch, tmp_path):
    """Run `harness mandates sign` as somebody, where no broker can be asked: the file it wrote; an error is raised."""
    monkeypatch.setenv("HARNESS_DEV", "0")
    monkeypatch.chdir(tmp_path)

    def sign(who="boss", *words, lane="acme", incarnation=INCARNATION, realm=REALM, out="m.json", agent="agent-1"):
        path = tmp_path / f"{who}.json"
        known = {"prefix": "t", "fingerprint_key": VALUES_KEY, "realm": realm}
        path.write_text(json.dumps(SIGNED.credentials(who, **known)))
        path.chmod(0o600)
        (tmp_path / out).unlink(missing_ok=True)
        where = ("--lane", lane, "--incarnation", incarnation, "--out", out, "--agent", agent)
        done = CliRunner().invoke(app, ["mandates", "sign", "--credentials", str(path), *where, *(words or TASK)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        sign.said = done.output
        return tmp_path / out

    return sign


@contextmanager
def agent(world, name="agent-1", lane="acme"):
    """The agent's process: it has its own keys, and the orchestrator's nowhere."""
    realm = ClientRealm(REALM, INCARNATION, PARTITIONS, TOPICS)
    ports = MemoryReader(world.broker), MemoryWriter(world.broker), world.clock
    wiring = Wiring(realm, *ports, SIGNED.inputs(name), SIGNED.verifier(judges=False))
    said = Credentials.model_validate(SIGNED.credentials(name, lane=lane, workload_id="w-1", prefix="t"))
    with HarnessSync.connect(said, wiring=wiring) as harness:
        yield harness


def garbage(world, path):
    """What the log makes of a file that is published as it is."""
    found = json.loads(path.read_text())
    headers = [(name, text.encode()) for name, text in found["headers"].items()]
    offset = world.broker.append(TOPICS.intents, HOME, b"acme", found["mandate"].encode(), headers)
    return world.answer(HOME, offset)


def test_the_agents_process_publishes_exactly_what_was_signed(world, sign):
    path = sign()
    with agent(world) as harness:
        chain = harness.chain(mandate=path)
        assert chain.decide("crm.read").decision == "approve"
    record = world.broker.read(TOPICS.intents, HOME, 0, 1)[0]
    found = json.loads(path.read_text())
    assert record.value == found["mandate"].encode()
    assert {name: value.decode() for name, value in record.headers if name.startswith("hs-")} == found["headers"]
    opened = world.decided(HOME)[2]["change"]["mandate"]
    assert (opened["by"], opened["declared_by"]) == ("boss", "orchestrator")
    assert opened["action_classes"] == [{"operation": "send", "object": "email"}]
    assert opened["values"] == fingerprints_of("mail ann@example.org", bytes(32))["values"]


def test_no_word_of_the_goal_and_no_key_is_in_the_file(sign):
    text = sign().read_text()
    assert "ann@example.org" not in text
    assert not [key for key in SIGNED.credentials("boss")["keys"].values() if key in text]


def test_signed_by_the_agent_itself_its_classes_are_only_inferred(world, sign):
    path = sign("agent-1")
    assert "the agent's own word" in sign.said
    with agent(world) as harness:
        harness.chain(mandate=path)
    assert world.decided(HOME)[2]["change"]["mandate"]["declared_by"] == "agent"


def test_the_orchestrator_ends_the_chain_likewise(world, sign):
    opening, closing = sign("boss", *TASK, "--chain", "case-7"), sign("boss", "--chain", "case-7", "--close", out="c.json")
    with agent(world) as harness:
        chain = harness.chain(mandate=opening)
        with pytest.raises(InvalidInput, match="ends its chain") as mixed:
            harness.chain(mandate=closing)
        assert "end_chain" in mixed.value.hint
        with pytest.raises(InvalidInput, match="opens its chain"):
            harness.end_chain(opening)
        harness.end_chain(closing)
        with pytest.raises(Denied) as denied:
            chain.decide("crm.read")
    assert denied.value.reasons[0].code == "chain_closed"


def test_only_its_signer_closes_a_chain(world, sign):
    opening, closing = sign("boss", *TASK, "--chain", "case-7"), sign("agent-1", "--chain", "case-7", "--close", out="c.json")
    with agent(world) as harness:
        harness.chain(mandate=opening)
        with pytest.raises(Denied) as denied:
            harness.end_chain(closing)
    assert denied.value.reasons[0].code == "not_signer"


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({"lane": "globex"}, "signed for lane `globex`"),
        ({"realm": "other"}, "signed for realm `other`"),
        ({"incarnation": "i2.v2"}, "signed for other log topics"),
        ({"agent": "agent-2"}, "no mandate for agent `agent-1`"),
    ],
)
def test_what_is_for_somewhere_else_is_told_before_it_is_published(world, sign, over, why):
    path, before = sign(**over), world.broker.bounds(TOPICS.intents, HOME)
    with agent(world) as harness, pytest.raises(InvalidInput, match=why):
        harness.chain(mandate=path)
    assert world.broker.bounds(TOPICS.intents, HOME) == before


@pytest.mark.parametrize("over", [{"lane": "globex"}, {"incarnation": "i2.v2"}, {"who": "agent-3"}])
def test_and_whoever_publishes_it_all_the_same_opens_nothing(world, sign, over):
    """Wrong lane, topics that were recreated, and the word of one who signs with a name that is not theirs."""
    path = sign(**over)
    if "who" in over:
        path.write_text(path.read_text().replace('\\"by\\":\\"agent-3', '\\"by\\":\\"boss'))
    skip = garbage(world, path)
    assert (skip["kind"], skip["offsets"][0]["reason"]) == ("skip", "not_authentic")


def test_another_realms_mandate_opens_nothing(world, sign):
    assert garbage(world, sign(realm="other"))["offsets"][0]["reason"] == "realm"


def test_changed_bytes_are_garbage_and_the_sender_learns_why(world, sign):
    path = sign()
    path.write_text(path.read_text().replace('\\"send\\"', '\\"sell\\"'))
    with agent(world) as harness, pytest.raises(Denied) as denied:
        harness.chain(mandate=path)
    assert denied.value.reasons[0].code == "not_authentic"
    assert "`boss`" in denied.value.message


def test_an_orchestrator_of_another_lane_declares_nothing(world, sign):
    world.put("identity", "ui-2", {"agent_id": "ui-2", "tenant": "globex", "roles": ["orchestrator"], **world._keys("ui-2")})
    with agent(world) as harness, pytest.raises(Denied) as denied:
        harness.chain(mandate=sign("ui-2"))
    assert denied.value.reasons[0].code == "not_orchestrator"


def test_an_expired_one_opens_nothing(world, sign):
    path = sign()
    world.clock.ahead_ms += 3 * 3_600_000
    with agent(world) as harness, pytest.raises(Denied) as denied:
        harness.chain(mandate=path)
    assert denied.value.reasons[0].code == "mandate_expired"


def test_once(world, sign):
    path = sign()
    with agent(world) as harness:
        harness.chain(mandate=path)
        with pytest.raises(Denied) as denied:
            harness.chain(mandate=path)
    assert denied.value.reasons[0].code == "chain_exists"


def test_an_agent_without_the_orchestrators_keys_is_told_who_has_to_sign(world, sign):
    plain = json.loads(json.loads(sign().read_text())["mandate"])
    with agent(world) as harness, pytest.raises(CallerError, match="by `boss`, and this process has no keys") as error:
        harness.chain(mandate=plain)
    assert "harness mandates sign" in error.value.hint


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--goal", "x"), "until when"),
        (("--expires", "soon"), "not a duration"),
        (("--expires", "2020-01-01T00:00:00Z"), "that is over"),
        (("--expires", "2h", "--class", "send"), "not OPERATION:OBJECT"),
        (("--close",), "which chain ends"),
        (("--expires", "2h", "--chain", "agent:agent-1"), "must not start with"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(sign, tmp_path, words, why):
    with pytest.raises(HarnessError, match=why):
        sign("boss", *words)
    assert not (tmp_path / "m.json").exists()


def test_a_file_is_not_replaced(sign, tmp_path):
    (tmp_path / "boss2.json").write_text("kept")
    with pytest.raises(ConfigError, match="not replaced"):
        sign("boss", *TASK, "--out", "boss2.json")
    assert (tmp_path / "boss2.json").read_text() == "kept"


def test_in_an_unsigned_realm_it_writes_plain_fields(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["mandates", "sign", "--dev", "--by", "boss", "--agent", "agent-1", *TASK, "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told, found = json.loads(done.stdout), json.loads((tmp_path / "mandate.json").read_text())
    assert (told["file"], told["declared_by"], found["by"], found["type"]) == ("mandate.json", "orchestrator", "boss", "mandate")


def test_the_command_is_where_it_is_looked_for():
    assert list(COMMANDS["mandates"].entries) == ["sign"]
