"""The engine over a `State` says what a brute-force scan of the whole history says, however it is run (V1, V3)."""

import functools

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenarios import Expected, Run, Scenario, said, scenarios

from harness_stream.core import units
from harness_stream.core.apply import apply, units_of
from harness_stream.core.decide import Arrival, decide
from harness_stream.core.intake import inputs_of
from harness_stream.core.model import Intent
from harness_stream.core.state import PARTITION_UNIT, State, agent_unit

pace = functools.partial(settings, deadline=None, suppress_health_check=list(HealthCheck))


@pace(max_examples=80)
@given(scenarios())
def test_the_engine_equals_the_oracle_on_every_step(scenario: Scenario):
    run = Run(scenario)
    expected = Expected(run)
    for number, step in enumerate(scenario.steps):
        body = run.step(step, number)
        if body is None or body["kind"] != "verdict":
            continue
        if step.kind == "answer":
            assert said(body) == expected.of_answer(body, approve=step.approve)
        else:
            assert said(body) == expected.of_intent(step, body)


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
        before = (run.t, list(run.bodies), list(run.changes), list(run.open_holds))
        run.state.push()
        if step is not None:
            run.step(step, 1_000_000)
        run.state.pop()
        run.t, run.bodies, run.changes, run.open_holds = before

    def rollback(self, run: Run) -> None:
        """Everything in flight is dropped; what had landed is folded."""
        if self._open:
            run.state.rollback()
            landed = run.changes[self._open[0] :]
            self._open.clear()
            for change in landed:
                apply(run.state, change, run.windows)


@pace(max_examples=30)
@given(scenarios(), st.data())
def test_micro_batches_and_rollbacks_change_no_record(scenario: Scenario, data: st.DataObject):
    assert Run(scenario).all(_Batches(data)) == Run(scenario).all()


@pace(max_examples=30)
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
                deltas.setdefault(name, []).extend([units.encode_change(change, offset)] * (1 + offset % 2))
    state = State()
    for name in {*bases, *deltas}:
        partition = run.state.confirmed(PARTITION_UNIT)
        state.install(name, units.replay_unit(name, bases.get(name), deltas.get(name, ()), partition, run.windows))
    return state


@pace(max_examples=15)
@given(scenarios(), st.randoms(use_true_random=False))
def test_the_order_of_rules_changes_nothing(scenario: Scenario, random):
    shuffled = list(scenario.rules)
    random.shuffle(shuffled)
    there, here = Run(scenario).all(), Run(scenario, rules=tuple(shuffled)).all()
    assert [_but_digest(b) for b in there] == [_but_digest(b) for b in here]


def _but_digest(body):
    return {name: value for name, value in body.items() if name != "obligations"}


@pace(max_examples=25)
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
