"""The CEL environments, and CEL's errors as findings.

Rule: an expression is read three times. `Parser` reads its structure and places. `TypeChecker` checks it among flat
typed names, where `identity.rols` does not exist. `Runtime` compiles it for nested maps without types, as they arrive.
Numbers compare across int and double: CEL does so at run time, its checker does not, so that one complaint is dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cel_expr_python import cel

from harness_stream.core.rules.functions import ORIGIN, PARAMETERS
from harness_stream.core.rules.language import (
    COMPARISONS,
    FOREIGN_WORDS,
    LOOP_STEPS_RUNTIME,
    NESTING_MAX,
    OPERATOR_SIGNS,
    ROOTS,
    STAND_INS,
    Kind,
)
from harness_stream.core.rules.syntax import Node, decode

if TYPE_CHECKING:
    from collections.abc import Mapping

# A verdict names the error of a rule and is ≤ 16 KiB (PROTOCOL §3).
ERROR_CHARS_MAX: Final = 200
BUDGET_SPENT: Final = f"budget spent: the condition took more than {LOOP_STEPS_RUNTIME:,} loop steps"
# What CEL's own macros end a loop by: false only if its argument is false, so true for an error as well. The name that
# macros use cannot be written; this older one can. Only masks use it, and only to save evaluations (`masks.py`).
_NOT_STRICTLY_FALSE: Final = "__not_strictly_false__"

_TYPES: Final = {
    Kind.STRING: cel.Type.STRING,
    Kind.BOOL: cel.Type.BOOL,
    Kind.INT: cel.Type.INT,
    Kind.DOUBLE: cel.Type.DOUBLE,
    Kind.STRINGS: cel.Type.List(cel.Type.STRING),
    Kind.MEASURES: cel.Type.Map(cel.Type.STRING, cel.Type.DOUBLE),
    Kind.ARGS: cel.Type.Map(cel.Type.STRING, cel.Type.Map(cel.Type.STRING, cel.Type.DYN)),
}
_ANY_NUMBER: Final = {
    Kind.INT: cel.Type.DYN,
    Kind.DOUBLE: cel.Type.DYN,
    Kind.MEASURES: cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
}

_ERROR: Final = re.compile(r"^ERROR: <input>:(\d+):(\d+): (.*)$", re.MULTILINE)
_OVERLOAD: Final = re.compile(r"found no matching overload for '([^']+)' applied to '(.*)'")
_NUMBERS: Final = re.compile(r"\((int|double), (int|double)\)")
_ARGUMENT: Final = re.compile(r"\*error\*|\w+(?:\([^)]*\))?")
_QUOTED: Final = re.compile(r"'([^']*)'")


@dataclass(frozen=True, slots=True)
class Complaint:
    """What CEL has against an expression; the offset counts characters from its start."""

    offset: int
    message: str
    fix: str
    undeclared: bool = False


class Parser:
    """Parses expressions, without any names."""

    def __init__(self) -> None:
        self._env = cel.NewEnv()

    def tree(self, text: str) -> Node | tuple[Complaint, ...]:
        """The syntax tree, or what keeps the text from being an expression."""
        try:
            return decode(self._env.compile(text, disable_check=True).serialize())
        except (RuntimeError, TypeError) as error:
            return _complaints(text, str(error))

    def literal_fails(self, call: str) -> str:
        """The error of a call whose arguments are all literals, or an empty text."""
        try:
            value = self._env.compile(call).eval(self._env.Activation({}))
        except (RuntimeError, TypeError) as error:
            return short(error)
        return short(value.value()) if value.type() == cel.Type.ERROR else ""


class TypeChecker:
    """Checks expressions among flat, typed, dotted names."""

    def __init__(self, fields: Mapping[str, Kind], selections: tuple[str, ...] = ()) -> None:
        booleans = dict.fromkeys(selections, cel.Type.BOOL)
        stand_ins = {name: _TYPES[kind] for kind, name in STAND_INS.items()}
        exact = stand_ins | {name: _TYPES[kind] for name, kind in fields.items()}
        loose = stand_ins | {name: _ANY_NUMBER.get(kind, _TYPES[kind]) for name, kind in fields.items()}
        functions = [_declared(name, len(parameters)) for name, parameters in PARAMETERS.items()]
        self._exact = cel.NewEnv(variables=exact | booleans, functions=functions)
        self._loose = cel.NewEnv(variables=loose | booleans, functions=functions)

    def complaints(self, text: str) -> tuple[Complaint, ...]:
        """Every type error, and a result that is not true or false."""
        kind = self._result(self._exact, text)
        if isinstance(kind, tuple):
            kind = tuple(found for found in kind if found.message) or self._result(self._loose, text)
        if isinstance(kind, tuple):
            return tuple(found for found in kind if found.message) or (_mixed_literals(kind),)
        if kind == cel.Type.BOOL:
            return ()
        return (Complaint(0, f"this is {_type_words(kind.name())}, not true or false", "compare it with something"),)

    @staticmethod
    def _result(env: cel.Env, text: str) -> cel.Type | tuple[Complaint, ...]:
        try:
            return env.compile(text).return_type()
        except (RuntimeError, TypeError) as error:
            return _complaints(text, str(error))


class Runtime:
    """Compiles for, and evaluates on, nested maps."""

    def __init__(self) -> None:
        any_map = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
        self._env = cel.NewEnv(variables=dict.fromkeys(sorted(ROOTS), any_map))

    def compile(self, text: str) -> cel.Expression | tuple[Complaint, ...]:
        """The program, or why it cannot run."""
        try:
            return self._env.compile(text)
        except (RuntimeError, TypeError) as error:
            return _complaints(text, str(error))

    def compiles(self, text: str) -> bool:
        """Whether the text is short and flat enough to be compiled."""
        return not isinstance(self.compile(text), tuple)

    def activation(self, variables: Mapping[str, Any]) -> cel.Activation:
        """Variables in CEL's hands; each map is converted once, when an expression first reads it."""
        return self._env.Activation(variables)


