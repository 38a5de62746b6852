"""Latency at a given rate, open loop: each request leaves when its time has come, whatever became of those before.

Rule of this file: a latency counts from the scheduled time, not from the send, so that a stall shows in every request
that it delayed (no coordinated omission). What never came is counted, never left out in silence.
"""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from concurrent.futures import wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from confluent_kafka import Producer, TopicPartition
from echo import consumer
from realm import PARTITIONS
from workload import TENANTS, Intents

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier
from harness_stream.client.enforcer import Enforcer
from harness_stream.client.request import Request
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.core import limits
from harness_stream.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from realm import BenchRealm

DEADLINE_MS: Final = limits.DEADLINE_MS_DEFAULT
OPEN_S_MAX: Final = 15.0
STOP_S_MAX: Final = 5.0
_POLL_S: Final = 0.02
# Sleeping is exact to some 60 µs here; the rest is spun away, so that the sender itself is on time.
_SPIN_S: Final = 0.000_2


@dataclass(slots=True)
class Round:
    """One round's result.

    Attributes:
        latencies_ms: of every request that was answered, from its scheduled time.
        missing: requests without an answer, or with an error.
        decisions: how the answered ones were decided; empty for the echo.
    """

    latencies_ms: list[float] = field(default_factory=list)
    missing: int = 0
    decisions: dict[str, int] = field(default_factory=dict)


def percentile(values: list[float], share: float) -> float:
    """The nearest-rank percentile (share in 0 … 1); NaN of nothing."""
    return float(np.quantile(values, share, method="inverted_cdf")) if values else math.nan


def open_loop(rate: float, duration_s: float, send: Callable[[int, float], None]) -> int:
    """Call `send(number, scheduled time)` at a fixed rate; the number of calls."""
    count, started = int(rate * duration_s), time.perf_counter() + 0.05
    for number in range(count):
        due = started + number / rate
        while (early := due - time.perf_counter()) > 0:
            if early > _SPIN_S:
                time.sleep(early - _SPIN_S)
        send(number, due)
    return count


class EchoClient:
    """One process that sends to the bare echo and hears it.

    Args:
        realm: whose echo topics.
        size: of a request, bytes.
    """

    def __init__(self, realm: BenchRealm, size: int) -> None:
        self._realm, self._filler = realm, bytes(size - 8)
        self._writer = Producer(client_settings.producer(realm.settings.kafka))
        self._reader = consumer(realm.settings.kafka)
        places = [TopicPartition(realm.echo_out, p) for p in range(PARTITIONS)]
        ends = [self._reader.get_watermark_offsets(place)[1] for place in places]
        self._reader.assign([TopicPartition(p.topic, p.partition, end) for p, end in zip(places, ends, strict=True)])
        self._due: dict[int, float] = {}
        self._round, self._sent = Round(), 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def measure(self, rate: float, duration_s: float) -> Round:
        """One round."""
        self._round = Round()
        open_loop(rate, duration_s, self._send)
        end = time.monotonic() + DEADLINE_MS / 1000
        while self._due and time.monotonic() < end:
            time.sleep(_POLL_S)
        self._round.missing = len(self._due)
        self._due.clear()
        return self._round

    def close(self) -> None:
        """Free everything."""
        self._stopping.set()
        self._thread.join(STOP_S_MAX)
        self._reader.close()

    def _send(self, number: int, due: float) -> None:
        self._sent += 1
        self._due[self._sent] = due
        value = self._sent.to_bytes(8) + self._filler
        self._writer.produce(self._realm.echo_in, value, key=b"tenant", partition=number % PARTITIONS)
        self._writer.poll(0)

    def _listen(self) -> None:
        while not self._stopping.is_set():
            record = self._reader.poll(_POLL_S)
            if record is None or record.error() is not None:
                continue
            due = self._due.pop(int.from_bytes((record.value() or b"")[:8]), None)
            if due is not None:
                self._round.latencies_ms.append((time.perf_counter() - due) * 1000)


def enforcer(realm: BenchRealm, lanes: list[str]) -> Enforcer:
    """The product's own, running, with these lanes open."""
    settings = realm.settings
    named = ClientRealm(settings.realm, incarnation(settings), PARTITIONS, realm.topics)
    ports = KafkaReader(settings.kafka), KafkaWriter(settings.kafka), SystemClock()
    made = Enforcer(Wiring(named, *ports, UnsignedSigner(), UnsignedVerifier()))
    made.start()
    for lane in lanes:
        made.open(lane).result(OPEN_S_MAX)
    return made


def ask(by: Enforcer, intent_id: str, agent: str, lane: str, value: bytes) -> Future[Any]:
    """Let an enforcer publish an intent of the workload."""
    return by.submit(Request("intent", intent_id, agent, lane, value, (), DEADLINE_MS, "benchmark", "0" * 64))


class HarnessClient:
    """The product's own enforcer: it folds the decision log and gives an answer once it is effective.

    Args:
        realm: with a worker that is ready.
        agents: of the workload.
    """

    def __init__(self, realm: BenchRealm, agents: int) -> None:
        self._enforcer = enforcer(realm, [f"tenant-{tenant}" for tenant in range(TENANTS)])
        self._intents = Intents(realm.settings.realm, agents, DEADLINE_MS, self._enforcer.nonce)
        self._number = 0
        self.intent_bytes = len(self._intents.make(0)[3])

    def measure(self, rate: float, duration_s: float) -> Round:
        """One round."""
        found, futures = Round(), list[Any]()

        def send(_: int, due: float) -> None:
            future = self._ask()
            future.add_done_callback(lambda answered: _note(found, answered, due))
            futures.append(future)

        open_loop(rate, duration_s, send)
        wait(futures, 2 * DEADLINE_MS / 1000)
        found.missing += sum(not future.done() for future in futures)
        return found

    def close(self) -> None:
        """Free everything."""
        self._enforcer.close()

    def _ask(self) -> Future[Any]:
        self._number += 1
        return ask(self._enforcer, *self._intents.make(self._number - 1))


def _note(found: Round, answered: Future[Any], due: float) -> None:
    now, error = time.perf_counter(), answered.exception()
    reasons = getattr(error, "reasons", ())  # this workload should have no refusal: if there is one, say why
    decision = "approve" if error is None else f"{type(error).__name__}: {', '.join(map(str, reasons[:1]))}"
    found.decisions[decision] = found.decisions.get(decision, 0) + 1
    if error is None or (isinstance(error, HarnessError) and getattr(error, "verdict", None) is not None):
        found.latencies_ms.append((now - due) * 1000)
    else:
        found.missing += 1


@contextmanager
def echo_process(realm: BenchRealm, size: int) -> Iterator[None]:
    """The process that answers; `size` of its records, bytes."""
    words = ["answer", realm.settings.bootstrap, realm.echo_in, realm.echo_out, str(PARTITIONS), str(size)]
    command = [sys.executable, str(Path(__file__).with_name("echo.py")), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        if process.stdout is None or process.stdout.readline().strip() != b"ready":
            raise SystemExit("the echo process did not start")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
