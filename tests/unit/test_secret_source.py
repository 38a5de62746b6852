"""Keys and credentials that are in no file: from a variable, or from what a program prints; and nothing of them is shown."""

from __future__ import annotations

import json
import logging
import shlex
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from harness_stream import secret_source
from harness_stream.adapters.signing import keyring
from harness_stream.adapters.signing.enforcers import Enforcer
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.pairs import keys_of, operator_signer, rules_signer, verifier_of, worker_pair
from harness_stream.client.credentials import Credentials
from harness_stream.config import Settings, load_settings
from harness_stream.errors import ConfigError
from harness_stream.ports import LogRecord
from harness_stream.secret_source import SECRET_BYTES_MAX, STDERR_CHARS_SHOWN, document_of

BOUND = Bound("acme", "t1.t2")
TOLD_TO_NOBODY = "vErYsEcReT"


@pytest.fixture(autouse=True)
def nothing_was_run_yet():
    secret_source._printed.cache_clear()


def program(code, *words):
    """A command that runs Python."""
    return f"command:{shlex.join([sys.executable, '-c', code, *words])}"


def printing(text, then=""):
    return program(f"import sys; sys.stdout.write(sys.argv[1]); {then}", text)


def refused(source):
    with pytest.raises(ConfigError) as caught:
        document_of(source)
    assert TOLD_TO_NOBODY not in str(caught.value)
    return caught.value


# --- Reading ---


def test_what_a_program_prints_is_read_and_it_is_run_once_in_a_process(tmp_path):
    note = tmp_path / "runs"
    source = program("import sys; open(sys.argv[1], 'a').write('x'); print('{\"a\": 1}')", str(note))
    assert document_of(source) == document_of(source) == {"a": 1}
    assert note.read_text() == "x"


def test_what_a_variable_holds_is_read(monkeypatch):
    monkeypatch.setenv("REALM_SECRETS", '{"a": 1}')
    assert document_of("env:REALM_SECRETS") == {"a": 1}


def test_no_shell_sees_the_words(tmp_path, monkeypatch):
    """Whatever a shell would make of it is an argument like any other."""
    monkeypatch.chdir(tmp_path)
    words = ["$(touch pwned)", ";", "touch pwned", "&&", "`id`", "|", "cat", "$HOME", "*"]
    found = document_of(program("import sys, json; print(json.dumps({'words': sys.argv[1:]}))", *words))
    assert found["words"] == words
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_waits_for_a_person_gets_none():
    assert document_of(program("import sys, json; print(json.dumps({'said': sys.stdin.read()}))")) == {"said": ""}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("env:NOBODY_SET_THIS", "`NOBODY_SET_THIS` is not set"),
        ("command:", "names no program"),
        ("command:/no/such/program --token x", "was not run: No such file"),
        ('command:vault "read', "cannot be taken apart"),
        (printing(""), "is empty"),
        (printing(f"{TOLD_TO_NOBODY}"), "holds no JSON"),
        (printing(f'["{TOLD_TO_NOBODY}"]'), "no object"),
        (printing('{"a": ' * 5_000), "holds no JSON"),
        (program(f"import sys; sys.stdout.buffer.write(b'\\xff{TOLD_TO_NOBODY}')"), "holds no JSON"),
    ],
    ids=range(9),
)
def test_what_gives_no_document_is_said_without_showing_it(source, said):
    assert said in refused(source).message


def test_when_it_fails_its_last_words_are_told_and_what_it_printed_is_not():
    error = refused(program(f"import sys; print('{TOLD_TO_NOBODY}'); sys.exit('permission denied \\x1b[31mby the vault')"))
    assert "ended with exit code 1" in error.message
    assert "it said: permission denied" in error.hint
    assert "by the vault" in error.hint
    assert "\x1b" not in str(error)


def test_arguments_are_not_repeated():
    error = refused(program("raise SystemExit(3)", TOLD_TO_NOBODY))
    assert "exit code 3" in error.message
    assert "said nothing on standard error" in error.hint


def test_endless_last_words_are_cut():
    error = refused(program("import sys; sys.stderr.write('x' * 1_000_000); sys.exit(2)"))
    assert len(error.hint) <= STDERR_CHARS_SHOWN + len("it said: ")


