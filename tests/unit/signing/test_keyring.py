"""Key files: made once, private, checked before use; and which pair settings ask for."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256

import pytest
from typer.testing import CliRunner

from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier, keyring
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.pairs import keys_of, operator_signer, verifier_of, worker_pair
from harness_stream.cli.main import app
from harness_stream.config import Settings
from harness_stream.errors import CallerError, ConfigError
from harness_stream.ports import LogRecord

BOUND = Bound("acme", "t1.t2")
PRIVATE = ["root.key", "pdp.key", "worker.key", "rules.key", "values.key", "enroll.key"]
DIGEST = sha256(b"{}").hexdigest()


@pytest.fixture
def folder(tmp_path):
    keyring.create(tmp_path / "keys", BOUND)
    return tmp_path / "keys"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def settings(folder, **more):
    return Settings(**{"realm": "acme", "keys": str(folder), **more})


def record(signer, epoch=1):
    value = json.dumps({"kind": "claim", "epoch": epoch}).encode()
    headers = signer.seal_batch(0, [sha256(value).hexdigest()])[0]
    return LogRecord("v", 0, 0, None, value, 1, headers)


# --- Files ---


def test_init_makes_every_file_and_private_ones_are_for_their_owner(folder):
    assert names(folder) == sorted(keyring.FILES)
    modes = {name: (folder / name).stat().st_mode & 0o777 for name in keyring.FILES}
    assert {name for name, mode in modes.items() if mode == 0o600} == set(PRIVATE)
    assert folder.stat().st_mode & 0o077 == 0


def test_no_public_file_has_what_a_private_one_has(folder):
    secrets = [json.loads((folder / name).read_text())["private"] for name in PRIVATE]
    assert len(set(secrets)) == len(PRIVATE)
    for name in set(keyring.FILES) - set(PRIVATE):
        assert not any(secret in (folder / name).read_text() for secret in secrets)


@pytest.mark.parametrize("name", keyring.FILES)
def test_what_is_there_is_never_replaced_and_nothing_is_written_beside_it(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=name):
        keyring.create(tmp_path, BOUND)
    assert names(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", PRIVATE[1:3])
def test_a_private_file_that_everybody_may_read_is_refused(folder, name):
    (folder / name).chmod(0o644)
    with pytest.raises(ConfigError, match="everybody may read it") as refused:
        worker_pair(settings(folder), BOUND.incarnation)
    assert "chmod 600" in refused.value.hint


@pytest.mark.parametrize("name", ["root.pub", "pdp.key", "worker.key", "worker.crt"])
@pytest.mark.parametrize("content", [None, "", "[]", "no json", "{}", '{"v": 2}', '{"v": 1, "purpose": "other"}', "half"])
def test_a_file_that_is_missing_or_another_one_is_named(folder, name, content):
    path = folder / name
    half = json.dumps({k: v[:-1] if k in {"private", "public", "sig"} else v for k, v in json.loads(path.read_text()).items()})
    path.unlink()
    if content is not None:
        path.write_text(half if content == "half" else content)
        path.chmod(0o600)
    with pytest.raises(ConfigError) as refused:
        worker_pair(settings(folder), BOUND.incarnation)
    assert name in refused.value.message or "worker.crt" in refused.value.message


def test_no_error_repeats_a_private_key(folder):
    path = folder / "pdp.key"
    secret = json.loads(path.read_text())["private"][:-1]
    path.write_text(json.dumps({**json.loads(path.read_text()), "private": secret}))
    with pytest.raises(ConfigError) as refused:
        worker_pair(settings(folder), BOUND.incarnation)
    assert secret[:8] not in str(refused.value)


def test_a_key_of_another_purpose_is_none(folder):
    (folder / "worker.key").write_text((folder / "root.key").read_text())
    with pytest.raises(ConfigError, match="no worker key"):
        worker_pair(settings(folder), BOUND.incarnation)


# --- Certificates ---


def test_a_certificate_counts_for_its_realm_and_its_topics(folder):
    with pytest.raises(ConfigError, match="recreated") as refused:
        worker_pair(settings(folder), "t1.t3")
    assert "harness keys certify" in refused.value.hint
    with pytest.raises(ConfigError, match="realm `acme`"):
        worker_pair(settings(folder, realm="other"), BOUND.incarnation)


def test_a_worker_of_another_root_is_refused_before_it_writes(folder, tmp_path):
    keyring.create(tmp_path / "others", BOUND)
    for name in ("worker.key", "worker.crt"):
        (folder / name).write_text((tmp_path / "others" / name).read_text())
    with pytest.raises(ConfigError, match="does not certify"):
        worker_pair(settings(folder), BOUND.incarnation)
    with pytest.raises(ConfigError, match="not the private half"):
        keyring.certify_role(folder, BOUND, root=tmp_path / "others" / "root.key")


def test_certified_anew_it_counts_for_new_topics_and_epochs(folder, tmp_path):
    elsewhere = tmp_path / "root.key"
    (folder / "root.key").rename(elsewhere)
    with pytest.raises(ConfigError, match=r"root\.key` is missing") as refused:
        keyring.certify_role(folder, BOUND)
    assert "--root" in refused.value.hint
    keyring.certify_role(folder, BOUND._replace(incarnation="t3.t4"), "worker", (2, 5), elsewhere)
    signer, verifier = worker_pair(settings(folder), "t3.t4")
    assert [signer.may_sign(epoch) for epoch in (1, 2, 5, 6)] == [False, True, True, False]
    assert verifier.decision_authentic(record(signer, 2))
    assert not verifier.decision_authentic(record(signer, 6))
    assert names(folder) == sorted({*keyring.FILES} - {"root.key"})


# --- Pairs ---


def test_a_worker_a_reader_and_an_operator_of_one_folder_understand_each_other(folder):
    signer, verifier = worker_pair(settings(folder), BOUND.incarnation)
    reader, operator = verifier_of(settings(folder), BOUND.incarnation), operator_signer(settings(folder), BOUND.incarnation)
    for written in (record(signer), record(operator)):
        assert verifier.decision_authentic(written)
        assert reader.decision_authentic(written)
    assert verifier.judges_inputs
    assert not reader.judges_inputs
    assert not signer.dev


def test_a_reader_needs_the_roots_public_key_and_nothing_else(folder):
    for name in {*keyring.FILES} - {"root.pub"}:
        (folder / name).unlink()
    assert not verifier_of(settings(folder), BOUND.incarnation).judges_inputs


def test_dev_is_unsigned_and_says_so():
    dev = Settings(dev=True)
    signer, verifier = worker_pair(dev, "i")
    assert isinstance(signer, UnsignedSigner)
    assert isinstance(verifier, UnsignedVerifier)
    assert isinstance(verifier_of(dev, "i"), UnsignedVerifier)
    assert isinstance(operator_signer(dev, "i"), UnsignedSigner)
    assert signer.dev


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Settings(), "harness keys init"),
        (Settings(dev=True, keys="keys"), "leave out"),
        (Settings(keys="/nowhere/at/all"), "harness keys init"),
    ],
)
def test_nobody_is_unsigned_who_did_not_ask_for_it(given, said):
    for ask in (keys_of, lambda s: verifier_of(s, "i"), lambda s: worker_pair(s, "i"), lambda s: operator_signer(s, "i")):
        with pytest.raises(ConfigError) as refused:
            ask(given)
        assert said in refused.value.hint


def test_an_unsigned_process_loads_no_cryptography():
    code = """
