"""Records of the log that changed units into which nobody has looked yet (PROTOCOL §5, LOADING).

Rule of this file: a unit is its base and the records after it. Each unit changes by the change, itself, the partition's
own unit and the rules alone (`core.apply`), so units may be folded whenever they are asked for and in any order, if of
each one the records are taken in the log's. A lane's unit and its shards wait together: which shard an event counts in
is known only once it was judged.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core.fold import DENIALS
from harness_stream.core.ids import unit_of_id
from harness_stream.core.names import agent_unit, lane_of_unit, lane_shards, lane_unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Told(NamedTuple):
    """An effective record, as one group waits for it.

    Attributes:
        offset: in the decision log.
        value: its bytes.
        digest: SHA-256 of them, hex.
        groups: all that wait for it, the one that stands for it first.
    """

    offset: int
    value: bytes
    digest: str
    groups: tuple[str, ...]


class Deferred:
    """What one partition's units still have to take in.

    Attributes:
        size: bytes of the records, shared among the groups that wait for them.
        ahead: unit → offset up to which its base already holds every change.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Told]] = {}
        self._order = deque[Told]()  # oldest first; some may have been taken in by all who waited for them
        self.size = 0
        self.ahead: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, unit: str) -> bool:
        return bool(self._waiting) and group_of(unit) in self._waiting

    @property
    def records(self) -> int:
        """How many somebody may wait for."""
        return len(self._order)

    def coming(self, records: int) -> dict[str, None]:
        """Groups that wait for the oldest so many records, in their order."""
        oldest = islice(self._order, records)
        return dict.fromkeys(group for told in oldest for group in told.groups if group in self._waiting)

    def add(self, records: Iterable[Told]) -> None:
        """Records, each newer than all before it."""
        waiting, size = self._waiting, self.size
        for told in records:
            for group in told.groups:
                queue = waiting.get(group)
                if queue is None:
                    waiting[group] = deque((told,))
                else:
                    queue.append(told)
            size += _share(told) * len(told.groups)
            self._order.append(told)
        self.size = size

    def oldest(self) -> tuple[Told, list[str]] | None:
        """The oldest record that somebody waits for, and the groups that do; it is the next one of each of them."""
        while self._order:
            told = self._order[0]
            groups = [group for group in told.groups if self.is_next(told, group)]
            if groups:
                return told, groups
            self._order.popleft()
        return None

    def is_next(self, told: Told, group: str) -> bool:
        """Is it the oldest record that the group waits for?"""
        waiting = self._waiting.get(group)
        return waiting is not None and waiting[0] is told

    def next(self, group: str) -> Told:
        """The group's oldest record."""
        return self._waiting[group][0]

    def taken(self, group: str) -> None:
        """It was taken in; after its last one a group waits no longer."""
        waiting = self._waiting[group]
        self.size -= _share(waiting.popleft())
        if not waiting:
            del self._waiting[group]
            if not self._waiting:
                self._order.clear()

    def holds(self, unit: str, offset: int) -> bool:
        """Is that record in the unit's base already?"""
        stands = self.ahead.get(unit)
        if stands is not None and stands < offset:
            del self.ahead[unit]  # nor are those that come after it
        return stands is not None and stands >= offset


def _share(told: Told) -> int:
    """Its bytes are kept once, however many wait."""
    return len(told.value) // len(told.groups)


def group_of(unit: str) -> str:
    """What a unit waits together with."""
    lane = lane_of_unit(unit)
    return unit if lane is None else lane_unit(lane)


def units_in(group: str) -> tuple[str, ...]:
    """The units that wait together."""
    lane = lane_of_unit(group)
    return (group,) if lane is None else (group, *lane_shards(lane))


def groups_of(change: Mapping[str, Any]) -> tuple[str, ...]:
    """Groups of every unit that a change may touch, the one that stands for it first. A verdict's body does as well.

    Raises:
        KeyError, TypeError, ValueError: free parts of a version that writes others.
    """
    if change["kind"] == DENIALS:
        return tuple(change["ids"])
    event, of_verdict = change.get("event"), change["kind"] == "verdict"
    if of_verdict and (event is None or event["lineage"] is None):  # nearly all
        return groups_of_own(change["agent_id"], change["intent_id"], None if event is None else event["lane"])
    return tuple(dict.fromkeys((agent_unit(change["agent_id"]), *_others(change, event))))


def groups_of_own(agent_id: str, intent_id: str, lane: str | None) -> tuple[str, ...]:
    """The same of a verdict on an intent that no other one delegated; lane None: neither evaluated nor counted."""
    return (unit_of_id(intent_id),) if lane is None else (agent_unit(agent_id), lane_unit(lane), unit_of_id(intent_id))


def _others(change: Mapping[str, Any], event: Mapping[str, Any] | None) -> Iterator[str]:
    lane = change.get("lane") if event is None else event["lane"]
    if lane is not None:
        yield lane_unit(lane)
    if "intent_id" in change:
        yield unit_of_id(change["intent_id"])
    if change.get("root") is not None:
        yield agent_unit(change["root"][0])
    if event is not None and event["lineage"] is not None:
        yield agent_unit(event["parent"]["agent_id"])
