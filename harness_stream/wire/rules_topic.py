"""Records of the rules topic: bundles by their digests, and which one a realm decides by.

Rule of this file: a record that cannot be read names nothing, so the one before it counts, for workers and people.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable


class Pushed(NamedTuple):
    """What an active record names.

    Attributes:
        digest: of the bundle.
        revision: ≥ 1, only rises.
        now: to be switched to without warming its windows.
    """

    digest: str
    revision: int
    now: bool = False

    def encode(self) -> bytes:
        """The record's value."""
        return orjson.dumps(self._asdict())


def bundle_key(digest: str) -> bytes:
    """Key of a bundle's record; the value is the bundle's text."""
    return f"bundle/{digest}".encode()


def active_key(rule_set: str) -> bytes:
    """Key of the record that says which bundle is active."""
    return f"active/{rule_set}".encode()


def read_active(value: bytes | None) -> Pushed | None:
    """What an active record names, None if it cannot be read."""
    try:
        body: Any = orjson.loads(value or b"")
        digest, revision = body["digest"], body["revision"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    whole = type(revision) is int and revision >= 1
    return Pushed(digest, revision, body.get("now") is True) if isinstance(digest, str) and whole else None


def newest_active(records: Iterable[tuple[bytes | None, bytes | None]], rule_set: str) -> Pushed | None:
    """The last one of a rule set that can be read, of (key, value) in the order of the log."""
    name, newest = active_key(rule_set), None
    for key, value in records:
        if key == name:
            newest = read_active(value) or newest
    return newest
