"""Headers: CloudEvents binary mode, trace context, signature. Hints that never stop a reader."""

from hypothesis import given
from hypothesis import strategies as st

from harness_stream.wire.cloudevents import (
    HEADER_BYTES_MAX,
    Signature,
    envelope,
    read_headers,
    rfc3339,
    signature_headers,
    source_of,
)
from harness_stream.wire.decisions import decision_headers

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def built(signature=Signature(), **changes):  # noqa: B008  it is frozen
    event = {"event_id": "1", "source": source_of("r", "a"), "event_type": "intent", "time_ms": 1_790_000_000_123}
    return envelope(**(event | changes)) + signature_headers(signature)


def test_an_unsigned_event_carries_the_binding_and_says_it_is_unsigned():
    assert dict(built()) == {
        "ce_id": b"1",
        "ce_source": b"/r/a",
        "ce_type": b"harness.intent",
        "ce_specversion": b"1.0",
        "ce_time": b"2026-09-21T14:13:20.123Z",
        "content-type": b"application/json",
        "hs-alg": b"none",
    }


@given(st.binary(max_size=200), st.binary(max_size=600))
def test_signatures_come_back_as_written(sig, proof):
    signature = Signature("ed25519", "k1", sig, proof)

    assert read_headers(built(signature=signature)).signature == signature


def test_a_trace_is_passed_through_only_if_it_is_one():
    assert read_headers(built(traceparent=TRACE)).traceparent == TRACE
    assert "traceparent" not in dict(built(traceparent="x"))
    assert read_headers([("traceparent", b"00-x")]).traceparent is None


def test_a_decision_has_the_trace_of_its_input_and_nothing_that_vouches_for_it():
    headers = decision_headers("/r/w", "verdict", "d", 1_790_000_000_123, TRACE)
    told = read_headers(headers)
    assert (told.id, told.source, told.type, told.traceparent) == ("d", "/r/w", "harness.verdict", TRACE)
    assert (told.time, told.signature) == ("2026-09-21T14:13:20.123Z", None)
    assert read_headers(decision_headers("/r/w", "verdict", "d", 0)).traceparent is None


def test_the_first_of_a_repeated_header_counts():
    assert read_headers([("ce_id", b"1"), ("ce_id", b"2")]).id == "1"


def test_a_signature_has_one_spelling():
    for respelled in (b"QQ==", b"QR", b"Q Q", b"Q", b"\xff"):
        read = read_headers([("hs-alg", b"ed25519"), ("hs-sig", respelled)])
        assert read.signature in (None, Signature("ed25519"))


def test_no_headers_are_no_signature():
    assert read_headers(None).signature is None
    assert read_headers(built()).signature == Signature()


@given(st.lists(st.tuples(st.sampled_from(["hs-alg", "hs-sig", "traceparent", "ce_id", "x"]), st.none() | st.binary())))
def test_reading_never_fails(headers):
    read_headers(headers)


def test_an_oversized_header_is_absent():
    assert read_headers([("ce_id", b"x" * (HEADER_BYTES_MAX + 1))]).id is None


def test_times_keep_their_milliseconds():
    assert [rfc3339(ms) for ms in (0, 1, 999)] == [f"1970-01-01T00:00:00.{ms:03d}Z" for ms in (0, 1, 999)]