def test_more_than_any_secret_has_is_refused_and_nobody_waits_for_all_of_it():
    began_s = time.monotonic()
    error = refused(program(f"import sys\nwhile True: sys.stdout.write('{TOLD_TO_NOBODY}' * 1_000)"))
    assert time.monotonic() - began_s < secret_source.COMMAND_S_MAX / 2
    assert "exit code" in error.message or "printed more" in error.message
    assert "printed more" in refused(printing("x" * (SECRET_BYTES_MAX + 1))).message


def test_one_that_hangs_is_ended_with_what_it_started(monkeypatch, tmp_path):
    monkeypatch.setattr(secret_source, "COMMAND_S_MAX", 1.0)
    note = tmp_path / "pid"
    child = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); open(sys.argv[1], 'w').write(str(p.pid)); p.wait()"
    began_s = time.monotonic()
    error = refused(program(f"import sys; sys.stderr.write('waiting for a token\\n'); sys.stderr.flush(); {child}", str(note)))
    assert time.monotonic() - began_s < 5
    assert "did not end within" in error.message
    assert "waiting for a token" in error.hint
    patience = time.monotonic() + 5
    while _lives(int(note.read_text())) and time.monotonic() < patience:
        time.sleep(0.02)
    assert not _lives(int(note.read_text()))


def _lives(pid):
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_one_that_leaves_a_child_with_its_output_behind_is_not_waited_for():
    began_s = time.monotonic()
    code = "import subprocess, sys; print('{}'); sys.stdout.flush(); subprocess.Popen(['sleep', '60'])"
    assert document_of(program(code)) == {}
    assert time.monotonic() - began_s < 5


# --- A realm's keys ---


@pytest.fixture
def folder(tmp_path):
    keyring.create(tmp_path / "keys", BOUND)
    return tmp_path / "keys"


def document(folder, *, as_text=False, names=keyring.FILES):
    texts = {name: (folder / name).read_text() for name in names if name != "root.key"}
    return json.dumps(texts if as_text else {name: json.loads(text) for name, text in texts.items()})


@pytest.fixture(params=["env", "command", "texts"])
def settings(request, folder, monkeypatch):
    monkeypatch.setenv("REALM_SECRETS", document(folder, as_text=request.param == "texts"))
    if request.param == "command":
        return Settings(realm="acme", keys=program("import os; print(os.environ['REALM_SECRETS'])"))
    return Settings(realm="acme", keys="env:REALM_SECRETS")


def test_a_worker_a_reader_and_an_operator_understand_who_has_the_folder(settings, folder):
    there = Settings(realm="acme", keys=str(folder))
    for one, other in ((settings, there), (there, settings)):
        signer, verifier = worker_pair(one, BOUND.incarnation)
        reader = verifier_of(other, BOUND.incarnation)
        for written in (signer, operator_signer(one, BOUND.incarnation)):
            headers = written.seal_batch(0, ["44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"])[0]
            assert reader.decision_authentic(LogRecord("v", 0, 0, None, b"{}", 1, headers))
        assert verifier.judges_inputs
    assert keyring.value_key(keys_of(settings)) == keyring.value_key(folder)


def test_a_rule_pusher_and_an_enroller_have_theirs_in_it_as_well(settings, folder):
    keys = keys_of(settings)
    assert rules_signer(settings, BOUND.incarnation).seal_rules("r", b"k", b"{}")
    for role in ("rules", "enroll"):
        mine, theirs = (keyring.certified_key(k, BOUND, role).certificate for k in (keys, folder))
        assert mine == theirs
    gate = Enforcer("gate-1", "l", bytes(32), 1, 2)
    assert keyring.vouch(keys, BOUND, gate) == keyring.vouch(folder, BOUND, gate)


def test_who_has_no_rules_key_in_it_pushes_none(folder, monkeypatch):
    monkeypatch.setenv("REALM_SECRETS", document(folder, names=["root.pub", "rules.key"]))
    with pytest.raises(ConfigError, match=r"`rules\.crt` in what the variable `REALM_SECRETS` holds") as caught:
        rules_signer(Settings(realm="acme", keys="env:REALM_SECRETS"), BOUND.incarnation)
    assert "certify DIR --role rules" in caught.value.hint


