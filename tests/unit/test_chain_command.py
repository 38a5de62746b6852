"""`harness chain show` beside a worker on a log in memory: what Redis says counts as far as the log bears it out."""

import json

import pytest
from hold_world import INCARNATION, PARTITIONS, TOPICS, AwayStore, HoldWorld
from typer.testing import CliRunner

from harness_stream.adapters.kafka import admin, log
from harness_stream.adapters.memory.log import MemoryReader
from harness_stream.adapters.redis import state as redis_state
from harness_stream.cli.main import app
from harness_stream.core.lanes import partition_of
from harness_stream.errors import HarnessError, StateUnavailable

HOME = partition_of("acme", PARTITIONS)


@pytest.fixture
def world():
    with HoldWorld().worker() as world:
        yield world


@pytest.fixture
def show(world, monkeypatch):
    """Run `harness chain show agent-1 --json`: what it prints; an error of ours is raised."""
    state = {"store": None}
    monkeypatch.setattr(admin, "incarnation", lambda _settings: INCARNATION)
    monkeypatch.setattr(admin, "partitions", lambda _settings, _topic: PARTITIONS)
    monkeypatch.setattr(admin, "require_topics", lambda *_words, **_named: None)
    monkeypatch.setattr(log, "KafkaReader", lambda _kafka: MemoryReader(world.broker))
    monkeypatch.setattr(redis_state, "RedisStateStore", lambda *_words, **_named: state["store"] or world.store)

    def show(store=None):
        state["store"] = store
        done = CliRunner().invoke(app, ["chain", "show", "agent-1", "--prefix", "t", "--dev", "--json"])
        if isinstance(done.exception, HarnessError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    return show


def labels(shown):
    return shown["chains"]["agent:agent-1"]["labels"]


def test_what_an_agent_did_is_shown_as_of_the_record_that_redis_stands_at(world, show):
    read = world.ask("crm.read")
    world.stored(HOME)
    shown = show()
    assert (shown["as_of"], shown["behind"], labels(shown)) == (read["offset"], 0, ["pii"])


def test_it_says_how_far_redis_is_behind(world, show):
    first = world.ask("crm.read")
    world.stored(HOME)
    dump = world.store.snapshot()
    world.ask("crm.read")
    world.stored(HOME)
    world.stop()
    world.store.restore(dump)
    shown = show()
    assert (shown["as_of"], shown["behind"]) == (first["offset"], 1)


@pytest.mark.parametrize(
    ("grown", "what"),
    [(0, "the state store stands at .*, and the decision log has nothing from"), (3, "was moved by another record at")],
    ids=["it-is-too-short", "it-has-grown-since"],
)
def test_of_a_redis_that_knows_more_than_the_log_nothing_is_shown(world, show, grown, what):
    world.ask("crm.read")
    world.stored(HOME)
    world.lose_last(HOME, grown)
    with pytest.raises(StateUnavailable, match=what) as error:
        show()
    assert "a running worker replaces it within seconds" in error.value.hint
    assert "docs/runbook.md, `decisions_lost`" in error.value.hint
    assert "nothing is lost" not in error.value.hint


def test_a_record_that_retention_took_cannot_be_compared_and_is_no_loss(world, show):
    read = world.ask("crm.read")
    world.stored(HOME)
    world.stop()
    world.broker.truncate_before(TOPICS.verdicts, HOME, read["offset"] + 1)
    assert labels(show()) == ["pii"]


def test_who_asks_a_redis_that_is_away_is_told_that_nothing_is_lost(world, show):
    world.ask("crm.read")
    with pytest.raises(StateUnavailable, match="Redis does not answer") as error:
        show(AwayStore())
    assert error.value.hint.startswith("start it; nothing is lost, `harness verdicts tail")


def test_an_empty_redis_beside_a_log_that_is_not_is_no_agent_that_did_nothing(world, show):
    world.ask("crm.read")
    world.stop()
    world.store.flush()
    with pytest.raises(StateUnavailable, match="Redis holds nothing of partition") as error:
        show()
    assert "`harness worker`; nothing is lost, `harness verdicts tail" in error.value.hint
