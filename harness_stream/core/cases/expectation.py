"""The `then` of an event: what has to come out.

Rule: what is said twice or can never come out is a mistake, so that no case passes by accident.
"""

from __future__ import annotations

from harness_stream.core.cases.model import Expectation
from harness_stream.core.cases.words import DECISIONS, EVENTS_MAX, REASONS, THEN_KEYS
from harness_stream.core.rules.document import Item  # noqa: TC001  one of the few names here
from harness_stream.core.rules.language import INTEGER_MAX, Obligation
from harness_stream.core.rules.mistakes import Code, did_you_mean
from harness_stream.core.rules.shape import Shape


class ExpectationReader(Shape):
    """Reads what has to come out."""

    def expectation(self, item: Item, before: int) -> Expectation:
        """A decision alone, or a mapping of everything that is expected; `before` entries of `given` stand above."""
        if isinstance(item.value, str):
            return Expectation(decision=self.word(item, DECISIONS, "then", "") or None)
        keys = self.mapping(item, THEN_KEYS, (), "`then`")
        if isinstance(item.value, dict) and not item.value:
            self.wrong(item, Code.MISSING_KEY, "`then` expects nothing", "write at least `decision: deny`")
        named = {key: self._named(keys.get(key), key) for key in ("rules", "not_rules", "shadow")}
        self._contradiction(named)
        return Expectation(
            decision=(self.word(keys.get("decision"), DECISIONS, "decision", "") or None),
            rules=tuple(name for name, _ in named["rules"]),
            not_rules=tuple(name for name, _ in named["not_rules"]),
            shadow=tuple(name for name, _ in named["shadow"]),
            evidence=self._evidence(keys.get("evidence"), before),
            evidence_count=self._optional_whole(keys.get("evidence_count"), "evidence_count"),
            unknown=self._flag(keys.get("unknown"), "unknown"),
            obligations=self._obligations(keys.get("obligations")),
            reasons=self._reasons(keys.get("reasons")),
            places=tuple(place for names in named.values() for place in names),
        )

    def whole(self, item: Item, key: str, least: int, most: int) -> int:
        """A whole number between two bounds."""
        value = item.value
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return value
        self.wrong(item, Code.BAD_VALUE, f"`{key}` is a whole number from {least} to {most:,}", "write one")
        return least

    def _optional_whole(self, item: Item | None, key: str) -> int | None:
        return None if item is None else self.whole(item, key, 0, EVENTS_MAX)

    def _flag(self, item: Item | None, key: str) -> bool | None:
        if item is None or isinstance(item.value, bool):
            return None if item is None else item.value
        self.wrong(item, Code.WRONG_TYPE, f"`{key}` is true or false", f"write `{key}: true`")
        return None

    def _named(self, item: Item | None, key: str) -> list[tuple[str, Item]]:
        if item is None:
            return []
        found: dict[str, Item] = {}
        for element in self.sequence(item, f"`{key}` is a list of rules", f"write `{key}: [ID, …]`"):
            name = self.text(element, key)
            if name in found:
                self.wrong(element, Code.LISTED_TWICE, f"`{name}` is listed twice", "list it once")
            elif isinstance(element.value, str):
                found[name] = element
        return list(found.items())

    def _contradiction(self, named: dict[str, list[tuple[str, Item]]]) -> None:
        wanted = {name for key in ("rules", "shadow") for name, _ in named[key]}
        for name, item in named["not_rules"]:
            if name in wanted:
                message = f"`{name}` has to fire and must not"
                self.wrong(item, Code.BAD_VALUE, message, "name it in one list only")

    def _evidence(self, item: Item | None, before: int) -> tuple[int, ...] | None:
        if item is None:
            return None
        elements = self.sequence(item, "`evidence` is a list of indexes of `given`", "write `evidence: [0]`")
        return tuple(sorted({index for e in elements if (index := self.earlier(e, "evidence", before)) is not None}))

    def earlier(self, item: Item, key: str, before: int) -> int | None:
        """The index of one of the `before` entries of `given` above."""
        index = item.value
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < before:
            return index
        fix = f"count them from 0, up to {before - 1}" if before else "there is none: leave it out"
        self.wrong(item, Code.BAD_VALUE, f"`{key}` names no entry of `given` above this event", fix)
        return None

    def _obligations(self, item: Item | None) -> dict[str, Obligation] | None:
        if item is None:
            return None
        entries = self.entries(item, "obligations", INTEGER_MAX)
        return {name: self._obligation(name, value) for name, value in entries.items()}

    def _obligation(self, name: str, item: Item) -> Obligation:
        if isinstance(item.value, list):
            return tuple(self.scalar(part, name) for part in item.value)
        return self.scalar(item, name)

    def _reasons(self, item: Item | None) -> tuple[str, ...]:
        if item is None:
            return ()
        elements = self.sequence(item, "`reasons` is a list of the engine's words", "write `reasons: [unknown_agent]`")
        for element in elements:
            if element.value not in REASONS:
                fix = did_you_mean(str(element.value), REASONS)
                self.wrong(element, Code.UNKNOWN_WORD, "this is no reason of the engine (rules go to `rules`)", fix)
        return tuple(element.value for element in elements if element.value in REASONS)
