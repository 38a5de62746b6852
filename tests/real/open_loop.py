"""Sends intents at a rate, whatever becomes of them, until SIGTERM; then says what it sent and how fast that was.

usage: open_loop.py BOOTSTRAP PREFIX TENANT,TENANT,… PARTITIONS RATE AGENTS DEADLINE_MS

Intent number n is agent n mod AGENTS's; agents belong to the tenants in turn. The tenant is the lane.
A machine too slow for the rate must not drown: with BACKLOG_MAX intents undecided it pauses, and what it did not send
meanwhile it never sends. The rate it reports is what came of that.
"""

import json
import signal
import sys
import time

from confluent_kafka import Producer

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka import settings
from harness_stream.adapters.kafka.log import KafkaReader
from harness_stream.client.ids import Ids
from harness_stream.core.lanes import partition_of
from harness_stream.wire.topics import Topics

ACTIONS = ("crm.read", "email.send", "search.query", "files.read")
# Well above what gathers at 1,000/s in half of the partitions while their killed worker's session of 6 s runs out.
BACKLOG_MAX = 6_000
ASK_S = 0.1
FLUSH_S_MAX = 30.0
POLL_S = 0.001


def main():
    bootstrap, prefix, tenants, *numbers = sys.argv[1:]
    partitions, rate, agents, deadline_ms = map(int, numbers)
    stopped, lost, sent = [], [], []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    topics, lanes, ids = Topics(prefix), tenants.split(","), Ids(SystemClock())
    producer = Producer(settings.producer(bootstrap))
    decided = Decided(bootstrap, topics.verdicts, partitions)
    started = before = time.monotonic()
    due = 0.0
    while not stopped:
        now = time.monotonic()
        room = len(sent) - decided.count(now) < BACKLOG_MAX
        due, before = due + (now - before) * rate if room else len(sent), now
        for number in range(len(sent), int(due)):
            body = intent(number, ids.new(), f"agent-{number % agents}", deadline_ms)
            lane = lanes[number % agents % len(lanes)]
            producer.produce(
                topics.intents,
                json.dumps(body).encode(),
                lane.encode(),
                partition_of(lane, partitions),
                headers={"hs-alg": "none"},
                on_delivery=lambda error, _: error and lost.append(str(error)),
            )
            sent.append(body["intent_id"])
        producer.poll(POLL_S)
    seconds = time.monotonic() - started
    unsent = producer.flush(FLUSH_S_MAX)
    print(json.dumps({"sent": sent, "seconds": seconds, "lost": lost, "unsent": unsent}))


class Decided:
    """About how many intents have been decided: the decision log's length, asked for now and then."""

    def __init__(self, bootstrap, topic, partitions):
        self._reader, self._ends, self._asked = KafkaReader(bootstrap), {}, 0.0
        self._places = [(topic, partition) for partition in range(partitions)]

    def count(self, now):
        if now - self._asked >= ASK_S:
            self._asked = now
            self._reader.ask_ends(self._places, int(now * 1000))
            self._ends |= {answer.partition: answer.end for answer in self._reader.ends()}
        return sum(self._ends.values())


def intent(number, intent_id, agent, deadline_ms):
    return {
        "v": 1,
        "type": "intent",
        "realm": "default",
        "by": agent,
        "agent_id": agent,
        "intent_id": intent_id,
        "workload_id": "w-1",
        "action": ACTIONS[number // 7 % len(ACTIONS)],
        "resources": [f"crm://customers/{number % 97}"],
        "measures": {"rows": number % 11},
        "arguments_digest": "0" * 64,
        "deadline_ms": deadline_ms,
        "enforcer_nonce": "0" * 32,
    }


main()
