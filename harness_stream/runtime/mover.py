"""Moves confirmed state to the store in atomic steps, at most one per micro-batch (PROTOCOL §6).

Rule of this file: the store is a cache, so it may be a moment behind. A step that fails costs time: what changed since
the last step that is known to have worked is sent again, and a delta that arrives twice counts once. A store is known
by its whole head: one that is elsewhere than we left it is another one. It is filled anew if memory holds everything,
else the partition is loaded again.
"""

from __future__ import annotations

import logging
from collections import deque
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

import orjson

from harness_stream.alarms import Alarm, sound
from harness_stream.core import limits
from harness_stream.core.ids import SLOT_MS, SLOTS, is_of_ids
from harness_stream.core.units import Delta, encode_unit, forgotten
from harness_stream.errors import StateUnavailable
from harness_stream.ports import Metrics, Move, StateStore, StoredHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness_stream.core.apply import Change
    from harness_stream.core.fold import Place
    from harness_stream.core.state import State

log = logging.getLogger(__name__)

# One server-side call that moves 200 states takes about 1 ms (measured, FACTS), far below the 20 ms bound.
REFILL_UNITS = 200
# One step's units: the store's own bound. A micro-batch that touches more is moved in parts.
MOVE_UNITS = 4 * limits.IN_FLIGHT_RECORDS_MAX
# Steps follow each other at this pace: the loop waits for each, and one for every record took a fifth of its time.
# Who takes over folds what came meanwhile: a quarter of what a checkpoint leaves him (CHECKPOINT_INTERVAL_MS).
MOVE_MS = 250
# Each partition at a time of its own, so that a turn waits for one step and not for all; the golden ratio spreads
# neighbours evenly, which is how partitions are dealt among few workers.
PHASE_MS = round(0.618 * MOVE_MS)
# Or once so many units wait, so that no step takes longer than a micro-batch's may.
MOVE_UNITS_SOON = limits.IN_FLIGHT_RECORDS_MAX
# A store that is away is asked again at this pace; encoding everything that changed meanwhile costs more than asking.
RETRY_MS = 250
# How often a partition at rest looks whether its store was emptied; anybody who reads the store sees that meanwhile.
LOOK_MS = 5_000
FILLING = b"filling:"
"""How the header of a store begins that is being filled: no reader may start from it. Who fills it follows."""
# Of steps that may still be taken: one whose answer did not come is sent again after RETRY_MS, and hardly a network
# delivers what was sent two seconds ago. What does arrive later is taken for another store.
TRIED_KEPT = 8
# A later owner's claim is in the log before his first step, and who decides looks at the log's end every END_QUERY_MS:
# as long as a record may take, this is enough to hear of one there is.
NEWER_MS = limits.DELIVERY_TIMEOUT_MS


NOWHERE: Final = StoredHead(-1, 0, b"")
"""Where an empty store stands."""


def is_filling(head: StoredHead) -> bool:
    """Is a store that stands there being filled?"""
    return not head.header or head.header.startswith(FILLING)


class Step(Enum):
    """What became of one step."""

    DONE = "done"
    UNKNOWN = "unknown"
    GONE = "gone"


class Moved(NamedTuple):
    """A confirmed change, the decision-log offset it came from, and the units it changed."""

    change: Change
    offset: int
    units: frozenset[str]


class Part(NamedTuple):
    """One step of a refill: the units in it, and those that are still to come after it."""

    units: Sequence[str]
    rest: list[str]


