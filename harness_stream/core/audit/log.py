"""The decision log alone: which records count, and what is wrong with their form, links, epochs and checkpoints.

Rule of this file: nothing here needs the input log or a chain; so a day of a busy partition is read at the log's speed,
and any checkpoint is a place to start from.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError

from harness_stream.core import limits
from harness_stream.core.audit.broken import Broken, Restart
from harness_stream.core.audit.findings import Finding, Kind, about
from harness_stream.core.audit.outside import Outside
from harness_stream.core.audit.resumed import Resumed, named_by
from harness_stream.core.audit.settled import Settled
from harness_stream.core.audit.void import Void, strangers_text, why_void
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import DENIALS, NOTICE, RULED, STATEMENTS, Place
from harness_stream.core.lanes import partition_of
from harness_stream.core.records import RECORDS, Checkpoint
from harness_stream.core.witness import DIGITS_SHOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from harness_stream.core.audit.findings import Record
    from harness_stream.core.fold import Body

# A checkpoint lands at most 3 s (the producer's delivery time-out) after the record it names; 16,384 records are 3 s at
# 5,000 a second, and some 8 MB. One that names an older place is counted as unchecked.
PLACES_KEPT: Final = 16_384
# As many as a skip names of what it skipped: enough to look at, and bounded.
VOID_SHOWN: Final = limits.SKIP_OFFSETS_MAX
# Checkpoints of one place that wait for the next record: a day of one an hour, which is a partition at rest.
DOUBTED_MAX: Final = 24

# A log that is cut again has lost the epochs of before its first cut, too, which its offsets no longer count. So many
# are a takeover an hour for half a year.
EPOCHS_FORMER_MAX: Final = 4_096


class Step(NamedTuple):
    """What became of one record.

    Attributes:
        before: the fold before it.
        effective: it counts.
        sound: it counts, and says what a record of its kind must.
        again: records that are to be taken once more: the fold goes on behind a break.
        lost: why history is not whole from here on, empty if it is.
    """

    before: Place
    findings: tuple[Finding, ...]
    effective: bool = False
    sound: bool = False
    again: tuple[Record, ...] = ()
    lost: str = ""


class Break(NamedTuple):
    """Where a chain of links broke.

    Attributes:
        at: the record that is not as it was written.
        passed: (first, last) of what nothing proves behind it, None if all of that was audited.
    """

    at: int
    passed: tuple[int, int] | None


class LogAudit:
    """Folds one partition's decision log and looks at each record.

    Args:
        start: where the fold begins.
        partitions: P.
        has_bundle: is a bundle of this digest in the rules topic, and does it load?
        held: places that checkpoints outside of the log name; the log must still hold them, but for those ahead of the
            start that are of an earlier epoch.

    Attributes:
        place: the fold so far.
        records: read so far, by kind; void ones are not in it.
        void: records that do not count, by why.
        void_at: offsets of the first VOID_SHOWN of them, by why.
        unchecked: checkpoints that name a place before those kept.
        resumed: what operators gave up, which is no finding.
        breaks: where the links broke, and the fold went on behind that.
        astray: checkpoints that differ because of a break that was said, and are no findings of their own.
        stuck: (first record behind it, last checkpoint there) of a break behind which it could not go on; else None.
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
        self._epoch_seen, self._epoch_void = start.header.epoch, 0
        self._settled = Settled()
        self.resumed = Resumed()
        self._outside = Outside(held, start, self.resumed.excuses)
        self.breaks: list[Break] = []
        self.astray = 0
        self.stuck: tuple[int, int] | None = None
        self._broken = Broken()
        self._believed = False  # any record is authentic
        self._claimed = False  # the newest record that counts is a claim
        self._doubted: list[tuple[int, Place, str]] = []  # checkpoints that differ from the fold as it is, not yet said
        self._strayed: Finding | None = None  # the first one that names what does not count behind a break, the same

    def take(self, record: Record) -> Step:
        """The next record, in the order of offsets."""
        before = self.place
        self._broken.saw(record.offset)
        if record.offset <= before.offset:
            return Step(before, self._known(record))
        if not record.authentic:
            self._is_void(Void.NOT_AUTHENTIC, record)
            return Step(before, ())
        self._believed = True
        if record.body.get("kind") in STATEMENTS:
            return self._stated(record)
        place = before.after(*record[:3])
        if place is None:
            restarted = self._doubt_confirmed(record)
            return restarted or Step(before, self._void(record))
        self.place = place
        self._counts(record)
        self._keep(place)
        found = [*self.held_back(), *self._effective(record, before)]
        sound = not any(f.kind is Kind.SCHEMA and f.offset == record.offset for f in found)
        return Step(before, (*found, *self._outside.take(record.offset, self._differing)), effective=True, sound=sound)

    def end(self, end: int, input_end: int) -> tuple[Finding, ...]:
        """Everything was read, up to the logs' ends as of the start: what must be there and is not."""
        found = [*self.held_back(), *self._outside.beyond(end)]
        found += [*self._outside.take(self._start.offset, self._differing), *self._outside.more()]
        found += self._of_strangers()
        if self.place.header.next_input > input_end:
            text = f"inputs are covered up to {self.place.header.next_input - 1}, and the input log ends at {input_end}"
            found.append(self._finding(Kind.COVERAGE, self.place.offset, text))
        return (*found, *self._uncounted())

    def _of_strangers(self) -> Iterator[Finding]:
        """A worker halts there, too, instead of beginning such a log a second time."""
        strangers = self.void[Void.NOT_AUTHENTIC]
        if strangers and not self._believed and self._start.offset < 0:
            first = self.void_at[Void.NOT_AUTHENTIC][0]
            text = f"{strangers_text(strangers)}; is `HARNESS_KEYS` or `HARNESS_DEV` this realm's?"
            yield self._finding(Kind.NOT_AUTHENTIC, first, text)

    def _uncounted(self) -> Iterator[Finding]:
        """Checkpoints outside of the log that name what does not count; those behind a break are counted only."""
        left, start = self._outside.left(), self._start.offset
        asked = [place for place in left if place.offset >= start or self._is_passed(place.offset)]
        told = [place for place in asked if self.stuck is None and not self._is_passed(place.offset)]
        self.astray += len(asked) - len(told)
        yield from self._outside.uncounted(told, self._unlinked())

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

    def _is_void(self, why: Void, record: Record, *, unlinked: bool = False) -> None:
        self._broken.is_void(record, self.place, unlinked=unlinked)
        self.void[why] += 1
        epoch = record.body.get("epoch")
        if record.authentic and type(epoch) is int:
            self._epoch_void = max(self._epoch_void, epoch)
        shown = self.void_at.setdefault(why, [])
        if len(shown) < VOID_SHOWN:
            shown.append(record.offset)

    def _void(self, record: Record) -> tuple[Finding, ...]:
        header, body = self.place.header, record.body
        why = why_void(header, body)
        self._is_void(why, record, unlinked=why is Void.WRONG_PREV)
        if str(body.get("kind")) in {"claim", "resume"} and type(body.get("epoch")) is int:
            self._epoch_seen = max(self._epoch_seen, body["epoch"])
        if why is Void.WRONG_COVERS:
            text = f"covers {body.get('covers')} by the owner itself, and the next input is {header.next_input}"
            return (self._finding(Kind.COVERAGE, record.offset, f"void: {text}"),)
        if why is Void.WRONG_RULES:
            in_force = _bundle_text(header.rules)
            text = f"void: names rules {_rules_text(body)} by the owner itself, and in force is {in_force}"
            return (self._finding(Kind.RULES, record.offset, text),)
        return ()

    def _counts(self, record: Record) -> None:
        self._broken.counts(record)
        self._claimed = record.body["kind"] == "claim"
        if not self._claimed:  # a claim has no link, so it mends none
            self.stuck = None

    # --- behind a break ---

    def _unlinked(self) -> str:
        first = self._broken.first
        if first is None:
            return ""
        return f"; {self._broken.unlinked_text()}: was one of the two altered, or one between them?"

    def _go_on(self, restart: Restart) -> Step:
        """Fold on behind a break, with what was void because of it."""
        before, self.place = self.place, restart.place
        if before.header.epoch != restart.place.header.epoch:  # it was a claim that is not as it was written
            self._epoch_seen = restart.place.header.epoch
        again = tuple(self._broken.since(restart.first))
        for record in again:
            self._forget_void(before, record)
        self.breaks.append(Break(restart.altered, restart.passed))
        self._broken.went_on()
        self.astray += len(self._doubted) + (self._strayed is not None)
        self._strayed = self.stuck = None
        self._doubted.clear()
        self._keep(restart.place)
        lost = f"the chain of links breaks at {restart.altered}" if restart.lost else ""
        found = self._finding(Kind.LINK, restart.altered, restart.text)
        return Step(before, (found,), again=again, lost=lost)

    def _may_follow(self, stated: Place) -> bool:
        """A former owner's word, or a stranger's, is no reason to leave the fold of one whose records count."""
        said, known = stated.header, self.place.header
        return self._claimed or said.epoch > known.epoch or (said.epoch, said.writer) == (known.epoch, known.writer)

    def _forget_void(self, before: Place, record: Record) -> None:
        why = why_void(before.header, record.body) if record.authentic else Void.NOT_AUTHENTIC
        self.void[why] -= 1
        self.void_at[why] = [offset for offset in self.void_at[why] if offset != record.offset]
        if not self.void[why]:
            del self.void[why], self.void_at[why]

    def _is_passed(self, offset: int) -> bool:
        """Nothing proves this one, and that was said."""
        return any(b.passed is not None and b.passed[0] <= offset <= b.passed[1] for b in self.breaks)

    def _doubt_confirmed(self, record: Record) -> Step | None:
        """A checkpoint differs from the fold, and the owner's next record goes on from what the checkpoint says."""
        stated = next((stated for _, stated, _ in self._doubted if stated.after(*record[:3]) is not None), None)
        if stated is None or self._broken.first is not None or not self._may_follow(stated):
            return None
        at = next(at for at, place, _ in self._doubted if place is stated)
        known = self.place.offset == stated.offset
        here = f"and {self.place.digest[:DIGITS_SHOWN]} stands here" if known else "and none that counts stands here"
        text = (
            f"the checkpoint at {at} names a record of digest {stated.digest[:DIGITS_SHOWN]} here, and the "
            f"owner's next record, at {record.offset}, links to that, {here}: it was altered"
        )
        self._is_void(why_void(self.place.header, record.body), record)  # until it is taken once more
        lost = stated.header.next_input != self.place.header.next_input
        return self._go_on(_restart_at(stated, record, text, lost=lost))

    def held_back(self) -> tuple[Finding, ...]:
        """Once the log goes on from the fold, or ends: what was held back is no break that can be gone behind."""
        found = [self._finding(Kind.CHECKPOINT, at, text) for at, _, text in self._doubted]
        if self._strayed is not None:
            found.append(self._strayed)
        self._strayed = None
        self._doubted.clear()
        return tuple(found)

    # --- effective ---

    def _effective(self, record: Record, before: Place) -> list[Finding]:
        body, kind = record.body, record.body["kind"]
        self.records[kind] += 1
        wrong = _schema_mistake(body)
        if wrong is not None:
            return [self._finding(Kind.SCHEMA, record.offset, wrong)]
        texts: list[tuple[Kind, str | None]] = []
        if kind == "claim":
            texts.append((Kind.EPOCH, self._epoch(body["epoch"])))
        if kind == "resume":
            texts += self._resume(record, before)
        if kind == "switch" and not self._has_bundle(body["rules"]["digest"]):
            texts.append((Kind.RULES, f"the rules topic has no bundle {body['rules']['digest']} that loads"))
        first, t = next(answers_in(body)), before.header.t
        if first.get("t", t) < t:  # from there on the rows of a run rise, or its schema says that they do not
            texts.append((Kind.TIME, about(first, body, f"chain time steps back from {t} to {first['t']}")))
        for verdict in answers_in(body) if kind in RULED else ():
            again = self._settled.take(verdict, record.offset, self.place.header.t)
            texts.append((Kind.SETTLED_TWICE, again and about(verdict, body, again)))
            texts.append((Kind.LANE, self._lane(verdict)))
        return [self._finding(kind, record.offset, text) for kind, text in texts if text is not None]

    def _resume(self, record: Record, before: Place) -> Iterator[tuple[Kind, str | None]]:
        """What it says of inputs and epochs is excused if it names the log's head and a checkpoint that is known."""
        body, named = record.body, named_by(record.body, before)
        if named is not None and not (self._knows(named, before) or (record.vouched and self._can_be(named, before))):
            named = None
        yield Kind.RULES, self._resumed_rules(before, None if body.get("forgets") is False else named)
        named = named if body["head"] == before.header.head else None
        held = named is not None and self._outside.waits_for(named)
        self.resumed.take(record.offset, body, before, named, held=held)
        if named is not None:  # claims may be among what was lost
            self._epoch_seen = max(self._epoch_seen, self._epoch_void, named.header.epoch)
        yield Kind.EPOCH, self._epoch(body["epoch"])
        excused = named is not None and body["next_input"] >= before.header.next_input
        yield Kind.COVERAGE, None if excused else _jump(before, body)

    def _knows(self, stated: Place, before: Place) -> bool:
        """Does anything but the resume say this, in the log or outside? What is too old to look up moves no epoch."""
        if stated.offset < 0:  # nobody had stated anything
            return self._start.offset < 0 and not self.records["checkpoint"]
        if stated.offset < next(iter(self._places)):
            return stated.header.epoch <= before.header.epoch
        return self._places.get(stated.offset) == stated or stated in self._outside.all

    def _can_be(self, stated: Place, before: Place) -> bool:
        """Each epoch is begun by a record of its own, so hardly more of them than records can be lost."""
        lost = stated.offset - (before.offset if stated.offset > before.offset else -1)
        return stated.header.epoch <= max(self._epoch_seen, self._epoch_void) + lost + EPOCHS_FORMER_MAX

    def _resumed_rules(self, before: Place, named: Place | None) -> str | None:
        """Whoever forgets may go on by the rules that the checkpoint names, anybody else by those in force."""
        rules, was = self.place.header.rules, before.header.rules
        if rules == was:
            return None
        if named is None or named.offset < 0 or rules != named.header.rules:
            return f"goes on by {_bundle_text(rules)}, and in force is {_bundle_text(was)}"
        if rules is not None and not self._has_bundle(rules[0]):
            return f"the rules topic has no bundle {rules[0]} that loads"
        return None

    def _epoch(self, epoch: int) -> str | None:
        expected, self._epoch_seen = self._epoch_seen + 1, max(self._epoch_seen, epoch)
        return None if epoch == expected else f"claims epoch {epoch}, and the next one is {expected}"

    def _lane(self, body: Body) -> str | None:
        lane = None if body["event"] is None else body["event"].get("lane")
        if not isinstance(lane, str) or partition_of(lane, self._partitions) == self._start.header.partition:
            return None
        return f"lane `{lane}` of {body['agent_id']} belongs to partition {partition_of(lane, self._partitions)}"

    # --- checkpoints and notices ---

    def _stated(self, record: Record) -> Step:
        before, stated = self.place, self._statement(record)
        if not isinstance(stated, Place):
            return Step(before, stated)
        text = self._differing(stated)
        if text is None:
            return Step(before, ())
        if stated.offset in self._places:
            return Step(before, self._doubt(record.offset, stated, text))
        restart = self._broken.restart(before, stated, record.offset) if self._may_follow(stated) else None
        return Step(before, self._strays(record.offset, stated, text)) if restart is None else self._go_on(restart)

    def _doubt(self, at: int, stated: Place, text: str) -> tuple[Finding, ...]:
        """It says otherwise of a record; of the newest that counts or should, the next shows which of them is wrong."""
        if self.place.offset <= stated.offset < at and len(self._doubted) < DOUBTED_MAX:
            self._doubted.append((at, stated, text))
            return ()
        return (self._finding(Kind.CHECKPOINT, at, text),)

    def _strays(self, at: int, stated: Place, text: str) -> tuple[Finding, ...]:
        """It names a record that does not count; of those behind one break only the first is a finding."""
        first = self._broken.first
        if self._is_passed(stated.offset):
            self.astray += 1
            return ()
        if first is None:
            return self._doubt(at, stated, text)
        if self.stuck is None:
            self._strayed = self._finding(Kind.CHECKPOINT, max(0, first.place.offset), f"at {at}, {text}")
        else:
            self.astray += 1
        self.stuck = (first.record.offset, at)
        return ()

    def _statement(self, record: Record) -> tuple[Finding, ...] | Place:
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
        return stated

    def _differing(self, stated: Place) -> str | None:
        """In what a checkpoint differs from the fold, None if in nothing."""
        known = self._places.get(stated.offset)
        if known is None:
            return f"a checkpoint names the record at {stated.offset}, which does not count here{self._unlinked()}"
        wrong = _differences(stated, known)
        return f"a checkpoint says of offset {stated.offset}: {wrong}" if wrong else None


