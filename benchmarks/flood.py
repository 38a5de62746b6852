"""A process that floods lanes: intents encoded beforehand, at a rate that asks nobody whether it may go on.

    python flood.py BOOTSTRAP TOPIC PARTITIONS REALM AGENTS DEADLINE_MS RATE LAST_RATE START END LANE,LANE,…

RATE intents a second, which become LAST_RATE evenly, over the lanes in turn, from START to END (epoch seconds); prints
what became of them. A part of overload.py.

Rule of this file: what is late is sent at once, never left out, so that a stall of this process is made up for; only
ids are made while it runs, because none may be older than a minute.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Final

from confluent_kafka import Producer
from workload import ACTIONS, Intents, lane_of

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import settings
from harness_stream.adapters.signing import UNSIGNED_HEADERS
from harness_stream.client.ids import Ids
from harness_stream.config import load_settings
from harness_stream.core.lanes import partition_of

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

POLL_S: Final = 0.002  # sends come in groups of this long: far below what a verdict takes
FLUSH_S_MAX: Final = 30.0
LINGER_MS: Final = 25  # the broker shall spend its time on the worker, not on this process's requests


class Flood:
    """Sends at a rate.

    Args:
        bootstrap: the broker.
        topic: the input topic.
        partitions: of it.
        templates: (lane, value before the id, value after it) of each kind of intent.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, templates: list[tuple[str, bytes, bytes]]) -> None:
        self.sent, self.lost = 0, 0
        kafka = load_settings(bootstrap=bootstrap).kafka
        self._producer = Producer(settings.producer(kafka) | {"linger.ms": LINGER_MS})
        self._topic, self._ids = topic, Ids(SystemClock())
        self._templates = [(t[0].encode(), partition_of(t[0], partitions), *t[1:]) for t in templates]

    def run(self, rates: tuple[float, float], start_s: float, end_s: float) -> None:
        """Send until `end_s` (epoch seconds); a second so many, which grow evenly from the first to the other."""
        first, growth = rates[0], (rates[1] - rates[0]) / (end_s - start_s)
        while (now_s := time.time()) < end_s:
            since_s = max(0.0, now_s - start_s)
            for _ in range(self.sent, int((first + growth * since_s / 2) * since_s)):
                self._send()
            self._producer.poll(POLL_S)
        self.lost += self._producer.flush(FLUSH_S_MAX)

    def _send(self) -> None:
        lane, partition, head, tail = self._templates[self.sent % len(self._templates)]
        value, headers = head + self._ids.new().encode() + tail, list(UNSIGNED_HEADERS)
        try:
            self._producer.produce(self._topic, value, lane, partition, on_delivery=self._landed, headers=headers)
        except BufferError:
            self.lost += 1
        self.sent += 1

    def _landed(self, error: KafkaError | None, _: Message) -> None:
        self.lost += error is not None


def templates_of(realm: str, agents: int, deadline_ms: int, lanes: set[str]) -> list[tuple[str, bytes, bytes]]:
    """Each intent of the workload that belongs to one of the lanes, split where its id stands."""
    intents, found = Intents(realm, agents, deadline_ms, "0" * 32), []
    for number in range(agents * len(ACTIONS)):
        if lane_of(number, agents) in lanes:
            intent_id, _, lane, value = intents.make(number)
            head, _, tail = value.partition(intent_id.encode())
            found.append((lane, head, tail))
    return found


def main() -> None:
    """Flood, and say what was sent."""
    if len(sys.argv) != 12:
        raise SystemExit(__doc__)
    bootstrap, topic, partitions, realm, agents, deadline_ms, rate, last_rate, start_s, end_s, lanes = sys.argv[1:]
    templates = templates_of(realm, int(agents), int(deadline_ms), set(lanes.split(",")))
    flood = Flood(bootstrap, topic, int(partitions), templates)
    flood.run((float(rate), float(last_rate)), float(start_s), float(end_s))
    print(json.dumps({"sent": flood.sent, "lost": flood.lost}))


if __name__ == "__main__":
    main()
