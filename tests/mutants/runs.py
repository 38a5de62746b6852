"""Runs named tests in a process of their own, with and without a mutant, and judges the mutant by it."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.plugin import BROKEN, MUTANT, PASSED, REPORT

ROOT = Path(__file__).parents[2]
# All named tests together take a minute; on a machine that six share that is ten times as long.
RUN_S_MAX = 600

# Most of a run is Python starting, on a core of its own; the smallest machine that runs the suite has two.
AT_ONCE = 2

KILLED, SURVIVED = "killed", "SURVIVED"

Outcomes = dict[str, str]


def outcomes(tests, mutant=None, servers=None) -> Outcomes:
    """Node id → what became of it.

    Args:
        tests: node ids.
        mutant: its name, None for the product as it is.
        servers: a `RealStack` that answers, if the tests need one.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        environment = {**os.environ, REPORT: str(report)}
        if mutant is not None:
            environment[MUTANT] = mutant
        if servers is not None:
            environment |= {"HARNESS_TEST_BOOTSTRAP": servers.bootstrap, "HARNESS_TEST_REDIS": servers.redis_url}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin"]
        done = subprocess.run(
            [*command, *dict.fromkeys(tests)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_S_MAX,
            check=False,
        )
        assert report.exists(), done.stdout[-2_000:] + done.stderr[-2_000:]
        return json.loads(report.read_text())


def of(test, known: Outcomes) -> list[str]:
    """What became of a test, one entry a parameter."""
    return [outcome for node, outcome in known.items() if node == test or node.startswith(f"{test}[")]


def verdict(mutant, clean: Outcomes, servers=None) -> str:
    """Is it killed by its test, which passes on the product as it is (`clean`)?"""
    before = of(mutant.killed_by, clean)
    if not before or set(before) != {PASSED}:
        return f"{BROKEN}: without the mutant its test is {before or 'not there'}"
    after = of(mutant.killed_by, outcomes([mutant.killed_by], mutant.name, servers))
    broken = [outcome for outcome in after if outcome.startswith(BROKEN)]
    if not after or broken:
        return broken[0] if broken else f"{BROKEN}: its test did not run"
    return KILLED if set(after) != {PASSED} else SURVIVED


def verdicts(mutants, clean: Outcomes, servers=None):
    """Each mutant's verdict, in order, as soon as it is known."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda mutant: verdict(mutant, clean, servers), mutants)
