"""`docs/signed.md` is true: its commands are understood, and the files it names are those that are made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness_stream.adapters.signing import keyring
from harness_stream.core.reasons import Garbage
from tests.pages import understood

PAGE = (Path(__file__).parents[3] / "docs/signed.md").read_text("utf-8")
BLOCK = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [re.sub(r"\s+(#.*|&.*)$", "", line) for block in BLOCK for line in block.splitlines()]
MENTIONED = sorted(set(re.findall(r"`(harness (?:keys|agents) [a-z]+ [^`]+)`", PAGE)))


@pytest.mark.parametrize("line", [*COMMANDS, *MENTIONED])
def test_a_command_is_understood(line):
    understood(line.removeprefix("HARNESS_KEYS=keys ").replace("--root FILE", "--root root.key"))


def test_from_no_keys_to_a_verified_verdict_are_at_most_four_commands():
    assert 1 <= len(COMMANDS) <= 4
    assert "intents send" in COMMANDS[-1]


def test_every_file_has_its_reader():
    named = set(re.findall(r"`([a-z]+\.(?:key|pub|crt))`", PAGE))
    assert named <= set(keyring.FILES)
    assert set(keyring.FILES) - named == {"worker.pub"}  # whoever certifies reads it where it lies
    assert f"`{Garbage.NOT_AUTHENTIC}`" in PAGE
