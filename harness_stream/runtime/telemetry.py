"""Every metric this project has, and the HTTP port that shows them with liveness and readiness.

Rule of this file: a metric exists iff it stands in `METRICS`; counting an unknown one is a bug and raises. No label
takes a value that a sender chooses (agent, chain, resource), so the number of series is bounded by partitions, reasons
and states. The registry belongs to the object: two workers in one process do not share counts.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from harness_stream.alarms import Alarm
from harness_stream.core.notice import STOPPED
from harness_stream.core.reasons import SECURITY_EVENTS, Client, Deny, Reject, Skip
from harness_stream.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.runtime.readiness import Readiness

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its type, what it means, its labels and, for a histogram, its buckets.

    Attributes:
        known: values of its one label that are shown from the start, at 0: a rate sees no event that made its series.
    """

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    known: tuple[str, ...] = ()


# 50 µs is the goal of one decision (DESIGN §9); 20 ms is the longest anything in the loop may take.
_DECIDE_BUCKETS_S: Final = (25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.25)
# A micro-batch has at most 256 records (PROTOCOL §5).
_BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# From one loop's turn to the delivery time-out.
_CONFIRM_BUCKETS_S: Final = (1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 3.0)

_DENIES: Final = (Client.RULE, *Deny)
_ALARMS: Final = (Alarm.HALTED, Alarm.INPUT_LOST, Alarm.DECISIONS_LOST, Alarm.FOREIGN_RECORD)
_SECURITY: Final = (*_ALARMS, *sorted(SECURITY_EVENTS))

METRICS: Final[dict[str, Metric]] = {
    "harness_inputs_total": Metric("counter", "Input records taken in, by type (`garbage` if none).", ("kind",)),
    "harness_verdicts_total": Metric("counter", "Verdicts published: approve, deny, hold.", ("decision",)),
    "harness_unknown_total": Metric("counter", "Verdicts for which a window's interval did not settle a condition."),
    "harness_denies_total": Metric(
        "counter", "Denials by the engine's own reason (`rule` if a rule's).", ("reason",), known=_DENIES
    ),
    "harness_void_total": Metric("counter", "Decision-log records that lost (PROTOCOL §4), as an owner met them."),
    "harness_skips_total": Metric("counter", "Input records skipped, by reason.", ("reason",), known=(*Skip,)),
    "harness_deadletter_dropped_total": Metric("counter", "Copies of garbage not kept, for want of room."),
    "harness_rejects_total": Metric("counter", "Input records rejected, by reason.", ("reason",), known=(*Reject,)),
    "harness_security_events_total": Metric(
        "counter", "What somebody should look at, by reason.", ("reason",), known=_SECURITY
    ),
    "harness_notices_total": Metric(
        "counter", "Enforcers told that an agent was stopped, by its status.", ("status",), known=(*sorted(STOPPED),)
    ),
    "harness_claims_total": Metric("counter", "Own claims, by what came before.", ("after",)),
    "harness_resyncs_total": Metric("counter", "Resyncs of a partition, by cause.", ("cause",)),
    "harness_snapshots_total": Metric("counter", "Snapshots written to the chains topic."),
    "harness_state_failures_total": Metric("counter", "Calls of the state store that failed, by call.", ("call",)),
    "harness_decide_seconds": Metric("histogram", "CPU-side time of one decision.", (), _DECIDE_BUCKETS_S),
    "harness_batch_size": Metric("histogram", "Answers in one micro-batch.", (), _BATCH_BUCKETS),
    "harness_confirm_seconds": Metric("histogram", "From publish to known delivery.", (), _CONFIRM_BUCKETS_S),
    "harness_partition_state": Metric("gauge", "1 for the state a partition is in, else 0.", ("partition", "state")),
    "harness_lag": Metric("gauge", "Input records behind the log's end.", ("partition",)),
    "harness_in_flight_records": Metric("gauge", "Published records whose fate is open.", ("partition",)),
    "harness_checkpoint_age_seconds": Metric("gauge", "Age of the newest own checkpoint.", ("partition",)),
    "harness_table_age_seconds": Metric("gauge", "Time since a table was known to be fresh.", ("table",)),
    "harness_table_revision": Metric("gauge", "Revision of the table view.", ("table",)),
    "harness_hot_units": Metric("gauge", "Units of state in memory."),
    "harness_deferred_bytes": Metric("gauge", "Bytes of records that units have not taken in yet."),
    "harness_hot_bytes": Metric("gauge", "Bytes those units have where they are stored."),
    "harness_redis_up": Metric("gauge", "1 if the state store answered its last call."),
    "harness_bundle_unusable": Metric("gauge", "1 if the bundle that shall be in force is missing or does not load."),
    "harness_ready": Metric("gauge", "1 if this worker is ready."),
}
"""Name → metric. Times are seconds, as Prometheus wants them."""

