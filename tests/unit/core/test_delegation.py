"""A child never has more than its parent: neither rights nor a cleaner history (DESIGN §5)."""

import json

import factories as make
import pytest

from harness_stream.core import limits, units
from harness_stream.core.apply import units_of
from harness_stream.core.intake import units_needed
from harness_stream.core.names import agent_unit, lane_unit
from harness_stream.core.reasons import Deny
from harness_stream.core.state import PARTITION_UNIT

NOW = make.NOW
PII = {"subject": "resource:crm://*", "labels": ["pii"]}
RULES = (
    make.APPROVE_ALL + '  - {id: tainted, effect: deny, when: \'intent.action == "mail.send" && "pii" in chain.labels\'}\n'
)
BOSS, MID, LEAF = "boss", "mid", "leaf"


class Tree:
    """boss → mid → leaf, and what each of them asks."""

    def __init__(self, **rows):
        given = {
            BOSS: {"delegates": [MID, "mid-2", LEAF]},
            MID: {"delegates": [LEAF]},
            "mid-2": {"delegates": []},
            LEAF: {},
        }
        identities = [make.identity_row(name, **{**fields, **rows.get(name, {})}) for name, fields in given.items()]
        self.tables = make.tables(*identities, classification=[PII])
        self.story = make.Story(RULES, tables=self.tables)
        self.number = 100

    def put(self, row: dict) -> None:
        identity = self.tables["identity"]
        identity.put(row["agent_id"], json.dumps(row).encode(), identity.revision + 1)

    def ask(self, agent: str, parent: dict | None = None, *, at: int = NOW, **over) -> dict:
        self.number += 1
        over = {"action": "web.get", "resources": (), **over}
        about = None if parent is None else {"agent_id": parent["agent_id"], "intent_id": parent["intent_id"]}
        event = make.intent(agent_id=agent, intent_id=make.uuid7(at, self.number), parent=about, **over)
        return self.story.take(event, at)

    def read(self, agent: str, parent: dict | None = None) -> dict:
        return self.ask(agent, parent, action="crm.read", resources=("crm://a",))

    def send(self, agent: str, parent: dict | None = None) -> str:
        body = self.ask(agent, parent, action="mail.send")
        assert body["decision"] == "approve" or body["reasons"][0]["rule"] == "tainted"
        return body["decision"]


def why(body: dict) -> tuple[str, str]:
    assert body["decision"] == "deny", body
    return body["reasons"][0]["code"], body["reasons"][0].get("detail", "")


