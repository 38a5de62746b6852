"""What an action returned, as records of fingerprints: facts for the chain, no text (PROVENANCE §1).

Rule of this file: a structured field is a value, a sentence is text. What stands whole in a field is the field's; what
is found inside other words is free text, whatever the field is called, because whoever wrote the words chose it. What
these places are worth is the decision point's to say. Bounded in values, bytes, text and depth; a result is looked at
and never changed, called or consumed.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import itertools
import pathlib
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from harness_stream.client import atoms, forms
from harness_stream.client.lookalikes import plain
from harness_stream.core import limits

if TYPE_CHECKING:
    from harness_stream.client.fingerprints import Seal
    from harness_stream.client.forms import Atom
    from harness_stream.core.scalars import Place

# As of arguments; the caller waits for it after the action, as long as said there.
RESULT_CHARS_MAX: Final = atoms.ARGUMENTS_CHARS_MAX
# Sixteen for each value that may be told: most fields are flags, nothing, or repeat what was told.
LEAVES_MAX: Final = 16 * limits.OUTCOME_VALUES_MAX
# The rest of an outcome is ids and up to 16 measures: below 2 KiB.
RECORDS_BYTES_MAX: Final = limits.INTENT_BYTES_MAX - 4 * limits.KIB
# As often as sixteen times each value that may be told; a text that goes on like this is no text.
_FOUND_MAX: Final = 16 * limits.OUTCOME_VALUES_MAX
_RECORD_BYTES: Final = len('{"values":[]},')
_GROUP_BYTES: Final = len('{"kind":"identifier","place":"identifier","name":"","values":[]},')
_VALUE_BYTES: Final = limits.FINGERPRINT_DIGITS + len('"",')


@dataclass(frozen=True, slots=True)
class Record:
    """One record an action returned: a mail, a row, a file.

    Attributes:
        identifier: what names it: one value or several.
        fields: structured values by name.
        text: what somebody wrote: one text or several.
    """

    identifier: Any = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    text: Any = ()


Records = Callable[[Any], Iterable[Record]]
"""Takes a result apart, where `records_in` would not know how."""


@dataclass(slots=True)
class Returned:
    """What an outcome says of a result.

    Attributes:
        records: as the schema has them.
        overflow: there was more to tell than an outcome may hold.
        truncated: not all of it was read: too much, too deep, or no data.
    """

    records: list[dict[str, Any]] = field(default_factory=list)
    overflow: bool = False
    truncated: bool = False


def returned(
    result: object, seal: Seal | None, make: Records | None = None, about: Mapping[str, Any] | None = None
) -> Returned:
    """What an outcome says of `result`.

    Args:
        result: what the action returned: data, dataclasses and pydantic models are read, anything else is not.
        seal: None: nothing can be named.
        make: takes it apart; default `records_in`. If it raises, nothing is told, for the action has run all the same.
        about: the call's arguments that name an object, by parameter: the identity of a single record without its own.
    """
    if seal is None or result is None:
        return Returned(truncated=result is not None)
    telling = _Telling(seal)
    try:
        records = iter((records_in if make is None else make)(result))
        first = [*itertools.islice(records, 2)]
        if len(first) == 1 and about and not first[0].identifier:
            first = [dataclasses.replace(first[0], identifier=about)]  # the text of a file is that file's
        for record in itertools.takewhile(telling.has_room, itertools.chain(first, records)):
            telling.tell(record)
    except Exception:  # noqa: BLE001  a caller's function or object may raise anything
        telling.said.truncated = True
    return telling.said


def records_in(result: object) -> Iterator[Record]:
    """Text is free text, an object a record, a list its records; objects in lists inside a record are their own.

    A field whose name says so (`id`, `file_id`, `uri`) holds the record's identifier. An object of nothing but objects
    holds one record under each key. Only keys that look like a schema's (`sender`, `dueDate`) are told as names of
    fields: a map by people's names is better given as records of its own.
    """
    data = _data(result)
    if isinstance(data, list):
        plainly = [item for item in data[: LEAVES_MAX + 1] if not _is_object(item)]
        yield from (_record(_data(item)) for item in data if _is_object(item))
        if plainly:
            yield Record(fields={"": plainly})
    elif isinstance(data, dict) and data and all(map(_is_object, data.values())):
        yield from (_record(_data(value), key) for key, value in data.items())
    elif isinstance(data, dict):
        yield _record(data)
    else:
        yield Record(text=data) if isinstance(data, str) else Record(fields={"": data})


def _is_object(value: object) -> bool:
    return isinstance(_data(value), dict)


def _record(data: dict[Any, Any], key: object = None) -> Record:
    if data.get("type") == "text" and "text" in data:  # how tool protocols wrap a text
        return Record(text=data["text"])
    own = {name: value for name, value in data.items() if atoms.names_record(str(name))}
    rest = {name: value for name, value in data.items() if name not in own}
    return Record(own if key is None else {"": key, **own}, rest)


_AS_IT_IS: Final = frozenset({str, int, float, bool, type(None), dict, list, Decimal})
_LISTS: Final = (list, tuple, set, frozenset, deque)
_NAMES: Final = (uuid.UUID, pathlib.PurePath)
_TIMES: Final = (dt.date, dt.time)


def _data(value: Any) -> Any:  # noqa: ANN401  anything
    """One level of plain data: dict, list, str, int, float, Decimal, bool or None; anything else cannot be read."""
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, enum.Enum):
        return _data(value.value)
    if isinstance(value, (str, int, float, Decimal)):
        return value
    if isinstance(value, _LISTS):
        return list(value)
    if isinstance(value, _TIMES):
        return value.isoformat()
    return str(value) if isinstance(value, _NAMES) else _members(value)


def _members(value: Any) -> Any:  # noqa: ANN401  same
    fields = getattr(type(value), "model_fields", None)  # a pydantic model
    if isinstance(fields, dict):
        return {name: getattr(value, name) for name in fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return dict(value) if isinstance(value, Mapping) else _UNREADABLE


_UNREADABLE: Final = object()


class _Telling:
    """Fills a `Returned`, within its limits."""

    def __init__(self, seal: Seal) -> None:
        self.said = Returned()
        self._seal = seal
        self._values_left, self._bytes_left = limits.OUTCOME_VALUES_MAX, RECORDS_BYTES_MAX
        self._chars_left, self._leaves_left = RESULT_CHARS_MAX, LEAVES_MAX
        self._found_left = _FOUND_MAX
        self._groups: dict[tuple[str, Place, str], dict[Atom, None]] = {}

    def has_room(self, record: Record) -> bool:  # noqa: ARG002  asked of every record
        """May there be another record? If not, that is told as well."""
        room = len(self.said.records) < limits.OUTCOME_RECORDS_MAX and self._values_left > 0 and self._leaves_left > 0
        self.said.overflow |= not room
        return room

    def tell(self, record: Record, depth: int = 0) -> None:
        """Add a record, and the records in lists inside of it."""
        self._groups, self._bytes_left = {}, self._bytes_left - _RECORD_BYTES
        inner: list[Record] = []
        self._walk("identifier", "", record.identifier, depth, inner)
        self._walk("field", "", dict(record.fields), depth, inner)
        self._walk("free_text", "", record.text, depth, inner)
        if self._groups:
            groups = [_group(*key, self._seal.all(found)) for key, found in self._groups.items()]
            self.said.records.append({"values": groups})
        for each in itertools.takewhile(self.has_room, inner):
            self.tell(each, depth + 1)

    def _walk(self, place: Place, name: str, value: object, depth: int, inner: list[Record]) -> None:
        data = _data(value)
        self._leaves_left -= 1
        if data is None or isinstance(data, bool):
            return
        if depth > atoms.DEPTH_MAX or self._leaves_left < 0 or data is _UNREADABLE:
            self.said.truncated = True
        elif isinstance(data, dict):
            for key, item in itertools.islice(data.items(), self._leaves_left + 1):
                self._member(place, name, str(key), item, depth, inner)
        elif isinstance(data, list):
            for item in itertools.islice(data, self._leaves_left + 1):
                self._item(place, name, _data(item), depth, inner)
        else:
            self._text(place, name, data if isinstance(data, str) else forms.number_text(data))

    def _item(self, place: Place, name: str, data: object, depth: int, inner: list[Record]) -> None:
        if isinstance(data, dict):
            self._leaves_left -= 1
            inner.append(_record(data))
        else:
            self._walk(place, name, data, depth + 1, inner)

    def _member(self, place: Place, name: str, key: str, value: object, depth: int, inner: list[Record]) -> None:
        """A key that no schema gave is a value, and what stands under it in no field that a table could speak of."""
        path = f"{name}.{key}" if name and key else name or key
        if (key and not atoms.is_schema_key(key)) or len(path) > limits.WORD_CHARS_MAX:
            self._text(place, name, key)
            place, path = "free_text", name
        self._walk(place, path, value, depth + 1, inner)

    def _text(self, place: Place, name: str, raw: str) -> None:
        text = plain(raw).strip() if len(raw) <= self._chars_left else ""
        self._chars_left -= max(len(raw), len(text))  # one character may be drawn as many
        if self._chars_left < 0:
            text = ""
        if self._chars_left < 0 or atoms.is_blob(text):
            self.said.truncated = True
        if not text or self._values_left == 0:
            self.said.overflow |= bool(text)
            return
        if place == "free_text":
            self._add("free_text", name, atoms.offered_by_text(text))
            return
        stands_for_record = place == "identifier" or atoms.names_record(name)
        one, others = atoms.offered_by_value(text, in_place_of_record=stands_for_record)
        self._add(place, name, one)
        self._add("free_text", name, others)

    def _add(self, place: Place, name: str, found: Iterable[Atom]) -> None:
        for atom in found:
            self._found_left -= 1
            if self._found_left < 0:
                self.said.truncated = True
                return
            group = self._groups.get((atom.kind, place, name))
            if group is not None and atom in group:
                continue
            cost = _VALUE_BYTES + (0 if group is not None else _GROUP_BYTES + len(name))
            if self._values_left == 0 or self._bytes_left < cost:
                self.said.overflow = True
                return
            self._groups.setdefault((atom.kind, place, name), {})[atom] = None
            self._values_left, self._bytes_left = self._values_left - 1, self._bytes_left - cost


def _group(kind: str, place: Place, name: str, values: list[str]) -> dict[str, Any]:
    return {"kind": kind, "place": place, **({"name": name} if name else {}), "values": values}
