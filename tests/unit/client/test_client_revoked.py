"""An approval is taken back while it is used: by a notice that counts, the close of its chain, the end of its mandate."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time

import pytest
from forked import REFUSED, forked
from scripted_worker import HOME, TOPICS, Live, World

from harness_stream import Harness, HarnessSync, Revoked, revoked
from harness_stream.adapters.signing import UNSIGNED_HEADERS
from harness_stream.client.answer import Answer
from harness_stream.client.running import GROUPS_MIN, Running
from harness_stream.core.reasons import EXPLAIN, Revoke
from harness_stream.errors import CallerError
from harness_stream.ports import LogRecord

PATIENCE_S = 5.0
AGENT = "support-1"
RECORD = LogRecord(TOPICS.verdicts, HOME, 1, None, b"{}", 1, UNSIGNED_HEADERS)


@pytest.fixture
def world():
    world = World()
    world.script.begin()
    return world


def approved(world, **other):
    """An approval in use."""
    future = world.ask()
    world.script.verdict(world.last_input(), **other)
    world.run()
    answer = future.result(0)
    answer.start()
    return answer


def event(agent=AGENT, chain_id="case-1", above=(), chains=()):
    lineage = {"root": [], "above": list(above), "chains": list(chains), "joins": [], "ends_at": None} if above else None
    return {"agent_id": agent, "chain_id": chain_id, "lineage": lineage}


class TestNotices:
    @pytest.mark.parametrize("status", ["suspended", "killed"])
    def test_a_notice_of_the_owner_takes_back_what_runs(self, world, status):
        answer = approved(world)
        assert not answer.revoked.is_set()
        world.script.notice(status=status)
        world.run()
        assert answer.revoked.is_set()
        assert answer.revoked.reason == status

    def test_where_the_log_can_no_longer_be_followed_what_runs_is_taken_back(self, world):
        answer = approved(world)
        world.broker.truncate_from(TOPICS.verdicts, HOME, 1)
        world.wait(2_000)
        assert answer.revoked.reason == Revoke.UNHEARD

    def test_so_is_everything_if_the_one_who_listens_fails(self):
        with Live() as live, HarnessSync.connect(**live.connection()) as harness:
            verdict = harness.chain().decide("crm.read")
            verdict.start()
            verdict._session.enforcer._read = lambda: 1 / 0
            assert verdict.revoked.wait(PATIENCE_S)
            assert verdict.revoked.reason == Revoke.UNHEARD

    def test_so_is_what_runs_when_its_harness_is_closed_and_what_has_not_begun_cannot(self):
        with Live() as live, HarnessSync.connect(**live.connection()) as harness:
            runs, waits = (harness.chain().decide("crm.read") for _ in range(2))
            runs.start()
        assert runs.revoked.reason == Revoke.UNHEARD
        with pytest.raises(Revoked, match="unheard"):
            waits.start()

    def test_what_ended_before_its_harness_was_closed_is_done(self):
        with Live() as live:
            with HarnessSync.connect(**live.connection()) as harness:
                assert harness.chain().guard("crm.read")(lambda: 7)() == 7
            assert outcome(live) == [("done", "")]

    def test_a_coroutine_that_is_left_behind_is_cancelled(self):
        async def main(live):
            begun = asyncio.Event()

            async def body():
                begun.set()
                await asyncio.sleep(60)

            async with Harness.connect(**live.connection()) as harness:
                left = asyncio.create_task((await harness.chain()).guard("crm.read")(body)())
                await asyncio.wait_for(begun.wait(), PATIENCE_S)
            with pytest.raises(Revoked, match="unheard"):
                await asyncio.wait_for(left, PATIENCE_S)

        with Live() as live:
            asyncio.run(main(live))

    def test_a_forked_process_is_told_that_it_is_not_told(self):
        with Live() as live, HarnessSync.connect(**live.connection()) as harness:
            verdict = harness.chain().decide("crm.read")
            verdict.start()
            for look in (verdict.revoked.is_set, lambda: verdict.revoked.wait(0)):
                assert forked(look) == REFUSED

    def test_another_agents_runs_on(self, world):
        answer = approved(world)
        world.script.notice("support-2")
        world.run()
        assert not answer.revoked.is_set()

    def test_what_was_approved_and_not_begun_cannot_begin(self, world):
        future = world.ask()
        world.script.verdict(world.last_input())
        world.script.notice()
        world.run()
        answer = future.result(0)
        assert not answer.valid
        with pytest.raises(Revoked, match="before the action began; nothing was run") as refused:
            answer.start()
        assert refused.value.hint == EXPLAIN[Revoke.KILLED]
        assert refused.value.verdict is answer

    def test_one_that_comes_while_obligations_are_fulfilled_stops_it_too(self, world):
        def mask(_value):
            world.script.notice()
            world.run()

        future = world.ask(handlers={"mask": mask})
        world.script.verdict(world.last_input(), obligations={"mask": 1})
        world.run()
        with pytest.raises(Revoked, match="before the action began"):
            future.result(0).start()

    def test_what_is_approved_after_it_is_not_touched_by_it(self, world):
        world.script.notice()
        answer = approved(world)
        assert not answer.revoked.is_set()

    def test_one_above_it_is_stopped(self, world):
        answer = approved(world, event=event(above=["boss-1", "lead-1"], chains=["case-9", "agent:lead-1"]))
        world.script.notice("boss-1", "suspended")
        world.run()
        assert answer.revoked.reason == Revoke.SUSPENDED

    def test_it_changes_no_fold_and_counts_as_no_loss(self, world):
        approved(world)
        head = world.enforcer._following[HOME].head
        before = head.place
        world.script.notice()
        world.run()
        assert (head.place, head.void, head.forged) == (before, 0, 0)
        assert head.sign.kind == "notice"

    def test_a_log_that_is_read_again_takes_nothing_back_that_was_approved_later(self, world):
        world.script.checkpoint()
        world.script.notice()
        answer = approved(world)
        world.enforcer._following[HOME].reopen()
        world.run(20)
        assert world.enforcer._following[HOME].ready
        assert not answer.revoked.is_set()


class TestNotObeyed:
    """Each fails without one of the checks in `core.notice.heard`, or without the one of authenticity."""

    def spared(self, world, answer):
        world.run()
        assert not answer.revoked.is_set()
        world.script.notice()
        world.run()
        assert answer.revoked.is_set(), "the right one after it counts"

    def test_a_former_owners(self, world):
        answer = approved(world)
        zombie = world.script.twin()
        world.script.claim()
        zombie.notice()
        self.spared(world, answer)

    def test_one_in_the_epoch_in_force_by_another_writer(self, world):
        answer = approved(world)
        world.script.notice(writer="b" * 32)
        self.spared(world, answer)

    def test_one_of_an_epoch_that_nobody_claimed(self, world):
        answer = approved(world)
        world.script.notice(epoch=99)
        self.spared(world, answer)

    def test_a_copy_of_an_old_one(self, world):
        offset = world.script.notice()
        record = world.broker.read(TOPICS.verdicts, HOME, offset, 1)[0]
        answer = approved(world)
        world.broker.append(TOPICS.verdicts, HOME, None, record.value, record.headers)
        self.spared(world, answer)

    def test_one_of_another_partition_and_of_another_incarnation(self, world):
        answer = approved(world)
        world.script.notice(partition=HOME + 1)
        world.script.notice(incarnation="other.topics")
        self.spared(world, answer)

    def test_one_that_says_something_else(self, world):
        answer = approved(world)
        for over in ({"status": "active"}, {"agent_id": 1}, {"revision": None}):
            world.script.notice(**over)
        self.spared(world, answer)

    def test_one_that_is_not_authentic(self, world):
        answer = approved(world)
        body = json.dumps(json.loads(world.broker.read(TOPICS.verdicts, HOME, world.script.notice("x"), 1)[0].value) | {"agent_id": AGENT})
        world.broker.append(TOPICS.verdicts, HOME, None, body.encode(), [])
        self.spared(world, answer)


class TestEnds:
    def test_the_close_of_its_chain(self, world):
        answer = approved(world, event=event())
        self.close(world, "case-2")
        assert not answer.revoked.is_set()
        self.close(world, "case-1")
        assert answer.revoked.reason == Revoke.CHAIN_CLOSED

    def test_the_close_of_a_chain_above(self, world):
        answer = approved(world, event=event(above=["boss-1"], chains=["case-9"]))
        self.close(world, "case-9")
        assert not answer.revoked.is_set(), "its own agent has no such chain"
        self.close(world, "case-9", "boss-1")
        assert answer.revoked.is_set()

    def test_a_close_that_was_refused_ends_nothing(self, world):
        answer = approved(world, event=event())
        self.close(world, "case-1", refused=True)
        assert not answer.revoked.is_set()

    def close(self, world, chain_id, agent=AGENT, *, refused=False):
        body = {"type": "mandate", "mandate_id": "m", "agent_id": agent, "chain_id": chain_id, "close": True}
        offset = world.broker.append(TOPICS.intents, HOME, None, json.dumps(body).encode())
        record = world.broker.read(TOPICS.intents, HOME, offset, 1)[0]
        world.script.ack(record, "not_signer") if refused else world.script.close(record)
        world.run()

    def test_the_end_of_its_mandate_and_not_before(self, world):
        answer = approved(world, ends_at=world.clock.now_ms() + 60_000)
        world.wait(60_000)
        assert not answer.revoked.is_set(), "an intent at expires_at is still judged"
        world.wait(10)
        assert answer.revoked.reason == Revoke.MANDATE_EXPIRED

    def test_an_answer_that_comes_late_is_not_given_more(self, world):
        """`ends_at` and `t` are the broker's; ours begins with our publish, which is older than both."""
        future = world.ask()
        record, t = world.last_input(), world.clock.now_ms()
        world.clock.advance(3_000)
        world.script.verdict(record, t=t, ends_at=t + 4_000)
        world.run()
        answer = future.result(0)
        world.wait(1_010)
        assert answer.revoked.is_set()

    def test_each_has_its_own_end(self, world):
        t = world.clock.now_ms()
        late, soon, never = approved(world, ends_at=t + 9_000), approved(world, ends_at=t + 2_000), approved(world)
        world.wait(2_010)
        assert [a.revoked.is_set() for a in (late, soon, never)] == [False, True, False]
        world.wait(7_000)
        assert [a.revoked.is_set() for a in (late, soon, never)] == [True, True, False]

    def test_after_a_hold_the_time_that_a_person_took_is_not_taken_from_it(self, world):
        future = world.ask(wait_for_hold=True)
        record = world.last_input()
        world.script.verdict(record, "hold")
        world.run()
        world.wait(600_000)
        again = world.script.verdict_body(record, ends_at=world.clock.now_ms() + 60_000)
        again["covers"] = [world.script.header.next_input, world.script.header.next_input]
        world.script.write(again)
        world.run()
        answer = future.result(0)
        world.wait(50_000)
        assert not answer.revoked.is_set()
        world.wait(10_010)
        assert answer.revoked.is_set()


