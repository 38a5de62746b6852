"""One event of a case: from its short words to the fields of its schema, checked by the schema itself.

Rule: whatever a worker would refuse as garbage is a mistake here, at its place. What a case leaves out (ids, digests,
nonce, workload) is filled in when it runs, as in `harness replay`; here it only stands in, so that the rest is checked.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from harness_stream.core import limits
from harness_stream.core.cases.defaults import filled
from harness_stream.core.cases.expectation import ExpectationReader
from harness_stream.core.cases.model import Step
from harness_stream.core.cases.timing import offset_ms
from harness_stream.core.cases.words import (
    AT,
    AT_MS_DEFAULT,
    EVENTS_MAX,
    EXPIRES_MS_DEFAULT,
    FIELDS,
    GIVEN_KEYS,
    INTENT,
    NUMBER_MARK,
    REPEAT,
    REPEAT_KEYS,
    REQUIRED,
    TABLE,
    THEN,
    TYPE,
)
from harness_stream.core.model import EVENTS, TABLES
from harness_stream.core.refusals import refusals
from harness_stream.core.rules.mistakes import Code, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness_stream.core.rules.document import Item, Value

_UUID: Final = "00000000-0000-7000-8000-000000000000"
_DIGEST: Final = "0" * limits.DIGEST_DIGITS
_STAND_INS: Final[Mapping[str, Mapping[str, Any]]] = {
    INTENT: {
        "intent_id": _UUID,
        "workload_id": "w",
        "arguments_digest": _DIGEST,
        "enforcer_nonce": "0" * limits.NONCE_DIGITS,
    },
    "mandate": {"mandate_id": _UUID},
    "outcome": {"outcome_id": _UUID, "intent_id": _UUID, "verdict_digest": _DIGEST},
    "approval": {"approval_id": _UUID, "hold_digest": _DIGEST, "hold_offset": 0},
}
# What the patterns of the schemas mean, for the fields people get wrong.
_MEANS: Final[Mapping[str, tuple[str, str]]] = {
    "action": ("is not an action", "write a dotted verb, such as `crm.read`"),
    "resources": ("is not a resource", "write a URI with its scheme, such as `crm://customers/7`"),
    "measures": ("is not a measure", "write a number of 0 or more, with at most 6 decimals"),
    "agent": ("is not an id", "write it without blanks"),
}
_SEE_SCHEMA: Final = "see the event's schema in schemas/"
_ABOUT: Final = ("of", "parent")


class EventReader(ExpectationReader):
    """Reads the events of one case; `now_ms` and the number of given entries are known."""

    now_ms: int = 0

    def given(self, item: Item, index: int) -> list[Step]:
        """One entry of `given`, its repetitions written out."""
        kind, keys = self._typed(item, GIVEN_KEYS)
        then = self.expectation(keys[THEN], index) if THEN in keys else None
        times, every_ms = self._repeat(keys.get(REPEAT), kind)
        at_ms = self._at(keys.get(AT), default=AT_MS_DEFAULT if REPEAT not in keys else -times * every_ms)
        if at_ms + (times - 1) * every_ms > 0:
            message = "this happens after the judged event, which is now"
            self.wrong(keys.get(AT) or item, Code.BAD_VALUE, message, "write a time before it, such as `-5m`")
        of, parent = self._about(keys, index)
        numbers = range(1, times + 1) if REPEAT in keys else (None,)
        fields = [self._fields(kind, item, keys, number, at_ms) for number in numbers]
        return [Step(index, at_ms + n * every_ms, kind, f, of, parent, then, item) for n, f in enumerate(fields)]

    def judged(self, item: Item, given: int) -> Step:
        """The `when` of a case."""
        kind, keys = self._typed(item, ())
        if kind == TABLE:
            fix = "put it into `given`, and judge an event"
            self.wrong(item, Code.BAD_VALUE, "a change of a table is not judged", fix)
        fields = self._fields(kind, item, keys, None, 0)
        return Step(None, 0, kind, fields, *self._about(keys, given), None, item)

    def _typed(self, item: Item, more: Sequence[str]) -> tuple[str, dict[str, Item]]:
        """The event's type and its keys; an event without one is an intent."""
        inner = item.value.get(TYPE) if isinstance(item.value, dict) else None
        kind = self.word(inner, tuple(FIELDS), TYPE, INTENT)
        what = f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        return kind, self.mapping(item, (TYPE, *more, *FIELDS[kind]), REQUIRED[kind], what)

    def _at(self, item: Item | None, *, default: int) -> int:
        return default if item is None else self.offset(item, AT)

    def offset(self, item: Item, key: str) -> int:
        """A time relative to now."""
        found = offset_ms(item.value)
        if found is None:
            fix = "write it relative to now, with d, h, m, s or ms: `-30m`, `-1h30m`, `-30m1ms`"
            self.wrong(item, Code.BAD_VALUE, f"`{key}` is not a time", fix)
        return found or 0

    def _repeat(self, item: Item | None, kind: str) -> tuple[int, int]:
        if item is None:
            return 1, 0
        if kind == TABLE:
            self.wrong(item, Code.BAD_VALUE, "a change of a table is not repeated", "remove `repeat`")
        keys = self.mapping(item, REPEAT_KEYS, REPEAT_KEYS, "`repeat`")
        times = self.whole(keys["times"], "times", 1, EVENTS_MAX) if "times" in keys else 1
        return times, max(0, self.offset(keys["every"], "every")) if "every" in keys else 0

    def _about(self, keys: Mapping[str, Item], before: int) -> tuple[int | None, int | None]:
        """Which entries of `given` `of` and `parent` name."""
        of, parent = (None if (item := keys.get(key)) is None else self.earlier(item, key, before) for key in _ABOUT)
        return of, parent

    # --- fields ---

    def _fields(
        self, kind: str, item: Item, keys: Mapping[str, Item], number: int | None, at_ms: int
    ) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        for key, name in FIELDS[kind].items():
            if key in keys and name:
                fields[name] = _plain(keys[key], number)
        if isinstance(fields.get("resources"), str):
            fields["resources"] = [fields["resources"]]
        if isinstance(fields.get("measures"), dict):
            fields["measures"] = {name: _measure(value) for name, value in fields["measures"].items()}
        if kind == "mandate" and not fields.get("close"):
            expires = self.offset(keys["expires"], "expires") if "expires" in keys else at_ms + EXPIRES_MS_DEFAULT
            fields["expires_at"] = self.now_ms + expires
        if kind == TABLE:
            self._row_change(item, fields, keys)
        elif number in {None, 1}:
            self._validate(kind, item, fields, keys)
        return fields

    def _row_change(self, item: Item, fields: dict[str, Any], keys: Mapping[str, Item]) -> None:
        table = fields.get("table")
        if table not in TABLES:
            known = did_you_mean(str(table), TABLES)
            self.wrong(keys.get("table", item), Code.UNKNOWN_WORD, f"`table` is one of {', '.join(TABLES)}", known)
        elif "row" not in keys:
            self.wrong(item, Code.MISSING_KEY, "a change of a table needs `row`", "add `row: {…}`; null deletes `key`")
        elif keys["row"].value is None and "key" not in keys:
            self.wrong(item, Code.MISSING_KEY, "which row is deleted?", "add `key: …`")
        elif isinstance(keys["row"].value, dict):
            fields["row"] = filled(str(table), fields["row"], (), self.now_ms)
            self.validated(TABLES[table], fields["row"], keys["row"], {})
        elif keys["row"].value is not None:
            self.wrong(keys["row"], Code.WRONG_TYPE, "a row is written as `field: value`", "write `row: {…}`")

    def _validate(self, kind: str, item: Item, fields: Mapping[str, Any], keys: Mapping[str, Item]) -> None:
        agent = fields.get("agent_id", "a")
        whole = {"v": 1, "realm": "r", "agent_id": agent, "by": agent, **_STAND_INS[kind], **fields}
        for name in (FIELDS[kind][key] for key in REQUIRED[kind] if key not in keys):
            whole.setdefault(name, _SOMETHING.get(name, "a"))  # its absence is a mistake already
        names = {name: key for key, name in FIELDS[kind].items() if name}
        self.validated(EVENTS[kind], whole, item, names)

    def validated(self, model: Any, value: object, item: Item, names: Mapping[str, str]) -> Any:  # noqa: ANN401  a model and what it makes
        """The value as its model reads it; every mistake at its place, and None.

        Args:
            model: the pydantic model.
            value: plain data.
            item: where it stands.
            names: field → the key it was written with, where they differ.
        """
        try:
            return model.model_validate_json(json.dumps(value))
        except ValidationError as error:
            errors = refusals(error)
            # What was filled in is only wrong because of what was written.
            own = [e for e in errors if not e.loc or names.get(str(e.loc[0]), e.loc[0]) in item.value]
            for found in own or errors:
                if found.kind == "extra_forbidden":
                    self._unknown(found.loc, item, model)
                else:
                    self._refuse(*found, item, names)
        except (ValueError, RecursionError) as error:
            self.wrong(item, Code.BAD_VALUE, f"cannot be written as JSON: {error}", _SEE_SCHEMA)
        return None

    def _unknown(self, loc: tuple[int | str, ...], item: Item, model: Any) -> None:  # noqa: ANN401  a model
        *above, name = map(str, loc)
        holder, _ = _inside(item, above)
        fix = _SEE_SCHEMA if above else did_you_mean(name, model.model_fields)
        message = f"`{'.'.join((*above, name))}` is no field here"
        self.wrong(holder.keys.get(name, holder), Code.UNKNOWN_KEY, message, fix)

    def _refuse(
        self, kind: str, loc: tuple[int | str, ...], message: str, item: Item, names: Mapping[str, str]
    ) -> None:
        steps = [names.get(str(loc[0]), str(loc[0])), *map(str, loc[1:])] if loc else []
        place, below = _inside(item, steps)
        name = ".".join(steps) if steps else "this"
        if kind == "missing":
            self.wrong(place, Code.MISSING_KEY, f"`{name}` is missing", f"add `{steps[-1]}: …`")
        elif steps and steps[0] in _MEANS and below:
            what, fix = _MEANS[steps[0]]
            self.wrong(place, Code.BAD_VALUE, f"`{place.value}` {what}", fix)
        else:
            fix = "write it in quotes" if kind == "string_type" and below else _SEE_SCHEMA
            self.wrong(place, Code.BAD_VALUE, f"`{name}`: {message}" if steps else message, fix)


_SOMETHING: Final[Mapping[str, Any]] = {"action": "a.b", "status": "done", "decision": "approve"}


def _inside(item: Item, steps: Sequence[str]) -> tuple[Item, bool]:
    """The deepest item on a way, and whether it is a single value."""
    for step in steps:
        value: Value = item.value
        if isinstance(value, dict) and step in value:
            item = value[step]
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            item = value[int(step)]
        else:
            break
    return item, not isinstance(item.value, dict | list)


def _plain(item: Item, number: int | None) -> Any:  # noqa: ANN401  any value of YAML
    """An item without its places; in the texts of a repeated event `{n}` is its number."""
    value: Value = item.value
    if isinstance(value, dict):
        return {key: _plain(child, number) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child, number) for child in value]
    return value.replace(NUMBER_MARK, str(number)) if isinstance(value, str) and number is not None else value


def plain(item: Item) -> Any:  # noqa: ANN401  any value of YAML
    """An item without its places."""
    return _plain(item, None)


def _measure(value: object) -> object:
    """A number with decimals as a decimal text: JSON's own are not exact (PROTOCOL §9)."""
    return format(value, "f").rstrip("0").rstrip(".") if isinstance(value, float) else value
