"""A checked rule set that answers two questions: which conditions hold for an intent, which selections for an event.

Rule: asking never raises. A condition is true, false or the text of an error, and an error denies (DESIGN §4).
How conditions are asked together (`masks.py`) and which are left out (`conditions.py`) never shows in an answer.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness_stream.core.rules.cel import Parser, short
from harness_stream.core.rules.conditions import Questions, bits_of
from harness_stream.core.rules.index import actions_of, asks_action_only, constantly_true
from harness_stream.core.rules.masks import Term
from harness_stream.core.rules.memory import remembered
from harness_stream.core.rules.parts import parts_of
from harness_stream.core.rules.reads import Cut, Given, fields_read, tables_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cel_expr_python import cel

    from harness_stream.core.rules.check import Checked
    from harness_stream.core.rules.expression import Expression
    from harness_stream.core.rules.index import Actions
    from harness_stream.core.rules.mistakes import Mistake
    from harness_stream.core.rules.parse import Correlation, Draft, Rule, RuleSet

# Answers that are remembered of events that look alike to selections, the newest.
SELECTED_MAX: Final = 4_096
_TEXT: Final = frozenset({str})
_NOTHING: Final[Mapping[int, str]] = MappingProxyType({})


class Judged(NamedTuple):
    """What every rule's `when` said of one view.

    Attributes:
        mask: bit i is set if rule i's `when` is true.
        errors: of the rules whose `when` is neither true nor false, why (≤ 200 characters).
    """

    mask: int
    errors: Mapping[int, str] = _NOTHING

    @property
    def speaking(self) -> int:
        """Bit i is set if rule i's `when` is not false."""
        mask = self.mask
        for index in self.errors:
            mask |= 1 << index
        return mask

    def of(self, index: int) -> bool | str:
        """One rule's answer: true, false or the text of its error."""
        return self.errors.get(index) or bool(self.mask >> index & 1)


class Selected(NamedTuple):
    """Which selections hold for one view, and which failed; a failed one does not hold. Bits as `selection_names`."""

    matched: int
    failed: int


class Program:
    """A checked rule set that can be evaluated.

    Attributes:
        rule_set: what was loaded.
        bundle: canonical JSON of the resolved rule set (sorted keys, no spaces, UTF-8), at most 256 KiB.
        digest: SHA-256 of the bundle in hex; its name.
        rules: in the order of the text.
        correlations: each rule's window or None.
        selection_names: bit i of a selection mask stands for selection_names[i]. Alphabetical, so that a bundle gives
            the same bits as the text it came from.
        fields_read: for identity, infrastructure, risk and mandate: the fields any `when` names, `present` included.
        tables_read: for each rule, which of identity, infrastructure, risk and classification it reads: in `when`, in a
            selection of `when` or window, by a path of its window. Joined values of an event count for their table.
        warnings: findings that do not keep the set from loading.
    """

    def __init__(self, draft: Draft, checked: Checked, bundle: bytes) -> None:
        self.rule_set: RuleSet = draft.rule_set
        self.bundle = bundle
        self.digest = hashlib.sha256(bundle).hexdigest()
        self.rules: tuple[Rule, ...] = draft.rule_set.rules
        self.correlations: tuple[Correlation | None, ...] = tuple(rule.correlation for rule in self.rules)
        self.selection_names: tuple[str, ...] = tuple(checked.selections)
        self.fields_read: Mapping[str, frozenset[str]] = fields_read(checked)
        self.tables_read: tuple[frozenset[str], ...] = tuple(
            tables_read(checked, index, window) for index, window in enumerate(self.correlations)
        )
        self._reading: dict[str, int] = {}
        for index, tables in enumerate(self.tables_read):
            self._reading.update((table, self._reading.get(table, 0) | 1 << index) for table in tables)
        self.warnings: tuple[Mistake, ...] = draft.findings.all()
        selections = checked.selections.values()
        self._given = Given(path for c in checked.conditions for path in c.reads_through(checked.selections))
        self._cut_event = Cut(path for selection in selections for path in selection.reads)
        self._runtime = checked.runtime
        self._params = dict(draft.rule_set.params)
        self._rules = Questions(checked.runtime, *_rule_terms(self.rules, checked))
        self._selections = Questions(checked.runtime, _selection_terms(checked))
        self._selected: dict[tuple[str, ...], Selected] = {}

    def judge(self, variables: Mapping[str, Any], first: Judged | None = None) -> Judged:
        """What each rule's `when` says of one view of an intent. Never raises.

        Args:
            variables: nested maps by the names of DESIGN §6; the row of an absent table is `{"present": False}`.
                `event` may be left out: in a rule it is another word for `intent`.
            first: what was said of another resource of the same intent. Then only rules that read the resource are
                asked; the others say the same again.
        """
        try:
            activation = self._runtime.activation(self._given(variables))
        except Exception as error:  # noqa: BLE001  whatever the binding raises, an intent must get an answer
            return Judged(0, dict.fromkeys(range(len(self.rules)), short(error)))
        return Judged(*self._rules.ask(activation, _intended_action(variables), first))

    def reading(self, tables: Iterable[str]) -> int:
        """Bit i is set if rule i reads one of these tables."""
        mask = 0
        for table in tables:
            mask |= self._reading.get(table, 0)
        return mask

    def evaluations(self, action: str) -> int:
        """How often CEL is called to judge one view with this action, if nothing errs: for people and benchmarks."""
        return self._rules.evaluations(action)

    def select(self, event_view: Mapping[str, Any], first: Selected | None = None) -> Selected:
        """Which selections hold for one resource view of one event. Never raises.

        Args:
            event_view: as `core.views` makes it.
            first: what was selected for another resource of the same event.
        """
        cut = self._cut_event(event_view)
        texts = None if cut is event_view else _texts(cut)
        if texts is None:
            return self._select(event_view, cut, first)
        return remembered(self._selected, texts, lambda _: self._select(event_view, cut, first), SELECTED_MAX)

    def _select(self, event_view: Mapping[str, Any], cut: Mapping[str, Any], first: Selected | None) -> Selected:
        activation = self._activation(cut)
        if activation is None:
            return Selected(0, (1 << len(self.selection_names)) - 1)
        before = None if first is None else (first.matched, dict.fromkeys(bits_of(first.failed), ""))
        return _selected(*self._selections.ask(activation, _action(event_view), before))

    def _activation(self, cut: Mapping[str, Any]) -> cel.Activation | None:
        try:
            return self._runtime.activation({"event": cut, "params": self._params})
        except Exception:  # noqa: BLE001  whatever the binding raises, an intent must get an answer
            return None


