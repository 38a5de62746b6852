"""Everything that is measured, in one run on one machine, beside the goals: a table, JSON and a plot.

    python benchmarks                                 about half an hour; starts its own Kafka and Redis
    python benchmarks --quick                         three minutes: small sizes, which say that it works, not how fast
    python benchmarks --only drain latency            parts of it, in this order
    python benchmarks --json out.json --plot out.svg  also written: every round, and latency by rate

Parts: `drain` CPU of a verdict and where it goes, by one worker and by two; `latency` intent to verified verdict beside
a bare echo; `cost` a decision by rules, history and batch; `agents` the same by known and active agents, and their
memory; `start` a worker that knows a million agents; `takeover` a worker's start from store, snapshots and log.

HARNESS_BOOTSTRAP and HARNESS_REDIS_URL name a broker and a Redis that run. Linux only: CPU times are read from /proc.
Realms are signed, with 100 rules of which 30 have windows. Run it alone on the machine: the head of the output names
that and the versions, and the figures belong to them; ratios travel further. Ctrl-C ends it, removes what it made and
prints the parts that are done.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import agents
import decision_cost
import latency
import plot
import start
import takeover
import throughput
from figures import Goal, goals_text
from machine import machine
from realm import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from realm import Servers

EXIT_INTERRUPTED: Final = 130
EXIT_FAILED: Final = 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each part does."""

    drain: throughput.Sizes = field(default_factory=throughput.Sizes)
    latency: latency.Sizes = field(default_factory=latency.Sizes)
    cost: decision_cost.Sizes = field(default_factory=decision_cost.Sizes)
    agents: agents.Sizes = field(default_factory=agents.Sizes)
    start: start.Sizes = field(default_factory=start.Sizes)
    takeover: takeover.Sizes = field(default_factory=takeover.Sizes)

    def changed(self, rounds: int | None, seconds: float | None) -> Sizes:
        """With other rounds in every part, and other seconds in those of latency."""
        made = self
        if rounds is not None:
            parts = {name: replace(getattr(self, name), rounds=rounds) for name in PARTS}
            made = replace(made, **parts)
        if seconds is not None:
            made = replace(made, latency=replace(made.latency, seconds=seconds))
        return made


QUICK: Final = Sizes(
    throughput.Sizes(agents=200, drain=4_000, rounds=1),
    latency.Sizes(rates=(100, 1_000), seconds=3.0, rounds=2, agents=200),
    decision_cost.Sizes(
        rules=(10, 100), events=(10, 1_000), batches=(1, 256), rounds=3, decisions=100, events_with_rules=50
    ),
    agents.Sizes(known=(1_000, 10_000), active=(1_000, 5_000), rounds=2, decisions=500),
    start.Sizes(known=(1_000, 20_000), rounds=1),
    takeover.Sizes(records=2_000, agents=100, rounds=1),
)


@dataclass
class Run:
    """One run: how much of what, and what was found.

    Attributes:
        found: part → what it measured.
        failed: part → why it came to no end.
    """

    sizes: Sizes
    found: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    open: ExitStack = field(default_factory=ExitStack)
    _where: Servers | None = None

    @property
    def where(self) -> Servers:
        """Broker and Redis, started when the first part needs them."""
        if self._where is None:
            self._where = self.open.enter_context(servers())
        return self._where

    def say(self, part: str) -> Callable[[str], None]:
        """Progress on standard error."""

        def told(what: str) -> None:
            print(f"{time.monotonic() - self.began:6.0f} s  {part}: {what}", file=sys.stderr, flush=True)

        return told


class Part(NamedTuple):
    """One part: measures, and shows what it found."""

    measure: Callable[[Run, Callable[[str], None]], dict[str, Any]]
    text: Callable[[dict[str, Any]], list[str]]
    goals: Callable[[dict[str, Any]], list[Goal]] = lambda _: []


def _drain(run: Run, say: Callable[[str], None]) -> dict[str, Any]:
    return throughput.measure(run.where, run.sizes.drain, say)


