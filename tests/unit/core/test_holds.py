"""Which holds are open, by the records alone (PROTOCOL §8)."""

import factories as make
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core import limits
from harness_stream.core.chain import open_holds
from harness_stream.core.holds import Holds

NOW = make.NOW
ASKING = make.APPROVE_ALL + '  - {id: ask, effect: hold, when: \'intent.action == "email.send"\'}\n'
SEND = {"action": "email.send"}


class Told:
    """A story, and what the fold for people makes of it."""

    def __init__(self, rules=ASKING):
        self.story, self.holds, self._offset = make.Story(rules), Holds(), 0

    def take(self, event, t=NOW):
        body = self.story.take(event, t)
        self.holds.take(self._offset, self.story.digests[-1], t + 1, {**body, "covers": [self._offset] * 2})
        self._offset += 1
        return body

    def answered(self, hold, t=NOW + 10, **over):
        return self.take(make.approval(hold_digest=hold.digest, hold_offset=hold.offset, **over), t)


def held(*times):
    told = Told()
    for n, t in enumerate(times):
        assert told.take(make.intent(intent_id=make.uuid7(t, n), **SEND), t)["decision"] == "hold"
    return told


def test_a_hold_tells_what_an_answer_has_to_name():
    told = held(NOW)
    (hold,) = told.holds.open_at(NOW)
    assert (hold.offset, hold.digest, hold.append_ms) == (0, told.story.digests[0], NOW + 1)
    assert (hold.agent_id, hold.intent_id) == ("agent-1", make.uuid7(NOW))
    assert (hold.asked_at, hold.until) == (NOW, NOW + limits.HOLD_MS_DEFAULT)
    assert [reason["rule"] for reason in hold.asking] == ["ask"]


def test_the_longest_waiting_comes_first():
    told = held(NOW + 5, NOW + 6, NOW + 6)
    assert [hold.offset for hold in told.holds.open_at(NOW + 6)] == [0, 1, 2]


def test_it_ends_by_chain_time_without_a_record():
    told = held(NOW)
    assert told.holds.open_at(NOW + limits.HOLD_MS_DEFAULT)
    assert told.holds.open_at(NOW + limits.HOLD_MS_DEFAULT + 1) == []
    assert len(told.holds.all()) == 1


def test_an_answer_ends_it_and_is_kept_with_it():
    for decision, became in (("approve", "approve"), ("deny", "deny")):
        told = held(NOW)
        (hold,) = told.holds.open_at(NOW)
        told.answered(hold, decision=decision)
        settled = told.holds.settled(hold)
        assert told.holds.open_at(NOW) == []
        assert (settled.hold, settled.body["decision"], settled.offset) == (hold, became, 1)


def test_an_answer_that_changed_nothing_leaves_it_open():
    told = held(NOW)
    (hold,) = told.holds.open_at(NOW)
    assert told.answered(hold, by="nobody")["reason"] == "not_approver"
    assert told.holds.open_at(NOW) == [hold]
    (refused,) = told.holds.refused(hold)
    assert (refused.offset, refused.input_offset, refused.body["reason"]) == (1, 1, "not_approver")


def test_refusals_of_before_it_and_of_others_are_none_of_it():
    told = held(NOW)
    (first,) = told.holds.open_at(NOW)
    told.answered(first, by="nobody")
    told.take(make.intent(intent_id=make.uuid7(NOW, 9), **SEND), NOW + 20)
    second = told.holds.open_at(NOW + 20)[1]
    told.take(make.approval(agent_id="orchestrator"), NOW + 21)
    assert told.holds.refused(second) == []
    assert len(told.holds.refused(first)) == 1


def test_another_rules_question_takes_its_place():
    told = held(NOW)
    (first,) = told.holds.open_at(NOW)
    told.story.switch(ASKING + '  - {id: second, effect: hold, when: "true"}\n')
    assert told.answered(first)["decision"] == "hold"
    (second,) = told.holds.open_at(NOW + 10)
    assert second.intent_id == first.intent_id
    assert second.digest != first.digest
    assert told.holds.settled(first).body["reasons"][0]["rule"] == "second"
    assert told.holds.settled(second) is None


def test_a_resume_is_remembered_since_it_may_have_made_workers_forget():
    holds = Holds()
    assert holds.resumed_at is None
    holds.take(7, "d" * 64, NOW, {"kind": "resume"})
    assert holds.resumed_at == 7


def test_whatever_else_counts_changes_nothing():
    told = held(NOW)
    for body in ({"kind": "claim"}, {"kind": "skip"}, {"kind": "ack", "event_type": "outcome"}, {"kind": "reject"}):
        told.holds.take(99, "d" * 64, NOW, body)
    assert len(told.holds.open_at(NOW)) == 1


AGENTS = ("agent-1", "agent-2")
STEPS = st.lists(
    st.tuples(
        st.integers(0, limits.HOLD_MS_DEFAULT // 2),
        st.sampled_from(["ask", "read", "approve", "deny", "wrong", "twice"]),
        st.sampled_from(AGENTS),
        st.integers(0, 5),
    ),
    max_size=30,
)


@given(STEPS)
def test_what_people_are_shown_is_what_workers_would_let_them_answer(steps):
    """The fold for people and the state that answers are decided on name the same open holds, whatever happens."""
    told = Told()
    told.story.intake.tables = make.tables(*make.people(), make.identity_row("agent-2"))
    t = NOW
    for n, (ms, what, agent, which) in enumerate(steps):
        t += ms
        every = told.holds.all()
        if what in {"ask", "read"}:
            action = "email.send" if what == "ask" else "crm.read"
            told.take(make.intent(intent_id=make.uuid7(t, n), agent_id=agent, action=action), t)
        elif every:
            hold = every[which % len(every)]
            by = "nobody" if what == "wrong" else "approver"
            over = {"agent_id": hold.agent_id, "by": by, "decision": "deny" if what == "deny" else "approve"}
            told.answered(hold, t, approval_id=make.uuid7(t, n), **over)
        shown = {(hold.agent_id, hold.intent_id) for hold in told.holds.open_at(t)}
        assert shown == {(a, own) for a in AGENTS for own, _ in open_holds(told.story.state, a, t)}
