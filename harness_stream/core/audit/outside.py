"""Checkpoints that stand outside of one partition's log, against its fold: the log must still hold them (V5).

Rule of this file: one cause is told once, however many of them it makes wrong, and each of these is counted in a text.
What a cut took is one cause; so is what contradicts one after the other with none between that agrees.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core.audit.findings import Finding, Kind
from harness_stream.core.witness import spanned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness_stream.core.fold import Place


class Outside:
    """Those of one partition that nobody has given up.

    Args:
        held: the places that they name.
        start: where the fold begins.
        excuses: was this one given up? It is asked once of each.

    Attributes:
        all: what was held, also what is not asked for.
    """

    def __init__(self, held: Iterable[Place], start: Place, excuses: Callable[[Place], bool]) -> None:
        given = list(held)
        self.all = frozenset(given)
        self._start, self._excuses = start, excuses
        self._at: dict[int, list[Place]] = {}
        self._wrong: list[Place] = []  # one after the other, and none since the first has agreed
        for stated in given:
            # Lost before the start was written: whoever begins there believes who went on without it.
            if not (stated.header.epoch < start.header.epoch and stated.offset > start.offset):
                self._at.setdefault(stated.offset, []).append(stated)

    def waits_for(self, stated: Place) -> bool:
        """It is asked for, and the log has not come so far."""
        return stated in self._at.get(stated.offset, ())

    def take(self, offset: int, differing: Callable[[Place], str | None]) -> Iterator[Finding]:
        """The fold has come to a record that counts.

        Args:
            offset: the record's.
            differing: in what a checkpoint differs from the fold, None if in nothing.
        """
        for stated in self._taken(offset):
            text = differing(stated)
            if text is None:
                yield from self.more()
                continue
            if not self._wrong:
                yield self._finding(Kind.CHECKPOINT, offset, text)
            self._wrong.append(stated)

    def more(self) -> Iterator[Finding]:
        """Those that contradicted after one that was told."""
        more, self._wrong = self._wrong[1:], []
        if more:
            text = f"more checkpoints outside of the log say otherwise than the fold: {spanned(more)}"
            yield self._finding(Kind.CHECKPOINT, more[0].offset, text)

    def beyond(self, end: int) -> Iterator[Finding]:
        """One finding for all that a log which is too short has lost.

        Args:
            end: of the log.
        """
        lost = [stated for offset in sorted(self._at) if offset >= end for stated in self._taken(offset)]
        told = [f"the log ends at {end}"]
        if self._start.offset >= end:
            told.append(f"the start names offset {self._start.offset}")
        if lost:
            told.append(f"checkpoints outside of it: {spanned(lost)}")
        if len(told) > 1:
            yield self._finding(Kind.TRUNCATED, end, "; ".join(told))

    def left(self) -> list[Place]:
        """The log was read: those that name what does not count there, in the order of offsets."""
        return [stated for offset in sorted(self._at) for stated in self._taken(offset)]

    def uncounted(self, left: list[Place], why: str) -> Iterator[Finding]:
        """One finding for what does not count here.

        Args:
            left: those of `left` that nothing else explains.
            why: more to be said of them.
        """
        if left:
            more = f"; checkpoints that name such: {spanned(left)}" if len(left) > 1 else ""
            text = f"a checkpoint outside of the log names this record, which does not count here{why}{more}"
            yield self._finding(Kind.CHECKPOINT, left[0].offset, text)

    def _taken(self, offset: int) -> list[Place]:
        return [stated for stated in self._at.pop(offset, ()) if not self._excuses(stated)]

    def _finding(self, kind: Kind, offset: int, text: str) -> Finding:
        return Finding(kind, self._start.header.partition, offset, text)
