"""Which actions a condition can hold for, told from its syntax tree.

Rule: a condition is left out for an action only if it is certainly false for it, never if it could be an error: CEL's
`a && b` is false if either side is, whatever the other does. One error goes through all the same, a spent loop budget:
nothing counts that stands on the right of a loop. Where this file is not sure it says "any action".
It relies on `event` and `intent` being one and the same view of an event, whose action is a text.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple

from harness_stream.core.rules.syntax import Call, Comprehension, Const, Ident, ListOf, Node, Select, children

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness_stream.core.rules.expression import Expression


class Actions(NamedTuple):
    """A set of actions: these, and all that begin with one of the prefixes."""

    exact: frozenset[str] = frozenset()
    prefixes: frozenset[str] = frozenset()

    def __contains__(self, action: object) -> bool:
        return action in self.exact or (isinstance(action, str) and action.startswith(tuple(self.prefixes)))


Positions = tuple[int, ...]

_NONE: Final = Actions()
_ACTION_OWNERS: Final = frozenset({"event", "intent"})


def actions_of(node: Node, selections: Mapping[str, Expression]) -> Actions | None:  # noqa: PLR0911  one case a node
    """The actions outside of which the condition is false; None if it may hold or err for any."""
    match node:
        case Const(value=False):
            return _NONE
        case Ident(name=name) if name in selections:
            return actions_of(selections[name].tree, {})
        case Call(function="_&&_", args=args):
            return _narrowest(actions_of(arg, selections) for arg in _before_loops(args, selections))
        case Call(function="_||_", args=args):
            return _union([actions_of(arg, selections) for arg in args])
        case Call(function="_==_", args=(Const(value=str(value)), side) | (side, Const(value=str(value)))):
            return Actions(frozenset({value})) if _is_action(side) else None
        case Call(function="@in", args=(side, ListOf(elements=elements))) if _is_action(side):
            return _listed(elements)
        case Call(function="startsWith", target=side, args=(Const(value=str(value)),)) if _is_action(side):
            return Actions(prefixes=frozenset({value}))
        case _:
            return None


def asks_action_only(node: Node) -> bool:
    """Whether the condition is true for exactly the actions that `actions_of` finds."""
    match node:
        case Call(function="_||_", args=args):
            return all(map(asks_action_only, args))
        case Call(function="_==_" | "@in" | "startsWith"):
            return actions_of(node, {}) is not None
        case _:
            return False


def constantly_true(node: Node, selections: Mapping[str, Expression]) -> bool:
    """Whether the condition says no more than `true`."""
    if isinstance(node, Ident) and node.name in selections:
        node = selections[node.name].tree
    return isinstance(node, Const) and node.value is True


def _is_action(node: Node | None) -> bool:
    match node:
        case Select(operand=Ident(name=name), field="action", test=False):
            return name in _ACTION_OWNERS
        case _:
            return False


def _listed(elements: Sequence[Node]) -> Actions | None:
    texts = [element.value for element in elements if isinstance(element, Const)]
    known = frozenset(text for text in texts if isinstance(text, str))
    return Actions(known) if len(texts) == len(elements) and all(isinstance(text, str) for text in texts) else None


def _narrowest(sides: Iterable[Actions | None]) -> Actions | None:
    """One side's being false is enough, so any one will do; fewest prefixes and names leave out most."""
    known = [side for side in sides if side is not None]
    return min(known, key=lambda side: (len(side.prefixes), len(side.exact)), default=None)


def _before_loops(args: Sequence[Node], selections: Mapping[str, Expression]) -> Iterator[Node]:
    """The operands up to the first one that loops; if that one is false, its own left has said so."""
    for arg in args:
        yield arg
        if _loops(arg, selections):
            return


def _loops(node: Node, selections: Mapping[str, Expression]) -> bool:
    if isinstance(node, Ident) and node.name in selections:
        return selections[node.name].loops
    return isinstance(node, Comprehension) or any(_loops(child, selections) for child in children(node))


def _union(sides: Sequence[Actions | None]) -> Actions | None:
    known = [side for side in sides if side is not None]
    if len(known) < len(sides):
        return None
    return Actions(_NONE.exact.union(*(s.exact for s in known)), _NONE.prefixes.union(*(s.prefixes for s in known)))


class ActionIndex:
    """Finds, for an action, the conditions that it may meet.

    Args:
        actions: of each condition, by its position.
    """

    def __init__(self, actions: Sequence[Actions]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._prefixes: dict[str, list[int]] = {}
        for position, of in enumerate(actions):
            for name in of.exact:
                self._exact.setdefault(name, []).append(position)
            for prefix in of.prefixes:
                self._prefixes.setdefault(prefix, []).append(position)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes})

    def met(self, action: str) -> Positions:
        """Positions of the conditions that are not certainly false for this action, ascending."""
        found = set(self._exact.get(action, ()))
        for length in self._lengths:
            if length <= len(action):
                found.update(self._prefixes.get(action[:length], ()))
        return tuple(sorted(found))

    @property
    def words(self) -> int:
        """How many names, or prefixes if those are more, the conditions list."""
        return max(len(self._exact), len(self._prefixes))

    def distinct(self, most: int) -> list[Positions]:
        """Every answer that `met` can give, except none at all, of so many names and as many prefixes at most.

        The prefixes an unlisted action begins with are prefixes of each other, so the longest one says which.
        """
        by_name = (self.met(name) for name in sorted(self._exact)[:most])
        by_prefix = (self._of_prefix(prefix) for prefix in sorted(self._prefixes)[:most])
        return [positions for positions in dict.fromkeys(chain(by_name, by_prefix)) if positions]

    def _of_prefix(self, prefix: str) -> Positions:
        met = (self._prefixes.get(prefix[:length], ()) for length in self._lengths if length <= len(prefix))
        return tuple(sorted(set().union(*met)))
