"""`intents send`, `verdicts tail` and `chain show` as a person runs them, beside a worker process on a real stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from raw_kafka import append_raw

from tests.rule_texts import TWO_DAYS

pytestmark = pytest.mark.real

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = [sys.executable, "-c", "from harness_stream.cli.main import main; main()"]
# A worker owns its partitions about 3 s after its start; a busy machine takes longer.
READY_S = 60


class People:
    """Somebody at a terminal of a realm of its own."""

    def __init__(self, stack, folder: Path) -> None:
        name = f"t{uuid.uuid4().hex[:8]}"
        self.folder = folder
        self.env = os.environ | {
            "HARNESS_BOOTSTRAP": stack.bootstrap,
            "HARNESS_REDIS_URL": stack.redis_url,
            "HARNESS_PREFIX": name,
            "HARNESS_REALM": name,
            "HARNESS_GROUP": name,
            "HARNESS_PARTITIONS": "2",
            "HARNESS_DEV": "1",
        }

    def run(self, *words: object, exit_code: int = 0, **env: str) -> str:
        """Standard output, and after it standard error."""
        done = self.ended(*words, **env)
        assert done.returncode == exit_code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ended(self, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
        """A command that has ended, however it did."""
        done = subprocess.run(
            [*COMMAND, *map(str, words)],
            cwd=self.folder,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    def start(self, *words: str, stdout: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*COMMAND, *words], cwd=self.folder, env=self.env, stdout=stdout, stderr=subprocess.PIPE, text=True
        )

    def send(self, *words: str, exit_code: int = 0) -> dict[str, object]:
        return json.loads(self.run("intents", "send", "--json", *words, exit_code=exit_code))

    def tail(self, *words: str) -> list[dict[str, object]]:
        told = self.run("verdicts", "tail", "--no-follow", "--from-beginning", "--json", *words)
        return [json.loads(line) for line in told.splitlines()]


@pytest.fixture(scope="module")
def prepared(real_stack, tmp_path_factory) -> People:
    people = People(real_stack, tmp_path_factory.mktemp("people"))
    people.run("topics", "apply", "--dev")
    people.run("tables", "load", EXAMPLES / "tables")
    return people


@pytest.fixture(scope="module")
def people(prepared):
    """With rules in force and a worker that is ready."""
    silent = prepared.run("chain", "show", "support-1")
    assert "nothing was decided in this partition yet\nit has done nothing yet" in silent
    told = json.loads(prepared.run("intents", "send", *SUPPORT_READS, "--deadline-ms", "500", "--json", exit_code=3))
    assert told["decision"] == "none"
    assert told["reasons"][0]["code"] == "no_worker"
    assert "no rule set was ever pushed" in told["message"]
    assert "harness rules push" in told["hint"]
    prepared.run("rules", "push", EXAMPLES / "rules" / "production.yaml")
    worker = prepared.start("worker", "--metrics-port", "0")
    try:
        end = time.monotonic() + READY_S
        while not (worker.stderr.readline()).rstrip().endswith(" ready"):
            assert worker.poll() is None
            assert time.monotonic() < end
        yield prepared
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=30)
    assert worker.returncode == 0


SUPPORT_READS = ("--agent", "support-1", "--action", "crm.read", "--resource", "crm://customers/42")
SUPPORT_MAILS = ("--agent", "support-1", "--action", "email.send", "--resource", "email://customer.example/anna")


def test_each_decision_has_its_exit_code_reasons_and_place_in_the_log(people):
    read = people.send(*SUPPORT_READS, "--measure", "rows=3", "--report", "done")
    assert (read["decision"], read["reported"]) == ("approve", "done")
    assert read["reasons"][0]["rule"] == "allowed-actions"

    mailed = people.send(*SUPPORT_MAILS, exit_code=5)
    assert mailed["reasons"][0]["rule"] == "no-egress-after-pii"
    assert mailed["reasons"][0]["evidence"] == [read["intent_id"]]

    unknown = people.send("--agent", "nobody-1", "--action", "crm.read", exit_code=5)
    assert unknown["reasons"][0]["code"] == "unknown_agent"

    for _ in range(3):
        people.send("--agent", "exporter-1", "--action", "crm.export")
    held = people.send("--agent", "exporter-1", "--action", "crm.export", exit_code=6)
    assert held["reasons"][0]["rule"] == "bulk-export"

    support = [entry["body"] for entry in people.tail("--agent", "support-1")]
    late, *counted = [body for body in support if body["kind"] in {"verdict", "ack"}]
    assert late["reasons"][0]["code"] == "late"
    assert [(b["kind"], b.get("decision", b.get("status"))) for b in counted] == [
        ("verdict", "approve"),
        ("ack", "accepted"),
        ("verdict", "deny"),
    ]
    everything = people.tail()
    assert all(entry["effective"] for entry in everything)
    assert [e["body"]["decision"] for e in everything if e["body"].get("agent_id") == "exporter-1"][-1] == "hold"
    place = next(e for e in everything if e["body"].get("intent_id") == held["intent_id"])
    assert (place["offset"], place["body"]["decision"]) == (held["verdict_offset"], "hold")

    shown = json.loads(people.run("chain", "show", "support-1", "--json"))
    assert (shown["seen"], shown["behind"], shown["lane"]) == (True, 0, "acme")
    chain = shown["chains"]["agent:support-1"]
    assert (chain["events"], chain["labels"]) == (2, ["pii"])
    assert [(e["action"], e["decision"]) for e in chain["newest"]] == [("crm.read", "approve"), ("email.send", "deny")]
    assert chain["newest"][0]["outcome"] == "done"
    exported = json.loads(people.run("chain", "show", "exporter-1", "--json"))
    counted = next(w for w in exported["windows"] if w["rules"] == ["bulk-export"])
    assert (counted["least"], counted["most"], counted["group"]) == (4, 4, {"agent_id": "exporter-1"})

    text = people.run("chain", "show", "support-1")
    assert "which is the log's end" in text
    assert "labels: pii" in text
    assert "crm://customers/42  → done" in text


def test_answers_for_people_say_why_and_what_to_do(people):
    told = people.run("intents", "send", "--agent", "globex-retired-1", "--action", "crm.read", exit_code=5)
    assert told.split()[:2] == ["deny", "crm.read"]
    assert "agent_status: suspended" in told
    assert "→ the agent is suspended or killed in the identity table" in told

    assert "it has done nothing yet" in people.run("chain", "show", "analyst-1")
    assert "there is no agent `nobody-2`" in people.run("chain", "show", "nobody-2", exit_code=1)
    assert "there is no partition 9" in people.run("verdicts", "tail", "--partition", "9", exit_code=2)
    silent = people.ended("verdicts", "tail", "--no-follow", "--agent", "nobody-2")
    assert (silent.returncode, silent.stdout) == (0, "")
    assert "nothing to show since the newest checkpoints; `--from-beginning`" in silent.stderr
    send = ("intents", "send", "--agent", "support-1", "--action")
    assert "is not NAME=NUMBER" in people.run(*send, "crm.read", "--measure", "rows", exit_code=2)
    assert "`finished` is no outcome" in people.run(*send, "crm.read", "--report", "finished", exit_code=2)
    assert "nothing was published" in people.run(*send, "nodots", exit_code=2)


def test_who_follows_sees_a_verdict_when_it_is_given_and_ctrl_c_ends_it(people):
    words = ("verdicts", "tail", "--from-beginning", "--agent", "analyst-1", "--json")
    tail = people.start(*words, stdout=subprocess.PIPE)
    try:
        told = people.send("--agent", "analyst-1", "--action", "reports.read", "--resource", "reports://q3")
        entry = json.loads(tail.stdout.readline())
        assert entry["body"]["intent_id"] == told["intent_id"]
        assert entry["latency_ms"] >= 0
    finally:
        tail.send_signal(signal.SIGINT)
        _, errors = tail.communicate(timeout=30)
    assert tail.returncode == 130
    assert errors == ""


def test_a_record_that_lost_is_shown_only_when_asked_for_and_marked(people, real_stack):
    topic = people.env["HARNESS_PREFIX"] + ".verdicts"
    forged = {"kind": "verdict", "decision": "approve", "agent_id": "support-1", "epoch": 1, "writer": "0" * 32}
    append_raw(real_stack.bootstrap, topic, 0, json.dumps(forged).encode(), [(b"hs-alg", b"none")])
    assert not [e for e in people.tail() if e["body"].get("writer") == "0" * 32]
    found = [e for e in people.tail("--void") if e["body"].get("writer") == "0" * 32]
    assert [e["effective"] for e in found] == [False]
    assert "void" in people.run("verdicts", "tail", "--no-follow", "--from-beginning", "--void")


def test_without_a_broker_or_redis_each_says_so(people):
    nobody = {"HARNESS_BOOTSTRAP": "127.0.0.1:9"}
    for words in (
        ("verdicts", "tail", "--no-follow"),
        ("chain", "show", "support-1"),
        ("intents", "send", *SUPPORT_READS, "--lane", "acme", "--workload", "wl-support"),
    ):
        assert "127.0.0.1:9" in people.run(*words, exit_code=3, **nobody)
    told = people.run("chain", "show", "support-1", exit_code=3, HARNESS_REDIS_URL="redis://127.0.0.1:9/0")
    assert "Redis does not answer" in told
    assert "nothing is lost, `harness verdicts tail --from-beginning --no-follow --agent support-1`" in told
    assert "there is no agent `nobody-2`" in people.run(
        "chain", "show", "nobody-2", exit_code=1, HARNESS_REDIS_URL="redis://127.0.0.1:9/0"
    )


def test_an_empty_redis_beside_a_log_that_is_not_is_no_agent_that_did_nothing(people):
    empty = people.env["HARNESS_REDIS_URL"].removesuffix("/0") + "/9"
    told = people.run("chain", "show", "support-1", exit_code=3, HARNESS_REDIS_URL=empty)
    assert "Redis holds nothing of partition" in told
    assert "what `support-1` did is not known here" in told
    assert "does one run? `harness worker`; nothing is lost" in told
    assert "done nothing" not in told


def test_a_set_that_workers_cannot_load_fails_wherever_one_looks_until_another_is_pushed(people):
    file = people.folder / "long.yaml"
    file.write_text(TWO_DAYS, "utf-8")
    longer = {"HARNESS_MAX_TIMESPAN_MS": str(2 * 86_400_000)}
    people.run("rules", "push", file, **longer)
    report = status_with(people, lambda report: len(report["next"]) == 2, exit_code=1)
    assert not report["ok"]
    assert report["hint"]
    cause = "`rules.two-days.correlation.timespan`: the longest window is 86,400 s"
    assert all(cause in told["detail"] for told in report["next"].values())

    again = json.loads(people.run("rules", "push", file, "--json", exit_code=2, **longer))
    assert (again["ok"], again["changed"], set(again["unusable"])) == (False, False, {"0", "1"})
    told = people.run("rules", "push", file, exit_code=2, **longer)
    assert "is already at this digest" in told
    assert cause in told

    people.run("rules", "push", EXAMPLES / "rules" / "production.yaml")
    assert status_with(people, lambda report: not report["next"])["ok"]


def status_with(people, wanted, exit_code=0):
    """The first report that is as wanted, which ends with the exit code."""
    end = time.monotonic() + READY_S
    while True:
        done = people.ended("rules", "status", "--json")
        report = json.loads(done.stdout)
        if wanted(report):
            assert done.returncode == exit_code
            return report
        assert time.monotonic() < end, report
