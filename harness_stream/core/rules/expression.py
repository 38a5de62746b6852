"""The check of one expression: names, guards, and what could only fail at run time.

Rule: an accepted expression cannot fail because of what an agent sends. Absent rows are only warned about, because a
rule that fails denies (DESIGN §5). Types are CEL's own business (`cel.TypeChecker`), asked last.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from harness_stream.core.rules import guards
from harness_stream.core.rules.afford import too_dear, too_large
from harness_stream.core.rules.cost import Cost, Shape, cost_of
from harness_stream.core.rules.functions import ORIGIN, PARAMETERS, READS, answered, function_of, names_an_argument
from harness_stream.core.rules.language import (
    ARGUMENT_FIELDS,
    ARGUMENT_KINDS,
    ARGUMENT_VALUES,
    ARITHMETIC,
    CONVERSIONS,
    DIVISIONS,
    EXPRESSION_CHARS_MAX,
    FIELD_VALUES,
    GUARDED_TABLES,
    LITERAL_ELEMENTS_MAX,
    MACROS,
    OPERATOR_SIGNS,
    PATTERN_CHARS_MAX,
    PATTERN_UNITS_MAX,
    PREDICATES,
    ROOTS,
    SELECTION_ROOTS,
    STAND_INS,
    TYPE_NAMES,
    Kind,
)
from harness_stream.core.rules.mistakes import ERROR, WARNING, Code, Findings, did_you_mean, token_chars
from harness_stream.core.rules.patterns import pattern_of
from harness_stream.core.rules.syntax import (
    Call,
    Comprehension,
    Const,
    Ident,
    ListOf,
    MapOf,
    Node,
    Select,
    children,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.core.rules.cel import Complaint, Parser, TypeChecker
    from harness_stream.core.rules.document import Item

_FUNCTIONS: Final = PREDICATES | CONVERSIONS | MACROS
_WORD_CHARS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
_RESOURCE: Final = ("event.resource.", "intent.resource.")
_EQUATING: Final = frozenset({"_==_", "_!=_", "@in"})
_RE2: Final = "use RE2 syntax, which looks neither ahead nor back; write a backslash twice, or `[.]` in place of one"
_INTERNAL: Final = frozenset({"@not_strictly_false", "@result"})


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was understood.

    Attributes:
        text: as written.
        tree: its syntax.
        reads: every dotted name it reads, selections not followed (`identity.roles`, `event.resource.zone`, `args`).
        uses: the selections it names, by the offset of each mention.
        calls: the language's own functions it calls, by the offset of each call.
        loops: whether it holds a comprehension.
        cost: what evaluating it may take, its selections included.
        events: offsets at which it says `event`.
    """

    text: str
    tree: Node
    reads: frozenset[str]
    uses: Mapping[int, str]
    loops: bool
    cost: Cost
    events: frozenset[int] = frozenset()
    calls: Mapping[int, str] = field(default_factory=dict)

    def reads_through(self, selections: Mapping[str, Expression]) -> frozenset[str]:
        """What it and the selections that it uses read."""
        return self.reads.union(*(selections[name].reads for name in self.uses.values()))

    def varies(self, selections: Mapping[str, Expression]) -> bool:
        """Whether it reads the resource, and may so differ between two resources of one intent."""
        return any(path.startswith(_RESOURCE) for path in self.reads_through(selections))


@dataclass(frozen=True, slots=True)
class Scope:
    """What an expression may name.

    Attributes:
        fields: every dotted name with its type; `params.*` included.
        roots: the first words of those names.
        selections: selections it may use, understood.
        checker: CEL's type checker for exactly these names.
        parser: CEL's parser.
        shapes: how large the values of those names may be.
        reserved: names of selections that may not be used here.
    """

    fields: Mapping[str, Kind]
    roots: frozenset[str]
    selections: Mapping[str, Expression]
    checker: TypeChecker
    parser: Parser
    shapes: Mapping[str, Shape]
    reserved: frozenset[str] = field(default_factory=frozenset)


