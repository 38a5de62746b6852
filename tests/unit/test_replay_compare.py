"""`harness replay --compare`: which decisions differ between two rule sets, why, and what only follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from harness_stream.cli import replay_output
from harness_stream.cli.replay import replay
from harness_stream.cli.replay_compare import Comparison
from harness_stream.cli.replay_output import Event
from harness_stream.cli.replay_part import duration_ms, moment_of
from harness_stream.core.model import IdentityRow
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from harness_stream.errors import CallerError
from harness_stream.runtime.replay import Replay

EXAMPLES = Path(__file__).parents[2] / "examples"
PRODUCTION = EXAMPLES / "rules" / "production.yaml"
SAMPLE = EXAMPLES / "replay" / "support.jsonl"
DECISIONS = {"approve", "deny", "hold"}

RULES = """
rule_set: test
default: deny
selections: {reads: 'event.action == "crm.read"', any: "true"}
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
  - id: few
    effect: deny
    when: intent.action == "crm.read"
    because: enough is enough
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 1h, condition: {gt: 2}}
"""
LANE_WIDE = RULES.replace("group-by: [agent_id]", "group-by: [tenant]")
SHADOW = '  - {id: trial, effect: hold, mode: shadow, when: intent.action == "crm.read"}\n'
TABLES = """
- {agent_id: a, tenant: acme, actions: [crm.read, crm.write], workloads: [a]}
- {agent_id: b, tenant: acme, actions: [crm.read, crm.write], workloads: [b]}
"""


@pytest.fixture
def run(tmp_path):
    """Compare `after` with `before` over lines; the result and what it printed, as JSON unless told otherwise."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "identity.yaml").write_text(TABLES)

    def compared(after: str, before: str, lines: list[dict[str, Any]], *words: str, json_lines: bool = True):
        for name, text in (("after", after), ("before", before)):
            (tmp_path / f"{name}.yaml").write_text(text)
        body = "\n".join(json.dumps(line) for line in lines)
        fixed = ["--rules", tmp_path / "after.yaml", "--compare", tmp_path / "before.yaml"]
        more = ["--tables", tmp_path / "tables", "--input", "-", *(["--json"] if json_lines else [])]
        return invoked(*fixed, *more, *words, stdin=body.encode())

    return compared


def invoked(*words: object, stdin: bytes | None = None):
    app = typer.Typer()
    app.command()(replay)
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def told(result: Any) -> list[dict[str, Any]]:
    assert result.exit_code in {0, 1}, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def intent(at: int, agent: str = "a", action: str = "crm.read", **more: Any) -> dict[str, Any]:
    return {"type": "intent", "at": at, "agent_id": agent, "action": action} | more


READS = [intent(at) for at in (1_000, 2_000, 3_000, 4_000)]


# --- What differs ---


def test_the_same_rules_differ_nowhere(run):
    result = run(RULES, RULES, READS, "--exit-code")
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_difference_says_where_who_what_and_why(run):
    (first,) = told(run(RULES, RULES.replace("gt: 2", "gt: 3"), READS))
    assert (first["line"], first["at"], first["agent_id"], first["action"]) == (3, 3_000, "a", "crm.read")
    assert (first["before"]["decision"], first["after"]["decision"]) == ("approve", "deny")
    assert first["before"]["reasons"] == [{"code": "rule", "rule": "allowed", "effect": "approve"}]
    (reason,) = first["after"]["reasons"]
    assert (reason["rule"], reason["because"], len(reason["evidence"])) == ("few", "enough is enough", 2)
    assert (first["differs"], first["follows"]) == (["decision", "rules"], None)


def test_each_side_lives_in_its_own_world(run):
    """Denied ones are not counted: the strict set stays at two, the mild one goes on and denies the fifth itself."""
    lines = [*READS, intent(5_000)]
    found = told(run(RULES, RULES.replace("gt: 2", "gt: 4"), lines))
    assert [(d["line"], d["before"]["decision"], d["after"]["decision"]) for d in found] == [
        (3, "approve", "deny"),
        (4, "approve", "deny"),
    ]
    assert [d["follows"] for d in found] == [None, {"line": 3}]


@pytest.mark.parametrize(("rules", "follows"), [(RULES, None), (LANE_WIDE, {"line": 3})])
def test_a_difference_follows_from_another_agents_only_where_windows_are_shared(run, rules, follows):
    lines = [*READS[:3], *(intent(at, "b") for at in (4_000, 5_000, 6_000))]
    found = told(run(rules, rules.replace("gt: 2", "gt: 4"), lines))
    assert next(d for d in found if d["agent_id"] == "b")["follows"] == follows


