"""Snapshots of changed units to the chains topic, off the path (PROTOCOL §6).

Rule of this file: a cycle first notes where the confirmed fold stands, then writes every unit changed since the last
cycle (each says as of which record), and when all are delivered the partition's own unit with that place. Only then the
cut moves: snapshots hold every change up to it. A unit too large for one record comes in pieces, and in each sealed
cycle under the other one of two keys: pieces of a cycle that breaks off never replace those that count.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from harness_stream.core.reigns import REIGNS_KEY, outlived
from harness_stream.core.state import PARTITION_UNIT, State, Unit
from harness_stream.core.units import as_of, decode_part, decode_parts, encode_parts, forgotten, is_of_another_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from harness_stream.core.fold import Place
    from harness_stream.core.reigns import Reign
    from harness_stream.ports import Delivery, LogRecord, LogWriter, Metrics

PLACE_KEY = ("place",)
"""In the partition's snapshot: the place of the fold at the cut."""

# What one turn of the loop may write: 16 units of at most ~150 KiB take about 3 ms to encode.
UNITS_PER_TURN = 16
# A cycle takes this part of the time between two, however few its units: all partitions of a worker begin theirs at
# about the same time, and at one go those of 8 with 1,000 agents made turns of 100 ms last up to 250 for four seconds.
SPREAD_SHARE = 2
# Records of a cycle on their way at once: at most 128 MiB in pieces of 512 KiB, and far less in ordinary units.
OPEN_MAX = 256


class Snapshot(NamedTuple):
    """A unit as the chains topic holds it.

    Attributes:
        epoch: of its writer.
        as_of: verdict offset up to which every change of the unit is in it.
        pieces: what was written; more than one if it was too large for a record.
    """

    epoch: int
    as_of: int
    pieces: tuple[bytes, ...]


class Key(NamedTuple):
    """A record's key: `log/unit@epoch`, of a piece `log/unit@epoch#number~turn`; `log` names the incarnation.

    A key per epoch: what a former owner still had under way can never replace a newer snapshot. And one per
    incarnation: topics that were recreated begin with nothing, and what was snapshot before is of no log any more.
    """

    unit: str
    epoch: int
    number: int = 0
    turn: int | None = None

    def encode(self, incarnation: str) -> bytes:
        """As the record has it."""
        piece = "" if self.turn is None else f"#{self.number}~{self.turn}"
        return f"{_log_of(incarnation)}/{self.unit}@{self.epoch}{piece}".encode()


# Epochs stay below 2^53. A number of any length would be refused by `int`, and the partition would not load.
_KEY = re.compile(
    r"(?P<log>[0-9a-f]{8})/(?P<unit>.+)@(?P<epoch>[0-9]{1,16})(?:#(?P<number>[0-9]{1,9})~(?P<turn>[01]))?",
    re.DOTALL,
)


@cache
def _log_of(incarnation: str) -> str:
    return hashlib.sha256(incarnation.encode()).hexdigest()[:8]


def key_of(record: LogRecord, incarnation: str) -> Key | None:
    """What a record of the chains topic is; None if it is none of ours, or of another incarnation."""
    found = _KEY.fullmatch((record.key or b"").decode(errors="replace"))
    if found is None or found["log"] != _log_of(incarnation):
        return None
    turn = found["turn"]
    return Key(found["unit"], int(found["epoch"]), int(found["number"] or 0), None if turn is None else int(turn))


