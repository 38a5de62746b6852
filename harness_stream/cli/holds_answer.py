"""A person's answer to a hold: who may give it, the record that says it, and what became of it (PROTOCOL §8).

Rule of this file: who may answer is asked before anything is published, so that a mistake costs nothing; what counts is
the worker's word in the log, and only the effective record that covers the answer is told as its end.
"""

from __future__ import annotations

import difflib
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from harness_stream.cli.holds_read import take
from harness_stream.client.ids import Ids
from harness_stream.core.intake import APPROVER
from harness_stream.core.model import Approval, IdentityRow
from harness_stream.core.refusals import refusals
from harness_stream.errors import BrokerUnavailable, CallerError, InvalidInput
from harness_stream.runtime.to_end import PAUSE_S, POLL_RECORDS, SILENCE_MS_MAX
from harness_stream.wire.cloudevents import envelope, source_of
from harness_stream.wire.codec import encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness_stream.cli.holds import Wish
    from harness_stream.cli.holds_read import Found, HoldsSource
    from harness_stream.client.head import Effective
    from harness_stream.core.holds import Hold
    from harness_stream.ports import Clock, InputSigner, LogWriter
    from harness_stream.runtime.table_load import TableView

# Answers come within milliseconds; a killed worker's partition is decided again after the group's session of 6 s,
# loading and the claim, for which `harness partitions resume` waits as long.
ANSWER_MS_MAX: Final = 15_000
APPROVERS_SHOWN: Final = 5


class End(StrEnum):
    """What became of an answer."""

    APPROVED = "approved"
    DENIED = "denied"
    HELD = "held"  # another rule asks a person now
    REFUSED = "refused"  # it changed nothing: who, too late, answered before
    LOST = "lost"  # rejected or skipped: it was not even looked at


@dataclass(frozen=True, slots=True)
class Became:
    """The end of an answer.

    Attributes:
        effective: the record that covers it.
        reason: of a refusal, a rejection or a skip; empty else.
    """

    end: End
    effective: Effective
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Voice:
    """By what an answer is written.

    Attributes:
        realm: the realm's name.
    """

    writer: LogWriter
    signer: InputSigner
    realm: str


# --- Who ---


def require_approver(identities: TableView, hold: Hold, by: str) -> None:
    """Refuse an approver that a worker would refuse; the same table is asked, now.

    Args:
        identities: the identity table.
        hold: what is answered.
        by: who answers.

    Raises:
        CallerError: no such identity, not active, without the role, or it would answer its own question.
    """
    why = _not_allowed(identities, hold, by)
    if why is not None:
        raise CallerError(f"{why}; nothing was published", hint=_who_may(identities, hold, by))


def _not_allowed(identities: TableView, hold: Hold, by: str) -> str | None:
    row = identities.row(by)
    if not isinstance(row, IdentityRow):
        return f"there is no identity `{by}`"
    if by in _concerned(identities, hold):
        return f"`{by}` may not answer this hold: it is the agent, its owner, who speaks for it or whom it acts for"
    if APPROVER not in row.roles:
        return f"`{by}` has no role `{APPROVER}`"
    return None if row.status == "active" else f"`{by}` is {row.status}"


def _concerned(identities: TableView, hold: Hold) -> set[str]:
    """Whoever would answer a question of their own."""
    row, event = identities.row(hold.agent_id), hold.event
    above = () if event["lineage"] is None else event["lineage"]["above"]
    owner = row.owner if isinstance(row, IdentityRow) else ""
    return {hold.agent_id, owner, event["by"], *above}


def _who_may(identities: TableView, hold: Hold, by: str) -> str:
    able = [name for name in identities.table.keys() if _not_allowed(identities, hold, name) is None]  # noqa: SIM118  a Table is no mapping
    near = difflib.get_close_matches(by, able, 1)
    if near:
        return f"did you mean `--by {near[0]}`?"
    if not able:
        return f"give somebody else the role: `roles: [{APPROVER}]` in the identity table, then `harness tables load`"
    more = f" and {len(able) - APPROVERS_SHOWN} more" if len(able) > APPROVERS_SHOWN else ""
    return f"who may: {', '.join(f'`{name}`' for name in able[:APPROVERS_SHOWN])}{more}"


# --- Saying it ---


