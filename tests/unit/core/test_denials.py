"""A run of intents denied without a look is one record, and says no less than so many verdicts (`core.denials`).

The laws hold whatever stands beside the run: each input is answered as if it were alone, and the history is the same.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import factories as make
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness_stream.core import limits
from harness_stream.core.backlog import LASTING_MS, Backlog
from harness_stream.core.denials import DENIALS, Denied, answers_in, denials, groups_of_denials
from harness_stream.core.fold import fold_header
from harness_stream.core.ids import Remembered, ids_unit, memory_of
from harness_stream.core.lanes import partition_of
from harness_stream.core.rate import LaneRates, Rate
from harness_stream.core.reasons import Deny, Garbage, Refuse, Reject
from harness_stream.core.records import RECORDS
from harness_stream.core.state import State
from harness_stream.core.units import encode_unit
from harness_stream.errors import GarbageRecord
from harness_stream.ports import LogRecord
from harness_stream.runtime.batch import Batch, Handling, Taken
from harness_stream.wire.codec import encode
from harness_stream.wire.decisions import digest_of, encode_body

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness_stream.core.fold import Header
    from harness_stream.core.intake import Input

NOW = make.NOW
DEADLINE_MS = limits.DEADLINE_MS_DEFAULT
LATE_MS, LONG_MS, AHEAD_MS = DEADLINE_MS + 1, DEADLINE_MS // 2 + 1, -limits.CLOCK_SKEW_MS_MAX - 1
UNEVALUATED = {Deny.LATE, Deny.CLOCK, Deny.RATE, Deny.OVERLOAD}
PARTITIONS = 2
RULES = make.APPROVE_ALL.replace("rules:\n  -", "selections:\n  everything: 'true'\nrules:\n  -", 1) + """
  - {id: ask, effect: hold, when: 'intent.action == "email.send"'}
  - id: flood
    effect: deny
    when: everything
    correlation: {type: event_count, rules: [everything], group-by: [agent_id], timespan: 1h, condition: {gt: 3}}
