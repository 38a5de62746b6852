"""What both forms of the API share: connecting, and guarding functions.

Rule of this file: nothing here waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from harness_stream.client.credentials import Credentials
from harness_stream.client.guard import Guarding, guarded
from harness_stream.core import limits
from harness_stream.errors import CallerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from harness_stream.client.answer import Handlers
    from harness_stream.client.binding import Encoders, Resources
    from harness_stream.client.returned import Records
    from harness_stream.client.session import Measures, Session
    from harness_stream.client.wiring import Wiring

P = ParamSpec("P")
R = TypeVar("R")


class AnyChain:
    """One chain of the agent: what it asks in here is judged against what it did in here before.

    Attributes:
        chain_id: None is the agent's own chain.
    """

    def __init__(self, session: Session, chain_id: str | None) -> None:
        self._session = session
        self.chain_id = chain_id

    def guard(
        self,
        action: str,
        *,
        roles: Mapping[str, str] | None = None,
        resources: Resources = (),
        measures: Measures | Callable[[Mapping[str, Any]], Measures] | None = None,
        labels: Iterable[str] = (),
        purpose: str = "",
        parent: tuple[str, str] | None = None,
        deadline_ms: int = limits.DEADLINE_MS_DEFAULT,
        min_revision: Mapping[str, int] | None = None,
        wait_for_hold: bool = False,
        obligations: Handlers | None = None,
        encode: Encoders | None = None,
        records: Records | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Decorate a function so that it runs only when approved, once, with exactly the approved values.

        Arguments arrive as read back from the judged JSON: tuples as lists, 1.0 as 1. A plain function stays plain:
        it blocks its thread while it waits, so do not call it on an event loop. Outcomes are reported: done, failed (it
        raised), unknown (cancelled), and abandoned (never started, so that it no longer counts), which only an
        `enforcer` named in the credentials can say. Besides what `resources`, `measures`, `labels` and `purpose` say,
        values in arguments and results leave this process as fingerprints only.

        An approval may be taken back while it is used: the agent, or one for whom it acts, was suspended or killed, the
        chain was closed, a mandate has ended. Then a coroutine is cancelled, and `Revoked` is raised; a plain function
        has to look at `harness_stream.revoked()` between its steps. The outcome says why, and is `unknown` unless the
        function came to its end.

        Args:
            action: dotted verb.
            roles: parameter → role.
            resources: templates filled from the arguments, `email://external/{to}` (a list gives one URI each), or a
                function of {name: value}.
            measures: named numbers, the same in each call, or a function of {name: value} that gives them.
            encode: parameter → function that turns its value into JSON.
            records: a function of the result that takes it apart into `client.returned.Record`s: needed where fields
                have no telling names, or a text is data. Default `client.returned.records_in`.
            labels: see `harness.Chain.decide`, as all others.
            purpose: see `decide`.
            parent: see `decide`.
            deadline_ms: see `decide`.
            min_revision: see `decide`.
            wait_for_hold: see `decide`.
            obligations: see `decide`.

        Raises:
            CallerError: when decorating, if a name is no parameter, or a measure no number.
                When called: as `decide`, and as the function; Revoked. CallerError as well if the function gives back
                a coroutine, a task or a generator, which would run later than it was approved.
        """
        how = Guarding(
            action,
            roles or {},
            resources,
            measures,
            labels,
            purpose,
            parent,
            deadline_ms,
            min_revision,
            wait_for_hold,
            obligations or {},
            encode,
            records,
        )
        return lambda function: guarded(self._session, self.chain_id, how, function)


class AnyHarness:
    """One agent's connection."""

    def __init__(self, credentials: Credentials, wiring: Wiring | None = None) -> None:
        self.credentials = credentials
        self._wiring = wiring
        self._session: Session | None = None

    @classmethod
    def connect(
        cls,
        credentials: str | Path | Credentials | None = None,
        *,
        agent: str | None = None,
        lane: str | None = None,
        workload: str | None = None,
        realm: str | None = None,
        bootstrap: str | None = None,
        prefix: str | None = None,
        partitions: int | None = None,
        enforcer: str | None = None,
        dev: bool | None = None,
        wiring: Wiring | None = None,
    ) -> Self:
        """Say who connects where; `with`, `async with` or `open` connects.

        Args:
            credentials: a JSON file, see `client.credentials.Credentials`, or `env:NAME` or `command:WORDS`, a variable
                that holds or a program that prints the same; words given here win over it.
            agent: the agent's id.
            lane: its lane; default the agent itself.
            workload: where it runs; default the agent's id.
            realm: name of the deployment.
            bootstrap: Kafka bootstrap servers.
            prefix: first part of topic names.
            partitions: P, to be checked.
            enforcer: identity with role `enforcer` that reports outcomes; default the agent.
            dev: the realm is unsigned.
            wiring: another log than Kafka.

        Raises:
            ConfigError: the credentials are missing or malformed.
        """
        found = Credentials.of(
            credentials,
            agent_id=agent,
            lane=lane,
            workload_id=workload,
            realm=realm,
            bootstrap=bootstrap,
            prefix=prefix,
            partitions=partitions,
            enforcer=enforcer,
            dev=dev,
        )
        return cls(found, wiring)

    def _connected(self) -> Session:
        if self._session is None:
            raise CallerError("not connected", hint="use `with` or `async with`, or call `open`")
        return self._session

    def _attached(self, chain_id: str | None, mandate: object) -> str | None:
        """The chain to attach to without publishing anything."""
        if mandate is not None and chain_id is not None:
            raise CallerError("give a mandate, which names its chain, or a chain_id")
        return chain_id
