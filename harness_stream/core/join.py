"""The join of one intent with the four tables: what is known of who, where, how dangerous and which data (DESIGN §3).

Rule of this file: an absent row is a fact and is recorded; a row that cannot be read is never taken for an absent one.
The result is plain data, so that a verdict carries exactly what it was decided on and can be decided again from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from pydantic import ValidationError

from harness_stream.core.engine import ENGINE
from harness_stream.core.model import TABLES, ClassificationRow, IdentityRow, Intent, RiskRow, Row, lane_of
from harness_stream.core.rules.memory import remembered

ENGINE_FIELDS: Mapping[str, frozenset[str]] = {
    "identity": frozenset({"owner", "tenant", "lane", "roles", "status", "workloads", "delegates", "delegated_only"}),
    "infrastructure": frozenset({"environment"}),
    "risk": frozenset({"score"}),
}
"""Row fields the engine itself reads or writes into the event."""

ABSENT: Mapping[str, Any] = {"present": False}
# Rows are parsed when they are used, and a start reads all of them. No writer of ours spells these words otherwise.
_STOPS = re.compile(rb'"(?:suspended|killed)"')
_RESOURCE_FIELDS: Final = frozenset({"zone", "labels", "sensitivity", "owner"})
_SPEAKER_FIELDS: Final = frozenset({"tenant", "lane", "roles", "status"})
# Rows of a table that are remembered as plain data, the newest, and of each the ways it is asked for: 3 µs a time.
_PLAIN_ROWS_MAX: Final = 4_096
_PLAIN_WAYS_MAX: Final = 4


class Table:
    """One table as this process has read it: bytes by key, parsed on use.

    Attributes:
        revision: offset of the newest record taken in, −1 if none.
        stopped: key → revision of rows that seem to stop somebody, the newest last; read one before it is believed.
        fresh_as_of: start (epoch ms) of the last end-offset query that this view has reached; 0 if none.
    """

    def __init__(self, name: str) -> None:
        self._model = TABLES[name]
        self._rows: dict[str, bytes] = {}
        self._parsed: dict[str, Row | None] = {}
        self._plain: dict[str, dict[frozenset[str], Mapping[str, Any]]] = {}
        self._prefix_lengths: tuple[int, ...] = ()
        self.revision = -1
        self.stopped: dict[str, int] = {}
        self.fresh_as_of = 0

    def put(self, key: str, value: bytes | None, revision: int) -> None:
        """Take in one record of the topic; None deletes."""
        self.revision = revision
        self._parsed.pop(key, None)
        self._plain.pop(key, None)
        self.stopped.pop(key, None)
        if value is not None and _STOPS.search(value):
            self.stopped[key] = revision
        if value is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = value
        if key.endswith("*"):
            self._prefix_lengths = tuple(sorted({len(k) - 1 for k in self._rows if k.endswith("*")}, reverse=True))

    def row(self, key: str) -> Row | None:
        """The row, or None if there is none.

        Raises:
            ValueError: the row is there but breaks its schema.
        """
        parsed = self._parsed.get(key)
        if parsed is not None:
            return parsed
        raw = self._rows.get(key)
        if raw is None:
            return None
        if key not in self._parsed:
            parsed = self._parsed[key] = self._parse(raw)
        if parsed is None:
            raise ValueError(f"unreadable row `{key}`")
        return parsed

    def plain(self, key: str, fields: frozenset[str]) -> Mapping[str, Any]:
        """Fields of the row as JSON has them, `ABSENT` if there is none: not to be changed, all who ask share it.

        Raises:
            ValueError: as `row`.
        """
        known = self._plain.get(key, {}).get(fields)
        if known is not None:
            return known
        row = self.row(key)
        if row is None:
            return ABSENT
        ways = remembered(self._plain, key, lambda _: {}, _PLAIN_ROWS_MAX)
        return remembered(ways, fields, lambda _: _projected(row, fields), _PLAIN_WAYS_MAX)

    def _parse(self, raw: bytes) -> Row | None:
        try:
            return self._model.model_validate_json(raw)
        except ValidationError:
            return None

    def longest(self, subject: str) -> Row | None:
        """The exact row, else that of the longest matching prefix (raises as `row`)."""
        key = self.longest_key(subject)
        return self.row(key) if key in self._rows else None

    def longest_key(self, subject: str) -> str:
        """The key of that row; the subject itself if there is none."""
        rows = self._rows
        if subject not in rows:
            for length in self._prefix_lengths:
                if (prefix := subject[:length] + "*") in rows and length <= len(subject):
                    return prefix
        return subject

    def keys(self) -> list[str]:
        """Every key, sorted."""
        return sorted(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


Tables = Mapping[str, Table]


def empty_tables() -> dict[str, Table]:
    """The four tables, without rows."""
    return {name: Table(name) for name in TABLES}


def join(
    intent: Intent, tables: Tables, decided_at: int, fields: Mapping[str, frozenset[str]], above: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything `decide` reads that is in no log, as plain data: the `inputs` of a verdict.

    Args:
        intent: what is to be judged.
        tables: the four views.
        decided_at: epoch ms.
        fields: per table the row fields that rules read; those of the engine are added.
        above: agents for whom this is done, the root's first.
    """
    broken: set[str] = set()
    identity = _read(tables, "identity", intent.agent_id, broken)
    tool = _classified(tables, f"tool:{intent.action}", broken)
    subjects = _subjects(intent, getattr(identity, "tenant", ""))
    keys = {
        "identity": intent.agent_id,
        "infrastructure": intent.workload_id,
        "risk": _highest_risk(tables, subjects, decided_at, broken),
    }
    inputs: dict[str, Any] = {
        "decided_at": decided_at,
        "engine": ENGINE,
        "tables": {name: [table.revision, table.fresh_as_of] for name, table in tables.items()},
        "resources": [_resource(tables, uri, broken) for uri in intent.resources],
        "tool_labels": list(getattr(tool, "labels", ())),
        "operation": getattr(tool, "operation", ""),
        "object_class": getattr(tool, "object_class", ""),
    }
    for name, key in keys.items():
        read = _fields_read(name, fields.get(name, frozenset()))
        inputs[name] = ABSENT if key is None else _plain(tables, name, key, read, broken)
    roles = _roles(intent, tool)
    if roles:
        inputs["roles"] = roles
    own_values = _own_values(intent, identity)
    if own_values:
        inputs["own_values"] = own_values
    if above:
        below = (*above[1:], intent.agent_id)
        inputs["above"] = [_ancestor(tables, intent, *pair, broken) for pair in zip(above, below, strict=True)]
    if intent.by != intent.agent_id:
        inputs["speaker"] = _plain(tables, "identity", intent.by, _SPEAKER_FIELDS, broken)
    if broken:
        inputs["broken"] = sorted(broken)
    return inputs


