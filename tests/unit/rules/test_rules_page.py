"""`docs/rules.md` is true: every example is run, every name and number is looked up, every command line is parsed.

Its blocks are fenced with what they are: `yaml frame` (stands above every shorter set), `yaml rules`, `yaml cases` (of the
rules above them), `yaml cases-file`, `yaml mistake CODE` (what `check` says of it), `cel` (one condition a line), `sh`, `python`
(the one guard).
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from pages import Block, anchors, blocks, command_lines, understood
from scripted_worker import Live
from typer.testing import CliRunner

from harness_stream import Denied, HarnessSync
from harness_stream.cli import main as cli
from harness_stream.core import limits
from harness_stream.core.provenance import WORDS
from harness_stream.core.reasons import Deny
from harness_stream.core.rules import inspect
from harness_stream.core.rules import language as words
from harness_stream.core.rules.cel import BUDGET_SPENT
from harness_stream.core.rules.functions import PARAMETERS

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/rules.md").read_text("utf-8")
BLOCKS = list(blocks(PAGE))
FRAME = yaml.safe_load(next(block.text for block in BLOCKS if block.kind == "yaml frame"))


def of_kind(kind):
    return [block for block in BLOCKS if block.kind == kind]


def completed(text):
    """The rule set that a block stands for, with the lines that the page says stand above it."""
    own = yaml.safe_load(text)
    if "rule_set" in own:
        return text
    comments = [line for line in text.splitlines() if line.startswith("#")]
    document = {**FRAME, **own, "rules": FRAME["rules"] + own["rules"]}
    return "\n".join([*comments, yaml.safe_dump(document, sort_keys=False)])


def examples():
    """Each rule set with all of its cases."""
    found = list[tuple[Block, list[Block]]]()
    for block in BLOCKS:
        if block.kind == "yaml rules":
            found.append((block, []))
        elif block.kind == "yaml cases":
            found[-1][1].append(block)
    return found


def run(*arguments):
    return CliRunner().invoke(cli.app, ["rules", *map(str, arguments)])


# --- examples ---


def test_every_block_says_what_it_is():
    known = {"yaml frame", "yaml rules", "yaml cases", "yaml cases-file", "yaml comment", "cel", "sh", "python"}
    codes = {f"yaml mistake {block.kind.rpartition(' ')[2]}" for block in BLOCKS if "mistake" in block.kind}
    assert {block.kind for block in BLOCKS} <= known | codes
    assert len(BLOCKS) * 2 == len(re.findall(r"^ *```", PAGE, re.MULTILINE))


@pytest.mark.parametrize(("rules", "cases"), [pytest.param(*pair, id=pair[0].name) for pair in examples()])
def test_an_example_loads_without_a_warning_and_its_cases_pass_and_fire_every_rule(rules, cases, tmp_path):
    assert cases, "an example without cases says nothing"
    (tmp_path / "x.yaml").write_text(completed(rules.text), "utf-8")
    told = run("check", "--strict", tmp_path / "x.yaml")
    assert told.exit_code == 0, told.stdout
    listed = [case for block in cases for case in yaml.safe_load(block.text)]
    (tmp_path / "x.cases.yaml").write_text(yaml.safe_dump({"rules": "x.yaml", "cases": listed}), "utf-8")
    told = run("test", "--require-coverage", tmp_path / "x.cases.yaml")
    assert told.exit_code == 0, told.stdout


@pytest.mark.parametrize("block", of_kind("yaml cases-file"), ids=lambda block: block.name)
def test_a_cases_file_passes(block, tmp_path):
    document = yaml.safe_load(block.text)
    document["rules"] = str(ROOT / "examples/rules" / document["rules"])
    if "tables" in document:
        assert document["tables"] == "../tables"
        document["tables"] = str(ROOT / "examples/tables")
    (tmp_path / "x.cases.yaml").write_text(yaml.safe_dump(document), "utf-8")
    told = run("test", tmp_path / "x.cases.yaml")
    assert told.exit_code == 0, told.stdout


@pytest.mark.parametrize("block", [b for b in BLOCKS if "mistake" in b.kind], ids=lambda block: block.name)
def test_a_mistake_is_found_by_its_code_and_nothing_else_is(block, tmp_path):
    code = block.kind.rpartition(" ")[2]
    before = PAGE.partition(f"```{block.kind}\n")[0].rpartition("```")[2]
    assert f"(`{code}`)" in before, "what is rendered does not show what a block is"
    (tmp_path / "x.yaml").write_text(completed(block.text), "utf-8")
    told = json.loads(run("check", "--json", tmp_path / "x.yaml").stdout)
    assert {mistake["code"] for mistake in told["files"][0]["mistakes"]} == {code}


@pytest.mark.parametrize("condition", [line for block in of_kind("cel") for line in block.text.splitlines()])
def test_a_condition_of_the_page_is_one(condition):
    document = {**FRAME, "rules": [*FRAME["rules"], {"id": "x", "effect": "hold", "when": condition}]}
    program, mistakes = inspect(yaml.safe_dump(document))
    assert program is not None
    assert mistakes == ()


# --- names ---


def told_between(start, end):
    return PAGE.partition(start)[2].partition(end)[0]


def test_the_table_of_variables_has_every_field_and_no_other():
    table = told_between("### What can be read", "### Functions")
    told = {name for name in re.findall(r"`([a-z]+\.[a-z_.]+)`", table) if not name.startswith(("event.", "crm."))}
    assert told == {name for name in words.FIELDS if "." in name and not name.startswith("event.")}
    assert all(f"`{field}`" in table for field in words.ARGUMENT_FIELDS)
    assert all(f"`{root}`" in table for root in ("args", "params", "event"))


def test_every_function_and_origin_is_explained():
    told = told_between("### Functions", "### An intent with several resources")
    assert all(f"`{name}(" in told for name in PARAMETERS)
    assert all(f"`{word}`" in told for word in WORDS)


def test_every_key_and_type_of_a_window_is_explained():
    told = told_between("## Windows", "### event_count")
    assert all(f"`{key}`" in told for key in (*words.WINDOW_KEYS, *words.OPERATORS, words.FIELD_KEY))
    for kind in words.WINDOW_TYPES:
        assert f"[`{kind}`]" in told
        assert f"### {kind}: " in PAGE


def test_every_key_of_a_rule_is_shown():
    shown = {key for rules, _ in examples() for rule in yaml.safe_load(rules.text)["rules"] for key in rule}
    assert shown == set(words.RULE_KEYS)


def test_a_guard_fulfils_what_an_approval_asks_and_runs_nothing_if_it_asks_for_more(capsys):
    (block,) = of_kind("python")
    asked = {"rows_max": 10, "record_result": True}
    worker = Live(lambda _intent: ("approve", {"obligations": asked}))
    with worker as live, HarnessSync.connect(**live.connection()) as harness:
        names = {"chain": harness.chain(), "orders_of": lambda _customer: list(range(50))}
        exec(block.text, names)  # noqa: S102  the page's own example
        assert names["read"]("7") == list(range(10))
        assert capsys.readouterr().out == "recorded: True\n"
        asked["mask"] = ["iban"]
        with pytest.raises(Denied):
            names["read"]("7")


def test_a_link_inside_the_page_leads_somewhere():
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors(re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))


def test_a_file_the_page_names_is_there():
    for name in re.findall(r"\b((?:examples|schemas)/[\w./-]+\w)", PAGE):
        assert (ROOT / name).exists(), name


# --- numbers ---


@pytest.mark.parametrize(
    ("row", "numbers"),
    [
        ("a rule set", [words.TEXT_BYTES_MAX // 1024, words.RULES_MAX, words.SELECTIONS_MAX, words.PARAMS_MAX]),
        ("one condition", [words.EXPRESSION_CHARS_MAX, words.NESTING_MAX]),
        ("a list in a condition", [words.LITERAL_ELEMENTS_MAX]),
        ("a pattern of `matches`", [words.PATTERN_CHARS_MAX]),
        ("what conditions may cost", [words.CONDITION_STEPS_MAX, words.INTENT_STEPS_MAX]),
        ("loops of a condition as it runs", [words.LOOP_STEPS_RUNTIME]),
        ("loops `check` accepts", [words.LOOP_STEPS_MAX]),
        ("a window", [words.WINDOW_SELECTIONS_MAX, words.GROUP_BY_MAX, words.TIMESPAN_MS_MAX // 3_600_000]),
        ("exact in a window", [limits.WINDOW_EXACT_MAX, limits.WINDOW_VALUES_MAX, limits.WINDOW_HOLDS_MAX]),
        ("groups of a window", [limits.GROUPS_PER_LANE_MAX, limits.GROUPS_PER_UNIT_MAX]),
        ("an id or name", [words.NAME_CHARS_MAX, words.BECAUSE_CHARS_MAX]),
        ("obligations of a rule", [words.OBLIGATIONS_MAX]),
        ("an intent", [limits.RESOURCES_MAX, limits.LABELS_MAX, limits.MEASURES_MAX, limits.ARGUMENTS_MAX]),
        ("a hold", [limits.HOLD_MS_DEFAULT // 60_000, limits.HOLDS_OPEN_MAX]),
        ("a chain", [limits.CHAIN_LABELS_MAX]),
    ],
)
def test_a_limit_is_what_the_engine_enforces(row, numbers):
    (told,) = re.findall(rf"^\| {re.escape(row)} \| (.*) \|$", told_between("## Limits", "## Common"), re.MULTILINE)
    assert [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", told)] == numbers


def test_a_spent_budget_is_named_as_verdicts_name_it():
    (told,) = re.findall(r"^\| loops of a condition as it runs .*$", PAGE, re.MULTILINE)
    assert f"`{Deny.RULE_ERROR}`" in told
    assert f"`{BUDGET_SPENT.partition(':')[0]}`" in told


def test_numbers_in_the_text_are_the_engines():
    assert f"newest {limits.WINDOW_EXACT_MAX} exactly, older ones in {limits.WINDOW_BUCKETS} buckets" in PAGE
    assert f"more than {limits.WINDOW_VALUES_MAX:,} different values" in PAGE
    assert f"more than {limits.WINDOW_HOLDS_MAX} open holds" in PAGE
    assert f"waits {limits.HOLD_MS_DEFAULT // 60_000} minutes" in PAGE


def test_how_far_delegation_reaches_is_what_the_engine_enforces():
    told = told_between("## Delegation", "## From file to force")
    depth, fan_out = limits.DELEGATION_DEPTH_DEFAULT, limits.DELEGATION_FAN_OUT_DEFAULT
    assert f"levels below this agent ({depth} if left out, at most {limits.DELEGATION_DEPTH_MAX})" in told
    assert f"one of its intents ({fan_out}, at most {limits.DELEGATION_FAN_OUT_MAX:,})" in told
    assert "at least once an hour" in told
    assert limits.DELEGATION_IDLE_MS == 3_600_000
    assert {f"| `{reason}` |" for reason in (Deny.DELEGATION, Deny.DELEGATION_LANE, Deny.CHAIN_CLOSED)} <= set(
        re.findall(r"^\| `\w+` \|", told, re.MULTILINE)
    )


# --- command lines ---


def shown_lines():
    readme = (ROOT / "examples/rules/README.md").read_text("utf-8")
    texts = [b.text for b in (*BLOCKS, *blocks(readme)) if b.kind == "sh"]
    texts += [path.read_text("utf-8") for path in sorted((ROOT / "examples/rules").rglob("*.yaml"))]
    return sorted({shlex.join(line) for text in texts for line in command_lines(text)})


@pytest.mark.parametrize("line", shown_lines())
def test_a_command_line_that_is_shown_is_understood(line):
    assert understood(line)
