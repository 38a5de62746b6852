"""`harness partitions` on a terminal: its table, its durations, and what it refuses before it reads anything."""

import re
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from harness_stream.cli.main import app
from harness_stream.cli.partitions import EXIT_UNCLAIMED, _tell, as_text, duration_text
from harness_stream.core import limits
from harness_stream.runtime.standing import SAMPLE_RECORDS

ROW = {
    "partition": 3,
    "activity": "deciding",
    "concluded_from": "its owner wrote just now",
    "troubles": [],
    "epoch": 2,
    "writer": "ab" * 16,
    "next_input": 40,
    "input_end": 42,
    "lag": 2,
    "decision_end": 61,
    "checkpoint_age_ms": 61_000,
    "rules": {"digest": "d" * 64, "revision": 7},
    "next_rules": None,
    "void": 1,
    "records": 9,
    "store": 60,
    "decisions_lost": None,
}


def table(**over):
    """Its lines, without colours and with single spaces."""
    text = re.sub(r"\x1b\[\d+m", "", as_text([ROW | over]))
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_line_has_owner_epoch_lag_checkpoint_rules_and_void_records():
    titles, line = table()
    assert titles == "part state owner epoch next end lag log end checkpoint rules void rate"
    assert line == "3 deciding abababab 2 40 42 2 61 1 min ago 7 (dddddddd) 11.1% of 9"


def test_a_set_that_is_not_in_force_yet_stands_beside_the_one_that_is():
    coming = {"revision": 8, "state": "warming", "detail": ""}
    assert "7 (dddddddd) → 8 warming" in table(next_rules=coming)[1]


def test_what_nobody_knows_is_a_dash():
    unknown = dict.fromkeys(("epoch", "writer", "next_input", "lag", "checkpoint_age_ms", "rules"))
    assert table(**unknown)[1] == "3 deciding - - - 42 - 61 none - 11.1% of 9"


@pytest.mark.parametrize(
    ("activity", "hint"),
    [
        ("halted", "`harness partitions resume 3 --reason TEXT` shows what is lost, and asks"),
        ("claimed and silent", "harness worker"),
        ("never claimed", "harness rules push"),
        ("resumed, not claimed", "start a worker: `harness worker`"),
        ("released", "harness worker"),
    ],
)
def test_what_needs_attention_is_said_below_with_what_to_do(activity, hint):
    _, _, said, todo = table(activity=activity, concluded_from="because")
    assert said == f"partition 3 is {activity}: because"
    assert hint in todo


def test_what_is_the_same_of_several_partitions_is_said_once():
    new = ROW | {"activity": "never claimed", "concluded_from": "there is no claim"}
    rows = [new | {"partition": number} for number in (0, 1)]
    halted = [ROW | {"partition": number, "activity": "halted", "concluded_from": "cut"} for number in (2, 5)]
    said = as_text([*rows, ROW, *halted]).splitlines()[6:]
    assert said[0] == "partitions 0, 1 are never claimed: there is no claim"
    assert said[1].startswith("  → (re)start a worker")
    assert said[2] == "partitions 2, 5 are halted: cut"
    assert ["resume 2 " in said[3], "resume 5 " in said[4], len(said)] == [True, True, 5]


@pytest.mark.parametrize(("void", "records"), [(1_036, 1_101), (300, 2_000), (8, 9)])
@pytest.mark.parametrize("activity", ["deciding", "at rest"])
def test_a_void_rate_that_no_takeover_explains_is_said_with_what_shows_why(activity, void, records):
    _, _, said, todo = table(activity=activity, void=void, records=records)
    assert said.startswith(f"partition 3: {void:,} of its newest {records:,} records do not count")
    assert "`harness log verify --partition 3`" in todo


def test_a_takeovers_void_records_are_not_worth_a_word():
    assert len(table(void=limits.IN_FLIGHT_RECORDS_MAX, records=SAMPLE_RECORDS)) == 2


def test_the_help_says_among_which_records_void_ones_are_counted():
    told = " ".join(CliRunner().invoke(app, ["partitions", "--help"]).output.replace("│", " ").split())
    assert f"among the newest {SAMPLE_RECORDS:,} records, from the first checkpoint among those on" in told


@pytest.mark.parametrize("activity", ["deciding", "at rest"])
def test_nothing_is_said_of_a_healthy_one(activity):
    assert len(table(activity=activity)) == 2


def test_it_is_said_what_is_not_known_without_redis():
    assert "Redis does not answer" in table(store="unavailable")[2]


def test_it_is_said_that_redis_is_only_being_filled_and_by_whom():
    _, _, said, todo = table(store="filling")
    assert said == "partition 3: Redis is being filled; who loads meanwhile reads snapshots and the log"
    assert "`harness worker`" in todo


@pytest.mark.parametrize("activity", ["at rest", "deciding", "halted"])
def test_decisions_that_only_redis_knows_of_are_told_with_the_runbooks_chapter(activity):
    lost = "the state store stands at 812, and the decision log has nothing from 640 on"
    *_, said, todo = table(activity=activity, concluded_from="because", decisions_lost=lost)
    assert said == f"partition 3: {lost}: the log lost decisions that Redis knows of"
    assert todo.endswith("docs/runbook.md, `decisions_lost`")


@pytest.mark.parametrize(
    ("duration_ms", "text"), [(0, "0 ms"), (999, "999 ms"), (1_000, "1 s"), (60_000, "1 min"), (7_300_000, "2 h")]
)
def test_a_duration_is_told_in_its_largest_unit(duration_ms, text):
    assert duration_text(duration_ms) == text


def test_json_asks_nobody_so_it_has_to_be_told_yes():
    done = CliRunner().invoke(app, ["partitions", "resume", "0", "--reason", "x", "--dev", "--json"])
    assert "add --yes" in str(done.exception)


def test_a_resume_needs_a_reason():
    done = CliRunner().invoke(app, ["partitions", "resume", "0"])
    assert done.exit_code == 2
    assert "--reason" in done.output


@pytest.mark.parametrize("reason", ["x" * 257, "two\nlines", "bell\x07"])
def test_a_reason_that_no_audit_could_show_is_refused_before_anything_is_asked(reason):
    done = CliRunner().invoke(app, ["partitions", "resume", "3", "--reason", reason, "--dev", "--yes"])
    assert done.exit_code != 0
    assert "too long, or more than one line" in f"{done.output}{done.exception}"


def test_a_resume_without_a_reason_is_refused_before_anything_is_asked():
    done = CliRunner().invoke(app, ["partitions", "resume", "3", "--reason", " ", "--dev", "--yes"])
    assert done.exit_code != 0
    assert "reason is empty" in f"{done.output}{done.exception}"


def test_a_resume_that_no_worker_has_claimed_yet_names_what_starts_one(capsys):
    with pytest.raises(typer.Exit) as ended:
        _tell(SimpleNamespace(found=SimpleNamespace(partition=3)), 18, None, json=False)
    assert ended.value.exit_code == EXIT_UNCLAIMED
    assert "→ start one: `harness worker`" in capsys.readouterr().err