def test_a_rule_in_shadow_mode_shows_what_it_would_do(run):
    found = told(run(RULES + SHADOW, RULES, READS[:1]))
    assert [(d["differs"], d["before"]["would"]) for d in found] == [(["would"], [])]
    assert found[0]["after"]["would"] == [{"code": "rule", "rule": "trial", "effect": "hold"}]
    assert found[0]["before"]["decision"] == found[0]["after"]["decision"] == "approve"


def test_a_shadow_rule_that_is_enforced_would_no_longer_but_does(run):
    (found,) = told(run((RULES + SHADOW).replace("mode: shadow, ", ""), RULES + SHADOW, READS[:1]))
    assert (found["differs"], found["after"]["decision"]) == (["decision", "rules", "would"], "hold")
    assert (len(found["before"]["would"]), len(found["after"]["would"])) == (1, 0)


def test_other_rules_for_the_same_decision_are_a_difference(run):
    (found,) = told(run(RULES.replace("id: allowed", "id: permitted"), RULES, READS[:1]))
    assert (found["differs"], found["before"]["decision"]) == (["rules"], "approve")


def test_an_edited_sentence_or_other_evidence_is_none(run):
    assert told(run(RULES.replace("enough is enough", "stop"), RULES, READS)) == []


def test_obligations_are_a_difference(run):
    duty = RULES.replace("effect: approve, ", "effect: approve, obligations: {log: full}, ")
    (found,) = told(run(duty, RULES, READS[:1]))
    assert (found["differs"], found["after"]["obligations"]) == (["obligations"], {"log": "full"})
    assert 'obligations {} → {"log": "full"}' in run(duty, RULES, READS[:1], json_lines=False).stdout


def test_what_was_not_evaluated_is_decided_alike_by_all_rules(run):
    assert told(run(RULES + SHADOW, RULES, [intent(1_000, "nobody")])) == []


def test_what_only_follows_from_a_difference_is_counted_and_not_shown(run):
    lines = [*READS[:3], {"type": "outcome", "at": 3_500, "agent_id": "a", "status": "done"}]
    found = told(run(RULES, RULES.replace("gt: 2", "gt: 3"), lines))
    assert [d["line"] for d in found] == [3]
    (summed,) = told(run(RULES, RULES.replace("gt: 2", "gt: 3"), lines, "--summary"))
    assert (summed["different"], summed["consequences"]) == (1, 1)


def test_an_answer_to_a_hold_is_a_decision_too(run):
    holds = (RULES + SHADOW).replace("mode: shadow, ", "")
    people = {"type": "table", "table": "identity", "row": {"agent_id": "judge", "roles": ["approver"]}}
    approval = {"type": "approval", "at": 2_000, "agent_id": "a", "by": "judge", "decision": "approve"}
    held, answered = told(run(RULES, holds, [people, READS[0], approval]))
    assert (held["event"], held["before"]["decision"], held["after"]["decision"]) == ("intent", "hold", "approve")
    assert (answered["event"], answered["line"]) == ("approval", 3)
    assert (answered["before"]["decision"], answered["after"]["decision"]) == ("approve", "refused")
    assert answered["after"]["reasons"] == [{"code": "no_hold"}]
    assert held["intent_id"] == answered["intent_id"]


def test_what_is_not_shown_is_history_all_the_same(capsys):
    rows = [("identity", IdentityRow(agent_id="a", actions=("crm.read",), workloads=("a",)))]
    after, before = (Replay(Windows(load(text)), rows) for text in (RULES, RULES.replace("gt: 2", "gt: 9")))
    comparison = Comparison(summary=False, json=True, shared=False)
    for number, read in enumerate(READS, 1):
        raw = json.dumps(read).encode()
        sides = (after.take(number, raw), before.take(number, raw))
        comparison.add(Event({"line": number}, read["at"], *sides, shown=number == 4))
    (found,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (found["line"], found["follows"], comparison.differ) == (4, {"line": 3}, 1)


# --- How it is shown ---


def test_people_see_what_changed_and_under_it_why(run):
    text = run(RULES + SHADOW, RULES.replace("gt: 2", "gt: 3"), READS[:3], json_lines=False).stdout.splitlines()
    assert text[-4].split() == ["line", "3", "1970-01-01", "00:00:03.000Z", "a", "crm.read", "approve", "→", "deny"]
    assert text[-3] == "    − approve allowed"
    assert text[-2].startswith("    + deny few: enough is enough after 00000000-03e8-7000-8000-000000000001, ")
    assert text[-1] == "    + would hold trial"


def test_people_see_that_the_history_had_differed_before(run):
    text = run(RULES, RULES.replace("gt: 2", "gt: 9"), READS, json_lines=False).stdout
    assert "approve → deny  (its history differs since line 3)" in text


def test_the_summary_counts_by_before_after_and_rule(run):
    (summed,) = told(run(RULES + SHADOW, RULES.replace("gt: 2", "gt: 9"), READS, "--summary"))
    assert (summed["lines"], summed["same"], summed["different"]) == (4, 0, 4)
    assert summed["changes"] == [
        {"before": "approve", "after": "deny", "count": 2, "first": 1, "gone": {"allowed": 2}, "come": {"few": 2}}
    ]
    assert summed["would"] == {"count": 4, "first": 3, "gone": {}, "come": {"trial": 4}}
    assert summed["before"]["decisions"] == {"approve": {"count": 4, "by": {"allowed": 4}}}
    assert summed["after"]["decisions"]["deny"] == {"count": 2, "by": {"few": 2}}


def test_the_summary_for_people_says_the_same(run):
    result = run(RULES + SHADOW, RULES.replace("gt: 2", "gt: 9"), READS, "--summary", json_lines=False)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:4] == ["approve", "→", "deny", "2"]
    assert "(1 on a history that differed already)" in result.stdout
    assert ["2", "+", "few"] in lines
    assert ["2", "−", "allowed"] in lines
    assert ["4", "+", "trial"] in lines
    assert result.stdout.splitlines()[-2:] == ["0 events decided alike, 4 differ", "4 lines"]


