"""Events of the real log for `harness replay --from-log`: which part of it, from when, on which facts.

Rule of this file: it finds places and says what they mean; which records count, and what is decided on them, is said by
`runtime.replay_feed` and `runtime.replay_log`.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final

import typer

from harness_stream.adapters.kafka.admin import incarnation, offsets_at, partitions
from harness_stream.adapters.signing.pairs import verifier_of
from harness_stream.cli.decision_log import DecisionLog
from harness_stream.cli.replay_output import Event, Progress
from harness_stream.cli.replay_part import Moment, Part, duration_ms, moment_of
from harness_stream.cli.verdicts import clock_text
from harness_stream.core.lanes import partition_of
from harness_stream.core.model import IdentityRow, lane_of
from harness_stream.errors import CallerError, ProtocolError
from harness_stream.runtime.replay_feed import DecidedLog, Feed, Stretch, merged, ranges_of
from harness_stream.runtime.replay_log import Answered, Known, LogReplay
from harness_stream.runtime.to_end import ends_of, read_to_end
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness_stream.cli.replay_rules import Rules
    from harness_stream.config import Settings
    from harness_stream.core.fold import Body
    from harness_stream.core.join import Tables
    from harness_stream.ports import Clock, LogReader, Verifier

# A partition at rest writes a checkpoint every hour (ARCHITECTURE 22), and one minute later it is surely there.
CHECKPOINT_MS: Final = 3_660_000


@dataclass(slots=True)
class LogSource:
    """A stretch of one realm's logs, found and ready to be decided.

    Attributes:
        stretches: one a partition.
        undecided: input offsets at their ends that no worker has answered yet; they are left out.
        shown: is this event, by its body, one of those asked for?
        inputs: decided so far, shown or not.
        history: records taken as history so far.
        notes: what a person must know to read the result rightly.
    """

    complaint: ClassVar[str] = ""
    """A record that was skipped then is no mistake of who replays it."""

    reader: LogReader
    clock: Clock
    topics: Topics
    verifier: Verifier
    stretches: list[Stretch]
    after: LogReplay
    before: LogReplay | None
    against_log: bool
    shown: Callable[[Body], bool]
    from_tables: bool
    reach_ms: int
    notes: list[str]
    inputs: int = 0
    history: int = 0
    undecided: int = 0
    _began: dict[int, int] = field(default_factory=dict)

    def events(self) -> Iterator[Event]:
        """Every input of the stretch, by append time.

        Raises:
            BrokerUnavailable: the broker does not answer any more.
            ProtocolError: the log cannot be followed.
            ConfigError: it is another realm's.
        """
        feed = Feed(self.reader, self.clock, ranges_of(self.stretches, self.topics))
        logs = [DecidedLog(feed, stretch, self.topics, self.verifier) for stretch in self.stretches]
        for stretch in self.stretches:
            for replay in self._replays():
                replay.begin(stretch.partition, stretch.first, stretch.place.header.t)
        with closing(Progress()) as progress:
            for item in merged(logs):
                if isinstance(item, Known):
                    self._known(item)
                else:
                    yield self._decided(item)
                done = (self.inputs, "inputs") if self.inputs else (self.history, "records of history")
                progress.show(*done, feed.share)
        self.undecided = sum(log.undecided for log in logs)
        self._note_what_was_missing()

    def told(self) -> dict[str, Any]:
        """For programs."""
        facts = self.after.facts
        return {
            "inputs": self.inputs,
            "undecided": self.undecided,
            "history": self.history,
            "partitions": {str(s.partition): {"first": s.first, "end": s.end} for s in self.stretches},
            "facts": {
                "from": "tables" if self.from_tables else "log",
                "recorded": facts.recorded,
                "tables": facts.tables,
                "filled": dict(facts.filled),
                "unknown": dict(facts.unknown),
            },
            "notes": self.notes,
        }

    def told_lines(self) -> list[str]:
        """For people; notes were said before."""
        facts = self.after.facts
        lines = [f"{self.inputs:,} inputs, after {self.history:,} records of history"]
        if self.from_tables:
            return [*lines, "facts: from the tables that were given"]
        lines.append(f"facts: {facts.recorded:,} verdicts on what the log recorded, {facts.tables:,} on the tables now")
        lines += [f"  {name}: not recorded, from the tables now ({n:,} verdicts)" for name, n in facts.filled.items()]
        return lines + [f"  {name}: not known any more ({n:,} verdicts)" for name, n in facts.unknown.items()]

    def _replays(self) -> list[LogReplay]:
        return [self.after] if self.before is None else [self.after, self.before]

    def _known(self, known: Known) -> None:
        self.history += 1
        for replay in self._replays():
            replay.know(known)

    def _decided(self, answered: Answered) -> Event:
        self.inputs += 1
        self._began.setdefault(answered.partition, answered.at_ms)
        after = self.after.take(answered)
        before = answered.answer if self.against_log else None
        if self.before is not None:
            before = self.before.take(answered)
        where = {"partition": answered.partition, "offset": answered.record.offset}
        return Event(where, answered.at_ms, after, before, self.shown(after))

    def _note_what_was_missing(self) -> None:
        if self.undecided:
            left = "1 input offset" if self.undecided == 1 else f"{self.undecided:,} input offsets"
            self._note(f"not decided yet, so left out: {left} at the end")
        known = {s.partition: s.place.header.t for s in self.stretches if s.place.offset >= 0}
        short = [p for p, at_ms in self._began.items() if p in known and at_ms - known[p] < self.reach_ms]
        if short:
            reach = self.reach_ms // 1000
            self._note(
                f"windows reach back {reach:,} s, and in partition{'s' if len(short) > 1 else ''} "
                f"{', '.join(map(str, sorted(short)))} history begins later: counts may be too low at first"
            )

    def _note(self, text: str) -> None:
        self.notes.append(text)
        typer.echo(text, err=True)


def find(
    part: Part, settings: Settings, reader: LogReader, clock: Clock, tables: Tables, rules: Rules, *, from_tables: bool
) -> LogSource:
    """Find the stretch in the logs, and say on standard error what it is.

    Args:
        part: which.
        settings: of the realm.
        reader: used for nothing else from now on.
        clock: of this machine.
        tables: as they are now, or were given.
        rules: who decides.
        from_tables: facts come from `tables` only.

    Raises:
        BrokerUnavailable: the broker does not answer.
        CallerError: there is no such stretch.
        ProtocolError: the log cannot be folded.
    """
    finder = _Finder(part, settings, reader, clock, tables)
    replays = [LogReplay(w, tables, settings.realm, from_tables=from_tables) for w in (rules.after, rules.before) if w]
    source = LogSource(
        reader=reader,
        clock=clock,
        topics=finder.topics,
        verifier=finder.verifier,
        stretches=finder.stretches(),
        after=replays[0],
        before=replays[1] if rules.before else None,
        against_log=rules.against_log,
        shown=finder.shown,
        from_tables=from_tables,
        reach_ms=rules.reach_ms,
        notes=finder.notes,
    )
    for note in finder.notes:
        typer.echo(note, err=True)
    return source


class _Finder:
    """Turns options into stretches."""

    def __init__(self, part: Part, settings: Settings, reader: LogReader, clock: Clock, tables: Tables) -> None:
        if part.since is not None and part.first:
            raise CallerError("--since and --from both say where to begin", hint="give one of them")
        self.topics = Topics(settings.prefix)
        self.notes: list[str] = []
        self._part, self._settings, self._reader, self._clock, self._tables = part, settings, reader, clock, tables
        self._first = moment_of(part.first, "--from")
        if part.since is not None:
            self._first = clock.now_ms() - duration_ms(part.since, "--since")
        self._last = moment_of(part.last, "--to")
        realm_id = incarnation(settings)
        self.verifier = verifier_of(settings, realm_id)
        self._decisions = DecisionLog(reader, self.topics, realm_id, self.verifier, clock)

    def shown(self, body: Body) -> bool:
        """Is this event one of those asked for?"""
        if self._part.agent is None and self._part.lane is None:
            return True
        agent_id = body.get("agent_id")
        if agent_id is None:
            return False
        lane = self._part.lane
        return self._part.agent in {None, agent_id} and lane in {None, self._lane_of(agent_id, body)}

    def stretches(self) -> list[Stretch]:
        """One a partition that is asked for; those without an input left out.

        Raises:
            CallerError: there is none.
        """
        numbers = self._partitions()
        firsts, lasts = self._offsets(self._first, numbers), self._offsets(self._last, numbers)
        found = [self._stretch(number, firsts[number], lasts[number]) for number in numbers]
        kept = [stretch for stretch in found if stretch is not None]
        if not kept:
            raise CallerError(
                "; ".join([f"`{self.topics.intents}` holds no decided input in that stretch", *self.notes]),
                hint="`harness verdicts tail --from-beginning --no-follow` shows what was decided, and when",
            )
        inputs = sum(stretch.end - stretch.first for stretch in kept)
        self.notes.insert(0, f"{inputs:,} input offsets in {len(kept)} of {len(numbers)} partitions")
        return kept

    def _partitions(self) -> list[int]:
        count = partitions(self._settings, self.topics.verdicts)
        named = [set(self._part.numbers)] if self._part.numbers else []
        named += [set(moment) for moment in (self._first, self._last) if not isinstance(moment, int | None)]
        unknown = sorted(number for numbers in named for number in numbers if number >= count)
        if unknown:
            hint = f"`{self.topics.intents}` has 0 to {count - 1}"
            raise CallerError(f"there is no partition {unknown[0]}", hint=hint)
        lanes = [lane for lane in (self._part.lane, self._agents_lane()) if lane is not None]
        named += [{partition_of(lane, count)} for lane in lanes]
        chosen = sorted(set(range(count)).intersection(*named))
        if not chosen:
            raise CallerError("no partition is in all that was asked for", hint=self._where(lanes, count))
        return chosen

    def _where(self, lanes: list[str], count: int) -> str:
        homes = [f"lane `{lane}` is in partition {partition_of(lane, count)}" for lane in lanes]
        return "; ".join(homes) or "name the same partitions in --partition, --from and --to"

    def _agents_lane(self) -> str | None:
        """None also for an agent nobody enrolled, which may be anywhere."""
        row = None if self._part.agent is None else self._identity(self._part.agent)
        return None if row is None else lane_of(row)

    def _lane_of(self, agent_id: str, body: Body) -> str:
        if body.get("event"):
            return str(body["event"]["lane"])
        row = self._identity(agent_id)
        return agent_id if row is None else lane_of(row)

    def _identity(self, agent_id: str) -> IdentityRow | None:
        try:
            row = self._tables["identity"].row(agent_id)
        except ValueError:
            return None
        return row if isinstance(row, IdentityRow) else None

    def _offsets(self, moment: Moment | None, numbers: list[int]) -> dict[int, int | None]:
        """The offset a moment means in each partition; None if it is past the last record, or not said."""
        if moment is None:
            return dict.fromkeys(numbers)
        if isinstance(moment, int):
            return offsets_at(self._settings, self.topics.intents, numbers, moment)
        return {number: moment.get(number) for number in numbers}

    def _stretch(self, number: int, first: int | None, last: int | None) -> Stretch | None:
        ends = ends_of(self._reader, self.topics.intents, number, self._clock)
        if first is None:
            first = ends.end if isinstance(self._first, int) else ends.low
        end = ends.end if last is None else min(last, ends.end)
        if first < ends.low and not isinstance(self._first, int):
            raise CallerError(
                f"partition {number} is kept from offset {ends.low} on", hint=f"begin with --from {number}/{ends.low}"
            )
        if first >= end:
            return None
        start = self._decisions.start_before(number, self._history_from(number, first))
        begin = max(first, start.place.header.next_input)
        if begin >= end:
            self.notes.append(f"partition {number}: what is kept of its decision log tells nothing of this stretch")
            return None
        if begin > first or (first == ends.low > 0 and self._first is not None):
            when = clock_text(self._append_ms(number, begin))
            self.notes.append(f"partition {number} is kept from input offset {begin} on, {when}: it begins there")
        return Stretch(number, start.place, start.ends.end, begin, end)

    def _history_from(self, number: int, first: int) -> int:
        """Decision-log offset at which history begins."""
        if self._part.history is None:
            return 0
        history_ms = max(duration_ms(self._part.history, "--history"), CHECKPOINT_MS)
        since_ms = self._append_ms(number, first) - history_ms
        return offsets_at(self._settings, self.topics.verdicts, [number], since_ms)[number] or 0

    def _append_ms(self, number: int, offset: int) -> int:
        """Append time of the first input from `offset` on."""
        for record in read_to_end(self._reader, self.topics.intents, number, self._clock, offset):
            self._reader.unfollow(self.topics.intents, number)
            return record.timestamp_ms or 0
        raise ProtocolError(f"partition {number} of `{self.topics.intents}` holds no record from offset {offset} on")
