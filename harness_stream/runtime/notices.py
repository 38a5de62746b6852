"""What an owner tells enforcers of agents that were stopped, so that what they have running ends (DESIGN §9).

Rule of this file: nothing per intent and nothing that waits. A turn in which no identity row changed costs one
comparison, and a notice is written only for an agent that has acted here. Nothing is remembered from one claim to the
next: what was under way then may be lost, so a new owner says again who is stopped.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from harness_stream.core import limits
from harness_stream.core.chain import AGENT_KEY
from harness_stream.core.names import agent_unit
from harness_stream.core.notice import STOPPED, Stopped, notice
from harness_stream.core.tables import IdentityRow

if TYPE_CHECKING:
    from harness_stream.core.fold import Header
    from harness_stream.core.join import Table
    from harness_stream.core.state import State
    from harness_stream.ports import Metrics
    from harness_stream.runtime.outbox import Outbox

# A signature each, 46 µs: below a twentieth of what one turn may decide for (10 ms). After a claim a thousand stopped
# agents are told within 125 turns, some tenths of a second.
NOTICES_PER_TURN: Final = 8
# Looked at in one turn, most of whom have never acted in this partition: about 1 µs each.
LOOKS_PER_TURN: Final = 256


class Notices:
    """Tells of one partition's stopped agents, under one claim.

    Args:
        identity: the identity table.
        state: says who has acted here, confirmed or not.
        metrics: counts what was told.
    """

    def __init__(self, identity: Table, state: State, metrics: Metrics) -> None:
        self._identity, self._state, self._metrics = identity, state, metrics
        self._seen = -1
        self._due: deque[tuple[str, int]] = deque()

    def step(self, header: Header, outbox: Outbox) -> None:
        """Send a few.

        Args:
            header: the fold after the last record that was sent.
            outbox: takes them.

        Raises:
            BufferError: the local queue is full; what was not sent is said again under the next claim.
        """
        if self._seen != self._identity.revision:
            self._gather()
        if not self._due:
            return
        room = min(NOTICES_PER_TURN, limits.IN_FLIGHT_RECORDS_MAX + NOTICES_PER_TURN - len(outbox))
        for _ in range(min(LOOKS_PER_TURN, len(self._due))):
            if room <= 0:
                return
            said = self._said(*self._due.popleft())
            if said is not None:
                room -= 1
                outbox.send(notice(header, said))
                self._metrics.count("harness_notices_total", status=said.status)

    def _gather(self) -> None:
        """Rows that changed since; the newest stand last."""
        newest = takewhile(lambda row: row[1] > self._seen, reversed(self._identity.stopped.items()))
        self._due.extend(reversed([*newest]))
        self._seen = self._identity.revision

    def _said(self, agent_id: str, revision: int) -> Stopped | None:
        """None for one that goes on, was told of anew, or has never acted here; a row nobody can read stops nobody."""
        if self._identity.stopped.get(agent_id) != revision:
            return None
        try:
            row = self._identity.row(agent_id)
        except ValueError:
            return None
        if not isinstance(row, IdentityRow) or row.status not in STOPPED or not self._has_acted(agent_id):
            return None
        return Stopped(agent_id, row.status, revision)

    def _has_acted(self, agent_id: str) -> bool:
        unit = agent_unit(agent_id)
        return not self._state.has(unit) or self._state.get(unit, AGENT_KEY) is not None
