"""What a rule's condition reads besides the event itself (DESIGN §6), as nested plain data.

Rule of this file: everything here is known before any rule is looked at; what a rule asks is a look-up, never a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_stream.core.answered import answered_in, class_of, values_of
from harness_stream.core.chain import Chain, chain_of
from harness_stream.core.delegation import labels_of
from harness_stream.core.ids import lineage_of
from harness_stream.core.names import agent_unit
from harness_stream.core.provenance import Origin, ValueMap, links_of, origin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from harness_stream.core.model import Intent
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.state import State


def variables_of(
    intent: Intent,
    inputs: Mapping[str, Any],
    event: Mapping[str, Any],
    state: State,
    windows: Windows,
    labels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """By the names of the language; `event` and `intent` are added per resource. Who knows its `labels` says so."""
    family = list(_family(event, state))
    answered = _answered(intent, inputs, event, state)
    return {
        "identity": inputs["identity"],
        "infrastructure": inputs["infrastructure"],
        "risk": inputs["risk"],
        "mandate": _mandate(family, values_of(intent), answered),
        "chain": {"labels": labels_of(state, event) if labels is None else labels, "events": family[0].events},
        "args": _arguments(intent, inputs, event, state, _named_by(family) | answered) if intent.arguments else {},
        "params": dict(windows.program.rule_set.params),  # CEL takes no read-only mapping
    }


def _arguments(
    intent: Intent, inputs: Mapping[str, Any], event: Mapping[str, Any], state: State, named: frozenset[str]
) -> dict[str, Any]:
    """What is asked of each argument; its tool's row says better what it steers than who calls the tool."""
    roles: Mapping[str, str] = inputs.get("roles", {})
    seen = _origins(inputs, event, state, named)
    return {
        argument.name: {
            "role": roles.get(argument.name, argument.role),
            "exact": argument.exact,
            "values": list(argument.values),
            "origin": origin_of(argument, seen, unparsed=intent.unparsed),
            "links": links_of(argument, seen, unparsed=intent.unparsed),
        }
        for argument in intent.arguments
    }


def _answered(intent: Intent, inputs: Mapping[str, Any], event: Mapping[str, Any], state: State) -> frozenset[str]:
    """Values that an approver answered for, where the intent names any at all."""
    if not intent.arguments:
        return frozenset()
    return answered_in(state, event["agent_id"], event["chain_id"], class_of(event["action"], inputs))


def _family(event: Mapping[str, Any], state: State) -> Iterator[Chain]:
    """The intent's chain, and those of the agents above it, the direct parent's first."""
    yield chain_of(state, event["agent_id"], event["chain_id"]) or Chain()
    lineage = lineage_of(event)
    if lineage is not None:
        for agent_id, chain_id in zip(reversed(lineage.above), reversed(lineage.chains), strict=True):
            yield chain_of(state, agent_id, chain_id) or Chain()


def _mandate(family: list[Chain], asked: frozenset[str], answered: frozenset[str]) -> dict[str, Any]:
    """The chain's own, else that of the nearest above. A child never has more than its parent: all must allow a class.

    Of the values it names, and those an approver answered for, only those that the intent's arguments hold: a rule asks
    for no others.
    """
    mandates = [chain.mandate for chain in family if chain.mandate is not None]
    if not mandates:
        return {"present": False, "classes": [], "named": []}
    classes = [{f"{c['operation']} {c['object']}" for c in mandate["action_classes"]} for mandate in mandates]
    first = mandates[0]
    return {
        "present": True,
        "declared_by": first["declared_by"],
        "goal_digest": first["goal_digest"] or "",
        "expires_at": first["expires_at"],
        "classes": sorted(set.intersection(*classes)),
        "named": sorted(asked & (_named_by(family) | answered)) if asked else [],
    }


def _named_by(family: list[Chain]) -> frozenset[str]:
    """What the user named, as an orchestrator declared it."""
    declared = [chain.declared for chain in family]
    told = (fingerprint for each in declared for fingerprint in (*each.get("values", ()), *each.get("phrases", ())))
    return frozenset(told)


def _origins(
    inputs: Mapping[str, Any], event: Mapping[str, Any], state: State, named: frozenset[str]
) -> Callable[[str], int]:
    """Fingerprint → where this chain and its tree have seen it; what the user or an approver `named` is known."""
    own = frozenset(inputs.get("own_values", ()))
    lineage = lineage_of(event)
    places = [(event["agent_id"], event["chain_id"]), *([] if lineage is None else [lineage[:2]])]
    maps: list[ValueMap] = [state.get(agent_unit(agent), ("values", chain)) or ValueMap() for agent, chain in places]

    def bits(fingerprint: str) -> int:
        found = Origin.MANDATE * (fingerprint in named) | Origin.SELF * (fingerprint in own)
        for seen in maps:
            found |= seen.origins.get(fingerprint, 0)
        return found

    return bits
