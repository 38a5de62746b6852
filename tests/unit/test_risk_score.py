"""Risk scores, from decision-log records to the rows written."""

import json

import factories as make
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.adapters.signing import UNSIGNED_HEADERS, UnsignedVerifier
from harness_stream.core.fold import Place
from harness_stream.errors import ProtocolError
from harness_stream.ports import LogRecord
from harness_stream.wire.decisions import digest_of
from topologies.risk import score as scores
from topologies.risk.score import (
    FLOOR,
    REFRESH_MS,
    STEPS,
    Decay,
    PartitionRisk,
    Score,
    denial_of,
)

HALF_LIFE_MS = 60_000
DECAY = Decay(HALF_LIFE_MS, denials_full=10, ignored_rules=frozenset({"too-risky"}))
NOW = make.NOW
DENIAL = {"kind": "verdict", "decision": "deny", "agent_id": "agent-1", "t": NOW, "reasons": [{"code": "default"}]}


class Log:
    """A partition's decision log as one honest worker writes it, read by the topology."""

    def __init__(self, decay=DECAY):
        self.place = Place.genesis("inc", 0)
        self.risk = PartitionRisk(self.place, UnsignedVerifier(), decay)
        self.records = []
        self.append(make.claim())
        self.append(self.linked({"kind": "switch", "rules": {"digest": make.RULES[0], "revision": 1}}, empty=True))

    def linked(self, body, *, empty=False):
        body = make.linked(body, self.place.header)
        return body | {"covers": [body["covers"][0], body["covers"][0] - 1]} if empty else body

    def append(self, body):
        value = json.dumps(body).encode()
        offset = len(self.records)
        record = LogRecord("verdicts", 0, offset, None, value, NOW, UNSIGNED_HEADERS)
        self.records.append(record)
        self.place = self.place.after(offset, body, digest_of(value)) or self.place
        self.risk.take(record)

    def verdict(self, **over):
        rules = {"digest": make.RULES[0], "revision": 1}
        self.append(self.linked(DENIAL | {"rules": rules} | over))

    def denials(self, count, **over):
        for _ in range(count):
            self.verdict(**over)


def score_of(risk, now_ms=NOW, agent="agent-1"):
    rows = dict(risk.rows(now_ms))
    return rows[f"agent:{agent}"].score


# --- rising and falling ---


def test_each_denial_raises_the_score_up_to_one():
    log = Log()
    shown = []
    for _ in range(12):
        log.verdict()
        shown += [row.score for _, row in log.risk.rows(NOW)]
    assert shown == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def test_approvals_and_holds_raise_nothing():
    log = Log()
    log.verdict(decision="approve")
    log.verdict(decision="hold")
    assert log.risk.rows(NOW) == []


def test_the_score_halves_every_half_life():
    log = Log()
    log.denials(8)
    later = [NOW + n * HALF_LIFE_MS for n in range(4)]
    assert [score_of(log.risk, now) for now in later] == [0.8, 0.4, 0.2, 0.1]


def test_a_calm_agents_row_is_deleted_once_when_it_would_have_expired_anyway():
    log = Log()
    log.denials(8)
    ((key, row),) = log.risk.rows(NOW)
    assert log.risk.rows(row.valid_until) == [(key, None)]
    assert log.risk.rows(row.valid_until + 1) == []


def test_agents_do_not_share_a_score():
    log = Log()
    log.denials(3)
    log.denials(1, agent_id="agent-2")
    assert {key: row.score for key, row in log.risk.rows(NOW)} == {"agent:agent-1": 0.3, "agent:agent-2": 0.1}


@pytest.mark.parametrize(("count", "level"), [(1, "low"), (4, "medium"), (7, "medium"), (8, "high"), (10, "high")])
def test_the_level_is_a_word_for_the_score(count, level):
    log = Log()
    log.denials(count)
    ((_, row),) = log.risk.rows(NOW)
    assert row.level == level


# --- who is to blame ---


@pytest.mark.parametrize("code", sorted(scores.NOT_BLAMED))
def test_what_the_agent_cannot_help_does_not_count(code):
    log = Log()
    log.verdict(reasons=[{"code": str(code)}])
    assert log.risk.rows(NOW) == []


def test_a_denial_because_of_the_risk_itself_does_not_feed_it():
    log = Log()
    log.denials(9)
    log.denials(100, reasons=[{"code": "rule", "rule": "too-risky", "effect": "deny"}], t=NOW + HALF_LIFE_MS)
    assert score_of(log.risk, NOW + HALF_LIFE_MS) == 0.45


