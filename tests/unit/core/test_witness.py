"""Which checkpoints one history cannot have, and what is held against a log, record by record (V5)."""

import pytest

from harness_stream.core.audit import Kind, Record
from harness_stream.core.audit.witnessed import Witnessed
from harness_stream.core.fold import Header, Place
from harness_stream.core.witness import Contradiction, Held, contradiction

HEADER = Header("i1", 3, 2, "a" * 32, "b" * 64, 40, None, 1_000, 0)
PLACE = Place(HEADER, 100, "d" * 64)
GENESIS = Place.genesis("i1", 3)


def place(offset=100, digest="d" * 64, **over):
    return Place(HEADER._replace(**over), offset, digest)


def held(where=PLACE, append_ms=5_000):
    return Held(where, append_ms, 7)


class TestContradiction:
    @pytest.mark.parametrize(
        "after",
        [
            PLACE,
            place(101, "e" * 64),
            place(101, "e" * 64, next_input=41, head="c" * 64, t=2_000),
            place(101, "e" * 64, epoch=3, writer="f" * 32),
        ],
    )
    def test_what_goes_on_from_it_is_none(self, after):
        assert contradiction(PLACE, after) is None

    @pytest.mark.parametrize(
        ("after", "why"),
        [
            (place(digest="e" * 64), Contradiction.SAME_RECORD),
            (place(next_input=39), Contradiction.SAME_RECORD),
            (place(99, "e" * 64), Contradiction.LOWER),
            (place(99, "e" * 64, epoch=3), Contradiction.LOWER),
            (place(101, "e" * 64, epoch=1), Contradiction.EPOCH),
            (place(101, "e" * 64, writer="f" * 32), Contradiction.WRITER),
            (place(101, "e" * 64, next_input=39), Contradiction.INPUT),
        ],
    )
    def test_what_cannot_go_on_from_it_is_named(self, after, why):
        assert contradiction(PLACE, after) is why


DAY_MS = 86_400_000


class TestAgainstALog:
    def witnessed(self, *ones, start=GENESIS, low=0, now_ms=10 * DAY_MS):
        return Witnessed(ones, start, low, now_ms)

    def record(self, offset=100, digest="d" * 64, kind="verdict"):
        return Record(offset, {"kind": kind}, digest)

    def test_what_stands_there_as_it_is_held_is_no_finding(self):
        found = self.witnessed(held())
        assert found.first == 100
        assert found.take(self.record(99), place(99)) == []
        assert found.take(self.record(), PLACE) == []
        assert found.end(101) == []
        assert found.told() == {
            "held": 1,
            "compared": 1,
            "by_digest": 0,
            "no_longer_kept": 0,
            "newest_no_longer_kept_ms": None,
        }

    def test_another_record_is_told_with_both(self):
        found = self.witnessed(held())
        ((kind, partition, offset, text),) = found.take(self.record(digest="e" * 64), place(digest="e" * 64))
        assert (kind, partition, offset) == (Kind.WITNESS, 3, 100)
        assert text == (
            "held: offset 100, record dddddddddddd, epoch 2, next_input 40, head bbbbbbbbbbbb; "
            "there stands a verdict, record eeeeeeeeeeee"
        )

    def test_the_same_record_may_not_have_stopped_to_count(self):
        (found,) = self.witnessed(held()).take(self.record(), place(99))
        assert found.text.endswith("the same record stands there, and it does not count")

    @pytest.mark.parametrize("over", [{"head": "c" * 64}, {"next_input": 41}, {"epoch": 3}])
    def test_another_fold_of_the_same_record_is_told_by_what_differs(self, over):
        (found,) = self.witnessed(held()).take(self.record(), place(**over))
        ((name, value),) = over.items()
        assert found.text.endswith(f"; the fold has {name} {value}")

    def test_a_hole_is_another_history(self):
        found = self.witnessed(held())
        assert found.take(self.record(101), place(101)) == []
        ((kind, _, offset, text),) = found.end(102)
        assert (kind, offset) == (Kind.WITNESS, 100)
        assert text.endswith("no record stands there")

    def test_a_log_that_is_too_short_is_one_finding_with_all_that_it_lost(self):
        found = self.witnessed(held(), held(place(120)), held(place(110)))
        ((kind, _, offset, text),) = found.end(80)
        assert (kind, offset) == (Kind.TRUNCATED, 80)
        assert text.startswith("the log ends at 80; held: offset 100, ")
        assert text.endswith(", and 2 more up to offset 120")

    def test_what_retention_took_is_counted_and_not_called_wrong(self):
        found = self.witnessed(held(place(9), 1), held(place(10), 2), held(append_ms=3), low=11)
        assert found.first == 100
        told = found.told()
        assert (told["no_longer_kept"], told["newest_no_longer_kept_ms"]) == (2, 2)
        assert found.cut() == []

    def test_what_is_gone_within_a_day_was_deleted(self):
        for now_ms, findings in ((2 + DAY_MS, 0), (1 + DAY_MS, 1)):
            found = self.witnessed(held(place(9), 1), held(place(10), 2), held(append_ms=3), low=11, now_ms=now_ms)
            told = found.cut()
            assert len(told) == findings
        assert (told[0].kind, told[0].offset) == (Kind.TRUNCATED, 11)
        assert told[0].text.startswith("the log begins at 11, and of the 2 held before it the newest is less than a day")

    def test_before_the_folds_start_the_record_alone_is_compared(self):
        found = self.witnessed(held(), held(place(101, "e" * 64)), start=place(120, "0" * 64), low=90)
        assert found.take(self.record(), place(120)) == []
        (wrong,) = found.take(self.record(101), place(120))
        assert wrong.offset == 101
        assert (found.compared, found.by_digest) == (1, 1)

    def test_the_folds_start_itself_is_compared_whole(self):
        found = self.witnessed(held(), start=place(next_input=41))
        (wrong,) = found.take(self.record(), place(next_input=41))
        assert wrong.text.endswith("the fold has next_input 41")

    def test_other_log_topics_are_one_finding_each(self):
        others = [held(place(5, incarnation="i0")), held(place(90, incarnation="i0"))]
        found = self.witnessed(*others, held())
        ((kind, partition, offset, text),) = found.recreated()
        assert (kind, partition, offset) == (Kind.RECREATED, 3, 90)
        assert text.startswith("2 held of the log topics i0, the last one: offset 90")
        assert "now the topics are i1" in text
        assert found.first == 100

    def test_an_operators_resume_is_named_beside_what_it_gave_up(self):
        found = self.witnessed(held())
        resumed = place(60, "e" * 64, epoch=3)
        assert found.take(self.record(60, "e" * 64, "resume"), resumed) == []
        (wrong,) = found.end(80)
        assert wrong.text.endswith("; an operator resumed at 60 with epoch 3")
