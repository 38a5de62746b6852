"""What approvers answered for values, so that one question is asked once (PROVENANCE §1, `scope: value`).

Rule of this file: an answer counts for these values, in this chain, for the class of action that it was given for, and
for nothing else. There it is worth what the user's own word is worth: origin `mandate`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness_stream.core import limits
from harness_stream.core.names import agent_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness_stream.core.model import Approval, Intent
    from harness_stream.core.state import State

Answered = tuple[tuple[str, str], ...]
"""(class, fingerprint), the longest unsaid first; under ("answered", chain id) in the agent's unit."""

KEY = "answered"


def class_of(action: str, inputs: Mapping[str, Any]) -> str:
    """The class that an answer counts for: operation and object of the tool's row, else the very action.

    Tools that no row describes have no class in common, so an answer for one of them is none for another.
    """
    operation, object_class = inputs.get("operation", ""), inputs.get("object_class", "")
    return f"{operation} {object_class}" if operation and object_class else action


def values_of(intent: Intent) -> frozenset[str]:
    """Fingerprints that an intent names, those of links too: an approver can answer for these and no others."""
    return frozenset(fp for argument in intent.arguments for fp in (*argument.values, *argument.links))


def foreign_values(approval: Approval, intent: Intent) -> bool:
    """Does it answer for a value that the held intent does not name?"""
    return not values_of(intent).issuperset(approval.values)


def answered_in(state: State, agent_id: str, chain_id: str, action_class: str) -> frozenset[str]:
    """Fingerprints that were answered for, for this class, in this chain."""
    said: Answered = state.get(agent_unit(agent_id), (KEY, chain_id)) or ()
    return frozenset(fingerprint for known, fingerprint in said if known == action_class)


def note_answer(state: State, agent_id: str, chain_id: str, action_class: str, values: Sequence[str]) -> None:
    """Keep an answer; beyond the limit the oldest ones are asked anew."""
    key, new = (KEY, chain_id), tuple((action_class, fingerprint) for fingerprint in values)
    before: Answered = state.get(agent_unit(agent_id), key) or ()
    kept = tuple(pair for pair in before if pair not in set(new))
    state.put(agent_unit(agent_id), key, (*kept, *new)[-limits.CHAIN_ANSWERED_MAX :])


def answered_from_json(value: Sequence[Sequence[str]]) -> Answered:
    """Read what plain JSON made of it."""
    return tuple((action_class, fingerprint) for action_class, fingerprint in value)
