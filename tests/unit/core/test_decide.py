"""Every reason the engine itself denies by, their order, and what a verdict says (DESIGN §4 to §6, PROTOCOL §8)."""

import factories as make
import pytest

from harness_stream.core import limits
from harness_stream.core.counting import cold_homes
from harness_stream.core.decide import decide, untimely
from harness_stream.core.delegation import ancestors
from harness_stream.core.ids import Remembered, ids_unit
from harness_stream.core.intake import join
from harness_stream.core.reasons import Deny
from harness_stream.core.state import State

NOW = make.NOW
PARENT = {"agent_id": "boss", "intent_id": make.uuid7(n=9)}


def decided(tables=None, state=None, rules=make.APPROVE_ALL, *, t: int = NOW, append_ms=None, at: int = NOW, **over):
    windows = make.windows(rules)
    intent = make.intent(**over)
    state = State() if state is None else state
    above = ancestors(state, intent, t)
    inputs = join(intent, tables or make.tables(), at, windows.program.fields_read, above)
    arrival = make.arrival(intent, t, append_ms=append_ms)
    return untimely(intent, arrival, at) or decide(intent, arrival, inputs, state, windows)


def code(result) -> str:
    return result.reasons[0]["code"]


def rules(*lines: str) -> str:
    return make.APPROVE_ALL + "".join(f"  - {line}\n" for line in lines)


class TestUnevaluated:
    """Neither evaluated nor counted: there is no chain event."""

    def refused(self, expected: Deny, *args, **kwargs):
        result = decided(*args, **kwargs)
        assert (result.decision, code(result), result.event) == ("deny", expected, None)

    def test_clock(self):
        self.refused(Deny.CLOCK, append_ms=NOW + limits.CLOCK_SKEW_MS_MAX + 1)
        assert decided(append_ms=NOW + limits.CLOCK_SKEW_MS_MAX).decision == "approve"

    def test_late(self):
        self.refused(Deny.LATE, at=NOW + 101, deadline_ms=100)
        assert decided(at=NOW + 100, deadline_ms=100).decision == "approve"

    def test_facts_behind(self):
        self.refused(Deny.FACTS_BEHIND, min_revision={"identity": 4})
        assert decided(min_revision={"identity": 3}).decision == "approve"

    def test_stale_identity(self):
        self.refused(Deny.STALE_FACTS, make.tables(fresh_as_of=NOW - limits.FRESH_MS_MAX - 1))
        assert decided(make.tables(fresh_as_of=NOW - limits.FRESH_MS_MAX)).decision == "approve"

    def test_broken_identity(self):
        tables = make.tables()
        tables["identity"].put("agent-1", b"{", 9)
        self.refused(Deny.STALE_FACTS, tables)

    def test_unknown_agent(self):
        self.refused(Deny.UNKNOWN_AGENT, agent_id="nobody")

    def test_the_first_that_applies_is_named(self):
        old = make.tables(fresh_as_of=0)
        late = {"at": NOW + 60_000, "min_revision": {"identity": 99}, "agent_id": "nobody"}
        self.refused(Deny.LATE, old, **late)
        self.refused(Deny.FACTS_BEHIND, old, **late | {"at": NOW})
        self.refused(Deny.STALE_FACTS, old, **late | {"at": NOW, "min_revision": {}})