class TestRights:
    def test_a_grandchild_acts_for_the_root(self):
        tree = Tree()
        mid = tree.ask(MID, tree.ask(BOSS))
        leaf = tree.ask(LEAF, mid)
        assert leaf["decision"] == "approve"
        assert leaf["event"]["lineage"]["root"] == [BOSS, "agent:boss"]
        assert leaf["event"]["lineage"]["above"] == [BOSS, MID]

    def test_depth_is_the_shortest_anyone_above_allows(self):
        tree = Tree(boss={"delegation": {"depth": 1}})
        mid = tree.ask(MID, tree.ask(BOSS))
        assert mid["decision"] == "approve"
        assert why(tree.ask(LEAF, mid)) == (Deny.DELEGATION, "2 levels below boss, which allows 1")

    def test_fan_out_counts_agents_not_intents(self):
        tree = Tree(boss={"delegation": {"fan_out": 1}})
        root = tree.ask(BOSS)
        assert [tree.ask(MID, root)["decision"] for _ in range(3)] == ["approve"] * 3
        code, detail = why(tree.ask("mid-2", root))
        assert (code, detail) == (Deny.DELEGATION, "the parent intent has 1 children, as many as it may")
        assert tree.ask("mid-2", tree.ask(BOSS))["decision"] == "approve", "another intent, another count"

    def test_what_an_agent_above_may_not_do_its_child_may_not_do_for_it(self):
        both = ["web.get", "mail.send"]
        tree = Tree(boss={"actions": ["web.get"]}, mid={"actions": both}, leaf={"actions": both})
        mid = tree.ask(MID, tree.ask(BOSS))
        assert why(tree.ask(LEAF, mid, action="mail.send"))[0] == Deny.DELEGATION
        assert tree.ask(LEAF, mid)["decision"] == "approve"
        assert tree.ask(LEAF, action="mail.send")["decision"] == "approve", "for itself it may"

    @pytest.mark.parametrize("status", ["suspended", "killed"])
    def test_whoever_is_stopped_stops_what_is_done_for_it(self, status: str):
        tree = Tree()
        mid = tree.ask(MID, tree.ask(BOSS))
        tree.put(make.identity_row(BOSS, delegates=[MID], status=status))
        assert why(tree.ask(LEAF, mid)) == (Deny.DELEGATION, "boss, for whom this is done, is not active")

    def test_delegation_ends_an_hour_after_its_last_use(self):
        tree = Tree()
        root = tree.ask(BOSS)
        assert tree.ask(MID, root, at=NOW + 60_000)["decision"] == "approve"
        last = NOW + 60_000 + limits.DELEGATION_IDLE_MS
        assert tree.ask(MID, root, at=last)["decision"] == "approve"
        assert why(tree.ask(MID, root, at=last + limits.DELEGATION_IDLE_MS + 1))[0] == Deny.DELEGATION

    def test_it_ends_with_the_chain_of_the_root(self):
        tree = Tree(orchestrator={})
        tree.put(make.identity_row("orchestrator", roles=["orchestrator"]))
        tree.story.take(make.mandate(agent_id=BOSS, expires_at=NOW + 90_000))
        root = tree.ask(BOSS, chain_id="chain-1")
        mid = tree.ask(MID, root, at=NOW + 60_000)
        assert tree.ask(LEAF, mid, at=NOW + 90_000)["decision"] == "approve"
        assert why(tree.ask(LEAF, mid, at=NOW + 90_001))[0] == Deny.CHAIN_CLOSED

    def test_and_when_that_is_closed(self):
        tree = Tree()
        tree.put(make.identity_row("orchestrator", roles=["orchestrator"]))
        tree.story.take(make.mandate(agent_id=BOSS, expires_at=NOW + 90_000))
        root = tree.ask(BOSS, chain_id="chain-1")
        mid = tree.ask(MID, root)
        tree.story.take(make.mandate(agent_id=BOSS, close=True))
        assert why(tree.ask(MID, root))[0] == Deny.CHAIN_CLOSED
        assert why(tree.ask(LEAF, mid))[0] == Deny.CHAIN_CLOSED

    def test_it_ends_with_the_chain_of_anybody_between(self):
        """Who acts for the leaf is its parent's parent's child as well."""
        tree = Tree(boss={"delegation": {"depth": 3}}, mid={"delegates": ["mid-2"]})
        tree.put(make.identity_row("mid-2", delegates=[LEAF]))
        tree.put(make.identity_row("orchestrator", roles=["orchestrator"]))
        tree.story.take(make.mandate(agent_id=MID, expires_at=NOW + 90_000))
        mid = tree.ask(MID, tree.ask(BOSS), chain_id="chain-1")
        second = tree.ask("mid-2", mid)
        assert tree.ask(LEAF, second)["decision"] == "approve"
        tree.story.take(make.mandate(agent_id=MID, close=True))
        assert why(tree.ask(LEAF, second)) == (Deny.CHAIN_CLOSED, "of mid, for whom this is done")

    def test_everybody_above_is_in_memory_before_it_is_judged(self):
        tree = Tree(boss={"delegation": {"depth": 3}}, mid={"delegates": ["mid-2"]})
        tree.put(make.identity_row("mid-2", delegates=[LEAF]))
        second = tree.ask("mid-2", tree.ask(MID, tree.ask(BOSS)))
        leaf = make.intent(agent_id=LEAF, intent_id=make.uuid7(NOW, 999), parent={"agent_id": "mid-2", "intent_id": second["intent_id"]})
        assert {agent_unit(name) for name in (BOSS, MID, "mid-2", LEAF)} <= set(units_needed(leaf, tree.tables, tree.story.state))


