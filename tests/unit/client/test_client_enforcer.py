"""What is obeyed, what is not, and how every wait ends (V2, V4, V6)."""

import json
import os
from concurrent.futures import Future

import pytest
from scripted_worker import HOME, INCARNATION, LANE, TOPICS, Script, World, sha

from harness_stream.adapters.memory.log import Fate
from harness_stream.client import enforcer as enforcer_module
from harness_stream.client.pace import FRESH_PAUSE_S, PAUSE_SHARE
from harness_stream.client.silence import TOO_SHORT
from harness_stream.core.limits import ANSWER_GRACE_MS
from harness_stream.errors import CallerError, Denied, Held, Overloaded, TimedOut, Unreachable


@pytest.fixture
def world():
    world = World()
    world.script.begin()
    return world


def error_of(future, kind):
    error = future.exception(0)
    assert type(error) is kind, error
    return error


class TestPublishing:
    def test_an_intent_goes_to_its_lanes_partition_with_the_lane_as_key_and_says_who_vouches(self, world):
        world.ask(headers=[("ce_type", b"harness.intent")])
        [record] = world.inputs()
        assert record.key == LANE.encode()
        assert record.headers == (("ce_type", b"harness.intent"), ("hs-alg", b"none"))

    def test_a_request_withdrawn_before_it_was_published_is_not_published(self, world):
        future = world.enforcer.submit(world.request())
        future.cancel()
        world.run()
        assert world.inputs() == []

    def test_a_full_local_queue_is_tried_again(self, world):
        real = world.wiring.writer.append
        refusals = [BufferError(), BufferError()]

        def append(*args, **kwargs):
            if refusals:
                raise refusals.pop()
            real(*args, **kwargs)

        world.wiring.writer.append = append
        world.ask()
        world.ask()
        assert len(world.inputs()) == 2


class TestObeyed:
    def test_an_effective_verdict_for_this_very_intent(self, world):
        future = world.ask()
        offset = world.script.verdict(world.last_input())
        world.run()
        answer = future.result(0)
        assert (answer.decision, answer.intent_id, answer.offset) == ("approve", "intent-1", offset)
        assert answer.evidence == ("e-1", "e-2")
        assert answer.valid

    def test_a_verdict_by_a_successor(self, world):
        future = world.ask()
        successor = Script(world.broker, writer="b" * 32, place=world.script.place)
        successor.claim("crash")
        successor.verdict(world.last_input())
        world.run()
        assert future.result(0).decision == "approve"


