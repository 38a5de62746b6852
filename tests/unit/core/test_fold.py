"""Which records of the decision log count (PROTOCOL §4)."""

import hashlib

import factories as make
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness_stream.core.fold import ANSWERS, RULED, Header, Place, after_own, chained, fold_header, genesis, is_own

D1, D2 = "1" * 64, "2" * 64
ZOMBIE = "c" * 32


def ack(header: Header, **over) -> dict:
    return {**make.linked({"kind": "ack", "t": 5}, header), **over}


def switch(header: Header, revision: int = 1, **over) -> dict:
    body = make.linked({"kind": "switch", "rules": {"digest": D1, "revision": revision}}, header)
    return {**body, "covers": [header.next_input, header.next_input - 1], **over}


def verdict(header: Header, digest: str = make.RULES[0], revision: int = 1, **over) -> dict:
    body = {"kind": "verdict", "t": 5, "rules": {"digest": digest, "revision": revision}}
    return {**make.linked(body, header), **over}


def folded(header: Header, body: dict, digest: str = D2) -> Header:
    after = fold_header(header, body, digest)
    assert after is not None
    return after


def void(header: Header, body: dict) -> bool:
    return fold_header(header, body, D2) is None


@given(
    kind=st.sampled_from(sorted(ANSWERS)),
    further=st.integers(-2, 3),
    t=st.integers(0, 20),
    over=st.fixed_dictionaries({"t": st.integers(0, 20), "epoch": st.integers(0, 2), "crash_claims": st.integers(0, 3)}),
)
def test_an_owner_need_not_read_back_what_it_has_just_linked(kind: str, further: int, t: int, over: dict):
    header = make.started()._replace(**over)
    body = {**verdict(header, t=t), "kind": kind, "covers": [header.next_input, header.next_input + further]}
    assert after_own(header, header.next_input + further, t, D2) == fold_header(header, body, D2)


class TestGenesis:
    def test_it_is_named_by_incarnation_and_partition(self):
        header = genesis("inc", 7)
        assert header.head == hashlib.sha256(b"harness-genesisinc7").hexdigest()
        assert (header.epoch, header.next_input, header.rules) == (0, 0, None)

    def test_nothing_counts_before_a_claim(self):
        header = genesis("inc", 0)
        assert void(header, ack(header))

    def test_another_incarnation_is_another_realm(self):
        assert void(genesis("other", 0), make.claim())


class TestClaim:
    def test_it_sets_epoch_and_writer_and_chains_the_head(self):
        before = genesis("inc", 0)
        after = folded(before, make.claim(epoch=3))
        assert (after.epoch, after.writer) == (3, make.WRITER)
        assert after.head == chained(before.head, D2) != before.head
        assert after.next_input == before.next_input

    @pytest.mark.parametrize("epoch", [0, 1])
    def test_it_is_void_unless_the_epoch_rises(self, epoch: int):
        assert void(make.started(), make.claim(epoch=epoch))

    def test_it_needs_no_prev_so_it_cannot_be_starved(self):
        header = make.started()
        moved = folded(header, ack(header))
        assert folded(moved, make.claim(epoch=2, prev="nonsense")).epoch == 2

    def test_pending_crash_claims_in_a_row_are_counted(self):
        header = make.started()
        crash = {"after": "crash", "pending": True}
        header = folded(folded(header, make.claim(2, **crash)), make.claim(3, **crash))
        assert header.crash_claims == 2
        assert folded(header, make.claim(4, after="resync", pending=True)).crash_claims == 2
        assert folded(header, make.claim(4, after="crash")).crash_claims == 2
        assert folded(header, make.claim(4)).crash_claims == 0

    def test_progress_ends_the_count(self):
        header = make.started()._replace(crash_claims=2)
        assert folded(header, ack(header)).crash_claims == 0
        assert folded(header, switch(header, 2)).crash_claims == 2


