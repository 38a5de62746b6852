"""The demo on a real broker and Redis: topics of its own, and `harness worker` processes of its own.

Rule of this file: it removes only topics it has created, keys of its own prefix, and processes it has started, by id.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Final

from confluent_kafka import KafkaException

from harness_stream.adapters.kafka import topics as realm_topics
from harness_stream.adapters.kafka.admin import ADMIN_S_MAX, KafkaAdmin, incarnation
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.state import RedisStateStore
from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.core import limits
from harness_stream.errors import ProtocolError, StateUnavailable
from harness_stream.runtime.to_end import ends_of
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.config import Settings
    from harness_stream.ports import Clock, LogReader, LogWriter

WORKERS: Final = 2
# A clean stop is a drain, a checkpoint and leaving the group; Python's own end takes some tenths of a second more.
STOP_S_MAX: Final = 5 * limits.DRAIN_MS_MAX / 1_000
# Nobody's verdict waits for these calls, so they may take what a loaded server takes.
REDIS_MS_MAX: Final = 2_000
# Enough of a dead worker's output to hold its error and hint.
TAIL_CHARS: Final = 2_000


class KafkaStage:
    """Apache Kafka, Redis and two worker processes.

    Args:
        settings: where broker and Redis are; with a prefix that nobody uses yet.
        clock: for Redis.
        keep: leave topics and keys behind.
    """

    workers = WORKERS

    def __init__(self, settings: Settings, clock: Clock, *, keep: bool) -> None:
        self.settings = replace(settings, group=f"{settings.prefix}-workers", metrics_port=0)
        self.title = f"Apache Kafka {settings.bootstrap}, Redis, topics `{settings.prefix}.*`"
        self._clock, self._keep = clock, keep
        self._running: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        self._created: list[str] = []
        self._incarnation = ""

    def open(self) -> None:
        """Make the topics.

        Raises:
            BrokerUnavailable: Kafka does not answer.
            StateUnavailable: Redis does not answer.
            ProtocolError: topics of that name exist, or the broker refuses.
        """
        admin = KafkaAdmin(self.settings.kafka)
        found = realm_topics.plan(admin, self.settings)
        with closing(self._store()) as store:
            store.head(0)
        missing, topics = [spec.name for spec in found.missing], Topics(self.settings.prefix)
        if not {topics.intents, topics.verdicts} <= set(missing):
            raise ProtocolError(f"topics `{self.settings.prefix}.*` exist already", hint="run the demo again")
        self._created = missing
        realm_topics.create(admin, found.missing)
        realm_topics.plan_when_visible(admin, self.settings, fixed=False)
        self._incarnation = incarnation(self.settings)
        # A topic that was just created has no leader for a moment, and whoever asks it then is not answered.
        with closing(self.reader()) as reader:
            for spec in found.missing:
                for partition in range(spec.partitions):
                    ends_of(reader, spec.name, partition, self._clock)

    def realm(self) -> ClientRealm:
        """What agents and auditors must know of it."""
        settings = self.settings
        return ClientRealm(settings.realm, self._incarnation, settings.partitions, Topics(settings.prefix))

    def reader(self) -> LogReader:
        """A new reader."""
        return KafkaReader(self.settings.kafka)

    def writer(self) -> LogWriter:
        """A new writer."""
        return KafkaWriter(self.settings.kafka)

    def wiring(self) -> Wiring:
        """A new agent's way to the log."""
        return Wiring(self.realm(), self.reader(), self.writer(), self._clock, UnsignedSigner(), UnsignedVerifier())

    def start(self) -> None:
        """Start the workers."""
        for _ in range(WORKERS):
            output = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the worker, closed by `stop`
            # A session of its own: Ctrl-C ends the demo, and the demo ends its workers.
            worker = subprocess.Popen(
                [sys.executable, "-m", "harness_stream", "worker"],
                env=os.environ | self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.append((worker, output))

    def failure(self) -> str:
        """How the first worker that is gone ended, with the end of its output."""
        for worker, output in self._running:
            if worker.poll() is not None:
                output.seek(0)
                said = output.read().decode("utf-8", "replace")[-TAIL_CHARS:].strip()
                return f"worker {worker.pid} ended with {worker.returncode}: {said}"
        return ""

    def stop(self) -> None:
        """SIGTERM to each worker, and wait."""
        running, self._running = self._running, []
        for worker, _ in running:
            worker.send_signal(signal.SIGTERM)
        for worker, output in running:
            try:
                worker.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
            output.close()

    def close(self) -> None:
        """Stop, and remove topics, group and keys unless they are to be kept."""
        self.stop()
        if self._created and not self._keep:
            self._remove()
            self._created = []

    def next_steps(self) -> Sequence[tuple[str, str]]:
        """How to look closer."""
        look = (
            ("harness verdicts tail --from-beginning --no-follow", "every verdict, from the decision log"),
            ("harness chain show support-1", "what one agent did"),
            ("harness rules status", "which rules each partition decides by"),
        )
        if not self._keep:
            return (("harness demo --kafka --keep", "the same, and leave the topics there to look at:"), *look)
        shown = self._environment() | {"HARNESS_REDIS_URL": self.settings.redis.place}  # a password is not
        exports = " ".join(f"{name}={value}" for name, value in shown.items() if name in _NAMED)
        return ((f"export {exports}", "this demo's realm, for the commands below"), *look)

    def _environment(self) -> dict[str, str]:
        settings = self.settings
        return {
            "HARNESS_BOOTSTRAP": settings.bootstrap,
            "HARNESS_REDIS_URL": settings.redis_url,
            "HARNESS_REALM": settings.realm,
            "HARNESS_PREFIX": settings.prefix,
            "HARNESS_PARTITIONS": str(settings.partitions),
            "HARNESS_RULE_SET": settings.rule_set,
            "HARNESS_DEV": "1",
            "HARNESS_GROUP": settings.group,
            "HARNESS_METRICS_PORT": "0",
        }

    def _store(self) -> RedisStateStore:
        whose = Whose.of(self.settings, self._incarnation)
        return RedisStateStore(self.settings.redis, whose, self._clock, timeout_ms=REDIS_MS_MAX)

    def _remove(self) -> None:
        settings = self.settings
        admin = KafkaAdmin(settings.kafka)
        gone = admin.client.delete_topics(self._created, operation_timeout=ADMIN_S_MAX)
        groups = admin.client.delete_consumer_groups([settings.group], request_timeout=ADMIN_S_MAX)
        for future in [*gone.values(), *groups.values()]:
            try:
                admin.result(future)
            except KafkaException:  # it was never made, or is gone already
                continue
        with closing(self._store()) as store:
            try:
                for partition in range(settings.partitions):
                    while not store.clear(partition, store.head(partition)):
                        pass
            except StateUnavailable:  # a Redis that went away took its keys' use with it
                return


_NAMED: Final = frozenset(
    {"HARNESS_BOOTSTRAP", "HARNESS_REDIS_URL", "HARNESS_PREFIX", "HARNESS_PARTITIONS", "HARNESS_DEV"}
)
