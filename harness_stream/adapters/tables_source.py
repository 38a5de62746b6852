"""Table rows from a folder: `<table>.yaml`, `.yml`, `.jsonl`, `.csv` (DESIGN §3 names the tables and their fields).

Rule of this file: reading never stops at the first mistake, and every mistake names file, line and what to write
instead. What it returns has passed the very codec a worker reads rows with, so a loaded row is never unreadable.

* YAML: one list of rows. Aliases are followed within a row's limits. A date is the text that stands there.
* JSON lines: one row a line, blank lines are skipped.
* CSV: the header names fields, `delegation.depth` a field of a field; a list is separated by `;`, a list of objects is
  written as JSON; an empty cell says that the field is absent.

A point in time is RFC 3339 in UTC or epoch ms, in all of them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson
import yaml
from pydantic import ValidationError

from harness_stream.core import limits
from harness_stream.core.instant import instant_ms
from harness_stream.core.refusals import refusals
from harness_stream.core.rules.mistakes import Findings, Mistake, did_you_mean
from harness_stream.core.tables import TABLES, TIME_FIELDS, Row
from harness_stream.errors import ConfigError, GarbageRecord
from harness_stream.wire.codec import decode_row, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

SUFFIXES: Final = (".yaml", ".yml", ".jsonl", ".csv")
# 1,000,000 rows of 256 bytes; a larger table is fed by a stream, not by hand.
FILE_BYTES_MAX: Final = 256 * limits.MIB
# The widest row has 64 arguments by name and some twenty fields; each wrong column is looked for among all fields.
COLUMNS_MAX: Final = 256
# A row of ROW_BYTES_MAX has fewer values; YAML aliases beyond it are a bomb, not a row.
ROW_NODES_MAX: Final = limits.ROW_BYTES_MAX // 2

_CORRECT: Final = "correct the value"
_YAML_LOADER: Final[type[yaml.SafeLoader]] = type("_Loader", (getattr(yaml, "CSafeLoader", yaml.SafeLoader),), {})
# YAML 1.1 would make a date of it, of which no field is one, and forget how it was written.
_YAML_LOADER.add_constructor("tag:yaml.org,2002:timestamp", lambda _loader, node: node.value)


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One good row and where it stands.

    Attributes:
        line: counted from 1.
        text: that line, to be shown beside a mistake found later.
    """

    table: str
    row: Row
    file: str
    line: int
    text: str

    def mistake(self, message: str, fix: str) -> Mistake:
        """A mistake about this row."""
        return Mistake(self.file, self.line, 1, self.text, message, fix)


@dataclass(frozen=True, slots=True)
class Source:
    """What a folder says.

    Attributes:
        tables: tables that have a file; only these may be pruned.
        rows: every good row, one per key, in the files' order.
        mistakes: everything else.
    """

    tables: frozenset[str]
    rows: tuple[SourceRow, ...]
    mistakes: tuple[Mistake, ...]


def tables_in(folder: Path) -> frozenset[str]:
    """Tables that the folder has a file of; none if it is no folder."""
    paths = [path for path in folder.iterdir() if path.suffix in SUFFIXES] if folder.is_dir() else []
    return frozenset(path.stem for path in paths if path.stem in TABLES)