class TestMemory:
    def answer(self, agent=AGENT):
        body = {"decision": "approve", "intent_id": "i", "obligations": {}, "valid_for_ms": 1, "t": 1}
        return Answer({**body, "agent_id": agent, "event": None}, "d", 1, RECORD)

    def test_who_holds_it_no_more_is_forgotten(self):
        running, answer = Running(), self.answer()
        running.add(0, answer, None)
        assert running
        del answer
        gc.collect()
        assert not running

    def test_who_was_given_nothing_but_the_word_of_its_end_is_told(self):
        running, answer = Running(), self.answer()
        running.add(0, answer, 1_000)
        word = answer.revoked
        del answer
        gc.collect()
        running.expire(1_000)
        assert word.reason == Revoke.MANDATE_EXPIRED
        del word
        gc.collect()
        assert not running

    def test_agents_that_hold_nothing_leave_nothing_behind(self):
        running = Running()
        for number in range(3 * GROUPS_MIN):
            running.add(0, self.answer(f"agent-{number}"), None)
        assert len(running._groups) <= GROUPS_MIN

    def test_one_agents_mandates_are_looked_at_once(self):
        running, kept = Running(), [self.answer() for _ in range(100)]
        for number, answer in enumerate(kept):
            running.add(0, answer, 1_000 + number)
        assert len(running._ends) == 1
        running.expire(1_099)
        assert all(answer.revoked.is_set() for answer in kept)
        assert not running._ends

    @pytest.mark.parametrize(
        "event", [None, [], {"lineage": 1}, {"lineage": {"above": 1}}, {"chain_id": 1, "lineage": {"above": [1], "chains": [{}]}}]
    )
    def test_an_event_that_is_not_as_it_must_be_names_nobody_else(self, event):
        body = {"decision": "approve", "intent_id": "i", "obligations": {}, "valid_for_ms": 1, "t": 1}
        assert {agent for agent, _ in Answer({**body, "agent_id": AGENT, "event": event}, "d", 1, RECORD).acting} <= {AGENT}


