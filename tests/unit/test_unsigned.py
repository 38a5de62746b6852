"""The `--dev` signer and verifier: unsigned is a statement, and nothing else passes."""

from __future__ import annotations

import pytest

from harness_stream.adapters.signing import UnsignedSigner, UnsignedVerifier
from harness_stream.ports import LogRecord, Sender
from harness_stream.wire.cloudevents import envelope

NONE = ("hs-alg", b"none")


def authentic(headers):
    record = LogRecord("harness.intents", 0, 0, b"acme", b"{}", 1, headers)
    verifier = UnsignedVerifier()
    answers = {verifier.input_authentic(record, Sender("intent", "acme")), verifier.decision_authentic(record)}
    assert len(answers) == 1
    return answers.pop()


def test_what_the_unsigned_signer_seals_the_unsigned_verifier_takes():
    signer = UnsignedSigner()
    assert signer.dev
    sealed = [*signer.seal_batch(0, ["d1", "d2"]), signer.seal_input("harness.intents", "acme", b"{}", "intent", "a")]
    assert len(sealed) == 3
    assert all(authentic(headers) for headers in sealed)


def test_the_envelope_beside_it_does_not_matter():
    assert authentic([*envelope(event_id="i", source="/r/a", event_type="intent", time_ms=0), NONE])
    assert authentic([("traceparent", b"x"), NONE, ("x", b"")])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("hs-alg", b"ed25519"), ("hs-sig", b"AA")],
        [("hs-alg", b"NONE")],
        [("hs-alg", b"")],
        [NONE, ("hs-alg", b"ed25519")],
        [NONE, NONE],
        [NONE, ("hs-sig", b"AA")],
        [NONE, ("hs-kid", b"k")],
        [NONE, ("hs-proof", b"")],
        [NONE, ("hs-cert", b"AA")],
    ],
)
def test_whoever_does_not_say_unsigned_or_says_more_is_not_authentic(headers):
    assert not authentic(headers)
