"""What the decision log says: every partition folded from its first record, live and once more at the end.

Rule of this file: only effective records count, by the very fold that worker and client call (PROTOCOL §4).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeVar

from harness_stream.core.fold import STATEMENTS, Place
from harness_stream.errors import BrokerUnavailable
from harness_stream.wire.decisions import answers_of_any, read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from harness_stream.client.wiring import ClientRealm
    from harness_stream.ports import Clock, LogReader, LogRecord

    Body = Mapping[str, Any]

T = TypeVar("T")

# Between two looks at the log: what a person sees is not late by it, and a look costs some microseconds.
PAUSE_S: Final = 0.002
POLL_RECORDS: Final = 1_000


class Audit:
    """Every partition of one decision log, folded from genesis.

    Args:
        realm: whose log.

    Attributes:
        effective: partition → what its effective records say, in order; of a run of denials each verdict.
        void: records that do not count; a takeover leaves some, and they changed nothing.
    """

    def __init__(self, realm: ClientRealm) -> None:
        self._realm = realm
        self._places = {p: Place.genesis(realm.incarnation, p) for p in range(realm.partitions)}
        self._by_agent: defaultdict[str, list[Body]] = defaultdict(list)
        self._by_intent: dict[str, Body] = {}
        self.effective: dict[int, list[Body]] = {p: [] for p in self._places}
        self.void = 0

    def take(self, record: LogRecord) -> None:
        """The next record of its partition."""
        body, digest = read_body(record.value)
        place = self._places[record.partition].after(record.offset, body, digest)
        if place is None:
            self.void += body.get("kind") not in STATEMENTS
            return
        self._places[record.partition] = place
        for said in answers_of_any(body):
            self.effective[record.partition].append(said)
            if said["kind"] == "verdict":
                self._by_agent[said["agent_id"]].append(said)
                self._by_intent[said["intent_id"]] = said

    def verdicts(self, agent_id: str) -> list[Body]:
        """An agent's effective verdicts, oldest first: its chain."""
        return self._by_agent[agent_id]

    def verdict(self, intent_id: str) -> Body | None:
        """The newest effective verdict of an intent."""
        return self._by_intent.get(intent_id)

    def next_input(self, partition: int) -> int:
        """First input offset that no effective record covers yet."""
        return self._places[partition].header.next_input

    @property
    def deciding(self) -> frozenset[str]:
        """The writers that have claimed partitions; empty until every partition is claimed and has rules."""
        headers = [place.header for place in self._places.values()]
        return frozenset(h.writer for h in headers) if all(h.epoch and h.rules for h in headers) else frozenset()


class Watch:
    """An audit that keeps up with the log; for one event loop.

    Args:
        realm: whose log.
        reader: not used for anything else.
        clock: measures patience.
    """

    def __init__(self, realm: ClientRealm, reader: LogReader, clock: Clock) -> None:
        self.audit = Audit(realm)
        self._reader, self._clock = reader, clock
        for partition in range(realm.partitions):
            reader.follow(realm.topics.verdicts, partition, 0)

    async def until(self, question: Callable[[Audit], T | None], what: str, limit_ms: int) -> T:
        """The first answer that is neither None nor empty.

        Args:
            question: asked again whenever something may have arrived.
            what: is waited for, in words.
            limit_ms: patience.

        Raises:
            BrokerUnavailable: there was none in time.
        """
        ends_ms = self._clock.elapsed_ms() + limit_ms
        while True:
            for record in self._reader.poll(POLL_RECORDS):
                self.audit.take(record)
            answer = question(self.audit)
            if answer:
                return answer
            if self._clock.elapsed_ms() > ends_ms:
                raise BrokerUnavailable(
                    f"{what}: not seen in the decision log for {limit_ms // 1000} s",
                    hint="`harness status` shows what runs; on a loaded machine, try again",
                )
            await asyncio.sleep(PAUSE_S)
