"""Where a worker's time goes: its loop under cProfile, in one process, on the memory log and a virtual clock.

    python benchmarks/profile_worker.py --intents 5000 --top 25
    python benchmarks/profile_worker.py --refused late       of intents that come too late (rate: beyond their lane's)

Drains as many intents twice: first bare, for the CPU each costs; then under the profiler, which makes calls dearer,
small ones most, so read its list as shares. Kafka and Redis cost nothing here. Unsigned, with 30 rules of which 10
have windows.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from typing import TYPE_CHECKING

import command
import machine
from in_process import NO_BOUND, broker_with, covered, decisions, fill, turn_until, worker

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.core import limits
from harness_stream.core.rate import Rate

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from harness_stream.adapters.memory.log import MemoryBroker

LATE_MS = 100


def main(words: Sequence[str] | None = None) -> None:
    """Fill, start, drain under the profiler, print."""
    asked = _arguments().parse_args(words)
    print("\n".join(machine.lines(machine.measured_on())))
    clock = ManualClock(time.time_ns() // 1_000_000)
    broker = broker_with(clock, asked.agents)
    made = worker(broker, clock, MemoryStateStore(), lane_rate=Rate(1, 1) if asked.refused == "rate" else NO_BOUND)
    turn_until(made, clock, lambda: made.readiness().ready)
    _fill(broker, clock, asked)
    cpu = time.process_time()
    turn_until(made, clock, lambda: covered(made) >= asked.intents)
    cpu = time.process_time() - cpu
    _fill(broker, clock, asked)
    profiler = cProfile.Profile(time.process_time)  # CPU time: what else the machine does is not in it
    profiler.enable()
    turn_until(made, clock, lambda: covered(made) >= 2 * asked.intents)
    profiler.disable()
    print(f"2 x {asked.intents:,} intents: {dict(decisions(broker))}")
    print(f"without the profiler: {cpu / asked.intents * 1e6:.0f} µs of CPU each")
    pstats.Stats(profiler).sort_stats(asked.sort).print_stats(asked.top)


def _fill(broker: MemoryBroker, clock: ManualClock, asked: argparse.Namespace) -> None:
    late = asked.refused == "late"
    fill(broker, asked.agents, asked.intents, 1 if late else limits.DEADLINE_MS_MAX)
    clock.advance(LATE_MS if late else 0)


def _arguments() -> argparse.ArgumentParser:
    parser, by = command.parser(__doc__), sorted(pstats.Stats.sort_arg_dict_default)
    parser.add_argument("--intents", type=command.count, default=5_000, help="of each of the two drains")
    parser.add_argument("--agents", type=command.count, default=500, help="that take turns")
    parser.add_argument("--refused", choices=("late", "rate"), help="drain intents that are not even judged")
    parser.add_argument("--top", type=command.count, default=25, help="functions shown")
    parser.add_argument("--sort", default="tottime", choices=by, metavar="BY", help=", ".join(by))
    return parser


if __name__ == "__main__":
    sys.exit(command.ended(main))
