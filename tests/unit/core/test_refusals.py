"""What the schema refuses is said in words, with an example that would have been taken."""

import json
import re

import pytest
from pydantic import TypeAdapter, ValidationError

from harness_stream.client.credentials import Credentials
from harness_stream.core import scalars
from harness_stream.core.model import EVENTS, TABLES
from harness_stream.core.records import RECORDS
from harness_stream.core.refusals import EXPECTED, refusals

MODELS = [*EVENTS.values(), *TABLES.values(), *RECORDS.values(), Credentials]


def patterns(node):
    """Every regular expression in a JSON Schema."""
    if isinstance(node, dict):
        yield from (value for key, value in node.items() if key == "pattern" and isinstance(value, str))
        yield from node.get("patternProperties", {})
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from patterns(inner)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_pattern_of_a_schema_has_words(model):
    assert set(patterns(TypeAdapter(model).json_schema())) <= set(EXPECTED)


@pytest.mark.parametrize("pattern", EXPECTED)
def test_every_example_is_what_its_pattern_takes(pattern):
    examples = re.findall(r"`([^`]+)`|\"([^\"]+)\"", EXPECTED[pattern].partition("e.g. ")[2])
    assert examples
    assert all(re.search(pattern, quoted or text) for quoted, text in examples)


def refused(model, **fields):
    """Path → message of each mistake."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate_json(json.dumps(fields))
    found = refusals(caught.value)
    assert len({refusal.loc for refusal in found}) == len(found)
    return {".".join(map(str, refusal.loc)): refusal.message for refusal in found}


def test_a_field_that_may_be_empty_or_a_text_is_one_mistake_and_not_two():
    assert refused(TABLES["identity"], agent_id="a", tenant="x y") == {"tenant": EXPECTED[scalars.ID_PATTERN]}


@pytest.mark.parametrize("measure", [1.5, -1, "1e5", "1.1234567", True, None])
def test_a_number_that_is_no_measure_is_told_how_to_write_one(measure):
    found = refused(EVENTS["intent"], measures={"amount": measure})
    assert found["measures.amount"] == EXPECTED[scalars.DECIMAL_PATTERN]


def test_a_wrong_name_of_an_entry_is_told_apart_from_a_wrong_value():
    found = refused(EVENTS["intent"], measures={"all rows": 1})
    assert found["measures.all rows"] == "the name " + EXPECTED[scalars.WORD_PATTERN]


def test_other_mistakes_keep_their_text():
    found = refused(TABLES["risk"], subject="tenant:a", score=2)
    assert found == {"score": "Input should be less than or equal to 1", "valid_until": "Field required"}
