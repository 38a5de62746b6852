"""What a client says when no answer came: what is known, and what to look at next.

Rule of this file: pure; a message never claims that a record did not land unless it was never handed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.client.answer import Reason
from harness_stream.core.reasons import Client
from harness_stream.errors import TimedOut, Unreachable

if TYPE_CHECKING:
    from harness_stream.client.following import Following
    from harness_stream.client.head import Sign
    from harness_stream.client.request import Waiting

START_ONE: Final = "start one with `harness worker`; one that runs says in its log what it waits for"
PUSH_RULES: Final = "push one with `harness rules push`, and start a worker (`harness worker`) if none runs"
# There and back, each time over the broker: what is measured without anything to decide takes some ms on one machine.
ANSWER_MS_LEAST: Final = 5
TOO_SHORT: Final = "nobody can answer within so short a deadline: leave it out, or give at least half a second"
LONGER: Final = "with a longer deadline if the broker is up (`harness status`)"
OTHER_KIND: Final = "is the realm signed by another root, or one of the two unsigned (`dev`)? Ask for new credentials"
# Nobody could find out which: the broker has not said whether the rules topic holds anything.
EITHER: Final = "is a rule set in force (`harness rules status`)? Workers wait for one. Does one run? `harness worker`"


def not_published(subject: str, following: Following) -> Unreachable:
    """It was never handed over: the end of its partition could not be found."""
    if following.broken:
        reason = Reason(Client.LOG_CONTRADICTS, following.broken)
    else:
        reason = Reason(Client.NOT_PUBLISHED, f"the end of partition {following.partition} could not be read")
    return Unreachable(f"{subject} was not published: {reason.detail}", hint=reason.hint, reasons=(reason,))


def not_confirmed(waiting: Waiting, error: str | None) -> Unreachable:
    """It was handed over, and the broker did not confirm it."""
    early = f"no delivery report by the deadline of {waiting.request.deadline_ms:,} ms"
    reason = Reason(Client.UNCONFIRMED, error or early)
    hint = reason.hint if error else _hint(waiting, f"{reason.hint}, {LONGER}")
    message = f"the broker did not confirm {waiting.request.subject} (partition {waiting.partition}): {reason.detail}"
    return Unreachable(f"{message}; unknown whether it landed, nothing was run", hint=hint, reasons=(reason,))


def no_answer(waiting: Waiting, following: Following, now_ms: int) -> TimedOut:
    """It is in the log at `waiting.offset`, and nothing that counts answered it in time."""
    reason, hint = _cause(waiting, waiting.offset or 0, following, now_ms)
    place = f"offset {waiting.offset} of partition {waiting.partition}"
    message = f"no answer to {waiting.request.subject} within {waiting.request.deadline_ms:,} ms; it is at {place}"
    return TimedOut(f"{message}; {reason.detail}; nothing was run", hint=hint or reason.hint, reasons=(reason,))


def _cause(waiting: Waiting, offset: int, following: Following, now_ms: int) -> tuple[Reason, str]:
    """What is known, and what to do next; empty for what the reason itself says."""
    sign, header = following.head.sign, following.head.place.header
    if following.broken:
        return Reason(Client.LOG_CONTRADICTS, following.broken), ""
    if waiting.foreign:
        return Reason(Client.FOREIGN_ANSWER, "a verdict for this id names another intent and was ignored"), ""
    if sign is None and header.epoch == 0:
        forged = following.head.forged
        return _nothing_authentic(forged) if forged else _never_claimed(following.rules_pushed)
    last = _last(sign, now_ms)
    if header.next_input > offset:
        return Reason(Client.NO_ANSWER, f"a worker has covered this record; {last}"), _hint(waiting)
    decided = f"decided up to offset {header.next_input}, {_queued(offset - header.next_input)}"
    if sign is not None and sign.offset > waiting.heard_to:
        return Reason(Client.BEHIND, f"a worker has written since; {last}; {decided}"), _hint(waiting)
    silent = Reason(Client.WORKER_SILENT, f"no worker has written here since; {last}; {decided}")
    return silent, _hint(waiting, START_ONE)


def _hint(waiting: Waiting, hint: str = "") -> str:
    """What to do next, unless nobody could have answered: what was seen until then says nothing of workers."""
    return TOO_SHORT if waiting.request.deadline_ms < ANSWER_MS_LEAST else hint


def _nothing_authentic(forged: int) -> tuple[Reason, str]:
    """Whoever believes nothing of a log that has records looks with the wrong credentials, as a rule."""
    records = "the one record" if forged == 1 else f"all {forged:,} records"
    detail = f"{records} read of its decision log are not authentic by these credentials"
    return Reason(Client.NO_WORKER, detail), OTHER_KIND


def _never_claimed(rules_pushed: bool | None) -> tuple[Reason, str]:
    """Workers wait for a rule set before they claim anything, so its absence looks as theirs does."""
    never = "no worker has ever claimed the partition"
    if rules_pushed is None:
        return Reason(Client.NO_WORKER, f"{never}: none runs, or no rule set was ever pushed"), EITHER
    if rules_pushed:
        return Reason(Client.NO_WORKER, never), START_ONE
    return Reason(Client.NO_WORKER, f"no rule set was ever pushed, and without one {never}"), PUSH_RULES


def _last(sign: Sign | None, now_ms: int) -> str:
    """Its age alone tells nothing of a worker: a partition at rest gets a checkpoint an hour."""
    if sign is None:
        return "no sign of one was seen since this process began to read"
    return f"the last sign of one ({sign.kind}) is {max(now_ms - sign.append_ms, 0) / 1000:.1f} s old"


def _queued(before: int) -> str:
    return "so this record is next" if before == 0 else f"{before:,} come before this record"


def cannot_connect(bootstrap: str, detail: str) -> Unreachable:
    """Nothing was published yet: the log could not be reached at all."""
    reason = Reason(Client.NOT_PUBLISHED, detail)
    return Unreachable(f"no connection to {bootstrap}: {detail}", hint=reason.hint, reasons=(reason,))
