"""`schemas/`: JSON Schemas of every event, row, record and rule file, and one AsyncAPI 3 document, all generated.

Rule of this file: nothing is described by hand that a model or the rule language already says.
`python -m harness_stream.wire.schema [DIR]` writes the files; a test fails if the checked-in ones differ.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from harness_stream.core.events import EVENTS
from harness_stream.core.records import RECORDS
from harness_stream.core.tables import TABLES
from harness_stream.wire.asyncapi import asyncapi_document
from harness_stream.wire.rules_schema import rules_schema

if TYPE_CHECKING:
    from pydantic import BaseModel

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI_FILE: Final = "asyncapi.yaml"
RULES_FILE: Final = "rules.schema.json"

# Written always though a model has a default: they say which model it is.
_NAMES_THE_MODEL: Final = ("v", "type", "kind")


def models() -> dict[str, type[BaseModel]]:
    """File stem → model: events by their type, rows as `table-…`, decision-log records as `record-…`."""
    return (
        dict(EVENTS)
        | {f"table-{name}": row for name, row in TABLES.items()}
        | {f"record-{kind}": record for kind, record in RECORDS.items()}
    )


def json_schema(stem: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of one model.

    Raises:
        KeyError: no such stem in `models()`.
    """
    schema = models()[stem].model_json_schema()
    named = [name for name in _NAMES_THE_MODEL if name in schema["properties"]]
    required = [name for name in schema["properties"] if name in {*named, *schema.get("required", ())}]
    head = {"$schema": DIALECT, "$id": f"urn:harness-stream:schema:{stem}"}
    return head | schema | {"required": required}


def files() -> dict[str, str]:
    """File name → content of everything in `schemas/`."""
    texts = {f"{stem}.json": _dumped(json_schema(stem)) for stem in models()} | {RULES_FILE: _dumped(rules_schema())}
    document = asyncapi_document(list(EVENTS), list(TABLES), list(RECORDS))
    texts[ASYNCAPI_FILE] = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return texts


def _dumped(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write(directory: Path) -> list[Path]:
    """Write all files; returns their paths. Other files there are left alone."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in files().items():
        path = directory / name
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "schemas"))
