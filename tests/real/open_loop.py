"""Sends intents at a rate, whatever becomes of them, until SIGTERM; then says what it sent and how fast that was.

usage: open_loop.py BOOTSTRAP TOPIC PARTITIONS RATE SECONDS_MAX AGENTS TENANTS DEADLINE_MS

Intent number n is agent n mod AGENTS's, agent a belongs to tenant a mod TENANTS; the tenant is the lane.
"""

import json
import signal
import sys
import time

from confluent_kafka import Producer

from harness_stream.adapters.clock import SystemClock
from harness_stream.client.ids import Ids
from harness_stream.core.lanes import partition_of

ACTIONS = ("crm.read", "email.send", "search.query", "files.read")
FLUSH_S_MAX = 30.0
POLL_S = 0.001


def main():
    bootstrap, topic, *numbers = sys.argv[1:]
    partitions, rate, seconds_max, agents, tenants, deadline_ms = map(int, numbers)
    stopped, lost, sent, ids = [], [], [], Ids(SystemClock())
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 0})
    started = time.monotonic()
    while not stopped and (elapsed := time.monotonic() - started) < seconds_max:
        for number in range(len(sent), int(elapsed * rate)):
            body = intent(number, ids.new(), f"agent-{number % agents}", deadline_ms)
            lane = f"tenant-{number % agents % tenants}"
            producer.produce(
                topic,
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
