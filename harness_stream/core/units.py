"""A unit of state as bytes and back: what Redis and snapshots hold (PROTOCOL §6).

Rule of this file: what is left out when a unit is written can never be seen by a decision: forgotten ids, answered
holds, windows nobody can reach into any more. So a unit read back decides exactly as the one in memory.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from harness_stream.core import limits
from harness_stream.core.answered import answered_from_json
from harness_stream.core.apply import Change, apply_within
from harness_stream.core.chain import Agent, Chain, ClosedChain, OpenHold
from harness_stream.core.deferred import group_of
from harness_stream.core.delegation import Delegation, Tree
from harness_stream.core.fold import DENIALS, Place
from harness_stream.core.groups import Kept, Room
from harness_stream.core.ids import Lineage, Remembered, is_of_ids, told
from harness_stream.core.provenance import ValueMap
from harness_stream.core.state import PARTITION_UNIT, Key, State, Unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness_stream.core.reigns import Reign
    from harness_stream.core.rules.windows import Windows

VERSION = 5


def encode_unit(values: Mapping[Key, Any], as_of: int, t: int) -> bytes:
    """A confirmed unit's bytes.

    Args:
        values: the unit.
        as_of: decision-log offset up to which every change is in it.
        t: chain time; what can no longer matter then is left out.
    """
    return _dumped({"v": VERSION, "as_of": as_of, "items": _items(values, t)})


def encode_parts(values: Mapping[Key, Any], as_of: int, t: int, mark: int) -> list[bytes]:
    """The same in pieces that each fit into one record; most units are one piece, as `encode_unit` writes it.

    Nothing bounds a whole unit below a record's size: an agent may keep 256 chains. But each value alone is bounded.

    Args:
        values: the unit.
        as_of: decision-log offset up to which every change is in it.
        t: chain time; what can no longer matter then is left out.
        mark: tells the pieces of this call from all others.
    """
    items = _items(values, t)
    whole = _dumped({"v": VERSION, "as_of": as_of, "items": items})
    if len(whole) <= limits.PART_BYTES_MAX:
        return [whole]
    pieces: list[list[Any]] = [[]]
    size = 0
    for item in items:
        size += len(_dumped(item)) + 1
        if size > limits.PART_BYTES_MAX and pieces[-1]:
            pieces.append([])
            size = len(_dumped(item)) + 1
        pieces[-1].append(item)
    count = len(pieces)
    return [
        _dumped({"v": VERSION, "as_of": as_of, "items": piece, "part": [number, count, mark]})
        for number, piece in enumerate(pieces)
    ]


def _items(values: Mapping[Key, Any], t: int) -> list[Any]:
    kept = ((_tuple(key), value) for key, value in values.items() if _matters(key, value, t))
    return [[list(key), _PLAIN[key[0]](value)] for key, value in kept]


def _dumped(content: Any) -> bytes:
    return orjson.dumps(content, default=list, option=orjson.OPT_NON_STR_KEYS)


def forgotten(values: Mapping[Key, Any], t: int) -> list[Key]:
    """Keys that no decision at or after chain time t can see: memory may drop them as a stored unit does."""
    return [key for key, value in values.items() if not _matters(key, value, t)]


class Part(NamedTuple):
    """A piece of a unit.

    Attributes:
        values: some of the unit's.
        as_of: decision-log offset up to which every change is in them.
        number, of: which piece of how many.
        mark: what all pieces of one unit at one time have in common.
    """

    values: Unit
    as_of: int
    number: int = 0
    of: int = 1
    mark: int = 0


def decode_unit(data: bytes) -> tuple[Unit, int]:
    """(unit, as_of), the inverse of `encode_unit`.

    Raises:
        ValueError: the bytes are none of ours.
    """
    return decode_part(data)[:2]


def decode_parts(pieces: Iterable[bytes]) -> Unit:
    """The unit, the inverse of `encode_parts`.

    Raises:
        ValueError: the bytes are none of ours.
    """
    return {key: value for piece in pieces for key, value in decode_part(piece).values.items()}


def decode_part(data: bytes) -> Part:
    """One of what `encode_parts` wrote.

    Raises:
        ValueError: the bytes are none of ours.
    """
    try:
        content = orjson.loads(data)
        if content["v"] != VERSION:
            raise ValueError(f"unit of version {content['v']}")
        values = {_key(key): _RICH[key[0]](value) for key, value in content["items"]}
        return Part(values, *map(_number, (content["as_of"], *content.get("part", ()))))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a unit of state: {error!r:.200}") from None


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"not a number: {value!r:.40}")
    return value


# Beginning and end of what `_dumped` writes of a unit or a piece; offsets have at most 19 digits.
_HEAD: Final = re.compile(rb'\{"v":%d,"as_of":(-?[0-9]{1,19}),"items":\[' % VERSION)
_TAIL: Final = b"]}"


def as_of(data: bytes) -> int | None:
    """As of which record a unit or a piece is, from its first bytes; None if it is none.

    Taking apart every snapshot of a partition, only to know which stands furthest, would cost ten times as much.
    """
    said = _HEAD.match(data) if data.endswith(_TAIL) else None
    return None if said is None else int(said[1])


_VERSIONED: Final = re.compile(rb'\{"v":([0-9]{1,9}),')


def is_of_another_version(data: bytes) -> bool:
    """Did an older or newer engine write this?"""
    said = _VERSIONED.match(data)
    return said is not None and int(said[1]) != VERSION


class Delta:
    """What units need of a change to be replayed, and the decision-log offset it came from.

    Attributes:
        ids: of a run of denials what each unit is told of; None if all are told of one intent.
    """

    __slots__ = ("_change", "_offset", "_whole", "ids")

    def __init__(self, change: Change, offset: int) -> None:
        self._change, self._offset, self._whole = change, offset, b""
        self.ids: Mapping[str, Sequence[Any]] | None = change["ids"] if change["kind"] == DENIALS else None

    def encoded(self, unit: str) -> bytes:
        """As a unit is told of it: all units but those of ids need all of it."""
        if is_of_ids(unit):
            return orjson.dumps([self._offset, told(self._change, unit)])
        self._whole = self._whole or orjson.dumps([self._offset, self._change])
        return self._whole


def replay_unit(
    name: str, base: bytes | None, deltas: Iterable[bytes], partition: Mapping[Key, Any], windows: Windows
) -> Unit:
    """A stored unit as it stands: its base and the deltas after it, through the one `apply_within`.

    Args:
        name: the unit's name.
        base: its bytes, None if it began with a delta.
        deltas: oldest first.
        partition: the partition's own unit, which windows need.
        windows: the compiled rules in force.

    Raises:
        ValueError: the bytes are none of ours.
    """
    values, as_of = decode_unit(base) if base is not None else ({}, -1)
    scratch = State()
    scratch.install(PARTITION_UNIT, partition)
    scratch.install(name, values)
    group = group_of(name)
    for delta in deltas:
        offset, change = _delta(delta)
        if offset > as_of:  # a step whose answer was lost is sent again
            _replay(scratch, group, change, windows)
            as_of = offset
    return dict(scratch.confirmed(name))


def _replay(scratch: State, group: str, change: Change, windows: Windows) -> None:
    """Raises ValueError: it is no change of ours; the fold has applied every true one before it was stored."""
    try:
        apply_within(scratch, change, windows, group)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a change of a unit of state: {error!r:.200}") from error


def _delta(data: bytes) -> tuple[int, dict[str, Any]]:
    """Raises ValueError: the bytes are none of ours."""
    found = orjson.loads(data)
    if not isinstance(found, list) or [type(part) for part in found] != [int, dict]:
        raise ValueError("not a delta of a unit of state")
    return found[0], found[1]


def stands_at(base: bytes | None, deltas: Sequence[bytes]) -> int:
    """Decision-log offset up to which a stored unit holds every change, −1 if that is not said.

    Raises:
        ValueError: the bytes are none of ours.
    """
    stands = as_of(base or b"")
    newest = _delta(deltas[-1])[0] if deltas else -1
    return max(newest, -1 if stands is None else stands)


def _kind(key: Key) -> str:
    return str(_tuple(key)[0])


def _tuple(key: Key) -> tuple[Any, ...]:
    if not isinstance(key, tuple):
        raise TypeError(f"state keys are tuples, not {key!r}")
    return key


def _key(key: list[Any]) -> Key:
    return tuple(tuple(part) if isinstance(part, list) else part for part in key)


def _matters(key: Key, value: Any, t: int) -> bool:
    """A `since` of None says "everything was seen", which its absence does not."""
    if isinstance(value, _WITH_AN_END):  # nearly all
        until: int = value.until
        return until >= t
    kind = _kind(key)
    if value is None:
        return kind == "since"
    if kind in {"held", "hold"}:
        until = value[1] if kind == "held" else value["until"]
        return until + limits.HOLD_MEMORY_MS >= t
    return not isinstance(value, Tree) or not value.forgotten(t)


_WITH_AN_END: Final = (Remembered, Kept, Room, Delegation)


def _same(value: Any) -> Any:
    return value


def _agent(value: list[Any]) -> Agent:
    return Agent(tuple(value[0]), value[1])


def _chain(value: list[Any]) -> Chain:
    chain = Chain(*value)
    return chain._replace(labels=tuple(chain.labels), kept=tuple(chain.kept))


def _lineage(value: list[Any]) -> Lineage:
    return Lineage(value[0], value[1], tuple(value[2]), tuple(value[3]))


def _remembered(value: list[Any]) -> Remembered:
    known = Remembered(*value)
    return known if known.lineage is None else known._replace(lineage=_lineage(list(known.lineage)))


def _delegation(value: list[Any]) -> Delegation:
    return Delegation(value[0], _lineage(value[1]), tuple(value[2]))


def _holds(value: list[Any]) -> tuple[OpenHold, ...]:
    return tuple((intent_id, until) for intent_id, until in value)


def _closed(value: list[Any]) -> tuple[ClosedChain, ...]:
    chains = tuple((chain_id, until) for chain_id, until in value)
    if any(not isinstance(chain_id, str) or type(until) is not int for chain_id, until in chains):
        raise TypeError("closed chains are ids and times")
    return chains


def _kept(value: list[Any]) -> Kept:
    return Kept(value[0], text=value[1])


def _room(value: list[Any]) -> Room:
    return Room(*value)


def _reigns(value: list[Any]) -> tuple[Reign, ...]:
    reigns = tuple((epoch, offset) for epoch, offset in value)
    if any(type(number) is not int for reign in reigns for number in reign):
        raise TypeError("reigns are numbers")
    return reigns


def _place(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """As it was, once it is known that a fold can go on from there."""
    Place.from_json(value)
    return value


def _tree(value: list[Any]) -> Tree:
    return Tree(tuple(value[0]), value[1])


_PLAIN: Mapping[str, Callable[[Any], Any]] = {
    "agent": list,
    "chain": list,
    "id": list,
    "hold": _same,
    "held": _same,
    "holds": list,
    "closed": list,
    "window": lambda kept: [kept.until, kept.text],
    "since": _same,
    "overflow": _same,
    "groups": list,
    "warmups": _same,
    "delegation": list,
    "tree": list,
    "values": ValueMap.to_json,
    "answered": list,
    "place": _same,
    "reigns": list,
}
_RICH: Mapping[str, Callable[[Any], Any]] = {
    **_PLAIN,
    "agent": _agent,
    "chain": _chain,
    "id": _remembered,
    "held": tuple,
    "holds": _holds,
    "closed": _closed,
    "delegation": _delegation,
    "tree": _tree,
    "values": ValueMap.from_json,
    "answered": answered_from_json,
    "window": _kept,
    "groups": _room,
    "reigns": _reigns,
    "place": _place,
}
"""What a key's first word says its value is; `core.apply`, `core.counting`, `core.delegation` write them."""
