"""An approval used otherwise than once, in time, by who asked: refused, and told to who watches (V2, V4, V7; PROTOCOL §8).

The right outcome of one that was never used is `abandoned` (by an enforcer). A try to use it in another way is a bypass:
an outcome of an intent that nobody asked for, which a worker records as one.
"""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import threading
import time
from types import SimpleNamespace

import factories as make
import pytest
from forked import REFUSED, forked
from scripted_worker import Live, Script, World, make_wiring

from harness_stream import HarnessSync, TimedOut
from harness_stream.client.enforcer import Enforcer
from harness_stream.core.ids import id_time_ms
from harness_stream.core.reasons import SECURITY_EVENTS, Refuse
from harness_stream.errors import Denied, Expired, Misused
from harness_stream.wire.codec import decode_input

ALARM = "[approval_misused]"
UNTOLD = "the decision log does not say it"


@pytest.fixture
def live():
    with Live() as live:
        yield live


@pytest.fixture
def chain(live):
    with HarnessSync.connect(**live.connection(), enforcer="gate-1") as harness:
        yield harness.chain()


def outcomes(live, count):
    """The outcomes, once as many are in as shall be, and none is under way."""
    patience = time.monotonic() + 5
    while len(live.worker.of("outcome")) < count and time.monotonic() < patience:
        time.sleep(0.005)
    time.sleep(0.05)
    return live.worker.of("outcome")


def told(live, verdict, count):
    """(status, is it of the approved intent?) of each outcome; all name the verdict."""
    found = outcomes(live, count)
    assert {event["verdict_digest"] for event in found} <= {verdict.digest}
    return [(event["status"], event["intent_id"] == verdict.intent_id) for event in found]


def start(verdict):
    verdict.start()


def token(verdict):
    verdict._session._tokens = SimpleNamespace(counts_at=lambda _now_ms: True)  # a signer that is never asked to sign
    verdict.token("payments")


@pytest.mark.parametrize("again", [start, token])
def test_a_second_use_is_a_bypass_and_the_first_ones_outcome_stands(live, chain, caplog, again):
    verdict = chain.decide("crm.read")
    verdict.start()
    verdict.report("done")
    with pytest.raises(Misused, match="used once"):
        again(verdict)
    assert told(live, verdict, 2) == [("done", True), ("abandoned", False)]
    assert [message for message in caplog.messages if ALARM in message and verdict.intent_id in message]


def test_a_loop_that_tries_again_and_again_is_told_once(live, chain, caplog):
    verdict = chain.decide("crm.read")
    verdict.start()
    for _ in range(50):
        with pytest.raises(Misused):
            verdict.start()
    assert told(live, verdict, 1) == [("abandoned", False)]
    assert len([message for message in caplog.messages if ALARM in message]) == 1