"""
HOME = partition_of("tenant-1", PARTITIONS)
ELSEWHERE = next(name for n in range(99) if partition_of(name := f"lane-{n}", PARTITIONS) != HOME)
NEAR = next(name for n in range(99) if partition_of(name := f"lane-{n}", PARTITIONS) == HOME)
AGENTS = ("agent-1", "agent-2", 'ä"\\😀', "nobody", "away")


def rows() -> dict[str, Any]:
    others = {"agent-2": NEAR, 'ä"\\😀': NEAR, "away": ELSEWHERE}
    return make.tables(*make.people(), *(make.identity_row(agent, tenant=lane) for agent, lane in others.items()))


BEGUN = NOW - 20_000
OLD, HELD = make.uuid7(BEGUN, 1), make.uuid7(BEGUN, 2)


# --- What comes in ---


class Sent(NamedTuple):
    """An input and when it was appended.

    Attributes:
        append_ms: epoch ms.
        event: None for garbage.
        hole: offsets without a record before it, as transaction markers leave them.
        handling: how far it may be looked at.
    """

    append_ms: int
    event: Input | None
    hole: int = 0
    handling: Handling = Handling.EVALUATE


class History:
    """Where both ways begin: an approval to report of, and a hold to answer."""

    def __init__(self, *, rate: Rate | None = None, shedding: bool = False, t: int = BEGUN) -> None:
        self.state = State()
        self.intake = make.intake(self.state, RULES, tables=rows(), partition=HOME, partitions=PARTITIONS)
        self.header = make.started()._replace(partition=HOME)
        asked = (make.intent(intent_id=OLD), make.intent(intent_id=HELD, action="email.send"))
        self.digests = [self.take(n, event) for n, event in enumerate(asked)]
        self.header = self.header._replace(t=t)
        self.intake.rates = None if rate is None else LaneRates(rate)
        self.intake.backlog = Backlog()
        for at_ms in range(NOW - LASTING_MS, NOW + 1, LASTING_MS // 4):
            self.intake.backlog.too_long(LONG_MS if shedding else 0, DEADLINE_MS, at_ms)
        assert self.intake.backlog.shedding is shedding

    def take(self, offset: int, event: Input) -> str:
        batch = Batch(self.header, self.intake, BEGUN)
        batch.take(taken(offset, Sent(BEGUN, event)), Handling.EVALUATE)
        batch.finish()
        self.header = batch.header
        return batch.records[0].digest




def taken(offset: int, sent: Sent) -> Taken:
    value = b"garbage" if sent.event is None else encode(sent.event)
    garbage = GarbageRecord(Garbage.NOT_JSON) if sent.event is None else None
    return Taken(LogRecord("intents", HOME, offset, None, value, sent.append_ms), sent.event, garbage)


def numbered(first: int, inputs: Sequence[Sent]) -> Iterator[tuple[Taken, Handling]]:
    offset = first
    for sent in inputs:
        offset += sent.hole
        yield taken(offset, sent), sent.handling
        offset += 1


# Most are denied, so that runs are long and everything else stands inside of them, before and behind.
WAITS_MS = (*(LATE_MS,) * 4, LATE_MS + 700, LATE_MS + 700, LONG_MS, LONG_MS, AHEAD_MS, AHEAD_MS - 5_000, 0, 1_000, -1_000)
OTHERS = ("again", "changed", "child", "outcome", "bypass", "approval", "mandate", "garbage")
KINDS = (*("intent",) * 14, *OTHERS)
HANDLED = (*(Handling.EVALUATE,) * 20, Handling.UNAVAILABLE, Handling.QUARANTINE)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from((*AGENTS[:3] * 3, *AGENTS)),
        st.sampled_from(WAITS_MS),
        st.integers(0, 9),
        st.sampled_from((0, 0, 0, 0, 2)),
        st.sampled_from(HANDLED),
    ),
    max_size=14,
)


def inputs_of(steps: Sequence[tuple[Any, ...]], digests: Sequence[str]) -> list[Sent]:
    """What the steps send; some of it names an intent from earlier on."""
    sent: list[Sent] = []
    for number, (kind, agent, waited_ms, which, hole, handling) in enumerate(steps):
        intents = [s.event for s in sent if s.event is not None and s.event.type == "intent"]
        about = intents[which % len(intents)] if intents else None
        sent.append(Sent(NOW - waited_ms, _event(kind, agent, number, about, digests), hole, handling))
    return sent


def _event(kind: str, agent: str, number: int, about: Any, digests: Sequence[str]) -> Input | None:
    own_id = make.uuid7(NOW, 100 + number)
    asked = make.intent(agent_id=agent, by=agent, intent_id=own_id)
    named = about or asked  # the first one has nothing before it
    named_by = {"agent_id": named.agent_id, "intent_id": named.intent_id}
    return {
        "intent": asked,
        "again": named,
        "changed": named.model_copy(update={"purpose": "another"}),
        "child": make.intent(agent_id=agent, by=agent, intent_id=own_id, parent=named_by),
        "outcome": make.outcome(intent_id=OLD, verdict_digest=digests[0], outcome_id=own_id),
        "bypass": make.outcome(**named_by, by=named.agent_id, outcome_id=own_id),
        "approval": make.approval(hold_digest=digests[1], approval_id=own_id),
        "mandate": make.mandate(chain_id=f"c-{number}", mandate_id=own_id),
        "garbage": None,
    }[kind]


# --- Both ways of answering ---


class Answered(NamedTuple):
    """What a history's inputs got."""

    history: History
    before: Header
    batches: list[Batch]

    @property
    def records(self) -> list[Any]:
        return [linked for batch in self.batches for linked in batch.records]

    def said(self) -> list[dict[str, Any]]:
        """Each answer as readers have it, without what the log's links make different."""
        bodies = [json.loads(linked.value) for linked in self.records]
        return [{k: v for k, v in body.items() if k != "prev"} for each in bodies for body in answers_in(each)]

    def known(self) -> dict[str, Any]:
        """The state, all digests of these records alike."""
        state, own = self.history.state, {linked.digest for linked in self.records}
        found = {unit: encode_unit(state.confirmed(unit), 0, 0).decode() for unit in state.units()}
        for digest in own:
            found = {unit: text.replace(digest, "own") for unit, text in found.items()}
        return {unit: sorted(map(json.dumps, json.loads(text)["items"])) for unit, text in found.items()}


