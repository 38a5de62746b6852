"""Whoever reads the decision log finds each intent that a run of denials denies, as if it had a verdict of its own."""

from __future__ import annotations

import json

import factories as make
import pytest

from harness_stream.adapters.memory.clock import ManualClock
from harness_stream.adapters.memory.log import MemoryBroker, MemoryReader
from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedVerifier
from harness_stream.cli.agents_seen import Watch
from harness_stream.cli.decision_log import DecisionLog
from harness_stream.cli.holds_read import Book, take
from harness_stream.cli.log_export import lines
from harness_stream.cli.log_inputs import Inputs
from harness_stream.cli.verdicts import Tailing, as_json, as_line, wanted
from harness_stream.client.head import Head
from harness_stream.client.wiring import ClientRealm
from harness_stream.core.coverage import miscovered, unanswered
from harness_stream.core.fold import Place
from harness_stream.demo.audit import Audit
from harness_stream.errors import ProtocolError
from harness_stream.runtime.batch import Batch, Handling, Taken
from harness_stream.runtime.replay_feed import DecidedLog, Feed, Stretch, ranges_of
from harness_stream.runtime.replay_log import Answered, Known, LogReplay
from harness_stream.wire.codec import decode_input, encode
from harness_stream.wire.decisions import answers_of_any, encode_body, read_body
from harness_stream.wire.topics import Topics
from topologies.risk.score import FLOOR, Decay, PartitionRisk

TOPICS, VERIFIER = Topics("t"), UnsignedVerifier()
LATE_MS = 6_000  # the usual deadline is over
RUN = ("agent-1", "agent-2", "agent-1", "agent-1")
FIRST, ALONE = 100, 200
DENIED = range(1, 1 + len(RUN))
"""Input offsets of the run."""


class Logs:
    """Both logs of a partition: one intent is approved, a run of them is late, one is sent again, and one is late alone."""

    def __init__(self):
        self.clock = ManualClock(make.NOW)
        self.broker = MemoryBroker({TOPICS.intents: 1, TOPICS.verdicts: 1, TOPICS.heads: 1}, self.clock.now_ms)
        self.tables = make.tables(make.identity_row("agent-1"), make.identity_row("agent-2"))
        self.windows, self.place = make.windows(), Place.genesis("inc", 0)
        self.intake = make.intake(tables=self.tables, rules=(self.windows.digest, 1))
        self.write(encode_body(make.claim()))
        switch = make.linked({"kind": "switch", "rules": self.intake.rules_named}, self.place.header)
        self.write(encode_body(switch | {"covers": [0, -1]}))
        self.ask(FIRST)
        self.decide()
        for number, agent in enumerate(RUN):
            self.ask(number, agent)
        self.ask(0)
        self.clock.advance(LATE_MS)
        self.decide()
        self.ask(ALONE)
        self.clock.advance(LATE_MS)
        self.decide()

    def ask(self, number, agent="agent-1"):
        value = encode(make.intent(agent_id=agent, intent_id=make.uuid7(n=number)))
        self.broker.append(TOPICS.intents, 0, b"lane", value, UNSIGNED_HEADERS)
        self.clock.advance(7)

    def decide(self):
        """As a worker does: all that waits is one micro-batch."""
        batch = Batch(self.place.header, self.intake, self.clock.now_ms())
        for record in self.inputs()[batch.next_input :]:
            batch.take(Taken(record, decode_input(record.value)), Handling.EVALUATE)
        batch.finish()
        self.clock.advance(20)
        for linked in batch.records:
            self.write(linked.value)

    def write(self, value):
        offset = self.broker.append(TOPICS.verdicts, 0, None, value, UNSIGNED_HEADERS)
        self.place = self.place.after(offset, *read_body(value)) or self.place

    def inputs(self):
        return self.broker.read(TOPICS.intents, 0, 0, 100)

    def decisions(self):
        return self.broker.read(TOPICS.verdicts, 0, 0, 100)

    def run(self):
        """The record of the run."""
        return next(record for record in self.decisions() if read_body(record.value)[0]["kind"] == "denials")

    def reader(self):
        return MemoryReader(self.broker)

    def log(self, reader):
        return DecisionLog(reader, TOPICS, "inc", VERIFIER, self.clock)


@pytest.fixture(scope="module")
def logs():
    return Logs()


