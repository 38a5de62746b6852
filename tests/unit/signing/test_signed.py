"""The signed pair: what it seals it takes, and whatever was changed on the way it refuses (V6)."""

from __future__ import annotations

import random
from hashlib import sha256

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedSigner, UnsignedVerifier
from harness_stream.adapters.signing.keys import text_of
from harness_stream.core.tables import PublicKey
from harness_stream.errors import CallerError
from harness_stream.ports import LogRecord, Sender
from harness_stream.wire.cloudevents import HEADER_BYTES_MAX, base64url, from_base64url
from tests.signed import SignedRealm

REALM = SignedRealm("acme", "topic-a.topic-b")
VERIFIER = REALM.verifier()
INTENTS, VERDICTS, LANE, T = "harness.intents", "harness.verdicts", "lane-1", 1_700_000_000_000
VALUE = orjson.dumps({"v": 1, "type": "intent", "by": "a", "epoch": 7, "text": "ä" * 40})
KINDS = ["intent", "outcome", "mandate", "approval"]
MUTATIONS = 2_500  # of each of the four forms


def sealed(kind="intent", by="a", value=VALUE, realm=REALM, lane=LANE, topic=INTENTS):
    headers = realm.inputs(by).seal_input(topic, lane, value, kind, by)
    return LogRecord(INTENTS, 3, 0, lane.encode(), value, T, headers)


def sender(kind="intent", keys=None, lane=LANE):
    return Sender(kind, lane, REALM.keys("a") if keys is None else keys)


def batch(size, partition=3, realm=REALM, worker=None):
    values = [orjson.dumps({"kind": "verdict", "epoch": 7, "n": n}) for n in range(size)]
    headers = (worker or realm.worker()).seal_batch(partition, [sha256(value).hexdigest() for value in values])
    pairs = enumerate(zip(values, headers, strict=True))
    return [LogRecord(VERDICTS, partition, n, None, value, T, own) for n, (value, own) in pairs]


def header(record, name):
    return dict(record.headers)[name]


def with_header(record, name, value):
    return record._replace(headers=[(n, value if n == name else v) for n, v in record.headers])


# --- What is right ---


@pytest.mark.parametrize("kind", KINDS)
def test_a_sealed_input_is_taken(kind):
    assert VERIFIER.input_authentic(sealed(kind), sender(kind))


@pytest.mark.parametrize("size", [1, 2, 3, 16, 255, 256])
def test_each_record_of_a_batch_is_taken_and_its_headers_fit(size):
    records = batch(size)
    assert all(VERIFIER.decision_authentic(record) for record in records)
    assert len({header(record, "hs-sig") for record in records}) == 1
    assert all(len(value) < HEADER_BYTES_MAX for record in records for _, value in record.headers)


def test_one_signature_is_checked_for_all_records_of_a_batch(monkeypatch):
    checked, verifier = [], REALM.verifier()
    monkeypatch.setattr("harness_stream.adapters.signing.verifier.signed_by", lambda *a: checked.append(a) or True)
    assert all(verifier.decision_authentic(record) for record in batch(64))
    assert len(checked) == 1


def test_a_reader_without_the_pdps_key_reads_decisions_and_says_that_it_judges_no_inputs():
    reader = REALM.verifier(judges=False)
    assert VERIFIER.judges_inputs
    assert not reader.judges_inputs
    assert all(reader.decision_authentic(record) for record in batch(3))


def test_nothing_is_signed_for_nothing_and_for_nobody_else():
    assert REALM.worker().seal_batch(0, []) == []
    signer = REALM.inputs("a")
    assert signer.speaks_for("a")
    assert not signer.speaks_for("b")
    with pytest.raises(CallerError, match="no keys of `b`"):
        signer.seal_input(INTENTS, LANE, VALUE, "intent", "b")


def test_a_signed_realm_is_no_dev_realm():
    assert not REALM.worker().dev


# --- Both pairs, each refusing the other's ---


def test_each_pair_refuses_what_the_other_writes():
    unsigned = UnsignedSigner()
    for record in (sealed(), *batch(2)):
        assert not UnsignedVerifier().input_authentic(record, sender())
        assert not UnsignedVerifier().decision_authentic(record)
        bare = record._replace(headers=unsigned.seal_batch(3, [""])[0])
        assert not VERIFIER.input_authentic(bare, sender())
        assert not VERIFIER.decision_authentic(bare)


