"""Holds for people and for programs: the list, one of them whole, and what became of an answer.

Rule of this file: it only words what was found. What is not known is said to be not known, never left out, and never
made up from something else.
"""

from __future__ import annotations

import json as json_format
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from harness_stream.cli.holds_answer import End
from harness_stream.cli.partitions import duration_text
from harness_stream.cli.verdicts import clock_text, decision_text, printable, reason_text
from harness_stream.core.reasons import EXPLAIN, Refuse

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness_stream.cli.holds import Wish
    from harness_stream.cli.holds_answer import Became
    from harness_stream.cli.holds_read import Attempt, Book, Found
    from harness_stream.core.holds import Hold, Settled
    from harness_stream.runtime.hold_view import HoldView

DIGEST_SHOWN: Final = 12
SOURCE: Final = "decision log"

ORIGINS: Final[Mapping[str, str]] = {
    "mandate": "the user named it",
    "self": "an address of the agent's own",
    "directory": "from a system of record",
    "named_field": "a field of a record that the user named",
    "field": "a field of some record",
    "named_text": "text of a record that the user named",
    "prose": "text that anybody can have written",
    "never_seen": "nowhere this chain has looked",
}
"""What the words of `origin(arg)` mean, the most trusted first."""


@dataclass(frozen=True, slots=True)
class Whole:
    """One hold and all that stands around it.

    Attributes:
        now: chain time as of now, epoch ms.
        evidence: intent id → event, as far as the log keeps it.
        view: the chain, as the store has it; None: not known, see `unknown`.
        unknown: why the chain is not known.
        behind: effective records between the store and the log's end.
    """

    found: Found
    now: int
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    attempts: Sequence[Attempt] = ()
    view: HoldView | None = None
    unknown: str = ""
    behind: int = 0


def state_of(hold: Hold, settled: Settled | None, now: int) -> str:
    """open, expired, approved, denied, or asked again (by another rule)."""
    if settled is not None:
        return {"approve": "approved", "deny": "denied"}.get(settled.body["decision"], "asked again")
    return "open" if hold.until >= now else "expired"


# --- For programs ---


def hold_json(found: Found, now: int) -> dict[str, Any]:
    """What a list says of one hold."""
    hold, body = found.hold, found.hold.body
    return {
        "hold": hold.digest,
        "place": found.name,
        "partition": found.book.partition,
        "offset": hold.offset,
        "state": state_of(hold, found.settled, now),
        "agent_id": hold.agent_id,
        "lane": hold.event["lane"],
        "chain_id": hold.event["chain_id"],
        "intent_id": hold.intent_id,
        "action": hold.event["action"],
        "resources": [resource["uri"] for resource in hold.event["resources"]],
        "asked_at": hold.asked_at,
        "hold_until": hold.until,
        "left_ms": max(0, hold.until - now),
        "reasons": list(body["reasons"]),
        "satisfies": sorted({*hold.answered, *(str(reason["rule"]) for reason in hold.asking)}),
    }


def sources_json(books: Sequence[Book]) -> dict[str, Any]:
    """From what it was read, and up to where."""
    return {
        "source": SOURCE,
        "partitions": [
            {
                "partition": book.partition,
                "first": book.first,
                "as_of": book.place.offset,
                "t": book.place.header.t,
                "behind": 0,
                "unanswered_inputs": book.unanswered,
                "cut": book.cut,
                "resumed_at": book.holds.resumed_at,
            }
            for book in books
        ],
    }


def whole_json(whole: Whole) -> dict[str, Any]:
    """All of one hold."""
    found, body = whole.found, whole.found.hold.body
    return {
        **hold_json(found, whole.now),
        **sources_json([found.book]),
        "intent": dict(body["intent"]),
        "rules": dict(body["rules"]),
        "facts": {**body["inputs"], "resources": list(found.hold.event["resources"])},
        "shadow": list(body["shadow"]),
        "evidence": dict(whole.evidence),
        "answer": None if found.settled is None else _answer_json(found.settled),
        "attempts": [attempt._asdict() for attempt in whole.attempts],
        "chain": _view_json(whole),
    }


def _answer_json(settled: Settled) -> dict[str, Any]:
    body = settled.body
    reasons = list(body["reasons"])
    return {"decision": body["decision"], "approval": body["approval"], "reasons": reasons, "offset": settled.offset}


def _view_json(whole: Whole) -> dict[str, Any]:
    view = whole.view
    if view is None:
        return {"source": "Redis", "known": False, "why": whole.unknown}
    return {
        "source": "Redis",
        "known": True,
        "as_of": view.place.offset,
        "behind": whole.behind,
        "mandate": None if view.mandate is None else dict(view.mandate),
        "arguments": {name: dict(argument) for name, argument in view.arguments.items()},
        "named": list(view.named),
        "labels": {label: None if event is None else event["id"] for label, event in view.labels.items()},
    }


