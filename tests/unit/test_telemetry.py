"""What a worker shows to Prometheus and to those who probe it."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness_stream.adapters.memory.log import MemoryReader
from harness_stream.core import limits
from harness_stream.core.model import TABLES
from harness_stream.errors import ConfigError
from harness_stream.runtime.counted import count
from harness_stream.runtime.readiness import Readiness
from harness_stream.runtime.telemetry import METRICS, NullMetrics, PrometheusMetrics, TelemetryServer
from tests.worked import Worked

READY = Readiness(tables_behind=frozenset(), rules_verified=True, claims_unread=frozenset())


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture
def serve():
    opened = []

    def start(metrics=None, readiness=READY, alive=True):
        port = free_port()
        server = TelemetryServer(metrics or PrometheusMetrics(), lambda: readiness, lambda: alive, port=port)
        opened.append(server)
        return port

    yield start
    for server in opened:
        server.close()


def test_what_was_counted_set_and_observed_is_shown():
    metrics = PrometheusMetrics()
    metrics.count("harness_verdicts_total", decision="deny")
    metrics.count("harness_verdicts_total", 2, decision="deny")
    metrics.gauge("harness_partition_state", 1, partition="3", state="DECIDING")
    metrics.gauge("harness_partition_state", 0, state="DECIDING", partition="3")
    metrics.observe("harness_batch_size", 3)
    text = metrics.exposition().decode()
    assert 'harness_verdicts_total{decision="deny"} 3.0' in text
    assert 'harness_partition_state{partition="3",state="DECIDING"} 0.0' in text
    assert 'harness_batch_size_bucket{le="4.0"} 1.0' in text


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_the_table_can_be_used_and_says_what_it_means(name):
    metric, metrics = METRICS[name], PrometheusMetrics()
    use = {"counter": metrics.count, "gauge": metrics.gauge, "histogram": metrics.observe}[metric.kind]
    use(name, 1, **dict.fromkeys(metric.labels, "x"))
    assert f"# HELP {name} {metric.help}" in metrics.exposition().decode()


@pytest.mark.parametrize(
    "use",
    [
        lambda m: m.count("harness_verdict_total"),
        lambda m: m.count("harness_redis_up"),
        lambda m: m.gauge("harness_void_total", 1),
        lambda m: m.observe("harness_lag", 1, partition="1"),
    ],
)
def test_an_unknown_metric_or_a_wrong_type_is_an_error(use):
    with pytest.raises(LookupError, match="METRICS"):
        use(PrometheusMetrics())


@pytest.mark.parametrize("labels", [{}, {"decision": "deny", "agent": "a"}, {"kind": "deny"}])
def test_other_labels_than_the_tables_are_an_error(labels):
    with pytest.raises(ValueError, match="label"):
        PrometheusMetrics().count("harness_verdicts_total", **labels)


def said(decision: str, *reasons: dict[str, object]) -> SimpleNamespace:
    return SimpleNamespace(body={"kind": "verdict", "decision": decision, "reasons": list(reasons)})


def test_what_a_batch_said_is_counted_one_by_one():
    bodies = [
        {"kind": "reject", "reason": "duplicate"},
        {"kind": "skip", "count": 3, "reason": "garbage", "offsets": [{"reason": "not_authentic"}, {"reason": "realm"}]},
        {"kind": "ack", "event_type": "outcome", "reason": "bypass"},
    ]
    first, second = {"code": "rule", "rule": "a", "unknown": True}, {"code": "late"}
    verdicts = [said("approve"), said("approve"), said("hold"), said("deny", first, second), said("deny", second, first)]
    metrics = PrometheusMetrics()
    count(metrics, [*verdicts, said("deny", first), *(SimpleNamespace(body=b) for b in bodies)], 9)
    shown = metrics.exposition().decode()
    for series, amount in {
        'inputs_total{kind="intent"}': 6,
        'inputs_total{kind="garbage"}': 3,
        'inputs_total{kind="outcome"}': 1,
        'verdicts_total{decision="approve"}': 2,
        'verdicts_total{decision="hold"}': 1,
        'verdicts_total{decision="deny"}': 3,
        'denies_total{reason="rule"}': 2,
        'denies_total{reason="late"}': 1,
        "unknown_total": 3,
        'rejects_total{reason="duplicate"}': 1,
        'skips_total{reason="garbage"}': 1,
        'security_events_total{reason="not_authentic"}': 1,
        'security_events_total{reason="bypass"}': 1,
    }.items():
        assert f"harness_{series} {amount}.0\n" in shown, series


def test_two_workers_in_one_process_do_not_share_counts():
    one, two = PrometheusMetrics(), PrometheusMetrics()
    one.count("harness_void_total")
    assert "harness_void_total 0.0" in two.exposition().decode()


@pytest.mark.parametrize("series", [
    'harness_denies_total{reason="quarantined"}',
    'harness_denies_total{reason="rule"}',
    'harness_rejects_total{reason="state_unavailable"}',
    'harness_skips_total{reason="input_lost"}',
    'harness_security_events_total{reason="halted"}',
    'harness_security_events_total{reason="bypass"}',
])  # fmt: skip
def test_what_an_alert_waits_for_is_there_before_it_happens(series):
    """Prometheus' `increase` sees no event that made its series."""
    assert f"{series} 0.0" in PrometheusMetrics().exposition().decode()


