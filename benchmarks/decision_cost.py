"""What one decision costs in the core: by rules, by what an agent has already done, and by the size of a micro-batch.

    python benchmarks/decision_cost.py                     minutes; needs neither Kafka nor Redis
    python benchmarks --only cost                          the same as a part of the whole
    python benchmarks/decision_cost.py --rules 10,100 --events 10,1000 --rounds 5 --json out.json

A decision is what a worker does with one decoded intent: join, windows, rules, verdict, its bytes, digest and effects
(`runtime/batch.py`), alone in its micro-batch. Each is rolled back, so that every one meets the same history. By batch
it is decided together with others and signed, which a batch is once (`signing.py` has that alone). What is measured is
CPU time of this process; the floors are measured in the same round: decoding the same intents, and CEL
evaluating one trivial condition on the variables of each. The numbers belong to the machine and the minute, the ratios
to the code.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import command
import machine
import orjson
from cel_expr_python import cel
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from figures import Goal, Spread, ratios, spread_text, table
from mixed import ACTIONS, rules_yaml

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.signing.certificate import certify
from harness_stream.adapters.signing.decisions import SignedDecisions
from harness_stream.adapters.signing.framing import Bound
from harness_stream.adapters.signing.keys import public_of
from harness_stream.client.ids import Ids
from harness_stream.core.fold import genesis
from harness_stream.core.intake import Intake
from harness_stream.core.join import Table, empty_tables
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from harness_stream.core.state import State
from harness_stream.core.units import forgotten
from harness_stream.ports import LogRecord
from harness_stream.runtime.batch import Batch, Handling, Taken
from harness_stream.runtime.collector import tune_collector
from harness_stream.wire.codec import decode_input

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from harness_stream.core.fold import Header
    from harness_stream.ports import DecisionSigner

AGENT: Final = "agent-0"
TENANT: Final = "tenant-0"
WORKLOAD: Final = "wl-bench"
# 100,000 events in 20 hours: within most windows, and ids are forgotten as fast as they come.
GAP_MS: Final = 720
EVENTS_WITH_RULES: Final = 100
RULES_WITH_EVENTS: Final = 100
FORGET_EVERY: Final = 64  # a worker's mover forgets what no decision can see whenever it rewrites a unit
FRESH: Final = 2**52
WARM_UP_ROUNDS: Final = 2
PROGRESS_EVERY: Final = 10_000

FLOORS: Final = {"decode": "decode of one intent", "CEL": "one trivial CEL condition"}


# --- what is decided ---


def tables() -> dict[str, Table]:
    """One agent, its workload, and what its tools touch."""
    rows: dict[str, dict[str, Any]] = {
        "identity": {"agent_id": AGENT, "tenant": TENANT, "actions": list(ACTIONS), "workloads": [WORKLOAD]},
        "infrastructure": {"workload_id": WORKLOAD, "environment": "bench", "attested": True},
        "classification": {"subject": "resource:crm://*", "labels": ["pii"], "zone": "internal"},
    }
    keys = {"identity": AGENT, "infrastructure": WORKLOAD, "classification": "resource:crm://*"}
    made = empty_tables()
    for name, row in rows.items():
        made[name].put(keys[name], orjson.dumps(row), 0)
    for rows_of in made.values():
        rows_of.fresh_as_of = FRESH
    return made


def intent(number: int, intent_id: str, agent: str = AGENT) -> bytes:
    """The intent with that number."""
    body = {
        "v": 1,
        "type": "intent",
        "realm": "bench",
        "by": agent,
        "agent_id": agent,
        "intent_id": intent_id,
        "workload_id": WORKLOAD,
        "action": ACTIONS[number % len(ACTIONS)],
        "resources": [f"crm://customers/{number % 97}"],
        "arguments_digest": "0" * 64,
        "measures": {"rows": 10},
        "purpose": "the weekly report",
        "enforcer_nonce": "0" * 32,
    }
    return orjson.dumps(body)


@dataclass
class Scenario:
    """A partition whose one agent has done so much.

    Attributes:
        rules: how many.
        events: decisions behind the agent.
        header: the fold before the next one.
        waiting: decoded intents to be decided, each as the next one.
        costs_us: per round, CPU of one decision.
    """

    rules: int
    events: int
    intake: Intake
    header: Header
    clock: ManualClock
    waiting: list[Taken] = field(default_factory=list)
    decisions: Counter[str] = field(default_factory=Counter)
    costs_us: list[float] = field(default_factory=list)

    @classmethod
    def make(cls, rules: int, events: int, decisions: int) -> Scenario:
        """Decide the history, and prepare what will be measured."""
        windows, state, clock = Windows(load(rules_yaml(rules))), State(), ManualClock()
        in_force = (windows.digest, 1)
        header = genesis("bench", 0)._replace(epoch=1, writer="a" * 32, rules=in_force)
        made = cls(rules, events, Intake(None, 1, state, tables(), windows, in_force), header, clock)
        ids = Ids(clock)
        for number in range(events):
            made.happen(made.taken(number, ids))
            if number % PROGRESS_EVERY == 0 and number:
                print(f"history of {events:,} events: {number:,}", file=sys.stderr)
        made.waiting = [made.taken(events + number, ids) for number in range(decisions)]
        return made

    def decide_all(self) -> None:
        """Each waiting intent as the next one of the same history."""
        now_ms = self.clock.now_ms()
        for taken in self.waiting:
            self.intake.state.push()
            Batch(self.header, self.intake, now_ms).take(taken, Handling.EVALUATE)
            self.intake.state.pop()

    def batches(self, size: int) -> list[list[Taken]]:
        """The waiting intents in groups of so many, each group as the next one of the same history."""
        first = self.header.next_input
        numbered = [
            replace(taken, record=taken.record._replace(offset=first + number % size))
            for number, taken in enumerate(self.waiting)
        ]
        whole = len(numbered) // size * size
        return [numbered[at : at + size] for at in range(0, whole, size)]

    def decide_batches(self, batches: Sequence[Sequence[Taken]], signer: DecisionSigner) -> None:
        """Each group as one signed micro-batch."""
        now_ms = self.clock.now_ms()
        for batch in batches:
            self.intake.state.push()
            made = Batch(self.header, self.intake, now_ms)
            for taken in batch:
                made.take(taken, Handling.EVALUATE)
            signer.seal_batch(0, [linked.digest for linked in made.records])
            self.intake.state.pop()

    def said(self) -> Counter[str]:
        """How the waiting intents are decided."""
        answers = Counter[str]()
        for taken in self.waiting:
            self.intake.state.push()
            answers[self._decide(taken).records[0].body["decision"]] += 1
            self.intake.state.pop()
        return answers

    def _decide(self, taken: Taken) -> Batch:
        batch = Batch(self.header, self.intake, self.clock.now_ms())
        batch.take(taken, Handling.EVALUATE)
        return batch

    def happen(self, taken: Taken) -> None:
        """Decide an intent for good."""
        state = self.intake.state
        state.push()
        self.header = self._decide(taken).header
        state.confirm()
        self.clock.advance(GAP_MS)
        if self.header.next_input % FORGET_EVERY == 0:
            for unit in list(state.units()):
                state.forget(unit, forgotten(state.confirmed(unit), self.header.t))

    def taken(self, number: int, ids: Ids, agent: str = AGENT) -> Taken:
        """The intent with that number, as the next one."""
        value = intent(number, ids.new(), agent)
        record = LogRecord("intents", 0, self.header.next_input, None, value, self.clock.now_ms())
        return Taken(record, decode_input(value))


# --- floors ---


def decode_all(values: Sequence[bytes]) -> None:
    """The first thing that happens to any intent."""
    for value in values:
        decode_input(value)


def evaluate_all(expression: Any, environment: Any, variables: dict[str, Any], times: int) -> None:  # noqa: ANN401  the binding has no types
    """One condition on fresh variables, as every intent has its own."""
    for _ in range(times):
        expression.eval(environment.Activation(variables)).value()


def floors(scenario: Scenario) -> dict[str, Callable[[], None]]:
    """What every decision includes at the least, by name."""
    values = [taken.record.value or b"" for taken in scenario.waiting]
    environment = cel.NewEnv(variables={"intent": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)})
    expression = environment.compile(f'intent.action == "{ACTIONS[0]}"')
    variables = {"intent": {"action": ACTIONS[0], "agent_id": AGENT, "tenant": TENANT}}
    return {
        "decode": lambda: decode_all(values),
        "CEL": lambda: evaluate_all(expression, environment, variables, len(values)),
    }


# --- measuring ---


def cpu_us(work: Callable[[], None], times: int) -> float:
    """CPU microseconds of one of the `times` things that `work` does."""
    before = time.process_time_ns()
    work()
    return (time.process_time_ns() - before) / 1_000 / times


def rounds_of(
    scenarios: Sequence[Scenario], by_batch: Mapping[int, Callable[[], int]], rounds: int
) -> tuple[dict[str, list[float]], dict[int, list[float]], int]:
    """Interleaved rounds of everything: the floors' costs, the batches', and how often the garbage collector ran."""
    below = floors(scenarios[0])
    costs: dict[str, list[float]] = {name: [] for name in below}
    batches: dict[int, list[float]] = {size: [] for size in by_batch}
    tune_collector()
    collected = 0
    for number in range(-WARM_UP_ROUNDS, rounds):
        before = _collections()
        for name, work in below.items():
            costs[name].append(cpu_us(work, len(scenarios[0].waiting)))
        for scenario in scenarios[:: -1 if number % 2 else 1]:  # what the machine does meanwhile is nobody's share
            scenario.costs_us.append(cpu_us(scenario.decide_all, len(scenario.waiting)))
        for size, decide in by_batch.items():
            batches[size].append(_cpu_us_counted(decide))
        collected += _collections() - before if number >= 0 else 0
    for rows in (*costs.values(), *batches.values(), *(scenario.costs_us for scenario in scenarios)):
        del rows[:WARM_UP_ROUNDS]
    return costs, batches, collected


def _cpu_us_counted(work: Callable[[], int]) -> float:
    before = time.process_time_ns()
    count = work()
    return (time.process_time_ns() - before) / 1_000 / count


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def _by_batch(sizes: Sequence[int], asked: Sizes) -> dict[int, Callable[[], int]]:
    """Of each size as many decisions, at least one batch."""
    if not sizes:
        return {}
    scenario = _made(asked.rules_with_events, asked.events_with_rules, max(*sizes, asked.decisions))
    signer = realm_signer()
    return {size: partial(_decided, scenario, scenario.batches(size), signer) for size in sizes}


def _decided(scenario: Scenario, batches: Sequence[Sequence[Taken]], signer: DecisionSigner) -> int:
    scenario.decide_batches(batches, signer)
    return sum(map(len, batches))


def realm_signer() -> SignedDecisions:
    """A worker's, of a realm that ends with this process."""
    bound, worker = Bound("bench", "i1"), Ed25519PrivateKey.generate()
    return SignedDecisions(bound, worker, certify(Ed25519PrivateKey.generate(), bound, public_of(worker)))


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `measure` does.

    Attributes:
        rules: how many, while events stay.
        events: behind the agent, while rules stay.
        batches: decisions in a micro-batch.
        events_with_rules: while rules vary.
        rules_with_events: while events vary.
        rounds: interleaved, of everything.
        decisions: in each round, of each kind.
    """

    rules: tuple[int, ...] = (10, 100, 1_000)
    events: tuple[int, ...] = (10, 1_000, 100_000)
    batches: tuple[int, ...] = (1, 16, 64, 256)
    events_with_rules: int = EVENTS_WITH_RULES
    rules_with_events: int = RULES_WITH_EVENTS
    rounds: int = 15
    decisions: int = 200


def measure(asked: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """Build, and measure in alternating rounds."""
    by_rules = [_made(count, asked.events_with_rules, asked.decisions) for count in asked.rules]
    by_events = [_made(asked.rules_with_events, count, asked.decisions) for count in asked.events]
    by_batch = _by_batch(asked.batches, asked)
    for scenario in (*by_rules, *by_events):
        scenario.decisions = scenario.said()
    say(f"{asked.rounds} rounds of {asked.decisions} decisions each")
    costs, batches, collected = rounds_of([*by_rules, *by_events], by_batch, asked.rounds)
    return {
        "sizes": asdict(asked),
        "floors": costs,
        "by_rules": [_row(scenario) for scenario in by_rules],
        "by_events": [_row(scenario) for scenario in by_events],
        "by_batch": [{"batch": size, "us": rows} for size, rows in batches.items()],
        "garbage_collections": collected,
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    asked = vars(_arguments().parse_args(words))
    path, on = asked.pop("json"), machine.measured_on()
    found = measure(Sizes(**asked), lambda what: print(what, file=sys.stderr, flush=True))
    print("\n".join([*machine.lines(on), *text(found)]))
    if path:
        path.write_text(json.dumps({"machine": on, **found}, indent=1) + "\n", encoding="utf-8")


def _made(rules: int, events: int, decisions: int) -> Scenario:
    print(f"preparing {rules:,} rules, {events:,} past events", file=sys.stderr, flush=True)
    return Scenario.make(rules, events, decisions)


def _row(scenario: Scenario) -> dict[str, Any]:
    return {
        "rules": scenario.rules,
        "events": scenario.events,
        "decisions": dict(scenario.decisions),
        "us": scenario.costs_us,
    }


def text(found: dict[str, Any]) -> list[str]:
    """A table for rules, one for history, one for batches."""
    asked = found["sizes"]
    said = f"µs of CPU in the core, {asked['rules_with_events']} rules and {asked['events_with_rules']} events behind"
    lines = [f"{said} where it is not said: median of {asked['rounds']} rounds (least to most)"]
    rows = [[FLOORS[name], spread_text(Spread.of(row), 1), "", ""] for name, row in found["floors"].items()]
    rows += [_line(f"a decision at {row['rules']:,} rules", row, found, "by_rules") for row in found["by_rules"]]
    rows += [_line(f"a decision after {row['events']:,} events", row, found, "by_events") for row in found["by_events"]]
    rows += [_line(f"signed, in a batch of {row['batch']}", row, found, "by_batch") for row in found["by_batch"]]
    lines += table(["", "µs", "of decoding", "of the first"], rows)
    others = [f"  not approved: {row['decisions']}" for row in _rows(found) if set(row["decisions"]) != {"approve"}]
    runs = found["garbage_collections"]
    return [*lines, *others, f"  garbage collector: on, set as in a worker; {runs} runs"]


def _rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [*found["by_rules"], *found["by_events"]]


def _line(name: str, row: dict[str, Any], found: dict[str, Any], kind: str) -> list[str]:
    own, decode, first = row["us"], found["floors"]["decode"], found[kind][0]["us"]
    columns = ((own, 1), (ratios(own, decode), 1), (ratios(own, first), 2))
    return [name, *(spread_text(Spread.of(rows), digits) for rows, digits in columns)]


def ratio(found: dict[str, Any], kind: str, name: str, above: int, below: int) -> Spread | None:
    """The rounds' ratios of two sizes; None unless both were measured."""
    sizes = {row[name]: row["us"] for row in found[kind]}
    if above not in sizes or below not in sizes:
        return None
    return Spread.of(ratios(sizes[above], sizes[below]))


