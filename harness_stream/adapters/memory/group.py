"""A deterministic group coordinator.

Rule: partitions spread evenly and move as little as possible, and a partition that moves from a living member is handed
over only after that member has finished it (cooperative).

Who has not polled for a session is expelled when somebody else polls; it learns so at its own next poll, and until then
it acts as a zombie. All state is guarded by the broker's lock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness_stream.core.limits import SESSION_MS
from harness_stream.ports import Assignment, LogRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness_stream.adapters.memory.broker import MemoryBroker, Partition


@dataclass(slots=True)
class _Member:
    last_poll_ms: int
    owned: set[int] = field(default_factory=set)  # without those being revoked
    revoking: set[int] = field(default_factory=set)
    news: list[Assignment] = field(default_factory=list)


class MemoryGroup:
    """Who owns which partition of one topic.

    Args:
        broker: whose clock and lock it uses.
        topic: the topic shared out.
        session_ms: silence after which a member is expelled.
    """

    def __init__(self, broker: MemoryBroker, topic: str, session_ms: int = SESSION_MS) -> None:
        self.broker = broker
        self.topic = topic
        self.committed: dict[int, int] = {}
        self._partitions = range(broker.partitions(topic))
        self._session_ms = session_ms
        self._members: dict[str, _Member] = {}

    def owners(self) -> dict[int, str]:
        """Partition → member, those being revoked included."""
        with self.broker.lock:
            return {p: name for name, m in self._members.items() for p in sorted(m.owned | m.revoking)}

    def join(self, member_id: str) -> None:
        """Take in a member; the same name again is a restart and takes the old one's place."""
        with self.broker.lock:
            self._members.pop(member_id, None)
            self._members[member_id] = _Member(self.broker.now_ms())
            self._rebalance()

    def leave(self, member_id: str) -> None:
        """Let a member go; its partitions are free at once."""
        with self.broker.lock:
            if self._members.pop(member_id, None) is not None:
                self._rebalance()

    def heartbeat(self, member_id: str) -> bool:
        """Note a sign of life and expel who gave none for a session; False if this member itself was expelled."""
        with self.broker.lock:
            now_ms = self.broker.now_ms()
            silent = [
                n for n, m in self._members.items() if n != member_id and now_ms - m.last_poll_ms > self._session_ms
            ]
            for name in silent:
                del self._members[name]
            if silent:
                self._rebalance()
            if member_id not in self._members:
                return False
            self._members[member_id].last_poll_ms = now_ms
            return True

    def news(self, member_id: str) -> list[Assignment]:
        """What changed for a member since the last call."""
        with self.broker.lock:
            member = self._members.get(member_id)
            if member is None or not member.news:
                return []
            news, member.news = member.news, []
            return news

    def finish_revoke(self, member_id: str, partitions: Sequence[int]) -> None:
        """Free partitions that were being revoked; others are ignored (they were lost meanwhile)."""
        with self.broker.lock:
            member = self._members.get(member_id)
            if member is not None:
                member.revoking -= set(partitions)
                self._rebalance()

    def _quotas(self) -> dict[str, int]:
        """How many partitions each member shall have; who has most keeps the odd one, so that least moves."""
        if not self._members:
            return {}
        share, odd = divmod(len(self._partitions), len(self._members))
        by_load = sorted(self._members, key=lambda name: -len(self._members[name].owned))
        return {name: share + (place < odd) for place, name in enumerate(by_load)}

    def _rebalance(self) -> None:
        quotas = self._quotas()
        for name, member in self._members.items():
            surplus = sorted(member.owned)[quotas[name] :]
            if surplus:
                member.owned -= set(surplus)
                member.revoking |= set(surplus)
                member.news.append(Assignment(revoked=tuple(surplus)))
        taken = {p for m in self._members.values() for p in m.owned | m.revoking}
        free = [p for p in self._partitions if p not in taken]
        for name, member in self._members.items():
            gained, free = self._share(free, quotas[name] - len(member.owned))
            if gained:
                member.owned |= set(gained)
                member.news.append(Assignment(gained=tuple(gained)))
        self.broker.wake()

    @staticmethod
    def _share(free: list[int], room: int) -> tuple[list[int], list[int]]:
        return free[: max(room, 0)], free[max(room, 0) :]


@dataclass(slots=True)
class _Place:
    """Where a member stands in one partition.

    Attributes:
        offset: the next one to deliver; None: it stands until it is started.
        paused: nothing is delivered.
        cuts: how often the log had been cut when a record was delivered last; None: none was since the start, so no
            leader epoch is known to compare.
    """

    offset: int | None = None
    paused: bool = False
    cuts: int | None = None

    def is_in(self, log: Partition, offset: int) -> bool:
        """Does what was delivered before `offset` lead to it?"""
        cut = self.cuts is not None and any(at < offset for at in log.cuts[self.cuts :])
        return not cut and log.low <= offset <= log.end


