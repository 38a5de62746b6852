"""`harness rules test`: what a rule author sees, and what CI reads."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness_stream.cli.main import app
from harness_stream.core.cases.words import CASE_KEYS, FIELDS, FILE_KEYS, THEN_KEYS
from harness_stream.errors import CallerError, ConfigError

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples/rules/production.cases.yaml"
RULES = """\
rule_set: x
default: deny
params: {n: 1}
selections: {reads: event.action == "crm.read"}
rules:
  - {id: ok, effect: approve, when: 'true'}
  - id: many
    effect: deny
    when: reads
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 1m, condition: {gt: params.n}}
"""
CASES = """\
rules: r.yaml
cases:
  - name: one is fine
    when: {agent: a, action: crm.read}
    then: approve
  - name: two are many
    given: [{at: -1m, agent: a, action: crm.read}]
    when: {agent: a, action: crm.read}
    then: {decision: deny, rules: [many], evidence: [0]}
"""


def run(*arguments):
    return CliRunner().invoke(app, ["rules", "test", *map(str, arguments)])


@pytest.fixture
def written(tmp_path):
    def write(cases=CASES, rules=RULES):
        (tmp_path / "r.yaml").write_text(rules, "utf-8")
        (tmp_path / "r.cases.yaml").write_text(cases, "utf-8")
        return tmp_path / "r.cases.yaml"

    return write


# --- the cases beside the example rule set ---


def test_every_case_beside_the_example_passes_and_every_rule_is_covered():
    result = run(EXAMPLE, "--require-coverage")
    assert result.exit_code == 0, result.stdout
    assert "20 cases passed" in result.stdout
    assert "fired in a passing case: 6 of 6" in result.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("timespan: 30m", "timespan: 29m"),
        ("timespan: 30m", "timespan: 31m"),
        ("group-by: [agent_id], timespan: 30m", "group-by: [chain_id], timespan: 30m"),
        ("condition: { gt: params.exports_a_day }", "condition: { gte: params.exports_a_day }"),
        ("exports_a_day: 3", "exports_a_day: 4"),
        ("same_action_a_minute: 30", "same_action_a_minute: 31"),
        ("same_action_a_minute: 30", "same_action_a_minute: 29"),
        ("      include: attempts\n", ""),
        ("risk.score > params.risk_limit", "risk.score >= params.risk_limit"),
        ("&& infrastructure.attested", ""),
        ('event.resource.zone == "external"', "true"),
        ('"pii" in event.resource.labels', "true"),
        ("mode: shadow", "mode: enforce"),
        ("effect: hold", "effect: deny"),
    ],
)
def test_no_boundary_of_the_example_moves_unnoticed(tmp_path, old, new):
    (tmp_path / "rules").mkdir()
    text = (ROOT / "examples/rules/production.yaml").read_text("utf-8")
    assert old in text
    (tmp_path / "rules/production.yaml").write_text(text.replace(old, new), "utf-8")
    (tmp_path / "rules/production.cases.yaml").write_text(EXAMPLE.read_text("utf-8"), "utf-8")
    (tmp_path / "tables").symlink_to(ROOT / "examples/tables")
    assert run(tmp_path / "rules").exit_code in {1, 2}


# --- for people ---


def test_a_passing_case_is_one_line(written):
    file = written()
    result = run(file)
    assert result.exit_code == 0
    assert result.stdout == (
        f"{file}\n  pass  one is fine\n  pass  two are many\n\n2 cases passed\n\n"
        f"rules of {file.parent / 'r.yaml'} that fired in a passing case: 2 of 2\n"
        "  ok                        1 case\n  many                      1 case\n"
    )


def test_a_failing_case_tells_its_chain_and_what_decided(written):
    file = written(CASES.replace("-1m,", "-1m1ms,"))
    result = run(file)
    assert result.exit_code == 1
    told = [line.strip() for line in result.stdout.splitlines()]
    for line in (
        f"FAIL  two are many  ({file}:6)",
        "decision is approve (ok), expected deny",
        "`many` did not decide",
        "evidence is none, expected 0",
        "0  -1m1ms    approve   a crm.read   matches reads",
        "now       approve   a crm.read   matches reads",
        "many (deny) does not fire",
        "true     reads",
        'true     event.action == "crm.read"     event.action = "crm.read"',
        'false    window: event_count of reads within 1m, agent_id = "a"',
        "counted 1; wanted: more than 1",
        "0  -1m1ms    reads   not counted: too long ago",
        "1 case passed, 1 failed",
    ):
        assert line in told, result.stdout


MISSED = """\
rules: r.yaml
cases:
  - name: reads of another kind
    given:
      - {repeat: {times: 3, every: 1s}, at: -10s, agent: a, action: crm.list, resources: "crm://x/{n}"}
      - {at: -5s, agent: a, action: crm.read, resources: "hr://x"}
      - {at: -4s, agent: b, action: crm.read, resources: "crm://x"}
    when: {agent: a, action: crm.read, resources: "crm://y"}
    then: {decision: deny, rules: [many]}
