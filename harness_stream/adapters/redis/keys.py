"""Every key this project has in Redis, and nothing else builds one.

Rule of this file: all keys of one partition carry one hash tag, `{<realm>/<incarnation>/<partition>}`, so that a Redis
Cluster keeps them in one slot and one script may touch them all. The realm is percent-encoded: neither a brace nor a
slash in its name can move the tag or meet another realm's keys. The incarnation of the log topics is part of it, since
offsets begin anew in topics that were recreated, and a dump of before would else be taken for state of theirs. Unit
names end the key and stand as they are.

    hs:{…}:head       HASH  offset, epoch, units: decimal, how many names; header: bytes. Present iff all is whole
    hs:{…}:units      SET   names of all units that were ever written under this head
    hs:{…}:u:<unit>   LIST  first `b` + base, or `-` if the base is lost; then deltas, oldest first

No key expires: a partition's state lives until it is cleared. `maxmemory` with any eviction policy is survived: a unit
that is listed and has no list is lost, a head that is gone, or that counts other names than there are, makes the whole
partition count as empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

if TYPE_CHECKING:
    from harness_stream.config import Settings

MARK_BASE: Final = b"b"  # first byte of a unit's first element: the base follows
MARK_NO_BASE: Final = b"-"  # a unit's first element where deltas arrived for a unit without a base


class Whose(NamedTuple):
    """Of which logs.

    Attributes:
        realm: realms on one server do not see each other.
        incarnation: ids of the two log topics.
    """

    realm: str
    incarnation: str

    @classmethod
    def of(cls, settings: Settings, incarnation: str) -> Whose:
        """As every program of a realm names it."""
        return cls(f"{settings.realm}/{settings.prefix}", incarnation)


def _prefix(whose: Whose, partition: int) -> str:
    return f"hs:{{{quote(whose.realm, safe='')}/{quote(whose.incarnation, safe='')}/{partition}}}:"


def pattern(realm: str) -> str:
    """A glob that all keys of a realm match and no other's do: what is special in one is percent-encoded."""
    return f"hs:{{{quote(realm, safe='')}/*}}:*"


def head(whose: Whose, partition: int) -> bytes:
    """HASH of the confirmed head."""
    return f"{_prefix(whose, partition)}head".encode()


def units(whose: Whose, partition: int) -> bytes:
    """SET of the partition's unit names."""
    return f"{_prefix(whose, partition)}units".encode()


def unit_prefix(whose: Whose, partition: int) -> bytes:
    """What every unit's key begins with; the unit's name follows."""
    return f"{_prefix(whose, partition)}u:".encode()


def unit(whose: Whose, partition: int, name: str) -> bytes:
    """LIST of one unit's base and deltas."""
    return unit_prefix(whose, partition) + name.encode()
