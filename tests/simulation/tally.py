"""What really happened in many runs, so that a reader sees that the faults were there."""

from __future__ import annotations

import json
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
    "holds": lambda value: b'"decision":"hold"' in value,
    "answers of people": lambda value: b'"declassify":' in value,
    "new rules": lambda value: b'"kind":"switch"' in value and b'"revision":1' not in value,
}

# Even seeds push no new rules.
ALWAYS = ("verdicts", "holds", "answers of people")


class Tally:
    """Counts of many runs.

    Attributes:
        seeds: those that were run.
        happened: how often what happened.
    """

    PROPERTY = "simulation"

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.happened = Counter[str]()
        self.seconds = 0.0

    def take(self, seed: int, world: World) -> None:
        """One more run."""
        self.seeds.append(seed)
        self.happened.update(world.happened)
        records = [record.value or b"" for p in range(PARTITIONS) for record in world.everything(TOPICS.verdicts, p)]
        for name, has in ALSO.items():
            self.happened[name] += sum(map(has, records))

    def add(self, other: Tally) -> None:
        """All of another one's runs."""
        self.seeds += other.seeds
        self.happened.update(other.happened)
        self.seconds += other.seconds

    @property
    def missing(self) -> list[str]:
        """Kinds of faults that never happened, and of what is to meet them."""
        return [kind for kind in (*FAULTS, *ALWAYS) if not self.happened[kind]]

    def to_json(self) -> str:
        """For a report."""
        return json.dumps([self.seeds, self.happened, self.seconds])

    @classmethod
    def from_json(cls, text: str) -> Tally:
        """From a report."""
        tally = cls()
        tally.seeds, happened, tally.seconds = json.loads(text)
        tally.happened = Counter(happened)
        return tally

    def lines(self) -> Sequence[str]:
        """For people."""
        faults = ", ".join(f"{kind} {self.happened[kind]}" for kind in FAULTS)
        others = ", ".join(f"{kind} {count}" for kind, count in sorted(self.happened.items()) if kind not in FAULTS)
        rate = f"{len(self.seeds) / self.seconds:.1f} a second of one process" if self.seconds else "rate unknown"
        rate += f" ({self.seconds / 2:.0f} s on two)"
        return (
            f"seeds: {len(self.seeds)} from {min(self.seeds)} to {max(self.seeds)}{self._holes()}, {rate}",
            f"faults: {faults}",
            f"and: {others}",
        )

    def _holes(self) -> str:
        run = set(self.seeds)
        hole = next((seed for seed in range(min(run), max(run)) if seed not in run), None)
        return "" if hole is None else f" (all of them up to {hole - 1})"
