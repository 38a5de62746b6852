"""One partition of the decision log as a client sees it: which records count, and what they answer (PROTOCOL §4, §7).

Rule of this file: a place comes from a checkpoint or from genesis, never from the first record seen, and only what
`core.fold` takes is handed on. Contents are untrusted: nothing here raises, what cannot be read answers nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from harness_stream.core.denials import verdict_of
from harness_stream.core.fold import DENIALS, STATEMENTS, Body, Place, is_own
from harness_stream.core.notice import heard
from harness_stream.core.reasons import Skip
from harness_stream.core.records import Checkpoint
from harness_stream.wire.decisions import read_body

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from harness_stream.ports import LogRecord, Verifier


class Effective(NamedTuple):
    """A record that counts, or a notice that is to be obeyed."""

    kind: str
    offset: int
    digest: str
    body: Body
    record: LogRecord


class Named(NamedTuple):
    """Which input a verdict, ack or reject answers.

    Attributes:
        id: the input's own id.
        digest: SHA-256 of the input's value.
    """

    id: str
    digest: str


class SkippedRange(NamedTuple):
    """Input offsets that got no answer of their own.

    Attributes:
        first: first skipped offset.
        last: last skipped offset.
        reason: of the whole range.
        named: offset → (reason, detail) of the first sixteen.
    """

    first: int
    last: int
    reason: str
    named: Mapping[int, tuple[str, str | None]]

    def reason_of(self, offset: int) -> tuple[str, str | None] | None:
        """Why the record at `offset` was skipped; None if it was not."""
        if not self.first <= offset <= self.last:
            return None
        return self.named.get(offset, (self.reason, None))


class Sign(NamedTuple):
    """The newest sign of life of the partition's owner: a record's kind, append time and offset."""

    kind: str
    append_ms: int
    offset: int


# Where each kind of answer names its input.
_NAMES: Final = {
    "verdict": ("intent_id", "intent_digest"),
    "ack": ("id", "digest"),
    "reject": ("id", "digest"),
}


def answers_of(effective: Effective, waiting: Container[str]) -> Iterator[Effective]:
    """What a record says to those who wait: itself, or of a run of denials those verdicts somebody waits for.

    Args:
        effective: it.
        waiting: ids of intents.
    """
    if effective.kind != DENIALS:
        yield effective
        return
    first, rows = effective.body["covers"][0], effective.body.get("denied")
    for row in rows if isinstance(rows, list) else ():
        try:
            if row["intent_id"] in waiting:
                yield effective._replace(kind="verdict", body=verdict_of(effective.body, row, first))
            first = row["offset"] + 1
        except (KeyError, TypeError):
            continue  # it says nothing that could be read; the others may


class Head:
    """Folds one partition.

    Args:
        place: where to start from, see `place_of`.
        verifier: says which records are authentic.

    Attributes:
        place: where the fold stands.
        void: records that lost, which change nothing and are obeyed by nobody.
        forged: records that are not authentic.
        sign: of the owner's life; None before the first.
    """

    def __init__(self, place: Place, verifier: Verifier) -> None:
        self.place = place
        self.void = 0
        self.forged = 0
        self.sign: Sign | None = None
        self._verifier = verifier

    def take(self, record: LogRecord) -> Effective | None:
        """Fold one record; None if it does not count."""
        if not self._verifier.decision_authentic(record):
            self.forged += 1
            return None
        body, digest = read_body(record.value)
        kind = str(body.get("kind"))
        place = self.place.after(record.offset, body, digest)
        if place is None and kind not in STATEMENTS:
            self.void += 1
            return None
        if place is not None or is_own(self.place.header, body):
            self.sign = Sign(kind, record.timestamp_ms or 0, record.offset)
        if place is None and heard(self.place.header, body) is None:
            return None
        self.place = place or self.place
        return Effective(kind, record.offset, digest, body, record)


def place_of(record: LogRecord | None, incarnation: str, partition: int, verifier: Verifier) -> Place | None:
    """The place a record of the heads topic states.

    Returns:
        None if it is no authentic checkpoint of this very partition and incarnation.
    """
    if record is None or not verifier.decision_authentic(record):
        return None
    body, _ = read_body(record.value)
    try:
        checkpoint = Checkpoint.model_validate(body, strict=True)
        place = Place.from_json(body)
    except (ValidationError, TypeError, RecursionError):
        return None
    return place if (checkpoint.incarnation, checkpoint.partition) == (incarnation, partition) else None


def named_by(effective: Effective) -> Named | None:
    """The input that this record answers; None if it answers none."""
    names = _NAMES.get(effective.kind)
    if names is None:
        return None
    own_id, digest = (effective.body.get(name) for name in names)
    return Named(own_id, digest) if isinstance(own_id, str) and isinstance(digest, str) else None


def skipped_by(effective: Effective) -> SkippedRange | None:
    """The range that this record skips; None if it skips nothing."""
    if effective.kind != "skip":
        return None
    first, last = effective.body["covers"]  # the fold has looked at these
    reason = effective.body.get("reason")
    offsets = effective.body.get("offsets")
    named = dict(_named_offsets(offsets if isinstance(offsets, list) else []))
    return SkippedRange(first, last, reason if isinstance(reason, str) else str(Skip.GARBAGE), named)


def _named_offsets(offsets: list[Any]) -> list[tuple[int, tuple[str, str | None]]]:
    return [
        (o["offset"], (o["reason"], o["detail"] if isinstance(o.get("detail"), str) else None))
        for o in offsets
        if isinstance(o, dict) and type(o.get("offset")) is int and isinstance(o.get("reason"), str)
    ]
