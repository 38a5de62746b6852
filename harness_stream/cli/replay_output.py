"""What `harness replay` shows of decided events: their bodies, or counts by decision and rule; and how far it is.

Rule of this file: standard output holds what was asked for and nothing else; words for people go to standard error.
"""

from __future__ import annotations

import json as json_format
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.core.fold import Body

# A person waits without a word for two seconds, not longer.
PROGRESS_S: Final = 2.0
DECISIONS: Final = ("approve", "hold", "deny")


@dataclass(frozen=True, slots=True)
class Event:
    """One event, decided.

    Attributes:
        where: `line`, or `partition` and `offset`.
        at_ms: its append time, epoch ms.
        after: what the rules say, None for a change of a table row.
        before: what it is compared with, None if it is not.
        shown: it is one of those asked for; others are history of theirs.
    """

    where: Mapping[str, int]
    at_ms: int
    after: Body | None
    before: Body | None = None
    shown: bool = True


def names_of(reasons: Iterable[Mapping[str, Any]]) -> set[str]:
    """The rules that spoke, else the engine's words; a rule that failed is not one that fired."""
    return {name_of(reason) for reason in reasons}


def name_of(reason: Mapping[str, Any]) -> str:
    """One of `names_of`."""
    rule = reason.get("rule")
    if rule is None:
        return str(reason["code"])
    return str(rule) if reason["code"] == "rule" else f"{rule} ({reason['code']})"


@dataclass(slots=True)
class Tally:
    """What was decided, counted.

    Attributes:
        events: events decided, table lines included.
        kinds: bodies by kind.
        verdicts: (decision, rule or the engine's reason) → verdicts that name it.
        decisions: verdicts by decision.
        shadow: rule in shadow mode → verdicts it would have changed or confirmed.
        unknown: rule → verdicts in which it fired because its window is not known exactly, in shadow mode or not.
        others: (kind, reason) → acks refused, rejects and skipped events.
    """

    events: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    decisions: Counter[str] = field(default_factory=Counter)
    shadow: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    others: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, body: Body | None) -> None:
        """Count one event's body."""
        self.events += 1
        if body is None:
            return
        kind = body["kind"]
        self.kinds[kind] += 1
        if kind == "verdict":
            self.decisions[body["decision"]] += 1
            self.verdicts.update((body["decision"], name) for name in names_of(body["reasons"]))
            self.shadow.update(names_of(body["shadow"]))
            said = (*body["reasons"], *body["shadow"])
            self.unknown.update(names_of(reason for reason in said if reason.get("unknown")))
        elif kind == "skip":
            self.others[kind, body["offsets"][0]["reason"]] += 1
        elif body["reason"] is not None:
            self.others[kind, body["reason"]] += 1

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kinds": dict(self.kinds),
            "decisions": {
                decision: {"count": count, "by": {name: n for (d, name), n in self.verdicts.items() if d == decision}}
                for decision, count in self.decisions.items()
            },
            "shadow": dict(self.shadow),
            "unknown": dict(self.unknown),
            "refused": {f"{kind}: {reason}": n for (kind, reason), n in self.others.items()},
        }

    def as_text(self) -> str:
        """For a terminal: decisions, and under each what brought it about."""
        rows = []
        for decision in DECISIONS:
            if decision in self.decisions:
                rows.append(f"{decision:<8} {self.decisions[decision]:>8,}")
                by = Counter({name: n for (d, name), n in self.verdicts.items() if d == decision})
                rows += [f"           {n:>8,}  {name}" for name, n in by.most_common()]
        rows += [f"shadow   {n:>8,}  {name}" for name, n in self.shadow.most_common()]
        rows += [f"unknown  {n:>8,}  {name}" for name, n in self.unknown.most_common()]
        if self.kinds["ack"]:
            rows.append(f"ack      {self.kinds['ack']:>8,}")
        rows += [f"{kind:<8} {n:>8,}  {reason}" for (kind, reason), n in self.others.most_common()]
        return "\n".join(rows)


class Bodies:
    """Shows each event's body, or their counts at the end.

    Args:
        summary: counts only.
        json: the counts as one JSON document.
    """

    differ = 0

    def __init__(self, *, summary: bool, json: bool) -> None:
        self._summary, self._json = summary, json
        self._tally = Tally()

    def add(self, event: Event) -> None:
        """The next event."""
        if not event.shown:
            return
        self._tally.add(event.after)
        if event.after is not None and not self._summary:
            sys.stdout.write(orjson.dumps(event.after).decode() + "\n")

    def finish(self, source: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Show the counts, if they were asked for.

        Args:
            source: what there is to say of where the events came from, for programs.
            lines: the same for people.
        """
        if self._summary:
            shown = [text for text in (self._tally.as_text(), *lines) if text]
            typer.echo(as_json({**source, **self._tally.as_json()}) if self._json else "\n".join(shown))


def as_json(document: Mapping[str, Any]) -> str:
    """One line of JSON."""
    return json_format.dumps(document, ensure_ascii=False)


class Progress:
    """A line on standard error every few seconds, over itself on a terminal."""

    def __init__(self) -> None:
        self._began_s = self._shown_s = time.monotonic()
        self._over = sys.stderr.isatty()
        self._width = 0

    def show(self, count: int, what: str, share: float | None = None) -> None:
        """Say how far it is, if that is due.

        Args:
            count: how many were done since this began.
            what: they are, the plural first, as in `records of partition 3`.
            share: of the whole, 0 to 1; None if nobody knows the whole.
        """
        now_s = time.monotonic()
        if now_s - self._shown_s < PROGRESS_S:
            return
        self._shown_s = now_s
        rate = count / (now_s - self._began_s)
        text = f"{count:,} {_counted(count, what)}, {rate:,.0f}/s" + ("" if share is None else f", {share:.0%}")
        shown = f"\r{text:<{self._width}}" if self._over else text
        self._width = len(text)
        typer.echo(shown, err=True, nl=not self._over)

    def close(self) -> None:
        """Take away the line it wrote over: what was done is done, and the result says so."""
        if self._over and self._width:
            typer.echo(f"\r{'':<{self._width}}\r", err=True, nl=False)
            self._width = 0


def _counted(count: int, what: str) -> str:
    """`what` begins with a plural."""
    first, *rest = what.split(" ")
    return " ".join([first.removesuffix("s") if count == 1 else first, *rest])
