"""`docs/runbook.md` and `deploy/alerts.yaml` name all that can be raised, and nothing that cannot."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
from dataclasses import fields
from itertools import product
from pathlib import Path

import pytest
import yaml
from pages import anchors, blocks, chapter, column, command_lines, headings, understood
from sentences import Sentences

from harness_stream.alarms import Alarm
from harness_stream.core import limits
from harness_stream.core.partition import Phase
from harness_stream.core.reasons import Deny, Reject
from harness_stream.runtime.checkpoints import CHECKPOINT_IDLE_MS
from harness_stream.runtime.inbox import INBOX_RECORDS_MAX
from harness_stream.runtime.owner import QUEUE_FULL
from harness_stream.runtime.readiness import Readiness
from harness_stream.runtime.standing import SILENT_MS, Trouble
from harness_stream.runtime.telemetry import METRICS
from harness_stream.wire.topics import TABLES

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "harness_stream/runtime"
PAGE = (ROOT / "docs/runbook.md").read_text("utf-8")
GROUPS = yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text("utf-8"))["groups"]
ALERTS = {rule["alert"]: rule for group in GROUPS for rule in group["rules"]}
LOG_CHAPTER, NUMBERS_CHAPTER = chapter(PAGE, "Alarms in the worker's log"), chapter(PAGE, "Alarms by numbers")
PARTS_OF_A_METRIC = r"_(bucket|sum|count)$"


def metrics_in(text):
    """Names of metrics, a histogram's series under its own name."""
    return {re.sub(PARTS_OF_A_METRIC, "", name) for name in re.findall(r"\bharness_[a-z_]+", text)}


# --- every name there is, and no other ---


def test_each_alarm_of_the_log_has_its_chapter():
    assert headings(LOG_CHAPTER, 3) == [f"`{alarm}`" for alarm in Alarm]


@pytest.mark.parametrize("title", [*headings(LOG_CHAPTER, 3), *headings(NUMBERS_CHAPTER, 3)])
def test_a_chapter_says_what_to_do_and_what_never_to_do(title):
    told = chapter(PAGE, title)
    assert re.search(r"\*\*(Do|Look and do)\*\*|, and what to do \|", told)
    assert "**Never**" in told


