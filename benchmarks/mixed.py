"""The rule set that the goals speak of: so many rules, three of ten with windows, each about one of twenty actions.

Rule of this file: pure; nothing here is measured. A rule set grows by rules about the same actions, so an intent of a
larger set is asked about more of them: 5 of 100, 50 of 1,000.
"""

from __future__ import annotations

import itertools
from typing import Final

ACTIONS: Final = tuple(f"tool-{number}.run" for number in range(20))
RESOURCE: Final = "crm://customers/{n}"
STATEFUL_OF_TEN: Final = 3
KINDS: Final = ("event_count", "value_count", "value_sum", "temporal", "temporal_ordered", "absent")
GROUPS: Final = ("agent_id", "chain_id", "tenant", "agent_id, action")
HOURS_MAX: Final = 23
# So high that honest work meets no limit: what is measured is judging, not refusing.
NEVER: Final = 1_000_000_000


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
