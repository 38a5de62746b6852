"""The decision log folded as it grows, so that each fault can be told what it cost: void records, new epochs, doubles."""

import time
from collections import Counter
from dataclasses import dataclass

from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.kafka.log import KafkaReader
from harness_stream.core.denials import answers_in
from harness_stream.core.fold import STATEMENTS, Place
from harness_stream.runtime.to_end import ends_of
from harness_stream.wire.decisions import read_body

RECORDS = 1_000
READ_S_MAX = 20.0


@dataclass
class Cost:
    """What stands in the decision log since the last look."""

    effective: int = 0
    void: int = 0
    claims: int = 0
    doubles: int = 0


class Following:
    """All partitions of one life of a realm; `close` it before the log is taken away."""

    def __init__(self, realm):
        self._realm, self._reader = realm, KafkaReader(realm.settings.bootstrap)
        self._topic, name = realm.topics.verdicts, incarnation(realm.settings)
        self._partitions = range(realm.settings.partitions)
        self.places = {partition: Place.genesis(name, partition) for partition in self._partitions}
        self._settled, self._cost = Counter(), Cost()
        for partition in self._partitions:
            self._reader.follow(self._topic, partition, 0)

    def next_input(self, partition):
        return self.places[partition].header.next_input

    def read(self):
        """Fold up to the logs' ends as of now."""
        limit = time.monotonic() + READ_S_MAX
        ends = {p: ends_of(self._reader, self._topic, p, self._realm.clock).end for p in self._partitions}
        while any((self._reader.position(self._topic, p) or 0) < end for p, end in ends.items()):
            assert time.monotonic() < limit, "the decision log cannot be read to its end"
            records = self._reader.poll(RECORDS)
            for record in records:
                self._take(record, self._cost)
            if not records:
                time.sleep(0.02)

    def cost(self):
        """What was written since the last call."""
        self.read()
        cost, self._cost = self._cost, Cost()
        return cost

    def _take(self, record, cost):
        body, digest = read_body(record.value)
        place = self.places[record.partition].after(record.offset, body, digest)
        if place is None:
            cost.void += body.get("kind") not in STATEMENTS
            return
        self.places[record.partition] = place
        cost.effective += 1
        cost.claims += body["kind"] == "claim"
        for answer in answers_in(body):
            if answer["kind"] == "verdict" and answer["decision"] != "hold":
                name = (answer["agent_id"], answer["intent_id"])
                self._settled[name] += 1
                cost.doubles += self._settled[name] > 1

    def close(self):
        self._reader.close()