@pytest.mark.parametrize("extra", [*UNSIGNED_HEADERS, ("hs-kid", b"k"), ("hs-sig", b"AA"), ("hs-cert", b"AA")])
def test_a_second_statement_beside_the_right_one_is_refused(extra):
    for record, taken in ((sealed(), lambda r: VERIFIER.input_authentic(r, sender())), (batch(1)[0], VERIFIER.decision_authentic)):
        assert taken(record)
        assert taken(record._replace(headers=[("traceparent", b"x"), *record.headers, ("x", b"")]))
        assert not taken(record._replace(headers=[*record.headers, extra]))
        assert not taken(record._replace(headers=[extra, *record.headers]))
        assert not taken(record._replace(headers=()))


# --- Senders ---


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_bound_cannot_be_another(kind):
    right = sealed(kind)
    other = "approval" if kind != "approval" else "mandate"
    for record, claimed in [
        (sealed(kind, realm=SignedRealm("acme2", REALM.incarnation)), sender(kind)),
        (sealed(kind, realm=SignedRealm("acme", "topic-a.topic-c")), sender(kind)),
        (sealed(kind, topic="other.intents"), sender(kind)),
        (sealed(kind, lane="lane-2"), sender(kind)),
        (right, sender(kind, lane="lane-2")),
        (right, sender(kind, keys=())),
        (right, sender(kind, keys=REALM.keys("b"))),
        (right._replace(value=None), sender(kind)),
        (right._replace(timestamp_ms=None), sender(kind)),
        (sealed("intent" if kind in {"mandate", "approval"} else other), sender(kind)),
    ]:
        assert not VERIFIER.input_authentic(record, claimed)


def test_a_field_cannot_move_into_the_next_one():
    record = sealed(lane="ab", value=b"c")
    assert VERIFIER.input_authentic(record, sender(lane="ab"))
    assert not VERIFIER.input_authentic(record._replace(value=b"bc"), sender(lane="a"))


@pytest.mark.parametrize("kind", ["intent", "mandate"])
def test_a_key_counts_by_append_time_both_ends_included(kind):
    record = sealed(kind)
    for not_before, not_after, counts in [(T, T, True), (T + 1, T + 2, False), (0, T - 1, False), (T - 1, T + 1, True)]:
        keys = REALM.keys("a", not_before=not_before, not_after=not_after)
        assert VERIFIER.input_authentic(record, sender(kind, keys)) is counts


def test_two_keys_count_while_they_are_rotated_and_the_record_says_which():
    old, new = REALM.keys("a", not_after=T), REALM.keys("new", not_before=T - 5)
    keys = (*old, *new)
    assert VERIFIER.input_authentic(sealed(), sender(keys=keys))
    newer = sealed(by="new")
    assert VERIFIER.input_authentic(newer, sender(keys=keys))
    assert not VERIFIER.input_authentic(sealed()._replace(timestamp_ms=T + 1), sender(keys=keys))
    swapped = with_header(sealed(), "hs-kid", header(newer, "hs-kid"))
    assert not VERIFIER.input_authentic(swapped, sender(keys=keys))


@pytest.mark.parametrize("public", [bytes(32), (1).to_bytes(32, "little"), b"\xff" * 32])
def test_a_row_with_a_useless_key_vouches_for_nobody(public):
    record = sealed()
    kid = header(record, "hs-kid").decode()
    assert not VERIFIER.input_authentic(record, sender(keys=(PublicKey(kid=kid, alg="x25519", public=text_of(public)),)))
    assert not VERIFIER.input_authentic(record, sender(keys=(PublicKey(kid=kid, alg="x25519", public="A" * 42 + "B"),)))
    mandate = sealed("mandate")
    kid = header(mandate, "hs-kid").decode()
    keys = (PublicKey(kid=kid, alg="ed25519", public=text_of(public)),)
    assert not VERIFIER.input_authentic(mandate, sender("mandate", keys))


# --- Writers ---


def test_a_batch_counts_in_its_partition_realm_and_incarnation_only():
    for record in [
        batch(4)[1]._replace(partition=4),
        batch(4, realm=SignedRealm("acme2", REALM.incarnation))[1],
        batch(4, realm=SignedRealm("acme", "topic-a.topic-c"))[1],
    ]:
        assert not VERIFIER.decision_authentic(record)


def test_parts_of_two_batches_do_not_fit_together():
    one, other = batch(8), batch(9)
    for name in ("hs-sig", "hs-proof"):
        for at in range(8):
            assert not VERIFIER.decision_authentic(with_header(one[at], name, header(other[at], name)))
    assert not VERIFIER.decision_authentic(one[2]._replace(headers=one[3].headers))


