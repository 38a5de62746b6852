"""Where the demo plays: what a stage offers, and the one that is nothing but this process.

Rule of this file: the memory stage runs the very worker in a thread, as `harness worker` runs it in a process.
"""

from __future__ import annotations

import random
import secrets
import threading
from typing import TYPE_CHECKING, Final, Protocol

from harness_stream.adapters.memory.incarnation import MemoryIncarnations
from harness_stream.adapters.memory.log import (
    MemoryBroker,
    MemoryGroup,
    MemoryInputConsumer,
    MemoryReader,
    MemoryWriter,
)
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.core import limits
from harness_stream.runtime.realm import Ports, Realm
from harness_stream.runtime.telemetry import NullMetrics
from harness_stream.runtime.worker import Worker
from harness_stream.wire.topics import Topics, topic_specs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.config import Settings
    from harness_stream.ports import Clock, LogReader, LogWriter

# A worker in a thread stops within its drain; twice that is a worker that hangs.
STOP_S_MAX: Final = 2 * limits.DRAIN_MS_MAX / 1_000


class Stage(Protocol):
    """A log, state and workers, all of it the demo's own.

    Attributes:
        title: what it is, for people.
        settings: its realm's.
        workers: how many decide on it.
    """

    title: str
    settings: Settings
    workers: int

    def open(self) -> None:
        """Make the topics."""

    def realm(self) -> ClientRealm:
        """What agents and auditors must know of it; after `open`."""

    def reader(self) -> LogReader:
        """A new reader."""

    def writer(self) -> LogWriter:
        """A new writer."""

    def wiring(self) -> Wiring:
        """A new agent's way to the log; whoever uses it closes it."""

    def start(self) -> None:
        """Let the workers begin; tables and rules are there."""

    def failure(self) -> str:
        """What a worker died of; empty while all live."""

    def stop(self) -> None:
        """Stop the workers cleanly. Repeating it is harmless."""

    def close(self) -> None:
        """Stop, and remove what was made."""

    def next_steps(self) -> Sequence[tuple[str, str]]:
        """Command → what it shows."""


class MemoryStage:
    """Log, state and one worker in this process; nothing is left behind.

    Args:
        settings: the realm's; must be `dev`.
        clock: of everything in here.
    """

    title = "in this process, on a log in memory"
    workers = 1

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        specs = topic_specs(settings.prefix, settings.partitions, settings.max_timespan_ms, 1)
        self._broker = MemoryBroker({spec.name: spec.partitions for spec in specs}, clock.now_ms, blocking=True)
        self._incarnation = secrets.token_hex(8)
        self._stopping = threading.Event()
        self._died = ""
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """The log in memory has its topics from the start."""

    def realm(self) -> ClientRealm:
        """What agents and auditors must know of it."""
        settings = self.settings
        return ClientRealm(settings.realm, self._incarnation, settings.partitions, Topics(settings.prefix))

    def reader(self) -> LogReader:
        """A new reader."""
        return MemoryReader(self._broker)

    def writer(self) -> LogWriter:
        """A new writer."""
        return MemoryWriter(self._broker)

    def wiring(self) -> Wiring:
        """A new agent's way to the log."""
        return Wiring(self.realm(), self.reader(), self.writer(), self._clock, UnsignedSigner(), UnsignedVerifier())

    def start(self) -> None:
        """Let the worker begin."""
        worker = self._worker()
        self._thread = threading.Thread(target=self._run, args=(worker,), name="harness-worker", daemon=True)
        self._thread.start()

    def failure(self) -> str:
        """What the worker died of."""
        return self._died

    def stop(self) -> None:
        """Drain and stop the worker."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(STOP_S_MAX)

    def close(self) -> None:
        """Nothing outlives the process."""
        self.stop()

    def next_steps(self) -> Sequence[tuple[str, str]]:
        """What a newcomer does next."""
        return (
            ("harness up", "start Apache Kafka and Redis on this machine"),
            ("harness demo --kafka", "the same agents on them, judged by two worker processes"),
        )

    def _worker(self) -> Worker:
        settings = self.settings
        realm = Realm(
            name=settings.realm,
            incarnation=self._incarnation,
            partitions=settings.partitions,
            topics=Topics(settings.prefix),
            rule_set=settings.rule_set,
            dev=settings.dev,
            snapshot_interval_ms=settings.snapshot_interval_ms,
            hot_units_max=settings.hot_units_max,
        )
        ports = Ports(
            consumer=MemoryInputConsumer(MemoryGroup(self._broker, realm.topics.intents), "worker"),
            writer=self.writer(),
            reader=self.reader(),
            incarnations=MemoryIncarnations(self._incarnation),
            store=MemoryStateStore(),
            clock=self._clock,
            signer=UnsignedSigner(),
            verifier=UnsignedVerifier(),
            metrics=NullMetrics(),
            jitter=random.SystemRandom().random,
        )
        return Worker(realm, ports, secrets.token_hex(16))

    def _run(self, worker: Worker) -> None:
        try:
            while not self._stopping.is_set():
                worker.step()
            worker.stop()
            end_ms = self._clock.elapsed_ms() + limits.DRAIN_MS_MAX
            while not worker.stopped and self._clock.elapsed_ms() < end_ms:
                worker.step(1)
            worker.close()
        except Exception as error:  # noqa: BLE001  whatever it was, the demo must say so instead of waiting
            self._died = repr(error)
