"""What judging an intent costs: rules asked together, beside each alone and beside one bare evaluation, in one run.

    python benchmarks/rules.py                     about a minute
    python benchmarks/rules.py --sizes 100 --rounds 3 --json out.json
    python benchmarks/rules.py --worst             what the limits allow at most, and how true the estimates are

`floor` is one trivial condition: an activation built and one call of CEL. `each` evaluates every rule's condition by
itself. `judge` is the product's. `erring` is the same with one rule that fails at every intent, `select` the
selections, `32 resources` an intent of so many. Three in ten rules have a window; most are about some action.
Rounds alternate, and ratios are each round's own, so that a bad minute hits both sides.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import command
import machine
from worst_rules import report as report_worst

from harness_stream.core.rules.cel import outcome
from harness_stream.core.rules.check import check
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.mistakes import Findings
from harness_stream.core.rules.parse import read

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from harness_stream.core.rules.compile import Judged, Program

TOOLS: Final = ("crm", "email", "files", "search", "pay")
VERBS: Final = ("read", "write", "export", "send", "delete", "list")
ACTIONS: Final = tuple(f"{tool}.{verb}" for tool in TOOLS for verb in VERBS)
SELECTIONS: Final = {
    "reads_pii": 'event.action.startsWith("crm.") && "pii" in event.resource.labels',
    "exports": 'event.action in ["crm.export", "files.export", "files.read"]',
    "egress": 'event.action in ["email.send", "search.send"] && event.resource.zone == "external"',
    "deletes": 'event.action in ["crm.delete", "files.delete", "pay.delete"]',
    "anything": "true",
}
ALLOWED: Final = "intent.action in identity.actions && infrastructure.present && infrastructure.attested"
ERRING: Final = "risk.score > 0.9"  # the row is absent
RESOURCES: Final = 32
SECONDS_ROUND: Final = 0.25


class Case(NamedTuple):
    """One thing to measure: a name, and what to call for the intent with a number."""

    name: str
    call: Callable[[int], object]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was asked for."""
    asked, on = _arguments().parse_args(words), machine.measured_on()
    print("\n".join(machine.lines(on)))
    if asked.worst:
        found: Any = report_worst()
    else:
        found = [_at_size(size, asked.rounds) for size in asked.sizes]
        print(_text(found))
    if asked.json:
        asked.json.write_text(json.dumps({"machine": on, "found": found}, indent=1) + "\n", encoding="utf-8")


def _at_size(size: int, rounds: int) -> dict[str, Any]:
    program = load(_document(size))
    cases = _cases(program, size)
    measured = [{case.name: _us(case) for case in cases} for _ in range(rounds)]
    evaluations = statistics.mean(program.evaluations(action) for action in ACTIONS)
    return {"rules": size, "evaluations": evaluations, "rounds": measured}


def _cases(program: Program, size: int) -> list[Case]:
    variables = [_variables(action, 0) for action in ACTIONS]
    erring = load(_document(size, ERRING))
    return [
        Case("floor", _each('intent.action == "x"', variables)),
        Case("each", _each_rule(size, variables)),
        Case("judge", lambda number: program.judge(variables[number % len(variables)])),
        Case("erring", lambda number: erring.judge(variables[number % len(variables)])),
        Case("select", lambda number: program.select(variables[number % len(variables)]["event"])),
        Case(f"{RESOURCES} resources", _many_resources(program)),
    ]


def _each(condition: str, variables: list[dict[str, Any]]) -> Callable[[int], object]:
    document = {"rule_set": "floor", "default": "deny", "rules": [{"id": "a", "effect": "deny", "when": condition}]}
    return _one_by_one(json.dumps(document), variables)


def _each_rule(size: int, variables: list[dict[str, Any]]) -> Callable[[int], object]:
    return _one_by_one(_document(size), variables)


def _one_by_one(text: str, variables: list[dict[str, Any]]) -> Callable[[int], object]:
    draft = read(text, Findings(text, "rules"), {})
    checked = check(draft) if draft else None
    if checked is None:
        raise SystemExit("the rules of this benchmark do not load")
    runtime, programs = checked.runtime, checked.programs

    def call(number: int) -> object:
        activation = runtime.activation(variables[number % len(variables)])
        return [outcome(program, activation) for program in programs]

    return call


def _many_resources(program: Program) -> Callable[[int], object]:
    intents = [[_variables(action, number) for number in range(RESOURCES)] for action in ACTIONS]

    def call(number: int) -> object:
        first: Judged | None = None
        for view in intents[number % len(intents)]:
            judged = program.judge(view, first)
            first = first or judged
        return first

    return call


