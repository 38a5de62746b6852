"""A pytest plugin: runs the session's tests under the mutant that the environment names, and writes what became of them.

Rule of this file: only an assertion made in a test says that the test has noticed; any other error is BROKEN.
"""

import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.mutants.table import MUTANTS

MUTANT, REPORT = "HARNESS_MUTANT", "HARNESS_MUTANT_REPORT"
PASSED, REFUTED, BROKEN = "passed", "refuted", "broken"

# Under a mutant something may never come; what a reader is to be given it has within a second.
PATIENCE_S = 5.0

# Of an error's text: enough to see what was noticed.
SAID_CHARS_MAX = 200

TESTS = Path(__file__).parents[1]
OUTCOMES = pytest.StashKey[dict[str, str]]()


def pytest_configure(config):
    config.stash[OUTCOMES] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session):
    """Once everything is imported, so that a test's own names are the product's as it is."""
    name = os.environ.get(MUTANT)
    if name is None:
        return (yield)
    [mutant] = [m for m in MUTANTS if m.name == name]
    with mutant.made(), patch("log_lanes.PATIENCE_S", PATIENCE_S):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" or not report.passed:
        item.config.stash[OUTCOMES][item.nodeid] = PASSED if report.passed else _failure(report, call)
    return report


def pytest_sessionfinish(session):
    Path(os.environ[REPORT]).write_text(json.dumps(session.config.stash[OUTCOMES]))


def _failure(report, call):
    error = call.excinfo
    if report.when == "call" and (error.errisinstance(pytest.fail.Exception) or _asserted_in_a_test(error)):
        return f"{REFUTED}: {_said(error)}"
    return f"{BROKEN}: {report.when}: {_said(error)}"


def _said(error):
    return " ".join(error.exconly().split())[:SAID_CHARS_MAX]


def _asserted_in_a_test(error):
    return error.errisinstance(AssertionError) and Path(error.traceback[-1].path).is_relative_to(TESTS)
