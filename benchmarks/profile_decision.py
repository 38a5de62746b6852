"""Where a decision's time goes, at two sizes side by side: µs by stage, and calls by function.

    python benchmarks/profile_decision.py                            100 beside 1,000 rules, 10 beside 100,000 events
    python benchmarks/profile_decision.py --rules 10,100 --events 10,1000 --seconds 5

Times are looked at from inside (`stages.py`), the two sizes in turns, so that no call is made dearer than another; they
belong to the machine and the minute. Calls are counted apart from that and are the same everywhere. What grows in µs
and not in calls is copied, or is not in a cache.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

import command
import machine
from decision_cost import EVENTS_WITH_RULES, RULES_WITH_EVENTS, Scenario
from figures import table
from stages import LIBRARY, ORDER, PACKAGE, Stages

from harness_stream.runtime.collector import tune_collector

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

DECISIONS: Final = 200
WARM_UP: Final = 5
TURNS: Final = 10
CALLS_SHOWN: Final = 30


def main(words: Sequence[str] | None = None) -> None:
    """Two sizes of each kind."""
    asked = _arguments().parse_args(words)
    print("\n".join(machine.lines(machine.measured_on())))
    tune_collector()
    for name, pair in (("rules", asked.rules), ("events", asked.events)):
        sizes = [(n, EVENTS_WITH_RULES) if name == "rules" else (RULES_WITH_EVENTS, n) for n in pair]
        both = [Scenario.make(rules, events, DECISIONS) for rules, events in sizes]
        heads = [f"{n:,} {name}" for n in pair]
        print("\n".join(_table("µs of a decision", heads, _by_stage(both, asked.seconds), (*ORDER, "together"))))
        print("\n".join(["", *_table("calls of a decision", heads, [_calls(one) for one in both]), ""]))


def _by_stage(both: Sequence[Scenario], seconds: float) -> list[Mapping[str, float]]:
    """µs of one decision by stage."""
    shares, costs = [Counter[str]() for _ in both], [list[float]() for _ in both]
    for turn in range(-WARM_UP, TURNS):
        for number in range(len(both))[:: -1 if turn % 2 else 1]:
            with Stages() as looked:
                until = time.process_time() + seconds / TURNS
                while (before := time.process_time()) < until:
                    both[number].decide_all()
                    costs[number].append((time.process_time() - before) / DECISIONS * 1e6)
            if turn >= 0:
                shares[number].update({k: v for k, v in looked.to_json()["seconds"].items() if k != LIBRARY})
    means = [sum(row) / len(row) for row in costs]
    split = zip(shares, means, strict=True)
    return [{**{k: v / of.total() * us for k, v in of.items()}, "together": us} for of, us in split]


def _calls(scenario: Scenario) -> Mapping[str, float]:
    """Calls of one decision by function, those of C among them."""
    with cProfile.Profile() as profile:
        scenario.decide_all()
    counted = Counter[str]()
    for (file, _, name), (_, calls, *_) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        counted[f"{file.removeprefix(f'{PACKAGE}/')}:{name}" if file.startswith(f"{PACKAGE}/") else name] += calls
    return {name: calls / DECISIONS for name, calls in counted.items()} | {"together": counted.total() / DECISIONS}


def _table(
    what: str, heads: Sequence[str], both: Sequence[Mapping[str, float]], names: Sequence[str] | None = None
) -> list[str]:
    """Both sizes and how much more the larger one has; without names those that grow most."""
    less, more = both
    grown = {name: more.get(name, 0) - less.get(name, 0) for name in less.keys() | more.keys()}
    shown = names or sorted(grown, key=lambda name: (-grown[name], name))[:CALLS_SHOWN]
    rows = [
        [n, f"{less.get(n, 0):.1f}", f"{more.get(n, 0):.1f}", f"{grown[n]:+.1f}"] for n in shown if n in grown
    ]
    return table([what, *heads, "more"], rows)


def _arguments() -> argparse.ArgumentParser:
    parser = command.parser(__doc__)
    parser.add_argument("--rules", type=command.pair, default=(100, 1_000), help="two sizes, comma-separated")
    parser.add_argument("--events", type=command.pair, default=(10, 100_000), help="behind the agent, same")
    parser.add_argument("--seconds", type=command.amount, default=10.0, help="of looking at each size")
    return parser


if __name__ == "__main__":
    sys.exit(command.ended(main))
