"""A numbered list of conditions, asked together: which masks an action meets.

Rule: leaving out what cannot hold for an action never changes an answer (`index.py` says when that is certain).
Conditions that may hold for any action share masks. Those tied to actions get masks for each set of them that an action
can meet, when the rule set is loaded: while an intent waits nothing is compiled but a mask's cautious form, once.
These masks do not ask for the action again; what says no more than the action holds unasked.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

from harness_stream.core.limits import ROW_ACTIONS_MAX
from harness_stream.core.rules.index import ActionIndex, Actions
from harness_stream.core.rules.language import TREE_NODES_MAX
from harness_stream.core.rules.masks import Mask, Term, masks_of
from harness_stream.core.rules.memory import remembered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cel_expr_python import cel

    from harness_stream.core.rules.cel import Runtime
    from harness_stream.core.rules.index import Positions

# Agents choose the names of actions: as many are remembered as one identity row may list.
ACTIONS_REMEMBERED_MAX: Final = ROW_ACTIONS_MAX
# Actions whose masks are compiled when the set is loaded, and what those may hold together: as much again as the set.
# Beyond it an action meets masks that hold conditions of others as well.
ACTIONS_COMPILED_MAX: Final = ROW_ACTIONS_MAX
ACTION_NODES_MAX: Final = TREE_NODES_MAX


class Conditions:
    """Conditions that are asked of one view of an event.

    Attributes:
        bits: of all of them.

    Args:
        runtime: compiles their masks.
        terms: the conditions.
    """

    def __init__(self, runtime: Runtime, terms: Iterable[Term]) -> None:
        terms = list(terms)
        asked = [term for term in terms if not term.always]
        self.bits = _bits(terms)
        self._runtime = runtime
        self._always = _bits(term for term in terms if term.always)
        self._open = masks_of(runtime, [term for term in asked if term.actions is None])
        self._tied = tuple(term for term in asked if term.actions is not None)
        self._index = ActionIndex([term.actions or Actions() for term in self._tied])
        self._own: dict[Positions, tuple[int, tuple[Mask, ...]]] = {(): (0, ())}
        if not self._compile_own():
            self._common  # noqa: B018  compiled now, not while an intent waits
        self._met: dict[str | None, tuple[int, tuple[Mask, ...]]] = {}

    def ask(self, activation: cel.Activation, action: str | None, errors: dict[int, str]) -> int:
        """The bits of the conditions that hold; the error of each that errs is put into `errors`. Never raises.

        Args:
            activation: the view and whatever else the conditions read.
            action: the view's action; None if it has no readable one, then every condition is asked.
            errors: by bit.
        """
        found, masks = self._masks(action)
        for mask in masks:
            found |= mask.ask(activation, errors)
        return found

    def evaluations(self, action: str) -> int:
        """How often CEL is called for an action if nothing errs."""
        return sum(mask.evaluations for mask in self._masks(action)[1])

    def _masks(self, action: str | None) -> tuple[int, tuple[Mask, ...]]:
        return remembered(self._met, action, self._masks_met, ACTIONS_REMEMBERED_MAX)

    def _masks_met(self, action: str | None) -> tuple[int, tuple[Mask, ...]]:
        """The bits that hold unasked, and the masks to ask."""
        met = tuple(range(len(self._tied))) if action is None else self._index.met(action)
        own = None if action is None else self._own.get(met)
        if own is None:
            bits = _bits(self._tied[position] for position in met)
            own = 0, tuple(mask for mask in self._common if mask.bits & bits)
        return self._always | own[0], (*self._open, *own[1])

    def _compile_own(self) -> bool:
        """Masks for each set of conditions that some action meets; whether all of them have theirs."""
        left = ACTION_NODES_MAX
        for met in self._index.distinct(ACTIONS_COMPILED_MAX):
            nodes = sum(self._tied[position].cost.nodes for position in met)
            if nodes > left:
                return False
            left -= nodes
            tied = [self._tied[position] for position in met]
            asked = [term._replace(parts=term.left) for term in tied if term.left]
            self._own[met] = _bits(term for term in tied if not term.left), masks_of(self._runtime, asked)
        return self._index.words <= ACTIONS_COMPILED_MAX

    @cached_property
    def _common(self) -> tuple[Mask, ...]:
        """Masks of all tied conditions, those for the same actions side by side."""
        return masks_of(self._runtime, sorted(self._tied, key=lambda term: _spelled(term.actions or Actions())))


class Questions:
    """The same conditions of every resource of an event, what does not read the resource only once.

    Args:
        runtime: compiles their masks.
        parts: conditions that never share a mask with those of another part.
    """

    def __init__(self, runtime: Runtime, *parts: Sequence[Term]) -> None:
        self._all = tuple(Conditions(runtime, terms) for terms in parts if terms)
        varying = [[term for term in terms if term.varies] for terms in parts]
        self._varying = (
            self._all if varying == list(parts) else tuple(Conditions(runtime, terms) for terms in varying if terms)
        )
        self._settled = _bits(term for terms in parts for term in terms if not term.varies)

    def ask(
        self, activation: cel.Activation, action: str | None, first: tuple[int, Mapping[int, str]] | None
    ) -> tuple[int, Mapping[int, str]]:
        """The bits that hold and the errors by bit, for the first view of an event or after another one's."""
        errors: dict[int, str] = {}
        found = 0
        for conditions in self._all if first is None else self._varying:
            found |= conditions.ask(activation, action, errors)
        if first is None:
            return found, errors
        errors.update((bit, error) for bit, error in first[1].items() if self._settled >> bit & 1)
        return found | first[0] & self._settled, errors

    def evaluations(self, action: str) -> int:
        """How often CEL is called for one view if nothing errs."""
        return sum(conditions.evaluations(action) for conditions in self._all)


@lru_cache(maxsize=1_024)  # intents make few rules speak, and few sets of them
def bits_of(mask: int) -> tuple[int, ...]:
    """The numbers of the bits that are set, ascending."""
    numbers = []
    while mask:
        lowest = mask & -mask
        numbers.append(lowest.bit_length() - 1)
        mask ^= lowest
    return tuple(numbers)


def _spelled(actions: Actions) -> tuple[list[str], list[str]]:
    return sorted(actions.prefixes), sorted(actions.exact)


def _bits(terms: Iterable[Term]) -> int:
    return sum(1 << term.bit for term in terms)
