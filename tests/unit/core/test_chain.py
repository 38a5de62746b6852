"""What effective records do to agents, chains and windows, and what a switch of rules leaves alone (DESIGN §5)."""

import json

import factories as make
import pytest

from harness_stream.core import limits
from harness_stream.core.chain import chain_of, event_bytes
from harness_stream.core.ids import remembered
from harness_stream.core.rules.windows import Windows
from harness_stream.core.state import State

NOW = make.NOW


def rules(*correlated: str, when: str = "true") -> str:
    text = "  - {{id: r{n}, effect: deny, when: {when!r}, correlation: {{{c}}}}}\n"
    lines = [text.format(n=n, when=when, c=c) for n, c in enumerate(correlated)]
    selections = "selections:\n  reads: 'event.action == \"crm.read\"'\n  sends: 'event.action == \"email.send\"'\n"
    return make.APPROVE_ALL.replace("rules:\n", f"{selections}rules:\n") + "".join(lines)


def counted(group: str = "agent_id", gt: int = 2, timespan: str = "1h", more: str = "") -> str:
    shape = f"type: event_count, rules: [reads], group-by: [{group}], timespan: {timespan}{more}"
    return f"{shape}, condition: {{gt: {gt}}}"


def decisions(story: make.Story, count: int, **over) -> list[str]:
    return [story.act(**over)["decision"] for _ in range(count)]


class TestChains:
    def test_the_own_chain_is_there_before_its_first_event(self):
        assert chain_of(State(), "agent-1", "agent:agent-1") is not None
        assert chain_of(State(), "agent-1", "agent:agent-2") is None

    def test_a_mandate_opens_and_closes_a_chain(self):
        story = make.Story()
        story.take(make.mandate())
        assert story.chain("chain-1").mandate["declared_by"] == "orchestrator"
        assert story.chain("chain-1").closed_at is None
        story.take(make.mandate(close=True), t=NOW + 5)
        assert story.chain("chain-1").closed_at == NOW + 5

    def test_an_intent_stands_in_the_chain_it_names(self):
        story = make.Story()
        story.take(make.mandate())
        story.act(chain_id="chain-1")
        assert [story.chain(c).events for c in ("chain-1", "agent:agent-1")] == [1, 0]

    def test_an_invented_chain_counts_in_the_own_chain(self):
        story = make.Story()
        story.act(chain_id="invented")
        assert story.chain().kept[0]["decision"] == "deny"
        assert chain_of(story.state, "agent-1", "invented") is None

    def test_one_agents_chain_is_unknown_to_another(self):
        story = make.Story(tables=make.tables(*make.people(), make.identity_row("agent-2")))
        story.take(make.mandate())
        assert story.act(agent_id="agent-2", chain_id="chain-1")["reasons"][0]["code"] == "chain_unknown"

    def test_an_ended_chain_is_let_go_when_no_window_reaches_it(self):
        story = make.Story()
        story.take(make.mandate(expires_at=NOW + 1))
        later = NOW + limits.TIMESPAN_MS_MAX_DEFAULT
        story.take(make.mandate(chain_id="chain-2", expires_at=later + 100), t=later + 1)
        assert chain_of(story.state, "agent-1", "chain-1") is not None
        story.take(make.mandate(chain_id="chain-3", expires_at=later + 100), t=later + 2)
        assert chain_of(story.state, "agent-1", "chain-1") is None


class TestLabels:
    ROWS = ({"subject": "resource:crm://*", "labels": ["pii"]}, {"subject": "tool:crm.read", "labels": ["crm"]})

    def test_a_chain_carries_the_labels_of_what_it_read(self):
        story = make.Story(tables=make.tables(classification=self.ROWS))
        story.act(labels=["own"])
        story.act(resources=["file:///x"], labels=["more"], action="web.get")
        assert story.chain().labels == ("crm", "more", "own", "pii")

    def test_what_was_denied_was_not_read(self):
        story = make.Story(make.APPROVE_ALL.replace('"true"', '"false"'), tables=make.tables(classification=self.ROWS))
        story.act()
        assert story.chain().labels == ()


