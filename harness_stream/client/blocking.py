"""The API without asyncio. Rule: the same calls as `harness.py`; each waits in its thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from harness_stream.client.connect import open_session
from harness_stream.client.front import AnyChain, AnyHarness
from harness_stream.client.session import Ask
from harness_stream.client.verdict import BlockingVerdict
from harness_stream.client.waiting import waited
from harness_stream.core import limits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness_stream.client.answer import Handlers
    from harness_stream.client.session import MandateSource, Measures


class BlockingChain(AnyChain):
    """A chain, without asyncio."""

    def decide(
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
    ) -> BlockingVerdict:
        """As `harness.Chain.decide`."""
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
        return BlockingVerdict(self._session, waited(self._session.ask(self.chain_id, action, ask)))


class HarnessSync(AnyHarness):
    """One agent's connection, without asyncio: `with HarnessSync.connect(...) as harness`. Threads may share it."""

    def open(self) -> None:
        """As `harness.Harness.open`."""
        self._session = open_session(self.credentials, self._wiring)

    def close(self) -> None:
        """Let outcomes land (≤ 1 s), end every wait with Unreachable, disconnect."""
        session, self._session = self._session, None
        if session is not None:
            session.enforcer.close()

    def chain(self, mandate: MandateSource | None = None, *, chain_id: str | None = None) -> BlockingChain:
        """As `harness.Harness.chain`."""
        session, attached = self._connected(), self._attached(chain_id, mandate)
        if mandate is None:
            return BlockingChain(session, attached)
        opened, taken_in = session.declare(mandate)
        waited(taken_in)
        return BlockingChain(session, opened)

    def end_chain(self, mandate: MandateSource) -> None:
        """As `harness.Harness.end_chain`."""
        waited(self._connected().declare(mandate, close=True)[1])

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
