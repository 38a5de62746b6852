"""The rule pack of `examples/rules`: each file alone, all together, and cases that notice every edge of every window."""

from __future__ import annotations

import copy
import json
import re
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from harness_stream.adapters.tables_source import read_folder
from harness_stream.cli.main import app
from harness_stream.cli.rules_test import load, run_case
from harness_stream.core.rules import inspect
from harness_stream.core.rules import language as words
from harness_stream.wire.rules_schema import rules_schema

ROOT = Path(__file__).parents[3]
PACK = ROOT / "examples/rules"
README = (PACK / "README.md").read_text("utf-8")
TOPICS = re.findall(r"^\| `([a-z-]+)\.yaml`", README.partition("| `all.yaml`")[0], re.MULTILINE)
DAY_MS = 86_400_000

sys.path.insert(0, str(PACK))

import combine  # noqa: E402  a script beside the pack


def text_of(topic):
    return (PACK / f"{topic}.yaml").read_text("utf-8")


def document_of(topic):
    return yaml.safe_load(text_of(topic))


def run(*arguments):
    return CliRunner().invoke(app, ["rules", *map(str, arguments)])


DOCUMENTS = {topic: document_of(topic) for topic in TOPICS}
RULES = [rule for document in DOCUMENTS.values() for rule in document["rules"]]
WINDOWS = [rule["correlation"] for rule in RULES if "correlation" in rule]


# --- each file alone ---


def test_the_readme_lists_every_file():
    assert {f"{topic}.yaml" for topic in (*TOPICS, "all", "production")} == {
        path.name for path in PACK.glob("*.yaml") if not path.name.endswith(".cases.yaml")
    }


@pytest.mark.parametrize("topic", [*TOPICS, "all"])
def test_a_file_loads_alone_without_a_warning(topic):
    told = run("check", "--strict", "--json", PACK / f"{topic}.yaml")
    assert told.exit_code == 0, told.stdout
    assert json.loads(told.stdout)["files"][0]["mistakes"] == []


@pytest.mark.parametrize("topic", [*TOPICS, "all"])
def test_an_editor_finds_nothing_to_mark(topic):
    assert list(jsonschema.Draft7Validator(rules_schema()).iter_errors(document_of(topic))) == []


@pytest.mark.parametrize("topic", TOPICS)
def test_its_cases_pass_and_fire_every_rule(topic):
    told = run("test", "--require-coverage", PACK / f"{topic}.cases.yaml")
    assert told.exit_code == 0, told.stdout


# --- put together ---


def test_all_is_made_of_the_parts():
    assert combine.combined([PACK / f"{topic}.yaml" for topic in TOPICS]) == (PACK / "all.yaml").read_text("utf-8")


def test_all_says_what_the_parts_say():
    whole = document_of("all")
    for section in ("params", "selections"):
        assert whole[section] == {k: v for part in DOCUMENTS.values() for k, v in part.get(section, {}).items()}
    assert whole["rules"] == list({rule["id"]: rule for rule in RULES}.values())


def test_together_every_part_still_keeps_its_promises(tmp_path):
    (tmp_path / "tables").symlink_to(PACK / "tables")
    for topic in TOPICS:
        cases = (PACK / f"{topic}.cases.yaml").read_text("utf-8")
        moved = cases.replace(f"rules: {topic}.yaml\n", f"rules: {PACK / 'all.yaml'}\n")
        assert moved != cases
        (tmp_path / f"{topic}.cases.yaml").write_text(moved, "utf-8")
    told = run("test", "--require-coverage", tmp_path)
    assert told.exit_code == 0, told.stdout


def test_two_parts_alone_are_a_rule_set(tmp_path, capsys):
    combine.main([str(PACK / "least-privilege.yaml"), str(PACK / "spending.yaml")])
    (tmp_path / "mine.yaml").write_text(capsys.readouterr().out, "utf-8")
    told = run("check", "--strict", tmp_path / "mine.yaml")
    assert told.exit_code == 0, told.stdout


def test_what_differs_under_one_name_is_refused(tmp_path):
    other = text_of("spending").replace("amount_alone: 500", "amount_alone: 600")
    (tmp_path / "other.yaml").write_text(other, "utf-8")
    with pytest.raises(SystemExit, match="`amount_alone` says something else"):
        combine.main([str(PACK / "spending.yaml"), str(tmp_path / "other.yaml")])


# --- what the pack shows ---


def test_every_type_of_window_is_used():
    assert {window["type"] for window in WINDOWS} == set(words.WINDOW_TYPES)


def test_no_rule_forgets_at_a_new_chain():
    assert [window for window in WINDOWS if "chain_id" in window.get("group-by", ())] == []


