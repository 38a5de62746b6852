"""What an outcome says of a result: records of fingerprints by place, within limits, whatever was returned (PROVENANCE §1)."""

import json
from collections import deque
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from harness_stream.client.atoms import DEPTH_MAX
from harness_stream.client.fingerprints import Seal
from harness_stream.client.returned import LEAVES_MAX, RECORDS_BYTES_MAX, RESULT_CHARS_MAX, Record, returned
from harness_stream.core import limits
from harness_stream.core.model import ReturnedRecord


class OpenSeal(Seal):
    """Shows what would be sealed, so that an example can be read."""

    def __init__(self):
        super().__init__(bytes(32))

    def __call__(self, atom):
        return f"{atom.kind}:{atom.form}"


def told(result, make=None, about=None):
    """Per record: `place name value`, one line each."""
    found = returned(result, OpenSeal(), make, about)
    assert (found.overflow, found.truncated) == (False, False)
    return [[f"{g['place']} {g.get('name', '-')} {v}" for g in r["values"] for v in g["values"]] for r in found.records]


def flags(result, make=None):
    found = returned(result, Seal(bytes(32)), make)
    return found.overflow, found.truncated


def sealed(result):
    """As the schema takes it."""
    found = returned(result, Seal(bytes(32)))
    return [ReturnedRecord.model_validate(record) for record in found.records], found


MAIL = {
    "id_": "34",
    "sender": "bob@x.com",
    "recipients": ["ann@x.com", "eve@x.com"],
    "subject": "Pay GB29NWBK60161331926819",
    "body": "Hello Ann. Please see www.evil.com and tell me.\nBob",
    "read": False,
    "attachments": [{"file_id": 19, "filename": "a.pdf"}],
    "payee": {"id": 7, "iban": "GB29NWBK60161331926819"},
}


class TestHowAResultBecomesRecords:
    def test_an_object_is_a_record_and_objects_in_its_lists_are_their_own(self):
        assert told(MAIL) == [
            [
                "identifier id_ identifier:34",
                "field sender email:bob@x.com",
                "field recipients email:ann@x.com",
                "field recipients email:eve@x.com",
                "field subject phrase:pay gb29nwbk60161331926819",
                "free_text subject account:GB29NWBK60161331926819",
                "free_text body host:www.evil.com",
                "free_text body name:hello ann",
                "free_text body name:please",
                "free_text body name:bob",
                "field payee.id identifier:7",
                "field payee.iban account:GB29NWBK60161331926819",
            ],
            ["identifier file_id identifier:19", "field filename file:a.pdf"],
        ]

    def test_a_list_is_its_records_and_plain_values_are_fields_of_one(self):
        assert told([{"id": 1}, "general", {"id": 2}, "random"]) == [
            ["identifier id identifier:1"],
            ["identifier id identifier:2"],
            ["field - name:general", "field - name:random"],
        ]

    def test_an_object_of_objects_holds_a_record_under_each_key(self):
        assert told({"7": {"title": "Lunch"}, "8": {}}) == [
            ["identifier - identifier:7", "field title name:lunch"],
            ["identifier - identifier:8"],
        ]

    def test_text_is_free_text_and_a_plain_value_a_field(self):
        assert told("GB29NWBK60161331926819") == [["free_text - account:GB29NWBK60161331926819"]]
        assert told(98.70) == [["field - number:98.7"]]
        assert told(True) == told(None) == told([]) == told({}) == []

    def test_what_tool_protocols_wrap_text_in_is_free_text(self):
        assert told({"content": [{"type": "text", "text": "general"}, {"type": "text", "text": "a@x.com"}]}) == [
            ["free_text - email:a@x.com"]
        ]

    def test_text_that_holds_json_is_text_because_anybody_can_write_braces(self):
        assert told('{"payee": "GB29NWBK60161331926819"}') == [["free_text - account:GB29NWBK60161331926819"]]

    def test_keys_that_no_schema_gave_are_values_and_never_told_as_names(self):
        assert told({"ann@x.com": "bob@x.com", "owner": {"Bob": 5}}) == [
            [
                "field - email:ann@x.com",
                "free_text - email:bob@x.com",
                "field owner name:bob",
                "free_text owner number:5",
            ]
        ]

    def test_a_text_that_was_asked_for_by_name_is_that_objects(self):
        about = {"file_path": "bill.txt"}
        assert told("Pay a@x.com", about=about)[0][0] == "identifier file_path file:bill.txt"
        assert "bill" not in str(told(MAIL, about=about)), "it has an identifier of its own"
        assert "bill" not in str(told([{"a": 1}, {"a": 2}], about=about)), "which of them would it be?"

    def test_dataclasses_models_and_everyday_types_are_read(self):
        class Colour(Enum):
            RED = "red"

        @dataclass
        class Row:
            id: UUID
            day: date
            colour: Colour

        class Model(BaseModel):
            row: Row
            paid: Decimal
            at: datetime
            path: PurePosixPath
            tags: tuple[str, ...]

        row = Row(UUID(int=7), date(2026, 1, 2), Colour.RED)
        model = Model(
            row=row,
            paid=Decimal("1.50"),
            at=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
            path=PurePosixPath("/a/b.txt"),
            tags=("x", "y"),
        )
        assert told(model) == [
            [
                "field row.id identifier:00000000-0000-0000-0000-000000000007",
                "field row.day date:2026-01-02",
                "field row.colour name:red",
                "field paid number:1.5",
                "field at date:2026-01-02T03:04:00+00:00",
                "field at date:2026-01-02",
                "field path file:/a/b.txt",
                "field path file:b.txt",
                "field tags name:x",
                "field tags name:y",
            ]
        ]
        assert told(deque([{"id": 1}])) == told(({"id": 1},)) == [["identifier id identifier:1"]]

    def test_a_function_may_say_better_what_the_records_are(self):
        def rows(result):
            for title, text in result.items():
                yield Record(identifier=title, fields={"length": len(text)}, text=text)

        assert told({"Le Marais": "Mail a@x.com"}, rows) == [
            [
                "identifier - name:le marais",
                "field length number:12",
                "free_text - email:a@x.com",
                "free_text - name:mail",
            ]
        ]