def understand(item: Item, scope: Scope, findings: Findings) -> Expression | None:
    """Checks one expression and adds every mistake to findings.

    Returns:
        The expression, or None if its text does not parse; an expression with other mistakes is still returned.
    """
    text = item.value
    if len(text) > EXPRESSION_CHARS_MAX:
        message = f"an expression of {len(text):,} characters; the limit is {EXPRESSION_CHARS_MAX:,}"
        findings.on(item, message, "put parts of it into selections or rules of their own", code=Code.LIMIT)
        return None
    tree = scope.parser.tree(text)
    if isinstance(tree, tuple):
        for complaint in tree:
            _complain(item, complaint, Code.SYNTAX, findings)
        return None
    walk = _Walk(item, scope, findings)
    walk.visit(tree, guards.NOTHING)
    for complaint in scope.checker.complaints(walk.typed):
        if not (walk.failed and complaint.undeclared):
            _complain(item, complaint, Code.UNKNOWN_NAME if complaint.undeclared else Code.TYPE, findings)
    cost = cost_of(tree, scope.shapes, scope.selections)
    # What a loop inside of a loop, a long list or a large pattern costs says nothing new: it is refused as such.
    if not walk.dear and (dear := too_dear(cost)) is not None:
        _complain(item, replace(dear, offset=_word(text, dear.offset)), Code.COST, findings)
    if (large := too_large(cost)) is not None:
        _complain(item, large, Code.UNGUARDED, findings)
    events = frozenset(walk.events)
    return Expression(text, tree, frozenset(walk.reads), dict(walk.uses), walk.loops, cost, events, dict(walk.calls))


def _complain(item: Item, complaint: Complaint, code: Code, findings: Findings) -> None:
    offset, length = complaint.offset, token_chars(item.value, complaint.offset)
    findings.on(item, complaint.message, complaint.fix, code=code, offset=offset, length=length)


