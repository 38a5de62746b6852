"""The API for asyncio (DESIGN §10). Rule: a thin front of `Session`; the same without asyncio is `blocking.py`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from harness_stream.client.connect import open_session
from harness_stream.client.front import AnyChain, AnyHarness
from harness_stream.client.session import Ask
from harness_stream.client.verdict import Verdict
from harness_stream.core import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.client.answer import Handlers
    from harness_stream.client.session import MandateSource, Measures


class Chain(AnyChain):
    """A chain, for asyncio."""

    async def decide(
        self,
        action: str,
        resources: Iterable[str] = (),
        *,
        measures: Measures | None = None,
        arguments: Mapping[str, Any] | None = None,
        roles: Mapping[str, str] | None = None,
        labels: Iterable[str] = (),
        purpose: str = "",
        parent: tuple[str, str] | None = None,
        deadline_ms: int = limits.DEADLINE_MS_DEFAULT,
        min_revision: Mapping[str, int] | None = None,
        wait_for_hold: bool = False,
        obligations: Handlers | None = None,
    ) -> Verdict:
        """Ask for one action; call the verdict's `start` right before it, and its `report` afterwards.

        Args:
            action: dotted verb, `crm.refund`.
            resources: ≤ 32 URIs.
            measures: named numbers ≥ 0 with ≤ 6 decimals: rows, bytes, amount.
            arguments: what the action is called with, JSON only; the verdict is bound to their digest.
            roles: argument name → destination, object, secret, content or other.
            labels: added to those of the classification table.
            purpose: one line for a person.
            parent: (agent_id, intent_id) of the approved intent that delegated this one.
            deadline_ms: 1 to 60,000, from the publish; no verdict by then means no.
            min_revision: table → revision that the decision must have read at least.
            wait_for_hold: on a hold, wait for the person's answer until `hold_until` instead of raising Held.
            obligations: name → handler; an approval with any other obligation is denied.

        Raises:
            Denied, Held: the answer was not yes; `.reasons` and `.hint` say why and what to do.
            TimedOut: no valid verdict by the deadline.
            Unreachable: the broker does not answer or did not confirm.
            Overloaded: this process waits for 10,000 answers already.
            InvalidInput: the intent breaks the schema or a limit.
            TypeError: an argument is not JSON.
        """
        ask = Ask(
            resources=resources,
            measures=measures,
            arguments=arguments,
            roles=roles,
            labels=labels,
            purpose=purpose,
            parent=parent,
            deadline_ms=deadline_ms,
            min_revision=min_revision,
            wait_for_hold=wait_for_hold,
            obligations={} if obligations is None else obligations,
        )
        return Verdict(self._session, await asyncio.wrap_future(self._session.ask(self.chain_id, action, ask)))


class Harness(AnyHarness):
    """One agent's connection, for asyncio: `async with Harness.connect(...) as harness`."""

    async def open(self) -> None:
        """Connect, ≤ 10 s on a broker that answers.

        Raises:
            ConfigError, ProtocolError, Unreachable: see `client.connect.open_session`.
        """
        self._session = await asyncio.to_thread(open_session, self.credentials, self._wiring)

    async def close(self) -> None:
        """Let outcomes land (≤ 1 s), end every wait with Unreachable, disconnect."""
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.enforcer.close)

    async def chain(self, mandate: MandateSource | None = None, *, chain_id: str | None = None) -> Chain:
        """The chain to act in.

        Args:
            mandate: the orchestrator's event, as a file, its bytes, or its fields: published, and taken in before this
                returns. A file that `harness mandates sign` wrote is published as it was signed. Among fields, `goal`
                may be the user's words: they stay here, and what they name is published as fingerprints. None: the
                agent's own chain, which needs none.
            chain_id: a chain opened before, instead of a mandate.

        Raises:
            Denied: the mandate was refused, rejected or skipped, with the reason.
            TimedOut, Unreachable: nobody took it in.
            InvalidInput: it is no mandate for this agent.
        """
        session, attached = self._connected(), self._attached(chain_id, mandate)
        if mandate is None:
            return Chain(session, attached)
        opened, taken_in = session.declare(mandate)
        await asyncio.wrap_future(taken_in)
        return Chain(session, opened)

    async def end_chain(self, mandate: MandateSource) -> None:
        """Publish the close of a chain, which only the signer of its mandate may write; it was taken in after this.

        Args:
            mandate: a mandate with `close`, as for `chain`.

        Raises:
            As `chain`.
        """
        await asyncio.wrap_future(self._connected().declare(mandate, close=True)[1])

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