class TestLabels:
    """One tree, one live set of labels."""

    def test_what_the_parent_read_its_child_carries(self):
        tree = Tree()
        tree.read(BOSS)
        assert tree.send(MID, tree.ask(BOSS)) == "deny"
        assert tree.send(MID) == "approve", "for itself it is clean"

    def test_what_a_child_read_the_parent_and_its_other_children_carry(self):
        tree = Tree()
        root = tree.ask(BOSS)
        mid = tree.ask(MID, root)
        tree.read(LEAF, mid)
        assert tree.send("mid-2", root) == "deny"
        assert tree.send(BOSS) == "deny"
        assert tree.send("mid-2") == "approve"

    def test_what_the_parent_reads_later_its_child_carries(self):
        tree = Tree()
        root = tree.ask(BOSS)
        assert tree.send(MID, root) == "approve"
        tree.read(BOSS)
        assert tree.send(MID, root) == "deny"

    def test_a_child_brings_along_what_it_carries(self):
        tree = Tree()
        tree.read(MID)
        root = tree.ask(BOSS)
        assert tree.send(BOSS) == "approve"
        tree.ask(MID, root)
        assert tree.send(BOSS) == "deny"

    def test_a_denied_attempt_adds_nothing(self):
        tree = Tree(mid={"workloads": []})
        tree.read(MID, tree.ask(BOSS))
        assert tree.send(BOSS) == "approve"

    def test_a_chain_takes_no_more_labels_than_its_limit(self):
        tree = Tree()
        full = limits.CHAIN_LABELS_MAX // limits.LABELS_MAX
        for n in range(full):
            assert tree.ask(BOSS, labels=[f"l{n}-{i}" for i in range(limits.LABELS_MAX)])["decision"] == "approve"
        assert why(tree.ask(BOSS, labels=["one-more"]))[0] == Deny.TOO_LARGE
        assert tree.ask(BOSS, labels=["l0-0"])["decision"] == "approve"


class TestTheDirectParent:
    """A child never has more than whom it acts for, however deep in the tree, and however its parent came to it."""

    def test_what_the_parent_read_on_its_own_its_child_carries(self):
        tree = Tree()
        mid = tree.ask(MID, tree.ask(BOSS))
        tree.read(MID)
        assert tree.send(LEAF, mid) == "deny"

    def test_leaving_out_the_parent_sheds_nothing(self):
        tree = Tree()
        tree.read(BOSS)
        tree.ask(MID, tree.ask(BOSS))
        assert tree.send(MID) == "deny"

    def test_who_delegates_no_more_ends_what_is_below(self):
        tree = Tree()
        mid = tree.ask(MID, tree.ask(BOSS))
        tree.put(make.identity_row(BOSS, delegates=[]))
        assert why(tree.ask(LEAF, mid)) == (Deny.DELEGATION, "boss does not delegate any more to who acts for it")

    def test_the_end_of_its_chain_ends_what_is_below(self):
        tree = Tree()
        tree.put(make.identity_row("orchestrator", roles=["orchestrator"]))
        tree.story.take(make.mandate(agent_id=MID))
        mid = tree.ask(MID, tree.ask(BOSS), chain_id="chain-1")
        tree.story.take(make.mandate(agent_id=MID, close=True))
        assert why(tree.ask(LEAF, mid))[0] == Deny.CHAIN_CLOSED

    def test_a_hold_is_answered_after_the_parents_id_is_forgotten(self):
        asking = make.APPROVE_ALL + "  - {id: ask, effect: hold, when: 'intent.action == \"pay.out\"'}\n"
        tree = Tree()
        tree.story = make.Story(asking, tables=tree.tables)
        tree.put(make.identity_row("approver", roles=["approver"], tenant="people"))
        assert tree.ask(MID, tree.ask(BOSS), action="pay.out")["decision"] == "hold"
        answer = make.approval(agent_id=MID, hold_digest=tree.story.digests[-1])
        assert tree.story.take(answer, NOW + limits.HOLD_MS_DEFAULT)["decision"] == "approve"

    def test_nobody_above_answers_the_hold(self):
        asking = make.APPROVE_ALL + "  - {id: ask, effect: hold, when: 'intent.action == \"pay.out\"'}\n"
        tree = Tree(boss={"roles": ["approver"]})
        tree.story = make.Story(asking, tables=tree.tables)
        tree.ask(MID, tree.ask(BOSS), action="pay.out")
        answer = make.approval(agent_id=MID, by=BOSS, hold_digest=tree.story.digests[-1])
        assert tree.story.take(answer)["reason"] == "not_approver"

    def test_a_close_ends_the_tree_though_the_row_is_away(self):
        tree = Tree()
        tree.put(make.identity_row("orchestrator", roles=["orchestrator"]))
        tree.story.take(make.mandate(agent_id=BOSS))
        root = tree.ask(BOSS, chain_id="chain-1")
        tree.ask(MID, root)
        identity = tree.tables["identity"]
        identity.put(BOSS, b"{broken", identity.revision + 1)
        assert tree.story.take(make.mandate(agent_id=BOSS, close=True))["status"] == "accepted"
        tree.put(make.identity_row(BOSS, delegates=[MID]))
        assert why(tree.ask(MID, root))[0] == Deny.CHAIN_CLOSED

    def test_its_mandate_bounds_the_child(self):
        bound = 'intent.action == "mail.send" && mandate.present && !mandate.allows("send", "mail")'
        tree = Tree()
        tree.story = make.Story(make.APPROVE_ALL + f"  - {{id: bound, effect: deny, when: '{bound}'}}\n", tables=tree.tables)
        tree.put(make.identity_row("orchestrator", roles=["orchestrator"]))
        tree.story.take(make.mandate(agent_id=BOSS, action_classes=[{"operation": "send", "object": "mail"}]))
        tree.story.take(make.mandate(agent_id=MID, mandate_id=make.uuid7(n=5), chain_id="narrow"))
        root = tree.ask(BOSS, chain_id="chain-1")
        assert tree.ask(LEAF, root, action="mail.send")["decision"] == "approve"
        mid = tree.ask(MID, root, chain_id="narrow")
        assert tree.ask(LEAF, mid, action="mail.send")["reasons"][0]["rule"] == "bound"

    def test_a_tree_that_ended_long_ago_is_none_forgotten_or_not(self):
        tree = Tree()
        tree.put(make.identity_row("orchestrator", roles=["orchestrator"]))
        tree.story.take(make.mandate(agent_id=BOSS, expires_at=NOW + 1_000))
        tree.read(BOSS)
        tree.ask(MID, tree.ask(BOSS, chain_id="chain-1"))
        at = NOW + limits.TIMESPAN_MS_MAX_DEFAULT + 2 * limits.DELEGATION_IDLE_MS
        for number, chain in enumerate(("chain-2", "chain-1")):
            opened = make.mandate(agent_id=BOSS, chain_id=chain, mandate_id=make.uuid7(at, number), expires_at=at + 9_000)
            assert tree.story.take(opened, at)["status"] == "accepted"
        assert tree.ask(MID, tree.ask(BOSS, chain_id="chain-1", at=at), at=at)["decision"] == "approve"


