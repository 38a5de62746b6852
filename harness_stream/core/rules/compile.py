"""A rule text (or bundle) as a `Program` that judges one intent.

Rule: what is loaded is named by the SHA-256 of its canonical bytes, and those bytes alone make the same program again.
Evaluation never raises: a condition is true, false or the text of an error, and an error denies (DESIGN §4).
How conditions are asked together (`masks.py`) and which are left out (`conditions.py`) never shows in an answer.
"""

from __future__ import annotations

import hashlib
import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness_stream.core.rules.cel import short
from harness_stream.core.rules.check import Checked, check
from harness_stream.core.rules.conditions import Conditions, Questions, bits_of
from harness_stream.core.rules.index import actions_of, constantly_true
from harness_stream.core.rules.language import FRESH_TABLES, TABLES, TEXT_BYTES_MAX, TIMESPAN_MS_MAX, Scalar, table_of
from harness_stream.core.rules.masks import Term
from harness_stream.core.rules.mistakes import ERROR, Findings, Mistake
from harness_stream.core.rules.parse import Correlation, Draft, Rule, RuleSet, read, read_bundle
from harness_stream.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cel_expr_python import cel

    from harness_stream.core.rules.expression import Expression

_SECOND_MS: Final = 1_000
_NOTHING: Final[Mapping[int, str]] = MappingProxyType({})