# --- guarded functions ---


def outcome(live):
    """Status and reason of the one that was reported."""
    patience = time.monotonic() + PATIENCE_S
    while not live.worker.of("outcome") and time.monotonic() < patience:
        time.sleep(0.005)
    return [(told["status"], told.get("revoked", "")) for told in live.worker.of("outcome")]


@pytest.fixture
def live():
    with Live() as live:
        yield live


class TestCoroutines:
    def run(self, live, body, then=lambda task: task):
        """Guard `body`, kill the agent once it runs; what became of the call."""

        async def main():
            async with Harness.connect(**live.connection()) as harness:
                started = asyncio.Event()

                @(await harness.chain()).guard("crm.read")
                async def slow():
                    started.set()
                    return await body()

                task = asyncio.create_task(then(slow)())
                await started.wait()
                live.worker._script.notice()
                return await asyncio.wait_for(task, PATIENCE_S)

        return asyncio.run(main())

    def test_it_is_cancelled_and_the_outcome_says_why(self, live):
        with pytest.raises(Revoked, match="while the action ran: how far it came is not known"):
            self.run(live, lambda: asyncio.sleep(60))
        assert outcome(live) == [("unknown", "killed")]

    def test_it_may_clean_up_and_the_task_around_it_goes_on(self, live):
        cleaned = []

        async def body():
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)

        def then(slow):
            async def around():
                with pytest.raises(Revoked):
                    await slow()
                await asyncio.sleep(0)
                return asyncio.current_task().cancelling()

            return around

        assert self.run(live, body, then) == 0
        assert cleaned == [True]

    def test_one_that_will_not_be_cancelled_and_comes_to_its_end_is_done_and_says_so(self, live):
        async def body():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "all of it"

        assert self.run(live, body) == "all of it"
        assert outcome(live) == [("done", "killed")]

    def test_who_cancels_the_task_himself_gets_his_own_cancellation(self, live):
        async def body():
            asyncio.current_task().cancel()
            await asyncio.sleep(60)

        with pytest.raises(asyncio.CancelledError):
            self.run(live, body)
        assert [status for status, _ in outcome(live)] == ["unknown"]

    def test_one_that_has_ended_cancels_nothing_any_more(self, live):
        async def quick():
            return await asyncio.sleep(0, "done")

        async def main():
            async with Harness.connect(**live.connection()) as harness:
                chain = await harness.chain()
                assert await chain.guard("crm.read")(quick)() == "done"
                verdict = await chain.decide("crm.read")
                live.worker._script.notice()
                assert await asyncio.to_thread(verdict.revoked.wait, PATIENCE_S)
                return asyncio.current_task().cancelling()

        assert asyncio.run(main()) == 0