@pytest.fixture
def broken():
    """Logs whose last record counts and names a run that nobody can read."""
    logs = Logs()
    logs.ask(300)
    body = dict(read_body(logs.run().value)[0])
    linked = make.linked(body, logs.place.header) | {"denied": [{"offset": "six"}]}
    before = logs.place
    logs.write(encode_body(linked))
    assert logs.place != before, "it counts"
    return logs


def kinds(logs):
    return [read_body(record.value)[0]["kind"] for record in logs.decisions()]


def test_these_logs_hold_what_they_are_about(logs):
    assert kinds(logs) == ["claim", "switch", "verdict", "denials", "reject", "verdict"]


# --- One way to read ---


def test_a_run_is_its_verdicts_and_everything_else_itself(logs):
    for record in logs.decisions():
        body, _ = read_body(record.value)
        said = answers_of_any(body)
        if body["kind"] == "denials":
            assert [(a["kind"], a["agent_id"], a["covers"][1]) for a in said] == [
                ("verdict", agent, offset) for agent, offset in zip(RUN, DENIED, strict=True)
            ]
        else:
            assert said == [body]


@pytest.mark.parametrize(
    "over",
    [
        {"denied": None},
        {"denied": [7]},
        {"denied": [{"offset": 1}]},
        {"denied": [{"offset": "1"}]},
        {"covers": []},
        {"covers": None},
        {"engine": ...},
        {"epoch": ...},
        {"denied": ...},
    ],
)
def test_a_run_that_cannot_be_read_is_itself_and_no_error(logs, over):
    body = {name: value for name, value in {**read_body(logs.run().value)[0], **over}.items() if value is not ...}
    assert answers_of_any(body) == [body]


# --- harness verdicts tail ---


def tailed(logs, agent=None, *, void=False):
    reader = logs.reader()
    tailing = Tailing(reader, logs.log(reader), VERIFIER, TOPICS.verdicts)
    tailing.begin(0, from_beginning=True)
    return list(wanted(tailing.entries(follow=False), agent, void=void))


def test_the_tail_has_a_line_for_each_denied_intent(logs):
    shown = [as_line(entry) for entry in tailed(logs) if entry.offset == logs.run().offset]
    assert len(shown) == len(RUN)
    for line, agent in zip(shown, RUN, strict=True):
        assert f"{agent} " in line
        assert "deny" in line
        assert "late: " in line


def test_each_with_its_own_agent_and_latency_in_json(logs):
    told = [json.loads(as_json(entry)) for entry in tailed(logs) if entry.offset == logs.run().offset]
    waited = [logs.run().timestamp_ms - logs.inputs()[offset].timestamp_ms for offset in DENIED]
    assert [line["latency_ms"] for line in told] == waited
    assert len({*waited}) == len(RUN)
    assert [line["body"]["intent_id"] for line in told] == [make.uuid7(n=number) for number in range(len(RUN))]
    assert [line["body"]["reasons"][0]["code"] for line in told] == ["late"] * len(RUN)


@pytest.mark.parametrize("agent", ["agent-1", "agent-2"])
def test_an_agents_denials_are_found_by_its_name(logs, agent):
    found = [entry.body for entry in tailed(logs, agent) if entry.offset == logs.run().offset]
    assert [body["agent_id"] for body in found] == [agent] * RUN.count(agent)


def test_a_void_run_is_shown_intent_by_intent_if_void_records_are_asked_for(logs):
    zombies = Logs()
    zombies.write(logs.run().value)
    last = zombies.decisions()[-1].offset
    assert [entry for entry in tailed(zombies) if entry.offset == last] == []
    shown = [as_line(entry) for entry in tailed(zombies, void=True) if entry.offset == last]
    assert ["void" in line for line in shown] == [True] * len(RUN)


def test_a_run_that_cannot_be_read_is_one_line(broken):
    *_, last = tailed(broken)
    assert "denials" in as_line(last)
    assert last.effective


# --- harness log export ---


def exported(logs):
    reader = logs.reader()
    start = logs.log(reader).oldest(0)
    inputs = Inputs(logs.reader(), TOPICS.intents, 0, logs.clock, VERIFIER, logs.tables)
    return [line | inputs.told_with(line["body"]) for line in lines(reader, TOPICS.verdicts, start, VERIFIER)]


