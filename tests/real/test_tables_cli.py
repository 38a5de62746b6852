"""`harness tables load` and `get` as a person runs them, on a real broker; what they say where no topics are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from harness_stream.adapters.kafka.admin import require_topics
from harness_stream.errors import ProtocolError

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLES, RULES = EXAMPLES / "tables", EXAMPLES / "rules" / "production.yaml"

PLANNED = {"to_write": 0, "to_delete": 0}
"""What a load that was applied leaves to be done."""


@pytest.fixture
def harness(real_stack, tmp_path):
    realm = {"HARNESS_BOOTSTRAP": real_stack.bootstrap, "HARNESS_PREFIX": f"t{uuid.uuid4().hex[:8]}"}

    def run(*words, exit_code=0, errors=False):
        command = [sys.executable, "-c", "from harness_stream.cli.main import main; main()", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | realm, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stderr if errors else done.stdout

    return run


def test_samples_are_loaded_once_shown_changed_and_pruned(harness, tmp_path):
    harness("topics", "apply", "--dev")
    first = json.loads(harness("tables", "load", str(SAMPLES), "--json"))
    assert first["applied"]
    assert first["tables"]["identity"] == {"written": 9, "unchanged": 0, "deleted": 0, "revision": 8} | PLANNED
    again = json.loads(harness("tables", "load", str(SAMPLES), "--json"))
    assert again["tables"]["identity"] == {"written": 0, "unchanged": 9, "deleted": 0, "revision": 8} | PLANNED

    assert harness("tables", "get", "identity", "suport-1", exit_code=1, errors=True) == (
        "there is no row `suport-1`; did you mean `support-1`?\n"
    )

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


def test_rules_status_asks_the_broker_how_many_partitions_there_are(harness):
    harness("topics", "apply", "--dev", "--partitions", "3")
    report = json.loads(harness("rules", "status", "--json"))
    assert report["partitions"] == {"0": None, "1": None, "2": None}


@pytest.mark.parametrize(
    ("words", "topic"),
    [
        (("tables", "get", "risk"), "risk"),
        (("intents", "send", "--agent", "support-1", "--action", "crm.read", "--dev"), "identity"),
    ],
    ids=["tables get", "intents send"],
)
def test_a_command_that_needs_a_topic_that_is_not_there_names_it_and_what_makes_it(harness, words, topic):
    said = harness(*words, exit_code=ProtocolError.exit_code, errors=True)
    assert said.startswith("error: topic `t")
    assert f".{topic}` does not exist\n→ run `harness topics apply`, which creates it\n" in said


def test_a_push_names_every_topic_it_needs(harness):
    said = harness("rules", "push", "--dev", str(RULES), exit_code=ProtocolError.exit_code, errors=True)
    assert all(f".{name}`" in said for name in ("rules", "heads"))
    assert "do not exist\n→ run `harness topics apply`, which creates them\n" in said


def test_a_load_names_every_table_that_has_no_topic_and_writes_nothing(harness):
    said = harness("tables", "load", str(SAMPLES), exit_code=ProtocolError.exit_code, errors=True)
    assert "topics `t" in said
    assert all(f".{name}`" in said for name in ("identity", "infrastructure", "risk", "classification"))
    assert "do not exist\n→ run `harness topics apply`, which creates them\n" in said


def test_missing_topics_are_known_within_two_seconds(real_stack):
    began_s = time.monotonic()
    with pytest.raises(ProtocolError):
        require_topics(real_stack.bootstrap, [f"t{uuid.uuid4().hex[:8]}.rules"])
    assert time.monotonic() - began_s < 2
