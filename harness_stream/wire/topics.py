"""The topic table of PROTOCOL §2: which topics a realm has, and what each must be.

Rule of this file: it is the only place that knows a topic's name, partition count or settings. A requirement is either
exact or a floor, so that an operator may keep more than the protocol asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from harness_stream.core import limits

Shape = Literal["lanes", "one"]

REPLICATION: Final = 3  # two may fail one after the other without losing what was acknowledged
REPLICATION_DEV: Final = 1
MIN_INSYNC_SETTING: Final = "min.insync.replicas"
MIN_INSYNC: Final = 2  # an acknowledged record survives the loss of any one broker, where there are two

# A reader of heads reads the active segment whole: at one checkpoint of 1 KiB a second these are 600 KiB.
HEADS_SEGMENT_MS: Final = 600_000
# Rows carry key, headers and framing besides their value.
FRAMING_BYTES: Final = 4 * limits.KIB
# A piece of a unit of state (limits.PART_BYTES_MAX, or one larger value); bundles have the same room. Kafka's default.
LARGE_BYTES_MAX: Final = limits.MIB
# Garbage is kept to look at, not to fill a disk.
DEADLETTER_BYTES_MAX: Final = 64 * limits.MIB

TABLES: Final = ("identity", "infrastructure", "risk", "classification")


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one setting of a topic must be.

    Attributes:
        name: Kafka's name of the setting.
        value: what it is created with.
        floor: True if any number ≥ `value` is as good (-1 means without limit); else it must be equal.
    """

    name: str
    value: str
    floor: bool = False

    def met_by(self, found: str | None) -> bool:
        """Does the value found on the broker satisfy it?"""
        if found is None or not self.floor:
            return found == self.value
        return int(found) == -1 or int(found) >= int(self.value)


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """What one topic must be.

    Attributes:
        name: full topic name.
        partitions: exact partition count.
        replication: smallest replication factor.
        requirements: its settings.
    """

    name: str
    partitions: int
    replication: int
    requirements: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Topics:
    """The names of one realm's topics.

    Attributes:
        prefix: their first part.
    """

    prefix: str

    @property
    def intents(self) -> str:
        """Input log."""
        return f"{self.prefix}.intents"

    @property
    def verdicts(self) -> str:
        """Decision log."""
        return f"{self.prefix}.verdicts"

    @property
    def heads(self) -> str:
        """Newest checkpoint per partition."""
        return f"{self.prefix}.heads"

    @property
    def chains(self) -> str:
        """Snapshots of chains, partitioned as the decision log."""
        return f"{self.prefix}.chains"

    @property
    def identity(self) -> str:
        """Table of agents and people."""
        return f"{self.prefix}.identity"

    @property
    def infrastructure(self) -> str:
        """Table of workloads."""
        return f"{self.prefix}.infrastructure"

    @property
    def risk(self) -> str:
        """Table of risk scores."""
        return f"{self.prefix}.risk"

    @property
    def classification(self) -> str:
        """Table of tools and resources."""
        return f"{self.prefix}.classification"

    @property
    def rules(self) -> str:
        """Rule bundles, and which is active."""
        return f"{self.prefix}.rules"

    @property
    def deadletter(self) -> str:
        """Copies of skipped garbage."""
        return f"{self.prefix}.deadletter"

    def table(self, name: str) -> str:
        """Topic of the table `name`, one of `TABLES`."""
        return f"{self.prefix}.{name}"


def retention_ms(max_timespan_ms: int, snapshot_interval_ms: int) -> int:
    """How long both logs must be kept (PROTOCOL §2): longest window + hold + 2 snapshot intervals + 24 h."""
    return max_timespan_ms + limits.HOLD_MS_DEFAULT + 2 * snapshot_interval_ms + limits.RETENTION_SLACK_MS


def topic_specs(prefix: str, partitions: int, kept_ms: int, replication: int) -> tuple[TopicSpec, ...]:
    """Every topic of a realm.

    Args:
        prefix: first part of each name.
        partitions: P, of the logs and of what is co-numbered with them.
        kept_ms: how long both logs must be kept, see `retention_ms`.
        replication: how many brokers have each record.
    """
    topics = Topics(prefix)
    durable = _durable(replication)

    def spec(name: str, count: int, *own: Requirement) -> TopicSpec:
        append_time = Requirement("message.timestamp.type", "LogAppendTime")
        return TopicSpec(name, count, replication, (append_time, *own, *durable))

    kept = Requirement("retention.ms", str(kept_ms), floor=True)
    unlimited = Requirement("retention.bytes", "-1")
    return (
        spec(topics.intents, partitions, *_INTENTS, kept, unlimited),
        spec(topics.verdicts, partitions, *_VERDICTS, kept, unlimited),
        spec(topics.heads, partitions, *_HEADS),
        spec(topics.chains, partitions, *_LARGE_ROWS),
        *(spec(topics.table(name), 1, *_ROWS) for name in TABLES),
        spec(topics.rules, 1, *_LARGE_ROWS),
        spec(topics.deadletter, 1, *_DEADLETTER),
    )


def _durable(replication: int) -> tuple[Requirement, ...]:
    acknowledged_by = Requirement(MIN_INSYNC_SETTING, str(min(MIN_INSYNC, replication)), floor=True)
    if replication == 1:
        return (acknowledged_by,)
    return acknowledged_by, Requirement("unclean.leader.election.enable", "false")


def _at_most(size_bytes: int) -> Requirement:
    return Requirement("max.message.bytes", str(size_bytes))


_DELETE: Final = Requirement("cleanup.policy", "delete")
_COMPACT: Final = Requirement("cleanup.policy", "compact")
# zstd would let 20 MB through a 64 KiB limit.
_INTENTS: Final = (_DELETE, Requirement("compression.type", "uncompressed"), _at_most(limits.INTENT_BYTES_MAX))
_VERDICTS: Final = (_DELETE, _at_most(limits.DECISION_BYTES_MAX))
_HEADS: Final = (_COMPACT, Requirement("segment.ms", str(HEADS_SEGMENT_MS)))
_ROWS: Final = (_COMPACT, _at_most(limits.ROW_BYTES_MAX + FRAMING_BYTES))
_LARGE_ROWS: Final = (_COMPACT, _at_most(LARGE_BYTES_MAX))
_DEADLETTER: Final = (
    _DELETE,
    _at_most(limits.DECISION_BYTES_MAX),  # as the decision log, so that a worker's batches fit
    Requirement("retention.bytes", str(DEADLETTER_BYTES_MAX)),
)
