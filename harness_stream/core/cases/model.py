"""Cases as data: what is given, what is judged, what has to come out.

Rule: plain values and the items they were read from, so that whatever turns out wrong later still has its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.rules.document import Item
    from harness_stream.core.rules.language import Obligation, Scalar


@dataclass(frozen=True, slots=True)
class Expectation:
    """What has to come out of one event; None and empty mean that nothing is said.

    Attributes:
        decision: one of `words.DECISIONS`.
        rules: ids that must be among the rules that decided.
        not_rules: ids that must not have fired.
        shadow: ids that must have fired in shadow mode.
        evidence: indexes of `given`, exactly.
        evidence_count: what the windows of the rules counted.
        unknown: whether a rule fired as unknown.
        obligations: exactly.
        reasons: words of the engine.
        places: rule id → where it was named.
    """

    decision: str | None = None
    rules: tuple[str, ...] = ()
    not_rules: tuple[str, ...] = ()
    shadow: tuple[str, ...] = ()
    evidence: tuple[int, ...] | None = None
    evidence_count: int | None = None
    unknown: bool | None = None
    obligations: Mapping[str, Obligation] | None = None
    reasons: tuple[str, ...] = ()
    places: tuple[tuple[str, Item], ...] = ()

    @property
    def named(self) -> frozenset[str]:
        """Rules it says something about."""
        return frozenset((*self.rules, *self.not_rules, *self.shadow))


@dataclass(frozen=True, slots=True)
class Step:
    """One event of a case.

    Attributes:
        index: in `given`; None for the judged one.
        at_ms: relative to now.
        kind: intent, mandate, outcome, approval or table.
        fields: of its schema, as far as the author wrote them.
        of: index of the given intent that an outcome or approval is about; None: the agent's newest.
        parent: index of the given intent that delegated this one.
        then: None if the author says nothing of it.
        item: where it stands.
    """

    index: int | None
    at_ms: int
    kind: str
    fields: Mapping[str, Any]
    of: int | None
    parent: int | None
    then: Expectation | None
    item: Item


@dataclass(frozen=True, slots=True)
class Folder:
    """Rows of a folder of table files, by its path as written."""

    path: str
    item: Item


@dataclass(frozen=True, slots=True)
class InlineRow:
    """A row written in the cases file; what it leaves out is filled in by `rows.rows_of`."""

    table: str
    fields: Mapping[str, Any]
    item: Item


Source = Folder | InlineRow


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: unique in its file.
        line: where it begins, from 1.
        params: name → value; the file's and its own.
        sources: rows, later over earlier; the file's and its own.
        now_ms: chain time of the judged event, epoch ms.
        history: given events in the order they happen, repetitions written out.
        when: the judged event.
        then: what has to come out.
    """

    name: str
    line: int
    params: Mapping[str, Scalar]
    sources: tuple[Source, ...]
    now_ms: int
    history: tuple[Step, ...]
    when: Step
    then: Expectation

    @property
    def steps(self) -> tuple[Step, ...]:
        """Everything that happens, in order."""
        return (*self.history, self.when)


@dataclass(frozen=True, slots=True)
class CaseFile:
    """One cases file.

    Attributes:
        rules: path of the rule set as written.
        rules_item: where it stands.
        params: name → where its value stands, of the file and of all cases.
        cases: in the order of the text.
    """

    rules: str
    rules_item: Item
    params: tuple[tuple[str, Item], ...] = ()
    cases: tuple[Case, ...] = field(default=())
