"""The auditor names the record that was tampered with, and how (V1, V2, V3, V5, V6): a log with one lie in it."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from harness_stream.adapters.signing import UnsignedVerifier
from harness_stream.core import limits
from harness_stream.core.audit import Audit, Kind
from harness_stream.core.audit.void import Void
from harness_stream.core.fold import Place
from harness_stream.core.ids import id_time_ms
from harness_stream.runtime.audit_read import input_of, record_of
from tests.factories import uuid7
from tests.simulation.script import run
from tests.simulation.world import NEW_RULES, PARTITIONS, TOPICS, bundle, compiled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness_stream.core.audit import Finding, Input
    from harness_stream.ports import LogRecord

PARTITION = 1
BUNDLES = {hashlib.sha256(data).hexdigest(): compiled(data) for data in (bundle(), bundle(NEW_RULES))}
VERIFIER = UnsignedVerifier()
Body = dict[str, Any]


@dataclass
class Logs:
    """Both logs of one partition, and what the auditor says of them."""

    inputs: list[LogRecord]
    decisions: list[LogRecord]

    def audit(self, start: Place | None = None, *, full: bool = True, held: tuple[Place, ...] = ()) -> Audit:
        start = start or Place.genesis("i1", PARTITION)
        audit = Audit(start, PARTITIONS, BUNDLES.get, held)
        if full:
            audit.with_inputs(self.events, 0, lambda first, end: (record_of(r, VERIFIER) for r in self.decisions[first:end]))
        return audit

    def events(self, first: int) -> Iterator[Input]:
        return (input_of(r, "sim", VERIFIER) for r in self.inputs if r.offset >= first)

    def findings(self, audit: Audit | None = None) -> list[Finding]:
        audit = audit or self.audit()
        found = [f for record in self.decisions for f in audit.take(record_of(record, VERIFIER))]
        return found + audit.end(len(self.decisions), self.inputs[-1].offset + 1)

    def first(self, wanted: Callable[[Body], bool]) -> int:
        return next(r.offset for r in self.decisions if wanted(self.body(r.offset)))

    def body(self, offset: int) -> Body:
        return orjson.loads(self.decisions[offset].value or b"")

    def input_of(self, offset: int) -> Body:
        return orjson.loads(self.inputs[self.body(offset)["covers"][1]].value or b"")

    def place_before(self, offset: int) -> Place:
        place = Place.genesis("i1", PARTITION)
        for record in self.decisions[:offset]:
            place = place.after(*record_of(record, VERIFIER)[:3]) or place
        return place

    def append(self, body: Body) -> None:
        end, last = len(self.decisions), self.decisions[-1]
        self.decisions.append(last._replace(offset=end, value=orjson.dumps(body)))

    def ending_in(self, offset: int, body: Body) -> Logs:
        """The same log up to `offset`, where `body` stands instead."""
        last = self.decisions[offset]._replace(value=orjson.dumps(body))
        return Logs(list(self.inputs), [*self.decisions[:offset], last])

    def checkpoints(self) -> list[Place]:
        bodies = [self.body(r.offset) for r in self.decisions]
        return [Place.from_json(body) for body in bodies if body["kind"] == "checkpoint"]


@pytest.fixture(scope="module")
def logs() -> Logs:
    """Of every kind of record at least one: mandates, outcomes, holds and answers, switches warmed and not, garbage."""
    for seed in range(59, 59 + 192 * 20, 192):  # the same kind of run each
        world = run(seed, faults=["replay"], count=300)
        found = Logs(world.everything(TOPICS.intents, PARTITION), world.everything(TOPICS.verdicts, PARTITION))
        bodies = [found.body(record.offset) for record in found.decisions]
        if all(any(wanted(body) for body in bodies) for wanted in needed()):
            return found
    raise AssertionError("no run has a record of every kind; the simulation has changed")


def needed() -> list[Callable[[Body], bool]]:
    """What the tests below look for."""
    acks = [accepted(event_type) for event_type in ("mandate", "outcome")]
    switches = [second_switch, warmed_in_the_middle, checkpoint_with_rules]
    kinds = [kind(name) for name in ("claim", "switch", "verdict", "ack", "reject", "skip", "checkpoint")]
    return [approved, held, answered, refused, *acks, *switches, *kinds, *(lie[0] for lie in LIES)]


# --- Which record ---


def kind(name: str) -> Callable[[Body], bool]:
    return lambda body: body["kind"] == name


def approved(body: Body) -> bool:
    """An ordinary one, of something."""
    is_one = body["kind"] == "verdict" and body["decision"] == "approve" and body["approval"] is None
    return is_one and bool(body["event"]["resources"])


def held(body: Body) -> bool:
    return body["kind"] == "verdict" and body["decision"] == "hold"


def answered(body: Body) -> bool:
    return body["kind"] == "verdict" and body["approval"] is not None and body["decision"] == "approve"


def accepted(event_type: str) -> Callable[[Body], bool]:
    return lambda body: body["kind"] == "ack" and body["event_type"] == event_type and body["status"] == "accepted"


def refused(body: Body) -> bool:
    return body["kind"] == "ack" and body["reason"] == "bypass"


def second_switch(body: Body) -> bool:
    return body["kind"] == "switch" and body["rules"]["revision"] > 1


def checkpoint_with_rules(body: Body) -> bool:
    return body["kind"] == "checkpoint" and body["rules"] is not None


def warmed_in_the_middle(body: Body) -> bool:
    return body["kind"] == "switch" and body["warmed"] is not None and body["warmed"]["verdict_offset"] >= 0


# --- What is done to it: the path of a field, and its new value or what is made of the old one ---

LIES = [
    (approved, "valid_for_ms", lambda _: "long", {Kind.SCHEMA}),
    (approved, "t", str, {Kind.SCHEMA}),
    (kind("reject"), "t", str, {Kind.SCHEMA}),
    (kind("skip"), "t", str, {Kind.SCHEMA}),
    (accepted("outcome"), "t", str, {Kind.SCHEMA}),
    (approved, "event", lambda e: {k: v for k, v in e.items() if k != "lane"}, {Kind.SCHEMA, Kind.VERDICT}),
    (approved, "covers.0", lambda n: n + 1, {Kind.COVERAGE}),
    (approved, "covers.0", lambda n: n - 1, {Kind.COVERAGE}),
    (approved, "covers.1", lambda n: n + 1, {Kind.COVERAGE}),
    (approved, "covers.1", lambda n: n + 10_000, {Kind.COVERAGE}),
    (approved, "rules.revision", lambda n: n + 1, {Kind.RULES}),
    (approved, "rules.digest", lambda _: "0" * 64, {Kind.RULES}),
    (warmed_in_the_middle, "rules.revision", lambda _: 1, {Kind.RULES}),
    (second_switch, "rules.digest", lambda _: "0" * 64, {Kind.RULES}),
    (kind("claim"), "epoch", lambda n: n + 1, {Kind.EPOCH}),
    (kind("reject"), "t", lambda _: 1, {Kind.TIME}),
    (kind("reject"), "t", lambda t: t + 1, {Kind.TIME}),
    (kind("skip"), "t", lambda t: t + 1, {Kind.TIME}),
    (approved, "t", lambda _: 1, {Kind.TIME, Kind.VERDICT}),
    (approved, "intent_digest", lambda _: "0" * 64, {Kind.DIGEST}),
    (approved, "arguments_digest", lambda _: "1" * 64, {Kind.DIGEST}),
    (approved, "enforcer_nonce", lambda _: "1" * 32, {Kind.DIGEST}),
    (approved, "agent_id", lambda _: "agent-9", {Kind.DIGEST}),
    (accepted("outcome"), "digest", lambda _: "0" * 64, {Kind.DIGEST}),
    (accepted("outcome"), "id", lambda _: "another", {Kind.DIGEST}),
    (kind("reject"), "digest", lambda _: "0" * 64, {Kind.DIGEST}),
    (answered, "intent_digest", lambda _: "0" * 64, {Kind.DIGEST}),
    (answered, "arguments_digest", lambda _: "1" * 64, {Kind.DIGEST}),
    (answered, "approval.by", lambda _: "approver-9", {Kind.DIGEST, Kind.VERDICT}),
    (approved, "decision", lambda _: "deny", {Kind.VERDICT}),
    (approved, "reasons.0.rule", lambda _: "another", {Kind.VERDICT}),
    (approved, "reasons", lambda _: [], {Kind.VERDICT}),
    (approved, "obligations", lambda _: {"log": True}, {Kind.VERDICT}),
    (approved, "valid_for_ms", lambda n: n + 1, {Kind.VERDICT}),
    (approved, "remember_until", lambda t: t + 1, {Kind.VERDICT}),
    (approved, "shadow", lambda _: [{"code": "rule", "rule": "r"}], {Kind.VERDICT}),
    (approved, "event.action", lambda _: "crm.nothing", {Kind.VERDICT}),
    (approved, "event.resources.0.uri", lambda _: "crm://other", {Kind.VERDICT}),
    (approved, "event.lane", lambda _: "tenant-0", {Kind.VERDICT, Kind.LANE}),
    (approved, "inputs.identity.actions", lambda _: [], {Kind.VERDICT}),
    (approved, "inputs.above", lambda _: [{"agent_id": "boss"}], {Kind.VERDICT}),
    (approved, "inputs.tables", lambda _: {"identity": "none"}, {Kind.VERDICT}),
    (
        approved,
        "inputs",
        lambda i: {"decided_at": i["decided_at"], "engine": i["engine"], "tables": {}},
        {Kind.VERDICT},
    ),
    (approved, "inputs", lambda _: {"engine": "another"}, {Kind.VERDICT}),
    (approved, "inputs.engine", lambda _: 7, {Kind.VERDICT}),
    (approved, "event.resources.0.system", lambda _: "mainframe", {Kind.VERDICT}),
    (held, "hold_until", lambda t: t + 1, {Kind.VERDICT}),
    (held, "intent.purpose", lambda _: "another", {Kind.VERDICT}),
    (answered, "approval.declassify", lambda _: ["secret"], {Kind.VERDICT}),
    (answered, "event.settles", lambda _: None, {Kind.VERDICT}),
    (accepted("outcome"), "change.measures", lambda _: {"rows": 7_777}, {Kind.ACK}),
    (accepted("outcome"), "change.status", lambda _: "released", {Kind.ACK}),
    (accepted("mandate"), "change.mandate.expires_at", lambda t: t + 1, {Kind.ACK}),
    (accepted("mandate"), "change", lambda _: None, {Kind.ACK}),
    (accepted("mandate"), "change.op", lambda _: "forget", {Kind.ACK, Kind.SCHEMA}),
    (refused, "reason", lambda _: "outcome_known", {Kind.ACK}),
    (kind("reject"), "reason", lambda r: "id_reused" if r == "duplicate" else "duplicate", {Kind.REJECT}),
    (kind("skip"), "count", lambda n: n + 1, {Kind.SKIP}),
    (kind("skip"), "digest", lambda _: "0" * 64, {Kind.DIGEST}),
    (kind("skip"), "offsets.0.reason", lambda _: "schema", {Kind.SKIP}),
    (kind("skip"), "offsets", lambda _: [], {Kind.SKIP}),
    (kind("skip"), "reason", lambda _: "input_lost", {Kind.SKIP}),
    (warmed_in_the_middle, "warmed.record_digest", lambda _: "0" * 64, {Kind.WARMED}),
    (warmed_in_the_middle, "warmed.head", lambda _: "0" * 64, {Kind.WARMED}),
    (warmed_in_the_middle, "warmed.t", lambda t: t - 1, {Kind.WARMED}),
    (warmed_in_the_middle, "warmed.verdict_offset", lambda n: n - 1, {Kind.WARMED}),
    (warmed_in_the_middle, "warmed.verdict_offset", lambda _: -1, {Kind.WARMED}),
    (warmed_in_the_middle, "warmed", lambda _: {}, {Kind.WARMED}),
    (kind("checkpoint"), "head", lambda _: "0" * 64, {Kind.CHECKPOINT}),
    (kind("checkpoint"), "record_digest", lambda _: "0" * 64, {Kind.CHECKPOINT}),
    (kind("checkpoint"), "next_input", lambda n: n + 1, {Kind.CHECKPOINT}),
    (checkpoint_with_rules, "rules.revision", lambda n: n + 1, {Kind.CHECKPOINT}),
    (kind("checkpoint"), "t", lambda t: t + 1, {Kind.CHECKPOINT}),
    (kind("checkpoint"), "verdict_offset", lambda n: n + 1_000, {Kind.CHECKPOINT}),
    (kind("checkpoint"), "partition", lambda n: n + 1, {Kind.CHECKPOINT}),
    (kind("checkpoint"), "epoch", lambda n: n + 1, {Kind.CHECKPOINT}),
    (kind("checkpoint"), "crash_claims", lambda _: "none", {Kind.SCHEMA}),
]


def changed(value: Any, path: list[str], make: Callable[[Any], Any]) -> Any:
    """A copy in which the value at `path` is what `make` makes of it."""
    if not path:
        return make(value)
    if isinstance(value, list):
        at = int(path[0])
        return [changed(v, path[1:], make) if n == at else v for n, v in enumerate(value)]
    return {**value, path[0]: changed(value.get(path[0]), path[1:], make)}


def test_a_log_without_a_lie_has_no_finding_and_everything_was_recomputed(logs: Logs) -> None:
    audit = logs.audit()
    assert logs.findings(audit) == []
    assert audit.answers is not None
    kinds = [logs.body(r.offset)["kind"] for r in logs.decisions]
    assert audit.answers.recomputed == {name: kinds.count(name) for name in ("verdict", "ack", "reject")}
    assert not audit.answers.unproven


@pytest.mark.parametrize(("which", "path", "make", "kinds"), LIES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_lie_is_named_with_its_record_and_kind(
    logs: Logs, which: Callable[[Body], bool], path: str, make: Callable[[Any], Any], kinds: set[Kind]
) -> None:
    offset = logs.first(which)
    found = logs.ending_in(offset, changed(logs.body(offset), path.split("."), make)).findings()
    assert {(f.kind, f.partition, f.offset) for f in found} == {(k, PARTITION, offset) for k in kinds}


def test_a_field_is_named_with_what_was_found_and_what_was_expected(logs: Logs) -> None:
    offset = logs.first(approved)
    body = logs.body(offset)
    (found,) = logs.ending_in(offset, body | {"event": body["event"] | {"purpose": "sabotage"}}).findings()
    assert found.text == 'event.purpose is "sabotage", and recomputes to ""'


# --- Lies that need more than one field ---


def next_record(logs: Logs, after: int, body: Body) -> Logs:
    """The log up to `after`, and one more record of its owner, rightly linked, that covers the next input."""
    header = logs.place_before(after + 1).header
    rules = {"digest": header.rules[0], "revision": header.rules[1]} if header.rules else None
    link = {"prev": header.head, "covers": [header.next_input] * 2, "epoch": header.epoch, "writer": header.writer}
    linked = body | link | {"t": header.t} | ({"rules": rules} if body["kind"] == "verdict" else {})
    return logs.ending_in(after + 1, linked)


def test_a_second_terminal_verdict(logs: Logs) -> None:
    offset = logs.first(approved)
    doubled = next_record(logs, offset, logs.body(offset))
    (found,) = doubled.findings(doubled.audit(full=False))
    assert (found.kind, found.offset) == (Kind.SETTLED_TWICE, offset + 1)
    assert f"has its terminal verdict at {offset}" in found.text


def test_a_hold_is_not_terminal(logs: Logs) -> None:
    offset = logs.first(held)
    doubled = next_record(logs, offset, logs.body(offset))
    assert doubled.findings(doubled.audit(full=False)) == []


def test_an_intent_that_is_passed_off_as_garbage(logs: Logs) -> None:
    offset = logs.first(approved)
    body, at = logs.body(offset), logs.body(offset)["covers"][1]
    value = hashlib.sha256(logs.inputs[at].value or b"").digest()
    skip = {k: body[k] for k in ("incarnation", "epoch", "writer", "prev", "covers")} | {
        "kind": "skip",
        "t": logs.body(offset - 1).get("t", 0),
        "reason": "garbage",
        "count": 1,
        "digest": hashlib.sha256(value).hexdigest(),
        "offsets": [{"offset": at, "reason": "not_json", "detail": None}],
    }
    (found,) = logs.ending_in(offset, skip).findings()
    assert (found.kind, found.offset) == (Kind.SKIP, offset)
    assert "is an intent to be answered" in found.text


def test_a_verdict_on_garbage(logs: Logs) -> None:
    offset = logs.first(approved)
    lied = logs.ending_in(offset, logs.body(offset))
    at = logs.body(offset)["covers"][1]
    lied.inputs[at] = lied.inputs[at]._replace(value=b"not json")
    (found,) = lied.findings()
    assert (found.kind, found.offset) == (Kind.ANSWER, offset)
    assert "must not be judged (not_json" in found.text


@pytest.mark.parametrize("which", [approved, accepted("outcome"), kind("reject")], ids=["verdict", "ack", "reject"])
def test_an_offset_that_another_input_took_is_one_finding(logs: Logs, which: Callable[[Body], bool]) -> None:
    """A cut input log goes on at the offsets that it lost: nothing of the honest answer can be held against that."""
    offset = logs.first(which)
    lied = logs.ending_in(offset, logs.body(offset))
    sent, at = logs.input_of(offset), logs.body(offset)["covers"][1]
    own_id = next(name for name in ("outcome_id", "intent_id") if name in sent)
    append_ms = (lied.inputs[at].timestamp_ms or 0) + 700_000
    later = sent | {own_id: uuid7(append_ms, 9_999), "agent_id": "agent-2", "by": "agent-2"}
    lied.inputs[at] = lied.inputs[at]._replace(value=orjson.dumps(later), timestamp_ms=append_ms)
    (found,) = [f for f in lied.findings() if f.offset == offset]
    assert found.kind is Kind.DIGEST
    assert f"at input {at} stands {later[own_id]}" in found.text


def test_a_duplicate_that_gets_a_verdict(logs: Logs) -> None:
    offset = logs.first(kind("reject"))
    sent = logs.input_of(offset)
    before = logs.first(lambda b: b["kind"] == "verdict" and b["intent_id"] == sent["intent_id"])
    again = logs.body(before) | {k: logs.body(offset)[k] for k in ("prev", "covers", "epoch", "writer", "t")}
    rules = next(b["rules"] for b in (logs.body(o) for o in range(offset, -1, -1)) if b["kind"] == "switch")
    found = logs.ending_in(offset, again | {"rules": rules}).findings()
    assert {f.offset for f in found} == {offset}
    assert {Kind.ANSWER} <= {f.kind for f in found} <= {Kind.ANSWER, Kind.SETTLED_TWICE}
    assert any("history asks for reject: duplicate" in f.text for f in found)


@pytest.mark.parametrize("who", ["the agent", "its owner"])
def test_a_hold_answered_by_somebody_who_may_not(logs: Logs, who: str) -> None:
    offset = logs.first(answered)
    body, at = logs.body(offset), logs.body(offset)["covers"][1]
    by = body["agent_id"] if who == "the agent" else "boss"
    lied = logs.ending_in(offset, changed(body, ["approval", "by"], lambda _: by))
    sent = orjson.dumps({**logs.input_of(offset), "by": by})
    lied.inputs[at] = lied.inputs[at]._replace(value=sent)
    (found,) = lied.findings()
    assert (found.kind, found.offset) == (Kind.APPROVER, offset)
    assert by in found.text


def resumed_at(logs: Logs, offset: int, **over: Any) -> tuple[Logs, dict[str, Any]]:
    """The log up to there, and an operator's word behind it who names the newest checkpoint that was lost."""
    place = logs.place_before(offset)
    body = {
        "kind": "resume",
        "incarnation": "i1",
        "epoch": place.header.epoch + 1,
        "writer": "e" * 32,
        "checkpoint": newest_checkpoint(logs),
        "head": place.header.head,
        "next_input": place.header.next_input + 3,
        "rules": place.to_json()["rules"],
        "t": place.header.t + 60_000,
        "reason": "lost disk",
        "forgets": False,
        "seal": {"hs-alg": "none"},
        **over,
    }
    return logs.ending_in(offset, body), body