class Mover:
    """Keeps the store behind one partition's confirmed state.

    Args:
        store: the state store.
        partition: whose.
        metrics: where failures count.
        next_token: gives numbers that no other step of this process has.
        stored: where the store stands, None if memory was not loaded from it.
        met: where it stood before the own claim, whatever that is: no later owner can have left it there.
    """

    def __init__(
        self,
        store: StateStore,
        partition: int,
        metrics: Metrics,
        next_token: Callable[[], int],
        stored: StoredHead | None = None,
        met: StoredHead | None = None,
    ) -> None:
        self._store, self._partition, self._metrics = store, partition, metrics
        self._next_token, self._stored, self._met = next_token, stored, met
        self._epoch, self._writer = 0, b""  # of the own claim
        self._doubted: tuple[StoredHead, int] | None = None  # where a later owner may have left it, and since when
        self._tried = deque[StoredHead](maxlen=TRIED_KEPT)  # steps from there whose answers did not come
        self._dirty: dict[str, list[bytes] | None] = {}
        self._unknown: dict[str, list[bytes] | None] = {}  # of the step whose answer did not come
        self._deltas_left: dict[str, int] = {}  # that a stored unit still gets before it is written anew
        self._many_until_ms: dict[str, int] = {}  # of units of ids that may get more of them
        self._refill: list[str] | None = None
        self._open_part: Part | None = None  # of a refill: the step whose answer did not come
        self._emptied = False
        self._asked: int | None = None
        self._now_ms = self._not_before_ms = 0
        self._moved_in = -1  # which period of MOVE_MS
        self._answers = True
        self._silent_since_ms: int | None = None
        self._looked_ms = 0

    def reign(self, epoch: int, writer_id: str) -> None:
        """Steps are taken under this claim from here on."""
        self._epoch, self._writer = epoch, writer_id.encode()

    def changed(
        self, touched: frozenset[str], changes: Iterable[Moved], whole: frozenset[str] = frozenset()
    ) -> None:
        """Units that a confirmed micro-batch changed, and by what (in order).

        What `whole` ones hold now, their changes alone do not say.
        """
        explained: set[str] = set()
        for change, offset, units in changes:
            delta = Delta(change, offset)
            told = units & touched
            explained |= told
            for unit in told:
                self._append(unit, delta)
        for unit in (touched - explained) | whole:
            self._dirty[unit] = None

    def refill(self, state: State) -> None:
        """Write everything that memory holds into an emptied store."""
        self._refill, self._emptied, self._open_part = list(state.units()), False, None
        self._left_at(None)

    @property
    def stored(self) -> StoredHead | None:
        """Where the store stands as far as we know, None if it is empty."""
        return self._stored

    @property
    def behind(self) -> bool:
        """Is there confirmed state that the store does not hold yet?

        What units only took over (`takeover`) waits for the next step, which no record may ever bring: whoever starts
        from the store as it is takes it over again.
        """
        unmoved = bool(self._dirty) and (self._stored is None or self._stored.verdict_offset != self._asked)
        return unmoved or bool(self._unknown) or self._refill is not None

    @property
    def waiting(self) -> int:
        """Units the next step will write."""
        return len(self._dirty | self._unknown)

    def reached(self, at: StoredHead | None, now_ms: int) -> bool:
        """Does a store that stands there hold what was left in it? One that was emptied or is another one does not.

        Raises:
            StateUnavailable: a later owner may have gone on from what was left; the log will tell.
        """
        if self._stored is None or self._is_own(at):
            return True
        if at is not None and self._may_be_newer(at, now_ms):
            raise StateUnavailable("another worker moved the state store on", hint="the decision log says who it is")
        return False

    def is_clean(self, unit: str) -> bool:
        """Does the store hold the unit as it is confirmed?"""
        waiting = unit in self._dirty or unit in self._unknown
        return self._stored is not None and self._refill is None and not waiting

    def flush(self, place: Place, state: State, now_ms: int, *, hurry: bool = False) -> bool:
        """One step towards `place` when it is due, or in a hurry; after a failure not before RETRY_MS have passed.

        Returns:
            False if the store lost what memory does not hold, or is left to somebody whom the log does not know: the
            partition must be loaded again.
        """
        if now_ms < self._not_before_ms:
            return True
        self._now_ms, self._asked = now_ms, place.offset
        if (self._unknown or self._open_part is not None) and not self._learn_its_fate():
            return True
        if self._refill is not None:
            step = self._fill(place, state)
        elif len(self._dirty) > MOVE_UNITS:
            step = self._catch_up(place, state)
        elif place.offset >= 0 and not self._stands_at(place):  # also when no unit changed: a successor starts later
            if not (hurry or self._due()):
                return True
            self._moved_in = self._period()
            sent, self._dirty = self._dirty, {}
            step = self._move(place, state, sent)
            if step is not Step.DONE:
                self._unknown = sent
        else:
            step = self._look_after(state)
        return step is not Step.GONE

    def _due(self) -> bool:
        return self._period() != self._moved_in or len(self._dirty) >= MOVE_UNITS_SOON

    def _period(self) -> int:
        return (self._now_ms + self._partition * PHASE_MS) // MOVE_MS

    def _look_after(self, state: State) -> Step:
        """At rest: does the store still hold what we left in it?"""
        if self._stored is None or self._now_ms - self._looked_ms < LOOK_MS:
            return Step.DONE
        self._looked_ms = self._now_ms
        try:
            at = self._store.head(self._partition)
        except StateUnavailable:
            self._failed()
            return Step.UNKNOWN
        self._answered()
        return Step.DONE if at == self._stored else self._refused(at or NOWHERE, state)

    def _catch_up(self, place: Place, state: State) -> Step:
        """More changed than one step takes: a part of it, under a head between here and there that names no place.

        There are enough of those: a record changes 128 units at most, and a part is a thousand.
        """
        if self._next_between() >= place.offset:  # units that changed without a record
            if not state.complete:
                return Step.GONE
            self.refill(state)
            return Step.UNKNOWN
        part = dict(islice(self._dirty.items(), MOVE_UNITS))
        for unit in part:
            del self._dirty[unit]
        step = self._move(place, state, part, between=True)
        if step is not Step.DONE:
            self._unknown = part
        return step

    def _learn_its_fate(self) -> bool:
        """Was the step taken whose answer did not come? A store that answers late must not be sent it over and over."""
        try:
            at = self._store.head(self._partition)
        except StateUnavailable:
            self._failed()
            return False
        self._answered()
        taken = bool(self._tried) and at == self._tried[-1]
        if taken:
            self._left_at(at)
        unknown, self._unknown = self._unknown, {}
        part, self._open_part = self._open_part, None
        if part is not None:
            self._after_part(part, taken=taken)
        if at is not None and at in self._tried and at.verdict_offset == self._asked and not is_filling(at):
            self._refill, self._stored = None, at  # an earlier try of the last part is here, and the place is the same
        if taken:
            self._rebased(unit for unit, deltas in unknown.items() if deltas is None)
            return True
        for unit, deltas in unknown.items():
            later = self._dirty.get(unit, [])
            self._dirty[unit] = None if deltas is None or later is None else [*deltas, *later]
        return True

    def _append(self, unit: str, delta: Delta) -> None:
        left, queued = self._deltas_left.get(unit, 0), self._dirty.setdefault(unit, [])
        if queued is None:
            return
        aged = self._now_ms > self._many_until_ms.get(unit, self._now_ms)
        weight = 1 if delta.ids is None else len(delta.ids[unit])
        if left < weight or aged or len(queued) >= limits.IDS_DELTAS_MAX:
            self._dirty[unit] = None
        else:
            self._deltas_left[unit] = left - weight
            queued.append(delta.encoded(unit))

    def _rebased(self, units: Iterable[str]) -> None:
        for unit in units:
            self._deltas_left[unit] = limits.DELTAS_BEFORE_REBASE
            self._many_until_ms.pop(unit, None)

    def _may_double(self, unit: str, ids: int) -> None:
        """Ids are many in a flood, and each is replayed at once; what has aged out by a turn of the ring shall go."""
        if ids > limits.DELTAS_BEFORE_REBASE:
            self._deltas_left[unit] = min(ids, limits.IDS_DELTAS_MAX)
            self._many_until_ms[unit] = self._now_ms + SLOTS * SLOT_MS

    def _move(
        self, place: Place, state: State, dirty: Mapping[str, list[bytes] | None], *, between: bool = False
    ) -> Step:
        """One try; with `between` others follow before the store may be started from."""
        offset, header = self._next_between() if between else place.offset, self._header(None if between else place)
        whole = [unit for unit, deltas in dirty.items() if deltas is None]
        bases = {u: state.packed(u) or encode_unit(state.confirmed(u), place.offset, place.header.t) for u in whole}
        deltas = {u: d for u, d in dirty.items() if d is not None}
        head = StoredHead(offset, place.header.epoch, header)
        move = Move(self._partition, self._stored, head, bases, deltas)
        self._tried.append(head)
        try:
            at = self._store.move(move)
        except StateUnavailable:
            self._failed()
            return Step.UNKNOWN
        self._answered()
        if at is not None:
            return self._refused(at, state)
        self._left_at(head)
        self._rebased(bases)
        for unit, added in deltas.items():
            state.weigh(unit, sum(map(len, added)), more=True)
        for unit, base in bases.items():
            state.weigh(unit, len(base))
            if state.packed(unit) is None:
                state.forget(unit, forgotten(state.confirmed(unit), place.header.t))
                if is_of_ids(unit):
                    self._may_double(unit, len(state.confirmed(unit)))
        return Step.DONE

    def _answered(self) -> None:
        self._metrics.gauge("harness_redis_up", 1)
        if not self._answers:
            log.info("partition %d: the state store answers again", self._partition)
        self._answers, self._silent_since_ms = True, None

    def _failed(self) -> None:
        """One late answer is none that anybody needs to look at; silence is."""
        self._metrics.count("harness_state_failures_total", call="move")
        self._not_before_ms = self._now_ms + RETRY_MS
        self._silent_since_ms = self._now_ms if self._silent_since_ms is None else self._silent_since_ms
        if self._answers and self._now_ms - self._silent_since_ms >= limits.STORE_PATIENCE_MS:
            what = f"partition {self._partition}: the state store does not answer; going on from memory"
            sound(log, Alarm.STORE_SILENT, what)
            self._answers = False
            self._metrics.gauge("harness_redis_up", 0)

    def _stands_at(self, place: Place) -> bool:
        return self._stored is not None and self._stored.verdict_offset == place.offset

    def _is_own(self, at: StoredHead | None) -> bool:
        """Was it left there, or may it have been, by a step whose answer did not come?"""
        return at == self._stored or at in self._tried

    def _left_at(self, at: StoredHead | None) -> None:
        self._stored = at
        self._tried.clear()

    def _header(self, place: Place | None) -> bytes:
        """Of the next try; each has a number, so that one that arrives late is not taken for a later one."""
        step = self._next_token()
        if place is None:
            return FILLING + self._writer + b":%d" % step
        return orjson.dumps({**place.to_json(), "step": step})

    def _next_between(self) -> int:
        """Offset of a step that names no place. There are enough: a record changes 128 units, and a part has more."""
        return (self._stored or NOWHERE).verdict_offset + 1

    def _is_earlier(self, at: StoredHead) -> bool:
        """Is it certain that no later owner left it there? Of the own epoch nobody but ourselves is."""
        own = at.epoch == self._epoch and self._writer in at.header
        return at.epoch < self._epoch or own or at == self._met

    def _may_be_newer(self, at: StoredHead, now_ms: int) -> bool:
        """As long as the log may still tell of a later owner. If it does not, a load finds out what that is."""
        if self._is_earlier(at):
            return False
        if self._doubted is None or self._doubted[0] != at:
            self._doubted = at, now_ms
        return now_ms - self._doubted[1] < NEWER_MS

    def _refused(self, at: StoredHead, state: State) -> Step:
        """The store stands elsewhere: at a step whose answer was lost, at a newer owner's, or it is another store.

        A former owner's last step is of this log as well. Yet nothing here tells it from a step of records that the log
        has lost, and it is rare.
        """
        if at in self._tried:  # whether it is the last one, its fate tells
            self._stored = at
            return Step.UNKNOWN
        if self._may_be_newer(at, self._now_ms):
            return Step.UNKNOWN
        if not state.complete or not self._is_earlier(at):
            return Step.GONE
        before = (self._stored or NOWHERE).verdict_offset
        stands = "is empty" if at.verdict_offset < 0 else f"stands at {at.verdict_offset}"
        what = f"partition {self._partition}: the state store {stands} and was left at {before}; filling it anew"
        sound(log, Alarm.STORE_REPLACED, what)
        self.refill(state)
        return Step.UNKNOWN

    def _fill(self, place: Place, state: State) -> Step:
        """The next part of a refill. Its heads are counted, so they rise, and only the last one names a place."""
        if not self._emptied:
            return self._empty()
        todo = self._refill or []
        part, rest = todo[:REFILL_UNITS], todo[REFILL_UNITS:]
        last = frozenset(part)
        late = [] if rest else [unit for unit in self._dirty if unit not in last]
        if len(part) + len(late) > MOVE_UNITS:  # those first, before the head may name a place
            rest, late = late, []
        if rest and self._next_between() >= place.offset:  # late ones took offsets of others
            self.refill(state)
            return Step.UNKNOWN
        units = part if rest else [*part, *late]
        for unit in units:  # what changes from here on comes after this step
            self._dirty.pop(unit, None)
        step = self._move(place, state, dict.fromkeys(units), between=bool(rest))
        if step is Step.DONE:
            self._after_part(Part(units, rest), taken=True)
        else:
            self._open_part = Part(units, rest)
        return step

    def _after_part(self, part: Part, *, taken: bool) -> None:
        """A step of the refill was taken or not; sent again as it is, it would be refused for ever."""
        if not taken:
            self._dirty.update(dict.fromkeys(part.units))
            return
        self._rebased(part.units)
        self._refill = part.rest or None

    def _empty(self) -> Step:
        """What no later owner can have left."""
        try:
            at = self._store.head(self._partition)
            if at is None or self._is_earlier(at):
                self._emptied = self._store.clear(self._partition, at)
            elif not self._may_be_newer(at, self._now_ms):
                return Step.GONE
        except StateUnavailable:
            self._failed()
        return Step.UNKNOWN
