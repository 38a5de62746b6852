"""The one error tree. The type says who is to blame, the message what happened, the hint what to do next.

* `CallerError`: whoever called must change something; retrying the same call fails again.
* `Unavailable`: the surroundings failed (broker, Redis, no worker); the same call may work later.
* `Refused`: the pipeline answered, and the answer was not "run it".
* `Revoked`: it was, and was taken back.
* `ProtocolError`: a peer wrote something PROTOCOL.md forbids.

Anything else that escapes is our own bug.
"""

from __future__ import annotations

from typing import Any


def _rebuilt(kind: type[HarnessError], args: tuple[Any, ...], state: dict[str, Any]) -> HarnessError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class HarnessError(Exception):
    """Root of every error this package raises on purpose.

    Attributes:
        message: what happened, in the user's words.
        hint: what to do next; may be empty.
        intent_id: the intent that this is the answer to, or the missing answer; empty if there is none.
    """

    exit_code = 1
    intent_id = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Goes to another process, without its verdict: that belongs to the process that asked."""
        state = {name: None if name == "verdict" else value for name, value in self.__dict__.items()}
        return _rebuilt, (type(self), self.args, state)

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class CallerError(HarnessError):
    """The caller's mistake: bad input, bad settings, wrong use of the API."""

    exit_code = 2


class Misused(CallerError):  # noqa: N818  reads as what it is
    """An approval was to be used again, elsewhere, or for something else than was approved. Nothing was run.

    Attributes:
        how: a word of `core.reasons.Misuse`.
    """

    def __init__(self, message: str, *, how: str, hint: str = "") -> None:
        super().__init__(f"{message}; nothing was run", hint=hint)
        self.how = how


class ConfigError(CallerError):
    """A setting is missing, malformed or contradicts another one."""


class AccessRefused(CallerError):  # noqa: N818  reads as what it is
    """Kafka lets this process not in, or not do what it asked for: wrong user, password or certificate, no right."""


class InvalidInput(CallerError):  # noqa: N818  reads as what it is
    """Data handed in breaks the schema or a limit.

    Attributes:
        mistakes: every mistake found, each with its place, so that all can be mended at once.
    """

    def __init__(self, message: str, *, hint: str = "", mistakes: tuple[Any, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.mistakes = mistakes


class Unavailable(HarnessError):  # noqa: N818  reads as what it is
    """Something around us does not answer; nothing was approved, and the call may be repeated."""

    exit_code = 3


class BrokerUnavailable(Unavailable):
    """Kafka does not answer."""


class ServerEnded(Unavailable):
    """A server that was started on this machine ended by itself; the message has the end of its log."""


class StateUnavailable(Unavailable):
    """Redis does not answer. The worker goes on from the log; only commands that read Redis see this."""


class StateRefused(StateUnavailable):
    """Redis answers, and lets this process not in, or not do what it asked for."""


class TimedOut(Unavailable):
    """No valid verdict by the deadline, which means no; or an approval ran out before the action began.

    Attributes:
        reasons: what is known of why, see `Refused`.
        verdict: an approval that ran out, else None.
    """

    def __init__(self, message: str, *, hint: str = "", reasons: tuple[Any, ...] = (), verdict: Any = None) -> None:  # noqa: ANN401  see Refused
        super().__init__(message, hint=hint)
        self.reasons = reasons
        self.verdict = verdict


class Expired(TimedOut):
    """An approval was to be used after it had run out. Nothing was run; it is told as a bypass, as `Misused` is."""

    how = "late"


class Unreachable(Unavailable):
    """The broker does not answer or did not confirm. It is unknown whether what was sent has landed; nothing was run.

    Attributes:
        reasons: what is known of why, see `Refused`.
        verdict: always None.
    """

    def __init__(self, message: str, *, hint: str = "", reasons: tuple[Any, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.reasons = reasons
        self.verdict = None


class Overloaded(Unavailable):
    """This process already waits for as many answers as it may; nothing was published."""


class Refused(HarnessError):  # noqa: N818  reads as what it is
    """The pipeline answered, and the answer was not "run it". Nothing was run.

    Attributes:
        reasons: `client.answer.Reason`s, strongest first: why. Any, since this file imports nothing.
        verdict: the `client.answer.Answer` behind it; None if a record was rejected or skipped instead.
    """

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "", reasons: tuple[Any, ...] = (), verdict: Any = None) -> None:  # noqa: ANN401  see the docstring
        super().__init__(message, hint=hint)
        self.reasons = reasons
        self.verdict = verdict


class Denied(Refused):
    """The verdict is deny, or the record was rejected, skipped or refused."""


class Held(Refused):
    """The verdict is hold: a person has to say yes, until `verdict.hold_until` (epoch ms).

    An approver names `verdict.digest` and `verdict.offset`. Only who waits (`wait_for_hold=True`) can act on the yes.
    """


class TokenRefused(Refused):
    """A token does not allow this action to be run here and now; `reasons` has the one word of `core.reasons.Token`."""

    exit_code = 1


class Revoked(HarnessError):  # noqa: N818  reads as what it is
    """An approval was taken back: its agent, or one above it, was stopped, or its mandate ended.

    Before its action began nothing was run; while it ran, how far it came is not known.

    Attributes:
        reasons: `client.answer.Reason`s: why.
        verdict: the `client.answer.Answer` that was taken back.
    """

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "", reasons: tuple[Any, ...] = (), verdict: Any = None) -> None:  # noqa: ANN401  see Refused
        super().__init__(message, hint=hint)
        self.reasons = reasons
        self.verdict = verdict


class ProtocolError(HarnessError):
    """A peer broke PROTOCOL.md: a foreign topic layout, a record that cannot be folded, a truncated log."""

    exit_code = 4


class LogDamaged(ProtocolError):  # noqa: N818  reads as what it is
    """What is stored of a topic cannot be read, however often it is asked for: nobody can go on behind it.

    Attributes:
        offset: the first one that cannot be read; what it is a batch with cannot, either.
    """

    restore = "bring that partition's directory back from another replica or a backup: docs/runbook.md, `halted`"

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        # Up to the colon it is the cause that metrics name.
        what = f"a log is damaged: the record at {offset} of `{topic}`/{partition} cannot be read"
        super().__init__(f"{what}, its checksum does not match", hint=self.restore)
        self.topic, self.partition, self.offset = topic, partition, offset


class GarbageRecord(ProtocolError):  # noqa: N818  reads as what it is
    """An input record that must not be judged (PROTOCOL §3 `skip: garbage`).

    Attributes:
        reason: a value of `core.reasons.Garbage`.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
