"""`harness token verify`: what it shows, its exit codes, and what it refuses to read."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from harness_stream.adapters.signing.keys import text_of
from harness_stream.cli.main import app
from harness_stream.errors import CallerError, ConfigError, TokenRefused
from tests.tokens import ARGUMENTS, NOW, REALM, records, token, verdict_body


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("harness_stream.adapters.clock.SystemClock.now_ms", lambda _self: NOW)
    public = {"v": 1, "purpose": "root", "alg": "ed25519", "public": text_of(REALM.root_public)}
    (tmp_path / "root.pub").write_text(json.dumps(public))
    (tmp_path / "token.txt").write_text(token() + "\n")
    (tmp_path / "refund.json").write_text(json.dumps(ARGUMENTS))
    return tmp_path


def run(*words, file="token.txt", **more):
    asked = ["token", "verify", file, "--audience", "payments", "--root", "root.pub", "--realm", "acme"]
    return CliRunner().invoke(app, [*asked, *words], **more)


def test_it_says_what_may_be_run_and_what_was_not_compared(here):
    done = run()
    assert done.exit_code == 0
    assert "`support-1` may run `crm.refund` once, within 5.0 s" in done.output
    assert "not compared: give --action and --arguments" in done.output
    assert "not compared" not in run("--action", "crm.refund", "--arguments", "refund.json").output


def test_as_json_and_from_standard_input(here):
    done = run("--json", "--arguments", "refund.json", file="-", input=(here / "token.txt").read_text())
    told = json.loads(done.output)
    assert (told["agent_id"], told["action"], told["left_ms"]) == ("support-1", "crm.refund", 5_000)
    assert told["compared"] == {"action": False, "arguments": True}


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (("--action", "crm.read"), "token_action"),
        (("--audience", "other"), "token_audience"),
        (("--realm", "other"), "token_realm"),
        (("--incarnation", "other"), "token_realm"),
    ],
)
def test_a_refusal_names_its_reason(here, words, word):
    error = run(*words).exception
    assert type(error) is TokenRefused
    assert (error.exit_code, error.reasons) == (1, (word,))


def test_other_arguments_are_refused(here):
    (here / "refund.json").write_text(json.dumps({**ARGUMENTS, "amount": 41}))
    assert run("--arguments", "refund.json").exception.reasons == ("token_arguments",)


@pytest.mark.parametrize("text", ["", "?", "[1]", "[" * 100_000, '{"a": NaN}', '{"a": 1e400}', '{"a": ' + "9" * 5_000 + "}", "\xff"])
def test_arguments_that_are_none_are_the_callers_mistake(here, text):
    (here / "refund.json").write_bytes(text.encode("latin-1"))
    assert isinstance(run("--arguments", "refund.json").exception, CallerError)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"A" * 200_000, b""])
def test_what_is_no_token_is_refused(here, content):
    (here / "token.txt").write_bytes(content)
    assert isinstance(run().exception, CallerError | TokenRefused)


def test_files_that_are_not_there_are_named(here):
    assert "`nowhere` cannot be read" in run(file="nowhere").exception.message
    assert isinstance(run("--root", "nowhere").exception, ConfigError)


def test_text_of_a_verdict_moves_no_cursor(here):
    body = verdict_body(event={"resources": [{"uri": "crm://\x1b[2J"}]})
    (here / "token.txt").write_text(token(records(body)[0]))
    assert "\x1b" not in run().output
