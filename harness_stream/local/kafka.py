"""One Apache Kafka broker as a local process: broker and controller in one, KRaft, loopback only.

Rule of this file: every broker setting we rely on is written out here; nothing is left to a default that could differ.
What several brokers need besides is in cluster.py.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from harness_stream.errors import CallerError, Unavailable
from harness_stream.local.artifacts import java, kafka_libs, require_kafka_libs
from harness_stream.local.process import (
    LOOPBACK,
    DetachedProcess,
    ProcessRecord,
    Progress,
    accepts_connections,
    free_port,
    require_free_port,
    silent,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLUSTER_ID = "aGFybmVzcy1zdHJlYW0tMQ"
"""Any 16 bytes in base64url will do; a fixed one lets several local brokers form one cluster."""

FORMAT_LIMIT_S = 60.0
"""Formatting takes 1 s; a laptop with a cold disk, ten."""

START_LIMIT_S = 90.0
"""Serving takes 3 s; recovering a large data folder after a crash on a busy machine, a minute."""

STOP_LIMIT_S = 20.0
"""A clean stop takes a second. Twenty leave room to flush many partitions; after that, the log is made for crashes."""

ANSWER_LIMIT_S = 2.0
"""A local broker answers metadata in milliseconds; one that needs seconds is not serving."""

HEAP_MB = 512
"""A local broker with tens of partitions uses about 200 MB."""

# SerialGC: fewest threads beside worker and clients.
_JVM = ("-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true")
_LOGGING = ("-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")

_BASE: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # A topic is made by `harness topics apply` with checked settings, never by a typing mistake.
    "auto.create.topics.enable": "false",
    "num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    # The default 3 s delay waits for more members; locally there are one or two.
    "group.initial.rebalance.delay.ms": "0",
    # The controller believes a killed broker alive for this long, and its successor waits for that. On two cores that
    # sixteen processes want, one that lives is silent for more than two seconds, and then nothing is led.
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "300",
    # The default, 128 MB, is a quarter of the small heap; 16 MiB index 700,000 keys a pass.
    "log.cleaner.dedupe.buffer.size": "16777216",
}


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where one broker lives.

    Attributes:
        directory: its data, settings, record and log; survives restarts, and must not be shared.
        port: clients connect here; TCP, loopback.
        controller_port: the controller listens here; 0 picks a free one at each start.
        libs: folder of Kafka's jars; None fetches them.
        node_id: the broker's number in its cluster.
        extra: broker settings that replace or extend ours.
        format_flags: how `StorageTool format` is told who the first controllers are.
        port_flag: the option named to a user whose port is taken.
        name: of its record and log, and in messages.
        heap_mb: most memory for its Java objects, MB.
    """

    directory: Path
    port: int
    controller_port: int = 0
    libs: Path | None = None
    node_id: int = 1
    extra: Mapping[str, str] = field(default_factory=dict)
    format_flags: tuple[str, ...] = ("--standalone",)
    port_flag: str = "--kafka-port"
    name: str = "kafka"
    heap_mb: int = HEAP_MB


