"""Records that stay within their bytes by construction: the largest one that a schema takes (PROTOCOL §3)."""

import factories as make

from harness_stream.core import limits
from harness_stream.wire.decisions import encode_body

NOW = make.NOW
ORCHESTRATOR = "😀" * (limits.IDENTIFIER_CHARS_MAX - 1) + "o"
CHAIN = "😀" * limits.IDENTIFIER_CHARS_MAX


def fingerprints(count):
    return tuple(f"{n:0{limits.FINGERPRINT_DIGITS}x}" for n in range(count))


def story():
    return make.Story(tables=make.tables(*make.people(), make.identity_row(ORCHESTRATOR, roles=["orchestrator"])))


def largest_mandate():
    word = "w" * limits.WORD_CHARS_MAX
    objects = (f"{n:0{limits.WORD_CHARS_MAX}}" for n in range(limits.ACTION_CLASSES_MAX))
    classes = tuple({"operation": word, "object": name} for name in objects)
    return make.mandate(
        by=ORCHESTRATOR,
        chain_id=CHAIN,
        goal_digest="f" * limits.DIGEST_DIGITS,
        action_classes=classes,
        values=fingerprints(limits.MANDATE_VALUES_MAX),
        phrases=fingerprints(limits.MANDATE_VALUES_MAX),
        delegates_to=fingerprints(limits.MANDATE_RECORDS_MAX),
    )


def test_the_ack_of_the_largest_mandate():
    body = story().take(largest_mandate())
    assert body["status"] == "accepted"
    assert 50_000 < len(encode_body(body)) <= limits.ACK_BYTES_MAX


def test_the_ack_of_the_largest_outcome():
    """Its event was inside a verdict, hence below VERDICT_BYTES_MAX."""
    told = story()
    told.take(make.intent())
    groups = ({"kind": "name", "place": "field", "values": fingerprints(limits.OUTCOME_VALUES_MAX)},)
    outcome = make.outcome(verdict_digest=told.digests[-1], records=({"values": groups},), measures={"rows": 3})
    body = told.take(outcome)
    assert (body["status"], len(body["change"]["values"])) == ("accepted", limits.OUTCOME_VALUES_MAX)
    without_event = {**body, "change": {**body["change"], "event": None}}
    assert len(encode_body(without_event)) + limits.VERDICT_BYTES_MAX <= limits.ACK_BYTES_MAX
