"""`harness tables load` and `get` as a person runs them, on a real broker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

SAMPLES = Path(__file__).parents[2] / "examples" / "tables"


@pytest.fixture
def harness(real_stack, tmp_path):
    realm = {"HARNESS_BOOTSTRAP": real_stack.bootstrap, "HARNESS_PREFIX": f"t{uuid.uuid4().hex[:8]}"}

    def run(*words, exit_code=0):
        command = [sys.executable, "-c", "from harness_stream.cli.main import main; main()", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | realm, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout

    return run


def test_samples_are_loaded_once_shown_changed_and_pruned(harness, tmp_path):
    harness("topics", "apply", "--dev")
    first = json.loads(harness("tables", "load", str(SAMPLES), "--json"))
    assert first["applied"]
    assert first["tables"]["identity"] == {"written": 9, "unchanged": 0, "deleted": 0, "revision": 8}
    again = json.loads(harness("tables", "load", str(SAMPLES), "--json"))
    assert again["tables"]["identity"] == {"written": 0, "unchanged": 9, "deleted": 0, "revision": 8}

    (tmp_path / "identity.csv").write_text("agent_id,tenant,status\nsupport-1,acme,killed\n")
    assert "1 written, 0 unchanged, 8 deleted, revision 17" in harness("tables", "load", str(tmp_path), "--prune")
    shown = json.loads(harness("tables", "get", "identity", "--json"))
    assert shown == {
        "table": "identity",
        "revision": 17,
        "rows": {"support-1": {"agent_id": "support-1", "tenant": "acme", "status": "killed"}},
    }
    harness("tables", "get", "identity", "analyst-1", exit_code=1)

    (tmp_path / "identity.csv").write_text("agent_id,tenant,status\nsupport-1,globex,active\n")
    assert "away from its history" in harness("tables", "load", str(tmp_path), exit_code=2)
