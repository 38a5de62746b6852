"""What one decision costs in the core, by how many rules there are and by how much an agent has already done.

    python benchmarks/decision_cost.py                     about three minutes; needs neither Kafka nor Redis
    python benchmarks/decision_cost.py --rules 10,100 --events 10,1000 --rounds 5 --json out.json

A decision is what a worker does with one decoded intent: join, windows, rules, verdict, its bytes, digest and effects
(`runtime/batch.py`), alone in its micro-batch. Each is rolled back, so that every one meets the same history. What is
measured is CPU time of this process; the floors are measured in the same round: decoding the same intents, and CEL
evaluating one trivial condition on the variables of each. The numbers belong to the machine and the minute, the ratios
to the code.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson
from cel_expr_python import cel

from harness_stream.adapters.memory.clock import ManualClock
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
from harness_stream.wire.codec import decode_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from harness_stream.core.fold import Header

AGENT: Final = "agent-0"
TENANT: Final = "tenant-0"
WORKLOAD: Final = "wl-bench"
# What an agent's tools are: a rule set grows by rules about the same actions, so that each intent meets more of them.
ACTIONS: Final = tuple(f"tool-{number}.run" for number in range(20))
STATEFUL_OF_TEN: Final = 3
KINDS: Final = ("event_count", "value_count", "value_sum", "temporal", "temporal_ordered", "absent")
GROUPS: Final = ("agent_id", "chain_id", "tenant", "agent_id, action")
HOURS_MAX: Final = 23
# So high that honest work meets no limit: what is measured is judging, not refusing.
NEVER: Final = 1_000_000_000
# 100,000 events in 20 hours: within most windows, and ids are forgotten as fast as they come.
GAP_MS: Final = 720
EVENTS_WITH_RULES: Final = 100
RULES_WITH_EVENTS: Final = 100
FORGET_EVERY: Final = 64  # a worker's mover forgets what no decision can see whenever it rewrites a unit
FRESH: Final = 2**52
WARM_UP_ROUNDS: Final = 2
PROGRESS_EVERY: Final = 10_000

FLOORS: Final = {"decode": "decode of one intent", "CEL": "one trivial CEL condition"}

Spread = dict[str, float]


# --- what is decided ---


def rules_yaml(count: int) -> str:
    """So many rules, three of ten with windows of every type; one approves, the others are asked and do not fire."""
    lines = ["rule_set: production", "default: deny", f"params: {{never: {NEVER}}}", "selections:"]
    lines += [f'  does_{number}: event.action == "{action}"' for number, action in enumerate(ACTIONS)]
    lines += ['  never_done: event.action == "never.done"', "rules:"]
    lines += ["  - {id: allowed, effect: approve, when: intent.action in identity.actions}"]
    windows = itertools.count()
    for number in range(1, count):
        stateful = number % 10 < STATEFUL_OF_TEN
        lines += _window_rule(next(windows)) if stateful else _plain_rule(number)
    return "\n".join(lines) + "\n"


def _plain_rule(number: int) -> list[str]:
    condition = f'intent.resource.zone == "external" && "secret-{number}" in intent.resource.labels'
    effect = "deny" if number % 2 else "hold"
    return [
        f"  - id: plain-{number}",
        f"    effect: {effect}",
        f"    when: does_{number % len(ACTIONS)} && {condition}",
    ]


def _window_rule(number: int) -> list[str]:
    """One window that no other rule has."""
    kind, does = KINDS[number % len(KINDS)], f"does_{number % len(ACTIONS)}"
    group, hours = GROUPS[number % len(GROUPS)], number % HOURS_MAX + 1
    fields = {"value_count": "field: resource.uri, ", "value_sum": "field: measures.rows, "}
    names = f"{does}, never_done" if kind.startswith("temporal") else does
    counting = kind in {"event_count", "value_count", "value_sum"}
    condition = f", condition: {{{fields.get(kind, '')}gt: params.never}}" if counting else ""
    window = f"type: {kind}, rules: [{names}], group-by: [{group}], timespan: {hours}h{condition}"
    return [f"  - {{id: window-{number}, effect: deny, when: {does}, correlation: {{{window}}}}}"]


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
    for table in made.values():
        table.fresh_as_of = FRESH
    return made


def intent(number: int, intent_id: str) -> bytes:
    """The intent with that number."""
    body = {
        "v": 1,
        "type": "intent",
        "realm": "bench",
        "by": AGENT,
        "agent_id": AGENT,
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
            made._happen(made._taken(number, ids))
            if number % PROGRESS_EVERY == 0 and number:
                print(f"history of {events:,} events: {number:,}", file=sys.stderr)
        made.waiting = [made._taken(events + number, ids) for number in range(decisions)]
        return made

    def decide_all(self) -> None:
        """Each waiting intent as the next one of the same history."""
        now_ms = self.clock.now_ms()
        for taken in self.waiting:
            self.intake.state.push()
            Batch(self.header, self.intake, now_ms).take(taken, Handling.EVALUATE)
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

    def _happen(self, taken: Taken) -> None:
        state = self.intake.state
        state.push()
        self.header = self._decide(taken).header
        state.confirm()
        self.clock.advance(GAP_MS)
        if self.header.next_input % FORGET_EVERY == 0:
            for unit in list(state.units()):
                state.forget(unit, forgotten(state.confirmed(unit), self.header.t))

    def _taken(self, number: int, ids: Ids) -> Taken:
        value = intent(number, ids.new())
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


def measure(scenarios: Sequence[Scenario], rounds: int) -> tuple[dict[str, list[float]], int]:
    """Interleaved rounds of everything: the floors' costs per round, and how often the garbage collector ran."""
    below = floors(scenarios[0])
    costs: dict[str, list[float]] = {name: [] for name in below}
    gc.collect()
    gc.freeze()  # as a worker does once it is ready
    collected = 0
    for number in range(-WARM_UP_ROUNDS, rounds):
        before = _collections()
        for name, work in below.items():
            costs[name].append(cpu_us(work, len(scenarios[0].waiting)))
        for scenario in scenarios:
            scenario.costs_us.append(cpu_us(scenario.decide_all, len(scenario.waiting)))
        collected += _collections() - before if number >= 0 else 0
    for rows in (*costs.values(), *(scenario.costs_us for scenario in scenarios)):
        del rows[:WARM_UP_ROUNDS]
    return costs, collected


