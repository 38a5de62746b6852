"""The engine over a `State` says what a brute-force scan of the whole history says, however it is run (V1, V3).

A case is one answer of the engine that the oracle was asked about as well. CI compares at least CASES_MIN of them; with
`HARNESS_LONG=1` in the environment every property here gets 20 times as many scenarios, so at least 20 * CASES_MIN:

    HARNESS_LONG=1 python -m pytest tests/unit/core/test_engine_equals_oracle.py --timeout=0
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from scenario_runs import Run, Witness, said
from scenarios import TIMES, Scenario, scenarios, shown

from harness_stream.core import units
from harness_stream.core.apply import apply, apply_within, units_of
from harness_stream.core.decide import Arrival, decide
from harness_stream.core.deferred import groups_of, units_in
from harness_stream.core.intake import inputs_of
from harness_stream.core.model import Intent
from harness_stream.core.names import agent_unit
from harness_stream.core.rules.language import WINDOW_TYPES
from harness_stream.core.state import PARTITION_UNIT, State

CASES_MIN = 5_000 * TIMES


def pace(scenarios_in_ci: int):
    """So many scenarios, each as long as it takes."""
    return settings(max_examples=scenarios_in_ci * TIMES, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_engine_equals_the_oracle_on_every_step():
    seen: Counter[tuple[str, ...]] = Counter()

    @pace(500)
    @given(scenarios())
    def compared(scenario: Scenario):
        run = Run(scenario)
        witness = Witness(run)
        note(shown(scenario))
        for number, step in enumerate(scenario.steps):
            taken = run.step(step, number)
            if taken is not None:
                assert witness.hear(taken) == []
                seen.update(_features(scenario, taken.event, taken.body))

    compared()
    assert seen["case",] >= CASES_MIN
    assert [feature for feature in WANTED if seen[feature] < 5 * TIMES] == []


WANTED = (
    *((kind, answer) for kind in WINDOW_TYPES for answer in ("silent", "yes")),
    *((kind, "unknown") for kind in ("value_sum", "value_count")),
    *(
        ("denied", code)
        for code in ("agent_status", "workload", "chain_unknown", "chain_closed", "delegation", "delegation_lane")
    ),
    *(("denied", code) for code in ("default", "stale_facts", "hold_denied", "rule")),
    *(("outcome", status, said) for status in ("done", "abandoned") for said in ("accepted", "refused")),
    ("approval", "refused"),
    ("delegated", "approve"),
    ("chain label", "yes"),
    ("chain label", "silent"),
)
"""What generated histories must show, so that equality is not about nothing."""


def _features(scenario: Scenario, event: Any, body: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("case",)
    if body["kind"] == "ack":
        status = (event.status,) if event.type == "outcome" else ()
        yield (event.type, *status, body["status"])
        return
    if body["decision"] == "deny":
        yield "denied", body["reasons"][0]["code"]
    if event.type == "intent" and event.parent is not None:
        yield "delegated", body["decision"]
    spoke = said(body)
    for rule in scenario.rules if spoke else ():
        answer = spoke.get(rule.id, "silent")
        if rule.window is not None:
            yield rule.window.kind, answer
        if rule.when.chain_label is not None:
            yield "chain label", answer


class _Batches:
    """Opens, confirms, drops and rolls back micro-batches between the steps, as a worker does."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self._open: list[int] = []  # how many changes were there when each layer was opened

    def __call__(self, run: Run, number: int) -> None:
        for _ in range(self._data.draw(st.integers(0, 2), label=f"events before step {number}")):
            getattr(self, self._data.draw(st.sampled_from(["push", "push", "confirm", "drop", "rollback"])))(run)

    def push(self, run: Run) -> None:
        run.state.push()
        self._open.append(len(run.changes))

    def confirm(self, run: Run) -> None:
        if self._open:
            run.state.confirm()
            self._open.pop(0)

    def drop(self, run: Run) -> None:
        """A layer whose answers were never published."""
        step = next((s for s in run.scenario.steps if s.kind == "intent"), None)
        before = run.bookmark()
        run.state.push()
        if step is not None:
            run.step(step, 1_000_000)
        run.state.pop()
        run.back_to(before)

    def rollback(self, run: Run) -> None:
        """Everything in flight is dropped; what had landed is folded."""
        if self._open:
            run.state.rollback()
            landed = run.changes[self._open[0] :]
            self._open.clear()
            for change in landed:
                apply(run.state, change, run.windows)


