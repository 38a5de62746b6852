"""`harness demo` as a person runs it, in one process: agents get their answers, both logs are right, it ends well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import MemoryBroker, MemoryReader
from harness_stream.client.wiring import ClientRealm
from harness_stream.core.coverage import miscovered, twice_settled, unanswered
from harness_stream.demo.agents import CAST, PARAMS
from harness_stream.demo.audit import Audit
from harness_stream.demo.story import UNSAID, Judged
from harness_stream.demo.verify import checks, fold_again
from harness_stream.wire.topics import Topics

COMMAND = [sys.executable, "-m", "harness_stream", "demo"]
ROOT = Path(__file__).parents[2]

EXPECTED = {
    "support-1": ["approve", "approve", "deny", "approve"],
    "exporter-1": ["approve"] * 3 + ["hold"],
    "looper-1": ["approve"] * PARAMS["same_action_a_minute"] + ["deny"] * 3,
    "analyst-1": ["approve"] * 5,
    "globex-support-1": ["deny"],
}


def demo(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def lines(tmp_path_factory) -> list[dict]:
    """What `--fast --json` prints, run in a folder that holds nothing."""
    done = demo("--fast", "--json", cwd=tmp_path_factory.mktemp("empty"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def of(lines: list[dict], agent: str) -> list[dict]:
    return [line for line in lines[:-1] if line["agent_id"] == agent]


@pytest.mark.parametrize("agent", EXPECTED)
def test_each_agent_gets_its_answers_and_runs_only_what_was_approved(lines, agent) -> None:
    verdicts = of(lines, agent)
    assert [v["decision"] for v in verdicts] == EXPECTED[agent]
    assert [v["ran"] for v in verdicts] == [d == "approve" for d in EXPECTED[agent]]


def test_because_is_empty_where_a_rules_author_gave_no_reason(lines) -> None:
    said = {verdict["because"] for verdict in lines[:-1]}
    assert UNSAID not in said
    assert "" in said


def test_the_same_mail_is_approved_before_personal_data_was_read_and_denied_after(lines) -> None:
    before, read, after, inside = of(lines, "support-1")
    assert before["resource"] == after["resource"] == "email://external/pat@example.com"
    assert read["resource"] == "crm://customers/4711"
    assert after["rule"] == "no-egress-after-pii"
    assert "personal data was read by this agent" in after["explanation"]
    assert "ago, by crm.read crm://customers/4711" in after["explanation"]
    assert inside["resource"] == "email://internal/team@acme.example"


@pytest.mark.parametrize(
    ("agent", "rule", "words"),
    [
        ("exporter-1", "bulk-export", "held: more exports in a day than this agent needs, 4 times within"),
        ("looper-1", "runaway-loop", f"{PARAMS['same_action_a_minute'] + 1} times within"),
        ("globex-support-1", "too-risky", "denied: the risk score is above the limit (rule too-risky)"),
    ],
)
def test_what_was_stopped_names_its_rule_and_says_why_in_plain_words(lines, agent, rule, words) -> None:
    first = next(v for v in of(lines, agent) if v["decision"] != "approve")
    assert first["rule"] == rule
    assert words in first["explanation"]


def test_it_ends_with_chains_and_checks_that_hold(lines) -> None:
    summary = lines[-1]
    assert summary["type"] == "summary"
    assert summary["ok"]
    assert {check["name"]: check["ok"] for check in summary["checks"]} == dict.fromkeys(
        ("coverage", "one_verdict", "enforced", "story"), True
    )
    assert {agent: [j["decision"] for j in chain] for agent, chain in summary["chains"].items()} == EXPECTED
    ran = sum(d == "approve" for chain in EXPECTED.values() for d in chain)
    intents = sum(map(len, EXPECTED.values()))
    assert f"{intents + ran} inputs" in summary["checks"][0]["text"]  # each that ran also reported its outcome


def test_the_cast_expects_what_these_tests_expect() -> None:
    assert {agent.name: [step.expect for step in agent.steps] for agent in CAST} == EXPECTED


def test_without_a_terminal_it_prints_plain_lines_that_say_what_the_product_does() -> None:
    done = demo("--fast")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    first = done.stdout.splitlines()[0]
    assert (
        first == "AI Harness judges every action an agent wants to take, before it runs, against what it already did."
    )
    for words in ("✗ deny    no-egress-after-pii", "⏸ hold    bulk-export", "Checked,", "harness demo --kafka"):
        assert words in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_at_once_without_a_traceback(number) -> None:
    running = subprocess.Popen(
        [*COMMAND, "--json"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline()  # the first verdict: agents are acting
    running.send_signal(number)
    _, errors = running.communicate(timeout=10)
    assert running.returncode == 130
    assert errors == ""


def test_options_of_the_real_mode_alone_are_a_mistake() -> None:
    done = demo("--keep")
    assert done.returncode == 2
    assert "→ `harness demo --kafka --keep`" in done.stderr


def test_no_broker_is_an_error_that_says_how_to_start_one() -> None:
    done = demo("--kafka", "--bootstrap", "127.0.0.1:9")
    assert done.returncode == 3
    assert "harness up" in done.stderr
    assert "Traceback" not in done.stderr


# --- the checks find what they are for ---

VERDICT = {"kind": "verdict", "agent_id": "a", "intent_id": "i"}


def test_coverage_finds_holes_repetitions_and_what_was_never_there() -> None:
    assert miscovered([{"covers": [0, 1]}, {"covers": [2, 2]}, {"kind": "claim"}], 3) == {}
    assert miscovered([{"covers": [0, 0]}, {"covers": [2, 2]}], 3) == {1: 0}
    assert miscovered([{"covers": [0, 1]}, {"covers": [1, 1]}], 2) == {1: 2}
    assert miscovered([{"covers": [0, 2]}], 2) == {2: 1}
    assert miscovered([{"covers": [0, -1]}], 0) == {}


def test_a_hold_is_not_terminal_and_a_second_terminal_verdict_is_found() -> None:
    hold, approve, deny = ({**VERDICT, "decision": d} for d in ("hold", "approve", "deny"))
    assert twice_settled([hold, approve]) == set()
    assert twice_settled([approve, deny]) == {("a", "i")}
    assert twice_settled([approve, {**approve, "agent_id": "b"}]) == set()


def test_an_intent_without_verdict_or_reject_is_found() -> None:
    reject = {"kind": "reject", "agent_id": "a", "id": "j"}
    assert unanswered([{**VERDICT, "decision": "deny"}, reject], [("a", "i"), ("a", "j"), ("b", "i")]) == {("b", "i")}


def test_an_empty_log_with_inputs_fails_every_check_but_none_by_accident() -> None:
    realm = ClientRealm("demo", "i1", 1, Topics("demo"))
    clock = ManualClock()
    broker = MemoryBroker({realm.topics.intents: 1, realm.topics.verdicts: 1}, clock.now_ms)
    audit = fold_again(realm, MemoryReader(broker), clock)
    ran = Judged("a", "i", "x.y", "x://y", "approve", "approve", "r", "b", "", 1.0, ran=True)
    found = checks(audit, {0: 1}, [ran, replace(ran, intent_id="j", decision="deny")], 2)
    assert [check.name for check in found if check.ok] == []
    assert "partition 0: offset → times {0: 0}" in found[0].text
    assert [check.ok for check in checks(Audit(realm), {0: 0}, [], 0)] == [True] * 4