class TestNotObeyed:
    """Each of these would run an action that nobody approved."""

    def never_obeyed(self, world, future):
        world.run()
        assert not future.done()
        world.wait(5_000 + ANSWER_GRACE_MS)
        assert isinstance(future.exception(0), TimedOut)

    def test_a_zombies_void_approve_is_never_obeyed(self, world):
        zombie = world.script.twin()
        Script(world.broker, writer="b" * 32, place=world.script.place).claim("crash")
        future = world.ask()
        zombie.verdict(world.last_input())
        self.never_obeyed(world, future)

    def test_after_a_zombies_approve_the_owners_deny_counts(self, world):
        zombie = world.script.twin()
        owner = Script(world.broker, writer="b" * 32, place=world.script.place)
        owner.claim("crash")
        future = world.ask()
        zombie.verdict(world.last_input(), "approve")
        owner.verdict(world.last_input(), "deny")
        world.run()
        assert error_of(future, Denied).verdict.decision == "deny"

    def test_an_approve_linked_to_a_stale_head(self, world):
        future = world.ask()
        stale = world.script.twin()
        world.script.skip(-1 + world.last_input().offset + 1)
        stale.verdict(world.last_input())
        world.run()
        assert isinstance(future.exception(0), Denied)

    def test_an_approve_that_leaves_a_hole_in_the_covers(self, world):
        world.broker.append(TOPICS.intents, HOME, None, b"?")
        future = world.ask()
        body = world.script.verdict_body(world.last_input())
        world.script.write({**body, "covers": [1, 1]})
        self.never_obeyed(world, future)

    @pytest.mark.parametrize(
        "changed",
        [
            {"enforcer_nonce": "0" * 32},
            {"intent_digest": "0" * 64},
            {"arguments_digest": "0" * 64},
            {"agent_id": "somebody-else"},
        ],
        ids=lambda changed: next(iter(changed)),
    )
    def test_an_approve_with_a_wrong(self, world, changed):
        """Mutant «nonce ignored», and its sisters."""
        future = world.ask()
        world.script.verdict(world.last_input(), **changed)
        world.run()
        assert not future.done()
        world.wait(5_000)
        assert error_of(future, TimedOut).reasons[0].code == "foreign_answer"

    @pytest.mark.parametrize(
        "broken",
        [
            {"decision": "yes"},
            {"decision": ["approve"]},
            {"valid_for_ms": "5000"},
            {"valid_for_ms": True},
            {"obligations": None},
            {"hold_until": "never"},
            {"t": -1},
        ],
        ids=str,
    )
    def test_an_approve_that_cannot_be_read(self, world, broken):
        future = world.ask()
        world.script.verdict(world.last_input(), **broken)
        self.never_obeyed(world, future)

    def test_an_approve_from_another_partition(self, world):
        future = world.ask()
        other = Script(world.broker, (HOME + 1) % 4)
        world.enforcer.open("globex")
        other.begin()
        other.verdict(world.last_input())
        self.never_obeyed(world, future)

    def test_an_approve_of_another_incarnation(self, world):
        future = world.ask()
        body = world.script.verdict_body(world.last_input())
        world.script.write({**body, "incarnation": "other." + INCARNATION})
        self.never_obeyed(world, future)

    def test_an_approve_that_is_read_at_the_deadline(self, world):
        future = world.ask()
        world.clock.advance(5_000)
        world.script.verdict(world.last_input())
        world.enforcer.step()
        assert error_of(future, TimedOut).reasons[0].code == "no_answer"

    def test_an_approve_that_is_read_a_millisecond_before_the_deadline_is_obeyed(self, world):
        future = world.ask()
        world.clock.advance(4_999)
        world.script.verdict(world.last_input())
        world.enforcer.step()
        assert future.result(0).valid
        world.clock.advance(1)
        assert not future.result(0).valid


class TestUse:
    def approved(self, world, **other):
        future = world.ask()
        world.script.verdict(world.last_input(), **other)
        world.run()
        return future.result(0)

    def test_an_approval_is_used_once(self, world):
        answer = self.approved(world)
        answer.start()
        assert not answer.valid
        with pytest.raises(CallerError, match="used once"):
            answer.start()

    def test_an_approval_runs_out_after_valid_for_ms_from_being_read(self, world):
        answer = self.approved(world, valid_for_ms=300)
        world.clock.advance(299)
        assert answer.valid
        world.clock.advance(1)
        with pytest.raises(TimedOut, match="run out") as caught:
            answer.start()
        assert caught.value.verdict is answer

    def test_an_approval_runs_out_at_the_deadline_however_long_it_is_valid(self, world):
        answer = self.approved(world, valid_for_ms=60_000)
        world.clock.advance(5_000)
        with pytest.raises(TimedOut):
            answer.start()

    def test_a_forked_process_cannot_use_the_approval_of_its_parent(self, world):
        answer = self.approved(world)
        child = os.fork()
        if child == 0:
            try:
                answer.start()
            except CallerError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        answer.start()

    def test_a_denial_cannot_be_used(self, world):
        future = world.ask()
        world.script.verdict(world.last_input(), "deny")
        world.run()
        with pytest.raises(CallerError, match="`deny`"):
            future.exception(0).verdict.start()


