"""Many conditions as one CEL expression: `(c0 ? 1 : 0) + (c1 ? 2 : 0) + …`, whose value has a bit for each that holds.

Rule: a mask says exactly what its conditions say one by one, each error's text included; only the price differs.

Conditions that begin with the same conjuncts ask those once: `(a ? (b ? 1 : 0) + (c ? 2 : 0) : 0)`. Where `a` is false
so is `a && b`, whatever `b` would do; where `a` errs the mask errs.

An error makes the whole sum an error. The mask is then asked once more in its cautious form, where an error counts as
"maybe", and every condition that may hold is asked alone. So errors at every intent cost a mask one more evaluation,
and one for each condition in it that holds or errs: never more than its conditions one by one and two evaluations.
That takes the place of a bisection, which would cost an evaluation a level and error and need every sub-mask compiled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from harness_stream.core.rules.cel import may_hold, outcome, whole_number
from harness_stream.core.rules.language import LOOP_STEPS_MAX
from harness_stream.core.rules.memory import remembered
from harness_stream.core.rules.parts import bracketed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cel_expr_python import cel

    from harness_stream.core.rules.cel import Complaint, Runtime
    from harness_stream.core.rules.cost import Cost
    from harness_stream.core.rules.index import Actions

# 50 bits fit an int64 with room (62 would be the most); more would not lower the price of a condition by a tenth.
MASK_TERMS_MAX: Final = 50
# CEL takes 100,000 code points; 50 conditions of 1,500 characters with their brackets stay below this.
MASK_CHARS_MAX: Final = 80_000
# Compiling takes 4 µs and 400 bytes a node: 8 ms, so that the cautious form may wait for the first error of its mask.
MASK_NODES_MAX: Final = 2_000
# An agent's intents differ in few conditions; a value and its bits are some hundred bytes.
VALUES_REMEMBERED_MAX: Final = 128


class Term(NamedTuple):
    """One condition among others.

    Attributes:
        bit: its number among them.
        text: with its selections put in.
        alone: compiled by itself.
        cost: at most.
        actions: those it can hold for, None if for any.
        parts: its conjuncts, as they are asked in a mask.
        left: those of its parts that are not certainly true where it is asked for its actions alone.
        always: it says no more than `true`.
        varies: it may say something else of another resource of the same event.
    """

    bit: int
    text: str
    alone: cel.Expression
    cost: Cost
    parts: tuple[str, ...]
    left: tuple[str, ...]
    actions: Actions | None = None
    always: bool = False
    varies: bool = True


class Mask:
    """Conditions that are asked together.

    Attributes:
        bits: of its terms.

    Args:
        runtime: compiles the cautious form when the first error asks for it.
        terms: at most `MASK_TERMS_MAX`.
        plain: the terms as one expression, None if they can only be asked one by one.
    """

    def __init__(self, runtime: Runtime, terms: Sequence[Term], plain: cel.Expression | None) -> None:
        self._runtime = runtime
        self._terms = tuple(terms)
        self._plain = plain
        self._bits = tuple(1 << term.bit for term in terms)
        self.bits = sum(self._bits)
        self._found: dict[int, int] = {}
        self._cautious: cel.Expression | tuple[Complaint, ...] | None = None

    @property
    def evaluations(self) -> int:
        """How often CEL is called if nothing errs."""
        return len(self._terms) if self._plain is None else 1

    def ask(self, activation: cel.Activation, errors: dict[int, str]) -> int:
        """The bits of the terms that hold; what those say that err is put into `errors`. Never raises."""
        if self._plain is None:
            return _one_by_one(self._terms, activation, errors)
        value = whole_number(self._plain, activation)
        if value is None:
            return _one_by_one(self._suspects(activation), activation, errors)
        return remembered(self._found, value, self._bits_of, VALUES_REMEMBERED_MAX)

    def _bits_of(self, value: int) -> int:
        return sum(bit for number, bit in enumerate(self._bits) if value >> number & 1)

    def _suspects(self, activation: cel.Activation) -> Iterable[Term]:
        """The terms that hold or err, or all of them if even the cautious form has no value."""
        if self._cautious is None:
            self._cautious = self._runtime.compile(_text(self._terms, may_hold))
        if isinstance(self._cautious, tuple):  # a condition too deep for one call more
            return self._terms
        value = whole_number(self._cautious, activation)
        return self._terms if value is None else [t for number, t in enumerate(self._terms) if value >> number & 1]


def masks_of(runtime: Runtime, terms: Iterable[Term]) -> tuple[Mask, ...]:
    """As few masks as hold these terms, in their order."""
    return tuple(mask for chunk in _chunks(terms) for mask in _compiled(runtime, chunk))


def _one_by_one(terms: Iterable[Term], activation: cel.Activation, errors: dict[int, str]) -> int:
    found = 0
    for term in terms:
        result = outcome(term.alone, activation)
        if result is True:
            found |= 1 << term.bit
        elif result is not False:
            errors[term.bit] = result
    return found


def _chunks(terms: Iterable[Term]) -> Iterable[list[Term]]:
    """Cuts the terms where one mask more of them would break a limit."""
    chunk: list[Term] = []
    chars = nodes = loops = 0
    for term in terms:
        chars, nodes, loops = chars + len(term.text), nodes + term.cost.nodes, loops + term.cost.loops
        full = len(chunk) == MASK_TERMS_MAX or chars > MASK_CHARS_MAX
        if chunk and (full or nodes > MASK_NODES_MAX or loops > LOOP_STEPS_MAX):
            yield chunk
            chunk, chars, nodes, loops = [], len(term.text), term.cost.nodes, term.cost.loops
        chunk.append(term)
    if chunk:
        yield chunk


def _compiled(runtime: Runtime, terms: Sequence[Term]) -> Iterable[Mask]:
    """One mask; conditions that alone nest to the parser's limit are too deep inside of one and come out of it."""
    if len(terms) == 1:
        yield Mask(runtime, terms, None)
        return
    plain = runtime.compile(_together([(term.parts, 1 << number) for number, term in enumerate(terms)]))
    if not isinstance(plain, tuple):
        yield Mask(runtime, terms, plain)
        return
    fits = [term for term in terms if runtime.compiles(_deepest(term, len(terms)))]
    together = runtime.compile(_text(fits, _plain)) if len(fits) > 1 else ()
    if isinstance(together, tuple):
        yield Mask(runtime, terms, None)
        return
    yield Mask(runtime, fits, together)
    deep = {term.bit for term in terms} - {term.bit for term in fits}
    yield Mask(runtime, [term for term in terms if term.bit in deep], None)