class _Walk:
    """One pass over a tree, left to right, with the facts known at each node.

    `typed` is what the type checker is asked: a refused `has()` counts as true, since among flat names CEL would take
    it for the field itself, and an argument's fields have stand-ins of their type.
    """

    def __init__(self, item: Item, scope: Scope, findings: Findings) -> None:
        self._item = item
        self._scope = scope
        self._findings = findings
        self._trees = {name: selection.tree for name, selection in scope.selections.items()}
        self._records = {name.rpartition(".")[0] for name in scope.fields} - {""} | (scope.roots & {"params"})
        self._bound: tuple[str, ...] = ()
        self._warned: set[str] = set()
        self.reads: set[str] = set()
        self.events: set[int] = set()
        self.uses: dict[int, str] = {}
        self.calls: dict[int, str] = {}
        self.loops = False
        self.failed = False
        self.dear = False
        self.typed: str = item.value

    def _mistake(
        self, offset: int, code: Code, message: str, fix: str, severity: str = ERROR, *, upto: int | None = None
    ) -> None:
        """A mistake on the token at an offset, or on everything from there to the end of the token at `upto`."""
        self.failed = self.failed or severity == ERROR
        self.dear = self.dear or code == Code.COST
        last = offset if upto is None else upto
        length = last - offset + token_chars(self._item.value, last)
        self._findings.on(self._item, message, fix, code=code, offset=offset, length=length, severity=severity)

    def visit(self, node: Node, facts: guards.Facts) -> None:
        match node:
            case Ident():
                self._name(node)
            case Select():
                self._select(node, facts)
            case Call():
                self._call(node, facts)
            case Comprehension():
                self._loop(node, facts)
            case ListOf() | MapOf():
                self._literal(node, facts)

    # --- names ---

    def _path(self, node: Node) -> str | None:
        """The dotted name of a field or record, known or not; None for everything else."""
        match node:
            case Ident(name=name) if name in self._scope.roots and name not in self._bound:
                return name
            case Select(operand=operand, field=field, test=False):
                base = self._path(operand)
                return None if base is None or base in self._scope.fields else f"{base}.{field}"
            case _:
                return None

    def _name(self, node: Ident) -> None:
        name = node.name
        if name in self._bound or name in _INTERNAL or name in TYPE_NAMES:
            return
        if name in self._scope.selections:
            self._selection(node)
        elif name in self._scope.fields:
            self._read(node.offset, name, guards.NOTHING)
        elif name in self._records:
            self._bare(node.offset, name)
        else:
            self._unknown_name(node)

    def _selection(self, node: Ident) -> None:
        self.uses[node.offset] = node.name
        if self._bound and self._scope.selections[node.name].loops:
            self._nested(node.offset)

    def _unknown_name(self, node: Ident) -> None:
        name = node.name
        if self._scope.roots == SELECTION_ROOTS and name == "intent":
            fix = "write `event` for `intent`"
            self._mistake(node.offset, Code.OUT_OF_SCOPE, "a selection reads only `event` and `params`", fix)
        elif self._scope.roots == SELECTION_ROOTS and name in ROOTS:
            fix = f"read `{name}` in the rule's `when`"
            self._mistake(node.offset, Code.OUT_OF_SCOPE, "a selection reads only `event` and `params`", fix)
        elif name in self._scope.reserved:
            fix = f"write out what `{name}` says"
            self._mistake(node.offset, Code.OUT_OF_SCOPE, "a selection cannot use another one", fix)
        else:
            fix = did_you_mean(name, self._scope.roots | set(self._scope.selections))
            self._mistake(node.offset, Code.UNKNOWN_NAME, f"unknown name `{name}`", fix)

    def _bare(self, offset: int, path: str) -> None:
        names = [name for name in self._scope.fields if name.startswith(f"{path}.")]
        fix = f"name one of its fields, such as `{names[0]}`" if names else "there are none"
        self._mistake(offset, Code.TYPE, f"`{path}` is a table, not a value", fix)

    def _read(self, offset: int, path: str, facts: guards.Facts) -> None:
        self.reads.add(path)
        table, _, field_name = path.partition(".")
        if table == "event":
            self.events.add(offset)
        if table not in GUARDED_TABLES or field_name == "present" or guards.present(table) in facts:
            return
        if table not in self._warned:
            self._warned.add(table)
            message = f"`{path}` is an error when the row is absent, and an error denies"
            self._mistake(offset, Code.ABSENT_ROW, message, f"write `{table}.present && …` before it", WARNING)

    def _select(self, node: Select, facts: guards.Facts) -> None:
        if node.test:
            self._has(node, facts)
            return
        path = self._path(node)
        if path is None:
            self.visit(node.operand, facts)
            self._member(node, facts)
        elif path in self._scope.fields:
            self._read(_start(node), path, facts)
        elif path in self._records:
            self._bare(_start(node), path)
        else:
            self._unknown_field(node)

    def _unknown_field(self, node: Select) -> None:
        parent = self._path(node.operand)
        if parent not in self._records and isinstance(node.operand, Select):
            self._unknown_field(node.operand)
            return
        siblings = {
            name.removeprefix(f"{parent}.").split(".")[0]
            for name in self._scope.fields
            if name.startswith(f"{parent}.")
        }
        fix = did_you_mean(node.field, siblings, prefix=f"{parent}.")
        code = Code.UNKNOWN_PARAM if parent == "params" else Code.UNKNOWN_FIELD
        self._mistake(node.offset + 1, code, f"unknown field `{parent}.{node.field}`", fix)

    # --- what may not be there ---

    def _kind(self, node: Node) -> Kind | None:
        path = self._path(node)
        return self._scope.fields.get(path) if path else None

    def _member(self, node: Select, facts: guards.Facts) -> None:
        """`x.name` where x is no table: a key of a map, or a field of an argument."""
        if self._is_argument(node.operand):
            if node.field not in ARGUMENT_FIELDS:
                fix = did_you_mean(node.field, ARGUMENT_FIELDS)
                self._mistake(node.offset + 1, Code.UNKNOWN_FIELD, f"unknown field `{node.field}` of an argument", fix)
            else:
                self._stand_in(_start(node), node)
        elif self._is_map(node.operand):
            self._key(node, node.operand, Const(node.offset, node.field), facts)

    def _stand_in(self, start: int, node: Select) -> None:
        end = self.typed.index(node.field, node.offset) + len(node.field)
        name = STAND_INS[ARGUMENT_KINDS[node.field]]
        self.typed = f"{self.typed[:start]}{name:<{end - start}}{self.typed[end:]}"

    def _is_argument(self, node: Node) -> bool:
        match node:
            case Select(operand=operand, test=False) | Call(function="_[_]", args=(operand, _)):
                return self._kind(operand) is Kind.ARGS
            case _:
                return False

    def _is_texts(self, node: Node) -> bool:
        if isinstance(node, Select) and self._is_argument(node.operand):
            return ARGUMENT_KINDS.get(node.field) is Kind.STRINGS
        return self._kind(node) is Kind.STRINGS

    def _is_map(self, node: Node) -> bool:
        if isinstance(node, Ident):
            return node.name in self._bound or node.name == "args"
        if isinstance(node, Call):
            return node.function == "_[_]"
        return isinstance(node, MapOf) or self._kind(node) in {Kind.MEASURES, Kind.ARGS}

    def _key(self, read: Select | Call, container: Node, key: Node, facts: guards.Facts) -> None:
        if guards.key_in(container, key) in facts:
            return
        fix = f"write `{guards.written(key)} in {guards.written(container)} && …` before it"
        message = f"`{guards.written(read)}` fails when the key is missing"
        self._mistake(_start(read), Code.UNGUARDED, message, fix, upto=read.offset)

    def _index(self, node: Call, facts: guards.Facts) -> None:
        container, key = node.args
        if isinstance(container, ListOf | Comprehension) or self._is_texts(container):
            fix = 'write `"value" in list` or `list.exists(x, x == "value")`'
            message = "an index into a list fails when the list is shorter"
            self._mistake(_start(node), Code.UNGUARDED, message, fix, upto=node.offset)
        else:
            self._key(node, container, key, facts)

    def _has(self, node: Select, facts: guards.Facts) -> None:
        if self._kind(node.operand) in {Kind.MEASURES, Kind.ARGS}:
            self.visit(node.operand, facts)
            return
        path = self._path(node.operand)
        table = path.partition(".")[0] if path else ""
        if f"{table}.present" in self._scope.fields:
            fix = f"use `{table}.present`"
        elif path:
            fix = f'fields of `{table}` are always there: compare with `""`, or ask `size()`'
        else:
            fix = "only keys of `measures` and `args` can be missing"
        where = _word(self._item.value, node.offset)
        self._mistake(where, Code.UNGUARDED, "`has()` is refused here", fix)
        self.typed = answered(self.typed, where)

    # --- calls ---

    def _own_function(self, node: Call, name: str, facts: guards.Facts) -> None:
        """One of the language's own; its target is no value but part of its name."""
        where = _word(self._item.value, node.offset) if node.target is None else _start(node.target)
        parameters = PARAMETERS[name]
        root = READS[name].partition(".")[0]
        if root not in self._scope.roots:
            message = f"`{name}()` asks of the intent, not of history"
            self._mistake(where, Code.OUT_OF_SCOPE, message, "ask in the rule's `when`")
        elif len(node.args) != len(parameters):
            fix = f"write `{name}({', '.join(parameters)})`"
            self._mistake(where, Code.TYPE, f"`{name}()` takes {len(parameters)}", fix)
        elif name == ORIGIN and not names_an_argument(node.args[0], self._bound):
            fix = 'write `origin("to")`, or loop over `args`'
            self._mistake(where, Code.TYPE, "`origin()` takes an argument's name", fix)
        else:
            self.reads.add(READS[name])
            self.calls[where] = name
        for part in node.args:
            self.visit(part, facts)

    def _call(self, node: Call, facts: guards.Facts) -> None:
        own = function_of(node)
        if own is not None:
            self._own_function(node, own, facts)
            return
        if node.function in {"_&&_", "_||_", "_?_:_"}:
            self._branches(node, facts)
            return
        for part in children(node):
            self.visit(part, facts)
        self._named(node, node.function, facts)

    def _named(self, node: Call, name: str, facts: guards.Facts) -> None:
        """What a function or operator of CEL may not be given."""
        if name == "_[_]":
            self._index(node, facts)
        elif name in _EQUATING:
            self._compared_words(node)
        elif name in DIVISIONS:
            self._division(node)
        elif name in ARITHMETIC:
            self._arithmetic(node)
        elif name in CONVERSIONS:
            self._conversion(node)
        elif name == "matches":
            self._pattern(node)
        elif name not in OPERATOR_SIGNS and name not in _INTERNAL and name not in PREDICATES:
            self._unknown_function(node)

    def _branches(self, node: Call, facts: guards.Facts) -> None:
        first, *rest = node.args
        self.visit(first, facts)
        if node.function == "_?_:_":
            yes, no = rest
            self.visit(yes, facts | guards.implied(first, True, self._trees))
            self.visit(no, facts | guards.implied(first, False, self._trees))
            return
        for part in rest:
            self.visit(part, facts | guards.implied(first, node.function == "_&&_", self._trees))

    def _unknown_function(self, node: Call) -> None:
        what = "macro" if node.function in MACROS else "function"
        if what == "macro":
            message, fix = f"`{node.function}` is not called like this", "write `list.exists(x, condition on x)`"
        else:
            message, fix = f"unknown function `{node.function}`", did_you_mean(node.function, _FUNCTIONS)
        self._mistake(_word(self._item.value, node.offset), Code.UNKNOWN_FUNCTION, message, fix)

    def _division(self, node: Call) -> None:
        divisor = node.args[-1]
        known = isinstance(divisor, Const) and isinstance(divisor.value, int | float) and divisor.value
        if not known:
            sign = OPERATOR_SIGNS[node.function]
            fix = "divide by a number other than 0, or multiply the other side"
            self._mistake(node.offset, Code.UNGUARDED, f"`{sign}` fails when the divisor is 0", fix)

    def _arithmetic(self, node: Call) -> None:
        for arg in node.args:
            match arg:
                case Select(operand=operand, test=False) | Call(function="_[_]", args=(operand, _)):
                    if self._kind(operand) is Kind.MEASURES:
                        fix = "compare the measure itself, and put factors into the other side or into a parameter"
                        message = "a measure may be whole or not, and arithmetic does not mix the two"
                        self._mistake(node.offset, Code.UNGUARDED, message, fix)
                        return

    def _compared_words(self, node: Call) -> None:
        """A word that a field never holds makes a comparison that always comes out the same."""
        for one, other in (node.args, reversed(node.args)):
            words = self._words_of(one)
            compared = other.elements if isinstance(other, ListOf) else (other,)
            for literal in compared if words else ():
                if isinstance(literal, Const) and isinstance(literal.value, str) and literal.value not in words:
                    message = f"`{guards.written(one)}` is one of {', '.join(words)}"
                    fix = did_you_mean(literal.value, words)
                    self._mistake(literal.offset, Code.UNKNOWN_WORD, message, fix, WARNING)

    def _words_of(self, node: Node) -> tuple[str, ...]:
        """What a field can hold; nothing if it may be any text."""
        match node:
            case Call() if function_of(node) == ORIGIN:
                return ARGUMENT_VALUES["origin"]
            case (
                Select(operand=operand, field=name, test=False)
                | Call(function="_[_]", args=(operand, Const(value=str(name))))
            ) if self._is_argument(operand):
                return ARGUMENT_VALUES.get(name, ())
            case _:
                return FIELD_VALUES.get(self._path(node) or "", ())

    def _conversion(self, node: Call) -> None:
        where = _word(self._item.value, node.offset)
        arguments = [arg for arg in node.args if isinstance(arg, Const)]
        if len(arguments) < len(node.args) or node.target is not None:
            fix = "compare without converting: numbers compare across int and double"
            self._mistake(where, Code.UNGUARDED, f"`{node.function}()` of an input can fail at run time", fix)
        elif len(arguments) == 1 and (
            error := self._scope.parser.literal_fails(_call_text(node.function, arguments[0]))
        ):
            message = f"`{node.function}()` of this literal fails: {error}"
            self._mistake(where, Code.BAD_VALUE, message, "correct the literal")

    def _pattern(self, node: Call) -> None:
        pattern = node.args[-1] if node.args else None
        if not isinstance(pattern, Const) or not isinstance(pattern.value, str):
            fix = 'write the pattern in quotes: `x.matches("^crm[.]")`'
            self._mistake(node.offset, Code.UNGUARDED, "`matches` takes a literal pattern only", fix)
        elif len(pattern.value) > PATTERN_CHARS_MAX:
            message = f"a pattern of {len(pattern.value):,} characters; the limit is {PATTERN_CHARS_MAX}"
            self._mistake(pattern.offset, Code.COST, message, "use `startsWith`, `in [...]` or several patterns")
        elif (units := pattern_of(pattern.value).units) > PATTERN_UNITS_MAX:
            message = f"the pattern unfolds to {units:,} instructions; the limit is {PATTERN_UNITS_MAX:,}"
            fix = "use smaller counts in braces, and ranges in place of Unicode classes"
            self._mistake(pattern.offset, Code.COST, message, fix)
        elif error := self._scope.parser.literal_fails(f'"".matches({_quoted(pattern.value)})'):
            self._mistake(pattern.offset, Code.BAD_VALUE, f"not a regular expression: {_bare(error)}", _RE2)

    # --- literals and loops ---

    def _literal(self, node: ListOf | MapOf, facts: guards.Facts) -> None:
        size = len(node.elements) if isinstance(node, ListOf) else len(node.entries)
        if size > LITERAL_ELEMENTS_MAX:
            message = f"a literal of {size} elements; the limit is {LITERAL_ELEMENTS_MAX}"
            self._mistake(node.offset, Code.COST, message, "use a prefix (`startsWith`), a label or several rules")
        if isinstance(node, MapOf) and node.message:
            message = "messages are not part of the language"
            self._mistake(node.offset, Code.SYNTAX, message, "use a map or a list")
        for part in children(node):
            self.visit(part, facts)

    def _loop(self, node: Comprehension, facts: guards.Facts) -> None:
        self.visit(node.over, facts)
        self.loops = True
        if self._bound:
            self._nested(node.offset)
            return
        name = node.variable
        if name in ROOTS or name in self._scope.selections or name in self._scope.reserved:
            message = f"`{name}` already names something else"
            self._mistake(_word(self._item.value, node.offset), Code.BAD_NAME, message, "call the variable `x`")
        self._bound = (name,)
        if self._kind(node.over) in {Kind.MEASURES, Kind.ARGS} or isinstance(node.over, MapOf):
            facts = facts | {guards.key_in(node.over, Ident(0, name))}
        for part in node.body:
            self.visit(part, facts)
        self._bound = ()

    def _nested(self, offset: int) -> None:
        fix = "use one loop, or split the rule"
        message = "a loop inside a loop is refused: its cost is the product of both"
        self._mistake(_word(self._item.value, offset), Code.COST, message, fix)


def _bare(error: str) -> str:
    """What RE2 says, without what CEL says around it."""
    return error.rpartition("invalid regular expression: ")[2]


def _word(text: str, offset: int) -> int:
    """Start of the name before the bracket that CEL points at; the offset itself if it points at anything else."""
    before = text[:offset].rstrip()
    return len(before.rstrip(_WORD_CHARS)) if text[offset] == "(" and before[-1:] in _WORD_CHARS else offset


def _start(node: Node) -> int:
    """Where the text of a name, or of what is read from it, begins."""
    while True:
        match node:
            case Select(operand=inner) | Call(function="_[_]", args=(inner, _)):
                node = inner
            case Call(target=inner) if inner is not None:
                node = inner
            case _:
                return node.offset


def _quoted(text: str) -> str:
    """A CEL string literal; every character that could end it is escaped by its number."""
    return '"' + "".join(char if char.isalnum() else f"\\U{ord(char):08x}" for char in text) + '"'


def _call_text(function: str, argument: Const) -> str:
    value = argument.value
    if isinstance(value, str):
        return f"{function}({_quoted(value)})"
    if isinstance(value, bool):
        return f"{function}({str(value).lower()})"
    return f"{function}({value!r})"
