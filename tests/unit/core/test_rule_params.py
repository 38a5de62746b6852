"""A condition may read the rule set's own knobs at run time, not only when it is loaded."""

import factories as make
import pytest

RULES = """
rule_set: test
default: deny
params: {limit: 0.8}
rules:
  - {id: everything, effect: approve, when: "true"}
  - {id: too-risky, effect: deny, when: risk.present && risk.score > params.limit}
"""


@pytest.mark.parametrize(("score", "decision"), [(0.5, "approve"), (0.9, "deny")])
def test_a_condition_compares_with_a_parameter(score, decision):
    risk = {"subject": "agent:agent-1", "score": score, "valid_until": make.NOW + 60_000}
    event = make.intent()
    intake = make.intake(rules_text=RULES, tables=make.tables(risk=(risk,)))
    answer = intake.answer(event, make.arrival(event), make.NOW)
    assert answer["decision"] == decision
    assert [reason["code"] for reason in answer["reasons"]] == ["rule"]