class TestLinked:
    def test_an_effective_record_moves_head_and_next_input(self):
        header = make.started()
        after = folded(header, ack(header, covers=[0, 4]))
        assert (after.head, after.next_input) == (D2, 5)

    def test_a_zombies_records_are_void(self):
        header = make.started()
        taken = folded(header, make.claim(epoch=2, writer=ZOMBIE))
        assert void(taken, ack(header, prev=taken.head))

    @pytest.mark.parametrize(
        "wrong",
        [
            {"epoch": 2},
            {"epoch": True},
            {"epoch": 1.0},
            {"writer": ZOMBIE},
            {"prev": D1},
            {"covers": [1, 1]},
            {"covers": [0, -1]},
            {"covers": [False, 0]},
            {"covers": [0, 0.0]},
            {"covers": [0]},
            {"covers": None},
            {"incarnation": "other"},
            {"kind": "word"},
            {"kind": []},
        ],
    )
    def test_a_wrong_link_is_void(self, wrong: dict):
        header = make.started()
        assert fold_header(header, ack(header), D2)
        assert void(header, ack(header, **wrong))

    @pytest.mark.parametrize("kind", sorted(RULED))
    def test_what_denies_or_approves_must_name_the_rules_in_force(self, kind: str):
        header = make.started()
        assert fold_header(header, verdict(header, kind=kind), D2)
        assert void(header, verdict(header, kind=kind, digest=D2))
        assert void(header, verdict(header, kind=kind, revision=2))
        unruled = make.started(rules=None)
        assert void(unruled, verdict(unruled, kind=kind))

    @pytest.mark.parametrize("wrong", [{"prev": D1}, {"covers": [1, 3]}, {"covers": [0, -1]}, {"writer": ZOMBIE}])
    def test_a_run_of_denials_is_linked_like_one_answer(self, wrong: dict):
        header = make.started()
        run = {"kind": "denials", "covers": [0, 3]}
        after = folded(header, verdict(header, **run))
        assert (after.head, after.next_input, after.t) == (D2, 4, 5)
        assert void(header, verdict(header, **{**run, **wrong}))

    def test_chain_time_never_steps_back(self):
        header = make.started()._replace(t=9)
        assert folded(header, ack(header)).t == 9
        assert folded(header, ack(header, t=10)).t == 10


class TestSwitch:
    def test_it_covers_nothing_and_sets_the_rules(self):
        header = make.started(rules=None)
        after = folded(header, switch(header, 1))
        assert (after.rules, after.next_input) == ((D1, 1), header.next_input)

    def test_revisions_only_rise(self):
        header = make.started()
        assert void(header, switch(header, 1))
        assert folded(header, switch(header, 2)).rules == (D1, 2)

    @pytest.mark.parametrize(
        "wrong", [{"covers": [0, 0]}, {"rules": None}, {"rules": {"digest": D1, "revision": True}}]
    )
    def test_anything_else_is_void(self, wrong: dict):
        header = make.started(rules=None)
        assert void(header, switch(header, 1, **wrong))


def test_a_checkpoint_is_ignored():
    header = make.started()
    assert void(header, make.linked({"kind": "checkpoint"}, header))


class TestResume:
    BODY = make.claim(5, kind="resume", head=D1, next_input=40, rules={"digest": D2, "revision": 3}, t=8)

    def test_it_sets_the_state(self):
        assert folded(make.started(), self.BODY) == Header("inc", 0, 5, make.WRITER, D1, 40, (D2, 3), 8, 0)

    @pytest.mark.parametrize(
        "wrong", [{"epoch": 1}, {"head": "x" * 64}, {"head": "1"}, {"next_input": -1}, {"t": None}, {"writer": None}]
    )
    def test_anything_malformed_is_void(self, wrong: dict):
        assert void(make.started(), {**self.BODY, **wrong})

    def test_the_partition_can_be_claimed_after_it(self):
        assert folded(folded(make.started(), self.BODY), make.claim(6)).epoch == 6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)
FIELDS = ("incarnation", "epoch", "writer", "prev", "covers", "rules", "t", "after", "pending", "head", "next_input")


@given(
    st.sampled_from(["claim", "ack", "verdict", "denials", "switch", "skip", "reject", "resume", "checkpoint"]) | JSON,
    st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_it_never_raises_and_never_takes_back(kind, fields):
    header = make.started()
    for base in (ack(header), switch(header, 2), verdict(header), make.claim(9), TestResume.BODY):
        body = {**base, "kind": kind, **fields}
        after = fold_header(header, body, D2)
        is_own(header, body)
        if after is not None:
            assert after.epoch >= header.epoch
            assert fold_header(after, make.claim(after.epoch + 1), D2) is not None


class TestPlace:
    def test_a_record_is_folded_once(self):
        place = Place.genesis("inc", 0).after(3, make.claim(), D1)
        assert place is not None
        assert (place.offset, place.digest) == (3, D1)
        assert place.after(3, make.claim(2), D1) is None

    def test_it_survives_json(self):
        place = Place(make.started(), 12, D1)
        assert Place.from_json(place.to_json()) == place
        assert Place.from_json(Place.genesis("inc", 0).to_json()) == Place.genesis("inc", 0)
