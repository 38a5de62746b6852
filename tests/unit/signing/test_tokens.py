"""Tokens: what an executor that folds nothing believes, and that it believes nothing else (PROTOCOL §9)."""

from __future__ import annotations

import subprocess
import sys
import threading

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness_stream import token as executor
from harness_stream.adapters.signing.certificate import WORKER
from harness_stream.adapters.signing.tokens import seal_of
from harness_stream.core import limits
from harness_stream.core.canonical import arguments_digest
from harness_stream.core.reasons import EXPLAIN, Token
from harness_stream.errors import CallerError, Overloaded, TokenRefused
from harness_stream.wire.cloudevents import base64url, from_base64url
from tests.signed import SignedRealm, seed
from tests.tokens import (
    AGENT,
    ARGUMENTS,
    GATE,
    NOW,
    REALM,
    certificate,
    parts,
    records,
    seal,
    token,
    verdict_body,
)

OTHER = SignedRealm("acme2", REALM.incarnation)
RECREATED = SignedRealm("acme", "topic-a.topic-c")
SKEW = limits.CLOCK_SKEW_MS_MAX


def verified(text, **over):
    asked = {"root": REALM.root_public, "realm": "acme", "audience": "payments", "action": "crm.refund"}
    return executor.verify(text, **{**asked, "arguments": ARGUMENTS, "once": None, "now_ms": NOW, **over})


def word(text, **over):
    with pytest.raises(TokenRefused) as caught:
        verified(text, **over)
    (found,) = caught.value.reasons
    assert caught.value.hint == EXPLAIN[found]
    assert f"({found})" in caught.value.message
    assert caught.value.exit_code == 1
    return found


# --- What is right ---


def test_a_token_says_what_may_be_run_by_whom_and_until_when():
    said = verified(token(), incarnation=REALM.incarnation)
    assert (said.agent_id, said.intent_id, said.action, said.enforcer) == (AGENT, "intent-0", "crm.refund", GATE)
    assert (said.resources, said.measures) == (("crm://orders/1234",), {"amount": 40})
    assert (said.not_after_ms, said.ends_ms) == (NOW + 5_000, NOW + limits.DEADLINE_MS_MAX + SKEW)
    assert said.arguments_digest == arguments_digest(ARGUMENTS)


