"""Answers that are remembered: bounded, and without a reference back to who is asked.

Rule of this file: a set of rules that is out of force leaves memory by its count alone, so nothing here holds it.
(`functools.lru_cache` of a method would: the cache is held by the object that it holds.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

K = TypeVar("K")
V = TypeVar("V")


def remembered(memory: dict[K, V], key: K, ask: Callable[[K], V], at_most: int) -> V:
    """The answer for a key, asked once for as long as it is among the newest `at_most` keys."""
    try:
        return memory[key]
    except KeyError:
        pass
    if len(memory) >= at_most:
        del memory[next(iter(memory))]
    answer = memory[key] = ask(key)
    return answer