def _us(case: Case) -> float:
    """CPU time of one call, µs, over about a quarter of a second."""
    calls = 0
    start = time.process_time()
    while time.process_time() - start < SECONDS_ROUND:
        for _ in range(len(ACTIONS)):
            case.call(calls)
            calls += 1
    return (time.process_time() - start) / calls * 1e6


# --- What is judged ---------------------------------------------------------------------------------------------------


def _document(size: int, extra: str | None = None) -> str:
    conditions = [ALLOWED, *([extra] if extra else []), *map(_condition, range(size - 1 - bool(extra)))]
    rules = [_rule(number, condition) for number, condition in enumerate(conditions)]
    return json.dumps({"rule_set": "bench", "default": "deny", "selections": SELECTIONS, "rules": rules})


def _condition(number: int) -> str:
    """Six in ten name an action, one a prefix, two a selection, one nothing of the kind."""
    action, tool = ACTIONS[number * 7 % len(ACTIONS)], TOOLS[number % len(TOOLS)]
    return (
        f'intent.action == "{action}" && intent.resource.zone == "external"',
        f'intent.action == "{action}" && "secret{number}" in intent.resource.labels',
        f'intent.action in ["{action}", "{tool}.merge"] && intent.purpose == ""',
        f'intent.action == "{action}" && "rows" in intent.measures && intent.measures.rows > {number + 100}',
        f'"legal{number}" in identity.roles && intent.action == "{action}"',
        f'intent.action == "{action}" && risk.present && risk.score > 0.{number % 9 + 1}',
        f'intent.action.startsWith("{tool}.") && intent.environment == "test{number}"',
        "exports",
        "reads_pii && !egress",
        f'intent.resource.sensitivity == "s{number}" || "top{number}" in chain.labels',
    )[number % 10]


def _rule(number: int, condition: str) -> dict[str, Any]:
    rule: dict[str, Any] = {"id": f"r{number}", "effect": "deny" if number else "approve", "when": condition}
    if number % 10 in {3, 7, 8}:
        window = {"type": "event_count", "rules": ["exports"], "group-by": ["agent_id"], "timespan": "1h"}
        rule["correlation"] = {**window, "condition": {"gt": 1_000_000}}
    return rule


def _variables(action: str, number: int) -> dict[str, Any]:
    zone = "external" if number % 2 else "internal"
    resource = {"uri": f"crm://customers/{number}", "system": "crm", "zone": zone, "labels": ["pii", "eu"]}
    view = {
        **dict.fromkeys(("agent_id", "owner", "tenant", "chain_id", "parent", "kind", "decision", "by"), "agent-1"),
        "action": action,
        "roles": ["support"],
        "labels": ["eu"],
        "purpose": "the weekly report",
        "environment": "production",
        "measures": {"rows": 10},
        "t": 1_700_000_000_000,
        "resource": {**resource, "sensitivity": "high", "owner": "sales"},
    }
    identity = {"present": True, "actions": list(ACTIONS), "roles": ["support"], "status": "active"}
    return {
        "event": view,
        "intent": view,
        "identity": identity,
        "infrastructure": {"present": True, "attested": True, "environment": "production"},
        "risk": {"present": False},
        "mandate": {"present": False},
        "chain": {"labels": ["eu", "pii"], "events": 12},
        "args": {"to": {"role": "destination", "exact": True}},
        "params": {},
    }


# --- What is printed --------------------------------------------------------------------------------------------------


def _text(found: list[dict[str, Any]]) -> str:
    lines = ["cost of one intent, in bare evaluations of one trivial condition: median of the rounds (min to max)"]
    for measured in found:
        rounds, names = measured["rounds"], [name for name in measured["rounds"][0] if name != "floor"]
        floor = statistics.median(row["floor"] for row in rounds)
        calls = measured["evaluations"]
        lines.append(f"  {measured['rules']:,} rules: CEL is called {calls:.1f} times; the floor is {floor:.1f} µs")
        lines += [f"    {name:13} {_ratio(rounds, name, 'floor')}" for name in names]
        lines.append(f"    each / judge  {_ratio(rounds, 'each', 'judge')}")
    return "\n".join(lines)


def _ratio(rounds: list[Mapping[str, float]], over: str, under: str) -> str:
    ratios = [row[over] / row[under] for row in rounds]
    return f"{statistics.median(ratios):8.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _arguments() -> argparse.ArgumentParser:
    parser = command.parser(__doc__)
    parser.add_argument("--sizes", type=command.counts, default=(10, 100, 1_000), help="of rule sets, comma-separated")
    parser.add_argument("--rounds", type=command.count, default=7, help="of everything, alternating")
    parser.add_argument("--worst", action="store_true", help="measure what the limits of a rule set allow instead")
    parser.add_argument("--json", type=command.output, help="also write everything to this file")
    return parser


if __name__ == "__main__":
    sys.exit(command.ended(main))
