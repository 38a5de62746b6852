"""`docs/holds.md` is true: its commands parse, its numbers and exit codes are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import blocks, command_lines, understood

from harness_stream.cli import holds, holds_answer, holds_read
from harness_stream.core import limits
from harness_stream.core.intake import APPROVER
from harness_stream.core.provenance import NEVER_SEEN, WORDS
from harness_stream.errors import CallerError, Denied, HarnessError, Unavailable

PAGE = (Path(__file__).parents[2] / "docs/holds.md").read_text("utf-8")
LINES = [words for block in blocks(PAGE) if block.kind == "sh" for words in command_lines(block.text)]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_each_command_is_understood(words):
    assert understood(" ".join(f'"{word}"' if " " in word else word for word in words))


def test_all_four_are_taught():
    assert {words[2] for words in LINES} == {"list", "show", "approve", "deny"}


def test_exit_codes_are_the_codes():
    codes = {0, Denied.exit_code, holds.EXIT_HELD, holds.EXIT_TOO_LATE}
    codes |= {CallerError.exit_code, HarnessError.exit_code, Unavailable.exit_code}
    assert sorted(map(int, re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE))) == sorted(codes)


def test_numbers_are_the_codes():
    assert limits.HOLD_MS_DEFAULT == 15 * 60_000
    assert holds_read.TOLD_REACH_MS // 60_000 == 76
    assert holds_answer.ANSWER_MS_MAX == 15_000
    assert limits.HOLDS_OPEN_MAX == 64
    assert {"15 minutes", "76 minutes", "15 s", "64 open holds"} <= set(re.findall(r"\d+ (?:minutes|s|open holds)\b", PAGE))


def test_words_are_the_words():
    assert f"roles: [{APPROVER}]" in PAGE
    assert {"mandate", "prose", NEVER_SEEN} <= set(re.findall(r"`(\w+)`", PAGE)) & set(WORDS)
