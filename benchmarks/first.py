"""The first benchmark: the verdict path beside a bare echo, in one run on one broker.

    python benchmarks/first.py                 about five minutes; starts Kafka and Redis unless told where they are
    python benchmarks/first.py --rates 500 --seconds 5 --rounds 3 --drain 5000 --json out.json

HARNESS_BOOTSTRAP and HARNESS_REDIS_URL name a broker and a Redis that run. Linux only: CPU times are read from /proc.

Latency is open loop, from the scheduled time of each request. `echo` is a process that consumes and produces records of
the same sizes, heard by a raw client; `harness` is one worker with 30 rules (10 with windows), heard by the product's
own enforcer, which folds the decision log. Rounds alternate. Throughput drains a log that was filled before; the echo
drains the same one. The numbers stay in the output: they belong to the machine and the minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from latency import EchoClient, HarnessClient, Round, echo_process, percentile
from realm import Servers, realm, servers
from throughput import drain_by_echo, drain_by_worker, fill

if TYPE_CHECKING:
    from collections.abc import Sequence


PERCENTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
VERDICT_BYTES: Final = 1_600  # about what a verdict of this workload has; throughput measures it
WARM_RATE: Final = 100
WARM_S: Final = 1.0


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    asked = _arguments().parse_args(words)
    with servers() as where:
        if asked.drain:
            _say(f"draining {asked.drain:,} intents, and an echo of as many")
        throughput = _throughput(where, asked.agents, asked.drain) if asked.drain else None
        size = throughput["harness"]["value_bytes"] if throughput else VERDICT_BYTES
        latency = _latency(where, asked, size) if asked.rates else []
    found = {"settings": vars(asked), "latency": latency, "throughput": throughput}
    print(_text(found))
    if asked.json:
        Path(asked.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _say(what: str) -> None:
    """What takes long is told before; the table comes at the end."""
    print(what, file=sys.stderr, flush=True)


def _latency(where: Servers, asked: argparse.Namespace, size: int) -> list[dict[str, Any]]:
    with (
        realm(where, asked.agents) as made,
        made.worker(),
        echo_process(made, size),
        closing(HarnessClient(made, asked.agents)) as harness,
        closing(EchoClient(made, harness.intent_bytes)) as echo,
    ):
        _say(f"warming up: twice {WARM_S:g} s")
        for client in (echo, harness):
            client.measure(WARM_RATE, WARM_S)
        return [_at_rate(rate, asked.seconds, asked.rounds, echo, harness) for rate in asked.rates]


def _at_rate(rate: float, seconds: float, rounds: int, echo: EchoClient, harness: HarnessClient) -> dict[str, Any]:
    """Alternating rounds; the ratio is the median of each pair's, so that a bad minute hits both."""
    _say(f"{rate:,}/s: {rounds} rounds of twice {seconds:g} s")
    pairs = [(echo.measure(rate, seconds), harness.measure(rate, seconds)) for _ in range(rounds)]
    rows = [(_row(floor), _row(ours)) for floor, ours in pairs]
    ratios = {name: [ours[name] / floor[name] for floor, ours in rows if floor[name]] for name in PERCENTILES}
    return {
        "rate": rate,
        "echo": [floor for floor, _ in rows],
        "harness": [ours for _, ours in rows],
        "ratio": {name: _median_and_spread(found) for name, found in ratios.items()},
    }


def _row(found: Round) -> dict[str, Any]:
    named = {name: percentile(found.latencies_ms, share) for name, share in PERCENTILES.items()}
    return {**named, "answered": len(found.latencies_ms), "missing": found.missing, "decisions": found.decisions}


def _throughput(where: Servers, agents: int, count: int) -> dict[str, Any]:
    with realm(where, agents) as made:
        fill(made, agents, count)
        harness = drain_by_worker(made, count)
        floors = [drain_by_echo(made, count, harness.value_bytes) for _ in range(2)]
    floor_us = statistics.mean(f.cpu_us for f in floors)
    return {
        "echo": [asdict(f) for f in floors],
        "harness": asdict(harness),
        "ratio_cpu": harness.cpu_us / floor_us if floor_us else None,
    }


def _median_and_spread(found: list[float]) -> dict[str, float] | None:
    return {"median": statistics.median(found), "min": min(found), "max": max(found)} if found else None


def _text(found: dict[str, Any]) -> str:
    lines = ["latency, ms from the scheduled time: median of the rounds (min to max)"] if found["latency"] else []
    for measured in found["latency"]:
        lines.append(f"  {measured['rate']:g}/s, {len(measured['echo'])} rounds")
        lines += [_line(name, measured[name]) for name in ("echo", "harness")]
        ratios = (
            f"{p} {r['median']:.1f} ({r['min']:.1f} to {r['max']:.1f})" for p, r in measured["ratio"].items() if r
        )
        lines.append(f"    ratio    {'   '.join(ratios)}")
    drained = found["throughput"]
    if drained:
        lines.append(f"throughput, one process, a log filled before: {drained['harness']['records']:,} verdicts")
        lines += [f"    echo     {f['cpu_us']:6.1f} µs of CPU each   {f['per_s']:9,.0f}/s" for f in drained["echo"]]
        ours = drained["harness"]
        lines.append(
            f"    harness  {ours['cpu_us']:6.1f} µs of CPU each   {ours['per_s']:9,.0f}/s   {ours['decisions']}"
        )
        lines.append(f"    ratio    {drained['ratio_cpu']:6.1f}")
    return "\n".join(lines)


def _line(name: str, rows: list[dict[str, Any]]) -> str:
    parts = []
    for share in PERCENTILES:
        values = [row[share] for row in rows]
        parts.append(f"{share} {statistics.median(values):7.2f} ({min(values):.2f} to {max(values):.2f})")
    answered, missing = (sum(row[key] for row in rows) for key in ("answered", "missing"))
    refused = {said: count for row in rows for said, count in row["decisions"].items() if said != "approve"}
    end = f"answered {answered}, missing {missing}" + (f", not approved {refused}" if refused else "")
    return f"    {name:8} {'   '.join(parts)}   {end}"


def _arguments() -> argparse.ArgumentParser:
    numbers = lambda text: [float(part) for part in text.split(",") if part]  # noqa: E731  a type, used once
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rates", type=numbers, default=[200.0, 1000.0], help="requests a second, comma-separated")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of echo and harness at each rate")
    parser.add_argument("--drain", type=int, default=20_000, help="intents in the filled log; 0: no throughput")
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--json", help="also write everything to this file")
    return parser


if __name__ == "__main__":
    main()
