"""A guarded action waits for a person, who answers at a terminal: every end of it, on real servers."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from own_realm import OwnRealm, wait_until

from harness_stream.client.blocking import HarnessSync
from harness_stream.core.reasons import Deny
from harness_stream.errors import Denied
from harness_stream.local.process import free_port

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

RULES = """
rule_set: production
default: deny
selections:
  reads: event.action == "crm.read"
rules:
  - {id: allowed, effect: approve, when: intent.action in identity.actions}
  - id: export-after-read
    effect: hold
    when: intent.action == "crm.export"
    correlation: {type: temporal, rules: [reads], group-by: [agent_id], timespan: 1h}
    because: it has read customers
  - {id: hot, effect: deny, when: 'risk.present && risk.score > 0.8', because: the agent is hot}
"""
LANE = "acme"
AGENT = {"owner": "olga", "tenant": LANE, "actions": ["crm.read", "crm.export"], "workloads": ["w-1"]}
APPROVER = {"tenant": "people", "roles": ["approver"]}
TABLES = {
    "identity": [
        *(AGENT | {"agent_id": f"agent-{n}"} for n in range(8)),
        *(APPROVER | {"agent_id": name} for name in ("grace", "ada", "olga")),
        {"agent_id": "boss", "tenant": LANE, "roles": ["orchestrator"]},
    ],
    "infrastructure": [{"workload_id": "w-1"}],
    "classification": [{"subject": "resource:crm://*", "labels": ["pii"]}],
}


@pytest.fixture(scope="module")
def realm(real_stack, tmp_path_factory):
    """One worker for all; in the end every input is covered once, and every answer recomputes."""
    folder = tmp_path_factory.mktemp("holds")
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, folder, rules=RULES, tables=TABLES).prepare()
    with realm.worker():
        yield realm
    realm.check()
    assert "nothing wrong" in realm.harness("log", "verify", "--full")


@contextmanager
def waiting(realm, agent):
    """An agent that has read customers and wants to export: (what the call becomes, what has run)."""
    ran, settings = [], realm.settings
    where = {"realm": settings.realm, "bootstrap": settings.bootstrap, "prefix": settings.prefix, "dev": True}
    with (
        ThreadPoolExecutor(1) as pool,  # outside: closing the connection ends the wait of a test that failed
        HarnessSync.connect(agent=agent, lane=LANE, workload="w-1", **where) as harness,
    ):
        chain = harness.chain()
        chain.decide("crm.read", ["crm://orders/1"], deadline_ms=30_000)

        @chain.guard("crm.export", resources="crm://orders/{order}", wait_for_hold=True, deadline_ms=30_000)
        def export(order):
            ran.append(order)
            return order

        yield pool.submit(export, "7"), ran


def holds(realm, *words, exit_code=0):
    told = realm.harness("holds", *words, "--json", exit_code=exit_code)
    return json.loads(next(line for line in told.splitlines() if line.startswith("{")))


def open_hold(realm, agent):
    """The agent's hold, as a person finds it."""
    return wait_until(
        lambda: next(iter(holds(realm, "list", "--agent", agent)["holds"]), None), why=lambda: "it never asked"
    )


def answer(realm, decision, hold, by, exit_code=0):
    return holds(realm, decision, hold["place"], "--by", by, "--reason", "looked", "--yes", exit_code=exit_code)


def test_a_person_lists_shows_and_approves_and_then_the_action_runs(realm):
    with waiting(realm, "agent-0") as (call, ran):
        hold = open_hold(realm, "agent-0")
        assert (hold["action"], hold["resources"]) == ("crm.export", ["crm://orders/7"])
        text = realm.harness("holds", "show", hold["hold"][:12])
        assert "export-after-read: it has read customers" in text
        assert "approve agent-0: crm.read crm://orders/1" in text
        shown = wait_until(lambda: known(realm, hold), why=lambda: realm.harness("holds", "show", hold["place"]))
        assert list(shown["evidence"]) == shown["reasons"][0]["evidence"]
        assert shown["chain"]["labels"] == {"pii": shown["reasons"][0]["evidence"][0]}
        assert ran == []
        told = answer(realm, "approve", hold, "grace")
        assert told["became"] == "approved"
        assert call.result(30) == "7"
        assert ran == ["7"]
    assert holds(realm, "list", "--agent", "agent-0")["holds"] == []
    after = holds(realm, "show", hold["place"])
    assert (after["state"], after["answer"]["approval"]["by"]) == ("approved", "grace")


