"""Intent ids that a partition remembers, so that none is answered twice (PROTOCOL §8, V2).

Rule of this file: ids are kept apart from the agents they belong to, in a ring of units by the time inside of them. So
an agent that acts a thousand times a second weighs no more than one that acts once, an id of an agent nobody knows
leaves nothing behind, and what has aged out goes when its unit is written anew, soon after its place in the ring is.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness_stream.core import limits
from harness_stream.core.fold import DENIALS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.state import State

UNIT_PREFIX: Final = "i:"
SLOT_MS: Final = 10_000
# An id is of any time from ID_AGE_MS_MAX ahead to ID_MEMORY_MS ago: 190 s, so nothing younger than a turn is met again.
SLOTS: Final = 24
# At 10,000 intents a second a slot holds 100,000 ids of about 250 bytes: 3,125 a unit, below 1 MiB.
SHARDS: Final = 32
# An id is asked for some six times from when its batch is looked at until it is in the log: what 16 partitions may have
# in flight. With more it costs what it did.
IDS_KEPT: Final = 4_096
_SHARD_DIGITS: Final = 2  # of its random tail; the sender may choose it, and then only fills one unit
_UNITS: Final = tuple(tuple(f"{UNIT_PREFIX}{slot}.{shard}" for shard in range(SHARDS)) for slot in range(SLOTS))


class Lineage(NamedTuple):
    """Where an intent stands in its delegation tree.

    Attributes:
        root_agent, root_chain: the topmost intent's; they name the tree.
        above: agents from the root's to the direct parent's.
        chains: the chain each of them acts in.
    """

    root_agent: str
    root_chain: str
    above: tuple[str, ...]
    chains: tuple[str, ...]


def lineage_of(event: Mapping[str, Any]) -> Lineage | None:
    """The lineage an event carries."""
    told = event["lineage"]
    if told is None:
        return None
    return Lineage(told["root"][0], told["root"][1], tuple(told["above"]), tuple(told["chains"]))


class Remembered(NamedTuple):
    """An intent id that was taken in: what a second record with it is compared with, and what an outcome refers to.

    Attributes:
        digest: of the intent's value as received.
        until: chain time up to which the id is remembered.
        decision: approve, deny or hold.
        verdict_digest: of the newest verdict's value.
        t: chain time of that verdict.
        hold_until: of a hold, else None.
        chain_id: where the event stands.
        outcome: reported status, None while there is none.
        lineage: None for an intent that no other one delegated.
    """

    digest: str
    until: int
    decision: str
    verdict_digest: str
    t: int
    hold_until: int | None
    chain_id: str | None
    outcome: str | None = None
    lineage: Lineage | None = None


def id_time_ms(uuid: str) -> int:
    """The time inside a UUIDv7 in its canonical text, epoch ms: its first 48 bits (RFC 9562 §5.7)."""
    return int(uuid[:8] + uuid[9:13], 16)


def remember_until(intent_id: str, ends_ms: int) -> int:
    """Long enough that neither a second record nor an outcome of an intent can come later (PROTOCOL §8).

    Args:
        intent_id: its id.
        ends_ms: chain time of its deadline, or up to which its hold waits.
    """
    return max(id_time_ms(intent_id) + limits.ID_MEMORY_MS, ends_ms + limits.OUTCOME_GRACE_MS)


def unit_of_id(intent_id: str) -> str:
    """Name of the unit that remembers an intent id (ValueError: it is no UUID); for one that is asked for once."""
    slot = id_time_ms(intent_id) // SLOT_MS % SLOTS
    return _UNITS[slot][int(intent_id[-_SHARD_DIGITS:], 16) % SHARDS]


@lru_cache(IDS_KEPT)
def ids_unit(intent_id: str) -> str:
    """The same, kept for an id that is asked for again and again."""
    return unit_of_id(intent_id)


def is_of_ids(unit: str) -> bool:
    """Is this one of the units that remember ids?"""
    return unit.startswith(UNIT_PREFIX)


def memory_of(state: State, agent_id: str, intent_id: str) -> Remembered | None:
    """What is still known of an intent id, whether or not it counts any more."""
    found: Remembered | None = state.get(ids_unit(intent_id), ("id", agent_id, intent_id))
    return found


def remembered(state: State, agent_id: str, intent_id: str, t: int) -> Remembered | None:
    """The intent id's memory, if it still counts at chain time t."""
    found: Remembered | None = state.get(ids_unit(intent_id), ("id", agent_id, intent_id))
    return found if found is not None and found.until >= t else None


def remember(state: State, change: Mapping[str, Any]) -> None:
    """In the id's unit: what a change says of its intent. It reads no more of the change than `told` keeps."""
    if change["kind"] == DENIALS:
        for unit in change["ids"]:
            remember_denied(state, change, unit)
        return
    agent_id, intent_id = change["agent_id"], change["intent_id"]
    if change["kind"] == "verdict":
        after: Remembered | None = _from_verdict(change)
    else:
        known = memory_of(state, agent_id, intent_id)
        after = None if known is None else known._replace(outcome=change["status"])
    if after is not None:
        state.put(ids_unit(intent_id), ("id", agent_id, intent_id), after)


def remember_denied(state: State, change: Mapping[str, Any], unit: str) -> None:
    """Those intents of a run that was denied whose ids are in this unit."""
    for agent_id, intent_id, digest, until, t in change["ids"].get(unit, ()):
        known = Remembered(digest, until, "deny", change["digest"], t, None, None)
        state.put(unit, ("id", agent_id, intent_id), known)


def told(change: Mapping[str, Any], unit: str) -> dict[str, Any]:
    """The part of a change that a unit of ids needs to be replayed."""
    if change["kind"] == DENIALS:
        return {**change, "ids": {unit: change["ids"][unit]}}
    if change["kind"] != "verdict":
        return {name: change[name] for name in ("kind", "agent_id", "intent_id", "status")}
    event = change["event"]
    return {
        "kind": "verdict",
        "digest": change["digest"],
        "agent_id": change["agent_id"],
        "intent_id": change["intent_id"],
        "intent_digest": change["intent_digest"],
        "decision": change["decision"],
        "t": change["t"],
        "remember_until": change["remember_until"],
        "event": event and {name: event[name] for name in ("hold_until", "chain_id", "lineage")},
    }


def _from_verdict(change: Mapping[str, Any]) -> Remembered:
    event = change["event"]
    said = change["intent_digest"], change["remember_until"], change["decision"], change["digest"], change["t"]
    if event is None:
        return Remembered(*said, None, None)
    return Remembered(*said, event["hold_until"], event["chain_id"], lineage=lineage_of(event))
