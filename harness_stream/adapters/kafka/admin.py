"""What a process asks a broker about its topics.

Rule: here a silent broker is an error that names its address and what to do.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without saying so

from harness_stream.access import kafka_at
from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.adapters.kafka.refused import Refusals, denied, denied_by, is_denial, wrong_port
from harness_stream.errors import BrokerUnavailable, ProtocolError
from harness_stream.wire import acls
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]  # re-exported without saying so

    from harness_stream.config import Settings

Result = TypeVar("Result")

# A serving broker answers in milliseconds, one that just lost its controller within seconds; people wait at a terminal.
ADMIN_S_MAX: Final = 5.0
# The client gives up by itself; this only guards against one that does not.
_RESULT_S_MAX: Final = 2 * ADMIN_S_MAX
# A broker learns of a topic that another one has just created within some 100 ms; a person is not kept waiting longer.
MISSING_S_MAX: Final = 1.0
_MISSING_PAUSE_S: Final = 0.1
# Between two looks at what librdkafka's callback was told while an answer is awaited; no one notices so little.
_LOOK_S: Final = 0.02


class KafkaAdmin:
    """An admin client that knows its address, to say so when nobody answers.

    Args:
        where: the way into Kafka.
    """

    def __init__(self, where: client_settings.Where) -> None:
        self.access = kafka_at(where)
        self.bootstrap = self.access.bootstrap
        self._refusals = Refusals(self.access)
        self.client = AdminClient(client_settings.admin(self.access) | {"error_cb": self._refusals.note})

    def result(self, future: Future[Result], name: str = "", *operations: str) -> Result:
        """The future's result.

        Args:
            future: what was asked.
            name: of the topic or group that it is about, to say on what a right is missing.
            operations: the rights that it takes.

        Raises:
            BrokerUnavailable: nobody answered in time.
            AccessRefused: the broker lets us not in, or not do this.
            KafkaException: the broker answered with another error.
        """
        try:
            return self._answer(future)
        except TimeoutError as error:
            raise self.unavailable(str(error)) from error
        except KafkaException as error:
            raise self._blame(error.args[0], name, *operations) from error

    def _answer(self, future: Future[Result]) -> Result:
        """Librdkafka tries a refused connection again until time is up, so a refusal is looked for meanwhile."""
        give_up_s = time.monotonic() + _RESULT_S_MAX
        while not future.done():
            self.client.poll(_LOOK_S)
            if (refused := self._refusals.due()) is not None:
                raise refused
            if time.monotonic() >= give_up_s:
                raise TimeoutError
        return future.result()

    def describe(
        self, names: list[str], wanted: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, TopicDescription | None]:
        """Each topic's description; None for one that does not exist.

        Args:
            names: of topics.
            wanted: what will be done with them, for the error of who may not even look.

        Raises:
            BrokerUnavailable: nobody answered in time.
        """
        futures = self.client.describe_topics(
            TopicCollection(names), request_timeout=ADMIN_S_MAX, include_authorized_operations=True
        )
        wanted = wanted or {}
        return {name: self.known(f, name, *(wanted.get(name) or (acls.DESCRIBE,))) for name, f in futures.items()}

    def require(self, found: Mapping[str, TopicDescription | None], rights: Mapping[str, Sequence[str]]) -> None:
        """Make sure of rights on topics that were described: a reader without one would look like a silent broker.

        Raises:
            AccessRefused: the first one that is missing.
        """
        for name, operations in rights.items():
            description = found.get(name)
            listed = None if description is None else description.authorized_operations
            if listed is None:
                continue  # no such topic, or a broker that does not tell
            lacking = sorted(set(operations) - {operation.name for operation in listed})
            if lacking:
                raise denied(self.access, "topic", name, *lacking)

    def require_group(self, name: str) -> None:
        """Make sure that a consumer group may be joined.

        Raises:
            AccessRefused: it may not be seen, so not be joined either.
            BrokerUnavailable: nobody answered in time.
        """
        asked = self.client.describe_consumer_groups([name], request_timeout=ADMIN_S_MAX)
        with suppress(KafkaException):  # a group that there is not yet
            self.result(asked[name], name, acls.READ)

    def unavailable(self, detail: str) -> BrokerUnavailable:
        """The error of a broker that does not answer."""
        return BrokerUnavailable(
            f"Kafka does not answer at {self.bootstrap}" + (f" ({detail})" if detail else ""),
            hint="`harness up` starts one on this machine, and with `--dir` of a stack that is there what is down "
            "of it; `--bootstrap` or HARNESS_BOOTSTRAP names another"
            + ("" if self._refusals.nobody else f"; {wrong_port(self.access)}"),
        )

    def known(self, future: Future[Result], name: str = "", *operations: str) -> Result | None:
        """The future's result; None if the broker does not know the topic.

        Args and Raises:
            As `result`.
        """
        try:
            return self.result(future, name, *operations)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise

    def _blame(self, error: KafkaError, name: str, *operations: str) -> Exception:
        if is_denial(error):
            return denied_by(self.access, error, name, *operations)
        if error.code() >= 0:
            return KafkaException(error)
        # librdkafka's own codes are negative: no broker said anything.
        return self._refusals.first() or self.unavailable(error.str())


def incarnation(settings: Settings) -> str:
    """The ids of the two log topics, joined by a dot (PROTOCOL §1): recreating either makes another realm.

    Raises:
        BrokerUnavailable: nobody answered in time.
        ProtocolError: a log topic does not exist.
    """
    topics = Topics(settings.prefix)
    names = [topics.intents, topics.verdicts]
    found = KafkaAdmin(settings.kafka).describe(names)
    return ".".join(str(_existing(found, name).topic_id) for name in names)


def partitions(settings: Settings, topic: str) -> int:
    """Partition count of an existing topic.

    Raises:
        BrokerUnavailable: nobody answered in time.
        ProtocolError: the topic does not exist.
    """
    found = KafkaAdmin(settings.kafka).describe([topic])
    return len(_existing(found, topic).partitions)


def offsets_at(settings: Settings, topic: str, partitions: Iterable[int], at_ms: int) -> dict[int, int | None]:
    """For each partition the first offset appended at `at_ms` (epoch ms) or later; None if there is none.

    Raises:
        BrokerUnavailable: nobody answered in time, or a partition has no leader.
        ProtocolError: the topic does not exist.
    """
    admin, numbers = KafkaAdmin(settings.kafka), set(partitions)
    led = {p.id for p in _existing(admin.describe([topic]), topic).partitions if p.leader is not None}
    if not numbers <= led:  # asked all the same, the process might end by SIGSEGV (leaders.py)
        raise BrokerUnavailable(
            f"nobody leads `{topic}`/{min(numbers - led)} just now", hint="try again once its brokers are back"
        )
    spec = OffsetSpec.for_timestamp(at_ms)
    futures = admin.client.list_offsets(
        {TopicPartition(topic, number): spec for number in numbers},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=ADMIN_S_MAX,
    )
    found = {p.partition: admin.result(future, topic, acls.DESCRIBE).offset for p, future in futures.items()}
    return {number: None if offset < 0 else offset for number, offset in found.items()}


def require_topics(
    where: client_settings.Where, reads: Sequence[str], writes: Sequence[str] = (), describes: Sequence[str] = ()
) -> None:
    """Make sure that topics exist and may be used, at once: one that does not, or may not, looks like a slow broker.

    Args:
        where: the way into Kafka.
        reads: topics that will be read.
        writes: topics that will be written.
        describes: topics that are only looked at.

    Raises:
        BrokerUnavailable: nobody answered in time.
        AccessRefused: a right is missing.
        ProtocolError: names those that do not exist.
    """
    admin, give_up_s = KafkaAdmin(where), time.monotonic() + MISSING_S_MAX
    names = list(dict.fromkeys((*describes, *reads, *writes)))
    rights = {name: [op for op, of in ((acls.READ, reads), (acls.WRITE, writes)) if name in of] for name in names}
    found = admin.describe(names, rights)
    while missing := [name for name, topic in found.items() if topic is None]:
        if time.monotonic() >= give_up_s:
            raise _missing(missing)
        time.sleep(_MISSING_PAUSE_S)
        found = admin.describe(names, rights)
    admin.require(found, rights)


def _existing(found: dict[str, TopicDescription | None], name: str) -> TopicDescription:
    description = found.get(name)
    if description is None:
        raise _missing([name])
    return description


def _missing(names: Sequence[str]) -> ProtocolError:
    one = len(names) == 1
    listed = ", ".join(f"`{name}`" for name in names)
    said = f"topic {listed} does not exist" if one else f"topics {listed} do not exist"
    return ProtocolError(said, hint=f"run `harness topics apply`, which creates {'it' if one else 'them'}")
