"""From a verdict in the log to a line that a person understands.

Rule of this file: every fact comes from the decision log (reasons, evidence, chain time); only remarks are scripted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness_stream.core.reasons import EXPLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from harness_stream.demo.agents import Attempt
    from harness_stream.demo.audit import Audit

    Body = Mapping[str, Any]

SAID: Final = {"approve": "approved", "deny": "denied", "hold": "held"}
UNSAID: Final = "no rule's author said why"
_MS_PER_S: Final = 1_000
_RULE: Final = "rule"
"""A reason's code if a rule gave it; anything else is the engine's word."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One intent and its answer.

    Attributes:
        agent_id: who asked.
        intent_id: what was asked, by id.
        action: by its verb.
        resource: and on what.
        decision: the log's answer.
        expected: the answer the demo is built to get.
        rule: which rule decided; the engine's own word if none did.
        because: the rule author's words, empty if there are none, or what the engine's word means.
        explanation: plain words for an answer that may surprise; empty for an approval.
        latency_ms: from the call of the guarded function to its first line, or to the refusal.
        ran: whether the function ran.
    """

    agent_id: str
    intent_id: str
    action: str
    resource: str
    decision: str
    expected: str
    rule: str
    because: str
    explanation: str
    latency_ms: float
    ran: bool


def judged_of(attempt: Attempt, body: Body, audit: Audit) -> Judged:
    """What is shown of an attempt: the log's answer, and how the agent fared.

    Args:
        attempt: the agent's side.
        body: its effective verdict.
        audit: holds the verdicts that the reasons name.
    """
    reason = body["reasons"][0]
    event = body["event"] or {}
    return Judged(
        agent_id=body["agent_id"],
        intent_id=body["intent_id"],
        action=event.get("action", attempt.step.tool),
        resource=", ".join(resource["uri"] for resource in event.get("resources", ())),
        decision=body["decision"],
        expected=attempt.step.expect,
        rule=_rule(reason),
        because=_because(reason),
        explanation="" if body["decision"] == "approve" else _explanation(attempt, body, audit),
        latency_ms=attempt.latency_ms,
        ran=attempt.ran,
    )


def _rule(reason: Body) -> str:
    return str(reason.get("rule") or reason["code"])


def _because(reason: Body) -> str:
    """A rule's own words, which may be none; the engine's if the engine itself said no, or a rule failed."""
    if reason["code"] == _RULE:
        return str(reason.get("because") or "")
    detail = reason.get("detail")
    return f"{EXPLAIN.get(reason['code'], reason['code'])}" + (f" ({detail})" if detail else "")


def _explanation(attempt: Attempt, body: Body, audit: Audit) -> str:
    reason = body["reasons"][0]
    why = f"{_because(reason) or UNSAID}{_evidence(body, reason, audit)}"
    said = f"{SAID[body['decision']]}: {why} (rule {_rule(reason)})."
    return f"{said} {attempt.step.remark}".rstrip()


def _evidence(body: Body, reason: Body, audit: Audit) -> str:
    """When what made the rule fire happened, by chain time."""
    verdicts = [found for intent_id in reason.get("evidence", ()) if (found := audit.verdict(intent_id)) is not None]
    if not verdicts:
        return ""
    age = _span(body["t"] - verdicts[0]["t"])
    event = verdicts[0]["event"]
    if event["action"] == body["event"]["action"]:
        return f", {reason['evidence_count']} times within {age}"
    return f" {age} ago, by {event['action']} {event['resources'][0]['uri']}"


def _span(span_ms: int) -> str:
    return f"{span_ms} ms" if span_ms < _MS_PER_S else f"{span_ms / _MS_PER_S:.1f} s"
