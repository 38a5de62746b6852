"""Every port of the system: what a runtime may ask of a log, a state store, a clock or a signer.

An adapter lives in `adapters/`, passes the contract tests of its port, and knows nothing of decisions. Nothing here
waits longer than its argument says; what cannot be done at once is asked for and collected later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from harness_stream.core.tables import PublicKey

Headers = Sequence[tuple[str, bytes]]


class LogRecord(NamedTuple):
    """One record as read from any topic.

    `timestamp_ms` is the broker's append time; None if the record carries a producer's time instead (garbage, PROTOCOL
    §2).
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp_ms: int | None
    headers: Headers = ()


class Delivery(NamedTuple):
    """What became of one append. `offset` is None if it failed or nobody knows (a time-out is "unknown")."""

    topic: str
    partition: int
    token: int
    offset: int | None
    error: str | None


class Ends(NamedTuple):
    """Answer to an end-offset query: low = first kept offset, end = next offset to be written."""

    topic: str
    partition: int
    low: int
    end: int
    asked_at_ms: int


class Known(NamedTuple):
    """Answer to the question which incarnation the log topics are of (PROTOCOL §1)."""

    incarnation: str
    asked_at_ms: int


class Incarnations(Protocol):
    """Which incarnation the log topics are of now: names stay when topics are recreated, ids do not. Never waits."""

    def ask(self, now_ms: int) -> None:
        """Want an answer to a question of now or later; it is asked until it is answered.

        Args:
            now_ms: elapsed time; it comes back as `asked_at_ms`, or that of somebody who asked later does.
        """

    def known(self) -> Known | None:
        """The newest answer; None before the first."""

    def close(self) -> None:
        """Free everything; nothing is asked afterwards."""


class LogReader(Protocol):
    """Reads any partitions without a group, from offsets that the caller names (read_uncommitted)."""

    def follow(self, topic: str, partition: int, offset: int) -> None:
        """Deliver this partition from `offset` on. Following it again moves the position."""

    def unfollow(self, topic: str, partition: int) -> None:
        """Deliver nothing of this partition any more, not even what was already fetched."""

    def poll(self, records_max: int) -> list[LogRecord]:
        """At most `records_max` records, in offset order within a partition. Never waits.

        A followed position that retention has overtaken is reported by `ends` (low), never by a silent jump.
        """

    def position(self, topic: str, partition: int) -> int | None:
        """Next offset to be delivered of a followed partition, None if it is not followed.

        Offsets without a record (transaction markers, compaction) count as delivered once the adapter knows of them.
        """

    def damaged(self, topic: str, partition: int) -> int | None:
        """The offset that a followed partition stands at because what is stored there cannot be read; else None.

        It was asked for several times over some seconds, and still is: once it can be read, this is None again. What
        is at fault is a batch; more offsets behind this one may be in it.
        """

    def ask_ends(self, partitions: Iterable[tuple[str, int]], now_ms: int) -> None:
        """Start an end-offset query; `now_ms` comes back as `asked_at_ms`. Never waits."""

    def ends(self) -> list[Ends]:
        """Answers that have arrived since the last call; a failed query has none."""

    def close(self) -> None:
        """Free everything; nothing is delivered afterwards."""


class LogWriter(Protocol):
    """Appends in order per partition, idempotent, acks=all. Never waits."""

    def append(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers = (),
        *,
        token: int = 0,
    ) -> None:
        """Hand over one record (None: a tombstone).

        Its fate comes back through `deliveries` with `token`; 0 means that the caller does not care.

        Raises:
            BufferError: the local queue is full; serve `deliveries` and try again.
        """

    def deliveries(self) -> list[Delivery]:
        """Fates known since the last call, in append order per partition. Never waits."""

    def flush(self, timeout_ms: int) -> int:
        """Wait until everything handed over has a fate or time is up; the number still open."""

    def close(self) -> None:
        """Free everything. What is still queued may or may not land."""