def known(realm, hold):
    """The hold, once Redis has come to it."""
    shown = holds(realm, "show", hold["place"])
    return shown if shown["chain"]["known"] else None


def test_a_no_is_told_to_who_waits_and_nothing_runs(realm):
    with waiting(realm, "agent-1") as (call, ran):
        hold = open_hold(realm, "agent-1")
        assert "hold_denied: grace" in realm.harness(
            *("holds", "deny", hold["place"], "--by", "grace", "--reason", "not this one", "--yes")
        )
        with pytest.raises(Denied) as denied:
            call.result(30)
        assert denied.value.reasons[0].code == Deny.HOLD_DENIED
        assert ran == []


def test_a_person_at_a_terminal_is_asked_back(realm):
    with waiting(realm, "agent-7") as (call, ran):
        hold = open_hold(realm, "agent-7")
        code, screen = typed(realm, hold, "n\n")
        assert (code, ran) == (1, [])
        assert "crm.export crm://orders/7" in screen
        assert "Approve it as grace?" in screen
        assert holds(realm, "show", hold["place"])["state"] == "open"
        code, screen = typed(realm, hold, "y\n")
        assert (code, call.result(30)) == (0, "7")
        assert "it runs if its process still waits" in screen


def typed(realm, hold, keys):
    """`holds approve` at a terminal where somebody types: (exit code, what the screen showed)."""
    words = ("holds", "approve", hold["place"], "--by", "grace", "--reason", "looked")
    person, terminal = os.openpty()
    process = subprocess.Popen(
        realm._command("harness_stream", words),
        env=realm.environment() | {"COLUMNS": "200"},
        cwd=realm.folder,
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    os.write(person, keys.encode())
    screen, _ = process.communicate(timeout=60)
    os.close(person)
    os.close(terminal)
    return process.returncode, screen


def test_what_changed_meanwhile_wins_over_the_approver(realm):
    with waiting(realm, "agent-2") as (call, ran):
        hold = open_hold(realm, "agent-2")
        row = {"subject": "agent:agent-2", "score": 0.9, "valid_until": realm.clock.now_ms() + 3_600_000}
        folder = realm.folder / "risk"
        folder.mkdir()
        (folder / "risk.yaml").write_text(json.dumps([row]))
        realm.harness("tables", "load", str(folder))
        told = answer(realm, "approve", hold, "grace", exit_code=5)
        assert (told["became"], told["reasons"][0]["rule"]) == ("denied", "hot")
        with pytest.raises(Denied, match="the agent is hot"):
            call.result(30)
        assert ran == []


def test_who_may_not_answer_changes_nothing(realm):
    with waiting(realm, "agent-3") as (call, ran):
        hold = open_hold(realm, "agent-3")
        for by in ("agent-3", "olga", "boss", "nobody"):
            refused = answer(realm, "approve", hold, by, exit_code=2)
            assert "who may: `ada`, `grace`" in refused["hint"]
        for by in ("olga", "boss"):  # by another program, which does not look first
            ack = realm.answer(realm.send(raw(realm, hold, by), LANE))
            assert (ack["status"], ack["reason"]) == ("refused", "not_approver")
        shown = holds(realm, "show", hold["place"])
        assert (shown["state"], [attempt["by"] for attempt in shown["attempts"]]) == ("open", ["olga", "boss"])
        assert not call.done()
        answer(realm, "approve", hold, "ada")
        assert call.result(30) == "7"
        assert ran == ["7"]


def raw(realm, hold, by):
    """An approval as any program may write it."""
    return {
        "v": 1,
        "type": "approval",
        "realm": realm.settings.realm,
        "by": by,
        "agent_id": hold["agent_id"],
        "approval_id": realm._ids.new(),
        "hold_digest": hold["hold"],
        "hold_offset": hold["offset"],
        "decision": "approve",
    }


def test_of_two_who_answer_at_once_the_first_wins(realm):
    with waiting(realm, "agent-4") as (call, ran):
        hold = open_hold(realm, "agent-4")
        both = [said(realm, "approve", hold, "ada"), said(realm, "deny", hold, "grace")]
        printed = [process.communicate(timeout=120)[0] for process in both]
        codes = [process.returncode for process in both]
        assert sorted(codes) == [0, 7], printed
        told = [json.loads(next(line for line in text.splitlines() if line.startswith("{"))) for text in printed]
        if codes[0] == 0:
            assert (call.result(30), ran) == ("7", ["7"])
        else:
            with pytest.raises(Denied):
                call.result(30)
            assert ran == []
    verdicts = [b for b in realm.effective(hold["partition"]) if b.get("intent_id") == hold["intent_id"]]
    asked, answered = verdicts
    assert (asked["decision"], answered["approval"]["by"]) == ("hold", told[codes.index(0)]["by"])


def said(realm, decision, hold, by):
    """The command, running; what it prints holds its errors too."""
    words = ("holds", decision, hold["place"], "--by", by, "--reason", "x", "--yes", "--json")
    command, env = realm._command("harness_stream", words), realm.environment()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, env=env, cwd=realm.folder, text=True, **pipes)