class TestDenied:
    def test_a_deny_names_the_rule_and_its_authors_words(self, world):
        future = world.ask()
        reason = {"code": "rule", "rule": "no-egress", "effect": "deny", "because": "personal data was read"}
        world.script.verdict(world.last_input(), "deny", reasons=[{**reason, "evidence": ["x"]}])
        world.run()
        error = error_of(future, Denied)
        assert error.message == "`crm.read` was denied: rule `no-egress` (personal data was read)"
        assert error.verdict.evidence == ("x",)
        assert error.reasons[0].rule == "no-egress"

    def test_a_deny_by_the_engine_explains_itself(self, world):
        future = world.ask()
        world.script.verdict(world.last_input(), "deny", reasons=[{"code": "unknown_agent"}])
        world.run()
        assert "harness tables load" in error_of(future, Denied).hint

    @pytest.mark.parametrize("reason", ["duplicate", "id_reused", "wrong_partition", "state_unavailable"])
    def test_a_reject_of_our_record(self, world, reason):
        future = world.ask()
        world.script.reject(world.last_input(), reason, "more")
        world.run()
        error = error_of(future, Denied)
        assert error.reasons[0][:2] == (reason, "more")
        assert error.hint
        assert error.verdict is None

    def test_a_reject_of_another_record_with_our_id_is_not_ours(self, world):
        future = world.ask()
        record = world.last_input()
        forged = record._replace(value=record.value.replace(b"crm", b"CRM") + b" ")
        world.script.reject(forged, "duplicate")
        world.run()
        assert not future.done()

    def test_a_garbage_skip_of_our_record_read_after_the_delivery_report(self, world):
        future = world.ask()
        world.script.skip(0, named=[(0, "schema")])
        world.run()
        error = error_of(future, Denied)
        assert error.reasons[0].code == "schema"
        assert "breaks its schema" in error.hint

    def test_a_garbage_skip_of_our_record_read_before_the_delivery_report(self):
        world = World(fate=lambda _record: Fate(report_after_ms=100))
        world.script.begin()
        future = world.ask()
        world.script.skip(0, named=[(0, "id_time")])
        world.run()
        assert not future.done()
        world.wait(100)
        assert error_of(future, Denied).reasons[0].code == "id_time"

    @pytest.mark.parametrize("waiting", [1, 40])
    def test_a_skip_beyond_the_named_offsets(self, world, waiting):
        futures = [world.ask() for _ in range(waiting)]
        world.script.skip(19, named=[(o, "not_json") for o in range(16)])
        world.run()
        codes = [f.exception(0).reasons[0].code if f.done() else None for f in futures]
        assert codes == (["not_json"] * 16 + ["garbage"] * 4 + [None] * 20)[:waiting]

    def test_lost_input(self, world):
        future = world.ask()
        world.script.skip(0, "input_lost")
        world.run()
        assert "retention" in error_of(future, Denied).hint

    def test_an_obligation_that_nobody_here_fulfils(self, world):
        future = world.ask()
        world.script.verdict(world.last_input(), obligations={"mask": ["iban"]})
        world.run()
        error = error_of(future, Denied)
        assert error.reasons[0][:2] == ("obligation", "mask")
        assert [own_id for own_id, _ in world.abandoned] == ["intent-1"]
        with pytest.raises(CallerError):
            error.verdict.start()

    def test_an_obligation_with_a_handler_is_fulfilled_before_the_action(self, world):
        done = []
        future = world.ask(handlers={"mask": done.append})
        world.script.verdict(world.last_input(), obligations={"mask": ["iban"]})
        world.run()
        assert done == []
        future.result(0).start()
        assert done == [["iban"]]


