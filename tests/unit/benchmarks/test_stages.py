"""Every function of a worker belongs to one stage, by names that exist: a moved file would silently be its caller's."""

import ast
import sys
from pathlib import Path

import pytest

from benchmarks import stages
from benchmarks.stages import PACKAGE, REST, STAGES, Stages, stage_of


@pytest.mark.parametrize("name", STAGES)
def test_what_a_stage_names_is_there(name):
    path, _, function = name.partition(":")
    files = list(PACKAGE.glob(path))
    assert files
    if function:
        found = [node for node in ast.walk(ast.parse(files[0].read_text())) if isinstance(node, ast.FunctionDef)]
        assert function in {node.name for node in found}


def test_issue_7_names_these_stages():
    wanted = {"decode", "MAC", "join", "rules", "windows", "encode", "sign", "produce", "confirm", "checkpoint"}
    assert wanted <= set(stages.ORDER)


@pytest.mark.parametrize(
    ("file", "function", "stage"),
    [
        ("core/rules/compile.py", "judge", "rules"),
        ("core/rules/windows.py", "look", "windows"),
        ("wire/decisions.py", "encode_body", "encode"),
        ("wire/decisions.py", "decision_headers", "produce"),
        ("adapters/kafka/log.py", "append", "produce"),
        ("adapters/kafka/log.py", "deliveries", "confirm"),
        ("runtime/worker.py", "step", None),
    ],
)
def test_the_most_exact_name_wins(file, function, stage):
    assert stage_of(file, function) == stage


def test_time_counts_for_the_innermost_named_function_and_only_between_two_decisions():
    looked = Stages()

    def spend(*names):
        looked._since = [(name, name, 1.0) for name in names]
        looked._count(0.0)

    spend(REST, "rules")  # the start
    spend("decode", REST, "rules")
    looked._since = [(REST, "idle", 100.0)]
    assert looked.to_json()["seconds"] == {"decode": 1, REST: 1, "rules": 1, stages.LIBRARY: 0}
    assert looked.to_json()["looks"] == 3


def test_frames_outside_of_the_package_are_their_callers():
    found = list(Stages()._frames(sys._getframe()))
    assert all(name for _, name in found)
    assert not [name for _, name in found if Path(__file__).name in name]