def _latency(run: Run, say: Callable[[str], None]) -> dict[str, Any]:
    drained = run.found.get("drain")
    if drained is not None:
        size = drained["rounds"]["workers 1"][0]["value_bytes"]
        return latency.measure(run.where, run.sizes.latency, throughput.saturation(drained), size, say)
    say("how much one worker does")
    sizes = replace(run.sizes.drain, agents=run.sizes.latency.agents, rules=run.sizes.latency.rules)
    with throughput.signed_realm(run.where, sizes) as made:
        once = throughput.drain_by_workers(made, throughput.Log(sizes.agents, sizes.drain))
    return latency.measure(run.where, run.sizes.latency, once.per_s, once.value_bytes, say)


PARTS: Final = {
    "drain": Part(_drain, throughput.text, throughput.goals),
    "latency": Part(_latency, latency.text, latency.goals),
    "cost": Part(lambda run, say: decision_cost.measure(run.sizes.cost, say), decision_cost.text, decision_cost.goals),
    "agents": Part(lambda run, say: agents.measure(run.sizes.agents, say), agents.text),
    "start": Part(lambda run, say: start.measure(run.where, run.sizes.start, say), start.text, start.goals),
    "takeover": Part(lambda run, say: takeover.measure(run.sizes.takeover, say), takeover.text, takeover.goals),
}
"""In the order in which they run: `latency` asks at half of what `drain` found."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for; the exit code."""
    asked = _arguments().parse_args(words)
    plot.require(asked.plot)
    sizes = (QUICK if asked.quick else Sizes()).changed(asked.rounds, asked.seconds)
    run, where = Run(sizes), machine()
    interrupted = False
    try:
        with run.open:
            for name in asked.only:
                _measure(run, name)
                _write(run, where, asked)
    except KeyboardInterrupt:
        interrupted = True
        print("ended by Ctrl-C", file=sys.stderr)
    print("\n".join(report(run, where, quick=asked.quick)))
    if asked.plot is not None and "latency" in run.found:
        plot.draw(run.found["latency"], asked.plot)
    return EXIT_INTERRUPTED if interrupted else EXIT_FAILED if run.failed else 0


def _measure(run: Run, name: str) -> None:
    """One part; what keeps it from its end is told, and the others go on."""
    say = run.say(name)
    say("begins")
    try:
        run.found[name] = PARTS[name].measure(run, say)
    except SystemExit as failed:
        if isinstance(failed.code, int):
            raise  # somebody ends us
        run.failed[name] = str(failed.code)
    except Exception:  # noqa: BLE001  whatever it was, it belongs into the report, beside what the others found
        run.failed[name] = traceback.format_exc()
    if name in run.failed:
        say(f"FAILED: {run.failed[name]}")


def report(run: Run, where: dict[str, str], *, quick: bool) -> list[str]:
    """The head, a table or more of each part, and the goals."""
    lines = [f"benchmarks: {', '.join(run.found) or 'nothing'} in {(time.monotonic() - run.began) / 60:.1f} minutes"]
    lines += [f"on: {', '.join(f'{name} {value}' for name, value in where.items())}"]
    if quick:
        lines.append("quick: small sizes and few rounds; no figure of this is worth quoting")
    for name, found in run.found.items():
        lines += ["", *PARTS[name].text(found)]
    lines += [f"{name} FAILED: {why}" for name, why in run.failed.items()]
    return [*lines, "", *goals_text(_goals(run))]


def _goals(run: Run) -> list[Goal]:
    return [goal for name, found in run.found.items() for goal in PARTS[name].goals(found)]


def _write(run: Run, where: dict[str, str], asked: argparse.Namespace) -> None:
    """After each part: a run that breaks off has written what it found."""
    if asked.json is None:
        return
    goals = [goal.to_json() for goal in _goals(run)]
    settings = {"quick": asked.quick, "rounds": asked.rounds, "seconds": asked.seconds, "only": asked.only}
    told = {"machine": where, "settings": settings, "goals": goals, "failed": run.failed, **run.found}
    asked.json.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _arguments() -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python benchmarks", description=__doc__, formatter_class=plain)
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, help="of every part; default: each its own, 7 of latency")
    parser.add_argument("--seconds", type=float, help="of each round of latency; default 20")
    parser.add_argument("--json", type=Path, help="also write every round to this file, after each part")
    parser.add_argument("--plot", type=Path, help="also draw latency by rate: .svg, .png or .pdf; needs matplotlib")
    return parser


if __name__ == "__main__":
    sys.exit(main())