def test_every_unit_replays_alone():
    tree = Tree()
    changes = tree.story.changes
    root = tree.ask(BOSS)
    tree.read(LEAF, tree.ask(MID, root))
    tree.ask("mid-2", root)
    tree.read(BOSS)
    deltas: dict[str, list[bytes]] = {}
    for offset, change in enumerate(changes):
        for unit in units_of(change):
            deltas.setdefault(unit, []).append(units.Delta(change, offset).encoded(unit))
    state = tree.story.state
    partition = state.confirmed(PARTITION_UNIT)
    for unit in state.units():
        if unit != PARTITION_UNIT:
            again = units.replay_unit(unit, None, deltas[unit], partition, tree.story.windows)
            assert again == state.confirmed(unit), unit
            stored, _ = units.decode_unit(units.encode_unit(again, 0, NOW))
            assert stored == again
    assert any(key[0] == "tree" for key in state.confirmed(lane_unit("tenant-1")))


def test_what_is_approved_for_another_ends_with_the_first_of_all_mandates():
    tree = Tree(**{name: {"roles": ["orchestrator"]} for name in (BOSS, MID, LEAF)})

    def opened(agent, lasts_ms):
        tree.number += 1
        mandate = make.mandate(
            agent_id=agent, by=agent, chain_id="case", mandate_id=make.uuid7(NOW, tree.number), expires_at=NOW + lasts_ms
        )
        assert tree.story.take(mandate)["status"] == "accepted"

    opened(BOSS, 7_000)
    opened(LEAF, 9_000)
    boss = tree.ask(BOSS, chain_id="case")
    mid = tree.ask(MID, boss)
    leaf = tree.ask(LEAF, mid, chain_id="case")
    assert [body.get("ends_at") for body in (boss, mid, leaf)] == [NOW + 7_000] * 3
    alone = [tree.ask(LEAF, chain_id="case"), tree.ask(LEAF)]
    assert [body.get("ends_at") for body in alone] == [NOW + 9_000, None]