class TestBarred:
    """Denied by the engine, but an attempt that history keeps."""

    def barred(self, expected: Deny, *args, **kwargs):
        result = decided(*args, **kwargs)
        assert (result.decision, code(result)) == ("deny", expected)
        assert result.event["decision"] == "deny"
        return result

    @pytest.mark.parametrize("status", ["suspended", "killed"])
    def test_agent_status(self, status: str):
        self.barred(Deny.AGENT_STATUS, make.tables(make.identity_row(status=status)))

    def test_workload(self):
        self.barred(Deny.WORKLOAD, workload_id="w-2")

    def test_chain_unknown_counts_in_the_own_chain(self):
        result = self.barred(Deny.CHAIN_UNKNOWN, chain_id="invented")
        assert result.event["chain_id"] == "agent:agent-1"

    def test_another_agents_own_chain_is_unknown(self):
        self.barred(Deny.CHAIN_UNKNOWN, chain_id="agent:agent-2")

    def test_the_own_chain_is_always_there(self):
        assert decided(chain_id="agent:agent-1").decision == "approve"

    def test_chain_closed(self):
        run = make.Story()
        run.take(make.mandate(expires_at=NOW + 10))
        state = run.state
        assert decided(state=state, chain_id="chain-1", t=NOW + 10).decision == "approve"
        result = self.barred(Deny.CHAIN_CLOSED, state=state, chain_id="chain-1", t=NOW + 11)
        assert result.event["chain_id"] == "chain-1"
        run.take(make.mandate(close=True))
        self.barred(Deny.CHAIN_CLOSED, state=state, chain_id="chain-1")

    @pytest.mark.parametrize("over", [{"workload_id": "w-2"}, {}])
    def test_an_attempt_brings_no_chain_into_being(self, over):
        story = make.Story()
        assert story.act(chain_id="invented", **over)["event"]["chain_id"] == "agent:agent-1"
        assert story.act(chain_id="invented")["reasons"][0]["code"] == Deny.CHAIN_UNKNOWN

    def test_status_comes_before_workload_and_workload_before_chain(self):
        tables = make.tables(make.identity_row(status="killed"))
        self.barred(Deny.AGENT_STATUS, tables, workload_id="w-2", chain_id="invented")
        self.barred(Deny.WORKLOAD, workload_id="w-2", chain_id="invented")


class TestDelegation:
    def tables(self, boss: dict | None = None, **child):
        rows = [make.identity_row(**child)]
        rows += [] if boss is None else [make.identity_row("boss", **{"delegates": ["agent-1"], **boss})]
        return make.tables(*rows)

    def state(self, decision: str = "approve", until: int = NOW) -> State:
        state = State()
        memory = Remembered(make.ZERO_DIGEST, until, decision, make.ZERO_DIGEST, NOW, None, "agent:boss")
        state.put(ids_unit(PARENT["intent_id"]), ("id", "boss", PARENT["intent_id"]), memory)
        return state

    def test_an_effective_approve_of_a_delegating_parent_passes(self):
        assert decided(self.tables({}), self.state(), parent=PARENT).decision == "approve"

    @pytest.mark.parametrize("boss", [None, {"delegates": []}, {"delegates": ["agent-2"]}])
    def test_a_parent_that_does_not_delegate_to_it(self, boss):
        assert code(decided(self.tables(boss), self.state(), parent=PARENT)) == Deny.DELEGATION

    @pytest.mark.parametrize("decision", ["deny", "hold"])
    def test_a_parent_that_is_no_approve(self, decision: str):
        assert code(decided(self.tables({}), self.state(decision), parent=PARENT)) == Deny.DELEGATION

    def test_a_parent_nobody_remembers(self):
        assert code(decided(self.tables({}), parent=PARENT)) == Deny.DELEGATION
        assert code(decided(self.tables({}), self.state(until=NOW - 1), parent=PARENT)) == Deny.DELEGATION

    def test_a_parent_in_another_lane(self):
        assert code(decided(self.tables({"tenant": "other"}), self.state(), parent=PARENT)) == Deny.DELEGATION_LANE

    def test_an_agent_that_may_act_only_for_a_parent(self):
        assert code(decided(self.tables({}, delegated_only=True))) == Deny.DELEGATION
        assert decided(self.tables({}, delegated_only=True), self.state(), parent=PARENT).decision == "approve"