class TestLimits:
    def test_more_values_than_an_outcome_may_hold(self):
        records, found = sealed([f"n{n}@x.com" for n in range(limits.OUTCOME_VALUES_MAX + 1)])
        assert (found.overflow, found.truncated) == (True, False)
        assert sum(len(v.values) for r in records for v in r.values) == limits.OUTCOME_VALUES_MAX
        assert flags([f"n{n}@x.com" for n in range(limits.OUTCOME_VALUES_MAX)]) == (False, False)

    def test_more_records_than_an_outcome_may_hold(self):
        assert flags([{"id": n} for n in range(limits.OUTCOME_RECORDS_MAX)]) == (False, False)
        assert flags([{"id": n} for n in range(limits.OUTCOME_RECORDS_MAX + 1)]) == (True, False)
        assert flags({"rows": [{"id": n} for n in range(limits.OUTCOME_RECORDS_MAX + 1)]}) == (True, False)

    def test_the_same_value_again_is_no_more_values(self):
        assert flags(["a@x.com"] * 2_000) == (False, False)

    @pytest.mark.parametrize(
        "result", [[{f"{'k' * 50}{n}": n for n in range(2_000)}], [{f"k{n}": n} for n in range(300)]]
    )
    def test_the_largest_records_fit_into_an_outcome(self, result):
        _, found = sealed(result)
        assert found.overflow
        assert len(json.dumps(found.records, separators=(",", ":"))) <= RECORDS_BYTES_MAX < limits.INTENT_BYTES_MAX

    def test_more_text_than_is_read(self):
        assert flags("x " * (RESULT_CHARS_MAX // 2)) == (False, False)
        assert flags("x " * (RESULT_CHARS_MAX // 2 + 1)) == (False, True)
        assert flags({"a": "x " * (RESULT_CHARS_MAX // 2), "b": "y"}) == (False, True)

    def test_more_members_than_are_read(self):
        assert flags([None] * (LEAVES_MAX - 10)) == (False, False)
        assert flags([None] * (LEAVES_MAX + 10)) == (False, True)

    def test_deeper_than_is_read(self):
        deep = {"a": "x"}
        for _ in range(DEPTH_MAX + 2):
            deep = {"a": deep, "b": "y"}
        assert flags(deep) == (False, True)

    def test_what_holds_itself_ends(self):
        knot: list = []
        knot.extend([knot] * 1_000)
        assert flags(knot) == (False, True)
        loop: dict = {"id": 1}
        loop["all"] = [loop] * 1_000
        assert flags(loop)[1]

    @pytest.mark.parametrize(
        "unreadable", [b"bytes", object(), iter([1]), {"a": b"x"}, [object], "QUJDabcdefghijklmnop" * 20]
    )
    def test_what_cannot_be_read_is_said_not_to_have_been(self, unreadable):
        assert flags(unreadable) == (False, True)

    @pytest.mark.parametrize(
        "number", [float("inf"), float("nan"), 10**5_000, Decimal("1e999999"), Decimal("sNaN")], ids=list("abcde")
    )
    def test_what_is_no_number_of_anything_is_passed_over(self, number):
        assert told({"n": number}) == []

    def test_a_generator_is_not_consumed(self):
        result = iter([1, 2])
        flags(result)
        assert next(result) == 1

    def test_a_function_or_object_that_fails_costs_the_records_and_nothing_else(self):
        class Broken(BaseModel):
            model_config = {"extra": "allow"}
            a: int = 1

            def __getattribute__(self, name):
                if name == "a":
                    raise RuntimeError("not today")
                return super().__getattribute__(name)

        assert flags(Broken()) == (False, True)
        assert flags({}, lambda _result: 1 / 0) == (False, True)
        assert flags({}, lambda _result: [{"no": "record"}]) == (False, True)

    def test_without_a_key_nothing_is_told_but_that_there_was_something(self):
        assert returned({"a": 1}, None).truncated
        assert not returned(None, None).truncated


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda x: st.lists(x) | st.dictionaries(st.text(), x),
    max_leaves=20,
)


@given(JSON)
def test_any_result_gives_records_that_the_schema_takes_and_the_same_ones_again(result):
    records, found = sealed(result)
    assert sealed(result) == (records, found)
    assert all(group.values for record in records for group in record.values)


@given(st.dictionaries(st.text(), st.text(), max_size=5))
def test_only_keys_that_look_like_a_schemas_are_told(result):
    told_names = {group.name for record in sealed(result)[0] for group in record.values} - {None}
    assert told_names <= {key for key in result if key.isascii() and (key[:1].islower() or key[:1] == "_")}
