"""Compares a cluster's ACLs with what roles need (wire/acls.py), and writes what is missing.

Rule of this file: a broker does not remember who wrote an entry, so nothing is removed unless asked for, and then only
from principals that were named.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from harness_stream.adapters.kafka.admin import ADMIN_S_MAX, KafkaAdmin
from harness_stream.adapters.kafka.refused import denied
from harness_stream.adapters.kafka.topics import VISIBLE_PAUSE_S, VISIBLE_S_MAX
from harness_stream.errors import ConfigError, ProtocolError
from harness_stream.wire import acls
from harness_stream.wire.acls import Acl

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from concurrent.futures import Future

    from harness_stream.wire.acls import Names

T = TypeVar("T", bound=AclBinding)
_TYPES: Final[Mapping[str, ResourceType]] = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "cluster": ResourceType.BROKER,  # librdkafka's word for it
}
_KINDS: Final = {kind: word for word, kind in _TYPES.items()}


@dataclass(frozen=True, slots=True)
class AclPlan:
    """How a cluster's ACLs differ from what named principals need.

    Attributes:
        missing: to be created.
        extra: what named principals may do besides in this realm; removed only with `--prune`.
        others: what principals that were not named may do in this realm; never touched.
    """

    missing: tuple[Acl, ...]
    extra: tuple[Acl, ...]
    others: tuple[Acl, ...]


def wanted(roles: Collection[tuple[str, str]], names: Names) -> frozenset[Acl]:
    """What pairs of role and principal need."""
    return frozenset(entry for role, principal in roles for entry in acls.entries(role, principal, names))


def plan(admin: KafkaAdmin, roles: Collection[tuple[str, str]], names: Names) -> AclPlan:
    """Compare.

    Args:
        admin: the cluster's.
        roles: pairs of role and principal.
        names: of the realm's things.

    Raises:
        BrokerUnavailable: nobody answered in time.
        AccessRefused: we may not look at ACLs.
        ConfigError: the cluster has no authorizer, so that ACLs would protect nothing.
    """
    found = {entry for entry in _found(admin) if names.covers(entry)}
    need, named = wanted(roles, names), {principal for _, principal in roles}
    extra = (entry for entry in found - need if entry.principal in named)
    others = (entry for entry in found if entry.principal not in named)
    return AclPlan(tuple(sorted(need - found)), tuple(sorted(extra)), tuple(sorted(others)))


def create(admin: KafkaAdmin, entries: Collection[Acl]) -> None:
    """Write entries.

    Raises:
        As `plan`.
    """
    if entries:
        bindings = [_binding(entry, AclBinding) for entry in entries]
        _settle(admin, admin.client.create_acls(bindings, request_timeout=ADMIN_S_MAX).values())


def remove(admin: KafkaAdmin, entries: Collection[Acl]) -> None:
    """Take exactly these away.

    Raises:
        As `plan`.
    """
    if entries:
        filters = [_binding(entry, AclBindingFilter) for entry in entries]
        _settle(admin, admin.client.delete_acls(filters, request_timeout=ADMIN_S_MAX).values())


def plan_when_visible(
    admin: KafkaAdmin, roles: Collection[tuple[str, str]], names: Names, *, pruned: bool
) -> AclPlan:
    """The plan after a change, which every broker learns in its own time.

    Raises:
        As `plan`.
    """
    give_up_s = time.monotonic() + VISIBLE_S_MAX
    while True:
        found = plan(admin, roles, names)
        if not (found.missing or (pruned and found.extra)) or time.monotonic() >= give_up_s:
            return found
        time.sleep(VISIBLE_PAUSE_S)


def roles_of(given: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of role and principal, of `role=User:name` as a command line says them.

    Raises:
        ConfigError: one is malformed, none is given, or somebody shall have a role and none.
    """
    pairs = [_pair(text) for text in given]
    if not pairs:
        raise ConfigError(
            "it is not said who has which role",
            hint=f"--principal worker=User:NAME, for each; roles: {', '.join(acls.MATRIX)}",
        )
    without = {principal for role, principal in pairs if not acls.MATRIX[role]}
    if both := sorted(without & {principal for role, principal in pairs if acls.MATRIX[role]}):
        raise ConfigError(f"`{both[0]}` shall have a role and none", hint="leave one of them out")
    return pairs


def _pair(text: str) -> tuple[str, str]:
    role, _, principal = text.partition("=")
    if role not in acls.MATRIX:
        raise ConfigError(f"there is no role `{role}`", hint=f"role=User:NAME; roles: {', '.join(acls.MATRIX)}")
    kind, _, name = principal.partition(":")
    if kind != "User" or not name:
        raise ConfigError(f"`{principal}` is no principal of Kafka", hint=f"e.g. {role}=User:alice")
    if name == "*":
        raise ConfigError("`User:*` is everybody, and a role is somebody's", hint=f"e.g. {role}=User:alice")
    return role, principal


def _found(admin: KafkaAdmin) -> list[Acl]:
    any_name: Any = None  # its annotations do not know that a filter may leave texts out
    anybody = anywhere = any_name
    everything = AclBindingFilter(
        ResourceType.ANY,
        any_name,
        ResourcePatternType.ANY,
        anybody,
        anywhere,
        AclOperation.ANY,
        AclPermissionType.ANY,
    )
    _require_sight(admin)
    asked = admin.client.describe_acls(everything, request_timeout=ADMIN_S_MAX)
    return [_entry(b) for b in _answer(admin, asked, acls.DESCRIBE) if ResourceType(b.restype) in _KINDS]


def _require_sight(admin: KafkaAdmin) -> None:
    """Librdkafka gives an empty list to who may not see ACLs, and no error; here it says nothing at all."""
    asked = admin.client.describe_cluster(include_authorized_operations=True, request_timeout=ADMIN_S_MAX)
    if AclOperation.DESCRIBE not in (admin.result(asked).authorized_operations or ()):
        raise denied(admin.access, "cluster", acls.CLUSTER, acls.DESCRIBE)


def _answer(admin: KafkaAdmin, asked: Future[list[AclBinding]], operation: str) -> list[AclBinding]:
    try:
        return admin.result(asked, acls.CLUSTER, operation)
    except KafkaException as error:
        if error.args[0].name() == "SECURITY_DISABLED":
            raise ConfigError(
                f"Kafka at {admin.bootstrap} has no authorizer, so ACLs protect nothing there",
                hint="its `authorizer.class.name` must be org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            ) from error
        raise ProtocolError(f"Kafka refuses: {error.args[0].str()}") from error


def _settle(admin: KafkaAdmin, asked: Iterable[Future[list[AclBinding]]]) -> None:
    for future in asked:
        _answer(admin, future, acls.ALTER)


def _entry(binding: AclBinding) -> Acl:
    return Acl(
        binding.principal,
        _KINDS[ResourceType(binding.restype)],
        binding.name,
        AclOperation(binding.operation).name,
        ResourcePatternType(binding.resource_pattern_type).name,
        AclPermissionType(binding.permission_type).name,
        binding.host,
    )


def _binding(entry: Acl, kind: type[T]) -> T:
    return kind(
        _TYPES[entry.kind],
        entry.name,
        ResourcePatternType[entry.pattern],
        entry.principal,
        entry.host,
        AclOperation[entry.operation],
        AclPermissionType[entry.permission],
    )
