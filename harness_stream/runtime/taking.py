"""Units take in the records that changed them while nobody looked (`core.deferred`).

Rule of this file: they are folded by `core.apply` like all others, apart from everything else in memory, and come back
whole. A record that cannot be read halts the partition, whoever comes upon it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness_stream.core.apply import apply, apply_within, change_of
from harness_stream.core.deferred import units_in
from harness_stream.core.ids import is_of_ids
from harness_stream.core.partition import Signal
from harness_stream.core.records import RECORDS
from harness_stream.core.refusals import refusals
from harness_stream.core.state import PARTITION_UNIT, State
from harness_stream.wire.decisions import body_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from harness_stream.core.deferred import Deferred, Told
    from harness_stream.core.rules.windows import Windows
    from harness_stream.errors import LogDamaged

UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What free parts that no schema checks raise, of a version that writes others."""


class CannotLoadError(Exception):
    """Loading ends with this signal; `why` is for people."""

    def __init__(self, signal: Signal, why: str) -> None:
        super().__init__(why)
        self.signal, self.why = signal, why


class CannotReadError(CannotLoadError):
    """What is stored of a log cannot be read; who can do without it goes on."""

    def __init__(self, damage: LogDamaged) -> None:
        super().__init__(Signal.UNEXTENDABLE, damage.message)


def unreadable(offset: int, error: Exception) -> CannotLoadError:
    """The error for an effective record whose free parts cannot be read."""
    why = f"what the effective record at {offset} changes cannot be read: {type(error).__name__}: {error}"
    return CannotLoadError(Signal.UNEXTENDABLE, why)


def take_in(state: State, group: str, windows: Windows, enough: Callable[[], bool]) -> frozenset[str]:
    """Fold what a group waits for, all of it or until it is `enough`.

    Args:
        state: the partition's; every stored unit of the group is in memory.
        group: which.
        windows: of the bundle in force, which all of these records were decided by.
        enough: asked after each record.

    Returns:
        Units that changed.

    Raises:
        CannotLoadError: UNEXTENDABLE, a record cannot be read.
    """
    touched, done = set[str](), False
    while group in state.deferred and not done:
        step = _take_run if _is_run(state.deferred.next(group)) else _take_alone
        more, done = step(state, group, windows, enough)
        touched |= more
    return frozenset(touched)


def _is_run(told: Told) -> bool:
    """Do many units of ids wait for it? Then they take it in together: reading it is what costs."""
    return len(told.groups) > 1 and is_of_ids(told.groups[0])


def _take_run(
    state: State, group: str, windows: Windows, enough: Callable[[], bool]
) -> tuple[frozenset[str], bool]:
    """The group's next record, a run's, for every unit here that waits for it next."""
    deferred, beneath = state.deferred, state.beneath()
    told = deferred.next(group)
    groups = [unit for unit in told.groups if deferred.is_next(told, unit) and not state.is_elsewhere(unit)]
    _fold(beneath, [unit for unit in groups if not deferred.holds(unit, told.offset)], told, windows)
    for unit in groups:
        deferred.taken(unit)
    return beneath.touched(), enough()


def _take_alone(
    state: State, group: str, windows: Windows, enough: Callable[[], bool]
) -> tuple[frozenset[str], bool]:
    """What the group waits for, up to a run or until it is enough."""
    deferred, units, done = state.deferred, units_in(group), False
    alone, ahead = _alone(state, units), [unit for unit in units if unit in deferred.ahead]
    try:
        while not done and group in deferred and not _is_run(told := deferred.next(group)):
            held_back = [unit for unit in ahead if deferred.holds(unit, told.offset)]
            if len(held_back) < len(units):
                _fold_but(alone, group, told, windows, held_back)
            deferred.taken(group)
            done = enough()
    finally:
        touched = alone.touched() & {*units}
        for unit in touched:
            state.share(unit, alone.confirmed(unit))
    return touched, done


def take_in_oldest(state: State, windows: Windows, enough: Callable[[], bool]) -> frozenset[str]:
    """Fold what waits in the order of the log, each record once for all units that wait for it.

    It ends when nothing waits any longer, when it is `enough`, or before a record of units that are not in memory.
    What `take_in` does for one group comes to the same, but reads a record anew for each; the rest is as there.
    """
    deferred, beneath, one_by_one = state.deferred, state.beneath(), set[str]()
    while (waiting := deferred.oldest()) is not None:
        told, groups = waiting
        if not state.all_here and _any_elsewhere(state, groups):
            break
        if len(groups) == len(told.groups) and not _any_ahead(deferred, groups, told.offset):
            _fold_into_all(beneath, told, windows)
            for group in groups:
                deferred.taken(group)
        else:
            for group in groups:
                if deferred.is_next(told, group):  # of a run the first one takes it in for all
                    one_by_one |= take_in(state, group, windows, _one_is_enough)
        if enough():
            break
    return beneath.touched() | one_by_one


def _one_is_enough() -> bool:
    return True


def _any_elsewhere(state: State, groups: Iterable[str]) -> bool:
    return any(state.is_elsewhere(unit) for group in groups for unit in units_in(group))


def _any_ahead(deferred: Deferred, groups: Iterable[str], offset: int) -> bool:
    """Does the base of one of these units hold the record already?"""
    return bool(deferred.ahead) and any(deferred.holds(u, offset) for group in groups for u in units_in(group))


def _alone(state: State, units: tuple[str, ...]) -> State:
    """These units and no others, not copied: no layer in flight can hold one that is not whole."""
    alone = State()
    alone.warmed = state.warmed
    for unit in (PARTITION_UNIT, *units):
        values = state.confirmed(unit)
        if values:
            alone.share(unit, values)
    return alone


def _fold_but(alone: State, group: str, told: Told, windows: Windows, held_back: list[str]) -> None:
    """Units of `held_back` hold the record already."""
    before = {unit: dict(alone.confirmed(unit)) for unit in held_back}
    _fold(alone, [group], told, windows)
    for unit, values in before.items():
        changed = alone.confirmed(unit)
        changed.clear()
        changed.update(values)


def _fold(state: State, groups: Sequence[str], told: Told, windows: Windows) -> None:
    body = body_of(told.value)
    if told.groups[0] in groups:
        _require_schema(told.offset, body)
    try:
        change = change_of(body, told.digest)
        if change is not None:
            for group in groups:
                apply_within(state, change, windows, group)
    except UNREADABLE as error:
        raise unreadable(told.offset, error) from None


def _fold_into_all(beneath: State, told: Told, windows: Windows) -> None:
    body = body_of(told.value)
    _require_schema(told.offset, body)
    try:
        change = change_of(body, told.digest)
        if change is not None:
            apply(beneath, change, windows)
    except UNREADABLE as error:
        raise unreadable(told.offset, error) from None


def _require_schema(offset: int, body: Mapping[str, object]) -> None:
    """Its link may have been read where the whole record cannot be (`core.link`)."""
    try:
        model = RECORDS.get(str(body["kind"]))
        if model is None:
            raise CannotLoadError(Signal.UNEXTENDABLE, f"the effective record at {offset} cannot be read")
        model.model_validate(body)
    except ValidationError as error:
        why = f"the effective record at {offset} breaks its schema: {refusals(error)[0]}"
        raise CannotLoadError(Signal.UNEXTENDABLE, why) from None
