"""What a worker says and counts when something is wrong: the lines and numbers that `docs/runbook.md` goes by."""

from __future__ import annotations

import orjson
import pytest

from harness_stream.adapters.signing import UNSIGNED_HEADERS
from harness_stream.core import limits
from harness_stream.runtime.mover import LOOK_MS
from harness_stream.runtime.telemetry import PrometheusMetrics
from tests.simulation.test_regressions import AGENT, HOME, act, owner, quiet, restarted, turns
from tests.simulation.world import RULES, TOPICS


@pytest.fixture
def metrics(monkeypatch):
    """What all workers of a world count together."""
    counted = PrometheusMetrics()
    monkeypatch.setattr("tests.simulation.world.Told", lambda happened: counted)
    return counted


def shown(metrics, name):
    """Series → value of one metric."""
    lines = (line.rsplit(" ", 1) for line in metrics.exposition().decode().splitlines() if line.startswith(name))
    return {series: float(value) for series, value in lines if series.split("{")[0] == name}


def said(caplog, alarm):
    return [record.message for record in caplog.records if record.message.endswith(f"[{alarm}]")]


def foreign(world, **over):
    """A record of a former owner, which lost."""
    header = owner(world).place.header
    body = {"kind": "ack", "incarnation": "i1", "epoch": header.epoch - 1, "writer": "f" * 32, "prev": header.head}
    body |= {"covers": [header.next_input, header.next_input], **over}
    world.broker.append(TOPICS.verdicts, HOME, None, orjson.dumps(body), UNSIGNED_HEADERS)


def test_a_void_record_counts_once_by_the_owner_that_met_it(metrics):
    world = quiet()
    act(world)
    foreign(world)
    turns(world, 600)
    assert shown(metrics, "harness_void_total") == {"harness_void_total": 1.0}
    restarted(world)
    assert shown(metrics, "harness_void_total") == {"harness_void_total": 1.0}


STRANGERS = {
    "foreign writer": {"writer": "e" * 32},
    "unclaimed epoch": {"epoch": 99},
    "unreadable": {"kind": "nothing of ours"},
}


@pytest.mark.parametrize("why", [*STRANGERS, "not authentic"])
def test_a_record_of_somebody_who_owned_nothing_is_named_and_counted_once(metrics, caplog, why):
    """It caused a resync, like a publish that failed, and nobody was told."""
    world = quiet()
    act(world)
    if why == "not authentic":
        world.broker.append(TOPICS.verdicts, HOME, None, b'{"kind":"claim"}', [])
    else:
        foreign(world, **{"epoch": owner(world).place.header.epoch, **STRANGERS[why]})
    at = world.everything(TOPICS.verdicts, HOME)[-1].offset
    turns(world, 600)
    assert said(caplog, "foreign_record") == [
        f"partition {HOME}: records that no owner wrote (1 {why}), last at {at} [foreign_record]"
    ]
    series = 'harness_security_events_total{reason="foreign_record"}'
    assert shown(metrics, "harness_security_events_total")[series] == 1.0
    assert shown(metrics, "harness_void_total") == {"harness_void_total": 1.0}
    restarted(world)
    assert shown(metrics, "harness_security_events_total")[series] == 1.0


def test_what_owners_leave_behind_when_they_change_is_no_strangers(metrics, caplog):
    world = quiet()
    act(world)
    foreign(world)
    turns(world, 600)
    assert said(caplog, "foreign_record") == []
    assert shown(metrics, "harness_void_total") == {"harness_void_total": 1.0}


def test_a_partition_that_left_is_shown_no_more(metrics):
    world = quiet()
    act(world)
    series = [f'harness_lag{{partition="{HOME}"}}', f'harness_partition_state{{partition="{HOME}",state="deciding"}}']
    assert shown(metrics, "harness_lag")[series[0]] == 0.0
    assert shown(metrics, "harness_partition_state")[series[1]] == 1.0
    world.members[0].worker._drop(HOME)
    assert series[0] not in shown(metrics, "harness_lag")
    assert not any(f'partition="{HOME}"' in name for name in shown(metrics, "harness_partition_state"))
    assert any(f'partition="{1 - HOME}"' in name for name in shown(metrics, "harness_partition_state"))


