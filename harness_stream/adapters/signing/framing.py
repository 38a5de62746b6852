"""What exactly is signed: every statement as one unambiguous run of bytes (PROTOCOL §9).

Rule of this file: each statement begins with its domain, and each part stands behind its length, so that no two
statements have the same bytes, whatever their parts hold. A signature made for one purpose is never one for another.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

MAC_DOMAIN: Final = b"harness-stream/1 input mac"
MAC_KEY_DOMAIN: Final = b"harness-stream/1 input mac key"
INPUT_DOMAIN: Final = b"harness-stream/1 input signature"
BATCH_DOMAIN: Final = b"harness-stream/1 decision batch"
RULES_DOMAIN: Final = b"harness-stream/1 rules record"
CERTIFICATE_DOMAIN: Final = b"harness-stream/1 certificate"
ENFORCER_DOMAIN: Final = b"harness-stream/1 enforcer certificate"
ENFORCER_TEXT_DOMAIN: Final = b"harness-stream/1 enforcer certificate text"
TOKEN_DOMAIN: Final = b"harness-stream/1 token"
TOKEN_TEXT_DOMAIN: Final = b"harness-stream/1 token text"

# No part is longer than a record: 64 KiB of an intent.
_LENGTH: Final = struct.Struct(">I")
_NUMBER: Final = struct.Struct(">Q")


class Bound(NamedTuple):
    """What every signature of a realm is bound to (PROTOCOL §1).

    Attributes:
        realm: its name.
        incarnation: ids of its two log topics; another one is another realm.
    """

    realm: str
    incarnation: str

    def parts(self) -> tuple[bytes, bytes]:
        """As they stand in a statement."""
        return self.realm.encode(), self.incarnation.encode()


def framed(domain: bytes, parts: Iterable[bytes]) -> bytes:
    """Domain and parts, each behind its length in 4 bytes, big-endian."""
    return b"".join(_LENGTH.pack(len(part)) + part for part in (domain, *parts))


def unframed(domain: bytes, data: bytes, count: int) -> list[bytes] | None:
    """The `count` parts of what `framed` made of that domain; None if it is anything else. Looks at each byte once."""
    parts: list[bytes] = []
    at = 0
    while at < len(data) and len(parts) <= count:
        start = at + _LENGTH.size
        if start > len(data):
            return None
        at = start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]
        parts.append(data[start:at])
    fits = at == len(data) and len(parts) == count + 1 and parts[0] == domain
    return parts[1:] if fits else None


def number_of(part: bytes) -> int | None:
    """The integer of a part, None if it is none."""
    return _NUMBER.unpack(part)[0] if len(part) == _NUMBER.size else None


def number(value: int) -> bytes:
    """An integer of 0 to 2^64 − 1 as a part."""
    return _NUMBER.pack(value)


def input_frame(domain: bytes, bound: Bound, topic: str, lane: str) -> bytes:
    """What an input's MAC or signature is over, but for its value: the same for all of a lane's inputs."""
    return framed(domain, (*bound.parts(), topic.encode(), lane.encode()))


def with_value(frame: bytes, value: bytes) -> bytes:
    """An input's whole statement."""
    return b"".join((frame, _LENGTH.pack(len(value)), value))
