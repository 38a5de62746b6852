"""One case: its history and its judged event through `harness replay`'s engine, and what came out against what had to.

Rule of this file: no second way of deciding. A case becomes the lines of a replay file, and everything said of it is
read from the decision-log bodies that answer them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from harness_stream.core.cases.timing import shown_ms
from harness_stream.runtime.replay import Replay

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness_stream.core.cases import Case, Expectation, Step
    from harness_stream.core.rules.windows import Windows
    from harness_stream.core.tables import Row

    Body = Mapping[str, Any]

_RULE: Final = "rule"
"""A reason's code if a rule gave it; anything else is the engine's word."""
_FINE: Final = frozenset({"approve", "accepted"})


@dataclass(frozen=True, slots=True)
class Told:
    """One event and its answer.

    Attributes:
        step: the event.
        line: its line in the replay, from 1.
        body: the decision-log body; None for a change of a table.
    """

    step: Step
    line: int
    body: Body | None

    @property
    def decision(self) -> str:
        """approve, deny, hold; accepted or refused; rejected; skipped; or `row` for a change of a table."""
        if self.body is None:
            return "row"
        kind = self.body["kind"]
        return str(self.body[_SAYS[kind]] if kind in _SAYS else _ELSE[kind])

    @property
    def intent_id(self) -> str | None:
        """The intent a verdict is about."""
        return self.body.get("intent_id") if self.body else None

    def reasons(self, key: str = "reasons") -> list[Body]:
        """The verdict's reasons, or those of rules in shadow; empty for anything but a verdict."""
        return list(self.body.get(key, ())) if self.body else []

    def spoke(self) -> set[str]:
        """Rules that fired or failed, enforced or in shadow."""
        return {str(r["rule"]) for r in [*self.reasons(), *self.reasons("shadow")] if "rule" in r}

    def fired(self, key: str = "reasons") -> list[str]:
        """Rules that fired; one that failed did not."""
        return [str(r["rule"]) for r in self.reasons(key) if r["code"] == _RULE]


_SAYS: Final[Mapping[str, str]] = {"verdict": "decision", "ack": "status"}
_ELSE: Final[Mapping[str, str]] = {"reject": "rejected", "skip": "skipped"}


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a case.

    Attributes:
        case: the case.
        history: what was given, with its answers.
        judged: the judged event.
        failures: what had to come out and did not, in words; empty if the case passes.
        remarks: given events that did not come out as a history usually should.
    """

    case: Case
    history: tuple[Told, ...]
    judged: Told
    failures: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Does it pass?"""
        return not self.failures


class CaseRun:
    """A case on its way.

    Args:
        case: what to run.
        windows: the compiled rules, with the case's parameters.
        rows: the tables before the first event.
    """

    def __init__(self, case: Case, windows: Windows, rows: Iterable[tuple[str, Row]]) -> None:
        self._case = case
        self.engine = Replay(windows, rows)
        self.history: list[Told] = []

    def play_history(self) -> None:
        """Everything that was given."""
        for step in self._case.history:
            self.history.append(self._take(step))

    def judge(self) -> Result:
        """The judged event, after the history."""
        judged = self._take(self._case.when)
        failures = [f"{_where(told)}{f}" for told in self.history for f in self._against(told.step.then, told)]
        failures += self._against(self._case.then, judged)
        remarks = [words for told in self.history if (words := _remark(told))]
        return Result(self._case, tuple(self.history), judged, tuple(failures), tuple(remarks))

    def line_of(self, step: Step) -> bytes:
        """An event as a line of a replay file."""
        fields = {"type": step.kind, "at": self._case.now_ms + step.at_ms, **step.fields}
        if step.of is not None:
            fields["intent_id"] = self._told(step.of).intent_id
        if step.parent is not None:
            parent = self._told(step.parent)
            fields["parent"] = {"agent_id": parent.step.fields["agent_id"], "intent_id": parent.intent_id}
        return orjson.dumps(fields)

    @property
    def next_line(self) -> int:
        """Number of the next line."""
        return len(self.history) + 1

    def index_of(self, intent_id: str) -> int | None:
        """Which entry of `given` an intent is; None if it is none of them."""
        return next((told.step.index for told in self.history if told.intent_id == intent_id), None)

    def _take(self, step: Step) -> Told:
        return Told(step, self.next_line, self.engine.take(self.next_line, self.line_of(step)))

    def _told(self, index: int) -> Told:
        """The newest answer to an entry of `given`; the reader made sure that there is one."""
        return next(told for told in reversed(self.history) if told.step.index == index)

    # --- what had to come out ---

    def _against(self, then: Expectation | None, told: Told) -> list[str]:
        if told.decision == "skipped" and told.body is not None:
            return [f"could not be judged: {_garbage(told.body)}"]
        if then is None:
            return []
        return [
            *_decision(then, told),
            *_rules(then, told),
            *_reasons(then, told),
            *self._evidence(then, told),
            *_unknown(then, told),
            *_obligations(then, told),
        ]

    def _evidence(self, then: Expectation, told: Told) -> Iterable[str]:
        reasons = _relevant(then, told)
        if then.evidence is not None:
            found = {self.index_of(intent_id) for reason in reasons for intent_id in reason.get("evidence", ())}
            indexes = sorted(index for index in found if index is not None)
            if indexes != list(then.evidence):
                yield f"evidence is {_listed(indexes)}, expected {_listed(then.evidence)}"
        if then.evidence_count is not None:
            counts = sorted({reason["evidence_count"] for reason in reasons if "evidence_count" in reason})
            if counts != [then.evidence_count]:
                yield f"evidence_count is {_listed(counts)}, expected {then.evidence_count}"