def test_shadow_obligations_attempts_and_totals_over_several_classes_have_an_example():
    assert any(rule.get("mode") == "shadow" for rule in RULES)
    assert any(rule.get("obligations") for rule in RULES)
    assert any(window.get("include") == "attempts" for window in WINDOWS)
    assert any(window["type"] == "value_sum" and len(window["rules"]) > 1 for window in WINDOWS)


# --- what the pack says about itself ---


@pytest.mark.parametrize("topic", [*TOPICS, "production", "all"])
def test_directly_above_every_rule_stands_why_it_is_there_and_from_where_it_comes(topic):
    text = text_of(topic)
    above = re.findall(r"((?:^  #.*\n)*)^  - id: ([\w-]+)$", text, re.MULTILINE)
    assert [name for _, name in above] == [rule["id"] for rule in document_of(topic)["rules"]]
    for said, name in above:
        assert re.search(r"^  # Why: \S(?:.*\n)+?  # From: \S", said), name


@pytest.mark.parametrize("topic", [*TOPICS, "production"])
def test_every_param_says_what_it_is_and_every_rule_names_its_knobs(topic):
    for section, entry in combine.entries_of(text_of(topic)):
        if section == "params":
            assert "#" in entry.lines[0], f"`{entry.name}` says what it is"
        if section == "rules":
            knobs = set(re.findall(r"params\.(\w+)", "\n".join(entry.lines)))
            assert all(knob in "\n".join(entry.comment) for knob in knobs), f"{entry.name}: {knobs}"


def test_every_source_is_one_that_the_readme_has_by_its_name():
    listed = " ".join(README.partition("## Sources")[2].split())
    topics = [*TOPICS, "production"]
    cited = {i for topic in topics for i in re.findall(r"\bASI\d\d\b|\bAML\.[A-Z\d.]+\d", text_of(topic))}
    assert cited == set(re.findall(r"\bASI\d\d\b|\bAML\.[A-Z\d.]+\d", listed))
    for topic in topics:
        said = " ".join(text_of(topic).replace("#", " ").split())
        for source in re.findall(r"(?:ASI\d\d|AML\.[A-Z\d.]+\d) [^;.]*?(?=[;,.]|$)", said):
            assert source in listed, source


def test_the_readme_explains_every_word_the_rules_look_for():
    explained = README.partition("## The words of the tables")[2].partition("## Sources")[0]
    for topic in TOPICS:
        for field in ("operation", "object_class", "zone", "sensitivity"):
            texts = re.findall(rf"\.{field} (?:==|!=|in) (\[[^\]]*\]|\"\w*\")", text_of(topic))
            for word in re.findall(r'"(\w+)"', " ".join(texts)):
                assert f"`{word}`" in explained, word
        for label in re.findall(r'"(\w+)" in (?:event\.resource|chain)\.labels', text_of(topic)):
            assert f"`{label}`" in explained, label


def test_the_tables_load_and_use_only_explained_operations():
    source = read_folder(PACK / "tables")
    assert source.mistakes == ()
    operations = {row.row.operation for row in source.rows} - {""}
    assert all(f"`{operation}`" in README for operation in operations)


# --- the cases notice every edge ---


def shorter(window):
    window["timespan"] = f"{milliseconds(window) // 1_000 - 1}s"
    return True


def longer(window):
    window["timespan"] = f"{milliseconds(window) // 1_000 + 1}s"
    return True


def off_by_one(window):
    condition = window.get("condition", {})
    for one, other in (("gt", "gte"), ("gte", "gt")):
        if one in condition:
            condition[other] = condition.pop(one)
            return True
    return False


def milliseconds(window):
    number, unit = re.fullmatch(words.TIMESPAN_PATTERN, window["timespan"]).groups()
    return int(number) * words.TIMESPAN_UNITS_MS[unit]


@pytest.mark.parametrize("change", [shorter, longer, off_by_one])
@pytest.mark.parametrize("topic", [topic for topic in TOPICS if "correlation" in text_of(topic)])
def test_a_window_that_is_off_by_a_second_or_by_one_fails_a_case(topic, change):
    changed = copy.deepcopy(DOCUMENTS[topic])
    wrong = {rule["id"] for rule in changed["rules"] if "correlation" in rule and change(rule["correlation"])}
    text, programs, noticed = yaml.safe_dump(changed), {}, set()
    suite = load(PACK / f"{topic}.cases.yaml", {}, [])
    for case in suite.cases:
        key = repr(case.params)
        if key not in programs:
            programs[key] = inspect(text, overrides=dict(case.params), timespan_ms_max=2 * DAY_MS)[0]
        failures = run_case(case, programs[key], suite.folders).result.failures
        noticed.update(re.findall(r"`([\w.-]+)`", " ".join(failures)))
    assert wrong - noticed == set()
