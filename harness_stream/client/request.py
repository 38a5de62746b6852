"""What a client wants an answer to, and how the wait for it stands.

Rule of this file: plain data and pure questions about it; no clock, no log, no thread.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from harness_stream.core.canonical import sha256_hex

if TYPE_CHECKING:
    from harness_stream.client.answer import Answer, Handlers
    from harness_stream.ports import Headers

Kind = Literal["intent", "mandate", "outcome"]


@dataclass(frozen=True, slots=True)
class Request:
    """One input record to be published.

    Attributes:
        kind: of the event.
        id: its own UUIDv7.
        agent_id: whom it is about.
        lane: whose partition it goes to; the record's key.
        value: its bytes.
        headers: CloudEvents headers, without the signature's.
        deadline_ms: how long to wait, from its own publish.
        subject: what people call it, in messages.
        arguments_digest: of an intent.
        wait_for_hold: wait on for a person's answer.
        handlers: of an intent's obligations.
        by: who speaks, if not the agent itself.
        nonrepudiable: sign it besides its MAC.
        seal: headers by which somebody else vouched already; None: this process does.
    """

    kind: Kind
    id: str
    agent_id: str
    lane: str
    value: bytes
    headers: Headers
    deadline_ms: int
    subject: str
    arguments_digest: str = ""
    wait_for_hold: bool = False
    handlers: Handlers = field(default_factory=dict)
    by: str = ""
    nonrepudiable: bool = False
    seal: Headers | None = None

    @property
    def speaker(self) -> str:
        """Who vouches for it."""
        return self.by or self.agent_id


@dataclass(slots=True)
class Waiting:
    """A request and how far it is.

    Attributes:
        request: what was asked.
        partition: where.
        ends_ms: elapsed time at which the wait ends: its deadline, or the end of its hold.
        future: takes the answer or the error.
        digest: SHA-256 of the value.
        published_ms: elapsed time of its publish; None before it.
        offset: where it landed; None while unknown.
        hold: the verdict that asks a person; None before.
        foreign: a verdict named this id, but not this intent.
        heard_to: offset of the newest sign of a worker at its publish; -1 without one.
    """

    request: Request
    partition: int
    ends_ms: int
    future: Future[Any] = field(default_factory=Future)
    digest: str = ""
    published_ms: int | None = None
    offset: int | None = None
    hold: Answer | None = None
    foreign: bool = False
    heard_to: int = -1

    def __post_init__(self) -> None:
        """The digest by which answers name it."""
        self.digest = sha256_hex(self.request.value)