def _collections() -> int:
    return sum(generation["collections"] for generation in gc.get_stats())


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most of the rounds."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Round by round, so that a bad minute hits both."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def main(words: Sequence[str] | None = None) -> None:
    """Build, measure, print, and write what was asked for."""
    asked = _arguments().parse_args(words)
    by_rules = [_made(count, asked.events_with_rules, asked.decisions) for count in asked.rules]
    by_events = [_made(asked.rules_with_events, count, asked.decisions) for count in asked.events]
    for scenario in (*by_rules, *by_events):
        scenario.decisions = scenario.said()
    print(f"measuring {asked.rounds} rounds of {asked.decisions} decisions each", file=sys.stderr, flush=True)
    costs, collected = measure([*by_rules, *by_events], asked.rounds)
    found = {
        "settings": vars(asked),
        "floors": {name: spread(rows) for name, rows in costs.items()},
        "by_rules": [_row(scenario, costs) for scenario in by_rules],
        "by_events": [_row(scenario, costs) for scenario in by_events],
        "ratio_rules": ratios(by_rules[-1].costs_us, by_rules[0].costs_us),
        "ratio_events": ratios(by_events[-1].costs_us, by_events[0].costs_us),
        "garbage_collections": collected,
    }
    print("\n".join(_text(found)))
    if asked.json:
        Path(asked.json).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _made(rules: int, events: int, decisions: int) -> Scenario:
    print(f"preparing {rules:,} rules, {events:,} past events", file=sys.stderr, flush=True)
    return Scenario.make(rules, events, decisions)


def _row(scenario: Scenario, costs: dict[str, list[float]]) -> dict[str, Any]:
    return {
        "rules": scenario.rules,
        "events": scenario.events,
        "decisions": dict(scenario.decisions),
        "us": spread(scenario.costs_us),
        "ratio": {name: ratios(scenario.costs_us, below) for name, below in costs.items()},
    }


def _text(found: dict[str, Any]) -> Iterator[str]:
    asked = found["settings"]
    yield f"µs of CPU: median of {asked['rounds']} interleaved rounds (min to max), {asked['decisions']} each a round"
    for name, row in found["floors"].items():
        yield f"  {FLOORS[name]:32} {_spread(row)}"
    for rows, ratio, title, name in (
        ("by_rules", "ratio_rules", f"a decision at {asked['events_with_rules']:,} events, by rules", "rules"),
        ("by_events", "ratio_events", f"a decision at {asked['rules_with_events']:,} rules, by events", "events"),
    ):
        yield title
        for row in found[rows]:
            times = "   ".join(f"{r['median']:6.1f} × {floor}" for floor, r in row["ratio"].items())
            yield f"  {row[name]:>32,} {_spread(row['us'])}   {times}   {_said(row)}".rstrip()
        ends = f"{found[rows][-1][name]:,} : {found[rows][0][name]:,}"
        yield f"  {'ratio ' + ends:32} {_spread(found[ratio], digits=2)}"
    yield f"garbage collector: on; what was there before frozen, as in a worker; {found['garbage_collections']} runs"


def _spread(row: Spread, digits: int = 1) -> str:
    return f"{row['median']:8.{digits}f} ({row['min']:.{digits}f} to {row['max']:.{digits}f})"


def _said(row: dict[str, Any]) -> str:
    """Of decisions other than approve, which this workload should not have."""
    others = {said: count for said, count in row["decisions"].items() if said != "approve"}
    return f"not approved: {others}" if others else ""


def _arguments() -> argparse.ArgumentParser:
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731  a type, used once
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rules", type=numbers, default=[10, 100, 1_000], help="how many, comma-separated")
    parser.add_argument("--events", type=numbers, default=[10, 1_000, 100_000], help="behind the agent, same")
    parser.add_argument("--events-with-rules", type=int, default=EVENTS_WITH_RULES, help="while rules vary")
    parser.add_argument("--rules-with-events", type=int, default=RULES_WITH_EVENTS, help="while events vary")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--decisions", type=int, default=200, help="measured in each round, of each kind")
    parser.add_argument("--json", help="also write everything to this file")
    return parser


if __name__ == "__main__":
    main()
