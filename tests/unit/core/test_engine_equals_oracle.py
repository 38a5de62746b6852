"""The engine over a `State` says what a brute-force scan of the whole history says, however it is run (V1, V3)."""

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness_stream.core import units
from harness_stream.core.chain import units_of
from harness_stream.core.state import PARTITION_UNIT, State
from tests.scenarios import Expected, Run, Scenario, said, scenarios

PACE = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@PACE
@given(scenarios())
def test_the_engine_equals_the_oracle_on_every_step(scenario: Scenario):
    run = Run(scenario)
    expected = Expected(run)
    for number, step in enumerate(scenario.steps):
        body = run.step(step, number)
        if body is None or body["kind"] != "verdict":
            continue
        wanted = expected.of_answer(body, approve=step.approve) if step.kind == "answer" else expected.of_intent(step, body)
        assert said(body) == wanted