class TestKept:
    def test_at_most_512_events(self):
        story = make.Story()
        for n in range(limits.KEPT_EVENTS_MAX // 2 + 10):
            story.act(t=NOW + n)
        assert len(story.chain().kept) <= limits.KEPT_EVENTS_MAX
        assert story.chain().kept_bytes <= limits.KEPT_BYTES_MAX
        assert story.chain().events == limits.KEPT_EVENTS_MAX // 2 + 10

    def test_at_most_64_kib(self):
        story = make.Story()
        for n in range(40):
            story.act(t=NOW + n, resources=[f"crm://{'x' * 2_000}"])
        chain = story.chain()
        assert chain.kept_bytes == sum(map(event_bytes, chain.kept)) <= limits.KEPT_BYTES_MAX

    def test_an_answered_hold_is_one_event(self):
        story = make.Story(make.APPROVE_ALL.replace("effect: approve", "effect: hold"))
        story.act()
        story.take(make.approval(hold_digest=story.digests[-1], decision="deny"), t=NOW + 1)
        chain = story.chain()
        assert (chain.events, len(chain.kept), chain.kept[0]["decision"]) == (1, 1, "deny")
        assert chain.kept_bytes == event_bytes(chain.kept[0])


class TestMemory:
    def test_an_id_is_remembered_up_to_its_end(self):
        story = make.Story()
        body = story.act()
        until = body["remember_until"]
        assert until >= NOW + limits.ID_MEMORY_MS
        assert remembered(story.state, "agent-1", body["intent_id"], until).decision == "approve"
        assert remembered(story.state, "agent-1", body["intent_id"], until + 1) is None


class TestHoldsInWindows:
    RULES = make.APPROVE_ALL + """
  - {id: ask, effect: hold, when: 'intent.action == "email.send"'}
  - id: limit
    effect: deny
    when: sends
    correlation: {type: event_count, rules: [sends], group-by: [resource.zone], timespan: 1h, condition: {gt: 1}}
"""
    RULES = RULES.replace("rules:\n  -", "selections:\n  sends: 'event.action == \"email.send\"'\nrules:\n  -", 1)

    def test_a_hold_in_flight_counts_and_an_expired_one_does_not(self):
        story = make.Story(self.RULES)
        assert decisions(story, 2, action="email.send") == ["hold", "deny"]
        later = NOW + limits.HOLD_MS_DEFAULT
        assert story.act(t=later, action="email.send")["decision"] == "deny"
        assert story.act(t=later + 1, action="email.send")["decision"] == "hold"

    def test_an_answered_hold_leaves_the_group_it_was_in_even_if_the_facts_moved(self):
        tables = make.tables(classification=({"subject": "resource:crm://*", "zone": "inner"},))
        story = make.Story(self.RULES, tables=tables)
        story.act(action="email.send")
        tables["classification"].put("resource:crm://*", b'{"subject":"resource:crm://*","zone":"outer"}', 1)
        answered = story.take(make.approval(hold_digest=story.digests[-1]), t=NOW + 1)
        assert answered["decision"] == "approve"
        tables["classification"].put("resource:crm://*", b'{"subject":"resource:crm://*","zone":"inner"}', 2)
        assert story.act(t=NOW + 2, action="email.send")["decision"] == "hold"

    def test_a_hold_whose_agent_vanished_is_denied_and_counts_no_more(self):
        tables = make.tables()
        story = make.Story(self.RULES, tables=tables)
        story.act(action="email.send")
        row = json.dumps(make.identity_row()).encode()
        tables["identity"].put("agent-1", None, 9)
        answered = story.take(make.approval(hold_digest=story.digests[-1]), t=NOW + 1)
        assert (answered["decision"], answered["event"]["decision"]) == ("deny", "deny")
        tables["identity"].put("agent-1", row, 10)
        assert story.act(t=NOW + 2, action="email.send")["decision"] == "hold"


class TestSwitch:
    def test_an_unchanged_window_keeps_its_count_whatever_its_rule_is_called(self):
        story = make.Story(rules(counted(gt=5)))
        assert decisions(story, 2) == ["approve"] * 2
        story.switch(rules(counted(gt=3)).replace("id: r0", "id: renamed"))
        assert decisions(story, 2) == ["approve", "deny"]

    @pytest.mark.parametrize("group", ["agent_id", "chain_id", "tenant", "purpose"])
    def test_a_new_window_that_nobody_warmed_is_unknown_until_its_timespan_has_passed(self, group: str):
        story = make.Story(make.APPROVE_ALL)
        story.act()
        story.switch(rules(counted(group, gt=2, timespan="5s")), t=NOW)
        assert story.act(t=NOW + 5_000)["reasons"][0]["unknown"]
        assert story.act(t=NOW + 5_001)["decision"] == "approve"

    def test_a_lane_without_a_history_has_nothing_unknown(self):
        story = make.Story(make.APPROVE_ALL)
        story.switch(rules(counted("tenant", gt=2, timespan="5s")))
        assert decisions(story, 3) == ["approve", "approve", "deny"]

    @pytest.mark.parametrize("between", [0, 1])
    def test_a_window_that_comes_back_without_being_warmed_is_unknown(self, between: int):
        """Whether the agent acted in between or not, nobody knows what it did meanwhile."""
        story = make.Story(rules(counted(gt=2)))
        decisions(story, 1)
        story.switch(make.APPROVE_ALL, t=NOW)
        decisions(story, between)
        story.switch(rules(counted(gt=2)), t=NOW)
        assert story.act()["reasons"][0]["unknown"]

    def test_attempts_and_values_of_parameters_make_another_window(self):
        def ids(text: str) -> list[str]:
            return [spec.id for spec in Windows(make.windows(text).program).specs]

        assert ids(rules(counted(gt=1))) == ids(rules(counted(gt=2)))
        assert ids(rules(counted())) != ids(rules(counted(more=", include: attempts")))
