"""`harness rules schema`: the JSON Schema by which editors complete rule files.

Rule of this file: it prints what `wire.rules_schema` says and knows nothing itself.
"""

from __future__ import annotations

import json as json_format
from typing import Annotated

import typer


def schema(
    *,
    json: Annotated[bool, typer.Option("--json", help="On one line; the schema is JSON anyway.")] = False,
) -> None:
    """Print the JSON Schema that editors complete rule files by.

    Example: harness rules schema > rules.schema.json

    Then begin a rule file with
    # yaml-language-server: $schema=rules.schema.json
    It knows keys, words and shapes; harness rules check knows the rest.
    """
    from harness_stream.wire.rules_schema import rules_schema  # noqa: PLC0415  keeps `--help` light

    typer.echo(json_format.dumps(rules_schema(), indent=None if json else 2, ensure_ascii=False))
