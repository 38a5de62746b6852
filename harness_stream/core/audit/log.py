"""The decision log alone: which records count, and what is wrong with their form, links, epochs and checkpoints.

Rule of this file: nothing here needs the input log or a chain; so a day of a busy partition is read at the log's speed,
and any checkpoint is a place to start from.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from harness_stream.core import limits
from harness_stream.core.audit.findings import Finding, Kind
from harness_stream.core.audit.settled import Settled
from harness_stream.core.audit.void import Void, why_void
from harness_stream.core.fold import NOTICE, STATEMENTS, Place, is_own
from harness_stream.core.lanes import partition_of
from harness_stream.core.records import RECORDS, Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from harness_stream.core.audit.findings import Record
    from harness_stream.core.fold import Body

# A checkpoint lands at most 3 s (the producer's delivery time-out) after the record it names; 16,384 records are 3 s at
# 5,000 a second, and some 8 MB. One that names an older place is counted as unchecked.
PLACES_KEPT: Final = 16_384
# As many as a skip names of what it skipped: enough to look at, and bounded.
VOID_SHOWN: Final = limits.SKIP_OFFSETS_MAX


class Step(NamedTuple):
    """What became of one record.

    Attributes:
        before: the fold before it.
        effective: it counts.
        sound: it counts, and says what a record of its kind must.
    """

    before: Place
    findings: tuple[Finding, ...]
    effective: bool = False
    sound: bool = False


class LogAudit:
    """Folds one partition's decision log and looks at each record.

    Args:
        start: where the fold begins.
        partitions: P.
        has_bundle: is a bundle of this digest in the rules topic, and does it load?
        held: places that checkpoints outside of the log name; the log must still hold them.

    Attributes:
        place: the fold so far.
        records: read so far, by kind; void ones are not in it.
        void: records that do not count, by why.
        void_at: offsets of the first VOID_SHOWN of them, by why.
        unchecked: checkpoints that name a place before those kept.
    """

    def __init__(
        self, start: Place, partitions: int, has_bundle: Callable[[str], bool], held: Iterable[Place] = ()
    ) -> None:
        self.place = start
        self.records = Counter[str]()
        self.void = Counter[Void]()
        self.void_at: dict[Void, list[int]] = {}
        self.unchecked = 0
        self._start, self._partitions, self._has_bundle = start, partitions, has_bundle
        self._places = {start.offset: start}
        self._held: dict[int, list[Place]] = {}
        for stated in held:
            self._held.setdefault(stated.offset, []).append(stated)
        self._epoch_seen = start.header.epoch
        self._settled = Settled()
        self._unlinked: int | None = None  # the first of the owner's own since the last effective record

    def take(self, record: Record) -> Step:
        """The next record, in the order of offsets."""
        before = self.place
        if record.offset <= before.offset:
            return Step(before, self._known(record))
        if not record.authentic:
            self._is_void(Void.NOT_AUTHENTIC, record)
            return Step(before, ())
        if record.body.get("kind") in STATEMENTS:
            return Step(before, self._statement(record))
        place = before.after(*record[:3])
        if place is None:
            return Step(before, self._void(record))
        self.place, self._unlinked = place, None
        self._keep(place)
        found = self._effective(record, before)
        sound = not any(finding.kind is Kind.SCHEMA for finding in found)
        return Step(before, (*found, *self._held_at(record.offset)), effective=True, sound=sound)

    def end(self, end: int, input_end: int) -> tuple[Finding, ...]:
        """Everything was read, up to the logs' ends as of the start: what must be there and is not."""
        found = list(self._held_at(self._start.offset))
        if self.place.header.next_input > input_end:
            text = f"inputs are covered up to {self.place.header.next_input - 1}, and the input log ends at {input_end}"
            found.append(self._finding(Kind.COVERAGE, self.place.offset, text))
        if self._start.offset >= end:
            text = f"the log ends at {end}, and the start names offset {self._start.offset}"
            found.append(self._finding(Kind.TRUNCATED, end, text))
        for offset, places in sorted(self._held.items()):
            if offset >= end:
                text = f"the log ends at {end}, and a checkpoint (epoch {places[0].header.epoch}) names offset {offset}"
                found.append(self._finding(Kind.TRUNCATED, end, text))
            elif offset >= self._start.offset:
                text = f"a checkpoint outside of the log names this record, which does not count here{self._broken()}"
                found.append(self._finding(Kind.CHECKPOINT, offset, text))
        return tuple(found)

    def _finding(self, kind: Kind, offset: int, text: str) -> Finding:
        return Finding(kind, self._start.header.partition, offset, text)

    def _keep(self, place: Place) -> None:
        self._places[place.offset] = place
        if len(self._places) > PLACES_KEPT:
            del self._places[next(iter(self._places))]

    def _known(self, record: Record) -> tuple[Finding, ...]:
        """A record from before the start; the one that it names must be there."""
        if record.offset < self._start.offset or record.digest == self._start.digest:
            return ()
        self._places[record.offset] = self._start._replace(digest=record.digest)  # said once is enough
        text = f"the start names {self._start.digest} here, and the record's digest is {record.digest}"
        return (self._finding(Kind.CHECKPOINT, record.offset, text),)

    # --- void ---

    def _is_void(self, why: Void, record: Record) -> None:
        self.void[why] += 1
        shown = self.void_at.setdefault(why, [])
        if len(shown) < VOID_SHOWN:
            shown.append(record.offset)

    def _void(self, record: Record) -> tuple[Finding, ...]:
        header, body = self.place.header, record.body
        why = why_void(header, body)
        self._is_void(why, record)
        if str(body.get("kind")) in {"claim", "resume"} and type(body.get("epoch")) is int:
            self._epoch_seen = max(self._epoch_seen, body["epoch"])
        if why is Void.WRONG_PREV and self._unlinked is None and is_own(header, body):
            self._unlinked = record.offset
        if why is Void.WRONG_COVERS:
            text = f"covers {body.get('covers')} by the owner itself, and the next input is {header.next_input}"
            return (self._finding(Kind.COVERAGE, record.offset, f"void: {text}"),)
        if why is Void.WRONG_RULES:
            in_force = "none" if header.rules is None else f"{header.rules[0][:12]}, revision {header.rules[1]}"
            text = f"void: names rules {_rules_text(body)} by the owner itself, and in force is {in_force}"
            return (self._finding(Kind.RULES, record.offset, text),)
        return ()

    def _broken(self) -> str:
        if self._unlinked is None:
            return ""
        at = self.place.offset
        return f"; from {self._unlinked} on the owner's records do not link to the record at {at}: was it replaced?"

    # --- effective ---

    def _effective(self, record: Record, before: Place) -> list[Finding]:
        body, kind = record.body, record.body["kind"]
        self.records[kind] += 1
        wrong = _schema_mistake(body)
        if wrong is not None:
            return [self._finding(Kind.SCHEMA, record.offset, wrong)]
        texts: list[tuple[Kind, str | None]] = []
        if kind in {"claim", "resume"}:
            texts.append((Kind.EPOCH, self._epoch(body["epoch"])))
        if kind == "resume":
            texts.append((Kind.COVERAGE, _jump(before, body)))
        if kind == "switch" and not self._has_bundle(body["rules"]["digest"]):
            texts.append((Kind.RULES, f"the rules topic has no bundle {body['rules']['digest']} that loads"))
        if body.get("t", before.header.t) < before.header.t:
            texts.append((Kind.TIME, f"chain time steps back from {before.header.t} to {body['t']}"))
        if kind == "verdict":
            texts.append((Kind.SETTLED_TWICE, self._settled.take(body, record.offset, self.place.header.t)))
            texts.append((Kind.LANE, self._lane(body)))
        return [self._finding(kind, record.offset, text) for kind, text in texts if text is not None]

    def _epoch(self, epoch: int) -> str | None:
        expected, self._epoch_seen = self._epoch_seen + 1, max(self._epoch_seen, epoch)
        return None if epoch == expected else f"claims epoch {epoch}, and the next one is {expected}"

    def _lane(self, body: Body) -> str | None:
        lane = None if body["event"] is None else body["event"].get("lane")
        if not isinstance(lane, str) or partition_of(lane, self._partitions) == self._start.header.partition:
            return None
        return f"lane `{lane}` of {body['agent_id']} belongs to partition {partition_of(lane, self._partitions)}"

    # --- checkpoints and notices ---

    def _statement(self, record: Record) -> tuple[Finding, ...]:
        """What changes nothing; of a notice nothing is known but its form, since no log holds the identity table."""
        body, kind = record.body, record.body["kind"]
        if body.get("incarnation") != self._start.header.incarnation:
            self._is_void(Void.INCARNATION, record)
            return ()
        self.records[kind] += 1
        wrong = _schema_mistake(body)
        if wrong is not None:
            return (self._finding(Kind.SCHEMA, record.offset, wrong),)
        if kind == NOTICE:
            return ()
        stated = Place.from_json(Checkpoint.model_validate(body).model_dump())
        if stated.offset < next(iter(self._places)):
            self.unchecked += 1
            return ()
        differing = self._differing(stated)
        return () if differing is None else (self._finding(Kind.CHECKPOINT, record.offset, differing),)

    def _held_at(self, offset: int) -> tuple[Finding, ...]:
        texts = [self._differing(stated) for stated in self._held.pop(offset, ())]
        return tuple(self._finding(Kind.CHECKPOINT, offset, text) for text in texts if text is not None)

    def _differing(self, stated: Place) -> str | None:
        """In what a checkpoint differs from the fold, None if in nothing."""
        known = self._places.get(stated.offset)
        if known is None:
            return f"a checkpoint names the record at {stated.offset}, which does not count here{self._broken()}"
        said, folded = stated.to_json(), known.to_json()
        wrong = [f"{name} {said[name]}, the fold has {folded[name]}" for name in folded if said[name] != folded[name]]
        return f"a checkpoint says of offset {stated.offset}: {'; '.join(wrong)}" if wrong else None


def _schema_mistake(body: Body) -> str | None:
    """The first mistake of a record whose kind is one of ours, None if it has none."""
    try:
        RECORDS[body["kind"]].model_validate(body)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            return "nested too deeply"
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return None


def _jump(before: Place, body: Body) -> str | None:
    """A `resume` says where to go on; inputs that it leaves out or answers again are covered by nobody, or twice."""
    was, now = before.header.next_input, body["next_input"]
    return None if was == now else f"goes on at input {now}, and the next one is {was}"


def _rules_text(body: Body) -> str:
    rules: Any = body.get("rules")
    return f"{str(rules.get('digest'))[:12]}, revision {rules.get('revision')}" if isinstance(rules, dict) else "none"
