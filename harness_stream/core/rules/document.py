"""YAML (or the JSON of a bundle) as a tree that remembers where every value stood.

Rule: only what a rule set or its cases can need is read. One document, plain mappings, lists and scalars; no aliases (a
few lines of them expand to gigabytes), no tags, no merge keys, no duplicate keys. Text in, tree out; nothing here knows
about rules.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from harness_stream.core.rules.language import INTEGER_MAX, NAME_CHARS_MAX
from harness_stream.core.rules.mistakes import Code, Findings

# The deepest value of a rule set is a threshold, on level six; of cases a value of an argument, on level nine. That
# leaves room and keeps recursion harmless.
DEPTH_MAX: Final = 12
# 1,000 rules of 30 nodes, twice over; composing more takes seconds in pure Python.
NODES_MAX: Final = 60_000

_TAG: Final = "tag:yaml.org,2002:"
_DECIMAL: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z")
_REAL: Final = re.compile(r"[-+]?[0-9][0-9_]*\.[0-9]*([eE][-+]?[0-9]+)?\Z")
# Control characters have no business in a name, a reason or an expression; lone surrogates are not even UTF-8.
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|\r?\n[ \t]*|.)", re.DOTALL)

# A key and what YAML has read of its value, to the end of a line: a quoted text, a list or mapping, or a tag.
_BEGUN: Final = re.compile(
    r"""(?P<key>[\w.-]+):[ ]+(?P<value>(?P<quoted>"[^"]*"|'[^']*')|\[[^\[\]]*\]|\{[^{}]*\}|(?P<tag>![^ ]*))[ ]*\Z"""
)
# What stands before it may be long, and the pattern costs the square of what it is given: a condition has ≤ 1,500.
_LOOKED_BACK_CHARS: Final = 1_500
_KEYED: Final = re.compile(r" *(- +)?[\w.-]+: +\S")
_NEXT_KEY: Final = re.compile(r"[\w.-]+:(\s|\Z)")
_OPERATOR: Final = re.compile(r"[.=!<>&|+?-]|in\b")

_BEGIN_RULES: Final = "start with `rule_set: NAME` and `default: deny`"

# Linked, not spelt out: a bundle may have many values under few long names.
Path = tuple["Path | None", str]

