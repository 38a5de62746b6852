"""A realm of one measurement's own on a real broker: topics, rows, rules, worker, and nothing left behind.

Rule of this file: it starts, watches and ends its own processes only, by their ids, and deletes only its own topics and
keys.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # re-exported without saying so
from workload import rules_yaml, tables

from harness_stream.access import KAFKA_SETTINGS, REDIS_SETTINGS
from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.redis.state import RedisStateStore
from harness_stream.config import LANE_RATE_MAX, Settings, load_settings
from harness_stream.core.rate import Rate
from harness_stream.local.process import free_port
from harness_stream.local.stack import Stack
from harness_stream.wire.topics import Topics, topic_specs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from concurrent.futures import Future

PARTITIONS: Final = 8
READY_S_MAX: Final = 90.0  # a worker is ready in 3 s; a machine that does much else takes its time
STOP_S_MAX: Final = 10.0  # ten times what a clean stop may take
COMMAND_S_MAX: Final = 120.0
ADMIN_S_MAX: Final = 15.0
# So high that no lane meets it: the other benchmarks measure judging, not refusing.
UNBOUNDED: Final = Rate(LANE_RATE_MAX, LANE_RATE_MAX)
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Servers:
    """Where Kafka and Redis are."""

    bootstrap: str
    redis_url: str


def _terminated(number: int, _frame: object) -> None:
    """Whoever ends a benchmark does not want its servers to stay."""
    raise SystemExit(128 + number)


@contextmanager
def servers() -> Iterator[Servers]:
    """Those that HARNESS_BOOTSTRAP and HARNESS_REDIS_URL name, else a stack of our own until the end."""
    bootstrap, redis_url = os.environ.get("HARNESS_BOOTSTRAP"), os.environ.get("HARNESS_REDIS_URL")
    if bootstrap and redis_url:
        yield Servers(bootstrap, redis_url)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        stack = Stack(Path(directory), kafka_port=free_port(), redis_port=free_port())
        former = signal.signal(signal.SIGTERM, _terminated)
        try:
            stack.up(lambda line: print(line, file=sys.stderr))
            yield Servers(stack.bootstrap, stack.redis_url)
        finally:
            stack.down()
            signal.signal(signal.SIGTERM, former)


@dataclass(frozen=True, slots=True)
class BenchRealm:
    """One realm, empty but for rows and rules.

    Attributes:
        settings: as every process of it reads them.
    """

    settings: Settings

    @property
    def topics(self) -> Topics:
        """Its topics."""
        return Topics(self.settings.prefix)

    @property
    def echo_in(self) -> str:
        """As the input log, for the bare echo."""
        return f"{self.settings.prefix}.echo-in"

    @property
    def echo_out(self) -> str:
        """As the decision log, for the bare echo."""
        return f"{self.settings.prefix}.echo-out"

    @contextmanager
    def worker(self) -> Iterator[int]:
        """A worker process that is ready; its process id."""
        with tempfile.TemporaryFile() as log:
            process = subprocess.Popen(_command("worker", "--metrics-port", "0"), env=self._environment(), stderr=log)
            try:
                _wait_until_ready(process, log.fileno())
                yield process.pid
            finally:
                _end(process)

    @contextmanager
    def starting_worker(self) -> Iterator[int]:
        """A worker process, right after its start."""
        process = subprocess.Popen(
            _command("worker", "--metrics-port", "0"), env=self._environment(), stderr=subprocess.DEVNULL
        )
        try:
            yield process.pid
        finally:
            _end(process)

    def run(self, *words: str) -> None:
        """Run one `harness` command."""
        done = subprocess.run(
            _command(*words),
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_S_MAX,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"`harness {' '.join(words)}` failed:\n{done.stderr}")

    def _environment(self) -> dict[str, str]:
        names = ("bootstrap", "redis_url", "prefix", "partitions", "group", "lane_rate", "lane_burst")
        own = {f"HARNESS_{name.upper()}": str(getattr(self.settings, name)) for name in names}
        return {**os.environ, **own, "HARNESS_DEV": "1"}


@contextmanager
def realm(where: Servers, agents: int, rate: Rate = UNBOUNDED) -> Iterator[BenchRealm]:
    """A realm with the workload's rows and rules; its topics and keys are deleted at the end.

    Args:
        where: its broker and Redis.
        agents: of the workload.
        rate: what one lane may ask of its workers.
    """
    prefix, given = f"bench{secrets.token_hex(4)}", load_settings()
    settings = Settings(
        where.bootstrap,
        where.redis_url,
        prefix=prefix,
        partitions=PARTITIONS,
        dev=True,
        group=prefix,
        lane_rate=rate.per_s,
        lane_burst=rate.burst,
        **{name: getattr(given, name) for name in (*KAFKA_SETTINGS, *REDIS_SETTINGS)},
    )
    made = BenchRealm(settings)
    try:
        _create_echo_topics(made)
        made.run("topics", "apply", "--dev")
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            _write(Path(directory), agents)
            made.run("tables", "load", f"{directory}/tables")
            made.run("rules", "push", f"{directory}/rules.yaml")
        yield made
    finally:
        _forget(made)


def cpu_s(pid: int) -> float:
    """CPU seconds (user and system, all threads) that a process has used; Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident; Linux."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-c", "from harness_stream.cli.main import main; main()", *words]


def _wait_until_ready(process: subprocess.Popen[bytes], log: int) -> None:
    end = time.monotonic() + READY_S_MAX
    while True:
        said = os.pread(log, 1 << 20, 0).decode(errors="replace")
        if any(line.endswith(" ready") for line in said.splitlines()):
            return
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the worker did not become ready:\n{said[-2_000:]}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write(directory: Path, agents: int) -> None:
    (directory / "rules.yaml").write_text(rules_yaml(), encoding="utf-8")
    (directory / "tables").mkdir()
    for name, rows in tables(agents).items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / "tables" / f"{name}.jsonl").write_text(lines, encoding="utf-8")


def _create_echo_topics(made: BenchRealm) -> None:
    """With the settings of the two logs, so that the floor pays for the same durability."""
    settings, topics = made.settings, made.topics
    specs = {s.name: s for s in topic_specs(settings.prefix, PARTITIONS, settings.max_timespan_ms, 1)}
    same_as = {made.echo_in: specs[topics.intents], made.echo_out: specs[topics.verdicts]}
    wanted = [
        NewTopic(
            name, num_partitions=PARTITIONS, replication_factor=1, config={r.name: r.value for r in spec.requirements}
        )
        for name, spec in same_as.items()
    ]
    admin = AdminClient(client_settings.admin(settings.kafka))  # it must outlive its answers
    _settle(admin.create_topics(wanted).values())


def _forget(made: BenchRealm) -> None:
    settings = made.settings
    own = [spec.name for spec in topic_specs(settings.prefix, PARTITIONS, settings.max_timespan_ms, 1)]
    admin = AdminClient(client_settings.admin(settings.kafka))
    there = admin.list_topics(timeout=ADMIN_S_MAX).topics
    doomed = [name for name in (*own, made.echo_in, made.echo_out) if name in there]
    if doomed:
        _settle(admin.delete_topics(doomed).values())
    store = RedisStateStore(settings.redis, f"{settings.realm}/{settings.prefix}", SystemClock(), timeout_ms=5_000)
    for partition in range(PARTITIONS):
        store.clear(partition)
    store.close()


def _settle(futures: Iterable[Future[None]]) -> None:
    for future in futures:
        future.result(ADMIN_S_MAX)
