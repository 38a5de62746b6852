"""`harness agents enroll`: the row it writes, the keys it keeps, and what loading a folder leaves alone."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.memory.broker import MemoryBroker
from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.adapters.signing import keyring
from harness_stream.adapters.signing.enforcers import EnforcerCertificate
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.keys import public_of, raw_of
from harness_stream.adapters.signing.pairs import worker_pair
from harness_stream.cli.agents import _credentials, _made, former, lost, row_of
from harness_stream.cli.tables import Options, load_folder
from harness_stream.client.connect import _token_signer, pair_of, require_keys
from harness_stream.client.credentials import Credentials
from harness_stream.config import Settings
from harness_stream.core.join import Table
from harness_stream.core.tables import TABLES, IdentityRow
from harness_stream.errors import CallerError, ConfigError
from harness_stream.ports import LogRecord, Sender
from harness_stream.private_files import write_new
from harness_stream.runtime.table_load import TableView, read_tables
from harness_stream.wire.cloudevents import from_base64url
from harness_stream.wire.codec import encode
from tests.signed import SignedRealm

NOW, DAY = 1_700_000_000_000, 86_400_000
REALM = SignedRealm()


def view(*rows):
    found = TableView(Table("identity"))
    for offset, row in enumerate(rows):
        found.take(LogRecord("harness.identity", 0, offset, row.key.encode(), encode(row), 1))
    return found


def public(name, not_before=0, not_after=NOW + 90 * DAY):
    return REALM.keys(name, not_before=not_before, not_after=not_after)


# --- The row ---


def test_a_new_agent_gets_a_row_with_its_keys():
    row = row_of(view(), "a", {"tenant": "acme", "actions": ["crm.read"], "workloads": ["w"]}, public("a"), NOW)
    assert row == IdentityRow(agent_id="a", tenant="acme", actions=("crm.read",), workloads=("w",), keys=public("a"))


def test_a_new_agent_needs_a_tenant():
    with pytest.raises(CallerError, match="whose it is") as refused:
        row_of(view(), "a", {}, public("a"), NOW)
    assert "--tenant" in refused.value.hint


def test_a_row_keeps_what_nobody_said_anew():
    before = IdentityRow(agent_id="a", tenant="acme", roles=("approver",), actions=("x.y",), addresses=("me",))
    row = row_of(view(before), "a", {"actions": ["crm.read"]}, public("a"), NOW)
    assert row == before.model_copy(update={"actions": ("crm.read",), "keys": public("a")})


def test_what_it_may_no_longer_do_is_told():
    before = IdentityRow(agent_id="a", tenant="t", actions=("crm.read", "email.send"), workloads=("w",))
    row = row_of(view(before), "a", {"actions": ["crm.read"], "workloads": ["w", "v"]}, public("a"), NOW)
    assert lost(before, row) == ["it has actions crm.read now, and no longer email.send"]
    assert lost(None, row) == lost(row, row) == []


def test_a_lane_never_changes():
    before = IdentityRow(agent_id="a", tenant="acme")
    with pytest.raises(CallerError, match="away from its history"):
        row_of(view(before), "a", {"tenant": "other"}, public("a"), NOW)


def test_what_breaks_the_schema_is_said_in_words():
    with pytest.raises(CallerError, match="actions"):
        row_of(view(), "a", {"tenant": "t", "actions": ["no verb!"]}, public("a"), NOW)


def test_rotation_keeps_the_newest_pair_for_a_day_and_lets_go_of_older_ones():
    row = row_of(view(), "a", {"tenant": "t"}, public("one", 1), NOW)
    row = row_of(view(row), "a", {}, public("two", 2), NOW + DAY)
    row = row_of(view(row), "a", {}, public("three", 3), NOW + 2 * DAY)
    assert row.keys == (*public("two", 2, NOW + 2 * DAY), *public("three", 3))


def test_a_key_that_ends_sooner_is_not_made_to_last():
    assert [key.not_after for key in former(public("a", 0, NOW), NOW + DAY)] == [NOW, NOW]


def test_an_unsigned_realm_leaves_keys_alone():
    before = IdentityRow(agent_id="a", tenant="t", keys=public("a"))
    assert row_of(view(before), "a", {"roles": ["approver"]}, (), NOW).keys == before.keys


# --- The credentials ---


@pytest.fixture
def settings(tmp_path):
    keyring.create(tmp_path / "keys", Bound("acme", "t1.t2"))
    return Settings(realm="acme", keys=str(tmp_path / "keys"), bootstrap="broker:1", prefix="p")


def enrolled(settings, folder, name="a"):
    made = _made(settings, NOW, 90)
    row = row_of(view(), name, {"tenant": "lane-1", "workloads": ["w"]}, made.public, NOW)
    write_new(folder / f"{name}.json", json.dumps(_credentials(settings, row, made)))
    return row, folder / f"{name}.json"


def test_a_file_is_all_that_a_process_needs_and_its_owners_alone(settings, tmp_path):
    row, path = enrolled(settings, tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600
    found = Credentials.of(path)
    require_keys(found)
    assert (found.realm, found.agent_id, found.home(), found.place()) == ("acme", "a", "lane-1", "w")
    assert (found.bootstrap, found.prefix, found.dev) == ("broker:1", "p", False)
    assert found.value_key() is not None
    signer, reader = pair_of(found, "t1.t2")
    worker_signer, verifier = worker_pair(settings, "t1.t2")
    headers = signer.seal_input("p.intents", "lane-1", b"{}", "intent", "a")
    record = LogRecord("p.intents", 0, 0, None, b"{}", NOW, headers)
    assert verifier.input_authentic(record, Sender("intent", "lane-1", row.keys))
    digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert reader.decision_authentic(record._replace(headers=worker_signer.seal_batch(0, [digest])[0]))


def test_keys_are_never_shown(settings, tmp_path):
    _, path = enrolled(settings, tmp_path)
    secret = json.loads(path.read_text())["keys"]["mac"]
    assert secret not in repr(Credentials.of(path))
    path.write_text(path.read_text().replace(secret, secret[:-1]))
    with pytest.raises(ConfigError) as refused:
        Credentials.of(path)
    assert secret[:8] not in str(refused.value)


def test_a_file_that_everybody_may_read_is_refused(settings, tmp_path):
    _, path = enrolled(settings, tmp_path)
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="everybody may read"):
        Credentials.of(path)


def test_what_the_file_says_wins_over_the_environment(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_DEV", "1")
    _, path = enrolled(settings, tmp_path)
    assert not Credentials.of(path).dev


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"keys": None}, "have no `keys`"),
        ({"root_key": None}, "have no `root_key`"),
        ({"dev": True}, "says that the realm is unsigned"),
        ({"enforcer": "enforcer-1"}, "no keys of it"),
    ],
)
def test_what_is_missing_or_contradicts_is_said_before_anything_is_connected(settings, tmp_path, over, said):
    found = Credentials.of(enrolled(settings, tmp_path)[1]).model_copy(update=over)
    with pytest.raises(ConfigError, match=said) as refused:
        require_keys(found)
    assert refused.value.hint


def test_a_process_may_speak_for_its_enforcer(settings, tmp_path):
    _, path = enrolled(settings, tmp_path)
    keys = Credentials.of(enrolled(settings, tmp_path, "enforcer-1")[1]).keys
    found = Credentials.of(path).model_copy(update={"enforcer": "enforcer-1", "others": {"enforcer-1": keys}})
    require_keys(found)
    signer, _ = pair_of(found, "t1.t2")
    assert signer.speaks_for("enforcer-1")
    assert not signer.speaks_for("enforcer-2")


def test_in_a_dev_realm_there_are_no_keys(tmp_path):
    row, path = enrolled(Settings(dev=True), tmp_path)
    assert row.keys == ()
    found = Credentials.of(path)
    assert found.dev
    assert found.keys is None


# --- Loading a folder afterwards ---


def test_loading_rows_from_files_leaves_keys_where_the_file_says_none(tmp_path):
    topics = {name: f"harness.{name}" for name in TABLES}
    clock = SystemClock()
    broker = MemoryBroker(dict.fromkeys(topics.values(), 1), clock.now_ms)
    kept = IdentityRow(agent_id="a", tenant="t", keys=public("a"))
    broker.append(topics["identity"], 0, b"a", encode(kept))

    def loaded(text):
        (tmp_path / "identity.yaml").write_text(text)
        how = {"topics": topics, "clock": clock, "options": Options()}
        load_folder(tmp_path, MemoryReader(broker), MemoryWriter(broker), **how)
        return read_tables(MemoryReader(broker), topics, clock, lambda _: None)["identity"].row("a")

    assert loaded("[{agent_id: a, tenant: t, roles: [approver]}]") == kept.model_copy(update={"roles": ("approver",)})
    assert loaded("[{agent_id: a, tenant: t, keys: []}]") == IdentityRow(agent_id="a", tenant="t")


# --- Enforcers ---


def enrolled_enforcer(settings, folder, roles, incarnation="t1.t2"):
    made = _made(settings, NOW, 90)
    row = row_of(view(), "gate-1", {"tenant": "lane-1", "roles": roles}, made.public, NOW)
    write_new(folder / "gate-1.json", json.dumps(_credentials(settings, row, made, incarnation)))
    return Credentials.of(folder / "gate-1.json")


def test_an_enforcers_key_is_certified_for_its_lane_and_as_long_as_it_counts(settings, tmp_path):
    found = enrolled_enforcer(settings, tmp_path, ["enforcer"]).model_copy(update={"enforcer": "gate-1"})
    said = EnforcerCertificate.unpacked(from_base64url(found.keys.certificate))
    assert said.vouched_for(raw_of(found.root_key), Bound("acme", "t1.t2"))
    key = public_of(Ed25519PrivateKey.from_private_bytes(raw_of(found.keys.sign.get_secret_value())))
    assert said.enforcer == ("gate-1", "lane-1", key, NOW - 5_000, NOW + 90 * DAY)
    assert _token_signer(found, "t1.t2") is not None
    assert _token_signer(found, "t1.t3") is None


@pytest.mark.parametrize("roles", [[], ["orchestrator", "approver"]])
def test_nobody_elses_is(settings, tmp_path, roles):
    found = enrolled_enforcer(settings, tmp_path, roles)
    assert found.keys.certificate is None
    assert _token_signer(found, "t1.t2") is None