class TestHeld:
    def held(self, world, **other):
        future = world.ask(**other)
        world.script.verdict(world.last_input(), "hold")
        world.run()
        return future

    def test_a_hold_is_raised_with_what_an_approver_must_name(self, world):
        error = error_of(self.held(world), Held)
        record = world.broker.read(TOPICS.verdicts, HOME, error.verdict.offset, 1)[0]
        assert error.verdict.digest == sha(record.value)
        assert error.verdict.hold_until == world.clock.now_ms() + 900_000

    def test_one_who_waits_gets_the_approval_after_it(self, world):
        future = self.held(world, wait_for_hold=True)
        world.wait(20_000)
        world.broker.append(TOPICS.intents, HOME, None, b"the approval")
        held_until = world.clock.now_ms() + 880_000
        body = world.script.verdict_body(world.inputs()[0], hold_until=held_until)
        world.script.write({**body, "covers": [1, 1]})
        world.run()
        answer = future.result(0)
        assert answer.valid
        world.clock.advance(5_000)
        assert not answer.valid

    def test_one_who_waits_gets_the_persons_no(self, world):
        future = self.held(world, wait_for_hold=True)
        body = world.script.verdict_body(world.inputs()[0], "deny", reasons=[{"code": "hold_denied"}])
        world.script.write({**body, "covers": [1, 1]})
        world.run()
        assert error_of(future, Denied).hint == "an approver said no"

    def test_a_hold_that_nobody_answers_is_denied_at_its_end(self, world):
        future = self.held(world, wait_for_hold=True)
        world.clock.advance(899_990)
        world.run()
        assert not future.done()
        world.wait(20)
        assert error_of(future, Denied).reasons[0].code == "hold_expired"

    def test_an_approval_read_at_the_end_of_the_hold_is_too_late(self, world):
        future = self.held(world, wait_for_hold=True)
        world.clock.advance(900_000)
        body = world.script.verdict_body(world.inputs()[0], hold_until=world.clock.now_ms())
        world.script.write({**body, "covers": [1, 1]})
        world.enforcer.step()
        assert error_of(future, Denied).reasons[0].code == "hold_expired"

    def test_a_copy_of_our_record_does_not_end_the_wait(self, world):
        future = self.held(world, wait_for_hold=True)
        world.broker.append(TOPICS.intents, HOME, None, world.inputs()[0].value)
        world.script.reject(world.last_input(), "duplicate")
        world.run()
        assert not future.done()


class TestAcks:
    def mandate(self, world):
        value = json.dumps({"type": "mandate", "mandate_id": "m-1", "agent_id": "support-1"}).encode()
        return world.ask(kind="mandate", id="m-1", value=value, subject="the mandate")

    def test_an_accepted_record_is_done(self, world):
        future = self.mandate(world)
        world.script.ack(world.last_input())
        world.run()
        assert future.result(0) is None

    def test_a_refused_record_is_denied_with_the_reason(self, world):
        future = self.mandate(world)
        world.script.ack(world.last_input(), refused="not_orchestrator")
        world.run()
        assert "only an identity with role orchestrator" in error_of(future, Denied).hint


