"""Which intents have their terminal verdict: one each (V2), remembered as long as a second one could come."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from harness_stream.core import limits
from harness_stream.core.ids import id_time_ms

if TYPE_CHECKING:
    from harness_stream.core.fold import Body

# Looking through all of them costs less than taking in as many, so the cost of forgetting is constant a verdict.
SWEEP_MIN: Final = 8_192
_KEY_BYTES: Final = 16  # two of 2^32 intents collide with a chance of 2^-65


class Settled:
    """Terminal verdicts by intent, until chain time has passed what an id, or a person's answer, can reach."""

    def __init__(self) -> None:
        self._until: dict[bytes, tuple[int, int]] = {}
        self._sweep_at = SWEEP_MIN

    def __len__(self) -> int:
        return len(self._until)

    def take(self, body: Body, offset: int, t: int) -> str | None:
        """What is wrong with an effective verdict, None if nothing.

        Args:
            body: of a verdict that keeps its schema.
            offset: in the decision log.
            t: chain time, epoch ms.
        """
        if body["decision"] == "hold":
            return None
        key = blake2b(f"{body['agent_id']}\0{body['intent_id']}".encode(), digest_size=_KEY_BYTES).digest()
        before = self._until.get(key)
        if before is not None:
            return f"{body['agent_id']} intent {body['intent_id']} has its terminal verdict at {before[1]}"
        self._until[key] = (_last_chance(body, t), offset)
        if len(self._until) >= self._sweep_at:
            self._until = {key: kept for key, kept in self._until.items() if kept[0] >= t}
            self._sweep_at = max(SWEEP_MIN, 2 * len(self._until))
        return None


def _last_chance(body: Body, t: int) -> int:
    """Chain time after which the same id is garbage, and an answer to its hold has none to find."""
    try:
        named = id_time_ms(body["intent_id"])
    except ValueError:
        named = t
    held = 0 if body.get("approval") is None else t + limits.HOLD_MS_DEFAULT + limits.HOLD_MEMORY_MS
    return max(named + limits.ID_MEMORY_MS, t, held)
