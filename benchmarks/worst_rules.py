"""What the limits of a rule set allow at most (`python benchmarks/rules.py --worst`).

Rule of this file: everything is measured on the largest legal event, with texts that differ as late as they can. For
each kind of dear condition: what was estimated beside what it took, then as many rules of it as load, judged for an
intent of 32 resources, without and with an error in every mask; then how long the largest texts take to load.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits
from harness_stream.core.rules.cel import Parser, Runtime, outcome
from harness_stream.core.rules.compile import from_bundle, inspect
from harness_stream.core.rules.cost import cost_of, shapes_of
from harness_stream.core.rules.language import (
    EXPRESSION_CHARS_MAX,
    INTENT_STEPS_MAX,
    RULES_MAX,
    TEXT_BYTES_MAX,
    TREE_NODES_MAX,
)

if TYPE_CHECKING:
    from harness_stream.core.rules.compile import Judged, Program

STEP_US: Final = 0.025
ERRING: Final = 'risk.score > 0.5 || intent.resource.zone == ""'  # the row is absent
URI: Final = "intent.resource.uri"
LITERAL: Final = "[" + ", ".join(f'"{"z" * 60}{number:02}"' for number in range(20)) + "]"
CONDITIONS: Final = {
    "one comparison": 'intent.purpose != "x"',
    "forty comparisons": " && ".join(['intent.purpose != "x"'] * 40),
    "constants": "&&".join(["1<2"] * 299),
    "label of the resource": '"x" in intent.resource.labels',
    "action of the agent": "intent.action in identity.actions",
    "action and resource": f'intent.action in identity.actions || {URI} == "x"',
    "label of the chain": '"x" in chain.labels',
    "literal list": f"intent.action in {LITERAL}",
    "loop over labels": 'intent.resource.labels.exists(x, x == "y")',
    "loop over actions": 'identity.actions.exists(x, x == "y")',
    "loop in labels of the chain": "intent.labels.all(x, x in chain.labels)",
    "loop over arguments": "args.all(k, args[k] != {})",
    "filter": 'intent.resource.labels.filter(x, x != "y").size() > 100',
    "filter of workloads": 'identity.workloads.filter(x, x != "").size() == 1',
    "map to maps": "identity.workloads.map(x, {x: x}).size() == 1",
    "lists compared": "identity.actions != identity.actions",
    "lists joined": "size(identity.actions + identity.workloads) == 1",
    "text searched": f'{URI}.contains("{"a" * 20}b")',
    "texts joined": f'{URI} + {URI} + {URI} == ""',
    "anchored pattern": r'intent.action.matches("^(crm|email|files)[.](read|write)$")',
    "words anywhere": f'{URI}.matches("secret|private")',
    "pattern anywhere": rf'{URI}.matches("\\w+@\\w+[.]com")',
    "pattern with many states": f'{URI}.matches("[ab]*a[ab]{{12}}c")',
    "counted pattern on a short text": 'intent.action.matches("[ab]*a[ab]{100}c")',
}


def report() -> dict[str, Any]:
    """Measure and print everything."""
    rows = [_row(name, condition) for name, condition in CONDITIONS.items()]
    print("estimate of one condition, what it took, and as many rules of it as load: one intent of 32 resources")
    for row in rows:
        print(_line(row))
    print(f"loading, {TEXT_BYTES_MAX // 1024} KiB at most: seconds from YAML, from a bundle")
    loads = [_loading(name, document) for name, document in _documents().items()]
    for found in loads:
        print(f"  {found['name']:32} {found['text_s']:6.2f} {found['bundle_s']:6.2f}  {found['said']}")
    return {"conditions": rows, "loading": loads}


def _row(name: str, condition: str) -> dict[str, Any]:
    tree = Parser().tree(condition)
    if isinstance(tree, tuple):
        raise SystemExit(f"{name}: {tree[0].message}")
    cost = cost_of(tree, shapes_of({}), {})
    resources = limits.RESOURCES_MAX if ".resource." in condition else 1
    count = min(
        RULES_MAX - 1,
        INTENT_STEPS_MAX // (cost.steps * resources),
        (TREE_NODES_MAX - 10) // cost.nodes,
        (TEXT_BYTES_MAX - 1_000) // (len(json.dumps(condition)) + 100),
    )
    judged = {"plain": _judge_ms(condition, count, None), "erring": _judge_ms(condition, count, ERRING)}
    return {"name": name, "steps": cost.steps, "took": _alone_us(condition) / STEP_US, "rules": count, **judged}


def _line(row: dict[str, Any]) -> str:
    each = f"{row['steps']:8,} steps, took {row['took']:8,.0f}"
    return f"  {row['name']:32} {each}; {row['rules']:5} rules {row['plain']:7.1f} ms, erring {row['erring']:7.1f} ms"


def _alone_us(condition: str) -> float:
    """CPU time of a condition beyond that of `true`, the maps converted before."""
    runtime = Runtime()
    activation = runtime.activation(_variables(0))
    took = []
    for text in (condition, "true"):
        program = runtime.compile(text)
        if isinstance(program, tuple):
            raise SystemExit(program[0].message)
        took.append(min(_cpu_s(lambda p=program: outcome(p, activation), 20) for _ in range(5)))  # type: ignore[misc]
    return (took[0] - took[1]) * 1e6


def _judge_ms(condition: str, count: int, erring: str | None) -> float:
    """CPU time of one intent of 32 resources; with `erring`, every fortieth rule fails."""
    rules = [
        {"id": f"r{number}", "effect": "deny", "when": erring if erring and number % 40 == 0 else condition}
        for number in range(count + bool(erring))
    ]
    program, mistakes = inspect(json.dumps({"rule_set": "worst", "default": "deny", "rules": rules}))
    if program is None:
        raise SystemExit(f"{condition}: {mistakes[0].message}")
    views = [_variables(number) for number in range(limits.RESOURCES_MAX)]
    _judge(program, views)
    return min(_cpu_s(lambda: _judge(program, views), 1) for _ in range(3)) * 1e3


def _judge(program: Program, views: list[dict[str, Any]]) -> None:
    first: Judged | None = None
    for view in views:
        judged = program.judge(view, first)
        first = first or judged


def _cpu_s(call: Any, times: int) -> float:  # noqa: ANN401  any function
    start = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - start) / times


def _variables(number: int) -> dict[str, Any]:
    """The largest event; neighbours in a list differ in their last characters only."""
    labels = _texts(limits.LABELS_MAX, limits.WORD_CHARS_MAX)
    identifier = "a" * limits.IDENTIFIER_CHARS_MAX
    view = {
        **dict.fromkeys(("agent_id", "owner", "tenant", "chain_id", "purpose", "by"), identifier),
        "action": "z" * limits.ACTION_CHARS_MAX,
        "roles": labels,
        "labels": _texts(2 * limits.LABELS_MAX, limits.WORD_CHARS_MAX),
        "measures": dict.fromkeys(_texts(limits.MEASURES_MAX, limits.WORD_CHARS_MAX), 10**9),
        "resource": {"uri": _uri(number), "system": "crm", "zone": "external", "labels": labels},
    }
    identity = {
        "present": True,
        "actions": _texts(limits.ROW_ACTIONS_MAX, limits.ACTION_CHARS_MAX),
        "workloads": _texts(limits.ROW_WORKLOADS_MAX, limits.IDENTIFIER_CHARS_MAX),
        "roles": labels,
    }
    return {
        "intent": view,
        "event": view,
        "identity": identity,
        "risk": {"present": False},
        "chain": {"labels": _texts(1024, limits.WORD_CHARS_MAX), "events": 10**6},
        "args": {name: {"role": "destination", "exact": True} for name in _texts(limits.ARGUMENTS_MAX, 64)},
        "params": {},
    }


def _texts(count: int, chars: int) -> list[str]:
    return ["z" * (chars - 4) + f"{number:04}" for number in range(count)]


def _uri(number: int) -> str:
    """Letters without a rhythm, so that an automaton keeps meeting new states."""
    state, letters = number + 1, []
    for _ in range(limits.URI_CHARS_MAX - 6):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        letters.append("ab"[state >> 16 & 1])
    return "crm://" + "".join(letters)


# --- Loading ----------------------------------------------------------------------------------------------------------


def _documents() -> dict[str, str]:
    dense, loops = "&&".join(["1<2"] * 299), "&&".join(["[].all(x,1>x)"] * 100)
    pattern = "&&".join([r'intent.purpose.matches("[a-z]{300}\\W{40}")'] * 33)
    typical = 'intent.action == "crm.x{}" && intent.resource.zone == "external" && "s{}" in intent.resource.labels'
    selections = {f"s{number}": f'event.action == "a{number}"' for number in range(500)}
    return {
        "1,000 typical rules": _document([typical.format(n, n) for n in range(RULES_MAX)]),
        "as many nodes as load": _document([dense] * 33),
        "as many loops as load": _document([loops] * 33),
        "constants to the last byte": _document([dense] * 150),
        "patterns to the last byte": _document([pattern] * 150),
        "selections used by every rule": _document(["||".join(list(selections)[:200])] * 90, selections),
        "actions that meet many rules": _document([*_listing(280), *['intent.action.startsWith("a")'] * 400]),
        "one selection many times": _document(["s0"] * RULES_MAX, {"s0": dense}),
        "no condition parses": _document(["(" * 700] * 150),
        "values to the last byte": "rule_set: x\nrules:\n" + "  - [" + "a," * (TEXT_BYTES_MAX // 2 - 50) + "]\n",
        "brackets": "[" * (TEXT_BYTES_MAX - 10),
        "keys": "{" + ",".join(f"k{number}: 1" for number in range(25_000)) + "}",
    }


def _listing(count: int) -> list[str]:
    """Rules that name 64 actions each, all of them different."""
    names = [[f'"a{number * 64 + i:x}"' for i in range(64)] for number in range(count)]
    return [f"intent.action in [{','.join(row)}]" for row in names]


def _document(conditions: list[str], selections: dict[str, str] | None = None) -> str:
    if any(len(condition) > EXPRESSION_CHARS_MAX for condition in conditions):
        raise SystemExit("a condition of this benchmark is too long")
    rules = [{"id": f"r{n}", "effect": "approve", "when": condition} for n, condition in enumerate(conditions)]
    return json.dumps({"rule_set": "x", "default": "deny", "selections": selections or {}, "rules": rules})


def _loading(name: str, text: str) -> dict[str, Any]:
    start = time.process_time()
    program, mistakes = inspect(text)
    text_s = time.process_time() - start
    start = time.process_time()
    if program is not None:
        from_bundle(program.bundle)
    bundle_s = time.process_time() - start
    said = "loads" if program else f"refused: {mistakes[0].message[:80]}"
    return {"name": name, "text_s": text_s, "bundle_s": bundle_s, "said": said}


if __name__ == "__main__":
    raise SystemExit(__doc__)