Value = Any  # str | int | float | bool | None | list[Item] | dict[str, Item]


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One value and its place.

    Attributes:
        value: a scalar, a list of items, or a dict from key to item.
        line: of its first character, from 1.
        column: of its first character, from 1.
        keys: for a mapping, the item of each key.
        raw: the source of a scalar, quotes included; empty if the value did not come from YAML.
        style: YAML's scalar style: None (plain), ' " | or >.
        end: line and column after its last character.
        path: of a value that stands on no line (of a bundle): the one around it, and its own name there.
    """

    value: Value
    line: int = 1
    column: int = 1
    keys: dict[str, Item] = field(default_factory=dict)
    raw: str = ""
    style: str | None = None
    end: tuple[int, int] = (1, 1)
    path: Path | None = None

    @property
    def dotted(self) -> str:
        """Its path for people, such as `rules.exports.when`; empty for a value that stands on a line."""
        names, path = list[str](), self.path
        while path is not None:
            path, name = path
            names.append(name[:NAME_CHARS_MAX])
        return ".".join(reversed(names))

    def position(self, offset: int = 0) -> tuple[int, int]:
        """Line and column of the offset-th character of a text value."""
        if not self.raw or not isinstance(self.value, str):
            return self.line, self.column
        index = _source_index(self.raw, self.style, self.value, offset)
        before = self.raw[:index]
        newlines = before.count("\n")
        if not newlines:
            return self.line, self.column + index
        return self.line + newlines, index - before.rfind("\n")


def _source_index(raw: str, style: str | None, value: str, offset: int) -> int:
    """Where in the source the offset-th character of the value stands.

    YAML folds lines, strips indentation and reads escapes; what it drops is only white space, quotes and backslashes,
    so the value's other characters appear in the source in order.
    """
    index = 0
    if style in {"|", ">"}:
        index = raw.find("\n") + 1
    elif style:
        index = 1
    for wanted in value[:offset]:
        index = _after(raw, style, index, wanted)
    if offset >= len(value):
        return index
    return _start(raw, style, index, value[offset])


def _start(raw: str, style: str | None, index: int, wanted: str) -> int:
    """First place from index on where the wanted character is spelt."""
    if wanted.isspace():
        return index
    while index < len(raw) and raw[index] != wanted and not (style == '"' and raw[index] == "\\"):
        index += 1
    return index


def _after(raw: str, style: str | None, index: int, wanted: str) -> int:
    """The place after the spelling of the wanted character."""
    index = _start(raw, style, index, wanted)
    if style == '"' and (escape := _ESCAPE.match(raw, index)):
        folded = escape[1][-1:].isspace() and "\n" in escape[1]
        return _after(raw, style, escape.end(), wanted) if folded else escape.end()
    if style == "'" and wanted == "'":
        return index + 2
    return min(index + 1, len(raw))


class _Refused(Exception):  # noqa: N818  never leaves this module
    def __init__(self, message: str, fix: str, event: yaml.Event) -> None:
        super().__init__(message)
        self.message, self.fix, self.mark = message, fix, event.start_mark
        self.code = Code.YAML_FEATURE if isinstance(event, yaml.AliasEvent) else Code.LIMIT


class _Loader(yaml.SafeLoader):
    """PyYAML's composer with aliases, depth and size refused as they are met."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:  # noqa: ANN401  PyYAML's signature
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise _Refused("aliases (`*name`) are not read", "write the value out", event)
        self._nodes += 1
        self._depth += 1
        if self._nodes > NODES_MAX:
            raise _Refused(f"more than {NODES_MAX:,} values", "split the file", event)
        if self._depth > DEPTH_MAX:
            raise _Refused(f"nested deeper than {DEPTH_MAX} levels", "no rule needs this", event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_yaml(text: str, findings: Findings, what: str = "rule set", begin: str = _BEGIN_RULES) -> Item | None:
    """Reads one YAML document; every mistake goes to findings.

    Args:
        text: the document.
        findings: takes the mistakes.
        what: it is, in the user's words.
        begin: what to write into an empty one.

    Returns:
        The tree, or None if the text is not YAML at all or empty.
    """
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except _Refused as refused:
        findings.at(*_place(refused.mark), refused.message, refused.fix, code=refused.code)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = ", ".join(filter(None, (error.context, error.problem)))
        findings.at(*_place(mark), f"not YAML: {problem}", _fix_of(text, mark), code=Code.YAML)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        message = f"a character that YAML does not allow, U+{ord(text[error.position]):04X}"
        findings.at(line, column, message, "remove it", code=Code.YAML)
    except (ValueError, OverflowError):  # an escape beyond Unicode reaches chr() inside PyYAML
        line = loader.line + 1 if loader else 1
        findings.at(line, 1, "not YAML: an escape that is no character", "write the character itself", code=Code.YAML)
    else:
        if root is None:
            findings.at(1, 1, f"the {what} is empty", begin, code=Code.MISSING_KEY)
            return None
        return _item(root, text, findings)
    return None


_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as YAML counts lines


def _fix_of(text: str, mark: yaml.Mark | None) -> str:
    """What to do where YAML gave up: mostly a value that should stand in quotes as a whole, and only its start does."""
    line, column = _place(mark)
    here = [*_LINE_BREAK.split(text), ""][line - 1]
    before, after = here[: column - 1], here[column - 1 :]
    if after.startswith("\t"):
        return "YAML indents by spaces: replace the tab"
    if after.startswith("---"):
        return "one file is one document: remove the line `---`, or move what follows it into a file of its own"
    begun = _BEGUN.search(before[-_LOOKED_BACK_CHARS:])
    if begun and ((begun["quoted"] and not _NEXT_KEY.match(after)) or begun["tag"] or _OPERATOR.match(after)):
        quote = '"' if "'" in begun["value"] else "'"
        return f"put the whole value in quotes: `{begun['key']}: {quote}{begun['value'].strip()} …{quote}`"
    if after.startswith(":") and _KEYED.match(before):
        return "put the whole value in quotes, if this colon belongs to it"
    return "check indentation, quotes and brackets up to here"


def _item(node: Node, text: str, findings: Findings) -> Item:
    line, column = _place(node.start_mark)
    end = _place(node.end_mark)
    if isinstance(node, MappingNode):
        values, keys = _mapping(node, text, findings)
        return Item(values, line, column, keys=keys, end=end)
    if isinstance(node, SequenceNode):
        _plain_tag(node, "seq", findings)
        return Item([_item(child, text, findings) for child in node.value], line, column, end=end)
    if not isinstance(node, ScalarNode):
        raise TypeError(type(node))
    raw = text[node.start_mark.index : node.end_mark.index]
    return Item(_scalar(node, findings), line, column, raw=raw, style=node.style, end=end)


def _mapping(node: MappingNode, text: str, findings: Findings) -> tuple[dict[str, Item], dict[str, Item]]:
    _plain_tag(node, "map", findings)
    values: dict[str, Item] = {}
    keys: dict[str, Item] = {}
    for key_node, value_node in node.value:
        key = _item(key_node, text, findings)
        value = _item(value_node, text, findings)
        name = key.value
        if not isinstance(name, str):
            findings.on(key, "a key must be a text", "write the key in quotes", code=Code.YAML_FEATURE)
        elif name in values:
            first = keys[name].line
            message = f"`{name}` is given twice (first on line {first})"
            findings.on(key, message, "keep one of them", code=Code.DUPLICATE_KEY)
        else:
            values[name], keys[name] = value, key
    return values, keys


def _plain_tag(node: Node, expected: str, findings: Findings) -> None:
    if node.tag != _TAG + expected:
        _wrong(node, findings, f"the tag `{node.tag}` is not read", "remove it", Code.YAML_FEATURE)


def _scalar(node: ScalarNode, findings: Findings) -> Value:
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    if kind in {"str", "merge", "value"}:
        if _FORBIDDEN.search(text):
            message = "control characters and lone surrogates are refused"
            _wrong(node, findings, message, "remove them", Code.BAD_VALUE)
            return _FORBIDDEN.sub(" ", text)
        return text
    if kind == "null":
        return None
    if kind == "bool":
        return yaml.SafeLoader.bool_values.get(text.lower(), False)
    if kind in {"int", "float"}:
        return _number(node, findings)
    tagged = kind.startswith("!")
    message = f"`{kind[:40]}` is a tag to YAML" if tagged else f"`{text[:40]}` is read as a {kind}"
    fix = "put the whole value in quotes" if tagged else "write it in quotes"
    _wrong(node, findings, message, fix, Code.YAML_FEATURE)
    return f"{kind} {text}".strip() if tagged else text  # what was meant, so that nothing else follows from it


def _number(node: ScalarNode, findings: Findings) -> int | float:
    text: str = node.value
    if _DECIMAL.match(text) and len(text) < 20:  # noqa: PLR2004  more digits than any number in range
        number: int | float = int(text.replace("_", ""))
    elif _REAL.match(text):
        number = float(text.replace("_", ""))
    else:
        fix = "write it in decimal, or in quotes if it is a text"
        _wrong(node, findings, f"`{text[:40]}` is not a decimal number", fix, Code.BAD_VALUE)
        return 0
    if not math.isfinite(number) or (isinstance(number, int) and abs(number) > INTEGER_MAX):
        fix = f"use a number between ±{INTEGER_MAX}"
        _wrong(node, findings, f"`{text[:40]}` is out of range", fix, Code.BAD_VALUE)
        return 0
    return number


def _wrong(node: Node, findings: Findings, message: str, fix: str, code: Code) -> None:
    findings.at(*_place(node.start_mark), message, fix, code=code, end=_place(node.end_mark))


def _place(mark: Any) -> tuple[int, int]:  # noqa: ANN401  PyYAML has two types of marks
    """Line and column, counted from 1."""
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def read_json(data: bytes, findings: Findings) -> Item | None:
    """Reads the bytes of a bundle into the same tree, without places."""
    try:
        return _from_json(json.loads(data, object_pairs_hook=_pairs, parse_constant=_no_constant), 0)
    except (ValueError, RecursionError) as error:
        message = f"not a bundle: {str(error)[:100]}"
        findings.at(1, 1, message, "make bundles with `harness rules push`", code=Code.YAML)
        return None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _from_json(value: Any, depth: int, path: Path | None = None) -> Item:  # noqa: ANN401  any JSON value
    if depth > DEPTH_MAX:
        raise ValueError(f"nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, dict):
        children = {key: _from_json(child, depth + 1, (path, key)) for key, child in value.items()}
        return Item(children, keys={key: Item(key, path=(path, key)) for key in children}, path=path)
    if isinstance(value, list):
        elements = [_from_json(child, depth + 1, (path, _name(child, at))) for at, child in enumerate(value)]
        return Item(elements, path=path)
    if isinstance(value, str) and _FORBIDDEN.search(value):
        raise ValueError("control characters and lone surrogates are refused")
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= _bound(value)):
        raise ValueError(f"a number out of range (±{INTEGER_MAX})")
    return Item(value, path=path)


def _name(element: Any, index: int) -> str:  # noqa: ANN401  any JSON value
    """What people call an element of a list: its id, else its number."""
    name = element.get("id") if isinstance(element, dict) else None
    return name if isinstance(name, str) and name else str(index)


def _bound(value: float) -> float:
    return INTEGER_MAX if isinstance(value, int) else math.inf