class TestRules:
    READS_RISK = '{id: risky, effect: deny, when: "risk.present && risk.score > 0.5"}'

    def test_default_deny(self):
        result = decided(rules=make.APPROVE_ALL.replace('"true"', '"false"'))
        assert (result.decision, code(result)) == ("deny", Deny.DEFAULT)

    def test_a_stale_table_denies_by_the_rules_that_read_it_only(self):
        tables = make.tables()
        tables["risk"].fresh_as_of = 0
        assert decided(tables).decision == "approve"
        result = decided(tables, rules=rules(self.READS_RISK))
        assert (result.decision, code(result), result.reasons[0]["rule"]) == ("deny", Deny.STALE_FACTS, "risky")

    def test_a_broken_row_of_a_table_is_as_good_as_stale(self):
        tables = make.tables()
        tables["risk"].put("agent:agent-1", b"{", 4)
        assert code(decided(tables, rules=rules(self.READS_RISK))) == Deny.STALE_FACTS

    def test_a_shadow_rule_that_reads_a_stale_table_denies_nothing(self):
        tables = make.tables()
        tables["risk"].fresh_as_of = 0
        shadow = self.READS_RISK.replace("effect: deny", "effect: deny, mode: shadow")
        result = decided(tables, rules=rules(shadow))
        assert result.decision == "approve"
        assert [r["code"] for r in result.shadow] == [Deny.STALE_FACTS]

    def test_shadow_rules_are_recorded_not_enforced(self):
        result = decided(rules=rules('{id: watch, effect: deny, mode: shadow, when: "true"}'))
        assert result.decision == "approve"
        assert [r["rule"] for r in result.shadow] == ["watch"]

    def test_deny_over_hold_over_approve(self):
        hold = '{id: ask, effect: hold, when: "true"}'
        deny = '{id: never, effect: deny, when: "true"}'
        held = decided(rules=rules(hold))
        assert (held.decision, held.hold_until) == ("hold", NOW + limits.HOLD_MS_DEFAULT)
        assert held.event["hold_until"] == held.hold_until
        assert decided(rules=rules(hold, deny)).decision == "deny"

    def test_any_resource_is_enough_to_deny_and_all_are_needed_to_approve(self):
        crm = 'intent.resource.system == "crm"'
        both = ("crm://a", "mail://b")
        deny = rules(f"{{id: never, effect: deny, when: '{crm}'}}")
        assert decided(rules=deny, resources=both).decision == "deny"
        approve = make.APPROVE_ALL.replace('"true"', f"'{crm}'")
        assert decided(rules=approve, resources=both).decision == "deny"
        assert decided(rules=approve, resources=("crm://a", "crm://b")).decision == "approve"

    def test_an_intent_without_resources_is_judged_once(self):
        approve = make.APPROVE_ALL.replace('"true"', "'intent.resource.uri == \"\"'")
        assert decided(rules=approve, resources=()).decision == "approve"

    def test_an_error_on_one_resource_is_not_hidden_by_another(self):
        """A hold that a person can satisfy must not swallow the error of the same rule."""
        fails = "risk.score > 0.5"  # without a row
        ask = rules(f"{{id: ask, effect: hold, when: 'intent.resource.system == \"crm\" || ({fails})'}}")
        both = {"resources": ("crm://a", "mail://b")}
        result = decided(rules=ask, **both)
        assert (result.decision, code(result), result.reasons[0]["rule"]) == ("deny", Deny.RULE_ERROR, "ask")
        shadow = ask.replace("effect: hold", "effect: hold, mode: shadow")
        assert decided(rules=shadow, **both).decision == "approve"

    def test_a_rule_that_spends_its_budget_denies_and_the_reason_says_so(self):
        """No legal row is that long: it stands for whatever the estimate of a condition's cost may have overlooked."""
        text = rules("{id: known, effect: approve, when: 'identity.actions.exists(a, a == \"never\")'}")
        windows, intent = make.windows(text), make.intent()
        inputs = join(intent, make.tables(), NOW, windows.program.fields_read, ())
        endless = {**inputs, "identity": {**inputs["identity"], "actions": ["crm.read"] * 20_000}}
        result = decide(intent, make.arrival(intent, NOW, append_ms=None), endless, State(), windows)
        assert result.decision == "deny"
        (reason,) = [r for r in result.reasons if r["rule"] == "known"]
        assert reason["code"] == Deny.RULE_ERROR
        assert reason["detail"] == "budget spent: the condition took more than 10,000 loop steps"

    def test_a_rule_may_ask_for_the_parent(self):
        ask = rules("{id: never, effect: deny, when: 'intent.parent.startsWith(\"b\")'}")
        assert decided(rules=ask).decision == "approve"
        delegation = TestDelegation()
        assert decided(delegation.tables({}), delegation.state(), ask, parent=PARENT).reasons[0]["rule"] == "never"

    def test_obligations_of_the_approving_rules_are_merged(self):
        approve = make.APPROVE_ALL.replace('when: "true"', 'when: "true", obligations: {rows_max: 10}')
        more = '{id: b, effect: approve, when: "true", obligations: {rows_max: 5}}'
        assert decided(rules=approve + f"  - {more}\n").obligations == {"rows_max": 5}


