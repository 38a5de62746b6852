"""An approval in the caller's hands. Rule: it only shows the enforcer's `Answer`, which alone decides on its use."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

from harness_stream.client.misuse import MISUSES
from harness_stream.client.waiting import waited
from harness_stream.errors import Misused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.client.answer import Answer, Decision, Reason
    from harness_stream.client.returned import Records
    from harness_stream.client.revocation import Revocation
    from harness_stream.client.session import Measures, Session, Status


class _Approval:
    def __init__(self, session: Session, answer: Answer) -> None:
        self._session, self._answer = session, answer

    @property
    def decision(self) -> Decision:
        """Always `approve`: anything else was raised."""
        return self._answer.decision

    @property
    def intent_id(self) -> str:
        """The intent it approves."""
        return self._answer.intent_id

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """Why."""
        return self._answer.reasons

    @property
    def shadow(self) -> tuple[Reason, ...]:
        """What rules in shadow mode would have said."""
        return self._answer.shadow

    @property
    def obligations(self) -> Mapping[str, Any]:
        """What `start` fulfils through the handlers."""
        return self._answer.obligations

    @property
    def evidence(self) -> tuple[str, ...]:
        """Ids of the intents that reasons name."""
        return self._answer.evidence

    @property
    def digest(self) -> str:
        """SHA-256 of the verdict's value."""
        return self._answer.digest

    @property
    def offset(self) -> int:
        """Of the verdict in its partition of the decision log."""
        return self._answer.offset

    @property
    def valid(self) -> bool:
        """Could the action begin now?"""
        return self._answer.valid

    @property
    def revoked(self) -> Revocation:
        """Set when the approval is taken back: the agent was stopped, its chain closed, its mandate has ended.

        `revoked.is_set()` between steps, or `revoked.wait(timeout)`; `revoked.reason` says why.
        """
        return self._answer.revoked

    def start(self) -> None:
        """Call right before the action; once.

        Raises:
            Revoked: it was taken back: do not act.
            Expired: the deadline or valid_for_ms has passed: do not act; told as a bypass.
            TimedOut: it has passed while the obligations were fulfilled: do not act.
            Misused: used before, or in another process than the one that asked; told as a bypass.
        """
        try:
            self._answer.start()
        except MISUSES as error:
            self._session.misused(self._answer, error)
            raise

    def token(self, audience: str, valid_s: float | None = None) -> str:
        """Instead of `start`, where another program runs the action: what it can believe, once, without our log.

        Report the outcome as ever, when the executor has answered.

        Args:
            audience: the executor's own name, ≤ 256 characters; no other one takes the token.
            valid_s: so long it may begin, ≤ 30; never longer than the approval, which is the default.

        Raises:
            Expired, TimedOut, Misused: as `start`.
            CallerError: the realm is unsigned, or the credentials have no certified keys of an `enforcer`.
        """
        return self._session.token(self._answer, audience, valid_s)

    def __reduce__(self) -> NoReturn:
        """Refused, and told as a bypass: kept, an approval would outlive its process."""
        try:
            self._answer.__reduce__()
        except Misused as error:
            self._session.misused(self._answer, error)
            raise

    def __repr__(self) -> str:
        return repr(self._answer)


class Verdict(_Approval):
    """An approval, for asyncio."""

    async def report(
        self, status: Status, measures: Measures | None = None, *, result: object = None, records: Records | None = None
    ) -> None:
        """Say how the action ended, and wait until that was taken in.

        Args:
            status: done, failed, unknown, or abandoned (never started; needs an `enforcer` in the credentials).
            measures: as they turned out.
            result: what the action returned; its values are told as fingerprints.
            records: see `AnyChain.guard`.

        Raises:
            Denied: it was refused, with the reason.
            TimedOut, Unreachable: nobody took it in; it counts as done.
            InvalidInput: status or measures break the schema.
            CallerError: `abandoned` without an `enforcer`.
        """
        found = self._session.read(result, records)
        await asyncio.wrap_future(self._session.report(self._answer, status, measures, found))


class BlockingVerdict(_Approval):
    """An approval, without asyncio."""

    def report(
        self, status: Status, measures: Measures | None = None, *, result: object = None, records: Records | None = None
    ) -> None:
        """As `Verdict.report`."""
        waited(self._session.report(self._answer, status, measures, self._session.read(result, records)))
