"""`harness up`, `status` and `down` keep a real Kafka and a real Redis on this machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from real_servers import unavailable

from harness_stream.errors import CallerError, ServerEnded, Unavailable
from harness_stream.local.artifacts import kafka_libs
from harness_stream.local.kafka import BrokerSettings, LocalKafka
from harness_stream.local.process import birth_mark, free_port, free_ports, silent
from harness_stream.local.redis import LocalRedis, RedisSettings
from harness_stream.local.stack import Stack

pytestmark = pytest.mark.real


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line as a user's shell runs it: a process of its own that ends."""
    program = "from harness_stream.cli.main import main; main()"
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def document(*arguments: str) -> dict:
    done = harness(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def pids(found: dict) -> dict[str, int]:
    return {service["name"]: service["pid"] for service in found["services"]}


def produce_one(bootstrap: str, topic: str, value: bytes) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value)
    assert producer.flush(10) == 0


def first_record(bootstrap: str, topic: str) -> bytes:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "error"})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        record = consumer.poll(10)
        assert record is not None
        assert record.error() is None
        return record.value()
    finally:
        consumer.close()


def test_what_was_written_survives_down_and_up_and_down_leaves_no_process(tmp_path: Path) -> None:
    where = ("--dir", str(tmp_path))
    kafka_port, redis_port = map(str, free_ports(2))
    ports = ("--kafka-port", kafka_port, "--redis-port", redis_port)
    try:
        first = document("up", *where, *ports)
        produce_one(first["bootstrap"], "kept", b"a record")
        redis.Redis.from_url(first["redis_url"]).set("kept", "a value")

        assert all(service["answers"] for service in document("status", *where)["services"])
        assert pids(document("up", *where)) == pids(first), "a second `up` starts nothing"

        assert document("down", *where)["stopped"] is True
        assert [birth_mark(pid) for pid in pids(first).values()] == [None, None]
        assert harness("status", *where).returncode == 1
        assert document("down", *where)["stopped"] is False

        again = document("up", *where, *ports)
        assert first_record(again["bootstrap"], "kept") == b"a record"
        assert redis.Redis.from_url(again["redis_url"]).get("kept") == b"a value"
    finally:
        harness("down", *where)


def test_a_killed_broker_is_seen_as_gone_and_starts_again_on_its_data(own_stack: Stack) -> None:
    produce_one(own_stack.bootstrap, "kept", b"a record")

    own_stack.brokers[0].kill()

    by_name = {service.name: service for service in own_stack.status()}
    assert (by_name["kafka"].running, by_name["redis"].answers) == (False, True)
    own_stack.up()
    assert first_record(own_stack.bootstrap, "kept") == b"a record"


def test_a_topic_is_never_created_by_a_typing_mistake(own_stack: Stack) -> None:
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": own_stack.bootstrap, "delivery.timeout.ms": 500, "linger.ms": 0})
    producer.produce("a-typo", b"x", on_delivery=lambda error, _: failures.append(error))
    producer.flush(10)

    assert len(failures) == 1
    assert failures[0] is not None
    assert "a-typo" not in AdminClient({"bootstrap.servers": own_stack.bootstrap}).list_topics(timeout=10).topics


@pytest.mark.parametrize("flag", ["--kafka-port", "--redis-port"])
def test_a_taken_port_is_named_with_the_option_that_changes_it(tmp_path: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        kafka_port, redis_port = map(str, free_ports(2))
        ports = {"--kafka-port": kafka_port, "--redis-port": redis_port, flag: taken}

        done = harness("up", "--dir", str(tmp_path), *(word for pair in ports.items() for word in pair))

    assert done.returncode == CallerError.exit_code
    assert f"port {taken}" in done.stderr
    assert f"{flag} PORT" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(service.running for service in Stack(tmp_path).status()), (
        "what this `up` had started is stopped again"
    )


def test_up_on_another_port_than_the_running_one_says_so(tmp_path: Path) -> None:
    stack = Stack(tmp_path, redis_port=free_port())
    stack.redis.start(silent)
    try:
        with pytest.raises(CallerError, match="already runs"):
            Stack(tmp_path, redis_port=free_port()).up()
        assert stack.redis.answers(), "the running server is left alone"
    finally:
        stack.redis.stop()


def test_settings_that_kafka_refuses_are_reported_with_its_reason(tmp_path: Path) -> None:
    broker = LocalKafka(BrokerSettings(tmp_path, free_port(), extra={"controller.quorum.fetch.timeout.ms": "soon"}))
    with pytest.raises(CallerError, match="Invalid value soon"):
        broker.start()
    assert broker.running() is None


def test_a_broker_that_ends_while_starting_shows_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "meta.properties").write_text("version=1\ncluster.id=someone-elses\nnode.id=7\n")
    broker = LocalKafka(BrokerSettings(tmp_path, free_port()))
    with pytest.raises(Unavailable, match=r"(?s)ended while starting.*Stored node id 7") as failed:
        broker.start()
    assert "kafka.log" in failed.value.hint
    assert broker.running() is None


def test_without_redis_server_the_wheels_valkey_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    server = LocalRedis(RedisSettings(tmp_path, free_port(), appendonly=False))
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.set("key", "value")
            assert client.info("server")["server_name"] == "valkey"
    finally:
        server.stop()


def write_with(server: LocalRedis, value: str) -> None:
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("key", value)
    server.stop()


def test_data_of_the_other_server_is_set_aside_with_a_word_since_it_is_only_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("redis-server") is None:
        unavailable("redis-server is not on PATH")
    server, steps = LocalRedis(RedisSettings(tmp_path, free_port())), list[str]()
    with monkeypatch.context() as without_redis_server:
        without_redis_server.setenv("PATH", os.devnull)
        write_with(server, "of valkey")
    try:
        server.start(steps.append)
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") is None
            assert "server_name" not in client.info("server"), "Redis serves"
        assert steps[1].startswith("redis-server cannot read its data")
        assert str(tmp_path / "data.old") in steps[1]
        assert any((tmp_path / "data.old").iterdir())
    finally:
        server.stop()


def test_redis_data_is_read_on_by_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("redis-server") is None:
        unavailable("redis-server is not on PATH")
    server = LocalRedis(RedisSettings(tmp_path, free_port()))
    write_with(server, "of redis")
    monkeypatch.setenv("PATH", os.devnull)
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") == b"of redis"
        assert not (tmp_path / "data.old").exists()
    finally:
        server.stop()


def test_a_start_that_fails_for_another_reason_leaves_the_data_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = LocalRedis(RedisSettings(tmp_path, free_port()))
    write_with(server, "kept")
    monkeypatch.setattr("harness_stream.local.redis.server_program", lambda: "/bin/false")
    with pytest.raises(ServerEnded):
        server.start()
    monkeypatch.undo()
    try:
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("key") == b"kept"
    finally:
        server.stop()


def test_the_jars_are_fetched_once(tmp_path: Path) -> None:
    steps: list[str] = []

    libs = kafka_libs(steps.append, cache=tmp_path)

    assert kafka_libs(steps.append, cache=tmp_path) == libs
    assert len(steps) == 1
    assert (libs / "kafka_2.13-4.1.1.jar").is_file()
    assert [path.name for path in libs.parent.iterdir()] == ["libs"], "no draft is left behind"
