"""A failing run made small: steps are left out for as long as the same promise is broken (PROTOCOL §10).

Rule of this file: greedy, and bounded in time; a run that is not as small as it could be is still one to begin with.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.faults import FAULTS
from tests.simulation.judge import check, watched
from tests.simulation.script import MIXES, played, script, short_histories, world_of
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.script import Step
    from tests.simulation.world import World

# What somebody waits for after a failure; a step of it takes some 50 ms.
SHRINK_S_MAX = 40.0


class Failure(NamedTuple):
    """How a run ended.

    Attributes:
        what: the promise that was broken, or the type of an error; runs that differ in it fail differently.
        told: in full.
        trace: what happened, a line each.
    """

    what: str
    told: str
    trace: Sequence[str]


def proven(seed: int, steps: Sequence[Step] | None = None, *, signed: bool = False) -> World:
    """Run a seed, or some of its steps, and hold it against the promises.

    Raises:
        Violation: one is broken; any other error is one of the product.
    """
    world = world_of(seed, signed=signed)
    return _proven(world, script(seed) if steps is None else steps)


def _proven(world: World, steps: Sequence[Step]) -> World:
    world.watch = lambda member, record: watched(world, member, record)
    with short_histories(world.seed):
        played(world, steps)
        check(world)
    return world


def failure(seed: int, steps: Sequence[Step]) -> Failure | None:
    """How these steps fail, None if they don't."""
    world = world_of(seed)
    try:
        _proven(world, steps)
    except Exception as error:  # noqa: BLE001  whatever the product raises is how this run ended
        what = error.invariant if isinstance(error, Violation) else type(error).__name__
        return Failure(what, f"{type(error).__name__}: {error}", world.trace)
    return None


def shrunk(seed: int, steps: Sequence[Step], seconds_max: float = SHRINK_S_MAX) -> list[Step]:
    """The fewest steps found that still fail as all of them do."""
    began_s, first = time.monotonic(), failure(seed, steps)
    if first is None:
        raise ValueError("these steps do not fail")

    def fails(some: Sequence[Step]) -> bool:
        if time.monotonic() - began_s > seconds_max:
            return False
        found = failure(seed, some)
        return found is not None and found.what == first.what

    left = list(steps)
    for kind in [kind for kind in {step.kind: None for step in left} if kind in FAULTS]:
        left = _without(left, [step for step in left if step.kind != kind], fails)
    left = _fewer(left, fails)
    return _calmer(left, fails)


def _without(steps: list[Step], fewer: list[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    return fewer if fails(fewer) else steps


def _fewer(steps: list[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Leave out halves, quarters and so on; the last ones first, since most of them come too late to matter."""
    size = max(1, len(steps) // 2)
    while True:
        before = len(steps)
        for first in reversed(range(0, len(steps), size)):
            steps = _without(steps, steps[:first] + steps[first + size :], fails)
        if size == 1 and len(steps) == before:
            return steps
        size = max(1, size // 2)


def _calmer(steps: list[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """Fewer turns after each step."""
    for place, step in enumerate(steps):
        for turns in range(step.turns):
            fewer = [*steps[:place], step._replace(turns=turns), *steps[place + 1 :]]
            if fails(fewer):
                steps = fewer
                break
    return steps


# --- As a person is told ---


def named(steps: Sequence[Step]) -> str:
    """Steps as the command takes them: index:turns."""
    return ",".join(f"{step.index}:{step.turns}" for step in steps)


def chosen(seed: int, text: str, steps_of: Callable[[int], list[Step]] = script) -> list[Step]:
    """The steps that `named` named, of those that a seed has.

    Raises:
        ValueError: it is no such text.
    """
    if not re.fullmatch(r"(\d+:\d+(,\d+:\d+)*)?", text):
        raise ValueError(f"`{text}` is no list of index:turns")
    steps = {step.index: step for step in steps_of(seed)}
    pairs = [part.split(":") for part in text.split(",") if part]
    if unknown := [index for index, _ in pairs if int(index) not in steps]:
        raise ValueError(f"seed {seed} has no step {unknown[0]}; it has {min(steps)} to {max(steps)}")
    return [steps[int(index)]._replace(turns=int(turns)) for index, turns in pairs]


def told(seed: int, steps_of: Callable[[int], list[Step]] = script) -> str | None:
    """A failing seed's smallest run, its trace and the command that replays it; None if it does not fail."""
    steps = steps_of(seed)
    if failure(seed, steps) is None:
        return None
    fewest = shrunk(seed, steps)
    found = failure(seed, fewest)
    if found is None:
        return f"seed {seed} fails now and then: it is no function of its seed"
    trace = "\n".join(f"  {line}" for line in found.trace)
    mix = next(name for name, steps in MIXES.items() if steps is steps_of)
    command = f"python -m tests.simulation {seed} '{named(fewest)}'{'' if steps_of is script else f' --mix {mix}'}"
    return f"seed {seed}, {len(fewest)} of {len(steps)} steps are enough:\n{trace}\n{found.told}\nagain: {command}"
