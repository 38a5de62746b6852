"""Which adapters a command uses: the one place where ports meet Kafka and Redis.

Rule of this file: it builds and hands over; nothing here decides.
"""

from __future__ import annotations

import random
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka.admin import KafkaAdmin, incarnation
from harness_stream.adapters.kafka.group import KafkaInputConsumer
from harness_stream.adapters.kafka.incarnation import KafkaIncarnations
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.kafka.settings import DECISION_BATCHES
from harness_stream.adapters.kafka.topics import verify
from harness_stream.adapters.redis.keys import Whose
from harness_stream.adapters.redis.state import RedisStateStore
from harness_stream.adapters.signing.pairs import keys_of, worker_pair
from harness_stream.core import limits
from harness_stream.core.rate import Rate
from harness_stream.runtime.facts import RulesView, compiled
from harness_stream.runtime.realm import Ports, Realm
from harness_stream.runtime.worker import Worker
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from harness_stream.config import Settings
    from harness_stream.ports import Metrics


def realm_of(settings: Settings, incarnation_id: str) -> Realm:
    """The realm that settings describe."""
    return Realm(
        name=settings.realm,
        incarnation=incarnation_id,
        partitions=settings.partitions,
        topics=Topics(settings.prefix),
        rule_set=settings.rule_set,
        dev=settings.dev,
        snapshot_interval_ms=settings.snapshot_interval_ms,
        hot_units_max=max(1, settings.hot_units_max // settings.partitions),
        lane_rate=Rate(settings.lane_rate, settings.lane_burst),
        hot_bytes_max=limits.HOT_STORED_BYTES_MAX // settings.partitions,
    )


def verified_realm(settings: Settings) -> Realm:
    """The realm that a worker may decide for; joins nothing.

    Raises:
        ConfigError: it is not said where the realm's keys are.
        BrokerUnavailable: Kafka does not answer.
        ProtocolError: a topic is not what the protocol demands.
    """
    keys_of(settings)  # said before anything is asked of a broker
    verify(settings)
    return realm_of(settings, incarnation(settings))


def kafka_worker(settings: Settings, realm: Realm, metrics: Metrics) -> Worker:
    """A worker on Kafka and Redis; it has joined its group, and must be closed.

    Raises:
        ConfigError: the realm's keys cannot be used.
    """
    signer, verifier = worker_pair(settings, realm.incarnation)
    clock = SystemClock()
    topics = Topics(settings.prefix)
    ports = Ports(
        consumer=KafkaInputConsumer(settings.kafka, settings.group, topics.intents, clock),
        writer=KafkaWriter(settings.kafka, DECISION_BATCHES),
        reader=KafkaReader(settings.kafka, clock, (topics.heads, topics.verdicts, topics.chains)),
        incarnations=KafkaIncarnations(settings.kafka, (topics.intents, topics.verdicts), clock),
        store=RedisStateStore(settings.redis, Whose.of(settings, realm.incarnation), clock),
        clock=clock,
        signer=signer,
        verifier=verifier,
        metrics=metrics,
        jitter=random.SystemRandom().random,
    )
    load = partial(compiled, timespan_ms_max=settings.max_timespan_ms)
    compiling = ThreadPoolExecutor(1, thread_name_prefix="rules")
    rules = RulesView(realm.rule_set, load, background=compiling, refused=verifier.why_rules_refused)
    return Worker(realm, ports, secrets.token_hex(16), rules)


__all__ = ["KafkaAdmin", "kafka_worker", "realm_of", "verified_realm"]
