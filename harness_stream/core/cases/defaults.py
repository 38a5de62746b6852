"""What an inline row leaves out (DESIGN §3 has the tables).

Rule: a default lets a case be about something else. An agent may do what the case asks for, from a workload of its own
that is attested; a risk is valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits
from harness_stream.core.cases.timing import offset_ms
from harness_stream.core.cases.words import INTENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.core.cases.model import Step

TENANT_DEFAULT: Final = "tenant-1"


def filled(table: str, fields: Mapping[str, Any], steps: Iterable[Step], now_ms: int) -> dict[str, Any]:
    """The fields of an inline row, complete.

    Args:
        table: its table.
        fields: as written; `valid_until` of a risk may be relative to now, `-1s`.
        steps: everything that happens in the case.
        now_ms: epoch ms.
    """
    if table == "identity":
        agent_id = str(fields.get("agent_id"))
        own = {"tenant": TENANT_DEFAULT, "workloads": _workloads(agent_id, steps), "actions": _actions(steps)}
        return own | dict(fields)
    if table == "infrastructure":
        return {"environment": "production", "attested": True} | dict(fields)
    if table == "risk":
        until = fields.get("valid_until", limits.INTEGER_MAX)
        relative = offset_ms(until) if isinstance(until, str) else None
        return dict(fields) | {"valid_until": until if relative is None else now_ms + relative}
    return dict(fields)


def _workloads(agent_id: str, steps: Iterable[Step]) -> list[str]:
    own = f"wl-{agent_id}"[: limits.IDENTIFIER_CHARS_MAX]
    named = {s.fields.get("workload_id") for s in steps if s.kind == INTENT and s.fields.get("agent_id") == agent_id}
    return [own, *sorted(name for name in named if isinstance(name, str) and name != own)]


def _actions(steps: Iterable[Step]) -> list[str]:
    asked = {step.fields.get("action") for step in steps if step.kind == INTENT}
    return sorted(action for action in asked if isinstance(action, str))
