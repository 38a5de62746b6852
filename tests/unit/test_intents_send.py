"""`harness intents send` for each decision: it runs nothing, says so, and reports only what it was told to report."""

import json
import re
from dataclasses import asdict, replace

import pytest
from scripted_worker import Live
from typer.testing import CliRunner

from harness_stream import HarnessSync
from harness_stream.cli.intents import Wish, answered, as_document, as_text, measures
from harness_stream.cli.main import app
from harness_stream.errors import CallerError, Denied

WISH = Wish("crm.export", ("crm://customers/7",), {}, (), "", 5_000, None)
DUTY = {"obligations": {"mask": ["iban"]}}
PLAIN = ("approve", {})


def sent(policy, report=None, refuse=None, deadline_ms=5_000):
    """The answer, and the statuses of the outcomes that were published."""
    with Live(lambda _intent: policy) as live:
        live.worker.refuse = refuse or {}
        with HarnessSync.connect(**live.connection()) as harness:
            told, unreported = answered(harness, replace(WISH, deadline_ms=deadline_ms), report)
    return told, unreported, [event["status"] for event in live.worker.of("outcome")]


def text(told):
    return re.sub(r"\x1b\[\d+m", "", as_text(WISH, told))


class TestAnApprovalWithObligations:
    def test_is_an_approval_with_the_rules_reasons_and_reports_nothing_by_itself(self):
        told, unreported, outcomes = sent(("approve", DUTY))
        assert (told.decision, told.obligations, told.ran) == ("approve", DUTY["obligations"], False)
        assert [reason["rule"] for reason in told.reasons] == ["allowed"]
        assert (told.reported, unreported, outcomes) == (None, None, [])

    def test_shows_them_and_that_nothing_was_run(self):
        shown = text(sent(("approve", DUTY))[0])
        assert 'obligation: mask = ["iban"]' in shown
        assert (
            "nothing was run; it counts as done, as no outcome was reported; whoever acts has to fulfil `mask`" in shown
        )

    def test_takes_a_report_as_any_approval_does(self):
        told, _, outcomes = sent(("approve", DUTY), report="failed")
        assert (told.reported, outcomes) == ("failed", ["failed"])


@pytest.mark.parametrize(("unknown", "shown"), [(True, "rows (unknown): too many"), (False, "rows: too many")])
def test_a_rule_that_fired_because_its_window_is_not_known_is_told_as_such(unknown, shown):
    told, *_ = sent(("hold", {}))
    reason = {"code": "rule", "rule": "rows", "because": "too many", "unknown": unknown}
    assert f"\n  {shown}\n" in text(replace(told, reasons=(reason,)))


def test_a_plain_approval_says_how_it_counts():
    told, _, outcomes = sent(PLAIN)
    assert outcomes == []
    assert "\n  nothing was run; it counts as done, as no outcome was reported\n" in text(told)
    assert "\n  nothing was run; reported: unknown\n" in text(sent(PLAIN, report="unknown")[0])


@pytest.mark.parametrize(("policy", "decision"), [(("deny", {}), "deny"), (("hold", {}), "hold"), ((None, {}), "none")])
def test_every_other_answer_says_that_nothing_was_run_and_reports_nothing(policy, decision):
    told, _, outcomes = sent(policy, report="done", deadline_ms=100)
    assert (told.decision, told.ran, told.reported, outcomes) == (decision, False, None, [])
    assert "\n  nothing was run" in text(told)


@pytest.mark.parametrize("decision", ["deny", "hold"])
def test_what_to_do_next_is_said_for_a_terminal_and_not_for_a_program(decision):
    told, *_ = sent((decision, {}))
    assert "`harness verdicts tail" in told.hint
    assert not re.search(r"verdict\.|=True|\w=`", told.hint)


def test_measures_are_kept_exactly():
    assert measures(["rows=10", "amount=12.50", "none=0"]) == {"rows": 10, "amount": "12.50", "none": 0}


@pytest.mark.parametrize("number", ["-3", "NaN", "inf", "1e3", "0.1234567", "1" * 16, "007", "1.", "٣", "ten"])
def test_a_number_that_no_measure_can_be_is_refused_with_what_can(number):
    with pytest.raises(CallerError, match=re.escape(f"`{number}` is no number")) as refused:
        measures([f"rows={number}"])
    assert all(word in refused.value.hint for word in ("finite", ">= 0", "15 before the point", "6 decimals"))


@pytest.mark.parametrize("text", ["rows", "=3", "rows="])
def test_a_measure_is_a_name_and_a_number(text):
    with pytest.raises(CallerError, match="is not NAME=NUMBER"):
        measures([text])


def test_each_verdict_is_named_by_digest_and_offset():
    for policy in (PLAIN, ("deny", {}), ("hold", {})):
        told = json.loads(json.dumps(asdict(sent(policy)[0])))
        assert len(told["verdict_digest"]) == 64
        assert told["verdict_offset"] == 2


def test_an_intent_without_a_verdict_is_named_by_the_id_it_was_published_under():
    with Live(lambda _intent: (None, {})) as live:
        with HarnessSync.connect(**live.connection()) as harness:
            told, _ = answered(harness, replace(WISH, deadline_ms=100), None)
        [intent] = live.worker.of("intent")
    assert (told.decision, told.verdict_digest, told.intent_id) == ("none", "", intent["intent_id"])
    assert f"\n  intent {intent['intent_id']}" in text(told)


def test_a_report_that_is_refused_is_told_after_the_verdict():
    told, unreported, outcomes = sent(PLAIN, report="done", refuse={"outcome": "outcome_known"})
    assert (told.decision, told.reported, outcomes) == ("approve", None, ["done"])
    assert isinstance(unreported, Denied)
    document = as_document(told, unreported)
    assert document["unreported"] == {"error": unreported.message, "hint": unreported.hint, "exit_code": 5}
    assert as_document(told, None)["unreported"] is None


def test_abandoned_is_no_outcome_that_an_agent_may_report():
    words = ["intents", "send", "--agent", "support-1", "--action", "crm.read", "--report", "abandoned"]
    refused = CliRunner().invoke(app, words).exception
    assert "`abandoned` is no outcome of an agent" in str(refused)
    assert "done, failed, unknown" in str(refused)
