"""The example with real input: each tool call of a few tasks gets a verdict, and the log says what is printed."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from own_realm import OwnRealm

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "agentdojo"
TASKS = "user_task_0,user_task_13"
REPLAY_S_MAX = 180  # the benchmark package alone takes up to 20 s to load
ATTACKERS_ACCOUNT = b"US133000000121212121212"


PROVENANCE = EXAMPLE.parent / "rules" / "provenance.yaml"


@pytest.fixture
def realm(real_stack, tmp_path, request):
    rules = getattr(request, "param", EXAMPLE / "rules.yaml").read_text()
    return OwnRealm(real_stack.bootstrap, real_stack.redis_url, tmp_path, rules=rules, tables=EXAMPLE / "tables").prepare()


def replay(realm, *words):
    done = subprocess.run(
        [sys.executable, str(EXAMPLE / "run.py"), "--tasks", TASKS, *words],
        env=realm.environment(),
        capture_output=True,
        text=True,
        timeout=REPLAY_S_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_honest_work_and_attacks_are_judged_call_by_call_and_counted_as_the_log_has_them(realm):
    with realm.worker():
        printed = json.loads(replay(realm, "--attacks", "--json"))
    bodies = [body for partition in range(realm.settings.partitions) for body in realm.effective(partition)]
    verdicts = {body["intent_id"]: body for body in bodies if body["kind"] == "verdict"}
    reported = {
        b["id"] for b in bodies if b["kind"] == "ack" and b["event_type"] == "outcome" and b["status"] == "accepted"
    }
    calls = [(chain, call) for chain in printed["chains"] for call in chain["calls"]]

    assert {call["decision"] for _, call in calls} == {"approve", "hold", "deny"}
    assert len(verdicts) == len(calls)
    for chain, call in calls:
        verdict = verdicts[call["intent_id"]]
        assert (verdict["decision"], verdict["event"]["chain_id"], verdict["event"]["action"]) == (
            call["decision"],
            chain["chain_id"],
            call["action"],
        )
        assert set(call["because"]) == {reason.get("rule", reason["code"]) for reason in verdict["reasons"]}
    assert all((call["outcome"] in {"done", "failed"}) == (call["decision"] == "approve") for _, call in calls)
    assert len(reported) == sum(call["decision"] == "approve" for _, call in calls)

    for summary in printed["summary"]:
        agents = {f"{summary['suite']}-agent", f"{summary['suite']}-attacked"}
        logged = Counter(body["decision"] for body in verdicts.values() if body["agent_id"] in agents)
        assert +Counter(summary["calls"]) == logged
        assert summary["honest"]["tasks"] == 2
        attacks = summary["attacks"]
        assert attacks["stopped"] + attacks["partly"] + attacks["through"] == attacks["attacks"] > 0
    assert not any(ATTACKERS_ACCOUNT in json.dumps(body).encode() for body in bodies)
    realm.check()


def test_an_honest_task_is_printed_with_each_call_and_its_verdict(realm):
    with realm.worker():
        printed = replay(realm, "--suite", "banking")
    assert "banking/user_task_0: approve read_file · hold send_money (new-payee)" in printed
    assert "honest tasks: 2; every call approved 0, some held 2, some denied 0" in printed


@pytest.mark.parametrize("realm", [PROVENANCE], indirect=True, ids=["provenance.yaml"])
def test_the_rules_on_provenance_know_the_users_values_from_an_attackers(realm):
    with realm.worker():
        printed = json.loads(replay(realm, "--attacks", "--json", "--suite", "workspace"))
    chains = {(chain["task_id"], chain["attack_id"]): chain["calls"] for chain in printed["chains"]}
    honest = chains["user_task_13", None]
    assert [(call["tool"], call["decision"]) for call in honest][-1] == ("send_email", "approve")
    mails = [c for calls in chains.values() for c in calls if c["injected"] and c["tool"] == "send_email"]
    assert mails
    assert all("r3-destination-unknown" in call["because"] for call in mails)
