"""Which decisions differ between two runs over the same events, and why (`harness replay --compare`).

Rule of this file: an event differs if a verdict of it does: in its decision, in the rules that decided, in its
obligations or in what rules in shadow mode would have said. What only follows from that (an outcome that is refused
because its intent now is) is counted, not shown.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import typer

from harness_stream.cli.replay_output import Tally, as_json, name_of, names_of
from harness_stream.cli.verdicts import clock_text, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from harness_stream.cli.replay_output import Event
    from harness_stream.core.fold import Body

EVIDENCE_SHOWN: Final = 3
Reason = dict[str, Any]


class Side(NamedTuple):
    """What one run said of an event.

    Attributes:
        word: approve, deny or hold; accepted or refused of an outcome, mandate or approval; else reject or skip.
        reasons: the rules that decided, or the engine's words.
        would: what rules in shadow mode would have said.
        obligations: that come with an approve.
    """

    word: str
    reasons: Sequence[Reason]
    would: Sequence[Reason] = ()
    obligations: Mapping[str, Any] = {}

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        told = {"decision": self.word, "reasons": list(self.reasons), "would": list(self.would)}
        return told | ({"obligations": dict(self.obligations)} if self.obligations else {})


def side_of(body: Body) -> Side:
    """What a decision-log body says."""
    if body["kind"] == "verdict":
        return Side(body["decision"], body["reasons"], body["shadow"], body["obligations"])
    reason = body["reason"]
    return Side(body.get("status", body["kind"]), [] if reason is None else [{"code": reason}])


@dataclass(frozen=True, slots=True)
class Difference:
    """One event that is decided differently.

    Attributes:
        differs: in what: `decision`, `rules`, `obligations`, `would`.
        follows: where the history it was decided on first went another way; None if it had not.
    """

    event: Event
    before: Side
    after: Side
    differs: tuple[str, ...]
    follows: Mapping[str, int] | None

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        verdict = _verdict_of(self.event)
        return {
            **self.event.where,
            "at": self.event.at_ms,
            "agent_id": verdict["agent_id"],
            "intent_id": verdict["intent_id"],
            "event": "intent" if verdict["approval"] is None else "approval",
            "action": _action(self.event),
            "differs": list(self.differs),
            "before": self.before.as_json(),
            "after": self.after.as_json(),
            "follows": None if self.follows is None else dict(self.follows),
        }

    def as_text(self) -> str:
        """For a terminal: what changed, and under it the reasons that went and came."""
        verdict, before, after = _verdict_of(self.event), self.before, self.after
        change = before.word if before.word == after.word else f"{before.word} → {after.word}"
        approval = "" if verdict["approval"] is None else "  (answer to a hold)"
        follows = "" if self.follows is None else f"  (its history differs since {where_text(self.follows)})"
        who = f"{printable(verdict['agent_id']):<18} {printable(_action(self.event)):<18}"
        head = f"{where_text(self.event.where):<9} {clock_text(self.event.at_ms)}  {who} {change}{approval}{follows}"
        rows = [
            *(f"− {side_text(reason)}" for reason in _only(before.reasons, after.reasons)),
            *(f"+ {side_text(reason)}" for reason in _only(after.reasons, before.reasons)),
            *(f"− would {side_text(reason)}" for reason in _only(before.would, after.would)),
            *(f"+ would {side_text(reason)}" for reason in _only(after.would, before.would)),
        ]
        if before.obligations != after.obligations:
            rows.append(f"obligations {as_json(before.obligations)} → {as_json(after.obligations)}")
        return "\n    ".join([head, *map(printable, rows)])


def where_text(where: Mapping[str, int]) -> str:
    """`line 5`, or `0/12` for a partition and offset."""
    return f"line {where['line']}" if "line" in where else f"{where['partition']}/{where['offset']}"


def side_text(reason: Reason) -> str:
    """Effect, rule or engine word, why, and what made it fire."""
    evidence = reason.get("evidence", ())
    more = len(evidence) - EVIDENCE_SHOWN
    ids = ", ".join(evidence[:EVIDENCE_SHOWN]) + (f" and {more} more" if more > 0 else "")
    why = ", ".join(str(reason[name]) for name in ("because", "detail") if reason.get(name))
    parts = [str(reason.get("effect") or ""), name_of(reason) + (f": {why}" if why else "")]
    parts += ["(its window is not known exactly)" if reason.get("unknown") else "", f"after {ids}" if ids else ""]
    return " ".join(part for part in parts if part)


def _only(reasons: Sequence[Reason], other: Sequence[Reason]) -> list[Reason]:
    there = _keys(other)
    return [reason for reason in reasons if _key(reason) not in there]


def _keys(reasons: Sequence[Reason]) -> set[tuple[str, str]]:
    return {_key(reason) for reason in reasons}


def _key(reason: Reason) -> tuple[str, str]:
    return str(reason.get("effect")), name_of(reason)


def _verdict_of(event: Event) -> Body:
    for body in (event.after, event.before):
        if body is not None and body["kind"] == "verdict":
            return body
    raise AssertionError("an event without a verdict has no difference")


def _action(event: Event) -> str:
    """From the chain event; what was not evaluated has none, and then the other side has."""
    chained = _chain_event(event)
    return "" if chained is None else str(chained["action"])


def _chain_event(event: Event) -> Mapping[str, Any] | None:
    """What history keeps of it; None if neither side evaluated it."""
    found = [body["event"] for body in (event.after, event.before) if body is not None and body.get("event")]
    return found[0] if found else None


@dataclass(slots=True)
class _Change:
    """Differences of one kind (before → after).

    Attributes:
        count: how many.
        first: of those, decided on a history that had not differed before.
        gone: rule or engine word → how often it decided before and not after.
        come: the same, the other way.
    """

    count: int = 0
    first: int = 0
    gone: Counter[str] = field(default_factory=Counter)
    come: Counter[str] = field(default_factory=Counter)


class Comparison:
    """Shows each difference, or their counts at the end.

    Args:
        summary: counts only.
        json: one JSON object a difference, or one document of counts.
        shared: some window counts over the agents of a lane, so that a difference of one is in the history of all.

    Attributes:
        differ: events that differ.
    """

    def __init__(self, *, summary: bool, json: bool, shared: bool) -> None:
        self._summary, self._json, self._shared = summary, json, shared
        self._before, self._after = Tally(), Tally()
        self._diverged: dict[str, Mapping[str, int]] = {}
        self._changes: dict[tuple[str, str], _Change] = {}
        self._would = _Change()
        self._consequences = 0
        self.differ = 0

    def add(self, event: Event) -> None:
        """The next event."""
        if event.shown:
            self._before.add(event.before)
            self._after.add(event.after)
        if event.before is None or event.after is None:
            return
        found = self._difference(event, event.before, event.after)
        if found is None or not event.shown:
            return
        self.differ += 1
        self._count(found)
        if not self._summary:
            typer.echo(as_json(found.as_json()) if self._json else found.as_text())

    def finish(self, source: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Show the counts, if they were asked for (arguments as of `Bodies.finish`)."""
        if self._summary:
            shown = [*self._as_text(), *lines]
            typer.echo(as_json({**source, **self._as_json()}) if self._json else "\n".join(shown))

    def _difference(self, event: Event, before: Body, after: Body) -> Difference | None:
        old, new = side_of(before), side_of(after)
        if "verdict" not in {before["kind"], after["kind"]}:
            follows = (old.word, names_of(old.reasons)) != (new.word, names_of(new.reasons))
            self._consequences += follows and event.shown
            return None
        checks = {
            "decision": old.word != new.word,
            "rules": _keys(old.reasons) != _keys(new.reasons),
            "obligations": old.obligations != new.obligations,
            "would": _keys(old.would) != _keys(new.would),
        }
        differs = tuple(name for name, does in checks.items() if does)
        if not differs:
            return None
        return Difference(event, old, new, differs, self._follows(event, diverges=checks["decision"]))

    def _follows(self, event: Event, *, diverges: bool) -> Mapping[str, int] | None:
        """Where the history of this event's agent, or what it shares with others, first differed."""
        agent, chained = f"a:{_verdict_of(event)['agent_id']}", _chain_event(event)
        lane = f"l:{chained['lane']}" if chained else agent
        delegated = chained is not None and chained["parent"] is not None
        places = [self._diverged.get(agent), self._diverged.get(lane) if self._shared or delegated else None]
        if diverges:
            self._diverged.setdefault(agent, event.where)
            self._diverged.setdefault(lane, event.where)
        return next((place for place in places if place is not None), None)

    def _count(self, found: Difference) -> None:
        before, after = found.before, found.after
        if set(found.differs) - {"would"}:
            change = self._changes.setdefault((before.word, after.word), _Change())
            _add(change, before.reasons, after.reasons, first=found.follows is None)
        if "would" in found.differs:
            _add(self._would, before.would, after.would, first=found.follows is None)

    # --- For programs ---

    def _as_json(self) -> dict[str, Any]:
        changes = sorted(self._changes.items(), key=lambda item: -item[1].count)
        return {
            "same": self._after.events - self.differ,
            "different": self.differ,
            "changes": [{"before": b, "after": a, **_change_json(change)} for (b, a), change in changes],
            "would": _change_json(self._would),
            "consequences": self._consequences,
            "before": self._before.as_json(),
            "after": self._after.as_json(),
        }

    # --- For people ---

    def _as_text(self) -> list[str]:
        rows = []
        for (before, after), change in sorted(self._changes.items(), key=lambda item: -item[1].count):
            what = f"{before} → {after}" if before != after else f"{before}, otherwise"
            rows += _change_rows(what, change)
        if self._would.count:
            rows += _change_rows("would", self._would)
        if self._consequences:
            rows.append(f"{self._consequences:,} outcomes, mandates or refusals differ in consequence")
        same = self._after.events - self.differ
        return [*rows, f"{same:,} events decided alike, {self.differ:,} differ"]


def _add(change: _Change, before: Sequence[Reason], after: Sequence[Reason], *, first: bool) -> None:
    change.count += 1
    change.first += first
    change.gone.update(names_of(_only(before, after)))
    change.come.update(names_of(_only(after, before)))


def _change_json(change: _Change) -> dict[str, Any]:
    return {"count": change.count, "first": change.first, "gone": dict(change.gone), "come": dict(change.come)}


def _change_rows(what: str, change: _Change) -> list[str]:
    follow = change.count - change.first
    after = f"  ({follow:,} on a history that differed already)" if follow else ""
    rows = [f"{what:<18} {change.count:>8,}{after}"]
    rows += [f"                   {n:>8,}  + {name}" for name, n in change.come.most_common()]
    return rows + [f"                   {n:>8,}  − {name}" for name, n in change.gone.most_common()]
