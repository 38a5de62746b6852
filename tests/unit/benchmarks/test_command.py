"""Every script begins with words that can be done, and ends on one way: what it made goes, whoever ends it."""

import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentTypeError
from pathlib import Path

import pytest

from harness_stream.errors import BrokerUnavailable

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
WAITS = """
import sys, time, command
from contextlib import contextmanager

@contextmanager
def made():
    print("made", flush=True)
    try:
        yield
    finally:
        print("removed", flush=True)

def main():
    with made():
        time.sleep(60)

sys.exit(command.ended(main))
"""
MEASURING = sorted(
    path.stem for path in BENCHMARKS.glob("*.py") if "command.ended(main)" in path.read_text() and path.stem != "__main__"
)


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_whoever_ends_a_script_leaves_nothing_of_it(number, code, said):
    process = subprocess.Popen([sys.executable, "-c", WAITS], cwd=BENCHMARKS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "made\n"
    time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (out, process.returncode, err) == ("removed\n", code, f"ended by {said}\n")


def test_what_the_harness_raises_is_one_message(script, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def main():
        raise BrokerUnavailable("Kafka does not answer at x:1", hint="start it")

    assert script("command").ended(main) == 1
    assert capsys.readouterr().err == "Kafka does not answer at x:1\n  → start it\n"


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "inf", "nan"])
def test_sizes_are_above_zero(script, text):
    for kind in ("count", "amount", "counts", "amounts"):
        with pytest.raises(ArgumentTypeError):
            getattr(script("command"), kind)(text)


def test_words_become_sizes(script):
    command = script("command")
    assert (command.count("7"), command.amount("0.5"), command.counts("10,100"), command.pair("1,2"), command.seconds("0")) == (7, 0.5, (10, 100), (1, 2), 0)
    with pytest.raises(ArgumentTypeError, match="two numbers"):
        command.pair("1")


@pytest.mark.parametrize("name", MEASURING)
def test_help_is_the_whole_head_of_the_file_and_names_a_default(name):
    done = subprocess.run([sys.executable, str(BENCHMARKS / f"{name}.py"), "--help"], capture_output=True, text=True, check=True)
    head = (BENCHMARKS / f"{name}.py").read_text().split('"""')[1]
    assert head.strip() in done.stdout


# --- servers ---


def servers(script, monkeypatch, **environment):
    for name in ("HARNESS_BOOTSTRAP", "HARNESS_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return script("realm").servers()


@pytest.mark.parametrize(("name", "value", "other"), [("HARNESS_BOOTSTRAP", "127.0.0.1:1", "HARNESS_REDIS_URL"), ("HARNESS_REDIS_URL", "redis://127.0.0.1:1", "HARNESS_BOOTSTRAP")])
def test_one_server_without_the_other_is_refused(script, monkeypatch, name, value, other):
    with pytest.raises(Exception, match=f"{name} is set, and {other} is not"), servers(script, monkeypatch, **{name: value}):
        pass


def test_a_broker_that_does_not_answer_is_told_with_its_address_and_what_to_do(script, monkeypatch):
    named = {"HARNESS_BOOTSTRAP": "127.0.0.1:1", "HARNESS_REDIS_URL": "redis://:secret@127.0.0.1:1/0"}
    with pytest.raises(BrokerUnavailable, match=r"does not answer at 127\.0\.0\.1:1") as told, servers(script, monkeypatch, **named):
        pass
    assert "without them this starts" in told.value.hint
    assert script("realm").without_secret(named["HARNESS_REDIS_URL"]) == "redis://127.0.0.1:1/0"


# --- the machine ---


def test_the_head_names_date_commit_and_servers_and_no_kafka_that_was_not_asked(script):
    on = script("machine").measured_on({"kafka": "unknown", "redis server": "8.0"})
    assert {"date", "commit", "cpu", "python", "load average", "redis server"} <= set(on)
    assert on["kafka"] == "unknown"
    assert "kafka" not in script("machine").measured_on()


def test_a_busy_machine_is_told(script):
    lines = script("machine").lines
    assert [line.startswith("BUSY") for line in lines({"load average": str(0.9 * os.cpu_count())})] == [False, True]
    assert len(lines({"load average": "0.0"})) == 1