def test_the_export_has_a_line_a_record_and_each_input_of_a_run(logs):
    told = exported(logs)
    assert [line["body"] for line in told] == [read_body(record.value)[0] for record in logs.decisions()]
    (run,) = [line for line in told if "inputs" in line]
    assert run["body"]["kind"] == "denials"
    assert [found["offset"] for found in run["inputs"]] == list(DENIED)
    rows = run["body"]["denied"]
    assert [json.loads(f["value"])["intent_id"] for f in run["inputs"]] == [row["intent_id"] for row in rows]
    assert [line["input"] and line["input"]["offset"] for line in told if "input" in line] == [None, None, 0, 5, 6]


def test_an_input_of_a_run_that_retention_took_is_null():
    logs = Logs()
    logs.broker.truncate_before(TOPICS.intents, 0, DENIED[2])
    (inputs,) = [line["inputs"] for line in exported(logs) if "inputs" in line]
    assert [found and found["offset"] for found in inputs] == [None, None, *DENIED[2:]]


def test_a_run_that_cannot_be_read_has_no_inputs(broken):
    assert exported(broken)[-1]["inputs"] == [None]


# --- harness replay --from-log ---


def replayed(logs, first=0, realm="test"):
    end = logs.place.header.next_input
    stretch = Stretch(0, Place.genesis("inc", 0), len(logs.decisions()), first, end)
    feed = Feed(logs.reader(), logs.clock, ranges_of([stretch], TOPICS))
    replay = LogReplay(logs.windows, logs.tables, realm)
    replay.begin(0, first, 0)
    for item in DecidedLog(feed, stretch, TOPICS, VERIFIER):
        if isinstance(item, Known):
            replay.know(item)
        else:
            yield item, replay.take(item)


@pytest.mark.parametrize("first", [0, 3])
def test_each_input_of_a_run_is_decided_anew_beside_its_own_answer(logs, first):
    told = list(replayed(logs, first))
    assert [body["offset"] for _, body in told] == list(range(first, logs.place.header.next_input))
    for answered, body in told:
        assert isinstance(answered, Answered)
        assert answered.answer["kind"] == body["kind"]
        assert answered.answer.get("reasons") == body.get("reasons")
        assert answered.answer.get("reason") == body.get("reason"), "the copy is known from before the stretch as well"


def test_a_run_that_cannot_be_read_ends_a_replay_with_its_place(broken):
    with pytest.raises(ProtocolError, match=r"covers inputs \[7, 7\] breaks its schema"):
        list(replayed(broken))


# --- harness demo ---


def test_the_demos_audit_finds_each_verdict(logs):
    audit = Audit(ClientRealm("test", "inc", 1, TOPICS))
    for record in logs.decisions():
        audit.take(record)
    asked = [(agent, make.uuid7(n=number)) for number, agent in enumerate(RUN)]
    assert [audit.verdict(intent_id)["decision"] for _, intent_id in asked] == ["deny"] * len(RUN)
    assert len(audit.verdicts("agent-2")) == 1
    assert miscovered(audit.effective[0], len(logs.inputs())) == {}
    assert unanswered(audit.effective[0], asked) == set()


# --- the risk topology ---


def risks(logs, change=lambda row: row):
    """Scores of a log whose run says what `change` makes of its rows."""
    risk = PartitionRisk(Place.genesis("inc", 0), VERIFIER, Decay(60_000, denials_full=10))
    for record in logs.decisions()[: logs.run().offset + 1]:
        body, _ = read_body(record.value)
        if body["kind"] == "denials":
            body = body | {"denied": [change(row) for row in body["denied"]]}
        risk.take(record._replace(value=encode_body(body)))
    return {row.subject: row.score for _, row in risk.rows(logs.clock.now_ms()) if row is not None}


def test_nobody_is_risky_for_what_workers_had_no_time_for(logs):
    assert risks(logs) == {}


def test_a_run_counts_against_each_of_its_agents_if_its_reason_does(logs):
    scores = risks(logs, lambda row: row | {"code": "default"})
    assert FLOOR < scores["agent:agent-2"] < scores["agent:agent-1"]


# --- who only passes it by ---


def test_who_looks_for_holds_and_for_what_workers_have_read_passes_it_by(logs):
    book = Book(0, Head(Place.genesis("inc", 0), VERIFIER), 0, 0)
    for record in logs.decisions():
        take(book, book.head.take(record), record.timestamp_ms)
    assert book.holds.all() == []
    assert book.place == logs.place
    reader = logs.reader()
    watch = Watch(reader, logs.log(reader), VERIFIER, TOPICS.verdicts, 1, revision=10**6)
    assert watch.look().unknown == (0,)
