"""Everything that is measured, in one run on one machine, beside the goals: a table, JSON and a plot.

    python benchmarks                                 half an hour to an hour; starts its own Kafka and Redis
    python benchmarks --quick                         minutes: small sizes, which say that it works, not how fast
    python benchmarks --only drain latency            parts of it, in the order given
    python benchmarks --only latency --rates 200,2000 --saturation 4000
    python benchmarks --json out.json --plot out.svg  also written: every round, and latency by rate

Parts: `drain` CPU of a verdict and where it goes, by one worker and by two; `latency` intent to verified verdict beside
a bare echo; `cost` a decision by rules, history and batch, in the core; `agents` the same by known and active agents,
and their memory; `start` a worker that knows a million agents; `takeover` a worker's start on what another one left:
CPU from store, snapshots and log in memory, and the time of a real one on Kafka and Redis, with and without the group.

HARNESS_BOOTSTRAP and HARNESS_REDIS_URL name a broker and a Redis that run, both or none. Realms are signed, with 100
rules of which 30 have windows. Linux only: CPU times are read from /proc. Run it alone on the machine: the head of the
output names that and the versions, and the figures belong to them; ratios travel further. Ctrl-C or SIGTERM ends it,
removes what it made and prints the parts that are done. The exit code is 0 if all was measured, goals met or not, 1 if
a part or a size FAILED. docs/benchmarks.md says how to read all this and how much memory it needs.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import agents
import command
import decision_cost
import latency
import machine
import plot
import start
import takeover
import throughput
from figures import Goal, goals_text
from realm import servers

from harness_stream.errors import HarnessError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from realm import Servers


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much each part does."""

    drain: throughput.Sizes = field(default_factory=throughput.Sizes)
    latency: latency.Sizes = field(default_factory=latency.Sizes)
    cost: decision_cost.Sizes = field(default_factory=decision_cost.Sizes)
    agents: agents.Sizes = field(default_factory=agents.Sizes)
    start: start.Sizes = field(default_factory=start.Sizes)
    takeover: takeover.Sizes = field(default_factory=takeover.Sizes)

    def changed(self, rounds: int | None, seconds: float | None, rates: tuple[float, ...] | None = None) -> Sizes:
        """With other rounds in every part, and other seconds and rates in latency."""
        made = self
        if rounds is not None:
            parts = {name: replace(getattr(self, name), rounds=rounds) for name in PARTS}
            made = replace(made, **parts)
        others: dict[str, Any] = {"seconds": seconds, "rates": rates}
        given = {name: value for name, value in others.items() if value is not None}
        return replace(made, latency=replace(made.latency, **given))


QUICK: Final = Sizes(
    throughput.Sizes(agents=200, drain=4_000, rounds=1),
    latency.Sizes(rates=(100, 1_000), seconds=3.0, rounds=2, agents=200),
    decision_cost.Sizes(
        rules=(10, 100), events=(10, 1_000), batches=(1, 256), rounds=3, decisions=100, events_with_rules=50
    ),
    agents.Sizes(known=(1_000, 10_000), active=(1_000, 5_000), rounds=2, decisions=500),
    start.Sizes(known=(1_000, 20_000), rounds=1),
    takeover.Sizes(records=2_000, rebuilt=2_000, agents=100, rounds=1),
)


@dataclass
class Run:
    """One run: how much of what, and what was found.

    Attributes:
        saturation: verdicts a second of one worker; None: what `drain` finds.
        quick: the sizes are too small to judge by.
        on: what it is measured on, as of its begin.
        found: part → what it measured.
        failed: part, or part and size → why it came to no end.
        ended: somebody ended it.
    """

    sizes: Sizes
    saturation: float | None = None
    quick: bool = False
    on: dict[str, str] = field(default_factory=machine.measured_on)
    found: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    began: float = field(default_factory=time.monotonic)
    open: ExitStack = field(default_factory=ExitStack)
    _where: Servers | None = None

    @property
    def where(self) -> Servers:
        """Broker and Redis, started when the first part needs them."""
        if self._where is None:
            self._where = self.open.enter_context(servers())
            self.on |= self._where.versions
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
    def keep(found: dict[str, Any]) -> None:
        run.found["latency"] = found

    return latency.measure(run.where, run.sizes.latency, _saturation(run, say), say, keep)


def _saturation(run: Run, say: Callable[[str], None]) -> float:
    """As it was given, as `drain` found it, or of one drain."""
    if run.saturation is not None:
        return run.saturation
    if "drain" in run.found:
        return throughput.saturation(run.found["drain"])
    say("how much one worker does; `--saturation` saves this")
    sizes = replace(run.sizes.drain, agents=run.sizes.latency.agents, rules=run.sizes.latency.rules)
    with throughput.signed_realm(run.where, sizes) as made:
        return throughput.drain_by_workers(made, throughput.Log(sizes.agents, sizes.drain)).per_s


