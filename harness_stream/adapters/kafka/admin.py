"""What a process asks a broker about its topics.

Rule: here a silent broker is an error that names its address and what to do.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # re-exported without saying so

from harness_stream.adapters.kafka import settings as client_settings
from harness_stream.errors import BrokerUnavailable, ProtocolError
from harness_stream.wire.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
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


class KafkaAdmin:
    """An admin client that knows its address, to say so when nobody answers.

    Args:
        bootstrap: Kafka bootstrap servers.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.client = AdminClient(client_settings.admin(bootstrap))

    def result(self, future: Future[Result]) -> Result:
        """The future's result.

        Raises:
            BrokerUnavailable: nobody answered in time.
            KafkaException: the broker answered with an error.
        """
        try:
            return future.result(_RESULT_S_MAX)
        except TimeoutError as error:
            raise self.unavailable(str(error)) from error
        except KafkaException as error:
            raise self._blame(error.args[0]) from error

    def describe(self, names: list[str]) -> dict[str, TopicDescription | None]:
        """Each topic's description; None for one that does not exist.

        Raises:
            BrokerUnavailable: nobody answered in time.
        """
        futures = self.client.describe_topics(TopicCollection(names), request_timeout=ADMIN_S_MAX)
        return {name: self.known(future) for name, future in futures.items()}

    def unavailable(self, detail: str) -> BrokerUnavailable:
        """The error of a broker that does not answer."""
        return BrokerUnavailable(
            f"Kafka does not answer at {self.bootstrap}" + (f" ({detail})" if detail else ""),
            hint="`harness up` starts one on this machine; `--bootstrap` or HARNESS_BOOTSTRAP names another",
        )

    def known(self, future: Future[Result]) -> Result | None:
        """The future's result; None if the broker does not know the topic.

        Raises:
            As `result`.
        """
        try:
            return self.result(future)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise

    def _blame(self, error: KafkaError) -> Exception:
        # librdkafka's own codes are negative: no broker said anything.
        return self.unavailable(error.str()) if error.code() < 0 else KafkaException(error)


def incarnation(settings: Settings) -> str:
    """The ids of the two log topics, joined by a dot (PROTOCOL §1): recreating either makes another realm.

    Raises:
        BrokerUnavailable: nobody answered in time.
        ProtocolError: a log topic does not exist.
    """
    topics = Topics(settings.prefix)
    names = [topics.intents, topics.verdicts]
    found = KafkaAdmin(settings.bootstrap).describe(names)
    return ".".join(str(_existing(found, name).topic_id) for name in names)


def partitions(settings: Settings, topic: str) -> int:
    """Partition count of an existing topic.

    Raises:
        BrokerUnavailable: nobody answered in time.
        ProtocolError: the topic does not exist.
    """
    found = KafkaAdmin(settings.bootstrap).describe([topic])
    return len(_existing(found, topic).partitions)


def offsets_at(settings: Settings, topic: str, partitions: Iterable[int], at_ms: int) -> dict[int, int | None]:
    """For each partition the first offset appended at `at_ms` (epoch ms) or later; None if there is none.

    Raises:
        BrokerUnavailable: nobody answered in time.
    """
    admin = KafkaAdmin(settings.bootstrap)
    spec = OffsetSpec.for_timestamp(at_ms)
    futures = admin.client.list_offsets(
        {TopicPartition(topic, number): spec for number in partitions},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=ADMIN_S_MAX,
    )
    found = {place.partition: admin.result(future).offset for place, future in futures.items()}
    return {number: None if offset < 0 else offset for number, offset in found.items()}


def require_topics(bootstrap: str, names: Sequence[str]) -> None:
    """Make sure that topics exist, at once: reading one that does not looks like a broker that is slow to answer.

    Raises:
        BrokerUnavailable: nobody answered in time.
        ProtocolError: names those that do not exist.
    """
    admin, give_up_s = KafkaAdmin(bootstrap), time.monotonic() + MISSING_S_MAX
    while missing := [name for name, found in admin.describe(list(names)).items() if found is None]:
        if time.monotonic() >= give_up_s:
            raise _missing(missing)
        time.sleep(_MISSING_PAUSE_S)


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