def _texts(cut: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What selections read of an event, if that is texts alone: of equal texts they say the same.

    Equal numbers may be of different types, so those are asked about anew, and so is what is made of parts.
    """
    texts = tuple(cut.values())
    return texts if _TEXT.issuperset(map(type, texts)) else None


# --- What is asked ----------------------------------------------------------------------------------------------------


def _rule_terms(rules: Sequence[Rule], checked: Checked) -> tuple[list[Term], list[Term]]:
    """Enforced and shadow rules apart: what is only tried never shares an evaluation with what counts."""
    asked = zip(checked.conditions, checked.texts, checked.programs, strict=True)
    parser = Parser()
    terms = [_term(index, parser, *parts, checked.selections) for index, parts in enumerate(asked)]
    shadow = {index for index, rule in enumerate(rules) if rule.mode != "enforce"}
    return [t for t in terms if t.bit not in shadow], [t for t in terms if t.bit in shadow]


def _selection_terms(checked: Checked) -> list[Term]:
    asked = zip(checked.selections.values(), checked.selection_programs, strict=True)
    parser = Parser()
    return [_term(bit, parser, selection, selection.text, alone, {}) for bit, (selection, alone) in enumerate(asked)]


def _term(
    bit: int,
    parser: Parser,
    expression: Expression,
    text: str,
    alone: cel.Expression,
    selections: Mapping[str, Expression],
) -> Term:
    tree = expression.tree
    actions, parts = actions_of(tree, selections), parts_of(parser, text)
    return Term(
        bit,
        text,
        alone,
        expression.cost,
        parts,
        tuple(part for part in parts if not _says(parser, part, actions)),
        actions,
        constantly_true(tree, selections),
        expression.varies(selections),
    )


def _says(parser: Parser, part: str, actions: Actions | None) -> bool:
    """Whether a conjunct asks whether the action is one of these, and nothing else."""
    tree = parser.tree(part)
    return not isinstance(tree, tuple) and asks_action_only(tree) and actions_of(tree, {}) == actions


def _action(view: Mapping[str, Any]) -> str | None:
    try:
        action = view["action"]
    except Exception:  # noqa: BLE001  then conditions that read it say what is wrong
        return None
    return action if isinstance(action, str) else None


def _intended_action(variables: Mapping[str, Any]) -> str | None:
    try:
        return _action(variables["intent"])
    except Exception:  # noqa: BLE001  as above
        return None


def _selected(matched: int, errors: Mapping[int, str]) -> Selected:
    return Selected(matched, sum(1 << bit for bit in errors))
