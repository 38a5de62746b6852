"""Why a record does not count, in the fold's own terms (PROTOCOL §4)."""

import factories as make
import pytest

from harness_stream.core.audit.settled import SWEEP_MIN, Settled
from harness_stream.core.audit.void import Void, why_void
from harness_stream.core.fold import fold_header

HEADER = make.started()
ACK = make.linked({"kind": "ack", "t": 5}, HEADER)
VERDICT = make.linked({"kind": "verdict", "t": 5, "rules": {"digest": make.RULES[0], "revision": 1}}, HEADER)
DENIALS = {**VERDICT, "kind": "denials"}
CLAIM = {
    "kind": "claim",
    "incarnation": HEADER.incarnation,
    "epoch": HEADER.epoch,
    "writer": "c" * 32,
    "after": "crash",
}
N = HEADER.next_input


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({**ACK, "epoch": HEADER.epoch - 1}, Void.STALE_EPOCH),
        ({**CLAIM, "pending": False}, Void.STALE_EPOCH),
        ({**ACK, "writer": "c" * 32}, Void.FOREIGN_WRITER),
        ({**ACK, "prev": "0" * 64}, Void.WRONG_PREV),
        ({**ACK, "covers": [N + 1, N + 1]}, Void.WRONG_COVERS),
        ({**ACK, "covers": [N, N - 1]}, Void.WRONG_COVERS),
        ({**ACK, "covers": None}, Void.WRONG_COVERS),
        ({**VERDICT, "rules": {"digest": make.RULES[0], "revision": 9}}, Void.WRONG_RULES),
        ({**VERDICT, "rules": None}, Void.WRONG_RULES),
        ({**VERDICT, "covers": [N, "x"]}, Void.WRONG_COVERS),
        ({**DENIALS, "epoch": HEADER.epoch - 1}, Void.STALE_EPOCH),
        ({**DENIALS, "writer": "c" * 32}, Void.FOREIGN_WRITER),
        ({**DENIALS, "prev": "0" * 64}, Void.WRONG_PREV),
        ({**DENIALS, "covers": [N + 1, N + 4]}, Void.WRONG_COVERS),
        ({**DENIALS, "covers": [N, N - 1]}, Void.WRONG_COVERS),
        ({**DENIALS, "rules": {"digest": "0" * 64, "revision": 1}}, Void.WRONG_RULES),
        ({**DENIALS, "rules": None}, Void.WRONG_RULES),
        ({**DENIALS, "epoch": HEADER.epoch + 1}, Void.UNCLAIMED_EPOCH),
        ({**DENIALS, "incarnation": "another"}, Void.INCARNATION),
        ({**ACK, "epoch": HEADER.epoch + 1}, Void.UNCLAIMED_EPOCH),
        ({**ACK, "incarnation": "another"}, Void.INCARNATION),
        ({**ACK, "epoch": True}, Void.UNREADABLE),
        ({**CLAIM, "epoch": HEADER.epoch + 1, "writer": 7}, Void.UNREADABLE),
        ({**ACK, "kind": "gossip"}, Void.UNREADABLE),
        ({}, Void.UNREADABLE),
    ],
)
def test_every_void_record_has_its_reason(body, why):
    assert fold_header(HEADER, body, "2" * 64) is None
    assert why_void(HEADER, body) is why


def test_what_counts_would_count():
    assert fold_header(HEADER, ACK, "2" * 64) is not None
    assert fold_header(HEADER, VERDICT, "2" * 64) is not None
    assert fold_header(HEADER, DENIALS, "2" * 64) is not None


def verdict(n, t_ms, decision="approve", approval=None):
    return {"agent_id": "a", "intent_id": make.uuid7(t_ms, n), "decision": decision, "approval": approval}


def test_settled_intents_are_forgotten_once_their_ids_are_garbage():
    settled = Settled()
    for n in range(10 * SWEEP_MIN):
        t = 1_000_000 + n * 100
        assert settled.take(verdict(n, t), n, t) is None
    assert len(settled) <= SWEEP_MIN


def test_an_intent_that_was_held_long_is_still_known():
    settled = Settled()
    held, late = verdict(0, 1_000_000), 1_000_000 + 14 * 60_000
    assert settled.take({**held, "decision": "hold"}, 0, 1_000_000) is None
    assert settled.take({**held, "approval": {}}, 1, late) is None
    for n in range(2 * SWEEP_MIN):
        settled.take(verdict(n + 1, late + n), n, late + n)
    assert (
        settled.take({**held, "approval": {}}, 9, late + 60_000)
        == f"a intent {held['intent_id']} has its terminal verdict at 1"
    )