def test_the_exit_code_says_it_differs_if_asked(run):
    assert run(RULES + SHADOW, RULES, READS).exit_code == 0
    assert run(RULES + SHADOW, RULES, READS, "--exit-code").exit_code == 1


def test_a_bad_line_is_bad_for_both_sides(run):
    result = run(RULES, RULES, [{"type": "intent"}, *READS])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "1 of 5 lines could not be judged" in result.stderr


def test_a_param_is_tried_against_the_same_file():
    fixed = ["--rules", PRODUCTION, "--compare", PRODUCTION, "--tables", EXAMPLES / "tables", "--input", SAMPLE, "--json"]
    found = told(invoked(*fixed, "--set", "exports_a_day=1"))
    assert [(d["line"], d["before"]["decision"], d["after"]["decision"]) for d in found] == [
        (11, "approve", "hold"),
        (12, "approve", "hold"),
    ]


# --- Options ---


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ((), "give --input FILE, or --from-log"),
        (("--input", "x", "--from-log"), "give --input FILE, or --from-log"),
        (("--input", "x"), "give --tables DIR"),
        (("--input", "x", "--tables", "y", "--compare", "log"), "give --from-log, or --compare OTHER_RULES"),
        (("--input", "x", "--tables", "y", "--since", "1h"), "give --from-log, or leave them out"),
    ],
)
def test_options_that_say_nothing_together_are_refused(words, hint):
    error = invoked("--rules", PRODUCTION, *words).exception
    assert isinstance(error, CallerError)
    assert error.hint == hint


def test_mistakes_in_the_other_rules_stop_it_before_anything_is_decided(run):
    result = run(RULES, "rule_set: x\nrulez: []\n", READS)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(("text", "ms"), [("90s", 90_000), ("15m", 900_000), ("24h", 86_400_000), ("7d", 604_800_000)])
def test_a_duration(text, ms):
    assert duration_ms(text, "--since") == ms


@pytest.mark.parametrize("text", ["", "1", "h", "1.5h", "-1h", "1 h", "1w", "1h30m"])
def test_no_duration(text):
    with pytest.raises(CallerError, match="--since"):
        duration_ms(text, "--since")


@pytest.mark.parametrize(
    ("texts", "moment"),
    [
        ([], None),
        (["2026-11-02T09:00:00Z"], 1_793_610_000_000),
        (["1793610000000"], 1_793_610_000_000),
        (["0/1200"], {0: 1200}),
        (["0/1200", "3/7"], {0: 1200, 3: 7}),
    ],
)
def test_a_moment_is_a_time_or_an_offset_a_partition(texts, moment):
    assert moment_of(texts, "--from") == moment


@pytest.mark.parametrize("texts", [["soon"], ["0/"], ["0/1200", "2026-11-02T09:00:00Z"], ["2026-11-02"], ["-1"]])
def test_any_other_moment_is_refused(texts):
    with pytest.raises(CallerError, match="--from"):
        moment_of(texts, "--from")


# --- Progress ---


def test_long_input_says_how_far_it_is_on_standard_error(run, tmp_path, monkeypatch):
    monkeypatch.setattr(replay_output, "PROGRESS_S", 0.0)
    assert "/s" in run(RULES, RULES, READS).stderr
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, READS)))
    words = ["--rules", tmp_path / "after.yaml", "--tables", tmp_path / "tables", "--input", tmp_path / "events.jsonl"]
    result = invoked(*words, "--summary", "--json")
    shares = [line.split()[-1] for line in result.stderr.splitlines() if line.endswith("%")]
    assert shares[-1] == "100%"
    assert len(shares) == len(READS)
    assert json.loads(result.stdout)["lines"] == len(READS)
