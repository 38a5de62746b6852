"""Does a record answer the very inputs it covers? Asked without history (V5, V6)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits
from harness_stream.core.audit.findings import Kind
from harness_stream.core.model import Approval, Intent
from harness_stream.core.reasons import Garbage, Skip

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness_stream.core.audit.findings import Input
    from harness_stream.core.events import InputEvent
    from harness_stream.core.fold import Body, Header

    Found = tuple[Kind, str]

_ANSWERS: Final = {
    "intent": frozenset({"verdict", "reject"}),
    "approval": frozenset({"verdict", "ack", "reject"}),
    "mandate": frozenset({"ack", "reject"}),
    "outcome": frozenset({"ack", "reject"}),
}
# What an answer calls its input's id and digest.
_OWN_NAMES: Final = {"verdict": ("intent_id", "intent_digest"), "ack": ("id", "digest"), "reject": ("id", "digest")}


def answered_by(body: Body, inputs: Sequence[Input]) -> Input | None:
    """The input that a verdict, ack or reject answers: the last one it covers; None if there is no record."""
    return inputs[-1] if inputs and inputs[-1].offset == body["covers"][1] else None


def uncovered(body: Body, inputs: Sequence[Input]) -> Iterator[Found]:
    """Inputs that a verdict, ack or reject covers and does not answer."""
    last = body["covers"][1]
    if answered_by(body, inputs) is None:
        yield Kind.COVERAGE, f"answers input {last}, and the input log has no record there"
    for item in inputs:
        if item.offset != last:
            yield Kind.COVERAGE, f"nobody answered input {item.offset}: this record passes over it and answers {last}"


def misnamed(body: Body, item: Input) -> Iterator[Found]:
    """What a verdict, ack or reject says of its input, and the input does not."""
    event = item.event
    if event is None:
        why = ": ".join(part for part in item.garbage if part)
        yield Kind.ANSWER, f"a {body['kind']}, and input {item.offset} must not be judged ({why})"
        return
    if body["kind"] not in _ANSWERS[event.type]:
        yield Kind.ANSWER, f"a {body['kind']}, and input {item.offset} is of type {event.type}"
        return
    if names_another(body, item):
        own_id = _OWN_NAMES[body["kind"]][0]
        told = f"{body[own_id]}, and at input {item.offset} stands {event.own_id}"
        yield Kind.DIGEST, f"answers {told}: the log was cut and this offset given again, or one of the two was altered"
        return
    for name, expected in _named(body, event, item.digest):
        if body.get(name) != expected:
            yield Kind.DIGEST, f"{name}: {body.get(name)}, and input {item.offset} has {expected}"


def names_another(body: Body, item: Input) -> bool:
    """Does an answer to such an input name both other bytes and another id? Nothing else of it can be compared then.

    Args:
        body: of a verdict, ack or reject.
        item: the input at the offset that it answers, which may be judged.
    """
    if item.event is None or (isinstance(item.event, Approval) and body["kind"] == "verdict"):
        return False
    own_id, digest = _OWN_NAMES[body["kind"]]
    return bool(body[own_id] != item.event.own_id and body[digest] != item.digest)


def _named(body: Body, event: InputEvent, digest: str) -> Iterator[tuple[str, Any]]:
    yield "agent_id", event.agent_id
    if body["kind"] != "verdict":
        yield "id", event.own_id
        yield "digest", digest
    elif isinstance(event, Intent):
        yield "intent_id", event.intent_id
        yield "intent_digest", digest
        yield "arguments_digest", event.arguments_digest
        yield "enforcer_nonce", event.enforcer_nonce
    if body["kind"] == "ack":
        yield "event_type", event.type
    if isinstance(event, Approval) and body["kind"] == "verdict":
        # The input's own digest is in no field: the hold it names is, and that is history's to say.
        told = body.get("approval") or {}
        yield "approval", {**told, "id": event.approval_id, "by": event.by, "decision": event.decision}


# --- Skips ---


def wrongly_skipped(body: Body, inputs: Sequence[Input], header: Header) -> Iterator[Found]:
    """What is wrong with a `skip` over these inputs.

    Args:
        body: the skip's.
        inputs: all input records in its `covers`.
        header: the fold before it.
    """
    if body["t"] > header.t:
        yield Kind.TIME, f"chain time {body['t']}, and a skip leaves it at {header.t}"
    if body["reason"] == Skip.INPUT_LOST:
        if inputs:
            yield Kind.SKIP, f"says that inputs were lost, and {inputs[0].offset} is still there"
        return
    if body["count"] != len(inputs):
        yield Kind.SKIP, f"skips {body['count']} records, and it covers {len(inputs)}"
        return
    digest = hashlib.sha256(b"".join(bytes.fromhex(item.digest) for item in inputs)).hexdigest()
    if body["digest"] != digest:
        yield Kind.DIGEST, f"digest: {body['digest']}, and the skipped inputs have {digest}"
    yield from _wrong_reasons(body, inputs, quarantine=header.crash_claims >= limits.QUARANTINE_CLAIMS)


def maybe_forged(item: Input, told: tuple[str, str | None] | None) -> bool:
    """Was it skipped as not authentic, or perhaps was, and nobody here can tell whether it is?

    Args:
        item: the input.
        told: (reason, detail) that the skip names for it; None if it names none.
    """
    return item.unjudged and (told is None or told[0] == Garbage.NOT_AUTHENTIC)


def _wrong_reasons(body: Body, inputs: Sequence[Input], *, quarantine: bool) -> Iterator[Found]:
    named = {told["offset"]: (told["reason"], told.get("detail")) for told in body["offsets"]}
    shown = [item.offset for item in inputs[: limits.SKIP_OFFSETS_MAX]]
    if list(named) != shown:
        yield Kind.SKIP, f"names the offsets {list(named)}, and the first it skips are {shown}"
        return
    for item in inputs:
        told = named.get(item.offset)
        if maybe_forged(item, told):
            continue
        quarantined = quarantine and told in {None, (Garbage.QUARANTINED, None)}
        if item.event is not None and not quarantined:
            why = told[0] if told else Skip.GARBAGE
            yield Kind.SKIP, f"input {item.offset} was skipped as {why}, and is an {item.event.type} to be answered"
        elif item.event is None and told not in {None, item.garbage} and not quarantined:
            yield Kind.SKIP, f"input {item.offset} was skipped as {told}, and it is {item.garbage}"
