"""Checkpoints held elsewhere against one partition's log: each must still be there, and say what the fold says (V5).

Rule of this file: what is held is believed no more than the log; each difference names both. What retention took is
counted and never called wrong, what is gone before any retention takes it was cut, and what nobody can fold any more is
compared by its digest alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits
from harness_stream.core.audit.findings import Finding, Kind
from harness_stream.core.witness import DIGITS_SHOWN, described, spanned

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from harness_stream.core.audit.findings import Record
    from harness_stream.core.fold import Place
    from harness_stream.core.witness import Held

# Both logs are kept for a day and more, whatever a realm's windows are (PROTOCOL §2). The more, at least the time of a
# hold, is for clocks that differ and for checkpoints that were written late.
KEPT_MS_LEAST: Final = limits.RETENTION_SLACK_MS


class Witnessed:
    """Compares one partition's held checkpoints with its log, record by record.

    Args:
        held: all of this partition, of whatever incarnation.
        start: where the fold begins.
        low: first offset that the log keeps.
        now_ms: the time, epoch ms: what is gone and younger than any retention was cut.

    Attributes:
        first: smallest offset that must be read, None if none need be.
        compared: held checkpoints that were found in the log.
        by_digest: those of them whose record alone was compared, since the fold begins after it.
        gone: held checkpoints of records that are no longer kept.
        newest_gone_ms: append time of the newest of these, epoch ms; None if there is none.
    """

    def __init__(self, held: Iterable[Held], start: Place, low: int, now_ms: int) -> None:
        self.compared = self.by_digest = self.gone = 0
        self.newest_gone_ms: int | None = None
        self._start, self._low = start, low
        self._kept_since_ms = now_ms - KEPT_MS_LEAST
        self._others: dict[str, list[Held]] = {}
        self._at: dict[int, list[Held]] = {}
        self._resumes: list[tuple[int, int]] = []  # (epoch, offset)
        for one in held:
            self._sort(one, low)
        self.held = self.gone + sum(map(len, (*self._at.values(), *self._others.values())))
        self.first = min(self._at, default=None)

    def _sort(self, one: Held, low: int) -> None:
        if one.place.header.incarnation != self._start.header.incarnation:
            self._others.setdefault(one.place.header.incarnation, []).append(one)
        elif one.place.offset < low:
            self.gone += 1
            self.newest_gone_ms = max(self.newest_gone_ms or 0, one.append_ms)
        else:
            self._at.setdefault(one.place.offset, []).append(one)

    def recreated(self) -> list[Finding]:
        """What is held of other log topics than these: one finding for each of them."""
        return [self._recreated(incarnation, held) for incarnation, held in self._others.items()]

    def cut(self) -> list[Finding]:
        """One finding if the log's beginning is gone that no retention has taken yet: somebody deleted it."""
        if self.newest_gone_ms is None or self.newest_gone_ms <= self._kept_since_ms:
            return []
        text = (
            f"the log begins at {self._low}, and of the {self.gone} held before it the newest is less than a day old: "
            "no retention takes that, so it was deleted"
        )
        return [Finding(Kind.TRUNCATED, self._start.header.partition, self._low, text)]

    def take(self, record: Record, place: Place) -> list[Finding]:
        """The next record of the log, in the order of offsets.

        Args:
            record: it, whether it counts or not.
            place: the fold after it.
        """
        if record.body.get("kind") == "resume" and place.offset == record.offset:
            self._resumes.append((place.header.epoch, record.offset))
        wrong = ((one, self._wrong(one.place, record, place)) for one in self._at.pop(record.offset, ()))
        return [self._finding(Kind.WITNESS, one, text) for one, text in wrong if text is not None]

    def end(self, end: int) -> list[Finding]:
        """Everything up to the log's end was read: what is held and was not met.

        Args:
            end: of the log.
        """
        left = [one for offset in sorted(self._at) for one in self._at[offset]]
        holes = [one for one in left if one.place.offset < end]
        found = [self._finding(Kind.WITNESS, one, "no record stands there") for one in holes]
        return found + self._beyond(left[len(holes) :], end)

    def told(self) -> dict[str, Any]:
        """What became of what is held, for programs."""
        return {
            "held": self.held,
            "compared": self.compared,
            "by_digest": self.by_digest,
            "no_longer_kept": self.gone,
            "newest_no_longer_kept_ms": self.newest_gone_ms,
        }

    def _wrong(self, held: Place, record: Record, place: Place) -> str | None:
        """What stands there instead, None if it is the same."""
        counts = place.offset == record.offset
        if held.digest != record.digest:
            kind = str(record.body.get("kind"))
            there = f"there stands a {kind}, record {record.digest[:DIGITS_SHOWN]}"
            return there if counts else f"{there}, which does not count"
        if record.offset < self._start.offset:
            self.by_digest += 1
        elif not counts:
            return "the same record stands there, and it does not count"
        elif held != place:
            said, folded = held.to_json(), place.to_json()
            return "; ".join(f"the fold has {name} {folded[name]}" for name in folded if said[name] != folded[name])
        self.compared += 1
        return None

    def _beyond(self, held: Sequence[Held], end: int) -> list[Finding]:
        """One finding for all that a log which is too short has lost."""
        if not held:
            return []
        places = [one.place for one in held]
        text = f"the log ends at {end}; held: {spanned(places)}{self._resumed(places[-1])}"
        return [Finding(Kind.TRUNCATED, places[0].header.partition, end, text)]

    def _finding(self, kind: Kind, one: Held, what: str) -> Finding:
        text = f"held: {described(one.place)}; {what}{self._resumed(one.place)}"
        return Finding(kind, one.place.header.partition, one.place.offset, text)

    def _resumed(self, held: Place) -> str:
        after = [(epoch, offset) for epoch, offset in self._resumes if epoch > held.header.epoch]
        return "" if not after else f"; an operator resumed at {after[0][1]} with epoch {after[0][0]}"

    def _recreated(self, incarnation: str, held: Sequence[Held]) -> Finding:
        newest, now = held[-1], self._start.header
        text = (
            f"{len(held)} held of the log topics {incarnation}, the last one: {described(newest.place)}; "
            f"now the topics are {now.incarnation}: they were recreated, or another realm's are held; "
            "nothing here goes on from that history"
        )
        return Finding(Kind.RECREATED, now.partition, newest.place.offset, text)
