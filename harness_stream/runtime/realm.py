"""What a worker is given once: the realm it serves, and the ports it does so through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness_stream import config
from harness_stream.core import limits
from harness_stream.core.rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness_stream.ports import (
        Clock,
        DecisionSigner,
        Incarnations,
        InputConsumer,
        LogReader,
        LogWriter,
        Metrics,
        StateStore,
        Verifier,
    )
    from harness_stream.wire.topics import Topics

LANE_RATE_DEFAULT: Final = Rate(config.LANE_RATE_DEFAULT, config.LANE_BURST_DEFAULT)


@dataclass(frozen=True, slots=True)
class Realm:
    """One deployment and domain of trust (PROTOCOL §1).

    Attributes:
        name: as inputs name it.
        incarnation: ids of the two log topics.
        partitions: P.
        topics: their names.
        rule_set: which active bundle it decides by.
        dev: it is unsigned.
        snapshot_interval_ms: how often changed units are written to the chains topic.
        hot_units_max: units of one partition kept in memory before idle ones leave.
        lane_rate: what one lane may have evaluated.
        hot_bytes_max: what they may have together where they are stored.
    """

    name: str
    incarnation: str
    partitions: int
    topics: Topics
    rule_set: str
    dev: bool
    snapshot_interval_ms: int
    hot_units_max: int
    lane_rate: Rate = LANE_RATE_DEFAULT
    hot_bytes_max: int = limits.HOT_STORED_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Ports:
    """Everything outside of the process. `jitter` gives a number in [0, 1) for the wait before claiming again."""

    consumer: InputConsumer
    writer: LogWriter
    reader: LogReader
    incarnations: Incarnations
    store: StateStore
    clock: Clock
    signer: DecisionSigner
    verifier: Verifier
    metrics: Metrics
    jitter: Callable[[], float]
