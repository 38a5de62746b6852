"""Exactly one answer for every input record: a verdict, an ack or a reject (PROTOCOL §3, §8).

`Story.take` holds every body, with its link fields, to the model of its kind.
"""

import json

import factories as make
import pytest

from harness_stream.core import limits
from harness_stream.core.chain import CLOSED_KEY, chain_of
from harness_stream.core.lanes import partition_of
from harness_stream.core.reasons import Deny, Misuse, Refuse, Reject
from harness_stream.core.units import decode_part, encode_unit

NOW = make.NOW
HOLDING = make.APPROVE_ALL + '  - {id: ask, effect: hold, when: \'intent.action == "email.send"\'}\n'
SEND = {"action": "email.send"}


def rows(*more: dict) -> dict:
    return make.tables(*make.people(), *more)


def put_identity(story: make.Story, agent_id: str, **over) -> None:
    story.intake.tables["identity"].put(agent_id, json.dumps(make.identity_row(agent_id, **over)).encode(), 50)


class TestRejects:
    def test_the_same_bytes_again_are_a_duplicate(self):
        story = make.Story()
        story.take(make.intent())
        again = story.take(make.intent(), t=NOW + 1)
        assert (again["kind"], again["reason"]) == ("reject", Reject.DUPLICATE)

    def test_the_same_id_with_other_bytes_is_reused(self):
        story = make.Story()
        story.take(make.intent())
        assert story.take(make.intent(purpose="other"))["reason"] == Reject.ID_REUSED

    def test_an_id_that_was_denied_or_held_is_taken_too(self):
        story = make.Story(HOLDING)
        for n, over in enumerate((SEND, {"workload_id": "w-9"}, {"agent_id": "nobody"})):
            intent = make.intent(intent_id=make.uuid7(NOW, n), **over)
            story.take(intent)
            assert story.take(intent)["reason"] == Reject.DUPLICATE

    def test_an_id_is_remembered_until_no_copy_can_arrive_any_more(self):
        story = make.Story()
        story.take(make.intent())
        assert story.take(make.intent(), t=NOW + limits.ID_MEMORY_MS)["reason"] == Reject.DUPLICATE

    def test_an_early_id_is_remembered_from_its_own_time(self):
        story = make.Story()
        early = make.intent(intent_id=make.uuid7(NOW + limits.ID_AGE_MS_MAX, 5))
        story.take(early)
        last = NOW + limits.ID_AGE_MS_MAX + limits.ID_MEMORY_MS
        assert story.take(early, t=last)["reason"] == Reject.DUPLICATE

    def test_an_id_belongs_to_its_agent(self):
        story = make.Story(tables=rows(make.identity_row("agent-2")))
        story.take(make.intent())
        assert story.take(make.intent(agent_id="agent-2"))["decision"] == "approve"

    @pytest.mark.parametrize("event", [make.intent(), make.mandate(), make.outcome(), make.approval()])
    def test_a_record_outside_its_lanes_partition(self, event):
        home = partition_of("tenant-1", 4)
        wrong = make.Story(partition=(home + 1) % 4, partitions=4).take(event)
        assert (wrong["kind"], wrong.get("reason")) == ("reject", Reject.WRONG_PARTITION)
        assert make.Story(partition=home, partitions=4).take(event)["kind"] != "reject"

    def test_state_that_cannot_be_had(self):
        body = make.intake().unavailable(make.intent(), make.arrival())
        assert (body["kind"], body["reason"]) == ("reject", Reject.STATE_UNAVAILABLE)


