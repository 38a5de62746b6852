"""From nothing to a fold that stands at the end of one partition, and then on with it (PROTOCOL §7).

Rule of this file: newest checkpoint, then the decision log's bounds, then fold up to its end; only then may an intent
be published. Nothing waits: what is asked for is collected in a later step. A log that contradicts its checkpoint
stays shut.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from harness_stream.client.head import Effective, Head, SkippedRange, place_of, skipped_by
from harness_stream.core import limits
from harness_stream.core.fold import Place
from harness_stream.errors import LogDamaged
from harness_stream.wire.decisions import digest_of

if TYPE_CHECKING:
    from harness_stream.client.wiring import Wiring
    from harness_stream.ports import Ends, LogRecord

# While nothing waits for it, only truncation and retention are looked for: ten chances within a deadline.
WATCH_MS: Final = limits.DEADLINE_MS_DEFAULT // 10
# One record of 1 KiB; when it has not come by then, compaction has moved it meanwhile.
CHECKPOINT_MS_MAX: Final = 2_000
# The rules topic has one partition (PROTOCOL §2).
RULES_PARTITION: Final = 0
# A record may be skipped before its delivery report has arrived, which happens within milliseconds; a worker writes at
# most a few hundred records in that time.
SKIPS_KEPT: Final = 256


class Phase(Enum):
    """How far the way to the partition's end is gone."""

    HEADS = auto()  # waiting for the bounds of the heads topic
    CHECKPOINT = auto()  # waiting for its newest record
    BOUNDS = auto()  # waiting for the bounds of the decision log
    FOLDING = auto()  # folding up to the end as of then
    READY = auto()
    BROKEN = auto()  # the log contradicts its checkpoint