_Family = Counter | Gauge | Histogram
_TYPES: Final[dict[Kind, type[_Family]]] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}


class _Series(NamedTuple):
    """One line of the exposition, its labels in the order in which a caller named them."""

    kind: Kind
    name: str
    labels: tuple[tuple[str, str], ...]


class PrometheusMetrics:
    """`ports.Metrics` on an own Prometheus registry.

    Every method raises LookupError for a name that is not in `METRICS` with that type, ValueError for other labels
    than the table's. Thread-safe.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._families = {name: _family(name, metric, self._registry) for name, metric in METRICS.items()}
        # Looking a child up by its labels costs the client library several microseconds, this dictionary a tenth.
        self._children: dict[_Series, _Family] = {}
        for name, metric in METRICS.items():
            for value in metric.known:
                self._child(metric.kind, name, {metric.labels[0]: value})

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        cast("Counter", self._child("counter", name, labels)).inc(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        cast("Gauge", self._child("gauge", name, labels)).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram."""
        cast("Histogram", self._child("histogram", name, labels)).observe(value)

    def drop(self, **labels: str) -> None:
        """Show nothing more that has these labels, among others."""
        for key in [key for key in self._children if labels.items() <= dict(key.labels).items()]:
            del self._children[key]
            held = dict(key.labels)
            self._families[key.name].remove(*(held[label] for label in METRICS[key.name].labels))

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def _child(self, kind: Kind, name: str, labels: dict[str, str]) -> _Family:
        key = _Series(kind, name, tuple(labels.items()))
        child = self._children.get(key)
        if child is None:
            metric = METRICS.get(name)
            if metric is None or metric.kind != kind:
                raise LookupError(f"there is no {kind} `{name}` in METRICS")
            family = self._families[name]
            child = self._children[key] = family.labels(**labels) if metric.labels or labels else family
        return child


class NullMetrics:
    """`ports.Metrics` that forgets, for commands and tests that nobody scrapes."""

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Forget."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Forget."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Forget."""

    def drop(self, **labels: str) -> None:
        """Forget."""


def _family(name: str, metric: Metric, registry: CollectorRegistry) -> _Family:
    if metric.kind == "histogram":
        return Histogram(name, metric.help, metric.labels, registry=registry, buckets=metric.buckets)
    return _TYPES[metric.kind](name, metric.help, metric.labels, registry=registry)


# A scrape or probe sends one short request; a peer that sends nothing must not keep a thread.
_REQUEST_TIMEOUT_S: Final = 5


class TelemetryServer:
    """`/livez`, `/readyz` and `/metrics` on an own thread; the worker's loop is never asked to wait for it.

    Args:
        metrics: what `/metrics` shows.
        readiness: the newest record; `/readyz` is 200 if it is ready, else 503 with what it waits for.
        alive: whether the loop still turns; `/livez` is 200 or 503.
        port: 1 to 65535; 0 turns the server off.
        host: address to bind. Loopback unless told: what it shows helps an attacker to time an attack.

    Raises:
        ConfigError: the port is taken or may not be used.
    """

    def __init__(
        self,
        metrics: PrometheusMetrics,
        readiness: Callable[[], Readiness],
        alive: Callable[[], bool],
        *,
        port: int,
        host: str = "127.0.0.1",
    ) -> None:
        self._server: ThreadingHTTPServer | None = None
        if port == 0:
            return
        pages = {
            "/livez": lambda: _json(alive(), {"alive": alive()}),
            "/readyz": lambda: _readyz(readiness()),
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, metrics.exposition()),
        }
        self._server = _listen(host, port, pages)
        threading.Thread(target=self._server.serve_forever, name="telemetry", daemon=True).start()

    def close(self) -> None:
        """Free the port."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


_Page = tuple[HTTPStatus, str, bytes]


def _json(good: bool, body: dict[str, object]) -> _Page:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(body).encode()


def _readyz(readiness: Readiness) -> _Page:
    return _json(readiness.ready, {"ready": readiness.ready, "waiting_for": readiness.waiting_for})


def _listen(host: str, port: int, pages: dict[str, Callable[[], _Page]]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, body = page() if page else _json(False, {"pages": sorted(pages)})
            self.send_response(status if page else HTTPStatus.NOT_FOUND)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class dictates the name
            """Say nothing: probes come every second."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"`metrics_port` {port} cannot be used on {host}: {error}",
            hint="each worker of a machine has its own: `--metrics-port 9465`, or 0 for none",
        ) from None
