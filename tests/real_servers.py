"""Where tests find a real Kafka and a real Redis: addresses from the environment, else containers, else local Java.

Rule of this file: on a laptop with none of them a test is skipped with the reasons; in CI (`CI=true`) it fails.
"""

import os
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from harness_stream.errors import HarnessError
from harness_stream.local.kafka import broker_answers
from harness_stream.local.process import LOOPBACK, accepts_connections, free_ports
from harness_stream.local.redis import redis_answers
from harness_stream.local.stack import Stack

KAFKA_IMAGE = "apache/kafka:4.1.1"
REDIS_IMAGE = "redis:7"
PORTS_OF_SERVERS = (20_000, 32_000)
PORT_TRIES = 100
CONTAINER_LIMIT_S = 90.0  # serving takes 10 s; a cold laptop takes longer


@dataclass(frozen=True)
class RealStack:
    """Addresses of servers that answer.

    Attributes:
        bootstrap: Kafka bootstrap servers.
        redis_url: Redis URL.
        source: `environment`, `containers` or `local`.
        data: the broker's folder, if it is on this machine.
    """

    bootstrap: str
    redis_url: str
    source: str
    data: Path | None = None


@contextmanager
def open_real_stack() -> Iterator[RealStack]:
    reasons: list[str] = []
    with ExitStack() as running:
        for find in (_from_environment, _from_containers, _from_local_java):
            try:
                stack = running.enter_context(find())
            except NotHereError as reason:
                reasons.append(str(reason))
                continue
            yield stack
            return
    unavailable("; ".join(reasons))


@contextmanager
def open_own_stack(brokers: int = 1) -> Iterator[Stack]:
    """A stack of local processes, all of it one test's own; `up` has not been called."""
    with tempfile.TemporaryDirectory(prefix="harness-") as directory:
        own, redis_port = free_ports(2)
        port = own if brokers == 1 else _ports_in_a_row(2 * brokers)
        stack = Stack(Path(directory), kafka_port=port, redis_port=redis_port, brokers=brokers)
        try:
            yield stack
        finally:
            stack.down()


def _ports_in_a_row(count: int) -> int:
    """First of so many in a row; below those that the system gives to clients, who would take one of a killed server."""
    firsts = (random.randrange(*PORTS_OF_SERVERS) for _ in range(PORT_TRIES))
    taken = lambda port: accepts_connections(f"{LOOPBACK}:{port}")  # noqa: E731
    return next(first for first in firsts if not any(taken(port) for port in range(first, first + count)))


class NotHereError(Exception):
    """This way to real servers does not exist on this machine."""


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"CI must have a real Kafka and Redis: {reason}")
    pytest.skip(f"no real Kafka and Redis: {reason}")


@contextmanager
def _from_environment() -> Iterator[RealStack]:
    bootstrap, redis_url = os.environ.get("HARNESS_TEST_BOOTSTRAP"), os.environ.get("HARNESS_TEST_REDIS")
    if not bootstrap or not redis_url:
        raise NotHereError("HARNESS_TEST_BOOTSTRAP and HARNESS_TEST_REDIS are not both set")
    yield RealStack(bootstrap, redis_url, "environment")


@contextmanager
def _from_local_java() -> Iterator[RealStack]:
    with open_own_stack() as stack:
        try:
            stack.up()
        except HarnessError as error:
            raise NotHereError(f"local Java: {error.message}") from error
        yield RealStack(stack.bootstrap, stack.redis_url, "local", stack.brokers[0].data)


@contextmanager
def _from_containers() -> Iterator[RealStack]:
    # The reaper is one more image to fetch; the context manager below removes the containers.
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    if Path("/.dockerenv").exists():
        os.environ.setdefault("TESTCONTAINERS_CONNECTION_MODE", "docker_host")
    import docker

    try:
        docker.from_env().ping()
    except docker.errors.DockerException as error:
        raise NotHereError(f"no Docker engine answers ({type(error).__name__})") from error
    kafka_port, redis_port = free_ports(2)
    bootstrap, redis_url = f"127.0.0.1:{kafka_port}", f"redis://127.0.0.1:{redis_port}/0"
    with ExitStack() as containers:
        try:
            for container in _containers(kafka_port, redis_port):
                containers.enter_context(container)
        except docker.errors.APIError as error:
            raise NotHereError(f"the Docker engine has no image: {error.explanation}") from error
        end = time.monotonic() + CONTAINER_LIMIT_S
        while not (broker_answers(bootstrap) and redis_answers(f"127.0.0.1:{redis_port}")):
            assert time.monotonic() < end, f"the containers did not answer within {CONTAINER_LIMIT_S:g} s"
            time.sleep(0.1)
        yield RealStack(bootstrap, redis_url, "containers")


def _containers(kafka_port: int, redis_port: int):
    from testcontainers.core.container import DockerContainer

    kafka = DockerContainer(KAFKA_IMAGE)
    kafka.ports["9092/tcp"] = ("127.0.0.1", kafka_port)
    for name, value in _kafka_variables(kafka_port).items():
        kafka.with_env(name, value)
    redis = DockerContainer(REDIS_IMAGE)
    redis.ports["6379/tcp"] = ("127.0.0.1", redis_port)
    return kafka, redis


def _kafka_variables(port: int) -> dict[str, str]:
    """The official image's contract: every broker setting as `KAFKA_` + its name in capitals."""
    return {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
    }
