"""Where a person's reader of the decision log begins: the newest checkpoint of a partition, or genesis (PROTOCOL §7).

Rule of this file: it only finds places, and says whether one that somebody else names is in the log; which records
count from there on is `core.fold`'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness_stream.client.head import place_of
from harness_stream.core.fold import Place
from harness_stream.errors import ProtocolError, StateUnavailable
from harness_stream.runtime.history import ahead_text, moved_text
from harness_stream.runtime.to_end import ends_of, read_to_end, record_at
from harness_stream.wire.decisions import digest_of

if TYPE_CHECKING:
    from harness_stream.ports import Clock, Ends, LogReader, LogRecord, Verifier
    from harness_stream.wire.topics import Topics

LOST: Final = "the log lost decisions that Redis knows of, and nothing of what Redis says is shown"
LOST_HINT: Final = (
    "a running worker replaces it within seconds; does one run? And find out what took the records: "
    "docs/runbook.md, `decisions_lost`"
)


@dataclass(frozen=True, slots=True)
class Start:
    """Where to read one partition from.

    Attributes:
        place: the fold there.
        ends: the decision log's bounds as of now.
        cut: `from_beginning` was asked for, but the beginning is gone.
    """

    place: Place
    ends: Ends
    cut: bool = False


class DecisionLog:
    """The decision log and its checkpoints, as a reader without a group sees them.

    Args:
        reader: used for nothing else meanwhile.
        topics: the realm's.
        incarnation: the realm's.
        verifier: says which records are authentic.
        clock: measures silence.
    """

    def __init__(self, reader: LogReader, topics: Topics, incarnation: str, verifier: Verifier, clock: Clock) -> None:
        self._reader, self._topics, self._clock = reader, topics, clock
        self._incarnation, self._verifier = incarnation, verifier

    def start(self, partition: int, *, from_beginning: bool = False) -> Start:
        """The newest checkpoint that this log can be read on from; genesis if there is none, or if it is asked for.

        Raises:
            BrokerUnavailable: the broker does not answer.
            ProtocolError: the log contradicts its checkpoint, or nothing says what came before its first record.
        """
        stated = place_of(self._newest_checkpoint(partition), self._incarnation, partition, self._verifier)
        ends = self.ends(partition)
        if from_beginning and ends.low == 0:
            return Start(Place.genesis(self._incarnation, partition), ends)
        place = stated or Place.genesis(self._incarnation, partition)
        # What stood between the newest checkpoint's record and the log's first were checkpoints, or it would be newer.
        if place.offset >= ends.end or (stated is None and ends.low > 0):
            holds = f"{ends.low} to {ends.end - 1}" if ends.low < ends.end else f"nothing before {ends.end}"
            raise ProtocolError(
                f"partition {partition} of `{self._topics.verdicts}` holds {holds}, "
                f"which does not go on from its checkpoint at {place.offset}",
                hint="was the log truncated or recreated? No worker goes on from here either",
            )
        return Start(place, ends, cut=from_beginning)

    def start_before(self, partition: int, offset: int) -> Start:
        """A place from which the records from `offset` on can be folded, or as many of them as the log allows.

        That is genesis if the log is whole and `offset` is its first; else what the first checkpoint in the log from
        `offset` on states, which was written at most an hour later; without one, genesis or what `start` finds.

        Raises:
            BrokerUnavailable, ProtocolError: as `start`.
        """
        ends = self.ends(partition)
        if offset <= ends.low == 0:
            return Start(Place.genesis(self._incarnation, partition), ends)
        for record in read_to_end(self._reader, self._topics.verdicts, partition, self._clock, offset):
            place = place_of(record, self._incarnation, partition, self._verifier)
            if place is not None and ends.low - 1 <= place.offset < record.offset:
                self._reader.unfollow(self._topics.verdicts, partition)
                return Start(place, ends)
        return Start(Place.genesis(self._incarnation, partition), ends) if ends.low == 0 else self.start(partition)

    def oldest(self, partition: int) -> Start:
        """The first place from which everything that is kept can be folded; `cut` if it is not genesis.

        That is what the first checkpoint states that the log goes on from. In a partition at rest there may be none:
        then all that is kept was written after the last effective record, which the newest checkpoint names.

        Raises:
            BrokerUnavailable: the broker does not answer.
            ProtocolError: nothing says what came before the first record.
        """
        ends = self.ends(partition)
        if ends.low == 0:
            return Start(Place.genesis(self._incarnation, partition), ends)
        newest = None
        for record in read_to_end(self._reader, self._topics.verdicts, partition, self._clock):
            place = place_of(record, self._incarnation, partition, self._verifier)
            if place is not None and place.offset < record.offset:
                newest = place
                if place.offset >= ends.low - 1:
                    self._reader.unfollow(self._topics.verdicts, partition)
                    break
        return self.start(partition) if newest is None else Start(newest, ends, cut=True)

    def stated_at(self, partition: int, offset: int) -> Place | None:
        """What the checkpoint at this offset of the log states, None if none stands there.

        Raises:
            BrokerUnavailable: the broker does not answer, or has no such partition.
        """
        record = self._record_at(partition, offset)
        return None if record is None else place_of(record, self._incarnation, partition, self._verifier)

    def require_record_of(self, partition: int, stored: Place) -> None:
        """Refuse a state store that stands on a record which this log has lost; nothing of it is true then.

        A record that retention took cannot be compared.

        Args:
            partition: which.
            stored: where the store stands in this incarnation, read before this is asked: it holds only what was
                acknowledged.

        Raises:
            StateUnavailable: the log ends before that record, or has another one there.
            BrokerUnavailable: the broker does not answer.
            LogDamaged: the log's record cannot be read.
        """
        record = self._record_at(partition, stored.offset)
        ends = self.ends(partition)  # asked after: retention may have taken the record just before it was looked for
        if stored.offset < ends.low or (record is not None and digest_of(record.value or b"") == stored.digest):
            return
        ahead = stored.offset >= ends.end
        what = ahead_text(stored.offset, ends.end) if ahead else moved_text(stored.offset)
        raise StateUnavailable(f"{what}: {LOST}", hint=LOST_HINT)

    def held(self, partition: int) -> list[Place]:
        """What the checkpoints outside of the log state, the newest last (raises BrokerUnavailable)."""
        records = read_to_end(self._reader, self._topics.heads, partition, self._clock)
        places = [place_of(record, self._incarnation, partition, self._verifier) for record in records]
        return [place for place in places if place is not None]

    def ends(self, partition: int) -> Ends:
        """The decision log's bounds as of now (raises BrokerUnavailable)."""
        return ends_of(self._reader, self._topics.verdicts, partition, self._clock)

    def _record_at(self, partition: int, offset: int) -> LogRecord | None:
        return record_at(self._reader, self._topics.verdicts, partition, self._clock, offset)

    def _newest_checkpoint(self, partition: int) -> LogRecord | None:
        newest = None
        for record in read_to_end(self._reader, self._topics.heads, partition, self._clock):
            newest = record
        return newest