class LocalKafka:
    """One broker: start, stop, kill, start again on the same data.

    Args:
        settings: where it lives.
    """

    def __init__(self, settings: BrokerSettings) -> None:
        self._settings = settings
        self._process = DetachedProcess(settings.name, settings.directory)

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._settings.name

    @property
    def node_id(self) -> int:
        """Its number in its cluster."""
        return self._settings.node_id

    @property
    def log_file(self) -> Path:
        """Where to look when it runs but does not answer."""
        return self._process.log_file

    @property
    def data(self) -> Path:
        """Folder of its logs, one folder a partition in it; touch it only while the broker does not run."""
        return self._settings.directory / "data"

    @property
    def address(self) -> str:
        """Where clients connect, `host:port`."""
        return f"{LOOPBACK}:{self._settings.port}"

    def running(self) -> ProcessRecord | None:
        """The record of the broker's process, if it runs; it may have been started by another command."""
        return self._process.running()

    def last_address(self) -> str | None:
        """Where it serves or last served, as its clients write it; None if it never did."""
        record = self._process.last()
        return None if record is None else record.address

    def start(self, progress: Progress = silent) -> None:
        """Return once the broker serves. Does nothing if it already runs.

        Raises:
            CallerError: Java, Maven or a port is missing; the message says how to get it.
            Unavailable: the download failed, or the broker did not come up.
        """
        self.launch(progress)
        try:
            self.wait(progress=progress)
        except BaseException:
            self.stop()
            raise

    def launch(self, progress: Progress = silent) -> None:
        """Start the process, if it does not run, and wait for nothing: the first of several serves only after the next.

        Raises:
            CallerError: Java, Maven or a port is missing; the message says how to get it.
            Unavailable: the download failed, or the process ended at once.
        """
        if self.running() is None:
            for port in filter(None, (self._settings.port, self._settings.controller_port)):
                require_free_port(port, name=self.name, flag=self._settings.port_flag)
            self._launch(java(), progress)

    def wait(self, brokers: int = 1, progress: Progress = silent) -> None:
        """Return once the broker serves and knows so many brokers, itself included.

        Raises:
            ServerEnded: it ended.
            Unavailable: it did not come up within `START_LIMIT_S`.
        """
        self._process.wait_until(lambda: broker_answers(self.address, brokers), START_LIMIT_S, progress)

    def stop(self) -> bool:
        """Stop cleanly, within `STOP_LIMIT_S`. Safe to repeat; returns whether anything ran."""
        return self._process.stop(STOP_LIMIT_S)

    def kill(self) -> None:
        """SIGKILL, as in a crash; the data stays."""
        self._process.kill()

    def answers(self) -> bool:
        """Whether the broker really serves at this moment, see `broker_answers`."""
        return broker_answers(self.address)

    def _launch(self, java_path: str, progress: Progress) -> None:
        given = self._settings.libs
        libs = kafka_libs(progress) if given is None else require_kafka_libs(given)
        properties = self._write_properties()
        heap_mb = self._settings.heap_mb
        heap = (f"-Xms{heap_mb // 2}m", f"-Xmx{heap_mb}m")
        command = [java_path, *heap, *_JVM, *_LOGGING, "-cp", f"{libs}/*"]
        if not (self.data / "meta.properties").exists():
            progress(f"formatting {self.name}'s storage")
            self._format([*command, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID], properties)
        progress(f"starting {self.name} on {self.address}")
        self._process.spawn([*command, "kafka.Kafka", str(properties)], address=self.address)

    def _write_properties(self) -> Path:
        mine = self._settings
        controller = f"{LOOPBACK}:{mine.controller_port or free_port()}"
        lines = {
            **_BASE,
            "node.id": str(mine.node_id),
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{controller}",
            "controller.quorum.bootstrap.servers": controller,
            "log.dirs": str(self.data),
            **mine.extra,
        }
        mine.directory.mkdir(parents=True, exist_ok=True)
        path = mine.directory / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
        return path

    def _format(self, command: list[str], properties: Path) -> None:
        try:
            answer = subprocess.run(  # noqa: S603  our own arguments to the checked Java
                [*command, "-c", str(properties), *self._settings.format_flags],
                capture_output=True,
                text=True,
                check=False,
                timeout=FORMAT_LIMIT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise Unavailable(f"formatting {self.data} took longer than {FORMAT_LIMIT_S:g} s", hint="repeat") from error
        if answer.returncode != 0:
            said = next((line for line in answer.stderr.splitlines() if "xception" in line), answer.stderr.strip())
            raise CallerError(
                f"Kafka cannot use {self.data}: {said or answer.stdout.strip()}",
                hint="check that the folder is writable and not another cluster's",
            )


def broker_answers(bootstrap: str, brokers: int = 1) -> bool:
    """Whether a broker really serves at `bootstrap` (one `host:port`): it names a controller and so many brokers."""
    if not accepts_connections(bootstrap):
        return False
    # log_level 0: a broker that is just coming up is expected, not worth a line on the user's terminal.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        cluster = admin.list_topics(timeout=ANSWER_LIMIT_S)
    except KafkaException:
        return False
    return len(cluster.brokers) >= brokers and cluster.controller_id >= 0