def goals(found: dict[str, Any]) -> list[Goal]:
    """What issue 7 asks of rules and of history."""
    why = "not measured at that size"
    return [
        Goal.of("cost with 1,000 rules, to 100", 2, ratio(found, "by_rules", "rules", 1_000, 100), "×", why_not=why),
        Goal.of(
            "cost after 100,000 events, to 10", 1.1, ratio(found, "by_events", "events", 100_000, 10), "×", why_not=why
        ),
    ]


def _arguments() -> argparse.ArgumentParser:
    parser, usual = command.parser(__doc__), Sizes()
    parser.add_argument("--rules", type=command.counts, default=usual.rules, help="how many, comma-separated")
    parser.add_argument("--events", type=command.counts, default=usual.events, help="behind the agent, same")
    parser.add_argument("--batches", type=command.counts, default=usual.batches, help="decisions in one, same")
    parser.add_argument("--events-with-rules", type=command.count, default=EVENTS_WITH_RULES, help="while rules vary")
    parser.add_argument("--rules-with-events", type=command.count, default=RULES_WITH_EVENTS, help="while events vary")
    parser.add_argument("--rounds", type=command.count, default=usual.rounds, help="interleaved, of everything")
    parser.add_argument("--decisions", type=command.count, default=usual.decisions, help="in each round, of each kind")
    parser.add_argument("--json", type=command.output, help="also write everything to this file")
    return parser


if __name__ == "__main__":
    sys.exit(command.ended(main))