class Assignment(NamedTuple):
    """A change of which input partitions this worker owns. `lost` ones were taken away without a chance to finish."""

    gained: tuple[int, ...] = ()
    revoked: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()


class InputConsumer(Protocol):
    """The worker's group membership on `harness.intents` and its positioned stream (PROTOCOL §5, group protocol)."""

    def poll(self, records_max: int, wait_ms: int) -> list[LogRecord]:
        """Records of partitions that were started. Waits up to `wait_ms` only while nothing is there."""

    def assignments(self) -> list[Assignment]:
        """Group changes since the last call, in order. A gained partition is paused until `start`."""

    def finish_revoke(self, partitions: Sequence[int]) -> None:
        """The owner has drained and checkpointed these revoked partitions: give them up."""

    def start(self, partition: int, offset: int) -> None:
        """Deliver from `offset` on (also again, after a resync)."""

    def pause(self, partition: int) -> None:
        """Deliver nothing until `resume`; keep the place."""

    def resume(self, partition: int) -> None:
        """Go on where `pause` stopped."""

    def lost_ranges(self) -> list[tuple[int, int]]:
        """(partition, first kept offset) of positions that the log does not lead to, since the last call.

        Retention has overtaken them, or the log was cut before them, also if it has grown beyond them since: what was
        delivered may not be in the log then. Such a partition stands until `start`. A cut behind which the log has
        grown shows only if a record was delivered since the last `start`.
        """

    def damaged(self) -> Mapping[int, int]:
        """Partition → offset that it stands at, of started ones whose next batch cannot be read (see `LogReader`)."""

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Publish next_input per partition as group offsets, asynchronously; they only show lag."""

    def close(self) -> None:
        """Leave the group."""


@dataclass(frozen=True, slots=True)
class StoredHead:
    """What the state store holds of a partition: the confirmed fold it stands at."""

    verdict_offset: int
    epoch: int
    header: bytes


@dataclass(frozen=True, slots=True)
class StoredUnit:
    """One unit of state: a base and the deltas appended since, oldest first."""

    base: bytes | None
    deltas: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all of it."""
        return len(self.base or b"") + sum(map(len, self.deltas))


@dataclass(frozen=True, slots=True)
class Move:
    """One atomic, monotonic step of a partition's state: head and units together.

    `expect` is where the store must stand (None: it must be empty), the whole head: offsets that a log lost are taken
    again by other records.
    A unit in `bases` is replaced; one in `deltas` is appended to.
    """

    partition: int
    expect: StoredHead | None
    head: StoredHead
    bases: Mapping[str, bytes] = field(default_factory=dict)
    deltas: Mapping[str, Sequence[bytes]] = field(default_factory=dict)


class StateStore(Protocol):
    """A cache of confirmed state; losing it costs time, never history (PROTOCOL §6).

    Every call raises `StateUnavailable` when the store does not answer within the adapter's time limit (20 ms on the
    hot path).
    """

    def head(self, partition: int) -> StoredHead | None:
        """Where the stored state of the partition stands; None if there is none."""

    def units(self, partition: int) -> frozenset[str]:
        """Names of all stored units of the partition."""

    def load(self, partition: int, names: Sequence[str]) -> dict[str, StoredUnit | None]:
        """The named units (at most 64), None for one that is not stored; from the first on, as many as 2 MiB hold.

        The first is always there, whatever its size; ask again for those that are left out.
        """

    def move(self, move: Move) -> StoredHead | None:
        """Apply `move` atomically iff the store stands at `expect` and the step goes forward.

        Returns:
            None if it was applied; else the head the store stands at (offset −1 and epoch 0 if it is empty).
        """

    def clear(self, partition: int, expect: StoredHead | None) -> bool:
        """Forget everything of the partition iff the store stands at `expect` (None: it has no head).

        Returns:
            Whether all of it is forgotten. Else it stands elsewhere, or is large: then it has no head any more, and the
            next call goes on.
        """

    def close(self) -> None:
        """Free connections."""


