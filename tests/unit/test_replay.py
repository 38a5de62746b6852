"""`harness replay`: a file is decided as by a worker; what cannot be judged is named, what only names is filled in."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import factories as make
import orjson
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from worked import Worked

from harness_stream.cli.main import app
from harness_stream.cli.replay import replay
from harness_stream.cli.replay_file import numbered
from harness_stream.core import limits
from harness_stream.core.fold import Place
from harness_stream.core.model import TABLES
from harness_stream.core.rules.compile import load
from harness_stream.core.rules.windows import Windows
from harness_stream.errors import CallerError
from harness_stream.runtime import replay as engine_of
from harness_stream.runtime.replay import Replay
from harness_stream.runtime.replay_lines import LINE_BYTES_MAX, time_of, uuid7
from harness_stream.wire.decisions import read_body
from tests.simulation.world import RULES

EXAMPLES = Path(__file__).parents[2] / "examples"
SAMPLE = EXAMPLES / "replay" / "support.jsonl"
NINE = "2026-11-02T09:00:00Z"

LOOP = """
rule_set: test
default: deny
selections: {anything: "true"}
rules:
  - {id: everything, effect: approve, when: "true"}
  - id: third
    effect: hold
    when: anything
    correlation: {type: event_count, rules: [anything], group-by: [agent_id], timespan: 60s, condition: {gt: 2}}
"""


def rows(*identities: dict[str, Any]) -> list[tuple[str, Any]]:
    given_rows = [("identity", row) for row in identities or make.people()]
    given_rows.append(("infrastructure", {"workload_id": "w-1", "environment": "prod", "attested": True}))
    return [(table, TABLES[table].model_validate_json(json.dumps(row))) for table, row in given_rows]


def engine(rules: str = make.APPROVE_ALL, *identities: dict[str, Any]) -> Replay:
    return Replay(Windows(load(rules)), rows(*identities))


def event(kind: str, **fields: Any) -> bytes:
    return json.dumps({"type": kind, "at": NINE, "agent_id": "agent-1"} | fields).encode()


def line(**fields: Any) -> bytes:
    return event("intent", **{"action": "crm.read"} | fields)


def taken(replayed: Replay, *lines: bytes) -> list[dict[str, Any] | None]:
    return [replayed.take(number, raw) for number, raw in enumerate(lines, 1)]


def run(*arguments: object, stdin: bytes | None = None):
    app = typer.Typer()
    app.command()(replay)
    fixed = ["--rules", EXAMPLES / "rules" / "production.yaml", "--tables", EXAMPLES / "tables"]
    return CliRunner().invoke(app, [str(argument) for argument in (*fixed, *arguments)], input=stdin)


# --- The sample, as the README shows it ---


def test_the_sample_file_is_decided_line_by_line():
    result = run("--input", SAMPLE)
    assert result.exit_code == 0, result.output
    told = [
        (b["line"], b["decision"], *(r.get("rule", r["code"]) for r in b["reasons"]))
        for b in map(json.loads, result.stdout.splitlines())
        if b["kind"] == "verdict"
    ]
    assert told == [
        (1, "approve", "allowed-actions"),
        (2, "approve", "allowed-actions"),
        (4, "approve", "allowed-actions"),
        (5, "deny", "no-egress-after-pii"),
        (6, "approve", "allowed-actions"),
        (7, "deny", "default"),
        (8, "deny", "unknown_agent"),
        (9, "deny", "agent_status"),
        (10, "approve", "allowed-actions"),
        (11, "approve", "allowed-actions"),
        (12, "approve", "allowed-actions"),
        (13, "hold", "bulk-export"),
        (14, "approve", "allowed-actions"),
        (16, "deny", "too-risky"),
    ]


def test_the_denial_names_the_event_that_made_it_fire():
    bodies = {b["line"]: b for b in map(json.loads, run("--input", SAMPLE).stdout.splitlines())}
    assert bodies[5]["reasons"][0]["evidence"] == [bodies[4]["intent_id"]]


def test_the_summary_counts_by_decision_and_rule():
    told = json.loads(run("--input", SAMPLE, "--summary", "--json").stdout)
    assert told["lines"] == 16
    assert told["bad_lines"] == 0
    assert told["kinds"] == {"verdict": 14, "ack": 1}
    assert told["decisions"]["approve"] == {"count": 8, "by": {"allowed-actions": 8}}
    assert told["decisions"]["hold"] == {"count": 1, "by": {"bulk-export": 1}}
    assert set(told["decisions"]["deny"]["by"]) == {
        "no-egress-after-pii",
        "default",
        "unknown_agent",
        "agent_status",
        "too-risky",
    }


def test_the_summary_for_people_says_the_same():
    lines = run("--input", SAMPLE, "--summary").stdout.splitlines()
    assert lines[0].split() == ["approve", "8"]
    assert ["1", "no-egress-after-pii"] in [text.split() for text in lines]
    assert lines[-1] == "16 lines"


SUMS = """
rule_set: test
default: deny
selections: {anything: "true"}
rules:
  - {id: everything, effect: approve, when: "true"}
  - id: rows
    effect: hold
    when: anything
    correlation: {type: value_sum, rules: [anything], timespan: 60s, condition: {gt: 5, field: measures.rows}}