def newest_checkpoint(logs: Logs) -> dict[str, Any]:
    return next(body for r in reversed(logs.decisions) if (body := dict(logs.body(r.offset)))["kind"] == "checkpoint")


FORMS: dict[str, Body] = {
    "the log's": {},
    "another head": {"head": "0" * 64},
    "a checkpoint that nothing shows": {"seal": None},
    "a checkpoint whose seal is none": {"seal": {"hs-alg": "none", "hs-kid": "x"}},
    "no checkpoint": {"checkpoint": {}},
    "what is no checkpoint": {"checkpoint": {"verdict_offset": 2**53 - 1}},
}


@pytest.mark.parametrize("form", FORMS)
def test_an_operators_word_that_leaves_inputs_out(logs: Logs, form: str) -> None:
    """Who names the head of the log as it is, and its checkpoint, knows what is lost; any other is of another log."""
    offset = len(logs.decisions) // 2
    lied, _ = resumed_at(logs, offset, **FORMS[form])
    audit = lied.audit()
    found = {(f.kind, f.offset) for f in lied.findings(audit)}
    assert found == (set() if form == "the log's" else {(Kind.COVERAGE, offset)})
    [told] = audit.log.resumed.all
    assert (told.offset, told.reason) == (offset, "lost disk")


def test_a_checkpoint_of_what_was_lost_is_excused_by_who_names_one_that_is_held(logs: Logs) -> None:
    offset, newest = len(logs.decisions) // 2, newest_checkpoint(logs)
    held = tuple(place for place in logs.checkpoints() if place.offset > offset)
    assert Place.from_json(newest) in held
    for named, kinds in ((newest, set()), ({**newest, "verdict_offset": 2**53 - 1}, {Kind.TRUNCATED})):
        lied, _ = resumed_at(logs, offset, checkpoint=named)
        assert {f.kind for f in lied.findings(lied.audit(held=held))} == kinds


