"""What an auditor takes in, and what it finds."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from harness_stream.core.events import InputEvent
    from harness_stream.core.fold import Body


class Record(NamedTuple):
    """One record of the decision log.

    Attributes:
        body: its parsed value.
        digest: SHA-256 of the value as received, hex.
        authentic: its signature verifies, or the realm is unsigned.
        vouched: it is a resume, and the seal that it keeps of the checkpoint that it names verifies.
    """

    offset: int
    body: Body
    digest: str
    authentic: bool = True
    vouched: bool = False


class Input(NamedTuple):
    """One record of the input log.

    Attributes:
        append_ms: the broker's append time; 0 if the record has none.
        digest: SHA-256 of the value as received, hex.
        event: what it says; None if it must not be judged.
        garbage: (reason, detail) of why it must not.
        unjudged: nobody here could tell whether it is authentic.
    """

    offset: int
    append_ms: int
    digest: str
    event: InputEvent | None
    garbage: tuple[str, str | None] = ("", None)
    unjudged: bool = False


def about(answer: Body, body: Body, text: str) -> str:
    """A text about an answer: which one of a run's it is, the record's offset does not say.

    Args:
        answer: one of `core.denials.answers_in`.
        body: the record's.
        text: what is wrong with it.
    """
    return text if answer is body else f"input {answer['covers'][1]}: {text}"


class Kind(StrEnum):
    """What is wrong with a record that counts, or should."""

    SCHEMA = "schema"
    """It counts, and does not say what a record of its kind must."""
    COVERAGE = "coverage"
    """An input is covered by no answer, or twice (V5)."""
    RULES = "rules"
    """It names a bundle that is not in force, not newer, or not in the rules topic."""
    EPOCH = "epoch"
    """A claim's epoch is not the next one."""
    TIME = "time"
    """Chain time steps back, or is not what append times make it."""
    LANE = "lane"
    """A verdict about an agent whose lane belongs to another partition (V6)."""
    SETTLED_TWICE = "settled_twice"
    """A second terminal verdict for one intent (V2)."""
    CHECKPOINT = "checkpoint"
    """A checkpoint says something else than the fold: one of the two is not what was written."""
    LINK = "link"
    """What counts after it does not link to it, and a checkpoint says that this counts: it is not as it was written."""
    TRUNCATED = "truncated"
    """The log ends before a checkpoint of it (V5)."""
    DAMAGED = "damaged"
    """What is stored cannot be read; nothing behind it can be folded."""
    WITNESS = "witness"
    """A checkpoint that is held elsewhere names another record than stands there, or another fold (V5)."""
    NOT_AUTHENTIC = "not_authentic"
    """Nothing in the log is authentic here: it is another realm's, or these are not its keys."""
    RECREATED = "recreated"
    """A checkpoint that is held elsewhere is of other log topics: these were made anew (V5)."""
    WARMED = "warmed"
    """A switch names a place to count new windows from that is not in this log."""
    DIGEST = "digest"
    """It names another input than the one it covers."""
    ANSWER = "answer"
    """The input should have got an answer of another kind."""
    VERDICT = "verdict"
    """A verdict does not recompute (V1)."""
    APPROVER = "approver"
    """A hold was answered by somebody who may not."""
    ACK = "ack"
    """What an ack says was changed does not recompute."""
    REJECT = "reject"
    """A reject does not recompute."""
    SKIP = "skip"
    """What was skipped, or why, is not what the input log holds."""


class Finding(NamedTuple):
    """One thing that is wrong, at one record of the decision log.

    Attributes:
        offset: in the decision log; of a log that is too short, the first offset that is missing.
        text: for people: what, and what was expected.
    """

    kind: Kind
    partition: int
    offset: int
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"finding": str(self.kind), "partition": self.partition, "offset": self.offset, "text": self.text}
