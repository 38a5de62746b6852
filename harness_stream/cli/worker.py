"""`harness worker`: one process that decides. Several share the partitions.

Rule of this file: start, loop, stop. SIGTERM and Ctrl-C stop cleanly: what is in flight is drained within a second, a
final checkpoint is written, the group is left. Before the group is joined there is nothing to put away, so the process
ends at once. SIGTERM gives exit code 0 in both cases, since a stop that was asked for is no failure.
"""

from __future__ import annotations

import faulthandler
import json as json_format
import logging
import os
import signal
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness_stream.__main__ import EXIT_INTERRUPTED
from harness_stream.cli.flags import takes
from harness_stream.config import Settings
from harness_stream.core import limits
from harness_stream.runtime.collector import Collector

if TYPE_CHECKING:
    from harness_stream.runtime.worker import Worker

# A loop that has not turned for this long is stuck: 50 times the longest turn allowed (LOOP_WAIT_MS_MAX).
ALIVE_MS_MAX = 1_000
READY_LINE = "ready"

SETTINGS_READ = tuple(field.name for field in fields(Settings) if not field.name.startswith("risk_"))
"""Every setting but those of the risk topology; secrets have no flag."""

log = logging.getLogger(__name__)


@takes(*SETTINGS_READ)
def worker(
    *, settings: Settings, json: Annotated[bool, typer.Option("--json", help="Log one JSON object a line.")] = False
) -> None:
    """Judge intents until stopped. Start several to share the work; each takes its part of the partitions.

    It refuses to start while a topic is not what the protocol demands, and says what it waits for until it is ready.
    SIGTERM stops it cleanly at any moment, with exit code 0.

    Example: harness worker --dev
    """
    stop = Stop()
    _log_to_stderr(as_json=json)
    faulthandler.enable()  # else a crash inside of a C library ends the process without a word
    run(settings, stop)


def run(settings: Settings, stop: Stop) -> None:
    """Build a worker on Kafka and Redis and run it until `stop` is asked for."""
    from harness_stream.cli.compose import kafka_worker, verified_realm  # noqa: PLC0415  slow to load, `--help` is not
    from harness_stream.runtime.telemetry import PrometheusMetrics, TelemetryServer  # noqa: PLC0415  same

    metrics = PrometheusMetrics()
    realm = verified_realm(settings)
    stop.by_draining()
    built = kafka_worker(settings, realm, metrics)
    clock = built.clock
    server = TelemetryServer(
        metrics,
        built.readiness,
        lambda: clock.elapsed_ms() - built.turned_ms < ALIVE_MS_MAX,
        port=settings.metrics_port,
        host=settings.metrics_host,
    )
    try:
        loop(built, stop)
    finally:
        server.close()
        stop.by_ending()


def loop(built: Worker, stop: Stop) -> None:
    """Turn until a signal comes, then drain."""
    collector, announced = Collector(built.at_rest), ""
    while not stop.asked:
        built.step()
        collector.step()
        announced = _announce(built, announced)
    log.info("stopping: draining for at most %d ms", limits.DRAIN_MS_MAX)
    built.stop()
    end = time.monotonic() + limits.DRAIN_MS_MAX / 1000
    while not built.stopped and time.monotonic() < end:
        built.step(1)
    built.close(max(0, round((end - time.monotonic()) * 1000)))  # the same limit: it waits for the same records
    log.info("stopped")


def _announce(built: Worker, before: str) -> str:
    """Say once what is waited for, and once that it is ready."""
    waiting = built.readiness().waiting_for
    now = "; ".join(waiting) or READY_LINE
    if now != before:
        log.info("%s", now if now == READY_LINE else f"waiting: {now}")
    return now


class Stop:
    """Catches SIGTERM and SIGINT from when it is made: a first process without an init gets no default handling.

    Attributes:
        asked: the loop shall end.
    """

    def __init__(self) -> None:
        self.asked = False
        self._draining = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.signal(signal.SIGINT, self._ask)

    def by_draining(self) -> None:
        """From now on there is something to drain: a signal only sets `asked`; a second Ctrl-C ends at once."""
        self._draining = True

    def by_ending(self) -> None:
        """All is put away. Python gives signals back to the system as it ends, and one more would be its exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    def _ask(self, number: int, frame: Any) -> None:  # noqa: ANN401, ARG002  the signal module's signature
        if not self._draining:
            log.info("stopped before it began")
            # An exception would be raised inside of the Kafka client's C code as often as not, which makes it an error.
            os._exit(EXIT_INTERRUPTED if number == signal.SIGINT else 0)
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True


class JsonLines(logging.Formatter):
    """One JSON object a line, whatever the message holds."""

    def format(self, record: logging.LogRecord) -> str:
        """The record, and the traceback if there is one."""
        told = {"at": self.formatTime(record), "level": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json_format.dumps(told, ensure_ascii=False)


def _log_to_stderr(*, as_json: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
