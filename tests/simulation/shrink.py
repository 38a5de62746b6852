"""A failing run made small: steps are left out for as long as the same promise is broken (PROTOCOL §10).

Rule of this file: greedy, and bounded in time; a run that is not as small as it could be is still one to begin with.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.faults import FAULTS
from tests.simulation.judge import check, watched
from tests.simulation.script import ALL, played, short_histories, world_of
from tests.simulation.world import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.simulation.script import Mix, Step
    from tests.simulation.world import World

# What somebody waits for after a failure; a step of it takes some 50 ms.
SHRINK_S_MAX = 40.0


class Run(NamedTuple):
    """How a run ended.

    Attributes:
        error: a Violation, if a promise was broken; any other is one of the product. None: nothing is wrong.
    """

    world: World
    error: Exception | None

    @property
    def what(self) -> str | None:
        """The promise that was broken, or the type of the error; runs that differ in it fail differently."""
        if self.error is None:
            return None
        return self.error.invariant if isinstance(self.error, Violation) else type(self.error).__name__

    @property
    def told(self) -> str:
        """The error in full."""
        return f"{type(self.error).__name__}: {self.error}" if self.error else "nothing is wrong"


def ran(seed: int, steps: Sequence[Step] | None = None, mix: Mix = ALL) -> Run:
    """Run a seed of a mix, or some of its steps, and hold it against the promises."""
    steps = mix.steps_of(seed) if steps is None else steps
    world = world_of(seed, signed=mix.signed)
    world.watch = lambda member, record: watched(world, member, record)
    try:
        with short_histories(seed):
            played(world, steps)
            check(world)
    except Exception as error:  # noqa: BLE001  whatever the product raises is how this run ended
        return Run(world, error)
    return Run(world, None)


def proven(seed: int, steps: Sequence[Step] | None = None, mix: Mix = ALL) -> World:
    """The world of a run in which nothing was wrong; else its error is raised."""
    run = ran(seed, steps, mix)
    if run.error is not None:
        raise run.error
    return run.world


def shrunk(seed: int, mix: Mix = ALL, seconds_max: float = SHRINK_S_MAX) -> list[Step]:
    """The fewest steps found that still fail as all of them do; all, if they don't fail."""
    began_s, left = time.monotonic(), mix.steps_of(seed)
    what = ran(seed, left, mix).what
    if what is None:
        return left

    def fails(some: Sequence[Step]) -> bool:
        return time.monotonic() - began_s <= seconds_max and ran(seed, some, mix).what == what

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


def chosen(seed: int, text: str, mix: Mix = ALL) -> list[Step]:
    """The steps that `named` named, of those that a seed has.

    Raises:
        ValueError: it is no such text, or no seed of this mix.
    """
    if not re.fullmatch(r"(\d+:\d+(,\d+:\d+)*)?", text):
        raise ValueError(f"`{text}` is no list of index:turns")
    steps = {step.index: step for step in mix.steps_of(seed)}
    pairs = [part.split(":") for part in text.split(",") if part]
    if unknown := [index for index, _ in pairs if int(index) not in steps]:
        raise ValueError(f"seed {seed} has no step {unknown[0]}; it has {min(steps)} to {max(steps)}")
    return [steps[int(index)]._replace(turns=int(turns)) for index, turns in pairs]


def told(seed: int, mix: Mix = ALL) -> str:
    """A failing seed's smallest run, its trace and the command that replays it."""
    steps, fewest = mix.steps_of(seed), shrunk(seed, mix)
    run = ran(seed, fewest, mix)
    if run.error is None:
        return f"seed {seed} fails now and then: it is no function of its seed"
    trace = "\n".join(f"  {line}" for line in run.world.trace)
    command = f"python -m tests.simulation {seed} '{named(fewest)}'{'' if mix is ALL else f' --mix {mix.name}'}"
    return f"seed {seed}, {len(fewest)} of {len(steps)} steps are enough:\n{trace}\n{run.told}\nagain: {command}"
