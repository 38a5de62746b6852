"""One intent and its verdict over plain Kafka, without our package: raw_producer_consumer.py BOOTSTRAP [PREFIX]."""

import json
import secrets
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

broker, prefix, *_ = [*sys.argv[1:], "harness"] if sys.argv[1:2] not in ([], ["--help"]) else sys.exit(__doc__)
verdicts, lane = f"{prefix}.verdicts", "acme"  # the lane: as the agent's identity row says, by default its tenant
consumer = Consumer({"bootstrap.servers": broker, "group.id": "raw", "enable.auto.commit": False,
                     "isolation.level": "read_uncommitted", "auto.offset.reset": "error"})  # fmt: skip
places = [TopicPartition(verdicts, p) for p in consumer.list_topics(verdicts, 10).topics[verdicts].partitions]
for place in places:  # before producing: an "end" that is looked up later can lie behind the own verdict
    place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
consumer.assign(places)
ms, rnd = f"{time.time_ns() // 1_000_000:012x}", secrets.token_hex(9)  # a UUIDv7: its time must be now
intent = {"v": 1, "type": "intent", "realm": "default", "by": "support-1", "agent_id": "support-1",
          "intent_id": f"{ms[:8]}-{ms[8:]}-7{rnd[:3]}-8{rnd[3:6]}-{rnd[6:]}", "workload_id": "wl-support",
          "action": "crm.read", "resources": ["crm://orders/1234"], "enforcer_nonce": secrets.token_hex(16),
          "arguments_digest": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}  # fmt: skip
out = Producer({"bootstrap.servers": broker, "partitioner": "murmur2", "enable.idempotence": True, "batch.size": 60000})
out.produce(f"{prefix}.intents", json.dumps(intent), key=lane, headers=[("hs-alg", b"none")])
out.flush(5)
ends, mine = time.monotonic() + 5, []  # no verdict by then means no
while not mine and time.monotonic() < ends:  # a record with `denied` is of kind `denials`, and denies each intent in it
    said = [json.loads(record.value()) for record in consumer.consume(100, 0.1) if record.error() is None]
    mine = [one for body in said for one in body.get("denied", [body]) if one.get("intent_id") == intent["intent_id"]]
print(json.dumps(mine[0]) if mine else sys.exit("no verdict in time: nothing may be run"))  # a fold tells if it counts
