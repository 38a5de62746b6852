"""Which CPUs a measurement gives to whom.

Rule of this file: a process runs where the one that started it ran at that moment; nothing is moved while it runs.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def shared_out() -> tuple[frozenset[int], frozenset[int]]:
    """A CPU for a worker alone and those for everybody else; on a machine with one CPU both are that one."""
    *others, last = sorted(os.sched_getaffinity(0))
    return frozenset({last}), frozenset(others or {last})


@contextmanager
def only_on(cpus: frozenset[int]) -> Iterator[None]:
    """This thread, and what it starts meanwhile, runs on these CPUs; none: on those on which it runs already."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
