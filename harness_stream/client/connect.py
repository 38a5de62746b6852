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
    from harness_stream.ports import InputSigner, TokenSigner, Verifier

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
        AccessRefused: the broker lets this process not in, or a right is missing.
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
    from harness_stream.adapters.kafka.admin import incarnation, partitions, require_topics  # noqa: PLC0415  see above
    from harness_stream.adapters.kafka.log import KafkaReader, KafkaWriter  # noqa: PLC0415  see above
    from harness_stream.config import Settings  # noqa: PLC0415  see above

    require_keys(credentials)
    settings = Settings(
        bootstrap=credentials.bootstrap,
        realm=credentials.realm,
        prefix=credentials.prefix,
        **credentials.transport(),  # type: ignore[arg-type]  # names and types are those of the settings
    )
    topics, kafka = Topics(credentials.prefix), settings.kafka
    try:
        require_topics(kafka, [topics.verdicts, topics.heads], writes=[topics.intents])
        found, count = incarnation(settings), partitions(settings, topics.intents)
    except BrokerUnavailable as error:
        raise cannot_connect(credentials.bootstrap, str(error)) from error
    _check(credentials, found, count)
    realm = ClientRealm(credentials.realm, found, count, topics)
    clock = SystemClock()
    reader = KafkaReader(kafka, clock, (topics.heads, topics.verdicts))
    writer = KafkaWriter(kafka)
    return Wiring(realm, reader, writer, clock, *pair_of(credentials, found), _token_signer(credentials, found))


def require_keys(credentials: Credentials) -> None:
    """Who speaks can vouch for it, before anything is connected.

    Raises:
        ConfigError: keys are missing, or there are some in an unsigned realm.
    """
    if credentials.dev:
        if credentials.keys is not None or credentials.root_key is not None:
            raise ConfigError("the credentials have keys, and `dev` says that the realm is unsigned", hint=_ONE_OF_BOTH)
        return
    missing = [name for name in ("keys", "pdp_key", "root_key") if getattr(credentials, name) is None]
    if missing:
        raise ConfigError(
            f"records of `{credentials.agent_id}` have to be signed, and its credentials have no "
            + ", ".join(f"`{name}`" for name in missing),
            hint="connect with the file that `harness agents enroll` wrote; an unsigned realm needs `dev=True`",
        )
    reporter = credentials.reporter()
    if reporter != credentials.agent_id and reporter not in credentials.others:
        raise ConfigError(
            f"outcomes are by `{reporter}`, and the credentials have no keys of it",
            hint="put the `keys` of its own credentials file under its name into `others`",
        )


_ONE_OF_BOTH: Final = "leave out `dev` (HARNESS_DEV), or the keys"


def pair_of(credentials: Credentials, incarnation: str) -> tuple[InputSigner, Verifier]:
    """By what the credentials speak, and whom they believe.

    Raises:
        ConfigError: a key in them cannot be used.
    """
    from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier  # noqa: PLC0415  see `kafka_wiring`

    if credentials.keys is None or credentials.pdp_key is None or credentials.root_key is None:
        return UnsignedSigner(), UnsignedVerifier()
    from harness_stream.adapters.signing.framing import Bound  # noqa: PLC0415  `dev` needs no cryptography
    from harness_stream.adapters.signing.inputs import SignedInputs, speaker_of  # noqa: PLC0415  same
    from harness_stream.adapters.signing.keys import raw_of  # noqa: PLC0415  same
    from harness_stream.adapters.signing.verifier import SignedVerifier  # noqa: PLC0415  same

    bound = Bound(credentials.realm, incarnation)
    everybody = {**credentials.others, credentials.agent_id: credentials.keys}
    try:
        speakers = {
            by: speaker_of(keys.mac.get_secret_value(), keys.sign.get_secret_value()) for by, keys in everybody.items()
        }
        signer = SignedInputs(bound, raw_of(credentials.pdp_key), speakers)
        return signer, SignedVerifier(bound, raw_of(credentials.root_key))
    except ValueError as error:
        raise ConfigError(f"a key in the credentials cannot be used: {error}", hint="enrol the agent again") from None


def _token_signer(credentials: Credentials, incarnation: str) -> TokenSigner | None:
    """Of the enforcer, if its key was certified for this realm and its log topics as they are now."""
    enforcer = credentials.enforcer or ""
    keys = {**credentials.others, credentials.agent_id: credentials.keys}.get(enforcer)
    if keys is None or keys.certificate is None or credentials.root_key is None:
        return None
    from harness_stream.adapters.signing.framing import Bound  # noqa: PLC0415  `dev` needs no cryptography
    from harness_stream.adapters.signing.keys import raw_of  # noqa: PLC0415  same
    from harness_stream.adapters.signing.tokens import seal_of  # noqa: PLC0415  same

    bound, root = Bound(credentials.realm, incarnation), raw_of(credentials.root_key)
    return seal_of(bound, root, enforcer, keys.sign.get_secret_value(), keys.certificate)


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