import sys
from harness_stream.config import Settings
from harness_stream.adapters.signing.pairs import worker_pair
worker_pair(Settings(dev=True), "i")
import harness_stream.cli.main, harness_stream.cli.keys, harness_stream.cli.agents, harness_stream.cli.verdicts
assert not [name for name in sys.modules if name.startswith("cryptography")]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- Commands ---


def test_the_commands_make_and_certify_keys(tmp_path):
    folder, offline = str(tmp_path / "k"), ["--incarnation", "t1.t2", "--realm", "acme", "--json"]
    made = CliRunner().invoke(app, ["keys", "init", folder, *offline])
    assert made.exit_code == 0, made.output
    told = json.loads(made.output)
    assert (told["realm"], told["incarnation"]) == BOUND
    again = CliRunner().invoke(app, ["keys", "certify", folder, *offline, "--first-epoch", "3", "--last-epoch", "4"])
    assert json.loads(again.output) == {**told, "role": "worker", "first_epoch": 3, "last_epoch": 4}
    signer, _ = worker_pair(settings(tmp_path / "k"), "t1.t2")
    assert signer.may_sign(3)
    assert not signer.may_sign(5)


def test_epochs_that_end_before_they_begin_are_refused(folder):
    done = CliRunner().invoke(app, ["keys", "certify", str(folder), "--incarnation", "t", "--first-epoch", "3", "--last-epoch", "2"])
    assert isinstance(done.exception, CallerError)


def test_making_them_twice_is_refused_with_what_to_do(folder):
    done = CliRunner().invoke(app, ["keys", "init", str(folder), "--incarnation", "t"])
    assert isinstance(done.exception, ConfigError)
    assert "another folder" in done.exception.hint