# --- The list ---

_TITLES: Final = ("hold", "id", "left", "agent", "action", "asked by")


def list_text(found: Sequence[Found], books: Sequence[Book], now: Mapping[int, int]) -> str:
    """A table, the longest waiting first, and from what it was read."""
    cells = [_TITLES, *(_row(f, now[f.book.partition]) for f in found)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_TITLES))]
    rows = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells] if found else []
    count = "no hold is open" if not found else f"{len(found)} open"
    hint = [f"→ `harness holds show {found[0].name}`, then `harness holds approve` or `deny`"] if found else []
    return "\n".join([*rows, f"{count}; {_read(books)}", *_doubts(books), *hint])


def _row(found: Found, now: int) -> tuple[str, ...]:
    hold, event = found.hold, found.hold.event
    resources = " ".join(resource["uri"] for resource in event["resources"])
    asked = "; ".join([*map(reason_text, hold.asking), *(f"{rule} (answered before)" for rule in hold.answered)])
    left = duration_text(max(0, hold.until - now))
    what = f"{event['action']} {resources}".strip()
    return (found.name, hold.digest[:DIGEST_SHOWN], left, *map(printable, (hold.agent_id, what, asked)))


def _read(books: Sequence[Book]) -> str:
    ends = ", ".join(f"{book.partition}/{book.place.offset}" for book in books)
    return f"from the {SOURCE}, folded to its end ({ends})"


def _doubts(books: Sequence[Book]) -> list[str]:
    """What may make it incomplete, each in a line."""
    lines = []
    for book in books:
        if book.unanswered:
            inputs = "1 input is" if book.unanswered == 1 else f"{book.unanswered} inputs are"
            lines.append(f"partition {book.partition}: {inputs} not decided yet, an answer may be among them")
        if book.cut:
            lines.append(f"partition {book.partition}: read from {book.first} on, what came before is not kept")
        if book.holds.resumed_at is not None:
            lines.append(
                f"partition {book.partition} was resumed by an operator at {book.holds.resumed_at}; "
                "holds from before that may be forgotten, an answer to them then changes nothing"
            )
    return lines


# --- One of them ---


def whole_text(whole: Whole) -> str:
    """All of one hold, for a person who has to answer it."""
    parts = (_head, _intent, _asked, _facts, _labels, _values, _besides, _next)
    return "\n".join(line for part in parts for line in part(whole))


def _head(whole: Whole) -> Iterator[str]:
    found, hold = whole.found, whole.found.hold
    state = state_of(hold, found.settled, whole.now)
    left = f", {duration_text(hold.until - whole.now)} left" if state == "open" else ""
    yield f"hold {found.name}  {hold.digest}"
    yield f"{state}{left}; asked {clock_text(hold.asked_at)}, until {clock_text(hold.until)}; {_read([found.book])}"
    yield from _doubts([found.book])


def _intent(whole: Whole) -> Iterator[str]:
    event, intent = whole.found.hold.event, whole.found.hold.body["intent"]
    owner = f"owner {event['owner'] or 'unknown'}, tenant {event['tenant'] or 'none'}, lane {event['lane']}"
    yield ""
    yield f"{printable(event['agent_id'])} ({printable(owner)}) wants to"
    yield f"  {printable(event['action'])}  {printable(' '.join(r['uri'] for r in event['resources']))}"
    told = {
        "purpose": event["purpose"],
        "measures": ", ".join(f"{name}={value}" for name, value in event["measures"].items()),
        "chain": event["chain_id"],
        "acts for": ", ".join(event["lineage"]["above"]) if event["lineage"] else "",
        "spoken by": event["by"] if event["by"] != event["agent_id"] else "",
        "workload": intent["workload_id"],
        "intent": event["id"],
        "arguments": f"digest {intent['arguments_digest']}; their text is in no log",
    }
    yield from (f"  {name:<10} {printable(value)}" for name, value in told.items() if value)


def _asked(whole: Whole) -> Iterator[str]:
    yield ""
    yield "asked by"
    for reason in whole.found.hold.body["reasons"]:
        yield f"  {printable(reason_text(reason))}{_counted(reason)}"
        yield from _evidence_lines(reason, whole.evidence)
    given = whole.found.hold.body["approval"] or {}
    for rule in whole.found.hold.answered:
        yield printable(f"  {rule}, which {given.get('by')} said yes to, or who answered before; a yes is to it again")


def _counted(reason: Mapping[str, Any]) -> str:
    if not reason.get("counted"):
        return ""
    least, most = reason["counted"]
    return f" (counted {least})" if least == most else f" (counted {least} to {'?' if most is None else most})"


