"""Which workers are known to have read a revision of the identity table: their own records tell.

Rule of this file: only what a worker has written counts, an effective verdict or a notice that counts. A worker that
decides nothing tells nothing, and then that is said; a table that it has not read for a second makes it deny (V8).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from harness_stream.client.head import Head

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.cli.decision_log import DecisionLog
    from harness_stream.client.head import Effective
    from harness_stream.ports import LogReader, Verifier

LOOK_S: Final = 0.005
POLL_RECORDS: Final = 1_000


class Seen(NamedTuple):
    """What is known.

    Attributes:
        partitions: whose owners have read it.
        unknown: whose owners have written nothing that tells.
        unowned: that no worker has ever claimed.
    """

    partitions: tuple[int, ...]
    unknown: tuple[int, ...]
    unowned: tuple[int, ...] = ()


class Watch:
    """Folds every partition from its newest checkpoint, and looks who has read what.

    Args:
        reader: of the decision log, used for nothing else meanwhile.
        log: finds where to begin; shares the reader.
        verifier: says which records are authentic.
        topic: the decision log's.
        partitions: P.
        revision: of the identity table.
    """

    def __init__(
        self, reader: LogReader, log: DecisionLog, verifier: Verifier, topic: str, partitions: int, revision: int
    ) -> None:
        self._reader, self._revision = reader, revision
        self._heads = {number: Head(log.start(number).place, verifier) for number in range(partitions)}
        self._writers: set[str] = set()
        for number, head in self._heads.items():
            reader.follow(topic, number, head.place.offset + 1)

    def look(self) -> Seen:
        """Take in what has come."""
        for record in self._reader.poll(POLL_RECORDS):
            head = self._heads[record.partition]
            effective = head.take(record)
            if effective is not None and _revision_of(effective) >= self._revision:
                self._writers.add(head.place.header.writer)
        return self._seen()

    def until(self, limit_s: float, tell: Callable[[Seen], None]) -> Seen:
        """Look until every owner is known to have read it, at most so long; `tell` hears of each step towards it."""
        end_s, before = time.monotonic() + limit_s, 0
        while (seen := self.look()).unknown and time.monotonic() < end_s:
            if len(seen.partitions) > before:
                before = len(seen.partitions)
                tell(seen)
            time.sleep(LOOK_S)
        return seen

    def _seen(self) -> Seen:
        """A process has one view of the table for all its partitions."""
        owners = {number: head.place.header for number, head in self._heads.items()}
        unowned = tuple(number for number, header in owners.items() if header.epoch == 0)
        seen = tuple(number for number, header in owners.items() if header.writer in self._writers)
        return Seen(seen, tuple(sorted(owners.keys() - {*seen, *unowned})), unowned)


def _revision_of(effective: Effective) -> int:
    """What a record tells of its writer's view of the table; −1 if nothing."""
    body = effective.body
    if effective.kind == "notice":
        return int(body["revision"])
    try:
        return int(body["inputs"]["tables"]["identity"][0]) if effective.kind == "verdict" else -1
    except (KeyError, TypeError, IndexError, ValueError):
        return -1
