"""Every librdkafka setting this package relies on, written out once, each with its reason.

Rule of this file: no client is built from anything but these functions, and nothing that matters is left to a default
(several defaults lose data silently: see `auto.offset.reset`, `isolation.level`, `batch.size`).
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from harness_stream.access import KafkaAccess, kafka_at
from harness_stream.core import limits
from harness_stream.wire.acls import NO_GROUP
from harness_stream.wire.topics import LARGE_BYTES_MAX

ClientSettings = dict[str, Any]
Where = KafkaAccess | str
"""A way in, or the plain address of a broker that asks nobody who he is."""

# Idle brokers answer a fetch after this; a newly placed partition waits for the fetch before it, so it bounds how long
# a resync or a first position takes. 20 empty fetches a second cost 0.2 % of a core.
FETCH_WAIT_MS: Final = 50


class Batches(NamedTuple):
    """How much one request of a writer holds.

    Attributes:
        bytes_max: must stay below the limit of every topic written, framing included: a batch must never fail where
            each of its records would pass.
        linger_ms: how long the first record of a request waits for more.
    """

    bytes_max: int
    linger_ms: float


# The smallest limit of a topic we write is 64 KiB (intents). Each intent is awaited on its own.
BATCHES: Final = Batches(48 * limits.KIB, 0)
# A worker writes only topics that take 256 KiB or more. Handing a micro-batch over takes half a millisecond at most;
# without waiting, librdkafka sends its first record while the second is handed over, and five small requests for one
# large one cost a tenth of a verdict's CPU here and as much of the broker's (decision 101).
DECISION_BATCHES: Final = Batches(limits.DECISION_BYTES_MAX - 16 * limits.KIB, 0.5)
# A restarted broker serves after 5 s; ten times a second costs nothing, the default backs off to 10 s.
RECONNECT_MS_MAX: Final = 500
RETRY_MS: Final = 100
# A broker that holds a request longer is given up and asked elsewhere; twice the delivery time-out.
SOCKET_TIMEOUT_MS: Final = 2 * limits.DELIVERY_TIMEOUT_MS
# The broker's own wait for its replicas: must end before the delivery time-out does.
REQUEST_TIMEOUT_MS: Final = limits.DELIVERY_TIMEOUT_MS - 500
# Half a second of the goal's 20,000/s and 1 KiB each; beyond it `append` raises BufferError.
QUEUE_RECORDS_MAX: Final = 100_000
QUEUE_KIB_MAX: Final = 64 * limits.KIB
# Prefetched input a worker may hold: seconds of work, bounded memory.
PREFETCH_KIB_MAX: Final = 16 * limits.KIB
# The same in records, since bytes leave out what each costs the client: a second of the goal's 20,000/s.
PREFETCH_RECORDS: Final = 20_000
# Of inputs one answer of the broker is enough, since whatever is held when a partition is paused was fetched in vain.
PREFETCH_INPUTS: Final = 1_000
# Once so many are held, librdkafka looks this much later whether more are wanted: before a worker has judged a thousand
# at the goal's 20,000/s. Ten times as long, and a partition with a backlog stood still between two answers.
REFETCH_MS: Final = 10
# The loop polls every 20 ms; one that hangs this long (heartbeats go on in the background) must lose its partitions.
# Not below the session, and within the 10 s a takeover may take.
POLL_INTERVAL_MS_MAX: Final = 10_000
# The most that librdkafka takes: a day, in which a worker is replaced or its partitions move.
METADATA_MS_MAX: Final = 86_400_000


def common(where: Where) -> ClientSettings:
    """What every client shares."""
    access = kafka_at(where)
    return {
        "bootstrap.servers": access.bootstrap,
        **_transport(access),
        "client.id": "harness",
        # Errors come back as values and are counted; a broker restart must not flood a terminal.
        "log_level": 0,
        "log.connection.close": False,
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
        "socket.timeout.ms": SOCKET_TIMEOUT_MS,
        "reconnect.backoff.ms": RETRY_MS,
        "reconnect.backoff.max.ms": RECONNECT_MS_MAX,
        "retry.backoff.ms": RETRY_MS,
        # With connections made only when needed, a query that waits for a dead broker connects again the moment it was
        # refused, without any backoff: a core and a half each client, while two brokers of three need it to elect.
        "enable.sparse.connections": False,
        # Topics are made by `harness topics apply`, never by asking for them.
        "allow.auto.create.topics": False,
    }


def _transport(access: KafkaAccess) -> ClientSettings:
    """Who we are, and whom we believe to be the broker."""
    found: ClientSettings = {"security.protocol": access.protocol}
    if access.user:
        found |= {"sasl.mechanism": access.mechanism, "sasl.username": access.user}
        found |= {"sasl.password": access.password.reveal()}
    if not access.encrypted:
        return found
    # Librdkafka's own defaults since 2.0, written out because nothing would tell that they had changed.
    found |= {"enable.ssl.certificate.verification": True, "ssl.endpoint.identification.algorithm": "https"}
    tls = access.tls
    named = {"ssl.ca.location": tls.ca, "ssl.certificate.location": tls.cert, "ssl.key.location": tls.key}
    named["ssl.key.password"] = tls.key_password.reveal()
    return found | {name: value for name, value in named.items() if value}


def admin(where: Where) -> ClientSettings:
    """Settings of an admin client."""
    return common(where)


def producer(where: Where, batches: Batches = BATCHES) -> ClientSettings:
    """Settings of the writer: acknowledged by all in-sync replicas, in order, without duplicates.

    Args:
        where: the way into Kafka.
        batches: how much one request holds.
    """
    return common(where) | {
        "acks": "all",
        "enable.idempotence": True,
        # Five is the most with which a broker still orders an idempotent producer's batches.
        "max.in.flight.requests.per.connection": 5,
        "delivery.timeout.ms": limits.DELIVERY_TIMEOUT_MS,
        "request.timeout.ms": REQUEST_TIMEOUT_MS,
        "linger.ms": batches.linger_ms,
        "batch.size": batches.bytes_max,
        # One record of the largest topic must fit.
        "message.max.bytes": LARGE_BYTES_MAX,
        # The input topic is uncompressed, so the broker would only unpack it again.
        "compression.type": "none",
        "queue.buffering.max.messages": QUEUE_RECORDS_MAX,
        "queue.buffering.max.kbytes": QUEUE_KIB_MAX,
        # Only for keys without an explicit partition, which we never send; the same as Java's, in case.
        "partitioner": "murmur2",
    }


def reader(where: Where) -> ClientSettings:
    """Settings of a consumer that is told its positions."""
    return common(where) | {
        "group.id": NO_GROUP,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # An agent's open transaction must not hide other agents' records.
        "isolation.level": "read_uncommitted",
        # A silent jump to the other end of the log would be data loss.
        "auto.offset.reset": "error",
        # Says how far the log goes where its last offsets hold no record (transaction markers, compaction).
        "enable.partition.eof": True,
        "check.crcs": True,
        # What is known of topics that are not read just now: a worker reads decisions only when it takes over. Where a
        # leader has moved meanwhile, its former broker says so.
        "metadata.max.age.ms": METADATA_MS_MAX,
        "fetch.min.bytes": 1,
        "fetch.wait.max.ms": FETCH_WAIT_MS,
        "fetch.error.backoff.ms": RETRY_MS,
        "fetch.queue.backoff.ms": RETRY_MS,
        "queued.max.messages.kbytes": PREFETCH_KIB_MAX,
        "queued.min.messages": PREFETCH_RECORDS,
        # One answer may come on top of a queue that is nearly full; by default that is 50 MiB.
        "fetch.max.bytes": PREFETCH_KIB_MAX * limits.KIB,
    }


def input_consumer(where: Where, group: str) -> ClientSettings:
    """Settings of a worker's group membership (PROTOCOL §5): classic protocol, cooperative, short session."""
    return reader(where) | {
        "group.id": group,
        "enable.partition.eof": False,
        "queued.min.messages": PREFETCH_INPUTS,
        "fetch.queue.backoff.ms": REFETCH_MS,
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": limits.SESSION_MS,
        "heartbeat.interval.ms": limits.HEARTBEAT_MS,
        "max.poll.interval.ms": POLL_INTERVAL_MS_MAX,
    }
