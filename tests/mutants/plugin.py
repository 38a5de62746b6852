"""A pytest plugin: runs the tests that it has collected in forks, without a mutant and under each that was asked for.

Rule of this file: only an assertion made in a test says that the test has noticed; any other error is BROKEN, and so
is a test that took too long.
"""

import json
import os
import sys
import tempfile
import traceback
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.mutants.table import MUTANTS

MUTANTS_ASKED, REPORT_FD = "HARNESS_MUTANTS", "HARNESS_MUTANTS_REPORT"
"""In the environment: [[name, test], …] as JSON, and where a line of JSON is written of each run, the first without."""

PASSED, REFUTED, BROKEN = "passed", "refuted", "broken"

# The smallest machine that runs the suite has two cores.
AT_ONCE = 2

# Under a mutant something may never come; what a reader is to be given it has within a second.
PATIENCE_S = 5.0

# Of an error's text: enough to see what was noticed.
SAID_CHARS_MAX = 200

# How the text begins of what pytest-timeout raises, which is what `pytest.fail` raises.
TIMED_OUT = "Timeout (>"

TESTS = Path(__file__).parents[1]
OUTCOMES = pytest.StashKey[dict[str, str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    """Once everything is imported, so that a test's own names are the product's as it is."""
    if session.testsfailed:
        raise session.Interrupted("not every test could be collected")
    asked = json.loads(os.environ[MUTANTS_ASKED])
    runs = [(name, _items_of([test], session.items)) for name, test in asked]
    runs.insert(0, (None, _items_of([test for _, test in asked], session.items)))
    with tempfile.TemporaryDirectory() as folder, os.fdopen(int(os.environ[REPORT_FD]), "w") as report:
        for number in _ended(runs, Path(folder)):
            file = Path(folder) / str(number)
            found = json.loads(file.read_text()) if file.exists() else {}
            report.write(json.dumps({"run": number, "outcomes": found}) + "\n")
            report.flush()
    return True


def _items_of(tests, items):
    return [item for item in items if item.nodeid in tests or item.nodeid.partition("[")[0] in tests]


def _ended(runs, folder):
    """Numbers of the runs, as they end; each leaves a file of its number, unless its process was killed."""
    running = {}
    for number, (name, items) in enumerate(runs):
        if len(running) == AT_ONCE:
            yield running.pop(os.wait()[0])
        pid = os.fork()
        if pid == 0:
            _forked(name, items, folder / str(number))
        running[pid] = number
    while running:
        yield running.pop(os.wait()[0])


def _forked(name, items, file):
    """Run the items under the mutant, write what became of them, and end this process."""
    try:
        found = _outcomes(name, items)
    except BaseException:  # noqa: BLE001  `os._exit` would swallow it
        traceback.print_exc()
        found = dict.fromkeys((item.nodeid for item in items), f"{BROKEN}: {_said(pytest.ExceptionInfo.from_current())}")
    try:
        file.write_text(json.dumps(found))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _outcomes(name, items):
    found = {}
    with ExitStack() as open_:
        if name is not None:
            [mutant] = [m for m in MUTANTS if m.name == name]
            open_.enter_context(mutant.made())
            open_.enter_context(patch("log_lanes.PATIENCE_S", PATIENCE_S))
        for item, following in zip_longest(items, items[1:]):
            item.config.stash[OUTCOMES] = found
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" or not report.passed:
        item.config.stash[OUTCOMES][item.nodeid] = PASSED if report.passed else _failure(report, call)
    return report


def _failure(report, call):
    error = call.excinfo
    if report.when == "call" and (_failed_by_a_test(error) or _asserted_in_a_test(error)):
        return f"{REFUTED}: {_said(error)}"
    return f"{BROKEN}: {report.when}: {_said(error)}"


def _said(error):
    return " ".join(error.exconly().split())[:SAID_CHARS_MAX]


def _failed_by_a_test(error):
    return error.errisinstance(pytest.fail.Exception) and not str(error.value).startswith(TIMED_OUT)


def _asserted_in_a_test(error):
    return error.errisinstance(AssertionError) and Path(error.traceback[-1].path).is_relative_to(TESTS)