def _declared(name: str, arity: int) -> cel.FunctionDecl:
    """One of the language's own, for the type checker: texts in, a word or a yes out."""
    kind = cel.Type.STRING if name == ORIGIN else cel.Type.BOOL
    parameters = [cel.Type.STRING] * arity
    return cel.FunctionDecl(name, [cel.Overload(f"own_{name}", return_type=kind, parameters=parameters)])


def outcome(expression: cel.Expression, activation: cel.Activation) -> bool | str:
    """True, False or the text of an error. Never raises: CEL hands errors back as values, except a spent budget."""
    try:
        value = expression.eval(activation).value()
    except Exception as error:  # noqa: BLE001  whatever the binding raises, an intent must get an answer
        return BUDGET_SPENT if "budget exceeded" in str(error) else short(error)
    if value is True or value is False:
        return value
    return short(value) if isinstance(value, str) else f"the condition is a {type(value).__name__}, not true or false"


def whole_number(expression: cel.Expression, activation: cel.Activation) -> int | None:
    """The value of an expression, None if it errs or is no whole number. Never raises."""
    try:
        value = expression.eval(activation).value()
    except Exception:  # noqa: BLE001  as above
        return None
    return value if type(value) is int else None


def may_hold(condition: str) -> str:
    """An expression that is true if the condition holds or errs, false if it is false."""
    return f"{_NOT_STRICTLY_FALSE}({condition})"


def short(error: object) -> str:
    """An error in one line of at most 200 characters."""
    return " ".join(str(error).split())[:ERROR_CHARS_MAX] or type(error).__name__


def _complaints(text: str, error: str) -> tuple[Complaint, ...]:
    if "recursion" in error:
        fix = "put part of it into a selection, or add brackets to long sums"
        return (Complaint(0, f"the expression nests deeper than {NESTING_MAX} levels", fix),)
    lines = error.removeprefix("INVALID_ARGUMENT: ")
    found = [_complaint(text, int(line), int(column), what) for line, column, what in _ERROR.findall(lines)]
    return tuple(found) or (Complaint(0, f"not a CEL expression: {short(error)}", "see docs/rules.md"),)


def _complaint(text: str, line: int, column: int, what: str) -> Complaint:
    offset = sum(len(before) + 1 for before in text.split("\n")[: line - 1]) + column - 1
    if overload := _OVERLOAD.search(what):
        return _no_overload(offset, overload[1], overload[2])
    if what.startswith("Syntax error"):
        return _syntax_error(offset, what)
    undeclared = what.startswith("undeclared reference")
    message = what.removesuffix(" [INVALID_ARGUMENT]").replace(" (in container '')", "")
    return Complaint(offset, message.replace("'", "`"), "see the table of variables in docs/rules.md", undeclared)


def _no_overload(offset: int, function: str, arguments: str) -> Complaint:
    """An empty message marks the one complaint that is none: a comparison of two numbers."""
    if function in COMPARISONS and _NUMBERS.fullmatch(arguments):
        return Complaint(offset, "", "write both numbers the same way, as 1 and 2 or as 1.0 and 2.0")
    sign = OPERATOR_SIGNS.get(function, function)
    kinds = " and ".join(_type_words(kind) for kind in _ARGUMENT.findall(arguments[1:-1]) if kind != "*error*")
    number = "double" in arguments and "int" in arguments
    fix = "write whole numbers with a point beside a double (`2.0`)" if number else "use values of one type"
    return Complaint(offset, f"`{sign}` does not take {kinds}", fix)


def _mixed_literals(complaints: tuple[Complaint, ...]) -> Complaint:
    first = complaints[0]
    return Complaint(first.offset, "a whole number and a double are compared", first.fix)


def _syntax_error(offset: int, what: str) -> Complaint:
    problem = what.removeprefix("Syntax error: ").split(" expecting ")[0].removesuffix(" [INVALID_ARGUMENT]")
    token = _QUOTED.search(problem)
    word = token[1].strip() if token else ""
    if word == "<EOF>":
        return Complaint(
            offset, "syntax error: the expression ends too early", "finish it, or remove the last operator"
        )
    if word in FOREIGN_WORDS:
        return Complaint(offset, f"syntax error: `{word}` is not CEL", f"write `{FOREIGN_WORDS[word]}`")
    fix = 'operators are && || ! == != < <= > >= in; texts stand in "quotes"'
    return Complaint(offset, f"syntax error: {problem.replace(chr(39), '`')}", fix)


def _type_words(name: str) -> str:
    plain = name.lower().replace("<", " of ").replace("(", " of ").replace(">", "").replace(")", "")
    plain = plain.replace("dyn", "value of any type")
    return f"{'an' if plain[:1] in 'aeiou' else 'a'} {plain}"