# --- The text of a mask -----------------------------------------------------------------------------------------------


def _plain(condition: str) -> str:
    return condition


def _text(terms: Sequence[Term], form: Callable[[str], str]) -> str:
    return _sum([_summand(term, 1 << number, form) for number, term in enumerate(terms)])


def _summand(term: Term, value: int, form: Callable[[str], str]) -> str:
    """The line break ends a comment at the condition's end."""
    condition = form(term.text + "\n")
    return f"({condition}?{value}:0)"


def _together(summands: Iterable[tuple[tuple[str, ...], int]]) -> str:
    """The values of those whose parts all hold, added up; where they begin alike that is asked once."""
    groups: dict[str, list[tuple[tuple[str, ...], int]]] = {}
    certain = 0
    for parts, value in summands:
        if parts:
            groups.setdefault(parts[0], []).append((parts[1:], value))
        else:
            certain += value
    return _sum([*(_guarded(first, rest) for first, rest in groups.items()), *([str(certain)] if certain else [])])


def _guarded(first: str, rest: Sequence[tuple[tuple[str, ...], int]]) -> str:
    if len(rest) > 1:
        return f"({bracketed(first)}?{_together(rest)}:0)"
    parts, value = rest[0]
    return f"({'&&'.join(map(bracketed, (first, *parts)))}?{value}:0)"


def _sum(summands: Sequence[str]) -> str:
    """A balanced tree: a chain of 50 sums would be deeper than the parser goes."""
    if len(summands) == 1:
        return summands[0]
    half = len(summands) // 2
    return f"({_sum(summands[:half])}+{_sum(summands[half:])})"


def _deepest(term: Term, count: int) -> str:
    """The term as deep as any of so many stands in their sum, by itself."""
    text = _summand(term, 1, _plain)
    for _ in range((count - 1).bit_length()):
        text = f"({text}+0)"
    return text