PARTS: Final = {
    "drain": Part(_drain, throughput.text, throughput.goals),
    "latency": Part(_latency, latency.text, latency.goals),
    "cost": Part(lambda run, say: decision_cost.measure(run.sizes.cost, say), decision_cost.text, decision_cost.goals),
    "agents": Part(lambda run, say: agents.measure(run.sizes.agents, say), agents.text),
    "start": Part(lambda run, say: start.measure(run.where, run.sizes.start, say), start.text, start.goals),
    "takeover": Part(
        lambda run, say: takeover.measure(run.sizes.takeover, say, run.where), takeover.text, takeover.goals
    ),
}
"""In the order in which they run unless another is asked for: `latency` asks at half of what `drain` found."""


NEED_SERVERS: Final = frozenset({"drain", "latency", "start", "takeover"})


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for; the exit code."""
    asked = _asked(words)
    sizes = (QUICK if asked.quick else Sizes()).changed(asked.rounds, asked.seconds, asked.rates)
    run, code = Run(sizes, asked.saturation, asked.quick), 0
    print("\n".join(machine.lines(run.on)), file=sys.stderr)
    try:
        with run.open:
            if NEED_SERVERS & set(asked.only):
                run.where  # noqa: B018  who cannot be measured on is known before anything is
            for name in asked.only:
                _measure(run, name)
                _write(run, asked)
    except (KeyboardInterrupt, command.Terminated) as how:
        run.ended = True
        code = command.EXIT_INTERRUPTED if isinstance(how, KeyboardInterrupt) else command.EXIT_TERMINATED
        print("ended by Ctrl-C" if isinstance(how, KeyboardInterrupt) else "ended by SIGTERM", file=sys.stderr)
    _write(run, asked)
    print("\n".join(report(run)))
    if asked.plot is not None and "latency" in run.found:
        plot.draw(run.found["latency"], asked.plot, run.on)
    return code or (command.EXIT_FAILED if run.failed else 0)


def _measure(run: Run, name: str) -> None:
    """One part; what keeps it from its end is told, and the others go on."""
    say = run.say(name)
    say("begins")
    try:
        run.found[name] = PARTS[name].measure(run, say)
    except command.Terminated:
        raise
    except (SystemExit, HarnessError) as failed:
        run.failed[name] = str(failed)
    except Exception:  # noqa: BLE001  whatever it was, it belongs into the report, beside what the others found
        run.failed[name] = traceback.format_exc()
    if name in run.failed:
        say(f"FAILED: {run.failed[name]}")
    for size, why in run.found.get(name, {}).get("failed", {}).items():
        run.failed[f"{name}, {size}"] = why


def report(run: Run) -> list[str]:
    """The head, a table or more of each part, and the goals."""
    lines = [f"benchmarks: {', '.join(run.found) or 'nothing'} in {(time.monotonic() - run.began) / 60:.1f} minutes"]
    lines += machine.lines(run.on)
    if run.quick:
        lines.append("quick: small sizes and few rounds; no figure is worth quoting, and no goal is judged by it")
    if run.saturation is not None:
        lines.append(f"saturation: {run.saturation:,.0f}/s was given, not measured here; so is what half of it means")
    if run.ended:
        lines.append("ENDED before all was measured")
    for name, found in run.found.items():
        lines += ["", *PARTS[name].text(found)]
    lines += [f"FAILED: {name}: {why}" for name, why in run.failed.items()]
    return [*lines, "", *goals_text(_goals(run))]


def _goals(run: Run) -> list[Goal]:
    goals = [goal for name, found in run.found.items() for goal in PARTS[name].goals(found)]
    return [goal._replace(judged=not run.quick) for goal in goals]


def _write(run: Run, asked: argparse.Namespace) -> None:
    """After each part: a run that breaks off has written what it found."""
    if asked.json is None:
        return
    goals = [goal.to_json() for goal in _goals(run)]
    settings = {name: getattr(asked, name) for name in ("quick", "rounds", "seconds", "rates", "saturation", "only")}
    told = {"machine": run.on, "settings": settings, "goals": goals, "failed": run.failed, "ended": run.ended}
    asked.json.write_text(json.dumps(told | run.found, indent=1) + "\n", encoding="utf-8")


def _asked(words: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for, if all of it can be done."""
    parser = command.parser(__doc__, "python benchmarks")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help="these parts")
    parser.add_argument("--rounds", type=command.count, help="of every part; else each has its own, 7 of latency")
    parser.add_argument("--seconds", type=command.amount, help="of each round of latency; else 20")
    parser.add_argument("--rates", type=command.amounts, help="of latency, comma-separated; else 100,1000,5000")
    parser.add_argument("--saturation", type=command.amount, help="verdicts/s of one worker; else `drain` finds it")
    parser.add_argument("--json", type=command.output, help="also write every round to this file, after each part")
    parser.add_argument("--plot", type=plot.output, help="also draw latency: .svg, .png or .pdf; needs matplotlib")
    asked = parser.parse_args(words)
    if asked.plot is not None and "latency" not in asked.only:
        parser.error("`--plot` draws latency, which `--only` leaves out")
    return asked


if __name__ == "__main__":
    sys.exit(command.ended(main))
