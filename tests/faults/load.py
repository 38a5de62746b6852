"""One client process: many agents behind one enforcer, at a rate, until SIGTERM; it says how each intent ended.

usage: python -m tests.faults.load BOOTSTRAP PREFIX LANE,LANE,… PARTITIONS RATE SEED

A line of JSON per event on standard output, times in seconds by CLOCK_MONOTONIC, which all processes of a machine share:

    {"begun": seed}                                    from here on SIGTERM ends it in order
    {"acked": id, "agent", "partition", "offset"}      the broker has it
    {"ended": id, "agent", "partition", "asked", "published", "at", "deadline", "as", "ran", "why"}

    {"unended": number}                                last words: waits that went on long after their deadline

`ran`: the approval let its action begin. `as` is approve, deny (a rule's), other (refused for any other reason) or silence (no valid answer by the deadline).
"""

import json
import random
import signal
import sys
import time
from concurrent.futures import wait

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier
from harness_stream.client.enforcer import Enforcer
from harness_stream.client.ids import Ids
from harness_stream.client.request import Request
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.config import Settings
from harness_stream.core.lanes import partition_of
from harness_stream.errors import Denied, HarnessError, Overloaded, TimedOut
from harness_stream.wire.topics import Topics

ACTIONS = ("crm.read", "email.send", "search.query", "files.read")
AGENTS_PER_LANE = 4
# Shorter than a takeover, the default, and longer than one: late, lost and patient askers in one log.
DEADLINES_MS = (2_000, 5_000, 12_000)
# Of a hundred intents so many are published a second time, byte for byte, as a retrying agent does.
TWICE_PERCENT = 4
PAUSE_S = 0.01
CLOSE_S = max(DEADLINES_MS) / 1_000 + 5
TWICE = -1  # token of an append whose fate nobody asks for


class Recorder(KafkaWriter):
    """The client's writer; notes when each intent went out and where it landed, and repeats some."""

    def __init__(self, bootstrap, topic, chance):
        super().__init__(bootstrap)
        self._topic, self._chance = topic, chance
        self.published, self._ids = {}, {}

    def append(self, topic, partition, key, value, headers=(), *, token=None):
        super().append(topic, partition, key, value, headers, token=token)
        if topic != self._topic:
            return
        body = json.loads(value)
        self._ids[token] = body
        self.published[body["intent_id"]] = time.monotonic()
        if self._chance.randrange(100) < TWICE_PERCENT:
            super().append(topic, partition, key, value, headers, token=TWICE)

    def deliveries(self):
        found = super().deliveries()
        for delivery in found:
            body = self._ids.pop(delivery.token, None)
            if body is not None and delivery.offset is not None:
                place = {"partition": delivery.partition, "offset": delivery.offset}
                say({"acked": body["intent_id"], "agent": body["agent_id"], **place})
        return found


class Load:
    """Asks, and says what became of it."""

    def __init__(self, bootstrap, prefix, lanes, partitions, seed):
        settings = Settings(bootstrap=bootstrap, prefix=prefix, partitions=partitions, dev=True)
        topics, clock = Topics(prefix), SystemClock()
        realm = ClientRealm(settings.realm, incarnation(settings), partitions, topics)
        self._chance, self._ids, self._lanes, self._partitions = random.Random(seed), Ids(clock), lanes, partitions
        self._writer = Recorder(bootstrap, topics.intents, random.Random(seed + 1))
        reader = KafkaReader(bootstrap, clock, (topics.heads, topics.verdicts))
        wiring = Wiring(realm, reader, self._writer, clock, UnsignedSigner(), UnsignedVerifier())
        self.enforcer, self.waiting = Enforcer(wiring), set()
        self.enforcer.start()

    def ask(self, number):
        lane = self._lanes[number % len(self._lanes)]
        agent = f"{lane}-{number // len(self._lanes) % AGENTS_PER_LANE}"
        deadline_ms = self._chance.choice(DEADLINES_MS)
        body = self._body(agent, deadline_ms)
        asked = time.monotonic()
        value = json.dumps(body).encode()
        request = Request("intent", body["intent_id"], agent, lane, value, (), deadline_ms, "load", "0" * 64)
        try:
            future = self.enforcer.submit(request)
        except Overloaded:
            return
        self.waiting.add(future)
        future.add_done_callback(lambda done: self._ended(done, request, asked))

    def _body(self, agent, deadline_ms):
        return {
            "v": 1,
            "type": "intent",
            "realm": "default",
            "by": agent,
            "agent_id": agent,
            "intent_id": self._ids.new(),
            "workload_id": "w-1",
            "action": self._chance.choice(ACTIONS),
            "resources": [f"crm://customers/{self._chance.randrange(97)}"],
            "measures": {"rows": self._chance.randrange(11)},
            "arguments_digest": "0" * 64,
            "deadline_ms": deadline_ms,
            "enforcer_nonce": self.enforcer.nonce,
        }

    def _ended(self, future, request, asked):
        at = time.monotonic()
        self.waiting.discard(future)
        kind, why = told(future)
        ran = kind == "approve" and may_run(future.result())
        published = self._writer.published.pop(request.id, None)
        where = {"agent": request.agent_id, "partition": partition_of(request.lane, self._partitions)}
        times = {"asked": asked, "published": published, "at": at, "deadline": request.deadline_ms / 1_000}
        say({"ended": request.id, **where, **times, "as": kind, "ran": ran, "why": why})


def may_run(answer):
    """Begin the action, which does nothing."""
    try:
        answer.start()
    except TimedOut:
        return False
    return True


def told(future):
    """How it ended, as one word and the first reason's."""
    error = future.exception()
    if error is None:
        return "approve", ""
    reasons = getattr(error, "reasons", ())
    why = str(reasons[0].code) if reasons else type(error).__name__
    if not isinstance(error, Denied):
        return ("silence" if isinstance(error, HarnessError) else "broken"), why
    return ("deny" if error.verdict is not None and why == "rule" else "other"), why


def say(event):
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def main():
    bootstrap, prefix, lanes, *numbers = sys.argv[1:]
    partitions, rate, seed = map(int, numbers)
    stopped = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    say({"begun": seed})
    load = Load(bootstrap, prefix, lanes.split(","), partitions, seed)
    began, number = time.monotonic(), seed  # so that two clients do not ask the same agents at once
    first = number
    while not stopped:
        due = first + int((time.monotonic() - began) * rate)
        for each in range(number, due):
            load.ask(each)
        number = due
        time.sleep(PAUSE_S)
    open_still = wait(set(load.waiting), CLOSE_S).not_done
    say({"unended": len(open_still)})
    load.enforcer.close()


if __name__ == "__main__":
    main()
