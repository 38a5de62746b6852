"""How long a partition is without an owner: a worker's start, from each of the places it may start from.

    python benchmarks/takeover.py                     minutes; in memory, needs neither Kafka nor Redis
    python benchmarks --only takeover                 the same, and on Kafka and Redis (handover.py)
    python benchmarks/takeover.py --agents 50000      a partition that knows many agents, of which few act
    python benchmarks/takeover.py --records 2000 --rounds 1 --json out.json

A worker judges intents and goes away without a word; the next one starts on the same logs. Both are signed, with 100
rules of which 30 have windows: whoever starts verifies each batch that it reads. Measured in memory is the CPU time of
its loop until it decides in every partition, with the worker's collector settings, so that only our own work counts:
from a store that stands so many records behind, and from snapshots with as many records after them. A unit takes in
what the log tells of it when somebody asks for it; "all taken in" is the time until every unit has, and the store goes
on: the worker answers meanwhile. The floor reads the same records in the same round: digest and JSON of each. A rate
counts what was read, snapshots as well. On Kafka and Redis it is the time of day of a real worker process.
Numbers belong to the machine, ratios to the code.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import command
import handover
import machine
from figures import Goal, Spread, ratios, spread_text, table
from handover import GOAL_RECORDS, Sizes
from in_process import STEPS_MAX, TOPICS, Signed, broker_with, covered, fill, turn_until, worker
from realm import PARTITIONS
from workload import many_rules

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.state import MemoryStateStore
from harness_stream.runtime.collector import Collector
from harness_stream.wire.decisions import read_body

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from realm import Servers

    from harness_stream.adapters.memory.log import MemoryBroker
    from harness_stream.adapters.memory.state import Dump
    from harness_stream.ports import Clock
    from harness_stream.runtime.worker import Worker

# Longer than any run's virtual time: snapshots are written when a round asks for them, else never.
SELDOM_MS: Final = 86_400_000
OFTEN_MS: Final = 200
SNAPSHOT_TURNS: Final = 3_000
FLOOR, FROM_STORE, FROM_LOG = "floor", "store, behind", "snapshots, and the log"


def measure(sizes: Sizes, say: Callable[[str], None], where: Servers | None = None) -> dict[str, Any]:
    """So many rounds, each on logs of its own; with servers, as many of real workers on them."""
    rounds = []
    for number in range(sizes.rounds):
        say(f"round {number + 1} of {sizes.rounds}: {sizes.records:,} records")
        rounds.append({name: read.to_json() for name, read in _round(sizes).items()})
    found = {"sizes": asdict(sizes), "rounds": rounds}
    if where is not None:
        found["real"] = handover.measure(where, sizes, say)
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    asked = vars(_asked(words))
    path, on = asked.pop("json"), machine.measured_on()
    found = measure(Sizes(**asked), lambda what: print(what, file=sys.stderr, flush=True))
    print("\n".join([*machine.lines(on), *text(found)]))
    if path:
        path.write_text(json.dumps({"machine": on, **found}, indent=1) + "\n", "utf-8")


def text(found: dict[str, Any]) -> list[str]:
    """A line for each place to start from."""
    sizes, rounds = found["sizes"], found["rounds"]
    title = f"a worker's start {sizes['records']:,} records behind, {PARTITIONS} partitions, {sizes['agents']:,} agents"
    title += f", {sizes['rules']} rules, signed, in memory"
    floor = [one[FLOOR]["rate"] for one in rounds]
    rows = [
        [
            name,
            f"{rounds[0][name]['records']:,}",
            spread_text(Spread.of([one[name]["seconds"] for one in rounds])),
            spread_text(Spread.of([one[name]["rate"] for one in rounds]), 0),
            spread_text(Spread.of(ratios([one[name]["rate"] for one in rounds], floor))),
        ]
        for name in rounds[0]
    ]
    head = ["", "records", "s of CPU", "a second of CPU", "of the floor's rate"]
    lines = [f"{title}: median of {sizes['rounds']} rounds (least to most)", *table(head, rows)]
    return lines + (handover.text(found["real"]) if "real" in found else [])


def goals(found: dict[str, Any]) -> list[Goal]:
    """What DESIGN §9 asks of a start; it does not say of which moment, so both ends of a rebuild are told."""
    rounds, ends = found["rounds"], {"it decides": FROM_LOG, "all is taken in": f"{FROM_LOG}: all taken in"}
    why, asked = "not measured at that size", found["sizes"]["records"] == GOAL_RECORDS
    seconds = Spread.of([max(one[FROM_STORE]["seconds"], one[FROM_LOG]["seconds"]) for one in rounds])
    rates = {until: Spread.of([one[row]["rate"] for one in rounds]) for until, row in ends.items()}
    floor = {"at_least": True, "why_not": why}
    name = f"takeover from checkpoint + {GOAL_RECORDS:,} records (CPU, in memory)"
    return [
        Goal.of(name, 2, seconds if asked else None, "s", why_not=why),
        *(
            Goal.of(f"rebuild per core, until {until}", 50_000, rate if asked else None, "records/s", **floor)
            for until, rate in rates.items()
        ),
        *(handover.goals(found["real"]) if "real" in found else []),
    ]


class Read(NamedTuple):
    """So many records in so much CPU time."""

    records: int
    seconds: float

    @property
    def rate(self) -> float:
        """Records per second of CPU time."""
        return self.records / self.seconds

    def to_json(self) -> dict[str, float]:
        """With the rate."""
        return {**self._asdict(), "rate": self.rate}


def _round(sizes: Sizes) -> dict[str, Read]:
    agents, records = sizes.agents, sizes.records
    clock, keys, mix = ManualClock(time.time_ns() // 1_000_000), Signed.of(agents), many_rules(sizes.rules)
    broker, store = broker_with(clock, agents, mix, keys), MemoryStateStore()
    first = worker(broker, clock, store, snapshot_ms=OFTEN_MS, keys=keys)
    turn_until(first, clock, lambda: first.readiness().ready)
    fill(broker, agents, agents, mix=mix, keys=keys)  # each agent is known
    turn_until(first, clock, lambda: covered(first) >= agents)
    turns = iter(range(SNAPSHOT_TURNS))
    turn_until(first, clock, lambda: next(turns, None) is None)
    behind = store.snapshot()
    second = _made(broker, clock, behind, keys, "b" * 32)
    turn_until(second, clock, lambda: second.readiness().ready)
    fill(broker, agents, records, mix=mix, keys=keys)
    turn_until(second, clock, lambda: covered(second) >= agents + records)
    snapshots = sum(len(broker.read(TOPICS.chains, p, 0, STEPS_MAX)) for p in range(PARTITIONS))
    empty = MemoryStateStore().snapshot()
    real = SystemClock()  # what a turn may take is bounded by time
    return {
        FLOOR: _floor(broker),
        **_start(FROM_STORE, _made(broker, real, behind, keys, "c" * 32), records),
        **_start(FROM_LOG, _made(broker, real, empty, keys, "d" * 32), snapshots + records),
    }


def _made(broker: MemoryBroker, clock: Clock, stored: Dump, keys: Signed, name: str) -> Worker:
    store = MemoryStateStore()
    store.restore(stored)
    return worker(broker, clock, store, name, SELDOM_MS, keys=keys)


def _start(name: str, made: Worker, read: int) -> dict[str, Read]:
    """With the worker's own collector, whose first look is at all that the rounds before left in this process."""
    clock, collector = SystemClock(), Collector(made.at_rest)
    began = time.process_time()
    turn_until(made, clock, lambda: made.readiness().ready, collector.step)
    ready = time.process_time()
    turn_until(made, clock, lambda: not any(o.state.deferred for o in made.owners.values()), collector.step)
    return {name: Read(read, ready - began), f"{name}: all taken in": Read(read, time.process_time() - began)}


def _floor(broker: MemoryBroker) -> Read:
    records = [r for p in range(PARTITIONS) for r in broker.read(TOPICS.verdicts, p, 0, STEPS_MAX)]
    began = time.process_time()
    for record in records:
        read_body(record.value)
    return Read(len(records), time.process_time() - began)


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser, usual = command.parser(__doc__), Sizes()
    parser.add_argument("--records", type=command.count, default=usual.records, help="that the next one has not seen")
    parser.add_argument("--agents", type=command.count, default=usual.agents, help="that are known and act")
    parser.add_argument("--rounds", type=command.count, default=usual.rounds, help="of everything")
    parser.add_argument("--rules", type=command.count, default=usual.rules, help="in force")
    parser.add_argument("--json", type=command.output, help="also write what was measured to this file")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(command.ended(main))
