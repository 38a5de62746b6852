"""The program of docs/raw-client.md: plain Kafka against a real worker, none of our code in between."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from own_realm import OwnRealm, wait_until

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "raw_producer_consumer.py"
LINES_MAX = 30  # issue 3: what one needs to know fits on one screen


@pytest.fixture
def realm(real_stack, tmp_path):
    samples = ROOT / "examples" / "tables"
    rules = (ROOT / "examples" / "rules" / "production.yaml").read_text()
    return OwnRealm(real_stack.bootstrap, real_stack.redis_url, tmp_path, rules=rules, tables=samples).prepare()


def program(*words):
    return subprocess.run(
        [sys.executable, PROGRAM, *words], capture_output=True, text=True, timeout=60, check=False
    )


def run(realm):
    return program(realm.settings.bootstrap, realm.settings.prefix)


def test_the_page_shows_the_program_that_is_tested():
    text = PROGRAM.read_text()
    assert text in (ROOT / "docs" / "raw-client.md").read_text()
    assert "harness_stream" not in text
    code = [line for line in text.splitlines() if line.strip() and not line.startswith(('"""', "import", "from"))]
    assert len(code) <= LINES_MAX


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_without_an_address_it_says_how_it_is_used(words):
    done = program(*words)
    assert done.returncode == 1
    assert done.stderr.endswith(": raw_producer_consumer.py BOOTSTRAP [PREFIX].\n")
    assert "Traceback" not in done.stderr


def test_it_prints_the_effective_verdict_for_its_intent(realm):
    with realm.worker():
        done = run(realm)
        assert done.returncode == 0, done.stderr
        verdict = json.loads(done.stdout)
        assert (verdict["kind"], verdict["decision"], verdict["agent_id"]) == ("verdict", "approve", "support-1")
        assert [reason["rule"] for reason in verdict["reasons"]] == ["allowed-actions"]
        assert verdict in realm.effective(realm.partition_of("acme"))


def test_it_finds_its_denial_in_a_record_of_many(realm):
    def denied():
        ((place, sent),) = wait_until(lambda: realm.bodies(realm.topics.intents, home), why=lambda: "no intent").items()
        rows = [
            {"offset": place + number, "intent_id": own_id, "code": "late", "detail": None}
            for number, own_id in enumerate((realm.intent("another")["intent_id"], sent["intent_id"]))
        ]
        realm.append_decision(home, {"kind": "denials", "covers": [place, place + 1], "denied": rows})
        return rows[1]

    home = realm.partition_of("acme")
    with ThreadPoolExecutor(1) as beside:
        running = beside.submit(run, realm)
        mine = denied()
        done = running.result()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == mine


def test_without_a_worker_it_runs_nothing_and_says_so(realm):
    done = run(realm)
    assert done.returncode == 1
    assert "nothing may be run" in done.stderr
    assert done.stdout == ""
