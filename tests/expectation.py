"""What the oracle expects of a verdict: of each rule everything it may say, and whether a verdict can be explained by it.

Rule of this file: deny over hold over approve, an error denies, no rule means deny (DESIGN §6); nothing about windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.oracle_words import Rule

YES, NO, UNKNOWN, FAILS = "yes", "no", "unknown", "fails"
"""What a rule may say: it fires, it does not, it fires because its window is unknown, it denies because it failed."""

PRECEDENCE = ("deny", "hold", "approve")


@dataclass(frozen=True)
class Expectation:
    """What each rule may say of one intent, and whether a verdict can be explained by that.

    Attributes:
        barred: reasons of the engine itself of which it gives one; empty if the rules decide.
        answers: rule id → any of YES, NO, UNKNOWN, FAILS.
        evidence: a rule → ids of the events it may name.
    """

    rules: tuple[Rule, ...]
    barred: frozenset[str]
    answers: Mapping[str, frozenset[str]]
    evidence: Callable[[Rule], frozenset[str]]

    def complaints(self, verdict: Mapping[str, Any]) -> list[str]:
        """Why this verdict, asked before its event is recorded, cannot be right; empty if it can."""
        decision, reasons = verdict["decision"], verdict["reasons"]
        if self.barred:
            right = decision == "deny" and reasons[0]["code"] in self.barred
            return [] if right else [f"{decision} {reasons}, not denied by one of {sorted(self.barred)}"]
        enforced = {r.id: r for r in self.rules if r.mode == "enforce"}
        shadow = {r.id: r for r in self.rules if r.mode != "enforce"}
        if own := {r["code"] for r in reasons if "rule" not in r} - {"default"}:
            return [f"denied by {sorted(own)}, and nothing bars it"]
        said = {r["rule"]: r for r in reasons if "rule" in r}
        levels = {_level(enforced[name], spoken(reason)) for name, reason in said.items()}
        mixed = levels != ({decision} if said or decision != "deny" else set())
        return [
            *([f"{decision} by rules that {sorted(levels)}"] if mixed else []),
            *self._each(said, enforced, PRECEDENCE[: PRECEDENCE.index(decision) + 1] if said else PRECEDENCE),
            *(f"shadow: {c}" for c in self._each({r["rule"]: r for r in verdict["shadow"]}, shadow, PRECEDENCE)),
        ]

    def _each(
        self, said: Mapping[str, Mapping[str, Any]], rules: Mapping[str, Rule], shown: tuple[str, ...]
    ) -> Iterator[str]:
        """Whoever speaks may say that; whoever has to speak at a level that is shown does."""
        for name, rule in rules.items():
            may = self.answers[name]
            if name in said:
                yield from self._spoke(rule, said[name])
            elif all(answer != NO and _level(rule, answer) in shown for answer in may):
                yield f"{name} is silent, may say {sorted(may)}"

    def _spoke(self, rule: Rule, reason: Mapping[str, Any]) -> Iterator[str]:
        answer, may = spoken(reason), self.answers[rule.id]
        if answer not in may:
            yield f"{rule.id} says {answer}, may say {sorted(may)}"
        elif answer == YES and not set(reason.get("evidence", ())) <= self.evidence(rule):
            yield f"{rule.id} shows {reason['evidence']}, of which only {sorted(self.evidence(rule))} have a part in it"


def _level(rule: Rule, answer: str) -> str:
    return "deny" if answer == FAILS else rule.effect


def spoken(reason: Mapping[str, Any]) -> str:
    """A reason in a verdict as one of YES, UNKNOWN, FAILS."""
    if reason["code"] != "rule":
        return FAILS
    return UNKNOWN if reason.get("unknown") else YES
