"""Ten thousand changes of records, tokens and checkpoints, and pieces of one put into another: none is believed (V6).

Seeded; a failing one is named by its number. Inputs are in `test_signed`, with 5,000 more.
"""

from __future__ import annotations

import itertools
from random import Random

import orjson
import pytest

from harness_stream import token as executor
from harness_stream.adapters.signing.framing import TOKEN_TEXT_DOMAIN, framed, unframed
from harness_stream.client.head import place_of
from harness_stream.errors import TokenRefused
from harness_stream.runtime.history import any_checkpoint_in
from harness_stream.wire.cloudevents import base64url, from_base64url
from tests.signed import SignedRealm
from tests.tokens import ARGUMENTS, NOW, REALM, certificate, parts, records, seal, token, verdict_body

EACH = 4_000
AT_LEAST = {"tokens": 3_800, "records": 3_200, "checkpoints": 3_200, "spliced records": 250, "spliced tokens": 1_500, "proofs": 500}
"""What each test must have tried; a change that gives the same again is none."""
CHECKPOINT = {
    "kind": "checkpoint", "incarnation": REALM.incarnation, "epoch": 7, "writer": "a" * 32, "partition": 3,
    "verdict_offset": 5, "record_digest": "b" * 64, "head": "c" * 64, "next_input": 4, "t": NOW, "crash_claims": 0,
    "rules": {"digest": "d" * 64, "revision": 1}, "snapshot_cut": -1, "dev": False,
}
VERIFIER = REALM.verifier(judges=False)
FOREIGN = {
    "realm": SignedRealm("acme2", REALM.incarnation),
    "incarnation": SignedRealm("acme", "topic-a.topic-c"),
}


def flipped(data, rng):
    at = rng.randrange(len(data) * 8)
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def altered(data, rng):
    """A bit, a cut, an end more, two bytes changed for each other."""
    how = rng.choice(["flip", "flip", "flip", "cut", "more", "swap"])
    if how == "cut":
        return data[: rng.randrange(len(data))]
    if how == "more":
        return data + rng.randbytes(rng.choice([1, 4, 32]))
    one, other = sorted(rng.sample(range(len(data)), 2)) if len(data) > 1 else (0, 0)
    if how == "swap" and data[one] != data[other]:
        return data[:one] + data[other : other + 1] + data[one + 1 : other] + data[one : one + 1] + data[other + 1 :]
    return flipped(data, rng)


def believed(text):
    try:
        executor.verify(
            text,
            root=REALM.root_public, realm="acme", incarnation=REALM.incarnation, audience="payments",
            action="crm.refund", arguments=ARGUMENTS, once=None, now_ms=NOW,
        )
    except TokenRefused:
        return False
    return True


def taken(record):
    """By a reader, and by whoever would start from it."""
    place = place_of(record, REALM.incarnation, 3, VERIFIER)
    body = any_checkpoint_in(record, 3, VERIFIER)
    return VERIFIER.decision_authentic(record) or place is not None or body is not None


RIGHT = token(records(*(verdict_body(n) for n in range(5)))[2])
SIGNED = records(verdict_body(0), CHECKPOINT, verdict_body(2), verdict_body(3), verdict_body(4))


def test_the_right_ones_are_believed():
    assert believed(RIGHT)
    assert all(map(VERIFIER.decision_authentic, SIGNED))
    assert place_of(SIGNED[1], REALM.incarnation, 3, VERIFIER)


def test_no_change_of_a_token_is_believed():
    rng, raw, tried = Random("tokens"), from_base64url(RIGHT), 0
    inner = unframed(TOKEN_TEXT_DOMAIN, raw, 12)
    for number in range(EACH):
        how = rng.choice(["bytes", "part", "part", "part", "order", "text"])
        if how == "bytes":
            text = base64url(altered(raw, rng)).decode()
        elif how == "text":
            at = rng.randrange(len(RIGHT))
            text = RIGHT[:at] + rng.choice("Ab-_=. \n") + RIGHT[at + rng.choice([0, 1]) :]
        else:
            changed = list(inner)
            if how == "part":
                at = rng.randrange(12)
                changed[at] = altered(changed[at], rng)
            else:
                one, other = rng.sample(range(12), 2)
                changed[one], changed[other] = changed[other], changed[one]
            text = base64url(framed(TOKEN_TEXT_DOMAIN, changed)).decode()
        if text != RIGHT:
            assert not believed(text), number
            tried += 1
    assert tried >= AT_LEAST["tokens"]