@pytest.mark.parametrize("size", [1, 2, 7, 256])
def test_of_any_record_of_a_micro_batch(size):
    for record in records(*(verdict_body(n) for n in range(size)))[:: max(1, size // 5)]:
        text = token(record)
        assert verified(text).intent_id == f"intent-{record.offset}"
        assert len(text) <= limits.TOKEN_CHARS_MAX


def test_the_largest_one_there_can_be_is_read():
    body = verdict_body(event={"lane": "ü" * 256, "agent_id": "a" * 256})
    body["inputs"] = {"x": "y" * (limits.VERDICT_BYTES_MAX - len(orjson.dumps({**body, "inputs": {"x": ""}})))}
    record = records(body, *(verdict_body(n) for n in range(255)))[0]
    assert len(record.value) == limits.VERDICT_BYTES_MAX
    text = token(record, "ö" * 256, by=seal(name="ä" * 256, lane="ü" * 256))
    assert verified(text, audience="ö" * 256).action == "crm.refund"


def test_two_tokens_of_one_approve_differ_by_their_nonce():
    record = records(verdict_body())[0]
    one, other = verified(token(record)), verified(token(record))
    assert one.nonce != other.nonce
    assert one.verdict_digest == other.verdict_digest


def test_arguments_are_compared_by_value_and_their_digest_will_do():
    assert verified(token(), arguments={"amount": 40, "order": 1234})
    assert verified(token(), arguments=None, arguments_digest=arguments_digest(ARGUMENTS))
    for wrong in ({"arguments": None}, {"arguments_digest": arguments_digest(ARGUMENTS)}):
        with pytest.raises(CallerError, match="certain arguments"):
            verified(token(), **wrong)
    nothing = token(records(verdict_body(arguments_digest=arguments_digest({})))[0])
    assert verified(nothing, arguments={})


def test_an_executor_needs_neither_broker_nor_store():
    known = "{'confluent_kafka', 'redis', 'cel_expr_python', 'typer'}"
    code = f"import sys, harness_stream.token; print(sorted({known} & {{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


# --- What is wrong, one thing at a time ---

STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(32))
HELD_UNTIL = NOW + 3_000

REFUSED = {
    "another audience": (Token.AUDIENCE, lambda: token(audience="payments2"), {}),
    "another realm": (Token.REALM, lambda: token(records(verdict_body(realm=OTHER), realm=OTHER)[0], by=seal(OTHER)), {}),
    "recreated topics": (
        Token.REALM,
        lambda: token(records(verdict_body(realm=RECREATED), realm=RECREATED)[0], by=seal(RECREATED)),
        {"incarnation": REALM.incarnation},
    ),
    "no worker of the root": (
        Token.WORKER,
        lambda: token(records(verdict_body(), worker=stranger_realm().worker())[0]),
        {},
    ),
    "another partition": (Token.WORKER, lambda: token(records(verdict_body())[0]._replace(partition=4)), {}),
    "a certificate of other epochs": (
        Token.WORKER,
        lambda: token(records(verdict_body(), worker=REALM.worker(epochs=(8, 9)))[0]),
        {},
    ),
    "a verdict that is too large": (
        Token.WORKER,
        lambda: token(records(orjson.dumps(verdict_body()) + b" " * limits.VERDICT_BYTES_MAX)[0]),
        {},
    ),
    "no proof": (Token.WORKER, lambda: token(records(verdict_body())[0]._replace(headers=())), {}),
    "a denial": (Token.DECISION, lambda: token(records(verdict_body(decision="deny"))[0]), {}),
    "a hold": (Token.DECISION, lambda: token(records(verdict_body(decision="hold", hold_until=NOW + 9))[0]), {}),
    "an approve that nobody evaluated": (Token.DECISION, lambda: token(records(verdict_body(event=None))[0]), {}),
    "a record that is no verdict": (Token.DECISION, lambda: token(records({"kind": "claim", "epoch": 7})[0]), {}),
    "no JSON": (Token.DECISION, lambda: token(records(b"[" * 9_000)[0]), {}),
    "a record of another incarnation": (Token.DECISION, lambda: token(records(verdict_body(incarnation="x.y"))[0]), {}),
    "an event without an action": (Token.DECISION, lambda: token(records(verdict_body(event={"resources": 1}))[0]), {}),
    "no certificate": (Token.ENFORCER, lambda: parts(token())._replace(enforcer=b"").text(), {}),
    "an enroller that the root did not certify": (Token.ENFORCER, lambda: token(by=seal(root=STRANGER)), {}),
    "a worker's key as enroller": (Token.ENFORCER, lambda: token(by=seal(role=WORKER)), {}),
    "an enroller for some epochs": (Token.ENFORCER, lambda: token(by=seal(given={"epochs": (1, 9)})), {}),
    "an enforcer that the enroller did not certify": (Token.ENFORCER, lambda: token(by=seal(by=STRANGER)), {}),
    "a certificate for another realm": (
        Token.ENFORCER,
        lambda: parts(token())._replace(enforcer=certificate(OTHER)).text(),
        {},
    ),
    "the agent itself": (Token.ENFORCER, lambda: token(by=seal(name=AGENT)), {}),
    "an enforcer of another lane": (Token.ENFORCER, lambda: token(by=seal(lane="lane-2")), {}),
    "a key that has ended": (Token.ENFORCER, lambda: token(by=seal(times=(0, NOW - 1))), {}),
    "a key that does not count yet": (Token.ENFORCER, lambda: token(by=seal(times=(NOW + 1, NOW + 9_000))), {}),
    "another key than the certified one": (
        Token.SIGNATURE,
        lambda: parts(token(by=seal(key=STRANGER)))._replace(enforcer=certificate()).text(),
        {},
    ),
    "no signature": (Token.SIGNATURE, lambda: parts(token())._replace(sig=b"").text(), {}),
    "it has ended": (Token.TIME, lambda: token(not_after=NOW), {}),
    "it ended long ago": (Token.TIME, token, {"now_ms": NOW + 86_400_000}),
    "it lasts too long": (Token.TIME, lambda: token(not_after=NOW + limits.TOKEN_MS_MAX + SKEW + 1), {}),
    "it is of an approve long ago": (
        Token.TIME,
        lambda: token(records(verdict_body(t=NOW - limits.DEADLINE_MS_MAX - SKEW))[0]),
        {},
    ),
    "it lasts longer than the hold": (
        Token.TIME,
        lambda: token(records(verdict_body(hold_until=HELD_UNTIL))[0], not_after=HELD_UNTIL + SKEW + 1),
        {},
    ),
    "another action": (Token.ACTION, token, {"action": "crm.read"}),
    "other arguments": (Token.ARGUMENTS, token, {"arguments": {"order": 1234, "amount": 41}}),
    "another digest": (Token.ARGUMENTS, token, {"arguments": None, "arguments_digest": "0" * 64}),
    "a part more": (Token.MALFORMED, lambda: longer(token()), {}),
    "a part less": (Token.MALFORMED, lambda: token()[: len(token()) // 2], {}),
    "nothing": (Token.MALFORMED, lambda: "", {}),
    "padding": (Token.MALFORMED, lambda: token() + "=", {}),
    "text around it": (Token.MALFORMED, lambda: f" {token()}\n", {}),
    "more than is read": (Token.MALFORMED, lambda: "A" * (limits.TOKEN_CHARS_MAX + 1), {}),
    "no ASCII": (Token.MALFORMED, lambda: "ä" * 40, {}),
    "no text": (Token.MALFORMED, lambda: b"AAAA", {}),
    "a nonce of another length": (Token.MALFORMED, lambda: parts(token())._replace(nonce=b"\0" * 15).text(), {}),
}


def stranger_realm():
    realm = SignedRealm("acme", REALM.incarnation)
    realm.root = STRANGER
    return realm


def longer(text):
    return base64url(from_base64url(text) + b"\0\0\0\0").decode()


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused_by_its_word(what):
    expected, make, over = REFUSED[what]
    assert word(make(), **over) == expected


def test_every_word_is_tried():
    assert {expected for expected, _, _ in REFUSED.values()} | {Token.USED} == set(Token)


def test_signatures_of_two_tokens_do_not_fit_each_other():
    one, other = parts(token()), parts(token(records(verdict_body(1))[0], not_after=NOW + 4_000))
    for name in one._fields:
        if getattr(one, name) != getattr(other, name):
            assert word(one._replace(**{name: getattr(other, name)}).text()) in {Token.SIGNATURE, Token.WORKER}, name


def test_text_that_nobody_vouched_for_moves_no_cursor():
    with pytest.raises(TokenRefused) as caught:
        verified(token(audience="\x1b[2J" + "x" * 1_000))
    assert "\x1b" not in caught.value.message
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("root", [b"", bytes(32), bytes(31), b"\xff" * 32])
def test_with_a_root_that_is_none_nothing_is_believed(root):
    assert word(token(), root=root) == Token.WORKER


# --- Once ---


def test_an_approve_runs_once_whichever_of_its_tokens_is_shown():
    once, record = executor.Once(since_ms=0), records(verdict_body())[0]
    assert verified(token(record), once=once)
    assert word(token(record), once=once) == Token.USED
    assert word(token(record, not_after=NOW + 9_000), once=once, now_ms=NOW + 8_000) == Token.USED
    assert verified(token(records(verdict_body(1))[0]), once=once)


def test_what_is_refused_uses_nothing_up():
    once, text = executor.Once(since_ms=0), token()
    word(text, once=once, arguments={})
    word(text, once=once, action="crm.read")
    assert verified(text, once=once)


def test_it_is_remembered_for_as_long_as_any_token_of_it_could_be_believed():
    once, record = executor.Once(since_ms=0), records(verdict_body())[0]
    said = verified(token(record), once=once)
    last = said.ends_ms - 1
    assert word(token(record, not_after=said.ends_ms), once=once, now_ms=last) == Token.USED
    assert once.first("other", NOW, last + 9, last)
    assert word(token(record, not_after=said.ends_ms + 1), once=once, now_ms=said.ends_ms) == Token.TIME
    assert once.first(said.verdict_digest, NOW, said.ends_ms + 9, said.ends_ms)


def test_memory_is_bounded_and_full_means_no():
    once = executor.Once(since_ms=0, kept_max=3)
    assert [once.first(str(n), NOW, NOW + n, NOW) for n in (3, 1, 2)] == [True] * 3
    assert not once.first("1", NOW, NOW + 1, NOW)
    with pytest.raises(Overloaded):
        once.first("4", NOW, NOW + 4, NOW)
    assert once.first("4", NOW, NOW + 4, NOW + 1)
    assert not once.first("2", NOW, NOW + 2, NOW + 1)


def test_of_many_who_ask_at_once_one_is_told_yes():
    once, told, ready = executor.Once(since_ms=0), [], threading.Barrier(8)

    def ask():
        ready.wait()
        told.extend(once.first(str(n), NOW, NOW + 1, NOW) for n in range(200))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert told.count(True) == 200


def test_what_was_approved_before_it_began_to_remember_is_refused_as_perhaps_run():
    """An executor that restarts does not know what its former self ran."""
    decided_ms = verified(token()).decided_ms
    assert word(token(), once=executor.Once(since_ms=decided_ms + 1)) == Token.USED
    assert verified(token(), once=executor.Once(since_ms=decided_ms))


def test_by_default_it_remembers_from_now_on(monkeypatch):
    monkeypatch.setattr("harness_stream.adapters.clock.SystemClock.now_ms", lambda _self: NOW + 60_000)
    assert word(token(), once=executor.Once(), now_ms=NOW) == Token.USED


# --- Who may sign ---


def test_credentials_that_no_executor_would_believe_make_no_seal():
    packed = base64url(certificate()).decode()
    key = base64url(seed(GATE, "e")).decode()
    right = (REALM.bound, REALM.root_public, GATE, key, packed)
    made = seal_of(*right)
    assert verified(token(by=made)).enforcer == GATE
    stranger = base64url(bytes(32)).decode()
    for at, wrong in [(0, OTHER.bound), (1, bytes(32)), (2, "gate-2"), (3, stranger), (3, "?"), (4, ""), (4, "A"), (4, "?")]:
        assert seal_of(*right[:at], wrong, *right[at + 1 :]) is None, at


def test_a_lane_and_a_name_cannot_be_told_apart_otherwise():
    assert certificate(name="ab", lane="c") != certificate(name="a", lane="bc")
