"""Keys that take another's place: two PDP keys that count, certificates that end, and a root that cannot be rotated."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness_stream.adapters.signing import keyring
from harness_stream.adapters.signing.enforcers import Enforcer, EnforcerCertificate
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.inputs import SignedInputs
from harness_stream.adapters.signing.keys import public_of, raw_of
from harness_stream.adapters.signing.pairs import rules_signer, verifier_of, worker_pair
from harness_stream.cli.agents import _credentials, _made, row_of
from harness_stream.cli.main import app
from harness_stream.client.connect import pair_of
from harness_stream.client.credentials import Credentials
from harness_stream.config import Settings
from harness_stream.core.join import Table
from harness_stream.errors import CallerError, ConfigError
from harness_stream.ports import LogRecord, Sender
from harness_stream.runtime.table_load import TableView
from harness_stream.wire.cloudevents import from_base64url
from tests.signed import SignedRealm
from tests.unit.signing.test_keyring import record

BOUND = Bound("acme", "t1.t2")
REALM = SignedRealm(*BOUND)
NOW = time.time_ns() // 1_000_000
HOUR_MS = 3_600_000
OFFLINE = ("--incarnation", "t1.t2", "--realm", "acme")


@pytest.fixture
def folder(tmp_path):
    keyring.create(tmp_path / "keys", BOUND)
    return tmp_path / "keys"


@pytest.fixture
def settings(folder):
    return Settings(realm="acme", keys=str(folder))


def rotated(folder, *words):
    done = CliRunner().invoke(app, ["keys", "rotate", str(folder), *OFFLINE, *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def intent(pdp, append_ms=NOW):
    headers = SignedInputs(BOUND, pdp, {"a": REALM.speaker("a")}).seal_input("i", "l", b"{}", "intent", "a")
    return LogRecord("i", 0, 0, None, b"{}", append_ms, headers)


def taken(verifier, *records):
    sender = Sender("intent", "l", REALM.keys("a"))
    return [verifier.input_authentic(each, sender) for each in records]


# --- The PDP's ---


def test_inputs_under_both_pdp_keys_count_until_the_former_one_ends(folder, settings):
    old = keyring.pdp_public(folder)
    said = rotated(folder, "--key", "pdp", "--overlap-hours", "2")
    new = keyring.pdp_public(folder)
    assert old != new
    assert "enrol agents again" in said
    verifier = worker_pair(settings, "t1.t2")[1]
    assert taken(verifier, intent(old), intent(new)) == [True, True]
    late = NOW + 3 * HOUR_MS
    assert taken(verifier, intent(old, late), intent(new, late)) == [False, True]
    assert "for a PDP key that was rotated away" in verifier.why_refused(intent(old, late), Sender("intent", "l", REALM.keys("a")))


@pytest.mark.parametrize("broken_at", [1, 2])
def test_one_that_broke_off_is_done_again_and_leaves_everybody_heard(folder, settings, monkeypatch, broken_at):
    """Of what stands there meanwhile a worker takes inputs under the half that enrolment hands out."""
    replace, done = Path.replace, []

    def breaks(path, target):
        done.append(target)
        if len(done) == broken_at:
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", breaks)
        with pytest.raises(KeyboardInterrupt):
            keyring.rotate(folder, "pdp", NOW + HOUR_MS)
    assert taken(worker_pair(settings, "t1.t2")[1], intent(keyring.pdp_public(folder))) == [True]
    if broken_at == 1:
        rotated(folder, "--key", "pdp")
        assert taken(worker_pair(settings, "t1.t2")[1], intent(keyring.pdp_public(folder))) == [True]


def test_without_the_former_keys_file_only_the_new_one_counts(folder, settings):
    old = keyring.pdp_public(folder)
    rotated(folder, "--key", "pdp")
    (folder / keyring.FORMER_FILE).unlink()
    assert taken(worker_pair(settings, "t1.t2")[1], intent(old), intent(keyring.pdp_public(folder))) == [False, True]


def test_two_keys_count_at_most(folder):
    rotated(folder, "--key", "pdp")
    kept = keyring.pdp_public(folder)
    with pytest.raises(ConfigError, match="still counts, and two keys do at most"):
        rotated(folder, "--key", "pdp")
    assert keyring.pdp_public(folder) == kept


def test_once_the_former_one_has_ended_it_is_rotated_again(folder, settings):
    first = keyring.pdp_public(folder)
    rotated(folder, "--key", "pdp", "--overlap-hours", "0")
    time.sleep(0.002)
    second = keyring.pdp_public(folder)
    rotated(folder, "--key", "pdp")
    verifier = worker_pair(settings, "t1.t2")[1]
    assert taken(verifier, intent(first), intent(second), intent(keyring.pdp_public(folder))) == [False, True, True]


def test_the_former_key_is_private_too(folder):
    rotated(folder, "--key", "pdp")
    assert (folder / keyring.FORMER_FILE).stat().st_mode & 0o777 == 0o600
    (folder / keyring.FORMER_FILE).chmod(0o644)
    with pytest.raises(ConfigError, match="everybody may read it"):
        keyring.pdp_former(folder)


def test_a_former_key_that_does_not_say_until_when_counts_for_nobody(folder):
    (folder / keyring.FORMER_FILE).write_text((folder / "pdp.key").read_text())
    (folder / keyring.FORMER_FILE).chmod(0o600)
    with pytest.raises(ConfigError, match="until when"):
        keyring.pdp_former(folder)


def test_who_is_enrolled_after_it_gets_the_new_key(folder, settings):
    rotated(folder, "--key", "pdp")
    made = _made(settings, NOW, 90)
    row = row_of(TableView(Table("identity")), "a", {"tenant": "l"}, made.public, NOW)
    found = Credentials.model_validate(_credentials(settings, row, made))
    assert raw_of(found.pdp_key or "") == keyring.pdp_public(folder)
    headers = pair_of(found, "t1.t2")[0].seal_input("i", "l", b"{}", "intent", "a")
    sealed = LogRecord("i", 0, 0, None, b"{}", NOW, headers)
    (folder / keyring.FORMER_FILE).unlink()
    assert worker_pair(settings, "t1.t2")[1].input_authentic(sealed, Sender("intent", "l", row.keys))


# --- Workers and rule-pushers ---


def test_a_workers_new_key_is_certified_and_what_the_old_one_signed_stays(folder, settings):
    old = worker_pair(settings, "t1.t2")[0]
    told = json.loads(rotated(folder, "--key", "worker", "--json"))
    new, verifier = worker_pair(settings, "t1.t2")
    assert dict(record(new).headers)["hs-kid"].decode() == told["kid"]
    assert verifier.decision_authentic(record(old))
    assert verifier.decision_authentic(record(new))
    assert record(old).headers != record(new).headers


def test_an_old_one_that_was_certified_for_some_epochs_ends_by_itself(folder, settings):
    keyring.certify_role(folder, BOUND, "worker", (1, 3))
    old = worker_pair(settings, "t1.t2")[0]
    rotated(folder, "--key", "worker")
    new, verifier = worker_pair(settings, "t1.t2")
    assert [verifier.decision_authentic(record(signer, 4)) for signer in (old, new)] == [False, True]
    assert not old.may_sign(4)


def test_a_rule_pushers_new_key_is_certified(folder, settings):
    old = rules_signer(settings, "t1.t2")
    rotated(folder, "--key", "rules")
    new = rules_signer(settings, "t1.t2")
    reader = verifier_of(settings, "t1.t2")
    for signer in (old, new):
        sealed = LogRecord("r", 0, 0, b"k", b"v", 1, signer.seal_rules("r", b"k", b"v"))
        assert reader.why_rules_refused(sealed) == ""
    assert public_of(old.key) != public_of(new.key)


def test_the_enrollers_new_key_vouches_and_so_did_the_old_one(folder, settings):
    said = Enforcer("gate-1", "lane-1", public_of(REALM.speaker("gate-1").sign), 0, NOW)
    old = keyring.vouch(folder, BOUND, said)
    told = json.loads(rotated(folder, "--key", "enroll", "--json"))
    new = keyring.vouch(folder, BOUND, said)
    found = [EnforcerCertificate.unpacked(from_base64url(text)) for text in (old, new)]
    assert all(each.vouched_for(keyring.root_public(folder), BOUND) for each in found)
    assert found[0].enroller.kid != found[1].enroller.kid == told["kid"]


@pytest.mark.parametrize("range_", [("--first-epoch", "2"), ("--last-epoch", "9")])
def test_an_enroller_is_not_certified_for_some_epochs_only(folder, range_):
    """Nobody would believe it, and it would be noticed by the first executor."""
    before = (folder / "enroll.crt").read_bytes()
    done = CliRunner().invoke(app, ["keys", "certify", str(folder), *OFFLINE, "--role", "enroll", *range_])
    assert isinstance(done.exception, CallerError)
    assert (folder / "enroll.crt").read_bytes() == before


def test_without_the_root_nothing_is_changed(folder):
    (folder / "root.key").unlink()
    before = (folder / "worker.key").read_bytes()
    with pytest.raises(ConfigError, match=r"root\.key` is missing"):
        rotated(folder, "--key", "worker")
    assert (folder / "worker.key").read_bytes() == before
    rotated(folder, "--key", "pdp")


@pytest.mark.parametrize("key", ["root", "values", "pdb"])
def test_what_cannot_be_rotated_is_told(folder, key):
    with pytest.raises(CallerError, match="no key that is rotated") as refused:
        rotated(folder, "--key", key)
    assert ("new topics" in refused.value.hint) is (key == "root")


def test_nobody_is_certified_for_an_unknown_role(folder):
    done = CliRunner().invoke(app, ["keys", "certify", str(folder), *OFFLINE, "--role", "boss"])
    assert isinstance(done.exception, CallerError)


def test_a_folder_from_before_gets_its_rule_pushers_key_by_certifying(folder, settings):
    for name in ("rules.key", "rules.pub", "rules.crt"):
        (folder / name).unlink()
    done = CliRunner().invoke(app, ["keys", "certify", str(folder), *OFFLINE, "--role", "rules", "--last-epoch", "9"])
    assert "certified from revision 1 to 9" in done.output
    assert rules_signer(settings, "t1.t2").seal_rules("r", b"k", b"v")
