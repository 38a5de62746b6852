"""When a partition's checkpoint is due, what it says, and its copy among the heads (PROTOCOL §3).

Rule of this file: only what is confirmed is vouched for, and only what is in the log is copied to where readers look
for it. A queue without room is asked again each turn: a load would begin at an older checkpoint, and without a final
one the next claim would be one after a crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits
from harness_stream.runtime.outbox import body_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_stream.ports import Clock
    from harness_stream.runtime.folded import Folded
    from harness_stream.runtime.outbox import Outbox, Sent
    from harness_stream.runtime.realm import Realm
    from harness_stream.runtime.snapshots import Snapshots

    NextRules = Mapping[str, Any] | None

# A partition at rest says so every hour: retention (above a day) never takes the last word that vouches for its state.
CHECKPOINT_IDLE_MS: Final = 3_600_000


class Checkpoints:
    """Writes those of one partition under one claim.

    Args:
        partition: which.
        realm: this realm.
        clock: of this worker.
        folded: the confirmed fold that they vouch for.
        snapshots: know up to where units are in the chains topic.
        outbox: sends records.

    Attributes:
        final: the last one, of a clean stop, was handed to the log.
    """

    def __init__(
        self, partition: int, realm: Realm, clock: Clock, folded: Folded, snapshots: Snapshots, outbox: Outbox
    ) -> None:
        self.final = False
        self._partition, self._realm, self._clock = partition, realm, clock
        self._folded, self._snapshots, self._outbox = folded, snapshots, outbox
        self._to_copy: Sent | None = None  # the newest one in the log, until it is among the heads
        self._note(None)

    @property
    def age_ms(self) -> int:
        """Time since the newest own one; grows while nothing changes."""
        return self._clock.elapsed_ms() - self._written_ms

    @property
    def copied(self) -> bool:
        """Is the newest one that is in the log among the heads?"""
        return self._to_copy is None

    def write(self, next_rules: NextRules, *, final: bool = False) -> None:
        """Write one now.

        Args:
            next_rules: what stands between a pushed bundle and this partition.
            final: nothing comes after it.

        Raises:
            BufferError: the local queue is full.
        """
        self._note(next_rules)
        place = self._folded.place
        header = place.header
        body = {
            **body_of("checkpoint", header),
            "partition": self._partition,
            "verdict_offset": place.offset,
            "record_digest": place.digest,
            "head": header.head,
            "next_input": header.next_input,
            "rules": None if header.rules is None else {"digest": header.rules[0], "revision": header.rules[1]},
            "t": header.t,
            "crash_claims": header.crash_claims,
            "snapshot_cut": self._snapshots.cut,
            "next_rules": next_rules,
            "dev": self._realm.dev,
            "final": final,
        }
        self._outbox.send(body)

    def write_if_due(self, next_rules: Callable[[], NextRules]) -> None:
        """Write one after so many records or so long, if it has anything new to say (raises as `write`)."""
        behind, age_ms = self._folded.place.offset - self._offset, self.age_ms
        if age_ms < limits.CHECKPOINT_INTERVAL_MS and behind < limits.CHECKPOINT_RECORDS:
            return
        if behind > 0 or age_ms >= CHECKPOINT_IDLE_MS or next_rules() != self._told:
            self.write(next_rules())

    def finish(self, next_rules: Callable[[], NextRules]) -> None:
        """Write the last one, once everything is confirmed and there is room."""
        if len(self._outbox) or self.final:
            return
        try:
            self.write(next_rules(), final=True)
        except BufferError:
            return
        self.final = True

    def confirmed(self, checkpoint: Sent) -> None:
        """One is in the log."""
        self._to_copy = checkpoint

    def copy_to_heads(self) -> None:
        """Copy the newest one that is in the log, if there is room."""
        if self._to_copy is None:
            return
        try:
            self._outbox.copy_to_heads(self._to_copy)
        except BufferError:
            return
        self._to_copy = None

    def _note(self, told: NextRules) -> None:
        self._offset, self._written_ms, self._told = self._folded.place.offset, self._clock.elapsed_ms(), told
