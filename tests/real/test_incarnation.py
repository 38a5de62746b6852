"""Which incarnation the log topics are of: asked of a real broker, without waiting, until it has answered."""

import secrets

import pytest
from confluent_kafka.admin import NewTopic
from log_lanes import eventually

from harness_stream.adapters.clock import SystemClock
from harness_stream.adapters.kafka.admin import KafkaAdmin
from harness_stream.adapters.kafka.incarnation import KafkaIncarnations
from harness_stream.ports import Known

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


@pytest.fixture
def topics():
    name = secrets.token_hex(4)
    return f"{name}.intents", f"{name}.verdicts"


@pytest.fixture
def admin(real_stack):
    return KafkaAdmin(real_stack.bootstrap)


def create(admin, *names):
    for created in admin.client.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        admin.result(created)
    eventually(lambda: None not in admin.describe(list(names)).values())


def delete(admin, *names):
    for deleted in admin.client.delete_topics(list(names)).values():
        admin.result(deleted)
    eventually(lambda: set(admin.describe(list(names)).values()) == {None})


def answer(incarnations, asked_ms):
    incarnations.ask(asked_ms)
    return eventually(lambda: (known := incarnations.known()) and known.asked_at_ms == asked_ms and known)


def test_it_is_the_ids_of_both_topics_and_recreating_one_makes_another(real_stack, admin, topics):
    create(admin, *topics)
    incarnations = KafkaIncarnations(real_stack.bootstrap, topics, SystemClock())
    ids = [str(admin.describe([topic])[topic].topic_id) for topic in topics]
    assert answer(incarnations, 1) == Known(".".join(ids), 1)
    delete(admin, topics[1])
    create(admin, topics[1])
    assert answer(incarnations, 2).incarnation.startswith(f"{ids[0]}.")
    assert answer(incarnations, 2) != Known(".".join(ids), 2)


def test_a_topic_that_does_not_exist_yet_is_no_answer_and_is_asked_for_again(real_stack, admin, topics):
    create(admin, topics[0])
    incarnations = KafkaIncarnations(real_stack.bootstrap, topics, SystemClock())
    incarnations.ask(1)
    eventually(lambda: incarnations.known() or incarnations._retry_ms > 0)
    assert incarnations.known() is None
    create(admin, topics[1])
    assert answer(incarnations, 1).asked_at_ms == 1