def approval_of(found: Found, wish: Wish, realm: str, clock: Clock) -> Approval:
    """The event that says a person's answer.

    Raises:
        InvalidInput: reason, name or a label breaks the schema.
        CallerError: the intent has no such argument, or one without values.
    """
    values = values_named(found.hold, wish.values_of)
    fields = {
        "realm": realm,
        "by": wish.by,
        "agent_id": found.hold.agent_id,
        "approval_id": Ids(clock).new(),
        "hold_digest": found.hold.digest,
        "hold_offset": found.hold.offset,
        "decision": wish.decision,
        "scope": "value" if values else "intent",
        "values": values,
        "declassify": tuple(wish.declassify),
        "reason": wish.reason,
    }
    try:
        return Approval.model_validate(fields)
    except ValidationError as error:
        mistakes = tuple(map(str, refusals(error)))
        hint = "shorten it, or write it in one line; nothing was published"
        said = f"the answer cannot be written: {'; '.join(mistakes)}"
        raise InvalidInput(said, hint=hint, mistakes=mistakes) from None


def values_named(hold: Hold, arguments: Sequence[str]) -> tuple[str, ...]:
    """Fingerprints of the held intent's arguments, links in them too.

    Raises:
        CallerError: there is no such argument, or nothing is known of what it says.
    """
    known = {argument["name"]: argument for argument in hold.body["intent"].get("arguments", ())}
    found: list[str] = []
    for name in arguments:
        given = [*known[name].get("values", ()), *known[name].get("links", ())] if name in known else []
        if not given:
            able = [f"`{each}`" for each, said in known.items() if said.get("values") or said.get("links")]
            told = f"it has values of {', '.join(able)}" if able else "it names no values at all"
            raise CallerError(f"the held intent names no values of `{name}`; nothing was published", hint=told)
        found += given
    return tuple(dict.fromkeys(found))


def publish(voice: Voice, source: HoldsSource, found: Found, approval: Approval) -> int:
    """Write it to the hold's partition; its offset in the input log.

    Raises:
        BrokerUnavailable: it was not confirmed, so whether it landed is not known.
    """
    topic, lane, value = source.topics.intents, str(found.hold.event["lane"]), encode(approval)
    by, now_ms = source_of(voice.realm, approval.by), source.clock.now_ms()
    own = envelope(event_id=approval.approval_id, source=by, event_type="approval", time_ms=now_ms)
    seal = voice.signer.seal_input(topic, lane, value, "approval", approval.by)
    voice.writer.append(topic, found.book.partition, lane.encode(), value, [*own, *seal], token=1)
    voice.writer.flush(SILENCE_MS_MAX)
    landed = [delivery for delivery in voice.writer.deliveries() if delivery.token == 1]
    if landed and landed[0].offset is not None:
        return landed[0].offset
    why = landed[0].error if landed else f"no confirmation within {SILENCE_MS_MAX // 1000} s"
    raise BrokerUnavailable(
        f"whether the answer landed is not known: {why}",
        hint=f"`harness holds show {found.name}` tells; to say it again is harmless, only the first one counts",
    )


# --- What became of it ---


def await_end(source: HoldsSource, found: Found, offset: int, wait_ms: int = ANSWER_MS_MAX) -> Became | None:
    """Fold on until a record covers the answer at this input offset; None if none did within `wait_ms`.

    The hold's book is folded with it, so that it knows what else happened meanwhile.

    Raises:
        ProtocolError: an effective hold breaks its schema.
    """
    book, topic, reader = found.book, source.topics.verdicts, source.reader
    reader.follow(topic, book.partition, book.place.offset + 1)
    end_ms = source.clock.elapsed_ms() + wait_ms
    try:
        while source.clock.elapsed_ms() < end_ms:
            records = reader.poll(POLL_RECORDS)
            for record in records:
                effective = book.head.take(record)
                if effective is not None:
                    take(book, effective, record.timestamp_ms or 0)
                    if _covers(effective, offset):
                        return _became(effective, offset)
            if not records:
                time.sleep(PAUSE_S)
    finally:
        reader.unfollow(topic, book.partition)
    return None


def _covers(effective: Effective, offset: int) -> bool:
    first, last = effective.body.get("covers", (0, -1))
    return bool(first <= offset <= last)


def _became(effective: Effective, offset: int) -> Became:
    body = effective.body
    if effective.kind == "verdict":
        ends = {"approve": End.APPROVED, "deny": End.DENIED}
        return Became(ends.get(str(body["decision"]), End.HELD), effective)
    if effective.kind == "ack":
        return Became(End.REFUSED, effective, str(body.get("reason")))
    named: dict[str, Any] = next((o for o in body.get("offsets", ()) if o.get("offset") == offset), dict(body))
    return Became(End.LOST, effective, str(named.get("reason")), str(named.get("detail") or ""))
