"""What delegation and labels mean, by examples small enough to check by hand (DESIGN §5).

As in `test_window_semantics.py` the oracle is asked at every step. Of the agents of `scenarios.py`, ann delegates to
bob, cat and eve (of another lane), bob to ann, bob and cat, cat to bob; ann reaches three levels down, bob two; below
one intent ann may have two agents, bob and cat one. Bob may not send.
"""

import pytest
from scenario_runs import Tale

from harness_stream.core import limits
from tests.oracle_words import Predicate, Rule, Window

READ, SEND, GET = {"action": "crm.read"}, {"action": "email.send"}, {"action": "web.get"}
PERSONAL = {**READ, "resources": ("crm://a",)}


class TestDelegation:
    """An intent may name the approved intent of an agent that lists this one; depth, fan-out and actions are bounded."""

    def code(self, tale: Tale, gap_ms: int = 1, which: str = "approved", pick: int = 0, **over) -> str:
        body = tale.verdict(gap_ms, parent=(which, pick), **over)
        return body["decision"] if "rule" in body["reasons"][0] else body["reasons"][0]["code"]

    def tale(self, *rules: Rule) -> Tale:
        tale = Tale(*rules)
        assert tale.act(**GET) == "approve"
        return tale

    def test_a_listed_agent_may_act_for_an_approved_intent(self):
        assert self.code(self.tale(), agent="bob") == "approve"

    def test_an_agent_that_is_not_listed_may_not(self):
        tale = self.tale()
        tale.act(agent="cat")
        assert self.code(tale, agent="ann") == "delegation"

    def test_nor_for_an_intent_nobody_made_or_that_was_not_approved(self):
        tale = self.tale(Rule("never", "deny", Predicate(("crm.read",), tag="vip")))
        tale.act(1, **READ, labels=("vip",))
        assert self.code(tale, which="other", agent="bob") == "delegation"
        assert self.code(tale, which="nobody", agent="bob") == "delegation"

    def test_a_parent_is_remembered_for_a_while(self):
        assert self.code(self.tale(), limits.ID_MEMORY_MS, agent="bob") == "approve"
        assert self.code(self.tale(), limits.ID_MEMORY_MS + 1, agent="bob") == "delegation"

    def test_it_stays_in_its_lane(self):
        assert self.code(self.tale(), agent="eve") == "delegation_lane"

    def test_the_parent_agent_must_be_active(self):
        tale = Tale()
        tale.act(agent="bob")
        tale.flip("agent", "bob", status="suspended")
        assert self.code(tale, agent="cat") == "delegation"

    @pytest.mark.parametrize("agent", ["cat", "bob"])
    def test_so_must_all_before_it(self, agent: str):
        tale = Tale()
        tale.act(agent="cat")
        assert self.code(tale, agent="bob") == "approve"
        assert self.code(tale, agent="ann") == "approve"
        tale.flip("agent", agent, status="suspended")
        assert self.code(tale, pick=1, agent="ann") == "delegation"

    def test_depth_is_counted_from_each_ancestor(self):
        tale = self.tale()  # ann reaches three levels down
        assert [self.code(tale, agent=agent) for agent in ("cat", "bob", "cat")] == ["approve"] * 3
        assert self.code(tale, agent="bob") == "delegation"

    def test_depth_nought_delegates_nothing(self):
        tale = Tale()
        tale.act(agent="cat")
        assert self.code(tale, agent="bob") == "approve"
        tale.act(1, agent="cat")
        tale.flip("agent", "cat", delegation={"depth": 0, "fan_out": 2})
        assert self.code(tale, agent="bob") == "delegation"

    def test_fan_out_counts_agents_below_one_intent(self):
        tale = Tale()
        tale.act(agent="bob")  # bob's fan-out is 1
        assert self.code(tale, agent="cat") == "approve"
        assert self.code(tale, pick=1, agent="cat") == "approve"
        assert self.code(tale, pick=2, agent="ann") == "delegation"

    def test_only_an_approved_child_takes_a_place_and_an_answer_asks_again(self):
        tale = Tale(
            Rule("never", "deny", Predicate(("web.get",))), Rule("ask", "hold", Predicate(("crm.read",), tag="vip"))
        )
        tale.act(agent="bob", **READ)
        assert self.code(tale, agent="cat", **GET) == "deny"
        assert self.code(tale, agent="cat", **READ, labels=("vip",)) == "hold"
        assert self.code(tale, agent="ann", **READ) == "approve"
        assert tale.answer(1, approve=True) == "deny"

    def test_a_child_never_has_more_than_its_parent(self):
        tale = Tale()
        tale.act(agent="bob", **GET)
        assert self.code(tale, agent="cat", **GET) == "approve"
        assert self.code(tale, pick=1, agent="cat", **SEND) == "delegation"  # cat may send, bob may not

    def test_what_neither_may_is_for_the_rules_to_say(self):
        tale = self.tale()
        tale.flip("agent", "ann", actions=["email.send", "web.get"])
        assert self.code(tale, agent="bob", **SEND) == "approve"
        assert self.code(tale, pick=1, agent="bob", **READ) == "delegation"

    def test_one_who_may_only_act_for_another(self):
        tale = self.tale()
        tale.flip("agent", "cat", delegated_only=True)
        assert tale.verdict(agent="cat")["reasons"][0]["code"] == "delegation"
        assert self.code(tale, agent="cat") == "approve"

    def test_a_misdelegated_intent_is_an_attempt(self):
        attempts = Window("event_count", ("anything",), ("agent_id",), attempts=True, threshold=1)
        tale = Tale(Rule("often", "deny", window=attempts))
        assert self.code(tale, which="nobody", agent="bob") == "delegation"
        assert tale.act(agent="bob") == "deny"


