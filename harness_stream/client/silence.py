"""What a client says when no answer came: what is known, and what to look at next.

Rule of this file: pure; a message never claims that a record did not land unless it was never handed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.client.answer import Reason
from harness_stream.core import limits
from harness_stream.core.reasons import Client
from harness_stream.errors import TimedOut, Unreachable

if TYPE_CHECKING:
    from harness_stream.client.following import Following
    from harness_stream.client.request import Waiting

# A live worker writes a checkpoint a second while busy; clocks of two machines may differ by CLOCK_SKEW_MS_MAX.
RECENT_MS: Final = 2 * limits.CHECKPOINT_INTERVAL_MS + limits.CLOCK_SKEW_MS_MAX


def not_published(subject: str, following: Following) -> Unreachable:
    """It was never handed over: the end of its partition could not be found."""
    if following.broken:
        reason = Reason(Client.LOG_CONTRADICTS, following.broken)
    else:
        reason = Reason(Client.NOT_PUBLISHED, f"the end of partition {following.partition} could not be read")
    return Unreachable(f"{subject} was not published: {reason.detail}", hint=reason.hint, reasons=(reason,))


def not_confirmed(waiting: Waiting, error: str | None) -> Unreachable:
    """It was handed over, and the broker did not confirm it."""
    reason = Reason(Client.UNCONFIRMED, error or "no delivery report")
    message = f"the broker did not confirm {waiting.request.subject} (partition {waiting.partition}): {reason.detail}"
    return Unreachable(f"{message}; unknown whether it landed, nothing was run", hint=reason.hint, reasons=(reason,))


def no_answer(waiting: Waiting, following: Following, now_ms: int) -> TimedOut:
    """It is in the log, and nothing that counts answered it in time."""
    reason = _cause(waiting, following, now_ms)
    place = f"offset {waiting.offset} of partition {waiting.partition}"
    message = f"no answer to {waiting.request.subject} within {waiting.request.deadline_ms:,} ms; it is at {place}"
    return TimedOut(f"{message}; {reason.detail}; nothing was run", hint=reason.hint, reasons=(reason,))


def _cause(waiting: Waiting, following: Following, now_ms: int) -> Reason:
    sign, next_input = following.head.sign, following.head.place.header.next_input
    if waiting.foreign:
        return Reason(Client.FOREIGN_ANSWER, "a verdict for this id names another intent and was ignored")
    if sign is None and following.head.place.header.epoch == 0:
        return Reason(Client.NO_WORKER, "no worker has ever claimed the partition")
    seen = "nothing was heard of a worker since this process began to read"
    if sign is not None:
        seen = f"the last sign of a worker ({sign.kind}) is {max(now_ms - sign.append_ms, 0) / 1000:.1f} s old"
    if waiting.offset is not None and next_input > waiting.offset:
        return Reason(Client.NO_ANSWER, f"{seen}, it has covered this record")
    if sign is None or now_ms - sign.append_ms > RECENT_MS:
        return Reason(Client.WORKER_SILENT, seen)
    return Reason(Client.BEHIND, f"{seen}, it has come to offset {next_input}")


def cannot_connect(bootstrap: str, detail: str) -> Unreachable:
    """Nothing was published yet: the log could not be reached at all."""
    reason = Reason(Client.NOT_PUBLISHED, detail)
    return Unreachable(f"no connection to {bootstrap}: {detail}", hint=reason.hint, reasons=(reason,))
