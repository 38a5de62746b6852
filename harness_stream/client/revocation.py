"""Whether an approval was taken back, for the code that runs on it: to be polled, waited for, or told.

Rule of this file: once set it stays set, and the first reason stays. It is set by the enforcer's thread, so what is
told must not wait.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING

from harness_stream.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CURRENT: ContextVar[Revocation] = ContextVar("harness_revocation")


class Revocation:
    """As a `threading.Event`: `is_set()`, `wait(timeout)`; and why.

    Attributes:
        reason: a word of `core.reasons.Revoke`; empty while the approval stands.
    """

    def __init__(self) -> None:
        self._process_id = os.getpid()
        self.reason = ""
        self._event = threading.Event()
        self._lock = threading.Lock()
        self._told: dict[object, Callable[[], None]] = {}

    def is_set(self) -> bool:
        """Was the approval taken back? Then stop, as soon and as cleanly as can be.

        Raises:
            CallerError: this is a forked process, which is never told.
        """
        self._require_own_process()
        return self._event.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is, at most `timeout` seconds; whether it is. Raises as `is_set`."""
        self._require_own_process()
        return self._event.wait(timeout)

    def set(self, reason: str) -> None:
        """Take the approval back; only its enforcer does."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            told = list(self._told.values())
        for tell in told:
            tell()

    def _require_own_process(self) -> None:
        if os.getpid() != self._process_id:
            raise CallerError(
                "a forked process is not told when the approval is taken back",
                hint="look at it in the process that asked, and end this one from there",
            )

    @contextmanager
    def telling(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call `tell` once, from any thread, if this is set before the body ends or was so before."""
        with self._lock:
            self._told[tell] = tell
            already = self._event.is_set()
        if already:
            tell()
        try:
            yield
        finally:
            with self._lock:
                del self._told[tell]


def revoked() -> Revocation:
    """Of the guarded call that this code runs in: blocking code looks at it between steps, and stops if it is set.

    Raises:
        CallerError: this code runs in no guarded call.
    """
    found = _CURRENT.get(None)
    if found is None:
        hint = "call it in a function that is guarded; after `decide` it is `verdict.revoked`"
        raise CallerError("this code runs in no guarded call", hint=hint)
    return found


@contextmanager
def current(revocation: Revocation) -> Iterator[None]:
    """While the body runs, `revoked()` gives this one."""
    token = _CURRENT.set(revocation)
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def cancelling(revocation: Revocation, error: Callable[[], Exception]) -> Iterator[None]:
    """Cancel the body, which awaits, when the approval is taken back; then `error()` is raised in place of that.

    As `asyncio.timeout` does: who cancels the task itself is not mistaken for us, and the task goes on behind the body.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    before = 0 if task is None else task.cancelling()
    inside, ours = True, False

    def cancel() -> None:
        nonlocal ours
        if inside and task is not None:
            ours = task.cancel()

    def tell() -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile: nothing runs in it any more
            loop.call_soon_threadsafe(cancel)

    try:
        with revocation.telling(tell):
            yield
    except asyncio.CancelledError:
        if ours and task is not None and task.cancelling() == before + 1:
            raise error() from None
        raise
    finally:
        inside = False
        if ours and task is not None:
            task.uncancel()
