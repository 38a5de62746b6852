"""The rows of a case: from folders, written inline, or made up where a case says nothing about its agents.

Rule: a row of a folder is taken as it is; what an inline one leaves out comes from `defaults`. Somebody whom the rows
do not know stays unknown, unless no source has any identity at all.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits
from harness_stream.core.cases.defaults import filled
from harness_stream.core.cases.model import Folder, InlineRow
from harness_stream.core.cases.words import INTENT, TABLE
from harness_stream.core.intake import APPROVER, ENFORCER, ORCHESTRATOR
from harness_stream.core.tables import TABLES, IdentityRow, Row

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness_stream.core.cases.model import Case, Step

_SPEAKS_AS: Final[Mapping[str, str]] = {
    "approval": APPROVER,
    "mandate": ORCHESTRATOR,
    "outcome": ENFORCER,
    INTENT: ENFORCER,
}


def rows_of(case: Case, folders: Mapping[str, Sequence[tuple[str, Row]]]) -> list[tuple[str, Row]]:
    """Every row of a case, as the tables are before its first event.

    Args:
        case: the case.
        folders: rows of each folder that its sources name.
    """
    found: dict[tuple[str, str], Row] = {}
    written: dict[str, IdentityRow] = {}
    for source in case.sources:
        for table, row in _rows(source, folders, case):
            found[table, row.key] = row
            if isinstance(source, InlineRow) and isinstance(row, IdentityRow):
                written[row.key] = row
    if not any(table == "identity" for table, _ in found):
        written = {row.key: row for row in _people(case.steps)}
        found |= {("identity", key): row for key, row in written.items()}
    for name in dict.fromkeys(name for row in written.values() for name in row.workloads):
        found.setdefault(("infrastructure", name), _made("infrastructure", {"workload_id": name}, (), 0))
    return [(table, row) for (table, _), row in found.items()]


def _rows(
    source: Folder | InlineRow, folders: Mapping[str, Sequence[tuple[str, Row]]], case: Case
) -> Iterable[tuple[str, Row]]:
    if isinstance(source, Folder):
        return folders[source.path]
    return [(source.table, _made(source.table, source.fields, case.steps, case.now_ms))]


def _made(table: str, fields: Mapping[str, Any], steps: Sequence[Step], now_ms: int) -> Row:
    """A row from its fields, which the reader has checked."""
    return TABLES[table].model_validate_json(json.dumps(filled(table, fields, steps, now_ms)))


def _people(steps: Sequence[Step]) -> Iterable[IdentityRow]:
    """A row for everybody who acts or speaks in a case that has no identities of its own."""
    roles: dict[str, set[str]] = {}
    for step in (step for step in steps if step.kind != TABLE):
        agent = step.fields["agent_id"]
        speaker = step.fields.get("by", agent)
        roles.setdefault(agent, set())
        roles.setdefault(speaker, set()).update({_SPEAKS_AS[step.kind]} if speaker != agent else ())
    for name, of_name in roles.items():
        others = [other for other in roles if other != name][: limits.ROW_DELEGATES_MAX]
        row = _made("identity", {"agent_id": name, "roles": sorted(of_name), "delegates": others}, steps, 0)
        if isinstance(row, IdentityRow):
            yield row