def test_what_is_dropped_is_shown_no_more_and_begins_anew():
    metrics = PrometheusMetrics()
    for partition in ("3", "4"):
        metrics.gauge("harness_lag", 7, partition=partition)
        metrics.gauge("harness_partition_state", 1, state="deciding", partition=partition)
    metrics.drop(partition="3")
    text = metrics.exposition().decode()
    assert 'partition="3"' not in text
    assert 'harness_lag{partition="4"} 7.0' in text
    metrics.gauge("harness_lag", 1, partition="3")
    assert 'harness_lag{partition="3"} 1.0' in metrics.exposition().decode()


def test_nobody_listens_to_null_metrics():
    NullMetrics().count("anything", 1, any="label")
    NullMetrics().drop(any="label")


def test_the_server_shows_metrics(serve):
    metrics = PrometheusMetrics()
    metrics.count("harness_void_total", 7)
    status, body = get(serve(metrics), "/metrics?x=1")
    assert (status, b"harness_void_total 7.0" in body) == (200, True)


def test_a_worker_that_has_just_started_is_alive_but_not_ready(serve):
    port = serve(readiness=Readiness())
    assert get(port, "/livez") == (200, b'{"alive": true}')
    status, body = get(port, "/readyz")
    assert (status, json.loads(body)) == (503, {"ready": False, "waiting_for": Readiness().waiting_for})


def test_a_ready_worker_waits_for_nothing(serve):
    status, body = get(serve(), "/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "waiting_for": []})


def test_a_stalled_loop_is_not_alive(serve):
    assert get(serve(alive=False), "/livez") == (503, b'{"alive": false}')


def test_other_pages_do_not_exist(serve):
    status, body = get(serve(), "/")
    assert (status, json.loads(body)) == (404, {"pages": ["/livez", "/metrics", "/readyz"]})


@pytest.mark.parametrize("port", ["taken", 70_000])
def test_a_port_that_cannot_be_used_is_the_operators_mistake(port):
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1] if port == "taken" else port
        with pytest.raises(ConfigError, match=f"`metrics_port` {number}") as caught:
            TelemetryServer(PrometheusMetrics(), lambda: READY, lambda: True, port=number)
    assert "0 for none" in caught.value.hint


def test_port_0_is_off_and_a_closed_server_frees_its_port():
    TelemetryServer(PrometheusMetrics(), lambda: READY, lambda: True, port=0).close()
    port = free_port()
    TelemetryServer(PrometheusMetrics(), lambda: READY, lambda: True, port=port).close()
    socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize(
    ("readiness", "waits_for"),
    [
        (Readiness(None, True, frozenset()), ["tables is not known"]),
        (Readiness(frozenset({"risk", "identity"}), True, frozenset()), ["identity, risk"]),
        (Readiness(frozenset(), False, frozenset()), ["rules push"]),
        (Readiness(frozenset(), True, None), ["no partition assignment"]),
        (Readiness(frozenset(), True, frozenset({10, 2})), ["partitions 2, 10"]),
        (Readiness(frozenset(), True, frozenset(), recreated=True), ["log topics recreated"]),
        (Readiness(frozenset(), True, frozenset({1}), halted=frozenset({1})), ["halted: partitions 1"]),
        (Readiness(frozenset(), True, frozenset({1, 2}), halted=frozenset({1})), ["halted: partitions 1", "partitions 2"]),
        (Readiness(frozenset({"risk"}), False, frozenset({1})), ["risk", "rules push", "partitions 1"]),
        (replace(READY, tables_stale=frozenset({"risk", "identity"})), ["fresh for 1000 ms: identity, risk;"]),
        (READY, []),
    ],
)
def test_ready_needs_tables_rules_and_claims_and_names_what_is_missing(readiness, waits_for):
    said = readiness.waiting_for
    assert readiness.ready == (not waits_for)
    assert len(said) == len(waits_for)
    assert all(part in sentence for part, sentence in zip(waits_for, said, strict=True))


def test_the_readme_names_every_page(serve):
    _, body = get(serve(), "/healthz")
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert [page for page in json.loads(body)["pages"] if f"`{page}`" not in readme] == []


def test_a_worker_is_not_ready_while_its_broker_is_silent(monkeypatch):
    world = Worked(1).world
    (member,) = world.members
    assert member.worker.readiness().ready
    with monkeypatch.context() as silence:
        silence.setattr(MemoryReader, "ends", lambda _reader: [])
        told_by_ms = world.clock.now_ms() + limits.FRESH_MS_MAX + 1
        while world.clock.now_ms() < told_by_ms:
            world.turn()
        assert not member.worker.readiness().ready
        assert member.worker.readiness().tables_stale == set(TABLES)
        assert member.worker.readiness().tables_behind == frozenset()
    for _ in range(100):
        world.turn()
    assert member.worker.readiness().ready


def test_a_set_that_does_not_load_is_named_as_what_is_waited_for():
    waiting = Readiness(rules_problem="bundle 0123 does not load: the longest window is 86,400 s").waiting_for
    assert any("bundle 0123 does not load" in reason for reason in waiting)