def test_a_key_that_the_root_did_not_certify_writes_nothing():
    stranger = SignedRealm("acme", REALM.incarnation)
    stranger.root = Ed25519PrivateKey.from_private_bytes(bytes(32))
    record = batch(1, worker=stranger.worker("w"))[0]
    assert not VERIFIER.decision_authentic(record)
    borrowed = with_header(record, "hs-cert", header(batch(1)[0], "hs-cert"))
    assert VERIFIER.decision_authentic(borrowed)  # the right root has certified this very key: it is the key that counts
    other = batch(1, worker=REALM.worker("w2"))[0]
    assert not VERIFIER.decision_authentic(with_header(other, "hs-cert", header(batch(1)[0], "hs-cert")))


@pytest.mark.parametrize(("epochs", "counts"), [((7, 7), True), ((1, 6), False), ((8, 9), False), ((1, 7), True)])
def test_a_certificate_counts_in_its_epochs(epochs, counts):
    worker = REALM.worker(epochs=epochs)
    assert worker.may_sign(7) is counts
    assert VERIFIER.decision_authentic(batch(2, worker=worker)[1]) is counts


@pytest.mark.parametrize("value", [b"", b"{}", b'{"epoch": "7"}', b'{"epoch": true}', b"no json", b'{"kind":"x","epoch":7.0}'])
def test_a_record_without_an_epoch_is_in_none(value):
    worker = REALM.worker(epochs=(1, 9))
    headers = worker.seal_batch(3, [sha256(value).hexdigest()])[0]
    assert not VERIFIER.decision_authentic(LogRecord(VERDICTS, 3, 0, None, value, T, headers))


# --- Mutations: seeded, a failing one is named by its number ---


def flipped(data, rng):
    at = rng.randrange(len(data) * 8)
    return data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :]


def mutated(record, rng):
    """One bit of the value, or of one header as it stands on the wire, or of what it decodes to; or a part cut off."""
    names = [name for name, _ in record.headers]
    what = rng.choice(["value", *names, *names])
    if what == "value":
        return record._replace(value=flipped(record.value, rng))
    text = header(record, what)
    how = rng.choice(["wire", "decoded", "cut", "longer", "gone"])
    if how == "gone":
        return record._replace(headers=[each for each in record.headers if each[0] != what])
    if how == "decoded" and what in {"hs-sig", "hs-proof", "hs-cert"}:
        return with_header(record, what, base64url(flipped(from_base64url(text.decode()), rng)))
    if how == "cut":
        return with_header(record, what, text[: rng.randrange(len(text))])
    if how == "longer":
        return with_header(record, what, text + rng.choice([b"A", b"AAAA", b"=", b" ", b"\n"]))
    return with_header(record, what, flipped(text, rng))


@pytest.mark.parametrize("kind", ["intent", "mandate"])
def test_no_mutation_of_an_input_is_taken(kind):
    right, rng = sealed(kind), random.Random(kind)
    for number in range(MUTATIONS):
        record = mutated(right, rng)
        assert record != right
        assert not VERIFIER.input_authentic(record, sender(kind)), number


@pytest.mark.parametrize("size", [1, 5, 16])
def test_no_mutation_of_a_decision_is_taken(size):
    records, rng = batch(size), random.Random(size)
    for number in range(MUTATIONS):
        right = rng.choice(records)
        record = mutated(right, rng)
        assert record != right
        assert not VERIFIER.decision_authentic(record), number


def test_no_text_a_bit_away_from_what_is_bound_is_taken():
    right, rng = sealed(), random.Random(1)
    record = batch(5)[2]
    for _ in range(300):
        lane = flipped(LANE.encode(), rng).decode("latin-1")
        assert not VERIFIER.input_authentic(right, sender(lane=lane))
        names = [flipped(name.encode(), rng).decode("latin-1") for name in REALM.bound]
        for realm in (SignedRealm(names[0], REALM.incarnation), SignedRealm(REALM.name, names[1])):
            assert not realm.verifier().input_authentic(right, sender())
            assert not realm.verifier().decision_authentic(record)
        assert not VERIFIER.decision_authentic(record._replace(partition=3 ^ 1 << rng.randrange(31)))


def test_random_headers_are_refused_and_never_raise():
    rng = random.Random(2)
    names = ["hs-alg", "hs-kid", "hs-sig", "hs-proof", "hs-cert"]
    right = [dict(sealed().headers), dict(batch(3)[1].headers)]
    for _ in range(MUTATIONS):
        headers = [(name, rng.choice([rng.randbytes(rng.choice([0, 3, 200])), *(d.get(name, b"") for d in right)])) for name in names]
        rng.shuffle(headers)
        record = LogRecord(VERDICTS, 3, 0, None, rng.choice([None, b"", b"{}"]), T, headers[: rng.randrange(6)])
        assert not VERIFIER.decision_authentic(record)
        assert not VERIFIER.input_authentic(record, sender(rng.choice(KINDS)))
