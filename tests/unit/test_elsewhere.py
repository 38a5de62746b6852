"""A server that does not answer, while this folder's stack is at another address: the hint says where, and what to export."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness_stream.cli.flags import takes
from harness_stream.cli.main import app
from harness_stream.errors import BrokerUnavailable, CallerError, HarnessError, StateUnavailable, Unreachable
from harness_stream.local.process import ProcessRecord, birth_mark

MOVED = "127.0.0.1:19092"
MOVED_REDIS = "redis://127.0.0.1:16379/0"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("HARNESS_")]:
        monkeypatch.delenv(name)
    return tmp_path


def kept(folder: Path, name: str, address: str, *, running: bool = True) -> None:
    """The record that `harness up` leaves of a server; this very process stands for one that runs."""
    born = birth_mark(os.getpid()) if running else "before the last start of this machine"
    home = folder / ".harness" / name
    home.mkdir(parents=True)
    record = ProcessRecord(os.getpid(), born or "", 0.0, address)
    (home / f"{name}.json").write_text(json.dumps(asdict(record)))


def hint(error: HarnessError, *flags: str) -> str:
    """What a command that ends in `error` tells the caller to do."""

    @takes("bootstrap", "redis_url")
    def probe(*, settings: object) -> None:
        raise error

    command = typer.Typer()
    command.command()(probe)
    assert CliRunner().invoke(command, list(flags)).exception is error
    return error.hint


@pytest.mark.parametrize("kind", [BrokerUnavailable, Unreachable])
def test_a_broker_that_runs_at_another_port_is_named_with_the_line_to_copy(folder, kind):
    kept(folder, "kafka", MOVED)
    assert hint(kind("no answer", hint="look")) == (
        f"the stack in .harness has Kafka at {MOVED}: `export HARNESS_BOOTSTRAP={MOVED}`; otherwise: look"
    )


def test_one_that_was_stopped_is_to_be_started_first(folder):
    kept(folder, "kafka", MOVED, running=False)
    told = hint(BrokerUnavailable("no answer"))
    assert f"has Kafka stopped, last at {MOVED}" in told
    assert told.endswith(f"`harness up` starts it there again, then `export HARNESS_BOOTSTRAP={MOVED}`")


def test_redis_is_named_when_redis_does_not_answer(folder):
    kept(folder, "redis", MOVED_REDIS)
    assert f"`export HARNESS_REDIS_URL={MOVED_REDIS}`" in hint(StateUnavailable("no answer"))
    assert hint(BrokerUnavailable("no answer", hint="look")) == "look"


def test_one_line_moves_to_both_unless_the_other_was_named_by_the_caller(folder):
    kept(folder, "kafka", MOVED)
    kept(folder, "redis", MOVED_REDIS)
    both = f"`export HARNESS_BOOTSTRAP={MOVED} HARNESS_REDIS_URL={MOVED_REDIS}`"
    assert both in hint(BrokerUnavailable("no answer"))
    assert both not in hint(BrokerUnavailable("no answer"), "--redis", "redis://elsewhere:6379/0")


@pytest.mark.parametrize("named", [MOVED, "localhost:19092", f"other:9092,{MOVED}"])
def test_whoever_looks_where_the_stack_is_gets_the_errors_own_hint(folder, named):
    kept(folder, "kafka", MOVED)
    assert hint(BrokerUnavailable("no answer", hint="look"), "--bootstrap", named) == "look"


def test_a_stack_that_the_caller_did_not_mean_comes_after_the_errors_own_hint(folder):
    """Somebody who names another stack's address is not sent to the one that happens to be in this folder."""
    kept(folder, "kafka", MOVED)
    assert hint(BrokerUnavailable("no answer", hint="look"), "--bootstrap", "127.0.0.1:39092") == (
        f"look; otherwise: the stack in .harness has Kafka at {MOVED}: `export HARNESS_BOOTSTRAP={MOVED}`"
    )


def test_a_folder_without_a_stack_and_another_error_change_nothing(folder):
    assert hint(BrokerUnavailable("no answer", hint="look")) == "look"
    kept(folder, "kafka", MOVED)
    assert hint(CallerError("wrong", hint="look")) == "look"


def test_the_demo_on_a_real_broker_says_so_too_and_the_demo_alone_does_not(folder, monkeypatch):
    kept(folder, "kafka", MOVED)

    async def breaks(_demo: object) -> bool:
        raise BrokerUnavailable("no answer", hint="look")

    monkeypatch.setattr("harness_stream.cli.demo._until_told", breaks)
    hints = [CliRunner().invoke(app, ["demo", *words]).exception.hint for words in (["--kafka"], [])]
    assert f"`export HARNESS_BOOTSTRAP={MOVED}`" in hints[0]
    assert hints[1] == "look"
