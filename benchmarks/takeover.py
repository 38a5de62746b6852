"""How long a partition is without an owner: a worker's start, from each of the places it may start from.

    python benchmarks/takeover.py                     minutes; in memory, needs neither Kafka nor Redis
    python benchmarks --only takeover                 the same, and on Kafka and Redis (handover.py)
    python benchmarks/takeover.py --agents 50000      a partition that knows many agents, of which few act
    python benchmarks/takeover.py --records 2000 --rounds 1 --json out.json

A worker judges intents and goes away without a word; the next one starts on the same logs. Both are signed, with 100
rules of which 30 have windows. Measured in memory is the CPU time of its loop until it decides in every partition, with
the worker's collector settings, so that only our own work counts:

    nothing behind      tables and rules: the floor of the others, whose rates count what they take beyond it
    store, behind       from a store that stands so many records behind, with no checkpoint after it
    snapshots, behind   the same from snapshots
    rebuild             from snapshots and a log that was written at PACE records a second, so that checkpoints stand in
                        it as they do in life: what leads to the newest one by its hashes is believed (PROTOCOL §7), and
                        each batch of the last second is verified, as all are in the two before

A unit takes in what the log tells of it when somebody asks for it; "all taken in" is the time until every unit has, and
the store goes on: the worker answers meanwhile. The floor reads the rebuilt log in the same round: digest and JSON of
each record. A rate counts what was read, snapshots as well. On Kafka and Redis it is the time of day of a real worker
process. Numbers belong to the machine, ratios to the code.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

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
    from workload import Mix

    from harness_stream.adapters.memory.log import MemoryBroker
    from harness_stream.adapters.memory.state import Dump
    from harness_stream.ports import Clock
    from harness_stream.runtime.worker import Worker

# Longer than any run's virtual time: snapshots are written when a round asks for them, else never.
SELDOM_MS: Final = 86_400_000
OFTEN_MS: Final = 200
SNAPSHOT_TURNS: Final = 3_000
# What one worker judges a second or less: so old are the records behind the newest checkpoint, one a second.
PACE: Final = 2_000
PIECE: Final = 200
NOISE: Final = 0.2  # of a start with nothing behind: so much two of them may differ
NOTHING, FLOOR = "nothing behind", "floor of a rebuild"
FROM_STORE, FROM_SNAPSHOTS, REBUILD = "store, behind", "snapshots, behind", "rebuild"
ALL: Final = ": all taken in"


def measure(sizes: Sizes, say: Callable[[str], None], where: Servers | None = None) -> dict[str, Any]:
    """So many rounds, each on logs of its own; with servers, as many of real workers on them."""
    rounds = []
    for number in range(sizes.rounds):
        say(f"round {number + 1} of {sizes.rounds}: {sizes.records:,} records behind, {sizes.rebuilt:,} to rebuild")
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
    title = f"a worker's start, {PARTITIONS} partitions, {sizes['agents']:,} agents, {sizes['rules']} rules, signed"
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
    lines = [f"{title}, in memory: median of {sizes['rounds']} rounds (least to most)", *table(head, rows)]
    return lines + (handover.text(found["real"]) if "real" in found else [])


def goals(found: dict[str, Any]) -> list[Goal]:
    """What DESIGN §9 asks of a start; it does not say of which moment, so both ends of a rebuild are told."""
    rounds, sizes = found["rounds"], found["sizes"]
    why, asked = "not measured at that size", sizes["records"] == GOAL_RECORDS
    long = sizes["rebuilt"] >= Sizes().rebuilt
    seconds = Spread.of([max(one[FROM_STORE]["seconds"], one[FROM_SNAPSHOTS]["seconds"]) for one in rounds])
    ends = {"it decides": REBUILD, "all is taken in": REBUILD + ALL}
    rates = {until: Spread.of([one[row]["rate"] for one in rounds]) for until, row in ends.items()}
    name = f"takeover from checkpoint + {GOAL_RECORDS:,} records (CPU, in memory)"
    floor = {"at_least": True, "why_not": why}
    return [
        Goal.of(name, 2, seconds if asked else None, "s", why_not=why),
        *(
            Goal.of(f"rebuild per core, until {until}", 50_000, rate if long else None, "records/s", **floor)
            for until, rate in rates.items()
        ),
        *(handover.goals(found["real"]) if "real" in found else []),
    ]


class Read(NamedTuple):
    """So many records in so much CPU time, of which a start with nothing behind takes a part."""

    records: int
    seconds: float
    nothing_s: float = 0.0

    @property
    def rate(self) -> float | None:
        """Records per second of CPU time beyond a start with nothing behind; None where that is too little to tell."""
        beyond_s = self.seconds - self.nothing_s
        return self.records / beyond_s if self.records and beyond_s > NOISE * self.nothing_s else None

    def to_json(self) -> dict[str, float | None]:
        """With the rate."""
        return {**self._asdict(), "rate": self.rate}


@dataclass(frozen=True, slots=True)
class World:
    """A realm whose agents have all acted once, and are in the store and in snapshots.

    Attributes:
        agents: how many.
        mix: rules and actions.
        keys: whose.
        clock: virtual, of whoever writes the logs.
        broker: holds them.
        stored: the store, there and then.
    """

    agents: int
    mix: Mix
    keys: Signed
    clock: ManualClock
    broker: MemoryBroker
    stored: Dump

    @classmethod
    def of(cls, sizes: Sizes) -> Self:
        """Such a one."""
        clock, keys, mix = ManualClock(time.time_ns() // 1_000_000), Signed.of(sizes.agents), many_rules(sizes.rules)
        broker, store = broker_with(clock, sizes.agents, mix, keys), MemoryStateStore()
        first = worker(broker, clock, store, snapshot_ms=OFTEN_MS, keys=keys)
        turn_until(first, clock, lambda: first.readiness().ready)
        fill(broker, sizes.agents, sizes.agents, mix=mix, keys=keys)
        turn_until(first, clock, lambda: covered(first) >= sizes.agents)
        turns = iter(range(SNAPSHOT_TURNS))
        turn_until(first, clock, lambda: next(turns, None) is None)
        return cls(sizes.agents, mix, keys, clock, broker, store.snapshot())

    @property
    def snapshots(self) -> int:
        """How many there are to be read."""
        return sum(len(self.broker.read(TOPICS.chains, p, 0, STEPS_MAX)) for p in range(PARTITIONS))

    def judge(self, records: int, piece: int, pace: int | None = None) -> None:
        """A worker judges so many and goes away without a word.

        Args:
            records: how many.
            piece: how many wait at once.
            pace: a second of the virtual clock; None: as they come.
        """
        made = self.started(self.clock, self.stored, "b" * 32)
        turn_until(made, self.clock, lambda: made.readiness().ready)
        for done in range(0, records, piece):
            began_ms, count = self.clock.now_ms(), min(piece, records - done)
            fill(self.broker, self.agents, count, mix=self.mix, keys=self.keys, clock=self.clock)
            turn_until(made, self.clock, lambda until=done + count: covered(made) >= self.agents + until)
            if pace:
                self.clock.advance(max(0, began_ms + count * 1000 // pace - self.clock.now_ms()))

    def started(self, clock: Clock, stored: Dump, name: str) -> Worker:
        """A worker that finds this store."""
        store = MemoryStateStore()
        store.restore(stored)
        return worker(self.broker, clock, store, name, SELDOM_MS, keys=self.keys)


EMPTY: Final = MemoryStateStore().snapshot()


def _round(sizes: Sizes) -> dict[str, Read]:
    """Each start on a log of its own: a worker that starts writes a checkpoint."""
    worlds = {FROM_STORE: World.of(sizes), FROM_SNAPSHOTS: World.of(sizes), REBUILD: World.of(sizes)}
    nothing_s = _start(worlds[REBUILD], worlds[REBUILD].stored)[0]
    for name in (FROM_STORE, FROM_SNAPSHOTS):
        worlds[name].judge(sizes.records, sizes.records)
    worlds[REBUILD].judge(sizes.rebuilt, PIECE, PACE)
    found = {NOTHING: Read(0, nothing_s), FLOOR: _floor(worlds[REBUILD].broker)}
    for name, world in worlds.items():
        stored = world.stored if name == FROM_STORE else EMPTY
        read = sizes.rebuilt if name == REBUILD else sizes.records
        read += 0 if name == FROM_STORE else world.snapshots
        found |= _told(name, read, nothing_s, _start(world, stored))
    return found


def _told(name: str, read: int, nothing_s: float, took_s: tuple[float, float]) -> dict[str, Read]:
    ready_s, all_s = took_s
    return {name: Read(read, ready_s, nothing_s), name + ALL: Read(read, all_s, nothing_s)}


def _start(world: World, stored: Dump) -> tuple[float, float]:
    """CPU seconds until a worker decides, and until all is taken in.

    With the worker's own collector, whose first look is at all that the rounds before left in this process, and a real
    clock: what a turn may take is bounded by time.
    """
    clock = SystemClock()
    made = world.started(clock, stored, "c" * 32)
    collector, began = Collector(made.at_rest), time.process_time()
    turn_until(made, clock, lambda: made.readiness().ready, collector.step)
    ready = time.process_time()
    turn_until(made, clock, lambda: not any(o.state.deferred for o in made.owners.values()), collector.step)
    return ready - began, time.process_time() - began


def _floor(broker: MemoryBroker) -> Read:
    records = [r for p in range(PARTITIONS) for r in broker.read(TOPICS.verdicts, p, 0, STEPS_MAX)]
    began = time.process_time()
    for record in records:
        read_body(record.value)
    return Read(len(records), time.process_time() - began)


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    parser, usual = command.parser(__doc__), Sizes()
    parser.add_argument("--records", type=command.count, default=usual.records, help="that the next one has not seen")
    parser.add_argument("--rebuilt", type=command.count, default=usual.rebuilt, help="records of a log that is rebuilt")
    parser.add_argument("--agents", type=command.count, default=usual.agents, help="that are known and act")
    parser.add_argument("--rounds", type=command.count, default=usual.rounds, help="of everything")
    parser.add_argument("--rules", type=command.count, default=usual.rules, help="in force")
    parser.add_argument("--json", type=command.output, help="also write what was measured to this file")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(command.ended(main))