class Gathered:
    """Every unit's newest snapshot, which is the latest owner's.

    A former one's late write has a key of its own, may come last, and changes nothing any more.

    Args:
        incarnation: whose; all others are passed.

    Attributes:
        units: unit → its newest.
        broken: unit → epoch, of those whose newest record is no snapshot: what is known of them may be too old.
    """

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self.broken: dict[str, int] = {}
        self.units: dict[str, Snapshot] = {}
        self._pieces: dict[tuple[Key, int, int], dict[int, bytes]] = {}

    def reigns(self) -> tuple[Reign, ...]:
        """As the latest owner sealed them; none if no cycle was ever sealed.

        Raises:
            ValueError: what was sealed cannot be read.
        """
        sealed = self.units.get(PARTITION_UNIT)
        values = {} if sealed is None else decode_parts(sealed.pieces)
        return tuple(values.get(REIGNS_KEY) or ())

    def lost(self, reigns: Sequence[Reign]) -> list[str]:
        """Units whose newest snapshot stands on records that were lost: it may have taken the place of a good one."""
        return [unit for unit, found in self.units.items() if outlived(reigns, found.epoch, found.as_of)]

    def take(self, record: LogRecord) -> None:
        """The next record.

        A tombstone ends whatever was said of its unit before: an operator resumed the partition without it.
        """
        key = key_of(record, self._incarnation)
        if key is None:
            return
        if record.value is None:
            self._forget(key.unit)
            return
        if is_of_another_version(record.value):  # all that this one knows was written anew before it sealed anything
            return
        if key.turn is None:
            stands = as_of(record.value)
            if stands is None:
                self.broken[key.unit] = key.epoch
                return
            whole: Snapshot | None = Snapshot(key.epoch, stands, (record.value,))
        else:
            whole = self._together(key, record.value)
        if whole is not None:
            self._keep(key, whole)

    def _together(self, key: Key, value: bytes) -> Snapshot | None:
        """The unit, if this was the last of its pieces."""
        try:
            part = decode_part(value)
        except ValueError:
            self.broken[key.unit] = key.epoch
            return None
        together = self._pieces.setdefault((key._replace(number=0), part.as_of, part.mark), {})
        together[part.number] = value
        pieces = tuple(together[number] for number in sorted(together))
        return Snapshot(key.epoch, part.as_of, pieces) if len(pieces) == part.of else None

    def _forget(self, unit: str) -> None:
        self.units.pop(unit, None)
        self.broken.pop(unit, None)
        self._pieces = {piece: parts for piece, parts in self._pieces.items() if piece[0].unit != unit}

    def _keep(self, key: Key, snapshot: Snapshot) -> None:
        if key.epoch >= self.broken.get(key.unit, key.epoch):
            self.broken.pop(key.unit, None)
        known = self.units.get(key.unit)
        if known is None or (snapshot.epoch, snapshot.as_of) >= (known.epoch, known.as_of):
            self.units[key.unit] = snapshot


