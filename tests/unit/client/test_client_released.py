"""What a guard approved and never started: an enforcer's word releases it, an agent's own does not (PROTOCOL §8)."""

import json
from contextlib import closing

import pytest

from harness_stream import Denied, HarnessSync
from harness_stream.adapters.clock import SystemClock
from harness_stream.cli.rules import publish
from harness_stream.cli.tables import Options, load_folder, topics_of
from harness_stream.config import Settings
from harness_stream.core.rules.compile import load
from harness_stream.demo.stage import MemoryStage

RULES = """
rule_set: production
default: deny
selections: {any: "true"}
rules:
  - {id: allowed, effect: approve, when: "intent.action in identity.actions", obligations: {mask: iban}}
  - id: once
    effect: deny
    when: any
    correlation: {type: event_count, rules: [any], group-by: [agent_id], timespan: 1h, condition: {gt: 1}}
"""
IDENTITY = """
- {agent_id: payments-1, tenant: acme, actions: [payments.transfer], workloads: [wl-1]}
- {agent_id: gate-1, tenant: acme, roles: [enforcer]}
"""


@pytest.fixture
def stage(tmp_path):
    settings, clock = Settings(partitions=1, dev=True), SystemClock()
    stage = MemoryStage(settings, clock)
    (tmp_path / "identity.yaml").write_text(IDENTITY)
    with closing(stage.reader()) as reader, closing(stage.writer()) as writer:
        load_folder(tmp_path, reader, writer, topics=topics_of(settings), clock=clock, options=Options())
        publish(load(RULES), settings, reader, writer, clock)
    stage.start()
    with closing(stage):
        yield stage


def transfer_twice(stage, **words):
    """The first one fails before it starts, since nobody can mask; what the second one returned."""
    masks = iter([OSError("cannot mask"), None])

    def mask(_value):
        if (error := next(masks)) is not None:
            raise error

    with HarnessSync.connect(
        agent="payments-1", lane="acme", workload="wl-1", dev=True, wiring=stage.wiring(), **words
    ) as harness:
        transfer = harness.chain().guard("payments.transfer", obligations={"mask": mask})(lambda: "transferred")
        with pytest.raises(OSError, match="cannot mask"):
            transfer()
        return transfer()


def test_with_an_enforcer_what_never_started_does_not_count(stage):
    assert transfer_twice(stage, enforcer="gate-1") == "transferred"


def test_without_one_it_counts_as_done_and_nothing_is_said_that_would_be_refused(stage):
    with pytest.raises(Denied, match="once"):
        transfer_twice(stage)
    assert [json.loads(r.value)["type"] for r in stage._broker.read("harness.intents", 0, 0, 9)] == ["intent"] * 2
