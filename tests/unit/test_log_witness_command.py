"""`harness log witness` and `log verify --witness` on a terminal: what they refuse, and what they say."""

import json
import re
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness_stream.cli import log_witness
from harness_stream.cli.log_verify import _require_partitions
from harness_stream.cli.log_witness import _say_what_it_does, _summary, _tell
from harness_stream.cli.main import app
from harness_stream.core.audit import Finding, Kind
from harness_stream.errors import CallerError

FOUND = Finding(Kind.TRUNCATED, 3, 100, "held: offset 100; the log ends at \x1b[2J80")


class Held:
    """A witness that has held so many."""

    kept = 12


@pytest.mark.parametrize(("every", "why"), [("0s", "too short"), ("soon", "not a duration")])
def test_an_interval_that_is_none_is_refused_before_anything_is_asked(every, why, tmp_path):
    done = CliRunner().invoke(app, ["log", "witness", str(tmp_path / "x"), "--every", every])
    assert isinstance(done.exception, CallerError)
    assert why in str(done.exception)
    assert not (tmp_path / "x").exists()


def test_a_path_that_cannot_be_written_is_told_before_the_broker_is_asked(tmp_path):
    done = CliRunner().invoke(app, ["log", "witness", str(tmp_path / "no" / "x"), "--dev", "--bootstrap", "127.0.0.1:1"])
    assert isinstance(done.exception, CallerError)
    assert "No such file" in str(done.exception)


def test_so_is_a_witness_that_holds_nothing(tmp_path):
    done = CliRunner().invoke(app, ["log", "verify", "--witness", str(tmp_path), "--dev", "--bootstrap", "127.0.0.1:1"])
    assert isinstance(done.exception, CallerError)
    assert "holds no checkpoint" in str(done.exception)


def test_held_partitions_that_the_realm_does_not_have_are_the_callers_mistake():
    _require_partitions({0, 3}, 4)
    with pytest.raises(CallerError, match="partition 4 are held, and the decision log has 0 to 3"):
        _require_partitions({0, 4}, 4)


def test_growth_is_said_before_it_begins(capsys):
    _say_what_it_does("heads/", "60s", 60_000)
    told = capsys.readouterr().err
    assert "newest checkpoint of each 60s in heads/: at most 1,440 lines, 0.8 MB, a day and partition" in told


def test_the_help_and_the_readme_say_the_same_growth():
    text = " ".join(CliRunner().invoke(app, ["log", "witness", "--help"]).output.split())
    assert "at most 1,440 lines, 0.8 MB, a day and partition" in text
    assert "harness log witness" in (Path(__file__).parents[2] / "README.md").read_text("utf-8")


def test_a_contradiction_is_told_at_once_and_moves_no_cursor(capsys):
    _tell(FOUND, json=False)
    line = re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out)
    assert line == "3/100  truncated: held: offset 100; the log ends at ?[2J80\n"


def test_programs_get_a_line_a_contradiction_and_a_summary(capsys):
    _tell(FOUND, json=True)
    _summary(Held(), 1, json=True)
    found, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["finding"], found["partition"], found["offset"]) == ("truncated", 3, 100)
    assert summary == {"summary": {"findings": 1, "held": 12}}


class Hanging(Held):
    """A witness whose mount hangs: who waits for its last lines presses Ctrl-C again."""

    read = 0

    def begin(self):
        return ()

    def step(self):
        signal.raise_signal(signal.SIGINT)
        return ()

    def finish(self):
        signal.raise_signal(signal.SIGINT)


@pytest.fixture
def signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
def test_a_second_ctrl_c_ends_it_while_the_last_lines_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(log_witness, "_opened", lambda *_: nullcontext(Hanging()))
    done = CliRunner().invoke(app, ["log", "witness", str(tmp_path / "x"), "--dev"])
    assert done.exit_code != 0
    assert "checkpoints held" not in done.output
    # All is put away, and how it ended must not depend on one more.
    assert signal.getsignal(signal.SIGINT) is signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("found", "text"), [(0, "nothing contradicts what was held"), (1, "1 contradiction"), (2, "2 contradictions")]
)
def test_the_last_line_is_the_answer(found, text, capsys):
    _summary(Held(), found, json=False)
    assert re.sub(r"\x1b\[\d+m", "", capsys.readouterr().out) == f"12 checkpoints held; {text}\n"
