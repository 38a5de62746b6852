"""An operator's word that continues a halted partition (PROTOCOL §3 `resume`, §5 HALTED).

Rule of this file: what is left of the log decides. Snapshots are kept only if all of them stand on it, a checkpoint
only names records that are in it, and chains are forgotten only if nothing that still stands reaches them. All that is
lost is said before anything is written.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core import limits
from harness_stream.core.audit.void import STRANGERS_HINT
from harness_stream.core.fold import Place
from harness_stream.core.state import PARTITION_UNIT
from harness_stream.core.units import encode_parts
from harness_stream.errors import (
    BrokerUnavailable,
    CallerError,
    ConfigError,
    LogDamaged,
    ProtocolError,
    StateUnavailable,
)
from harness_stream.runtime.readiness import CERTIFY
from harness_stream.runtime.snapshots import PLACE_KEY, Key
from harness_stream.runtime.snapshots_seen import snapshotted
from harness_stream.runtime.standing import Trouble, digest_at, of_snapshots, reached, stands
from harness_stream.runtime.to_end import SILENCE_MS_MAX, read_to_end
from harness_stream.wire.cloudevents import source_of
from harness_stream.wire.decisions import decision_headers, digest_of, encode_body, read_body, seal_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.fold import Body
    from harness_stream.ports import DecisionSigner, Headers, LogWriter
    from harness_stream.runtime.snapshots_seen import Snapshotted
    from harness_stream.runtime.standing import Source, Standing

# A worker that has halted looks again every 5 s (`owner.HALT_RETRY_MS`), then loads and claims.
CLAIM_MS_MAX: Final = 15_000
_LOOK_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class Resumption:
    """What a resume will set, and what that costs.

    Attributes:
        found: the halted partition.
        before: the fold of what is left of the log.
        next_input: first input offset to be answered from then on.
        rules: (digest, revision) in force from then on, None if the first claim is followed by a switch.
        t: chain time, epoch ms.
        cut: up to this verdict offset snapshots hold every change; −1: none of them counts.
        dropped: keys of snapshots that do not stand on what is left.
        forgets: no chain, window, hold or id of before is known from then on.
        loses: each a sentence for people.
    """

    found: Standing
    before: Place
    next_input: int
    rules: tuple[str, int] | None
    t: int
    cut: int
    dropped: tuple[bytes, ...]
    forgets: bool
    loses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operator:
    """Who resumes, and by what it is written.

    Attributes:
        writer_id: 128 random bits, hex.
        realm: the realm's name.
    """

    writer: LogWriter
    signer: DecisionSigner
    writer_id: str
    realm: str


# --- What it will be ---


def planned(source: Source, found: Standing, next_input: int | None = None, *, forget: bool = False) -> Resumption:
    """What resuming a halted partition sets.

    Args:
        source: of the same partition, as of now.
        found: where it stands.
        next_input: where to go on in the input log; None: at its end.
        forget: the operator allows that chains are forgotten, if nothing reaches them.

    Raises:
        CallerError: it is not halted (for all that can be seen), its log is damaged, next_input is beyond the input log
            or before what cannot be read of it, or chains would have to be forgotten.
        StateUnavailable: whether they would depends on the store, which does not answer.
        BrokerUnavailable: the broker does not answer.
    """
    if not found.troubles:
        found = replace(found, troubles=of_snapshots(source, found) or _untold(source, found, forget=forget))
    _require_readable(found)
    if found.ends.low > 0 and not found.store.answers:
        raise StateUnavailable("Redis does not answer, and it may hold the history", hint="bring it back, or name it")
    first = found.input_ends.end if next_input is None else next_input
    if not 0 <= first <= found.input_ends.end:
        hint = f"between 0 and {found.input_ends.end}, where it ends"
        raise CallerError(f"the input log has no place {first} to go on at", hint=hint)
    if found.input_damaged is not None and first <= found.input_damaged:
        hint = f"leave out --next-input, or name an offset behind the batch that begins at {found.input_damaged}"
        raise CallerError(f"inputs from {found.input_damaged} on cannot be read", hint=hint)
    snapshots, kept = _snapshots(source, found)
    whole = found.ends.low == 0 and Trouble.UNTOLD not in (found.troubles or {})
    forgets = not (kept or whole or stands(found.store.place, found))
    if forgets and not forget:
        raise CallerError(
            f"neither log, store nor snapshots reach the history of partition {found.partition}",
            hint="bring one back; or add --forget-history: chains, labels, counts and open holds then begin anew",
        )
    return _resumption(found, first, snapshots, kept=kept, forgets=forgets)


def _require_readable(found: Standing) -> None:
    """What stands behind a record that cannot be read or believed was decided on a history that nobody knows."""
    if Trouble.NOT_AUTHENTIC in (found.troubles or {}):
        raise CallerError(
            f"partition {found.partition} is not resumed: {(found.troubles or {})[Trouble.NOT_AUTHENTIC]}",
            hint=STRANGERS_HINT,
        )
    if Trouble.DAMAGED in (found.troubles or {}):
        raise CallerError(
            f"partition {found.partition} is not resumed: {(found.troubles or {})[Trouble.DAMAGED]}",
            hint=f"{LogDamaged.restore} says how, and what is left if there is no other copy",
        )


def _resumption(found: Standing, first: int, snapshots: Snapshotted, *, kept: bool, forgets: bool) -> Resumption:
    before = found.heard.place or Place.genesis(found.incarnation, found.partition)
    stated = None if found.checkpoint is None else found.checkpoint.place.header
    rules = stated.rules if forgets and stated is not None else before.header.rules
    return Resumption(
        found,
        before,
        first,
        rules,
        max(before.header.t, 0 if stated is None else stated.t),
        snapshots.place.offset if kept and snapshots.place is not None else -1,
        () if kept else snapshots.keys,
        forgets,
        tuple(_loses(found, before, first, forgets=forgets)),
    )


def _snapshots(source: Source, found: Standing) -> tuple[Snapshotted, bool]:
    """(the snapshots, whether all of them stand on what is left of the log)."""
    seen = snapshotted(source, found.partition)
    if {Trouble.SNAPSHOT_UNREADABLE, Trouble.UNTOLD} & {*(found.troubles or ())}:
        return seen, False
    if Trouble.CONTRADICTED not in (found.troubles or {}):
        return seen, found.checkpoint is not None and reached(source, found) and seen.place is not None
    place, checkpoint = seen.place, found.checkpoint
    if place is None or checkpoint is None or not stands(place, found):
        return seen, False
    # Where the log was cut is known if it is too short; if it has grown since, only the sealed place itself is.
    cut_at = found.heard.last + 1 if checkpoint.place.offset >= found.ends.end else place.offset + 1
    taken = place.offset < found.ends.low  # by retention; in the log, a hole is another history
    return seen, seen.furthest < cut_at and (taken or digest_at(source, found.partition, place.offset) == place.digest)


def _untold(source: Source, found: Standing, *, forget: bool) -> Mapping[Trouble, str]:
    """A record that no worker can read halts it too, and is seen only by who applies it: then history must go.

    Raises:
        CallerError: the partition is decided, or its history is not to be forgotten, or the store still has it.
    """
    name = f"partition {found.partition}"
    if not found.unattended(source.clock.now_ms()):
        raise CallerError(
            f"{name} can be continued by any worker; it is not resumed",
            hint="`harness partitions` shows what it waits for",
        )
    if not forget:
        raise CallerError(
            f"nothing in logs and store keeps a worker from continuing {name}; it is not resumed",
            hint="its worker's log says what it waits for. Only if that is `halted` for a record that nobody can read: "
            "--forget-history goes on without all that was before",
        )
    if found.store.place is not None:
        raise CallerError(
            f"Redis still has the history of {name}, and a worker begins with that",
            hint="empty Redis first: what it held may be what the worker cannot go on from",
        )
    return {Trouble.UNTOLD: "its owner is silent, and logs and store do not show why"}


def _loses(found: Standing, before: Place, first: int, *, forgets: bool) -> list[str]:
    """What is gone for good, each a sentence."""
    return [*_lost_records(found, before, first), *_lost_history(found, before, forgets=forgets)]


def _lost_records(found: Standing, before: Place, first: int) -> list[str]:
    """Inputs and decisions on them, and what the auditor will go on saying of the place."""
    stated = None if found.checkpoint is None else found.checkpoint.place
    was = max(before.header.next_input, 0 if stated is None else stated.header.next_input)
    lost: list[str] = []
    if stated is not None and before.header.next_input < stated.header.next_input:
        last = stated.header.next_input - 1
        lost.append(
            f"the decisions on inputs {before.header.next_input} to {last}, as far as a checkpoint knew of them"
        )
    if was > found.input_ends.end:
        lost.append(
            f"inputs {found.input_ends.end} to {was - 1}, which were answered: others that come to stand at these "
            "offsets are answered anew"
        )
    if first < min(was, found.input_ends.end):
        lost.append(f"inputs {first} to {min(was, found.input_ends.end) - 1} are answered a second time")
    if first > was:
        lost.append(f"inputs {was} to {first - 1} are never answered: whoever waits for them times out")
    if first < before.header.next_input:  # what the auditor does not excuse (`core.audit`)
        lost.append(
            f"`harness log verify` finds this place wrong for ever (`coverage`): it goes on at input {first}, "
            f"and those up to {before.header.next_input - 1} were answered"
        )
    return lost


def _lost_history(found: Standing, before: Place, *, forgets: bool) -> list[str]:
    """What agents had done that nothing knows of any more."""
    cut = Trouble.CONTRADICTED in (found.troubles or {})
    lost: list[str] = []
    if forgets or (cut and before.header.next_input == 0):  # a cut that left no answer left no history
        lost.append("the history of every agent of this partition: chains, labels, counts, open holds, delegations")
    elif cut:
        lost.append(
            "what agents did by the lost decisions: limits, labels, open holds and delegations count without it, "
            "so what a limit denied may be approved"
        )
    if forgets or cut:
        lost.append(
            f"ids of intents answered lately: for {limits.ID_MEMORY_MS // 1000} s after it was answered, "
            "an intent whose bytes are sent again may be approved again"
        )
    return lost


# --- Doing it ---


def resume(source: Source, plan: Resumption, operator: Operator, reason: str) -> Place:
    """Write the operator's record, and what lets every reader begin behind it; the place after it.

    Snapshots go first and the checkpoint last: whatever breaks in between, the partition stays halted and the same
    command goes on.

    Raises:
        BrokerUnavailable: not all of it was written; say it again.
        ProtocolError: somebody else claimed the partition meanwhile.
    """
    partition, topics = plan.found.partition, source.topics
    for key in plan.dropped:
        _append(operator, topics.chains, partition, key, None)
    body = _body(plan, operator, reason)
    offset = _decision(source, operator, topics.verdicts, partition, body)
    place = _read_back(source, plan, body, offset)
    cut = plan.cut
    if plan.forgets:
        _seal_nothing(source, operator, place)
        cut = place.offset
    checkpoint = _checkpoint(place, operator, cut)
    _decision(source, operator, topics.verdicts, partition, checkpoint)
    _decision(source, operator, topics.heads, partition, checkpoint, str(partition).encode())
    return place


def claimed(source: Source, place: Place, wait_ms: int = CLAIM_MS_MAX) -> Place | None:
    """The place at the log's end once a worker has claimed after `place`; None if none did within `wait_ms`.

    Raises:
        BrokerUnavailable: the broker does not answer.
    """
    began_ms, epoch = source.clock.elapsed_ms(), place.header.epoch
    while True:
        place = _folded_on(source, place)
        if place.header.epoch > epoch:
            return place
        if source.clock.elapsed_ms() - began_ms >= wait_ms:
            return None
        time.sleep(_LOOK_S)


def _folded_on(source: Source, place: Place) -> Place:
    topic, partition = source.topics.verdicts, place.header.partition
    for record in read_to_end(source.reader, topic, partition, source.clock, place.offset + 1):
        if source.verifier.decision_authentic(record):
            place = place.after(record.offset, *read_body(record.value)) or place
    return place


def _body(plan: Resumption, operator: Operator, reason: str) -> Body:
    checkpoint = plan.found.checkpoint
    return {
        "kind": "resume",
        "incarnation": plan.before.header.incarnation,
        "epoch": plan.found.epoch_seen + 1,
        "writer": operator.writer_id,
        "checkpoint": {} if checkpoint is None else dict(checkpoint.body),
        "head": plan.before.header.head,
        "next_input": plan.next_input,
        "rules": None if plan.rules is None else {"digest": plan.rules[0], "revision": plan.rules[1]},
        "t": plan.t,
        "reason": reason,
        "forgets": plan.forgets,
        "seal": None if checkpoint is None else seal_of(checkpoint.headers),
    }


def _read_back(source: Source, plan: Resumption, body: Body, offset: int) -> Place:
    """The place after the record; anything else that was appended meanwhile is folded, too."""
    partition, topic = plan.found.partition, source.topics.verdicts
    place = plan.before
    for record in read_to_end(source.reader, topic, partition, source.clock, plan.found.ends.end):
        if record.offset <= offset and source.verifier.decision_authentic(record):
            place = place.after(record.offset, *read_body(record.value)) or place
    if (place.offset, place.header.epoch) != (offset, body["epoch"]):
        raise ProtocolError(
            f"partition {partition} was claimed while it was resumed: the record at {offset} does not count",
            hint="`harness partitions` shows by whom; if it is halted still, resume it again",
        )
    return place


def _seal_nothing(source: Source, operator: Operator, place: Place) -> None:
    """A snapshot of a partition in which nothing ever happened, at the very place from which it goes on."""
    values: dict[Any, Any] = {PLACE_KEY: place.to_json()}
    (piece,) = encode_parts(values, place.offset, place.header.t, 0)
    key = Key(PARTITION_UNIT, place.header.epoch).encode(place.header.incarnation)
    _append(operator, source.topics.chains, place.header.partition, key, piece)


def _checkpoint(place: Place, operator: Operator, cut: int) -> Mapping[str, Any]:
    return {
        "kind": "checkpoint",
        **place.to_json(),
        "snapshot_cut": cut,
        "next_rules": None,
        "dev": operator.signer.dev,
        "final": False,
    }


def _decision(
    source: Source, operator: Operator, topic: str, partition: int, body: Mapping[str, Any], key: bytes | None = None
) -> int:
    if not operator.signer.may_sign(body["epoch"]):
        raise ConfigError(f"the key's certificate does not cover epoch {body['epoch']}", hint=CERTIFY)
    value = encode_body(body)
    digest = digest_of(value)
    seal = operator.signer.seal_batch(partition, [digest])[0]
    now_ms = source.clock.now_ms()
    headers = decision_headers(source_of(operator.realm, operator.writer_id), body["kind"], digest, now_ms)
    return _append(operator, topic, partition, key, value, [*headers, *seal])


def _append(
    operator: Operator, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()
) -> int:
    """The offset at which it landed."""
    operator.writer.append(topic, partition, key, value, headers, token=1)
    open_ones = operator.writer.flush(SILENCE_MS_MAX)
    offsets = [delivery.offset for delivery in operator.writer.deliveries()]
    if open_ones or len(offsets) != 1 or offsets[0] is None:
        raise BrokerUnavailable(f"the broker did not take a record of `{topic}`", hint="say the same again")
    return offsets[0]