def test_the_pdps_former_key_counts_from_it_too_and_may_be_missing(folder, monkeypatch):
    monkeypatch.setenv("REALM_SECRETS", document(folder))
    assert keyring.pdp_former(keys_of(Settings(realm="acme", keys="env:REALM_SECRETS"))) == ()
    keyring.rotate(folder, "pdp", 2**53)
    names = [path.name for path in folder.iterdir()]
    monkeypatch.setenv("REALM_SECRETS", document(folder, names=names))
    ((mine, until),) = keyring.pdp_former(keys_of(Settings(realm="acme", keys="env:REALM_SECRETS")))
    ((theirs, _),) = keyring.pdp_former(folder)
    assert (mine.private_bytes_raw(), until) == (theirs.private_bytes_raw(), 2**53)


def test_a_reader_needs_the_roots_public_key_and_nothing_else(folder, monkeypatch):
    monkeypatch.setenv("REALM_SECRETS", document(folder, names=["root.pub"]))
    public = Settings(realm="acme", keys="env:REALM_SECRETS")
    assert not verifier_of(public, BOUND.incarnation).judges_inputs
    with pytest.raises(ConfigError, match=r"`REALM_SECRETS` holds no `worker\.key`") as caught:
        operator_signer(public, BOUND.incarnation)
    assert "harness keys init" in caught.value.hint


@pytest.mark.parametrize("content", ["no json", [], 1, {"v": 2}, {"v": 1, "purpose": "other"}, "{}"])
@pytest.mark.parametrize("name", ["root.pub", "pdp.key", "worker.key", "worker.crt"])
def test_an_entry_that_is_another_one_is_named(folder, monkeypatch, name, content):
    monkeypatch.setenv("REALM_SECRETS", json.dumps({**json.loads(document(folder)), name: content}))
    with pytest.raises(ConfigError) as caught:
        worker_pair(Settings(realm="acme", keys="env:REALM_SECRETS"), BOUND.incarnation)
    assert name in caught.value.message


def test_no_error_and_no_print_repeats_a_key(folder, monkeypatch, caplog, capfd):
    secret = json.loads((folder / "pdp.key").read_text())["private"]
    short = document(folder).replace(secret, secret[:-1])
    monkeypatch.setenv("REALM_SECRETS", short)
    with caplog.at_level(logging.DEBUG), pytest.raises(ConfigError) as caught:
        worker_pair(Settings(realm="acme", keys="env:REALM_SECRETS"), BOUND.incarnation)
    keys = keys_of(Settings(realm="acme", keys="env:REALM_SECRETS"))
    said = f"{caught.value} {caught.value.__cause__} {keys!r} {caplog.text} {''.join(capfd.readouterr())}"
    assert secret[:8] not in said


def test_keys_from_elsewhere_and_dev_contradict_each_other():
    with pytest.raises(ConfigError, match="unsigned"):
        keys_of(Settings(dev=True, keys="env:REALM_SECRETS"))


def test_a_settings_file_that_others_may_write_names_no_command(tmp_path):
    path = tmp_path / "harness.toml"
    path.write_text('keys = "command:vault kv get -field=keys secret/harness"\n')
    path.chmod(0o644)
    assert load_settings(path, {}).keys.startswith("command:vault")
    for mode in (0o664, 0o646):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="others may write") as caught:
            load_settings(path, {})
        assert "chmod" in caught.value.hint
    path.write_text('keys = "keys"\n')
    assert load_settings(path, {}).keys == "keys"


# --- Credentials ---

CREDENTIALS = {"realm": "acme", "agent_id": "a", "lane": "l", "dev": True, "fingerprint_key": "A" * 43}


def test_credentials_come_from_a_variable_or_a_program_and_words_win_over_them(monkeypatch):
    monkeypatch.setenv("AGENT_SECRETS", json.dumps(CREDENTIALS))
    for source in ("env:AGENT_SECRETS", printing(json.dumps(CREDENTIALS))):
        found = Credentials.of(source, lane="other")
        assert (found.realm, found.agent_id, found.lane) == ("acme", "a", "other")
        assert found.value_key() == bytes(32)


def test_what_is_wrong_with_them_is_said_without_showing_them(monkeypatch):
    monkeypatch.setenv("AGENT_SECRETS", json.dumps({**CREDENTIALS, "fingerprint_key": TOLD_TO_NOBODY}))
    with pytest.raises(ConfigError, match="the variable `AGENT_SECRETS`: `fingerprint_key`") as caught:
        Credentials.of("env:AGENT_SECRETS")
    assert TOLD_TO_NOBODY not in str(caught.value)