def test_a_checkpoint_of_what_came_after_an_operators_word_is_not_excused_by_it(logs: Logs) -> None:
    """A second cut, behind the first one's resume, takes what is of a later epoch: nobody has given that up."""
    offset, newest = len(logs.decisions) // 2, Place.from_json(newest_checkpoint(logs))
    lied, body = resumed_at(logs, offset)
    later = newest._replace(header=newest.header._replace(epoch=body["epoch"]))
    assert {f.kind for f in lied.findings(lied.audit(held=(newest,)))} == set()
    assert {f.kind for f in lied.findings(lied.audit(held=(newest, later)))} == {Kind.TRUNCATED}


def test_a_sealed_checkpoint_that_nobody_holds_tells_what_was_lost_and_excuses_no_other_one(logs: Logs) -> None:
    newest = Place.from_json(newest_checkpoint(logs))
    older = [place for place in logs.checkpoints() if place.offset < newest.offset][-1]
    offset = older.offset - 1
    lied, _ = resumed_at(logs, offset)
    for held, kinds, excused in (((older,), {Kind.TRUNCATED}, 0), ((older, newest), set(), 2)):
        audit = lied.audit(held=held)
        assert {f.kind for f in lied.findings(audit)} == kinds
        [told] = audit.log.resumed.all
        assert told.records == (lied.place_before(offset).offset + 1, newest.offset)
        assert told.checkpoints == excused