def test_a_denial_that_another_rule_shares_counts():
    log = Log()
    both = [{"code": "rule", "rule": rule, "effect": "deny"} for rule in ("too-risky", "runaway-loop")]
    log.verdict(reasons=both)
    ((_, row),) = log.risk.rows(NOW)
    assert row.reasons == ("denied by rule runaway-loop",)


def test_a_row_says_why_newest_last():
    log = Log()
    for rule in ("a", "b", "c", "d", "b"):
        log.verdict(reasons=[{"code": "rule", "rule": rule}])
    ((_, row),) = log.risk.rows(NOW)
    assert row.reasons == ("denied by rule c", "denied by rule d", "denied by rule b")
    assert len(row.reasons) == scores.REASONS_KEPT


@pytest.mark.parametrize(
    "broken",
    [{"agent_id": 7}, {"agent_id": "two words"}, {"t": "now"}, {"t": True}, {"reasons": None}, {"reasons": ["x"]}],
)
def test_what_cannot_be_a_denial_is_none(broken):
    assert denial_of(DENIAL, DECAY) is not None
    assert denial_of(DENIAL | broken, DECAY) is None


# --- only what counts ---


def test_a_void_record_changes_nothing():
    log = Log()
    log.denials(2)
    zombie = log.linked({"kind": "verdict", "decision": "deny", "agent_id": "agent-1", "t": NOW}) | {"epoch": 0}
    log.append(zombie | {"reasons": [{"code": "default"}], "rules": {"digest": make.RULES[0], "revision": 1}})
    assert score_of(log.risk) == 0.2


def test_a_record_read_twice_counts_once():
    log = Log()
    log.denials(3)
    for record in log.records:
        log.risk.take(record)
    assert score_of(log.risk) == 0.3


def test_a_checkpoint_ahead_of_the_fold_ends_it():
    log = Log()
    stale = PartitionRisk(log.place, UnsignedVerifier(), DECAY)
    log.denials(3)
    header = log.place.header
    checkpoint = {
        "kind": "checkpoint",
        "incarnation": "inc",
        "epoch": header.epoch,
        "writer": header.writer,
        "partition": 0,
        "verdict_offset": log.place.offset,
        "record_digest": log.place.digest,
        "head": header.head,
        "next_input": header.next_input,
        "rules": {"digest": make.RULES[0], "revision": 1},
        "t": NOW,
        "crash_claims": 0,
        "snapshot_cut": -1,
        "dev": True,
    }
    log.append(checkpoint)
    assert score_of(log.risk) == 0.3
    with pytest.raises(ProtocolError, match="stands at 4"):
        stale.take(log.records[-1])


# --- what is written when ---


def test_an_unchanged_row_is_written_again_only_after_a_while():
    log = Log(Decay(1_000 * HALF_LIFE_MS, 10))
    log.denials(1)
    assert len(log.risk.rows(NOW)) == 1
    assert log.risk.rows(NOW + REFRESH_MS - 1) == []
    assert len(log.risk.rows(NOW + REFRESH_MS)) == 1


times = st.lists(st.integers(0, 20 * HALF_LIFE_MS), min_size=1, max_size=60).map(sorted)


@given(times)
def test_a_rebuild_from_the_same_log_writes_the_same_row(offsets_ms):
    log = Log()
    for at in offsets_ms:
        log.verdict(t=NOW + at)
        log.risk.rows(NOW + at)
    again = PartitionRisk(Place.genesis("inc", 0), UnsignedVerifier(), DECAY)
    for record in log.records:
        again.take(record)
    now = NOW + offsets_ms[-1] + REFRESH_MS
    assert again.rows(now) == [(key, row) for key, row in log.risk.rows(now) if row is not None]


@given(times)
def test_a_rebuild_that_looks_back_far_enough_shows_the_same_to_half_a_step(offsets_ms):
    now = offsets_ms[-1]
    everything, late = Score(0.0, 0), Score(0.0, 0)
    for at in offsets_ms:
        everything = everything.denied(at, ("x",), DECAY)
        if at >= now - DECAY.history_ms:
            late = late.denied(at, ("x",), DECAY)
    assert 0 <= everything.at(now, DECAY) - late.at(now, DECAY) < 0.1 / STEPS


@given(st.floats(FLOOR, 1), st.integers(0, 10 * HALF_LIFE_MS))
def test_a_row_is_valid_exactly_until_its_agent_is_calm(value, later_ms):
    score = Score(value, NOW)
    calm = score.calm_at(DECAY)
    assert score.at(calm, DECAY) <= FLOOR + 1e-9
    assert score.at(NOW + later_ms, DECAY) >= FLOOR - 1e-9 or NOW + later_ms >= calm - 1
