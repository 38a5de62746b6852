"""`harness rules push` and `status`: what is written to the rules topic, and what is told of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.memory.broker import MemoryBroker
from harness_stream.adapters.memory.log import MemoryReader, MemoryWriter
from harness_stream.cli.main import app
from harness_stream.cli.rules import UNUSABLE_HINT, Wanted, publish, report_of, status_text, tell_pushed
from harness_stream.config import Settings
from harness_stream.core.rules import load
from harness_stream.errors import CallerError
from harness_stream.wire.rules_topic import Pushed, newest_active
from harness_stream.wire.topics import Topics

TOPIC = Topics(Settings().prefix).rules
SOUND = "rule_set: production\ndefault: deny\nrules:\n  - {id: a, effect: approve, when: 'true'}\n"
OTHER = SOUND.replace("id: a", "id: b")


class Realm:
    """A rules topic in memory."""

    def __init__(self):
        self.clock = SystemClock()
        self.broker = MemoryBroker({TOPIC: 1}, self.clock.now_ms)

    def push(self, text=SOUND, *, now=False):
        reader, writer = MemoryReader(self.broker), MemoryWriter(self.broker)
        return publish(load(text), Settings(), reader, writer, self.clock, now=now)

    def active(self):
        records = self.broker.read(TOPIC, 0, 0, 1_000)
        return [orjson.loads(r.value) for r in records if r.key == b"active/production"]


@pytest.fixture
def realm():
    return Realm()


# --- push ---


def test_a_set_that_was_switched_to_at_once_becomes_active_again_so_that_its_windows_are_counted(realm):
    realm.push(now=True)
    pushed, changed = realm.push()
    assert (pushed, changed) == (Pushed(load(SOUND).digest, 2, now=False), True)
    assert [(body["revision"], body["now"]) for body in realm.active()] == [(1, True), (2, False)]


@pytest.mark.parametrize(("first", "again"), [(False, False), (False, True), (True, True)])
def test_a_push_that_changes_nothing_writes_nothing(realm, first, again):
    before, _ = realm.push(now=first)
    assert realm.push(now=again) == (before, False)
    assert len(realm.active()) == 1


@pytest.mark.parametrize("broken", [b"no JSON", b"[]", b'{"digest":"x"}', b'{"digest":"x","revision":"2"}', None])
def test_an_active_record_that_cannot_be_read_names_nothing_to_workers_and_people(realm, broken):
    before, _ = realm.push()
    writer = MemoryWriter(realm.broker)
    writer.append(TOPIC, 0, b"active/production", broken, (), token=1)
    assert newest_active(((r.key, r.value) for r in realm.broker.read(TOPIC, 0, 0, 1_000)), "production") == before
    assert realm.push() == (before, False)


def test_a_set_that_is_active_and_whose_bundle_is_not_there_is_written_again(realm):
    named = orjson.dumps({"digest": load(SOUND).digest, "revision": 1})
    writer = MemoryWriter(realm.broker)
    writer.append(TOPIC, 0, b"active/production", named, (), token=1)
    assert realm.push() == (Pushed(load(SOUND).digest, 2), True)
    assert load(SOUND).bundle in [r.value for r in realm.broker.read(TOPIC, 0, 0, 1_000)]


def test_another_set_gets_the_next_revision(realm):
    realm.push()
    pushed, changed = realm.push(OTHER, now=True)
    assert (pushed, changed) == (Pushed(load(OTHER).digest, 2, now=True), True)


# --- push, before anything is written ---

KEYS = {"ok", "changed", "digest", "revision", "mistakes", "unusable"}
WRONG = SOUND.replace("'true'", "identity.rols")
WARNED = SOUND + "  - {id: b, effect: hold, when: 'false'}\n"


def pushed(tmp_path, text, *options):
    (tmp_path / "r.yaml").write_text(text, "utf-8")
    return CliRunner().invoke(app, ["rules", "push", str(tmp_path / "r.yaml"), *options])


@pytest.mark.parametrize(
    ("text", "options", "code"), [(WRONG, (), "unknown-field"), (WARNED, ("--strict",), "never-fires")]
)
def test_json_has_the_mistakes_that_keep_a_set_from_being_pushed(tmp_path, text, options, code):
    result = pushed(tmp_path, text, "--json", *options)
    told = orjson.loads(result.stdout)
    assert result.exit_code == 2
    assert set(told) == KEYS
    assert (told["ok"], told["changed"], told["digest"], told["revision"]) == (False, False, None, None)
    assert [(m["code"], m["line"]) for m in told["mistakes"]] == [(code, 4 + (text is WARNED))]


@pytest.mark.parametrize(
    ("text", "options", "code", "told"),
    [
        (WRONG, (), "[unknown-field]", "has mistakes; nothing was pushed"),
        (WARNED, ("--strict",), "[never-fires]", "has warnings (--strict); nothing was pushed"),
        (WARNED.replace("production", "other"), (), "[never-fires]", "this realm decides by `production`"),
    ],
)
def test_people_see_mistakes_and_warnings(tmp_path, text, options, code, told):
    result = pushed(tmp_path, text, *options)
    assert code in result.stderr
    assert isinstance(result.exception, CallerError)
    assert told in result.exception.message


@pytest.mark.parametrize(
    ("options", "told", "hint"),
    [
        (("--set", "m=1"), "`--set m`: there is no parameter `m`; nothing was pushed", "known: `n`"),
        (("--set", "n=bad"), "`--set n`: `params.n` is a number, and this is a text; nothing was pushed", "like 3"),
        (("--set", "n=9007199254740993"), "`--set n`: out of range; nothing was pushed", "between"),
    ],
)
def test_a_setting_that_the_file_does_not_take_is_the_flags_mistake_and_not_the_files(tmp_path, options, told, hint):
    text = SOUND.replace("rules:", "params: {n: 3}\nrules:").replace("'true'", "'chain.events < params.n'")
    result = pushed(tmp_path, text, *options)
    assert isinstance(result.exception, CallerError)
    assert result.exception.message == told
    assert hint in result.exception.hint
    assert result.stderr == ""
    both = pushed(tmp_path, text.replace("chain.events", "chain.evnts"), *options)
    assert "has mistakes; nothing was pushed" in both.exception.message
    assert "[setting]" in both.stderr
    assert "[unknown-field]" in both.stderr


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: None, "No such file or directory"),
        (lambda file: file.mkdir(), "Is a directory"),
        (lambda file: file.write_bytes(b"\x89PNG\xff"), "not UTF-8 at byte 0"),
        (lambda file: file.write_bytes(b"#" * 300_000), "larger than 262,144 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_not_said_to_have_mistakes(tmp_path, make, told):
    file = tmp_path / "r.yaml"
    make(file)
    result = CliRunner().invoke(app, ["rules", "push", str(file)])
    assert isinstance(result.exception, CallerError)
    assert result.exception.message == f"{file}: {told}; nothing was pushed"
    data = orjson.loads(CliRunner().invoke(app, ["rules", "push", str(file), "--json"]).stdout)
    assert [m["code"] for m in data["mistakes"]] == ["unreadable"]


def test_watching_a_file_that_is_not_there_says_so_and_takes_it_when_it_comes(tmp_path):
    file = tmp_path / "r.yaml"
    command = [sys.executable, "-m", "harness_stream", "rules", "push", "--watch", "--json", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == f"watching {file}; Ctrl-C ends\n"
        assert process.stderr.readline() == f"{file} cannot be read; waiting for it\n"
        (tmp_path / "draft").write_text(WRONG, "utf-8")
        (tmp_path / "draft").replace(file)
        assert orjson.loads(process.stdout.readline())["mistakes"][0]["code"] == "unknown-field"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130


DIGEST = "d" * 64
CAUSE = "bundle dddddddddddd does not load: the longest window is 86,400 s"


def test_a_set_that_is_active_and_unusable_is_not_pushed_again_as_if_nothing_were_to_do(capsys):
    pushed = Pushed(DIGEST, 2)
    with pytest.raises(CallerError) as raised:
        tell_pushed(Wanted(Path("r.yaml"), {}), "production", (), pushed, changed=False, unusable={"1": CAUSE})
    assert f"already at this digest, revision 2, and it is unusable: partition 1: {CAUSE}" in raised.value.message
    assert raised.value.hint == UNUSABLE_HINT
    with pytest.raises(typer.Exit) as left:
        tell_pushed(
            Wanted(Path("r.yaml"), {}, json=True), "production", (), pushed, changed=False, unusable={"1": CAUSE}
        )
    told = orjson.loads(capsys.readouterr().out)
    assert (left.value.exit_code, told["ok"], told["changed"], told["unusable"]) == (2, False, False, {"1": CAUSE})


# --- status ---


def in_force(revision):
    return {"rules": {"digest": DIGEST, "revision": revision}, "next_rules": None}


def test_a_set_that_was_switched_to_at_once_is_told_with_what_to_do():
    report = report_of("production", Pushed(DIGEST, 2, now=True), {0: in_force(2)})
    assert report["active"] == {"digest": DIGEST, "revision": 2, "now": True}
    assert "without --now" in report["hint"]
    assert status_text(report).splitlines() == [
        f"rule set `production`: revision 2, digest {DIGEST[:12]}, pushed with --now: windows that were new may be unknown",
        f"  → {report['hint']}",
        f"  partition 0: revision 2, digest {DIGEST[:12]}",
    ]


def test_a_set_whose_windows_were_counted_needs_no_hint():
    report = report_of("production", Pushed(DIGEST, 2), {0: in_force(2), 1: in_force(1), 2: None})
    assert report["hint"] == ""
    assert status_text(report).splitlines() == [
        f"rule set `production`: revision 2, digest {DIGEST[:12]}",
        f"  partition 0: revision 2, digest {DIGEST[:12]}",
        f"  partition 1: revision 1, digest {DIGEST[:12]}  ← not switched yet",
        "  partition 2: no checkpoint yet (is a worker running?)",
    ]


def test_a_realm_without_rules_says_so():
    report = report_of("production", None, {0: in_force(1)})
    assert status_text(report).splitlines()[0] == "rule set `production`: none pushed"


def unusable(revision, in_force_too=1):
    return in_force(in_force_too) | {"next_rules": {"revision": revision, "state": "unusable", "detail": CAUSE}}


@pytest.mark.parametrize("now", [False, True])
def test_what_was_pushed_and_is_unusable_is_no_success(now):
    report = report_of("production", Pushed(DIGEST, 2, now=now), {0: in_force(1), 1: unusable(2)})
    assert (report["ok"], report["hint"]) == (False, UNUSABLE_HINT)
    assert status_text(report).splitlines() == [
        f"rule set `production`: revision 2, digest {DIGEST[:12]}, unusable: the rules before it stay in force",
        f"  → {UNUSABLE_HINT}",
        f"  partition 0: revision 1, digest {DIGEST[:12]}  ← not switched yet",
        f"  partition 1: revision 1, digest {DIGEST[:12]}  ← revision 2: unusable, {CAUSE}",
    ]


def test_an_unusable_set_that_a_push_has_replaced_fails_nothing():
    report = report_of("production", Pushed(DIGEST, 3), {0: unusable(2)})
    assert (report["ok"], report["hint"]) == (True, "")