def _evidence_lines(reason: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    ids = reason.get("evidence", ())
    for own_id in ids:
        event = known.get(own_id)
        yield f"    after {own_id}, which the log no longer keeps" if event is None else f"    after {_event(event)}"
    more = reason.get("evidence_count", 0) - len(ids)
    if ids and more > 1:  # the intent itself is counted and not listed
        yield f"    and {more - 1} more"


def _event(event: Mapping[str, Any]) -> str:
    resources = " ".join(resource["uri"] for resource in event["resources"])
    outcome = f" → {event['outcome']}" if event.get("outcome") else ""
    who = f"{event['agent_id']}: {event['action']} {resources}"
    return f"{clock_text(event['t'])}  {decision_text(event['decision'])}{printable(who)}{outcome}  {event['id']}"


def _facts(whole: Whole) -> Iterator[str]:
    inputs = whole.found.hold.body["inputs"]
    yield ""
    yield f"facts, as of {clock_text(inputs['decided_at'])}"
    for name in ("identity", "infrastructure", "risk"):
        yield f"  {name:<15} {_row_text(inputs.get(name) or {'present': False})}"
    for row in whole.found.hold.event["resources"]:
        facts = {key: value for key, value in row.items() if value and key not in {"uri", "system"}}
        yield f"  {'resource':<15} {printable(row['uri'])}: {_fields(facts) or 'no row describes it'}"
    for row in inputs.get("above", ()):
        yield f"  {'above':<15} {_row_text(row)}"
    ages = (f"{name} {rev} ({max(0, inputs['decided_at'] - fresh)} ms)" for name, (rev, fresh) in _tables(inputs))
    yield f"  {'revisions (age)':<15} {', '.join(ages)}"


def _tables(inputs: Mapping[str, Any]) -> list[tuple[str, tuple[int, int]]]:
    return sorted(inputs["tables"].items())


def _row_text(row: Mapping[str, Any]) -> str:
    if not row.get("present"):
        return "no row"
    return _fields({key: value for key, value in row.items() if key != "present"})


def _fields(facts: Mapping[str, Any]) -> str:
    return printable(", ".join(f"{key} {_plain(value)}" for key, value in facts.items() if value not in ("", [], None)))


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json_format.dumps(value, ensure_ascii=False)


def _labels(whole: Whole) -> Iterator[str]:
    hold, view = whole.found.hold, whole.view
    told = [(label, "the agent says so") for label in hold.body["intent"].get("labels", ())]
    told += [(label, "the tool's row") for label in hold.body["inputs"]["tool_labels"]]
    told += [(label, printable(row["uri"])) for row in hold.event["resources"] for label in row["labels"]]
    told += [] if view is None else [(label, _brought(event)) for label, event in view.labels.items()]
    if told:
        yield ""
        yield "labels, and who brought them"
        yield from (f"  {label:<15} {source}" for label, source in told)


def _brought(event: Mapping[str, Any] | None) -> str:
    return "the chain, from longer ago than it keeps" if event is None else f"the chain, {_event(event)}"


def _values(whole: Whole) -> Iterator[str]:
    yield ""
    if whole.view is None:
        yield f"origin of values and labels of the chain: not known, {whole.unknown}"
        return
    lag = f", {whole.behind} records behind the log" if whole.behind else ""
    yield f"origin of values, as of record {whole.found.book.partition}/{whole.view.place.offset} in Redis{lag}"
    if not whole.view.arguments:
        yield "  the intent names no values"
    for name, argument in whole.view.arguments.items():
        yield f"  {printable(name):<15} {_argument(argument)}"


def _argument(argument: Mapping[str, Any]) -> str:
    word, count = argument["origin"], len(argument["values"])
    values = f"{count} value{'' if count == 1 else 's'}{'' if argument['exact'] else ', not all of it understood'}"
    links = "" if argument["links"] == "none" else f"; links: {argument['links']} ({ORIGINS[argument['links']]})"
    return f"{argument['role']}, {values}: {word} ({ORIGINS[word]}){links}"


def _besides(whole: Whole) -> Iterator[str]:
    lines = [*_mandate_lines(whole), *_shadow_lines(whole), *_answer_lines(whole)]
    if lines:
        yield ""
        yield "said besides"
        yield from (f"  {line}" for line in lines)


def _mandate_lines(whole: Whole) -> Iterator[str]:
    mandate = None if whole.view is None else whole.view.mandate
    if mandate is None or whole.view is None:
        return
    classes = ", ".join(f"{c['operation']} {c['object']}" for c in mandate["action_classes"]) or "no action classes"
    until = clock_text(mandate["expires_at"])
    yield printable(f"mandate by {mandate['by']} ({mandate['declared_by']}) until {until}: {classes}")
    if whole.view.named:
        yield f"it names {len(whole.view.named)} of the intent's values"


def _shadow_lines(whole: Whole) -> Iterator[str]:
    for reason in whole.found.hold.body["shadow"]:
        yield f"shadow rule, would {reason.get('effect')}: {printable(reason_text(reason))}"


def _answer_lines(whole: Whole) -> Iterator[str]:
    for attempt in whole.attempts:
        why = EXPLAIN.get(attempt.reason, attempt.reason)
        yield printable(f"{clock_text(attempt.append_ms)}  {attempt.by}: {attempt.decision}; not taken, {why}")
    if whole.found.settled is not None:
        yield f"{clock_text(whole.found.settled.append_ms)}  {settled_text(whole.found.settled)}"


def settled_text(settled: Settled) -> str:
    """How a hold was answered, by whom, and what followed."""
    body, given = settled.body, settled.body["approval"] or {}
    said = f"{given.get('by')} said {given.get('decision')}" + (f", “{given['reason']}”" if given.get("reason") else "")
    dropped = f", labels taken off: {', '.join(given['declassify'])}" if given.get("declassify") else ""
    if given.get("answers"):
        count, kind = len(given["answers"]["values"]), given["answers"]["class"]
        dropped += f", and {count} value{'' if count == 1 else 's'} known to its chain for {kind}"
    why = "" if body["decision"] == "approve" else f" ({'; '.join(map(reason_text, body['reasons']))})"
    word = {"approve": "approved", "deny": "denied"}.get(body["decision"], "asked again")
    return printable(f"{said}: {word}{why}{dropped}")


def _next(whole: Whole) -> Iterator[str]:
    found = whole.found
    state = state_of(found.hold, found.settled, whole.now)
    if state == "open":
        yield ""
        who = "--credentials YOU.json (with --dev: --by YOU)"
        yield f"→ `harness holds approve {found.name} --reason TEXT` {who}, or `deny`; who waits is told at once"
    elif state == "expired":
        yield "→ nobody answered in time, which denies it; the agent needs a new intent"


# --- What became of an answer ---


def became_json(found: Found, wish: Wish, became: Became, code: int) -> dict[str, Any]:
    """The end of an answer."""
    body = became.effective.body
    verdict = became.effective.kind == "verdict"
    before = found.book.holds.settled(found.hold)
    return {
        "hold": found.hold.digest,
        "place": found.name,
        "intent_id": found.hold.intent_id,
        "said": wish.decision,
        "by": wish.by,
        "became": str(became.end),
        "reason": became.reason or None,
        "reasons": list(body["reasons"]) if verdict else [],
        "verdict_digest": became.effective.digest if verdict else None,
        "verdict_offset": became.effective.offset if verdict else None,
        "answered_before": _answer_json(before) if became.end is End.REFUSED and before is not None else None,
        "exit_code": code,
    }


def became_text(found: Found, wish: Wish, became: Became) -> str:
    """The end of an answer, and what to do next."""
    hold = found.hold
    what = f"{found.name}, `{printable(hold.event['action'])}` of {printable(hold.agent_id)}"
    because = "; ".join(printable(reason_text(reason)) for reason in became.effective.body.get("reasons", ()))
    if became.end is End.APPROVED:
        until = clock_text(hold.until)
        return f"{decision_text('approve')} {what}: it runs if its process still waits, never after {until}"
    if became.end is End.DENIED and wish.decision == "deny":
        return f"{decision_text('deny')} {what}: {because}"
    if became.end is End.DENIED:
        return (
            f"{decision_text('deny')} {what}: denied though you approved, since chain, facts or rules are not what "
            f"they were: {because}\n→ a hold is answered once; if it should run, the agent asks anew"
        )
    if became.end is End.HELD:
        again = f"{found.book.partition}/{became.effective.offset}"
        return f"{decision_text('hold')} {what}: now another rule asks, {because}\n→ `harness holds show {again}`"
    return _nothing_changed(found, became, what)


def _nothing_changed(found: Found, became: Became, what: str) -> str:
    before = found.book.holds.settled(found.hold)
    if became.reason == Refuse.NO_HOLD and before is not None:
        return f"{what} was answered before: {settled_text(before)}\n→ the first answer counts; yours changed nothing"
    if became.reason == Refuse.HOLD_EXPIRED:
        return f"{what} has expired, which denied it\n→ the agent needs a new intent; answer within 15 minutes"
    why = EXPLAIN.get(became.reason, became.reason)
    detail = f" ({printable(became.detail)})" if became.detail else ""
    return f"{what}: your answer changed nothing, {became.reason}{detail}\n→ {why}"