def test_of_threads_that_use_it_at_once_one_may_and_the_others_are_one_bypass(live, chain):
    verdict, ready, began = chain.decide("crm.read"), threading.Barrier(8), []

    def use():
        ready.wait()
        try:
            verdict.start()
            began.append(1)
        except Misused:
            return

    threads = [threading.Thread(target=use) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert began == [1]
    assert told(live, verdict, 1) == [("abandoned", False)]


# --- After it has run out ---


@pytest.fixture
def late():
    with Live(lambda _intent: ("approve", {"valid_for_ms": 0})) as late:
        yield late


@pytest.fixture
def late_chain(late):
    with HarnessSync.connect(**late.connection(), enforcer="gate-1") as harness:
        yield harness.chain()


@pytest.mark.parametrize("use", [start, token])
def test_a_use_after_expiry_is_a_bypass(late, late_chain, caplog, use):
    verdict = late_chain.decide("crm.read")
    for _ in range(2):
        with pytest.raises(Expired, match="run out"):
            use(verdict)
    assert told(late, verdict, 1) == [("abandoned", False)]
    assert len([message for message in caplog.messages if ALARM in message and verdict.intent_id in message]) == 1


def test_a_guard_that_comes_too_late_says_that_it_never_began_and_is_a_bypass(late, late_chain):
    with pytest.raises(TimedOut, match="run out"):
        late_chain.guard("crm.read")(lambda: pytest.fail("it ran"))()
    found = outcomes(late, 2)
    [intent] = late.worker.of("intent")
    assert [(o["status"], o["intent_id"] == intent["intent_id"], o["by"]) for o in found] == [
        ("abandoned", True, "gate-1"),
        ("abandoned", False, "gate-1"),
    ]


def test_one_that_runs_out_while_its_obligations_are_fulfilled_only_never_began():
    with Live(lambda _intent: ("approve", {"valid_for_ms": 40, "obligations": {"ask": 1}})) as slow:
        with HarnessSync.connect(**slow.connection(), enforcer="gate-1") as harness:
            slowly = {"ask": lambda _value: time.sleep(0.06)}
            guarded = harness.chain().guard("crm.read", obligations=slowly)(lambda: pytest.fail("it ran"))
            with pytest.raises(TimedOut, match="run out") as raised:
                guarded()
            found = outcomes(slow, 1)
        [intent] = slow.worker.of("intent")
    assert not isinstance(raised.value, Expired)
    assert [(o["status"], o["intent_id"]) for o in found] == [("abandoned", intent["intent_id"])]


# --- Told whatever stands in the way ---


def test_there_is_room_for_it_however_many_wait(live, chain, monkeypatch):
    verdict = chain.decide("crm.read")
    verdict.start()
    monkeypatch.setattr("harness_stream.client.enforcer.WAITING_MAX", 0)
    with pytest.raises(Misused):
        verdict.start()
    assert told(live, verdict, 1) == [("abandoned", False)]


def test_one_that_does_not_land_is_said_to_be_missing(live, chain, caplog, monkeypatch):
    verdict = chain.decide("crm.read")
    verdict.start()
    monkeypatch.setattr(live.worker, "_answer", lambda _record: None)
    monkeypatch.setattr("harness_stream.core.limits.DEADLINE_MS_DEFAULT", 50)
    with pytest.raises(Misused):
        verdict.start()
    patience = time.monotonic() + 5
    while UNTOLD not in caplog.text and time.monotonic() < patience:
        time.sleep(0.01)
    assert caplog.text.count(UNTOLD) == 1


def test_one_that_is_refused_as_a_bypass_has_arrived(live, chain, caplog):
    verdict = chain.decide("crm.read")
    verdict.start()
    live.worker.refuse["outcome"] = Refuse.BYPASS
    with pytest.raises(Misused):
        verdict.start()
    outcomes(live, 1)
    assert UNTOLD not in caplog.text


def test_after_the_harness_was_closed_it_is_said_to_be_missing(live, caplog):
    with HarnessSync.connect(**live.connection()) as harness:
        verdict = harness.chain().decide("crm.read")
        verdict.start()
    with pytest.raises(Misused):
        verdict.start()
    assert caplog.text.count(UNTOLD) == 1


# --- To a worker ---


def test_what_is_told_is_a_bypass_to_a_worker(live, chain):
    verdict = chain.decide("crm.read")
    verdict.start()
    with pytest.raises(Misused):
        verdict.start()
    [outcome] = outcomes(live, 1)
    event = decode_input(json.dumps(outcome).encode())
    body = make.Story().take(event, t=id_time_ms(event.intent_id) + 5)
    assert (body["kind"], body["status"], body["reason"]) == ("ack", "refused", Refuse.BYPASS)
    assert body["detail"] == f"again of verdict {verdict.digest}, by gate-1"
    assert Refuse.BYPASS in SECURITY_EVENTS


# --- Another process ---


@pytest.fixture
def logged(tmp_path):
    """What this process and forked ones log."""
    path = tmp_path / "log"
    handler = logging.FileHandler(path)
    logging.getLogger("harness_stream").addHandler(handler)
    yield path.read_text
    logging.getLogger("harness_stream").removeHandler(handler)
    handler.close()


@pytest.mark.parametrize("use", [start, token])
def test_a_forked_process_is_refused_and_is_a_bypass(live, chain, logged, use):
    verdict = chain.decide("crm.read")
    assert forked(lambda: use(verdict)) == REFUSED
    assert logged().count(ALARM) == 1
    assert told(live, verdict, 1) == [("abandoned", False)]
    verdict.start()  # and the parent's is not used up
    verdict.report("done")
    assert told(live, verdict, 2) == [("abandoned", False), ("done", True)]


def test_a_loop_in_a_forked_process_is_told_once(live, chain, logged):
    verdict = chain.decide("crm.read")

    def use():
        for _ in range(50):
            with pytest.raises(Misused):
                verdict.start()
        verdict.start()

    assert forked(use) == REFUSED
    assert logged().count(ALARM) == 1
    assert told(live, verdict, 1) == [("abandoned", False)]


def test_many_forked_processes_are_told_each(live, chain):
    verdicts = [chain.decide("crm.read") for _ in range(5)]
    for verdict in verdicts:
        assert forked(verdict.start) == REFUSED
    found = outcomes(live, 5)
    assert [outcome["verdict_digest"] for outcome in found] == [verdict.digest for verdict in verdicts]


def open_harness(live):
    return HarnessSync.connect(**live.connection())


def forks_of(chain):
    return chain._session.enforcer._forks


def test_of_a_misuse_in_the_parent_and_then_in_a_forked_process_both_are_told(live, chain, logged):
    verdict = chain.decide("crm.read")
    verdict.start()
    with pytest.raises(Misused):
        verdict.start()
    assert forked(verdict.start) == REFUSED
    assert [outcome["misused"] for outcome in outcomes(live, 2)] == ["again", "elsewhere"]
    assert logged().count(ALARM) == 2


def test_what_a_forked_process_told_right_before_the_harness_is_closed_is_not_lost(live):
    for n in range(20):
        with HarnessSync.connect(**live.connection()) as harness:
            verdict = harness.chain().decide("crm.read")
            assert forked(verdict.start) == REFUSED
        assert len(outcomes(live, n + 1)) == n + 1


@pytest.mark.parametrize("ending", ["closed", "taken over"])
def test_a_forked_process_that_nobody_hears_says_so_and_writes_into_nobodys_file(live, logged, tmp_path, ending):
    """Its harness was closed in the parent, or the program closed all it had and opened other files."""
    other = tmp_path / "other"
    with HarnessSync.connect(**live.connection()) as harness:
        verdict, closed_in, closed_out = harness.chain().decide("crm.read"), *os.pipe()

        def use():
            if ending == "taken over":
                os.dup2(os.open(other, os.O_WRONLY | os.O_CREAT), forks_of(harness.chain())._telling.fileno())
            else:
                os.read(closed_in, 1)
            verdict.start()

        if ending == "closed":
            threading.Timer(0.1, lambda: (harness.close(), os.write(closed_out, b"."))).start()
        assert forked(use) == REFUSED
    assert not other.exists() or other.read_bytes() == b""
    assert UNTOLD in logged()
    assert outcomes(live, 0) == []


def test_the_parents_end_is_read_and_closed_only_while_it_is_ours(live, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"f" * 64)
    with HarnessSync.connect(**live.connection()) as harness:
        harness.chain()
        end = forks_of(harness.chain())._hearing.fileno()
        os.dup2(os.open(other, os.O_RDONLY), end)
        harness.chain().decide("crm.read")
    assert os.read(end, 100) == b"f" * 64, "it is open, and nobody read from it"
    os.close(end)
    assert outcomes(live, 0) == []


@pytest.mark.parametrize("junk", [b"", b"\xff" * 64, b"F" * 64, b"f" * 63, b"f" * 65 + b"!", b"{}"])
def test_what_is_no_digest_is_nobodys_word_and_ends_nothing(live, chain, junk):
    forks_of(chain)._telling.send(junk)
    chain.decide("crm.read")
    forks_of(chain)._telling.send(b"f" * 64)
    [outcome] = outcomes(live, 1)
    assert outcome["verdict_digest"] == "f" * 64


def test_a_closed_harness_leaves_nothing_open(live):
    with HarnessSync.connect(**live.connection()) as harness:
        forks = forks_of(harness.chain())
        ends = [forks._hearing.fileno(), forks._telling.fileno()]
    for end in ends:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(end)


def test_a_handler_that_forks_lets_one_of_both_go_on():
    children = []

    def mask(_value):
        children.append(os.fork())

    with Live(lambda _intent: ("approve", {"obligations": {"mask": 1}})) as masked, open_harness(masked) as harness:
        try:
            went_on = harness.chain().guard("crm.read", obligations={"mask": mask})(lambda: True)()
        except Misused:
            went_on = False
        if children[0] == 0:
            os._exit(0 if went_on else REFUSED)
        assert went_on
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == REFUSED


def test_a_token_in_a_forked_process_is_a_bypass_whoever_could_sign_it(live, chain):
    verdict = chain.decide("crm.read")
    assert forked(lambda: verdict.token("payments")) == REFUSED
    assert told(live, verdict, 1) == [("abandoned", False)]


def test_whatever_locks_a_thread_held_when_it_forked_a_forked_process_is_refused_and_does_not_hang(live, chain):
    session, guarded = chain._session, chain.guard("crm.read")(lambda: 1)
    verdict = chain.decide("crm.read")
    locks = (verdict._answer._lock, session.enforcer._lock, session._ids._lock)
    enforcer = session.enforcer
    asked = (lambda: enforcer.submit(World().request()), lambda: enforcer.open("acme"))
    for use in (verdict.start, guarded, lambda: verdict.report("done"), *asked):
        for lock in locks:
            lock.acquire()
        try:
            assert forked(use) == REFUSED
        finally:
            for lock in locks:
                lock.release()


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_an_approval_is_neither_copied_nor_kept_and_the_try_is_a_bypass(live, chain, take):
    verdict = chain.decide("crm.read")
    for what in (verdict._answer, verdict):
        with pytest.raises(Misused, match="not copied"):
            take(what)
    assert told(live, verdict, 1) == [("abandoned", False)]


# --- After a restart ---


def restarted(world):
    """Another process of the same agent, which reads the log from where its own fold begins."""
    again = World()
    again.broker, again.clock, again.script = world.broker, world.clock, Script(world.broker, place=world.script.place)
    again.wiring = make_wiring(world.broker, world.clock)
    again.enforcer = Enforcer(again.wiring)
    return again


def test_an_approve_of_before_a_restart_is_nobodys():
    world = World()
    world.script.begin()
    future = world.ask()
    record = world.last_input()
    world.script.verdict(record)  # and the process ends before it reads it
    again = restarted(world)
    asked = again.enforcer.submit(again.request(id=json.loads(record.value)["intent_id"], value=record.value))
    again.run()
    again.script.reject(again.last_input(), "duplicate")
    again.run()
    assert isinstance(asked.exception(0), Denied)
    assert not future.done()


def test_even_if_a_worker_approved_its_very_bytes_again_the_nonce_is_the_former_ones():
    world = World()
    world.script.begin()
    world.ask()
    record = world.last_input()
    again = restarted(world)
    asked = again.enforcer.submit(again.request(id=json.loads(record.value)["intent_id"], value=record.value))
    again.run()
    again.script.verdict(again.last_input())
    again.run()
    assert not asked.done()
    again.wait(5_100)
    assert isinstance(asked.exception(0), TimedOut)