def read_folder(folder: Path) -> Source:
    """Every row of every table file in `folder`; files with other suffixes are not looked at.

    Raises:
        ConfigError: it is no folder, holds no table file, or a file cannot be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"`{folder}` is not a folder", hint="give the folder that holds identity.yaml and so on")
    paths = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not any(path.stem in TABLES for path in paths):
        names = ", ".join(TABLES)
        raise ConfigError(f"`{folder}` holds no table", hint=f"name the files {names}, with {', '.join(SUFFIXES)}")
    rows: list[SourceRow] = []
    mistakes: list[Mistake] = []
    for path in paths:
        good, bad = _read_file(path)
        rows += good
        mistakes += bad
    single, twice = _one_per_key(rows)
    return Source(frozenset(p.stem for p in paths if p.stem in TABLES), tuple(single), (*mistakes, *twice))


def _read_file(path: Path) -> tuple[list[SourceRow], tuple[Mistake, ...]]:
    table, file = path.stem, str(path)
    if table not in TABLES:
        return [], (Mistake(file, 1, 1, "", f"there is no table `{table}`", did_you_mean(table, TABLES)),)
    try:
        text = _text(path)
    except UnicodeDecodeError as error:
        return [], (Mistake(file, 1, 1, "", f"not UTF-8 at byte {error.start}", "save the file as UTF-8"),)
    findings = _File(table, file, text)
    _READERS[path.suffix](findings)
    return findings.rows, findings.found.all()


def _text(path: Path) -> str:
    try:
        with path.open("rb") as source:
            data = source.read() if os.fstat(source.fileno()).st_size <= FILE_BYTES_MAX else None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", hint="the file must be readable") from error
    if data is None:
        raise ConfigError(f"{path}: larger than {FILE_BYTES_MAX // limits.MIB} MiB", hint="split the load")
    return data.decode("utf-8-sig")


def _one_per_key(rows: Sequence[SourceRow]) -> tuple[list[SourceRow], list[Mistake]]:
    """Of rows with one key nobody knows which is meant: none is taken, each is a mistake."""
    by_key: dict[tuple[str, str], list[SourceRow]] = defaultdict(list)
    for source in rows:
        by_key[source.table, source.row.key].append(source)
    twice = [
        source.mistake(f"`{key}` is also in {other.file}:{other.line}", "keep one of them")
        for (_, key), same in by_key.items()
        if len(same) > 1
        for source, other in zip(same, [*same[1:], same[0]], strict=True)
    ]
    return [same[0] for same in by_key.values() if len(same) == 1], twice


Place = tuple[int, int]
"""Line and column, counted from 1."""


class _File:
    """Gathers rows and mistakes of one file."""

    def __init__(self, table: str, file: str, text: str) -> None:
        self.table = table
        self.file = file
        self.text = text
        self.lines = text.split("\n")
        self.found = Findings(text, file)
        self.rows: list[SourceRow] = []

    def add(self, value: object, line: int, place_of: Callable[[Sequence[int | str]], Place] | None = None) -> None:
        """Take one row, or say everything that is wrong with it, where the format can tell at each field's place."""

        def place(loc: Sequence[int | str] = ()) -> Place:
            return (line, 1) if place_of is None else place_of(loc)

        try:
            raw = orjson.dumps(_with_times(value))
            row = TABLES[self.table].model_validate_json(raw)
            decode_row(self.table, encode(row))  # type: ignore[arg-type]  # TABLES' keys are the table names
        except orjson.JSONEncodeError as error:
            self.found.at(*place(), f"a value is no JSON: {error}", "write it as text in quotes")
        except ValidationError as error:
            for refusal in refusals(error):
                self._refuse(*refusal, place(refusal.loc))
        except GarbageRecord as error:
            self.found.at(*place(), str(error), _CORRECT)
        else:
            self.rows.append(SourceRow(self.table, row, self.file, line, self._line(line)))

    def _line(self, line: int) -> str:
        return self.lines[line - 1].rstrip("\r") if line <= len(self.lines) else ""

    def _refuse(self, kind: str, loc: tuple[int | str, ...], message: str, place: Place) -> None:
        name = ".".join(map(str, loc))
        if kind == "extra_forbidden":
            known = TABLES[self.table].model_fields if len(loc) == 1 else ()
            self.found.at(*place, f"`{name}` is no field of {self.table}", did_you_mean(str(loc[-1]), known))
        elif kind == "missing":
            self.found.at(*place, f"`{name}` is missing", f"add `{name}`")
        elif loc and loc[-1] in TIME_FIELDS:
            self.found.at(*place, f"`{name}` is no time", "write RFC 3339 in UTC, 2026-11-02T09:00:00Z, or epoch ms")
        else:
            self.found.at(*place, f"`{name}`: {message}" if name else message, _CORRECT)