class Snapshots:
    """Writes one partition's snapshots.

    Args:
        topic: the chains topic.
        partition: co-numbered with the decision log's.
        writer: the log.
        next_token: gives the tokens by which deliveries are told apart.
        interval_ms: time between cycles.
        metrics: where cycles count.
        cut: verdict offset the snapshots hold everything up to, −1 if there are none.

    Attributes:
        offsets: unit → offset of its newest snapshot in the chains topic, as far as known and if it is one record.
        in_pieces: units whose newest one is not.
        unscanned: records (first, last) whose units may have changed since the cut, not yet looked at: then no cycle
            begins and nothing is clean.
        stored: verdict offset of the store that was loaded: units that were changed and not in memory since then stand
            there. None: no unit is known to.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        writer: LogWriter,
        next_token: Callable[[], int],
        interval_ms: int,
        metrics: Metrics,
        cut: int,
    ) -> None:
        self.cut = cut
        self._topic, self._partition, self._writer = topic, partition, writer
        self._next_token, self._interval_ms, self._metrics = next_token, interval_ms, metrics
        self.offsets: dict[str, int] = {}
        self.in_pieces: set[str] = set()
        self.unscanned: tuple[int, int] | None = None
        self.stored: int | None = None
        self._changed: set[str] = set()
        self._cycle: list[str] | None = None  # not yet written
        self._units = 0  # of the cycle, when it began
        self._due: set[str] = set()  # of the cycle, not yet delivered
        self._place: Place | None = None
        self._partition_values: Unit = {}
        self._sealing = False
        self._open: dict[int, Key] = {}
        self._pieces_open: Counter[str] = Counter()
        self._turns: dict[str, int] = {}  # unit in pieces → the turn that counts
        self._written: dict[str, int] = {}  # of this cycle
        self._started_ms: int | None = None
        self._epoch, self._incarnation = 0, ""

    def scan(self, first: int, last: int) -> None:
        """What the topic holds, and which units records `first` to `last` changed, is to be found out first."""
        self.unscanned = (first, last)

    def scanned(self, changed: Iterable[str], stored: int | None) -> None:
        """It was found out; `stored` as the attribute."""
        self._changed.update(changed)
        self.unscanned, self.stored = None, stored

    def changed(self, units: frozenset[str]) -> None:
        """Units that a confirmed micro-batch changed."""
        self._changed |= units

    def is_clean(self, unit: str) -> bool:
        """Does the newest snapshot hold the unit as it is confirmed, and is it in the log?"""
        return self.unscanned is None and unit not in self._changed and unit not in self._due

    def step(self, now_ms: int, place: Place, state: State, fetch: Callable[[list[str]], bool]) -> None:
        """Write a little; `fetch` brings cold units into memory and says whether all are there."""
        self._epoch, self._incarnation = place.header.epoch, place.header.incarnation
        if self._cycle is None:
            self._begin(now_ms, place, state)
        elif self._cycle and len(self._open) < OPEN_MAX:
            count = self._due_now(now_ms)
            part, rest = self._cycle[:count], self._cycle[count:]
            if not part or not fetch(part):
                return
            self._cycle = rest
            for unit in part:
                self._write(unit, self._pieces_of(unit, place, state))
        elif not self._cycle and not self._open:
            self._seal()

    def _due_now(self, now_ms: int) -> int:
        """How many of the cycle's units this turn writes, so that they are spread over its time."""
        spread_ms, elapsed_ms = self._interval_ms // SPREAD_SHARE, now_ms - (self._started_ms or 0)
        if elapsed_ms >= spread_ms or self._cycle is None:
            return UNITS_PER_TURN
        done = self._units - len(self._cycle)
        return max(0, min(UNITS_PER_TURN, self._units * elapsed_ms // spread_ms - done))

    def _pieces_of(self, unit: str, place: Place, state: State) -> Sequence[bytes]:
        packed = state.packed(unit)
        if packed is not None:
            return [packed]
        state.forget(unit, forgotten(state.confirmed(unit), place.header.t))  # the store may be away for long
        pieces = encode_parts(state.confirmed(unit), place.offset, place.header.t, self._next_token())
        state.weigh(unit, sum(map(len, pieces)))
        return pieces

    def delivered(self, delivery: Delivery) -> None:
        """A unit was written, or not: then the cycle starts over with what it had and what came since."""
        key = self._open.pop(delivery.token, None)
        if key is None:
            return
        if delivery.offset is None:
            self.restart()
            return
        self._pieces_open[key.unit] -= 1
        if not self._pieces_open[key.unit]:
            del self._pieces_open[key.unit]
            self.found(key, delivery.offset)
            self._due.discard(key.unit)

    def found(self, key: Key, offset: int) -> None:
        """The newest snapshot of a unit (its last piece) is at this offset."""
        if key.turn is None:
            self.offsets[key.unit] = offset
            self.in_pieces.discard(key.unit)
        else:
            self.offsets.pop(key.unit, None)
            self.in_pieces.add(key.unit)

    def dropped(self, unit: str) -> None:
        """No snapshot of a unit counts any more."""
        self.offsets.pop(unit, None)
        self.in_pieces.discard(unit)

    def restart(self) -> None:
        """Begin the cycle anew with what is not known to have been written."""
        self._changed |= self._due
        self._due.clear()
        self._cycle, self._sealing = None, False
        self._open.clear()
        self._pieces_open.clear()
        self._written = {}

    def _begin(self, now_ms: int, place: Place, state: State) -> None:
        started = self._started_ms if self._started_ms is not None else now_ms
        self._started_ms = started
        if now_ms - started < self._interval_ms or not self._changed or self.unscanned is not None:
            return
        self._started_ms, self._place = now_ms, place
        # As of this place, not of when the cycle ends: a switch or a takeover in between belongs to the next one.
        self._partition_values = {**state.confirmed(PARTITION_UNIT), PLACE_KEY: place.to_json()}
        # The partition's own unit is due until it seals the cycle, so a cycle that fails is always begun anew.
        self._due, self._changed = self._changed | {PARTITION_UNIT}, set()
        self._cycle = sorted(self._due - {PARTITION_UNIT})
        self._units = len(self._cycle)

    def _seal(self) -> None:
        if self._place is None:
            return
        if self._sealing:
            self.cut = self._place.offset
            self._turns |= self._written
            self._written = {}
            self._cycle, self._sealing = None, False
            self._metrics.count("harness_snapshots_total")
            return
        place, mark = self._place, self._next_token()
        self._write(PARTITION_UNIT, encode_parts(self._partition_values, place.offset, place.header.t, mark))
        self._sealing = True

    def _write(self, unit: str, pieces: Sequence[bytes]) -> None:
        turn = None
        if len(pieces) > 1:
            turn = self._written[unit] = 1 - self._turns.get(unit, 1)
        for number, piece in enumerate(pieces):
            key, token = Key(unit, self._epoch, number, turn), self._next_token()
            self._writer.append(self._topic, self._partition, key.encode(self._incarnation), piece, (), token=token)
            self._open[token] = key
            self._pieces_open[unit] += 1
