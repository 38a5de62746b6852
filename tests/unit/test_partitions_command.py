"""`harness partitions` on a terminal: its table, its durations, and what it refuses before it reads anything."""

import re

import pytest
from typer.testing import CliRunner

from harness_stream.cli.main import app
from harness_stream.cli.partitions import as_text, duration_text

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
        ("halted", "harness partitions resume --help"),
        ("claimed and silent", "harness worker"),
        ("never claimed", "harness rules push"),
        ("released", "harness worker"),
    ],
)
def test_what_needs_attention_is_said_below_with_what_to_do(activity, hint):
    _, _, said, todo = table(activity=activity, concluded_from="because")
    assert said == f"partition 3 is {activity}: because"
    assert hint in todo


@pytest.mark.parametrize("activity", ["deciding", "at rest"])
def test_nothing_is_said_of_a_healthy_one(activity):
    assert len(table(activity=activity)) == 2


def test_it_is_said_what_is_not_known_without_redis():
    assert "Redis does not answer" in table(store="unavailable")[2]


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