def _differences(stated: Place, known: Place) -> str:
    said, folded = stated.to_json(), known.to_json()
    return "; ".join(
        f"{name} {said[name]}, the fold has {folded[name]}" for name in folded if said[name] != folded[name]
    )


def _restart_at(stated: Place, record: Record, text: str, *, lost: bool) -> Restart:
    return Restart(stated, record.offset, stated.offset, text, lost, None)


def _schema_mistake(body: Body) -> str | None:
    """The first mistake of a record whose kind is one of ours, None if it has none."""
    try:
        RECORDS[body["kind"]].model_validate(body)
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            return "nested too deeply"
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        return ": ".join(part for part in (_where(body, first["loc"]), first["msg"]) if part)
    return None


def _where(body: Body, path: Sequence[int | str]) -> str:
    """A field's name; of a run's also the input, if the row tells it."""
    name = ".".join(map(str, path))
    row = body["denied"][path[1]] if body["kind"] == DENIALS and path[:1] == ("denied",) and path[1:] else None
    offset = row.get("offset") if isinstance(row, dict) else None
    return name if type(offset) is not int else f"{name} (input {offset})"


def _jump(before: Place, body: Body) -> str | None:
    """A `resume` says where to go on; inputs that it leaves out or answers again are covered by nobody, or twice."""
    was, now = before.header.next_input, body["next_input"]
    return None if was == now else f"goes on at input {now}, and the next one is {was}"


def _bundle_text(rules: tuple[str, int] | None) -> str:
    return "none" if rules is None else f"{rules[0][:12]}, revision {rules[1]}"


def _rules_text(body: Body) -> str:
    rules: Any = body.get("rules")
    return f"{str(rules.get('digest'))[:12]}, revision {rules.get('revision')}" if isinstance(rules, dict) else "none"
