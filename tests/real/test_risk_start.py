"""Where the risk topology begins: on a real log, at places from which the fold comes out the same."""

import subprocess
import sys

import pytest
from own_realm import OwnRealm, wait_until

from harness_stream.adapters.kafka.admin import incarnation
from harness_stream.adapters.signing import UnsignedVerifier
from harness_stream.client.head import Head
from harness_stream.core.fold import Place
from harness_stream.errors import BrokerUnavailable, ProtocolError
from harness_stream.local.process import free_port
from topologies.risk.start import find_places

pytestmark = pytest.mark.real

RULES = """
rule_set: production
default: deny
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
"""
AGENT = {"agent_id": "good-1", "tenant": "acme", "actions": ["crm.read"], "workloads": ["w-1"]}
TABLES = {"identity": [AGENT], "infrastructure": [{"workload_id": "w-1"}]}
LANE, HOUR_MS = "acme", 3_600_000


@pytest.fixture
def realm(real_stack, tmp_path):
    stack = (real_stack.bootstrap, real_stack.redis_url)
    return OwnRealm(*stack, tmp_path, rules=RULES, tables=TABLES, partitions=1).prepare()


def place_since(realm, since_ms):
    return find_places(realm.settings, [0], since_ms, UnsignedVerifier())[0]


def checkpoint_of(realm, inputs):
    """The newest checkpoint, if it covers so many inputs; one follows within a second of what it states."""
    place = place_since(realm, realm.clock.now_ms() + HOUR_MS)
    return place if place.header.next_input == inputs else None


def folded(realm, place):
    """Where the log's end is, folded from `place`."""
    head = Head(place, UnsignedVerifier())
    for record in realm.records(realm.topics.verdicts, 0):
        if record.offset > place.offset:
            head.take(record)
    return head.place


def test_every_place_leads_to_the_same_end(realm):
    genesis = Place.genesis(incarnation(realm.settings), 0)
    assert place_since(realm, 0) == genesis, "nothing was written yet"
    with realm.worker():
        for _ in range(3):
            realm.answer(realm.send(realm.intent("good-1"), LANE))
        first = wait_until(lambda: checkpoint_of(realm, 3), why=lambda: "no checkpoint")
        between_ms = realm.clock.now_ms()
        for _ in range(3):
            realm.answer(realm.send(realm.intent("good-1"), LANE))
    end = folded(realm, genesis)
    young, middle, old = (place_since(realm, t) for t in (0, between_ms, realm.clock.now_ms() + HOUR_MS))
    assert young == genesis, "the log is younger than the history wanted"
    assert first.offset <= middle.offset, "a checkpoint in the log, no older than what was asked for"
    assert old == end, "nothing newer has weight: the final checkpoint"
    assert {folded(realm, place) for place in (young, middle, old)} == {end}


def test_a_silent_broker_is_an_error_that_says_what_to_do(realm):
    nobody = free_port()
    settings = realm.settings.__class__(bootstrap=f"127.0.0.1:{nobody}", prefix=realm.settings.prefix)
    with pytest.raises(BrokerUnavailable) as caught:
        find_places(settings, [0], 0, UnsignedVerifier())
    assert caught.value.hint


def test_the_topology_names_every_topic_that_is_missing(real_stack, tmp_path):
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, tmp_path, rules=RULES, tables=TABLES)
    done = subprocess.run(
        [sys.executable, "-m", "topologies.risk"],
        env=realm.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ProtocolError.exit_code
    assert f"`{realm.topics.verdicts}`, `{realm.topics.heads}`, `{realm.topics.risk}` do not exist" in done.stderr
    assert "→ run `harness topics apply`" in done.stderr
    assert "Traceback" not in done.stderr
