"""A witness's line ⇄ a held checkpoint: one JSON object, so that any tool can read what is held.

Rule of this file: a line says all that the fold states, since what is left out could be changed unnoticed. Fields that
this version does not know are left to the one that wrote them.
"""

from __future__ import annotations

from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from harness_stream.core.fold import Place
from harness_stream.core.records import (  # noqa: TC001  pydantic reads the annotations of its models at run time
    Digest,
    EpochMs,
    Offset,
    RuleRef,
    WriterId,
)
from harness_stream.core.witness import Held


class Line(BaseModel):
    """One held checkpoint as it is written."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    v: Literal[1] = 1
    partition: int = Field(ge=0)
    verdict_offset: Offset
    record_digest: Digest
    epoch: int = Field(ge=1)
    writer: WriterId
    head: Digest
    next_input: Offset
    rules: RuleRef | None
    t: EpochMs
    crash_claims: int = Field(ge=0)
    incarnation: str
    append_ms: EpochMs
    at: Offset = Field(description="the checkpoint's offset in the heads topic")


def encode_line(held: Held) -> bytes:
    """One line, its end included."""
    line = Line.model_validate({**held.place.to_json(), "append_ms": held.append_ms, "at": held.at})
    return orjson.dumps(line.model_dump(), option=orjson.OPT_APPEND_NEWLINE)


def decode_line(line: bytes) -> Held:
    """What a line holds.

    Raises:
        ValueError: it is no such line; the message names the first field that is wrong.
    """
    said = Line.model_validate_json(line)
    try:
        return Held(Place.from_json(said.model_dump()), said.append_ms, said.at)
    except TypeError as error:  # beyond 2^53
        raise ValueError(str(error)) from None