def _with_times(value: object) -> object:
    """The same with points in time as epoch ms; what is no time stays, and the schema refuses it."""
    if isinstance(value, list):
        return [_with_times(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: _epoch_ms(inner) if name in TIME_FIELDS else _with_times(inner) for name, inner in value.items()}


def _epoch_ms(value: object) -> object:
    try:
        return instant_ms(value)
    except ValueError:
        return value


# --- YAML ---


class _Refused(Exception):  # noqa: N818  never leaves this file
    def __init__(self, node: yaml.Node, message: str, fix: str) -> None:
        super().__init__(message)
        self.place = _mark(node)
        self.fix = fix


def _read_yaml(file: _File) -> None:
    loader = _YAML_LOADER(file.text)
    try:
        top = loader.get_single_node()
        for node in _yaml_rows(top):
            _yaml_row(file, loader, node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        file.found.at(*place, f"not YAML: {error.problem or error.context}", "correct the syntax")
    except yaml.YAMLError as error:
        file.found.at(1, 1, f"not YAML: {error}", "correct the syntax")
    except RecursionError:
        file.found.at(1, 1, "nested too deeply", "write one list of rows")
    except _Refused as error:
        file.found.at(*error.place, str(error), error.fix)


def _yaml_rows(top: yaml.Node | None) -> Sequence[yaml.Node]:
    if top is None:
        return ()
    if not isinstance(top, yaml.SequenceNode):
        raise _Refused(top, "the file is not a list of rows", "begin each row with `- `")
    return top.value  # type: ignore[no-any-return]  # the library's stubs leave it open


def _yaml_row(file: _File, loader: yaml.SafeLoader, node: yaml.Node) -> None:
    line, _ = _mark(node)
    try:
        _check_shape(node)
        value = loader.construct_object(node, deep=True)
    except _Refused as error:
        file.found.at(*error.place, str(error), error.fix)
    except yaml.constructor.ConstructorError as error:
        mark = error.problem_mark or node.start_mark
        file.found.at(mark.line + 1, mark.column + 1, str(error.problem), "write plain YAML, without tags")
    else:
        file.add(value, line, lambda loc: _mark(_node_at(node, loc)))


def _check_shape(row: yaml.Node) -> None:
    """A mapping, no field named twice (the loader would keep the last), no aliases that expand without end."""
    if not isinstance(row, yaml.MappingNode):
        raise _Refused(row, "a row is a mapping of fields", "write `- field: value`")
    level: list[yaml.Node] = [row]
    count = 0
    for _ in range(limits.DEPTH_MAX + 1):
        for node in level:
            _refuse_repeated_keys(node)
        level = [child for node in level for child in _children(node)]
        count += len(level)
        if count > ROW_NODES_MAX:
            raise _Refused(row, f"the row has more than {ROW_NODES_MAX:,} values", "split it, or use fewer aliases")
    if level:
        raise _Refused(row, f"the row is nested deeper than {limits.DEPTH_MAX}", "a row's fields are at most two deep")


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [value for _, value in node.value]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _refuse_repeated_keys(node: yaml.Node) -> None:
    seen: set[str] = set()
    for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
        if not isinstance(key, yaml.ScalarNode):
            raise _Refused(key, "a field's name must be a text", "write `field: value`")
        if key.value in seen:
            raise _Refused(key, f"`{key.value}` stands twice in one row", "keep one of them")
        seen.add(key.value)


def _node_at(node: yaml.Node, loc: Sequence[int | str]) -> yaml.Node:
    """The innermost node on the way to a field; a missing field is its row's."""
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            inner = next((value for key, value in node.value if key.value == part), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            inner = node.value[part]
        else:
            inner = None
        if inner is None:
            break
        node = inner
    return node


def _mark(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


# --- JSON lines ---


def _read_jsonl(file: _File) -> None:
    for line, text in enumerate(file.lines, 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            column = error.colno if isinstance(error, json.JSONDecodeError) else 1
            file.found.at(line, column, f"not a JSON object: {message}", "write one object in each line")
        else:
            file.add(value, line)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise ValueError(f"`{name}` stands twice")
        members[name] = value
    return members


# --- CSV ---


def _read_csv(file: _File) -> None:
    records = _csv_records(file)
    header = next(records, None)
    if header is None:
        return
    columns = [name.strip() for name in header.cells]
    if len(columns) > COLUMNS_MAX:
        message = f"{len(columns):,} columns; a row has at most {COLUMNS_MAX}"
        file.found.at(header.line, 1, message, "is it a CSV file with one column a field?")
        return
    types = _column_types(file, header, columns)
    if types is None:
        return
    for record in records:
        if not any(cell.strip() for cell in record.cells):
            continue
        if len(record.cells) != len(columns):
            message = f"{len(record.cells)} cells, the header has {len(columns)}"
            file.found.at(record.line, 1, message, "quote cells that hold commas")
            continue
        file.add(_nested(columns, types, record.cells), record.line, partial(_cell_at, record, columns))


@dataclass(frozen=True, slots=True)
class _Record:
    """One record of a CSV file.

    Attributes:
        line: where it begins, counted from 1.
        cells: their values.
        text: the lines it stands on.
    """

    line: int
    cells: Sequence[str]
    text: Sequence[str]

    def place(self, index: int) -> Place:
        """Where a cell begins. The library does not tell, and only a mistake asks."""
        begin, quoted, quotes_count = (self.line, 1), False, False
        for number, text in enumerate(self.text, self.line):
            for column, char in enumerate(text, 1):
                if index == 0:
                    return begin
                if char == '"' and (quotes_count or begin == (number, column)):
                    quotes_count, quoted = True, not quoted
                elif char == "," and not quoted:
                    begin, quotes_count, index = (number, column + 1), False, index - 1
        return begin


def _cell_at(record: _Record, columns: Sequence[str], loc: Sequence[int | str]) -> Place:
    """The cell of a field or of what is in it; a missing field is its record's."""
    path = [str(part) for part in loc]
    at = (index for index, column in enumerate(columns) if column.split(".") == path[: column.count(".") + 1])
    index = next(at, None)
    return (record.line, 1) if index is None else record.place(index)


def _csv_records(file: _File) -> Iterator[_Record]:
    reader = csv.reader(io.StringIO(file.text, newline=""), strict=True)
    begins = 1
    try:
        for cells in reader:
            yield _Record(begins, cells, file.lines[begins - 1 : reader.line_num])
            begins = reader.line_num + 1
    except csv.Error as error:
        file.found.at(begins, 1, f"not CSV: {error}", "correct the quotes")


def _column_types(file: _File, header: _Record, columns: Sequence[str]) -> list[str] | None:
    """The JSON type of each column; None if the header is wrong."""
    schema = TABLES[file.table].model_json_schema()
    types: list[str] = []
    for at, column in enumerate(columns):
        kind = _type_of(schema, column.split("."))
        if column in columns[:at]:
            file.found.at(*header.place(at), f"the column `{column}` stands twice", "keep one of them")
        elif kind is None:
            fix = did_you_mean(column, schema["properties"])
            file.found.at(*header.place(at), f"`{column}` is no field of {file.table}", fix)
        types.append(kind or "")
    return None if file.found.failed else types


def _type_of(schema: Mapping[str, Any], path: Sequence[str]) -> str | None:
    """The JSON Schema type of a field by its path; None if there is no such plain field."""
    node: Mapping[str, Any] = schema
    for name in path:
        free = next(iter(node.get("patternProperties", {}).values()), None)  # a mapping with names of one's own
        inner = node.get("properties", {}).get(name, free)
        if not isinstance(inner, dict):
            return None
        node = schema["$defs"][inner["$ref"].rpartition("/")[2]] if "$ref" in inner else inner
    if "anyOf" in node:
        return "string"  # only texts that may be empty are a choice of types in a row
    kind = str(node.get("type"))
    return None if kind == "object" else kind


def _nested(columns: Sequence[str], types: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column, kind, cell in zip(columns, types, cells, strict=True):
        if not cell.strip():
            continue
        *outer, name = column.split(".")
        inner = row
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[name] = _cell(cell.strip(), kind)
    return row


def _cell(text: str, kind: str) -> object:
    """A cell as its field's type; what does not look like it stays text, and the schema says what is wrong."""
    if kind == "array":
        return (
            json.loads(text)
            if text.startswith("[") and _is_json(text)
            else [part.strip() for part in text.split(";") if part.strip()]
        )
    if kind in {"integer", "number", "boolean"} and _is_json(text.lower()):
        return json.loads(text.lower())
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text, object_pairs_hook=_object)
    except ValueError:
        return False
    return True


_READERS: Final[dict[str, Callable[[_File], None]]] = {
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
}