class TestMandates:
    def refused(self, reason: Refuse, story: make.Story, **over):
        body = story.take(make.mandate(**over))
        assert (body["status"], body["reason"], body["change"]) == ("refused", reason, None)

    def test_open_and_close(self):
        story = make.Story()
        opened = story.take(make.mandate(values=("0" * 16,)))
        assert (opened["status"], opened["change"]["op"]) == ("accepted", "open")
        assert opened["change"]["mandate"]["values"] == ["0" * 16]
        assert story.take(make.mandate(close=True))["change"] == {"op": "close", "chain_id": "chain-1", "lane": "tenant-1"}

    def test_by_the_agent_itself_it_only_infers(self):
        body = make.Story().take(make.mandate(by="agent-1"))
        assert body["change"]["mandate"]["declared_by"] == "agent"

    def test_a_chain_is_opened_once(self):
        story = make.Story()
        story.take(make.mandate())
        self.refused(Refuse.CHAIN_EXISTS, story)
        story.take(make.mandate(close=True))
        self.refused(Refuse.CHAIN_EXISTS, story)

    @pytest.mark.parametrize("by", ["approver", "enforcer", "nobody"])
    def test_only_by_an_orchestrator(self, by: str):
        self.refused(Refuse.NOT_ORCHESTRATOR, make.Story(), by=by)

    def test_an_orchestrator_with_the_agents_key_is_the_agent(self):
        story, keys = make.Story(), [{"kid": "0" * 16, "alg": "ed25519", "public": "A" * 43}]
        put_identity(story, "agent-1", keys=keys)
        put_identity(story, "orchestrator", roles=["orchestrator"], keys=keys)
        self.refused(Refuse.NOT_ORCHESTRATOR, story)

    @pytest.mark.parametrize("over", [{"tenant": "other"}, {"status": "suspended"}, {"roles": []}])
    def test_of_the_same_lane_active_and_with_the_role(self, over: dict):
        story = make.Story()
        put_identity(story, "orchestrator", **{"roles": ["orchestrator"], **over})
        self.refused(Refuse.NOT_ORCHESTRATOR, story)

    def test_more_chains_than_may_be_kept(self):
        story, day = make.Story(), 86_400_000
        for n in range(limits.AGENT_CHAINS_MAX):
            assert story.take(make.mandate(chain_id=f"chain-{n}", expires_at=NOW + 1))["status"] == "accepted"
        self.refused(Refuse.CHAINS_FULL, story, chain_id="one-more", expires_at=NOW + 1)
        later = NOW + day + 2
        again = make.mandate(chain_id="a-day-later", expires_at=later + 1)
        assert story.take(again, later)["status"] == "accepted"

    def test_a_closed_one_opens_nothing_again_however_long_it_counts(self):
        """A day after its close no window reaches into the chain; its mandate is still in the agent's hands."""
        story, day = make.Story(), limits.TIMESPAN_MS_MAX_DEFAULT
        week = NOW + 7 * day
        story.take(make.mandate(expires_at=week))
        story.act(chain_id="chain-1")
        story.take(make.mandate(close=True))
        for n in (2, 3, 4):  # whatever opens meanwhile lets go of what has ended
            story.take(make.mandate(chain_id=f"chain-{n}", expires_at=week + 9 * day), NOW + n * day)
            body = story.take(make.mandate(expires_at=week), NOW + n * day)
            assert (body["status"], body["reason"]) == ("refused", Refuse.CHAIN_EXISTS)
            kept = encode_unit(story.state.confirmed("a:agent-1"), 1, NOW + n * day)
            assert decode_part(kept).values[CLOSED_KEY] == (("chain-1", week),)
        assert chain_of(story.state, "agent-1", "chain-1") is None
        body = story.take(make.mandate(expires_at=week), week)
        assert body["reason"] == Refuse.MANDATE_EXPIRED
        story.take(make.mandate(chain_id="chain-5", expires_at=week + 9 * day), week)
        assert story.state.get("a:agent-1", CLOSED_KEY) is None

    def test_more_closed_chains_than_may_be_kept(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "CLOSED_CHAINS_BYTES_MAX", 2 * len("chain-1"))
        story, day = make.Story(), limits.TIMESPAN_MS_MAX_DEFAULT
        for n in (1, 2):
            story.take(make.mandate(chain_id=f"chain-{n}", expires_at=NOW + 9 * day))
            story.take(make.mandate(chain_id=f"chain-{n}", close=True))
        more = {"chain_id": "one-more", "expires_at": NOW + 9 * day}
        body = story.take(make.mandate(**more), NOW + 2 * day)
        assert body["reason"] == Refuse.CHAINS_FULL
        assert story.take(make.mandate(**{**more, "expires_at": NOW + 99 * day}), NOW + 9 * day)["status"] == "accepted"

    def test_an_expired_one(self):
        self.refused(Refuse.MANDATE_EXPIRED, make.Story(), expires_at=NOW)
        assert make.Story().take(make.mandate(expires_at=NOW + 1))["status"] == "accepted"

    def test_what_is_approved_under_it_says_when_it_ends_and_nothing_else_does(self):
        story = make.Story(HOLDING)
        story.take(make.mandate(expires_at=NOW + 9_000))
        asked = [make.intent(intent_id=make.uuid7(NOW, n), chain_id=chain) for n, chain in enumerate(("chain-1", None, "x"))]
        bodies = [story.take(intent) for intent in asked]
        assert [body["decision"] for body in bodies] == ["approve", "approve", "deny"]
        assert [body.get("ends_at") for body in bodies] == [NOW + 9_000, None, None]
        held = story.take(make.intent(intent_id=make.uuid7(NOW, 9), chain_id="chain-1", **SEND))
        assert (held["decision"], held.get("ends_at")) == ("hold", None)
        approval = make.approval(hold_digest=story.digests[-1])
        assert story.take(approval)["ends_at"] == NOW + 9_000

    def test_a_close_of_nothing(self):
        self.refused(Refuse.CHAIN_UNKNOWN, make.Story(), close=True)

    def test_a_close_by_another(self):
        story = make.Story(tables=rows(make.identity_row("other", roles=["orchestrator"])))
        story.take(make.mandate())
        self.refused(Refuse.NOT_SIGNER, story, close=True, by="other")

    def test_a_second_close(self):
        story = make.Story()
        story.take(make.mandate())
        story.take(make.mandate(close=True))
        self.refused(Refuse.CHAIN_CLOSED, story, close=True)