def together(history: History, inputs: Sequence[Sent]) -> Answered:
    """As one micro-batch."""
    before, batch = history.header, Batch(history.header, history.intake, NOW)
    history.state.push()
    for each, handling in numbered(before.next_input, inputs):
        batch.take(each, handling)
    batch.finish()
    history.state.confirm()
    return Answered(history, before, [batch])


def alone(history: History, inputs: Sequence[Sent]) -> Answered:
    """Each as a micro-batch of its own."""
    before, batches = history.header, []
    for each, handling in numbered(before.next_input, inputs):
        batch = Batch(history.header, history.intake, NOW)
        batch.take(each, handling)
        batch.finish()
        history.header = batch.header
        batches.append(batch)
    return Answered(history, before, batches)


def skips_joined(said: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Garbage next to garbage is one skip in a batch; its offsets say which."""
    joined: list[dict[str, Any]] = []
    for body in said:
        if body["kind"] == "skip" and joined and joined[-1]["kind"] == "skip":
            first = joined[-1]
            joined[-1] = first | {"covers": [first["covers"][0], body["covers"][1]], "offsets": first["offsets"] + body["offsets"]}
        else:
            joined.append(body)
    return [{k: v for k, v in b.items() if b["kind"] != "skip" or k not in {"count", "digest"}} for b in joined]


RATES = st.sampled_from((None, Rate(1, 1), Rate(1, 3), Rate(1_000, 1_000)))
HISTORIES = st.fixed_dictionaries({"rate": RATES, "shedding": st.booleans(), "t": st.sampled_from((BEGUN, NOW - LATE_MS, NOW + 3_000))})
laws = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@laws
@given(steps=STEPS, history=HISTORIES)
def test_each_input_gets_what_it_would_get_alone_and_history_is_the_same(steps: Any, history: Any) -> None:
    one, other = History(**history), History(**history)
    inputs = inputs_of(steps, one.digests)
    runs, each = together(one, inputs), alone(other, inputs)
    assert skips_joined(runs.said()) == skips_joined(each.said())
    assert runs.known() == each.known()
    assert not any(linked.body["kind"] == DENIALS for linked in each.records), "a lone denial is a verdict"


@laws
@given(steps=STEPS, history=HISTORIES)
def test_answers_tile_the_inputs_and_every_record_counts_and_keeps_its_schema(steps: Any, history: Any) -> None:
    begun = History(**history)
    inputs = inputs_of(steps, begun.digests)
    answered = together(begun, inputs)
    header = answered.before
    for linked in answered.records:
        body = json.loads(linked.value)
        RECORDS[body["kind"]].model_validate(body)
        header = fold_header(header, body, digest_of(linked.value))
        assert header == linked.header
    covers = [[answered.before.next_input - 1] * 2, *(body["covers"] for body in answered.said())]
    assert all(after[0] == before[1] + 1 and after[0] <= after[1] for before, after in pairwise(covers))
    last = [each.record.offset for each, _ in numbered(answered.before.next_input, inputs)][-1:]
    assert covers[-1][1:] == (last or [answered.before.next_input - 1])
    times = [answered.before.t, *(body["t"] for body in answered.said())]
    assert all(before <= after for before, after in pairwise(times))


# --- Examples of what stands in a run, and what ends it ---


def lone(n: int, **over: Any) -> Any:
    return make.intent(**{"intent_id": make.uuid7(NOW, n), **over})


def kinds_and_rows(answered: Answered) -> list[tuple[str, int]]:
    return [(linked.body["kind"], len(linked.body.get("denied", ()))) for linked in answered.records]


def late(event: Input | None, waited_ms: int = LATE_MS) -> Sent:
    return Sent(NOW - waited_ms, event)


def test_intents_denied_next_to_each_other_are_one_record_whatever_they_are_denied_for() -> None:
    history = History(rate=Rate(1, 1), shedding=True)
    asked = [late(lone(1)), Sent(NOW - AHEAD_MS, lone(2)), late(lone(3), LONG_MS), late(lone(4), LONG_MS)]
    answered = together(history, asked)
    assert kinds_and_rows(answered) == [(DENIALS, 4)]
    assert [row["code"] for row in answered.records[0].body["denied"]] == ["late", "clock", "overload", "rate"]


def test_a_lone_one_is_a_verdict_as_ever() -> None:
    history = History()
    expected = history.intake.answer(lone(1), make.Arrival(digest_of(encode(lone(1))), NOW - LATE_MS, NOW - LATE_MS), NOW)
    answered = together(history, [late(lone(1))])
    assert kinds_and_rows(answered) == [("verdict", 0)]
    assert {name: answered.records[0].body[name] for name in expected} == expected
    assert expected["reasons"] == [{"code": "late", "detail": f"{LATE_MS} ms after append, deadline {DEADLINE_MS} ms"}]


@pytest.mark.parametrize(
    "between",
    [
        Sent(NOW, lone(9)),
        Sent(NOW, None),
        Sent(NOW, make.mandate()),
        Sent(NOW, make.approval()),
        Sent(NOW, make.outcome()),
        late(lone(9, agent_id="away")),
        late(lone(2)),
        Sent(NOW - LATE_MS, lone(9), 0, Handling.UNAVAILABLE),
        Sent(NOW - LATE_MS, lone(9), 0, Handling.QUARANTINE),
    ],
    ids=["evaluated", "garbage", "mandate", "approval", "outcome", "misplaced", "copy", "unavailable", "quarantined"],
)
def test_whatever_is_answered_in_another_way_ends_the_run(between: Sent) -> None:
    asked = [late(lone(1)), late(lone(2)), between, late(lone(3)), late(lone(4))]
    found = kinds_and_rows(together(History(), asked))
    assert [kind for kind, _ in found][::2] == [DENIALS, DENIALS]
    assert (len(found), found[1][0] != DENIALS) == (3, True)


def test_a_copy_inside_of_the_run_is_a_duplicate_and_other_bytes_under_the_id_are_reused() -> None:
    asked = [late(lone(1)), late(lone(2)), late(lone(1)), late(lone(2, purpose="another"))]
    answered = together(History(), asked)
    assert [body.get("reason") for body in answered.said()] == [None, None, Reject.DUPLICATE, Reject.ID_REUSED]


def test_an_id_belongs_to_its_agent_and_another_ones_ends_no_run() -> None:
    answered = together(History(), [late(lone(1)), late(lone(1, agent_id="agent-2", by="agent-2"))])
    assert kinds_and_rows(answered) == [(DENIALS, 2)]


def test_an_outcome_of_one_in_the_run_is_a_bypass() -> None:
    report = Sent(NOW, make.outcome(intent_id=make.uuid7(NOW, 1)))
    answered = together(History(), [late(lone(1)), late(lone(2)), report])
    assert answered.said()[-1]["reason"] == Refuse.BYPASS


def test_a_child_is_judged_after_its_parents_run() -> None:
    parent = {"agent_id": "agent-1", "intent_id": make.uuid7(NOW, 1)}
    answered = together(History(), [late(lone(1)), late(lone(2)), late(lone(3, parent=parent)), late(lone(4))])
    assert kinds_and_rows(answered) == [(DENIALS, 2), (DENIALS, 2)]


def test_chain_time_goes_on_inside_of_the_run_never_back_and_not_by_what_lies_in_the_future() -> None:
    waited = (LATE_MS + 500, LATE_MS, AHEAD_MS, LATE_MS + 900, LATE_MS)
    answered = together(History(), [late(lone(n), ms) for n, ms in enumerate(waited)])
    first, last = NOW - LATE_MS - 500, NOW - LATE_MS
    assert [row["t"] for row in answered.records[0].body["denied"]] == [first, last, last, last, last]
    assert answered.records[0].header.t == answered.records[0].body["t"] == last
    remembered = [row["remember_until"] for row in answered.records[0].body["denied"]]
    assert remembered == [body["remember_until"] for body in alone(History(), [late(lone(n), ms) for n, ms in enumerate(waited)]).said()]


def test_each_of_a_run_is_remembered_as_denied_by_its_record() -> None:
    answered = together(History(), [late(lone(n)) for n in range(5)])
    [linked] = answered.records
    assert linked.units == {ids_unit(make.uuid7(NOW, n)) for n in range(5)} == {*groups_of_denials(linked.body)}
    for n in range(5):
        known = memory_of(answered.history.state, "agent-1", make.uuid7(NOW, n))
        row = linked.body["denied"][n]
        assert known == Remembered(digest_of(encode(lone(n))), row["remember_until"], "deny", linked.digest, row["t"], None, None)


# --- Sizes ---

WIDE = ("😀" * limits.IDENTIFIER_CHARS_MAX, '"' * limits.IDENTIFIER_CHARS_MAX, "\\" * limits.IDENTIFIER_CHARS_MAX)


@pytest.mark.parametrize("name", WIDE, ids=["four bytes", "quotes", "backslashes"])
def test_a_run_of_the_longest_names_and_details_fits_into_records(name: str) -> None:
    """A lane's name is part of why it is refused."""
    lane = next(lane for n in range(99) if partition_of(lane := f"{name[:-2]}{n:02}", PARTITIONS) == HOME)
    history = History(rate=Rate(1, 1))
    history.intake.tables = make.tables(make.identity_row(name, tenant=lane))
    answered = together(history, [Sent(NOW, lone(n, agent_id=name, by=name)) for n in range(1, 600)])
    runs = [linked for linked in answered.records if linked.body["kind"] == DENIALS]
    assert len(runs) > 1, "more than fits into one"
    assert all(lane in row["detail"] for linked in runs for row in linked.body["denied"])
    assert all(len(linked.value) > limits.DENIALS_BYTES_MAX / 8 for linked in runs[:-1])
    assert all(len(linked.value) <= limits.DECISION_BYTES_MAX for linked in answered.records)
    for linked in answered.records:
        body = json.loads(linked.value)
        RECORDS[body["kind"]].model_validate(body)
    assert len(answered.said()) == 599


TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=300) | st.text('\x00\x1f"\\\U0010ffff', max_size=300)