class TestWindowsInRules:
    RULES = """
rule_set: test
default: deny
selections:
  reads: event.action == "crm.read"
  sends: event.action == "email.send"
rules:
  - {id: everything, effect: approve, when: "true"}
  - id: flood
    effect: deny
    when: reads
    because: three are enough
    correlation: {type: event_count, rules: [reads], group-by: [agent_id], timespan: 5s, condition: {gt: 3}}
  - id: leak
    effect: deny
    when: sends
    correlation: {type: temporal, rules: [reads], group-by: [chain_id], timespan: 5s}
"""

    def test_the_judged_intent_is_included(self):
        story = make.Story(self.RULES)
        decisions = [story.act(t=NOW + n)["decision"] for n in range(4)]
        assert decisions == ["approve", "approve", "approve", "deny"]

    def test_denied_ones_do_not_count(self):
        story = make.Story(self.RULES)
        for n in range(6):
            story.act(t=NOW + n)
        assert story.act(t=NOW + 5_001)["decision"] == "approve"

    def test_exactly_the_timespan_ago_still_counts(self):
        story = make.Story(self.RULES)
        story.act()
        assert story.act(t=NOW + 5_000, action="email.send")["decision"] == "deny"
        assert story.act(t=NOW + 5_001, action="email.send")["decision"] == "approve"

    def test_reasons_name_the_rule_and_the_events(self):
        story = make.Story(self.RULES)
        ids = [story.act(t=NOW + n)["intent_id"] for n in range(3)]
        reason = story.act(t=NOW + 3)["reasons"][0]
        assert reason["rule"] == "flood"
        assert reason["because"] == "three are enough"
        assert reason["evidence"] == ids

    def test_a_request_changes_nothing_by_being_judged(self):
        story = make.Story(self.RULES)
        for _ in range(10):
            assert decided(state=story.state, rules=self.RULES).decision == "approve"


def test_the_largest_measure_is_kept_as_it_can_be_written():
    result = decided(measures={"rows": limits.INTEGER_MAX, "amount": "0.000001", "half": "1.50"})
    assert result.event["measures"] == {"rows": limits.INTEGER_MAX, "amount": "0.000001", "half": "1.5"}


def test_units_are_warmed_once_after_each_switch():
    story = make.Story()
    for t in (NOW, NOW + 2):
        event = story.act(t)["event"]
        assert cold_homes(story.state, event, story.windows) == []
        story.switch(make.APPROVE_ALL.replace("rules:", f"params: {{at: {t}}}\nrules:"), t + 1)
        assert sorted(cold_homes(story.state, event, story.windows)) == ["a:agent-1", "l:tenant-1"]


def test_deciding_leaves_no_trace_in_the_state():
    """A verdict may yet be replaced by a smaller one that says nothing of the event: what it warmed would be lost."""
    correlated = make.APPROVE_ALL.replace("rules:\n  -", "selections: {all: 'true'}\nrules:\n  -") + """
  - id: many
    effect: deny
    when: all
    correlation: {type: event_count, rules: [all], group-by: [agent_id], timespan: 1h, condition: {gt: 50}}
"""
    story = make.Story()
    story.act()
    story.switch(correlated, NOW + 1)
    before = {unit: dict(story.state.confirmed(unit)) for unit in story.state.all_units()}
    story.intake.answer(make.intent(intent_id=make.uuid7(NOW, 9)), make.arrival(t=NOW + 2), NOW + 2)
    assert story.state.in_flight == 0
    assert {unit: story.state.confirmed(unit) for unit in story.state.all_units()} == before
