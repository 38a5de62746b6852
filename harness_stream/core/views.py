"""How an event looks to a condition: one view per resource, because a condition speaks of `event.resource` (DESIGN §6).

Rule of this file: pure reshaping of plain data; what history keeps and what is judged look the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_stream.core import limits
from harness_stream.core.scalars import micro_of

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_RESOURCE: Mapping[str, Any] = {"uri": "", "system": "", "zone": "", "labels": [], "sensitivity": "", "owner": ""}
"""An intent without resources is judged once, against this."""

_PLAIN = (
    "agent_id",
    "owner",
    "tenant",
    "roles",
    "chain_id",
    "parent",
    "kind",
    "action",
    "operation",
    "object_class",
    "labels",
    "purpose",
    "environment",
    "decision",
    "by",
    "t",
)


def views_of(event: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One view per resource of a compact event, at least one."""
    shared = {name: event[name] for name in _PLAIN}
    shared["parent"] = "" if event["parent"] is None else event["parent"]["agent_id"]
    shared["measures"] = {name: number_of(micro_of(value)) for name, value in event["measures"].items()}
    return [{**shared, "resource": resource} for resource in event["resources"] or (NO_RESOURCE,)]


def number_of(micro: int) -> int | float:
    """A measure as rules see it: an integer if it is one, else a double."""
    whole, rest = divmod(micro, limits.MEASURE_SCALE)
    return micro / limits.MEASURE_SCALE if rest else whole