def lines_of(alarm):
    """What is quoted with the alarm's name at its end."""
    quoted = re.findall(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", chapter(PAGE, f"`{alarm}`"), re.DOTALL)
    lines = (" ".join(text.split()) for _, text in quoted)
    return [line.removesuffix(f" [{alarm}]") for line in lines if line.endswith(f" [{alarm}]")]


LIBRDKAFKAS = "MessageSet at offset 195 (812 bytes) failed CRC32C check"
SOURCES = [path.read_text("utf-8") for path in (ROOT / "harness_stream").rglob("*.py")]
SAID = Sentences(SOURCES, [LIBRDKAFKAS])


@pytest.mark.parametrize("alarm", Alarm)
def test_an_alarms_chapter_shows_its_line_as_it_is_said(alarm):
    lines = lines_of(alarm)
    assert lines
    assert [line for line in lines if not SAID.can_be(line)] == []


@pytest.mark.parametrize(
    "line",
    [
        "partition 3: the state store stands at 812, and the decision log ends at 640",
        "partition 3: the input log was cut",
        "partition 3: somebody did something",
    ],
)
def test_what_nobody_says_is_noticed(line):
    assert not SAID.can_be(line)


def test_all_metrics_are_explained():
    assert sorted(column(chapter(PAGE, "Metrics"))) == sorted(METRICS)


def test_no_other_metric_is_named():
    assert metrics_in(PAGE) <= set(METRICS)


def test_all_denials_and_rejections_of_the_engine_are_explained():
    verdicts, rejects = chapter(PAGE, "Denials by the engine").split("`harness_rejects_total`")
    assert column(verdicts) == list(Deny)
    assert column(rejects) == list(Reject)


def test_all_security_events_are_explained():
    assert set(column(chapter(PAGE, "Security events"))) == set(METRICS["harness_security_events_total"].known)


def test_all_troubles_of_a_halted_partition_are_explained():
    assert set(column(chapter(PAGE, "`halted`"))) == {trouble.name.lower() for trouble in Trouble}


def causes():
    """What a deciding partition says when it fails, up to the colon, as `harness_resyncs_total` counts it."""
    for node in ast.walk(ast.parse((RUNTIME / "deciding.py").read_text("utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "self.fail":
            why = ast.unparse(node.args[1]).removeprefix("f").strip("\"'")
            yield why.split(":")[0]


def fetched():
    """What a fetch from a store says that is not what was left."""
    for name, function in (("fetching.py", "_judge"), ("loading.py", "fetch")):
        tree = ast.parse((RUNTIME / name).read_text("utf-8"))
        (found,) = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == function]
        for node in ast.walk(found):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "CannotLoadError":
                yield ast.unparse(node.args[1]).removeprefix("f").strip("\"'").split(":")[0]


def test_all_causes_of_a_resync_are_explained():
    """Beside what deciding finds itself: a fetch from a store that is not what was left, a log too short or damaged, and
    a queue without room, which any record may meet."""
    told = set(column(chapter(PAGE, "Void records and resyncs")))
    assert told == {*causes(), *fetched(), "input log too short", "a log is damaged", QUEUE_FULL}


def test_why_a_partition_halts_is_quoted_as_it_is_said():
    source = "".join(path.read_text("utf-8") for path in [*RUNTIME.glob("*.py"), RUNTIME.parent / "errors.py", RUNTIME.parent / "core/audit/void.py"])
    quoted = {piece.strip() for words in column(chapter(PAGE, "`halted`"), 1) for piece in words.split("…")}
    assert quoted
    assert {piece for piece in quoted if piece not in source} == set()


def reasons_not_to_be_ready():
    """The words of each, up to what differs from case to case."""
    values = {
        "tables_behind": (None, frozenset(), frozenset(TABLES)),
        "rules_verified": (False, True),
        "claims_unread": (None, frozenset(), frozenset({3})),
        "tables_stale": (frozenset(), frozenset(TABLES)),
        "recreated": (False, True),
        "rules_problem": ("", "bundle 0123 is not in the rules topic"),
        "halted": (frozenset(), frozenset({3}), frozenset({4})),
    }
    assert set(values) == {field.name for field in fields(Readiness)}
    cases = (Readiness(**dict(zip(values, row, strict=True))) for row in product(*values.values()))
    return {re.split(r"[:;]", reason)[0] for case in cases for reason in case.waiting_for}


def test_all_that_a_worker_may_wait_for_is_explained():
    assert set(column(chapter(PAGE, "Not ready"))) == reasons_not_to_be_ready()


def test_links_inside_of_the_page_lead_somewhere():
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors(PAGE)


# --- numbers ---


def test_numbers_are_the_codes():
    assert INBOX_RECORDS_MAX + limits.IN_FLIGHT_RECORDS_MAX == 2_304
    assert limits.HOT_STORED_BYTES_MAX == 214_748_364
    assert (CHECKPOINT_IDLE_MS + SILENT_MS) // 1000 == 3_610
    assert (limits.FRESH_MS_MAX, limits.CLOCK_SKEW_MS_MAX, limits.ID_AGE_MS_MAX) == (1_000, 5_000, 60_000)
    assert (limits.HOLDS_OPEN_MAX, limits.HOLD_MS_DEFAULT, limits.QUARANTINE_CLAIMS) == (64, 900_000, 3)
    assert (limits.GROUPS_PER_LANE_MAX, limits.LANE_SHARDS, limits.GROUPS_PER_UNIT_MAX) == (100_000, 32, 3_125)
    assert (limits.SESSION_MS, limits.STORE_PATIENCE_MS, limits.DELIVERY_TIMEOUT_MS) == (6_000, 1_000, 3_000)


@pytest.mark.parametrize(
    ("alert", "threshold"),
    [
        ("HarnessLag", INBOX_RECORDS_MAX + limits.IN_FLIGHT_RECORDS_MAX),
        ("HarnessHotSet", limits.HOT_STORED_BYTES_MAX),
        ("HarnessCheckpointOld", (CHECKPOINT_IDLE_MS + SILENT_MS) // 1000),
        ("HarnessTableStale", limits.FRESH_MS_MAX // 1000),
        ("HarnessVoid", limits.IN_FLIGHT_RECORDS_MAX),
    ],
)
def test_an_alerts_threshold_is_the_limit_it_is_derived_from(alert, threshold):
    assert re.search(r"> (\d+)", ALERTS[alert]["expr"])[1] == str(threshold)


# --- command lines ---

SHELL = [block.text for block in blocks(PAGE) if block.kind == "sh"]


@pytest.mark.parametrize("line", sorted({shlex.join(line) for text in SHELL for line in command_lines(text)}))
def test_a_command_line_that_is_shown_is_understood(line):
    understood(line)


@pytest.mark.parametrize("line", sorted(set(re.findall(r"`(harness [a-z][^`]*)`", PAGE))))
def test_a_command_that_is_mentioned_exists(line):
    understood(f"{line} 3 --reason why" if line.endswith("resume") else line)


@pytest.mark.parametrize("text", SHELL)
def test_the_shell_can_parse_each_block(text):
    shell = shutil.which("bash")
    assert shell is not None
    assert subprocess.run([shell, "-n"], input=text, text=True, check=False, capture_output=True).stderr == ""


# --- alert rules ---


def test_the_page_names_all_alerts_and_no_other():
    assert column(chapter(PAGE, "Alert rules")) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_leads_to_its_chapter_and_says_how_urgent_it_is(name):
    rule = ALERTS[name]
    page, anchor = rule["annotations"]["runbook"].split("#")
    assert (ROOT / page).is_file()
    assert anchor in anchors(PAGE)
    assert rule["labels"]["severity"] in {"page", "look"}
    assert rule["annotations"]["summary"]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_only_for_what_is_shown(name):
    expr = ALERTS[name]["expr"]
    assert metrics_in(expr) <= set(METRICS)
    assert metrics_in(expr)
    for metric, label, _, values in re.findall(r'(harness_\w+)\{(\w+)(=~?)"([^"]+)"\}', expr):
        assert label in METRICS[metric].labels
        known = set(METRICS[metric].known) or set(Phase)
        assert set(values.split("|")) <= known


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_groups_by_labels_that_there_are(name):
    expr, rule = ALERTS[name]["expr"], ALERTS[name]
    labels = {label for metric in metrics_in(expr) for label in METRICS[metric].labels} | {"instance", "le"}
    grouped = {label for by in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr) for label in by.split(", ")}
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert grouped | shown <= labels