class Following:
    """One partition that is opened, and followed from then on.

    Args:
        partition: which.
        wiring: the realm and the ports; its reader belongs to whoever steps this.

    Attributes:
        phase: how far it is.
        head: the fold; a new one after each opening.
        broken: why the phase is BROKEN, for people.
        rules_pushed: whether the rules topic holds anything; asked for while nobody has claimed the partition, None
            while unknown.
    """

    def __init__(self, partition: int, wiring: Wiring) -> None:
        self.partition = partition
        self.phase = Phase.HEADS
        self.broken = ""
        self.rules_pushed: bool | None = None
        self._wiring, self._reader = wiring, wiring.reader
        self._topics = wiring.realm.topics
        self.head = Head(Place.genesis(wiring.realm.incarnation, partition), wiring.verifier)
        self._since_ms: int | None = None  # when this phase first asked
        self._asked_in = Phase.HEADS
        self._asked_ms = 0
        self._read_when_asked = -1
        self._end = 0
        self._newest: LogRecord | None = None
        self._heads_low = 0
        self._stated = (-1, "")  # the record the checkpoint names, which must stand in this very log
        self._skips: deque[SkippedRange] = deque(maxlen=SKIPS_KEPT)

    @property
    def ready(self) -> bool:
        """May intents be published?"""
        return self.phase is Phase.READY

    @property
    def heard_to(self) -> int:
        """Offset of the newest sign of a worker; -1 without one."""
        return -1 if self.head.sign is None else self.head.sign.offset

    def step(self, now_ms: int) -> None:
        """Ask for bounds when due, and notice that a phase is over. `now_ms` is elapsed time."""
        self._ask(now_ms)
        self._look_for_damage()
        if self.phase is Phase.CHECKPOINT:
            self._look_for_checkpoint(now_ms)
        elif self.phase is Phase.FOLDING and self._position(self._topics.verdicts) >= self._end:
            self.phase = Phase.READY

    def bounds(self, ends: Ends) -> None:
        """An answer has arrived; one to a question from before this phase is too old to be used."""
        if self._since_ms is None or self._asked_in is not self.phase or ends.asked_at_ms < self._since_ms:
            return
        if self.phase is Phase.HEADS and ends.topic == self._topics.heads:
            self._seek_checkpoint(ends)
        elif ends.topic == self._topics.verdicts:
            (self._seek_place if self.phase is Phase.BOUNDS else self._watch)(ends)

    def take(self, record: LogRecord) -> Effective | None:
        """The next record of either topic; what counts in the decision log comes back."""
        if record.topic == self._topics.heads:
            self._newest = record
            return None
        if record.topic != self._topics.verdicts or self.phase not in {Phase.FOLDING, Phase.READY}:
            return None
        if record.offset == self._stated[0] and digest_of(record.value or b"") != self._stated[1]:
            self._break(f"the record at {record.offset} is not the one the checkpoint names")
            return None
        effective = self.head.take(record)
        if effective is not None and (skipped := skipped_by(effective)) is not None:
            self._skips.append(skipped)
        return effective

    def skipped(self, offset: int) -> tuple[str, str | None] | None:
        """Why the input at `offset` was skipped, if it was so recently."""
        return next((why for skip in self._skips if (why := skip.reason_of(offset)) is not None), None)

    def reopen(self) -> None:
        """Begin again at the newest checkpoint: retention has overtaken the position."""
        self._reader.unfollow(self._topics.verdicts, self.partition)
        self._reader.unfollow(self._topics.heads, self.partition)
        self._newest, self._since_ms, self.phase = None, None, Phase.HEADS

    def _ask(self, now_ms: int) -> None:
        if self.phase in {Phase.CHECKPOINT, Phase.BROKEN}:
            return
        if self._since_ms is None or self._asked_in is not self.phase:
            self._since_ms, self._asked_in = now_ms, self.phase
        elif now_ms - self._asked_ms < (WATCH_MS if self.ready else limits.END_QUERY_MS):
            return
        topic = self._topics.heads if self.phase is Phase.HEADS else self._topics.verdicts
        self._reader.ask_ends([(topic, self.partition)], now_ms)
        self._asked_ms, self._read_when_asked = now_ms, self.head.place.offset
        if self.ready and self.head.place.header.epoch == 0:
            self._reader.ask_ends([(self._topics.rules, RULES_PARTITION)], now_ms)

    def _seek_checkpoint(self, ends: Ends) -> None:
        self._end, self._heads_low = ends.end, ends.low
        self.phase = Phase.CHECKPOINT
        self._reader.follow(self._topics.heads, self.partition, max(ends.low, ends.end - 1))

    def _look_for_checkpoint(self, now_ms: int) -> None:
        position = self._position(self._topics.heads)
        if position < self._end:
            if position < 0 or now_ms - self._asked_ms >= CHECKPOINT_MS_MAX:
                self.reopen()
            return
        if self._newest is None and self._heads_low < self._end - 1:
            self._end_before_a_hole()
            return
        self._reader.unfollow(self._topics.heads, self.partition)
        self.phase = Phase.BOUNDS

    def _end_before_a_hole(self) -> None:
        """The last offset holds no record (a transaction's marker): read the whole, which compaction keeps small."""
        self._reader.follow(self._topics.heads, self.partition, self._heads_low)
        self._heads_low = self._end

    def _seek_place(self, ends: Ends) -> None:
        realm = self._wiring.realm
        stated = place_of(self._newest, realm.incarnation, self.partition, self._wiring.verifier)
        place = stated or Place.genesis(realm.incarnation, self.partition)
        if place.offset >= ends.end:
            self._break(f"it ends at {ends.end}, before the checkpoint's record {place.offset}")
        elif stated is None and ends.low > 0:
            self._break(f"it begins at {ends.low} and no checkpoint reaches it")
        else:
            self.head = Head(place, self._wiring.verifier)
            self._stated = (place.offset, place.digest)
            self._end = ends.end
            self.phase = Phase.FOLDING
            self._reader.follow(self._topics.verdicts, self.partition, max(ends.low, place.offset))

    def _watch(self, ends: Ends) -> None:
        """Has the log been cut before what was read, or behind it? A late answer may be older than what was read."""
        position = self._reader.position(self._topics.verdicts, self.partition)
        read = self._read_when_asked if ends.asked_at_ms == self._asked_ms else -1
        if ends.end <= read:
            self._break(f"it ends at {ends.end}, before the record {read} that was read")
        elif position is None or position < ends.low:
            self.reopen()

    def _look_for_damage(self) -> None:
        topic = self._topics.heads if self.phase is Phase.CHECKPOINT else self._topics.verdicts
        offset = self._reader.damaged(topic, self.partition)
        if offset is not None:
            self._reader.unfollow(topic, self.partition)
            self._break(LogDamaged(topic, self.partition, offset).message)

    def _break(self, why: str) -> None:
        self.phase, self.broken = Phase.BROKEN, f"partition {self.partition} of the decision log: {why}"
        self._reader.unfollow(self._topics.verdicts, self.partition)

    def _position(self, topic: str) -> int:
        """-1 while the position is lost or unknown."""
        position = self._reader.position(topic, self.partition)
        return -1 if position is None else position
