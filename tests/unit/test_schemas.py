"""What others build on: the checked-in schemas, the AsyncAPI document, and the golden bytes they describe."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from harness_stream.core.model import EVENTS, TABLES
from harness_stream.core.records import RECORDS
from harness_stream.wire import schema
from harness_stream.wire.codec import decode_input, decode_row, encode

TESTS = Path(__file__).parent.parent
SCHEMAS = TESTS.parent / "schemas"
GOLDEN = sorted((TESTS / "golden").glob("*.json"))
FILES = schema.files()


def decode_golden(path):
    stem = path.name.split(".")[0]
    if stem.startswith("table-"):
        return decode_row(stem.removeprefix("table-"), path.read_bytes())
    if stem.startswith("record-"):
        return RECORDS[stem.removeprefix("record-")].model_validate_json(path.read_bytes())
    return decode_input(path.read_bytes())


@pytest.mark.parametrize("name", FILES)
def test_a_checked_in_schema_is_what_the_models_say(name):
    assert (SCHEMAS / name).read_text(encoding="utf-8") == FILES[name], "run python -m harness_stream.wire.schema"


def test_no_schema_outlives_its_model():
    assert {path.name for path in SCHEMAS.iterdir()} == set(FILES)


def test_writing_gives_the_same_files_anywhere(tmp_path):
    schema.write(tmp_path / "new")

    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "new").iterdir()} == FILES


@pytest.mark.parametrize("stem", schema.models())
def test_every_schema_is_valid_and_demands_the_words_that_name_its_model(stem):
    described = schema.json_schema(stem)

    jsonschema.Draft202012Validator.check_schema(described)
    assert {"v", "type", "kind"} & set(described["properties"]) <= set(described["required"])
    assert described["additionalProperties"] is False


def test_the_asyncapi_document_is_valid_asyncapi_3():
    official = json.loads((TESTS / "data" / "asyncapi-3.0.0.schema.json").read_text(encoding="utf-8"))
    document = yaml.safe_load(FILES[schema.ASYNCAPI_FILE])

    jsonschema.Draft7Validator(official).validate(document)


def test_every_reference_of_the_asyncapi_document_leads_somewhere():
    document = yaml.safe_load(FILES[schema.ASYNCAPI_FILE])

    for reference in references(document):
        if reference.startswith("./"):
            assert reference.removeprefix("./") in FILES
        else:
            resolve(document, reference)


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for inner in node.values():
            yield from references(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from references(inner)


def resolve(document, reference):
    for step in reference.removeprefix("#/").split("/"):
        document = document[step]
    return document


def test_every_topic_of_the_protocol_is_a_channel():
    channels = yaml.safe_load(FILES[schema.ASYNCAPI_FILE])["channels"]

    addresses = {channel["address"] for channel in channels.values()}
    logs = {"harness.intents", "harness.verdicts", "harness.heads", "harness.chains"}
    tables = {f"harness.{table}" for table in TABLES}
    assert addresses == logs | tables | {"harness.rules", "harness.deadletter"}


def test_each_role_sends_only_what_is_its_own():
    operations = yaml.safe_load(FILES[schema.ASYNCAPI_FILE])["operations"]

    def sent(name):
        return {message["$ref"].rpartition("/")[2] for message in operations[name]["messages"]}

    assert sent("enforcer_send_intents") == {"intent", "outcome"}
    assert sent("orchestrator_send_intents") == {"mandate"}
    assert sent("approver_send_intents") == {"approval"}
    assert sent("operator_send_verdicts") == {"record-resume"}
    assert "record-resume" not in sent("worker_send_verdicts")


def test_there_is_a_small_and_a_full_golden_of_every_event_and_row():
    names = {path.name for path in GOLDEN}

    assert names >= {f"{stem}.{size}.json" for stem in EVENTS for size in ("small", "full")}
    assert names >= {f"table-{table}.{size}.json" for table in TABLES for size in ("small", "full")}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_golden_bytes_are_read_and_written_unchanged(path):
    assert encode(decode_golden(path)) == path.read_bytes()


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.name)
def test_golden_bytes_fit_the_published_schema(path):
    stem = path.name.split(".")[0]

    jsonschema.Draft202012Validator(schema.json_schema(stem)).validate(json.loads(path.read_bytes()))


@pytest.mark.parametrize("path", [p for p in GOLDEN if ".full." in p.name], ids=lambda path: path.name)
def test_a_full_golden_says_every_field(path):
    stem = path.name.split(".")[0]
    missing = set(schema.models()[stem].model_fields) - set(json.loads(path.read_bytes()))

    assert missing <= {"close"}, "a mandate either declares or closes"
