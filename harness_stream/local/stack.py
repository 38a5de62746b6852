"""Kafka and Redis together, kept under one directory: what `harness up`, `down` and `status` do.

Rule of this file: each server's own record file is the only state, so two commands can never disagree about what runs;
a file lock keeps two of them from starting the same server.
"""

from __future__ import annotations

import fcntl
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from harness_stream.errors import CallerError
from harness_stream.local.cluster import cluster_settings, cluster_size
from harness_stream.local.kafka import LocalKafka
from harness_stream.local.process import ProcessRecord, Progress, silent
from harness_stream.local.redis import LocalRedis, RedisSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DEFAULT_DIRECTORY = Path(".harness")
DEFAULT_KAFKA_PORT = 9092
DEFAULT_REDIS_PORT = 6379


class Service(Protocol):
    """One server of the stack."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def log_file(self) -> Path:
        """Where to look when it runs but does not answer."""

    def running(self) -> ProcessRecord | None:
        """Its process, if it runs."""

    def last_address(self) -> str | None:
        """Where it serves or last served."""

    def stop(self) -> bool:
        """Stop it; whether anything ran."""

    def answers(self) -> bool:
        """Whether it serves at this moment."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """What is known of one server at one moment.

    Attributes:
        name: `redis`, and `kafka` or `kafka-1` to `kafka-3`.
        running: its process exists.
        answers: it was asked just now, and answered.
        pid: process id, if running.
        address: where clients connect, if running.
        uptime_s: seconds since its start, if running.
        log: its log file; the place to look when it runs but does not answer.
    """

    name: str
    running: bool
    answers: bool
    pid: int | None
    address: str | None
    uptime_s: float | None
    log: str


class Stack:
    """One broker or three, and one Redis, on the loopback interface.

    Args:
        directory: everything they keep; survives `down`. Delete it to start from nothing.
        kafka_port: first TCP port of Kafka; None: the one it runs on or last ran on, else 9092.
        redis_port: TCP port of Redis; None: the one it runs on or last ran on, else 6379.
        brokers: 1 or 3; None: as many as the folder holds, else 1.
        kafka_libs: folder of Kafka's jars; None fetches them on first use.
        appendonly: whether Redis keeps its data on disk.

    Raises:
        CallerError: another number of brokers, or not the folder's.
    """

    def __init__(
        self,
        directory: Path = DEFAULT_DIRECTORY,
        *,
        kafka_port: int | None = None,
        redis_port: int | None = None,
        brokers: int | None = None,
        kafka_libs: Path | None = None,
        appendonly: bool = True,
    ) -> None:
        self.directory = directory.resolve()
        count = _checked_size(self.directory, brokers)
        last = LocalKafka(cluster_settings(self.directory, DEFAULT_KAFKA_PORT, count, None)[0])
        port = kafka_port or _last_port(last) or DEFAULT_KAFKA_PORT
        found = cluster_settings(self.directory, port, count, kafka_libs)
        self.brokers = tuple(LocalKafka(settings) for settings in found)
        redis_home = self.directory / "redis"
        port = redis_port or _last_port(LocalRedis(RedisSettings(redis_home, 0))) or DEFAULT_REDIS_PORT
        self.redis = LocalRedis(RedisSettings(redis_home, port, appendonly=appendonly))

    @property
    def flag(self) -> str:
        """What names it in other commands, with a space before; nothing for the one that they mean without it."""
        usual = self.directory == DEFAULT_DIRECTORY.resolve()
        return "" if usual else f" --dir {shlex.quote(str(self.directory))}"

    @property
    def bootstrap(self) -> str:
        """Kafka bootstrap servers, `host:port[,host:port]`."""
        return ",".join(broker.address for broker in self.brokers)

    @property
    def redis_url(self) -> str:
        """Redis URL of database 0."""
        return self.redis.url

    def up(self, progress: Progress = silent) -> None:
        """Start what does not run, and return once all serve. If one fails, what this call started is stopped again.

        Raises:
            CallerError: something is missing on this machine, a port is taken, or a server runs on another port.
            Unavailable: a download or a start failed.
        """
        with self._locked():
            mine = [service for service, address in self._services() if not self._already_on(service, address)]
            try:
                # Redis first: it is there in a moment, so a missing program shows before Kafka's download.
                self.redis.start(progress)
                self.start_brokers(progress)
            except BaseException:
                _stop_together(mine)
                raise

    def start_brokers(self, progress: Progress = silent) -> None:
        """Start the brokers that do not run, and return once each knows all.

        Raises:
            CallerError: something is missing on this machine, or a port is taken.
            Unavailable: a download or a start failed; those that run are left running.
        """
        for broker in self.brokers:
            broker.launch(progress)
        for broker in self.brokers:
            broker.wait(len(self.brokers), progress)

    def stop_brokers(self) -> bool:
        """Stop all brokers at once; whether anything ran."""
        return _stop_together(self.brokers)

    def down(self, progress: Progress = silent) -> bool:
        """Stop all; their data stays. Safe to repeat; returns whether anything ran."""
        if not self.directory.exists():
            return False
        with self._locked():
            services = [service for service, _ in self._services()]
            for service in services:
                if service.running() is not None:
                    progress(f"stopping {service.name}")
            return _stop_together(services)

    def status(self) -> tuple[ServiceStatus, ...]:
        """Look at each server's process, and ask it."""
        return tuple(self._status_of(service) for service, _ in self._services())

    def _services(self) -> tuple[tuple[Service, str], ...]:
        return (self.redis, self.redis_url), *((broker, broker.address) for broker in self.brokers)

    def _already_on(self, service: Service, address: str) -> bool:
        record = service.running()
        if record is not None and record.address != address:
            raise CallerError(
                f"{service.name} already runs, on {record.address} instead of {address}",
                hint=f"leave the port option out, or run `harness down{self.flag}` first",
            )
        return record is not None

    def _status_of(self, service: Service) -> ServiceStatus:
        record = service.running()
        return ServiceStatus(
            name=service.name,
            running=record is not None,
            answers=record is not None and service.answers(),
            pid=record.pid if record else None,
            address=record.address if record else None,
            uptime_s=round(time.time() - record.started_at_s, 1) if record else None,
            log=str(service.log_file),
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            # The folder lives inside people's projects; its content must never reach their commits.
            (self.directory / ".gitignore").write_text("*\n", encoding="ascii")
            lock = (self.directory / "lock").open("w")
        except OSError as error:
            raise CallerError(
                f"cannot write to {self.directory}: {error.strerror}", hint="choose a folder: --dir DIR"
            ) from error
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _checked_size(directory: Path, wanted: int | None) -> int:
    """A cluster's size is part of its data: it is chosen once."""
    found = cluster_size(directory)
    if None not in {found, wanted} and found != wanted:
        raise CallerError(
            f"{directory} holds the data of {found} broker{'s' if found != 1 else ''}, not of {wanted}",
            hint="leave --brokers out, or choose another folder: --dir DIR",
        )
    return found or wanted or 1


def _stop_together(services: Sequence[Service]) -> bool:
    """Whether anything ran. One after the other would leave the last broker waiting for a controller."""
    with ThreadPoolExecutor(max(1, len(services))) as pool:
        return any(list(pool.map(lambda service: service.stop(), services)))


def _last_port(service: Service) -> int | None:
    """A server that died, or was stopped, comes back where its clients look for it."""
    address = service.last_address()
    port = "" if address is None else address.rpartition(":")[2].partition("/")[0]
    return int(port) if port.isdecimal() else None