class Clock(Protocol):
    """Time, as the shell sees it."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since the epoch (decided_at)."""

    def elapsed_ms(self) -> int:
        """A clock for durations that also runs in suspend (CLOCK_BOOTTIME, else monotonic)."""


InputKind = Literal["intent", "outcome", "mandate", "approval"]
"""What an input event says it is: intents and outcomes carry a MAC, mandates and approvals a signature."""


class Sender(NamedTuple):
    """Who an input must be from, as its body and the identity table say.

    Attributes:
        kind: of the event.
        lane: of the agent that it is about.
        keys: public keys of the identity that speaks; none if nobody knows it.
        nonrepudiable: a MAC is not enough, it must carry a signature as well.
    """

    kind: InputKind
    lane: str
    keys: tuple[PublicKey, ...] = ()
    nonrepudiable: bool = False


class DecisionSigner(Protocol):
    """Vouches for what a worker, or an operator, writes. The unsigned one of `--dev` realms writes `hs-alg: none`."""

    @property
    def dev(self) -> bool:
        """True if this realm is unsigned."""

    def may_sign(self, epoch: int) -> bool:
        """Would anybody believe what this process writes in that epoch?"""

    def seal_batch(self, partition: int, digests: Sequence[str]) -> list[Headers]:
        """Headers for each record of one micro-batch of the decision log (one signature for all)."""


class InputSigner(Protocol):
    """Vouches for what an agent's process, or a person's, writes."""

    def speaks_for(self, by: str) -> bool:
        """Has it the keys of this identity?"""

    def seal_input(
        self, topic: str, lane: str, value: bytes, kind: InputKind, by: str, *, nonrepudiable: bool = False
    ) -> Headers:
        """Headers for one input record of an identity that it speaks for.

        Args:
            topic: where it goes.
            lane: of the agent that it is about.
            value: its bytes.
            kind: of the event.
            by: who speaks.
            nonrepudiable: sign an intent besides its MAC, so that others than the PDP can hold it against its sender.
        """


class TokenSigner(Protocol):
    """Vouches for approves towards executors that fold nothing themselves (PROTOCOL §9)."""

    def counts_at(self, now_ms: int) -> bool:
        """Does its certificate count at this time, epoch ms? Else nobody would believe its tokens."""

    def seal_token(self, record: LogRecord, audience: str, not_after_ms: int) -> str:
        """A token.

        Args:
            record: the approve, as it was folded.
            audience: the executor that may run it.
            not_after_ms: epoch ms from which on nobody may begin.
        """


class RulesSigner(Protocol):
    """Vouches for what is written to the rules topic."""

    def seal_rules(self, topic: str, key: bytes, value: bytes) -> Headers:
        """Headers for one record: a bundle, or which one is active."""


class Verifier(Protocol):
    """Decides whether a record is authentic. The `--dev` verifier takes `hs-alg: none` and nothing else."""

    @property
    def judges_inputs(self) -> bool:
        """Can it tell an authentic input from a forged one? Else it takes any: only the PDP's key can tell."""

    def input_authentic(self, record: LogRecord, sender: Sender) -> bool:
        """Was the input written by that sender for this lane, realm and incarnation?"""

    def signature_worth(self, record: LogRecord, sender: Sender) -> str | None:
        """What an input's Ed25519 signature is worth to anybody: right, wrong, or no such key; None if it has none."""

    def why_refused(self, record: LogRecord, sender: Sender) -> str:
        """What is wrong with an input that is not authentic, for its honest sender; empty if that is not known."""

    def decision_authentic(self, record: LogRecord) -> bool:
        """Was the decision-log record written by a certified worker?"""

    def why_rules_refused(self, record: LogRecord) -> str:
        """Why a record of the rules topic is not to be believed; empty if a certified rule-pusher wrote it."""


class Metrics(Protocol):
    """Where the runtime counts; a telemetry adapter exposes it."""

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add to a histogram."""

    def drop(self, **labels: str) -> None:
        """Show nothing more that has these labels: what they name is another process's from now on."""


JsonObject = dict[str, Any]
