"""What operators gave up with a `resume`: told for ever, no finding as far as that record itself says so (PROTOCOL §3).

Rule of this file: only a record that names the very head of the log before it excuses anything, and only what was lost:
inputs that it leaves out, epochs, and checkpoints up to the one that it names. Inputs that are answered again, what
differs before it, and what a witness holds stay findings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness_stream.core.fold import whole

if TYPE_CHECKING:
    from harness_stream.core.fold import Body, Place


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

    def take(self, offset: int, body: Body, before: Place) -> bool:
        """The next one that counts; True if it speaks of the log that is before it, so that it may excuse.

        Args:
            offset: the record's.
            body: its, as its schema demands it.
            before: the fold before it.
        """
        was, now, named = before.header.next_input, body["next_input"], whole(body["checkpoint"].get("verdict_offset"))
        knows = bool(body["head"] == before.header.head)
        inputs = (was, now - 1) if knows and now > was else None
        records = (before.offset + 1, named) if knows and named is not None and named > before.offset else None
        self.all.append(Resume(offset, body["epoch"], body["reason"], inputs, records))
        return knows

    def excuses(self, stated: Place) -> bool:
        """Is it a checkpoint of what an operator gave up? It is counted then."""
        for resume in self.all:
            first, last = resume.records or (0, -1)
            if stated.header.epoch < resume.epoch and first <= stated.offset <= last:
                resume.checkpoints += 1
                return True
        return False
