"""Where the owner's chain of links breaks, and from where on it can be folded again (PROTOCOL §4).

Rule of this file: void records of the owner are no finding, since a lost publish leaves the same; a checkpoint that
says that they count makes them one. Then the links, walked back from the record that the checkpoint names, show which
are as they were written: one break is one finding, at the record that was altered, and what comes behind is audited.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final, NamedTuple

from harness_stream.core.fold import Place, is_own, whole
from harness_stream.core.witness import DIGITS_SHOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.core.audit.findings import Record

# A checkpoint lands at most 3 s (the producer's delivery time-out) after the record it names; 16,384 records are 3 s at
# 5,000 a second. Only after a break are there so many void ones in a row.
VOID_KEPT: Final = 16_384


class Restart(NamedTuple):
    """How the fold goes on behind a break.

    Attributes:
        place: from where.
        first: offset of the first record to take once more.
        altered: the first record that is not as it was written, or that stands where one is gone.
        text: for people, what is wrong there.
        lost: history is not whole from here on.
        passed: records between that nothing proves, (first, last); None if there are none.
    """

    place: Place
    first: int
    altered: int
    text: str
    lost: bool
    passed: tuple[int, int] | None


@dataclass(slots=True)
class Unlinked:
    """The first record of the owner that does not link to the fold, and the fold there."""

    place: Place
    record: Record


class Broken:
    """What is void since the last record that counts.

    Attributes:
        first: where the owner's links first left the fold, None if they did not. A claim, which has no link, keeps it.
    """

    def __init__(self) -> None:
        self.first: Unlinked | None = None
        self._void: deque[Record] = deque(maxlen=VOID_KEPT)
        self._claim: int | None = None  # the newest one since `first`
        self._seen: int | None = None
        self._hole: int | None = None  # first offset since the last record that counts at which nothing stands

    def saw(self, offset: int) -> None:
        """A record stands there, of whatever kind."""
        if self._seen is not None and offset > self._seen + 1 and self._hole is None:
            self._hole = self._seen + 1
        self._seen = offset if self._seen is None else max(self._seen, offset)

    def counts(self, record: Record) -> None:
        """A record counts: the links hold again, unless it is a claim."""
        self._void.clear()
        self._hole = None
        if record.body.get("kind") != "claim":
            self.first = self._claim = None
        elif self.first is not None:
            self._claim = record.offset

    def went_on(self) -> None:
        """The fold goes on behind the break."""
        self._void.clear()
        self.first = self._claim = self._hole = None

    def is_void(self, record: Record, place: Place, *, unlinked: bool) -> None:
        """A record does not count.

        Args:
            record: it.
            place: the fold before it.
            unlinked: it is the owner's, and does not link to the fold.
        """
        self._void.append(record)
        if unlinked and self.first is None:
            self.first = Unlinked(place, record)

    def since(self, offset: int) -> list[Record]:
        """The void records from there on, to be taken once more."""
        return [record for record in self._void if record.offset >= offset]

    def unlinked_text(self) -> str:
        """Both digests of the break, empty if there is none."""
        return "" if self.first is None else _links(self.first.place, self.first.record)

    def restart(self, folded: Place, stated: Place, at: int) -> Restart | None:
        """How to go on, since a checkpoint says that a void record counts; None if that one is not as it names it.

        Args:
            folded: the fold so far.
            stated: what the checkpoint states.
            at: where the checkpoint stands.
        """
        chain = self._chain(stated)
        if not chain:
            return None
        head, place = chain[0], self._proven(folded, chain[0], stated)
        altered, what = self._altered(folded, head, place)
        said = self.unlinked_text() if self._moved(folded) else _links(folded, head)
        text = f"{said}; the checkpoint at {at} says that {head.offset} counts, and so does what it links to: {what}"
        if place is not None:
            lost = place.offset != folded.offset or self._moved(folded)
            return Restart(place, head.offset, altered, text, lost, None)
        passed = (altered + 1, stated.offset) if stated.offset > altered else None
        return Restart(stated, stated.offset + 1, altered, text, lost=True, passed=passed)

    def _moved(self, folded: Place) -> bool:
        """A claim came between: what stood before it was never folded."""
        return self.first is not None and self.first.place.offset != folded.offset

    def _chain(self, stated: Place) -> Sequence[Record]:
        """The void records that link to each other up to the one that the checkpoint names, oldest first."""
        by_digest = {record.digest: record for record in self._void if record.authentic}
        chain: list[Record] = []
        record = by_digest.get(stated.digest)
        if record is None or record.offset != stated.offset:
            return chain
        while record is not None and (not chain or record.offset < chain[-1].offset):
            chain.append(record)
            prev = record.body.get("prev")
            record = by_digest.get(prev) if isinstance(prev, str) else None
        return chain[::-1]

    def _proven(self, folded: Place, head: Record, stated: Place) -> Place | None:
        """The fold before the first record that is as it was written, if it comes from there to what was stated."""
        records = [r for r in self.since(head.offset) if r.authentic and r.offset <= stated.offset]
        was, then = folded.header, stated.header
        # Neither need be in this record: what is missing or altered before it may have changed them.
        for rules, t in product(dict.fromkeys((was.rules, then.rules)), dict.fromkeys((was.t, then.t))):
            before = place = _before(folded, head, rules, t)
            for record in records if place is not None else ():
                place = place and (place.after(*record[:3]) or place)
            if place == stated:
                return before
        return None

    def _altered(self, folded: Place, head: Record, proven: Place | None) -> tuple[int, str]:
        """The first record that is not as it was written, as far as that is known; and what is to be said of it."""
        if self.first is not None and self._moved(folded):
            at = self.first.place.offset
            return max(0, at), f"the record at {at} was altered, or the claim at {self._claim} was"
        between = [r.offset for r in self._void if folded.offset < r.offset < head.offset]
        if proven is not None and proven.offset == folded.offset:
            return max(0, folded.offset), f"the record at {folded.offset} was altered"
        or_it = "" if proven is not None else f", or the one at {folded.offset} was"
        if between:
            return between[0], f"the record at {between[0]}, which does not count as it is, was altered{or_it}"
        if proven is None and self._hole is None:
            return max(0, folded.offset), f"the record at {folded.offset} was altered"
        gone = folded.offset + 1 if self._hole is None else self._hole
        return gone, f"the record at {gone}, which is not there, was taken away{or_it}"


def _before(folded: Place, head: Record, rules: tuple[str, int] | None, t: int) -> Place | None:
    """The fold as it was before the first record that is as it was written; None if another claim's is needed.

    If that leaves out no input and no switch, the last record that counts stands there, only not as it was written.
    """
    covers, prev, was = head.body.get("covers"), head.body.get("prev"), folded.header
    if not is_own(was, head.body) or not isinstance(covers, list | tuple) or not isinstance(prev, str):
        return None
    next_input, then = whole(covers[0]) if covers else None, whole(head.body.get("t", t))
    if next_input is None or then is None:
        return None
    # Chain time never steps back, so it was at most what this record says, if it does.
    header = was._replace(head=prev, next_input=next_input, rules=rules, t=min(then, t))
    if next_input > was.next_input or rules != was.rules:
        return Place(header, head.offset - 1, prev)
    return folded._replace(header=header, digest=prev if folded.digest == was.head else folded.digest)


def _links(folded: Place, record: Record) -> str:
    prev = str(record.body.get("prev"))[:DIGITS_SHOWN]
    return (
        f"the owner's next record, at {record.offset}, links to {prev}, "
        f"and after the record at {folded.offset} the head is {folded.header.head[:DIGITS_SHOWN]}"
    )
