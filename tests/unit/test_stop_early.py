"""SIGTERM, or Ctrl-C, in a command's first moments: it ends at once, and says which kind of end that was."""

import signal
import socket
import subprocess
import sys
import time

import pytest

from harness_stream.__main__ import EXIT_INTERRUPTED, EXIT_TERMINATED

STOP_S_MAX = 10  # a quarter of a second on an idle machine

# As when a container is stopped while this very module is imported.
STOPPED_AT_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == awaited:
            os.kill(os.getpid(), int(number))
number, awaited, *sys.argv[1:] = sys.argv[1:]
sys.meta_path.insert(0, Finder())
from harness_stream.__main__ import main
main()
"""


def stopped_while_importing(module, folder, *words, by=signal.SIGTERM):
    command = [sys.executable, "-c", STOPPED_AT_IMPORT, str(int(by)), module, *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(("by", "code"), [(signal.SIGTERM, EXIT_TERMINATED), (signal.SIGINT, EXIT_INTERRUPTED)])
def test_a_command_that_is_only_being_imported_ends_in_silence_with_the_code_of_the_signal(tmp_path, by, code):
    done = stopped_while_importing("typer", tmp_path, "worker", by=by)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_worker_that_imports_its_clients_ends_with_0_since_it_was_asked_to_stop(tmp_path):
    done = stopped_while_importing("confluent_kafka", tmp_path, "worker", "--dev")
    assert done.returncode == 0
    assert done.stderr.rstrip().endswith(" stopped before it began")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_worker_that_waits_for_a_broker_which_says_nothing_ends_at_once(tmp_path, number, code):
    with socket.create_server(("127.0.0.1", 0)) as broker:
        address = f"127.0.0.1:{broker.getsockname()[1]}"
        command = [sys.executable, "-m", "harness_stream", "worker", "--dev", "--bootstrap", address]
        worker = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        connected, _ = broker.accept()
        asked_s = time.monotonic()
        worker.send_signal(number)
        _, said = worker.communicate(timeout=60)
        connected.close()
    assert worker.returncode == code, said
    assert time.monotonic() - asked_s < STOP_S_MAX
    assert "Traceback" not in said