"""


def test_verbose_tells_which_part_of_a_selection_an_event_of_the_group_misses(written):
    rules = RULES.replace('event.action == "crm.read"', """'event.action == "crm.read" && event.resource.system == "crm"'""")
    file = written(MISSED, rules)
    told = [line.strip() for line in run(file, "-v").stdout.splitlines()]
    listed = told.index("0  -8s       does not match reads (3 times)")
    assert told[listed : listed + 6] == [
        "0  -8s       does not match reads (3 times)",
        'false    event.action == "crm.read"     event.action = "crm.list"',
        'true     event.resource.system == "crm"     event.resource.system = "crm"',
        "1  -5s       does not match reads",
        'true     event.action == "crm.read"     event.action = "crm.read"',
        'false    event.resource.system == "crm"     event.resource.system = "hr"',
    ]
    assert not any(line.startswith("2 ") and "does not match" in line for line in told), "another agent's"
    assert "does not match" not in run(file).stdout
    (case,) = json.loads(run(file, "-v", "--json").stdout)["files"][0]["cases"]
    missed = next(rule for rule in case["rules"] if rule["rule"] == "many")["window"]["missed"]
    assert [(m["given"], m["times"], m["selection"]["text"]) for m in missed] == [(0, 3, "reads"), (1, 1, "reads")]
    assert [part["result"] for part in missed[1]["selection"]["parts"]] == ["true", "false"]


FAILING = """\
rule_set: x
default: deny
rules:
  - {id: ok, effect: approve, when: 'true'}
  - {id: risky, effect: hold, when: 'risk.score > 0.5'}
  - {id: tried, effect: deny, mode: shadow, when: 'risk.score > 0.5'}
"""


def test_a_rule_that_failed_is_told_first_with_its_error(written):
    cases = CASES.split("  - name: two", maxsplit=1)[0]
    told = run(written(cases, FAILING)).stdout
    error = 'risky: rule_error: NOT_FOUND: Key not found in map : "score"'
    assert f"decision is deny ({error}), expected approve" in told
    assert f"deny      a crm.read ({error})" in told
    lines = [line.strip() for line in told.splitlines()]
    first = next(i for i, line in enumerate(lines) if line.startswith("risky (hold) fails, so it denies: "))
    assert "score" in lines[first]
    assert lines[first + 1] == "error    risk.score > 0.5     risk.score = null"
    assert first < lines.index("ok (approve) fires")
    assert "tried (deny, shadow) fails: " in told


def test_what_the_engine_refused_is_told_with_its_cause_wherever_it_is_named(written):
    cases = CASES.split("  - name: two", maxsplit=1)[0].replace("one is fine", "a helper") + """\
    given:
      - {at: -1m, agent: chief, action: crm.read}
      - {at: -30s, agent: a, action: crm.read, parent: 0}
    tables: {identity: [{agent_id: chief}, {agent_id: a}]}
