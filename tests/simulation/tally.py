"""What really happened in many runs, so that a reader sees that the faults were there."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.faults import FAULTS
from tests.simulation.world import PARTITIONS, TOPICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.world import World


# In every record of the kind; what is counted so meets the faults, and is no fault itself.
ALSO = {
    "verdicts": lambda value: b'"kind":"verdict"' in value,
    "runs of denials": lambda value: b'"kind":"denials"' in value,
    "holds": lambda value: b'"decision":"hold"' in value,
    "answers of people": lambda value: b'"declassify":' in value,
    "new rules": lambda value: b'"kind":"switch"' in value and b'"revision":1' not in value,
}

# Issue 5: within so many seconds on two cores that have nothing else to do.
SEEDS_GOAL, SECONDS_GOAL = 5_000, 180

# Even seeds push no new rules.
ALWAYS = ("verdicts", "runs of denials", "holds", "answers of people")


class Tally:
    """Counts of many runs.

    Attributes:
        seeds: those that were run.
        happened: how often what happened.
        began_s: when the first one began, seconds since the epoch, as its process's neighbours have them.
        ended_s: when the last one had ended.
        processes: ids of those that ran them.
    """

    PROPERTY = "simulation"

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.happened = Counter[str]()
        self.began_s = self.ended_s = time.time()
        self.processes = {os.getpid()}

    def take(self, seed: int, world: World) -> None:
        """One more run."""
        self.seeds.append(seed)
        self.ended_s = time.time()
        self.happened.update(world.happened)
        records = [record.value or b"" for p in range(PARTITIONS) for record in world.everything(TOPICS.verdicts, p)]
        for name, has in ALSO.items():
            self.happened[name] += sum(map(has, records))

    def add(self, other: Tally) -> None:
        """All of another one's runs."""
        self.seeds += other.seeds
        self.happened.update(other.happened)
        self.began_s, self.ended_s = min(self.began_s, other.began_s), max(self.ended_s, other.ended_s)
        self.processes |= other.processes

    @property
    def missing(self) -> list[str]:
        """Kinds of faults that never happened, and of what is to meet them."""
        return [kind for kind in (*FAULTS, *ALWAYS) if not self.happened[kind]]

    def to_json(self) -> str:
        """For a report."""
        return json.dumps([self.seeds, self.happened, self.began_s, self.ended_s, [*self.processes]])

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """From a report."""
        tally = cls()
        tally.seeds, happened, tally.began_s, tally.ended_s, processes = json.loads(text)
        tally.happened, tally.processes = Counter(happened), set(processes)
        return tally

    def lines(self, failures: int) -> Sequence[str]:
        """For people; `failures`: tests that ended early, whose seeds are not in here."""
        faults = ", ".join(f"{kind} {self.happened[kind]}" for kind in FAULTS)
        others = ", ".join(f"{kind} {count}" for kind, count in sorted(self.happened.items()) if kind not in FAULTS)
        processes = f"{len(self.processes)} process{'es' if len(self.processes) > 1 else ''}"
        took = f"{len(self.seeds):,} seeds in {self.ended_s - self.began_s:.0f} s on {processes}"
        found = f"{failures} FAILED" if failures else "no failure"
        return (
            f"{took}: {found} (goal: {SEEDS_GOAL:,} in {SECONDS_GOAL} s on 2)",
            f"seeds: from {min(self.seeds)} to {max(self.seeds)}{self._holes()}",
            f"faults: {faults}",
            f"and: {others}",
        )

    def _holes(self) -> str:
        run = set(self.seeds)
        hole = next((seed for seed in range(min(run), max(run)) if seed not in run), None)
        return "" if hole is None else f" (all of them up to {hole - 1})"