def test_who_begins_behind_an_operators_word_does_not_ask_for_what_was_given_up(logs: Logs) -> None:
    """Nobody is told of the resume there; of a checkpoint that is no older than the start everybody is."""
    offset = len(logs.decisions) // 2
    held = tuple(place for place in logs.checkpoints() if place.offset > offset)
    lied, _ = resumed_at(logs, offset)
    start = lied.place_before(offset + 1)
    assert start.header.epoch > max(place.header.epoch for place in held)
    for older, kinds in ((held, set()), ([p._replace(header=start.header) for p in held], {Kind.TRUNCATED})):
        found = lied.findings(lied.audit(start, full=False, held=tuple(older)))
        assert {f.kind for f in found} == kinds


@pytest.mark.parametrize("seal", [None, {"hs-alg": "none"}])
def test_a_checkpoint_that_an_operator_has_invented_excuses_nothing(logs: Logs, seal: Body | None) -> None:
    """Whoever has a worker's key could seal it as well; but each of so many epochs would have had a record."""
    offset = len(logs.decisions) // 2
    over = {"epoch": 10**9, "verdict_offset": 7, "record_digest": "0" * 64}
    lied, _ = resumed_at(logs, offset, checkpoint={**newest_checkpoint(logs), **over}, epoch=10**9 + 1, seal=seal)
    audit = lied.audit()
    assert [f.kind for f in lied.findings(audit)] == [Kind.EPOCH, Kind.COVERAGE]
    assert audit.log.resumed.all[0].inputs is None


def test_a_log_that_was_cut_to_nothing_twice_has_lost_more_epochs_than_its_offsets_tell(logs: Logs) -> None:
    """Found by seed 2021: the checkpoint is of the claim at 0 that came after the first resume."""
    lied, _ = resumed_at(logs, 0, checkpoint={**newest_checkpoint(logs), "verdict_offset": 0, "epoch": 3}, epoch=4)
    assert lied.findings() == []


@pytest.mark.parametrize("held", [True, False])
def test_a_checkpoint_that_the_log_or_the_heads_topic_shows_needs_no_seal(logs: Logs, *, held: bool) -> None:
    offset = len(logs.decisions) // 2
    of_the_log = next(dict(b) for at in range(offset - 1, 0, -1) if (b := logs.body(at))["kind"] == "checkpoint")
    lied, _ = resumed_at(logs, offset, checkpoint=newest_checkpoint(logs) if held else of_the_log, seal=None)
    outside = (Place.from_json(newest_checkpoint(logs)),) if held else ()
    assert lied.findings(lied.audit(held=outside)) == []