class TestOutcomes:
    @pytest.fixture
    def story(self) -> make.Story:
        story = make.Story(HOLDING)
        story.take(make.intent(measures={"rows": 5, "amount": "0.5"}))
        return story

    def report(self, story: make.Story, *, t: int = NOW, **over):
        return story.take(make.outcome(**{"verdict_digest": story.digests[0], **over}), t=t)

    def refused(self, reason: Refuse, story: make.Story, **over):
        body = self.report(story, **over)
        assert (body["status"], body["reason"], body["change"]) == ("refused", reason, None)

    def test_done_raises_each_measure_to_the_larger(self, story: make.Story):
        change = self.report(story, measures={"rows": 3, "amount": "0.75", "bytes": 9})["change"]
        assert change["measures"] == {"rows": 5, "amount": "0.75", "bytes": 9}
        assert story.chain().kept[0]["measures"] == change["measures"]
        assert story.chain().kept[0]["t"] == NOW

    @pytest.mark.parametrize("status", ["failed", "unknown"])
    def test_anything_else_counts_what_was_approved(self, story: make.Story, status: str):
        change = self.report(story, status=status, measures={"rows": 99})["change"]
        assert (change["status"], change["measures"]) == (status, {"rows": 5, "amount": "0.5"})

    def test_why_an_approval_was_taken_back_is_told(self, story: make.Story):
        assert self.report(story, status="unknown", revoked="killed")["change"]["revoked"] == "killed"

    def test_abandoned_only_by_an_enforcer_that_is_not_the_agent(self, story: make.Story):
        self.refused(Refuse.NOT_ENFORCER, story, status="abandoned")
        assert self.report(story, status="abandoned", by="enforcer")["status"] == "accepted"

    def test_an_enforcer_with_the_agents_key_is_the_agent(self, story: make.Story):
        keys = [{"kid": f"{n:016x}", "alg": "x25519", "public": chr(65 + n) * 43} for n in range(3)]
        put_identity(story, "agent-1", keys=keys[:2])
        put_identity(story, "enforcer", roles=["enforcer"], keys=keys[1:])
        self.refused(Refuse.NOT_REPORTER, story, status="abandoned", by="enforcer")
        put_identity(story, "enforcer", roles=["enforcer"], keys=keys[2:])
        assert self.report(story, status="abandoned", by="enforcer")["status"] == "accepted"

    def test_an_agent_with_role_enforcer_is_still_the_agent(self, story: make.Story):
        put_identity(story, "agent-1", roles=["enforcer"])
        self.refused(Refuse.NOT_ENFORCER, story, status="abandoned")

    @pytest.mark.parametrize("by", ["approver", "nobody"])
    def test_only_by_agent_or_enforcer(self, story: make.Story, by: str):
        self.refused(Refuse.NOT_REPORTER, story, by=by)

    def test_the_first_one_wins(self, story: make.Story):
        self.report(story)
        self.refused(Refuse.OUTCOME_KNOWN, story, status="failed")

    def test_another_verdicts_digest(self, story: make.Story):
        self.refused(Refuse.VERDICT_MISMATCH, story, verdict_digest="f" * 64)

    def test_of_a_denied_or_held_intent_it_shows_a_bypass(self, story: make.Story):
        for over in (SEND, {"workload_id": "w-9"}):
            body = story.act(**over)
            self.refused(Refuse.BYPASS, story, intent_id=body["intent_id"], verdict_digest=story.digests[-1])

    def test_of_an_unknown_intent_too(self, story: make.Story):
        self.refused(Refuse.BYPASS, story, intent_id=make.uuid7(n=77))

    def test_a_bypass_says_what_ran_and_by_whom(self, story: make.Story):
        body = self.report(story, intent_id=make.uuid7(n=77))
        assert body["detail"] == f"done of intent {make.uuid7(n=77)}, by agent-1"

    @pytest.mark.parametrize("how", Misuse)
    def test_or_how_the_approval_of_which_verdict_was_to_be_misused(self, story: make.Story, how: Misuse):
        body = self.report(story, intent_id=make.uuid7(n=77), verdict_digest="f" * 64, misused=how)
        assert body["detail"] == f"{how} of verdict {'f' * 64}, by agent-1"

    def test_only_a_bypass_does(self, story: make.Story):
        assert "detail" not in self.report(story)
        assert "detail" not in self.report(story, status="failed")

    def test_of_one_no_longer_kept_it_counts_as_done(self, story: make.Story):
        self.refused(Refuse.OUTCOME_EXPIRED, story, t=NOW + limits.ID_MEMORY_MS + 1)


