"""Key → its newest events, in the order of time: cheap to change, and every version stays as it was.

Rule of this file: nothing that an older version can see is ever changed, because states are kept in layers and a
rollback drops the newer ones. A version is a base that many share and the few changes since it was made; what two
versions hold never depends on when their bases were made.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from harness_stream.core import limits
from harness_stream.core.window.spec import Entry, later

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NEVER = -1
"""Before every chain time."""


class Last(NamedTuple):
    """What is known of one key.

    Attributes:
        known: its newest firm events, oldest first: the newest, and what stands there once that is released; in a map
            there is one.
        older: chain time of the newest one below those; None = there was none.
    """

    known: tuple[Entry, ...] = ()
    older: int | None = None

    @property
    def t(self) -> int:
        """Chain time of the newest known event."""
        return self.known[-1].t if self.known else _NEVER

    def plus(self, entry: Entry) -> Last:
        """With one more event, at its place in time."""
        known = (*self.known, entry)
        if len(known) > 1 and known[-2].t > entry.t:
            known = tuple(sorted(known, key=_entry_time))
        if len(known) <= limits.WINDOW_FIRM_KEPT:
            return Last(known, self.older)
        return Last(known[1:], later(self.older, known[0].t))

    def minus(self, intent_id: str) -> Last:
        """Without an event."""
        return Last(tuple(e for e in self.known if e.id != intent_id), self.older)


class _Base(NamedTuple):
    """Keys in the order of time, what is known of each and when, and where each key stands."""

    keys: tuple[str, ...] = ()
    lasts: tuple[Last, ...] = ()
    times: tuple[int, ...] = ()
    at: Mapping[str, int] = {}

    def get(self, key: str) -> Last | None:
        """What is known of a key."""
        at = self.at.get(key)
        return None if at is None else self.lasts[at]


class Versions(NamedTuple):
    """A version of the map. Of equal times the key that was put later comes later. Equal is what holds the same.

    Attributes:
        base: how it was some changes ago.
        changed: what differs since; None = the key is gone.
        floor: chain time; what is older has left.
    """

    base: _Base = _Base()
    changed: Mapping[str, Last | None] = {}
    floor: int = 0

    @classmethod
    def of(cls, items: Iterable[tuple[str, Last]], floor: int = 0) -> Versions:
        """From keys in the order of time."""
        keys, lasts = zip(*items, strict=True) if (items := tuple(items)) else ((), ())
        return cls(_Base(keys, lasts, tuple(last.t for last in lasts), {k: n for n, k in enumerate(keys)}), {}, floor)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Versions) and (self is other or self.oldest() == other.oldest())

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(tuple(self.oldest()))

    def put(self, changes: Mapping[str, Last | None], floor: int = 0) -> Versions:
        """With other knowledge of some keys (None: gone), and without what is older than `floor`."""
        changed = dict(self.changed)
        for key, last in changes.items():
            changed.pop(key, None)
            changed[key] = last
        made = Versions(self.base, changed, max(floor, self.floor))
        return made if len(changed) <= limits.WINDOW_CHANGES_MAX else Versions.of(made.oldest(), made.floor)

    def get(self, key: str) -> Last | None:
        """What is known of a key."""
        last = self.changed[key] if key in self.changed else self.base.get(key)
        return None if last is None or last.known[-1].t < self.floor else last

    def inside(self, key: str, start: int) -> Entry | None:
        """The newest event of a key, if it is not before `start`."""
        last = self.get(key)
        return None if last is None or last.known[-1].t < start else last.known[-1]

    def lacking(self, keys: Iterable[str], start: int) -> list[str]:
        """Those of the keys that have no event at `start` or later."""
        changed, start, found = self.changed, max(start, self.floor), []
        for key in keys:
            last = changed[key] if key in changed else self.base.get(key)
            if last is None or last.known[-1].t < start:
                found.append(key)
        return found

    def count(self, start: int = 0) -> int:
        """How many keys have an event at `start` or later."""
        start = max(start, self.floor)
        first = bisect_left(self.base.times, start)
        fresh = [last for last in self.changed.values() if last is not None and last.known[-1].t >= start]
        stale = [key for key in self.changed if self.base.at.get(key, -1) >= first] if self.base.at else ()
        return len(self.base.times) - first + len(fresh) - len(stale)

    @property
    def count_max(self) -> int:
        """At most so many keys, known without counting."""
        return len(self.base.keys) + len(self.changed)

    def oldest(self, count: int | None = None) -> list[tuple[str, Last]]:
        """The first so many keys in the order of time, or all."""
        base = self.base
        first = bisect_left(base.times, self.floor)
        pairs = zip(islice(base.keys, first, None), islice(base.lasts, first, None), strict=True)
        kept = islice((pair for pair in pairs if pair[0] not in self.changed), count)
        fresh = ((key, last) for key, last in self.changed.items() if last is not None and last.t >= self.floor)
        return sorted((*kept, *fresh), key=lambda item: item[1].t)[:count]

    def newest(self, start: int, count: int) -> list[Entry]:
        """The newest so many events at `start` or later that are the newest of some key, newest last."""
        base, older = self.base, dict[Entry, None]()
        for at in range(len(base.keys) - 1, bisect_left(base.times, start) - 1, -1):
            if len(older) == count:
                break
            if base.keys[at] not in self.changed:
                older.setdefault(base.lasts[at].known[-1])
        fresh = [last.known[-1] for last in self.changed.values() if last is not None]
        merged = sorted((*reversed(older), *(e for e in fresh if e.t >= start)), key=_entry_time)
        return list(dict.fromkeys(reversed(merged)))[:count][::-1]


def _entry_time(entry: Entry) -> int:
    return entry.t