@pytest.mark.parametrize(("what", "at"), [("records", 0), ("checkpoints", 1)])
def test_no_change_of_a_record_is_believed(what, at):
    rng, right, tried = Random(what), SIGNED[at], 0
    names = [name for name, _ in right.headers]
    for number in range(EACH):
        how = rng.choice(["value", "field", "header", "decoded", "gone"])
        record = right
        if how == "value":
            record = right._replace(value=altered(right.value, rng))
        elif how == "field":
            body = orjson.loads(right.value)
            field = rng.choice(list(body))
            body[field] = rng.choice([None, 0, 1, -1, "x", body[field], *body.values()])
            record = right._replace(value=orjson.dumps(body))
        elif how == "gone":
            record = right._replace(headers=[h for h in right.headers if h[0] != rng.choice(names)])
        else:
            name = rng.choice([n for n in names if n not in {"hs-alg", "hs-kid"}] if how == "decoded" else names)
            said = dict(right.headers)[name]
            new = base64url(altered(from_base64url(said.decode()), rng)) if how == "decoded" else altered(said, rng)
            record = right._replace(headers=[(n, new if n == name else v) for n, v in right.headers])
        if record != right:
            assert not taken(record), number
            tried += 1
    assert tried >= AT_LEAST[what]


def worlds():
    """One batch each, as another batch, partition, epochs, worker, realm or incarnation makes it."""
    bodies = [verdict_body(n) for n in range(20, 24)]
    yield REALM, records(*bodies)
    yield REALM, records(*bodies, partition=4)
    yield REALM, records(*bodies, worker=REALM.worker("w", (8, 9)))
    yield REALM, records(*bodies, worker=REALM.worker("w2"))
    for realm in FOREIGN.values():
        yield realm, records(*(verdict_body(n, realm) for n in range(20, 24)), realm=realm)


def test_no_piece_of_another_realm_partition_epoch_or_batch_fits_into_a_record():
    names, tried = [name for name, _ in SIGNED[0].headers if name != "hs-alg"], 0
    subsets = [chosen for count in range(1, len(names) + 1) for chosen in itertools.combinations(names, count)]
    for _, others in worlds():
        for right, other, chosen in itertools.product(SIGNED, others, subsets):
            spliced = [(n, dict(other.headers)[n] if n in chosen else v) for n, v in right.headers]
            if spliced != list(right.headers):
                assert not taken(right._replace(headers=spliced)), chosen
                tried += 1
    assert tried >= AT_LEAST["spliced records"]


def test_no_piece_of_another_token_fits_into_one():
    right, tried = parts(RIGHT), 0
    others = [token(own[0], by=seal(realm)) for realm, own in worlds()]
    others += [token(records(verdict_body())[0], audience="other"), token(not_after=NOW + 4_000), token(by=seal(name="gate-2"))]
    others += [parts(token())._replace(enforcer=certificate(lane="lane-2")).text(), token(by=seal(lane="lane-2"))]
    for other in map(parts, others):
        for count in (1, 2, 3):
            for chosen in itertools.combinations(right._fields, count):
                spliced = right._replace(**{name: getattr(other, name) for name in chosen})
                if spliced not in {right, other}:
                    assert not believed(spliced.text()), chosen
                    tried += 1
    assert tried >= AT_LEAST["spliced tokens"]


def test_proofs_that_are_cut_or_longer_lead_nowhere():
    tried = 0
    for record in records(*(verdict_body(n) for n in range(16))):
        proof = from_base64url(dict(record.headers)["hs-proof"].decode())
        for new in (*(proof[:end] for end in range(0, len(proof), 4)), proof + proof[-32:], proof[:8] + proof[40:]):
            headers = [(n, base64url(new) if n == "hs-proof" else v) for n, v in record.headers]
            assert not VERIFIER.decision_authentic(record._replace(headers=headers))
            tried += 1
    assert tried >= AT_LEAST["proofs"]


def test_that_is_ten_thousand_and_more():
    assert sum(AT_LEAST.values()) >= 10_000