class TestApprovals:
    @pytest.fixture
    def story(self) -> make.Story:
        story = make.Story(HOLDING)
        body = story.take(make.intent(**SEND))
        assert (body["decision"], body["hold_until"]) == ("hold", NOW + limits.HOLD_MS_DEFAULT)
        return story

    def answer(self, story: make.Story, *, t: int = NOW + 1, **over):
        return story.take(make.approval(**{"hold_digest": story.digests[0], **over}), t=t)

    def refused(self, reason: Refuse, story: make.Story, **over):
        body = self.answer(story, **over)
        assert (body["kind"], body.get("status"), body.get("reason")) == ("ack", "refused", reason)

    def test_approve_gives_a_new_verdict_for_the_same_intent(self, story: make.Story):
        body = self.answer(story, reason="seen")
        assert (body["kind"], body["decision"], body["intent_id"]) == ("verdict", "approve", make.uuid7())
        assert body["intent_digest"] == make.arrival(make.intent(**SEND)).digest
        assert (body["approval"]["by"], body["approval"]["reason"]) == ("approver", "seen")

    def test_it_never_runs_after_hold_until(self, story: make.Story):
        body = self.answer(story)
        assert body["hold_until"] == NOW + limits.HOLD_MS_DEFAULT
        assert body["valid_for_ms"] == limits.VALID_FOR_MS_DEFAULT

    def test_a_deny_is_final(self, story: make.Story):
        body = self.answer(story, decision="deny")
        assert (body["decision"], body["reasons"][0]["code"]) == ("deny", Deny.HOLD_DENIED)
        self.refused(Refuse.NO_HOLD, story)

    def test_a_hold_is_approved_once(self, story: make.Story):
        self.answer(story)
        self.refused(Refuse.NO_HOLD, story)

    def test_a_hold_nobody_made(self, story: make.Story):
        self.refused(Refuse.NO_HOLD, story, hold_digest="f" * 64)

    def test_the_offset_is_where_to_look_and_the_digest_what_is_answered(self, story: make.Story):
        """A fold knows no offsets while its records are in flight (ARCHITECTURE, 30)."""
        assert self.answer(story, hold_offset=4_711)["decision"] == "approve"

    def test_another_agents_hold(self, story: make.Story):
        put_identity(story, "agent-2")
        self.refused(Refuse.NO_HOLD, story, agent_id="agent-2")

    def test_up_to_hold_until_and_not_after(self, story: make.Story):
        self.refused(Refuse.HOLD_EXPIRED, story, t=NOW + limits.HOLD_MS_DEFAULT + 1)
        assert self.answer(story, t=NOW + limits.HOLD_MS_DEFAULT)["decision"] == "approve"

    @pytest.mark.parametrize("by", ["agent-1", "owner-1", "orchestrator", "nobody"])
    def test_by_an_approver_who_is_neither_the_agent_nor_its_owner(self, story: make.Story, by: str):
        if by in {"agent-1", "owner-1"}:
            put_identity(story, by, roles=["approver"])
        self.refused(Refuse.NOT_APPROVER, story, by=by)

    def test_nobody_answers_what_they_asked_for_an_agent(self):
        """An enforcer may speak for an agent; with both roles it would answer its own question."""
        story = make.Story(HOLDING)
        put_identity(story, "enforcer", roles=["enforcer", "approver"])
        assert story.take(make.intent(by="enforcer", **SEND))["decision"] == "hold"
        self.refused(Refuse.NOT_APPROVER, story, by="enforcer")
        assert self.answer(story)["decision"] == "approve"

    def test_by_an_active_one(self, story: make.Story):
        put_identity(story, "approver", roles=["approver"], status="suspended")
        self.refused(Refuse.NOT_APPROVER, story)

    def test_the_deadline_no_longer_judges(self, story: make.Story):
        assert self.answer(story, t=NOW + limits.DEADLINE_MS_MAX)["decision"] == "approve"

    def test_any_deny_still_wins(self, story: make.Story):
        put_identity(story, "agent-1", status="suspended")
        assert self.answer(story)["reasons"][0]["code"] == Deny.AGENT_STATUS

    def test_it_is_judged_on_the_chain_as_it_is_now(self):
        flood = (
            "  - {id: flood, effect: deny, when: sends, correlation: "
            "{type: event_count, rules: [reads], group-by: [agent_id], timespan: 1h, condition: {gt: 0}}}\n"
        )
        names = {"reads": "crm.read", "sends": "email.send"}
        selections = "".join(f"  {name}: 'event.action == \"{action}\"'\n" for name, action in names.items())
        story = make.Story((HOLDING + flood).replace("rules:", f"selections:\n{selections}rules:", 1))
        story.take(make.intent(**SEND))
        story.act()
        assert self.answer(story)["reasons"][0]["rule"] == "flood"

    def test_only_the_hold_rules_of_that_record_are_satisfied(self, story: make.Story):
        more = HOLDING + '  - {id: second, effect: hold, when: "true"}\n'
        story.switch(more)
        body = self.answer(story)
        assert (body["decision"], [r["rule"] for r in body["reasons"]]) == ("hold", ["second"])
        self.refused(Refuse.NO_HOLD, story)

    def test_two_rules_that_fire_in_turn_are_answered_once_each(self, story: make.Story):
        """The second question carries what was answered before, so that its answer does not ask the first one anew."""
        story.switch(HOLDING + '  - {id: second, effect: hold, when: "true"}\n')
        asked_again = self.answer(story)
        assert (asked_again["decision"], asked_again["approval"]["satisfied"]) == ("hold", ["ask"])
        body = self.answer(story, t=NOW + 2, hold_digest=story.digests[1])
        assert (body["decision"], body["approval"]["satisfied"]) == ("approve", ["ask", "second"])

    def test_however_many_rules_ask_it_ends(self, story: make.Story):
        more = HOLDING
        for number in range(3):
            more += f'  - {{id: more-{number}, effect: hold, when: "true"}}\n'
            story.switch(more)
            body = self.answer(story, t=NOW + number, hold_digest=story.digests[-1])
            assert [r["rule"] for r in body["reasons"]] == [f"more-{number}"]
        assert self.answer(story, t=NOW + 4, hold_digest=story.digests[-1])["decision"] == "approve"

    def test_what_was_answered_before_satisfies_no_deny(self, story: make.Story):
        story.switch(HOLDING + '  - {id: second, effect: hold, when: "true"}\n')
        self.answer(story)
        story.switch(HOLDING + '  - {id: ask-not, effect: deny, when: "true"}\n')
        body = self.answer(story, t=NOW + 2, hold_digest=story.digests[1])
        assert (body["decision"], [r["rule"] for r in body["reasons"]]) == ("deny", ["ask-not"])

    def test_a_no_to_the_second_question_is_a_no(self, story: make.Story):
        story.switch(HOLDING + '  - {id: second, effect: hold, when: "true"}\n')
        self.answer(story)
        body = self.answer(story, t=NOW + 2, hold_digest=story.digests[1], decision="deny")
        assert (body["decision"], body["approval"]["satisfied"]) == ("deny", [])

    def test_another_intent_is_asked_everything_anew(self, story: make.Story):
        story.switch(HOLDING + '  - {id: second, effect: hold, when: "true"}\n')
        self.answer(story)
        body = story.act(NOW + 2, **SEND)
        assert (body["decision"], [r["rule"] for r in body["reasons"]]) == ("hold", ["ask", "second"])

    def test_an_approved_hold_takes_an_outcome_of_its_new_verdict(self, story: make.Story):
        self.answer(story)
        body = story.take(make.outcome(verdict_digest=story.digests[1]), t=NOW + 2)
        assert body["status"] == "accepted"


