"""Compares a realm's topics with PROTOCOL §2 and creates what is missing.

Rule: nothing that exists is changed unless asked for, and partition counts and replication never are: that would move
agents to other partitions, or data between brokers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from harness_stream.adapters.kafka.admin import ADMIN_S_MAX, KafkaAdmin
from harness_stream.errors import BrokerUnavailable, ConfigError, ProtocolError
from harness_stream.wire import acls
from harness_stream.wire.topics import (
    MIN_INSYNC_SETTING,
    REPLICATION,
    REPLICATION_DEV,
    Topics,
    retention_ms,
    topic_specs,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]  # re-exported without saying so

    from harness_stream.config import Settings
    from harness_stream.wire.topics import Requirement, TopicSpec

PARTITIONS: Final = "partitions"
REPLICAS: Final = "replication factor"
# A busy controller publishes a change within a second; after five, what still differs was not taken.
VISIBLE_S_MAX: Final = 5.0
VISIBLE_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Found:
    """What a broker says of one topic."""

    partitions: int
    replication: int
    configs: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which an existing topic is not what the protocol asks for.

    Attributes:
        topic: full topic name.
        setting: `partitions`, `replication factor`, or Kafka's name of a setting.
        expected: what it must be; "≥ n" for a floor.
        found: what it is.
        fixable: True if `--fix` can change it.
    """

    topic: str
    setting: str
    expected: str
    found: str
    fixable: bool

    def __str__(self) -> str:
        return f"`{self.topic}`: {self.setting} is {self.found}, must be {self.expected}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What would have to happen to the realm's topics."""

    missing: tuple[TopicSpec, ...]
    differences: tuple[Difference, ...]


def compare(spec: TopicSpec, found: Found) -> list[Difference]:
    """Every difference of one existing topic."""
    differences = []
    if found.partitions != spec.partitions:
        differences.append(Difference(spec.name, PARTITIONS, str(spec.partitions), str(found.partitions), False))
    if found.replication < spec.replication:
        expected = f"≥ {spec.replication}"
        differences.append(Difference(spec.name, REPLICAS, expected, str(found.replication), False))
    for need in spec.requirements:
        value = found.configs.get(need.name)
        if not need.met_by(value):
            expected = f"≥ {need.value}" if need.floor else need.value
            differences.append(Difference(spec.name, need.name, expected, str(value), _fixable(need, found)))
    return differences


def _fixable(need: Requirement, found: Found) -> bool:
    """More replicas demanded in sync than there are would stop every writer, and replicas are not changed here."""
    return need.name != MIN_INSYNC_SETTING or int(need.value) <= found.replication


def topics_for(settings: Settings) -> tuple[TopicSpec, ...]:
    """Every topic of the realm that settings describe.

    Raises:
        ConfigError: fewer replicas than a realm has that is not `dev`.
    """
    kept_ms = retention_ms(settings.max_timespan_ms, settings.snapshot_interval_ms)
    replication = settings.replication or (REPLICATION_DEV if settings.dev else REPLICATION)
    if replication < REPLICATION and not settings.dev:
        raise ConfigError(
            f"a realm has at least {REPLICATION} replicas, not {replication}",
            hint="leave `replication` out, or add `--dev` for a realm that may be lost with its broker",
        )
    return topic_specs(settings.prefix, settings.partitions, kept_ms, replication)


def plan(admin: KafkaAdmin, settings: Settings) -> Plan:
    """Compare the realm's topics with what they must be.

    Raises:
        ConfigError: see `topics_for`.
        BrokerUnavailable: nobody answered in time.
    """
    specs = topics_for(settings)
    described = admin.describe([spec.name for spec in specs])
    configs = _configs(admin, [name for name, found in described.items() if found is not None])
    missing, differences = [], []
    for spec in specs:
        description, config = described[spec.name], configs.get(spec.name)
        if description is None or config is None:
            missing.append(spec)
        else:
            differences += compare(spec, _found(description, config))
    return Plan(tuple(missing), tuple(differences))


def create(admin: KafkaAdmin, specs: Sequence[TopicSpec]) -> None:
    """Create topics; one that another process creates meanwhile is left to the next comparison.

    Raises:
        BrokerUnavailable: nobody answered in time.
        ProtocolError: the broker refuses, for instance for want of replicas.
    """
    if not specs:
        return
    topics = [
        NewTopic(s.name, s.partitions, s.replication, config={need.name: need.value for need in s.requirements})
        for s in specs
    ]
    futures = admin.client.create_topics(topics, operation_timeout=ADMIN_S_MAX, request_timeout=ADMIN_S_MAX)
    for name, future in futures.items():
        try:
            admin.result(future, name, acls.CREATE)
        except BrokerUnavailable:
            _require_made_late(admin, name)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise _refused(f"create `{name}`", error) from error


def _require_made_late(admin: KafkaAdmin, name: str) -> None:
    """Brokers that are busy making topics go on with it after the question has timed out.

    Raises:
        BrokerUnavailable: nobody answers, or the topic does not come.
    """
    give_up_s = time.monotonic() + VISIBLE_S_MAX
    while admin.describe([name])[name] is None:
        if time.monotonic() >= give_up_s:
            raise BrokerUnavailable(
                f"Kafka at {admin.bootstrap} answers, and `{name}` is not made after {VISIBLE_S_MAX:.0f} s",
                hint="say the same again; it goes on with what is missing",
            )
        time.sleep(VISIBLE_PAUSE_S)


