"""One partition of both logs, record by record: the log's own audit, and the answers' beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness_stream.core.audit.answers import Answers
from harness_stream.core.audit.log import LogAudit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from harness_stream.core.audit.findings import Finding, Input, Record
    from harness_stream.core.audit.log import Step
    from harness_stream.core.fold import Place
    from harness_stream.core.rules.windows import Windows


class Audit:
    """Yields what is wrong with one partition.

    Args:
        start: where to begin: genesis, or what a checkpoint states.
        partitions: P.
        rules: the compiled bundle of a digest, None if the rules topic has none that loads.
        held: places that checkpoints outside of the log name.

    Attributes:
        log: what was read of the decision log.
        answers: what was recomputed; None without `with_inputs`.
    """

    def __init__(
        self, start: Place, partitions: int, rules: Callable[[str], Windows | None], held: Iterable[Place] = ()
    ) -> None:
        self.log = LogAudit(start, partitions, lambda digest: rules(digest) is not None, held)
        self.answers: Answers | None = None
        self._start, self._rules = start, rules
        self._inputs_from: Callable[[int], Iterator[Input]] = lambda _: iter(())
        self._inputs: Iterator[Input] = iter(())
        self._next: Input | None = None
        self._low = 0

    def with_inputs(
        self, inputs: Callable[[int], Iterator[Input]], low: int, again: Callable[[int, int], Iterable[Record]]
    ) -> Audit:
        """Also hold each answer against its input, and recompute it if history is known from the first record on.

        Args:
            inputs: the input log's records from an offset on, in order; they are taken as they are needed, and asked
                for once more where a `resume` goes back.
            low: first offset that the input log still holds.
            again: the decision log's records from one offset up to, not including, another; a warmed switch needs it.
        """
        self.answers = Answers(whole=self._start.offset < 0, rules=self._rules, again=again)
        self._inputs_from, self._low = inputs, low
        self._read_from(self._start.header.next_input)
        return self

    def _read_from(self, offset: int) -> None:
        self._inputs = self._inputs_from(offset)
        self._next = next(self._inputs, None)

    @property
    def place(self) -> Place:
        """The fold so far."""
        return self.log.place

    def take(self, record: Record) -> list[Finding]:
        """What is wrong with the next record of the decision log."""
        step = self.log.take(record)
        found = self._answered(step, record)
        if step.lost and self.answers is not None:
            self.answers.lose(step.lost)
            self._covered(self.place.header.next_input)  # what was answered between belongs to no later record
        return found + [wrong for again in step.again for wrong in self.take(again)]

    def _answered(self, step: Step, record: Record) -> list[Finding]:
        found = list(step.findings)
        if self.answers is None or not step.effective:
            return found
        next_input = self.place.header.next_input
        if next_input < step.before.header.next_input:
            self._read_from(next_input)
        covered = self._covered(next_input)
        if not step.sound:
            self.answers.lose(f"the record at {record.offset} breaks its schema")
            return found
        return found + self.answers.take(step.before, record, covered, self._low)

    def end(self, end: int, input_end: int) -> list[Finding]:
        """What is missing, once everything up to the logs' ends as of the start was taken.

        Args:
            end: of the decision log.
            input_end: of the input log, asked for after `end`.
        """
        return list(self.log.end(end, input_end))

    def _covered(self, next_input: int) -> list[Input]:
        covered = []
        while self._next is not None and self._next.offset < next_input:
            covered.append(self._next)
            self._next = next(self._inputs, None)
        return covered
