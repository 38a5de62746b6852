"""The Faust app: decision log in, risk rows out. Only wiring; what counts stands in `score`.

Rule of this file: committed offsets mean nothing here. The consumer begins wherever `start` says, at every start and
rebalance, and commits nothing (exactly-once of Faust is broken, so nothing is built on it): scores are rebuilt from the
log, and a row written twice is the same row. `faust -A topologies.risk.app worker -l info` finds `app` below.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import faust
from faust.transport.drivers import aiokafka as driver

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.signing.pairs import keys_of, verifier_of
from harness_stream.config import Settings, load_settings
from harness_stream.core import limits
from harness_stream.errors import ProtocolError
from harness_stream.ports import LogRecord
from harness_stream.wire.acls import risk_group
from harness_stream.wire.cloudevents import CE_SOURCE, source_of
from harness_stream.wire.codec import encode
from harness_stream.wire.topics import Topics
from topologies.risk.score import Decay, PartitionRisk
from topologies.risk.start import find_places

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from faust.types.auth import CredentialsT

    from harness_stream.access import KafkaAccess
    from harness_stream.core.tables import RiskRow

# How often scores are looked at and rows written: two a second at most for one agent, however fast it is denied.
PUBLISH_S: Final = 0.5
FEEDER: Final = "topologies.risk"
# Kafka's number for "stamped by the broker" in a record batch.
_LOG_APPEND_TIME: Final = 1
# Tables are compacted topics of one partition, so that a revision is an offset (PROTOCOL §2).
_TABLE_PARTITION: Final = 0


class Risks:
    """The partitions this process reads.

    Args:
        settings: the realm, and how denials count.
    """

    def __init__(self, settings: Settings) -> None:
        keys_of(settings)
        self._settings, self._clock = settings, SystemClock()
        ignored = frozenset(settings.risk_ignored_rules.replace(",", " ").split())
        self._decay = Decay(settings.risk_half_life_ms, settings.risk_denials_full, ignored)
        self._partitions: dict[int, PartitionRisk] = {}

    @property
    def topic(self) -> str:
        """The decision log."""
        return Topics(self._settings.prefix).verdicts

    async def begin(self, partitions: Iterable[int]) -> Mapping[int, int]:
        """Take exactly these partitions; the offset to read each from."""
        wanted = set(partitions)
        self._partitions = {p: risk for p, risk in self._partitions.items() if p in wanted}
        since_ms = self._clock.now_ms() - self._decay.history_ms
        new = sorted(wanted - self._partitions.keys())
        if new:
            self._partitions |= await asyncio.to_thread(self._found, new, since_ms)
        return {partition: risk.next_offset for partition, risk in self._partitions.items()}

    def _found(self, partitions: Iterable[int], since_ms: int) -> dict[int, PartitionRisk]:
        verifier = verifier_of(self._settings, incarnation(self._settings))
        places = find_places(self._settings, partitions, since_ms, verifier)
        return {partition: PartitionRisk(place, verifier, self._decay) for partition, place in places.items()}

    def take(self, record: LogRecord) -> None:
        """One record of the decision log."""
        risk = self._partitions.get(record.partition)
        if risk is not None:
            risk.take(record)

    def rows(self) -> list[tuple[str, RiskRow | None]]:
        """Rows that are due now."""
        now_ms = self._clock.now_ms()
        return [row for risk in self._partitions.values() for row in risk.rows(now_ms)]


def build(settings: Settings) -> faust.App:
    """The app of one realm.

    Raises:
        ConfigError: it is not said where the realm's keys are.
    """
    risks = Risks(settings)
    built = _faust_app(settings)
    built.transport = _transport(built, risks)
    log = built.topic(risks.topic, key_serializer="raw", value_serializer="raw")
    table = built.topic(Topics(settings.prefix).risk, key_serializer="raw", value_serializer="raw")
    # Says whose the rows are, so that `harness tables load --prune` leaves them alone.
    feeder = {CE_SOURCE: source_of(settings.realm, FEEDER).encode()}

    @built.agent(log)
    async def fold(stream: Any) -> None:  # noqa: ANN401  Faust has no types
        async for event in stream.noack().events():
            try:
                risks.take(_to_record(event.message))
            except ProtocolError as error:
                # Faust would start the agent anew on the same state; a new process begins at a place that holds.
                await built.crash(error)

    @built.timer(PUBLISH_S)  # type: ignore[untyped-decorator]  # Faust has no types
    async def publish() -> None:
        for key, row in risks.rows():
            value = None if row is None else encode(row)
            await (await table.send(key=key.encode(), value=value, partition=_TABLE_PARTITION, headers=feeder))

    return built


def _faust_app(settings: Settings) -> faust.App:
    return faust.App(
        risk_group(settings.prefix),
        broker=[f"kafka://{address}" for address in settings.bootstrap.split(",")],
        broker_credentials=_credentials(settings.kafka),
        autodiscover=False,
        web_enabled=False,
        # Topics are made by `harness topics apply`, never by a reader.
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        # Nothing is acknowledged, so there is nothing to wait for when it stops.
        stream_wait_empty=False,
        broker_session_timeout=limits.SESSION_MS / 1000,
        broker_heartbeat_interval=limits.HEARTBEAT_MS / 1000,
        # No tables: Faust only wants the folder to exist.
        datadir=str(Path(tempfile.gettempdir()) / f"{settings.prefix}-risk"),
    )


def _credentials(access: KafkaAccess) -> CredentialsT | None:
    """The way into Kafka as Faust's own client wants it told; what librdkafka is told stands in adapters/kafka."""
    if access.user:
        return faust.SASLCredentials(
            username=access.user,
            password=access.password.reveal(),
            mechanism=access.mechanism,
            ssl_context=access.tls.context() if access.encrypted else None,
        )
    return faust.SSLCredentials(access.tls.context()) if access.encrypted else None


def _transport(app: faust.App, risks: Risks) -> Any:  # noqa: ANN401  Faust has no types
    """Faust's Kafka transport, whose consumer begins where `risks` says instead of at a committed offset."""

    class Consumer(driver.Consumer):
        async def seek_to_committed(self) -> Mapping[Any, int]:
            """Faust asks for this after every rebalance, before anything is read."""
            assigned = {place.partition: place for place in self.assignment() if place.topic == risks.topic}
            starts = {assigned[p]: offset for p, offset in (await risks.begin(assigned)).items()}
            await self.seek_wait(starts)
            return starts

    class Transport(driver.Transport):
        pass

    Transport.Consumer = Consumer
    return Transport(app.conf.broker_consumer, app)


def _to_record(message: Any) -> LogRecord:  # noqa: ANN401  Faust has no types
    stamped = message.timestamp_type == _LOG_APPEND_TIME and message.timestamp is not None
    return LogRecord(
        message.topic,
        message.partition,
        message.offset,
        message.key,
        message.value,
        round(message.timestamp * 1000) if stamped else None,
        [(name, value or b"") for name, value in message.headers or ()],
    )


def __getattr__(name: str) -> Any:  # noqa: ANN401  whatever the module has
    """`app` for the `faust` command, made when it is asked for: importing this file reads no settings."""
    if name == "app":
        return build(load_settings())
    raise AttributeError(name)