class TestQuarantine:
    def test_it_denies_without_a_look(self):
        body = make.intake().quarantined(make.intent(), make.arrival(), NOW)
        assert (body["decision"], body["reasons"], body["event"]) == ("deny", [{"code": "quarantined"}], None)

    def test_a_copy_is_still_a_copy(self):
        story = make.Story()
        story.take(make.intent())
        body = story.intake.quarantined(make.intent(), make.arrival(make.intent()), NOW)
        assert body["reason"] == Reject.DUPLICATE


class TestHolds:
    """A loop that waits for a person each time may not fill memory with what nobody will answer."""

    ASK = make.APPROVE_ALL.replace("effect: approve", "effect: hold")

    def full(self) -> make.Story:
        story = make.Story(self.ASK)
        for n in range(limits.HOLDS_OPEN_MAX):
            assert story.act(NOW + n)["decision"] == "hold"
        return story

    def test_so_many_wait_and_the_next_is_denied(self):
        body = self.full().act(NOW + 100)
        assert (body["decision"], body["reasons"][0]["code"]) == ("deny", Deny.HOLDS_FULL)
        assert body["reasons"][1]["rule"] == "everything", "and what would have held it is named"

    def test_an_answer_makes_room(self):
        story = self.full()
        story.take(make.approval(hold_digest=story.digests[0], decision="deny"), t=NOW + 100)
        assert story.act(NOW + 101)["decision"] == "hold"

    def test_expiry_makes_room(self):
        story = self.full()
        assert story.act(NOW + limits.HOLD_MS_DEFAULT)["decision"] == "deny"
        assert story.act(NOW + limits.HOLD_MS_DEFAULT + 1)["decision"] == "hold"

    def test_others_have_room_of_their_own(self):
        story = self.full()
        story.intake.tables = make.tables(make.identity_row(), make.identity_row("agent-2"))
        assert story.act(NOW + 100, agent_id="agent-2")["decision"] == "hold"


