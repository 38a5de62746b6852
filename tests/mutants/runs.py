"""Runs named tests with and without mutants in processes of their own, and judges each mutant by it.

Rule of this file: everything is imported once, and each run is a fork of that (`plugin`): Python starting was most of it.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Timer

from tests.mutants.plugin import BROKEN, MUTANTS_ASKED, PASSED, REPORT_FD

ROOT = Path(__file__).parents[2]
# All together take a minute; on a machine that six share that is ten times as long.
RUN_S_MAX = 600

KILLED, SURVIVED = "killed", "SURVIVED"

Outcomes = dict[str, str]


def outcomes(mutants, servers=None):
    """Node id → what became of it: of every named test on the product as it is, then of each mutant's own under it.

    Args:
        mutants: which; their tests need not be the table's.
        servers: a `RealStack` that answers, if the tests need one.
    """
    files = _files(mutant.killed_by for mutant in mutants)
    asked = [[mutant.name, mutant.killed_by] for mutant in mutants]
    if not files:  # pytest would collect everything
        yield from ({} for _ in range(len(asked) + 1))
        return
    with tempfile.TemporaryFile() as said, _session(asked, files, servers, said) as lines:
        known, number = {}, 0
        for line in lines:
            told = json.loads(line)
            known[told["run"]] = told["outcomes"]
            while number in known:  # they end in any order
                yield known.pop(number)
                number += 1
        said.seek(0)
        assert number == len(asked) + 1, said.read()[-4_000:].decode()


def _files(tests):
    """Those that there are: pytest refuses all if it is given a file, or a test of one, that is not there."""
    files = dict.fromkeys(test.partition("::")[0] for test in tests)
    return [file for file in files if (ROOT / file).exists()]


@contextmanager
def _session(asked, files, servers, said):
    """A pytest that has imported all of these tests; each line that it writes is one run."""
    reader, writer = os.pipe()
    environment = {**os.environ, MUTANTS_ASKED: json.dumps(asked), REPORT_FD: str(writer)}
    if servers is not None:
        environment |= {"HARNESS_TEST_BOOTSTRAP": servers.bootstrap, "HARNESS_TEST_REDIS": servers.redis_url}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.plugin"]
    process = subprocess.Popen(
        [*command, *files],
        cwd=ROOT,
        env=environment,
        stdout=said,  # standard error, where a fork says what became of it, is that of who asks
        pass_fds=[writer],
        start_new_session=True,  # so that its forks end with it
    )
    os.close(writer)
    limit = Timer(RUN_S_MAX, _end, [process])
    limit.start()
    try:
        with os.fdopen(reader) as lines:
            yield lines
    finally:
        limit.cancel()
        _end(process)
        process.wait()


def _end(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def of(test, known: Outcomes) -> list[str]:
    """What became of a test, one entry a parameter."""
    return [outcome for node, outcome in known.items() if node == test or node.startswith(f"{test}[")]


def verdict(mutant, clean: Outcomes, under: Outcomes) -> str:
    """Is it killed by its test (`under` it), which passes on the product as it is (`clean`)?"""
    before, after = of(mutant.killed_by, clean), of(mutant.killed_by, under)
    if not before:
        return f"{BROKEN}: its test is not there"
    if set(before) != {PASSED}:
        return f"{BROKEN}: without the mutant its test is {before}"
    broken = [outcome for outcome in after if outcome.startswith(BROKEN)]
    if not after or broken:
        return broken[0] if broken else f"{BROKEN}: its test did not run"
    return KILLED if set(after) != {PASSED} else SURVIVED


def verdicts(mutants, servers=None):
    """Each mutant's verdict, in order, as soon as it is known."""
    found = outcomes(mutants, servers)
    clean = next(found)
    for mutant, under in zip(mutants, found, strict=True):
        yield verdict(mutant, clean, under)