class TestSilence:
    def timed_out(self, world):
        future = world.ask()
        world.wait(4_990)
        assert not future.done()
        world.wait(ANSWER_GRACE_MS)
        return error_of(future, TimedOut)

    def test_no_worker_has_ever_claimed_the_partition_although_rules_were_pushed(self):
        world = World()
        world.broker.append(TOPICS.rules, 0, b"bundle/x", b"{}", ())
        error = self.timed_out(world)
        assert error.reasons[0].code == "no_worker"
        assert f"offset 0 of partition {HOME}; no worker has ever claimed the partition; nothing" in error.message
        assert "harness worker" in error.hint
        assert "rules push" not in error.hint

    def test_no_rule_set_was_ever_pushed_so_workers_wait_for_one(self):
        error = self.timed_out(World())
        assert error.reasons[0].code == "no_worker"
        assert "no rule set was ever pushed" in error.message
        assert error.hint.startswith("push one with `harness rules push`")

    def test_whether_rules_were_pushed_cannot_be_found_out_so_both_causes_are_named(self):
        world = World()
        ask_ends = world.wiring.reader.ask_ends

        def all_but_rules(places, now_ms):
            ask_ends([place for place in places if place[0] != TOPICS.rules], now_ms)

        world.wiring.reader.ask_ends = all_but_rules
        error = self.timed_out(world)
        assert "none runs, or no rule set was ever pushed" in error.message
        assert "`harness rules status`" in error.hint
        assert "`harness worker`" in error.hint

    def test_nothing_is_asked_about_rules_once_a_worker_has_claimed(self, world):
        asked = []
        ask_ends = world.wiring.reader.ask_ends
        world.wiring.reader.ask_ends = lambda places, now_ms: asked.extend(places) or ask_ends(places, now_ms)
        self.timed_out(world)
        assert TOPICS.verdicts in dict(asked)
        assert TOPICS.rules not in dict(asked)

    def test_a_partition_at_rest_whose_worker_says_nothing_is_silent_since_the_publish(self, world):
        """An hour of rest leaves the same traces whether a worker lives or not: only what came after counts."""
        world.wait(37_700)
        error = self.timed_out(world)
        assert error.reasons[0].code == "worker_silent"
        assert error.reasons[0].detail == (
            "no worker has written here since; the last sign of one (switch) is 42.7 s old; "
            "decided up to offset 0, so this record is next"
        )

    def test_records_before_it_that_nobody_decides_are_counted(self, world):
        world.ask()
        world.ask()
        assert "decided up to offset 0, 2 come before this record" in self.timed_out(world).message

    def test_a_sign_from_just_before_the_publish_is_no_sign_that_it_is_worked_on(self, world):
        future = world.ask(deadline_ms=500)
        world.wait(500)
        assert error_of(future, TimedOut).reasons[0].code == "worker_silent"

    def test_a_worker_that_writes_and_has_not_come_to_it_is_behind(self, world):
        future = world.ask()
        for _ in range(11):
            world.wait(500)
            world.script.checkpoint()
        reason = error_of(future, TimedOut).reasons[0]
        assert reason.code == "behind"
        assert reason.detail == (
            "a worker has written since; the last sign of one (checkpoint) is 0.5 s old; "
            "decided up to offset 0, so this record is next"
        )

    @pytest.mark.parametrize(("writes", "seen"), [(True, "behind"), (False, "worker_silent")])
    def test_a_deadline_that_nobody_can_meet_blames_no_worker(self, world, writes, seen):
        future = world.ask(deadline_ms=1)
        if writes:
            world.script.checkpoint()
        world.wait(ANSWER_GRACE_MS)
        error = error_of(future, TimedOut)
        assert (error.reasons[0].code, error.hint) == (seen, TOO_SHORT)

    def test_a_log_that_is_cut_while_we_wait_is_named_and_not_taken_for_a_silent_worker(self, world):
        future = world.ask()
        world.enforcer._following[HOME]._break("it ends at 1, before the record 2 that was read")
        world.wait(5_000)
        error = error_of(future, TimedOut)
        assert error.reasons[0].code == "log_contradicts"
        assert "it ends at 1, before the record 2 that was read" in error.message

    def test_the_record_is_covered_and_no_answer_was_seen(self, world):
        future = world.ask()
        world.script.covered(world.last_input())
        world.wait(5_000)
        assert error_of(future, TimedOut).reasons[0].code == "no_answer"

    def test_a_failed_publish_is_unreachable_at_once_and_says_that_it_may_have_landed(self):
        world = World(fate=lambda _record: Fate(reports="failed"))
        error = error_of(world.ask(), Unreachable)
        assert "unknown whether it landed, nothing was run" in error.message
        assert len(world.inputs()) == 1

    def test_the_verdict_of_a_falsely_failed_publish_runs_nothing(self):
        world = World(fate=lambda _record: Fate(reports="failed"))
        world.script.begin()
        future = world.ask()
        world.script.verdict(world.last_input())
        world.run()
        assert isinstance(future.exception(0), Unreachable)

    def test_a_publish_that_is_never_confirmed_ends_at_the_deadline(self):
        world = World(fate=lambda _record: Fate(lands=False, reports="never"))
        future = world.ask()
        world.wait(5_000 + ANSWER_GRACE_MS)
        error = error_of(future, Unreachable)
        assert error.reasons[0].code == "unconfirmed"
        assert "no delivery report by the deadline of 5,000 ms" in error.message
        assert "a longer deadline" in error.hint

    def test_a_verdict_before_the_delivery_report_is_enough(self):
        world = World(fate=lambda _record: Fate(report_after_ms=1_000))
        world.script.begin()
        future = world.ask()
        world.script.verdict(world.last_input())
        world.run()
        assert future.result(0).decision == "approve"


