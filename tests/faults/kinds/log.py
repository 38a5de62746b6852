"""Faults inside of the log: a transaction that stays open, and a decision log that takes nothing more."""

import json

from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from harness_stream.adapters.kafka.admin import KafkaAdmin
from harness_stream.core.limits import DECISION_BYTES_MAX

ANSWER_S = 10.0
PRODUCERS_MAX = 3
TRANSACTION_MS_MAX = 300_000
# No record of ours is so small, so the broker refuses all of them, as one whose disk is full would.
NOTHING_BYTES = 16
FULL_S = 5.0  # beyond the delivery time-out, so that resyncs and claims are refused too


def open_transaction(scene):
    """Somebody writes a valid intent and does not end the transaction; neither that one nor any behind it may wait."""
    site = scene.site
    lane = scene.chance.choice(site.lanes)
    partition = site.realm.partition_of(lane)
    producer, offset = written_openly(site, lane, partition)
    scene.began()
    scene.serving("while open")
    scene.watch(scene.transaction_s)
    scene.logs.read()
    assert scene.logs.next_input(partition) > offset, "an intent in an open transaction waits for its end"
    scene.healed()
    scene.serving("still open")
    scene.told.variant = f"open for {scene.transaction_s:g} s, {'aborted' if ended(producer) else 'left'}"
    scene.healed()
    scene.serving("ended")


def written_openly(site, lane, partition):
    """The producer of an intent whose transaction is open, and where the intent is.

    A broker that has lost its disk gives producer ids anew, and one of its predecessor's may still have written under
    this one: that is a fatal error, and the next producer has another epoch.
    """
    body = site.realm.intent(f"{lane}-0", deadline_ms=10_000)
    value = json.dumps(body).encode()
    for _ in range(PRODUCERS_MAX):
        producer, landed = begun(site, lane), []
        producer.produce(
            site.realm.topics.intents,
            value,
            lane.encode(),
            partition,
            headers={"hs-alg": "none"},
            on_delivery=lambda error, message, landed=landed: error or landed.append(message.offset()),
        )
        producer.flush(ANSWER_S)
        if landed:
            return producer, landed[0]
    raise AssertionError("no producer could write")


def begun(site, lane):
    settings = {
        "bootstrap.servers": site.broker.address,
        "transactional.id": f"open-{lane}",
        "transaction.timeout.ms": TRANSACTION_MS_MAX,
        "log_level": 0,
    }
    producer = Producer(settings)
    producer.init_transactions(ANSWER_S)
    producer.begin_transaction()
    return producer


def ended(producer):
    """Aborted: its marker takes an offset that holds no record."""
    try:
        producer.abort_transaction(ANSWER_S)
    except KafkaException:
        return False
    return True


def full(scene):
    """The decision log refuses every record for a while (`max.message.bytes` is lowered).

    This shows what workers and clients do when appends are refused, not what a broker does whose disk is full: that one
    ends, which is the fault `broker killed`.
    """
    limit(scene.site, NOTHING_BYTES)
    try:
        scene.watch(FULL_S)
    finally:
        limit(scene.site, DECISION_BYTES_MAX)
    scene.healed()
    scene.serving("room again")


def limit(site, size):
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, site.realm.topics.verdicts, incremental_configs=[entry])
    admin = KafkaAdmin(site.broker.address)
    (done,) = admin.client.incremental_alter_configs([resource]).values()
    admin.result(done)


KINDS = {
    "transaction left open": open_transaction,
    "decision log full": full,
}
