"""Starting, finding again and stopping a detached process; what a machine without Java or Maven is told."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from harness_stream.errors import CallerError, HarnessError, Unavailable
from harness_stream.local.artifacts import java, kafka_libs, require_kafka_libs
from harness_stream.local.process import DetachedProcess, birth_mark, silent
from harness_stream.local.stack import Stack

SLEEPS = [sys.executable, "-c", "import time; print('ready', flush=True); time.sleep(60)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)",
]


@pytest.fixture
def process(tmp_path: Path):
    made = DetachedProcess("server", tmp_path)
    yield made
    made.kill()


def start(process: DetachedProcess, command: list[str]) -> int:
    pid = process.spawn(command, address="nowhere:1").pid
    process.wait_until(lambda: "ready" in process.log_file.read_text(), 10)
    return pid


def program(directory: Path, name: str, script: str) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_another_object_on_the_same_folder_finds_and_stops_it(process: DetachedProcess, tmp_path: Path) -> None:
    pid = start(process, SLEEPS)
    other = DetachedProcess("server", tmp_path)

    found = other.running()
    assert found is not None
    assert (found.pid, found.address) == (pid, "nowhere:1")
    assert other.stop(5) is True
    assert birth_mark(pid) is None
    assert other.stop(5) is False


def test_who_waits_long_is_told_again_and_again_for_what(
    process: DetachedProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness_stream.local.process.TOLD_S", 0.05)
    start(process, SLEEPS)
    told: list[str] = []
    process.wait_until(lambda: len(told) >= 2, 10, told.append)
    assert told[1] == "waiting for server to answer, 0 of at most 10 s"


def test_a_stack_without_ports_means_those_it_last_had_whether_a_server_died_or_was_stopped(tmp_path: Path) -> None:
    redis, kafka = DetachedProcess("redis", tmp_path / "redis"), DetachedProcess("kafka", tmp_path / "kafka")
    redis.spawn(SLEEPS, address="redis://127.0.0.1:17379/0")
    kafka.spawn(SLEEPS, address="127.0.0.1:19092")
    redis.kill()
    kafka.stop(5)

    stack = Stack(tmp_path)

    assert (stack.redis_url, stack.bootstrap) == ("redis://127.0.0.1:17379/0", "127.0.0.1:19092")
    assert Stack(tmp_path, redis_port=16379).redis_url == "redis://127.0.0.1:16379/0"
    assert Stack(tmp_path / "new").redis_url == "redis://127.0.0.1:6379/0"


def addresses(stack: Stack) -> list[str]:
    return [broker.address for broker in stack.brokers]


def test_three_brokers_share_a_folder_and_take_ports_from_the_first_one_on(tmp_path: Path) -> None:
    stack = Stack(tmp_path, brokers=3, kafka_port=19092)
    assert addresses(stack) == ["127.0.0.1:19092", "127.0.0.1:19093", "127.0.0.1:19094"]
    assert stack.bootstrap == ",".join(addresses(stack))
    assert [service.name for service in stack.status()] == ["redis", "kafka-1", "kafka-2", "kafka-3"]
    assert len({service.log for service in stack.status()}) == 4


def test_a_folder_of_three_brokers_stays_one_and_keeps_its_ports(tmp_path: Path) -> None:
    first = DetachedProcess("kafka-1", tmp_path / "kafka-1")
    first.spawn(SLEEPS, address="127.0.0.1:19092")
    first.stop(5)
    assert addresses(Stack(tmp_path)) == addresses(Stack(tmp_path, brokers=3, kafka_port=19092))
    with pytest.raises(CallerError, match="holds the data of 3 brokers, not of 1"):
        Stack(tmp_path, brokers=1)


def test_a_folder_of_one_broker_is_not_made_one_of_three(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with pytest.raises(CallerError, match="holds the data of 1 broker, not of 3"):
        Stack(tmp_path, brokers=3)


@pytest.mark.parametrize(("brokers", "port", "why"), [(2, 9092, "1 or 3 brokers, not 2"), (3, 65_531, "6 ports")])
def test_a_cluster_that_cannot_be_is_refused(tmp_path: Path, brokers: int, port: int, why: str) -> None:
    with pytest.raises(CallerError, match=why):
        Stack(tmp_path, brokers=brokers, kafka_port=port)


def test_it_runs_in_a_session_of_its_own_so_ctrl_c_does_not_reach_it(process: DetachedProcess) -> None:
    pid = start(process, SLEEPS)
    assert os.getsid(pid) == pid != os.getsid(0)


def test_what_ignores_sigterm_is_killed_after_the_limit(process: DetachedProcess) -> None:
    pid = start(process, STUBBORN)
    began = time.monotonic()
    process.stop(0.2)
    assert birth_mark(pid) is None
    assert time.monotonic() - began >= 0.2


def test_a_process_that_only_has_the_same_number_is_never_touched(process: DetachedProcess, tmp_path: Path) -> None:
    pid = start(process, SLEEPS)
    stale = tmp_path / "stale"
    stale.mkdir()
    record = json.loads((tmp_path / "server.json").read_text())
    (stale / "server.json").write_text(json.dumps(record | {"born": "another time"}))
    reused = DetachedProcess("server", stale)

    assert reused.running() is None
    reused.stop(1)
    reused.kill()

    assert birth_mark(pid) is not None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_spoilt_record_means_nothing_runs(process: DetachedProcess, tmp_path: Path, content: str) -> None:
    (tmp_path / "server.json").write_text(content)
    assert process.running() is None


def test_one_that_dies_while_starting_is_reported_with_its_last_words(process: DetachedProcess) -> None:
    process.spawn([sys.executable, "-c", "import time; time.sleep(0.1); raise SystemExit('no room')"], address="")
    with pytest.raises(Unavailable, match="no room"):
        process.wait_until(lambda: False, 10)


def test_one_that_never_answers_is_reported_after_the_limit(process: DetachedProcess) -> None:
    start(process, SLEEPS)
    with pytest.raises(Unavailable, match=r"did not answer within 0\.1 s"):
        process.wait_until(lambda: False, 0.1)


def test_a_crash_leaves_no_zombie_that_looks_alive(process: DetachedProcess) -> None:
    pid = start(process, SLEEPS)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while process.running() is not None:
        assert time.monotonic() < deadline


def test_no_java_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CallerError, match="needs Java") as refused:
        java()
    assert "install Java 17" in refused.value.hint


@pytest.mark.parametrize(("version", "major"), [("1.8.0_402", 8), ("11.0.2", 11)])
def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, major: int) -> None:
    program(tmp_path, "java", f"echo 'openjdk version \"{version}\"' >&2")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CallerError, match=rf"is {major}\b"):
        java()


@pytest.mark.parametrize("version", ["17", "17.0.15", "25-ea"])
def test_java_17_and_newer_is_taken_from_java_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    (tmp_path / "bin").mkdir()
    wanted = program(tmp_path / "bin", "java", f"echo 'openjdk version \"{version}\"' >&2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert java() == str(wanted)


def test_no_maven_names_the_way_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CallerError, match="needs Maven") as refused:
        kafka_libs(silent, cache=tmp_path / "cache")
    assert "--kafka-libs" in refused.value.hint


def test_a_failed_download_tells_mavens_reason_and_leaves_no_half_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "mvn", "echo '[ERROR] unknown host'; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(Unavailable, match="unknown host"):
        kafka_libs(silent, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/*")) == []


def test_a_maven_that_fetches_something_else_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "mvn", "mkdir libs; touch libs/other.jar")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(HarnessError, match="no Kafka 4 broker"):
        kafka_libs(silent, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/*")) == []


def test_given_jars_must_be_a_kafka_4_broker(tmp_path: Path) -> None:
    with pytest.raises(CallerError, match="no Kafka 4 broker"):
        require_kafka_libs(tmp_path)
    (tmp_path / "kafka_2.13-4.1.1.jar").touch()
    assert require_kafka_libs(tmp_path) == tmp_path.resolve()