class TestLabels:
    """A chain carries the labels of what it read, and so does a tree of delegation."""

    def tale(self) -> Tale:
        asks = Rule("ask", "hold", Predicate(("crm.read",), tag="vip"))
        return Tale(asks, Rule("tainted", "deny", Predicate(("email.send",), chain_label="pii")))

    def test_not_by_the_judged_intent_itself(self):
        assert self.tale().act(**SEND, resources=("crm://a",)) == "approve"

    def test_of_its_own_chain_only(self):
        tale = self.tale()
        tale.act(**PERSONAL)
        assert tale.act(1, **SEND) == "deny"
        assert tale.act(1, chain="case", **SEND) == "approve"
        assert tale.act(1, agent="cat", **SEND) == "approve"

    def test_a_hold_adds_nothing_until_it_is_approved(self):
        tale = self.tale()
        assert tale.act(**PERSONAL, labels=("vip",)) == "hold"
        assert tale.act(1, **SEND) == "approve"
        assert tale.answer(1) == "approve"
        assert tale.act(1, **SEND) == "deny"

    def test_a_parent_sees_what_its_children_read(self):
        tale = self.tale()
        tale.act(**GET)
        tale.act(1, agent="bob", parent=("approved", 0), **PERSONAL)
        assert tale.act(1, **SEND) == "deny"

    def test_a_child_sees_what_its_parent_read(self):
        tale = self.tale()
        tale.act(**PERSONAL)
        assert tale.act(1, agent="cat", parent=("approved", 0), **SEND) == "deny"
        assert tale.act(1, agent="cat", **SEND) == "approve"

    def test_siblings_share_one_set(self):
        tale = self.tale()
        tale.act(**GET)
        assert tale.act(1, agent="bob", parent=("approved", 0), **PERSONAL) == "approve"
        assert tale.act(1, agent="cat", parent=("approved", 1), **SEND) == "deny"

    def test_so_do_those_two_levels_apart(self):
        tale = self.tale()
        tale.act(**GET)
        tale.act(1, agent="cat", parent=("approved", 0), **GET)
        tale.act(1, agent="bob", parent=("approved", 0), **PERSONAL)
        assert tale.act(1, **SEND) == "deny"

    def test_another_chain_of_the_parent_is_another_tree(self):
        tale = self.tale()
        tale.act(chain="case", **GET)
        tale.act(1, agent="bob", parent=("approved", 0), **PERSONAL)
        assert tale.act(1, **SEND) == "approve"
        assert tale.act(1, chain="case", **SEND) == "deny"

    def test_whoever_acts_for_a_chain_sees_what_that_chain_read_for_others(self):
        tale = self.tale()
        tale.act(**GET)
        tale.act(1, agent="bob", parent=("approved", 0), **PERSONAL)  # in bob's own chain, for ann
        tale.act(1, agent="bob", **GET)
        assert tale.act(1, agent="cat", parent=("approved", 0), **READ) == "approve"
        assert tale.act(1, chain="case", parent=("approved", 1), **SEND) == "deny"

    def test_a_child_brings_along_what_its_own_chain_carries(self):
        tale = self.tale()
        tale.act(agent="cat", **PERSONAL)
        tale.act(1, **GET)
        assert tale.act(1, **SEND) == "approve"
        tale.act(1, agent="cat", parent=("approved", 1), **GET)
        assert tale.act(1, **SEND) == "deny"

    def test_and_what_others_read_for_it(self):
        tale = self.tale()
        tale.act(agent="cat", **GET)
        tale.act(1, agent="bob", parent=("approved", 0), **PERSONAL)
        assert tale.act(1, agent="cat", **SEND) == "deny"  # cat's chain carries it
        tale.act(1, **GET)
        tale.act(1, agent="cat", parent=("approved", 0), **GET)
        assert tale.act(1, **SEND) == "deny"

    def test_acting_for_another_cleans_nobody(self):
        tale = self.tale()
        tale.act(agent="cat", **GET)
        tale.act(1, agent="bob", parent=("approved", 0), **PERSONAL)
        tale.act(1, **GET)
        assert tale.act(1, agent="cat", parent=("approved", 0), **SEND) == "deny"