@pace(100)
@given(scenarios(), st.data())
def test_micro_batches_and_rollbacks_change_no_record(scenario: Scenario, data: st.DataObject):
    assert Run(scenario).all(_Batches(data)) == Run(scenario).all()


@pace(100)
@given(scenarios(), st.integers(1, 10), st.integers(1, 10))
def test_a_restart_from_stored_units_changes_no_record(scenario: Scenario, first: int, second: int):
    bases: dict[str, bytes] = {}
    cut = 0

    def restart(run: Run, number: int) -> None:
        nonlocal bases, cut
        if number == first:
            cut = len(run.changes)
            bases = {u: units.encode_unit(run.state.confirmed(u), cut - 1, run.t) for u in run.state.units()}
            run.state = State()
            for name, base in bases.items():
                run.state.install(name, units.decode_unit(base)[0])
        if number == first + second:
            run.state = _replayed(run, bases, cut)

    assert Run(scenario).all(restart) == Run(scenario).all()


def _replayed(run: Run, bases: dict[str, bytes], cut: int) -> State:
    """Every unit from its base (if it has one) and the deltas after it, of which some are sent twice."""
    deltas: dict[str, list[bytes]] = {}
    for offset, change in enumerate(run.changes):
        if offset >= cut - 1:
            for name in units_of(change):
                deltas.setdefault(name, []).extend([units.Delta(change, offset).encoded(name)] * (1 + offset % 2))
    state = State()
    for name in {*bases, *deltas}:
        partition = run.state.confirmed(PARTITION_UNIT)
        state.install(name, units.replay_unit(name, bases.get(name), deltas.get(name, ()), partition, run.windows))
    return state


@pace(100)
@given(scenarios(), st.randoms(use_true_random=False))
def test_units_may_take_in_their_changes_in_any_order(scenario: Scenario, random):
    run = Run(scenario)
    run.all()
    waiting: dict[str, list[Any]] = {}
    for change in run.changes:
        for group in groups_of(change):
            waiting.setdefault(group, []).append(change)
    groups = list(waiting)
    random.shuffle(groups)
    taken: dict[str, Any] = {}
    for group in groups:
        alone = State()
        alone.install(PARTITION_UNIT, run.state.confirmed(PARTITION_UNIT))
        for change in waiting[group]:
            apply_within(alone, change, run.windows, group)
        taken.update((unit, alone.confirmed(unit)) for unit in units_in(group) if alone.confirmed(unit))
    assert taken == {unit: run.state.confirmed(unit) for unit in run.state.units() if unit != PARTITION_UNIT}


@pace(60)
@given(scenarios(), st.randoms(use_true_random=False))
def test_the_order_of_rules_changes_nothing(scenario: Scenario, random):
    shuffled = list(scenario.rules)
    random.shuffle(shuffled)
    there, here = Run(scenario).all(), Run(scenario, rules=tuple(shuffled)).all()
    assert [_but_digest(b) for b in there] == [_but_digest(b) for b in here]


def _but_digest(body):
    return {name: value for name, value in body.items() if name != "obligations"}


@pace(60)
@given(scenarios())
def test_a_verdict_recomputes_from_its_record_and_the_state_before_it(scenario: Scenario):
    def audit(run: Run, event: object, body: dict) -> None:
        if body["kind"] != "verdict" or body["reasons"][0]["code"] == "hold_denied":
            return
        hold = None
        if not isinstance(event, Intent):
            hold = run.state.get(agent_unit(event.agent_id), ("hold", body["intent_id"]))
            event = Intent.model_validate(hold["intent"])
        again = decide(
            event,
            Arrival(body["intent_digest"], run.t, body["t"]),
            inputs_of(body),
            run.state,
            run.windows,
            satisfied=frozenset(hold["rules"]) if hold else frozenset(),
            settles=hold["event"] if hold else None,
        )
        assert again.decision == body["decision"]
        assert list(again.reasons) == body["reasons"]
        assert again.event == body["event"]

    Run(scenario, audit=audit).all()