class TestBlocking:
    def test_a_plain_function_is_told_and_its_outcome_says_so(self, live):
        with HarnessSync.connect(**live.connection()) as harness:

            @harness.chain().guard("crm.read")
            def steps():
                live.worker._script.notice(status="suspended")
                assert revoked().wait(PATIENCE_S)
                raise InterruptedError(revoked().reason)

            with pytest.raises(InterruptedError, match="suspended"):
                steps()
            assert outcome(live) == [("unknown", "suspended")]

    def test_one_that_comes_to_its_end_is_done_and_says_so(self, live):
        with HarnessSync.connect(**live.connection()) as harness:

            @harness.chain().guard("crm.read")
            def steps():
                live.worker._script.notice()
                return revoked().wait(PATIENCE_S)

            assert steps() is True
            assert outcome(live) == [("done", "killed")]

    def test_after_decide_it_is_the_verdicts(self, live):
        with HarnessSync.connect(**live.connection()) as harness:
            verdict = harness.chain().decide("crm.read")
            verdict.start()
            assert not verdict.revoked.is_set()
            live.worker._script.notice()
            assert verdict.revoked.wait(PATIENCE_S)
            verdict.report("unknown")
            assert outcome(live) == [("unknown", "killed")]

    def test_code_that_was_given_only_the_word_of_its_end_is_told(self, live):
        with HarnessSync.connect(**live.connection()) as harness:

            def begun():
                verdict = harness.chain().decide("crm.read")
                verdict.start()
                return verdict.revoked

            word = begun()
            gc.collect()
            live.worker._script.notice()
            assert word.wait(PATIENCE_S)

    def test_one_that_was_taken_back_before_it_began_is_reported_as_never_begun(self):
        begun = threading.Event()

        def mask(_value):
            live.worker._script.notice()
            assert live_answers[0].revoked.wait(PATIENCE_S)

        live_answers = []
        live = Live(lambda _intent: ("approve", {"obligations": {"mask": 1}}))
        with live, HarnessSync.connect(**live.connection(), enforcer="gate-1") as harness:
            approved = harness._session.enforcer._running.add

            def noted(partition, answer, ends_ms):
                live_answers.append(answer)
                approved(partition, answer, ends_ms)

            harness._session.enforcer._running.add = noted
            with pytest.raises(Revoked, match="nothing was run"):
                harness.chain().guard("crm.read", obligations={"mask": mask})(begun.set)()
            assert outcome(live) == [("abandoned", "killed")]
        assert not begun.is_set()

    def test_outside_of_a_guarded_call_there_is_none(self):
        with pytest.raises(CallerError, match="no guarded call"):
            revoked()
