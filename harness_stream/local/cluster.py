"""Three brokers on one machine, each broker and controller in one: what a realm survives a broker on (PROTOCOL §2).

Rule of this file: it says only in what three brokers differ from one. One killed broker costs nothing but seconds. Two
take the majority of the controllers with them: nothing is acknowledged until one of them is back, so nobody acts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.errors import CallerError
from harness_stream.local.kafka import BrokerSettings
from harness_stream.local.process import LOOPBACK, PORT_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BROKERS: Final = 3
"""The fewest of which any one may go: a majority of controllers and two replicas in sync remain."""

HEAP_MB: Final = 384
"""Each; three local brokers with tens of partitions use about 150 MB each, and share one machine."""

_REPLICATED: Final[Mapping[str, str]] = {
    # Others take over from a broker that is gone, or is taken to be.
    "broker.session.timeout.ms": "2000",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "unclean.leader.election.enable": "false",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    # A broker that stops asks a controller to move its leaders first, and waits five minutes for one. Of three that
    # stop together the last finds none.
    "controlled.shutdown.enable": "false",
}


def cluster_size(directory: Path) -> int | None:
    """How many brokers a stack's folder holds; None if it holds none yet."""
    if _home(directory, 1).exists():
        return BROKERS
    return 1 if (directory / "kafka").exists() else None


def cluster_settings(directory: Path, port: int, brokers: int, libs: Path | None) -> tuple[BrokerSettings, ...]:
    """Where each broker lives: one listens on `port`; three on it and the two after it, their controllers on the next.

    The controllers' ports are known in advance, because each must be told those of all.

    Args:
        directory: the stack's folder.
        port: first TCP port.
        brokers: 1 or 3.
        libs: folder of Kafka's jars; None fetches them.

    Raises:
        CallerError: another number, or there are not enough ports after the first.
    """
    if brokers == 1:
        return (BrokerSettings(directory / "kafka", port, libs=libs),)
    if brokers != BROKERS:
        raise CallerError(f"a local cluster has 1 or {BROKERS} brokers, not {brokers}", hint="--brokers 3")
    if port > PORT_MAX - 2 * BROKERS + 1:
        raise CallerError(f"{BROKERS} brokers take {2 * BROKERS} ports from {port} on", hint="--kafka-port 19092")
    nodes = range(1, BROKERS + 1)
    controllers = {node: port + BROKERS + node - 1 for node in nodes}
    voters = ",".join(f"{node}@{LOOPBACK}:{at}" for node, at in controllers.items())
    return tuple(
        BrokerSettings(
            _home(directory, node),
            port + node - 1,
            controllers[node],
            libs=libs,
            node_id=node,
            extra={**_REPLICATED, "controller.quorum.voters": voters},
            format_flags=(),
            name=_name(node),
            heap_mb=HEAP_MB,
        )
        for node in nodes
    )


def _home(directory: Path, node: int) -> Path:
    return directory / _name(node)


def _name(node: int) -> str:
    return f"kafka-{node}"