"""


def test_the_summary_names_rules_that_fired_only_because_a_window_is_not_known(tmp_path):
    (tmp_path / "sums.yaml").write_text(SUMS, "utf-8")
    wanted = {"agent_id": "support-1", "workload_id": "wl-support", "resources": ["crm://orders/1"]}
    events = b"\n".join((line(**wanted, measures={"rows": 1}), line(**wanted)))
    options = ("--rules", tmp_path / "sums.yaml", "--input", "-", "--summary")
    assert json.loads(run(*options, "--json", stdin=events).stdout)["unknown"] == {"rows": 1}
    told = [text.split() for text in run(*options, stdin=events).stdout.splitlines()]
    assert ["unknown", "1", "rows"] in told


def test_a_parameter_changes_what_would_have_been_decided():
    bodies = map(json.loads, run("--input", SAMPLE, "--set", "exports_a_day=1").stdout.splitlines())
    assert next(b["line"] for b in bodies if b.get("decision") == "hold") == 11


def test_the_same_file_gives_the_same_bytes():
    assert run("--input", SAMPLE).stdout == run("--input", "-", stdin=SAMPLE.read_bytes()).stdout


# --- The command ---


def test_a_bad_line_is_named_skipped_and_ends_in_exit_code_1():
    good = line(agent_id="support-1", resources=["crm://orders/1"])
    result = run("--input", "-", stdin=b"\n" + good + b"\nnot json\n" + good)
    assert result.exit_code == 1
    told = [json.loads(text) for text in result.stdout.splitlines()]
    assert [(b["line"], b["kind"]) for b in told] == [(2, "verdict"), (3, "skip"), (4, "verdict")]
    assert told[1]["reason"] == "garbage"
    assert told[1]["offsets"][0]["reason"] == "not_json"
    assert "-:3: not_json" in result.stderr
    assert "1 of 3 lines could not be judged" in result.stderr


def test_mistakes_in_the_tables_stop_it_before_anything_is_decided(tmp_path):
    (tmp_path / "identity.yaml").write_text("- {agent_id: a, tenent: acme}\n", "utf-8")
    result = run("--tables", tmp_path, "--input", SAMPLE)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "identity.yaml:1" in result.stderr


def test_mistakes_in_the_rules_stop_it_before_anything_is_decided(tmp_path):
    (tmp_path / "r.yaml").write_text("rule_set: x\ndefault: deny\nrules: []\nrulez: 1\n", "utf-8")
    result = run("--rules", tmp_path / "r.yaml", "--input", SAMPLE)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_an_input_file_that_is_not_there_is_the_callers_mistake(tmp_path):
    assert "nothing.jsonl" in str(run("--input", tmp_path / "nothing.jsonl").exception)


def test_lines_are_read_in_bounded_memory():
    source = io.BytesIO(b"\xef\xbb\xbf1\r\n\n  \n" + b"x" * (3 * LINE_BYTES_MAX) + b"\nlast")
    read = list(numbered(source))
    assert [(number, raw[:4]) for number, raw, _ in read] == [(1, b"1"), (4, b"xxxx"), (5, b"last")]
    assert [end for _, _, end in read] == [6, 11 + 3 * LINE_BYTES_MAX, 15 + 3 * LINE_BYTES_MAX]
    assert len(read[1][1]) <= LINE_BYTES_MAX + 2
    assert engine().take(*read[1][:2])["offsets"][0]["reason"] == "too_large"


# --- What is filled in ---


def test_what_only_names_itself_may_be_left_out():
    (body,) = taken(engine(), line())
    assert body["kind"] == "verdict"
    assert body["decision"] == "approve"
    assert body["agent_id"] == "agent-1"
    assert body["intent_id"] == uuid7(time_of(NINE), 1)
    assert body["event"]["by"] == "agent-1"
    assert body["event"]["environment"] == "prod"
    assert body["inputs"]["decided_at"] == body["t"] == 1_793_610_000_000


def test_what_is_given_is_kept():
    own = make.uuid7(n=7)
    bodies = taken(engine(), line(intent_id=own), line(intent_id=own), line(intent_id=own, action="crm.write"))
    assert [b["kind"] for b in bodies] == ["verdict", "reject", "reject"]
    assert [b.get("reason") for b in bodies] == [None, "duplicate", "id_reused"]
    assert bodies[0]["intent_id"] == own


def test_neither_age_deadline_nor_revision_is_checked():
    (body,) = taken(engine(), line(intent_id=make.uuid7(1), deadline_ms=1, min_revision={"risk": 10**9}))
    assert body["decision"] == "approve"


def test_an_outcome_and_an_approval_mean_the_agents_newest_intent():
    bodies = taken(
        engine(LOOP),
        line(),
        event("outcome", status="done"),
        line(),
        line(),
        event("approval", by="approver", decision="approve"),
    )
    assert [(b["kind"], b.get("decision", b.get("status"))) for b in bodies] == [
        ("verdict", "approve"),
        ("ack", "accepted"),
        ("verdict", "approve"),
        ("verdict", "hold"),
        ("verdict", "approve"),
    ]
    assert bodies[1]["change"]["intent_id"] == bodies[0]["intent_id"]
    assert bodies[4]["intent_id"] == bodies[3]["intent_id"]


def test_an_older_intent_is_meant_by_its_id():
    first = make.uuid7(n=1)
    outcome = event("outcome", status="failed", intent_id=first)
    bodies = taken(engine(), line(intent_id=first), line(), outcome)
    assert bodies[2]["change"]["intent_id"] == first


@pytest.mark.parametrize("intent_id", ["agent-1", 7, "01976f1c-5e3a-4c41-9d2b-3f8a6b1c0d2e", "\u0660" * 36])
def test_an_outcome_of_an_id_that_is_none_is_a_bad_line_like_any_other(intent_id):
    [body] = taken(engine(), event("outcome", status="done", intent_id=intent_id))
    assert (body["kind"], body["offsets"][0]["reason"]) == ("skip", "schema")


def test_an_outcome_of_nothing_is_a_bypass():
    assert [b["reason"] for b in taken(engine(), event("outcome", status="done"))] == ["bypass"]


def test_an_approval_needs_somebody_who_gives_it():
    (body,) = taken(engine(), event("approval", decision="approve"))
    assert body["offsets"][0]["detail"] == "by: Field required"


def test_a_mandate_opens_a_chain():
    bodies = taken(
        engine(),
        event("mandate", chain_id="case", by="orchestrator", expires_at=time_of(NINE) + 1_000),
        line(chain_id="case"),
        line(chain_id="case", at="2026-11-02T09:00:01.001Z"),
    )
    assert [b.get("status", b.get("decision")) for b in bodies] == ["accepted", "approve", "deny"]


# --- Time ---


@pytest.mark.parametrize(
    ("at", "ms"),
    [
        (NINE, 1_793_610_000_000),
        ("2026-11-02T09:00:00.0019Z", 1_793_610_000_001),
        ("2026-11-02 09:00:00+00:00", 1_793_610_000_000),
        ("2026-11-02t09:00:00z", 1_793_610_000_000),
        (1_793_610_000_000, 1_793_610_000_000),
        (0, 0),
    ],
)
def test_a_time_is_rfc_3339_in_utc_or_epoch_ms(at, ms):
    assert time_of(at) == ms


@pytest.mark.parametrize(
    "at",
    [None, "", "2026-11-02", "2026-11-02T09:00:00", "2026-11-02T09:00:00+01:00", "2026-13-02T09:00:00Z", "2026-W45-1",
     "1969-12-31T23:59:59Z", "now", -1, 1.5, True, 2**48, [NINE]],
)  # fmt: skip
def test_any_other_time_is_a_bad_line(at):
    (body,) = taken(engine(), line(at=at))
    assert body["offsets"][0]["reason"] == "schema"
    assert body["offsets"][0]["detail"].startswith("at: ")


def test_chain_time_never_steps_back():
    bodies = taken(engine(), line(at=2_000_000), line(at=1_000_000), line(at=3_000_000))
    assert [b["t"] for b in bodies] == [2_000_000, 2_000_000, 3_000_000]
    assert [b["inputs"]["decided_at"] for b in bodies] == [2_000_000, 1_000_000, 3_000_000]


# --- Tables ---


def test_a_table_line_changes_a_row_and_gives_no_body():
    suspended = make.identity_row(status="suspended")
    replayed = engine()
    bodies = taken(
        replayed,
        line(),
        json.dumps({"type": "table", "table": "identity", "row": suspended}).encode(),
        line(),
        json.dumps({"type": "table", "table": "identity", "key": "agent-1", "row": None, "at": NINE}).encode(),
        line(workload_id="w-1"),
    )
    assert [b and b["decision"] for b in bodies] == ["approve", None, "deny", None, "deny"]
    assert [bodies[n]["reasons"][0]["code"] for n in (2, 4)] == ["agent_status", "unknown_agent"]
    assert bodies[4]["covers"] == [3, 4]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"table": "risks", "row": None, "key": "agent:a"},
        {"table": "risk"},
        {"table": "risk", "row": None},
        {"table": "risk", "row": {"subject": "agent:a"}},
        {"table": "risk", "row": {"subject": "agent:a", "score": 2, "valid_until": 1}},
        {"table": "risk", "key": "agent:b", "row": {"subject": "agent:a", "score": 1, "valid_until": 1}},
        {"table": "risk", "key": "agent:b", "row": None, "rwo": 1},
        {"table": "risk", "key": "agent:b", "row": None, "at": "soon"},
        {"table": "identity", "row": {"agent_id": "agent-1", "lane": "another"}},
    ],
)
def test_a_bad_table_line_is_skipped_and_changes_nothing(change):
    replayed = engine()
    bodies = taken(replayed, json.dumps({"type": "table"} | change).encode(), line())
    assert [b["kind"] for b in bodies] == ["skip", "verdict"]
    assert bodies[1]["inputs"]["tables"]["risk"][0] == -1
    assert bodies[1]["decision"] == "approve"


# --- Garbage ---


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not_json"),
        (b"[]", "not_json"),
        (b"\xff", "not_json"),
        (b'{"type": "intent", "type": "intent"}', "duplicate_key"),
        (b'{"a": {"b": 1, "b": 1}}', "duplicate_key"),
        (b'{"type": "switch"}', "type_unknown"),
        (b'{"type": ["intent"]}', "type_unknown"),
        (b"{}", "type_unknown"),
        (line(action="nothing"), "schema"),
        (line(agent_id=7), "schema"),
        (line(unknown=1), "schema"),
        (line(realm="elsewhere"), "realm"),
        (line(purpose="\ud800"), "surrogate"),
        (line(measures={"rows": float("nan")}), "number"),
        (line(measures={"rows": 2**70}), "number"),
        (line(purpose="x" * LINE_BYTES_MAX), "too_large"),
        (line(measures=json.loads("[" * 9 + "]" * 9)), "depth"),
        (b"[" * 60_000, "depth"),
    ],
)
def test_what_no_worker_would_judge_is_skipped_with_the_same_reason(raw, reason):
    (body,) = taken(engine(), raw)
    assert (body["kind"], body["reason"], body["count"]) == ("skip", "garbage", 1)
    assert body["offsets"] == [{"offset": 0, "reason": reason, "detail": body["offsets"][0]["detail"]}]
    assert len(body["offsets"][0]["detail"] or "") <= limits.GARBAGE_DETAIL_CHARS_MAX


# --- The laws ---


def test_every_body_is_effective_by_the_fold():
    replayed = engine(LOOP)
    place = Place(replayed._world.header, -1, "")
    for number in range(1, 40):
        body = replayed.take(number, line(at=number * 500) if number % 5 else b"no")
        value = {name: content for name, content in body.items() if name != "line"}
        place = place.after(number, *read_body(orjson.dumps(value)))
        assert place is not None
    assert place.header.next_input == 39


def test_forgetting_what_may_be_forgotten_changes_no_decision(monkeypatch):
    lines = [line(at=number * (1, 700, 90)[number % 3], resources=[f"crm://{number % 5}"]) for number in range(1, 300)]
    plain = taken(engine(LOOP), *lines)
    monkeypatch.setattr(engine_of, "FORGET_CHANGES", 7)
    assert taken(engine(LOOP), *lines) == plain


def test_ids_nobody_may_use_again_leave_memory(monkeypatch):
    monkeypatch.setattr(engine_of, "FORGET_CHANGES", 50)
    replayed = engine()
    for number in range(1, 1_001):
        replayed.take(number, line(at=number * 10_000))
    kept = [key for key in replayed._world._intake.state.confirmed("a:agent-1") if key[0] == "id"]
    assert len(kept) < 100


def essence(body: dict[str, Any]) -> str:
    """What was decided and why, without what links the record into its log."""
    link = {"line", "incarnation", "epoch", "writer", "prev", "covers", "inputs", "rules", "intent_digest", "digest"}
    bare = {name: value for name, value in body.items() if name not in link}
    if bare["kind"] == "skip":
        bare["offsets"] = [offset["reason"] for offset in bare["offsets"]]
        del bare["t"]
    return json.dumps(bare, sort_keys=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from((0, 1, 300, 1_999, 2_000, 5_001)), min_size=10, max_size=40))
def test_a_file_is_decided_as_a_worker_decided_the_same_inputs(seed: int, gaps_ms: list[int]):
    worked, choice = Worked(seed), random.Random(seed)
    for gap_ms in gaps_ms:
        worked.world.clock.advance(gap_ms)
        worked.settle()
        worked.act(choice)
    replayed = Replay(Windows(load(RULES)), worked.rows(), "sim")
    told = [essence(body) for body in taken(replayed, *worked.lines()) if body is not None]
    assert sorted(told) == sorted(essence(body) for body, _ in worked.bodies() if body["kind"] != "switch")


@pytest.mark.parametrize(
    ("option", "text"), [("--since", "soon"), ("--history", "-5m"), ("--from", "0/x"), ("--to", "yesterday")]
)
def test_a_part_that_is_none_is_said_before_a_log_is_asked(option, text):
    rules = str(EXAMPLES / "rules" / "production.yaml")
    result = CliRunner().invoke(app, ["replay", "--rules", rules, "--from-log", option, text])
    assert isinstance(result.exception, CallerError)
    assert f"{option} {text}" in result.exception.message
