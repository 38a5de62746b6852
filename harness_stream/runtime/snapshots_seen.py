"""What the chains topic holds of a partition, as a command reads it: judged as a worker that loads judges it.

Rule of this file: nothing is written. What keeps a worker from beginning with these snapshots (`loading.Loader`) is
found here by the same questions, the log behind the seal included; else an operator would be told that all is well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness_stream.core.fold import Place
from harness_stream.core.reigns import begun, outlived
from harness_stream.core.state import PARTITION_UNIT
from harness_stream.core.units import decode_parts
from harness_stream.runtime.snapshots import PLACE_KEY, Gathered
from harness_stream.runtime.to_end import read_to_end
from harness_stream.wire.decisions import read_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness_stream.core.reigns import Reign
    from harness_stream.runtime.snapshots import Snapshot
    from harness_stream.runtime.standing import Source


@dataclass(frozen=True, slots=True)
class Snapshotted:
    """What the chains topic holds of a partition.

    Attributes:
        place: where all snapshots stand at least, None if no cycle was ever sealed, or one stands on lost records.
        furthest: highest verdict offset that any of them has in it, −1 if there are none.
        keys: of all of them.
        units: every unit's newest.
        broken: units whose newest one is none, as its first and last bytes tell.
        reigns: as they were sealed.
    """

    place: Place | None
    furthest: int
    keys: tuple[bytes, ...]
    units: Mapping[str, Snapshot]
    broken: frozenset[str]
    reigns: tuple[Reign, ...]


def snapshotted(source: Source, partition: int) -> Snapshotted:
    """What the chains topic holds (raises BrokerUnavailable)."""
    gathered, keys = Gathered(source.incarnation), dict[bytes, None]()
    for record in read_to_end(source.reader, source.topics.chains, partition, source.clock):
        gathered.take(record)
        if record.key is not None and record.value is not None:
            keys[record.key] = None
        elif record.key is not None:
            keys.pop(record.key, None)
    units, reigns = gathered.units, _reigns(gathered)
    sealed = units.get(PARTITION_UNIT)
    place = None if sealed is None or gathered.lost(reigns) else _sealed_place(sealed.pieces, source.incarnation)
    furthest = max((unit.as_of for unit in units.values()), default=-1)
    return Snapshotted(place, furthest, tuple(keys), units, frozenset(gathered.broken), reigns)


def _reigns(gathered: Gathered) -> tuple[Reign, ...]:
    try:
        return gathered.reigns()
    except ValueError:
        return ()  # `unreadable` names it


def _sealed_place(pieces: tuple[bytes, ...], incarnation: str) -> Place | None:
    try:
        values = decode_parts(pieces)
    except ValueError:
        return None
    place = Place.from_json(values[PLACE_KEY]) if PLACE_KEY in values else None
    return place if place is not None and place.header.incarnation == incarnation else None


def lost_record(source: Source, seen: Snapshotted) -> int | None:
    """The first record that a snapshot stands on and that is none of this log's, None if there is no such.

    Snapshots may be newer than their seal. What they stand on must then be an effective record, of the owner who wrote
    them; only the log behind the seal tells (raises BrokerUnavailable).
    """
    if seen.place is None:
        return None
    newer = [(unit.epoch, unit.as_of) for unit in seen.units.values() if unit.as_of > seen.place.offset]
    if not newer:
        return None
    reigns, met = seen.reigns, set[int]()
    for place, kind in _effective(source, seen.place):
        met.add(place.offset)
        if kind in {"claim", "resume"}:
            reigns = begun(reigns, place.header.epoch, place.offset)
    lost = [as_of for epoch, as_of in newer if as_of not in met or outlived(reigns, epoch, as_of)]
    return min(lost, default=None)


def _effective(source: Source, place: Place) -> Iterator[tuple[Place, str]]:
    topic, partition = source.topics.verdicts, place.header.partition
    for record in read_to_end(source.reader, topic, partition, source.clock, place.offset + 1):
        body, digest = read_body(record.value)
        after = place.after(record.offset, body, digest) if source.verifier.decision_authentic(record) else None
        if after is not None:
            place = after
            yield place, str(body["kind"])


def unreadable(seen: Snapshotted) -> str | None:
    """A unit whose snapshot cannot be taken apart, None if all can: as dear as a worker's look into every agent."""
    return next(_unreadable(seen.units, sorted(seen.broken)), None)


def _unreadable(units: Mapping[str, Snapshot], broken: Sequence[str]) -> Iterator[str]:
    yield from broken
    for name, unit in units.items():
        try:
            decode_parts(unit.pieces)
        except ValueError:
            yield name
