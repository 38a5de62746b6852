"""Who may do what in a realm's Kafka: the one table of roles, topics, groups and operations.

Rule of this file: a role has what its commands really do (`harness topics apply --acls` writes it, a test with a real
broker tries every cell) and nothing else. Kafka derives DESCRIBE from READ, WRITE and ALTER, and DESCRIBE_CONFIGS from
ALTER_CONFIGS, so those are not written beside them. An idempotent producer needs no right on the cluster: since Kafka
2.8 WRITE on any topic suffices (KIP-679). Names are literal: a prefix would also be another realm's beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from harness_stream.wire.topics import TABLES, Topics

Kind = Literal["topic", "group", "cluster"]

READ, WRITE, CREATE, ALTER, DESCRIBE = "READ", "WRITE", "CREATE", "ALTER", "DESCRIBE"
ALTER_CONFIGS, DESCRIBE_CONFIGS = "ALTER_CONFIGS", "DESCRIBE_CONFIGS"
IMPLIES: Final = {READ: DESCRIBE, WRITE: DESCRIBE, ALTER: DESCRIBE, ALTER_CONFIGS: DESCRIBE_CONFIGS}
"""What Kafka grants along with an operation."""

CLUSTER: Final = "kafka-cluster"
"""Kafka's name of the one cluster there is."""
LOGS: Final = ("intents", "verdicts", "heads", "chains")
TOPICS: Final = (*LOGS, *TABLES, "rules", "deadletter")
WORKERS, RISK, READERS = "workers", "risk", "readers"
"""The consumer groups, by words of their own; see `named`."""
NO_GROUP: Final = "harness-no-group"
"""The name that consumers without a group give to librdkafka, which wants one; it is never joined nor committed to."""


class Right(NamedTuple):
    """Operations on one thing.

    Attributes:
        kind: of the thing.
        word: a topic's name without prefix, a group's word, or CLUSTER.
        operations: Kafka's names.
    """

    kind: Kind
    word: str
    operations: tuple[str, ...]


class Acl(NamedTuple):
    """One entry, as a broker keeps it.

    Attributes:
        principal: `User:name`.
        kind: of the resource.
        name: its full name.
        operation: Kafka's name.
        pattern: how `name` is meant, LITERAL or PREFIXED.
        permission: ALLOW or DENY.
        host: from where; `*`: from anywhere.
    """

    principal: str
    kind: str
    name: str
    operation: str
    pattern: str = "LITERAL"
    permission: str = "ALLOW"
    host: str = "*"

    def __str__(self) -> str:
        where = "" if self.host == "*" else f" from {self.host}"
        denied = "" if self.permission == "ALLOW" else f"{self.permission} "
        how = "" if self.pattern == "LITERAL" else f" ({self.pattern.lower()})"
        return f"{denied}{self.principal} {self.operation} {self.kind} `{self.name}`{how}{where}"


def _on(words: tuple[str, ...], *operations: str) -> tuple[Right, ...]:
    return tuple(Right("topic", word, operations) for word in words)


def _writer(table: str) -> tuple[Right, ...]:
    """Reads what is there, to write only rows that differ."""
    return _on((table,), READ, WRITE)


_INCARNATION: Final = _on(("intents", "verdicts"), DESCRIBE)
"""Whoever signs or certifies for a realm binds the ids of its log topics in."""


