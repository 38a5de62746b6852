"""One line of a replay file as the log would have received it (DESIGN §10, `harness replay`).

Rule of this file: what a line leaves out is filled in from the line itself, its number and what was replayed before it,
never from a clock or by chance: the same file always means the same. What cannot be judged ends as `GarbageRecord`.

* An event: the schema's fields and `at`. May be left out: `v`, `realm`, `by` (the agent, except for an approval), the
  event's own id, `arguments_digest` (no arguments), `enforcer_nonce`, `workload_id` (the identity row's first),
  `verdict_digest`, `hold_digest`, `hold_offset`. An outcome or approval means the intent of its `intent_id`, by default
  the agent's newest.
* A table line: `{"type": "table", "table": "risk", "row": {…}}` puts a row; `{"type": "table", "table": "risk",
  "key": "agent:a", "row": null}` deletes it.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

from harness_stream.core import limits
from harness_stream.core.canonical import arguments_digest
from harness_stream.core.ids import memory_of
from harness_stream.core.instant import instant_ms
from harness_stream.core.model import TABLES, IdentityRow, Intent
from harness_stream.core.names import agent_unit
from harness_stream.core.reasons import Garbage
from harness_stream.core.rules.mistakes import did_you_mean
from harness_stream.core.scalars import UUID7_PATTERN
from harness_stream.errors import GarbageRecord
from harness_stream.wire.codec import decode_input, decode_row, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.intake import Input
    from harness_stream.core.join import Tables
    from harness_stream.core.state import State
    from harness_stream.core.tables import Row

TABLE: Final = "table"
# The largest event or row, and room for `at`, `table` and blanks.
LINE_BYTES_MAX: Final = max(limits.INTENT_BYTES_MAX, limits.ROW_BYTES_MAX) + limits.KIB

_NO_DIGEST: Final = "0" * limits.DIGEST_DIGITS
_NONCE: Final = "0" * limits.NONCE_DIGITS
_NO_ARGUMENTS: Final = arguments_digest({})
_OWN_ID: Final = {"intent": "intent_id", "mandate": "mandate_id", "outcome": "outcome_id", "approval": "approval_id"}
_UUID7: Final = re.compile(UUID7_PATTERN)
_TABLE_FIELDS: Final = frozenset({"type", "table", "key", "row", "at"})


class EventLine(NamedTuple):
    """An input event.

    Attributes:
        event: decoded.
        value: the bytes its digest is taken of: the line without `at`, with what was filled in.
        at_ms: append time and decided_at, epoch ms.
    """

    event: Input
    value: bytes
    at_ms: int


class TableLine(NamedTuple):
    """A change of one table row; None deletes it."""

    table: str
    key: str
    row: Row | None


class Lines:
    """Reads one line after the other.

    Args:
        realm: fills in, and is what a line that names its realm must name.
        tables: as they stand; an intent's workload is looked up there.
        state: as it stands; digests of verdicts and holds are looked up there.
    """

    def __init__(self, realm: str, tables: Tables, state: State) -> None:
        self._realm, self._tables, self._state = realm, tables, state
        self._newest: dict[str, str] = {}

    def read(self, number: int, raw: bytes) -> EventLine | TableLine:
        """The meaning of line `number`.

        Raises:
            GarbageRecord: it has none.
        """
        if len(raw) > LINE_BYTES_MAX:
            raise GarbageRecord(Garbage.TOO_LARGE, f"more than {LINE_BYTES_MAX:,} bytes")
        body = _object(raw)
        return _table_line(body) if body.get("type") == TABLE else self._event(number, body)

    def _event(self, number: int, body: dict[str, Any]) -> EventLine:
        kind = body.get("type")
        if not isinstance(kind, str) or kind not in _OWN_ID:
            said = "`type` is missing" if kind is None else repr(kind)[: limits.WORD_CHARS_MAX]
            raise GarbageRecord(Garbage.TYPE_UNKNOWN, f"{said}; one of {', '.join([*_OWN_ID, TABLE])}")
        at_ms = time_of(body.pop("at", None))
        value = _dumped(self._filled(number, at_ms, body))
        event: Input = decode_input(value)
        if event.realm != self._realm:
            raise GarbageRecord(Garbage.REALM, f"written for `{event.realm}`, this is `{self._realm}`")
        if isinstance(event, Intent):
            self._newest[event.agent_id] = event.intent_id
            # Revisions count a topic's records; in a file they mean nothing.
            event = event.model_copy(update={"min_revision": {}})
        return EventLine(event, value, at_ms)

    def _filled(self, number: int, at_ms: int, body: dict[str, Any]) -> dict[str, Any]:
        kind, agent_id = body["type"], body.get("agent_id")
        filled = {"v": 1, "realm": self._realm, _OWN_ID[kind]: uuid7(at_ms, number)}
        if not isinstance(agent_id, str):
            return filled | body
        if kind != "approval":
            filled["by"] = agent_id
        if kind == "intent":
            workload = self._workload(agent_id)
            filled |= {"workload_id": workload, "arguments_digest": _NO_ARGUMENTS, "enforcer_nonce": _NONCE}
        elif kind != "mandate":
            intent_id = str(body.get("intent_id") or self._newest.get(agent_id, uuid7(at_ms, number)))
            filled |= self._about(kind, agent_id, intent_id)
        if kind == "approval":
            body.pop("intent_id", None)
        return filled | body

    def _about(self, kind: str, agent_id: str, intent_id: str) -> dict[str, Any]:
        """What names an earlier verdict; one that was never given gets a digest no record has."""
        unit = agent_unit(agent_id)
        if kind == "approval":
            hold = self._state.get(unit, ("hold", intent_id))
            return {"hold_digest": _NO_DIGEST if hold is None else hold["verdict"], "hold_offset": 0}
        known = memory_of(self._state, agent_id, intent_id) if _UUID7.fullmatch(intent_id) else None
        return {"intent_id": intent_id, "verdict_digest": _NO_DIGEST if known is None else known.verdict_digest}

    def _workload(self, agent_id: str) -> str:
        """The identity row's first workload; the agent's id without one, as the client does."""
        try:
            row = self._tables["identity"].row(agent_id)
        except ValueError:
            row = None
        return row.workloads[0] if isinstance(row, IdentityRow) and row.workloads else agent_id


def uuid7(at_ms: int, number: int) -> str:
    """A UUIDv7 of that time (RFC 9562 §5.7) whose random part counts: equal arguments give the same id."""
    digits = f"{(at_ms << 80) | (0x7 << 76) | (0b10 << 62) | number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def time_of(at: object) -> int:
    """Epoch ms of an `at`: RFC 3339 in UTC (fractions of a millisecond are cut), or epoch ms.

    Raises:
        GarbageRecord: it is neither.
    """
    if at is None:
        raise GarbageRecord(Garbage.SCHEMA, "at: Field required, RFC 3339 in UTC or epoch ms")
    try:
        return instant_ms(at)
    except ValueError as error:
        raise GarbageRecord(Garbage.SCHEMA, f"at: {error}") from None


def _table_line(body: Mapping[str, Any]) -> TableLine:
    table, key, row = body.get("table"), body.get("key"), body.get("row")
    unknown = sorted(set(body) - _TABLE_FIELDS)
    if unknown:
        _refuse(f"{unknown[0]}: no field of a table line, {did_you_mean(unknown[0], _TABLE_FIELDS)}")
    if not isinstance(table, str) or table not in TABLES:
        _refuse(f"table: one of {', '.join(TABLES)}")
    if "at" in body:
        time_of(body["at"])
    if "row" not in body:
        _refuse("row: Field required, null deletes")
    if row is None:
        return TableLine(table, key if isinstance(key, str) else _refuse("key: names the row to delete"), None)
    found = decode_row(table, _dumped(row))  # type: ignore[arg-type]  # TABLES' keys are the table names
    if key not in {None, found.key}:
        _refuse(f"key: the row is that of `{found.key}`")
    return TableLine(table, found.key, found)


def row_bytes(row: Row | None) -> bytes | None:
    """A row as its topic would hold it."""
    return None if row is None else encode(row)


def _refuse(detail: str) -> NoReturn:
    raise GarbageRecord(Garbage.SCHEMA, detail[: limits.GARBAGE_DETAIL_CHARS_MAX])


def _object(raw: bytes) -> dict[str, Any]:
    """One JSON object, no key twice; what else PROTOCOL §9 refuses is found by the codec."""
    try:
        body = json.loads(raw.decode(), object_pairs_hook=_members)
    except UnicodeDecodeError:
        raise GarbageRecord(Garbage.NOT_JSON, "not UTF-8") from None
    except RecursionError:
        raise GarbageRecord(Garbage.DEPTH, f"deeper than {limits.DEPTH_MAX}") from None
    except ValueError as error:
        raise GarbageRecord(Garbage.NOT_JSON, str(error)[: limits.GARBAGE_DETAIL_CHARS_MAX]) from None
    if not isinstance(body, dict):
        raise GarbageRecord(Garbage.NOT_JSON, "not an object")
    return body


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise GarbageRecord(Garbage.DUPLICATE_KEY, repr(name)[: limits.GARBAGE_DETAIL_CHARS_MAX])
        members[name] = value
    return members


def _dumped(body: object) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        raise GarbageRecord(Garbage.SURROGATE) from None
    except RecursionError:
        raise GarbageRecord(Garbage.DEPTH, f"deeper than {limits.DEPTH_MAX}") from None