"""
    told = run(written(cases.replace("action: crm.read}\n    then", "action: crm.read, parent: 0}\n    then"))).stdout
    cause = "delegation: chief does not delegate to this agent"
    assert f"decision is deny ({cause}), expected approve" in told
    assert f"deny      a crm.read ({cause})" in told
    assert f"note: given 1 (-30s): deny ({cause}); if that is meant" in told


def test_a_rule_that_fired_as_unknown_is_told_as_such_wherever_it_is_named(written):
    window = "type: value_sum, rules: [reads], timespan: 1m, condition: {gt: 5, field: measures.rows}"
    rules = RULES.split("  - id: many", maxsplit=1)[0] + f"  - {{id: many, effect: deny, when: reads, correlation: {{{window}}}}}\n"
    told = run(written(CASES.replace("decision: deny", "decision: hold"), rules)).stdout
    assert "decision is deny (many (unknown)), expected hold" in told
    assert "0  -1m       deny      a crm.read (many (unknown))   matches reads" in told


def test_a_repeated_event_is_told_in_one_line(written):
    entry = "[{repeat: {times: 3, every: 1s}, agent: a, action: b.c}]"
    file = written(CASES.replace("[{at: -1m, agent: a, action: crm.read}]", entry))
    assert "0  -3s … -1s (3 times)  approve   a b.c" in run(file).stdout


def test_an_answer_of_the_engine_is_told_in_words(written):
    file = written(CASES.replace("when: {agent: a, action", "when: {agent: a, chain: c, action"))
    assert "the engine, before any rule: chain_unknown (c): the intent names a chain" in run(file).stdout


def test_a_broken_history_is_noticed(written):
    broken = CASES.replace("{at: -1m, agent: a,", "{at: -1m, agent: a, chain: c,")
    assert "note: given 0 (-1m): deny (chain_unknown: c); if that is meant" in run(written(broken)).stdout
    passing = broken.replace("{decision: deny, rules: [many], evidence: [0]}", "approve")
    assert "pass  two are many  (1 note: --verbose)" in run(written(passing)).stdout


def test_verbose_tells_of_every_rule_in_every_case(written):
    told = run(written(), "--verbose").stdout
    assert told.count("ok (approve) fires") == 2
    assert "many (deny) fires" in told
    assert "many (deny) does not fire" in told


def test_cases_are_chosen_by_name(written):
    result = run(written(), "-k", "TWO")
    assert "two are many" in result.stdout
    assert "one is fine" not in result.stdout
    assert "1 case passed" in result.stdout


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_name_that_no_case_has_fails_because_nothing_was_tested(written, flags):
    result = run(written(), "-k", "nothing", *flags)
    assert isinstance(result.exception, CallerError)
    assert result.exception.exit_code == 2
    assert "no case ran: none is named like `nothing`" in str(result.exception)
    assert not flags or json.loads(result.stdout)["ok"] is False


def test_a_name_that_a_case_of_one_file_has_is_enough(written):
    file = written()
    other = file.with_name("s.cases.yaml")
    other.write_text(CASES.replace("two are many", "another"), "utf-8")
    assert run(file, other, "-k", "another").exit_code == 0


def test_a_folder_stands_for_the_cases_below_it(written):
    file = written()
    (file.parent / "deep").mkdir()
    (file.parent / "deep/s.cases.yaml").write_text(CASES.replace("r.yaml", "../r.yaml"), "utf-8")
    assert "4 cases passed" in run(file.parent).stdout
    assert isinstance(run(ROOT / "schemas").exception, ConfigError)


def test_required_coverage_fails_for_a_rule_that_fires_nowhere(written):
    file = written(CASES.split("  - name: two", maxsplit=1)[0])
    assert run(file).exit_code == 0
    assert "many                      never fires" in run(file).stdout
    result = run(file, "--require-coverage")
    assert result.exit_code == 1
    assert "--require-coverage: add a case in which `many` fires" in result.stdout


def test_a_rule_that_fires_only_in_a_failing_case_is_not_covered(written):
    file = written(CASES.replace("evidence: [0]", "evidence: []"))
    assert "many                      never fires" in run(file).stdout


def test_a_parameter_can_be_set(written):
    assert run(written(), "--set", "n=5").exit_code == 1
    assert "no parameter `m`" in run(written(), "--set", "m=5").stdout
    assert run(written(CASES.replace("rules: r.yaml", "rules: r.yaml\nparams: {n: 5}"))).exit_code == 1


@pytest.mark.parametrize(
    ("cases", "rules", "told"),
    [
        (CASES.replace("then: approve", "then: aprove"), RULES, "r.cases.yaml:5:11: `then` is one of"),
        (
            CASES.replace("[many]", "[manny]"),
            RULES,
            "r.cases.yaml:9:36: the rule set has no rule `manny` [unknown-rule]",
        ),
        (CASES, RULES.replace("when: reads", "when: read"), "r.yaml:9:11: unknown name `read`"),
        (CASES.replace("r.yaml", "nope.yaml"), RULES, "r.cases.yaml:1:8: "),
        (CASES.replace("cases:", "tables: nope\ncases:"), RULES, "r.cases.yaml:2:9: `"),
        (CASES.replace("rules: r.yaml", "rules: r.yaml\nparams: {n: -1}"), RULES, "always more than -1"),
    ],
)
def test_mistakes_are_told_with_their_place_and_nothing_runs(written, cases, rules, told):
    result = run(written(cases, rules))
    assert result.exit_code == 2
    assert told in result.stdout
    assert "pass" not in result.stdout


def test_mistakes_in_tables_are_told(written):
    file = written(CASES.replace("cases:", "tables: t\ncases:"))
    (file.parent / "t").mkdir()
    (file.parent / "t/identity.yaml").write_text("- {agent_id: a, rols: [x]}\n", "utf-8")
    result = run(file)
    assert result.exit_code == 2
    assert "`rols` is no field of identity" in result.stdout


def test_a_file_that_is_not_there_is_told(tmp_path):
    result = run(tmp_path / "no.cases.yaml")
    assert result.exit_code == 2
    assert "No such file or directory" in result.stdout


# --- for CI ---


def test_json_has_every_case_and_explains_the_failing_ones(written):
    told = json.loads(run(written(CASES.replace("-1m,", "-2m,")), "--json").stdout)
    assert (told["ok"], told["passed"], told["failed"]) == (False, 1, 1)
    good, bad = told["files"][0]["cases"]
    assert (good["ok"], good["failures"], good["judged"]["decision"]) == (True, [], "approve")
    assert "rules" not in good
    assert bad["failures"][0] == "decision is approve (ok), expected deny"
    assert [(e["at_ms"], e["decision"]) for e in bad["chain"]] == [(-120_000, "approve")]
    many = next(rule for rule in bad["rules"] if rule["rule"] == "many")
    assert (many["fires"], many["when"][0]["text"], many["when"][0]["result"]) == (False, "reads", "true")
    assert many["when"][0]["parts"][0]["reads"] == {"event.action": "crm.read"}
    assert many["window"]["counted"] == [1, 1]
    assert many["window"]["condition"] == {"op": "gt", "threshold": 1, "field": None}
    assert [(e["given"], e["counted"], e["why_not"]) for e in many["window"]["events"]] == [
        (0, False, "too long ago"),
        (None, True, None),
    ]
    assert {entry["rule"]: entry["cases"] for entry in told["coverage"]} == {"ok": ["one is fine"], "many": []}


def test_json_has_the_mistakes_as_rules_check_does(written):
    result = run(written(CASES.replace("then: approve", "then: aprove")), "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["ok"] is False
    (mistake,) = told["files"][0]["mistakes"]
    assert (mistake["code"], mistake["found"], mistake["line"]) == ("unknown-word", "aprove", 5)


def test_ctrl_c_ends_without_a_traceback(written):
    many = "".join(f"  - {{name: c{i}, when: {{agent: a, action: crm.read}}, then: approve}}\n" for i in range(999))
    file = written(f"rules: r.yaml\ncases:\n{many}")
    command = [
        sys.executable,
        "-c",
        "from harness_stream.cli.main import main; main()",
        "rules",
        "test",
        str(file),
        "-v",
    ]
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        while "pass" not in process.stdout.readline():
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in told


# --- what is taught ---


def test_the_example_in_the_help_runs(tmp_path):
    told = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["rules", "test", "--help"]).stdout
    text = "\n".join(line[1:].rstrip() for line in told.splitlines())
    example = text[text.index("rules: production.yaml") : text.index("docs/rules.md")]
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/production.yaml").symlink_to(ROOT / "examples/rules/production.yaml")
    (tmp_path / "tables").symlink_to(ROOT / "examples/tables")
    (tmp_path / "rules/help.cases.yaml").write_text(example, "utf-8")
    assert run(tmp_path / "rules").exit_code == 0


def test_every_key_is_explained_in_the_docs():
    page = (ROOT / "docs/rules.md").read_text("utf-8")
    for key in (*FILE_KEYS, *CASE_KEYS, *THEN_KEYS, *(key for keys in FIELDS.values() for key in keys)):
        assert f"`{key}`" in page, key
