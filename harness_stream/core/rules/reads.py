"""What a rule set reads: of which rows, of which tables, of an event.

Rule: everything here follows from the checked expressions, so what is not listed cannot change an answer.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core.rules.language import FRESH_TABLES, TABLES, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.core.rules.check import Checked
    from harness_stream.core.rules.parse import Correlation

_RESOURCE: Final = "resource"


class Cut:
    """Cuts a view of an event down to the fields that are read: CEL converts a map as a whole before it reads any.

    Args:
        paths: what is read; those of `event` and `intent` count.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        fields = [path.split(".")[1:] for path in paths if path.startswith(("event.", "intent."))]
        self._plain = tuple(sorted({field[0] for field in fields if field[0] != _RESOURCE}))
        self._resource = tuple(sorted({field[1] for field in fields if field[0] == _RESOURCE}))

    def __call__(self, view: Mapping[str, Any]) -> Mapping[str, Any]:
        """The view's part, or the view itself if it lacks something: then reading that is an error as it always was."""
        try:
            part = {name: view[name] for name in self._plain}
            if self._resource:
                resource = view[_RESOURCE]
                part[_RESOURCE] = {name: resource[name] for name in self._resource}
        except Exception:  # noqa: BLE001  whatever a view is, an intent must get an answer
            return view
        return part


class Given:
    """Cuts the variables of conditions down to what is read, for the same reason.

    Args:
        paths: what is read; `event` is another word for `intent`.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        paths = frozenset(paths)
        self._view = Cut(paths)
        fields: dict[str, set[str]] = {}
        for root, _, field in (path.partition(".") for path in paths):
            fields.setdefault(root, set()).add(field)
        whole = {root for root, names in fields.items() if any(not name or "." in name for name in names)}
        rows = {root: () if root in whole else tuple(sorted(names)) for root, names in sorted(fields.items())}
        self._rows = tuple((root, names) for root, names in rows.items() if root not in {"event", "intent"})

    def __call__(self, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is read of the variables; all of them if one is not there, or is not what it should be."""
        try:
            given = {"intent": self._view(variables["intent"])}
            for root, names in self._rows:
                row = variables[root]
                # An absent row has none of its fields: reading one is an error as it always was.
                given[root] = {name: row[name] for name in names if name in row} if names else row
        except Exception:  # noqa: BLE001  whatever variables are, an intent must get an answer
            return variables
        return given


def fields_read(checked: Checked) -> Mapping[str, frozenset[str]]:
    """For each row a rule can name, the fields that any `when` names."""
    paths = [path.partition(".") for condition in checked.conditions for path in condition.reads]
    return MappingProxyType({table: frozenset(rest for root, _, rest in paths if root == table) for table in TABLES})


def tables_read(checked: Checked, index: int, window: Correlation | None) -> frozenset[str]:
    """The tables that have to be fresh for one rule and its window."""
    condition = checked.conditions[index]
    names = {*condition.uses.values(), *(window.selections if window else ())}
    paths: set[str] = set(condition.reads).union(*(checked.selections[name].reads for name in names))
    if window:
        paths.update(f"event.{path}" for path in _window_paths(window))
    return frozenset(_tables(paths)) & frozenset(FRESH_TABLES)


def _window_paths(window: Correlation) -> Iterable[str]:
    yield from window.group_by
    if window.condition and window.condition.field:
        yield window.condition.field


def _tables(paths: set[str]) -> Iterable[str]:
    for path in paths:
        table = table_of(path)
        if table:
            yield table
