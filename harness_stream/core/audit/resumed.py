"""What operators gave up with a `resume`: told for ever, no finding as far as that record itself says so (PROTOCOL §3).

Rule of this file: only a record that names the very head of the log before it, and a checkpoint that the log, the heads
topic or a worker's seal shows, excuses anything, and only what was lost: inputs that it leaves out, epochs, and
checkpoints up to the one that it names, if that one is held. Inputs that are answered again, other rules, what differs
before it, and what a witness holds stay findings. Which records were lost is told as long as the resume is kept: the
heads topic forgets the checkpoints of them within minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness_stream.core.fold import Place
from harness_stream.core.records import Checkpoint

if TYPE_CHECKING:
    from harness_stream.core.fold import Body


@dataclass(slots=True)
class Resume:
    """One that counts.

    Attributes:
        offset: of the record.
        reason: as the operator gave it.
        inputs: (first, last) of those that nobody answers; None if none was left out.
        records: (first, last) offsets that the old checkpoint vouches for and the log had lost; None if there are none.
        held: that checkpoint stands outside of the log, too.
        forgets: workers know nothing of before; None if it does not say.
        checkpoints: that name one of these.
    """

    offset: int
    epoch: int
    reason: str
    inputs: tuple[int, int] | None
    records: tuple[int, int] | None
    held: bool
    forgets: bool | None = None
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
            "forgets_history": self.forgets,
        }


class Resumed:
    """The resumes of one partition.

    Attributes:
        all: in the order of offsets.
    """

    def __init__(self) -> None:
        self.all: list[Resume] = []

    def take(self, offset: int, body: Body, before: Place, named: Place | None, *, held: bool) -> None:
        """The next one that counts.

        Args:
            offset: the record's.
            body: its, as its schema demands it.
            before: the fold before it.
            named: the checkpoint that it names, None if it excuses nothing.
            held: that is among those outside of the log.
        """
        was, now = before.header.next_input, body["next_input"]
        inputs = (was, now - 1) if named is not None and now > was else None
        lost = named is not None and named.offset > before.offset
        records = (before.offset + 1, named.offset) if named is not None and lost else None
        self.all.append(Resume(offset, body["epoch"], body["reason"], inputs, records, held, body.get("forgets")))

    def excuses(self, stated: Place) -> bool:
        """Is it a checkpoint of what an operator gave up? It is counted then."""
        for resume in self.all:
            first, last = (resume.held and resume.records) or (0, -1)
            if stated.header.epoch < resume.epoch and first <= stated.offset <= last:
                resume.checkpoints += 1
                return True
        return False


def named_by(body: Body, before: Place) -> Place | None:
    """The place that a resume's checkpoint states; genesis if it says that there was none; None if it is none of these.

    Args:
        body: the resume's.
        before: the fold before it.
    """
    known = before.header
    if not body["checkpoint"]:
        return Place.genesis(known.incarnation, known.partition)
    try:
        place = Place.from_json(Checkpoint.model_validate(body["checkpoint"]).model_dump())
    except (ValidationError, TypeError, RecursionError):  # TypeError: a number beyond what a log can hold
        return None
    same = (place.header.incarnation, place.header.partition) == (known.incarnation, known.partition)
    return place if same else None