@given(agent=TEXTS, detail=TEXTS | st.none(), number=st.integers(0, limits.INTEGER_MAX), code=st.sampled_from(sorted(UNEVALUATED)))
def test_a_row_takes_no_more_than_it_says_whatever_its_texts(agent: str, detail: str | None, number: int, code: Deny) -> None:
    told = Denied(number, agent, make.uuid7(), "f" * 64, "f" * 64, "f" * 32, str(code), detail, number)
    none, one = (len(encode_body(denials(run, number, {}))) for run in ([(0, told)], [(0, told), (number, told)]))
    assert one - none <= told.bytes_max


def test_the_largest_row_and_what_stands_around_the_rows_fit_beside_a_full_run() -> None:
    lane = "\x01" * limits.IDENTIFIER_CHARS_MAX
    told = Denied(NOW, lane, make.uuid7(), "f" * 64, "f" * 64, "f" * 32, "rate", f"lane {lane}: more than {Rate(10**9, 10**9)}", NOW)
    around = make.linked({"rules": {"digest": "f" * 64, "revision": limits.INTEGER_MAX}, "engine": "e" * 64, "kind": DENIALS})
    assert limits.DENIALS_BYTES_MAX + told.bytes_max + 2 * len(encode_body(around)) < limits.DECISION_BYTES_MAX
