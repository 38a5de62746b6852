"""One client process under load: many agents behind one enforcer; what became of each intent, by its id.

usage: load_client.py BOOTSTRAP PREFIX PARTITIONS FIRST LAST AGENTS TENANTS DEADLINE_MS
"""

import json
import sys
import threading

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter
from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier
from harness_stream.client.enforcer import Enforcer
from harness_stream.client.ids import Ids
from harness_stream.client.request import Request
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.config import Settings
from harness_stream.errors import Denied
from harness_stream.wire.topics import Topics

WINDOW = 200  # intents waiting at once: an agent waits for its answer, so load is closed


def main() -> None:
    bootstrap, prefix = sys.argv[1:3]
    partitions, first, last, agents, tenants, deadline_ms = map(int, sys.argv[3:])
    settings = Settings(bootstrap=bootstrap, prefix=prefix, partitions=partitions, dev=True)
    realm = ClientRealm(settings.realm, incarnation(settings), partitions, Topics(prefix))
    clock = SystemClock()
    wiring = Wiring(realm, KafkaReader(bootstrap), KafkaWriter(bootstrap), clock, UnsignedSigner(), UnsignedVerifier())
    enforcer = Enforcer(wiring)
    enforcer.start()
    for tenant in range(tenants):
        enforcer.open(f"tenant-{tenant}").result(30)
    ids, waiting, room = Ids(clock), {}, threading.Semaphore(WINDOW)
    for number in range(first, last):
        agent = f"agent-{number % agents}"
        body = {
            "v": 1,
            "type": "intent",
            "realm": "default",
            "by": agent,
            "agent_id": agent,
            "intent_id": ids.new(),
            "workload_id": "w",
            "action": ("crm.read", "email.send", "search.query", "files.read")[number // agents % 4],
            "resources": [f"crm://customers/{number % 97}"],
            "arguments_digest": "0" * 64,
            "deadline_ms": deadline_ms,
            "enforcer_nonce": enforcer.nonce,
        }
        lane = f"tenant-{number % agents % tenants}"
        value = json.dumps(body).encode()
        room.acquire()
        future = enforcer.submit(
            Request("intent", body["intent_id"], agent, lane, value, (), deadline_ms, "load", "0" * 64)
        )
        future.add_done_callback(lambda _: room.release())
        waiting[body["intent_id"]] = future
    answers = {asked: outcome(future, (deadline_ms + 5_000) / 1_000) for asked, future in waiting.items()}
    enforcer.close()
    print(json.dumps(answers))


def outcome(future, timeout_s: float) -> str:
    error = future.exception(timeout_s)
    if error is None:
        return "approve"
    return "Denied" if isinstance(error, Denied) else f"{type(error).__name__}: {str(error)[:300]}"


main()
