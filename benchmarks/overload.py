"""What overload costs: the late path beside a decision, and three times the capacity for a minute.

    python benchmarks/overload.py                 ten minutes; starts Kafka and Redis unless told where they are
    python benchmarks/overload.py --seconds 10 --rounds 1 --drain 5000 --json out.json

HARNESS_BOOTSTRAP and HARNESS_REDIS_URL name a broker and a Redis that run. Linux only: CPU times are read from /proc.
Realms are unsigned, with 30 rules of which 10 have windows. A worker has a CPU of its own, and everything else this
starts shares the others, else a flood takes the time of the worker whose capacity it is a multiple of.

First one worker drains logs that were filled before: of intents that are all late, all beyond their lane's rate, or all
evaluated, in alternating rounds. Then a load grows to half more than a drain gives: what the worker gives once verdicts
wait is its capacity. Half of it is offered, three times of it, and half again, while honest clients ask (collapse.py).
The goal is that all is well so soon after it. The numbers stay in the output: they are the machine's and the minute's.
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import command
import machine
from collapse import VARIANTS, as_text, carried, collapse
from cpus import only_on, shared_out
from realm import UNBOUNDED, realm, servers
from throughput import Log, drain_by_workers

from harness_stream.core import limits
from harness_stream.core.rate import Rate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from collapse import Variant
    from realm import Servers
    from throughput import Drained


class Kind(NamedTuple):
    """How every intent of a filled log is answered.

    Attributes:
        said: the verdict.
        deadline_ms: of each intent.
        rate: of each lane.
    """

    said: str
    deadline_ms: int
    rate: Rate


# Drains differ by a third from each other, and a load that ends below the capacity shows none.
RAMP_TO: Final = 1.5
EVALUATED: Final = Kind("approve", limits.DEADLINE_MS_MAX, UNBOUNDED)
# A worker needs a second to start, so everything is late; and one intent a second of each lane is within its bound.
KINDS: Final = (
    Kind("deny: late", 1, UNBOUNDED),
    Kind("deny: rate", limits.DEADLINE_MS_MAX, Rate(1, 1)),
    EVALUATED,
)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    asked, on = _arguments().parse_args(words), machine.measured_on()
    worker_cpus, others = shared_out()
    with only_on(others), servers() as found_at:
        where = replace(found_at, worker_cpus=worker_cpus)
        on |= {**where.versions, "CPUs": f"{_named(worker_cpus)} the worker's, {_named(others)} everybody else's"}
        drained = [_round(where, asked.agents, asked.drain, number) for number in range(1, asked.rounds + 1)]
        runs = _overloads(where, asked, drained) if asked.seconds else []
    late_path = {kind.said: [asdict(found[kind.said]) for found in drained] for kind in KINDS}
    settings = {name: value for name, value in vars(asked).items() if name != "json"}
    found = {"machine": on, "settings": settings, "late_path": late_path, "ratio": _ratios(drained), "overload": runs}
    print("\n".join([*machine.lines(on), *_late_path(found), *(line for run in runs for line in as_text(run))]))
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _overloads(where: Servers, asked: argparse.Namespace, drained: list[dict[str, Drained]]) -> list[dict[str, Any]]:
    capacity = asked.capacity
    if capacity is None:
        drain = statistics.median(found[EVALUATED.said].per_s for found in drained)
        most = RAMP_TO * drain
        _say(f"capacity beside clients: a load that grows to {most:,.0f}/s, {RAMP_TO} times what a drain gave")
        capacity = carried(where, asked.agents, most)
    return [_overloaded(where, asked, variant, capacity) for variant in VARIANTS]


def _overloaded(where: Servers, asked: argparse.Namespace, variant: Variant, capacity: float) -> dict[str, Any]:
    _say(f"overload, {variant.name}: {capacity:,.0f}/s is the capacity; three times of it for {asked.seconds:.0f} s")
    return collapse(where, asked.agents, variant, capacity, asked.seconds)


def _named(cpus: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cpus)))


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _round(where: Servers, agents: int, count: int, number: int) -> dict[str, Drained]:
    _say(f"late path, round {number}: {len(KINDS)} logs of {count:,} intents")
    return {kind.said: _drained(where, agents, count, kind) for kind in KINDS}


def _drained(where: Servers, agents: int, count: int, kind: Kind) -> Drained:
    with realm(where, agents, kind.rate, pushed=False) as made:
        return drain_by_workers(made, Log(agents, count, kind.deadline_ms))


def _ratios(drained: list[dict[str, Drained]]) -> dict[str, list[float | None]]:
    """How many refusals cost as much as a decision, by round: a bad minute hits both."""
    cheap = [kind.said for kind in KINDS if kind is not EVALUATED]
    return {said: [_times(found[EVALUATED.said].cpu_us, found[said].cpu_us) for found in drained] for said in cheap}


def _times(dear_us: float, cheap_us: float) -> float | None:
    """None: the drain was within one tick of the clock that counts CPU time."""
    return dear_us / cheap_us if cheap_us else None


def _late_path(found: dict[str, Any]) -> list[str]:
    lines = ["CPU of one worker for each verdict, draining a log filled before: median of the rounds (min to max)"]
    for said, rounds in found["late_path"].items():
        cpu, per_s = [one["cpu_us"] for one in rounds], statistics.median(one["per_s"] for one in rounds)
        spread = f"{statistics.median(cpu):6.1f} µs ({min(cpu):.1f} to {max(cpu):.1f})"
        times = _ratio_text(found["ratio"].get(said, []))
        lines.append(f"  {said:11} {spread}   {per_s:8,.0f}/s{times}{_others(said, rounds)}")
    return lines


def _ratio_text(ratios: Sequence[float | None]) -> str:
    """Empty of what is compared with nothing."""
    known = [times for times in ratios if times is not None]
    if known:
        return f"   a decision costs {statistics.median(known):.1f} times as much"
    return "   too few to measure: give --drain more" if ratios else ""


def _others(said: str, rounds: list[dict[str, Any]]) -> str:
    """Verdicts that were not what the log was filled for."""
    others = sum(count for one in rounds for word, count in one["decisions"].items() if word != said)
    return f"   ({others:,} others)" if others else ""


def _arguments() -> argparse.ArgumentParser:
    parser = command.parser(__doc__)
    parser.add_argument("--seconds", type=command.seconds, default=60.0, help="of overload; 0: only the late path")
    parser.add_argument("--rounds", type=command.count, default=3, help="drains of each kind")
    parser.add_argument("--drain", type=command.count, default=60_000, help="intents in each filled log")
    parser.add_argument("--capacity", type=command.amount, help="verdicts a second; else it is measured")
    parser.add_argument("--agents", type=command.count, default=1_000, help="that take turns")
    parser.add_argument("--json", type=command.output, help="also write everything to this file")
    return parser


if __name__ == "__main__":
    sys.exit(command.ended(main))
