"""Which inputs were answered where an input log was cut: its offsets are given to others again (PROTOCOL §5, HALTED).

Rule of this file: what an answer names says which of an offset's inputs it answers, never when it was written: a worker
answers what it had read, until it is told of the cut. Promised of inputs that took the offsets of answered ones, while nobody could
tell that the log was short: no verdict is theirs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from harness_stream.core import limits
from harness_stream.core.audit.inputs import answered_by, misnamed, uncovered, wrongly_skipped
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import Place
from harness_stream.runtime.audit_read import input_of
from harness_stream.wire.decisions import read_body
from tests.simulation.world import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness_stream.core.fold import Header
    from harness_stream.ports import LogRecord
    from tests.simulation.world import World


class Answer(NamedTuple):
    """An effective record, of a run of denials each for itself.

    Attributes:
        inputs: what it answers; of inputs that nobody was given any more none.
        goes_back: it is a `resume` at an input before the next one.
    """

    body: Mapping[str, Any]
    inputs: tuple[LogRecord, ...]
    goes_back: bool


@dataclass
class Regiven:
    """One partition's input log in all the forms it had, and what was answered of it.

    Attributes:
        answers: the effective records, in order.
        lost: inputs that a cut took, by identity.
        times: how often each input was answered, by identity.
    """

    world: World
    partition: int
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        cuts = [cut for cut in self.world.input_cuts if cut.partition == self.partition]
        self.now = self.world.everything(TOPICS.intents, self.partition)
        self.lost = {id(record): record for cut in cuts for record in cut.lost}
        self.times = Counter[int]()
        self._forms = [{r.offset: r for r in log} for log in (*(cut.before for cut in cuts), self.now)]
        self._verifier = self.world.verifier(judges=False)
        self._read()

    def eras(self) -> list[list[LogRecord]]:
        """The inputs as they were answered, up to each `resume` that goes back and from there on."""
        eras: list[list[LogRecord]] = [[]]
        for answer in self.answers:
            if answer.goes_back:
                eras.append([])
            eras[-1] += answer.inputs
        return eras

    def unanswered(self) -> list[LogRecord]:
        """Lost before they were answered, or at an offset that was answered before."""
        return [r for r in (*self.lost.values(), *self.now) if not self.times[id(r)] and self._may_be_silent(r)]

    def happened(self) -> Counter[str]:
        """How often an offset's second input was answered, and how often it was not."""
        firsts = {record.offset for record in self.lost.values() if self.times[id(record)]}
        later = [record for record in self.now if record.offset in firsts]
        anew = sum(self.times[id(record)] > 0 for record in later)
        return Counter({"offset answered anew": anew, "never answered at its offset": len(later) - anew})

    def wrong(self, passed_over: set[int]) -> list[str]:
        """V5: what is still in the log is answered once, and what is not at most once.

        Args:
            passed_over: offsets that an operator left out.
        """
        found = [f"input {r.offset} of before a cut is answered twice" for r in self.lost.values() if self.times[id(r)] > 1]
        for record in self.now:
            times, excused = self.times[id(record)], record.offset in passed_over or self._may_be_silent(record)
            if times > 1 or not (times or excused):
                found.append(f"input {record.offset} is answered {times} times")
        return found

    def _may_be_silent(self, record: LogRecord) -> bool:
        """It was lost, or the last one to speak of its offset answers one that was, or says that retention took it."""
        if id(record) in self.lost:
            return True
        last = next((a for a in reversed(self.answers) if _covers(a.body, record.offset)), None)
        return last is not None and (_is_lost(last.body) or any(id(other) in self.lost for other in last.inputs))

    # --- which input an answer is of ---

    def _read(self) -> None:
        place = Place.genesis("i1", self.partition)
        for record in self.world.everything(TOPICS.verdicts, self.partition):
            body, digest = read_body(record.value)
            after = place.after(record.offset, body, digest) if self._verifier.decision_authentic(record) else None
            if after is not None:
                header, place = place.header, after
                for answer in answers_in(body):
                    inputs = self._inputs_of(answer, header) if "covers" in answer else ()
                    self.answers.append(Answer(answer, inputs, place.header.next_input < header.next_input))
                    self.times.update(map(id, inputs))
                    header = header._replace(t=max(header.t, answer.get("t", 0)))

    def _inputs_of(self, body: Mapping[str, Any], header: Header) -> tuple[LogRecord, ...]:
        """Those that fit, and of several, since the same may be sent again, the oldest not yet answered.

        If none do, those of now, for the auditor to say what is wrong.
        """
        if _is_lost(body):
            kept = self.world.broker.bounds(TOPICS.intents, self.partition)[0]
            return tuple(record for record in self.now if record.offset >= kept and _covers(body, record.offset))
        fitting = [some for some in self._candidates(body) if self._fits(body, header, some)]
        return min(fitting, key=lambda some: any(self.times[id(r)] for r in some), default=self._covered(body)[-1])

    def _candidates(self, body: Mapping[str, Any]) -> Iterator[tuple[LogRecord, ...]]:
        yield from self._covered(body)
        told = [each["offset"] for each in body.get("offsets", ())]
        if body["kind"] == "skip" and len(told) == body["count"]:  # some of them may have been read before a cut
            yield from product(*({id(f[at]): f[at] for f in self._forms if at in f}.values() for at in told))

    def _covered(self, body: Mapping[str, Any]) -> list[tuple[LogRecord, ...]]:
        first, last = body["covers"]
        return [tuple(form[at] for at in range(first, last + 1) if at in form) for form in self._forms]

    def _fits(self, body: Mapping[str, Any], header: Header, records: Sequence[LogRecord]) -> bool:
        inputs = [input_of(record, "sim", self._verifier) for record in records]
        if body["kind"] == "skip":
            return not list(wrongly_skipped(body, inputs, header))
        item = answered_by(body, inputs)
        if item is None or [*uncovered(body, inputs), *misnamed(body, item)]:
            return False
        if body["kind"] == "verdict" and item.append_ms - body["inputs"]["decided_at"] > limits.CLOCK_SKEW_MS_MAX:
            return bool(body["t"] == header.t)
        return bool(body["t"] == max(header.t, item.append_ms) or body["kind"] != "verdict")


def _is_lost(body: Mapping[str, Any]) -> bool:
    return bool(body["kind"] == "skip" and body["reason"] == "input_lost")


def _covers(body: Mapping[str, Any], offset: int) -> bool:
    first, last = body.get("covers", (0, -1))
    return bool(first <= offset <= last)
