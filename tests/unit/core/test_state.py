"""A partition's state reads like layers looked through one by one, the newest first, whatever is done to it."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from harness_stream.core.state import State

UNITS, KEYS = ("a:x", "l:y", "p"), ("one", ("two", 2))
PLACES = [(unit, key) for unit in UNITS for key in KEYS]
# None is what a key is set to that is gone, and must not be taken for one that was never set.
VALUES = st.one_of(st.none(), st.integers(0, 3))


class Layered(RuleBasedStateMachine):
    """The same steps done to a state and to plain layers, the confirmed one first."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.layers = State(), list[dict[Any, Any]]([{}])

    @rule(place=st.sampled_from(PLACES), value=VALUES)
    def put(self, place: tuple[str, Any], value: int | None) -> None:
        self.state.put(*place, value)
        self.layers[-1][place] = value

    @rule(puts=st.dictionaries(st.sampled_from(PLACES), VALUES))
    def push(self, puts: dict[tuple[str, Any], int | None]) -> None:
        self.state.push()
        self.layers.append({})
        for place, value in puts.items():
            self.put(place, value)

    @precondition(lambda self: len(self.layers) > 1)
    @rule()
    def pop(self) -> None:
        self.state.pop()
        self.layers.pop()

    @precondition(lambda self: len(self.layers) > 1)
    @rule()
    def confirm(self) -> None:
        oldest = self.layers.pop(1)
        assert self.state.confirm() == {unit for unit, _ in oldest}
        self.layers[0].update(oldest)

    @rule()
    def rollback(self) -> None:
        self.state.rollback()
        del self.layers[1:]

    @rule(place=st.sampled_from(PLACES), value=VALUES)
    def put_beneath(self, place: tuple[str, Any], value: int | None) -> None:
        self.state.beneath().put(*place, value)
        self.layers[0][place] = value

    @invariant()
    def reads_the_newest_layer_that_has_the_key(self) -> None:
        for place in PLACES:
            seen = next((layer[place] for layer in reversed(self.layers) if place in layer), "never set")
            assert self.state.get(*place, "never set") == seen

    @invariant()
    def knows_what_is_in_flight(self) -> None:
        assert self.state.in_flight == len(self.layers) - 1
        touched = {unit for layer in self.layers[1:] for unit, _ in layer}
        assert {unit for unit in UNITS if self.state.is_open(unit)} == touched

    @invariant()
    def holds_apart_what_is_confirmed(self) -> None:
        confirmed = {(unit, key): value for unit in UNITS for key, value in self.state.confirmed(unit).items()}
        assert confirmed == self.layers[0]


TestLayered = Layered.TestCase
# Three layers over one another, of which the newest goes, are a matter of luck: so often no run misses them.
TestLayered.settings = settings(max_examples=400)
