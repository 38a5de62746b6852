"""An approval that was to be used otherwise than it was given: which errors say so, and that somebody learns of it.

Rule of this file: what is not in the decision log is at least in this process's own, and says that it is not there.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, Final

from harness_stream.alarms import Alarm, sound
from harness_stream.errors import Expired, Misused, Unavailable

if TYPE_CHECKING:
    from concurrent.futures import Future

log = logging.getLogger(__name__)

MISUSES: Final = (Misused, Expired)


def alarm(what: str) -> None:
    """An approval was misused; `what` is a sentence."""
    sound(log, Alarm.APPROVAL_MISUSED, what)


def unpublished(what: str) -> None:
    """The decision log will not say it."""
    alarm(f"{what}; the decision log does not say it")


def watch(report: Future[Any], what: str) -> None:
    """Tell, should the report get lost. One that is refused as a bypass has arrived: that is what it is for."""
    report.add_done_callback(functools.partial(_lost, what))


def _lost(what: str, report: Future[Any]) -> None:
    if not report.cancelled() and isinstance(report.exception(), Unavailable):
        unpublished(what)
