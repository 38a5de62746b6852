"""What operators gave up with a `resume`: told for ever, no finding as far as that record itself says so (PROTOCOL §3).

Rule of this file: only a record that names the very head of the log before it and a checkpoint of this log excuses
anything, and only what was lost: inputs that it leaves out, epochs, and checkpoints up to the one that it names, if
that one is there. Inputs that are answered again, what differs before it, and what a witness holds stay findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness_stream.core.fold import Place
from harness_stream.core.records import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_stream.core.fold import Body


@dataclass(slots=True)
class Resume:
    """One that counts.

    Attributes:
        offset: of the record.
        reason: as the operator gave it.
        inputs: (first, last) of those that nobody answers; None if none was left out.
        records: (first, last) offsets that the old checkpoint vouches for and the log had lost; None if there are none.
        checkpoints: that name one of these.
    """

    offset: int
    epoch: int
    reason: str
    inputs: tuple[int, int] | None
    records: tuple[int, int] | None
    checkpoints: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "offset": self.offset,
            "epoch": self.epoch,
            "reason": self.reason,
            "inputs_left_out": None if self.inputs is None else list(self.inputs),
            "records_lost": None if self.records is None else list(self.records),
            "checkpoints_of_lost": self.checkpoints,
        }


class Resumed:
    """The resumes of one partition.

    Attributes:
        all: in the order of offsets.
    """

    def __init__(self) -> None:
        self.all: list[Resume] = []

    def take(self, offset: int, body: Body, before: Place, held: Callable[[Place], bool]) -> Place | None:
        """The next one that counts.

        Args:
            offset: the record's.
            body: its, as its schema demands it.
            before: the fold before it.
            held: is a checkpoint of this place among those outside of the log?

        Returns:
            The checkpoint that it names, if it speaks of the log that is before it, so that it may excuse.
        """
        was, now, named = before.header.next_input, body["next_input"], _named(body["checkpoint"], before)
        if body["head"] != before.header.head:
            named = None
        inputs = (was, now - 1) if named is not None and now > was else None
        lost = named is not None and named.offset > before.offset and held(named)
        records = (before.offset + 1, named.offset) if named is not None and lost else None
        self.all.append(Resume(offset, body["epoch"], body["reason"], inputs, records))
        return named

    def excuses(self, stated: Place) -> bool:
        """Is it a checkpoint of what an operator gave up? It is counted then."""
        for resume in self.all:
            first, last = resume.records or (0, -1)
            if stated.header.epoch < resume.epoch and first <= stated.offset <= last:
                resume.checkpoints += 1
                return True
        return False


def _named(checkpoint: Mapping[str, Any], before: Place) -> Place | None:
    """The place of a checkpoint of this log, None if it is none."""
    try:
        stated = Checkpoint.model_validate(checkpoint)
    except (ValidationError, RecursionError):
        return None
    place = Place.from_json(stated.model_dump())
    same = place.header.incarnation == before.header.incarnation and place.header.partition == before.header.partition
    return place if same else None
