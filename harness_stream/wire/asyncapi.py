"""One AsyncAPI 3 document of all topics of PROTOCOL §2: who may write what where, and who reads it.

Rule of this file: it only lays out; shapes come from the JSON Schemas beside the document, limits from `core.limits`.
Addresses have the default prefix `harness`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits
from harness_stream.wire import cloudevents

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ASYNCAPI_VERSION: Final = "3.0.0"
FORMAT_VERSION: Final = "1.0.0"
"""Version of the wire format: its first number is the `v` of every input body."""

_BINDING_VERSION: Final = "0.5.0"
_SCHEMA_FORMAT: Final = "application/schema+json;version=2020-12"

# Topics whose values have no model of their own.
_OPAQUE: Final = {
    "snapshot": "An agent's state at a verdict offset, written off the path; opaque to all but workers.",
    "bundle": "A rule bundle under its digest, or, under `active/<rule set>`, which digest and revision is in force.",
    "deadletter": "A copy of an input value that was skipped as garbage, byte for byte; the reason is in its headers.",
}


@dataclass(frozen=True, slots=True)
class _Topic:
    """One topic of PROTOCOL §2.

    Attributes:
        messages: names of its messages.
        key: what the record key is.
        senders: roles that may append.
        receivers: roles that read it.
        bytes_max: None leaves the broker's default.
        single: one partition, so that a revision is an offset.
    """

    name: str
    content: str
    cleanup: str
    messages: tuple[str, ...]
    key: str
    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    bytes_max: int | None = None
    log_append_time: bool = False
    uncompressed: bool = False
    single: bool = False


def asyncapi_document(events: Sequence[str], tables: Sequence[str], records: Sequence[str]) -> dict[str, Any]:
    """The document as plain data.

    Args:
        events: types of input events; the schema of each is `<type>.json`.
        tables: table names; schemas `table-<name>.json`.
        records: kinds of decision-log records; schemas `record-<kind>.json`.
    """
    topics = _topics(events, tables, records)
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "AI Harness",
            "version": FORMAT_VERSION,
            "description": "Every action an autonomous agent intends is an event; it runs only on a verdict.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": cloudevents.JSON_CONTENT_TYPE,
        "channels": {topic.name: _channel(topic) for topic in topics},
        "operations": dict(_operations(topics)),
        "components": {
            "messages": dict(_messages(events, tables, records)),
            "messageTraits": {"cloudevent": _cloudevent_trait()},
        },
    }


def _topics(events: Sequence[str], tables: Sequence[str], records: Sequence[str]) -> list[_Topic]:
    return [
        _Topic(
            "intents",
            "Input log: what agents, orchestrators and approvers say.",
            "delete",
            tuple(events),
            "the agent's lane; the partition is murmur2(lane) & 0x7fffffff mod partitions",
            ("enforcer", "orchestrator", "approver"),
            ("worker", "auditor"),
            bytes_max=limits.INTENT_BYTES_MAX,
            log_append_time=True,
            uncompressed=True,
        ),
        _Topic(
            "verdicts",
            "Decision log: every input offset covered by exactly one effective record.",
            "delete",
            tuple(f"record-{kind}" for kind in records),
            "as the input it answers, of many the last one; the partition is the input's",
            ("worker", "operator"),
            ("worker", "enforcer", "auditor"),
            bytes_max=limits.DECISION_BYTES_MAX,
            log_append_time=True,
        ),
        *_state_topics(),
        *(_table_topic(table) for table in tables),
        _Topic(
            "rules",
            "Rule bundles by digest, never overwritten, and which one is active.",
            "compact",
            ("bundle",),
            "a bundle's digest, or `active/<rule set>`",
            ("rule_author",),
            ("worker", "auditor"),
            single=True,
        ),
        _Topic(
            "deadletter",
            "Copies of what was skipped as garbage; size-capped.",
            "delete",
            ("deadletter",),
            "as received",
            ("worker",),
            ("operator",),
        ),
    ]


def _state_topics() -> tuple[_Topic, _Topic]:
    return (
        _Topic(
            "heads",
            "Newest checkpoint per partition.",
            "compact",
            ("record-checkpoint",),
            "the partition",
            ("worker",),
            ("worker", "enforcer", "auditor"),
        ),
        _Topic(
            "chains",
            "Snapshot of each agent's state.",
            "compact",
            ("snapshot",),
            "the agent",
            ("worker",),
            ("worker", "auditor"),
        ),
    )


def _table_topic(table: str) -> _Topic:
    return _Topic(
        table,
        f"The {table} table, read in full by every worker; a tombstone deletes a row.",
        "compact",
        (f"table-{table}",),
        "the row's key: its agent_id, workload_id or subject",
        ("table_owner",),
        ("worker", "auditor"),
        single=True,
    )


def _channel(topic: _Topic) -> dict[str, Any]:
    settings: dict[str, Any] = {"cleanup.policy": [topic.cleanup]}
    if topic.bytes_max is not None:
        settings["max.message.bytes"] = topic.bytes_max
    kafka: dict[str, Any] = {"topicConfiguration": settings, "bindingVersion": _BINDING_VERSION}
    if topic.single:
        kafka["partitions"] = 1
    return {
        "address": f"harness.{topic.name}",
        "description": " ".join([topic.content, f"Key: {topic.key}.", *_demands(topic)]),
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in topic.messages},
        "bindings": {"kafka": kafka},
    }


def _demands(topic: _Topic) -> Iterable[str]:
    """Settings the Kafka binding has no word for."""
    if topic.log_append_time:
        yield "Must have message.timestamp.type=LogAppendTime."
    if topic.uncompressed:
        yield "Must have compression.type=uncompressed."


def _operations(topics: Sequence[_Topic]) -> Iterable[tuple[str, dict[str, Any]]]:
    """One operation per role, direction and topic, as seen by that role."""
    for topic in topics:
        for action, roles in (("send", topic.senders), ("receive", topic.receivers)):
            for role in roles:
                yield f"{role}_{action}_{topic.name}", _operation(action, role, topic)


def _operation(action: str, role: str, topic: _Topic) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "tags": [{"name": role}],
        "messages": [
            {"$ref": f"#/channels/{topic.name}/messages/{name}"} for name in topic.messages if _may(role, action, name)
        ],
    }


# What a role may send where a topic has several writers; all other roles send every message of their topics.
_SENDS: Final = {
    "enforcer": frozenset({"intent", "outcome"}),
    "orchestrator": frozenset({"mandate"}),
    "approver": frozenset({"approval"}),
    "operator": frozenset({"record-resume"}),
}


def _may(role: str, action: str, message: str) -> bool:
    if action == "receive":
        return True
    if role == "worker" and message == "record-resume":
        return False
    return role not in _SENDS or message in _SENDS[role]


def _messages(
    events: Sequence[str], tables: Sequence[str], records: Sequence[str]
) -> Iterable[tuple[str, dict[str, Any]]]:
    trait = {"traits": [{"$ref": "#/components/messageTraits/cloudevent"}]}
    for event in events:
        yield event, _message(event, "input event") | trait
    for kind in records:
        yield f"record-{kind}", _message(f"record-{kind}", "decision-log record") | trait
    for table in tables:
        yield f"table-{table}", _message(f"table-{table}", "table row")
    for name, description in _OPAQUE.items():
        yield name, {"name": name, "description": description, "payload": {}}


def _message(stem: str, what: str) -> dict[str, Any]:
    name = stem.rpartition("-")[2]
    return {
        "name": name,
        "title": f"{name} ({what})",
        "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"./{stem}.json"}},
    }


def _cloudevent_trait() -> dict[str, Any]:
    required = [
        cloudevents.CE_ID,
        cloudevents.CE_SOURCE,
        cloudevents.CE_TYPE,
        cloudevents.CE_SPECVERSION,
        cloudevents.CE_TIME,
        cloudevents.CONTENT_TYPE,
        cloudevents.HS_ALG,
    ]
    optional = [
        cloudevents.HS_KID,
        cloudevents.HS_SIG,
        cloudevents.HS_PROOF,
        cloudevents.HS_CERT,
        cloudevents.TRACEPARENT,
    ]
    properties: dict[str, Any] = {name: {"type": "string"} for name in [*required, *optional]}
    properties[cloudevents.CE_SPECVERSION] = {"type": "string", "const": cloudevents.SPECVERSION}
    return {
        "description": "CloudEvents 1.0 Kafka binding, binary mode, and the signature. Hints and proofs, never facts.",
        "headers": {"type": "object", "required": required, "properties": properties},
    }
