"""One record that denies a run of intents into which nobody looked: late ones, and those there is no room for.

Beyond PROTOCOL §3 (ARCHITECTURE.md, decision 110): a worker behind its inputs would else write, sign, send and confirm
as many records as it refuses. Rule of this file: such a record says no less than so many verdicts do, and `answers_in`
gives them, each in the form it would have had alone; readers ask for that and know one form only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness_stream.core.engine import ENGINE
from harness_stream.core.fold import DENIALS
from harness_stream.core.ids import ids_unit, remember_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness_stream.core.decide import Arrival
    from harness_stream.core.model import Intent

Body = dict[str, Any]

# Names and digests of a row, and JSON around them; what its agent's name and its detail add comes on top.
_ROW_BYTES: Final = 512
# Of a text's character as JSON: `\u0007`.
_CHAR_BYTES_MAX: Final = 6


class Denied(NamedTuple):
    """One intent's denial without a look at it.

    Attributes:
        t: chain time after it.
        agent_id: who asked.
        intent_id: for what.
        intent_digest: of the intent's value as received.
        arguments_digest: as it says.
        enforcer_nonce: as it says.
        code: why, a word of `core.reasons.Deny`.
        detail: more of why.
        remember_until: chain time up to which a second record with this id is refused.
    """

    t: int
    agent_id: str
    intent_id: str
    intent_digest: str
    arguments_digest: str
    enforcer_nonce: str
    code: str
    detail: str | None
    remember_until: int

    @property
    def bytes_max(self) -> int:
        """No more than this it takes in a record."""
        return _ROW_BYTES + _CHAR_BYTES_MAX * (len(self.agent_id) + len(self.detail or ""))


def denied(intent: Intent, arrival: Arrival, reason: Mapping[str, Any]) -> Denied:
    """The denial of an intent that was neither evaluated nor counted, for a reason of the engine."""
    return Denied(
        arrival.t,
        intent.agent_id,
        intent.intent_id,
        arrival.digest,
        intent.arguments_digest,
        intent.enforcer_nonce,
        reason["code"],
        reason.get("detail"),
        remember_until(intent.intent_id, arrival.t + intent.deadline_ms),
    )


def verdict(told: Denied, decided_at: int, rules: Mapping[str, Any], engine: str = ENGINE) -> Body:
    """The verdict that a denial is, without its link into the log."""
    reason = {"code": told.code} if told.detail is None else {"code": told.code, "detail": told.detail}
    return {
        "kind": "verdict",
        "t": told.t,
        "decision": "deny",
        "agent_id": told.agent_id,
        "intent_id": told.intent_id,
        "intent_digest": told.intent_digest,
        "arguments_digest": told.arguments_digest,
        "enforcer_nonce": told.enforcer_nonce,
        "reasons": [reason],
        "shadow": [],
        "obligations": {},
        "valid_for_ms": 0,
        "hold_until": None,
        "approval": None,
        "remember_until": told.remember_until,
        "intent": None,
        "rules": rules,
        "event": None,
        "inputs": {"decided_at": decided_at, "engine": engine, "tables": {}},
    }


def denials(run: Sequence[tuple[int, Denied]], decided_at: int, rules: Mapping[str, Any]) -> Body:
    """The record of a run, without its link into the log.

    Args:
        run: input offsets and what is said of each; not empty.
        decided_at: epoch ms, of all of them.
        rules: the bundle in force, as the log names it.
    """
    rows = [dict(zip(_FIELDS, (offset, *told), strict=True)) for offset, told in run]
    named = {"rules": rules, "decided_at": decided_at, "engine": ENGINE}
    return {"kind": DENIALS, "t": run[-1][1].t, **named, "denied": rows}


def answers_in(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """What an effective record says: each verdict of a run, oldest first, or the record itself.

    Args:
        body: of any kind; one of denials keeps its schema.
    """
    if body["kind"] != DENIALS:
        yield body
        return
    first = body["covers"][0]
    for row in body["denied"]:
        yield verdict_of(body, row, first)
        first = row["offset"] + 1


def verdict_of(body: Mapping[str, Any], row: Mapping[str, Any], first: int) -> Body:
    """What a record of denials says in one of its rows, as a verdict that covers inputs from `first` on."""
    linked = {name: body[name] for name in ("incarnation", "epoch", "writer", "prev")}
    told = Denied(*(row[name] for name in Denied._fields))
    said = verdict(told, body["decided_at"], body["rules"], body["engine"])
    return {**linked, "covers": [first, row["offset"]], **said}


def groups_of_denials(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Units that its ids are remembered in."""
    return tuple(dict.fromkeys(ids_unit(row["intent_id"]) for row in body["denied"]))


def change_of_denials(body: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """What it changes: the ids that are remembered from then on, by the unit they are in."""
    ids: dict[str, list[list[Any]]] = {}
    for row in body["denied"]:
        told = [row[name] for name in _REMEMBERED]
        ids.setdefault(ids_unit(row["intent_id"]), []).append(told)
    return {"kind": DENIALS, "digest": digest, "ids": ids}


_FIELDS: Final = ("offset", *Denied._fields)
_REMEMBERED: Final = ("agent_id", "intent_id", "intent_digest", "remember_until", "t")