def _decision(then: Expectation, told: Told) -> Iterable[str]:
    if then.decision is not None and told.decision != then.decision:
        said = why(told)
        yield f"decision is {told.decision}{f' ({said})' if said else ''}, expected {then.decision}"


def _rules(then: Expectation, told: Told) -> Iterable[str]:
    failed = {
        str(r["rule"]): r
        for key in ("reasons", "shadow")
        for r in told.reasons(key)
        if r["code"] != _RULE and "rule" in r
    }
    for key, wanted in (("reasons", then.rules), ("shadow", then.shadow)):
        where = "did not fire in shadow" if key == "shadow" else "did not decide"
        for rule in wanted:
            if rule not in told.fired(key):
                why = f": it failed ({failed[rule].get('detail', '')})" if rule in failed else ""
                yield f"`{rule}` {where}{why}"
    fired = {*told.fired(), *told.fired("shadow")}
    yield from (f"`{rule}` fired" for rule in then.not_rules if rule in fired)


def _reasons(then: Expectation, told: Told) -> Iterable[str]:
    codes = [*(str(r["code"]) for r in told.reasons() if r["code"] != _RULE), *_own_reason(told)]
    for word in then.reasons:
        if word not in codes:
            yield f"the engine did not say {word}{f', but {_listed(codes)}' if codes else ''}"


def _unknown(then: Expectation, told: Told) -> Iterable[str]:
    if then.unknown is not None:
        found = any(reason.get("unknown", False) for reason in _relevant(then, told))
        if found != then.unknown:
            yield f"unknown is {str(found).lower()}, expected {str(then.unknown).lower()}"


def _obligations(then: Expectation, told: Told) -> Iterable[str]:
    if then.obligations is not None and told.body is not None:
        found, wanted = _shown(told.body.get("obligations", {})), _shown(then.obligations)
        if found != wanted:
            yield f"obligations are {found}, expected {wanted}"


def _relevant(then: Expectation, told: Told) -> list[Body]:
    """The reasons that evidence is asked of: those of the rules that are named, else all."""
    reasons = [*told.reasons(), *told.reasons("shadow")]
    named = {*then.rules, *then.shadow}
    return [reason for reason in reasons if reason.get("rule") in named] if named else told.reasons()


# --- words ---


def _remark(told: Told) -> str:
    """A given event that came out otherwise than a history usually does, and whose author did not say so."""
    if told.step.then is not None or told.body is None or told.decision in {*_FINE, "skipped"}:
        return ""
    return f"{_where(told)}{told.decision} ({why(told)}); if that is meant, write `then: {told.decision}` there"


def _where(told: Told) -> str:
    return f"given {told.step.index} ({shown_ms(told.step.at_ms)}): "


def why(told: Told) -> str:
    """Why an event came out as it did: rules, and the engine's words with what they say of this very event."""
    own = [_detailed(reason, told.body) for reason in _own_reason(told)]
    return ", ".join([*map(_reason_words, told.reasons()), *own])


def _reason_words(reason: Body) -> str:
    """The rule, and that it failed or fired as unknown; else the engine's word."""
    rule, code = reason.get("rule"), str(reason["code"])
    if rule is None:
        return _detailed(code, reason)
    if code != _RULE:
        return f"{rule}: {_detailed(code, reason)}"
    return f"{rule} (unknown)" if reason.get("unknown") else str(rule)


def _detailed(code: str, said: Body | None) -> str:
    """One code has several causes; which one it was stands in the detail."""
    detail = said.get("detail") if said else None
    return f"{code}: {detail}" if detail else code


def _own_reason(told: Told) -> list[str]:
    """The reason of an ack or a reject."""
    reason = told.body.get("reason") if told.body and told.body["kind"] in {"ack", "reject"} else None
    return [] if reason is None else [str(reason)]


def _garbage(body: Body) -> str:
    (found,) = body["offsets"]
    return f"{found['reason']}{f' ({detail})' if (detail := found['detail']) else ''}"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) if values else "none"


def _shown(values: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(values), option=orjson.OPT_SORT_KEYS).decode()
