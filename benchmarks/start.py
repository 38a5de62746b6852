"""How long a worker's start takes that knows many agents, and how much memory each of them needs while it is idle.

    python benchmarks --only start      as part of the whole

Each known agent has an identity row with two public keys, written to the table's topic beforehand. Measured is a real
worker on a signed realm: from its start to its word `ready`, its CPU, and what it has resident then. The memory of one
agent is what the larger realm's worker has more than the smallest one's.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from agents import row_of
from figures import Goal, Spread, spread_text, table
from realm import cpu_s, peak_mib, realm, resident_bytes
from throughput import Filler
from workload import many_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from realm import BenchRealm, Servers

GOAL_AGENTS: Final = 1_000_000
AGENTS_LEAST: Final = 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `measure` does.

    Attributes:
        known: agents, the fewest first.
        rules: in force.
        rounds: starts of every size.
    """

    known: tuple[int, ...] = (1_000, GOAL_AGENTS)
    rules: int = 100
    rounds: int = 3


def measure(where: Servers, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """So many starts of every size, on one realm each."""
    rounds: dict[int, list[dict[str, float]]] = {known: [] for known in sizes.known}
    for known in sizes.known:
        say(f"{known:,} known agents: {sizes.rounds} starts")
        with realm(where, AGENTS_LEAST, mix=many_rules(sizes.rules), signed=True) as made:
            know(made, known)
            rounds[known] = [_start(made) for _ in range(sizes.rounds)]
    return {"sizes": asdict(sizes), "known": [{"agents": known, "rounds": found} for known, found in rounds.items()]}


def know(made: BenchRealm, count: int) -> None:
    """Write so many identity rows."""
    filler, topic = Filler(made), made.topics.table("identity")
    for number in range(count):
        agent = f"known-{number}"
        filler.append(topic, 0, agent.encode(), row_of(agent))
    filler.close()


def _start(made: BenchRealm) -> dict[str, float]:
    began = time.monotonic()
    with made.worker() as pid:
        ready_s = time.monotonic() - began
        return {"ready_s": ready_s, "cpu_s": cpu_s(pid), "bytes": resident_bytes(pid), "peak_mib": peak_mib(pid)}


def text(found: dict[str, Any]) -> list[str]:
    """A line a size."""
    sizes = found["sizes"]
    rows = [
        [
            f"{one['agents']:,}",
            spread_text(_spread(one, "ready_s")),
            spread_text(_spread(one, "cpu_s")),
            f"{_median(one, 'bytes') / 2**20:,.0f} MiB, peak {_median(one, 'peak_mib'):,.0f}",
            "-" if each is None else f"{each:,.0f}",
        ]
        for one, each in zip(found["known"], bytes_each(found), strict=True)
    ]
    title = f"a real worker's start, signed, by known agents: median of {sizes['rounds']} starts (least to most)"
    return [title, *table(["agents", "s until ready", "s of CPU", "resident", "bytes each"], rows)]


def bytes_each(found: dict[str, Any]) -> list[float | None]:
    """Of one idle agent at each size; None at the fewest."""
    first = found["known"][0]
    return [
        (_median(one, "bytes") - _median(first, "bytes")) / more if (more := one["agents"] - first["agents"]) else None
        for one in found["known"]
    ]


def _spread(one: dict[str, Any], name: str) -> Spread | None:
    return Spread.of([found[name] for found in one["rounds"]])


def _median(one: dict[str, Any], name: str) -> float:
    found = _spread(one, name)
    return 0.0 if found is None else found.median


def goals(found: dict[str, Any]) -> list[Goal]:
    """What issue 7 asks of a million known agents."""
    sizes = {one["agents"]: (one, each) for one, each in zip(found["known"], bytes_each(found), strict=True)}
    one, each = sizes.get(GOAL_AGENTS, (None, None))
    why = "not measured at that size"
    return [
        Goal.of(f"start with {GOAL_AGENTS:,} known agents", 30, one and _spread(one, "ready_s"), "s", why_not=why),
        Goal(f"memory of an idle agent, of {GOAL_AGENTS:,}", 1_024, each, "bytes", why_not=why),
    ]


if __name__ == "__main__":
    raise SystemExit(__doc__)
