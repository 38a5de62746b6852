"""What a log must show afterwards, whatever happened: V2 and V5 (PROTOCOL §10), asked of effective records.

Rule of this file: pure questions about records that the fold has found effective; each answers with what is wrong, so
an empty answer is the good one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Body = Mapping[str, Any]
IntentKey = tuple[str, str]
"""(agent_id, intent_id)."""


def miscovered(effective: Iterable[Body], end: int) -> dict[int, int]:
    """V5: offsets below `end` that are not covered exactly once, and offsets from `end` on that are covered at all.

    Args:
        effective: one partition's effective records, from the first on.
        end: the input partition's end offset.

    Returns:
        Offset → how often it is covered.
    """
    covered: Counter[int] = Counter()
    for body in effective:
        if "covers" in body:
            first, last = body["covers"]
            covered.update(range(first, last + 1))
    return {offset: covered[offset] for offset in sorted({*range(end), *covered}) if covered[offset] != (offset < end)}


def twice_settled(effective: Iterable[Body]) -> set[IntentKey]:
    """V2: intents with more than one effective terminal verdict; a hold is not terminal."""
    terminal = Counter(
        (body["agent_id"], body["intent_id"])
        for body in effective
        if body["kind"] == "verdict" and body["decision"] != "hold"
    )
    return {key for key, count in terminal.items() if count > 1}


def unanswered(effective: Iterable[Body], sent: Iterable[IntentKey]) -> set[IntentKey]:
    """Which of the sent intents have neither a verdict nor a reject."""
    missing = set(sent)
    for body in effective:
        if body["kind"] == "verdict":
            missing.discard((body["agent_id"], body["intent_id"]))
        elif body["kind"] == "reject":
            missing.discard((body["agent_id"], body["id"]))
    return missing