_TABLE: Final[dict[str, tuple[Right, ...]]] = {
    # Publishes and does not read answers: an enforcer elsewhere (a gateway) folds for it. The ids of both log topics
    # are bound into its MAC, so it has to see that there is a decision log.
    "agent": (*_on(("intents",), WRITE), *_on(("verdicts",), DESCRIBE)),
    # `Harness.connect`, `intents send`. It asks whether the rules topic holds anything, to say why nobody answers.
    "enforcer": (*_on(("intents",), WRITE), *_on(("verdicts", "heads"), READ), *_on(("rules",), DESCRIBE)),
    # `holds list | show | approve | deny`.
    "approver": (*_on(("intents",), READ, WRITE), *_on(("verdicts", "heads", "identity", "rules"), READ)),
    "worker": (
        *_on(("intents", *TABLES, "rules"), READ, DESCRIBE_CONFIGS),
        *_on(("verdicts", "heads", "chains"), READ, WRITE, DESCRIBE_CONFIGS),
        *_on(("deadletter",), WRITE, DESCRIBE_CONFIGS),
        Right("group", WORKERS, (READ,)),
    ),
    # `log verify | export`, `verdicts tail`, `chain show`, `partitions`, `rules status`, `tables get`, `replay`.
    "auditor": _on((*LOGS, *TABLES, "rules"), READ),
    # `log witness`: runs where nobody else's rights do.
    "witness": (*_on(("verdicts", "heads"), READ), *_on(("intents",), DESCRIBE)),
    # `tables load`; for identity also `agents`, which certifies enforcers. Who has seen a kill only readers of the
    # decision log can tell.
    **{f"{table}-writer": _writer(table) for table in TABLES},
    "identity-writer": (*_writer("identity"), *_INCARNATION),
    # `rules push | status`.
    "rule-pusher": (*_on(("rules",), READ, WRITE), *_on(("heads",), READ), *_INCARNATION),
    # `topics apply`, `partitions` and its `resume`, `keys`; and whoever looks at what was skipped.
    "operator": (
        *_on(TOPICS, CREATE, DESCRIBE, ALTER_CONFIGS),
        *_on(("verdicts", "heads", "chains"), READ, WRITE),
        *_on(("intents", "rules", "deadletter"), READ),
    ),
    # `topics apply --acls`: may give itself whatever it has not, so it is nobody's everyday role.
    "acl-admin": (*_on(TOPICS, DESCRIBE, DESCRIBE_CONFIGS), Right("cluster", CLUSTER, (ALTER, DESCRIBE))),
    # `python -m topologies.risk`.
    "risk-topology": (
        *_on(("verdicts", "heads"), READ),
        *_on(("intents",), DESCRIBE),
        *_on(("risk",), WRITE),
        Right("group", RISK, (READ,)),
    ),
    # Who had a role and has none any more: with `--prune` everything is taken away.
    "none": (),
}


def _with_group(rights: tuple[Right, ...]) -> tuple[Right, ...]:
    """Librdkafka asks for the coordinator of any group it is told of; who may not see it asks twice a second for ever.

    A broker logs each refusal, so that those that mean something would not be found. Readers work without this right.
    """
    reads = any(right.kind == "topic" and READ in right.operations for right in rights)
    return (*rights, Right("group", READERS, (DESCRIBE,))) if reads else rights


MATRIX: Final = {role: _with_group(rights) for role, rights in _TABLE.items()}
"""Role → what it may do."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a realm's things are called.

    Attributes:
        prefix: first part of topic names.
        group: consumer group of the workers.
    """

    prefix: str
    group: str

    def named(self, kind: str, word: str) -> str:
        """Full name of a thing."""
        if kind == "topic":
            return f"{self.prefix}.{word}"
        return {WORKERS: self.group, RISK: risk_group(self.prefix), READERS: NO_GROUP}.get(word, word)

    def everything(self) -> frozenset[tuple[str, str]]:
        """Kind and full name of all there is."""
        groups = (("group", self.named("group", word)) for word in (WORKERS, RISK, READERS))
        return frozenset({("topic", self.named("topic", word)) for word in TOPICS} | {*groups, ("cluster", CLUSTER)})

    def covers(self, entry: Acl) -> bool:
        """Does an entry of a broker say anything about this realm?"""
        names = {name for kind, name in self.everything() if kind == entry.kind}
        if entry.pattern == "PREFIXED":
            return any(name.startswith(entry.name) for name in names)
        return entry.name in names or (entry.name == "*" and bool(names))


def risk_group(prefix: str) -> str:
    """Consumer group of the risk topology."""
    return f"{prefix}-risk"


def entries(role: str, principal: str, names: Names) -> frozenset[Acl]:
    """What is written for one principal of a role."""
    return frozenset(
        Acl(principal, right.kind, names.named(right.kind, right.word), operation)
        for right in MATRIX[role]
        for operation in right.operations
    )


def may(role: str, kind: str, word: str, operation: str) -> bool:
    """Is this cell of the table allowed, directly or by what Kafka derives?"""
    granted = {op for right in MATRIX[role] if (right.kind, right.word) == (kind, word) for op in right.operations}
    return operation in granted or operation in {IMPLIES[op] for op in granted if op in IMPLIES}


def roles_that_may(kind: str, name: str, operation: str) -> tuple[str, ...]:
    """Roles with a right, fewest rights first.

    Args:
        kind: of the thing.
        name: its full name; a topic's last part says which one it is.
        operation: Kafka's name.
    """
    word = name.rpartition(".")[2] if kind == "topic" else CLUSTER if kind == "cluster" else _group_word(name)
    found = [role for role in MATRIX if may(role, kind, word, operation)]
    return tuple(sorted(found, key=lambda role: sum(len(right.operations) for right in MATRIX[role])))


def _group_word(name: str) -> str:
    return READERS if name == NO_GROUP else RISK if name.endswith("-risk") else WORKERS


def rights_of(role: str, topics: Topics) -> dict[str, tuple[str, ...]]:
    """Topic → operations that a process of this role checks for when it starts."""
    return {
        f"{topics.prefix}.{right.word}": right.operations for right in MATRIX[role] if right.kind == "topic"
    }