class Judged(NamedTuple):
    """What every rule's `when` said of one view.

    Attributes:
        mask: bit i is set if rule i's `when` is true.
        errors: of the rules whose `when` is neither true nor false, why (≤ 200 characters).
    """

    mask: int
    errors: Mapping[int, str] = _NOTHING

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
        rules_reading: the same the other way round: for each of those tables the mask of the rules that read it.
        warnings: findings that do not keep the set from loading.
    """

    def __init__(self, draft: Draft, checked: Checked, bundle: bytes) -> None:
        self.rule_set: RuleSet = draft.rule_set
        self.bundle = bundle
        self.digest = hashlib.sha256(bundle).hexdigest()
        self.rules: tuple[Rule, ...] = draft.rule_set.rules
        self.correlations: tuple[Correlation | None, ...] = tuple(rule.correlation for rule in self.rules)
        self.selection_names: tuple[str, ...] = tuple(checked.selections)
        self.fields_read: Mapping[str, frozenset[str]] = _fields_read(checked)
        self.tables_read: tuple[frozenset[str], ...] = tuple(
            _tables_read(checked, index, window) for index, window in enumerate(self.correlations)
        )
        self.rules_reading: Mapping[str, int] = MappingProxyType(
            {table: sum(1 << i for i, read in enumerate(self.tables_read) if table in read) for table in FRESH_TABLES}
        )
        self.warnings: tuple[Mistake, ...] = draft.findings.all()
        self._runtime = checked.runtime
        self._params = dict(draft.rule_set.params)
        self._rules = Questions(checked.runtime, *_rule_terms(self.rules, checked))
        self._selections = Questions(checked.runtime, _selection_terms(checked))
        self._by_decision = Conditions(checked.runtime, _reading_the_decision(checked))

    def judge(self, variables: Mapping[str, Any], first: Judged | None = None) -> Judged:
        """What each rule's `when` says of one view of an intent. Never raises.

        Args:
            variables: nested maps by the names of DESIGN §6, `event` and `intent` the same view; the row of an absent
                table is `{"present": False}`.
            first: what was said of another resource of the same intent. Then only rules that read the resource are
                asked; the others say the same again.
        """
        try:
            activation = self._runtime.activation(variables)
        except Exception as error:  # noqa: BLE001  whatever the binding raises, an intent must get an answer
            return Judged(0, dict.fromkeys(range(len(self.rules)), short(error)))
        return Judged(*self._rules.ask(activation, _action_judged(variables), first))

    def evaluations(self, action: str) -> int:
        """How often CEL is called to judge one view with this action, if nothing errs: for people and benchmarks."""
        return self._rules.evaluations(action)

    def select(self, event_view: Mapping[str, Any], first: Selected | None = None) -> Selected:
        """Which selections hold for one resource view of one event. Never raises.

        Args:
            event_view: as `core.views` makes it.
            first: what was selected for another resource of the same event.
        """
        activation = self._activation(event_view)
        if activation is None:
            return Selected(0, (1 << len(self.selection_names)) - 1)
        before = None if first is None else (first.matched, dict.fromkeys(bits_of(first.failed), ""))
        return _selected(*self._selections.ask(activation, _action(event_view), before))

    def reselect(self, event_view: Mapping[str, Any], before: Selected) -> Selected:
        """What `select` says of a view whose `decision` alone differs from the one that gave `before`. Never raises.

        An intent is matched as if approved before it is decided, and its event afterwards (DESIGN §5).
        """
        if not self._by_decision.bits:
            return before
        activation = self._activation(event_view)
        if activation is None:
            return Selected(0, (1 << len(self.selection_names)) - 1)
        errors: dict[int, str] = {}
        again = _selected(self._by_decision.ask(activation, _action(event_view), errors), errors)
        kept = ~self._by_decision.bits
        return Selected(before.matched & kept | again.matched, before.failed & kept | again.failed)

    def _activation(self, event_view: Mapping[str, Any]) -> cel.Activation | None:
        try:
            return self._runtime.activation({"event": event_view, "params": self._params})
        except Exception:  # noqa: BLE001  whatever the binding raises, an intent must get an answer
            return None


def inspect(
    text: str,
    file: str = "<rules>",
    overrides: Mapping[str, Scalar] | None = None,
    *,
    timespan_ms_max: int = TIMESPAN_MS_MAX,
) -> tuple[Program | None, tuple[Mistake, ...]]:
    """Loads a rule text and reports everything found, warnings too. Never raises for any text.

    Returns:
        The program, or None if any finding is an error; and all findings in the order of the text.
    """
    findings = Findings(text, file)
    program = _program(read(text, findings, overrides or {}), timespan_ms_max)
    return program, findings.all()


def load(
    text: str,
    file: str = "<rules>",
    overrides: Mapping[str, Scalar] | None = None,
    *,
    timespan_ms_max: int = TIMESPAN_MS_MAX,
) -> Program:
    """Loads a rule text.

    Args:
        text: YAML (DESIGN §6), at most 256 KiB.
        file: name used in mistakes.
        overrides: parameters to set instead of the text's values.
        timespan_ms_max: `topics.max_timespan`.

    Raises:
        InvalidInput: with every `Mistake` in `mistakes`.
    """
    program, mistakes = inspect(text, file, overrides, timespan_ms_max=timespan_ms_max)
    if program is None:
        raise _invalid(file, mistakes)
    return program


def from_bundle(bundle: bytes, *, timespan_ms_max: int = TIMESPAN_MS_MAX) -> Program:
    """Compiles the bytes of `Program.bundle` again; the digest is the same.

    Raises:
        InvalidInput: the bytes are no bundle, or not in canonical form.
    """
    name = "<bundle>"
    findings = Findings("", name)
    program = _program(read_bundle(bundle, findings), timespan_ms_max)
    if program is None:
        raise _invalid(name, findings.all())
    if program.bundle != bundle:
        raise InvalidInput(f"{name}: not in canonical form", hint="make bundles with `harness rules push`")
    return program


def _program(draft: Draft | None, timespan_ms_max: int) -> Program | None:
    checked = check(draft, timespan_ms_max=timespan_ms_max) if draft else None
    if draft is None or checked is None:
        return None
    bundle = _canonical(draft.rule_set)
    if len(bundle) > TEXT_BYTES_MAX:
        draft.findings.at(1, 1, f"the bundle would have {len(bundle):,} bytes", "split the rule set")
        return None
    return Program(draft, checked, bundle)


def _invalid(file: str, mistakes: tuple[Mistake, ...]) -> InvalidInput:
    errors = [mistake for mistake in mistakes if mistake.severity == ERROR]
    first = errors[0]
    counted = "1 mistake" if len(errors) == 1 else f"{len(errors)} mistakes"
    message = f"{file}: {counted}, the first on line {first.line}: {first.message}"
    return InvalidInput(message, hint=first.fix, mistakes=mistakes)


# --- The bundle -------------------------------------------------------------------------------------------------------


def _canonical(rule_set: RuleSet) -> bytes:
    """The rule set in the keys of its own text, resolved and complete, as canonical bytes."""
    document = {
        "rule_set": rule_set.name,
        "default": rule_set.default,
        "params": dict(rule_set.params),
        "selections": dict(rule_set.selections),
        "rules": [_rule(rule) for rule in rule_set.rules],
    }
    return json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _rule(rule: Rule) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": rule.id,
        "effect": rule.effect,
        "when": rule.when,
        "mode": rule.mode,
        "because": rule.because,
        "severity": rule.severity,
    }
    if rule.obligations:
        plain["obligations"] = dict(rule.obligations)
    if rule.correlation:
        plain["correlation"] = _window(rule.correlation)
    return plain


def _window(window: Correlation) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "type": window.type,
        "rules": list(window.selections),
        "group-by": list(window.group_by),
        "timespan": f"{window.timespan_ms // _SECOND_MS}s",
    }
    if window.include_attempts:
        plain["include"] = "attempts"
    if window.condition:
        field = {"field": window.condition.field} if window.condition.field else {}
        plain["condition"] = {window.condition.op: window.condition.threshold} | field
    return plain


# --- What is asked ----------------------------------------------------------------------------------------------------


def _rule_terms(rules: Sequence[Rule], checked: Checked) -> tuple[list[Term], list[Term]]:
    """Enforced and shadow rules apart: what is only tried never shares an evaluation with what counts."""
    asked = zip(checked.conditions, checked.texts, checked.programs, strict=True)
    terms = [_term(index, *parts, checked.selections) for index, parts in enumerate(asked)]
    shadow = {index for index, rule in enumerate(rules) if rule.mode != "enforce"}
    return [t for t in terms if t.bit not in shadow], [t for t in terms if t.bit in shadow]


def _selection_terms(checked: Checked) -> list[Term]:
    asked = zip(checked.selections.values(), checked.selection_programs, strict=True)
    return [_term(bit, selection, selection.text, alone, {}) for bit, (selection, alone) in enumerate(asked)]


def _reading_the_decision(checked: Checked) -> list[Term]:
    readers = [bit for bit, s in enumerate(checked.selections.values()) if "event.decision" in s.reads]
    return [term for term in _selection_terms(checked) if term.bit in readers]


def _term(
    bit: int, expression: Expression, text: str, alone: cel.Expression, selections: Mapping[str, Expression]
) -> Term:
    tree = expression.tree
    return Term(
        bit,
        text,
        alone,
        expression.cost,
        actions_of(tree, selections),
        constantly_true(tree, selections),
        expression.varies(selections),
    )


def _action_judged(variables: Mapping[str, Any]) -> str | None:
    """The action of the one view that `event` and `intent` are."""
    try:
        event, intent = variables["event"], variables["intent"]
        same = event is intent or event["action"] == intent["action"]
    except Exception:  # noqa: BLE001  then rules that read it say what is wrong
        return None
    return _action(intent) if same else None


def _action(view: Mapping[str, Any]) -> str | None:
    try:
        action = view["action"]
    except Exception:  # noqa: BLE001  as above
        return None
    return action if isinstance(action, str) else None


def _selected(matched: int, errors: Mapping[int, str]) -> Selected:
    return Selected(matched, sum(1 << bit for bit in errors))


# --- What a program reads ---------------------------------------------------------------------------------------------


def _fields_read(checked: Checked) -> Mapping[str, frozenset[str]]:
    paths = [path.partition(".") for condition in checked.conditions for path in condition.reads]
    return MappingProxyType({table: frozenset(rest for root, _, rest in paths if root == table) for table in TABLES})


def _tables_read(checked: Checked, index: int, window: Correlation | None) -> frozenset[str]:
    condition = checked.conditions[index]
    names = {*condition.uses.values(), *(window.selections if window else ())}
    paths: set[str] = set(condition.reads).union(*(checked.selections[name].reads for name in names))
    if window:
        paths.update(f"event.{path}" for path in _window_paths(window))
    return frozenset(_tables(paths)) & frozenset(FRESH_TABLES)


def _window_paths(window: Correlation) -> Iterable[str]:
    yield from window.group_by
    if window.condition and window.condition.field:
        yield window.condition.field


def _tables(paths: set[str]) -> Iterable[str]:
    for path in paths:
        table = table_of(path)
        if table:
            yield table
