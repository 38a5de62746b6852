"""What a micro-batch adds to the worker's metrics.

Rule of this file: one input counts once, whatever record answers it; metrics are asked once for each counter and label.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Any

from harness_stream.core.fold import DENIALS
from harness_stream.core.reasons import SECURITY_EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness_stream.ports import Metrics
    from harness_stream.runtime.batch import Linked


def count(metrics: Metrics, records: Sequence[Linked], took_ms: int) -> None:
    """Count what a micro-batch answers.

    Args:
        metrics: of this worker.
        records: of the micro-batch; none, and nothing is counted.
        took_ms: to decide them.
    """
    if not records:
        return
    verdicts, others = Counter[tuple[str, str, bool]](), []
    for linked in records:
        if linked.body["kind"] == "verdict":
            verdicts[_said(linked.body)] += 1
        elif linked.body["kind"] == DENIALS:
            verdicts.update(("deny", row["code"], False) for row in linked.body["denied"])
        else:
            others.append(_counts(linked.body))
    answers = verdicts.total() + len(others)
    metrics.observe("harness_batch_size", answers)
    metrics.observe("harness_decide_seconds", took_ms / 1000 / answers)
    totals = Counter[tuple[str, str, str]]()
    for name, amount, label, value in chain(_counts_of_verdicts(verdicts), *others):
        totals[name, label, value] += amount
    for (name, label, value), amount in totals.items():
        metrics.count(name, amount, **({label: value} if label else {}))


def _said(body: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Decision, code of its first reason, and whether a window was not known."""
    decision, reasons = body["decision"], body["reasons"]
    unknown = any(reason.get("unknown") for reason in reasons)
    return decision, reasons[0]["code"] if decision == "deny" else "", unknown


def _counts_of_verdicts(said: Mapping[tuple[str, str, bool], int]) -> Iterator[tuple[str, int, str, str]]:
    """As `_counts`, of many that say the same: nearly all do."""
    for (decision, code, unknown), amount in said.items():
        yield "harness_inputs_total", amount, "kind", "intent"
        yield "harness_verdicts_total", amount, "decision", decision
        if unknown:
            yield "harness_unknown_total", amount, "", ""
        if code:
            yield "harness_denies_total", amount, "reason", code


def _counts(body: Mapping[str, Any]) -> Iterator[tuple[str, int, str, str]]:
    """What a record that is no verdict adds: counter, amount, and its label with a value, if it has one."""
    kind = body["kind"]
    if kind == "reject":
        yield "harness_rejects_total", 1, "reason", body["reason"]
        yield from _security(body["reason"])
    elif kind == "skip":
        yield "harness_inputs_total", body["count"], "kind", "garbage"
        yield "harness_skips_total", 1, "reason", body["reason"]
        for told in body["offsets"]:  # the first sixteen, which is enough to be woken by
            yield from _security(told["reason"])
    else:
        yield "harness_inputs_total", 1, "kind", body["event_type"]
        yield from _security(body["reason"])


def _security(reason: str | None) -> Iterator[tuple[str, int, str, str]]:
    if reason in SECURITY_EVENTS:
        yield "harness_security_events_total", 1, "reason", reason
