"""What `harness topics apply --acls` does and tells: who may do what in a realm's topics, groups and cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness_stream.adapters.kafka.acls import AclPlan
    from harness_stream.adapters.kafka.admin import KafkaAdmin
    from harness_stream.config import Settings
    from harness_stream.wire.acls import Acl


@dataclass(frozen=True, slots=True)
class AclReport:
    """What was done, and what is left.

    Attributes:
        before: how ACLs differed.
        after: how they differ now.
        check: nothing was to be changed.
    """

    before: AclPlan
    after: AclPlan
    check: bool

    @property
    def created(self) -> list[Acl]:
        """What is there now and was not."""
        return [entry for entry in self.before.missing if entry not in self.after.missing]

    @property
    def removed(self) -> list[Acl]:
        """What was there and is not now."""
        return [entry for entry in self.before.extra if entry not in self.after.extra]

    @property
    def remaining(self) -> int:
        """How many differences are left."""
        return len(self.after.missing) + len(self.after.extra)

    def advice(self) -> list[str]:
        """What to do about them."""
        advised = []
        if self.after.missing:
            advised.append("without `--check` the missing ACLs are created")
        if self.after.extra:
            advised.append("`--prune` takes away what the named principals may do besides; read the list first")
        return advised

    def lines(self) -> Iterator[str]:
        """For people."""
        word, gone = ("would create", "would remove with --prune") if self.check else ("missing", "besides")
        yield from (f"allowed {entry}" for entry in self.created)
        yield from (f"removed {entry}" for entry in self.removed)
        yield from (f"{word} {entry}" for entry in self.after.missing)
        yield from (f"{gone} {entry}" for entry in self.after.extra)
        if others := self.after.others:
            who = sorted({entry.principal for entry in others})
            yield f"{len(others)} ACLs of others are left alone: {', '.join(who)}"
        if not (self.created or self.removed or self.remaining):
            yield "every ACL is as it must be"

    def document(self) -> dict[str, Any]:
        """For programs."""
        listed = {
            "created": self.created,
            "removed": self.removed,
            "missing": self.after.missing,
            "extra": self.after.extra,
            "others": self.after.others,
        }
        return {name: [entry._asdict() for entry in entries] for name, entries in listed.items()}


def applied(admin: KafkaAdmin, settings: Settings, given: Sequence[str], *, check: bool, prune: bool) -> AclReport:
    """Compare, and unless it is only a check create what is missing; with `prune` also remove what is too much.

    Raises:
        ConfigError: a principal is malformed, or the cluster has no authorizer.
        BrokerUnavailable: nobody answered in time.
        AccessRefused: we may not.
    """
    from harness_stream.adapters.kafka import acls  # noqa: PLC0415  the Kafka client is slow to load, `--help` is not
    from harness_stream.wire.acls import Names  # noqa: PLC0415  same

    roles, names = acls.roles_of(given), Names(settings.prefix, settings.group)
    before = acls.plan(admin, roles, names)
    if check:
        return AclReport(before, before, check=True)
    acls.create(admin, before.missing)
    if prune:
        acls.remove(admin, before.extra)
    after = acls.plan_when_visible(admin, roles, names, pruned=prune)
    return AclReport(before, after, check=False)
