"""What the benchmarks let agents do: the same tenants, rows, rules and intents for every measurement.

Rule of this file: pure; nothing here is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import mixed
import orjson

from harness_stream.adapters.clock import SystemClock
from harness_stream.client.ids import Ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.ports import Clock

TENANTS: Final = 20  # lanes; they spread over all partitions
WORKLOAD: Final = "wl-bench"
ACTIONS: Final = ("crm.read", "crm.export", "email.send", "search.query")
RESOURCES: Final = ("crm://customers/{n}", "files://reports/{n}", "email://internal/{n}", "search://web/{n}")
STATELESS: Final = 20
COUNTS: Final = 5
TEMPORALS: Final = 5
# So high that honest load meets no limit: what is measured is judging, not refusing.
NEVER: Final = 1_000_000


def rules_yaml() -> str:
    """30 rules, 10 of them with windows; every intent of this workload is approved, after all of them were asked."""
    lines = [
        "rule_set: production",
        "default: deny",
        f"params: {{never: {NEVER}}}",
        "selections:",
        *(f'  does_{number}: event.action == "{action}"' for number, action in enumerate(ACTIONS)),
        '  never_done: event.action == "files.wipe"',
        '  anything: "true"',
        "rules:",
        *_rule(
            "allowed",
            "approve",
            "intent.action in identity.actions && infrastructure.present && infrastructure.attested",
        ),
    ]
    for number in range(STATELESS - 1):
        condition = f'intent.resource.zone == "external" && "secret{number}" in intent.resource.labels'
        lines += _rule(f"plain-{number}", "deny" if number % 2 else "hold", condition)
    for number in range(COUNTS):
        window = f"{{type: event_count, rules: [does_{number % 4}], group-by: [agent_id], timespan: {number + 1}h"
        lines += [
            *_rule(f"count-{number}", "deny", "anything"),
            f"    correlation: {window}, condition: {{gt: params.never}}}}",
        ]
    for number in range(TEMPORALS):
        window = (
            f"{{type: temporal, rules: [does_{number % 4}, never_done], group-by: [chain_id], timespan: {number + 1}h}}"
        )
        lines += [*_rule(f"after-{number}", "deny", "anything"), f"    correlation: {window}"]
    return "\n".join(lines) + "\n"


def tables(agents: int, actions: Sequence[str] = ACTIONS) -> dict[str, list[dict[str, Any]]]:
    """Rows of each table, by its name."""
    identity = [
        {"agent_id": agent_of(n), "tenant": lane_of(n, agents), "actions": list(actions), "workloads": [WORKLOAD]}
        for n in range(agents)
    ]
    classification: list[dict[str, Any]] = [
        {"subject": "resource:crm://*", "labels": ["pii"], "zone": "internal"},
        {"subject": "resource:email://internal/*", "zone": "internal"},
        {"subject": "resource:files://*", "zone": "internal"},
        {"subject": "resource:search://*", "zone": "external"},
    ]
    return {
        "identity": identity,
        "infrastructure": [{"workload_id": WORKLOAD, "environment": "bench", "attested": True}],
        "risk": [{"subject": "tenant:tenant-0", "score": 0.1, "valid_until": 4_102_444_800_000}],
        "classification": classification,
    }


def agent_of(number: int) -> str:
    """The agent's id."""
    return f"agent-{number}"


def lane_of(number: int, agents: int) -> str:
    """The lane of the agent that makes intent `number`."""
    return f"tenant-{number % agents % TENANTS}"


class Mix(NamedTuple):
    """What agents do, and what judges it.

    Attributes:
        rules: the rule set, YAML.
        actions: that every agent may use, and uses in turn.
        resources: what each is done to.
    """

    rules: str
    actions: Sequence[str]
    resources: Sequence[str]


def few_rules() -> Mix:
    """30 rules, 10 of them with windows, all of them asked at each intent."""
    return Mix(rules_yaml(), ACTIONS, RESOURCES)


def many_rules(count: int = 100) -> Mix:
    """So many rules, three of ten with windows, each about one of twenty actions (mixed.py)."""
    return Mix(mixed.rules_yaml(count), mixed.ACTIONS, [mixed.RESOURCE] * len(mixed.ACTIONS))


class Intents:
    """Makes intents, each by the next agent.

    Args:
        realm: its name.
        agents: how many.
        deadline_ms: of each.
        nonce: of the enforcer that asks.
        mix: what they do.
        clock: their ids' time.
    """

    def __init__(
        self, realm: str, agents: int, deadline_ms: int, nonce: str, mix: Mix | None = None, clock: Clock | None = None
    ) -> None:
        self._agents, self._ids, self._mix = agents, Ids(clock or SystemClock()), mix or few_rules()
        self._same = {
            "v": 1,
            "type": "intent",
            "realm": realm,
            "workload_id": WORKLOAD,
            "arguments_digest": "0" * 64,
            "measures": {"rows": 10},
            "purpose": "the weekly report",
            "deadline_ms": deadline_ms,
            "enforcer_nonce": nonce,
        }

    def make(self, number: int) -> tuple[str, str, str, bytes]:
        """(intent id, agent, lane, value) of the intent with that number."""
        actions = self._mix.actions
        agent, kind = agent_of(number % self._agents), number // self._agents % len(actions)
        intent_id, action = self._ids.new(), actions[kind]
        resource = self._mix.resources[kind].format(n=number % 97)
        own = {"by": agent, "agent_id": agent, "intent_id": intent_id, "action": action, "resources": [resource]}
        return intent_id, agent, lane_of(number, self._agents), orjson.dumps(self._same | own)


def _rule(name: str, effect: str, when: str) -> list[str]:
    return [f"  - id: {name}", f"    effect: {effect}", f"    when: {when}"]