def fix(admin: KafkaAdmin, settings: Settings, differences: Sequence[Difference]) -> None:
    """Set the settings that differ; what is not fixable is left.

    Raises:
        BrokerUnavailable: nobody answered in time.
        ProtocolError: the broker refuses.
    """
    wanted = {(s.name, need.name): need.value for s in topics_for(settings) for need in s.requirements}
    resources: dict[str, list[ConfigEntry]] = {}
    for d in differences:
        if d.fixable:
            entry = ConfigEntry(d.setting, wanted[d.topic, d.setting], incremental_operation=AlterConfigOpType.SET)
            resources.setdefault(d.topic, []).append(entry)
    if not resources:
        return
    futures = admin.client.incremental_alter_configs(
        [ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name, entries in resources.items()],
        request_timeout=ADMIN_S_MAX,
    )
    for resource, future in futures.items():
        try:
            admin.result(future, str(resource.name), acls.ALTER_CONFIGS)
        except KafkaException as error:
            raise _refused(f"change `{resource.name}`", error) from error


def plan_when_visible(admin: KafkaAdmin, settings: Settings, *, fixed: bool) -> Plan:
    """The plan after a change: brokers learn of it within milliseconds, so what still differs is asked for again.

    Args:
        admin: the realm's.
        settings: the realm's.
        fixed: whether settings were changed too.

    Raises:
        BrokerUnavailable: nobody answered in time.
    """
    give_up_s = time.monotonic() + VISIBLE_S_MAX
    while True:
        found = plan(admin, settings)
        pending = found.missing or (fixed and any(d.fixable for d in found.differences))
        if not pending or time.monotonic() >= give_up_s:
            return found
        time.sleep(VISIBLE_PAUSE_S)


def verify(settings: Settings) -> None:
    """Make sure that every topic is what PROTOCOL §2 asks for; a worker calls this before anything else.

    Raises:
        BrokerUnavailable: nobody answered in time.
        AccessRefused: a right that a worker needs is missing.
        ProtocolError: lists every topic that is missing and every difference.
    """
    admin = KafkaAdmin(settings.kafka)
    _require_workers_rights(admin, settings)
    found = plan(admin, settings)
    mistakes = [f"`{spec.name}` does not exist" for spec in found.missing] + [str(d) for d in found.differences]
    if mistakes:
        raise ProtocolError(
            "the realm's topics are not what the protocol asks for:\n  " + "\n  ".join(mistakes),
            hint="; ".join(
                [
                    *(["`harness topics apply` creates what is missing"] if found.missing else []),
                    *advice(admin, settings, found.differences),
                ]
            ),
        )


def _require_workers_rights(admin: KafkaAdmin, settings: Settings) -> None:
    """A right that is missing would look like a broker that is slow, and one on the group like a group that is."""
    rights = acls.rights_of("worker", Topics(settings.prefix))
    admin.require(admin.describe(list(rights), rights), rights)
    admin.require_group(settings.group)


def advice(admin: KafkaAdmin, settings: Settings, differences: Sequence[Difference]) -> list[str]:
    """What to do about differences.

    Raises:
        BrokerUnavailable: nobody answered in time.
    """
    advised = []
    few = {d.topic for d in differences if d.setting == REPLICAS}
    if few and not settings.dev:
        left = plan(admin, replace(settings, dev=True, replication=REPLICATION_DEV)).differences
        differences = [d for d in differences if d.topic not in few or d in left]
        advised.append("a realm made with `--dev` has one replica: add `--dev` (or set HARNESS_DEV=1) here too")
    if any(d.fixable for d in differences):
        advised.append("`harness topics apply --fix` changes settings")
    if any(not d.fixable for d in differences):
        advised.append(
            "partition counts and replicas are never changed in place: name those that exist"
            " (`--partitions`, `--replication`), or take a new `--prefix`"
        )
    return advised


def _configs(admin: KafkaAdmin, names: list[str]) -> dict[str, dict[str, str | None] | None]:
    """None for a topic that the broker which was asked does not know (yet): each one learns of it in its own time."""
    if not names:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    futures = admin.client.describe_configs(resources, request_timeout=ADMIN_S_MAX)
    found = {r.name: admin.known(future, r.name, acls.DESCRIBE_CONFIGS) for r, future in futures.items()}
    return {
        name: None if entries is None else {entry.name: entry.value for entry in entries.values()}
        for name, entries in found.items()
    }


def _found(description: TopicDescription, configs: Mapping[str, str | None]) -> Found:
    replication = min((len(p.replicas) for p in description.partitions), default=0)
    return Found(len(description.partitions), replication, configs)


def _refused(what: str, error: KafkaException) -> ProtocolError:
    few_brokers = error.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR
    return ProtocolError(
        f"Kafka refuses to {what}: {error.args[0].str()}",
        hint="on fewer brokers than that add `--dev`, which asks for one replica unless `replication` says more"
        if few_brokers
        else "",
    )