class MemoryInputConsumer:
    """One member of a memory group (implements `ports.InputConsumer`); joins when built.

    Args:
        group: the group to join.
        member_id: unique per living member.
    """

    def __init__(self, group: MemoryGroup, member_id: str) -> None:
        self._group = group
        self._broker = group.broker
        self._id = member_id
        self._places: dict[int, _Place] = {}
        self._owned: set[int] = set()  # without those being given up
        self._finishing: set[int] = set()
        self._news: list[Assignment] = []
        self._lost: list[tuple[int, int]] = []
        self._closed = False
        group.join(member_id)

    def poll(self, records_max: int, wait_ms: int) -> list[LogRecord]:
        """Records of started partitions; waits only on a blocking broker, and only while nothing is there."""
        if self._closed:
            return []
        with self._broker.lock:
            if not self._group.heartbeat(self._id):
                self._rejoin()
                return []
            self._hear()
            records = self._take(records_max)
            if not records and not self._news and self._broker.wait(wait_ms):
                self._hear()
                records = self._take(records_max)
            return records

    def assignments(self) -> list[Assignment]:
        """Group changes since the last call, in order."""
        if not self._closed:
            self._hear()
        news, self._news = self._news, []
        return news

    def finish_revoke(self, partitions: Sequence[int]) -> None:
        """Give up revoked partitions."""
        self._finishing -= set(partitions)
        self._group.finish_revoke(self._id, partitions)

    def start(self, partition: int, offset: int) -> None:
        """Deliver from `offset` on, not paused; without effect for a partition that is not owned (any more)."""
        if partition in self._owned:
            self._places.pop(partition, None)
            self._places[partition] = _Place(offset)

    def pause(self, partition: int) -> None:
        """Deliver nothing until `resume`; keep the place."""
        if partition in self._places:
            self._places[partition].paused = True

    def resume(self, partition: int) -> None:
        """Go on where `pause` stopped."""
        if partition in self._places:
            self._places[partition].paused = False

    def lost_ranges(self) -> list[tuple[int, int]]:
        """(partition, first kept offset) of positions that the log does not lead to; each stands until `start`."""
        lost, self._lost = self._lost, []
        return lost

    def damaged(self) -> Mapping[int, int]:
        """Partition → offset that it stands at because what is stored there cannot be read."""
        with self._broker.lock:
            found = {
                partition: self._log(partition).unreadable(place.offset)
                for partition, place in self._places.items()
                if self._log(partition).damaged is not None and place.offset is not None and not place.paused
            }
            return {partition: offset for partition, offset in found.items() if offset is not None} if found else {}

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Note next_input per partition in the group; only of owned partitions."""
        with self._broker.lock:
            self._group.committed.update({p: o for p, o in offsets.items() if p in self._owned})

    def close(self) -> None:
        """Leave the group."""
        if not self._closed:
            self._closed = True
            self._places.clear()
            self._group.leave(self._id)

    def _rejoin(self) -> None:
        if self._owned | self._finishing:
            self._news.append(Assignment(lost=tuple(sorted(self._owned | self._finishing))))
        self._owned.clear()
        self._finishing.clear()
        self._places.clear()
        self._group.join(self._id)

    def _hear(self) -> None:
        for change in self._group.news(self._id):
            self._owned = (self._owned | set(change.gained)) - set(change.revoked)
            self._finishing |= set(change.revoked)
            for partition in change.revoked:  # what was delivered may be drained, nothing new comes
                self._places.pop(partition, None)
            self._news.append(change)

    def _take(self, records_max: int) -> list[LogRecord]:
        self._broker.advance()
        taken: list[LogRecord] = []
        for partition, place in list(self._places.items()):
            if len(taken) >= records_max:
                break
            if not place.paused and place.offset is not None:
                taken += self._take_from(partition, place, place.offset, records_max - len(taken))
        return taken

    def _take_from(self, partition: int, place: _Place, offset: int, records_max: int) -> list[LogRecord]:
        log = self._log(partition)
        if not place.is_in(log, offset):
            self._lost.append((partition, log.low))
            place.offset = None
            return []
        records = log.read(offset, records_max) if offset < log.end else []
        if records:
            place.offset, place.cuts = records[-1].offset + 1, len(log.cuts)
            self._places[partition] = self._places.pop(partition)  # to the back of the queue
        return records

    def _log(self, partition: int) -> Partition:
        return self._broker.logs[self._group.topic, partition]