class TestBounds:
    def test_beyond_the_limit_a_request_is_refused_and_places_come_back(self, world, monkeypatch):
        monkeypatch.setattr(enforcer_module, "WAITING_MAX", 3)
        futures = [world.enforcer.submit(world.request()) for _ in range(3)]
        with pytest.raises(Overloaded, match="nothing was published"):
            world.enforcer.submit(world.request())
        world.run()
        world.script.verdict(world.inputs()[0])
        world.run()
        assert [f.done() for f in futures] == [True, False, False]
        world.enforcer.submit(world.request())

    def test_an_approval_that_nobody_waits_for_any_more_is_reported_as_abandoned(self, world):
        future = world.ask()
        assert future.cancel()
        world.script.verdict(world.last_input())
        world.run()
        assert [own_id for own_id, _ in world.abandoned] == ["intent-1"]
        assert len(world.inputs()) == 2

    def test_every_table_is_empty_when_everything_is_answered(self, world, monkeypatch):
        monkeypatch.setattr(enforcer_module, "ENDS_MAX", 50)
        for _ in range(40):
            world.ask()
            world.script.verdict(world.last_input())
            world.run(1)
        cancelled = world.ask()
        cancelled.cancel()
        world.script.verdict(world.last_input())
        world.wait(6_000)
        e = world.enforcer
        assert (e._waiting, e._by_token, e._by_offset, e._ends, e._taken) == ({}, {}, {}, [], 0)

    def test_ends_of_answered_requests_are_swept_out(self, world, monkeypatch):
        monkeypatch.setattr(enforcer_module, "ENDS_MAX", 50)
        for _ in range(200):
            world.ask()
            world.script.verdict(world.last_input())
            world.run(1)
            assert len(world.enforcer._ends) <= 51

    def test_closing_ends_every_wait_and_takes_no_more(self, world):
        future, opening = world.ask(), world.enforcer.open("nowhere")
        world.enforcer.close()
        assert error_of(future, Unreachable).reasons[0].code == "closed"
        assert isinstance(opening, Future)
        assert opening.done()
        with pytest.raises(Unreachable, match="closed"):
            world.enforcer.submit(world.request())

    def test_a_failing_log_ends_every_wait_instead_of_hanging(self, world):
        world.enforcer.start()

        def poll(_records_max):
            raise OSError("disk gone")

        world.wiring.reader.poll = poll
        future = world.enforcer.submit(world.request())
        error = future.exception(5)
        assert isinstance(error, Unreachable)
        assert "disk gone" in str(error.reasons[0])

    def test_a_forked_process_is_told_to_connect_anew(self, world):
        child = os.fork()
        if child == 0:
            try:
                world.enforcer.submit(world.request())
            except CallerError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


class TestPace:
    def test_it_looks_as_often_as_answers_are_quick(self, world):
        world.ask()
        assert world.enforcer.step() == FRESH_PAUSE_S

    def test_where_answers_take_long_it_leaves_the_machine_to_whoever_gives_them(self, world):
        for _ in range(50):
            world.ask()
            world.clock.advance(16)
            world.script.verdict(world.last_input())
            world.run()
        world.ask()
        assert world.enforcer.step() == pytest.approx(0.016 / PAUSE_SHARE, rel=0.05)
