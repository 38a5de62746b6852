"""Names of units: what is stored, fetched and evicted as a whole. Rule of this file: a name says whose unit it is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final
from zlib import crc32

from harness_stream.core import limits

_LANE_PREFIX: Final = "l:"
_SHARD_PREFIX: Final = "s:"
_SHARD_PREFIX_LENGTH: Final = len("s:00:")


def agent_unit(agent_id: str) -> str:
    """Name of the unit that holds an agent with its chains."""
    return f"a:{agent_id}"


def lane_unit(lane: str) -> str:
    """Name of the unit that holds what a lane's agents share."""
    return f"{_LANE_PREFIX}{lane}"


def lane_shard(lane: str, group: tuple[Any, ...]) -> str:
    """Name of the unit that holds one of a lane's many groups."""
    return _shard(lane, crc32(repr(group).encode()) % limits.LANE_SHARDS)


@lru_cache(maxsize=4_096)  # asked with every change; beyond so many lanes in a worker it costs what it did
def lane_shards(lane: str) -> tuple[str, ...]:
    """Names of all of them, whether or not they exist."""
    return tuple(_shard(lane, number) for number in range(limits.LANE_SHARDS))


def is_shard(unit: str) -> bool:
    """Does the unit hold nothing but many groups of a lane?"""
    return unit.startswith(_SHARD_PREFIX)


def lane_of_unit(unit: str) -> str | None:
    """The lane whose unit or shard this is, None if it is none of a lane's."""
    if unit.startswith(_LANE_PREFIX):
        return unit[len(_LANE_PREFIX) :]
    return unit[_SHARD_PREFIX_LENGTH:] if is_shard(unit) else None


def _shard(lane: str, number: int) -> str:
    return f"{_SHARD_PREFIX}{number:02d}:{lane}"