def _read(tables: Tables, name: str, key: str, broken: set[str]) -> Row | None:
    try:
        return tables[name].row(key)
    except ValueError:
        broken.add(name)
        return None


def _plain(tables: Tables, name: str, key: str, fields: frozenset[str], broken: set[str]) -> Mapping[str, Any]:
    try:
        return tables[name].plain(key, fields)
    except ValueError:
        broken.add(name)
        return ABSENT


@lru_cache(maxsize=64)  # tables times rule sets in use; asked with every intent
def _fields_read(name: str, by_rules: frozenset[str]) -> frozenset[str]:
    return ENGINE_FIELDS[name] | by_rules


def _roles(intent: Intent, tool: ClassificationRow | None) -> dict[str, str]:
    """What the tool's row says its arguments steer; it counts more than what the caller says."""
    known = {} if tool is None else tool.argument_roles
    return {argument.name: known[argument.name] for argument in intent.arguments if argument.name in known}


def _own_values(intent: Intent, row: Row | None) -> list[str]:
    """Values of the arguments that are the principal's own addresses."""
    if not intent.arguments or not isinstance(row, IdentityRow):
        return []
    named = {fp for argument in intent.arguments for fp in (*argument.values, *argument.links)}
    return sorted(named.intersection(row.addresses))


def _ancestor(tables: Tables, intent: Intent, agent_id: str, child: str, broken: set[str]) -> dict[str, Any]:
    """What delegation asks of one agent above: does it delegate to the next one down, how far, and may it do this?"""
    row = _read(tables, "identity", agent_id, broken)
    if not isinstance(row, IdentityRow):
        return {"agent_id": agent_id, "present": False}
    own = _read(tables, "identity", intent.agent_id, broken)
    allowed = isinstance(own, IdentityRow) and intent.action in own.actions
    return {
        "agent_id": agent_id,
        "present": True,
        "status": row.status,
        "lane": lane_of(row),
        "delegates": child in row.delegates,
        "depth": row.delegation.depth,
        "fan_out": row.delegation.fan_out,
        "exceeded": allowed and intent.action not in row.actions,
    }


def _classified(tables: Tables, subject: str, broken: set[str]) -> ClassificationRow | None:
    try:
        row = tables["classification"].longest(subject)
    except ValueError:
        broken.add("classification")
        return None
    return row if isinstance(row, ClassificationRow) else None


def _projected(row: Row, fields: frozenset[str]) -> Mapping[str, Any]:
    dumped = row.model_dump(mode="json", include=set(fields))
    return {"present": True, **{name: dumped[name] for name in sorted(dumped)}}


def _resource(tables: Tables, uri: str, broken: set[str]) -> dict[str, Any]:
    key = tables["classification"].longest_key(f"resource:{uri}")
    facts = _plain(tables, "classification", key, _RESOURCE_FIELDS, broken)
    return {
        "uri": uri,
        "system": system_of(uri),
        "zone": facts.get("zone", ""),
        "labels": list(facts.get("labels", ())),
        "sensitivity": facts.get("sensitivity", ""),
        "owner": facts.get("owner", ""),
    }


def system_of(uri: str) -> str:
    """What a resource belongs to: its URI's scheme."""
    return uri.partition(":")[0].lower()


def _subjects(intent: Intent, tenant: str) -> Sequence[str]:
    own = [f"agent:{intent.agent_id}", f"tool:{intent.action}", *(f"resource:{uri}" for uri in intent.resources)]
    return [*own, f"tenant:{tenant}"] if tenant else own


def _highest_risk(tables: Tables, subjects: Sequence[str], now_ms: int, broken: set[str]) -> str | None:
    """Whose valid row has the highest score; of equal ones the first subject's, so that the answer is one."""
    whose, highest = None, -1.0
    for subject in subjects:
        row = _read(tables, "risk", subject, broken)
        if isinstance(row, RiskRow) and row.valid_until >= now_ms and row.score > highest:
            whose, highest = subject, row.score
    return whose