def test_what_nobody_answers_is_denied_and_cannot_be_approved_any_more(real_stack, tmp_path):
    realm = OwnRealm(real_stack.bootstrap, real_stack.redis_url, tmp_path, rules=RULES, tables=TABLES).prepare()
    with realm.running("tests.real.short_holds", "worker", "--metrics-port", "0", ready=r"(?m) ready$"):
        with waiting(realm, "agent-5") as (call, ran):
            hold = open_hold(realm, "agent-5")
            with pytest.raises(Denied) as denied:
                call.result(60)
            assert denied.value.reasons[0].code == Deny.HOLD_EXPIRED
        assert holds(realm, "list")["holds"] == []
        told = answer(realm, "approve", hold, "grace", exit_code=7)
        assert told["reason"] == "hold_expired"
        shown = realm.harness("holds", "show", hold["place"])
        assert "nobody answered in time" in shown
        assert "grace: approve; not taken" in shown
        assert ran == []


def test_what_is_missing_is_said_with_what_to_do(realm):
    away = os.environ | {"HARNESS_BOOTSTRAP": f"127.0.0.1:{free_port()}", "HARNESS_DEV": "1"}
    command = realm._command("harness_stream", ("holds", "list"))
    done = subprocess.run(command, env=away, cwd=realm.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "Kafka does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    told = realm.harness("holds", "list", "--prefix", "nowhere", exit_code=4)
    assert "harness topics apply" in told
    hold = ("holds", "show", "0/999999")
    assert "was asked in the last" in realm.harness(*hold, exit_code=1)


def test_without_redis_a_hold_is_shown_but_for_where_values_come_from(realm):
    with waiting(realm, "agent-6") as (call, ran):
        hold = open_hold(realm, "agent-6")
        nowhere = f"redis://127.0.0.1:{free_port()}/0"
        shown = holds(realm, "show", hold["place"], "--redis", nowhere)
        assert (shown["chain"]["known"], shown["state"]) == (False, "open")
        assert "Redis" in shown["chain"]["why"]
        answer(realm, "deny", hold, "grace")
        with pytest.raises(Denied):
            call.result(30)
        assert ran == []
