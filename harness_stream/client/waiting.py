"""Waiting for an enforcer's answer without asyncio. Rule: who stops waiting says so, so that nothing runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


def waited(future: Future[T]) -> T:
    """The future's result; an interrupt withdraws the request."""
    try:
        return future.result()
    except BaseException:
        future.cancel()  # without effect on one that has its answer
        raise
