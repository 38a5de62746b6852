"""The one error tree. The type says who is to blame, the message what happened, the hint what to do next.

* `CallerError`: whoever called must change something; retrying the same call fails again.
* `Unavailable`: the surroundings failed (broker, Redis, no worker); the same call may work later.
* `Refused`: the pipeline answered, and the answer was not "run it".
* `ProtocolError`: a peer wrote something PROTOCOL.md forbids.

Anything else that escapes is our own bug.
"""

from __future__ import annotations

from typing import Any


class HarnessError(Exception):
    """Root of every error this package raises on purpose.

    Attributes:
        message: what happened, in the user's words.
        hint: what to do next; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


class CallerError(HarnessError):
    """The caller's mistake: bad input, bad settings, wrong use of the API."""

    exit_code = 2


class ConfigError(CallerError):
    """A setting is missing, malformed or contradicts another one."""


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


class StateUnavailable(Unavailable):
    """Redis does not answer. The worker goes on from the log; only commands that read Redis see this."""


class ProtocolError(HarnessError):
    """A peer broke PROTOCOL.md: a foreign topic layout, a record that cannot be folded, a truncated log."""

    exit_code = 4


class GarbageRecord(ProtocolError):
    """An input record that must not be judged (PROTOCOL §3 `skip: garbage`).

    Attributes:
        reason: a value of `core.reasons.Garbage`.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
