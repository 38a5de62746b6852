"""Composition: from credentials to a session on Apache Kafka. Rule: the only file of the client that knows adapters.

Adapters are imported when one connects, so that importing the package costs no broker library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness_stream.client.session import Session
from harness_stream.client.silence import cannot_connect
from harness_stream.client.wiring import ClientRealm, Wiring
from harness_stream.core import limits
from harness_stream.errors import BrokerUnavailable, ConfigError
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from harness_stream.client.credentials import Credentials

# Finding the partition's end takes three round trips; a broker that just restarted serves after 5 s.
OPEN_MS_MAX: Final = 2 * limits.DEADLINE_MS_DEFAULT


def open_session(credentials: Credentials, wiring: Wiring | None = None) -> Session:
    """Connect, and find the end of the agent's partition. Waits up to 10 s, and as long again for a silent broker.

    Args:
        credentials: who.
        wiring: the log; default Apache Kafka as the credentials say.

    Raises:
        ConfigError: the credentials do not fit the realm.
        ProtocolError: the realm's topics do not exist.
        Unreachable: the broker does not answer.
    """
    session = Session(credentials, wiring or kafka_wiring(credentials))
    session.enforcer.start()
    try:
        session.enforcer.open(credentials.home()).result(OPEN_MS_MAX / 1_000)
    except TimeoutError:
        session.enforcer.close()
        raise cannot_connect(credentials.bootstrap, "the decision log could not be read") from None
    except BaseException:
        session.enforcer.close()
        raise
    return session


def kafka_wiring(credentials: Credentials) -> Wiring:
    """Ports to the realm on Apache Kafka.

    Raises:
        As `open_session`.
    """
    # Each of these loads the broker's library, which costs what nobody who does not connect shall pay.
    from harness_stream.adapters.clock import SystemClock  # noqa: PLC0415  see above
    from harness_stream.adapters.kafka.admin import incarnation, partitions  # noqa: PLC0415  see above
    from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter  # noqa: PLC0415  see above
    from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier  # noqa: PLC0415  see above
    from harness_stream.config import Settings  # noqa: PLC0415  see above

    if not credentials.dev:
        raise ConfigError("signed realms need keys, which this version has not", hint="connect with `dev=True`")
    settings = Settings(bootstrap=credentials.bootstrap, realm=credentials.realm, prefix=credentials.prefix)
    topics = Topics(credentials.prefix)
    try:
        found, count = incarnation(settings), partitions(settings, topics.intents)
    except BrokerUnavailable as error:
        raise cannot_connect(credentials.bootstrap, str(error)) from error
    _check(credentials, found, count)
    realm = ClientRealm(credentials.realm, found, count, topics)
    clock = SystemClock()
    reader = KafkaReader(credentials.bootstrap, clock, (topics.heads, topics.verdicts))
    writer = KafkaWriter(credentials.bootstrap)
    return Wiring(realm, reader, writer, clock, UnsignedSigner(), UnsignedVerifier())


def _check(credentials: Credentials, incarnation: str, partitions: int) -> None:
    if credentials.partitions not in {None, partitions}:
        raise ConfigError(
            f"the credentials say {credentials.partitions} partitions, the broker has {partitions}",
            hint="a realm's partition count never changes: is this the right realm?",
        )
    if credentials.incarnation not in {None, incarnation}:
        raise ConfigError(
            "the log topics are not those the credentials name: they were recreated, or this is another realm",
            hint="ask the operator for new credentials",
        )