def test_a_checkpoint_too_old_to_look_up_excuses_inputs_and_no_epoch(
    logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness_stream.core.audit.log.PLACES_KEPT", 4)
    offset = len(logs.decisions) // 2
    old = next(dict(b) for at in range(offset) if (b := logs.body(at))["kind"] == "checkpoint")
    for epoch, wrong in ((old["epoch"], []), (10**6, [Kind.EPOCH, Kind.COVERAGE])):
        own = logs.place_before(offset).header.epoch if epoch == old["epoch"] else epoch
        lied, _ = resumed_at(logs, offset, checkpoint=old | {"epoch": epoch}, epoch=own + 1, seal=None)
        assert [f.kind for f in lied.findings() if f.offset == offset] == wrong


def test_no_checkpoint_is_named_rightly_only_where_none_was_written(logs: Logs) -> None:
    first = logs.first(kind("checkpoint"))
    for offset, wrong in ((first, []), (first + 1, [Kind.COVERAGE])):
        lied, _ = resumed_at(logs, offset, checkpoint={}, seal=None)
        assert [f.kind for f in lied.findings()] == wrong


OTHER_RULES = {
    "none": None,
    "an unknown bundle": {"digest": "0" * 64, "revision": 10**9},
    "a known bundle of a revision that nobody pushed": {"digest": next(iter(BUNDLES)), "revision": 10**9},
}


@pytest.mark.parametrize("rules", OTHER_RULES)
def test_an_operator_who_sets_other_rules_than_were_in_force(logs: Logs, rules: str) -> None:
    """The first keeps every worker from loading, the last keeps out every bundle that is pushed later."""
    offset = len(logs.decisions) // 2
    lied, _ = resumed_at(logs, offset, rules=OTHER_RULES[rules])
    [found] = lied.findings()
    assert (found.kind, found.offset) == (Kind.RULES, offset)


@pytest.mark.parametrize("forgets", [True, False, None])
def test_who_forgets_goes_on_by_the_rules_of_the_checkpoint_that_he_names(logs: Logs, *, forgets: bool | None) -> None:
    offset = logs.first(second_switch)
    named = newest_checkpoint(logs)
    assert named["rules"] not in (None, logs.place_before(offset).to_json()["rules"])
    lied, _ = resumed_at(logs, offset, rules=named["rules"], forgets=forgets)
    assert [f.kind for f in lied.findings()] == ([Kind.RULES] if forgets is False else [])
    without = {digest: windows for digest, windows in BUNDLES.items() if digest != named["rules"]["digest"]}
    [missing] = [f for f in lied.findings(Audit(Place.genesis("i1", PARTITION), PARTITIONS, without.get)) if f.offset == offset]
    assert missing.kind is Kind.RULES


def test_an_operators_epoch_is_the_next_one_to_all_that_are_known(logs: Logs) -> None:
    """Claims may be among what was lost; the checkpoint that he names is of the last one that anybody knows."""
    offset, newest = len(logs.decisions) // 2, newest_checkpoint(logs)
    for further, kinds in ((1, set()), (2, {Kind.EPOCH}), (10**15, {Kind.EPOCH})):
        lied, _ = resumed_at(logs, offset, checkpoint={**newest, "epoch": 20}, epoch=20 + further)
        assert {f.kind for f in lied.findings()} == kinds


def test_an_ack_of_an_intent(logs: Logs) -> None:
    offset, ack = logs.first(approved), logs.body(logs.first(accepted("mandate")))
    body = logs.body(offset)
    link = {name: body[name] for name in ("prev", "covers", "epoch", "writer", "t", "agent_id")}
    named = {"id": body["intent_id"], "digest": body["intent_digest"]}
    (found,) = logs.ending_in(offset, ack | link | named).findings()
    assert (found.kind, found.offset) == (Kind.ANSWER, offset)


def test_a_refusal_for_the_lack_of_a_role_is_taken_as_said(logs: Logs) -> None:
    """Roles are in no log; that this reason comes before the others is known all the same."""
    offset = logs.first(accepted("outcome"))
    refusal = logs.body(offset) | {"status": "refused", "reason": "not_reporter", "change": None}
    at = refusal["covers"][1]
    lied = logs.ending_in(offset, refusal)
    sent = orjson.dumps({**logs.input_of(offset), "by": "somebody"})
    lied.inputs[at] = lied.inputs[at]._replace(value=sent)
    told = refusal | {"digest": hashlib.sha256(sent).hexdigest()}
    assert Logs(lied.inputs, lied.ending_in(offset, told).decisions).findings() == []
    (found,) = Logs(lied.inputs, lied.ending_in(offset, told | {"reason": "not_enforcer"}).decisions).findings()
    assert (found.kind, found.offset) == (Kind.ACK, offset)


def test_an_append_time_from_the_future_does_not_move_chain_time(logs: Logs) -> None:
    def later(body: Body) -> bool:
        return approved(body) and body["t"] > logs.place_before(body["offset"]).header.t

    bodies = [logs.body(r.offset) | {"offset": r.offset} for r in logs.decisions]
    offset = next(body["offset"] for body in bodies if later(body))
    body, was = logs.body(offset), logs.place_before(offset).header.t
    inputs = {"decided_at": body["t"] - 6_000, "engine": body["inputs"]["engine"], "tables": {}}
    remember = body["remember_until"] - (0 if remembered_by_id(body) else body["t"] - was)
    clock = {"code": "clock", "detail": "append time 6000 ms ahead of the worker"}
    denied = body | {"t": was, "decision": "deny", "reasons": [clock], "valid_for_ms": 0, "event": None}
    denied |= {"inputs": inputs, "remember_until": remember}
    assert logs.ending_in(offset, denied).findings() == []
    found = logs.ending_in(offset, denied | {"t": body["t"]}).findings()
    assert Kind.TIME in {f.kind for f in found}
    assert {f.offset for f in found} == {offset}


def remembered_by_id(body: Body) -> bool:
    """Is it the time inside of its id that says how long it is remembered?"""
    return body["remember_until"] == id_time_ms(body["intent_id"]) + limits.ID_MEMORY_MS


def test_after_a_record_that_cannot_be_history_nothing_is_recomputed(logs: Logs) -> None:
    offset = logs.first(approved)
    broken = logs.ending_in(offset, logs.body(offset) | {"event": 7})
    header = broken.place_before(offset + 1).header
    next_one = next(logs.body(r.offset) for r in logs.decisions[offset + 1 :] if logs.body(r.offset).get("covers"))
    assert next_one["covers"][0] == header.next_input
    broken.append(next_one | {"prev": header.head})
    audit = broken.audit()
    assert [(f.kind, f.offset) for f in broken.findings(audit)] == [(Kind.SCHEMA, offset)]
    assert audit.answers is not None
    assert audit.answers.unproven == {f"the record at {offset} breaks its schema": 1}


def test_without_a_bundle_what_it_counted_is_not_known_and_nothing_is_recomputed(logs: Logs) -> None:
    first, *others = [logs.body(r.offset) for r in logs.decisions if logs.body(r.offset)["kind"] == "switch"]
    missing = next(b["rules"]["digest"] for b in others if b["rules"] != first["rules"])
    start = Place.genesis("i1", PARTITION)
    audit = Audit(start, PARTITIONS, {d: b for d, b in BUNDLES.items() if d != missing}.get)
    audit.with_inputs(logs.events, 0, lambda a, b: (record_of(r, VERIFIER) for r in logs.decisions[a:b]))
    found = logs.findings(audit)
    switches = [r.offset for r in logs.decisions if logs.body(r.offset).get("kind") == "switch"]
    lost = [at for at in switches if logs.body(at)["rules"]["digest"] == missing]
    assert [(f.kind, f.offset) for f in found] == [(Kind.RULES, at) for at in lost]
    assert audit.answers is not None
    assert audit.answers.unproven.keys() == {f"the bundle of the switch at {lost[0]} is missing"}


# --- What is answered unevaluated ---


def unevaluated(body: Body, code: str) -> Body:
    """The denial of an intent that nobody looked at."""
    inputs = {name: body["inputs"][name] for name in ("decided_at", "engine")} | {"tables": {}}
    denied = {"decision": "deny", "reasons": [{"code": code}], "valid_for_ms": 0, "event": None, "inputs": inputs}
    return body | denied


def after_crashes(logs: Logs, which: Callable[[Body], bool], body_of: Callable[[Body], Body], crashes: int) -> Logs:
    """The log up to a record, as many pending crash claims in a row, and then another answer to the same input."""
    offset = logs.first(which)
    header = logs.place_before(offset).header
    log = Logs(list(logs.inputs), list(logs.decisions[:offset]))
    for n in range(1, crashes + 1):
        claim = {"kind": "claim", "incarnation": "i1", "after": "crash", "pending": True}
        log.append(claim | {"epoch": header.epoch + n, "writer": f"{n:032x}"})
    new = log.place_before(len(log.decisions)).header
    link = {"epoch": new.epoch, "writer": new.writer, "prev": new.head}
    log.append(body_of(logs.body(offset)) | link)
    return log


@pytest.mark.parametrize(("crashes", "kinds"), [(0, [Kind.VERDICT]), (2, [Kind.VERDICT]), (3, [])])
def test_a_quarantine_needs_three_pending_crash_claims(logs: Logs, crashes: int, kinds: list[Kind]) -> None:
    log = after_crashes(logs, approved, lambda body: unevaluated(body, "quarantined"), crashes)
    audit = log.audit()
    assert [(f.kind, f.offset) for f in log.findings(audit)] == [(k, len(log.decisions) - 1) for k in kinds]
    assert audit.answers is not None
    assert audit.answers.unproven == {"denied as quarantined, unevaluated": 1}


@pytest.mark.parametrize(("crashes", "kinds"), [(0, [Kind.SKIP]), (3, [])])
def test_so_does_one_of_an_outcome(logs: Logs, crashes: int, kinds: list[Kind]) -> None:
    def skip(body: Body) -> Body:
        at = body["covers"][1]
        value = hashlib.sha256(logs.inputs[at].value or b"").digest()
        told = {"kind": "skip", "incarnation": "i1", "covers": body["covers"], "reason": "garbage", "count": 1}
        named = [{"offset": at, "reason": "quarantined", "detail": None}]
        t = logs.place_before(logs.first(accepted("outcome"))).header.t
        return told | {"t": t, "digest": hashlib.sha256(value).hexdigest(), "offsets": named}

    log = after_crashes(logs, accepted("outcome"), skip, crashes)
    assert [(f.kind, f.offset) for f in log.findings()] == [(k, len(log.decisions) - 1) for k in kinds]


def test_a_verdict_that_would_be_too_large_is_believed_and_counted(logs: Logs) -> None:
    log = after_crashes(logs, approved, lambda body: unevaluated(body, "too_large"), 0)
    audit = log.audit()
    assert log.findings(audit) == []
    assert audit.answers is not None
    assert audit.answers.unproven == {"denied as too_large, unevaluated": 1}


def test_what_another_engine_decided_is_not_recomputed(logs: Logs) -> None:
    offset = logs.first(approved)
    body = changed(logs.body(offset), ["inputs", "engine"], lambda _: "harness-stream/0") | {"decision": "deny"}
    lied = logs.ending_in(offset, body)
    audit = lied.audit()
    assert lied.findings(audit) == []
    assert audit.answers is not None
    assert audit.answers.unproven == {"decided by engine harness-stream/0": 1}


# --- Whatever a record holds ---


def places_in(value: Any, path: tuple[str, ...] = ()) -> list[list[str]]:
    """The path of every value inside."""
    inner = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    return [list(path), *(p for name, part in inner for p in places_in(part, (*path, str(name))))]


@pytest.mark.parametrize("seed", range(8))
def test_the_auditor_goes_on_whatever_a_record_holds(logs: Logs, seed: int) -> None:
    choice = random.Random(seed)
    for _ in range(12):
        offset = choice.randrange(len(logs.decisions))
        body = logs.body(offset)
        path = choice.choice(places_in(body)[1:])
        junk = choice.choice((None, True, -1, 10**15, "", "x" * 40, [], [[]], {}, {"a": []}))
        found = logs.ending_in(offset, changed(body, path, lambda _, junk=junk: junk)).findings()
        assert {f.offset for f in found} <= {offset}, (offset, path, junk)


@pytest.mark.parametrize("name", ["kind", "epoch", "covers", "prev", "incarnation", "rules", "writer"])
@pytest.mark.parametrize("junk", [[], {}, None, 1.5], ids=repr)
def test_what_cannot_even_be_a_record_is_void(logs: Logs, name: str, junk: object) -> None:
    offset = logs.first(approved)
    lied = logs.ending_in(offset, logs.body(offset) | {name: junk})
    audit = lied.audit()
    assert {f.kind for f in lied.findings(audit)} <= {Kind.COVERAGE, Kind.RULES}
    assert audit.log.void.total() == 1


# --- The log itself ---


def altered(logs: Logs, offset: int, body: Body | None) -> Logs:
    """The whole log, in which one record is another one, or gone."""
    decisions = list(logs.decisions)
    if body is None:
        del decisions[offset]
    else:
        decisions[offset] = decisions[offset]._replace(value=orjson.dumps(body))
    return Logs(logs.inputs, decisions)


def test_a_replaced_record_is_one_finding_and_all_that_comes_behind_it_counts(logs: Logs) -> None:
    offset = logs.first(approved)
    lied = altered(logs, offset, logs.body(offset) | {"shadow": [{"code": "rule", "rule": "r"}]})
    audit = lied.audit(full=False)
    (found,) = lied.findings(audit)
    assert (found.kind, found.offset) == (Kind.LINK, offset)
    here, linked = (record_of(log.decisions[offset], VERIFIER).digest[:12] for log in (lied, logs))
    following = next(r.offset for r in logs.decisions[offset + 1 :] if logs.body(r.offset)["kind"] != "checkpoint")
    assert f"at {following}, links to {linked}, and after the record at {offset} the head is {here}" in found.text
    assert f"the record at {offset} was altered" in found.text
    assert not audit.log.void
    assert audit.log.breaks == [(offset, None)]
    assert audit.place == logs.place_before(len(logs.decisions))


def test_what_comes_behind_a_replaced_record_recomputes_and_a_second_lie_is_found_there(logs: Logs) -> None:
    first = logs.first(approved)
    second = next(r.offset for r in logs.decisions[first + 20 :] if approved(logs.body(r.offset)))
    lied = altered(logs, first, changed(logs.body(first), ["event", "resources", "0", "uri"], lambda _: "crm://7"))
    lied = altered(lied, second, logs.body(second) | {"decision": "deny"})
    audit = lied.audit()
    found = lied.findings(audit)
    kinds = {(Kind.VERDICT, first), (Kind.LINK, first), (Kind.VERDICT, second), (Kind.LINK, second)}
    assert kinds <= {(f.kind, f.offset) for f in found}
    assert audit.answers is not None
    assert not audit.answers.unproven


ALTERATIONS: dict[str, Callable[[Body], Body | None]] = {
    "its value": lambda body: body | {"x": 1},
    "prev": lambda body: body | {"prev": "0" * 64},
    "covers more": lambda body: changed(body, ["covers", "1"], lambda n: n + 1),
    "covers later": lambda body: body | {"covers": [n + 1 for n in body["covers"]]},
    "epoch": lambda body: body | {"epoch": body["epoch"] + 1},
    "writer": lambda body: body | {"writer": "f" * 32},
    "kind": lambda body: body | {"kind": "nothing"},
    "later": lambda body: body | {"t": body.get("t", 0) + 100_000},
    "gone": lambda _: None,
}


@pytest.mark.parametrize("how", ALTERATIONS)
def test_whichever_record_is_altered_it_is_the_one_that_is_named_and_the_rest_is_audited(logs: Logs, how: str) -> None:
    """Up to the last but one checkpoint: of what nobody has linked to yet, a checkpoint's word is all there is."""
    checkpoints = [r.offset for r in logs.decisions if logs.body(r.offset)["kind"] == "checkpoint"]
    linked = [r.offset for r in logs.decisions[: checkpoints[-2] - 1] if logs.body(r.offset)["kind"] not in UNLINKED]
    for offset in linked:
        lied = altered(logs, offset, ALTERATIONS[how](logs.body(offset)))
        audit = lied.audit(full=False)
        found = [f for record in lied.decisions for f in audit.take(record_of(record, VERIFIER))]
        found += audit.end(len(logs.decisions), len(logs.inputs))
        assert {f.offset for f in found} == {offset}, (offset, found)
        assert [f.offset for f in found if f.kind is Kind.LINK] == [offset]
        assert audit.place == logs.place_before(len(logs.decisions))
        assert audit.log.breaks == [(offset, None)]


@pytest.mark.parametrize("change", [{"decision": "deny"}, {}], ids=["its value", "its signature"])
def test_a_record_whose_signature_no_longer_fits_is_the_one_that_is_named(logs: Logs, change: Body) -> None:
    """In a signed realm an altered record is not authentic, so it does not count at all."""
    offset = logs.first(approved)
    lied = altered(logs, offset, logs.body(offset) | change) if change else logs
    audit = lied.audit(full=False)
    records = [record_of(record, VERIFIER) for record in lied.decisions]
    found = [f for r in records for f in audit.take(r._replace(authentic=r.offset != offset))]
    assert [(f.kind, f.offset) for f in found] == [(Kind.LINK, offset)]
    assert audit.log.void == {Void.NOT_AUTHENTIC: 1}
    assert audit.place == logs.place_before(len(logs.decisions))


def strangers(logs: Logs, believed: frozenset[int], start: Place | None = None) -> list[Finding]:
    """What is found by who believes these records only."""
    audit = logs.audit(start, full=False)
    records = [record_of(record, VERIFIER) for record in logs.decisions]
    found = [f for r in records for f in audit.take(r._replace(authentic=r.offset in believed))]
    return [*found, *audit.end(len(records), logs.inputs[-1].offset + 1)]


def test_a_log_of_which_nothing_is_authentic_is_no_log_without_a_mistake(logs: Logs) -> None:
    """Keys of another root, or a log that was overwritten as a whole: a worker halts there, too."""
    (found,) = strangers(logs, frozenset())
    assert (found.kind, found.offset) == (Kind.NOT_AUTHENTIC, 0)
    assert found.text.startswith(f"none of {len(logs.decisions):,} records is authentic here")
    assert "HARNESS_KEYS" in found.text


def test_strangers_beside_a_record_that_is_believed_are_void_and_no_finding(logs: Logs) -> None:
    assert strangers(logs, frozenset({logs.first(kind("claim"))})) == []


def test_who_begins_at_a_checkpoint_believes_that_one(logs: Logs) -> None:
    last = Place.genesis("i1", PARTITION)._replace(offset=len(logs.decisions) - 2)
    assert Kind.NOT_AUTHENTIC not in {f.kind for f in strangers(logs, frozenset(), last)}


UNLINKED = frozenset({"checkpoint", "claim", "notice"})


@pytest.mark.parametrize("change", [{"writer": "f" * 32}, {"epoch": 7}, {"kind": "nothing"}, {"x": 1}], ids=repr)
def test_an_altered_claim_is_named_too(logs: Logs, change: Body) -> None:
    offset = logs.first(kind("claim"))
    lied = altered(logs, offset, logs.body(offset) | change)
    audit = lied.audit(full=False)
    found = lied.findings(audit)
    assert (Kind.LINK, offset) in {(f.kind, f.offset) for f in found}
    assert {f.offset for f in found} == {offset}
    assert audit.place == logs.place_before(len(logs.decisions))


def test_what_stands_between_an_altered_claim_and_the_first_checkpoint_is_not_proven_and_that_is_said(
    logs: Logs,
) -> None:
    first, second = (r.offset for r in logs.decisions[:12] if logs.body(r.offset)["kind"] == "checkpoint")
    log = altered(logs, logs.first(kind("claim")), logs.body(0) | {"kind": "nothing"})
    log = Logs(log.inputs, altered(log, first, {"kind": "nothing"}).decisions[: second + 1])
    stated = Place.from_json(logs.body(second))
    log.append(logs.body(second))  # a partition at rest says it again
    audit = log.audit(full=False)
    (found,) = log.findings(audit)
    assert (found.kind, found.offset) == (Kind.LINK, 0)
    assert audit.log.breaks == [(0, (1, stated.offset))]
    assert (audit.place, audit.log.astray) == (stated, 0)


def test_after_an_altered_claim_the_next_one_has_the_right_epoch(logs: Logs) -> None:
    offset = logs.first(kind("claim"))
    place = logs.place_before(len(logs.decisions))
    claim = logs.body(offset) | {"epoch": place.header.epoch + 1, "writer": "e" * 32}
    lied = altered(logs, offset, logs.body(offset) | {"epoch": 7})
    lied.append(claim)
    assert {f.offset for f in lied.findings(lied.audit(full=False))} == {offset}


def test_a_former_owner_that_vouches_for_its_own_void_records_is_not_followed(logs: Logs) -> None:
    offset = logs.first(approved)
    log = Logs(list(logs.inputs), list(logs.decisions[: offset + 1]))
    old = log.place_before(offset + 1)
    link = {"prev": old.header.head, "covers": [old.header.next_input] * 2, "t": old.header.t}
    log.append(logs.body(logs.first(kind("claim"))) | {"epoch": old.header.epoch + 1, "writer": "e" * 32})
    mine = log.place_before(offset + 2).header
    reject = logs.body(logs.first(kind("reject"))) | link
    log.append(reject | {"epoch": mine.epoch, "writer": mine.writer, "prev": mine.head})
    end = log.place_before(offset + 3)
    log.append(reject | {"epoch": old.header.epoch, "writer": old.header.writer})
    void = record_of(log.decisions[-1], VERIFIER)
    stated = old.after(*void[:3])
    assert stated is not None
    checkpoint = logs.body(logs.first(kind("checkpoint"))) | stated.to_json()
    log.append(checkpoint)
    audit = log.audit(full=False)
    (found,) = log.findings(audit)
    assert (found.kind, found.offset) == (Kind.CHECKPOINT, offset + 4)
    assert audit.place == end


def test_where_nothing_behind_a_break_is_as_it_was_written_it_is_one_finding_all_the_same(logs: Logs) -> None:
    offset, log = logs.first(approved), logs
    for record in logs.decisions[offset:]:
        if logs.body(record.offset)["kind"] not in UNLINKED:
            log = altered(log, record.offset, logs.body(record.offset) | {"x": 1})
    audit = log.audit(full=False)
    schema, found = log.findings(audit)
    assert (schema.kind, schema.offset) == (Kind.SCHEMA, offset)
    assert (found.kind, found.offset) == (Kind.CHECKPOINT, offset)
    checkpoints = [r.offset for r in logs.decisions[offset:] if logs.body(r.offset)["kind"] == "checkpoint"]
    assert audit.log.astray == len(checkpoints) - 1
    following = next(r.offset for r in logs.decisions[offset + 1 :] if logs.body(r.offset)["kind"] not in UNLINKED)
    assert audit.log.stuck == (following, checkpoints[-1])


def test_a_log_that_ends_before_a_checkpoint_that_somebody_held(logs: Logs) -> None:
    newest = logs.checkpoints()[-1]
    short = Logs(logs.inputs, logs.decisions[: newest.offset])
    (found,) = short.findings(short.audit(held=(newest,)))
    assert (found.kind, found.offset) == (Kind.TRUNCATED, newest.offset)
    assert logs.findings(logs.audit(held=tuple(logs.checkpoints()))) == []
    (found,) = short.findings(short.audit(start=newest))
    assert (found.kind, found.offset) == (Kind.TRUNCATED, newest.offset)


@pytest.mark.parametrize("emptied", [False, True])
def test_all_checkpoints_that_one_cut_has_taken_are_one_finding_that_counts_them(logs: Logs, *, emptied: bool) -> None:
    """An emptied log gave as many lines as the heads topic had checkpoints."""
    held = tuple(dict.fromkeys(logs.checkpoints()))
    end = 0 if emptied else held[1].offset
    lost = [place for place in held if place.offset >= end]
    short = Logs(logs.inputs, logs.decisions[:end])
    (found,) = short.findings(short.audit(full=False, held=held))
    assert (found.kind, found.offset) == (Kind.TRUNCATED, end)
    assert f"the log ends at {end}; checkpoints outside of it: offset {lost[0].offset}, record" in found.text
    assert found.text.endswith(f", and {len(lost) - 1} more up to offset {lost[-1].offset}")
    (again,) = short.findings(short.audit(lost[0], full=False, held=tuple(lost)))
    assert again.text == found.text.replace("; ", f"; the start names offset {lost[0].offset}; ", 1)


def test_checkpoints_of_another_history_are_told_by_the_first_and_a_count_until_one_agrees(logs: Logs) -> None:
    held = list(dict.fromkeys(logs.checkpoints()))
    assert len(held) >= 6
    agrees = len(held) - 2
    others = [place if n == agrees else place._replace(digest="0" * 64) for n, place in enumerate(held)]
    first, more, last = logs.findings(logs.audit(full=False, held=tuple(others)))
    assert {first.kind, more.kind, last.kind} == {Kind.CHECKPOINT}
    assert [first.offset, more.offset, last.offset] == [held[n].offset for n in (0, 1, -1)]
    assert more.text.endswith(f", and {agrees - 2} more up to offset {held[agrees - 1].offset}")
    _, more = logs.findings(logs.audit(full=False, held=tuple(others[:agrees])))
    assert more.text.endswith(f", and {agrees - 2} more up to offset {held[agrees - 1].offset}")


def test_checkpoints_that_name_what_does_not_count_here_are_one_finding(logs: Logs) -> None:
    """A log that was cut has grown again by what counts nowhere."""
    at = [r.offset for r in logs.decisions if logs.body(r.offset)["kind"] == "checkpoint"]
    held = tuple(logs.checkpoints()[0]._replace(offset=offset) for offset in at)
    (found,) = logs.findings(logs.audit(full=False, held=held))
    assert (found.kind, found.offset) == (Kind.CHECKPOINT, at[0])
    assert found.text.endswith(f", and {len(at) - 1} more up to offset {at[-1]}")
    (found,) = logs.findings(logs.audit(full=False, held=held[:1]))
    assert found.text.endswith("which does not count here")


def test_an_input_log_that_ends_before_what_was_answered(logs: Logs) -> None:
    short = Logs(logs.inputs[:-2], logs.decisions)
    (found,) = short.findings(short.audit(full=False))
    assert (found.kind, found.offset) == (Kind.COVERAGE, logs.place_before(len(logs.decisions)).offset)
    assert f"the input log ends at {len(short.inputs)}" in found.text


@pytest.mark.parametrize("full", [False, True])
def test_a_log_that_is_not_the_one_a_checkpoint_was_taken_of(logs: Logs, *, full: bool) -> None:
    middle = logs.checkpoints()[1]
    other = middle._replace(digest="0" * 64)
    (found,) = logs.findings(logs.audit(start=other, full=full))
    assert (found.kind, found.offset) == (Kind.CHECKPOINT, middle.offset)
    (found,) = logs.findings(logs.audit(held=(other,), full=full))
    assert (found.kind, found.offset) == (Kind.CHECKPOINT, middle.offset)


# --- From a checkpoint ---


def test_from_a_checkpoint_nothing_is_recomputed_and_that_is_counted(logs: Logs) -> None:
    audit = logs.audit(start=logs.checkpoints()[1])
    assert logs.findings(audit) == []
    assert audit.answers is not None
    assert not audit.answers.recomputed
    assert set(audit.answers.unproven) == {"history before the start is not known"}
    assert audit.answers.unproven.total() > 20


def test_from_a_checkpoint_each_answer_is_still_held_against_its_input(logs: Logs) -> None:
    start = logs.checkpoints()[1]
    offset = next(r.offset for r in logs.decisions[start.offset + 1 :] if logs.body(r.offset)["kind"] == "verdict")
    lied = logs.ending_in(offset, logs.body(offset) | {"arguments_digest": "1" * 64})
    (found,) = lied.findings(lied.audit(start=start))
    assert (found.kind, found.offset) == (Kind.DIGEST, offset)


def test_the_quick_audit_needs_no_input_and_recomputes_nothing(logs: Logs) -> None:
    offset = logs.first(approved)
    lied = logs.ending_in(offset, logs.body(offset) | {"decision": "deny"})
    assert lied.findings(lied.audit(full=False)) == []