def test_an_input_that_workers_crash_on_is_named(caplog):
    world = quiet()
    act(world, 2)
    world.crash(0)
    world.send(agent_id=AGENT, by=AGENT, action="crm.read")
    for _ in range(limits.QUARANTINE_CLAIMS):
        before = len(world.everything(TOPICS.verdicts, HOME))
        while len(world.everything(TOPICS.verdicts, HOME)) == before:
            world.turn()
        world.crash(0)
    turns(world, 4_000)
    assert said(caplog, "quarantined") == [f"partition {HOME}: input 2 is set aside unevaluated [quarantined]"]


@pytest.mark.parametrize("lost", ["emptied", "older"])
def test_a_store_that_is_another_one_is_named_and_filled(caplog, lost):
    world = quiet()
    act(world)
    older = world.store.snapshot()
    act(world)
    if lost == "emptied":
        world.store.clear(HOME, world.store.head(HOME))
    else:
        world.store.restore(older)
    left = owner(world).place.offset
    turns(world, 4 * LOOK_MS)
    [line] = said(caplog, "store_replaced")
    assert line.startswith(f"partition {HOME}: the state store ")
    assert f" and was left at {left}; filling it anew" in line
    assert world.store.head(HOME).verdict_offset == left


@pytest.mark.parametrize("how", ["shorter", "grown again"])
def test_decisions_that_only_the_store_knows_of_are_told(metrics, caplog, how):
    """A backup of all topics takes checkpoints back as well: nothing halts, and what was approved is forgotten."""
    world = quiet()
    act(world)
    at = world.broker.bounds(TOPICS.verdicts, HOME)[1], world.broker.bounds(TOPICS.heads, HOME)[1]
    act(world)
    stood = world.store.head(HOME).verdict_offset
    world.crash(0)
    for topic, end in zip((TOPICS.verdicts, TOPICS.heads), at, strict=True):
        world.broker.truncate_from(topic, HOME, end)
    if how == "grown again":
        for _ in range(stood + 1 - at[0]):
            world.broker.append(TOPICS.verdicts, HOME, None, orjson.dumps({"kind": "notice"}), UNSIGNED_HEADERS)
    turns(world, 4_000)
    lines = said(caplog, "decisions_lost")
    stands = f"stands at {stood}, and the decision log has nothing from "
    moved = f"was moved by another record at {stood} than the decision log has there"
    assert lines, caplog.text
    assert all(f"partition {HOME}: the state store {stands if how == 'shorter' else moved}" in line for line in lines)
    assert shown(metrics, "harness_security_events_total")['harness_security_events_total{reason="decisions_lost"}'] > 0


def test_a_store_whose_record_retention_took_is_ahead_of_nothing(caplog):
    world = quiet()
    act(world)
    world.broker.truncate_before(TOPICS.verdicts, HOME, world.broker.bounds(TOPICS.verdicts, HOME)[1])
    restarted(world)
    assert said(caplog, "decisions_lost") == []


def test_a_verdict_of_an_unsettled_window_is_counted(metrics):
    """A new window that was not warmed does not know what was before it."""
    world = quiet()
    rules = RULES + "  - {id: read-twice, effect: deny, when: reads, correlation: {type: event_count, rules: [reads], timespan: 1h, condition: {gt: 9}}}\n"
    act(world)
    assert shown(metrics, "harness_unknown_total") == {"harness_unknown_total": 0.0}
    world.push_rules(2, rules, now=True)
    turns(world, 100)
    act(world)
    assert shown(metrics, "harness_unknown_total") == {"harness_unknown_total": 1.0}