class TestRolesFromAStaleTable:
    """A role may have been taken meanwhile (V8): what needs one is refused, and may be asked again."""

    def stale(self, story: make.Story, by_ms: int = 1) -> make.Story:
        story.intake.tables["identity"].fresh_as_of = NOW - limits.FRESH_MS_MAX - by_ms
        return story

    def test_a_mandate_is_not_opened(self):
        body = self.stale(make.Story()).take(make.mandate())
        assert (body["status"], body["reason"], body["change"]) == ("refused", Refuse.STALE_FACTS, None)

    def test_at_the_bound_it_is(self):
        assert self.stale(make.Story(), 0).take(make.mandate())["status"] == "accepted"

    def test_nor_a_hold_answered_and_it_goes_on_waiting(self):
        story = make.Story(HOLDING)
        story.take(make.intent(**SEND))
        body = self.stale(story).take(make.approval(hold_digest=story.digests[0]))
        assert (body["kind"], body["status"], body["reason"]) == ("ack", "refused", Refuse.STALE_FACTS)
        story.intake.tables["identity"].fresh_as_of = NOW
        assert story.take(make.approval(hold_digest=story.digests[0]))["decision"] == "approve"

    def test_nor_an_approval_released_but_what_was_done_counts(self):
        story = make.Story()
        body = story.act()
        about = {"intent_id": body["intent_id"], "verdict_digest": story.digests[-1], "by": "enforcer"}
        refused = self.stale(story).take(make.outcome(**about, status="abandoned"))
        assert (refused["status"], refused["reason"]) == ("refused", Refuse.STALE_FACTS)
        assert story.take(make.outcome(**about))["status"] == "accepted"

    def test_what_only_narrows_needs_no_role(self):
        story = make.Story()
        story.take(make.mandate())
        assert self.stale(story).take(make.mandate(close=True))["status"] == "accepted"
        assert story.take(make.mandate(chain_id="own", by="agent-1"))["status"] == "accepted"
