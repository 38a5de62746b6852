"""One fault of each kind on real processes, under load: nothing is lost, nothing double, no history wrong.

The long run is `python -m tests.faults` (its last report: tests/faults/report.txt); this is the same runner.
"""

import json
import signal
import subprocess
import sys

import pytest
from real_servers import unavailable

from harness_stream.errors import HarnessError
from harness_stream.local.artifacts import java
from harness_stream.local.process import ProcessRecord, birth_mark
from harness_stream.local.redis import server_program
from tests.faults.plan import KINDS
from tests.faults.report import as_text
from tests.faults.run import Options, run
from tests.faults.site import ROOT
from tests.real.own_realm import wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

SEED = 5


@pytest.fixture(autouse=True)
def _servers_of_its_own():
    """The broker needs listeners of this test's, so neither given addresses nor containers will do."""
    try:
        java()
        server_program()
    except HarnessError as error:
        unavailable(error.message)


def test_one_fault_of_each_kind_loses_nothing_doubles_nothing_and_leaves_no_intent_without_an_end(
    tmp_path, record_property
):
    options = Options(faults=len(KINDS), seed=SEED, workers=2, rate=20, transaction_s=5.0)
    result = run(options, tmp_path)
    report = as_text(result)
    record_property("faults on real servers", report)
    assert {told.kind for told in result.told} == set(KINDS), report
    assert not result.wrong, report


def test_who_ends_the_command_by_sigterm_leaves_no_server_and_reads_what_came_before(tmp_path):
    command = [sys.executable, "-m", "tests.faults", "--faults", "1", "--dir", str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: len(servers(tmp_path)) == 2, why=lambda: f"Redis and Kafka do not run: {servers(tmp_path)}")
    process.send_signal(signal.SIGTERM)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "with: commit " in told
    assert "stopped by SIGTERM" in told
    assert [server for server in servers(tmp_path) if birth_mark(server.pid) == server.born] == []


def servers(folder):
    """What was ever started there."""
    files = [file for name in ("redis", "kafka") for file in (folder / name).glob("*.json")]
    return [ProcessRecord(**json.loads(file.read_text())) for file in files]
