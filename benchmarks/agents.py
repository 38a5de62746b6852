"""What agents cost that are known, and such that act: CPU of one decision in the core, and memory of each.

    python benchmarks --only agents     as part of the whole; needs neither Kafka nor Redis

`known` agents have an identity row with two keys and nothing else; an intent's is parsed when its agent first acts.
`active` ones have 1 to 32 events behind them, evenly, in memory as a worker keeps those that act. Deciders are drawn at
random, so that neither caches nor parsed rows help, and decisions are rolled back (decision_cost.py). Each size is a
process of its own: memory is what it has resident more than before, and belongs to that size alone. The most active
agents need the most memory (docs/benchmarks.md); a size that does not fit, or fails otherwise, is told as FAILED.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from decision_cost import AGENT, FRESH, TENANT, WORKLOAD, Scenario
from figures import NOTHING, Spread, ratios, spread_text, table
from mixed import ACTIONS
from realm import available_bytes, public_key, resident_bytes

from harness_stream.client.ids import Ids
from harness_stream.core.names import agent_unit
from harness_stream.core.units import decode_unit, encode_unit
from harness_stream.runtime.collector import tune_collector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness_stream.runtime.batch import Taken

EVENTS_MAX: Final = 32
SEED: Final = 7
SIZE_S_MAX: Final = 900.0
KEY_BYTES: Final = 32
LOOK_EVERY: Final = 1_000
# So much is left to the rest of the machine.
KEPT_FREE_BYTES: Final = 2**30


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `measure` does.

    Attributes:
        known: agents with a row, none of whom has acted.
        active: agents with events behind them; as many are known.
        rules: in force.
        rounds: at each size.
        decisions: in each round.
    """

    known: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    active: tuple[int, ...] = (1_000, 100_000)
    rules: int = 100
    rounds: int = 7
    decisions: int = 2_000


def row_of(agent: str) -> bytes:
    """An identity row as an enrolment makes it; nobody has its keys."""
    keys = [public_key(alg, os.urandom(KEY_BYTES)) for alg in ("x25519", "ed25519")]
    row = {"agent_id": agent, "tenant": TENANT, "actions": ACTIONS, "workloads": [WORKLOAD], "keys": keys}
    return bytes(memoryview(orjson.dumps(row)))  # as long as it is: orjson's own bytes occupy 4 KiB


def measure(sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """One process a size, one after the other."""
    found: dict[str, Any] = {"sizes": asdict(sizes), "known": [], "active": [], "failed": {}}
    for kind, counts in (("known", sizes.known), ("active", sizes.active)):
        for count in counts:
            say(f"{count:,} {kind} agents")
            words = [kind, *map(str, (count, sizes.rules, sizes.rounds, sizes.decisions))]
            told, why = _in_own_process([sys.executable, str(Path(__file__)), *words])
            if told is None:
                say(f"{count:,} {kind} agents FAILED: {why}")
                found["failed"][f"{count:,} {kind}"] = why
            else:
                found[kind].append(told)
    return found


def _in_own_process(command: Sequence[str]) -> tuple[dict[str, Any] | None, str]:
    """What one size came to, or why to nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SIZE_S_MAX)
    except subprocess.TimeoutExpired:
        return None, f"it took more than {SIZE_S_MAX:,.0f} s"
    if done.returncode == 0:
        return json.loads(done.stdout), ""
    if done.returncode < 0:
        return None, f"it was ended by signal {-done.returncode}; is there too little memory?"
    return None, (done.stderr.strip().splitlines() or ["it did not say why"])[-1]


def text(found: dict[str, Any]) -> list[str]:
    """A line a size."""
    sizes = found["sizes"]
    title = f"by agents, µs of CPU of one decision in the core, {sizes['rules']} rules, agents drawn at random"
    rows = [
        [
            f"{row['agents']:,} {kind}",
            spread_text(Spread.of(row["us"]), 1),
            spread_text(Spread.of(ratios(row["us"], found[kind][0]["us"]))),
            f"{row['bytes_each']:,.0f}",
        ]
        for kind in ("known", "active")
        for row in found[kind]
    ]
    rows += [[f"{size}: FAILED", NOTHING, NOTHING, NOTHING] for size in found["failed"]]
    lines = [f"{title}: median of {sizes['rounds']} rounds (least to most)"]
    lines += table(["agents", "µs", "of the fewest", "bytes each"], rows)
    return [*lines, f"  active: 1 to {EVENTS_MAX} events each; bytes beyond those of the row"]


# --- one size, in a process of its own ---


def one(kind: str, count: int, rules: int, rounds: int, decisions: int) -> dict[str, Any]:
    """Bytes each, and the cost of a decision per round."""
    scenario, draw = Scenario.make(rules, 0, 0), random.Random(SEED)  # noqa: S311  the same draw in every run
    bases = _bases(scenario) if kind == "active" else []
    if kind == "known":
        tune_collector()
        grown = _grown(lambda: _know(scenario, count))
    else:
        _know(scenario, count)
        tune_collector()
        grown = _grown(lambda: _act(scenario, count, bases))
    tune_collector()
    ids = Ids(scenario.clock)
    us = []
    for _ in range(rounds):
        scenario.waiting = [_next(scenario, n, ids, draw.randrange(count)) for n in range(decisions)]
        before = time.process_time_ns()
        scenario.decide_all()
        us.append((time.process_time_ns() - before) / 1_000 / decisions)
    return {"agents": count, "bytes_each": grown / count, "us": us, "decisions": dict(scenario.said())}


def _grown(make: Callable[[], None]) -> int:
    before = resident_bytes()
    make()
    return resident_bytes() - before


def _name(number: int) -> str:
    return f"{AGENT}{number:07}"


def _know(scenario: Scenario, count: int) -> None:
    identity = scenario.intake.tables["identity"]
    for number in range(count):
        identity.put(_name(number), row_of(_name(number)), number)
    identity.fresh_as_of = FRESH


def _bases(scenario: Scenario) -> list[bytes]:
    """One agent's unit after each of its events, as it is stored."""
    ids, found = Ids(scenario.clock), []
    for number in range(EVENTS_MAX):
        scenario.happen(scenario.taken(number, ids))
        unit = scenario.intake.state.confirmed(agent_unit(AGENT))
        found.append(encode_unit(unit, scenario.header.next_input, scenario.header.t))
    return found


def _act(scenario: Scenario, count: int, bases: list[bytes]) -> None:
    """Bring each agent's unit into memory as a worker does that needs it."""
    for number in range(count):
        name = _name(number)
        base = bases[number % len(bases)].replace(AGENT.encode(), name.encode())
        scenario.intake.state.install(agent_unit(name), decode_unit(base)[0], len(base))
        if number % LOOK_EVERY == 0 and available_bytes() < KEPT_FREE_BYTES:
            raise SystemExit(f"memory of this machine ends at {number:,} active agents")


def _next(scenario: Scenario, number: int, ids: Ids, agent: int) -> Taken:
    return scenario.taken(number, ids, _name(agent))


if __name__ == "__main__":
    if len(sys.argv) != 6:
        raise SystemExit(__doc__)
    kind_asked, *numbers = sys.argv[1:]
    print(json.dumps(one(kind_asked, *map(int, numbers))))
