"""Approvals that somebody still holds, and what takes them back: a notice, the close of a chain, the end of a mandate.

Where such words can no longer be heard, everything is taken back.

Rule of this file: belongs to the enforcer's thread. An approval is known for as long as somebody holds it, or only what
tells of its end, and no longer. What a notice says counts only for what was approved before it, so a log that is read
again takes nothing back twice.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from harness_stream.core.fold import NOTICE
from harness_stream.core.reasons import Revoke

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.client.answer import Answer
    from harness_stream.client.head import Effective
    from harness_stream.client.revocation import Revocation

# Empty groups are swept out when their number has doubled; below this they cost nothing worth it.
GROUPS_MIN: Final = 1_024
_NEVER: Final = -1

Name = tuple[int, str]
"""Partition and agent."""


class Held(NamedTuple):
    """What is known of an approval, so that it need not be kept itself.

    Attributes:
        offset: of its verdict.
        acting: see `Answer.acting`.
        ends_ms: elapsed time at which the first of its mandates has ended, or _NEVER.
    """

    offset: int
    acting: tuple[tuple[str, str], ...]
    ends_ms: int


Group = WeakKeyDictionary["Revocation", Held]


class Running:
    """Approvals in use, by whom they were given to or act for."""

    def __init__(self) -> None:
        self._held: WeakSet[Revocation] = WeakSet()
        self._groups: dict[Name, Group] = {}
        self._sweep_at = GROUPS_MIN
        self._ends: list[tuple[int, Name]] = []
        self._looked_at: dict[Name, int] = {}  # when each is in `_ends` first

    def __bool__(self) -> bool:
        """Does anybody hold one?"""
        return bool(self._held)

    def add(self, partition: int, answer: Answer, ends_ms: int | None) -> None:
        """Know an approval from now on.

        Args:
            partition: of its verdict.
            answer: the approval.
            ends_ms: elapsed time at which the first of its mandates has ended; None without one.
        """
        self._sweep()
        self._held.add(answer.revoked)
        held = Held(answer.offset, answer.acting, _NEVER if ends_ms is None else ends_ms)
        for agent_id, _ in answer.acting:
            self._groups.setdefault((partition, agent_id), WeakKeyDictionary())[answer.revoked] = held
        if ends_ms is not None and answer.acting:
            self._look((partition, answer.acting[0][0]), ends_ms)

    def heard(self, partition: int, effective: Effective) -> None:
        """Take back what a record of the partition ends, if it is one that does."""
        body = effective.body
        if effective.kind == NOTICE:
            for revocation, held in self._in((partition, body["agent_id"])):
                _take_back(revocation, held, effective.offset, Revoke(body["status"]))
        elif effective.kind == "ack" and (closed := _closed(body)) is not None:
            for revocation, held in self._in((partition, closed[0])):
                if closed in held.acting:
                    _take_back(revocation, held, effective.offset, Revoke.CHAIN_CLOSED)

    def expire(self, now_ms: int) -> None:
        """Take back what stands under a mandate that has ended; `now_ms` is elapsed time."""
        while self._ends and self._ends[0][0] <= now_ms:
            due_ms, name = heapq.heappop(self._ends)
            if self._looked_at.get(name) != due_ms:
                continue
            del self._looked_at[name]
            ends = [(held.ends_ms, revocation) for revocation, held in self._in(name) if held.ends_ms != _NEVER]
            for ends_ms, revocation in ends:
                if ends_ms <= now_ms:
                    revocation.set(Revoke.MANDATE_EXPIRED)
            later = [ends_ms for ends_ms, _ in ends if ends_ms > now_ms]
            if later:
                self._look(name, min(later))

    def unheard(self, partition: int | None = None) -> None:
        """Take back all of a partition (None: of all) because its log can no longer be followed."""
        for name in [name for name in self._groups if partition in {None, name[0]}]:
            for revocation, _ in self._in(name):
                revocation.set(Revoke.UNHEARD)

    def _look(self, name: Name, at_ms: int) -> None:
        """One look an agent is planned, however many approvals it has."""
        if at_ms < self._looked_at.get(name, at_ms + 1):
            self._looked_at[name] = at_ms
            heapq.heappush(self._ends, (at_ms, name))

    def _in(self, name: Name) -> list[tuple[Revocation, Held]]:
        """Copied: those that run end meanwhile."""
        group = self._groups.get(name)
        return [] if group is None else [*group.items()]

    def _sweep(self) -> None:
        if len(self._groups) >= self._sweep_at:
            self._groups = {name: group for name, group in self._groups.items() if group}
            self._sweep_at = max(GROUPS_MIN, 2 * len(self._groups))


def _take_back(revocation: Revocation, held: Held, offset: int, reason: Revoke) -> None:
    if held.offset < offset:
        revocation.set(reason)


def _closed(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """The (agent, chain) that an effective ack closes."""
    change = body.get("change")
    if not isinstance(change, dict) or change.get("op") != "close":
        return None
    agent_id, chain_id = body.get("agent_id"), change.get("chain_id")
    return (agent_id, chain_id) if isinstance(agent_id, str) and isinstance(chain_id, str) else None
