"""`docs/threat-model.md`: each threat has its test, that test exists, and nothing of the way of an intent is left out."""

import ast
import functools
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from pages import anchors, blocks, chapter, command_lines, headings, understood

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/threat-model.md").read_text("utf-8")
ELEMENTS = (
    *("Agent", "Enforcer", "Input topic", "Tables", "Rules topic", "Worker", "Decision log", "Checkpoints"),
    *("Redis", "Chains topic", "Operator commands", "Network"),
)
NOT_YET = "**not stopped yet: signatures**"


class Threat(NamedTuple):
    """One row."""

    id: str
    kind: str
    what: str
    answer: str
    tests: str

    @property
    def named(self):
        return re.findall(r"`([^`]+)`", self.tests)


def threats(element):
    rows = [line.strip("| ").split(" | ") for line in chapter(PAGE, element).splitlines() if line.startswith("| ")]
    return [Threat(*row) for row in rows[1:]]


ALL = [threat for element in ELEMENTS for threat in threats(element)]


@functools.cache
def nodes_of(path):
    """Node ids of a test file, without the file and without what a parameter adds."""
    found = set()
    for node in ast.parse((ROOT / "tests" / path).read_text("utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + one.name for one in inner if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in found if name.split("::")[-1].startswith("test_")}


def test_every_element_of_the_way_of_an_intent_has_its_table():
    assert [title for title in headings(PAGE, 2) if title in ELEMENTS] == list(ELEMENTS)
    assert all(threats(element) for element in ELEMENTS)


def test_threats_have_ids_of_their_own_in_order():
    for element in ELEMENTS:
        ids = [threat.id for threat in threats(element)]
        assert ids == [f"{ids[0][0]}{number}" for number in range(1, len(ids) + 1)]
    assert len({threat.id for threat in ALL}) == len(ALL)


def test_all_kinds_of_stride_are_looked_at():
    assert {threat.kind for threat in ALL} == set("STRIDE")


@pytest.mark.parametrize("threat", ALL, ids=lambda threat: threat.id)
def test_a_threat_has_a_test_that_exists_or_says_that_nothing_stops_it_yet(threat):
    rest = threat.tests.replace(NOT_YET, "")
    assert threat.named or rest != threat.tests
    assert re.sub(r"`[^`]+`|[, ]", "", rest) == "", "tests and the mark, nothing else"
    for name in threat.named:
        path, _, node = name.partition("::")
        assert node in nodes_of(path), name


def test_links_inside_of_the_page_lead_somewhere():
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= anchors(PAGE)


@pytest.mark.parametrize("line", [" ".join(line) for block in blocks(PAGE) if block.kind == "sh" for line in command_lines(block.text)])
def test_a_command_line_that_is_shown_is_understood(line):
    understood(line)
